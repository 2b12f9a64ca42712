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
pub enum Kind {
    /// TLS.
    Https,
    /// Port 80: challenges and redirects.
    Http,
}

/// Binds `address` with the options that accepted sockets inherit.
///
/// # Errors
/// What the kernel says, for the address that was asked for.
pub fn bind(address: SocketAddr, socket_buffer_bytes: usize) -> io::Result<TcpListener> {
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
    match socket.bind(&address.into()) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::ADDRNOTAVAIL) => {
            bind_early(&socket, address)?;
        }
        bound => bound?,
    }
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Binds an address that no interface has yet: at boot the edge may start before DHCP, and IPv6 addresses come later still.
/// The kernel delivers connections to it as soon as an interface has the address (`IP_FREEBIND`, ip(7)).
fn bind_early(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => socket.set_freebind_v6(true)?,
    }
    socket.bind(&address.into())?;
    warn!(%address, "no interface has this address yet; connections arrive once one has it");
    Ok(())
}

/// Gives an inherited listener what [`bind`] would have given it.
///
/// # Errors
/// What the kernel says.
pub fn adopt(listener: &TcpListener, socket_buffer_bytes: usize) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the networks for documentation (RFC 5737, RFC 3849): no machine has them.
    #[test]
    fn an_address_that_no_interface_has_yet_is_bound() {
        for address in ["192.0.2.1:0", "[2001:db8::1]:0"] {
            let address: SocketAddr = address.parse().unwrap();
            match bind(address, 4096) {
                Ok(listener) => assert_eq!(listener.local_addr().unwrap().ip(), address.ip()),
                Err(error) => {
                    assert_eq!(Errno::from_io_error(&error), Some(Errno::AFNOSUPPORT), "{address}: {error}")
                }
            }
        }
    }

    #[test]
    fn a_taken_port_is_an_error_all_the_same() {
        let first = bind("127.0.0.1:0".parse().unwrap(), 4096).unwrap();
        let error = bind(first.local_addr().unwrap(), 4096).unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(Errno::ADDRINUSE));
    }
}
