//! Listeners and workers: one current-thread runtime per worker, every listening socket cloned into each, a session
//! born on a worker and never moved.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::task::Waker;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::task::{LocalSet, spawn_local, yield_now};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use crate::edge::net::upstream::Pool;
use crate::edge::session::{https, port80};
use crate::edge::shared::addresses::Slot;
use crate::edge::shared::state::{Drain, Shared};
use crate::ops::metrics::{Reason, WorkerTally};

/// Connections that may wait in the kernel for `accept`: all that come back during a restart. Linux's own bound, unless
/// `net.core.somaxconn` was raised.
const BACKLOG: i32 = 4096;
/// Accepts in a row before sessions get their turn.
const ACCEPT_RUN: usize = 4;
/// How often is looked for room after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Descriptors that must be there before accepting goes on: with fewer each connection would fail at its upstream.
const DESCRIPTORS_AGAIN: usize = 16;
/// Sizes of the head buffers that a worker keeps for its sessions: most heads fit the small one.
pub(crate) const SMALL_BUFFER_BYTES: usize = 2 * 1024;
/// Head buffers of each size that a worker keeps for the next use.
const SPARE_BUFFERS_MAX: usize = 64;

/// What a listening socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Https,
    Http,
}

/// Binds `address` with the options that accepted sockets inherit.
///
/// # Errors
/// What the kernel says, for the address that was asked for.
pub(crate) fn bind(address: SocketAddr, socket_buffer_bytes: usize) -> io::Result<TcpListener> {
    match bind_one(address, socket_buffer_bytes) {
        Err(error)
            if address == SocketAddr::new("::".parse().unwrap_or(address.ip()), address.port())
                && Errno::from_io_error(&error) == Some(Errno::AFNOSUPPORT) =>
        {
            warn!(%address, "this kernel has no IPv6; listening on 0.0.0.0 instead");
            bind_one(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port()), socket_buffer_bytes)
        }
        bound => bound,
    }
}

fn bind_one(address: SocketAddr, socket_buffer_bytes: usize) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    set_options(&SockRef::from(&socket), socket_buffer_bytes)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Gives an inherited listener what [`bind`] would have given it.
///
/// # Errors
/// What the kernel says.
pub(crate) fn adopt(listener: &TcpListener, socket_buffer_bytes: usize) -> io::Result<()> {
    let socket = SockRef::from(listener);
    set_options(&socket, socket_buffer_bytes)?;
    // It listens already: Linux takes the new length of the queue.
    socket.listen(BACKLOG)
}

/// Linux hands these on to accepted sockets: no call per connection.
fn set_options(socket: &SockRef<'_>, socket_buffer_bytes: usize) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    keep_alive(socket);
    if socket_buffer_bytes != 0 {
        socket.set_send_buffer_size(socket_buffer_bytes)?;
        socket.set_recv_buffer_size(socket_buffer_bytes)?;
    }
    socket.set_nonblocking(true)
}

/// Silence before the first probe, time between probes, and how many may stay without an answer.
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_INTERVAL: Duration = Duration::from_secs(15);
const PROBES: u32 = 4;

/// Finds a peer that vanished without a word (a router that forgot, a phone off the network) within two minutes.
pub(crate) fn keep_alive(socket: &SockRef<'_>) {
    let probes =
        TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_INTERVAL).with_retries(PROBES);
    // A socket without them works; only its end may be noticed late.
    let _ = socket.set_tcp_keepalive(&probes);
    // Linux lets this overrule the number of probes: were it shorter, one lost probe would end a healthy session.
    let _ = socket.set_tcp_user_timeout(Some(PROBE_AFTER + PROBE_INTERVAL * PROBES));
}

/// One worker: everything that its sessions share without a lock.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    index: usize,
    pub(crate) tally: Arc<WorkerTally>,
    /// Bytes pass through here on their way; nothing stays between two polls.
    pub(crate) scratch: RefCell<Box<[u8]>>,
    /// Heads and chunks are put together here; empty between two polls.
    pub(crate) out: RefCell<Vec<u8>>,
    pub(crate) pool: Rc<Pool>,
    small: RefCell<Vec<Box<[u8]>>>,
    large: RefCell<Vec<Box<[u8]>>>,
    sessions: Cell<usize>,
    drain: Cell<Option<Drain>>,
    /// Woken when the drain begins: a `Notified` would be 64 bytes for each of them.
    sleepers: RefCell<Sleepers>,
    last_session_ends: Notify,
}

