//! Certificates that renew: the deploy hook, the daily check, and real ACME clients against a real ACME server.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::HOST;
use crate::support::edge::{Desk, Edge, PATIENCE, client_config, sanedge, text};
use crate::support::node::{has, skip};
use crate::support::pebble::name_server;
use crate::support::peers::free_address;
use rustls_pki_types::ServerName;
use rustls_pki_types::pem::PemObject;
use sanedge::bundle::finding::Severity;
use sanedge::bundle::freshness::check;
use sanedge::bundle::lifetime::DAY_S;
use sanedge::bundle::{Bundle, compile};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const NEW: &str = "socket.recre.store";

fn hook() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("hooks/sanedge-deploy")
}

/// What the hook is told, whoever calls it.
fn environment(desk: &Desk) -> [(&'static str, PathBuf); 2] {
    [("SANEDGE_TOML", desk.toml()), ("SANEDGE", env!("CARGO_BIN_EXE_sanedge").into())]
}

fn deploy(desk: &Desk) -> Output {
    Command::new(hook()).envs(environment(desk)).output().unwrap()
}

fn in_use(edge: &Edge) -> String {
    let mut status = sanedge();
    let output =
        status.args(["status", "--json", "--bundle"]).arg(edge.desk().bundle_file()).output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    status["bundle"].as_str().unwrap().to_owned()
}

fn files(desk: &Desk) -> Vec<String> {
    let folder = desk.bundle_file();
    let entries = std::fs::read_dir(folder.parent().unwrap()).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn show_check(desk: &Desk, more: &[&str]) -> Output {
    sanedge().args(["show", "--check"]).arg(desk.bundle_file()).args(more).output().unwrap()
}

#[test]
fn the_hook_takes_a_renewed_certificate_into_use_as_every_client_calls_it() {
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], "127.0.0.1:1").start();
    let hook = hook();
    let files_before = files(edge.desk());
    let mut called = 0;
    // certbot: by a shell, with the lineage in the environment; acme.sh: `eval`; lego: words of a command line.
    for words in [
        vec!["sh", "-c", hook.to_str().unwrap()],
        vec!["sh", "-c", "eval \"$0\"", hook.to_str().unwrap()],
        vec![hook.to_str().unwrap()],
    ] {
        let before = in_use(&edge);
        edge.desk().write_certificate(0, &[HOST]);
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).envs(environment(edge.desk()));
        command.env("RENEWED_LINEAGE", "/etc/letsencrypt/live/recre.store").env("RENEWED_DOMAINS", HOST);
        let output = command.current_dir("/").output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", text(&output));
        assert_ne!(in_use(&edge), before, "{words:?}");
        assert_eq!(files(edge.desk()), files_before, "nothing is left behind");
        called += 1;
    }
    assert_eq!(called, 3);
    edge.stop();
}

#[test]
fn the_old_bundle_stays_whatever_fails() {
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], "127.0.0.1:1").start();
    let desk = edge.desk();
    let (files_before, bytes, used) =
        (files(desk), std::fs::read(desk.bundle_file()).unwrap(), in_use(&edge));
    let toml = std::fs::read_to_string(desk.toml()).unwrap();
    let stays = |what: &str, said: &str| {
        let output = deploy(desk);
        assert_eq!(output.status.code(), Some(1), "{what}: {}", text(&output));
        assert!(text(&output).contains(said), "{what}: {}", text(&output));
        assert_eq!(std::fs::read(desk.bundle_file()).unwrap(), bytes, "{what}: the file");
        assert_eq!(in_use(&edge), used, "{what}: in use");
        assert_eq!(files(desk), files_before, "{what}: files");
    };
    desk.write_certificate(0, &["other.test"]);
    stays("a certificate without the name", "host-not-covered");
    std::fs::write(desk.path("0.pem"), "-----BEGIN CERT").unwrap();
    stays("half a file", "0.pem");
    desk.write_certificate(0, &[HOST]);
    // Proven, but not for this process: after a restart it would be in use, which nobody asked for.
    std::fs::write(desk.toml(), toml.replace("127.0.0.1:0", "127.0.0.1:2")).unwrap();
    stays("other listeners", "needs a restart");
    std::fs::write(desk.toml(), &toml).unwrap();
    assert!(deploy(desk).status.success(), "and the next time it works");
    assert_ne!(in_use(&edge), used);
    edge.stop();
}

