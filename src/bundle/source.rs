//! `sanedge.toml` as typed values that remember their lines.
//!
//! Reads one file, and nothing that the file names. Every problem is collected, so that one run shows them all.
//! What it does not do: compare one key with another; that is [`super::compile`]'s work.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::finding::{Code, Finding, did_you_mean};
use super::{Admin, SuiteOrder, Upstream, wire};
use crate::limits;
use crate::names::{Host, Origin};

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
    pub label: String,
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
    /// Servers behind it; empty is a finding of the reader.
    pub upstreams: Vec<Lined<Upstream>>,
    /// Whether an upstream may be a public address.
    pub allow_public_upstream: bool,
    /// `None`: the default.
    pub origins: Option<Vec<OriginEntry>>,
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
    One(Origin),
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
    let unreadable = |found: String| {
        Finding::new(Code::ConfigUnreadable, format!("`{}` cannot be used", path.display()))
            .at(path, 0)
            .expected(format!("a sanedge.toml: a text file of at most {} KiB", SOURCE_BYTES_MAX / 1024))
            .found(found)
            .remedy("Give the path of your sanedge.toml: `sanedge bundle /etc/sanedge/sanedge.toml`.")
    };
    let bytes = match read_bounded(path, SOURCE_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(trouble) => return (None, vec![unreadable(trouble.to_string())]),
    };
    match String::from_utf8(bytes) {
        Ok(text) => parse(path, &text),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            (None, vec![unreadable(format!("byte {at} is not UTF-8; save the file as UTF-8"))])
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
        errors.iter().take(SYNTAX_ERRORS_TOLD_MAX).for_each(|e| reader.syntax(e));
        return (None, reader.findings);
    }
    let source = reader.source(root.get_ref());
    (Some(source), reader.findings)
}

type Value<'i> = Spanned<DeValue<'i>>;

/// Keys of one kind of table.
struct Section {
    /// As it is written in the file.
    title: &'static str,
    keys: &'static [&'static str],
}

const TOP: Section = Section {
    title: "the top of the file",
    keys: &[
        "board",
        "listen",
        "certificate",
        "site",
        "limits",
        "trusted_proxies",
        "trust",
        "watch",
        "drain_timeout",
        "drain_spread",
        "suite_order",
    ],
};
const LISTEN: Section = Section {
    title: "[listen]",
    keys: &["https", "http", "admin", "default_host", "public_https_port", "acme_dir", "proxy_protocol_from"],
};
const CERTIFICATE: Section = Section { title: "[[certificate]]", keys: &["chain", "key"] };
macro_rules! rule_keys {
    ($($own:literal),*) => {
        &[
            $($own,)*
            "upstream",
            "path",
            "origins",
            "require_origin",
            "allow",
            "allow_public_upstream",
            "response_timeout",
            "idle_timeout",
            "ping_interval",
            "frame_bytes_max",
            "message_bytes_max",
            "body_bytes_max",
            "check_utf8",
            "send_proxy_protocol",
            "access_log",
        ]
    };
}
const SITE: Section = Section { title: "[[site]]", keys: rule_keys!("hosts", "route") };
const ROUTE: Section = Section { title: "[[site.route]]", keys: rule_keys!() };

/// A value that its key cannot take.
struct Bad {
    expected: String,
    remedy: String,
}

impl Bad {
    fn new(expected: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { expected: expected.into(), remedy: remedy.into() }
    }
}

/// What a site hands down to its routes: all of `None` unless written.
#[derive(Clone, Default)]
struct Rules {
    upstreams: Option<Vec<Lined<Upstream>>>,
    origins: Option<Vec<OriginEntry>>,
    require_origin: Option<bool>,
    allow: Option<Vec<IpNet>>,
    allow_public_upstream: Option<bool>,
    response_timeout: Option<Duration>,
    idle_timeout: Option<Duration>,
    ping_interval: Option<Duration>,
    frame_bytes_max: Option<u64>,
    message_bytes_max: Option<u64>,
    body_bytes_max: Option<u64>,
    check_utf8: Option<bool>,
    send_proxy_protocol: Option<u8>,
    access_log: Option<bool>,
}

