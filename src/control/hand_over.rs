//! At a restart, open WebSockets and waiting connections pass to the next process through the service manager's descriptor store.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::edge::shared::handover::{Frozen, Kind};
use crate::edge::shared::state::Shared;
use crate::limits::HANDSHAKE_BYTES;
use crate::system::descriptor_store::{self, Stored, Taken};

/// How long exchanges may run after a restart is requested. WebSockets that are handed over keep working during this time.
pub(crate) const EXCHANGES_TIME: Duration = Duration::from_secs(2);
/// How long workers may take to freeze their sessions.
const FREEZE_TIME: Duration = Duration::from_secs(2);
/// How long a session that cannot be handed over has for its Close. The stored sessions wait during this time.
const CLOSE_TIME: Duration = Duration::from_secs(1);
/// Upper bound for the hand-over after the exchanges: the service manager may take 5 s to answer, and 1 s to take each of three messages.
pub(crate) const TIME_MAX: Duration = Duration::from_secs(12);
/// Interval between checks whether the exchanges have ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Delivers sessions to resume to each worker.
pub(crate) type Workers = Vec<UnboundedSender<Frozen>>;

/// What became of the sessions.
pub(crate) struct Outcome {
    /// The next process has them.
    pub(crate) stored: usize,
    /// They came back to this process, which closes them.
    pub(crate) returned: usize,
}

/// Hands the sessions of a draining edge over. `workers` get back those that cannot be handed over.
pub(crate) async fn hand_over(shared: Arc<Shared>, workers: Workers) -> Outcome {
    let begun = Instant::now();
    let websockets = &shared.counters.websockets_open;
    let accepts = || (shared.hand_over.closed_workers() as usize) < shared.workers;
    // The gauges are not read atomically. An upgrade between the two reads only causes one more check.
    let has_others = || u64::from(shared.sessions.load(Relaxed)) > websockets.value();
    let (taker, taken) = unbounded_channel();
    shared.hand_over.begin(taker);
    shared.drain_begins.send_replace(());
    while begun.elapsed() < EXCHANGES_TIME && (accepts() || has_others()) {
        sleep(LOOK_INTERVAL).await;
    }
    let frozen_at = Instant::now();
    shared.hand_over.begin_websockets();
    shared.drain_begins.send_replace(());
    let mut sessions = freeze(&shared, taken).await;
    let all = Counts::of(&sessions);
    sessions.extend(shared.sids.freeze(shared.active.load().upstreams(), Instant::now()));
    let Stored { mut not_stored, sessions: stored, parcels, why } =
        store(sessions, copies_bytes_max(&shared)).await;
    let gap_ms = frozen_at.elapsed().as_millis() as u64; // lossless: a few seconds
    not_stored.retain(|session| session.kind() != Some(Kind::Sids));
    let rest = Counts::of(&not_stored);
    if stored > 0 {
        let (websockets, others) = (all.websockets - rest.websockets, all.others - rest.others);
        info!(websockets, others, parcels, gap_ms, "handed open connections over to the next process");
    }
    let has_all = not_stored.is_empty() && (stored > 0 || all.websockets + all.others == 0);
    if let Some(why) = why {
        let Counts { websockets, others } = rest;
        match has_all {
            true => warn!(why, "could not hand over the table of Engine.IO sessions"),
            false => {
                warn!(websockets, others, why, "could not hand over all connections; the rest are closed")
            }
        }
    }
    let returned = not_stored.len();
    give(not_stored, &workers);
    drop(workers);
    shared.hand_over.end(Instant::now() + CLOSE_TIME);
    shared.drain_begins.send_replace(());
    // 0 also where the thread that stores them has failed, and nothing came back.
    let stored = if stored == 0 { 0 } else { all.websockets + all.others - returned };
    Outcome { stored, returned }
}

/// Sessions by what they are.
#[derive(Clone, Copy)]
struct Counts {
    websockets: usize,
    others: usize,
}

