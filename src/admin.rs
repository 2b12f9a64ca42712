//! The admin socket: what the running edge says of itself, and how it is asked.
//!
//! [`server`] answers in HTTP/1.1 on a Unix socket, or on loopback TCP for reading; [`client`] is what `sanedge reload` and
//! `sanedge status` are. [`endpoints`] is the table of what there is. All know the shapes below; [`text`] puts them into words for a
//! terminal, and [`problems`] finds in them what is wrong.

pub mod client;
pub mod endpoints;
mod exposition;
pub mod health;
mod page;
pub mod problems;
pub mod server;
pub mod text;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use tokio::sync::oneshot;

use crate::bundle::Admin;
use crate::bundle::acme::told::Renewals;
use crate::bundle::lifetime::Urgency;
use crate::excerpt::Excerpt;
use crate::ops::meter::{History, Rates, Traffic};
use crate::system::started::Started;

/// Where the admin socket is unless sanedge.toml says otherwise.
pub const DEFAULT_PATH: &str = Admin::DEFAULT_PATH;

/// What the admin socket asks of the edge.
#[derive(Debug)]
pub enum Ask {
    /// Open the bundle again.
    Reload(oneshot::Sender<ReloadReport>),
    /// Say how things are.
    Status(oneshot::Sender<Status>),
    /// Ask every worker, and say whether clients can be served.
    Health(oneshot::Sender<Health>),
    /// Say how the last hour was.
    History(oneshot::Sender<History>),
}

/// How a reload went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReloadReport {
    /// The new bundle is in use.
    pub ok: bool,
    /// Of a refusal, for scripts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// One sentence.
    pub message: String,
    /// First 8 bytes of the digest of the bundle in use, in hexadecimal.
    pub bundle: String,
    /// What the new bundle says and this process does not follow before its next restart.
    pub notes: Vec<String>,
}

/// How the edge is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// Board profile of the bundle.
    pub board: String,
    /// First 8 bytes of the digest of the bundle in use, in hexadecimal.
    pub bundle: String,
    /// The file that it is opened from again.
    pub bundle_file: String,
    /// A drain has begun.
    pub draining: bool,
    /// A restart hands open WebSockets over to the next process.
    #[serde(default)]
    pub hands_over: bool,
    /// The wall clock is not before the beginning of a certificate. Where it is, days left are not known.
    pub clock_believable: bool,
    /// Open client connections.
    pub sessions: u32,
    /// Most of them that were open at once since the start.
    pub sessions_peak: u64,
    /// Limit of open client connections (sessions_max).
    pub sessions_max: u32,
    /// Connections in their TLS handshake.
    pub handshakes: u32,
    /// Those completed since the start, by version, group and resumption: `1.3 x25519`, `1.3 x25519 resumed`.
    pub tls_handshakes: BTreeMap<String, u64>,
    /// Worker threads.
    pub workers: usize,
    /// Those, counted from 0, that have not run their tasks for a while.
    pub workers_stuck: Vec<usize>,
    /// Private keys that something still refers to; more than the bundle's certificates only during handshakes.
    pub keys_in_memory: usize,
    /// What passes now.
    pub rates: Rates,
    /// What has passed since the start.
    pub traffic: Traffic,
    /// What the process takes of the machine.
    pub process: Process,
    /// What is wrong, worst first.
    pub problems: Vec<Problem>,
    /// The sanedge.toml of the bundle's name beside its file, where there is one.
    pub source: Option<SourceStatus>,
    /// What it has given up, in words.
    #[serde(default)]
    pub sandbox: String,
    /// What it keeps of its start: a bundle that differs in it needs a new process.
    pub started: Option<Started>,
    /// Counters by name.
    pub counters: BTreeMap<String, u64>,
    /// Refusals by reason.
    pub refused: BTreeMap<String, u64>,
    /// WebSockets that have ended, by close code (RFC 6455 §7.4); 1005: a Close without one, 1006: no Close.
    pub websocket_closes: BTreeMap<String, u64>,
    /// Served hosts.
    pub hosts: Vec<HostStatus>,
    /// Hosts that wait for their first certificate: clients are refused.
    pub pending: Vec<String>,
    /// What `sanedge renew` told of its last run; none without `[acme]`, or before its first run since the boot.
    pub acme: Option<Renewals>,
}

/// What `sanedge status --check` found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Worker threads.
    pub workers: usize,
    /// Those, counted from 0, that did not answer in time.
    pub silent: Vec<usize>,
    /// Of each host's certificate the last second, in seconds since 1970.
    pub ends: Vec<i64>,
    /// Hosts that wait for their first certificate.
    pub pending: Vec<String>,
    /// By the system clock.
    pub now: i64,
}

