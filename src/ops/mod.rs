//! What operators see: the log, the counters, readiness for systemd, and the admin socket.

pub mod admin;
pub mod log;
pub mod metrics;
pub mod systemd;
