//! Entries of the fuzz targets: those of `sanedge-edge`, and what reads the bytes of servers. No part of the program imports this.

pub use sanedge_edge::fuzz::*;

pub mod client;
