//! The admin socket: HTTP/1.1 over a Unix socket (or loopback TCP, for reading), and the client that
//! `sanedge reload` and `sanedge status` are.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::{info, warn};

use super::sockets::AdminListener;
use crate::bundle::Admin;
use crate::http::head::{HeadLimits, HeadScanner, parse_request};
use crate::names::Host;

/// Where the admin socket is unless sanedge.toml says otherwise.
pub const DEFAULT_PATH: &str = "/run/sanedge/admin.sock";
/// A request here is one line and a few fields.
const HEAD_LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 8 * 1024, fields_max: 32, target_bytes_max: 256 };
/// For one request from its first byte to the end of its answer, a reload's time not counted.
const REQUEST_TIME: Duration = Duration::from_secs(5);
/// For the whole of an answer, as the commands see it: a reload opens a file and checks a few signatures.
const ANSWER_TIME: Duration = Duration::from_secs(20);
/// Requests at once; more wait in the kernel.
const REQUESTS_MAX: usize = 16;

/// What the admin socket asks of the edge.
#[derive(Debug)]
pub enum Ask {
    /// Open the bundle again.
    Reload(oneshot::Sender<ReloadReport>),
    /// Say how things are.
    Status(oneshot::Sender<Status>),
}

/// How a reload went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// The new bundle is in use.
    pub ok: bool,
    /// One sentence.
    pub message: String,
    /// First 8 bytes of the digest of the bundle in use, in hexadecimal.
    pub bundle: String,
    /// What the new bundle says and this process does not follow before its next restart.
    pub notes: Vec<String>,
}

/// How the edge is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// Board profile of the bundle.
    pub board: String,
    /// First 8 bytes of the digest of the bundle in use, in hexadecimal.
    pub bundle: String,
    /// A drain has begun.
    pub draining: bool,
    /// The wall clock is not before the beginning of a certificate. Where it is, days left mean nothing.
    pub clock_believable: bool,
    /// Open client connections.
    pub sessions: u32,
    /// Most of them.
    pub sessions_max: u32,
    /// Connections in their TLS handshake.
    pub handshakes: u32,
    /// Worker threads.
    pub workers: usize,
    /// Private keys that something still refers to; more than the bundle's certificates only during handshakes.
    pub keys_in_memory: usize,
    /// Counters by name.
    pub counters: BTreeMap<String, u64>,
    /// Refusals by reason.
    pub refused: BTreeMap<String, u64>,
    /// Served hosts.
    pub hosts: Vec<HostStatus>,
}

/// One served host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostStatus {
    /// The host.
    pub host: String,
    /// Its certificate.
    pub certificate: String,
    /// Whole days until that expires, by this machine's clock; negative once it has.
    pub days_left: i64,
    /// Its routes' upstreams.
    pub upstreams: Vec<UpstreamStatus>,
}

/// One upstream of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamStatus {
    /// Path prefix of the route.
    pub path: String,
    /// Its address.
    pub upstream: String,
    /// How the last attempt to connect went: `ok`, `down`, or `untried`.
    pub state: String,
}

/// The running admin listener; removes its socket file when dropped.
#[derive(Debug)]
pub struct Running {
    socket: Option<PathBuf>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(path) = &self.socket {
            let _ = fs::remove_file(path);
        }
    }
}

/// Listens on what was inherited, on `address`, or on the default path where that can be used.
///
/// # Errors
/// The address and what the kernel says, where an address was asked for.
pub fn start(
    address: Option<&Admin>,
    inherited: Option<AdminListener>,
    asks: mpsc::Sender<Ask>,
) -> Result<Running, (String, io::Error)> {
    match (inherited, address) {
        (Some(inherited), _) => start_inherited(inherited, asks).map_err(|error| ("the admin socket".to_owned(), error)),
        (None, Some(Admin::Unix(path))) => {
            start_unix(path, asks).map_err(|error| (format!("unix:{}", path.display()), error))
        }
        (None, Some(Admin::Tcp(address))) => {
            let bound = std::net::TcpListener::bind(address).and_then(|listener| start_tcp(listener, asks));
            bound.map_err(|error| (address.to_string(), error))
        }
        (None, None) => Ok(start_default(asks).unwrap_or_else(|error| {
            let error = error.to_string();
            warn!(
                path = DEFAULT_PATH,
                error,
                "no admin socket: `sanedge reload` and `sanedge status` will not find this edge; SIGHUP reloads, and [listen] admin names another place"
            );
            Running { socket: None }
        })),
    }
}

