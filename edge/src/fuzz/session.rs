//! What must hold for a whole session, whatever its client and its upstreams say, wherever that is cut, and whatever goes wrong.
//! The session is that of a [`simulated_edge`](crate::fuzz::simulated_edge)'s.

#![allow(clippy::panic)] // a fuzz entry has no other way to say no

use std::sync::LazyLock;

use ipnet::IpNet;

use crate::fuzz::simulated_edge::{Ended, LIMITS, Record, Script, SimulatedEdge, Trouble, route};
use crate::fuzz::sloppy;
use crate::http::answer::Problem;
use crate::http::body::BodyReader;
use crate::http::head::{HeadLimits, HeadScanner, parse_request, parse_response};
use crate::ws::frame::{Decoded, Opcode, decode};

/// Room for what the edge adds.
const ROOMY: HeadLimits = HeadLimits { head_bytes_max: 8192, fields_max: 48, target_bytes_max: 1024 };
/// Between what one upstream connection says and the next.
const NEXT_UPSTREAM: u8 = 0x1e;
const UPSTREAMS_MAX: usize = 8;

static EDGE: LazyLock<SimulatedEdge> = LazyLock::new(|| {
    let (mut small, mut stripped) = (route("/small/"), route("/stripped/"));
    small.rules.body_bytes_max = Some(20);
    stripped.strip_prefix = true;
    let mut private = route("/private/");
    private.allow.extend("192.0.2.0/24".parse::<IpNet>());
    SimulatedEdge::new("a.test", vec![stripped, private, small, route("/a/"), route("/")], LIMITS)
});

/// A message: head, data, and the trailer lines that passed.
type Message = (Vec<u8>, Vec<u8>, Vec<u8>);

/// Two streams, the client's and the upstream's, behind two bytes: where the second begins; how they are cut, and what goes
/// wrong. However they are cut, the same goes out, and others read in it what we meant.
pub fn fuzz_session(data: &[u8]) {
    let Some((&[cut, pieces], streams)) = data.split_first_chunk::<2>() else { return };
    let at = streams.len() * usize::from(cut) / 255;
    let (client, upstream) = streams.split_at(at.min(streams.len()));
    let upstreams: Vec<&[u8]> = upstream.split(|byte| *byte == NEXT_UPSTREAM).take(UPSTREAMS_MAX).collect();
    let run = |piece_bytes, trouble| {
        let record = EDGE.run(&Script { client, upstreams: &upstreams, piece_bytes, trouble });
        check_frames(&record, client, &upstreams);
        record
    };
    let whole = run(usize::MAX, Trouble::None);
    let expected = Outcome::of(&whole);
    for piece_bytes in [1, usize::from(pieces).max(2)] {
        let outcome = Outcome::of(&run(piece_bytes, Trouble::None));
        assert_eq!(expected, outcome, "the session depends on where it is cut");
    }
    let trouble = Trouble::ALL.get(usize::from(pieces) % Trouble::ALL.len()).copied();
    let troubled = Outcome::of(&run(usize::from(pieces).max(1), trouble.unwrap_or(Trouble::None)));
    // What an upstream takes for a whole request is one that the client has said, whatever becomes of both.
    for (said, meant) in troubled.requests.iter().zip(&expected.requests) {
        assert!(said.is_none() || said == meant || meant.is_none(), "{said:?} is not {meant:?}");
    }
}

/// What must not depend on where streams are cut.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    /// By upstream connection: the request, if it was whole.
    requests: Vec<Option<Message>>,
    /// What the client got before a response that broke off.
    responses: Vec<Message>,
    /// The last of all: whether it failed at the upstream, before the response or within it.
    ends: Vec<(String, Option<Ended>)>,
}