#[test]
fn one_bad_certificate_does_not_keep_the_renewed_ones_out() {
    let edge = Edge::certified_for(&[HOST])
        .certificate(&[NEW])
        .site(&[HOST], "127.0.0.1:1")
        .site(&[NEW], "127.0.0.1:1")
        .start();
    let desk = edge.desk();
    let (used, files_before) = (in_use(&edge), files(desk));
    desk.write_certificate(0, &[HOST]);
    std::fs::write(desk.path("1.pem"), "-----BEGIN CERT").unwrap();
    let output = deploy(desk);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains("[carried-over]"), "{}", text(&output));
    assert_ne!(in_use(&edge), used, "the running edge has the renewed one");
    assert_eq!(files(desk), files_before);
    desk.write_certificate(1, &[NEW]);
    assert_eq!(deploy(desk).status.code(), Some(0));
    edge.stop();
}

/// An edge whose admin listener is on TCP, which only reads.
fn edge_on_tcp() -> Edge {
    let port = free_address().port();
    Edge::certified_for(&[HOST]).site(&[HOST], "127.0.0.1:1").admin(&format!("127.0.0.1:{port}")).start()
}

#[test]
fn the_hook_finds_an_edge_whose_admin_listener_is_on_tcp() {
    let edge = edge_on_tcp();
    let desk = edge.desk();
    let (before, toml) = (in_use(&edge), std::fs::read_to_string(desk.toml()).unwrap());
    desk.write_certificate(0, &[HOST]);
    let output = deploy(desk);
    assert!(output.status.success() && text(&output).contains("its bundle is in use"), "{}", text(&output));
    let used = in_use(&edge);
    assert_ne!(used, before);
    let bytes = std::fs::read(desk.bundle_file()).unwrap();
    std::fs::write(desk.toml(), toml.replace("127.0.0.1:0", "127.0.0.1:2")).unwrap();
    let output = deploy(desk);
    assert!(
        output.status.code() == Some(1) && text(&output).contains("the reason is in its log"),
        "{}",
        text(&output)
    );
    assert_eq!((std::fs::read(desk.bundle_file()).unwrap(), in_use(&edge)), (bytes, used));
    // Nobody has named the process: then only who types can send the signal.
    for json in [&[][..], &["--json"]] {
        let mut reload = sanedge();
        reload.env_remove("MAINPID").args(["reload", "--bundle"]).arg(desk.bundle_file()).args(json);
        let output = reload.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output).contains("sudo systemctl kill -s HUP sanedge"), "{}", text(&output));
    }
    edge.stop();
}

#[test]
fn an_edge_that_runs_and_cannot_be_asked_is_no_success() {
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], "127.0.0.1:1").start();
    let desk = edge.desk();
    let bytes = std::fs::read(desk.bundle_file()).unwrap();
    std::fs::remove_file(desk.path("admin.sock")).unwrap();
    desk.write_certificate(0, &[HOST]);
    let output = deploy(desk);
    let said = text(&output);
    assert!(output.status.code() == Some(1) && said.contains("did not accept the new bundle"), "{said}");
    assert_eq!(std::fs::read(desk.bundle_file()).unwrap(), bytes, "so that the daily check sees it too");
}

