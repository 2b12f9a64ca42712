//! What each client address has open and has lately begun: one table of fixed size for all workers.
//!
//! Who cannot be told apart counts as one: an IPv4 address, or the first 64 bits of an IPv6 address, which one household
//! has (RFC 6177). A row belongs to one such source for as long as it says something of it: an open session, or a rate
//! that is not yet saved up again. Only a row that says nothing is given to another source, so that nobody can have its own
//! counts forgotten, or another's, by coming from many addresses. A source that finds no row is let in uncounted: the limits
//! for all together still hold, and a flood locks out nobody by filling this table. Which sources share a set of rows
//! depends on a key that is made at the start and that nobody outside knows.
//!
//! Mutexes, one for each of [`SHARDS`], taken once when a connection comes, once when it ends, and once for an upgrade.
//! Time comes in as an argument.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::limits::{ADDRESS_ROW_BYTES, BURST_S, Limits};

/// Parts of the table with a lock each: more than any board has cores.
const SHARDS: usize = 16;
/// Rows that a source may have, by its hash.
const SET_ROWS: usize = 8;

/// The table.
pub(crate) struct Addresses {
    key: RandomState,
    shards: Box<[Mutex<Box<[Row]>>]>,
}

/// Who counts as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source(u64);

/// What a source may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quota {
    /// Open sessions.
    pub(crate) sessions_max: u32,
    /// New connections in a second; 0: no bound.
    pub(crate) connections_per_s_max: u32,
}

/// Which part of a [`Quota`] is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Sessions,
    Rate,
}

/// An open session's row, to be given back by [`Addresses::leave`]. 4 bytes, since each session keeps it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Slot(u32);

/// A rate's memory: the time, in microseconds, at which all of it will be saved up again (a generic cell rate algorithm).
#[derive(Clone, Copy, Debug, Default)]
struct Meter(u64);

/// A rate that all workers share. An atomic.
#[derive(Debug, Default)]
pub(crate) struct SharedMeter(AtomicU64);

#[derive(Clone, Copy, Debug, Default)]
struct Row {
    source: u64,
    connections: Meter,
    websockets: Meter,
    sessions: u32,
}

const _: () = assert!(size_of::<Row>() as u64 == ADDRESS_ROW_BYTES);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            // Inside 0000::/8, which is nobody's (RFC 4291 §2.4).
            IpAddr::V4(address) => Self(1 << 32 | u64::from(address.to_bits())),
            IpAddr::V6(address) => Self((address.to_bits() >> 64) as u64),
        }
    }
}

impl Quota {
    /// Whatever it is, it is counted.
    pub(crate) const UNBOUNDED: Self = Self { sessions_max: u32::MAX, connections_per_s_max: 0 };

    /// As `limits` say.
    pub(crate) fn of(limits: &Limits) -> Self {
        Self {
            sessions_max: limits.address_sessions_max,
            connections_per_s_max: limits.address_handshakes_per_s_max,
        }
    }
}

impl Slot {
    /// No limit by address holds.
    pub(crate) const EXEMPT: Self = Self(u32::MAX);
    /// The source found no row.
    const UNKNOWN: Self = Self(u32::MAX - 1);

    /// Whether the source found a row.
    pub(crate) fn is_known(&self) -> bool {
        *self != Self::UNKNOWN
    }

    /// Whether limits by address hold.
    pub(crate) fn is_limited(&self) -> bool {
        *self != Self::EXEMPT
    }
}

/// When a rate of `per_s` will be saved up again if one more begins at `now`; `None`: it may not.
fn after_one_more(saved_up_at: u64, per_s: u32, now: Duration) -> Option<u64> {
    let now = now.as_micros() as u64;
    let Some(each) = 1_000_000_u64.checked_div(per_s.into()) else { return Some(saved_up_at) };
    let next = saved_up_at.max(now) + each;
    (next <= now + BURST_S * 1_000_000).then_some(next)
}

impl Meter {
    fn take(&mut self, per_s: u32, now: Duration) -> bool {
        let next = after_one_more(self.0, per_s, now);
        self.0 = next.unwrap_or(self.0);
        next.is_some()
    }

    fn is_saved_up(self, now: Duration) -> bool {
        u128::from(self.0) <= now.as_micros()
    }
}

impl SharedMeter {
    /// Takes one of `per_s`, where there is one; 0: always.
    pub(crate) fn take(&self, per_s: u32, now: Duration) -> bool {
        self.0.fetch_update(Relaxed, Relaxed, |saved_up_at| after_one_more(saved_up_at, per_s, now)).is_ok()
    }
}

impl Row {
    /// Whether another source may have it: it says no more than an empty one.
    fn says_nothing(&self, now: Duration) -> bool {
        self.sessions == 0 && self.connections.is_saved_up(now) && self.websockets.is_saved_up(now)
    }
}

