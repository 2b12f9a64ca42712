//! Who has a place in the house and has done nothing for it yet: is in the handshake, or has sent no request.
//!
//! A full house sends the one away that has been longest in its handshake, then the one that has been silent longest since:
//! a player is through within a second, a flood of silent connections only meets itself. Whoever has sent a request is out
//! of here, and an open WebSocket more than that.
//!
//! A mutex, taken when a connection comes, when its handshake is done, and by a full house.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Stages of a [`Guest`], the first two in the order in which they are sent away.
const HANDSHAKING: u8 = 0;
const SILENT: u8 = 1;
const SENT_AWAY: u8 = 2;
const OUT: u8 = 3;

/// Rows of a queue before those that are out are looked for.
const SWEEP_MIN: usize = 64;

/// All guests.
#[derive(Debug, Default)]
pub(crate) struct Lobby(Mutex<[Queue; 2]>);

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
    /// A connection that begins its handshake.
    pub(crate) fn enter(&self) -> Guest {
        let seat = Arc::new(Seat { stage: AtomicU8::new(HANDSHAKING), waker: Mutex::default() });
        self.push(HANDSHAKING, &seat);
        Guest(seat)
    }

    /// The handshake of `guest` is done.
    pub(crate) fn handshaken(&self, guest: &Guest) {
        if guest.0.moves(HANDSHAKING, SILENT) {
            self.push(SILENT, &guest.0);
        }
    }

    /// Sends one away; `false`: there is none.
    pub(crate) fn send_away(&self) -> bool {
        let mut queues = lock(&self.0);
        for (stage, queue) in (HANDSHAKING..).zip(&mut *queues) {
            while let Some(seat) = queue.seats.pop_front() {
                if seat.moves(stage, SENT_AWAY) {
                    lock(&seat.waker).take().into_iter().for_each(Waker::wake);
                    return true;
                }
            }
        }
        false
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

    /// It has sent a request; `false`: too late, it has been sent away.
    pub(crate) fn stays(self) -> bool {
        self.0.moves(SILENT, OUT)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.stage.store(OUT, SeqCst);
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
    fn the_longest_in_its_handshake_goes_first_then_the_longest_silent() {
        let lobby = Lobby::default();
        let guests = [0; 5].map(|_| lobby.enter());
        lobby.handshaken(&guests[2]);
        lobby.handshaken(&guests[0]);
        let mut order = Vec::new();
        while lobby.send_away() {
            order
                .extend((0..5).filter(|at| is_away(&guests[*at]) && !order.contains(at)).collect::<Vec<_>>());
        }
        assert_eq!(order, [1, 3, 4, 2, 0]);
    }

    #[test]
    fn who_has_sent_a_request_or_is_gone_is_not_sent_away() {
        let lobby = Lobby::default();
        let (busy, gone, late) = (lobby.enter(), lobby.enter(), lobby.enter());
        lobby.handshaken(&busy);
        assert!(busy.stays());
        drop(gone);
        assert!(lobby.send_away() && is_away(&late) && !lobby.send_away());
        lobby.handshaken(&late);
        assert!(!late.stays(), "too late");
    }

    #[test]
    fn it_grows_with_those_who_are_in_it_and_not_with_those_who_were() {
        let lobby = Lobby::default();
        let stay = [0; 100].map(|_| lobby.enter());
        for _ in 0..100_000 {
            let guest = lobby.enter();
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