impl Rules {
    /// The route's own keys, the site's where it has none.
    fn or(self, site: &Self) -> Self {
        Self {
            upstreams: self.upstreams.or_else(|| site.upstreams.clone()),
            origins: self.origins.or_else(|| site.origins.clone()),
            require_origin: self.require_origin.or(site.require_origin),
            allow: self.allow.or_else(|| site.allow.clone()),
            allow_public_upstream: self.allow_public_upstream.or(site.allow_public_upstream),
            response_timeout: self.response_timeout.or(site.response_timeout),
            idle_timeout: self.idle_timeout.or(site.idle_timeout),
            ping_interval: self.ping_interval.or(site.ping_interval),
            frame_bytes_max: self.frame_bytes_max.or(site.frame_bytes_max),
            message_bytes_max: self.message_bytes_max.or(site.message_bytes_max),
            body_bytes_max: self.body_bytes_max.or(site.body_bytes_max),
            check_utf8: self.check_utf8.or(site.check_utf8),
            send_proxy_protocol: self.send_proxy_protocol.or(site.send_proxy_protocol),
            access_log: self.access_log.or(site.access_log),
        }
    }

    fn route(self, line: u32, path: String) -> Route {
        Route {
            line,
            path,
            upstreams: self.upstreams.unwrap_or_default(),
            allow_public_upstream: self.allow_public_upstream.unwrap_or(false),
            origins: self.origins,
            require_origin: self.require_origin.unwrap_or(false),
            allow: self.allow.unwrap_or_default(),
            response_timeout: self.response_timeout.unwrap_or_else(|| preset(&limits::RESPONSE_TIMEOUT)),
            idle_timeout: self.idle_timeout,
            ping_interval: self.ping_interval,
            frame_bytes_max: self.frame_bytes_max,
            message_bytes_max: self.message_bytes_max,
            body_bytes_max: self.body_bytes_max,
            check_utf8: self.check_utf8.unwrap_or(false),
            send_proxy_protocol: self.send_proxy_protocol,
            access_log: self.access_log.unwrap_or(false),
        }
    }
}

/// Turns TOML values into ours and remembers what was wrong with them.
struct Reader<'a> {
    path: &'a Path,
    folder: PathBuf,
    /// Offsets at which lines begin.
    lines: Vec<usize>,
    findings: Vec<Finding>,
}

impl<'a> Reader<'a> {
    fn new(path: &'a Path, text: &str) -> Self {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let folder = absolute.parent().unwrap_or(Path::new("/")).to_owned();
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { path, folder, lines, findings: Vec::new() }
    }

    fn line(&self, offset: usize) -> u32 {
        u32::try_from(self.lines.partition_point(|begin| *begin <= offset)).unwrap_or(u32::MAX)
    }

    fn line_of<T>(&self, spanned: &Spanned<T>) -> u32 {
        self.line(spanned.span().start)
    }

    fn push(&mut self, line: u32, finding: Finding) {
        self.findings.push(finding.at(self.path, line));
    }

    fn syntax(&mut self, error: &toml::de::Error) {
        let line = error.span().map_or(0, |span| self.line(span.start));
        let finding = Finding::new(Code::TomlSyntax, "this is not TOML")
            .expected("TOML 1.0: `key = \"text\"`, `key = [\"a\", \"b\"]`, `[table]`, `[[list of tables]]`")
            .found(error.message())
            .remedy("Mend this line; the lines after it are looked at once it reads as TOML.");
        self.push(line, finding);
    }

    // --- tables -------------------------------------------------------------------------------------------

    fn source(&mut self, root: &DeTable<'_>) -> Source {
        self.unknown_keys(root, &TOP);
        let board = root.get("board").and_then(|v| self.text(v, "board", "\"rpi4\""));
        let board = board.map(|b| Lined { value: b.value.to_owned(), line: b.line });
        if !root.contains_key("board") {
            self.missing(1, "board", &TOP, "board = \"rpi4\", or \"host\" for the machine that compiles");
        }
        self.wanted(root, &CERTIFICATE, "certificate", "chain = \"fullchain.pem\"\n  key = \"privkey.pem\"");
        self.wanted(root, &SITE, "site", "hosts = [\"recre.store\"]\n  upstream = [\"127.0.0.1:3000\"]");
        Source {
            path: self.path.to_owned(),
            board: board.unwrap_or(Lined { value: String::new(), line: 0 }),
            listen: self.listen(root),
            certificates: self.tables(root, &CERTIFICATE, "certificate", Self::certificate),
            trust: root.get("trust").and_then(|v| self.file(v, "trust", "\"ca.pem\"")),
            sites: self.tables(root, &SITE, "site", Self::site),
            limits: self.limits(root),
            trusted_proxies: self.networks(root, "trusted_proxies").unwrap_or_default(),
            watch: self.boolean(root, "watch").unwrap_or(false),
            drain_timeout: self
                .duration(root, &limits::DRAIN_TIMEOUT)
                .unwrap_or_else(|| preset(&limits::DRAIN_TIMEOUT)),
            drain_spread: self
                .later_key(root, "drain_spread", |reader, table, _| {
                    reader.duration(table, &limits::DRAIN_SPREAD)
                })
                .unwrap_or_else(|| preset(&limits::DRAIN_SPREAD)),
            suite_order: self.suite_order(root),
        }
    }

