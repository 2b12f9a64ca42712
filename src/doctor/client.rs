//! An Engine.IO client, whatever is in front of the server: it does what a real client does, and judges only that.
//!
//! The order is a client's: handshake, POST, WebSocket, a poll that waits while a WebSocket takes over. What only this
//! client asks (`extras`) comes last, so that a limit of the proxy meets it where it meets a client, or not at all.

mod answers;
mod cookies;
mod cors;
mod extras;
mod handshake;
mod hold;
mod known;
mod no_websocket;
mod origin;
mod paths;
mod polling;
mod refusal;
mod upgrade;
mod websocket;

use std::time::Duration;

use hyper::header::{self, HeaderName, HeaderValue};

use super::ask::{Answer, Ask};
use super::check::{Finding, Section};
use super::connection::{Connector, Trouble};
use super::explain::{Code, Group};
use super::options::{Options, Transport};
use super::packets::{self, Body, Eio, EngineError, Open, escape};
use super::socket::Socket;
use crate::excerpt::Excerpt;
pub(super) use cookies::Jar;

/// For a packet that the server owes at once.
const PACKET_TIME: Duration = Duration::from_secs(4);
/// For an app that may ask a database whether a client is allowed.
const JOIN_TIME: Duration = Duration::from_secs(8);
/// For the first answer: a server that slept may have to wake up.
const FIRST_ANSWER_TIME: Duration = Duration::from_secs(8);

/// A conversation.
#[derive(Clone)]
pub(super) struct Client<'a> {
    pub(super) connector: &'a Connector,
    /// A connector to another address of the name, for a WebSocket that fails here.
    pub(super) other: Option<Connector>,
    pub(super) path: &'a str,
    /// What goes along: empty where nothing private may be sent.
    pub(super) query: &'a [(String, String)],
    pub(super) fields: Vec<(HeaderName, HeaderValue)>,
    /// Cookies that the server has set.
    pub(super) jar: Jar,
    pub(super) options: &'a Options,
    /// The namespace to connect to; `None`: none.
    pub(super) namespace: Option<&'a str>,
    pub(super) hold: Option<Duration>,
    pub(super) between: Between,
}

/// Who stands between us and the app, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Between {
    /// The app is asked on its own port.
    Nobody,
    /// An edge of ours: it showed the certificate of its bundle.
    Sanedge,
    /// Whoever.
    Somebody,
}

/// How a polling handshake went.
pub(super) enum Met {
    Open(Eio, Open, Answer),
    Error(EngineError, Answer),
    Other(Body, Answer),
    Trouble(Trouble),
}

/// A session, and the version that it is spoken in.
#[derive(Clone, Debug)]
struct Seat {
    eio: Eio,
    open: Option<Open>,
    /// The Origin of a page of this host, where a WebSocket opened with it.
    origin: Option<String>,
}

