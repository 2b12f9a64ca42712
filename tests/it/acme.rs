//! `sanedge renew` against a real CA (Pebble), and against one that fails.

use std::io::{BufRead as _, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process_group};
use sanedge::bundle::Bundle;
use sanedge::names::Host;

use super::support::activation::Sockets;
use super::support::edge::{Edge, PATIENCE, sanedge, text};
use super::support::frames::client_frame;
use super::support::node::{has, skip};
use super::support::pebble::{Act, Front, Pebble, connected, handshake, problem, serve_challenges};
use super::support::peers::free_address;
use super::support::raw::upgrade;
use super::support::upstream::SWITCHING;

const A: &str = "a.localhost";
const B: &str = "b.localhost";

/// A folder with a sanedge.toml of two sites and `[acme]`, and a Pebble behind a front. Challenges are served without an edge.
pub(crate) struct Desk {
    folder: tempfile::TempDir,
    pub(crate) front: Front,
    _pebble: Pebble,
}

impl Desk {
    fn new() -> Self {
        Self::with(&[A, B], Pebble::start)
    }

    pub(crate) fn with(hosts: &[&str], pebble: impl Fn(&Path, u16) -> Pebble) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = serve_challenges(&folder.path().join("challenges"));
        let pebble = pebble(folder.path(), port);
        let front = Front::before(&pebble);
        std::fs::write(folder.path().join("trust.pem"), &pebble.trust).unwrap();
        let desk = Self { folder, front, _pebble: pebble };
        std::fs::write(desk.path("x.toml"), toml(&desk.front.directory(), port, 0, hosts, "")).unwrap();
        desk.bundled();
        desk
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn bundled(&self) {
        let output = sanedge().arg("bundle").arg(self.path("x.toml")).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }

    pub(crate) fn renew(&self, options: &[&str]) -> Output {
        sanedge().arg("renew").arg(self.path("x.acme")).args(options).output().unwrap()
    }

    fn spawn(&self) -> Child {
        let mut command = sanedge();
        command.arg("renew").arg(self.path("x.acme")).arg("--now");
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Runs with `--now --json`; the exit code and the document.
    pub(crate) fn json(&self, options: &[&str]) -> (i32, serde_json::Value) {
        let output = self.renew(&[options, &["--now", "--json"]].concat());
        let document = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
        (output.status.code().unwrap(), document)
    }

    pub(crate) fn certificate(&self, host: &str) -> PathBuf {
        self.path(&format!("state/certificates/{host}.pem"))
    }

    fn bundle(&self) -> Bundle {
        Bundle::open(&self.path("x.bundle")).unwrap()
    }

    pub(crate) fn serves(&self, host: &str) -> bool {
        self.bundle().host(&Host::parse(host).unwrap()).is_some()
    }

    /// No token of a challenge is left.
    pub(crate) fn is_clean(&self) -> bool {
        is_clean(&self.path("challenges"))
    }
}

/// Only what the edge is told of the run is there.
fn is_clean(challenges: &Path) -> bool {
    let mut names = std::fs::read_dir(challenges).unwrap().map(|entry| entry.unwrap().file_name());
    names.all(|name| name == sanedge::bundle::acme::told::FILE)
}

pub(crate) fn toml(directory: &str, http: u16, https: u16, hosts: &[&str], more: &str) -> String {
    let site = |host: &&str| format!("[[site]]\nhosts = [\"{host}\"]\nupstream = [\"127.0.0.1:1\"]\n");
    format!(
        "board = \"host\"\n[listen]\nhttps = [\"127.0.0.1:{https}\"]\nhttp = [\"127.0.0.1:{http}\"]\n\
         admin = \"unix:admin.sock\"\npublic_https_port = 443\n[acme]\nterms = \"agreed\"\ndirectory = \"{directory}\"\n\
         trust = \"trust.pem\"\nstate = \"state\"\nchallenges = \"challenges\"\n{more}\n{}",
        hosts.iter().map(site).collect::<String>()
    )
}

pub(crate) fn without_pebble(test: &str) -> bool {
    let lacks = !has("pebble", "-help");
    if lacks {
        skip(test, "it needs pebble");
    }
    lacks
}

/// Everything that a shell started, ended with it.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

/// The one command line of docs/acme.md.
fn documented() -> &'static str {
    let page = include_str!("../../docs/acme.md");
    page.split("```sh\n")
        .find(|block| block.starts_with("sanedge bundle"))
        .unwrap()
        .split("```")
        .next()
        .unwrap()
}

#[test]
fn one_command_line_ends_with_both_hosts_served() {
    if without_pebble("one_command_line_ends_with_both_hosts_served") {
        return;
    }
    // The ports of the file cannot be 0, and another process may take a free one in between: then we try again.
    for _ in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        let [http, https] = [(); 2].map(|()| free_address().port());
        let pebble = Pebble::start(folder.path(), http);
        std::fs::write(folder.path().join("trust.pem"), &pebble.trust).unwrap();
        let toml = toml(&pebble.directory(), http, https, &[A, B], "");
        std::fs::write(folder.path().join("sanedge.toml"), toml).unwrap();
        std::fs::create_dir(folder.path().join("bin")).unwrap();
        symlink(env!("CARGO_BIN_EXE_sanedge"), folder.path().join("bin/sanedge")).unwrap();
        let path = format!("{}:{}", folder.path().join("bin").display(), std::env::var("PATH").unwrap());
        let (out, err) = (folder.path().join("out"), folder.path().join("err"));
        let shell = Command::new("sh")
            .args(["-c", documented()])
            .current_dir(folder.path())
            .env("PATH", path)
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&out).unwrap())
            .stderr(std::fs::File::create(&err).unwrap())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut shell = Group(shell);
        let status = shell.0.wait().unwrap();
        let said = [out, err].map(|file| std::fs::read_to_string(file).unwrap()).concat();
        if said.contains("in use") && !status.success() {
            continue;
        }
        assert!(status.success(), "{said}");
        assert!(said.contains(&format!("serving: {A}, {B}")), "{said}");
        for step in ["DNS: ", "ordered", "issued", "proven", "serving"] {
            assert!(
                said.contains(&format!("{A}: {step}")) && said.contains(&format!("{B}: {step}")),
                "{step}: {said}"
            );
        }
        // A client that trusts the CA alone, and not what `renew` looked at.
        for host in [A, B] {
            handshake(&pebble.root, host, https).unwrap();
        }
        return;
    }
    panic!("no port stayed free");
}

