//! Properties that hold for any bytes: the entries of the fuzz targets, also used by unit tests and the replay of the
//! corpora. A violated property panics.
//!
//! `Oracle` is a second tracker that keeps everything and parses it again at each byte: slow, and easy to compare
//! with RFC 6455.

#![allow(clippy::panic, clippy::indexing_slicing)] // a fuzz entry has no other way to say no

use std::ops::Range;

use crate::ws::frame::{
    Decoded, Header, Opcode, PingPayload, Violation, close_frame, decode, is_close_code, ping_frame,
};
use crate::ws::tracker::{Direction, Extensions, Rules, Then, Tracker};

/// What our Pings carry that are under way in some of the sequences.
pub(crate) const PING: PingPayload = *b"sanedge!";

/// Bytes of a sequence that are checked: the oracle's time is quadratic.
const SEQUENCE_BYTES_MAX: usize = 1024;

/// Decodes the header at every cut, writes it again, and makes control frames of the same bytes.
pub fn fuzz_ws_frame(data: &[u8]) {
    let mut need: Option<usize> = None;
    let mut told = false;
    for n in 0..=data.len().min(32) {
        match decode(&data[..n]) {
            Ok(Decoded::Need(more)) => {
                assert!((1..=12).contains(&more) && !told);
                assert!(need.is_none_or(|whole| whole == n + more), "{n} bytes need {more} more");
                need = (n >= 2).then_some(n + more);
            }
            found => {
                assert_eq!(found, decode(data), "the header depends on what follows");
                if let Ok(Decoded::Header(header)) = found {
                    assert!(n == header.header_bytes || told, "told late");
                    assert_eq!(encode(&header), data[..header.header_bytes]);
                }
                told = true;
            }
        }
    }
    make_frames(data);
}

/// Control frames of ours are whole, minimal, and legal for their receiver.
fn make_frames(data: &[u8]) {
    let (mask, rest) = match data.split_first_chunk::<4>() {
        Some((mask, rest)) if mask[0] & 1 == 1 => (Some(*mask), rest),
        _ => (None, data),
    };
    let (code, rest) = rest.split_first_chunk::<2>().unwrap_or((&[0; 2], rest));
    let code = Some(u16::from_be_bytes(*code)).filter(|&code| is_close_code(code)).unwrap_or(1001);
    let direction = if mask.is_some() { Direction::FromClient } else { Direction::FromUpstream };
    let rules =
        Rules { frame_bytes_max: 0, message_bytes_max: 0, check_utf8: true, extensions: Extensions::None };
    let mut tracker = Tracker::new(direction, rules);
    let ping = ping_frame(PING, mask);
    let tracked = tracker.track(&ping);
    assert_eq!((tracked.pass, tracked.then), (ping.len(), Then::More));
    let close = close_frame(code, String::from_utf8_lossy(rest), mask);
    let tracked = tracker.track(&close);
    assert_eq!((tracked.pass, tracked.then), (close.len(), Then::Closed));
}

/// Tracks one sequence of frames whole, byte by byte, and in pieces and with boundaries asked for as the first bytes
/// say: each time as the oracle tells.
pub fn fuzz_ws_sequence(data: &[u8]) {
    let Some((&[flags, limit, count], rest)) = data.split_first_chunk::<3>() else { return };
    let (steps, input) = rest.split_at(rest.len().min(usize::from(count % 16)));
    let input = &input[..input.len().min(SEQUENCE_BYTES_MAX)];
    let is = |bit: u8| flags & bit != 0;
    let max = |times: u64| if is(16) { u64::from(limit) * times } else { u64::MAX };
    let case = Case {
        direction: if is(1) { Direction::FromClient } else { Direction::FromUpstream },
        rules: Rules {
            frame_bytes_max: max(1),
            message_bytes_max: max(2),
            check_utf8: is(2),
            extensions: match (is(4), is(32)) {
                (_, true) => Extensions::Unknown,
                (true, _) => Extensions::Deflate,
                _ => Extensions::None,
            },
        },
        ping: is(8).then_some(PING),
    };
    let steps: Vec<Step> = steps.iter().copied().map(Step::from).collect();
    case.check(input, &steps);
}

