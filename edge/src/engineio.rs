//! The part of Engine.IO that keeps a session on one of several local servers: which requests name a session, and what
//! a server sends when it opens one (the `open` packet of protocols 3 and 4,
//! <https://socket.io/docs/v4/engine-io-protocol/>).
//!
//! Nothing is changed, and only the beginning of the response to a handshake is read.

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;

use crate::http::head::RequestHead;
use crate::ws::frame::{Decoded, Header, Opcode, decode};

/// Longest `sid` that is kept: Engine.IO's own have 20 characters, and an app may make others.
pub const SID_BYTES_MAX: usize = 256;
/// Bytes of a response that are searched for its `open` packet, which has about 120.
pub const LOOK_BYTES_MAX: usize = 1024;
/// Longest that a session is remembered after its last request.
pub const KEEP_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Added to `pingInterval` and `pingTimeout`, for a slow network and a busy server.
const KEEP_MARGIN: Duration = Duration::from_secs(15);
/// The defaults of an Engine.IO server.
const PING_INTERVAL_MS: u64 = 25_000;
const PING_TIMEOUT_MS: u64 = 20_000;

/// How a request relates to sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asks<'a> {
    /// Nothing.
    Nothing,
    /// It opens one, and its response can be read.
    Open,
    /// It belongs to the one of this `sid`, decoded.
    Session(Cow<'a, str>),
}

/// What a server sends about the session that it opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The session's name, at most [`SID_BYTES_MAX`]; a credential.
    pub sid: String,
    /// How long the session may be silent, with some margin; at most [`KEEP_MAX`].
    pub keep: Duration,
}

/// What the bytes so far are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// Not enough yet.
    More,
    /// The `open` packet.
    Open(Open),
    /// Something else: nothing more is observed.
    Else,
}

/// Observes the beginning of a response, in pieces as they arrive, for the `open` packet; holds at most
/// [`LOOK_BYTES_MAX`] bytes.
#[derive(Clone, Debug)]
pub struct OpenObserver {
    framed: bool,
    pub(crate) held: Vec<u8>,
}

impl<'a> Asks<'a> {
    /// By the query, unchanged.
    pub fn of(head: &RequestHead<'a>) -> Self {
        let asks = Self::by_query(head.query.unwrap_or_default());
        if asks == Self::Open && head.method != "GET" { Self::Nothing } else { asks }
    }

    pub(crate) fn by_query(query: &'a str) -> Self {
        let (mut protocol, mut transport, mut jsonp) = (false, false, false);
        for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match key {
                "sid" if !value.is_empty() => {
                    let named = (value.len() <= SID_BYTES_MAX).then(|| Self::Session(decoded(value)));
                    return named.unwrap_or(Self::Nothing);
                }
                "EIO" => protocol = matches!(value, "3" | "4"),
                "transport" => transport = matches!(value, "polling" | "websocket"),
                "j" => jsonp = true, // the packet stands in a script then
                _ => {}
            }
        }
        if protocol && transport && !jsonp { Self::Open } else { Self::Nothing }
    }
}

/// Decodes `%XX` and `+`, as in query strings. Anything else stays unchanged.
fn decoded(value: &str) -> Cow<'_, str> {
    if !value.contains(['%', '+']) {
        return Cow::Borrowed(value);
    }
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let escaped = behind.first_chunk::<2>().filter(|_| first == b'%').and_then(|digits| hex(*digits));
        bytes.push(escaped.unwrap_or(if first == b'+' { b' ' } else { first }));
        rest = if escaped.is_some() { behind.get(2..).unwrap_or_default() } else { behind };
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

fn hex(digits: [u8; 2]) -> Option<u8> {
    let [high, low] =
        digits.map(|digit| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok()));
    Some(high? << 4 | low?)
}

impl OpenObserver {
    /// For the body of the response to a poll.
    pub fn body() -> Self {
        Self { framed: false, held: Vec::new() }
    }

    /// For the frames after a 101.
    pub fn frames() -> Self {
        Self { framed: true, held: Vec::new() }
    }

    /// Observes the next piece. After a result other than [`Observed::More`], observation is complete.
    pub fn observe(&mut self, piece: &[u8]) -> Observed {
        let room = LOOK_BYTES_MAX - self.held.len();
        self.held.extend_from_slice(piece.get(..room).unwrap_or(piece));
        let seen = if self.framed { in_frames(&self.held) } else { in_payload(&self.held) };
        if seen == Observed::More && self.held.len() == LOOK_BYTES_MAX { Observed::Else } else { seen }
    }
}

/// The first frame is the packet; a server's Ping may come before.
fn in_frames(bytes: &[u8]) -> Observed {
    let mut rest = bytes;
    loop {
        let header = match decode(rest) {
            Ok(Decoded::Header(header)) => header,
            Ok(Decoded::Need(_)) => return Observed::More,
            Err(_) => return Observed::Else,
        };
        let Header { fin, rsv1, mask, opcode, payload_bytes, header_bytes, .. } = header;
        let behind = rest.get(header_bytes..).unwrap_or_default();
        let payload_bytes = usize::try_from(payload_bytes).unwrap_or(usize::MAX);
        match opcode {
            // A compressed packet could not be read; servers compress larger messages only.
            Opcode::Text if fin && !rsv1 && mask.is_none() => {
                return match in_packet(behind.get(..payload_bytes).unwrap_or(behind)) {
                    Observed::More if behind.len() >= payload_bytes => Observed::Else,
                    seen => seen,
                };
            }
            Opcode::Ping | Opcode::Pong => match behind.get(payload_bytes..) {
                Some(next) => rest = next,
                None => return Observed::More,
            },
            _ => return Observed::Else,
        }
    }
}

