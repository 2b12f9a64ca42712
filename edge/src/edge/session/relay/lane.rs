//! One direction of a relay.

use std::io;
use std::task::{Poll, ready};

use serde::{Deserialize, Serialize};

use crate::edge::net::send_buffer::{Pending, put};
use crate::edge::net::transport::Transport;
use crate::edge::session::driver::Now;
use crate::edge::shared::sticky::SidObserver;
use crate::ops::metrics::Flow;
use crate::ws::frame::{ControlFrame, Violation};
use crate::ws::tracker::{Direction, Rules, Then, Tracker, Unsound};

/// A control frame of ours that waits for the end of the frame that is passing.
#[derive(Serialize, Deserialize)]
pub(super) enum Insert {
    Ping(ControlFrame),
    Close(ControlFrame),
}

/// Where a direction comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Source {
    Open,
    Ended,
}

/// Where a direction leads to, in the order of its life; it may skip some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Sink {
    /// What the source says passes.
    Open,
    /// Nothing of the source passes any more: a Close has gone to the sink, or a rule was broken.
    Sealed,
    /// To be closed once it has everything.
    Finishing,
    /// Closed because the source has ended.
    Ended,
    /// Closed behind a Close, or lost.
    Closed,
}

impl Sink {
    /// Whether nothing of the source passes, by a Close or a broken rule.
    pub(super) fn is_sealed(self) -> bool {
        matches!(self, Self::Sealed | Self::Finishing | Self::Closed)
    }

    /// Whether nothing more can be said to it.
    pub(super) fn is_closed(self) -> bool {
        self >= Self::Ended
    }
}

/// One direction of a relay, from its source to its sink.
#[derive(Serialize, Deserialize)]
pub(super) struct Lane {
    direction: Direction,
    pub(super) tracker: Tracker,
    pub(super) pending: Pending,
    pub(super) insert: Option<Box<Insert>>,
    /// Observes the beginning of what the source sends. Not handed over.
    #[serde(skip)]
    pub(super) observer: Option<Box<SidObserver>>,
    pub(super) source: Source,
    pub(super) sink: Sink,
    /// Bytes of the source have passed since this was last looked at.
    pub(super) passed: bool,
    /// The source has sent something since this was last looked at, whether it passed or not.
    pub(super) heard: bool,
}

impl Lane {
    pub(super) fn new(direction: Direction, rules: Rules, pending: Pending) -> Self {
        Self {
            direction,
            tracker: Tracker::new(direction, rules),
            pending,
            insert: None,
            observer: None,
            source: Source::Open,
            sink: Sink::Open,
            passed: false,
            heard: false,
        }
    }

    /// Goes on with a lane that was read from a record.
    ///
    /// # Errors
    /// It is of another direction, or no lane could have become this.
    pub(super) fn resume(self, direction: Direction, rules: &Rules) -> Result<Self, Unsound> {
        if self.direction != direction {
            return Err(Unsound);
        }
        Ok(Self { tracker: self.tracker.resume(direction, rules)?, ..self })
    }

    pub(super) fn is_over(&self) -> bool {
        self.source == Source::Ended && self.sink.is_closed()
    }

    fn is_to_client(&self) -> bool {
        self.direction == Direction::FromUpstream
    }

