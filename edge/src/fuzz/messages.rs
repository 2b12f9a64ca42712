//! Properties that hold for any bytes: the entries of the fuzz targets, also used by unit tests and the replay of the
//! corpora. A violated property panics.

#![allow(clippy::panic)] // a fuzz entry has no other way to say no

use std::io::IoSlice;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use crate::fuzz::sloppy;
use crate::http::body::{BodyError, BodyReader, Framing, chunk_head};
use crate::http::changes::FieldChanges;
use crate::http::forward::{ForwardContext, Plan, ResponseForm, request_plan, response_head};
use crate::http::head::{
    HeadError, HeadLimits, HeadScanner, RequestHead, ResponseHead, Version, parse_request, parse_response,
};

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 4096, fields_max: 32, target_bytes_max: 1024 };

/// Room for the fields that the edge adds.
const LIMITS_UPSTREAM: HeadLimits =
    HeadLimits { head_bytes_max: 8192, fields_max: 40, target_bytes_max: 1024 };

/// Scans one head at once and byte by byte, as a request and as a response, and forwards it.
pub fn fuzz_http_head(data: &[u8]) {
    for start in [HeadScanner::request(), HeadScanner::response()] {
        let whole = start.clone().scan(data, &LIMITS);
        assert_eq!(
            whole,
            scan_bytewise(start, data, &LIMITS),
            "the scanner depends on where the head is cut"
        );
        let Ok(Some(n)) = whole else { continue };
        assert!(n <= data.len() && n <= LIMITS.head_bytes_max);
        let head = data.get(..n).unwrap_or_default();
        if start == HeadScanner::request() { forward_request(head) } else { forward_response(head) }
    }
}

/// The same scan, one more byte at each call.
pub(crate) fn scan_bytewise(
    mut scanner: HeadScanner,
    data: &[u8],
    limits: &HeadLimits,
) -> Result<Option<usize>, HeadError> {
    (0..=data.len())
        .map(|n| scanner.scan(data.get(..n).unwrap_or_default(), limits))
        .find(|found| !matches!(found, Ok(None)))
        .unwrap_or(Ok(None))
}

fn forward_request(head: &[u8]) {
    let Ok(request) = parse_request(head, &LIMITS) else { return };
    let trusted = ["127.0.0.0/8".parse().ok(), "10.0.0.0/8".parse().ok()].map(Option::unwrap_or_default);
    for (trusted_proxies, websocket) in [(trusted.as_slice(), false), (&[], false), (&[], true)] {
        let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let context = ForwardContext {
            peer,
            trusted_proxies,
            public_https_port: 443,
            websocket,
            strip_bytes: 0,
            extensions: true,
        };
        let plan = request_plan(&request, &context).unwrap_or_else(|error| panic!("{error}"));
        let sent = written(&plan, head);
        assert_eq!(sent.len(), plan.len());
        for cut in [1, sent.len() / 2, sent.len().saturating_sub(1)] {
            assert_eq!(sent.get(cut..), Some(written_from(&plan, head, cut).as_slice()), "resumed at {cut}");
        }
        assert_same_request(&request, &sent, &context);
    }
}

/// Forwards one request, head and body, and parses the forwarded bytes with two other parsers: httparse at its most
/// lenient, and `sloppy`. The first byte sets what else the edge knows, or that a response is forwarded instead.
pub fn fuzz_http_forward(data: &[u8]) {
    let Some((&flags, request)) = data.split_first() else { return };
    if flags & 8 == 8 {
        let whole = answered_in_pieces(request, usize::MAX);
        for piece_bytes in [1, usize::from(flags >> 4) + 2] {
            assert_eq!(
                whole,
                answered_in_pieces(request, piece_bytes),
                "the answer depends on where it is cut"
            );
        }
        return whole.iter().for_each(assert_one_answer);
    }
    for piece_bytes in [usize::MAX, 1, usize::from(flags >> 4) + 2] {
        let Some(sent) = forwarded_in_pieces(request, flags, piece_bytes) else { continue };
        let (Ok(Some(end)), Ok(Some(sent_end))) = (
            HeadScanner::request().scan(request, &LIMITS),
            HeadScanner::request().scan(&sent, &LIMITS_UPSTREAM),
        ) else {
            panic!("forwarded without a head")
        };
        let head =
            parse_request(request.get(..end).unwrap_or_default(), &LIMITS).unwrap_or_else(|e| panic!("{e}"));
        let body = read_in_pieces(head.framing, request.get(end..).unwrap_or_default(), 1);
        let body = body.unwrap_or_else(|error| panic!("{error}"));
        for length_first in [true, false] {
            let read = sloppy::read(&sent, length_first).unwrap_or_else(|| panic!("incomplete"));
            assert_eq!(read.method, head.method.as_bytes());
            assert!(read.target.ends_with(head.query.unwrap_or(head.path).as_bytes()));
            assert_eq!(read.body, body.data, "another body, length first: {length_first}");
            assert_eq!(read.bytes, sent.len(), "bytes behind the request, length first: {length_first}");
        }
        assert_lenient_reads_the_same(sent.get(..sent_end).unwrap_or_default());
    }
}

