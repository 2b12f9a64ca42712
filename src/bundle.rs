//! Compiles a bundle from its sources, and compares it with them. The bundle itself and its file are in [`sanedge_edge::bundle`], which is
//! re-exported here.

pub use sanedge_edge::bundle::*;

pub mod acme;
pub mod commands;
pub mod compare;
pub mod compile;
pub mod finding;
pub mod freshness;
pub mod keys;
pub mod pem;
pub(crate) mod private;
pub mod report;
pub mod source;
pub mod websockets;
