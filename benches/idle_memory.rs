//! What an idle WSS session costs the edge: `cargo bench --bench idle_memory`, for another build of it
//! `SANEDGE_PROGRAM=… cargo bench --bench idle_memory`.
//!
//! One worker, a plain WebSocket echo behind and clients in front, each in a process of its own. Printed is the slope of
//! the edge's PSS (`/proc/<pid>/smaps_rollup`) between few and many sessions, so that what the process costs anyway does
//! not count: for sessions that echoed one message and then rest, and for the same when 1 MiB has passed each of them both
//! ways. Beside it what the kernel holds for TCP (`/proc/net/sockstat`): of the whole machine, so also the clients' and
//! the echo's own sockets. Ends with 1 above the bound.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

#[allow(dead_code, unreachable_pub)]
#[path = "peers/again.rs"]
mod again;
#[allow(dead_code, unreachable_pub)] // the tests of `it` use all of it
#[path = "../tests/it/support/mod.rs"]
mod support;
#[allow(dead_code, unreachable_pub)]
#[path = "peers/upstream.rs"]
mod upstream;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use again::{Helper, alone};
use futures_util::future::join_all;
use rustls_pki_types::ServerName;
use support::edge::{Edge, client_config};
use support::frames::{BINARY, client_frame, server_frame};
use support::raw::upgrade;
use support::upstream::SWITCHING;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const HOST: &str = "socket.recre.store";
const FEW: u64 = 500;
const MANY: u64 = 5_000;
/// Above this it fails, in KiB of PSS per session.
const SESSION_KIB_MAX: f64 = 2.0;
const SMALL_BYTES: usize = 64;
const LARGE_BYTES: usize = 1 << 20;
/// Sessions that the clients open, or send their large message on, at once.
const TOGETHER: usize = 8;

type Session = TlsStream<TcpStream>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["upstream"] => alone(upstream::run(1)),
        ["clients", address, ca] => alone(clients(address.parse().unwrap(), ca.to_owned())),
        // `cargo test --benches` passes nothing of cargo bench's: then there is nothing to measure.
        _ if arguments.iter().any(|argument| argument == "--bench") => return measure(),
        _ => println!("cargo bench --bench idle_memory"),
    }
    ExitCode::SUCCESS
}

/// KiB: of the edge's process, and of all TCP sockets of this machine.
#[derive(Clone, Copy)]
struct Reading {
    process: f64,
    kernel: f64,
}

fn measure() -> ExitCode {
    let mut upstream = Helper::start(&["upstream"]);
    let edge = Edge::certified_for(&[HOST])
        .site(&[HOST], upstream.line())
        .limits(&format!("workers = 1\nsessions_max = {}", MANY + 100))
        .start();
    let ca = edge.desk().ca_file().display().to_string();
    let mut clients = Helper::start(&["clients", &edge.https.to_string(), &ca]);
    let mut after = |work: String| {
        clients.tell(&work);
        assert_eq!(clients.line(), work);
        Reading { process: edge.memory_kib("Pss") as f64, kernel: tcp_kib() }
    };
    after(format!("open {FEW}"));
    let few = after(format!("pass {FEW}"));
    let echoed = after(format!("open {MANY}"));
    let passed = after(format!("pass {MANY}"));
    let slope = |before: f64, after: f64| (after - before) / (MANY - FEW) as f64;
    println!("PSS of an idle WSS session, the slope between {FEW} and {MANY} of them:");
    let mut most = f64::MIN;
    for (what, many) in [("one echo", echoed), ("1 MiB each way", passed)] {
        let (process, kernel) = (slope(few.process, many.process), slope(few.kernel, many.kernel));
        println!("  after {what:<15} {process:5.2} KiB (kernel, all four sockets: {kernel:.2} KiB)");
        most = most.max(process);
    }
    println!("PSS in all: {:.0} KiB with {FEW}, {:.0} KiB with {MANY}", few.process, passed.process);
    drop(clients);
    edge.stop();
    if most <= SESSION_KIB_MAX {
        return ExitCode::SUCCESS;
    }
    println!("more than {SESSION_KIB_MAX} KiB");
    ExitCode::FAILURE
}

/// `mem` of the line `TCP:` counts pages.
fn tcp_kib() -> f64 {
    let sockstat = std::fs::read_to_string("/proc/net/sockstat").unwrap();
    let line = sockstat.lines().find(|line| line.starts_with("TCP:")).unwrap();
    let pages: f64 = line.split("mem ").nth(1).unwrap().trim().parse().unwrap();
    pages * rustix::param::page_size() as f64 / 1024.0
}

/// Says each line of stdin again when it is done: `open N` opens sessions up to that number, and each echoes a small
/// message; `pass N` has the sessions from the last `pass` on up to that number echo a large one.
async fn clients(address: SocketAddr, ca: String) {
    let connector = TlsConnector::from(Arc::new(client_config(&std::fs::read_to_string(ca).unwrap())));
    let (mut sessions, mut passed) = (Vec::<Session>::new(), 0);
    for line in std::io::stdin().lines().map(Result::unwrap) {
        let (work, wanted) = line.split_once(' ').unwrap();
        let wanted: usize = wanted.parse().unwrap();
        if work == "open" {
            while sessions.len() < wanted {
                let count = TOGETHER.min(wanted - sessions.len());
                sessions.extend(join_all((0..count).map(|_| open(&connector, address))).await);
            }
        } else {
            for some in sessions[passed..wanted].chunks_mut(TOGETHER) {
                join_all(some.iter_mut().map(|session| echo(session, LARGE_BYTES))).await;
            }
            passed = wanted;
        }
        println!("{line}");
    }
}

async fn open(connector: &TlsConnector, address: SocketAddr) -> Session {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut session = connector.connect(ServerName::try_from(HOST).unwrap(), stream).await.unwrap();
    session.write_all(upgrade(HOST, "/", "").as_bytes()).await.unwrap();
    let mut head = [0; SWITCHING.len()];
    session.read_exact(&mut head).await.unwrap();
    assert!(head.starts_with(b"HTTP/1.1 101 ") && head.ends_with(b"\r\n\r\n"));
    echo(&mut session, SMALL_BYTES).await;
    session
}

async fn echo(session: &mut Session, bytes: usize) {
    let (mut reader, mut writer) = tokio::io::split(session);
    let payload = vec![7; bytes];
    let mut back = vec![0; server_frame(BINARY, true, &payload).len()];
    let send = async {
        writer.write_all(&client_frame(BINARY, true, &payload)).await.unwrap();
        writer.flush().await.unwrap();
    };
    let (_, read) = tokio::join!(send, reader.read_exact(&mut back));
    read.unwrap();
    assert!(back.ends_with(&payload));
}
