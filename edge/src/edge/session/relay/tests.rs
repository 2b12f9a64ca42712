//! The relay over simulated links: hours pass at once, and a link is cut where the test says.

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::*;
use crate::edge::net::send_buffer::Pending;
use crate::edge::session::buffers::Buffers;
use crate::edge::session::pace::Pace;
use crate::fuzz::link::{End, Peer, link};
use crate::fuzz::ws::frame;
use crate::ops::metrics::{Flow, Reason};
use crate::ws::frame::{Decoded, Opcode, decode};
use crate::ws::tracker::Extensions;

const MASK: Option<[u8; 4]> = Some([1, 2, 3, 4]);
const STALL: Duration = Duration::from_secs(60);
const RULES: Rules = Rules {
    frame_bytes_max: 1 << 20,
    message_bytes_max: 1 << 20,
    check_utf8: false,
    extensions: Extensions::None,
};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The edge around the relay.
struct World {
    pace: Pace,
    drain: RefCell<Option<(u16, &'static str)>>,
    received: Flow,
    sent: Flow,
    refused: RefCell<Vec<(Reason, String)>>,
    closes: RefCell<Vec<Option<u16>>>,
    buffers: Buffers,
}

impl Surroundings for World {
    fn pace(&self) -> Pace {
        self.pace
    }
    fn drain_close(&self) -> Option<(u16, &'static str)> {
        *self.drain.borrow()
    }
    fn flows(&self) -> (&Flow, &Flow) {
        (&self.received, &self.sent)
    }
    fn buffers(&self) -> &Buffers {
        &self.buffers
    }
    fn refuse(&self, reason: Reason, _peer: IpAddr, found: &str) {
        self.refused.borrow_mut().push((reason, found.to_owned()));
    }
    fn count_close(&self, code: Option<u16>) {
        self.closes.borrow_mut().push(code);
    }
}

/// A relay between two links, 10 ms from either peer.
struct Bed {
    start: Instant,
    now: Instant,
    machine: Machine,
    ends: (End, End),
    client: Peer,
    app: Peer,
    world: World,
    scratch: Vec<u8>,
    steps: usize,
    over: Option<Duration>,
}

impl Bed {
    fn new(idle_timeout: Option<Duration>, ping_interval: Option<Duration>) -> Self {
        let now = Instant::now();
        let world = World {
            pace: Pace::new(STALL, 1000),
            drain: RefCell::default(),
            received: Flow::default(),
            sent: Flow::default(),
            refused: RefCell::default(),
            closes: RefCell::default(),
            buffers: Buffers::default(),
        };
        let ((client, client_end), (app, app_end)) = (link(now, LATENCY), link(now, LATENCY));
        let peer = Ipv4Addr::LOCALHOST.into();
        let mut machine = Machine::new(now, RULES, (&[], &[], Pending::default()), None, peer, &world);
        machine.start(now, idle_timeout, ping_interval);
        let (ends, scratch) = ((client_end, app_end), vec![0; 16 * 1024]);
        Self { start: now, now, machine, ends, client, app, world, scratch, steps: 0, over: None }
    }