/// The file of an inherited socket is not ours to remove.
fn start_inherited(listener: AdminListener, asks: mpsc::Sender<Ask>) -> io::Result<Running> {
    match listener {
        AdminListener::Tcp(listener) => start_tcp(listener, asks),
        AdminListener::Unix(listener) => {
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            let path = address.as_pathname().unwrap_or(Path::new("")).display();
            info!(kind = "admin", address = %format_args!("unix:{path}"), inherited = true, "listening");
            tokio::spawn(accept_unix(UnixListener::from_std(listener)?, asks));
            Ok(Running { socket: None })
        }
    }
}

fn start_tcp(listener: std::net::TcpListener, asks: mpsc::Sender<Ask>) -> io::Result<Running> {
    listener.set_nonblocking(true)?;
    info!(kind = "admin", address = %listener.local_addr()?, "listening");
    tokio::spawn(accept_tcp(TcpListener::from_std(listener)?, asks));
    Ok(Running { socket: None })
}

/// The default path; its folder is made where we may.
fn start_default(asks: mpsc::Sender<Ask>) -> io::Result<Running> {
    let path = Path::new(DEFAULT_PATH);
    if let Some(folder) = path.parent() {
        let _ = fs::create_dir(folder);
    }
    start_unix(path, asks)
}

fn start_unix(path: &Path, asks: mpsc::Sender<Ask>) -> io::Result<Running> {
    remove_stale(path)?;
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    info!(kind = "admin", address = %format_args!("unix:{}", path.display()), "listening");
    tokio::spawn(accept_unix(listener, asks));
    Ok(Running { socket: Some(path.to_owned()) })
}

/// A socket that nobody listens on is what a killed process left behind; anything else stays.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
        }
        Err(_) => return Ok(()),
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another sanedge answers there")),
    }
}

/// What a peer may do here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rights {
    /// Everything.
    Control,
    /// Reading, on the Unix socket.
    Read,
    /// Reading, over loopback TCP: only a loopback `Host`, so that no page in a browser reads it by DNS rebinding.
    ReadLocal,
}

async fn accept_unix(listener: UnixListener, asks: mpsc::Sender<Ask>) {
    let places = std::sync::Arc::new(tokio::sync::Semaphore::new(REQUESTS_MAX));
    while let Ok(place) = std::sync::Arc::clone(&places).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let own = rustix::process::geteuid().as_raw();
        let is_ours = stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own);
        let rights = if is_ours { Rights::Control } else { Rights::Read };
        let asks = asks.clone();
        tokio::spawn(async move {
            answer(stream, rights, asks).await;
            drop(place);
        });
    }
}

async fn accept_tcp(listener: TcpListener, asks: mpsc::Sender<Ask>) {
    let places = std::sync::Arc::new(tokio::sync::Semaphore::new(REQUESTS_MAX));
    while let Ok(place) = std::sync::Arc::clone(&places).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let asks = asks.clone();
        tokio::spawn(async move {
            answer(stream, Rights::ReadLocal, asks).await;
            drop(place);
        });
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, rights: Rights, asks: mpsc::Sender<Ask>) {
    let Ok(Some(head)) = timeout(REQUEST_TIME, read_head(&mut stream)).await else { return };
    let (status, body) = match parse_request(&head, &HEAD_LIMITS) {
        Ok(head) if rights == Rights::ReadLocal && !is_loopback(&head.host) => {
            (403, problem("this address answers only a loopback Host"))
        }
        Ok(head) => act(head.method, head.path, rights, &asks).await,
        Err(error) => (400, problem(&error.to_string())),
    };
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        _ => "Service Unavailable",
    };
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = timeout(REQUEST_TIME, async {
        stream.write_all(&[head.into_bytes(), body].concat()).await?;
        stream.shutdown().await
    })
    .await;
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let mut scanner = HeadScanner::request();
    let mut bytes = Vec::new();
    loop {
        match scanner.scan(&bytes, &HEAD_LIMITS) {
            Ok(Some(length)) => {
                bytes.truncate(length);
                return Some(bytes);
            }
            // Parsing will say what is wrong.
            Err(_) => return Some(bytes),
            Ok(None) => {
                let mut piece = [0; 1024];
                let count = stream.read(&mut piece).await.ok().filter(|count| *count > 0)?;
                bytes.extend_from_slice(piece.get(..count)?);
            }
        }
    }
}

fn is_loopback(host: &Host) -> bool {
    match host {
        Host::Ip(address) => address.is_loopback(),
        Host::Dns(name) => name.as_str() == "localhost",
    }
}

