//! Format 2 of the bundle file, byte by byte; encoding, decoding, and every rule that a decoded bundle keeps.
//!
//! # The file
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | magic, `SANEDGE` and a zero byte |
//! | 8 | 2 | format version, little endian: 2 |
//! | 10 | 4 | length of the payload, little endian; the file ends behind it; the whole file is at most [`FILE_BYTES_MAX`] |
//! | 14 | 32 | SHA-256 of the payload |
//! | 46 | length | payload |
//!
//! # The payload
//!
//! One [`Payload`] in [postcard's wire format](https://postcard.jamesmunns.com/wire-format): fields follow each other in
//! the order of the struct, without names, padding or alignment.
//!
//! - `u16`, `u32`, `u64`, lengths and variant numbers: LEB128 varint (seven bits a byte, least significant first, top
//!   bit set on all but the last byte). `i64`: zigzag (0, -1, 1, -2 are 0, 1, 2, 3), then varint.
//! - `u8`: the byte. `bool`: a byte 0 or 1. `Option`: a byte 0, or 1 and the value.
//! - `&str`, `&[u8]`: length, then the bytes (UTF-8 for `&str`). `Vec<T, N>`: count (at most N), then the elements.
//! - `enum`: variant number, counted from 0 as declared here, then the variant's fields.
//! - `Ipv6Addr`: 16 bytes, network order. `IpAddr`: 0 and 4 bytes, or 1 and 16 bytes. `SocketAddr`: 0 or 1, the address bytes, port as varint.
//!
//! Tables are flat, so that decoding needs little memory: a row that belongs to a route or a certificate carries that
//! one's index, and the rows of such a table are sorted by it. Nothing is read past a table's capacity, and capacity is
//! the documented bound. Decoding borrows texts and keys from the loaded file.
//!
//! # The rules
//!
//! A file whose digest is right can still be one that no `sanedge bundle` ever wrote. [`Bundle::decode`] therefore checks
//! again what `compile` promised, each rule a variant of [`Broken`]: indexes in range, hosts sorted and unique and each
//! covered by a recorded name of its certificate, no site without host or route, no route without upstream, paths that
//! begin with `/`, chains that are not empty, keys that belong to their certificates, limits and durations in range.
//!
//! The format changes only together with its version: `tests/data/golden/` holds a file of it. Format 1, which no release
//! wrote, had neither `exempt` nor the limits by address, of rates, `requests_max` and `body_bytes_per_s_min`; a file of it is
//! refused as [`FormatError::Older`].

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::bundle::{self, Bundle, KeyError, SuiteOrder};
use crate::excerpt::Excerpt;
use crate::limits::{self, LimitError, Limits, Range};
use crate::names::{self, DnsName, NameError, Scheme};

/// The first bytes of every bundle.
pub const MAGIC: [u8; 8] = *b"SANEDGE\0";
/// The format that this program reads and writes.
pub const VERSION: u16 = 2;
/// Bytes in front of the payload.
pub const HEADER_BYTES: usize = 46;
/// Largest bundle file: [`CERTIFICATES_MAX`] chains of 4 RSA certificates take a third of it.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// Listening addresses of one kind.
pub const LISTENERS_MAX: usize = 8;
/// Networks in one list of `[listen]` or of the file's top.
pub const NETS_MAX: usize = 32;
/// Certificates.
pub const CERTIFICATES_MAX: usize = 64;
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
    /// Peers that must speak the PROXY protocol.
    pub proxy_protocol_from: Table<Net, NETS_MAX>,
    /// Proxies whose X-Forwarded-For is believed.
    pub trusted_proxies: Table<Net, NETS_MAX>,
    /// Networks that no limit by client address holds for.
    pub exempt: Table<Net, NETS_MAX>,
    /// Reload by itself.
    pub watch: bool,
    /// Milliseconds.
    pub drain_timeout_ms: u32,
    /// Milliseconds.
    pub drain_spread_ms: u32,
    /// `Auto`, `Aes`, `Chacha`: 0, 1, 2.
    pub suite_order: SuiteOrder,
    /// Bounds, in the order of [`Limits`]: the fields `workers`, `fields_max` and `pool_idle_max` are `u16`, the others
    /// `u32`.
    pub limits: Limits,
    /// Certificates.
    #[serde(borrow)]
    pub certificates: Table<Certificate<'a>, CERTIFICATES_MAX>,
    /// SAN entries, sorted by certificate.
    #[serde(borrow)]
    pub names: Table<CertificateName<'a>, NAMES_MAX>,
    /// How many sites there are.
    pub sites: u16,
    /// Hosts, sorted: all names by their bytes, then IPv4, then IPv6 addresses.
    #[serde(borrow)]
    pub hosts: Table<HostEntry<'a>, HOSTS_MAX>,
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

/// A host, in its canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Host<'a> {
    /// A name: lower case, A-labels, no trailing dot.
    Dns(&'a str),
    /// An address.
    Ip(IpAddr),
}

/// Where requests under one path go. The fields mean what they mean in [`bundle::Route`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the names are those of `bundle::Route`; a second description could only differ"
)]
pub struct Route<'a> {
    pub site: u16,
    pub path: &'a str,
    pub strip_prefix: bool,
    pub own_origins: bool,
    pub any_origin: bool,
    pub null_origin: bool,
    pub require_origin: bool,
    pub response_timeout_ms: u32,
    pub idle_timeout_ms: Option<u32>,
    pub ping_interval_ms: Option<u32>,
    pub frame_bytes_max: Option<u64>,
    pub message_bytes_max: Option<u64>,
    pub body_bytes_max: Option<u64>,
    pub check_utf8: bool,
    pub send_proxy_protocol: Option<u8>,
    pub access_log: bool,
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