#[test]
fn the_daily_check_asks_the_running_edge_what_it_has() {
    for edge in [Edge::certified_for(&[HOST]).site(&[HOST], "127.0.0.1:1").start(), edge_on_tcp()] {
        let desk = edge.desk();
        assert!(show_check(desk, &[]).status.success());
        desk.write_certificate(0, &[HOST]);
        desk.bundled();
        let output = show_check(desk, &[]);
        let said = text(&output);
        assert!(output.status.code() == Some(1) && said.contains("[not-in-use]"), "{said}");
        assert!(said.contains("sanedge reload") || said.contains("kill -s HUP"), "{said}");
        // Another file is nobody's trouble yet.
        let staged = desk.path("staged.bundle");
        std::fs::copy(desk.bundle_file(), &staged).unwrap();
        let output = sanedge().args(["show", "--check"]).arg(&staged).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        edge.reload();
        assert!(show_check(desk, &[]).status.success());
        edge.stop();
    }
}

#[test]
fn without_an_edge_the_new_bundle_is_for_the_next_start() {
    let desk = Edge::certified_for(&[HOST]).site(&[HOST], "127.0.0.1:1").write();
    for _ in 0..2 {
        let output = deploy(&desk);
        assert!(
            output.status.success() && text(&output).contains("the next start uses"),
            "{}",
            text(&output)
        );
    }
    Bundle::open(&desk.bundle_file()).unwrap();
}

/// Days, and hours before the end at which a renewal becomes overdue and the end is near.
const LIFETIMES: [(i64, i64, i64); 7] = [
    (6, 60 * 60, 14 * 60 + 24),
    (10, 60 * 60, 24 * 60),
    (45, 270 * 60, 108 * 60),
    (47, 282 * 60, 112 * 60 + 48),
    (90, 540 * 60, 216 * 60),
    (365, 720 * 60, 336 * 60),
    (398, 720 * 60, 336 * 60),
];

#[test]
fn the_daily_check_follows_the_lifetime() {
    let desk = Edge::certified_for(&[HOST, NEW])
        .certificate(&["spare.test"])
        .site(&[HOST, NEW], "127.0.0.1:1")
        .write();
    desk.bundled();
    let mut bundle = Bundle::open(&desk.bundle_file()).unwrap();
    let used = usize::from(bundle.hosts[0].certificate);
    let begins = 1_800_000_000;
    for (days, overdue_minutes, soon_minutes) in LIFETIMES {
        let ends = begins + days * DAY_S;
        (bundle.certificates[used].not_before, bundle.certificates[used].not_after) = (begins, ends);
        let at = |now| check(&bundle, &desk.bundle_file(), None, now);
        assert_eq!(at(ends - overdue_minutes * 60 - 1), [], "{days}");
        for (now, severity, words) in [
            (ends - overdue_minutes * 60 + 2, Severity::Warning, " left"),
            (ends - soon_minutes * 60 - 1, Severity::Warning, " left"),
            (ends - soon_minutes * 60 + 2, Severity::Error, " left"),
            (ends + 3 * DAY_S, Severity::Error, "it expired 3 days ago"),
        ] {
            let found = at(now);
            assert_eq!(
                (found.len(), found[0].code()),
                (1, "expires-soon"),
                "once, and not for the spare one"
            );
            let said = found[0].to_string();
            assert_eq!(found[0].severity(), severity, "{days}: {said}");
            assert!(said.contains(words) && said.contains(HOST) && said.contains(NEW), "{said}");
        }
    }
}

/// A 45-day certificate of which `left_s` are left, as a renewal writes it.
fn renewed(desk: &Desk, left_s: u64) {
    use std::time::SystemTime;
    let end = SystemTime::now() + Duration::from_secs(left_s);
    let mut parameters = crate::support::certs::leaf_params(&[HOST]);
    (parameters.not_before, parameters.not_after) =
        ((end - Duration::from_secs(45 * 86_400)).into(), end.into());
    let issued = desk.ca.issue_with(parameters, rcgen::KeyPair::generate().unwrap());
    std::fs::write(desk.path("0.pem"), issued.chain_pem).unwrap();
    std::fs::write(desk.path("0.key"), issued.key_pem).unwrap();
}

