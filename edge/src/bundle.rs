//! The bundle: one immutable, proven value that holds everything `sanedge serve` needs, and its file.
//!
//! Knows no sockets, no clock and no TOML.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::PrivateKeyDer;

use crate::excerpt::Excerpt;
use lifetime::Lifetime;

use crate::http::changes::{FieldChanges, HSTS_FIELD};
use crate::limits::{Drain, Limits, Rules};
use crate::names::{Host, Origin, SanName, Scheme};

pub mod alpn;
pub mod file;
pub mod lifetime;
pub mod open;
pub mod redirect;
pub mod shell;
pub mod table;
pub mod wire;

/// What a bundle file holds, in the form that serving wants.
#[derive(Debug)]
pub struct Bundle {
    /// Name of the board profile that it was compiled for.
    pub board: Excerpt,
    /// Listening addresses and what belongs to them.
    pub listen: Listen,
    /// Proxies whose X-Forwarded-For is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Networks that no limit by client address holds for.
    pub exempt: Vec<IpNet>,
    /// Reload by itself when the file is replaced.
    pub watch: bool,
    /// How a stop ends what is open.
    pub drain: Drain,
    /// Which cipher suites lead.
    pub suite_order: SuiteOrder,
    /// Which connections get the hybrid key exchange.
    pub post_quantum: PostQuantum,
    /// Bounds.
    pub limits: Limits,
    /// Certificates that some host uses.
    pub certificates: Vec<Certificate>,
    /// Sites.
    pub sites: Vec<Site>,
    /// Every served host with its certificate and site, sorted by host.
    pub hosts: Vec<HostEntry>,
    /// Hosts that wait for their first certificate, sorted: clients get an alert, and on port 80 a 503.
    pub pending: Vec<PendingHost>,
    /// SHA-256 of the payload: tells two bundles apart in logs and `status`.
    pub digest: [u8; 32],
}

/// `[listen]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// TLS listeners.
    pub https: Vec<SocketAddr>,
    /// Plain listeners that redirect and answer ACME challenges.
    pub http: Vec<SocketAddr>,
    /// Admin listener; `None`: the default path where its folder can be used.
    pub admin: Option<Admin>,
    /// Host whose certificate answers a hello without SNI; index into [`Bundle::hosts`].
    pub default_host: Option<u16>,
    /// The port that clients see.
    pub public_https_port: u16,
    /// Folder of ACME http-01 tokens.
    pub acme_dir: Option<PathBuf>,
    /// Folder of the http-01 tokens of `sanedge renew`.
    pub challenges: Option<PathBuf>,
    /// Peers that must speak the PROXY protocol.
    pub proxy_protocol_from: Vec<IpNet>,
}

/// Where the admin socket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admin {
    /// A Unix socket, mode 0660.
    Unix(PathBuf),
    /// A loopback address, for reading only.
    Tcp(SocketAddr),
}

impl Admin {
    /// Where the admin socket is unless `[listen] admin` says otherwise.
    pub const DEFAULT_PATH: &'static str = "/run/sanedge/admin.sock";
}

impl std::fmt::Display for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", Excerpt::of_path(path)),
            Self::Tcp(address) => write!(f, "{address}"),
        }
    }
}

/// Which cipher suites lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SuiteOrder {
    /// By what ring will really use on this processor.
    Auto,
    /// AES-GCM first.
    Aes,
    /// ChaCha20-Poly1305 first.
    Chacha,
}

/// Which connections get X25519MLKEM768, a key exchange that also holds against a quantum computer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PostQuantum {
    /// Those whose ClientHello has a share for it.
    Auto,
    /// Those of every client that supports it; one that sent no share is asked for it, which takes a round trip.
    Prefer,
    /// None.
    Off,
}

/// One certificate with its chain and key, ready for rustls.
#[derive(Debug)]
pub struct Certificate {
    /// The file name it came from, for people.
    pub label: Excerpt,
    /// Tells of which files it was made, for `bundle --carry-over`.
    pub source: [u8; 32],
    /// Its SAN entries.
    pub names: Vec<SanName>,
    /// Seconds since 1970 when it starts and ends to be valid.
    pub not_before: i64,
    /// See `not_before`.
    pub not_after: i64,
    /// Chain and signing key.
    pub key: Arc<CertifiedKey>,
}

