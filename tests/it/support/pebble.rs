//! A real ACME server (Pebble of Debian), and a front before it that fails as a test wants.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::certs::Ca;
use super::edge::PATIENCE;
use super::peers::free_address;

/// Hosts of Let's Encrypt's two directories, which its certificate has as well.
pub const LETS_ENCRYPT: &str = "acme-v02.api.letsencrypt.org";
/// See [`LETS_ENCRYPT`].
pub const STAGING: &str = "acme-staging-v02.api.letsencrypt.org";

/// A running Pebble; killed when dropped.
pub struct Pebble {
    child: Child,
    /// Its port.
    pub port: u16,
    /// PEM of its own roots and of those that it issues from.
    pub trust: String,
    /// PEM of the root that it issues from.
    pub root: String,
    management: u16,
    client: Arc<ClientConfig>,
    own: (CertificateDer<'static>, PrivateKeyDer<'static>),
}

impl Pebble {
    /// Keeps its files in `folder` and validates on `http_port` of this machine, whatever the name.
    pub fn start(folder: &Path, http_port: u16) -> Self {
        Self::with(folder, http_port, &[], &serde_json::json!({}))
    }

    /// The same with environment variables, and more keys of its configuration.
    pub fn with(folder: &Path, http_port: u16, variables: &[(&str, &str)], keys: &serde_json::Value) -> Self {
        Self::asking(name_server(), folder, http_port, variables, keys)
    }

    /// The same that asks the name server `dns`.
    pub fn asking(
        dns: SocketAddr,
        folder: &Path,
        http_port: u16,
        variables: &[(&str, &str)],
        keys: &serde_json::Value,
    ) -> Self {
        let ca = Ca::new("the CA of Pebble's own certificate");
        let own = ca.issue(&["localhost", LETS_ENCRYPT, STAGING]);
        std::fs::write(folder.join("pebble.pem"), &own.chain_pem).unwrap();
        std::fs::write(folder.join("pebble.key"), &own.key_pem).unwrap();
        let client = trusting(&ca.pem);
        let own = (
            CertificateDer::from_pem_slice(own.chain_pem.as_bytes()).unwrap(),
            PrivateKeyDer::from_pem_slice(own.key_pem.as_bytes()).unwrap(),
        );
        // Its ports cannot be 0. Another process may take a free one in between: then it ends at once, and we try again.
        for _ in 0..10 {
            let ports = [(); 2].map(|()| free_address().port());
            let mut config = serde_json::json!({
                "listenAddress": format!("127.0.0.1:{}", ports[0]),
                "managementListenAddress": format!("127.0.0.1:{}", ports[1]),
                "certificate": folder.join("pebble.pem"), "privateKey": folder.join("pebble.key"),
                "httpPort": http_port, "tlsPort": 1,
            });
            config.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
            std::fs::write(folder.join("pebble.json"), serde_json::json!({ "pebble": config }).to_string())
                .unwrap();
            let mut command = Command::new("pebble");
            command.arg("-config").arg(folder.join("pebble.json")).args(["-dnsserver", &dns.to_string()]);
            command
                .env("PEBBLE_VA_NOSLEEP", "1")
                .env("PEBBLE_WFE_NONCEREJECT", "0")
                .env("PEBBLE_AUTHZREUSE", "0");
            command.envs(variables.iter().copied()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut pebble = Self {
                child: command.spawn().unwrap(),
                port: ports[0],
                trust: String::new(),
                root: String::new(),
                management: ports[1],
                client: client.clone(),
                own: (own.0.clone(), own.1.clone_key()),
            };
            if pebble.listens(ports) {
                pebble.root = pebble.get(ports[1], "/roots/0");
                pebble.trust = format!("{}{}", ca.pem, pebble.root);
                return pebble;
            }
        }
        panic!("pebble does not listen");
    }

    fn listens(&mut self, ports: [u16; 2]) -> bool {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until && self.child.try_wait().unwrap().is_none() {
            if ports.iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok()) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// The URL of its directory.
    pub fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.port)
    }

    /// PEM of the root of its first alternate chain.
    pub fn other_root(&self) -> String {
        self.get(self.management, "/roots/1")
    }

