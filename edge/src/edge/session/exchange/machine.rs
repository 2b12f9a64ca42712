//! An exchange without clock, sockets and tasks: it is stepped, with the time and its two ends as arguments.

use std::ops::ControlFlow;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::input::Input;
use super::state::{Done, Down, Fault, Request, Sending, Switched, Up};
use crate::edge::net::retry;
use crate::edge::net::send_buffer::Pending;
use crate::edge::net::transport::{ClientTransport, Transport};
use crate::edge::session::machine::{Step, Surroundings, TURNS};
use crate::edge::session::pace::Backlog;
use crate::edge::shared::sticky::SidObserver;
use crate::http::answer::Problem;
use crate::http::forward::Plan;
use crate::ops::metrics::Reason;

/// A response that begins within this time is not delayed by a hand-over.
const SHORT_TIME: Duration = Duration::from_millis(100);

/// One request and its response, between two steps.
pub(crate) struct Exchange<'s> {
    pub(super) request: &'s Request,
    pub(super) plan: &'s Plan,
    pub(super) input: &'s mut Input,
    /// The upstream's connection carried an exchange before.
    pub(super) reused: bool,
    /// Observes an answer that opens a session, where several upstreams have sessions.
    pub(super) observer: Option<Box<SidObserver>>,
    pub(super) up: Up,
    pub(super) down: Down,
    /// What the client has not taken yet.
    pub(super) unsent: Pending,
    /// When the response's half moved last.
    pub(super) down_moved: Instant,
    /// What waits for the client to take it.
    pub(super) backlog: Option<Backlog>,
    /// A 100 has come for the client.
    pub(super) asked: bool,
    /// Something of the final response went to the client.
    pub(super) answered: bool,
    pub(super) keep_client: bool,
    /// The upstream's connection was asked for credentials that authenticate it, or got them, now or before: it is this client's
    /// alone.
    pub(super) bound: bool,
    /// Where each interim response ends is certain.
    pub(super) interim_is_whole: bool,
    /// The upstream's connection can be used again, for its own keep-alive time if it named one.
    pub(super) keep_upstream: Option<Option<Duration>>,
}

/// The two ends of an exchange while it is stepped, the time, and the edge around it.
pub(super) struct At<'a, C, U, W> {
    pub(super) now: Instant,
    pub(super) client: &'a mut C,
    pub(super) upstream: &'a mut U,
    pub(super) world: &'a W,
}

impl<'s> Exchange<'s> {
    /// Of `request`, whose head stands at the front of `input` and goes upstream by `plan`. The upstream's connection is `reused`, and `bound` to this client.
    pub(crate) fn new(
        now: Instant,
        (request, plan): (&'s Request, &'s Plan),
        input: &'s mut Input,
        observer: Option<Box<SidObserver>>,
        (reused, bound): (bool, bool),
    ) -> Self {
        Self {
            request,
            plan,
            input,
            reused,
            observer,
            up: Up::new(now, request),
            down: Down::default(),
            unsent: Pending::default(),
            down_moved: now,
            backlog: None,
            asked: false,
            answered: false,
            keep_client: false,
            bound: bound || request.binds,
            interim_is_whole: true,
            keep_upstream: None,
        }
    }

    /// Moves what can be moved at `now`, and does what is due. `scratch` is for what is read, and the other buffer for what is
    /// put together; neither keeps anything between two steps.
    pub(crate) fn step<W: Surroundings>(
        &mut self,
        now: Instant,
        client: &mut impl ClientTransport,
        upstream: &mut impl Transport,
        (scratch, out): (&mut [u8], &mut Vec<u8>),
        world: &W,
    ) -> Step<Result<Done, Fault>> {
        let mut at = At { now, client, upstream, world };
        loop {
            let more = match self.turns(&mut at, scratch, out) {
                ControlFlow::Break(end) => return Step::Over(self.over(now, end)),
                ControlFlow::Continue(more) => more,
            };
            match self.next() {
                Some(due) if due > now => return Step::Wait(Some(due), more),
                None => return Step::Wait(None, more),
                Some(_) if self.client_moves(&mut at) => {} // there is room for more now
                Some(_) => return Step::Over(self.over(now, Err(self.timed_out(now, world)))),
            }
        }
    }

    /// Moves both halves as far as they go, a few turns at most; whether there may be more.
    fn turns<C: ClientTransport, U: Transport, W: Surroundings>(
        &mut self,
        at: &mut At<'_, C, U, W>,
        scratch: &mut [u8],
        out: &mut Vec<u8>,
    ) -> ControlFlow<Result<Done, Fault>, bool> {
        // A half that waits is stepped again when this is: the other's step does not move it on, but where the response has
        // begun.
        let (mut up, mut down) = (true, true);
        for _ in 0..TURNS {
            if up {
                up = moves(self.step_up(at, scratch, out))?;
            }
            if down && self.up.sending != Sending::Left {
                down = moves(self.step_down(at, scratch, out))?;
            }
            if let Some(end) = self.end() {
                return ControlFlow::Break(end);
            }
            if !up && !down {
                return ControlFlow::Continue(false);
            }
            up |= matches!(self.down, Down::Body { .. });
        }
        ControlFlow::Continue(true)
    }

    /// How it ends, if both halves are where it does.
    fn end(&self) -> Option<Result<Done, Fault>> {
        match (&self.down, self.up.sending) {
            (Down::Upgraded { .. }, _) => Some(Ok(Done::Upgraded)),
            (Down::Whole | Down::Sent, Sending::Left) => Some(Ok(Done::Close)),
            (_, Sending::Left) => Some(Err(Fault::Broken)),
            (Down::Sent, _) if self.app_reads_on() => None, // the request's half goes on, in its time
            (Down::Sent, _) => Some(Ok(if self.keep_client { Done::Next } else { Done::Close })),
            _ => None,
        }
    }

