//! What the wall clock says: which certificates end soon, and whether it can be believed at all. A board without a clock
//! begins in 1970, or at its last shutdown. Serving never depends on it.

use std::time::{SystemTime, UNIX_EPOCH};

use tracing::{error, info, warn};

use crate::bundle::Bundle;

const DAY_S: i64 = 24 * 60 * 60;
/// From here on there is a warning a day: automatic renewal begins at 30 days, so nine attempts have failed.
const WARNING_DAYS: i64 = 21;
/// From here on the line is an error.
const ERROR_DAYS: i64 = 7;

/// Seconds since 1970; 0 before that.
pub(crate) fn wall_clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// Whole days until `not_after`; negative once it has passed. Both in seconds since 1970.
pub(crate) fn days_left(not_after: i64, now: i64) -> i64 {
    (not_after - now).div_euclid(DAY_S)
}

/// Not earlier than the beginning of a certificate: `sanedge bundle` takes only those that have begun.
pub(crate) fn is_believable(bundle: &Bundle, now: i64) -> bool {
    bundle.certificates.iter().all(|certificate| certificate.not_before <= now)
}

/// What was said already.
#[derive(Debug, Default)]
pub(crate) struct Expiry {
    believed: Option<bool>,
    /// Bundle and day of the last lines about certificates.
    said: Option<([u8; 32], i64)>,
}

/// Something to say.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Notice {
    ClockWrong,
    ClockRight,
    Ends { certificate: String, days_left: i64 },
}

impl Expiry {
    /// Says what there is to say at `now`, each day and for each bundle once.
    pub(crate) fn look(&mut self, bundle: &Bundle, now: i64) {
        for notice in self.notices(bundle, now) {
            match notice {
                Notice::ClockWrong => warn!(
                    "the clock is not believable: it is before the beginning of a certificate. Serving goes on; days left are not known until it is set"
                ),
                Notice::ClockRight => info!("the clock is believable now"),
                Notice::Ends { certificate, days_left } if days_left < ERROR_DAYS => {
                    error!(certificate, days_left, "{}", ends(days_left));
                }
                Notice::Ends { certificate, days_left } => {
                    warn!(certificate, days_left, "{}", ends(days_left))
                }
            }
        }
    }

    fn notices(&mut self, bundle: &Bundle, now: i64) -> Vec<Notice> {
        let mut notices = Vec::new();
        let believable = is_believable(bundle, now);
        match (self.believed.replace(believable), believable) {
            (None | Some(true), false) => notices.push(Notice::ClockWrong),
            (Some(false), true) => notices.push(Notice::ClockRight),
            _ => {}
        }
        let today = (bundle.digest, now.div_euclid(DAY_S));
        if believable && self.said != Some(today) {
            let ends = bundle.certificates.iter().filter_map(|certificate| {
                let days_left = days_left(certificate.not_after, now);
                let certificate = certificate.label.clone();
                (days_left < WARNING_DAYS).then_some(Notice::Ends { certificate, days_left })
            });
            let before = notices.len();
            notices.extend(ends);
            if notices.len() > before {
                self.said = Some(today);
            }
        }
        notices
    }
}

fn ends(days_left: i64) -> &'static str {
    match days_left {
        ..0 => {
            "certificate has expired: clients refuse it; renew it, then `sanedge bundle` and `sanedge reload`"
        }
        _ => "certificate ends soon; renew it, then `sanedge bundle` and `sanedge reload`",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The golden bundle, its certificates valid for the given days around day 0.
    fn bundle(valid: &[(i64, i64)]) -> Bundle {
        let golden = include_bytes!("../../../tests/data/golden/format-2.bundle");
        let mut bundle = Bundle::decode(golden.to_vec().into()).unwrap();
        assert!(bundle.certificates.len() >= valid.len());
        bundle.certificates.truncate(valid.len());
        for (certificate, (begins, ends)) in bundle.certificates.iter_mut().zip(valid) {
            (certificate.not_before, certificate.not_after) = (begins * DAY_S, ends * DAY_S);
        }
        bundle
    }

    fn days(notices: &[Notice]) -> Vec<i64> {
        let ends = notices.iter().filter_map(|notice| match notice {
            Notice::Ends { days_left, .. } => Some(*days_left),
            _ => None,
        });
        ends.collect()
    }

    #[test]
    fn there_is_one_line_a_day_below_21_days() {
        let bundle = bundle(&[(-60, 30)]);
        let mut expiry = Expiry::default();
        let mut said = Vec::new();
        for hour in 0..31 * 24 {
            said.extend(days(&expiry.notices(&bundle, hour * 3600)));
        }
        // The first on the day on which 21 days were left at midnight.
        let wanted: Vec<i64> = [20].into_iter().chain((0..=20).rev()).collect();
        assert_eq!(said, wanted);
    }

    #[test]
    fn exactly_21_and_7_days_are_the_bounds() {
        let bundle = bundle(&[(-60, 30)]);
        let at = |left_s: i64| Expiry::default().notices(&bundle, 30 * DAY_S - left_s);
        assert!(days(&at(21 * DAY_S)).is_empty());
        assert_eq!(days(&at(21 * DAY_S - 1)), [20]);
        assert_eq!((days_left(100 * DAY_S, 93 * DAY_S), days_left(100 * DAY_S, 93 * DAY_S + 1)), (7, 6));
        assert_eq!((days_left(100, 100), days_left(100, 101)), (0, -1));
        assert!(ends(-1).contains("has expired") && ends(0).contains("ends soon"));
    }

    #[test]
    fn another_bundle_is_spoken_of_at_once() {
        let (mut old, mut expiry) = (bundle(&[(-60, 3)]), Expiry::default());
        assert_eq!(days(&expiry.notices(&old, 0)), [3]);
        assert!(days(&expiry.notices(&old, 60)).is_empty());
        old.digest[0] ^= 1;
        assert_eq!(days(&expiry.notices(&old, 120)), [2]);
    }

    #[test]
    fn a_clock_before_a_certificates_beginning_is_not_believed_and_says_nothing_of_its_end() {
        let (bundle, mut expiry) = (bundle(&[(-60, 3)]), Expiry::default());
        let wrong = -60 * DAY_S - 1;
        assert_eq!(expiry.notices(&bundle, wrong), [Notice::ClockWrong]);
        assert_eq!(expiry.notices(&bundle, wrong), []);
        assert_eq!(expiry.notices(&bundle, wrong - 20_000 * DAY_S), []);
        let set = expiry.notices(&bundle, -60 * DAY_S);
        assert_eq!(set, [Notice::ClockRight], "with 63 days left");
        assert_eq!(days(&expiry.notices(&bundle, 0)), [3]);
        assert_eq!(expiry.notices(&bundle, wrong), [Notice::ClockWrong], "set back");
        assert_eq!(Expiry::default().notices(&bundle, -10 * DAY_S * 3), [], "right from the start");
    }
}
