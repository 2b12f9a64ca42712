//! One request over one connection: hyper speaks, this file bounds and remembers.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::upgrade::Upgraded;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use ring::rand::{SecureRandom, SystemRandom};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

use super::connection::{ANSWER_TIME, Connector, Trouble};
use crate::ws::handshake;

/// Largest body that is looked at; a handshake has 200 bytes, a page that stands in its way may have more.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// Largest WebSocket message that is read.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// A request without what every request has.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) method: &'static str,
    pub(super) target: String,
    pub(super) fields: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: &'static str,
}

/// An answer, its body cut at a bound.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) fields: HeaderMap,
    pub(super) body: String,
}

/// A WebSocket after its handshake.
pub(super) struct Socket {
    stream: WebSocketStream<TokioIo<Upgraded>>,
}

/// What came through a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Text(String),
    /// Closed, with code and reason where there were any.
    Closed(String),
    Nothing,
}

impl Ask {
    pub(super) fn get(target: impl Into<String>) -> Self {
        Self { method: "GET", target: target.into(), fields: Vec::new(), body: "" }
    }

    #[must_use]
    pub(super) fn with(mut self, fields: &[(HeaderName, HeaderValue)]) -> Self {
        self.fields.extend(fields.iter().cloned());
        self
    }

    fn request(&self, connector: &Connector) -> Result<Request<Full<Bytes>>, Trouble> {
        let mut request = Request::builder()
            .method(self.method)
            .uri(&self.target)
            .header(header::HOST, &connector.authority)
            .header(header::USER_AGENT, concat!("sanedge-doctor/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "*/*");
        if self.method == "POST" {
            request = request.header(header::CONTENT_TYPE, "text/plain;charset=UTF-8");
        }
        let request = self.fields.iter().fold(request, |request, (name, value)| request.header(name, value));
        let body = Full::new(Bytes::from_static(self.body.as_bytes()));
        request.body(body).map_err(|error| Trouble::Malformed(error.to_string()))
    }
}

impl Answer {
    /// The first value of a field, as text.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).and_then(|value| value.to_str().ok())
    }

    /// Who made this answer, as far as it says.
    pub(super) fn author(&self) -> String {
        if let Some(code) = self.field("sanedge-error") {
            return format!("sanedge ({code})");
        }
        if self.body.contains("<center>nginx") {
            return "nginx itself".to_owned();
        }
        match (self.field("server"), self.field("x-powered-by")) {
            (Some(server), _) => format!("Server: {server}"),
            (None, Some(by)) => format!("X-Powered-By: {by}"),
            (None, None) => "no Server field".to_owned(),
        }
    }

    /// Status and beginning of the body, on one line.
    pub(super) fn shown(&self) -> String {
        let words: Vec<&str> = self.body.split_whitespace().collect();
        let mut text: String = words.join(" ").chars().take(160).collect();
        if text.is_empty() {
            text.push_str("without a body");
        }
        format!("{} {text}", self.status)
    }
}

impl Connector {
    /// Sends one request over a connection of its own.
    pub(super) async fn ask(&self, ask: &Ask) -> Result<Answer, Trouble> {
        let response = self.send(ask.request(self)?).await?;
        self.read(response).await
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<hyper::body::Incoming>, Trouble> {
        let connection = self.open().await?;
        let (mut sender, driver) =
            hyper::client::conn::http1::handshake(TokioIo::new(connection.io)).await.map_err(trouble)?;
        tokio::spawn(driver.with_upgrades());
        self.in_time(ANSWER_TIME, sender.send_request(request)).await?.map_err(trouble)
    }

    async fn read(&self, response: Response<hyper::body::Incoming>) -> Result<Answer, Trouble> {
        let (head, body) = response.into_parts();
        let whole = self.in_time(ANSWER_TIME, Limited::new(body, BODY_BYTES_MAX).collect()).await?;
        // A body that is too long, or cut off, is no Engine.IO in any case: its head still says who answered.
        let body = whole.map(|body| body.to_bytes()).unwrap_or_default();
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(Answer { status: head.status.as_u16(), fields: head.headers, body })
    }

    /// Asks for a WebSocket; an answer other than a 101 comes back as it is.
    pub(super) async fn websocket(&self, ask: Ask) -> Result<Result<Socket, Answer>, Trouble> {
        let key = key();
        let mut ask = ask;
        let mut field = |name, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                ask.fields.push((name, value));
            }
        };
        field(header::CONNECTION, "Upgrade");
        field(header::UPGRADE, "websocket");
        field(header::SEC_WEBSOCKET_VERSION, "13");
        field(header::SEC_WEBSOCKET_KEY, &key);
        let response = self.send(ask.request(self)?).await?;
        if response.status() != hyper::StatusCode::SWITCHING_PROTOCOLS {
            return self.read(response).await.map(Err);
        }
        let accept = response.headers().get(header::SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
        if accept != Some(&handshake::accept(key.as_bytes())) {
            let fields = response.headers().clone();
            return Ok(Err(Answer { status: 101, fields, body: String::new() }));
        }
        let upgraded = self.in_time(ANSWER_TIME, hyper::upgrade::on(response)).await?.map_err(trouble)?;
        let config = WebSocketConfig::default().max_message_size(Some(MESSAGE_BYTES_MAX));
        let io = TokioIo::new(upgraded);
        Ok(Ok(Socket { stream: WebSocketStream::from_raw_socket(io, Role::Client, Some(config)).await }))
    }
}

impl Socket {
    /// The next text within `time`.
    pub(super) async fn hear(&mut self, connector: &Connector, time: Duration) -> Heard {
        connector.deadline.wait(time, self.next()).await.unwrap_or(Heard::Nothing)
    }

    /// Sends a text; what fails here is heard as a close.
    pub(super) async fn say(&mut self, connector: &Connector, text: &str) {
        let _ = connector.in_time(ANSWER_TIME, self.stream.send(Message::text(text))).await;
    }

    /// Says farewell as a client does.
    pub(super) async fn close(mut self, connector: &Connector) {
        self.say(connector, "1").await;
        let _ = connector.in_time(Duration::from_secs(1), self.stream.close(None)).await;
    }

    async fn next(&mut self) -> Heard {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => return Heard::Text(text.as_str().to_owned()),
                Some(Ok(Message::Close(frame))) => {
                    let said = frame.map(|frame| format!("Close {} {}", u16::from(frame.code), frame.reason));
                    return Heard::Closed(said.unwrap_or_else(|| "Close without a code".to_owned()));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Heard::Closed(error.to_string()),
                None => return Heard::Closed("the connection ended without a Close".to_owned()),
            }
        }
    }
}

fn key() -> String {
    let mut bytes = [0; 16];
    // Any value is a key; this one is for the server to answer, not a secret.
    let _ = SystemRandom::new().fill(&mut bytes);
    STANDARD.encode(bytes)
}

fn trouble(error: hyper::Error) -> Trouble {
    if error.is_parse() { Trouble::Malformed(error.to_string()) } else { Trouble::Closed }
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Socket")
    }
}
