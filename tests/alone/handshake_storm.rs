//! The flood of `tests/storm/handshakes`: more hellos than can be answered, beside WebSockets that chat.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::post_quantum::X25519MLKEM768;
use crate::support::HOST;
use crate::support::edge::{Edge, client_config_with};
use crate::support::engineio::{Socket, serve_default};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::crypto::ring::kx_group::X25519;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{interval, sleep, timeout};

const WEBSOCKETS: usize = 200;
/// Between two messages of a WebSocket.
const PAUSE: Duration = Duration::from_millis(100);
const CAPACITY_TIME: Duration = Duration::from_secs(5);
/// Connections of the flood that are open at once, at most, and how long each waits for its answer. The edge and the kernel's queue hold
/// about 5,000 of them: more must be open, or the flood would offer only as many as are answered.
const FLOOD_OPEN_MAX: u64 = 15_000;
const FLOOD_PATIENCE: Duration = Duration::from_secs(5);
/// How much more than the capacity the generator is asked for, and what that may add to the 99th percentile.
const TIMES: u64 = 5;
const ADDED_MAX: Duration = Duration::from_millis(20);
/// The group of the hellos in the variable `FLOOD_GROUP`: with a share for X25519MLKEM768 and X25519 as browsers send it, or without the
/// first.
const HYBRID: &str = "X25519MLKEM768";
const CLASSICAL: &str = "X25519";
/// The server's share of the first. The client's is 96 bytes longer.
const SERVER_SHARE_BYTES: usize = 1_120;

