//! `[limits]` of `sanedge.toml`.

use super::range::Preset::{Board, Fixed};
use super::range::{HOUR, KIB, LimitError, MIB, MINUTE, Preset, Range, SECOND, Value, bytes, count, time};
use super::row::{self, Row, Stored, key_of, settings};

/// Most header fields a request head can have, whatever `fields_max` says: the size of the parser's array.
pub const FIELDS_MAX: usize = 128;

/// The same for a response head and `response_fields_max`.
pub const RESPONSE_FIELDS_MAX: usize = 256;

/// Fewest rows of the table of client addresses.
const ADDRESS_ROWS_MIN: u64 = 1024;

/// Descriptors that belong to no session: standard streams, listeners, event queues, admin socket, bundle, log.
pub const PROCESS_DESCRIPTORS: u64 = 64;

settings! {
    /// All limits, as a bundle holds them. `sanedge.toml` names them in `[limits]` (durations as `"30s"` under the name
    /// without `_ms`, sizes as `"16KiB"`).
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Limits, LIMITS {
        /// Open client connections, including those in their TLS handshake.
        sessions_max: u32 = count(1, 100_000), Board("what the memory budget holds in the worst case, at most 16384"),
            "each connection can use its full buffers; at the limit the edge evicts a connection without a request in progress, or refuses the new one";
        /// Open connections of one client address (an IPv4 address or an IPv6 /64, unless `exempt` lists it); a further one is closed
        /// before its handshake.
        address_sessions_max: u32 = count(1, 100_000), Board("three quarters of sessions_max, at most 512"),
            "60 players behind one address have eight connections each";
        /// Connections in their TLS handshake at once; at the limit the one that has been in its handshake longest is closed.
        handshakes_max: u32 = count(1, 100_000), Board("a quarter of sessions_max, 16 to 1024"),
            "a handshake can hold up to 144 KiB, an idle session about 2, and it takes most of the CPU time";
        /// TLS handshakes begun per second, over all addresses; bursts of up to ten seconds' worth are allowed.
        handshakes_per_s_max: u32 = count(1, 100_000).or_zero("no bound"), Board("100 for each worker, 50 on 32-bit ARM"),
            "leaves CPU time for open sessions, and lets all clients reconnect after a restart";
        /// New connections of one client address per second; bursts of up to ten seconds' worth are allowed, a further connection is
        /// closed before its handshake.
        address_handshakes_per_s_max: u32 = count(1, 100_000).or_zero("no bound"), Fixed(20),
            "60 players behind one address can reconnect with three connections each";
        /// New WebSockets of one client address per second; bursts of up to ten seconds' worth are allowed, a further one gets 429.
        /// Behind a trusted proxy it counts for the client that the proxy names.
        address_websockets_per_s_max: u32 = count(1, 100_000).or_zero("no bound"), Fixed(20),
            "60 players behind one address can reconnect at once";
        /// Worker threads, each with its own runtime.
        workers: u16 = count(1, 64), Board("the number of cores"),
            "more than one per core only adds context switches";
        /// Bytes of a request head, request line included; more gets 431.
        head_bytes_max: u32 = bytes(4 * KIB, 63 * KIB), Fixed(16 * KIB),
            "one buffer holds the whole head; Node accepts 16 KiB, browsers send up to 8 KiB of cookies";
        /// Header fields of a request head; more gets 431.
        fields_max: u16 = count(16, FIELDS_MAX as u64), Fixed(100),
            "the parser's array is on the stack; browsers send about 20";
        /// Bytes of a response head, status line included; more gets 502 `upstream_head_too_large`.
        response_head_bytes_max: u32 = bytes(4 * KIB, 63 * KIB), Fixed(32 * KIB),
            "apps with policies, many cookies or debug fields send up to 20 KiB; it is held only until its end arrives";
        /// Header fields of a response head; more gets 502 `upstream_head_too_large`.
        response_fields_max: u16 = count(16, RESPONSE_FIELDS_MAX as u64), Fixed(200),
            "each cookie of an app is a field; the parser's array is on the stack";
        /// Bytes of the request target; more gets 414.
        target_bytes_max: u32 = bytes(256, 64 * KIB), Fixed(8 * KIB),
            "RFC 9112 §3 recommends at least 8000 bytes for a request line";
        /// From the accepted connection to the end of the TLS handshake.
        handshake_timeout_ms: u32 = time(100, 2 * MINUTE), Fixed(10 * SECOND),
            "two round trips and one signature; a slow board on a bad line stays below 5 s";
        /// From the first byte of a request head to its last.
        head_timeout_ms: u32 = time(100, 2 * MINUTE), Fixed(10 * SECOND),
            "a head is one or two segments; a slower one is an attack (slowloris)";
        /// How long a client connection stays open between two requests.
        keepalive_timeout_ms: u32 = time(100, HOUR), Fixed(75 * SECOND),
            "longer than the 25 s heartbeat of Engine.IO, so that polling keeps its connection";
        /// Requests on one connection; the response to the last one carries `Connection: close`.
        requests_max: u32 = count(1, 1_000_000_000).or_zero("no bound"), Fixed(1_000_000),
            "no Engine.IO client reaches it, and no connection lasts forever";
        /// How long a request body, or a client that reads a response or WebSocket messages, may make no progress.
        stall_timeout_ms: u32 = time(100, HOUR), Fixed(MINUTE),
            "a phone that loses its signal is back within a minute; a peer that stalls for longer only holds memory";
        /// Whenever this many bytes are transferred, the deadline of `stall_timeout` moves by one second, up to the whole `stall_timeout`.
        body_bytes_per_s_min: u32 = bytes(1, MIB).or_zero("the whole `stall_timeout` again after any byte"), Fixed(256),
            "one byte per minute is not enough, while a fast transfer may pause";
        /// Longest wait for a connection to an upstream.
        connect_timeout_ms: u32 = time(100, MINUTE), Fixed(4 * SECOND),
            "the upstream is on this board or this network; a lost SYN is repeated after 1 s and after 3 s";
        /// Idle connections kept per upstream and worker.
        pool_idle_max: u16 = count(0, 1024), Fixed(64),
            "each is a descriptor here and at the upstream; Node closes them after 5 s anyway";
        /// Kernel send and receive buffer of each socket (SO_SNDBUF, SO_RCVBUF).
        socket_buffer_bytes: u32 = bytes(4 * KIB, 16 * MIB).or_zero("the kernel's autotuning"), Board("16KiB up to 512 MiB of memory, 32KiB up to 1 GiB, else 0"),
            "autotuning is fastest, but lets a dozen stalled clients fill the kernel's share of memory on a small board";
        /// Bytes of TLS output that a session may hold for a client that does not read.
        tls_buffer_bytes: u32 = bytes(4 * KIB, MIB), Board("32KiB up to 1 GiB of memory, else 64KiB"),
            "two to four full TLS records";
        /// Read buffer of each worker, shared by its sessions; at most `tls_buffer_bytes` of it are used.
        scratch_bytes: u32 = bytes(4 * KIB, MIB), Fixed(64 * KIB),
            "larger reads save system calls on large messages";
    }
}