impl Addresses {
    /// With room for `rows` at least.
    pub(crate) fn new(rows: u64) -> Self {
        let sets = usize::try_from(rows).unwrap_or(usize::MAX).div_ceil(SHARDS * SET_ROWS).max(1);
        let shard = || Mutex::new(vec![Row::default(); sets * SET_ROWS].into_boxed_slice());
        Self { key: RandomState::new(), shards: (0..SHARDS).map(|_| shard()).collect() }
    }

    /// Counts a new connection of `source`.
    ///
    /// # Errors
    /// Where it is one too many; it is not counted then.
    pub(crate) fn enter(&self, source: Source, quota: &Quota, now: Duration) -> Result<Slot, Over> {
        let entered = self.with_row(source, now, |row| {
            if row.sessions >= quota.sessions_max {
                return Err(Over::Sessions);
            }
            if !row.connections.take(quota.connections_per_s_max, now) {
                return Err(Over::Rate);
            }
            row.sessions += 1;
            Ok(())
        });
        let Some((at, entered)) = entered else { return Ok(Slot::UNKNOWN) };
        entered.map(|()| Slot(at))
    }

    /// Gives an open session's row back.
    pub(crate) fn leave(&self, place: Slot) {
        // What has no row is beyond them all.
        let at = place.0 as usize;
        let Some(shard) = self.shards.get(at % SHARDS) else { return };
        if let Some(row) = lock(shard).get_mut(at / SHARDS) {
            row.sessions = row.sessions.saturating_sub(1);
        }
    }

    /// Counts a new WebSocket of `source`; `false`: it is one too many.
    pub(crate) fn may_upgrade(&self, source: Source, per_s: u32, now: Duration) -> bool {
        self.with_row(source, now, |row| row.websockets.take(per_s, now)).is_none_or(|(_, may)| may)
    }

    /// Lets `use_row` at the row of `source`, or at one that says nothing; with where that is. `None`: all say something of
    /// others.
    fn with_row<T>(
        &self,
        source: Source,
        now: Duration,
        use_row: impl FnOnce(&mut Row) -> T,
    ) -> Option<(u32, T)> {
        let hash = self.key.hash_one(source.0);
        let shard = hash as usize % SHARDS;
        let mut rows = lock(self.shards.get(shard)?);
        let sets = (rows.len() / SET_ROWS) as u64;
        let first = (((hash >> 32) * sets) >> 32) as usize * SET_ROWS;
        let set = rows.get_mut(first..first + SET_ROWS)?;
        let own = set.iter().position(|row| row.source == source.0);
        let at = own.or_else(|| set.iter().position(|row| row.says_nothing(now)))?;
        let row = set.get_mut(at)?;
        if row.source != source.0 {
            *row = Row { source: source.0, ..Row::default() };
        }
        Some((((first + at) * SHARDS + shard) as u32, use_row(row)))
    }
}

