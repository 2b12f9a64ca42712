//! Every bound of the edge: name, unit, default, allowed range, reason, and what it costs in memory at worst.
//!
//! Fields carry their unit last. [`LIMITS`] is the one table of `[limits]`, [`KEYS`] that of the bounded keys elsewhere
//! in `sanedge.toml`; docs/configuration.md, `compile` and `open` all read these.

use std::fmt;
use std::time::Duration;

use crate::excerpt::Excerpt;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// All limits, as a bundle holds them. `sanedge.toml` names them in `[limits]` (durations as `"30s"` under the name
/// without `_ms`, sizes as `"16KiB"`).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Limits {
    /// Open client connections, including those in their TLS handshake.
    pub sessions_max: u32,
    /// Open connections of one address: an IPv4 address, or the first 64 bits of an IPv6 address.
    pub address_sessions_max: u32,
    /// Connections in the TLS handshake at once.
    pub handshakes_max: u32,
    /// TLS handshakes begun per second, over all addresses; bursts of up to [`BURST_S`] seconds' worth. 0: no bound.
    pub handshakes_per_s_max: u32,
    /// New connections of one address per second; bursts as above. 0: no bound.
    pub address_handshakes_per_s_max: u32,
    /// New WebSockets of one address per second; bursts as above. 0: no bound.
    pub address_websockets_per_s_max: u32,
    /// Worker threads.
    pub workers: u16,
    /// Bytes of a request head, request line included; also the bound of bytes held after an upgrade request.
    pub head_bytes_max: u32,
    /// Header fields of a request head; at most [`FIELDS_MAX`].
    pub fields_max: u16,
    /// Bytes of a response head, status line included.
    pub response_head_bytes_max: u32,
    /// Header fields of a response head; at most [`RESPONSE_FIELDS_MAX`].
    pub response_fields_max: u16,
    /// Bytes of the request target.
    pub target_bytes_max: u32,
    /// From accept to the end of the TLS handshake.
    pub handshake_timeout_ms: u32,
    /// From a request's first byte to the end of its head.
    pub head_timeout_ms: u32,
    /// How long a client connection stays open between two requests.
    pub keepalive_timeout_ms: u32,
    /// Requests on one connection; the last one's response ends it. 0: no bound.
    pub requests_max: u32,
    /// How long a request body, or a client that reads a response or WebSocket messages, may make no progress.
    pub stall_timeout_ms: u32,
    /// Each so many bytes extend that deadline by one second, up to the whole of it. 0: any byte extends it to the
    /// whole.
    pub body_bytes_per_s_min: u32,
    /// Longest wait for an upstream connection.
    pub connect_timeout_ms: u32,
    /// Idle upstream connections kept per upstream and worker.
    pub pool_idle_max: u16,
    /// SO_SNDBUF and SO_RCVBUF of each socket; 0 leaves the kernel's autotuning alone.
    pub socket_buffer_bytes: u32,
    /// Bytes of output that rustls may hold for one session (`set_buffer_limit`). Its input has a bound of its own.
    pub tls_buffer_bytes: u32,
    /// Size of each worker's relay scratch buffer.
    pub scratch_bytes: u32,
}

/// Most header fields a request head can have, whatever `fields_max` says: the size of the parser's array.
pub const FIELDS_MAX: usize = 128;

/// The same for a response head and `response_fields_max`.
pub const RESPONSE_FIELDS_MAX: usize = 256;

/// How many seconds' worth of a rate may be used at once.
pub const BURST_S: u64 = 10;

/// Memory of one row of the table of client addresses, of which there are [`Limits::address_rows`].
pub const ADDRESS_ROW_BYTES: u64 = 32;

/// Fewest rows of that table.
const ADDRESS_ROWS_MIN: u64 = 1024;

/// What defaults and the memory equation need to know about a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Processor cores.
    pub cores: u16,
    /// Memory of the whole board, in bytes.
    pub ram_bytes: u64,
    /// The part of it that the edge may use in the worst case, in bytes, including the kernel's socket buffers.
    pub budget_bytes: u64,
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A count; written as a plain integer.
    Count,
    /// Bytes; written `"16KiB"`, or as a plain number of bytes.
    Bytes,
    /// Time, kept in milliseconds; written `"30s"`.
    Milliseconds,
}

/// A key with its unit, its allowed range and the reason for that range.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// The key as `sanedge.toml` spells it.
    pub key: &'static str,
    /// What the numbers count.
    pub unit: Unit,
    /// Smallest allowed value.
    pub min: u64,
    /// Largest allowed value.
    pub max: u64,
    /// What 0 means where it is allowed below `min`.
    pub zero: Option<&'static str>,
    /// What the key does, in one sentence.
    pub means: &'static str,
    /// Why the default and the range are what they are.
    pub reason: &'static str,
}

/// Where a default comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Always this number.
    Fixed(u64),
    /// From the board's cores and memory, by this rule.
    Board(&'static str),
    /// No bound unless it is written.
    Unbounded,
}

/// One row of [`LIMITS`].
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Key, unit, bounds, reason.
    pub range: Range,
    /// Default.
    pub preset: Preset,
    read: fn(&Limits) -> u64,
    write: fn(&mut Limits, u64),
}

/// A value as written in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// In quotes.
    Text(&'a str),
    /// A plain integer.
    Integer(i64),
}

