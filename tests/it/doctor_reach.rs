//! `sanedge doctor` on the board of a managed host: what would keep a CA from it. In a network of its own, with a router that says its
//! address, a name server, and other programs on port 80; each cause beside a set-up without it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::support::doctor_schema as schema;
use super::support::edge::{sanedge, text};
use super::support::name_server::NameServer;
use super::support::namespace::{command, enter, run};

const HOST: &str = "socket.recre.store";
/// An address of this machine that is public, and one of another.
const OURS: &str = "23.0.0.1";
const OTHERS: &str = "23.9.0.1";
const OURS_V6: &str = "2620:99::5";
const OTHERS_V6: &str = "2620:99::6";
const OF_EDGE: &str = "HTTP/1.1 404 Not Found\r\nSanedge-Error: unknown_path\r\nContent-Length: 0\r\n\r\n";
const OF_NGINX: &str = "HTTP/1.1 404 Not Found\r\nServer: nginx\r\nContent-Length: 0\r\n\r\n";

#[test]
fn what_keeps_a_ca_from_the_board_is_found_and_nothing_where_nothing_does() {
    run("what_keeps_a_ca_from_the_board_is_found_and_nothing_where_nothing_does", "doctor_reach::inside");
}

struct Home {
    folder: tempfile::TempDir,
    router: Arc<Mutex<[u8; 4]>>,
    port_80: Arc<Mutex<&'static str>>,
}

impl Home {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// With `[acme]` of these lines.
    fn bundled(&self, http: &str, acme: &str) {
        let toml = format!(
            "board = \"host\"\n[listen]\nhttps = [\"127.0.0.1:0\"]\n{http}\nadmin = \"unix:admin.sock\"\n\
             [acme]\nterms = \"agreed\"\nstate = \"state\"\nchallenges = \"challenges\"\n{acme}\n\
             [[site]]\nhosts = [\"{HOST}\"]\nupstream = [\"127.0.0.1:1\"]\n"
        );
        std::fs::write(self.path("x.toml"), toml).unwrap();
        let output = sanedge().arg("bundle").arg(self.path("x.toml")).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }

    /// The codes of findings about the renewal, and the whole report.
    fn doctor(&self) -> (Vec<String>, String) {
        let output = sanedge().args(["doctor", "--json"]).arg(self.path("x.bundle")).output().unwrap();
        let whole = text(&output);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{whole}"));
        schema::holds(&report);
        let sections = report["sections"].as_array().unwrap().iter();
        let checks = sections.flat_map(|section| section["checks"].as_array().unwrap());
        let codes = checks.filter_map(|check| check["code"].as_str());
        let codes = codes.filter(|code| code.starts_with("acme-") || *code == "name-dnssec");
        (codes.map(str::to_owned).collect(), whole)
    }

    fn finds(&self, codes: &[&str], says: &str) {
        let (found, whole) = self.doctor();
        assert_eq!(found, codes, "{whole}");
        assert!(whole.contains(says), "{says}: {whole}");
    }
}

/// Answers each request with what it holds.
fn answering(address: &str, answer: Arc<Mutex<&'static str>>) {
    let listener = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 2048]);
            let _ = stream.write_all(answer.lock().unwrap().as_bytes());
        }
    });
}

/// NAT-PMP, as a router answers it.
fn router(address: &str, wan: Arc<Mutex<[u8; 4]>>) {
    let socket = UdpSocket::bind(address).unwrap();
    std::thread::spawn(move || {
        let mut bytes = [0; 64];
        while let Ok((length, client)) = socket.recv_from(&mut bytes) {
            assert_eq!(bytes[..length], [0, 0]);
            let answer = [&[0, 128, 0, 0, 0, 0, 0, 9][..], &*wan.lock().unwrap()].concat();
            let _ = socket.send_to(&answer, client);
        }
    });
}

fn network(folder: &Path) {
    enter(folder);
    for words in [
        "ip link add v0 type veth peer name v1",
        "ip addr add 192.168.77.1/24 dev v0",
        "ip link set v0 up",
        "ip link set v1 up",
        "ip route add default via 192.168.77.254 dev v0 onlink",
        "ip addr add 192.168.77.254/32 dev lo",
        "ip addr add 23.0.0.1/32 dev lo",
        "ip route add unreachable 23.9.0.0/16",
        "ip -6 addr add 2620:99::5/128 dev lo nodad",
        "ip -6 route add unreachable 2620:99::6/128",
    ] {
        command(words);
    }
}

