//! What sanedge serves with.
//!
//! `names`, `limits`, `excerpt`, `bundle`, `http`, `ws`, `reason`, `route`, `decision`, `engineio` and `proxy_protocol` are the
//! core: no sockets, no tasks, no clock; bytes and time are arguments. `edge` has the sockets of sessions, their tasks and the clock.
//! `ops` has the sockets and tasks of the admin socket.
//!
//! This is a package of its own so that the compiler optimises it for speed and the commands around it for size. Its interface is
//! for the package `sanedge` alone, and changes with it.

pub mod bundle;
pub mod decision;
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
