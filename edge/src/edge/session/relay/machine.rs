//! A relay without clock, sockets and tasks: it is stepped, with the time and its two ends as arguments.

use std::net::IpAddr;
use std::task::{Poll, ready};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::lane::{Insert, Lane, Sink, Source, Stop};
use super::timers::{Due, Remaining, Timers};
use crate::edge::net::send_buffer::Pending;
use crate::edge::net::transport::{ClientTransport, Transport};
use crate::edge::session::driver::Now;
use crate::edge::session::machine::{Step, Surroundings, TURNS};
use crate::edge::shared::sticky::SidObserver;
use crate::ops::metrics::Reason;
use crate::ws::frame::{ControlFrame, Violation, close_frame, ping_frame};
use crate::ws::tracker::{Direction, Rules, Unsound};

/// Going away (RFC 6455 §7.4.1).
pub(super) const GOING_AWAY: u16 = 1001;

/// What became of our last Ping.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Ping {
    /// There was none, or the client has been heard since.
    None,
    /// Others may stand before it: the rest of a frame, or bytes that the client has yet to take.
    Waits,
    /// It has been on its way for the whole interval.
    Sent,
}

/// A relay between two steps.
#[derive(Serialize, Deserialize)]
pub(crate) struct Machine {
    up: Lane,
    down: Lane,
    #[serde(skip)]
    timers: Timers,
    /// For the log.
    peer: IpAddr,
    ping: Ping,
    /// The edge ends it (a rule was broken, a time is over), and both sides are being told.
    ended: bool,
    /// The edge drains: the client is being told.
    leaving: bool,
    /// ... and the upstream is to be told when the client has been: an upstream that hears of it earlier may never end
    /// the frame that the client is in the middle of.
    leave_upstream: bool,
    /// The edge drains.
    drains: bool,
}

impl Machine {
    /// `up` are the client's bytes behind its request head, `behind` the upstream's behind its 101, and `unsent` is what
    /// the client has not taken yet of that.
    pub(crate) fn new(
        now: Instant,
        rules: Rules,
        (up, behind, unsent): (&[u8], &[u8], Pending),
        observer: Option<Box<SidObserver>>,
        peer: IpAddr,
        world: &impl Surroundings,
    ) -> Self {
        let mut relay = Self {
            up: Lane::new(Direction::FromClient, rules, Pending::default()),
            down: Lane::new(Direction::FromUpstream, rules, unsent),
            timers: Timers::default(),
            peer,
            ping: Ping::None,
            ended: false,
            leaving: false,
            leave_upstream: false,
            drains: false,
        };
        relay.down.observer = observer;
        relay.down.observe(behind, &now.into());
        let keep = |_: &[u8]| Poll::Pending;
        // Both before anybody is told: what came before a broken rule passes.
        let (received, sent) = world.flows();
        let up = relay.up.pass(up, received, keep);
        let down = relay.down.pass(behind, sent, keep);
        for (from, passed) in [(Direction::FromClient, up), (Direction::FromUpstream, down)] {
            if let Err(Stop::Broken(violation)) = passed {
                relay.tell(world, from, violation);
            }
        }
        relay
    }

    /// Begins the timeouts of the route.
    pub(crate) fn start(
        &mut self,
        now: Instant,
        idle_timeout: Option<Duration>,
        ping_interval: Option<Duration>,
    ) {
        self.timers = Timers::new(now, idle_timeout, ping_interval);
    }

    /// Goes on with a relay that was read from a record, by the rules of today.
    ///
    /// # Errors
    /// No relay that [`Self::is_portable`] could have become this.
    pub(crate) fn resume(
        self,
        now: Instant,
        rules: &Rules,
        (idle_timeout, ping_interval): (Option<Duration>, Option<Duration>),
        remaining: Remaining,
    ) -> Result<Self, Unsound> {
        let timers = Timers::resume(now, idle_timeout, ping_interval, remaining);
        let up = self.up.resume(Direction::FromClient, rules)?;
        let down = self.down.resume(Direction::FromUpstream, rules)?;
        let relay = Self { up, down, timers, ..self };
        if relay.is_portable() { Ok(relay) } else { Err(Unsound) }
    }

    /// Whether another process can go on with it: neither side has ended, and neither is told to.
    pub(super) fn is_portable(&self) -> bool {
        let is_open = |lane: &Lane| {
            lane.source == Source::Open
                && lane.sink == Sink::Open
                && !matches!(lane.insert.as_deref(), Some(Insert::Close(_)))
        };
        is_open(&self.up) && is_open(&self.down) && !self.ended && !self.drains && !self.leaving
    }

    /// Bytes that either side has yet to take.
    pub(super) fn waiting_bytes_of_both(&self) -> usize {
        self.up.pending.len() + self.down.pending.len()
    }

    pub(super) fn peer(&self) -> IpAddr {
        self.peer
    }

    pub(super) fn remaining(&self, now: Instant) -> Remaining {
        self.timers.remaining(now)
    }