/// From nothing to HTTPS over the TLS port alone: no plain listener, and Pebble finds none.
#[test]
fn over_port_443_alone_an_empty_state_ends_with_all_hosts_served() {
    if without_pebble("over_port_443_alone_an_empty_state_ends_with_all_hosts_served") {
        return;
    }
    for (challenge, default, sites) in [
        ("challenge = \"tls-alpn-01\"\ngroup = \"site\"", "", [&[A, "c.localhost"][..], &[B]]),
        ("", "default_host = \"127.0.0.1\"", [&[A], &["127.0.0.1"]]),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let desk = Edge::certified_for(&[]).write();
        let pebble = Pebble::with(&desk.path(""), 1, &[], &serde_json::json!({ "tlsPort": port }));
        std::fs::write(desk.path("trust.pem"), &pebble.trust).unwrap();
        let site = |hosts: &&[&str]| format!("[[site]]\nhosts = {hosts:?}\nupstream = [\"127.0.0.1:1\"]\n");
        let toml = format!(
            "board = \"host\"\n[listen]\nhttps = [\"127.0.0.1:{port}\"]\nadmin = \"unix:admin.sock\"\n{default}\n\
             [acme]\nterms = \"agreed\"\ndirectory = \"{}\"\ntrust = \"trust.pem\"\nstate = \"state\"\n\
             challenges = \"challenges\"\n{challenge}\n{}",
            pebble.directory(),
            sites.iter().map(site).collect::<String>()
        );
        std::fs::write(desk.toml(), toml).unwrap();
        let sockets = Sockets::new().with("https", listener);
        let edge = desk.serve_on(&sockets);
        let renew = || sanedge().arg("renew").arg(edge.desk().path("sanedge.acme")).output().unwrap();
        let output = renew();
        assert!(output.status.success(), "{}\n{}", text(&output), edge.log());
        let hosts = sites.concat();
        assert!(text(&output).contains(&format!("serving: {}", hosts.join(", "))), "{}", text(&output));
        for host in hosts {
            handshake(&pebble.root, host, port).unwrap();
        }
        assert!(is_clean(&edge.desk().path("challenges")), "what proves is taken away");
        assert_eq!(renew().status.code(), Some(0));
        edge.stop();
    }
}

