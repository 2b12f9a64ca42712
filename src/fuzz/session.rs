//! A whole session without its sockets, for the fuzz target: a client's bytes and an upstream's bytes, cut anywhere,
//! through the parts of the core in the order in which `edge::session`, `edge::exchange` and `edge::relay` ask them.
//! (The edge's own tasks are bound to TCP; what only they do, timing and back-pressure, is tested against the program.)

#![allow(clippy::panic)] // a fuzz entry has no other way to say no

use std::net::{IpAddr, Ipv4Addr};

use crate::bundle::{Origins, Route, Site};
use crate::fuzz::http::written;
use crate::fuzz::sloppy;
use crate::http::answer::{self, AnswerForm, Detail, Problem};
use crate::http::body::{BodyError, BodyReader, Framing, LAST_CHUNK, chunk_head};
use crate::http::forward::{ForwardContext, ResponseForm, request_plan, response_head};
use crate::http::head::{
    HeadLimits, HeadScanner, RequestHead, ResponseHead, Version, parse_response, parse_scanned_request,
    parse_scanned_response,
};
use crate::names::Host;
use crate::route;
use crate::ws::handshake::{self, Offer};
use crate::ws::origin;
use crate::ws::tracker::{Direction, Extensions, Rules, Then, Tracker};

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 4096, fields_max: 32, target_bytes_max: 1024 };
const ROOMY: HeadLimits = HeadLimits { head_bytes_max: 8192, fields_max: 48, target_bytes_max: 1024 };
/// As the edge has it.
const INTERIM_MAX: usize = 8;
const REQUESTS_MAX: usize = 8;

/// Bytes that come in pieces.
struct Feed<'b> {
    rest: &'b [u8],
    held: Vec<u8>,
    piece_bytes: usize,
}

/// Data, and the trailer lines that pass.
type Body = (Vec<u8>, Vec<u8>);

/// What came of a session.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    /// What went upstream, by connection; whether it was a whole request.
    upstream: Vec<(Vec<u8>, bool)>,
    /// What went to the client; bodies as one chunk.
    client: Vec<u8>,
    /// Methods of the requests that were answered in full, ours among them.
    answered: Vec<String>,
    upgraded: bool,
}

impl<'b> Feed<'b> {
    fn new(rest: &'b [u8], piece_bytes: usize) -> Self {
        Self { rest, held: Vec::new(), piece_bytes: piece_bytes.max(1) }
    }

    /// One more piece; `false`: the sender has ended.
    fn more(&mut self) -> bool {
        let (piece, rest) = self.rest.split_at(self.piece_bytes.min(self.rest.len()));
        self.held.extend_from_slice(piece);
        self.rest = rest;
        !piece.is_empty()
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        self.held.drain(..count.min(self.held.len())).collect()
    }

    /// A body; `Err` where it breaks a rule, `Ok(None)` where it ends too early.
    fn body(&mut self, mut reader: BodyReader) -> Result<Option<Body>, BodyError> {
        let mut data = Vec::new();
        while !reader.is_done() {
            let step = reader.step(&self.held)?;
            data.extend_from_slice(self.held.get(step.data).unwrap_or_default());
            self.held.drain(..step.consumed);
            if step.consumed == 0 && !self.more() {
                return Ok(reader.end().is_ok().then_some((data, Vec::new())));
            }
        }
        Ok(Some((data, reader.trailers().to_vec())))
    }
}

fn site() -> Site {
    let route = Route {
        path: "/".to_owned(),
        strip_prefix: false,
        upstreams: Vec::new(),
        origins: Origins::default(),
        allow: Vec::new(),
        rules: crate::limits::Rules::default(),
    };
    let inner = Route { path: "/a/".to_owned(), ..route.clone() };
    Site { routes: vec![route, inner] }
}

/// Two streams, the client's and the upstream's, behind two bytes that say where the second begins and how they are cut.
/// However they are cut, the same goes out, and others read in it what we meant.
pub fn fuzz_session(data: &[u8]) {
    let Some((&[cut, pieces], streams)) = data.split_first_chunk::<2>() else { return };
    let at = streams.len() * usize::from(cut) / 255;
    let (client, upstream) = streams.split_at(at.min(streams.len()));
    let whole = run(client, upstream, usize::MAX);
    assert_eq!(whole, run(client, upstream, 1), "the session depends on where it is cut");
    assert_eq!(whole, run(client, upstream, usize::from(pieces)), "the session depends on where it is cut");
    check_upstream(&whole);
    check_client(&whole);
}

