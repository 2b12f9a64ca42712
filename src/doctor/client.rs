//! Engine.IO with a server, whatever is in front of it: polling, POST, WebSocket, upgrade, namespace, hold.

mod cors;
mod websocket;

use std::pin::pin;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use tokio::time::timeout;

use super::check::{Finding, Section};
use super::connection::{Connector, Trouble};
use super::engineio::{self, Body, Eio, EngineError, Open, escape};
use super::explain::{self, Code, Group};
use super::http::{Answer, Ask};
use super::options::{Options, Transport};
use crate::excerpt::Excerpt;
use crate::names::{Origin, OriginError};
use crate::ws;

/// For a packet that the server owes at once.
const PACKET_TIME: Duration = Duration::from_secs(4);
/// A noop that is not answered by then is tried otherwise.
const NOOP_TIME: Duration = Duration::from_secs(1);
/// What is said of a POST that arrived.
const POST_TAKEN: &str = "POST on the session is taken";
/// A heartbeat rarer than this does not keep nginx's default of 60 s awake.
const PING_LONG_MS: u64 = 55_000;
/// Longest part of somebody else's text that stands in the report.
const SHOWN_CHARS_MAX: usize = 200;

/// A conversation.
pub(super) struct Client<'a> {
    pub(super) connector: &'a Connector,
    pub(super) path: &'a str,
    /// What goes along: empty where nothing private may be sent.
    pub(super) query: &'a [(String, String)],
    pub(super) fields: Vec<(HeaderName, HeaderValue)>,
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

