//! One request over one connection: hyper speaks, this file bounds and remembers.

use std::borrow::Cow;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::time::Instant;

use super::connection::{ANSWER_TIME, Connector, Trouble};
use super::head_lines::{Lines, Watched};
use super::journal::masked_sid;
use super::socket::Socket;
use crate::excerpt::Excerpt;
use crate::ws::handshake;

/// Largest body that is looked at; a handshake has 200 bytes, a page that stands in its way may have more.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// Longest that a request waits for its turn: far more than all of a run's requests at their distance.
const TURN_TIME_MAX: Duration = Duration::from_secs(60);
/// Words of a body that are looked at: more than an excerpt has room for.
const SHOWN_WORDS_MAX: usize = 64;
/// What of a page is not for people.
const NO_TEXT: [&str; 2] = ["script", "style"];

/// From this size of names and values on, Node refuses a response head (`--max-http-header-size`); browsers accept more.
const NODE_HEAD_BYTES: usize = 16 * 1024;

/// A request without what every request has.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) method: &'static str,
    pub(super) target: String,
    pub(super) fields: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Outgoing,
    /// How long its answer may take.
    pub(super) time: Duration,
}

/// The body of a request.
#[derive(Clone, Debug)]
pub(super) enum Outgoing {
    Whole(String),
    /// So many bytes are announced, and none is sent.
    Announced(u64),
}

/// An answer, its body cut at a bound.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) fields: HeaderMap,
    pub(super) body: String,
    /// The body ended before its announced end.
    pub(super) is_cut: bool,
    /// A line of the head ends with a bare LF.
    pub(super) has_bare_lf: bool,
}

/// What different clients put into a WebSocket handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style {
    /// `Connection: keep-alive, Upgrade` (Firefox) in place of `Upgrade` (all others).
    pub(super) keep_alive: bool,
    /// With the permessage-deflate offer (browsers, Node).
    pub(super) deflate: bool,
}

impl Style {
    pub(super) const FIREFOX: Self = Self { keep_alive: true, deflate: true };
    pub(super) const CHROME: Self = Self { keep_alive: false, deflate: true };
    /// As programs without compression speak.
    pub(super) const PLAIN: Self = Self { keep_alive: false, deflate: false };
}

impl Ask {
    pub(super) fn get(target: impl Into<String>) -> Self {
        Self {
            method: "GET",
            target: target.into(),
            fields: Vec::new(),
            body: Outgoing::Whole(String::new()),
            time: ANSWER_TIME,
        }
    }

    pub(super) fn post(target: impl Into<String>, body: impl Into<String>) -> Self {
        Self { method: "POST", body: Outgoing::Whole(body.into()), ..Self::get(target) }
    }

    #[must_use]
    pub(super) fn with(mut self, fields: &[(HeaderName, HeaderValue)]) -> Self {
        self.fields.extend(fields.iter().cloned());
        self
    }

    fn request(&self, connector: &Connector) -> Result<Request<Outgoing>, Trouble> {
        let mut request = Request::builder()
            .method(self.method)
            .uri(&self.target)
            .header(header::HOST, &connector.authority)
            .header(header::ACCEPT, "*/*");
        if !self.fields.iter().any(|(name, _)| *name == header::USER_AGENT) {
            request =
                request.header(header::USER_AGENT, concat!("sanedge-doctor/", env!("CARGO_PKG_VERSION")));
        }
        if self.method == "POST" {
            request = request.header(header::CONTENT_TYPE, "text/plain;charset=UTF-8");
        }
        let request = self.fields.iter().fold(request, |request, (name, value)| request.header(name, value));
        request.body(self.body.clone()).map_err(|error| Trouble::Malformed(error.to_string()))
    }