/// An open WebSocket does not notice that the certificate under it is renewed; the next connection gets the new one.
#[test]
fn site_add_obtains_the_certificate_of_its_host_and_of_no_other() {
    if without_pebble("site_add_obtains_the_certificate_of_its_host_and_of_no_other") {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let desk = Edge::certified_for(&[]).write();
    let blocked = "blocked.localhost";
    let settings = serde_json::json!({ "tlsPort": port, "domainBlocklist": [blocked] });
    let pebble = Pebble::with(&desk.path(""), 1, &[], &settings);
    std::fs::write(desk.path("trust.pem"), &pebble.trust).unwrap();
    let toml = format!(
        "board = \"host\"\n[listen]\nhttps = [\"127.0.0.1:{port}\"]\nadmin = \"unix:admin.sock\"\npublic_https_port = 443\n\
         [acme]\nterms = \"agreed\"\ndirectory = \"{}\"\ntrust = \"trust.pem\"\nstate = \"state\"\n\
         challenges = \"challenges\"\n[[site]]\nhosts = [\"{A}\"]\nupstream = [\"127.0.0.1:1\"]\n",
        pebble.directory(),
    );
    std::fs::write(desk.toml(), toml).unwrap();
    let edge = desk.serve_on(&Sockets::new().with("https", listener));
    let add = |words: &[&str]| {
        let mut command = sanedge();
        command.args(["site", "add"]).args(words).args(["--app", "1", "--file"]).arg(edge.desk().toml());
        command.output().unwrap()
    };
    let output = add(&[B]);
    let said = text(&output);
    assert!(output.status.success(), "{said}\n{}", edge.log());
    assert!(said.contains(&format!("Obtaining that of {B} now")) && said.contains("serving"), "{said}");
    handshake(&pebble.root, B, port).unwrap();
    assert!(handshake(&pebble.root, A, port).is_err(), "it was not added");

    // The host stays: only its certificate is missing.
    let output = add(&[blocked, "--json"]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3), "{document:#}");
    assert_eq!((&document["ok"], &document["state"]), (&true.into(), &"reloaded".into()), "{document:#}");
    assert_eq!(document["renewal"]["ok"], false, "{document:#}");
    assert!(document["renewal"]["code"].as_str().unwrap().starts_with("acme-"), "{document:#}");
    let file = std::fs::read_to_string(edge.desk().toml()).unwrap();
    assert!(file.contains(blocked), "{file}");
    handshake(&pebble.root, B, port).unwrap();

    let output =
        sanedge().args(["site", "remove", blocked, "--file"]).arg(edge.desk().toml()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let output = add(&[blocked]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains("to try earlier, type `sanedge renew"), "{}", text(&output));
    // A dry run asks nobody.
    let output = add(&["c.localhost", "--dry-run"]);
    assert!(output.status.success() && !text(&output).contains("Obtaining"), "{}", text(&output));
    edge.stop();
}

#[test]
fn a_websocket_lives_through_a_renewal() {
    if without_pebble("a_websocket_lives_through_a_renewal") {
        return;
    }
    let app = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = app.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = app.accept().unwrap();
        let mut bytes = [0; 4096];
        let mut head: Vec<u8> = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let count = stream.read(&mut bytes).unwrap();
            head.extend(&bytes[..count]);
        }
        stream.write_all(SWITCHING.as_bytes()).unwrap();
        // For each frame of the client one of its own.
        while stream.read(&mut bytes).is_ok_and(|count| count > 0) {
            stream.write_all(b"\x81\x04here").unwrap();
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let desk = Edge::certified_for(&[]).write();
    let pebble = Pebble::with(&desk.path(""), 1, &[], &serde_json::json!({ "tlsPort": port }));
    std::fs::write(desk.path("trust.pem"), &pebble.trust).unwrap();
    let toml = format!(
        "board = \"host\"\n[listen]\nhttps = [\"127.0.0.1:{port}\"]\nadmin = \"unix:admin.sock\"\npublic_https_port = 443\n\
         [acme]\nterms = \"agreed\"\ndirectory = \"{}\"\ntrust = \"trust.pem\"\nstate = \"state\"\n\
         challenges = \"challenges\"\n[[site]]\nhosts = [\"{A}\"]\nupstream = [\"{upstream}\"]\n",
        pebble.directory(),
    );
    std::fs::write(desk.toml(), toml).unwrap();
    let edge = desk.serve_on(&Sockets::new().with("https", listener));
    let renew = || {
        let output =
            sanedge().arg("renew").arg(edge.desk().path("sanedge.acme")).arg("--now").output().unwrap();
        assert!(output.status.success(), "{}\n{}", text(&output), edge.log());
    };
    renew();
    let (mut socket, first) = connected(&pebble.root, A, port);
    socket.write_all(upgrade(A, "/", "").as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    let mut echo = || {
        socket.write_all(&client_frame(1, true, b"there?")).unwrap();
        let mut frame = [0; 6];
        socket.read_exact(&mut frame).unwrap();
        assert_eq!(&frame, b"\x81\x04here");
    };
    echo();
    for _ in 0..2 {
        renew();
        echo();
    }
    let (_, second) = connected(&pebble.root, A, port);
    assert_ne!(first, second, "a new connection gets the new certificate");
    echo();
    edge.stop();
}

/// A small file system of its own; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn at(folder: &Path) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs"]).arg(folder);
        let mounted = mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        mounted.then(|| Self(folder.to_owned()))
    }

    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("ballast")).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    fn empty(&self) {
        std::fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_before_during_and_after_an_order_costs_at_most_a_wait() {
    let test = "a_full_disk_before_during_and_after_an_order_costs_at_most_a_wait";
    if without_pebble(test) {
        return;
    }
    let desk = Desk::with(&[A], Pebble::start);
    let Some(disk) = SmallDisk::at(&desk.path("state")) else {
        skip(test, "it needs root, to mount a small tmpfs");
        return;
    };
    // Before: nothing is sent.
    disk.fill();
    let (code, document) = desk.json(&[]);
    assert_eq!((code, desk.front.total()), (75, 0), "{document}");
    assert!(document.to_string().contains("acme-disk-full"), "{document}");
    disk.empty();
    // During: the CA issues, and what it gives cannot be kept. The order and its key are.
    let full = disk.0.clone();
    desk.front.faults(move |kind, _| {
        if kind == "finalize-order" {
            SmallDisk::fill(&std::mem::ManuallyDrop::new(SmallDisk(full.clone())));
        }
        Act::Pass
    });
    let (code, document) = desk.json(&[]);
    assert_eq!(code, 75, "{document}");
    assert!(document.to_string().contains("acme-disk-full"), "{document}");
    assert!(!desk.certificate(A).exists() && desk.is_clean());
    let placed = desk.front.count("order-plz");
    disk.empty();
    // After: the next run goes on with the same order, and asks for no other.
    desk.front.faults(|_, _| Act::Pass);
    let (code, document) = desk.json(&[]);
    assert_eq!(code, 0, "{document}");
    assert_eq!((placed, desk.front.count("order-plz")), (1, 0), "one order");
    assert!(desk.serves(A) && desk.is_clean());
    // Where the bundle is, while the next certificate is deployed: the old bundle stays, whole.
    let small = SmallDisk::at(&desk.path("small")).unwrap();
    let (bundle, plan) = (small.0.join("x.bundle"), small.0.join("x.acme"));
    let output = sanedge().arg("bundle").arg(desk.path("x.toml")).arg("-o").arg(&bundle).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let before = std::fs::read(&bundle).unwrap();
    small.fill();
    let renew = |option: &str| sanedge().arg("renew").arg(&plan).arg(option).output().unwrap();
    let output = renew("--now");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert_eq!(std::fs::read(&bundle).unwrap(), before);
    assert!(Bundle::open(&bundle).unwrap().host(&Host::parse(A).unwrap()).is_some());
    small.empty();
    let output = renew("--deploy");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_ne!(std::fs::read(&bundle).unwrap(), before, "with the certificate that was stored then");
}

#[test]
fn certificates_are_obtained_once_and_only_their_owner_can_read_them() {
    if without_pebble("certificates_are_obtained_once_and_only_their_owner_can_read_them") {
        return;
    }
    let desk = Desk::new();
    assert!(!desk.serves(A) && desk.bundle().pending.len() == 2);
    let output = desk.renew(&[]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("no edge is running"), "{}", text(&output));
    assert!(desk.serves(A) && desk.serves(B) && desk.bundle().pending.is_empty() && desk.is_clean());
    assert_eq!((desk.front.count("order-plz"), desk.front.count("sign-me-up")), (2, 1), "one order a host");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    let mut folders = vec![desk.path("state")];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
        for entry in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else {
                assert_eq!(mode(&entry), 0o600, "{}", entry.display());
                files += 1;
            }
        }
    }
    assert_eq!(files, 6, "lock, account, two records, two certificates; no order is left");
    assert_eq!((mode(&desk.path("x.bundle")), mode(&desk.path("x.acme"))), (0o600, 0o644));
    let plan = std::fs::read_to_string(desk.path("x.acme")).unwrap();
    assert!(!plan.contains("KEY") && plan.contains(A), "{plan}");
    // Nothing is due, so nothing is ordered and nothing is written, although the CA is asked for its renewal information.
    let inodes = || {
        let files = ["accounts", "records", "certificates"].into_iter().flat_map(|folder| {
            let files = std::fs::read_dir(desk.path("state").join(folder)).unwrap();
            files.map(|file| file.unwrap()).map(|file| (file.path(), file.metadata().unwrap().ino()))
        });
        files.collect::<std::collections::BTreeMap<_, _>>()
    };
    let before = inodes();
    assert_eq!(before.len(), 5);
    desk.front.faults(|_, _| Act::Pass);
    let output = desk.renew(&[]);
    assert!(output.status.success() && text(&output).contains("fine"), "{}", text(&output));
    assert_eq!((desk.front.count("order-plz"), desk.front.count("dir")), (0, 1));
    assert_eq!(inodes(), before);
    // A renewal replaces the certificate and its key.
    let old = std::fs::read(desk.certificate(A)).unwrap();
    let output = desk.renew(&["--now", "--host", "A.localhost."]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(!text(&output).contains("replacement"), "this CA has no renewalInfo: {}", text(&output));
    assert_ne!(std::fs::read(desk.certificate(A)).unwrap(), old);
    assert_eq!(desk.front.count("order-plz"), 1);
}

