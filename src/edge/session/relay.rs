//! The two-way relay after a 101. Frames pass untouched, masks included, while a [`Tracker`] reads their headers; a side
//! that does not take its bytes stops the other side's reading. An idle relay owns no buffer: reads go through the
//! worker's scratch.

use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use tokio::time::Instant;

use crate::bundle::Route;
use crate::edge::net::send_buffer::{Pending, put};
use crate::edge::net::tls::TlsStream;
use crate::edge::net::upstream::UpstreamStream;
use crate::edge::session::alarm::Alarm;
use crate::edge::session::pace::{Backlog, Pace};
use crate::edge::session::turns::{TURNS, poll_later};
use crate::edge::session::worker::{Permit, Worker};
use crate::edge::shared::state::Drain;
use crate::edge::shared::sticky::SidObserver;
use crate::ops::metrics::{Flow, OpenWebSocket, Reason};
use crate::ws::frame::{ControlFrame, Violation, close_frame, ping_frame};
use crate::ws::tracker::{Direction, Rules, Then, Tracker};

/// Going away (RFC 6455 §7.4.1).
const GOING_AWAY: u16 = 1001;
/// How long the second direction may stand still after the first has ended.
const LINGER: Duration = Duration::from_secs(5);

/// One end of a relay.
trait Side {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl Side for TlsStream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll_read(cx, buffer)
    }
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write(cx, bytes)
    }
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_shutdown(cx)
    }
}

impl Side for UpstreamStream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll_read(cx, buffer)
    }
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write(cx, bytes)
    }
    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_shutdown(cx)
    }
}

/// A control frame of ours that waits for the end of the frame that is passing.
enum Insert {
    Ping(ControlFrame),
    Close(ControlFrame),
}

/// One direction of a relay, from its source to its sink.
struct Lane {
    to_client: bool,
    tracker: Tracker,
    pending: Pending,
    insert: Option<Box<Insert>>,
    /// Observes the beginning of what the source sends.
    observer: Option<Box<SidObserver>>,
    /// Nothing of the source passes any more: a Close has gone to the sink, or a rule was broken.
    sealed: bool,
    /// The sink is to be closed once it has everything.
    finish: bool,
    source_ended: bool,
    sink_closed: bool,
    /// Bytes of the source have passed since this was last looked at.
    passed: bool,
    /// The source has said something since this was last looked at, whether it passed or not.
    heard: bool,
}

impl Lane {
    fn new(direction: Direction, rules: Rules, pending: Pending) -> Self {
        Self {
            to_client: direction == Direction::FromUpstream,
            tracker: Tracker::new(direction, rules),
            pending,
            insert: None,
            observer: None,
            sealed: false,
            finish: false,
            source_ended: false,
            sink_closed: false,
            passed: false,
            heard: false,
        }
    }

    fn is_over(&self) -> bool {
        self.source_ended && self.sink_closed
    }

    /// Moves on by one step: what waits goes out first, then a frame of ours, then the next bytes of the source.
    fn poll(
        &mut self,
        source: &mut impl Side,
        sink: &mut impl Side,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        flow: &Flow,
    ) -> Poll<Result<(), Stop>> {
        if !self.sink_closed {
            match self.poll_sink(sink, cx) {
                Poll::Ready(Ok(false)) => {}
                Poll::Ready(Err(_)) if !self.to_client => self.lose_sink(),
                step => return step.map(|moved| Ok(moved.map(drop)?)),
            }
        }
        if self.source_ended {
            return Poll::Pending;
        }
        let count = match ready!(source.poll_read(cx, scratch)) {
            // An upstream's reset is an end like another: what came before it is the client's. And the sink's Close
            // is still to be sent, whatever becomes of the source.
            Err(_) if self.to_client || self.sealed || self.insert.is_some() => 0,
            read => read?,
        };
        self.heard |= count > 0;
        if count == 0 {
            self.source_ended = true;
            return Poll::Ready(Ok(()));
        }
        let read = scratch.get(..count).unwrap_or_default();
        self.observe(read);
        match self.pass(read, flow, |bytes| sink.poll_write(cx, bytes)) {
            Err(Stop::Io) if !self.to_client => self.lose_sink(),
            passed => return Poll::Ready(passed),
        }
        Poll::Ready(Ok(()))
    }

