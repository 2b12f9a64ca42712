//! Session tickets as `openssl s_client` keeps them: across a restart, under another name, after their time, and with a
//! file of keys that is not to be trusted.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use rustls::client::{
    ClientSessionStore, Resumption, TicketRequest, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::{ClientConnection, HandshakeKind, NamedGroup, Stream};
use rustls_pki_types::ServerName;

use crate::support::SOCKET_HOST as HOST;
use crate::support::edge::{Edge, PATIENCE, client_config_with, text};
use crate::support::node::{has, skip};

const OTHER: &str = "recre.store";
const VERSIONS: [&str; 2] = ["-tls1_2", "-tls1_3"];
/// In the file of keys: where the first key's end stands, and how long a key's record is.
const FIRST_UNTIL: usize = 8 + 36 + 16;
const KEY_BYTES: usize = 16 + 8 + 32;
const DIGEST_BYTES: usize = 32;
/// What clients are told, in seconds.
const LIFETIME_S: u64 = 36 * 60 * 60;

/// A folder in memory, as `/run/sanedge` is; said aloud where the machine has none, or no openssl.
fn runtime(test: &str) -> Option<tempfile::TempDir> {
    if !has("openssl", "version") {
        skip(test, "it needs openssl");
        return None;
    }
    let folder = tempfile::Builder::new().prefix("sanedge").tempdir_in("/dev/shm").ok();
    if folder.is_none() {
        skip(test, "it needs a tmpfs at /dev/shm");
    }
    folder
}

fn edge(folder: &Path) -> Edge {
    Edge::certified_for(&[OTHER, HOST]).site(&[OTHER, HOST], upstream()).runtime(folder).start()
}

/// Answers on threads for as long as the test process lives.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                if lines.map_while(Result::ok).any(|line| line.is_empty()) {
                    let _ = stream
                        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nhere");
                }
            });
        }
    });
    address
}

/// One exchange by `s_client`, and what it said. TLS 1.3 sends tickets after the handshake.
fn exchange(edge: &Edge, version: &str, name: &str, more: &[&str]) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &edge.https.to_string(), version, "-servername", name, "-ign_eof"]);
    command.args(["-verify_return_error", "-CAfile"]).arg(edge.desk().ca_file()).args(more);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
    child.stdin.take().unwrap().write_all(request.as_bytes()).unwrap();
    let said = text(&child.wait_with_output().unwrap());
    assert!(said.contains("here"), "{version} {name}: {said}");
    said
}

/// A session's file, made anew: a server may take a ticket once.
fn session(edge: &Edge, version: &str) -> PathBuf {
    let file = edge.desk().path(&format!("session{version}.pem"));
    let said = exchange(edge, version, HOST, &["-sess_out", file.to_str().unwrap()]);
    assert!(said.contains("New, ") && said.contains("lifetime hint: 129600"), "{version}: {said}");
    file
}

fn resumes(edge: &Edge, version: &str, name: &str, session: &Path) -> bool {
    let said = exchange(edge, version, name, &["-sess_in", session.to_str().unwrap()]);
    assert!(said.contains("Reused, ") != said.contains("New, "), "{said}");
    said.contains("Reused, ")
}

fn keys(folder: &Path) -> PathBuf {
    folder.join("ticket-keys")
}

fn boottime_s() -> u64 {
    rustix::time::clock_gettime(rustix::time::ClockId::Boottime).tv_sec.try_into().unwrap()
}

/// What the log says of a spoiled file, and how it is spoiled.
type Spoil<'a> = (&'a str, Box<dyn Fn() + 'a>);

/// Changes the body of the file of keys and makes its digest fit.
fn rewrite(folder: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(keys(folder)).unwrap();
    bytes.truncate(bytes.len() - DIGEST_BYTES);
    change(&mut bytes);
    let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
    bytes.extend_from_slice(digest.as_ref());
    std::fs::write(keys(folder), bytes).unwrap();
}

/// Makes every key in the file end at this uptime.
fn let_end(folder: &Path, until_s: u64) {
    rewrite(folder, |bytes| {
        let mut changed = 0;
        for at in (FIRST_UNTIL..bytes.len()).step_by(KEY_BYTES) {
            bytes[at..at + 8].copy_from_slice(&until_s.to_be_bytes());
            changed += 1;
        }
        assert!(changed > 0);
    });
}

#[test]
fn a_session_resumes_across_a_restart_under_its_own_name_only() {
    let Some(folder) = runtime("a_session_resumes_across_a_restart_under_its_own_name_only") else { return };
    let mut edge = edge(folder.path());
    edge.wait_for_log("ticket keys are kept across restarts", PATIENCE);
    let mode = std::fs::metadata(keys(folder.path())).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let mut tried = 0;
    for version in VERSIONS {
        let first = session(&edge, version);
        edge = edge.restarted();
        assert!(resumes(&edge, version, HOST, &first), "{version}: after a restart\n{}", edge.log());
        let second = session(&edge, version);
        edge = edge.killed_and_served_again();
        assert!(!resumes(&edge, version, OTHER, &second), "{version}: under another name");
        assert!(resumes(&edge, version, HOST, &second), "{version}: after a kill");
        tried += 1;
    }
    assert_eq!(tried, 2);
    edge.stop();
}

