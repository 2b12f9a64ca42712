//! `sanedge bundle --carry-over`: one bad certificate does not keep the good ones out, and no host loses a valid one.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;
use std::time::{Duration, SystemTime};

use crate::support::edge::{Desk, Edge, sanedge, text};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sanedge::bundle::Bundle;
use sanedge::names::Host;

const ONE: &str = "one.recre.store";
const TWO: &str = "two.recre.store";
const DAY: Duration = Duration::from_secs(86_400);

/// Two hosts with a certificate each, 0.pem and 1.pem, and a bundle in place.
fn desk() -> Desk {
    let desk = Edge::certified_for(&[ONE])
        .certificate(&[TWO])
        .site(&[ONE], "127.0.0.1:1")
        .site(&[TWO], "127.0.0.1:1")
        .write();
    desk.bundled();
    desk
}

fn carry_over(desk: &Desk) -> Output {
    sanedge()
        .args(["bundle", "--carry-over"])
        .arg(desk.toml())
        .arg("-o")
        .arg(desk.bundle_file())
        .output()
        .unwrap()
}

/// What the bundle on the disk serves for a host.
fn served(desk: &Desk, host: &str) -> Option<Vec<u8>> {
    let bundle = Bundle::open(&desk.bundle_file()).unwrap();
    let entry = bundle.host(&Host::parse(host).unwrap())?;
    Some(bundle.certificates[usize::from(entry.certificate)].key.cert[0].to_vec())
}

fn file(desk: &Desk, name: &str) -> Vec<u8> {
    CertificateDer::from_pem_file(desk.path(name)).unwrap().to_vec()
}

/// Writes a certificate that ended `ago` before now, or has so long to go.
fn dated(desk: &Desk, at: usize, host: &str, ends: SystemTime) {
    let mut parameters = crate::support::certs::leaf_params(&[host]);
    (parameters.not_before, parameters.not_after) = ((ends - 90 * DAY).into(), ends.into());
    let issued = desk.ca.issue_with(parameters, rcgen::KeyPair::generate().unwrap());
    std::fs::write(desk.path(&format!("{at}.pem")), issued.chain_pem).unwrap();
    std::fs::write(desk.path(&format!("{at}.key")), issued.key_pem).unwrap();
}

#[test]
fn where_every_source_fails_nothing_is_written() {
    let desk = desk();
    let before = std::fs::read(desk.bundle_file()).unwrap();
    std::fs::remove_file(desk.path("0.pem")).unwrap();
    std::fs::write(desk.path("1.pem"), "").unwrap();
    let output = carry_over(&desk);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert_eq!(std::fs::read(desk.bundle_file()).unwrap(), before);
}

/// The twin: nothing fails.
#[test]
fn where_nothing_fails_it_is_as_without() {
    let desk = desk();
    desk.write_certificate(0, &[ONE]);
    let output = carry_over(&desk);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(served(&desk, ONE).unwrap(), file(&desk, "0.pem"));
    assert!(!text(&output).contains("(kept)") && !text(&output).contains("in part"), "{}", text(&output));
}