#[test]
fn a_rate_limit_is_obeyed_over_ten_restarts() {
    if without_pebble("a_rate_limit_is_obeyed_over_ten_restarts") {
        return;
    }
    let desk = Desk::with(&[A], Pebble::start);
    desk.front.faults(|kind, _| match kind {
        "order-plz" => {
            problem(429, "rateLimited", "too many new orders from this account", "Retry-After: 3600\r\n")
        }
        _ => Act::Pass,
    });
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let (code, document) = desk.json(&[]);
    assert_eq!((code, &document["code"]), (1, &"acme-rate-limited".into()), "{document}");
    let next = document["certificates"][0]["next"].as_u64().unwrap();
    assert!(next >= now + 3600, "the limit of the account and not the pause of a minute: {document}");
    for _ in 0..10 {
        let (code, document) = desk.json(&[]);
        assert_eq!(code, 75, "{document}");
        assert!(document["certificates"][0]["why"].as_str().unwrap().contains("Retry-After"), "{document}");
    }
    assert_eq!(desk.front.count("order-plz"), 1);
    assert!(!desk.serves(A));
}

#[test]
fn a_record_that_is_years_ahead_does_not_stop_the_next_run_and_one_of_tomorrow_does() {
    if without_pebble("a_record_that_is_years_ahead_does_not_stop_the_next_run_and_one_of_tomorrow_does") {
        return;
    }
    let desk = Desk::with(&[A], |folder, _| Pebble::start(folder, 1));
    assert_eq!(desk.json(&[]).0, 1);
    let path = desk.path("state/records").join(format!("{A}.json"));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    for (ahead, stops) in [(80_000, true), (4 * 365 * 86_400, false)] {
        let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        for member in ["paused_until", "blocked_until"] {
            record[member] = (now + ahead).into();
        }
        record["last"]["at"] = (now + ahead).into();
        record["invalid"] = vec![now + ahead; 5].into();
        std::fs::write(&path, record.to_string()).unwrap();
        let output = desk.renew(&["--now"]);
        assert_eq!(output.status.code() == Some(75), stops, "{ahead}: {}", text(&output));
        assert_eq!(text(&output).contains("ahead of the system clock"), !stops, "{}", text(&output));
    }
    assert_eq!(desk.front.count("order-plz"), 2);
}

#[test]
fn a_rate_limit_on_the_directory_is_one() {
    if without_pebble("a_rate_limit_on_the_directory_is_one") {
        return;
    }
    let desk = Desk::with(&[A], Pebble::start);
    desk.front.faults(|kind, _| match kind {
        "dir" => problem(429, "rateLimited", "Service busy; retry later.", "Retry-After: 99999999999\r\n"),
        _ => Act::Pass,
    });
    let (code, document) = desk.json(&[]);
    assert_eq!((code, &document["code"]), (1, &"acme-rate-limited".into()), "{document}");
    assert_eq!(desk.json(&[]).0, 75);
    assert_eq!(desk.front.count("dir"), 1);
}

#[test]
fn one_host_that_is_refused_and_one_without_dns_do_not_delay_the_third() {
    if without_pebble("one_host_that_is_refused_and_one_without_dns_do_not_delay_the_third") {
        return;
    }
    let blocked = "blocked.localhost";
    let desk = Desk::with(&[blocked, "nowhere.invalid", A], |folder, port| {
        Pebble::with(folder, port, &[], &serde_json::json!({ "domainBlocklist": [blocked] }))
    });
    let (code, document) = desk.json(&[]);
    assert_eq!(code, 3, "{document}");
    let rows = document["certificates"].as_array().unwrap();
    let codes: Vec<Option<&str>> = rows.iter().map(|row| row["failure"]["code"].as_str()).collect();
    assert_eq!(codes, [Some("acme-rejected-name"), Some("acme-waiting-for-dns"), None], "{document}");
    assert_eq!(rows[2]["outcome"], "issued", "{document}");
    for row in &rows[..2] {
        assert!(
            row["failure"]["remedy"].as_str().unwrap().len() > 20
                && row["failure"]["means"].as_str().unwrap().len() > 20
        );
    }
    assert_eq!(desk.front.count("order-plz"), 2, "nothing was sent for the one without DNS");
    assert!(desk.serves(A) && !desk.serves(blocked));
}