impl Outcome {
    fn of(record: &Record) -> Self {
        let upgraded = |at: usize| record.frames.filter(|_| at + 1 == record.upstream.len());
        let head = |at, sent: &[u8]| upgraded(at).map_or(sent.len(), |frames| frames[2]);
        let sent = record.upstream.iter().enumerate();
        let ends = record.ends.iter().map(|(method, end)| (method.clone(), settled(*end)));
        Self {
            requests: sent.map(|(at, sent)| request(sent.get(..head(at, sent)).unwrap_or(sent))).collect(),
            responses: responses(record),
            ends: ends.collect(),
        }
    }
}

/// Where a response is cut decides whether some of it has passed before its fault is seen.
fn settled(end: Ended) -> Option<Ended> {
    match end {
        Ended::BrokenOff | Ended::Ours(Problem::UpstreamClosed | Problem::UpstreamMalformed) => None,
        end => Some(end),
    }
}

/// The one request that an upstream connection got, to every reader; `None`: it is not whole.
fn request(sent: &[u8]) -> Option<Message> {
    let end = HeadScanner::request().scan(sent, &ROOMY);
    let Ok(Some(end)) = end else {
        assert!(end.is_ok(), "a request that nobody can read: {end:?}");
        return None;
    };
    let (bytes, behind) = sent.split_at(end);
    let head = parse_request(bytes, &ROOMY).unwrap_or_else(|error| panic!("{error}"));
    let (data, trailers, used) = body(behind, BodyReader::new(head.framing))?;
    assert_eq!(used, behind.len(), "something follows the request");
    for length_first in [true, false] {
        let read = sloppy::read(sent, length_first);
        assert_eq!(read.map(|read| read.bytes), Some(sent.len()), "another reader");
    }
    // How a chunked body is cut is how it came: the head alone tells of it.
    Some((bytes.to_vec(), data, trailers))
}

/// As many final responses as were given, one behind the other, each to its request.
fn responses(record: &Record) -> Vec<Message> {
    let mut rest =
        record.client.get(..record.frames.map_or(usize::MAX, |frames| frames[3]).min(record.client.len()));
    let (mut rest, mut responses) = (rest.take().unwrap_or_default(), Vec::new());
    for (method, end) in &record.ends {
        let before = responses.len();
        loop {
            let mut scanner = HeadScanner::response();
            let head_end = scanner.scan(rest, &ROOMY);
            assert!(!scanner.repaired(), "a slip of the upstream's has passed");
            let Ok(Some(head_end)) = head_end else {
                let broken = matches!(end, Ended::BrokenOff | Ended::Broken);
                assert!(
                    broken && head_end.is_ok(),
                    "a response that nobody can read: {head_end:?} of {end:?}"
                );
                responses.truncate(before);
                return responses;
            };
            let (bytes, behind) = rest.split_at(head_end);
            let head =
                parse_response(bytes, method == "HEAD", &ROOMY).unwrap_or_else(|error| panic!("{error}"));
            if head.status == 101 {
                assert!(*end == Ended::Upgraded && behind.is_empty(), "a 101 out of turn");
                responses.push((bytes.to_vec(), Vec::new(), Vec::new()));
                return responses;
            }
            let Some((data, trailers, used)) = body(behind, BodyReader::new(head.framing)) else {
                assert!(matches!(end, Ended::BrokenOff | Ended::Broken), "{end:?} without an end");
                responses.truncate(before);
                return responses;
            };
            rest = behind.get(used..).unwrap_or_default();
            responses.push((bytes.to_vec(), data, trailers));
            if head.status >= 200 {
                break;
            }
        }
        if settled(*end).is_none() {
            responses.truncate(before);
        }
    }
    assert!(rest.is_empty(), "something follows the last response: {}", rest.escape_ascii());
    responses
}

