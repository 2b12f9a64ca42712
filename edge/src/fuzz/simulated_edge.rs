//! A session of the edge without sockets: the machines of `edge::session` themselves, between simulated links and in virtual
//! time. What is written here is only the way from one machine to the next, which `edge::session::https` goes too.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // a fuzz entry has no other way to say no

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::bundle::{Bundle, HostEntry, Listen, Origins, PostQuantum, Route, Site, SuiteOrder};
use crate::decision::{self, Asker, Decision, Refusal};
use crate::edge::session::buffers::Buffers;
use crate::edge::session::exchange::{Done, Exchange, ExchangeLimits, Fault, Input, Request, Switched};
use crate::edge::session::https::head::{AwaitHead, HeadTimes, NoHead};
use crate::edge::session::https::last::{Answering, Closing};
use crate::edge::session::machine::{Step, Surroundings};
use crate::edge::session::pace::Pace;
use crate::edge::session::relay;
use crate::edge::shared::active_config::RouteState;
use crate::edge::shared::sticky::Choice;
use crate::excerpt::Excerpt;
use crate::fuzz::link::{End, Peer, epoch, link};
use crate::http::answer::{self, AnswerForm, Detail, Problem};
use crate::http::changes::FieldChanges;
use crate::http::forward::Plan;
use crate::http::head::{HeadLimits, HeadScanner, RequestLines, parse_scanned_request};
use crate::limits::{Drain, Limits, Machine, Rules};
use crate::names::Host;
use crate::ops::metrics::{Flow, HostTallies, HostTally, Reason};

/// Of requests and responses.
pub(crate) const LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 4096, fields_max: 32, target_bytes_max: 1024 };
/// A longer script is a new session.
const REQUESTS_MAX: usize = 8;
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// No session of one script takes longer: each of its waits has a bound.
const TIME_MAX: Duration = Duration::from_secs(3600);

/// An simulated edge, for one site.
pub struct SimulatedEdge {
    bundle: Bundle,
    routes: Vec<Arc<RouteState>>,
    tally: Arc<HostTally>,
    limits: HeadLimits,
}

/// What goes wrong with a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    None,
    /// The client ends without close_notify.
    ClientEnds,
    ClientResets,
    /// The client says nothing more and does not end.
    ClientStalls,
    /// The client reads nothing.
    ClientReadsNothing,
    UpstreamResets,
    /// The upstream says nothing more and does not end.
    UpstreamStalls,
    /// Each upstream connection was idle before, and has ended.
    UpstreamStale,
    /// The upstream takes nothing.
    UpstreamReadsNothing,
    /// The edge drains soon.
    Drain,
}

impl Trouble {
    pub(crate) const ALL: [Self; 10] = [
        Self::None,
        Self::ClientEnds,
        Self::ClientResets,
        Self::ClientStalls,
        Self::ClientReadsNothing,
        Self::UpstreamResets,
        Self::UpstreamStalls,
        Self::UpstreamStale,
        Self::UpstreamReadsNothing,
        Self::Drain,
    ];
}

/// What both ends say: the client at once, each upstream connection when nothing moves any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Script<'b> {
    pub(crate) client: &'b [u8],
    /// By connection; the last of them is for all others too.
    pub(crate) upstreams: &'b [&'b [u8]],
    /// Most that one read gives.
    pub(crate) piece_bytes: usize,
    pub(crate) trouble: Trouble,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Whole,
    Ours(Problem),
    Upgraded,
    /// Within the response.
    BrokenOff,
    /// The client went away.
    Broken,
}

/// What came of a session.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// What each upstream connection got.
    pub(crate) upstream: Vec<Vec<u8>>,
    pub(crate) client: Vec<u8>,
    /// Of each request its method, where it was read.
    pub(crate) ends: Vec<(String, Ended)>,
    /// After a 101: where in the client's and the upstream's script frames begin, and in what the upstream and the client got.
    pub(crate) frames: Option<[usize; 4]>,
}

/// The edge around a machine.
pub(crate) struct World {
    pace: Pace,
    buffers: Buffers,
    flows: (Flow, Flow),
    pub(crate) drains: Cell<bool>,
    pub(crate) refused: RefCell<Vec<Reason>>,
}

impl World {
    pub(crate) fn new(pace: Pace) -> Self {
        let (buffers, flows) = Default::default();
        Self { pace, buffers, flows, drains: Cell::new(false), refused: RefCell::default() }
    }
}

impl Surroundings for World {
    fn pace(&self) -> Pace {
        self.pace
    }
    fn drain_close(&self) -> Option<(u16, &'static str)> {
        self.drains.get().then_some((1001, "the edge drains"))
    }
    fn flows(&self) -> (&Flow, &Flow) {
        (&self.flows.0, &self.flows.1)
    }
    fn buffers(&self) -> &Buffers {
        &self.buffers
    }
    fn refuse(&self, reason: Reason, _: IpAddr, _: &str) {
        self.refused.borrow_mut().push(reason);
    }
    fn count_close(&self, _: Option<u16>) {}
}