/// The first packet of a payload: bare in protocol 4, after its length in protocol 3, as text (`96:`) or as bytes (0,
/// the digits, 255).
fn in_payload(bytes: &[u8]) -> Observed {
    let is_more = |rest: &[u8]| if rest.is_empty() { Observed::More } else { Observed::Else };
    let (digits, end): (fn(&u8) -> bool, u8) = match bytes {
        [] => return Observed::More,
        [b'0', ..] => return in_packet(bytes),
        [0, ..] => (|byte| *byte <= 9, 255),
        _ => (u8::is_ascii_digit, b':'),
    };
    let rest = bytes.strip_prefix(&[0]).unwrap_or(bytes);
    let count = rest.iter().take_while(|byte| digits(byte)).count();
    match rest.get(count..) {
        Some([found, packet @ ..]) if *found == end && count > 0 => in_packet(packet),
        Some(rest) => is_more(rest),
        None => Observed::More,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OpenData<'a> {
    #[serde(borrow)]
    sid: Cow<'a, str>,
    ping_interval: Option<u64>,
    ping_timeout: Option<u64>,
}

/// Type 0 and a JSON object; another packet may follow.
fn in_packet(bytes: &[u8]) -> Observed {
    let json = match bytes {
        [] => return Observed::More,
        [b'0', json @ ..] => json,
        _ => return Observed::Else,
    };
    match OpenData::deserialize(&mut serde_json::Deserializer::from_slice(json)) {
        Ok(data) if !data.sid.is_empty() && data.sid.len() <= SID_BYTES_MAX => Observed::Open(data.open()),
        Err(error) if error.is_eof() || is_at_the_end(&error, json) => Observed::More,
        Ok(_) | Err(_) => Observed::Else,
    }
}

/// An error at the last byte may be due to the cut: `1e` is not a number, but the beginning of one.
fn is_at_the_end(error: &serde_json::Error, json: &[u8]) -> bool {
    let lines = json.iter().filter(|byte| **byte == b'\n').count();
    let last = json.rsplit(|byte| *byte == b'\n').next().map_or(0, <[u8]>::len);
    error.is_syntax() && (error.line(), error.column()) == (lines + 1, last)
}

impl OpenData<'_> {
    fn open(self) -> Open {
        let interval = self.ping_interval.unwrap_or(PING_INTERVAL_MS);
        let silent =
            Duration::from_millis(interval.saturating_add(self.ping_timeout.unwrap_or(PING_TIMEOUT_MS)));
        Open { sid: self.sid.into_owned(), keep: silent.saturating_add(KEEP_MARGIN).min(KEEP_MAX) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::parsers::fuzz_engineio_open;

    const OPEN: &str = r#"0{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;

    fn opens(sid: &str, seconds: u64) -> Observed {
        Observed::Open(Open { sid: sid.to_owned(), keep: Duration::from_secs(seconds) })
    }

    fn body(bytes: impl AsRef<[u8]>) -> Observed {
        fuzz_engineio_open(bytes.as_ref());
        OpenObserver::body().observe(bytes.as_ref())
    }

    fn frames(bytes: &[u8]) -> Observed {
        fuzz_engineio_open(bytes);
        OpenObserver::frames().observe(bytes)
    }

    fn frame(first: u8, payload: &str) -> Vec<u8> {
        let mut frame = vec![first];
        match u8::try_from(payload.len()).ok().filter(|length| *length < 126) {
            Some(length) => frame.push(length),
            None => frame.extend([126, (payload.len() >> 8) as u8, payload.len() as u8]),
        }
        frame.extend_from_slice(payload.as_bytes());
        frame
    }

    #[test]
    fn the_open_packet_of_both_protocols_is_observed() {
        let wanted = opens("lv_VI97HAXpY6yYWAAAC", 60);
        assert_eq!(body(OPEN), wanted);
        assert_eq!(body(format!("{OPEN}\u{1e}40{{\"sid\":\"x\"}}")), wanted, "another packet behind");
        assert_eq!(body(format!("{}:{OPEN}2:40", OPEN.len())), wanted, "protocol 3");
        let binary = [&[0, 1, 1, 8, 255], OPEN.as_bytes(), &[0, 2, 255, b'4', b'0']].concat();
        assert_eq!(body(binary), wanted, "protocol 3 to a client that takes bytes");
    }

    #[test]
    fn every_beginning_is_not_enough_yet() {
        let forms = [OPEN.to_owned(), format!("{}:{OPEN}", OPEN.len())];
        for text in &forms {
            for cut in 0..text.len() {
                assert_eq!(body(&text[..cut]), Observed::More, "cut at {cut}");
            }
        }
        let whole = frame(0x81, OPEN);
        for cut in 0..whole.len() {
            assert_eq!(frames(&whole[..cut]), Observed::More, "cut at {cut}");
        }
    }

    #[test]
    fn the_first_text_frame_is_observed() {
        let wanted = opens("lv_VI97HAXpY6yYWAAAC", 60);
        assert_eq!(frames(&frame(0x81, OPEN)), wanted);
        assert_eq!(frames(&[frame(0x89, "ping"), frame(0x81, OPEN)].concat()), wanted, "behind a Ping");
        let masked = [&[0x81, 0x81, 0, 0, 0, 0, b'0'][..]].concat();
        let others = [
            frame(0xC1, OPEN),                    // compressed
            frame(0x01, OPEN),                    // the first of fragments
            frame(0x82, OPEN),                    // binary
            frame(0x81, &OPEN[..OPEN.len() - 1]), // its end is missing
            frame(0x88, "xx"),
            frame(0x83, ""),
            masked,
        ];
        for other in others {
            assert_eq!(frames(&other), Observed::Else, "{other:?}");
        }
    }

    #[test]
    fn anything_else_is_observed_no_further() {
        for other in [
            "1x",
            "ok",
            "<html>",
            "0[]",
            "0{}",
            "0{\"sid\":1}",
            "0{\"sid\":\"\"}",
            ":0{}",
            "12;0{}",
            "\0\u{1}x",
        ] {
            assert_eq!(body(other), Observed::Else, "{other:?}");
        }
    }

    #[test]
    fn a_session_is_kept_longer_than_it_can_be_silent_within_a_bound() {
        for (times, seconds) in [
            (r#","pingInterval":300,"pingTimeout":200"#, None),
            (r#","pingInterval":60000,"pingTimeout":5000"#, Some(80)),
            ("", Some(60)),
            (r#","pingInterval":86400000,"pingTimeout":1"#, Some(86_400)),
            (r#","pingInterval":18446744073709551615,"pingTimeout":18446744073709551615"#, Some(86_400)),
        ] {
            let Observed::Open(open) = body(format!("0{{\"sid\":\"x\"{times}}}")) else { panic!("{times}") };
            let wanted = seconds.map_or(Duration::from_millis(15_500), Duration::from_secs);
            assert_eq!(open.keep, wanted, "{times}");
        }
    }

    #[test]
    fn no_more_is_held_than_the_bound() {
        let sid = |length: usize| format!("0{{\"sid\":\"{}\"}}", "s".repeat(length));
        assert!(matches!(body(sid(SID_BYTES_MAX)), Observed::Open(_)));
        assert_eq!(body(sid(SID_BYTES_MAX + 1)), Observed::Else);
        let padded = |length: usize| format!("0{{\"x\":\"{}\",\"sid\":\"s\"}}", "x".repeat(length - 19));
        assert_eq!(padded(100).len(), 100);
        assert!(matches!(body(padded(LOOK_BYTES_MAX)), Observed::Open(_)));
        assert_eq!(body(padded(LOOK_BYTES_MAX + 1)), Observed::Else);
        assert_eq!(body("0".to_owned() + &" ".repeat(LOOK_BYTES_MAX - 2)), Observed::More);
        assert_eq!(body("0".to_owned() + &" ".repeat(LOOK_BYTES_MAX - 1)), Observed::Else);
    }

    #[test]
    fn a_query_says_what_a_request_has_to_do_with_sessions() {
        let session = |sid: &'static str| Asks::Session(Cow::Borrowed(sid));
        let longest = format!("sid={}", "s".repeat(SID_BYTES_MAX));
        for (query, asks) in [
            ("EIO=4&transport=polling&t=abc", Asks::Open),
            ("EIO=3&transport=websocket", Asks::Open),
            ("EIO=4&transport=polling&sid=", Asks::Open),
            ("EIO=4&transport=polling&j=0", Asks::Nothing),
            ("EIO=4&transport=webtransport", Asks::Nothing),
            ("EIO=5&transport=polling", Asks::Nothing),
            ("transport=polling", Asks::Nothing),
            ("EIO=4", Asks::Nothing),
            ("", Asks::Nothing),
            ("EIO=4&transport=polling&sid=abc", session("abc")),
            ("sid=a%2Db%2&x", session("a-b%2")),
            ("sid=a+b%ff", session("a b\u{fffd}")),
            ("xsid=abc", Asks::Nothing),
            (&longest, Asks::Session(Cow::Borrowed(&longest[4..]))),
            (&format!("{longest}s"), Asks::Nothing),
        ] {
            assert_eq!(Asks::by_query(query), asks, "{query}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_input_is_observed_alike_in_any_pieces(
            any: Vec<u8>, at in 0..OPEN.len(), byte: u8, framed: bool,
        ) {
            fuzz_engineio_open(&any);
            let mut changed = if framed { frame(0x81, OPEN) } else { OPEN.as_bytes().to_vec() };
            changed[at] = byte;
            fuzz_engineio_open(&changed);
        }
    }
}