/// Why bytes are not a bundle that this program can use.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FormatError {
    /// Another kind of file.
    #[error("not a bundle: expected it to begin with \"SANEDGE\\0\", found {:?}; give the file that `sanedge bundle` wrote (if this is a sanedge.toml, type `sanedge bundle sanedge.toml` first)", Excerpt::of(&.found.escape_ascii().to_string()))]
    Magic {
        /// The first bytes, at most eight.
        found: Vec<u8>,
    },
    /// Compiled by a newer sanedge.
    #[error(
        "compiled by a newer sanedge: expected format {VERSION}, found {found}; update this sanedge, or compile the bundle again with it"
    )]
    Newer {
        /// The version found.
        found: u16,
    },
    /// Compiled by an older sanedge.
    #[error(
        "compiled by an older sanedge: expected format {VERSION}, found {found}; compile it again with `sanedge bundle`"
    )]
    Older {
        /// The version found.
        found: u16,
    },
    /// Shorter or longer than its header says: a copy that was cut off, or two files in one.
    #[error("the wrong length: expected {expected} bytes, found {found}; copy or compile the file again")]
    Length {
        /// Bytes that the header asks for; those of the header itself where it is not whole.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// Larger than any bundle.
    #[error("too large: expected at most {FILE_BYTES_MAX} bytes, found {found}")]
    TooLarge {
        /// Bytes found.
        found: u64,
    },
    /// The payload is not what was written.
    #[error("damaged: its SHA-256 does not match its content; copy or compile the file again")]
    Digest,
    /// The digest is right and yet the payload cannot be read.
    #[error("complete, but not format {VERSION} ({0}); compile it again with `sanedge bundle`")]
    Encoding(postcard::Error),
    /// Bytes behind the payload's last field.
    #[error(
        "complete, but {bytes} bytes too long for format {VERSION}; compile it again with `sanedge bundle`"
    )]
    Trailing {
        /// Bytes that nothing reads.
        bytes: usize,
    },
    /// A rule of the format is broken.
    #[error("complete, but `sanedge bundle` of this version does not write it: {0}; compile it again")]
    Broken(#[from] Broken),
}

/// A rule that `compile` promises and a file breaks.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Broken {
    /// A row points outside a table.
    #[error("{field} is {index}: expected less than {len}")]
    Index {
        /// Which field.
        field: &'static str,
        /// What it says.
        index: usize,
        /// Rows of the table that it points into.
        len: usize,
    },
    /// A table that needs a row has none.
    #[error("{table} is empty: expected at least one row")]
    Empty {
        /// Which table.
        table: &'static str,
    },
    /// More rows than allowed belong to one thing.
    #[error("{table} has {found} rows: expected at most {max}")]
    TooMany {
        /// Which table.
        table: &'static str,
        /// Rows found.
        found: usize,
        /// Rows allowed.
        max: usize,
    },
    /// Rows out of order, or the same one twice.
    #[error("{table} has row {at} out of order, or twice")]
    Order {
        /// Which table.
        table: &'static str,
        /// Index of the row.
        at: usize,
    },
    /// Something that nothing uses.
    #[error("{table} has row {at}, which nothing uses")]
    Unused {
        /// Which table.
        table: &'static str,
        /// Index of the row.
        at: usize,
    },
    /// A text that is not what its field holds.
    #[error("{field} is {found:?}: expected {expected}")]
    Text {
        /// Which field.
        field: &'static str,
        /// The text.
        found: Excerpt,
        /// What it holds otherwise.
        expected: &'static str,
    },
    /// A number that its field may not have.
    #[error("{field} is {found}: expected {expected}")]
    Number {
        /// Which field.
        field: &'static str,
        /// The number.
        found: i64,
        /// What it is otherwise.
        expected: &'static str,
    },
    /// An address or network that its field may not have.
    #[error("{field} has {found}: expected {expected}")]
    Address {
        /// Which field.
        field: &'static str,
        /// The address.
        found: String,
        /// What it is otherwise.
        expected: &'static str,
    },
    /// Not a name.
    #[error("{field}: {error}")]
    Name {
        /// Which field.
        field: &'static str,
        /// By which rule.
        error: NameError,
    },
    /// A host whose certificate does not cover it.
    #[error("host `{host}` has the certificate `{certificate}`, which covers only {}", list(.names))]
    NotCovered {
        /// The host.
        host: String,
        /// The certificate's label.
        certificate: Excerpt,
        /// What it covers.
        names: Vec<String>,
    },
    /// A limit out of range.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// A key that ring does not take.
    #[error("certificate `{certificate}`: {error}")]
    Key {
        /// The certificate's label.
        certificate: Excerpt,
        /// Why not.
        error: KeyError,
    },
    /// A key of another certificate, or a certificate that rustls cannot read.
    #[error("certificate `{certificate}`: expected its own key: {error}")]
    KeyMismatch {
        /// The certificate's label.
        certificate: Excerpt,
        /// rustls's word.
        error: rustls::Error,
    },
}

/// Why a bundle cannot be written.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EncodeError {
    /// A table has no room.
    #[error("too many {table}: expected at most {max}, found {found}")]
    TooMany {
        /// Which table.
        table: &'static str,
        /// Rows found.
        found: usize,
        /// Rows that there is room for.
        max: usize,
    },
    /// More than [`FILE_BYTES_MAX`].
    #[error("the bundle would be larger than {FILE_BYTES_MAX} bytes: remove certificates that no host needs")]
    TooLarge,
    /// A path that is not UTF-8.
    #[error("{field}: the path {} is not UTF-8; rename it", Excerpt::of_path(.path))]
    Path {
        /// Which field.
        field: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// A duration that milliseconds in 32 bits cannot hold.
    #[error("{field}: {found:?} is too long: expected at most 49 days")]
    Duration {
        /// Which field.
        field: &'static str,
        /// The duration.
        found: Duration,
    },
    /// Not one key for each certificate.
    #[error("{keys} keys for {certificates} certificates: expected one each, in the same order")]
    Keys {
        /// Keys given.
        keys: usize,
        /// Certificates in the bundle.
        certificates: usize,
    },
    /// A key in a form that the format has no word for.
    #[error("certificate `{certificate}`: expected its key in PKCS #8, SEC 1 or PKCS #1")]
    KeyForm {
        /// The certificate's label.
        certificate: Excerpt,
    },
    /// What was written does not read back as what was meant.
    #[error("the bundle does not read back: {0}")]
    Check(FormatError),
    /// As [`EncodeError::Check`], with another content.
    #[error("the bundle reads back differently: this is a bug in sanedge")]
    Differs,
}

