//! The TLS edge for the single-board computer at home.
//!
//! Whatever can be decided when the bundle is made is decided there: [`bundle::compile`] proves that certificates, names and
//! upstreams fit together and writes one file; [`edge`] serves that file and nothing else.
//!
//! `names`, `limits`, `excerpt`, `board`, `bundle`, `http`, `ws`, `reason`, `route`, `decision`, `engineio` and `proxy_protocol` are the
//! core: no sockets, no tasks, no clock; bytes and time are arguments. `edge` has the sockets of sessions, their tasks and the clock.
//! `ops` has the sockets and tasks of the admin socket, and `doctor` is a client. `tests/layering.rs` holds the order in which files
//! may import each other, and checks these promises.

pub mod acme;
pub mod board;
pub mod bundle;
pub mod cli;
pub mod decision;
pub mod doctor;
pub mod edge;
pub mod engineio;
pub mod excerpt;
#[doc(hidden)]
pub mod fuzz;
pub mod http;
pub mod limits;
pub mod names;
pub mod ops;
pub mod proxy_protocol;
pub mod reason;
pub mod route;
pub mod ws;
