//! What a bundle file holds, in the form in which it lies there; the bounds of its tables.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::bundle::{PostQuantum, SuiteOrder};
use crate::limits::{Drain, Limits, Rules};
use crate::names::Scheme;

/// The first bytes of every bundle.
pub const MAGIC: [u8; 8] = *b"SANEDGE\0";
/// The format that this program reads and writes.
pub const VERSION: u16 = 1;
/// Bytes in front of the payload.
pub const HEADER_BYTES: usize = 46;
/// Largest bundle file: [`CERTIFICATES_MAX`] chains of 4 RSA certificates take half of it.
pub const FILE_BYTES_MAX: usize = 4 << 20;

/// Listening addresses of one kind.
pub const LISTENERS_MAX: usize = 8;
/// Networks in one list of `[listen]` or of the file's top.
pub const NETS_MAX: usize = 32;
/// Certificates: one for each host.
pub const CERTIFICATES_MAX: usize = HOSTS_MAX;
/// Certificates of one chain: rustls's clients follow no longer path.
pub const CHAIN_MAX: usize = 10;
/// SAN entries of all certificates together; public authorities sign up to 100 in one.
pub const NAMES_MAX: usize = 1024;
/// Served hosts.
pub const HOSTS_MAX: usize = 256;
/// Sites.
pub const SITES_MAX: usize = 64;
/// Routes of all sites together.
pub const ROUTES_MAX: usize = 256;
/// Upstreams of all routes together.
pub const UPSTREAMS_MAX: usize = 512;
/// Upstreams of one route.
pub const ROUTE_UPSTREAMS_MAX: usize = 8;
/// Listed origins of all routes together; the site's count for each of its routes.
pub const ORIGINS_MAX: usize = 1024;
/// Client networks in `allow`, of all routes together.
pub const ALLOW_MAX: usize = 512;
/// Fields of responses that all sites together set or remove.
pub const HEADERS_MAX: usize = 256;
/// The same for one site: each field of the app's responses is compared with all of them.
pub const SITE_HEADERS_MAX: usize = 32;
/// Bytes of a file name, label or path.
pub const TEXT_BYTES_MAX: usize = 1024;
/// Bytes of an interface's name (`IFNAMSIZ` less its zero byte).
pub const ZONE_BYTES_MAX: usize = 15;
/// Bytes of a Unix socket's path (`sun_path` less its zero byte).
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// A table with room for `N` rows; boxed, since inline capacity moves with the value and all tables together are more
/// than a thread's stack likes.
pub type Table<T, const N: usize> = Box<heapless::Vec<T, N>>;

/// Everything in a bundle, as it lies in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload<'a> {
    /// Name of the board profile.
    pub board: &'a str,
    /// TLS listeners; at least one.
    pub https: Table<SocketAddr, LISTENERS_MAX>,
    /// Plain listeners.
    pub http: Table<SocketAddr, LISTENERS_MAX>,
    /// Admin listener.
    #[serde(borrow)]
    pub admin: Option<Admin<'a>>,
    /// Index into `hosts`.
    pub default_host: Option<u16>,
    /// The port that clients see.
    pub public_https_port: u16,
    /// Folder of ACME http-01 tokens, absolute.
    pub acme_dir: Option<&'a str>,
    /// Folder of the http-01 tokens of `sanedge renew`, absolute.
    pub challenges: Option<&'a str>,
    /// Peers that must speak the PROXY protocol.
    pub proxy_protocol_from: Table<Net, NETS_MAX>,
    /// Proxies whose X-Forwarded-For is believed.
    pub trusted_proxies: Table<Net, NETS_MAX>,
    /// Networks that no limit by client address holds for.
    pub exempt: Table<Net, NETS_MAX>,
    /// Reload by itself.
    pub watch: bool,
    /// `drain_timeout`, `drain_spread`.
    pub drain: Drain,
    /// `Auto`, `Aes`, `Chacha`: 0, 1, 2.
    pub suite_order: SuiteOrder,
    /// `Auto`, `Prefer`, `Off`: 0, 1, 2.
    pub post_quantum: PostQuantum,
    /// Bounds.
    pub limits: Limits,
    /// Certificates.
    #[serde(borrow)]
    pub certificates: Table<Certificate<'a>, CERTIFICATES_MAX>,
    /// SAN entries, sorted by certificate.
    #[serde(borrow)]
    pub names: Table<CertificateName<'a>, NAMES_MAX>,
    /// Sites.
    #[serde(borrow)]
    pub sites: Table<Site<'a>, SITES_MAX>,
    /// Hosts, sorted: all names by their bytes, then IPv4, then IPv6 addresses.
    #[serde(borrow)]
    pub hosts: Table<HostEntry<'a>, HOSTS_MAX>,
    /// Hosts that wait for their first certificate, sorted likewise; none of them is in `hosts`.
    #[serde(borrow)]
    pub pending: Table<PendingHost<'a>, HOSTS_MAX>,
    /// Routes, sorted by site, then longest path first; no path twice in a site.
    #[serde(borrow)]
    pub routes: Table<Route<'a>, ROUTES_MAX>,
    /// Upstreams, sorted by route, in the order of preference.
    #[serde(borrow)]
    pub upstreams: Table<RouteUpstream<'a>, UPSTREAMS_MAX>,
    /// Allowed origins, sorted by route.
    #[serde(borrow)]
    pub origins: Table<RouteOrigin<'a>, ORIGINS_MAX>,
    /// Allowed client networks, sorted by route.
    pub allow: Table<RouteNet, ALLOW_MAX>,
    /// Fields of responses that sites set or remove, sorted by site, then by their names in lower case; none twice in a site.
    #[serde(borrow)]
    pub headers: Table<SiteHeader<'a>, HEADERS_MAX>,
}