/// A sequence's circumstances.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) direction: Direction,
    pub(crate) rules: Rules,
    /// Expects answers to Pings with this payload from the start.
    pub(crate) ping: Option<PingPayload>,
}

/// One read of a relay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// At most so many bytes.
    pub(crate) bytes: usize,
    /// A frame of ours is waiting for a boundary.
    pub(crate) inserts: bool,
}

impl From<u8> for Step {
    fn from(byte: u8) -> Self {
        Self { bytes: usize::from(byte >> 1) + 1, inserts: byte & 1 == 1 }
    }
}

impl Case {
    /// Holds the tracker against the oracle, cut in three ways. Tells what the oracle saw.
    pub(crate) fn check(&self, input: &[u8], steps: &[Step]) -> Told {
        let told = self.told(input);
        let whole = [Step { bytes: input.len().max(1), inserts: false }];
        let bytewise = [Step { bytes: 1, inserts: false }, Step { bytes: 1, inserts: true }];
        for steps in [&whole[..], &bytewise, steps].into_iter().filter(|steps| !steps.is_empty()) {
            self.relay(input, steps).assert_is(&told, input);
        }
        told
    }

    fn told(&self, input: &[u8]) -> Told {
        let mut oracle = Oracle::new(*self);
        let mut told = Told { boundaries: vec![0], our_pongs: Vec::new(), end: End::Open { judged: false } };
        for (at, &byte) in input.iter().enumerate() {
            let start = at - oracle.frame.len();
            told.end = match oracle.byte(byte) {
                Ok(Seen::Part { judged }) => End::Open { judged },
                Ok(Seen::Close) => End::Closed { stop: at + 1 },
                Err((violation, in_payload)) => End::Broken { violation, start, in_payload },
                Ok(seen) => {
                    told.boundaries.push(at + 1);
                    if seen == Seen::OurPong {
                        told.our_pongs.push(start..at + 1);
                    }
                    End::Open { judged: false }
                }
            };
            if !matches!(told.end, End::Open { .. }) {
                break;
            }
        }
        told
    }

    /// What a relay would do with the tracker's answers.
    fn relay(&self, input: &[u8], steps: &[Step]) -> Relayed {
        let mut tracker = Tracker::new(self.direction, self.rules);
        self.ping.into_iter().for_each(|ping| tracker.expect_pongs(ping));
        let mut relayed = Relayed {
            passed: Vec::new(),
            inserted: Vec::new(),
            our_pongs: Vec::new(),
            end: Then::More,
            before: 0,
            tracker,
        };
        let mut read = 0;
        for step in steps.iter().cycle() {
            let piece = &input[read..(read + step.bytes).min(input.len())];
            read += piece.len();
            relayed.take(piece, step.inserts, &input[..read]);
            if relayed.end != Then::More || read == input.len() {
                break;
            }
        }
        relayed
    }
}

/// What came of a sequence.
struct Relayed {
    passed: Vec<u8>,
    /// Where frames of ours were put, as offsets in the input.
    inserted: Vec<usize>,
    our_pongs: Vec<Range<usize>>,
    end: Then,
    /// Where in the input the last call began, what was held included.
    before: usize,
    tracker: Tracker,
}

impl Relayed {
    /// How much of the input has passed or was left out.
    fn offset(&self) -> usize {
        self.passed.len() + self.our_pongs.iter().map(Range::len).sum::<usize>()
    }

