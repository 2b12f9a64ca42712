//! Options of sockets, to clients and to upstreams, and the write that both share.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

/// Silence before the first probe, time between probes, and how many may stay without an answer.
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_INTERVAL: Duration = Duration::from_secs(15);
const PROBES: u32 = 4;

/// Finds a peer that vanished without a word (a router that forgot, a phone off the network) within two minutes.
pub(crate) fn keep_alive(socket: &SockRef<'_>) {
    let probes =
        TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_INTERVAL).with_retries(PROBES);
    // A socket without them works; only its end may be noticed late.
    let _ = socket.set_tcp_keepalive(&probes);
    // Linux lets this overrule the number of probes: were it shorter, one lost probe would end a healthy session.
    let _ = socket.set_tcp_user_timeout(Some(PROBE_AFTER + PROBE_INTERVAL * PROBES));
}

/// Longest write that is offered to the kernel before the runtime is asked. It nearly always takes one whole; of a longer one it may
/// take a part, and would then be asked a second time for nothing.
const OFFER_BYTES_MAX: usize = 16 * 1024;

/// Writes `bytes` if the kernel takes some at once; pending: the runtime is to be asked, which registers the waker. That counts the
/// task's budget too, and is 1 % of an echo.
#[inline]
pub(crate) fn offer(bytes: &[u8], write: impl FnOnce(&[u8]) -> io::Result<usize>) -> Poll<io::Result<usize>> {
    if bytes.len() > OFFER_BYTES_MAX {
        return Poll::Pending;
    }
    match write(bytes) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        written => Poll::Ready(written),
    }
}

/// Writes what the kernel takes.
#[inline]
pub(super) fn write(io: &mut TcpStream, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    match offer(bytes, |bytes| io.try_write(bytes)) {
        Poll::Pending => Pin::new(io).poll_write(cx, bytes),
        written => written,
    }
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Socket, Type};

    use super::*;

    #[test]
    fn one_lost_probe_ends_no_session() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        keep_alive(&SockRef::from(&socket));
        let probes = socket.tcp_keepalive_interval().unwrap() * socket.tcp_keepalive_retries().unwrap();
        let silence = socket.tcp_keepalive_time().unwrap() + probes;
        assert!(socket.keepalive().unwrap());
        assert!(socket.tcp_user_timeout().unwrap().unwrap() >= silence, "it overrules the probes");
        assert!(silence <= Duration::from_secs(120));
    }
}
