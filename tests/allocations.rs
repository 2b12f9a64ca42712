//! What the edge takes from the heap for each relayed frame, each keep-alive exchange and each connection that it refuses. The edge runs in a process of
//! its own under an allocator that keeps the stack of every allocation; two runs that differ only in how much passes
//! are compared place by place. Ours must be none, and each that remains is named here with its place.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

#[allow(dead_code, unreachable_pub)] // the tests of `it` use all of it
#[path = "it/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::SOCKET_HOST as HOST;
use support::edge::{Edge, PATIENCE};
use support::frames::{client_frame, echo, frame};
use support::raw::{Raw, upgrade};
use support::upstream::{OK, SWITCHING, Upstream};
use tokio::io::AsyncReadExt;

#[global_allocator]
static COUNTED: dhat::Alloc = dhat::Alloc;

/// Buffers, pools and tables have their size after so many.
const FEW: u32 = 50;
const MORE: u32 = 400;
/// Where the child leaves what it counted.
const PROFILE: &str = "SANEDGE_TEST_PROFILE";
/// What remains for one echoed frame, and for one exchange, by the crate that asks for it.
const REMAINING: [(&str, f64); 4] =
    [("rustls::", 0.0), ("tokio::", 0.0), ("ring::", 0.0), ("sanedge_edge::", 0.0)];

/// What is refused costs nothing.
const NOTHING: [(&str, f64); 0] = [];

/// What an open WebSocket may hold of the heap, the allocator's own bytes not counted: the runtime has 512 bytes for two sockets, the relay
/// and its task 512, the timer with which each ends 290, TLS 225.
const REST_BYTES_MAX: f64 = 1_600.0;
/// A worker keeps up to 256 cipher objects, however many sessions it has.
const OF_THE_WORKER: &str = "sanedge_edge::record::ciphers::";

/// No test harness: the same program is the edge, in another process, and must be alone there.
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", bundle] => serve(Path::new(bundle)),
        _ if arguments.iter().any(|argument| argument == "--list") => {}
        _ => {
            alone(compare("echoed frame", &REMAINING, echoes));
            alone(compare("keep-alive exchange", &REMAINING, exchanges));
            alone(compare("refused connection", &NOTHING, refusals));
            alone(rest());
        }
    }
}

/// Runs a part on a runtime of its own.
fn alone(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
}

fn serve(bundle: &Path) {
    let file = std::env::var(PROFILE).unwrap();
    let _profile = dhat::Profiler::builder().file_name(file).trim_backtraces(Some(32)).build();
    sanedge::control::serve(bundle, None, Default::default());
}

/// What an open WebSocket at rest keeps, in bytes.
async fn rest() {
    let at_most = "gb"; // bytes held when the heap was fullest: with all of them open
    let all_of_them = FEW + MORE;
    let few = profile(FEW, &idlers, at_most, all_of_them).await;
    let more = profile(all_of_them, &idlers, at_most, all_of_them).await;
    let mut all = 0.0;
    println!("bytes that an open WebSocket keeps on the heap:");
    for (place, bytes) in more.iter().filter(|(place, _)| !place.contains(OF_THE_WORKER)) {
        let each = (*bytes as f64 - few.get(place).copied().unwrap_or(0) as f64) / f64::from(MORE);
        if each.abs() >= 1.0 {
            println!("  {each:7.1} {place}");
        }
        all += each;
    }
    println!("  {all:7.1} together");
    assert!(all <= REST_BYTES_MAX, "{all:.0} bytes for each, at most {REST_BYTES_MAX} are known; see above");
}

