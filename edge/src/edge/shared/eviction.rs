//! Connections that may be evicted, because they have no request in progress.
//!
//! At `sessions_max` the edge evicts in this order, the oldest first within each: connections without a ClientHello, in
//! their handshake, without a first request since, idle between two requests. A real client completes its handshake within
//! a second, so that a flood of silent connections only evicts itself; and a client takes the end of an idle connection
//! for what its own server would do after some seconds. At `handshakes_max` the oldest handshake is evicted. A connection
//! with a request in progress is never evicted, nor is an open WebSocket.
//!
//! A mutex, taken when a connection is accepted, with its ClientHello, after its handshake, with its first request, and to
//! evict.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Stages of an [`Evictable`], the first four in the order in which they are evicted.
const CONNECTED: u8 = 0;
const HANDSHAKING: u8 = 1;
const SILENT: u8 = 2;
const IDLE: u8 = 3;
/// In a request: keeps its place in the queue of idle connections.
const BUSY: u8 = 4;
const EVICTED: u8 = 5;
const OUT: u8 = 6;

/// Entries of a queue before those that have moved on are swept out.
const SWEEP_MIN: usize = 64;

/// All connections that may be evicted, by stage.
#[derive(Debug, Default)]
pub(crate) struct EvictionQueue(Mutex<[Queue; 4]>);

/// The oldest is evicted first. An entry whose connection has moved on stays until it is swept out.
#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<Arc<Entry>>,
    sweep_at: usize,
}

#[derive(Debug)]
struct Entry {
    stage: AtomicU8,
    /// Of the session. Locked while it is polled, and to wake it.
    waker: Mutex<Option<Waker>>,
}

/// A connection that may be evicted, until this is dropped.
#[derive(Debug)]
pub(crate) struct Evictable(Arc<Entry>);

impl EvictionQueue {
    /// A new connection.
    pub(crate) fn enter(&self) -> Evictable {
        let entry = Arc::new(Entry { stage: AtomicU8::new(CONNECTED), waker: Mutex::default() });
        self.push(CONNECTED, &entry);
        Evictable(entry)
    }

    /// A connection past its handshake that another process has accepted.
    pub(crate) fn enter_again(&self, has_requested: bool) -> Evictable {
        let stage = if has_requested { IDLE } else { SILENT };
        let entry = Arc::new(Entry { stage: AtomicU8::new(stage), waker: Mutex::default() });
        self.push(stage, &entry);
        Evictable(entry)
    }

    /// Its ClientHello has come, and its handshake begins.
    pub(crate) fn handshake_begins(&self, evictable: &Evictable) {
        self.moves_on(evictable, CONNECTED, HANDSHAKING);
    }

    /// Its handshake is done.
    pub(crate) fn handshake_done(&self, evictable: &Evictable) {
        self.moves_on(evictable, HANDSHAKING, SILENT);
    }

    /// It has sent a request, its first or another, or ends by itself; `false`: too late, it has been evicted.
    pub(crate) fn request_begins(&self, evictable: &Evictable) -> bool {
        if evictable.0.moves(IDLE, BUSY) {
            return true; // it is in its queue
        }
        let is_first = evictable.0.moves(SILENT, BUSY);
        if is_first {
            self.push(IDLE, &evictable.0);
        }
        is_first
    }

    fn moves_on(&self, evictable: &Evictable, from: u8, to: u8) {
        if evictable.0.moves(from, to) {
            self.push(to, &evictable.0);
        }
    }

    /// Evicts one connection; `false`: there is none to evict.
    pub(crate) fn evict(&self) -> bool {
        let mut queues = lock(&self.0);
        (CONNECTED..).zip(&mut *queues).any(|(stage, queue)| queue.evict(stage))
    }

    /// Evicts one that is in its handshake; `false`: there is none.
    pub(crate) fn evict_handshaking(&self) -> bool {
        let mut queues = lock(&self.0);
        queues.get_mut(usize::from(HANDSHAKING)).is_some_and(|queue| queue.evict(HANDSHAKING))
    }

    fn push(&self, stage: u8, entry: &Arc<Entry>) {
        let mut queues = lock(&self.0);
        let Some(queue) = queues.get_mut(usize::from(stage)) else { return };
        if queue.entries.len() >= queue.sweep_at.max(SWEEP_MIN) {
            queue.entries.retain(|entry| entry.waits_in(stage));
            queue.sweep_at = 2 * queue.entries.len();
        }
        queue.entries.push_back(Arc::clone(entry));
    }
}

impl Queue {
    fn evict(&mut self, stage: u8) -> bool {
        for _ in 0..self.entries.len() {
            let Some(entry) = self.entries.pop_front() else { break };
            if entry.moves(stage, EVICTED) {
                lock(&entry.waker).take().into_iter().for_each(Waker::wake);
                return true;
            }
            if entry.waits_in(stage) {
                self.entries.push_back(entry);
            }
        }
        false
    }
}

