//! What operators see: the log, the counters, readiness for systemd, inherited sockets, and the admin socket.

pub mod admin;
pub mod log;
pub mod metrics;
pub mod sockets;
pub mod systemd;
