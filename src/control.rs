//! The main thread of `sanedge serve`: start, signals, reload, drain, status, expiry of certificates, watchdog.
//!
//! It runs once and not for each connection, so it is in this package, which is compiled for size.

mod challenges;
mod descriptors;
mod expiry;
mod hand_over;
mod health;
mod main_thread;
pub(crate) mod paths;
pub(crate) mod preflight;
mod serve_error;
mod sources;
mod startup;
mod status;
mod watchdog;

pub use serve_error::ServeError;
pub(crate) use startup::rehearse;
pub use startup::serve;
