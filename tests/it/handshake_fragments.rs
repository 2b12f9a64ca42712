//! Handshake messages in pieces: a peer that stops within one, and what the edge does between two of them.

use std::sync::Arc;

use crate::support::SOCKET_HOST as HOST;
use crate::support::edge::{Edge, PATIENCE};
use crate::support::raw::Raw;
use crate::support::upstream::{OK, Upstream};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::ConnectionTrafficSecrets;
use rustls::crypto::ring::cipher_suite::{TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS13_AES_256_GCM_SHA384};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

async fn edge() -> Edge {
    let upstream = Upstream::answering(OK).await;
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], &upstream).start();
    std::mem::forget(upstream); // lives as long as the test
    edge
}

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
    // The tickets' record, and the response's, which its length tells apart from an alert.
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
async fn a_key_update_that_requests_one_is_answered_though_there_is_nothing_to_write() {
    // Type and length of the message, its value, its type behind it, and the tag.
    const KEY_UPDATE: usize = 4 + 1 + 1 + 16;
    let edge = edge().await;
    let (mut stream, mut records) = Records::open(&edge).await;
    stream.write_all(&records.seal(HANDSHAKE, &[24, 0, 0, 1, 1])).await.unwrap();
    // Tickets come before it.
    let mut lengths = Vec::new();
    while lengths.last() != Some(&KEY_UPDATE) {
        let mut header = [0; 5];
        let read = tokio::time::timeout(PATIENCE, stream.read_exact(&mut header)).await;
        read.unwrap_or_else(|_| panic!("no answer: {lengths:?}")).unwrap();
        let mut record = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
        stream.read_exact(&mut record).await.unwrap();
        lengths.push(record.len());
    }
    edge.stop();
}

/// Sends the header of a key_update of `length` bytes and nothing of it; then waits for the edge to end the connection. The lengths of
/// the records that it sent until then.
async fn ended_after(edge: &Edge, length: u16) -> Vec<usize> {
    let (mut stream, mut records) = Records::open(edge).await;
    let [high, low] = length.to_be_bytes();
    stream.write_all(&records.seal(HANDSHAKE, &[24, 0, high, low])).await.unwrap();
    let mut answer = Vec::new();
    let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    let _ = end.expect("refused: the edge ends the connection");
    let mut lengths = Vec::new();
    let mut rest = answer.as_slice();
    while let [_, _, _, high, low, more @ ..] = rest {
        lengths.push(usize::from(u16::from_be_bytes([*high, *low])));
        rest = &more[*lengths.last().unwrap()..];
    }
    lengths
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_update_of_another_length_is_refused_before_its_rest_comes() {
    // An alert in TLS 1.3: two bytes, its type, and the tag.
    const ALERT: usize = 2 + 1 + 16;
    let upstream = Upstream::answering(OK).await;
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], &upstream);
    // No other reason to end the connection while the test waits.
    let edge = edge.limits("keepalive_timeout = \"1h\"").start();
    for length in [0, 2, 17 * 1024, u16::MAX] {
        let lengths = ended_after(&edge, length).await;
        assert_eq!(lengths.last(), Some(&ALERT), "{length}: {lengths:?}");
    }
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
