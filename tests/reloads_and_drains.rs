//! A bundle changes under open sessions, and the edge ends when it is told to.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::process::Output;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use support::edge::{Edge, PATIENCE, sanedge, text};
use support::engineio::{Http, Socket, serve_default};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const HOST: &str = "recre.store";

async fn edge() -> Edge {
    Edge::certified_for(&[HOST]).site(&[HOST], serve_default().await).start()
}

fn ask(edge: &Edge, command: &str) -> Output {
    let admin = format!("unix:{}", edge.desk().path("admin.sock").display());
    sanedge().args([command, "--json", "--admin", &admin]).output().unwrap()
}

fn status(edge: &Edge) -> Value {
    let output = ask(edge, "status");
    assert!(output.status.success(), "{}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Waits until `look` holds of the status.
async fn until(edge: &Edge, what: &str, look: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = status(edge);
        if look(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}: {status:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_frees_the_old_key_while_its_sessions_live_on() {
    let edge = edge().await;
    let mut socket = Socket::open(&edge, HOST, "").await;
    socket.join("/").await;
    let mut idle = Http::new(edge.tls(HOST).await);
    assert_eq!(idle.exchange("GET", HOST, "/socket.io/?EIO=4&transport=polling", "").await.status, 200);
    assert_eq!(status(&edge)["keys_in_memory"], 1);

    edge.desk().write_certificate(0, &[HOST, "socket.recre.store"]);
    edge.reload();
    // Nothing but the new bundle refers to a key: not the WebSocket, and not the idle connection once it has
    // served a request by the new bundle.
    assert_eq!(idle.exchange("GET", HOST, "/socket.io/?EIO=4&transport=polling", "").await.status, 200);
    until(&edge, "the old key is gone", |status| status["keys_in_memory"] == 1).await;
    socket.send(r#"42["echo","still here"]"#).await;
    assert_eq!(socket.text().await, r#"42["echo","still here"]"#);
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn sanedge_reload_succeeds_only_when_the_new_bundle_is_in_use() {
    let edge = edge().await;
    let before = status(&edge)["bundle"].clone();
    edge.desk().write_certificate(0, &[HOST, "new.recre.store"]);
    edge.desk().bundled();
    let reloaded = ask(&edge, "reload");
    assert_eq!(reloaded.status.code(), Some(0), "{}", text(&reloaded));
    let after = status(&edge)["bundle"].clone();
    assert_ne!(before, after);

    let bytes = std::fs::read(edge.desk().bundle_file()).unwrap();
    std::fs::write(edge.desk().bundle_file(), &bytes[..bytes.len() - 1]).unwrap();
    let refused = ask(&edge, "reload");
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    let report: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!(report["ok"], false);
    assert_eq!(report["bundle"], after, "the old bundle stays in use");
    assert!(report["message"].as_str().unwrap().contains("sanedge.bundle"), "{report}");
    edge.wait_for_log("reload refused", PATIENCE);
    edge.tls("recre.store").await;
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn other_listeners_need_a_restart_and_the_reload_says_so() {
    let edge = edge().await;
    let toml = std::fs::read_to_string(edge.desk().toml()).unwrap();
    std::fs::write(edge.desk().toml(), toml.replace("127.0.0.1:0", "127.0.0.1:1")).unwrap();
    edge.desk().bundled();
    let refused = ask(&edge, "reload");
    assert_eq!(refused.status.code(), Some(1));
    let said = text(&refused);
    assert!(said.contains("needs a restart") && said.contains("127.0.0.1:1"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_file_is_taken_into_use_by_itself() {
    let edge = Edge::certified_for(&[HOST]).top("watch = true").site(&[HOST], serve_default().await).start();
    edge.desk().write_certificate(0, &[HOST, "new.recre.store"]);
    edge.desk().bundled();
    edge.wait_for_log("msg=reloaded", PATIENCE);
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_do_not_grow_the_process() {
    let edge = edge().await;
    let mut socket = Socket::open(&edge, HOST, "").await;
    socket.join("/").await;
    let mut early = 0;
    for round in 1..=60 {
        let reloaded = ask(&edge, "reload");
        assert!(reloaded.status.success(), "{}", text(&reloaded));
        if round == 20 {
            early = edge.memory_kib("Pss");
        }
    }
    let late = edge.memory_kib("Pss");
    assert!(late <= early + 512, "PSS grew from {early} to {late} KiB over 40 reloads");
    assert_eq!(status(&edge)["keys_in_memory"], 1);
    socket.send(r#"42["echo","still here"]"#).await;
    assert_eq!(socket.text().await, r#"42["echo","still here"]"#);
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_finishes_the_exchange_in_hand_and_ends_with_0() {
    let app = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let edge = Edge::certified_for(&[HOST])
        .top("drain_timeout = \"10m\"")
        .site(&[HOST], app.local_addr().unwrap())
        .start();
    let mut idle = edge.tls(HOST).await;
    let mut busy = Http::new(edge.tls(HOST).await);
    let asking = tokio::spawn(async move { busy.exchange("GET", HOST, "/slow", "").await });
    let (mut request, _) = app.accept().await.unwrap();
    let mut head = vec![0; 4096];
    assert!(request.read(&mut head).await.unwrap() > 0);

    edge.signal(Signal::TERM);
    edge.wait_for_log("msg=draining", PATIENCE);
    let mut rest = Vec::new();
    let _ = idle.read_to_end(&mut rest).await;
    assert!(rest.is_empty(), "an idle connection ends without a word");
    assert!(edge.try_tls(HOST).await.is_err(), "nothing new is accepted");

    request.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate").await.unwrap();
    let response = asking.await.unwrap();
    assert_eq!((response.status, response.text().as_str()), (200, "late"));
    assert_eq!(response.field("connection"), Some("close"));
    let log = edge.ended();
    assert!(log.contains("drained") && !log.contains("drain timeout"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sigterm_ends_at_once() {
    let edge = Edge::certified_for(&[HOST])
        .top("drain_timeout = \"10m\"")
        .site(&[HOST], serve_default().await)
        .start();
    let mut socket = Socket::open(&edge, HOST, "").await;
    socket.join("/").await;
    edge.signal(Signal::TERM);
    edge.wait_for_log("msg=draining", PATIENCE);
    edge.signal(Signal::TERM);
    edge.wait_for_log("ended the drain at once", PATIENCE);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_socket_is_for_its_group_and_survives_a_killed_edge() {
    use std::os::unix::fs::PermissionsExt;
    let edge = edge().await;
    let socket = edge.desk().path("admin.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    // A second edge must not take the socket of a living one away.
    let second = sanedge().arg("serve").arg(edge.desk().bundle_file()).output().unwrap();
    assert_eq!(second.status.code(), Some(1), "{}", text(&second));
    assert!(text(&second).contains("another sanedge answers there"), "{}", text(&second));
    let edge = edge.killed_and_served_again();
    assert_eq!(status(&edge)["draining"], false);
    edge.stop();
    assert!(!socket.exists(), "a clean end takes the socket along");
}