impl Client<'_> {
    /// The handshake of the transport that a client begins with; `None` where only WebSockets shall be spoken.
    pub(super) async fn begin(&self) -> Option<Met> {
        if self.options.transport == Some(Transport::Websocket) {
            return None;
        }
        Some(self.meet(self.version(), self.path).await)
    }

    /// Everything after that, into `section`.
    pub(super) async fn go_on(&self, met: Option<Met>, section: &mut Section) {
        let mut seat = Seat { eio: self.version(), open: None };
        if let Some(met) = met {
            let Some(open) = self.polling(met, &mut seat, section).await else { return };
            seat.open = Some(open);
        }
        if self.options.transport == Some(Transport::Polling) {
            self.leave(&seat).await;
            return;
        }
        let direct = self.direct(&mut seat, section).await;
        let moved = self.change_over(&seat, direct.is_some(), section).await;
        self.last(direct, moved, &seat, section).await;
    }

    fn version(&self) -> Eio {
        if self.options.eio == Some(3) { Eio::V3 } else { Eio::V4 }
    }

    fn target(&self, eio: Eio, path: &str, transport: &str, sid: Option<&str>) -> String {
        let mut target = format!("{path}?EIO={}&transport={transport}", eio.number());
        for (key, value) in self.query {
            target += &format!("&{}={}", escape(key), escape(value));
        }
        if let Some(sid) = sid {
            target += &format!("&sid={}", escape(sid));
        }
        target
    }

    async fn meet(&self, eio: Eio, path: &str) -> Met {
        let ask = Ask::get(self.target(eio, path, "polling", None)).with(&self.fields);
        match self.connector.ask(&ask).await {
            Err(trouble) => Met::Trouble(trouble),
            Ok(answer) => match Body::read(&answer.body) {
                Body::Open(eio, open) if answer.status == 200 => Met::Open(eio, open, answer),
                Body::Error(error) => Met::Error(error, answer),
                other => Met::Other(other, answer),
            },
        }
    }

    // --- polling ------------------------------------------------------------------------------------------

    async fn polling(&self, met: Met, seat: &mut Seat, section: &mut Section) -> Option<Open> {
        match met {
            Met::Open(eio, open, answer) => self.opened(eio, open, &answer, seat, section).await,
            Met::Error(error, answer) => {
                self.refused(&error, &answer, section).await;
                None
            }
            Met::Other(body, answer) => {
                let finding = self.strange(&body, &answer).await;
                section.found(finding);
                None
            }
            Met::Trouble(trouble) => {
                section.found(silence(&trouble, "polling handshake"));
                None
            }
        }
    }

    async fn opened(
        &self,
        eio: Eio,
        open: Open,
        answer: &Answer,
        seat: &mut Seat,
        section: &mut Section,
    ) -> Option<Open> {
        let mut open = open;
        if eio != self.version() {
            if self.options.eio == Some(4) {
                let message = "the server is a Socket.IO 2.x, and a client of 3.x or 4.x cannot talk to it";
                section.found(
                    Finding::new(Code::EioOldServer, message)
                        .seen("answered", "an open packet of Engine.IO 3 to EIO=4"),
                );
                return None;
            }
            open = match self.meet(eio, self.path).await {
                Met::Open(_, open, _) => open,
                _ => open,
            };
        }
        seat.eio = eio;
        let max = open.max_payload.map(|bytes| format!(", maxPayload {bytes}")).unwrap_or_default();
        section.passed(
            Group::Polling,
            format!(
                "Engine.IO {} at {}: pingInterval {} ms, pingTimeout {} ms{max}, upgrades {:?}",
                eio.number(),
                self.path,
                open.ping_interval_ms,
                open.ping_timeout_ms,
                open.upgrades
            ),
        );
        if eio == Eio::V3 && self.options.eio.is_none() {
            section.found(Finding::new(
                Code::EioV3Server,
                "the server is a Socket.IO 2.x: clients of 3.x and 4.x cannot talk to it",
            ));
        }
        if open.ping_interval_ms > PING_LONG_MS {
            let message = format!(
                "the heartbeat comes every {} s only; a proxy that cuts after 60 s of silence is quicker",
                open.ping_interval_ms / 1000
            );
            section.found(Finding::new(Code::EioPingLong, message));
        }
        self.cors(answer, section).await;
        let open = self.post(seat.eio, open, section).await?;
        self.second(seat.eio, &open, section).await.then_some(open)
    }

    /// An error of Engine.IO's own.
    async fn refused(&self, error: &EngineError, answer: &Answer, section: &mut Section) {
        let said =
            |finding: Finding| finding.seen("answered", answer.shown()).seen("answered by", self.who(answer));
        let finding = match error.code {
            0 => {
                let direct = self.websocket(self.version(), None).await;
                match direct {
                    Ok(Ok(socket)) => {
                        section.found(said(self.worded(Code::EioWebsocketOnly, "the server takes WebSockets only, and clients begin by polling: give the client `transports: [\"websocket\"]`")));
                        let mut seat = Seat { eio: self.version(), open: None };
                        let opened = self.first_packet(socket, &mut seat, section).await;
                        self.last(opened, None, &seat, section).await;
                        return;
                    }
                    Ok(Err(answer)) if engine_error(&answer).is_none_or(|error| error.code != 0) => {
                        self.worded(Code::EioWebsocketOnly, "the server refuses polling, with which clients begin: give the client `transports: [\"websocket\"]`")
                            .seen("WebSocket", answer.shown())
                    }
                    _ => self.worded(Code::EioTransportUnknown, "\"Transport unknown\": the query (`?EIO=4&transport=...`) is lost on its way to the app: look for a rewrite in the proxy (nginx: a path behind the port in `proxy_pass`)"),
                }
            }
            1 => self.worded(Code::EioSidUnknown, "\"Session ID unknown\" to a handshake: the request was changed on its way"),
            2 => self.worded(Code::EioBadMethod, "\"Bad handshake method\": the proxy turns the client's GET into something else: take that rule out"),
            3 => self.worded(Code::EioBadRequest, "\"Bad request\" from Engine.IO: the request was changed on its way"),
            4 => self.worded(Code::EioForbidden, format!("the app itself refuses this client (its `allowRequest`): {}", shown(&error.message))),
            5 => self.worded(Code::EioProtocol, "the client is of Socket.IO 2.x and the server of 3.x or 4.x without `allowEIO3`: update the client"),
            code => self.worded(Code::EioStatus, format!("Engine.IO refuses with code {code}: {}", shown(&error.message))),
        };
        section.found(said(finding));
    }

    /// An answer that is not Engine.IO's.
    async fn strange(&self, body: &Body, answer: &Answer) -> Finding {
        let finding = self.strange_status(body, answer);
        let finding = match finding.code {
            Code::EioNotFound | Code::EioNotSocketio | Code::EioStatus | Code::EdgeUnknownPath => {
                match self.elsewhere().await {
                    Some(found) => found,
                    None => self.alike(answer, finding).await,
                }
            }
            _ => finding,
        };
        finding.seen("answered", shown(&answer.shown())).seen("answered by", self.who(answer))
    }

    fn strange_status(&self, body: &Body, answer: &Answer) -> Finding {
        let path = self.path;
        let status = answer.status;
        let by = self.who(answer);
        if let Some(finding) = self.by_edge(answer) {
            return finding;
        }
        match status {
            300..=399 => self.redirected(answer),
            400 if answer.body.contains("No required SSL certificate") => super::tls::wants_certificate("status 400"),
            401 => self.worded(Code::EioUnauthorized, format!("the proxy asks for a password at {path} (401), which a Socket.IO client cannot give: take the password off this path")),
            403 if self.between != Between::Somebody => self.worded(Code::EioRefused, format!("the app refuses the client (403, {by}) before Socket.IO is asked: look for a middleware in front of it")),
            403 => self.worded(Code::EioRefused, format!("the proxy refuses the client (403, {by}), and the app never saw it: look for a `deny` or a filter there")),
            404 if self.between != Between::Somebody => self.worded(Code::EioNotFound, format!("the app answers 404 at {path} ({by}): Socket.IO is not attached to the server that listens, or is at another path")),
            404 => self.worded(Code::EioNotFound, format!("nothing answers at {path} (404, {by}): the proxy sends it to the wrong app, or Socket.IO is at another path")),
            421 => self.worded(Code::HttpMisdirected, "the proxy says that this name is not served on this connection (421): add it to the site there"),
            502 => self.worded(Code::HttpBadGateway, format!("the proxy works and cannot reach the app behind it (502, {by}): is the app running, and on that port?")),
            503 => self.worded(Code::HttpUnavailable, format!("the proxy has no working server behind it (503, {by}): is the app running?")),
            504 => self.worded(Code::HttpGatewayTimeout, format!("the app behind the proxy does not answer in time (504, {by}): does it hang? Look into its log")),
            500..=599 => self.worded(Code::HttpError, format!("the server fails on the handshake ({status}, {by}): look into its log")),
            200 if *body == Body::Html => self.worded(Code::EioNotSocketio, format!("a web page answers at {path}, where Socket.IO should be: send {path} to the app")),
            200 if looks_like_open(&answer.body) => self.worded(Code::EioGarbled, "the answer to the handshake is a damaged packet of Engine.IO: something on the way changes it"),
            200 | 426 => self.worded(Code::EioNotSocketio, format!("what answers at {path} is not Socket.IO ({status}, {by}): is another app on that port, or has Socket.IO another path?")),
            _ => self.worded(Code::EioStatus, format!("status {status} to the handshake at {path} ({by}): look into the log of who answered")),
        }
    }

    /// What our own edge says by itself, and is not said of every proxy.
    fn by_edge(&self, answer: &Answer) -> Option<Finding> {
        let said = &*shown(answer.field("sanedge-error")?);
        let (path, itself) = (self.path, format!("sanedge itself answers {} ({said})", answer.status));
        Some(match said {
            "unknown_path" => self.worded(Code::EdgeUnknownPath, format!("{itself}: no route of this host leads from {path} to an app: add one in sanedge.toml")),
            "unknown_host" => self.worded(Code::EdgeUnknownHost, format!("{itself}: no site of its bundle has this host: add it in sanedge.toml, and ask by https://")),
            "misdirected" => self.worded(Code::HttpMisdirected, format!("{itself}: the Host of the request and the name in the TLS hello are of different sites")),
            "address_refused" => self.worded(Code::EdgeAddressRefused, format!("{itself}: the site's `allow` does not list this client's address: add its network")),
            "origin_refused" => self.origin_refused(),
            "upstream_unreachable" | "upstream_timeout" => return None,
            "upstream_tls" => self.worded(Code::AppTls, format!("{itself}: the app speaks TLS there, and sanedge speaks plain HTTP to it: name the app's plain port as `upstream`")),
            "upstream_closed" | "upstream_malformed" => self.worded(Code::EdgeUpstreamBroken, format!("{itself}: the app takes the connection and answers no proper HTTP: look into its log, and whether it is the right port")),
            "too_many_requests" => self.worded(Code::EdgeBusy, format!("{itself}: this address opens more WebSockets a second than address_websockets_per_s_max allows")),
            _ => {
                let remedy = explain::edge_remedy(said);
                self.worded(Code::EdgeRefused, format!("{itself}: {remedy}")).word("remedy", remedy)
            }
        })
    }

    fn origin_refused(&self) -> Finding {
        let sent = self.options.origin.as_deref().unwrap_or_default();
        let listed = Origin::parse(sent);
        let (what, advice) = match &listed {
            _ if sent.is_empty() => (
                "sanedge refuses WebSockets without an Origin here (require_origin)".to_owned(),
                "Browsers send one: give the page's with --origin. For programs, remove `require_origin`."
                    .to_owned(),
            ),
            Ok(origin) => (
                format!("sanedge refuses WebSockets of `{origin}`: add it to `origins` of the site"),
                format!(
                    "Add this line to the site in sanedge.toml, below its [[site]]:\n  {}\nWhere it has a line of `origins` already, put \
                     {}, with its comma, at the beginning of that list.",
                    ws::origin::line([origin]),
                    origin.toml(),
                ),
            ),
            Err(OriginError::Null) => (
                "sanedge refuses WebSockets of pages that have no origin of their own".to_owned(),
                "Any page can send what this one does: serve the page over https, and list that origin."
                    .to_owned(),
            ),
            Err(error) => (
                format!("sanedge refuses WebSockets of `{}`, which is no origin", Excerpt::of(sent)),
                format!("Let the client send none, or a whole one ({error})."),
            ),
        };
        self.worded(Code::WsOriginRefused, what).word("advice", advice)
    }

    /// Who made an answer, as far as anybody can say.
    fn who(&self, answer: &Answer) -> String {
        let author = shown(&answer.author());
        match (answer.field("sanedge-error"), self.between) {
            (Some(code), _) => format!("sanedge itself, code {}", shown(code)),
            (None, Between::Sanedge) => format!("the app behind sanedge, {author}"),
            (None, Between::Nobody) => format!("the app, {author}"),
            (None, Between::Somebody) => author,
        }
    }

    fn redirected(&self, answer: &Answer) -> Finding {
        let location = shown(answer.field("location").unwrap_or("nowhere"));
        let own = format!("https://{}", self.connector.authority);
        let (path, query) =
            location.split_once('?').map_or((location.as_str(), ""), |(path, query)| (path, query));
        let same = |prefix: &str| {
            path.strip_prefix(prefix) == Some(self.path) || (path == format!("{prefix}{}", self.path))
        };
        let http = own.replacen("https", "http", 1);
        if self.connector.tls.is_some()
            && (same(&own) || path == self.path || same(&http))
            && (query.is_empty() || query.contains("transport="))
        {
            let message = format!(
                "the server redirects the handshake to where it is already (`{location}`): the app behind does not know that the client uses https"
            );
            return self.worded(Code::HttpRedirectLoop, message).word("location", location);
        }
        let message = format!(
            "the handshake is redirected to `{location}`, which a WebSocket does not follow: connect there, or take the redirect away"
        );
        self.worded(Code::EioRedirected, message).word("location", location)
    }

    /// Where the front page is the same answer, that is said: whoever answers does not know the path at all.
    async fn alike(&self, answer: &Answer, finding: Finding) -> Finding {
        let kind = answer.field("content-type").unwrap_or_default().to_owned();
        let finding = finding.seen("type", shown(&kind));
        match self.connector.ask(&Ask::get("/")).await {
            Ok(root) if root.status == answer.status && root.body == answer.body => {
                finding.seen("GET /", "the same answer: who gives it does not look at the path")
            }
            _ => finding,
        }
    }

    /// Looks for Socket.IO where others have it. Nothing private goes along.
    async fn elsewhere(&self) -> Option<Finding> {
        let doubled = format!("{}socket.io/", self.path);
        let bare = Client {
            query: &[],
            fields: Vec::new(),
            connector: self.connector,
            path: self.path,
            options: self.options,
            namespace: None,
            hold: None,
            between: self.between,
        };
        let paths = ["/socket.io/", &doubled, "/api/socket.io/", "/ws/socket.io/", "/engine.io/"];
        let tries =
            paths.iter().filter(|path| **path != self.path).map(|path| bare.meet(self.version(), path));
        let met = futures_util::future::join_all(tries).await;
        let others = paths.iter().filter(|path| **path != self.path);
        let found = others.zip(met).find(|(_, met)| matches!(met, Met::Open(..)))?.0;
        let message = format!(
            "nothing is at {}, and Socket.IO answers at {found}: give the client `path: \"{found}\"`, or correct the prefix \
                in the proxy",
            self.path
        );
        Some(self.worded(Code::EioWrongPath, message).word("found_path", *found))
    }

    /// A POST that says nothing; the session that it left usable.
    async fn post(&self, eio: Eio, open: Open, section: &mut Section) -> Option<Open> {
        let session = open.clone();
        let mut noop = pin!(self.deliver(eio, &session, eio.noop()));
        let said = match timeout(NOOP_TIME, &mut noop).await {
            Ok(said) => said,
            Err(_) => match self.heartbeat(eio).await {
                Some(fresh) => {
                    section.passed(Group::Polling, POST_TAKEN);
                    return Some(fresh);
                }
                None => noop.await,
            },
        };
        let finding = match said {
            Ok(answer) if is_taken(&answer) => {
                section.passed(Group::Polling, POST_TAKEN);
                return Some(open);
            }
            Ok(answer) => {
                // Engine.IO's own errors, and what a proxy says, are no matter of the packet.
                let refuses_noop = answer.status == 400 && engine_error(&answer).is_none();
                let fresh = if refuses_noop { self.heartbeat(eio).await } else { None };
                if fresh.is_some() {
                    section.passed(Group::Polling, POST_TAKEN);
                    return fresh;
                }
                self.no_post(&answer)
            }
            Err(trouble) => self
                .worded(
                    Code::EioPostLost,
                    "the handshake works and a POST on its session gets no answer: does a body parser in front of Socket.IO take it?",
                )
                .seen("seen", describe(&trouble)),
        };
        section.found(finding);
        None
    }

    async fn deliver(&self, eio: Eio, open: &Open, body: &'static str) -> Result<Answer, Trouble> {
        let target = self.target(eio, self.path, "polling", Some(&open.sid));
        self.connector.ask(&Ask { method: "POST", body, ..Ask::get(target).with(&self.fields) }).await
    }

    /// A heartbeat on a new session says as little as a noop. Some servers want it: socketioxide refuses a noop, and
    /// python-engineio ends its session and waits for a poll before it answers.
    async fn heartbeat(&self, eio: Eio) -> Option<Open> {
        let Met::Open(_, fresh, _) = self.meet(eio, self.path).await else { return None };
        let answer = self.deliver(eio, &fresh, eio.heartbeat()).await.ok()?;
        is_taken(&answer).then_some(fresh)
    }

    fn no_post(&self, answer: &Answer) -> Finding {
        let status = answer.status;
        let finding = match (engine_error(answer), status) {
            _ if self.by_edge(answer).is_some() => self.strange_status(&Body::Other, answer),
            (Some(EngineError { code: 1, .. }), _) => self.worded(Code::EioSidUnknown, "\"Session ID unknown\": the second request reached another process than the handshake: make the processes sticky, or run one"),
            (_, 413) => self.worded(Code::EioPostTooLarge, "the proxy refuses even a tiny POST as too large (413): raise its limit for bodies"),
            (None, 401 | 403 | 405) => self.worded(Code::EioPostRefused, format!("the proxy lets GET pass and refuses POST ({status}), with which polling clients send: allow it there")),
            _ => self.worded(Code::EioPostLost, format!("the handshake works and a POST on its session does not ({status}): look into the log of who answered")),
        };
        finding.seen("answered", shown(&answer.shown())).seen("answered by", self.who(answer))
    }

    /// Two clients get two sessions. A server of 2.x would show each to the app: there it is left out.
    async fn second(&self, eio: Eio, open: &Open, section: &mut Section) -> bool {
        if eio == Eio::V3 {
            return true;
        }
        let Met::Open(_, other, answer) = self.meet(eio, self.path).await else { return true };
        if other.sid != open.sid {
            self.leave(&Seat { eio, open: Some(other) }).await;
            return true;
        }
        let message = "two handshakes got the same session: a cache answers in place of the app; switch it off for this path";
        let age = answer.field("age").or(answer.field("x-cache")).unwrap_or_default().to_owned();
        section.found(self.worded(Code::EioCached, message).seen("cache says", age));
        false
    }

    async fn leave(&self, seat: &Seat) {
        if let Some(open) = &seat.open {
            let _ = self.deliver(seat.eio, open, seat.eio.close()).await;
        }
    }

    fn worded(&self, code: Code, message: impl Into<String>) -> Finding {
        let own = || format!("https://{}", self.connector.authority);
        let page = match self.options.origin.as_deref() {
            Some("null") => "https://app.example".to_owned(),
            origin => origin.map_or_else(own, str::to_owned),
        };
        Finding::new(code, message).word("path", self.path).word("page", page)
    }
}

