//! Listening sockets: bound, or taken over from the service manager, with the options that accepted ones inherit.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tracing::warn;

use crate::edge::net::socket::keep_alive;

/// Connections that may wait in the kernel for `accept`: all that come back during a restart. Linux's own bound, unless
/// `net.core.somaxconn` was raised.
const BACKLOG: i32 = 4096;

/// What a listening socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Https,
    Http,
}

/// Binds `address` with the options that accepted sockets inherit.
///
/// # Errors
/// What the kernel says, for the address that was asked for.
pub(crate) fn bind(address: SocketAddr, socket_buffer_bytes: usize) -> io::Result<TcpListener> {
    match bind_one(address, socket_buffer_bytes) {
        Err(error)
            if address == SocketAddr::new("::".parse().unwrap_or(address.ip()), address.port())
                && Errno::from_io_error(&error) == Some(Errno::AFNOSUPPORT) =>
        {
            warn!(%address, "this kernel has no IPv6; listening on 0.0.0.0 instead");
            bind_one(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port()), socket_buffer_bytes)
        }
        bound => bound,
    }
}

fn bind_one(address: SocketAddr, socket_buffer_bytes: usize) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    set_options(&SockRef::from(&socket), socket_buffer_bytes)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Gives an inherited listener what [`bind`] would have given it.
///
/// # Errors
/// What the kernel says.
pub(crate) fn adopt(listener: &TcpListener, socket_buffer_bytes: usize) -> io::Result<()> {
    let socket = SockRef::from(listener);
    set_options(&socket, socket_buffer_bytes)?;
    // It listens already: Linux takes the new length of the queue.
    socket.listen(BACKLOG)
}

/// Linux hands these on to accepted sockets: no call per connection.
fn set_options(socket: &SockRef<'_>, socket_buffer_bytes: usize) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    keep_alive(socket);
    if socket_buffer_bytes != 0 {
        socket.set_send_buffer_size(socket_buffer_bytes)?;
        socket.set_recv_buffer_size(socket_buffer_bytes)?;
    }
    socket.set_nonblocking(true)
}