/// What a client gets of one response.
#[derive(Debug, PartialEq, Eq)]
struct Answered {
    sent: Vec<u8>,
    body: Vec<u8>,
    /// The upstream's connection can be used again.
    kept: bool,
}

/// The response to a GET of HTTP/1.1, forwarded as the edge does; `None` where it is refused or not complete.
fn answered_in_pieces(response: &[u8], piece_bytes: usize) -> Option<Answered> {
    let mut scanner = HeadScanner::response();
    let end = scanner.scan(response, &LIMITS).ok()??;
    let (head, rest) = response.split_at_checked(end)?;
    let head = parse_response(head, false, &LIMITS).ok()?;
    let chunked = matches!(head.framing, Framing::Chunked | Framing::UntilClose);
    let framing_out = if chunked { Framing::Chunked } else { head.framing };
    let mut sent = Vec::new();
    let form = ResponseForm {
        client_version: Version::Http11,
        keep_alive: true,
        framing_out,
        websocket: false,
        changes: None,
    };
    response_head(&head, &form, &mut sent);
    let (mut reader, mut body, mut used) = (BodyReader::of_response(head.framing), Vec::new(), 0);
    for piece in rest.chunks(piece_bytes) {
        let mut at = 0;
        while !reader.is_done() && at < piece.len() {
            let step = reader.step(piece.get(at..)?).ok()?;
            body.extend_from_slice(piece.get(at..)?.get(step.data)?);
            at += step.consumed;
            used += step.consumed;
        }
    }
    reader.end().ok()?;
    if chunked && !body.is_empty() {
        sent.extend_from_slice(chunk_head(body.len(), &mut [0; 20]));
        sent.extend_from_slice(&body);
        sent.extend_from_slice(b"\r\n");
    } else {
        sent.extend_from_slice(&body);
    }
    if chunked {
        sent.extend(reader.last_chunk().concat());
    }
    let kept = head.keep_alive && !reader.repaired() && used == rest.len();
    assert!(!kept || head.framing != Framing::UntilClose);
    Some(Answered { sent, body, kept })
}

/// One response and nothing behind it, to a reader without mercy and to one that takes anything.
fn assert_one_answer(answered: &Answered) {
    let sent = answered.sent.as_slice();
    let mut scanner = HeadScanner::response();
    let Ok(Some(end)) = scanner.scan(sent, &LIMITS_UPSTREAM) else { panic!("a head that nobody can read") };
    let (head_bytes, rest) = sent.split_at_checked(end).unwrap_or_default();
    assert_strict(head_bytes);
    let head = parse_response(head_bytes, false, &LIMITS_UPSTREAM).unwrap_or_else(|error| panic!("{error}"));
    let body = read_in_pieces(head.framing, rest, 3).unwrap_or_else(|error| panic!("{error}"));
    assert!(body.done && body.consumed == rest.len() && body.data == answered.body, "{body:?}");
    if matches!(head.status, 100..=199 | 204 | 304) {
        return; // a length, where there is one, is of another response
    }
    for length_first in [true, false] {
        let read = sloppy::read(sent, length_first).unwrap_or_else(|| panic!("incomplete"));
        assert_eq!(
            (read.body, read.bytes),
            (answered.body.clone(), sent.len()),
            "length first: {length_first}"
        );
    }
}

