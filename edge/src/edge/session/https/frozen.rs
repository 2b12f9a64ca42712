//! A connection that waits for a request, or for the response to one, as data: serialised by one process, and resumed by the next.

use std::cell::Cell;
use std::future::Future;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::access::Access;
use super::decide::{dial, exchange_limits};
use super::phase::{Forward, Phase, Resumed, Session};
use super::serve_to_the_end;
use crate::edge::net::pool::Connection;
use crate::edge::net::tls::{SavedTls, TlsStream};
use crate::edge::net::upstream::UpstreamStream;
use crate::edge::session::driver::Alarm;
use crate::edge::session::exchange::{Input, Request};
use crate::edge::session::frozen::{self, RECORD_BYTES};
use crate::edge::session::worker::Worker;
use crate::edge::shared::active_config::{ActiveConfig, Identity};
use crate::edge::shared::handover::{self, DAMAGED, FORMAT, Frozen, Head, Kind};
use crate::edge::shared::sticky::Choice;
use crate::http::body::Framing;
use crate::http::head::Version;
use crate::names::Host;

/// A connection, but for its TLS state.
#[derive(Serialize, Deserialize)]
pub(crate) struct Saved<'a> {
    #[serde(borrow)]
    head: Head<'a>,
    /// The server name of its hello.
    name: Option<&'a str>,
    peer_port: u16,
    requests: u32,
    /// What came behind the last request.
    input: &'a [u8],
    #[serde(borrow)]
    waiting: Option<Waiting<'a>>,
}

/// A request that the upstream has, and whose response has not begun.
#[derive(Serialize, Deserialize)]
struct Waiting<'a> {
    client: IpAddr,
    is_http10: bool,
    is_head: bool,
    keep_alive: bool,
    wants_html: bool,
    waited_ms: u64,
    /// Its method and target, if it is logged.
    #[serde(borrow)]
    access: Option<(&'a str, &'a str)>,
}

/// The same in the process that has it.
pub(super) struct Waits<'a> {
    pub(super) request: &'a Request,
    pub(super) upstream: &'a UpstreamStream,
    pub(super) access: Option<&'a Access>,
    pub(super) waited: Duration,
}

impl Session {
    /// Passes the connection to the next process. `None`: that is not possible. After `Some`, nothing may be read from it or written to it.
    pub(super) fn hand_over(&self, waits: Option<&Waits<'_>>) -> Option<()> {
        let receiver = self.worker.shared.hand_over.receiver()?;
        let upstream = waits.map(|waits| waits.upstream.as_fd());
        let (cookies, descriptors) = frozen::copies(self.client.as_fd(), upstream)?;
        let name = self.identity.name.as_ref().map(|name| name.to_string());
        let host = waits.map_or_else(String::new, |waits| waits.request.tally.host.to_string());
        let path = waits.map_or("", |waits| waits.request.route.rules.path.as_str());
        let access = waits.and_then(|waits| waits.access).map(Access::request);
        let input = self.input.rest();
        let logged_bytes = access.map_or(0, |(method, target)| method.len() + target.len());
        let names_bytes = name.as_ref().map_or(0, String::len) + host.len() + path.len();
        let room_bytes =
            RECORD_BYTES + names_bytes + logged_bytes + input.len() + self.client.waiting_bytes();
        let saved = Saved {
            head: Head { format: FORMAT, kind: Kind::Http, cookies, host: &host, path, peer: self.peer },
            name: name.as_deref(),
            peer_port: self.peer_port,
            requests: self.requests,
            input,
            waiting: waits.map(|Waits { request, waited, .. }| Waiting {
                client: request.client,
                is_http10: request.version == Version::Http10,
                is_head: request.is_head,
                keep_alive: request.keep_alive,
                wants_html: request.wants_html,
                waited_ms: waited.as_millis() as u64, // lossless: it is months at most
                access,
            }),
        };
        let record = handover::write(&(saved, &self.client), room_bytes)?;
        receiver.send(Frozen { record, descriptors }).ok()
    }
}