    fn listen(&mut self, root: &DeTable<'_>) -> Listen {
        let empty = DeTable::new();
        let table = match root.get("listen") {
            Some(value) => self.table(value, &LISTEN).unwrap_or(&empty),
            None => &empty,
        };
        self.unknown_keys(table, &LISTEN);
        let folder = self.folder.clone();
        Listen {
            https: self.addresses(table, "https").unwrap_or_else(|| vec![default_https()]),
            http: self.addresses(table, "http").unwrap_or_default(),
            admin: self
                .one(table, "admin", "\"unix:/run/sanedge/admin.sock\"", |text| parse_admin(text, &folder)),
            default_host: self.one(table, "default_host", "\"recre.store\"", parse_host),
            public_https_port: self.port(table, "public_https_port").unwrap_or(443),
            acme_dir: table
                .get("acme_dir")
                .and_then(|v| self.file(v, "acme_dir", "\"/var/lib/acme\""))
                .map(|f| Lined { value: f.value.path, line: f.line }),
            proxy_protocol_from: self
                .later_key(table, "proxy_protocol_from", Self::networks)
                .unwrap_or_default(),
        }
    }

    fn certificate(&mut self, table: &DeTable<'_>, line: u32) -> Option<CertificateFiles> {
        self.unknown_keys(table, &CERTIFICATE);
        let mut file = |key: &'static str, example: &str| {
            if !table.contains_key(key) {
                self.missing(line, key, &CERTIFICATE, &format!("{key} = {example}"));
            }
            table.get(key).and_then(|v| self.file(v, key, example))
        };
        let (chain, key) = (file("chain", "\"certs/fullchain.pem\""), file("key", "\"certs/privkey.pem\""));
        Some(CertificateFiles { line, chain: chain?, key: key? })
    }

    fn site(&mut self, table: &DeTable<'_>, line: u32) -> Option<Site> {
        self.unknown_keys(table, &SITE);
        let hosts = self.several(table, "hosts", "[\"recre.store\"]", parse_host);
        if hosts.as_ref().is_none_or(Vec::is_empty) && !table.get("hosts").is_some_and(|v| holds_items(v)) {
            self.missing(line, "hosts", &SITE, "hosts = [\"recre.store\"]");
        }
        let rules = self.rules(table);
        let path = self.one(table, "path", "\"/\"", parse_path);
        let routes =
            self.tables(table, &ROUTE, "route", |reader, route, line| reader.route(route, line, &rules));
        if rules.upstreams.is_none() && !table.contains_key("route") && !table.contains_key("upstream") {
            self.no_upstream(line, "this site has neither an upstream nor a route");
        }
        let own = rules
            .upstreams
            .is_some()
            .then(|| rules.route(line, path.map_or_else(|| "/".to_owned(), |p| p.value)));
        Some(Site { line, hosts: hosts.unwrap_or_default(), routes: own.into_iter().chain(routes).collect() })
    }

    fn route(&mut self, table: &DeTable<'_>, line: u32, site: &Rules) -> Option<Route> {
        self.unknown_keys(table, &ROUTE);
        let path = self.one(table, "path", "\"/socket.io/\"", parse_path);
        if !table.contains_key("path") {
            self.missing(line, "path", &ROUTE, "path = \"/socket.io/\"");
        }
        let rules = self.rules(table).or(site);
        if rules.upstreams.is_none() && !table.contains_key("upstream") {
            self.no_upstream(line, "this route has no upstream, and neither has its site");
        }
        Some(rules.route(line, path?.value))
    }

    fn rules(&mut self, table: &DeTable<'_>) -> Rules {
        let folder = self.folder.clone();
        let parse = |text: &str| parse_upstream(text, &folder);
        let upstreams = self.several(table, "upstream", "[\"127.0.0.1:3000\"]", parse);
        if upstreams.as_ref().is_some_and(Vec::is_empty) && !table.get("upstream").is_some_and(holds_items) {
            self.no_upstream(
                table.get("upstream").map_or(0, |v| self.line_of(v)),
                "the list of upstreams is empty",
            );
        }
        Rules {
            upstreams,
            origins: self.several(table, "origins", "[\"https://recre.store\"]", parse_origin).map(values),
            require_origin: self.boolean(table, "require_origin"),
            allow: self.networks(table, "allow").map(values),
            allow_public_upstream: self.boolean(table, "allow_public_upstream"),
            response_timeout: self.duration(table, &limits::RESPONSE_TIMEOUT),
            idle_timeout: self.duration(table, &limits::IDLE_TIMEOUT),
            ping_interval: self
                .later_key(table, "ping_interval", |r, t, _| r.duration(t, &limits::PING_INTERVAL)),
            frame_bytes_max: self
                .later_key(table, "frame_bytes_max", |r, t, _| r.ranged(t, &limits::FRAME_BYTES_MAX)),
            message_bytes_max: self
                .later_key(table, "message_bytes_max", |r, t, _| r.ranged(t, &limits::MESSAGE_BYTES_MAX)),
            body_bytes_max: self.ranged(table, &limits::BODY_BYTES_MAX),
            check_utf8: self.later_key(table, "check_utf8", Self::boolean),
            send_proxy_protocol: self.later_key(table, "send_proxy_protocol", Self::proxy_version),
            access_log: self.boolean(table, "access_log"),
        }
    }

    fn limits(&mut self, root: &DeTable<'_>) -> Vec<LimitSetting> {
        let section = Section { title: "[limits]", keys: &[] };
        let Some(table) = root.get("limits").and_then(|v| self.table(v, &section)) else { return Vec::new() };
        let mut settings = Vec::new();
        for (name, value) in table.iter() {
            let name = Lined { value: name.get_ref().to_string(), line: self.line_of(name) };
            if let Some(value) = self.limit(&name.value, value) {
                settings.push(LimitSetting { name, value });
            }
        }
        settings
    }

    fn limit(&mut self, name: &str, value: &Value<'_>) -> Option<LimitValue> {
        match value.get_ref() {
            DeValue::String(text) => Some(LimitValue::Text(text.to_string())),
            // A number beyond 64 bits is beyond every bound as well.
            DeValue::Integer(_) => Some(LimitValue::Number(integer(value).unwrap_or(i64::MAX))),
            _ => {
                self.wrong_type(value, name, "a number, a size or a duration", "4096, \"16KiB\" or \"30s\"");
                None
            }
        }
    }

    fn tables<'t, 'i, T>(
        &mut self,
        parent: &'t DeTable<'i>,
        section: &Section,
        key: &'static str,
        mut one: impl FnMut(&mut Self, &'t DeTable<'i>, u32) -> Option<T>,
    ) -> Vec<T> {
        let Some(value) = parent.get(key) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type(value, key, "a list of tables", section.title);
            return Vec::new();
        };
        self.room(items.get(0).map_or(0, |item| self.line_of(item)), key, items.len());
        let mut found = Vec::new();
        for item in items.iter() {
            let line = self.line_of(item);
            if let Some(made) = self.table(item, section).and_then(|table| one(self, table, line)) {
                found.push(made);
            }
        }
        found
    }

    fn table<'t, 'i>(&mut self, value: &'t Value<'i>, section: &Section) -> Option<&'t DeTable<'i>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong_type(value, section.title, "a table", section.title);
        }
        table
    }

    // --- values -------------------------------------------------------------------------------------------

    fn one<T>(
        &mut self,
        table: &DeTable<'_>,
        key: &'static str,
        example: &str,
        parse: impl Fn(&str) -> Result<T, Bad>,
    ) -> Option<Lined<T>> {
        let value = table.get(key)?;
        let text = self.text(value, key, example)?;
        self.parsed(value, key, text.value, parse)
    }

    /// The well-formed items of a list of strings; `None` where the key is absent or not a list.
    fn several<T>(
        &mut self,
        table: &DeTable<'_>,
        key: &'static str,
        example: &str,
        parse: impl Fn(&str) -> Result<T, Bad>,
    ) -> Option<Vec<Lined<T>>> {
        let value = table.get(key)?;
        let Some(items) = value.get_ref().as_array() else {
            self.wrong_type(value, key, "a list of strings", example);
            return None;
        };
        self.room(self.line_of(value), key, items.len());
        let mut good = Vec::new();
        for item in items.iter() {
            let Some(text) = self.text(item, key, example) else { continue };
            good.extend(self.parsed(item, key, text.value, &parse));
        }
        Some(good)
    }

    fn parsed<T>(
        &mut self,
        value: &Value<'_>,
        key: &str,
        text: &str,
        parse: impl Fn(&str) -> Result<T, Bad>,
    ) -> Option<Lined<T>> {
        match parse(text) {
            Ok(parsed) => Some(Lined { value: parsed, line: self.line_of(value) }),
            Err(bad) => {
                self.bad(value, key, bad);
                None
            }
        }
    }

    fn text<'t>(&mut self, value: &'t Value<'_>, key: &str, example: &str) -> Option<Lined<&'t str>> {
        match value.get_ref().as_str() {
            Some(text) => Some(Lined { value: text, line: self.line_of(value) }),
            None => {
                self.wrong_type(value, key, "a string", example);
                None
            }
        }
    }

    fn file(&mut self, value: &Value<'_>, key: &'static str, example: &str) -> Option<Lined<NamedFile>> {
        let text = self.text(value, key, example)?;
        let fits = (1..=wire::TEXT_BYTES_MAX).contains(&text.value.len());
        if !fits || text.value.contains(char::is_control) {
            let expected =
                format!("a path of 1 to {} bytes, without control characters", wire::TEXT_BYTES_MAX);
            self.bad(value, key, Bad::new(expected, format!("Write {key} = {example}.")));
            return None;
        }
        let file = NamedFile { label: text.value.to_owned(), path: self.folder.join(text.value) };
        Some(Lined { value: file, line: text.line })
    }

    fn boolean(&mut self, table: &DeTable<'_>, key: &'static str) -> Option<bool> {
        let value = table.get(key)?;
        let found = value.get_ref().as_bool();
        if found.is_none() {
            self.wrong_type(value, key, "true or false", "true");
        }
        found
    }

    fn duration(&mut self, table: &DeTable<'_>, range: &limits::Range) -> Option<Duration> {
        self.ranged(table, range).map(Duration::from_millis)
    }

    /// A number in the unit of `range` and within it.
    fn ranged(&mut self, table: &DeTable<'_>, range: &limits::Range) -> Option<u64> {
        let value = table.get(range.key)?;
        let written = self.limit(range.key, value)?;
        match range.read(written.borrowed()) {
            Ok(number) => Some(number),
            Err(error) => {
                let finding = out_of_bounds(range.key, &error, &shown(value));
                self.push(self.line_of(value), finding);
                None
            }
        }
    }

    fn port(&mut self, table: &DeTable<'_>, key: &'static str) -> Option<u16> {
        let value = table.get(key)?;
        let found = integer(value).and_then(|n| u16::try_from(n).ok()).filter(|port| *port > 0);
        if found.is_none() {
            self.bad(value, key, Bad::new("a port number, 1 to 65535", format!("Write {key} = 443.")));
        }
        found
    }

    fn proxy_version(&mut self, table: &DeTable<'_>, key: &'static str) -> Option<u8> {
        let value = table.get(key)?;
        let found = integer(value).and_then(|n| u8::try_from(n).ok()).filter(|n| matches!(n, 1 | 2));
        if found.is_none() {
            self.bad(
                value,
                key,
                Bad::new("version 1 or 2 of the PROXY protocol", format!("Write {key} = 2.")),
            );
        }
        found
    }

    fn suite_order(&mut self, root: &DeTable<'_>) -> SuiteOrder {
        let parse = |text: &str| match text {
            "auto" => Ok(SuiteOrder::Auto),
            "aes" => Ok(SuiteOrder::Aes),
            "chacha" => Ok(SuiteOrder::Chacha),
            _ => Err(Bad::new("\"auto\", \"aes\" or \"chacha\"", "Leave it out unless you have measured.")),
        };
        self.one(root, "suite_order", "\"auto\"", parse).map_or(SuiteOrder::Auto, |s| s.value)
    }

    fn networks(&mut self, table: &DeTable<'_>, key: &'static str) -> Option<Vec<Lined<IpNet>>> {
        self.several(table, key, "[\"192.168.0.0/16\"]", parse_network)
    }

    fn addresses(&mut self, table: &DeTable<'_>, key: &'static str) -> Option<Vec<Lined<SocketAddr>>> {
        let list = self.several(table, key, "[\"[::]:443\"]", parse_listener)?;
        let given = table.get(key)?;
        if list.is_empty() && key == "https" && !holds_items(given) {
            let bad = Bad::new(
                "at least one address",
                "Write https = [\"[::]:443\"], or leave the key out for that.",
            );
            self.bad(given, key, bad);
        }
        Some(list)
    }

    // --- findings -----------------------------------------------------------------------------------------

    /// Reads a key whose behaviour has not landed: stored, and said so.
    fn later_key<T>(
        &mut self,
        table: &DeTable<'_>,
        key: &'static str,
        read: impl FnOnce(&mut Self, &DeTable<'_>, &'static str) -> Option<T>,
    ) -> Option<T> {
        let found = read(self, table, key)?;
        let line = table.get(key).map_or(0, |v| self.line_of(v));
        let finding = Finding::new(
            Code::NotYetEnforced,
            format!("`{key}` is stored, but this version does not act on it"),
        )
        .expected("a key that this version acts on")
        .found(format!("`{key}`"))
        .remedy("Do not rely on it yet. A later version will act on it without a change here.");
        self.push(line, finding);
        Some(found)
    }

    fn bad(&mut self, value: &Value<'_>, key: &str, bad: Bad) {
        let code = if key == "hosts" || key == "default_host" { Code::BadHost } else { Code::BadValue };
        let found = shown(value);
        let finding = Finding::new(code, format!("`{key}` cannot be {found}"))
            .expected(bad.expected)
            .found(found)
            .remedy(bad.remedy);
        self.push(self.line_of(value), finding);
    }

    fn wrong_type(&mut self, value: &Value<'_>, key: &str, expected: &str, example: &str) {
        let remedy = if example.starts_with('[') && example == key {
            format!("Write it as a table, {example}, with its keys below.")
        } else if example.starts_with("[[") {
            format!("Write it as {example}, with its keys below.")
        } else {
            format!("Write {key} = {example}.")
        };
        let finding = Finding::new(Code::WrongType, format!("`{key}` should be {expected}"))
            .expected(format!("{expected}, as in {example}"))
            .found(format!("{} ({})", value.get_ref().type_str(), shown(value)))
            .remedy(remedy);
        self.push(self.line_of(value), finding);
    }

    fn missing(&mut self, line: u32, key: &str, section: &Section, example: &str) {
        let finding = Finding::new(Code::MissingKey, format!("`{key}` is missing in {}", section.title))
            .expected(format!("`{key}`"))
            .found("nothing")
            .remedy(format!("Add {example}."));
        self.push(line, finding);
    }

    /// Says so where the bundle has no room for a list of `count`. What several lists need together the encoder sees.
    fn room(&mut self, line: u32, key: &str, count: usize) {
        let max = match key {
            "https" | "http" => wire::LISTENERS_MAX,
            "trusted_proxies" | "proxy_protocol_from" => wire::NETS_MAX,
            "certificate" => wire::CERTIFICATES_MAX,
            "site" => wire::SITES_MAX,
            "hosts" => wire::HOSTS_MAX,
            "route" => wire::ROUTES_MAX,
            "upstream" => wire::ROUTE_UPSTREAMS_MAX,
            "origins" => wire::ORIGINS_MAX,
            _ => wire::ALLOW_MAX,
        };
        if count > max {
            let finding = Finding::new(Code::TooMany, format!("too many entries in `{key}`"))
                .expected(format!("at most {max}"))
                .found(count.to_string())
                .remedy("Leave out what is not needed, or run a second edge with a bundle of its own.");
            self.push(line, finding);
        }
    }

    /// Says so where there is not one table of a kind.
    fn wanted(&mut self, root: &DeTable<'_>, section: &Section, key: &str, example: &str) {
        if root.get(key).is_some_and(holds_items) {
            return;
        }
        let finding = Finding::new(Code::MissingKey, format!("there is no {}", section.title))
            .expected(format!("at least one {}", section.title))
            .found("none")
            .remedy(format!("Add one:\n  {}\n  {example}", section.title));
        self.push(0, finding);
    }

    fn no_upstream(&mut self, line: u32, message: &str) {
        let finding = Finding::new(Code::NoUpstream, message)
            .expected("at least one server to send requests to")
            .found("none")
            .remedy("Add upstream = [\"127.0.0.1:3000\"].");
        self.push(line, finding);
    }

    fn unknown_keys(&mut self, table: &DeTable<'_>, section: &Section) {
        let strange: Vec<_> =
            table.keys().filter(|k| !section.keys.contains(&k.get_ref().as_ref())).collect();
        for key in strange {
            let line = self.line_of(key);
            let finding = Finding::new(
                Code::UnknownKey,
                format!("unknown key `{}` in {}", key.get_ref(), section.title),
            )
            .expected(format!("one of {}", section.keys.join(", ")))
            .found(format!("`{}`", key.get_ref()))
            .remedy(advice(key.get_ref(), section));
            self.push(line, finding);
        }
    }
}

