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
    /// Ends at this hop (RFC 9110 §7.6.1), as do [`Self::Connection`], [`Self::TransferEncoding`] and
    /// [`Self::Upgrade`], which are set anew where they apply.
    Hop,
}

impl Known {
    pub(crate) fn of(name: &[u8]) -> Self {
        // Most names differ in their length or first letter from all that are known.
        let first = name.first().map(u8::to_ascii_lowercase);
        let is_name = |known: &str| known.as_bytes().first().copied() == first && has_prefix(name, known);
        match of_length(name.len()).iter().find(|(known, _)| is_name(known)) {
            Some((_, known)) => *known,
            None if is_name("x-forwarded") => Self::Forwarding,
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
                | Self::ProxyCredentials
                | Self::ProxyChallenge
                | Self::Hop
        )
    }
}

/// Every known name with `bytes` bytes: most fields are excluded by their length alone.
fn of_length(bytes: usize) -> &'static [(&'static str, Known)] {
    use Known::{
        Challenge, Connection, ContentLength, Credentials, Expect, Extensions, Forwarding, Hop, Host,
        ProxyChallenge, ProxyCredentials, RealIp, TransferEncoding, Upgrade,
    };
    match bytes {
        2 => &[("te", Hop)],
        4 => &[("host", Host)],
        6 => &[("expect", Expect)],
        // few trailers pass
        7 => &[("upgrade", Upgrade), ("trailer", Hop)],
        9 => &[("x-real-ip", RealIp), ("forwarded", Forwarding), ("client-ip", Forwarding)],
        10 => &[("connection", Connection), ("keep-alive", Hop)],
        11 => &[("x-client-ip", Forwarding)],
        // only the edge sets sanedge-error
        13 => &[
            ("authorization", Credentials),
            ("sanedge-error", Hop),
            ("x-rewrite-url", Forwarding),
            ("forwarded-for", Forwarding),
        ],
        // h2c is not supported
        14 => &[
            ("content-length", ContentLength),
            ("http2-settings", Hop),
            ("true-client-ip", Forwarding),
            ("x-original-url", Forwarding),
            ("cf-pseudo-ipv4", Forwarding),
        ],
        16 => &[
            ("www-authenticate", Challenge),
            ("proxy-connection", Hop),
            ("cf-connecting-ip", Forwarding),
            ("fastly-client-ip", Forwarding),
        ],
        17 => &[("transfer-encoding", TransferEncoding)],
        // the app is not a proxy
        18 => &[("proxy-authenticate", ProxyChallenge), ("cf-connecting-ipv6", Forwarding)],
        19 => &[
            ("proxy-authorization", ProxyCredentials),
            ("x-cluster-client-ip", Forwarding),
            ("x-appengine-user-ip", Forwarding),
        ],
        24 => &[("sec-websocket-extensions", Extensions)],
        25 => &[("proxy-authentication-info", Hop)],
        _ => &[],
    }
}

/// Whether two field names are equal for a server that reads `_` as `-` (CGI); `known` is lower case.
pub(crate) fn same_name(name: &[u8], known: &str) -> bool {
    name.len() == known.len() && has_prefix(name, known)
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
        for bytes in 0..64 {
            for (name, known) in of_length(bytes) {
                assert_eq!(name.len(), bytes, "{name}");
                for spelling in [name.to_string(), name.to_uppercase(), name.replace('-', "_")] {
                    assert_eq!(Known::of(spelling.as_bytes()), *known, "{spelling}");
                }
                for other in [format!("{name}x"), format!("a{name}"), name.replace('e', "f")] {
                    assert!(other == *name || Known::of(other.as_bytes()) == Known::Other, "{other}");
                }
                names += 1;
            }
        }
        assert_eq!(names, 32);
    }

    #[test]
    fn whatever_begins_as_a_forwarded_field_is_one() {
        for name in ["x-forwarded", "X-Forwarded-For", "x_forwarded-Proto", "X-FORWARDED_new"] {
            assert_eq!(Known::of(name.as_bytes()), Known::Forwarding, "{name}");
        }
        assert_eq!(Known::of(b"x-forwarde"), Known::Other);
    }
}