/// Lines end with CR LF and nothing else, and there is one length at most.
fn assert_strict(head: &[u8]) {
    let mut before = 0;
    for &byte in head {
        assert!(byte != b'\n' || before == b'\r', "LF alone");
        assert!(before != b'\r' || byte == b'\n', "CR alone");
        before = byte;
    }
    let names = head.split(|&byte| byte == b'\n').filter_map(|line| line.split(|&byte| byte == b':').next());
    let lengths = names.filter(|name| name.trim_ascii().eq_ignore_ascii_case(b"content-length"));
    assert!(lengths.count() <= 1, "two lengths");
}

/// httparse at its most lenient finds the same fields.
fn assert_lenient_reads_the_same(sent: &[u8]) {
    let mut config = httparse::ParserConfig::default();
    config.allow_multiple_spaces_in_request_line_delimiters(true).ignore_invalid_headers_in_requests(true);
    let mut slots = [httparse::EMPTY_HEADER; 64];
    let mut lenient = httparse::Request::new(&mut slots);
    assert_eq!(config.parse_request(&mut lenient, sent), Ok(httparse::Status::Complete(sent.len())));
    let ours = parse_request(sent, &LIMITS_UPSTREAM).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((lenient.method, lenient.path), (Some(ours.method), Some(ours.target)));
    assert_eq!(lenient.headers.len(), ours.fields.len());
    for (theirs, ours) in lenient.headers.iter().zip(ours.fields.iter()) {
        assert_eq!((theirs.name.as_bytes(), theirs.value.trim_ascii()), (ours.name, ours.value.trim_ascii()));
    }
}

/// The bytes forwarded for the request in `request`; `None` if it is refused or incomplete. For tests with other
/// programs.
pub fn forwarded(request: &[u8]) -> Option<Vec<u8>> {
    forwarded_in_pieces(request, 0, usize::MAX)
}

fn forwarded_in_pieces(request: &[u8], flags: u8, piece_bytes: usize) -> Option<Vec<u8>> {
    let end = HeadScanner::request().scan(request, &LIMITS).ok()??;
    let (head_bytes, rest) = request.split_at_checked(end)?;
    let head = parse_request(head_bytes, &LIMITS).ok()?;
    let trusted = ["127.0.0.0/8".parse().ok()].map(Option::unwrap_or_default);
    let context = ForwardContext {
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        trusted_proxies: if flags & 1 == 1 { &trusted } else { &[] },
        public_https_port: 443,
        websocket: flags & 2 == 2 && head.framing == Framing::None,
        strip_bytes: 0,
        extensions: flags & 4 == 4,
    };
    let mut sent = written(&request_plan(&head, &context).ok()?, head_bytes);
    let mut reader = BodyReader::new(head.framing);
    for piece in rest.chunks(piece_bytes) {
        let mut at = 0;
        while !reader.is_done() && at < piece.len() {
            let step = reader.step(piece.get(at..)?).ok()?;
            let data = piece.get(at..)?.get(step.data)?;
            if head.framing == Framing::Chunked && !data.is_empty() {
                sent.extend_from_slice(chunk_head(data.len(), &mut [0; 20]));
                sent.extend_from_slice(data);
                sent.extend_from_slice(b"\r\n");
            } else {
                sent.extend_from_slice(data);
            }
            at += step.consumed;
        }
    }
    if head.framing == Framing::Chunked && reader.is_done() {
        sent.extend(reader.last_chunk().concat());
    }
    reader.is_done().then_some(sent)
}

/// The bytes of a plan, as writes of at most three slices would send them.
pub(crate) fn written(plan: &Plan, head: &[u8]) -> Vec<u8> {
    written_from(plan, head, 0)
}

fn written_from(plan: &Plan, head: &[u8], from: usize) -> Vec<u8> {
    let mut sent = Vec::new();
    loop {
        let mut slices: heapless::Vec<IoSlice<'_>, 3> = heapless::Vec::new();
        plan.slices(head, from + sent.len(), &mut slices);
        if slices.is_empty() {
            return sent;
        }
        slices.iter().for_each(|slice| sent.extend_from_slice(slice));
    }
}