    fn take(&mut self, piece: &[u8], mut inserts: bool, read: &[u8]) {
        let mut rest = piece;
        loop {
            self.before = self.offset();
            let held = self.tracker.held().to_vec();
            let tracked =
                if inserts { self.tracker.track_to_boundary(rest) } else { self.tracker.track(rest) };
            assert!(tracked.released.is_empty() || *tracked.released == *held);
            self.passed.extend_from_slice(&tracked.released);
            self.passed.extend_from_slice(&rest[..tracked.pass]);
            rest = &rest[tracked.pass..];
            match tracked.then {
                Then::Boundary => {
                    assert!(inserts && self.tracker.at_boundary());
                    self.inserted.push(self.offset());
                    inserts = false;
                }
                Then::OurPong(more) => {
                    let (start, end) = (self.offset(), read.len() - rest.len() + more);
                    self.our_pongs.push(start..end);
                    rest = &rest[more..];
                }
                end => {
                    self.end = end;
                    break;
                }
            }
        }
        if self.end == Then::More {
            assert_eq!(&read[self.offset()..], self.tracker.held(), "passed and held are what was read");
        }
    }

    fn assert_is(mut self, told: &Told, input: &[u8]) {
        let judged = told.end == End::Open { judged: true };
        let last = told.boundaries.last().copied().unwrap_or_default();
        let (stop, end) = match told.end {
            End::Open { judged } => (if judged { input.len() } else { last }, Then::More),
            End::Closed { stop } => (stop, Then::Closed),
            End::Broken { violation, start, in_payload } => {
                let stop = if in_payload { self.before.max(start) } else { start };
                (stop, Then::Broken(violation))
            }
        };
        assert_eq!((self.offset(), self.end), (stop, end));
        assert_eq!(self.our_pongs, told.our_pongs);
        let ours = |at: &usize| self.our_pongs.iter().any(|pong| pong.contains(at));
        let theirs: Vec<u8> = (0..stop).filter(|at| !ours(at)).map(|at| input[at]).collect();
        assert_eq!(self.passed, theirs);
        assert!(self.inserted.iter().all(|at| told.boundaries.contains(at)), "{:?}", self.inserted);
        assert_eq!(self.tracker.at_boundary(), stop == last && end != Then::Closed && !judged);
        assert_eq!(self.tracker.closed(), end == Then::Closed);
        if end != Then::More {
            let after = self.tracker.track(input);
            assert_eq!((after.pass, after.released.len(), after.then), (0, 0, Then::Closed));
        }
    }
}

/// What the oracle saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// Where a frame may be inserted, while none is broken: offsets of the ends of whole frames, and 0.
    pub(crate) boundaries: Vec<usize>,
    pub(crate) our_pongs: Vec<Range<usize>>,
    pub(crate) end: End,
}

/// How a sequence ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It may go on; `judged`: inside a frame whose start may pass.
    Open { judged: bool },
    /// Behind a Close.
    Closed { stop: usize },
    /// In a frame that begins at `start`.
    Broken { violation: Violation, start: usize, in_payload: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Part { judged: bool },
    Frame,
    OurPong,
    Close,
}

/// All that a direction has to remember, in the plainest form.
struct Oracle {
    case: Case,
    /// The bytes of the current frame so far.
    frame: Vec<u8>,
    /// Opcode of the open message, whether it is compressed, and its payload so far.
    message: Option<(u8, bool, Vec<u8>)>,
}

/// A broken rule, and whether it is one about bytes of a payload that may have passed in part.
type Fault = (Violation, bool);

impl Oracle {
    fn new(case: Case) -> Self {
        Self { case, frame: Vec::new(), message: None }
    }

