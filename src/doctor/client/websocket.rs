//! WebSockets of Engine.IO: from the start, as an upgrade with its probe, the namespace, the wait.

use std::pin::pin;
use std::time::Duration;

use tokio::time::Instant;

use super::{Client, PACKET_TIME, Seat, describe, engine_error, looks_like_open, shown, silence};
use crate::doctor::check::{Finding, Section};
use crate::doctor::connection::Trouble;
use crate::doctor::engineio::{self, Body, Eio, Joined, Open, escape};
use crate::doctor::explain::{Code, Group};
use crate::doctor::http::{Answer, Ask, Heard, Socket};

/// A client without a namespace is sent away by Socket.IO itself after 45 s (`connectTimeout`).
const HOLD_WITHOUT_NAMESPACE: Duration = Duration::from_secs(40);

impl Client<'_> {
    pub(super) async fn websocket(
        &self,
        eio: Eio,
        sid: Option<&str>,
    ) -> Result<Result<Socket, Answer>, Trouble> {
        let ask = Ask::get(self.target(eio, self.path, "websocket", sid)).with(&self.fields);
        self.connector.websocket(ask).await
    }

    /// A WebSocket from the start.
    pub(super) async fn direct(&self, seat: &mut Seat, section: &mut Section) -> Option<Socket> {
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
        let by = self.who(answer);
        let finding = match (engine_error(answer).map(|error| error.code), answer.status) {
            (_, 101) => self.worded(Code::WsAccept, "the 101 does not answer this handshake (Sec-WebSocket-Accept): a cache or a proxy makes it up"),
            (Some(3), _) => self.worded(Code::WsUpgradeLost, "the proxy loses `Upgrade: websocket`, so that the app sees a plain request: switch on its WebSocket support (nginx: proxy_set_header Upgrade $http_upgrade)"),
            (_, 200) => self.worded(Code::WsUpgradeLost, "the WebSocket handshake is answered like a plain request (200), because the proxy loses `Upgrade: websocket`: switch on its WebSocket support (nginx: proxy_set_header Upgrade $http_upgrade)"),
            (Some(0), _) if seat.open.is_some() => self.worded(Code::EioPollingOnly, "the server takes polling only (`transports`), and the client asks for a WebSocket"),
            (Some(0), _) => self.worded(Code::EioTransportUnknown, "\"Transport unknown\": the query is lost on its way to the app, or the server takes polling only"),
            (Some(4), _) => self.worded(Code::EioForbidden, "the app itself refuses this client (its `allowRequest`)"),
            (Some(5), _) => self.worded(Code::EioProtocol, "the client is of Socket.IO 2.x and the server of 3.x or 4.x without `allowEIO3`"),
            _ if self.by_edge(answer).is_some() => self.strange_status(&Body::Other, answer),
            (_, 403) if seat.open.is_some() => self.worded(Code::WsForbidden, format!("polling works, and the WebSocket is refused (403, {by}): look for a rule about `Upgrade` or Origin there")),
            (_, 426) => self.worded(Code::WsUpgradeRequired, "the server asks for the upgrade that was sent (426): the proxy does not pass it on"),
            (_, status) if seat.open.is_some() => self.worded(Code::WsStatus, format!("polling works, and the WebSocket handshake gets {status} ({by}) instead of 101: look for a rule there that takes upgrades")),
            _ => self.strange_status(&Body::read(&answer.body), answer),
        };
        finding.seen("answered", shown(&answer.shown())).seen("answered by", by)
    }

    /// The open packet, which the server owes at once.
    pub(super) async fn first_packet(
        &self,
        mut socket: Socket,
        seat: &mut Seat,
        section: &mut Section,
    ) -> Option<Socket> {
        let finding = match socket.hear(self.connector, PACKET_TIME).await {
            Heard::Text(text) => match text.strip_prefix('0').and_then(engineio::open) {
                Some(open) => {
                    section.passed(Group::Websocket, "a WebSocket from the start opens");
                    seat.open.get_or_insert(open);
                    return Some(socket);
                }
                None if !looks_like_open(&text) => self.worded(Code::EioNotSocketio, "a WebSocket server answers that is not Socket.IO: its first message is no open packet").seen("message", shown(&text)),
                None => self.worded(Code::EioGarbled, "the first message of the WebSocket is no open packet of Engine.IO").seen("message", shown(&text)),
            },
            Heard::Closed(how) => self.worded(Code::WsCloses, "the WebSocket opens and is closed at once: look into the log of the app").seen("closed", shown(&how)),
            Heard::Nothing => self.worded(Code::WsSilent, "the WebSocket opens and nothing comes through it: a proxy on the way does not pass frames on").seen("waited", "4 s for the open packet"),
        };
        section.found(finding);
        None
    }

    /// From polling to a WebSocket, as every client does by default.
    pub(super) async fn change_over(
        &self,
        seat: &Seat,
        direct: bool,
        section: &mut Section,
    ) -> Option<Socket> {
        let open = seat.open.as_ref().filter(|_| self.options.transport.is_none() && direct)?;
        if !open.upgrades.iter().any(|name| name == "websocket") {
            section.skipped(Group::Websocket, "the server offers no upgrade from polling");
            self.leave(seat).await;
            return None;
        }
        // As a client does: a poll waits meanwhile, and the server ends it once it has heard the probe.
        let mut poll = pin!(self.poll(seat.eio, open));
        let mut polled = None;
        let probe = self.probe(seat.eio, open);
        let mut probe = pin!(probe);
        let probed = loop {
            tokio::select! {
                probed = &mut probe => break probed,
                answer = &mut poll, if polled.is_none() => polled = Some(answer),
            }
        };
        let said = match probed {
            Ok(Ok((mut socket, Heard::Text(text)))) if text == "3probe" => {
                let answer = match polled {
                    Some(answer) => answer,
                    None => poll.await,
                };
                self.judge_poll(answer, section);
                socket.say(self.connector, "5").await;
                section.passed(Group::Websocket, "a session changes over from polling to a WebSocket");
                return Some(socket);
            }
            Ok(Ok((_, heard))) => format!("{heard:?} to the probe"),
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
        let message = "a client that begins by polling cannot change over to the WebSocket: make the processes sticky, or begin with `transports: [\"websocket\"]`";
        section.found(self.worded(Code::WsProbe, message).seen("seen", shown(&said)));
        None
    }

    async fn probe(&self, eio: Eio, open: &Open) -> Result<Result<(Socket, Heard), Answer>, Trouble> {
        let mut socket = match self.websocket(eio, Some(&open.sid)).await? {
            Ok(socket) => socket,
            Err(answer) => return Ok(Err(answer)),
        };
        socket.say(self.connector, "2probe").await;
        let heard = socket.hear(self.connector, PACKET_TIME).await;
        Ok(Ok((socket, heard)))
    }

    /// A poll that waits for the app to say something.
    async fn poll(&self, eio: Eio, open: &Open) -> Result<Answer, Trouble> {
        let target = self.target(eio, self.path, "polling", Some(&open.sid));
        self.connector.ask(&Ask::get(target).with(&self.fields)).await
    }

    /// The server has ended it by now: does its answer arrive?
    fn judge_poll(&self, answer: Result<Answer, Trouble>, section: &mut Section) {
        let seen = match answer {
            Ok(answer) if answer.status == 200 => {
                let text = "a waiting poll is answered at once: nothing on the way holds answers back";
                section.passed(Group::Polling, text);
                return;
            }
            Ok(answer) => answer.shown(),
            Err(trouble) => describe(&trouble),
        };
        let message = "a poll that waits does not get its answer when the app has sent one: a proxy on the way holds it back (buffers)";
        section.found(self.worded(Code::EioPollHeld, message).seen("seen", shown(&seen)));
    }

    /// What is left: the namespace over one WebSocket, the wait on another.
    pub(super) async fn last(
        &self,
        direct: Option<Socket>,
        moved: Option<Socket>,
        seat: &Seat,
        section: &mut Section,
    ) {
        let (mut first, spare) = match (moved, direct) {
            (Some(moved), direct) => (moved, direct),
            (None, Some(direct)) => (direct, None),
            (None, None) => return,
        };
        if let Some(spare) = spare {
            spare.close(self.connector).await;
        }
        if let Some(namespace) = self.namespace {
            self.join(&mut first, namespace, seat.eio, section).await;
        }
        if let Some(time) = self.hold {
            self.holding(&mut first, time, seat, section).await;
        }
        first.close(self.connector).await;
    }

    async fn join(&self, socket: &mut Socket, namespace: &str, eio: Eio, section: &mut Section) {
        let query: Vec<String> =
            self.query.iter().map(|(key, value)| format!("{}={}", escape(key), escape(value))).collect();
        if eio == Eio::V4 || namespace != "/" {
            socket.say(self.connector, &eio.connect(namespace, &query.join("&"))).await;
        }
        let until = Instant::now() + PACKET_TIME;
        let finding = loop {
            match socket.hear(self.connector, until.saturating_duration_since(Instant::now())).await {
                Heard::Text(text) if text == "2" => socket.say(self.connector, "3").await,
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
                socket.say(self.connector, "2").await;
                last_ping = Instant::now();
            }
            match socket.hear(self.connector, next).await {
                Heard::Text(text) => {
                    last_heard = Instant::now();
                    heartbeats += u32::from(text == "2" || text == "3");
                    if text == "2" {
                        socket.say(self.connector, "3").await;
                    }
                }
                Heard::Closed(how) => {
                    let after = begin.elapsed().as_secs_f32();
                    let message = format!(
                        "the WebSocket was cut after {after:.0} s: a proxy on the way ends quiet connections: raise its time-out (nginx: proxy_read_timeout 1h)"
                    );
                    section.found(
                        self.worded(Code::WsCut, message)
                            .seen("closed", shown(&how))
                            .seen("heartbeats", heartbeats.to_string()),
                    );
                    return;
                }
                Heard::Nothing if last_heard.elapsed() > Duration::from_millis(patience) => {
                    let message = format!(
                        "no heartbeat within {:.1} s, which the server promised: is the app's event loop blocked?",
                        Duration::from_millis(patience).as_secs_f32()
                    );
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
}
