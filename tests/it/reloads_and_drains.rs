//! A bundle changes under open sessions, and the edge ends when it is told to.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant, SystemTime};

use crate::support::HOST;
use crate::support::edge::{Desk, Edge, PATIENCE, sanedge, text};
use crate::support::engineio::{Http, Socket, serve_default};
use rustix::process::Signal;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

async fn edge() -> Edge {
    Edge::certified_for(&[HOST]).site(&[HOST], serve_default().await).start()
}

/// Waits until `look` holds of the status.
async fn until(edge: &Edge, what: &str, look: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = edge.status();
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
    assert_eq!(edge.status()["keys_in_memory"], 1);

    edge.desk().write_certificate(0, &[HOST, "socket.recre.store"]);
    edge.reload();
    // Nothing but the new bundle refers to a key: not the WebSocket, not the idle connection.
    until(&edge, "the old key is gone", |status| status["keys_in_memory"] == 1).await;
    assert_eq!(idle.exchange("GET", HOST, "/socket.io/?EIO=4&transport=polling", "").await.status, 200);
    socket.send(r#"42["echo","still here"]"#).await;
    assert_eq!(socket.text().await, r#"42["echo","still here"]"#);
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn sanedge_reload_succeeds_only_when_the_new_bundle_is_in_use() {
    let edge = edge().await;
    let before = edge.status()["bundle"].clone();
    edge.desk().write_certificate(0, &[HOST, "new.recre.store"]);
    edge.desk().bundled();
    let reloaded = edge.desk().ask(&["reload", "--json"]);
    assert_eq!(reloaded.status.code(), Some(0), "{}", text(&reloaded));
    let after = edge.status()["bundle"].clone();
    assert_ne!(before, after);

    let bytes = std::fs::read(edge.desk().bundle_file()).unwrap();
    std::fs::write(edge.desk().bundle_file(), &bytes[..bytes.len() - 1]).unwrap();
    let refused = edge.desk().ask(&["reload", "--json"]);
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
    let refused = edge.desk().ask(&["reload", "--json"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = text(&refused);
    assert!(said.contains("[listen] https was 127.0.0.1:0 and is 127.0.0.1:1; "), "{said}");
    // The same in another order is the same.
    let both = "127.0.0.1:0\", \"[::1]:0";
    std::fs::write(edge.desk().toml(), toml.replace("127.0.0.1:0", both)).unwrap();
    edge.desk().bundled();
    let edge = edge.restarted();
    std::fs::write(edge.desk().toml(), toml.replace("127.0.0.1:0", "[::1]:0\", \"127.0.0.1:0")).unwrap();
    edge.desk().bundled();
    assert!(edge.desk().ask(&["reload", "--json"]).status.success());
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_file_is_taken_into_use_by_itself() {
    let edge = Edge::certified_for(&[HOST]).top("watch = true").site(&[HOST], serve_default().await).start();
    edge.desk().write_certificate(0, &[HOST, "new.recre.store"]);
    edge.desk().bundled();
    // However often somebody asks how things are.
    until(&edge, "reloaded", |status| status["counters"]["reloads_total"] == 1).await;
    // The log says what to do about a mode that is refused, and then no more has to be done.
    let mode =
        |mode| std::fs::set_permissions(edge.desk().bundle_file(), PermissionsExt::from_mode(mode)).unwrap();
    mode(0o644);
    edge.wait_for_log("chmod 0640", PATIENCE);
    mode(0o640);
    until(&edge, "reloaded", |status| status["counters"]["reloads_total"] == 2).await;
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_sites_and_upstreams_change_for_new_sessions_only() {
    let edge = edge().await;
    let mut socket = Socket::open(&edge, HOST, "").await;
    socket.join("/").await;
    let mut idle = Http::new(edge.tls(HOST).await);
    assert_eq!(idle.exchange("GET", HOST, "/socket.io/?EIO=4&transport=polling", "").await.status, 200);
    let toml = std::fs::read_to_string(edge.desk().toml()).unwrap();
    let (before, sites) = toml.split_once("[[site]]").unwrap();
    let sites = sites.replace(HOST, "new.recre.store").replace("[limits]", "[limits]\nsessions_max = 77");
    std::fs::write(edge.desk().toml(), format!("{before}[[site]]{sites}")).unwrap();
    edge.desk().write_certificate(0, &["new.recre.store"]);
    edge.reload();
    assert_eq!(edge.status()["sessions_max"], 77);
    assert!(edge.try_tls(HOST).await.is_err(), "the old name is served no more");
    let mut new = Http::new(edge.tls("new.recre.store").await);
    let target = "/socket.io/?EIO=4&transport=polling";
    assert_eq!(new.exchange("GET", "new.recre.store", target, "").await.status, 200);
    // A kept connection asks by the new bundle; a WebSocket lives on.
    assert_eq!(idle.exchange("GET", HOST, target, "").await.status, 421);
    socket.send(r#"42["echo","still here"]"#).await;
    assert_eq!(socket.text().await, r#"42["echo","still here"]"#);
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_reload_cannot_follow_is_said() {
    let app = serve_default().await;
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], app).limits("sessions_max = 600").start();
    let toml = std::fs::read_to_string(edge.desk().toml()).unwrap();
    let limits = "[limits]\nworkers = 7\nscratch_bytes = \"8KiB\"\nsocket_buffer_bytes = \"4KiB\"";
    let toml_after = toml.replace("[limits]", limits).replace("= 600", "= 700");
    std::fs::write(edge.desk().toml(), toml_after).unwrap();
    edge.desk().bundled();
    let reloaded = edge.desk().ask(&["reload", "--json"]);
    assert!(reloaded.status.success(), "{}", text(&reloaded));
    let report: Value = serde_json::from_slice(&reloaded.stdout).unwrap();
    let notes: Vec<&str> = report["notes"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(notes.len(), 4, "{notes:?}");
    assert!(
        notes.iter().any(|note| note.starts_with("the table of client addresses keeps its ")),
        "{notes:?}"
    );
    for key in ["workers", "scratch_bytes", "socket_buffer_bytes"] {
        let wanted = format!("`{key}` stays ");
        assert!(notes.iter().any(|note| note.starts_with(&wanted) && note.contains("restart")), "{notes:?}");
    }
    // Paths that this process cannot reach.
    let gone = edge.desk().path("acme").display().to_string();
    std::fs::write(edge.desk().toml(), toml.replace("[listen]", &format!("[listen]\nacme_dir = {gone:?}")))
        .unwrap();
    edge.desk().bundled();
    let refused = text(&edge.desk().ask(&["reload", "--json"]));
    assert!(refused.contains("needs a restart: [listen] acme_dir") && refused.contains(&gone), "{refused}");
    std::fs::create_dir(&gone).unwrap();
    assert!(edge.desk().ask(&["reload", "--json"]).status.success());
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_end_soon_are_said_and_a_wrong_clock_is_no_hindrance() {
    let desk = Edge::certified_for(&[HOST]).site(&[HOST], serve_default().await).write();
    let now = SystemTime::now();
    let write = |desk: &Desk, begins: SystemTime, ends: SystemTime| {
        let mut parameters = crate::support::certs::leaf_params(&[HOST]);
        (parameters.not_before, parameters.not_after) = (begins.into(), ends.into());
        let issued = desk.ca.issue_with(parameters, rcgen::KeyPair::generate().unwrap());
        std::fs::write(desk.path("0.pem"), issued.chain_pem).unwrap();
        std::fs::write(desk.path("0.key"), issued.key_pem).unwrap();
    };
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    write(&desk, now - 70 * DAY, now + 20 * DAY + DAY / 2);
    let edge = desk.serve();
    let line = edge.wait_for_log("certificate is overdue for renewal", PATIENCE);
    assert!(line.contains("level=warn") && line.contains("days_left=20") && line.contains("0.pem"), "{line}");
    assert_eq!(edge.status()["clock_believable"], true);
    assert!(edge.try_tls(HOST).await.is_ok());
    // A renewal that SIGHUP alone tells of, the old certificate being nearly at its end.
    write(edge.desk(), now - 83 * DAY, now + 7 * DAY - DAY / 2);
    let old = leaf(&edge).await;
    edge.reload();
    let line = edge.wait_for_log("days_left=6", PATIENCE);
    assert!(line.contains("level=error") && line.contains("certificate ends soon"), "{line}");
    assert_ne!(leaf(&edge).await, old, "the new certificate is served");
    edge.stop();
}

/// The certificate that a new connection gets.
async fn leaf(edge: &Edge) -> Vec<u8> {
    let stream = edge.tls(HOST).await;
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

/// To the edge it is all one whether its clock is behind or a certificate's beginning ahead.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_behind_is_said_and_does_not_stop_serving() {
    let desk = Edge::certified_for(&[HOST]).site(&[HOST], serve_default().await).write();
    desk.bundled();
    let mut bundle = sanedge::bundle::Bundle::open(&desk.bundle_file()).unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
    (bundle.certificates[0].not_before, bundle.certificates[0].not_after) = (now + 3600, now + 7200);
    let key = PrivateKeyDer::from_pem_file(desk.path("0.key")).unwrap();
    std::fs::write(desk.bundle_file(), bundle.encode(&[key]).unwrap()).unwrap();
    let notified = UnixDatagram::bind(desk.path("notify.sock")).unwrap();
    notified.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut serve = sanedge();
    serve.env("NOTIFY_SOCKET", desk.path("notify.sock"));
    let edge = desk.serve_by(serve);
    let line = edge.wait_for_log("the system clock is earlier", PATIENCE);
    assert!(line.contains("level=warn"), "{line}");
    let output = edge.desk().ask(&["status", "--json"]);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["clock_believable"], false);
    assert!(status["hosts"][0]["days_left"].is_null(), "{status}");
    let said = sanedge().args(["status", "--admin"]).arg(edge.desk().path("admin.sock")).output().unwrap();
    let said = text(&said);
    let row =
        said.lines().find(|line| line.starts_with(HOST)).unwrap().split_whitespace().collect::<Vec<_>>();
    assert!(row[2] == "?" && said.contains("days left are unknown"), "{said}");
    let mut bytes = [0; 4096];
    let ready = notified.recv(&mut bytes).unwrap();
    let ready = String::from_utf8_lossy(&bytes[..ready]);
    assert!(ready.contains("STATUS=0 of ") && !ready.contains("days"), "{ready}");
    let mut client = Http::new(edge.tls(HOST).await);
    assert_eq!(client.exchange("GET", HOST, "/socket.io/?EIO=4&transport=polling", "").await.status, 200);
    assert!(!edge.log().contains("certificate ends"), "days left are unknown");
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
    assert!(log.contains("drained") && !log.contains("drain_timeout reached"), "{log}");
    assert!(log.contains("sessions=2 idle=1 exchanges=1 websockets=0 others=0 cut=0"), "{log}");
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
    let line = edge.wait_for_log("ended at once by a second signal", PATIENCE);
    assert!(line.contains("cut=1"), "{line}");
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
    assert!(text(&second).contains("another sanedge listens there"), "{}", text(&second));
    let edge = edge.killed_and_served_again();
    assert_eq!(edge.status()["draining"], false);
    edge.stop();
    assert!(!socket.exists(), "a clean end takes the socket along");
}
