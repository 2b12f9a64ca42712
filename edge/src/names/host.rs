//! A DNS name as a type, and RFC 9525 matching of certificate names.
//!
//! Callers pass text; this module says whether it is a name and whether one name covers another. It refuses what RFC
//! 9525 refuses: partial wildcards, `*` alone, `*.com`, the CN. It has no public-suffix list, so `*.co.uk` is a
//! wildcard like any other; certificate authorities refuse it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use heapless::String as Text;

use crate::excerpt::{Excerpt, number};

/// Longest DNS name in bytes, without the trailing dot (RFC 1035 §2.3.4).
pub const NAME_BYTES_MAX: usize = 253;

/// Longest label of a DNS name in bytes (RFC 1035 §2.3.4).
pub const LABEL_BYTES_MAX: usize = 63;

/// A DNS name: lower case, A-labels only, no trailing dot, letters-digits-hyphen (and `_`) labels of 1 to 63 bytes,
/// at least one label, never numeric in its last label (that would be read as an IPv4 address).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsName(Text<NAME_BYTES_MAX>);

/// What a site answers to: a name, or an address literal.
///
/// The order is total (all names before all addresses), so that sorted tables can be searched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    clippy::large_enum_variant,
    reason = "almost every host is a name, and a name is parsed without allocating"
)]
pub enum Host {
    /// A DNS name.
    Dns(DnsName),
    /// An address, canonical (`::ffff:a.b.c.d` is the IPv4 address).
    Ip(IpAddr),
}

/// One name that a certificate presents (a SAN entry): an exact name, a left-most wildcard, or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SanName {
    /// dNSName without a wildcard.
    Exact(DnsName),
    /// `*.rest`; holds `rest`, which has at least two labels.
    Wildcard(DnsName),
    /// iPAddress, canonical.
    Ip(IpAddr),
}

/// Why a text is not a name; `Display` says what was expected and what was found.
///
/// `name` is the text as found, `label` one label of it, as far as an excerpt shows them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No text, or nothing but a dot.
    #[error("expected a host name, found an empty text")]
    Empty,
    /// Longer than [`NAME_BYTES_MAX`].
    #[error("expected a name of at most {NAME_BYTES_MAX} bytes, found {found} bytes")]
    TooLong {
        /// Bytes found.
        found: usize,
    },
    /// Two dots in a row, or a dot in front.
    #[error("{name:?} has an empty label: expected one dot between labels and no leading dot")]
    EmptyLabel {
        /// The text.
        name: Excerpt,
    },
    /// A label longer than [`LABEL_BYTES_MAX`].
    #[error("label {label:?} has {found} bytes: expected at most {LABEL_BYTES_MAX}")]
    LabelTooLong {
        /// The label.
        label: Excerpt,
        /// Bytes found.
        found: usize,
    },
    /// A label that begins or ends with a hyphen (RFC 1123 §2.1).
    #[error("label {label:?} begins or ends with a hyphen: expected a letter or digit there")]
    HyphenAtEdge {
        /// The label.
        label: Excerpt,
    },
    /// A character that is not allowed in a host name.
    #[error("{name:?} has {character:?} at byte {at}: expected letters, digits, hyphens and dots only")]
    Character {
        /// The text.
        name: Excerpt,
        /// The character.
        character: char,
        /// Its offset in bytes.
        at: usize,
    },
    /// A U-label (RFC 5890 §2.3.2.1): certificates and TLS use A-labels only.
    #[error("{name:?} has letters outside ASCII: write its A-label form, the one that begins with `xn--`")]
    ULabel {
        /// The text.
        name: Excerpt,
    },
    /// A name whose last label is a number: clients read it as an IPv4 address.
    #[error(
        "{name:?} ends in a number, so clients read it as an address: expected a name or four decimal parts"
    )]
    NumericEnd {
        /// The text.
        name: Excerpt,
    },
    /// `*` in a text that must be one name.
    #[error("{name:?} is a wildcard: expected one name; list each host that is served")]
    WildcardHost {
        /// The text.
        name: Excerpt,
    },
    /// `*` alone.
    #[error(
        "a certificate name `*` covers nothing: expected a whole name, or `*.` before at least two labels"
    )]
    WildcardAlone,
    /// `*.com`: a wildcard over a whole top-level domain.
    #[error("{name:?} would cover a whole top-level domain: expected at least two labels after `*.`")]
    WildcardTooBroad {
        /// The text.
        name: Excerpt,
    },
    /// `s*.recre.store` or `a.*.recre.store` (RFC 9525 §6.3: the complete left-most label or nothing).
    #[error(
        "{name:?} is a partial or misplaced wildcard: expected `*` as the complete left-most label (RFC 9525 §6.3)"
    )]
    WildcardPartial {
        /// The text.
        name: Excerpt,
    },
    /// A certificate's dNSName that ends in a dot (RFC 5280 §4.2.1.6 does not allow it; clients differ).
    #[error("certificate name {name:?} ends in a dot: expected none (RFC 5280 §4.2.1.6)")]
    SanTrailingDot {
        /// The text.
        name: Excerpt,
    },
    /// An iPAddress of neither 4 nor 16 bytes (RFC 5280 §4.2.1.6).
    #[error("an iPAddress of {}: expected 4 or 16 (RFC 5280 §4.2.1.6)", number(*.found, "byte"))]
    SanAddressLength {
        /// Bytes found.
        found: usize,
    },
    /// Brackets or colons that are not an IPv6 address.
    #[error("{name:?} is not an IPv6 address: expected one, or a name without scheme and port")]
    Address {
        /// The text.
        name: Excerpt,
    },
    /// Not a port.
    #[error("port {found:?}: expected a number from 1 to 65535")]
    Port {
        /// The text.
        found: Excerpt,
    },
}

