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

/// One line of testssl.sh for a simulated client: its name, and what it gets.
fn simulated(line: &str) -> Option<(String, String)> {
    let (name, result) = line.strip_prefix(' ')?.split_at_checked(29)?;
    let result = match result.split_once(' ') {
        Some(("No", "connection")) => "none".to_owned(),
        Some((version, suite)) => {
            let version = version.strip_prefix("TLSv")?;
            let (suite, group) = (suite.split(',').next()?, suite.split_once('(')?.1.strip_suffix(')')?);
            let cipher =
                suite.split_once("SA-").map_or(suite.trim_start_matches("TLS_"), |(_, cipher)| cipher);
            let cipher =
                cipher.trim_end_matches("SHA256").trim_end_matches("SHA384").trim_end_matches(['-', '_']);
            let cipher = cipher.replace('_', "-").replace("AES-", "AES");
            format!("{version}, {cipher}, {group}")
        }
        None => return None,
    };
    Some((name.trim_end().to_owned(), result))
}

/// The table of docs/tls.md: neighbours of one family that get the same are one row.
fn table(ecdsa: &[(String, String)], rsa: &[(String, String)]) -> String {
    let mut rows: Vec<(&str, &str, &str, &str)> = Vec::new();
    for ((name, with_ecdsa), (same, with_rsa)) in ecdsa.iter().zip(rsa) {
        assert_eq!(name, same);
        let family = |name: &str| name.split(' ').next().map(str::to_owned);
        match rows.last_mut() {
            Some(row) if (row.2, row.3, family(row.0)) == (with_ecdsa, with_rsa, family(name)) => {
                row.1 = name
            }
            _ => rows.push((name, name, with_ecdsa, with_rsa)),
        }
    }
    let row = |(first, last, ecdsa, rsa): &(&str, &str, &str, &str)| {
        let names = if first == last { (*first).to_owned() } else { format!("{first} to {last}") };
        format!("| {names} | {ecdsa} | {} |\n", if rsa == ecdsa { "the same" } else { rsa })
    };
    let rows: String = rows.iter().map(row).collect();
    format!("| client | with an ECDSA certificate (P-256) | with an RSA certificate |\n|---|---|---|\n{rows}")
}

/// `tests/scanners/clients`: each client that testssl.sh can simulate gets what docs/tls.md says.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: tests/scanners/clients"]
async fn simulated_clients_get_what_docs_tls_md_says() {
    if !has("testssl", "--version") {
        return skip("simulated_clients_get_what_docs_tls_md_says", "it needs testssl.sh");
    }
    let upstream = Upstream::answering(APP).await;
    // The order of suites for a processor with instructions for AES.
    let edge_with = |key: rcgen::KeyPair| {
        let desk = Edge::certified_for(&[HOST]).top("suite_order = \"aes\"").site(&[HOST], &upstream).write();
        let issued = desk.ca.issue_with(leaf_params(&[HOST]), key);
        fs::write(desk.path("0.pem"), issued.chain_pem).unwrap();
        fs::write(desk.path("0.key"), issued.key_pem).unwrap();
        desk.serve()
    };
    let rsa = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/valid/rsa2048.key");
    let rsa = rcgen::KeyPair::from_pem(&fs::read_to_string(rsa).unwrap()).unwrap();
    let edges = [rcgen::KeyPair::generate().unwrap(), rsa].map(edge_with);
    let running = edges.each_ref().map(|edge| {
        let mut command = Command::new("testssl");
        command.args(["--client-simulation", "--ip", "127.0.0.1", "--nodns", "none", "--warnings", "off"]);
        command.args(["--color", "0", "--quiet", &edge.url(HOST)]).env("ALL_CLIENTS", "true");
        tokio::task::spawn_blocking(move || command.output().unwrap())
    });
    let mut found = Vec::new();
    for output in running {
        let said = text(&output.await.unwrap());
        let clients: Vec<_> = said.lines().filter_map(simulated).collect();
        assert!(clients.len() > 150, "few clients were simulated: {said}");
        found.push(clients);
    }
    let wanted = table(&found[0], &found[1]);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/tls.md");
    let text = fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once("<!-- clients -->\n").unwrap();
    let (written, after) = rest.split_once("<!-- /clients -->").unwrap();
    if std::env::var_os("SANEDGE_WRITE_DOCS").is_some() {
        let text = format!("{before}<!-- clients -->\n{wanted}<!-- /clients -->{after}");
        fs::write(page, text).unwrap();
    } else {
        assert_eq!(written, wanted, "run SANEDGE_WRITE_DOCS=1 tests/scanners/clients");
    }
    for edge in edges {
        edge.stop();
    }
}
