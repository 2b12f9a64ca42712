//! The head sent upstream and the head sent to the client: hop-by-hop fields end here (RFC 9110 §7.6.1), forged
//! forwarding fields are removed and ours are set once.
//!
//! Upstream gets slices of the head as it came with a few inserted bytes between them: nothing is copied.

use std::io::IoSlice;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::http::body::Framing;
use crate::http::head::{HeadError, RequestHead, ResponseHead, Version};

/// What the edge knows about a request beyond its head.
#[derive(Clone, Copy, Debug)]
pub struct ForwardContext<'a> {
    /// The TCP peer, canonical (`::ffff:a.b.c.d` is the IPv4 address).
    pub peer: IpAddr,
    /// Proxies that are believed.
    pub trusted_proxies: &'a [IpNet],
    /// The port that clients see.
    pub public_https_port: u16,
    /// Goes upstream as a WebSocket upgrade; otherwise any Upgrade ends here.
    pub websocket: bool,
}

/// The head to send upstream, as pieces of the client's head and inserted bytes. Owned and small; the pieces make
/// sense only with the head that it was planned for.
#[derive(Clone, Debug)]
pub struct Plan {
    len: usize,
}

/// How a response goes to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseForm {
    /// Version of the client's request.
    pub client_version: Version,
    /// The client's connection stays open after this response.
    pub keep_alive: bool,
    /// How the body will be delimited: what upstream used, or `Chunked` for an until-close body, or `UntilClose`
    /// towards an HTTP/1.0 client.
    pub framing_out: Framing,
    /// A 101 that was checked: Connection and Upgrade are made again.
    pub websocket: bool,
}

/// The client of a request: the right-most X-Forwarded-For entry that is not a trusted proxy if the peer is one, else
/// the peer. An entry that is no address ends the search at the proxy that wrote it.
pub fn client_address(peer: IpAddr, head: &RequestHead<'_>, trusted: &[IpNet]) -> IpAddr {
    let _ = (peer, head, trusted);
    todo!()
}

/// Plans the head sent upstream.
///
/// # Errors
/// Where the plan would not fit its bounds, which no head within [`crate::http::head::FIELDS_MAX`] fields reaches.
pub fn request_plan(head: &RequestHead<'_>, context: &ForwardContext<'_>) -> Result<Plan, HeadError> {
    let _ = (head, context);
    todo!()
}

impl Plan {
    /// Bytes of the head sent upstream.
    #[allow(clippy::len_without_is_empty)] // a head is never empty
    pub fn len(&self) -> usize {
        self.len
    }

    /// What is left to write after `written` bytes, for a vectored write; at most `N` slices at once. `head` is the
    /// buffer that the plan was made for.
    pub fn slices<'a, const N: usize>(
        &'a self,
        head: &'a [u8],
        written: usize,
        out: &mut heapless::Vec<IoSlice<'a>, N>,
    ) {
        let _ = (head, written, out);
        todo!()
    }
}

/// Appends the head sent to the client to `out`.
pub fn response_head(head: &ResponseHead<'_>, form: &ResponseForm, out: &mut Vec<u8>) {
    let _ = (head, form, out);
    todo!()
}
