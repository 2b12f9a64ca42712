//! Counters: atomics that sessions touch and `status` reads, and the rule that keeps refusals from filling the log.
//!
//! What every message touches is a worker's own, written by nobody else: an addition there is a load and a store. What
//! every exchange touches is an atomic that workers share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::names::Host;
pub use crate::reason::Reason;

/// Declares the counters once: the struct, and the list of names with values that `status` shows.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// All counters of a running edge; each is a plain relaxed atomic.
        #[derive(Debug, Default)]
        pub struct Counters { $($(#[$doc])* pub $name: Counter,)* }
        impl Counters {
            /// Every counter by name.
            pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name.value()),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Client connections accepted since the start.
    sessions_total,
    /// TLS handshakes completed.
    handshakes_total,
    /// HTTP exchanges begun.
    exchanges_total,
    /// WebSockets opened.
    websockets_total,
    /// WebSockets open now.
    websockets_open,
    /// Requests that an upstream could not answer.
    upstream_failures_total,
    /// Reloads that took a new bundle.
    reloads_total,
    /// Reloads refused.
    reloads_refused_total,
    /// Panics caught; each is a bug.
    panics_total,
    /// Connections whose address found no row in the table of addresses: no limit by address held for them.
    addresses_unknown_total,
}

/// One counter or gauge.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.0.fetch_add(1, Relaxed);
    }
    /// Takes one away.
    pub fn decrement(&self) {
        self.0.fetch_sub(1, Relaxed);
    }
    /// At least `value` from now on.
    pub fn raise(&self, value: u64) {
        self.0.fetch_max(value, Relaxed);
    }
    /// The value now.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What one worker's sessions move, and its sign of life. Only that worker writes; on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct WorkerTally {
    /// From clients, requests and WebSockets.
    pub received: Flow,
    /// To clients.
    pub sent: Flow,
    /// Milliseconds since the start at which the worker last ran its tasks; `u64::MAX` once it has ended.
    beat_ms: AtomicU64,
}

/// One direction of a worker's traffic, as the peers of TLS see it: without what TLS adds.
#[derive(Debug, Default)]
pub struct Flow {
    bytes: AtomicU64,
    messages: AtomicU64,
}

impl Flow {
    /// Adds what has passed: WebSocket messages whose last frame has begun, and bytes.
    #[inline]
    pub fn add(&self, messages: usize, bytes: usize) {
        // One writer: no locked instruction is needed.
        self.messages.store(self.messages.load(Relaxed).wrapping_add(messages as u64), Relaxed);
        self.bytes.store(self.bytes.load(Relaxed).wrapping_add(bytes as u64), Relaxed);
    }

    /// Messages and bytes so far.
    pub fn value(&self) -> (u64, u64) {
        (self.messages.load(Relaxed), self.bytes.load(Relaxed))
    }
}

impl WorkerTally {
    /// The worker runs its tasks, `uptime` after the start.
    pub fn beat(&self, uptime: Duration) {
        self.beat_ms.store(uptime.as_millis() as u64, Relaxed);
    }

    /// The worker has done its work.
    pub fn ended(&self) {
        self.beat_ms.store(u64::MAX, Relaxed);
    }

    /// How long the worker has not run its tasks, at `uptime`.
    pub fn silence(&self, uptime: Duration) -> Duration {
        uptime.saturating_sub(Duration::from_millis(self.beat_ms.load(Relaxed)))
    }
}

/// Codes of Close frames that are told apart (RFC 6455 §7.4 and the registry of its §11.7); 1005: a Close without a
/// code; 1006: an end without a Close.
const CLOSE_CODES: std::ops::RangeInclusive<u16> = 1000..=1014;

/// How WebSockets ended, by close code: a bounded set of labels.
#[derive(Debug, Default)]
pub struct Closes([Counter; 17]);

impl Closes {
    const LABELS: [&str; 17] = [
        "1000", "1001", "1002", "1003", "1004", "1005", "1006", "1007", "1008", "1009", "1010", "1011",
        "1012", "1013", "1014", "3xxx", "4xxx",
    ];

    /// Counts a WebSocket that ended with this code, or with none.
    pub fn count(&self, code: Option<u16>) {
        let at = match code {
            None => 6,
            Some(code) if CLOSE_CODES.contains(&code) => usize::from(code - CLOSE_CODES.start()),
            Some(..4000) => 15,
            Some(_) => 16,
        };
        self.0.get(at).into_iter().for_each(Counter::increment);
    }

    /// Every code with its count.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Self::LABELS.into_iter().zip(&self.0).map(|(label, count)| (label, count.value()))
    }
}

/// How handshakes were completed: version, key exchange, resumption. A bounded set of labels.
#[derive(Debug, Default)]
pub struct Handshakes([Counter; Self::KINDS.len()]);

