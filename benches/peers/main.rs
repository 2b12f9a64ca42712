//! The edge side by side with nginx, HAProxy, Caddy and hitch, in one run: `cargo bench --bench peers`.
//!
//! ```text
//! apt-get install nginx haproxy caddy hitch        # whichever is missing is named and left out
//! cargo bench --bench peers -- [ROUNDS] [--quick] [--markdown FILE] [--svg FILE]
//! ```
//!
//! All run at once, each in front of an upstream port of its own, and are driven one after the other in every round by
//! a load generator in another process: what disturbs the machine disturbs them alike. Printed are medians, and the
//! ratio ours ÷ best peer of the same round with a 95 % interval. See `README.md` beside this file.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

#[allow(dead_code, unreachable_pub)] // the tests of `it` use all of it
#[path = "../../tests/it/support/mod.rs"]
mod support;

mod again;
mod load;
mod proxy;
mod report;
mod upstream;

use std::net::SocketAddr;
use std::time::Duration;

use again::{Helper, alone};
use proxy::{Calls, Cpu, Kind, PEERS, Proxy};
use report::{Row, Table};

/// The name that every certificate here is for.
pub const HOST: &str = "socket.recre.store";

/// Rounds unless told otherwise, and with `--quick`.
const ROUNDS: usize = 11;
const QUICK: usize = 3;
/// Rounds of what takes long: thousands of sessions, system calls.
const LONG_ROUNDS_MAX: usize = 3;
/// Seconds of load for one number.
const SECONDS: f64 = 0.7;
/// Times that growth alternates between few sessions and many.
const GROWTH_TURNS: usize = 3;
const FEW: usize = 500;
const MANY: usize = 5000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["upstream", count] => alone(upstream::run(count.parse().unwrap())),
        ["floor", upstream] => alone(upstream::floor(upstream.parse().unwrap())),
        ["load", address] => alone(load::run(address.parse().unwrap(), None)),
        ["load", address, ca] => alone(load::run(address.parse().unwrap(), Some(ca.to_owned()))),
        // `cargo test --benches` passes nothing of cargo bench's: then there is nothing to measure.
        _ if words.contains(&"--bench") => measure(&words),
        _ => println!("cargo bench --bench peers"),
    }
}

fn measure(words: &[&str]) {
    let value = |flag: &str| words.iter().position(|word| *word == flag).map(|at| words[at + 1]);
    let quick = words.contains(&"--quick").then_some(QUICK);
    let rounds = words.iter().find_map(|word| word.parse().ok()).or(quick).unwrap_or(ROUNDS);
    let mut bench = Bench::start();
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        bench.round(round);
        if round < LONG_ROUNDS_MAX {
            bench.long_round(round);
        }
    }
    let text = bench.table.text(&bench.about);
    println!("{text}");
    if let Some(file) = value("--markdown") {
        std::fs::write(file, bench.table.markdown(&bench.about)).unwrap();
    }
    if let Some(file) = value("--svg") {
        std::fs::write(file, bench.table.svg()).unwrap();
    }
}

/// What is measured, with its load.
struct Contender {
    proxy: Proxy,
    load: Helper,
    upstream: SocketAddr,
}

struct Bench {
    contenders: Vec<Contender>,
    calls: Option<&'static str>,
    table: Table,
    /// What was measured, one fact a line.
    about: Vec<String>,
    _upstream: Helper,
}

impl Bench {
    fn start() -> Self {
        let mut about = vec![report::machine()];
        about.push(format!("sanedge: {}", report::ours()));
        let mut kinds = vec![Kind::Ours, Kind::Floor];
        for (index, peer) in PEERS.iter().enumerate() {
            let version = peer.version();
            if peer.tuning == "default" {
                let said = version.as_deref().unwrap_or("not installed, left out");
                about.push(format!("{}: {said}", peer.name));
            }
            kinds.extend(version.map(|_| Kind::Peer(index)));
        }
        about.push(
            "One worker each. The client forces TLS 1.3, TLS_AES_128_GCM_SHA256, X25519, full handshakes; P-256 keys. \
             Tickets: one per handshake from sanedge; nginx, Caddy and hitch by default as they like; off in nginx-tuned \
             and both of HAProxy's."
                .to_owned(),
        );
        let calls = Calls::tool();
        about.push(format!(
            "System calls counted by: {}",
            calls.unwrap_or("nobody, neither perf nor strace is there")
        ));
        let mut upstream = Helper::start(&["upstream", &kinds.len().to_string()]);
        let addresses = upstream.line();
        let contenders = kinds
            .iter()
            .zip(addresses.split(' '))
            .map(|(kind, address)| Contender::start(*kind, address.parse().unwrap()));
        Self { contenders: contenders.collect(), calls, table: Table::default(), about, _upstream: upstream }
    }

