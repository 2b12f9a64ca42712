//! Why no WebSocket opens: from the answer and, if polling works, from the difference between an upgrade and a poll.

use super::origin::says_origin;
use super::refusal::Part;
use super::websocket::{Opening, is_python};
use super::{Client, Seat, describe, engine_error, known, silence};
use crate::doctor::ask::{Answer, Ask, Style, refused_field};
use crate::doctor::check::Finding;
use crate::doctor::connection::Trouble;
use crate::doctor::explain::Code;
use crate::doctor::packets::{self, Body, Eio};
use crate::doctor::socket::Heard;
use crate::excerpt::Excerpt;

impl Client<'_> {
    pub(super) async fn no_websocket(&self, opening: Opening, seat: &Seat) -> Finding {
        match opening {
            Opening::Answered(answer) => {
                let finding = match self.only_upgrades_fail(&answer, seat).await {
                    Some(finding) => finding,
                    None => match self.unknown_path(&answer, seat).await {
                        Some(finding) => finding,
                        None => self.no_upgrade(&answer, seat),
                    },
                };
                self.answered(finding, &answer)
            }
            Opening::Heard(heard) => self.not_an_open_packet(heard),
            Opening::Trouble(trouble) if seat.open.is_none() => silence(&trouble, "WebSocket handshake"),
            Opening::Trouble(trouble) => self.no_answer(&trouble),
            Opening::Open(..) => self.worded(Code::WsStatus, "the WebSocket opens now and did not before"),
        }
    }

    /// Starlette and others refuse a WebSocket of a path that they do not know with 403.
    async fn unknown_path(&self, answer: &Answer, seat: &Seat) -> Option<Finding> {
        if answer.status != 403 || seat.open.is_some() {
            return None;
        }
        let plain = Ask::get(self.target(seat.eio, self.path, "websocket", None)).with(&self.fields());
        let plain = self.connector.ask(&plain).await.ok().filter(|plain| plain.status == 404)?;
        Some(
            self.strange_status(&Body::read(&plain.body), &plain)
                .seen("the same without Upgrade", plain.shown()),
        )
    }

    /// Polling works.
    fn no_answer(&self, trouble: &Trouble) -> Finding {
        let finding = match trouble {
            Trouble::Connect(_) => self.worded(Code::WsCrash, "nothing listens after the WebSocket handshake: the app crashed on it; read the last lines of its log"),
            Trouble::Closed => self.worded(Code::WsNoAnswer, "polling works, but the server closes the connection at the WebSocket handshake: the app fails on it, or a proxy on the way does not forward upgrades"),
            _ => self.worded(Code::WsNoAnswer, "polling works, but the WebSocket handshake gets no answer: a proxy on the way does not forward upgrades (dev servers: `ws: true`), or a filter blocks them"),
        };
        let finding = match trouble {
            Trouble::Connect(_) => finding,
            _ => self.network_question(finding),
        };
        finding.seen("seen", describe(trouble))
    }

    /// From here, a filter on this network and one at the server look the same.
    pub(super) fn network_question(&self, finding: Finding) -> Finding {
        if self.is_loopback() {
            return finding;
        }
        finding.question("does it work from another network, such as a phone's? Then a filter on this network blocks it; otherwise the server's proxy does")
    }

    /// The refusal is not Engine.IO's, but polls of the same path reach the app: checks whether only upgrades are refused.
    async fn only_upgrades_fail(&self, answer: &Answer, seat: &Seat) -> Option<Finding> {
        let offers = seat.open.as_ref()?.upgrades.iter().any(|name| name == "websocket");
        let error = engine_error(answer).map(|error| error.code);
        if offers && matches!(error, Some(0 | 5)) {
            let message = "polls reach the app with their query, but a WebSocket handshake reaches it without its query (`?EIO=4&transport=websocket`): the proxy's rule for WebSockets drops the query";
            return Some(self.worded(Code::WsElsewhere, message));
        }
        let leads_elsewhere = match answer.status {
            401 => false,
            502 | 504 if answer.field("cf-ray").is_some() => false,
            200 | 300..=399 | 404 | 502 | 504 => true,
            403 | 405 | 501 | 503 | 505 if !answer.may_be_limit() => false,
            _ => return None,
        };
        if error.is_some()
            || self.by_edge(answer).is_some()
            || !self.reaches_app_without_upgrade(seat.eio).await
        {
            return None;
        }
        if answer.status == 403 && self.passes_without_origin(seat).await {
            return Some(self.origin_refused(answer));
        }
        let (status, by, path) = (answer.status, self.who(answer), self.path);
        let asked = known::path_asked(&answer.body).filter(|asked| asked != path);
        let location = answer.field("location").unwrap_or_default();
        let finding = match (asked, leads_elsewhere) {
            _ if answer.status == 401 => self.worded(Code::EioUnauthorized, format!("polls of {path} reach the app, but a WebSocket handshake gets 401 ({by}): a login in front of the app covers WebSockets and not polls, or the app requires a token for WebSockets: exempt {path} from the login, or send the token"))
                .question("does the app's own log show the upgrade? Then the app refuses it; otherwise the login does"),
            _ if (300..400).contains(&answer.status) && known::is_login(location) => self.worded(Code::EioRedirected, format!("polls of {path} reach the app, but a WebSocket handshake is redirected to a login (`{}`): exempt WebSockets of the path from it as well", Excerpt::of(location))).word("location", Excerpt::of(location)),
            (Some(asked), _) => self.worded(Code::WsElsewhere, format!("polls reach the app at {path}, but the proxy's rule for WebSockets forwards `{}`: let both rules forward the same path", Excerpt::of(&asked))),
            (None, true) => self.worded(Code::WsElsewhere, format!("polls of {path} reach the app, but a WebSocket handshake at the same path gets {status} ({by}): the proxy's rule for WebSockets forwards to another path, port or Host than its rule for polls"))
                .question("is there a rule of its own for WebSockets (a RewriteRule, an ACL on Upgrade, a second route)? If not, the proxy cannot forward an upgrade"),
            (None, false) if self.has_no_backend(answer) => self.worded(Code::WsElsewhere, format!("polls of {path} reach the app, but the proxy has no working server for WebSockets ({status}, {by}): its rule for upgrades names another backend")),
            (None, false) => self.worded(Code::WsOff, format!("polls of {path} reach the app, but the proxy or platform in front of it refuses every WebSocket ({status}, {by}), with any Origin: WebSockets are disabled or forbidden there, or not supported")),
        };
        Some(finding.seen("the same without Upgrade", "Engine.IO itself answers: path and query arrive"))
    }

    /// Without `--origin`, a WebSocket without Origin has been tried already.
    async fn passes_without_origin(&self, seat: &Seat) -> bool {
        if self.options.origin.is_none() {
            return false;
        }
        self.without(Part::Origin).attempt(seat.eio, Style::PLAIN, None).await.works()
    }

    /// HAProxy's and Envoy's words.
    fn has_no_backend(&self, answer: &Answer) -> bool {
        ["No server is available", "no healthy upstream"].iter().any(|text| answer.body.contains(text))
    }

    /// Engine.IO answers `transport=websocket` without `Upgrade` with its "Bad request".
    async fn reaches_app_without_upgrade(&self, eio: Eio) -> bool {
        let ask = Ask::get(self.target(eio, self.path, "websocket", None)).with(&self.fields());
        let answer = self.connector.ask(&ask).await;
        answer.is_ok_and(|answer| engine_error(&answer).is_some_and(|error| error.code != 0))
    }

    fn no_upgrade(&self, answer: &Answer, seat: &Seat) -> Finding {
        let by = self.who(answer);
        let polls = seat.open.is_some();
        let refused = refused_field(&answer.fields, false);
        match (engine_error(answer).map(|error| error.code), answer.status) {
            (_, 101) if answer.field("upgrade").is_none() => self.worded(Code::WsAccept, format!("the 101 comes without `Upgrade: websocket` ({by}): the program in front of the app does not support WebSockets, or drops these fields")),
            (_, 101) if refused.is_some() => self.worded(Code::WsAccept, format!("the 101 {} ({by}): clients refuse it", refused.unwrap_or_default())),
            (_, 101) => self.worded(Code::WsAccept, "the 101 does not answer this handshake (Sec-WebSocket-Accept): a cache or a proxy generates it"),
            (Some(3), _) => self.worded(Code::WsUpgradeLost, "the proxy loses `Upgrade: websocket`, so the app sees a plain request: enable its WebSocket support (nginx: proxy_set_header Upgrade $http_upgrade)"),
            // Engine.IO never answers 200 to `transport=websocket`: another program serves the path.
            (_, 200) if !polls => self.strange_status(&Body::read(&answer.body), answer),
            (_, 200) => self.worded(Code::WsUpgradeLost, "the WebSocket handshake is answered like a plain request (200), because the proxy loses `Upgrade: websocket`: enable its WebSocket support (nginx: proxy_set_header Upgrade $http_upgrade)"),
            (Some(0), _) if polls => self.worded(Code::EioPollingOnly, "the server accepts polling only (`transports`), and the client asks for a WebSocket"),
            (Some(0), _) => self.worded(Code::EioTransportUnknown, "\"Transport unknown\": the query is lost on its way to the app, or the server accepts polling only")
                .question("does the same with --transport polling open a session? Then the server accepts polling only"),
            (Some(4), _) => self.worded(Code::EioForbidden, "the app itself refuses this client (its `allowRequest`)"),
            (Some(5), _) => self.engine_refusal(5, "", answer),
            _ if self.by_edge(answer).is_some() => self.strange_status(&Body::Other, answer),
            (None, 429 | 503) if answer.may_be_limit() => self.limited(answer),
            (None, 400) if packets::is_of_python(&answer.body) && polls => self.worded(Code::WsNoLibrary, "the Python server has no WebSocket support: it was started without a library for it (`pip install simple-websocket`, `websockets` for uvicorn), or its web server has no support"),
            (None, 500) if is_gunicorn(answer) => self
                .worded(Code::WsNoLibrary, "gunicorn fails on the WebSocket (500): its worker class does not support WebSockets (`-k gthread --threads 100`, or GeventWebSocketWorker instead of gevent)")
                .question("what does gunicorn's log say at the time of this run?"),
            (None, 500) if is_python(seat) => self
                .worded(Code::WsNoLibrary, "the Python server fails on the WebSocket (500): uvicorn was started without a library for it (`pip install 'uvicorn[standard]'`)")
                .question("does the server's log say `No supported WebSocket library detected`? If not, it says what fails"),
            (None, 400) if let Some(field) = handshake_field(answer) => self.worded(Code::WsUpgradeLost, format!("the app's WebSocket library refuses the field `{field}` of the handshake, which this client sent correctly: a proxy on the way changes it, or two proxies set it")),
            (None, 400) if says_origin(answer) => self.origin_refused(answer),
            (_, 403) if polls => self.worded(Code::WsForbidden, format!("polling works, but the WebSocket is refused (403, {by}): look for a rule about `Upgrade`, `transport=websocket` or Origin there"))
                .question("does the app's own log show the upgrade? Then the app checks the Origin; otherwise a rule of the proxy refuses"),
            (None, 400 | 426) if polls && answer.field("sec-websocket-version").is_some() => self.worded(Code::WsUpgradeLost, format!("the app's WebSocket library sees no handshake ({}, Sec-WebSocket-Version): a proxy on the way drops `Upgrade` or `Connection`, or uses HTTP/2 to the app, where they do not exist: let it use HTTP/1.1 for {}", answer.status, self.path)),
            (_, 426) => self.worded(Code::WsUpgradeRequired, "the server asks for the upgrade that the client sent (426): the proxy does not forward it"),
            (_, 500) if polls && known::read(answer, true).is_some_and(|(code, _)| code == Code::HttpError) => self.worded(Code::WsOff, "polls reach the app, but Apache itself fails on the WebSocket handshake (500): its module for WebSockets is missing: `a2enmod proxy_wstunnel`, then restart Apache (\"No protocol handler was valid\" in its error log)"),
            (_, 500) if polls => self.worded(Code::WsStatus, format!("polling works, but the WebSocket handshake fails (500, {by}) in a middleware that cannot handle an upgrade (compression, buffering, a cache), or the app: check both logs")),
            (_, status) if polls => self.worded(Code::WsStatus, format!("polling works, but the WebSocket handshake gets {status} ({by}) instead of 101: look for a rule there that matches upgrades")),
            _ => self.strange_status(&Body::read(&answer.body), answer),
        }
    }

    fn not_an_open_packet(&self, heard: Heard) -> Finding {
        match heard {
            Heard::Text(text) if !packets::looks_like_open(&text) => self.worded(Code::EioNotSocketio, "a WebSocket server answers that is not Socket.IO: its first message is not an open packet").seen("message", Excerpt::of(&text)),
            Heard::Text(text) => self.worded(Code::EioGarbled, "the first message of the WebSocket is not an Engine.IO open packet").seen("message", Excerpt::of(&text)),
            Heard::Closed(how) => self.worded(Code::WsCloses, "the WebSocket opens and is closed at once: check the log of the app").seen("closed", Excerpt::of(&how)),
            Heard::Cut(how) => self.cut_at_once(&how),
            Heard::Damaged(how) => self.damaged(&how),
            Heard::Http(line) => self.worded(Code::WsTwoServers, format!("a second response follows the 101 (`{}`): two WebSocket servers are attached to one HTTP server, and both answer", Excerpt::of(&line))),
            Heard::Unagreed | Heard::Compressed => self.worded(Code::WsExtension, "messages of the WebSocket are compressed, though its handshake did not agree on that: a proxy changes Sec-WebSocket-Extensions"),
            Heard::Nothing | Heard::Pong => self.worded(Code::WsSilent, "the WebSocket opens, but no frames arrive: a proxy on the way does not forward them").seen("waited", "4 s for the open packet"),
        }
    }

    /// An app that closes a session sends a Close frame.
    fn cut_at_once(&self, how: &str) -> Finding {
        let message = "the WebSocket opens (101), and its connection ends at once without a Close frame: another `upgrade` listener of the same HTTP server closes it (hot reload of Next.js, Vite or webpack, a second WebSocket server), or the app crashes";
        self.worded(Code::WsEnds, message)
            .question("is there an error in the app's log at the time of this run? Then the app fails; otherwise a second listener or a filter on the way closes the connection")
            .seen("seen", Excerpt::of(how))
    }

    pub(super) fn damaged(&self, how: &str) -> Finding {
        let message = "the WebSocket opens, but its frames are damaged: a program on the way changes them (the web filter of an antivirus program or a company, a proxy that compresses or rewrites responses)";
        let finding = self.worded(Code::WsDamaged, message).seen("seen", Excerpt::of(how));
        self.network_question(finding)
    }
}

/// The field of the handshake that npm's `ws` and others name in their refusal.
fn handshake_field(answer: &Answer) -> Option<&'static str> {
    let names = ["Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Extensions"];
    let named = names.into_iter().find(|name| answer.body.contains(name));
    named.or_else(|| answer.body.contains("Upgrade header").then_some("Upgrade"))
}

/// gunicorn's own error page; some of its workers send no Server field.
fn is_gunicorn(answer: &Answer) -> bool {
    answer.field("server").is_some_and(|server| server.starts_with("gunicorn"))
        || answer.body.contains("<h1><p>Internal Server Error</p></h1>")
}
