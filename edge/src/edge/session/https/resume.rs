//! A connection that waited for a request, or for the response to one, goes on in this process.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::Serving;
use super::access::NOT_SERVED;
use super::decide::{dial, exchange_limits};
use super::frozen::{Waiting, read_record};
use super::phase::{Forward, Phase, Resumed, Session};
use crate::edge::net::pool::Connection;
use crate::edge::net::tls::TlsStream;
use crate::edge::net::upstream::UpstreamStream;
use crate::edge::session::driver::Alarm;
use crate::edge::session::exchange::{Input, Request};
use crate::edge::session::frozen;
use crate::edge::session::worker::Worker;
use crate::edge::shared::active_config::{ActiveConfig, Identity};
use crate::edge::shared::handover::{DAMAGED, Frozen, Head};
use crate::edge::shared::sticky::Choice;
use crate::http::body::Framing;
use crate::http::head::Version;
use crate::names::Host;

/// Resumes a connection on this worker, and returns its peer. If its host or route is no longer served, the connection is closed.
///
/// # Errors
/// Why it cannot be resumed.
pub(crate) fn resume(
    worker: &Rc<Worker>,
    Frozen { record, descriptors }: Frozen,
) -> Result<(Serving, IpAddr), &'static str> {
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
    if let (Phase::Close, Some(waiting)) = (&phase, &saved.waiting) {
        let host = Host::parse(saved.head.host).map_err(|_| DAMAGED)?;
        if let Some(access) = waiting.access(host) {
            access.log(worker, 0, NOT_SERVED, waiting.waited());
        }
    }
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
    Ok((Box::pin(session.serve(phase)), peer))
}

/// A request that goes on waiting for its response, by the current rules; `None`: its route is no longer there for the client.
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
    let access = waiting.access(host);
    let resumed = Some(Box::new(Resumed { connection, waited: waiting.waited() }));
    Ok(Some(Forward { request, dial: dial(active), access, resumed }))
}
