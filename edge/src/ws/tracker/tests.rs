use proptest::prelude::*;

use super::Direction::*;
use super::Violation::*;
use super::*;
use crate::fuzz::ws::{Case, End, PING, Step, frame};

const RULES: Rules = Rules {
    frame_bytes_max: u64::MAX,
    message_bytes_max: u64::MAX,
    check_utf8: false,
    extensions: Extensions::None,
};
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const CLOSE: u8 = 0x88;
const PING_FRAME: u8 = 0x89;
const PONG: u8 = 0x8A;

/// A frame of the server's.
fn plain(first: u8, payload: &[u8]) -> Vec<u8> {
    frame(first, payload, None)
}

/// A frame of the client's.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    frame(first, payload, Some(KEY))
}

/// What is told of frames in one piece, after the oracle agreed on every cut: bytes that pass, and how it ends.
fn told(direction: Direction, rules: Rules, frames: &[Vec<u8>]) -> (usize, Then) {
    let input = frames.concat();
    Case { direction, rules, ping: None }.check(&input, &[Step { bytes: 3, inserts: true }]);
    let tracked = Tracker::new(direction, rules).track(&input);
    (tracked.pass, tracked.then)
}

/// That all frames but the last pass, and what rule that one breaks.
fn broken(direction: Direction, rules: Rules, frames: &[Vec<u8>]) -> Violation {
    let (pass, then) = told(direction, rules, frames);
    assert_eq!(pass, frames.concat().len() - frames.last().unwrap().len());
    match then {
        Then::Broken(violation) => violation,
        then => panic!("{then:?}"),
    }
}

fn assert_passes(direction: Direction, rules: Rules, frames: &[Vec<u8>]) {
    let bytes = frames.concat().len();
    assert_eq!(told(direction, rules, frames), (bytes, Then::More), "{frames:x?}");
}

#[test]
fn a_tracker_is_small() {
    assert!(size_of::<Tracker>() <= 72, "{} bytes", size_of::<Tracker>());
    assert!(size_of::<Tracked>() <= 64, "{} bytes", size_of::<Tracked>());
}

#[test]
fn messages_pass_in_fragments_with_control_frames_between() {
    let pieces = |frame: fn(u8, &[u8]) -> Vec<u8>| {
        vec![
            frame(TEXT | FIN, b"Hello"),
            frame(BINARY | FIN, &[0xff; 200]),
            frame(TEXT, b"Hel"),
            frame(PING_FRAME, b"?"),
            frame(CONTINUATION, b""),
            frame(PONG, &[7; 125]),
            frame(PONG, b""),
            frame(CONTINUATION | FIN, b"lo"),
            frame(TEXT | FIN, b""),
            frame(BINARY | FIN, &[1; 600]),
        ]
    };
    assert_passes(FromClient, RULES, &pieces(masked));
    assert_passes(FromUpstream, RULES, &pieces(plain));
}

#[test]
fn the_mask_goes_with_the_direction() {
    assert_eq!(broken(FromClient, RULES, &[masked(PING_FRAME, b""), plain(PING_FRAME, b"")]), NotMasked);
    assert_eq!(broken(FromUpstream, RULES, &[plain(TEXT | FIN, b"x"), masked(TEXT | FIN, b"x")]), Masked);
}

#[test]
fn reserved_bits_are_those_of_permessage_deflate() {
    let deflate = Rules { extensions: Extensions::Deflate, ..RULES };
    let first = || plain(TEXT | RSV1, b"x");
    assert_passes(FromUpstream, deflate, &[first(), plain(CONTINUATION | FIN, b"x")]);
    assert_passes(FromUpstream, deflate, &[plain(BINARY | FIN | RSV1, b"x"), plain(TEXT | FIN, b"x")]);
    assert_eq!(broken(FromUpstream, RULES, &[first()]), Rsv1NotNegotiated);
    let opcode = Opcode::Continuation;
    let twice = [first(), plain(CONTINUATION | RSV1, b"x")];
    assert_eq!(broken(FromUpstream, deflate, &twice), Rsv1Misplaced { opcode });
    for (first, opcode) in [(CLOSE, Opcode::Close), (PING_FRAME, Opcode::Ping), (PONG, Opcode::Pong)] {
        assert_eq!(broken(FromUpstream, deflate, &[plain(first | RSV1, b"")]), Rsv1Misplaced { opcode });
    }
    for found in [0x10, 0x20, 0x30] {
        assert_eq!(broken(FromUpstream, deflate, &[plain(TEXT | found, b"")]), ReservedBits { found });
        assert_eq!(broken(FromUpstream, RULES, &[plain(PONG | found, b"")]), ReservedBits { found });
    }
}

