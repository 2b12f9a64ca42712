//! What runs for each connection of sanedge.
//!
//! `names`, `limits`, `excerpt`, `bundle`, `hybrid`, `http`, `record`, `ws`, `reason`, `route`, `decision`, `engineio` and `proxy_protocol` are
//! the core: no sockets, no tasks, no clock; bytes and time are arguments. `edge` has the sockets of sessions, their tasks and the clock.
//! `ops` counts and logs.
//!
//! This is a package of its own so that the compiler optimises it for speed, and for size what runs once: the main thread, the admin
//! socket and the commands, which the package `sanedge` has. Its interface is
//! for the package `sanedge` alone, and changes with it.

pub mod bundle;
pub mod decision;
pub mod edge;
pub mod engineio;
pub mod excerpt;
#[doc(hidden)]
pub mod fuzz;
pub mod http;
pub mod hybrid;
pub mod limits;
pub mod names;
pub mod ops;
pub mod proxy_protocol;
pub mod reason;
pub mod record;
pub mod route;
pub mod ws;
