//! One request and its response: the head and body go upstream while the response comes back, each side stopping
//! the other where it does not take its bytes. Ends the upstream's request as soon as the client is gone.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::RouteState;
use super::accept::Worker;
use super::pace::{Backlog, Pace};
use super::relay::{Pending, Relay, TURNS, forward, poll_later};
use super::sticky::{Choice, Listener};
use super::tls::Client;
use super::upstream::{Connection, Io};
use crate::bundle::Route;
use crate::engineio::Ear;
use crate::http::answer::Problem;
use crate::http::body::{BodyError, BodyReader, Framing, chunk_head};
use crate::http::forward::{Plan, ResponseForm, response_head};
use crate::http::head::{
    HeadLimits, HeadScanner, ResponseHead, Version, parse_request, parse_scanned_response,
};
use crate::names::Host;
use crate::ops::metrics::{HostTally, Reason};
use crate::ws::handshake::{self, Offer};
use crate::ws::tracker::Rules;

/// Interim responses (1xx) that an upstream may send before its final one.
const INTERIM_MAX: u8 = 8;
/// Slices of one vectored write: a head has far fewer pieces.
const SLICES_MAX: usize = 64;

/// Bytes read from the client and not used yet: the head of the request in hand, and what came behind it.
#[derive(Default)]
pub(crate) struct Input {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Input {
    /// Everything, the head in hand included.
    pub(crate) fn all(&self) -> &[u8] {
        self.buffer.get(..self.end).unwrap_or_default()
    }