    fn observe(&mut self, bytes: &[u8]) {
        if let Some(observer) = &mut self.observer
            && observer.observe(bytes, Instant::now())
        {
            self.observer = None;
        }
    }

    /// Brings the sink up to date; `true`: something moved.
    fn poll_sink(&mut self, sink: &mut impl Side, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        ready!(self.pending.poll_drain(|bytes| sink.poll_write(cx, bytes)))?;
        ready!(sink.poll_flush(cx))?;
        if self.insert.is_some() && self.tracker.at_boundary() {
            self.insert_now();
            return Poll::Ready(Ok(true));
        }
        if self.source_ended || self.finish {
            ready!(sink.poll_shutdown(cx))?;
            self.sink_closed = true;
            return Poll::Ready(Ok(true));
        }
        Poll::Ready(Ok(false))
    }

    /// The sink takes nothing more. What the source still says is dropped, so that what the sink said before it went
    /// passes.
    fn lose_sink(&mut self) {
        (self.sealed, self.finish, self.sink_closed) = (true, true, true);
        (self.pending, self.insert) = (Pending::default(), None);
    }

    /// Passes `bytes` as far as the rules allow; a frame of ours goes between two of them.
    fn pass(
        &mut self,
        bytes: &[u8],
        flow: &Flow,
        mut write: impl FnMut(&[u8]) -> Poll<io::Result<usize>>,
    ) -> Result<(), Stop> {
        let mut rest = bytes;
        flow.add(0, bytes.len());
        while !self.sealed {
            let tracked = match self.insert {
                Some(_) => self.tracker.track_to_boundary(rest),
                None => self.tracker.track(rest),
            };
            flow.add(tracked.messages, 0);
            let (passing, behind) = rest.split_at(tracked.pass.min(rest.len()));
            for piece in [&tracked.released[..], passing].into_iter().filter(|piece| !piece.is_empty()) {
                self.passed = true;
                put(&mut self.pending, piece, &mut write)?;
            }
            rest = behind;
            match tracked.then {
                Then::More => break,
                Then::Boundary => self.insert_now(),
                Then::OurPong(count) => rest = rest.get(count..).unwrap_or_default(),
                Then::Closed => self.seal(),
                Then::Broken(violation) => {
                    self.seal();
                    return Err(Stop::Broken(violation));
                }
            }
        }
        Ok(())
    }

    fn insert_now(&mut self) {
        match self.insert.take().as_deref() {
            Some(Insert::Ping(frame)) => self.pending.push(frame),
            Some(Insert::Close(frame)) => {
                self.pending.push(frame);
                (self.sealed, self.finish) = (true, true);
            }
            None => {}
        }
    }

    /// Nothing passes any more; where nothing may follow, a frame of ours has no place either.
    fn seal(&mut self) {
        self.sealed = true;
        self.insert = None;
    }

    /// Ends this direction with a Close at the end of the frame that is passing; without one where the sink has had
    /// a Close already, or only the beginning of a frame whose rest must not pass.
    fn close(&mut self, frame: ControlFrame) {
        if self.finish || self.waits_to_close() {
            return;
        }
        if !self.sealed {
            self.insert = Some(Box::new(Insert::Close(frame)));
            return;
        }
        if self.tracker.at_boundary() {
            self.pending.push(&frame); // never behind a Close of the source: that is no boundary
        }
        self.finish = true;
    }

    /// A Close of ours waits for the end of a frame that may still come.
    fn waits_to_close(&self) -> bool {
        matches!(self.insert.as_deref(), Some(Insert::Close(_))) && !self.source_ended && !self.sink_closed
    }

    /// Its sink has failed: there is nobody to pass anything to.
    fn give_up(&mut self) {
        (self.sealed, self.source_ended, self.sink_closed) = (true, true, true);
        (self.insert, self.pending) = (None, Pending::default());
    }
}

/// Why a relay's step went no further.
enum Stop {
    Io,
    Broken(Violation),
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Self::Io
    }
}

/// What became of our last Ping.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ping {
    /// There was none, or the client has been heard since.
    None,
    /// Others may stand before it: the rest of a frame, or bytes that the client has yet to take.
    Waits,
    /// It has been on its way for the whole interval.
    Sent,
}

