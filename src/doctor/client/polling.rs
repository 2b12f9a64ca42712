//! Polling as a client does it: it sends by POST and receives by GET.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{Client, JOIN_TIME, Met, PACKET_TIME, Seat, describe, engine_error};
use crate::doctor::ask::{Answer, Ask};
use crate::doctor::check::{Finding, Section};
use crate::doctor::connection::Trouble;
use crate::doctor::explain::{Code, Group};
use crate::doctor::packets::{self, Body, Eio, Joined, Open};
use crate::excerpt::Excerpt;

/// Limit for the answer to a noop; then a heartbeat is tried.
const NOOP_TIME: Duration = Duration::from_secs(1);
/// Polls for one answer: the server may send other packets first.
const POLLS_MAX: usize = 4;
/// Shortest wait of a poll at the end of a hold.
const SHORT_POLL_TIME: Duration = Duration::from_millis(200);
/// Time without an answer before a second namespace is requested.
const SECOND_TIME: Duration = Duration::from_millis(2_500);
/// A namespace that no app has: its refusal shows that answers arrive.
const NO_NAMESPACE: &str = "/sanedge-doctor";

/// The result of a poll that waits for a namespace.
enum Polled {
    Joined(Joined, Answer),
    /// An answer that is not Engine.IO's.
    Turned(Answer),
    Failed(Trouble),
    /// Polls are answered, but without the expected packet.
    Nothing,
}

