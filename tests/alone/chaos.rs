//! Everything wrong at once beside clients that do it right: `tests/storm/chaos` and `tests/storm/slowhttp`.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::HOST;
use crate::support::edge::{Edge, client_config, text};
use crate::support::engineio::{Http, Socket, serve_default};
use crate::support::node::skip;
use crate::support::raw::upgrade;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";
/// No client does one thing for longer.
const DEED_TIME: Duration = Duration::from_secs(8);
const PAUSE: Duration = Duration::from_millis(200);
/// Longest that a healthy client waits for an echo before that is an error.
const ECHO_TIME: Duration = Duration::from_secs(20);
/// What a client may do wrong, by name.
const DEEDS: [&str; 16] = [
    "slow head",
    "half a hello",
    "reset",
    "garbage for TLS",
    "garbage for HTTP",
    "giant head",
    "aborted upload",
    "never reading",
    "garbage frames",
    "oversized frame",
    "half-close",
    "another name",
    "broken chunks",
    "pipeline",
    "silence",
    "vanished upgrade",
];

/// Repeatable chance (xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn bytes(&mut self, count: u64) -> Vec<u8> {
        (0..count).map(|_| self.below(256) as u8).collect()
    }
}

/// One that does wrong things, from an address of its own among others.
struct Villain {
    edge: SocketAddr,
    tls: TlsConnector,
    chance: Chance,
}

impl Villain {
    async fn connect(&mut self) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        let from = [127, 1, self.chance.below(4) as u8, 1 + self.chance.below(250) as u8];
        socket.bind((from, 0).into())?;
        socket.connect(self.edge).await
    }

    async fn secure(&mut self, name: &str) -> io::Result<TlsStream<TcpStream>> {
        let stream = self.connect().await?;
        self.tls.connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await
    }

    async fn socket(&mut self) -> io::Result<TlsStream<TcpStream>> {
        let mut stream = self.secure(HOST).await?;
        stream.write_all(upgrade(HOST, WEBSOCKET, "").as_bytes()).await?;
        stream.read_exact(&mut [0; 12]).await?;
        Ok(stream)
    }

    async fn pause(&mut self) {
        sleep(Duration::from_millis(self.chance.below(3_000))).await;
    }

    async fn do_wrong(&mut self, deed: usize) -> io::Result<()> {
        match DEEDS[deed] {
            "slow head" => {
                let mut stream = self.secure(HOST).await?;
                for byte in b"GET / HTTP/1.1\r\nHost: recre.store\r\nX-Slow: " {
                    stream.write_all(&[*byte]).await?;
                    stream.flush().await?;
                    sleep(Duration::from_millis(150)).await;
                }
            }
            "half a hello" => {
                let mut stream = self.connect().await?;
                stream.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).await?;
                self.pause().await;
            }
            "reset" => {
                let stream = self.connect().await?;
                stream.set_zero_linger()?;
                if self.chance.below(2) == 0 {
                    let (stream, _) = self.secure(HOST).await?.into_inner();
                    stream.set_zero_linger()?;
                }
            }
            "garbage for TLS" => {
                let mut stream = self.connect().await?;
                let count = self.chance.below(4_000);
                stream.write_all(&self.chance.bytes(count)).await?;
                stream.read_to_end(&mut Vec::new()).await?;
            }
            "garbage for HTTP" => {
                let mut stream = self.secure(HOST).await?;
                let count = self.chance.below(40_000);
                stream.write_all(&self.chance.bytes(count)).await?;
                stream.read_to_end(&mut Vec::new()).await?;
            }
            "giant head" => {
                let mut stream = self.secure(HOST).await?;
                let head = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX: {}\r\n\r\n", "x".repeat(200_000));
                stream.write_all(head.as_bytes()).await?;
                stream.read_to_end(&mut Vec::new()).await?;
            }
            "aborted upload" => {
                let mut stream = self.secure(HOST).await?;
                let head =
                    format!("POST /socket.io/ HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 9999999\r\n\r\n");
                stream.write_all(head.as_bytes()).await?;
                stream.write_all(&[b'x'; 100_000]).await?;
                stream.get_ref().0.set_zero_linger()?;
            }
            "never reading" => {
                let mut stream = self.socket().await?;
                // Text frames of 4 KiB, masked with zeros; the app sends as much back.
                let join = [&[0x81, 0x82, 0, 0, 0, 0][..], b"40"].concat();
                stream.write_all(&join).await?;
                let body = format!("42[\"echo\",\"{}\"]", "x".repeat(4_096 - 13));
                let frame = [&[0x81, 0xfe, 0x10, 0x00, 0, 0, 0, 0][..], &body.as_bytes()[..4_096]].concat();
                for _ in 0..2_000 {
                    stream.write_all(&frame).await?;
                }
                self.pause().await;
            }
            "garbage frames" => {
                let mut stream = self.socket().await?;
                let count = 1 + self.chance.below(4_000);
                stream.write_all(&self.chance.bytes(count)).await?;
                stream.read_to_end(&mut Vec::new()).await?;
            }
            "oversized frame" => {
                let mut stream = self.socket().await?;
                stream.write_all(&[0x82, 0xff, 0x7f, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0]).await?;
                stream.read_to_end(&mut Vec::new()).await?;
            }
            "half-close" => {
                let mut stream = self.secure(HOST).await?;
                stream.write_all(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await?;
                stream.get_mut().0.shutdown().await?;
                self.pause().await;
            }
            "another name" => drop(self.secure("elsewhere.test").await?),
            "broken chunks" => {
                let mut stream = self.secure(HOST).await?;
                let head = "POST / HTTP/1.1\r\nHost: recre.store\r\nTransfer-Encoding: chunked\r\n\r\n";
                stream
                    .write_all(format!("{head}5\r\nhello\r\n-1\r\nFFFFFFFFFFFFFFFFF\r\n").as_bytes())
                    .await?;
                stream.read_to_end(&mut Vec::new()).await?;
            }
            "pipeline" => {
                let mut stream = self.secure(HOST).await?;
                let request =
                    format!("GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
                stream.write_all(request.repeat(50).as_bytes()).await?;
                self.pause().await;
            }
            "silence" => {
                let _stream = self.secure(HOST).await?;
                self.pause().await;
            }
            "vanished upgrade" => {
                let stream = self.socket().await?;
                stream.get_ref().0.set_zero_linger()?;
            }
            other => panic!("{other}"),
        }
        Ok(())
    }
}

