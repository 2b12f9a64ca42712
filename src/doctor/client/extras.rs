//! Further requests, after those that a client sends, and a list of what was not tried.

use std::time::Duration;

use super::{Client, Jar, Met, Seat, engine_error};
use crate::doctor::ask::{Ask, Outgoing};
use crate::doctor::check::Section;
use crate::doctor::explain::{Code, Group};
use crate::doctor::packets::{Eio, Open};

/// Limit for a refusal of a body by its announced length, which a proxy sends at once.
const REFUSAL_TIME: Duration = Duration::from_secs(1);
/// Requests without the cookies of the session: with two processes, a load balancer then chooses the other one.
const WITHOUT_COOKIES: usize = 2;

impl Client<'_> {
    pub(super) async fn extras(&self, seat: &Seat, section: &mut Section) {
        if let Some(open) = seat.open.as_ref().filter(|_| self.polls_as_well()) {
            if self.second(seat.eio, open, section).await {
                self.cookies(seat.eio, open, section).await;
            } else {
                section.skipped(Group::Polling, "a limit of the proxy refuses further requests: caches and the body limit were not tested");
            }
        }
        if self.between == super::Between::Nobody {
            return;
        }
        if self.hold.is_none() {
            section.skipped(
                Group::Websocket,
                "not tested: whether an idle WebSocket is cut (--hold 90s tests it)",
            );
        }
        if self.namespace.is_none() {
            section.skipped(
                Group::Namespace,
                "no namespace was joined (--namespace / joins one; the app then sees a client connect and disconnect)",
            );
        }
    }

    fn polls_as_well(&self) -> bool {
        self.options.transport != Some(crate::doctor::options::Transport::Websocket)
    }

    /// Checks that two clients get two sessions; the second session is ended by a body as large as the server allows. Left out for a server of
    /// 2.x, because the app would see each client. False if a limit refuses.
    async fn second(&self, eio: Eio, open: &Open, section: &mut Section) -> bool {
        if eio == Eio::V3 {
            return true;
        }
        match self.meet(eio, self.path).await {
            Met::Open(_, other, answer) if other.sid == open.sid => section.found(self.cached(&answer)),
            Met::Open(_, other, _) => self.body_limit(eio, &other, section).await,
            Met::Error(_, answer) | Met::Other(_, answer) => return !answer.may_be_limit(),
            Met::Trouble(_) => {}
        }
        true
    }

    /// Announces a body of `maxPayload` bytes without sending it.
    async fn body_limit(&self, eio: Eio, open: &Open, section: &mut Section) {
        let Some(bytes) = open.max_payload else {
            return self.leave(&Seat { eio, open: Some(open.clone()), origin: None }).await;
        };
        let target = self.target(eio, self.path, "polling", Some(&open.sid));
        let ask = Ask { body: Outgoing::Announced(bytes), time: REFUSAL_TIME, ..Ask::post(target, "") };
        if let Ok(answer) = self.connector.ask(&ask.with(&self.fields())).await
            && answer.status == 413
        {
            let message = format!(
                "the server announces messages of up to {bytes} bytes (maxPayload), but a proxy refuses a POST of that length (413, {}): polling clients fail on large messages",
                self.who(&answer)
            );
            section.found(self.answered(self.worded(Code::EioBodyLimit, message), &answer));
        }
    }

    /// If the server set cookies: whether a client that keeps none also reaches its session.
    async fn cookies(&self, eio: Eio, open: &Open, section: &mut Section) {
        let names = self.jar.names(&open.sid);
        if names.is_empty() || eio == Eio::V3 {
            return;
        }
        let forgetful = Self { jar: Jar::closed(), ..self.clone() };
        let Met::Open(_, fresh, _) = forgetful.meet(eio, self.path).await else { return };
        for _ in 0..WITHOUT_COOKIES {
            let Ok(answer) = forgetful.deliver(eio, &fresh, eio.heartbeat()).await else { return };
            if engine_error(&answer).is_some_and(|error| error.code == 1) {
                let names = names.join(", ");
                let message = format!(
                    "requests of a session reach the same process only with the cookie {names}: clients without cookies (Node, phones, pages of another origin without withCredentials) fail"
                );
                section.found(self.answered(self.worded(Code::EioCookieNeeded, message), &answer));
                return;
            }
        }
        self.leave(&Seat { eio, open: Some(fresh), origin: None }).await;
    }
}