impl Client<'_> {
    /// The handshake of the transport that a client begins with; `None` where only WebSockets shall be spoken.
    pub(super) async fn begin(&self) -> Option<Met> {
        if self.options.transport == Some(Transport::Websocket) {
            return None;
        }
        Some(self.patient_meet().await)
    }

    /// Everything after that, into `section`.
    pub(super) async fn go_on(&self, met: Option<Met>, section: &mut Section) {
        let mut seat = Seat { eio: self.version(), open: None, origin: None };
        if let Some(met) = met {
            let Some(open) = self.handshake(met, &mut seat, section).await else { return };
            seat.open = Some(open);
            section.tell(&self.connector.journal, self.options.progress);
        }
        let works = if self.options.transport == Some(Transport::Polling) {
            self.only_polls(&seat, section).await
        } else {
            self.websockets(&mut seat, section).await
        };
        section.tell(&self.connector.journal, self.options.progress);
        if works {
            self.extras(&seat, section).await;
        }
    }

    /// False where the extras would not say more.
    async fn websockets(&self, seat: &mut Seat, section: &mut Section) -> bool {
        let polled = seat.open.clone();
        let (direct, crashed) = self.direct(seat, section).await;
        let spoken = direct.is_some();
        let Some(open) = polled else {
            if let Some(socket) = self.readable(direct, seat).await {
                self.over_websocket(socket, seat, section).await;
            }
            return spoken;
        };
        if spoken && open.upgrades.iter().any(|name| name == "websocket") {
            // A client has one WebSocket at a time.
            self.put_away(direct).await;
            return match self.change_over(seat, &open, section).await {
                Ok(socket) => {
                    self.over_websocket(socket, seat, section).await;
                    true
                }
                Err(ended) => {
                    if ended {
                        self.sit_again(seat).await;
                    }
                    self.only_polls(seat, section).await
                }
            };
        }
        if !spoken {
            if !crashed {
                self.only_polls(seat, section).await;
            }
            return false;
        }
        section.skipped(Group::Websocket, "the server offers no upgrade from polling");
        let polls = self.polls(seat.eio, &open, section).await;
        self.leave(seat).await;
        if let Some(socket) = self.readable(direct, seat).await {
            self.over_websocket(socket, seat, section).await;
        }
        polls
    }

    /// The poll that was given up with the change-over has ended its session.
    async fn sit_again(&self, seat: &mut Seat) {
        if let Met::Open(_, open, _) = self.meet(seat.eio, self.path).await {
            seat.open = Some(open);
        }
    }

    async fn put_away(&self, socket: Option<Socket>) {
        if let Some(socket) = socket {
            socket.close(self.connector).await;
        }
    }

    /// In place of a WebSocket with compression, one that this client can read on.
    async fn readable(&self, socket: Option<Socket>, seat: &mut Seat) -> Option<Socket> {
        match socket {
            Some(socket) if !socket.is_readable() => {
                socket.close(self.connector).await;
                self.plain_websocket(seat).await
            }
            socket => socket,
        }
    }

    fn version(&self) -> Eio {
        if self.options.eio == Some(3) { Eio::V3 } else { Eio::V4 }
    }

    fn target(&self, eio: Eio, path: &str, transport: &str, sid: Option<&str>) -> String {
        let mut target = format!("{path}?EIO={}&transport={transport}", eio.number());
        if transport == "polling" && eio == Eio::V3 {
            // Packets as text, as clients without binary XMLHttpRequest ask for them.
            target += "&b64=1";
        }
        if transport == "polling" {
            // Clients add it against caches (`timestampParam`).
            target += &format!("&t={}", self.jar.stamp());
        }
        for (key, value) in self.query {
            target += &format!("&{}={}", escape(key), escape(value));
        }
        if let Some(sid) = sid {
            target += &format!("&sid={}", escape(sid));
        }
        target
    }

    /// What goes along with every request, the cookies that were set included.
    fn fields(&self) -> Vec<(HeaderName, HeaderValue)> {
        let (cookies, mut fields): (Vec<_>, Vec<_>) =
            self.fields.iter().cloned().partition(|(name, _)| *name == header::COOKIE);
        let given = cookies.first().map(|(_, value)| value);
        fields.extend(self.jar.field(given).map(|value| (header::COOKIE, value)));
        fields
    }

    async fn meet(&self, eio: Eio, path: &str) -> Met {
        self.meet_by(Ask::get(self.target(eio, path, "polling", None)).with(&self.fields())).await
    }

    async fn patient_meet(&self) -> Met {
        let ask = || Ask {
            time: FIRST_ANSWER_TIME,
            ..Ask::get(self.target(self.version(), self.path, "polling", None)).with(&self.fields())
        };
        match self.meet_by(ask()).await {
            // A server that closes before it has read everything resets the connection, and that may overtake its answer.
            closed @ Met::Trouble(Trouble::Closed) => match self.meet_by(ask()).await {
                answered @ (Met::Error(..) | Met::Other(..)) => answered,
                Met::Open(..) | Met::Trouble(_) => closed,
            },
            met => met,
        }
    }

    async fn meet_by(&self, ask: Ask) -> Met {
        match self.connector.ask(&ask).await {
            Err(trouble) => Met::Trouble(trouble),
            Ok(answer) => {
                self.jar.learn(&answer);
                match Body::read(&answer.body) {
                    Body::Open(eio, open) if answer.status == 200 => {
                        self.connector.journal.hide_sid(&open.sid, &packets::escape(&open.sid));
                        Met::Open(eio, open, answer)
                    }
                    _ if let Some(error) = engine_error(&answer) => Met::Error(error, answer),
                    other => Met::Other(other, answer),
                }
            }
        }
    }

    /// The same client without anything private.
    fn bare(&self) -> Self {
        Self {
            query: &[],
            fields: Vec::new(),
            jar: Jar::closed(),
            namespace: None,
            hold: None,
            ..self.clone()
        }
    }

    fn worded(&self, code: Code, message: impl Into<String>) -> Finding {
        let page = match self.options.origin.as_deref() {
            Some("null") => "https://app.example".to_owned(),
            origin => origin.map_or_else(|| self.own_origin(), str::to_owned),
        };
        Finding::new(code, message).word("path", self.path).word("page", page)
    }

    /// The origin of a page that this very server serves.
    fn own_origin(&self) -> String {
        let scheme = if self.connector.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.connector.authority)
    }

    /// Who made an answer, as far as anybody can say.
    fn who(&self, answer: &Answer) -> String {
        let mut author = Excerpt::of(&answer.author()).to_string();
        if let Some(title) = answer.title() {
            author += &format!(", page `{title}`");
        }
        match (answer.field("sanedge-error"), self.between) {
            (Some(code), _) => format!("sanedge itself, code {}", Excerpt::of(code)),
            (None, Between::Sanedge) => format!("the app behind sanedge, {author}"),
            (None, Between::Nobody) => format!("the app, {author}"),
            (None, Between::Somebody) => author,
        }
    }

    /// With the answer that a finding is about.
    fn answered(&self, finding: Finding, answer: &Answer) -> Finding {
        let finding = finding.seen("answered", answer.shown()).seen("answered by", self.who(answer));
        known::error_fields(answer)
            .into_iter()
            .fold(finding, |finding, field| finding.seen("field", Excerpt::of(&field)))
    }
}