    /// Lets `time` pass: steps the relay whenever something arrives or is due.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.over.is_none() {
            [&self.client, &self.app].into_iter().for_each(|peer| peer.set_now(self.now));
            self.steps += 1;
            assert!(self.steps < 1_000_000, "it is stepped without end");
            let (client, app) = &mut self.ends;
            let (deadline, more) =
                match self.machine.step(&self.now.into(), client, app, &mut self.scratch, &self.world) {
                    Step::Over(()) => {
                        self.over = Some(self.now - self.start);
                        break;
                    }
                    Step::Wait(deadline, more) => (deadline, more),
                };
            if let Some(deadline) = deadline {
                assert!(deadline > self.now, "what is due is done");
            }
            let arrives =
                [self.client.next(), self.app.next()].into_iter().flatten().filter(|at| *at > self.now);
            let next =
                if more { self.now } else { deadline.into_iter().chain(arrives).min().unwrap_or(until) };
            if next > until {
                break;
            }
            if next == until && !more {
                self.now = until;
                break;
            }
            self.now = next;
        }
        self.now = until.max(self.now);
        [&self.client, &self.app].into_iter().for_each(|peer| peer.set_now(self.now + LATENCY));
        [&self.client, &self.app].into_iter().for_each(|peer| peer.set_now(self.now));
    }

    /// Writes the relay down, and goes on with what is read of that.
    fn hand_over(&mut self, (idle_timeout, ping_interval): (Option<Duration>, Option<Duration>)) {
        let record = postcard::to_stdvec(&(&self.machine, self.machine.remaining(self.now))).unwrap();
        let (machine, remaining): (Machine, _) = postcard::from_bytes(&record).unwrap();
        let times = (idle_timeout, ping_interval);
        self.machine = machine.resume(self.now, &RULES, times, remaining).unwrap();
    }

    /// Seconds since the start at which it was over.
    fn over_after(&mut self, at_most: Duration) -> Option<f32> {
        self.pass(at_most);
        self.over.map(|over| over.as_secs_f32())
    }
}

const LATENCY: Duration = Duration::from_millis(10);

/// Opcode and unmasked payload of each frame.
fn frames(bytes: &[u8]) -> Vec<(Opcode, Vec<u8>)> {
    let (mut rest, mut frames) = (bytes, Vec::new());
    while !rest.is_empty() {
        let Ok(Decoded::Header(header)) = decode(rest) else { panic!("{rest:?}") };
        let (payload, behind) = rest[header.header_bytes..].split_at(header.payload_bytes as usize);
        let key = header.mask.unwrap_or_default();
        frames.push((
            header.opcode,
            payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect(),
        ));
        rest = behind;
    }
    frames
}

/// The code of each Close.
fn closes(bytes: &[u8]) -> Vec<u16> {
    let is_close = |(opcode, payload): (Opcode, Vec<u8>)| {
        (opcode == Opcode::Close).then(|| payload.first_chunk().map_or(0, |code| u16::from_be_bytes(*code)))
    };
    frames(bytes).into_iter().filter_map(is_close).collect()
}

#[test]
fn what_an_open_websocket_keeps_fits_a_small_task() {
    fn size_of_output<A, B, F>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }
    let bytes = size_of_output(|relay: Relay, permit| relay.run(permit));
    // With its own 104 bytes tokio rounds a task up to a multiple of 128.
    assert!(bytes <= 512 - 104, "{bytes} bytes: the next size is 640 for each open WebSocket");
}

#[test]
fn frames_pass_unchanged_wherever_the_relay_is_handed_over() {
    let text = "é€𐍈".repeat(20);
    let up = [frame(0x01, text.as_bytes(), MASK), frame(0x80, b"end", MASK), frame(0x82, &[7; 300], MASK)]
        .concat();
    let down = [frame(0x02, &[9; 900], None), frame(0x00, &[], None), frame(0x80, b"x", None)].concat();
    for cut in [1, 3, 50] {
        let mut bed = Bed::new(None, None);
        [&bed.client, &bed.app].into_iter().for_each(|peer| peer.cut_reads(cut));
        for at in 0..up.len().max(down.len()) {
            up.get(at..=at).into_iter().for_each(|byte| bed.client.say(byte));
            down.get(at..=at).into_iter().for_each(|byte| bed.app.say(byte));
            bed.pass(Duration::from_millis(50));
            bed.hand_over((None, None));
        }
        bed.pass(seconds(1));
        assert!(bed.app.got() == up && bed.client.got() == down, "cut at {cut}");
        assert_eq!(bed.over, None);
        // A message that is open stays open, and what is broken behind a hand-over is seen.
        bed.client.say(&frame(0x01, b"begins", MASK));
        bed.pass(seconds(1));
        bed.hand_over((None, None));
        bed.client.say(&frame(0x81, b"another", MASK));
        bed.pass(seconds(1));
        assert_eq!(closes(&bed.client.got()), [1002]);
    }
}