/// Why a value is not allowed; `Display` says what was expected and found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// No limit has this name.
    #[error("there is no limit `{key}`{}", did_you_mean(.suggestion))]
    Unknown {
        /// The key found.
        key: Excerpt,
        /// The nearest one.
        suggestion: Option<&'static str>,
    },
    /// Outside its range.
    #[error("`{}` is {}: expected {}", .range.key, .range.unit.show(*.found), .range)]
    OutOfRange {
        /// The key and its bounds.
        range: Range,
        /// The value found, in the range's unit.
        found: u64,
    },
    /// A value in the wrong form for its unit.
    #[error("`{key}` is {found}: expected {}", .unit.form())]
    Form {
        /// The key.
        key: &'static str,
        /// Its unit.
        unit: Unit,
        /// The value as written.
        found: Excerpt,
    },
    /// Not a duration.
    #[error("{found:?} is not a duration: expected a whole number and ms, s, m or h, such as \"30s\"")]
    Duration {
        /// The text.
        found: Excerpt,
    },
    /// Not a size.
    #[error(
        "{found:?} is not a size: expected a whole number of bytes, or one with KiB, MiB or GiB, such as \"16KiB\""
    )]
    Size {
        /// The text.
        found: Excerpt,
    },
    /// Two limits that contradict each other.
    #[error("`{key}` is {found}, more than `{bound}`, which is {max}: expected at most that")]
    Above {
        /// The one that is too large.
        key: &'static str,
        /// Its value.
        found: u64,
        /// The limit that bounds it.
        bound: &'static str,
        /// That one's value.
        max: u64,
    },
}

impl PartialEq for Range {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && (self.min, self.max) == (other.min, other.max)
    }
}

impl Eq for Range {}

const fn range(
    key: &'static str,
    unit: Unit,
    min: u64,
    max: u64,
    means: &'static str,
    reason: &'static str,
) -> Range {
    Range { key, unit, min, max, zero: None, means, reason }
}

/// A row of [`LIMITS`]: field and its type, key, unit, range, default, meaning, reason; and what 0 means, where it is allowed.
macro_rules! limit {
    ($field:ident: $type:ty, $key:literal, $unit:ident, $min:expr, $max:expr, $preset:expr, $means:literal, $reason:literal) => {
        limit!($field: $type, $key, $unit, $min, $max, $preset, $means, $reason, None)
    };
    ($field:ident: $type:ty, $key:literal, $unit:ident, $min:expr, $max:expr, $preset:expr, $means:literal, $reason:literal, $zero:expr) => {
        Limit {
            range: Range { zero: $zero, ..range($key, Unit::$unit, $min, $max, $means, $reason) },
            preset: $preset,
            read: |limits| limits.$field.into(),
            // Only checked values come here, and a test checks that each maximum fits its field.
            write: |limits, value| limits.$field = <$type>::try_from(value).unwrap_or(<$type>::MAX),
        }
    };
}

use Preset::{Board, Fixed, Unbounded};

/// Every limit of `[limits]`, in the order of [`Limits`].
pub static LIMITS: [Limit; 23] = [
    limit!(sessions_max: u32, "sessions_max", Count, 1, 100_000, Board("what the memory budget holds in the worst case, at most 16384"),
        "Open client connections, including those in their TLS handshake.",
        "each connection can use its full buffers; at the limit the edge evicts a connection that waits for nothing, or refuses the new one"),
    limit!(address_sessions_max: u32, "address_sessions_max", Count, 1, 100_000,
        Board("three quarters of sessions_max, at most 512"),
        "Open connections of one client address (an IPv4 address or an IPv6 /64, unless `exempt` lists it); a further one is closed before its handshake.",
        "60 players behind one address have eight each"),
    limit!(handshakes_max: u32, "handshakes_max", Count, 1, 100_000, Board("a quarter of sessions_max, 16 to 1024"),
        "Connections in their TLS handshake at once; at the limit the one that has been in its handshake longest is closed.",
        "a handshake can hold ten times the memory of an idle session, and takes most of the CPU time"),
    limit!(handshakes_per_s_max: u32, "handshakes_per_s_max", Count, 1, 100_000, Board("100 for each worker"),
        "TLS handshakes begun per second, over all addresses; bursts of up to ten seconds' worth are allowed.",
        "leaves CPU time for open sessions, and lets all clients reconnect after a restart",
        Some("no bound")),
    limit!(address_handshakes_per_s_max: u32, "address_handshakes_per_s_max", Count, 1, 100_000, Fixed(20),
        "New connections of one client address per second; bursts of up to ten seconds' worth are allowed, a further connection is closed before its handshake.",
        "60 players behind one address can reconnect with three connections each",
        Some("no bound")),
    limit!(address_websockets_per_s_max: u32, "address_websockets_per_s_max", Count, 1, 100_000, Fixed(20),
        "New WebSockets of one client address per second; bursts of up to ten seconds' worth are allowed, a further one gets 429. Behind a trusted proxy it counts for the client that the proxy names.",
        "60 players behind one address can reconnect at once",
        Some("no bound")),
    limit!(workers: u16, "workers", Count, 1, 64, Board("the number of cores"),
        "Worker threads, each with its own runtime.", "more than one per core only adds context switches"),
    limit!(head_bytes_max: u32, "head_bytes_max", Bytes, 4 * KIB, 63 * KIB, Fixed(16 * KIB),
        "Bytes of a request head, request line included; more gets 431.",
        "one buffer holds the whole head; Node accepts 16 KiB, browsers send up to 8 KiB of cookies"),
    limit!(fields_max: u16, "fields_max", Count, 16, FIELDS_MAX as u64, Fixed(100),
        "Header fields of a request head; more gets 431.",
        "the parser's array is on the stack; browsers send about 20"),
    limit!(response_head_bytes_max: u32, "response_head_bytes_max", Bytes, 4 * KIB, 63 * KIB, Fixed(32 * KIB),
        "Bytes of a response head, status line included; more gets 502 `upstream_head_too_large`.",
        "apps with policies, many cookies or debug fields send up to 20 KiB; it is held only until its end arrives"),
    limit!(response_fields_max: u16, "response_fields_max", Count, 16, RESPONSE_FIELDS_MAX as u64, Fixed(200),
        "Header fields of a response head; more gets 502 `upstream_head_too_large`.",
        "each cookie of an app is a field; the parser's array is on the stack"),
    limit!(target_bytes_max: u32, "target_bytes_max", Bytes, 256, 64 * KIB, Fixed(8 * KIB),
        "Bytes of the request target; more gets 414.",
        "RFC 9112 §3 asks for at least 8000"),
    limit!(handshake_timeout_ms: u32, "handshake_timeout", Milliseconds, 100, 2 * MINUTE, Fixed(10 * SECOND),
        "From the accepted connection to the end of the TLS handshake.",
        "two round trips and one signature; a slow board on a bad line stays below 5 s"),
    limit!(head_timeout_ms: u32, "head_timeout", Milliseconds, 100, 2 * MINUTE, Fixed(10 * SECOND),
        "From the first byte of a request head to its last.",
        "a head is one or two segments; a slower one is an attack (slowloris)"),
    limit!(keepalive_timeout_ms: u32, "keepalive_timeout", Milliseconds, 100, HOUR, Fixed(75 * SECOND),
        "How long a client connection stays open between two requests.",
        "longer than the 25 s heartbeat of Engine.IO, so that polling keeps its connection"),
    limit!(requests_max: u32, "requests_max", Count, 1, 1_000_000_000, Fixed(1_000_000),
        "Requests on one connection; the response to the last one carries `Connection: close`.",
        "no Engine.IO client reaches it, and no connection lasts forever",
        Some("no bound")),
    limit!(stall_timeout_ms: u32, "stall_timeout", Milliseconds, 100, HOUR, Fixed(MINUTE),
        "How long a request body, or a client that reads a response or WebSocket messages, may make no progress.",
        "a phone that loses its signal is back within a minute; a peer that stalls for longer only holds memory"),
    limit!(body_bytes_per_s_min: u32, "body_bytes_per_s_min", Bytes, 1, MIB, Fixed(256),
        "Each so many bytes transferred extend the deadline of `stall_timeout` by one second, up to the whole of it.",
        "one byte per minute is not enough, while a fast transfer may pause",
        Some("the whole time again after any byte")),
    limit!(connect_timeout_ms: u32, "connect_timeout", Milliseconds, 100, MINUTE, Fixed(4 * SECOND),
        "Longest wait for a connection to an upstream.",
        "the upstream is on this board or this network; a lost SYN is repeated after 1 s and after 3 s"),
    limit!(pool_idle_max: u16, "pool_idle_max", Count, 0, 1024, Fixed(64),
        "Idle connections kept per upstream and worker.",
        "each is a descriptor here and at the upstream; Node closes them after 5 s anyway"),
    limit!(socket_buffer_bytes: u32, "socket_buffer_bytes", Bytes, 4 * KIB, 16 * MIB,
        Board("16KiB up to 512 MiB of memory, 32KiB up to 1 GiB, else 0"),
        "Kernel send and receive buffer of each socket (SO_SNDBUF, SO_RCVBUF).",
        "autotuning is fastest, but lets a dozen stalled clients fill the kernel's share of memory on a small board",
        Some("the kernel's autotuning")),
    limit!(tls_buffer_bytes: u32, "tls_buffer_bytes", Bytes, 4 * KIB, MIB, Board("32KiB up to 1 GiB of memory, else 64KiB"),
        "Bytes of TLS output that a session may hold for a client that does not read.",
        "two to four full TLS records"),
    limit!(scratch_bytes: u32, "scratch_bytes", Bytes, 4 * KIB, MIB, Fixed(64 * KIB),
        "Read buffer of each worker, shared by its sessions; at most `tls_buffer_bytes` of it are used.",
        "larger reads save system calls on large messages"),
];

fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// `drain_timeout`.
pub const DRAIN_TIMEOUT: Range = range(
    "drain_timeout",
    Unit::Milliseconds,
    0,
    DAY,
    "How long exchanges and WebSockets have to end when the edge stops.",
    "systemd kills the process after 75 s; raise TimeoutStopSec= in the unit with it",
);
/// `drain_spread`.
pub const DRAIN_SPREAD: Range = range(
    "drain_spread",
    Unit::Milliseconds,
    0,
    HOUR,
    "Over how long a drain spreads the Close frames of its WebSockets, at most half of `drain_timeout`.",
    "clients that are closed all at once reconnect all at once",
);
/// `response_timeout`.
pub const RESPONSE_TIMEOUT: Range = range(
    "response_timeout",
    Unit::Milliseconds,
    100,
    DAY,
    "From the end of a request to the head of the upstream's response; later is a 504.",
    "longer than Engine.IO's long poll, which its 25 s heartbeat ends",
);
/// `idle_timeout`.
pub const IDLE_TIMEOUT: Range = range(
    "idle_timeout",
    Unit::Milliseconds,
    100,
    7 * DAY,
    "Closes a WebSocket or a response on which no byte moves for so long.",
    "Engine.IO's own heartbeat notices a dead connection",
);
/// `ping_interval`.
pub const PING_INTERVAL: Range = range(
    "ping_interval",
    Unit::Milliseconds,
    100,
    DAY,
    "Sends a WebSocket Ping to each client at this interval, and closes a client that sends nothing for a whole interval after one.",
    "Engine.IO has its own heartbeat",
);
/// `frame_bytes_max`.
pub const FRAME_BYTES_MAX: Range = range(
    "frame_bytes_max",
    Unit::Bytes,
    125,
    GIB,
    "Largest payload of a WebSocket frame; more is Close 1009.",
    "a control frame carries up to 125 bytes (RFC 6455 §5.5) and must pass; a message may be one frame",
);
/// `message_bytes_max`.
pub const MESSAGE_BYTES_MAX: Range = range(
    "message_bytes_max",
    Unit::Bytes,
    125,
    GIB,
    "Largest WebSocket message over its frames; more is Close 1009.",
    "the edge streams a message, but the app holds it whole; Socket.IO's own default is 1 MB",
);
/// `body_bytes_max`.
pub const BODY_BYTES_MAX: Range = range(
    "body_bytes_max",
    Unit::Bytes,
    1,
    1024 * GIB,
    "Largest request body; more gets 413.",
    "bodies are streamed and use no memory in the edge",
);

