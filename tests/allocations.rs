//! What the edge takes from the heap for each relayed frame and each keep-alive exchange. The edge runs in a process of
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

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::again::alone;
use support::edge::Edge;
use support::frames::{client_frame, echo, frame};
use support::raw::{Raw, upgrade};
use support::upstream::{OK, SWITCHING, Upstream};

#[global_allocator]
static COUNTED: dhat::Alloc = dhat::Alloc;

const HOST: &str = "socket.recre.store";
/// Buffers, pools and tables have their size after so many.
const FEW: u32 = 50;
const MORE: u32 = 400;
/// Where the child leaves what it counted.
const PROFILE: &str = "SANEDGE_TEST_PROFILE";
/// What remains for one echoed frame, and for one exchange, by the crate that asks for it: rustls makes a `Vec` for each
/// record that it opens (`Payload::into_vec`) and for each that it seals (`PrefixedPayload::with_capacity`).
const REMAINING: [(&str, f64); 4] =
    [("rustls::", 2.0), ("tokio::", 0.0), ("ring::", 0.0), ("sanedge::", 0.0)];

/// No test harness: the same program is the edge, in another process, and must be alone there.
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", bundle] => serve(Path::new(bundle)),
        _ if arguments.iter().any(|argument| argument == "--list") => {}
        _ => {
            alone(compare("echoed frame", echoes));
            alone(compare("keep-alive exchange", exchanges));
        }
    }
}

fn serve(bundle: &Path) {
    let file = std::env::var(PROFILE).unwrap();
    let _profile = dhat::Profiler::builder().file_name(file).trim_backtraces(Some(32)).build();
    sanedge::edge::serve(bundle, Default::default());
}

async fn compare(each: &str, run: impl AsyncFn(&Edge, u32)) {
    let (few, more) = (places(FEW, &run).await, places(FEW + MORE, &run).await);
    let mut found = BTreeMap::<&str, f64>::new();
    println!("heap allocations for each {each}:");
    for (place, blocks) in &more {
        let each = (*blocks as f64 - few.get(place).copied().unwrap_or(0) as f64) / f64::from(MORE);
        if each >= 0.02 {
            println!("  {each:.2} {place}");
            *found.entry(owner(place).unwrap_or(place)).or_default() += each;
        } // else a table that grows now and then
    }
    for (owner, known) in REMAINING {
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

/// Allocations by place, after a run of so many.
async fn places(count: u32, run: &impl AsyncFn(&Edge, u32)) -> BTreeMap<String, u64> {
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
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], &upstream.address).limits("workers = 1");
    let desk = edge.with_http().listen(&readable).write();
    desk.bundled();
    let profile = desk.path("heap.json");
    let mut command = Command::new(program);
    command.env(PROFILE, &profile);
    let mut edge = desk.serve_by(command);
    run(&edge, count).await;
    edge.signal(rustix::process::Signal::TERM);
    edge.wait_until_ended();
    by_place(&serde_json::from_slice(&std::fs::read(profile).unwrap()).unwrap())
}

/// A place is the innermost function of ours or of a crate that has a say; what is below it is how memory is asked for.
fn by_place(profile: &Value) -> BTreeMap<String, u64> {
    let table: Vec<&str> =
        profile["ftbl"].as_array().unwrap().iter().map(|frame| frame.as_str().unwrap()).collect();
    let mut places = BTreeMap::new();
    for point in profile["pps"].as_array().unwrap() {
        let frames = point["fs"].as_array().unwrap().iter().map(|at| table[at.as_u64().unwrap() as usize]);
        let named = frames.map(function).collect::<Vec<_>>();
        let place = named.iter().find(|name| owner(name).is_some()).unwrap_or(&named[0]);
        *places.entry(place.clone()).or_default() += point["tbk"].as_u64().unwrap();
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