/// What to do about an unknown key: move it, or mend its spelling.
fn advice(key: &str, section: &Section) -> String {
    let others = [&TOP, &LISTEN, &CERTIFICATE, &SITE, &ROUTE];
    if let Some(home) = others.iter().find(|other| other.keys.contains(&key)) {
        return format!("`{key}` belongs in {}: move it there.", home.title);
    }
    if limits::find(key).is_some() {
        return format!("`{key}` belongs in [limits]: move it there.");
    }
    match did_you_mean(key, section.keys.iter().copied()) {
        Some(near) => format!("Did you mean `{near}`?"),
        None => "Remove it.".to_owned(),
    }
}

/// The default of a bounded key outside `[limits]`.
fn preset(range: &limits::Range) -> Duration {
    let row = limits::KEYS.iter().find(|(known, _)| known.key == range.key);
    match row {
        Some((_, limits::Preset::Fixed(default_ms))) => Duration::from_millis(*default_ms),
        _ => Duration::from_millis(range.max),
    }
}

/// What is wrong with a bounded value, in the words of the limits module.
pub(super) fn out_of_bounds(key: &str, error: &limits::LimitError, found: &str) -> Finding {
    use limits::LimitError::{Above, Duration, Form, OutOfRange, Size, Unknown};
    let known =
        limits::LIMITS.iter().map(|limit| &limit.range).chain(limits::KEYS.iter().map(|(range, _)| range));
    let range = known.into_iter().find(|range| range.key == key);
    let (code, expected) = match error {
        OutOfRange { range, .. } => (Code::OutOfRange, range.to_string()),
        Above { bound, max, .. } => (Code::OutOfRange, format!("at most `{bound}`, which is {max}")),
        Form { unit, .. } => (Code::BadValue, unit.form().to_owned()),
        Duration { .. } => (Code::BadValue, limits::Unit::Milliseconds.form().to_owned()),
        Size { .. } => (Code::BadValue, limits::Unit::Bytes.form().to_owned()),
        Unknown { .. } => (Code::UnknownKey, "a limit that exists".to_owned()),
    };
    let remedy = match (error, range) {
        (Unknown { suggestion: Some(near), .. }, _) => format!("Did you mean `{near}`?"),
        (Unknown { .. }, _) => "Remove it.".to_owned(),
        (_, Some(range)) => {
            format!("Write a value from {range}, or leave the key out. Why: {}.", range.reason)
        }
        _ => "Leave the key out for its default.".to_owned(),
    };
    let message = match error {
        Unknown { .. } => format!("unknown key `{key}` in [limits]"),
        _ => format!("`{key}` cannot be {found}"),
    };
    Finding::new(code, message).expected(expected).found(found).remedy(remedy)
}