impl DnsName {
    /// Parses and canonicalises (case, one trailing dot).
    ///
    /// # Errors
    /// If the text is not a complete host name; the error names the rule.
    #[inline] // so that it is made where it is wanted: each request has one, of 264 bytes
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let name = checked(text)?;
        let mut canonical = Text::new();
        canonical.push_str(name).map_err(|_| NameError::TooLong { found: name.len() })?;
        canonical.make_ascii_lowercase();
        Ok(Self(canonical))
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without its left-most label: `recre.store` for `socket.recre.store`.
    pub fn parent(&self) -> Option<Self> {
        let (_, rest) = self.0.split_once('.')?;
        Text::try_from(rest).ok().map(Self)
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Host {
    /// Parses a host as written in sanedge.toml, SNI or a Host field without port: a name, an IPv4 literal, or an
    /// IPv6 literal with or without brackets.
    ///
    /// # Errors
    /// If the text is neither a name nor an address.
    #[inline]
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if may_be_address(text) {
            if let Some(address) = parse_address(text) {
                return Ok(Self::Ip(address));
            }
            if text.contains([':', '[', ']']) {
                return Err(NameError::Address { name: Excerpt::of(text) });
            }
        }
        DnsName::parse(text).map(Self::Dns)
    }

    /// Parses an authority (`host[:port]`, RFC 9110 §7.2) into host and port. An IPv6 address needs its brackets;
    /// an empty port is none (RFC 3986 §3.2.3).
    ///
    /// # Errors
    /// If host or port is invalid.
    #[inline]
    pub fn parse_authority(authority: &str) -> Result<(Self, Option<u16>), NameError> {
        let (host, port) = split_authority(authority)?;
        let port = match port {
            None | Some("") => None,
            Some(digits) => Some(parse_port(digits)?),
        };
        Ok((Self::parse(host)?, port))
    }

    /// The host as a URI writes it: an IPv6 address in brackets (RFC 3986 §3.2.2).
    pub fn uri_host(&self) -> impl fmt::Display + '_ {
        UriHost(self)
    }

    /// The parent of a name: `recre.store` for `socket.recre.store`. An address has none.
    pub fn parent(&self) -> Option<Self> {
        match self {
            Self::Dns(name) => name.parent().map(Self::Dns),
            Self::Ip(_) => None,
        }
    }
}

impl fmt::Display for Host {
    /// IPv6 without brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => name.fmt(f),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        Self::Ip(address.to_canonical())
    }
}

struct UriHost<'a>(&'a Host);