/// How bad it is; the worse comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Clients notice it.
    Error,
    /// They will.
    Warning,
}

/// Something that needs attention.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// A stable name, for scripts.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// One sentence, without its full stop.
    pub message: String,
    /// What to type, on the board.
    pub command: String,
}

/// What the process takes of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Process {
    /// Memory in use (RSS), in bytes.
    pub resident_bytes: u64,
    /// What the limits let it take at worst, without the kernel's socket buffers, in bytes.
    pub budget_bytes: u64,
    /// Processor time since the start, in seconds.
    pub cpu_s: f64,
    /// Open descriptors.
    pub open_files: u64,
    /// Limit of open client connections (sessions_max).
    pub open_files_max: u64,
}

/// What the edge knows of the sanedge.toml that its bundle is made of: times only. The command line compares contents, and says so
/// in the same members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceStatus {
    /// The file.
    pub file: String,
    /// `newer` than the bundle, it or a certificate file that it names; else `not-compared`.
    pub state: &'static str,
    /// One sentence where it is newer.
    pub message: Option<String>,
    /// What takes it into use.
    pub command: String,
}

/// One served host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostStatus {
    /// The host.
    pub host: String,
    /// Its certificate.
    pub certificate: String,
    /// When that expires, in seconds since 1970.
    pub not_after: i64,
    /// Whole days until then, by this machine's clock; negative once it has; none while that is not believable.
    pub days_left: Option<i64>,
    /// The same for people, with what is to be done.
    pub left: Option<String>,
    /// How urgent its renewal is; none while the clock is not believable.
    pub renewal: Option<Urgency>,
    /// When it should be renewed, in seconds since 1970.
    pub renewal_due: i64,
    /// Past this moment its renewal is overdue, which is a warning.
    pub renewal_overdue_after: i64,
    /// Past this moment it ends soon, which is an error.
    pub ends_soon_after: i64,
    /// Open WebSockets.
    pub websockets_open: u64,
    /// WebSockets opened since the start.
    pub websockets_total: u64,
    /// Responses to requests sent to an upstream, by status class.
    pub responses: BTreeMap<String, u64>,
    /// Its routes' upstreams.
    pub upstreams: Vec<UpstreamStatus>,
    /// Where it redirects to, if it has no upstream.
    pub redirect: Option<String>,
}

/// One upstream of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UpstreamStatus {
    /// Path prefix of the route.
    pub path: String,
    /// Its address.
    pub upstream: String,
    /// How the last attempt to connect went: `ok`, `down`, or `untried`.
    pub state: String,
    /// Attempts to connect that failed since the start.
    pub connect_failures: u64,
}

impl Status {
    /// Everything runs: not even one worker is stuck.
    pub fn is_live(&self) -> bool {
        self.workers_stuck.is_empty()
    }

    /// New connections are welcome.
    pub fn is_ready(&self) -> bool {
        self.is_live() && !self.draining
    }

    /// Every upstream once, in the order of the hosts.
    pub fn upstreams(&self) -> impl Iterator<Item = &UpstreamStatus> {
        let all = || self.hosts.iter().flat_map(|host| &host.upstreams);
        all().enumerate().filter_map(move |(at, upstream)| {
            let again = all().take(at).any(|earlier| earlier.upstream == upstream.upstream);
            (!again).then_some(upstream)
        })
    }
}

/// Reads `unix:PATH`, a path, or a loopback address with its port.
///
/// # Errors
/// What was expected, as a sentence.
pub fn parse(text: &str) -> Result<Admin, String> {
    match text.parse::<std::net::SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Ok(Admin::Tcp(address)),
        Ok(address) => Err(format!("{address} is not a loopback address; the admin socket must be on one")),
        Err(_) => parse_unix(text),
    }
}

/// Reads `unix:PATH`, or a path that contains a slash: a reload is never asked for over TCP. A relative path begins at the
/// current folder.
///
/// # Errors
/// What was expected, as a sentence.
pub fn parse_unix(text: &str) -> Result<Admin, String> {
    let path = text.strip_prefix("unix:").or_else(|| Some(text).filter(|text| text.contains('/')));
    if let Some(path) = path.filter(|path| !path.is_empty()) {
        return Ok(Admin::Unix(PathBuf::from(path)));
    }
    if text.parse::<std::net::SocketAddr>().is_ok() {
        return Err(format!(
            "an admin address on TCP ({text}) is read-only (`sanedge status`). Give the Unix socket, or reload with a \
                signal: sudo systemctl kill -s HUP sanedge"
        ));
    }
    Err(format!(
        "expected `unix:PATH` or a path that contains a slash (`./admin.sock`), for `status` also a loopback address with its \
         port; found `{}`",
        Excerpt::of(text)
    ))
}
