//! Connections to the local servers behind the edge: connecting, and how the end of an outage is noticed.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::{AddressFamily, RecvFlags, SocketType};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::time::timeout;

use crate::bundle::Upstream;
use crate::edge::net::socket::{keep_alive, offer};
use crate::edge::shared::upstreams::UpstreamState;
use crate::names::Host;

/// When an upstream that is down is first tried again, and the longest pause between two tries; each is twice the one
/// before.
const PROBE_FIRST: Duration = Duration::from_secs(1);
const PROBE_MAX: Duration = Duration::from_secs(30);

/// A new connection to `upstream`.
///
/// # Errors
/// What the kernel or the resolver says, of the address that was tried last.
pub(crate) async fn connect(upstream: &UpstreamState, dial: Dial) -> io::Result<UpstreamStream> {
    let timed_out = || io::Error::new(io::ErrorKind::TimedOut, "no reply to the connection attempt");
    match &upstream.address {
        Upstream::Unix(path) => {
            let connected = timeout(dial.time, UnixStream::connect(path)).await;
            let stream = connected.map_err(|_| timed_out())??;
            if dial.socket_buffer_bytes != 0 {
                // What is on its way to us is charged to the upstream's own buffer.
                SockRef::from(&stream).set_send_buffer_size(dial.socket_buffer_bytes)?;
            }
            Ok(UpstreamStream::Unix(stream))
        }
        Upstream::Address(address) => connect_tcp(*address, dial).await.map(UpstreamStream::Tcp),
        Upstream::Zoned { ip, zone, port } => {
            connect_tcp(zoned(*ip, zone, *port)?.into(), dial).await.map(UpstreamStream::Tcp)
        }
        Upstream::Name { host, port } => {
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            let addresses = timeout(dial.time, resolve(host, *port)).await.map_err(|_| timed_out())??;
            for address in addresses {
                match connect_tcp(address, dial).await {
                    Ok(stream) => return Ok(UpstreamStream::Tcp(stream)),
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
    }
}

/// Notes that `upstream` took no connection, and has a task of this worker notice when it is back.
pub(crate) fn failed(upstream: &Arc<UpstreamState>, host: &Host, error: &io::Error, dial: Dial) {
    if upstream.failed(host, error) {
        tokio::task::spawn_local(probe(Arc::downgrade(upstream), dial));
    }
}

/// Connects until that works, ever less often, so that no request has to be the one that tries. Ends too when nobody names
/// the upstream any more.
async fn probe(upstream: Weak<UpstreamState>, dial: Dial) {
    for attempt in 0.. {
        tokio::time::sleep(probe_pause(attempt)).await;
        let Some(upstream) = upstream.upgrade() else { return };
        if upstream.is_down() && connect(&upstream, dial).await.is_ok() {
            upstream.works();
        }
        if upstream.probed() {
            return;
        }
    }
}

fn probe_pause(attempt: u32) -> Duration {
    PROBE_FIRST.saturating_mul(2_u32.saturating_pow(attempt)).min(PROBE_MAX)
}

/// `localhost` needs no resolver, and Node listens on one of the two only.
async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if host.eq_ignore_ascii_case("localhost") {
        let both = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        return Ok(both.map(|address| SocketAddr::new(address, port)).to_vec());
    }
    Ok(tokio::net::lookup_host((host, port)).await?.collect())
}

/// A link-local address with the number of its interface, asked for each time: interfaces come and go.
fn zoned(ip: Ipv6Addr, zone: &str, port: u16) -> io::Result<SocketAddrV6> {
    let index = match zone.parse() {
        Ok(index) => index,
        Err(_) => {
            let any = rustix::net::socket(AddressFamily::INET6, SocketType::DGRAM, None)?;
            rustix::net::netdevice::name_to_index(any, zone).map_err(|error| {
                io::Error::new(io::Error::from(error).kind(), format!("no interface {zone}: {error}"))
            })?
        }
    };
    Ok(SocketAddrV6::new(ip, port, 0, index))
}

async fn connect_tcp(address: SocketAddr, dial: Dial) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_nodelay(true)?;
    if let Ok(bytes @ 1..) = u32::try_from(dial.socket_buffer_bytes) {
        // Before the handshake: the window that it agrees on follows the buffer.
        socket.set_recv_buffer_size(bytes)?;
        socket.set_send_buffer_size(bytes)?;
    }
    let connected = timeout(dial.time, socket.connect(address)).await;
    let stream = connected.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no reply to the SYN"))??;
    // On loopback too: it may lead into a container, whose network goes without a word.
    keep_alive(&SockRef::from(&stream));
    Ok(stream)
}

/// A byte stream to an upstream.
#[derive(Debug)]
pub(crate) enum UpstreamStream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

macro_rules! either {
    ($io:expr, $stream:ident => $call:expr) => {
        match $io {
            UpstreamStream::Tcp($stream) => $call,
            UpstreamStream::Unix($stream) => $call,
        }
    };
}

impl UpstreamStream {
    #[inline]
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(either!(self, stream => Pin::new(stream).poll_read(cx, &mut buffer)))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    #[inline]
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let at_once = |bytes: &[u8]| either!(&*self, stream => stream.try_write(bytes));
        match offer(bytes, at_once) {
            Poll::Pending => either!(self, stream => Pin::new(stream).poll_write(cx, bytes)),
            written => written,
        }
    }

    #[inline]
    pub(crate) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    /// Writes the first bytes of a connection; no more than any socket's buffer takes at once.
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        either!(self, stream => tokio::io::AsyncWriteExt::write_all(stream, bytes).await)
    }

    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }

    /// Goes on with a connection that another process made.
    pub(crate) fn resume(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(match rustix::net::sockopt::socket_domain(&socket)? {
            AddressFamily::UNIX => Self::Unix(UnixStream::from_std(socket.into())?),
            _ => Self::Tcp(TcpStream::from_std(socket.into())?),
        })
    }

    /// Whether an idle connection has neither ended nor spoken out of turn. Asks the kernel, since the runtime may
    /// not have seen the news yet.
    pub(crate) fn is_quiet(&self) -> bool {
        let peeked = rustix::net::recv(self, &mut [0u8; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        peeked.is_err_and(|error| error == rustix::io::Errno::AGAIN)
    }
}

impl AsFd for UpstreamStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        either!(self, stream => stream.as_fd())
    }
}

/// How a new connection is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dial {
    /// At most so long for each address.
    pub(crate) time: Duration,
    /// SO_SNDBUF and SO_RCVBUF; 0 leaves them to the kernel.
    pub(crate) socket_buffer_bytes: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_come_ever_less_often_up_to_a_bound() {
        let seconds: Vec<u64> = (0..8).map(|attempt| probe_pause(attempt).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(probe_pause(u32::MAX), PROBE_MAX);
    }
}