/// Run until it waits for the second try of a host that the CA refuses: the other host does not wait with it.
#[test]
fn what_is_issued_is_in_use_before_another_host_is_tried_again() {
    if without_pebble("what_is_issued_is_in_use_before_another_host_is_tried_again") {
        return;
    }
    let blocked = "blocked.localhost";
    let desk = Desk::with(&[blocked, A], |folder, port| {
        Pebble::with(folder, port, &[], &serde_json::json!({ "domainBlocklist": [blocked] }))
    });
    let until_it_waits = || {
        let mut command = sanedge();
        command.arg("renew").arg(desk.path("x.acme")).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut said = String::new();
        let waits = std::io::BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        for line in waits {
            said += &format!("{line}\n");
            // What comes after it is done, or nothing is.
            if line.contains("no edge is running")
                || line.starts_with("trying again") && !desk.path("x.toml").exists()
            {
                break;
            }
        }
        (child, said)
    };
    let (mut child, said) = until_it_waits();
    assert!(said.contains("trying again in") && child.try_wait().unwrap().is_none(), "{said}");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(desk.serves(A) && !desk.serves(blocked));

    // Another user makes the bundle, and the last deployment was missed: the front serves another certificate.
    std::fs::rename(desk.path("x.toml"), desk.path("y.toml")).unwrap();
    let mut plan: serde_json::Value =
        serde_json::from_slice(&std::fs::read(desk.path("x.acme")).unwrap()).unwrap();
    plan["https"] = vec![format!("127.0.0.1:{}", desk.front.port)].into();
    std::fs::write(desk.path("x.acme"), plan.to_string()).unwrap();
    assert!(!desk.path("state/deploy").exists());
    let (mut child, said) = until_it_waits();
    let until = std::time::Instant::now() + PATIENCE;
    while !desk.path("state/deploy").exists() {
        assert!(child.try_wait().unwrap().is_none() && std::time::Instant::now() < until, "{said}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Answers that are none, and what is said of each.
#[test]
fn an_invalid_answer_of_the_ca_is_reported_and_the_next_run_succeeds() {
    if without_pebble("an_invalid_answer_of_the_ca_is_reported_and_the_next_run_succeeds") {
        return;
    }
    let page = "<html><body>502 Bad Gateway</body></html>";
    let html = format!(
        "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{page}",
        page.len()
    );
    let portal =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{page}", page.len());
    let desk = Desk::with(&[A], Pebble::start);
    for kind in ["dir", "order-plz", "finalize-order", "certZ"] {
        for (act, code, said) in [
            (Act::Answer(html.clone()), "acme-ca-fault", "502"),
            (Act::Endless, "acme-ca-answer", "more than"),
            (Act::Cut, "acme-ca-fault", "closed the connection"),
            (problem(503, "serverInternal", "down for maintenance", ""), "acme-ca-fault", "maintenance"),
        ] {
            let _ = std::fs::remove_dir_all(desk.path("state"));
            let fault = act.clone();
            desk.front.faults(move |now, _| if now == kind { fault.clone() } else { Act::Pass });
            let (exit, document) = desk.json(&[]);
            assert_eq!((exit, &document["code"]), (1, &code.into()), "{kind} {act:?}: {document}");
            assert!(document["message"].as_str().unwrap().contains(said), "{kind} {act:?}: {document}");
            assert!(!desk.certificate(A).exists() && desk.is_clean(), "{kind} {act:?}");
        }
    }
    desk.front.faults(move |kind, _| if kind == "dir" { Act::Answer(portal.clone()) } else { Act::Pass });
    assert_eq!(desk.json(&[]).1["code"], "acme-ca-answer", "a captive portal");
    desk.front.faults(|_, _| Act::Pass);
    let (code, document) = desk.json(&[]);
    assert_eq!((code, desk.front.count("order-plz")), (0, 0), "the stored order goes on: {document}");
    assert!(desk.serves(A));
}

#[test]
fn four_nonces_may_be_refused_and_five_end_the_run() {
    if without_pebble("four_nonces_may_be_refused_and_five_end_the_run") {
        return;
    }
    let desk = Desk::with(&[A], Pebble::start);
    let refusing = |most: usize| {
        move |kind: &str, before: usize| match kind {
            "order-plz" | "finalize-order" if before < most => {
                problem(400, "badNonce", "JWS has an invalid anti-replay nonce", "")
            }
            _ => Act::Pass,
        }
    };
    desk.front.faults(refusing(usize::MAX));
    let (code, document) = desk.json(&[]);
    assert_eq!((code, &document["code"]), (1, &"acme-bad-nonce".into()), "{document}");
    assert!(document["message"].as_str().unwrap().contains("badNonce"), "{document}");
    assert_eq!(desk.front.count("order-plz"), 5);
    desk.front.faults(refusing(4));
    let (code, document) = desk.json(&[]);
    assert_eq!(code, 0, "{document}");
    assert_eq!((desk.front.count("order-plz"), desk.front.count("finalize-order")), (5, 5));
}

#[test]
fn a_name_that_cannot_be_validated_is_tried_five_times_an_hour_at_most() {
    if without_pebble("a_name_that_cannot_be_validated_is_tried_five_times_an_hour_at_most") {
        return;
    }
    // The CA comes to a port where nothing listens; the check on this machine finds the challenges.
    let desk = Desk::with(&[A], |folder, _| Pebble::start(folder, 1));
    for _ in 0..5 {
        let (code, document) = desk.json(&[]);
        assert_eq!((code, &document["code"]), (1, &"acme-connection".into()), "{document}");
        assert!(document["message"].as_str().unwrap().contains(A), "{document}");
    }
    for _ in 0..3 {
        let (code, document) = desk.json(&[]);
        assert_eq!(code, 75, "{document}");
        assert!(
            document["certificates"][0]["why"].as_str().unwrap().contains("five validations"),
            "{document}"
        );
    }
    assert_eq!((desk.front.count("order-plz"), desk.front.count("chalZ")), (5, 5));
    assert!(desk.is_clean());
}

#[test]
fn without_a_server_for_the_challenges_nothing_is_sent() {
    if without_pebble("without_a_server_for_the_challenges_nothing_is_sent") {
        return;
    }
    let desk = Desk::with(&[A], Pebble::start);
    let toml = std::fs::read_to_string(desk.path("x.toml")).unwrap();
    let at = toml.find("http = ").unwrap();
    let line = toml[at..].lines().next().unwrap();
    std::fs::write(desk.path("x.toml"), toml.replace(line, "http = [\"127.0.0.1:9\"]")).unwrap();
    desk.bundled();
    let (code, document) = desk.json(&[]);
    assert_eq!((code, &document["code"]), (1, &"acme-edge-not-answering".into()), "{document}");
    assert_eq!(desk.front.total(), 0);
    std::fs::write(desk.path("x.toml"), toml).unwrap();
    desk.bundled();
    assert_eq!(desk.json(&[]).0, 0, "it counts as no attempt");
}

/// Another program than the edge has the port: it would answer the CA.
#[test]
fn another_program_on_the_port_of_the_edge_is_named_as_the_cause() {
    if without_pebble("another_program_on_the_port_of_the_edge_is_named_as_the_cause") {
        return;
    }
    let desk = Desk::with(&[A], Pebble::start);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answers = Arc::new(Mutex::new("HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Length: 0\r\n\r\n"));
    let answer = answers.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(answer.lock().unwrap().as_bytes());
        }
    });
    let toml = std::fs::read_to_string(desk.path("x.toml")).unwrap();
    let line = toml.lines().find(|line| line.starts_with("http = ")).unwrap();
    std::fs::write(desk.path("x.toml"), toml.replace(line, &format!("http = [\"127.0.0.1:{port}\"]")))
        .unwrap();
    desk.bundled();
    let (code, document) = desk.json(&[]);
    assert_eq!((code, &document["code"]), (1, &"acme-port-taken".into()), "{document}");
    assert!(
        document["certificates"][0]["failure"]["remedy"].as_str().unwrap().contains("ss -ltnp"),
        "{document}"
    );
    // An edge that cannot read the token: the port is its own.
    *answers.lock().unwrap() =
        "HTTP/1.1 404 Not Found\r\nSanedge-Error: unknown_path\r\nContent-Length: 0\r\n\r\n";
    let (code, document) = desk.json(&[]);
    assert_eq!((code, &document["code"]), (1, &"acme-edge-not-answering".into()), "{document}");
    assert_eq!(desk.front.total(), 0);
}

