//! Several servers behind one route: a session of Engine.IO stays with the one that opened it, and the others take over
//! what a dead one leaves.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::support::SOCKET_HOST as HOST;
use crate::support::edge::{Edge, PATIENCE};
use crate::support::frames::{TEXT, client_frame, frame, server_frame};
use crate::support::node::{Interop, Program};
use crate::support::raw::{Raw, upgrade};
use crate::support::upstream::{Connection, SWITCHING, Upstream};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

const HANDSHAKE: &str = "/socket.io/?EIO=4&transport=polling&t=abc";

/// How a server of these tests says its `open` packet.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Length,
    /// One byte a chunk.
    Chunks,
    UntilClose,
    /// As Engine.IO 3.
    Third,
    /// Nothing that could be read.
    Unreadable,
}

/// A server that opens sessions `<name>-<connection>` and answers everything else with its name.
async fn engine(name: &'static str, form: Form) -> Upstream {
    engine_at("127.0.0.1:0", name, form).await
}

async fn engine_at(address: &str, name: &'static str, form: Form) -> Upstream {
    Upstream::scripted_at(address, move |mut connection: Connection| async move {
        while let Some(request) = connection.request().await {
            let head = request.head.to_ascii_lowercase();
            let sid = format!("{name}-{}", connection.index);
            let open = format!(
                r#"0{{"sid":"{sid}","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000}}"#
            );
            if head.contains("upgrade: websocket") {
                connection.send(SWITCHING).await;
                if !head.contains("sid=") {
                    connection.send(server_frame(TEXT, true, open.as_bytes())).await;
                }
                connection.send(server_frame(TEXT, true, name.as_bytes())).await;
                return connection.until_closed().await;
            }
            if head.contains("/socket.io/?eio=") && !head.contains("sid=") {
                if !answer_open(&mut connection, form, open).await {
                    return;
                }
            } else {
                connection.send(ok(name)).await;
            }
        }
    })
    .await
}

