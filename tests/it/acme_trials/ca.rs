//! Whole runs, from an empty state, under each of Pebble's settings.

use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use super::super::acme::Desk;
use super::super::support::pebble::Pebble;
use super::{needs, row};

const HOSTS: [&str; 2] = ["a.localhost", "b.localhost"];
/// Of the key that the external account is bound with.
const EAB: (&str, &str) = ("kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W");

struct Setting {
    title: &'static str,
    variables: &'static [(&'static str, &'static str)],
    keys: fn() -> Value,
    /// Lines of `[acme]`.
    lines: &'static str,
    /// For what Pebble does by chance; each with an empty state.
    runs: usize,
    /// The later ones have the account of the first.
    keeps_account: bool,
    /// The code of each run's failure.
    fails: Option<&'static str>,
    /// Beside the root: the intermediates that the bundle's chain has.
    chain: usize,
}

const PLAIN: Setting = Setting {
    title: "as it is",
    variables: &[],
    keys: || json!({}),
    lines: "",
    runs: 1,
    keeps_account: false,
    fails: None,
    chain: 2,
};

fn settings() -> Vec<Setting> {
    let eab = "eab = { kid = \"kid-1\", key_file = \"eab.key\" }\n";
    let bound =
        || json!({ "externalAccountBindingRequired": true, "externalAccountMACKeys": { EAB.0: EAB.1 } });
    vec![
        PLAIN,
        Setting {
            title: "15 % of nonces rejected",
            variables: &[("PEBBLE_WFE_NONCEREJECT", "15")],
            runs: 10,
            ..PLAIN
        },
        Setting {
            title: "all nonces rejected",
            variables: &[("PEBBLE_WFE_NONCEREJECT", "100")],
            fails: Some("acme-bad-nonce"),
            ..PLAIN
        },
        Setting {
            title: "authorisations never reused",
            variables: &[("PEBBLE_AUTHZREUSE", "0")],
            runs: 3,
            keeps_account: true,
            ..PLAIN
        },
        Setting {
            title: "authorisations always reused",
            variables: &[("PEBBLE_AUTHZREUSE", "100")],
            runs: 3,
            keeps_account: true,
            ..PLAIN
        },
        Setting {
            title: "chains of three intermediates",
            variables: &[("PEBBLE_CHAIN_LENGTH", "3")],
            chain: 4,
            ..PLAIN
        },
        Setting { title: "two alternate roots", variables: &[("PEBBLE_ALTERNATE_ROOTS", "2")], ..PLAIN },
        Setting {
            title: "validations that take up to 5 s",
            variables: &[("PEBBLE_VA_NOSLEEP", "0"), ("PEBBLE_VA_SLEEPTIME", "5")],
            ..PLAIN
        },
        Setting { title: "accounts are bound, and ours is", keys: bound, lines: eab, ..PLAIN },
        Setting {
            title: "accounts are bound, and ours is not",
            keys: bound,
            fails: Some("acme-external-account"),
            ..PLAIN
        },
        Setting {
            title: "ours is bound, and none need be",
            lines: eab,
            keys: || json!({ "externalAccountMACKeys": { EAB.0: EAB.1 } }),
            ..PLAIN
        },
    ]
}

#[test]
#[ignore = "tests/acme/run ca"]
fn a_whole_run_under_each_setting_of_the_ca() {
    needs(&[("pebble", "-help")]);
    row(&format!(
        "{:<42} {:>4} {:>7} {:>7} {:>9} {:>6} {:>9}  end",
        "setting", "runs", "orders", "proofs", "requests", "chain", "s a run"
    ));
    for setting in settings() {
        let desk = Desk::with(&HOSTS, |folder: &Path, port| {
            std::fs::write(folder.join("eab.key"), EAB.1).unwrap();
            Pebble::with(folder, port, setting.variables, &(setting.keys)())
        });
        let toml = std::fs::read_to_string(desk.path("x.toml")).unwrap();
        std::fs::write(
            desk.path("x.toml"),
            toml.replacen("\nstate = ", &format!("\n{}state = ", setting.lines), 1),
        )
        .unwrap();
        desk.bundled();
        let began = Instant::now();
        let (mut ends, mut orders, mut proofs, mut requests) = (Vec::new(), 0, 0, 0);
        for run in 0..setting.runs {
            if run == 0 || !setting.keeps_account {
                let _ = std::fs::remove_dir_all(desk.path("state"));
            }
            desk.front.faults(|_, _| super::super::support::pebble::Act::Pass);
            let (code, document) = desk.json(&[]);
            match setting.fails {
                None => assert!(
                    code == 0 && HOSTS.iter().all(|host| desk.serves(host)),
                    "{}: {document}",
                    setting.title
                ),
                Some(wanted) => assert_eq!(
                    (code, &document["code"]),
                    (1, &wanted.into()),
                    "{}: {document}",
                    setting.title
                ),
            }
            assert!(desk.is_clean(), "{}", setting.title);
            ends.push(document["code"].as_str().unwrap_or("issued").to_owned());
            orders += desk.front.count("order-plz");
            proofs += desk.front.count("chalZ");
            requests += desk.front.total();
        }
        ends.dedup();
        let chain = std::fs::read_to_string(desk.certificate(HOSTS[0]))
            .map_or(0, |pem| pem.matches("BEGIN CERTIFICATE").count());
        let seconds = began.elapsed().as_secs_f32() / setting.runs as f32;
        row(&format!(
            "{:<42} {:>4} {orders:>7} {proofs:>7} {requests:>9} {chain:>6} {seconds:>9.1}  {}",
            setting.title,
            setting.runs,
            ends.join(", ")
        ));
        assert_eq!(chain, if setting.fails.is_some() { 0 } else { setting.chain }, "{}", setting.title);
    }
}
