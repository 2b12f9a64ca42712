//! `sanedge.toml` as typed values that remember their lines.
//!
//! Reads one file, and nothing that the file names. Every problem is collected, so that one run shows them all.
//! What it does not do: compare one key with another; that is [`super::compile`]'s work.

mod advice;
mod foreign;
mod reader;
mod typed;
mod values;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use toml::de::DeTable;

use super::file::word;
use super::finding::{Code, Finding};
use super::{Admin, SuiteOrder, Upstream, wire};
use crate::excerpt::Excerpt;
use crate::limits;
use crate::names::{Host, Origin};
use reader::Reader;
pub(super) use typed::out_of_bounds;
#[cfg(feature = "doctor")]
pub(crate) use values::{without_scheme, zoned_upstream};

/// Largest sanedge.toml, in bytes: far above any real one, far below what would hurt a board.
pub const SOURCE_BYTES_MAX: u64 = 1024 * 1024;
/// Syntax errors that are told; those after the first few mostly follow from them.
const SYNTAX_ERRORS_TOLD_MAX: usize = 10;

/// A value and the line it stands on, counted from 1.
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
    /// `[limits]`: names and values as the limits module reads them.
    pub limits: Vec<LimitSetting>,
    /// Proxies whose X-Forwarded-For is believed.
    pub trusted_proxies: Vec<Lined<IpNet>>,
    /// Networks that no limit by client address holds for.
    pub exempt: Vec<IpNet>,
    /// Reload by itself when the bundle is replaced.
    pub watch: bool,
    /// How long a drain waits.
    pub drain_timeout: Duration,
    /// Over how long a drain spreads its Close frames.
    pub drain_spread: Duration,
    /// Which cipher suites lead.
    pub suite_order: SuiteOrder,
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
    /// Host for a hello without SNI.
    pub default_host: Option<Lined<Host>>,
    /// The port that clients see.
    pub public_https_port: u16,
    /// Folder of ACME tokens.
    pub acme_dir: Option<Lined<PathBuf>>,
    /// Peers that must speak the PROXY protocol.
    pub proxy_protocol_from: Vec<Lined<IpNet>>,
}

/// A file as it is written in sanedge.toml, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// As written: for people.
    pub label: Excerpt,
    /// Resolved against the folder of sanedge.toml.
    pub path: PathBuf,
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
    /// What it answers to.
    pub hosts: Vec<Lined<Host>>,
    /// The site's own upstream, if any, and its `[[site.route]]`s, with what they inherit.
    pub routes: Vec<Route>,
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
    /// Refuse an upgrade without Origin.
    pub require_origin: bool,
    /// Client networks.
    pub allow: Vec<IpNet>,
    /// From the end of the request to the response head.
    pub response_timeout: Duration,
    /// Cut an idle WebSocket or response.
    pub idle_timeout: Option<Duration>,
    /// WebSocket Ping interval.
    pub ping_interval: Option<Duration>,
    /// Largest frame payload.
    pub frame_bytes_max: Option<u64>,
    /// Largest message.
    pub message_bytes_max: Option<u64>,
    /// Largest request body.
    pub body_bytes_max: Option<u64>,
    /// Check text messages.
    pub check_utf8: bool,
    /// PROXY protocol version to speak.
    pub send_proxy_protocol: Option<u8>,
    /// One log line a request.
    pub access_log: bool,
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

/// Why a file could not be read whole.
#[derive(Debug)]
pub(crate) enum FileTrouble {
    Missing,
    NotRegular(&'static str),
    Unreadable(std::io::Error),
    Empty,
    TooLarge(u64),
}

/// Reads a regular file of 1 to `bytes_max` bytes.
pub(crate) fn read_bounded(path: &Path, bytes_max: u64) -> Result<Vec<u8>, FileTrouble> {
    use std::io::Read as _;
    let about = std::fs::metadata(path).map_err(FileTrouble::of)?;
    if !about.is_file() {
        return Err(FileTrouble::NotRegular(if about.is_dir() { "a folder" } else { "a pipe or a device" }));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(FileTrouble::of)?;
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(FileTrouble::of)?;
    match bytes.len() as u64 {
        0 => Err(FileTrouble::Empty),
        length if length > bytes_max => Err(FileTrouble::TooLarge(about.len())),
        _ => Ok(bytes),
    }
}

impl FileTrouble {
    fn of(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::NotFound => Self::Missing,
            _ => Self::Unreadable(error),
        }
    }
}

impl fmt::Display for FileTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("no such file"),
            Self::NotRegular(what) => f.write_str(what),
            Self::Unreadable(error) => write!(f, "cannot be read: {error}"),
            Self::Empty => f.write_str("an empty file"),
            Self::TooLarge(bytes) => write!(f, "{bytes} bytes"),
        }
    }
}

/// Reads the file at `path`.
///
/// # Errors
/// Nothing but findings where the text is not TOML at all; else what could be understood, beside the findings.
pub fn read(path: &Path) -> (Option<Source>, Vec<Finding>) {
    let unusable = |found: &str, remedy: String| {
        Finding::new(Code::ConfigUnreadable, format!("`{}` cannot be used", Excerpt::of_path(path)))
            .at(path, 0)
            .expected(format!("a sanedge.toml: a text file of at most {} KiB", SOURCE_BYTES_MAX / 1024))
            .found(found)
            .remedy(remedy)
    };
    let unreadable = |found: String| {
        unusable(
            &found,
            "Give the path of your sanedge.toml: `sanedge bundle /etc/sanedge/sanedge.toml`.".to_owned(),
        )
    };
    let bytes = match read_bounded(path, SOURCE_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(FileTrouble::Empty) => {
            let remedy = "Write it, or copy it here again; a full disk leaves empty files.".to_owned();
            return (None, vec![unusable("an empty file", remedy)]);
        }
        Err(trouble) => return (None, vec![unreadable(trouble.to_string())]),
    };
    if bytes.starts_with(&wire::MAGIC) {
        let path = word(path);
        let remedy = format!(
            "Type `sanedge show {path}` or `sanedge serve {path}`; to make it anew, give your sanedge.toml."
        );
        return (
            None,
            vec![unusable("a bundle already: what `sanedge bundle` makes, not what it reads", remedy)],
        );
    }
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        let path = word(path);
        let remedy = format!("Save it as UTF-8, or type: iconv -f UTF-16 -t UTF-8 {path} > utf8.toml");
        return (None, vec![unusable("UTF-16 text", remedy)]);
    }
    match String::from_utf8(bytes) {
        Ok(text) => parse(path, &text),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            (None, vec![unusable(&format!("byte {at} is not UTF-8"), "Save the file as UTF-8.".to_owned())])
        }
    }
}

/// Parses `text` as the content of the file at `path`, which also anchors relative paths. A UTF-8 byte order mark
/// and CRLF line ends are fine.
pub fn parse(path: &Path, text: &str) -> (Option<Source>, Vec<Finding>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader::new(path, text);
    let (root, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        if text.lines().any(|line| line.starts_with("-----BEGIN ")) {
            reader.pem();
        } else {
            errors.iter().take(SYNTAX_ERRORS_TOLD_MAX).for_each(|e| reader.syntax(e, text));
        }
        return (None, reader.findings);
    }
    let source = reader.source(root.get_ref());
    (Some(source), reader.findings)
}
