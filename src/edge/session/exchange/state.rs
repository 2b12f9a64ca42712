//! An exchange between two polls.

use std::cell::Cell;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::input::Input;
use crate::bundle::Route;
use crate::edge::net::send_buffer::Pending;
use crate::edge::net::tls::TlsStream;
use crate::edge::net::upstream::UpstreamStream;
use crate::edge::session::alarm::Alarm;
use crate::edge::session::pace::{Backlog, Pace};
use crate::edge::session::relay::Relay;
use crate::edge::session::worker::Worker;
use crate::edge::shared::active_config::RouteState;
use crate::edge::shared::sticky::{Choice, SidObserver};
use crate::http::answer::Problem;
use crate::http::body::{BodyError, BodyReader, Framing, chunk_head};
use crate::http::forward::Plan;
use crate::http::head::{HeadLimits, HeadScanner, Version};
use crate::names::Host;
use crate::ops::metrics::HostTally;
use crate::ws::handshake::Offer;
use crate::ws::tracker::{Extensions, Rules};

/// What is left of a request's head once it is decided where it goes: owned, and free of the bundle.
pub(crate) struct Request {
    pub(crate) plan: Plan,
    /// Length of the head in the input.
    pub(crate) head_bytes: usize,
    pub(crate) framing: Framing,
    pub(crate) version: Version,
    pub(crate) is_head: bool,
    /// A safe method without a body: may be sent again while no response has begun.
    pub(crate) repeatable: bool,
    pub(crate) keep_alive: bool,
    /// The client sends its body when it is asked to (RFC 9110 §10.1.1), or after a while.
    pub(crate) expects_continue: bool,
    /// Carries credentials that authenticate its connection (RFC 4559 §6).
    pub(crate) binds: bool,
    pub(crate) wants_html: bool,
    pub(crate) client: IpAddr,
    pub(crate) host: Host,
    /// Status of the response, for the access log; 0 until there is one.
    pub(crate) status: Cell<u16>,
    /// Set for a WebSocket upgrade.
    pub(crate) offer: Option<Offer>,
    pub(crate) route: Arc<RouteState>,
    pub(crate) choice: Choice,
    pub(crate) tally: Arc<HostTally>,
    pub(crate) limits: ExchangeLimits,
}

/// The bounds of one exchange.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExchangeLimits {
    pub(crate) head: HeadLimits,
    pub(crate) response_head: HeadLimits,
    pub(crate) pace: Pace,
    pub(crate) pool_idle_max: usize,
}

/// How an exchange ended.
pub(crate) enum End {
    /// The response is complete and the client's connection can carry another request.
    Next,
    /// The response is complete; the client's connection ends with it.
    Close,
    /// The client is gone: nothing more can be said.
    Broken,
    /// The response broke off after its beginning: nothing more can be said to the client.
    BrokenOff(Problem, String),
    /// Nothing has reached the client yet: say this.
    Failed(Problem, String),
    /// An idle upstream connection ended before a response: send the request again on a new one.
    Again,
    /// 101 checked and on its way.
    // Boxed: every exchange carries an `End` about, and few are upgrades.
    Upgraded(Box<Upgraded>),
}

/// What the relay needs from an exchange that became a WebSocket.
pub(crate) struct Upgraded {
    pub(super) upstream: UpstreamStream,
    /// The client's bytes behind its request.
    pub(super) up: Vec<u8>,
    /// The upstream's bytes behind its 101.
    pub(super) behind: Vec<u8>,
    /// What the client has not taken yet of the 101.
    pub(super) unsent: Pending,
    pub(super) extensions: Extensions,
    pub(super) observer: Option<Box<SidObserver>>,
}

impl Upgraded {
    pub(crate) fn relay(
        self,
        client: TlsStream,
        route: &Route,
        peer: IpAddr,
        tally: Arc<HostTally>,
        worker: &Worker,
    ) -> Relay {
        let rules = Rules {
            frame_bytes_max: route.frame_bytes_max.unwrap_or(u64::MAX),
            message_bytes_max: route.message_bytes_max.unwrap_or(u64::MAX),
            check_utf8: route.check_utf8,
            extensions: self.extensions,
        };
        let begun = (&self.up[..], &self.behind[..], self.unsent);
        Relay::new((client, self.upstream), rules, begun, self.observer, peer, tally.websocket(), worker)
    }
}

