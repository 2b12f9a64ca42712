//! The upstreams that bundles name, and whether each takes connections.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::{info, warn};

use crate::bundle::Upstream;
use crate::names::Host;
use crate::ops::metrics::Counter;

/// One upstream, shared by all workers and all bundles that name it.
#[derive(Debug)]
pub struct UpstreamState {
    /// No other has it, nor had it before.
    pub(crate) id: u32,
    pub(crate) address: Upstream,
    /// As written in sanedge.toml.
    pub text: String,
    /// Failed connection attempts.
    pub failures: Counter,
    tried: AtomicBool,
    /// The last attempt to connect failed.
    down: AtomicBool,
    /// A task tries it again and again until it is back.
    probing: AtomicBool,
}

/// All upstreams ever named, so that an outage outlives a reload.
/// Locked only while a bundle is taken into use.
#[derive(Debug, Default)]
pub struct Upstreams(Mutex<HashMap<Upstream, Arc<UpstreamState>>>);

impl Upstreams {
    pub(crate) fn state(&self, address: &Upstream) -> Arc<UpstreamState> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(address.clone()).or_insert_with(|| Arc::new(UpstreamState::new(address))))
    }

    /// Forgets what no bundle names any more.
    pub fn prune(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, state| Arc::strong_count(state) > 1);
    }
}

impl UpstreamState {
    fn new(address: &Upstream) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self {
            id: NEXT.fetch_add(1, Relaxed),
            address: address.clone(),
            text: address.to_string(),
            failures: Counter::default(),
            tried: AtomicBool::new(false),
            down: AtomicBool::new(false),
            probing: AtomicBool::new(false),
        }
    }

    /// How the last attempt to connect went: `ok`, `down`, or `untried`.
    pub fn state(&self) -> &'static str {
        match (self.tried.load(Relaxed), self.is_down()) {
            (false, _) => "untried",
            (true, true) => "down",
            (true, false) => "ok",
        }
    }

    /// Whether the last attempt failed: others are tried first.
    pub(crate) fn is_down(&self) -> bool {
        self.down.load(Relaxed)
    }

    /// Notes that it took no connection, and says an outage once, when it begins; `true`: somebody must notice its end.
    pub(crate) fn failed(&self, host: &Host, error: &io::Error) -> bool {
        self.tried.store(true, Relaxed);
        self.failures.increment();
        if !self.down.swap(true, SeqCst) {
            let error = error.to_string();
            warn!(
                upstream = self.text,
                %host,
                error,
                "upstream is down; is the app running and listening there?"
            );
        }
        !self.probing.swap(true, SeqCst)
    }

    /// Notes that it took a connection, and says the end of an outage.
    pub(crate) fn works(&self) {
        if !self.tried.load(Relaxed) {
            self.tried.store(true, Relaxed);
        }
        if self.is_down() && self.down.swap(false, SeqCst) {
            info!(upstream = self.text, "upstream is back");
        }
    }

    /// Whether there is an end to probing: it is back, and no new outage has begun meanwhile that relies on us.
    pub(crate) fn probed(&self) -> bool {
        if self.down.load(SeqCst) {
            return false;
        }
        self.probing.store(false, SeqCst);
        !self.down.load(SeqCst) || self.probing.swap(true, SeqCst)
    }
}
