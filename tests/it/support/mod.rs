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
pub mod pebble;
pub mod peers;
pub mod program;
pub mod prometheus;
pub mod raw;
pub mod secret;
pub mod upstream;

/// The host of most tests: that of the story's board.
pub const HOST: &str = "recre.store";
/// The story's host of the Socket.IO server.
pub const SOCKET_HOST: &str = "socket.recre.store";
