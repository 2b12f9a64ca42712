//! What a hostile or unlucky peer can do between two records, two writes or two turns of a worker.

use std::sync::Arc;
use std::time::Duration;

use crate::support::edge::{Edge, PATIENCE};
use crate::support::frames::{client_frame, server_frame};
use crate::support::raw::{Raw, upgrade};
use crate::support::upstream::{OK, Upstream};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::ConnectionTrafficSecrets;
use rustls::crypto::ring::cipher_suite::{TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS13_AES_256_GCM_SHA384};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const HOST: &str = "socket.recre.store";

async fn edge() -> Edge {
    let upstream = Upstream::answering(OK).await;
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], &upstream).start();
    std::mem::forget(upstream); // lives as long as the test
    edge
}

// --- fragments of handshake messages ---------------------------------------------------------------------------------

/// A client's configuration with one suite, and so one version.
fn client_of(edge: &Edge, suite: rustls::SupportedCipherSuite) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(edge.desk().ca.pem.as_bytes()).unwrap()).unwrap();
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites = vec![suite];
    rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[suite.version()])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// The sending half of a TLS 1.3 client whose every record the test makes.
struct Records {
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl Records {
    /// A connection after its handshake, and the secrets to go on by hand.
    async fn open(edge: &Edge) -> (TcpStream, Self) {
        let mut config = client_of(edge, TLS13_AES_256_GCM_SHA384);
        config.enable_secret_extraction = true;
        let stream = TcpStream::connect(edge.https).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let name = ServerName::try_from(HOST).unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        let (stream, connection) = stream.into_inner();
        let (sequence, ConnectionTrafficSecrets::Aes256Gcm { key, iv }) =
            connection.dangerous_extract_secrets().unwrap().tx
        else {
            panic!("the only suite is AES-256-GCM");
        };
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_ref()).unwrap());
        (stream, Self { key, iv: iv.as_ref().try_into().unwrap(), sequence })
    }

    /// RFC 8446 §5.2.
    fn seal(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        let mut inner = [content, &[kind]].concat();
        let length = u16::try_from(inner.len() + 16).unwrap().to_be_bytes();
        let header = [23, 3, 3, length[0], length[1]];
        let mut nonce = self.iv;
        nonce.iter_mut().skip(4).zip(self.sequence.to_be_bytes()).for_each(|(byte, count)| *byte ^= count);
        self.sequence += 1;
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(nonce, Aad::from(header), &mut inner).unwrap();
        [header.to_vec(), inner].concat()
    }
}

const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

