//! Which of several upstreams a request goes to first. A session of Engine.IO stays with the one that opened it: its `sid`
//! is read in that one's answer and found again in the query of each later request. No cookie is needed.
//!
//! Routes with one upstream never come here.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing::warn;

use crate::edge::shared::active_config::RouteState;
use crate::edge::shared::handover::{self, FORMAT, Frozen, Kind};
use crate::edge::shared::upstreams::UpstreamState;
use crate::engineio::{Asks, KEEP_MAX, Observed, Open, OpenObserver};
use crate::http::head::RequestHead;

/// Parts of the map, so that workers seldom wait for each other.
const SHARDS: usize = 16;
/// Sessions of one part; twice as many of all parts as `sessions_max` is by default, at 1.6 MB when full.
const SHARD_SESSIONS_MAX: usize = 2048;
/// Most bytes of a session in a record, of an upstream without its text, and of the rest.
const PLACE_BYTES: usize = 10 + 3 * 5;
const RECORD_BYTES: usize = 64;
/// Below this a part is not worth looking through for sessions that have expired.
const SWEEP_MIN: usize = 64;

/// Where sessions live. One for all workers: 16 mutexes, each held for a look-up.
pub struct Sids {
    shards: [Mutex<Shard>; SHARDS],
    /// Made for the first session, or that of the process before.
    key: OnceLock<Key>,
    began: Instant,
}

/// Hashes sids. The key is random, so nobody can construct colliding sids.
struct Key {
    bytes: [u8; 32],
    hmac: hmac::Key,
}

impl Key {
    fn new(bytes: [u8; 32]) -> Self {
        Self { bytes, hmac: hmac::Key::new(hmac::HMAC_SHA256, &bytes) }
    }

    /// A kernel without randomness could not have made a TLS session either.
    fn random() -> Self {
        let mut bytes = [0; 32];
        let _ = SystemRandom::new().fill(&mut bytes);
        Self::new(bytes)
    }

    fn hash(&self, sid: &str) -> u64 {
        let tag = hmac::sign(&self.hmac, sid.as_bytes());
        tag.as_ref().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

/// A part of the map for the next process.
#[derive(Serialize, Deserialize)]
pub(crate) struct Saved<'a> {
    format: u16,
    kind: Kind,
    key: [u8; 32],
    /// As written in sanedge.toml, by id: ids are of one process.
    #[serde(borrow)]
    upstreams: Vec<(u32, &'a str)>,
    /// Hash, id of the upstream, and two times in seconds: how long it is kept from each request on, and what is left of that.
    places: Vec<(u64, u32, u32, u32)>,
}

/// Sessions by the hash of their sid: a sid is a credential, and of any length.
#[derive(Default)]
struct Shard {
    places: HashMap<u64, Place>,
    /// Sessions at which those that have expired are swept out.
    sweep_at: usize,
}

#[derive(Clone, Copy)]
struct Place {
    upstream: u32,
    keep_s: u32,
    /// Seconds since the map began.
    until_s: u32,
}

impl Sids {
    /// An empty map, whose times count from `now`.
    pub(crate) fn new(now: Instant) -> Self {
        Self { shards: Default::default(), key: OnceLock::new(), began: now }
    }

    fn hash(&self, sid: &str) -> u64 {
        self.key.get_or_init(Key::random).hash(sid)
    }

    /// The map as records for the next process, where `upstreams` are those of the bundle.
    pub fn freeze<'u>(
        &self,
        upstreams: impl Iterator<Item = &'u Arc<UpstreamState>>,
        now: Instant,
    ) -> Vec<Frozen> {
        let Some(key) = self.key.get() else { return Vec::new() };
        let mut named: Vec<(u32, &str)> = Vec::new();
        for state in upstreams {
            // Several routes may name the same upstream.
            if named.iter().all(|(id, _)| *id != state.id) {
                named.push((state.id, state.text.as_str()));
            }
        }
        let upstreams = named;
        let texts_bytes: usize = upstreams.iter().map(|(_, text)| text.len() + PLACE_BYTES).sum();
        let now_s = self.seconds(now);
        let part = |shard: &Mutex<Shard>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let living = shard.places.iter().filter(|(_, place)| now_s < place.until_s);
            let living = living.filter(|(_, place)| upstreams.iter().any(|(id, _)| *id == place.upstream));
            let places: Vec<_> = living
                .map(|(hash, place)| (*hash, place.upstream, place.keep_s, place.until_s - now_s))
                .collect();
            let bytes_max = RECORD_BYTES + texts_bytes + places.len() * PLACE_BYTES;
            let upstreams = upstreams.clone();
            let saved = Saved { format: FORMAT, kind: Kind::Sids, key: key.bytes, upstreams, places };
            if saved.places.is_empty() { None } else { handover::write(&saved, bytes_max) }
        };
        let records = self.shards.iter().filter_map(part);
        records.map(|record| Frozen { record, descriptors: Vec::new() }).collect()
    }

