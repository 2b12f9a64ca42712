//! From polling to a WebSocket, as every client does by default.

use std::pin::pin;
use std::time::Duration;

use tokio::time::Instant;

use super::{Client, PACKET_TIME, Seat, describe, engine_error};
use crate::doctor::ask::{Answer, Style};
use crate::doctor::check::{Finding, Section};
use crate::doctor::connection::{ANSWER_TIME, Trouble};
use crate::doctor::explain::{Code, Group};
use crate::doctor::packets::{self, Open};
use crate::doctor::socket::{Heard, Socket};
use crate::excerpt::Excerpt;

/// Limit for the Pong, which every WebSocket library sends.
const PONG_TIME: Duration = Duration::from_secs(2);

impl Client<'_> {
    /// Meanwhile a poll waits, which the server answers once it has received the probe. After a failure: whether the poll was
    /// abandoned, and the session with it.
    pub(super) async fn change_over(
        &self,
        seat: &Seat,
        open: &Open,
        section: &mut Section,
    ) -> Result<Socket, bool> {
        let eio = seat.eio;
        let begin = Instant::now();
        // An abandoned poll ends its session, so its limit is longer than all steps of the WebSocket together.
        let mut poll = pin!(self.poll(eio, open, ANSWER_TIME + PACKET_TIME + PONG_TIME));
        let mut polled = None;
        let probe = self.probe(seat, open);
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
                    None => {
                        let left = ANSWER_TIME.saturating_sub(begin.elapsed()).max(PONG_TIME);
                        self.connector.in_time(left, poll).await.flatten()
                    }
                };
                // Answers a ping that came in the poll; otherwise the server ends the session.
                let pinged = answer
                    .as_ref()
                    .is_ok_and(|answer| packets::packets(eio, &answer.body).any(|packet| packet == "2"));
                self.judge_poll(open, answer, section).await;
                socket.say(self.connector, "5").await;
                if pinged {
                    socket.say(self.connector, "3").await;
                }
                section.passed(Group::Websocket, "a session upgrades from polling to a WebSocket");
                return Ok(socket);
            }
            Ok(Ok((mut socket, Heard::Nothing))) => {
                if !socket.answers_ping(self.connector, PONG_TIME).await {
                    section.found(self.one_way());
                    return Err(polled.is_none());
                }
                "nothing to the probe, and a Pong to a Ping".to_owned()
            }
            Ok(Ok((_, Heard::Damaged(how)))) => {
                section.found(self.damaged(&how));
                return Err(polled.is_none());
            }
            Ok(Ok((_, heard))) => format!("{heard:?} to the probe"),
            Ok(Err(answer)) if engine_error(&answer).is_some_and(|error| error.code == 1) => {
                let finding = self.turned_away(open, "upgrade", &answer).await;
                section.found(finding);
                return Err(polled.is_none());
            }
            Ok(Err(answer)) if answer.may_be_limit() => {
                section.found(self.answered(self.limited(&answer), &answer));
                return Err(polled.is_none());
            }
            Ok(Err(answer)) => answer.shown().into(),
            Err(trouble) => describe(&trouble),
        };
        let message = "a client that begins by polling cannot upgrade to a WebSocket: make sessions sticky, or begin with `transports: [\"websocket\"]`";
        section.found(self.worded(Code::WsProbe, message).seen("seen", Excerpt::of(&said)));
        Err(polled.is_none())
    }

    /// The open packet of another WebSocket arrived.
    fn one_way(&self) -> Finding {
        let message = "frames of the server arrive over a WebSocket, but frames of the client do not: a program on the way blocks them (an antivirus program, a company's filter, a proxy that buffers)";
        let finding = self
            .worded(Code::WsOneWay, message)
            .seen("sent", "the probe `2probe`, then a Ping; neither got an answer");
        self.network_question(finding)
    }

    async fn probe(&self, seat: &Seat, open: &Open) -> Result<Result<(Socket, Heard), Answer>, Trouble> {
        let mut socket =
            match self.websocket(seat.eio, Some(&open.sid), Style::PLAIN, seat.origin.as_deref()).await? {
                Ok(socket) => socket,
                Err(answer) => return Ok(Err(answer)),
            };
        socket.say(self.connector, "2probe").await;
        let heard = socket.hear(self.connector, PACKET_TIME).await;
        Ok(Ok((socket, heard)))
    }

    /// Whether the answer to the poll arrives, which the server has sent by now.
    async fn judge_poll(&self, open: &Open, answer: Result<Answer, Trouble>, section: &mut Section) {
        let finding = match answer {
            Ok(answer) if answer.status == 200 => {
                let text = "a waiting poll is answered at once: no proxy on the way delays answers";
                section.passed(Group::Polling, text);
                self.later_cors("GET", &answer, section);
                return;
            }
            Ok(answer) => self.turned_away(open, "GET", &answer).await,
            Err(trouble) if trouble.is_silent() => self.held(&describe(&trouble)),
            Err(trouble) => self
                .worded(Code::EioPollRefused, "a waiting poll is cut instead of answered: a proxy on the way closes it, or the app fails")
                .seen("seen", describe(&trouble)),
        };
        section.found(finding);
    }
}
