//! The two-way relay after a 101. Frames pass untouched, masks included, while a [`Tracker`](crate::ws::tracker::Tracker)
//! reads their headers; a side that does not take its bytes stops the other side's reading. An idle relay owns no buffer:
//! reads go through the worker's scratch.
//!
//! What it does is the [`Machine`]'s; here are its streams, its task and its timer.

pub(crate) mod frozen;
mod lane;
pub(crate) mod machine;
#[cfg(test)]
mod tests;
mod timers;

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant;

use crate::bundle::Route;
use crate::edge::net::tls::TlsStream;
use crate::edge::net::transport::Woken;
use crate::edge::net::upstream::UpstreamStream;
use crate::edge::session::driver::{Alarm, Now, drive};
use crate::edge::session::exchange::Switched;
use crate::edge::session::machine::{Step, Surroundings};
use crate::edge::session::worker::{Permit, Worker};
use crate::edge::shared::active_config::RouteState;
use crate::edge::shared::handover::HandOver;
use crate::edge::shared::state::Drain;
use crate::ops::metrics::OpenWebSocket;
use crate::ws::tracker::{Extensions, Rules};
use machine::{Machine, random};

/// What a 101 leaves behind: two streams, and the bytes that either side already sent behind its head.
pub(crate) struct Relay {
    client: TlsStream,
    upstream: UpstreamStream,
    machine: Machine,
    /// `None`: no route is left for it, and it is being closed.
    route: Option<Arc<RouteState>>,
    /// Counts it as open.
    open: OpenWebSocket,
}

impl Relay {
    pub(crate) fn new(
        (client, upstream): (TlsStream, UpstreamStream),
        switched: Switched,
        route: Arc<RouteState>,
        peer: IpAddr,
        open: OpenWebSocket,
        worker: &Worker,
    ) -> Self {
        let now = Instant::now();
        let mut machine = begin(now, switched, &route.rules, peer, worker);
        machine.start(now, route.rules.idle_timeout, route.rules.ping_interval);
        Self { client, upstream, machine, route: Some(route), open }
    }

    /// Relays until both sides have ended, one has failed, or a timeout expires. When the edge drains, either both sides get a
    /// Close between two frames, or the session is handed over to the next process.
    // No `async`: that would keep beside the relay what it waits for and by what it is polled, a fourth of its size.
    pub(crate) fn run(mut self, permit: Permit) -> impl Future<Output = ()> {
        drive(Alarm::default(), move |now, waker| {
            permit.wake_at_drain(waker);
            let worker = &*permit.worker;
            if let (false, Some(drain)) = (self.machine.is_draining(), worker.drain())
                && self.hand_over_or_drain(&drain, now, &worker.shared.hand_over)
            {
                return Step::Over(());
            }
            let Self { client, upstream, machine, .. } = &mut self;
            let (mut client, mut upstream) = (Woken::by(waker, client), Woken::by(waker, upstream));
            let step =
                machine.step(now, &mut client, &mut upstream, &mut worker.scratch.borrow_mut(), worker);
            if matches!(step, Step::Over(())) {
                if let (true, Some(drain)) = (machine.is_draining(), worker.drain()) {
                    worker.shared.endings.websockets.increment();
                    if drain.hands_over {
                        worker.shared.hand_over.staying_ended();
                    }
                }
                if !machine.has_ended() {
                    worker.count_close(machine.close_code(worker));
                }
            }
            step
        })
    }

    /// The edge drains: hands the session over, or begins its end. `true`: it is frozen, and must not be read or written any more.
    #[cold]
    fn hand_over_or_drain(&mut self, drain: &Drain, now: &Now, hand_over: &HandOver) -> bool {
        if !drain.hands_over {
            self.machine.drain(now.get() + drain.spread.mul_f32(fraction()));
            return false;
        }
        let Some(receiver) = hand_over.websocket_receiver() else { return false }; // until then it goes on
        if let Some(frozen) = self.freeze(now.get())
            && receiver.send(frozen).is_ok()
        {
            return true;
        }
        hand_over.count_staying();
        self.machine.drain(now.get());
        false
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
    Machine::new(now, rules_of(route, extensions), (&up, &behind, unsent), observer, peer, world)
}

fn rules_of(route: &Route, extensions: Extensions) -> Rules {
    Rules {
        frame_bytes_max: route.frame_bytes_max.unwrap_or(u64::MAX),
        message_bytes_max: route.message_bytes_max.unwrap_or(u64::MAX),
        check_utf8: route.check_utf8,
        extensions,
    }
}

/// Evenly between 0 and 1.
fn fraction() -> f32 {
    f32::from(u16::from_ne_bytes(random())) / f32::from(u16::MAX)
}
