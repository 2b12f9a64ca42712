//! The answering side of the admin socket: HTTP/1.1, one request a connection.
//!
//! Reading is GET. The one thing that can be done, a reload, is for root and the service's own user on the Unix socket, by
//! their peer credentials, and never for a browser, to which `ssh -L` may lend both.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::{Ask, DEFAULT_PATH, Status, page, text};
use crate::bundle::Admin;
use crate::excerpt::Excerpt;
use crate::http::head::{HeadLimits, HeadScanner, RequestHead, parse_request};
use crate::names::Host;
use crate::ops::exposition;
use crate::ops::sockets::AdminListener;

/// A request here is one line and a browser's few fields.
const HEAD_LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 8 * 1024, fields_max: 32, target_bytes_max: 256 };
/// For a request's head, and again for its answer to be taken.
const REQUEST_TIME: Duration = Duration::from_secs(5);
/// Requests at once; more wait in the kernel.
const REQUESTS_MAX: usize = 16;
/// Descriptors that are kept for a request when all others are taken: its connection, and the files that its answer reads.
const DESCRIPTORS_KEPT: usize = 8;
/// Pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What there is, for who asked for something else.
const PATHS: &str = "GET / /status /history /metrics /healthz /readyz, POST /reload";

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
        (Some(inherited), _) => {
            let listener = Listener::inherited(inherited);
            let listener = listener.map_err(|error| ("the admin socket".to_owned(), error))?;
            info!(kind = "admin", address = listener.address(), inherited = true, "listening");
            Ok(run(listener, None, asks)) // its file is not ours to remove
        }
        (None, Some(Admin::Unix(path))) => {
            start_unix(path, asks).map_err(|error| (format!("unix:{}", Excerpt::of_path(path)), error))
        }
        (None, Some(Admin::Tcp(address))) => {
            let bound = std::net::TcpListener::bind(address).and_then(Listener::tcp);
            let listener = bound.map_err(|error| (address.to_string(), error))?;
            info!(kind = "admin", address = listener.address(), "listening");
            Ok(run(listener, None, asks))
        }
        (None, None) => Ok(start_default(asks).unwrap_or_else(|error| {
            let error = error.to_string();
            warn!(
                path = DEFAULT_PATH,
                error,
                "no admin socket: `sanedge reload` and `sanedge status` cannot reach this edge; SIGHUP reloads it, and \
                    [listen] admin sets another path"
            );
            Running { socket: None }
        })),
    }
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
    let listener = Listener::Unix(listener);
    info!(kind = "admin", address = listener.address(), "listening");
    Ok(run(listener, Some(path.to_owned()), asks))
}

/// A socket that nobody listens on is what a killed process left behind; anything else stays.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it exists and is not a socket"));
        }
        Err(_) => return Ok(()),
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another sanedge listens there")),
    }
}

fn run(listener: Listener, socket: Option<PathBuf>, asks: mpsc::Sender<Ask>) -> Running {
    tokio::spawn(accept_all(listener, asks));
    Running { socket }
}

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// What a peer may do here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rights {
    /// Everything.
    Control,
    /// Reading, on the Unix socket.
    Read,
    /// Reading, over loopback TCP.
    ReadLocal,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Listener {
    fn tcp(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener).map(Self::Tcp)
    }

    fn inherited(listener: AdminListener) -> io::Result<Self> {
        match listener {
            AdminListener::Tcp(listener) => Self::tcp(listener),
            AdminListener::Unix(listener) => {
                listener.set_nonblocking(true)?;
                UnixListener::from_std(listener).map(Self::Unix)
            }
        }
    }

    fn address(&self) -> Option<String> {
        match self {
            Self::Unix(listener) => {
                let address = listener.local_addr().ok()?;
                Some(format!("unix:{}", Excerpt::of_path(address.as_pathname()?)))
            }
            Self::Tcp(listener) => Some(listener.local_addr().ok()?.to_string()),
        }
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(listener) => listener.as_fd(),
            Self::Tcp(listener) => listener.as_fd(),
        }
    }

    async fn accept(&self) -> io::Result<(Box<dyn Stream>, Rights)> {
        match self {
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let own = rustix::process::geteuid().as_raw();
                let is_ours = stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own);
                Ok((Box::new(stream), if is_ours { Rights::Control } else { Rights::Read }))
            }
            Self::Tcp(listener) => Ok((Box::new(listener.accept().await?.0), Rights::ReadLocal)),
        }
    }
}