    /// Moves on by one step: what waits goes out first, then a frame of ours, then the next bytes of the source.
    pub(super) fn step(
        &mut self,
        now: &Now,
        source: &mut impl Transport,
        sink: &mut impl Transport,
        scratch: &mut [u8],
        flow: &Flow,
    ) -> Poll<Result<(), Stop>> {
        if !self.sink.is_closed() {
            match self.step_sink(sink) {
                Poll::Ready(Ok(false)) => {}
                Poll::Ready(Err(_)) if !self.is_to_client() => self.lose_sink(),
                step => return step.map(|moved| Ok(moved.map(drop)?)),
            }
        }
        if self.source == Source::Ended {
            return Poll::Pending;
        }
        let count = match ready!(source.try_read(scratch)) {
            // An upstream's reset is an end like another: what came before it is the client's. And the sink's Close
            // is still to be sent, whatever becomes of the source.
            Err(_) if self.is_to_client() || self.sink.is_sealed() || self.insert.is_some() => 0,
            read => read?,
        };
        self.heard |= count > 0;
        if count == 0 {
            self.source = Source::Ended;
            return Poll::Ready(Ok(()));
        }
        let read = scratch.get(..count).unwrap_or_default();
        self.observe(read, now);
        match self.pass(read, flow, |bytes| sink.try_write(bytes)) {
            Err(Stop::Io) if !self.is_to_client() => self.lose_sink(),
            passed => return Poll::Ready(passed),
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn observe(&mut self, bytes: &[u8], now: &Now) {
        if let Some(observer) = &mut self.observer
            && observer.observe(bytes, now.get())
        {
            self.observer = None;
        }
    }

    /// Brings the sink up to date; `true`: something moved.
    fn step_sink(&mut self, sink: &mut impl Transport) -> Poll<io::Result<bool>> {
        ready!(self.pending.poll_drain(|bytes| sink.try_write(bytes)))?;
        ready!(sink.try_flush())?;
        if self.insert.is_some() && self.tracker.at_boundary() {
            self.insert_now();
            return Poll::Ready(Ok(true));
        }
        if self.source == Source::Ended || self.sink == Sink::Finishing {
            ready!(sink.try_shutdown())?;
            self.sink = if self.sink.is_sealed() { Sink::Closed } else { Sink::Ended };
            return Poll::Ready(Ok(true));
        }
        Poll::Ready(Ok(false))
    }

    /// The sink takes nothing more. What the source still says is dropped, so that what the sink said before it went
    /// passes.
    pub(super) fn lose_sink(&mut self) {
        self.seal();
        self.sink = Sink::Closed;
        self.pending = Pending::default();
    }

    /// Passes `bytes` as far as the rules allow; a frame of ours goes between two of them.
    pub(super) fn pass(
        &mut self,
        bytes: &[u8],
        flow: &Flow,
        mut write: impl FnMut(&[u8]) -> Poll<io::Result<usize>>,
    ) -> Result<(), Stop> {
        let mut rest = bytes;
        flow.add(0, bytes.len());
        while self.sink == Sink::Open {
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
                self.sink = Sink::Finishing;
            }
            None => {}
        }
    }

    /// Nothing passes any more; where nothing may follow, a frame of ours has no place either.
    fn seal(&mut self) {
        self.sink = self.sink.max(Sink::Sealed);
        self.insert = None;
    }

    /// Ends this direction with a Close at the end of the frame that is passing; without one where the sink has had
    /// a Close already, or only the beginning of a frame whose rest must not pass.
    pub(super) fn close(&mut self, frame: ControlFrame) {
        if self.sink >= Sink::Finishing || self.waits_to_close() {
            return;
        }
        if self.sink == Sink::Open {
            self.insert = Some(Box::new(Insert::Close(frame)));
            return;
        }
        if self.tracker.at_boundary() {
            self.pending.push(&frame); // never behind a Close of the source: that is no boundary
        }
        self.sink = Sink::Finishing;
    }

    /// A Close of ours waits for the end of a frame that may still come.
    pub(super) fn waits_to_close(&self) -> bool {
        matches!(self.insert.as_deref(), Some(Insert::Close(_)))
            && self.source == Source::Open
            && !self.sink.is_closed()
    }

    /// Its sink has failed: nothing can be forwarded any more.
    pub(super) fn give_up(&mut self) {
        self.lose_sink();
        self.source = Source::Ended;
    }
}

/// Why a relay's step went no further.
pub(super) enum Stop {
    Io,
    Broken(Violation),
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Self::Io
    }
}
