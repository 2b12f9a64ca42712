//! Shared by the integration tests.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

pub mod activation;
pub mod again;
pub mod browser;
pub mod certs;
pub mod edge;
pub mod engineio;
pub mod frames;
pub mod node;
pub mod peers;
pub mod program;
pub mod prometheus;
pub mod raw;
pub mod upstream;
