//! The account at the CA, other CAs and other chains, and revocation: against a real CA (Pebble).

use std::fs;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::process::Output;

use super::acme::{Desk, without_pebble};
use super::support::edge::{sanedge, text};
use super::support::pebble::{Act, Front, Pebble, problem};

const A: &str = "a.localhost";
const B: &str = "b.localhost";

fn account(desk: &Desk, arguments: &[&str]) -> Output {
    sanedge().arg("account").args(arguments).arg("--acme").arg(desk.path("x.acme")).output().unwrap()
}

fn stored_key(desk: &Desk) -> String {
    let file = fs::read_dir(desk.path("state/accounts")).unwrap().next().unwrap().unwrap().path();
    let kept: serde_json::Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    assert_eq!(kept["next_key"], serde_json::Value::Null);
    kept["key"].as_str().unwrap().to_owned()
}

/// Adds lines to `[acme]` of the desk's sanedge.toml.
fn configured(desk: &Desk, lines: &str) {
    let toml = fs::read_to_string(desk.path("x.toml")).unwrap();
    fs::write(desk.path("x.toml"), toml.replacen("[acme]\n", &format!("[acme]\n{lines}\n"), 1)).unwrap();
    desk.bundled();
}

#[test]
fn an_account_is_bound_where_the_ca_wants_it() {
    if without_pebble("an_account_is_bound_where_the_ca_wants_it") {
        return;
    }
    let desk = Desk::with(&[A], |folder, port| {
        let keys = serde_json::json!({ "kid-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W" });
        let config =
            serde_json::json!({ "externalAccountBindingRequired": true, "externalAccountMACKeys": keys });
        Pebble::with(folder, port, &[], &config)
    });
    let (code, document) = desk.json(&[]);
    assert_eq!((code, &document["code"]), (1, &"acme-external-account".into()), "{document}");
    configured(&desk, "eab = { kid = \"kid-1\", key_file = \"eab.key\" }");
    let (code, document) = desk.json(&[]);
    assert_eq!((code, &document["code"]), (1, &"acme-eab-key".into()), "no file: {document}");
    for wrong in ["no base64!", "d3Jvbmcga2V5IHdyb25nIGtleSB3cm9uZyBrZXk"] {
        fs::write(desk.path("eab.key"), wrong).unwrap();
        let (code, document) = desk.json(&[]);
        assert_eq!(code, 1, "{wrong}: {document}");
    }
    assert_eq!(desk.front.count("finalize-order"), 0);
    fs::write(desk.path("eab.key"), "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W\n")
        .unwrap();
    let (code, document) = desk.json(&[]);
    assert_eq!(code, 0, "{document}");
    // The account is bound: the key is read no more.
    fs::remove_file(desk.path("eab.key")).unwrap();
    assert_eq!(desk.json(&[]).0, 0);
}