#[test]
fn a_source_that_fails_keeps_its_valid_certificate_and_the_others_are_renewed() {
    type Break = fn(&Desk);
    let breaks: [(&str, &str, Break); 8] = [
        ("chain deleted", "file-missing", |desk| std::fs::remove_file(desk.path("1.pem")).unwrap()),
        ("key deleted", "file-missing", |desk| std::fs::remove_file(desk.path("1.key")).unwrap()),
        ("empty", "file-empty", |desk| std::fs::write(desk.path("1.pem"), "").unwrap()),
        ("half a file", "1.pem", |desk| std::fs::write(desk.path("1.pem"), "-----BEGIN CERT").unwrap()),
        ("another key", "key-mismatch", |desk| {
            std::fs::write(desk.path("1.key"), rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
        }),
        ("expired", "expired", |desk| dated(desk, 1, TWO, SystemTime::now() - DAY)),
        ("another name", "host-not-covered", |desk| desk.write_certificate(1, &["other.recre.store"])),
        ("no name", "no-san", |desk| {
            let mut parameters = crate::support::certs::leaf_params(&[TWO]);
            parameters.subject_alt_names.clear();
            let issued = desk.ca.issue_with(parameters, rcgen::KeyPair::generate().unwrap());
            std::fs::write(desk.path("1.pem"), issued.chain_pem).unwrap();
            std::fs::write(desk.path("1.key"), issued.key_pem).unwrap();
        }),
    ];
    for (what, code, break_it) in breaks {
        let desk = desk();
        let before = served(&desk, TWO).unwrap();
        std::fs::set_permissions(desk.bundle_file(), std::fs::Permissions::from_mode(0o640)).unwrap();
        desk.write_certificate(0, &[ONE]);
        break_it(&desk);
        let plain = desk.bundle();
        assert_eq!(plain.status.code(), Some(1), "{what}: the plain command takes all or nothing");
        assert_ne!(served(&desk, ONE).unwrap(), file(&desk, "0.pem"), "{what}");
        // And again: what was carried over once is carried over as well.
        for _ in 0..2 {
            let output = carry_over(&desk);
            let said = text(&output);
            assert_eq!(output.status.code(), Some(3), "{what}: {said}");
            assert_eq!(served(&desk, ONE).unwrap(), file(&desk, "0.pem"), "{what}: renewed");
            assert_eq!(served(&desk, TWO).unwrap(), before, "{what}: kept");
            assert!(
                said.contains(code) && said.contains("[carried-over]") && said.contains("(kept)"),
                "{what}: {said}"
            );
            assert!(said.contains(TWO) && said.contains("in part"), "{what}: {said}");
        }
        let mode = desk.bundle_file().metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o640, "{what}: as an ordinary write");
        let others = std::fs::read_dir(desk.path(""))
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("bundle."));
        assert_eq!(others.count(), 0, "{what}: no file is left behind");
        // Mended, it is whole again.
        desk.write_certificate(1, &[TWO]);
        assert_eq!(carry_over(&desk).status.code(), Some(0), "{what}");
        assert_eq!(served(&desk, TWO).unwrap(), file(&desk, "1.pem"), "{what}");
    }
}

#[test]
fn one_that_has_expired_in_the_bundle_too_is_left_out_and_keeps_nothing_else_out() {
    let desk = desk();
    let now = SystemTime::now();
    dated(&desk, 1, TWO, now + Duration::from_secs(3));
    desk.bundled();
    std::thread::sleep(Duration::from_secs(4));
    desk.write_certificate(0, &[ONE]);
    let output = carry_over(&desk);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert_eq!(served(&desk, ONE).unwrap(), file(&desk, "0.pem"));
    assert_eq!(served(&desk, TWO), None);
    assert!(said.contains("[host-left-out]") && said.contains("[expired]"), "{said}");
}

#[test]
fn a_new_host_with_a_bad_certificate_keeps_nothing_out() {
    let desk = Edge::certified_for(&[ONE]).certificate(&[TWO]).site(&[ONE], "127.0.0.1:1").write();
    desk.bundled();
    let toml = std::fs::read_to_string(desk.toml())
        .unwrap()
        .replace(&format!("\"{ONE}\""), &format!("\"{ONE}\", \"{TWO}\""));
    std::fs::write(desk.toml(), toml).unwrap();
    std::fs::write(desk.path("1.pem"), "").unwrap();
    desk.write_certificate(0, &[ONE]);
    let output = carry_over(&desk);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert_eq!((served(&desk, ONE).unwrap(), served(&desk, TWO)), (file(&desk, "0.pem"), None));
}

