//! The case list of the Autobahn test suite's fuzzing client (autobahntestsuite 25.10.1), by its numbers. Where that waits
//! a second for nothing to happen, a case here waits for the event that has to come. Counts of 9.7 and 9.8 are a tenth.

use super::{Case, End, Event, Step};
use crate::support::frames::{BINARY, CLOSE, MORE, PING, PONG, TEXT, client_frame, close};

const HELLO: &[u8] = b"Hello, world!";
const BYTES: &[u8] = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff";
const FRAGMENTS: [&[u8]; 5] = [b"fragment1", b"fragment2", b"fragment3", b"fragment4", b"fragment5"];
/// κόσμε
const GREEK: &[u8] = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5";
const EDITED: &[u8] = b"edited";
const PROTOCOL_ERROR: End = End::Theirs(&[1002]);
const NOT_UTF8: End = End::TheirsForText;

pub(crate) fn all() -> Vec<Case> {
    let groups =
        [framing, pings, reserved_bits, opcodes, fragmentation, utf8, closes, sizes, auto_fragmentation];
    groups.into_iter().flat_map(|group| group()).collect()
}

fn text(payload: &[u8]) -> Vec<u8> {
    client_frame(TEXT, true, payload)
}

fn binary(payload: &[u8]) -> Vec<u8> {
    client_frame(BINARY, true, payload)
}

fn ping(payload: &[u8]) -> Vec<u8> {
    client_frame(PING, true, payload)
}

fn said_text(payload: &[u8]) -> Event {
    Event::Message { binary: false, payload: payload.to_vec() }
}

fn said_binary(payload: &[u8]) -> Event {
    Event::Message { binary: true, payload: payload.to_vec() }
}

fn pong(payload: &[u8]) -> Event {
    Event::Pong(payload.to_vec())
}

/// Sends the frames at once, in writes of their own, or byte by byte.
#[derive(Clone, Copy)]
enum How {
    Together,
    Apart,
    Chopped,
}

const HOW: [How; 3] = [How::Together, How::Apart, How::Chopped];

fn steps(how: How, frames: &[Vec<u8>]) -> Vec<Step> {
    match how {
        How::Together => vec![Step::send(frames.concat())],
        How::Apart => frames.iter().cloned().map(Step::send).collect(),
        How::Chopped => vec![Step::Send { bytes: frames.concat(), chop: 1 }],
    }
}

fn case(number: impl Into<String>, send: Vec<Step>, expected: Vec<Event>, end: End) -> Case {
    Case { number: number.into(), send, expected, lax: None, end }
}

fn good(number: impl Into<String>, send: Vec<Step>, expected: Vec<Event>) -> Case {
    case(number, send, expected, End::Ours)
}

/// A frame that is fine, then a bad one and a Ping. An answer to the first may come or not (NON-STRICT).
fn bad_behind(number: impl Into<String>, how: How, bad: Vec<u8>) -> Case {
    let send = steps(how, &[text(HELLO), bad, ping(b"")]);
    Case { lax: Some(vec![]), ..case(number, send, vec![said_text(HELLO)], PROTOCOL_ERROR) }
}

fn bad(number: impl Into<String>, send: Vec<u8>) -> Case {
    case(number, vec![Step::send(send)], vec![], PROTOCOL_ERROR)
}

fn framing() -> Vec<Case> {
    let mut cases = Vec::new();
    for (at, bytes) in [0, 125, 126, 127, 128, 65_535, 65_536, 65_536].into_iter().enumerate() {
        let chop = if at == 7 { 997 } else { 0 };
        let (stars, high) = (vec![b'*'; bytes], vec![0xfe; bytes]);
        let send = |bytes| vec![Step::Send { bytes, chop }];
        cases.push(good(format!("1.1.{}", at + 1), send(text(&stars)), vec![said_text(&stars)]));
        cases.push(good(format!("1.2.{}", at + 1), send(binary(&high)), vec![said_binary(&high)]));
    }
    cases
}

