//! A WebSocket from the start, as different clients ask for it: which of them get one?

use hyper::header::{self, HeaderValue};

use super::origin::{Lost, says_origin, seen_by_the_app};
use super::{Client, PACKET_TIME, Seat, describe, engine_error, silence};
use crate::doctor::ask::{Answer, Ask, Style};
use crate::doctor::check::{Finding, Section};
use crate::doctor::connection::Trouble;
use crate::doctor::explain::{Code, Group};
use crate::doctor::packets::{self, Body, Eio, Open};
use crate::doctor::socket::{Heard, Socket};
use crate::excerpt::Excerpt;

/// How a WebSocket from the start began.
pub(super) enum Opening {
    /// With an open packet, where it could be read: a compressed one is one as well.
    Open(Box<Socket>, Option<Open>),
    /// Another answer than 101, or a 101 for somebody else.
    Answered(Answer),
    /// It opened, and its first message is not an open packet.
    Heard(Heard),
    Trouble(Trouble),
}

impl Opening {
    fn works(&self) -> bool {
        matches!(self, Self::Open(..))
    }

    fn is_silent(&self) -> bool {
        matches!(self, Self::Trouble(Trouble::Silent | Trouble::TimeUp) | Self::Heard(Heard::Nothing))
    }

    fn told(&self) -> String {
        match self {
            Self::Open(..) => "opens".to_owned(),
            Self::Answered(answer) => answer.shown().into(),
            Self::Heard(heard) => format!("{heard:?}"),
            Self::Trouble(trouble) => trouble.to_string(),
        }
    }
}

