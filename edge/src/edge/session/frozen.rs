//! What the records of all sessions have in common: their sockets, and their route in the current bundle.

use std::net::{IpAddr, TcpStream};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::net::sockopt::{socket_cookie, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};

use crate::edge::net::upstream::UpstreamStream;
use crate::edge::shared::active_config::{ActiveConfig, RouteState};
use crate::edge::shared::handover::Head;
use crate::names::Host;
use crate::ops::metrics::HostTally;
use crate::route;

/// Room for a record without names and buffered bytes.
pub(crate) const RECORD_BYTES: usize = 1024;

/// Copies of the sockets of a session, and their cookies for [`Head::cookies`].
pub(crate) fn copies(
    client: BorrowedFd<'_>,
    upstream: Option<BorrowedFd<'_>>,
) -> Option<([u64; 2], Vec<OwnedFd>)> {
    let (mut cookies, mut descriptors) = ([0; 2], Vec::with_capacity(2));
    for (cookie, socket) in cookies.iter_mut().zip([Some(client), upstream].into_iter().flatten()) {
        *cookie = socket_cookie(socket).ok()?;
        descriptors.push(socket.try_clone_to_owned().ok()?);
    }
    Some((cookies, descriptors))
}

/// The sockets of a session, checked against its record.
///
/// # Errors
/// Why they cannot be used.
pub(crate) fn resume(
    descriptors: Vec<OwnedFd>,
    head: &Head<'_>,
) -> Result<(tokio::net::TcpStream, Option<UpstreamStream>), &'static str> {
    let wanted = head.cookies.iter().filter(|cookie| **cookie != 0);
    let found = descriptors.iter().map(socket_cookie);
    if !found.eq(wanted.map(|cookie| Ok(*cookie))) {
        return Err("its sockets are not those of its record");
    }
    let is_stream = |socket: &OwnedFd| socket_type(socket) == Ok(SocketType::STREAM);
    let mut sockets = descriptors.into_iter().filter(is_stream);
    let is_tcp =
        |socket: &OwnedFd| matches!(socket_domain(socket), Ok(AddressFamily::INET | AddressFamily::INET6));
    let client = sockets.next().filter(is_tcp).ok_or("its sockets are of another kind")?;
    let unusable = |_| "its socket cannot be used";
    let client = TcpStream::from(client);
    client.set_nonblocking(true).map_err(unusable)?;
    let client = tokio::net::TcpStream::from_std(client).map_err(unusable)?;
    let upstream = sockets.next().map(UpstreamStream::resume).transpose().map_err(unusable)?;
    Ok((client, upstream))
}

/// The route of a session in the current bundle, if there is one and `allow` permits the client.
pub(crate) fn place(
    active: &ActiveConfig,
    host: &Host,
    path: &str,
    peer: IpAddr,
) -> Option<(Arc<RouteState>, Arc<HostTally>)> {
    let position = active.bundle.position(host)?;
    let (site, routes) = active.site(host)?;
    let (index, rules) = route::find(site, path.as_bytes()).ok().flatten()?;
    let may_come = rules.allow.is_empty() || rules.allow.iter().any(|network| network.contains(&peer));
    let (route, tally) = (routes.get(index)?, active.tally(position)?);
    may_come.then(|| (Arc::clone(route), Arc::clone(tally)))
}