#[test]
fn the_reserved_bits_of_an_unknown_extension_are_its_own() {
    let unknown = Rules { extensions: Extensions::Unknown, ..RULES };
    for bits in [0x10, 0x20, RSV1, 0x70] {
        let message =
            [plain(TEXT | bits, b"x"), plain(PING_FRAME | bits, b""), plain(CONTINUATION | FIN | bits, b"x")];
        assert_passes(FromUpstream, unknown, &message);
    }
    assert_eq!(broken(FromUpstream, unknown, &[plain(CONTINUATION | RSV1, b"x")]), NothingToContinue);
}

#[test]
fn a_message_is_continued_or_begun() {
    for first in [CONTINUATION, CONTINUATION | FIN] {
        let frames = [plain(BINARY | FIN, b"x"), plain(first, b"x")];
        assert_eq!(broken(FromUpstream, RULES, &frames), NothingToContinue);
    }
    for (first, opcode) in [(TEXT | FIN, Opcode::Text), (BINARY, Opcode::Binary)] {
        let frames = [plain(TEXT, b"x"), plain(PING_FRAME, b""), plain(first, b"x")];
        assert_eq!(broken(FromUpstream, RULES, &frames), MessageOpen { opcode });
    }
}

#[test]
fn rules_of_single_frames_hold_in_a_sequence() {
    let after = |bytes: &[u8]| broken(FromUpstream, RULES, &[plain(TEXT | FIN, b"x"), bytes.to_vec()]);
    assert_eq!(after(&[0x83]), ReservedOpcode { found: 3 });
    assert_eq!(after(&[0x09]), ControlFragmented { opcode: Opcode::Ping });
    assert_eq!(after(&[0x8A, 126]), ControlTooLong { opcode: Opcode::Pong, length_bits: 16 });
    assert_eq!(after(&[0x82, 126, 0, 125]), LengthNotMinimal { found: 125, length_bits: 16 });
    assert_eq!(after(&[0x82, 127, 0xff, 0, 0, 0, 0, 0, 0, 0]), LengthTopBit { found: 0xff << 56 });
}

#[test]
fn a_frame_is_bounded_before_its_payload() {
    let rules = Rules { frame_bytes_max: 300, ..RULES };
    assert_passes(FromUpstream, rules, &[plain(TEXT, &[b'x'; 300]), plain(CONTINUATION, &[b'x'; 300])]);
    let header = || plain(BINARY, &[0; 301])[..4].to_vec();
    assert_eq!(broken(FromUpstream, rules, &[header()]), FrameTooBig { found: 301, max: 300 });
    let frames = [plain(TEXT, b"x"), plain(CONTINUATION, &[0; 301])];
    assert_eq!(broken(FromUpstream, rules, &frames), FrameTooBig { found: 301, max: 300 });
    let small = Rules { frame_bytes_max: 124, message_bytes_max: 124, ..RULES };
    assert_passes(FromUpstream, small, &[plain(PING_FRAME, &[0; 125])]);
}

#[test]
fn a_message_is_bounded_over_its_frames() {
    let rules = Rules { message_bytes_max: 300, ..RULES };
    let part = |first, bytes| plain(first, &vec![b'x'; bytes]);
    let open = || [part(TEXT, 100), part(PING_FRAME, 125), part(CONTINUATION, 150)];
    let frames = |last| [&open()[..], &[last]].concat();
    assert_passes(FromUpstream, rules, &frames(part(CONTINUATION | FIN, 50)));
    assert_passes(
        FromUpstream,
        rules,
        &[frames(part(CONTINUATION | FIN, 50)), frames(part(CONTINUATION, 0))].concat(),
    );
    let above = frames(part(CONTINUATION | FIN, 51));
    assert_eq!(broken(FromUpstream, rules, &above), MessageTooBig { found: 301, max: 300 });
    assert_passes(FromUpstream, rules, &[part(BINARY | FIN, 300), part(BINARY | FIN, 300)]);
    assert_eq!(broken(FromUpstream, rules, &[part(TEXT, 301)]), MessageTooBig { found: 301, max: 300 });
}

#[test]
fn a_sum_beyond_64_bits_is_no_small_one() {
    let rules = Rules { message_bytes_max: u64::MAX - 1, ..RULES };
    let mut tracker = Tracker::new(FromUpstream, rules);
    tracker.message = Message::Open { examined: false };
    tracker.message_bytes = 1 << 63;
    let longest = [&[CONTINUATION, 127, 0x7f][..], &[0xff; 7]].concat();
    let found = u64::MAX;
    assert_eq!(tracker.clone().track(&longest).then, Then::Broken(MessageTooBig { found, max: found - 1 }));
    tracker.message_bytes -= 1;
    assert_eq!(tracker.track(&longest).pass, longest.len());
}