/// The forwarded bytes are one equivalent head, with our fields once.
fn assert_same_request(request: &RequestHead<'_>, sent: &[u8], context: &ForwardContext<'_>) {
    let again = parse_request(sent, &LIMITS_UPSTREAM).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((again.method, again.version), (request.method, Version::Http11));
    assert_eq!((again.path, again.query), (request.path, request.query));
    assert!(again.target.starts_with('/'), "{}", again.target);
    assert_eq!((again.framing, &again.host, again.port), (request.framing, &request.host, request.port));
    assert_eq!(again.asks_upgrade, context.websocket);
    let trusted = context.trusted_proxies.iter().any(|network| network.contains(&context.peer));
    for name in ["x-real-ip", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port"]
    {
        assert_eq!(again.fields.values(name).count(), 1, "{name}, trusted: {trusted}");
    }
    let gone = ["te", "keep-alive", "trailer", "proxy-connection", "x_forwarded_for", "x_real_ip"];
    assert!(gone.iter().all(|name| again.fields.values(name).next().is_none()));
    for name in ["cookie", "accept", "origin", "sec-websocket-key", "content-length", "host"] {
        let named =
            request.fields.connection_options().any(|option| option.eq_ignore_ascii_case(name.as_bytes()));
        let sent: Vec<_> = again.fields.values(name).collect();
        let came: Vec<_> = request.fields.values(name).collect();
        assert!(named || sent == came || (name == "host" && came.is_empty()), "{name} changed");
    }
}

fn forward_response(head: &[u8]) {
    for (request_is_head, client_version) in
        [(false, Version::Http11), (false, Version::Http10), (true, Version::Http11)]
    {
        let Ok(response) = parse_response(head, request_is_head, &LIMITS) else { continue };
        let framing_out = match (response.framing, client_version) {
            (Framing::UntilClose, Version::Http11) => Framing::Chunked,
            (Framing::Chunked, Version::Http10) => Framing::UntilClose,
            (framing, _) => framing,
        };
        let keep_alive = framing_out != Framing::UntilClose;
        for changes in [None, Some(&*CHANGES)] {
            let form = ResponseForm { client_version, keep_alive, framing_out, websocket: false, changes };
            let mut sent = Vec::new();
            response_head(&response, &form, &mut sent);
            assert_same_response(&response, &sent, request_is_head, framing_out);
            assert!(changes.is_none() || is_changed(&sent, request_is_head), "{}", sent.escape_ascii());
        }
    }
}

/// One field set and one removed.
static CHANGES: LazyLock<FieldChanges> = LazyLock::new(|| {
    let changes = [("X-Frame-Options", Some("DENY")), ("server", None)];
    FieldChanges::of(changes.into_iter()).unwrap_or_else(|| panic!("there are changes"))
});

fn is_changed(sent: &[u8], request_is_head: bool) -> bool {
    let Ok(head) = parse_response(sent, request_is_head, &LIMITS_UPSTREAM) else { return false };
    let values = |name| head.fields.values(name).collect::<Vec<_>>();
    values("x-frame-options") == [b"DENY"] && values("server").is_empty()
}

/// The bytes for the client are one equivalent head.
fn assert_same_response(
    response: &ResponseHead<'_>,
    sent: &[u8],
    request_is_head: bool,
    framing_out: Framing,
) {
    let again =
        parse_response(sent, request_is_head, &LIMITS_UPSTREAM).unwrap_or_else(|error| panic!("{error}"));
    assert_strict(sent);
    assert_eq!((again.status, again.reason), (response.status, response.reason));
    let carries_length = !matches!(again.status, 100..=199 | 204);
    assert!(!carries_length || again.length == response.length, "another length");
    let names =
        |head: &ResponseHead<'_>| head.fields.values("set-cookie").map(<[u8]>::to_vec).collect::<Vec<_>>();
    let named = response.fields.connection_options().any(|option| option.eq_ignore_ascii_case(b"set-cookie"));
    assert!(named || names(&again) == names(response), "cookies changed");
    assert_eq!(again.framing, framing_out);
    assert!(again.fields.values("sanedge-error").next().is_none());
    assert!(again.fields.values("keep-alive").next().is_none());
}

/// Reads one body (its framing chosen by the first byte) at once, in pieces and byte by byte, and forwards it.
pub fn fuzz_http_body(data: &[u8]) {
    let Some((&choice, input)) = data.split_first() else { return };
    let framing = match choice % 4 {
        0 => Framing::Chunked,
        1 => Framing::Length(u64::from(choice)),
        2 => Framing::UntilClose,
        _ => Framing::None,
    };
    let pieces = usize::from(choice) % 7 + 1;
    let whole = read_in_pieces(framing, input, input.len().max(1));
    fuzz_response_body(framing, input, pieces, &whole);
    assert_eq!(whole, read_in_pieces(framing, input, 1), "the body depends on where it is cut");
    assert_eq!(whole, read_in_pieces(framing, input, pieces), "the body depends on where it is cut");
    let Ok(whole) = whole else { return };
    assert!(whole.consumed <= input.len() && whole.data.len() <= whole.consumed);
    assert!(whole.done || whole.consumed == input.len());
    if let (Framing::Length(bytes), true) = (framing, whole.done) {
        assert_eq!(whole.data.len() as u64, bytes);
    }
    if whole.done {
        assert_reframes(&whole);
    }
}

/// A response's body: what a strict reader takes is the same to the other; what that reads over is written anew.
fn fuzz_response_body(framing: Framing, input: &[u8], pieces: usize, strict: &Result<Whole, BodyError>) {
    let reader = || BodyReader::of_response(framing);
    let whole = read_with(reader(), input, input.len().max(1));
    assert_eq!(whole, read_with(reader(), input, 1), "the body depends on where it is cut");
    assert_eq!(whole, read_with(reader(), input, pieces), "the body depends on where it is cut");
    assert!(strict.is_err() || *strict == whole, "a good body is another to the reader of responses");
    if let Ok(whole) = whole
        && whole.done
    {
        assert_reframes(&whole);
    }
}

/// A body read to its end, or to the end of the input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    pub(crate) data: Vec<u8>,
    pub(crate) trailers: Vec<u8>,
    pub(crate) consumed: usize,
    pub(crate) done: bool,
}

