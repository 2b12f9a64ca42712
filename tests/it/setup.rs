//! `sanedge setup`: with a real CA (Pebble), real and wrong apps, taken ports, a dialogue on a terminal, and kills at each step.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::acme::without_pebble;
use super::support::activation::Sockets;
use super::support::edge::{Edge, PATIENCE, sanedge, text};
use super::support::node::{Interop, Program, has, skip};
use super::support::pebble::{Pebble, handshake};

const HOST: &str = "socket.localhost";
/// Of the site that is there before.
const OTHER: &str = "other.localhost";

/// An edge with a site that waits for its certificate, a CA that finds it on its TLS port, and a file with comments.
struct Board {
    edge: Edge,
    pebble: Pebble,
    https: u16,
    app: u16,
}

impl Board {
    /// The site that is there leads to the same app: an edge that runs takes no upstream with another port.
    fn before(app: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let https = listener.local_addr().unwrap().port();
        let desk = Edge::certified_for(&[]).write();
        let pebble = Pebble::with(&desk.path(""), 1, &[], &json!({ "tlsPort": https }));
        std::fs::write(desk.path("trust.pem"), &pebble.trust).unwrap();
        std::fs::write(desk.toml(), before(&pebble.directory(), https, app)).unwrap();
        let edge = desk.serve_on(&Sockets::new().with("https", listener));
        Self { edge, pebble, https, app }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = sanedge();
        command.arg("setup").args(words).arg("--no-units").arg("--file").arg(self.edge.desk().toml());
        command
    }

    fn setup(&self, app: u16, words: &[&str]) -> Output {
        let app = app.to_string();
        self.command(&[&[HOST, "--app", &app], words].concat()).stdin(Stdio::null()).output().unwrap()
    }

    fn file(&self) -> String {
        std::fs::read_to_string(self.edge.desk().toml()).unwrap()
    }

    fn text_before(&self) -> String {
        before(&self.pebble.directory(), self.https, self.app)
    }

    /// The file as it was, and what setup adds.
    fn with_site(&self, app: u16) -> String {
        format!("{}\n[[site]]\nhosts = [\"{HOST}\"]\nupstream = [\"127.0.0.1:{app}\"]\n", self.text_before())
    }

    /// A client that trusts the CA alone.
    fn is_served(&self) -> Result<(), String> {
        handshake(&self.pebble.root, HOST, self.https)
    }
}

fn before(directory: &str, https: u16, app: u16) -> String {
    format!(
        "# of the test\nboard = \"host\"\n[[site]] # first\nhosts = [\"{OTHER}\"]\nupstream = [\"127.0.0.1:{app}\"]\n\n[listen] # then\n\
         https = [\"127.0.0.1:{https}\"]\nadmin = \"unix:admin.sock\"\n[acme]\nterms = \"agreed\"\ndirectory = \"{directory}\"\n\
         trust = \"trust.pem\"\nstate = \"state\"\nchallenges = \"challenges\"\nchallenge = \"tls-alpn-01\"\n# the end\n"
    )
}

/// A Socket.IO server of npm, version 4.
fn app(test: &str) -> Option<(Program, u16)> {
    if without_pebble(test) {
        return None;
    }
    Some(Interop::ready(test)?.server(&json!({})))
}

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(output)))
}

#[test]
fn a_host_is_added_to_a_running_edge_obtains_its_certificate_and_works() {
    let Some((_app, port)) = app("a_host_is_added_to_a_running_edge_obtains_its_certificate_and_works")
    else {
        return;
    };
    let board = Board::before(port);
    let output = board.setup(port, &["--namespace", "/", "--yes"]);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    let works = format!("works       wss://{HOST}:{} works: Socket.IO 4, namespace /, ", board.https);
    for wanted in [
        &format!("app         Socket.IO 4 answers at 127.0.0.1:{port}\n"),
        &format!("ports       {} is used by the edge\n", board.https),
        &format!("+ hosts = [\"{HOST}\"]\n"),
        &format!("certificate issued for {HOST}, and served, after "),
        &works,
        &format!("https://{HOST}:{}/socket.io/?EIO=4&transport=polling\n", board.https),
        "sanedge status ",
        &format!("sanedge doctor https://{HOST}:{}", board.https),
    ] {
        assert!(said.contains(wanted), "{wanted} in {said}");
    }
    assert_eq!(board.file(), board.with_site(port));
    board.is_served().unwrap();
    // Once more: nothing changes, and no certificate is ordered.
    let certificate =
        std::fs::read(board.edge.desk().path(&format!("state/certificates/{HOST}.pem"))).unwrap();
    let again = board.setup(port, &["--namespace", "/", "--json"]);
    let found = document(&again);
    assert_eq!(
        (again.status.code(), &found["ok"], &found["host"]),
        (Some(0), &json!(true), &json!(HOST)),
        "{found}"
    );
    let steps: Vec<&str> =
        found["steps"].as_array().unwrap().iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["app", "name", "ports", "file", "bundle", "edge", "certificate", "works"]);
    assert!(found["works"].as_str().unwrap().contains("works: Socket.IO 4, namespace /, "), "{found}");
    assert_eq!(board.file(), board.with_site(port));
    assert_eq!(
        std::fs::read(board.edge.desk().path(&format!("state/certificates/{HOST}.pem"))).unwrap(),
        certificate
    );
    board.edge.stop();
}