impl Certificate {
    /// From when to when it is valid.
    pub fn lifetime(&self) -> Lifetime {
        Lifetime { not_before: self.not_before, not_after: self.not_after }
    }
}

/// A served host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostEntry {
    /// The host.
    pub host: Host,
    /// Index into [`Bundle::sites`].
    pub site: u16,
    /// Index into [`Bundle::certificates`].
    pub certificate: u16,
}

/// A host that waits for its first certificate. What is behind it is in the bundle, so that a reload can take the certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingHost {
    /// The host.
    pub host: Host,
    /// Index into [`Bundle::sites`].
    pub site: u16,
}

/// One `[[site]]`: routes, or a redirect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// Routes, longest path first. The site's own `upstream`, if any, is the route `/`.
    pub routes: Vec<Route>,
    /// Where all requests are redirected to; then there are no routes.
    pub redirect: Option<Redirect>,
    /// `max-age` of Strict-Transport-Security in seconds, where the edge sends it.
    pub hsts_s: Option<u32>,
    /// `record_bytes_max`, if it is set.
    pub record_bytes_max: Option<u16>,
    /// Each request that is redirected gets a line in the access log; false for a site with routes.
    pub access_log: bool,
    /// Fields that its responses get or lose, sorted by their names in lower case.
    pub headers: Vec<SiteHeader>,
}

/// Where a site redirects to: `https://host[:port][path]`, in front of path and query of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Host.
    pub host: Host,
    /// Port.
    pub port: u16,
    /// Empty, or a path without a slash at its end.
    pub path: String,
}

/// One line of `[site.headers]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteHeader {
    /// Name of the field, as written.
    pub name: String,
    /// Its value; `None` removes it.
    pub value: Option<String>,
}

/// Where requests under one path go, and under which rules. Keys absent in a route are the site's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Path prefix, begins with `/`.
    pub path: String,
    /// The upstream gets the path without it.
    pub strip_prefix: bool,
    /// At least one.
    pub upstreams: Vec<Upstream>,
    /// Who may open WebSockets.
    pub origins: Origins,
    /// Client networks; empty: everybody.
    pub allow: Vec<IpNet>,
    /// Everything that is one value; read as fields of the route.
    pub rules: Rules,
}

impl std::ops::Deref for Route {
    type Target = Rules;

    fn deref(&self) -> &Rules {
        &self.rules
    }
}

/// Which origins may open WebSockets on a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// The site's own may, as [`Bundle::is_own_origin`] has them: the default.
    pub own: bool,
    /// `"*"` was listed.
    pub any: bool,
    /// `"null"` was listed.
    pub null: bool,
    /// The others that were listed: the site's first, then the route's.
    pub list: Vec<Origin>,
    /// How many of `list` are the site's.
    pub of_site: u16,
}

impl Origins {
    /// Those of `list` that the site lists for all its routes.
    pub fn of_site(&self) -> &[Origin] {
        self.list.get(..usize::from(self.of_site)).unwrap_or(&self.list)
    }
}

/// A local server behind the edge.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Upstream {
    /// Address and port.
    Address(SocketAddr),
    /// A link-local address on one of the board's interfaces (RFC 4007 §11).
    Zoned {
        /// In fe80::/10.
        ip: Ipv6Addr,
        /// Name or number of the interface, which only the board knows.
        zone: String,
        /// Port.
        port: u16,
    },
    /// A name, resolved when connecting.
    Name {
        /// Host name.
        host: String,
        /// Port.
        port: u16,
    },
    /// A Unix stream socket.
    Unix(PathBuf),
}

/// A private key that cannot sign for us.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("the key cannot be used: expected ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to 4096 bits ({0})")]
pub struct KeyError(rustls::Error);

/// The one way from a private key to what signs handshakes; `compile` and `open` both go through it.
///
/// # Errors
/// Where ring does not take the key.
pub fn load_key(key: &PrivateKeyDer<'_>) -> Result<Arc<dyn SigningKey>, KeyError> {
    rustls::crypto::ring::sign::any_supported_type(key).map_err(KeyError)
}