fn default_https() -> Lined<SocketAddr> {
    Lined { value: SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 443)), line: 0 }
}

fn values<T>(list: Vec<Lined<T>>) -> Vec<T> {
    list.into_iter().map(|l| l.value).collect()
}

fn integer(value: &Value<'_>) -> Option<i64> {
    let number = value.get_ref().as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn holds_items(value: &Value<'_>) -> bool {
    value.get_ref().as_array().is_none_or(|items| !items.is_empty())
}

/// A value as a person wrote it, short.
fn shown(value: &Value<'_>) -> String {
    match value.get_ref() {
        DeValue::String(text) => format!("\"{text}\""),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(is) => is.to_string(),
        DeValue::Datetime(date) => date.to_string(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

// --- small languages inside strings -----------------------------------------------------------------------

fn parse_host(text: &str) -> Result<Host, Bad> {
    Host::parse(text).map_err(|error| Bad::new(error.to_string(), host_advice(text)))
}

fn host_advice(text: &str) -> String {
    if text.contains("://") || text.contains('/') {
        return "Write the bare host, without scheme and path.".to_owned();
    }
    if text.starts_with('*') {
        return "List every host by its full name; the certificate may well be a wildcard.".to_owned();
    }
    if !text.is_ascii() {
        return "Write the name in its ASCII form (xn--…); `idn2 --quiet <name>` prints it.".to_owned();
    }
    match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') && port.bytes().all(|b| b.is_ascii_digit()) => {
            format!("Write `{host}`; ports belong in [listen].")
        }
        _ => "Write a name such as `socket.recre.store`, or an address.".to_owned(),
    }
}

fn parse_upstream(text: &str, folder: &Path) -> Result<Upstream, Bad> {
    let bad = |remedy: String| {
        Bad::new("an address with port, a name with port, or unix:/path: \"127.0.0.1:3000\"", remedy)
    };
    if let Some(path) = text.strip_prefix("unix:") {
        return unix_path(path, folder).map(Upstream::Unix);
    }
    if let Some((_, rest)) = text.split_once("://") {
        let rest = rest.trim_end_matches('/');
        return Err(bad(format!(
            "Leave the scheme out: \"{rest}\". Upstreams are spoken to in plain HTTP/1.1."
        )));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return address_upstream(address).map_err(bad);
    }
    match Host::parse_authority(text) {
        Ok((Host::Dns(name), Some(port))) if port > 0 => {
            Ok(Upstream::Name { host: name.as_str().to_owned(), port })
        }
        Ok((host, None)) => Err(bad(format!("Add the port: \"{}:3000\".", bracketed(&host)))),
        Ok(_) => Err(bad("Write a port from 1 to 65535.".to_owned())),
        Err(error) => Err(bad(format!("Mend the name: {error}."))),
    }
}

fn address_upstream(address: SocketAddr) -> Result<Upstream, String> {
    let ip = address.ip().to_canonical();
    if address.port() == 0 {
        return Err("Write a port from 1 to 65535.".to_owned());
    }
    if ip.is_unspecified() {
        return Err(format!("{ip} is an address to listen on; write \"127.0.0.1:{}\".", address.port()));
    }
    Ok(Upstream::Address(SocketAddr::new(ip, address.port())))
}

fn bracketed(host: &Host) -> String {
    match host {
        Host::Ip(std::net::IpAddr::V6(ip)) => format!("[{ip}]"),
        other => other.to_string(),
    }
}

/// A socket's path; a relative one lies beside sanedge.toml, like every other relative path.
fn unix_path(text: &str, folder: &Path) -> Result<PathBuf, Bad> {
    let path = folder.join(text);
    let fits = path.as_os_str().len() <= wire::SOCKET_PATH_BYTES_MAX;
    if fits && !text.is_empty() && !text.contains('\0') {
        return Ok(path);
    }
    let expected =
        format!("a socket path of 1 to {} bytes (unix(7)), its folder included", wire::SOCKET_PATH_BYTES_MAX);
    Err(Bad::new(expected, "Write for example \"unix:/run/app/app.sock\"."))
}

fn parse_admin(text: &str, folder: &Path) -> Result<Admin, Bad> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix_path(path, folder).map(Admin::Unix);
    }
    let bad =
        || Bad::new("unix:/path, or a loopback address with port", "Write \"unix:/run/sanedge/admin.sock\".");
    text.parse().map(Admin::Tcp).map_err(|_| bad())
}

