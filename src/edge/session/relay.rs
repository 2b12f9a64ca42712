//! The two-way relay after a 101. Frames pass untouched, masks included, while a [`Tracker`](crate::ws::tracker::Tracker)
//! reads their headers; a side that does not take its bytes stops the other side's reading. An idle relay owns no buffer:
//! reads go through the worker's scratch.
//!
//! What it does is the [`Machine`]'s; here are its streams, its task and its timer.

mod lane;
mod machine;
#[cfg(test)]
mod tests;
mod timers;

use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::task::{Context, Poll, ready};

use tokio::time::Instant;

use crate::bundle::Route;
use crate::edge::net::send_buffer::Pending;
use crate::edge::net::tls::TlsStream;
use crate::edge::net::transport::Woken;
use crate::edge::net::upstream::UpstreamStream;
use crate::edge::session::alarm::Alarm;
use crate::edge::session::pace::Pace;
use crate::edge::session::turns::poll_later;
use crate::edge::session::worker::{Permit, Worker};
use crate::edge::shared::sticky::SidObserver;
use crate::ops::metrics::{Flow, OpenWebSocket, Reason};
use crate::ws::tracker::Rules;
use machine::{Machine, Step, Surroundings, random};

/// What a 101 leaves behind: two streams, and the bytes that either side already sent behind its head.
pub(crate) struct Relay {
    client: TlsStream,
    upstream: UpstreamStream,
    machine: Machine,
    alarm: Alarm,
    /// Counts it.
    _open: OpenWebSocket,
}

impl Surroundings for Worker {
    fn pace(&self) -> Pace {
        Pace::of(&self.shared.active.load().bundle.limits)
    }
    fn drain_close(&self) -> Option<(u16, &'static str)> {
        self.drain().map(|drain| drain.close)
    }
    fn flows(&self) -> (&Flow, &Flow) {
        (&self.tally.received, &self.tally.sent)
    }
    fn refuse(&self, reason: Reason, peer: IpAddr, found: &str) {
        self.shared.refuse(reason, peer, found);
    }
    fn count_close(&self, code: Option<u16>) {
        self.shared.closes.count(code);
    }
}

impl Relay {
    /// `begun`: see [`Machine::new`].
    pub(crate) fn new(
        (client, upstream): (TlsStream, UpstreamStream),
        rules: Rules,
        begun: (&[u8], &[u8], Pending),
        observer: Option<Box<SidObserver>>,
        peer: IpAddr,
        open: OpenWebSocket,
        worker: &Worker,
    ) -> Self {
        let machine = Machine::new(Instant::now(), rules, begun, observer, peer, worker);
        Self { client, upstream, machine, alarm: Alarm::default(), _open: open }
    }

    /// Relays until both sides have ended, one has failed, or a time is over. When the edge drains, both sides get a
    /// Close between two frames.
    // No `async`: that would keep beside the relay what it waits for and by what it is polled, a fourth of its size.
    pub(crate) fn run(mut self, permit: Permit, rules: &Route) -> impl Future<Output = ()> + use<> {
        self.machine.start(Instant::now(), rules.idle_timeout, rules.ping_interval);
        poll_fn(move |cx| {
            permit.wake_at_drain(cx.waker());
            let worker = &permit.worker;
            ready!(self.poll(cx, worker));
            if self.machine.is_draining() {
                worker.shared.endings.websockets.increment();
            }
            if !self.machine.has_ended() {
                worker.shared.closes.count(self.machine.close_code(&**worker));
            }
            Poll::Ready(())
        })
    }

    fn poll(&mut self, cx: &mut Context<'_>, worker: &Worker) -> Poll<()> {
        loop {
            let now = Instant::now();
            if let (false, Some(drain)) = (self.machine.is_draining(), worker.drain()) {
                self.machine.drain(now + drain.spread.mul_f32(fraction()));
            }
            let mut client = Woken::by(cx.waker(), &mut self.client);
            let mut upstream = Woken::by(cx.waker(), &mut self.upstream);
            let mut scratch = worker.scratch.borrow_mut();
            let step = self.machine.step(now, &mut client, &mut upstream, &mut scratch, worker);
            drop(scratch);
            let Step::Wait(deadline, more) = step else { return Poll::Ready(()) };
            if more {
                let _: Poll<()> = poll_later(cx);
            }
            ready!(deadline.map_or(Poll::Pending, |deadline| self.alarm.poll(cx, deadline)));
        }
    }
}

/// Evenly between 0 and 1.
fn fraction() -> f32 {
    f32::from(u16::from_ne_bytes(random())) / f32::from(u16::MAX)
}
