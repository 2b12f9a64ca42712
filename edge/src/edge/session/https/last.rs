//! What the edge sends by itself on a client's connection: an answer of its own, and the end. Two machines.

use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use crate::edge::net::transport::Transport;
use crate::edge::session::machine::Step;

/// After the last response bytes of the client are thrown away, so that a reset does not overtake the response on its way (RFC 9112
/// §9.6): how long the first may take, how long after each the next, and all together.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BETWEEN: Duration = Duration::from_secs(5);
const LINGER_MAX: Duration = Duration::from_secs(30);

/// An answer on its way.
pub(crate) struct Answering<'b> {
    rest: &'b [u8],
    due: Instant,
}

impl<'b> Answering<'b> {
    /// The client gets `time` for all of it.
    pub(crate) fn new(now: Instant, bytes: &'b [u8], time: Duration) -> Self {
        Self { rest: bytes, due: now + time }
    }

    /// Over once the kernel has all of it (`true`), or the client does not take it.
    pub(crate) fn step(&mut self, now: Instant, client: &mut impl Transport) -> Step<bool> {
        while !self.rest.is_empty() {
            match client.try_write(self.rest) {
                Poll::Ready(Ok(count)) => self.rest = self.rest.get(count..).unwrap_or_default(),
                Poll::Ready(Err(_)) => return Step::Over(false),
                Poll::Pending => return self.wait(now),
            }
        }
        match client.try_flush() {
            Poll::Ready(flushed) => Step::Over(flushed.is_ok()),
            Poll::Pending => self.wait(now),
        }
    }

    fn wait(&self, now: Instant) -> Step<bool> {
        if self.due > now { Step::Wait(Some(self.due), false) } else { Step::Over(false) }
    }
}

/// The end of a connection, of which the peer is to get everything: close_notify and FIN, then its bytes are thrown away for a
/// while.
pub(crate) struct Closing {
    shut: bool,
    due: Instant,
    last: Instant,
}

impl Closing {
    pub(crate) fn new(now: Instant) -> Self {
        Self { shut: false, due: now + LINGER, last: now + LINGER_MAX }
    }

    /// Over once the peer is gone, or has had its time.
    pub(crate) fn step(&mut self, now: Instant, client: &mut impl Transport, scratch: &mut [u8]) -> Step<()> {
        if self.due <= now {
            return Step::Over(());
        }
        if !self.shut {
            match client.try_shutdown() {
                Poll::Ready(Ok(())) => self.shut = true,
                Poll::Ready(Err(_)) => return Step::Over(()),
                Poll::Pending => return Step::Wait(Some(self.due), false),
            }
        }
        loop {
            match client.try_read(scratch) {
                Poll::Ready(Ok(1..)) => self.due = self.last.min(now + LINGER_BETWEEN),
                Poll::Ready(_) => return Step::Over(()),
                Poll::Pending => return Step::Wait(Some(self.due), false),
            }
        }
    }
}
