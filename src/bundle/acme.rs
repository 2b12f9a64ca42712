//! `x.acme`: which certificates `sanedge renew` obtains, from which CA and how. `sanedge bundle` decides it; there is no key in it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::excerpt::may_hold_key;
use crate::names::Host;

pub mod local;
pub mod stored;
pub mod told;

/// Default of `[acme] state`, the folder of certificates, keys and the account.
pub const STATE: &str = "/var/lib/sanedge-acme";
/// Default of `[acme] challenges`, the folder of challenges.
pub const CHALLENGES: &str = "/run/sanedge-acme/challenges";
/// Largest `x.acme`: 256 hosts of 253 bytes are 70 KiB, in JSON twice that.
pub const PLAN_BYTES_MAX: u64 = 256 * 1024;
/// Version of the file's format.
pub const VERSION: u32 = 1;

/// The content of `x.acme`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`VERSION`].
    pub version: u32,
    /// The sanedge.toml, for the deployment.
    pub source: PathBuf,
    /// The bundle that is made of it.
    pub bundle: PathBuf,
    /// SHA-256 of that sanedge.toml, in hex, to find later edits.
    pub source_sha256: String,
    /// The CA of `certificates`.
    pub ca: Ca,
    /// Fallback CAs, in this order, for faults of those before.
    pub fallback: Vec<Ca>,
    /// Folder of certificates, keys and the account.
    pub state: PathBuf,
    /// How names are validated.
    pub challenge: Challenge,
    /// Folder of challenges.
    pub challenges: PathBuf,
    /// What creates TXT records for dns-01; `None` without `[acme.dns]`.
    pub dns: Option<Dns>,
    /// The edge's plain listeners.
    pub http: Vec<SocketAddr>,
    /// They expect a PROXY protocol header from this machine.
    pub http_expects_proxy: bool,
    /// The edge's TLS listeners.
    pub https: Vec<SocketAddr>,
    /// One for each certificate of the CA.
    pub certificates: Vec<Wanted>,
    /// The local CA; none without `[local]`.
    pub local: Option<Local>,
}

/// `[local]`: a local CA, and the certificate that it issues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Local {
    /// Folder of both, and of their keys.
    pub folder: PathBuf,
    /// The hosts that its certificate is for.
    pub names: Vec<String>,
    /// Domains and networks that it may issue for as well, decided when the CA is made.
    pub permit: Vec<String>,
    /// For how long a certificate is valid, in seconds.
    pub lifetime_s: i64,
}

/// A certificate authority, and the values for requests to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ca {
    /// Its directory (RFC 8555 §7.1.1).
    pub directory: String,
    /// PEM file with the roots that its own certificate may lead to.
    pub trust: Option<PathBuf>,
    /// Mail address of the account.
    pub contact: Option<String>,
    /// Certificate profile; `auto`: the CA's default.
    pub profile: String,
    /// Kind of key of each certificate.
    pub key: KeyChoice,
    /// Binds the account to one on the CA's web site.
    pub eab: Option<Binding>,
}

/// External account binding (RFC 8555 §7.3.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// The identifier of the key.
    pub kid: String,
    /// File with the key, as the CA shows it: base64url.
    pub key_file: PathBuf,
}

/// An enum whose values have the same names in sanedge.toml and in `x.acme`, and the list of them.
macro_rules! named {
    ($(#[$about:meta])* pub enum $name:ident [$count:literal] { $($(#[$of:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name { $($(#[$of])* #[serde(rename = $text)] $variant,)+ }

        impl $name {
            /// Each with its name.
            pub const ALL: [(&'static str, Self); $count] = [$(($text, Self::$variant),)+];
        }
    };
}

named! {
    /// Kind of a certificate's key.
    pub enum KeyChoice [2] {
        /// ECDSA with P-256.
        P256 = "p256",
        /// ECDSA with P-384.
        P384 = "p384",
    }
}

named! {
    /// How the CA validates a name.
    pub enum Challenge [4] {
        /// dns-01 with `[acme.dns]`; else http-01 if the edge answers on a plain listener; else tls-alpn-01.
        Auto = "auto",
        /// RFC 8555 §8.3, on port 80.
        Http01 = "http-01",
        /// RFC 8737, on port 443.
        TlsAlpn01 = "tls-alpn-01",
        /// RFC 8555 §8.4, by a TXT record.
        Dns01 = "dns-01",
    }
}

/// `[acme.dns]`: what creates TXT records for dns-01 (RFC 8555 §8.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dns {
    /// Kind of provider.
    pub provider: Provider,
    /// TOML file with its credentials.
    pub credentials: PathBuf,
    /// Name servers to query instead of the system's resolver and the zone's servers.
    pub resolvers: Vec<SocketAddr>,
}

named! {
    /// A DNS provider, or a program that knows one.
    pub enum Provider [6] {
        /// Dynamic updates with TSIG.
        Rfc2136 = "rfc2136",
        /// A server of <https://github.com/joohoi/acme-dns>.
        AcmeDns = "acme-dns",
        /// Cloudflare.
        Cloudflare = "cloudflare",
        /// <https://desec.io>
        Desec = "desec",
        /// <https://www.duckdns.org>
        Duckdns = "duckdns",
        /// A program of the user's.
        Exec = "exec",
    }
}

/// One certificate to obtain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Its names; its files are named after the first.
    pub names: Vec<String>,
}

impl Wanted {
    /// The name that identifies it in messages and file names.
    pub fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }
}