/// Writes a payload as a bundle file, and reads it back to prove that `open` will take it.
///
/// # Errors
/// Where the file would be too large, or breaks a rule of the format.
pub fn encode(payload: &Payload<'_>) -> Result<Zeroizing<Vec<u8>>, EncodeError> {
    let file = write(payload)?;
    if body(&file).and_then(read).map_err(EncodeError::Check)? != *payload {
        return Err(EncodeError::Differs);
    }
    decode(&file).map_err(EncodeError::Check)?;
    Ok(file)
}

/// Header and payload, unchecked. The buffer has its final size from the start: one that grows leaves copies of keys.
fn write(payload: &Payload<'_>) -> Result<Zeroizing<Vec<u8>>, EncodeError> {
    let mut file = Zeroizing::new(vec![0; FILE_BYTES_MAX]);
    let (head, room) = file.split_at_mut(HEADER_BYTES);
    let body = postcard::to_slice(payload, room).map_err(|_| EncodeError::TooLarge)?;
    let length = body.len();
    head.copy_from_slice(&header(body));
    file.truncate(HEADER_BYTES + length);
    Ok(file)
}

/// The header that belongs to a payload of at most [`FILE_BYTES_MAX`].
fn header(body: &[u8]) -> [u8; HEADER_BYTES] {
    let mut head = [0; HEADER_BYTES];
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
    let digest = sha256(body);
    let parts = MAGIC.into_iter().chain(VERSION.to_le_bytes()).chain(length).chain(digest);
    head.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
    head
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    digest
}

/// Reads a bundle file.
pub(super) fn decode(file: &[u8]) -> Result<Bundle, FormatError> {
    let body = body(file)?;
    Ok(assemble(&read(body)?, sha256(body))?)
}

/// Magic, version, length and digest, in this order: each is said of a file that the ones before hold for.
/// The same with the private keys, in the order of the certificates.
pub(super) fn decode_with_keys(file: &[u8]) -> Result<(Bundle, Vec<PrivateKeyDer<'static>>), FormatError> {
    let bundle = decode(file)?;
    let payload = read(body(file)?)?;
    let keys = payload.certificates.iter().map(|certificate| certificate.key.der().clone_key()).collect();
    Ok((bundle, keys))
}

fn body(file: &[u8]) -> Result<&[u8], FormatError> {
    if !file.starts_with(&MAGIC) {
        let found = file.iter().copied().take(MAGIC.len()).collect::<Vec<_>>();
        let cut_off = !found.is_empty() && MAGIC.starts_with(&found);
        return Err(if cut_off { short(file) } else { FormatError::Magic { found } });
    }
    let (_, rest) = file.split_first_chunk::<8>().ok_or_else(|| short(file))?;
    let (version, rest) = rest.split_first_chunk().ok_or_else(|| short(file))?;
    match u16::from_le_bytes(*version) {
        found if found > VERSION => return Err(FormatError::Newer { found }),
        found if found < VERSION => return Err(FormatError::Older { found }),
        _ => {}
    }
    if file.len() > FILE_BYTES_MAX {
        return Err(FormatError::TooLarge { found: file.len() as u64 });
    }
    let (length, rest) = rest.split_first_chunk().ok_or_else(|| short(file))?;
    let (digest, body) = rest.split_first_chunk::<32>().ok_or_else(|| short(file))?;
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if body.len() != length {
        return Err(FormatError::Length { expected: length.saturating_add(HEADER_BYTES), found: file.len() });
    }
    if sha256(body) == *digest { Ok(body) } else { Err(FormatError::Digest) }
}

fn short(file: &[u8]) -> FormatError {
    FormatError::Length { expected: HEADER_BYTES, found: file.len() }
}

fn read(body: &[u8]) -> Result<Payload<'_>, FormatError> {
    match postcard::take_from_bytes::<Payload<'_>>(body) {
        Ok((payload, [])) => Ok(payload),
        Ok((_, rest)) => Err(FormatError::Trailing { bytes: rest.len() }),
        Err(error) => Err(FormatError::Encoding(error)),
    }
}

/// Turns a payload into what serving wants, and checks every rule on the way.
fn assemble(payload: &Payload<'_>, digest: [u8; 32]) -> Result<Bundle, Broken> {
    payload.limits.check()?;
    let certificates = certificates(payload)?;
    let hosts = hosts(payload, &certificates)?;
    let drain = |range: &Range, ms: u32| range.check(ms.into()).map(Duration::from_millis);
    Ok(Bundle {
        board: Excerpt::of(&text("board", payload.board)?),
        listen: listen(payload)?,
        trusted_proxies: nets("trusted_proxies", &payload.trusted_proxies, 1)?,
        exempt: nets("exempt", &payload.exempt, 0)?,
        watch: payload.watch,
        drain_timeout: drain(&limits::DRAIN_TIMEOUT, payload.drain_timeout_ms)?,
        drain_spread: drain(&limits::DRAIN_SPREAD, payload.drain_spread_ms)?,
        suite_order: payload.suite_order,
        limits: payload.limits.clone(),
        certificates,
        sites: sites(payload)?,
        hosts,
        digest,
    })
}