#[test]
fn the_account_is_shown_exported_and_given_another_key() {
    if without_pebble("the_account_is_shown_exported_and_given_another_key") {
        return;
    }
    let desk = Desk::with(&[A], Pebble::start);
    let said = text(&account(&desk, &["show"]));
    assert!(said.contains("none yet"), "{said}");
    for action in ["rollover", "dns-records"] {
        let output = account(&desk, &[action, "--json"]);
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (output.status.code(), &document["code"]),
            (Some(1), &"acme-no-account".into()),
            "{document}"
        );
    }
    assert_eq!(desk.json(&[]).0, 0);
    let show = || -> serde_json::Value {
        let output = account(&desk, &["show", "--json"]);
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["accounts"][0].clone()
    };
    let before = show();
    assert!(before["url"].as_str().unwrap().starts_with("https://") && before["blocked_until"].is_null());

    let file = desk.path("account.pem");
    let file = file.to_str().unwrap();
    assert!(account(&desk, &["export", file]).status.success());
    let exported = fs::read_to_string(file).unwrap();
    assert_eq!(fs::metadata(file).unwrap().mode() & 0o777, 0o600);
    assert!(exported.contains(before["url"].as_str().unwrap()) && exported.contains("BEGIN PRIVATE KEY"));
    rcgen::KeyPair::from_pem(&exported).unwrap();
    for there in [file, "/dev/stdout", "/dev/tty"] {
        let refused = account(&desk, &["export", there]);
        assert_eq!(refused.status.code(), Some(1), "{there}");
        assert!(!text(&refused).contains("PRIVATE"), "{there}");
    }
    assert_eq!(fs::read_to_string(file).unwrap(), exported);

    let old = stored_key(&desk);
    let output = account(&desk, &["rollover"]);
    assert!(output.status.success(), "{}", text(&output));
    let new = stored_key(&desk);
    assert_ne!(new, old);
    let after = show();
    assert_eq!(after["url"], before["url"]);
    assert_ne!(after["thumbprint"], before["thumbprint"]);
    assert_eq!(desk.json(&[]).0, 0, "the new key is taken");
    assert_eq!(desk.front.count("sign-me-up"), 1, "by the same account");

    // The answer is lost, before or after the CA has changed the key: the next run asks which key holds.
    for act in [Act::Cut, Act::Answer(String::new())] {
        let old = stored_key(&desk);
        let fault = act.clone();
        desk.front
            .faults(move |kind, _| if kind == "rollover-account-key" { fault.clone() } else { Act::Pass });
        let output = account(&desk, &["rollover"]);
        assert_eq!(output.status.code(), Some(1), "{act:?}: {}", text(&output));
        assert_eq!(desk.front.count("rollover-account-key"), 1, "{:?}", desk.front.seen());
        desk.front.faults(|_, _| Act::Pass);
        let (code, document) = desk.json(&[]);
        assert_eq!(code, 0, "{act:?}: {document}");
        assert_eq!(stored_key(&desk) == old, matches!(act, Act::Answer(_)), "{act:?}");
    }
    // A CA that says who it is in CAA records.
    let other = Desk::with(&[A], Pebble::start);
    other.front.faults(|kind, _| match kind {
        "dir" => Act::Change("\"meta\": {", "\"meta\": { \"caaIdentities\": [\"ca.test\"],".to_owned()),
        _ => Act::Pass,
    });
    assert_eq!(other.json(&[]).0, 0);
    let said = text(&account(&other, &["dns-records"]));
    assert!(!said.contains("CNAME"), "no name is proven by dns-01: {said}");
    assert!(said.starts_with(&format!("{A}. CAA 0 issue \"ca.test; accounturi=https://")), "{said}");
}

