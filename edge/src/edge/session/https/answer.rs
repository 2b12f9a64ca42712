//! An answer of the edge's own: what the client gets, and what the log and the counters.

use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use super::last::Answering;
use super::phase::{Answer, Phase, Says, Session};
use crate::decision::Refusal;
use crate::edge::net::transport::Woken;
use crate::edge::session::driver::{Now, drive};
use crate::edge::session::exchange::Request;
use crate::edge::session::machine::Surroundings;
use crate::http::answer::{self, AnswerForm, Detail, Problem};

/// The outcome of a redirected request in the access log.
const REDIRECTED: &str = "redirected";

impl Answer {
    /// Of an exchange that came to nothing.
    pub(super) fn of_upstream(request: &Request, problem: Problem, found: String) -> Self {
        let form = AnswerForm { html: request.wants_html, close: true, head_only: request.is_head };
        let upstreams = request.route.upstreams.iter().map(|upstream| upstream.text.as_str());
        let upstreams = upstreams.collect::<Vec<_>>().join(", ");
        let (check, check_inside) = (problem.check().map(str::to_owned), problem.check_inside(&upstreams));
        let refusal = Refusal { problem, found, check, check_inside };
        Self { says: refusal.into(), form, changes: request.route.changes.clone(), access: None }
    }
}

impl Session {
    /// Sends an answer of our own, and says what comes next.
    pub(super) async fn answer(&mut self, answer: &Answer) -> Phase {
        let Answer { says, form, changes, access } = answer;
        let changes = changes.as_deref();
        let mut bytes = Vec::new();
        match says {
            Says::Redirect(to) => {
                if let Some(access) = access {
                    access.log(&self.worker, 308, REDIRECTED, Duration::ZERO);
                }
                answer::redirect(to, "", changes, *form, &mut bytes);
            }
            Says::Refused(refusal) => {
                if let Some(access) = access {
                    access.log(
                        &self.worker,
                        refusal.problem.status(),
                        refusal.problem.code(),
                        Duration::ZERO,
                    );
                }
                self.note(answer);
                // What was found may hold text of the client or the upstream: it is for the log. The client gets what to do.
                let detail = Detail { found: None, check: refusal.check.as_deref(), changes };
                answer::write(refusal.problem, &detail, *form, &mut bytes);
            }
        }
        self.worker.tally.sent.add(0, bytes.len());
        let stall = self.worker.pace().stall;
        let mut answering = Answering::new(Instant::now(), &bytes, stall);
        let client = &mut self.client;
        let step = |now: &Now, waker: &Waker| answering.step(now.get(), &mut Woken::by(waker, &mut *client));
        let sent = drive(&mut self.alarm, step).await;
        self.responded(sent && !form.close)
    }

    pub(super) fn note(&self, answer: &Answer) {
        let Says::Refused(Refusal { problem, found, check, check_inside }) = &answer.says else { return };
        let shared = &self.worker.shared;
        if problem.is_upstream() {
            shared.counters.upstream_failures_total.increment();
        }
        let Some(reason) = problem.reason() else { return }; // the outage has its own line, once
        let found = format!("{}: {found}", problem.code());
        let check = check_inside.as_deref().or(check.as_deref());
        shared.refuse_with_check(reason, self.peer, &found, check);
    }
}