impl Client<'_> {
    /// Sends a POST without effect; returns the session if it is still usable.
    pub(super) async fn post(&self, eio: Eio, open: Open, section: &mut Section) -> Option<Open> {
        let session = open.clone();
        let mut noop = pin!(self.deliver(eio, &session, eio.noop()));
        let said = match timeout(NOOP_TIME, &mut noop).await {
            Ok(said) => said,
            Err(_) => match self.heartbeat(eio).await {
                Ok((fresh, answer)) => {
                    self.taken(&answer, section);
                    return Some(fresh);
                }
                Err(Some(turned)) => Ok(turned),
                Err(None) => noop.await,
            },
        };
        let finding = match said {
            Ok(answer) if is_taken(&answer) => {
                self.taken(&answer, section);
                return Some(open);
            }
            Ok(answer) => {
                // Engine.IO's own errors, and a proxy's, do not depend on the packet.
                let refuses_noop = answer.status == 400 && engine_error(&answer).is_none();
                if refuses_noop && let Ok((fresh, answer)) = self.heartbeat(eio).await {
                    self.taken(&answer, section);
                    return Some(fresh);
                }
                match self.hidden_error(&answer).await {
                    Some(finding) => finding,
                    None => self.turned_away(&open, "POST", &answer).await,
                }
            }
            Err(trouble @ Trouble::Closed) => self
                .worded(
                    Code::EioPostRefused,
                    "the connection is closed at a POST on the session: a proxy or filter refuses POST (nginx: `return 444`), or the app fails on it",
                )
                .question("does the app's log show an error at the time of this run? If not, the proxy refuses")
                .seen("seen", describe(&trouble)),
            Err(trouble) => self
                .worded(
                    Code::EioPostLost,
                    "the handshake works, but a POST on its session gets no answer: does a body parser in front of Socket.IO read it?",
                )
                .seen("seen", describe(&trouble)),
        };
        section.found(finding);
        None
    }

    /// Engine.IO's 400 to an unknown session, where a proxy replaces its text: that to a made-up session is the same.
    async fn hidden_error(&self, answer: &Answer) -> Option<Finding> {
        if answer.status != 400 || engine_error(answer).is_some() || answer.body.is_empty() {
            return None;
        }
        let target = self.target(self.version(), self.path, "polling", Some("sanedge-doctor"));
        let made_up = self.connector.ask(&Ask::get(target).with(&self.fields())).await.ok()?;
        if made_up.status != answer.status || made_up.body != answer.body {
            return None;
        }
        let message = "a POST on the session gets the same 400 as one of a session that does not exist, and a proxy replaces the app's text: the request reached another process than the handshake: make sessions sticky, or run one process";
        Some(
            self.answered(self.worded(Code::EioSidUnknown, message), answer)
                .question("does more than one process of the app run? If not, see what the app answers: the proxy replaces it (nginx: proxy_intercept_errors)"),
        )
    }

    fn taken(&self, answer: &Answer, section: &mut Section) {
        section.passed(Group::Polling, "POST on the session works");
        self.later_cors("POST", answer, section);
    }

    pub(super) async fn deliver(
        &self,
        eio: Eio,
        open: &Open,
        body: impl Into<String>,
    ) -> Result<Answer, Trouble> {
        let target = self.target(eio, self.path, "polling", Some(&open.sid));
        self.connector.ask(&Ask::post(target, body).with(&self.fields())).await
    }

    /// Sends a heartbeat on a new session, which has as little effect as a noop. Some servers want it: socketioxide refuses a noop, and
    /// python-engineio ends its session and waits for a poll before it answers.
    /// If it is refused: the answer.
    async fn heartbeat(&self, eio: Eio) -> Result<(Open, Answer), Option<Answer>> {
        let Met::Open(_, fresh, _) = self.meet(eio, self.path).await else { return Err(None) };
        match self.deliver(eio, &fresh, eio.heartbeat()).await {
            Ok(answer) if is_taken(&answer) => Ok((fresh, answer)),
            Ok(answer) => Err(Some(answer)),
            Err(_) => Err(None),
        }
    }

    /// Reports an answer to a POST or a waiting GET that does not belong to the session.
    pub(super) async fn turned_away(&self, open: &Open, method: &str, answer: &Answer) -> Finding {
        let error = engine_error(answer).map(|error| error.code);
        let finding = match (error, answer.status) {
            _ if self.by_edge(answer).is_some() => self.strange_status(&Body::Other, answer),
            (Some(1), _) => self.session_unknown(open).await,
            (_, 413) => self.worded(Code::EioPostTooLarge, "the proxy refuses even a tiny POST as too large (413): raise its limit for bodies"),
            // Engine.IO's answer to a POST without `sid`.
            (Some(2), _) if method == "POST" => self.worded(Code::EioTransportUnknown, "the handshake works, but the query parameter `sid` (the session) is lost on the way to the app: let the proxy or CDN forward the whole query"),
            (None, 400 | 403 | 419) if method == "POST" && answer.body.to_ascii_lowercase().contains("csrf") => self.worded(Code::EioPostRefused, format!("a protection of the app against CSRF refuses POST ({}), with which polling clients send: exempt {} from it", answer.status, self.path)),
            (None, 401 | 403 | 405 | 406 | 415 | 501) if method == "POST" => self.worded(Code::EioPostRefused, format!("the proxy allows GET and refuses POST ({}), with which polling clients send: allow it there", answer.status)),
            (None, 429 | 503) if answer.may_be_limit() || answer.status == 429 => self.limited(answer),
            (None, 502..=504) => self.strange_status(&Body::Other, answer),
            (None, status @ 201..=299) => {
                let code = if method == "GET" { Code::EioPollRefused } else { Code::EioPostLost };
                self.worded(code, format!("the answer to a {method} of the session has the status {status}: a proxy changes it from 200, and clients accept no other"))
            }
            (None, status) if method == "GET" => self.worded(Code::EioPollRefused, format!("the handshake works, but a waiting poll on its session does not ({status}): check the log of the server that answered")),
            (_, status) => self.worded(Code::EioPostLost, format!("the handshake works, but a POST on its session does not ({status}): check the log of the server that answered")),
        };
        self.answered(finding, answer)
    }

    /// There are two causes: a cache returned another client's handshake, or the request reached another process.
    async fn session_unknown(&self, open: &Open) -> Finding {
        if let Met::Open(_, other, answer) = self.meet(self.version(), self.path).await
            && other.sid == open.sid
        {
            return self.cached(&answer);
        }
        self.worded(Code::EioSidUnknown, "\"Session ID unknown\": the second request reached another process than the handshake: make sessions sticky, or run one process")
            .question("is more than one process of the app running (pm2 -i, gunicorn -w, replicas)? With one, check whether it restarts, or whether a rule of the proxy writes the URL in lower case")
    }

    pub(super) fn cached(&self, answer: &Answer) -> Finding {
        let message = "two handshakes got the same session: a cache answers instead of the app: disable it for this path";
        let age = answer.field("age").or(answer.field("x-cache")).unwrap_or_default().to_owned();
        self.worded(Code::EioCached, message).seen("cache says", age)
    }

    /// Reports a refusal of one of the requests that every client sends at once.
    pub(super) fn limited(&self, answer: &Answer) -> Finding {
        let message = format!(
            "a limit of the proxy or the app refuses a client's first requests ({}, {}): raise it for {}, where every client makes five requests at once",
            answer.status,
            self.who(answer),
            self.path
        );
        self.worded(Code::HttpLimited, message)
    }

    /// A session that only polls: CONNECT by POST, its answer by a waiting GET. False if it does not work.
    pub(super) async fn only_polls(&self, seat: &Seat, section: &mut Section) -> bool {
        let Some(open) = &seat.open else { return false };
        let works = self.polls(seat.eio, open, section).await;
        if let (true, Some(time)) = (works, self.hold) {
            self.hold_polling(seat.eio, open, time, section).await;
        }
        self.leave(seat).await;
        works
    }

    pub(super) async fn polls(&self, eio: Eio, open: &Open, section: &mut Section) -> bool {
        let namespace = self.namespace.unwrap_or("/");
        // A server of 2.x sends the CONNECT of `/` unasked: there, the poll waits for the answer to a heartbeat.
        let greets = eio == Eio::V3 && namespace == "/";
        let packet = if greets {
            eio.heartbeat().to_owned()
        } else {
            eio.framed(&eio.connect(namespace, &self.query_text(), &self.auth_text()))
        };
        let (posted, polled) =
            tokio::join!(self.deliver(eio, open, packet), self.poll_with_a_second(eio, open, namespace),);
        match posted {
            Ok(answer) if !is_taken(&answer) => {
                section.found(self.turned_away(open, "POST", &answer).await);
                return false;
            }
            Err(trouble) if !matches!(polled, Polled::Joined(..)) => {
                section.found(super::silence(&trouble, "POST on the session"));
                return false;
            }
            _ => {}
        }
        match polled {
            Polled::Joined(joined, answer) => {
                self.later_cors("GET", &answer, section);
                if self.namespace.is_some()
                    && packets::packets(eio, &answer.body).any(|packet| packets::leaves(packet, namespace))
                {
                    section.found(self.left_again(namespace).word("namespace", namespace));
                    return false;
                }
                self.judge_polled(joined, namespace, section)
            }
            Polled::Turned(answer) => {
                section.found(self.turned_away(open, "GET", &answer).await);
                false
            }
            Polled::Failed(trouble) if !trouble.is_silent() => {
                let message = "a waiting poll is cut instead of answered: a proxy on the way closes it, or the app fails";
                section.found(self.worded(Code::EioPollRefused, message).seen("seen", describe(&trouble)));
                false
            }
            Polled::Failed(trouble) => {
                section.found(self.held(&describe(&trouble)));
                false
            }
            Polled::Nothing if self.namespace.is_none() => {
                section.unknown(
                    Group::Polling,
                    "polls are answered, but the app does not answer a client of `/`",
                );
                true
            }
            Polled::Nothing => {
                let message = format!(
                    "the app does not answer for the namespace `{namespace}` within 8 s: does a middleware never call next(), or take longer?"
                );
                section.found(self.worded(Code::NsSilent, message).word("namespace", namespace));
                false
            }
        }
    }

    /// Silence has two causes: the app does not answer for the namespace, or a proxy holds the answer back. While the poll still waits, a
    /// second namespace is requested, which no app has and every app refuses.
    async fn poll_with_a_second(&self, eio: Eio, open: &Open, namespace: &str) -> Polled {
        let mut polled = pin!(self.poll_for(eio, open, namespace));
        match timeout(SECOND_TIME, &mut polled).await {
            Ok(polled) => polled,
            Err(_) => {
                let second = eio.framed(&eio.connect(NO_NAMESPACE, "", ""));
                let (_, polled) = tokio::join!(self.deliver(eio, open, second), polled);
                polled
            }
        }
    }

    fn judge_polled(&self, joined: Joined, namespace: &str, section: &mut Section) -> bool {
        section.passed(Group::Polling, "a waiting poll gets its answer: no proxy on the way delays answers");
        match joined {
            Joined::Yes => section.passed(Group::Namespace, format!("{namespace} is joined with polling, and left again")),
            Joined::No(why) if self.namespace.is_some() => {
                section.found(self.not_joined(namespace, &why));
                return false;
            }
            Joined::No(why) => section.unknown(
                Group::Namespace,
                format!("the app answers a client without a login on `/` with: {} (--namespace, --query, --cookie and --header send what yours sends)", Excerpt::of(&why)),
            ),
        }
        true
    }

    /// Polls until the namespace answers.
    async fn poll_for(&self, eio: Eio, open: &Open, namespace: &str) -> Polled {
        let until = Instant::now() + if self.namespace.is_some() { JOIN_TIME } else { PACKET_TIME };
        let mut arrives = false;
        for _ in 0..POLLS_MAX {
            let time = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(100));
            match self.poll(eio, open, time).await {
                Err(trouble) if arrives && trouble.is_silent() => return Polled::Nothing,
                Err(trouble) => return Polled::Failed(trouble),
                Ok(answer) if answer.status != 200 => return Polled::Turned(answer),
                Ok(answer) => {
                    for packet in packets::packets(eio, &answer.body) {
                        if let Some(joined) = packets::joined(packet, namespace) {
                            return Polled::Joined(joined, answer.clone());
                        }
                        if packets::joined(packet, NO_NAMESPACE).is_some() {
                            // The app may ask a database first.
                            arrives = true;
                            if self.namespace.is_none() {
                                return Polled::Nothing;
                            }
                        }
                        match packet {
                            "3" if eio == Eio::V3 && namespace == "/" => {
                                return Polled::Joined(Joined::Yes, answer.clone());
                            }
                            "2" => drop(self.deliver(eio, open, eio.heartbeat()).await),
                            _ => {}
                        }
                    }
                }
            }
        }
        Polled::Nothing
    }

    pub(super) fn held(&self, seen: &str) -> Finding {
        let message =
            "a waiting poll does not get the answer that the app has sent: a proxy on the way buffers it";
        self.worded(Code::EioPollHeld, message).seen("seen", Excerpt::of(seen))
    }

    /// A poll that waits until the app sends something.
    pub(super) async fn poll(&self, eio: Eio, open: &Open, time: Duration) -> Result<Answer, Trouble> {
        let target = self.target(eio, self.path, "polling", Some(&open.sid));
        self.connector.ask(&Ask { time, ..Ask::get(target).with(&self.fields()) }).await
    }

    /// Keeps polling and answers heartbeats, to see whether the session is cut.
    async fn hold_polling(&self, eio: Eio, open: &Open, time: Duration, section: &mut Section) {
        let begin = Instant::now();
        let patience = Duration::from_millis(open.ping_interval_ms + open.ping_timeout_ms);
        let (mut answers, mut last_ping) = (0, begin);
        while begin.elapsed() < time {
            let left = time.saturating_sub(begin.elapsed());
            let ping = if eio == Eio::V3 { Duration::from_millis(open.ping_interval_ms) } else { patience };
            match self.poll(eio, open, left.min(ping).max(SHORT_POLL_TIME)).await {
                Ok(answer) if answer.status == 200 => {
                    answers += 1;
                    if packets::packets(eio, &answer.body).any(|packet| packet == "2" || packet == "3") {
                        last_ping = Instant::now();
                    }
                    if packets::packets(eio, &answer.body).any(|packet| packet == "2") {
                        let _ = self.deliver(eio, open, eio.heartbeat()).await;
                    }
                }
                Err(trouble) if trouble.is_silent() && eio == Eio::V3 => {
                    let _ = self.deliver(eio, open, eio.heartbeat()).await;
                }
                Err(trouble) if trouble.is_silent() => {}
                other => {
                    section.found(self.poll_cut(begin.elapsed(), other));
                    return;
                }
            }
            if last_ping.elapsed() > patience {
                let message = format!(
                    "no heartbeat arrived with polling within {:.1} s, the interval that the server announced: a proxy delays answers, or the app's event loop is blocked",
                    patience.as_secs_f32()
                );
                section.found(self.worded(Code::WsHeartbeat, message));
                return;
            }
        }
        section
            .passed(Group::Polling, format!("held with polling for {} s, {answers} answers", time.as_secs()));
    }

    fn poll_cut(&self, after: Duration, how: Result<Answer, Trouble>) -> Finding {
        let message = format!(
            "a waiting poll was cut after {:.0} s: a proxy on the way does not wait until the server's next heartbeat: raise its timeout (nginx: proxy_read_timeout 1h)",
            after.as_secs_f32()
        );
        let finding = self.worded(Code::EioPollCut, message);
        match how {
            Ok(answer) => self.answered(finding, &answer),
            Err(trouble) => finding.seen("seen", describe(&trouble)),
        }
    }

    pub(super) async fn leave(&self, seat: &Seat) {
        if let Some(open) = &seat.open {
            let _ = self.deliver(seat.eio, open, seat.eio.close()).await;
        }
    }

    /// The client's `auth` option as JSON; empty where there is none, or nothing private may be sent.
    pub(super) fn auth_text(&self) -> String {
        if self.namespace.is_none() || self.options.auth.is_empty() {
            return String::new();
        }
        let pairs = self.options.auth.iter().map(|(key, value)| (key.clone(), value.clone().into()));
        serde_json::Value::Object(pairs.collect()).to_string()
    }

    pub(super) fn query_text(&self) -> String {
        let pairs = self.query.iter();
        let pairs = pairs.map(|(key, value)| format!("{}={}", packets::escape(key), packets::escape(value)));
        pairs.collect::<Vec<_>>().join("&")
    }
}

/// Engine.IO's answer to a POST; python-engineio writes it in capitals. Clients look at the status alone.
pub(super) fn is_taken(answer: &Answer) -> bool {
    let body = answer.body.trim();
    answer.status == 200 && (body.is_empty() || body.eq_ignore_ascii_case("ok"))
}
