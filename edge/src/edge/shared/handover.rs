//! WebSockets on their way to the next process: as data, with their sockets.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;
use tracing::warn;
use zeroize::Zeroizing;

use crate::ops::metrics::Counter;

/// Of [`Frozen::record`]. Another number is another layout, and ends the session.
pub const FORMAT: u16 = 1;

/// A session that no process runs.
pub struct Frozen {
    /// Its state, with its keys: used by one process only, and once.
    pub record: Zeroizing<Vec<u8>>,
    /// The client's socket, then the upstream's.
    pub descriptors: Vec<OwnedFd>,
}

/// What a record begins with: what must hold before the rest is used.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Head<'a> {
    pub(crate) format: u16,
    /// SO_COOKIE of each socket: the kernel gives no other socket the same.
    pub(crate) cookies: [u64; 2],
    pub(crate) host: &'a str,
    pub(crate) path: &'a str,
    pub(crate) peer: IpAddr,
}

/// Where sessions go once the next process is about to start.
#[derive(Default)]
pub struct HandOver {
    taker: OnceLock<UnboundedSender<Frozen>>,
    /// Sessions that cannot be handed over and have not ended yet.
    staying: AtomicU32,
    /// Sessions that came from the process before, and went on.
    resumed: Counter,
    /// Sessions that came from the process before, and did not go on.
    lost: Counter,
    is_allowed: AtomicBool,
    /// Workers that accept no connection any more.
    closed_workers: AtomicU32,
    is_over: AtomicBool,
}

impl HandOver {
    /// A restart hands sessions over, as far as is known.
    pub fn allow(&self) {
        self.is_allowed.store(true, SeqCst);
    }

    /// Whether a restart hands sessions over.
    pub fn is_allowed(&self) -> bool {
        self.is_allowed.load(SeqCst)
    }

    /// Workers that accept no connection any more.
    pub fn closed_workers(&self) -> u32 {
        self.closed_workers.load(SeqCst)
    }

    pub(crate) fn worker_closed(&self) {
        self.closed_workers.fetch_add(1, SeqCst);
    }

    /// From now on sessions freeze, and go to `taker`.
    pub fn begin(&self, taker: UnboundedSender<Frozen>) {
        let _ = self.taker.set(taker);
    }

    /// Sessions that cannot be handed over and have not ended yet.
    pub fn staying(&self) -> u32 {
        self.staying.load(SeqCst)
    }

    /// Nothing more comes back: what is left of the drain is an ordinary one.
    pub fn end(&self) {
        self.is_over.store(true, SeqCst);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(SeqCst)
    }

    /// Counts a session that came here.
    pub(crate) fn came(&self, result: &Result<(), &'static str>) {
        match result {
            Ok(()) => self.resumed.increment(),
            Err(why) => {
                // A record of another version is like the next one: one line is enough.
                if self.lost.value() == 0 {
                    warn!(why, "a WebSocket of the process before is closed");
                }
                self.lost.increment();
            }
        }
    }

    pub(crate) fn taker(&self) -> Option<&UnboundedSender<Frozen>> {
        self.taker.get()
    }

    pub(crate) fn stays(&self) {
        self.staying.fetch_add(1, SeqCst);
    }

    pub(crate) fn has_ended(&self) {
        self.staying.fetch_sub(1, SeqCst);
    }
}
