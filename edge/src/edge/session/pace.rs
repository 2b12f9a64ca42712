//! Who may take how long: a time to stand still, which moving bytes buy back. Time comes in as an argument.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::Limits;

/// `stall_timeout` and `body_bytes_per_s_min`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    pub(crate) stall: Duration,
    bytes_per_s_min: u32,
}

impl Pace {
    pub(crate) fn of(limits: &Limits) -> Self {
        let stall = Duration::from_millis(limits.stall_timeout_ms.into());
        Self { stall, bytes_per_s_min: limits.body_bytes_per_s_min }
    }

    pub(crate) fn new(stall: Duration, bytes_per_s_min: u32) -> Self {
        Self { stall, bytes_per_s_min }
    }

    /// When the time ends that ended at `due` before `bytes` moved.
    pub(crate) fn extended(&self, due: Instant, bytes: usize, now: Instant) -> Instant {
        let all = now + self.stall;
        match (bytes as u64).saturating_mul(1_000_000).checked_div(self.bytes_per_s_min.into()) {
            None if bytes > 0 => all,
            bought => all.min(due + Duration::from_micros(bought.unwrap_or(0)).min(self.stall)),
        }
    }
}

/// What waits for a client that does not take it at once. Kept where it has taken everything: else one that is slower than
/// the rate would begin anew with each read of ours that it takes to the end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backlog {
    bytes: usize,
    /// When the client has had its time.
    due: Instant,
    /// Since when nothing waits.
    empty_since: Option<Instant>,
}

impl Backlog {
    /// `bytes` wait where nothing did. The time left is what was left before, if there is a `last` one, and what has passed
    /// since; at most all of it.
    pub(crate) fn begin(last: &mut Option<Self>, bytes: usize, pace: &Pace, now: Instant) {
        let left = last.map_or(pace.stall, |last| {
            let since = last.empty_since.unwrap_or(now);
            last.due.saturating_duration_since(since) + now.duration_since(since)
        });
        *last = Some(Self { bytes, due: now + left.min(pace.stall), empty_since: None });
    }

    /// When the client has had its time; `None` while nothing waits.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.empty_since.is_none().then_some(self.due)
    }

    /// Looks again, nothing having been added since anything waited: what was taken buys time.
    pub(crate) fn look(&mut self, bytes: usize, pace: &Pace, now: Instant) {
        if self.empty_since.is_some() {
            return;
        }
        let taken = self.bytes.saturating_sub(bytes);
        let due = pace.extended(self.due, taken, now);
        *self = Self { bytes, due, empty_since: (bytes == 0).then_some(now) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(bytes_per_s_min: u32) -> Pace {
        Pace { stall: Duration::from_secs(60), bytes_per_s_min }
    }

    /// How many seconds a peer lasts that moves `bytes` each `every` seconds, up to an hour.
    fn lasts(pace: Pace, bytes: usize, every: u64) -> u64 {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut due = at(60);
        for second in (every..=3600).step_by(every as usize) {
            if due < at(second) {
                return (due - start).as_secs();
            }
            due = pace.extended(due, bytes, at(second));
        }
        3600
    }

    #[test]
    fn who_is_slower_than_the_rate_runs_out() {
        assert_eq!(lasts(pace(256), 1, 59), 60, "a byte a minute buys nothing");
        assert_eq!(lasts(pace(256), 256 * 20, 20), 3600, "just the rate");
        assert!((60..3600).contains(&lasts(pace(256), 240 * 20, 20)), "just below");
        assert_eq!(lasts(pace(256), 256 * 60, 60), 3600, "each time as long as a lift");
        assert_eq!(lasts(pace(256), 256 * 6000, 61), 60, "and no longer");
    }

    #[test]
    fn without_a_rate_any_byte_buys_all_of_the_time() {
        assert_eq!(lasts(pace(0), 1, 59), 3600);
        assert_eq!(lasts(pace(0), 0, 30), 60);
        assert_eq!(lasts(pace(0), 1, 61), 60);
    }

    #[test]
    fn speed_is_not_saved_up_beyond_the_time_for_one_lift() {
        let now = Instant::now();
        let due = pace(1).extended(now + Duration::from_secs(60), usize::MAX, now);
        assert_eq!(due, now + Duration::from_secs(60));
    }

    #[test]
    fn a_backlog_that_shrinks_buys_time() {
        let now = Instant::now();
        let (pace, late) = (pace(100), now + Duration::from_secs(60));
        let mut backlog = None;
        Backlog::begin(&mut backlog, 10_000, &pace, now);
        let mut backlog = backlog.unwrap();
        backlog.look(10_000, &pace, late);
        assert_eq!(backlog.due(), Some(late));
        backlog.look(9_000, &pace, late);
        assert_eq!(backlog.due(), Some(late + Duration::from_secs(10)));
        backlog.look(1, &pace, late);
        assert_eq!(backlog.due(), Some(late + Duration::from_secs(60)));
    }

    #[test]
    fn who_takes_all_of_each_read_too_slowly_runs_out_all_the_same() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let pace = pace(100);
        let at = |seconds| now + seconds * second;
        let mut backlog = None;
        let begin = |backlog: &mut _, bytes, now| Backlog::begin(backlog, bytes, &pace, now);
        let look = |backlog: &mut Option<Backlog>, now| backlog.as_mut().unwrap().look(0, &pace, now);
        let due = |backlog: &Option<Backlog>| backlog.unwrap().due();
        begin(&mut backlog, 1000, now);
        // 1,000 bytes in 30 seconds, for which 10 are given.
        look(&mut backlog, at(30));
        assert_eq!(due(&backlog), None, "nothing waits");
        look(&mut backlog, at(31));
        begin(&mut backlog, 1000, at(31));
        assert_eq!(due(&backlog), Some(at(31 + 40 + 1)), "70 - 30, and the second between");
        look(&mut backlog, at(61));
        begin(&mut backlog, 1000, at(61));
        assert_eq!(due(&backlog), Some(at(82)));
        // A pause gives all of the time again, and no more.
        look(&mut backlog, at(70));
        begin(&mut backlog, 1, at(600));
        assert_eq!(due(&backlog), Some(at(660)));
    }
}
