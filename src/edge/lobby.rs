//! Who has a place in the house and has done nothing for it yet: has said no hello, is in its handshake, or has sent no
//! request since.
//!
//! A full house sends away one of the first that there are of these, the longest there first: a player is through within a
//! second, a flood of silent connections only meets itself. Where only handshakes are too many, the longest of those goes.
//! Whoever has sent a request is out of here, and an open WebSocket more than that.
//!
//! A mutex, taken when a connection comes, with its hello, when its handshake is done, and by a full house.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Stages of a [`Guest`], the first three in the order in which they are sent away.
const CONNECTED: u8 = 0;
const HANDSHAKING: u8 = 1;
const SILENT: u8 = 2;
const SENT_AWAY: u8 = 3;
const OUT: u8 = 4;

/// Rows of a queue before those that are out are looked for.
const SWEEP_MIN: usize = 64;

/// All guests.
#[derive(Debug, Default)]
pub(crate) struct Lobby(Mutex<[Queue; 3]>);

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
            queue.seats.retain(|seat| seat.stage.load(SeqCst) == stage);
            queue.sweep_at = 2 * queue.seats.len();
        }
        queue.seats.push_back(Arc::clone(seat));
    }
}

impl Queue {
    fn send_away(&mut self, stage: u8) -> bool {
        while let Some(seat) = self.seats.pop_front() {
            if seat.moves(stage, SENT_AWAY) {
                lock(&seat.waker).take().into_iter().for_each(Waker::wake);
                return true;
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

    /// It has sent a request, or ends by itself; `false`: too late, it has been sent away.
    pub(crate) fn stays(self) -> bool {
        self.0.moves(SILENT, OUT)
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
        assert!(busy.stays());
        drop(gone);
        assert!(lobby.send_away() && is_away(&late) && !lobby.send_away());
        lobby.handshakes(&late);
        lobby.handshaken(&late);
        assert!(!late.stays(), "too late");
    }

    #[test]
    fn it_grows_with_those_who_are_in_it_and_not_with_those_who_were() {
        let lobby = Lobby::default();
        let stay = [0; 100].map(|_| lobby.enter());
        for _ in 0..100_000 {
            let guest = lobby.enter();
            lobby.handshakes(&guest);
            lobby.handshaken(&guest);
            assert!(guest.stays());
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