#[test]
fn a_ticket_is_taken_until_its_key_ends_and_not_after() {
    let Some(folder) = runtime("a_ticket_is_taken_until_its_key_ends_and_not_after") else { return };
    let mut edge = edge(folder.path());
    for version in VERSIONS {
        let early = session(&edge, version);
        // An hour from now: the key issues no more, and is taken still.
        let_end(folder.path(), boottime_s() + 3600);
        edge = edge.restarted();
        assert!(resumes(&edge, version, HOST, &early), "{version}: a key before the last\n{}", edge.log());
        let keys_in_file = (std::fs::metadata(keys(folder.path())).unwrap().len() as usize
            - (FIRST_UNTIL - 16)
            - DIGEST_BYTES)
            / KEY_BYTES;
        assert!(keys_in_file >= 2, "a key that issues, and those before it: {keys_in_file}");
        let late = session(&edge, version);
        let_end(folder.path(), boottime_s());
        edge = edge.restarted();
        edge.wait_for_log("all keys in it have expired", PATIENCE);
        assert!(!resumes(&edge, version, HOST, &late), "{version}: after its time");
        assert!(resumes(&edge, version, HOST, &session(&edge, version)), "{version}: with fresh keys");
    }
    edge.stop();
}

#[test]
fn keys_that_cannot_be_trusted_are_replaced_and_it_is_said() {
    let Some(folder) = runtime("keys_that_cannot_be_trusted_are_replaced_and_it_is_said") else { return };
    let file = keys(folder.path());
    let mut edge = edge(folder.path());
    let mut spoils: Vec<Spoil<'_>> = vec![
        ("damaged", Box::new(|| std::fs::write(&file, "keys").unwrap())),
        ("damaged", Box::new(|| std::fs::write(&file, vec![0; 1 << 20]).unwrap())),
        ("from another boot", Box::new(|| rewrite(folder.path(), |bytes| bytes[10] ^= 1))),
        ("impossible lifetime", Box::new(|| let_end(folder.path(), boottime_s() + LIFETIME_S + 3600))),
        (
            "mode 0600; found one",
            Box::new(|| std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap()),
        ),
    ];
    if rustix::process::geteuid().is_root() {
        let others = || std::os::unix::fs::chown(&file, Some(65_534), None).unwrap();
        spoils.push(("of user 65534", Box::new(others)));
    }
    for (said, spoil) in &spoils {
        let session = session(&edge, "-tls1_3");
        spoil();
        edge = edge.restarted();
        let line = edge.wait_for_log("ticket keys of the previous process not used", PATIENCE);
        assert!(line.contains(said) && line.contains("ticket-keys"), "{line}");
        assert!(!resumes(&edge, "-tls1_3", HOST, &session), "{said}");
        let about = std::fs::metadata(&file).unwrap();
        assert!(about.len() < 1000 && about.permissions().mode() & 0o7777 == 0o600, "{said}: replaced");
    }
    assert!(spoils.len() >= 5);
    edge.stop();
}

#[test]
fn nothing_is_kept_on_a_disk() {
    let test = "nothing_is_kept_on_a_disk";
    if !has("openssl", "version") {
        return skip(test, "it needs openssl");
    }
    // The target folder is where builds go: never a tmpfs in CI, and said aloud where it is one.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let kind = rustix::fs::statfs(folder.path()).unwrap().f_type as u32;
    if kind == 0x0102_1994 {
        return skip(test, "it needs the target folder on a disk");
    }
    let edge = edge(folder.path());
    let line = edge.wait_for_log("ticket keys are kept in memory only", PATIENCE);
    assert!(line.contains("expected a tmpfs"), "{line}");
    let session = session(&edge, "-tls1_3");
    let edge = edge.restarted();
    assert!(!resumes(&edge, "-tls1_3", HOST, &session));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    edge.stop();
}

/// Counts the tickets of TLS 1.3 that it is given, and hands out the last one.
#[derive(Debug, Default)]
struct Counter {
    count: AtomicUsize,
    last: std::sync::Mutex<Option<Tls13ClientSessionValue>>,
}

impl ClientSessionStore for Counter {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.count.fetch_add(1, SeqCst);
        *self.last.lock().unwrap() = Some(ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.last.lock().unwrap().take()
    }
}

/// How many tickets a full handshake and one that resumes it bring, to a client that requests so many for either.
fn tickets(edge: &Edge, request: Option<(u8, u8)>) -> [usize; 2] {
    let store = Arc::new(Counter::default());
    let mut config = client_config_with(rustls::crypto::ring::default_provider(), &edge.desk().ca.pem);
    config.resumption = Resumption::store(store.clone());
    config.send_ticket_request = request
        .map(|(new_session_count, resumption_count)| TicketRequest { new_session_count, resumption_count });
    let config = Arc::new(config);
    [HandshakeKind::Full, HandshakeKind::Resumed].map(|kind| {
        let has_ticket = store.last.lock().unwrap().is_some();
        let name = ServerName::try_from(HOST).unwrap();
        let mut client = ClientConnection::new(config.clone(), name).unwrap();
        let mut stream = std::net::TcpStream::connect(edge.https).unwrap();
        let mut tls = Stream::new(&mut client, &mut stream);
        let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
        tls.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut tls, &mut answer).unwrap();
        assert!(answer.ends_with("here"), "{answer}");
        assert_eq!(client.handshake_kind(), Some(if has_ticket { kind } else { HandshakeKind::Full }));
        store.count.swap(0, SeqCst)
    })
}

#[test]
fn a_client_gets_two_tickets_or_as_many_as_it_requests_up_to_six() {
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], upstream()).start();
    for (request, wanted) in [
        (None, [2, 2]),
        (Some((1, 1)), [1, 1]),
        (Some((3, 0)), [3, 0]),
        (Some((6, 1)), [6, 1]),
        (Some((7, 7)), [6, 6]),
        (Some((255, 255)), [6, 6]),
        // Without a ticket, the second handshake is a full one as well.
        (Some((0, 3)), [0, 0]),
    ] {
        assert_eq!(tickets(&edge, request), wanted, "{request:?}");
    }
    edge.stop();
}
