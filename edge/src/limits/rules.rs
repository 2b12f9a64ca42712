//! The keys outside `[limits]` that hold a number or a switch: of a site or route, and of the drain.

use std::time::Duration;

use super::range::Preset::{Absent, Board, Fixed};
use super::range::{
    DAY, GIB, HOUR, KIB, LimitError, MINUTE, Preset, Range, SECOND, SWITCH, Value, bytes, count, time,
};
use super::row::{self, Row, Stored, key_of, settings};

settings! {
    /// What a site or route may set: one value each, which a route inherits from its site.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Rules, RULES {
        /// Refuse a WebSocket without Origin; clients that are not browsers send none.
        require_origin: bool = SWITCH, Fixed(0), "";
        /// From the end of a request to the head of the upstream's response; after that the client gets 504.
        response_timeout: Duration = time(100, DAY), Fixed(MINUTE),
            "longer than Engine.IO's long poll, which its 25 s heartbeat ends";
        /// Closes a WebSocket or a response on which no byte moves for this long.
        idle_timeout: Option<Duration> = time(100, 7 * DAY), Absent("no bound"),
            "Engine.IO's own heartbeat notices a dead connection";
        /// Sends a WebSocket Ping to each client at this interval, and closes a client that sends nothing for a whole interval
        /// after one.
        ping_interval: Option<Duration> = time(100, DAY), Absent("no bound"),
            "Engine.IO has its own heartbeat";
        /// Largest payload of a WebSocket frame; more is Close 1009.
        frame_bytes_max: Option<u64> = bytes(125, GIB), Board("`message_bytes_max` if that is set, else the board's"),
            "a control frame carries up to 125 bytes (RFC 6455 §5.5) and must pass; a message may be one frame";
        /// Largest WebSocket message over its frames; more is Close 1009.
        message_bytes_max: Option<u64> = bytes(125, GIB),
            Board("the board's: a 32nd of its memory, 8MiB to 256MiB; or `frame_bytes_max` if that is larger"),
            "the edge streams a message, but the app holds it whole; Socket.IO's own default is 1 MB";
        /// Largest request body; more gets 413.
        body_bytes_max: Option<u64> = bytes(1, 1024 * GIB), Absent("no bound"),
            "bodies are streamed and use no memory in the edge";
        /// Close a WebSocket whose text messages are not UTF-8 (Close 1007). WebSocket extensions, compression included, are then
        /// not offered to the app.
        check_utf8: bool = SWITCH, Fixed(0), "";
        /// Start each upstream connection with a PROXY protocol header of this version, which names the client. The app must
        /// expect it.
        send_proxy_protocol: Option<u8> = count(1, 2), Absent("none"), "the versions of the PROXY protocol";
        /// Write one log line per request, at most 100 per second.
        access_log: bool = SWITCH, Fixed(0), "";
    }
}

/// `hsts` of a site, which its routes share.
pub static HSTS: Range = Range {
    key: "hsts",
    means: "Tells browsers to use only https for the site's hosts for this long (Strict-Transport-Security), on every https response, \
        instead of what the app sends.",
    reason: "two years is what browsers' preload lists recommend; a shorter time than 5m is over before the next visit",
    ..time(5 * MINUTE, 730 * DAY).or_zero("making browsers forget it")
};

/// Its default.
static HSTS_PRESET: Preset = Absent("not sent");

/// `record_bytes_max` of a site: its clients share connections between routes.
pub static RECORD_BYTES_MAX: Range = Range {
    key: "record_bytes_max",
    means: "Most plaintext of a TLS record that the edge sends with responses and WebSocket messages, for clients with small buffers. The \
        server name of the handshake chooses the site. Handshake messages are not bounded by it.",
    reason: "16 KiB is TLS's own bound (RFC 8446 §5.1), and 512 the smallest that a client can negotiate elsewhere (RFC 6066 §4)",
    ..bytes(512, 16 * KIB)
};

/// Its default.
static RECORD_BYTES_MAX_PRESET: Preset = Fixed(16 * KIB);

/// Ranges and defaults of the keys that a site has and its routes do not.
pub static SITE: [(&Range, &Preset); 2] =
    [(&HSTS, &HSTS_PRESET), (&RECORD_BYTES_MAX, &RECORD_BYTES_MAX_PRESET)];

impl Default for Rules {
    fn default() -> Self {
        Self::fixed()
    }
}

settings! {
    /// How the edge ends its connections when it stops.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Drain, DRAIN {
        /// Time that exchanges and WebSockets have to end when the edge stops.
        timeout as "drain_timeout": Duration = time(0, DAY), Fixed(MINUTE),
            "systemd kills the process after 75 s; raise TimeoutStopSec= in the unit with it";
        /// Time over which a drain spreads the Close frames of its WebSockets, at most half of `drain_timeout`.
        spread as "drain_spread": Duration = time(0, HOUR), Fixed(10 * SECOND),
            "clients that are closed all at once reconnect all at once";
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::fixed()
    }
}
