//! Who has a place in the house and does nothing with it: has said no hello, is in its handshake, has sent no request since,
//! or rests between two requests.
//!
//! A full house sends away one of the first that there are of these, the longest there first: a player is through within a
//! second, a flood of silent connections only meets itself, and a client takes the end of a resting connection for what its
//! own server would do after some seconds. Where only handshakes are too many, the longest of those goes. Whoever waits for
//! a response stays, and an open WebSocket is out of here.
//!
//! A mutex, taken when a connection comes, with its hello, when its handshake is done, with its first request, and by a
//! full house.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Stages of a [`Guest`], the first four in the order in which they are sent away.
const CONNECTED: u8 = 0;
const HANDSHAKING: u8 = 1;
const SILENT: u8 = 2;
const RESTING: u8 = 3;
/// In a request: has its place in the queue of those who rest.
const BUSY: u8 = 4;
const SENT_AWAY: u8 = 5;
const OUT: u8 = 6;

/// Rows of a queue before those that are out are looked for.
const SWEEP_MIN: usize = 64;

/// All guests.
#[derive(Debug, Default)]
pub(crate) struct Lobby(Mutex<[Queue; 4]>);

/// First come, first sent away. Who has moved on stays in it until it is swept.
#[derive(Debug, Default)]
struct Queue {
    seats: VecDeque<Arc<Seat>>,
    sweep_at: usize,
}

#[derive(Debug)]
struct Seat {
    stage: AtomicU8,
    /// Of the session. Locked while it is polled, and to wake it.
    waker: Mutex<Option<Waker>>,
}

/// One that may be sent away, until it is dropped.
#[derive(Debug)]
pub(crate) struct Guest(Arc<Seat>);

impl Lobby {
    /// A connection.
    pub(crate) fn enter(&self) -> Guest {
        let seat = Arc::new(Seat { stage: AtomicU8::new(CONNECTED), waker: Mutex::default() });
        self.push(CONNECTED, &seat);
        Guest(seat)
    }

    /// `guest` has said hello, and its handshake begins.
    pub(crate) fn handshakes(&self, guest: &Guest) {
        self.moves_on(guest, CONNECTED, HANDSHAKING);
    }

    /// The handshake of `guest` is done.
    pub(crate) fn handshaken(&self, guest: &Guest) {
        self.moves_on(guest, HANDSHAKING, SILENT);
    }

    /// `guest` has sent a request, its first or another, or ends by itself; `false`: too late, it has been sent away.
    pub(crate) fn asks(&self, guest: &Guest) -> bool {
        if guest.0.moves(RESTING, BUSY) {
            return true; // it is in its queue
        }
        let is_first = guest.0.moves(SILENT, BUSY);
        if is_first {
            self.push(RESTING, &guest.0);
        }
        is_first
    }

    fn moves_on(&self, guest: &Guest, from: u8, to: u8) {
        if guest.0.moves(from, to) {
            self.push(to, &guest.0);
        }
    }

    /// Sends one away; `false`: there is none.
    pub(crate) fn send_away(&self) -> bool {
        let mut queues = lock(&self.0);
        (CONNECTED..).zip(&mut *queues).any(|(stage, queue)| queue.send_away(stage))
    }

    /// Sends one away that is in its handshake; `false`: there is none.
    pub(crate) fn send_away_handshaking(&self) -> bool {
        let mut queues = lock(&self.0);
        queues.get_mut(usize::from(HANDSHAKING)).is_some_and(|queue| queue.send_away(HANDSHAKING))
    }

    fn push(&self, stage: u8, seat: &Arc<Seat>) {
        let mut queues = lock(&self.0);
        let Some(queue) = queues.get_mut(usize::from(stage)) else { return };
        if queue.seats.len() >= queue.sweep_at.max(SWEEP_MIN) {
            queue.seats.retain(|seat| seat.waits_in(stage));
            queue.sweep_at = 2 * queue.seats.len();
        }
        queue.seats.push_back(Arc::clone(seat));
    }
}

impl Queue {
    fn send_away(&mut self, stage: u8) -> bool {
        for _ in 0..self.seats.len() {
            let Some(seat) = self.seats.pop_front() else { break };
            if seat.moves(stage, SENT_AWAY) {
                lock(&seat.waker).take().into_iter().for_each(Waker::wake);
                return true;
            }
            if seat.waits_in(stage) {
                self.seats.push_back(seat);
            }
        }
        false
    }
}

