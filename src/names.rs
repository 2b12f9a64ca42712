//! A DNS name as a type, RFC 9525 matching of certificate names, and web origins (RFC 6454).
//!
//! Knows nothing of where names come from: callers hand in text, this module says whether it is a name and
//! whether one covers another. It refuses what RFC 9525 refuses: partial wildcards, `*` alone, `*.com`, the CN.

use std::fmt;
use std::net::IpAddr;

use heapless::String as Text;

/// Longest DNS name in bytes, without the trailing dot (RFC 1035 §2.3.4).
pub const NAME_BYTES_MAX: usize = 253;

/// A DNS name: lower case, A-labels only, no trailing dot, letters-digits-hyphen (and `_`) labels of 1 to 63 bytes,
/// at least one label, never all-numeric in its last label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsName(Text<NAME_BYTES_MAX>);

/// What a site answers to: a name, or an address literal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// iPAddress.
    Ip(IpAddr),
}

/// Why a text is not a name; `Display` says what was expected and what was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {/* one variant a broken rule, filled in by the implementation */}

/// Scheme, host and port of an `Origin` field (RFC 6454 §6.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// `https` or `http` (others are never equal to a configured one and fail to parse).
    pub https: bool,
    /// Host.
    pub host: Host,
    /// Port, the scheme's default filled in.
    pub port: u16,
}

impl DnsName {
    /// Parses and canonicalises (case, one trailing dot).
    pub fn parse(_text: &str) -> Result<Self, NameError> {
        todo!()
    }
    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Host {
    /// Parses a host as written in sanedge.toml, SNI or a Host field without port: a name, an IPv4 literal, or an
    /// IPv6 literal with or without brackets.
    pub fn parse(_text: &str) -> Result<Self, NameError> {
        todo!()
    }
    /// Parses an authority (`host[:port]`, RFC 9110 §7.2) into host and port.
    pub fn parse_authority(_authority: &str) -> Result<(Self, Option<u16>), NameError> {
        todo!()
    }
}

impl fmt::Display for Host {
    /// IPv6 without brackets.
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}

impl SanName {
    /// Parses a dNSName of a certificate.
    pub fn parse_dns(_text: &str) -> Result<Self, NameError> {
        todo!()
    }
    /// Whether this entry covers `host` (RFC 9525 §6.3): exact, or wildcard for exactly one left-most label.
    pub fn covers(&self, _host: &Host) -> bool {
        todo!()
    }
}

impl Origin {
    /// Parses the serialisation `scheme://host[:port]`; `null` is not an origin here.
    pub fn parse(_text: &str) -> Result<Self, NameError> {
        todo!()
    }
}
