//! The polling handshake, and Engine.IO's errors in answer to it.

use super::websocket::Opening;
use super::{Client, Met, Seat, packets, silence};
use crate::doctor::ask::{Answer, Style};
use crate::doctor::check::{Finding, Section, Spoken};
use crate::doctor::explain::{Code, Group};
use crate::doctor::packets::{Eio, EngineError, Open};
use crate::excerpt::Excerpt;

/// With a longer heartbeat interval, nginx's default timeout of 60 s expires.
const PING_LONG_MS: u64 = 55_000;

impl Client<'_> {
    /// Checks the handshake and the POST after it; returns the session.
    pub(super) async fn handshake(&self, met: Met, seat: &mut Seat, section: &mut Section) -> Option<Open> {
        let met = self.once_more(met, section).await;
        match met {
            Met::Open(eio, open, answer) => self.opened(eio, open, &answer, seat, section).await,
            // python-engineio before 4 refuses what is not version 3.
            Met::Error(error, answer) if error.code == 5 && self.version() == Eio::V4 => {
                if let Met::Open(Eio::V3, open, answer) = self.meet(Eio::V3, self.path).await {
                    return self.opened(Eio::V3, open, &answer, seat, section).await;
                }
                self.refused(&error, &answer, section).await;
                None
            }
            Met::Error(error, answer) => {
                match self.refusal(&answer).await {
                    Some(finding) => section.found(finding),
                    None => self.refused(&error, &answer, section).await,
                }
                None
            }
            Met::Other(body, answer) => {
                let finding = self.strange(&body, &answer).await;
                section.found(finding);
                None
            }
            Met::Trouble(trouble) => {
                let finding = match self.elsewhere().await {
                    Some(finding) if trouble.is_silent() => finding,
                    _ => silence(&trouble, "polling handshake"),
                };
                section.found(finding);
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
        // Only Engine.IO 6 announces it.
        if eio == Eio::V3 && self.version() == Eio::V4 && open.max_payload.is_some() {
            let message = "the server answers in EIO=3 although this client sent EIO=4, which the server supports: the query parameter `EIO` is lost on the way to the app: let the proxy or CDN forward the whole query";
            section.found(self.answered(self.worded(Code::EioTransportUnknown, message), answer));
            return None;
        }
        if eio != self.version() {
            if self.options.eio == Some(4) {
                let message = "the server is Socket.IO 2.x: a client of 3.x or 4.x cannot connect to it";
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
        self.describe_session(eio, &open, section);
        if let Some(coding) = answer.coding() {
            let message = format!(
                "the answer to the handshake says `Content-Encoding: {coding}` and is not compressed: browsers cannot read it, Node and other programs can"
            );
            section.found(self.answered(self.worded(Code::EioGarbled, message), answer));
        }
        if let Some(what) = answer.refused_by_node() {
            let message = format!(
                "the response head {what}: clients in Node refuse it, browsers accept it: correct it in the app or in the proxy that writes it (too many fields: shorten cookies and Content-Security-Policy)"
            );
            section.found(self.worded(Code::HttpMalformed, message).seen("answered by", self.who(answer)));
        }
        self.cors(answer, section).await;
        self.mixed_content(section);
        self.post(eio, open, section).await
    }

    fn describe_session(&self, eio: Eio, open: &Open, section: &mut Section) {
        section.spoken = Some(Spoken {
            engineio: eio.number(),
            announces_max_payload: open.max_payload.is_some(),
            joined_after: None,
        });
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
                "the server is Socket.IO 2.x: clients of 3.x and 4.x cannot connect to it",
            ));
        }
        if open.ping_interval_ms > PING_LONG_MS {
            let message = format!(
                "the heartbeat comes only every {} s, and many proxies cut a connection that is idle for 60 s",
                open.ping_interval_ms / 1000
            );
            section.found(Finding::new(Code::EioPingLong, message));
        }
    }

    /// A page that was loaded over https may not connect over http (Mixed Content, §5.3).
    fn mixed_content(&self, section: &mut Section) {
        let Some(page) = self.options.origin.as_deref().filter(|page| page.starts_with("https://")) else {
            return;
        };
        if self.connector.tls.is_none() && !self.is_loopback() {
            let message = format!(
                "browsers forbid a page of `{page}` to connect to `{}`: give the server TLS, and connect over https",
                self.own_origin()
            );
            section.found(self.worded(Code::MixedContent, message));
        }
    }

    /// Browsers trust their own machine (Secure Contexts, §3.1).
    pub(in crate::doctor) fn is_loopback(&self) -> bool {
        let host = self.connector.authority.as_str();
        ["localhost", "127.", "[::1]"].iter().any(|own| host.starts_with(own))
    }

    /// An error of Engine.IO's own.
    async fn refused(&self, error: &EngineError, answer: &Answer, section: &mut Section) {
        let finding = match error.code {
            0 => match self.transport_unknown(answer, section).await {
                Some(finding) => finding,
                None => return,
            },
            code => self.engine_refusal(code, &error.message, answer),
        };
        let finding = if error.code == 4 { self.lost_field(finding) } else { finding };
        section.found(self.answered(finding, answer));
    }

    /// The meaning of Engine.IO's error numbers other than 0 in answer to a handshake.
    pub(super) fn engine_refusal(&self, code: u64, message: &str, answer: &Answer) -> Finding {
        match code {
            1 => self.worded(Code::EioSidUnknown, "\"Session ID unknown\" to a handshake: the request was changed on its way"),
            2 => self.worded(Code::EioBadMethod, "\"Bad handshake method\": the proxy changes the client's GET to another method: remove that rule"),
            3 => self.worded(Code::EioBadRequest, "\"Bad request\" from Engine.IO: the request was changed on its way"),
            4 => self.worded(Code::EioForbidden, format!("the app itself refuses this client (its `allowRequest`): {}", Excerpt::of(message))),
            5 if self.version() == Eio::V4 => {
                let by = if packets::is_of_python(&answer.body) { "python-engineio" } else { "the server" };
                self.worded(Code::EioTransportUnknown, format!("{by} does not see `EIO=4`, which this client sent: the query is lost on its way to the app"))
            }
            5 => self.worded(Code::EioProtocol, "the client is Socket.IO 2.x and the server 3.x or 4.x without `allowEIO3`: update the client"),
            code => self.worded(Code::EioStatus, format!("Engine.IO refuses with code {code}: {}", Excerpt::of(message))),
        }
    }

    /// The server accepts WebSockets only, or the query is lost: a WebSocket shows which.
    async fn transport_unknown(&self, answer: &Answer, section: &mut Section) -> Option<Finding> {
        let lost = "\"Transport unknown\": the query (`?EIO=4&transport=...`) is lost on its way to the app: look for a rewrite in the proxy (nginx: a path after the port in `proxy_pass`)";
        match self.attempt(self.version(), Style::PLAIN, None).await {
            Opening::Open(socket, open) => {
                let only = self.worded(Code::EioWebsocketOnly, "the server accepts WebSockets only, and clients begin by polling: give the client `transports: [\"websocket\"]`");
                section.found(self.answered(only, answer));
                section.passed(Group::Websocket, "a WebSocket from the start opens");
                let seat = Seat { eio: self.version(), open, origin: None };
                self.over_websocket(*socket, &seat, section).await;
                None
            }
            Opening::Answered(other) if super::engine_error(&other).is_none_or(|error| error.code != 0) => {
                let only = self.worded(Code::EioWebsocketOnly, "the server refuses polling, with which clients begin: give the client `transports: [\"websocket\"]`");
                Some(only.seen("WebSocket", other.shown()))
            }
            _ => Some(self.worded(Code::EioTransportUnknown, lost)),
        }
    }
}

impl Met {
    /// The answer, if one came.
    pub(crate) fn answer(&self) -> Option<&Answer> {
        match self {
            Self::Open(_, _, answer) | Self::Error(_, answer) | Self::Other(_, answer) => Some(answer),
            Self::Trouble(_) => None,
        }
    }
}
