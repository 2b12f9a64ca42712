//! HTTP/1.1 messages as bytes: heads, bodies, what is sent upstream, and our own answers.
//!
//! Pure: bytes in, decisions out. Knows no sockets, no routes and no TLS.

pub mod answer;
pub mod body;
mod field;
pub mod forward;
pub(crate) mod fuzz;
pub mod head;
mod scan;
pub(crate) mod sloppy;