/// What a 101 leaves behind: two streams, and the bytes that either side already sent behind its head.
pub(crate) struct Relay {
    client: TlsStream,
    upstream: UpstreamStream,
    up: Lane,
    down: Lane,
    /// For the log.
    peer: IpAddr,
    /// Counts it.
    _open: OpenWebSocket,
    ping: Ping,
    /// The edge ends it (a rule was broken, a time is over), and whoever is there is being told.
    ended: bool,
    /// The edge drains: the client is being told.
    leaving: bool,
    /// ... and the upstream is to be told when the client has been: an upstream that hears of it earlier may never end
    /// the frame that the client is in the middle of.
    leave_upstream: bool,
}

impl Relay {
    /// `up` are the client's bytes behind its request head, `behind` the upstream's behind its 101, and `unsent` is what
    /// the client has not taken yet of that.
    pub(crate) fn new(
        (client, upstream): (TlsStream, UpstreamStream),
        rules: Rules,
        (up, behind, unsent): (&[u8], &[u8], Pending),
        observer: Option<Box<SidObserver>>,
        peer: IpAddr,
        open: OpenWebSocket,
        worker: &Worker,
    ) -> Self {
        let mut relay = Self {
            client,
            upstream,
            up: Lane::new(Direction::FromClient, rules, Pending::default()),
            down: Lane::new(Direction::FromUpstream, rules, unsent),
            peer,
            _open: open,
            ping: Ping::None,
            ended: false,
            leaving: false,
            leave_upstream: false,
        };
        relay.down.observer = observer;
        relay.down.observe(behind);
        let keep = |_: &[u8]| Poll::Pending;
        // Both before anybody is told: what came before a broken rule passes.
        let tally = &worker.tally;
        let up = relay.up.pass(up, &tally.received, keep);
        let down = relay.down.pass(behind, &tally.sent, keep);
        for (from, passed) in [(Direction::FromClient, up), (Direction::FromUpstream, down)] {
            if let Err(Stop::Broken(violation)) = passed {
                relay.tell(worker, from, violation);
            }
        }
        relay
    }

    /// Relays until both sides have ended, one has failed, or a time is over. When the edge drains, both sides get a
    /// Close between two frames.
    // No `async`: that would keep beside the relay what it waits for and by what it is polled, a fourth of its size.
    pub(crate) fn run(mut self, permit: Permit, rules: &Route) -> impl Future<Output = ()> + use<> {
        let mut timer = Timer::new(rules.idle_timeout, rules.ping_interval);
        poll_fn(move |cx| {
            permit.wake_at_drain(cx.waker());
            let worker = &permit.worker;
            if let (false, Some(drain)) = (timer.told, worker.drain()) {
                timer.told = true;
                timer.times().leave_at = Some(Instant::now() + drain.spread.mul_f32(fraction()));
            }
            ready!(self.poll_until_due(cx, worker, &mut timer));
            if timer.told {
                worker.shared.endings.websockets.increment();
            }
            if !self.ended {
                worker.shared.closes.count(self.close_code(worker));
            }
            Poll::Ready(())
        })
    }

    fn poll_until_due(&mut self, cx: &mut Context<'_>, worker: &Worker, timer: &mut Timer) -> Poll<()> {
        loop {
            if self.poll(cx, worker).is_ready() {
                return Poll::Ready(());
            }
            let [up, down] = [&mut self.up, &mut self.down].map(|lane| std::mem::take(&mut lane.passed));
            timer.watch(self.waiting_bytes(), down, worker);
            let passed = up | down;
            // Who is told of the end gets no more time by sending on.
            match ready!(timer.poll(cx, passed && !self.ended, self.is_ending(), self.answer_within(worker)))
            {
                Due::Over if !self.is_ending() => {
                    self.part(worker, Some(GOING_AWAY), "no data for idle_timeout");
                }
                Due::Over => {
                    let _ = self.client.poll_shutdown(cx); // close_notify and FIN, where the kernel takes them
                    return Poll::Ready(());
                }
                Due::Slow => {
                    self.client.nudge();
                    let is_in_time = timer.is_in_time(self.waiting_bytes(), worker);
                    if !is_in_time && self.ended {
                        return Poll::Ready(()); // it does not take its Close either
                    }
                    if !is_in_time {
                        let found = "the client does not read its messages";
                        worker.shared.refuse(Reason::WriteStall, self.peer, found);
                        self.lose_client(worker, found);
                    }
                }
                Due::Leave => self.leave(worker),
                Due::Ping if self.probe() => self.lose_client(worker, "the client does not answer a Ping"),
                Due::Ping => {}
                Due::Unanswered if self.leaving => {} // the drain has its own bound
                Due::Unanswered => self.part(worker, self.close_code(worker), "a Close was not answered"),
            }
        }
    }

