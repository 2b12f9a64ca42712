//! When a certificate has to be renewed, and from when on a missing renewal is worth a warning or an error.
//!
//! The one rule for `sanedge bundle`, `show --check`, the log, `status`, the status page and the metrics. Pure: the time is an argument.

use std::fmt;

const HOUR_S: i64 = 60 * 60;
/// Seconds of a day.
pub const DAY_S: i64 = 24 * HOUR_S;

/// Shorter certificates are renewed at half of their lifetime, as certbot does and Let's Encrypt's integration guide asks for;
/// longer ones at two thirds.
const SHORT_LIVED_S: i64 = 10 * DAY_S;
/// A warning never comes earlier than this before the end: most clients renew certificates of a year or more at 30 days.
const WARNING_S_MAX: i64 = 30 * DAY_S;
/// An error never comes earlier than this before the end.
const ERROR_S_MAX: i64 = 14 * DAY_S;

/// When a certificate begins and ends to be valid, both inclusive (RFC 5280 §4.1.2.5), in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// First second.
    pub not_before: i64,
    /// Last second.
    pub not_after: i64,
}

/// How urgent a certificate's renewal is; later is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Urgency {
    /// Nothing to do, or the renewal became due a short while ago.
    None,
    /// The renewal was due a twelfth of the lifetime ago, or longer: a warning.
    Overdue,
    /// Less than a tenth of the lifetime is left: an error.
    EndsSoon,
    /// Clients refuse the certificate: an error.
    Expired,
}

impl Lifetime {
    /// Seconds for which the certificate is valid.
    pub fn length_s(self) -> i64 {
        self.not_after.saturating_sub(self.not_before).saturating_add(1).max(0)
    }

    /// Whether it is renewed at half of its lifetime.
    pub fn is_short(self) -> bool {
        self.length_s() < SHORT_LIVED_S
    }

    /// When a client should renew it.
    pub fn renewal_due(self) -> i64 {
        let length = self.length_s();
        let used = if self.is_short() { length / 2 } else { length / 3 * 2 + length % 3 * 2 / 3 };
        self.not_before.saturating_add(used)
    }

    /// Past this moment the renewal is [`Urgency::Overdue`].
    pub fn overdue_after(self) -> i64 {
        let overdue = self.renewal_due().saturating_add(self.length_s() / 12);
        overdue.max(self.not_after.saturating_sub(WARNING_S_MAX))
    }

    /// Past this moment the certificate [`Urgency::EndsSoon`].
    pub fn ends_soon_after(self) -> i64 {
        self.not_after.saturating_sub((self.length_s() / 10).min(ERROR_S_MAX))
    }

    /// How urgent the renewal is at `now`.
    pub fn urgency(self, now: i64) -> Urgency {
        match now {
            _ if now > self.not_after => Urgency::Expired,
            _ if now > self.ends_soon_after() => Urgency::EndsSoon,
            _ if now > self.overdue_after() => Urgency::Overdue,
            _ => Urgency::None,
        }
    }

    /// Whole days that are left at `now`; negative past the end.
    pub fn days_left(self, now: i64) -> i64 {
        self.not_after.saturating_sub(now).div_euclid(DAY_S)
    }

    /// What is left at `now`, in a unit that fits it.
    pub fn left(self, now: i64) -> Left {
        Left(self.not_after.saturating_sub(now))
    }

    /// For a column `days left`: the days, a shorter unit where they are few, and what is to be done.
    pub fn column(self, now: i64) -> String {
        let left = self.left(now);
        let few = left.0.saturating_abs() < 2 * DAY_S;
        let text = if few { left.to_string() } else { self.days_left(now).to_string() };
        match self.urgency(now) {
            Urgency::None => text,
            Urgency::Overdue | Urgency::EndsSoon => format!("{text} (renew)"),
            Urgency::Expired => format!("EXPIRED {left} ago"),
        }
    }
}

/// A time before or, negative, after the end of a certificate, in seconds. As text: `12 days`, `30 hours`, `40 minutes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Left(pub i64);

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.saturating_abs();
        let (count, unit) = match seconds {
            _ if seconds >= 2 * DAY_S => (seconds / DAY_S, "day"),
            _ if seconds >= 2 * HOUR_S => (seconds / HOUR_S, "hour"),
            _ => (seconds / 60, "minute"),
        };
        write!(f, "{count} {unit}{}", if count == 1 { "" } else { "s" })
    }
}

/// A moment in seconds since 1970, as `2026-11-23 03:12 UTC`.
pub fn moment(seconds: i64) -> String {
    let of_day = seconds.rem_euclid(86_400);
    format!("{} {:02}:{:02} UTC", day(seconds), of_day / 3600, of_day % 3600 / 60)
}

