//! SNI, Host and path to a route.

use crate::bundle::{Route, Site};
use crate::names::{Host, SanName};

/// The path leads to one route as it stands and to another once normalised: an upstream could read either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the path leads to different routes before and after its dot segments, `//`, `%2f` and `\\` are resolved"
)]
pub struct Ambiguous;

/// The request names a host that its connection was not opened for: 421 (RFC 9110 §15.5.20).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the Host field names another host than this TLS connection")]
pub struct Misdirected;

/// The route of `path` in `site` with its index: the longest prefix that ends on a segment boundary.
///
/// # Errors
/// [`Ambiguous`] where the path and its normalised form have different routes.
pub fn find<'b>(site: &'b Site, path: &[u8]) -> Result<Option<(usize, &'b Route)>, Ambiguous> {
    let _ = (site, path);
    todo!()
}

/// Host equals SNI; without SNI it is covered by the certificate that was sent.
///
/// # Errors
/// [`Misdirected`] otherwise.
pub fn check_host(host: &Host, sni: Option<&Host>, sent: &[SanName]) -> Result<(), Misdirected> {
    let _ = (host, sni, sent);
    todo!()
}
