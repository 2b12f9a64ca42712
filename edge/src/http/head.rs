//! Heads of requests and responses (RFC 9112 §2 to §5). Input that two parsers could read in two ways is refused and never
//! repaired. A response, which the user's own app sends, may have slips with one reading: lines that end with LF alone, one
//! Content-Length several times. It is written anew, and its connection is not reused.
//!
//! [`HeadScanner`] finds the end of a head while it arrives and refuses what httparse tolerates: LF without CR, CR
//! without LF, control bytes, a second leading empty line, folded lines, a space before the colon, names that are not
//! tokens, and target bytes outside RFC 3986 (and [`TARGET_EXTRA`]). [`parse_request`] and [`parse_response`] then
//! parse in place and decide what the message means: its host, where it ends (RFC 9112 §6.3), whether the connection
//! persists (§9.3): see `meaning.rs`. They scan a head themselves if they get it without the scanner that found its end.

use std::borrow::Cow;
use std::mem::MaybeUninit;

use crate::http::body::Framing;
pub use crate::http::fault::{
    CONNECTION_OPTIONS_MAX, HeadError, HeadFault, HeadLimits, METHOD_BYTES_MAX, Version,
};
pub(crate) use crate::http::field::Known;
use crate::http::lines::Line;
pub use crate::http::lines::{Field, Fields, RequestLines, ResponseLines};
pub(crate) use crate::http::lines::{list, offset_in, trim};
use crate::http::meaning::Meaning;
pub(crate) use crate::http::scan::is_token;
pub use crate::http::scan::{HEAD_BYTES_CEILING, HeadScanner, TARGET_EXTRA};
use crate::http::target::TargetParts;
pub use crate::limits::{FIELDS_MAX, RESPONSE_FIELDS_MAX};
use crate::names::Host;

/// Supported methods: those of Node's parser (llhttp, `HTTP_METHOD_MAP`) except CONNECT and TRACE. A Socket.IO client
/// sends no method that a server refuses or takes for the start of another.
pub const METHODS: [&str; 33] = [
    "GET",
    "POST",
    "OPTIONS",
    "HEAD",
    "PUT",
    "DELETE",
    "PATCH",
    "ACL",
    "BIND",
    "CHECKOUT",
    "COPY",
    "LINK",
    "LOCK",
    "M-SEARCH",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MOVE",
    "NOTIFY",
    "PROPFIND",
    "PROPPATCH",
    "PURGE",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "SOURCE",
    "SUBSCRIBE",
    "UNBIND",
    "UNLINK",
    "UNLOCK",
    "UNSUBSCRIBE",
];

/// An unambiguous request head.
#[derive(Clone, Debug)]
pub struct RequestHead<'b> {
    /// Method; one of [`METHODS`].
    pub method: &'b str,
    /// Target, unchanged: origin-form or absolute-form.
    pub target: &'b str,
    /// Path of the target, unchanged; `/` if an absolute-form has none.
    pub path: &'b str,
    /// Query without its `?`, unchanged.
    pub query: Option<&'b str>,
    /// Version of the client's message.
    pub version: Version,
    /// Field lines.
    pub fields: Fields<'b>,
    /// Host, from the Host field (equal to the authority of an absolute-form).
    pub host: Host,
    /// Port of the authority, if it had one.
    pub port: Option<u16>,
    /// The authority's text, unchanged.
    pub authority: &'b str,
    /// Where the body ends.
    pub framing: Framing,
    /// Whether the client wants to keep the connection (RFC 9112 §9.3).
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body (never set for HTTP/1.0 or without a body).
    pub expects_continue: bool,
    /// `Connection: upgrade` is present; [`crate::ws::handshake`] decides what it means.
    pub asks_upgrade: bool,
}

/// An unambiguous response head.
#[derive(Clone, Debug)]
pub struct ResponseHead<'b> {
    /// 100 to 999.
    pub status: u16,
    /// Reason phrase, unchanged, often empty.
    pub reason: &'b [u8],
    /// Version of the upstream's message.
    pub version: Version,
    /// Field lines.
    pub fields: Fields<'b>,
    /// The value of Content-Length, also if there is no body.
    pub length: Option<u64>,
    /// Where the body ends, which depends on the request's method.
    pub framing: Framing,
    /// Whether the connection can carry another request after this response. Also `false` if its end is not certain:
    /// until-close bodies, 101, bodies where none is allowed (1xx, 204), and heads with a slip.
    pub keep_alive: bool,
    /// `Keep-Alive: timeout=…` in seconds.
    pub keep_alive_timeout_s: Option<u32>,
    /// `Connection: upgrade` is present.
    pub asks_upgrade: bool,
}

