//! The response's half of an exchange: interim heads, the final one, and the body in the framing that the client gets.

use std::io;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use super::machine::{At, Exchange};
use super::state::{Down, Fault, Sending, each_run, reframe};
use crate::edge::net::send_buffer::forward;
use crate::edge::net::transport::{ClientTransport, Transport};
use crate::edge::session::machine::Surroundings;
use crate::edge::session::pace::Backlog;
use crate::http::answer::Problem;
use crate::http::body::{BodyReader, Framing};
use crate::http::bound_auth;
use crate::http::forward::{ResponseForm, response_head};
use crate::http::head::{
    HeadError, HeadScanner, ResponseHead, ResponseLines, Version, parse_request, parse_scanned_response,
};
use crate::ws::handshake;

/// Interim responses (1xx) that an upstream may send before its final one.
const INTERIM_MAX: u8 = 8;

/// How a TLS server begins its answer to plain HTTP: a record of type alert, of any version (RFC 8446 §5.1). No status line
/// begins so.
const TLS_ALERT: [u8; 2] = [0x15, 0x03];

impl Exchange<'_> {
    /// Moves the response on by one step; `Err` is its end.
    pub(super) fn step_down<C: ClientTransport, U: Transport, W: Surroundings>(
        &mut self,
        at: &mut At<'_, C, U, W>,
        scratch: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Poll<Result<(), Fault>> {
        ready!(self.deliver_rest(at)).map_err(|_| Fault::Broken)?;
        if matches!(self.down, Down::Whole | Down::Sent) {
            self.down = Down::Sent;
            return Poll::Pending;
        }
        let read = match ready!(at.upstream.try_read(scratch)) {
            Ok(0) => return Poll::Ready(self.upstream_ended(at, None)),
            Err(error) => return Poll::Ready(self.upstream_ended(at, Some(error))),
            Ok(count) => scratch.get(..count).unwrap_or_default(),
        };
        self.down_moved = at.now;
        let result = match &mut self.down {
            Down::Head { held, .. } if held.is_empty() => self.head_arrived(at, read, out),
            Down::Head { held, .. } => {
                let mut bytes = std::mem::take(held);
                bytes.extend_from_slice(read);
                self.head_arrived(at, &bytes, out)
            }
            _ => self.body_arrived(at, read, out),
        };
        Poll::Ready(result)
    }

    /// Brings what waits to the client; ready when the kernel has all of it.
    fn deliver_rest<C: ClientTransport, U, W>(&mut self, at: &mut At<'_, C, U, W>) -> Poll<io::Result<()>> {
        let pace = &self.request.limits.pace;
        let delivered = match self.unsent.poll_drain(|bytes| at.client.try_write(bytes)) {
            Poll::Ready(Ok(moved)) => at.client.try_flush().map_ok(|()| moved),
            drained => drained,
        };
        if delivered.is_pending() {
            if !self.is_waited_for() {
                let bytes = self.waiting_bytes(at.client);
                Backlog::begin(&mut self.backlog, bytes, pace, at.now);
            }
            return Poll::Pending;
        }
        let was_slow = self.is_waited_for();
        if was_slow {
            self.backlog.iter_mut().for_each(|backlog| backlog.look(0, pace, at.now));
        }
        delivered.map_ok(|moved| {
            if moved || was_slow {
                self.down_moved = at.now;
            }
        })
    }

    fn upstream_ended<C: ClientTransport, U, W: Surroundings>(
        &mut self,
        at: &mut At<'_, C, U, W>,
        error: Option<io::Error>,
    ) -> Result<(), Fault> {
        let may_repeat = self.may_repeat();
        match &mut self.down {
            Down::Head { held, .. } if held.is_empty() && may_repeat => Err(Fault::Again),
            Down::Head { held, .. } => {
                // Many TLS servers end a connection without a word where plain HTTP comes.
                let closed = match held.is_empty() && !self.reused {
                    true => "it closed the connection without an answer; does it expect TLS there?",
                    false => "it closed the connection",
                };
                let found = error.map_or_else(|| closed.to_owned(), |error| error.to_string());
                Err(Fault::Failed(Problem::UpstreamClosed, found))
            }
            Down::Body { chunked, reader } => {
                let broke_off = |found| Err(Fault::Failed(Problem::UpstreamClosed, found));
                match (error, reader.end()) {
                    (Some(error), _) => return broke_off(format!("its response ended early: {error}")),
                    (None, Err(error)) => return broke_off(format!("its response ended early: {error}")),
                    (None, Ok(())) => {}
                }
                let tail = if *chunked { reader.last_chunk().concat() } else { Vec::new() };
                self.down = Down::Whole;
                self.keep_upstream = None;
                self.deliver(at, &tail)
            }
            Down::Whole | Down::Sent | Down::Upgraded { .. } => Ok(()),
        }
    }

    fn deliver<C: ClientTransport, U, W: Surroundings>(
        &mut self,
        at: &mut At<'_, C, U, W>,
        bytes: &[u8],
    ) -> Result<(), Fault> {
        at.world.flows().1.add(0, bytes.len());
        match forward(&mut self.unsent, bytes, |bytes| at.client.try_write(bytes)) {
            Poll::Ready(Err(_)) => Err(Fault::Broken),
            _ => Ok(()),
        }
    }

    /// Reads heads from `bytes`: interim ones go on to the client, the final one begins the response.
    fn head_arrived<C: ClientTransport, U, W: Surroundings>(
        &mut self,
        at: &mut At<'_, C, U, W>,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        if bytes.starts_with(&TLS_ALERT) {
            let found = "it answers with a TLS alert".to_owned();
            return Err(Fault::Failed(Problem::UpstreamTls, found));
        }
        if let Down::Head { held, .. } = &mut self.down
            && TLS_ALERT.starts_with(bytes)
        {
            held.extend_from_slice(bytes); // its second byte tells
            return Ok(());
        }
        let limits = self.request.limits.response_head;
        let mut rest = bytes;
        loop {
            let Down::Head { scanner, held, interim } = &mut self.down else { return Ok(()) };
            let Some(length) = scanner.scan(rest, &limits).map_err(head_refused)? else {
                held.extend_from_slice(rest);
                return Ok(());
            };
            let (head, behind) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            let mut lines = ResponseLines::new();
            let head = parse_scanned_response(head, self.request.is_head, scanner, &mut lines);
            let head = head.map_err(head_refused)?;
            if head.status >= 200 || head.status == 101 {
                return self.begin(at, &head, behind, out);
            }
            *interim += 1;
            if *interim > INTERIM_MAX {
                return Err(upstream_malformed(&"too many interim responses"));
            }
            self.asked |= head.status == 100;
            self.interim_is_whole &= head.keep_alive;
            *scanner = HeadScanner::response();
            // RFC 9110 §15.2: an HTTP/1.0 client knows none.
            if self.request.version == Version::Http11 {
                out.clear();
                // Interim: what its site changes is for the final response.
                response_head(&head, &ResponseForm { changes: None, ..self.form(Framing::None, true) }, out);
                self.reused = false; // the upstream has begun to answer: nothing is repeated now
                self.deliver(at, out)?;
            }
            rest = behind;
        }
    }

    fn form(&self, framing_out: Framing, keep_alive: bool) -> ResponseForm<'_> {
        let changes = self.request.route.changes.as_deref();
        ResponseForm {
            client_version: self.request.version,
            keep_alive,
            framing_out,
            websocket: false,
            changes,
        }
    }

    /// A final head, or a 101: decides what becomes of both connections and sends the head with the beginning of
    /// the body in one write.
    fn begin<C: ClientTransport, U, W: Surroundings>(
        &mut self,
        at: &mut At<'_, C, U, W>,
        head: &ResponseHead<'_>,
        behind: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        out.clear();
        self.request.status.set(head.status);
        if head.status == 101 {
            self.check_upgrade(head)?;
            response_head(head, &ResponseForm { websocket: true, ..self.form(Framing::None, true) }, out);
            self.down = Down::Upgraded { behind: behind.to_vec(), extensions: handshake::negotiated(head) };
            return self.deliver(at, out);
        }
        let framing_out = match (head.framing, self.request.version) {
            (Framing::Chunked | Framing::UntilClose, Version::Http11) => Framing::Chunked,
            (Framing::Chunked | Framing::UntilClose, Version::Http10) => Framing::UntilClose,
            (framing, _) => framing,
        };
        let is_upgrade = self.request.offer.is_some();
        self.keep_client = self.request.keep_alive
            && self.up.sending == Sending::Done
            && !is_upgrade
            && at.world.keeps_connections()
            && framing_out != Framing::UntilClose;
        let own_time = head.keep_alive_timeout_s.map(|seconds| Duration::from_secs(seconds.into()));
        self.bound |= bound_auth::challenges(&head.fields);
        self.keep_upstream = (head.keep_alive && self.interim_is_whole && !is_upgrade).then_some(own_time);
        response_head(head, &self.form(framing_out, self.keep_client), out);
        self.down = Down::Body {
            reader: BodyReader::of_response(head.framing),
            chunked: framing_out == Framing::Chunked,
        };
        self.observe(behind, at.now);
        // Bad already here, it is still ours to say.
        self.translate(behind, out)?;
        self.answered = true;
        self.deliver(at, out)
    }

    /// Before the client has the bytes: it may come back with the sid at once.
    fn observe(&mut self, bytes: &[u8], now: Instant) {
        let (Some(observer), Down::Body { reader, .. }) = (&mut self.observer, &self.down) else { return };
        let mut done = self.request.status.get() != 200;
        let _ = each_run(&mut reader.clone(), bytes, |data| done = done || observer.observe(data, now));
        if done {
            self.observer = None;
        }
    }

    fn check_upgrade(&self, head: &ResponseHead<'_>) -> Result<(), Fault> {
        let Some(offer) = &self.request.offer else {
            return Err(upstream_malformed(&"101 to a request without an upgrade"));
        };
        let sent = self.input.all().get(..self.request.head_bytes).unwrap_or_default();
        let sent =
            parse_request(sent, &self.request.limits.head).map_err(|error| upstream_malformed(&error))?;
        handshake::response(offer, &sent, head).map_err(|error| upstream_malformed(&error))
    }

    fn body_arrived<C: ClientTransport, U, W: Surroundings>(
        &mut self,
        at: &mut At<'_, C, U, W>,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        self.observe(bytes, at.now);
        let Down::Body { reader, chunked: false } = &mut self.down else {
            out.clear();
            self.translate(bytes, out)?;
            return self.deliver(at, out);
        };
        // Nothing is framed anew: the one run of data goes on from where it was read.
        let step = reader.step(bytes).map_err(|error| upstream_malformed(&error))?;
        let whole = step.consumed == bytes.len();
        let data = bytes.get(step.data).unwrap_or_default();
        if !whole && !step.done {
            out.clear();
            self.deliver(at, data)?;
            self.translate(bytes.get(step.consumed..).unwrap_or_default(), out)?;
            return self.deliver(at, out);
        }
        if step.done {
            self.end_body(whole);
        }
        self.deliver(at, data)
    }

    /// Appends what `bytes` hold of the body to `out`, in the framing that the client gets.
    fn translate(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        let Down::Body { reader, chunked } = &mut self.down else { return Ok(()) };
        let (used, _) = reframe(reader, *chunked, bytes, out).map_err(|error| upstream_malformed(&error))?;
        if reader.is_done() {
            if *chunked {
                reader.last_chunk().iter().for_each(|piece| out.extend_from_slice(piece));
            }
            self.end_body(used == bytes.len());
        }
        Ok(())
    }

    /// The response is complete. Bytes behind it make its end ambiguous: that connection is not used again.
    fn end_body(&mut self, nothing_behind: bool) {
        let repaired = matches!(&self.down, Down::Body { reader, .. } if reader.repaired());
        self.down = Down::Whole;
        if !nothing_behind || repaired {
            self.keep_upstream = None;
        }
    }
}

fn head_refused(error: HeadError) -> Fault {
    Fault::Failed(error.upstream_problem(), error.to_string())
}

fn upstream_malformed(error: &dyn std::fmt::Display) -> Fault {
    Fault::Failed(Problem::UpstreamMalformed, error.to_string())
}