/// The well-known directories: name in sanedge.toml, URL, and the URL of the same CA's staging directory.
const DIRECTORIES: [(&str, &str, Option<&str>); 4] = [
    ("letsencrypt", LETS_ENCRYPT, Some(LETS_ENCRYPT_STAGING)),
    ("letsencrypt-staging", LETS_ENCRYPT_STAGING, None),
    ("zerossl", "https://acme.zerossl.com/v2/DV90", None),
    ("google", "https://dv.acme-v02.api.pki.goog/directory", None),
];
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
const LETS_ENCRYPT_STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";

/// What Let's Encrypt writes before the names of its staging CAs.
pub const STAGING_MARK: &str = "(STAGING)";

/// The URL of a `directory` in sanedge.toml, which is a name or a URL.
pub fn directory(written: &str) -> Option<String> {
    let known = DIRECTORIES.iter().find(|(name, ..)| *name == written).map(|(_, url, _)| (*url).to_owned());
    let is_url = |url: &&str| {
        let rest = url.strip_prefix("https://").unwrap_or_default();
        let host = rest.split('/').next().unwrap_or_default();
        !host.is_empty()
            && !host.contains('@')
            && url.len() <= 512
            && url.bytes().all(|b| b.is_ascii_graphic())
    };
    known.or_else(|| Some(written).filter(is_url).map(str::to_owned))
}

/// Hosts of CAs that require external account binding (RFC 8555 §7.3.4).
const BINDING: [&str; 4] =
    ["acme.zerossl.com", "dv.acme-v02.api.pki.goog", "dv.acme-v02.test-api.pki.goog", "acme.ssl.com"];

/// Whether the CA of this directory is known to require external account binding.
pub fn wants_binding(directory: &str) -> bool {
    let rest = directory.strip_prefix("https://").unwrap_or(directory);
    let host = rest.split(['/', ':', '?', '#']).next().unwrap_or_default();
    BINDING.iter().any(|name| name.eq_ignore_ascii_case(host))
}

/// The names that `directory` takes.
pub fn directory_names() -> Vec<&'static str> {
    DIRECTORIES.iter().map(|(name, ..)| *name).collect()
}

impl Default for Ca {
    /// Let's Encrypt, which is told nothing.
    fn default() -> Self {
        let (directory, profile) = (LETS_ENCRYPT.to_owned(), "auto".to_owned());
        Self { directory, trust: None, contact: None, profile, key: KeyChoice::P256, eab: None }
    }
}

impl Ca {
    /// The directory of the same CA for trials.
    pub fn staging(&self) -> Option<&'static str> {
        DIRECTORIES.iter().find(|(_, url, _)| *url == self.directory)?.2
    }

    /// Its name in CAA records, if that is known without a request to it.
    pub fn caa_identity(&self) -> Option<&'static str> {
        DIRECTORIES.iter().find(|(_, url, _)| *url == self.directory).map(|(name, ..)| match *name {
            "zerossl" => "sectigo.com",
            "google" => "pki.goog",
            _ => "letsencrypt.org",
        })
    }

    /// Its certificates are for trials: browsers refuse them.
    pub fn is_staging(&self) -> bool {
        self.directory == LETS_ENCRYPT_STAGING
    }
}

impl Plan {
    /// What `sanedge renew --host` calls the certificate of `host`.
    pub fn renewed_as<'a>(&'a self, host: &'a str) -> &'a str {
        let wanted = self.certificates.iter().find(|wanted| wanted.names.iter().any(|name| name == host));
        wanted.map_or(host, Wanted::name)
    }

    /// For the bundle at `bundle`.
    #[must_use]
    pub fn for_bundle(self, bundle: &Path) -> Self {
        Self { bundle: std::path::absolute(bundle).unwrap_or_else(|_| bundle.to_owned()), ..self }
    }