/// Opens what can be opened of the descriptors that are kept; which file they are of does not matter.
fn keep_descriptors(any: &Listener, kept: &mut Vec<OwnedFd>) {
    while kept.len() < DESCRIPTORS_KEPT {
        let Ok(one) = rustix::io::fcntl_dupfd_cloexec(any.as_fd(), 0) else { return };
        kept.push(one);
    }
}

async fn accept_all(listener: Listener, asks: mpsc::Sender<Ask>) {
    let places = Arc::new(Semaphore::new(REQUESTS_MAX));
    let mut kept = Vec::new();
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        keep_descriptors(&listener, &mut kept);
        let Ok((stream, rights)) = listener.accept().await else {
            // Nobody else accepts meanwhile: see `Worker::exhausted`. One request at a time until there is room again.
            if std::mem::take(&mut kept).is_empty() {
                sleep(ACCEPT_PAUSE).await;
            } else if let Ok((stream, rights)) = listener.accept().await {
                serve_one(stream, rights, &asks).await;
            }
            continue;
        };
        let asks = asks.clone();
        tokio::spawn(async move {
            serve_one(stream, rights, &asks).await;
            drop(place);
        });
    }
}

/// What goes back: a status with its reason, and a body with its type.
struct Answer {
    status: u16,
    reason: &'static str,
    content_type: &'static str,
    /// More fields, each with its line end.
    fields: &'static str,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: u16, reason: &'static str, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, reason, content_type, fields: "", body: body.into() }
    }

    fn json(status: u16, reason: &'static str, value: &impl Serialize) -> Self {
        Self::new(status, reason, "application/json", serde_json::to_vec(value).unwrap_or_default())
    }

    /// In the shape of every command's `--json`.
    fn problem(status: u16, reason: &'static str, code: &str, message: &str) -> Self {
        Self::json(status, reason, &serde_json::json!({ "ok": false, "code": code, "message": message }))
    }

    fn text(good: bool, body: &str) -> Self {
        let (status, reason) = if good { (200, "OK") } else { (503, "Service Unavailable") };
        Self::new(status, reason, "text/plain; charset=utf-8", format!("{}\n", body.trim_end()))
    }

    /// No field says that another origin may read this, so none may; and nothing here is to be kept or framed.
    fn bytes(self) -> Vec<u8> {
        let head = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{}Cache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\nCross-Origin-Resource-Policy: same-origin\r\n\
             Content-Security-Policy: {}\r\nConnection: close\r\n\r\n",
            self.status,
            self.reason,
            self.content_type,
            self.body.len(),
            self.fields,
            page::content_security_policy(),
        );
        [head.into_bytes(), self.body].concat()
    }
}