fn listen(payload: &Payload<'_>) -> Result<bundle::Listen, Broken> {
    if payload.https.is_empty() {
        return Err(Broken::Empty { table: "https" });
    }
    let all = || payload.https.iter().chain(payload.http.iter());
    for (at, address) in all().enumerate() {
        if address.port() != 0 && all().take(at).any(|earlier| earlier == address) {
            return Err(Broken::Order { table: "https and http", at });
        }
    }
    let default_host = payload.default_host.map(|host| index("default_host", host, payload.hosts.len()));
    default_host.transpose()?;
    Ok(bundle::Listen {
        https: payload.https.to_vec(),
        http: payload.http.to_vec(),
        admin: payload.admin.map(admin).transpose()?,
        default_host: payload.default_host,
        public_https_port: port("public_https_port", payload.public_https_port)?,
        acme_dir: payload.acme_dir.map(|path| absolute("acme_dir", path, TEXT_BYTES_MAX)).transpose()?,
        proxy_protocol_from: nets("proxy_protocol_from", &payload.proxy_protocol_from, 1)?,
    })
}

fn admin(admin: Admin<'_>) -> Result<bundle::Admin, Broken> {
    match admin {
        Admin::Unix(path) => Ok(bundle::Admin::Unix(absolute("admin", path, SOCKET_PATH_BYTES_MAX)?)),
        Admin::Tcp(address) if address.ip().to_canonical().is_loopback() => Ok(bundle::Admin::Tcp(address)),
        Admin::Tcp(address) => Err(Broken::Address {
            field: "admin",
            found: address.to_string(),
            expected: "a loopback address",
        }),
    }
}

fn certificates(payload: &Payload<'_>) -> Result<Vec<bundle::Certificate>, Broken> {
    ordered("names", payload.names.iter().map(|row| row.certificate))?;
    for row in payload.names.iter() {
        index("names.certificate", row.certificate, payload.certificates.len())?;
    }
    let certificates =
        payload.certificates.iter().enumerate().map(|(at, certificate)| load(payload, at, certificate));
    certificates.collect()
}

fn load(
    payload: &Payload<'_>,
    at: usize,
    certificate: &Certificate<'_>,
) -> Result<bundle::Certificate, Broken> {
    let label = label(&text("certificates.label", certificate.label)?);
    let names = payload.names.iter().filter(|row| usize::from(row.certificate) == at);
    let names = names.map(|row| row.name.parse()).collect::<Result<Vec<_>, _>>()?;
    if names.is_empty() {
        return Err(Broken::Empty { table: "names" });
    }
    if certificate.not_after < certificate.not_before {
        return Err(Broken::Number {
            field: "certificates.not_after",
            found: certificate.not_after,
            expected: "not_before or later",
        });
    }
    let key = certified_key(certificate)?;
    let (not_before, not_after) = (certificate.not_before, certificate.not_after);
    let source = certificate.source;
    Ok(bundle::Certificate { label, source, names, not_before, not_after, key: Arc::new(key) })
}

fn label(text: &str) -> Excerpt {
    Excerpt::of_path(Path::new(text))
}

/// Copies the chain, hands the key to ring, and checks that they belong together.
fn certified_key(certificate: &Certificate<'_>) -> Result<CertifiedKey, Broken> {
    if certificate.chain.is_empty() || certificate.chain.iter().any(|der| der.is_empty()) {
        return Err(Broken::Empty { table: "certificates.chain" });
    }
    let label = || label(certificate.label);
    let chain = certificate.chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    let key = bundle::load_key(&certificate.key.der())
        .map_err(|error| Broken::Key { certificate: label(), error })?;
    let certified = CertifiedKey::new(chain, key);
    // Every key of ring's has a public half, so that "cannot tell" is an answer we need not forgive.
    certified.keys_match().map_err(|error| Broken::KeyMismatch { certificate: label(), error })?;
    Ok(certified)
}

impl Key<'_> {
    fn der(&self) -> PrivateKeyDer<'_> {
        match *self {
            Self::Pkcs8(der) => PrivatePkcs8KeyDer::from(der).into(),
            Self::Sec1(der) => PrivateSec1KeyDer::from(der).into(),
            Self::Pkcs1(der) => PrivatePkcs1KeyDer::from(der).into(),
        }
    }
}

impl SanName<'_> {
    fn parse(self) -> Result<names::SanName, Broken> {
        match self {
            Self::Exact(name) => dns_name("names.name", name).map(names::SanName::Exact),
            Self::Ip(address) => ip("names.name", address).map(names::SanName::Ip),
            Self::Wildcard(rest) => {
                let rest = dns_name("names.name", rest)?;
                names::SanName::parse_dns(&format!("*.{rest}"))
                    .map_err(|error| Broken::Name { field: "names.name", error })
            }
        }
    }
}

impl Host<'_> {
    fn parse(self, field: &'static str) -> Result<names::Host, Broken> {
        match self {
            Self::Dns(name) => dns_name(field, name).map(names::Host::Dns),
            Self::Ip(address) => ip(field, address).map(names::Host::Ip),
        }
    }
}