    /// Every contender once for each row, beginning with another in every round.
    fn round(&mut self, round: usize) {
        for row in [Row::Echo, Row::Bulk, Row::Connect, Row::Get] {
            for at in self.turn(round) {
                let contender = &mut self.contenders[at];
                let kind = contender.proxy.kind;
                match row {
                    Row::Echo => {
                        contender.open(50);
                        let (cpu, said) = contender.run(&format!("echo {SECONDS} 50"));
                        self.table.add(Row::Echo, kind, cpu.all_ns as f64 / said[0] / 1e3);
                        self.table.add(Row::EchoUser, kind, cpu.user_ns() / said[0] / 1e3);
                        self.table.add(Row::P99, kind, said[2] / 1e3);
                        contender.close();
                    }
                    Row::Bulk => {
                        let (cpu, said) = contender.run(&format!("bulk {SECONDS}"));
                        self.table.add(row, kind, cpu.all_ns as f64 / said[0]);
                    }
                    _ => {
                        let command = if row == Row::Get { "get" } else { "connect" };
                        let (cpu, said) = contender.run(&format!("{command} {SECONDS}"));
                        self.table.add(row, kind, cpu.all_ns as f64 / said[0] / 1e3);
                    }
                }
            }
        }
    }

    /// Each on a process of its own: memory, growth, system calls.
    fn long_round(&mut self, round: usize) {
        for at in self.turn(round) {
            let Contender { proxy: Proxy { kind, .. }, upstream, .. } = self.contenders[at];
            let mut fresh = Contender::start(kind, upstream);
            fresh.open(50);
            if let Some(by) = self.calls {
                let (calls, messages) = fresh.count_calls(by);
                self.table.add(Row::Calls, kind, calls.0 / messages);
                self.table.add(Row::Waits, kind, calls.1 / messages);
            }
            let pss_few = fresh.pss_with(FEW);
            let pss_many = fresh.pss_with(MANY);
            self.table.add(Row::Pss, kind, (pss_many - pss_few) / (MANY - FEW) as f64);
            let small = &mut self.contenders[at];
            small.open(50);
            let [mut few, mut some, mut all] = [(0.0, 0.0); 3];
            // In turn, so that what disturbs the machine disturbs all three alike.
            for _ in 0..GROWTH_TURNS {
                small.echo_into(50, &mut few);
                fresh.echo_into(50, &mut some);
                fresh.echo_into(MANY, &mut all);
            }
            small.close();
            let growth = |(cpu_ns, messages): (f64, f64)| cpu_ns / messages * few.1 / few.0;
            self.table.add(Row::Growth, kind, growth(some));
            self.table.add(Row::GrowthAll, kind, growth(all));
        }
    }

    fn turn(&self, round: usize) -> impl Iterator<Item = usize> + use<> {
        let count = self.contenders.len();
        (0..count).map(move |at| (at + round) % count)
    }
}

impl Contender {
    fn start(kind: Kind, upstream: SocketAddr) -> Self {
        let proxy = Proxy::start(kind, upstream);
        let address = proxy.address.to_string();
        let arguments = [Some("load"), Some(&address), proxy.ca.as_deref()];
        let load = Helper::start(&arguments.into_iter().flatten().collect::<Vec<_>>());
        Self { proxy, load, upstream }
    }

    fn open(&mut self, sessions: usize) {
        self.load.tell(format!("open {sessions}"));
        assert_eq!(self.load.line(), sessions.to_string());
    }

    /// CPU time of the proxy during a command, and what the load says that it did.
    fn run(&mut self, command: &str) -> (Cpu, Vec<f64>) {
        self.load.tell(command);
        assert_eq!(self.load.line(), "ready");
        let before = self.proxy.cpu();
        self.load.tell("go");
        let said = self.load.line();
        // What the proxy still has to close belongs to the work.
        std::thread::sleep(Duration::from_millis(60));
        let spent = self.proxy.cpu().since(before);
        (spent, said.split(' ').map(|number| number.parse().unwrap()).collect())
    }

    /// Adds the CPU time in ns, and the messages.
    fn echo_into(&mut self, speaking: usize, sums: &mut (f64, f64)) {
        let (cpu, said) = self.run(&format!("echo {SECONDS} {speaking}"));
        sums.0 += cpu.all_ns as f64;
        sums.1 += said[0];
    }

    fn close(&mut self) {
        self.load.tell("close");
        assert_eq!(self.load.line(), "closed");
    }

    fn count_calls(&mut self, by: &'static str) -> ((f64, f64), f64) {
        self.load.tell(format!("echo {SECONDS} 50"));
        assert_eq!(self.load.line(), "ready");
        let calls = Calls::count(by, &self.proxy);
        self.load.tell("go");
        let messages = self.load.line().split(' ').next().unwrap().parse().unwrap();
        (calls.end(), messages)
    }

    fn pss_with(&mut self, sessions: usize) -> f64 {
        self.open(sessions);
        std::thread::sleep(Duration::from_millis(300));
        self.proxy.pss_kib()
    }
}
