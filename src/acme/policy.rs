//! When a certificate is ordered, and the pauses after failures: a state machine without clock, files or network.
//!
//! Every attempt is recorded as a failed validation *before* its first request to the CA, and corrected when it ends. A process that is
//! killed, or a machine that restarts in a loop, therefore sends no more requests than one that fails normally.

use serde::{Deserialize, Serialize};

use crate::bundle::lifetime::{DAY_S, Lifetime};

const MINUTE_S: i64 = 60;
const HOUR_S: i64 = 60 * MINUTE_S;
/// Pauses after the first failures in a row; after those, a day each.
const BACKOFF_S: [i64; 3] = [MINUTE_S, 10 * MINUTE_S, 100 * MINUTE_S];
/// Longest pause that a run waits for.
pub(super) const WITHIN_RUN_S: i64 = 10 * MINUTE_S;
/// Failed validations of one name in an hour: Let's Encrypt's own limit.
pub(super) const INVALID_PER_HOUR_MAX: usize = 5;
/// The longest `Retry-After` that is obeyed: a hostile or broken one must not stop renewals for good.
pub(super) const RETRY_AFTER_S_MAX: i64 = 8 * DAY_S;
/// A stored moment that is ahead of the clock by at most this stops the run; one further ahead was written with a wrong clock.
pub(super) const AHEAD_S_MAX: i64 = DAY_S;
/// Time until the next request for renewal information: least, most, and the default if the CA says nothing.
const POLL_S: (i64, i64, i64) = (MINUTE_S, DAY_S, 6 * HOUR_S);

/// Why a certificate is renewed at a moment (RFC 9773 §4.2, [`Lifetime::renewal_due`]).
const CA_WINDOW: &str = "drawn from the window that the CA suggests";
const HALF: &str = "half of its lifetime has passed by then";
const TWO_THIRDS: &str = "two thirds of its lifetime have passed by then";

/// The stored record of one certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    /// Failures since the last success.
    pub failures: u32,
    /// No attempt before this moment, because of the back-off.
    pub paused_until: i64,
    /// No attempt before this moment, because of the CA's `Retry-After`.
    pub blocked_until: i64,
    /// When validations failed in the last hour.
    pub invalid: Vec<i64>,
    /// When an attempt began whose end is not known.
    pub started: Option<i64>,
    /// The last failure was a validation: the next order is tried at the CA's staging directory first.
    pub proves_first: bool,
    /// The last failure, to be shown.
    pub last: Option<Told>,
    /// What the CA suggests for the certificate (RFC 9773).
    pub renewal: Option<Renewal>,
    /// The directory of the CA that issued it.
    pub directory: Option<String>,
}

/// A failure as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Stable code.
    pub code: String,
    /// What happened; if the CA reported it, in its words.
    pub found: String,
    /// What it means.
    pub means: String,
    /// What to do.
    pub remedy: String,
    /// When.
    pub at: i64,
}

/// When to renew a certificate (RFC 9773 §4.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Renewal {
    /// The certificate's identifier (§4.1).
    pub certificate: String,
    /// The CA's window.
    pub start: i64,
    /// See `start`.
    pub end: i64,
    /// The moment that was drawn from it.
    pub chosen: i64,
}

/// What a failure counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// The CA did not find a correct answer to the challenge.
    Validation,
    /// The CA refused the name, the account or the request.
    Refused,
    /// The CA could not be reached, or its answer is not ACME.
    Ca,
}

/// The end of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// A certificate was stored.
    Issued,
    /// It failed; the CA accepts no other attempt before this moment.
    Failed(Class, Option<i64>),
}

/// What to do about a certificate now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing until this moment, and the reason for it.
    Fine(i64, &'static str),
    /// It is due, but must wait until this moment.
    Wait(i64, Why),
    /// Order it.
    Order,
    /// Resume an interrupted order.
    Resume,
}

/// Why a certificate that is due waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The back-off after failures.
    Backoff,
    /// The CA's `Retry-After`.
    RetryAfter,
    /// [`INVALID_PER_HOUR_MAX`].
    Validations,
}