impl std::fmt::Display for Upstream {
    /// As written in sanedge.toml.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Zoned { ip, zone, port } => write!(f, "[{ip}%{zone}]:{port}"),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", Excerpt::of_path(path)),
        }
    }
}

impl std::fmt::Display for Redirect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "https://{}", self.host.uri_host())?;
        if self.port != 443 {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path)
    }
}

impl Site {
    /// What it changes in the fields of its https responses.
    pub fn field_changes(&self) -> Option<FieldChanges> {
        let max_age = self.hsts_s.map(|seconds| format!("max-age={seconds}"));
        let hsts = max_age.as_deref().map(|value| (HSTS_FIELD, Some(value)));
        let headers = self.headers.iter().map(|header| (header.name.as_str(), header.value.as_deref()));
        FieldChanges::of(hsts.into_iter().chain(headers))
    }
}

impl Bundle {
    /// Every upstream of every route; the same one again where it is named again.
    pub fn upstreams(&self) -> impl Iterator<Item = &Upstream> {
        self.sites.iter().flat_map(|site| &site.routes).flat_map(|route| &route.upstreams)
    }

    /// Whether an origin is the site's own: pages of its hosts and of their parents as far as those are served, at the
    /// port that clients see; and programs that name one of its hosts with the scheme of a WebSocket, with that port or
    /// without one. No page has an origin of `ws` or `wss`; anybody on a visitor's network can forge one of `http`.
    pub fn is_own_origin(&self, site: u16, origin: &Origin) -> bool {
        let Origin::Web { scheme, host, port } = origin else { return false };
        let is_public = *port == self.listen.public_https_port;
        let is_of_site = |host: &Host| self.host(host).is_some_and(|entry| entry.site == site);
        match scheme {
            Scheme::Http => false,
            Scheme::Https => {
                is_public && (is_of_site(host) || self.parents(site).any(|parent| parent == *host))
            }
            Scheme::Wss | Scheme::Ws => (is_public || *port == scheme.default_port()) && is_of_site(host),
        }
    }

    /// The pages whose origins are a site's own once no host waits for its certificate: its hosts', in their order, then their
    /// parents'.
    pub fn own_pages(&self, site: u16) -> Vec<Origin> {
        let is_known = |host: &Host| self.host(host).is_some() || self.is_pending(host);
        let parents = self.hosts_of(site).filter_map(Host::parent).filter(is_known);
        let mut pages: Vec<_> = Vec::new();
        for host in self.hosts_of(site).cloned().chain(parents) {
            let page = Origin::https(host, self.listen.public_https_port);
            if !pages.contains(&page) {
                pages.push(page);
            }
        }
        pages
    }

    /// `recre.store` for `socket.recre.store`, where it is served.
    fn parents(&self, site: u16) -> impl Iterator<Item = Host> {
        let hosts = self.hosts.iter().filter(move |entry| entry.site == site);
        hosts.filter_map(|entry| entry.host.parent()).filter(|parent| self.host(parent).is_some())
    }

    /// The hosts of a site, and then those of them that wait for their first certificate.
    pub fn hosts_of(&self, site: u16) -> impl Iterator<Item = &Host> {
        let served = self.hosts.iter().filter(move |entry| entry.site == site).map(|entry| &entry.host);
        let pending = self.pending.iter().filter(move |entry| entry.site == site).map(|entry| &entry.host);
        served.chain(pending)
    }

    /// Whether `host` waits for its first certificate.
    pub fn is_pending(&self, host: &Host) -> bool {
        self.pending.binary_search_by(|entry| entry.host.cmp(host)).is_ok()
    }

    /// The entry of `host`, if served.
    pub fn host(&self, host: &Host) -> Option<&HostEntry> {
        self.hosts.get(self.position(host)?)
    }

    /// The index of `host` among the hosts, if served.
    pub fn position(&self, host: &Host) -> Option<usize> {
        self.hosts.binary_search_by(|entry| entry.host.cmp(host)).ok()
    }
}