pub(crate) fn read_in_pieces(framing: Framing, input: &[u8], piece_bytes: usize) -> Result<Whole, BodyError> {
    read_with(BodyReader::new(framing), input, piece_bytes)
}

pub(crate) fn read_with(
    mut reader: BodyReader,
    input: &[u8],
    piece_bytes: usize,
) -> Result<Whole, BodyError> {
    let mut whole = Whole { data: Vec::new(), trailers: Vec::new(), consumed: 0, done: reader.is_done() };
    for piece in input.chunks(piece_bytes) {
        let mut rest = piece;
        while !whole.done && !rest.is_empty() {
            let step = reader.step(rest)?;
            assert!(step.data.start <= step.data.end && step.data.end <= step.consumed);
            assert!(step.consumed > 0, "no progress");
            whole.data.extend_from_slice(rest.get(step.data).unwrap_or_default());
            whole.consumed += step.consumed;
            whole.done = step.done;
            rest = rest.get(step.consumed..).unwrap_or_default();
        }
    }
    whole.trailers = reader.trailers().to_vec();
    Ok(whole)
}

/// The forwarded bytes read as the same body.
pub(crate) fn assert_reframes(whole: &Whole) {
    let mut sent = Vec::new();
    for chunk in whole.data.chunks(7) {
        sent.extend_from_slice(chunk_head(chunk.len(), &mut [0; 20]));
        sent.extend_from_slice(chunk);
        sent.extend_from_slice(b"\r\n");
    }
    sent.extend_from_slice(&[b"0\r\n", whole.trailers.as_slice(), b"\r\n"].concat());
    let consumed = sent.len();
    let again = read_in_pieces(Framing::Chunked, &sent, 3);
    let expected = Whole { data: whole.data.clone(), trailers: whole.trailers.clone(), consumed, done: true };
    assert_eq!(again, Ok(expected));
}
