//! The loop of a worker: one current-thread runtime per worker, every listening socket cloned into each, a session
//! born on a worker and never moved.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Poll, Waker};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::task::{LocalSet, spawn_local, yield_now};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::edge::accept::listeners::Kind;
use crate::edge::session::https::Start;
use crate::edge::session::worker::{Permit, Worker};
use crate::edge::session::{https, port80, relay, silent};
use crate::edge::shared::handover::{self, Frozen};
use crate::edge::shared::state::Shared;
use crate::ops::metrics::Reason;

/// Accepts in a row before sessions get their turn.
const ACCEPT_RUN: usize = 4;
/// How often is looked for room after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Descriptors that must be there before accepting goes on: with fewer each connection would fail at its upstream.
const DESCRIPTORS_AGAIN: usize = 16;

/// A worker that accepts.
struct AcceptLoop {
    worker: Rc<Worker>,
}

impl AcceptLoop {
    /// Nothing is allocated for a connection that is refused here.
    fn begin(&self, socket: OwnedFd, peer: IpAddr, kind: Kind) {
        self.worker.shared.counters.sessions_total.increment();
        let permit = match self.worker.permit(peer) {
            Ok(permit) => permit,
            Err((reason, found)) => return self.worker.shared.refuse(reason, peer, found),
        };
        // Only its registration with epoll can fail.
        let Ok(stream) = tokio::net::TcpStream::from_std(TcpStream::from(socket)) else {
            return self.worker.shared.refuse(
                Reason::Exhausted,
                peer,
                "the kernel's limit of watched sockets",
            );
        };
        self.run_session(stream, peer, kind, permit);
    }

    fn run_session(&self, stream: tokio::net::TcpStream, peer: IpAddr, kind: Kind, permit: Permit) {
        let (worker, evictable) = (Rc::clone(&self.worker), self.worker.shared.eviction.enter());
        match kind {
            Kind::Https => self.run_https(Start::Connection(stream, peer, evictable), permit),
            Kind::Http => drop(spawn_local(port80::run(worker, stream, peer, permit, evictable))),
        }
    }

    fn run_https(&self, start: Start, permit: Permit) {
        spawn_local(https::run(Rc::clone(&self.worker), start, permit));
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
                // The others accept meanwhile. Some worker always is not above its share.
                self.worker.shared.balance.wait_while(|| self.worker.is_above_share()).await;
                let exhausted = &self.worker.shared.exhausted;
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
        if !self.worker.shared.exhausted.swap(true, SeqCst) {
            let nobody = Ipv4Addr::UNSPECIFIED.into();
            let check = Some(
                "out of file descriptors: not accepting until some are free; raise LimitNOFILE= (without systemd: `ulimit \
                    -n`), or lower sessions_max",
            );
            self.worker.shared.refuse_with_check(Reason::Exhausted, nobody, &error.to_string(), check);
        }
    }

    async fn wait_for_descriptors(&self, any: &AsyncFd<TcpListener>) {
        while self.worker.shared.exhausted.load(SeqCst) {
            sleep(ACCEPT_PAUSE).await;
            let some = (0..DESCRIPTORS_AGAIN).map(|_| rustix::io::fcntl_dupfd_cloexec(any.get_ref(), 0));
            if some.collect::<Result<Vec<_>, _>>().is_ok() {
                self.worker.shared.exhausted.store(false, SeqCst);
            }
        }
    }

    /// Says that this worker's tasks run, again and again and whenever it is asked, until the runtime ends.
    async fn beat(self: Rc<Self>) {
        let shared = &self.worker.shared;
        let mut asked = shared.roll_call.subscribe();
        loop {
            self.worker.tally.beat(shared.uptime());
            shared.beats.notify_waiters();
            let _ = timeout(shared.beat_interval, asked.changed()).await;
        }
    }

    /// Resumes the sessions that come from `sessions`, until the channel is closed.
    async fn resume_all(self: Rc<Self>, mut sessions: UnboundedReceiver<Frozen>) {
        while let Some(session) = sessions.recv().await {
            if let Err(why) = self.resume(session) {
                self.worker.shared.hand_over.count_lost(why);
            }
        }
    }