    /// An answer of ours would stand in the middle of another; and an answer that is whole has told its sid, or will not.
    fn over(&self, now: Instant, end: Result<Done, Fault>) -> Result<Done, Fault> {
        if let (Ok(Done::Next | Done::Close), Some(observer), 200) =
            (&end, &self.observer, self.request.status.get())
        {
            observer.missed(now);
        }
        end.map_err(|fault| match fault {
            Fault::Failed(problem, found) if self.answered || !self.unsent.is_empty() => {
                Fault::BrokenOff(problem, found)
            }
            fault => fault,
        })
    }

    /// Once it is complete: whether the upstream's connection can be used again, by this client only (`true`) or by all, and its
    /// own keep-alive time if it named one.
    pub(crate) fn reusable(&self) -> Option<(bool, Option<Duration>)> {
        let keep_alive = self.keep_upstream.filter(|_| self.up.sending == Sending::Done)?;
        Some((self.bound, keep_alive))
    }

    /// From when on another process can continue it, if the upstream has the whole request and the response has not begun. Short responses
    /// begin before that, and are not delayed.
    pub(crate) fn portable_at(&self) -> Option<Instant> {
        let is_untouched = matches!(&self.down, Down::Head { held, interim: 0, .. } if held.is_empty());
        let is_portable = is_untouched
            && self.up.sending == Sending::Done
            && self.unsent.is_empty()
            && self.request.offer.is_none()
            // Bound to this process: its table, and a connection of this client.
            && self.observer.is_none()
            && !self.bound;
        is_portable.then(|| self.up.moved + SHORT_TIME)
    }

    /// What the WebSocket goes on with, once it is one.
    pub(crate) fn switched(self) -> Switched {
        let Down::Upgraded { behind, extensions } = self.down else { return Switched::default() };
        let up = self.input.rest().to_vec();
        self.input.clear();
        Switched { up, behind, unsent: self.unsent, extensions, observer: self.observer }
    }

    /// When the side that is waited for has had its time: the client to read what waits, the client to send its body or the upstream to
    /// take it, the upstream to respond, to go on, or to take the rest of a request that it has answered.
    fn next(&self) -> Option<Instant> {
        let (rules, stall) = (&self.request.route.rules, self.request.limits.pace.stall);
        let sent = self.up.sending != Sending::Open;
        let response = match &self.down {
            _ if self.is_waited_for() => None,
            Down::Head { .. } => sent.then(|| self.up.moved + rules.response_timeout),
            Down::Body { .. } => rules.idle_timeout.map(|timeout| self.down_moved + timeout),
            Down::Whole | Down::Sent => sent.then(|| self.down_moved + stall),
            Down::Upgraded { .. } => None,
        };
        [self.slow_at(), (!sent).then_some(self.up.due), response].into_iter().flatten().min()
    }

    /// Whether nothing is due any more because a slow client took some bytes after all.
    fn client_moves<C: ClientTransport, U, W>(&mut self, at: &mut At<'_, C, U, W>) -> bool {
        if self.is_waited_for() {
            at.client.nudge();
            let waiting_bytes = self.waiting_bytes(at.client);
            let pace = &self.request.limits.pace;
            self.backlog.iter_mut().for_each(|it| it.look(waiting_bytes, pace, at.now));
            // With all of it taken just now, what is waited for is the upstream.
            if waiting_bytes == 0 {
                self.down_moved = at.now;
            }
        }
        self.next().is_none_or(|due| due > at.now)
    }

    /// Asked anew, for a look at the client may have moved what was due. A client that does not read comes first.
    fn timed_out(&self, now: Instant, world: &impl Surroundings) -> Fault {
        let waits_for_client = self.up.head_written == self.plan.len() && self.up.pending.is_empty();
        if self.slow_at().is_some_and(|due| due <= now) {
            let found = "the client does not read its response";
            world.refuse(Reason::WriteStall, self.request.client, found);
            return Fault::Broken;
        }
        if self.up.sending == Sending::Open && waits_for_client && !self.waits_to_be_asked() {
            let found = "the body stalled, or arrived slower than body_bytes_per_s_min";
            return Fault::Failed(Problem::RequestTimeout, found.to_owned());
        }
        Fault::Failed(Problem::UpstreamTimeout, "no response in time".to_owned())
    }

    /// Whether something waits for the client to take it.
    pub(super) fn is_waited_for(&self) -> bool {
        self.slow_at().is_some()
    }

    /// When the client has had its time for what waits.
    fn slow_at(&self) -> Option<Instant> {
        self.backlog.and_then(|backlog| backlog.due())
    }

    /// Bytes that the client has not taken.
    pub(super) fn waiting_bytes(&self, client: &impl ClientTransport) -> usize {
        self.unsent.len() + client.unsent_bytes()
    }

    /// Whether the client has sent nothing of its body yet, for it was not asked to.
    fn waits_to_be_asked(&self) -> bool {
        self.request.expects_continue && !self.asked && self.up.body_bytes == 0
    }

    /// An app may answer before it has read the body, and read it all the same. Of what it refused it wants no more.
    fn app_reads_on(&self) -> bool {
        self.up.sending == Sending::Open && self.request.status.get() < 400 && !self.waits_to_be_asked()
    }

    pub(super) fn may_repeat(&self) -> bool {
        retry::is_due(self.reused, self.request.repeatable, self.answered)
    }
}

/// Whether a half has moved.
fn moves(step: Poll<Result<(), Fault>>) -> ControlFlow<Result<Done, Fault>, bool> {
    match step {
        Poll::Ready(Err(fault)) => ControlFlow::Break(Err(fault)),
        step => ControlFlow::Continue(step.is_ready()),
    }
}
