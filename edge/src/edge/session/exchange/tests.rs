//! Exchanges over simulated links: minutes pass at once.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::decision::Destination;
use crate::edge::session::machine::{Step, Surroundings};
use crate::edge::session::pace::Pace;
use crate::edge::shared::sticky::Choice;
use crate::fuzz::link::{End, Peer, epoch, link};
use crate::fuzz::simulated_edge::{LIMITS, World, route};
use crate::http::answer::Problem;
use crate::http::forward::{ForwardContext, Plan, request_plan};
use crate::http::head::parse_request;
use crate::names::Host;
use crate::ops::metrics::{HostTallies, Reason};

const LATENCY: Duration = Duration::from_millis(10);
const STALL: Duration = Duration::from_secs(60);
/// Bytes a second of `body_bytes_per_s_min`.
const RATE: usize = 250;
const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 500000\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const LARGE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n";

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn request(text: &str, pace: Pace) -> (Request, Plan) {
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let head = parse_request(text.as_bytes(), &LIMITS).unwrap();
    let rules = route("/");
    let context = ForwardContext {
        peer,
        trusted_proxies: &[],
        public_https_port: 443,
        websocket: false,
        strip_bytes: 0,
        extensions: true,
    };
    let plan = request_plan(&head, &context).unwrap();
    let destination = Destination { host: 0, site: 0, route: 0, rules: &rules, client: peer, offer: None };
    let state = Arc::new(RouteState::new(rules.clone(), Vec::new(), None));
    let tally = HostTallies::new(&Arc::default()).of(&Host::parse("a.test").unwrap());
    let limits = ExchangeLimits { head: LIMITS, response_head: LIMITS, pace, pool_idle_max: 0 };
    let (size, to) = ((text.len(), true), (&state, Choice::default()));
    (Request::new(&head, size, destination, to, &tally, limits), plan)
}

/// An exchange between two links, 10 ms from either end.
struct Bed {
    start: Instant,
    now: Instant,
    exchange: Exchange<'static>,
    ends: (End, End),
    client: Peer,
    app: Peer,
    world: World,
    buffers: (Vec<u8>, Vec<u8>),
    over: Option<(Duration, Result<Done, Fault>)>,
}

impl Bed {
    fn new(text: &str) -> Self {
        let (now, world) = (epoch(), World::new(Pace::new(STALL, RATE as u32)));
        let ((client, client_end), (app, app_end)) = (link(now, LATENCY), link(now, LATENCY));
        // A test's own: what it borrows lives as long as the test program.
        let (request, plan): &'static (Request, Plan) = Box::leak(Box::new(request(text, world.pace())));
        let input: &'static mut Input = Box::leak(Box::default());
        input.push(&world, text.as_bytes(), LIMITS.head_bytes_max);
        input.consume(text.len());
        let exchange = Exchange::new(now, (request, plan), input, None, (false, false));
        let (ends, buffers) = ((client_end, app_end), (vec![0; 16 * 1024], Vec::new()));
        Self { start: now, now, exchange, ends, client, app, world, buffers, over: None }
    }

    /// Lets `time` pass: steps the exchange whenever something arrives or is due.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.over.is_none() {
            [&self.client, &self.app].into_iter().for_each(|peer| peer.set_now(self.now));
            let ((client, app), (scratch, out)) = (&mut self.ends, &mut self.buffers);
            let step = self.exchange.step(self.now, client, app, (scratch, out), &self.world);
            let (deadline, more) = match step {
                Step::Over(end) => {
                    self.over = Some((self.now - self.start, end));
                    break;
                }
                Step::Wait(deadline, more) => (deadline.expect("each wait has a bound"), more),
            };
            assert!(deadline > self.now, "what is due is done");
            let arrives = [self.client.next(), self.app.next()].into_iter().flatten();
            let next = arrives.filter(|at| *at > self.now).chain([deadline]).min().unwrap();
            match more {
                true => {}
                false if next > until => break,
                false => self.now = next,
            }
        }
        self.now = until.max(self.now);
        [&self.client, &self.app].into_iter().for_each(|peer| peer.set_now(self.now));
    }

    fn assert_over(&self, from: Duration, to: Duration, end: &Result<Done, Problem>) {
        let (at, found) = self.over.as_ref().expect("it is over");
        let found = found.as_ref().map(|done| *done).map_err(|fault| match fault {
            Fault::Failed(problem, _) | Fault::BrokenOff(problem, _) => *problem,
            fault => panic!("{fault:?}"),
        });
        assert_eq!(&found, end, "after {at:?}");
        assert!((from..=to).contains(at), "after {at:?}: expected {from:?} to {to:?}");
    }
}

#[test]
fn a_response_may_come_until_response_timeout_and_not_later() {
    let mut bed = Bed::new(GET);
    bed.pass(seconds(59));
    bed.app.say(OK);
    bed.pass(seconds(1));
    bed.assert_over(seconds(59), seconds(60), &Ok(Done::Next));
    assert!(bed.client.got().ends_with(b"ok"));
    let mut bed = Bed::new(GET);
    bed.pass(seconds(61));
    bed.assert_over(seconds(60), seconds(60), &Err(Problem::UpstreamTimeout));
}

#[test]
fn a_response_that_stands_still_for_idle_timeout_breaks_off_and_one_that_moves_does_not() {
    let mut bed = Bed::new(GET);
    bed.app.say(LARGE);
    for _ in 0..20 {
        bed.pass(seconds(89));
        bed.app.say(b"x");
    }
    assert!(bed.over.is_none(), "half an hour");
    bed.pass(seconds(91));
    bed.assert_over(seconds(20 * 89 + 90), seconds(20 * 89 + 91), &Err(Problem::UpstreamTimeout));
}

