//! Every bound of the edge: name, unit, default, allowed range, reason, and what it costs in memory at worst.
//!
//! Knows nothing else of the crate. Fields carry their unit last.

/// All bounds, as they stand in a bundle. `sanedge.toml` names them in `[limits]` (durations as `"30s"` under the
/// name without `_ms`, sizes as `"16KiB"`).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Limits {
    /// Open client connections, handshaking or not.
    pub sessions_max: u32,
    /// Connections in the TLS handshake at once.
    pub handshakes_max: u32,
    /// Worker threads.
    pub workers: u16,
    /// Bytes of a request or response head, request line included; also the bound of bytes held behind an upgrade.
    pub head_bytes_max: u32,
    /// Header fields of a head; at most [`FIELDS_MAX`].
    pub fields_max: u16,
    /// Bytes of the request target.
    pub target_bytes_max: u32,
    /// From accept to the end of the TLS handshake.
    pub handshake_timeout_ms: u32,
    /// From a request's first byte to the end of its head.
    pub head_timeout_ms: u32,
    /// How long a kept-alive client connection may stay without a request.
    pub keepalive_timeout_ms: u32,
    /// Longest wait for the next byte of a request body, or for a client to take a byte of a response.
    pub stall_timeout_ms: u32,
    /// Longest wait for an upstream connection.
    pub connect_timeout_ms: u32,
    /// Idle upstream connections kept per upstream and worker.
    pub pool_idle_max: u16,
    /// SO_SNDBUF and SO_RCVBUF of each socket; 0 leaves the kernel's autotuning alone.
    pub socket_buffer_bytes: u32,
    /// Bytes that rustls may hold for one session in each direction.
    pub tls_buffer_bytes: u32,
    /// Size of each worker's relay scratch buffer.
    pub scratch_bytes: u32,
}

/// Most header fields a head can have, whatever `fields_max` says: the size of the parser's array.
pub const FIELDS_MAX: usize = 128;
