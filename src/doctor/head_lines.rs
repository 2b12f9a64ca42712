//! How the lines of a response's head end: Node refuses a bare LF, which hyper and browsers accept.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::Io;

/// What was seen of the head.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines(Arc<AtomicBool>);

/// A connection that inspects its first response head.
pub(super) struct Watched {
    io: Box<dyn Io>,
    lines: Lines,
    reading: Reading,
}

/// Where in the head the last byte was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// At the beginning of a line.
    Begin,
    /// Behind a CR; `true`: of an empty line.
    Cr(bool),
    Line,
    /// The head has ended.
    Over,
}

impl Lines {
    pub(super) fn has_bare_lf(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Watched {
    pub(super) fn new(io: Box<dyn Io>) -> (Self, Lines) {
        let lines = Lines::default();
        (Self { io, lines: lines.clone(), reading: Reading::Begin }, lines)
    }

    fn look(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.reading = match (self.reading, byte) {
                (Reading::Over | Reading::Cr(true), _) => Reading::Over,
                (Reading::Begin | Reading::Line, b'\n') => {
                    self.lines.0.store(true, Ordering::Relaxed);
                    Reading::Over
                }
                (Reading::Cr(false), b'\n') => Reading::Begin,
                (reading, b'\r') => Reading::Cr(reading == Reading::Begin),
                _ => Reading::Line,
            };
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if self.reading != Reading::Over {
            self.look(buf.filled().get(before..).unwrap_or_default());
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bare(head: &[u8], piece: usize) -> bool {
        let (mut watched, lines) = Watched::new(Box::new(tokio::io::empty()));
        head.chunks(piece).for_each(|bytes| watched.look(bytes));
        lines.has_bare_lf()
    }

    #[test]
    fn a_bare_lf_is_seen_in_the_head_only() {
        for piece in [1, 2, 7, 100] {
            assert!(!bare(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody\nmore\n", piece));
            assert!(bare(b"HTTP/1.1 200 OK\nA: b\n\nbody", piece));
            assert!(bare(b"HTTP/1.1 200 OK\r\nA: b\n\r\nbody", piece));
            assert!(bare(b"HTTP/1.1 200 OK\r\nA: b\r\n\nbody", piece));
        }
    }
}
