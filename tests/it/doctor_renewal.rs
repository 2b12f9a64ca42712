//! What `sanedge doctor` says of certificates that `sanedge renew` obtains: by which CA, when next and why then, and why it fails.

use std::collections::BTreeMap;
use std::path::PathBuf;

use sanedge::bundle::acme::told::{FILE, Failure, Renewal, Renewals};
use sanedge::doctor::explain::{Code, Group};
use serde_json::Value;

use super::support::doctor_schema as schema;
use super::support::edge::{sanedge, text};

const DAY: i64 = 86_400;
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64
}

/// A folder with the files beside a bundle of managed hosts, none of which has a certificate.
struct Desk {
    folder: tempfile::TempDir,
    hosts: Vec<String>,
}

impl Desk {
    fn of(hosts: &[String], acme: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let site = |host: &String| format!("[[site]]\nhosts = [\"{host}\"]\nupstream = [\"127.0.0.1:1\"]\n");
        let toml = format!(
            "board = \"host\"\n[listen]\nhttps = [\"127.0.0.1:0\"]\nadmin = \"unix:admin.sock\"\npublic_https_port = 1\n\
             [acme]\nterms = \"agreed\"\nstate = \"state\"\nchallenges = \"challenges\"\n{acme}\n{}",
            hosts.iter().map(site).collect::<String>()
        );
        std::fs::write(folder.path().join("x.toml"), toml).unwrap();
        std::fs::create_dir(folder.path().join("challenges")).unwrap();
        let desk = Self { folder, hosts: hosts.to_vec() };
        let output = sanedge().arg("bundle").arg(desk.path("x.toml")).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn tell(&self, at: i64, certificates: Vec<Renewal>) {
        let told = Renewals { at, certificates, ..Renewals::default() };
        std::fs::write(self.path("challenges").join(FILE), serde_json::to_vec(&told).unwrap()).unwrap();
    }

    /// The checks of each host that are about its renewal.
    fn doctor(&self, file: &str) -> Vec<Vec<Value>> {
        let resolve =
            self.hosts.iter().flat_map(|host| ["--resolve".to_owned(), format!("{host}:127.0.0.1")]);
        let output =
            sanedge().args(["doctor", "--json"]).args(resolve).arg(self.path(file)).output().unwrap();
        let report: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
        schema::holds(&report);
        let sections = report["sections"].as_array().unwrap().iter();
        let hosts = sections.filter(|section| section["kind"] == "host");
        let renewal = |section: &Value| {
            let checks = section["checks"].as_array().unwrap().iter();
            checks.filter(|check| check["group"] == "renewal").cloned().collect()
        };
        let mut found: BTreeMap<&str, Vec<Value>> =
            hosts.map(|section| (section["subject"].as_str().unwrap(), renewal(section))).collect();
        let subject = |host: &String| format!("https://{host}:1");
        self.hosts.iter().map(|host| found.remove(subject(host).as_str()).unwrap()).collect()
    }
}

fn renewal(host: &str, outcome: &str) -> Renewal {
    Renewal {
        names: vec![host.to_owned()],
        directory: LETS_ENCRYPT.to_owned(),
        profile: "tlsserver".to_owned(),
        outcome: outcome.to_owned(),
        ..Renewal::default()
    }
}

fn of(check: &Value, key: &str) -> String {
    check[key].as_str().unwrap_or_else(|| panic!("{check:#}")).to_owned()
}

#[test]
fn each_failure_of_a_ca_and_each_local_cause_is_a_finding_with_its_remedy() {
    let codes: Vec<Code> = Code::ALL.iter().copied().filter(|code| code.group() == Group::Renewal).collect();
    assert!(codes.len() > 45, "{}", codes.len());
    let hosts: Vec<String> = (0..codes.len()).map(|at| format!("h{at}.recre.store")).collect();
    let desk = Desk::of(&hosts, "");
    let failed = |(code, host): (&Code, &String)| Renewal {
        next: Some(1_900_000_000),
        why: Some("the pause after the last failure".to_owned()),
        failure: Some(Failure {
            code: code.as_str().to_owned(),
            found: format!("said of {host}"),
            at: 1_790_000_000,
            ..Failure::default()
        }),
        ..renewal(host, "failed")
    };
    desk.tell(now(), codes.iter().zip(&hosts).map(failed).collect());
    for file in ["x.bundle", "x.toml"] {
        let found = desk.doctor(file);
        assert_eq!(found.len(), codes.len());
        for ((checks, code), host) in found.iter().zip(&codes).zip(&hosts) {
            let check = checks.iter().find(|check| check["code"] == code.as_str());
            let check = check.unwrap_or_else(|| panic!("{code:?}: {checks:#?}"));
            assert_eq!(check["outcome"], "warn", "a certificate that lasts is no failure");
            let text = of(check, "text");
            assert!(text.contains("next try 2030-03-17") && text.contains("the pause after"), "{text}");
            let evidence = check["evidence"].to_string();
            for part in [
                &format!("said of {host}"),
                "2026-09-21",
                "letsencrypt.org",
                "tlsserver",
                "no certificate yet",
            ] {
                assert!(evidence.contains(part), "{part}: {evidence}");
            }
            for key in ["why", "do"] {
                let said = of(check, key);
                assert!(
                    said.ends_with(['.', 'h', '0', '\''])
                        && !said.contains("{place}")
                        && !said.contains("{eab}"),
                    "{said}"
                );
            }
            assert!(!of(check, "you_see").contains("{host}"));
        }
    }
}

#[test]
fn a_certificate_that_is_fine_is_told_with_its_ca_its_days_and_its_next_renewal() {
    let host = "a.recre.store".to_owned();
    let desk = Desk::of(std::slice::from_ref(&host), "profile = \"tlsserver\"");
    let unknown = desk.doctor("x.bundle");
    let (outcome, said) = (of(&unknown[0][0], "outcome"), of(&unknown[0][0], "text"));
    assert!(
        outcome == "unknown" && said.contains("tlsserver") && said.contains("has not run since"),
        "{said}"
    );
    let fine = Renewal {
        not_after: Some(now() + 61 * DAY + 100),
        next: Some(1_900_000_000),
        why: Some("two thirds of its lifetime have passed by then".to_owned()),
        ..renewal(&host, "fine")
    };
    desk.tell(now(), vec![fine.clone()]);
    let checks = desk.doctor("x.bundle").remove(0);
    assert_eq!((checks.len(), &checks[0]["outcome"]), (1, &"ok".into()), "{checks:#?}");
    let said = of(&checks[0], "text");
    for part in
        ["acme-v02.api.letsencrypt.org", "tlsserver", "61 days left", "next renewal 2030-03-17", "two thirds"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    // A day without a run is none of a timer.
    for (age, silent) in [(DAY - 60, false), (DAY + 60, true)] {
        desk.tell(now() - age, vec![fine.clone()]);
        let checks = desk.doctor("x.bundle").remove(0);
        assert_eq!(checks.iter().any(|check| check["code"] == "acme-not-running"), silent, "{checks:#?}");
    }
}

#[test]
fn a_certificate_for_trials_is_told_loudly() {
    let host = "a.recre.store".to_owned();
    let desk = Desk::of(std::slice::from_ref(&host), "directory = \"letsencrypt-staging\"");
    assert!(of(&desk.doctor("x.bundle")[0][0], "text").starts_with("STAGING"));
    for staging in [true, false] {
        desk.tell(now(), vec![Renewal { staging, not_after: Some(now() + DAY), ..renewal(&host, "fine") }]);
        let checks = desk.doctor("x.bundle").remove(0);
        let found = checks.iter().find(|check| check["code"] == "acme-staging");
        assert_eq!(found.is_some(), staging, "{checks:#?}");
        let all = serde_json::to_string(&checks).unwrap();
        assert_eq!(all.contains("STAGING acme-v02"), staging, "{all}");
    }
}

#[test]
fn a_wildcard_speaks_for_its_hosts_and_a_file_that_is_damaged_for_none() {
    let host = "a.recre.store".to_owned();
    let dns = "[acme.dns]\nprovider = \"exec\"\ncredentials = \"dns.toml\"\n[[acme.certificate]]\nnames = [\"*.recre.store\"]";
    let desk = Desk::of(std::slice::from_ref(&host), dns);
    desk.tell(now(), vec![Renewal { not_after: Some(now() + DAY), ..renewal("*.recre.store", "fine") }]);
    assert!(of(&desk.doctor("x.bundle")[0][0], "text").contains("1 day left"));
    std::fs::write(desk.path("challenges").join(FILE), "{ half").unwrap();
    assert_eq!(desk.doctor("x.bundle")[0][0]["outcome"], "unknown");
    std::fs::write(desk.path("x.acme"), "{ half").unwrap();
    assert!(desk.doctor("x.bundle")[0].is_empty());
}