/// What a record holds.
///
/// # Errors
/// Why it cannot be read.
pub(crate) fn read_record(record: &[u8]) -> Result<(Saved<'_>, SavedTls), &'static str> {
    handover::read(record)
}

/// Resumes a connection on this worker. If its host or route is no longer served, the connection is closed.
///
/// # Errors
/// Why it cannot be resumed.
pub(crate) fn resume(
    worker: &Rc<Worker>,
    Frozen { record, descriptors }: Frozen,
) -> Result<impl Future<Output = ()> + use<>, &'static str> {
    let (saved, tls) = read_record(&record)?;
    let (client, upstream) = frozen::resume(descriptors, &saved.head)?;
    let active = worker.shared.active.load();
    let tls_buffer_bytes = active.bundle.limits.tls_buffer_bytes as usize;
    let mut client = TlsStream::resume(client, tls, tls_buffer_bytes);
    let peer = saved.head.peer;
    let identified = active.identify(saved.name);
    if let Some((_, _, Some(bytes))) = identified {
        client.bound_records(bytes);
    }
    let (identity, phase) = match (identified, &saved.waiting) {
        (None, _) => (Identity { name: None, covered: Arc::new([]) }, Phase::Close),
        (Some((_, identity, _)), None) => (identity, Phase::Head),
        (Some((_, identity, _)), Some(waiting)) => {
            let upstream = upstream.ok_or("it has no upstream")?;
            (identity, wait_on(&active, &saved.head, waiting, upstream)?.map_or(Phase::Close, Phase::Forward))
        }
    };
    let evictable = worker.shared.eviction.enter_again(saved.requests > 0);
    if matches!(phase, Phase::Forward(_)) {
        worker.shared.eviction.request_begins(&evictable);
    }
    let session = Session {
        worker: Rc::clone(worker),
        client,
        input: Input::from(saved.input),
        alarm: Alarm::default(),
        identity,
        peer,
        peer_port: saved.peer_port,
        newcomer_until: None,
        evictable,
        requests: saved.requests,
        answered_in_drain: false,
        own: None,
    };
    Ok(serve_to_the_end(Box::pin(session.serve(phase)), worker.permit_again(peer)))
}

/// A request that goes on waiting for its response, by the rules of today; `None`: its route is no longer there for the client.
fn wait_on(
    active: &ActiveConfig,
    head: &Head<'_>,
    waiting: &Waiting<'_>,
    upstream: UpstreamStream,
) -> Result<Option<Forward>, &'static str> {
    let host = Host::parse(head.host).map_err(|_| DAMAGED)?;
    let Some((route, tally)) = frozen::place(active, &host, head.path, waiting.client) else {
        return Ok(None);
    };
    let state = route.upstreams.first().ok_or(DAMAGED)?;
    // The route may have other upstreams by now: the connection is used for this response only.
    let limits = exchange_limits(active, &route.rules).without_pool();
    let connection = Connection { io: upstream, upstream: Arc::clone(state), reused: false, bound: false };
    let request = Request {
        head_bytes: 0,
        // All of it is with the upstream.
        framing: Framing::None,
        version: if waiting.is_http10 { Version::Http10 } else { Version::Http11 },
        is_head: waiting.is_head,
        repeatable: false,
        keep_alive: waiting.keep_alive,
        expects_continue: false,
        binds: false,
        wants_html: waiting.wants_html,
        client: waiting.client,
        status: Cell::new(0),
        offer: None,
        route,
        choice: Choice::default(),
        tally,
        limits,
    };
    let access = waiting.access.map(|(method, target)| Access::again(host, waiting.client, method, target));
    let waited = Duration::from_millis(waiting.waited_ms);
    let resumed = Some(Box::new(Resumed { connection, waited }));
    Ok(Some(Forward { request, dial: dial(active), access, resumed }))
}