fn pings() -> Vec<Case> {
    let plain =
        |number: &str, payload: &[u8]| good(number, vec![Step::send(ping(payload))], vec![pong(payload)]);
    let pong_frame = |payload: &[u8]| client_frame(PONG, true, payload);
    let ten: Vec<Vec<u8>> = (0..10).map(|n| format!("payload-{n}").into_bytes()).collect();
    let ten_pings: Vec<Vec<u8>> = ten.iter().map(|payload| ping(payload)).collect();
    let ten_pongs = || ten.iter().map(|payload| pong(payload)).collect();
    let unasked = b"unsolicited pong payload";
    vec![
        plain("2.1", b""),
        plain("2.2", HELLO),
        plain("2.3", BYTES),
        plain("2.4", &[0xfe; 125]),
        bad("2.5", ping(&[0xfe; 126])),
        good("2.6", steps(How::Chopped, &[ping(&[0xfe; 125])]), vec![pong(&[0xfe; 125])]),
        good("2.7", vec![Step::send(pong_frame(b""))], vec![]),
        good("2.8", vec![Step::send(pong_frame(unasked))], vec![]),
        good("2.9", vec![Step::send([pong_frame(unasked), ping(HELLO)].concat())], vec![pong(HELLO)]),
        good("2.10", steps(How::Apart, &ten_pings), ten_pongs()),
        good("2.11", steps(How::Chopped, &ten_pings), ten_pongs()),
    ]
}

fn reserved_bits() -> Vec<Case> {
    let with = |opcode: u8, bits: u8, payload: &[u8]| client_frame(opcode | bits << 4, true, payload);
    vec![
        bad("3.1", with(TEXT, 1, HELLO)),
        bad_behind("3.2", How::Together, with(TEXT, 2, HELLO)),
        bad_behind("3.3", How::Apart, with(TEXT, 3, HELLO)),
        bad_behind("3.4", How::Chopped, with(TEXT, 4, HELLO)),
        bad("3.5", with(BINARY, 5, BYTES)),
        bad("3.6", with(BINARY, 6, HELLO)),
        bad("3.7", with(CLOSE, 7, b"")),
    ]
}

fn opcodes() -> Vec<Case> {
    let mut cases = Vec::new();
    for (group, first) in [(1, 3), (2, 11)] {
        let frame = |at: u8, payload: &[u8]| client_frame(first + at, true, payload);
        let number = |at| format!("4.{group}.{at}");
        cases.push(bad(number(1), frame(0, b"")));
        cases.push(bad(number(2), frame(1, b"reserved opcode payload")));
        cases.push(bad_behind(number(3), How::Together, frame(2, b"")));
        cases.push(bad_behind(number(4), How::Together, frame(3, HELLO)));
        cases.push(bad_behind(number(5), How::Chopped, frame(4, HELLO)));
    }
    cases
}

fn fragmentation() -> Vec<Case> {
    let first = |payload: &[u8]| client_frame(TEXT, false, payload);
    let more = |payload: &[u8]| client_frame(MORE, false, payload);
    let last = |payload: &[u8]| client_frame(MORE, true, payload);
    let [one, two, three, four, five] = FRAGMENTS;
    let (both, all) = ([one, two].concat(), FRAGMENTS.concat());
    let mut cases = Vec::new();
    for (at, opcode) in [PING, PONG].into_iter().enumerate() {
        cases.push(bad(format!("5.{}", at + 1), [client_frame(opcode, false, one), last(two)].concat()));
    }
    for (at, how) in HOW.into_iter().enumerate() {
        let send = steps(how, &[first(one), last(two)]);
        cases.push(good(format!("5.{}", at + 3), send, vec![said_text(&both)]));
        let send = steps(how, &[first(one), ping(HELLO), last(two)]);
        cases.push(good(format!("5.{}", at + 6), send, vec![pong(HELLO), said_text(&both)]));
        for (at, lonely) in [(at + 9, last(b"non-continuation")), (at + 12, more(b"non-continuation"))] {
            let send = steps(how, &[lonely, text(HELLO)]);
            cases.push(case(format!("5.{at}"), send, vec![], PROTOCOL_ERROR));
        }
    }
    let send = steps(How::Together, &[first(one), last(two), more(three), text(four)]);
    cases.push(Case { lax: Some(vec![]), ..case("5.15", send, vec![said_text(&both)], PROTOCOL_ERROR) });
    cases.push(bad("5.16", [more(one), first(two), last(three)].concat().repeat(2)));
    cases.push(bad("5.17", [last(one), first(two), last(three)].concat().repeat(2)));
    cases.push(bad("5.18", [first(one), text(two)].concat()));
    for (number, how) in [("5.19", How::Together), ("5.20", How::Apart)] {
        let mut send = steps(how, &[first(one), more(two), ping(b"pongme 1!")]);
        send.push(Step::Await(1));
        send.extend(steps(how, &[more(three), more(four), ping(b"pongme 2!"), last(five)]));
        cases.push(good(number, send, vec![pong(b"pongme 1!"), pong(b"pongme 2!"), said_text(&all)]));
    }
    cases
}