#[test]
fn times_go_on_behind_a_hand_over_by_the_rules_of_then() {
    let (idle, ping) = (Some(seconds(100)), Some(seconds(40)));
    let mut bed = Bed::new(idle, ping);
    bed.pass(seconds(30));
    bed.hand_over((idle, ping));
    bed.pass(seconds(9));
    assert_eq!(frames(&bed.client.got()), []);
    bed.pass(seconds(2));
    let [(Opcode::Ping, payload)] = &frames(&bed.client.got())[..] else { panic!("no Ping after 40 s") };
    // Its answer comes to the process that did not send it.
    bed.hand_over((idle, ping));
    bed.client.say(&frame(0x8A, payload, MASK));
    bed.pass(seconds(5));
    assert!(bed.app.got().is_empty(), "the Pong is ours");
    let mut bed = Bed::new(idle, None);
    bed.pass(seconds(60));
    bed.hand_over((idle, None));
    assert_eq!(bed.over_after(seconds(39)), None);
    bed.hand_over((Some(seconds(10)), None));
    bed.pass(seconds(2));
    assert_eq!(closes(&bed.client.got()), [1001], "1 s was left");
}

#[test]
fn what_the_client_does_not_take_goes_on_with_it() {
    let message = frame(0x82, &[5; 1000], None);
    let mut bed = Bed::new(None, None);
    bed.client.reads(false);
    (0..200).for_each(|_| bed.app.say(&message));
    bed.pass(seconds(5));
    bed.hand_over((None, None));
    bed.client.reads(true);
    bed.pass(seconds(600));
    assert_eq!(bed.client.got(), message.repeat(200));
}

#[test]
fn no_record_that_was_changed_harms_the_process() {
    let mut bed = Bed::new(Some(seconds(60)), Some(seconds(20)));
    bed.client.say(&frame(0x01, "é€".as_bytes(), MASK)[..7]);
    bed.app.say(&frame(0x82, &[1; 300], None)[..100]);
    bed.pass(seconds(21));
    let record = postcard::to_stdvec(&(&bed.machine, bed.machine.remaining(bed.now))).unwrap();
    let (mut resumed, mut refused) = (0, 0);
    for at in 0..record.len() {
        for bit in 0..8 {
            let mut changed = record.clone();
            changed[at] ^= 1 << bit;
            let read = postcard::from_bytes::<(Machine, _)>(&changed).ok();
            let machine = read.and_then(|(machine, remaining)| {
                machine.resume(bed.now, &RULES, (Some(seconds(60)), Some(seconds(20))), remaining).ok()
            });
            let Some(machine) = machine else {
                refused += 1;
                continue;
            };
            resumed += 1;
            let mut other = Bed::new(None, None);
            other.machine = machine;
            other.client.say(&frame(0x81, b"hello", MASK).repeat(3));
            other.app.say(&frame(0x81, b"hello", None).repeat(3));
            other.pass(seconds(300));
        }
    }
    assert!(resumed > 0 && refused > 0, "{resumed} {refused}");
}

#[test]
fn frames_pass_unchanged_however_the_links_cut_them() {
    let up = [frame(0x81, b"hello", MASK), frame(0x02, &[7; 300], MASK), frame(0x80, &[8; 3], MASK)].concat();
    let down = [frame(0x82, &[9; 70_000], None), frame(0x81, b"x", None)].concat();
    for cut in [1, 2, 7, 1000, usize::MAX] {
        let mut bed = Bed::new(None, None);
        [&bed.client, &bed.app].into_iter().for_each(|peer| peer.cut_reads(cut));
        bed.client.say(&up);
        bed.app.say(&down);
        bed.pass(seconds(1));
        assert!(bed.app.got() == up && bed.client.got() == down, "cut at {cut}");
        assert_eq!(
            (bed.world.received.value(), bed.world.sent.value()),
            ((2, up.len() as u64), (2, down.len() as u64))
        );
        assert_eq!(bed.over, None);
    }
}