    /// The edge drains: the client gets its Close at `at`.
    pub(crate) fn drain(&mut self, at: Instant) {
        self.drains = true;
        self.timers.leave_at(at);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.drains
    }

    /// Whether the edge has ended it, and counted what with.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Moves what can be moved at `now`, and does what is due.
    pub(crate) fn step(
        &mut self,
        now: &Now,
        client: &mut impl ClientTransport,
        upstream: &mut impl Transport,
        scratch: &mut [u8],
        world: &impl Surroundings,
    ) -> Step<()> {
        loop {
            let Poll::Ready(more) = self.turns(now, client, upstream, scratch, world) else {
                return Step::Over(());
            };
            let [up, down] = [&mut self.up, &mut self.down].map(|lane| std::mem::take(&mut lane.passed));
            self.timers.watch(now, self.waiting_bytes(client), down, || world.pace());
            // Traffic after our Close does not extend the deadline.
            let passed = (up | down) && !self.ended;
            let due = match self.timers.next(now, passed, self.is_ending(), self.answer_within(world)) {
                Ok(due) => due,
                Err(at) => return Step::Wait(at, more),
            };
            if self.is_over_when(now, due, client, world) {
                return Step::Over(());
            }
        }
    }

    /// Does what is `due`; `true`: that is the end.
    fn is_over_when(
        &mut self,
        now: &Now,
        due: Due,
        client: &mut impl ClientTransport,
        world: &impl Surroundings,
    ) -> bool {
        match due {
            Due::Over if !self.is_ending() => self.part(world, Some(GOING_AWAY), "no data for idle_timeout"),
            Due::Over => {
                let _ = client.try_shutdown(); // close_notify and FIN, where the kernel takes them
                return true;
            }
            Due::Slow => {
                client.nudge();
                if !self.timers.is_in_time(now.get(), self.waiting_bytes(client), &world.pace()) {
                    if self.ended {
                        return true; // it does not take its Close either
                    }
                    let found = "the client does not read its messages";
                    world.refuse(Reason::WriteStall, self.peer, found);
                    self.lose_client(world, found);
                }
            }
            Due::Leave => self.leave(world),
            Due::Ping if self.probe(client) => self.lose_client(world, "the client does not answer a Ping"),
            Due::Ping => {}
            Due::Unanswered if self.leaving => {} // the drain has its own bound
            Due::Unanswered => self.part(world, self.close_code(world), "a Close was not answered"),
        }
        false
    }

    /// Bytes that the client has not taken and is to take.
    #[inline]
    fn waiting_bytes(&self, client: &impl ClientTransport) -> usize {
        if self.down.sink.is_closed() { 0 } else { self.down.pending.len() + client.unsent_bytes() }
    }

    /// While a Close waits for its answer: how long it may.
    #[inline]
    fn answer_within(&self, world: &impl Surroundings) -> Option<Duration> {
        let closed = self.up.tracker.closed() || self.down.tracker.closed();
        (closed && !self.ended && !self.leaving).then(|| world.pace().stall)
    }

    /// What this WebSocket ended with: our own code before the client's, that before the upstream's. What broke a rule
    /// has been counted.
    pub(super) fn close_code(&self, world: &impl Surroundings) -> Option<u16> {
        let ours = world.drain_close().filter(|_| self.leaving).map(|(code, _)| code);
        ours.or_else(|| self.up.tracker.close_code()).or_else(|| self.down.tracker.close_code())
    }

    /// Moves both directions as far as they go, a few turns at most: not ready once it is over, else whether there may be more.
    fn turns(
        &mut self,
        now: &Now,
        client: &mut impl Transport,
        upstream: &mut impl Transport,
        scratch: &mut [u8],
        world: &impl Surroundings,
    ) -> Poll<bool> {
        let (received, sent) = world.flows();
        // A direction that waits is stepped again when this is: only a change of its state by the other's end moves it on before.
        let (mut up_moves, mut down_moves) = (true, true);
        for _ in 0..TURNS {
            if self.leave_upstream && !self.down.waits_to_close() {
                self.leave_upstream = false;
                self.up.close(close_frame(GOING_AWAY, "the edge is shutting down", Some(random())));
                up_moves = true;
            }
            let (mut up, mut down) = (Poll::Pending, Poll::Pending);
            if up_moves {
                up = self.up.step(now, client, upstream, scratch, received);
            }
            if down_moves {
                down = self.down.step(now, upstream, client, scratch, sent);
            }
            (up_moves, down_moves) = (up.is_ready(), down.is_ready());
            if !up_moves && !down_moves {
                return Poll::Ready(false);
            }
            if let Poll::Ready(Err(stop)) = up {
                ready!(self.stopped(world, Direction::FromClient, stop));
                (up_moves, down_moves) = (true, true);
            }
            if let Poll::Ready(Err(stop)) = down {
                ready!(self.stopped(world, Direction::FromUpstream, stop));
                (up_moves, down_moves) = (true, true);
            }
            if self.up.is_over() && self.down.is_over() {
                return Poll::Pending;
            }
        }
        Poll::Ready(true)
    }