impl Counts {
    fn of(sessions: &[Frozen]) -> Self {
        let websockets = sessions.iter().filter(|session| session.kind() == Some(Kind::WebSocket)).count();
        Self { websockets, others: sessions.len() - websockets }
    }
}

/// All sessions that freeze.
async fn freeze(shared: &Shared, mut taken: UnboundedReceiver<Frozen>) -> Vec<Frozen> {
    let mut sessions = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < FREEZE_TIME {
        // A session is sent to `taken` before `websockets_open` is decremented.
        let is_last = shared.counters.websockets_open.value() <= u64::from(shared.hand_over.staying());
        while let Ok(session) = taken.try_recv() {
            sessions.push(session);
        }
        if is_last {
            break;
        }
        if let Ok(Some(session)) = timeout(LOOK_INTERVAL, taken.recv()).await {
            sessions.push(session);
        }
    }
    // A session that freezes after this stays in this process, which closes it. `recv` also waits for those that are being sent.
    taken.close();
    shared.drain_begins.send_replace(());
    while let Some(session) = taken.recv().await {
        sessions.push(session);
    }
    sessions
}

/// The memory equation has no term for a second copy of the sessions. No handshake runs while they are stored.
fn copies_bytes_max(shared: &Shared) -> u64 {
    u64::from(shared.active.load().bundle.limits.handshakes_max) * HANDSHAKE_BYTES
}

/// Stores the sessions. This blocks until the service manager answers, so a separate thread does it.
async fn store(sessions: Vec<Frozen>, copies_bytes_max: u64) -> Stored {
    let (sender, stored) = oneshot::channel();
    let spawned = thread::Builder::new().name("hand-over".to_owned()).spawn(move || {
        let _ = sender.send(descriptor_store::store(sessions, copies_bytes_max));
    });
    let nothing = |why: String| Stored { not_stored: Vec::new(), sessions: 0, parcels: 0, why: Some(why) };
    match spawned {
        Ok(_) => stored.await.unwrap_or_else(|_| nothing("the thread that stores them panicked".to_owned())),
        Err(error) => nothing(format!("cannot start a thread: {error}")),
    }
}

/// Takes what the previous process stored: its table of `sid`s goes to `shared`, and its sessions are for [`begin`]. Before the workers start.
pub(crate) fn take(shared: &Shared, sockets: Vec<OwnedFd>) -> Vec<Frozen> {
    if sockets.is_empty() {
        return Vec::new();
    }
    let Taken { mut sessions, mut ended, mut why } = descriptor_store::take(sockets);
    let all = sessions.len();
    sessions.retain(|session| session.kind().is_some());
    if sessions.len() < all {
        ended += all - sessions.len();
        why = Some("another version of sanedge stored the sessions in another format".to_owned());
    }
    let active = shared.active.load();
    sessions.retain(|session| {
        let is_session = session.kind() != Some(Kind::Sids);
        if !is_session
            && let Err(why) = shared.sids.resume(&session.record, active.upstreams(), Instant::now())
        {
            warn!(why, "cannot use the previous process's table of Engine.IO sessions");
        }
        is_session
    });
    let (Counts { websockets, others }, why) = (Counts::of(&sessions), why.as_deref());
    match ended {
        0 => info!(websockets, others, "received open connections from the previous process"),
        _ => warn!(
            websockets,
            others, ended, why, "received open connections from the previous process; some could not be used"
        ),
    }
    sessions
}

/// Resumes the `sessions` of the previous process, and checks whether a restart can hand sessions over.
pub(crate) fn begin(shared: &Shared, sessions: Vec<Frozen>, workers: &Workers) {
    give(sessions, workers);
    if descriptor_store::is_confirmed() {
        shared.hand_over.allow();
    }
}

/// Evenly to the workers.
fn give(sessions: Vec<Frozen>, workers: &Workers) {
    for (session, worker) in sessions.into_iter().zip(workers.iter().cycle()) {
        let _ = worker.send(session); // a worker that has ended ends the process
    }
}
