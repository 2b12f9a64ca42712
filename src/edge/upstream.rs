//! Connections to the local servers behind the edge: connecting, the idle pool of a worker, outages.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use crate::bundle::Upstream;
use crate::names::Host;
use crate::ops::metrics::Counter;

/// Longest that an idle connection is kept: Node ends its own after 5 s, and a request must not meet that end.
const IDLE_MAX: Duration = Duration::from_secs(4);
/// What is taken off an upstream's own `Keep-Alive: timeout`, for the way of the last request.
const IDLE_MARGIN: Duration = Duration::from_secs(1);
/// A request that may not be repeated takes a connection idle for less than this, or a new one.
const IDLE_FRESH: Duration = Duration::from_secs(1);
/// How long an upstream that refused is tried last.
const AVOID_MS: u64 = 2_000;

/// One upstream, shared by all workers and all bundles that name it.
#[derive(Debug)]
pub(crate) struct UpstreamState {
    address: Upstream,
    /// As written in sanedge.toml.
    pub(crate) text: String,
    /// Attempts to connect that failed.
    pub(crate) failures: Counter,
    down: AtomicBool,
    tried: AtomicBool,
    /// Uptime until which other upstreams are tried first.
    avoid_until_ms: AtomicU64,
}

/// All upstreams ever named, so that an outage outlives a reload.
/// Locked only while a bundle is taken into use.
#[derive(Debug, Default)]
pub(crate) struct Upstreams(Mutex<HashMap<Upstream, Arc<UpstreamState>>>);

impl Upstreams {
    pub(crate) fn state(&self, address: &Upstream) -> Arc<UpstreamState> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(address.clone()).or_insert_with(|| Arc::new(UpstreamState::new(address))))
    }

    /// Forgets what no bundle names any more.
    pub(crate) fn prune(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, state| Arc::strong_count(state) > 1);
    }
}

impl UpstreamState {
    fn new(address: &Upstream) -> Self {
        Self {
            address: address.clone(),
            text: address.to_string(),
            failures: Counter::default(),
            down: AtomicBool::new(false),
            tried: AtomicBool::new(false),
            avoid_until_ms: AtomicU64::new(0),
        }
    }

    /// How the last attempt to connect went: `ok`, `down`, or `untried`.
    pub(crate) fn state(&self) -> &'static str {
        match (self.tried.load(Relaxed), self.is_down()) {
            (false, _) => "untried",
            (true, true) => "down",
            (true, false) => "ok",
        }
    }

    /// Whether the last attempt failed.
    fn is_down(&self) -> bool {
        self.down.load(Relaxed)
    }

    /// Just failed: others first, but not for long, so that its return is noticed.
    fn is_avoided(&self) -> bool {
        self.is_down() && uptime_ms() < self.avoid_until_ms.load(Relaxed)
    }

    /// Says an outage once, when it begins.
    fn failed(&self, host: &Host, error: &io::Error) {
        self.tried.store(true, Relaxed);
        self.failures.increment();
        self.avoid_until_ms.store(uptime_ms() + AVOID_MS, Relaxed);
        if !self.down.swap(true, Relaxed) {
            let error = error.to_string();
            warn!(
                upstream = self.text,
                %host,
                error,
                "upstream is down; is the app running and listening there?"
            );
        }
    }

    fn works(&self) {
        if !self.tried.load(Relaxed) {
            self.tried.store(true, Relaxed);
        }
        if self.is_down() && self.down.swap(false, Relaxed) {
            info!(upstream = self.text, "upstream is back");
        }
    }

    async fn connect(&self, limit: Duration) -> io::Result<Io> {
        let timed_out = || io::Error::new(io::ErrorKind::TimedOut, "no answer to the connection attempt");
        match &self.address {
            Upstream::Unix(path) => {
                Ok(Io::Unix(timeout(limit, UnixStream::connect(path)).await.map_err(|_| timed_out())??))
            }
            Upstream::Address(address) => connect_tcp(*address, limit).await.map(Io::Tcp),
            Upstream::Name { host, port } => {
                let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                let addresses = timeout(limit, resolve(host, *port)).await.map_err(|_| timed_out())??;
                for address in addresses {
                    match connect_tcp(address, limit).await {
                        Ok(stream) => return Ok(Io::Tcp(stream)),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
        }
    }
}

/// `localhost` needs no resolver, and Node listens on one of the two only.
async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if host.eq_ignore_ascii_case("localhost") {
        let both = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        return Ok(both.map(|address| SocketAddr::new(address, port)).to_vec());
    }
    Ok(tokio::net::lookup_host((host, port)).await?.collect())
}

async fn connect_tcp(address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let connected = timeout(limit, TcpStream::connect(address)).await;
    let stream = connected.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer to the SYN"))??;
    stream.set_nodelay(true)?;
    if !address.ip().is_loopback() {
        super::accept::keep_alive(&socket2::SockRef::from(&stream));
    }
    Ok(stream)
}

/// A byte stream to an upstream.
#[derive(Debug)]
pub(crate) enum Io {
    Tcp(TcpStream),
    Unix(UnixStream),
}

macro_rules! either {
    ($io:expr, $stream:ident => $call:expr) => {
        match $io {
            Io::Tcp($stream) => $call,
            Io::Unix($stream) => $call,
        }
    };
}

impl Io {
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(either!(self, stream => Pin::new(stream).poll_read(cx, &mut buffer)))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    pub(crate) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }

    /// Whether an idle connection has neither ended nor spoken out of turn. Asks the kernel, since the runtime may
    /// not have seen the news yet.
    fn is_quiet(&self) -> bool {
        let fd = either!(self, stream => stream.as_fd());
        let peeked = rustix::net::recv(fd, &mut [0u8; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        peeked.is_err_and(|error| error == rustix::io::Errno::AGAIN)
    }
}

/// A connection in use.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) io: Io,
    pub(crate) upstream: Arc<UpstreamState>,
    /// It carried an exchange before: its end before a response may be an old decision of the upstream.
    pub(crate) reused: bool,
}

/// What a request needs of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// May be sent again if an idle connection turns out to be dead.
    Repeatable,
    /// May not.
    Once,
    /// Never from the pool: an upgrade, or the second try.
    New,
}