    /// What came behind the part that is used.
    fn rest(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Marks the first `count` bytes of [`Self::rest`] as used.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    /// Forgets what is used; gives the buffer back if nothing is left.
    pub(crate) fn compact(&mut self, worker: &Worker) {
        if self.start == self.end {
            worker.give_buffer(std::mem::take(&mut self.buffer));
            (self.start, self.end) = (0, 0);
        } else {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.start = self.end;
    }

    /// Room for at least one more byte within `bytes_max`, if there is any.
    fn grow(&mut self, worker: &Worker, wanted: usize, bytes_max: usize) -> bool {
        if self.end + wanted <= self.buffer.len() {
            return true;
        }
        if self.end + wanted > bytes_max {
            return false;
        }
        let mut larger = worker.take_buffer(self.end + wanted, bytes_max);
        if let Some(front) = larger.get_mut(..self.end) {
            front.copy_from_slice(self.buffer.get(..self.end).unwrap_or_default());
        }
        worker.give_buffer(std::mem::replace(&mut self.buffer, larger));
        true
    }

    /// Reads more from the client; 0: it has ended. Pending, without a buffer where none was needed before, while
    /// nothing comes, and for good once `bytes_max` are held.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client,
        worker: &Worker,
        bytes_max: usize,
    ) -> Poll<io::Result<usize>> {
        if !self.grow(worker, 1, bytes_max) {
            return Poll::Pending;
        }
        let end = self.end;
        let read = client.poll_read(cx, self.buffer.get_mut(end..).unwrap_or_default());
        match read {
            Poll::Ready(Ok(count)) => {
                self.end += count;
                worker.tally.received.add(0, count);
            }
            _ if self.end == 0 => worker.give_buffer(std::mem::take(&mut self.buffer)),
            _ => {}
        }
        read
    }

    /// Keeps bytes that were read past a body; the caller never reads more than `bytes_max`.
    fn push(&mut self, worker: &Worker, bytes: &[u8], bytes_max: usize) {
        if bytes.is_empty() || !self.grow(worker, bytes.len(), bytes_max) {
            return;
        }
        if let Some(room) = self.buffer.get_mut(self.end..self.end + bytes.len()) {
            room.copy_from_slice(bytes);
            self.end += bytes.len();
        }
    }
}

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
    upstream: Io,
    /// The client's bytes behind its request.
    up: Vec<u8>,
    /// The upstream's bytes behind its 101.
    behind: Vec<u8>,
    /// What the client has not taken yet of the 101.
    unsent: Pending,
    deflate: bool,
    listener: Option<Box<Listener>>,
}

impl Upgraded {
    pub(crate) fn relay(
        self,
        client: Client,
        route: &Route,
        peer: IpAddr,
        tally: Arc<HostTally>,
        worker: &Worker,
    ) -> Relay {
        let rules = Rules {
            frame_bytes_max: route.frame_bytes_max.unwrap_or(u64::MAX),
            message_bytes_max: route.message_bytes_max.unwrap_or(u64::MAX),
            check_utf8: route.check_utf8,
            deflate: self.deflate,
        };
        let begun = (&self.up[..], &self.behind[..], self.unsent);
        Relay::new((client, self.upstream), rules, begun, self.listener, peer, tally.websocket(), worker)
    }
}

/// The request's half.
struct Up {
    head_written: usize,
    body: BodyReader,
    body_bytes: u64,
    pending: Pending,
    /// A chunked body's end is in `pending` or further.
    ended: bool,
    /// The whole request is on its way.
    done: bool,
    /// The upstream takes no more; its response may still come.
    broken: bool,
    moved: Instant,
    /// When the client, or the upstream where that takes nothing, has had its time.
    due: Instant,
}

/// What a step of the request's half moved.
enum Moved {
    /// Bytes of the client's body.
    Body(usize),
    /// What the upstream had to take first.
    Other,
}

/// The response's half.
enum Down {
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

/// Why one step of sending went no further.
enum Stop {
    /// The upstream takes nothing more.
    Upstream,
    End(End),
}

struct Exchange<'s> {
    worker: &'s Worker,
    client: &'s mut Client,
    input: &'s mut Input,
    request: &'s Request,
    io: Io,
    reused: bool,
    /// Hears an answer that opens a session, where several upstreams have sessions.
    listener: Option<Box<Listener>>,
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
    /// Of a 101: the bytes behind it, and whether its frames may be compressed.
    behind: Vec<u8>,
    deflate: bool,
}

/// Runs one exchange on `connection` until its end.
pub(crate) async fn run(
    worker: &Worker,
    client: &mut Client,
    input: &mut Input,
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
        request,
        io,
        reused,
        listener: request.choice.opens.then(|| {
            let ear = if request.offer.is_some() { Ear::frames() } else { Ear::body() };
            Listener::new(ear, &worker.shared, &request.route, upstream.id)
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
        deflate: false,
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
            deflate: exchange.deflate,
            listener: exchange.listener,
        }));
    }
    if let (End::Next | End::Close, Some(listener), 200) = (&end, &exchange.listener, request.status.get()) {
        listener.missed();
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
        // Registered with the clock only when first polled, and moved only when it must fire earlier, or has fired.
        let mut sleep = pin!(sleep_until(self.up.due));
        poll_fn(|cx| {
            if let Poll::Ready(end) = self.poll(cx) {
                return Poll::Ready(end);
            }
            let Some(due) = self.due() else { return Poll::Pending };
            if due < sleep.deadline() {
                sleep.as_mut().reset(due);
            }
            while sleep.as_mut().poll(cx).is_ready() {
                if due <= Instant::now() {
                    if !self.client_moves() {
                        return Poll::Ready(self.timed_out());
                    }
                    cx.waker().wake_by_ref(); // there is room for more now
                }
                let Some(due) = self.due() else { return Poll::Pending };
                sleep.as_mut().reset(due);
            }
            Poll::Pending
        })
        .await
    }

    /// Whether nothing is due any more because a slow client took some bytes after all.
    fn client_moves(&mut self) -> bool {
        if let Some(mut backlog) = self.backlog {
            self.client.nudge();
            let waiting_bytes = self.waiting_bytes();
            backlog.look(waiting_bytes, &self.request.limits.pace, Instant::now());
            // With all of it taken just now, what is waited for is the upstream.
            self.backlog = (waiting_bytes > 0).then_some(backlog);
            if waiting_bytes == 0 {
                self.down_moved = Instant::now();
            }
        }
        self.due().is_none_or(|due| due > Instant::now())
    }

    /// Bytes that the client has not taken.
    fn waiting_bytes(&self) -> usize {
        self.down_pending.len() + self.client.unsent_bytes()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let mut scratch = self.worker.scratch.borrow_mut();
        let mut out = self.worker.out.borrow_mut();
        for _ in 0..TURNS {
            let up = match self.poll_up(cx, &mut scratch, &mut out) {
                Poll::Ready(Err(end)) => return Poll::Ready(end),
                up => up.is_ready(),
            };
            let down = match self.poll_down(cx, &mut scratch, &mut out) {
                Poll::Ready(Err(end)) => return Poll::Ready(end),
                down => down.is_ready(),
            };
            if !up && !down {
                return Poll::Pending;
            }
        }
        poll_later(cx)
    }

    /// When the side that is waited for has had its time.
    fn due(&self) -> Option<Instant> {
        let sent = self.up.done || self.up.broken;
        let up = (!sent).then_some(self.up.due);
        let down = match (&self.down, &self.backlog) {
            (_, Some(backlog)) => Some(backlog.due),
            (Down::Head { .. }, _) => sent.then(|| self.up.moved + self.request.route.rules.response_timeout),
            (Down::Body { .. }, _) => {
                self.request.route.rules.idle_timeout.map(|timeout| self.down_moved + timeout)
            }
            (Down::Done, _) => sent.then(|| self.down_moved + self.request.limits.pace.stall),
        };
        up.into_iter().chain(down).min()
    }

    fn timed_out(&self) -> End {
        if self.backlog.is_some_and(|backlog| backlog.due <= Instant::now()) {
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

    // --- the request ---------------------------------------------------------------------------------------------

    /// Moves the request on by one step.
    fn poll_up(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Poll<Result<(), End>> {
        if self.up.done || self.up.broken {
            return self.poll_watch(cx);
        }
        let moved = match ready!(self.poll_send(cx, scratch, out)) {
            Err(Stop::End(end)) => return Poll::Ready(Err(end)),
            Err(Stop::Upstream) => {
                self.up.broken = true;
                Moved::Other
            }
            Ok(moved) => {
                // Known at once and not with the next step: the response may be read before that.
                self.up.done = self.up.is_sent(self.request.plan.len());
                moved
            }
        };
        let pace = &self.request.limits.pace;
        self.up.moved = Instant::now();
        self.up.due = match moved {
            Moved::Body(bytes) if self.up.pending.is_empty() => {
                pace.extended(self.up.due, bytes, self.up.moved)
            }
            _ => self.up.moved + pace.stall,
        };
        Poll::Ready(Ok(()))
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Poll<Result<Moved, Stop>> {
        if self.up.head_written < self.request.plan.len() {
            return self.poll_send_head(cx).map_ok(|()| Moved::Other);
        }
        let was_waited_for = ready!(self.up.pending.poll_drain(|bytes| self.io.poll_write(cx, bytes)))
            .map_err(|_| Stop::Upstream)?;
        // The client could not send on while the upstream took nothing.
        let moved = |bytes| if was_waited_for { Moved::Other } else { Moved::Body(bytes) };
        if self.up.body.is_done() {
            if !self.up.ended {
                self.up.ended = true;
                self.up.body.last_chunk().iter().for_each(|piece| self.up.pending.push(piece));
            }
            return Poll::Ready(Ok(Moved::Other));
        }
        if !self.input.rest().is_empty() {
            let used = self.up.send(cx, &mut self.io, self.request, self.input.rest(), out)?;
            self.input.consume(used);
            return Poll::Ready(Ok(moved(used)));
        }
        // The head is sent and a request with a body is never repeated: the buffer can go.
        self.input.compact(self.worker);
        // Never past the end of a body whose end is known; else no more than the input can hold behind it.
        let head_bytes_max = self.request.limits.head.head_bytes_max;
        let room = match self.request.framing {
            Framing::Length(length) => usize::try_from(length - self.up.body_bytes).unwrap_or(usize::MAX),
            _ => head_bytes_max,
        };
        let room = room.min(scratch.len());
        let read = ready!(self.client.poll_read(cx, scratch.get_mut(..room).unwrap_or_default()));
        let read = match read {
            Ok(0) | Err(_) => {
                let has_all = matches!(self.down, Down::Done);
                return Poll::Ready(Err(Stop::End(if has_all { End::Close } else { End::Broken })));
            }
            Ok(count) => scratch.get(..count).unwrap_or_default(),
        };
        self.worker.tally.received.add(0, read.len());
        let used = self.up.send(cx, &mut self.io, self.request, read, out)?;
        // What follows the body is the next request's head.
        self.input.push(self.worker, read.get(used..).unwrap_or_default(), head_bytes_max);
        Poll::Ready(Ok(moved(used)))
    }

    /// Sends the head, and in the same write the beginning of a body that is already here.
    fn poll_send_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        let (plan, input) = (&self.request.plan, &*self.input);
        let head_left = plan.len() - self.up.head_written;
        let mut slices = heapless::Vec::<IoSlice<'_>, SLICES_MAX>::new();
        plan.slices(input.all(), self.up.head_written, &mut slices);
        let mut body = self.up.body.clone();
        let mut first = None;
        let whole = slices.iter().map(|slice| slice.len()).sum::<usize>() == head_left;
        if whole && matches!(self.request.framing, Framing::Length(_)) {
            let step = body.step(input.rest()).map_err(|error| malformed(&error))?;
            let data = input.rest().get(step.data).unwrap_or_default();
            if slices.push(IoSlice::new(data)).is_ok() {
                first = Some((step.consumed, data));
            }
        }
        let written = ready!(self.io.poll_write_vectored(cx, &slices)).map_err(|_| Stop::Upstream)?;
        self.up.head_written += written.min(head_left);
        if let (Some((consumed, data)), true) = (first, written >= head_left) {
            self.up.pending.push(data.get(written - head_left..).unwrap_or_default());
            self.up.body = body;
            self.up.body_bytes += data.len() as u64;
            drop(slices);
            self.input.consume(consumed);
        }
        Poll::Ready(Ok(()))
    }

    /// The request is with the upstream: notices a client that goes away, and holds the start of its next request.
    fn poll_watch(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        if !self.head_is_needed() && self.input.rest().is_empty() {
            self.input.compact(self.worker);
        }
        if self.client.said_goodbye() {
            return self.client.poll_gone(cx).map(|()| Err(End::Broken));
        }
        let bytes_max = self.request.limits.head.head_bytes_max;
        match ready!(self.input.poll_fill(cx, self.client, self.worker, bytes_max)) {
            // RFC 8446 §6.1: it has closed its own direction, and may wait for the response.
            Ok(0) if self.client.said_goodbye() => Poll::Ready(Ok(())),
            Ok(0) | Err(_) => Poll::Ready(Err(End::Broken)),
            Ok(_) => Poll::Ready(Ok(())),
        }
    }

    /// The head may be sent again, or the upstream's 101 will be held against it.
    fn head_is_needed(&self) -> bool {
        let waiting = matches!(self.down, Down::Head { .. });
        waiting && (self.request.offer.is_some() || self.may_repeat())
    }

    fn may_repeat(&self) -> bool {
        self.reused && self.request.repeatable && !self.answered
    }

    // --- the response --------------------------------------------------------------------------------------------

    /// Moves the response on by one step; `Err` is its end.
    fn poll_down(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Poll<Result<(), End>> {
        ready!(self.poll_deliver(cx)).map_err(|_| End::Broken)?;
        if matches!(self.down, Down::Done) {
            if self.app_reads_on() {
                return Poll::Pending; // the request's half goes on, in its time
            }
            return Poll::Ready(Err(if self.keep_client { End::Next } else { End::Close }));
        }
        let read = match ready!(self.io.poll_read(cx, scratch)) {
            Ok(0) => return Poll::Ready(self.upstream_ended(cx, None)),
            Err(error) => return Poll::Ready(self.upstream_ended(cx, Some(error))),
            Ok(count) => scratch.get(..count).unwrap_or_default(),
        };
        self.down_moved = Instant::now();
        let result = match &mut self.down {
            Down::Head { held, .. } if held.is_empty() => self.head_arrived(cx, read, out),
            Down::Head { held, .. } => {
                let mut bytes = std::mem::take(held);
                bytes.extend_from_slice(read);
                self.head_arrived(cx, &bytes, out)
            }
            _ => self.body_arrived(cx, read, out),
        };
        Poll::Ready(result)
    }

    /// An app may answer before it has read the body, and read it all the same. Of what it refused it wants no more.
    fn app_reads_on(&self) -> bool {
        let sent = self.up.done || self.up.broken;
        !sent && self.request.status.get() < 400 && !self.waits_to_be_asked()
    }

    /// Brings what waits to the client; ready when the kernel has all of it.
    fn poll_deliver(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let delivered = match self.down_pending.poll_drain(|bytes| self.client.poll_write(cx, bytes)) {
            Poll::Ready(drained) => drained.map_or_else(
                |error| Poll::Ready(Err(error)),
                |moved| self.client.poll_flush(cx).map_ok(|()| moved),
            ),
            Poll::Pending => Poll::Pending,
        };
        if delivered.is_pending() {
            if self.backlog.is_none() {
                let bytes = self.waiting_bytes();
                self.backlog = Some(Backlog::new(bytes, &self.request.limits.pace, Instant::now()));
            }
            return Poll::Pending;
        }
        let was_slow = self.backlog.take().is_some();
        delivered.map_ok(|moved| {
            if moved || was_slow {
                self.down_moved = Instant::now();
            }
        })
    }

    fn upstream_ended(&mut self, cx: &mut Context<'_>, error: Option<io::Error>) -> Result<(), End> {
        let may_repeat = self.may_repeat();
        match &mut self.down {
            Down::Head { held, .. } if held.is_empty() && may_repeat => Err(End::Again),
            Down::Head { .. } => {
                let found =
                    error.map_or_else(|| "it closed the connection".to_owned(), |error| error.to_string());
                Err(End::Failed(Problem::UpstreamClosed, found))
            }
            Down::Body { chunked, reader } => {
                let broke_off = |found| Err(End::Failed(Problem::UpstreamClosed, found));
                match (error, reader.end()) {
                    (Some(error), _) => return broke_off(format!("its response broke off: {error}")),
                    (None, Err(error)) => return broke_off(format!("its response broke off: {error}")),
                    (None, Ok(())) => {}
                }
                let tail = if *chunked { reader.last_chunk().concat() } else { Vec::new() };
                self.down = Down::Done;
                self.keep_upstream = None;
                self.deliver(cx, &tail)
            }
            Down::Done => Ok(()),
        }
    }

    fn deliver(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<(), End> {
        self.worker.tally.sent.add(0, bytes.len());
        match forward(&mut self.down_pending, bytes, |bytes| self.client.poll_write(cx, bytes)) {
            Poll::Ready(Err(_)) => Err(End::Broken),
            _ => Ok(()),
        }
    }

    /// Reads heads from `bytes`: interim ones go on to the client, the final one begins the response.
    fn head_arrived(&mut self, cx: &mut Context<'_>, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), End> {
        let limits = self.request.limits.head;
        let mut rest = bytes;
        loop {
            let Down::Head { scanner, held, interim } = &mut self.down else { return Ok(()) };
            let Some(length) = scanner.scan(rest, &limits).map_err(|error| upstream_malformed(&error))?
            else {
                held.extend_from_slice(rest);
                return Ok(());
            };
            let (head, behind) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            let head = parse_scanned_response(head, self.request.is_head, scanner);
            let head = head.map_err(|error| upstream_malformed(&error))?;
            if head.status >= 200 || head.status == 101 {
                return self.begin(cx, &head, behind, out);
            }
            *interim += 1;
            if *interim > INTERIM_MAX {
                return Err(upstream_malformed(&"too many interim responses"));
            }
            self.asked |= head.status == 100;
            *scanner = HeadScanner::response();
            // RFC 9110 §15.2: an HTTP/1.0 client knows none.
            if self.request.version == Version::Http11 {
                out.clear();
                response_head(&head, &self.form(Framing::None, true), out);
                self.reused = false; // the upstream has begun to answer: nothing is repeated now
                self.deliver(cx, out)?;
            }
            rest = behind;
        }
    }

    fn form(&self, framing_out: Framing, keep_alive: bool) -> ResponseForm {
        ResponseForm { client_version: self.request.version, keep_alive, framing_out, websocket: false }
    }

    /// A final head, or a 101: decides what becomes of both connections and sends the head with the beginning of
    /// the body in one write.
    fn begin(
        &mut self,
        cx: &mut Context<'_>,
        head: &ResponseHead<'_>,
        behind: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), End> {
        out.clear();
        self.request.status.set(head.status);
        if head.status == 101 {
            self.check_upgrade(head)?;
            response_head(head, &ResponseForm { websocket: true, ..self.form(Framing::None, true) }, out);
            self.behind = behind.to_vec();
            self.deflate = handshake::deflate_negotiated(head);
            self.upgraded = true;
            self.deliver(cx, out)?;
            return Err(End::Close);
        }
        let framing_out = match (head.framing, self.request.version) {
            (Framing::Chunked | Framing::UntilClose, Version::Http11) => Framing::Chunked,
            (Framing::Chunked | Framing::UntilClose, Version::Http10) => Framing::UntilClose,
            (framing, _) => framing,
        };
        let is_upgrade = self.request.offer.is_some();
        self.keep_client = self.request.keep_alive
            && self.up.done
            && !is_upgrade
            && self.worker.drain().is_none()
            && framing_out != Framing::UntilClose;
        let own_time = head.keep_alive_timeout_s.map(|seconds| Duration::from_secs(seconds.into()));
        self.keep_upstream = (head.keep_alive && !is_upgrade).then_some(own_time);
        response_head(head, &self.form(framing_out, self.keep_client), out);
        self.down =
            Down::Body { reader: BodyReader::new(head.framing), chunked: framing_out == Framing::Chunked };
        self.listen(behind);
        // Bad already here, it is still ours to say.
        self.translate(behind, out)?;
        self.answered = true;
        self.deliver(cx, out)
    }

    /// Before the client has the bytes: it may come back with the sid at once.
    fn listen(&mut self, bytes: &[u8]) {
        let (Some(listener), Down::Body { reader, .. }) = (&mut self.listener, &self.down) else { return };
        let mut done = self.request.status.get() != 200;
        let _ = each_run(&mut reader.clone(), bytes, |data| done = done || listener.hear(data));
        if done {
            self.listener = None;
        }
    }

    fn check_upgrade(&self, head: &ResponseHead<'_>) -> Result<(), End> {
        let Some(offer) = &self.request.offer else {
            return Err(upstream_malformed(&"101 to a request that asked for no upgrade"));
        };
        let sent = self.input.all().get(..self.request.head_bytes).unwrap_or_default();
        let sent =
            parse_request(sent, &self.request.limits.head).map_err(|error| upstream_malformed(&error))?;
        handshake::response(offer, &sent, head).map_err(|error| upstream_malformed(&error))
    }

    fn body_arrived(&mut self, cx: &mut Context<'_>, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), End> {
        self.listen(bytes);
        let Down::Body { reader, chunked: false } = &mut self.down else {
            out.clear();
            self.translate(bytes, out)?;
            return self.deliver(cx, out);
        };
        // Nothing is framed anew: the one run of data goes on from where it was read.
        let step = reader.step(bytes).map_err(|error| upstream_malformed(&error))?;
        let whole = step.consumed == bytes.len();
        let data = bytes.get(step.data).unwrap_or_default();
        if !whole && !step.done {
            out.clear();
            self.deliver(cx, data)?;
            self.translate(bytes.get(step.consumed..).unwrap_or_default(), out)?;
            return self.deliver(cx, out);
        }
        if step.done {
            self.end_body(whole);
        }
        self.deliver(cx, data)
    }

    /// Appends what `bytes` hold of the body to `out`, in the framing that the client gets.
    fn translate(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), End> {
        let Down::Body { reader, chunked } = &mut self.down else { return Ok(()) };
        let (used, _) = reframe(reader, *chunked, bytes, out).map_err(|error| upstream_malformed(&error))?;
        if reader.is_done() {
            if *chunked {
                reader.last_chunk().iter().for_each(|piece| out.extend_from_slice(piece));
            }
            self.end_body(used == bytes.len());
        }
        Ok(())
    }

    /// The response is complete. Bytes behind it make its end ambiguous: that connection is not used again.
    fn end_body(&mut self, nothing_behind: bool) {
        self.down = Down::Done;
        if !nothing_behind {
            self.keep_upstream = None;
        }
    }
}

impl Up {
    /// Whether the upstream's kernel has the whole request.
    fn is_sent(&self, head_bytes: usize) -> bool {
        self.head_written == head_bytes && self.body.is_done() && self.ended && self.pending.is_empty()
    }

    /// Sends what `bytes` hold of the body; returns how many of them belong to it.
    fn send(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut Io,
        request: &Request,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<usize, Stop> {
        let (used, data) = if request.framing == Framing::Chunked {
            out.clear();
            let (used, data_bytes) =
                reframe(&mut self.body, true, bytes, out).map_err(|error| malformed(&error))?;
            self.body_bytes += data_bytes as u64;
            (used, out.as_slice())
        } else {
            let step = self.body.step(bytes).map_err(|error| malformed(&error))?;
            self.body_bytes += step.data.len() as u64;
            (step.consumed, bytes.get(step.data).unwrap_or_default())
        };
        if request.route.rules.body_bytes_max.is_some_and(|limit| self.body_bytes > limit) {
            return Err(Stop::End(End::Failed(
                Problem::BodyTooLarge,
                "body_bytes_max is reached".to_owned(),
            )));
        }
        match forward(&mut self.pending, data, |bytes| io.poll_write(cx, bytes)) {
            Poll::Ready(Err(_)) => Err(Stop::Upstream),
            _ => Ok(used),
        }
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

fn malformed(error: &dyn std::fmt::Display) -> Stop {
    Stop::End(End::Failed(Problem::BadRequest, error.to_string()))
}

fn upstream_malformed(error: &dyn std::fmt::Display) -> End {
    End::Failed(Problem::UpstreamMalformed, error.to_string())
}