#[derive(Default)]
struct Tally {
    over: AtomicBool,
    echoes: AtomicU64,
    slowest_ms: AtomicU64,
    deeds: Mutex<BTreeMap<&'static str, u64>>,
}

async fn villain(mut villain: Villain, tally: Arc<Tally>) {
    while !tally.over.load(Relaxed) {
        let deed = villain.chance.below(DEEDS.len() as u64) as usize;
        // How it is refused is not of interest here.
        let _ = timeout(DEED_TIME, villain.do_wrong(deed)).await;
        *tally.deeds.lock().unwrap().entry(DEEDS[deed]).or_default() += 1;
        sleep(Duration::from_millis(20)).await;
    }
}

/// Talks for as long as the chaos lasts; every echo must come, in order.
async fn healthy(mut socket: Socket, tally: Arc<Tally>) {
    for count in 0_u64.. {
        if tally.over.load(Relaxed) {
            break;
        }
        let packet = format!(r#"42["echo",{count}]"#);
        let sent = Instant::now();
        socket.send(&packet).await;
        assert_eq!(timeout(ECHO_TIME, socket.text()).await.expect("an echo in time"), packet);
        tally.slowest_ms.fetch_max(sent.elapsed().as_millis() as u64, Relaxed);
        tally.echoes.fetch_add(1, Relaxed);
        sleep(PAUSE).await;
    }
    socket.close().await;
}

async fn status_of(edge: &Arc<Edge>) -> Value {
    let edge = Arc::clone(edge);
    tokio::task::spawn_blocking(move || edge.status()).await.unwrap()
}

fn descriptors(edge: &Edge) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", edge.pid())).unwrap().count()
}

