//! Sockets, tasks and the clock: accept, TLS, one session's life, reload and drain. The only place that has them.
//!
//! Five wings, in this order: a file imports lower files of its own wing and files of the wings behind it.
//! `tests/layering.rs` holds the order of the files.

/// The main thread: start, signals, reload, drain, status, expiry of certificates, watchdog.
mod control {
    mod challenges;
    mod descriptors;
    mod expiry;
    mod health;
    mod main_thread;
    pub(super) mod serve_error;
    mod sources;
    pub(super) mod startup;
    mod status;
    mod watchdog;
}

/// Listening sockets, and the loop of each worker that accepts from them.
mod accept {
    pub(super) mod accept_loop;
    pub(super) mod listeners;
}

/// One connection: PROXY header, handshake, requests one after the other, WebSocket; or one request on port 80.
pub(crate) mod session {
    pub(crate) mod buffers;
    mod driver;
    pub(crate) mod exchange;
    pub(crate) mod https;
    pub(crate) mod machine;
    pub(crate) mod pace;
    pub(super) mod port80;
    mod proxy_header;
    pub(crate) mod relay;
    pub(super) mod worker;
}

/// Byte streams to clients and upstreams.
pub(crate) mod net {
    pub(super) mod hello;
    pub(super) mod linger;
    pub(super) mod pool;
    pub(crate) mod retry;
    pub(crate) mod send_buffer;
    pub(super) mod socket;
    pub(super) mod tls;
    pub(crate) mod transport;
    pub(super) mod upstream;
}

/// State across workers.
pub(crate) mod shared {
    pub(crate) mod active_config;
    pub(super) mod addresses;
    pub(super) mod balance;
    pub(crate) mod challenges;
    pub(super) mod eviction;
    pub(super) mod state;
    pub(crate) mod sticky;
    pub(super) mod tickets;
    pub(super) mod tls_config;
    pub(super) mod upstreams;
}

pub use control::serve_error::ServeError;
pub use control::startup::serve;
