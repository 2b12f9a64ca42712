//! Entries of the fuzz targets: those of `sanedge-edge`, and those of what the commands read. No part of the program imports this.

pub use sanedge_edge::fuzz::*;

pub mod commands;
