//! The real Socket.IO on both sides of the edge: npm's server behind; npm's clients 4.x and 2.x, python-socketio in front.
//!
//! Needs node and npm (and python3 with venv for one test); CONTRIBUTING.md tells what happens without.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::support::SOCKET_HOST as HOST;
use crate::support::edge::{Edge, memory_kib};
use crate::support::node::{Interop, Program};
use serde_json::{Value, json};

/// A Socket.IO server and the edge in front of it.
struct Stage {
    interop: Interop,
    server: Program,
    port: u16,
    edge: Edge,
}

impl Stage {
    fn set(test: &str, socketio: Value) -> Option<Self> {
        let interop = Interop::ready(test)?;
        let (server, port) = interop.server(&json!({ "socketio": socketio }));
        let edge =
            Edge::certified_for(&["recre.store", HOST]).site(&[HOST], format!("127.0.0.1:{port}")).start();
        Some(Self { interop, server, port, edge })
    }

    /// Runs a scenario to its end, which must be a success.
    fn play(&self, scenario: &str, parameters: Value) -> Vec<Value> {
        let said = self.start(scenario, parameters).finish();
        assert_eq!(said.last().unwrap()["event"], "passed");
        said
    }

    fn start(&self, scenario: &str, parameters: Value) -> Program {
        self.interop.client(&self.edge, HOST, scenario, &parameters)
    }
}

#[test]
fn client_4_by_websocket_polling_and_both() {
    let Some(stage) = Stage::set("client_4_by_websocket_polling_and_both", json!({})) else { return };
    stage.play("basics", json!({ "transports": ["websocket"] }));
    stage.play("basics", json!({ "transports": ["polling"] }));
    stage.play("basics", json!({}));
    stage.play("upgrade", json!({}));
    stage.edge.stop();
}

#[test]
fn client_2_by_websocket_polling_and_both() {
    let options = json!({ "allowEIO3": true });
    let Some(stage) = Stage::set("client_2_by_websocket_polling_and_both", options) else { return };
    stage.play("basics", json!({ "client": 2, "transports": ["websocket"] }));
    stage.play("basics", json!({ "client": 2, "transports": ["polling"] }));
    stage.play("basics", json!({ "client": 2 }));
    stage.play("upgrade", json!({ "client": 2 }));
    stage.play("binary", json!({ "client": 2, "transports": ["websocket"], "sizes": [1, 65_536, 1 << 20] }));
    stage.edge.stop();
}

#[test]
fn namespaces_share_a_connection_and_the_story_ends_well() {
    let test = "namespaces_share_a_connection_and_the_story_ends_well";
    let Some(stage) = Stage::set(test, json!({})) else { return };
    stage.play("namespaces", json!({ "transports": ["websocket"] }));
    stage.play("namespaces", json!({}));
    stage.play("story", json!({}));
    let connections = stage.server.said();
    let connection = connections.iter().find(|said| said["event"] == "connection").unwrap();
    assert_eq!((&connection["for"], &connection["proto"]), (&json!("127.0.0.1"), &json!("https")));
    stage.edge.stop();
}

#[test]
fn attachments_from_one_byte_to_five_megabytes() {
    let Some(stage) = Stage::set("attachments_from_one_byte_to_five_megabytes", json!({})) else { return };
    let sizes = [1, 125, 126, 127, 65_535, 65_536, 1 << 20, 5 << 20];
    stage.play("binary", json!({ "transports": ["websocket"], "sizes": sizes }));
    stage.play("binary", json!({ "transports": ["polling"], "sizes": sizes }));
    stage.play("text", json!({ "transports": ["polling"], "bytes": 1 << 20 }));
    stage.edge.stop();
}

#[test]
fn per_message_deflate_is_negotiated_end_to_end() {
    let options = json!({ "perMessageDeflate": { "threshold": 0 } });
    let Some(stage) = Stage::set("per_message_deflate_is_negotiated_end_to_end", options) else { return };
    stage.play("deflate", json!({}));
    stage.edge.stop();
}

#[test]
fn two_hundred_clients_at_once() {
    let Some(stage) = Stage::set("two_hundred_clients_at_once", json!({})) else { return };
    let said = stage.play("many", json!({ "clients": 200 }));
    assert!(said.contains(&json!({ "event": "counted", "clients": 200 })), "{said:?}");
    stage.edge.stop();
}

#[test]
fn clients_come_back_after_a_restart_of_the_server() {
    let test = "clients_come_back_after_a_restart_of_the_server";
    let Some(mut stage) = Stage::set(test, json!({})) else { return };
    for transports in [json!(["websocket"]), json!(["polling"]), json!(["polling", "websocket"])] {
        let client = stage.start("reconnects", json!({ "transports": transports }));
        client.wait("connected");
        drop(stage.server);
        client.wait("disconnected");
        stage.server = stage.interop.server(&json!({ "port": stage.port })).0;
        client.wait("reconnected");
        client.finish();
    }
    stage.edge.stop();
}

#[test]
fn the_400_of_a_server_without_polling_arrives_as_it_was_sent() {
    let test = "the_400_of_a_server_without_polling_arrives_as_it_was_sent";
    let Some(stage) = Stage::set(test, json!({ "transports": ["websocket"] })) else { return };
    stage.play("transport_unknown", json!({}));
    stage.play("basics", json!({ "transports": ["websocket"] }));
    stage.edge.stop();
}