    fn byte(&mut self, byte: u8) -> Result<Seen, Fault> {
        self.frame.push(byte);
        let header = self.judge_header().map_err(|violation| (violation, false))?;
        let Some((start, length)) = header else { return Ok(Seen::Part { judged: false }) };
        let key =
            if self.frame[1] & 0x80 == 0 { [0; 4] } else { [0, 1, 2, 3].map(|i| self.frame[start - 4 + i]) };
        let payload: Vec<u8> =
            self.frame[start..].iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
        let complete = payload.len() as u64 == length;
        let seen = match self.frame[0] & 0x0F {
            0x8 => judge_close(&payload, length)?,
            0xA => self.judge_pong(&payload, length),
            0x9 => {
                if complete {
                    Seen::Frame
                } else {
                    Seen::Part { judged: true }
                }
            }
            _ => self.judge_data(&payload, complete)?,
        };
        if !matches!(seen, Seen::Part { .. }) {
            self.frame.clear();
        }
        Ok(seen)
    }

    /// Where the payload begins, and its length. `None`: the header is not there yet.
    fn judge_header(&self) -> Result<Option<(usize, u64)>, Violation> {
        let opcode = match self.frame[0] & 0x0F {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Text,
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xA => Opcode::Pong,
            found => return Err(Violation::ReservedOpcode { found }),
        };
        let control = self.frame[0] & 0x08 != 0;
        if control && self.frame[0] & 0x80 == 0 {
            return Err(Violation::ControlFragmented { opcode });
        }
        let Some(second) = self.frame.get(1) else { return Ok(None) };
        let (length_bytes, length_bits) = match second % 128 {
            126 => (2, 16),
            127 => (8, 64),
            _ => (0, 7),
        };
        if control && length_bytes > 0 {
            return Err(Violation::ControlTooLong { opcode, length_bits });
        }
        let Some(digits) = self.frame.get(2..2 + length_bytes) else { return Ok(None) };
        let number = digits.iter().fold(0, |number: u64, &digit| number * 256 + u64::from(digit));
        let length = if length_bytes == 0 { u64::from(second % 128) } else { number };
        let minimal_bits = if length < 126 {
            7
        } else if length < 65_536 {
            16
        } else {
            64
        };
        if minimal_bits != length_bits {
            return Err(Violation::LengthNotMinimal { found: length, length_bits });
        }
        if length >= 1 << 63 {
            return Err(Violation::LengthTopBit { found: length });
        }
        let masked = second / 128 == 1;
        let start = 2 + length_bytes + if masked { 4 } else { 0 };
        if self.frame.len() < start {
            return Ok(None);
        }
        self.judge_whole_header(opcode, masked, length)?;
        Ok(Some((start, length)))
    }

    fn judge_whole_header(&self, opcode: Opcode, masked: bool, length: u64) -> Result<(), Violation> {
        let Rules { frame_bytes_max, message_bytes_max, extensions, .. } = self.case.rules;
        let client = self.case.direction == Direction::FromClient;
        let (first, control) = (self.frame[0], self.frame[0] & 0x08 != 0);
        let judged = extensions != Extensions::Unknown;
        let rsv1 = judged && first & 0x40 != 0;
        if client && !masked {
            return Err(Violation::NotMasked);
        }
        if masked && !client {
            return Err(Violation::Masked);
        }
        if judged && first & 0x30 != 0 {
            return Err(Violation::ReservedBits { found: first & 0x30 });
        }
        if rsv1 && extensions == Extensions::None {
            return Err(Violation::Rsv1NotNegotiated);
        }
        if rsv1 && (control || opcode == Opcode::Continuation) {
            return Err(Violation::Rsv1Misplaced { opcode });
        }
        if control {
            return Ok(());
        }
        if self.message.is_none() && opcode == Opcode::Continuation {
            return Err(Violation::NothingToContinue);
        }
        if self.message.is_some() && opcode != Opcode::Continuation {
            return Err(Violation::MessageOpen { opcode });
        }
        if length > frame_bytes_max {
            return Err(Violation::FrameTooBig { found: length, max: frame_bytes_max });
        }
        let before = self.message.as_ref().map_or(0, |(_, _, payload)| payload.len() as u64);
        if before + length > message_bytes_max {
            return Err(Violation::MessageTooBig { found: before + length, max: message_bytes_max });
        }
        Ok(())
    }

