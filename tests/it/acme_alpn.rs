//! tls-alpn-01 (RFC 8737, RFC 8738): which hello gets the proof, and that no other does.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{AlertDescription, ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sanedge::bundle::alpn::{self, Proof};
use sanedge::names::Host;

use super::support::edge::{Edge, PATIENCE, client_config};

const SERVED: &str = "recre.store";
const PENDING: &str = "new.recre.store";
const ACME: &[&[u8]] = &[b"acme-tls/1"];

/// An edge with a host that it serves, one that waits for its certificate, and `[acme]`.
struct Desk {
    edge: Edge,
    folder: tempfile::TempDir,
}

/// What came of a hello.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// The certificate with this digest.
    Proof([u8; 32]),
    /// The certificate of the host, and this protocol.
    Ordinary(Option<Vec<u8>>),
    /// An alert in the clear, before anything else: nothing was signed.
    Alert(AlertDescription),
}

const NO_PROTOCOL: Answer = Answer::Alert(AlertDescription::NoApplicationProtocol);
const NO_NAME: Answer = Answer::Alert(AlertDescription::UnrecognisedName);

impl Desk {
    fn new(more: &str, limits: &str) -> Self {
        Self::of(&[SERVED], &[PENDING], more, limits)
    }

    fn of(served: &[&str], pending: &[&str], more: &str, limits: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let edge = Edge::certified_for(served)
            .site(served, "127.0.0.1:1")
            .site(pending, "127.0.0.1:1")
            .limits(limits)
            .listen(&format!(
                "{more}\n[acme]\nterms = \"agreed\"\nchallenge = \"tls-alpn-01\"\nstate = {:?}\nchallenges = {:?}",
                folder.path().join("state"),
                folder.path().join("challenges"),
            ))
            .start();
        std::fs::create_dir(folder.path().join("challenges")).unwrap();
        Self { edge, folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("challenges").join(alpn::FILE)
    }

    /// Writes what `sanedge renew` writes, and waits until the edge has seen it.
    fn pending(&self, names: &[(&str, u8)]) {
        let proof =
            |(name, byte): &(&str, u8)| Proof { host: Host::parse(name).unwrap(), digest: [*byte; 32] };
        let proofs: Vec<Proof> = names.iter().map(proof).collect();
        let mark = self.edge.log_mark();
        write(&self.file(), &alpn::encode(&proofs));
        self.edge.wait_for_log_after(mark, "answering tls-alpn-01 challenges", PATIENCE);
    }

    /// Waits until nothing answers any more for the host without a certificate; until then the proof with this byte does.
    fn gone(&self, byte: u8) {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.ask(Some(PENDING), ACME) {
                NO_NAME => return,
                answer => assert_eq!(answer, Answer::Proof([byte; 32])),
            }
            assert!(Instant::now() < until, "the challenge is still answered");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn ask(&self, name: Option<&str>, protocols: &[&[u8]]) -> Answer {
        let mut client = Client::new(&self.edge, name, protocols);
        client.answer()
    }
}

fn write(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, file).unwrap();
}

/// Takes any certificate, and keeps it.
#[derive(Debug, Default)]
struct Any(Mutex<Vec<u8>>);

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap() = end_entity.to_vec();
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

struct Client {
    tls: ClientConnection,
    stream: TcpStream,
    seen: Arc<Any>,
}

impl Client {
    fn new(edge: &Edge, name: Option<&str>, protocols: &[&[u8]]) -> Self {
        let mut config = client_config(&edge.desk().ca.pem);
        config.resumption = Resumption::disabled();
        Self::with(edge, name, protocols, config)
    }

    fn with(edge: &Edge, name: Option<&str>, protocols: &[&[u8]], mut config: ClientConfig) -> Self {
        let seen = Arc::new(Any::default());
        config.dangerous().set_certificate_verifier(seen.clone());
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        config.enable_sni = name.is_some();
        let name = ServerName::try_from(name.unwrap_or(SERVED).to_owned()).unwrap();
        let stream = TcpStream::connect(edge.https).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { tls: ClientConnection::new(Arc::new(config), name).unwrap(), stream, seen }
    }