#[test]
fn a_close_is_empty_or_has_a_code_that_may_be_sent() {
    let close = |payload: &[u8]| [masked(TEXT, b"x"), masked(CLOSE, payload)];
    let closes = |payload: &[u8]| {
        let frames = close(payload);
        assert_eq!(told(FromClient, RULES, &frames), (frames.concat().len(), Then::Closed));
    };
    closes(b"");
    assert_eq!(broken(FromClient, RULES, &close(b"\x03")), CloseCodeCut);
    for code in [1000, 1003, 1007, 1014, 3000, 4999_u16] {
        closes(&code.to_be_bytes());
        closes(&[&code.to_be_bytes()[..], "täglich".as_bytes(), &[b'x'; 115]].concat());
    }
    for found in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, u16::MAX] {
        let payload = [&found.to_be_bytes()[..], b"why"].concat();
        assert_eq!(broken(FromClient, RULES, &close(&payload)), CloseCode { found });
    }
}

#[test]
fn a_reason_is_utf8_whatever_the_text_before_it() {
    let close = |reason: &[u8]| masked(CLOSE, &[&1000_u16.to_be_bytes(), reason].concat());
    let rules = Rules { check_utf8: true, ..RULES };
    // A text message with half a character is open.
    let frames = |reason: &[u8]| [masked(TEXT, b"\xE2\x82"), close(reason)];
    let (_, then) = told(FromClient, rules, &frames("€".as_bytes()));
    assert_eq!(then, Then::Closed);
    for reason in [&b"\xff"[..], b"ok \xE2\x82", b"\xC0\x80", b"\xAC"] {
        assert_eq!(broken(FromClient, rules, &frames(reason)), ReasonNotUtf8);
    }
}

#[test]
fn what_follows_a_close_is_dropped() {
    let close = plain(CLOSE, b"\x03\xe8");
    let mut tracker = Tracker::new(FromUpstream, RULES);
    let tracked = tracker.track(&[&close[..], &plain(TEXT | FIN, b"x")].concat());
    assert_eq!((tracked.pass, tracked.then), (close.len(), Then::Closed));
    assert!(tracker.closed() && !tracker.at_boundary() && tracker.held().is_empty());
    let tracked = tracker.track(b"\xff\xff");
    assert_eq!((tracked.pass, tracked.then), (0, Then::Closed));
    assert_eq!(tracker.track_to_boundary(b"\xff").then, Then::Closed);
}

const EXAMINED: Rules = Rules { check_utf8: true, extensions: Extensions::Deflate, ..RULES };

#[test]
fn text_is_utf8_over_all_its_frames_where_asked_for() {
    // A character over three frames, one of them empty, with a Pong between.
    let frames = [
        masked(TEXT, "a\u{10FFFF}".as_bytes().split_at(2).0),
        masked(CONTINUATION, b""),
        masked(PONG, b"\xff"),
        masked(CONTINUATION, b"\x8f\xbf"),
        masked(CONTINUATION | FIN, b"\xbf\xC3\xA9"),
        masked(BINARY | FIN, b"\xff"),
        masked(TEXT | FIN, "täglich €".repeat(80).as_bytes()),
    ];
    assert_passes(FromClient, EXAMINED, &frames);
    for bad in
        [&b"\xff"[..], b"\xC0\x80", b"\xED\xA0\x80", b"\xF4\x90", b"\xE2\x82", b"x\xF0\x9F\x98", b"\x80"]
    {
        let long = [&[b'x'; 300], bad].concat();
        for bad in [bad, &long] {
            assert_eq!(broken(FromClient, EXAMINED, &[masked(TEXT | FIN, bad)]), TextNotUtf8);
            assert_eq!(broken(FromUpstream, EXAMINED, &[plain(TEXT | FIN, bad)]), TextNotUtf8);
            assert_passes(FromClient, RULES, &[masked(TEXT | FIN, bad)]);
            assert_passes(FromClient, EXAMINED, &[masked(BINARY | FIN, bad)]);
        }
    }
    let cut = [plain(TEXT, b"\xE2"), plain(CONTINUATION, b"\x82"), plain(CONTINUATION | FIN, b"")];
    assert_eq!(broken(FromUpstream, EXAMINED, &cut), TextNotUtf8);
}