fn hosts(
    payload: &Payload<'_>,
    certificates: &[bundle::Certificate],
) -> Result<Vec<bundle::HostEntry>, Broken> {
    if payload.hosts.is_empty() {
        return Err(Broken::Empty { table: "hosts" });
    }
    let mut hosts = Vec::<bundle::HostEntry>::with_capacity(payload.hosts.len());
    for (at, row) in payload.hosts.iter().enumerate() {
        let host = row.host.parse("hosts.host")?;
        if hosts.last().is_some_and(|last| last.host >= host) {
            return Err(Broken::Order { table: "hosts", at });
        }
        index("hosts.site", row.site, payload.sites.into())?;
        covered(&host, row.certificate, certificates)?;
        hosts.push(bundle::HostEntry { host, site: row.site, certificate: row.certificate });
    }
    used("certificates", certificates.len(), hosts.iter().map(|host| host.certificate))?;
    used("sites", payload.sites.into(), hosts.iter().map(|host| host.site))?;
    Ok(hosts)
}

fn covered(host: &names::Host, at: u16, certificates: &[bundle::Certificate]) -> Result<(), Broken> {
    let certificate = certificates.get(usize::from(at));
    let out_of_range =
        Broken::Index { field: "hosts.certificate", index: at.into(), len: certificates.len() };
    let certificate = certificate.ok_or(out_of_range)?;
    if certificate.names.iter().any(|name| name.covers(host)) {
        return Ok(());
    }
    Err(Broken::NotCovered {
        host: host.to_string(),
        certificate: certificate.label.clone(),
        names: certificate.names.iter().map(ToString::to_string).collect(),
    })
}

fn sites(payload: &Payload<'_>) -> Result<Vec<bundle::Site>, Broken> {
    if usize::from(payload.sites) > SITES_MAX {
        return Err(Broken::TooMany { table: "sites", found: payload.sites.into(), max: SITES_MAX });
    }
    ordered("upstreams", payload.upstreams.iter().map(|row| row.route))?;
    let site_first = |row: &RouteOrigin<'_>| row.route.saturating_mul(2) + u16::from(!row.of_site);
    ordered("origins", payload.origins.iter().map(site_first))?;
    ordered("allow", payload.allow.iter().map(|row| row.route))?;
    check_routes(payload)?;
    let mut sites = vec![bundle::Site { routes: Vec::new() }; payload.sites.into()];
    for (at, row) in payload.routes.iter().enumerate() {
        let route = route(payload, at, row)?;
        if let Some(site) = sites.get_mut(usize::from(row.site)) {
            site.routes.push(route);
        }
    }
    Ok(sites)
}

/// Order of routes, and indexes into and out of them.
fn check_routes(payload: &Payload<'_>) -> Result<(), Broken> {
    let mut before = (0, std::cmp::Reverse(usize::MAX));
    for (at, row) in payload.routes.iter().enumerate() {
        let order = (row.site, std::cmp::Reverse(row.path.len()));
        let mut earlier = payload.routes.iter().take(at);
        if order < before || earlier.any(|other| (other.site, other.path) == (row.site, row.path)) {
            return Err(Broken::Order { table: "routes", at });
        }
        before = order;
    }
    let routes = payload.routes.len();
    payload.routes.iter().try_for_each(|row| index("routes.site", row.site, payload.sites.into()))?;
    payload.upstreams.iter().try_for_each(|row| index("upstreams.route", row.route, routes))?;
    payload.origins.iter().try_for_each(|row| index("origins.route", row.route, routes))?;
    payload.allow.iter().try_for_each(|row| index("allow.route", row.route, routes))?;
    used("sites", payload.sites.into(), payload.routes.iter().map(|row| row.site))
}

fn route(payload: &Payload<'_>, at: usize, row: &Route<'_>) -> Result<bundle::Route, Broken> {
    let of = |route: u16| usize::from(route) == at;
    let origins = || payload.origins.iter().filter(|row| of(row.route));
    let of_site = origins().take_while(|row| row.of_site).count();
    let allow = payload.allow.iter().filter(|row| of(row.route)).map(|row| net("allow", row.net, 0));
    let bound = |range: &Range, value: Option<u64>| value.map(|value| range.check(value)).transpose();
    let time = |range: &Range, ms: Option<u32>| {
        bound(range, ms.map(u64::from)).map(|ms| ms.map(Duration::from_millis))
    };
    let response_timeout = limits::RESPONSE_TIMEOUT.check(row.response_timeout_ms.into())?;
    Ok(bundle::Route {
        path: path(row.path)?,
        strip_prefix: row.strip_prefix,
        upstreams: upstreams(payload, at)?,
        origins: bundle::Origins {
            own: row.own_origins,
            any: row.any_origin,
            null: row.null_origin,
            list: origins().map(|row| origin(row.origin)).collect::<Result<_, _>>()?,
            of_site: u16::try_from(of_site).unwrap_or(u16::MAX),
        },
        require_origin: row.require_origin,
        allow: allow.collect::<Result<_, _>>()?,
        response_timeout: Duration::from_millis(response_timeout),
        idle_timeout: time(&limits::IDLE_TIMEOUT, row.idle_timeout_ms)?,
        ping_interval: time(&limits::PING_INTERVAL, row.ping_interval_ms)?,
        frame_bytes_max: bound(&limits::FRAME_BYTES_MAX, row.frame_bytes_max)?,
        message_bytes_max: bound(&limits::MESSAGE_BYTES_MAX, row.message_bytes_max)?,
        body_bytes_max: bound(&limits::BODY_BYTES_MAX, row.body_bytes_max)?,
        check_utf8: row.check_utf8,
        send_proxy_protocol: row.send_proxy_protocol.map(proxy_version).transpose()?,
        access_log: row.access_log,
    })
}

fn upstreams(payload: &Payload<'_>, at: usize) -> Result<Vec<bundle::Upstream>, Broken> {
    let rows = payload.upstreams.iter().filter(|row| usize::from(row.route) == at);
    let upstreams = rows.map(|row| upstream(row.upstream)).collect::<Result<Vec<_>, _>>()?;
    match upstreams.len() {
        0 => Err(Broken::Empty { table: "upstreams" }),
        1..=ROUTE_UPSTREAMS_MAX => Ok(upstreams),
        found => Err(Broken::TooMany { table: "upstreams of a route", found, max: ROUTE_UPSTREAMS_MAX }),
    }
}