pub(super) struct Exchange<'s> {
    pub(super) worker: &'s Worker,
    pub(super) client: &'s mut TlsStream,
    pub(super) input: &'s mut Input,
    pub(super) alarm: &'s mut Alarm,
    pub(super) request: &'s Request,
    pub(super) io: UpstreamStream,
    pub(super) reused: bool,
    /// Observes an answer that opens a session, where several upstreams have sessions.
    pub(super) observer: Option<Box<SidObserver>>,
    pub(super) up: Up,
    pub(super) down: Down,
    pub(super) down_pending: Pending,
    pub(super) down_moved: Instant,
    /// What waits for the client to take it.
    pub(super) backlog: Option<Backlog>,
    /// A 100 has come for the client.
    pub(super) asked: bool,
    /// Something of a response went to the client.
    pub(super) answered: bool,
    pub(super) keep_client: bool,
    /// The upstream's connection was asked for credentials that authenticate it, or got them, now or before: it is this client's
    /// alone.
    pub(super) bound: bool,
    /// Where each interim response ends is certain.
    pub(super) interim_is_whole: bool,
    /// The upstream's connection can be used again, for its own keep-alive time if it named one.
    pub(super) keep_upstream: Option<Option<Duration>>,
    pub(super) upgraded: bool,
    /// Of a 101: the bytes behind it, and what its frames may use.
    pub(super) behind: Vec<u8>,
    pub(super) extensions: Extensions,
}

/// The request's half.
pub(super) struct Up {
    pub(super) head_written: usize,
    pub(super) body: BodyReader,
    pub(super) body_bytes: u64,
    pub(super) pending: Pending,
    /// A chunked body's end is in `pending` or further.
    pub(super) ended: bool,
    /// The whole request is on its way.
    pub(super) done: bool,
    /// The upstream takes no more; its response may still come.
    pub(super) broken: bool,
    pub(super) moved: Instant,
    /// When the client, or the upstream where that takes nothing, has had its time.
    pub(super) due: Instant,
}

/// The response's half.
pub(super) enum Down {
    /// Waiting for the head; holds what has come of it.
    Head {
        scanner: HeadScanner,
        held: Vec<u8>,
        interim: u8,
    },
    Body {
        reader: BodyReader,
        chunked: bool,
    },
    /// Everything is with the client, or in `down_pending`.
    Done,
}

impl Exchange<'_> {
    /// Whether something waits for the client to take it.
    pub(super) fn is_waited_for(&self) -> bool {
        self.slow_at().is_some()
    }

    /// When the client has had its time for what waits.
    pub(super) fn slow_at(&self) -> Option<Instant> {
        self.backlog.and_then(|backlog| backlog.due())
    }

    /// Bytes that the client has not taken.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.down_pending.len() + self.client.unsent_bytes()
    }

    /// Whether the client has sent nothing of its body yet, for it was not asked to.
    pub(super) fn waits_to_be_asked(&self) -> bool {
        self.request.expects_continue && !self.asked && self.up.body_bytes == 0
    }

    /// An app may answer before it has read the body, and read it all the same. Of what it refused it wants no more.
    pub(super) fn app_reads_on(&self) -> bool {
        let sent = self.up.done || self.up.broken;
        !sent && self.request.status.get() < 400 && !self.waits_to_be_asked()
    }

    pub(super) fn may_repeat(&self) -> bool {
        self.reused && self.request.repeatable && !self.answered
    }
}

/// Appends the data that `bytes` hold, as one chunk if `chunked`. Returns how many bytes belong to the body, and how
/// many of them are data.
pub(super) fn reframe(
    reader: &mut BodyReader,
    chunked: bool,
    bytes: &[u8],
    out: &mut Vec<u8>,
) -> Result<(usize, usize), BodyError> {
    let length = each_run(&mut reader.clone(), bytes, |_| {})?.1;
    if chunked && length > 0 {
        out.extend_from_slice(chunk_head(length, &mut [0; 20]));
    }
    let used = each_run(reader, bytes, |data| out.extend_from_slice(data))?.0;
    if chunked && length > 0 {
        out.extend_from_slice(b"\r\n");
    }
    Ok((used, length))
}

/// Calls `take` with each run of data; returns bytes used and bytes of data.
pub(super) fn each_run(
    reader: &mut BodyReader,
    bytes: &[u8],
    mut take: impl FnMut(&[u8]),
) -> Result<(usize, usize), BodyError> {
    let (mut used, mut data_bytes) = (0, 0);
    while !reader.is_done() {
        let rest = bytes.get(used..).unwrap_or_default();
        let step = reader.step(rest)?;
        let data = rest.get(step.data).unwrap_or_default();
        take(data);
        data_bytes += data.len();
        used += step.consumed;
        if step.consumed == 0 {
            break;
        }
    }
    Ok((used, data_bytes))
}
