//! What a run costs: time, and the largest resident set.

use std::process::Stdio;
use std::time::{Duration, Instant};

use super::super::acme::Desk;
use super::super::support::edge::sanedge;
use super::super::support::pebble::Pebble;
use super::{needs, row};

/// Of a bundle.
const SITES_MAX: usize = 64;
/// The unit's MemoryMax=.
const KIB_MAX: u64 = 128 * 1024;

#[test]
#[ignore = "tests/acme/run figures"]
fn time_and_memory_of_a_run() {
    needs(&[("pebble", "-help")]);
    row(&format!(
        "{:>5} {:>14} {:>14} {:>12} {:>16}",
        "hosts", "obtained in s", "a host in ms", "peak KiB", "nothing due in s"
    ));
    for count in [1, 16, 256] {
        let names: Vec<String> = (0..count).map(|at| format!("h{at}.localhost")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let desk = Desk::with(&names[..1], Pebble::start);
        let toml = std::fs::read_to_string(desk.path("x.toml")).unwrap();
        let (head, _) = toml.split_once("[[site]]").unwrap();
        let sites = names.chunks(names.len().div_ceil(SITES_MAX));
        let site = |hosts| format!("[[site]]\nhosts = {hosts:?}\nupstream = [\"127.0.0.1:1\"]\n");
        std::fs::write(desk.path("x.toml"), head.to_owned() + &sites.map(site).collect::<String>()).unwrap();
        desk.bundled();
        let (seconds, peak) = measured(&desk);
        assert!(names.iter().all(|name| desk.serves(name)));
        let (idle, _) = measured(&desk);
        let each = seconds * 1e3 / f64::from(count);
        row(&format!("{count:>5} {seconds:>14.1} {each:>14.0} {peak:>12} {idle:>16.2}"));
        assert!(peak < KIB_MAX, "{peak}");
    }
}

/// Seconds, and the peak of its memory, which is looked at until it has ended.
fn measured(desk: &Desk) -> (f64, u64) {
    let began = Instant::now();
    let mut command = sanedge();
    command.arg("renew").arg(desk.path("x.acme")).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut peak = 0;
    let status = loop {
        peak = peak.max(high_water(child.id()).unwrap_or_default());
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    assert!(status.success());
    (began.elapsed().as_secs_f64(), peak)
}

/// `VmHWM`: the most that it has had resident, in KiB.
fn high_water(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
}