fn upstream(upstream: Upstream<'_>) -> Result<bundle::Upstream, Broken> {
    const FIELD: &str = "upstreams.upstream";
    match upstream {
        Upstream::Address(address) => {
            port(FIELD, address.port())?;
            Ok(bundle::Upstream::Address(address))
        }
        Upstream::Name(host, number) => Ok(bundle::Upstream::Name {
            host: dns_name(FIELD, host)?.to_string(),
            port: port(FIELD, number)?,
        }),
        Upstream::Unix(path) => absolute(FIELD, path, SOCKET_PATH_BYTES_MAX).map(bundle::Upstream::Unix),
        Upstream::Zoned(ip, zone, number) => Ok(bundle::Upstream::Zoned {
            ip: link_local(FIELD, ip)?,
            zone: self::zone(FIELD, zone)?,
            port: port(FIELD, number)?,
        }),
    }
}

fn origin(origin: Origin<'_>) -> Result<names::Origin, Broken> {
    match origin {
        Origin::Web(scheme, host, number) => {
            let (host, port) = (host.parse("origins.host")?, port("origins.port", number)?);
            Ok(names::Origin::Web { scheme, host, port })
        }
        Origin::Other(text) => match names::Origin::parse(text) {
            Ok(other @ names::Origin::Other(_)) => Ok(other),
            _ => {
                let expected = "an origin whose scheme is none of https, http, wss and ws";
                Err(Broken::Text { field: "origins.origin", found: Excerpt::of(text), expected })
            }
        },
    }
}

fn proxy_version(version: u8) -> Result<u8, Broken> {
    let field = "routes.send_proxy_protocol";
    let expected = "1 or 2";
    if matches!(version, 1 | 2) {
        Ok(version)
    } else {
        Err(Broken::Number { field, found: version.into(), expected })
    }
}

/// A path prefix: what RFC 3986 §3.3 allows, or a percent sign.
fn path(path: &str) -> Result<String, Broken> {
    let fine = |b: u8| b.is_ascii_graphic() && !matches!(b, b'?' | b'#');
    if path.starts_with('/') && path.len() <= TEXT_BYTES_MAX && path.bytes().all(fine) {
        return Ok(path.to_owned());
    }
    let expected = "a path that begins with `/`, in printable ASCII without `?` and `#`";
    Err(Broken::Text { field: "routes.path", found: Excerpt::of(path), expected })
}

/// Whether Linux could name an interface so: no blank, no control, no `/`; and nothing that ends it in `[…%zone]:port`.
pub(super) fn is_zone(zone: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"/%[]\"'\\".contains(&byte);
    (1..=ZONE_BYTES_MAX).contains(&zone.len()) && zone.bytes().all(plain)
}

fn text(field: &'static str, text: &str) -> Result<String, Broken> {
    if !text.is_empty() && text.len() <= TEXT_BYTES_MAX && !text.contains(char::is_control) {
        return Ok(text.to_owned());
    }
    let expected = "1 to 1024 bytes without control characters";
    Err(Broken::Text { field, found: Excerpt::of(text), expected })
}

fn absolute(field: &'static str, path: &str, bytes_max: usize) -> Result<PathBuf, Broken> {
    if path.starts_with('/') && path.len() <= bytes_max && !path.contains('\0') {
        return Ok(PathBuf::from(path));
    }
    let expected = "an absolute path, not too long for its use";
    Err(Broken::Text { field, found: Excerpt::of(path), expected })
}

fn dns_name(field: &'static str, text: &str) -> Result<DnsName, Broken> {
    let name = DnsName::parse(text).map_err(|error| Broken::Name { field, error })?;
    if name.as_str() == text {
        return Ok(name);
    }
    Err(Broken::Text { field, found: Excerpt::of(text), expected: "lower case and no trailing dot" })
}

fn link_local(field: &'static str, ip: Ipv6Addr) -> Result<Ipv6Addr, Broken> {
    if ip.is_unicast_link_local() {
        return Ok(ip);
    }
    Err(Broken::Address {
        field,
        found: ip.to_string(),
        expected: "a link-local address (fe80::/10) before a zone",
    })
}

fn zone(field: &'static str, zone: &str) -> Result<String, Broken> {
    if is_zone(zone) {
        return Ok(zone.to_owned());
    }
    let expected = "the name or number of an interface, at most 15 bytes";
    Err(Broken::Text { field, found: Excerpt::of(zone), expected })
}

fn ip(field: &'static str, address: IpAddr) -> Result<IpAddr, Broken> {
    if address.to_canonical() == address {
        return Ok(address);
    }
    Err(Broken::Address { field, found: address.to_string(), expected: "an IPv4 address as such" })
}

fn port(field: &'static str, port: u16) -> Result<u16, Broken> {
    let refuse = Broken::Number { field, found: 0, expected: "a port from 1 to 65535" };
    if port == 0 { Err(refuse) } else { Ok(port) }
}

fn nets(field: &'static str, nets: &[Net], prefix_min: u8) -> Result<Vec<IpNet>, Broken> {
    nets.iter().map(|row| net(field, *row, prefix_min)).collect()
}

fn net(field: &'static str, net: Net, prefix_min: u8) -> Result<IpNet, Broken> {
    let found = IpNet::new(net.address, net.prefix).ok();
    let fine = found.filter(|found| found.trunc() == *found && net.prefix >= prefix_min);
    fine.ok_or_else(|| Broken::Address {
        field,
        found: format!("{}/{}", net.address, net.prefix),
        expected: "a network without bits behind its prefix, and not all addresses where they are believed",
    })
}

