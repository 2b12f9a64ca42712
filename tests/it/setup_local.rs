//! `sanedge setup --local`: names and addresses of a home network, with a local CA.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use super::setup::dialogue;
use super::support::activation::Sockets;
use super::support::certs::Ca;
use super::support::edge::{Edge, sanedge, text};
use super::support::node::{Interop, Program, has, skip};
use super::support::pebble::handshake;

const LOCAL: &str = "socket.home.arpa";
const ADDRESS: &str = "127.0.0.1";
/// Of the site that is there before, with a certificate of its own.
const OTHER: &str = "other.localhost";

/// An edge that serves one host by a `[[certificate]]`. The file has an `[acme]` that is asked for nothing: it names folders of the test.
struct Board {
    edge: Edge,
    https: u16,
    before: String,
}

fn before(https: u16, app: u16, listen: &str, acme: &str) -> String {
    format!(
        "# of the test\nboard = \"host\"\ntrust = \"ca.pem\"\n[listen]\nhttps = [\"127.0.0.1:{https}\"] # here\nadmin = \"unix:admin.sock\"\n\
         {listen}\n[[certificate]]\nchain = \"c.pem\"\nkey = \"k.pem\"\n[acme]\nterms = \"agreed\"\nstate = \"state\"\n\
         challenges = \"challenges\"\n{acme}\n[[site]] # first\nhosts = [\"{OTHER}\"]\nupstream = [\"127.0.0.1:{app}\"]\n# the end\n"
    )
}

impl Board {
    fn with(app: u16, listen: &str, acme: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let https = listener.local_addr().unwrap().port();
        let desk = Edge::certified_for(&[]).write();
        let ca = Ca::new("test");
        let issued = ca.issue(&[OTHER]);
        for (name, content) in [("ca.pem", &ca.pem), ("c.pem", &issued.chain_pem), ("k.pem", &issued.key_pem)]
        {
            std::fs::write(desk.path(name), content).unwrap();
        }
        let before = before(https, app, listen, acme);
        std::fs::write(desk.toml(), &before).unwrap();
        Self { edge: desk.serve_on(&Sockets::new().with("https", listener)), https, before }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = sanedge();
        command.arg("setup").args(words).arg("--no-units").arg("--file").arg(self.edge.desk().toml());
        command
    }

    fn setup(&self, host: &str, app: u16, words: &[&str]) -> Output {
        let app = app.to_string();
        self.command(&[&[host, "--app", &app], words].concat()).stdin(Stdio::null()).output().unwrap()
    }

    fn refused(&self, host: &str, app: u16, words: &[&str], code: &str) -> Value {
        let output = self.setup(host, app, &[&["--local", "--yes", "--json"], words].concat());
        let found = document(&output);
        assert_eq!((output.status.code(), &found["code"]), (Some(1), &json!(code)), "{found:#}");
        for member in ["message", "you_see", "why", "do"] {
            assert!(found[member].as_str().is_some_and(|text| !text.is_empty()), "{member} in {found}");
        }
        found
    }

    fn works(&self, host: &str, app: u16) -> String {
        let output = self.setup(host, app, &["--local", "--yes"]);
        let said = text(&output);
        assert!(output.status.success(), "{said}");
        assert!(
            said.contains(&format!("works       wss://{host}:{} works: Socket.IO 4\n", self.https)),
            "{said}"
        );
        said
    }

    fn file(&self) -> String {
        std::fs::read_to_string(self.edge.desk().toml()).unwrap()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.edge.desk().path(name)).unwrap()
    }

    /// A client that trusts the local CA alone.
    fn is_served(&self, host: &str) -> Result<(), String> {
        handshake(&self.read("local/ca.crt"), host, self.https)
    }

    fn local(&self, words: &[&str]) -> Output {
        let plan = self.edge.desk().toml().with_extension("acme");
        sanedge().arg("local").args(words).arg("--acme").arg(plan).output().unwrap()
    }
}

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(output)))
}

/// A Socket.IO server of npm, version 4.
fn app(test: &str) -> Option<(Program, u16)> {
    Some(Interop::ready(test)?.server(&json!({})))
}

