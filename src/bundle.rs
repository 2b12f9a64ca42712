//! How a bundle is made from its sources and compared with them. The bundle itself, and its file, are
//! [`sanedge_edge::bundle`]'s, all of which is exported here too.

pub use sanedge_edge::bundle::*;

pub mod compare;
pub mod compile;
pub mod finding;
pub mod freshness;
pub mod keys;
pub mod pem;
pub mod report;
pub mod source;
pub mod websockets;
