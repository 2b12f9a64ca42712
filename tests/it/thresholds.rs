//! The rule for renewals (docs/monitoring.md): each surface says the same of a certificate just before and just past each of its
//! thresholds, whatever its lifetime.
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::certs;
use crate::support::edge::{Desk, Edge, sanedge, text};
use crate::support::prometheus;
use serde_json::Value;

const DAY_S: u64 = 86_400;
/// Longer than this test takes: what lies before a threshold stays there.
const BEFORE_S: u64 = 600;
/// What lies behind one lies behind it already.
const PAST_S: u64 = 2;

/// Lifetime in days; then, in seconds before the end, when a missing renewal is a warning and when an error. By hand, from the
/// issue: due at 2/3 of the lifetime (1/2 below ten days), overdue a twelfth later, an error below a tenth, but never earlier than 30
/// and 14 days before the end.
const ROWS: [(u64, u64, u64); 4] = [
    (6, 6 * DAY_S / 2 - 6 * DAY_S / 12, 6 * DAY_S / 10),
    (45, 45 * DAY_S / 4, 45 * DAY_S / 10),
    (90, 90 * DAY_S / 4, 9 * DAY_S),
    (398, 30 * DAY_S, 14 * DAY_S),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    None,
    Overdue,
    EndsSoon,
}

struct Case {
    days: u64,
    left_s: u64,
    level: Level,
}

/// Two on either side of both thresholds of each lifetime.
fn cases() -> Vec<Case> {
    let of = |(days, warning_s, error_s): (u64, u64, u64)| {
        [
            Case { days, left_s: warning_s + BEFORE_S, level: Level::None },
            Case { days, left_s: warning_s - PAST_S, level: Level::Overdue },
            Case { days, left_s: error_s + BEFORE_S, level: Level::Overdue },
            Case { days, left_s: error_s - PAST_S, level: Level::EndsSoon },
        ]
    };
    ROWS.into_iter().flat_map(of).collect()
}

fn host(at: usize) -> String {
    format!("h{at}.recre.store")
}

/// A folder with a host for each case, whose certificate ends so many seconds from now.
fn desk(cases: &[Case]) -> Desk {
    let mut builder = Edge::certified_for(&[&host(0)]);
    for at in 1..cases.len() {
        builder = builder.certificate(&[&host(at)]);
    }
    for at in 0..cases.len() {
        builder = builder.site(&[&host(at)], "127.0.0.1:1");
    }
    let desk = builder.write();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    for (at, case) in cases.iter().enumerate() {
        let mut parameters = certs::leaf_params(&[&host(at)]);
        // Both ends count (RFC 5280 §4.1.2.5).
        let ends = now + case.left_s;
        let date = |seconds: u64| time::OffsetDateTime::from_unix_timestamp(seconds as i64).unwrap();
        (parameters.not_before, parameters.not_after) = (date(ends + 1 - case.days * DAY_S), date(ends));
        let issued = desk.ca.issue_with(parameters, rcgen::KeyPair::generate().unwrap());
        std::fs::write(desk.path(&format!("{at}.pem")), issued.chain_pem).unwrap();
        std::fs::write(desk.path(&format!("{at}.key")), issued.key_pem).unwrap();
    }
    desk
}

fn get(socket: &Path, path: &str, accept: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

fn said<'a>(texts: impl Iterator<Item = (&'a str, &'a str)>, at: usize) -> Level {
    let label = format!("{at}.pem");
    let own: Vec<_> = texts
        .filter(|(_, text)| text.split(['`', ' ', '=', ',', '"', ':']).any(|word| word == label))
        .collect();
    assert!(own.len() < 2, "{own:?}");
    match own.first() {
        None => Level::None,
        Some((level, _)) if *level == "warning" => Level::Overdue,
        Some(_) => Level::EndsSoon,
    }
}