impl Limits {
    /// Most bytes that a worker reads at once: `scratch_bytes`, and no more than a session may hold.
    pub fn read_bytes(&self) -> u32 {
        self.scratch_bytes.min(self.tls_buffer_bytes)
    }

    /// Rows of the table of client addresses: two per session, so that an address with a session nearly always finds
    /// one.
    pub fn address_rows(&self) -> u64 {
        (2 * u64::from(self.sessions_max)).max(ADDRESS_ROWS_MIN)
    }

    /// File descriptors in addition to the two of each session: the process's own, and idle connections to `upstreams`
    /// different upstreams.
    pub fn other_descriptors(&self, upstreams: u64) -> u64 {
        let workers = u64::from(self.workers);
        PROCESS_DESCRIPTORS + 8 * workers + upstreams * workers * u64::from(self.pool_idle_max)
    }

    /// Checks every range, and the limits that bound each other.
    ///
    /// # Errors
    /// The first one that is broken.
    pub fn check(&self) -> Result<(), LimitError> {
        self.check_ranges()?;
        if self.target_bytes_max > self.head_bytes_max {
            return Err(LimitError::Above {
                key: "target_bytes_max",
                found: self.target_bytes_max.into(),
                bound: "head_bytes_max",
                max: self.head_bytes_max.into(),
            });
        }
        Ok(())
    }
}
