//! TLS as it arrives: records cut anywhere, many at once, both versions, keys changed under way, ends with and
//! without a word.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::support::HOST;
use crate::support::edge::{Edge, client_config};
use crate::support::engineio::{Http, serve_default};
use rustls::version::{TLS12, TLS13};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const POLL: &str = "/socket.io/?EIO=4&transport=polling";

/// Hands over at most so many bytes at a time, each in a segment of its own.
struct Pieces(TcpStream, usize);

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let count = bytes.len().min(self.1);
        Pin::new(&mut self.0).poll_write(cx, &bytes[..count])
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

async fn edge() -> Edge {
    Edge::certified_for(&[HOST]).site(&[HOST], serve_default().await).start()
}

async fn connect(
    edge: &Edge,
    config: rustls::ClientConfig,
    piece: usize,
) -> io::Result<tokio_rustls::client::TlsStream<Pieces>> {
    let stream = TcpStream::connect(edge.https).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(HOST).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, Pieces(stream, piece)).await
}

fn only(edge: &Edge, version: &'static rustls::SupportedProtocolVersion) -> rustls::ClientConfig {
    let any = client_config(&edge.desk().ca.pem);
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(
        rustls_pki_types::pem::PemObject::pem_slice_iter(edge.desk().ca.pem.as_bytes()).map(Result::unwrap),
    );
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::clone(any.crypto_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = any.alpn_protocols;
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_work_in_pieces_of_any_size() {
    let edge = edge().await;
    for version in [&TLS12, &TLS13] {
        for piece in [1, 2, 3, 5, 6, 21, 100, 16_383] {
            let mut http = Http::new(connect(&edge, only(&edge, version), piece).await.unwrap());
            let opened = http.exchange("GET", HOST, POLL, "").await;
            assert_eq!(opened.status, 200, "{version:?} in pieces of {piece}");
            let body = "x".repeat(40_000);
            let answer = http.exchange("POST", HOST, POLL, &body).await;
            assert_eq!(answer.status, 400, "the app's own answer to a POST without sid: {}", answer.text());
        }
    }
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_may_change_between_requests() {
    let edge = edge().await;
    let mut stream = connect(&edge, only(&edge, &TLS13), usize::MAX).await.unwrap();
    let request = format!("GET {POLL} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    for _ in 0..3 {
        stream.get_mut().1.refresh_traffic_keys().unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let count = stream.read(&mut answer).await.unwrap();
        assert!(
            answer[..count].starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(&answer[..count])
        );
    }
    drop(stream);
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_hello_is_bounded() {
    let edge = edge().await;
    // ALPN names of 200 bytes each make the hello as long as wanted; ours is the last.
    let long = |names: usize| {
        let mut config = client_config(&edge.desk().ca.pem);
        config.alpn_protocols = (0..names).map(|n| format!("{n:0200}").into_bytes()).collect();
        config.alpn_protocols.push(b"http/1.1".to_vec());
        config
    };
    let mut http = Http::new(connect(&edge, long(70), usize::MAX).await.unwrap());
    assert_eq!(http.exchange("GET", HOST, POLL, "").await.status, 200, "14 KiB are fine");
    assert!(connect(&edge, long(200), 1_000).await.is_err(), "40 KiB are not");
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_record_gets_an_alert_and_ends_the_connection() {
    let edge = edge().await;
    let mut stream = connect(&edge, only(&edge, &TLS13), usize::MAX).await.unwrap();
    // An application-data record that no key opens.
    stream
        .get_mut()
        .0
        .0
        .write_all(&[23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
        .await
        .unwrap();
    let error = stream.read(&mut [0; 100]).await.unwrap_err();
    assert!(error.to_string().contains("BadRecordMac") || error.to_string().contains("alert"), "{error}");
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_on_the_tls_port_gets_a_400_and_other_garbage_gets_an_alert() {
    let edge = edge().await;
    let say = async |bytes: &[u8]| {
        let mut stream = TcpStream::connect(edge.https).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        answer
    };
    let answer = String::from_utf8(say(b"GET / HTTP/1.1\r\nHost: recre.store\r\n\r\n").await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("plain_http"), "{answer}");
    assert!(answer.contains("https://"), "{answer}");
    let answer = say(b"get / whatever this may be\r\n\r\n").await;
    assert_eq!(answer.first(), Some(&21), "an alert record: {answer:?}");
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn our_close_notify_comes_before_the_end() {
    let edge = edge().await;
    let mut stream = connect(&edge, only(&edge, &TLS13), usize::MAX).await.unwrap();
    let request = format!("GET {POLL} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // tokio-rustls gives an error where close_notify is missing.
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    edge.stop();
}
