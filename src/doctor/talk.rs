//! Engine.IO with a server, whatever is in front of it: polling, POST, WebSocket, upgrade, namespace, hold.

use std::time::Duration;

use hyper::header::{self, HeaderName, HeaderValue};
use tokio::time::Instant;

use super::check::{Finding, Section};
use super::engineio::{self, Body, Eio, EngineError, Joined, Open, escape};
use super::explain::{Code, Group};
use super::http::{Answer, Ask, Heard, Socket};
use super::options::{Options, Transport};
use super::way::{Trouble, Way};

/// For a packet that the server owes at once.
const PACKET_TIME: Duration = Duration::from_secs(4);
/// A client without a namespace is sent away by Socket.IO itself after 45 s (`connectTimeout`).
const HOLD_WITHOUT_NAMESPACE: Duration = Duration::from_secs(40);
/// A heartbeat rarer than this does not keep nginx's default of 60 s awake.
const PING_LONG_MS: u64 = 55_000;
/// Longest part of somebody else's text that stands in the report.
const SHOWN_CHARS_MAX: usize = 200;

/// A conversation.
pub(super) struct Talk<'a> {
    pub(super) way: &'a Way,
    pub(super) path: &'a str,
    /// What goes along: empty where nothing private may be sent.
    pub(super) query: &'a [(String, String)],
    pub(super) fields: Vec<(HeaderName, HeaderValue)>,
    pub(super) options: &'a Options,
    /// The namespace to connect to; `None`: none.
    pub(super) namespace: Option<&'a str>,
    pub(super) hold: Option<Duration>,
}

/// How a polling handshake went.
pub(super) enum Met {
    Open(Eio, Open, Answer),
    Error(EngineError, Answer),
    Other(Body, Answer),
    Trouble(Trouble),
}

