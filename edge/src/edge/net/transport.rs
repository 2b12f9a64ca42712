//! A byte stream as the machines of a session see it. They never wait: `Pending` means not now, and that whoever steps the
//! machine is woken when another try is worth it.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, Waker};

use super::tls::TlsStream;
use super::upstream::UpstreamStream;

/// One end of a session.
pub(crate) trait Transport {
    /// Reads; 0 is the end.
    fn try_read(&mut self, buffer: &mut [u8]) -> Poll<io::Result<usize>>;
    /// Takes bytes; those taken may still be unsent: see [`Self::try_flush`].
    fn try_write(&mut self, bytes: &[u8]) -> Poll<io::Result<usize>>;
    /// The same of several runs of bytes, the first of them only where the end takes no more at once.
    fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.try_write(slices.iter().find(|slice| !slice.is_empty()).map_or(&[], |slice| slice))
    }
    /// Ready when nothing that was taken is unsent.
    fn try_flush(&mut self) -> Poll<io::Result<()>>;
    /// Says that nothing more comes.
    fn try_shutdown(&mut self) -> Poll<io::Result<()>>;
}

/// What the edge knows of a client's end besides.
pub(crate) trait ClientTransport: Transport {
    /// Bytes that were taken and are unsent.
    fn unsent_bytes(&self) -> usize;
    /// Offers again what is unsent: see [`TlsStream::nudge`].
    fn nudge(&mut self);
    /// Whether all that was sent is on the wire: see [`TlsStream::kernel_has_sent_all`].
    fn has_sent_all(&self) -> bool;
    /// Whether its end was said and all came: see [`TlsStream::said_goodbye`].
    fn said_goodbye(&self) -> bool;
    /// Ready once the client is gone that said so: see [`TlsStream::poll_gone`].
    fn try_gone(&mut self) -> Poll<()>;
}

/// A stream of the runtime that wakes a task.
pub(crate) struct Woken<'a, S> {
    stream: &'a mut S,
    waker: &'a Waker,
}

impl<'a, S> Woken<'a, S> {
    pub(crate) fn by(waker: &'a Waker, stream: &'a mut S) -> Self {
        Self { stream, waker }
    }
}

impl Transport for Woken<'_, TlsStream> {
    #[inline]
    fn try_read(&mut self, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.stream.poll_read(&mut Context::from_waker(self.waker), buffer)
    }
    #[inline]
    fn try_write(&mut self, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream.poll_write(&mut Context::from_waker(self.waker), bytes)
    }
    #[inline]
    fn try_flush(&mut self) -> Poll<io::Result<()>> {
        self.stream.poll_flush(&mut Context::from_waker(self.waker))
    }
    fn try_shutdown(&mut self) -> Poll<io::Result<()>> {
        self.stream.poll_shutdown(&mut Context::from_waker(self.waker))
    }
}

impl ClientTransport for Woken<'_, TlsStream> {
    #[inline]
    fn unsent_bytes(&self) -> usize {
        self.stream.unsent_bytes()
    }
    fn nudge(&mut self) {
        self.stream.nudge();
    }
    fn has_sent_all(&self) -> bool {
        self.stream.kernel_has_sent_all()
    }
    #[inline]
    fn said_goodbye(&self) -> bool {
        self.stream.said_goodbye()
    }
    fn try_gone(&mut self) -> Poll<()> {
        self.stream.poll_gone(&mut Context::from_waker(self.waker))
    }
}

impl Transport for Woken<'_, UpstreamStream> {
    #[inline]
    fn try_read(&mut self, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.stream.poll_read(&mut Context::from_waker(self.waker), buffer)
    }
    #[inline]
    fn try_write(&mut self, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream.poll_write(&mut Context::from_waker(self.waker), bytes)
    }
    #[inline]
    fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.stream.poll_write_vectored(&mut Context::from_waker(self.waker), slices)
    }
    #[inline]
    fn try_flush(&mut self) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn try_shutdown(&mut self) -> Poll<io::Result<()>> {
        self.stream.poll_shutdown(&mut Context::from_waker(self.waker))
    }
}