    /// Adds a record of the process before. Sessions of upstreams that the bundle no longer has are left out.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn resume<'u>(
        &self,
        record: &[u8],
        upstreams: impl Iterator<Item = &'u Arc<UpstreamState>>,
        now: Instant,
    ) -> Result<(), &'static str> {
        let saved = read_record(record)?;
        if self.key.get_or_init(|| Key::new(saved.key)).bytes != saved.key {
            return Err("this process already has another key");
        }
        let now_s = self.seconds(now);
        let before = &saved.upstreams;
        let ids = upstreams.filter_map(|state| {
            let (id, _) = before.iter().find(|(_, text)| *text == state.text)?;
            Some((*id, state.id))
        });
        let ids: Vec<(u32, u32)> = ids.collect();
        for (hash, id, keep_s, left_s) in saved.places {
            let Some(upstream) = ids.iter().find(|(before, _)| *before == id).map(|(_, now)| *now) else {
                continue;
            };
            let place = Place { upstream, keep_s, until_s: now_s.saturating_add(left_s.min(keep_s)) };
            self.shard(hash).insert(hash, place, now_s);
        }
        Ok(())
    }

    /// The id of the upstream where `sid` lives; it is remembered for its time from `now` on.
    fn find(&self, sid: &str, now: Instant) -> Option<u32> {
        let (hash, now_s) = (self.hash(sid), self.seconds(now));
        let mut shard = self.shard(hash);
        let place = shard.places.get_mut(&hash).filter(|place| now_s < place.until_s)?;
        place.until_s = now_s.saturating_add(place.keep_s);
        Some(place.upstream)
    }

    fn keep(&self, open: &Open, upstream: u32, now: Instant) {
        let (hash, now_s) = (self.hash(&open.sid), self.seconds(now));
        let keep_s = open.keep.min(KEEP_MAX).as_secs() as u32 + 1;
        let place = Place { upstream, keep_s, until_s: now_s.saturating_add(keep_s) };
        self.shard(hash).insert(hash, place, now_s);
    }

    fn seconds(&self, now: Instant) -> u32 {
        u32::try_from(now.saturating_duration_since(self.began).as_secs()).unwrap_or(u32::MAX)
    }

    #[allow(clippy::indexing_slicing)] // a remainder is below what it is divided by
    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        // The map spreads by the low bits: the high ones choose the part.
        let shard = &self.shards[(hash >> 60) as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a record holds.
///
/// # Errors
/// Why it cannot be read.
pub(crate) fn read_record(record: &[u8]) -> Result<Saved<'_>, &'static str> {
    handover::read(record)
}

impl Shard {
    fn insert(&mut self, hash: u64, place: Place, now_s: u32) {
        if self.places.len() >= self.sweep_at.max(SWEEP_MIN) {
            self.places.retain(|_, place| now_s < place.until_s);
            self.sweep_at = (self.places.len() * 2).min(SHARD_SESSIONS_MAX);
            if self.places.len() < self.places.capacity() / 8 {
                self.places.shrink_to(SWEEP_MIN);
            }
        }
        if self.places.len() >= SHARD_SESSIONS_MAX {
            // Any: most have become WebSockets long ago and are asked for no more.
            let victim = self.places.keys().next().copied();
            victim.map(|victim| self.places.remove(&victim));
        }
        self.places.insert(hash, place);
    }
}

/// Where a request goes first, and whether the answer opens a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Index into the route's upstreams.
    pub(crate) first: usize,
    pub(crate) opens: bool,
}