fn lock(shard: &Mutex<Box<[Row]>>) -> MutexGuard<'_, Box<[Row]>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn source(address: &str) -> Source {
        Source::from(address.parse::<IpAddr>().unwrap())
    }

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    const FREE: Quota = Quota { sessions_max: u32::MAX, connections_per_s_max: 0 };

    #[test]
    fn an_address_is_what_one_household_has() {
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_eq!(source("2001:db8:0:1::1"), source("2001:db8:0:1:ffff:ffff:ffff:ffff"));
        assert_ne!(source("2001:db8:0:1::1"), source("2001:db8:0:2::1"));
        assert_ne!(source("::1"), source("0.0.0.0"));
    }

    #[test]
    fn sessions_are_counted_until_they_leave() {
        let table = Addresses::new(1);
        let quota = Quota { sessions_max: 3, connections_per_s_max: 0 };
        let enter = |address| table.enter(source(address), &quota, at(0));
        let mut places: Vec<_> = (0..3).map(|_| enter("192.0.2.1").unwrap()).collect();
        assert_eq!(enter("192.0.2.1"), Err(Over::Sessions));
        assert!(enter("192.0.2.2").unwrap().is_known(), "another address");
        assert!(enter("2001:db8::1").unwrap().is_known());
        table.leave(places.pop().unwrap());
        table.leave(enter("192.0.2.1").unwrap());
        assert!(enter("192.0.2.1").is_ok());
        assert_eq!(enter("::ffff:192.0.2.1"), Err(Over::Sessions));
    }

    #[test]
    fn a_rate_may_be_saved_up_for_ten_seconds() {
        let table = Addresses::new(1);
        let quota = Quota { sessions_max: u32::MAX, connections_per_s_max: 2 };
        let enter = |ms| table.enter(source("192.0.2.1"), &quota, at(ms));
        (0..20).for_each(|_| assert!(enter(1000).is_ok()));
        assert_eq!(enter(1000), Err(Over::Rate));
        assert_eq!(enter(1499), Err(Over::Rate), "one too many does not put the next off");
        assert!(enter(1500).is_ok());
        assert_eq!(enter(1999), Err(Over::Rate));
        assert!(enter(2000).is_ok());
        (0..20).for_each(|_| assert!(enter(60_000).is_ok()));
        assert_eq!(enter(60_000), Err(Over::Rate), "never more than ten seconds' worth");
    }

    #[test]
    fn websockets_have_a_rate_of_their_own_and_none_may_be_set() {
        let table = Addresses::new(1);
        let upgrade = |address, per_s| table.may_upgrade(source(address), per_s, at(5));
        assert!((0..10).all(|_| upgrade("192.0.2.1", 1)));
        assert!(!upgrade("192.0.2.1", 1) && upgrade("192.0.2.2", 1));
        assert!((0..10_000).all(|_| upgrade("192.0.2.1", 0)));
        assert!(table.enter(source("192.0.2.1"), &FREE, at(5)).is_ok());
    }

    #[test]
    fn all_together_have_a_rate() {
        let meter = SharedMeter::default();
        assert!((0..10).all(|_| meter.take(1, at(0))));
        assert!(!meter.take(1, at(999)) && meter.take(1, at(1000)) && !meter.take(1, at(1000)));
        assert!((0..1000).all(|_| meter.take(0, at(1000))));
    }

    /// A botnet, or one line with an IPv6 /32.
    #[test]
    fn a_flood_of_addresses_evicts_no_counts_and_locks_out_no_address() {
        let table = Addresses::new(1024);
        let quota = Quota { sessions_max: 2, connections_per_s_max: 1 };
        let owner = source("192.0.2.1");
        let places = [0; 2].map(|_| table.enter(owner, &quota, at(0)).unwrap());
        assert_eq!(table.enter(owner, &quota, at(0)), Err(Over::Sessions));
        let limited = source("192.0.2.2");
        assert!((0..10).all(|_| table.may_upgrade(limited, 1, at(0))));
        let mut unknown = 0;
        for n in 0..100_000_u64 {
            let flood = Source(0x2001_0db8_0000_0000 + n);
            let place = table.enter(flood, &quota, at(0)).expect("a newcomer is not locked out");
            unknown += u32::from(!place.is_known());
        }
        assert_eq!(unknown, 100_000 - 1024 + 2, "every row has its owner");
        assert_eq!(table.enter(owner, &quota, at(0)), Err(Over::Sessions), "not forgotten");
        assert!(!table.may_upgrade(limited, 1, at(0)), "not forgotten");
        places.into_iter().for_each(|place| table.leave(place));
        assert!(table.enter(owner, &quota, at(0)).unwrap().is_known());
    }

    #[test]
    fn a_row_that_says_nothing_goes_to_another() {
        let table = Addresses::new(1);
        let quota = Quota { sessions_max: 9, connections_per_s_max: 20 };
        for n in 0..10_000_u64 {
            // Its rate is saved up again 50 ms later.
            let place = table.enter(Source(n), &quota, at(n * 50)).unwrap();
            assert!(place.is_known(), "{n}");
            table.leave(place);
        }
    }

    #[test]
    fn hashes_differ_from_start_to_start() {
        let tables = [0; 2].map(|_| Addresses::new(1).key.hash_one(1_u64));
        assert_ne!(tables[0], tables[1]);
    }

    proptest::proptest! {
        /// Against a map that forgets nothing: never stricter than it, and no laxer for who has a row.
        #[test]
        fn it_counts_as_a_map_would(steps in proptest::collection::vec((0_u64..40, 0_u8..3, 0_u64..300), 1..400)) {
            let table = Addresses::new(1024);
            let quota = Quota { sessions_max: 3, connections_per_s_max: 1 };
            let (mut open, mut begun) = (HashMap::<u64, Vec<Slot>>::new(), HashMap::<u64, Meter>::new());
            let mut now = 0;
            for (who, what, pause) in steps {
                now += pause;
                let places = open.entry(who).or_default();
                if what == 0 {
                    places.pop().into_iter().for_each(|place| table.leave(place));
                    continue;
                }
                let entered = table.enter(Source(who), &quota, at(now));
                let wanted = if places.len() >= 3 {
                    Err(Over::Sessions)
                } else if !begun.entry(who).or_default().take(1, at(now)) {
                    Err(Over::Rate)
                } else {
                    Ok(())
                };
                proptest::prop_assert_eq!(entered.as_ref().map(drop), wanted.as_ref().map(drop));
                places.extend(entered);
            }
        }
    }
}
