//! What the running edge serves is what sanedge.toml and its files say, or the commands say so.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, SystemTime};

use crate::support::HOST;
use crate::support::edge::{Desk, Edge, EdgeBuilder, json, sanedge, text};
use serde_json::Value;

const NEW: &str = "socket.recre.store";

fn house() -> EdgeBuilder {
    Edge::certified_for(&[HOST, NEW])
        .site_with(&[HOST], "127.0.0.1:1", "path = \"/\"")
        .limits("sessions_max = 100")
}

fn source(desk: &Desk) -> String {
    std::fs::read_to_string(desk.toml()).unwrap()
}

/// sanedge.toml with `to` in the place of `from`, newer than any bundle that was written before.
fn edit(desk: &Desk, from: &str, to: &str) {
    let before = source(desk);
    assert!(before.contains(from), "{from:?} is not in\n{before}");
    std::fs::write(desk.toml(), before.replacen(from, to, 1)).unwrap();
    newer(&desk.toml());
}

fn newer(path: &Path) {
    let file = std::fs::File::options().append(true).open(path).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(2)).unwrap();
}

fn check(desk: &Desk, json: bool) -> Output {
    let mut command = sanedge();
    command.args(["show", "--check"]).arg(desk.bundle_file());
    if json {
        command.arg("--json");
    }
    command.output().unwrap()
}

#[test]
fn the_check_compares_everything_that_the_file_says() {
    let desk = house().write();
    let original = source(&desk);
    let mut tried = 0;
    for (from, to, named) in [
        ("upstream = [\"127.0.0.1:1\"]", "upstream = [\"127.0.0.1:2\"]", "`upstream` of `recre.store`"),
        (
            "upstream = [\"127.0.0.1:1\"]",
            "upstream = [\"127.0.0.1:1\", \"127.0.0.1:2\"]",
            "`upstream` of `recre.store`",
        ),
        (
            "hosts = [\"recre.store\"]",
            "hosts = [\"recre.store\", \"socket.recre.store\"]",
            "`socket.recre.store`, which is new",
        ),
        ("hosts = [\"recre.store\"]", "hosts = [\"socket.recre.store\"]", "`recre.store`, which is gone"),
        ("path = \"/\"", "path = \"/x/\"", "the path `/x/` of `recre.store`, which is new"),
        ("path = \"/\"", "origins = [\"https://other.test\"]", "`origins` of `recre.store`"),
        ("path = \"/\"", "require_origin = true", "`require_origin`"),
        ("path = \"/\"", "allow = [\"10.0.0.0/8\"]", "`allow`"),
        ("path = \"/\"", "idle_timeout = \"30s\"", "`idle_timeout` of `recre.store` (none, now \"30s\")"),
        ("path = \"/\"", "access_log = true", "`access_log`"),
        (
            "path = \"/\"",
            "body_bytes_max = \"1KiB\"",
            "`body_bytes_max` of `recre.store` (none, now \"1KiB\")",
        ),
        (
            "path = \"/\"",
            "[[site.route]]\npath = \"/socket.io/\"\nupstream = [\"127.0.0.1:3\"]",
            "the path `/socket.io/` of `recre.store`, which is new",
        ),
        ("sessions_max = 100", "sessions_max = 101", "`sessions_max` (100, now 101)"),
        (
            "sessions_max = 100",
            "sessions_max = 100\nhead_timeout = \"3s\"",
            "`head_timeout` (\"10s\", now \"3s\")",
        ),
        ("https = [\"127.0.0.1:0\"]", "https = [\"127.0.0.1:0\", \"127.0.0.1:8443\"]", "`https`"),
        ("[listen]", "[listen]\npublic_https_port = 8443", "`public_https_port`"),
        (
            "[listen]",
            "[listen]\ndefault_host = \"recre.store\"",
            "`default_host` (none, now \"recre.store\")",
        ),
        ("[listen]", "[listen]\nproxy_protocol_from = [\"10.0.0.1/32\"]", "`proxy_protocol_from`"),
        ("board", "drain_spread = \"2s\"\nboard", "`drain_spread`"),
        ("board", "trusted_proxies = [\"10.0.0.1/32\"]\nboard", "`trusted_proxies`"),
        ("board", "exempt = []\nboard", "`exempt`"),
        ("board", "watch = true\nboard", "`watch`"),
        ("board", "suite_order = \"chacha\"\nboard", "`suite_order`"),
        ("board", "post_quantum = \"off\"\nboard", "`post_quantum`"),
        ("board = \"host\"", "board = \"rpi4\"", "`board`"),
    ] {
        std::fs::write(desk.toml(), &original).unwrap();
        desk.bundled();
        let same = check(&desk, false);
        assert!(same.status.success() && text(&same).contains("the bundle matches"), "{}", text(&same));
        edit(&desk, from, to);
        let said = check(&desk, false);
        assert_eq!(said.status.code(), Some(1), "{to}: {}", text(&said));
        assert!(
            text(&said).contains(named) && text(&said).contains("[older-than-its-sources]"),
            "{to}: {}",
            text(&said)
        );
        assert!(text(&said).contains("sanedge apply "), "{}", text(&said));
        let document = json(&check(&desk, true));
        assert!(
            document["troubles"][0]["differences"].as_array().is_some_and(|all| !all.is_empty()),
            "{document}"
        );
        tried += 1;
    }
    assert!(tried > 20);
}