#[test]
fn a_dry_run_asks_for_no_certificate_and_keeps_nothing() {
    if without_pebble("a_dry_run_asks_for_no_certificate_and_keeps_nothing") {
        return;
    }
    let desk = Desk::new();
    let bundle = std::fs::read(desk.path("x.bundle")).unwrap();
    let output = desk.renew(&["--dry-run"]);
    assert!(output.status.success() && text(&output).contains("possible"), "{}", text(&output));
    assert_eq!((desk.front.count("chalZ"), desk.front.count("finalize-order")), (2, 0));
    // Without a staging directory it is the CA itself that counts: the account stays, and no order or certificate.
    let count = |name: &str| std::fs::read_dir(desk.path("state").join(name)).unwrap().count();
    assert_eq!((count("accounts"), count("orders"), count("certificates")), (1, 0, 0));
    assert!(desk.is_clean());
    assert!(desk.renew(&["--dry-run"]).status.success());
    assert_eq!(desk.front.count("sign-me-up"), 1, "the stored account is used again");
    assert_eq!(std::fs::read(desk.path("x.bundle")).unwrap(), bundle);
    let broken = Desk::with(&[A], |folder, _| Pebble::start(folder, 1));
    for _ in 0..5 {
        let output = broken.renew(&["--dry-run"]);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(text(&output).contains("port 80") && !text(&output).contains("1970"), "{}", text(&output));
    }
    let output = broken.renew(&["--dry-run"]);
    assert_eq!(output.status.code(), Some(75), "{}", text(&output));
    assert!(text(&output).contains("five validations"), "{}", text(&output));
    assert_eq!((broken.front.count("chalZ"), broken.front.count("sign-me-up")), (5, 1));
}