impl Sids {
    /// A session's own upstream; for a new session each in turn; for anything else the one that the client's address
    /// gives, so that a client's requests meet the same.
    pub(crate) fn choose(
        &self,
        route: &RouteState,
        head: &RequestHead<'_>,
        client: IpAddr,
        now: Instant,
    ) -> Choice {
        let several = route.upstreams.len();
        if several < 2 {
            return Choice::default();
        }
        let by_address = address_hash(client) as usize % several;
        match Asks::of(head) {
            Asks::Session(sid) => {
                let id = self.find(&sid, now);
                let own = id.and_then(|id| route.upstreams.iter().position(|upstream| upstream.id == id));
                Choice { first: own.unwrap_or(by_address), opens: false }
            }
            // An answer that cannot be read tells no sid: then only the address brings the client back. It may have been to a
            // request that is no handshake but for its query, so the next answers are observed all the same.
            Asks::Open => {
                let sid_unread = route.sid_unread.load(Relaxed);
                let in_turn = || route.turn.fetch_add(1, Relaxed) % several;
                Choice { first: if sid_unread { by_address } else { in_turn() }, opens: true }
            }
            Asks::Nothing => Choice { first: by_address, opens: false },
        }
    }
}

/// Observes an answer that opens a session, until its sid is known.
pub(crate) struct SidObserver {
    packets: OpenObserver,
    sids: Arc<Sids>,
    route: Arc<RouteState>,
    upstream: u32,
}

impl SidObserver {
    pub(crate) fn new(
        packets: OpenObserver,
        sids: &Arc<Sids>,
        route: &Arc<RouteState>,
        upstream: u32,
    ) -> Box<Self> {
        Box::new(Self { packets, sids: Arc::clone(sids), route: Arc::clone(route), upstream })
    }

    /// Observes the next bytes; `true`: there is nothing more to observe.
    pub(crate) fn observe(&mut self, bytes: &[u8], now: Instant) -> bool {
        match self.packets.observe(bytes) {
            Observed::More => return false,
            Observed::Open(open) => {
                self.sids.keep(&open, self.upstream, now);
                if self.route.sid_unread.load(Relaxed) {
                    self.route.sid_unread.store(false, Relaxed);
                }
            }
            Observed::Else => self.missed(now),
        }
        true
    }

    /// The answer told no sid: until one does again, this route's new sessions go by address, which needs none.
    pub(crate) fn missed(&self, now: Instant) {
        let before = self.route.sid_unread.swap(true, Relaxed);
        if !before && self.route.unread_sid_news.is_due(now.saturating_duration_since(self.sids.began)) {
            warn!(
                path = self.route.rules.path,
                "cannot read the response to an Engine.IO handshake (compressed?): new sessions are assigned by client address"
            );
        }
    }
}

impl std::fmt::Debug for SidObserver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SidObserver").field("upstream", &self.upstream).finish_non_exhaustive()
    }
}