/// The bounded keys that stand outside `[limits]`, with their defaults.
pub static KEYS: [(Range, Preset); 8] = [
    (DRAIN_TIMEOUT, Fixed(MINUTE)),
    (DRAIN_SPREAD, Fixed(10 * SECOND)),
    (RESPONSE_TIMEOUT, Fixed(MINUTE)),
    (IDLE_TIMEOUT, Unbounded),
    (PING_INTERVAL, Unbounded),
    (FRAME_BYTES_MAX, Board("`message_bytes_max` if that is set, else the board's")),
    (
        MESSAGE_BYTES_MAX,
        Board("the board's: a 32nd of its memory, 8MiB to 256MiB; or `frame_bytes_max` if that is larger"),
    ),
    (BODY_BYTES_MAX, Unbounded),
];

impl Unit {
    /// The type of a key with such a value.
    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "number",
            Self::Bytes => "size",
            Self::Milliseconds => "duration",
        }
    }

    /// How a value of this unit is written.
    pub fn form(self) -> &'static str {
        match self {
            Self::Count => "a whole number without quotes",
            Self::Bytes => "a size such as \"16KiB\", or a whole number of bytes",
            Self::Milliseconds => "a duration such as \"30s\"",
        }
    }

    /// The value as `sanedge.toml` would write it, in the largest unit that divides it.
    pub fn show(self, value: u64) -> String {
        let steps: &[(u64, &str)] = match self {
            Self::Count => &[],
            Self::Bytes => &[(GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")],
            Self::Milliseconds => &[(HOUR, "h"), (MINUTE, "m"), (SECOND, "s"), (1, "ms")],
        };
        let whole = steps.iter().find(|(step, _)| value != 0 && value.is_multiple_of(*step));
        whole.map_or_else(|| value.to_string(), |(step, name)| format!("{}{name}", value / step))
    }
}

impl Range {
    /// Returns `value` if it is allowed.
    ///
    /// # Errors
    /// [`LimitError::OutOfRange`] where it is not.
    pub fn check(&self, value: u64) -> Result<u64, LimitError> {
        let allowed = (self.min..=self.max).contains(&value) || (value == 0 && self.zero.is_some());
        if allowed { Ok(value) } else { Err(LimitError::OutOfRange { range: *self, found: value }) }
    }

    /// Parses a value of the file in this range's unit, and checks it.
    ///
    /// # Errors
    /// If the form is not that of the unit, or the value is out of range.
    pub fn read(&self, value: Value<'_>) -> Result<u64, LimitError> {
        let form = |found: Excerpt| LimitError::Form { key: self.key, unit: self.unit, found };
        let number = match (self.unit, value) {
            (Unit::Milliseconds, Value::Text(text)) => milliseconds(text)?,
            (Unit::Bytes, Value::Text(text)) => parse_size(text)?,
            (Unit::Count, Value::Text(text)) => return Err(form(Excerpt::of(&format!("\"{text}\"")))),
            (Unit::Milliseconds, Value::Integer(number)) => {
                return Err(form(Excerpt::of(&number.to_string())));
            }
            (_, Value::Integer(number)) => {
                u64::try_from(number).map_err(|_| form(Excerpt::of(&number.to_string())))?
            }
        };
        self.check(number)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.unit.show(self.min), self.unit.show(self.max))?;
        match self.zero {
            Some(meaning) => write!(f, ", or 0 for {meaning}"),
            None => Ok(()),
        }
    }
}

impl Limit {
    /// Its value in `limits`, in the range's unit.
    pub fn value(&self, limits: &Limits) -> u64 {
        (self.read)(limits)
    }
}

/// Range and default of the number `key`, in `[limits]` or elsewhere.
pub fn bounded(key: &str) -> Option<(&'static Range, &'static Preset)> {
    let elsewhere = KEYS.iter().map(|(range, preset)| (range, preset));
    LIMITS
        .iter()
        .map(|limit| (&limit.range, &limit.preset))
        .chain(elsewhere)
        .find(|(range, _)| range.key == key)
}

/// The row named `key`.
pub fn find(key: &str) -> Option<&'static Limit> {
    LIMITS.iter().find(|limit| limit.range.key == key)
}

/// Sets the limit `key` to a value of the file.
///
/// # Errors
/// If there is no such limit, the form is not that of its unit, or the value is out of range; `limits` is then
/// unchanged. [`Limits::check`] checks limits that bound each other.
pub fn set(limits: &mut Limits, key: &str, value: Value<'_>) -> Result<(), LimitError> {
    let limit = find(key).ok_or_else(|| unknown(key))?;
    (limit.write)(limits, limit.range.read(value)?);
    Ok(())
}

/// Reads `"250ms"`, `"30s"`, `"5m"` or `"1h"`.
///
/// # Errors
/// [`LimitError::Duration`] if the text is anything else, or too large for milliseconds in 64 bits.
pub fn parse_duration(text: &str) -> Result<Duration, LimitError> {
    milliseconds(text).map(Duration::from_millis)
}

/// Reads `"512"`, `"16KiB"`, `"1MiB"` or `"2GiB"` into bytes.
///
/// # Errors
/// [`LimitError::Size`] if the text is anything else, or too large for 64 bits.
pub fn parse_size(text: &str) -> Result<u64, LimitError> {
    let unit = |suffix: &str| match suffix {
        "" => Some(1),
        "KiB" => Some(KIB),
        "MiB" => Some(MIB),
        "GiB" => Some(GIB),
        _ => None,
    };
    scaled(text, unit).ok_or_else(|| LimitError::Size { found: Excerpt::of(text) })
}

fn milliseconds(text: &str) -> Result<u64, LimitError> {
    let unit = |suffix: &str| match suffix {
        "ms" => Some(1),
        "s" => Some(SECOND),
        "m" => Some(MINUTE),
        "h" => Some(HOUR),
        _ => None,
    };
    scaled(text, unit).ok_or_else(|| LimitError::Duration { found: Excerpt::of(text) })
}