/// A text message in frames of one byte each.
fn byte_frames(payload: &[u8]) -> Vec<u8> {
    let count = payload.len();
    let frame = |(at, byte): (usize, &u8)| {
        client_frame(if at == 0 { TEXT } else { MORE }, at + 1 == count, std::slice::from_ref(byte))
    };
    payload.iter().enumerate().flat_map(frame).collect()
}

fn utf8() -> Vec<Case> {
    let umlauts = "Hello-µ@ßöäüàá-UTF-8!!".as_bytes();
    let (front, back) = ("Hello-µ@ßöä".as_bytes(), "üàá-UTF-8!!".as_bytes());
    let three = |a: &[u8], b: &[u8], c: &[u8]| {
        [client_frame(TEXT, false, a), client_frame(MORE, false, b), client_frame(MORE, true, c)]
    };
    let surrogate = [GREEK, b"\xed\xa0\x80", EDITED].concat();
    let beyond = [GREEK, b"\xf4\x90\x80\x80", EDITED].concat();
    let mut cases = vec![
        good("6.1.1", vec![Step::send(text(b""))], vec![said_text(b"")]),
        good("6.1.2", steps(How::Together, &three(b"", b"", b"")), vec![said_text(b"")]),
        good("6.1.3", steps(How::Together, &three(b"", b"middle", b"")), vec![said_text(b"middle")]),
        good("6.2.1", vec![Step::send(text(umlauts))], vec![said_text(umlauts)]),
        good(
            "6.2.2",
            steps(How::Together, &[client_frame(TEXT, false, front), client_frame(MORE, true, back)]),
            vec![said_text(umlauts)],
        ),
        good("6.2.3", vec![Step::send(byte_frames(umlauts))], vec![said_text(umlauts)]),
        good("6.2.4", vec![Step::send(byte_frames(GREEK))], vec![said_text(GREEK)]),
        case("6.3.1", vec![Step::send(text(&surrogate))], vec![], NOT_UTF8),
        case("6.3.2", vec![Step::send(byte_frames(&surrogate))], vec![], NOT_UTF8),
    ];
    // 6.4: the bad byte in the second of three frames, or of three pieces of one. Who checks as it reads ends there.
    for (number, at) in [("6.4.1", [11, 15]), ("6.4.2", [12, 13])] {
        let frames = three(&beyond[..at[0]], &beyond[at[0]..at[1]], &beyond[at[1]..]);
        cases.push(case(number, steps(How::Apart, &frames), vec![], NOT_UTF8));
    }
    for (number, at) in [("6.4.3", [11, 15]), ("6.4.4", [12, 13])] {
        let (frame, head) = (text(&beyond), text(&beyond).len() - beyond.len());
        let pieces = [
            frame[..head + at[0]].to_vec(),
            frame[head + at[0]..head + at[1]].to_vec(),
            frame[head + at[1]..].to_vec(),
        ];
        cases.push(case(number, steps(How::Apart, &pieces), vec![], NOT_UTF8));
    }
    for (group, sequences) in sequences().into_iter().enumerate() {
        for (at, (valid, bytes)) in sequences.into_iter().enumerate() {
            let (number, send) = (format!("6.{}.{}", group + 5, at + 1), vec![Step::send(text(&bytes))]);
            cases.push(match valid {
                true => good(number, send, vec![said_text(&bytes)]),
                false => case(number, send, vec![], NOT_UTF8),
            });
        }
    }
    cases
}

type Sequences = Vec<(bool, Vec<u8>)>;

fn each(valid: bool, sequences: &[&[u8]]) -> Sequences {
    sequences.iter().map(|bytes| (valid, bytes.to_vec())).collect()
}