    fn answer(&mut self) -> Answer {
        self.tls.write_tls(&mut self.stream).unwrap();
        let mut first = [0];
        assert_eq!(self.stream.peek(&mut first).unwrap(), 1);
        let alert = first == [21];
        while self.tls.is_handshaking() {
            match self.tls.complete_io(&mut self.stream) {
                Ok(_) => {}
                Err(error) => {
                    let Some(rustls::Error::AlertReceived(description)) =
                        error.get_ref().and_then(|error| error.downcast_ref())
                    else {
                        panic!("{error}");
                    };
                    assert!(alert, "{description:?} came behind a ServerHello");
                    return Answer::Alert(*description);
                }
            }
        }
        let der = self.seen.0.lock().unwrap().clone();
        let protocol = self.tls.alpn_protocol().map(<[u8]>::to_vec);
        let head = &alpn::extension(&[0; 32])[..19];
        match der.windows(head.len()).position(|window| window == head) {
            Some(at) => {
                assert_eq!(protocol.as_deref(), Some(alpn::PROTOCOL));
                Answer::Proof(der[at + 19..at + 51].try_into().unwrap())
            }
            None => Answer::Ordinary(protocol),
        }
    }

    /// What else comes until the end.
    fn rest(&mut self) -> (String, bool) {
        let mut text = Vec::new();
        let end = rustls::Stream::new(&mut self.tls, &mut self.stream).read_to_end(&mut text);
        (String::from_utf8_lossy(&text).into_owned(), end.is_ok())
    }
}

#[test]
fn only_a_hello_for_a_pending_name_that_offers_acme_alone_gets_the_proof() {
    let desk = Desk::new("", "");
    // Nothing is pending: no hello for a proof is signed for.
    assert_eq!(desk.ask(Some(SERVED), ACME), NO_PROTOCOL);
    assert_eq!(desk.ask(Some(PENDING), ACME), NO_NAME);
    assert_eq!(desk.ask(Some("other.test"), ACME), NO_NAME);
    assert_eq!(desk.ask(None, ACME), NO_NAME);
    desk.pending(&[(SERVED, 1), (PENDING, 2), ("other.test", 3)]);
    assert_eq!(desk.ask(Some(SERVED), ACME), Answer::Proof([1; 32]));
    assert_eq!(desk.ask(Some(PENDING), ACME), Answer::Proof([2; 32]), "it has no certificate yet");
    assert_eq!(desk.ask(Some("RECRE.store"), ACME), Answer::Proof([1; 32]));
    // A name that the bundle does not have, whatever the file says; and a hello without one.
    assert_eq!(desk.ask(Some("other.test"), ACME), NO_NAME);
    assert_eq!(desk.ask(Some("third.test"), ACME), NO_NAME);
    assert_eq!(desk.ask(None, ACME), NO_NAME);
    // Others than exactly that protocol: as if nothing were pending.
    let http: &[u8] = b"http/1.1";
    let ordinary = || Answer::Ordinary(Some(http.to_vec()));
    assert_eq!(desk.ask(Some(SERVED), &[b"acme-tls/1", http]), ordinary());
    assert_eq!(desk.ask(Some(SERVED), &[http, b"acme-tls/1"]), ordinary());
    assert_eq!(desk.ask(Some(SERVED), &[http]), ordinary());
    assert_eq!(desk.ask(Some(SERVED), &[]), Answer::Ordinary(None));
    assert_eq!(desk.ask(Some(PENDING), &[b"acme-tls/1", http]), NO_NAME);
    assert_eq!(desk.ask(Some(PENDING), &[http]), NO_NAME);
    for near in [&b"acme-tls/10"[..], b"acme-tls/", b"ACME-TLS/1", b"acme-tls/1\0", b"acme-tls/2"] {
        let mut client = Client::new(&desk.edge, Some(PENDING), &[near]);
        assert_eq!(client.answer(), NO_NAME, "{near:?}");
    }
    // One of ours without a certificate has no other answer once the challenge is taken away.
    std::fs::remove_file(desk.file()).unwrap();
    desk.gone(2);
    assert_eq!(desk.ask(Some(SERVED), ACME), NO_PROTOCOL);
    assert_eq!(desk.ask(Some(SERVED), &[http]), ordinary());
    desk.edge.stop();
}

/// RFC 8738 §6: by the reverse name, and by that alone.
#[test]
fn an_address_is_proven_by_its_reverse_name() {
    for (served, pending, ip, other) in [
        (&[SERVED, "192.0.2.1"][..], &[PENDING][..], "192.0.2.1", "192.0.2.2"),
        (&[SERVED], &[PENDING, "2001:db8::1"], "2001:db8::1", "2001:db8::2"),
    ] {
        let desk = Desk::of(served, pending, &format!("default_host = {ip:?}"), "");
        let reverse = |ip: &str| alpn::server_name(&Host::Ip(ip.parse::<IpAddr>().unwrap()));
        assert_eq!(desk.ask(Some(&reverse(ip)), ACME), NO_NAME, "nothing is pending");
        desk.pending(&[(PENDING, 1), (ip, 4), (other, 5)]);
        assert_eq!(desk.ask(Some(&reverse(ip)), ACME), Answer::Proof([4; 32]));
        assert_eq!(desk.ask(Some(&reverse(ip).to_ascii_uppercase()), ACME), Answer::Proof([4; 32]));
        assert_eq!(desk.ask(Some(&reverse(other)), ACME), NO_NAME, "an address that is not the bundle's");
        assert_eq!(desk.ask(Some(&reverse(ip)), &[]), NO_NAME);
        assert_ne!(desk.ask(None, ACME), Answer::Proof([4; 32]));
        desk.edge.stop();
    }
}

#[test]
fn a_hello_without_a_name_gets_no_proof_of_the_default_host() {
    let desk = Desk::new(&format!("default_host = {SERVED:?}"), "");
    desk.pending(&[(SERVED, 1)]);
    assert_eq!(desk.ask(None, ACME), NO_PROTOCOL);
    assert_eq!(desk.ask(None, &[]), Answer::Ordinary(None));
    assert_eq!(desk.ask(Some(SERVED), ACME), Answer::Proof([1; 32]));
    desk.edge.stop();
}

#[test]
fn nothing_but_the_handshake_happens_on_the_connection_of_a_proof() {
    let desk = Desk::new("", "");
    desk.pending(&[(SERVED, 1), (PENDING, 2)]);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let store = Arc::new(rustls::client::ClientSessionMemoryCache::new(8));
        let config = || {
            let config = ClientConfig::builder_with_provider(provider.clone())
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(rustls::RootCertStore::empty());
            let mut config = config.with_no_client_auth();
            config.resumption = Resumption::store(store.clone());
            config
        };
        // It closes by itself, with close_notify.
        let mut client = Client::with(&desk.edge, Some(PENDING), ACME, config());
        assert_eq!(client.answer(), Answer::Proof([2; 32]));
        assert_eq!(client.rest(), (String::new(), true), "closed properly, {version:?}");
        assert_eq!(client.tls.tls13_tickets_received(), 0);
        // A request in the clear of the tunnel gets no answer, and is not counted as one.
        let mut client = Client::with(&desk.edge, Some(SERVED), ACME, config());
        assert_eq!(client.answer(), Answer::Proof([1; 32]));
        let request = format!("GET / HTTP/1.1\r\nHost: {SERVED}\r\n\r\n");
        let _ = client.tls.writer().write_all(request.as_bytes());
        let _ = client.tls.write_tls(&mut client.stream);
        assert_eq!(client.rest(), (String::new(), true));
        // A second hello of the same client has nothing to resume with.
        let mut client = Client::with(&desk.edge, Some(SERVED), ACME, config());
        assert_eq!(client.answer(), Answer::Proof([1; 32]));
        assert_eq!(client.tls.handshake_kind(), Some(rustls::HandshakeKind::Full));
        // Nor with the ticket of an ordinary session; and that session's certificate is not skipped.
        let http: &[&[u8]] = &[b"http/1.1"];
        let store = Arc::new(rustls::client::ClientSessionMemoryCache::new(8));
        let config = || {
            let mut config = config();
            config.resumption = Resumption::store(store.clone());
            config
        };
        let ordinary = |kind| {
            let mut client = Client::with(&desk.edge, Some(SERVED), http, config());
            let answer = client.answer();
            assert_eq!(client.tls.handshake_kind(), Some(kind), "{version:?}");
            let _ = rustls::Stream::new(&mut client.tls, &mut client.stream).write_all(request.as_bytes());
            let mut byte = [0];
            assert_eq!(rustls::Stream::new(&mut client.tls, &mut client.stream).read(&mut byte).unwrap(), 1);
            answer
        };
        ordinary(rustls::HandshakeKind::Full);
        let mut client = Client::with(&desk.edge, Some(SERVED), ACME, config());
        assert_eq!(client.answer(), Answer::Proof([1; 32]));
        assert_eq!(client.tls.handshake_kind(), Some(rustls::HandshakeKind::Full), "{version:?}");
    }
    desk.edge.stop();
}

