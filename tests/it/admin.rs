//! What operators and systemd are told: the admin socket with status, metrics and health, who may ask there, and the
//! notification socket.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::HOST;
use crate::support::edge::{Desk, Edge, PATIENCE, json, sanedge, text};
use crate::support::engineio::{Http, Socket, serve_default};
use crate::support::frames::{BINARY, CLOSE, MORE, PING, TEXT, client_frame, close, echo, frame};
use crate::support::node::{Interop, has, skip};
use crate::support::program::is_emulated;
use crate::support::prometheus;
use crate::support::raw::{Raw, upgrade};
use crate::support::stopped::StoppedThread;
use crate::support::upstream::{OK, SWITCHING, Upstream};
use rustix::process::Signal;
use sanedge::admin::endpoints::ENDPOINTS;
use serde_json::Value;

/// What the admin socket answered.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn field(&self, name: &str) -> Option<&str> {
        let wanted = format!("{name}: ");
        self.head.lines().find_map(|line| line.strip_prefix(&wanted))
    }

    fn json(&self) -> Value {
        assert_eq!(self.field("Content-Type"), Some("application/json"), "{}", self.body);
        serde_json::from_str(&self.body).unwrap()
    }
}

fn exchange(mut stream: impl Read + Write, request: &str) -> Answer {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let answer = Answer { status, head: head.replace('\r', ""), body: body.to_owned() };
    assert_eq!(answer.field("Content-Length").unwrap().parse(), Ok(body.len()));
    answer
}

fn socket(edge: &Edge) -> UnixStream {
    UnixStream::connect(edge.desk().path("admin.sock")).unwrap()
}

