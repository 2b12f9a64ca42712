//! The request's half of an exchange: its head and body to the upstream, and then a look for a client that goes away.

use std::io::IoSlice;
use std::task::{Poll, ready};

use super::machine::{At, Exchange};
use super::state::{Down, Fault, Request, Sending, Up, reframe};
use crate::edge::net::send_buffer::forward;
use crate::edge::net::transport::{ClientTransport, Transport};
use crate::edge::session::machine::Surroundings;
use crate::http::answer::Problem;
use crate::http::body::Framing;

/// Slices of one vectored write: a head has far fewer pieces.
const SLICES_MAX: usize = 64;

/// What a step of the request's half moved.
enum Moved {
    /// Bytes of the client's body.
    Body(usize),
    /// What the upstream had to take first.
    Other,
}

/// Why one step of sending went no further.
enum Stop {
    /// The upstream takes nothing more.
    Upstream,
    /// The client sends nothing more.
    Client,
    Fault(Fault),
}

impl Exchange<'_> {
    /// Moves the request on by one step.
    pub(super) fn step_up<C: ClientTransport, U: Transport, W: Surroundings>(
        &mut self,
        at: &mut At<'_, C, U, W>,
        scratch: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Poll<Result<(), Fault>> {
        if self.up.sending != Sending::Open {
            return self.watch(at);
        }
        let moved = match ready!(self.send(at, scratch, out)) {
            Err(Stop::Fault(fault)) => return Poll::Ready(Err(fault)),
            Err(Stop::Client) => {
                self.up.sending = Sending::Left;
                return Poll::Ready(Ok(()));
            }
            Err(Stop::Upstream) => {
                self.up.sending = Sending::Broken;
                Moved::Other
            }
            Ok(moved) => {
                // Known at once and not with the next step: the response may be read before that.
                if self.up.is_sent(self.plan.len()) {
                    self.up.sending = Sending::Done;
                }
                moved
            }
        };
        let pace = &self.request.limits.pace;
        self.up.moved = at.now;
        self.up.due = match moved {
            Moved::Body(bytes) if self.up.pending.is_empty() => {
                pace.extended(self.up.due, bytes, self.up.moved)
            }
            _ => self.up.moved + pace.stall,
        };
        Poll::Ready(Ok(()))
    }

    fn send<C: ClientTransport, U: Transport, W: Surroundings>(
        &mut self,
        at: &mut At<'_, C, U, W>,
        scratch: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Poll<Result<Moved, Stop>> {
        if self.up.head_written < self.plan.len() {
            return self.send_head(at).map_ok(|()| Moved::Other);
        }
        let was_waited_for = ready!(self.up.pending.poll_drain(|bytes| at.upstream.try_write(bytes)))
            .map_err(|_| Stop::Upstream)?;
        // The client could not send on while the upstream took nothing.
        let moved = |bytes| if was_waited_for { Moved::Other } else { Moved::Body(bytes) };
        if self.up.body.is_done() {
            if !self.up.ended {
                self.up.ended = true;
                self.up.body.last_chunk().iter().for_each(|piece| self.up.pending.push(piece));
            }
            return Poll::Ready(Ok(Moved::Other));
        }
        if !self.input.rest().is_empty() {
            let used = self.up.send(at.upstream, self.request, self.input.rest(), out)?;
            self.input.consume(used);
            return Poll::Ready(Ok(moved(used)));
        }
        // The head is sent and a request with a body is never repeated: the buffer can go.
        self.input.compact(at.world);
        // Never past the end of a body whose end is known; else no more than the input can hold behind it.
        let head_bytes_max = self.request.limits.head.head_bytes_max;
        let room = match self.request.framing {
            Framing::Length(length) => usize::try_from(length - self.up.body_bytes).unwrap_or(usize::MAX),
            _ => head_bytes_max,
        };
        let room = room.min(scratch.len());
        let read = ready!(at.client.try_read(scratch.get_mut(..room).unwrap_or_default()));
        let read = match read {
            Ok(0) | Err(_) => return Poll::Ready(Err(Stop::Client)),
            Ok(count) => scratch.get(..count).unwrap_or_default(),
        };
        at.world.flows().0.add(0, read.len());
        let used = self.up.send(at.upstream, self.request, read, out)?;
        // What follows the body is the next request's head.
        self.input.push(at.world, read.get(used..).unwrap_or_default(), head_bytes_max);
        Poll::Ready(Ok(moved(used)))
    }

    /// Sends the head, and in the same write the beginning of a body that is already here.
    fn send_head<C, U: Transport, W>(&mut self, at: &mut At<'_, C, U, W>) -> Poll<Result<(), Stop>> {
        let (plan, input) = (self.plan, &*self.input);
        let head_left = plan.len() - self.up.head_written;
        let mut slices = heapless::Vec::<IoSlice<'_>, SLICES_MAX>::new();
        plan.slices(input.all(), self.up.head_written, &mut slices);
        let mut first = None;
        let whole = slices.iter().map(|slice| slice.len()).sum::<usize>() == head_left;
        if whole && matches!(self.request.framing, Framing::Length(_)) {
            let mut body = self.up.body.clone();
            let step = body.step(input.rest()).map_err(|error| malformed(&error))?;
            let data = input.rest().get(step.data).unwrap_or_default();
            if slices.push(IoSlice::new(data)).is_ok() {
                first = Some((step.consumed, data, body));
            }
        }
        let written = ready!(at.upstream.try_write_vectored(&slices)).map_err(|_| Stop::Upstream)?;
        self.up.head_written += written.min(head_left);
        if let (Some((consumed, data, body)), true) = (first, written >= head_left) {
            self.up.pending.push(data.get(written - head_left..).unwrap_or_default());
            self.up.body = body;
            self.up.body_bytes += data.len() as u64;
            drop(slices);
            self.input.consume(consumed);
        }
        Poll::Ready(Ok(()))
    }

    /// The request is with the upstream: notices a client that goes away, and holds the start of its next request.
    fn watch<C: ClientTransport, U, W: Surroundings>(
        &mut self,
        at: &mut At<'_, C, U, W>,
    ) -> Poll<Result<(), Fault>> {
        if !self.head_is_needed() && self.input.rest().is_empty() {
            self.input.compact(at.world);
        }
        if at.client.said_goodbye() {
            return at.client.try_gone().map(|()| Err(Fault::Broken));
        }
        let bytes_max = self.request.limits.head.head_bytes_max;
        match ready!(self.input.fill(at.client, at.world, bytes_max)) {
            // RFC 8446 §6.1: it has closed its own direction, and may wait for the response.
            Ok(0) if at.client.said_goodbye() => Poll::Ready(Ok(())),
            Ok(0) | Err(_) => Poll::Ready(Err(Fault::Broken)),
            Ok(_) => Poll::Ready(Ok(())),
        }
    }

    /// The head may be sent again, or the upstream's 101 will be held against it.
    fn head_is_needed(&self) -> bool {
        let waiting = matches!(self.down, Down::Head { .. });
        waiting && (self.request.offer.is_some() || self.may_repeat())
    }
}

impl Up {
    /// Whether the upstream's kernel has the whole request.
    fn is_sent(&self, head_bytes: usize) -> bool {
        self.head_written == head_bytes && self.body.is_done() && self.ended && self.pending.is_empty()
    }

    /// Sends what `bytes` hold of the body; returns how many of them belong to it.
    fn send(
        &mut self,
        upstream: &mut impl Transport,
        request: &Request,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<usize, Stop> {
        let (used, data) = if request.framing == Framing::Chunked {
            out.clear();
            let (used, data_bytes) =
                reframe(&mut self.body, true, bytes, out).map_err(|error| malformed(&error))?;
            self.body_bytes += data_bytes as u64;
            (used, out.as_slice())
        } else {
            let step = self.body.step(bytes).map_err(|error| malformed(&error))?;
            self.body_bytes += step.data.len() as u64;
            (step.consumed, bytes.get(step.data).unwrap_or_default())
        };
        if request.route.rules.body_bytes_max.is_some_and(|limit| self.body_bytes > limit) {
            return Err(Stop::Fault(Fault::Failed(
                Problem::BodyTooLarge,
                "body_bytes_max is reached".to_owned(),
            )));
        }
        match forward(&mut self.pending, data, |bytes| upstream.try_write(bytes)) {
            Poll::Ready(Err(_)) => Err(Stop::Upstream),
            _ => Ok(used),
        }
    }
}

fn malformed(error: &dyn std::fmt::Display) -> Stop {
    Stop::Fault(Fault::Failed(Problem::BadRequest, error.to_string()))
}
