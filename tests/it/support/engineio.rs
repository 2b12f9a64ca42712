//! A client of Engine.IO v4 and Socket.IO v5 in front (tokio-tungstenite and bare HTTP/1.1), and a Socket.IO server
//! behind (socketioxide), so that the main job is proven without node.
//!
//! Protocols: <https://socket.io/docs/v4/engine-io-protocol/> and <https://socket.io/docs/v4/socket-io-protocol/>.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use socketioxide::extract::{AckSender, Data, SocketRef};
use socketioxide::{SocketIo, SocketIoBuilder, TransportType};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::edge::{Edge, PATIENCE};

/// Largest payload that the server of these tests takes, in bytes.
const PAYLOAD_BYTES_MAX: u64 = 8 << 20;

/// Serves Socket.IO on a free port of 127.0.0.1 until the runtime ends.
///
/// `/` answers `echo` with what came, by acknowledgement or as the event `echo`; `/catch` refuses a client without `uuId`
/// in its query and greets the others with it.
pub async fn serve(builder: SocketIoBuilder) -> SocketAddr {
    let (layer, io) = builder.max_payload(PAYLOAD_BYTES_MAX).build_layer();
    io.ns("/", |socket: SocketRef| async move { answer_echo(&socket) });
    io.ns("/catch", |socket: SocketRef| async move {
        let query = socket.req_parts().uri.query().unwrap_or_default().to_owned();
        let Some(id) = query.split('&').find_map(|pair| pair.strip_prefix("uuId=")) else {
            return socket.disconnect().unwrap();
        };
        socket.emit("caught", id).unwrap();
        answer_echo(&socket);
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().layer(layer)).await.unwrap() });
    address
}

/// With every transport.
pub async fn serve_default() -> SocketAddr {
    serve(SocketIo::builder()).await
}

/// A server that does not know polling.
pub async fn serve_websocket_only() -> SocketAddr {
    serve(SocketIo::builder().transports([TransportType::Websocket])).await
}

fn answer_echo(socket: &SocketRef) {
    socket.on("echo", |socket: SocketRef, Data::<Value>(data)| async move {
        socket.emit("echo", &data).unwrap();
    });
    socket.on("ask", |Data::<Value>(data), ack: AckSender| async move { ack.send(&data).unwrap() });
    // Binary: what came goes back as one attachment.
    socket.on(
        "blob",
        |Data::<axum::body::Bytes>(data), ack: AckSender| async move { ack.send(&data).unwrap() },
    );
}

/// One Engine.IO client over a WebSocket.
pub struct Socket {
    stream: WebSocketStream<TlsStream<TcpStream>>,
    /// Its `join` has had its answer; more of the same may come.
    joined: bool,
}

impl Socket {
    /// `transport=websocket` from the start; reads the `open` packet.
    pub async fn open(edge: &Edge, host: &str, query: &str) -> Self {
        let mut socket = Self::handshake(edge, host, &format!("EIO=4&transport=websocket{query}")).await;
        let open = socket.text().await;
        assert!(open.starts_with("0{\"sid\":"), "expected the open packet, found {open}");
        socket
    }

    /// The WebSocket alone, for an upgrade of the session `sid`: probe, its answer, and the upgrade packet.
    pub async fn upgrade(edge: &Edge, host: &str, sid: &str) -> Self {
        let mut socket = Self::handshake(edge, host, &format!("EIO=4&transport=websocket&sid={sid}")).await;
        socket.send("2probe").await;
        assert_eq!(socket.text().await, "3probe");
        socket.send("5").await;
        socket
    }

    async fn handshake(edge: &Edge, host: &str, query: &str) -> Self {
        let url = format!("wss://{host}:{}/socket.io/?{query}", edge.https.port());
        let request = url.into_client_request().unwrap();
        let limits = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let tls = edge.tls(host).await;
        let opening = tokio_tungstenite::client_async_with_config(request, tls, Some(limits));
        let (stream, response) = tokio::time::timeout(PATIENCE, opening).await.unwrap().unwrap();
        assert_eq!(response.status(), 101);
        Self { stream, joined: false }
    }