impl Handshakes {
    /// Those that there are: version 1.3?, group in its registry (0: none, as TLS 1.2 resumes without), resumed?, and the label.
    const KINDS: [(bool, u16, bool, &str); 12] = [
        (true, 0x11ec, false, "1.3 x25519mlkem768"),
        (true, 0x11ec, true, "1.3 x25519mlkem768 resumed"),
        (true, 29, false, "1.3 x25519"),
        (true, 29, true, "1.3 x25519 resumed"),
        (true, 23, false, "1.3 secp256r1"),
        (true, 23, true, "1.3 secp256r1 resumed"),
        (true, 24, false, "1.3 secp384r1"),
        (true, 24, true, "1.3 secp384r1 resumed"),
        (false, 29, false, "1.2 x25519"),
        (false, 23, false, "1.2 secp256r1"),
        (false, 24, false, "1.2 secp384r1"),
        (false, 0, true, "1.2 none resumed"),
    ];

    /// Counts one.
    pub fn count(&self, is_tls13: bool, group: u16, is_resumed: bool) {
        let kind = |kind: &&((bool, u16, bool, &str), &Counter)| {
            (kind.0.0, kind.0.1, kind.0.2) == (is_tls13, group, is_resumed)
        };
        Self::KINDS
            .into_iter()
            .zip(&self.0)
            .find(|row| kind(&row))
            .into_iter()
            .for_each(|(_, count)| count.increment());
    }

    /// Every label with its count.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Self::KINDS.into_iter().zip(&self.0).map(|((.., label), count)| (label, count.value()))
    }
}

/// What one served host's exchanges came to; shared by all workers and all bundles that serve it.
#[derive(Debug)]
pub struct HostTally {
    /// The host.
    pub host: Host,
    all: Arc<Counters>,
    /// By the first digit of the status; those from 600 together.
    responses: [Counter; 6],
    /// WebSockets opened.
    pub websockets_total: Counter,
    /// WebSockets open now.
    pub websockets_open: Counter,
}

impl HostTally {
    /// Classes of status codes, in the order of [`Self::responses`].
    pub const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "other"];

    /// Counts a response that went to the client. 0: there was none.
    pub fn responded(&self, status: u16) {
        let class = usize::from(status / 100).checked_sub(1);
        class.and_then(|class| self.responses.get(class.min(5))).into_iter().for_each(Counter::increment);
    }

    /// Every class of status codes with its count.
    pub fn responses(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Self::CLASSES.into_iter().zip(&self.responses).map(|(class, count)| (class, count.value()))
    }

    /// Counts a new WebSocket, which is open for as long as the value lives.
    pub fn websocket(self: Arc<Self>) -> OpenWebSocket {
        for count in [&self.websockets_total, &self.all.websockets_total] {
            count.increment();
        }
        self.websocket_again()
    }

    /// The same for one that another process has opened.
    pub fn websocket_again(self: Arc<Self>) -> OpenWebSocket {
        for count in [&self.websockets_open, &self.all.websockets_open] {
            count.increment();
        }
        OpenWebSocket(self)
    }
}

/// An open WebSocket of a host.
#[derive(Debug)]
pub struct OpenWebSocket(Arc<HostTally>);

impl OpenWebSocket {
    /// The host.
    pub fn host(&self) -> &Host {
        &self.0.host
    }
}

impl Drop for OpenWebSocket {
    fn drop(&mut self) {
        self.0.websockets_open.decrement();
        self.0.all.websockets_open.decrement();
    }
}

/// The tallies of all hosts ever served, so that counts outlive a reload.
/// Locked only while a bundle is taken into use.
#[derive(Debug, Default)]
pub struct HostTallies {
    all: Arc<Counters>,
    known: Mutex<HashMap<Host, Arc<HostTally>>>,
}

impl HostTallies {
    /// With the counters of all hosts together.
    pub fn new(all: &Arc<Counters>) -> Self {
        Self { all: Arc::clone(all), known: Mutex::default() }
    }

    /// The tally of `host`.
    pub fn of(&self, host: &Host) -> Arc<HostTally> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let tally = known.entry(host.clone()).or_insert_with(|| {
            Arc::new(HostTally {
                host: host.clone(),
                all: Arc::clone(&self.all),
                responses: Default::default(),
                websockets_total: Counter::default(),
                websockets_open: Counter::default(),
            })
        });
        Arc::clone(tally)
    }

    /// Forgets what no bundle serves and no session uses any more.
    pub fn prune(&self) {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, tally| Arc::strong_count(tally) > 1);
    }
}

/// Refusals by reason. Counted always, said once per reason and minute: a scanner must not write the SD card full.
#[derive(Debug, Default)]
pub struct Refusals([Refusal; Reason::NAMES.len()]);

#[derive(Debug, Default)]
struct Refusal {
    total: AtomicU64,
    /// Minute (from an arbitrary start, plus one) in which it was last said; 0: never.
    said_in: AtomicU64,
    /// `total` when it was last said.
    said_at: AtomicU64,
}

impl Refusals {
    /// Counts a refusal. `Some(n)`: say it now, and that `n` more were silent since the last line.
    pub fn count(&self, reason: Reason, minute: u64) -> Option<u64> {
        let refusal = self.0.get(reason as usize)?;
        let total = refusal.total.fetch_add(1, Relaxed) + 1;
        let said_in = refusal.said_in.load(Relaxed);
        let now = minute + 1;
        if said_in == now || refusal.said_in.compare_exchange(said_in, now, Relaxed, Relaxed).is_err() {
            return None;
        }
        Some((total - 1).saturating_sub(refusal.said_at.swap(total, Relaxed)))
    }