    /// Bytes that the client has not taken and is to take.
    fn waiting_bytes(&self) -> usize {
        if self.down.sink_closed { 0 } else { self.down.pending.len() + self.client.unsent_bytes() }
    }

    /// While a Close waits for its answer: how long it may.
    fn answer_within(&self, worker: &Worker) -> Option<Duration> {
        let closed = self.up.tracker.closed() || self.down.tracker.closed();
        (closed && !self.ended && !self.leaving)
            .then(|| Pace::of(&worker.shared.active.load().bundle.limits).stall)
    }

    /// What this WebSocket ended with: our own code before the client's, that before the upstream's. What broke a rule
    /// has been counted.
    fn close_code(&self, worker: &Worker) -> Option<u16> {
        let ours = worker.drain().filter(|_| self.leaving).map(|drain| drain.close.0);
        ours.or_else(|| self.up.tracker.close_code()).or_else(|| self.down.tracker.close_code())
    }

    fn poll(&mut self, cx: &mut Context<'_>, worker: &Worker) -> Poll<()> {
        let mut scratch = worker.scratch.borrow_mut();
        // A lane that waits has left its waker, and nothing but a change of its state by the other's end moves it on.
        let (mut up_moves, mut down_moves) = (true, true);
        for _ in 0..TURNS {
            if self.leave_upstream && !self.down.waits_to_close() {
                self.leave_upstream = false;
                self.up.close(close_frame(GOING_AWAY, "the edge is shutting down", Some(random())));
                up_moves = true;
            }
            let (mut up, mut down) = (Poll::Pending, Poll::Pending);
            if up_moves {
                let flow = &worker.tally.received;
                up = self.up.poll(&mut self.client, &mut self.upstream, cx, &mut scratch, flow);
            }
            if down_moves {
                let flow = &worker.tally.sent;
                down = self.down.poll(&mut self.upstream, &mut self.client, cx, &mut scratch, flow);
            }
            (up_moves, down_moves) = (up.is_ready(), down.is_ready());
            if !up_moves && !down_moves {
                return Poll::Pending;
            }
            if matches!((&up, &down), (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_)))) {
                (up_moves, down_moves) = (true, true);
            }
            for (from, step) in [(Direction::FromClient, up), (Direction::FromUpstream, down)] {
                match step {
                    Poll::Ready(Err(Stop::Io)) if self.ended || self.leaving => match from {
                        Direction::FromClient => self.up.give_up(),
                        Direction::FromUpstream => self.down.give_up(),
                    },
                    Poll::Ready(Err(Stop::Io)) => return Poll::Ready(()),
                    Poll::Ready(Err(Stop::Broken(violation))) => self.tell(worker, from, violation),
                    Poll::Ready(Ok(())) | Poll::Pending => {}
                }
            }
            if self.up.is_over() && self.down.is_over() {
                return Poll::Ready(());
            }
        }
        poll_later(cx)
    }

    /// One side has ended, both have had their Close, or the edge ends it: what is left gets [`LINGER`]. Not while a
    /// draining edge waits for the end of a frame.
    fn is_ending(&self) -> bool {
        let lanes = [&self.up, &self.down];
        let ends = |lane: &&Lane| lane.source_ended || lane.finish;
        let waits = lanes.iter().any(|lane| lane.waits_to_close());
        self.ended || (!waits && (lanes.iter().any(ends) || lanes.iter().all(|lane| lane.sealed)))
    }

    /// Tells both sides of a broken rule, and the log.
    fn tell(&mut self, worker: &Worker, from: Direction, violation: Violation) {
        let (said, reason) = match from {
            Direction::FromClient => (violation.to_string(), "the client broke a WebSocket rule".to_owned()),
            Direction::FromUpstream => (format!("from the upstream: {violation}"), violation.to_string()),
        };
        worker.shared.refuse(Reason::WebSocket, self.peer, &said);
        let code = violation.close_code();
        self.end(worker, Some(code), close_frame(code, said, None), &reason);
    }

    /// A time is over: both sides are told, where they have had no Close; `code` is for the count.
    fn part(&mut self, worker: &Worker, code: Option<u16>, reason: &str) {
        self.end(worker, code, close_frame(GOING_AWAY, reason, None), reason);
    }

    /// Nobody is there, or nobody who takes anything: only the upstream is told.
    fn lose_client(&mut self, worker: &Worker, reason: &str) {
        self.down.lose_sink();
        self.up.source_ended = true;
        self.part(worker, self.close_code(worker), reason);
    }

    fn end(&mut self, worker: &Worker, code: Option<u16>, to_client: ControlFrame, to_upstream: &str) {
        if !std::mem::replace(&mut self.ended, true) {
            worker.shared.closes.count(code);
        }
        self.down.close(to_client);
        self.up.close(close_frame(GOING_AWAY, to_upstream, Some(random())));
    }

    fn leave(&mut self, worker: &Worker) {
        let Some(Drain { close: (code, reason), .. }) = worker.drain() else { return };
        self.down.close(close_frame(code, reason, None));
        (self.leaving, self.leave_upstream) = (true, true);
    }

    /// An interval is over: pings, or tells that nobody is there (`true`). Whoever has said anything since the last Ping
    /// is, and is asked anew: a client may answer the last of several Pings only (RFC 6455 §5.5.3), and that may have
    /// been the application's.
    fn probe(&mut self) -> bool {
        // Behind a Close no Ping is sent, and none is answered (RFC 6455 §5.5.1, §5.5.2).
        let closes = self.ended || self.leaving || self.up.sealed || self.down.sealed;
        // While the upstream takes nothing we do not listen to the client: silence means nothing then.
        let listens = self.up.pending.is_empty();
        if closes || (!listens && self.ping != Ping::None) {
            return false;
        }
        if std::mem::take(&mut self.up.heard) {
            self.ping = Ping::None;
        }
        match self.ping {
            Ping::None => self.send_ping(),
            Ping::Waits if self.down.insert.is_none() && self.has_sent_all() => self.ping = Ping::Sent,
            Ping::Waits => {}
            Ping::Sent => return true,
        }
        false
    }

    fn send_ping(&mut self) {
        // Always the same: an answer that comes late is known as well.
        let payload = self.up.tracker.ping_payload().unwrap_or_else(random);
        self.up.tracker.expect_pongs(payload);
        let is_next = self.down.tracker.at_boundary() && self.has_sent_all();
        self.ping = if is_next { Ping::Sent } else { Ping::Waits };
        self.down.insert = Some(Box::new(Insert::Ping(ping_frame(payload, None))));
    }

    /// Nothing is on this side of the wire that the client has yet to take.
    fn has_sent_all(&self) -> bool {
        self.waiting_bytes() == 0 && self.client.kernel_has_sent_all()
    }
}