#[test]
fn a_comment_a_blank_and_a_touched_file_are_no_difference() {
    let edge = house().start();
    let desk = edge.desk();
    edit(desk, "[listen]", "# a comment\n\n[listen]");
    newer(&desk.path("0.pem"));
    assert!(check(desk, false).status.success());
    for words in [&["reload"][..], &["status"]] {
        let said = text(&desk.ask(words));
        assert!(!said.contains("warning") && !said.contains("newer"), "{said}");
    }
    assert_eq!(json(&desk.ask(&["reload", "--json"]))["source"]["state"], "same");
    edge.stop();
}

#[test]
fn reload_and_status_say_that_the_file_is_newer_and_what_to_type() {
    let edge = house().start();
    let desk = edge.desk();
    edit(desk, "path = \"/\"", "origins = [\"https://other.test\"]");
    let toml = desk.toml().display().to_string();
    for words in [&["reload"][..], &["status"]] {
        let output = desk.ask(words);
        let said = text(&output);
        assert!(output.status.success(), "the bundle itself is good: {said}");
        assert!(said.contains(&format!("warning {toml} is newer than the bundle in use")), "{said}");
        assert!(said.contains("`origins` of `recre.store`"), "{said}");
        assert!(said.contains(&format!("Type `sanedge apply {toml}`")), "{said}");
    }
    // Last in `status`, and once: the edge itself has compared the times.
    let said = text(&desk.ask(&["status"]));
    assert_eq!(said.matches("is newer than").count(), 1, "{said}");
    assert!(said.lines().last().unwrap().starts_with("warning "), "{said}");
    for words in [&["reload", "--json"][..], &["status", "--json"]] {
        let document = json(&desk.ask(words));
        assert_eq!(document["source"]["state"], "newer", "{document}");
        assert_eq!(document["source"]["file"], toml.as_str());
        assert_eq!(document["source"]["differences"][0]["what"], "`origins` of `recre.store`");
    }
    let problems = json(&desk.ask(&["status", "--json"]))["problems"].clone();
    assert_eq!(problems.as_array().unwrap().len(), 1, "{problems}");
    assert_eq!((&problems[0]["code"], &problems[0]["severity"]), (&"source-newer".into(), &"warning".into()));
    assert!(problems[0]["command"].as_str().unwrap().starts_with("sanedge apply "), "{problems}");
    // What it says to type helps.
    let command = json(&desk.ask(&["status", "--json"]))["source"]["command"].as_str().unwrap().to_owned();
    let path =
        format!("{}:/usr/bin:/bin", Path::new(env!("CARGO_BIN_EXE_sanedge")).parent().unwrap().display());
    let typed = std::process::Command::new("sh").args(["-c", &command]).env("PATH", path).output().unwrap();
    assert!(typed.status.success(), "{command}: {}", text(&typed));
    let said = text(&desk.ask(&["status"]));
    assert!(!said.contains("warning") && said.ends_with("\nnothing is wrong\n"), "{said}");
    edge.stop();
}