/// One request on each connection, to every reader.
fn check_upstream(outcome: &Outcome) {
    for (sent, complete) in outcome.upstream.iter().filter(|(_, complete)| *complete) {
        for length_first in [true, false] {
            let read = sloppy::read(sent, length_first);
            assert_eq!(read.map(|read| read.bytes), Some(sent.len()), "complete: {complete}");
        }
    }
}

/// As many final responses as were given, one behind the other.
fn check_client(outcome: &Outcome) {
    let (mut rest, mut finals) = (outcome.client.as_slice(), 0);
    while !rest.is_empty() {
        let mut scanner = HeadScanner::response();
        let end = scanner.scan(rest, &ROOMY);
        assert!(!scanner.repaired(), "a slip of the upstream's has passed");
        let Ok(Some(end)) = end else { panic!("a response that nobody can read: {end:?}") };
        let method = outcome.answered.get(finals).map_or("GET", String::as_str);
        let (head, behind) = rest.split_at(end);
        let head = parse_response(head, method == "HEAD", &ROOMY).unwrap_or_else(|error| panic!("{error}"));
        rest = behind;
        if head.status == 101 {
            assert!(outcome.upgraded && rest.is_empty());
            return;
        }
        if head.status >= 200 {
            finals += 1;
            let mut feed = Feed::new(rest, usize::MAX);
            let body = feed.body(BodyReader::new(head.framing));
            assert!(matches!(body, Ok(Some(_))), "a response without an end: {body:?}");
            rest = rest.get(rest.len() - feed.held.len() - feed.rest.len()..).unwrap_or_default();
        }
    }
    assert_eq!(finals, outcome.answered.len(), "responses");
}

fn run(client: &[u8], upstream: &[u8], piece_bytes: usize) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut client, mut upstream) = (Feed::new(client, piece_bytes), Feed::new(upstream, piece_bytes));
    let site = site();
    for _ in 0..REQUESTS_MAX {
        if !exchange(&mut client, &mut upstream, &site, &mut outcome) {
            break;
        }
    }
    outcome
}

/// An answer of ours; whether the connection goes on.
fn answer(problem: Problem, method: &str, close: bool, outcome: &mut Outcome) -> bool {
    let form = AnswerForm { html: false, close, head_only: method == "HEAD" };
    answer::write(problem, &Detail::default(), form, &mut outcome.client);
    outcome.answered.push(method.to_owned());
    !close
}

/// One request and its response; whether another may follow.
fn exchange(client: &mut Feed<'_>, upstream: &mut Feed<'_>, site: &Site, outcome: &mut Outcome) -> bool {
    let mut scanner = HeadScanner::request();
    let end = loop {
        match scanner.scan(&client.held, &LIMITS) {
            Ok(Some(end)) => break end,
            Err(error) => return answer(error.problem(), "", true, outcome),
            Ok(None) if client.more() => {}
            Ok(None) => return false,
        }
    };
    let head = client.take(end);
    let request = match parse_scanned_request(&head, &scanner) {
        Ok(request) => request,
        Err(error) => return answer(error.problem(), "", true, outcome),
    };
    let offer = match decide(&request, site) {
        Ok(offer) => offer,
        Err(problem) => {
            let close = request.framing != Framing::None
                || !request.keep_alive
                || request.fields.values("upgrade").next().is_some();
            return answer(problem, request.method, close, outcome);
        }
    };
    let context = ForwardContext {
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        trusted_proxies: &[],
        public_https_port: 443,
        websocket: offer.is_some(),
        strip_bytes: 0,
        extensions: true,
    };
    let plan = request_plan(&request, &context).unwrap_or_else(|error| panic!("{error}"));
    outcome.upstream.push((written(&plan, &head), false));
    let body = match client.body(BodyReader::new(request.framing)) {
        Ok(Some(body)) => body,
        Ok(None) => return false,
        Err(_) => return answer(Problem::BadRequest, request.method, true, outcome),
    };
    if let Some((sent, complete)) = outcome.upstream.last_mut() {
        push_body(&body, request.framing, sent);
        *complete = true;
    }
    respond(&request, offer.as_ref(), client, upstream, outcome)
}

fn decide(request: &RequestHead<'_>, site: &Site) -> Result<Option<Offer>, Problem> {
    let host = Host::parse("a.test").unwrap_or_else(|error| panic!("{error}"));
    route::check_host(&request.host, Some(&host), &[]).map_err(|_| Problem::Misdirected)?;
    let found = route::find(site, request.path.as_bytes()).map_err(|_| Problem::AmbiguousPath)?;
    let (_, route) = found.ok_or(Problem::UnknownPath)?;
    let offer = handshake::request(request, true).map_err(|error| error.problem())?;
    if offer.is_some() {
        origin::check(&route.origins, |_| false, false, request).map_err(|_| Problem::OriginRefused)?;
    }
    Ok(offer)
}