/// Digits and a suffix, multiplied.
fn scaled(text: &str, unit: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, suffix) = text.split_at_checked(end)?;
    digits.parse::<u64>().ok()?.checked_mul(unit(suffix)?)
}

fn unknown(key: &str) -> LimitError {
    let nearest = LIMITS
        .iter()
        .map(|limit| limit.range.key)
        .max_by(|a, b| strsim::jaro_winkler(a, key).total_cmp(&strsim::jaro_winkler(b, key)));
    let suggestion = nearest.filter(|near| strsim::jaro_winkler(near, key) > 0.8);
    LimitError::Unknown { key: Excerpt::of(key), suggestion }
}

fn did_you_mean(suggestion: &Option<&'static str>) -> String {
    suggestion.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}

impl Limits {
    /// The defaults for a machine: fixed ones from [`LIMITS`], the others so that the worst case fits its budget.
    pub fn default_for(machine: &Machine) -> Self {
        let mut limits = Self::fixed();
        limits.workers = machine.cores.clamp(1, 64);
        limits.socket_buffer_bytes = narrow(socket_buffer_default(machine.ram_bytes));
        limits.tls_buffer_bytes = narrow(if machine.ram_bytes <= GIB { 32 * KIB } else { 64 * KIB });
        limits.sessions_max = sessions_default(&limits, machine);
        limits.follow(|_| false);
        limits
    }

    /// Most bytes that a worker reads at once: `scratch_bytes`, and no more than a session may hold.
    pub fn read_bytes(&self) -> u32 {
        self.scratch_bytes.min(self.tls_buffer_bytes)
    }

    /// Recomputes the limits that follow from `sessions_max` and `workers`, except those that `is_written` in the file.
    pub fn follow(&mut self, is_written: impl Fn(&str) -> bool) {
        let sessions_max = self.sessions_max;
        if !is_written("handshakes_max") {
            self.handshakes_max = handshakes_default(sessions_max);
        }
        if !is_written("address_sessions_max") {
            self.address_sessions_max = (sessions_max - sessions_max / 4).min(512);
        }
        if !is_written("handshakes_per_s_max") {
            self.handshakes_per_s_max = 100 * u32::from(self.workers);
        }
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
        LIMITS.iter().try_for_each(|limit| limit.range.check(limit.value(self)).map(drop))?;
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

    /// All fixed defaults; limits that depend on the board are still 0.
    fn fixed() -> Self {
        let mut limits = Self {
            sessions_max: 0,
            address_sessions_max: 0,
            handshakes_max: 0,
            handshakes_per_s_max: 0,
            address_handshakes_per_s_max: 0,
            address_websockets_per_s_max: 0,
            workers: 0,
            head_bytes_max: 0,
            fields_max: 0,
            response_head_bytes_max: 0,
            response_fields_max: 0,
            target_bytes_max: 0,
            handshake_timeout_ms: 0,
            head_timeout_ms: 0,
            keepalive_timeout_ms: 0,
            requests_max: 0,
            stall_timeout_ms: 0,
            body_bytes_per_s_min: 0,
            connect_timeout_ms: 0,
            pool_idle_max: 0,
            socket_buffer_bytes: 0,
            tls_buffer_bytes: 0,
            scratch_bytes: 0,
        };
        for limit in &LIMITS {
            if let Fixed(value) = limit.preset {
                (limit.write)(&mut limits, value);
            }
        }
        limits
    }
}

/// What a WebSocket may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebSocketBounds {
    /// Largest frame payload, in bytes.
    pub frame_bytes_max: u64,
    /// Largest message over its fragments, in bytes.
    pub message_bytes_max: u64,
}

impl WebSocketBounds {
    /// A 32nd of the memory, as a power of two between 8 and 256 MiB: an app may hold a few such messages at once.
    pub fn default_for(machine: &Machine) -> Self {
        let share = (machine.ram_bytes / 32).clamp(8 * MIB, 256 * MIB);
        let bytes = 1 << share.ilog2();
        Self { frame_bytes_max: bytes, message_bytes_max: bytes }
    }

    /// These bounds, with those that the file sets. A bound in the file is not reduced by the default of the other: a
    /// message may be one frame, and a frame is at most a message.
    #[must_use]
    pub fn written_over(self, frame: Option<u64>, message: Option<u64>) -> Self {
        let message_bytes_max = message.unwrap_or_else(|| self.message_bytes_max.max(frame.unwrap_or(0)));
        let frame_bytes_max = frame.or(message).unwrap_or(self.frame_bytes_max);
        Self { frame_bytes_max, message_bytes_max }
    }
}

/// Memory of one TLS handshake in addition to an open session's buffers: rustls joins handshake messages of up to 64
/// KiB, our flight with a chain of ten certificates is at most as long, and the key exchange takes some KiB.
pub const HANDSHAKE_BYTES: u64 = 144 * KIB;

/// User memory of an idle WebSocket session: measured at about 10 KiB, assumed to be 12.
pub const IDLE_SESSION_BYTES: u64 = 12 * KIB;

/// Input that rustls can hold for a client: one incomplete record (18 KiB), and decrypted bytes up to its 16 KiB mark
/// plus those of the last read (18 KiB). This bound is its own; no setting changes it.
pub const TLS_RECEIVE_BYTES: u64 = 52 * KIB;

/// The program before its first session: code, tables, bundle, runtime.
pub const PROCESS_BYTES: u64 = 8 * MIB;

/// Descriptors that belong to no session: standard streams, listeners, event queues, admin socket, bundle, log.
pub const PROCESS_DESCRIPTORS: u64 = 64;