/// False where the connection ends with the answer.
async fn answer_open(connection: &mut Connection, form: Form, open: String) -> bool {
    match form {
        Form::Length => connection.send(ok(&open)).await,
        Form::Third => connection.send(ok(&format!("{}:{open}2:40", open.len()))).await,
        Form::Unreadable => connection.send(ok("\u{1f}compressed")).await,
        Form::UntilClose => {
            connection.send(format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{open}")).await;
            false
        }
        Form::Chunks => {
            connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            for byte in open.bytes() {
                connection.send(format!("1\r\n{}\r\n", char::from(byte))).await;
                tokio::task::yield_now().await;
            }
            connection.send("0\r\n\r\n").await
        }
    }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn edge(upstreams: &[&Upstream]) -> Edge {
    let all: Vec<&str> = upstreams.iter().map(|upstream| upstream.address.as_str()).collect();
    Edge::certified_for(&[HOST])
        .top("trusted_proxies = [\"127.0.0.1/32\"]")
        .site(&[HOST], all.join("\", \""))
        .limits("workers = 2")
        .start()
}

/// Opens a session on a connection of its own: its sid, and the name of the server that opened it.
async fn open(edge: &Edge) -> (String, String) {
    let body = Raw::open(edge, HOST).await.get(HOST, HANDSHAKE, "").await;
    let text = body.text();
    let sid = text.split("\"sid\":\"").nth(1).unwrap_or_else(|| panic!("{text}")).split('"').next().unwrap();
    (sid.to_owned(), sid.split('-').next().unwrap().to_owned())
}

/// Who answers a request for this `sid`, on a connection of its own.
async fn who(edge: &Edge, method: &str, sid: &str, fields: &str) -> String {
    let mut client = Raw::open(edge, HOST).await;
    let target = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
    let body = if method == "POST" { "Content-Length: 1\r\n\r\n3" } else { "\r\n" };
    client.send(format!("{method} {target} HTTP/1.1\r\nHost: {HOST}\r\n{fields}{body}")).await;
    client.response().await.text().to_owned()
}

/// Who answers an upgrade of this session.
async fn who_upgrades(edge: &Edge, sid: &str) -> String {
    let mut client = Raw::open(edge, HOST).await;
    client.send(upgrade(HOST, &format!("/socket.io/?EIO=4&transport=websocket&sid={sid}"), "")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    String::from_utf8(frame(&mut client).await.payload).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_stays_with_the_server_that_opened_it() {
    let mut tried = 0;
    for form in [Form::Length, Form::Chunks, Form::UntilClose, Form::Third] {
        let (one, two, three) =
            (engine("one", form).await, engine("two", form).await, engine("three", form).await);
        let edge = edge(&[&one, &two, &three]);
        let mut openers = BTreeSet::new();
        for _ in 0..6 {
            let (sid, opener) = open(&edge).await;
            for method in ["GET", "POST", "GET"] {
                assert_eq!(who(&edge, method, &sid, "").await, opener, "{sid}");
            }
            // From another address, as a phone that leaves the house.
            assert_eq!(who(&edge, "GET", &sid, "X-Forwarded-For: 198.51.100.7\r\n").await, opener);
            assert_eq!(who_upgrades(&edge, &sid).await, opener);
            openers.insert(opener);
            tried += 1;
        }
        assert_eq!(openers.len(), 3, "each in turn: {openers:?}");
        edge.stop();
    }
    assert_eq!(tried, 24);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_a_websocket_opened_is_known_too() {
    let (one, two) = (engine("one", Form::Length).await, engine("two", Form::Length).await);
    let edge = edge(&[&one, &two]);
    for _ in 0..4 {
        let mut client = Raw::open(&edge, HOST).await;
        client.send(upgrade(HOST, "/socket.io/?EIO=4&transport=websocket", "")).await;
        assert!(client.head().await.starts_with("HTTP/1.1 101 "));
        let open: Value = serde_json::from_slice(&frame(&mut client).await.payload[1..]).unwrap();
        let opener = String::from_utf8(frame(&mut client).await.payload).unwrap();
        for _ in 0..2 {
            assert_eq!(who(&edge, "GET", open["sid"].as_str().unwrap(), "").await, opener);
        }
    }
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_names_no_known_session_goes_by_the_clients_address() {
    let (one, two) = (engine("one", Form::Length).await, engine("two", Form::Length).await);
    let edge = edge(&[&one, &two]);
    let mut met = BTreeSet::new();
    for host in 1..=32 {
        let from = format!("X-Forwarded-For: 198.51.100.{host}\r\n");
        let first = who(&edge, "GET", "never-heard-of", &from).await;
        for sid in ["never-heard-of", "another", ""] {
            assert_eq!(who(&edge, "POST", sid, &from).await, first, "198.51.100.{host}");
        }
        let page = Raw::open(&edge, HOST).await.get(HOST, "/page", &from).await;
        page.assert_apps(200, &first);
        met.insert(first);
    }
    assert_eq!(met.len(), 2, "addresses are spread");
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_sid_can_be_read_new_sessions_go_by_address_from_then_on() {
    let (one, two) = (engine("one", Form::Unreadable).await, engine("two", Form::Unreadable).await);
    let edge = edge(&[&one, &two]);
    Raw::open(&edge, HOST).await.get(HOST, HANDSHAKE, "").await;
    edge.wait_for_log("new sessions are assigned by client address", PATIENCE);
    let handshakes = |upstream: &Upstream| upstream.count("GET");
    let before = (handshakes(&one), handshakes(&two));
    let owner = who(&edge, "GET", "unread", "").await;
    for _ in 0..6 {
        Raw::open(&edge, HOST).await.get(HOST, HANDSHAKE, "").await;
    }
    let after = (handshakes(&one), handshakes(&two));
    let wanted = if owner == "one" { (before.0 + 7, before.1) } else { (before.0, before.1 + 7) };
    assert_eq!(after, wanted, "all with {owner}, as the sessions' later requests");
    assert_eq!(edge.log().matches("new sessions are assigned by client address").count(), 1);
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_no_handshakes_costs_no_session() {
    let (one, two) = (engine("one", Form::Length).await, engine("two", Form::Length).await);
    let edge = edge(&[&one, &two]);
    let mut openers = BTreeSet::new();
    for _ in 0..4 {
        // What any stranger can ask for: it has a handshake's query.
        let script = "/socket.io/socket.io.js?EIO=4&transport=polling";
        Raw::open(&edge, HOST).await.get(HOST, script, "").await;
        for _ in 0..3 {
            let (sid, opener) = open(&edge).await;
            for host in 1..=8 {
                let roams = format!("X-Forwarded-For: 198.51.100.{host}\r\n");
                assert_eq!(who(&edge, "GET", &sid, &roams).await, opener, "{sid}");
            }
            openers.insert(opener);
        }
    }
    assert_eq!(openers.len(), 2, "one handshake that was read, and they go in turn again");
    assert_eq!(
        edge.log().matches("new sessions are assigned by client address").count(),
        1,
        "one line a minute"
    );
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_others_take_over_at_once_and_a_server_that_is_back_is_noticed_by_itself() {
    let (one, two) = (engine("one", Form::Length).await, engine("two", Form::Length).await);
    let edge = edge(&[&one, &two]);
    let mut sessions = vec![open(&edge).await, open(&edge).await];
    sessions.sort_by(|a, b| a.1.cmp(&b.1));
    let (dead, address) = (sessions.remove(0), one.address.clone());
    assert_eq!(dead.1, "one");
    drop(one);
    while TcpStream::connect(&address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    for _ in 0..8 {
        assert_eq!(who(&edge, "GET", &dead.0, "").await, "two", "its server is gone: no 502");
        assert_eq!(who(&edge, "POST", "whoever", "").await, "two");
        assert_eq!(open(&edge).await.1, "two");
        assert_eq!(who(&edge, "GET", &sessions[0].0, "").await, "two");
    }
    edge.wait_for_log("upstream is down", PATIENCE);
    let one = engine_at(&address, "one", Form::Length).await;
    // No request brings it back: a probe does.
    edge.wait_for_log("upstream is back", PATIENCE);
    assert_eq!(who(&edge, "GET", &dead.0, "").await, "one");
    assert_eq!(edge.log().matches("upstream is down").count(), 1);
    drop(one);
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_hears_at_once_that_its_server_died() {
    let Some(interop) = Interop::ready("a_websocket_hears_at_once_that_its_server_died") else { return };
    let (server, port) = interop.server(&json!({}));
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], format!("127.0.0.1:{port}")).start();
    let mut client = Raw::open(&edge, HOST).await;
    client.send(upgrade(HOST, "/socket.io/?EIO=4&transport=websocket", "")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    assert!(frame(&mut client).await.payload.starts_with(b"0{"));
    client.send(client_frame(TEXT, true, b"40")).await;
    assert!(frame(&mut client).await.payload.starts_with(b"40{"));
    drop(server); // SIGKILL
    let killed = Instant::now();
    client.until_ended().await;
    assert!(killed.elapsed() < Duration::from_secs(15), "long before any heartbeat: {:?}", killed.elapsed());
    let log = edge.stop();
    assert!(!log.contains("panic"), "{log}");
}

/// Four real Socket.IO processes without any adapter, as a cluster or pm2 runs them.
struct Cluster {
    interop: Interop,
    servers: Vec<(Program, u16)>,
}

/// What came of many clients.
#[derive(Debug)]
struct Figures {
    /// How many clients ended how.
    outcomes: Value,
    /// "Session ID unknown", as the servers said it.
    unknown: usize,
    /// Sessions that each server has opened.
    sessions: Vec<usize>,
}

impl Cluster {
    fn start(test: &str) -> Option<Self> {
        let interop = Interop::ready(test)?;
        let servers = (0..4).map(|_| interop.server(&json!({}))).collect();
        Some(Self { interop, servers })
    }

    fn addresses(&self) -> Vec<String> {
        self.servers.iter().map(|(_, port)| format!("127.0.0.1:{port}")).collect()
    }

    /// Clients that poll and then upgrade, through `edge`.
    fn climb(&self, edge: &Edge, clients: usize) -> Figures {
        let said = self.interop.client(edge, HOST, "climb", &json!({ "clients": clients })).finish();
        let counted = said.iter().find(|said| said["event"] == "counted").unwrap();
        let mut figures = Figures { outcomes: counted["outcomes"].clone(), unknown: 0, sessions: Vec::new() };
        for (server, _) in &self.servers {
            let events = server.said();
            let count = |event: &str| events.iter().filter(|said| said["event"] == event).count();
            figures.sessions.push(count("connection"));
            figures.unknown += events
                .iter()
                .filter(|said| said["event"] == "connection_error" && said["message"] == "Session ID unknown")
                .count();
        }
        figures
    }
}

/// Passes each connection to the next of `targets`: what a balancer does that knows nothing of sessions.
async fn round_robin(targets: Vec<String>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut turn = 0;
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let target = targets[turn % targets.len()].clone();
            turn += 1;
            tokio::spawn(async move {
                if let Ok(mut server) = TcpStream::connect(target).await {
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    });
    address
}

async fn with_and_without(test: &str, clients: usize) -> Option<(Figures, Figures)> {
    let cluster = Cluster::start(test)?;
    let sticky = Edge::certified_for(&[HOST]).site(&[HOST], cluster.addresses().join("\", \"")).start();
    let with = cluster.climb(&sticky, clients);
    sticky.stop();
    // To the edge one server: the balancer behind it does what an edge without stickiness would.
    let balancer = round_robin(cluster.addresses()).await;
    let blind = Edge::certified_for(&[HOST]).site(&[HOST], balancer).start();
    let without = cluster.climb(&blind, clients);
    blind.signal(Signal::KILL);
    Some((with, without))
}

fn assert_sticky(with: &Figures, without: &Figures, clients: usize) {
    assert_eq!(with.outcomes, json!({ "upgraded": clients }), "{with:?}");
    assert_eq!(with.unknown, 0, "{with:?}");
    assert_eq!(with.sessions, vec![clients / 4; 4], "each has its share");
    assert!(
        without.unknown > 0,
        "the trial without stickiness must show what stickiness is for: {without:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_clients_climb_on_four_processes() {
    let found = with_and_without("forty_clients_climb_on_four_processes", 40).await;
    let Some((with, without)) = found else { return };
    assert_sticky(&with, &without, 40);
}

/// The whole trial: `tests/storm/sticky`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "half a minute: tests/storm/sticky"]
async fn five_hundred_clients_climb_on_four_processes() {
    let found = with_and_without("five_hundred_clients_climb_on_four_processes", 500).await;
    let Some((with, without)) = found else { return };
    println!("500 clients, polling then upgrade, four Socket.IO processes without adapter");
    for (name, figures) in [("sticky", &with), ("round robin", &without)] {
        println!(
            "{name:>12}: \"Session ID unknown\" {}, outcomes {}, sessions by process {:?}",
            figures.unknown, figures.outcomes, figures.sessions
        );
    }
    assert_sticky(&with, &without, 500);
}