#[test]
fn compressed_text_is_not_looked_at() {
    let frames = [plain(TEXT | RSV1, b"\xff"), plain(CONTINUATION | FIN, b"\xff")];
    assert_passes(FromUpstream, EXAMINED, &frames);
    assert_eq!(broken(FromUpstream, EXAMINED, &[plain(TEXT | FIN, b"\xff")]), TextNotUtf8);
}

#[test]
fn a_broken_payload_in_pieces_leaves_the_receiver_inside_the_frame() {
    let frame = plain(TEXT | FIN, b"ab\xffcd");
    let mut tracker = Tracker::new(FromUpstream, EXAMINED);
    assert_eq!(tracker.track(&frame[..4]).pass, 4);
    let tracked = tracker.track(&frame[4..]);
    assert_eq!((tracked.pass, tracked.then), (0, Then::Broken(TextNotUtf8)));
    assert!(!tracker.at_boundary());
    // Nothing of it had passed here.
    let mut tracker = Tracker::new(FromUpstream, EXAMINED);
    assert_eq!(tracker.track(&frame[..1]).pass, 0);
    let tracked = tracker.track(&frame[1..]);
    assert_eq!((tracked.released.len(), tracked.pass), (0, 0));
    assert!(tracker.at_boundary());
}

#[test]
fn an_unfinished_header_is_kept_and_passes_with_its_end() {
    let frame = masked(BINARY | FIN, &[5; 70_000]);
    let (start, rest) = frame.split_at(HELD_BYTES_MAX);
    let mut tracker = Tracker::new(FromClient, RULES);
    let tracked = tracker.track(start);
    assert_eq!((tracked.pass, tracked.then), (0, Then::More));
    assert!(tracker.at_boundary(), "nothing of it has passed");
    assert_eq!(tracker.held(), start);
    let tracked = tracker.track(rest);
    assert_eq!((&*tracked.released, tracked.pass), (start, rest.len()));
    assert!(tracker.at_boundary() && tracker.held().is_empty());
}

#[test]
fn a_boundary_is_found_behind_the_current_frame() {
    let frames = [plain(TEXT, b"abc"), plain(CONTINUATION | FIN, b"def")];
    let (first, bytes) = (frames[0].len(), frames.concat());
    let mut tracker = Tracker::new(FromUpstream, RULES);
    assert_eq!(
        tracker.track_to_boundary(&bytes),
        Tracked { released: Held::default(), pass: 0, then: Then::Boundary, messages: 0 }
    );
    assert_eq!(tracker.track(&bytes[..3]).pass, 3);
    assert!(!tracker.at_boundary());
    let inside = tracker.track_to_boundary(&bytes[3..first - 1]);
    assert_eq!((inside.pass, inside.then), (first - 4, Then::More));
    let tracked = tracker.track_to_boundary(&bytes[first - 1..]);
    assert_eq!((tracked.pass, tracked.then), (1, Then::Boundary));
    assert!(tracker.at_boundary());
    let tracked = tracker.track(&bytes[first..]);
    assert_eq!((tracked.pass, tracked.then), (bytes.len() - first, Then::More));
}

#[test]
fn every_pong_to_our_pings_is_left_out() {
    for (direction, frame) in [(FromClient, masked as fn(u8, &[u8]) -> Vec<u8>), (FromUpstream, plain)] {
        let other = [&PING[..7], b"?"].concat();
        let longer = [&PING[..], b"?"].concat();
        let before =
            [frame(TEXT, b"x"), frame(PONG, &other), frame(PONG, &longer), frame(PING_FRAME, &PING)].concat();
        let ours = frame(PONG, &PING);
        let input = [&before[..], &ours, &ours, &frame(CONTINUATION | FIN, b"")].concat();
        let case = Case { direction, rules: RULES, ping: Some(PING) };
        let seen = case.check(&input, &[Step { bytes: 5, inserts: true }]);
        let (first, second) = (before.len(), before.len() + ours.len());
        assert_eq!(seen.our_pongs, [first..second, second..second + ours.len()]);

        let mut tracker = Tracker::new(direction, RULES);
        assert_eq!(tracker.clone().track(&ours).pass, ours.len(), "nobody has asked");
        tracker.expect_pongs(PING);
        assert_eq!(tracker.ping_payload(), Some(PING));
        let tracked = tracker.track(&input);
        assert_eq!((tracked.pass, tracked.then), (before.len(), Then::OurPong(ours.len())));
        assert!(tracker.at_boundary());
        // The answer to one Ping, late, and to the next: neither is the application's.
        assert_eq!(tracker.track(&ours).then, Then::OurPong(ours.len()));
        assert_eq!(tracker.track(&frame(PONG, &[1; 8])).pass, ours.len());
    }
}

