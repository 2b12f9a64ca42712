//! `sanedge status --check`, which a container's health check runs: what makes it fail, and what does not.

use std::process::Output;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use crate::support::HOST;
use crate::support::edge::{Desk, Edge, PATIENCE, json, text};
use crate::support::engineio::Http;
use crate::support::node::skip;
use crate::support::stopped::StoppedThread;

/// Above the time that the command may take for an edge that does not answer, so far that a busy machine is within it.
const TIME_MAX: Duration = Duration::from_secs(12);

fn check(desk: &Desk) -> Output {
    let begin = Instant::now();
    let output = desk.ask(&["status", "--check"]);
    assert!(begin.elapsed() < TIME_MAX, "it took {:?}", begin.elapsed());
    output
}

/// It ends with 0 and says one line on stdout. On a busy machine a worker may be late once.
fn healthy(desk: &Desk) -> String {
    let until = Instant::now() + PATIENCE;
    let is_late = |output: &Output| text(output).contains(" answer within ");
    let mut output = check(desk);
    while is_late(&output) && Instant::now() < until {
        output = check(desk);
    }
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    one_line(&output.stdout, &output.stderr)
}

/// It ends with 1 and says one line on stderr.
fn unhealthy(desk: &Desk) -> String {
    let output = check(desk);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    one_line(&output.stderr, &output.stdout)
}

fn one_line(said: &[u8], other: &[u8]) -> String {
    let said = String::from_utf8(said.to_vec()).unwrap();
    assert!(said.ends_with('\n') && said.lines().count() == 1 && other.is_empty(), "{said:?} {other:?}");
    said
}

/// Changes when the certificates of a bundle begin and end to `dates`, in seconds from now.
fn dated(desk: &Desk, dates: &[(i64, i64)]) {
    let mut bundle = sanedge::bundle::Bundle::open(&desk.bundle_file()).unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
    let keys: Vec<_> = (0..dates.len())
        .map(|at| PrivateKeyDer::from_pem_file(desk.path(&format!("{at}.key"))).unwrap())
        .collect();
    assert_eq!(bundle.certificates.len(), dates.len());
    for (certificate, (begin, end)) in bundle.certificates.iter_mut().zip(dates) {
        (certificate.not_before, certificate.not_after) = (now + begin, now + end);
    }
    std::fs::write(desk.bundle_file(), bundle.encode(&keys).unwrap()).unwrap();
}

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// An edge with two hosts, each with a certificate of its own, which are valid so long.
fn edge_with(dates: [(i64, i64); 2]) -> Edge {
    let builder = Edge::certified_for(&[HOST]).certificate(&["other.test"]);
    let desk = builder.site(&[HOST], "127.0.0.1:1").site(&["other.test"], "127.0.0.1:1").write();
    desk.bundled();
    dated(&desk, &dates);
    desk.serve_by(crate::support::edge::sanedge())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_edge_with_a_dead_upstream_passes() {
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], "127.0.0.1:1").limits("workers = 2").start();
    assert_eq!(Http::new(edge.tls(HOST).await).exchange("GET", HOST, "/", "").await.status, 502);
    assert!(text(&edge.desk().ask(&["status"])).contains("DOWN"));
    assert_eq!(healthy(edge.desk()), "all 2 workers answer, and 1 of 1 host has a valid certificate\n");
    let told = json(&edge.desk().ask(&["status", "--check", "--json"]));
    assert_eq!((told["ok"].as_bool(), told["message"].is_string()), (Some(true), true), "{told}");
    // Several at once: none takes another's answers.
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(|| healthy(edge.desk()))).collect();
        all.into_iter().for_each(|one| drop(one.join().unwrap()));
    });
    edge.stop();
}

#[test]
fn an_edge_that_is_stopped_or_frozen_fails() {
    let desk = Edge::certified_for(&[HOST]).site(&[HOST], "127.0.0.1:1").write();
    assert!(unhealthy(&desk).contains("cannot reach an edge"));
    let edge = desk.serve();
    healthy(edge.desk());
    edge.signal(Signal::STOP);
    let said = unhealthy(edge.desk());
    assert!(said.contains("no answer within 2 s"), "{said}");
    let told = json(&edge.desk().ask(&["status", "--check", "--json"]));
    assert_eq!(
        (told["ok"].as_bool(), told["code"].as_str()),
        (Some(false), Some("edge-unreachable")),
        "{told}"
    );
    edge.signal(Signal::CONT);
    healthy(edge.desk());
    edge.stop();
}

