//! What the sessions of one worker share: buffers, the pool of upstream connections, counters, and how each is woken when
//! the drain begins. The loop that accepts them is not here.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Poll, Waker};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tracing::info;

use crate::edge::net::pool::Pool;
use crate::edge::session::buffers::Buffers;
use crate::edge::session::machine::Surroundings;
use crate::edge::session::pace::Pace;
use crate::edge::shared::addresses::Slot;
use crate::edge::shared::eviction::Evictable;
use crate::edge::shared::state::{Drain, Shared};
use crate::ops::metrics::{Flow, Reason, WorkerTally};

/// What the log says of a connection that was evicted.
pub(crate) const EVICTED: &str = "evicted: sessions_max or handshakes_max reached, and it had no request";

/// One worker: everything that its sessions share without a lock.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) index: usize,
    pub(crate) tally: Arc<WorkerTally>,
    /// Bytes pass through here on their way; nothing stays between two polls.
    pub(crate) scratch: RefCell<Box<[u8]>>,
    /// Heads and chunks are put together here; empty between two polls.
    pub(crate) out: RefCell<Vec<u8>>,
    pub(crate) pool: Rc<Pool>,
    buffers: Buffers,
    sessions: Cell<usize>,
    /// Woken when the drain begins: a `Notified` would be 64 bytes for each of them.
    sleepers: RefCell<Sleepers>,
    last_session_ends: Notify,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, index: usize, scratch_bytes: usize) -> Rc<Self> {
        let tally = shared.work.get(index).cloned().unwrap_or_default();
        Rc::new(Self {
            shared,
            index,
            tally,
            scratch: RefCell::new(vec![0; scratch_bytes].into_boxed_slice()),
            out: RefCell::default(),
            pool: Pool::new(),
            buffers: Buffers::default(),
            sessions: Cell::new(0),
            sleepers: RefCell::default(),
            last_session_ends: Notify::new(),
        })
    }

    /// The drain, once it has begun.
    pub(crate) fn drain(&self) -> Option<Drain> {
        self.shared.drain.get().copied()
    }

    /// Whether this worker has more than its share of the sessions, plus a tenth and a few.
    pub(crate) fn is_above_share(&self) -> bool {
        let all = self.shared.sessions.load(Relaxed) as usize;
        let share = all / self.shared.workers.max(1);
        self.sessions.get() > share + share / 10 + 2
    }

    /// A session of `peer`, by the limits of its address and of all. At `sessions_max` another connection is
    /// evicted where that is possible: it counts until it has gone, so that for a moment there are more than `sessions_max`.
    pub(crate) fn permit(self: &Rc<Self>, peer: IpAddr) -> Result<Permit, (Reason, &'static str)> {
        let place = self.shared.place(peer)?;
        let sessions = &self.shared.sessions;
        let before = sessions.fetch_add(1, Relaxed);
        let most = self.shared.sessions_max.load(Relaxed);
        if before >= most && !self.shared.eviction.evict() {
            sessions.fetch_sub(1, Relaxed);
            self.shared.addresses.leave(place);
            return Err((
                Reason::Full,
                "sessions_max reached, and every connection has a request or a WebSocket",
            ));
        }
        Ok(self.begin_session(place, (before + 1).min(most)))
    }

    /// The same for a session that another process has permitted: it is counted, whatever the limits are now.
    pub(crate) fn permit_again(self: &Rc<Self>, peer: IpAddr) -> Permit {
        let place = self.shared.place_again(peer);
        let before = self.shared.sessions.fetch_add(1, Relaxed);
        self.begin_session(place, before + 1)
    }

    fn begin_session(self: &Rc<Self>, place: Slot, sessions: u32) -> Permit {
        self.shared.sessions_peak.raise(u64::from(sessions));
        self.sessions.set(self.sessions.get() + 1);
        self.shared.balance.tell();
        Permit { worker: Rc::clone(self), place, sleeper: Cell::new(AWAKE) }
    }

    /// Wakes every session that sleeps until then.
    pub(crate) fn begin_drain(&self) {
        self.sleepers.borrow().wake();
    }

    /// Waits until the last session has ended, or `deadline`.
    pub(crate) async fn wait_for_sessions(&self, deadline: Instant) {
        while self.sessions.get() > 0 {
            tokio::select! {
                () = self.last_session_ends.notified() => {}
                () = sleep_until(deadline) => break,
            }
        }
        for _ in 0..self.sessions.get() {
            self.shared.endings.cut.increment();
        }
        if self.sessions.get() > 0 {
            info!(
                worker = self.index,
                sessions = self.sessions.get(),
                "drain_timeout reached; open connections are closed"
            );
        }
    }
}

