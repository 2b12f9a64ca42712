//! The idle upstream connections of a worker.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::time::Instant;

use crate::edge::net::retry::Want;
use crate::edge::net::upstream::{self, Dial, UpstreamStream};
use crate::edge::shared::upstreams::UpstreamState;
use crate::names::Host;

/// Longest that an idle connection is kept: Node ends its own after 5 s, and a request must not meet that end.
const IDLE_MAX: Duration = Duration::from_secs(4);
/// What is taken off an upstream's own `Keep-Alive: timeout`, for the way of the last request.
const IDLE_MARGIN: Duration = Duration::from_secs(1);

/// A connection in use.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) io: UpstreamStream,
    pub(crate) upstream: Arc<UpstreamState>,
    /// It carried an exchange before: its end before a response may be an old decision of the upstream.
    pub(crate) reused: bool,
    /// It is authenticated as a whole, or was asked to be: never for another client.
    pub(crate) bound: bool,
}

/// An idle upstream connection that belongs to one client's connection.
#[derive(Debug)]
pub(crate) struct OwnConnection {
    connection: Connection,
    /// When the upstream ends it by itself, if it has said so.
    until: Option<Instant>,
}

impl OwnConnection {
    pub(crate) fn new(connection: Connection, keep_alive: Option<Duration>) -> Self {
        let until = keep_alive.map(|time| Instant::now() + time.saturating_sub(IDLE_MARGIN));
        Self { connection, until }
    }

    pub(crate) fn is_to(&self, upstream: &Arc<UpstreamState>) -> bool {
        Arc::ptr_eq(upstream, &self.connection.upstream)
    }

    /// None where it has ended, or is about to.
    pub(crate) fn usable(self) -> Option<Connection> {
        let in_time = self.until.is_none_or(|until| Instant::now() < until);
        (in_time && self.connection.io.is_quiet()).then_some(self.connection)
    }
}

struct Idle {
    io: UpstreamStream,
    since: Instant,
    until: Instant,
}

/// The idle connections to one upstream, oldest first.
struct Kept {
    upstream: Arc<UpstreamState>,
    connections: Vec<Idle>,
}

/// A worker's idle connections. Never holds one whose last message had an ambiguous end.
pub(crate) struct Pool {
    kept: RefCell<Vec<Kept>>,
    /// A sweep task is running.
    sweeping: Cell<bool>,
}

impl Pool {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self { kept: RefCell::default(), sweeping: Cell::new(false) })
    }

    /// A connection to one of `upstreams`, `first` before the others; those that are down are tried last. Nothing has
    /// been sent, so any request may go on to the next.
    ///
    /// # Errors
    /// The upstream tried last and why, when none takes a connection.
    pub(crate) async fn connect(
        &self,
        upstreams: &[Arc<UpstreamState>],
        first: usize,
        host: &Host,
        want: Want,
        dial: Dial,
    ) -> Result<Connection, (String, io::Error)> {
        let mut failed = (String::new(), io::Error::from(io::ErrorKind::NotFound));
        let several = upstreams.len();
        // Asked once: one that fails now is not tried a second time.
        let down = upstreams.iter().map(|upstream| upstream.is_down());
        let down = down.zip(0..u32::BITS).fold(0_u32, |mask, (down, at)| mask | u32::from(down) << at);
        let turned = || (first..).map(|at| at % several).take(several);
        let is_down = |at: &usize| down >> (at % 32) & 1 == 1;
        let in_order = turned().filter(|at| !is_down(at)).chain(turned().filter(is_down));
        for state in in_order.filter_map(|at| upstreams.get(at)) {
            if let Some(io) = self.take(state, want) {
                return Ok(Connection { io, upstream: Arc::clone(state), reused: true, bound: false });
            }
            match upstream::connect(state, dial).await {
                Ok(io) => {
                    state.works();
                    return Ok(Connection { io, upstream: Arc::clone(state), reused: false, bound: false });
                }
                Err(error) => {
                    // For want of descriptors of ours, the upstream is not down.
                    if !matches!(
                        error.raw_os_error().map(Errno::from_raw_os_error),
                        Some(Errno::MFILE | Errno::NFILE)
                    ) {
                        upstream::failed(state, host, &error, dial);
                    }
                    failed = (state.text.clone(), error);
                }
            }
        }
        Err(failed)
    }

    fn take(&self, upstream: &Arc<UpstreamState>, want: Want) -> Option<UpstreamStream> {
        let now = Instant::now();
        let mut kept = self.kept.borrow_mut();
        let kept = kept.iter_mut().find(|kept| Arc::ptr_eq(&kept.upstream, upstream))?;
        while let Some(idle) = kept.connections.pop() {
            if !want.takes(now.duration_since(idle.since)) {
                // Those below are older still.
                kept.connections.push(idle);
                return None;
            }
            if now < idle.until && idle.io.is_quiet() {
                return Some(idle.io);
            }
        }
        None
    }

    /// Keeps a connection whose last message ended unambiguously, for at most the upstream's own `keep_alive`, and
    /// at most `idle_max` of them.
    pub(crate) fn put(
        self: &Rc<Self>,
        connection: Connection,
        keep_alive: Option<Duration>,
        idle_max: usize,
    ) {
        let time = keep_alive.map_or(IDLE_MAX, |own| own.saturating_sub(IDLE_MARGIN).min(IDLE_MAX));
        if time.is_zero() {
            return;
        }
        let since = Instant::now();
        let idle = Idle { io: connection.io, since, until: since + time };
        let mut kept = self.kept.borrow_mut();
        match kept.iter_mut().find(|kept| Arc::ptr_eq(&kept.upstream, &connection.upstream)) {
            Some(kept) if kept.connections.len() < idle_max => kept.connections.push(idle),
            Some(_) => {}
            None if idle_max == 0 => {}
            None => kept.push(Kept { upstream: connection.upstream, connections: vec![idle] }),
        }
        drop(kept);
        self.sweep_later();
    }

    fn sweep_later(self: &Rc<Self>) {
        if self.sweeping.replace(true) {
            return;
        }
        let pool = Rc::clone(self);
        tokio::task::spawn_local(async move {
            while pool.sweep() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            pool.sweeping.set(false);
        });
    }

    /// Drops what has expired or ended; false when nothing is left.
    fn sweep(&self) -> bool {
        let now = Instant::now();
        let mut kept = self.kept.borrow_mut();
        for kept in kept.iter_mut() {
            kept.connections.retain(|idle| now < idle.until && idle.io.is_quiet());
        }
        kept.retain(|kept| !kept.connections.is_empty());
        !kept.is_empty()
    }
}