/// Long before the watchdog counts it as stuck.
#[test]
fn a_single_worker_that_hangs_is_noticed_within_a_second() {
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], "127.0.0.1:1").limits("workers = 2").start();
    healthy(edge.desk());
    let Some(stopped) = StoppedThread::named(edge.pid(), "worker-1") else {
        return skip(
            "a_single_worker_that_hangs_is_noticed_within_a_second",
            "it needs the right to trace its child",
        );
    };
    // On a busy machine the other may be late once.
    let until = Instant::now() + PATIENCE;
    let mut said = unhealthy(edge.desk());
    while said.contains("2 workers") && Instant::now() < until {
        said = unhealthy(edge.desk());
    }
    assert_eq!(said, "error 1 worker of 2 did not answer within 1 s: 1\n");
    let told = json(&edge.desk().ask(&["status", "--check", "--json"]));
    assert_eq!(told["code"], "worker-silent", "{told}");
    // The main thread waits for the worker beside its other work.
    assert_eq!(edge.status()["workers"], 2);
    drop(stopped);
    healthy(edge.desk());
    edge.stop();
}

#[test]
fn a_certificate_that_has_expired_fails_only_where_no_host_has_another() {
    let expired = edge_with([(-90 * DAY, -1), (-90 * DAY, -2 * DAY)]);
    let said = unhealthy(expired.desk());
    assert!(said.starts_with("error every certificate has expired, the last one at 20"), "{said}");
    expired.stop();
    let one = edge_with([(-90 * DAY, -1), (-90 * DAY, HOUR)]);
    assert!(healthy(one.desk()).contains("1 of 2 hosts have a valid certificate"));
    one.stop();
    // One that ends within the hour is not a reason, and a clock that is behind cannot tell.
    let behind = edge_with([(HOUR, DAY), (2 * HOUR, DAY)]);
    assert_eq!(behind.status()["clock_believable"], false);
    healthy(behind.desk());
    behind.stop();
}

#[test]
fn hosts_without_a_certificate_fail_until_one_has_one() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let acme =
        format!("[acme]\nterms = \"agreed\"\nstate = {:?}\nchallenges = {:?}", at("state"), at("challenges"));
    let desk = Edge::certified_for(&[HOST])
        .with_http()
        .listen(&acme)
        .site(&["a.recre.store", "b.recre.store"], "127.0.0.1:1")
        .write();
    let toml = std::fs::read_to_string(desk.toml()).unwrap();
    // The certificate of a host that is not served yet is not used.
    let without = toml.replace("[[certificate]]\nchain = \"0.pem\"\nkey = \"0.key\"\n", "");
    assert_ne!(toml, without);
    std::fs::write(desk.toml(), &without).unwrap();
    let edge = desk.serve();
    assert_eq!(edge.status()["pending"], serde_json::json!(["a.recre.store", "b.recre.store"]));
    let said = unhealthy(edge.desk());
    assert!(
        said.contains("no host has a certificate") && said.contains("a.recre.store and b.recre.store"),
        "{said}"
    );
    assert_eq!(json(&edge.desk().ask(&["status", "--check", "--json"]))["code"], "no-certificate");
    // The first certificate comes.
    edge.desk().write_certificate(0, &["a.recre.store"]);
    std::fs::write(edge.desk().toml(), &toml).unwrap();
    edge.reload();
    assert!(healthy(edge.desk()).contains("1 of 2 hosts have a valid certificate"));
    edge.stop();
}

/// A drain is no illness: it ends by itself.
#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_drains_passes() {
    let upstream = crate::support::engineio::serve_default().await;
    let edge = Edge::certified_for(&[HOST]).top("drain_timeout = \"10m\"").site(&[HOST], upstream).start();
    let mut socket = crate::support::engineio::Socket::open(&edge, HOST, "").await;
    socket.join("/").await;
    edge.signal(Signal::TERM);
    edge.wait_for_log("msg=draining", PATIENCE);
    healthy(edge.desk());
}
