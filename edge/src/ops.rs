//! What operators see of sessions: the log, the access log, and the counters.

pub mod access;
pub mod log;
pub mod meter;
pub mod metrics;
