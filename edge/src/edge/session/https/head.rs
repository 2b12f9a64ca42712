//! Waiting for a request: until its head is complete, or the connection has rested for too long. A machine.

use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use crate::edge::net::transport::Transport;
use crate::edge::session::exchange::Input;
use crate::edge::session::machine::{Step, Surroundings};
use crate::http::head::{HeadError, HeadLimits, HeadScanner};

/// Why no request came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoHead {
    /// The client ended, it was evicted, or the edge drains: nothing to say.
    Over,
    /// The next process goes on with the connection.
    HandsOver,
    /// The keep-alive time ended: nothing to say.
    Idle,
    Slow,
    Bad(HeadError),
}

/// `head_timeout` and `keepalive_timeout`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadTimes {
    pub(crate) head: Duration,
    pub(crate) idle: Duration,
}

/// A connection whose next request is awaited.
pub(crate) struct AwaitHead {
    scanner: HeadScanner,
    limits: HeadLimits,
    head_time: Duration,
    /// Something of it has come.
    begun: bool,
    due: Instant,
    /// When a drain begins, a connection that has sent no request yet may until then.
    newcomer_until: Option<Instant>,
}

impl AwaitHead {
    pub(crate) fn new(
        now: Instant,
        input: &Input,
        limits: HeadLimits,
        times: HeadTimes,
        newcomer_until: Option<Instant>,
    ) -> Self {
        let begun = !input.all().is_empty();
        let due = now + if begun { times.head } else { times.idle };
        Self { scanner: HeadScanner::request(), limits, head_time: times.head, begun, due, newcomer_until }
    }

    /// Reads what has come by `now`; over with the scanner that found the end of the head.
    pub(crate) fn step(
        &mut self,
        now: Instant,
        client: &mut impl Transport,
        input: &mut Input,
        world: &impl Surroundings,
    ) -> Step<Result<HeadScanner, NoHead>> {
        loop {
            match self.scanner.scan(input.all(), &self.limits) {
                Ok(Some(_)) => return Step::Over(Ok(self.scanner)),
                Ok(None) => {}
                Err(error) => return Step::Over(Err(NoHead::Bad(error))),
            }
            if !self.begun && !input.all().is_empty() {
                (self.begun, self.due) = (true, now + self.head_time);
            }
            match input.fill(client, world, self.limits.head_bytes_max) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(_) => return Step::Over(Err(NoHead::Over)),
                Poll::Pending => break,
            }
        }
        if !self.begun && !world.keeps_connections() {
            match self.newcomer_until.filter(|until| *until > now) {
                Some(until) => self.due = until,
                None => return Step::Over(Err(NoHead::Over)),
            }
        }
        match (self.due > now, self.begun) {
            (true, _) => Step::Wait(Some(self.due), false),
            (false, true) => Step::Over(Err(NoHead::Slow)),
            (false, false) => Step::Over(Err(NoHead::Idle)),
        }
    }
}