/// Parses a request head, exactly the bytes that a scanner delimited.
///
/// # Errors
/// The first broken rule; [`HeadError::problem`] names the response.
pub fn parse_request<'b>(head: &'b [u8], limits: &HeadLimits) -> Result<RequestHead<'b>, HeadError> {
    let mut scanner = HeadScanner::request();
    scanner.scan(head, limits)?;
    read_request(head, &scanner, |parsed| Line::all(head, parsed))
}

/// The same for a head whose end `scanner` has just found, in this buffer: it is not scanned twice, and nothing is allocated.
///
/// # Errors
/// The first broken rule, or if the scanner did not end at the end of `head`.
pub fn parse_scanned_request<'b>(
    head: &'b [u8],
    scanner: &HeadScanner,
    lines: &'b mut RequestLines,
) -> Result<RequestHead<'b>, HeadError> {
    read_request(head, scanner, |parsed| Line::all_in(head, parsed, lines))
}

fn read_request<'b>(
    head: &'b [u8],
    scanner: &HeadScanner,
    lines: impl FnOnce(&[httparse::Header<'b>]) -> Cow<'b, [Line]>,
) -> Result<RequestHead<'b>, HeadError> {
    check_one_head(scanner, head)?;
    let mut slots = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    let status = parsed.parse_with_uninit_headers(head, &mut slots);
    check_parsed(status, head)?;
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(HeadError { offset: 0, fault: HeadFault::RequestLineMalformed });
    };
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let fields = Fields::new(head, lines(parsed.headers));
    request_meaning(method, target, version, fields)
}

/// Parses a response head, exactly the bytes that a scanner delimited. `request_is_head`: the request was a HEAD.
///
/// # Errors
/// The first broken rule. The client gets a 502 for any of them.
pub fn parse_response<'b>(
    head: &'b [u8],
    request_is_head: bool,
    limits: &HeadLimits,
) -> Result<ResponseHead<'b>, HeadError> {
    let mut scanner = HeadScanner::response();
    scanner.scan(head, limits)?;
    read_response(head, request_is_head, &scanner, |parsed| Line::all(head, parsed))
}

/// The same for a head whose end `scanner` has just found, in this buffer: nothing is allocated.
///
/// # Errors
/// The first broken rule, or if the scanner did not end at the end of `head`.
pub fn parse_scanned_response<'b>(
    head: &'b [u8],
    request_is_head: bool,
    scanner: &HeadScanner,
    lines: &'b mut ResponseLines,
) -> Result<ResponseHead<'b>, HeadError> {
    read_response(head, request_is_head, scanner, |parsed| Line::all_in(head, parsed, lines))
}

