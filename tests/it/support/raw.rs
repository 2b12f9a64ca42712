//! A client that says exactly the bytes it is told to, in the pieces it is told to, and reads answers one by one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::edge::{Edge, PATIENCE, client_config};

/// A connection to the edge.
pub struct Raw<S = TlsStream<TcpStream>> {
    pub stream: S,
    /// Bytes read and not looked at yet.
    pub buffer: Vec<u8>,
}

/// One response, interim or final.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    /// Status line and fields, without the empty line.
    pub head: String,
    /// Chunks put together.
    pub body: Vec<u8>,
    /// Lines behind the last chunk, each with its CRLF.
    pub trailers: String,
}

impl Raw {
    /// TLS with `host` as server name.
    pub async fn open(edge: &Edge, host: &str) -> Self {
        edge.tls(host).await.into()
    }

    /// TLS to `address`, checking for `name`, which is sent as server name only if `sni`.
    pub async fn open_at(edge: &Edge, address: SocketAddr, name: &str, sni: bool) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut config = client_config(&edge.desk().ca.pem);
        config.enable_sni = sni;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        Ok(TlsConnector::from(Arc::new(config)).connect(name, stream).await?.into())
    }

    /// Vanishes: a reset without close_notify.
    pub fn vanish(self) {
        let (stream, _) = self.stream.into_inner();
        stream.set_zero_linger().unwrap();
    }
}

impl Raw<TcpStream> {
    pub async fn open_plain(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream.into()
    }
}

impl<S> From<S> for Raw<S> {
    fn from(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    /// Sends `bytes` in one write.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes.as_ref()).await.unwrap();
    }

    pub async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        timeout(PATIENCE, sent).await.expect("the edge takes bytes")
    }

    /// Sends each piece in a write of its own: a TLS record, and a segment, of its own.
    pub async fn send_pieces<'a>(&mut self, pieces: impl IntoIterator<Item = &'a [u8]>) {
        for piece in pieces {
            self.send(piece).await;
            tokio::task::yield_now().await;
        }
    }

    /// Sends a GET and reads the response.
    pub async fn get(&mut self, host: &str, target: &str, fields: &str) -> Response {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")).await;
        self.response().await
    }

    /// Reads one response to anything but HEAD.
    pub async fn response(&mut self) -> Response {
        self.response_to("GET").await
    }

    /// Reads one response to `method`, up to the end of its body, wherever that is said to be.
    pub async fn response_to(&mut self, method: &str) -> Response {
        let head = self.head().await;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut response = Response { status, head, body: Vec::new(), trailers: String::new() };
        if method == "HEAD" || matches!(status, 100..=199 | 204 | 304) {
            return response;
        }
        if let Some(length) = response.field("content-length") {
            assert_eq!(response.field("transfer-encoding"), None, "{}", response.head);
            response.body = self.exactly(length.parse().unwrap()).await;
        } else if response.field("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk().await {
                response.body.extend_from_slice(&chunk);
            }
            loop {
                match self.line().await {
                    line if line.is_empty() => break,
                    line => response.trailers += &format!("{line}\r\n"),
                }
            }
        } else {
            response.body = self.rest().await;
        }
        response
    }

    /// Reads a head, without its empty line.
    pub async fn head(&mut self) -> String {
        let mut head = String::new();
        loop {
            match self.line().await {
                line if line.is_empty() => break,
                line => head += &format!("{line}\r\n"),
            }
        }
        assert!(head.starts_with("HTTP/1.1 "), "{head:?}");
        head
    }

    /// Reads one chunk; `None` is the last.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = self.line().await;
        assert!(line.bytes().all(|byte| byte.is_ascii_hexdigit()), "no extensions: {line:?}");
        match usize::from_str_radix(&line, 16).unwrap() {
            0 => None,
            length => {
                let chunk = self.exactly(length).await;
                assert_eq!(self.exactly(2).await, b"\r\n");
                Some(chunk)
            }
        }
    }

    /// Reads a line up to its CRLF.
    pub async fn line(&mut self) -> String {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.buffer.drain(..at + 2).collect::<Vec<_>>();
                return String::from_utf8_lossy(&line[..at]).into_owned();
            }
            self.more().await;
        }
    }

    /// Reads `count` bytes.
    pub async fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            self.more().await;
        }
        self.buffer.drain(..count).collect()
    }

    /// Reads what comes until the edge closes properly.
    pub async fn rest(&mut self) -> Vec<u8> {
        let buffer = &mut self.buffer;
        timeout(PATIENCE, self.stream.read_to_end(buffer)).await.expect("an end").expect("close_notify");
        std::mem::take(buffer)
    }

    /// Reads what comes until the connection ends, properly or not.
    pub async fn until_ended(&mut self) -> Vec<u8> {
        let buffer = &mut self.buffer;
        let _ = timeout(PATIENCE, self.stream.read_to_end(buffer)).await.expect("an end");
        std::mem::take(buffer)
    }

    /// Reads what comes until the connection breaks; a proper close is no break.
    pub async fn broken(&mut self) -> Vec<u8> {
        let buffer = &mut self.buffer;
        let ended = timeout(PATIENCE, self.stream.read_to_end(buffer)).await.expect("an end");
        assert!(
            ended.is_err(),
            "a cut response may not look complete: {:?}",
            String::from_utf8_lossy(buffer)
        );
        std::mem::take(buffer)
    }

    /// Nothing more comes, and the edge closes properly.
    pub async fn closed(&mut self) {
        let rest = self.rest().await;
        assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(&rest));
    }

    /// Whether nothing comes for a while. Can only fail where something does come.
    pub async fn is_silent(&mut self, time: Duration) -> bool {
        self.buffer.is_empty() && timeout(time, self.stream.read_buf(&mut self.buffer)).await.is_err()
    }

    async fn more(&mut self) {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await;
        let said = || String::from_utf8_lossy(&self.buffer[..self.buffer.len().min(2000)]).into_owned();
        match read {
            Err(_) => panic!("nothing more within {PATIENCE:?} after {:?}", said()),
            Ok(Ok(0)) => panic!("closed after {:?}", said()),
            Ok(Err(error)) => panic!("{error} after {:?}", said()),
            Ok(Ok(_)) => {}
        }
    }
}

impl Response {
    /// The value of the only field called `name`.
    pub fn field(&self, name: &str) -> Option<&str> {
        let values = fields(&self.head, name);
        assert!(values.len() < 2, "{name} twice in {}", self.head);
        values.first().copied()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// Our own answer: status, code in field and JSON.
    pub fn assert_ours(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.field("sanedge-error")), (status, Some(code)), "{self:?}");
        let json: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(json["code"], code);
        assert!(json["message"].as_str().is_some_and(|message| !message.is_empty()));
    }

    /// The app's own answer.
    pub fn assert_apps(&self, status: u16, body: impl AsRef<[u8]>) {
        assert_eq!((self.status, self.field("sanedge-error")), (status, None), "{self:?}");
        assert_eq!(self.body, body.as_ref(), "{self:?}");
    }
}

/// Values of every field called `name` in a head, in order.
pub fn fields<'h>(head: &'h str, name: &str) -> Vec<&'h str> {
    let lines = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
    lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
}

/// A WebSocket upgrade (the example of RFC 6455 §1.3) with more field lines.
pub fn upgrade(host: &str, target: &str, fields: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{fields}\r\n"
    )
}
