//! What drives the machines of a session: its task, its clock and its one timer.

use std::borrow::BorrowMut;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use tokio::task::yield_now;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::edge::session::machine::Step;

/// The time of a step. It is read when it is first asked for: a relay without timers never does, and that is 2 % of an echo.
pub(crate) struct Now {
    time: Cell<Option<Instant>>,
}

impl Now {
    fn unread() -> Self {
        Self { time: Cell::new(None) }
    }

    #[inline]
    pub(crate) fn get(&self) -> Instant {
        let time = self.time.get().unwrap_or_else(Instant::now);
        self.time.set(Some(time));
        time
    }
}

impl From<Instant> for Now {
    fn from(time: Instant) -> Self {
        Self { time: Cell::new(Some(time)) }
    }
}

/// Steps a machine until it is over. Between two steps it waits for what wakes the task, or for `alarm`.
pub(crate) fn drive<T>(
    mut alarm: impl BorrowMut<Alarm>,
    mut step: impl FnMut(&Now, &Waker) -> Step<T>,
) -> impl Future<Output = T> {
    poll_fn(move |cx| {
        loop {
            let (deadline, more) = match step(&Now::unread(), cx.waker()) {
                Step::Over(end) => return Poll::Ready(end),
                Step::Wait(deadline, more) => (deadline, more),
            };
            if more {
                later(cx);
            }
            let alarm: &mut Alarm = alarm.borrow_mut();
            ready!(deadline.map_or(Poll::Pending, |deadline| alarm.poll(cx, deadline)));
        }
    })
}

/// Wakes the task once the worker has asked the kernel for the others' news and let them go first. A bare wake would run
/// this session again before that, dozens of times.
fn later(cx: &mut Context<'_>) {
    let _: Poll<()> = pin!(yield_now()).poll(cx);
}

/// Wakes its task when something is due. What is due moves on with every message and the timer does not: it is set anew
/// only when it would fire too late or has fired too early, since that costs more than waking for nothing now and then.
#[derive(Default)]
pub(crate) struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// Ready once it is `due`.
    fn poll(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if due < sleep.deadline() {
            sleep.as_mut().reset(due);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn rings_when_due_whatever_it_was_set_for_before() {
        let (start, mut alarm) = (Instant::now(), Alarm::default());
        let at = |ms| start + Duration::from_millis(ms);
        // Later than before: it is woken at 10 for nothing. Earlier than before: it is set anew.
        for (asked_first, due) in [(10, 30), (3_600_000, 60)] {
            let first = poll_fn(|cx| Poll::Ready(alarm.poll(cx, at(asked_first)))).await;
            assert!(first.is_pending());
            poll_fn(|cx| alarm.poll(cx, at(due))).await;
            assert!(Instant::now() >= at(due), "{due}");
        }
        assert!(start.elapsed() < Duration::from_secs(3_600));
        poll_fn(|cx| alarm.poll(cx, start)).await; // past: at once
    }
}