    /// For the journal: method, target and what is particular about it.
    fn shown(&self, connector: &Connector) -> String {
        let scheme = if connector.tls.is_some() { "https" } else { "http" };
        let told = [header::UPGRADE, header::CONNECTION, header::SEC_WEBSOCKET_EXTENSIONS, header::ORIGIN];
        let fields = self.fields.iter().filter(|(name, _)| told.contains(name));
        let fields: String =
            fields.map(|(name, value)| format!(" [{name}: {}]", value.to_str().unwrap_or("?"))).collect();
        let body = match &self.body {
            Outgoing::Whole(body) if body.is_empty() => String::new(),
            Outgoing::Whole(body) => format!(" `{body}`"),
            Outgoing::Announced(bytes) => format!(" [content-length: {bytes}, nothing of it sent]"),
        };
        format!("{} {scheme}://{}{}{fields}{body}", self.method, connector.authority, self.target)
    }
}

impl Answer {
    /// Whether a limit may have made this answer.
    pub(super) fn may_be_limit(&self) -> bool {
        self.field("sanedge-error").is_none()
            && (self.status == 429 || self.status == 503 && self.is_nginx_itself())
    }

    /// The first value of a field, as text.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).and_then(|value| value.to_str().ok())
    }

    /// What of its head Node refuses and browsers accept.
    pub(super) fn refused_by_node(&self) -> Option<String> {
        let fields = &self.fields;
        let bytes: usize = fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let lengths = fields.get_all(header::CONTENT_LENGTH).iter().count();
        Some(match () {
            () if bytes >= NODE_HEAD_BYTES => {
                format!("has {} KiB of fields, and Node takes less than 16", bytes / 1024)
            }
            () if lengths > 1 => "has Content-Length twice".to_owned(),
            () if lengths > 0 && fields.contains_key(header::TRANSFER_ENCODING) => {
                "has both Content-Length and Transfer-Encoding".to_owned()
            }
            () if self.has_bare_lf => "has lines that end with a bare LF instead of CR LF".to_owned(),
            () => return None,
        })
    }

    /// The coding of its body, if it names one; a request offers none.
    pub(super) fn coding(&self) -> Option<Excerpt> {
        let coding = self.field("content-encoding").filter(|coding| !coding.eq_ignore_ascii_case("identity"));
        coding.map(Excerpt::of)
    }

    /// Who made this answer, as far as it says.
    pub(super) fn author(&self) -> String {
        if let Some(code) = self.field("sanedge-error") {
            return format!("sanedge ({code})");
        }
        if self.is_nginx_itself() {
            return "nginx itself".to_owned();
        }
        match (self.field("server"), self.field("x-powered-by")) {
            (Some(server), _) => format!("Server: {}", Excerpt::of(server)),
            (None, Some(by)) => format!("X-Powered-By: {}", Excerpt::of(by)),
            (None, None) => "no Server field".to_owned(),
        }
    }

    /// The title of a page, unless it only repeats the status.
    pub(super) fn title(&self) -> Option<Excerpt> {
        let at = self.body.to_ascii_lowercase().find("<title")?;
        let (title, _) = self.body.get(at..)?.split_once('>')?.1.split_once('<')?;
        let title = title.split_whitespace().collect::<Vec<_>>().join(" ");
        let is_status = title.is_empty() || title.starts_with(|first: char| first.is_ascii_digit());
        (!is_status).then(|| Excerpt::of(&title))
    }

    /// A page of nginx's own, not one that it passes on.
    pub(super) fn is_nginx_itself(&self) -> bool {
        ["<center>nginx", "<center>openresty"].iter().any(|sign| self.body.contains(sign))
    }

    /// Status and beginning of the body, on one line; of a page its words.
    pub(super) fn shown(&self) -> Excerpt {
        let body = without_sid(&self.body);
        let text = if body.trim_start().starts_with('<') { words_of(&body) } else { body.into_owned() };
        let words: Vec<&str> = text.split_whitespace().take(SHOWN_WORDS_MAX).collect();
        let text = if words.is_empty() { "without a body".to_owned() } else { words.join(" ") };
        Excerpt::of(&format!("{} {text}", self.status))
    }
}