/// The app says no to a client without a login: that came through the edge, which works.
#[test]
fn a_namespace_that_wants_a_login_works_and_one_that_is_not_there_does_not() {
    let Some((_app, port)) = app("a_namespace_that_wants_a_login_works_and_one_that_is_not_there_does_not")
    else {
        return;
    };
    let board = Board::before(port);
    let output = board.setup(port, &["--namespace", "/catch", "--yes"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("a uuId is needed"), "{}", text(&output));
    let output = board.setup(port, &["--namespace", "/none", "--yes", "--json"]);
    let found = document(&output);
    assert_eq!(
        (output.status.code(), &found["code"], &found["step"]),
        (Some(1), &json!("ns-unknown"), &json!("works"))
    );
    for member in ["message", "you_see", "why", "do"] {
        assert!(found[member].as_str().is_some_and(|text| !text.is_empty()), "{member} in {found}");
    }
    board.edge.stop();
}

// --- apps ---------------------------------------------------------------------------------------------------------

/// A server that answers each connection with this, until the test process ends.
fn answering(response: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(response.as_bytes());
            });
        }
    });
    port
}

/// What setup says of an app at a port; the file stays as it was.
fn refused_app(board: &Board, port: u16, code: &str, said: &[&str]) {
    let output = board.setup(port, &["--yes", "--json"]);
    let found = document(&output);
    assert_eq!(
        (output.status.code(), &found["code"], &found["step"]),
        (Some(1), &json!(code), &json!("app")),
        "{found}"
    );
    for word in said {
        assert!(found.to_string().contains(word), "{word} in {found}");
    }
    assert_eq!(board.file(), board.text_before());
}

