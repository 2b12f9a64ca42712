//! Heads of requests and responses (RFC 9112 §2 to §5), read strictly: whatever two parsers could read in two ways
//! is refused here and never repaired.
//!
//! [`HeadScanner`] finds where a head ends while it arrives and refuses what httparse forgives: LF without CR, CR
//! without LF, control bytes, a second leading empty line, folded lines, a space before the colon, names that are no
//! tokens, and target bytes outside RFC 3986 (and [`TARGET_EXTRA`]). [`parse_request`] and [`parse_response`] then
//! parse in place and decide what the message means: its host, where it ends (RFC 9112 §6.3), what becomes of the
//! connection (§9.3). They scan the whole head once more, because a scanner is only as good as the buffer that was
//! handed to it between two reads.

use std::mem::MaybeUninit;
use std::ops::Range;

use crate::http::answer::Problem;
use crate::http::body::Framing;
pub use crate::limits::FIELDS_MAX;
use crate::names::Host;

/// No head is longer than this, whatever `head_bytes_max` says: offsets into it are 16 bits wide.
pub const HEAD_BYTES_CEILING: usize = 65_535;

/// Longest method in bytes. The longest registered one (`UPDATEREDIRECTREF`) has 17.
pub const METHOD_BYTES_MAX: usize = 24;

/// Most connection options beside `close`, `keep-alive` and `upgrade`: each is compared with every field name.
pub const CONNECTION_OPTIONS_MAX: u8 = 16;

/// Bytes that RFC 3986 wants percent-encoded in a target and that browsers nevertheless send as they are (WHATWG
/// URL, query percent-encode set). `[` and `]` are RFC 3986's own, though not in a path or query.
pub const TARGET_EXTRA: &[u8] = b"[]{}|^`\\";

/// Bounds of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the whole head with its empty line; at most [`HEAD_BYTES_CEILING`].
    pub head_bytes_max: usize,
    /// Field lines; at most [`FIELDS_MAX`].
    pub fields_max: usize,
    /// Bytes of a request target.
    pub target_bytes_max: usize,
}

/// Finds the end of a head that may arrive in pieces. Remembers how far it looked, so that a head that comes byte by
/// byte is looked at once; the buffer must begin with the same bytes at every call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadScanner {
    at: usize,
}

/// What is wrong with a head, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset} of the head: {fault}")]
pub struct HeadError {
    /// Offset in the head, 0 the first byte.
    pub offset: usize,
    /// The broken rule.
    pub fault: HeadFault,
}

/// A broken rule of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadFault {
    /// The head did not end in time.
    #[error("the head is longer than {limit} bytes")]
    HeadTooLong {
        /// `head_bytes_max`.
        limit: usize,
    },
}

/// HTTP version of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0 (RFC 1945).
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// One field line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field<'b> {
    /// Name, as it came.
    pub name: &'b str,
    /// Value without the white space around it.
    pub value: &'b [u8],
    /// The whole line with its CRLF, as offsets in the head.
    pub line: Range<usize>,
}

/// The field lines of a head, in order. Holds offsets only (8 bytes a line).
#[derive(Clone, Debug)]
pub struct Fields<'b> {
    head: &'b [u8],
    lines: heapless::Vec<Line, FIELDS_MAX>,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    start: u16,
    name_bytes: u16,
    value: u16,
    value_bytes: u16,
}

/// A request head that means exactly one thing.
#[derive(Clone, Debug)]
pub struct RequestHead<'b> {
    /// Method; any token but CONNECT, TRACE and PRI.
    pub method: &'b str,
    /// Target as it came: origin-form, absolute-form, or `*`.
    pub target: &'b str,
    /// Path of the target, as it came; `/` where an absolute-form has none, `*` for `OPTIONS *`.
    pub path: &'b str,
    /// Query without its `?`, as it came.
    pub query: Option<&'b str>,
    /// Version of the client's message.
    pub version: Version,
    /// Field lines.
    pub fields: Fields<'b>,
    /// Host, from the Host field (equal to the authority of an absolute-form).
    pub host: Host,
    /// Port of the authority, if it had one.
    pub port: Option<u16>,
    /// The authority's text, as it came.
    pub authority: &'b str,
    /// Where the body ends.
    pub framing: Framing,
    /// Whether the client wants to keep the connection (RFC 9112 §9.3).
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body (never set for HTTP/1.0 or without a body).
    pub expects_continue: bool,
    /// `Connection: upgrade` is there; what for is [`crate::ws::handshake`]'s question.
    pub asks_upgrade: bool,
}

/// A response head that means exactly one thing.
#[derive(Clone, Debug)]
pub struct ResponseHead<'b> {
    /// 100 to 599.
    pub status: u16,
    /// Reason phrase, as it came, often empty.
    pub reason: &'b [u8],
    /// Version of the upstream's message.
    pub version: Version,
    /// Field lines.
    pub fields: Fields<'b>,
    /// Where the body ends, the request's method taken into account.
    pub framing: Framing,
    /// Whether the connection can carry another request after this response. `false` too where its end is not
    /// certain: until-close bodies, 101, and bodies announced where none may be (1xx, 204).
    pub keep_alive: bool,
    /// `Keep-Alive: timeout=…` in seconds.
    pub keep_alive_timeout_s: Option<u32>,
    /// `Connection: upgrade` is there.
    pub asks_upgrade: bool,
}

impl HeadScanner {
    /// A scanner for a request head; the same as `default()`.
    pub fn request() -> Self {
        Self::default()
    }

    /// A scanner for a response head.
    pub fn response() -> Self {
        todo!()
    }

    /// Looks on from where the last call stopped. `Some(n)`: the head is `buf[..n]`, its empty line included (and one
    /// empty line before a request line, which RFC 9112 §2.2 lets a client send). `None`: more bytes are wanted.
    ///
    /// # Errors
    /// The first broken rule, as soon as the bytes show it.
    pub fn scan(&mut self, buf: &[u8], limits: &HeadLimits) -> Result<Option<usize>, HeadError> {
        let _ = (buf, limits, self.at);
        todo!()
    }
}

/// Parses a request head, exactly the bytes that a scanner delimited.
///
/// # Errors
/// The first broken rule; [`HeadError::problem`] names the answer.
pub fn parse_request<'b>(head: &'b [u8], limits: &HeadLimits) -> Result<RequestHead<'b>, HeadError> {
    let _ = (head, limits);
    todo!()
}

/// Parses a response head, exactly the bytes that a scanner delimited. `request_is_head`: the request was a HEAD.
///
/// # Errors
/// The first broken rule. Towards the client any of them is a 502.
pub fn parse_response<'b>(
    head: &'b [u8],
    request_is_head: bool,
    limits: &HeadLimits,
) -> Result<ResponseHead<'b>, HeadError> {
    let _ = (head, request_is_head, limits);
    todo!()
}

impl HeadError {
    /// The answer to a request head with this error.
    pub fn problem(&self) -> Problem {
        todo!()
    }
}

impl<'b> Fields<'b> {
    /// All field lines in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Field<'b>> + '_ {
        self.lines.iter().map(|_| todo!())
    }

    /// Values of every line called `name`, in order (names have no case).
    pub fn values<'s>(&'s self, name: &'s str) -> impl DoubleEndedIterator<Item = &'b [u8]> + 's {
        self.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }
}
