//! Checks over a working WebSocket: the namespace, and `--hold`.

use std::time::Duration;

use tokio::time::Instant;

use super::{Client, JOIN_TIME, Seat};
use crate::doctor::check::{Finding, Section};
use crate::doctor::explain::{Code, Group};
use crate::doctor::packets::{self, Eio, Joined};
use crate::doctor::socket::{Heard, Socket};
use crate::excerpt::Excerpt;

/// Socket.IO disconnects a client without a namespace after 45 s (`connectTimeout`).
const HOLD_WITHOUT_NAMESPACE: Duration = Duration::from_secs(40);

/// A client that is still in its namespace after this time counts as accepted.
const STAY_TIME: Duration = Duration::from_millis(500);

impl Client<'_> {
    pub(super) async fn over_websocket(&self, mut socket: Socket, seat: &Seat, section: &mut Section) {
        if let Some(namespace) = self.namespace {
            self.join(&mut socket, namespace, seat.eio, section).await;
        }
        if let Some(time) = self.hold {
            self.holding(&mut socket, time, seat, section).await;
        }
        socket.close(self.connector).await;
    }

    async fn join(&self, socket: &mut Socket, namespace: &str, eio: Eio, section: &mut Section) {
        let begin = Instant::now();
        if eio == Eio::V4 || namespace != "/" {
            socket.say(self.connector, &eio.connect(namespace, &self.query_text(), &self.auth_text())).await;
        }
        let until = begin + JOIN_TIME;
        let finding = loop {
            match socket.hear(self.connector, until.saturating_duration_since(Instant::now())).await {
                Heard::Text(text) if text == "2" => socket.say(self.connector, "3").await,
                Heard::Text(text) => match packets::joined(&text, namespace) {
                    Some(Joined::Yes) => {
                        let joined_after = begin.elapsed();
                        if let Some(finding) = self.thrown_out(socket, namespace).await {
                            break finding;
                        }
                        section.passed(Group::Namespace, format!("{namespace} is joined"));
                        if let Some(spoken) = &mut section.spoken {
                            spoken.joined_after = Some(joined_after);
                        }
                        return;
                    }
                    Some(Joined::No(why)) => break self.not_joined(namespace, &why),
                    None => {}
                },
                Heard::Closed(how) | Heard::Cut(how) => break self.worded(Code::NsRefused, format!("the app closes the connection when the client joins `{namespace}`")).question("does the server have a `parser` of its own (socket.io-msgpack-parser)? Then only a client with the same parser can join").seen("closed", Excerpt::of(&how)),
                _ => break self.worded(Code::NsSilent, format!("the app does not answer for the namespace `{namespace}` within 8 s: does a middleware never call next(), or take longer?")),
            }
        };
        section.found(finding.word("namespace", namespace));
    }

    /// An app may accept a client and disconnect it at once.
    async fn thrown_out(&self, socket: &mut Socket, namespace: &str) -> Option<Finding> {
        let until = Instant::now() + STAY_TIME;
        // An app may send without a pause.
        while Instant::now() < until {
            match socket.hear(self.connector, until.saturating_duration_since(Instant::now())).await {
                Heard::Text(text) if text == "2" => socket.say(self.connector, "3").await,
                Heard::Text(text) if packets::leaves(&text, namespace) => {
                    return Some(self.left_again(namespace));
                }
                Heard::Text(_) => {}
                Heard::Closed(how) | Heard::Cut(how) => {
                    let message = format!(
                        "the app accepts the client in `{namespace}`, and the connection ends at once: its `connection` handler closes it, or fails"
                    );
                    return Some(
                        self.worded(Code::NsRefused, message)
                            .question("does the app's log show an error or a restart at the time of this run? If not, the handler disconnects this client")
                            .seen("closed", Excerpt::of(&how)),
                    );
                }
                _ => return None,
            }
        }
        None
    }

    pub(super) fn left_again(&self, namespace: &str) -> Finding {
        let message = format!(
            "the app accepts the client in `{namespace}` and disconnects it at once (`socket.disconnect()`, \"io server disconnect\" at the client): its `connection` handler has the reason, such as a missing token"
        );
        self.lost_field(self.worded(Code::NsRefused, message))
    }

    /// python-socketio refuses an unknown namespace with its own text.
    pub(super) fn not_joined(&self, namespace: &str, why: &str) -> Finding {
        let finding = if why == "Invalid namespace" {
            self.worded(Code::NsUnknown, format!("the app has no namespace `{namespace}`: io.of(\"{namespace}\") is missing, or a path was meant"))
        } else if why == "Unable to connect" {
            self.worded(Code::NsUnknown, format!("the Python app has no namespace `{namespace}`: a handler with `namespace=\"{namespace}\"` is missing, or a path was meant"))
        } else {
            let message = format!("the app refuses the namespace `{namespace}`: {}", Excerpt::of(why));
            let finding = self.lost_field(self.worded(Code::NsRefused, message));
            if self.options.auth.is_empty() {
                finding.question(
                    "does your client send `auth` (a token)? This run did not: --auth KEY=VALUE sends it",
                )
            } else {
                finding
            }
        };
        finding.word("namespace", namespace)
    }

    /// Keeps a WebSocket open and answers heartbeats, to see whether it is cut.
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
                Heard::Closed(how) | Heard::Cut(how) | Heard::Damaged(how) => {
                    section.found(self.cut(begin.elapsed(), &how, heartbeats));
                    return;
                }
                _ if last_heard.elapsed() > Duration::from_millis(patience) => {
                    let message = format!(
                        "no heartbeat within {:.1} s, the interval that the server announced: is the app's event loop blocked?",
                        Duration::from_millis(patience).as_secs_f32()
                    );
                    section.found(self.worded(Code::WsHeartbeat, message));
                    return;
                }
                _ => {}
            }
        }
        section.passed(Group::Websocket, format!("held for {} s, {heartbeats} heartbeats", time.as_secs()));
        if cut_short {
            section.skipped(Group::Websocket, "not held longer: Socket.IO disconnects a client without a namespace after 45 s; give --namespace /");
        }
    }

    fn cut(&self, after: Duration, how: &str, heartbeats: u32) -> Finding {
        let after = after.as_secs_f32();
        let finding = if heartbeats == 0 {
            self.worded(Code::WsCut, format!("the WebSocket was cut after {after:.0} s: a proxy on the way closes idle connections: raise its timeout (nginx: proxy_read_timeout 1h)"))
        } else {
            // Earlier, it stayed open during an equally long silence.
            self.worded(Code::WsLifetime, format!("the WebSocket was cut after {after:.0} s although heartbeats arrived: a proxy on the way closes connections of a certain age, or the app restarts"))
                .question("is it cut after the same time at every attempt? Then the cause is its age; otherwise a program restarts")
        };
        finding.seen("closed", Excerpt::of(how)).seen("heartbeats", heartbeats.to_string())
    }
}
