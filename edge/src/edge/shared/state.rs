//! State across workers is `Shared` and nothing else; each part of it names its lock or is an atomic.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::bundle::Bundle;
use crate::edge::shared::active_config::{ActiveConfig, Keys};
use crate::edge::shared::addresses::{Addresses, Over, Quota, SharedMeter, Slot, Source};
use crate::edge::shared::balance::Balance;
use crate::edge::shared::challenges::Challenges;
use crate::edge::shared::eviction::EvictionQueue;
use crate::edge::shared::handover::HandOver;
use crate::edge::shared::sticky::Sids;
use crate::edge::shared::tickets::Tickets;
use crate::edge::shared::upstreams::Upstreams;
use crate::ops::access::AccessLog;
use crate::ops::log::Said;
use crate::ops::metrics::{
    Closes, Counter, Counters, Handshakes, HostTallies, Reason, Refusals, WorkerTally,
};
use crate::reason::Level;

/// How the edge ends.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    /// What is open then is cut.
    pub deadline: Instant,
    /// WebSockets get their Close at a moment of their own within this time, so that clients do not come back all at
    /// once.
    pub spread: Duration,
    /// What that Close says: code and reason.
    pub close: (u16, &'static str),
    /// WebSockets go on until [`Shared::hand_over`] takes them, and get a Close only if it cannot.
    pub hands_over: bool,
}

/// How many sessions a drain ended how; plain atomics.
#[derive(Debug, Default)]
pub struct Endings {
    /// Between two requests, or before the first.
    pub idle: Counter,
    /// With the response that was on its way.
    pub exchanges: Counter,
    /// By a Close, from either side.
    pub websockets: Counter,
    /// By the end of its time.
    pub cut: Counter,
}

/// The state across workers.
pub struct Shared {
    /// Lock-free reads; replaced whole by a reload.
    pub active: ArcSwap<ActiveConfig>,
    /// The same; replaced by the main thread alone, and read for hellos that ask for nothing but a proof.
    pub challenges: ArcSwap<Challenges>,
    /// Totals for metrics and status; plain atomics.
    pub counters: Arc<Counters>,
    /// Refusals by reason; plain atomics.
    pub refusals: Refusals,
    /// Closes of WebSockets by code; plain atomics.
    pub closes: Closes,
    /// Handshakes by version, group and resumption; plain atomics.
    pub handshakes_by: Handshakes,
    pub(crate) access: AccessLog,
    /// A mutex, taken when a bundle is taken into use.
    pub tallies: HostTallies,
    /// By worker, each written by that worker alone.
    pub work: Vec<Arc<WorkerTally>>,
    /// Open sessions of all workers.
    pub sessions: AtomicU32,
    /// The bound of `sessions`.
    pub sessions_max: AtomicU32,
    /// Most sessions that were open at once.
    pub sessions_peak: Counter,
    /// Handshakes in progress.
    pub handshakes: AtomicU32,
    /// Handshakes begun. An atomic.
    pub(crate) handshake_rate: SharedMeter,
    /// What each client address has; as large as the limits at the start want it. Mutexes, each taken for one look-up.
    pub(crate) addresses: Addresses,
    /// Who has sent no request yet. A mutex, taken a few times before a connection's first request.
    pub(crate) eviction: EvictionQueue,
    /// Descriptors have run out, and no worker accepts.
    pub(crate) exhausted: AtomicBool,
    /// How sessions ended in a drain.
    pub endings: Endings,
    /// Threads that serve; at least 1.
    pub workers: usize,
    /// How often every worker gives a sign of life.
    pub beat_interval: Duration,
    /// Makes every worker give one at once. A lock, taken by a worker as often as it beats.
    pub roll_call: watch::Sender<()>,
    /// Woken by each of those signs. An atomic while no task waits.
    pub beats: Notify,
    pub(crate) balance: Balance,
    /// Set once the drain has begun: sessions see it at once, not only when their worker wakes.
    pub drain: OnceLock<Drain>,
    /// Hands WebSockets over to the next process. Atomics.
    pub hand_over: HandOver,
    /// Wakes the workers once [`Self::drain`] or [`Self::hand_over`] is set.
    pub drain_begins: watch::Sender<()>,
    /// A mutex, taken when a bundle is taken into use.
    pub upstreams: Upstreams,
    /// Where sessions of Engine.IO live. Mutexes, each taken for one look-up, where a route has several upstreams.
    pub sids: Arc<Sids>,
    /// Outlives reloads, so that resumption does. Lock-free reads; replaced by the main thread alone.
    pub tickets: Arc<Tickets>,
    /// A mutex, taken by reloads and `status`.
    pub keys: Keys,
    /// When the process began to serve.
    pub started: Instant,
}

