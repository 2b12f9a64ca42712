//! One request and its response: the head and body go upstream while the response comes back, each side stopping
//! the other where it does not take its bytes. Ends the upstream's request as soon as the client is gone.

mod input;
mod request;
mod response;

use std::cell::Cell;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use crate::bundle::Route;
use crate::edge::accept::accept_loop::Worker;
use crate::edge::net::tls::TlsStream;
use crate::edge::net::upstream::{Connection, UpstreamStream};
use crate::edge::session::alarm::Alarm;
use crate::edge::session::pace::{Backlog, Pace};
use crate::edge::session::relay::{Pending, Relay, TURNS, poll_later};
use crate::edge::shared::active_config::RouteState;
use crate::edge::shared::sticky::{Choice, SidObserver};
use crate::engineio::OpenObserver;
use crate::http::answer::Problem;
use crate::http::body::{BodyError, BodyReader, Framing, chunk_head};
use crate::http::forward::Plan;
use crate::http::head::{HeadLimits, HeadScanner, Version};
use crate::names::Host;
use crate::ops::metrics::{HostTally, Reason};
use crate::ws::handshake::Offer;
use crate::ws::tracker::{Extensions, Rules};

pub(crate) use input::Input;
use request::Up;
use response::Down;

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
    upstream: UpstreamStream,
    /// The client's bytes behind its request.
    up: Vec<u8>,
    /// The upstream's bytes behind its 101.
    behind: Vec<u8>,
    /// What the client has not taken yet of the 101.
    unsent: Pending,
    extensions: Extensions,
    observer: Option<Box<SidObserver>>,
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

struct Exchange<'s> {
    worker: &'s Worker,
    client: &'s mut TlsStream,
    input: &'s mut Input,
    alarm: &'s mut Alarm,
    request: &'s Request,
    io: UpstreamStream,
    reused: bool,
    /// Observes an answer that opens a session, where several upstreams have sessions.
    observer: Option<Box<SidObserver>>,
    up: Up,
    down: Down,
    down_pending: Pending,
    down_moved: Instant,
    /// What waits for the client to take it.
    backlog: Option<Backlog>,
    /// A 100 has come for the client.
    asked: bool,
    /// Something of a response went to the client.
    answered: bool,
    keep_client: bool,
    /// The upstream's connection can be used again, for its own keep-alive time if it named one.
    keep_upstream: Option<Option<Duration>>,
    upgraded: bool,
    /// Of a 101: the bytes behind it, and what its frames may use.
    behind: Vec<u8>,
    extensions: Extensions,
}

/// Runs one exchange on `connection` until its end.
pub(crate) async fn run(
    worker: &Worker,
    client: &mut TlsStream,
    input: &mut Input,
    alarm: &mut Alarm,
    request: &Request,
    connection: Connection,
) -> End {
    let Connection { io, upstream, reused } = connection;
    let now = Instant::now();
    let up = Up {
        head_written: 0,
        body: BodyReader::new(request.framing),
        body_bytes: 0,
        pending: Pending::default(),
        ended: request.framing != Framing::Chunked,
        done: false,
        broken: false,
        moved: now,
        due: now + request.limits.pace.stall,
    };
    let mut exchange = Exchange {
        worker,
        client,
        input,
        alarm,
        request,
        io,
        reused,
        observer: request.choice.opens.then(|| {
            let packets = if request.offer.is_some() { OpenObserver::frames() } else { OpenObserver::body() };
            SidObserver::new(packets, &worker.shared, &request.route, upstream.id)
        }),
        up,
        down: Down::Head { scanner: HeadScanner::response(), held: Vec::new(), interim: 0 },
        down_pending: Pending::default(),
        down_moved: now,
        backlog: None,
        asked: false,
        answered: false,
        keep_client: false,
        keep_upstream: None,
        upgraded: false,
        behind: Vec::new(),
        extensions: Extensions::None,
    };
    let end = match exchange.complete().await {
        // An answer of ours would stand in the middle of another.
        End::Failed(problem, found) if exchange.answered || !exchange.down_pending.is_empty() => {
            return End::BrokenOff(problem, found);
        }
        end => end,
    };
    if exchange.upgraded {
        let up = exchange.input.rest().to_vec();
        exchange.input.clear();
        return End::Upgraded(Box::new(Upgraded {
            upstream: exchange.io,
            up,
            behind: exchange.behind,
            unsent: exchange.down_pending,
            extensions: exchange.extensions,
            observer: exchange.observer,
        }));
    }
    if let (End::Next | End::Close, Some(observer), 200) = (&end, &exchange.observer, request.status.get()) {
        observer.missed();
    }
    if let (End::Next | End::Close, Some(keep_alive), true) = (&end, exchange.keep_upstream, exchange.up.done)
    {
        let connection = Connection { io: exchange.io, upstream, reused: true };
        worker.pool.put(connection, keep_alive, request.limits.pool_idle_max);
    }
    end
}