/// A session, and the version that it is spoken in.
struct Seat {
    eio: Eio,
    open: Option<Open>,
}

/// What Engine.IO says to a POST; python-engineio writes it in capitals.
fn is_taken(answer: &Answer) -> bool {
    answer.status == 200 && answer.body.eq_ignore_ascii_case("ok")
}

/// Whether a body has the fields of an open packet, in whatever state.
fn looks_like_open(body: &str) -> bool {
    body.contains("\"sid\"") && (body.contains("\"upgrades\"") || body.contains("\"pingInterval\""))
}

/// Engine.IO's error in an answer. To an upgrade it answers in plain text.
fn engine_error(answer: &Answer) -> Option<EngineError> {
    const MESSAGES: [&str; 6] = [
        "Transport unknown",
        "Session ID unknown",
        "Bad handshake method",
        "Bad request",
        "Forbidden",
        "Unsupported protocol version",
    ];
    let plain = || {
        let at = MESSAGES.iter().position(|message| *message == answer.body.trim())?;
        Some(EngineError { code: at as u64, message: answer.body.trim().to_owned() })
    };
    engineio::error(&answer.body).or_else(plain)
}

/// The whole run had its time.
pub(super) fn time_up() -> Finding {
    Finding::new(
        Code::TimeUp,
        "the time was up before everything was checked: type the same with --timeout 60s",
    )
}

