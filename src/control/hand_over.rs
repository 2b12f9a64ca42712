//! At a restart, open WebSockets pass to the next process through the service manager's descriptor store.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::edge::shared::handover::Frozen;
use crate::edge::shared::state::Shared;
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

/// What became of the WebSockets.
pub(crate) struct Outcome {
    /// The next process has them.
    pub(crate) stored: usize,
    /// They came back to this process, and get a Close.
    pub(crate) returned: usize,
}

/// Hands the open WebSockets of a draining edge over. `workers` get back the sessions that cannot be handed over.
pub(crate) async fn hand_over(shared: Arc<Shared>, workers: Workers) -> Outcome {
    let begun = Instant::now();
    let websockets = &shared.counters.websockets_open;
    let accepts = || (shared.hand_over.closed_workers() as usize) < shared.workers;
    // The gauges are not read atomically. An upgrade between the two reads only causes one more check.
    let has_others = || u64::from(shared.sessions.load(Relaxed)) > websockets.value();
    while begun.elapsed() < EXCHANGES_TIME && (accepts() || has_others()) {
        sleep(LOOK_INTERVAL).await;
    }
    let (taker, taken) = unbounded_channel();
    let frozen_at = Instant::now();
    shared.hand_over.begin(taker);
    shared.drain_begins.send_replace(());
    let sessions = freeze(&shared, taken).await;
    let frozen = sessions.len();
    let Stored { not_stored, sessions: stored, parcels, why } = store(sessions).await;
    let gap_ms = frozen_at.elapsed().as_millis() as u64; // lossless: a few seconds
    let returned = not_stored.len();
    if stored > 0 {
        info!(websockets = stored, parcels, gap_ms, "handed WebSockets over to the next process");
    }
    if stored < frozen {
        let why = why.as_deref();
        warn!(websockets = frozen - stored, why, "could not hand over all WebSockets; the rest are closed");
    }
    give(not_stored, &workers);
    drop(workers);
    shared.hand_over.end(Instant::now() + CLOSE_TIME);
    shared.drain_begins.send_replace(());
    Outcome { stored, returned }
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
    // A session that freezes after this stays in this process and gets a Close.
    taken.close();
    while let Ok(session) = taken.try_recv() {
        sessions.push(session);
    }
    sessions
}

/// Stores the sessions on a thread of its own, because that waits for the service manager.
async fn store(sessions: Vec<Frozen>) -> Stored {
    let (sender, stored) = oneshot::channel();
    let spawned = thread::Builder::new().name("hand-over".to_owned()).spawn(move || {
        let _ = sender.send(descriptor_store::store(sessions));
    });
    let nothing = |why: String| Stored { not_stored: Vec::new(), sessions: 0, parcels: 0, why: Some(why) };
    match spawned {
        Ok(_) => stored.await.unwrap_or_else(|_| nothing("a panic".to_owned())),
        Err(error) => nothing(format!("cannot start a thread: {error}")),
    }
}

/// Resumes the sessions of the previous process, and checks whether a restart can hand sessions over.
pub(crate) fn begin(shared: &Shared, sockets: Vec<OwnedFd>, workers: &Workers) {
    if !sockets.is_empty() {
        take(sockets, workers);
    }
    if descriptor_store::is_confirmed() {
        shared.hand_over.allow();
    }
}

fn take(sockets: Vec<OwnedFd>, workers: &Workers) {
    let Taken { mut sessions, mut ended, mut why } = descriptor_store::take(sockets);
    let all = sessions.len();
    sessions.retain(Frozen::is_readable);
    if sessions.len() < all {
        ended += all - sessions.len();
        why = Some("another version of sanedge stored the sessions in another format".to_owned());
    }
    let (websockets, why) = (sessions.len(), why.as_deref());
    match ended {
        0 => info!(websockets, "received WebSockets from the previous process"),
        _ => warn!(
            websockets,
            ended, why, "received WebSockets from the previous process; some could not be used"
        ),
    }
    give(sessions, workers);
}

/// Evenly to the workers.
fn give(sessions: Vec<Frozen>, workers: &Workers) {
    for (session, worker) in sessions.into_iter().zip(workers.iter().cycle()) {
        let _ = worker.send(session); // a worker that has ended ends the process
    }
}