impl Worker {
    fn new(shared: Arc<Shared>, index: usize, scratch_bytes: usize) -> Rc<Self> {
        let tally = shared.work.get(index).cloned().unwrap_or_default();
        Rc::new(Self {
            shared,
            index,
            tally,
            scratch: RefCell::new(vec![0; scratch_bytes].into_boxed_slice()),
            out: RefCell::default(),
            pool: Pool::new(),
            small: RefCell::default(),
            large: RefCell::default(),
            sessions: Cell::new(0),
            drain: Cell::new(None),
            sleepers: RefCell::default(),
            last_session_ends: Notify::new(),
        })
    }

    /// The drain, once it has begun.
    pub(crate) fn drain(&self) -> Option<Drain> {
        self.drain.get()
    }

    /// A head buffer of at least `bytes`; `large_bytes` is the size of the large ones.
    pub(crate) fn take_buffer(&self, bytes: usize, large_bytes: usize) -> Box<[u8]> {
        let (spare, size) = match bytes <= SMALL_BUFFER_BYTES {
            true => (&self.small, SMALL_BUFFER_BYTES),
            false => (&self.large, large_bytes.max(bytes)),
        };
        let kept = spare.borrow_mut().pop().filter(|buffer| buffer.len() >= bytes);
        kept.unwrap_or_else(|| vec![0; size].into_boxed_slice())
    }

    pub(crate) fn give_buffer(&self, buffer: Box<[u8]>) {
        let spare = if buffer.len() <= SMALL_BUFFER_BYTES { &self.small } else { &self.large };
        let mut spare = spare.borrow_mut();
        if !buffer.is_empty() && spare.len() < SPARE_BUFFERS_MAX {
            spare.push(buffer);
        }
    }

    /// Whether this worker has more than its share of the sessions, plus a tenth and a few.
    fn is_above_share(&self) -> bool {
        let all = self.shared.sessions.load(Relaxed) as usize;
        let share = all / self.shared.workers.max(1);
        self.sessions.get() > share + share / 10 + 2
    }

    /// A session of `peer`, by the limits of its address and of all. A full house makes room where it can: who is sent away
    /// is counted until it has gone, so that for a moment there are more than `sessions_max`.
    fn permit(self: &Rc<Self>, peer: IpAddr) -> Result<Permit, (Reason, &'static str)> {
        let place = self.shared.place(peer)?;
        let sessions = &self.shared.sessions;
        let before = sessions.fetch_add(1, Relaxed);
        let most = self.shared.sessions_max.load(Relaxed);
        if before >= most && !self.shared.eviction.evict() {
            sessions.fetch_sub(1, Relaxed);
            place.into_iter().for_each(|place| self.shared.addresses.leave(place));
            return Err((Reason::Full, "sessions_max reached, and all are in a request or a WebSocket"));
        }
        self.shared.sessions_peak.raise(u64::from((before + 1).min(most)));
        self.sessions.set(self.sessions.get() + 1);
        self.shared.balance.tell();
        Ok(Permit { worker: Rc::clone(self), place, sleeper: Cell::new(None) })
    }

    /// Nothing is allocated for a connection that is refused here.
    fn begin(self: &Rc<Self>, socket: OwnedFd, peer: IpAddr, kind: Kind) {
        self.shared.counters.sessions_total.increment();
        let permit = match self.permit(peer) {
            Ok(permit) => permit,
            Err((reason, found)) => return self.shared.refuse(reason, peer, found),
        };
        // Only its registration with epoll can fail.
        let Ok(stream) = tokio::net::TcpStream::from_std(TcpStream::from(socket)) else {
            return self.shared.refuse(Reason::Exhausted, peer, "the kernel's bound of watched sockets");
        };
        let (worker, evictable) = (Rc::clone(self), self.shared.eviction.enter());
        match kind {
            Kind::Https => drop(spawn_local(https::run(worker, stream, peer, permit, evictable))),
            Kind::Http => drop(spawn_local(port80::run(worker, stream, peer, permit, evictable))),
        }
    }