#[test]
fn the_same_thresholds_hold_for_bundle_and_check_as_commands() {
    let desk = Edge::certified_for(&[HOST]).site(&[HOST], "127.0.0.1:1").write();
    // 45 days: overdue 270 hours before the end, near its end 108 hours before.
    for (left_h, warned, severity) in [
        (271, false, None),
        (269, true, Some("warning")),
        (109, true, Some("warning")),
        (107, true, Some("error")),
    ] {
        renewed(&desk, left_h * 3600);
        let made = desk.bundle();
        assert!(made.status.success(), "a valid certificate is never refused: {}", text(&made));
        assert_eq!(text(&made).contains("[expires-soon]"), warned, "{left_h}: {}", text(&made));
        assert_eq!(text(&made).contains("(renew)"), warned, "{left_h}: {}", text(&made));
        let checked = show_check(&desk, &["--json"]);
        let json: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
        assert_eq!(json["troubles"][0]["severity"].as_str(), severity, "{left_h}: {json}");
        assert_eq!(checked.status.success(), severity.is_none(), "{json}");
    }
}

/// The rules of docs/monitoring.md, run by Prometheus itself with the times that `/metrics` gives.
#[test]
fn the_documented_alerts_fire_at_the_same_thresholds() {
    let test = "the_documented_alerts_fire_at_the_same_thresholds";
    if !has("promtool", "--version") {
        return skip(test, "it needs promtool of Prometheus");
    }
    let folder = tempfile::tempdir().unwrap();
    let documented = include_str!("../../docs/monitoring.md");
    let rules: &str = documented.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let indented: String = rules.lines().map(|line| format!("      {line}\n")).collect();
    std::fs::write(folder.path().join("rules.yml"), format!("groups:\n  - name: x\n    rules:\n{indented}"))
        .unwrap();
    // Six days from 0 on, in minutes.
    let lifetime = sanedge::bundle::lifetime::Lifetime { not_before: 0, not_after: 6 * DAY_S };
    let (overdue, soon) = (lifetime.overdue_after(), lifetime.ends_soon_after());
    let series = |what: &str, value: i64| {
        format!(
            "      - {{series: 'sanedge_certificate_{what}_timestamp_seconds{{host=\"h\"}}', values: '{value}x9000'}}\n"
        )
    };
    let alert = |name: &str, at: i64, fires: bool| {
        let label = if fires { "{exp_labels: {host: h}}" } else { "" };
        format!("      - {{eval_time: {}s, alertname: {name}, exp_alerts: [{label}]}}\n", at)
    };
    let cases = [
        alert("CertificateRenewalOverdue", overdue - 60, false),
        alert("CertificateRenewalOverdue", overdue + 60, true),
        alert("CertificateEndsSoon", soon - 60, false),
        alert("CertificateEndsSoon", soon + 60, true),
    ];
    let tests = format!(
        "rule_files: [rules.yml]\nevaluation_interval: 1m\ntests:\n  - interval: 1m\n    input_series:\n{}{}    alert_rule_test:\n{}",
        series("renewal_overdue", overdue),
        series("ends_soon", soon),
        cases.concat()
    );
    std::fs::write(folder.path().join("tests.yml"), tests).unwrap();
    let ran = Command::new("promtool")
        .args(["test", "rules", "tests.yml"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", text(&ran));
}

#[test]
fn the_daily_check_fails_when_a_renewal_did_not_get_through() {
    let desk = Edge::certified_for(&[HOST]).site(&[HOST], "127.0.0.1:1").write();
    desk.bundled();
    let fine = show_check(&desk, &[]);
    assert!(fine.status.success() && text(&fine).contains("the bundle matches"), "{}", text(&fine));
    // Touched, and bundled again from the same files: no news.
    std::fs::File::options()
        .append(true)
        .open(desk.path("0.pem"))
        .unwrap()
        .set_modified(std::time::SystemTime::now())
        .unwrap();
    assert!(show_check(&desk, &[]).status.success());

    desk.write_certificate(0, &[HOST]);
    let stale = show_check(&desk, &[]);
    assert_eq!(stale.status.code(), Some(1), "{}", text(&stale));
    assert!(text(&stale).contains("older-than-its-sources"), "{}", text(&stale));
    let apply = format!("`sanedge apply {}`", desk.toml().display());
    assert!(text(&stale).contains(&apply), "{}", text(&stale));
    let json: serde_json::Value = serde_json::from_slice(&show_check(&desk, &["--json"]).stdout).unwrap();
    assert_eq!(json["troubles"][0]["code"], "older-than-its-sources");

    desk.write_certificate(0, &["other.test"]);
    let broken = show_check(&desk, &[]);
    assert!(text(&broken).contains("sources-broken") && broken.status.code() == Some(1), "{}", text(&broken));
    // Elsewhere, and not there at all.
    std::fs::rename(desk.toml(), desk.path("other.toml")).unwrap();
    let alone = show_check(&desk, &[]);
    assert!(alone.status.success(), "a bundle from the desk has no source");
    let said = text(&alone);
    assert!(
        said.contains("not compared with its sources: there is no") && said.contains("--source"),
        "{said}"
    );
    let json: serde_json::Value = serde_json::from_slice(&show_check(&desk, &["--json"]).stdout).unwrap();
    assert!(json["compared_with"].is_null(), "{json}");
    let other = desk.path("other.toml");
    assert_eq!(show_check(&desk, &["--source", other.to_str().unwrap()]).status.code(), Some(1));
    desk.write_certificate(0, &[HOST]);
    desk.bundled_from(&other);
    assert!(show_check(&desk, &["--source", other.to_str().unwrap()]).status.success());
    // Compiling is repeatable: else the check would never be content.
    let twice = [0; 2].map(|_| compile::compile(&other, 1_800_000_000).bundle.unwrap().to_vec());
    assert_eq!(twice[0], twice[1]);
}

#[test]
fn the_daily_check_fails_where_the_running_edge_does_not_say_what_it_serves() {
    let desk = Edge::certified_for(&[HOST]).site(&[HOST], "127.0.0.1:1").write();
    desk.bundled();
    assert!(show_check(&desk, &[]).status.success(), "no edge, nothing to compare with");
    let admin = UnixListener::bind(desk.path("admin.sock")).unwrap();
    std::thread::spawn(move || admin.incoming().for_each(drop));
    let mute = show_check(&desk, &[]);
    assert_eq!(mute.status.code(), Some(1), "{}", text(&mute));
    assert!(text(&mute).contains("not compared with the running edge"), "{}", text(&mute));
    let json: serde_json::Value = serde_json::from_slice(&show_check(&desk, &["--json"]).stdout).unwrap();
    assert_eq!(json["troubles"][0]["code"], "not-asked");
}

/// An ACME server with its own DNS; killed when dropped.
struct Pebble {
    child: Child,
    directory: String,
}

impl Pebble {
    /// Validates on `http_port` of this machine, whatever the name.
    fn start(desk: &Desk, http_port: u16) -> Self {
        let own = desk.ca.issue(&["localhost"]);
        std::fs::write(desk.path("pebble.pem"), own.chain_pem).unwrap();
        std::fs::write(desk.path("pebble.key"), own.key_pem).unwrap();
        let dns = name_server();
        // Its ports cannot be 0. Another process may take a free one in between: then it ends at once, and we try again.
        for _ in 0..10 {
            let port = free_address().port();
            let config = serde_json::json!({ "pebble": {
                "listenAddress": format!("127.0.0.1:{port}"), "managementListenAddress": "",
                "certificate": desk.path("pebble.pem"), "privateKey": desk.path("pebble.key"),
                "httpPort": http_port, "tlsPort": 1,
            }});
            std::fs::write(desk.path("pebble.json"), config.to_string()).unwrap();
            let mut command = Command::new("pebble");
            command.arg("-config").arg(desk.path("pebble.json")).args(["-dnsserver", &dns.to_string()]);
            command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "0");
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let until = Instant::now() + PATIENCE;
            while Instant::now() < until && child.try_wait().unwrap().is_none() {
                if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Self { child, directory: format!("https://localhost:{port}/dir") };
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("pebble does not listen");
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An edge that serves one name, with the folder for ACME and the sanedge.toml of tomorrow: one name more, and the
/// certificate files of a client that has not fetched them yet.
fn edge_of_tomorrow(chain: &str, key: &str) -> Edge {
    let desk = Edge::certified_for(&[HOST])
        .site(&[HOST], "127.0.0.1:1")
        .listen("acme_dir = \"acme/.well-known/acme-challenge\"")
        .with_http()
        .write();
    std::fs::create_dir_all(desk.path("acme/.well-known/acme-challenge")).unwrap();
    let edge = desk.serve();
    let toml = std::fs::read_to_string(edge.desk().toml()).unwrap();
    // Pebble's root is another each time: without `trust` that is a warning.
    let toml = toml.replace("trust = \"ca.pem\"", "").replace("\"0.pem\"", &format!("{chain:?}"));
    let toml = toml
        .replace("\"0.key\"", &format!("{key:?}"))
        .replace(&format!("{:?}", [HOST]), &format!("{:?}", [HOST, NEW]));
    std::fs::write(edge.desk().toml(), toml).unwrap();
    edge
}

/// The client's command must succeed, and the edge serve the new name with what it fetched.
fn fetched(edge: &Edge, command: &mut Command, issuer: &Path) -> String {
    let before = in_use(edge);
    let ca = edge.desk().ca_file();
    command.envs(environment(edge.desk())).env("REQUESTS_CA_BUNDLE", &ca).env("LEGO_CA_CERTIFICATES", &ca);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}:\n{}\n{}", text(&output), edge.log());
    let after = in_use(edge);
    assert_ne!(after, before, "{}", text(&output));
    // Pebble's intermediate is the anchor: its root is not in what clients get.
    let pem = std::fs::read_to_string(issuer).unwrap();
    let last = rustls_pki_types::CertificateDer::pem_slice_iter(pem.as_bytes()).last().unwrap().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(last).unwrap();
        let mut config = client_config(&edge.desk().ca.pem);
        config = rustls::ClientConfig::builder_with_provider(Arc::clone(config.crypto_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(edge.https).await.unwrap();
        let name = ServerName::try_from(NEW).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    });
    after
}

#[test]
fn certbot_fetches_and_renews_through_our_port_80() {
    let test = "certbot_fetches_and_renews_through_our_port_80";
    if !(has("certbot", "--version") && has("pebble", "-help")) {
        return skip(test, "it needs certbot and pebble");
    }
    let live = format!("certbot/live/{HOST}");
    let edge = edge_of_tomorrow(&format!("{live}/fullchain.pem"), &format!("{live}/privkey.pem"));
    let desk = edge.desk();
    let pebble = Pebble::start(desk, edge.http.unwrap().port());
    let certbot = |words: &[&str]| {
        let mut certbot = Command::new("certbot");
        certbot.args(words).args(["--non-interactive", "--server", &pebble.directory]);
        for (option, folder) in
            [("--config-dir", "certbot"), ("--work-dir", "certbot-work"), ("--logs-dir", "certbot-logs")]
        {
            certbot.arg(option).arg(desk.path(folder));
        }
        certbot
    };
    let mut first = certbot(&[
        "certonly",
        "--agree-tos",
        "--register-unsafely-without-email",
        "--webroot",
        "-d",
        HOST,
        "-d",
        NEW,
    ]);
    first.arg("-w").arg(desk.path("acme")).arg("--deploy-hook").arg(hook());
    let issuer = desk.path(&format!("{live}/chain.pem"));
    let fetched_first = fetched(&edge, &mut first, &issuer);
    // The hook was remembered.
    let renewed =
        fetched(&edge, &mut certbot(&["renew", "--force-renewal", "--no-random-sleep-on-renew"]), &issuer);
    assert_ne!(fetched_first, renewed);
    assert!(show_check(desk, &[]).status.success());
    edge.stop();
}

#[test]
fn lego_fetches_and_renews_through_our_port_80() {
    let test = "lego_fetches_and_renews_through_our_port_80";
    if !(has("lego", "--version") && has("pebble", "-help")) {
        return skip(test, "it needs lego and pebble");
    }
    let edge =
        edge_of_tomorrow(&format!("lego/certificates/{HOST}.crt"), &format!("lego/certificates/{HOST}.key"));
    let desk = edge.desk();
    let pebble = Pebble::start(desk, edge.http.unwrap().port());
    let lego = |words: &[&str]| {
        let mut lego = Command::new("lego");
        lego.args([
            "--server",
            &pebble.directory,
            "--accept-tos",
            "--email",
            "you@example.org",
            "--http",
            "-d",
            HOST,
            "-d",
            NEW,
        ]);
        lego.arg("--path")
            .arg(desk.path("lego"))
            .arg("--http.webroot")
            .arg(desk.path("acme"))
            .args(words)
            .arg(hook());
        lego
    };
    let issuer = desk.path(&format!("lego/certificates/{HOST}.crt"));
    fetched(&edge, &mut lego(&["run", "--run-hook"]), &issuer);
    fetched(&edge, &mut lego(&["renew", "--no-random-sleep", "--days", "9999", "--renew-hook"]), &issuer);
    edge.stop();
}

#[test]
fn the_timers_units_are_well_formed() {
    let test = "the_timers_units_are_well_formed";
    if !has("systemd-analyze", "--version") {
        return skip(test, "it needs systemd-analyze");
    }
    let folder = tempfile::tempdir().unwrap();
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    let mut command = Command::new("systemd-analyze");
    command.arg("verify").arg("--man=no");
    for unit in ["sanedge-check.service", "sanedge-check.timer"] {
        let text = std::fs::read_to_string(units.join(unit)).unwrap();
        let here = text.replace("/usr/bin/sanedge", env!("CARGO_BIN_EXE_sanedge"));
        std::fs::write(folder.path().join(unit), here).unwrap();
        command.arg(folder.path().join(unit));
    }
    let output = command.output().unwrap();
    let ours = text(&output)
        .lines()
        .filter(|line| line.contains("sanedge-check"))
        .map(str::to_owned)
        .collect::<Vec<_>>();
    assert!(ours.is_empty(), "{ours:#?}");
}

/// The pages agree with each other, and with both versions of lego.
#[test]
fn the_pages_name_one_acme_folder_and_the_hooks_of_both_legos() {
    let page = |name: &str| {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).unwrap()
    };
    let (renewal, from_npm) = (page("renewal.md"), page("from-npm.md"));
    assert_eq!(renewal.matches("## The first certificate\n").count(), 1);
    let webroots = |page: &str| -> Vec<String> {
        let words: Vec<&str> = page.split_whitespace().collect();
        let pairs = words.windows(2).filter(|pair| matches!(pair[0], "-w" | "--http.webroot"));
        pairs.map(|pair| pair[1].to_owned()).collect()
    };
    let all = [webroots(&renewal), webroots(&from_npm)].concat();
    assert!(all.len() >= 5 && all.iter().all(|folder| folder == "/var/lib/sanedge/acme"), "{all:?}");
    for page in [&renewal, &from_npm] {
        assert!(page.replace('\\', "").contains("\"/var/lib/sanedge/acme/.well-known/acme-challenge\""));
    }
    // Options before the command and two hooks in version 4; behind it and one hook in version 5.
    let command = |begin: &str| {
        let block = renewal.split("```sh\n").find(|block| block.starts_with(begin)).unwrap();
        block.split("```").next().unwrap().replace("\\\n", " ")
    };
    let (four, five) = (command("lego --path"), command("lego run "));
    assert!(four.contains(" run --run-hook ") && renewal.contains("`renew --renew-hook "), "{four}");
    assert!(five.contains(" --deploy-hook ") && !five.contains("--run-hook"), "{five}");
}