#[test]
#[ignore = "the other test runs it in a namespace of its own"]
fn inside() {
    let folder = tempfile::tempdir().unwrap();
    network(folder.path());
    let home =
        Home { folder, router: Arc::new(Mutex::new([23, 0, 0, 1])), port_80: Arc::new(Mutex::new(OF_EDGE)) };
    let dns = NameServer::at("127.0.0.1:53", &["recre.store"]);
    router("192.168.77.254:5351", home.router.clone());
    for address in ["23.0.0.1:80", "[2620:99::5]:80"] {
        answering(address, home.port_80.clone());
    }
    let http = "http = [\"127.0.0.1:5080\"]";
    home.bundled(http, "");

    // A board without a router in between: nothing is found.
    dns.addresses(HOST, &[OURS, OURS_V6]);
    home.finds(&[], "the edge answers on port 80 of 23.0.0.1");
    *home.port_80.lock().unwrap() = OF_NGINX;
    home.finds(
        &["acme-port-taken", "acme-port-taken"],
        "another program than the edge answers on port 80 of 23.0.0.1",
    );
    *home.port_80.lock().unwrap() = OF_EDGE;

    // Another AAAA record than this machine's.
    let records = |addresses: &[&str]| {
        dns.forget(HOST);
        dns.addresses(HOST, addresses);
    };
    records(&[OURS, OTHERS_V6]);
    home.finds(&["acme-aaaa"], "2620:99::6 is not an address of this machine");
    // Not looked for over another port.
    home.bundled(http, "challenge = \"tls-alpn-01\"");
    home.finds(&[], "");
    home.bundled(http, "");

    // Behind a router: its own address is that of DNS, or not, or no public one.
    *home.router.lock().unwrap() = [23, 9, 0, 1];
    records(&[OTHERS]);
    home.finds(&["acme-port-closed"], "nothing listens on port 5080 of 127.0.0.1");
    let own: Arc<Mutex<&'static str>> = Arc::new(Mutex::new(OF_EDGE));
    answering("127.0.0.1:5080", own.clone());
    home.finds(&[], "no NAT loopback");
    *own.lock().unwrap() = OF_NGINX;
    home.finds(&["acme-port-taken"], "answers on port 5080 of 127.0.0.1");
    *own.lock().unwrap() = OF_EDGE;
    *home.router.lock().unwrap() = [23, 9, 0, 2];
    home.finds(&["acme-address"], "the router's own address is 23.9.0.2");
    for (wan, found) in [([100, 64, 0, 1], true), ([100, 128, 0, 1], false), ([192, 168, 0, 2], true)] {
        *home.router.lock().unwrap() = wan;
        let expected = if found { "acme-cgnat" } else { "acme-address" };
        home.finds(&[expected], "the router's own address is");
    }
    *home.router.lock().unwrap() = [23, 9, 0, 1];

    // CAA records, of the name or of one above it.
    dns.caa("recre.store", 0, "issue", "letsencrypt.org");
    home.finds(&[], "CAA records permit letsencrypt.org");
    dns.caa(HOST, 0, "issue", "pki.goog");
    home.finds(&["acme-caa"], "do not name letsencrypt.org");
    home.bundled(http, "directory = \"google\"\neab = { kid = \"k\", key_file = \"eab.key\" }");
    home.finds(&[], "CAA records permit pki.goog");
    home.bundled(http, "directory = \"https://ca.recre.store/dir\"");
    home.finds(&[], "");
    dns.caa(HOST, 0, "issue", "letsencrypt.org");
    home.bundled(http, "");
    home.finds(&[], "CAA records permit letsencrypt.org");

    // DNS that is answered by what was not asked.
    command("ip addr add 192.0.2.53/32 dev lo");
    let intercepting = NameServer::at("192.0.2.53:53", &[]);
    home.finds(&["acme-dns-intercepted"], "for a server that does not exist");
    intercepting.fail(HOST, false);
    home.finds(&[], "");

    // A zone whose signatures do not verify, and one whose name servers fail.
    dns.fail(HOST, true);
    home.finds(&["name-dnssec"], "signatures do not verify");
    dns.recover();
    dns.fail(HOST, false);
    home.finds(&[], "name-resolver");
}