/// Where the admin socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Admin<'a> {
    /// A Unix socket's path, absolute.
    Unix(&'a str),
    /// A loopback address.
    Tcp(SocketAddr),
}

/// A network: address and prefix length. No bit behind the prefix is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Net {
    /// First address.
    pub address: IpAddr,
    /// Prefix length in bits.
    pub prefix: u8,
}

/// A certificate with its chain and key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate<'a> {
    /// The file name it came from.
    pub label: &'a str,
    /// SHA-256 of the absolute paths of its chain and key files, a zero byte between them.
    pub source: [u8; 32],
    /// DER, end-entity first.
    #[serde(borrow)]
    pub chain: Table<&'a [u8], CHAIN_MAX>,
    /// Its key.
    pub key: Key<'a>,
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
}

/// A private key in DER. `Debug` shows its form and length only.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Key<'a> {
    /// PKCS #8 (RFC 5958).
    Pkcs8(&'a [u8]),
    /// SEC 1 (RFC 5915).
    Sec1(&'a [u8]),
    /// PKCS #1 (RFC 8017).
    Pkcs1(&'a [u8]),
}

/// A SAN entry of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateName<'a> {
    /// Index into `certificates`.
    pub certificate: u16,
    /// The entry.
    #[serde(borrow)]
    pub name: SanName<'a>,
}

/// A SAN entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SanName<'a> {
    /// One name.
    Exact(&'a str),
    /// What stands behind `*.`.
    Wildcard(&'a str),
    /// An address.
    Ip(IpAddr),
}

/// A served host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEntry<'a> {
    /// The host.
    #[serde(borrow)]
    pub host: Host<'a>,
    /// Index of its site.
    pub site: u16,
    /// Index into `certificates`.
    pub certificate: u16,
}

/// A host that waits for its first certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingHost<'a> {
    /// The host.
    #[serde(borrow)]
    pub host: Host<'a>,
    /// Index of its site.
    pub site: u16,
}

/// A site, but for its routes and fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site<'a> {
    /// Where its requests are redirected to. Such a site has no routes, and every other one has.
    #[serde(borrow)]
    pub redirect: Option<Redirect<'a>>,
    /// `max-age` of Strict-Transport-Security in seconds.
    pub hsts_s: Option<u32>,
    /// Most plaintext of a record of application data.
    pub record_bytes_max: Option<u16>,
    /// Each request that is redirected gets a line in the access log. Of a site with routes, each route says so itself.
    pub access_log: bool,
}

/// Where a site redirects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redirect<'a> {
    /// Host. Neither this nor that of another redirect leads back to the site.
    #[serde(borrow)]
    pub host: Host<'a>,
    /// Port.
    pub port: u16,
    /// Empty, or a path without a slash at its end.
    pub path: &'a str,
}

/// A field of responses that a site sets or removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteHeader<'a> {
    /// Index of the site.
    pub site: u16,
    /// Name of the field.
    pub name: &'a str,
    /// Its value; without one it is removed.
    pub value: Option<&'a str>,
}

/// A host, in its canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Host<'a> {
    /// A name: lower case, A-labels, no trailing dot.
    Dns(&'a str),
    /// An address.
    Ip(IpAddr),
}

/// Where requests under one path go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route<'a> {
    /// Index of its site.
    pub site: u16,
    /// Path prefix.
    pub path: &'a str,
    /// The upstream gets the path without it.
    pub strip_prefix: bool,
    /// The site's own origins may open WebSockets.
    pub own_origins: bool,
    /// `"*"` was listed.
    pub any_origin: bool,
    /// `"null"` was listed.
    pub null_origin: bool,
    /// Everything that is one value.
    pub rules: Rules,
}

/// An upstream of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteUpstream<'a> {
    /// Index into `routes`.
    pub route: u16,
    /// The upstream.
    #[serde(borrow)]
    pub upstream: Upstream<'a>,
}

/// A local server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Upstream<'a> {
    /// Address and port.
    Address(SocketAddr),
    /// Name and port.
    Name(&'a str, u16),
    /// A Unix socket's path, absolute.
    Unix(&'a str),
    /// Link-local address (fe80::/10), interface, port.
    Zoned(Ipv6Addr, &'a str, u16),
}

/// An origin that may open WebSockets on a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteOrigin<'a> {
    /// Index into `routes`.
    pub route: u16,
    /// The site lists it for all its routes; those come first.
    pub of_site: bool,
    /// The origin.
    #[serde(borrow)]
    pub origin: Origin<'a>,
}

/// An origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin<'a> {
    /// Scheme, host and port.
    Web(Scheme, #[serde(borrow)] Host<'a>, u16),
    /// Any other, as clients send it.
    Other(&'a str),
}

/// A client network that may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteNet {
    /// Index into `routes`.
    pub route: u16,
    /// The network.
    pub net: Net,
}

impl fmt::Debug for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (form, der) = match self {
            Self::Pkcs8(der) => ("Pkcs8", der),
            Self::Sec1(der) => ("Sec1", der),
            Self::Pkcs1(der) => ("Pkcs1", der),
        };
        write!(f, "{form}({} secret bytes)", der.len())
    }
}