/// Data, trailer lines, and bytes used of a body; `None`: it has no end.
fn body(bytes: &[u8], mut reader: BodyReader) -> Option<(Vec<u8>, Vec<u8>, usize)> {
    let (mut used, mut data) = (0, Vec::new());
    while !reader.is_done() {
        let rest = bytes.get(used..).unwrap_or_default();
        let step = reader.step(rest).unwrap_or_else(|error| panic!("a body that nobody can read: {error}"));
        data.extend_from_slice(rest.get(step.data).unwrap_or_default());
        used += step.consumed;
        if step.consumed == 0 {
            return reader.end().is_ok().then(|| (data, Vec::new(), used));
        }
    }
    Some((data, reader.trailers().to_vec(), used))
}

/// After a 101, what either side gets is what the other has said, and frames of the edge's own: a Close, or a Ping, between two.
fn check_frames(record: &Record, client: &[u8], upstreams: &[&[u8]]) {
    let Some([client_at, upstream_at, sent_at, got_at]) = record.frames else { return };
    let connection = record.upstream.len().saturating_sub(1);
    let upstream = upstreams.get(connection).or(upstreams.last()).copied().unwrap_or_default();
    let sent = record.upstream.last().and_then(|sent| sent.get(sent_at..)).unwrap_or_default();
    let got = record.client.get(got_at..).unwrap_or_default();
    check_passed(sent, client.get(client_at..).unwrap_or_default());
    check_passed(got, upstream.get(upstream_at..).unwrap_or_default());
}

fn check_passed(passed: &[u8], said: &[u8]) {
    let same = passed.iter().zip(said).take_while(|(passed, said)| passed == said).count();
    // A frame of ours may begin as what was said goes on.
    let ends = (0..=same).rev().take(4);
    let is_ours = |at: usize| {
        let rest = passed.get(at..).unwrap_or_default();
        rest.is_empty()
            || matches!(decode(rest), Ok(Decoded::Header(header)) if header.opcode == Opcode::Close)
    };
    assert!(ends.into_iter().any(is_ours), "{} is not {}", passed.escape_ascii(), said.escape_ascii());
}

#[cfg(test)]
mod tests {
    use super::*;

    const POST: &str =
        "POST /a/b HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    const UNTIL_CLOSE: &str = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\nall";
    const UPGRADE: &str = "GET /a/ HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

    /// Runs a session, and all that the fuzz target does with it.
    fn session(client: &str, upstreams: &[&str], trouble: Trouble) -> Record {
        let said = upstreams.join("\x1e");
        let cut = (client.len() * 255).div_ceil(client.len() + said.len()) as u8;
        for pieces in (0..=255).step_by(7) {
            fuzz_session(&[&[cut, pieces], client.as_bytes(), said.as_bytes()].concat());
        }
        let upstreams: Vec<&[u8]> = upstreams.iter().map(|said| said.as_bytes()).collect();
        EDGE.run(&Script {
            client: client.as_bytes(),
            upstreams: &upstreams,
            piece_bytes: usize::MAX,
            trouble,
        })
    }

    fn ends(record: &Record) -> Vec<Ended> {
        record.ends.iter().map(|(_, end)| *end).collect()
    }

    #[test]
    fn pipelined_requests_are_forwarded_one_after_the_other_and_answered_in_turn() {
        let record = session(&format!("{POST}{GET}"), &[OK, UNTIL_CLOSE], Trouble::None);
        assert_eq!(ends(&record), [Ended::Whole, Ended::Whole]);
        let outcome = Outcome::of(&record);
        let data: Vec<_> = outcome.requests.iter().flatten().map(|(_, data, _)| data.as_slice()).collect();
        assert_eq!(data, [b"abc".as_slice(), b""]);
        let data: Vec<_> = outcome.responses.iter().map(|(_, data, _)| data.as_slice()).collect();
        assert_eq!(data, [b"ok".as_slice(), b"", b"all"]);
    }