/// What the decision depends on, besides the record.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    /// Lifetime of the stored certificate.
    pub lifetime: Option<Lifetime>,
    /// An order with its key is stored.
    pub open_order: bool,
    /// The CA accepts no request of this account before then.
    pub account_blocked_until: i64,
    /// `--now`: neither the lifetime nor the back-off counts.
    pub now: bool,
}

impl Why {
    pub(super) fn sentence(self) -> &'static str {
        match self {
            Self::Backoff => "the pause after the last failure",
            Self::RetryAfter => "the CA asked to wait (Retry-After)",
            Self::Validations => "five validations failed within an hour, which is the CA's own limit",
        }
    }
}

impl Record {
    /// What to do at `now`.
    pub(super) fn step(&self, facts: &Facts, now: i64) -> Step {
        if let Some((due, why)) = self.due(facts).filter(|(due, _)| now < *due && !facts.now) {
            return Step::Fine(due, why);
        }
        let interrupted = facts.open_order && self.started.is_some();
        match self.wait(facts, now) {
            // This is not a new order, so it adds at most the one validation that is pending.
            Some((_, Why::Backoff | Why::Validations)) if interrupted && now >= self.blocked(facts, now) => {
                Step::Resume
            }
            Some((until, why)) => Step::Wait(until, why),
            None if facts.open_order => Step::Resume,
            None => Step::Order,
        }
    }

    /// The moment before which no attempt is made, and why: of several reasons the one that lasts longest.
    pub(super) fn wait(&self, facts: &Facts, now: i64) -> Option<(i64, Why)> {
        let blocked = Some(self.blocked(facts, now)).filter(|until| now < *until);
        let invalid: Vec<i64> = self.recent(now).collect();
        let first = invalid.first().filter(|_| invalid.len() >= INVALID_PER_HOUR_MAX);
        let validations = first.map(|first| first.saturating_add(HOUR_S));
        let paused = Some(self.paused_until).filter(|until| now < *until && !facts.now);
        let paused = paused.map(|until| until.min(now.saturating_add(DAY_S)));
        let of = |until: Option<i64>, why: Why| until.map(|until| (until, why));
        [of(paused, Why::Backoff), of(validations, Why::Validations), of(blocked, Why::RetryAfter)]
            .into_iter()
            .flatten()
            .max_by_key(|(until, _)| *until)
    }

    fn blocked(&self, facts: &Facts, now: i64) -> i64 {
        self.blocked_until.max(facts.account_blocked_until).min(now.saturating_add(RETRY_AFTER_S_MAX))
    }

    /// Whether the CA of `directory` issued the certificate, or may have.
    pub(super) fn is_of(&self, directory: &str) -> bool {
        self.directory.as_ref().is_none_or(|of| of == directory)
    }

    /// Its newest moment.
    pub(super) fn newest(&self) -> Option<i64> {
        let told = self.last.as_ref().map(|told| told.at);
        self.invalid.iter().copied().chain(self.started).chain(told).max()
    }

    /// Without moments more than [`AHEAD_S_MAX`] ahead of the clock: they would block attempts until that day.
    #[must_use]
    pub(super) fn without_what_is_ahead(mut self, now: i64) -> Self {
        let latest = now.saturating_add(AHEAD_S_MAX);
        self.invalid.retain(|at| *at <= latest);
        self.started = self.started.map(|at| if at > latest { now } else { at });
        self.last = self.last.filter(|told| told.at <= latest);
        self.paused_until = not_ahead(self.paused_until, DAY_S, now);
        self.blocked_until = not_ahead(self.blocked_until, RETRY_AFTER_S_MAX, now);
        self
    }

    /// The record after a dry run: it counts as an attempt, but does not affect the next order.
    #[must_use]
    pub(super) fn after_trial(self, trial: Self) -> Self {
        Self { invalid: trial.invalid, blocked_until: trial.blocked_until, ..self }
    }