impl Talk<'_> {
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
        match self.way.ask(&ask).await {
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
        self.cors(answer, section);
        let open = self.post(seat.eio, open, section).await?;
        self.second(seat.eio, &open, section).await.then_some(open)
    }

    /// An error of Engine.IO's own.
    async fn refused(&self, error: &EngineError, answer: &Answer, section: &mut Section) {
        let said =
            |finding: Finding| finding.seen("answered", answer.shown()).seen("answered by", answer.author());
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
                    _ => self.worded(Code::EioTransportUnknown, "\"Transport unknown\": the query (`?EIO=4&transport=...`) is lost on its way to the app: look for a rewrite in the proxy"),
                }
            }
            1 => self.worded(Code::EioSidUnknown, "\"Session ID unknown\" to a handshake: the request was changed on its way"),
            2 => self.worded(Code::EioBadMethod, "\"Bad handshake method\": the proxy turns the client's GET into something else"),
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
            Code::EioNotFound | Code::EioNotSocketio | Code::EioStatus => {
                self.elsewhere().await.unwrap_or(finding)
            }
            _ => finding,
        };
        finding.seen("answered", shown(&answer.shown())).seen("answered by", answer.author())
    }

    fn strange_status(&self, body: &Body, answer: &Answer) -> Finding {
        let path = self.path;
        let status = answer.status;
        let by = answer.author();
        match status {
            300..=399 => self.redirected(answer),
            400 if answer.body.contains("No required SSL certificate") => super::tls::wants_certificate("status 400"),
            401 => self.worded(Code::EioUnauthorized, format!("the edge asks for a password at {path} (401), which a Socket.IO client cannot give")),
            403 => self.worded(Code::EioRefused, format!("the edge refuses the client (403, {by}); the app never saw it")),
            404 => self.worded(Code::EioNotFound, format!("nothing answers at {path} (404, {by}): the edge sends it to the wrong app, or Socket.IO is at another path")),
            421 => self.worded(Code::HttpMisdirected, "the edge says that this name is not served on this connection (421)"),
            502 => self.worded(Code::HttpBadGateway, format!("the edge works and cannot reach the app behind it (502, {by}): is the app running, and on that port?")),
            503 => self.worded(Code::HttpUnavailable, format!("the edge has no working server behind it (503, {by}): is the app running?")),
            504 => self.worded(Code::HttpGatewayTimeout, format!("the app behind the edge does not answer in time (504, {by})")),
            500..=599 => self.worded(Code::HttpError, format!("the server fails on the handshake ({status}, {by}): look into its log")),
            200 if *body == Body::Html => self.worded(Code::EioNotSocketio, format!("a web page answers at {path}, where Socket.IO should be: send {path} to the app")),
            200 => self.worded(Code::EioGarbled, "the answer to the handshake is no packet of Engine.IO: something on the way changes it, or something else answers"),
            _ => self.worded(Code::EioStatus, format!("status {status} to the handshake at {path} ({by})")),
        }
    }

    fn redirected(&self, answer: &Answer) -> Finding {
        let location = shown(answer.field("location").unwrap_or("nowhere"));
        let own = format!("https://{}", self.way.authority);
        let (path, query) =
            location.split_once('?').map_or((location.as_str(), ""), |(path, query)| (path, query));
        let same = |prefix: &str| {
            path.strip_prefix(prefix) == Some(self.path) || (path == format!("{prefix}{}", self.path))
        };
        let http = own.replacen("https", "http", 1);
        if self.way.tls.is_some()
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

    /// Looks for Socket.IO where others have it. Nothing private goes along.
    async fn elsewhere(&self) -> Option<Finding> {
        let doubled = format!("{}socket.io/", self.path);
        let bare = Talk {
            query: &[],
            fields: Vec::new(),
            way: self.way,
            path: self.path,
            options: self.options,
            namespace: None,
            hold: None,
        };
        let paths = ["/socket.io/", &doubled, "/api/socket.io/", "/ws/socket.io/", "/engine.io/"];
        let tries =
            paths.iter().filter(|path| **path != self.path).map(|path| bare.meet(self.version(), path));
        let met = futures_util::future::join_all(tries).await;
        let others = paths.iter().filter(|path| **path != self.path);
        let found = others.zip(met).find(|(_, met)| matches!(met, Met::Open(..)))?.0;
        let message = format!(
            "nothing is at {}, and Socket.IO answers at {found}: give the client `path: \"{found}\"`, or mend the prefix in the proxy",
            self.path
        );
        Some(self.worded(Code::EioWrongPath, message).word("found_path", *found))
    }

    /// A POST that says nothing; the session that it left usable.
    async fn post(&self, eio: Eio, open: Open, section: &mut Section) -> Option<Open> {
        let finding = match self.deliver(eio, &open, eio.noop()).await {
            Ok(answer) if is_taken(&answer) => {
                section.passed(Group::Polling, "POST on the session is taken");
                return Some(open);
            }
            Ok(answer) => match self.heartbeat(eio, &answer).await {
                Some(fresh) => {
                    section.passed(Group::Polling, "POST on the session is taken");
                    return Some(fresh);
                }
                None => self.no_post(&answer),
            },
            Err(trouble) => self
                .worded(Code::EioPostLost, "the handshake works and a POST on its session gets no answer")
                .seen("seen", describe(&trouble)),
        };
        section.found(finding);
        None
    }

    async fn deliver(&self, eio: Eio, open: &Open, body: &'static str) -> Result<Answer, Trouble> {
        let target = self.target(eio, self.path, "polling", Some(&open.sid));
        self.way.ask(&Ask { method: "POST", body, ..Ask::get(target).with(&self.fields) }).await
    }

    /// Some servers (socketioxide, python-engineio) refuse a noop and may end its session: a heartbeat on a new one says
    /// as little.
    async fn heartbeat(&self, eio: Eio, refused: &Answer) -> Option<Open> {
        if refused.status != 400 || engine_error(refused).is_some() {
            return None;
        }
        let Met::Open(_, fresh, _) = self.meet(eio, self.path).await else { return None };
        let answer = self.deliver(eio, &fresh, eio.heartbeat()).await.ok()?;
        is_taken(&answer).then_some(fresh)
    }

    fn no_post(&self, answer: &Answer) -> Finding {
        let status = answer.status;
        let finding = match (engine_error(answer), status) {
            (Some(EngineError { code: 1, .. }), _) => self.worded(Code::EioSidUnknown, "\"Session ID unknown\": the second request reached another process than the handshake: make the processes sticky, or run one"),
            (_, 413) => self.worded(Code::EioPostTooLarge, "the edge refuses even a tiny POST as too large (413): raise its limit for bodies"),
            (None, 401 | 403 | 405) => self.worded(Code::EioPostRefused, format!("the edge lets GET pass and refuses POST ({status}), with which polling clients send")),
            _ => self.worded(Code::EioPostLost, format!("the handshake works and a POST on its session does not ({status})")),
        };
        finding.seen("answered", shown(&answer.shown())).seen("answered by", answer.author())
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

    fn cors(&self, answer: &Answer, section: &mut Section) {
        let Some(page) = &self.options.origin else { return };
        if self.way.tls.is_some() && *page == format!("https://{}", self.way.authority) {
            return; // the same origin needs no permission
        }
        let allowed: Vec<&str> = answer
            .fields
            .get_all(header::ACCESS_CONTROL_ALLOW_ORIGIN)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        let credentials = answer.field("access-control-allow-credentials") == Some("true");
        let finding = match allowed.as_slice() {
            [] => self.worded(Code::CorsMissing, format!("the server does not allow pages of `{page}` (CORS): add it to `cors.origin` of the server")),
            [_, _, ..] => self.worded(Code::CorsTwice, "Access-Control-Allow-Origin is there twice, so browsers refuse it: take it out of the edge, the app sends it"),
            ["*"] if credentials || self.options.cookie.is_some() => self.worded(Code::CorsStar, format!("the server allows `*`, which browsers refuse together with credentials: name `{page}` in `cors.origin`")),
            [one] if *one == "*" || one == page => {
                section.passed(Group::Polling, format!("CORS allows `{page}`"));
                return;
            }
            [other] => self.worded(Code::CorsOther, format!("the server allows pages of `{}`, not of `{page}` (CORS)", shown(other))),
        };
        section.found(finding.seen("allowed", shown(&allowed.join(", "))));
    }

    // --- WebSocket ----------------------------------------------------------------------------------------

    async fn websocket(&self, eio: Eio, sid: Option<&str>) -> Result<Result<Socket, Answer>, Trouble> {
        let ask = Ask::get(self.target(eio, self.path, "websocket", sid)).with(&self.fields);
        self.way.websocket(ask).await
    }

    /// A WebSocket from the start.
    async fn direct(&self, seat: &mut Seat, section: &mut Section) -> Option<Socket> {
        match self.websocket(seat.eio, None).await {
            Ok(Ok(socket)) => self.first_packet(socket, seat, section).await,
            Ok(Err(answer)) => {
                section.found(self.no_websocket(&answer, seat));
                None
            }
            Err(trouble) if seat.open.is_none() => {
                section.found(silence(&trouble, "WebSocket handshake"));
                None
            }
            Err(trouble) => {
                let message = "polling works, and the WebSocket handshake gets no answer: a proxy or filter on the way holds it back";
                section.found(self.worded(Code::WsNoAnswer, message).seen("seen", describe(&trouble)));
                None
            }
        }
    }

    fn no_websocket(&self, answer: &Answer, seat: &Seat) -> Finding {
        let by = answer.author();
        let finding = match (engine_error(answer).map(|error| error.code), answer.status) {
            (_, 101) => self.worded(Code::WsAccept, "the 101 does not answer this handshake (Sec-WebSocket-Accept): a cache or a proxy makes it up"),
            (Some(3), _) => self.worded(Code::WsUpgradeLost, "the proxy loses `Upgrade: websocket`, so that the app sees a plain request: let it pass the upgrade on"),
            (_, 200) => self.worded(Code::WsUpgradeLost, "the WebSocket handshake is answered like a plain request (200): the proxy loses `Upgrade: websocket`"),
            (Some(0), _) if seat.open.is_some() => self.worded(Code::EioPollingOnly, "the server takes polling only (`transports`), and the client asks for a WebSocket"),
            (Some(0), _) => self.worded(Code::EioTransportUnknown, "\"Transport unknown\": the query is lost on its way to the app, or the server takes polling only"),
            (Some(4), _) => self.worded(Code::EioForbidden, "the app itself refuses this client (its `allowRequest`)"),
            (Some(5), _) => self.worded(Code::EioProtocol, "the client is of Socket.IO 2.x and the server of 3.x or 4.x without `allowEIO3`"),
            (_, 403) if answer.field("sanedge-error") == Some("origin_refused") => {
                let page = self.options.origin.clone().unwrap_or_default();
                self.worded(Code::WsOriginRefused, format!("the edge refuses WebSockets of `{page}`: add it to `origins` of the site"))
            }
            (_, 403) if seat.open.is_some() => self.worded(Code::WsForbidden, format!("polling works, and the WebSocket is refused (403, {by})")),
            (_, 426) => self.worded(Code::WsUpgradeRequired, "the server asks for the upgrade that was sent (426): the proxy does not pass it on"),
            (_, status) if seat.open.is_some() => self.worded(Code::WsStatus, format!("polling works, and the WebSocket handshake gets {status} ({by}) instead of 101")),
            _ => self.strange_status(&Body::read(&answer.body), answer),
        };
        finding.seen("answered", shown(&answer.shown())).seen("answered by", by)
    }

    /// The open packet, which the server owes at once.
    async fn first_packet(
        &self,
        mut socket: Socket,
        seat: &mut Seat,
        section: &mut Section,
    ) -> Option<Socket> {
        let finding = match socket.hear(self.way, PACKET_TIME).await {
            Heard::Text(text) => match text.strip_prefix('0').and_then(engineio::open) {
                Some(open) => {
                    section.passed(Group::Websocket, "a WebSocket from the start opens");
                    seat.open.get_or_insert(open);
                    return Some(socket);
                }
                None => self.worded(Code::EioGarbled, "the first message of the WebSocket is no open packet of Engine.IO").seen("message", shown(&text)),
            },
            Heard::Closed(how) => self.worded(Code::WsCloses, "the WebSocket opens and is closed at once: look into the log of the app").seen("closed", shown(&how)),
            Heard::Nothing => self.worded(Code::WsSilent, "the WebSocket opens and nothing comes through it: a proxy on the way does not pass frames on").seen("waited", "4 s for the open packet"),
        };
        section.found(finding);
        None
    }

    /// From polling to a WebSocket, as every client does by default.
    async fn change_over(&self, seat: &Seat, direct: bool, section: &mut Section) -> Option<Socket> {
        let open = seat.open.as_ref().filter(|_| self.options.transport.is_none() && direct)?;
        if !open.upgrades.iter().any(|name| name == "websocket") {
            section.skipped(Group::Websocket, "the server offers no upgrade from polling");
            self.leave(seat).await;
            return None;
        }
        let said = match self.websocket(seat.eio, Some(&open.sid)).await {
            Ok(Ok(mut socket)) => {
                socket.say(self.way, "2probe").await;
                match socket.hear(self.way, PACKET_TIME).await {
                    Heard::Text(text) if text == "3probe" => {
                        socket.say(self.way, "5").await;
                        section
                            .passed(Group::Websocket, "a session changes over from polling to a WebSocket");
                        return Some(socket);
                    }
                    heard => format!("{heard:?} to the probe"),
                }
            }
            Ok(Err(answer)) if engine_error(&answer).is_some_and(|error| error.code == 1) => {
                let message = "\"Session ID unknown\": the upgrade reached another process than the polling did: make the processes sticky, or run one";
                section.found(
                    self.worded(Code::EioSidUnknown, message).seen("answered", shown(&answer.shown())),
                );
                return None;
            }
            Ok(Err(answer)) => answer.shown(),
            Err(trouble) => describe(&trouble),
        };
        let message = "a client that begins by polling cannot change over to the WebSocket";
        section.found(self.worded(Code::WsProbe, message).seen("seen", shown(&said)));
        None
    }

    /// What is left: the namespace over one WebSocket, the wait on another.
    async fn last(&self, direct: Option<Socket>, moved: Option<Socket>, seat: &Seat, section: &mut Section) {
        let (mut first, spare) = match (moved, direct) {
            (Some(moved), direct) => (moved, direct),
            (None, Some(direct)) => (direct, None),
            (None, None) => return,
        };
        if let Some(spare) = spare {
            spare.close(self.way).await;
        }
        if let Some(namespace) = self.namespace {
            self.join(&mut first, namespace, seat.eio, section).await;
        }
        if let Some(time) = self.hold {
            self.holding(&mut first, time, seat, section).await;
        }
        first.close(self.way).await;
    }

    async fn join(&self, socket: &mut Socket, namespace: &str, eio: Eio, section: &mut Section) {
        let query: Vec<String> =
            self.query.iter().map(|(key, value)| format!("{}={}", escape(key), escape(value))).collect();
        if eio == Eio::V4 || namespace != "/" {
            socket.say(self.way, &eio.connect(namespace, &query.join("&"))).await;
        }
        let until = Instant::now() + PACKET_TIME;
        let finding = loop {
            match socket.hear(self.way, until.saturating_duration_since(Instant::now())).await {
                Heard::Text(text) if text == "2" => socket.say(self.way, "3").await,
                Heard::Text(text) => match engineio::joined(&text, namespace) {
                    Some(Joined::Yes) => {
                        section.passed(Group::Namespace, format!("{namespace} is joined"));
                        return;
                    }
                    Some(Joined::No(why)) if why == "Invalid namespace" => {
                        break self.worded(Code::NsUnknown, format!("the app has no namespace `{namespace}`: io.of(\"{namespace}\") is missing, or a path was meant"));
                    }
                    Some(Joined::No(why)) => {
                        break self.worded(Code::NsRefused, format!("the app refuses the namespace `{namespace}`: {}", shown(&why)));
                    }
                    None => {}
                },
                Heard::Closed(how) => break self.worded(Code::NsRefused, format!("the app closes the connection in place of joining `{namespace}`")).seen("closed", shown(&how)),
                Heard::Nothing => break self.worded(Code::NsSilent, format!("the app does not answer to the namespace `{namespace}`: does a middleware never call next()?")),
            }
        };
        section.found(finding.word("namespace", namespace));
    }

    /// Keeps a WebSocket open and answers heartbeats, to see who ends it.
    async fn holding(&self, socket: &mut Socket, time: Duration, seat: &Seat, section: &mut Section) {
        let cut_short = self.namespace.is_none() && seat.eio == Eio::V4 && time > HOLD_WITHOUT_NAMESPACE;
        let time = if cut_short { HOLD_WITHOUT_NAMESPACE } else { time };
        let interval = seat.open.as_ref().map_or(25_000, |open| open.ping_interval_ms);
        let patience = seat.open.as_ref().map_or(45_000, |open| open.ping_interval_ms + open.ping_timeout_ms);
        let begin = Instant::now();
        let (mut heartbeats, mut last_heard, mut last_ping) = (0, begin, begin);
        while begin.elapsed() < time {
            let next = Duration::from_millis(interval.min(1_000)).min(time.saturating_sub(begin.elapsed()));
            if seat.eio == Eio::V3 && last_ping.elapsed() >= Duration::from_millis(interval) {
                socket.say(self.way, "2").await;
                last_ping = Instant::now();
            }
            match socket.hear(self.way, next).await {
                Heard::Text(text) => {
                    last_heard = Instant::now();
                    heartbeats += u32::from(text == "2" || text == "3");
                    if text == "2" {
                        socket.say(self.way, "3").await;
                    }
                }
                Heard::Closed(how) => {
                    let after = begin.elapsed().as_secs_f32();
                    let message = format!(
                        "the WebSocket was cut after {after:.0} s: a proxy on the way ends quiet connections"
                    );
                    section.found(
                        self.worded(Code::WsCut, message)
                            .seen("closed", shown(&how))
                            .seen("heartbeats", heartbeats.to_string()),
                    );
                    return;
                }
                Heard::Nothing if last_heard.elapsed() > Duration::from_millis(patience) => {
                    let message =
                        format!("no heartbeat within {} s, which the server promised", patience / 1000);
                    section.found(self.worded(Code::WsHeartbeat, message));
                    return;
                }
                Heard::Nothing => {}
            }
        }
        section.passed(Group::Websocket, format!("held for {} s, {heartbeats} heartbeats", time.as_secs()));
        if cut_short {
            section.skipped(Group::Websocket, "held no longer: Socket.IO itself sends a client without a namespace away after 45 s; give --namespace /");
        }
    }

    /// Ends a session as a client does.
    async fn leave(&self, seat: &Seat) {
        if let Some(open) = &seat.open {
            let _ = self.deliver(seat.eio, open, seat.eio.close()).await;
        }
    }

    fn worded(&self, code: Code, message: impl Into<String>) -> Finding {
        let page = self.options.origin.clone().unwrap_or_else(|| format!("https://{}", self.way.authority));
        Finding::new(code, message).word("path", self.path).word("page", page)
    }
}

/// A session, and the version that it is spoken in.
struct Seat {
    eio: Eio,
    open: Option<Open>,
}

/// What Engine.IO says to a POST.
fn is_taken(answer: &Answer) -> bool {
    answer.status == 200 && answer.body == "ok"
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
        Trouble::TimeUp => Finding::new(Code::TimeUp, "the time was up before everything was checked"),
        _ => Finding::new(
            Code::HttpClosed,
            "the server hangs up instead of answering: look into the log of the app, and what the edge sends it to",
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
