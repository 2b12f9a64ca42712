//! Answers made by the edge itself: a stable code, one sentence, and what to check, as JSON or as a small page.
//!
//! Each carries `Sanedge-Error: code`, so that it is never mistaken for the app's own.

use crate::http::head::RequestHead;
use crate::names::Host;

/// Why the edge answers by itself. One row each: status, code, sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Problem {
    /// 400: the head or the framing is malformed or ambiguous.
    BadRequest,
    /// 400: the path leads to different routes before and after normalising.
    AmbiguousPath,
    /// 400: an upgrade that RFC 6455 does not allow.
    BadUpgrade,
    /// 403: the Origin of an upgrade is not allowed.
    OriginRefused,
    /// 403: the client's address is not in `allow`.
    AddressRefused,
    /// 404: no route for the path.
    UnknownPath,
    /// 404: the plain listener does not know this host.
    UnknownHost,
    /// 405: only GET and HEAD here.
    MethodNotAllowed,
    /// 408: the request did not arrive in time.
    RequestTimeout,
    /// 413: the body is larger than `body_bytes_max`.
    BodyTooLarge,
    /// 414: the target is longer than `target_bytes_max`.
    TargetTooLong,
    /// 417: an expectation other than 100-continue.
    ExpectationFailed,
    /// 421: this connection was opened for another name.
    Misdirected,
    /// 426: WebSocket version other than 13.
    WebSocketVersion,
    /// 429: too many requests.
    TooManyRequests,
    /// 431: the head is larger than `head_bytes_max` or has more than `fields_max` fields.
    HeadTooLarge,
    /// 501: CONNECT, TRACE, or a transfer coding other than chunked.
    NotImplemented,
    /// 502: no connection to the upstream.
    UpstreamUnreachable,
    /// 502: the upstream closed before its response was complete.
    UpstreamClosed,
    /// 502: the upstream's response is malformed or ambiguous.
    UpstreamMalformed,
    /// 503: the edge is at a limit.
    Overloaded,
    /// 503: the edge is draining.
    Draining,
    /// 504: the upstream did not answer in time.
    UpstreamTimeout,
    /// 505: neither HTTP/1.0 nor HTTP/1.1.
    VersionNotSupported,
}

/// What the answer says beyond its fixed sentence. Text from outside is escaped and cut.
#[derive(Clone, Copy, Debug, Default)]
pub struct Detail<'a> {
    /// What was found, e.g. the head's error.
    pub found: Option<&'a str>,
    /// What to check or to add, e.g. the upstream's address or a line for sanedge.toml.
    pub check: Option<&'a str>,
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerForm {
    /// A page instead of JSON; see [`wants_html`].
    pub html: bool,
    /// `Connection: close`.
    pub close: bool,
    /// Answer to HEAD: no body.
    pub head_only: bool,
}

impl Problem {
    /// The stable code, as in `Sanedge-Error`.
    pub fn code(self) -> &'static str {
        todo!()
    }
    /// The status code.
    pub fn status(self) -> u16 {
        todo!()
    }
    /// One sentence for people.
    pub fn sentence(self) -> &'static str {
        todo!()
    }
}

/// Whether the client prefers a page: `Accept` lists `text/html`.
pub fn wants_html(head: &RequestHead<'_>) -> bool {
    let _ = head;
    todo!()
}

/// Appends a whole answer, head and body, to `out`.
pub fn write(problem: Problem, detail: &Detail<'_>, form: AnswerForm, out: &mut Vec<u8>) {
    let _ = (problem, detail, form, out);
    todo!()
}

/// Appends a 308 to `https://host[:port]target` to `out`; the port is left out where it is 443.
pub fn redirect(host: &Host, port: u16, target: &str, form: AnswerForm, out: &mut Vec<u8>) {
    let _ = (host, port, target, form, out);
    todo!()
}