async fn idlers(edge: &Edge, count: u32) {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = Raw::open(edge, HOST).await;
        client.send(upgrade(HOST, "/", "")).await;
        client.head().await;
        client.send(client_frame(2, true, &[7; 64])).await;
        assert_eq!(frame(&mut client).await.payload, [7; 64]);
        clients.push(client);
    }
    drop(clients);
    // Not in the drain, for which each of them would take something more.
    let begun = Instant::now();
    while std::fs::read_dir(format!("/proc/{}/fd", edge.pid())).unwrap().count() > count as usize {
        assert!(begun.elapsed() < PATIENCE, "sessions are left over");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn compare(each: &str, remaining: &[(&str, f64)], run: impl AsyncFn(&Edge, u32)) {
    let blocks = "tbk";
    let (few, more) = (profile(FEW, &run, blocks, 1).await, profile(FEW + MORE, &run, blocks, 1).await);
    let mut found = BTreeMap::<&str, f64>::new();
    println!("heap allocations for each {each}:");
    for (place, blocks) in &more {
        let each = (*blocks as f64 - few.get(place).copied().unwrap_or(0) as f64) / f64::from(MORE);
        if each >= 0.02 {
            println!("  {each:.2} {place}");
            *found.entry(owner(place).unwrap_or(place)).or_default() += each;
        } // else a table that grows now and then
    }
    for (owner, known) in remaining.iter().copied() {
        let now = found.remove(owner).unwrap_or_default();
        assert!((now - known).abs() < 0.1, "{owner} {now:.2} for each {each}, known are {known}; see above");
    }
    assert!(found.is_empty(), "allocations of nobody we know: {found:?}");
}

/// Whose function it is: ours also where it is another crate's, made for a type of ours.
fn owner(function: &str) -> Option<&'static str> {
    let owners = REMAINING.iter().map(|(owner, _)| *owner);
    owners.rev().find(|owner| function.contains(owner))
}

/// A number of the profile by place, after a run of so many.
async fn profile(
    count: u32,
    run: &impl AsyncFn(&Edge, u32),
    number: &str,
    address_sessions_max: u32,
) -> BTreeMap<String, u64> {
    let upstream = Upstream::scripted(|mut connection| async move {
        while let Some(head) = connection.head().await {
            if head.contains("websocket") {
                connection.send(SWITCHING).await;
                return echo(connection).await;
            }
            connection.send(OK).await;
        }
    })
    .await;
    // The profiler names places by reading the program, and writes at the end: from within the sandbox, so where that lets it.
    let program = std::env::current_exe().unwrap();
    let readable = format!("acme_dir = {:?}", program.parent().unwrap());
    let rates =
        "address_handshakes_per_s_max = 0\naddress_websockets_per_s_max = 0\nhandshakes_per_s_max = 0";
    let limits = format!("workers = 1\naddress_sessions_max = {address_sessions_max}\n{rates}");
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], &upstream.address).top("exempt = [\"::1/128\"]");
    let desk = edge.limits(&limits).with_http().listen(&readable).write();
    desk.bundled();
    let profile = desk.path("heap.json");
    let mut command = Command::new(program);
    command.env(PROFILE, &profile);
    let mut edge = desk.serve_by(command);
    run(&edge, count).await;
    edge.signal(rustix::process::Signal::TERM);
    edge.wait_until_ended();
    by_place(&serde_json::from_slice(&std::fs::read(profile).unwrap()).unwrap(), number)
}

/// A place is the innermost function of ours or of a crate that has a say; what is below it is how memory is asked for.
fn by_place(profile: &Value, number: &str) -> BTreeMap<String, u64> {
    let table: Vec<&str> =
        profile["ftbl"].as_array().unwrap().iter().map(|frame| frame.as_str().unwrap()).collect();
    let mut places = BTreeMap::new();
    for point in profile["pps"].as_array().unwrap() {
        let frames = point["fs"].as_array().unwrap().iter().map(|at| table[at.as_u64().unwrap() as usize]);
        let named = frames.map(function).collect::<Vec<_>>();
        let place = named.iter().find(|name| owner(name).is_some()).unwrap_or(&named[0]);
        *places.entry(place.clone()).or_default() += point[number].as_u64().unwrap();
    }
    assert!(places.len() > 10, "the profile has names: {places:?}");
    places
}

/// `0x55d0: <crate>::<function> (file:line:column)` without its address.
fn function(frame: &str) -> String {
    frame.split_once(": ").map_or(frame, |(_, rest)| rest).to_owned()
}

async fn echoes(edge: &Edge, count: u32) {
    let mut client = Raw::open(edge, HOST).await;
    client.send(upgrade(HOST, "/", "")).await;
    client.head().await;
    for _ in 0..count {
        client.send(client_frame(2, true, &[7; 64])).await;
        assert_eq!(frame(&mut client).await.payload, [7; 64]);
    }
}

async fn exchanges(edge: &Edge, count: u32) {
    let mut client = Raw::open(edge, HOST).await;
    for _ in 0..count {
        client.get(HOST, "/socket.io/?EIO=4&transport=polling", "").await.assert_apps(200, "ok");
    }
}

/// Beside the one session that the address may have.
async fn refusals(edge: &Edge, count: u32) {
    let _one = Raw::open(edge, HOST).await;
    for _ in 0..count {
        let mut refused = tokio::net::TcpStream::connect(edge.https).await.unwrap();
        assert!(matches!(refused.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    }
}