    /// Counts what is no news for the log.
    pub fn count_silently(&self, reason: Reason) {
        self.0.get(reason as usize).into_iter().for_each(|refusal| _ = refusal.total.fetch_add(1, Relaxed));
    }

    /// Every reason with its count.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Reason::NAMES.iter().zip(&self.0).map(|(name, refusal)| (*name, refusal.total.load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_said_once_a_minute_and_counted_always() {
        let refusals = Refusals::default();
        assert_eq!(refusals.count(Reason::Origin, 7), Some(0));
        assert!((0..9_999).all(|_| refusals.count(Reason::Origin, 7).is_none()));
        assert_eq!(refusals.count(Reason::Full, 7), Some(0), "another reason has its own line");
        assert_eq!(refusals.count(Reason::Origin, 8), Some(9_999));
        assert_eq!(refusals.all().find(|(name, _)| *name == "origin"), Some(("origin", 10_001)));
    }

    #[test]
    fn close_codes_are_distinguished_within_bounds() {
        let closes = Closes::default();
        let codes =
            [Some(1000), Some(1014), Some(1015), Some(3000), Some(3999), Some(4000), Some(4999), None];
        codes.into_iter().for_each(|code| closes.count(code));
        let counted: Vec<_> = closes.all().filter(|(_, count)| *count > 0).collect();
        // 1015 is in no frame (RFC 6455 §7.4.1); were it, it would be one of the others.
        assert_eq!(counted, [("1000", 1), ("1006", 1), ("1014", 1), ("3xxx", 3), ("4xxx", 2)]);
    }

    #[test]
    fn every_kind_of_handshake_has_a_counter_of_its_own() {
        let handshakes = Handshakes::default();
        for (is_tls13, group, is_resumed, _) in Handshakes::KINDS {
            handshakes.count(is_tls13, group, is_resumed);
        }
        assert!(handshakes.all().all(|(_, count)| count == 1));
        // None of these can be: not counted as another.
        for (is_tls13, group, is_resumed) in
            [(true, 0, true), (false, 0x11ec, false), (false, 29, true), (true, 0x11ed, false)]
        {
            handshakes.count(is_tls13, group, is_resumed);
        }
        assert_eq!(handshakes.all().map(|(_, count)| count).sum::<u64>(), 12);
    }

    #[test]
    fn a_host_counts_its_classes_and_its_websockets() {
        let all = Arc::<Counters>::default();
        let tallies = HostTallies::new(&all);
        let host = Host::parse("a.test").unwrap();
        let tally = tallies.of(&host);
        [0, 99, 100, 199, 200, 599, 600, 999].into_iter().for_each(|status| tally.responded(status));
        let counted: Vec<_> = tally.responses().collect();
        assert_eq!(counted, [("1xx", 2), ("2xx", 1), ("3xx", 0), ("4xx", 0), ("5xx", 1), ("other", 2)]);
        let open = [0; 2].map(|_| Arc::clone(&tally).websocket());
        assert_eq!((tally.websockets_open.value(), all.websockets_open.value()), (2, 2));
        drop(open);
        assert_eq!((tally.websockets_open.value(), all.websockets_open.value()), (0, 0));
        assert_eq!((tally.websockets_total.value(), all.websockets_total.value()), (2, 2));
        tallies.prune();
        assert!(Arc::ptr_eq(&tally, &tallies.of(&host)), "what a session uses is not forgotten");
        drop(tally);
        tallies.prune();
        assert_eq!(tallies.of(&host).websockets_total.value(), 0);
    }

    #[test]
    fn a_worker_is_silent_from_its_last_beat_to_its_end() {
        let tally = WorkerTally::default();
        let at = Duration::from_secs;
        assert_eq!(tally.silence(at(3)), at(3), "one that never began is silent as well");
        tally.beat(at(10));
        assert_eq!((tally.silence(at(12)), tally.silence(at(9))), (at(2), at(0)));
        tally.ended();
        assert_eq!(tally.silence(at(99)), at(0));
        tally.received.add(2, 100);
        tally.received.add(0, 1);
        assert_eq!((tally.received.value(), tally.sent.value()), ((2, 101), (0, 0)));
        assert_eq!(align_of::<WorkerTally>(), 64);
    }

    #[test]
    fn every_reason_has_its_name() {
        assert_eq!(Reason::UnknownServerName.name(), "unknown-server-name");
        assert_eq!(Reason::Admin.name(), "admin");
        assert_eq!((Reason::Exhausted.name(), Reason::Idle.name()), ("exhausted", "keepalive"));
        let silent = Refusals::default();
        silent.count_silently(Reason::Idle);
        assert_eq!(silent.count(Reason::Idle, 1), Some(1));
        assert_eq!(Reason::Admin as usize + 1, Reason::NAMES.len());
    }
}