#[test]
fn a_body_that_keeps_the_rate_goes_on_and_a_slower_one_gets_a_408() {
    for (bytes, keeps_it) in [(RATE * 20, true), (RATE * 16, false)] {
        let mut bed = Bed::new(POST);
        for _ in 0..24 {
            bed.client.say(&vec![b'b'; bytes]);
            bed.pass(seconds(20));
        }
        match keeps_it {
            true => {
                assert!(bed.over.is_none(), "{:?}", bed.over);
                bed.client.say(&vec![b'b'; 500_000 - 24 * bytes]);
                bed.pass(seconds(1));
                bed.app.say(OK);
                bed.pass(seconds(1));
                bed.assert_over(seconds(481), seconds(482), &Ok(Done::Next));
                assert_eq!(bed.app.got().iter().filter(|byte| **byte == b'b').count(), 500_000);
            }
            false => bed.assert_over(STALL, seconds(480), &Err(Problem::RequestTimeout)),
        }
    }
}

#[test]
fn a_body_that_never_comes_gets_a_408_and_one_that_was_not_asked_for_a_504() {
    let expects = POST.replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
    for (text, problem) in [(POST, Problem::RequestTimeout), (&expects, Problem::UpstreamTimeout)] {
        let mut bed = Bed::new(text);
        bed.pass(seconds(61));
        bed.assert_over(STALL, STALL + seconds(1), &Err(problem));
    }
}

#[test]
fn an_app_that_takes_nothing_stops_the_client_and_is_a_504() {
    let mut bed = Bed::new(POST);
    bed.app.reads(false);
    bed.client.say(&vec![b'b'; 500_000]);
    bed.pass(seconds(1));
    let read = 500_000 - bed.client.on_the_way();
    assert!((64 * 1024..200_000).contains(&read), "{read} bytes of the body are read");
    bed.pass(seconds(30));
    bed.app.reads(true); // goes on, and its time begins anew
    bed.pass(Duration::ZERO);
    bed.app.reads(false);
    bed.pass(seconds(1));
    assert_ne!(500_000 - bed.client.on_the_way(), read);
    bed.pass(seconds(61));
    bed.assert_over(seconds(91), seconds(92), &Err(Problem::UpstreamTimeout));
}

#[test]
fn a_client_that_reads_nothing_stops_the_app_and_is_cut_after_stall_timeout() {
    let mut bed = Bed::new(GET);
    bed.client.reads(false);
    bed.app.say(&[LARGE, &vec![b'b'; 500_000]].concat());
    bed.pass(seconds(1));
    assert!(bed.app.on_the_way() > 300_000, "{} bytes of the response are not read", bed.app.on_the_way());
    bed.pass(seconds(58));
    assert!(bed.over.is_none());
    bed.pass(seconds(2));
    assert!(matches!(bed.over, Some((_, Err(Fault::Broken)))), "{:?}", bed.over);
    assert_eq!(*bed.world.refused.borrow(), [Reason::WriteStall]);
}

#[test]
fn of_two_timers_that_are_overdue_the_client_that_reads_nothing_decides() {
    let mut bed = Bed::new(POST);
    bed.client.reads(false);
    bed.pass(seconds(1)); // the body is due first
    bed.app.say(&[LARGE, &vec![b'b'; 500_000]].concat());
    bed.pass(seconds(1));
    bed.now += seconds(70); // a standstill of the machine
    bed.pass(Duration::ZERO);
    assert!(matches!(bed.over, Some((_, Err(Fault::Broken)))), "{:?}", bed.over);
    assert_eq!(*bed.world.refused.borrow(), [Reason::WriteStall]);
}

#[test]
fn a_client_that_reads_at_twice_the_rate_gets_all_of_it() {
    let mut bed = Bed::new(GET);
    bed.client.reads(false);
    bed.app.say(&[LARGE, &vec![b'b'; 500_000]].concat());
    for _ in 0..60 {
        bed.pass(seconds(20));
        bed.client.take(RATE * 40);
    }
    bed.assert_over(seconds(600), seconds(1200), &Ok(Done::Next));
    bed.client.reads(true);
    bed.client.set_now(bed.now + seconds(1));
    assert!(bed.world.refused.borrow().is_empty());
}

#[test]
fn a_client_that_said_goodbye_gets_its_response_and_one_that_is_gone_ends_the_exchange() {
    let mut bed = Bed::new(GET);
    bed.client.goodbye();
    bed.pass(seconds(5));
    bed.app.say(OK);
    bed.pass(seconds(1));
    bed.assert_over(seconds(5), seconds(6), &Ok(Done::Next));
    for after_goodbye in [true, false] {
        let mut bed = Bed::new(GET);
        if after_goodbye {
            bed.client.goodbye();
        }
        bed.pass(seconds(5));
        bed.client.fin();
        bed.pass(seconds(1));
        let (at, end) = bed.over.as_ref().expect("it is over");
        assert!(*end == Err(Fault::Broken) && *at < seconds(6), "{end:?} after {at:?}");
    }
}

#[test]
fn a_drain_lets_the_response_through_and_keeps_nothing_open() {
    let mut bed = Bed::new(GET);
    bed.pass(seconds(1));
    bed.world.drains.set(true);
    bed.app.say(OK);
    bed.pass(seconds(1));
    bed.assert_over(seconds(1), seconds(2), &Ok(Done::Close));
    let got = bed.client.got();
    assert!(String::from_utf8_lossy(&got).contains("Connection: close"), "{}", got.escape_ascii());
}
