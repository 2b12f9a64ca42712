//! A simulated link for tests of machines: virtual time, a delay each way, what the kernel holds for a peer that does not
//! read, and an end that can be cut at any byte. The fuzz target of sessions uses it too.

#![allow(clippy::indexing_slicing, clippy::unwrap_used)] // no bytes from outside pass here but in tests

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use crate::edge::net::transport::{ClientTransport, Transport};

/// What a peer does at some moment, as the edge sees it.
#[derive(Clone, Debug)]
enum Arrival {
    Bytes(Vec<u8>),
    /// close_notify: nothing more is said, and there may be an answer.
    Goodbye,
    Fin,
    Reset,
}

/// Both ends of a link share it.
struct State {
    now: Instant,
    delay: Duration,
    /// On their way to the edge, in order.
    arriving: VecDeque<(Instant, Arrival)>,
    /// Most bytes that one read gives.
    read_bytes_max: usize,
    /// Most bytes that the kernel holds for the peer.
    window: usize,
    /// What the kernel took, with the moment at which it is with the peer.
    leaving: VecDeque<(Instant, Vec<u8>)>,
    /// Not read by the peer yet, of what has left.
    unread: usize,
    /// Taken by the edge's end and not by the kernel.
    unsent: Vec<u8>,
    unsent_max: usize,
    shut: bool,
    goodbye: bool,
    reset: bool,
    reads: bool,
}

/// The peer's end: says and takes bytes.
pub(crate) struct Peer(Rc<RefCell<State>>);

/// The edge's end.
pub(crate) struct End(Rc<RefCell<State>>);

/// When virtual time begins: an `Instant` has no zero.
pub(crate) fn epoch() -> Instant {
    Instant::now()
}

/// A link whose peer reads everything at once until it is told otherwise.
pub(crate) fn link(now: Instant, delay: Duration) -> (Peer, End) {
    let state = State {
        now,
        delay,
        arriving: VecDeque::new(),
        read_bytes_max: usize::MAX,
        window: 64 * 1024,
        leaving: VecDeque::new(),
        unread: 0,
        unsent: Vec::new(),
        unsent_max: 16 * 1024,
        shut: false,
        goodbye: false,
        reset: false,
        reads: true,
    };
    let state = Rc::new(RefCell::new(state));
    (Peer(Rc::clone(&state)), End(state))
}

impl State {
    fn arrive(&mut self, arrival: Arrival) {
        let at = self.now + self.delay;
        self.arriving.push_back((at, arrival));
    }

    /// Gives the kernel what it has room for.
    fn send(&mut self) {
        if self.reads {
            self.unread = 0;
        }
        let room = self.window.saturating_sub(self.unread).min(self.unsent.len());
        if room > 0 {
            let sent = self.unsent.drain(..room).collect();
            self.unread += room;
            self.leaving.push_back((self.now + self.delay, sent));
        }
    }
}

impl Peer {
    pub(crate) fn say(&self, bytes: &[u8]) {
        self.0.borrow_mut().arrive(Arrival::Bytes(bytes.to_vec()));
    }

    /// Ends what it says with close_notify, and may read on.
    pub(crate) fn goodbye(&self) {
        self.0.borrow_mut().arrive(Arrival::Goodbye);
    }

    pub(crate) fn fin(&self) {
        self.0.borrow_mut().arrive(Arrival::Fin);
    }

    /// The connection is lost.
    pub(crate) fn reset(&self) {
        self.0.borrow_mut().arrive(Arrival::Reset);
    }

    /// Each read of the edge gives at most so many bytes.
    pub(crate) fn cut_reads(&self, bytes: usize) {
        self.0.borrow_mut().read_bytes_max = bytes;
    }

    /// Stops or begins to read.
    pub(crate) fn reads(&self, reads: bool) {
        self.0.borrow_mut().reads = reads;
    }

