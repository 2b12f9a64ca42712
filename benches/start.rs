//! How long the edge takes from exec to ready, and what it has in memory then: `cargo bench --bench start`, for another build
//! of it `SANEDGE_PROGRAM=… cargo bench --bench start`.
//!
//! Ready is the moment when systemd is told so (`READY=1`); the time is the median of many starts with 16 hosts, each with a
//! certificate of its own, and with as many as a bundle may have. Memory is the resident set with one site; its bound is for a static program, for a dynamic one has the
//! C library's pages besides. Ends with 1 above a bound.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

#[allow(dead_code, unreachable_pub)] // the tests of `it` use all of it
#[path = "../tests/it/support/mod.rs"]
mod support;

use std::os::unix::net::UnixDatagram;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use support::edge::{Desk, Edge, sanedge};

/// Nobody listens there.
const UPSTREAM: &str = "127.0.0.1:9";
const HOSTS: usize = 16;
/// The most that a bundle may have.
const HOSTS_MOST: usize = 256;
const SITES_MOST: usize = 64;
const STARTS: usize = 41;
const READY_MS_MAX: f64 = 10.0;
const RSS_KIB_MAX: u64 = 4 * 1024;

fn main() -> ExitCode {
    // `cargo test --benches` passes nothing of cargo bench's: then there is nothing to measure.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("cargo bench --bench start");
        return ExitCode::SUCCESS;
    }
    let rss =
        Edge::certified_for(&["recre.store"]).site(&["recre.store"], UPSTREAM).start().memory_kib("Rss");
    let is_static = std::env::var_os("SANEDGE_PROGRAM").is_some();
    println!("one site: {rss} KiB resident when ready (a static program: at most {RSS_KIB_MAX})");
    let median = starts(HOSTS);
    println!("{HOSTS} hosts may take {READY_MS_MAX} ms");
    starts(HOSTS_MOST);
    if (rss <= RSS_KIB_MAX || !is_static) && median <= READY_MS_MAX {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Prints how long starts take; the median, in milliseconds.
fn starts(hosts: usize) -> f64 {
    let desk = with_hosts(hosts);
    let mut times: Vec<f64> = (0..STARTS).map(|_| ready_after(&desk).as_secs_f64() * 1e3).collect();
    times.sort_unstable_by(f64::total_cmp);
    let (median, least, most) = (times[STARTS / 2], times[0], times[STARTS - 1]);
    println!(
        "{hosts} hosts: ready {median:.1} ms after exec, median of {STARTS}; {least:.1} to {most:.1} ms"
    );
    median
}

fn with_hosts(count: usize) -> Desk {
    let hosts: Vec<String> = (0..count).map(|n| format!("host{n}.recre.store")).collect();
    let mut edge = Edge::certified_for(&[&hosts[0]]);
    for host in &hosts[1..] {
        edge = edge.certificate(&[host]);
    }
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let sites = hosts.chunks(count.div_ceil(SITES_MOST));
    let edge = sites.fold(edge, |edge, hosts| edge.site(hosts, UPSTREAM));
    let desk = edge.write();
    desk.bundled();
    desk
}

fn ready_after(desk: &Desk) -> Duration {
    let address = desk.path("notify");
    let _ = std::fs::remove_file(&address);
    let told = UnixDatagram::bind(&address).unwrap();
    let mut command = sanedge();
    command.arg("serve").arg(desk.bundle_file()).env("NOTIFY_SOCKET", &address);
    command.env_remove("RUNTIME_DIRECTORY").stdout(Stdio::null()).stderr(Stdio::null());
    let begun = Instant::now();
    let mut child = command.spawn().unwrap();
    told.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut message = [0; 1024];
    loop {
        let count = told.recv(&mut message).expect("READY=1");
        if message[..count].starts_with(b"READY=1") {
            break;
        }
    }
    let time = begun.elapsed();
    child.kill().unwrap();
    child.wait().unwrap();
    time
}
