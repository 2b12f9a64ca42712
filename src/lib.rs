//! The TLS edge for the single-board computer at home.
//!
//! Whatever can be decided on the desk is decided there: [`bundle::compile`] proves that certificates, names and
//! upstreams fit together and writes one file; [`edge`] serves that file and nothing else.
//!
//! `bundle`, `excerpt`, `http`, `ws`, `engineio`, `proxy_protocol`, `route`, `names` and `limits` are the core: they do no I/O on sockets
//! and take time as an argument. `edge` is the only place with sockets, tasks and the clock.

pub mod board;
pub mod bundle;
pub mod cli;
#[cfg(feature = "doctor")]
pub mod doctor;
pub mod edge;
pub mod engineio;
pub mod excerpt;
#[doc(hidden)]
pub mod fuzz_session;
pub mod http;
pub mod limits;
pub mod names;
pub mod ops;
pub mod proxy_protocol;
pub mod route;
pub mod ws;
