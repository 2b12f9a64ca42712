//! Shared by the tests and benches.

pub mod activation;
pub mod browser;
pub mod certs;
pub mod doctor_schema;
pub mod edge;
pub mod engineio;
pub mod frames;
pub mod node;
pub mod odd_certs;
pub mod peers;
pub mod program;
pub mod prometheus;
pub mod raw;
pub mod secret;
pub mod upstream;
