//! HTTP/1.1 messages as bytes: heads, bodies, forwarded heads, and the edge's own responses.
//!
//! Pure: bytes in, decisions out. No sockets, routes or TLS.

pub mod answer;
pub mod body;
pub mod bound_auth;
pub mod changes;
mod fault;
mod field;
pub mod forward;
pub mod head;
mod lines;
mod meaning;
pub mod problem;
mod scan;
mod target;
