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

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::endpoints::{self, Answer, ENDPOINTS, Form, Show};
use super::{Ask, DEFAULT_PATH};
use crate::bundle::Admin;
use crate::excerpt::Excerpt;
use crate::http::head::{HeadLimits, HeadScanner, RequestHead, parse_request};
use crate::names::Host;
use crate::reason::Reason;
use crate::system::sockets::AdminListener;

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

/// Removes a socket without a listener, which a killed process has left behind; anything else stays.
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
    let there: Vec<_> = ENDPOINTS.iter().filter(|endpoint| endpoint.path == head.path).collect();
    let Some(endpoint) = there.iter().find(|endpoint| endpoint.method == head.method) else {
        return endpoints::none(&there);
    };
    let form = if wants_text(head) { Form::Text } else { Form::Json };
    match endpoint.show {
        Show::Fixed(show) => show(),
        Show::Status(show) => {
            ask(asks, Ask::Status).await.map_or_else(endpoints::ending, |it| show(&it, form))
        }
        Show::Health(show) => {
            ask(asks, Ask::Health).await.map_or_else(endpoints::ending, |it| show(&it, form))
        }
        Show::History(show) => ask(asks, Ask::History).await.map_or_else(endpoints::ending, |it| show(&it)),
        Show::Reload(show) => match may_reload(head, rights) {
            true => ask(asks, Ask::Reload).await.map_or_else(endpoints::ending, |it| show(&it, form)),
            false => endpoints::reload_not_allowed(),
        },
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

/// Only root and the service's own user, and no browser: those say where a request comes from, and no page asks for a reload.
fn may_reload(head: &RequestHead<'_>, rights: Rights) -> bool {
    let by_browser =
        ["origin", "sec-fetch-site", "referer"].iter().any(|name| head.fields.values(name).next().is_some());
    let may = rights == Rights::Control && !by_browser;
    if !may {
        let reason = Reason::Admin.name();
        warn!(reason, "reload refused: only root and the service's own user may request one");
    }
    may
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