/// A route with all that a fuzzer wants to meet.
pub fn route(path: &str) -> Route {
    Route {
        path: path.to_owned(),
        strip_prefix: false,
        upstreams: Vec::new(),
        origins: Origins { own: true, ..Origins::default() },
        allow: Vec::new(),
        rules: Rules {
            frame_bytes_max: Some(1000),
            message_bytes_max: Some(2000),
            idle_timeout: Some(Duration::from_secs(90)),
            ..Rules::default()
        },
    }
}

impl SimulatedEdge {
    /// For `host`, with these routes.
    pub fn new(host: &str, routes: Vec<Route>, limits: HeadLimits) -> Self {
        let host = Host::parse(host).unwrap();
        let machine =
            Machine { cores: 4, ram_bytes: 4 << 30, budget_bytes: 1536 << 20, handshakes_per_s: 100 };
        let tally = HostTallies::new(&Arc::default()).of(&host);
        let changes = [("X-Frame-Options", Some("DENY")), ("Server", None)];
        let changes = FieldChanges::of(changes.into_iter()).map(Arc::new);
        let state = |route: &Route| Arc::new(RouteState::new(route.clone(), Vec::new(), changes.clone()));
        let states = routes.iter().map(state);
        Self {
            routes: states.collect(),
            tally,
            limits,
            bundle: Bundle {
                board: Excerpt::of("rpi4"),
                listen: Listen {
                    https: Vec::new(),
                    http: Vec::new(),
                    admin: None,
                    default_host: None,
                    public_https_port: 443,
                    acme_dir: None,
                    challenges: None,
                    proxy_protocol_from: Vec::new(),
                },
                trusted_proxies: Vec::new(),
                exempt: Vec::new(),
                watch: false,
                drain: Drain::default(),
                suite_order: SuiteOrder::Auto,
                post_quantum: PostQuantum::Auto,
                limits: Limits::default_for(&machine),
                certificates: Vec::new(),
                sites: vec![Site { routes, ..Site::default() }],
                hosts: vec![HostEntry { host, site: 0, certificate: 0 }],
                pending: Vec::new(),
                digest: [0; 32],
            },
        }
    }

    /// What goes upstream of the first request in `client`, if all of it does and the edge does not refuse it.
    pub fn forwards(&self, client: &[u8]) -> Option<Vec<u8>> {
        let upstreams: [&[u8]; 1] = [b"HTTP/1.1 204 No Content\r\n\r\n"];
        let trouble = Trouble::None;
        let script = Script { client, upstreams: &upstreams, piece_bytes: usize::MAX, trouble };
        let mut session = Session::new(self, &script);
        session.request();
        let record = session.record;
        let (_, end) = record.ends.first()?;
        record.upstream.into_iter().next().filter(|_| *end == Ended::Whole)
    }

    pub(crate) fn run(&self, script: &Script<'_>) -> Record {
        let mut session = Session::new(self, script);
        let goes_on = (0..REQUESTS_MAX).all(|_| session.request());
        if goes_on || session.closes {
            let mut closing = Closing::new(session.now);
            session.drive(None, |now, client, _, scratch, _| closing.step(now, client, scratch));
        }
        session.collect(None);
        session.record
    }
}

/// One end of a link, with both sides of it.
struct Link(Peer, End);

struct Session<'d> {
    edge: &'d SimulatedEdge,
    script: &'d Script<'d>,
    world: World,
    start: Instant,
    now: Instant,
    steps: usize,
    client: Link,
    input: Input,
    plan: Plan,
    scratch: Vec<u8>,
    record: Record,
    /// It ends with close_notify.
    closes: bool,
}

/// An upstream connection.
struct Upstream<'d> {
    link: Link,
    script: &'d [u8],
    /// What it says next: its script, its end, nothing.
    said: u8,
}

impl<'d> Session<'d> {
    fn new(edge: &'d SimulatedEdge, script: &'d Script<'d>) -> Self {
        let start = epoch();
        let (peer, end) = link(start, Duration::ZERO);
        peer.cut_reads(script.piece_bytes);
        peer.reads(script.trouble != Trouble::ClientReadsNothing);
        if !script.client.is_empty() {
            peer.say(script.client);
        }
        match script.trouble {
            Trouble::ClientEnds => peer.fin(),
            Trouble::ClientResets => peer.reset(),
            Trouble::ClientStalls => {}
            _ => peer.goodbye(),
        }
        let world = World::new(Pace::of(&edge.bundle.limits));
        let (client, input, scratch) = (Link(peer, end), Input::default(), vec![0; 2048]);
        let record = Record::default();
        Self {
            edge,
            script,
            world,
            start,
            now: start,
            steps: 0,
            client,
            input,
            plan: Plan::default(),
            scratch,
            record,
            closes: false,
        }
    }

