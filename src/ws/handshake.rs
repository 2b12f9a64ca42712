//! Is this upgrade legal (RFC 6455 §4): the request, the upstream's 101, and the Origin.

use crate::bundle::Origins;
use crate::http::answer::Problem;
use crate::http::head::{RequestHead, ResponseHead};

/// An upgrade to WebSocket that the client may ask for: what the upstream's 101 is held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    accept: [u8; 28],
}

/// A broken rule of the handshake, in the request or in the upstream's 101.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpgradeError {
    /// RFC 6455 §4.2.1, 1.
    #[error("a WebSocket upgrade is a GET")]
    Method,
}

/// An Origin that may not open WebSockets here. `Display` says which, and the line to add to sanedge.toml.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}")]
pub struct OriginRefused {
    /// The line for `sanedge.toml` that would allow it, or a sentence where none would.
    pub line: String,
}

impl UpgradeError {
    /// The answer to a request with this error. (Of a response it is a 502.)
    pub fn problem(&self) -> Problem {
        todo!()
    }
}

/// Reads an upgrade request (RFC 6455 §4.2.1). `None`: no upgrade is asked for, or one to something else than
/// WebSocket, which RFC 9110 §7.8 lets us ignore: the request goes on without its Upgrade.
///
/// # Errors
/// The first broken rule of a request for WebSocket.
pub fn request(head: &RequestHead<'_>) -> Result<Option<Offer>, UpgradeError> {
    let _ = head;
    todo!()
}

/// Checks a 101 (RFC 6455 §4.1): Upgrade, Connection, Sec-WebSocket-Accept, and that subprotocol and extensions are
/// among those that `request` offered.
///
/// # Errors
/// The first broken rule; the upstream's connection is of no use any more.
pub fn response(
    offer: &Offer,
    request: &RequestHead<'_>,
    response: &ResponseHead<'_>,
) -> Result<(), UpgradeError> {
    let _ = (offer.accept, request, response);
    todo!()
}

/// Checks the Origin of an upgrade (RFC 6455 §10.2). No Origin is a program, not a browser, and passes unless
/// `require`.
///
/// # Errors
/// The origin is not allowed, or there are two.
pub fn origin(allowed: &Origins, require: bool, head: &RequestHead<'_>) -> Result<(), OriginRefused> {
    let _ = (allowed, require, head);
    todo!()
}