/// Node closes an idle connection after 5 s: a request sent on it just then must not become a 502.
#[test]
fn posts_around_nodes_keep_alive_timeout_never_fail() {
    let test = "posts_around_nodes_keep_alive_timeout_never_fail";
    let Some(stage) = Stage::set(test, json!({})) else { return };
    let pauses = [4_500, 4_900, 5_000, 5_500, 6_500];
    let said = stage.play("spaced_posts", json!({ "clients": 100, "pauses_ms": pauses }));
    assert!(said.contains(&json!({ "event": "counted", "rounds": 500 })), "{said:?}");
    stage.edge.stop();
}

/// A client that goes away ends its upstream request within 100 ms; the worst of a busy machine gets a second.
#[test]
fn a_cancelled_poll_ends_upstream_at_once() {
    let Some(stage) = Stage::set("a_cancelled_poll_ends_upstream_at_once", json!({})) else { return };
    let said = stage.play("cancelled", json!({ "rounds": 40 }));
    let measured = said.iter().find(|said| said["event"] == "measured").unwrap();
    println!("a cancelled request ends upstream after {measured}");
    assert_eq!(measured["rounds"], 40);
    assert!(measured["median_ms"].as_f64().unwrap() < 100.0, "{measured}");
    assert!(measured["max_ms"].as_f64().unwrap() < 1000.0, "{measured}");
    stage.edge.stop();
}

/// 100 MB through an edge that grows by less than this.
const GROWTH_KIB_MAX: u64 = 1024;

#[test]
fn a_hundred_megabytes_stream_with_flat_memory() {
    let Some(stage) = Stage::set("a_hundred_megabytes_stream_with_flat_memory", json!({})) else { return };
    let runs = [
        ("upload", json!({ "megabytes": 100 })),
        ("upload", json!({ "megabytes": 100, "chunked": true })),
        ("download", json!({ "megabytes": 100 })),
    ];
    stage.play("upload", json!({ "megabytes": 1 }));
    for (scenario, parameters) in runs {
        let before = stage.edge.memory_kib("Pss_Anon");
        let peak = peak_kib(stage.edge.pid(), || stage.play(scenario, parameters.clone()));
        println!("{scenario} {parameters}: {before} KiB before, {peak} KiB at its peak");
        assert!(peak < before + GROWTH_KIB_MAX, "{scenario} {parameters}: from {before} KiB to {peak} KiB");
    }
    stage.edge.stop();
}

/// The most memory of its own that `pid` had while `work` ran, in KiB; looked at every few milliseconds. (Its program's
/// pages are shared with the edges of other tests and do not count.)
fn peak_kib<T>(pid: u32, work: impl FnOnce() -> T) -> u64 {
    let (done, peak) = (AtomicBool::new(false), AtomicU64::new(0));
    let looks = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut looks = 0;
            while !done.load(Ordering::Relaxed) {
                peak.fetch_max(memory_kib(pid, "Pss_Anon"), Ordering::Relaxed);
                looks += 1;
                std::thread::park_timeout(Duration::from_millis(5));
            }
            looks
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        watcher.join().unwrap()
    });
    assert!(looks > 10, "only {looks} looks at the memory");
    peak.into_inner()
}

#[test]
fn python_socketio_by_websocket_and_polling() {
    let test = "python_socketio_by_websocket_and_polling";
    let Some(stage) = Stage::set(test, json!({})) else { return };
    let Some(python) = stage.interop.python(test) else { return };
    for transport in ["websocket", "polling"] {
        let ca = stage.edge.desk().ca_file();
        let mut command = Command::new(&python);
        command.arg("client.py").arg(stage.edge.url(HOST)).arg(ca).arg(transport);
        stage.interop.start(&mut command).finish();
    }
    stage.edge.stop();
}

/// A page of `https://recre.store` with Socket.IO's own client, its server at `https://socket.recre.store`.
#[test]
fn a_page_of_another_origin_brings_its_cookies() {
    let test = "a_page_of_another_origin_brings_its_cookies";
    let cors = json!({
        "cors": { "origin": "https://recre.store", "credentials": true },
        "cookie": { "name": "io", "sameSite": "lax", "secure": true, "httpOnly": true },
    });
    let Some(interop) = Interop::ready(test) else { return };
    let (server, port) = interop.server(&json!({ "socketio": cors }));
    let upstream = format!("127.0.0.1:{port}");
    let names = ["recre.store", HOST, "elsewhere.example"];
    let edge = Edge::certified_for(&names).site(&names[..2], &upstream).site(&names[2..], &upstream).start();
    let at = |page: &str| {
        let resolve = names.map(|name| format!("MAP {name}:443 {}", edge.https)).join(", ");
        json!({ "page": page, "server": format!("https://{HOST}"), "resolve": resolve })
    };
    let ca = edge.desk().ca_file();
    let Some(_) = interop.browse(test, &ca, "cross_origin", &at("https://recre.store/page")) else { return };
    let said = server.said();
    let cookies: Vec<_> = said.iter().filter_map(|said| said["cookie"].as_str()).collect();
    assert_eq!(cookies.len(), 3, "{said:?}");
    assert!(cookies.iter().all(|cookie| cookie.contains("page=recre")), "{cookies:?}");
    let origins = said.iter().filter(|said| said["origin"] == "https://recre.store");
    assert_eq!(origins.count(), 3, "{said:?}");
    interop.browse(test, &ca, "foreign_origin", &at("https://elsewhere.example/page"));
    edge.stop();
}
