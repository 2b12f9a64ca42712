//! `sanedge doctor`: what it must not do, what it says of files and usage, and that its documents are its own. The faults
//! themselves hang in `doctor_gallery`.

use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::support::SOCKET_HOST as HOST;
use crate::support::doctor_schema as schema;
use crate::support::edge::{Desk, Edge, sanedge, text};
use crate::support::program::install;
use crate::support::upstream::Upstream;
use serde_json::Value;
use socketioxide::SocketIo;
use socketioxide::extract::SocketRef;

const SECRET: &str = "s3cr3t-of-the-user";

/// Runs doctor beside the test's own servers.
async fn doctor(arguments: &[&str]) -> Output {
    let mut command = sanedge();
    command.arg("doctor").args(arguments);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// Against an edge on this machine, whose CA doctor does not know unless told.
async fn at(edge: &Edge, arguments: &[&str]) -> Output {
    let url = edge.url(HOST);
    let resolve = format!("{HOST}:127.0.0.1");
    doctor(&[&[url.as_str(), "--resolve", &resolve], arguments].concat()).await
}

fn trusting(edge: &Edge) -> String {
    edge.desk().ca_file().display().to_string()
}

fn json(output: &Output) -> Value {
    let report =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(output)));
    schema::holds(&report);
    report
}

fn codes(report: &Value) -> Vec<String> {
    let checks = report["sections"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|section| section["checks"].as_array().unwrap());
    checks.filter_map(|check| check["code"].as_str()).map(str::to_owned).collect()
}