#[tokio::test(flavor = "multi_thread")]
async fn a_response_goes_out_while_half_a_key_update_is_in() {
    let edge = edge().await;
    let (mut stream, mut records) = Records::open(&edge).await;
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let half = [
        records.seal(APPLICATION_DATA, request.as_bytes()),
        records.seal(HANDSHAKE, &[24, 0]), // key_update, and the first byte of its length
    ];
    stream.write_all(&half.concat()).await.unwrap();
    // A ticket's record, and the response's, which its length tells apart from an alert.
    let mut header = [0; 5];
    let mut lengths = Vec::new();
    while lengths.iter().all(|length| !(55..120).contains(length)) {
        stream.read_exact(&mut header).await.unwrap_or_else(|e| panic!("{e}: {lengths:?}\n{}", edge.log()));
        let mut record = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
        stream.read_exact(&mut record).await.unwrap();
        lengths.push(record.len());
    }
    // The other half is in order.
    stream.write_all(&records.seal(HANDSHAKE, &[0, 1, 0])).await.unwrap();
    drop(stream);
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fragment_without_its_rest_is_refused_and_bounded() {
    let edge = edge().await;
    let (mut stream, mut records) = Records::open(&edge).await;
    // A message of 64 KiB in pieces; more than a record of it is more than any client needs.
    stream.write_all(&records.seal(HANDSHAKE, &[24, 0, 0xff, 0xff])).await.unwrap();
    let mut sent = 0;
    while sent < 256 * 1024 && stream.write_all(&records.seal(HANDSHAKE, &[0; 1024])).await.is_ok() {
        sent += 1024;
        tokio::task::yield_now().await;
    }
    let _ = stream.read_to_end(&mut Vec::new()).await;
    Raw::open(&edge, HOST).await.get(HOST, "/", "").await.assert_apps(200, "ok");
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_message_in_the_handshake_and_then_another_record_is_no_panic() {
    let edge = edge().await;
    let config = client_of(&edge, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384);
    let name = ServerName::try_from(HOST).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    let mut stream = TcpStream::connect(edge.https).await.unwrap();
    stream.write_all(&hello).await.unwrap();
    let mut flight = [0; 5];
    stream.read_exact(&mut flight).await.unwrap();
    // The first byte of a ClientKeyExchange, then ChangeCipherSpec.
    stream.write_all(&[22, 3, 3, 0, 1, 16, 20, 3, 3, 0, 1, 1]).await.unwrap();
    let _ = stream.read_to_end(&mut Vec::new()).await;
    Raw::open(&edge, HOST).await.get(HOST, "/", "").await.assert_apps(200, "ok");
    edge.stop();
}

// --- the end of a relay ----------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn the_last_words_of_an_upstream_that_resets_reach_a_client_that_talks() {
    const SESSIONS: usize = 40;
    let words = server_frame(1, true, "last words. ".repeat(5000).as_bytes());
    let said = words.clone();
    // Drops its connection with bytes of the client unread, which the kernel says with a reset.
    let upstream = Upstream::switching(move |mut connection| {
        let said = said.clone();
        async move {
            connection.more().await.unwrap();
            connection.send(said).await;
        }
    })
    .await;
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], &upstream).start();
    for session in 0..SESSIONS {
        let mut client = Raw::open(&edge, HOST).await;
        client.send(upgrade(HOST, "/", "")).await;
        assert!(client.head().await.starts_with("HTTP/1.1 101 "));
        let (mut read, mut write) = tokio::io::split(client.stream);
        let talk = client_frame(2, true, &[b'x'; 4096]);
        let talks = tokio::spawn(async move { while write.write_all(&talk).await.is_ok() {} });
        let mut heard = client.buffer;
        let ended = tokio::time::timeout(PATIENCE, read.read_to_end(&mut heard)).await.expect("an end");
        let complete = heard == words && ended.is_ok();
        assert!(complete, "session {session}: {} of {} bytes, {ended:?}", heard.len(), words.len());
        if session + 1 < SESSIONS {
            talks.abort();
        } else {
            tokio::time::timeout(PATIENCE, talks).await.expect("nobody may talk to nobody for ever").unwrap();
        }
    }
    edge.stop();
}

// --- slow, but healthy -----------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_is_no_stalled_one_though_the_kernel_holds_megabytes_for_it() {
    const BODY_BYTES: usize = 40 << 20;
    const PIECE_BYTES: usize = 32 * 1024;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY_BYTES}\r\n\r\n");
    let response = [head.into_bytes(), vec![b'x'; BODY_BYTES]].concat();
    let upstream = Upstream::answering(response).await;
    let edge = Edge::certified_for(&[HOST])
        .site(&[HOST], &upstream)
        .limits("stall_timeout = \"3s\"\nsocket_buffer_bytes = 0")
        .start();
    let mut client = Raw::open(&edge, HOST).await;
    client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    client.head().await;
    // A third of the kernel's buffer, which it wants free before it asks for more, takes longer than the stall time.
    let pieces = 80;
    for _ in 0..pieces {
        client.exactly(PIECE_BYTES).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let rest = client.exactly(BODY_BYTES - pieces * PIECE_BYTES).await;
    assert!(rest.iter().all(|&byte| byte == b'x'));
    client.get(HOST, "/", "").await;
    edge.stop();
}