async fn serve_one(mut stream: Box<dyn Stream>, rights: Rights, asks: &mpsc::Sender<Ask>) {
    let Ok(Some(head)) = timeout(REQUEST_TIME, read_head(&mut stream)).await else { return };
    let answer = match parse_request(&head, &HEAD_LIMITS) {
        Ok(head) => answer(&head, rights, asks).await,
        Err(error) => Answer::problem(400, "Bad Request", "bad-request", &error.to_string()),
    };
    let _ = timeout(REQUEST_TIME, async {
        stream.write_all(&answer.bytes()).await?;
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

async fn answer(head: &RequestHead<'_>, rights: Rights, asks: &mpsc::Sender<Ask>) -> Answer {
    if !is_expected(&head.host, rights) {
        let expected = "this address accepts only a loopback Host: http://localhost";
        return Answer::problem(403, "Forbidden", "host-refused", expected);
    }
    match (head.method, head.path) {
        ("GET", "/") => Answer::new(200, "OK", "text/html; charset=utf-8", page::HTML),
        ("GET", "/status") if wants_text(head) => {
            with_status(asks, |status| Answer::text(true, &text::status(&status))).await
        }
        ("GET", "/status") => with_status(asks, |status| Answer::json(200, "OK", &status)).await,
        ("GET", "/history") => match ask(asks, Ask::History).await {
            Some(history) => Answer::json(200, "OK", &history),
            None => ending(),
        },
        ("GET", "/metrics") => with_status(asks, metrics).await,
        ("GET", "/healthz") => with_status(asks, |status| health(&status, status.is_live())).await,
        ("GET", "/readyz") => with_status(asks, |status| health(&status, status.is_ready())).await,
        ("POST", "/reload") => reload(head, rights, asks).await,
        (_, "/reload") => not_allowed("Allow: POST\r\n"),
        (_, "/" | "/status" | "/history" | "/metrics" | "/healthz" | "/readyz") => {
            not_allowed("Allow: GET\r\n")
        }
        _ => Answer::problem(404, "Not Found", "not-found", PATHS),
    }
}

/// No page of another site may read this by pointing its own name here (DNS rebinding): over TCP only a loopback host
/// is answered; on the Unix socket, which `ssh -L` may stand in front of, no name that public DNS could have.
fn is_expected(host: &Host, rights: Rights) -> bool {
    match host {
        Host::Ip(address) => address.is_loopback() || rights != Rights::ReadLocal,
        Host::Dns(name) if name.as_str() == "localhost" => true,
        Host::Dns(name) => rights != Rights::ReadLocal && !name.as_str().contains('.'),
    }
}

async fn reload(head: &RequestHead<'_>, rights: Rights, asks: &mpsc::Sender<Ask>) -> Answer {
    // Browsers tell where a request comes from, and no page asks for a reload.
    let by_browser =
        ["origin", "sec-fetch-site", "referer"].iter().any(|name| head.fields.values(name).next().is_some());
    if rights != Rights::Control || by_browser {
        warn!(reason = "admin", "reload refused: only root and the service's own user may request one");
        return Answer::problem(
            403,
            "Forbidden",
            "reload-not-allowed",
            "only root and the service's own user may reload, on the Unix socket",
        );
    }
    match ask(asks, Ask::Reload).await {
        Some(report) if report.ok && wants_text(head) => Answer::text(true, &text::reload(&report)),
        Some(report) if report.ok => Answer::json(200, "OK", &report),
        Some(report) => Answer::json(409, "Conflict", &report),
        None => ending(),
    }
}

/// Whether it is the command line that asks: it shows what the edge itself has put into words.
fn wants_text(head: &RequestHead<'_>) -> bool {
    head.fields.values("accept").any(|accept| accept == b"text/plain")
}

/// Asks the edge; `None`: it is ending.
async fn ask<T>(asks: &mpsc::Sender<Ask>, what: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
    let (sender, answer) = oneshot::channel();
    asks.send(what(sender)).await.ok()?;
    answer.await.ok()
}

async fn with_status(asks: &mpsc::Sender<Ask>, answer: impl FnOnce(Status) -> Answer) -> Answer {
    ask(asks, Ask::Status).await.map_or_else(ending, answer)
}

fn metrics(status: Status) -> Answer {
    match exposition::text(&status) {
        Ok(text) => Answer::new(200, "OK", exposition::CONTENT_TYPE, text),
        Err(error) => Answer::problem(500, "Internal Server Error", "internal", &error.to_string()),
    }
}

fn health(status: &Status, good: bool) -> Answer {
    let text = match (good, status.workers_stuck.as_slice()) {
        (true, _) => "ok".to_owned(),
        (false, []) => "draining".to_owned(),
        (false, stuck) => format!("workers do not run their tasks: {stuck:?}"),
    };
    Answer::text(good, &text)
}

fn not_allowed(fields: &'static str) -> Answer {
    Answer { fields, ..Answer::problem(405, "Method Not Allowed", "method-not-allowed", PATHS) }
}

fn ending() -> Answer {
    Answer::problem(503, "Service Unavailable", "ending", "the edge is shutting down")
}