/// A session's name is a credential: the beginning of it is shown.
fn without_sid(body: &str) -> Cow<'_, str> {
    let sign = "\"sid\":\"";
    let Some(begin) = body.find(sign).map(|at| at + sign.len()) else { return body.into() };
    let (before, behind) = body.split_at(begin);
    let (sid, behind) = behind.split_at(behind.find('"').unwrap_or(behind.len()));
    format!("{before}{}{behind}", masked_sid(sid)).into()
}

/// The text between the tags of a page.
fn words_of(page: &str) -> String {
    let (mut words, mut hidden) = (String::new(), None);
    for part in page.split('<') {
        let (tag, text) = part.split_once('>').unwrap_or((part, ""));
        let name = tag.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
        match hidden {
            Some(open) if name.strip_prefix('/') == Some(open) => hidden = None,
            Some(_) => continue,
            None => hidden = NO_TEXT.into_iter().find(|no_text| *no_text == name),
        }
        if hidden.is_none() {
            words.push(' ');
            words.push_str(text);
        }
    }
    words
}

impl Connector {
    /// Sends one request over a connection of its own.
    pub(super) async fn ask(&self, ask: &Ask) -> Result<Answer, Trouble> {
        let result = match self.send(ask).await {
            Ok(response) => self.read(response).await,
            Err(trouble) => Err(trouble),
        };
        self.note(ask, &result);
        result
    }

    fn note(&self, ask: &Ask, result: &Result<Answer, Trouble>) {
        let came = match result {
            Ok(answer) => answer.shown().into(),
            Err(trouble) => trouble.to_string(),
        };
        self.journal.note(ask.shown(self), came);
    }

    async fn send(&self, ask: &Ask) -> Result<Response<hyper::body::Incoming>, Trouble> {
        let request = ask.request(self)?;
        let turn = self.journal.turn(Instant::now());
        self.in_time(TURN_TIME_MAX, tokio::time::sleep_until(turn)).await?;
        let connection = self.open().await?;
        let (watched, lines) = Watched::new(connection.io);
        let (mut sender, driver) =
            hyper::client::conn::http1::handshake(TokioIo::new(watched)).await.map_err(trouble)?;
        tokio::spawn(driver.with_upgrades());
        let mut response = self.in_time(ask.time, sender.send_request(request)).await?.map_err(trouble)?;
        response.extensions_mut().insert(lines);
        Ok(response)
    }

    async fn read(&self, response: Response<hyper::body::Incoming>) -> Result<Answer, Trouble> {
        let (head, body) = response.into_parts();
        let whole = self.in_time(ANSWER_TIME, Limited::new(body, BODY_BYTES_MAX).collect()).await?;
        // A body that is too long, or cut off, is no Engine.IO in any case: its head still says who answered.
        let is_cut = whole.as_ref().is_err_and(|error| !error.is::<LengthLimitError>());
        let body = whole.map(|body| body.to_bytes()).unwrap_or_default();
        let body = String::from_utf8_lossy(&body).into_owned();
        let has_bare_lf = head.extensions.get::<Lines>().is_some_and(Lines::has_bare_lf);
        Ok(Answer { status: head.status.as_u16(), fields: head.headers, body, is_cut, has_bare_lf })
    }