#[test]
fn a_file_that_renew_did_not_write_proves_nothing() {
    let desk = Desk::new("", "");
    let good = alpn::encode(&[Proof { host: Host::parse(PENDING).unwrap(), digest: [9; 32] }]);
    let target = desk.folder.path().join("elsewhere");
    std::fs::write(&target, &good).unwrap();
    let large = format!("{good}{}", "#".repeat(alpn::BYTES_MAX));
    type Make<'a> = &'a dyn Fn(&Path);
    let kinds: [(&str, Make<'_>); 5] = [
        // Without the end of its line; without its first letter it would be the list of another host.
        ("damaged", &|file| write(file, good.trim_end())),
        ("too large", &|file| write(file, &large)),
        ("a link", &|file| std::os::unix::fs::symlink(&target, file).unwrap()),
        ("a folder", &|file| std::fs::create_dir(file).unwrap()),
        ("a pipe", &|file| {
            let mode = rustix::fs::Mode::RUSR;
            rustix::fs::mknodat(rustix::fs::CWD, file, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        }),
    ];
    for (what, make) in kinds {
        desk.pending(&[(PENDING, 7)]);
        assert_eq!(desk.ask(Some(PENDING), ACME), Answer::Proof([7; 32]), "{what}");
        let _ = std::fs::remove_file(desk.file());
        make(&desk.file());
        desk.gone(7);
        let _ = std::fs::remove_file(desk.file());
        let _ = std::fs::remove_dir(desk.file());
    }
    desk.edge.stop();
}

#[test]
fn hellos_for_a_proof_count_in_handshakes_max_and_refused_ones_do_not() {
    let desk = Desk::new("", "handshakes_max = 2\nworkers = 1");
    desk.pending(&[(PENDING, 1)]);
    let begin = |name: &str| {
        let mut client = Client::new(&desk.edge, Some(name), ACME);
        client.tls.write_tls(&mut client.stream).unwrap();
        client.stream.peek(&mut [0]).unwrap();
        client
    };
    // Two that have the edge's flight, and do not finish.
    let mut begun = [begin(PENDING), begin(PENDING)];
    for _ in 0..4 {
        begin(SERVED);
    }
    assert_eq!(desk.edge.refused("evicted"), 0, "without a pending challenge a hello takes no place");
    // The next makes the first of them leave.
    assert_eq!(desk.ask(Some(PENDING), ACME), Answer::Proof([1; 32]));
    assert_eq!(desk.edge.refused("evicted"), 1);
    let mut flight = Vec::new();
    let _ = begun[0].stream.read_to_end(&mut flight);
    assert!(!flight.is_empty(), "its flight, and the end");
    assert_eq!(begun[1].answer(), Answer::Proof([1; 32]), "the other one can go on");
    desk.edge.stop();
}

/// The connection ends also where the client says nothing more, and sends no close.
#[test]
fn a_client_that_keeps_the_connection_of_a_proof_open_does_not_hold_it() {
    let desk = Desk::new("", "");
    desk.pending(&[(PENDING, 1)]);
    let mut client = Client::new(&desk.edge, Some(PENDING), ACME);
    assert_eq!(client.answer(), Answer::Proof([1; 32]));
    let until = Instant::now() + PATIENCE;
    while desk.edge.status()["sessions"] != 0 {
        assert!(Instant::now() < until, "{}", desk.edge.status()["sessions"]);
        std::thread::sleep(Duration::from_millis(50));
    }
    let end = client.stream.read(&mut [0; 4096]);
    assert!(end.is_ok() || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    desk.edge.stop();
}