    /// Reads `bytes` of what waits.
    #[cfg(test)]
    pub(crate) fn take(&self, bytes: usize) {
        let mut state = self.0.borrow_mut();
        state.unread = state.unread.saturating_sub(bytes);
    }

    /// What has arrived at the peer since the last call.
    pub(crate) fn got(&self) -> Vec<u8> {
        let mut state = self.0.borrow_mut();
        let mut got = Vec::new();
        while state.leaving.front().is_some_and(|(at, _)| *at <= state.now) {
            got.extend(state.leaving.pop_front().unwrap().1);
        }
        got
    }

    /// The edge has said that nothing more comes.
    #[cfg(test)]
    pub(crate) fn is_shut(&self) -> bool {
        self.0.borrow().shut
    }

    pub(crate) fn set_now(&self, now: Instant) {
        let mut state = self.0.borrow_mut();
        state.now = now;
        state.send();
    }

    /// Bytes that the edge has not read.
    pub(crate) fn on_the_way(&self) -> usize {
        let bytes = |(_, arrival): &(Instant, Arrival)| match arrival {
            Arrival::Bytes(bytes) => bytes.len(),
            _ => 0,
        };
        self.0.borrow().arriving.iter().map(bytes).sum()
    }

    /// When something arrives at the edge.
    pub(crate) fn next(&self) -> Option<Instant> {
        let state = self.0.borrow();
        state.arriving.front().map(|(at, _)| (*at).max(state.now))
    }
}

impl Transport for End {
    fn try_read(&mut self, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut state = self.0.borrow_mut();
        let (now, most) = (state.now, state.read_bytes_max);
        if state.reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if state.goodbye {
            return Poll::Ready(Ok(0));
        }
        let Some((at, arrival)) = state.arriving.front_mut() else { return Poll::Pending };
        if *at > now {
            return Poll::Pending;
        }
        match arrival {
            Arrival::Bytes(bytes) => {
                let count = bytes.len().min(buffer.len()).min(most);
                buffer[..count].copy_from_slice(&bytes[..count]);
                bytes.drain(..count);
                if bytes.is_empty() {
                    state.arriving.pop_front();
                }
                Poll::Ready(Ok(count))
            }
            Arrival::Goodbye => {
                state.arriving.pop_front();
                state.goodbye = true;
                Poll::Ready(Ok(0))
            }
            Arrival::Fin => Poll::Ready(Ok(0)),
            Arrival::Reset => {
                state.reset = true;
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
        }
    }

    fn try_write(&mut self, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.0.borrow_mut();
        if state.reset || state.shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        state.send();
        let room = state.unsent_max.saturating_sub(state.unsent.len()).min(bytes.len());
        if room == 0 && !bytes.is_empty() {
            return Poll::Pending;
        }
        state.unsent.extend_from_slice(&bytes[..room]);
        state.send();
        Poll::Ready(Ok(room))
    }

    fn try_flush(&mut self) -> Poll<io::Result<()>> {
        let mut state = self.0.borrow_mut();
        state.send();
        match state.unsent.is_empty() {
            _ if state.reset => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }

    fn try_shutdown(&mut self) -> Poll<io::Result<()>> {
        let flushed = self.try_flush();
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.0.borrow_mut().shut = true;
        }
        flushed
    }
}

impl ClientTransport for End {
    fn unsent_bytes(&self) -> usize {
        self.0.borrow().unsent.len()
    }

    fn nudge(&mut self) {
        self.0.borrow_mut().send();
    }

    fn has_sent_all(&self) -> bool {
        let state = self.0.borrow();
        state.unsent.is_empty() && state.unread == 0
    }

    fn said_goodbye(&self) -> bool {
        self.0.borrow().goodbye
    }

    fn try_gone(&mut self) -> Poll<()> {
        let state = self.0.borrow();
        let came = state.arriving.front().is_some_and(|(at, _)| *at <= state.now);
        if came || state.reset { Poll::Ready(()) } else { Poll::Pending }
    }
}