/// Unpredictable bytes, for masking keys (RFC 6455 §5.3) and Pings. A kernel without randomness could not have made the
/// TLS session either.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let _ = SystemRandom::new().fill(&mut bytes);
    bytes
}

/// Evenly between 0 and 1.
fn fraction() -> f32 {
    f32::from(u16::from_ne_bytes(random())) / f32::from(u16::MAX)
}

/// What a timer says.
enum Due {
    Over,
    Slow,
    Leave,
    Ping,
    Unanswered,
}

/// When a relay ends or speaks by itself: idle for too long, one side ended and the other standing still, a Close without
/// an answer, a drain, a Ping. Costs nothing where none applies, and little memory.
#[derive(Default)]
struct Timer {
    /// Once there are any.
    times: Option<Box<Times>>,
    /// The drain has been noticed.
    told: bool,
    ending: bool,
}

#[derive(Default)]
struct Times {
    idle_timeout: Option<Duration>,
    ping_interval: Option<Duration>,
    quiet_until: Option<Instant>,
    ping_at: Option<Instant>,
    leave_at: Option<Instant>,
    /// When a Close is to have been answered.
    answer_at: Option<Instant>,
    /// What waits for the client to take it.
    backlog: Option<Backlog>,
    alarm: Alarm,
}

impl Timer {
    fn new(idle_timeout: Option<Duration>, ping_interval: Option<Duration>) -> Self {
        let mut timer = Self::default();
        if idle_timeout.is_some() || ping_interval.is_some() {
            let ping_at = ping_interval.map(|interval| Instant::now() + interval);
            *timer.times() = Times { idle_timeout, ping_interval, ping_at, ..Times::default() };
        }
        timer
    }

