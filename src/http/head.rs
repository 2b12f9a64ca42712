//! Heads of requests and responses (RFC 9112 §2 to §5). Input that two parsers could read in two ways is refused and never
//! repaired. A response, which the user's own app sends, may have slips with one reading: lines that end with LF alone, one
//! Content-Length several times. It is written anew, and its connection is not reused.
//!
//! [`HeadScanner`] finds the end of a head while it arrives and refuses what httparse tolerates: LF without CR, CR
//! without LF, control bytes, a second leading empty line, folded lines, a space before the colon, names that are not
//! tokens, and target bytes outside RFC 3986 (and [`TARGET_EXTRA`]). [`parse_request`] and [`parse_response`] then
//! parse in place and decide what the message means: its host, where it ends (RFC 9112 §6.3), whether the connection
//! persists (§9.3). They scan a head themselves if they get it without the scanner that found its end.

use std::mem::MaybeUninit;
use std::ops::Range;

use crate::http::body::Framing;
pub use crate::http::fault::{
    CONNECTION_OPTIONS_MAX, HeadError, HeadFault, HeadLimits, METHOD_BYTES_MAX, Version,
};
use crate::http::field::{Known, has_prefix, same_name};
pub(crate) use crate::http::scan::is_token;
pub use crate::http::scan::{HEAD_BYTES_CEILING, HeadScanner, TARGET_EXTRA};
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

/// One field line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field<'b> {
    /// Name, unchanged: a token.
    pub name: &'b [u8],
    /// Value without surrounding white space.
    pub value: &'b [u8],
    /// The whole line with its CRLF, as offsets in the head.
    pub line: Range<usize>,
    /// What its name means.
    pub(crate) known: Known,
}

/// The field lines of a head, in order; at most `N`. Holds offsets only, 10 bytes a line.
#[derive(Clone, Debug)]
pub struct Fields<'b, const N: usize = FIELDS_MAX> {
    head: &'b [u8],
    lines: heapless::Vec<Line, N>,
    /// The result of [`Fields::connection_options`], found once, because each option is compared with every field name.
    options: heapless::Vec<Span, CONNECTION_OPTIONS_MAX>,
}

/// Offset in a head, and bytes.
type Span = (u16, u16);

/// Offsets of one field line; it ends where the next begins.
#[derive(Clone, Copy, Debug)]
struct Line {
    start: u16,
    name_bytes: u16,
    value: u16,
    value_bytes: u16,
    known: Known,
}

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
    pub fields: Fields<'b, RESPONSE_FIELDS_MAX>,
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
    parse_scanned_request(head, &scanner)
}

/// The same for a head whose end `scanner` has just found, in this buffer: it is not scanned twice.
///
/// # Errors
/// The first broken rule, or if the scanner did not end at the end of `head`.
pub fn parse_scanned_request<'b>(
    head: &'b [u8],
    scanner: &HeadScanner,
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
    let fields = Fields::new(head, parsed.headers);
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
    parse_scanned_response(head, request_is_head, &scanner)
}

/// The same for a head whose end `scanner` has just found, in this buffer.
///
/// # Errors
/// The first broken rule, or if the scanner did not end at the end of `head`.
pub fn parse_scanned_response<'b>(
    head: &'b [u8],
    request_is_head: bool,
    scanner: &HeadScanner,
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
    let fields = Fields::new(head, parsed.headers);
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
    mut fields: Fields<'_, RESPONSE_FIELDS_MAX>,
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

fn keep_alive_timeout_s(fields: &Fields<'_, RESPONSE_FIELDS_MAX>) -> Option<u32> {
    let parameter = |member: &[u8]| {
        let (name, value) = std::str::from_utf8(member).ok()?.split_once('=')?;
        name.trim().eq_ignore_ascii_case("timeout").then(|| value.trim().parse().ok())?
    };
    fields.values("keep-alive").flat_map(list).find_map(parameter)
}

/// The parts of a request target (RFC 9112 §3.2).
struct TargetParts<'b> {
    /// Of an absolute-form.
    authority: Option<&'b str>,
    path: &'b str,
    query: Option<&'b str>,
}

