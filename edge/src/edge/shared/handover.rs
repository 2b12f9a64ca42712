//! Sessions on their way from one process to the next: as data, with their sockets.

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
pub const FORMAT: u16 = 2;

/// A session that no process runs, or another state that passes to the next process.
pub struct Frozen {
    /// Its state, with its keys: used by one process only, and once.
    pub record: Zeroizing<Vec<u8>>,
    /// The client's socket, then the upstream's if it has one.
    pub descriptors: Vec<OwnedFd>,
}

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// An open WebSocket.
    WebSocket,
    /// A connection after its handshake that waits for a request, or for the response to one.
    Http,
    /// A connection to the TLS port that has sent nothing.
    Silent,
    /// The same to port 80.
    SilentPort80,
    /// Which upstream each session of Engine.IO uses. It has no sockets.
    Sids,
}

/// The start of a session's record, validated before the rest is used.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Head<'a> {
    pub(crate) format: u16,
    pub(crate) kind: Kind,
    /// SO_COOKIE of each socket, which is unique and not 0; 0: there is no such socket.
    pub(crate) cookies: [u64; 2],
    /// The route of the WebSocket or request: its host and its path.
    pub(crate) host: &'a str,
    pub(crate) path: &'a str,
    pub(crate) peer: IpAddr,
}

impl Frozen {
    /// What it is; `None` if this version does not read its record.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        match postcard::take_from_bytes::<u16>(&self.record) {
            Ok((FORMAT, rest)) => postcard::take_from_bytes(rest).ok().map(|(kind, _)| kind),
            _ => None,
        }
    }
}

/// Reads a record of this version.
///
/// # Errors
/// Why it cannot be read.
pub(crate) fn read<'r, T: Deserialize<'r>>(record: &'r [u8]) -> Result<T, &'static str> {
    // First: the rest may have another layout.
    match postcard::take_from_bytes::<u16>(record) {
        Ok((FORMAT, _)) => postcard::from_bytes(record).map_err(|_| DAMAGED),
        Ok(_) => Err("its record has the format of another version"),
        Err(_) => Err(DAMAGED),
    }
}

/// Writes a record of at most `bytes_max`. It is allocated once: a growing vector leaves copies of keys in freed memory.
pub(crate) fn write(state: &impl Serialize, bytes_max: usize) -> Option<Zeroizing<Vec<u8>>> {
    let mut record = Zeroizing::new(vec![0; bytes_max]);
    let used = postcard::to_slice(state, &mut record).ok()?.len();
    record.truncate(used);
    Some(record)
}

/// Why a record cannot be read.
pub(crate) const DAMAGED: &str = "its record is damaged";

/// The hand-over of sessions to the next process, and from the process before.
#[derive(Default)]
pub struct HandOver {
    is_allowed: AtomicBool,
    /// Workers that accept no connection any more.
    closed_workers: AtomicU32,
    receiver: OnceLock<UnboundedSender<Frozen>>,
    /// WebSockets freeze as well.
    has_websockets: AtomicBool,
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

    /// From now on connections that wait for their client or for a response freeze, and go to `receiver`.
    pub fn begin(&self, receiver: UnboundedSender<Frozen>) {
        let _ = self.receiver.set(receiver);
    }

    /// From now on WebSockets freeze as well.
    pub fn begin_websockets(&self) {
        self.has_websockets.store(true, SeqCst);
    }

    /// Where a connection goes that waits for its client or for a response.
    #[inline]
    pub(crate) fn receiver(&self) -> Option<&UnboundedSender<Frozen>> {
        self.receiver.get().filter(|receiver| !receiver.is_closed())
    }

    /// Where a WebSocket goes, which may be refused there.
    pub(crate) fn websocket_receiver(&self) -> Option<&UnboundedSender<Frozen>> {
        self.receiver.get().filter(|_| self.has_websockets.load(SeqCst))
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

    /// Whether connections can no longer be handed over.
    pub(crate) fn is_over(&self) -> bool {
        self.over_at.get().is_some() || self.receiver.get().is_some_and(UnboundedSender::is_closed)
    }

    pub(crate) fn over_at(&self) -> Option<Instant> {
        self.over_at.get().copied()
    }

    /// Counts a session that could not be resumed, and logs the first.
    pub(crate) fn count_lost(&self, why: &'static str) {
        if self.lost.value() == 0 {
            warn!(why, "could not resume a connection of the previous process; it is closed");
        }
        self.lost.increment();
    }
}
