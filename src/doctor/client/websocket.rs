//! A WebSocket from the start, as different clients ask for it: which of them get one?

use hyper::header::{self, HeaderValue};

use super::origin::{Lost, says_origin, seen_by_the_app};
use super::{Client, PACKET_TIME, Seat};
use crate::doctor::ask::{Answer, Ask, Style};
use crate::doctor::check::{Finding, Section};
use crate::doctor::connection::{Place, Trouble};
use crate::doctor::explain::{Code, Group};
use crate::doctor::packets::{self, Eio, Open};
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
    pub(super) fn works(&self) -> bool {
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
                    None => match self.only_here(&failed, seat).await {
                        Some(finding) => finding,
                        None => self.no_websocket(failed, seat).await,
                    },
                };
                section.found(finding);
                (None, crashed)
            }
        }
    }

    /// Another address of the name opens a WebSocket: it leads to another server.
    async fn only_here(&self, failed: &Opening, seat: &Seat) -> Option<Finding> {
        let other = self.other.as_ref().filter(|_| seat.open.is_some())?;
        let there = Client { connector: other, other: None, jar: super::Jar::closed(), ..self.clone() };
        let Opening::Open(socket, _) = there.attempt(seat.eio, Style::PLAIN, None).await else { return None };
        socket.close(other).await;
        let (Place::Tcp(here), Place::Tcp(good)) = (&self.connector.place, &other.place) else { return None };
        let message = format!(
            "a WebSocket opens at {} and fails at {here}, both addresses of this name: compare the proxies at the two addresses, or remove {here} from the name's DNS records (localhost: let the server listen on 127.0.0.1 and ::1)",
            good.ip(),
            here = here.ip()
        );
        Some(
            self.worded(Code::NameAddressesDiffer, message)
                .seen("at the address that fails", Excerpt::of(&failed.told())),
        )
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
}

/// Of python-engineio it is known what it compares an Origin with.
pub(super) fn is_python(seat: &Seat) -> bool {
    seat.open.as_ref().is_some_and(|open| open.is_of_python)
}