impl fmt::Display for UriHost<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Host::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
            other => other.fmt(f),
        }
    }
}

impl SanName {
    /// Parses a dNSName of a certificate.
    ///
    /// # Errors
    /// If the text is not a name, or is a wildcard that RFC 9525 §6.3 refuses. Such a SAN entry covers nothing.
    pub fn parse_dns(text: &str) -> Result<Self, NameError> {
        if text.len() > 1 && text.ends_with('.') {
            return Err(NameError::SanTrailingDot { name: Excerpt::of(text) });
        }
        if text == "*" {
            return Err(NameError::WildcardAlone);
        }
        match text.strip_prefix("*.") {
            Some(rest) if !rest.contains('*') => parse_wildcard(rest, text),
            _ if text.contains('*') => Err(NameError::WildcardPartial { name: Excerpt::of(text) }),
            _ => DnsName::parse(text).map(Self::Exact),
        }
    }

    /// Parses the bytes of an iPAddress (RFC 5280 §4.2.1.6).
    ///
    /// # Errors
    /// If there are neither 4 nor 16 bytes.
    pub fn parse_ip(bytes: &[u8]) -> Result<Self, NameError> {
        let v4 = <[u8; 4]>::try_from(bytes).map(|octets| IpAddr::V4(Ipv4Addr::from(octets)));
        let v6 = || <[u8; 16]>::try_from(bytes).map(|octets| IpAddr::V6(Ipv6Addr::from(octets)));
        let address = v4.or_else(|_| v6()).map_err(|_| NameError::SanAddressLength { found: bytes.len() })?;
        Ok(Self::Ip(address.to_canonical()))
    }

    /// Whether this entry covers `host` (RFC 9525 §6.3): exact, or wildcard for exactly one left-most label. A name
    /// never covers an address, nor an address a name.
    pub fn covers(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Exact(name), Host::Dns(host)) => name == host,
            (Self::Wildcard(rest), Host::Dns(host)) => {
                host.0.split_once('.').is_some_and(|(_, r)| r == rest.0)
            }
            (Self::Ip(address), Host::Ip(host)) => address.to_canonical() == host.to_canonical(),
            _ => false,
        }
    }
}

impl fmt::Display for SanName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::Wildcard(rest) => write!(f, "*.{rest}"),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

fn parse_wildcard(rest: &str, whole: &str) -> Result<SanName, NameError> {
    let name = DnsName::parse(rest)?;
    // `*.` and the longest name together would be longer than a name can be.
    if whole.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong { found: whole.len() });
    }
    if name.0.contains('.') {
        Ok(SanName::Wildcard(name))
    } else {
        Err(NameError::WildcardTooBroad { name: Excerpt::of(whole) })
    }
}

/// The name without a dot at its end, once nothing is wrong with it but perhaps its length.
fn checked(text: &str) -> Result<&str, NameError> {
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    check_characters(name)?;
    // As bytes: each request has a host, and a character search costs more than a short name.
    let mut labels = name.as_bytes().split(|&byte| byte == b'.');
    labels.clone().try_for_each(|label| check_label(label, name))?;
    match labels.next_back().is_some_and(is_number) {
        true => Err(NameError::NumericEnd { name: Excerpt::of(name) }),
        false => Ok(name),
    }
}

fn check_characters(name: &str) -> Result<(), NameError> {
    let odd = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if name.bytes().all(|byte| !odd(char::from(byte))) {
        return Ok(()); // the usual case, without decoding
    }
    match name.char_indices().find(|(_, c)| odd(*c)) {
        None => Ok(()),
        Some((_, '*')) => Err(NameError::WildcardHost { name: Excerpt::of(name) }),
        Some((_, c)) if !c.is_ascii() => Err(NameError::ULabel { name: Excerpt::of(name) }),
        Some((at, character)) => Err(NameError::Character { name: Excerpt::of(name), character, at }),
    }
}

fn check_label(label: &[u8], name: &str) -> Result<(), NameError> {
    if label.is_empty() {
        Err(NameError::EmptyLabel { name: Excerpt::of(name) })
    } else if label.len() > LABEL_BYTES_MAX {
        Err(NameError::LabelTooLong { label: Excerpt::of_bytes(label), found: label.len() })
    } else if label.starts_with(b"-") || label.ends_with(b"-") {
        Err(NameError::HyphenAtEdge { label: Excerpt::of_bytes(label) })
    } else {
        Ok(())
    }
}