    fn get(&self, port: u16, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = ask(&self.client, port, request.as_bytes());
        String::from_utf8(answer).unwrap().split_once("\r\n\r\n").unwrap().1.to_owned()
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn trusting(pem: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(root.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

/// A TLS handshake as a client that trusts the roots in `pem` alone.
pub fn handshake(pem: &str, host: &str, port: u16) -> Result<(), String> {
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let mut connection = ClientConnection::new(trusting(pem), name).unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// An open connection of a client that trusts the roots in `pem` alone, and the certificate that it got.
pub fn connected(pem: &str, host: &str, port: u16) -> (StreamOwned<ClientConnection, TcpStream>, Vec<u8>) {
    try_connected(pem, host, port).unwrap()
}

/// The same, or why there is none.
pub fn try_connected(
    pem: &str,
    host: &str,
    port: u16,
) -> Result<(StreamOwned<ClientConnection, TcpStream>, Vec<u8>), String> {
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let connection = ClientConnection::new(trusting(pem), name).unwrap();
    let mut stream = StreamOwned::new(connection, TcpStream::connect(("127.0.0.1", port)).unwrap());
    stream.sock.set_read_timeout(Some(PATIENCE)).unwrap();
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).map_err(|error| error.to_string())?;
    }
    let certificate = stream.conn.peer_certificates().unwrap()[0].to_vec();
    Ok((stream, certificate))
}

/// Sends a request that asks to close, and reads until the server has.
fn ask(client: &Arc<ClientConfig>, port: u16, request: &[u8]) -> Vec<u8> {
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(client.clone(), name).unwrap();
    let mut stream = StreamOwned::new(connection, TcpStream::connect(("127.0.0.1", port)).unwrap());
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// Says of every name that it is this machine, in the fewest bytes of RFC 1035.
pub fn name_server() -> SocketAddr {
    const A: [u8; 4] = [0, 1, 0, 1];
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut bytes = [0; 1500];
        while let Ok((_, client)) = socket.recv_from(&mut bytes) {
            // The question alone: what follows it (EDNS) is not repeated.
            let name = bytes[12..].iter().position(|byte| *byte == 0).unwrap() + 13;
            let question = &bytes[12..name + 4];
            let answers = u8::from(question.ends_with(&A));
            let mut answer = vec![bytes[0], bytes[1], 0x85, 0x80, 0, 1, 0, answers, 0, 0, 0, 0];
            answer.extend(question);
            if answers == 1 {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
                answer.extend(Ipv4Addr::LOCALHOST.octets());
            }
            let _ = socket.send_to(&answer, client);
        }
    });
    address
}

/// What the front does with a request.
#[derive(Clone, Debug)]
pub enum Act {
    /// Pebble answers.
    Pass,
    /// Pebble answers, and this text is put in place of another in its answer.
    Change(&'static str, String),
    /// Pebble does not hear of it: the whole response.
    Answer(String),
    /// Pebble does not hear of it: a head, and a body without end.
    Endless,
    /// Pebble answers, and half of the body is lost with the connection.
    Cut,
    /// Nothing comes, and Pebble does not hear of it.
    Hold,
    /// Nothing comes, and Pebble has done it.
    Lose,
}

/// Decides: the kind of request (`order-plz` of `/order-plz`), and how many of that kind came before.
pub type Faults = dyn Fn(&str, usize) -> Act + Send + Sync;

#[derive(Default)]
struct Log {
    seen: Mutex<Vec<String>>,
    /// What was signed in each request, in the same order.
    payloads: Mutex<Vec<(String, String)>>,
    /// How many requests were held or lost.
    held: Mutex<usize>,
    /// Connections that are served now.
    open: AtomicUsize,
}

impl Log {
    /// Tells that a request gets no answer, and keeps its connection as long as any test lasts.
    fn hold(&self) {
        *self.held.lock().unwrap() += 1;
        std::thread::sleep(Duration::from_secs(600));
    }
}

/// A connection that is served, until it is dropped.
struct Open<'a>(&'a Log);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A TLS server before a Pebble.
pub struct Front {
    /// Its port.
    pub port: u16,
    log: Arc<Log>,
    faults: Arc<Mutex<Arc<Faults>>>,
}

impl Front {
    /// That passes everything.
    pub fn before(pebble: &Pebble) -> Self {
        Self::at("127.0.0.1:0", pebble)
    }

    /// The same at an address of its own.
    pub fn at(address: &str, pebble: &Pebble) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let port = listener.local_addr().unwrap().port();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let own = (vec![pebble.own.0.clone()], pebble.own.1.clone_key());
        let config = Arc::new(config.with_no_client_auth().with_single_cert(own.0, own.1).unwrap());
        let (log, client, to) = (Arc::<Log>::default(), pebble.client.clone(), pebble.port);
        let pass: Arc<Faults> = Arc::new(|_: &str, _| Act::Pass);
        let faults = Arc::new(Mutex::new(pass));
        let front = Self { port, log: log.clone(), faults: faults.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (config, log, client, faults) =
                    (config.clone(), log.clone(), client.clone(), faults.clone());
                log.open.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || {
                    let _open = Open(&log);
                    let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
                    let Some(request) = request(&mut stream) else { return };
                    let head = String::from_utf8_lossy(&request).into_owned();
                    // Let's Encrypt's is elsewhere than Pebble's.
                    let head = head.replacen("GET /directory ", "GET /dir ", 1);
                    let request = head.clone().into_bytes();
                    let path = head.split(' ').nth(1).unwrap_or_default();
                    let kind = path.trim_start_matches('/').split('/').next().unwrap_or_default().to_owned();
                    let before = log.seen.lock().unwrap().iter().filter(|seen| **seen == kind).count();
                    let act = faults.lock().unwrap().clone()(&kind, before);
                    log.payloads.lock().unwrap().push((kind.clone(), payload(&head)));
                    log.seen.lock().unwrap().push(kind);
                    serve(&mut stream, &act, || ask(&client, to, &request), &log);
                });
            }
        });
        front
    }

    /// The URL of the directory.
    pub fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.port)
    }

    /// What it does from now on.
    pub fn faults(&self, faults: impl Fn(&str, usize) -> Act + Send + Sync + 'static) {
        self.log.seen.lock().unwrap().clear();
        self.log.payloads.lock().unwrap().clear();
        *self.faults.lock().unwrap() = Arc::new(faults);
    }

    /// Whether a request gets no answer since the last question.
    pub fn is_holding(&self) -> bool {
        std::mem::take(&mut *self.log.held.lock().unwrap()) > 0
    }

    /// How many requests of each kind came since then.
    pub fn seen(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for kind in self.log.seen.lock().unwrap().iter() {
            *counts.entry(kind.clone()).or_default() += 1;
        }
        counts
    }

    /// Waits until what a client has left behind, which has ended, is served.
    pub fn settle(&self) {
        let until = Instant::now() + PATIENCE;
        while self.log.open.load(Ordering::SeqCst) > 0 {
            assert!(Instant::now() < until, "a request is still served");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// How many came of one kind.
    pub fn count(&self, kind: &str) -> usize {
        self.seen().get(kind).copied().unwrap_or_default()
    }

    /// What was signed in those of one kind.
    pub fn payloads(&self, kind: &str) -> Vec<String> {
        let all = self.log.payloads.lock().unwrap();
        all.iter().filter(|(of, _)| of == kind).map(|(_, payload)| payload.clone()).collect()
    }

    /// How many came at all.
    pub fn total(&self) -> usize {
        self.seen().values().sum()
    }
}

/// The payload of a JWS (RFC 8555 §6.2); empty for a request without.
fn payload(request: &str) -> String {
    let body = request.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let jws: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let bytes = URL_SAFE_NO_PAD.decode(jws["payload"].as_str().unwrap_or_default()).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One request with its body; `None`: the client ends before that.
pub fn request(stream: &mut impl Read) -> Option<Vec<u8>> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
            });
            if body.len() >= length.unwrap_or_default() {
                return Some(bytes);
            }
        }
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend(&piece[..read]),
        }
    }
}