#[test]
fn who_does_not_read_stops_the_other_and_nothing_is_lost() {
    let message = frame(0x82, &[5; 1000], MASK);
    let mut bed = Bed::new(None, None);
    bed.app.reads(false);
    (0..1000).for_each(|_| bed.client.say(&message));
    bed.pass(seconds(600));
    let held = bed.world.received.value().1 as usize;
    assert!(
        held < 64 * 1024 + 2 * 16 * 1024 + message.len(),
        "{held} bytes are held for an app that reads nothing"
    );
    bed.app.reads(true);
    bed.pass(seconds(600));
    assert_eq!(bed.app.got().len(), 1000 * message.len());
    assert_eq!(bed.over, None);
}

#[test]
fn silence_ends_at_idle_timeout_and_a_message_a_second_before_gives_it_anew() {
    for (says, over) in [(None, 30.0), (Some(29), 59.01)] {
        let mut bed = Bed::new(Some(seconds(30)), None);
        if let Some(at) = says {
            bed.pass(seconds(at));
            bed.client.say(&frame(0x81, b"x", MASK));
        }
        bed.pass(Duration::from_secs_f32(over + 0.1) - (bed.now - bed.start));
        let (to_client, to_app) = (bed.client.got(), bed.app.got());
        assert_eq!((closes(&to_client), closes(&to_app)), (vec![1001], vec![1001]), "{says:?}");
        assert_eq!(*bed.world.closes.borrow(), [Some(1001)]);
        // Neither answers: the rest is LINGER.
        let ended = bed.over_after(seconds(10)).unwrap();
        assert!((over..over + 6.0).contains(&ended), "{ended}");
        assert!(bed.client.is_shut());
    }
}

#[test]
fn without_a_timeout_a_silent_websocket_stays_for_a_year_and_is_not_stepped() {
    let mut bed = Bed::new(None, None);
    bed.client.say(&frame(0x81, b"x", MASK));
    bed.pass(seconds(365 * 24 * 3600));
    assert_eq!(bed.over, None);
    assert!(bed.steps < 10, "{} steps", bed.steps);
}

#[test]
fn a_client_that_answers_no_ping_is_gone_after_two_intervals_and_one_that_does_stays() {
    for answers in [true, false] {
        let mut bed = Bed::new(None, Some(seconds(20)));
        for _ in 0..1200 {
            bed.pass(seconds(3));
            let pings: Vec<_> =
                frames(&bed.client.got()).into_iter().filter(|(opcode, _)| *opcode == Opcode::Ping).collect();
            for (_, payload) in pings.into_iter().filter(|_| answers) {
                bed.client.say(&frame(0x8a, &payload, MASK));
            }
        }
        if answers {
            assert_eq!(bed.over, None, "an hour");
            assert!(bed.app.got().is_empty(), "matching Pongs are not forwarded");
        } else {
            assert!((40.0..46.0).contains(&bed.over.unwrap().as_secs_f32()), "{:?}", bed.over);
            assert_eq!(closes(&bed.app.got()), [1001]);
        }
    }
}

#[test]
fn a_ping_stands_between_two_frames_and_never_in_one() {
    let message = frame(0x82, &[3; 500], None);
    let mut bed = Bed::new(None, Some(seconds(20)));
    bed.app.say(&message[..100]);
    bed.pass(seconds(25));
    assert_eq!(bed.client.got(), message[..100], "the Ping waits for the end of the frame");
    bed.app.say(&message[100..]);
    bed.app.say(&message);
    bed.pass(seconds(1));
    let got = bed.client.got();
    let after = frames(&[&message[..100], &got].concat());
    let opcodes: Vec<_> = after.into_iter().map(|(opcode, _)| opcode).collect();
    assert_eq!(opcodes, [Opcode::Binary, Opcode::Ping, Opcode::Binary]);
}