/// The memory equation: the worst case in three terms, and the descriptors that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Handshaking sessions × what a handshake can hold.
    pub handshake_bytes: u64,
    /// The process, workers' scratch buffers, and open sessions × (rustls's buffers + ours).
    pub session_bytes: u64,
    /// The kernel's socket buffers: two sockets a session, both directions.
    pub kernel_bytes: u64,
    /// What the board gives.
    pub budget_bytes: u64,
    /// File descriptors: two a session, the idle upstream connections, and the process's own.
    pub descriptors: u64,
    sessions: u64,
    handshakes: u64,
    session_each: u64,
    socket_buffer_bytes: u64,
}

impl Memory {
    /// Solves the equation for `limits` on `machine` with `upstreams` different upstreams.
    pub fn of(limits: &Limits, machine: &Machine, upstreams: u64) -> Self {
        let (sessions, handshakes) = (u64::from(limits.sessions_max), u64::from(limits.handshakes_max));
        let session_each = session_user_bytes(limits);
        Self {
            handshake_bytes: handshakes * HANDSHAKE_BYTES,
            session_bytes: process_bytes(limits) + sessions * session_each,
            kernel_bytes: kernel_shared_bytes(limits, machine) + sessions * session_kernel_bytes(limits),
            budget_bytes: machine.budget_bytes,
            descriptors: 2 * sessions + limits.other_descriptors(upstreams),
            sessions,
            handshakes,
            session_each,
            socket_buffer_bytes: limits.socket_buffer_bytes.into(),
        }
    }

    /// The sum of the three terms, in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.handshake_bytes + self.session_bytes + self.kernel_bytes
    }

    /// Whether the worst case fits the budget.
    pub fn holds(&self) -> bool {
        self.total_bytes() <= self.budget_bytes
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / MIB as f64);
        let each = Unit::Bytes.show(self.session_each);
        let kernel = match self.socket_buffer_bytes {
            0 => "autotuned, at most the kernel's tcp_mem, 3/32 of the memory".to_owned(),
            set => format!(
                "{} sessions x 2 sockets x 2 directions x 2 x {}",
                self.sessions,
                Unit::Bytes.show(set)
            ),
        };
        let total = mib(self.total_bytes());
        let (relation, budget) = (if self.holds() { "within" } else { "MORE THAN" }, mib(self.budget_bytes));
        writeln!(
            f,
            "handshakes  {:>11}  {} x {}",
            mib(self.handshake_bytes),
            self.handshakes,
            Unit::Bytes.show(HANDSHAKE_BYTES)
        )?;
        writeln!(
            f,
            "sessions    {:>11}  {} x {each}, and the process",
            mib(self.session_bytes),
            self.sessions
        )?;
        writeln!(f, "kernel      {:>11}  {kernel}", mib(self.kernel_bytes))?;
        writeln!(f, "at worst    {total:>11}  {relation} the budget of {budget}")?;
        write!(f, "descriptors {:>11}", self.descriptors)
    }
}

/// A client that stops reading fills `tls_buffer_bytes`. For an upstream that stops reading, one read waits. Before
/// that, a client that stops inside a head fills a head buffer, and the upstream's response another one.
fn session_user_bytes(limits: &Limits) -> u64 {
    let heads = u64::from(limits.head_bytes_max) + u64::from(limits.response_head_bytes_max);
    IDLE_SESSION_BYTES
        + TLS_RECEIVE_BYTES
        + u64::from(limits.tls_buffer_bytes)
        + heads.max(limits.read_bytes().into())
}

/// The kernel doubles the value for its own bookkeeping (socket(7)), and each session has two sockets with two
/// directions.
fn session_kernel_bytes(limits: &Limits) -> u64 {
    2 * 2 * 2 * u64::from(limits.socket_buffer_bytes)
}

/// With autotuning one socket may take megabytes, but all TCP together no more than the last number of
/// `net.ipv4.tcp_mem`, which is set at boot to 3/32 of the memory.
fn kernel_shared_bytes(limits: &Limits, machine: &Machine) -> u64 {
    if limits.socket_buffer_bytes == 0 { machine.ram_bytes / 32 * 3 } else { 0 }
}

/// The table of addresses; scratch in both directions, and half a MiB for each worker's stack, runtime and allocator.
fn process_bytes(limits: &Limits) -> u64 {
    let addresses = limits.address_rows() * ADDRESS_ROW_BYTES;
    PROCESS_BYTES + addresses + u64::from(limits.workers) * (2 * u64::from(limits.read_bytes()) + MIB / 2)
}

fn socket_buffer_default(ram_bytes: u64) -> u64 {
    match ram_bytes {
        0..=536_870_912 => 16 * KIB,
        536_870_913..=1_073_741_824 => 32 * KIB,
        _ => 0,
    }
}

/// How many sessions the budget holds, each with a quarter of a handshake; in steps of 16.
fn sessions_default(limits: &Limits, machine: &Machine) -> u32 {
    let fixed = process_bytes(limits) + kernel_shared_bytes(limits, machine);
    let each = session_user_bytes(limits)
        + session_kernel_bytes(limits)
        + HANDSHAKE_BYTES / 4
        + 2 * ADDRESS_ROW_BYTES;
    let sessions = machine.budget_bytes.saturating_sub(fixed) / each / 16 * 16;
    narrow(sessions.clamp(16, 16_384))
}

