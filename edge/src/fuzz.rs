//! What must hold for any bytes: entries of the fuzz targets, which unit tests and the replay of the corpora use too. No part
//! of the program imports this.

pub mod frozen;
pub(crate) mod link;
pub mod messages;
pub mod parsers;
pub mod records;
pub mod session;
pub mod simulated_edge;
mod sloppy;
pub mod ws;

/// A bundle of format 1 that uses every field and variant; `tests/it/bundle_open.rs` writes it.
pub const GOLDEN: &[u8] = include_bytes!("../tests/golden/format-1.bundle");
