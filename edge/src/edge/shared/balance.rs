//! How workers keep to their share of the sessions.

use std::pin::pin;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;

use tokio::sync::Notify;

/// Wakes workers that wait for others to reach their share. No lock: an atomic and a [`Notify`].
#[derive(Debug, Default)]
pub(crate) struct Balance {
    waiting: AtomicU32,
    changed: Notify,
}

impl Balance {
    /// The number of sessions of some worker has changed.
    pub(crate) fn tell(&self) {
        if self.waiting.load(SeqCst) > 0 {
            self.changed.notify_waiters();
        }
    }

    /// Waits while `is_above_share`, which is asked again after every [`Self::tell`].
    pub(crate) async fn wait_while(&self, is_above_share: impl Fn() -> bool) {
        while is_above_share() {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            self.waiting.fetch_add(1, SeqCst);
            if is_above_share() {
                changed.await;
            }
            self.waiting.fetch_sub(1, SeqCst);
        }
    }
}