/// Killed before and after each request reaches the CA, the next run ends well, with at most one certificate too many.
#[test]
fn a_run_that_is_killed_at_any_step_is_followed_by_one_that_ends_well() {
    if without_pebble("a_run_that_is_killed_at_any_step_is_followed_by_one_that_ends_well") {
        return;
    }
    let whole = Desk::with(&[A], Pebble::start);
    assert_eq!(whole.json(&[]).0, 0);
    let steps: Vec<(String, usize)> = whole.front.seen().into_iter().collect();
    assert!(steps.iter().any(|(kind, _)| kind == "certZ"), "{steps:?}");
    let steps = steps.iter().flat_map(|(kind, count)| (0..*count).map(move |nth| (kind.clone(), nth)));
    for (kind, nth) in steps {
        for act in [Act::Hold, Act::Lose] {
            for name in ["state", "challenges"] {
                let _ = std::fs::remove_dir_all(whole.path(name));
            }
            let (step, fault) = (kind.clone(), act.clone());
            whole.front.faults(
                move |now, before| if (now, before) == (&*step, nth) { fault.clone() } else { Act::Pass },
            );
            let mut child = whole.spawn();
            // The number of looks at an order is the CA's affair: one that never comes is no step.
            let is_held = loop {
                match (whole.front.is_holding(), child.try_wait().unwrap()) {
                    (true, _) => break true,
                    (false, Some(_)) => break false,
                    _ => std::thread::sleep(std::time::Duration::from_millis(10)),
                }
            };
            let _ = child.kill();
            let _ = child.wait();
            let first = whole.front.count("finalize-order");
            whole.front.faults(|_, _| Act::Pass);
            let (code, document) = whole.json(&[]);
            assert_eq!(code, 0, "{kind} {nth} {act:?} {is_held}: {document}");
            assert!(whole.serves(A) && whole.is_clean(), "{kind} {nth} {act:?}");
            assert!(first + whole.front.count("finalize-order") <= 2, "{kind} {nth} {act:?}");
        }
    }
}

/// As a run leaves it that is killed between storing the certificate and forgetting the order: a renewal would resume it.
#[test]
fn an_order_that_is_left_beside_its_certificate_is_ended() {
    if without_pebble("an_order_that_is_left_beside_its_certificate_is_ended") {
        return;
    }
    let desk = Desk::with(&[A], Pebble::start);
    assert_eq!(desk.json(&[]).0, 0);
    let pem = std::fs::read_to_string(desk.certificate(A)).unwrap();
    let (own, _) = pem.split_once("-----BEGIN CERTIFICATE").unwrap();
    let other = super::support::certs::Ca::new("x").issue(&[A]).key_pem;
    let (order, record, token) = (
        desk.path(&format!("state/orders/{A}.json")),
        desk.path(&format!("state/records/{A}.json")),
        desk.path("challenges/left"),
    );
    // Of the stored certificate, and one that nothing needs any more.
    for (key, is_issued) in [(own, true), (&*other, false)] {
        let open = serde_json::json!({
            "directory": desk.front.directory(), "url": "https://localhost/order", "names": [A], "key": key,
            "tokens": ["left"], "records": []
        });
        std::fs::write(&order, open.to_string()).unwrap();
        std::fs::set_permissions(&order, std::fs::Permissions::from_mode(0o600)).unwrap();
        let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        std::fs::write(&record, serde_json::json!({ "failures": 1, "started": started }).to_string())
            .unwrap();
        std::fs::write(&token, "left").unwrap();
        desk.front.faults(|_, _| Act::Pass);
        let output = desk.renew(&[]);
        assert!(output.status.success() && text(&output).contains("fine"), "{}", text(&output));
        assert!(!order.exists() && desk.is_clean());
        assert_eq!(desk.front.count("order-plz"), 0);
        assert_eq!(std::fs::read_to_string(desk.certificate(A)).unwrap(), pem);
        let record: serde_json::Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
        assert_eq!(
            (record["failures"] == 0, record["directory"].is_string()),
            (is_issued, is_issued),
            "{record}"
        );
    }
}

