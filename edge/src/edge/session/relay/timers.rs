//! When a relay ends or speaks by itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::edge::session::driver::Now;
use crate::edge::session::pace::{Backlog, Pace};

/// How long the second direction may stand still after the first has ended.
const LINGER: Duration = Duration::from_secs(5);

/// The timers. Of several that are due at once the first comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The drain's Close.
    Leave,
    /// A Close waits for its answer.
    Unanswered,
    /// A Ping, or the verdict on the last.
    Ping,
    /// The client has had its time to read what waits.
    Slow,
    /// Nothing has passed for `idle_timeout`, or for [`LINGER`] since one side has ended.
    Over,
}

/// When a relay ends or speaks by itself: idle for too long, one side ended and the other standing still, a Close without
/// an answer, a drain, a Ping. Costs nothing where none applies, and little memory.
#[derive(Default)]
pub(super) struct Timers(Option<Box<Times>>);

#[derive(Default)]
struct Times {
    ending: bool,
    idle_timeout: Option<Duration>,
    ping_interval: Option<Duration>,
    quiet_until: Option<Instant>,
    ping_at: Option<Instant>,
    leave_at: Option<Instant>,
    /// When a Close is to have been answered.
    answer_at: Option<Instant>,
    /// What waits for the client to take it.
    backlog: Option<Backlog>,
}

/// What is left of them. What waits for the client begins anew: `stall_timeout` is longer than any restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remaining {
    quiet: Option<Duration>,
    ping: Option<Duration>,
}

impl Timers {
    pub(super) fn new(now: Instant, idle_timeout: Option<Duration>, ping_interval: Option<Duration>) -> Self {
        let mut timers = Self::default();
        if idle_timeout.is_some() || ping_interval.is_some() {
            let ping_at = ping_interval.map(|interval| now + interval);
            *timers.times() = Times { idle_timeout, ping_interval, ping_at, ..Times::default() };
        }
        timers
    }

    /// What is left of the times of a relay that is not ending.
    pub(super) fn remaining(&self, now: Instant) -> Remaining {
        let left = |at: Option<Instant>| at.map(|at| at.saturating_duration_since(now));
        let times = self.0.as_deref();
        Remaining {
            quiet: left(times.and_then(|times| times.quiet_until)),
            ping: left(times.and_then(|times| times.ping_at)),
        }
    }

    /// Goes on with what was left, by the times that the route has now.
    pub(super) fn resume(
        now: Instant,
        idle_timeout: Option<Duration>,
        ping_interval: Option<Duration>,
        remaining: Remaining,
    ) -> Self {
        let mut timers = Self::new(now, idle_timeout, ping_interval);
        if let Some(times) = &mut timers.0 {
            let at = |left: Option<Duration>, most: Option<Duration>| Some(now + left?.min(most?));
            times.quiet_until = at(remaining.quiet, idle_timeout);
            times.ping_at = at(remaining.ping, ping_interval).or(times.ping_at);
        }
        timers
    }

    fn times(&mut self) -> &mut Times {
        self.0.get_or_insert_default()
    }

    /// Looks whether the client has something to take; `added`: it had taken all that was there before.
    pub(super) fn watch(
        &mut self,
        now: &Now,
        waiting_bytes: usize,
        added: bool,
        pace: impl FnOnce() -> Pace,
    ) {
        let waited = self.0.as_ref().is_some_and(|times| times.slow_at().is_some());
        match (waited, waiting_bytes > 0) {
            (false, false) => return, // the usual case
            (true, true) if !added => return,
            _ => {}
        }
        let (now, pace) = (now.get(), pace());
        let backlog = &mut self.times().backlog;
        if waited {
            backlog.iter_mut().for_each(|backlog| backlog.look(0, &pace, now));
        }
        if waiting_bytes > 0 {
            Backlog::begin(backlog, waiting_bytes, &pace, now);
        }
    }

    /// Whether the client has taken enough since to be given more time.
    pub(super) fn is_in_time(&mut self, now: Instant, waiting_bytes: usize, pace: &Pace) -> bool {
        if waiting_bytes == 0 {
            return true; // it has just taken all of it
        }
        let Some(backlog) = self.0.as_mut().and_then(|times| times.backlog.as_mut()) else { return true };
        backlog.look(waiting_bytes, pace, now);
        backlog.due().is_none_or(|due| due > now)
    }

    /// When the drain's Close is due.
    pub(super) fn leave_at(&mut self, at: Instant) {
        self.times().leave_at = Some(at);
    }

    /// What is due at `now`, or else when something is. `passed`: bytes have passed since the last call; `ending`: one side has
    /// ended, or both are told to; `answer_within`: a Close waits for its answer. Nothing that passes makes that longer.
    pub(super) fn next(
        &mut self,
        now: &Now,
        passed: bool,
        ending: bool,
        answer_within: Option<Duration>,
    ) -> Result<Due, Option<Instant>> {
        if !ending && answer_within.is_none() && self.0.is_none() {
            return Err(None);
        }
        let (now, times) = (now.get(), self.0.get_or_insert_default());
        let changed = ending != std::mem::replace(&mut times.ending, ending);
        if times.answer_at.is_none() {
            times.answer_at = answer_within.map(|bound| now + bound);
        }
        let timeout = if ending { Some(LINGER) } else { times.idle_timeout };
        if changed || passed || times.quiet_until.is_none() {
            times.quiet_until = timeout.map(|timeout| now + timeout);
        }
        match times.first() {
            Some((at, due)) if at <= now => Ok(times.take(now, due)),
            later => Err(later.map(|(at, _)| at)),
        }
    }
}

impl Times {
    /// When the client has had its time for what waits.
    fn slow_at(&self) -> Option<Instant> {
        self.backlog.and_then(|backlog| backlog.due())
    }

    /// The next deadline, and whose it is.
    fn first(&self) -> Option<(Instant, Due)> {
        let table = [
            (Due::Leave, self.leave_at),
            (Due::Unanswered, self.answer_at),
            (Due::Ping, self.ping_at),
            (Due::Slow, self.slow_at()),
            (Due::Over, self.quiet_until),
        ];
        // Of several at once the first of the table.
        table.into_iter().filter_map(|(due, at)| Some((at?, due))).min_by_key(|(at, _)| *at)
    }

    fn take(&mut self, now: Instant, due: Due) -> Due {
        match due {
            Due::Leave => self.leave_at = None,
            Due::Unanswered => self.answer_at = None,
            // From now: after a standstill two at once would leave the first no time for its answer.
            Due::Ping => self.ping_at = self.ping_interval.map(|interval| now + interval),
            Due::Slow | Due::Over => {}
        }
        due
    }
}