fn get(edge: &Edge, path: &str) -> Answer {
    exchange(socket(edge), &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
}

fn metrics(edge: &Edge) -> BTreeMap<String, f64> {
    let answer = get(edge, "/metrics");
    assert_eq!(answer.field("Content-Type"), Some("text/plain; version=0.0.4"));
    prometheus::parse(&answer.body)
}

/// Waits until `look` holds of the metrics.
async fn until(
    edge: &Edge,
    what: &str,
    look: impl Fn(&BTreeMap<String, f64>) -> bool,
) -> BTreeMap<String, f64> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = metrics(edge);
        if look(&now) {
            return now;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}: {now:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Of a TCP listener.
fn admin_address(edge: &Edge) -> SocketAddr {
    let line = edge.wait_for_log("kind=admin", PATIENCE);
    line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

async fn edge() -> Edge {
    Edge::certified_for(&[HOST]).site(&[HOST], serve_default().await).start()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_count_what_happened() {
    let upstream = Upstream::scripted(|mut connection| async move {
        while let Some(request) = connection.request().await {
            if request.head.contains("Upgrade") {
                connection.send(SWITCHING).await;
                return echo(connection).await;
            }
            let status = if request.head.starts_with("GET /good") { "200 OK" } else { "418 Teapot" };
            connection.send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")).await;
        }
    })
    .await;
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], &upstream).start();
    let before = metrics(&edge);
    assert_eq!(before["sanedge_sessions_open"], 0.0);
    assert_eq!(
        before[r#"sanedge_http_responses_total{host="recre.store",code="2xx"}"#], 0.0,
        "every series is there at once"
    );
    assert_eq!(before[r#"sanedge_websocket_closes_total{code="1000"}"#], 0.0);

    let mut client = Raw::open(&edge, HOST).await;
    client.send(upgrade(HOST, "/", "")).await;
    client.head().await;
    // Three messages, one of them in two frames with a Ping between.
    let frames = [(TEXT, true), (BINARY, true), (TEXT, false), (PING, true), (MORE, true)];
    let (mut sent_bytes, mut received_bytes) = (0, 0);
    for (opcode, fin) in frames {
        let bytes = client_frame(opcode, fin, b"twenty bytes in each");
        sent_bytes += bytes.len();
        client.send(bytes).await;
        let back = frame(&mut client).await;
        assert_eq!((back.opcode(), back.payload.as_slice()), (opcode, &b"twenty bytes in each"[..]));
        received_bytes += 2 + back.payload.len();
    }
    let open = metrics(&edge);
    let grown = |name: &str| open[name] - before[name];
    assert_eq!((open["sanedge_sessions_open"], open["sanedge_sessions_peak"]), (1.0, 1.0));
    assert_eq!(open[r#"sanedge_websockets_open{host="recre.store"}"#], 1.0);
    assert_eq!(grown(r#"sanedge_http_responses_total{host="recre.store",code="1xx"}"#), 1.0);
    assert_eq!(grown(r#"sanedge_websocket_messages_total{direction="received"}"#), 3.0);
    assert_eq!(grown(r#"sanedge_websocket_messages_total{direction="sent"}"#), 3.0);
    let head_bytes = upgrade(HOST, "/", "").len();
    assert_eq!(
        grown(r#"sanedge_client_bytes_total{direction="received"}"#) as usize,
        sent_bytes + head_bytes
    );
    assert!(grown(r#"sanedge_client_bytes_total{direction="sent"}"#) as usize > received_bytes);
    client.send(client_frame(CLOSE, true, &close(4001, "bye"))).await;
    assert_eq!(frame(&mut client).await.close().0, 4001);
    client.until_ended().await;

    let mut http = Http::new(edge.tls(HOST).await);
    assert_eq!(http.exchange("GET", HOST, "/good", "").await.status, 200);
    assert_eq!(http.exchange("GET", HOST, "/bad", "").await.status, 418);
    assert_eq!(http.exchange("GET", "other.test", "/", "").await.status, 421);
    assert!(edge.try_tls("unknown.test").await.is_err());
    let after = until(&edge, "all is counted", |now| {
        now[r#"sanedge_websockets_open{host="recre.store"}"#] == 0.0
            && now[r#"sanedge_refused_total{reason="unknown-server-name"}"#] == 1.0
    })
    .await;
    assert_eq!(after[r#"sanedge_http_responses_total{host="recre.store",code="2xx"}"#], 1.0);
    assert_eq!(after[r#"sanedge_http_responses_total{host="recre.store",code="4xx"}"#], 1.0);
    assert_eq!(after[r#"sanedge_refused_total{reason="misdirected"}"#], 1.0);
    assert_eq!(after[r#"sanedge_websockets_opened_total{host="recre.store"}"#], 1.0);
    let closes: f64 = after
        .iter()
        .filter(|(name, _)| name.starts_with("sanedge_websocket_closes_total"))
        .map(|(_, n)| n)
        .sum();
    assert_eq!(closes, 1.0);
    assert_eq!(after[r#"sanedge_websocket_closes_total{code="4xxx"}"#], 1.0, "{after:#?}");
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_down_is_reported_everywhere() {
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], "127.0.0.1:1").start();
    let said = text(&edge.desk().ask(&["status"]));
    assert!(said.ends_with("\n\nnothing is wrong\n"), "{said}");
    let mut http = Http::new(edge.tls(HOST).await);
    assert_eq!(http.exchange("GET", HOST, "/", "").await.status, 502);
    let now = metrics(&edge);
    assert_eq!(now[r#"sanedge_upstream_up{upstream="127.0.0.1:1"}"#], 0.0);
    assert!(now[r#"sanedge_upstream_connect_failures_total{upstream="127.0.0.1:1"}"#] >= 1.0);
    assert_eq!(now["sanedge_upstream_failures_total"], 1.0);
    assert_eq!(now[r#"sanedge_http_responses_total{host="recre.store",code="5xx"}"#], 1.0);
    let said = text(&edge.desk().ask(&["status"]));
    let row = said.lines().find(|line| line.starts_with("127.0.0.1:1 ")).unwrap();
    assert!(row.contains("DOWN") && row.contains("recre.store/"), "{said}");
    let problem = format!(
        "\n\nerror upstream 127.0.0.1:1 of recre.store does not accept connections. Type `sanedge doctor {}`\n",
        edge.desk().bundle_file().display()
    );
    assert!(said.ends_with(&problem), "{said}");
    let status = json(&edge.desk().ask(&["status", "--json"]));
    assert_eq!(status["problems"][0]["code"], "upstream-down", "{status}");
}

/// An edge that serves one host and has two without a certificate, and the same one without those two.
#[test]
fn hosts_without_a_certificate_are_named_by_status_check_log_and_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let acme =
        format!("[acme]\nterms = \"agreed\"\nstate = {:?}\nchallenges = {:?}", at("state"), at("challenges"));
    let edge = |hosts: &[&str]| {
        let desk = Edge::certified_for(&[HOST]).with_http().site(&[HOST], "127.0.0.1:1").listen(&acme);
        hosts.iter().fold(desk, |desk, host| desk.site(&[*host], "127.0.0.1:1")).start()
    };
    let run = |edge: &Edge, words: &[&str]| {
        let file = edge.desk().bundle_file();
        let output = sanedge().args(words).arg(&file).output().unwrap();
        (
            output.status.code(),
            text(&output),
            format!("sanedge renew {} --now", file.with_extension("acme").display()),
        )
    };

    let waits = edge(&["a.recre.store", "b.recre.store"]);
    let status = waits.status();
    let codes = |status: &serde_json::Value| {
        let problems = status["problems"].as_array().unwrap().iter();
        problems.map(|problem| problem["code"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(status["pending"], serde_json::json!(["a.recre.store", "b.recre.store"]), "{status}");
    assert_eq!(codes(&status), ["certificate-pending"], "{status}");
    let (_, said, command) = run(&waits, &["status", "--bundle"]);
    assert_eq!(status["problems"][0]["command"], command.as_str());
    let row = |host: &str| {
        said.lines().any(|line| line.starts_with(host) && line.contains("pending (sanedge renew)"))
    };
    assert!(row("a.recre.store") && row("b.recre.store") && !row(HOST), "{said}");
    assert!(
        said.contains(&format!(
            "error a.recre.store and b.recre.store wait for a first certificate: clients are refused. Type `{command}`"
        )),
        "{said}"
    );
    let (code, said, _) = run(&waits, &["show", "--check"]);
    assert!(code == Some(1) && said.contains("[certificate-pending]") && said.contains(&command), "{said}");
    let line = waits.wait_for_log("hosts wait for their first certificate", PATIENCE);
    assert!(line.contains("a.recre.store and b.recre.store") && line.contains(&command), "{line}");
    assert_eq!(metrics(&waits)["sanedge_hosts_pending"], 2.0);

    // What `sanedge renew` tells of its runs.
    assert!(status["acme"].is_null());
    std::fs::create_dir(at("challenges")).unwrap();
    let failure = serde_json::json!({
        "code": "acme-connection", "found": "no answer", "means": "Port 80 is closed.", "remedy": "Forward it.", "at": 1
    });
    let told = serde_json::json!({ "at": 2, "poll_at": 0, "failures": { "acme-connection": 3 }, "certificates": [{
        "names": ["a.recre.store"], "directory": "https://ca.test/dir", "staging": true, "profile": "auto", "outcome": "failed",
        "not_after": null, "next": 1_900_000_000, "why": null, "failure": failure
    }]});
    std::fs::write(format!("{}/status.json", at("challenges")), told.to_string()).unwrap();
    let status = waits.status();
    assert_eq!(status["acme"], told);
    assert_eq!(codes(&status), ["certificate-pending", "acme-connection", "acme-staging"], "{status}");
    let (_, said, _) = run(&waits, &["status", "--bundle"]);
    for words in [
        "STAGING ca.test/dir",
        "2030-03-17 17:46 UTC",
        "Port 80 is closed. Forward it",
        "STAGING: the certificate of a.recre",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let metrics_of = metrics(&waits);
    assert_eq!(metrics_of["sanedge_acme_failures_total{code=\"acme-connection\"}"], 3.0);
    assert_eq!(metrics_of["sanedge_acme_next_attempt_timestamp_seconds{host=\"a.recre.store\"}"], 1.9e9);
    // Another file in its place is none of it.
    std::fs::write(format!("{}/status.json", at("challenges")), "{").unwrap();
    assert!(waits.status()["acme"].is_null());
    waits.stop();

    let served = edge(&[]);
    let status = served.status();
    assert!(codes(&status).is_empty() && status["pending"] == serde_json::json!([]), "{status}");
    let (_, said, _) = run(&served, &["status", "--bundle"]);
    assert!(said.contains("nothing is wrong") && !said.contains("pending"), "{said}");
    let (code, said, _) = run(&served, &["show", "--check"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(metrics(&served)["sanedge_hosts_pending"], 0.0);
    assert!(!served.log().contains("first certificate"), "{}", served.log());
    served.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_finds_nothing_to_say() {
    let test = "promtool_finds_nothing_to_say";
    if !has("promtool", "--version") {
        return skip(test, "it needs promtool of Prometheus");
    }
    let edge = edge().await;
    let text = get(&edge, "/metrics").body;
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(
        output.status.success() && crate::support::edge::text(&output).is_empty(),
        "{}",
        crate::support::edge::text(&output)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_the_edge_live_on_a_desk_and_on_a_phone() {
    let test = "the_page_shows_the_edge_live_on_a_desk_and_on_a_phone";
    let Some(interop) = Interop::ready(test) else { return };
    let edge = Edge::certified_for(&[HOST, "socket.recre.store"])
        .site(&[HOST, "socket.recre.store"], "127.0.0.1:1")
        .admin("127.0.0.1:0")
        .start();
    let _session = edge.tls(HOST).await;
    let url = format!("http://{}/", admin_address(&edge));
    let shots = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("status-page");
    std::fs::create_dir_all(&shots).unwrap();
    let problem = format!(
        "upstream 127.0.0.1:1 of {HOST} and socket.recre.store does not accept connections. Type sanedge doctor {}",
        edge.desk().bundle_file().display()
    );
    let parameters = serde_json::json!({
        "url": url, "sessions": 1, "hosts": [HOST, "socket.recre.store"], "shots": shots, "problem": problem,
    });
    let ca = edge.desk().ca_file();
    let Some(browser) = interop.start_browser(test, &ca, "status", &parameters) else { return };
    browser.wait("serving");
    assert_eq!(Http::new(edge.tls(HOST).await).exchange("GET", HOST, "/", "").await.status, 502);
    browser.wait("ready");
    edge.stop();
    assert_eq!(browser.finish().last().unwrap()["event"], "passed");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_reading_and_only_for_loopback_hosts_over_tcp() {
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], "127.0.0.1:1").admin("127.0.0.1:0").start();
    let address = admin_address(&edge);
    let ask = |method: &str, path: &str, host: &str| {
        exchange(
            TcpStream::connect(address).unwrap(),
            &format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        )
    };
    let mut read = 0;
    let readable = ENDPOINTS.iter().filter(|endpoint| endpoint.method == "GET").map(|endpoint| endpoint.path);
    for path in readable.chain(["/status?x=1"]) {
        for host in ["localhost", "LOCALHOST:9443", "127.0.0.1", "127.9.9.9:80", "[::1]:80"] {
            let answer = ask("GET", path, host);
            assert_eq!(answer.status, 200, "{path} for {host}: {}", answer.body);
            assert_eq!(answer.field("Access-Control-Allow-Origin"), None);
            assert!(answer.field("Content-Security-Policy").unwrap().starts_with("default-src 'none'"));
            read += 1;
        }
        for host in ["evil.test", "localhost.evil.test", "recre.store", "10.0.0.1", "admin"] {
            assert_eq!(ask("GET", path, host).status, 403, "{path} for {host}");
            read += 1;
        }
    }
    assert_eq!(read, 80);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "HEAD"] {
        let answer = ask(method, "/status", "localhost");
        assert_eq!((answer.status, answer.field("Allow")), (405, Some("GET")), "{method}");
    }
    assert_eq!(ask("POST", "/reload", "localhost").status, 403, "never over TCP");
    assert_eq!(ask("GET", "/reload", "localhost").status, 405);
    let none = ask("GET", "/secret", "localhost");
    assert_eq!(none.status, 404);
    assert!(
        none.body.contains("GET / /status /history /metrics /healthz /readyz /check, POST /reload"),
        "{}",
        none.body
    );
    assert_eq!(ask("GET", "no-path", "localhost").status, 400);
    assert!(!edge.log().contains("msg=reloaded"), "{}", edge.log());
    let said = sanedge().args(["status", "--admin", &address.to_string()]).output().unwrap();
    assert!(said.status.success() && text(&said).contains(HOST), "{}", text(&said));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_reads_the_unix_socket_or_reloads_through_a_tunnel() {
    let edge = edge().await;
    let ask = |method: &str, path: &str, host: &str, fields: &str| {
        exchange(socket(&edge), &format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")).status
    };
    for (host, status) in
        [("localhost:9443", 200), ("sanedge", 200), ("192.168.1.2", 200), ("evil.test", 403)]
    {
        assert_eq!(ask("GET", "/status", host, ""), status, "{host}");
    }
    for fields in [
        "Origin: http://localhost:9443\r\n",
        "Origin: null\r\n",
        "Sec-Fetch-Site: none\r\n",
        "Referer: http://x\r\n",
    ] {
        assert_eq!(ask("POST", "/reload", "localhost", fields), 403, "{fields}");
    }
    assert!(!edge.log().contains("msg=reloaded"), "{}", edge.log());
    assert_eq!(ask("POST", "/reload", "localhost", ""), 200);
    edge.wait_for_log("msg=reloaded", PATIENCE);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_readiness_part_when_the_edge_drains() {
    let edge = Edge::certified_for(&[HOST])
        .top("drain_timeout = \"10m\"")
        .site(&[HOST], serve_default().await)
        .start();
    assert_eq!((get(&edge, "/healthz").status, get(&edge, "/readyz").status), (200, 200));
    let mut socket = Socket::open(&edge, HOST, "").await;
    socket.join("/").await;
    edge.signal(Signal::TERM);
    edge.wait_for_log("msg=draining", PATIENCE);
    let ready = get(&edge, "/readyz");
    assert_eq!((ready.status, ready.body.as_str()), (503, "draining\n"));
    assert_eq!(get(&edge, "/healthz").status, 200, "who drains is alive");
    assert_eq!(metrics(&edge)["sanedge_draining"], 1.0);
    let said = text(&edge.desk().ask(&["status"]));
    assert!(said.contains("DRAINING"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn status_is_for_people_and_for_programs() {
    let upstream = Upstream::answering(OK).await;
    let edge = Edge::certified_for(&[HOST, "b.recre.store"])
        .site(&[HOST, "b.recre.store"], &upstream)
        .limits("sessions_max = 100\nhandshakes_max = 20\nworkers = 2")
        .start();
    let _session = edge.tls(HOST).await;
    let output = edge.desk().ask(&["status"]);
    assert_eq!(output.status.code(), Some(0));
    let said = text(&output);
    for wanted in [
        "for board host",
        "1 now, 1 at the peak, 100 at most",
        "messages/s",
        "2 workers",
        "MiB of at most",
        "days left",
        "b.recre.store",
        "0.pem",
    ] {
        assert!(said.contains(wanted), "no `{wanted}` in\n{said}");
    }
    assert!(said.lines().all(|line| line.len() <= 120), "{said}");
    let json: Value = serde_json::from_slice(&edge.desk().ask(&["status", "--json"]).stdout).unwrap();
    assert_eq!(json["sessions_peak"], 1);
    assert_eq!(json["workers_stuck"], serde_json::json!([]));
    let bytes = |name: &str| json["process"][name].as_u64().unwrap();
    // An emulator's own memory is no business of the budget.
    assert!(is_emulated() || bytes("resident_bytes") < bytes("budget_bytes"), "{json}");
    assert_eq!(json["hosts"][1]["host"], HOST);
    assert!(json["hosts"][1]["days_left"].as_i64().unwrap() > 0);
    let history = get(&edge, "/history").json();
    assert_eq!((&history["interval_s"], &history["points_max"]), (&5.into(), &720.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_cannot_be_shown_is_a_failure() {
    let edge = edge().await;
    let admin = edge.desk().path("admin.sock");
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut tried = 0;
    for arguments in
        [&["status"][..], &["status", "--json"], &["status", "--watch"], &["reload"], &["reload", "--json"]]
    {
        let mut command = sanedge();
        let output = command.args(arguments).arg("--admin").arg(&admin).stdout(full()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(text(&output).contains("cannot write to standard output"), "{}", text(&output));
        tried += 1;
    }
    assert_eq!(tried, 5);
    let nobody = sanedge().args(["status", "--watch", "--admin", "/nowhere/admin.sock"]).output().unwrap();
    assert_eq!(nobody.status.code(), Some(1));
    assert!(text(&nobody).contains("--admin"), "{}", text(&nobody));
}

#[test]
fn without_a_running_edge_the_command_says_what_to_type() {
    let folder = tempfile::tempdir().unwrap();
    let say = |arguments: &[&str]| sanedge().args(arguments).current_dir(&folder).output().unwrap();
    for (arguments, status, said) in [
        (&["status", "--admin", "./admin.sock"][..], 1, "unix:./admin.sock: No such file"),
        (&["status", "--admin", "unix:admin.sock"], 1, "No edge listens there."),
        (&["reload", "--admin", "unix:admin.sock"], 1, "sudo systemctl start sanedge"),
        (&["status", "--admin", "127.0.0.1:1"], 1, "cannot reach an edge at 127.0.0.1:1"),
        (&["status", "--admin", "admin.sock"], 2, "a path that contains a slash (`./admin.sock`)"),
        (&["status", "--admin", "unix:"], 2, "a path that contains a slash"),
        (&["reload", "--admin", "127.0.0.1:9443"], 2, "is read-only"),
        (&["reload", "--admin", "127.0.0.1:9443"], 2, "sudo systemctl kill -s HUP sanedge"),
        (&["status", "--help"], 0, "a relative path starts at the current folder"),
        (&["reload", "--help"], 0, "a relative path starts at the current folder"),
    ] {
        let output = say(arguments);
        let told = text(&output).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {told}");
        assert!(told.to_lowercase().contains(&said.to_lowercase()), "{said} in {told}");
        assert!(!told.contains("SIGHUP"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relative_path_to_the_admin_socket_begins_at_the_current_folder() {
    let edge = edge().await;
    for admin in ["./admin.sock", "unix:admin.sock"] {
        let mut command = sanedge();
        let folder = edge.desk().toml().parent().unwrap().to_owned();
        let output = command.args(["status", "--admin", admin]).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "{admin}: {}", text(&output));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_goes_on_while_it_is_watched_and_over_an_outage() {
    let edge = edge().await;
    let mut watching = sanedge();
    watching.args(["status", "--watch", "--json", "--admin"]).arg(edge.desk().path("admin.sock"));
    let mut watching = watching.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines().map(|line| line.unwrap());
    let mut next = || serde_json::from_str::<Value>(&lines.next().expect("it goes on")).unwrap();
    assert_eq!(next()["sessions"], 0);
    let _session = edge.tls(HOST).await;
    while next()["sessions"] != 1 {}
    let edge = edge.killed_and_served_again();
    while next()["sessions"] != 0 {}
    drop(lines);
    // Nobody reads on: it ends by itself.
    assert_eq!(watching.wait().unwrap().code(), Some(0));
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_is_json_on_a_socket_and_tells_what_it_leaves_out() {
    let folder = tempfile::tempdir().unwrap();
    let reader = UnixDatagram::bind(folder.path().join("access.sock")).unwrap();
    reader.set_read_timeout(Some(PATIENCE)).unwrap();
    let line = || {
        let mut bytes = [0; 4096];
        let count = reader.recv(&mut bytes).expect("a line in time");
        serde_json::from_slice::<Value>(&bytes[..count]).unwrap()
    };
    let place = format!("unix:{}", folder.path().join("access.sock").display());
    let upstream = Upstream::answering(OK).await;
    let edge = Edge::certified_for(&[HOST, "quiet.recre.store"])
        .site_with(&[HOST], &upstream, "access_log = true")
        .site(&["quiet.recre.store"], &upstream)
        .options(&["--access-log", "json", "--access-log-to", &place])
        .start();
    let mut quiet = Http::new(edge.tls("quiet.recre.store").await);
    assert_eq!(quiet.exchange("GET", "quiet.recre.store", "/quiet", "").await.status, 200);
    let mut http = Http::new(edge.tls(HOST).await);
    assert_eq!(http.exchange("GET", HOST, "/a%20b?EIO=4&sid=secret&t=1", "").await.status, 200);
    let first = line();
    let shown = [
        ("host", HOST),
        ("method", "GET"),
        ("target", "/a%20b?EIO=4&t=1"),
        ("outcome", "complete"),
        ("client", "127.0.0.1"),
    ];
    for (key, value) in shown {
        assert_eq!(first[key], value, "{first}");
    }
    assert!(first["status"] == 200 && first["ms"].is_u64() && first["time"].is_string(), "{first}");
    // However many come at once, each has a line or is counted in the next one.
    let (mut asked, mut told) = (0, 0);
    let deadline = Instant::now() + PATIENCE;
    for at in 0.. {
        assert_eq!(http.exchange("GET", HOST, "/", "").await.status, 200);
        asked += 1;
        reader.set_nonblocking(true).unwrap();
        let mut bytes = [0; 4096];
        while let Ok(count) = reader.recv(&mut bytes) {
            let line: Value = serde_json::from_slice(&bytes[..count]).unwrap();
            told += 1 + line["skipped"].as_u64().unwrap_or(0);
        }
        if at >= 300 && told == asked {
            break;
        }
        assert!(told <= asked && Instant::now() < deadline, "{told} of {asked}");
    }
    assert!(!edge.log().contains("msg=request"), "{}", edge.log());
    edge.stop();
}

/// Who reads an access log in JSON at `path`.
fn access_reader(path: &std::path::Path) -> impl Fn() -> Value {
    let reader = UnixDatagram::bind(path).unwrap();
    reader.set_read_timeout(Some(PATIENCE)).unwrap();
    move || {
        let mut bytes = [0; 16_384];
        let count = reader.recv(&mut bytes).expect("a line in time");
        serde_json::from_slice(&bytes[..count]).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_the_access_log_may_come_late_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.sock");
    let upstream = Upstream::answering(OK).await;
    let edge = Edge::certified_for(&[HOST])
        .site_with(&[HOST], &upstream, "access_log = true")
        .options(&["--access-log", "json", "--access-log-to", &format!("unix:{}", path.display())])
        .start();
    edge.wait_for_log("access log lines are lost", PATIENCE);
    let mut http = Http::new(edge.tls(HOST).await);
    for lost in [2, 1] {
        for _ in 0..lost {
            assert_eq!(http.exchange("GET", HOST, "/lost", "").await.status, 200);
        }
        let line = access_reader(&path);
        assert_eq!(http.exchange("GET", HOST, "/read", "").await.status, 200);
        // The last of them may be written when the reader has just come.
        let mut told = 0;
        loop {
            let line = line();
            told += line["skipped"].as_u64().unwrap_or(0);
            match line["target"].as_str().unwrap() {
                "/read" => break,
                _ => told += 1,
            }
        }
        assert_eq!(told, lost);
        // A reader that ends leaves its socket's name behind, and the next one takes it.
        drop(line);
        std::fs::remove_file(&path).unwrap();
    }
    let log = edge.stop();
    assert_eq!(
        log.matches("lines are lost").count(),
        2,
        "at the start, and of this minute's lines once: {log}"
    );
}

#[test]
fn an_access_log_whose_path_no_socket_can_have_is_said_at_the_start() {
    let desk = Edge::certified_for(&[HOST]).site(&[HOST], "127.0.0.1:1").write();
    desk.bundled();
    let place = format!("unix:/{}", "x".repeat(200));
    let output =
        sanedge().arg("serve").arg(desk.bundle_file()).args(["--access-log-to", &place]).output().unwrap();
    assert!(output.status.code() == Some(1) && text(&output).contains("access log"), "{}", text(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_edge_answers_itself_has_its_line_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.sock");
    let line = access_reader(&path);
    let site = "access_log = true
        [[site.route]]\npath = \"/app\"\nupstream = [\"127.0.0.1:1\"]\nbody_bytes_max = 10\naccess_log = true
        [[site.route]]\npath = \"/home\"\nupstream = [\"127.0.0.1:1\"]\nallow = [\"192.0.2.0/24\"]\naccess_log = true
        [[site.route]]\npath = \"/quiet\"\nupstream = [\"127.0.0.1:1\"]\nallow = [\"192.0.2.0/24\"]\naccess_log = false\n";
    let edge = Edge::certified_for(&[HOST, "quiet.recre.store"])
        .site_with(&[HOST], "127.0.0.1:1", site)
        .site_with(&["quiet.recre.store"], "127.0.0.1:1", "allow = [\"192.0.2.0/24\"]")
        .limits("address_websockets_per_s_max = 1")
        .top("exempt = []")
        .options(&["--access-log", "json", "--access-log-to", &format!("unix:{}", path.display())])
        .start();
    let post = |bytes: usize| {
        format!("POST /app HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {bytes}\r\n\r\n{}", "x".repeat(bytes))
    };
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let mut asked = 0;
    for (request, status, outcome) in [
        (get("/"), 502, "upstream_unreachable"),
        (get("/home"), 403, "address_refused"),
        (get("/app/..%2fhome"), 400, "ambiguous_path"),
        (post(11), 413, "body_too_large"),
        (post(10), 502, "upstream_unreachable"),
        ("GET / HTTP/1.1\r\nHost: unknown.test\r\n\r\n".to_owned(), 421, "misdirected"),
        (upgrade(HOST, "/", "Origin: https://evil.test\r\n"), 403, "origin_refused"),
        (upgrade(HOST, "/", "").replace("Version: 13", "Version: 12"), 426, "websocket_version"),
    ] {
        for quiet in ["/quiet", "/quiet/too"] {
            let mut client = Raw::open(&edge, HOST).await;
            client.get(HOST, quiet, "").await.assert_ours(403, "address_refused");
        }
        let mut client = Raw::open(&edge, "quiet.recre.store").await;
        client.get("quiet.recre.store", "/", "").await.assert_ours(403, "address_refused");
        let mut client = Raw::open(&edge, HOST).await;
        client.send(&request).await;
        client.response().await.assert_ours(status, outcome);
        let line = line();
        assert_eq!(
            (&line["status"], &line["outcome"]),
            (&status.into(), &outcome.into()),
            "{request}: {line}"
        );
        assert!(line["client"] == "127.0.0.1" && line["ms"].is_u64(), "{line}");
        asked += 1;
    }
    assert_eq!(asked, 8);
    // Until the one that is too many within its second.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut client = Raw::open(&edge, HOST).await;
        client.send(upgrade(HOST, "/", "")).await;
        let found = (client.response().await.status, line());
        assert_eq!(found.1["status"], found.0, "{}", found.1);
        if found.0 == 429 {
            break;
        }
        assert!(Instant::now() < deadline, "never too many");
    }
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirected_request_has_its_line_where_the_site_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.sock");
    let line = access_reader(&path);
    let site = |host: &str, keys: &str| {
        format!("[[site]]\nhosts = [\"{host}.recre.store\"]\nredirect = \"https://recre.example\"\n{keys}\n")
    };
    let hosts = ["www.recre.store", "none.recre.store", "quiet.recre.store"];
    let edge = Edge::certified_for(&hosts)
        .site_text(&site("www", "access_log = true"))
        .site_text(&site("none", ""))
        .site_text(&site("quiet", "access_log = false"))
        .options(&["--access-log", "json", "--access-log-to", &format!("unix:{}", path.display())])
        .start();
    for (host, target) in [(hosts[1], "/no"), (hosts[2], "/no"), (hosts[0], "/a?sid=secret")] {
        let mut client = Raw::open(&edge, host).await;
        for _ in 0..2 {
            assert_eq!(client.get(host, target, "").await.status, 308, "{host}");
        }
    }
    // Only those of the first host, and one line for each.
    let mut client = Raw::open(&edge, hosts[0]).await;
    client.send(upgrade(hosts[0], "/last", "")).await;
    assert_eq!(client.response().await.status, 308);
    for target in ["/a", "/a", "/last"] {
        let line = line();
        assert_eq!(
            (&line["host"], &line["status"], &line["outcome"], &line["client"]),
            (&hosts[0].into(), &308.into(), &"redirected".into(), &"127.0.0.1".into()),
            "{line}"
        );
        let shown = line["target"].as_str().unwrap();
        assert!(shown.starts_with(target) && !shown.contains("secret"), "{line}");
    }
    // What the site refuses itself, too.
    let mut client = Raw::open(&edge, hosts[0]).await;
    client.get("unknown.test", "/", "").await.assert_ours(421, "misdirected");
    assert_eq!(line()["status"], 421);
    let shown = sanedge().args(["show", "--json"]).arg(edge.desk().bundle_file()).output().unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    let logs = shown["sites"].as_array().unwrap().iter().map(|site| site["access_log"].clone());
    assert_eq!(logs.filter(|log| *log == true).count(), 1, "{shown:#}");
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_the_access_log_is_cut_in_json_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.sock");
    let line = access_reader(&path);
    let upstream = Upstream::answering(OK).await;
    let edge = Edge::certified_for(&[HOST])
        .site_with(&[HOST], &upstream, "access_log = true")
        .options(&["--access-log", "json", "--access-log-to", &format!("unix:{}", path.display())])
        .start();
    let mut http = Http::new(edge.tls(HOST).await);
    let path = |length: usize| format!("/{}", "word/".repeat(40)).chars().take(length).collect::<String>();
    let (whole, key) = (path(96), "/MC4CAQAwBQYDK2VwBCIEIOB4yvQh9ZrTkWm3xN8s");
    for (asked, shown) in [
        (whole.clone(), whole),
        (path(97), format!("{}...", path(95))),
        (key.to_owned(), "/[40 characters hidden]".to_owned()),
    ] {
        assert_eq!(http.exchange("GET", HOST, &asked, "").await.status, 200);
        assert_eq!(line()["target"], shown.as_str());
    }
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_file_is_seen_while_status_is_polled_all_the_time() {
    let edge = Edge::certified_for(&[HOST]).top("watch = true").site(&[HOST], "127.0.0.1:1").start();
    edge.desk().write_certificate(0, &[HOST]);
    edge.desk().bundled();
    let deadline = Instant::now() + PATIENCE;
    while !edge.log().contains("msg=reloaded") {
        assert!(Instant::now() < deadline, "{}", edge.log());
        assert_eq!(get(&edge, "/status").status, 200);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// systemd's side of a `Type=notify` service.
struct Manager {
    socket: UnixDatagram,
    path: String,
}

impl Manager {
    fn in_folder(desk: &Desk) -> Self {
        let path = desk.path("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE * 2)).unwrap();
        Self { socket, path: path.to_str().unwrap().to_owned() }
    }

    /// The next notification; `None` where none comes within the socket's time.
    fn next(&self) -> Option<String> {
        let mut bytes = [0; 4096];
        let count = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8(bytes[..count].to_vec()).unwrap())
    }

    /// Skips to one that holds `wanted`.
    fn wait(&self, wanted: &str) -> String {
        let mut heard = Vec::new();
        loop {
            let next = self.next().unwrap_or_else(|| panic!("no `{wanted}` in time, but {heard:?}"));
            if next.contains(wanted) {
                return next;
            }
            heard.push(next);
        }
    }
}

#[test]
fn systemd_hears_of_readiness_reloads_and_the_end() {
    let desk = Edge::certified_for(&[HOST]).site(&[HOST], "127.0.0.1:1").write();
    let manager = Manager::in_folder(&desk);
    let path = manager.path.clone();
    let edge = desk.serve_with(&[("NOTIFY_SOCKET", &path)]);
    let ready = manager.next().unwrap();
    assert!(ready.contains("READY=1") && ready.contains("STATUS=0 of "), "{ready}");
    edge.reload();
    let reloading = manager.wait("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    assert!(manager.next().unwrap().contains("READY=1"));
    // A reload that is refused ends as well: else systemd would wait for it.
    std::fs::write(edge.desk().bundle_file(), "nonsense").unwrap();
    edge.signal(Signal::HUP);
    manager.wait("RELOADING=1");
    assert!(manager.next().unwrap().contains("READY=1"));
    // One line every half a minute, without anything having happened.
    let line = manager.wait("STATUS=");
    assert!(
        !line.contains("READY") && line.contains("messages/s") && !line.trim_end().contains('\n'),
        "{line}"
    );
    edge.signal(Signal::TERM);
    manager.wait("STOPPING=1");
    edge.ended();
    while let Ok(()) = manager.socket.set_nonblocking(true) {
        match manager.next() {
            Some(said) => assert!(!said.contains("WATCHDOG"), "nobody asked for a watchdog"),
            None => break,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_takes_back_that_the_edge_stops() {
    let desk = Edge::certified_for(&[HOST]).site(&[HOST], serve_default().await).write();
    let manager = Manager::in_folder(&desk);
    let edge = desk.serve_with(&[("NOTIFY_SOCKET", &manager.path.clone())]);
    // Its client answers no Close, so that there is something to wait for.
    let mut open = Raw::open(&edge, HOST).await;
    open.send(upgrade(HOST, "/socket.io/?EIO=4&transport=websocket", "")).await;
    assert!(open.head().await.starts_with("HTTP/1.1 101 "));
    edge.signal(Signal::TERM);
    manager.wait("STOPPING=1");
    edge.signal(Signal::HUP);
    edge.wait_for_log("is draining and accepts no new bundle", PATIENCE);
    manager.socket.set_nonblocking(true).unwrap();
    while let Some(said) = manager.next() {
        assert!(!said.contains("READY=1") && !said.contains("RELOADING=1"), "{said}");
    }
    drop(open);
    edge.ended();
}

#[test]
fn a_stuck_worker_stops_the_watchdogs_pings() {
    let desk = Edge::certified_for(&[HOST]).site(&[HOST], "127.0.0.1:1").limits("workers = 2").write();
    let manager = Manager::in_folder(&desk);
    let path = manager.path.clone();
    // A worker counts as stuck after half of this.
    let edge = desk.serve_with(&[("NOTIFY_SOCKET", &path), ("WATCHDOG_USEC", "8000000")]);
    for _ in 0..3 {
        manager.wait("WATCHDOG=1");
    }
    assert_eq!(get(&edge, "/healthz").body, "ok\n");
    let Some(stopped) = StoppedThread::named(edge.pid(), "worker-1") else {
        return skip("a_stuck_worker_stops_the_watchdogs_pings", "it needs the right to trace its child");
    };
    edge.wait_for_log("workers do not run their tasks", PATIENCE);
    let healthy = get(&edge, "/healthz");
    assert_eq!((healthy.status, get(&edge, "/readyz").status), (503, 503));
    assert!(
        healthy.body.contains("workers do not run their tasks") && healthy.body.contains('1'),
        "{}",
        healthy.body
    );
    assert_eq!(metrics(&edge)["sanedge_workers_stuck"], 1.0);
    // Of the pings before, none may be left; then silence, which can only be broken by one.
    manager.socket.set_nonblocking(true).unwrap();
    while manager.next().is_some() {}
    manager.socket.set_nonblocking(false).unwrap();
    manager.socket.set_read_timeout(Some(Duration::from_secs(4))).unwrap();
    assert_eq!(manager.next().filter(|said| said.contains("WATCHDOG")), None, "a ping for a stuck worker");
    drop(stopped);
    edge.wait_for_log("all workers run their tasks again", PATIENCE);
    manager.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    manager.wait("WATCHDOG=1");
    assert_eq!(get(&edge, "/healthz").status, 200);
    edge.stop();
}

#[test]
fn the_reader_refuses_what_breaks_a_rule() {
    let good = "# HELP a_total x\n# TYPE a_total counter\na_total{b=\"c\\\"\\\\\\n\",d=\"\"} 1.5\na_total{b=\"e\"} 0\n";
    assert_eq!(prometheus::parse(good).len(), 2);
    let mut refused = 0;
    for (from, to) in [
        ("0\n", "0"),
        ("1.5", "x"),
        ("1.5", "NaN"),
        ("b=\"e\"", "b=\"e\",b=\"f\""),
        ("b=\"e\"", "b=\"e\","),
        ("b=\"e\"", "b=e"),
        ("b=\"e\"", "2=\"e\""),
        ("\\n", "\\t"),
        ("d=\"\"", "d=\"\"\""),
        ("b=\"e\"", "b=\"c\\\"\\\\\\n\",d=\"\""),
        ("TYPE a_total counter", "TYPE a_total gauge"),
        ("TYPE a_total", "TYPE b_total"),
        ("# HELP a_total x\n", ""),
        ("# HELP a_total x", "# HELP a_total "),
        ("# TYPE a_total counter\n", ""),
        ("a_total{b=\"e\"} 0\n", "b 1\n"),
    ] {
        let bad = good.replace(from, to);
        assert_ne!(bad, good, "{from}");
        assert!(std::panic::catch_unwind(|| prometheus::parse(&bad)).is_err(), "taken:\n{bad}");
        refused += 1;
    }
    assert_eq!(refused, 16);
}

/// `sanedge serve` of a bundle that is not there, on a terminal of util-linux's `script`: what it shows.
fn shown_on_a_terminal(program: &str, environment: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &format!("{program} serve /none.bundle")]);
    script.arg(folder.path().join("typescript")).env_remove("NO_COLOR").env("TERM", "xterm");
    let output = script.envs(environment.iter().copied()).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    text(&output)
}

#[test]
fn the_log_is_readable_on_a_terminal_and_pairs_elsewhere_unless_asked() {
    let test = "the_log_is_readable_on_a_terminal_and_pairs_elsewhere_unless_asked";
    if !has("script", "--version") {
        return skip(test, "it needs script of util-linux (Debian: bsdutils)");
    }
    let command = sanedge();
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let program = words.map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ");
    let said = shown_on_a_terminal(&program, &[]);
    let (red, dim, plain) = ("\x1b[1;31m", "\x1b[2m", "\x1b[0m");
    assert!(said.contains(&format!("{red}error{plain} cannot serve {dim} error=\"")), "{said:?}");
    let said = shown_on_a_terminal(&program, &[("NO_COLOR", "1")]);
    assert!(said.contains(" error cannot serve  error=\"") && !said.contains('\x1b'), "{said:?}");
    let said = shown_on_a_terminal(&program, &[("JOURNAL_STREAM", "8:1")]);
    assert!(said.starts_with(red), "no time: {said:?}");
    // No terminal.
    let on_a_pipe =
        |words: &[&str]| text(&sanedge().args(["serve", "/none.bundle"]).args(words).output().unwrap());
    let said = on_a_pipe(&[]);
    assert!(said.contains("level=error msg=\"cannot serve\" error=\""), "{said}");
    let said = on_a_pipe(&["--log", "readable"]);
    assert!(said.contains(" error cannot serve  error=\"") && !said.contains('\x1b'), "{said}");
    let said: Value = serde_json::from_str(&on_a_pipe(&["--log", "json"])).unwrap();
    assert_eq!((&said["level"], &said["msg"]), (&"error".into(), &"cannot serve".into()), "{said}");
    assert!(said["error"].as_str().unwrap().contains("/none.bundle"), "{said}");
}