#[test]
fn a_name_and_an_address_of_the_network_work_beside_acme_and_a_second_run_changes_nothing() {
    const TEST: &str =
        "a_name_and_an_address_of_the_network_work_beside_acme_and_a_second_run_changes_nothing";
    let Some((_app, port)) = app(TEST) else { return };
    let board = Board::with(port, "", "");
    let said = board.works(LOCAL, port);
    let plan = board.edge.desk().toml().with_extension("acme");
    for wanted in [
        "+ [local]",
        &format!("certificate issued for {LOCAL} by the local CA, and served\n"),
        &format!("sanedge local show --acme {}\n", plan.display()),
        "docs/local.md",
        "phone of this network",
    ] {
        assert!(said.contains(wanted), "{wanted} in {said}");
    }
    assert!(!said.contains("off Wi-Fi"), "{said}");
    let site = |host: &str| format!("\n[[site]]\nhosts = [\"{host}\"]\nupstream = [\"127.0.0.1:{port}\"]\n");
    let (head, tail) = board.before.split_once("[[certificate]]").unwrap();
    assert!(
        board.file().starts_with(&board.before) && board.file().ends_with(&site(LOCAL)),
        "{}",
        board.file()
    );
    board.is_served(LOCAL).unwrap();
    // Once more: nothing changes, and nothing is issued.
    let (file, issued) = (board.file(), board.read("local/hosts.crt"));
    let again = board.setup(LOCAL, port, &["--local", "--json"]);
    let found = document(&again);
    assert_eq!((again.status.code(), &found["ok"]), (Some(0), &json!(true)), "{found:#}");
    assert_eq!(found["trust"], json!(board.edge.desk().path("local/ca.crt")), "{found:#}");
    let steps: Vec<&str> =
        found["steps"].as_array().unwrap().iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["app", "name", "ports", "file", "bundle", "edge", "certificate", "works"]);
    assert_eq!((board.file(), board.read("local/hosts.crt")), (file, issued));
    // What the file says needs not be said again.
    assert!(board.setup(LOCAL, port, &[]).status.success());
    // An address: clients send no server name. The first CA may not issue for it.
    let refused = board.refused(ADDRESS, port, &[], "local-not-permitted");
    assert!(refused["do"].as_str().unwrap().contains("sudo sanedge local replace"), "{refused:#}");
    assert!(refused["message"].as_str().unwrap().contains(ADDRESS), "{refused:#}");
    let replaced = board.local(&["replace", "--yes"]);
    assert!(replaced.status.success(), "{}", text(&replaced));
    let said = board.works(ADDRESS, port);
    assert!(said.contains("127.0.0.1 is an address: clients need no DNS\n"), "{said}");
    let file = board.file();
    assert!(
        file.contains(&format!("\ndefault_host = \"{ADDRESS}\"\n")) && file.contains("# here\n"),
        "{file}"
    );
    assert!(
        file.contains(tail.split_once("[acme]").unwrap().1)
            && file.starts_with(head.split("admin").next().unwrap())
    );
    [LOCAL, ADDRESS].iter().for_each(|host| board.is_served(host).unwrap());
    board.edge.stop();
}

#[test]
fn a_public_name_may_be_the_ca_heres_and_comes_back_to_acme() {
    const TEST: &str = "a_public_name_may_be_the_ca_heres_and_comes_back_to_acme";
    const GAME: &str = "game.recre.example";
    let Some((_app, port)) = app(TEST) else { return };
    let board = Board::with(port, "", "");
    board.works(GAME, port);
    assert!(board.file().ends_with("local = true\n"), "{}", board.file());
    board.is_served(GAME).unwrap();
    let site = format!("hosts = [\"{OTHER}\"]");
    assert!(board.file().contains(&site));
    // In a site with others, only people can say for which of them this holds.
    let shared =
        board.file().replace(&format!("[\"{GAME}\"]"), &format!("[\"{GAME}\", \"two.recre.example\"]"));
    let shared = shared.replace("local = true\n", "local = false\n");
    std::fs::write(board.edge.desk().toml(), &shared).unwrap();
    board.refused(GAME, port, &[], "setup-shared-site");
    assert_eq!(board.file(), shared);
    board.edge.stop();
}

