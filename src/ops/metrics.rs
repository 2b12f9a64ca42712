//! Counters: atomics that sessions touch and `status` reads, and the rule that keeps refusals from filling the log.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

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
    /// Panics caught; each is a defect.
    panics_total,
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
    /// The value now.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Why a connection or request was refused: the label in `status` and in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Reason {
    /// Hello with a server name that is not in the bundle.
    UnknownServerName,
    /// Hello without a server name, and no `default_host`.
    NoServerName,
    /// TLS handshake failed.
    Handshake,
    /// TLS handshake took too long.
    HandshakeTimeout,
    /// `sessions_max` or `handshakes_max` reached.
    Full,
    /// Head, body or upgrade that is not allowed.
    BadRequest,
    /// Head or body too slow.
    RequestTimeout,
    /// Host is not the server name, or not served.
    Misdirected,
    /// Client address outside the site's `allow`.
    Network,
    /// Origin not allowed.
    Origin,
    /// No route for the path.
    NoRoute,
    /// The upstream closed, answered malformed, or too late.
    Upstream,
    /// A WebSocket frame that breaks a rule, from either side.
    WebSocket,
    /// Admin socket: peer not allowed.
    Admin,
}

impl Reason {
    const NAMES: [&'static str; 14] = [
        "unknown-server-name",
        "no-server-name",
        "handshake",
        "handshake-timeout",
        "full",
        "bad-request",
        "request-timeout",
        "misdirected",
        "network",
        "origin",
        "no-route",
        "upstream",
        "websocket",
        "admin",
    ];

    /// The label.
    pub fn name(self) -> &'static str {
        Self::NAMES.get(self as usize).copied().unwrap_or("other")
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
    fn every_reason_has_its_name() {
        assert_eq!(Reason::UnknownServerName.name(), "unknown-server-name");
        assert_eq!(Reason::Admin.name(), "admin");
        assert_eq!(Reason::Admin as usize + 1, Reason::NAMES.len());
    }
}
