//! The two-way relay after a 101. Bytes pass untouched, masks included; a side that does not take its bytes stops
//! the other side's reading. An idle relay owns no buffer: reads go through the worker's scratch.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::accept::{Permit, Worker};
use super::tls::Client;
use super::upstream::Io;

/// How long the second direction may stand still after the first has ended.
const LINGER: Duration = Duration::from_secs(5);

/// Bytes that a side has not taken yet. Owns memory only while there are any.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    bytes: Vec<u8>,
    taken: usize,
}

impl Pending {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Moves as much as fits to the front of `buffer`; how much.
    pub(crate) fn take(&mut self, buffer: &mut [u8]) -> usize {
        let rest = self.bytes.get(self.taken..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(room), Some(front)) = (buffer.get_mut(..count), rest.get(..count)) {
            room.copy_from_slice(front);
        }
        self.taken += count;
        if self.taken == self.bytes.len() {
            *self = Self::default();
        }
        count
    }

    /// Writes what there is; ready when nothing is left. `true`: something was written.
    pub(crate) fn poll_drain(
        &mut self,
        mut write: impl FnMut(&[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<bool>> {
        let mut moved = false;
        while let Some(rest) = self.bytes.get(self.taken..).filter(|rest| !rest.is_empty()) {
            let written = ready!(write(rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.taken += written;
            moved = true;
        }
        *self = Self::default();
        Poll::Ready(Ok(moved))
    }
}

impl From<&[u8]> for Pending {
    fn from(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), taken: 0 }
    }
}

/// One direction of a relay.
#[derive(Debug, Default)]
struct Direction {
    pending: Pending,
    /// The source has ended.
    ended: bool,
    /// The sink knows.
    closed: bool,
    /// The sink takes nothing more. What the source still says is dropped, so that the other direction can end well.
    broken: bool,
}

impl Direction {
    fn note(&mut self, written: io::Result<()>) {
        if written.is_err() {
            *self = Self { broken: true, pending: Pending::default(), ..*self };
        }
    }
}

/// What a 101 leaves behind: two streams, and the bytes that either side already sent behind its head.
pub(crate) struct Relay {
    client: Client,
    upstream: Io,
    up: Direction,
    down: Direction,
}

impl Relay {
    /// `up` are the client's bytes behind its request head, `down` what the client has not taken yet.
    pub(crate) fn new(client: Client, upstream: Io, up: Pending, down: Pending) -> Self {
        let direction = |pending| Direction { pending, ..Direction::default() };
        Self { client, upstream, up: direction(up), down: direction(down) }
    }

    /// Relays until both sides have ended, one has failed, or nothing has moved for `idle_timeout`.
    pub(crate) async fn run(mut self, worker: Rc<Worker>, _permit: Permit, idle_timeout: Option<Duration>) {
        let _open = worker.websocket();
        let mut timer = Timer::new(idle_timeout);
        poll_fn(|cx| {
            let mut moved = false;
            match self.poll(cx, &mut worker.scratch.borrow_mut(), &mut moved) {
                Poll::Ready(_) => Poll::Ready(()),
                Poll::Pending => {
                    // What is only dropped keeps nothing alive.
                    let counts = moved && !(self.up.broken && self.down.ended);
                    timer.poll(cx, counts, self.up.ended || self.down.ended)
                }
            }
        })
        .await;
    }

    fn poll(&mut self, cx: &mut Context<'_>, scratch: &mut [u8], moved: &mut bool) -> Poll<io::Result<()>> {
        loop {
            let up = self.poll_up(cx, scratch)?;
            let down = self.poll_down(cx, scratch)?;
            if self.up.closed && self.down.closed {
                return Poll::Ready(Ok(()));
            }
            if up.is_pending() && down.is_pending() {
                return Poll::Pending;
            }
            *moved = true;
        }
    }

    fn poll_up(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<io::Result<()>> {
        let drained = ready!(self.up.pending.poll_drain(|bytes| self.upstream.poll_write(cx, bytes)));
        self.up.note(drained.map(drop));
        if self.up.ended {
            return close(&mut self.up, || self.upstream.poll_shutdown(cx));
        }
        let count = ready!(self.client.poll_read(cx, scratch))?;
        let read = scratch.get(..count).unwrap_or_default();
        if read.is_empty() {
            self.up.ended = true;
            return Poll::Ready(Ok(()));
        }
        if !self.up.broken {
            let sent =
                ready!(forward(&mut self.up.pending, read, |bytes| self.upstream.poll_write(cx, bytes)));
            self.up.note(sent);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_down(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<io::Result<()>> {
        ready!(self.down.pending.poll_drain(|bytes| self.client.poll_write(cx, bytes)))?;
        ready!(self.client.poll_flush(cx))?;
        if self.down.ended {
            return close(&mut self.down, || self.client.poll_shutdown(cx));
        }
        // A reset is an end like another: what came before it is the client's.
        let count = ready!(self.upstream.poll_read(cx, scratch)).unwrap_or(0);
        let read = scratch.get(..count).unwrap_or_default();
        if read.is_empty() {
            self.down.ended = true;
            return Poll::Ready(Ok(()));
        }
        forward(&mut self.down.pending, read, |bytes| self.client.poll_write(cx, bytes))
    }
}

/// Writes `bytes` as far as the sink takes them at once and keeps the rest, behind what is pending already.
pub(crate) fn forward(
    pending: &mut Pending,
    bytes: &[u8],
    write: impl FnOnce(&[u8]) -> Poll<io::Result<usize>>,
) -> Poll<io::Result<()>> {
    let written = match pending.is_empty().then(|| write(bytes)) {
        Some(Poll::Ready(written)) => written?,
        Some(Poll::Pending) | None => 0,
    };
    pending.push(bytes.get(written..).unwrap_or_default());
    Poll::Ready(Ok(()))
}

fn close(direction: &mut Direction, shutdown: impl FnOnce() -> Poll<io::Result<()>>) -> Poll<io::Result<()>> {
    if !direction.closed {
        // An error says that the sink is gone, and knows.
        let _ = ready!(shutdown());
        direction.closed = true;
        return Poll::Ready(Ok(()));
    }
    Poll::Pending
}

/// Ends a relay whose one side is gone, or that has been idle for too long. Costs nothing where neither applies.
struct Timer {
    idle_timeout: Option<Duration>,
    due: Option<Instant>,
    ending: bool,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    fn new(idle_timeout: Option<Duration>) -> Self {
        Self { idle_timeout, due: None, ending: false, sleep: None }
    }

    /// Ready when the relay's time is over. `moved`: bytes moved since the last call; `ending`: one side has ended.
    fn poll(&mut self, cx: &mut Context<'_>, moved: bool, ending: bool) -> Poll<()> {
        let ends_now = ending && !std::mem::replace(&mut self.ending, ending);
        if ends_now {
            self.sleep = None;
        }
        if ends_now || moved || self.due.is_none() {
            let timeout = if ending { Some(LINGER) } else { self.idle_timeout };
            self.due = timeout.map(|timeout| Instant::now() + timeout);
        }
        let Some(due) = self.due else { return Poll::Pending };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
        while sleep.as_mut().poll(cx).is_ready() {
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            // Bytes moved since it was set: resetting it then, for every message, would cost more than this.
            sleep.as_mut().reset(due);
        }
        Poll::Pending
    }
}
