//! A relay as data with two sockets: serialised by one process, and resumed by the next.

use std::future::Future;
use std::net::{IpAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use rustix::net::sockopt::{socket_cookie, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::machine::{GOING_AWAY, Machine};
use super::timers::Remaining;
use super::{Relay, rules_of};
use crate::edge::net::tls::{SavedTls, TlsStream};
use crate::edge::net::upstream::UpstreamStream;
use crate::edge::session::worker::Worker;
use crate::edge::shared::active_config::{ActiveConfig, RouteState};
use crate::edge::shared::handover::{FORMAT, Frozen, Head};
use crate::names::Host;
use crate::ops::metrics::HostTally;
use crate::route;
use crate::ws::tracker::{Extensions, Rules};

/// Room for a record, but for names and buffered bytes. Allocated once: a growing vector leaves copies of keys in freed memory.
const RECORD_BYTES: usize = 1024;
const DAMAGED: &str = "its record is damaged";
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
        let sockets = [self.client.as_fd(), self.upstream.as_fd()];
        let descriptors = sockets.iter().map(|socket| socket.try_clone_to_owned());
        let descriptors: Vec<OwnedFd> = descriptors.collect::<Result<_, _>>().ok()?;
        let [client, upstream] = sockets.map(socket_cookie);
        let host = self.open.host().to_string();
        let head = Head {
            format: FORMAT,
            cookies: [client.ok()?, upstream.ok()?],
            host: &host,
            path: &route.rules.path,
            peer: self.machine.peer(),
        };
        let state = (head, &self.client, &self.machine, self.machine.remaining(now));
        let waiting = self.client.waiting_bytes() + self.machine.waiting_bytes_of_both();
        let room_bytes = RECORD_BYTES + host.len() + route.rules.path.len() + waiting;
        let mut record = Zeroizing::new(vec![0; room_bytes]);
        let used = postcard::to_slice(&state, &mut record).ok()?.len();
        record.truncate(used);
        Some(Frozen { record, descriptors })
    }
}

/// What a record holds.
///
/// # Errors
/// Why it cannot be read.
pub(crate) fn read_record(record: &[u8]) -> Result<(Head<'_>, SavedTls, Machine, Remaining), &'static str> {
    // First: the rest may have another layout.
    match postcard::take_from_bytes::<u16>(record) {
        Ok((FORMAT, _)) => postcard::from_bytes(record).map_err(|_| DAMAGED),
        Ok(_) => Err("its record has the format of another version"),
        Err(_) => Err(DAMAGED),
    }
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
    let sockets: [OwnedFd; 2] = descriptors.try_into().map_err(|_| "expected two sockets")?;
    if sockets.each_ref().map(socket_cookie) != head.cookies.map(Ok) {
        return Err("its sockets are not those of its record");
    }
    let [client, upstream] = sockets;
    let is_tcp = matches!(socket_domain(&client), Ok(AddressFamily::INET | AddressFamily::INET6));
    let are_streams = [&client, &upstream].map(socket_type) == [Ok(SocketType::STREAM); 2];
    if !is_tcp || !are_streams {
        return Err("its sockets are of another kind");
    }
    let unusable = "its socket cannot be used";
    let client = TcpStream::from(client);
    client.set_nonblocking(true).map_err(|_| unusable)?;
    let client = tokio::net::TcpStream::from_std(client).map_err(|_| unusable)?;
    let upstream = UpstreamStream::resume(upstream).map_err(|_| unusable)?;

    let active = worker.shared.active.load();
    let tls_buffer_bytes = active.bundle.limits.tls_buffer_bytes as usize;
    let mut client = TlsStream::resume(client, tls, tls_buffer_bytes);
    let host = Host::parse(head.host).map_err(|_| DAMAGED)?;
    if let Some(bytes) = active.site(&host).and_then(|(site, _)| site.record_bytes_max) {
        client.bound_records(bytes);
    }
    let place = place(&active, &host, head.path, head.peer);
    let (route, tally) = match place {
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
    } else if worker.shared.hand_over.receiver().is_some() {
        // The hand-over failed, and this process got its own session back: it is closed.
        worker.shared.hand_over.count_staying();
        machine.drain(now);
    }
    let relay = Relay { client, upstream, machine, route, open: tally.websocket_again() };
    Ok(relay.run(worker.permit_again(head.peer)))
}

/// The route of a session in the current bundle, if there is one and `allow` permits the client.
fn place(
    active: &ActiveConfig,
    host: &Host,
    path: &str,
    peer: IpAddr,
) -> Option<(Arc<RouteState>, Arc<HostTally>)> {
    let position = active.bundle.position(host)?;
    let (site, routes) = active.site(host)?;
    let (index, rules) = route::find(site, path.as_bytes()).ok().flatten()?;
    let may_come = rules.allow.is_empty() || rules.allow.iter().any(|network| network.contains(&peer));
    let (route, tally) = (routes.get(index)?, active.tally(position)?);
    may_come.then(|| (Arc::clone(route), Arc::clone(tally)))
}