    /// What becomes of a direction that went no further; `Pending`: it is over.
    fn stopped(&mut self, world: &impl Surroundings, from: Direction, stop: Stop) -> Poll<()> {
        match (stop, from) {
            (Stop::Broken(violation), _) => self.tell(world, from, violation),
            (Stop::Io, _) if !self.ended && !self.leaving => return Poll::Pending,
            (Stop::Io, Direction::FromClient) => self.up.give_up(),
            (Stop::Io, Direction::FromUpstream) => self.down.give_up(),
        }
        Poll::Ready(())
    }

    /// One side has ended, both have had their Close, or the edge ends it: what is left gets [`LINGER`]. Not while a
    /// draining edge waits for the end of a frame.
    #[inline]
    fn is_ending(&self) -> bool {
        let lanes = [&self.up, &self.down];
        let ends = |lane: &&Lane| lane.source == Source::Ended || lane.sink >= Sink::Finishing;
        self.ended
            || (lanes.iter().any(ends) || lanes.iter().all(|lane| lane.sink.is_sealed()))
                && !lanes.iter().any(|lane| lane.waits_to_close())
    }

    /// Tells both sides of a broken rule, and the log.
    fn tell(&mut self, world: &impl Surroundings, from: Direction, violation: Violation) {
        let (said, reason) = match from {
            Direction::FromClient => (violation.to_string(), "the client broke a WebSocket rule".to_owned()),
            Direction::FromUpstream => (format!("from the upstream: {violation}"), violation.to_string()),
        };
        world.refuse(Reason::WebSocket, self.peer, &said);
        let code = violation.close_code();
        self.end(world, Some(code), close_frame(code, said, None), &reason);
    }

    /// A time is over: both sides are told, where they have had no Close; `code` is for the count.
    pub(super) fn part(&mut self, world: &impl Surroundings, code: Option<u16>, reason: &str) {
        self.end(world, code, close_frame(GOING_AWAY, reason, None), reason);
    }

    /// The client is gone or does not read: only the upstream gets a Close.
    fn lose_client(&mut self, world: &impl Surroundings, reason: &str) {
        self.down.lose_sink();
        self.up.source = Source::Ended;
        self.part(world, self.close_code(world), reason);
    }

    fn end(
        &mut self,
        world: &impl Surroundings,
        code: Option<u16>,
        to_client: ControlFrame,
        to_upstream: &str,
    ) {
        if !std::mem::replace(&mut self.ended, true) {
            world.count_close(code);
        }
        self.down.close(to_client);
        self.up.close(close_frame(GOING_AWAY, to_upstream, Some(random())));
    }

    fn leave(&mut self, world: &impl Surroundings) {
        let Some((code, reason)) = world.drain_close() else { return };
        self.down.close(close_frame(code, reason, None));
        (self.leaving, self.leave_upstream) = (true, true);
    }

    /// An interval is over: pings, or tells that nobody is there (`true`). Whoever has said anything since the last Ping
    /// is, and is asked anew: a client may answer the last of several Pings only (RFC 6455 §5.5.3), and that may have
    /// been the application's.
    fn probe(&mut self, client: &impl ClientTransport) -> bool {
        // Behind a Close no Ping is sent, and none is answered (RFC 6455 §5.5.1, §5.5.2).
        let closes = self.ended || self.leaving || self.up.sink.is_sealed() || self.down.sink.is_sealed();
        // While the upstream takes nothing we do not listen to the client: silence means nothing then.
        let listens = self.up.pending.is_empty();
        if closes || (!listens && self.ping != Ping::None) {
            return false;
        }
        if std::mem::take(&mut self.up.heard) {
            self.ping = Ping::None;
        }
        match self.ping {
            Ping::None => self.send_ping(client),
            Ping::Waits if self.down.insert.is_none() && self.has_sent_all(client) => self.ping = Ping::Sent,
            Ping::Waits => {}
            Ping::Sent => return true,
        }
        false
    }

    fn send_ping(&mut self, client: &impl ClientTransport) {
        // Always the same: an answer that comes late is known as well.
        let payload = self.up.tracker.ping_payload().unwrap_or_else(random);
        self.up.tracker.expect_pongs(payload);
        let is_next = self.down.tracker.at_boundary() && self.has_sent_all(client);
        self.ping = if is_next { Ping::Sent } else { Ping::Waits };
        self.down.insert = Some(Box::new(Insert::Ping(ping_frame(payload, None))));
    }

    /// Nothing is on this side of the wire that the client has yet to take.
    fn has_sent_all(&self, client: &impl ClientTransport) -> bool {
        self.waiting_bytes(client) == 0 && client.has_sent_all()
    }
}

/// Unpredictable bytes, for masking keys (RFC 6455 §5.3) and Pings. A kernel without randomness could not have made the
/// TLS session either.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let _ = SystemRandom::new().fill(&mut bytes);
    bytes
}
