//! WebSockets on their way from one process to the next: as data, with their sockets.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;
use tracing::warn;
use zeroize::Zeroizing;

use crate::ops::metrics::Counter;

/// Format version of [`Frozen::record`]. A session whose record has another version is closed.
pub const FORMAT: u16 = 1;

/// A session that no process runs.
pub struct Frozen {
    /// Its state, with its keys: used by one process only, and once.
    pub record: Zeroizing<Vec<u8>>,
    /// The client's socket, then the upstream's.
    pub descriptors: Vec<OwnedFd>,
}

/// The start of a record, validated before the rest is used.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Head<'a> {
    pub(crate) format: u16,
    /// SO_COOKIE of each socket, which is unique.
    pub(crate) cookies: [u64; 2],
    pub(crate) host: &'a str,
    pub(crate) path: &'a str,
    pub(crate) peer: IpAddr,
}

impl Frozen {
    /// Whether this version reads its record.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        matches!(postcard::take_from_bytes::<u16>(&self.record), Ok((FORMAT, _)))
    }
}

/// The hand-over of WebSockets to the next process, and from the process before.
#[derive(Default)]
pub struct HandOver {
    is_allowed: AtomicBool,
    /// Workers that accept no connection any more.
    closed_workers: AtomicU32,
    receiver: OnceLock<UnboundedSender<Frozen>>,
    /// Sessions that cannot be handed over and have not ended yet.
    staying: AtomicU32,
    /// When the remaining sessions end. Set once no session can come back from the hand-over.
    over_at: OnceLock<Instant>,
    /// Sessions of the previous process that could not be resumed.
    lost: Counter,
}

impl HandOver {
    /// Records that a restart can hand sessions over.
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

    /// From now on sessions freeze, and go to `receiver`.
    pub fn begin(&self, receiver: UnboundedSender<Frozen>) {
        let _ = self.receiver.set(receiver);
    }

    pub(crate) fn receiver(&self) -> Option<&UnboundedSender<Frozen>> {
        self.receiver.get()
    }

    /// Sessions that cannot be handed over and have not ended yet.
    pub fn staying(&self) -> u32 {
        self.staying.load(SeqCst)
    }

    pub(crate) fn count_staying(&self) {
        self.staying.fetch_add(1, SeqCst);
    }

    pub(crate) fn staying_ended(&self) {
        self.staying.fetch_sub(1, SeqCst);
    }

    /// No session comes back from the hand-over after this. The remaining sessions have until `at` to end.
    pub fn end(&self, at: Instant) {
        let _ = self.over_at.set(at);
    }

    pub(crate) fn over_at(&self) -> Option<Instant> {
        self.over_at.get().copied()
    }

    /// Counts a session that could not be resumed, and logs the first.
    pub(crate) fn count_lost(&self, why: &'static str) {
        if self.lost.value() == 0 {
            warn!(why, "could not resume a WebSocket of the previous process; it is closed");
        }
        self.lost.increment();
    }
}