impl Exchange<'_> {
    async fn complete(&mut self) -> End {
        poll_fn(|cx| {
            if let Poll::Ready(end) = self.poll(cx) {
                return Poll::Ready(end);
            }
            while let Some(due) = self.due() {
                ready!(self.alarm.poll(cx, due));
                if !self.client_moves() {
                    return Poll::Ready(self.timed_out());
                }
                cx.waker().wake_by_ref(); // there is room for more now
            }
            Poll::Pending
        })
        .await
    }

    /// Whether nothing is due any more because a slow client took some bytes after all.
    fn client_moves(&mut self) -> bool {
        if self.is_waited_for() {
            self.client.nudge();
            let (waiting_bytes, now) = (self.waiting_bytes(), Instant::now());
            self.backlog.iter_mut().for_each(|it| it.look(waiting_bytes, &self.request.limits.pace, now));
            // With all of it taken just now, what is waited for is the upstream.
            if waiting_bytes == 0 {
                self.down_moved = now;
            }
        }
        self.due().is_none_or(|due| due > Instant::now())
    }

    /// Whether something waits for the client to take it.
    fn is_waited_for(&self) -> bool {
        self.slow_at().is_some()
    }

    /// When the client has had its time for what waits.
    fn slow_at(&self) -> Option<Instant> {
        self.backlog.and_then(|backlog| backlog.due())
    }

    /// Bytes that the client has not taken.
    fn waiting_bytes(&self) -> usize {
        self.down_pending.len() + self.client.unsent_bytes()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let mut scratch = self.worker.scratch.borrow_mut();
        let mut out = self.worker.out.borrow_mut();
        // A half that waits has left its waker: the other's step does not move it on, but where the response has begun
        // or ended.
        let (mut up, mut down) = (true, true);
        for _ in 0..TURNS {
            if up {
                match self.poll_up(cx, &mut scratch, &mut out) {
                    Poll::Ready(Err(end)) => return Poll::Ready(end),
                    moved => up = moved.is_ready(),
                }
            }
            if down || matches!(self.down, Down::Done) {
                match self.poll_down(cx, &mut scratch, &mut out) {
                    Poll::Ready(Err(end)) => return Poll::Ready(end),
                    moved => down = moved.is_ready(),
                }
            }
            if !up && !down {
                return Poll::Pending;
            }
            up |= matches!(self.down, Down::Body { .. });
        }
        poll_later(cx)
    }

    /// When the side that is waited for has had its time.
    fn due(&self) -> Option<Instant> {
        let sent = self.up.done || self.up.broken;
        let up = (!sent).then_some(self.up.due);
        let down = match (&self.down, self.slow_at()) {
            (_, Some(due)) => Some(due),
            (Down::Head { .. }, _) => sent.then(|| self.up.moved + self.request.route.rules.response_timeout),
            (Down::Body { .. }, _) => {
                self.request.route.rules.idle_timeout.map(|timeout| self.down_moved + timeout)
            }
            (Down::Done, _) => sent.then(|| self.down_moved + self.request.limits.pace.stall),
        };
        up.into_iter().chain(down).min()
    }

    fn timed_out(&self) -> End {
        if self.slow_at().is_some_and(|due| due <= Instant::now()) {
            let shared = &self.worker.shared;
            shared.refuse(Reason::WriteStall, self.request.client, "the client did not take its response");
            return End::Broken;
        }
        let waits_for_client = self.up.head_written == self.request.plan.len() && self.up.pending.is_empty();
        match self.up.done || self.up.broken {
            false if waits_for_client && !self.waits_to_be_asked() => {
                let found = "the body stalled, or came slower than body_bytes_per_s_min";
                End::Failed(Problem::RequestTimeout, found.to_owned())
            }
            _ => End::Failed(Problem::UpstreamTimeout, "no response in time".to_owned()),
        }
    }

    /// Whether the client has sent nothing of its body yet, for it was not asked to.
    fn waits_to_be_asked(&self) -> bool {
        self.request.expects_continue && !self.asked && self.up.body_bytes == 0
    }
}

/// Appends the data that `bytes` hold, as one chunk if `chunked`. Returns how many bytes belong to the body, and how
/// many of them are data.
fn reframe(
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
fn each_run(
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