async fn chaos(villains: usize, clients: usize, length: Duration) {
    // A full house and small buffers: the equation promises little. Handshakes enough that most get further.
    let limits = format!(
        "sessions_max = {}\nhandshakes_max = {}\nsocket_buffer_bytes = \"16KiB\"\ntls_buffer_bytes = \"16KiB\"",
        villains + clients,
        villains.max(128) / 2
    );
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], serve_default().await).limits(&limits).start();
    let edge = Arc::new(edge);
    status_of(&edge).await;
    let before = descriptors(&edge);
    let (tally, mut healthy_ones, mut all) = (Arc::new(Tally::default()), JoinSet::new(), JoinSet::new());
    for _ in 0..clients {
        let mut socket = Socket::open(&edge, HOST, "").await;
        socket.join("/").await;
        healthy_ones.spawn(healthy(socket, Arc::clone(&tally)));
    }
    let tls = TlsConnector::from(Arc::new(client_config(&edge.desk().ca.pem)));
    for at in 0..villains {
        let chance = Chance(0x9e37_79b9_7f4a_7c15 ^ (at as u64 + 1).wrapping_mul(0x2545_f491_4f6c_dd1d));
        let one = Villain { edge: edge.https, tls: tls.clone(), chance };
        all.spawn(villain(one, Arc::clone(&tally)));
    }
    let begun = Instant::now();
    let (mut most, mut budget, mut sessions) = (0, 0, 0);
    while begun.elapsed() < length {
        let status = status_of(&edge).await;
        // Without the pages of the program itself, which a debug build has many of.
        most = (edge.memory_kib("Anonymous") * 1024).max(most);
        budget = status["process"]["budget_bytes"].as_u64().unwrap();
        sessions = status["sessions"].as_u64().unwrap().max(sessions);
        assert!(most <= budget, "{most} bytes of memory, and the limits promise {budget}");
        assert_eq!(status["counters"]["panics_total"], 0);
        if let Some(ended) = healthy_ones.try_join_next() {
            panic!("a healthy client ended after {:?}: {ended:?}", begun.elapsed());
        }
        sleep(Duration::from_millis(500)).await;
    }
    tally.over.store(true, Relaxed);
    while let Some(ended) = healthy_ones.join_next().await {
        ended.expect("a healthy client failed");
    }
    all.join_all().await;
    // The longest that something of ours stays open for who is gone: `keepalive_timeout`, and a lingering close.
    let until = Instant::now() + Duration::from_secs(120);
    while descriptors(&edge) > before && Instant::now() < until {
        sleep(Duration::from_millis(200)).await;
    }
    let (after, status) = (descriptors(&edge), status_of(&edge).await);
    let deeds = tally.deeds.lock().unwrap().clone();
    println!("{villains} connections that do wrong, {clients} healthy WebSockets, {} s", length.as_secs());
    println!("  deeds              {}", deeds.values().sum::<u64>());
    for (deed, count) in &deeds {
        println!("    {deed:<17}{count}");
    }
    println!("  sessions           {sessions} at once");
    println!("  refused            {}", status["refused"]);
    println!(
        "  echoes             {}, all of them; the slowest took {} ms",
        tally.echoes.load(Relaxed),
        tally.slowest_ms.load(Relaxed)
    );
    println!("  memory             {most} bytes at most, the limits promise {budget}");
    println!("  descriptors        {before} before, {after} after");
    assert!(tally.echoes.load(Relaxed) > clients as u64);
    assert!(after <= before, "{after} descriptors, {before} before");
    Arc::into_inner(edge).unwrap().stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_little_chaos_harms_no_healthy_client() {
    let _turn = crate::turn();
    chaos(40, 5, Duration::from_secs(3)).await;
}

/// The whole of it: `tests/storm/chaos`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "ten minutes: tests/storm/chaos [MINUTES]"]
async fn chaos_beside_healthy_clients() {
    let _turn = crate::turn();
    let minutes: f64 = std::env::var("SANEDGE_STORM_MINUTES").map_or(10.0, |text| text.parse().unwrap());
    chaos(2_000, 50, Duration::from_secs_f64(minutes * 60.0)).await;
}

/// `tests/storm/slowhttp`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "four minutes: tests/storm/slowhttp [SECONDS]"]
async fn slowhttptest_in_its_four_modes() {
    let _turn = crate::turn();
    // Asked for its help, it ends with 1.
    if Command::new("slowhttptest").arg("-h").output().is_err() {
        return skip("slowhttptest_in_its_four_modes", "it needs slowhttptest");
    }
    let seconds = std::env::var("SANEDGE_STORM_SECONDS").unwrap_or_else(|_| "60".to_owned());
    // It sends no server name.
    let names = ["127.0.0.1", HOST];
    let listen = "default_host = \"127.0.0.1\"";
    let edge =
        Arc::new(Edge::certified_for(&names).site(&names, serve_default().await).listen(listen).start());
    for (mode, name) in [("-H", "slow head"), ("-B", "slow body"), ("-R", "ranges"), ("-X", "slow read")] {
        let mut command = Command::new("slowhttptest");
        command.args([mode, "-c", "1000", "-r", "200", "-i", "5", "-p", "5", "-l", &seconds]);
        let target = format!("https://{}/socket.io/?EIO=4&transport=polling", edge.https);
        let running = tokio::task::spawn_blocking(move || command.args(["-u", &target]).output().unwrap());
        let (mut exchanges, mut slowest) = (0, Duration::ZERO);
        while !running.is_finished() {
            let asked = Instant::now();
            let exchange = async {
                let mut client = Http::new(edge.tls(HOST).await);
                client.exchange("GET", HOST, "/socket.io/?EIO=4&transport=polling", "").await.status
            };
            let status = timeout(Duration::from_secs(5), exchange).await;
            assert_eq!(status.expect("an answer within 5 s"), 200, "{name}");
            (exchanges, slowest) = (exchanges + 1, slowest.max(asked.elapsed()));
            sleep(PAUSE).await;
        }
        let said = text(&running.await.unwrap());
        let plain: String =
            said.split('\u{1b}').map(|part| part.split_once('m').map_or(part, |(_, rest)| rest)).collect();
        let available = plain.lines().filter(|line| line.contains("service available")).collect::<Vec<_>>();
        println!(
            "{name:<10} {exchanges} exchanges of ours meanwhile, the slowest {} ms; it says: {:?}",
            slowest.as_millis(),
            available.last()
        );
        assert!(exchanges > 1, "{said}");
        assert!(
            !available.is_empty() && available.iter().all(|line| line.contains("YES")),
            "{name}: {plain}"
        );
    }
    assert_eq!(status_of(&edge).await["counters"]["panics_total"], 0);
    Arc::into_inner(edge).unwrap().stop();
}