impl<'b> TargetParts<'b> {
    fn split(method: &str, target: &'b str) -> Result<Self, HeadFault> {
        if target.starts_with('/') {
            let (path, query) = split_query(target);
            return Ok(Self { authority: None, path, query });
        }
        let rest = strip_scheme(target).ok_or(HeadFault::TargetForm)?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, local) = rest.split_at(end);
        // RFC 3986 §3.3 lets a path be empty before a query; HAProxy reads the query into the host.
        if local.starts_with('?') {
            return Err(HeadFault::TargetForm);
        }
        let (path, query) = split_query(local);
        // RFC 9112 §3.2.4: it would become `OPTIONS *`, which nginx refuses and no Socket.IO client sends.
        if method == "OPTIONS" && local.is_empty() {
            return Err(HeadFault::TargetForm);
        }
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { authority: Some(authority), path, query })
    }

    /// An absolute-form equals Host (RFC 9112 §3.2: identical), or is alone in HTTP/1.0.
    fn check_authority(&self, named: Option<&str>, version: Version) -> Result<(), HeadFault> {
        match (self.authority, named) {
            (Some(_), None) if version == Version::Http11 => Err(HeadFault::HostMissing),
            (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
                Err(HeadFault::HostDiffers)
            }
            _ => Ok(()),
        }
    }
}

fn split_query(target: &str) -> (&str, Option<&str>) {
    // By bytes: most targets are short, and a character search is made for long ones.
    let end = target.bytes().position(|byte| byte == b'?');
    match end.and_then(|end| Some((target.get(..end)?, target.get(end + 1..)?))) {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    }
}

fn strip_scheme(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_once("://")?;
    let is_ours = scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http");
    is_ours.then_some(rest)
}

fn parse_authority(authority: &str) -> Result<(Host, Option<u16>), HeadFault> {
    Host::parse_authority(authority).map_err(|_| HeadFault::HostMalformed)
}

fn str_of(bytes: &[u8]) -> Result<&str, HeadFault> {
    std::str::from_utf8(bytes).map_err(|_| HeadFault::HostMalformed)
}

/// The fields that decide where a message ends and whether its connection persists.
#[derive(Default)]
struct Meaning<'b> {
    host: Option<&'b [u8]>,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    persist: bool,
    upgrade: bool,
    expects: bool,
    /// One length said several times.
    repaired: bool,
    options: heapless::Vec<&'b [u8], CONNECTION_OPTIONS_MAX>,
}

impl<'b> Meaning<'b> {
    /// Whether a field decides something in a message of this kind.
    fn decides(known: Known, of_request: bool) -> bool {
        match known {
            Known::ContentLength | Known::TransferEncoding | Known::Connection => true,
            Known::Host | Known::Expect => of_request,
            _ => false,
        }
    }

    fn read<const N: usize>(
        fields: &mut Fields<'b, N>,
        version: Version,
        of_request: bool,
    ) -> Result<Self, HeadError> {
        let mut meaning = Self::default();
        for field in fields.iter().filter(|field| Self::decides(field.known, of_request)) {
            let taken = if field.name.contains(&b'_') {
                Err(HeadFault::UnderscoreInName)
            } else if of_request
                && field.known != Known::Connection
                && fields.head.get(field.line.clone()).is_some_and(|line| line.contains(&b'\t'))
            {
                Err(HeadFault::TabInFraming)
            } else {
                meaning.take(field.known, field.value, version, of_request)
            };
            taken.map_err(|fault| HeadError { offset: field.line.start, fault })?;
        }
        let span = |option: &&[u8]| (narrow(offset_in(fields.head, option)), narrow(option.len()));
        fields.options = meaning.options.iter().map(span).collect();
        Ok(meaning)
    }

    fn take(
        &mut self,
        known: Known,
        value: &'b [u8],
        version: Version,
        of_request: bool,
    ) -> Result<(), HeadFault> {
        match known {
            Known::Host if self.host.replace(value).is_some() => Err(HeadFault::HostRepeated),
            Known::ContentLength if of_request => self.take_length(value),
            // RFC 9110 §8.6 lets one length be said several times.
            Known::ContentLength => {
                value.split(|&byte| byte == b',').try_for_each(|one| self.take_equal_length(trim(one)))
            }
            Known::TransferEncoding => self.take_coding(value, version),
            Known::Connection => list(value).try_for_each(|option| self.take_option(option)),
            Known::Expect => self.take_expectations(value, version),
            _ => Ok(()),
        }
    }

