//! Who is at the other end of an accepted connection: the TCP peer, or the client that a proxy's header names.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::edge::session::worker::{Permit, Worker};
use crate::ops::metrics::Reason;
use crate::proxy_protocol::{Progress, V2_BYTES_MAX, parse};

/// The client of a connection from `peer`. From a peer in `proxy_protocol_from` a header must come first, within
/// `handshake_timeout`; nothing behind it is read. `None`: it did not, or the client that it names is over a limit,
/// which is said.
pub(crate) async fn client(
    worker: &Worker,
    stream: &mut TcpStream,
    peer: IpAddr,
    permit: &mut Permit,
) -> Option<SocketAddr> {
    let (from_proxy, time) = {
        let bundle = &worker.shared.active.load().bundle;
        let from_proxy = bundle.listen.proxy_protocol_from.iter().any(|network| network.contains(&peer));
        (from_proxy, Duration::from_millis(bundle.limits.handshake_timeout_ms.into()))
    };
    // The port is of interest to upstreams that want a header of ours, and to nobody else.
    let peer = SocketAddr::new(peer, stream.peer_addr().map_or(0, |address| address.port()));
    if !from_proxy {
        return Some(peer);
    }
    let read = timeout(time, Box::pin(read_header(stream))).await;
    match read
        .unwrap_or_else(|_| Err("no complete PROXY protocol header within handshake_timeout".to_owned()))
    {
        Ok(None) => Some(peer),
        Ok(Some(client)) => match permit.count_for(client.ip()) {
            Ok(()) => Some(client),
            Err((reason, found)) => {
                worker.shared.refuse(reason, client.ip(), found);
                None
            }
        },
        Err(found) => {
            let check =
                "proxy_protocol_from lists this peer: make it send a header, or remove it from the list";
            worker.shared.refuse_with_check(Reason::ProxyProtocol, peer.ip(), &found, Some(check));
            None
        }
    }
}

/// Reads the header, byte for byte as many as it wants.
async fn read_header(stream: &mut TcpStream) -> Result<Option<SocketAddr>, String> {
    let mut buffer = [0; V2_BYTES_MAX];
    let mut held = 0;
    loop {
        let wants = match parse(buffer.get(..held).unwrap_or_default()).map_err(|error| error.to_string())? {
            Progress::Complete { client, .. } => return Ok(client),
            Progress::Wants(wants) => wants,
        };
        let room = buffer.get_mut(held..held + wants).unwrap_or_default();
        match stream.read(room).await.map_err(|error| error.to_string())? {
            0 => return Err("the peer closed before its PROXY protocol header was complete".to_owned()),
            count => held += count,
        }
    }
}