    async fn accept_all(self: Rc<Self>, listener: TcpListener, kind: Kind) -> io::Result<()> {
        // Not tokio's own listener: it registers each connection, in memory and with epoll, before we can refuse it.
        #[expect(
            deprecated,
            reason = "it must not be used with a type that changes its descriptor: a listener never does"
        )]
        let listener = AsyncFd::with_interest(listener, Interest::READABLE)?;
        loop {
            for _ in 0..ACCEPT_RUN {
                self.wait_for_share().await;
                let exhausted = &self.shared.exhausted;
                let accepted =
                    listener.async_io(Interest::READABLE, |listener| match exhausted.load(SeqCst) {
                        // A descriptor that is given up for the admin socket is not a client's.
                        true => Err(Errno::MFILE.into()),
                        false => accept(listener),
                    });
                match accepted.await {
                    Ok((socket, peer)) => self.begin(socket, peer, kind),
                    // The connection ended before we took it (accept(2), "Error handling").
                    Err(error) if is_the_peers(&error) => {}
                    Err(error) => {
                        self.exhausted(&error);
                        self.wait_for_descriptors(&listener).await;
                    }
                }
            }
            yield_now().await;
        }
    }

    /// No descriptor or memory for a connection: no worker accepts until there is. Those that wait stay in the kernel's
    /// queue.
    fn exhausted(&self, error: &io::Error) {
        if !self.shared.exhausted.swap(true, SeqCst) {
            let nobody = Ipv4Addr::UNSPECIFIED.into();
            let check = Some(
                "accepting pauses until there is room again; raise LimitNOFILE= (without systemd: `ulimit -n`), or lower sessions_max",
            );
            self.shared.refuse_with_check(Reason::Exhausted, nobody, &error.to_string(), check);
        }
    }

    async fn wait_for_descriptors(&self, any: &AsyncFd<TcpListener>) {
        while self.shared.exhausted.load(SeqCst) {
            sleep(ACCEPT_PAUSE).await;
            let some = (0..DESCRIPTORS_AGAIN).map(|_| rustix::io::fcntl_dupfd_cloexec(any.get_ref(), 0));
            if some.collect::<Result<Vec<_>, _>>().is_ok() {
                self.shared.exhausted.store(false, SeqCst);
            }
        }
    }

    /// Leaves accepting to the others while this worker is above its share. Some worker always is not.
    async fn wait_for_share(&self) {
        while self.is_above_share() {
            let balance = &self.shared.balance;
            let mut changed = pin!(balance.changed.notified());
            changed.as_mut().enable();
            balance.waiting.fetch_add(1, SeqCst);
            if self.is_above_share() {
                changed.await;
            }
            balance.waiting.fetch_sub(1, SeqCst);
        }
    }

    /// Says that this worker's tasks run, until the runtime ends.
    async fn beat(self: Rc<Self>) {
        loop {
            self.tally.beat(self.shared.uptime());
            sleep(self.shared.beat_interval).await;
        }
    }

    async fn run(self: Rc<Self>, listeners: Vec<(Kind, TcpListener)>) {
        spawn_local(Rc::clone(&self).beat());
        let mut drain = self.shared.drain.subscribe();
        let accepting: Vec<_> = listeners
            .into_iter()
            .map(|(kind, listener)| spawn_local(Rc::clone(&self).accept_all(listener, kind)))
            .collect();
        let Ok(Some(drain)) = drain.wait_for(Option::is_some).await.map(|drain| *drain) else { return };
        for task in accepting {
            task.abort();
        }
        self.drain.set(Some(drain));
        self.sleepers.borrow().wake();
        self.wait_for_sessions(drain.deadline).await;
    }

    async fn wait_for_sessions(&self, deadline: Instant) {
        while self.sessions.get() > 0 {
            tokio::select! {
                () = self.last_session_ends.notified() => {}
                () = sleep_until(deadline) => break,
            }
        }
        for _ in 0..self.sessions.get() {
            self.shared.endings.cut.increment();
        }
        if self.sessions.get() > 0 {
            info!(
                worker = self.index,
                sessions = self.sessions.get(),
                "drain timeout reached, closing what is open"
            );
        }
    }
}

/// Wakes workers that wait for others to reach their share. No lock: an atomic and a [`Notify`].
#[derive(Debug, Default)]
pub(crate) struct Balance {
    waiting: AtomicU32,
    changed: Notify,
}

impl Balance {
    /// The number of sessions of some worker has changed.
    fn tell(&self) {
        if self.waiting.load(SeqCst) > 0 {
            self.changed.notify_waiters();
        }
    }
}