/// The running edge takes other listeners only at its next start.
#[test]
fn for_other_listeners_the_command_is_a_restart() {
    let edge = house().start();
    edit(edge.desk(), "https = [\"127.0.0.1:0\"]", "https = [\"127.0.0.1:2\"]");
    let said = text(&edge.desk().ask(&["status"]));
    assert!(said.contains(" --restart`") && !said.contains("sanedge reload"), "{said}");
    edge.stop();
}

#[test]
fn a_renewed_certificate_that_was_not_bundled_is_named() {
    let edge = house().start();
    let desk = edge.desk();
    desk.write_certificate(0, &[HOST, NEW]);
    newer(&desk.path("0.pem"));
    let said = text(&desk.ask(&["reload"]));
    assert!(said.contains("0.pem, ") && said.contains("0.key are newer than the bundle in use"), "{said}");
    assert!(
        said.contains("the certificate of `recre.store`") && said.contains("Type `sanedge apply "),
        "{said}"
    );
    // Bundled, and not taken.
    desk.bundled();
    let said = text(&desk.ask(&["status"]));
    assert!(
        said.contains("does not use the bundle on disk") && said.contains("Type `sanedge reload --admin "),
        "{said}"
    );
    assert_eq!(json(&desk.ask(&["status", "--json"]))["source"]["state"], "not-taken");
    assert!(!text(&desk.ask(&["reload"])).contains("warning"));
    edge.stop();
}

#[test]
fn a_file_that_makes_no_bundle_is_said_with_the_command_that_shows_why() {
    let edge = house().start();
    let desk = edge.desk();
    edit(desk, "board", "nonsense = 1\nboard");
    let said = text(&desk.ask(&["reload"]));
    assert!(said.contains("has 1 error; the edge keeps") && said.contains("Type `sanedge bundle "), "{said}");
    assert_eq!(json(&desk.ask(&["status", "--json"]))["source"]["state"], "broken");
    std::fs::remove_file(desk.toml()).unwrap();
    let said = text(&desk.ask(&["status"]));
    assert!(!said.contains("sanedge.toml"), "a bundle from the desk has no source: {said}");
    assert!(json(&desk.ask(&["status", "--json"]))["source"].is_null());
    edge.stop();
}

