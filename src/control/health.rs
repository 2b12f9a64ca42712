//! Whether clients can be served: every worker is asked for an answer, and the certificates are looked at.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::admin::Health;
use crate::admin::health::WORKER_TIME_S;
use crate::control::expiry::wall_clock;
use crate::edge::shared::state::Shared;

/// Asks every worker, and waits until all have answered or the time for it is over.
pub(crate) async fn check(shared: Arc<Shared>) -> Health {
    let silent = silent_workers(&shared).await;
    let active = shared.active.load();
    let end = |certificate: u16| Some(active.bundle.certificates.get(usize::from(certificate))?.not_after);
    Health {
        workers: shared.workers,
        silent,
        ends: active.bundle.hosts.iter().filter_map(|entry| end(entry.certificate)).collect(),
        pending: active.bundle.pending.iter().map(|entry| entry.host.to_string()).collect(),
        now: wall_clock(),
    }
}

/// A worker answers with a beat. One that has ended, in a drain, is not asked.
async fn silent_workers(shared: &Shared) -> Vec<usize> {
    // As exact as a beat is.
    let asked = Duration::from_millis(u64::try_from(shared.uptime().as_millis()).unwrap_or(u64::MAX));
    let silent = || {
        let workers = shared.work.iter().enumerate();
        workers.filter(|(_, tally)| !tally.silence(asked).is_zero()).map(|(at, _)| at).collect::<Vec<_>>()
    };
    shared.roll_call.send_replace(());
    let all = async {
        loop {
            // Before the look: a beat between the two is not lost.
            let beat = shared.beats.notified();
            if silent().is_empty() {
                return;
            }
            beat.await;
        }
    };
    let _ = timeout(Duration::from_secs(WORKER_TIME_S), all).await;
    silent()
}