/// FNV-1a: every worker must choose alike, and no keyed security is needed to spread clients over a handful of local
/// processes.
fn address_hash(client: IpAddr) -> u64 {
    let bytes: &[u8] = match &client {
        IpAddr::V4(address) => &address.octets(),
        IpAddr::V6(address) => &address.octets(),
    };
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn open(sid: &str, keep_s: u64) -> Open {
        Open { sid: sid.to_owned(), keep: Duration::from_secs(keep_s) }
    }

    #[test]
    fn a_session_is_found_until_it_was_silent_for_its_time() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let sids = Sids::new(start);
        assert_eq!(sids.find("a", start), None);
        sids.keep(&open("a", 60), 7, start);
        assert_eq!(sids.find("a", after(60)), Some(7), "and lives on from here");
        assert_eq!(sids.find("a", after(120)), Some(7));
        assert_eq!(sids.find("a", after(120 + 61)), None);
        assert_eq!(sids.find("b", start), None);
        sids.keep(&open("a", 60), 8, after(500));
        assert_eq!(sids.find("a", after(501)), Some(8));
    }

    #[test]
    fn the_next_process_finds_sessions_for_the_time_that_is_left() {
        use crate::bundle::Upstream;
        use crate::edge::shared::upstreams::Upstreams;
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let address = |port: u16| Upstream::Address(([127, 0, 0, 1], port).into());
        let before = Upstreams::default();
        let [one, two, gone] = [1, 2, 3].map(|port| before.state(&address(port)));
        let sids = Sids::new(start);
        assert!(sids.freeze([&one].into_iter(), start).is_empty());
        sids.keep(&open("expired", 10), one.id, start);
        for n in 0..5_000 {
            let id = [one.id, two.id, gone.id][n % 3];
            sids.keep(&open(&format!("{n}"), 600), id, start);
        }
        // The bundle of the old process still has all of them, and that of the next one does not.
        let records = sids.freeze([&one, &two, &gone].into_iter(), after(100));
        assert_eq!(records.len(), SHARDS);
        assert!(
            records.iter().all(|record| record.kind() == Some(Kind::Sids) && record.descriptors.is_empty())
        );
        let (new, began) = (Upstreams::default(), after(102));
        let [two_again, one_again] = [2, 1].map(|port| new.state(&address(port)));
        let next = Sids::new(began);
        for record in &records {
            next.resume(&record.record, [&two_again, &one_again].into_iter(), began).unwrap();
        }
        let wanted = |n: usize| [Some(one_again.id), Some(two_again.id), None][n % 3];
        for n in 0..5_000 {
            // 501 s were left.
            let at = after(102 + if n % 2 == 0 { 500 } else { 501 });
            let found = next.find(&format!("{n}"), at);
            assert_eq!(found, if n % 2 == 0 { wanted(n) } else { None }, "{n}");
        }
        assert_eq!(next.find("expired", began), None);
        // A session was opened before: the table of another key is of no use.
        let other = Sids::new(began);
        other.keep(&open("new", 60), one_again.id, began);
        assert!(other.resume(&records[0].record, [&one_again].into_iter(), began).is_err());
        assert_eq!(other.find("new", began), Some(one_again.id));
    }

    #[test]
    fn the_map_is_bounded_and_what_expired_leaves_first() {
        let start = Instant::now();
        let sids = Sids::new(start);
        let len =
            |sids: &Sids| sids.shards.iter().map(|shard| shard.lock().unwrap().places.len()).sum::<usize>();
        for n in 0..10_000 {
            sids.keep(&open(&format!("early {n}"), 10), 1, start);
        }
        assert_eq!(len(&sids), 10_000);
        let later = start + Duration::from_secs(60);
        for n in 0..20_000 {
            sids.keep(&open(&format!("late {n}"), 600), 2, later);
        }
        assert_eq!(len(&sids), 20_000, "no place is left to those that have expired");
        assert!((0..20_000).all(|n| sids.find(&format!("late {n}"), later) == Some(2)));
        for n in 0..60_000 {
            sids.keep(&open(&format!("more {n}"), 600), 3, later);
        }
        assert_eq!(len(&sids), SHARDS * SHARD_SESSIONS_MAX);
        assert_eq!(sids.find("more 59999", later), Some(3), "a new one always has a place");
    }
}