/// A control frame's first byte and its payload.
type Control = (u8, Vec<u8>);

/// One message, cut into frames anywhere, with control frames between.
#[derive(Clone, Debug)]
struct Sent {
    opcode: u8,
    compressed: bool,
    payload: Vec<u8>,
    cuts: Vec<(usize, Option<Control>)>,
}

impl Sent {
    fn frames(&self, mask: Option<[u8; 4]>) -> Vec<Vec<u8>> {
        let mut first = self.opcode | if self.compressed { RSV1 } else { 0 };
        let mut rest = self.payload.as_slice();
        let mut frames = Vec::new();
        for (at, between) in &self.cuts {
            let (part, more) = rest.split_at(at % (rest.len() + 1));
            frames.push(frame(first, part, mask));
            frames.extend(between.iter().map(|(first, payload)| frame(*first, payload, mask)));
            (first, rest) = (CONTINUATION, more);
        }
        frames.push(frame(first | FIN, rest, mask));
        frames
    }
}

fn control() -> impl Strategy<Value = Control> {
    let payload = prop_oneof![Just(PING.to_vec()), prop::collection::vec(any::<u8>(), 0..=125)];
    (prop_oneof![Just(PING_FRAME), Just(PONG)], payload)
}

fn sent() -> impl Strategy<Value = Sent> {
    let binary = prop::collection::vec(any::<u8>(), 0..300);
    let text = prop_oneof!["\\PC{0,40}", "[a-zäß€😀]{0,90}"].prop_map(String::into_bytes);
    let message =
        prop_oneof![binary.prop_map(|payload| (BINARY, payload)), text.prop_map(|payload| (TEXT, payload)),];
    let cuts = prop::collection::vec((any::<usize>(), prop::option::of(control())), 0..4);
    (message, any::<bool>(), cuts).prop_map(|((opcode, payload), compressed, cuts)| Sent {
        opcode,
        compressed,
        payload,
        cuts,
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((1..400_usize, any::<bool>()), 1..6)
        .prop_map(|steps| steps.into_iter().map(|(bytes, inserts)| Step { bytes, inserts }).collect())
}

/// A legal sequence, in what circumstances.
fn legal() -> impl Strategy<Value = (Case, Vec<u8>)> {
    let mask = prop::option::of(any::<[u8; 4]>());
    let switches = (any::<bool>(), any::<bool>(), any::<bool>());
    let close = prop::option::of("[a-zäß€😀]{0,30}");
    (mask, switches, prop::collection::vec(sent(), 0..5), close).prop_map(
        |(mask, (check_utf8, deflate, awaits), mut messages, close)| {
            messages.iter_mut().for_each(|message| message.compressed &= deflate);
            let direction = if mask.is_some() { FromClient } else { FromUpstream };
            let rules = Rules {
                check_utf8,
                extensions: if deflate { Extensions::Deflate } else { Extensions::None },
                ..RULES
            };
            let case = Case { direction, rules, ping: awaits.then_some(PING) };
            let close = close.map(|reason| frame(CLOSE, &[b"\x0f\xa0", reason.as_bytes()].concat(), mask));
            let frames = messages.iter().flat_map(|message| message.frames(mask)).chain(close);
            (case, frames.flatten().collect())
        },
    )
}

proptest! {
    #[test]
    fn legal_sequences_pass_however_they_are_cut((case, input) in legal(), steps in steps()) {
        let told = case.check(&input, &steps);
        let passes = match told.end {
            End::Open { judged } => !judged && told.boundaries.last() == Some(&input.len()),
            End::Closed { stop } => stop == input.len(),
            End::Broken { .. } => false,
        };
        prop_assert!(passes, "{:?}", told);
    }

    #[test]
    fn spoiled_sequences_are_reported_as_by_the_oracle(
        (case, mut input) in legal(),
        steps in steps(),
        limits in (0..400_u64, 0..700_u64),
        flips in prop::collection::vec((any::<usize>(), 0..8), 0..3),
        cut in any::<usize>(),
    ) {
        for (at, bit) in flips {
            let at = at % input.len().max(1);
            input.get_mut(at).into_iter().for_each(|byte| *byte ^= 1_u8 << bit);
        }
        input.truncate(cut % (2 * input.len() + 1));
        let rules = Rules { frame_bytes_max: limits.0, message_bytes_max: limits.1, ..case.rules };
        Case { rules, ..case }.check(&input, &steps);
    }
}
