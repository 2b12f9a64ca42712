//! What operators see: the log, the counters, readiness for systemd, inherited sockets, and the admin socket.

pub mod access;
pub mod admin;
mod exposition;
pub mod log;
pub mod meter;
pub mod metrics;
pub mod process;
pub mod sandbox;
pub mod sockets;
pub mod started;
pub mod systemd;
