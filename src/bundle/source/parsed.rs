//! The contents of sanedge.toml, as written.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use crate::bundle::acme::{Ca, Challenge, Dns};
use crate::bundle::private::is_private_host;
use crate::bundle::{Admin, PostQuantum, Redirect, SiteHeader, SuiteOrder, Upstream};
use crate::excerpt::Excerpt;
use crate::limits::{self, Drain, Rules};
use crate::names::{Host, Origin, SanName};

/// A value and its line, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lined<T> {
    /// The value.
    pub value: T,
    /// Its line.
    pub line: u32,
}

/// The whole file.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file as it was named on the command line.
    pub path: PathBuf,
    /// SHA-256 of its content.
    pub digest: [u8; 32],
    /// Name of the board profile.
    pub board: Lined<String>,
    /// `[listen]`.
    pub listen: Listen,
    /// `[[certificate]]`, any number.
    pub certificates: Vec<CertificateFiles>,
    /// Roots of a private CA.
    pub trust: Option<Lined<NamedFile>>,
    /// `[[site]]`, any number.
    pub sites: Vec<Site>,
    /// `[acme]`.
    pub acme: Option<Acme>,
    /// `[local]`.
    pub local: Option<Local>,
    /// `[limits]`: names and values as the limits module reads them.
    pub limits: Vec<LimitSetting>,
    /// Proxies whose X-Forwarded-For is trusted.
    pub trusted_proxies: Vec<Lined<IpNet>>,
    /// Networks without limits per client address.
    pub exempt: Vec<IpNet>,
    /// Reload when the bundle is replaced.
    pub watch: bool,
    /// How a stop ends what is open.
    pub drain: Drain,
    /// Which cipher suites are preferred.
    pub suite_order: SuiteOrder,
    /// Which connections get the hybrid key exchange.
    pub post_quantum: PostQuantum,
}

impl Source {
    /// The roots that the chains lead to besides those of browsers.
    pub fn trust_file(&self) -> Option<&NamedFile> {
        let file = self.trust.as_ref().or_else(|| self.acme.as_ref()?.trust.as_ref())?;
        Some(&file.value)
    }
}

/// `[listen]`.
#[derive(Clone, Debug)]
pub struct Listen {
    /// TLS listeners.
    pub https: Vec<Lined<SocketAddr>>,
    /// Plain listeners.
    pub http: Vec<Lined<SocketAddr>>,
    /// Admin listener.
    pub admin: Option<Lined<Admin>>,
    /// Host for a ClientHello without SNI.
    pub default_host: Option<Lined<Host>>,
    /// The port that clients connect to.
    pub public_https_port: u16,
    /// Folder of ACME tokens.
    pub acme_dir: Option<Lined<PathBuf>>,
    /// Peers that must send a PROXY protocol header.
    pub proxy_protocol_from: Vec<Lined<IpNet>>,
}

/// A file as written in sanedge.toml, with its resolved path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// As written, for messages.
    pub label: Excerpt,
    /// Resolved against the folder of sanedge.toml.
    pub path: PathBuf,
    /// The file is in this folder, whose owner is not trusted, and is read accordingly.
    pub state: Option<PathBuf>,
}

/// `[acme]`.
#[derive(Clone, Debug)]
pub struct Acme {
    /// Line of the header.
    pub line: u32,
    /// The CA, and the values for requests to it.
    pub ca: Ca,
    /// `[[acme.fallback]]`.
    pub fallback: Vec<Ca>,
    /// `trust`, for the chains that it issues.
    pub trust: Option<Lined<NamedFile>>,
    /// One certificate for all hosts of a site.
    pub by_site: bool,
    /// Folder of certificates, keys and the account.
    pub state: PathBuf,
    /// How names are validated.
    pub challenge: Challenge,
    /// Folder of challenges.
    pub challenges: PathBuf,
    /// `[[acme.certificate]]`: the names of each.
    pub certificates: Vec<Lined<Vec<SanName>>>,
    /// `[acme.dns]`.
    pub dns: Option<Dns>,
}

/// `[local]`.
#[derive(Clone, Debug)]
pub struct Local {
    /// Line of the header.
    pub line: u32,
    /// Folder of the CA and its certificate.
    pub folder: PathBuf,
    /// Domains and networks that the CA may issue for as well.
    pub permit: Vec<String>,
    /// Of a certificate, in seconds.
    pub lifetime_s: i64,
}

/// One `[[certificate]]`.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    /// Line of the header.
    pub line: u32,
    /// PEM chain, end-entity first.
    pub chain: Lined<NamedFile>,
    /// PEM private key.
    pub key: Lined<NamedFile>,
}

/// One `[[site]]`.
#[derive(Clone, Debug)]
pub struct Site {
    /// Line of the header.
    pub line: u32,
    /// Its hosts.
    pub hosts: Vec<Lined<Host>>,
    /// Whether `sanedge renew` obtains certificates for it.
    pub acme: bool,
    /// Whether the local CA issues for it, where that is written.
    pub local: Option<Lined<bool>>,
    /// The site's own upstream, if any, and its `[[site.route]]`s, with what they inherit. None where it redirects.
    pub routes: Vec<Route>,
    /// Where it redirects to.
    pub redirect: Option<Lined<Redirect>>,
    /// `hsts`, in seconds.
    pub hsts_s: Option<Lined<u32>>,
    /// `record_bytes_max`.
    pub record_bytes_max: Option<Lined<u16>>,
    /// `access_log`, where it redirects; each route has its own.
    pub access_log: bool,
    /// `[site.headers]`, sorted by the names in lower case.
    pub headers: Vec<SiteHeader>,
}

impl Site {
    /// Whether the local CA, if there is one, issues for this host of the site.
    pub(crate) fn is_local(&self, host: &Host) -> bool {
        self.local.as_ref().map_or_else(|| is_private_host(host), |written| written.value)
    }
}

/// One path of a site, keys of the site filled in.
#[derive(Clone, Debug)]
pub struct Route {
    /// Line of the header.
    pub line: u32,
    /// Path prefix.
    pub path: String,
    /// The upstream gets the path without it.
    pub strip_prefix: bool,
    /// Servers behind it; empty is a finding of the reader.
    pub upstreams: Vec<Lined<Upstream>>,
    /// Whether an upstream may be a public address.
    pub allow_public_upstream: bool,
    /// Whether the site's own origins may open WebSockets.
    pub origins_default: bool,
    /// Origins that the site lists for all its routes.
    pub site_origins: Vec<OriginEntry>,
    /// Origins that this route lists.
    pub origins: Vec<OriginEntry>,
    /// Client networks.
    pub allow: Vec<IpNet>,
    /// Everything that is one value.
    pub rules: Rules,
}

/// One entry of `origins`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginEntry {
    /// `"*"`
    Any,
    /// `"null"`
    Null,
    /// An origin.
    One(Box<Origin>),
}

/// One key of `[limits]`, its value still as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitSetting {
    /// The key.
    pub name: Lined<String>,
    /// A number, a size or a duration.
    pub value: LimitValue,
}

/// What a key of `[limits]` may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitValue {
    /// `4096`
    Number(i64),
    /// `"16KiB"` or `"30s"`
    Text(String),
}

impl LimitValue {
    /// As the limits module reads it.
    pub fn borrowed(&self) -> limits::Value<'_> {
        match self {
            Self::Number(number) => limits::Value::Integer(*number),
            Self::Text(text) => limits::Value::Text(text),
        }
    }
}
