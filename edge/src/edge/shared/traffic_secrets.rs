//! The traffic secrets of TLS 1.3, from rustls's call for a key log: its connections give away keys, but not what the next keys are made
//! of. They are kept for the step of a handshake that makes them, and written nowhere.

use std::cell::RefCell;

use rustls::KeyLog;
use zeroize::Zeroizing;

/// Of both directions.
#[derive(Default)]
pub(crate) struct TrafficSecrets {
    pub(crate) client: Zeroizing<Vec<u8>>,
    pub(crate) server: Zeroizing<Vec<u8>>,
}

thread_local! {
    /// Of the step that this thread does.
    static MADE: RefCell<TrafficSecrets> = RefCell::default();
}

/// What the last step of a handshake on this thread has made, if it made any; nothing stays.
pub(crate) fn take() -> Option<TrafficSecrets> {
    let made = MADE.take();
    (!made.client.is_empty() && !made.server.is_empty()).then_some(made)
}

/// Goes into every configuration of the edge.
#[derive(Debug)]
pub(crate) struct Taken;

impl KeyLog for Taken {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        MADE.with_borrow_mut(|made| match label {
            "CLIENT_TRAFFIC_SECRET_0" => made.client = Zeroizing::new(secret.to_vec()),
            "SERVER_TRAFFIC_SECRET_0" => made.server = Zeroizing::new(secret.to_vec()),
            _ => {}
        });
    }

    fn will_log(&self, label: &str) -> bool {
        matches!(label, "CLIENT_TRAFFIC_SECRET_0" | "SERVER_TRAFFIC_SECRET_0")
    }
}