    fn judge_pong(&self, payload: &[u8], length: u64) -> Seen {
        let complete = payload.len() as u64 == length;
        match self.case.ping {
            Some(ping) if complete && payload == ping => Seen::OurPong,
            _ if complete => Seen::Frame,
            ping => Seen::Part { judged: ping.is_none() || length != PING.len() as u64 },
        }
    }

    fn judge_data(&mut self, payload: &[u8], complete: bool) -> Result<Seen, Fault> {
        let first = self.frame[0];
        let (opcode, compressed, before) =
            self.message.clone().unwrap_or((first & 0x0F, first & 0x40 != 0, Vec::new()));
        let fin = first & 0x80 != 0;
        let message = [before, payload.to_vec()].concat();
        if opcode == 1 && !compressed && self.case.rules.check_utf8 && !is_utf8(&message, complete && fin) {
            return Err((Violation::TextNotUtf8, true));
        }
        if !complete {
            return Ok(Seen::Part { judged: true });
        }
        self.message = (!fin).then_some((opcode, compressed, message));
        Ok(Seen::Frame)
    }
}

fn judge_close(payload: &[u8], length: u64) -> Result<Seen, Fault> {
    let complete = payload.len() as u64 == length;
    match (length, payload) {
        (0, _) => Ok(Seen::Close),
        (1, _) => Err((Violation::CloseCodeCut, false)),
        (_, [high, low, reason @ ..]) => {
            let found = u16::from(*high) * 256 + u16::from(*low);
            if !is_close_code(found) {
                return Err((Violation::CloseCode { found }, false));
            }
            match is_utf8(reason, complete) {
                false => Err((Violation::ReasonNotUtf8, true)),
                true if complete => Ok(Seen::Close),
                true => Ok(Seen::Part { judged: true }),
            }
        }
        _ => Ok(Seen::Part { judged: false }),
    }
}

/// Whether `bytes` are UTF-8, or, with more to come, its beginning.
fn is_utf8(bytes: &[u8], whole: bool) -> bool {
    match std::str::from_utf8(bytes) {
        Ok(_) => true,
        Err(error) => !whole && error.error_len().is_none(),
    }
}

/// A header's bytes.
fn encode(header: &Header) -> Vec<u8> {
    let bit = |set: bool, bit: u8| if set { bit } else { 0 };
    let first = bit(header.fin, 0x80) | bit(header.rsv1, 0x40) | header.rsv2_rsv3 | header.opcode as u8;
    let mask = bit(header.mask.is_some(), 0x80);
    let length = match header.payload_bytes {
        short @ 0..126 => vec![mask | short as u8],
        medium @ 126..65_536 => [&[mask | 126][..], &(medium as u16).to_be_bytes()].concat(),
        long => [&[mask | 127][..], &long.to_be_bytes()].concat(),
    };
    [&[first][..], &length, header.mask.as_ref().map_or(&[], |mask| mask.as_slice())].concat()
}

/// A frame with `first` for its first byte; its length in the shortest form.
#[cfg(test)]
pub(crate) fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let bit = |bit: u8| first & bit != 0;
    let header = Header {
        fin: bit(0x80),
        rsv1: bit(0x40),
        rsv2_rsv3: first & 0x30,
        opcode: [
            Opcode::Continuation,
            Opcode::Text,
            Opcode::Binary,
            Opcode::Close,
            Opcode::Ping,
            Opcode::Pong,
        ]
        .into_iter()
        .find(|&opcode| opcode as u8 == first & 0x0F)
        .unwrap_or_else(|| panic!("{first:x}")),
        mask,
        payload_bytes: payload.len() as u64,
        header_bytes: 0,
    };
    let key = mask.unwrap_or_default();
    let masked = payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key);
    [encode(&header), masked.collect()].concat()
}
