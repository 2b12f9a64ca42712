//! WebSockets that outlive this process: at a restart they go to the next one through the service manager's descriptor store.

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

/// How long exchanges may go on before sessions are frozen; WebSockets do meanwhile.
pub(crate) const EXCHANGES_TIME: Duration = Duration::from_secs(2);
/// How long workers may take to freeze their sessions.
const FREEZE_TIME: Duration = Duration::from_secs(2);
/// How long a session that cannot be handed over has for its Close. Those that are stored wait meanwhile.
const CLOSE_TIME: Duration = Duration::from_secs(1);
/// Longest that all of it takes behind the exchanges: the service manager may take 5 s to answer, and 1 s to take each of three messages.
pub(crate) const TIME_MAX: Duration = Duration::from_secs(12);
/// How often is looked whether the exchanges are over.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Where each worker gets sessions to go on with.
pub(crate) type Workers = Vec<UnboundedSender<Frozen>>;

/// What became of the WebSockets.
pub(crate) struct Outcome {
    /// The next process has them.
    pub(crate) stored: usize,
    /// They are here again, and get a Close.
    pub(crate) returned: usize,
}

/// Hands the open WebSockets of a draining edge over. `workers` get back what cannot be.
pub(crate) async fn hand_over(shared: Arc<Shared>, workers: Workers) -> Outcome {
    let begun = Instant::now();
    let websockets = &shared.counters.websockets_open;
    let accepts = || (shared.hand_over.closed_workers() as usize) < shared.workers;
    // The gauges are read one after the other: an upgrade between them only lets it look once more.
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
        info!(websockets = stored, parcels, gap_ms, "handed over to the next process");
    }
    if stored < frozen {
        let why = why.as_deref();
        warn!(websockets = frozen - stored, why, "not handed over: these WebSockets are closed");
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
        // A session is sent before it is counted out.
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
    // A session that comes later stays, and gets a Close.
    taken.close();
    while let Ok(session) = taken.try_recv() {
        sessions.push(session);
    }
    sessions
}

/// On a thread of its own: it waits for the service manager.
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

/// Goes on with the sessions of the process before, and finds out whether there will be a process after.
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
        why = Some("another version stored them".to_owned());
    }
    let (websockets, why) = (sessions.len(), why.as_deref());
    match ended {
        0 => info!(websockets, "received from the process before"),
        _ => warn!(websockets, ended, why, "received from the process before; some could not be used"),
    }
    give(sessions, workers);
}

/// Evenly to the workers.
fn give(sessions: Vec<Frozen>, workers: &Workers) {
    for (session, worker) in sessions.into_iter().zip(workers.iter().cycle()) {
        let _ = worker.send(session); // a worker that has ended ends the process
    }
}