    fn take_length(&mut self, value: &[u8]) -> Result<(), HeadFault> {
        let length = decimal(value).ok_or(HeadFault::LengthMalformed)?;
        match (self.chunked, self.length.replace(length)) {
            (true, _) => Err(HeadFault::LengthAndCoding),
            (_, Some(_)) => Err(HeadFault::LengthRepeated),
            _ => Ok(()),
        }
    }

    fn take_equal_length(&mut self, value: &[u8]) -> Result<(), HeadFault> {
        if self.length.is_none() {
            return self.take_length(value);
        }
        self.repaired = true;
        match decimal(value) {
            None => Err(HeadFault::LengthMalformed),
            length if length != self.length => Err(HeadFault::LengthRepeated),
            _ => Ok(()),
        }
    }

    fn take_coding(&mut self, value: &'b [u8], version: Version) -> Result<(), HeadFault> {
        let chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
        let name = |coding: &'b [u8]| trim(coding.split(|&byte| byte == b';').next().unwrap_or_default());
        if version == Version::Http10 {
            Err(HeadFault::CodingInHttp10)
        } else if self.length.is_some() {
            Err(HeadFault::LengthAndCoding)
        } else if std::mem::replace(&mut self.chunked, true) {
            Err(HeadFault::CodingMalformed)
        } else if chunked(value) {
            Ok(())
        } else if list(value)
            .any(|coding| !is_token(name(coding)) || chunked(name(coding)) && !chunked(coding))
        {
            Err(HeadFault::CodingMalformed) // chunked has no parameters (RFC 9112 §7.1)
        } else if list(value).filter(|coding| chunked(coding)).count() == 1
            && list(value).next_back().is_some_and(chunked)
        {
            // `gzip, chunked` is framed correctly, but gzip is not supported
            let alone = list(value).count() == 1;
            Err(if alone { HeadFault::CodingMalformed } else { HeadFault::CodingUnknown })
        } else if list(value).any(chunked) || list(value).next().is_none() {
            Err(HeadFault::CodingMalformed)
        } else {
            Err(HeadFault::CodingUnknown)
        }
    }

    fn take_option(&mut self, option: &'b [u8]) -> Result<(), HeadFault> {
        match option {
            _ if !is_token(option) => return Err(HeadFault::ConnectionMalformed),
            _ if option.eq_ignore_ascii_case(b"close") => self.close = true,
            _ if option.eq_ignore_ascii_case(b"keep-alive") => self.persist = true,
            _ if option.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
            _ if is_end_to_end(option) => return Err(HeadFault::ConnectionNamesField),
            _ => return self.options.push(option).map_err(|_| HeadFault::ConnectionMalformed),
        }
        Ok(())
    }

    /// RFC 9110 §10.1.1: HTTP/1.0 does not know Expect.
    fn take_expectations(&mut self, value: &[u8], version: Version) -> Result<(), HeadFault> {
        self.expects = true;
        let mut members = list(value).map(|member| member.eq_ignore_ascii_case(b"100-continue"));
        let known = members.next().is_some_and(|first| first && members.all(|other| other));
        if known || version == Version::Http10 { Ok(()) } else { Err(HeadFault::ExpectationUnknown) }
    }

    /// RFC 9112 §6.3, 3 to 6; contradictions were refused already.
    fn framing(&self) -> Option<Framing> {
        if self.chunked { Some(Framing::Chunked) } else { self.length.map(Framing::Length) }
    }

    /// RFC 9112 §9.3.
    fn keep_alive(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.persist)
    }
}

/// Fields that Connection must not name, because the message changes without them (RFC 9110 §7.6.1: an option never
/// corresponds to a field that is intended for all recipients).
fn is_end_to_end(option: &[u8]) -> bool {
    const EXACT: [&str; 12] = [
        "content-type",
        "content-encoding",
        "content-range",
        "cookie",
        "set-cookie",
        "authorization",
        "origin",
        "cache-control",
        "range",
        "vary",
        "location",
        "access-control-allow-origin",
    ];
    match Known::of(option) {
        Known::Host | Known::ContentLength | Known::TransferEncoding | Known::Connection | Known::Expect => {
            true
        }
        Known::Forwarding | Known::RealIp => true,
        _ => EXACT.iter().any(|name| same_name(option, name)) || has_prefix(option, "sec-websocket-"),
    }
}

/// Members of a comma-separated list, empty ones left out (RFC 9110 §5.6.1).
pub(crate) fn list(value: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim).filter(|member| !member.is_empty())
}