#[test]
fn a_drain_closes_at_its_moment_and_waits_for_the_end_of_a_frame() {
    for in_a_frame in [false, true] {
        let message = frame(0x82, &[3; 500], None);
        let mut bed = Bed::new(None, None);
        if in_a_frame {
            bed.app.say(&message[..100]);
        }
        bed.pass(seconds(1));
        *bed.world.drain.borrow_mut() = Some((1012, "restart"));
        bed.machine.drain(bed.now + seconds(3));
        bed.pass(seconds(2));
        assert_eq!(bed.client.got().len(), if in_a_frame { 100 } else { 0 }, "not before its moment");
        bed.pass(seconds(10));
        if in_a_frame {
            assert!(bed.client.got().is_empty() && bed.app.got().is_empty(), "not in a frame");
            bed.app.say(&message[100..]);
            bed.pass(seconds(1));
        }
        let got = bed.client.got();
        assert_eq!(closes(&got[if in_a_frame { message.len() - 100 } else { 0 }..]), [1012]);
        assert_eq!(closes(&bed.app.got()), [1001]);
        assert!(bed.machine.is_draining());
        bed.pass(seconds(10));
        assert!(bed.over.is_some());
    }
}

#[test]
fn a_close_that_is_answered_ends_at_once_and_one_that_is_not_has_stall_timeout() {
    let close = frame(0x88, &1000_u16.to_be_bytes(), MASK);
    for answers in [true, false] {
        let mut bed = Bed::new(None, None);
        bed.client.say(&close);
        bed.pass(seconds(1));
        assert_eq!(bed.app.got(), close);
        if answers {
            bed.app.say(&frame(0x88, &1000_u16.to_be_bytes(), None));
            bed.app.fin();
            bed.pass(seconds(1));
            bed.client.fin();
        }
        let over = bed.over_after(seconds(100)).unwrap();
        if answers {
            assert!(over < 7.0, "{over}");
            assert_eq!(bed.machine.close_code(&bed.world), Some(1000));
        } else {
            assert!((60.0..66.0).contains(&over), "{over}");
            assert_eq!(closes(&bed.client.got()), [1001]);
        }
    }
}

#[test]
fn a_client_that_reads_nothing_is_dropped_after_stall_timeout_and_one_that_keeps_the_rate_is_not() {
    let message = frame(0x82, &[5; 1000], None);
    for rate in [0, 2000] {
        let mut bed = Bed::new(None, None);
        bed.client.reads(false);
        (0..300).for_each(|_| bed.app.say(&message));
        for _ in 0..100 {
            bed.pass(seconds(1));
            bed.client.take(rate);
        }
        let refused: Vec<_> = bed.world.refused.borrow().iter().map(|(reason, _)| *reason).collect();
        if rate == 0 {
            assert_eq!(refused, [Reason::WriteStall]);
            assert!((60.0..67.0).contains(&bed.over.unwrap().as_secs_f32()), "{:?}", bed.over);
            assert_eq!(closes(&bed.app.got()), [1001]);
        } else {
            assert!(refused.is_empty() && bed.over.is_none());
        }
    }
}

#[test]
fn what_an_upstream_said_before_it_was_cut_is_the_clients() {
    let message = frame(0x81, b"the last word", None);
    for resets in [true, false] {
        let mut bed = Bed::new(None, None);
        bed.app.say(&message);
        if resets {
            bed.app.reset()
        } else {
            bed.app.fin()
        }
        bed.pass(seconds(1));
        assert_eq!(bed.client.got(), message);
        assert!(bed.client.is_shut());
        bed.client.fin();
        assert!(bed.over_after(seconds(10)).unwrap() < 7.0);
    }
}

#[test]
fn a_broken_rule_closes_both_sides_whichever_broke_it() {
    let unmasked = frame(0x81, b"x", None);
    let masked = frame(0x81, b"x", MASK);
    for (client_breaks, says) in [(true, &unmasked), (false, &masked)] {
        let mut bed = Bed::new(None, None);
        if client_breaks {
            bed.client.say(says)
        } else {
            bed.app.say(says)
        }
        bed.pass(seconds(1));
        assert_eq!(closes(&bed.client.got()), [1002]);
        assert_eq!(closes(&bed.app.got()), [1001]);
        assert_eq!(*bed.world.closes.borrow(), [Some(1002)]);
        assert_eq!(bed.world.refused.borrow().len(), 1);
        assert!(bed.over_after(seconds(10)).unwrap() < 7.0);
    }
}
