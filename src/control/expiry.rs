//! What the wall clock says: which certificates end soon, and whether it can be believed at all. A board without a clock
//! begins in 1970, or at its last shutdown. Serving never depends on it.

use std::time::{SystemTime, UNIX_EPOCH};

use tracing::{error, info, warn};

use crate::bundle::Bundle;
use crate::bundle::lifetime::{DAY_S, Lifetime, Urgency};

/// Seconds since 1970; 0 before that.
pub(crate) fn wall_clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// Not earlier than the beginning of a certificate: `sanedge bundle` takes only those that have begun.
pub(crate) fn is_believable(bundle: &Bundle, now: i64) -> bool {
    bundle.certificates.iter().all(|certificate| certificate.not_before <= now)
}

/// What was said already.
#[derive(Debug, Default)]
pub(crate) struct Expiry {
    believed: Option<bool>,
    /// Bundle, day and worst urgency of the last lines about certificates.
    said: Option<([u8; 32], i64, Urgency)>,
}

/// Something to say.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Notice {
    ClockWrong,
    ClockRight,
    Ends { certificate: String, days_left: i64, urgency: Urgency },
}

impl Expiry {
    /// Says what there is to say at `now`, each day, for each bundle and with each step of urgency once.
    pub(crate) fn look(&mut self, bundle: &Bundle, now: i64) {
        for notice in self.notices(bundle, now) {
            match notice {
                Notice::ClockWrong => warn!(
                    "the system clock is earlier than a certificate's notBefore; serving continues, but days left are \
                        unknown until it is set"
                ),
                Notice::ClockRight => info!("the system clock is set now"),
                Notice::Ends { certificate, days_left, urgency: Urgency::Overdue } => {
                    warn!(certificate, days_left, "{}", ends(Urgency::Overdue));
                }
                Notice::Ends { certificate, days_left, urgency } => {
                    error!(certificate, days_left, "{}", ends(urgency));
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
        let lifetimes =
            || bundle.certificates.iter().map(|certificate| (certificate, certificate.lifetime()));
        let worst = lifetimes().map(|(_, lifetime)| lifetime.urgency(now)).max().unwrap_or(Urgency::None);
        let today = (bundle.digest, now.div_euclid(DAY_S), worst);
        if believable && worst > Urgency::None && self.said != Some(today) {
            self.said = Some(today);
            notices.extend(
                lifetimes().filter_map(|(certificate, lifetime)| notice(&certificate.label, lifetime, now)),
            );
        }
        notices
    }
}

fn notice(label: &str, lifetime: Lifetime, now: i64) -> Option<Notice> {
    let urgency = lifetime.urgency(now);
    let ends = || Notice::Ends { certificate: label.to_owned(), days_left: lifetime.days_left(now), urgency };
    (urgency > Urgency::None).then(ends)
}

fn ends(urgency: Urgency) -> &'static str {
    match urgency {
        Urgency::Expired => {
            "certificate has expired: clients refuse it. If sanedge obtains it, type `sudo sanedge renew --now`; else renew it and type `sudo sanedge apply`"
        }
        Urgency::EndsSoon => {
            "certificate ends soon. If sanedge obtains it, type `sudo sanedge renew --now`; else renew it and type `sudo sanedge apply`"
        }
        Urgency::Overdue | Urgency::None => {
            "certificate is overdue for renewal. If sanedge obtains it, type `sudo sanedge renew --now`; else renew it and type `sudo sanedge apply`"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The golden bundle, its certificates valid for the given days around day 0.
    fn bundle(valid: &[(i64, i64)]) -> Bundle {
        let golden = crate::fuzz::GOLDEN;
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
    fn there_is_one_line_a_day_and_one_more_with_each_step() {
        // 90 days: a warning from 22.5 days before the end, an error from 9.
        let bundle = bundle(&[(-60, 30)]);
        let mut expiry = Expiry::default();
        let mut said = Vec::new();
        for hour in 0..31 * 24 {
            said.extend(days(&expiry.notices(&bundle, hour * 3600)));
        }
        // At each midnight, and within the day at the first look past each threshold.
        let wanted: Vec<i64> =
            [22, 22].into_iter().chain((9..22).rev()).chain([8]).chain((-1..9).rev()).collect();
        assert_eq!(said, wanted);
    }

    #[test]
    fn each_step_is_said_at_once_also_of_a_certificate_that_lives_for_six_hours() {
        let mut bundle = bundle(&[(0, 1)]);
        bundle.certificates[0].not_after = 6 * 3600;
        let lifetime = bundle.certificates[0].lifetime();
        let mut expiry = Expiry::default();
        let mut urgencies = |now| {
            let of = |notice: &Notice| match notice {
                Notice::Ends { urgency, .. } => Some(*urgency),
                _ => None,
            };
            expiry.notices(&bundle, now).iter().filter_map(of).collect::<Vec<_>>()
        };
        for (bound, urgency) in [
            (lifetime.overdue_after(), Urgency::Overdue),
            (lifetime.ends_soon_after(), Urgency::EndsSoon),
            (lifetime.not_after, Urgency::Expired),
        ] {
            assert_eq!(urgencies(bound), []);
            assert_eq!(urgencies(bound + 1), [urgency]);
        }
        assert!(
            ends(Urgency::Expired).contains("has expired") && ends(Urgency::EndsSoon).contains("ends soon")
        );
        assert!(ends(Urgency::Overdue).contains("overdue"));
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