/// No answer at all to the first request.
pub(super) fn silence(trouble: &Trouble, to: &str) -> Finding {
    let finding = match trouble {
        Trouble::Silent => Finding::new(
            Code::HttpSilent,
            "the server takes the request and does not answer: the app behind hangs",
        ),
        Trouble::Malformed(_) => Finding::new(
            Code::HttpMalformed,
            "the answer is not HTTP: something else than the app is behind this port",
        ),
        Trouble::TimeUp => time_up(),
        _ => Finding::new(
            Code::HttpClosed,
            "the server hangs up instead of answering: look into the log of the app, and what the proxy sends it to",
        ),
    };
    finding.seen("request", to).seen("seen", describe(trouble))
}

/// What became of a request, in a few words.
pub(super) fn describe(trouble: &Trouble) -> String {
    match trouble {
        Trouble::Connect(error) => error.to_string(),
        Trouble::Tls(error) => format!("no TLS: {error:?}"),
        Trouble::Silent => "no answer within 4 s".to_owned(),
        Trouble::Closed => "the connection ended without an answer".to_owned(),
        Trouble::Malformed(error) => error.clone(),
        Trouble::TimeUp => "the whole run had its time".to_owned(),
    }
}

/// Somebody else's text, cut.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::answer::PROBLEMS;

    #[test]
    fn every_code_of_the_edge_has_a_remedy() {
        let of_their_own = [
            "origin_refused",
            "address_refused",
            "unknown_path",
            "unknown_host",
            "misdirected",
            "too_many_requests",
            "upstream_closed",
            "upstream_malformed",
            "upstream_tls",
        ];
        for problem in PROBLEMS {
            let code = problem.code();
            let known = explain::EDGE_REMEDIES.iter().any(|(known, _)| *known == code);
            assert!(known || of_their_own.contains(&code), "{code}");
        }
        assert_eq!(explain::EDGE_REMEDIES.len() + of_their_own.len(), PROBLEMS.len());
    }

    #[test]
    fn a_packet_that_was_changed_is_told_from_another_app() {
        assert!(looks_like_open(r#"0{"sid":"x","upgrades"<script src=/inject.js></script>"#));
        assert!(looks_like_open(r#"<b>{"pingInterval":1,"sid":"x"}"#));
        for other in ["", "hello", r#"{"sid":"x"}"#, "<html>pingInterval", r#"{"ok":true}"#] {
            assert!(!looks_like_open(other), "{other}");
        }
    }
}