/// Whether a URL parser takes a last label for a part of an IPv4 address (WHATWG URL, "ends in a number").
fn is_number(label: &[u8]) -> bool {
    let hexadecimal = label.strip_prefix(b"0x").or_else(|| label.strip_prefix(b"0X"));
    label.iter().all(u8::is_ascii_digit)
        || hexadecimal.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
}

/// Whether a text is more than a plain name: an IPv4 address begins with a digit, an IPv6 address contains colons.
fn may_be_address(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
        || text.bytes().any(|byte| matches!(byte, b':' | b'[' | b']'))
}

fn parse_address(text: &str) -> Option<IpAddr> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = match inner {
        Some(inner) => inner.parse::<Ipv6Addr>().map(IpAddr::V6),
        None => text.parse::<IpAddr>(),
    };
    address.ok().map(|address| address.to_canonical())
}

/// Splits at the port's colon; colons of an IPv6 address are inside brackets.
fn split_authority(authority: &str) -> Result<(&str, Option<&str>), NameError> {
    let refuse = || NameError::Address { name: Excerpt::of(authority) };
    if !authority.starts_with('[') {
        let Some(colon) = authority.bytes().position(|byte| byte == b':') else {
            return Ok((authority, None));
        };
        return match (authority.get(..colon), authority.get(colon + 1..)) {
            (Some(host), Some(port)) if !port.contains(':') => Ok((host, Some(port))),
            _ => Err(refuse()),
        };
    }
    let end = authority.find(']').ok_or_else(refuse)?;
    let (host, rest) = authority.split_at(end + 1);
    match rest.strip_prefix(':') {
        Some(port) => Ok((host, Some(port))),
        None if rest.is_empty() => Ok((host, None)),
        None => Err(refuse()),
    }
}