/// Engine.IO's error in an answer. To an upgrade it answers in plain text; python-engineio has words of its own.
fn engine_error(answer: &Answer) -> Option<EngineError> {
    if answer.status == 200 {
        return None;
    }
    packets::error(&answer.body).or_else(|| packets::error_in_words(&answer.body))
}

/// The whole run had its time.
pub(super) fn time_up() -> Finding {
    Finding::new(
        Code::TimeUp,
        "the time limit was reached before everything was checked: run it again with --timeout 60s",
    )
}

/// No answer at all to the first request.
pub(super) fn silence(trouble: &Trouble, to: &str) -> Finding {
    let finding = match trouble {
        Trouble::Silent => Finding::new(
            Code::HttpSilent,
            "the server accepts the request and does not answer: the app behind it hangs",
        )
        .question("does the app answer on its own port? Give it with --upstream 127.0.0.1:PORT on the board"),
        // hyper names the part that it cannot parse.
        Trouble::Malformed(why)
            if ["header", "content-length", "transfer-encoding"].iter().any(|part| why.contains(part)) =>
        {
            Finding::new(
                Code::HttpMalformed,
                "the answer is HTTP with a field that HTTP does not allow, so clients refuse it: check what sets response fields in the app and the proxy",
            )
        }
        Trouble::Malformed(_) => Finding::new(
            Code::HttpMalformed,
            "the answer is not HTTP: another program than the app is behind this port",
        ),
        Trouble::TimeUp => time_up(),
        Trouble::Connect(_) => Finding::new(
            Code::HttpClosed,
            "the port was open, and nothing listens there now: the server ended during this run; check the log of the app",
        ),
        _ => Finding::new(
            Code::HttpClosed,
            "the server closes the connection instead of answering: the app fails on the request, or nothing listens behind this port (a container whose app listens on 127.0.0.1 only)",
        ),
    };
    finding.seen("request", to).seen("seen", describe(trouble))
}

/// What became of a request, in a few words.
pub(super) fn describe(trouble: &Trouble) -> String {
    trouble.to_string()
}