#[test]
fn every_surface_says_the_same_on_either_side_of_each_threshold() {
    let cases = cases();
    let desk = desk(&cases);

    let output = sanedge()
        .args(["bundle", "--json"])
        .arg(desk.toml())
        .arg("-o")
        .arg(desk.bundle_file())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "a valid certificate is never refused: {}", text(&output));
    let bundle: Value = serde_json::from_slice(&output.stdout).unwrap();
    let compiled: BTreeMap<String, String> = bundle["hosts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["host"].as_str().unwrap().to_owned(), row["renewal"].as_str().unwrap().to_owned()))
        .collect();
    let output = sanedge().arg("bundle").arg(desk.toml()).arg("-o").arg(desk.bundle_file()).output().unwrap();
    let table = text(&output);

    let output = sanedge().args(["show", "--check", "--json"]).arg(desk.bundle_file()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let checked: Value = serde_json::from_slice(&output.stdout).unwrap();

    let edge = desk.serve();
    for (at, _) in cases.iter().enumerate().filter(|(_, case)| case.level != Level::None) {
        edge.wait_for_log(&format!("certificate={at}.pem"), Duration::from_secs(20));
    }
    let log = edge.log();
    let status = edge.status();
    let socket = edge.desk().path("admin.sock");
    let metrics = prometheus::parse(&get(&socket, "/metrics", "text/plain"));
    let page: Value = serde_json::from_str(&get(&socket, "/status", "application/json")).unwrap();
    let plain = get(&socket, "/status", "text/plain");

    for (at, case) in cases.iter().enumerate() {
        let (host, label) = (host(at), format!("{at}.pem"));
        let what = format!("{} days, {} s left", case.days, case.left_s);
        let name = match case.level {
            Level::None => "none",
            Level::Overdue => "overdue",
            Level::EndsSoon => "ends-soon",
        };
        assert_eq!(compiled[&host], name, "bundle --json: {what}");
        let findings = bundle["findings"].as_array().unwrap().iter().map(|finding| {
            let message = finding["message"].as_str().unwrap();
            (if message.contains("overdue") { "warning" } else { "error" }, message)
        });
        assert_eq!(said(findings, at), case.level, "bundle's findings: {what}");
        let marked =
            |table: &str| table.lines().any(|line| line.starts_with(&host) && line.contains("(renew)"));
        assert_eq!(marked(&table), case.level != Level::None, "bundle's table: {what}\n{table}");

        let troubles = checked["troubles"].as_array().unwrap().iter();
        let troubles =
            troubles.map(|one| (one["severity"].as_str().unwrap(), one["message"].as_str().unwrap()));
        assert_eq!(said(troubles, at), case.level, "show --check: {what}\n{checked:#}");

        let lines = log.lines().filter(|line| line.contains("certificate="));
        let lines = lines.map(|line| (if line.contains("level=warn") { "warning" } else { "error" }, line));
        assert_eq!(said(lines, at), case.level, "the log: {what}\n{log}");

        for status in [&status, &page] {
            let row = status["hosts"].as_array().unwrap().iter().find(|row| row["host"] == *host).unwrap();
            assert_eq!(row["renewal"], name, "status --json and the page's data: {what}");
        }
        assert_eq!(marked(&plain), case.level != Level::None, "status: {what}\n{plain}");

        // As the rules of docs/monitoring.md compare it.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let past = |family: &str| {
            now > metrics[&format!(
                "sanedge_certificate_{family}_timestamp_seconds{{host=\"{host}\",certificate=\"{label}\"}}"
            )]
        };
        assert_eq!(past("renewal_overdue"), case.level != Level::None, "the first rule: {what}");
        assert_eq!(past("ends_soon"), case.level == Level::EndsSoon, "the second rule: {what}");
        assert!(!past("expiry"), "{what}: {label}");
    }
    let rules = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/monitoring.md")).unwrap();
    for family in ["renewal_overdue", "ends_soon"] {
        assert!(
            rules.contains(&format!("time() > sanedge_certificate_{family}_timestamp_seconds")),
            "{rules}"
        );
    }
}