    /// The file.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Parses the file.
    ///
    /// # Errors
    /// One sentence about what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let plan: Self = serde_json::from_slice(bytes).map_err(|error| damage(&error))?;
        let local = || plan.local.iter().flat_map(|local| &local.names);
        let names = plan.certificates.iter().flat_map(|wanted| &wanted.names).chain(local());
        let strange = names.into_iter().find(|name| !is_name(name));
        // The edge tells both to everybody who may see its status.
        let tells_key = std::iter::once(&plan.ca)
            .chain(&plan.fallback)
            .any(|ca| url_may_hold_key(&ca.directory) || may_hold_key(&ca.profile));
        match (plan.version, strange) {
            (VERSION, None) if tells_key => {
                Err("the directory or the profile of a CA contains what may be a key".to_owned())
            }
            (VERSION, None) => Ok(plan),
            (VERSION, Some(_)) => Err("a name is neither a host nor a wildcard".to_owned()),
            (other, _) => Err(format!("version {other}, expected {VERSION}")),
        }
    }

    /// Where it is for a bundle at `bundle`.
    pub fn beside(bundle: &Path) -> PathBuf {
        bundle.with_extension("acme")
    }
}

/// What is wrong and where. serde's own message quotes the file, which may contain a key.
fn damage(error: &serde_json::Error) -> String {
    use serde_json::error::Category;
    let what = match error.classify() {
        Category::Data => "a field that is missing, unknown or of another type",
        Category::Eof => "the end of the file in the middle of the document",
        Category::Syntax | Category::Io => "text that is not JSON",
    };
    format!("{what} at line {}, column {}", error.line(), error.column())
}

/// Whether a part of a URL may be a key. A UUID, with which some private CAs name an account, is not one.
pub fn url_may_hold_key(url: &str) -> bool {
    url.split('/').any(may_be_key)
}

fn may_be_key(part: &str) -> bool {
    let groups = || part.split('-');
    let is_uuid = groups().map(str::len).eq([8, 4, 4, 4, 12])
        && groups().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()));
    !is_uuid && may_hold_key(part)
}

/// Whether it is a host or a wildcard, and so may be shown in messages.
fn is_name(name: &str) -> bool {
    file_name(name).is_some() && Host::parse(name.strip_prefix("*.").unwrap_or(name)).is_ok()
}

/// The name of a file for `name`; `None` unless it is a host name, an address or a wildcard, so that nothing else becomes part of a path.
pub fn file_name(name: &str) -> Option<String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b':' | b'_');
    let plain = name.strip_prefix("*.").unwrap_or(name);
    let good =
        !plain.is_empty() && plain.len() <= 253 && !plain.starts_with('.') && plain.bytes().all(allowed);
    good.then(|| if plain == name { plain.to_owned() } else { format!("_wildcard.{plain}") })
}

/// The address at which this machine reaches a listener.
pub fn here(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listener.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unspecified_listener_is_reached_on_loopback() {
        for (listener, address) in
            [("[::]:80", "[::1]:80"), ("0.0.0.0:8080", "127.0.0.1:8080"), ("192.0.2.1:80", "192.0.2.1:80")]
        {
            assert_eq!(here(listener.parse().unwrap()), address.parse().unwrap());
        }
    }

    #[test]
    fn a_directory_is_a_known_name_or_an_https_url() {
        assert_eq!(directory("letsencrypt").as_deref(), Some(LETS_ENCRYPT));
        assert_eq!(directory("https://ca.lan:14000/dir").as_deref(), Some("https://ca.lan:14000/dir"));
        for bad in
            ["http://ca.lan/dir", "https://", "https:///x", "https://u@ca/", "https://ca/ x", "lets", ""]
        {
            assert_eq!(directory(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_ca_that_wants_external_account_binding_is_known_by_its_url() {
        for name in ["zerossl", "google"] {
            assert!(wants_binding(&directory(name).unwrap()), "{name}");
        }
        for wants in [
            "https://acme.zerossl.com/v2/DV90",
            "https://dv.acme-v02.api.pki.goog/directory",
            "https://dv.acme-v02.test-api.pki.goog:443/directory",
            "https://ACME.SSL.com/sslcom-dv-ecc",
        ] {
            assert!(wants_binding(wants), "{wants}");
        }
        for not in
            [LETS_ENCRYPT, LETS_ENCRYPT_STAGING, "https://acme.zerossl.com.lan/dir", "https://ca.lan/google"]
        {
            assert!(!wants_binding(not), "{not}");
        }
    }

    #[test]
    fn only_names_become_file_names() {
        for (name, file) in [
            ("recre.store", Some("recre.store")),
            ("*.recre.store", Some("_wildcard.recre.store")),
            ("192.0.2.1", Some("192.0.2.1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("..", None),
            ("../x", None),
            ("a/b", None),
            ("", None),
            ("*.", None),
            (".x", None),
            ("a\0", None),
        ] {
            assert_eq!(file_name(name).as_deref(), file, "{name:?}");
        }
    }
}