    /// When the stored certificate should be renewed, and the reason for that time; none without a certificate.
    pub(super) fn due(&self, facts: &Facts) -> Option<(i64, &'static str)> {
        let lifetime = facts.lifetime?;
        // A suggestion after the end of the certificate is ignored.
        let suggested =
            self.renewal.as_ref().map(|renewal| renewal.chosen).filter(|at| *at < lifetime.not_after);
        Some(match suggested {
            Some(at) => (at, CA_WINDOW),
            None if lifetime.is_short() => (lifetime.renewal_due(), HALF),
            None => (lifetime.renewal_due(), TWO_THIRDS),
        })
    }

    /// The failed validations of the last hour. Moments ahead of the clock were written with a wrong clock.
    fn recent(&self, now: i64) -> impl Iterator<Item = i64> {
        self.invalid.iter().copied().filter(move |at| (now - HOUR_S..=now).contains(at))
    }

    /// Before the first call to the CA of a new order.
    pub(super) fn begin(&mut self, now: i64) {
        self.invalid = self.recent(now).collect();
        self.invalid.push(now);
        self.started = Some(now);
        self.failures = self.failures.saturating_add(1);
        self.paused_until = now.saturating_add(backoff(self.failures));
    }

    /// Before the first call to the CA about an order that is stored.
    pub(super) fn resume(&mut self, now: i64) {
        self.started.get_or_insert(now);
        self.failures = self.failures.saturating_add(1);
        self.paused_until = now.saturating_add(backoff(self.failures));
    }

    /// After the last.
    pub(super) fn end(&mut self, end: End, now: i64) {
        let began = self.started.take();
        match end {
            End::Issued => *self = Self { renewal: self.renewal.take(), ..Self::default() },
            End::Failed(class, retry_after) => {
                // One alone: another may have failed in the same second.
                if let Some(at) = self.invalid.iter().rposition(|at| Some(*at) == began) {
                    self.invalid.remove(at);
                }
                if class == Class::Validation {
                    self.invalid.push(now);
                }
                // What the CA itself cannot do says nothing about the name.
                self.proves_first = class == Class::Validation || (self.proves_first && class == Class::Ca);
                self.paused_until = now.saturating_add(backoff(self.failures));
                let blocked = retry_after.map(|at| at.min(now.saturating_add(RETRY_AFTER_S_MAX)));
                self.blocked_until = self.blocked_until.max(blocked.unwrap_or_default());
            }
        }
    }

    /// Takes the CA's window for `certificate`. One moment is drawn from it by `random` and kept until the window changes.
    pub(super) fn suggest(&mut self, certificate: &str, (start, end): (i64, i64), random: u64) {
        let same = |r: &Renewal| r.certificate == certificate && (r.start, r.end) == (start, end);
        if end <= start || self.renewal.as_ref().is_some_and(same) {
            return;
        }
        let width = u64::try_from(end.saturating_sub(start)).unwrap_or(1).max(1);
        let chosen = start.saturating_add(i64::try_from(random % width).unwrap_or_default());
        self.renewal = Some(Renewal { certificate: certificate.to_owned(), start, end, chosen });
    }
}

/// The end of a wait of at most `longest` seconds; 0 if it was written with a clock that was ahead.
pub(super) fn not_ahead(until: i64, longest: i64, now: i64) -> i64 {
    let latest = now.saturating_add(longest).saturating_add(AHEAD_S_MAX);
    if until > latest { 0 } else { until }
}

/// Seconds to pause after so many failures in a row.
fn backoff(failures: u32) -> i64 {
    let at = usize::try_from(failures.max(1) - 1).unwrap_or(usize::MAX);
    BACKOFF_S.get(at).copied().unwrap_or(DAY_S)
}

