//! Names of fields that the edge itself reads, sets or removes.

/// What a field's name means to this hop. Determined once per line, in any spelling that a server may accept: names are
/// case-insensitive, and `_` counts as `-` (CGI).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Forwarded unchanged.
    Other,
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    Upgrade,
    Expect,
    Accept,
    Origin,
    /// Sec-WebSocket-Extensions.
    Extensions,
    /// X-Real-IP.
    RealIp,
    /// Tells a server the client's address or the original request.
    Forwarding,
    /// Authorization.
    Credentials,
    /// WWW-Authenticate.
    Challenge,
    /// Proxy-Authorization, which ends at this hop.
    ProxyCredentials,
    /// Proxy-Authenticate, which ends at this hop.
    ProxyChallenge,
    /// Keep-Alive, which ends at this hop.
    KeepAlive,
    /// Ends at this hop (RFC 9110 §7.6.1), as do [`Self::Connection`], [`Self::TransferEncoding`] and
    /// [`Self::Upgrade`], which are set anew where they apply.
    Hop,
}

impl Known {
    pub(crate) fn of(name: &[u8]) -> Self {
        // Most names differ in their length or first letter from all that are known.
        let first = name.first().map_or(0, u8::to_ascii_lowercase);
        match of_length(name.len(), first).iter().find(|(known, _)| same_name(name, known)) {
            Some((_, known)) => *known,
            None if first == b'x' && has_prefix(name, "x-forwarded") => Self::Forwarding,
            None => Self::Other,
        }
    }

    /// Whether a field ends at this hop.
    pub(crate) fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::TransferEncoding
                | Self::Upgrade
                | Self::KeepAlive
                | Self::ProxyCredentials
                | Self::ProxyChallenge
                | Self::Hop
        )
    }
}

/// Every known name with `bytes` bytes that begins with this letter: most fields are excluded by that alone.
fn of_length(bytes: usize, first: u8) -> &'static [(&'static str, Known)] {
    use Known::{
        Accept, Challenge, Connection, ContentLength, Credentials, Expect, Extensions, Forwarding, Hop, Host,
        KeepAlive, Origin, ProxyChallenge, ProxyCredentials, RealIp, TransferEncoding, Upgrade,
    };
    match (bytes, first) {
        (2, b't') => &[("te", Hop)],
        (4, b'h') => &[("host", Host)],
        (6, b'a') => &[("accept", Accept)],
        (6, b'e') => &[("expect", Expect)],
        (6, b'o') => &[("origin", Origin)],
        (7, b'u') => &[("upgrade", Upgrade)],
        // few trailers pass
        (7, b't') => &[("trailer", Hop)],
        (9, b'x') => &[("x-real-ip", RealIp)],
        (9, b'f') => &[("forwarded", Forwarding)],
        (9, b'c') => &[("client-ip", Forwarding)],
        (10, b'c') => &[("connection", Connection)],
        (10, b'k') => &[("keep-alive", KeepAlive)],
        (11, b'x') => &[("x-client-ip", Forwarding)],
        (13, b'a') => &[("authorization", Credentials)],
        // only the edge sets it
        (13, b's') => &[("sanedge-error", Hop)],
        (13, b'x') => &[("x-rewrite-url", Forwarding)],
        (13, b'f') => &[("forwarded-for", Forwarding)],
        (14, b'c') => &[("content-length", ContentLength), ("cf-pseudo-ipv4", Forwarding)],
        // h2c is not supported
        (14, b'h') => &[("http2-settings", Hop)],
        (14, b't') => &[("true-client-ip", Forwarding)],
        (14, b'x') => &[("x-original-url", Forwarding)],
        (16, b'w') => &[("www-authenticate", Challenge)],
        (16, b'p') => &[("proxy-connection", Hop)],
        (16, b'c') => &[("cf-connecting-ip", Forwarding)],
        (16, b'f') => &[("fastly-client-ip", Forwarding)],
        (17, b't') => &[("transfer-encoding", TransferEncoding)],
        // the app is not a proxy
        (18, b'p') => &[("proxy-authenticate", ProxyChallenge)],
        (18, b'c') => &[("cf-connecting-ipv6", Forwarding)],
        (19, b'p') => &[("proxy-authorization", ProxyCredentials)],
        (19, b'x') => &[("x-cluster-client-ip", Forwarding), ("x-appengine-user-ip", Forwarding)],
        (24, b's') => &[("sec-websocket-extensions", Extensions)],
        (25, b'p') => &[("proxy-authentication-info", Hop)],
        _ => &[],
    }
}

/// Whether two field names are equal for a server that reads `_` as `-` (CGI); `known` is lower case.
pub(crate) fn same_name(name: &[u8], known: &str) -> bool {
    let dashes_alike = || name.contains(&b'_') && has_prefix(name, known);
    name.len() == known.len() && (name.eq_ignore_ascii_case(known.as_bytes()) || dashes_alike())
}

/// [`same_name`] for the start of a name.
pub(crate) fn has_prefix(name: &[u8], known: &str) -> bool {
    let fold = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    name.len() >= known.len() && name.iter().zip(known.bytes()).all(|(byte, known)| fold(*byte) == known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_stands_at_its_length_and_is_found_in_every_spelling() {
        let mut names = 0;
        for (bytes, first) in (0..64).flat_map(|bytes| (b'a'..=b'z').map(move |first| (bytes, first))) {
            for (name, known) in of_length(bytes, first) {
                assert_eq!((name.len(), name.as_bytes()[0]), (bytes, first), "{name}");
                for spelling in [name.to_string(), name.to_uppercase(), name.replace('-', "_")] {
                    assert_eq!(Known::of(spelling.as_bytes()), *known, "{spelling}");
                }
                for other in [format!("{name}x"), format!("a{name}"), name.replace('e', "f")] {
                    assert!(other == *name || Known::of(other.as_bytes()) == Known::Other, "{other}");
                }
                names += 1;
            }
        }
        assert_eq!(names, 34);
    }

    #[test]
    fn whatever_begins_as_a_forwarded_field_is_one() {
        for name in ["x-forwarded", "X-Forwarded-For", "x_forwarded-Proto", "X-FORWARDED_new"] {
            assert_eq!(Known::of(name.as_bytes()), Known::Forwarding, "{name}");
        }
        assert_eq!(Known::of(b"x-forwarde"), Known::Other);
    }
}