impl Guest {
    /// Ready once it has been sent away.
    pub(crate) fn poll_sent_away(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waker = lock(&self.0.waker);
        if self.0.stage.load(SeqCst) == SENT_AWAY {
            return Poll::Ready(());
        }
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Its request is answered. Until the next it may be sent away.
    pub(crate) fn rests(&self) {
        self.0.moves(BUSY, RESTING);
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.stage.store(OUT, SeqCst);
        // The seat may stay in its queue for long; with its waker it would keep the whole task's memory.
        let waker = lock(&self.0.waker).take();
        drop(waker);
    }
}

impl Seat {
    /// Whether the queue of `stage` is its own.
    fn waits_in(&self, stage: u8) -> bool {
        let own = self.stage.load(SeqCst);
        own == stage || (stage, own) == (RESTING, BUSY)
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

    fn is_away(guest: &Guest) -> bool {
        guest.poll_sent_away(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn the_longest_without_a_hello_goes_first_then_in_its_handshake_then_silent() {
        let lobby = Lobby::default();
        let guests = [0; 6].map(|_| lobby.enter());
        [4, 2, 0].into_iter().for_each(|at: usize| lobby.handshakes(&guests[at]));
        [2, 0].into_iter().for_each(|at: usize| lobby.handshaken(&guests[at]));
        let mut order = Vec::new();
        while lobby.send_away() {
            order
                .extend((0..6).filter(|at| is_away(&guests[*at]) && !order.contains(at)).collect::<Vec<_>>());
        }
        assert_eq!(order, [1, 3, 5, 4, 2, 0]);
    }

    #[test]
    fn too_many_handshakes_send_away_the_longest_of_them() {
        let lobby = Lobby::default();
        let [_connected, first, second, silent] = [0; 4].map(|_| lobby.enter());
        [&silent, &first, &second].into_iter().for_each(|guest| lobby.handshakes(guest));
        lobby.handshaken(&silent);
        assert!(lobby.send_away_handshaking() && is_away(&first) && !is_away(&second));
        assert!(lobby.send_away_handshaking() && !lobby.send_away_handshaking());
    }

    #[test]
    fn who_has_sent_a_request_or_is_gone_is_not_sent_away() {
        let lobby = Lobby::default();
        let (busy, gone, late) = (lobby.enter(), lobby.enter(), lobby.enter());
        lobby.handshakes(&busy);
        lobby.handshaken(&busy);
        assert!(lobby.asks(&busy));
        drop(gone);
        assert!(lobby.send_away() && is_away(&late) && !lobby.send_away());
        lobby.handshakes(&late);
        lobby.handshaken(&late);
        assert!(!lobby.asks(&late), "too late");
    }

    #[test]
    fn who_rests_between_requests_goes_last_and_who_is_in_one_never() {
        let lobby = Lobby::default();
        let [first, second, silent] = [0; 3].map(|_| lobby.enter());
        for guest in [&first, &second, &silent] {
            lobby.handshakes(guest);
            lobby.handshaken(guest);
        }
        assert!(lobby.asks(&first) && lobby.asks(&second));
        first.rests();
        assert!(lobby.asks(&first));
        second.rests();
        assert!(lobby.send_away() && is_away(&silent));
        assert!(lobby.send_away() && is_away(&second) && !is_away(&first));
        assert!(!lobby.send_away() && !lobby.asks(&second));
        first.rests();
        assert!(lobby.send_away() && is_away(&first), "it kept its place in the queue");
    }

    #[test]
    fn it_grows_with_those_who_are_in_it_and_not_with_those_who_were() {
        let lobby = Lobby::default();
        let stay = [0; 100].map(|_| lobby.enter());
        for _ in 0..100_000 {
            let guest = lobby.enter();
            lobby.handshakes(&guest);
            lobby.handshaken(&guest);
            assert!(lobby.asks(&guest));
        }
        let queues = lobby.0.lock().unwrap();
        assert!(
            queues.iter().all(|queue| queue.seats.len() <= 300),
            "{:?}",
            queues.each_ref().map(|q| q.seats.len())
        );
        drop(queues);
        assert_eq!((0..).take_while(|_| lobby.send_away()).count(), stay.len());
    }
}
