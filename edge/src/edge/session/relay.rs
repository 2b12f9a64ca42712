//! The two-way relay after a 101. Frames pass untouched, masks included, while a [`Tracker`](crate::ws::tracker::Tracker)
//! reads their headers; a side that does not take its bytes stops the other side's reading. An idle relay owns no buffer:
//! reads go through the worker's scratch.
//!
//! What it does is the [`Machine`]'s; here are its streams, its task and its timer.

mod lane;
pub(crate) mod machine;
#[cfg(test)]
mod tests;
mod timers;

use std::future::Future;
use std::net::IpAddr;

use tokio::time::Instant;

use crate::bundle::Route;
use crate::edge::net::tls::TlsStream;
use crate::edge::net::transport::Woken;
use crate::edge::net::upstream::UpstreamStream;
use crate::edge::session::driver::{Alarm, drive};
use crate::edge::session::exchange::Switched;
use crate::edge::session::machine::{Step, Surroundings};
use crate::edge::session::worker::{Permit, Worker};
use crate::ops::metrics::OpenWebSocket;
use crate::ws::tracker::Rules;
use machine::{Machine, random};

/// What a 101 leaves behind: two streams, and the bytes that either side already sent behind its head.
pub(crate) struct Relay {
    client: TlsStream,
    upstream: UpstreamStream,
    machine: Machine,
    /// Counts it.
    _open: OpenWebSocket,
}

impl Relay {
    pub(crate) fn new(
        (client, upstream): (TlsStream, UpstreamStream),
        switched: Switched,
        route: &Route,
        peer: IpAddr,
        open: OpenWebSocket,
        worker: &Worker,
    ) -> Self {
        let machine = begin(Instant::now(), switched, route, peer, worker);
        Self { client, upstream, machine, _open: open }
    }

    /// Relays until both sides have ended, one has failed, or a time is over. When the edge drains, both sides get a
    /// Close between two frames.
    // No `async`: that would keep beside the relay what it waits for and by what it is polled, a fourth of its size.
    pub(crate) fn run(mut self, permit: Permit, rules: &Route) -> impl Future<Output = ()> + use<> {
        self.machine.start(Instant::now(), rules.idle_timeout, rules.ping_interval);
        drive(Alarm::default(), move |now, waker| {
            permit.wake_at_drain(waker);
            let Self { client, upstream, machine, _open } = &mut self;
            let worker = &*permit.worker;
            if let (false, Some(drain)) = (machine.is_draining(), worker.drain()) {
                machine.drain(now.get() + drain.spread.mul_f32(fraction()));
            }
            let (mut client, mut upstream) = (Woken::by(waker, client), Woken::by(waker, upstream));
            let step =
                machine.step(now, &mut client, &mut upstream, &mut worker.scratch.borrow_mut(), worker);
            if matches!(step, Step::Over(())) {
                if machine.is_draining() {
                    worker.shared.endings.websockets.increment();
                }
                if !machine.has_ended() {
                    worker.count_close(machine.close_code(worker));
                }
            }
            step
        })
    }
}

/// What an exchange left goes on as a WebSocket, by the rules of its route.
pub(crate) fn begin(
    now: Instant,
    switched: Switched,
    route: &Route,
    peer: IpAddr,
    world: &impl Surroundings,
) -> Machine {
    let Switched { up, behind, unsent, extensions, observer } = switched;
    let rules = Rules {
        frame_bytes_max: route.frame_bytes_max.unwrap_or(u64::MAX),
        message_bytes_max: route.message_bytes_max.unwrap_or(u64::MAX),
        check_utf8: route.check_utf8,
        extensions,
    };
    Machine::new(now, rules, (&up, &behind, unsent), observer, peer, world)
}

/// Evenly between 0 and 1.
fn fraction() -> f32 {
    f32::from(u16::from_ne_bytes(random())) / f32::from(u16::MAX)
}