impl Client<'_> {
    pub(super) async fn websocket(
        &self,
        eio: Eio,
        sid: Option<&str>,
        style: Style,
        origin: Option<&str>,
    ) -> Result<Result<Socket, Answer>, Trouble> {
        let mut ask = Ask::get(self.target(eio, self.path, "websocket", sid)).with(&self.fields());
        ask.fields.extend(
            origin.and_then(|origin| HeaderValue::from_str(origin).ok()).map(|o| (header::ORIGIN, o)),
        );
        self.connector.websocket(ask, style).await
    }

    /// One try; `origin` is that of a page of this host, where the user named none.
    pub(super) async fn attempt(&self, eio: Eio, style: Style, origin: Option<&str>) -> Opening {
        let mut socket = match self.websocket(eio, None, style, origin).await {
            Ok(Ok(socket)) => socket,
            Ok(Err(answer)) => return Opening::Answered(answer),
            Err(trouble) => return Opening::Trouble(trouble),
        };
        match socket.hear(self.connector, PACKET_TIME).await {
            Heard::Compressed => Opening::Open(Box::new(socket), None),
            Heard::Text(text) => match text.strip_prefix('0').and_then(packets::open) {
                Some(open) => {
                    self.connector.journal.hide_sid(&open.sid, &packets::escape(&open.sid));
                    Opening::Open(Box::new(socket), Some(open))
                }
                None => Opening::Heard(Heard::Text(text)),
            },
            heard => Opening::Heard(heard),
        }
    }

    /// A WebSocket from the start: as Firefox on a page of this host asks, and where that fails, as others do.
    /// Also whether the server ended on it.
    pub(super) async fn direct(&self, seat: &mut Seat, section: &mut Section) -> (Option<Socket>, bool) {
        let own = self.own_origin();
        let origin = self.options.origin.is_none().then_some(own.as_str());
        let first = self.attempt(seat.eio, Style::FIREFOX, origin).await;
        let mut page = false;
        let (opening, finding) = match first {
            first if first.works() => {
                page = true;
                (first, None)
            }
            first @ Opening::Heard(Heard::Http(_)) => (first, None),
            first if first.is_silent() => self.less(first, Style::PLAIN, seat, None).await,
            first => match self.attempt(seat.eio, Style::CHROME, None).await {
                chrome if chrome.works() => {
                    let finding = self.firefox_or_origin(&first, origin, seat, section).await;
                    (chrome, finding)
                }
                _ => self.less(first, Style::PLAIN, seat, None).await,
            },
        };
        if let Some(finding) = finding {
            section.found(finding);
        }
        match opening {
            Opening::Open(socket, open) => {
                section.passed(Group::Websocket, "a WebSocket from the start opens");
                seat.open = seat.open.take().or(open);
                seat.origin = origin.filter(|_| page).map(str::to_owned);
                (Some(*socket), false)
            }
            failed => {
                let crashed = matches!(failed, Opening::Trouble(Trouble::Connect(_)));
                let finding = match self.own_page_of(&failed, seat).await {
                    Some(finding) => finding,
                    None => self.no_websocket(failed, seat),
                };
                section.found(finding);
                (None, crashed)
            }
        }
    }

    /// With `--origin` of this very host, and polls of it are taken.
    async fn own_page_of(&self, failed: &Opening, seat: &Seat) -> Option<Finding> {
        let Opening::Answered(answer) = failed else { return None };
        let page = self.options.origin.as_deref().filter(|page| *page == self.own_origin())?;
        let refuses_origin = says_origin(answer) || answer.status == 403 && is_python(seat);
        if !refuses_origin {
            return None;
        }
        let lost = self.lost_of(page, seat.eio).await?;
        Some(self.answered(self.forwarded(lost, page), answer))
    }

    /// The same without the offer of compression; a finding where only that works.
    async fn less(
        &self,
        first: Opening,
        style: Style,
        seat: &Seat,
        origin: Option<&str>,
    ) -> (Opening, Option<Finding>) {
        let plain = self.attempt(seat.eio, style, origin).await;
        if !plain.works() {
            return (plain, None);
        }
        let dropped = matches!(first, Opening::Heard(Heard::Unagreed));
        let message = if dropped {
            "a proxy drops the answer to permessage-deflate (Sec-WebSocket-Extensions), so browsers and Node close the WebSocket at the first compressed message; clients that offer no compression (Python, Swift, microcontrollers) work"
        } else {
            "the WebSocket handshake fails if it offers permessage-deflate (Sec-WebSocket-Extensions), as browsers and Node do; clients that offer no compression (Python, Swift, microcontrollers) work"
        };
        let finding =
            self.worded(Code::WsExtension, message).seen("with the offer", Excerpt::of(&first.told()));
        (plain, Some(finding))
    }

    /// The handshake of Node passes, that of Firefox on a page of this host does not: by its Connection, or its Origin?
    async fn firefox_or_origin(
        &self,
        first: &Opening,
        origin: Option<&str>,
        seat: &Seat,
        section: &mut Section,
    ) -> Option<Finding> {
        let Some(own) = origin else { return Some(self.connection_list(first)) };
        let page = self.attempt(seat.eio, Style::CHROME, Some(own)).await;
        let refused = match page {
            Opening::Open(socket, _) => {
                socket.close(self.connector).await;
                return Some(self.connection_list(first));
            }
            Opening::Answered(answer) => answer,
            _ => return None,
        };
        // python-engineio compares with scheme and host of the request as it sees them.
        // A page of the same host without the port may be the one that is meant.
        if is_python(seat)
            && let Some(lost @ (Lost::WebsocketScheme | Lost::Scheme)) = self.lost_of(own, seat.eio).await
        {
            return Some(self.answered(self.forwarded(lost, own), &refused));
        }
        section.unknown(
            Group::Websocket,
            format!(
                "a page of `{own}` itself would be refused ({}), and python-socketio, which sends this Origin with WebSockets, stays on polling: this is right if your page is elsewhere; give its address with --origin",
                refused.shown()
            ),
        );
        None
    }

    /// Which origin the app takes for that of a page of this host, where it refuses the page's.
    async fn lost_of(&self, own: &str, eio: Eio) -> Option<Lost> {
        let wss = own.replacen("http", "ws", 1);
        for (lost, seen) in [(Lost::WebsocketScheme, wss)].into_iter().chain(seen_by_the_app(own)) {
            let Some(page) = self.as_page_of(&seen) else { continue };
            if page.attempt(eio, Style::CHROME, None).await.works() {
                return Some(lost);
            }
        }
        None
    }

    fn connection_list(&self, first: &Opening) -> Finding {
        let message = "Firefox gets no WebSocket; other clients do: a rule of the proxy matches only `Connection: Upgrade`, not `keep-alive, Upgrade`";
        self.worded(Code::WsConnectionList, message).seen("as Firefox", Excerpt::of(&first.told()))
    }

    /// Once more, for a wait over it: without compression, which this client does not read.
    pub(super) async fn plain_websocket(&self, seat: &mut Seat) -> Option<Socket> {
        match self.attempt(seat.eio, Style::PLAIN, seat.origin.clone().as_deref()).await {
            Opening::Open(socket, open) => {
                seat.open = seat.open.take().or(open);
                Some(*socket)
            }
            _ => None,
        }
    }

    fn no_websocket(&self, opening: Opening, seat: &Seat) -> Finding {
        match opening {
            Opening::Answered(answer) => self.answered(self.no_upgrade(&answer, seat), &answer),
            Opening::Heard(heard) => self.not_an_open_packet(heard),
            Opening::Trouble(trouble) if seat.open.is_none() => silence(&trouble, "WebSocket handshake"),
            Opening::Trouble(trouble) => self.no_answer(&trouble),
            Opening::Open(..) => self.worded(Code::WsStatus, "the WebSocket opens now and did not before"),
        }
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
            _ if self.is_loopback() => finding,
            _ => finding.question("does it work from another network, such as a phone's? Then a filter on this network blocks it; otherwise the server's proxy does"),
        };
        finding.seen("seen", describe(trouble))
    }

    fn no_upgrade(&self, answer: &Answer, seat: &Seat) -> Finding {
        let by = self.who(answer);
        let polls = seat.open.is_some();
        match (engine_error(answer).map(|error| error.code), answer.status) {
            (_, 101) if answer.field("upgrade").is_none() => self.worded(Code::WsAccept, format!("the 101 comes without `Upgrade: websocket` ({by}): the program in front of the app does not support WebSockets, or drops these fields")),
            (_, 101) => self.worded(Code::WsAccept, "the 101 does not answer this handshake (Sec-WebSocket-Accept): a cache or a proxy generates it"),
            (Some(3), _) => self.worded(Code::WsUpgradeLost, "the proxy loses `Upgrade: websocket`, so the app sees a plain request: enable its WebSocket support (nginx: proxy_set_header Upgrade $http_upgrade)"),
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
            (None, 400) if says_origin(answer) => self.origin_refused(answer),
            (_, 403) if polls => self.worded(Code::WsForbidden, format!("polling works, but the WebSocket is refused (403, {by}): look for a rule about `Upgrade` or Origin there"))
                .question("does the app's own log show the upgrade? Then the app checks the Origin; otherwise a rule of the proxy refuses"),
            (None, 400 | 426) if polls && answer.field("sec-websocket-version").is_some() => self.worded(Code::WsUpgradeLost, format!("the app's WebSocket library sees no handshake ({}, Sec-WebSocket-Version): a proxy on the way drops `Upgrade` or `Connection`, or uses HTTP/2 to the app, where they do not exist: let it use HTTP/1.1 for {}", answer.status, self.path)),
            (_, 426) => self.worded(Code::WsUpgradeRequired, "the server asks for the upgrade that the client sent (426): the proxy does not forward it"),
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
            Heard::Http(line) => self.worded(Code::WsTwoServers, format!("a second response follows the 101 (`{}`): two WebSocket servers are attached to one HTTP server, and both answer", Excerpt::of(&line))),
            Heard::Unagreed | Heard::Compressed => self.worded(Code::WsExtension, "messages of the WebSocket are compressed, though its handshake did not agree on that: a proxy changes Sec-WebSocket-Extensions"),
            Heard::Nothing => self.worded(Code::WsSilent, "the WebSocket opens, but no frames arrive: a proxy on the way does not forward them").seen("waited", "4 s for the open packet"),
        }
    }
}

/// Of python-engineio it is known what it compares an Origin with.
fn is_python(seat: &Seat) -> bool {
    seat.open.as_ref().is_some_and(|open| open.is_of_python)
}

/// gunicorn's own page of an error; some of its workers send no Server.
fn is_gunicorn(answer: &Answer) -> bool {
    answer.field("server").is_some_and(|server| server.starts_with("gunicorn"))
        || answer.body.contains("<h1><p>Internal Server Error</p></h1>")
}
