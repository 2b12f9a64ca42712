//! Why a connection or request is refused: one table with the label, the log level and the meaning of each reason.

/// How a refusal is logged: at most one line a minute for each reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Counted only.
    Silent,
    /// For the record.
    Info,
    /// Needs attention.
    Warn,
}

macro_rules! reasons {
    ($($variant:ident = $label:literal, $level:ident, $means:literal;)*) => {
        /// Why a connection or request was refused: the label in `status`, in the metrics and in the log.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Reason {
            $(#[doc = $means] $variant,)*
        }

        impl Reason {
            /// Every label, in the order of the variants.
            pub const NAMES: [&'static str; [$($label),*].len()] = [$($label),*];
            /// The limit or cause of each, and what the client gets; in the same order. docs/limits.md shows it.
            pub const MEANINGS: [&'static str; Self::NAMES.len()] = [$($means),*];

            /// How it is logged.
            pub fn level(self) -> Level {
                match self {
                    $(Self::$variant => Level::$level,)*
                }
            }
        }
    };
}

reasons! {
    UnknownServerName = "unknown-server-name", Info, "a ClientHello for a name that is not in the bundle: alert `unrecognized_name`";
    NoServerName = "no-server-name", Info, "a ClientHello without a name, and no `default_host`: alert `unrecognized_name`";
    Handshake = "handshake", Info, "another TLS failure: no common version or suite, plain HTTP, a scanner";
    HandshakeTimeout = "handshake-timeout", Info, "`handshake_timeout`: closed";
    Full = "full", Info, "`sessions_max`, and no connection can be evicted: closed";
    Evicted = "evicted", Info, "`sessions_max` or `handshakes_max`: closed for a newer connection";
    AddressSessions = "address-sessions", Info, "`address_sessions_max`: closed";
    AddressHandshakes = "address-handshakes", Info, "`address_handshakes_per_s_max`: closed";
    AddressWebSockets = "address-websockets", Info, "`address_websockets_per_s_max`: 429 `too_many_requests`";
    HandshakeRate = "handshake-rate", Info, "`handshakes_per_s_max`: alert `internal_error`";
    Exhausted = "exhausted", Info, "no file descriptors: the edge stops accepting, connections wait in the kernel, the admin socket keeps working; recovers by itself";
    BadRequest = "bad-request", Info, "a head, body framing or upgrade that breaks a rule: 400, 417, 426, 501, 505";
    HeadTooLarge = "head-too-large", Info, "`head_bytes_max`, `fields_max`: 431; `target_bytes_max`: 414";
    BodyTooLarge = "body-too-large", Info, "`body_bytes_max`: 413";
    RequestTimeout = "request-timeout", Info, "`head_timeout`; `stall_timeout` with `body_bytes_per_s_min` for a request body: 408";
    WriteStall = "write-stall", Info, "`stall_timeout` with `body_bytes_per_s_min` for a client that does not read its response or its WebSocket messages: cut";
    Requests = "requests", Silent, "`requests_max`: closed between two requests; routine and not logged";
    Idle = "keepalive", Silent, "`keepalive_timeout`: closed between two requests; routine and not logged";
    Misdirected = "misdirected", Info, "Host differs from the TLS server name: 421; on the plain port, a host that is not served: 404, or not yet: 503";
    Network = "network", Info, "the client's address is not in `allow`: 403";
    Origin = "origin", Info, "the page's origin may not open WebSockets: 403";
    NoRoute = "no-route", Info, "no route for the path: 404";
    Upstream = "upstream", Info, "the app is unreachable, closes, or sends something that is not HTTP: 502, 504";
    WebSocket = "websocket", Info, "`frame_bytes_max`, `message_bytes_max`: Close 1009; a frame that breaks a rule: Close 1002 or 1007";
    ProxyProtocol = "proxy-protocol", Info, "no valid PROXY protocol header from a peer in `proxy_protocol_from`: closed";
    Admin = "admin", Warn, "a request on the admin socket without the right to it";
}

impl Reason {
    /// The label.
    pub fn name(self) -> &'static str {
        Self::NAMES.get(self as usize).copied().unwrap_or("other")
    }
}