#[test]
fn a_revoked_certificate_is_never_brought_back() {
    if without_pebble("a_revoked_certificate_is_never_brought_back") {
        return;
    }
    let desk = Desk::with(&[A, B], Pebble::start);
    assert_eq!(desk.json(&[]).0, 0);
    let old = fs::read(desk.certificate(A)).unwrap();
    let revoke = |host: &str| {
        sanedge()
            .arg("revoke")
            .arg(host)
            .arg("--acme")
            .arg(desk.path("x.acme"))
            .arg("--json")
            .output()
            .unwrap()
    };
    assert_eq!(revoke("other.test").status.code(), Some(2));
    // A CA that refuses: nothing changes.
    desk.front.faults(|kind, _| match kind {
        "revoke-cert" => problem(500, "serverInternal", "down", ""),
        _ => Act::Pass,
    });
    let output = revoke(A);
    assert_eq!((output.status.code(), desk.front.count("revoke-cert")), (Some(1), 1), "{}", text(&output));
    assert!(desk.certificate(A).exists() && desk.serves(A));
    desk.front.faults(|_, _| Act::Pass);
    // Another user makes the bundle: it has the certificate until the deployment.
    fs::rename(desk.path("x.toml"), desk.path("y.toml")).unwrap();
    let output = revoke("A.localhost.");
    assert!(output.status.success(), "{}", text(&output));
    fs::rename(desk.path("y.toml"), desk.path("x.toml")).unwrap();
    assert!(!desk.certificate(A).exists() && desk.serves(A) && desk.path("state/deploy").exists());
    // A source that fails, for which the bundle in place would stand in.
    let broken = |bytes: &[u8]| {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(desk.certificate(A))
            .unwrap();
        std::io::Write::write_all(&mut file, bytes).unwrap();
    };
    broken(b"broken");
    let _ = sanedge().args(["renew", "--deploy"]).arg(desk.path("x.acme")).output().unwrap();
    assert!(!desk.serves(A) && desk.serves(B), "{:?}", desk.front.seen());
    fs::remove_file(desk.certificate(A)).unwrap();
    // The next run obtains another, with another key.
    let output = desk.renew(&[]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(desk.serves(A));
    assert_ne!(fs::read(desk.certificate(A)).unwrap(), old);
}

#[test]
fn another_ca_is_asked_only_where_the_first_is_at_fault() {
    if without_pebble("another_ca_is_asked_only_where_the_first_is_at_fault") {
        return;
    }
    let desk = Desk::with(&[A], Pebble::start);
    let folder = tempfile::tempdir().unwrap();
    // It validates where the first does.
    let port = fs::read_to_string(desk.path("pebble.json")).unwrap();
    let port: serde_json::Value = serde_json::from_str(&port).unwrap();
    let pebble =
        Pebble::start(folder.path(), u16::try_from(port["pebble"]["httpPort"].as_u64().unwrap()).unwrap());
    let second = Front::before(&pebble);
    let both = fs::read_to_string(desk.path("trust.pem")).unwrap() + &pebble.trust;
    fs::write(desk.path("trust.pem"), both).unwrap();
    let toml = fs::read_to_string(desk.path("x.toml")).unwrap();
    let fallback =
        format!("[[acme.fallback]]\ndirectory = {:?}\ntrust = \"trust.pem\"\n[[site]]", second.directory());
    fs::write(desk.path("x.toml"), toml.replacen("[[site]]", &fallback, 1)).unwrap();
    desk.bundled();
    // The names, the account and a limit are no fault of the CA.
    for (kind, status, refused) in [
        ("order-plz", 400, "rejectedIdentifier"),
        ("order-plz", 429, "rateLimited"),
        ("chalZ", 400, "connection"),
    ] {
        let _ = fs::remove_dir_all(desk.path("state"));
        desk.front
            .faults(move |now, _| if now == kind { problem(status, refused, "no", "") } else { Act::Pass });
        let (code, document) = desk.json(&[]);
        assert_eq!((code, second.total()), (1, 0), "{refused}: {document}");
    }
    // It is where it cannot issue; both are told if neither can.
    let down = |kind: &str, _| {
        if kind == "order-plz" { problem(503, "serverInternal", "down", "") } else { Act::Pass }
    };
    let _ = fs::remove_dir_all(desk.path("state"));
    desk.front.faults(down);
    second.faults(down);
    let (code, document) = desk.json(&[]);
    assert_eq!((code, &document["code"]), (1, &"acme-ca-fault".into()), "{document}");
    assert!(document["message"].as_str().unwrap().contains(&second.directory()), "{document}");
    second.faults(|_, _| Act::Pass);
    let told = || sanedge::bundle::acme::told::read(&desk.path("challenges")).unwrap();
    assert_eq!(told().failures["acme-ca-fault"], 1);
    assert_eq!(told().certificates[0].failure.as_ref().unwrap().code, "acme-ca-fault");
    let (code, document) = desk.json(&[]);
    assert_eq!((code, &document["certificates"][0]["outcome"]), (0, &"issued".into()), "{document}");
    assert!(desk.serves(A) && desk.is_clean());
    let after = told();
    assert_eq!((&after.certificates[0].directory, &after.failures), (&second.directory(), &told().failures));
    assert!(after.certificates[0].failure.is_none() && after.certificates[0].next.is_some());
    // The first is well again, and knows nothing of that certificate.
    desk.front.faults(|_, _| Act::Pass);
    assert_eq!(desk.json(&[]).0, 0);
    assert_eq!((desk.front.count("order-plz"), second.count("order-plz")), (1, 1));
}

#[test]
fn another_chain_is_taken_where_the_first_leads_to_no_trusted_root() {
    if without_pebble("another_chain_is_taken_where_the_first_leads_to_no_trusted_root") {
        return;
    }
    let roots = |alternate: bool| {
        let desk = Desk::with(&[A], |folder, port| {
            let variables = [("PEBBLE_ALTERNATE_ROOTS", "2"), ("PEBBLE_CHAIN_LENGTH", "3")];
            let mut pebble = Pebble::with(folder, port, &variables, &serde_json::json!({}));
            if alternate {
                pebble.trust = pebble.trust.replace(&pebble.root, "") + &pebble.other_root();
            }
            pebble
        });
        let (code, document) = desk.json(&[]);
        assert_eq!(code, 0, "{document}");
        assert!(desk.serves(A), "{document}");
        let pem = fs::read_to_string(desk.certificate(A)).unwrap();
        assert_eq!(pem.matches("BEGIN CERTIFICATE").count(), 4, "the end-entity and three above it");
        desk.front.count("certZ")
    };
    assert_eq!(roots(false), 1, "the first is good, and no other is asked for");
    assert!(roots(true) > 1);
}

#[test]
fn a_ca_that_refuses_some_nonces_issues_and_one_that_refuses_all_is_told() {
    if without_pebble("a_ca_that_refuses_some_nonces_issues_and_one_that_refuses_all_is_told") {
        return;
    }
    let with = |percent: &str| {
        let percent = percent.to_owned();
        Desk::with(&[A], move |folder, port| {
            Pebble::with(folder, port, &[("PEBBLE_WFE_NONCEREJECT", &percent)], &serde_json::json!({}))
        })
    };
    let all = with("100");
    let (code, document) = all.json(&[]);
    assert_eq!((code, &document["code"]), (1, &"acme-bad-nonce".into()), "{document}");
    assert_eq!(all.front.count("sign-me-up"), 5);
    let some = with("15");
    // Five in a row are refused once in 13,000 requests: then it is told as such, and the next run goes on.
    for _ in 0..10 {
        let (code, document) = some.json(&[]);
        if code == 0 {
            assert!(some.serves(A), "{document}");
            return;
        }
        assert_eq!(document["code"], "acme-bad-nonce", "{document}");
    }
    panic!("never issued");
}

#[test]
fn a_proof_that_the_ca_remembers_is_used_and_one_that_it_forgets_is_given_again() {
    if without_pebble("a_proof_that_the_ca_remembers_is_used_and_one_that_it_forgets_is_given_again") {
        return;
    }
    for (percent, proofs) in [("0", 2), ("100", 1)] {
        let desk = Desk::with(&[A], |folder, port| {
            Pebble::with(folder, port, &[("PEBBLE_AUTHZREUSE", percent)], &serde_json::json!({}))
        });
        for _ in 0..2 {
            let (code, document) = desk.json(&[]);
            assert_eq!(code, 0, "{document}");
        }
        assert_eq!((desk.front.count("chalZ"), desk.front.count("order-plz")), (proofs, 2), "{percent}");
        assert!(desk.is_clean());
    }
}

#[test]
fn what_the_ca_wants_of_its_user_first_stops_the_run_and_names_the_page() {
    if without_pebble("what_the_ca_wants_of_its_user_first_stops_the_run_and_names_the_page") {
        return;
    }
    let desk = Desk::with(&[A, B], Pebble::start);
    let body = r#"{"type":"urn:ietf:params:acme:error:userActionRequired","detail":"Terms of service have changed","instance":"https://ca.test/terms/2"}"#;
    let head = "HTTP/1.1 403 No\r\nContent-Type: application/problem+json\r\n";
    let answer = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    desk.front
        .faults(move |kind, _| if kind == "order-plz" { Act::Answer(answer.clone()) } else { Act::Pass });
    let output = desk.renew(&[]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("https://ca.test/terms/2"), "{}", text(&output));
    assert_eq!(desk.front.count("order-plz"), 1, "one host is enough to learn it");
    // It is remembered: nothing is asked until the user says that it has agreed, whatever the CA would say by then.
    desk.front.faults(|_, _| Act::Pass);
    for _ in 0..3 {
        let output = desk.renew(&[]);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let said = text(&output);
        assert!(said.contains("https://ca.test/terms/2") && !said.contains("next try"), "{said}");
        assert_eq!(desk.front.total(), 0, "{:?}", desk.front.seen());
    }
    assert_eq!(desk.json(&[]).0, 0, "with --now it is tried again");
    fs::remove_file(desk.certificate(A)).unwrap();
    let output = desk.renew(&[]);
    assert!(output.status.success(), "from then on it goes by itself: {}", text(&output));
}

#[test]
fn damaged_files_of_the_state_are_named_and_put_aside() {
    if without_pebble("damaged_files_of_the_state_are_named_and_put_aside") {
        return;
    }
    let desk = Desk::with(&[A], Pebble::start);
    assert_eq!(desk.json(&[]).0, 0);
    let account = fs::read_dir(desk.path("state/accounts")).unwrap().next().unwrap().unwrap().path();
    let record = desk.path("state/records").join(format!("{A}.json"));
    assert!(!text(&desk.renew(&[])).contains("damaged"));
    for file in [&account, &record, &desk.certificate(A)] {
        fs::write(file, "{ half").unwrap();
    }
    let output = desk.renew(&[]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(
        text(&output).matches("is damaged, and is treated as missing").count(),
        3,
        "{}",
        text(&output)
    );
    for file in [&account, &record, &desk.certificate(A)] {
        assert_eq!(fs::read_to_string(file.with_added_extension("damaged")).unwrap(), "{ half");
        assert!(file.exists(), "made anew");
    }
    assert!(!text(&desk.renew(&[])).contains("damaged"));
}

/// An edit that `sanedge bundle` has not seen is not taken by the timer's run; a renewal takes it, and says so.
#[test]
fn an_edited_file_is_named_and_not_deployed_by_a_run_that_has_nothing_new() {
    if without_pebble("an_edited_file_is_named_and_not_deployed_by_a_run_that_has_nothing_new") {
        return;
    }
    let desk = Desk::with(&[A], Pebble::start);
    assert_eq!(desk.json(&[]).0, 0);
    let before = fs::read(desk.path("x.bundle")).unwrap();
    let toml = fs::read_to_string(desk.path("x.toml")).unwrap();
    fs::write(
        desk.path("x.toml"),
        format!("{toml}[[site]]\nhosts = [\"{B}\"]\nupstream = [\"127.0.0.1:1\"]\n"),
    )
    .unwrap();
    let output = desk.renew(&[]);
    assert!(
        output.status.success() && text(&output).contains("has changed since `sanedge bundle`"),
        "{}",
        text(&output)
    );
    assert_eq!(fs::read(desk.path("x.bundle")).unwrap(), before);
    let output = desk.renew(&["--now"]);
    assert_eq!(output.status.code(), Some(3), "{B} has none: {}", text(&output));
    assert_ne!(fs::read(desk.path("x.bundle")).unwrap(), before);
    desk.bundled();
    let output = desk.renew(&[]);
    assert!(output.status.success() && !text(&output).contains("has changed"), "{}", text(&output));
    assert!(desk.serves(A) && desk.serves(B));
}

/// A second run can use the folder while the first waits for its second try, and `--every` repeats.
#[test]
fn the_state_is_free_while_a_run_waits() {
    if without_pebble("the_state_is_free_while_a_run_waits") {
        return;
    }
    let desk = Desk::with(&[A], |folder, _| Pebble::start(folder, 1));
    let said = fs::File::create(desk.path("said")).unwrap();
    let mut waiting = sanedge()
        .arg("renew")
        .arg(desk.path("x.acme"))
        .args(["--every", "1h"])
        .stdout(said.try_clone().unwrap())
        .stderr(said)
        .spawn()
        .unwrap();
    let until = std::time::Instant::now() + super::support::edge::PATIENCE;
    while !fs::read_to_string(desk.path("said")).unwrap().contains("trying again in") {
        assert!(std::time::Instant::now() < until, "{}", fs::read_to_string(desk.path("said")).unwrap());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let (code, document) = desk.json(&[]);
    assert_eq!((code, &document["code"]), (1, &"acme-connection".into()), "not busy: {document}");
    rustix::process::kill_process(rustix::process::Pid::from_child(&waiting), rustix::process::Signal::TERM)
        .unwrap();
    assert!(waiting.wait().unwrap().success());
    for bad in ["59s", "25h", "1d", "h", "", "-1h"] {
        assert_eq!(desk.renew(&["--every", bad]).status.code(), Some(2), "{bad}");
    }
}

/// Before there is an account, so that the first certificate can be obtained.
#[test]
fn the_delegation_of_each_name_that_dns_01_proves_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let printed = |provider: &str, credentials: &str| {
        let toml = format!(
            "board = \"host\"\n[listen]\nhttps = [\"127.0.0.1:0\"]\ndefault_host = \"9.9.9.9\"\n[acme]\nterms = \"agreed\"\nstate = \"state\"\n\
             [acme.dns]\nprovider = \"{provider}\"\ncredentials = \"dns.toml\"\n\
             [[acme.certificate]]\nnames = [\"*.recre.store\", \"recre.store\"]\n\
             [[site]]\nhosts = [\"recre.store\", \"a.recre.shop\", \"9.9.9.9\"]\nupstream = [\"127.0.0.1:1\"]\n"
        );
        fs::write(path("x.toml"), toml).unwrap();
        fs::write(path("dns.toml"), credentials).unwrap();
        fs::set_permissions(path("dns.toml"), fs::Permissions::from_mode(0o600)).unwrap();
        let output = sanedge().arg("bundle").arg(path("x.toml")).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let output =
            sanedge().args(["account", "dns-records", "--acme"]).arg(path("x.acme")).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let account =
        "url = \"https://auth.test\"\nusername = \"u\"\npassword = \"p\"\nsubdomain = \"d420c923\"\n";
    let of = |more: &str| printed("acme-dns", &format!("{account}{more}"));
    let (a, apex) = ("_acme-challenge.a.recre.shop", "_acme-challenge.recre.store");
    let said = of("fulldomain = \"d420c923.auth.test\"\n");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines[..2],
        [&format!("{a}. CNAME d420c923.auth.test."), &format!("{apex}. CNAME d420c923.auth.test.")]
    );
    assert!(lines.len() == 3 && lines[2].starts_with("; no CAA records yet"), "{said}");
    let said = of("");
    assert!(said.starts_with(&format!("; no CNAME records for {a}, {apex}: write `fulldomain")), "{said}");
    assert!(of("fulldomain = \"other.auth.test\"\n").contains("`fulldomain` is not valid"));
    let update = |zone: &str| {
        printed(
            "rfc2136",
            &format!("server = \"127.0.0.1\"\nkey_name = \"k\"\nsecret = \"c2FuZWRnZQ==\"\n{zone}"),
        )
    };
    let said = update("zone = \"acme.test\"\n");
    assert!(
        said.starts_with(&format!(
            "{a}. CNAME a.recre.shop.acme.test.\n{apex}. CNAME recre.store.acme.test.\n"
        )),
        "{said}"
    );
    let said = update("zone = \"recre.store\"\n");
    assert!(
        said.contains(&format!("{a}. CNAME a.recre.shop.recre.store.\n; {apex} needs no CNAME")),
        "{said}"
    );
    assert!(update("").contains("write `zone"));
    assert!(printed("exec", "program = \"/bin/true\"\n").contains("make each an alias (CNAME)"));
}