    /// Joins a namespace (`/` or `/catch`) of [`serve`] and reads its answer. In `/` its handlers are there then:
    /// socketioxide answers first, and drops an event that comes before its handler.
    pub async fn join(&mut self, namespace: &str) {
        self.join_only(namespace).await;
        if namespace != "/" {
            return;
        }
        let asked = |packet: &str| packet.starts_with("43999[");
        let until = std::time::Instant::now() + PATIENCE;
        loop {
            assert!(std::time::Instant::now() < until, "no handler of `ask`: this server is not ours");
            self.send(r#"42999["ask",0]"#).await;
            match tokio::time::timeout(Duration::from_millis(500), self.text()).await {
                Ok(packet) if asked(&packet) => break self.joined = true,
                Ok(packet) => panic!("expected an acknowledgement, found {packet}"),
                Err(_) => {}
            }
        }
    }

    /// Joins a namespace of any server and reads its answer.
    pub async fn join_only(&mut self, namespace: &str) {
        let prefix = if namespace == "/" { String::new() } else { format!("{namespace},") };
        self.send(&format!("40{prefix}")).await;
        let answer = self.text().await;
        assert!(answer.starts_with(&format!("40{prefix}{{\"sid\":")), "{answer}");
    }

    /// Sends an Engine.IO packet.
    pub async fn send(&mut self, packet: &str) {
        self.stream.send(Message::text(packet)).await.unwrap();
    }

    /// Sends an attachment.
    pub async fn send_binary(&mut self, bytes: Vec<u8>) {
        self.stream.send(Message::binary(bytes)).await.unwrap();
    }

    /// The next text packet; pings are answered on the way.
    pub async fn text(&mut self) -> String {
        loop {
            match self.next().await {
                Message::Text(text) if text.as_str() == "2" => self.send("3").await,
                // A late answer to an impatient `join`.
                Message::Text(text) if self.joined && text.starts_with("43999[") => {}
                Message::Text(text) => return text.as_str().to_owned(),
                other => panic!("expected text, found {other:?}"),
            }
        }
    }

    /// The next message as an attachment; pings are answered on the way.
    pub async fn binary(&mut self) -> Vec<u8> {
        loop {
            match self.next().await {
                Message::Text(text) if text.as_str() == "2" => self.send("3").await,
                Message::Binary(bytes) => return bytes.to_vec(),
                other => panic!("expected an attachment, found {other:?}"),
            }
        }
    }

    /// The Close of the peer: its code.
    pub async fn closed(&mut self) -> Option<u16> {
        loop {
            match tokio::time::timeout(PATIENCE, self.stream.next()).await.expect("a Close in time") {
                Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code.into()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// Closes and waits until the peer has answered.
    pub async fn close(mut self) {
        self.stream.close(None).await.unwrap();
        self.closed().await;
    }

    async fn next(&mut self) -> Message {
        let next = tokio::time::timeout(PATIENCE, self.stream.next()).await;
        next.expect("a message in time").expect("an open WebSocket").unwrap()
    }
}

/// One Engine.IO client over long polling: bare HTTP/1.1, a kept-alive connection per direction as browsers have.
pub struct Poller {
    post: Http<TlsStream<TcpStream>>,
    get: Http<TlsStream<TcpStream>>,
    host: String,
    /// The session's id.
    pub sid: String,
}

impl Poller {
    /// Opens a session by polling.
    pub async fn open(edge: &Edge, host: &str) -> Self {
        let mut get = Http::new(edge.tls(host).await);
        let host = format!("{host}:{}", edge.https.port());
        let open = get.exchange("GET", &host, "/socket.io/?EIO=4&transport=polling", "").await;
        assert_eq!(open.status, 200, "{}", open.text());
        let handshake: Value = serde_json::from_str(open.text().strip_prefix('0').unwrap()).unwrap();
        assert_eq!(handshake["upgrades"], json!(["websocket"]));
        let post = Http::new(edge.tls(host.split(':').next().unwrap()).await);
        Self { post, get, host, sid: handshake["sid"].as_str().unwrap().to_owned() }
    }

    /// Posts packets.
    pub async fn send(&mut self, packets: &str) {
        let target = self.target();
        let response = self.post.exchange("POST", &self.host, &target, packets).await;
        assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    }

    /// One long poll: its packets.
    pub async fn poll(&mut self) -> Vec<String> {
        let target = self.target();
        let response = self.get.exchange("GET", &self.host, &target, "").await;
        assert_eq!(response.status, 200, "{}", response.text());
        response.text().split('\u{1e}').map(str::to_owned).collect()
    }

    /// Polls until something other than a heartbeat came; heartbeats are answered on the way.
    pub async fn events(&mut self) -> Vec<String> {
        loop {
            let (pings, events): (Vec<_>, Vec<_>) =
                self.poll().await.into_iter().partition(|packet| packet == "2");
            for _ in pings {
                self.send("3").await;
            }
            if !events.is_empty() {
                return events;
            }
        }
    }

    fn target(&self) -> String {
        format!("/socket.io/?EIO=4&transport=polling&sid={}", self.sid)
    }
}

/// A connection that carries one exchange after the other.
pub struct Http<S> {
    stream: BufReader<S>,
}

/// An answer.
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The head as it came.
    pub head: String,
    /// The body, chunks joined.
    pub body: Vec<u8>,
}

impl Response {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// A field's value.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Http<S> {
    /// On an open stream.
    pub fn new(stream: S) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// One request with its response, within the tests' patience.
    pub async fn exchange(&mut self, method: &str, host: &str, target: &str, body: &str) -> Response {
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Type: text/plain;charset=UTF-8\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.stream.write_all(head.as_bytes()).await.unwrap();
        self.stream.write_all(body.as_bytes()).await.unwrap();
        self.stream.flush().await.unwrap();
        tokio::time::timeout(PATIENCE, self.response()).await.expect("a response in time")
    }

    async fn response(&mut self) -> Response {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head.push(char::from(self.stream.read_u8().await.expect("a whole head")));
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut response = Response { status, head, body: Vec::new() };
        if let Some(length) = response.field("content-length") {
            response.body = vec![0; length.parse().unwrap()];
            self.stream.read_exact(&mut response.body).await.unwrap();
        } else if response.field("transfer-encoding").is_some() {
            while self.chunk(&mut response.body).await {}
        }
        response
    }

    async fn chunk(&mut self, body: &mut Vec<u8>) -> bool {
        let mut size = String::new();
        while !size.ends_with("\r\n") {
            size.push(char::from(self.stream.read_u8().await.unwrap()));
        }
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let from = body.len();
        body.resize(from + size + 2, 0);
        self.stream.read_exact(&mut body[from..]).await.unwrap();
        body.truncate(from + size);
        size > 0
    }
}

/// A server's heartbeat that is short enough to be seen by a test.
pub const SHORT_PING: Duration = Duration::from_millis(300);