#[test]
fn wrong_apps_are_named_with_what_to_type_and_nothing_is_written() {
    if without_pebble("wrong_apps_are_named_with_what_to_type_and_nothing_is_written") {
        return;
    }
    let board = Board::before(1);
    // Nothing: a port that was free a moment ago, below the range that the system gives out.
    refused_app(&board, 1, "app-down", &["ss -ltnp"]);
    let plain = answering("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
    refused_app(&board, plain, "eio-not-found", &["/socket.io/"]);
    let page = answering(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 15\r\nConnection: close\r\n\r\n<!doctype html>",
    );
    refused_app(&board, page, "eio-not-socketio", &[]);
    // TLS: the CA's own port.
    refused_app(&board, board.pebble.port, "app-tls", &["plain"]);
    board.edge.stop();
}

#[test]
fn an_app_of_socketio_2_is_named_and_works() {
    let test = "an_app_of_socketio_2_is_named_and_works";
    if without_pebble(test) {
        return;
    }
    let Some(interop) = Interop::ready(test) else { return };
    let script = "import { createServer } from 'node:http'\nimport Server from 'socket.io-2'\nconst http = createServer()\nServer(http)\n\
        process.stdin.on('end', () => process.exit(0)).resume()\n\
        http.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ event: 'listening', port: http.address().port })))";
    let app = interop.start(Command::new("node").args(["--input-type=module", "-e", script]));
    let port = u16::try_from(app.wait("listening")["port"].as_u64().unwrap()).unwrap();
    let board = Board::before(port);
    let output = board.setup(port, &["--yes"]);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    for wanted in [
        &format!("app         Socket.IO 2 answers at 127.0.0.1:{port}\n"),
        "works: Socket.IO 2\n",
        "clients of 3.x and 4.x cannot connect",
    ] {
        assert!(said.contains(wanted), "{wanted} in {said}");
    }
    board.edge.stop();
}

/// Node's `localhost` may be ::1 alone.
#[test]
fn an_app_on_the_ipv6_loopback_is_found() {
    let test = "an_app_on_the_ipv6_loopback_is_found";
    if without_pebble(test) {
        return;
    }
    let Some(interop) = Interop::ready(test) else { return };
    let script = "import { createServer } from 'node:http'\nimport { Server } from 'socket.io'\nconst http = createServer()\nnew Server(http)\n\
        process.stdin.on('end', () => process.exit(0)).resume()\n\
        http.listen(0, '::1', () => console.log(JSON.stringify({ event: 'listening', port: http.address().port })))";
    // The same port of 127.0.0.1 is kept from other tests, whose app `setup` would find first; nothing listens there.
    let (_app, port, _kept) = loop {
        let app = interop.start(Command::new("node").args(["--input-type=module", "-e", script]));
        let port = u16::try_from(app.wait("listening")["port"].as_u64().unwrap()).unwrap();
        let kept = tokio::net::TcpSocket::new_v4().unwrap();
        if kept.bind((std::net::Ipv4Addr::LOCALHOST, port).into()).is_ok() {
            break (app, port, kept);
        }
    };
    let board = Board::before(port);
    let output = board.setup(port, &["--yes"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(board.file().contains(&format!("upstream = [\"[::1]:{port}\"]")), "{}", board.file());
    board.edge.stop();
}

/// The user whose connection has this port at its end.
fn user_of(port: u16) -> u32 {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let end = format!(":{port:04X}");
    let is_it = |line: &&str| line.split_whitespace().nth(1).is_some_and(|local| local.ends_with(&end));
    table.lines().find(is_it).unwrap().split_whitespace().nth(7).unwrap().parse().unwrap()
}

/// Root asks no app: `sanedge` or, where that user is missing, `nobody` does.
#[test]
fn the_app_is_not_asked_as_root() {
    let test = "the_app_is_not_asked_as_root";
    if !rustix::process::geteuid().is_root() {
        return skip(test, "it needs root");
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Of a connection with a request, whose client waits for the answer.
    let (sender, asked) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let sender = sender.clone();
            std::thread::spawn(move || {
                if stream.read(&mut [0; 1024]).is_ok_and(|count| count > 0) {
                    let _ = sender.send(user_of(stream.peer_addr().unwrap().port()));
                }
            });
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sanedge.toml");
    let mut command = sanedge();
    command.args(["setup", HOST, "--app", &port.to_string(), "--no-units", "--yes", "--file"]).arg(&file);
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert_ne!(asked.recv().unwrap(), 0, "asked as root");
    assert!(!file.exists());
}

// --- names and ports ------------------------------------------------------------------------------------------------

#[test]
fn a_name_that_does_not_exist_stops_before_the_ca_is_asked() {
    let Some((_app, port)) = app("a_name_that_does_not_exist_stops_before_the_ca_is_asked") else { return };
    let board = Board::before(port);
    let setup = |host: &str, words: &[&str]| {
        let port = port.to_string();
        let words = [&[host, "--app", &port, "--yes", "--json"], words].concat();
        let output = board.command(&words).stdin(Stdio::null()).output().unwrap();
        (output.status.code(), document(&output))
    };
    // RFC 6761 §6.4; a machine without a network cannot know.
    let (status, found) = setup("socket.recre.invalid", &[]);
    let code = found["code"].as_str().unwrap();
    assert!(["name-unknown", "name-offline", "name-resolver"].contains(&code), "{found}");
    assert_eq!((status, &found["step"]), (Some(1), &json!("name")));
    assert!(found["do"].as_str().is_some_and(|text| !text.is_empty()), "{found}");
    assert_eq!(board.file(), board.text_before());
    board.edge.stop();
}

#[test]
fn a_name_of_a_home_network_gets_no_certificate_of_a_public_ca() {
    let Some((_app, port)) = app("a_name_of_a_home_network_gets_no_certificate_of_a_public_ca") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sanedge.toml");
    for host in ["board.local", "game.home.arpa"] {
        let mut command = sanedge();
        command
            .args(["setup", host, "--app", &port.to_string(), "--agree", "--no-units", "--json", "--file"])
            .arg(&file);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let found = document(&output);
        assert_eq!(
            (output.status.code(), &found["code"]),
            (Some(1), &json!("setup-no-public-ca")),
            "{found}"
        );
        assert!(
            found["do"]
                .as_str()
                .unwrap()
                .contains(&format!("sanedge setup {host} --app {port} --certificate CHAIN KEY"))
        );
    }
    assert!(!file.exists());
}

/// A program of this name that listens on a port of its own.
fn squatter(folder: &Path, name: &str) -> (Child, u16) {
    let program = folder.join(name);
    super::support::program::install("/usr/bin/python3", &program);
    let script = "import socket, sys\ns = socket.create_server(('127.0.0.1', 0))\nprint(s.getsockname()[1], flush=True)\nsys.stdin.read()";
    let mut command = Command::new(&program);
    let mut child = command
        .args(["-I", "-S", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (child, line.trim().parse().unwrap())
}

#[test]
fn a_taken_port_is_named_with_its_program_and_what_frees_it() {
    let test = "a_taken_port_is_named_with_its_program_and_what_frees_it";
    let Some((_app, port)) = app(test) else { return };
    if !has("/usr/bin/python3", "--version") {
        return skip(test, "it needs python3");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sanedge.toml");
    for name in ["nginx", "lighttpd", "apache2"] {
        let (mut child, taken) = squatter(folder.path(), name);
        let toml = before("https://localhost:1/dir", taken, port);
        std::fs::write(folder.path().join("trust.pem"), super::support::certs::Ca::new("test").pem).unwrap();
        std::fs::write(&file, &toml).unwrap();
        let mut command = sanedge();
        command
            .args(["setup", HOST, "--app", &port.to_string(), "--no-units", "--yes", "--json", "--file"])
            .arg(&file);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let found = document(&output);
        assert_eq!((output.status.code(), &found["code"]), (Some(1), &json!("port-owner")), "{found}");
        assert!(
            found["message"].as_str().unwrap().contains(&format!("port {taken} is taken by {name}")),
            "{found}"
        );
        let stop = found["do"].as_str().unwrap();
        assert!(
            stop.contains("sudo systemctl disable --now ")
                || stop.contains(&format!("sudo kill {}", child.id()))
                || stop.contains(" stop "),
            "{stop}"
        );
        assert_eq!(std::fs::read_to_string(&file).unwrap(), toml);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

// --- the file and its confirmation ----------------------------------------------------------------------------------

#[test]
fn without_a_terminal_nothing_is_written_unless_yes_is_said() {
    let Some((_app, port)) = app("without_a_terminal_nothing_is_written_unless_yes_is_said") else { return };
    let board = Board::before(port);
    let output = board.setup(port, &["--json"]);
    let found = document(&output);
    assert_eq!((output.status.code(), &found["code"]), (Some(1), &json!("setup-not-confirmed")), "{found}");
    assert_eq!(board.file(), board.text_before());
    // Nor is anything agreed to in anybody's name.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sanedge.toml");
    let toml = before("", board.https, port);
    let toml = toml.split_once("[acme]").unwrap().0.replace(&format!("\"{OTHER}\""), "\"127.0.0.1\"");
    let (certificate, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
    let ca = super::support::certs::Ca::new("test");
    let issued = ca.issue(&["127.0.0.1"]);
    std::fs::write(&certificate, &issued.chain_pem).unwrap();
    std::fs::write(&key, &issued.key_pem).unwrap();
    std::fs::write(folder.path().join("trust.pem"), &ca.pem).unwrap();
    let toml = format!(
        "{}[[certificate]]\nchain = \"c.pem\"\nkey = \"k.pem\"\n",
        toml.replace("board = ", "trust = \"trust.pem\"\nboard = ")
    );
    std::fs::write(&file, &toml).unwrap();
    let mut command = sanedge();
    command.args(["setup", HOST, "--app", &port.to_string(), "--no-units", "--yes", "--json", "--directory"]);
    command
        .arg(board.pebble.directory())
        .arg("--trust")
        .arg(board.edge.desk().path("trust.pem"))
        .arg("--file")
        .arg(&file);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let found = document(&output);
    assert_eq!((output.status.code(), &found["code"]), (Some(1), &json!("setup-terms")), "{found}");
    assert!(found["do"].as_str().unwrap().contains("--agree"), "{found}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), toml);
    board.edge.stop();
}

#[test]
fn a_certificate_of_ones_own_is_used_or_refused_with_the_reason() {
    let Some((_app, port)) = app("a_certificate_of_ones_own_is_used_or_refused_with_the_reason") else {
        return;
    };
    let board = Board::before(port);
    // Of the CA that the file trusts beside the public ones: none. A wrong name is an error of the bundle.
    let ca = super::support::certs::Ca::new("test");
    let desk = board.edge.desk();
    let write = |names: &[&str]| {
        let issued = ca.issue(names);
        std::fs::write(desk.path("c.pem"), &issued.chain_pem).unwrap();
        std::fs::write(desk.path("k.pem"), &issued.key_pem).unwrap();
    };
    let trusting = board.text_before().replace("board = ", "trust = \"ca.pem\"\nboard = ");
    std::fs::write(desk.path("ca.pem"), &ca.pem).unwrap();
    std::fs::write(desk.toml(), &trusting).unwrap();
    let (chain, key) = (desk.path("c.pem"), desk.path("k.pem"));
    let words = ["--certificate", chain.to_str().unwrap(), key.to_str().unwrap(), "--yes"];
    write(&[OTHER]);
    let refused = board.setup(port, &words);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(text(&refused).contains("[setup-not-covered]"), "{}", text(&refused));
    assert_eq!(std::fs::read_to_string(desk.toml()).unwrap(), trusting);
    write(&[HOST]);
    let output = board.setup(port, &words);
    assert!(output.status.success(), "{}", text(&output));
    handshake(&ca.pem, HOST, board.https).unwrap();
    board.edge.stop();
}

/// Nothing of these changes the file.
#[test]
fn a_change_that_cannot_be_made_leaves_the_file_and_says_why() {
    let Some((_app, port)) = app("a_change_that_cannot_be_made_leaves_the_file_and_says_why") else { return };
    // The edge that runs may connect to no other port.
    let board = Board::before(1);
    let desk = board.edge.desk();
    let refused = |words: &[&str], code: &str| {
        let output = board.setup(port, &[&["--yes", "--json"], words].concat());
        let found = document(&output);
        assert_eq!((output.status.code(), &found["code"]), (Some(1), &json!(code)), "{found}");
        for member in ["message", "you_see", "why", "do"] {
            assert!(found[member].as_str().is_some_and(|text| !text.is_empty()), "{member} in {found}");
        }
        found
    };
    let found = refused(&[], "setup-needs-restart");
    assert!(found["do"].as_str().unwrap().contains("--restart"), "{found}");
    assert_eq!(board.file(), board.text_before());
    // A key of another certificate.
    let ca = super::support::certs::Ca::new("test");
    std::fs::write(desk.path("c.pem"), ca.issue(&[HOST]).chain_pem).unwrap();
    std::fs::write(desk.path("k.pem"), ca.issue(&[HOST]).key_pem).unwrap();
    let (chain, key) = (desk.path("c.pem"), desk.path("k.pem"));
    refused(&["--certificate", chain.to_str().unwrap(), key.to_str().unwrap()], "setup-bundle");
    assert_eq!(board.file(), board.text_before());
    // A site of several names, and a file that is no TOML.
    let shared =
        board.text_before().replace(&format!("[\"{OTHER}\"]"), &format!("[\"{OTHER}\", \"{HOST}\"]"));
    for (text, code) in [(shared.as_str(), "setup-shared-site"), ("board = \n", "setup-file")] {
        std::fs::write(desk.toml(), text).unwrap();
        refused(&[], code);
        assert_eq!(board.file(), text);
    }
    board.edge.stop();
}

/// The host stays in the file, and waits for its certificate; the next run asks the CA again.
#[test]
fn a_ca_that_cannot_be_reached_is_named_and_the_next_run_goes_on() {
    let Some((_app, port)) = app("a_ca_that_cannot_be_reached_is_named_and_the_next_run_goes_on") else {
        return;
    };
    let board = Board::before(port);
    let other = board.text_before().replace(&board.pebble.directory(), "https://localhost:1/dir");
    std::fs::write(board.edge.desk().toml(), &other).unwrap();
    let output = board.setup(port, &["--yes", "--json"]);
    let found = document(&output);
    assert_eq!(
        (output.status.code(), &found["code"], &found["step"]),
        (Some(1), &json!("acme-ca-unreachable"), &json!("certificate"))
    );
    assert!(found["do"].as_str().unwrap().contains("sudo sanedge renew "), "{found}");
    let trust = board.edge.desk().path("trust.pem");
    let output = board.setup(
        port,
        &["--yes", "--directory", &board.pebble.directory(), "--trust", trust.to_str().unwrap()],
    );
    assert!(output.status.success(), "{}", text(&output));
    board.is_served().unwrap();
    board.edge.stop();
}

#[test]
fn a_user_without_roots_rights_is_told_to_use_sudo() {
    let test = "a_user_without_roots_rights_is_told_to_use_sudo";
    if !rustix::process::geteuid().is_root() {
        return skip(test, "it needs root, to be somebody else");
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let program = folder.path().join("sanedge");
    super::support::program::install(env!("CARGO_BIN_EXE_sanedge"), &program);
    let mut command = Command::new(program);
    command.args(["setup", HOST, "--app", "3002", "--json"]).stdin(Stdio::null());
    std::os::unix::process::CommandExt::uid(&mut command, 65_534);
    let output = command.output().unwrap();
    let found = document(&output);
    assert_eq!((output.status.code(), &found["code"]), (Some(1), &json!("setup-not-root")), "{found}");
    assert!(
        found["do"].as_str().unwrap().contains(&format!("sudo sanedge setup {HOST} --app 3002")),
        "{found}"
    );
}

#[test]
fn without_an_edge_the_bundle_is_written_and_the_next_run_goes_on() {
    let Some((_app, port)) = app("without_an_edge_the_bundle_is_written_and_the_next_run_goes_on") else {
        return;
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let https = listener.local_addr().unwrap().port();
    let desk = Edge::certified_for(&[]).write();
    let pebble = Pebble::with(&desk.path(""), 1, &[], &json!({ "tlsPort": https }));
    std::fs::write(desk.path("trust.pem"), &pebble.trust).unwrap();
    std::fs::write(desk.toml(), before(&pebble.directory(), https, port)).unwrap();
    // The listener of this test is in the way until the edge has it.
    drop(listener);
    let setup = |desk: &super::support::edge::Desk| {
        let mut command = sanedge();
        command
            .args(["setup", HOST, "--app", &port.to_string(), "--no-units", "--yes", "--json", "--file"])
            .arg(desk.toml());
        command.stdin(Stdio::null()).output().unwrap()
    };
    let output = setup(&desk);
    let found = document(&output);
    assert_eq!((output.status.code(), &found["code"]), (Some(1), &json!("setup-no-edge")), "{found}");
    assert!(
        found["do"].as_str().unwrap().contains(&format!("sanedge serve {}", desk.bundle_file().display())),
        "{found}"
    );
    let Ok(listener) = TcpListener::bind(("127.0.0.1", https)) else { return };
    let edge = desk.serve_on(&Sockets::new().with("https", listener));
    let output = setup(edge.desk());
    assert!(output.status.success(), "{}", text(&output));
    handshake(&pebble.root, HOST, https).unwrap();
    edge.stop();
}

// --- the dialogue -----------------------------------------------------------------------------------------------------

/// setup on a terminal of `script`, with answers as they are asked for.
pub(super) fn dialogue(command: &Command, answers: &[(&str, &str)]) -> (Option<i32>, String) {
    let line: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let mut script = Command::new("script");
    script
        .args(["--quiet", "--return", "--flush", "--command", &line.join(" "), "/dev/null"])
        .env("TERM", "xterm");
    let mut child =
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut said = String::new();
    let mut read = 0;
    let mut bytes = [0; 4096];
    let mut answers = answers.iter();
    let mut next = answers.next();
    let until = Instant::now() + PATIENCE * 2;
    while let Ok(count @ 1..) = output.read(&mut bytes) {
        said += &String::from_utf8_lossy(&bytes[..count]);
        assert!(Instant::now() < until, "{said}");
        while let Some((question, answer)) = next {
            let Some(at) = said[read..].find(question) else { break };
            read += at + question.len();
            writeln!(input, "{answer}").unwrap();
            next = answers.next();
        }
    }
    (child.wait().unwrap().code(), said)
}

#[test]
fn three_questions_with_wrong_answers_lead_to_a_host_that_works() {
    let test = "three_questions_with_wrong_answers_lead_to_a_host_that_works";
    let Some((_app, port)) = app(test) else { return };
    if !has("script", "--version") {
        return skip(test, "it needs script of util-linux (Debian: bsdutils)");
    }
    let board = Board::before(port);
    let port = port.to_string();
    let answers = [
        ("connect to [other.localhost]: ", "https://x/y"),
        ("connect to [other.localhost]: ", "192.168.1.5"),
        ("connect to [other.localhost]: ", HOST),
        ("on this machine [3000]: ", "no port"),
        ("on this machine [3000]: ", "0"),
        ("on this machine [3000]: ", &port),
        ("continue? [yes]: ", "perhaps"),
        ("continue? [yes]: ", ""),
    ];
    let (code, said) = dialogue(&board.command(&["--namespace", "/"]), &answers);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("expected a name such as socket.recre.store"), "{said}");
    assert!(said.contains("expected a port from 1 to 65535"), "{said}");
    assert!(said.contains("works: Socket.IO 4, namespace /"), "{said}");
    // The code for a phone, dark on light.
    assert!(said.contains("\x1b[30;47m"), "{said}");
    board.is_served().unwrap();
    board.edge.stop();
}

#[test]
fn a_no_and_the_end_of_the_input_change_nothing() {
    let test = "a_no_and_the_end_of_the_input_change_nothing";
    let Some((_app, port)) = app(test) else { return };
    if !has("script", "--version") {
        return skip(test, "it needs script of util-linux (Debian: bsdutils)");
    }
    let board = Board::before(port);
    let port = port.to_string();
    let (code, said) = dialogue(&board.command(&[HOST, "--app", &port]), &[("continue? [yes]: ", "no")]);
    assert_eq!((code, said.contains("[setup-not-confirmed]")), (Some(1), true), "{said}");
    // Ctrl-D.
    let (code, said) =
        dialogue(&board.command(&["--app", &port]), &[("connect to [other.localhost]: ", "\x04")]);
    assert_ne!(code, Some(0), "{said}");
    assert_eq!(board.file(), board.text_before());
    board.edge.stop();
}

// --- interrupted ------------------------------------------------------------------------------------------------------

/// Runs setup until it has said `step`, and ends it there.
fn cut(board: &Board, port: u16, step: &str, signal: Signal) {
    let mut command = board.command(&[HOST, "--app", &port.to_string(), "--yes"]);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        if line.starts_with(step) {
            let _ = kill_process(Pid::from_child(&child), signal);
            break;
        }
    }
    child.wait().unwrap();
}

#[test]
fn a_run_that_is_cut_at_any_step_is_finished_by_the_next() {
    let Some((_app, port)) = app("a_run_that_is_cut_at_any_step_is_finished_by_the_next") else { return };
    for signal in [Signal::INT, Signal::KILL] {
        let board = Board::before(port);
        for step in ["app", "name", "ports", "file", "bundle", "edge", "  ", "certificate", "works"] {
            cut(&board, port, step, signal);
            let file = board.file();
            assert!(file == board.text_before() || file == board.with_site(port), "after {step}: {file}");
        }
        let output = board.setup(port, &["--yes"]);
        assert!(output.status.success(), "{}", text(&output));
        assert_eq!(board.file(), board.with_site(port));
        board.is_served().unwrap();
        board.edge.stop();
    }
}

/// Runs setup, kills the process that it starts with `word` among its arguments, and returns the exit code and the document.
fn without_helper(mut command: Command, word: &str) -> (Option<i32>, Value) {
    let setup = command.args(["--yes", "--json"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let setup = setup.stderr(Stdio::null()).spawn().unwrap();
    let parent = format!("PPid:\t{}\n", setup.id());
    let until = Instant::now() + PATIENCE;
    let helper = loop {
        let found = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()).find(|process| {
            let read = |name: &str| std::fs::read_to_string(process.join(name)).unwrap_or_default();
            read("status").contains(&parent) && read("cmdline").split('\0').any(|argument| argument == word)
        });
        if let Some(found) = found {
            break found.file_name().unwrap().to_str().unwrap().parse().unwrap();
        }
        assert!(Instant::now() < until, "setup starts no process with {word}");
        std::thread::sleep(Duration::from_millis(5));
    };
    kill_process(Pid::from_raw(helper).unwrap(), Signal::KILL).unwrap();
    let output = setup.wait_with_output().unwrap();
    (output.status.code(), document(&output))
}

#[test]
fn a_process_of_setup_that_is_killed_is_a_failure_of_its_step() {
    if without_pebble("a_process_of_setup_that_is_killed_is_a_failure_of_its_step") {
        return;
    }
    // Accepts and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let board = Board::before(1);
    let (exit, found) = without_helper(board.command(&[HOST, "--app", &port.to_string()]), "--look");
    assert_eq!(
        (exit, &found["code"], &found["step"]),
        (Some(1), &json!("setup-look-failed"), &json!("app")),
        "{found}"
    );
    assert!(found["do"].as_str().unwrap().contains("sanedge doctor --upstream"), "{found}");
    assert_eq!(board.file(), board.text_before());
    board.edge.stop();

    let Some((_app, app)) = app("a_process_of_setup_that_is_killed_is_a_failure_of_its_step") else { return };
    let board = Board::before(app);
    let other =
        board.text_before().replace(&board.pebble.directory(), &format!("https://localhost:{port}/dir"));
    std::fs::write(board.edge.desk().toml(), &other).unwrap();
    let (exit, found) = without_helper(board.command(&[HOST, "--app", &app.to_string()]), "renew");
    assert_eq!(
        (exit, &found["code"], &found["step"]),
        (Some(1), &json!("setup-certificate"), &json!("certificate")),
        "{found}"
    );
    assert!(found["do"].as_str().unwrap().contains("sudo sanedge renew "), "{found}");
    board.edge.stop();
}

/// Another program has the admin socket and passes everything on. After the first reload, before setup sees its end, it does this to
/// the file that apply has just written for `sanedge renew`.
fn spoils_plan(board: &Board, spoil: fn(&Path)) {
    let desk = board.edge.desk();
    let (socket, of_edge) = (desk.path("admin.sock"), desk.path("admin.edge"));
    let plan = desk.bundle_file().with_extension("acme");
    std::fs::rename(&socket, &of_edge).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    let mut spoil = Some(spoil);
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut edge = UnixStream::connect(&of_edge).unwrap();
            let (mut request, mut answer) = (Vec::new(), Vec::new());
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                client.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            edge.write_all(&request).unwrap();
            edge.read_to_end(&mut answer).unwrap();
            if request.starts_with(b"POST /reload ")
                && let Some(spoil) = spoil.take()
            {
                spoil(&plan);
            }
            let _ = client.write_all(&answer);
        }
    });
}

#[test]
fn a_plan_that_another_program_spoils_after_apply_is_named_and_the_advice_repairs_it() {
    let test = "a_plan_that_another_program_spoils_after_apply_is_named_and_the_advice_repairs_it";
    let Some((_app, port)) = app(test) else { return };
    let gone: fn(&Path) = |plan| std::fs::remove_file(plan).unwrap();
    let damaged: fn(&Path) = |plan| std::fs::write(plan, "board = ").unwrap();
    for (spoil, why) in [(gone, "cannot be read"), (damaged, "is damaged")] {
        let board = Board::before(port);
        spoils_plan(&board, spoil);
        let output = board.setup(port, &["--yes", "--json"]);
        let found = document(&output);
        assert_eq!(
            (output.status.code(), &found["code"], &found["step"]),
            (Some(1), &json!("setup-no-plan"), &json!("certificate")),
            "{found}"
        );
        assert!(found["message"].as_str().unwrap().contains(why), "{why} in {found}");
        let file = board.edge.desk().toml();
        let advice = format!("sudo sanedge apply {}\n", file.display());
        assert!(found["do"].as_str().unwrap().contains(&advice), "{advice} in {found}");
        // The file has the site, and the advice is followed.
        assert_eq!(board.file(), board.with_site(port));
        let output = sanedge().arg("apply").arg(&file).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let output = board.setup(port, &["--yes"]);
        assert!(output.status.success(), "{}", text(&output));
        board.is_served().unwrap();
        board.edge.stop();
    }
}

#[test]
fn what_setup_cannot_start_with_is_told_before_anything_is_asked() {
    let failure = |words: &[&str]| {
        let output = sanedge().arg("setup").args(words).arg("--json").stdin(Stdio::null()).output().unwrap();
        (output.status.code(), document(&output))
    };
    for words in [
        &[][..],
        &[HOST],
        &["https://socket.recre.store", "--app", "3002"],
        &["192.168.1.5", "--app", "3002"],
        &[HOST, "--app", "0"],
    ] {
        let (status, found) = failure(words);
        assert_eq!((status, &found["code"]), (Some(2), &json!("usage")), "{words:?}: {found}");
    }
    if !Path::new("/run/systemd/system").exists() {
        let (status, found) = failure(&[HOST, "--app", "3002"]);
        let code = if rustix::process::geteuid().is_root() { "setup-no-systemd" } else { "setup-not-root" };
        assert_eq!((status, &found["code"]), (Some(1), &json!(code)), "{found}");
        assert!(
            found["do"].as_str().unwrap().contains(&format!("sanedge setup {HOST} --app 3002 --json")),
            "{found}"
        );
    }
}