/// A hello as rustls makes it; each is answered with a key share and a signature.
fn hello(ca_pem: &str, group: &str) -> Vec<u8> {
    let name = rustls_pki_types::ServerName::try_from(HOST).unwrap();
    let mut provider = rustls::crypto::ring::default_provider();
    provider.kx_groups = if group == HYBRID { vec![X25519MLKEM768, X25519] } else { vec![X25519] };
    let config = Arc::new(client_config_with(provider, ca_pem));
    let mut client = rustls::ClientConnection::new(config, name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// This program again, as one that floods; killed when dropped.
struct Flood(Child);

impl Flood {
    /// `rate` hellos a second, 0 for as many as are answered by a few connections.
    fn start(edge: &Edge, rate: u64, nice: &str, group: &str) -> Self {
        Self::at(edge.https, edge, rate, nice, group)
    }

    fn at(to: SocketAddr, edge: &Edge, rate: u64, nice: &str, group: &str) -> Self {
        let mut command = Command::new("nice");
        command.args(["-n", nice]).arg(std::env::current_exe().unwrap());
        command.args(["--exact", "handshake_storm::flood", "--ignored", "--nocapture"]);
        command.env("FLOOD_TO", to.to_string()).env("FLOOD_RATE", rate.to_string());
        command.env("FLOOD_GROUP", group).env("FLOOD_CA", edge.desk().ca_file());
        Self(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Offered and answered a second, since it began.
    fn stop(mut self) -> (f64, f64) {
        let stdout = self.0.stdout.take().unwrap();
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        let lines = BufReader::new(stdout).lines().map_while(Result::ok);
        let last = lines.filter(|line| line.starts_with("flood ")).last().expect("it has said something");
        let figures: Vec<f64> = last.split(' ').skip(1).map(|word| word.parse().unwrap()).collect();
        (figures[0] / figures[2], figures[1] / figures[2])
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[derive(Default)]
struct Counts {
    offered: AtomicU64,
    answered: AtomicU64,
    open: AtomicU64,
}

impl Counts {
    fn begin(&self) {
        self.open.fetch_add(1, Relaxed);
        self.offered.fetch_add(1, Relaxed);
    }
}

/// Answered is a connection whose first record is as long as a ServerHello with a share of the group.
async fn one(to: SocketAddr, hello: Arc<Vec<u8>>, counts: Arc<Counts>) {
    let exchange = async {
        let mut stream = TcpStream::connect(to).await.ok()?;
        stream.write_all(&hello).await.ok()?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await.ok()?;
        stream.set_zero_linger().ok()?;
        let length = usize::from(u16::from_be_bytes([answer[3], answer[4]]));
        let is_hybrid = length > SERVER_SHARE_BYTES;
        (answer[0] == 22 && is_hybrid == (hello.len() > SERVER_SHARE_BYTES)).then_some(())
    };
    if let Ok(Some(())) = timeout(FLOOD_PATIENCE, exchange).await {
        counts.answered.fetch_add(1, Relaxed);
    }
    counts.open.fetch_sub(1, Relaxed);
}

#[tokio::test]
#[ignore = "run by the tests below, in a process of its own"]
async fn flood() {
    let var = |name| std::env::var(name).expect("to be run by handshakes_beyond_capacity");
    let (to, rate) = (var("FLOOD_TO").parse().unwrap(), var("FLOOD_RATE").parse::<u64>().unwrap());
    let hello = Arc::new(hello(&std::fs::read_to_string(var("FLOOD_CA")).unwrap(), &var("FLOOD_GROUP")));
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let open_max = maximum.map_or(FLOOD_OPEN_MAX, |most| FLOOD_OPEN_MAX.min(most.saturating_sub(100)));
    let (counts, begun) = (Arc::new(Counts::default()), Instant::now());
    if rate == 0 {
        for _ in 0..64 {
            let (hello, counts) = (Arc::clone(&hello), Arc::clone(&counts));
            tokio::spawn(async move {
                loop {
                    counts.begin();
                    one(to, Arc::clone(&hello), Arc::clone(&counts)).await;
                }
            });
        }
    }
    let mut ticks = interval(Duration::from_millis(10));
    for tick in 0_u64.. {
        ticks.tick().await;
        let due =
            (begun.elapsed().as_millis() as u64 * rate / 1000).saturating_sub(counts.offered.load(Relaxed));
        for _ in 0..due.min(open_max.saturating_sub(counts.open.load(Relaxed))) {
            counts.begin(); // here: what is only to begin is open to the next tick, too
            tokio::spawn(one(to, Arc::clone(&hello), Arc::clone(&counts)));
        }
        if tick % 10 == 9 {
            let [offered, answered] = [&counts.offered, &counts.answered].map(|count| count.load(Relaxed));
            println!("flood {offered} {answered} {}", begun.elapsed().as_secs_f64());
        }
    }
}

/// Round trips of all WebSockets for so long; a lost one is a panic.
async fn chat(sockets: Vec<Socket>, length: Duration) -> (Vec<Socket>, Vec<Duration>) {
    let tasks: Vec<_> = sockets
        .into_iter()
        .enumerate()
        .map(|(at, mut socket)| {
            tokio::spawn(async move {
                sleep(PAUSE * at as u32 / WEBSOCKETS as u32).await;
                let (until, mut trips) = (Instant::now() + length, Vec::new());
                while Instant::now() < until {
                    let sent = Instant::now();
                    socket
                        .send(r#"42["echo","a message of sixty-four bytes, or nearly so, as games send"]"#)
                        .await;
                    assert!(socket.text().await.starts_with("42[\"echo\""));
                    trips.push(sent.elapsed());
                    sleep(PAUSE).await;
                }
                (socket, trips)
            })
        })
        .collect();
    let (mut sockets, mut trips) = (Vec::new(), Vec::new());
    for task in tasks {
        let (socket, some) = task.await.expect("a WebSocket was lost");
        sockets.push(socket);
        trips.extend(some);
    }
    trips.sort_unstable();
    (sockets, trips)
}

fn percentile(sorted: &[Duration], of_100: usize) -> Duration {
    sorted[(sorted.len() - 1) * of_100 / 100]
}

async fn opened(edge: &Edge, count: usize) -> Vec<Socket> {
    let mut sockets = Vec::new();
    for _ in 0..count {
        let mut socket = Socket::open(edge, HOST, "").await;
        socket.join("/").await;
        sockets.push(socket);
    }
    sockets
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_flood_loses_no_websocket() {
    let _turn = crate::turn();
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], serve_default().await).start();
    let sockets = opened(&edge, 10).await;
    let flood = Flood::start(&edge, 2_000, "0", HYBRID);
    let (sockets, trips) = chat(sockets, Duration::from_secs(2)).await;
    let (offered, answered) = flood.stop();
    assert!(offered > 1.0 && answered > 1.0, "{offered} a second offered, {answered} answered");
    assert!(sockets.len() == 10 && trips.len() > 20);
    drop(sockets);
    edge.stop();
}

/// A server of another program that reads a hello and closes.
fn somebody_else() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = std::io::Read::read(&mut stream, &mut [0; 4096]);
        }
    });
    address
}

/// User and system time of a process, in seconds (proc(5)).
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The second field, a name in parentheses, may contain spaces; the times are the 14th and 15th.
    let fields = stat.rsplit_once(") ").unwrap().1.split(' ').skip(11).take(2);
    let ticks: u64 = fields.map(|field| field.parse::<u64>().unwrap()).sum();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// Handshakes a second with this group that one worker can answer if it has a core, which follows from its CPU time for each, and that
/// time in milliseconds. How many are answered here depends on the cores that the generator and others leave.
async fn capacity(edge: &Edge, group: &str) -> (f64, f64) {
    let (flood, begun, used) = (Flood::start(edge, 0, "19", group), Instant::now(), cpu_seconds(edge.pid()));
    sleep(CAPACITY_TIME).await;
    let (_, answered) = flood.stop();
    let used = (cpu_seconds(edge.pid()) - used) / begun.elapsed().as_secs_f64();
    (answered / used, used * 1e3 / answered)
}

/// The whole flood: `tests/storm/handshakes`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute: tests/storm/handshakes [SECONDS]"]
async fn handshakes_beyond_capacity() {
    let _turn = crate::turn();
    let seconds = std::env::var("SANEDGE_STORM_SECONDS").map_or(20, |text| text.parse().unwrap());
    let length = Duration::from_secs(seconds);
    let edge =
        Edge::certified_for(&[HOST]).site(&[HOST], serve_default().await).limits("workers = 1").start();
    let mut capacities = Vec::new();
    for group in [CLASSICAL, HYBRID] {
        let (a_second, cpu_ms) = capacity(&edge, group).await;
        println!(
            "capacity            {a_second:.0} handshakes a second with {group}, full, up to the server's signature; {cpu_ms:.2} ms of CPU time each"
        );
        capacities.push(a_second);
    }
    // What follows is with the group that browsers get.
    let capacity = capacities[1];
    let (sockets, before) = chat(opened(&edge, WEBSOCKETS).await, length).await;
    let flood = Flood::start(&edge, capacity as u64 * TIMES, "19", HYBRID);
    sleep(Duration::from_secs(1)).await;
    let (begun, used) = (Instant::now(), cpu_seconds(edge.pid()));
    let (sockets, with) = chat(sockets, length).await;
    let busy = (cpu_seconds(edge.pid()) - used) / begun.elapsed().as_secs_f64() * 100.0;
    let (with_flood, answered) = flood.stop();
    println!(
        "flood               {with_flood:.0} a second offered at nice 19 ({TIMES} times the capacity asked), {answered:.0} answered; the edge had {busy:.0} % of a core"
    );
    for (name, trips) in [("before", &before), ("with the flood", &with)] {
        let [median, p99] = [50, 99].map(|of_100| percentile(trips, of_100).as_secs_f64() * 1e3);
        println!("{name:<20}{} round trips, median {median:.2} ms, p99 {p99:.2} ms", trips.len());
    }
    println!("WebSockets lost     {}", WEBSOCKETS - sockets.len());
    // What such a flood costs the machine where no edge has to answer it.
    let flood = Flood::at(somebody_else(), &edge, capacity as u64 * TIMES, "19", HYBRID);
    sleep(Duration::from_secs(1)).await;
    let (sockets, elsewhere) = chat(sockets, length).await;
    let (offered, _) = flood.stop();
    let p99 = percentile(&elsewhere, 99).as_secs_f64() * 1e3;
    println!(
        "elsewhere           the same at a listener that only reads and closes: {offered:.0} a second, p99 {p99:.2} ms"
    );
    drop(sockets);
    edge.stop();
    assert!(
        with_flood >= capacity,
        "{with_flood:.0} a second are no flood where {capacity:.0} can be answered"
    );
    let added = percentile(&with, 99).saturating_sub(percentile(&before, 99));
    println!("added to the p99    {:.2} ms (at most {})", added.as_secs_f64() * 1e3, ADDED_MAX.as_millis());
    assert!(added <= ADDED_MAX);
}
