//! The system clock, and whether it is plausible.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::policy::AHEAD_S_MAX;
use crate::bundle::compile::moment;

/// A clock earlier than this release (2026-09-21) is wrong: the board has no battery and has not got the time yet.
const CLOCK_MIN: i64 = 1_790_000_000;
/// Exist while systemd-timesyncd runs, and once it has set the clock.
const TIMESYNC: (&str, &str) = ("/run/systemd/timesync", "/run/systemd/timesync/synchronized");

/// Seconds since 1970.
pub(super) fn clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// With a wrong clock, certificates of the CA seem expired or not yet valid, and earlier attempts seem long ago.
pub(crate) fn believable(now: i64, newest: i64) -> Result<(), String> {
    plausible(now, newest).map_err(|message| format!("{message}. Nothing was sent to the CA"))?;
    let (runs, synchronized) = TIMESYNC;
    if Path::new(runs).exists() && !Path::new(synchronized).exists() {
        return Err("systemd-timesyncd has not set the clock yet: nothing was sent to the CA".to_owned());
    }
    Ok(())
}

/// Checks a clock that nothing outside sets: it cannot be earlier than this release, nor than `newest`.
pub(crate) fn plausible(now: i64, newest: i64) -> Result<(), String> {
    let floor = CLOCK_MIN.max(newest.saturating_sub(60));
    if now >= floor {
        return Ok(());
    }
    let (now, floor) = (moment(now), moment(floor));
    Err(format!(
        "the system clock says {now}, which is too early: it cannot be earlier than {floor}; set the clock (`timedatectl`)"
    ))
}

/// Splits stored moments: returns the newest plausible one, which the clock cannot be earlier than, and those so far ahead of a plausible
/// clock that they were written with a wrong one.
pub(super) fn newest(now: i64, moments: Vec<(String, i64)>) -> (i64, Vec<(String, i64)>) {
    let latest = if now < CLOCK_MIN { i64::MAX } else { now.saturating_add(AHEAD_S_MAX) };
    let (ahead, plausible): (Vec<_>, Vec<_>) = moments.into_iter().partition(|(_, at)| *at > latest);
    (plausible.into_iter().map(|(_, at)| at).max().unwrap_or_default(), ahead)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_moment_that_is_years_ahead_does_not_stop_a_clock_that_may_be_right() {
        let now = CLOCK_MIN + 1_000;
        let of = |at: i64| vec![("old".to_owned(), CLOCK_MIN), ("x".to_owned(), at)];
        let years = now + 1_000 * 86_400;
        assert_eq!(newest(now, of(years)), (CLOCK_MIN, vec![("x".to_owned(), years)]));
        assert_eq!(newest(now, of(now + AHEAD_S_MAX + 1)).0, CLOCK_MIN);
        assert_eq!(newest(now, of(now + AHEAD_S_MAX)), (now + AHEAD_S_MAX, vec![]), "a clock a day back");
        assert_eq!(newest(0, of(years)), (years, vec![]), "a clock without a time");
        assert_eq!(newest(now, vec![]), (0, vec![]));
    }

    #[test]
    fn a_clock_before_this_release_or_before_the_newest_record_is_not_believed() {
        assert!(believable(0, 0).is_err_and(|message| message.contains("1970-01-01")));
        assert!(believable(CLOCK_MIN - 1, 0).is_err());
        let newest = CLOCK_MIN + 1_000;
        assert!(believable(newest - 61, newest).is_err());
        if !Path::new(TIMESYNC.0).exists() {
            assert!(believable(CLOCK_MIN, 0).is_ok() && believable(newest - 60, newest).is_ok());
        }
    }
}