    /// Asks for a WebSocket; an answer other than a 101 comes back as it is.
    pub(super) async fn websocket(
        &self,
        mut ask: Ask,
        style: Style,
    ) -> Result<Result<Socket, Answer>, Trouble> {
        let key = key();
        let mut field = |name, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                ask.fields.push((name, value));
            }
        };
        field(header::CONNECTION, if style.keep_alive { "keep-alive, Upgrade" } else { "Upgrade" });
        field(header::UPGRADE, "websocket");
        field(header::SEC_WEBSOCKET_VERSION, "13");
        field(header::SEC_WEBSOCKET_KEY, &key);
        if style.deflate {
            field(header::SEC_WEBSOCKET_EXTENSIONS, "permessage-deflate; client_max_window_bits");
        }
        let result = self.upgrade(&ask, &key, style).await;
        match &result {
            Ok(Ok(socket)) => self.journal.note(ask.shown(self), socket.shown()),
            Ok(Err(answer)) => self.journal.note(ask.shown(self), answer.shown()),
            Err(trouble) => self.journal.note(ask.shown(self), trouble.to_string()),
        }
        result
    }

    async fn upgrade(&self, ask: &Ask, key: &str, style: Style) -> Result<Result<Socket, Answer>, Trouble> {
        let response = self.send(ask).await?;
        if response.status() != hyper::StatusCode::SWITCHING_PROTOCOLS {
            return self.read(response).await.map(Err);
        }
        let fields = response.headers().clone();
        let accepts: Vec<_> = fields.get_all(header::SEC_WEBSOCKET_ACCEPT).iter().collect();
        if !matches!(accepts.as_slice(), [one] if one.as_bytes() == handshake::accept(key.as_bytes()))
            || refused_field(&fields, style.deflate).is_some()
        {
            return Ok(Err(Answer {
                status: 101,
                fields,
                body: String::new(),
                is_cut: false,
                has_bare_lf: false,
            }));
        }
        let compresses = fields
            .get_all(header::SEC_WEBSOCKET_EXTENSIONS)
            .iter()
            .any(|value| value.as_bytes().starts_with(b"permessage-deflate"));
        let upgraded = self.in_time(ANSWER_TIME, hyper::upgrade::on(response)).await?.map_err(trouble)?;
        Ok(Ok(Socket::new(self, upgraded, style.deflate, compresses).await))
    }
}

/// The field of a 101 with an answer to the key because of which browsers and Node refuse it, with what is wrong (RFC 6455 §4.1).
pub(super) fn refused_field(fields: &HeaderMap, deflate: bool) -> Option<String> {
    let all =
        |name: HeaderName| fields.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    let shown = |name: HeaderName| Excerpt::of(&all(name).collect::<Vec<_>>().join(", ")).to_string();
    let upgrade: Vec<_> = all(header::UPGRADE).collect();
    if !matches!(upgrade.as_slice(), [one] if one.eq_ignore_ascii_case("websocket")) {
        return Some(match upgrade.as_slice() {
            [] => "comes without `Upgrade: websocket`".to_owned(),
            _ => format!("has `Upgrade: {}` instead of `Upgrade: websocket`", shown(header::UPGRADE)),
        });
    }
    let is_upgrade = |value: std::borrow::Cow<'_, str>| {
        value.split(',').any(|option| option.trim().eq_ignore_ascii_case("upgrade"))
    };
    if !all(header::CONNECTION).any(is_upgrade) {
        return Some("comes without `Connection: Upgrade`".to_owned());
    }
    if fields.contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
        let protocol = shown(header::SEC_WEBSOCKET_PROTOCOL);
        return Some(format!("has `Sec-WebSocket-Protocol: {protocol}`, and the client asked for none"));
    }
    let extensions: Vec<_> = all(header::SEC_WEBSOCKET_EXTENSIONS).collect();
    let is_known = |value: &str| deflate && value.trim().starts_with("permessage-deflate");
    if extensions.iter().any(|value| !is_known(value)) {
        let extension = shown(header::SEC_WEBSOCKET_EXTENSIONS);
        return Some(format!(
            "has `Sec-WebSocket-Extensions: {extension}`, and the client offered no such extension"
        ));
    }
    None
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut *self {
            Self::Whole(body) if body.is_empty() => Poll::Ready(None),
            Self::Whole(body) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(body).into())))),
            // Nobody wakes this: the connection ends with the answer, or with the wait for it.
            Self::Announced(_) => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(body) if body.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => SizeHint::with_exact(body.len() as u64),
            Self::Announced(bytes) => SizeHint::with_exact(*bytes),
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
