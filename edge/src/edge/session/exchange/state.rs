//! What an exchange begins with, what it is made of, and how it ends.

use std::cell::Cell;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant;

use crate::decision::Destination;
use crate::edge::net::retry;
use crate::edge::net::send_buffer::Pending;
use crate::edge::session::pace::Pace;
use crate::edge::shared::active_config::RouteState;
use crate::edge::shared::sticky::{Choice, SidObserver};
use crate::http::answer::{self, Problem};
use crate::http::body::{BodyError, BodyReader, Framing, chunk_head};
use crate::http::bound_auth;
use crate::http::head::{HeadLimits, HeadScanner, RequestHead, Version};
use crate::ops::metrics::HostTally;
use crate::ws::handshake::Offer;
use crate::ws::tracker::Extensions;

/// What is left of a request's head once it is decided where it goes: owned, and free of the bundle.
pub(crate) struct Request {
    /// Length of the head in the input.
    pub(crate) head_bytes: usize,
    pub(crate) framing: Framing,
    pub(crate) version: Version,
    pub(crate) is_head: bool,
    /// May be sent again while no response has begun.
    pub(crate) repeatable: bool,
    pub(crate) keep_alive: bool,
    /// The client sends its body when it is asked to (RFC 9110 §10.1.1), or after a while.
    pub(crate) expects_continue: bool,
    /// Carries credentials that authenticate its connection (RFC 4559 §6).
    pub(crate) binds: bool,
    pub(crate) wants_html: bool,
    pub(crate) client: IpAddr,
    /// Status of the response, for the access log; 0 until there is one.
    pub(crate) status: Cell<u16>,
    /// Set for a WebSocket upgrade.
    pub(crate) offer: Option<Offer>,
    pub(crate) route: Arc<RouteState>,
    pub(crate) choice: Choice,
    pub(crate) tally: Arc<HostTally>,
    pub(crate) limits: ExchangeLimits,
}

impl Request {
    /// `keep_alive`: the client's connection may carry another one.
    pub(crate) fn new(
        head: &RequestHead<'_>,
        (head_bytes, keep_alive): (usize, bool),
        destination: Destination<'_>,
        (route, choice): (&Arc<RouteState>, Choice),
        tally: &Arc<HostTally>,
        limits: ExchangeLimits,
    ) -> Self {
        Self {
            head_bytes,
            framing: head.framing,
            version: head.version,
            is_head: head.method == "HEAD",
            repeatable: retry::is_repeatable(head.method, head.framing),
            keep_alive,
            expects_continue: head.expects_continue,
            binds: bound_auth::carries(&head.fields),
            wants_html: answer::wants_html(head),
            client: destination.client,
            status: Cell::new(0),
            offer: destination.offer,
            route: Arc::clone(route),
            choice,
            tally: Arc::clone(tally),
            limits,
        }
    }
}

/// The bounds of one exchange.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExchangeLimits {
    pub(crate) head: HeadLimits,
    pub(crate) response_head: HeadLimits,
    pub(crate) pace: Pace,
    pub(crate) pool_idle_max: usize,
}

impl ExchangeLimits {
    /// The same, and the upstream's connection is not kept.
    pub(crate) fn without_pool(self) -> Self {
        Self { pool_idle_max: 0, ..self }
    }
}

/// How an exchange is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// The client's connection can carry another request.
    Next,
    /// The client's connection ends with this response.
    Close,
    /// The 101 is checked and on its way.
    Upgraded,
    /// The next process goes on with it: see [`Exchange::portable_at`](super::Exchange::portable_at).
    Waits,
}

/// Why an exchange has no whole response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The client is gone: nothing more can be said.
    Broken,
    /// The response broke off after its beginning: nothing more can be said to the client.
    BrokenOff(Problem, String),
    /// Nothing has reached the client yet: say this.
    Failed(Problem, String),
    /// An idle upstream connection ended before a response: send the request again on a new one.
    Again,
}

/// What an exchange that became a WebSocket leaves to the relay.
#[derive(Default)]
pub(crate) struct Switched {
    /// The client's bytes behind its request.
    pub(crate) up: Vec<u8>,
    /// The upstream's bytes behind its 101.
    pub(crate) behind: Vec<u8>,
    /// What the client has not taken yet of the 101.
    pub(crate) unsent: Pending,
    pub(crate) extensions: Extensions,
    pub(crate) observer: Option<Box<SidObserver>>,
}

/// The request's half.
pub(super) struct Up {
    pub(super) sending: Sending,
    pub(super) head_written: usize,
    pub(super) body: BodyReader,
    pub(super) body_bytes: u64,
    pub(super) pending: Pending,
    /// A chunked body's end is in `pending` or further.
    pub(super) ended: bool,
    pub(super) moved: Instant,
    /// When the client, or the upstream where that takes nothing, has had its time.
    pub(super) due: Instant,
}

impl Up {
    pub(super) fn new(now: Instant, request: &Request) -> Self {
        Self {
            sending: Sending::Open,
            head_written: 0,
            body: BodyReader::new(request.framing),
            body_bytes: 0,
            pending: Pending::default(),
            ended: request.framing != Framing::Chunked,
            moved: now,
            due: now + request.limits.pace.stall,
        }
    }
}

/// How far the request is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sending {
    /// Head and body go upstream.
    Open,
    /// All of it is with the upstream.
    Done,
    /// The upstream takes no more; its response may still come.
    Broken,
    /// The client ended before its body did.
    Left,
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
    /// Everything has come, and some of it may not be with the client yet.
    Whole,
    /// Everything is with the client's kernel.
    Sent,
    /// A 101 has come; the bytes behind it, and what its frames may use.
    Upgraded {
        behind: Vec<u8>,
        extensions: Extensions,
    },
}

impl Default for Down {
    fn default() -> Self {
        Self::Head { scanner: HeadScanner::response(), held: Vec::new(), interim: 0 }
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
    if !chunked {
        return each_run(reader, bytes, |data| out.extend_from_slice(data));
    }
    let length = each_run(&mut reader.clone(), bytes, |_| {})?.1;
    if length > 0 {
        out.extend_from_slice(chunk_head(length, &mut [0; 20]));
    }
    let used = each_run(reader, bytes, |data| out.extend_from_slice(data))?.0;
    if length > 0 {
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