fn read_response<'b>(
    head: &'b [u8],
    request_is_head: bool,
    scanner: &HeadScanner,
    lines: impl FnOnce(&[httparse::Header<'b>]) -> Cow<'b, [Line]>,
) -> Result<ResponseHead<'b>, HeadError> {
    check_one_head(scanner, head)?;
    let mut slots = [const { MaybeUninit::uninit() }; RESPONSE_FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let status = config.parse_response_with_uninit_headers(&mut parsed, head, &mut slots);
    check_parsed(status, head)?;
    let (Some(status), Some(minor)) = (parsed.code, parsed.version) else {
        return Err(HeadError { offset: 0, fault: HeadFault::StatusMalformed });
    };
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let fields = Fields::new(head, lines(parsed.headers));
    response_meaning(status, version, request_is_head, fields, scanner.repaired())
}

fn check_one_head(scanner: &HeadScanner, head: &[u8]) -> Result<(), HeadError> {
    match scanner.end() {
        Some(end) if end == head.len() => Ok(()),
        end => {
            let offset = end.unwrap_or(head.len());
            Err(HeadError { offset, fault: HeadFault::NotOneHead { bytes: head.len() } })
        }
    }
}

fn check_parsed(status: httparse::Result<usize>, head: &[u8]) -> Result<(), HeadError> {
    let fault = match status {
        Ok(httparse::Status::Complete(n)) if n == head.len() => return Ok(()),
        Ok(_) => HeadFault::NotOneHead { bytes: head.len() },
        Err(error) => HeadFault::Unparsed(error),
    };
    Err(HeadError { offset: 0, fault })
}

fn request_meaning<'b>(
    method: &'b str,
    target: &'b str,
    version: Version,
    mut fields: Fields<'b>,
) -> Result<RequestHead<'b>, HeadError> {
    let line = offset_in(fields.head, method.as_bytes());
    let line_fault = |fault| HeadError { offset: line, fault };
    if !is_served(method) {
        return Err(line_fault(HeadFault::MethodNotServed));
    }
    let parts = TargetParts::split(method, target).map_err(line_fault)?;
    let meaning = Meaning::read(&mut fields, version, true)?;
    let framing = meaning.framing().unwrap_or(Framing::None);
    let named = meaning.host.map(str_of).transpose().map_err(line_fault)?;
    let authority = named.or(parts.authority).ok_or(line_fault(HeadFault::HostMissing))?;
    let (host, port) = parse_authority(authority).map_err(line_fault)?;
    parts.check_authority(named, version).map_err(line_fault)?;
    let bodiless = matches!(method, "GET" | "HEAD" | "DELETE");
    if version == Version::Http10 && bodiless && !matches!(framing, Framing::None | Framing::Length(0)) {
        return Err(line_fault(HeadFault::BodyInHttp10));
    }
    Ok(RequestHead {
        method,
        target,
        path: parts.path,
        query: parts.query,
        version,
        host,
        port,
        authority,
        framing,
        keep_alive: meaning.keep_alive(version),
        expects_continue: meaning.expects && version == Version::Http11 && framing != Framing::None,
        asks_upgrade: meaning.upgrade,
        fields,
    })
}

fn response_meaning(
    status: u16,
    version: Version,
    request_is_head: bool,
    mut fields: Fields<'_>,
    repaired: bool,
) -> Result<ResponseHead<'_>, HeadError> {
    let meaning = Meaning::read(&mut fields, version, false)?;
    let announced = meaning.framing();
    let no_content = matches!(status, 100..=199 | 204);
    let framing = match (announced, no_content || status == 304 || request_is_head) {
        (_, true) => Framing::None,
        (None, false) => Framing::UntilClose,
        (Some(announced), false) => announced,
    };
    // A 1xx or 204 that announces a body may send one, so the bytes after it are not certain.
    let certain = framing != Framing::UntilClose
        && status != 101
        && (!no_content || matches!(announced, None | Some(Framing::Length(0))));
    Ok(ResponseHead {
        status,
        reason: reason(fields.head),
        version,
        length: meaning.length,
        framing,
        keep_alive: certain && !repaired && !meaning.repaired && meaning.keep_alive(version),
        keep_alive_timeout_s: keep_alive_timeout_s(&fields),
        asks_upgrade: meaning.upgrade,
        fields,
    })
}

/// Methods are case-sensitive (RFC 9110 §9.1).
fn is_served(method: &str) -> bool {
    METHODS.contains(&method)
}

/// The text between the status code and the end of the status line.
fn reason(head: &[u8]) -> &[u8] {
    let from_reason = head.get("HTTP/1.1 200 ".len()..).unwrap_or_default();
    let line = head.iter().position(|&byte| matches!(byte, b'\r' | b'\n')).unwrap_or(0);
    from_reason.get(..line.saturating_sub("HTTP/1.1 200 ".len())).unwrap_or_default()
}

fn keep_alive_timeout_s(fields: &Fields<'_>) -> Option<u32> {
    let parameter = |member: &[u8]| {
        let (name, value) = std::str::from_utf8(member).ok()?.split_once('=')?;
        name.trim().eq_ignore_ascii_case("timeout").then(|| value.trim().parse().ok())?
    };
    fields.known(|known| known == Known::KeepAlive).flat_map(list).find_map(parameter)
}

fn parse_authority(authority: &str) -> Result<(Host, Option<u16>), HeadFault> {
    Host::parse_authority(authority).map_err(|_| HeadFault::HostMalformed)
}

fn str_of(bytes: &[u8]) -> Result<&str, HeadFault> {
    std::str::from_utf8(bytes).map_err(|_| HeadFault::HostMalformed)
}

#[cfg(test)]
mod tests;
