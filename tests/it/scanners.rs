//! What the scanners `sslyze` and `testssl.sh` find, held against what is written in `tests/data/scanners/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::HOST;
use crate::support::certs::leaf_params;
use crate::support::edge::{Edge, text};
use crate::support::node::{Interop, has, skip};
use crate::support::upstream::Upstream;
use serde_json::Value;

/// What an app would send: scanners look at its fields as well.
const APP: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nStrict-Transport-Security: max-age=31536000\r\n\
    Content-Security-Policy: default-src 'self'\r\nX-Frame-Options: DENY\r\nX-Content-Type-Options: nosniff\r\n\
    Referrer-Policy: no-referrer\r\n\r\nok";

async fn edge() -> (Edge, Upstream) {
    let upstream = Upstream::answering(APP).await;
    let desk = Edge::certified_for(&[HOST]).site(&[HOST], &upstream).write();
    // As long as a CA would make it: scanners look at that, too.
    let mut params = leaf_params(&[HOST]);
    params.not_before = time::OffsetDateTime::now_utc() - time::Duration::days(1);
    params.not_after = params.not_before + time::Duration::days(300);
    let issued = desk.ca.issue_with(params, rcgen::KeyPair::generate().unwrap());
    fs::write(desk.path("0.pem"), issued.chain_pem).unwrap();
    fs::write(desk.path("0.key"), issued.key_pem).unwrap();
    (desk.serve(), upstream)
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/scanners").join(name)
}

/// Holds what was found against the file of that name, less its comments. What differs is left beside the test's build.
fn assert_as_written(name: &str, found: &str) {
    let written = fs::read_to_string(data(name)).unwrap();
    let written: Vec<&str> =
        written.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    let found: Vec<&str> = found.lines().filter(|line| !line.is_empty()).collect();
    if found != written {
        let beside = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&beside, found.join("\n")).unwrap();
        let new: Vec<_> = found.iter().filter(|line| !written.contains(line)).collect();
        let gone: Vec<_> = written.iter().filter(|line| !found.contains(line)).collect();
        panic!("{} has other findings: {new:#?} are new, {gone:#?} are gone", beside.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sslyze_finds_mozillas_intermediate_configuration_and_no_weakness() {
    let test = "sslyze_finds_mozillas_intermediate_configuration_and_no_weakness";
    let Some(interop) = Interop::ready(test) else { return };
    let Some(python) = interop.python(test) else { return };
    let (edge, _upstream) = edge().await;
    let mut command = Command::new(python.with_file_name("sslyze"));
    command.args(["--mozilla_config=intermediate", "--certinfo_ca_file"]).arg(edge.desk().ca_file());
    command.arg(format!("{HOST}:{}{{127.0.0.1}}", edge.https.port()));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = text(&output);
    assert!(output.status.success() && said.contains("OK - Compliant."), "{said}");
    // One paragraph for each look; that at the certificate is of the day and of a CA that nobody knows.
    let looks = said.split(" SCANS COMPLETED").next().unwrap().split("\n * ").skip(1);
    let mut looks: Vec<&str> = looks.filter(|look| !look.starts_with("Certificates")).collect();
    looks.sort_unstable();
    assert_as_written("sslyze.txt", &looks.join("\n"));
    edge.stop();
}

/// `tests/scanners/testssl`: it takes minutes.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: tests/scanners/testssl"]
async fn testssl_finds_nothing_above_low_but_what_is_the_test_cas() {
    if !has("testssl", "--version") {
        return skip("testssl_finds_nothing_above_low_but_what_is_the_test_cas", "it needs testssl.sh");
    }
    let (edge, _upstream) = edge().await;
    let json = edge.desk().path("testssl.json");
    let mut command = Command::new("testssl");
    // Nothing is asked of anybody else: no DNS, no OCSP, no CRL.
    command.args(["--ip", "127.0.0.1", "--nodns", "none", "--warnings", "off", "--color", "0", "--quiet"]);
    command.arg("--add-ca").arg(edge.desk().ca_file()).arg("--jsonfile").arg(&json);
    command.arg(edge.url(HOST));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let found = fs::read_to_string(&json).unwrap_or_else(|_| panic!("{}", text(&output)));
    let found: Value = serde_json::from_str(&found).unwrap();
    let found = found.as_array().unwrap();
    assert!(found.len() > 80, "it looked at few things: {}", text(&output));
    let above_low = found
        .iter()
        .filter(|one| !["OK", "INFO", "LOW", "DEBUG"].contains(&one["severity"].as_str().unwrap()));
    let word = |one: &Value, key: &str| one[key].as_str().unwrap().to_owned();
    let mut lines: Vec<_> = above_low
        .map(|one| format!("{} {}: {}", word(one, "severity"), word(one, "id"), word(one, "finding")))
        .collect();
    lines.sort_unstable();
    println!("{} looks; above low:\n{}", found.len(), lines.join("\n"));
    assert_as_written("testssl.txt", &lines.join("\n"));
    edge.stop();
}
