//! A relay as data with two sockets: serialised by one process, and resumed by the next.

use std::future::Future;
use std::os::fd::AsFd;
use std::rc::Rc;

use tokio::time::Instant;

use super::machine::{GOING_AWAY, Machine};
use super::timers::Remaining;
use super::{Relay, rules_of};
use crate::edge::net::tls::{SavedTls, TlsStream};
use crate::edge::session::frozen::{self, RECORD_BYTES};
use crate::edge::session::worker::Worker;
use crate::edge::shared::handover::{self, DAMAGED, FORMAT, Frozen, Head, Kind};
use crate::names::Host;
use crate::ws::tracker::{Extensions, Rules};

/// Rules of a session whose route is no longer in the bundle.
const NO_BOUNDS: Rules = Rules {
    frame_bytes_max: u64::MAX,
    message_bytes_max: u64::MAX,
    check_utf8: false,
    extensions: Extensions::None,
};

impl Relay {
    /// Serialises the session, with its sockets; `None` if another process cannot resume it. After `Some`, the relay must not be stepped.
    pub(super) fn freeze(&self, now: Instant) -> Option<Frozen> {
        let route = self.route.as_ref().filter(|_| self.machine.is_portable())?;
        let (cookies, descriptors) = frozen::copies(self.client.as_fd(), Some(self.upstream.as_fd()))?;
        let host = self.open.host().to_string();
        let head = Head {
            format: FORMAT,
            kind: Kind::WebSocket,
            cookies,
            host: &host,
            path: &route.rules.path,
            peer: self.machine.peer(),
        };
        let state = (head, &self.client, &self.machine, self.machine.remaining(now));
        let waiting = self.client.waiting_bytes() + self.machine.waiting_bytes_of_both();
        let room_bytes = RECORD_BYTES + host.len() + route.rules.path.len() + waiting;
        let record = handover::write(&state, room_bytes)?;
        Some(Frozen { record, descriptors })
    }
}

/// What a record holds.
///
/// # Errors
/// Why it cannot be read.
pub(crate) fn read_record(record: &[u8]) -> Result<(Head<'_>, SavedTls, Machine, Remaining), &'static str> {
    handover::read(record)
}

/// Resumes a session on this worker.
///
/// # Errors
/// Why the session cannot be resumed. Its sockets are then closed without a Close, because no keys are known.
pub(crate) fn resume(
    worker: &Rc<Worker>,
    Frozen { record, descriptors }: Frozen,
) -> Result<impl Future<Output = ()> + use<>, &'static str> {
    let (head, tls, machine, remaining) = read_record(&record)?;
    let (client, upstream) = frozen::resume(descriptors, &head)?;
    let upstream = upstream.ok_or("it has no upstream")?;

    let active = worker.shared.active.load();
    let tls_buffer_bytes = active.bundle.limits.tls_buffer_bytes as usize;
    let mut client = TlsStream::resume(client, tls, tls_buffer_bytes);
    let host = Host::parse(head.host).map_err(|_| DAMAGED)?;
    if let Some(bytes) = active.site(&host).and_then(|(site, _)| site.record_bytes_max) {
        client.bound_records(bytes);
    }
    let (route, tally) = match frozen::place(&active, &host, head.path, head.peer) {
        Some((route, tally)) => (Some(route), tally),
        None => (None, worker.shared.tallies.of(&host)),
    };
    let rules = route.as_ref().map_or(NO_BOUNDS, |route| rules_of(&route.rules, Extensions::None));
    let times = route.as_ref().map(|route| (route.rules.idle_timeout, route.rules.ping_interval));
    let now = Instant::now();
    let machine = machine.resume(now, &rules, times.unwrap_or_default(), remaining);
    let mut machine = machine.map_err(|_| DAMAGED)?;
    if route.is_none() {
        machine.part(&**worker, Some(GOING_AWAY), "this address is no longer served");
    } else if worker.shared.hand_over.websocket_receiver().is_some() {
        // The hand-over failed, and this process got its own session back: it is closed.
        worker.shared.hand_over.count_staying();
        machine.drain(now);
    }
    let relay = Relay { client, upstream, machine, route, open: tally.websocket_again() };
    Ok(relay.run(worker.permit_again(head.peer)))
}