/// Who may ask the edge, and read no key, compares times.
#[test]
fn without_the_right_to_read_a_key_times_are_compared() {
    if !rustix::process::geteuid().is_root() {
        return crate::support::node::skip(
            "without_the_right_to_read_a_key_times_are_compared",
            "it needs root",
        );
    }
    let edge = house().write().serve_as(65_534, 65_534);
    let desk = edge.desk();
    std::fs::set_permissions(desk.path("0.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let as_other = |words: &[&str]| {
        let mut command = std::process::Command::new(desk.path("sanedge"));
        command.uid(65_534).gid(65_534).args(words).arg("--admin").arg(desk.path("admin.sock"));
        text(&command.output().unwrap())
    };
    let said = as_other(&["status"]);
    assert!(said.contains("note not compared with ") && said.contains("with sudo"), "{said}");
    edit(desk, "127.0.0.1:1\"]", "127.0.0.1:2\"]");
    let said = as_other(&["status"]);
    assert!(said.contains("is newer than the bundle in use. Type `sanedge apply "), "{said}");
    edge.stop();
}

#[test]
fn two_files_in_one_folder_make_two_bundles() {
    let desk = house().write();
    std::fs::copy(desk.toml(), desk.path("a.toml")).unwrap();
    std::fs::write(desk.path("b.toml"), source(&desk).replace("127.0.0.1:1\"", "127.0.0.1:2\"")).unwrap();
    std::fs::copy(desk.toml(), desk.path("no-ending")).unwrap();
    for (name, bundle) in [("a.toml", "a.bundle"), ("b.toml", "b.bundle"), ("no-ending", "no-ending.bundle")]
    {
        let output = sanedge().arg("bundle").arg(desk.path(name)).output().unwrap();
        assert!(output.status.success() && text(&output).contains(bundle), "{}", text(&output));
    }
    assert!(!desk.path("sanedge.bundle").exists());
    let show = |name: &str| text(&sanedge().arg("show").arg(desk.path(name)).output().unwrap());
    assert!(show("a.bundle").contains("127.0.0.1:1") && show("b.bundle").contains("127.0.0.1:2"));
    // And each is checked against its own.
    for bundle in ["a.bundle", "b.bundle"] {
        let output = sanedge().args(["show", "--check"]).arg(desk.path(bundle)).output().unwrap();
        assert!(output.status.success() && text(&output).contains("the bundle matches"), "{}", text(&output));
    }
}

#[test]
fn every_command_that_fails_says_so_in_one_shape() {
    let desk = house().write();
    desk.bundled();
    let (nowhere, admin) = (desk.path("nowhere.bundle"), desk.path("nobody.sock"));
    let (nowhere, admin) = (nowhere.to_str().unwrap(), admin.to_str().unwrap());
    let toml = desk.toml();
    edit(&desk, "[listen]", "nonsense = 1\n[listen]");
    let mut seen = Vec::new();
    for (words, exit, code) in [
        (vec!["bundle", toml.to_str().unwrap()], 1, "findings"),
        (vec!["bundle", nowhere], 1, "findings"),
        (vec!["bundle"], 2, "usage"),
        (vec!["show", nowhere], 1, "bundle-missing"),
        (vec!["show", "--check", nowhere], 1, "bundle-missing"),
        (vec!["show", "--check", desk.bundle_file().to_str().unwrap()], 1, "sources-broken"),
        (vec!["show", toml.to_str().unwrap()], 1, "bundle-refused"),
        (vec!["reload", "--admin", admin], 1, "edge-unreachable"),
        (vec!["reload", "--bundle", nowhere], 1, "bundle-missing"),
        (vec!["status", "--admin", admin], 1, "edge-unreachable"),
        (vec!["status", "--watch", "--admin", admin], 1, "edge-unreachable"),
        (vec!["status", "--admin", "192.0.2.1:1"], 2, "usage"),
        (vec!["start"], 2, "usage"),
        (vec!["doctor", "ftp://recre.store"], 2, "usage"),
    ] {
        let output = sanedge().args(&words).arg("--json").output().unwrap();
        assert_eq!(output.status.code(), Some(exit), "{words:?}: {}", text(&output));
        let document = json(&output);
        assert_eq!(document["ok"], false, "{words:?}: {document}");
        assert_eq!(document["code"], code, "{words:?}: {document}");
        assert!(document["message"].as_str().is_some_and(|text| text.len() > 10), "{words:?}: {document}");
        seen.push(code);
    }
    assert!(seen.len() > 10);
}

#[test]
fn the_admin_socket_refuses_in_the_same_shape() {
    let edge = house().start();
    let desk = edge.desk();
    std::fs::write(desk.bundle_file(), "nonsense").unwrap();
    let refused = desk.ask(&["reload", "--json"]);
    assert_eq!(refused.status.code(), Some(1));
    let document = json(&refused);
    assert_eq!(
        (&document["ok"], &document["code"]),
        (&Value::Bool(false), &"reload-refused".into()),
        "{document}"
    );
    assert!(document["message"].as_str().unwrap().contains("sanedge.bundle"), "{document}");
    edge.stop();
}

#[test]
fn verbs_of_other_programs_name_the_right_command() {
    let mut tried = 0;
    for (words, wanted) in [
        (&["start"][..], "sanedge serve sanedge.bundle"),
        (&["run"], "sanedge serve"),
        (&["check", "Cargo.toml"], "sanedge bundle Cargo.toml"),
        (&["validate"], "sanedge bundle sanedge.toml"),
        (&["test"], "sanedge bundle"),
        (&["-t"], "sanedge bundle"),
        (&["stop"], "systemctl stop sanedge"),
        (&["restart"], "systemctl restart sanedge"),
        (&["-s", "reload"], "sanedge reload"),
        (&["certonly"], "sanedge renew"),
        (&["version"], "sanedge --version"),
        (&["-v"], "sanedge --version"),
        (&["list"], "sanedge show"),
        (&["logs"], "journalctl -u sanedge"),
    ] {
        let output = sanedge().args(words).output().unwrap();
        let said = text(&output);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {said}");
        assert!(said.contains(wanted) && said.starts_with("error there is no command"), "{words:?}: {said}");
        tried += 1;
    }
    assert!(tried > 10);
    // The healthy twins: a word that nobody uses gets clap's own, and real commands work.
    let said = text(&sanedge().arg("banana").output().unwrap());
    assert!(said.contains("unrecognized subcommand 'banana'"), "{said}");
    assert!(sanedge().arg("--version").output().unwrap().status.success());
    assert!(sanedge().arg("--help").output().unwrap().status.success());
}

#[test]
fn keys_for_what_it_does_not_do_get_the_reason_and_the_way_out() {
    let desk = house().write();
    let original = source(&desk);
    let mut tried = 0;
    for (key, instead) in [
        ("http2 = true", "Browsers choose HTTP/1.1"),
        ("root = \"/var/www\"", "serves no files"),
        ("basic_auth = \"a:b\"", "asks for no passwords"),
        ("php_fastcgi = \"unix:/x\"", "supports only HTTP/1.1"),
        ("gzip = true", "Compress in the app"),
        ("rewrite = \"^/a /b\"", "reaches the app unchanged"),
        ("rate_limit = 10", "address_handshakes_per_s_max"),
        ("upstream_tls = true", "plain HTTP to the app"),
        ("proxy_buffering = \"off\"", "stream"),
        ("websocket = true", "WebSockets are forwarded"),
        ("ssl_protocols = \"TLSv1.3\"", "suite_order"),
        ("certresolver = \"le\"", "docs/renewal.md"),
        ("proxy_set_header = []", "RFC 9110"),
        ("hsts_subdomains = true", "includeSubDomains"),
        ("Basic-Auth = true", "asks for no passwords"),
    ] {
        for header in ["[listen]\n", "[[site]]\n"] {
            let changed = original.replacen(header, &format!("{header}{key}\n"), 1);
            std::fs::write(desk.toml(), &changed).unwrap();
            let output = desk.bundle();
            let said = text(&output);
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.contains("sanedge does not do this: `") && said.contains("[unknown-key]"), "{said}");
            assert!(said.contains(instead) && !said.contains("Did you mean"), "{key}: {said}");
            tried += 1;
        }
    }
    assert!(tried > 20);
    // A slip of our own keys is still one, and so is a word of others that we have.
    for (key, near) in [
        ("htttps = []", "`https`"),
        ("upsteam = []", "`upstream`"),
        ("server_name = \"x\"", "`hosts`"),
        ("stripPrefix = true", "`strip_prefix` in [[site.route]]"),
    ] {
        std::fs::write(desk.toml(), original.replacen("[[site]]\n", &format!("[[site]]\n{key}\n"), 1))
            .unwrap();
        let said = text(&desk.bundle());
        assert!(said.contains("Did you mean") && said.contains(near), "{key}: {said}");
    }
}

/// The edge itself, and so its page, compares times: it opens no sanedge.toml.
#[test]
fn the_edge_tells_its_page_and_its_log_by_times() {
    use std::io::{Read, Write};
    let edge = house().start();
    let desk = edge.desk();
    let said = || {
        let mut stream = std::os::unix::net::UnixStream::connect(desk.path("admin.sock")).unwrap();
        stream.write_all(b"GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        status["source"].clone()
    };
    assert_eq!((&said()["state"], &said()["message"]), (&"not-compared".into(), &Value::Null), "{}", said());
    newer(&desk.toml());
    let source = said();
    assert_eq!(source["state"], "newer", "{source}");
    let message = source["message"].as_str().unwrap();
    assert!(
        message.contains("sanedge.toml is newer than the bundle in use")
            && source["command"].as_str().unwrap().starts_with("sanedge apply "),
        "{message}"
    );
    // A reload by signal has nobody to tell but the log.
    let mark = edge.log_mark();
    edge.signal(rustix::process::Signal::HUP);
    edge.wait_for_log_after(mark, "the bundle is older than its sources", crate::support::edge::PATIENCE);
    std::fs::remove_file(desk.toml()).unwrap();
    assert!(said().is_null());
    edge.stop();
}