fn parse_port(digits: &str) -> Result<u16, NameError> {
    let refuse = || NameError::Port { found: Excerpt::of(digits) };
    // At most five digits, and no sign, which `parse` would accept.
    if digits.len() > 5 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(refuse());
    }
    digits.parse().ok().filter(|port| *port != 0).ok_or_else(refuse)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Host {
        Host::parse(text).unwrap()
    }

    /// Certificate name, host, covered? The traps of RFC 9525 §6.
    const COVERS: [(&str, &str, bool); 24] = [
        ("recre.store", "recre.store", true),
        ("recre.store", "socket.recre.store", false),
        ("socket.recre.store", "recre.store", false),
        ("recre.store", "evilrecre.store", false),
        ("evilrecre.store", "recre.store", false),
        ("*.recre.store", "a.recre.store", true),
        ("*.recre.store", "recre.store", false),
        ("*.recre.store", "a.b.recre.store", false),
        ("*.recre.store", "evilrecre.store", false),
        ("*.recre.store", "a.evilrecre.store", false),
        ("*.b.recre.store", "a.b.recre.store", true),
        ("Recre.STORE", "reCRE.store", true),
        ("*.RECRE.store", "A.recre.Store", true),
        ("recre.store", "recre.store.", true),
        ("*.recre.store", "a.recre.store.", true),
        ("xn--bcher-kva.example", "XN--BCHER-KVA.example", true),
        ("*.example.org", "xn--bcher-kva.example.org", true),
        ("xn--bcher-kva.example", "bcher-kva.example", false),
        ("_dmarc.recre.store", "_dmarc.recre.store", true),
        ("localhost", "localhost", true),
        ("localhost", "localhost.localdomain", false),
        ("recre.store", "192.168.0.10", false),
        ("*.0.0.example", "127.0.0.1", false),
        ("recre.store", "recre.stor", false),
    ];

    #[test]
    fn a_certificate_name_covers_what_rfc_9525_says() {
        for (san, name, covered) in COVERS {
            let entry = SanName::parse_dns(san).unwrap();
            assert_eq!(entry.covers(&host(name)), covered, "{san} for {name}");
        }
    }

    #[test]
    fn an_address_is_covered_by_an_address_only() {
        let v4 = SanName::parse_ip(&[192, 168, 0, 10]).unwrap();
        let mapped = SanName::parse_ip(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 168, 0, 10]).unwrap();
        for entry in [v4, mapped] {
            assert!(entry.covers(&host("192.168.0.10")));
            assert!(entry.covers(&host("[::ffff:192.168.0.10]")));
            assert!(entry.covers(&Host::Ip("::ffff:192.168.0.10".parse().unwrap())));
            assert!(!entry.covers(&host("192.168.0.11")));
            assert!(!entry.covers(&host("recre.store")));
        }
        assert_eq!(SanName::parse_ip(&[1, 2, 3]), Err(NameError::SanAddressLength { found: 3 }));
        assert!(matches!(SanName::parse_dns("192.168.0.10"), Err(NameError::NumericEnd { .. })));
    }

    #[test]
    fn certificate_names_that_cover_nothing_are_refused() {
        assert_eq!(SanName::parse_dns("*"), Err(NameError::WildcardAlone));
        for broad in ["*.com", "*.store", "*.localhost"] {
            assert!(matches!(SanName::parse_dns(broad), Err(NameError::WildcardTooBroad { .. })), "{broad}");
        }
        for partial in [
            "s*.recre.store",
            "*s.recre.store",
            "s*t.recre.store",
            "a.*.store",
            "*.*.store",
            "**.recre.store",
            "recre.*",
        ] {
            assert!(
                matches!(SanName::parse_dns(partial), Err(NameError::WildcardPartial { .. })),
                "{partial}"
            );
        }
        for dot in ["recre.store.", "*.recre.store."] {
            assert!(matches!(SanName::parse_dns(dot), Err(NameError::SanTrailingDot { .. })), "{dot}");
        }
        let nul = SanName::parse_dns("recre.store\0.evil.example");
        assert!(matches!(nul, Err(NameError::Character { character: '\0', at: 11, .. })), "{nul:?}");
        assert_eq!(SanName::parse_dns(""), Err(NameError::Empty));
        assert!(matches!(SanName::parse_dns("*."), Err(NameError::SanTrailingDot { .. })));
        assert!(SanName::parse_dns("*..recre.store").is_err());
        assert!(matches!(SanName::parse_dns("bücher.example"), Err(NameError::ULabel { .. })));
    }

    #[test]
    fn a_u_label_gets_the_advice_to_use_its_a_label() {
        let sentence = Host::parse("bücher.example").unwrap_err().to_string();
        assert!(sentence.contains("bücher.example") && sentence.contains("xn--"), "{sentence}");
        assert_eq!(host("xn--bcher-kva.example").to_string(), "xn--bcher-kva.example");
    }

    #[test]
    fn names_are_canonical_and_bounded() {
        assert_eq!(DnsName::parse("Socket.Recre.Store.").unwrap().as_str(), "socket.recre.store");
        assert_eq!(DnsName::parse(""), Err(NameError::Empty));
        assert_eq!(DnsName::parse("."), Err(NameError::Empty));
        for empty in ["a..b", ".a", "a..", ".."] {
            assert!(matches!(DnsName::parse(empty), Err(NameError::EmptyLabel { .. })), "{empty}");
        }
        for hyphen in ["-a.b", "a-.b", "a.-b"] {
            assert!(matches!(DnsName::parse(hyphen), Err(NameError::HyphenAtEdge { .. })), "{hyphen}");
        }
        for odd in ["a b", "a/b", "a\nb", "a:b", "a@b", "a%62", "\u{7f}a"] {
            assert!(matches!(DnsName::parse(odd), Err(NameError::Character { .. })), "{odd:?}");
        }
        for number in ["1.2.3", "1.2.3.4.5", "256.1.1.1", "a.1", "0x7f.1", "0x7f000001", "a.0x", "123"] {
            assert!(matches!(Host::parse(number), Err(NameError::NumericEnd { .. })), "{number}");
        }
        assert!(matches!(DnsName::parse("*.a.b"), Err(NameError::WildcardHost { .. })));
        assert!(DnsName::parse("3com.example.3com").is_ok());
    }

    #[test]
    fn label_and_name_lengths_have_twins() {
        let label = |n: usize| "a".repeat(n);
        assert!(DnsName::parse(&label(63)).is_ok());
        assert!(matches!(DnsName::parse(&label(64)), Err(NameError::LabelTooLong { found: 64, .. })));
        let stem = format!("{0}.{0}.{0}.", label(63));
        let longest = format!("{stem}{}", label(61));
        assert_eq!(longest.len(), NAME_BYTES_MAX);
        assert!(DnsName::parse(&longest).is_ok());
        assert!(DnsName::parse(&format!("{longest}.")).is_ok());
        assert_eq!(DnsName::parse(&format!("{stem}{}", label(62))), Err(NameError::TooLong { found: 254 }));
        assert!(SanName::parse_dns(&format!("*.{stem}{}", label(59))).is_ok());
        assert_eq!(
            SanName::parse_dns(&format!("*.{stem}{}", label(60))),
            Err(NameError::TooLong { found: 254 })
        );
    }

    #[test]
    fn an_error_is_bounded_whatever_was_sent() {
        let long = "é".repeat(10_000);
        let NameError::ULabel { name } = DnsName::parse(&long).unwrap_err() else { panic!("not a U-label") };
        assert_eq!(name.chars().count(), crate::excerpt::CHARS_MAX);
    }

    #[test]
    fn addresses_are_canonical() {
        assert_eq!(host("::ffff:192.0.2.1"), host("192.0.2.1"));
        assert_eq!(host("[2001:DB8::1]"), host("2001:db8:0:0:0:0:0:1"));
        assert_eq!(host("[::1]").to_string(), "::1");
        assert_eq!(host("::1").uri_host().to_string(), "[::1]");
        assert_eq!(host("192.0.2.1").uri_host().to_string(), "192.0.2.1");
        for bad in
            ["[192.0.2.1]", "[::1", "::1]", "fe80::1%eth0", "[]", "recre.store:443", "https://recre.store"]
        {
            assert!(matches!(Host::parse(bad), Err(NameError::Address { .. })), "{bad}");
        }
        assert!(Host::parse("192.0.2.01").is_err(), "a leading zero is octal to some");
    }

    #[test]
    fn an_authority_is_a_host_and_perhaps_a_port() {
        let good = [
            ("recre.store", "recre.store", None),
            ("Recre.Store.:8443", "recre.store", Some(8443)),
            ("recre.store:", "recre.store", None),
            ("192.0.2.1:1", "192.0.2.1", Some(1)),
            ("[::1]", "::1", None),
            ("[::1]:65535", "::1", Some(65535)),
        ];
        for (text, name, port) in good {
            assert_eq!(Host::parse_authority(text), Ok((host(name), port)), "{text}");
        }
        for bad in [
            "::1", "[::1]x", "[::1", "a:0", "a:65536", "a:+1", "a:0x1", "a:1:2", ":443", "", "a:000443",
            "u@a", "a/b",
        ] {
            assert!(Host::parse_authority(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_have_a_parent_and_a_total_order() {
        assert_eq!(host("socket.recre.store").parent(), Some(host("recre.store")));
        assert_eq!(host("localhost").parent(), None);
        assert_eq!(host("192.0.2.1").parent(), None);
        let mut hosts = ["b.a", "::1", "a.b", "192.0.2.1", "a", "a.b.c"].map(host);
        hosts.sort();
        assert_eq!(
            hosts.each_ref().map(ToString::to_string),
            ["a", "a.b", "a.b.c", "b.a", "192.0.2.1", "::1"]
        );
        for (at, wanted) in hosts.iter().enumerate() {
            assert_eq!(hosts.binary_search(wanted), Ok(at));
        }
    }

    proptest::proptest! {
        #[test]
        fn what_parses_parses_again_to_the_same(text in "\\PC{0,40}|[a-zA-Z0-9.*:\\[\\]-]{0,40}") {
            if let Ok(name) = Host::parse(&text) {
                proptest::prop_assert_eq!(Host::parse(&name.to_string()).unwrap(), name.clone());
                proptest::prop_assert_eq!(Host::parse_authority(&name.uri_host().to_string()).unwrap(), (name, None));
            }
        }
    }
}
