//! What operators see: the log, the counters, readiness for systemd, and the admin socket.

pub mod access;
pub mod admin;
mod exposition;
pub mod log;
pub mod meter;
pub mod metrics;
pub mod process;
pub mod systemd;
