//! The TLS edge for the single-board computer at home.
//!
//! Whatever can be decided when the bundle is made is decided there: [`bundle::compile`] proves that certificates, names and
//! upstreams fit together and writes one file; [`edge`] serves that file and nothing else.
//!
//! This package has the commands: `cli`, `doctor`, a client that looks for the cause of a failure, `acme`, which obtains certificates,
//! and `bundle`, which makes a bundle of sanedge.toml and certificates; and of `sanedge serve` the main thread, [`control`], and the admin
//! socket, [`admin`]. What runs for each connection is the package [`sanedge_edge`], whose modules are exported here under their own names. `tests/layering.rs` holds the order in which files of both
//! may import each other, and checks what each may not use.

pub mod acme;
pub mod admin;
pub mod board;
pub mod bundle;
pub mod cli;
mod console;
pub mod control;
pub mod doctor;
#[doc(hidden)]
pub mod fuzz;
pub(crate) mod import;
mod local;
pub mod setup;
pub mod system;
mod toml_file;

pub use sanedge_edge::{
    decision, edge, engineio, excerpt, http, hybrid, limits, names, ops, proxy_protocol, reason, route, ws,
};