impl Evictable {
    /// Ready once it has been evicted.
    pub(crate) fn poll_evicted(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waker = lock(&self.0.waker);
        if self.0.stage.load(SeqCst) == EVICTED {
            return Poll::Ready(());
        }
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Its request is answered: it may be evicted until the next begins.
    pub(crate) fn request_done(&self) {
        self.0.moves(BUSY, IDLE);
    }
}

impl Drop for Evictable {
    fn drop(&mut self) {
        self.0.stage.store(OUT, SeqCst);
        // The entry may stay in its queue for long; with its waker it would keep the whole task's memory.
        let waker = lock(&self.0.waker).take();
        drop(waker);
    }
}

impl Entry {
    /// Whether the queue of `stage` is its own.
    fn waits_in(&self, stage: u8) -> bool {
        let own = self.stage.load(SeqCst);
        own == stage || (stage, own) == (IDLE, BUSY)
    }

    fn moves(&self, from: u8, to: u8) -> bool {
        self.stage.compare_exchange(from, to, SeqCst, SeqCst).is_ok()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_evicted(evictable: &Evictable) -> bool {
        evictable.poll_evicted(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn the_longest_without_a_hello_goes_first_then_in_its_handshake_then_silent() {
        let eviction = EvictionQueue::default();
        let evictables = [0; 6].map(|_| eviction.enter());
        [4, 2, 0].into_iter().for_each(|at: usize| eviction.handshake_begins(&evictables[at]));
        [2, 0].into_iter().for_each(|at: usize| eviction.handshake_done(&evictables[at]));
        let mut order = Vec::new();
        while eviction.evict() {
            order.extend(
                (0..6).filter(|at| is_evicted(&evictables[*at]) && !order.contains(at)).collect::<Vec<_>>(),
            );
        }
        assert_eq!(order, [1, 3, 5, 4, 2, 0]);
    }

    #[test]
    fn too_many_handshakes_evict_the_oldest_of_them() {
        let eviction = EvictionQueue::default();
        let [_connected, first, second, silent] = [0; 4].map(|_| eviction.enter());
        [&silent, &first, &second].into_iter().for_each(|evictable| eviction.handshake_begins(evictable));
        eviction.handshake_done(&silent);
        assert!(eviction.evict_handshaking() && is_evicted(&first) && !is_evicted(&second));
        assert!(eviction.evict_handshaking() && !eviction.evict_handshaking());
    }

    #[test]
    fn a_request_in_progress_or_a_closed_connection_is_not_evicted() {
        let eviction = EvictionQueue::default();
        let (busy, gone, late) = (eviction.enter(), eviction.enter(), eviction.enter());
        eviction.handshake_begins(&busy);
        eviction.handshake_done(&busy);
        assert!(eviction.request_begins(&busy));
        drop(gone);
        assert!(eviction.evict() && is_evicted(&late) && !eviction.evict());
        eviction.handshake_begins(&late);
        eviction.handshake_done(&late);
        assert!(!eviction.request_begins(&late), "too late");
    }

    #[test]
    fn idle_between_requests_is_evicted_last_and_in_a_request_never() {
        let eviction = EvictionQueue::default();
        let [first, second, silent] = [0; 3].map(|_| eviction.enter());
        for evictable in [&first, &second, &silent] {
            eviction.handshake_begins(evictable);
            eviction.handshake_done(evictable);
        }
        assert!(eviction.request_begins(&first) && eviction.request_begins(&second));
        first.request_done();
        assert!(eviction.request_begins(&first));
        second.request_done();
        assert!(eviction.evict() && is_evicted(&silent));
        assert!(eviction.evict() && is_evicted(&second) && !is_evicted(&first));
        assert!(!eviction.evict() && !eviction.request_begins(&second));
        first.request_done();
        assert!(eviction.evict() && is_evicted(&first), "it kept its place in the queue");
    }

    #[test]
    fn it_grows_with_current_connections_and_not_with_past_ones() {
        let eviction = EvictionQueue::default();
        let stay = [0; 100].map(|_| eviction.enter());
        for _ in 0..100_000 {
            let evictable = eviction.enter();
            eviction.handshake_begins(&evictable);
            eviction.handshake_done(&evictable);
            assert!(eviction.request_begins(&evictable));
        }
        let queues = eviction.0.lock().unwrap();
        assert!(
            queues.iter().all(|queue| queue.entries.len() <= 300),
            "{:?}",
            queues.each_ref().map(|q| q.entries.len())
        );
        drop(queues);
        assert_eq!((0..).take_while(|_| eviction.evict()).count(), stay.len());
    }
}