#[test]
fn what_its_owner_took_out_of_the_file_never_comes_back() {
    let desk = desk();
    let revoked = served(&desk, TWO).unwrap();
    let before = std::fs::read(desk.bundle_file()).unwrap();
    let toml = std::fs::read_to_string(desk.toml()).unwrap();
    // Other files for the same host, and they fail; only the key's name is another; nothing at all.
    for other in [
        toml.replace("1.pem", "new.pem").replace("1.key", "new.key"),
        toml.replace("1.key", "new.key"),
        toml.replace("1.pem", "new.pem"),
    ] {
        std::fs::write(desk.toml(), other).unwrap();
        let output = carry_over(&desk);
        assert_eq!(output.status.code(), Some(1), "a host must not lose its certificate: {}", text(&output));
        assert!(text(&output).contains("would lose its certificate"), "{}", text(&output));
        assert_eq!(std::fs::read(desk.bundle_file()).unwrap(), before, "nothing was written");
    }
    // Covered by another source: the old one is gone for good, whatever fails later.
    desk.write_certificate(0, &[ONE, TWO]);
    let block = toml.split("[[certificate]]").find(|block| block.contains("1.pem")).unwrap();
    let (certificate, rest) = block.split_at(block.find("[[site]]").unwrap_or(block.len()));
    let without = toml.replace(&format!("[[certificate]]{certificate}"), rest.get(..0).unwrap_or_default());
    assert!(!without.contains("1.pem") && without.contains(TWO), "{without}");
    std::fs::write(desk.toml(), without).unwrap();
    assert_eq!(carry_over(&desk).status.code(), Some(0));
    assert_eq!(served(&desk, TWO).unwrap(), file(&desk, "0.pem"));
    std::fs::write(desk.toml(), &toml).unwrap();
    std::fs::remove_file(desk.path("1.pem")).unwrap();
    assert_eq!(carry_over(&desk).status.code(), Some(3));
    assert_ne!(served(&desk, TWO).unwrap(), revoked);
}

#[test]
fn what_no_certificate_is_to_blame_for_stays_an_error() {
    let desk = desk();
    let before = std::fs::read(desk.bundle_file()).unwrap();
    let toml = std::fs::read_to_string(desk.toml()).unwrap();
    assert!(toml.contains("trust = \""), "{toml}");
    for wrong in [
        toml.replace("127.0.0.1:1", "8.8.8.8:80"),
        format!("nonsense = 1\n{toml}"),
        toml.replace("trust = \"", "trust = \"not-"),
        toml.replace(&format!("\"{TWO}\""), "\"three.recre.store\""),
    ] {
        std::fs::write(desk.toml(), wrong).unwrap();
        let output = carry_over(&desk);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert_eq!(std::fs::read(desk.bundle_file()).unwrap(), before);
    }
}

#[test]
fn every_proof_is_made_again() {
    let desk = desk();
    let before = std::fs::read(desk.bundle_file()).unwrap();
    // The CA is another one now: what is in place is not trusted any more, and is still valid by its dates.
    let other = crate::support::certs::Ca::new("Other CA");
    let name = std::fs::read_dir(desk.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let trust = name.into_iter().find(|name| name.starts_with("ca") && name.ends_with(".pem")).unwrap();
    std::fs::write(desk.path(&trust), &other.pem).unwrap();
    let issued = other.issue(&[ONE]);
    std::fs::write(desk.path("0.pem"), issued.chain_pem).unwrap();
    std::fs::write(desk.path("0.key"), issued.key_pem).unwrap();
    let output = carry_over(&desk);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert_eq!(std::fs::read(desk.bundle_file()).unwrap(), before);
}

#[test]
fn without_a_readable_bundle_all_certificates_have_to_be_good() {
    let desk = desk();
    desk.write_certificate(0, &[ONE]);
    std::fs::write(desk.path("1.pem"), "").unwrap();
    let mut bytes = std::fs::read(desk.bundle_file()).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(desk.bundle_file(), &bytes).unwrap();
    let output = carry_over(&desk);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("nothing is carried over"), "{}", text(&output));
    desk.write_certificate(1, &[TWO]);
    assert_eq!(carry_over(&desk).status.code(), Some(0));
}

#[test]
fn json_says_what_was_kept() {
    let desk = desk();
    std::fs::remove_file(desk.path("1.pem")).unwrap();
    let mut command = sanedge();
    command.args(["bundle", "--carry-over", "--json"]).arg(desk.toml()).arg("-o").arg(desk.bundle_file());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&json["in_part"], &json["hosts"][0]["carried_over"], &json["hosts"][1]["carried_over"]),
        (&true.into(), &false.into(), &true.into())
    );
    assert!(json["written"].is_string(), "{json:#}");
}