fn index(field: &'static str, index: u16, len: usize) -> Result<(), Broken> {
    let index = usize::from(index);
    if index < len { Ok(()) } else { Err(Broken::Index { field, index, len }) }
}

fn ordered(table: &'static str, indexes: impl Iterator<Item = u16>) -> Result<(), Broken> {
    let mut last = 0;
    for (at, index) in indexes.enumerate() {
        if index < last {
            return Err(Broken::Order { table, at });
        }
        last = index;
    }
    Ok(())
}

/// Whether each of `len` rows is one of `indexes`.
fn used(table: &'static str, len: usize, indexes: impl Iterator<Item = u16>) -> Result<(), Broken> {
    let mut seen = vec![false; len];
    indexes.for_each(|index| {
        if let Some(seen) = seen.get_mut(usize::from(index)) {
            *seen = true;
        }
    });
    match seen.iter().position(|seen| !seen) {
        Some(at) => Err(Broken::Unused { table, at }),
        None => Ok(()),
    }
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

impl<'a> Payload<'a> {
    /// Lays a bundle out as it lies in the file; `keys` are those of its certificates, in the same order.
    ///
    /// Hosts must be sorted, and routes longest path first, as [`Bundle`] says.
    ///
    /// # Errors
    /// Where a table has no room, or a value no form in the file.
    pub fn of(bundle: &'a Bundle, keys: &'a [PrivateKeyDer<'_>]) -> Result<Self, EncodeError> {
        let listen = &bundle.listen;
        let routes = || {
            bundle.sites.iter().zip(0_u16..).flat_map(|(site, at)| site.routes.iter().map(move |r| (at, r)))
        };
        let numbered = || routes().map(|(_, route)| route).zip(0_u16..);
        Ok(Self {
            board: &bundle.board,
            https: table("https listeners", listen.https.iter().copied())?,
            http: table("http listeners", listen.http.iter().copied())?,
            admin: listen.admin.as_ref().map(Admin::of).transpose()?,
            default_host: listen.default_host,
            public_https_port: listen.public_https_port,
            acme_dir: listen.acme_dir.as_deref().map(|path| utf8("acme_dir", path)).transpose()?,
            proxy_protocol_from: table(
                "networks in proxy_protocol_from",
                listen.proxy_protocol_from.iter().map(Net::of),
            )?,
            trusted_proxies: table(
                "networks in trusted_proxies",
                bundle.trusted_proxies.iter().map(Net::of),
            )?,
            exempt: table("networks in exempt", bundle.exempt.iter().map(Net::of))?,
            watch: bundle.watch,
            drain_timeout_ms: milliseconds("drain_timeout", bundle.drain_timeout)?,
            drain_spread_ms: milliseconds("drain_spread", bundle.drain_spread)?,
            suite_order: bundle.suite_order,
            limits: bundle.limits.clone(),
            certificates: Certificate::all(bundle, keys)?,
            names: table(
                "certificate names",
                bundle.certificates.iter().zip(0..).flat_map(|(certificate, at)| {
                    certificate
                        .names
                        .iter()
                        .map(move |name| CertificateName { certificate: at, name: SanName::of(name) })
                }),
            )?,
            sites: u16::try_from(bundle.sites.len()).unwrap_or(u16::MAX),
            hosts: table("hosts", bundle.hosts.iter().map(HostEntry::of))?,
            routes: collect("routes", routes().map(|(site, route)| Route::of(site, route)))?,
            upstreams: collect(
                "upstreams",
                numbered().flat_map(|(route, at)| {
                    route.upstreams.iter().map(move |upstream| RouteUpstream::of(at, upstream))
                }),
            )?,
            origins: table(
                "origins",
                numbered().flat_map(|(route, at)| {
                    let of_site = route.origins.of_site().len();
                    let numbered = route.origins.list.iter().enumerate();
                    numbered.map(move |(n, origin)| RouteOrigin {
                        route: at,
                        of_site: n < of_site,
                        origin: Origin::of(origin),
                    })
                }),
            )?,
            allow: table(
                "networks in allow",
                numbered().flat_map(|(route, at)| {
                    route.allow.iter().map(move |net| RouteNet { route: at, net: Net::of(net) })
                }),
            )?,
        })
    }
}

impl<'a> Certificate<'a> {
    fn all(
        bundle: &'a Bundle,
        keys: &'a [PrivateKeyDer<'_>],
    ) -> Result<Table<Self, CERTIFICATES_MAX>, EncodeError> {
        let certificates = &bundle.certificates;
        if keys.len() != certificates.len() {
            return Err(EncodeError::Keys { keys: keys.len(), certificates: certificates.len() });
        }
        collect(
            "certificates",
            certificates.iter().zip(keys).map(|(certificate, key)| Self::of(certificate, key)),
        )
    }

    fn of(certificate: &'a bundle::Certificate, key: &'a PrivateKeyDer<'_>) -> Result<Self, EncodeError> {
        let form = || EncodeError::KeyForm { certificate: certificate.label.clone() };
        Ok(Self {
            label: &certificate.label,
            source: certificate.source,
            chain: table("certificates in one chain", certificate.key.cert.iter().map(AsRef::as_ref))?,
            key: Key::of(key).ok_or_else(form)?,
            not_before: certificate.not_before,
            not_after: certificate.not_after,
        })
    }
}

impl<'a> Key<'a> {
    fn of(key: &'a PrivateKeyDer<'_>) -> Option<Self> {
        match key {
            PrivateKeyDer::Pkcs8(der) => Some(Self::Pkcs8(der.secret_pkcs8_der())),
            PrivateKeyDer::Sec1(der) => Some(Self::Sec1(der.secret_sec1_der())),
            PrivateKeyDer::Pkcs1(der) => Some(Self::Pkcs1(der.secret_pkcs1_der())),
            _ => None,
        }
    }
}

impl<'a> Admin<'a> {
    fn of(admin: &'a bundle::Admin) -> Result<Self, EncodeError> {
        match admin {
            bundle::Admin::Unix(path) => utf8("admin", path).map(Self::Unix),
            bundle::Admin::Tcp(address) => Ok(Self::Tcp(*address)),
        }
    }
}

impl Net {
    fn of(net: &IpNet) -> Self {
        Self { address: net.addr(), prefix: net.prefix_len() }
    }
}

impl<'a> SanName<'a> {
    fn of(name: &'a names::SanName) -> Self {
        match name {
            names::SanName::Exact(name) => Self::Exact(name.as_str()),
            names::SanName::Wildcard(rest) => Self::Wildcard(rest.as_str()),
            names::SanName::Ip(address) => Self::Ip(*address),
        }
    }
}

impl<'a> HostEntry<'a> {
    fn of(entry: &'a bundle::HostEntry) -> Self {
        Self { host: Host::of(&entry.host), site: entry.site, certificate: entry.certificate }
    }
}

impl<'a> Host<'a> {
    fn of(host: &'a names::Host) -> Self {
        match host {
            names::Host::Dns(name) => Self::Dns(name.as_str()),
            names::Host::Ip(address) => Self::Ip(*address),
        }
    }
}

impl<'a> Route<'a> {
    fn of(site: u16, route: &'a bundle::Route) -> Result<Self, EncodeError> {
        let time = |field, found: Option<Duration>| found.map(|found| milliseconds(field, found)).transpose();
        Ok(Self {
            site,
            path: &route.path,
            strip_prefix: route.strip_prefix,
            own_origins: route.origins.own,
            any_origin: route.origins.any,
            null_origin: route.origins.null,
            require_origin: route.require_origin,
            response_timeout_ms: milliseconds("response_timeout", route.response_timeout)?,
            idle_timeout_ms: time("idle_timeout", route.idle_timeout)?,
            ping_interval_ms: time("ping_interval", route.ping_interval)?,
            frame_bytes_max: route.frame_bytes_max,
            message_bytes_max: route.message_bytes_max,
            body_bytes_max: route.body_bytes_max,
            check_utf8: route.check_utf8,
            send_proxy_protocol: route.send_proxy_protocol,
            access_log: route.access_log,
        })
    }
}

impl<'a> RouteUpstream<'a> {
    fn of(route: u16, upstream: &'a bundle::Upstream) -> Result<Self, EncodeError> {
        let upstream = match upstream {
            bundle::Upstream::Address(address) => Upstream::Address(*address),
            bundle::Upstream::Zoned { ip, zone, port } => Upstream::Zoned(*ip, zone, *port),
            bundle::Upstream::Name { host, port } => Upstream::Name(host, *port),
            bundle::Upstream::Unix(path) => Upstream::Unix(utf8("upstream", path)?),
        };
        Ok(Self { route, upstream })
    }
}

impl<'a> Origin<'a> {
    fn of(origin: &'a names::Origin) -> Self {
        match origin {
            names::Origin::Web { scheme, host, port } => Self::Web(*scheme, Host::of(host), *port),
            names::Origin::Other(text) => Self::Other(text),
        }
    }
}

/// Fills a table, or says how many rows there were.
fn table<T, const N: usize>(
    name: &'static str,
    mut rows: impl Iterator<Item = T>,
) -> Result<Table<T, N>, EncodeError> {
    let mut table = Table::<T, N>::default();
    while let Some(row) = rows.next() {
        if table.push(row).is_err() {
            return Err(EncodeError::TooMany { table: name, found: N + 1 + rows.count(), max: N });
        }
    }
    Ok(table)
}

/// As [`table`], of rows that may have failed.
fn collect<T, const N: usize>(
    name: &'static str,
    rows: impl Iterator<Item = Result<T, EncodeError>>,
) -> Result<Table<T, N>, EncodeError> {
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    table(name, rows.into_iter())
}

fn utf8<'a>(field: &'static str, path: &'a Path) -> Result<&'a str, EncodeError> {
    path.to_str().ok_or_else(|| EncodeError::Path { field, path: path.to_owned() })
}

fn milliseconds(field: &'static str, found: Duration) -> Result<u32, EncodeError> {
    u32::try_from(found.as_millis()).map_err(|_| EncodeError::Duration { field, found })
}

/// Opens `data` as a file, and as a payload behind a header that fits it. Fuzz entry: nothing may panic.
#[doc(hidden)]
pub fn fuzz_bundle_open(data: &[u8]) {
    let _ = decode(data);
    let framed = [header(data).as_slice(), data].concat();
    if let Ok(found) = body(&framed).and_then(read) {
        let _ = assemble(&found, [0; 32]);
        let again = write(&found).map(|file| body(&file).and_then(read).as_ref() == Ok(&found));
        assert_eq!(again, Ok(true), "what was read is written as something else");
    }
}

impl Bundle {
    /// Decodes the bytes of a bundle file, checks every rule of the format again, and wipes the bytes.
    ///
    /// # Errors
    /// Says whether the bytes are cut off, damaged, another kind of file, of another version, or break a rule.
    pub fn decode(bytes: Zeroizing<Vec<u8>>) -> Result<Self, FormatError> {
        decode(&bytes)
    }

    /// The bytes of a bundle file that decodes to this bundle (but for the digest, which is that of the bytes). `keys`
    /// are those of [`Bundle::certificates`], in the same order.
    ///
    /// # Errors
    /// Where a table has no room, or the result would not open.
    pub fn encode(&self, keys: &[PrivateKeyDer<'_>]) -> Result<Zeroizing<Vec<u8>>, EncodeError> {
        encode(&Payload::of(self, keys)?)
    }
}