    fn times(&mut self) -> &mut Times {
        self.times.get_or_insert_default()
    }

    /// Looks whether the client has something to take; `added`: it had taken all that was there before.
    fn watch(&mut self, waiting_bytes: usize, added: bool, worker: &Worker) {
        let waited = self.times.as_ref().is_some_and(|times| times.slow_at().is_some());
        match (waited, waiting_bytes > 0) {
            (false, false) => return, // the usual case
            (true, true) if !added => return,
            _ => {}
        }
        let (pace, now) = (Pace::of(&worker.shared.active.load().bundle.limits), Instant::now());
        let backlog = &mut self.times().backlog;
        if waited {
            backlog.iter_mut().for_each(|backlog| backlog.look(0, &pace, now));
        }
        if waiting_bytes > 0 {
            Backlog::begin(backlog, waiting_bytes, &pace, now);
        }
    }

    /// Whether the client has taken enough since to be given more time.
    fn is_in_time(&mut self, waiting_bytes: usize, worker: &Worker) -> bool {
        if waiting_bytes == 0 {
            return true; // it has just taken all of it
        }
        let Some(backlog) = self.times.as_mut().and_then(|times| times.backlog.as_mut()) else { return true };
        let (pace, now) = (Pace::of(&worker.shared.active.load().bundle.limits), Instant::now());
        backlog.look(waiting_bytes, &pace, now);
        backlog.due().is_none_or(|due| due > now)
    }

    /// Ready when something is due. `passed`: bytes have passed since the last call; `ending`: one side has ended, or
    /// both are told to; `answer_within`: a Close waits for its answer. Nothing that passes makes that longer.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        passed: bool,
        ending: bool,
        answer_within: Option<Duration>,
    ) -> Poll<Due> {
        let changed = ending != std::mem::replace(&mut self.ending, ending);
        if !ending && answer_within.is_none() && self.times.is_none() {
            return Poll::Pending;
        }
        let times = self.times.get_or_insert_default();
        if times.answer_at.is_none() {
            times.answer_at = answer_within.map(|bound| Instant::now() + bound);
        }
        let timeout = if ending { Some(LINGER) } else { times.idle_timeout };
        if changed || passed || times.quiet_until.is_none() {
            times.quiet_until = timeout.map(|timeout| Instant::now() + timeout);
        }
        let all = [times.quiet_until, times.ping_at, times.leave_at, times.answer_at, times.slow_at()];
        let first = all.into_iter().flatten().min();
        let Some(first) = first else { return Poll::Pending };
        times.alarm.poll(cx, first).map(|()| times.due(first))
    }
}

impl Times {
    /// When the client has had its time for what waits.
    fn slow_at(&self) -> Option<Instant> {
        self.backlog.and_then(|backlog| backlog.due())
    }

    fn due(&mut self, first: Instant) -> Due {
        if self.leave_at == Some(first) {
            self.leave_at = None;
            return Due::Leave;
        }
        if self.answer_at == Some(first) {
            self.answer_at = None;
            return Due::Unanswered;
        }
        if self.ping_at == Some(first) {
            // From now: after a standstill two at once would leave the first no time for its answer.
            self.ping_at = self.ping_interval.map(|interval| Instant::now() + interval);
            return Due::Ping;
        }
        if self.slow_at() == Some(first) { Due::Slow } else { Due::Over }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_open_websocket_keeps_fits_a_small_task() {
        fn size_of_output<A, B, C, F>(_: impl Fn(A, B, C) -> F) -> usize {
            size_of::<F>()
        }
        let bytes = size_of_output(|relay: Relay, permit, rules: Box<Route>| relay.run(permit, &rules));
        // With its own 104 bytes tokio rounds a task up to a multiple of 128.
        assert!(bytes <= 512 - 104, "{bytes} bytes: the next size is 640 for each open WebSocket");
    }
}