/// The date of a moment in seconds since 1970, as `2026-11-23` (UTC).
pub fn day(seconds: i64) -> String {
    // Days to a civil date, after Howard Hinnant's `civil_from_days`: eras of 400 years that begin in March.
    let days = seconds.div_euclid(86_400) + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    format!("{:04}-{month:02}-{day:02}", year + era * 400 + i64::from(month <= 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds before the end at which the renewal is due, a warning begins and an error begins.
    fn left_s(length_s: i64) -> [i64; 3] {
        let lifetime = Lifetime { not_before: 1_800_000_000, not_after: 1_800_000_000 + length_s };
        [lifetime.renewal_due(), lifetime.overdue_after(), lifetime.ends_soon_after()]
            .map(|moment| lifetime.not_after - moment)
    }

    #[test]
    fn the_rule_for_every_usual_lifetime() {
        let hours = |length_s| left_s(length_s).map(|s| (s as f64 / 360.0).round() / 10.0);
        // Renewal due, warning, error: hours before the end.
        assert_eq!(hours(HOUR_S), [0.5, 0.4, 0.1]);
        assert_eq!(hours(6 * HOUR_S), [3.0, 2.5, 0.6]);
        assert_eq!(hours(6 * DAY_S), [72.0, 60.0, 14.4]);
        assert_eq!(hours(10 * DAY_S), [80.0, 60.0, 24.0]);
        assert_eq!(hours(45 * DAY_S), [360.0, 270.0, 108.0]);
        assert_eq!(hours(47 * DAY_S), [376.0, 282.0, 112.8]);
        assert_eq!(hours(90 * DAY_S), [720.0, 540.0, 216.0]);
        assert_eq!(hours(365 * DAY_S), [2920.0, 720.0, 336.0], "30 and 14 days");
        assert_eq!(hours(398 * DAY_S), [3184.0, 720.0, 336.0]);
        assert_eq!(left_s(HOUR_S)[1..], [1500, 360]);
    }

    #[test]
    fn half_of_the_lifetime_below_ten_days_and_two_thirds_from_there_on() {
        // Inclusive: what CAs call ten days ends a second earlier.
        assert_eq!(left_s(10 * DAY_S - 2)[0], 5 * DAY_S - 1);
        assert_eq!(left_s(10 * DAY_S - 1)[0], 10 * DAY_S / 3 - 1);
    }

    #[test]
    fn each_threshold_holds_to_the_second() {
        for length_s in [
            HOUR_S,
            6 * HOUR_S,
            6 * DAY_S,
            10 * DAY_S,
            45 * DAY_S,
            47 * DAY_S,
            90 * DAY_S,
            365 * DAY_S,
            398 * DAY_S,
        ] {
            let lifetime = Lifetime { not_before: -5, not_after: -5 + length_s };
            let steps = [
                (lifetime.overdue_after(), Urgency::None, Urgency::Overdue),
                (lifetime.ends_soon_after(), Urgency::Overdue, Urgency::EndsSoon),
                (lifetime.not_after, Urgency::EndsSoon, Urgency::Expired),
            ];
            assert!(lifetime.renewal_due() < lifetime.overdue_after(), "{length_s}");
            for (bound, at, past) in steps {
                assert_eq!((lifetime.urgency(bound), lifetime.urgency(bound + 1)), (at, past), "{length_s}");
            }
        }
    }

    #[test]
    fn no_date_that_a_file_can_hold_overflows() {
        for (not_before, not_after) in
            [(i64::MIN, i64::MAX), (i64::MAX, i64::MIN), (0, 0), (i64::MAX, i64::MAX)]
        {
            let lifetime = Lifetime { not_before, not_after };
            let steps = [lifetime.renewal_due(), lifetime.overdue_after(), lifetime.ends_soon_after()];
            for now in [i64::MIN, 0, i64::MAX].into_iter().chain(steps) {
                let _ = (lifetime.urgency(now), lifetime.days_left(now), lifetime.left(now).to_string());
            }
        }
        assert_eq!(Lifetime { not_before: 0, not_after: i64::MAX }.urgency(0), Urgency::None);
    }

    #[test]
    fn what_is_left_is_said_in_a_unit_that_fits() {
        let lifetime = Lifetime { not_before: 0, not_after: 90 * DAY_S };
        let said = |left: i64| lifetime.left(lifetime.not_after - left).to_string();
        assert_eq!(
            [said(20 * DAY_S), said(2 * DAY_S), said(2 * DAY_S - 1)],
            ["20 days", "2 days", "47 hours"]
        );
        assert_eq!(
            [said(2 * HOUR_S), said(2 * HOUR_S - 1), said(61), said(0)],
            ["2 hours", "119 minutes", "1 minute", "0 minutes"]
        );
        assert_eq!(said(-3 * DAY_S), "3 days");
        assert_eq!(lifetime.column(90 * DAY_S + 3 * DAY_S), "EXPIRED 3 days ago");
        assert_eq!(lifetime.column(0), "90");
        assert_eq!(lifetime.column(80 * DAY_S), "10 (renew)");
        assert_eq!(lifetime.column(89 * DAY_S), "24 hours (renew)");
        let six_hours = Lifetime { not_before: 0, not_after: 6 * HOUR_S };
        assert_eq!([six_hours.column(0), six_hours.column(4 * HOUR_S)], ["6 hours", "2 hours (renew)"]);
        assert_eq!([lifetime.days_left(90 * DAY_S), lifetime.days_left(90 * DAY_S + 1)], [0, -1]);
    }
}
