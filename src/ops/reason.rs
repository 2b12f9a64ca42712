//! Why a connection or request is refused: one table with the label and the meaning of each reason.

macro_rules! reasons {
    ($($variant:ident = $label:literal, $means:literal;)*) => {
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
        }
    };
}

reasons! {
    UnknownServerName = "unknown-server-name", "a ClientHello for a name that is not in the bundle: alert `unrecognized_name`";
    NoServerName = "no-server-name", "a ClientHello without a name, and no `default_host`: alert `unrecognized_name`";
    Handshake = "handshake", "another TLS failure: no common version or suite, plain HTTP, a scanner";
    HandshakeTimeout = "handshake-timeout", "`handshake_timeout`: closed";
    Full = "full", "`sessions_max`, and no connection can be evicted: closed";
    Evicted = "evicted", "`sessions_max` or `handshakes_max`: closed for a newer connection";
    AddressSessions = "address-sessions", "`address_sessions_max`: closed";
    AddressHandshakes = "address-handshakes", "`address_handshakes_per_s_max`: closed";
    AddressWebSockets = "address-websockets", "`address_websockets_per_s_max`: 429 `too_many_requests`";
    HandshakeRate = "handshake-rate", "`handshakes_per_s_max`: alert `internal_error`";
    Exhausted = "exhausted", "no file descriptors: the edge stops accepting, connections wait in the kernel, the admin socket keeps working; recovers by itself";
    BadRequest = "bad-request", "a head, body framing or upgrade that breaks a rule: 400, 417, 426, 501, 505";
    HeadTooLarge = "head-too-large", "`head_bytes_max`, `fields_max`: 431; `target_bytes_max`: 414";
    BodyTooLarge = "body-too-large", "`body_bytes_max`: 413";
    RequestTimeout = "request-timeout", "`head_timeout`; `stall_timeout` with `body_bytes_per_s_min` for a request body: 408";
    WriteStall = "write-stall", "`stall_timeout` with `body_bytes_per_s_min` for a client that does not read its response or its WebSocket messages: cut";
    Requests = "requests", "`requests_max`: closed between two requests; routine and not logged";
    Idle = "keepalive", "`keepalive_timeout`: closed between two requests; routine and not logged";
    Misdirected = "misdirected", "Host differs from the TLS server name: 421; on the plain port, a host that is not served: 404";
    Network = "network", "the client's address is not in `allow`: 403";
    Origin = "origin", "the page's origin may not open WebSockets: 403";
    NoRoute = "no-route", "no route for the path: 404";
    Upstream = "upstream", "the app is unreachable, closes, or sends something that is not HTTP: 502, 504";
    WebSocket = "websocket", "`frame_bytes_max`, `message_bytes_max`: Close 1009; a frame that breaks a rule: Close 1002 or 1007";
    ProxyProtocol = "proxy-protocol", "no valid PROXY protocol header from a peer in `proxy_protocol_from`: closed";
    Admin = "admin", "a request on the admin socket without the right to it";
}

impl Reason {
    /// The label.
    pub fn name(self) -> &'static str {
        Self::NAMES.get(self as usize).copied().unwrap_or("other")
    }
}
