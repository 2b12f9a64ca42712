//! Properties that hold for any bytes: the entries of the fuzz targets, also used by unit tests and the replay of the
//! corpora. A violated property panics.

#![allow(clippy::panic)] // a fuzz entry has no other way to say no

use std::io::IoSlice;
use std::net::{IpAddr, Ipv4Addr};

use crate::fuzz::sloppy;
use crate::http::body::{BodyError, BodyReader, Framing, chunk_head};
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
/// lenient, and `sloppy`. The first byte sets what else the edge knows.
pub fn fuzz_http_forward(data: &[u8]) {
    let Some((&flags, request)) = data.split_first() else { return };
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
        let count = again.fields.values(name).count();
        assert!(count == 1 || (count > 1 && trusted), "{count} times {name}");
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
        let mut sent = Vec::new();
        response_head(
            &response,
            &ResponseForm { client_version, keep_alive, framing_out, websocket: false },
            &mut sent,
        );
        assert_same_response(&response, &sent, request_is_head, framing_out);
    }
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
    assert_eq!((again.status, again.reason), (response.status, response.reason));
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

/// A body read to its end, or to the end of the input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    pub(crate) data: Vec<u8>,
    pub(crate) trailers: Vec<u8>,
    pub(crate) consumed: usize,
    pub(crate) done: bool,
}

pub(crate) fn read_in_pieces(framing: Framing, input: &[u8], piece_bytes: usize) -> Result<Whole, BodyError> {
    let mut reader = BodyReader::new(framing);
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