#[test]
fn a_stored_certificate_that_does_not_pass_is_not_used_and_the_old_one_stays() {
    if without_pebble("a_stored_certificate_that_does_not_pass_is_not_used_and_the_old_one_stays") {
        return;
    }
    let desk = Desk::new();
    assert_eq!(desk.json(&[]).0, 0);
    let (a, b) = (std::fs::read(desk.certificate(A)).unwrap(), std::fs::read(desk.certificate(B)).unwrap());
    let bundle = std::fs::read(desk.path("x.bundle")).unwrap();
    let deploy = || sanedge().arg("renew").arg(desk.path("x.acme")).arg("--deploy").output().unwrap();
    let restore = |bytes: &[u8]| {
        let _ = std::fs::remove_file(desk.certificate(A));
        std::fs::write(desk.certificate(A), bytes).unwrap();
        std::fs::set_permissions(desk.certificate(A), std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    let elsewhere = desk.path("elsewhere.pem");
    std::fs::write(&elsewhere, &a).unwrap();
    std::fs::set_permissions(&elsewhere, std::fs::Permissions::from_mode(0o600)).unwrap();
    let attacks: [(&str, &dyn Fn()); 4] = [
        ("symbolic link", &|| {
            std::fs::remove_file(desk.certificate(A)).unwrap();
            symlink(&elsewhere, desk.certificate(A)).unwrap();
        }),
        ("readable by others", &|| {
            std::fs::set_permissions(desk.certificate(A), std::fs::Permissions::from_mode(0o644)).unwrap();
        }),
        ("too large", &|| restore(&[&a[..], &vec![b'\n'; 70_000]].concat())),
        ("broken PEM", &|| restore(&a[..a.len() - 40])),
    ];
    for (said, attack) in attacks {
        attack();
        let output = deploy();
        assert_eq!(output.status.code(), Some(3), "{said}: {}", text(&output));
        assert!(text(&output).contains(said), "{said}: {}", text(&output));
        assert!(desk.serves(A) && desk.serves(B), "{said}: the certificate in place stays");
        restore(&a);
    }
    // The certificate of another name, with its own key: it proves, and is for no host of this one.
    restore(&b);
    let output = deploy();
    assert!(desk.serves(A), "{}", text(&output));
    restore(&a);
    let output = deploy();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(std::fs::read(desk.path("x.bundle")).unwrap(), bundle);
}

#[test]
fn a_name_that_is_not_managed_any_more_is_never_renewed() {
    if without_pebble("a_name_that_is_not_managed_any_more_is_never_renewed") {
        return;
    }
    let desk = Desk::new();
    assert_eq!(desk.json(&[]).0, 0);
    let toml = std::fs::read_to_string(desk.path("x.toml")).unwrap();
    let site = format!("[[site]]\nhosts = [\"{B}\"]");
    std::fs::write(desk.path("x.toml"), toml.replace(&site, &format!("{site}\nacme = false"))).unwrap();
    // It had its certificate from there: without one of its own it is covered by none.
    let output = sanedge().arg("bundle").arg(desk.path("x.toml")).output().unwrap();
    assert!(!output.status.success() && text(&output).contains("host-not-covered"), "{}", text(&output));
    std::fs::write(desk.path("x.toml"), &toml[..toml.find(&site).unwrap()]).unwrap();
    desk.bundled();
    desk.front.faults(|_, _| Act::Pass);
    let (code, document) = desk.json(&[]);
    assert_eq!((code, document["certificates"].as_array().unwrap().len()), (0, 1), "{document}");
    assert_eq!(desk.front.count("order-plz"), 1);
    let (code, document) = desk.json(&["--host", B]);
    assert_eq!((code, &document["code"]), (2, &"acme-host".into()), "{document}");
}

/// A front that offers renewal information (RFC 9773), which this Pebble has not.
fn with_renewal_information(
    desk: &Desk,
    (start, end): (&str, &str),
    order: impl Fn(usize) -> Act + Send + Sync + 'static,
) {
    let information = format!("\"renewalInfo\": \"https://localhost:{}/ari\", \"newOrder\"", desk.front.port);
    let body = format!("{{\"suggestedWindow\":{{\"start\":\"{start}\",\"end\":\"{end}\"}}}}");
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nRetry-After: 60\r\n";
    let answer = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    desk.front.faults(move |kind, before| match kind {
        "dir" => Act::Change("\"newOrder\"", information.clone()),
        "ari" => Act::Answer(answer.clone()),
        "order-plz" => order(before),
        _ => Act::Pass,
    });
}

#[test]
fn the_moment_of_a_renewal_is_drawn_once_from_the_cas_window() {
    if without_pebble("the_moment_of_a_renewal_is_drawn_once_from_the_cas_window") {
        return;
    }
    let desk = Desk::with(&[A], Pebble::start);
    assert_eq!(desk.json(&[]).0, 0);
    let next = || {
        let output = desk.renew(&["--json"]);
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(document["certificates"][0]["outcome"], "fine", "{document}");
        document["certificates"][0]["next"].as_i64().unwrap()
    };
    // 2029-01-01 and 2029-03-01.
    let window = 1_861_920_000..1_867_017_600;
    with_renewal_information(&desk, ("2029-01-01T00:00:00Z", "2029-03-01T00:00:00Z"), |_| Act::Pass);
    let drawn = next();
    assert!(window.contains(&drawn), "{drawn}");
    assert_eq!(desk.front.count("ari"), 1);
    for _ in 0..3 {
        assert_eq!(next(), drawn, "kept across restarts");
    }
    assert_eq!(desk.front.count("ari"), 1, "Retry-After has not passed");
}

#[test]
fn a_window_in_the_past_renews_with_replaces_and_without_it_where_the_ca_refuses_that() {
    if without_pebble("a_window_in_the_past_renews_with_replaces_and_without_it_where_the_ca_refuses_that") {
        return;
    }
    let past = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    // A CA that says so, and one that does not repeat it in its answer (RFC 9773 §5).
    for refusing in [true, false] {
        let desk = Desk::with(&[A], Pebble::start);
        assert_eq!(desk.json(&[]).0, 0);
        let old = std::fs::read(desk.certificate(A)).unwrap();
        with_renewal_information(&desk, past, move |before| match before {
            0 if refusing => problem(409, "alreadyReplaced", "this certificate was replaced already", ""),
            _ => Act::Pass,
        });
        let output = desk.renew(&["--json"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        assert_ne!(std::fs::read(desk.certificate(A)).unwrap(), old);
        let orders = desk.front.payloads("order-plz");
        let replaces: Vec<bool> = orders.iter().map(|order| order.contains("\"replaces\"")).collect();
        assert_eq!(replaces, [true, false], "{orders:?}");
        assert!(desk.front.count("ari") == 1 && desk.is_clean());
    }
}

/// A pending host: an alert on the TLS port, a sentence on the plain one, and challenges.
#[test]
fn a_pending_host_gets_an_alert_and_a_503_and_its_challenges_are_answered() {
    let challenges = tempfile::tempdir().unwrap();
    let state = challenges.path().join("state");
    let edge = Edge::certified_for(&["recre.store"])
        .with_http()
        .site(&["recre.store"], "127.0.0.1:1")
        .site(&["new.recre.store"], "127.0.0.1:1")
        .listen(&format!(
            "[acme]\nterms = \"agreed\"\nstate = {:?}\nchallenges = {:?}",
            state.display().to_string(),
            challenges.path().display().to_string()
        ))
        .start();
    let get = |host: &str, path: &str| {
        let mut stream = std::net::TcpStream::connect(edge.http.unwrap()).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        std::io::read_to_string(stream).unwrap()
    };
    let answer = get("new.recre.store", "/");
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("Sanedge-Error: certificate_pending"),
        "{answer}"
    );
    assert!(get("recre.store", "/").starts_with("HTTP/1.1 308 "), "the other host is served");
    assert!(get("other.test", "/").starts_with("HTTP/1.1 404 "));
    std::fs::write(challenges.path().join("token"), "token.thumbprint").unwrap();
    let answer = get("new.recre.store", "/.well-known/acme-challenge/token");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("token.thumbprint"), "{answer}");
    let handshake = |host: &str| handshake(&edge.desk().ca.pem, host, edge.https.port());
    handshake("recre.store").unwrap();
    assert!(handshake("new.recre.store").unwrap_err().contains("UnrecognisedName"));
    edge.stop();
}
