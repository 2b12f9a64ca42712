//! Connections to the local servers behind the edge: connecting, the idle pool of a worker, outages.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::RecvFlags;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
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
/// When an upstream that is down is first tried again, and the longest pause between two tries; each is twice the one
/// before.
const PROBE_FIRST: Duration = Duration::from_secs(1);
const PROBE_MAX: Duration = Duration::from_secs(30);

/// One upstream, shared by all workers and all bundles that name it.
#[derive(Debug)]
pub(crate) struct UpstreamState {
    /// No other has it, nor had it before.
    pub(crate) id: u32,
    address: Upstream,
    /// As written in sanedge.toml.
    pub(crate) text: String,
    /// Attempts to connect that failed.
    pub(crate) failures: Counter,
    tried: AtomicBool,
    /// The last attempt to connect failed.
    down: AtomicBool,
    /// A task tries it again and again until it is back.
    probing: AtomicBool,
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
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self {
            id: NEXT.fetch_add(1, Relaxed),
            address: address.clone(),
            text: address.to_string(),
            failures: Counter::default(),
            tried: AtomicBool::new(false),
            down: AtomicBool::new(false),
            probing: AtomicBool::new(false),
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

    /// Whether the last attempt failed: others are tried first.
    fn is_down(&self) -> bool {
        self.down.load(Relaxed)
    }

    /// Says an outage once, when it begins, and has a task of this worker notice its end.
    fn failed(self: &Arc<Self>, host: &Host, error: &io::Error, dial: Dial) {
        self.tried.store(true, Relaxed);
        self.failures.increment();
        if !self.down.swap(true, SeqCst) {
            let error = error.to_string();
            warn!(
                upstream = self.text,
                %host,
                error,
                "upstream is down; is the app running and listening there?"
            );
        }
        if !self.probing.swap(true, SeqCst) {
            tokio::task::spawn_local(probe(Arc::downgrade(self), dial));
        }
    }

    fn works(&self) {
        if !self.tried.load(Relaxed) {
            self.tried.store(true, Relaxed);
        }
        if self.is_down() && self.down.swap(false, SeqCst) {
            info!(upstream = self.text, "upstream is back");
        }
    }

    /// Whether there is an end to probing: it is back, and no new outage has begun meanwhile that relies on us.
    fn probed(&self) -> bool {
        if self.down.load(SeqCst) {
            return false;
        }
        self.probing.store(false, SeqCst);
        !self.down.load(SeqCst) || self.probing.swap(true, SeqCst)
    }

    async fn connect(&self, dial: Dial) -> io::Result<UpstreamStream> {
        let timed_out = || io::Error::new(io::ErrorKind::TimedOut, "no answer to the connection attempt");
        match &self.address {
            Upstream::Unix(path) => {
                let connected = timeout(dial.time, UnixStream::connect(path)).await;
                let stream = connected.map_err(|_| timed_out())??;
                if dial.socket_buffer_bytes != 0 {
                    // What is on its way to us is charged to the upstream's own buffer.
                    SockRef::from(&stream).set_send_buffer_size(dial.socket_buffer_bytes)?;
                }
                Ok(UpstreamStream::Unix(stream))
            }
            Upstream::Address(address) => connect_tcp(*address, dial).await.map(UpstreamStream::Tcp),
            Upstream::Name { host, port } => {
                let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                let addresses = timeout(dial.time, resolve(host, *port)).await.map_err(|_| timed_out())??;
                for address in addresses {
                    match connect_tcp(address, dial).await {
                        Ok(stream) => return Ok(UpstreamStream::Tcp(stream)),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
        }
    }
}

/// Connects until that works, ever less often, so that no request has to be the one that tries. Ends too when nobody names
/// the upstream any more.
async fn probe(upstream: Weak<UpstreamState>, dial: Dial) {
    for attempt in 0.. {
        tokio::time::sleep(probe_pause(attempt)).await;
        let Some(upstream) = upstream.upgrade() else { return };
        if upstream.is_down() && upstream.connect(dial).await.is_ok() {
            upstream.works();
        }
        if upstream.probed() {
            return;
        }
    }
}

fn probe_pause(attempt: u32) -> Duration {
    PROBE_FIRST.saturating_mul(2_u32.saturating_pow(attempt)).min(PROBE_MAX)
}

/// `localhost` needs no resolver, and Node listens on one of the two only.
async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if host.eq_ignore_ascii_case("localhost") {
        let both = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        return Ok(both.map(|address| SocketAddr::new(address, port)).to_vec());
    }
    Ok(tokio::net::lookup_host((host, port)).await?.collect())
}

async fn connect_tcp(address: SocketAddr, dial: Dial) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_nodelay(true)?;
    if let Ok(bytes @ 1..) = u32::try_from(dial.socket_buffer_bytes) {
        // Before the handshake: the window that it agrees on follows the buffer.
        socket.set_recv_buffer_size(bytes)?;
        socket.set_send_buffer_size(bytes)?;
    }
    let connected = timeout(dial.time, socket.connect(address)).await;
    let stream = connected.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer to the SYN"))??;
    // On loopback too: it may lead into a container, whose network goes without a word.
    crate::edge::accept::accept_loop::keep_alive(&SockRef::from(&stream));
    Ok(stream)
}

/// A byte stream to an upstream.
#[derive(Debug)]
pub(crate) enum UpstreamStream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

macro_rules! either {
    ($io:expr, $stream:ident => $call:expr) => {
        match $io {
            UpstreamStream::Tcp($stream) => $call,
            UpstreamStream::Unix($stream) => $call,
        }
    };
}

impl UpstreamStream {
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

    /// Writes the first bytes of a connection; no more than any socket's buffer takes at once.
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        either!(self, stream => tokio::io::AsyncWriteExt::write_all(stream, bytes).await)
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
    pub(crate) io: UpstreamStream,
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

/// How a new connection is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dial {
    /// At most so long for each address.
    pub(crate) time: Duration,
    /// SO_SNDBUF and SO_RCVBUF; 0 leaves them to the kernel.
    pub(crate) socket_buffer_bytes: usize,
}

struct Idle {
    io: UpstreamStream,
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

    /// A connection to one of `upstreams`, `first` before the others; those that are down are tried last. Nothing has
    /// been sent, so any request may go on to the next.
    ///
    /// # Errors
    /// The upstream tried last and why, when none takes a connection.
    pub(crate) async fn connect(
        &self,
        upstreams: &[Arc<UpstreamState>],
        first: usize,
        host: &Host,
        want: Want,
        dial: Dial,
    ) -> Result<Connection, (String, io::Error)> {
        let mut failed = (String::new(), io::Error::from(io::ErrorKind::NotFound));
        let several = upstreams.len();
        // Asked once: one that fails now is not tried a second time.
        let down = upstreams.iter().map(|upstream| upstream.is_down());
        let down = down.zip(0..u32::BITS).fold(0_u32, |mask, (down, at)| mask | u32::from(down) << at);
        let turned = || (first..).map(|at| at % several).take(several);
        let is_down = |at: &usize| down >> (at % 32) & 1 == 1;
        let in_order = turned().filter(|at| !is_down(at)).chain(turned().filter(is_down));
        for upstream in in_order.filter_map(|at| upstreams.get(at)) {
            if let Some(io) = self.take(upstream, want) {
                return Ok(Connection { io, upstream: Arc::clone(upstream), reused: true });
            }
            match upstream.connect(dial).await {
                Ok(io) => {
                    upstream.works();
                    return Ok(Connection { io, upstream: Arc::clone(upstream), reused: false });
                }
                Err(error) => {
                    // For want of descriptors of ours, the upstream is not down.
                    if !matches!(
                        error.raw_os_error().map(Errno::from_raw_os_error),
                        Some(Errno::MFILE | Errno::NFILE)
                    ) {
                        upstream.failed(host, &error, dial);
                    }
                    failed = (upstream.text.clone(), error);
                }
            }
        }
        Err(failed)
    }

    fn take(&self, upstream: &Arc<UpstreamState>, want: Want) -> Option<UpstreamStream> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_come_ever_less_often_up_to_a_bound() {
        let seconds: Vec<u64> = (0..8).map(|attempt| probe_pause(attempt).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(probe_pause(u32::MAX), PROBE_MAX);
    }
}