fn parse_listener(text: &str) -> Result<SocketAddr, Bad> {
    text.parse().map_err(|_| {
        let remedy = match text.trim_start_matches(['*', ':']).parse::<u16>() {
            Ok(port) => format!("Write \"[::]:{port}\": it takes IPv4 as well."),
            Err(_) => "Write \"[::]:443\", or one of the board's addresses with a port.".to_owned(),
        };
        Bad::new("an address with port", remedy)
    })
}

fn parse_network(text: &str) -> Result<IpNet, Bad> {
    let bad = |remedy: String| Bad::new("a network as address/length", remedy);
    if let Ok(ip) = text.parse::<std::net::IpAddr>() {
        return Err(bad(format!("Write \"{}\" for this one address.", IpNet::from(ip))));
    }
    let network: IpNet = text.parse().map_err(|_| bad("Write for example \"192.168.0.0/16\".".to_owned()))?;
    if network.trunc() != network {
        return Err(bad(format!("Bits behind the length are set: write \"{}\".", network.trunc())));
    }
    Ok(network)
}

fn parse_origin(text: &str) -> Result<OriginEntry, Bad> {
    match text {
        "*" => Ok(OriginEntry::Any),
        "null" => Ok(OriginEntry::Null),
        _ => Origin::parse(text).map(OriginEntry::One).map_err(|error| {
            Bad::new(
                format!("an origin, \"*\" or \"null\": {error}"),
                "Write \"https://recre.store\": scheme, host, port if unusual, no path.",
            )
        }),
    }
}

/// A path prefix: begins with `/`, visible ASCII, no query, no fragment (RFC 3986 §3.3).
fn parse_path(text: &str) -> Result<String, Bad> {
    let plain = text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'\\'));
    let dots = text.split('/').any(|segment| matches!(segment, "." | ".."));
    if text.starts_with('/') && plain && !dots && text.len() <= wire::TEXT_BYTES_MAX {
        return Ok(text.to_owned());
    }
    Err(Bad::new(
        "a path that begins with `/`, in visible ASCII, without query, `.` and `..`, of at most 1024 bytes",
        "Write for example \"/socket.io/\"; other characters percent-encoded.",
    ))
}
