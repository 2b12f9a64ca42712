//! State across workers is `Shared` and nothing else; each part of it names its lock or is an atomic.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::edge::shared::active_config::{ActiveConfig, Keys};
use crate::edge::shared::addresses::{Addresses, Over, Quota, SharedMeter, Slot, Source};
use crate::edge::shared::balance::Balance;
use crate::edge::shared::challenges::Challenges;
use crate::edge::shared::eviction::EvictionQueue;
use crate::edge::shared::sticky::Sids;
use crate::edge::shared::tickets::Tickets;
use crate::edge::shared::upstreams::Upstreams;
use crate::ops::access::AccessLog;
use crate::ops::log::Said;
use crate::ops::metrics::{Closes, Counter, Counters, HostTallies, Reason, Refusals, WorkerTally};
use crate::reason::Level;

/// How the edge ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drain {
    /// What is open then is cut.
    pub(crate) deadline: Instant,
    /// WebSockets get their Close at a moment of their own within this time, so that clients do not come back all at
    /// once.
    pub(crate) spread: Duration,
    /// What that Close says: code and reason.
    pub(crate) close: (u16, &'static str),
}

/// How many sessions a drain ended how; plain atomics.
#[derive(Debug, Default)]
pub(crate) struct Endings {
    /// Between two requests, or before the first.
    pub(crate) idle: Counter,
    /// With the response that was on its way.
    pub(crate) exchanges: Counter,
    /// By a Close, from either side.
    pub(crate) websockets: Counter,
    /// By the end of its time.
    pub(crate) cut: Counter,
}

/// The state across workers.
pub(crate) struct Shared {
    /// Lock-free reads; replaced whole by a reload.
    pub(crate) active: ArcSwap<ActiveConfig>,
    /// The same; replaced by the main thread alone, and read for hellos that ask for nothing but a proof.
    pub(crate) challenges: ArcSwap<Challenges>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) refusals: Refusals,
    pub(crate) closes: Closes,
    pub(crate) access: AccessLog,
    /// A mutex, taken when a bundle is taken into use.
    pub(crate) tallies: HostTallies,
    /// By worker, each written by that worker alone.
    pub(crate) work: Vec<Arc<WorkerTally>>,
    /// Open sessions of all workers, and their bound.
    pub(crate) sessions: AtomicU32,
    pub(crate) sessions_max: AtomicU32,
    /// Most sessions that were open at once.
    pub(crate) sessions_peak: Counter,
    pub(crate) handshakes: AtomicU32,
    /// Handshakes begun. An atomic.
    pub(crate) handshake_rate: SharedMeter,
    /// What each client address has; as large as the limits at the start want it. Mutexes, each taken for one look-up.
    pub(crate) addresses: Addresses,
    /// Who has sent no request yet. A mutex, taken a few times before a connection's first request.
    pub(crate) eviction: EvictionQueue,
    /// Descriptors have run out, and no worker accepts.
    pub(crate) exhausted: AtomicBool,
    /// How sessions ended in a drain.
    pub(crate) endings: Endings,
    pub(crate) workers: usize,
    /// How often every worker gives a sign of life.
    pub(crate) beat_interval: Duration,
    /// Makes every worker give one at once. A lock, taken by a worker as often as it beats.
    pub(crate) roll_call: watch::Sender<()>,
    /// Woken by each of those signs. An atomic while nobody waits.
    pub(crate) beats: Notify,
    pub(crate) balance: Balance,
    /// Set once the drain has begun.
    pub(crate) drain: watch::Sender<Option<Drain>>,
    /// A mutex, taken when a bundle is taken into use.
    pub(crate) upstreams: Upstreams,
    /// Where sessions of Engine.IO live. Mutexes, each taken for one look-up, where a route has several upstreams.
    pub(crate) sids: Arc<Sids>,
    /// Outlives reloads, so that resumption does. Lock-free reads; replaced by the main thread alone.
    pub(crate) tickets: Arc<Tickets>,
    /// A mutex, taken by reloads and `status`.
    pub(crate) keys: Keys,
    pub(crate) started: Instant,
}

impl Shared {
    /// Counts a refusal and says it, at most once per reason and minute.
    pub(crate) fn refuse(&self, reason: Reason, peer: IpAddr, found: &str) {
        self.refuse_with_check(reason, peer, found, None);
    }

    /// The same, with what to check or to add: a sentence of ours, to be read and copied as it stands.
    pub(crate) fn refuse_with_check(&self, reason: Reason, peer: IpAddr, found: &str, check: Option<&str>) {
        let minute = self.started.elapsed().as_secs() / 60;
        let level = reason.level();
        if level == Level::Silent {
            return self.refusals.count_silently(reason);
        }
        let Some(more) = self.refusals.count(reason, minute) else { return };
        let (reason, found) = (reason.name(), Said(found));
        match level {
            Level::Silent => {}
            Level::Info => info!(reason, %peer, %found, check, more_since_last_line = more, "refused"),
            Level::Warn => warn!(reason, %peer, %found, check, more_since_last_line = more, "refused"),
        }
    }

    /// Counts what ends a connection and is no news.
    pub(crate) fn count(&self, reason: Reason) {
        self.refusals.count_silently(reason);
    }

    /// Counts a new connection of `peer` in the table of addresses; `None`: no limit by address holds for it.
    ///
    /// # Errors
    /// Which limit it is over.
    pub(crate) fn place(&self, peer: IpAddr) -> Result<Option<Slot>, (Reason, &'static str)> {
        let active = self.active.load();
        if active.is_exempt(&peer) || active.is_proxy(&peer) {
            return Ok(None);
        }
        let quota = Quota::of(&active.bundle.limits);
        match self.addresses.enter(Source::from(peer), &quota, self.uptime()) {
            Ok(place) => {
                if !place.is_known() {
                    self.counters.addresses_unknown_total.increment();
                }
                Ok(Some(place))
            }
            Err(Over::Sessions) => Err((Reason::AddressSessions, "address_sessions_max reached")),
            Err(Over::Rate) => Err((Reason::AddressHandshakes, "address_handshakes_per_s_max reached")),
        }
    }

    /// Counts a new WebSocket of `client`, whom a trusted proxy may have named; `false`: it is one too many.
    pub(crate) fn may_upgrade(&self, active: &ActiveConfig, client: IpAddr) -> bool {
        let most = active.bundle.limits.address_websockets_per_s_max;
        active.is_exempt(&client)
            || active.is_proxy(&client) // which has named nobody
            || self.addresses.may_upgrade(Source::from(client), most, self.uptime())
    }

    /// Counts a handshake that begins; `false`: it is one too many.
    pub(crate) fn may_handshake(&self, per_s: u32) -> bool {
        self.handshake_rate.take(per_s, self.uptime())
    }

    /// Since the start.
    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// A place among the handshakes, given back when dropped. Where all are taken, the one that has been in its handshake
    /// longest is sent away.
    pub(crate) fn handshaking(self: &Arc<Self>, most: u32) -> Option<impl Drop + use<>> {
        struct Handshaking(Arc<Shared>);
        impl Drop for Handshaking {
            fn drop(&mut self) {
                self.0.handshakes.fetch_sub(1, Relaxed);
            }
        }
        let place = Handshaking(Arc::clone(self));
        let has_room = self.handshakes.fetch_add(1, Relaxed) < most || self.eviction.evict_handshaking();
        has_room.then_some(place)
    }
}