/// 6.5 to 6.23: the sequences of Markus Kuhn's decoder stress test, and whether they are UTF-8 (RFC 3629).
fn sequences() -> Vec<Sequences> {
    let whole = [2, 5, 7, 9, 11];
    let prefixes = (1..=GREEK.len()).map(|count| (whole.contains(&count), GREEK[..count].to_vec())).collect();
    let mut boundaries =
        each(true, &[b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd", b"\xf4\x8f\xbf\xbf"]);
    boundaries.extend(each(false, &[b"\xf4\x90\x80\x80"]));
    let continuations: Sequences =
        (1..=6).map(|count| (false, b"\x80\xbf".repeat(3)[..count].to_vec())).collect();
    let mut unexpected = each(false, &[b"\x80", b"\xbf"]);
    unexpected.extend(continuations.into_iter().skip(1));
    unexpected.push((false, (0x80..0xbf).collect()));
    let lonely = [(0xc0, 0xdf), (0xe0, 0xef), (0xf0, 0xf7), (0xf8, 0xfb), (0xfc, 0xfd)];
    let lonely = lonely.map(|(from, to)| (false, (from..to).flat_map(|first| [first, b' ']).collect()));
    let cut: [&[u8]; 10] = [
        b"\xc0",
        b"\xe0\x80",
        b"\xf0\x80\x80",
        b"\xf8\x80\x80\x80",
        b"\xfc\x80\x80\x80\x80",
        b"\xdf",
        b"\xef\xbf",
        b"\xf7\xbf\xbf",
        b"\xfb\xbf\xbf\xbf",
        b"\xfd\xbf\xbf\xbf\xbf",
    ];
    let surrogates: [&[u8]; 7] = [
        b"\xed\xa0\x80",
        b"\xed\xad\xbf",
        b"\xed\xae\x80",
        b"\xed\xaf\xbf",
        b"\xed\xb0\x80",
        b"\xed\xbe\x80",
        b"\xed\xbf\xbf",
    ];
    let pair = |at: usize| (false, [surrogates[at / 2], surrogates[4 + at % 2 * 2]].concat());
    let mut no_characters = each(true, &[b"\xef\xbf\xbe", b"\xef\xbf\xbf"]);
    for plane in 1..=16u32 {
        for last in [0xfffe, 0xffff] {
            let character = char::from_u32(plane << 16 | last).unwrap();
            no_characters.push((true, character.to_string().into_bytes()));
        }
    }
    let specials = (0xfff9..=0xffffu32).map(|code| char::from_u32(code).unwrap().to_string().into_bytes());
    vec![
        each(
            true,
            &[
                b"hello\x24world",
                b"hello\xC2\xA2world",
                b"hello\xE2\x82\xACworld",
                b"hello\xF0\xA4\xAD\xA2world",
                GREEK,
            ],
        ),
        prefixes,
        each(true, &[b"\x00", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80"]),
        each(false, &[b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"]),
        each(true, &[b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf"]),
        each(false, &[b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf"]),
        boundaries,
        unexpected,
        lonely.to_vec(),
        each(false, &cut),
        vec![(false, cut.concat())],
        each(false, &[b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"]),
        each(
            false,
            &[
                b"\xc0\xaf",
                b"\xe0\x80\xaf",
                b"\xf0\x80\x80\xaf",
                b"\xf8\x80\x80\x80\xaf",
                b"\xfc\x80\x80\x80\x80\xaf",
            ],
        ),
        each(
            false,
            &[
                b"\xc1\xbf",
                b"\xe0\x9f\xbf",
                b"\xf0\x8f\xbf\xbf",
                b"\xf8\x87\xbf\xbf\xbf",
                b"\xfc\x83\xbf\xbf\xbf\xbf",
            ],
        ),
        each(
            false,
            &[
                b"\xc0\x80",
                b"\xe0\x80\x80",
                b"\xf0\x80\x80\x80",
                b"\xf8\x80\x80\x80\x80",
                b"\xfc\x80\x80\x80\x80\x80",
            ],
        ),
        each(false, &surrogates),
        (0..8).map(pair).collect(),
        no_characters,
        specials.map(|bytes| (true, bytes)).collect(),
    ]
}

fn closes() -> Vec<Case> {
    let frame = |payload: &[u8]| client_frame(CLOSE, true, payload);
    let normal = || frame(&close(1000, ""));
    let closing = |number: String, frames: &[Vec<u8>], codes| {
        case(number, steps(How::Together, frames), vec![], End::Sent(codes))
    };
    let refused = |number: String, payload: &[u8], codes| {
        case(number, vec![Step::send(frame(payload))], vec![], End::Refused(codes))
    };
    let not_utf8 = [&close(1000, "")[..], GREEK, b"\xed\xa0\x80", EDITED].concat();
    let mut cases = vec![
        good("7.1.1", vec![Step::send(text(HELLO))], vec![said_text(HELLO)]),
        closing("7.1.2".to_owned(), &[normal(), frame(b"")], &[1000]),
        closing("7.1.3".to_owned(), &[normal(), ping(b"")], &[1000]),
        closing("7.1.4".to_owned(), &[normal(), text(HELLO)], &[1000]),
        closing(
            "7.1.5".to_owned(),
            &[client_frame(TEXT, false, b"fragment1"), normal(), client_frame(MORE, true, b"fragment2")],
            &[1000],
        ),
        // Informational: the messages before the Close may come back or not.
        Case {
            lax: Some(vec![]),
            ..case(
                "7.1.6",
                steps(How::Together, &[text(&vec![b'B'; 256 << 10]), text(HELLO), normal(), ping(b"")]),
                vec![said_text(&vec![b'B'; 256 << 10]), said_text(HELLO)],
                End::Sent(&[1000]),
            )
        },
        closing("7.3.1".to_owned(), &[frame(b"")], &[1000]),
        refused("7.3.2".to_owned(), b"a", &[1002]),
        closing("7.3.3".to_owned(), &[normal()], &[1000]),
        closing("7.3.4".to_owned(), &[frame(&close(1000, "Hello World!"))], &[1000]),
        closing("7.3.5".to_owned(), &[frame(&close(1000, &"*".repeat(123)))], &[1000]),
        refused("7.3.6".to_owned(), &close(1000, &"*".repeat(124)), &[1002]),
        refused("7.5.1".to_owned(), &not_utf8, &[1002, 1007]),
    ];
    let valid: [(u16, &'static [u16]); 13] = [
        (1000, &[1000]),
        (1001, &[1000, 1001]),
        (1002, &[1000, 1002]),
        (1003, &[1000, 1003]),
        (1007, &[1000, 1007]),
        (1008, &[1000, 1008]),
        (1009, &[1000, 1009]),
        (1010, &[1000, 1010]),
        (1011, &[1000, 1011]),
        (3000, &[1000, 3000]),
        (3999, &[1000, 3999]),
        (4000, &[1000, 4000]),
        (4999, &[1000, 4999]),
    ];
    for (at, (code, answers)) in valid.into_iter().enumerate() {
        cases.push(closing(format!("7.7.{}", at + 1), &[frame(&close(code, ""))], answers));
    }
    for (at, code) in [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999].into_iter().enumerate() {
        cases.push(refused(format!("7.9.{}", at + 1), &close(code, ""), &[1002]));
    }
    for (at, code) in [5000, 65_535].into_iter().enumerate() {
        // Informational.
        cases.push(refused(format!("7.13.{}", at + 1), &close(code, ""), &[1000, 1002, 5000, 65_535]));
    }
    cases
}

/// A masked frame whose key is zeros, so that megabytes need not be turned byte by byte.
fn large(opcode: u8, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = client_frame(opcode, fin, &[]);
    frame.truncate(1);
    frame.push(0x80 | 127);
    frame.extend((payload.len() as u64).to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(payload);
    if payload.len() < 1 << 16 { client_frame(opcode, fin, payload) } else { frame }
}

fn fragmented(opcode: u8, payload: &[u8], fragment_bytes: usize) -> Vec<u8> {
    let count = payload.len().div_ceil(fragment_bytes);
    let frame = |(at, fragment)| large(if at == 0 { opcode } else { MORE }, at + 1 == count, fragment);
    payload.chunks(fragment_bytes).enumerate().flat_map(frame).collect()
}

fn sizes() -> Vec<Case> {
    const KIB: usize = 1 << 10;
    const MIB: usize = 1 << 20;
    let mut cases = Vec::new();
    for (pair, (opcode, byte)) in [(TEXT, b'*'), (BINARY, 0xfe)].into_iter().enumerate() {
        let said = |bytes| Event::Message { binary: opcode == BINARY, payload: vec![byte; bytes] };
        let number = |first: usize, at: usize| format!("9.{}.{}", first + pair, at + 1);
        for (at, bytes) in [64 * KIB, 256 * KIB, MIB, 4 * MIB, 8 * MIB, 16 * MIB].into_iter().enumerate() {
            let send = vec![Step::send(large(opcode, true, &vec![byte; bytes]))];
            cases.push(good(number(1, at), send, vec![said(bytes)]));
        }
        for at in 0..9 {
            let send = vec![Step::send(fragmented(opcode, &vec![byte; 4 * MIB], 64 << (2 * at)))];
            cases.push(good(number(3, at), send, vec![said(4 * MIB)]));
        }
        for at in 0..6 {
            let send = vec![Step::Send { bytes: large(opcode, true, &vec![byte; MIB]), chop: 64 << at }];
            cases.push(good(number(5, at), send, vec![said(MIB)]));
        }
        for (at, bytes) in [0, 16, 64, 256, KIB, 4 * KIB].into_iter().enumerate() {
            let message = |n| [Step::send(client_frame(opcode, true, &vec![byte; bytes])), Step::Await(n)];
            let events = (0..100).map(|_| said(bytes)).collect();
            cases.push(good(number(7, at), (1..=100).flat_map(message).collect(), events));
        }
    }
    cases
}

fn auto_fragmentation() -> Vec<Case> {
    let stars = vec![b'*'; 65_536];
    vec![good("10.1.1", vec![Step::send(fragmented(TEXT, &stars, 1300))], vec![said_text(&stars)])]
}
