//! Sockets, tasks and the clock of sessions: accept, TLS, one session's life, drain.
//!
//! Four wings, in this order: a file imports lower files of its own wing and files of the wings behind it. `tests/layering.rs` holds
//! the order of the files. The main thread, `control` of the package `sanedge`, starts them.

/// Listening sockets, and the loop of each worker that accepts from them.
pub mod accept {
    pub mod accept_loop;
    pub mod listeners;
}

/// One connection: PROXY header, handshake, requests one after the other, WebSocket; or one request on port 80.
pub mod session {
    pub(crate) mod buffers;
    mod driver;
    pub(crate) mod exchange;
    mod frozen;
    pub(crate) mod https;
    pub(crate) mod machine;
    pub(crate) mod pace;
    pub mod port80;
    mod proxy_header;
    pub(crate) mod relay;
    pub(super) mod silent;
    pub(super) mod worker;
}

/// Byte streams to clients and upstreams.
pub(crate) mod net {
    pub(crate) mod handshake;
    pub(super) mod hello;
    pub(super) mod linger;
    pub(super) mod pool;
    mod records;
    pub(crate) mod retry;
    pub(crate) mod send_buffer;
    pub(super) mod socket;
    pub(crate) mod tls;
    pub(crate) mod transport;
    pub(super) mod upstream;
}

/// State across workers.
pub mod shared {
    pub mod active_config;
    pub(super) mod addresses;
    pub(super) mod balance;
    pub mod challenges;
    pub(super) mod eviction;
    pub mod handover;
    pub mod state;
    pub mod sticky;
    pub mod tickets;
    pub(super) mod tls_config;
    pub(crate) mod traffic_secrets;
    pub mod upstreams;
}