/// Without surrounding spaces and tabs.
pub(crate) fn trim(value: &[u8]) -> &[u8] {
    let ows = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !ows(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !ows(byte)).map_or(start, |last| last + 1);
    value.get(start..end).unwrap_or_default()
}

/// `1*DIGIT` below 2^63, the limit of other parsers; no sign, no space, no list, and no leading zero, which some read
/// as octal.
fn decimal(value: &[u8]) -> Option<u64> {
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| i64::from(byte - b'0'));
    let append = |number: i64, byte| number.checked_mul(10)?.checked_add(digit(byte)?);
    match value {
        [] | [b'0', _, ..] => None,
        _ => value.iter().try_fold(0, append)?.try_into().ok(),
    }
}

/// Offset of `part` in `whole`, which it was sliced from.
pub(crate) fn offset_in(whole: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr().saturating_sub(whole.as_ptr().addr()).min(whole.len())
}

impl<'b, const N: usize> Fields<'b, N> {
    /// The head was scanned: it has at most [`HEAD_BYTES_CEILING`] bytes and `N` fields.
    fn new(head: &'b [u8], parsed: &[httparse::Header<'b>]) -> Self {
        let lines = parsed.iter().map(|header| Line::new(head, header)).collect();
        Self { head, lines, options: heapless::Vec::new() }
    }

    /// All field lines in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Field<'b>> + '_ {
        (0..self.lines.len()).filter_map(|index| self.at(index))
    }

    /// Values of every line named `name`, in order; case-insensitive.
    pub fn values<'s>(&'s self, name: &'s str) -> impl DoubleEndedIterator<Item = &'b [u8]> + 's {
        let named = move |line: &&Line| self.name(line).eq_ignore_ascii_case(name.as_bytes());
        self.lines.iter().filter(named).map(|line| self.cut(line.value, line.value_bytes))
    }

    /// Values of every line whose name `is_wanted`, in order.
    pub(crate) fn known(&self, is_wanted: impl Fn(Known) -> bool) -> impl Iterator<Item = &'b [u8]> {
        let wanted = move |line: &&Line| is_wanted(line.known);
        self.lines.iter().filter(wanted).map(|line| self.cut(line.value, line.value_bytes))
    }

    /// Number of field lines.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there is no field line.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Connection options other than `close`, `keep-alive` and `upgrade`: names of fields that are removed here.
    pub(crate) fn connection_options(&self) -> impl Iterator<Item = &'b [u8]> + '_ {
        self.options.iter().map(|&(start, bytes)| self.cut(start, bytes))
    }

    /// The bytes that contain the fields.
    pub(crate) fn head(&self) -> &'b [u8] {
        self.head
    }

    /// Where the empty line at the end starts; in a response it may be a single LF.
    pub(crate) fn end(&self) -> usize {
        self.head.len() - usize::from(self.head.ends_with(b"\n")) - usize::from(self.head.ends_with(b"\r\n"))
    }

    fn at(&self, index: usize) -> Option<Field<'b>> {
        let line = self.lines.get(index)?;
        let end = self.lines.get(index + 1).map_or(self.end(), |next| usize::from(next.start));
        let value = self.cut(line.value, line.value_bytes);
        Some(Field { name: self.name(line), value, line: usize::from(line.start)..end, known: line.known })
    }

    fn name(&self, line: &Line) -> &'b [u8] {
        self.cut(line.start, line.name_bytes)
    }

    fn cut(&self, start: u16, bytes: u16) -> &'b [u8] {
        let start = usize::from(start);
        self.head.get(start..start + usize::from(bytes)).unwrap_or_default()
    }
}

/// Lossless: a scanned head is no longer than [`HEAD_BYTES_CEILING`].
fn narrow(offset: usize) -> u16 {
    u16::try_from(offset).unwrap_or(u16::MAX)
}

impl Line {
    fn new(head: &[u8], header: &httparse::Header<'_>) -> Self {
        let name = header.name.as_bytes();
        let value = trim(header.value);
        Self {
            start: narrow(offset_in(head, name)),
            name_bytes: narrow(name.len()),
            value: if value.is_empty() { 0 } else { narrow(offset_in(head, value)) },
            value_bytes: narrow(value.len()),
            known: Known::of(name),
        }
    }
}

#[cfg(test)]
mod tests;
