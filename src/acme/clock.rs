//! The system's clock, and whether it can be believed.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::bundle::compile::day;

/// No clock is before this release (2026-09-21): one that is belongs to a board without a battery that has no time yet.
const CLOCK_MIN: i64 = 1_790_000_000;
/// systemd-timesyncd runs, and has set the clock.
const TIMESYNC: (&str, &str) = ("/run/systemd/timesync", "/run/systemd/timesync/synchronized");

/// Seconds since 1970.
pub(super) fn clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// A clock that is wrong makes certificates of the CA look expired or not yet valid, and attempts look long ago.
pub(super) fn believable(now: i64, newest: i64) -> Result<(), String> {
    let floor = CLOCK_MIN.max(newest.saturating_sub(60));
    if now < floor {
        return Err(format!(
            "the system clock says {}, and it cannot be before {}: nothing was sent to the CA; set the clock (`timedatectl`)",
            day(now),
            day(floor)
        ));
    }
    let (runs, synchronized) = TIMESYNC;
    if Path::new(runs).exists() && !Path::new(synchronized).exists() {
        return Err("systemd-timesyncd has not set the clock yet: nothing was sent to the CA".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
