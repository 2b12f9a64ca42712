//! Sockets, tasks and the clock: accept, TLS, one session's life, reload and drain. The only place that has them.
//!
//! Five wings, in this order: a file imports lower files of its own wing and files of the wings behind it.
//! `tests/layering.rs` holds the order of the files.

/// The main thread: start, signals, reload, drain, status, expiry of certificates, watchdog.
mod control {
    mod descriptors;
    mod expiry;
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
mod session {
    mod alarm;
    mod exchange;
    pub(super) mod https;
    mod pace;
    pub(super) mod port80;
    mod proxy_header;
    mod relay;
    mod turns;
    pub(super) mod worker;
}

/// Byte streams to clients and upstreams.
mod net {
    pub(super) mod linger;
    #[cfg(test)]
    pub(super) mod link;
    pub(super) mod pool;
    pub(super) mod send_buffer;
    pub(super) mod socket;
    pub(super) mod tls;
    pub(super) mod transport;
    pub(super) mod upstream;
}

/// State across workers.
mod shared {
    pub(super) mod active_config;
    pub(super) mod addresses;
    pub(super) mod balance;
    pub(super) mod eviction;
    pub(super) mod state;
    pub(super) mod sticky;
    pub(super) mod tickets;
    pub(super) mod tls_config;
    pub(super) mod upstreams;
}

pub use control::serve_error::ServeError;
pub use control::startup::serve;