impl Shared {
    /// The state of an edge that starts with `bundle` and its log of requests. `workers` may not be 0.
    ///
    /// # Errors
    /// Those of [`ActiveConfig::new`].
    pub fn new(
        bundle: Bundle,
        access: AccessLog,
        tickets: Arc<Tickets>,
        (sessions_max, beat_interval): (u32, Duration),
    ) -> Result<Self, rustls::Error> {
        let limits = bundle.limits.clone();
        let workers = usize::from(limits.workers.max(1));
        let (counters, upstreams) = (Arc::default(), Upstreams::default());
        let tallies = HostTallies::new(&counters);
        let active = ActiveConfig::new(bundle, &upstreams, &tickets, &tallies)?;
        let shared = Self {
            keys: Keys::default(),
            active: ArcSwap::from_pointee(active),
            counters,
            refusals: Refusals::default(),
            challenges: ArcSwap::default(),
            closes: Closes::default(),
            handshakes_by: Handshakes::default(),
            access,
            tallies,
            work: (0..workers).map(|_| Arc::default()).collect(),
            sessions: AtomicU32::new(0),
            sessions_max: AtomicU32::new(sessions_max),
            sessions_peak: Counter::default(),
            handshakes: AtomicU32::new(0),
            handshake_rate: SharedMeter::default(),
            addresses: Addresses::new(limits.address_rows()),
            eviction: EvictionQueue::default(),
            exhausted: AtomicBool::new(false),
            endings: Endings::default(),
            workers,
            beat_interval,
            roll_call: watch::Sender::new(()),
            beats: Notify::new(),
            balance: Balance::default(),
            drain: OnceLock::new(),
            hand_over: HandOver::default(),
            drain_begins: watch::Sender::new(()),
            upstreams,
            sids: Arc::new(Sids::new(Instant::now())),
            tickets,
            started: Instant::now(),
        };
        shared.keys.note(&shared.active.load().bundle);
        Ok(shared)
    }

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

    /// Counts a new connection of `peer` in the table of addresses.
    ///
    /// # Errors
    /// Which limit it is over.
    pub(crate) fn place(&self, peer: IpAddr) -> Result<Slot, (Reason, &'static str)> {
        let quota = Quota::of(&self.active.load().bundle.limits);
        self.place_within(&quota, peer)
    }

    /// The same for a connection that is open already, whatever its address has.
    pub(crate) fn place_again(&self, peer: IpAddr) -> Slot {
        self.place_within(&Quota::UNBOUNDED, peer).unwrap_or(Slot::EXEMPT) // never: it has no bound
    }

    fn place_within(&self, quota: &Quota, peer: IpAddr) -> Result<Slot, (Reason, &'static str)> {
        let active = self.active.load();
        if active.is_exempt(&peer) || active.is_proxy(&peer) {
            return Ok(Slot::EXEMPT);
        }
        match self.addresses.enter(Source::from(peer), quota, self.uptime()) {
            Ok(place) => {
                if !place.is_known() {
                    self.counters.addresses_unknown_total.increment();
                }
                Ok(place)
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
    pub fn uptime(&self) -> Duration {
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