async fn act(method: &str, path: &str, rights: Rights, asks: &mpsc::Sender<Ask>) -> (u16, Vec<u8>) {
    match (method, path) {
        ("GET", "/status") => {
            let (sender, answer) = oneshot::channel();
            match asks.send(Ask::Status(sender)).await.is_ok().then_some(answer) {
                Some(answer) => answer.await.map_or_else(|_| gone(), |status| (200, json(&status))),
                None => gone(),
            }
        }
        ("POST", "/reload") if rights == Rights::Control => {
            let (sender, answer) = oneshot::channel();
            match asks.send(Ask::Reload(sender)).await.is_ok().then_some(answer) {
                Some(answer) => answer
                    .await
                    .map_or_else(|_| gone(), |report| (if report.ok { 200 } else { 409 }, json(&report))),
                None => gone(),
            }
        }
        ("POST", "/reload") => {
            warn!(reason = "admin", "reload refused: only root and the service's own user may ask for one");
            (403, problem("only root and the service's own user may reload"))
        }
        (_, "/status" | "/reload") => (405, problem("GET /status, POST /reload")),
        _ => (404, problem("GET /status, POST /reload")),
    }
}

fn gone() -> (u16, Vec<u8>) {
    (503, problem("the edge is ending"))
}

fn problem(text: &str) -> Vec<u8> {
    serde_json::json!({ "message": text }).to_string().into_bytes()
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// Reads `unix:PATH`, a path, or a loopback address with its port.
///
/// # Errors
/// What was expected, as a sentence.
pub fn parse(text: &str) -> Result<Admin, String> {
    match text.parse::<std::net::SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Ok(Admin::Tcp(address)),
        Ok(address) => Err(format!("{address} is no loopback address; the admin socket is never on another")),
        Err(_) => parse_unix(text),
    }
}

/// Reads `unix:PATH` or a path: a reload is never asked for over TCP.
///
/// # Errors
/// What was expected, as a sentence.
pub fn parse_unix(text: &str) -> Result<Admin, String> {
    let path = text.strip_prefix("unix:").unwrap_or(text);
    if path.contains('/') {
        Ok(Admin::Unix(PathBuf::from(path)))
    } else {
        Err(format!(
            "expected `unix:/path/to/admin.sock` (for `status` also a loopback address with its port: reading only), found `{text}`"
        ))
    }
}

/// Why the admin socket gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens, or not for us.
    #[error("cannot reach an edge at {address}: {error}. {}", hint(.error))]
    Connect {
        /// Where.
        address: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// It answered something unexpected.
    #[error("the edge at {address} gave no usable answer: {found}")]
    Answer {
        /// Where.
        address: String,
        /// What was found.
        found: String,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "Its admin socket is for root and the edge's own group: try with sudo."
        }
        io::ErrorKind::TimedOut => "It is there and does not answer: look at its log, or restart it.",
        _ => {
            "No edge is running here, or its admin socket is elsewhere ([listen] admin; name it with --admin). \
             SIGHUP reloads as well."
        }
    }
}

/// Sends one request to the admin socket and gives back status and body.
///
/// # Errors
/// Nobody answers, or not in HTTP.
pub fn ask(admin: &Admin, method: &str, path: &str) -> Result<(u16, Vec<u8>), AskError> {
    let address = match admin {
        Admin::Unix(path) => format!("unix:{}", path.display()),
        Admin::Tcp(address) => address.to_string(),
    };
    let unreachable = |error| AskError::Connect { address: address.clone(), error };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let answered = runtime.map_err(unreachable)?.block_on(async {
        let answer = async {
            Ok(match admin {
                Admin::Unix(socket) => exchange(UnixStream::connect(socket).await?, method, path).await,
                Admin::Tcp(address) => exchange(TcpStream::connect(address).await?, method, path).await,
            })
        };
        timeout(ANSWER_TIME, answer).await
    });
    let late =
        |_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", ANSWER_TIME.as_secs()));
    let found = answered.map_err(late).and_then(|answered| answered).map_err(unreachable)?;
    found.map_err(|error| AskError::Answer { address, found: error.to_string() })
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    method: &str,
    path: &str,
) -> Result<(u16, Vec<u8>), Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = hyper::Request::builder().method(method).uri(path).header("host", "localhost");
    let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    let status = response.status().as_u16();
    Ok((status, response.into_body().collect().await?.to_bytes().to_vec()))
}
