//! Why the edge responds itself: one table with everything about each problem.

use super::head::{HeadError, HeadFault};
use crate::reason::Reason;

/// What to check where nothing more is known: for the person who runs the edge.
const LOOK: &str = "Check the log of the app on {upstreams}.";
/// The same for clients. No client learns where an upstream is, and behind a tunnel or a container's NAT every client looks local.
const UPSTREAM_CHECK: &str = "The log of the edge, and `sanedge status` on its machine, name the app.";

/// One row of the table.
struct Row {
    status: u16,
    code: &'static str,
    /// As what it is counted and logged.
    reason: Option<Reason>,
    /// What the client reads.
    sentence: &'static str,
    /// Fields that the status requires.
    fields: &'static str,
    /// What the person who runs the edge is told, with `{upstreams}`.
    check: &'static str,
    /// What `sanedge doctor` says to a client; empty where it has a finding of its own.
    remedy: &'static str,
}

/// Each row: status, code, reason, sentence, and what else there is to say.
macro_rules! problems {
    ($(
        $(#[doc = $when:literal])*
        $variant:ident = $status:literal, $code:literal, $reason:expr, $sentence:literal $(, $more:ident: $text:expr)*;
    )*) => {
        /// Why the edge responds itself.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Problem {
            $($(#[doc = $when])* $variant,)*
        }

        /// Every problem.
        pub const PROBLEMS: [Problem; [$($code),*].len()] = [$(Problem::$variant),*];

        impl Problem {
            fn row(self) -> Row {
                match self {
                    $(Self::$variant => Row { $($more: $text,)* ..Row::of($status, $code, $reason, $sentence) },)*
                }
            }
        }
    };
}

#[rustfmt::skip]
problems! {
    /// 400: the head or the framing is malformed or ambiguous.
    BadRequest = 400, "bad_request", Some(Reason::BadRequest), "The request is malformed or ambiguous.",
        remedy: "a proxy in front of sanedge makes the request ambiguous: connect to sanedge without it, and compare";
    /// 400: the path leads to different routes before and after normalising.
    AmbiguousPath = 400, "ambiguous_path", Some(Reason::BadRequest), "The path leads to different routes before and after its dot segments and slashes are resolved.",
        remedy: "write the path without `//`, `.` and `..`";
    /// 400: an upgrade that RFC 6455 does not allow.
    BadUpgrade = 400, "bad_upgrade", Some(Reason::BadRequest), "The WebSocket upgrade does not follow RFC 6455.",
        remedy: "a proxy in front of sanedge changes the WebSocket handshake: let it forward Upgrade, Connection and Sec-WebSocket-* unchanged";
    /// 400: plain HTTP on a TLS port.
    PlainHttp = 400, "plain_http", Some(Reason::BadRequest), "This port expects TLS: use https:// or wss://.",
        remedy: "this port expects TLS: use https:// or wss://";
    /// 403: the Origin of an upgrade is not allowed.
    OriginRefused = 403, "origin_refused", Some(Reason::Origin), "Pages of this origin may not open WebSockets here.";
    /// 403: the client's address is not in `allow`.
    AddressRefused = 403, "address_refused", Some(Reason::Network), "Clients at this address are not allowed here.";
    /// 404: no route for the path.
    UnknownPath = 404, "unknown_path", Some(Reason::NoRoute), "No server is configured for this path.";
    /// 404: the plain listener does not know this host.
    UnknownHost = 404, "unknown_host", Some(Reason::Misdirected), "This host is not served here.";
    /// 408: the request did not arrive in time.
    RequestTimeout = 408, "request_timeout", Some(Reason::RequestTimeout), "The request did not arrive in time.",
        remedy: "the request arrived too slowly: raise head_timeout or stall_timeout in [limits], or check the network connection";
    /// 413: the body is larger than `body_bytes_max`.
    BodyTooLarge = 413, "body_too_large", Some(Reason::BodyTooLarge), "The body is larger than this route allows (body_bytes_max).",
        remedy: "raise body_bytes_max of the site or route (Engine.IO sends up to 1 MB)";
    /// 414: the target is longer than `target_bytes_max`.
    TargetTooLong = 414, "target_too_long", Some(Reason::HeadTooLarge), "The request target is too long (target_bytes_max).",
        remedy: "the query is too long: send less in it, or raise target_bytes_max in [limits]";
    /// 417: an expectation other than 100-continue.
    ExpectationFailed = 417, "expectation_failed", Some(Reason::BadRequest), "The only supported expectation is 100-continue.",
        remedy: "a proxy in front of sanedge adds Expect: let it send 100-continue or nothing";
    /// 421: this connection was opened for another name.
    Misdirected = 421, "misdirected", Some(Reason::Misdirected), "This connection was opened for another host name.";
    /// 426: WebSocket version other than 13.
    WebSocketVersion = 426, "websocket_version", Some(Reason::BadRequest), "Only WebSocket version 13 is supported.",
        fields: "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n",
        remedy: "a proxy in front of sanedge changes Sec-WebSocket-Version: it must be 13";
    /// 429: too many requests.
    TooManyRequests = 429, "too_many_requests", Some(Reason::AddressWebSockets), "Too many requests from this address.",
        fields: "Retry-After: 1\r\n";
    /// 431: the head is larger than `head_bytes_max` or has more than `fields_max` fields.
    HeadTooLarge = 431, "head_too_large", Some(Reason::HeadTooLarge), "The request head is too large (head_bytes_max, fields_max).",
        remedy: "fields and cookies are too long: send fewer, or raise head_bytes_max or fields_max in [limits]";
    /// 501: CONNECT, TRACE, or a transfer coding other than chunked.
    NotImplemented = 501, "not_implemented", Some(Reason::BadRequest), "This method or transfer coding is not supported.",
        remedy: "a proxy in front of sanedge changes the method or the transfer coding";
    // The outage has a line of its own, once: `upstream::failed`.
    /// 502: no connection to the upstream.
    UpstreamUnreachable = 502, "upstream_unreachable", None, "The server behind this edge does not accept connections.",
        check: "Is the app running and listening on {upstreams}?",
        remedy: "the app does not accept connections: start it";
    /// 502: the upstream closed before its response was complete.
    UpstreamClosed = 502, "upstream_closed", Some(Reason::Upstream), "The server behind this edge closed the connection before its response was complete.",
        check: LOOK;
    /// 502: the upstream's response is malformed or ambiguous.
    UpstreamMalformed = 502, "upstream_malformed", Some(Reason::Upstream), "The response of the server behind this edge is malformed or ambiguous.",
        check: LOOK;
    /// 502: the upstream speaks TLS where plain HTTP is spoken to it.
    UpstreamTls = 502, "upstream_tls", Some(Reason::Upstream), "The server behind this edge expects TLS, and the edge uses plain HTTP to it.",
        check: "Name the app's plain port as `upstream` instead of {upstreams} (`ss -tlnp` lists ports), or disable TLS in the app.";
    /// 502: the head of the upstream's response is larger than `response_head_bytes_max`, or has more than
    /// `response_fields_max` fields.
    UpstreamHeadTooLarge = 502, "upstream_head_too_large", Some(Reason::Upstream), "The head of the response of the server behind this edge is too large (response_head_bytes_max, response_fields_max).",
        check: "Raise response_head_bytes_max or response_fields_max in [limits] of sanedge.toml: the log of the edge says which is reached.",
        remedy: "the head of the app's response is too large: send fewer cookies and fields, or raise response_head_bytes_max or response_fields_max in [limits]";
    /// 503: the host waits for its first certificate.
    CertificatePending = 503, "certificate_pending", Some(Reason::Misdirected), "The certificate of this host is being obtained.",
        fields: "Retry-After: 60\r\n";
    /// 504: the upstream did not answer in time.
    UpstreamTimeout = 504, "upstream_timeout", Some(Reason::Upstream), "The server behind this edge did not respond in time.",
        check: LOOK,
        remedy: "the app does not answer in time: check its log";
    /// 505: neither HTTP/1.0 nor HTTP/1.1.
    VersionNotSupported = 505, "version_not_supported", Some(Reason::BadRequest), "Only HTTP/1.1 and HTTP/1.0 are supported here.",
        remedy: "a proxy in front of sanedge sends neither HTTP/1.0 nor HTTP/1.1";
}

impl Row {
    fn of(status: u16, code: &'static str, reason: Option<Reason>, sentence: &'static str) -> Self {
        Self { status, code, reason, sentence, fields: "", check: "", remedy: "" }
    }
}

impl Problem {
    /// The status code.
    pub fn status(self) -> u16 {
        self.row().status
    }

    /// The reason phrase of its status (RFC 9110 §15).
    pub fn phrase(self) -> &'static str {
        match self.status() {
            400 => "Bad Request",
            403 => "Forbidden",
            404 => "Not Found",
            408 => "Request Timeout",
            413 => "Content Too Large",
            414 => "URI Too Long",
            417 => "Expectation Failed",
            421 => "Misdirected Request",
            426 => "Upgrade Required",
            429 => "Too Many Requests",
            431 => "Request Header Fields Too Large",
            501 => "Not Implemented",
            502 => "Bad Gateway",
            503 => "Service Unavailable",
            504 => "Gateway Timeout",
            505 => "HTTP Version Not Supported",
            _ => "",
        }
    }

    /// The stable code, as in `Sanedge-Error`.
    pub fn code(self) -> &'static str {
        self.row().code
    }

    /// One sentence for the client.
    pub fn sentence(self) -> &'static str {
        self.row().sentence
    }

    /// Fields that the status requires, each with its line end.
    pub fn fields(self) -> &'static str {
        self.row().fields
    }

    /// As what it is counted and logged; `None`: what causes it is logged already.
    pub fn reason(self) -> Option<Reason> {
        self.row().reason
    }

    /// Whether the upstream is what went wrong.
    pub fn is_upstream(self) -> bool {
        matches!(self.status(), 502 | 504)
    }

    /// What the client can check.
    pub fn check(self) -> Option<&'static str> {
        self.is_upstream().then_some(UPSTREAM_CHECK)
    }

    /// What the person who runs the edge can check, in the log.
    pub fn check_inside(self, upstreams: &str) -> Option<String> {
        let check = self.row().check;
        (!check.is_empty()).then(|| check.replace("{upstreams}", upstreams))
    }

    /// What a client can do about it; `None` where the doctor has a finding of its own for it.
    pub fn remedy(self) -> Option<&'static str> {
        Some(self.row().remedy).filter(|remedy| !remedy.is_empty())
    }
}

impl HeadError {
    /// The response to the client for an upstream response head with this error.
    pub fn upstream_problem(&self) -> Problem {
        match self.fault {
            HeadFault::HeadTooLong { .. } | HeadFault::TooManyFields { .. } => Problem::UpstreamHeadTooLarge,
            _ => Problem::UpstreamMalformed,
        }
    }

    /// The response to a request head with this error.
    pub fn problem(&self) -> Problem {
        match self.fault {
            HeadFault::HeadTooLong { .. }
            | HeadFault::TooManyFields { .. }
            | HeadFault::PlanTooLong { .. } => Problem::HeadTooLarge,
            HeadFault::TargetTooLong { .. } => Problem::TargetTooLong,
            HeadFault::MethodTooLong | HeadFault::MethodNotServed | HeadFault::CodingUnknown => {
                Problem::NotImplemented
            }
            HeadFault::VersionNotSupported => Problem::VersionNotSupported,
            HeadFault::ExpectationUnknown => Problem::ExpectationFailed,
            _ => Problem::BadRequest,
        }
    }
}