    /// Steps a machine until it is over; time passes when nothing moves.
    fn drive<T>(
        &mut self,
        mut upstream: Option<&mut Upstream<'_>>,
        mut step: impl FnMut(Instant, &mut End, Option<&mut End>, &mut [u8], (&mut Input, &World)) -> Step<T>,
    ) -> T {
        loop {
            self.steps += 1;
            assert!(self.steps < 1_000_000, "it is stepped without end");
            if self.script.trouble == Trouble::Drain && self.steps > 5 {
                self.world.drains.set(true);
            }
            self.client.0.set_now(self.now);
            upstream.iter().for_each(|upstream| upstream.link.0.set_now(self.now));
            let (scratch, around) = (&mut self.scratch, (&mut self.input, &self.world));
            let end = upstream.as_mut().map(|upstream| &mut upstream.link.1);
            let (deadline, more) = match step(self.now, &mut self.client.1, end, scratch, around) {
                Step::Over(end) => return end,
                Step::Wait(deadline, more) => (deadline, more),
            };
            if more || upstream.as_mut().is_some_and(|upstream| upstream.says(self.script.trouble)) {
                continue;
            }
            let deadline = deadline.unwrap_or_else(|| panic!("it waits for nothing"));
            assert!(deadline > self.now, "what is due is done");
            self.now = deadline;
            assert!(self.now - self.start < TIME_MAX, "a wait has no bound");
        }
    }

    /// One request and its response; whether another may follow.
    fn request(&mut self) -> bool {
        let times = HeadTimes { head: Duration::from_secs(10), idle: Duration::from_secs(60) };
        let mut head = AwaitHead::new(self.now, &self.input, self.edge.limits, times, None);
        let head = self.drive(None, |now, client, _, _, (input, world)| head.step(now, client, input, world));
        let scanner = match head {
            Ok(scanner) => scanner,
            Err(NoHead::Over | NoHead::HandsOver | NoHead::Idle) => {
                self.closes = true;
                return false;
            }
            Err(NoHead::Slow) => return self.refuse("", Refusal::new(Problem::RequestTimeout, ""), None),
            Err(NoHead::Bad(error)) => return self.refuse("", error.into(), None),
        };
        let bytes = self.input.all()[..scanner.end().unwrap()].to_vec();
        match self.decide(&bytes, &scanner) {
            Ok(request) => self.forward(&request, &bytes),
            Err((method, refusal, form)) => self.refuse(&method, refusal, form),
        }
    }

    fn decide(
        &mut self,
        bytes: &[u8],
        scanner: &HeadScanner,
    ) -> Result<Request, (String, Refusal, Option<AnswerForm>)> {
        self.input.consume(bytes.len());
        let mut lines = RequestLines::new();
        let head = parse_scanned_request(bytes, scanner, &mut lines)
            .map_err(|error| (String::new(), error.into(), None))?;
        let form = decision::answer_form(&head, head.keep_alive && !self.world.drains.get());
        let bundle = &self.edge.bundle;
        let asker = Asker { peer: PEER, name: Some(&bundle.hosts[0].host), covered: &[] };
        let refused = |refusal| (head.method.to_owned(), refusal, Some(form));
        let Decision::Forward(destination) = decision::decide(bundle, &asker, &head).map_err(refused)? else {
            panic!("its site has routes");
        };
        decision::plan(bundle, PEER, &destination, &head, &mut self.plan).map_err(refused)?;
        let limits = ExchangeLimits {
            head: self.edge.limits,
            response_head: self.edge.limits,
            pace: self.world.pace,
            pool_idle_max: 0,
        };
        let route = &self.edge.routes[destination.route];
        let (size, to) = ((bytes.len(), head.keep_alive), (route, Choice::default()));
        Ok(Request::new(&head, size, destination, to, &self.edge.tally, limits))
    }

    fn refuse(&mut self, method: &str, refusal: Refusal, form: Option<AnswerForm>) -> bool {
        let form = form.unwrap_or(AnswerForm { close: true, ..AnswerForm::default() });
        let mut bytes = Vec::new();
        let changes = self.edge.routes.first().and_then(|route| route.changes.as_deref());
        let detail = Detail { found: None, check: refusal.check.as_deref(), changes };
        answer::write(refusal.problem, &detail, form, &mut bytes);
        let mut answering = Answering::new(self.now, &bytes, self.world.pace.stall);
        let sent = self.drive(None, |now, client, _, _, _| answering.step(now, client));
        let end = if sent { Ended::Ours(refusal.problem) } else { Ended::Broken };
        self.ends(method, end, sent && !form.close, true)
    }