fn serve(
    stream: &mut StreamOwned<ServerConnection, TcpStream>,
    act: &Act,
    real: impl Fn() -> Vec<u8>,
    log: &Log,
) {
    let _ = match act {
        Act::Hold => {
            log.hold();
            Ok(())
        }
        Act::Pass => stream.write_all(&real()),
        Act::Change(old, new) => stream.write_all(&changed(&real(), old, new)),
        Act::Answer(whole) => stream.write_all(whole.as_bytes()),
        Act::Cut => {
            let answer = real();
            stream.write_all(&answer[..answer.len() - 20])
        }
        Act::Lose => {
            let _ = real();
            log.hold();
            Ok(())
        }
        Act::Endless => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n");
            while stream.write_all(&[b' '; 8192]).is_ok() {}
            Ok(())
        }
    };
    stream.conn.send_close_notify();
    let _ = stream.flush();
}

/// With another body, and the length of that.
fn changed(answer: &[u8], old: &str, new: &str) -> Vec<u8> {
    let text = String::from_utf8_lossy(answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let body = body.replace(old, new);
    let head: Vec<&str> =
        head.lines().filter(|line| !line.to_ascii_lowercase().starts_with("content-length")).collect();
    format!("{}\r\nContent-Length: {}\r\n\r\n{body}", head.join("\r\n"), body.len()).into_bytes()
}

/// A response with a problem document (RFC 7807).
pub fn problem(status: u16, kind: &str, detail: &str, fields: &str) -> Act {
    let body = serde_json::json!({
        "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail, "status": status
    })
    .to_string();
    Act::Answer(format!(
        "HTTP/1.1 {status} No\r\nContent-Type: application/problem+json\r\n{fields}Content-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

/// Serves the files of a folder as http-01 challenges, where no edge is needed.
pub fn serve_challenges(folder: &Path) -> u16 {
    serve_challenges_at("127.0.0.1:0", folder)
}

/// The same at an address of its own.
pub fn serve_challenges_at(address: &str, folder: &Path) -> u16 {
    let listener = TcpListener::bind(address).unwrap();
    let port = listener.local_addr().unwrap().port();
    let folder = folder.to_owned();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let folder = folder.clone();
            std::thread::spawn(move || {
                let Some(request) = request(&mut stream) else { return };
                let head = String::from_utf8_lossy(&request).into_owned();
                let token =
                    head.split(' ').nth(1).and_then(|path| path.rsplit('/').next()).unwrap_or_default();
                let answer = match std::fs::read_to_string(folder.join(token)) {
                    Ok(body) => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
                    Err(_) => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
                };
                let _ = stream.write_all(answer.as_bytes());
            });
        }
    });
    port
}