    fn resume(&self, session: Frozen) -> Result<(), &'static str> {
        match session.kind() {
            Some(handover::Kind::WebSocket) => {
                drop(spawn_local(relay::frozen::resume(&self.worker, session)?))
            }
            Some(handover::Kind::Http) => {
                let (serving, peer) = https::resume::resume(&self.worker, session)?;
                self.run_https(Start::Resumed(serving), self.worker.permit_again(peer));
            }
            Some(kind @ (handover::Kind::Silent | handover::Kind::SilentPort80)) => {
                let (stream, peer) = silent::resume(session)?;
                let kind = if kind == handover::Kind::Silent { Kind::Https } else { Kind::Http };
                self.run_session(stream, peer, kind, self.worker.permit_again(peer));
            }
            Some(handover::Kind::Sids) | None => return Err(handover::DAMAGED),
        }
        Ok(())
    }

    /// Wakes the sessions whenever the hand-over changes state, until it is over. Returns when the remaining sessions end.
    async fn hand_over(&self, mut changes: watch::Receiver<()>) -> Option<Instant> {
        let hand_over = &self.worker.shared.hand_over;
        while hand_over.over_at().is_none() && changes.changed().await.is_ok() {
            self.worker.begin_drain();
        }
        hand_over.over_at()
    }

    async fn run(self: Rc<Self>, listeners: Vec<(Kind, TcpListener)>, sessions: UnboundedReceiver<Frozen>) {
        let resuming = spawn_local(Rc::clone(&self).resume_all(sessions));
        spawn_local(Rc::clone(&self).beat());
        let shared = &self.worker.shared;
        let mut begins = shared.drain_begins.subscribe();
        let accepting: Vec<_> = listeners
            .into_iter()
            .map(|(kind, listener)| spawn_local(Rc::clone(&self).accept_all(listener, kind)))
            .collect();
        let Ok(_) = begins.wait_for(|()| shared.drain.get().is_some()).await else { return };
        let Some(drain) = self.worker.drain() else { return };
        for task in accepting {
            task.abort();
        }
        shared.hand_over.worker_closed();
        self.worker.begin_drain();
        let mut deadline = drain.deadline;
        if drain.hands_over
            && let Ok(Some(over_at)) = timeout_at(deadline, self.hand_over(begins)).await
        {
            deadline = deadline.min(over_at);
        }
        // Resumes the sessions that are still in the channel; the main thread sends no more.
        let _ = timeout_at(deadline, resuming).await;
        self.worker.wait_for_sessions(deadline).await;
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

/// Runs a worker on this thread until a drain has ended. `sessions` delivers sessions to resume.
///
/// # Errors
/// The runtime cannot be made.
pub fn run_worker(
    shared: Arc<Shared>,
    index: usize,
    scratch_bytes: usize,
    listeners: Vec<(Kind, TcpListener)>,
    sessions: UnboundedReceiver<Frozen>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let worker = Worker::new(shared, index, scratch_bytes);
    let tally = Arc::clone(&worker.tally);
    block_on(&runtime, Rc::new(AcceptLoop { worker }).run(listeners, sessions));
    tally.ended();
    Ok(())
}

/// Runs `future` beside the tasks that it spawns. What a local set is to run until is polled whenever one of its tasks wakes, and what
/// waits for the drain would be with it: so it is a task too, and the set runs until this [`End`].
fn block_on(runtime: &tokio::runtime::Runtime, future: impl Future<Output = ()> + 'static) {
    LocalSet::new().block_on(runtime, async {
        let end = Rc::new(End::default());
        let comes = Comes(Rc::clone(&end));
        let task = spawn_local(async move {
            let _comes = comes;
            future.await;
        });
        poll_fn(|cx| end.poll(cx.waker())).await;
        if let Err(ended) = task.await
            && let Ok(panic) = ended.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Whether a task of this thread has ended, and what waits for that.
#[derive(Default)]
struct End {
    has_come: Cell<bool>,
    waits: RefCell<Option<Waker>>,
}

impl End {
    fn poll(&self, waker: &Waker) -> Poll<()> {
        if self.has_come.get() {
            return Poll::Ready(());
        }
        self.waits.borrow_mut().get_or_insert_with(|| waker.clone()).clone_from(waker);
        Poll::Pending
    }
}

/// Brings the end when it is dropped.
struct Comes(Rc<End>);

impl Drop for Comes {
    fn drop(&mut self) {
        self.0.has_come.set(true);
        if let Some(waker) = self.0.waits.borrow_mut().take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_ends_with_its_own_task_and_panics_with_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        for pauses in [0, 3] {
            let done = Rc::new(Cell::new(0));
            let counts = Rc::clone(&done);
            block_on(&runtime, async move {
                spawn_local(std::future::pending::<()>());
                for _ in 0..pauses {
                    sleep(Duration::from_millis(1)).await;
                    counts.set(counts.get() + 1);
                }
            });
            assert_eq!(done.get(), pauses);
        }
        let panics = || block_on(&runtime, async { panic!("of the task") });
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"of the task"));
    }
}