/// A quarter of the sessions may be in their handshake at once.
fn handshakes_default(sessions_max: u32) -> u32 {
    (sessions_max / 4).clamp(16, 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PI: Machine = Machine { cores: 4, ram_bytes: 4 * GIB, budget_bytes: GIB };

    #[test]
    fn every_limit_has_a_row_whose_bounds_fit_its_field() {
        let mut limits = Limits::default_for(&PI);
        for limit in &LIMITS {
            for value in [limit.range.min, limit.range.max] {
                (limit.write)(&mut limits, value);
                assert_eq!(limit.value(&limits), value, "{}", limit.range.key);
            }
            assert!(limit.range.min <= limit.range.max && !limit.range.reason.is_empty());
        }
        // One row a field, under the field's name less `_ms`.
        let shown = format!("{limits:?}");
        let keys = LIMITS.map(|limit| limit.range.key);
        assert_eq!(shown.matches(": ").count(), keys.len());
        for (field, key) in shown.trim_start_matches("Limits { ").split(", ").zip(keys) {
            let name = field.split(':').next().unwrap();
            assert_eq!(name.strip_suffix("_ms").unwrap_or(name), key);
        }
    }

    #[test]
    fn every_limit_is_taken_at_its_bounds_and_refused_beyond() {
        let ranges = LIMITS.iter().map(|limit| limit.range).chain(KEYS.iter().map(|(range, _)| *range));
        let mut seen = 0;
        for range in ranges {
            assert_eq!(range.check(range.min), Ok(range.min));
            assert_eq!(range.check(range.max), Ok(range.max));
            let above = LimitError::OutOfRange { range, found: range.max + 1 };
            assert_eq!(range.check(range.max + 1), Err(above));
            if let Some(below) = range.min.checked_sub(1) {
                let allowed = below == 0 && range.zero.is_some();
                assert_eq!(range.check(below).is_ok(), allowed, "{}", range.key);
            }
            assert_eq!(range.check(0).is_ok(), range.min == 0 || range.zero.is_some(), "{}", range.key);
            seen += 1;
        }
        assert_eq!(seen, LIMITS.len() + KEYS.len());
    }

    #[test]
    fn fixed_defaults_are_the_tables_and_in_range() {
        let limits = Limits::default_for(&PI);
        let mut seen = 0;
        for limit in &LIMITS {
            if let Fixed(value) = limit.preset {
                assert_eq!(limit.value(&limits), value, "{}", limit.range.key);
                seen += 1;
            }
        }
        assert!(seen >= 10);
        limits.check().unwrap();
        for (range, preset) in &KEYS {
            if let Fixed(value) = preset {
                range.check(*value).unwrap();
            }
        }
    }

    #[test]
    fn what_follows_from_sessions_and_workers_follows_unless_it_is_written() {
        let mut limits = Limits::default_for(&PI);
        let of = |limits: &Limits| {
            (limits.handshakes_max, limits.address_sessions_max, limits.handshakes_per_s_max)
        };
        for (sessions_max, workers, wanted) in [
            (1, 1, (16, 1, 100)),
            (160, 2, (40, 120, 200)),
            (682, 4, (170, 512, 400)),
            (100_000, 64, (1024, 512, 6400)),
        ] {
            (limits.sessions_max, limits.workers) = (sessions_max, workers);
            limits.follow(|_| false);
            assert_eq!(of(&limits), wanted, "{sessions_max}");
            limits.check().unwrap();
        }
        (limits.sessions_max, limits.address_sessions_max) = (10, 7);
        limits.follow(|key| key == "address_sessions_max");
        assert_eq!(of(&limits), (16, 7, 6400));
        assert_eq!(limits.address_rows(), 1024);
        limits.sessions_max = 513;
        assert_eq!(limits.address_rows(), 1026);
    }

    #[test]
    fn a_limit_is_set_by_its_name_in_its_form() {
        let mut limits = Limits::default_for(&PI);
        set(&mut limits, "head_timeout", Value::Text("1500ms")).unwrap();
        set(&mut limits, "head_bytes_max", Value::Text("32KiB")).unwrap();
        set(&mut limits, "scratch_bytes", Value::Integer(8192)).unwrap();
        set(&mut limits, "socket_buffer_bytes", Value::Integer(0)).unwrap();
        set(&mut limits, "workers", Value::Integer(2)).unwrap();
        let found = (limits.head_timeout_ms, limits.head_bytes_max, limits.scratch_bytes, limits.workers);
        assert_eq!(found, (1500, 32_768, 8192, 2));
    }

    #[test]
    fn a_wrong_value_says_what_was_expected_and_changes_nothing() {
        let before = Limits::default_for(&PI);
        let refused = [
            ("head_timeout", Value::Integer(10), ["`head_timeout` is 10", "\"30s\""]),
            ("head_timeout", Value::Text("99ms"), ["`head_timeout` is 99ms", "100ms to 2m"]),
            ("head_timeout", Value::Text("10"), ["\"10\" is not a duration", "\"30s\""]),
            ("head_bytes_max", Value::Text("16KB"), ["\"16KB\" is not a size", "KiB"]),
            ("head_bytes_max", Value::Text("1MiB"), ["`head_bytes_max` is 1MiB", "4KiB to 63KiB"]),
            ("workers", Value::Text("4"), ["`workers` is \"4\"", "without quotes"]),
            ("workers", Value::Integer(-1), ["`workers` is -1", "whole number"]),
            ("workers", Value::Integer(0), ["`workers` is 0", "1 to 64"]),
            (
                "socket_buffer_bytes",
                Value::Integer(1),
                ["`socket_buffer_bytes` is 1", "0 for the kernel's autotuning"],
            ),
            (
                "head_byte_max",
                Value::Integer(1),
                ["no limit `head_byte_max`", "did you mean `head_bytes_max`?"],
            ),
            ("zzz", Value::Integer(1), ["no limit `zzz`", "zzz"]),
        ];
        for (key, value, parts) in refused {
            let mut limits = before.clone();
            let text = set(&mut limits, key, value).unwrap_err().to_string();
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
            assert_eq!(limits, before);
        }
    }

    #[test]
    fn limits_that_bound_each_other_are_checked() {
        let mut limits = Limits::default_for(&PI);
        limits.target_bytes_max = limits.head_bytes_max;
        limits.check().unwrap();
        limits.target_bytes_max += 1;
        let text = limits.check().unwrap_err().to_string();
        assert!(text.contains("target_bytes_max") && text.contains("head_bytes_max"), "{text}");
    }

    #[test]
    fn durations_and_sizes_have_one_form() {
        let durations = [("0ms", 0), ("250ms", 250), ("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000)];
        for (text, wanted) in durations {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(wanted)), "{text}");
        }
        for (text, wanted) in
            [("0", 0), ("512", 512), ("16KiB", 16_384), ("1MiB", 1 << 20), ("2GiB", 2 << 30)]
        {
            assert_eq!(parse_size(text), Ok(wanted), "{text}");
        }
        let odd = [
            "",
            "s",
            "30",
            "1.5s",
            "30 s",
            " 30s",
            "-1s",
            "+1s",
            "30S",
            "1d",
            "1h30m",
            "99999999999999999999ms",
            "5124095576030431h",
        ];
        for text in odd {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        let odd =
            ["", "KiB", "16 KiB", "16kib", "16K", "16KB", "1.5MiB", "-1", "+1", "0x10", "17179869184GiB"];
        for text in odd {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_shown_can_be_read(value: u64) {
            proptest::prop_assert_eq!(parse_size(&Unit::Bytes.show(value)), Ok(value));
            proptest::prop_assert_eq!(milliseconds(&Unit::Milliseconds.show(value.max(1))), Ok(value.max(1)));
        }
    }

    #[test]
    fn what_a_websocket_may_carry_follows_from_memory_within_bounds() {
        let of = |ram_bytes| {
            let bounds = WebSocketBounds::default_for(&Machine { ram_bytes, ..PI });
            assert_eq!(bounds.frame_bytes_max, bounds.message_bytes_max);
            assert_eq!(MESSAGE_BYTES_MAX.check(bounds.message_bytes_max), Ok(bounds.message_bytes_max));
            bounds.message_bytes_max
        };
        let expected = [
            (0, 8 * MIB),
            (256 * MIB, 8 * MIB),
            (512 * MIB - 1, 8 * MIB),
            (512 * MIB, 16 * MIB),
            (4 * GIB, 128 * MIB),
            (8 * GIB, 256 * MIB),
            (u64::MAX, 256 * MIB),
        ];
        for (ram_bytes, bytes) in expected {
            assert_eq!(of(ram_bytes), bytes, "{ram_bytes}");
        }
    }

    #[test]
    fn a_written_websocket_bound_is_not_undone_by_the_default_of_the_other() {
        let board = WebSocketBounds { frame_bytes_max: 100, message_bytes_max: 100 };
        let over = |frame, message| {
            let bounds = board.written_over(frame, message);
            (bounds.frame_bytes_max, bounds.message_bytes_max)
        };
        assert_eq!(over(None, None), (100, 100));
        assert_eq!(over(Some(50), None), (50, 100));
        assert_eq!(over(Some(500), None), (500, 500));
        assert_eq!(over(None, Some(50)), (50, 50));
        assert_eq!(over(None, Some(500)), (500, 500));
        assert_eq!(over(Some(10), Some(500)), (10, 500));
    }

    #[test]
    fn the_memory_equation_adds_up() {
        let mut limits = Limits::default_for(&PI);
        (limits.sessions_max, limits.handshakes_max, limits.workers) = (100, 10, 2);
        (limits.head_bytes_max, limits.tls_buffer_bytes, limits.scratch_bytes) = (16_384, 65_536, 65_536);
        limits.socket_buffer_bytes = 32_768;
        let memory = Memory::of(&limits, &PI, 3);
        assert_eq!(memory.handshake_bytes, 10 * 144 * KIB);
        let addresses = 1024 * 32;
        let each = (12 + 52 + 64 + 64) * KIB;
        assert_eq!(memory.session_bytes, 8 * MIB + addresses + 2 * (128 + 512) * KIB + 100 * each);
        assert_eq!(memory.kernel_bytes, 100 * 8 * 32 * KIB);
        assert_eq!(memory.descriptors, 64 + 16 + 200 + 3 * 2 * 64);
        assert_eq!(memory.total_bytes(), memory.handshake_bytes + memory.session_bytes + memory.kernel_bytes);
        limits.socket_buffer_bytes = 0;
        assert_eq!(Memory::of(&limits, &PI, 3).kernel_bytes, 4 * GIB / 32 * 3);
        // A read may wait in each session, whatever the scratch has room for.
        (limits.head_bytes_max, limits.scratch_bytes) = (4096, 1 << 20);
        assert_eq!(limits.read_bytes(), 65_536);
        let each = (12 + 52 + 64 + 64) * KIB;
        let memory = Memory::of(&limits, &PI, 3);
        assert_eq!(memory.session_bytes, 8 * MIB + addresses + 2 * (128 + 512) * KIB + 100 * each);
        // A head of a request and one of a response, where they are more than that read.
        (limits.head_bytes_max, limits.response_head_bytes_max) = (40 * 1024, 24 * 1024);
        assert_eq!(Memory::of(&limits, &PI, 3).session_bytes, memory.session_bytes);
        limits.response_head_bytes_max += 1;
        assert_eq!(Memory::of(&limits, &PI, 3).session_bytes, memory.session_bytes + 100);
        limits.head_bytes_max += 1;
        assert_eq!(Memory::of(&limits, &PI, 3).session_bytes, memory.session_bytes + 200);
    }

    #[test]
    fn the_equation_holds_up_to_the_budget_and_not_beyond() {
        let limits = Limits::default_for(&PI);
        let total = Memory::of(&limits, &PI, 1).total_bytes();
        let exact = Memory::of(&limits, &Machine { budget_bytes: total, ..PI }, 1);
        let short = Memory::of(&limits, &Machine { budget_bytes: total - 1, ..PI }, 1);
        assert!(exact.holds() && exact.to_string().contains("within the budget"), "{exact}");
        assert!(!short.holds() && short.to_string().contains("MORE THAN the budget"), "{short}");
        for word in ["handshakes", "sessions", "kernel", "descriptors"] {
            assert!(exact.to_string().contains(word), "{exact}");
        }
    }
}