/// Takes one connection; it has the options of its listener, and no descriptor of it gets to another program.
fn accept(listener: &TcpListener) -> io::Result<(OwnedFd, IpAddr)> {
    let (socket, peer) = acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok()).ok_or(Errno::CONNABORTED)?;
    Ok((socket, peer.ip().to_canonical()))
}

fn is_the_peers(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::CONNABORTED | Errno::INTR | Errno::PROTO | Errno::PERM | Errno::NETUNREACH))
}

/// The right to be a session; given back when dropped.
pub(crate) struct Permit {
    pub(crate) worker: Rc<Worker>,
    /// `None`: no limit by address holds for it.
    place: Option<Slot>,
    /// Its place among the worker's sleepers.
    sleeper: Cell<Option<u32>>,
}

impl Permit {
    /// Whether limits of handshakes hold for this session.
    pub(crate) fn is_limited(&self) -> bool {
        self.place.is_some()
    }

    /// Counts the session for the client that a proxy has named; the proxy's own address has no place.
    ///
    /// # Errors
    /// Which limit the client is over.
    pub(crate) fn count_for(&mut self, client: IpAddr) -> Result<(), (Reason, &'static str)> {
        let place = self.worker.shared.place(client)?;
        // There is one already where a reload between has just made the peer a proxy.
        let before = std::mem::replace(&mut self.place, place);
        before.into_iter().for_each(|place| self.worker.shared.addresses.leave(place));
        Ok(())
    }

    /// Has the task of `waker`, which stays the same until [`Self::sleep_on`], woken when the drain begins.
    pub(crate) fn wake_at_drain(&self, waker: &Waker) {
        if self.sleeper.get().is_none() {
            self.sleeper.set(Some(self.worker.sleepers.borrow_mut().enter(waker.clone())));
        }
    }

    /// Another task goes on with the session.
    pub(crate) fn sleep_on(&self) {
        if let Some(place) = self.sleeper.take() {
            self.worker.sleepers.borrow_mut().leave(place);
        }
    }
}

/// Tasks by place; places that are free are taken first.
#[derive(Default)]
struct Sleepers {
    wakers: Vec<Option<Waker>>,
    free: Vec<u32>,
}

impl Sleepers {
    fn enter(&mut self, waker: Waker) -> u32 {
        let place = self.free.pop().unwrap_or_else(|| {
            self.wakers.push(None);
            self.wakers.len() as u32 - 1
        });
        if let Some(free) = self.wakers.get_mut(place as usize) {
            *free = Some(waker);
        }
        place
    }

    fn leave(&mut self, place: u32) {
        if let Some(taken) = self.wakers.get_mut(place as usize) {
            *taken = None;
            self.free.push(place);
        }
    }

    fn wake(&self) {
        self.wakers.iter().flatten().for_each(Waker::wake_by_ref);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.sleep_on();
        self.worker.shared.sessions.fetch_sub(1, Relaxed);
        self.place.take().into_iter().for_each(|place| self.worker.shared.addresses.leave(place));
        self.worker.sessions.set(self.worker.sessions.get() - 1);
        self.worker.shared.balance.tell();
        if self.worker.sessions.get() == 0 {
            self.worker.last_session_ends.notify_one();
        }
    }
}

/// Runs a worker on this thread until a drain has ended.
///
/// # Errors
/// The runtime cannot be made.
pub(crate) fn run_worker(
    shared: Arc<Shared>,
    index: usize,
    scratch_bytes: usize,
    listeners: Vec<(Kind, TcpListener)>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let worker = Worker::new(shared, index, scratch_bytes);
    let tally = Arc::clone(&worker.tally);
    block_on(&runtime, worker.run(listeners));
    tally.ended();
    Ok(())
}

fn block_on(runtime: &tokio::runtime::Runtime, future: impl Future<Output = ()>) {
    LocalSet::new().block_on(runtime, future);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lost_probe_ends_no_session() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        keep_alive(&SockRef::from(&socket));
        let probes = socket.tcp_keepalive_interval().unwrap() * socket.tcp_keepalive_retries().unwrap();
        let silence = socket.tcp_keepalive_time().unwrap() + probes;
        assert!(socket.keepalive().unwrap());
        assert!(socket.tcp_user_timeout().unwrap().unwrap() >= silence, "it overrules the probes");
        assert!(silence <= Duration::from_secs(120));
    }
}