#[test]
fn a_host_that_another_certificate_of_the_file_covers_needs_no_ca() {
    const TEST: &str = "a_host_that_another_certificate_of_the_file_covers_needs_no_ca";
    let Some((_app, port)) = app(TEST) else { return };
    let board = Board::with(port, "", "");
    let output = board.setup(OTHER, port, &["--local", "--yes"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("needs no change") && !board.edge.desk().path("local").exists());
    assert_eq!(board.file(), board.before);
    board.edge.stop();
}

/// Nothing of these changes the file.
#[test]
fn what_the_ca_here_cannot_do_is_refused_with_what_to_do() {
    const TEST: &str = "what_the_ca_here_cannot_do_is_refused_with_what_to_do";
    let Some((_app, port)) = app(TEST) else { return };
    let other = "[[acme.certificate]]\nnames = [\"game.recre.example\"]\n";
    let board = Board::with(port, &format!("default_host = \"{OTHER}\""), other);
    let found = board.refused("game.recre.example", port, &[], "setup-other-ca");
    assert!(found["do"].as_str().unwrap().contains("[[acme.certificate]]"), "{found:#}");
    let found = board.refused(ADDRESS, port, &[], "setup-default-host");
    assert!(found["do"].as_str().unwrap().contains(&format!("default_host = \"{ADDRESS}\"")), "{found:#}");
    assert!(found["why"].as_str().unwrap().contains(OTHER), "{found:#}");
    assert_eq!(board.file(), board.before);
    let usage = |host: &str, words: &[&str], said: &str| {
        let output = board.setup(host, port, &[&["--yes", "--json"], words].concat());
        let found = document(&output);
        assert_eq!((output.status.code(), &found["code"]), (Some(2), &json!("usage")), "{found:#}");
        assert!(found["message"].as_str().unwrap().contains(said), "{found:#}");
    };
    usage("board", &["--local"], "write board.local or board.home.arpa");
    usage(ADDRESS, &[], "with --local");
    assert_eq!(board.file(), board.before);
    board.edge.stop();
}

#[test]
fn a_file_of_the_ca_that_others_can_read_stops_the_step_and_the_next_run_goes_on() {
    const TEST: &str = "a_file_of_the_ca_that_others_can_read_stops_the_step_and_the_next_run_goes_on";
    let Some((_app, port)) = app(TEST) else { return };
    let board = Board::with(port, "", "");
    board.works(LOCAL, port);
    let key = board.edge.desk().path("local/hosts.key");
    let mode = |mode: u32| {
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    mode(0o644);
    let found = board.refused("nas.home.arpa", port, &[], "local-files");
    let command = format!("sudo chmod 600 {}", key.display());
    assert!(found["message"].as_str().unwrap().contains(&command), "{found:#}");
    mode(0o600);
    board.works("nas.home.arpa", port);
    board.is_served("nas.home.arpa").unwrap();
    board.edge.stop();
}

#[test]
fn a_new_file_has_the_ca_here_alone() {
    const TEST: &str = "a_new_file_has_the_ca_here_alone";
    let Some((_app, port)) = app(TEST) else { return };
    let folder = tempfile::tempdir().unwrap();
    for (host, more) in [("board.local", ""), ("192.0.2.5", "local = true\n")] {
        let file = folder.path().join(host).with_extension("toml");
        let mut command = sanedge();
        command.args(["setup", host, "--app", &port.to_string(), "--local", "--no-units", "--yes", "--file"]);
        let output = command.arg(&file).stdin(Stdio::null()).output().unwrap();
        let said = text(&output);
        // Ports 80 and 443 may be somebody else's on this machine.
        if said.contains("[port-owner]") {
            continue;
        }
        assert!(said.contains("[setup-no-edge]"), "{said}");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains("\n[local] ") && !text.contains("[acme]"), "{text}");
        assert!(
            text.ends_with(&format!("hosts = [\"{host}\"]\nupstream = [\"127.0.0.1:{port}\"]\n{more}")),
            "{text}"
        );
        assert_eq!(text.contains("default_host = \"192.0.2.5\""), host == "192.0.2.5", "{text}");
        let address = "this machine does not have this address now";
        assert_eq!(said.contains(address), host == "192.0.2.5", "{said}");
        assert_eq!(said.contains("by mDNS"), host == "board.local", "{said}");
    }
}

// --- the dialogue -----------------------------------------------------------------------------------------------------

#[test]
fn the_dialogue_offers_the_ca_here_for_an_address_and_for_names_that_no_public_ca_issues_for() {
    const TEST: &str =
        "the_dialogue_offers_the_ca_here_for_an_address_and_for_names_that_no_public_ca_issues_for";
    let Some((_app, port)) = app(TEST) else { return };
    if !has("script", "--version") {
        return skip(TEST, "it needs script of util-linux (Debian: bsdutils)");
    }
    let board = Board::with(port, "", "");
    let port = port.to_string();
    let name = "connect to [other.localhost]: ";
    let offer = "trust that CA once [yes]: ";
    let (code, said) = dialogue(
        &board.command(&[]),
        &[(name, "8.8.8.8"), (name, "board"), (name, LOCAL), ("[3000]: ", &port), (offer, "no")],
    );
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("[setup-no-public-ca]")
            && said.contains(&format!("setup {LOCAL} --app {port} --local")),
        "{said}"
    );
    assert!(said.contains("with --local, a local CA does") && said.contains("write board.local"), "{said}");
    assert_eq!(board.file(), board.before);
    let answers = [(name, ADDRESS), ("[3000]: ", &port), (offer, ""), ("continue? [yes]: ", "")];
    let (code, said) = dialogue(&board.command(&[]), &answers);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("works: Socket.IO 4") && said.contains("sanedge local show"), "{said}");
    board.is_served(ADDRESS).unwrap();
    assert!(Path::new(&board.edge.desk().path("local/ca.crt")).exists());
    board.edge.stop();
}