fn push_body((data, trailers): &Body, framing: Framing, out: &mut Vec<u8>) {
    if framing != Framing::Chunked {
        return out.extend_from_slice(data);
    }
    if !data.is_empty() {
        out.extend_from_slice(chunk_head(data.len(), &mut [0; 20]));
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
    match trailers.is_empty() {
        true => out.extend_from_slice(LAST_CHUNK),
        false => {
            [b"0\r\n", trailers.as_slice(), b"\r\n"].iter().for_each(|piece| out.extend_from_slice(piece))
        }
    }
}

fn respond(
    request: &RequestHead<'_>,
    offer: Option<&Offer>,
    client: &mut Feed<'_>,
    upstream: &mut Feed<'_>,
    outcome: &mut Outcome,
) -> bool {
    let is_head = request.method == "HEAD";
    for _ in 0..=INTERIM_MAX {
        let mut scanner = HeadScanner::response();
        let end = loop {
            match scanner.scan(&upstream.held, &LIMITS) {
                Ok(Some(end)) => break end,
                Err(_) => return answer(Problem::UpstreamMalformed, request.method, true, outcome),
                Ok(None) if upstream.more() => {}
                Ok(None) => return answer(Problem::UpstreamClosed, request.method, true, outcome),
            }
        };
        let head = upstream.take(end);
        let Ok(response) = parse_scanned_response(&head, is_head, &scanner) else {
            return answer(Problem::UpstreamMalformed, request.method, true, outcome);
        };
        if response.status >= 200 {
            return finish(request, offer.is_some(), &response, upstream, outcome);
        }
        if response.status == 101 {
            let good = offer.is_some_and(|offer| handshake::response(offer, request, &response).is_ok());
            if !good {
                return answer(Problem::UpstreamMalformed, request.method, true, outcome);
            }
            push_head(request, &response, Framing::None, true, outcome);
            outcome.upgraded = true;
            let extensions = handshake::negotiated(&response);
            relay(client, Direction::FromClient, extensions);
            relay(upstream, Direction::FromUpstream, extensions);
            return false;
        }
        if request.version == Version::Http11 {
            push_head(request, &response, Framing::None, true, outcome);
        }
    }
    answer(Problem::UpstreamMalformed, request.method, true, outcome)
}

fn push_head(
    request: &RequestHead<'_>,
    response: &ResponseHead<'_>,
    framing_out: Framing,
    keep_alive: bool,
    outcome: &mut Outcome,
) {
    let websocket = response.status == 101;
    let form = ResponseForm { client_version: request.version, keep_alive, framing_out, websocket };
    response_head(response, &form, &mut outcome.client);
}

fn finish(
    request: &RequestHead<'_>,
    is_upgrade: bool,
    response: &ResponseHead<'_>,
    upstream: &mut Feed<'_>,
    outcome: &mut Outcome,
) -> bool {
    let framing_out = match (response.framing, request.version) {
        (Framing::Chunked | Framing::UntilClose, Version::Http11) => Framing::Chunked,
        (Framing::Chunked | Framing::UntilClose, Version::Http10) => Framing::UntilClose,
        (framing, _) => framing,
    };
    let keep = request.keep_alive && !is_upgrade && framing_out != Framing::UntilClose;
    let before = outcome.client.len();
    push_head(request, response, framing_out, keep, outcome);
    let Ok(Some(body)) = upstream.body(BodyReader::of_response(response.framing)) else {
        outcome.client.truncate(before); // it breaks off: what was said has no end, and nothing follows
        return false;
    };
    push_body(&body, framing_out, &mut outcome.client);
    outcome.answered.push(request.method.to_owned());
    keep
}

/// Frames until a Close, a broken rule, or the end. Never more passes than came.
fn relay(side: &mut Feed<'_>, direction: Direction, extensions: Extensions) {
    let rules = Rules { frame_bytes_max: 1000, message_bytes_max: 2000, check_utf8: false, extensions };
    let mut tracker = Tracker::new(direction, rules);
    loop {
        let piece = side.take(usize::MAX);
        let tracked = tracker.track(&piece);
        assert!(tracked.pass <= piece.len());
        match tracked.then {
            Then::More if side.more() => {}
            Then::OurPong(_) | Then::Boundary => panic!("nobody asked for it"),
            _ => return,
        }
    }
}