impl Surroundings for Worker {
    fn pace(&self) -> Pace {
        Pace::of(&self.shared.active.load().bundle.limits)
    }
    fn drain_close(&self) -> Option<(u16, &'static str)> {
        self.drain().map(|drain| drain.close)
    }
    fn keeps_connections(&self) -> bool {
        self.drain().is_none_or(|drain| drain.hands_over && !self.shared.hand_over.is_over())
    }
    fn flows(&self) -> (&Flow, &Flow) {
        (&self.tally.received, &self.tally.sent)
    }
    fn buffers(&self) -> &Buffers {
        &self.buffers
    }
    fn refuse(&self, reason: Reason, peer: IpAddr, found: &str) {
        self.shared.refuse(reason, peer, found);
    }
    fn count_close(&self, code: Option<u16>) {
        self.shared.closes.count(code);
    }
}

/// The right to be a session; given back when dropped.
pub(crate) struct Permit {
    pub(crate) worker: Rc<Worker>,
    /// Of its address.
    place: Slot,
    /// Its place among the worker's sleepers, or [`AWAKE`].
    sleeper: Cell<u32>,
}

/// No place among the sleepers.
const AWAKE: u32 = u32::MAX;

impl Permit {
    /// Whether limits of handshakes hold for this session.
    pub(crate) fn is_limited(&self) -> bool {
        self.place.is_limited()
    }

    /// Counts the session for the client that a proxy has named; the proxy's own address has no place.
    ///
    /// # Errors
    /// Which limit the client is over.
    pub(crate) fn count_for(&mut self, client: IpAddr) -> Result<(), (Reason, &'static str)> {
        let place = self.worker.shared.place(client)?;
        // There is one already where a reload between has just made the peer a proxy.
        let before = std::mem::replace(&mut self.place, place);
        self.worker.shared.addresses.leave(before);
        Ok(())
    }

    /// Has the task of `waker`, which stays the same until [`Self::sleep_on`], woken when the drain begins.
    pub(crate) fn wake_at_drain(&self, waker: &Waker) {
        if self.sleeper.get() == AWAKE {
            self.sleeper.set(self.worker.sleepers.borrow_mut().enter(waker.clone()));
        }
    }

    /// Another task goes on with the session.
    pub(crate) fn sleep_on(&self) {
        self.worker.sleepers.borrow_mut().leave(self.sleeper.replace(AWAKE));
    }
}

/// Tasks by place; places that are free are taken first.
#[derive(Default)]
struct Sleepers {
    wakers: Vec<Option<Waker>>,
    free: Vec<u32>,
}

impl Sleepers {
    fn enter(&mut self, waker: Waker) -> u32 {
        let place = self.free.pop().unwrap_or_else(|| {
            self.wakers.push(None);
            self.wakers.len() as u32 - 1
        });
        if let Some(free) = self.wakers.get_mut(place as usize) {
            *free = Some(waker);
        }
        place
    }

    fn leave(&mut self, place: u32) {
        if let Some(taken) = self.wakers.get_mut(place as usize) {
            *taken = None;
            self.free.push(place);
        }
    }

    fn wake(&self) {
        self.wakers.iter().flatten().for_each(Waker::wake_by_ref);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.sleep_on();
        self.worker.shared.sessions.fetch_sub(1, Relaxed);
        self.worker.shared.addresses.leave(std::mem::replace(&mut self.place, Slot::EXEMPT));
        self.worker.sessions.set(self.worker.sessions.get() - 1);
        self.worker.shared.balance.tell();
        if self.worker.sessions.get() == 0 {
            self.worker.last_session_ends.notify_one();
        }
    }
}

/// Runs `work` to its end, or until the connection is evicted.
pub(crate) async fn unless_evicted<T>(
    worker: &Worker,
    evictable: &Evictable,
    peer: IpAddr,
    mut work: impl Future<Output = T> + Unpin,
) -> Option<T> {
    poll_fn(|cx| match Pin::new(&mut work).poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => evictable.poll_evicted(cx).map(|()| {
            worker.shared.refuse(Reason::Evicted, peer, EVICTED);
            None
        }),
    })
    .await
}