/// When the renewal information is asked for again, `retry_after_s` being what the CA says.
pub(super) fn poll_at(retry_after_s: Option<i64>, now: i64) -> i64 {
    let (least, most, usual) = POLL_S;
    now.saturating_add(retry_after_s.map_or(usual, |s| s.clamp(least, most)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: i64 = 1_800_000_000;
    const NONE: Facts = Facts { lifetime: None, open_order: false, account_blocked_until: 0, now: false };

    fn failing(record: &mut Record, now: i64) {
        record.begin(now);
        record.end(End::Failed(Class::Validation, None), now + 5);
    }

    #[test]
    fn the_pauses_are_1_10_and_100_minutes_and_then_a_day() {
        let (mut record, mut now) = (Record::default(), T);
        for pause in [60, 600, 6_000, DAY_S, DAY_S, DAY_S] {
            assert_eq!(record.step(&NONE, now), Step::Order);
            failing(&mut record, now);
            now += 5;
            assert_eq!(record.step(&NONE, now), Step::Wait(now + pause, Why::Backoff));
            assert_eq!(record.step(&NONE, now + pause - 1), Step::Wait(now + pause, Why::Backoff));
            now += pause;
        }
        record.begin(now);
        record.end(End::Issued, now);
        assert_eq!(record, Record::default());
    }

    /// A timer every minute, a crash in every other attempt, and a user who insists: over a day no hour has six validations.
    #[test]
    fn no_hour_of_a_simulated_day_has_more_than_five_validations() {
        for (crashes, insists) in [(false, false), (true, false), (false, true), (true, true)] {
            let (mut record, mut validations) = (Record::default(), Vec::new());
            for now in (T..T + DAY_S).step_by(60) {
                if record.step(&Facts { now: insists, ..NONE }, now) == Step::Order {
                    validations.push(now);
                    record.begin(now);
                    if !crashes || validations.len() % 2 == 0 {
                        record.end(End::Failed(Class::Validation, None), now);
                    }
                }
            }
            for at in &validations {
                let hour = validations.iter().filter(|other| (*at..*at + HOUR_S).contains(other)).count();
                assert!(hour <= INVALID_PER_HOUR_MAX, "{crashes} {insists}: {hour}");
            }
            let wanted = if insists { 5 * 24..=5 * 24 } else { 4..=4 };
            assert!(wanted.contains(&validations.len()), "{crashes} {insists}: {}", validations.len());
        }
    }

    #[test]
    fn four_failed_validations_in_an_hour_leave_room_for_one_and_five_do_not() {
        let mut record = Record { invalid: vec![T, T + 1, T + 2, T + 3], ..Record::default() };
        assert_eq!(record.step(&NONE, T + 10), Step::Order);
        record.invalid.push(T + 4);
        assert_eq!(record.step(&NONE, T + 10), Step::Wait(T + HOUR_S, Why::Validations));
        assert_eq!(
            record.step(&Facts { now: true, ..NONE }, T + 10),
            Step::Wait(T + HOUR_S, Why::Validations)
        );
        assert_eq!(record.step(&NONE, T + HOUR_S), Step::Wait(T + HOUR_S, Why::Validations));
        assert_eq!(record.step(&NONE, T + HOUR_S + 1), Step::Order);
        assert_eq!(record.step(&NONE, T - 1), Step::Order, "a clock that was ahead blocks nothing");
    }

    #[test]
    fn failed_validations_of_one_second_all_count() {
        let mut record = Record::default();
        for _ in 0..INVALID_PER_HOUR_MAX {
            assert_eq!(record.step(&Facts { now: true, ..NONE }, T), Step::Order);
            record.begin(T);
            record.end(End::Failed(Class::Validation, None), T);
        }
        let wait = Step::Wait(T + HOUR_S, Why::Validations);
        assert_eq!(record.step(&Facts { now: true, ..NONE }, T), wait);
    }

    #[test]
    fn a_fault_of_the_ca_is_no_failed_validation() {
        let mut record = Record::default();
        for at in 0..10 {
            record.begin(T + at);
            record.end(End::Failed(Class::Ca, None), T + at);
            record.begin(T + at);
            record.end(End::Failed(Class::Refused, None), T + at);
        }
        assert!(record.invalid.is_empty());
        assert_eq!(record.step(&Facts { now: true, ..NONE }, T + 10), Step::Order);
    }

    #[test]
    fn retry_after_is_obeyed_even_by_one_that_insists() {
        let insists = Facts { now: true, ..NONE };
        let mut record = Record::default();
        record.begin(T);
        record.end(End::Failed(Class::Refused, Some(T + 7_200)), T);
        for facts in [NONE, insists] {
            assert_eq!(record.step(&facts, T + 7_199), Step::Wait(T + 7_200, Why::RetryAfter));
            assert_eq!(record.step(&facts, T + 7_200), Step::Order);
        }
        let account = Facts { account_blocked_until: T + 50, ..insists };
        assert_eq!(Record::default().step(&account, T + 49), Step::Wait(T + 50, Why::RetryAfter));
        assert_eq!(Record::default().step(&account, T + 50), Step::Order);
        record.end(End::Failed(Class::Refused, Some(i64::MAX)), T);
        assert_eq!(record.blocked_until, T + RETRY_AFTER_S_MAX, "bounded");
    }

    #[test]
    fn of_several_reasons_to_wait_the_longest_is_reported() {
        let mut record = Record::default();
        for at in 0..5 {
            failing(&mut record, T + at * 10);
        }
        let now = T + 60;
        assert_eq!(record.step(&NONE, now), Step::Wait(T + 45 + DAY_S, Why::Backoff));
        let insists = Facts { now: true, ..NONE };
        assert_eq!(record.step(&insists, now), Step::Wait(T + 5 + HOUR_S, Why::Validations));
        let blocked = Facts { account_blocked_until: now + 2 * DAY_S, ..NONE };
        assert_eq!(record.step(&blocked, now), Step::Wait(now + 2 * DAY_S, Why::RetryAfter));
        // The first failure, and the account is blocked for longer than the minute's pause.
        let mut record = Record::default();
        record.begin(T);
        record.end(End::Failed(Class::Refused, None), T);
        let blocked = Facts { account_blocked_until: T + HOUR_S, ..NONE };
        assert_eq!(record.wait(&blocked, T), Some((T + HOUR_S, Why::RetryAfter)));
        assert_eq!(record.wait(&NONE, T), Some((T + MINUTE_S, Why::Backoff)));
        assert_eq!(Record::default().wait(&NONE, T), None);
    }

    #[test]
    fn what_a_clock_wrote_that_was_years_ahead_blocks_nothing() {
        let ahead = T + 1_000 * DAY_S;
        let mut record = Record::default();
        for at in 0..5 {
            record.begin(ahead + at);
            record.end(End::Failed(Class::Validation, Some(ahead + DAY_S)), ahead + at);
        }
        record.last = Some(Told {
            code: String::new(),
            found: String::new(),
            means: String::new(),
            remedy: String::new(),
            at: ahead,
        });
        record.started = Some(ahead);
        let record = record.without_what_is_ahead(T);
        assert_eq!((record.newest(), record.step(&NONE, T)), (Some(T), Step::Order));
        // One that is behind by a correction of the clock keeps all.
        let mut record = Record::default();
        failing(&mut record, T);
        record.blocked_until = T + RETRY_AFTER_S_MAX;
        let kept = record.clone().without_what_is_ahead(T - AHEAD_S_MAX + 10);
        assert_eq!(kept, record);
    }

    #[test]
    fn a_trial_counts_its_validation_and_its_limit_and_nothing_else() {
        let mut before = Record::default();
        failing(&mut before, T);
        let mut trial = before.clone();
        trial.begin(T + 100);
        trial.end(End::Failed(Class::Validation, Some(T + 900)), T + 105);
        let after = before.clone().after_trial(trial);
        assert_eq!(after.invalid.len(), 2);
        assert_eq!(
            (after.blocked_until, after.failures, after.paused_until),
            (T + 900, 1, before.paused_until)
        );
    }

    #[test]
    fn a_killed_attempt_pauses_like_a_failed_one_and_its_order_goes_on() {
        let mut record = Record::default();
        record.begin(T);
        assert_eq!(record.step(&NONE, T + 1), Step::Wait(T + 60, Why::Backoff));
        let with_order = Facts { open_order: true, ..NONE };
        assert_eq!(record.step(&with_order, T + 1), Step::Resume);
        record.end(End::Failed(Class::Ca, None), T + 2);
        assert_eq!(record.step(&with_order, T + 3), Step::Wait(T + 62, Why::Backoff), "it has ended");
        assert_eq!(record.step(&with_order, T + 62), Step::Resume, "and its order is still good");
        record.resume(T + 62);
        record.end(End::Failed(Class::Validation, None), T + 63);
        assert_eq!(
            (record.step(&NONE, T + 64), record.invalid.len()),
            (Step::Wait(T + 663, Why::Backoff), 1)
        );
    }

    fn held(days: i64) -> Facts {
        Facts { lifetime: Some(Lifetime { not_before: T, not_after: T + days * DAY_S - 1 }), ..NONE }
    }

    #[test]
    fn without_renewal_information_two_thirds_or_half_of_the_lifetime_are_used() {
        for (days, due, why) in
            [(90, 60 * DAY_S, TWO_THIRDS), (45, 30 * DAY_S, TWO_THIRDS), (6, 3 * DAY_S, HALF)]
        {
            let record = Record::default();
            assert_eq!(record.step(&held(days), T + due - 1), Step::Fine(T + due, why));
            assert_eq!(record.step(&held(days), T + due), Step::Order);
            assert_eq!(record.step(&Facts { now: true, ..held(days) }, T), Step::Order);
        }
    }

    #[test]
    fn one_moment_is_drawn_from_the_window_and_kept() {
        let mut record = Record::default();
        let window = (T + 1_000, T + 2_000);
        record.suggest("a.b", window, 12_345);
        assert_eq!(record.renewal.as_ref().unwrap().chosen, T + 1_345);
        record.suggest("a.b", window, 1);
        assert_eq!(record.step(&held(90), T + 1_344), Step::Fine(T + 1_345, CA_WINDOW), "not drawn again");
        assert_eq!(record.step(&held(90), T + 1_345), Step::Order);
        for (certificate, window) in [("a.b", (T + 5_000, T + 6_000)), ("a.c", (T + 5_000, T + 6_000))] {
            record.suggest(certificate, window, 7);
            assert_eq!(record.renewal.as_ref().unwrap().chosen, T + 5_007, "drawn again");
        }
        record.suggest("a.c", (T, T), 7);
        assert_eq!(record.renewal.as_ref().unwrap().chosen, T + 5_007, "an empty window says nothing");
        record.suggest("a.c", (T - 20, T - 10), 7);
        assert_eq!(record.step(&held(90), T), Step::Order, "a window in the past is an order to renew");
        record.suggest("a.c", (T + 900 * DAY_S, T + 901 * DAY_S), 7);
        assert_eq!(record.step(&held(90), T + 60 * DAY_S), Step::Order, "past the end it is no suggestion");
    }

    #[test]
    fn the_renewal_information_is_polled_as_the_ca_says_within_bounds() {
        for (said, wanted) in
            [(None, 21_600), (Some(0), 60), (Some(-5), 60), (Some(3_600), 3_600), (Some(i64::MAX), DAY_S)]
        {
            assert_eq!(poll_at(said, T), T + wanted, "{said:?}");
        }
    }

    #[test]
    fn after_a_failed_validation_the_next_try_goes_to_staging_first_until_one_succeeds() {
        let mut record = Record::default();
        let mut attempt = |end: End| {
            record.begin(1_800_000_000);
            record.end(end, 1_800_000_000);
            record.proves_first
        };
        assert!(!attempt(End::Failed(Class::Refused, None)), "a refusal is no reason");
        assert!(attempt(End::Failed(Class::Validation, None)));
        assert!(attempt(End::Failed(Class::Ca, None)), "a fault of the CA changes nothing");
        assert!(!attempt(End::Issued));
        assert!(!attempt(End::Failed(Class::Ca, None)));
    }
}