/// An app that is asked and answers nothing useful; it remembers what it was sent.
async fn listener() -> Upstream {
    Upstream::answering("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await
}

fn heard(app: &Upstream) -> String {
    app.records().iter().map(|record| String::from_utf8_lossy(&record.received).into_owned()).collect()
}

const PRIVATE: [&str; 8] = [
    "--cookie",
    "session=s3cr3t-of-the-user",
    "--header",
    "Authorization: Bearer s3cr3t-of-the-user",
    "--query",
    "uuId=s3cr3t-of-the-user",
    "--namespace",
    "/s3cr3t-of-the-user",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_no_good_gets_nothing_private() {
    let app = listener().await;
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], &app).start();
    let output = at(&edge, &PRIVATE).await;
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output);
    assert!(said.contains("tls-unknown-ca") && said.contains("--insecure sends it"), "{said}");
    assert!(heard(&app).contains("GET /socket.io/"), "the later steps were tried: {}", heard(&app));
    assert!(!heard(&app).contains(SECRET), "{}", heard(&app));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_insecure_or_a_known_ca_the_private_parts_go_along() {
    for trusted in [false, true] {
        let app = listener().await;
        let edge = Edge::certified_for(&[HOST]).site(&[HOST], &app).start();
        let ca = trusting(&edge);
        let more = if trusted { vec!["--ca", &ca] } else { vec!["--insecure"] };
        let output = at(&edge, &[&PRIVATE[..], &more].concat()).await;
        let heard = heard(&app);
        for part in [
            "cookie: session=s3cr3t-of-the-user",
            "authorization: Bearer s3cr3t-of-the-user",
            "uuId=s3cr3t-of-the-user",
        ] {
            assert!(heard.contains(part), "{part} in {heard}");
        }
        let said = text(&output).replace("the app will see a client connect to `/s3cr3t-of-the-user`", "");
        assert!(!said.contains(SECRET), "cookies and fields are masked: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_reported_and_never_followed() {
    let elsewhere = listener().await;
    let redirect =
        format!("HTTP/1.1 302 Found\r\nLocation: http://{elsewhere}/socket.io/\r\nContent-Length: 0\r\n\r\n");
    let app = Upstream::answering(redirect).await;
    let output = doctor(&[&format!("http://{app}"), "--cookie", "session=s3cr3t-of-the-user"]).await;
    assert!(text(&output).contains("eio-redirected"), "{}", text(&output));
    assert!(elsewhere.records().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_says_cannot_move_the_cursor() {
    let app =
        Upstream::answering("HTTP/1.1 403 Forbidden\r\nContent-Length: 13\r\n\r\n\x1b[2J\x1b]0;evil\x07")
            .await;
    let output = doctor(&[&format!("http://{app}")]).await;
    let said = text(&output);
    assert!(said.contains("\\u{1b}[2J\\u{1b}]0;evil\\u{7}"), "{said}");
    assert!(!said.contains('\x1b') && !said.contains('\x07'), "{said:?}");
}

/// A Socket.IO server that counts who joins its namespaces.
async fn counting() -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let joined = Arc::new(AtomicUsize::new(0));
    let (layer, io) = SocketIo::builder().build_layer();
    for namespace in ["/", "/catch"] {
        let joined = Arc::clone(&joined);
        io.ns(namespace, move |_: SocketRef| {
            joined.fetch_add(1, SeqCst);
            std::future::ready(())
        });
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().layer(layer)).await.unwrap() });
    (address, joined)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_namespace_the_app_sees_no_client_and_with_one_that_is_announced() {
    let (app, joined) = counting().await;
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], app).start();
    let ca = trusting(&edge);
    let output = at(&edge, &["--ca", &ca]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(joined.load(SeqCst), 0);
    let output = at(&edge, &["--ca", &ca, "--namespace", "/catch"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(joined.load(SeqCst), 1);
    let note = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(note.contains("the app will see a client connect to `/catch`"), "{note}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_carries_a_noop_and_nothing_else() {
    let open = r#"0{"sid":"x1","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;
    let app =
        Upstream::answering(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{open}", open.len())).await;
    doctor(&[&format!("http://{app}"), "--transport", "polling"]).await;
    let heard = heard(&app);
    let posts: Vec<&str> =
        heard.split("POST ").skip(1).map(|post| post.split_once("\r\n\r\n").unwrap().1).collect();
    assert!(!posts.is_empty() && posts.iter().all(|body| body.starts_with('6')), "{heard}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_run_is_bounded() {
    // Takes everything and says nothing.
    let app = Upstream::scripted(|mut connection| async move { connection.until_closed().await }).await;
    let begin = Instant::now();
    let output = doctor(&[&format!("http://{app}"), "--timeout", "2s"]).await;
    assert_eq!(output.status.code(), Some(1), "what was not seen is not healthy: {}", text(&output));
    assert!(text(&output).contains("time-up"), "{}", text(&output));
    // Two seconds of its own; the rest is a busy machine's.
    assert!(begin.elapsed() < Duration::from_secs(40), "{:?}", begin.elapsed());
}

/// Forty names whose addresses swallow every packet: the run ends when it said it would, and says that it had no time.
#[test]
fn many_hosts_in_a_black_hole_are_bounded_together() {
    const TEST: &str = "many_hosts_in_a_black_hole_are_bounded_together";
    let hole = "ip link add v0 type veth peer name v1 && ip link set v0 arp off up && ip link set v1 up && \
        ip addr add 10.99.0.2/24 dev v0 && ip route add default dev v0 && exec \"$@\"";
    let user = if rustix::process::geteuid().is_root() { vec![] } else { vec!["--map-root-user"] };
    let inside = |command: &[&str]| {
        let mut unshare = Command::new("unshare");
        unshare.args(&user).args(["--net", "sh", "-c", hole, "sh"]).args(command);
        unshare
    };
    if !inside(&["true"]).output().is_ok_and(|output| output.status.success()) {
        return crate::support::node::skip(TEST, "it needs iproute2 and network namespaces");
    }
    let hosts: Vec<String> = (0..40).map(|at| format!("h{at}.recre.store")).collect();
    let names: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let desk = Edge::certified_for(&names).site(&names, "10.99.0.7:3002").write();
    let program = sanedge();
    let mut command = inside(&[program.get_program().to_str().unwrap()]);
    command
        .args(program.get_args())
        .args(["doctor", "--from-config", "--json"])
        .current_dir(desk.toml().parent().unwrap());
    // Half of them have an address, and the others a name server that is silent.
    for host in hosts.iter().step_by(2) {
        command.args(["--resolve", &format!("{host}:203.0.114.7")]);
    }
    let begin = Instant::now();
    let output = command.output().unwrap();
    let took = begin.elapsed();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let found = codes(&json(&output));
    assert!(found.iter().any(|code| code == "port-filtered"), "{found:?}");
    assert!(found.len() > 40 && found.last().is_some_and(|code| code == "time-up"), "{found:?}");
    // 15 s of its own; the rest is a busy machine's.
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_targets_are_looked_at_in_their_order() {
    let (app, _) = counting().await;
    let down = "http://127.0.0.1:1";
    let output =
        doctor(&["--json", &format!("http://{app}"), down, &format!("ws://{app}/socket.io/?EIO=4")]).await;
    let report = json(&output);
    let subjects: Vec<&str> =
        report["sections"].as_array().unwrap().iter().map(|s| s["subject"].as_str().unwrap()).collect();
    assert_eq!(subjects, [&format!("http://{app}"), down, &format!("http://{app}")]);
    assert_eq!((codes(&report), output.status.code()), (vec!["port-refused".to_owned()], Some(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_is_checked_host_by_host_with_its_app() {
    let (app, _) = counting().await;
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], app).start();
    let bundle = edge.desk().bundle_file().display().to_string();
    let toml = edge.desk().toml();
    // The port that the kernel chose.
    let chosen = std::fs::read_to_string(&toml).unwrap().replace("127.0.0.1:0", &edge.https.to_string());
    std::fs::write(&toml, chosen).unwrap();
    edge.desk().bundled();
    let resolve = format!("{HOST}:127.0.0.1");
    let output = doctor(&[&bundle, "--json", "--resolve", &resolve, "--ca", &trusting(&edge)]).await;
    let report = json(&output);
    assert_eq!(
        (report["version"].as_u64(), report["healthy"].as_bool()),
        (Some(1), Some(true)),
        "{report:#}"
    );
    let subjects: Vec<&str> =
        report["sections"].as_array().unwrap().iter().map(|s| s["subject"].as_str().unwrap()).collect();
    assert_eq!(
        subjects,
        [bundle.as_str(), &edge.url(HOST), &format!("the app itself, at {app}"), "this machine"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unprivileged_user_gets_the_checks_by_host() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    if !rustix::process::geteuid().is_root() {
        return crate::support::node::skip(
            "an_unprivileged_user_gets_the_checks_by_host",
            "it needs root, to become somebody else",
        );
    }
    let (app, _) = counting().await;
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], app).start();
    let folder = edge.desk().toml().parent().unwrap().to_owned();
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::set_permissions(edge.desk().bundle_file(), PermissionsExt::from_mode(0o600)).unwrap();
    let program = folder.join("sanedge");
    install(env!("CARGO_BIN_EXE_sanedge"), &program);
    let mut command = Command::new(program);
    command.uid(65_534).gid(65_534).args(["doctor", "--json"]).arg(edge.desk().bundle_file());
    command.args(["--resolve", &format!("{HOST}:127.0.0.1")]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let report = json(&output);
    assert_eq!(codes(&report)[0], "bundle-unreadable", "{report:#}");
    let subjects: Vec<&str> =
        report["sections"].as_array().unwrap().iter().map(|s| s["subject"].as_str().unwrap()).collect();
    assert!(
        subjects.contains(&format!("https://{HOST}").as_str()),
        "hosts come from sanedge.toml: {subjects:?}"
    );
}

#[test]
fn wrong_usage_is_exit_code_2_and_says_what_to_type() {
    let elsewhere = tempfile::tempdir().unwrap();
    for (arguments, said) in [
        (vec!["https://socket.recre.store/catch"], "--namespace /catch"),
        (vec!["ftp://socket.recre.store"], "https:// or wss://"),
        (vec!["https://me:pw@socket.recre.store"], "no user and password"),
        (vec!["socket.recre.store"], "type:\n  sanedge doctor https://socket.recre.store\n"),
        (vec!["socket.recre.store:8443/"], "type:\n  sanedge doctor https://socket.recre.store:8443\n"),
        (vec!["127.0.0.1:3002"], "type:\n  sanedge doctor https://127.0.0.1:3002\n"),
        (vec!["::1"], "type:\n  sanedge doctor https://[::1]\n"),
        (vec!["[::1]:443"], "type:\n  sanedge doctor https://[::1]:443\n"),
        (vec!["sanedge"], "there is no file `sanedge`: give a bundle"),
        (vec!["https:/recre.store"], "there is no file `https:/recre.store`: give a bundle"),
        (vec!["."], "is a folder: give a file in it, such as ./sanedge.toml"),
        (vec!["게임.store"], "xn--"),
        (vec!["https://게임.store/"], "xn--"),
        (vec!["https://recre.store trailing"], "without spaces"),
        (vec!["https://[::1"], "closed"),
        (vec!["https://recre.store:99999"], "a number from 1 to 65535"),
        (vec!["https://"], "expected a URL such as"),
        (vec!["https://recre.store", "nothing.toml"], "nothing.toml"),
        (vec!["https://socket.recre.store", "--ca", "nothing.pem"], "a PEM file with root certificates"),
        (vec!["https://socket.recre.store", "--header", "no colon"], "expected NAME: VALUE"),
        (vec!["https://socket.recre.store", "--eio", "5"], "3..=4"),
        (vec!["https://socket.recre.store", "--hold", "soon"], "--hold"),
        (vec!["https://socket.recre.store", "--resolve", "x"], "HOST:ADDRESS"),
        (vec!["--from-config"], "sanedge.toml"),
        (vec![], "expected a URL, a bundle or a sanedge.toml to check"),
    ] {
        let output = sanedge().arg("doctor").args(&arguments).current_dir(&elsewhere).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output));
        assert!(output.stdout.is_empty());
        assert!(text(&output).contains(said), "{arguments:?}: {}", text(&output));
    }
}

#[test]
fn the_page_of_errors_is_the_programs_own_table() {
    for (file, page) in [
        ("errors.md", sanedge::doctor::explain::page::page() + &sanedge::setup::problem::page()),
        ("errors.html", sanedge::doctor::explain::page::html()),
    ] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(file);
        if std::env::var_os("SANEDGE_WRITE_DOCS").is_some() {
            std::fs::write(path, page).unwrap();
            continue;
        }
        let found = std::fs::read_to_string(path).unwrap();
        assert!(
            found == page,
            "docs/{file} is stale: run SANEDGE_WRITE_DOCS=1 cargo test --test it doctor::"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_to_paste_shows_what_was_asked_and_nothing_private() {
    let app = Upstream::answering(
        "HTTP/1.1 302 Found\r\nLocation: https://203.0.113.7:8443/app?token=t0k3n-of-the-user\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let arguments = [&PRIVATE[..], &["--report"]].concat();
    let output = doctor(&[&[format!("http://{app}").as_str()], &arguments[..]].concat()).await;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in ["sanedge ", "eio-redirected", "-> 302", "EIO=4&transport=polling", "uuId=***", "[address 1]"]
    {
        assert!(said.contains(part), "{part} in {said}");
    }
    for secret in [SECRET, "t0k3n", "203.0.113.7"] {
        assert!(!said.contains(secret), "{secret} in {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_says_what_was_sent_and_what_came() {
    let app = listener().await;
    let url = format!("http://{app}");
    let report = json(&doctor(&[&url, "--json"]).await);
    let section = &report["sections"][0];
    let exchanges = section["exchanges"].as_array().unwrap();
    assert!(
        exchanges[0]["sent"].as_str().unwrap().contains("GET http://")
            && exchanges[0]["came"].as_str().unwrap().starts_with("404")
    );
    let finding =
        section["checks"].as_array().unwrap().iter().find(|check| check["code"] == "eio-not-found").unwrap();
    let labels: Vec<&str> =
        finding["evidence"].as_array().unwrap().iter().map(|one| one["label"].as_str().unwrap()).collect();
    assert!(labels.contains(&"sent") && labels.contains(&"answered"), "{finding}");
    assert_eq!(finding["confidence"], "likely", "an app and a proxy can both answer 404");
    let (quiet, verbose) = (text(&doctor(&[&url]).await), text(&doctor(&[&url, "--verbose"]).await));
    assert!(verbose.contains("> GET http://") && verbose.contains("< 404"), "{verbose}");
    assert!(!quiet.contains("> GET http://"), "{quiet}");
}

/// A host that waits for its first certificate: its bundle says so, and to everybody else port 80. A name that the edge does not
/// have is told as before.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_a_certificate_is_pending_by_its_bundle_and_by_port_80() {
    const NEW: &str = "new.recre.store";
    const STRANGE: &str = "strange.recre.store";
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let acme = format!(
        "[acme]\nterms = \"agreed\"\nstate = {:?}\nchallenges = {:?}",
        path("state"),
        path("challenges")
    );
    let waiting = || {
        let desk = Edge::certified_for(&[HOST]).with_http().site(&[HOST], "127.0.0.1:1");
        desk.site(&[NEW], "127.0.0.1:1").listen(&acme)
    };
    let edge = waiting().start();
    // Other files that name the ports of this edge.
    let file = |desk: Desk, http: &str| {
        let https = format!("https = [\"{}\"]\npublic_https_port = {}", edge.https, edge.https.port());
        let toml = std::fs::read_to_string(desk.toml()).unwrap();
        let toml = toml.replace("https = [\"127.0.0.1:0\"]", &https);
        let toml = toml.replace("http = [\"127.0.0.1:0\"]", &format!("http = [\"{http}\"]"));
        std::fs::write(desk.toml(), toml).unwrap();
        desk.bundled();
        desk
    };
    let http = edge.http.unwrap().to_string();
    let other = |host: &str| {
        Edge::certified_for(&[HOST, host]).with_http().site(&[HOST, host], "127.0.0.1:1").write()
    };
    // The first cannot ask port 80, the second knows of no pending host.
    for (desk, host, expected) in [
        (file(waiting().write(), "127.0.0.1:9"), NEW, "edge-certificate-pending"),
        (file(other(NEW), &http), NEW, "edge-certificate-pending"),
        (file(other(STRANGE), &http), STRANGE, "tls-unknown-name"),
    ] {
        for file in [desk.toml(), desk.bundle_file()] {
            let file = file.display().to_string();
            let resolve = format!("{host}:127.0.0.1");
            let output =
                doctor(&[&file, "--json", "--resolve", &resolve, "--resolve", &format!("{HOST}:127.0.0.1")])
                    .await;
            let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            let subject = edge.url(host);
            let section =
                report["sections"].as_array().unwrap().iter().find(|one| one["subject"] == subject.as_str());
            let section = section.unwrap_or_else(|| panic!("{file}: {report}"));
            let checks = section["checks"].as_array().unwrap();
            let failure = checks.iter().find(|check| check["outcome"] == "fail").unwrap();
            assert_eq!(failure["code"], expected, "{file}: {failure}");
            let renews = failure["do"]
                .as_str()
                .unwrap()
                .contains(&format!("sudo sanedge renew {}", desk.toml().with_extension("acme").display()));
            assert_eq!(renews, expected == "edge-certificate-pending", "{failure}");
        }
    }
    edge.stop();
}