struct Idle {
    io: Io,
    since: Instant,
    until: Instant,
}

/// The idle connections to one upstream, oldest first.
struct Kept {
    upstream: Arc<UpstreamState>,
    connections: Vec<Idle>,
}

/// A worker's idle connections. Never holds one whose last message had an ambiguous end.
pub(crate) struct Pool {
    kept: RefCell<Vec<Kept>>,
    /// A sweep task is running.
    sweeping: Cell<bool>,
}

impl Pool {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self { kept: RefCell::default(), sweeping: Cell::new(false) })
    }

    /// A connection to one of `upstreams`: which one follows the client's address, so that a client's requests
    /// meet the same process; one known to be down is tried last. Nothing has been sent, so any request may go on
    /// to the next.
    ///
    /// # Errors
    /// The upstream tried last and why, when none takes a connection.
    pub(crate) async fn connect(
        &self,
        upstreams: &[Arc<UpstreamState>],
        client: IpAddr,
        host: &Host,
        want: Want,
        limit: Duration,
    ) -> Result<Connection, (String, io::Error)> {
        let mut failed = (String::new(), io::Error::from(io::ErrorKind::NotFound));
        for upstream in self.order(upstreams, client) {
            if let Some(io) = self.take(upstream, want) {
                return Ok(Connection { io, upstream: Arc::clone(upstream), reused: true });
            }
            match upstream.connect(limit).await {
                Ok(io) => {
                    upstream.works();
                    return Ok(Connection { io, upstream: Arc::clone(upstream), reused: false });
                }
                Err(error) => {
                    upstream.failed(host, &error);
                    failed = (upstream.text.clone(), error);
                }
            }
        }
        Err(failed)
    }

    fn order<'u>(
        &self,
        upstreams: &'u [Arc<UpstreamState>],
        client: IpAddr,
    ) -> impl Iterator<Item = &'u Arc<UpstreamState>> {
        let first = match upstreams.len() {
            0 | 1 => 0,
            // Every worker must choose alike: a fixed hash of the address, not the pool's keyed one.
            several => address_hash(client) as usize % several,
        };
        let turned = move || upstreams.iter().cycle().skip(first).take(upstreams.len());
        turned()
            .filter(|upstream| !upstream.is_avoided())
            .chain(turned().filter(|upstream| upstream.is_avoided()))
    }

    fn take(&self, upstream: &Arc<UpstreamState>, want: Want) -> Option<Io> {
        if want == Want::New {
            return None;
        }
        let now = Instant::now();
        let mut kept = self.kept.borrow_mut();
        let kept = kept.iter_mut().find(|kept| Arc::ptr_eq(&kept.upstream, upstream))?;
        while let Some(idle) = kept.connections.pop() {
            if want == Want::Once && now.duration_since(idle.since) >= IDLE_FRESH {
                // Those below are older still; leave them all to requests that may be repeated.
                kept.connections.push(idle);
                return None;
            }
            if now < idle.until && idle.io.is_quiet() {
                return Some(idle.io);
            }
        }
        None
    }

    /// Keeps a connection whose last message ended unambiguously, for at most the upstream's own `keep_alive`, and
    /// at most `idle_max` of them.
    pub(crate) fn put(
        self: &Rc<Self>,
        connection: Connection,
        keep_alive: Option<Duration>,
        idle_max: usize,
    ) {
        let time = keep_alive.map_or(IDLE_MAX, |own| own.saturating_sub(IDLE_MARGIN).min(IDLE_MAX));
        if time.is_zero() {
            return;
        }
        let since = Instant::now();
        let idle = Idle { io: connection.io, since, until: since + time };
        let mut kept = self.kept.borrow_mut();
        match kept.iter_mut().find(|kept| Arc::ptr_eq(&kept.upstream, &connection.upstream)) {
            Some(kept) if kept.connections.len() < idle_max => kept.connections.push(idle),
            Some(_) => {}
            None if idle_max == 0 => {}
            None => kept.push(Kept { upstream: connection.upstream, connections: vec![idle] }),
        }
        drop(kept);
        self.sweep_later();
    }

    fn sweep_later(self: &Rc<Self>) {
        if self.sweeping.replace(true) {
            return;
        }
        let pool = Rc::clone(self);
        tokio::task::spawn_local(async move {
            while pool.sweep() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            pool.sweeping.set(false);
        });
    }

    /// Drops what has expired or ended; false when nothing is left.
    fn sweep(&self) -> bool {
        let now = Instant::now();
        let mut kept = self.kept.borrow_mut();
        for kept in kept.iter_mut() {
            kept.connections.retain(|idle| now < idle.until && idle.io.is_quiet());
        }
        kept.retain(|kept| !kept.connections.is_empty());
        !kept.is_empty()
    }
}

/// Milliseconds since the first call in this process.
fn uptime_ms() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn address_hash(client: IpAddr) -> u64 {
    // FNV-1a: no keyed security is needed to spread clients over a handful of local processes.
    let bytes: &[u8] = match &client {
        IpAddr::V4(address) => &address.octets(),
        IpAddr::V6(address) => &address.octets(),
    };
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}