    #[test]
    fn what_breaks_a_rule_gets_no_further_and_ends_the_session_where_it_must() {
        let path = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let long = "POST /small/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 21\r\n\r\n".to_owned();
        let fits = long.replace("21", "20") + "12345678901234567890";
        for (client, wanted) in [
            (path("/private/") + GET, vec![Ended::Ours(Problem::AddressRefused), Ended::Whole]),
            (path("/stripped//host") + GET, vec![Ended::Ours(Problem::AmbiguousPath), Ended::Whole]),
            (GET.replace("a.test", "b.test"), vec![Ended::Ours(Problem::Misdirected)]),
            (long, vec![Ended::Ours(Problem::BodyTooLarge)]),
            (fits, vec![Ended::Whole]),
            (POST.replace("abc", "abcd"), vec![Ended::Ours(Problem::BadRequest)]),
            (format!("BAD\r\n\r\n{GET}"), vec![Ended::Ours(Problem::BadRequest)]),
        ] {
            assert_eq!(ends(&session(&client, &[OK], Trouble::None)), wanted, "{client}");
        }
    }

    #[test]
    fn a_101_leads_to_a_relay_that_passes_frames_and_a_false_one_does_not() {
        let client = format!("{UPGRADE}\u{1}\0"); // a text frame without a mask, which breaks a rule
        let record = session(&client, &[&format!("{SWITCHING}\u{2}\u{2}hi")], Trouble::None);
        assert_eq!(ends(&record), [Ended::Upgraded]);
        let got = &record.client[record.frames.unwrap()[3]..];
        assert!(got.starts_with(b"\x02\x02hi") || got.starts_with(b"\x88"), "{}", got.escape_ascii());
        let record = session(&client, &[&SWITCHING.replace("xOo", "xOp")], Trouble::None);
        assert_eq!(ends(&record), [Ended::Ours(Problem::UpstreamMalformed)]);
    }

    #[test]
    fn each_trouble_has_its_end() {
        use Ended::{Broken, BrokenOff, Ours, Whole};
        let half_a_body = POST.replace("0\r\n\r\n", "");
        let half_an_answer = OK.replace("ok", "o");
        for (client, upstream, trouble, wanted) in [
            (GET, OK, Trouble::None, Some(Whole)),
            (GET, OK, Trouble::ClientEnds, Some(Broken)),
            (GET, OK, Trouble::ClientResets, Some(Broken)),
            ("GET / HTTP/1.1\r\n", OK, Trouble::ClientStalls, Some(Ours(Problem::RequestTimeout))),
            ("", OK, Trouble::ClientStalls, None),
            (&half_a_body, "", Trouble::ClientStalls, Some(Ours(Problem::RequestTimeout))),
            (GET, "", Trouble::None, Some(Ours(Problem::UpstreamClosed))),
            (GET, "", Trouble::UpstreamResets, Some(Ours(Problem::UpstreamClosed))),
            (GET, "", Trouble::UpstreamStalls, Some(Ours(Problem::UpstreamTimeout))),
            (GET, &half_an_answer, Trouble::UpstreamStalls, Some(BrokenOff)),
            (GET, &half_an_answer, Trouble::UpstreamResets, Some(BrokenOff)),
            (GET, OK, Trouble::UpstreamStale, Some(Whole)), // sent again
            (POST, OK, Trouble::UpstreamStale, Some(Ours(Problem::UpstreamClosed))), // never sent again
            (GET, OK, Trouble::Drain, Some(Whole)),
        ] {
            let record = session(client, &[upstream], trouble);
            assert_eq!(ends(&record).first(), wanted.as_ref(), "{client} {upstream} {trouble:?}");
        }
    }

    #[test]
    #[should_panic(expected = "something follows the request")]
    fn an_upstream_that_gets_more_than_one_request_is_noticed() {
        request(format!("{GET}{GET}").as_bytes());
    }

    #[test]
    #[should_panic(expected = "is not")]
    fn bytes_that_no_side_sent_are_noticed() {
        check_passed(b"\x82\x01b", b"\x82\x01a");
    }
}