    /// Notes the end of a request; whether another may follow, or else whether the session `closes` properly.
    fn ends(&mut self, method: &str, end: Ended, keep: bool, closes: bool) -> bool {
        self.record.ends.push((method.to_owned(), end));
        self.input.compact(&self.world);
        self.closes = closes;
        keep
    }

    fn forward(&mut self, request: &Request, head: &[u8]) -> bool {
        let method = head.split(|byte| *byte == b' ').next().unwrap_or_default();
        let method = String::from_utf8_lossy(method).into_owned();
        let mut reused = self.script.trouble == Trouble::UpstreamStale;
        loop {
            let mut upstream = self.connect(reused);
            let (done, switched) = self.exchange(request, reused, &mut upstream);
            let end = match done {
                Err(Fault::Again) if std::mem::take(&mut reused) => continue,
                Err(Fault::Again) => panic!("a new connection is not old"),
                Ok(Done::Upgraded) => {
                    self.relay(request, switched, &mut upstream);
                    self.collect(Some(&upstream));
                    return self.ends(&method, Ended::Upgraded, false, false);
                }
                end => end,
            };
            self.collect(Some(&upstream));
            return match end {
                Ok(done) => self.ends(&method, Ended::Whole, done == Done::Next, true),
                Err(Fault::Failed(problem, found)) => {
                    let form =
                        AnswerForm { html: request.wants_html, close: true, head_only: request.is_head };
                    self.refuse(&method, Refusal::new(problem, found), Some(form))
                }
                Err(Fault::BrokenOff(..)) => self.ends(&method, Ended::BrokenOff, false, false),
                Err(_) => self.ends(&method, Ended::Broken, false, false),
            };
        }
    }

    fn connect(&mut self, stale: bool) -> Upstream<'d> {
        let (peer, end) = link(self.now, Duration::ZERO);
        peer.cut_reads(self.script.piece_bytes);
        peer.reads(self.script.trouble != Trouble::UpstreamReadsNothing);
        if stale {
            peer.fin();
        }
        let at = self.record.upstream.len();
        let script =
            self.script.upstreams.get(at).or(self.script.upstreams.last()).copied().unwrap_or_default();
        Upstream { link: Link(peer, end), script, said: if stale { 2 } else { 0 } }
    }

    fn exchange(
        &mut self,
        request: &Request,
        reused: bool,
        upstream: &mut Upstream<'_>,
    ) -> (Result<Done, Fault>, Switched) {
        let mut out = Vec::new();
        let (mut input, plan) = (std::mem::take(&mut self.input), self.plan.clone());
        let mut exchange = Exchange::new(self.now, (request, &plan), &mut input, None, (reused, false));
        let done = self.drive(Some(upstream), |now, client, upstream, scratch, (_, world)| {
            exchange.step(now, client, upstream.unwrap(), (scratch, &mut out), world)
        });
        let switched = if done == Ok(Done::Upgraded) { exchange.switched() } else { Switched::default() };
        self.input = input;
        (done, switched)
    }

    fn relay(&mut self, request: &Request, switched: Switched, upstream: &mut Upstream<'_>) {
        let begins = [
            self.script.client.len() - self.client.0.on_the_way() - switched.up.len(),
            upstream.script.len() - upstream.link.0.on_the_way() - switched.behind.len(),
            self.plan.len(),
        ];
        self.collect(None);
        let unsent = switched.unsent.len();
        self.record.frames = Some([begins[0], begins[1], begins[2], self.record.client.len() + unsent]);
        let rules = &request.route.rules;
        let mut machine = relay::begin(self.now, switched, rules, PEER, &self.world);
        machine.start(self.now, rules.idle_timeout, rules.ping_interval);
        self.drive(Some(upstream), |now, client, upstream, scratch, (_, world)| {
            if world.drains.get() && !machine.is_draining() {
                machine.drain(now);
            }
            machine.step(&now.into(), client, upstream.unwrap(), scratch, world)
        });
    }

    /// Notes what both ends got.
    fn collect(&mut self, upstream: Option<&Upstream<'_>>) {
        self.client.0.set_now(self.now);
        self.record.client.extend(self.client.0.got());
        let got = upstream.map(|upstream| upstream.link.0.got());
        self.record.upstream.extend(got);
    }
}

impl Upstream<'_> {
    /// When nothing moves: says the next thing, if there is one.
    fn says(&mut self, trouble: Trouble) -> bool {
        self.said += 1;
        match (self.said, trouble) {
            (1, _) if !self.script.is_empty() => self.link.0.say(self.script),
            (1, _) => {}
            (2, Trouble::UpstreamStalls | Trouble::ClientStalls) => return false,
            (2, Trouble::UpstreamResets) => self.link.0.reset(),
            (2, _) => self.link.0.fin(),
            _ => {
                self.said = 3;
                return false;
            }
        }
        true
    }
}
