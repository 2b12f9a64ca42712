//! Ctrl-C between the first file and the last: the change is completed, or undone, before the process ends.

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// While this exists, these signals do not end the process. That is safe because each wait of `apply` is bounded.
pub(super) struct Deferred {
    _signals: Vec<Signal>,
    _runtime: Option<Runtime>,
}

impl Deferred {
    pub(super) fn new() -> Self {
        let Ok(runtime) = Builder::new_current_thread().enable_io().build() else {
            return Self { _signals: Vec::new(), _runtime: None };
        };
        let kinds =
            [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()];
        let signals = {
            let _context = runtime.enter();
            kinds.into_iter().filter_map(|kind| signal(kind).ok()).collect()
        };
        Self { _signals: signals, _runtime: Some(runtime) }
    }
}
