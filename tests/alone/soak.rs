//! The long trial of `tests/soak/run`: sessions that live, reloads, and Socket.IO processes that are killed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::support::HOST;
use crate::support::edge::{Edge, json, text};
use crate::support::engineio::{Poller, Socket};
use crate::support::node::{Interop, Program};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;

const WEBSOCKETS: usize = 500;
const POLLERS: usize = 20;
const SERVERS: usize = 3;
const CHAT_PAUSE: Duration = Duration::from_secs(1);
const RELOAD_INTERVAL: Duration = Duration::from_secs(10);
const KILL_INTERVAL: Duration = Duration::from_secs(60);
/// A killed process comes back after this.
const DOWN: Duration = Duration::from_secs(3);
/// A session that was being opened may be lost to a kill that was no longer ago.
const NEAR: Duration = Duration::from_secs(10);
/// When memory is first read, in a run that is long enough.
const EARLY: Duration = Duration::from_secs(120);

/// What became of the sessions, and what was done to their servers.
#[derive(Default)]
struct Tally {
    over: AtomicBool,
    messages: AtomicU64,
    opened: AtomicU64,
    up: AtomicU64,
    /// With their killed server.
    killed_with: AtomicU64,
    /// While they were being opened, and a server had just been killed.
    near_a_kill: AtomicU64,
    /// By the edge: what their client saw.
    lost: Mutex<Vec<String>>,
    /// Process ids of killed servers, and when.
    kills: Mutex<BTreeMap<u64, Instant>>,
}

/// What is known of a session from outside, whatever happens within.
#[derive(Default)]
struct Seen {
    /// The server's process, once it has said so.
    process: Mutex<Option<u64>>,
}

impl Tally {
    /// Opens sessions one after the other for as long as the trial lasts, whatever happens to them.
    async fn client(self: Arc<Self>, edge: Arc<Edge>, at: usize) {
        // Not all handshakes at once.
        sleep(Duration::from_millis(at as u64 * 10)).await;
        while !self.over.load(Relaxed) {
            let seen = Arc::new(Seen::default());
            let (tally, ours, edge) = (Arc::clone(&self), Arc::clone(&seen), Arc::clone(&edge));
            // A task of its own: what goes wrong in it is a panic.
            let session = tokio::spawn(async move {
                if at < WEBSOCKETS { tally.chat(&edge, &ours).await } else { tally.poll(&edge, &ours).await }
            });
            let ended = session.await;
            if seen.process.lock().unwrap().is_some() {
                self.up.fetch_sub(1, Relaxed);
            }
            if let Err(error) = ended {
                self.judge(&seen, error.into_panic());
                sleep(Duration::from_millis(200 + at as u64 * 4)).await;
            }
        }
    }

    fn judge(&self, seen: &Seen, panic: Box<dyn std::any::Any + Send>) {
        let kills = self.kills.lock().unwrap();
        let process = *seen.process.lock().unwrap();
        let counter = match process {
            Some(process) if kills.contains_key(&process) => &self.killed_with,
            None if kills.values().any(|when| when.elapsed() < NEAR) => &self.near_a_kill,
            _ => {
                let said = panic.downcast::<String>().map_or_else(|_| "a panic".to_owned(), |text| *text);
                self.lost.lock().unwrap().push(said);
                return;
            }
        };
        counter.fetch_add(1, Relaxed);
    }

    fn is_up(&self, seen: &Seen, answer: &str) {
        let found: Value =
            serde_json::from_str(answer.trim_start_matches(|c: char| c.is_ascii_digit())).unwrap();
        *seen.process.lock().unwrap() = Some(found[0]["process"].as_u64().unwrap());
        self.opened.fetch_add(1, Relaxed);
        self.up.fetch_add(1, Relaxed);
    }

    async fn chat(&self, edge: &Edge, seen: &Seen) {
        let mut socket = Socket::open(edge, HOST, "").await;
        socket.join_only("/").await;
        socket.send(r#"420["how"]"#).await;
        self.is_up(seen, &socket.text().await);
        while !self.over.load(Relaxed) {
            socket.send(r#"421["echo","how are you?"]"#).await;
            assert_eq!(socket.text().await, r#"431["how are you?"]"#);
            self.messages.fetch_add(1, Relaxed);
            sleep(CHAT_PAUSE).await;
        }
        socket.close().await;
    }

    async fn poll(&self, edge: &Edge, seen: &Seen) {
        let mut poller = Poller::open(edge, HOST).await;
        poller.send("40").await;
        assert!(poller.events().await[0].starts_with("40{"));
        poller.send(r#"420["how"]"#).await;
        self.is_up(seen, &poller.events().await[0]);
        while !self.over.load(Relaxed) {
            poller.send(r#"421["echo","how are you?"]"#).await;
            assert_eq!(poller.events().await, [r#"431["how are you?"]"#]);
            self.messages.fetch_add(1, Relaxed);
            sleep(CHAT_PAUSE).await;
        }
        poller.send("1").await;
    }

    /// Waits until every session is open; `false` if that does not come to be.
    async fn everybody_is_up(&self) -> bool {
        let until = Instant::now() + Duration::from_secs(45);
        while self.up.load(Relaxed) < (WEBSOCKETS + POLLERS) as u64 {
            if Instant::now() > until {
                return false;
            }
            sleep(Duration::from_millis(100)).await;
        }
        true
    }
}

async fn ask(edge: &Arc<Edge>, command: &'static str) -> Value {
    let edge = Arc::clone(edge);
    let asked = tokio::task::spawn_blocking(move || {
        let output = edge.desk().ask(&[command, "--json"]);
        assert!(output.status.success(), "{command}: {}", text(&output));
        json(&output)
    });
    asked.await.unwrap()
}

/// Reloads for as long as the trial lasts, each time to the other of two bundles.
async fn reload(edge: Arc<Edge>, tally: Arc<Tally>) -> usize {
    let bundles = ["a", "b"].map(|name| {
        edge.desk().write_certificate(0, &[HOST, &format!("{name}.recre.store")]);
        edge.desk().bundled();
        let copy = edge.desk().path(&format!("{name}.bundle"));
        std::fs::copy(edge.desk().bundle_file(), &copy).unwrap();
        copy
    });
    let mut reloads = 0;
    while !tally.over.load(Relaxed) {
        let new = edge.desk().path("new.bundle");
        std::fs::copy(&bundles[reloads % 2], &new).unwrap();
        std::fs::rename(new, edge.desk().bundle_file()).unwrap();
        let report = ask(&edge, "reload").await;
        assert_eq!(report["ok"], true, "{report}");
        reloads += 1;
        sleep(RELOAD_INTERVAL).await;
    }
    reloads
}

fn descriptors(edge: &Edge) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", edge.pid())).unwrap().count()
}

/// Ready is said when it listens: its workers may still be opening what is theirs.
async fn settled(edge: &Edge) -> usize {
    let (mut last, mut since) = (descriptors(edge), Instant::now());
    while since.elapsed() < Duration::from_secs(1) {
        sleep(Duration::from_millis(50)).await;
        let now = descriptors(edge);
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    last
}

/// Kills a server and starts it again on its port.
async fn kill(interop: &Arc<Interop>, servers: &mut Vec<(Program, u16)>, tally: &Tally) {
    let (server, port) = servers.remove(0);
    tally.kills.lock().unwrap().insert(server.pid().into(), Instant::now());
    drop(server); // SIGKILL
    sleep(DOWN).await;
    let interop = Arc::clone(interop);
    let again = tokio::task::spawn_blocking(move || interop.server(&json!({ "port": port })));
    servers.push(again.await.unwrap());
}

fn growth_percent(early: u64, late: u64) -> f64 {
    (late as f64 - early as f64) / early as f64 * 100.0
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "20 minutes: tests/soak/run [MINUTES]"]
async fn soak() {
    let _turn = crate::turn();
    let minutes: f64 = std::env::var("SANEDGE_SOAK_MINUTES").map_or(20.0, |text| text.parse().unwrap());
    let Some(interop) = Interop::ready("soak") else { return };
    let interop = Arc::new(interop);
    let length = Duration::from_secs_f64(minutes * 60.0);
    let early = EARLY.min(length / 3);
    // What a session's task panics with is read, not printed.
    std::panic::set_hook(Box::new(|panic| {
        if std::thread::current().name() != Some("tokio-rt-worker") {
            eprintln!("{panic}");
        }
    }));
    let mut servers: Vec<_> = (0..SERVERS).map(|_| interop.server(&json!({}))).collect();
    let addresses: Vec<_> = servers.iter().map(|(_, port)| format!("127.0.0.1:{port}")).collect();
    let edge = Arc::new(Edge::certified_for(&[HOST]).site(&[HOST], addresses.join("\", \"")).start());
    let descriptors_before = settled(&edge).await;
    let tally = Arc::new(Tally::default());
    let mut clients = JoinSet::new();
    for at in 0..WEBSOCKETS + POLLERS {
        clients.spawn(Arc::clone(&tally).client(Arc::clone(&edge), at));
    }
    let reloading = tokio::spawn(reload(Arc::clone(&edge), Arc::clone(&tally)));

    let begun = Instant::now();
    assert!(tally.everybody_is_up().await, "{} sessions are open", tally.up.load(Relaxed));
    println!("{} sessions open after {:.1} s", WEBSOCKETS + POLLERS, begun.elapsed().as_secs_f64());
    // The most handshakes at once come when the process that took over from two others is killed: what they leave of the heap is
    // there from then on, and is no growth.
    for _ in 0..SERVERS {
        kill(&interop, &mut servers, &tally).await;
        assert!(tally.everybody_is_up().await, "{} sessions are open", tally.up.load(Relaxed));
    }
    println!("each process killed once; PSS {} KiB; the clock starts", edge.memory_kib("Pss"));
    let begun = Instant::now();
    let (mut early_kib, mut next_kill, mut kills) = (None, KILL_INTERVAL.min(length / 4), 0);
    while begun.elapsed() < length {
        if begun.elapsed() >= next_kill && begun.elapsed() + KILL_INTERVAL / 2 < length {
            kill(&interop, &mut servers, &tally).await;
            (next_kill, kills) = (next_kill + KILL_INTERVAL, kills + 1);
            let whole = tally.everybody_is_up().await;
            println!(
                "{:5.0} s: kill {kills}, {} sessions went with their server, everybody is back: {whole}, {} messages, PSS {} KiB",
                begun.elapsed().as_secs_f64(),
                tally.killed_with.load(Relaxed),
                tally.messages.load(Relaxed),
                edge.memory_kib("Pss"),
            );
        }
        if early_kib.is_none() && begun.elapsed() >= early {
            assert!(tally.everybody_is_up().await);
            early_kib = Some(edge.memory_kib("Pss"));
        }
        sleep(Duration::from_millis(200)).await;
    }
    assert!(tally.everybody_is_up().await);
    let (early_kib, late_kib) = (early_kib.unwrap(), edge.memory_kib("Pss"));
    tally.over.store(true, Relaxed);
    clients.join_all().await;
    let reloads = reloading.await.unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while descriptors(&edge) > descriptors_before && Instant::now() < until {
        sleep(Duration::from_millis(200)).await;
    }
    let descriptors_after = descriptors(&edge);
    let status = ask(&edge, "status").await;
    let lost = tally.lost.lock().unwrap().clone();
    // A session that a server ended by itself, for a client that was too slow for its heartbeat, shows here.
    let mut reasons = BTreeMap::<String, usize>::new();
    for said in servers.iter().flat_map(|(server, _)| server.said()) {
        if said["event"] == "disconnect" {
            *reasons.entry(said["reason"].to_string()).or_default() += 1;
        }
    }
    println!(
        "{minutes} minutes, {WEBSOCKETS} WebSockets and {POLLERS} polling clients on {SERVERS} processes"
    );
    println!("  messages             {}", tally.messages.load(Relaxed));
    println!("  sessions opened      {}", tally.opened.load(Relaxed));
    println!("  reloads              {reloads}, keys in memory {}", status["keys_in_memory"]);
    println!("  processes killed     {kills}");
    println!("  sessions lost to us  {}", lost.len());
    println!("    with their process {}", tally.killed_with.load(Relaxed));
    println!("    opening, near it   {}", tally.near_a_kill.load(Relaxed));
    println!("  ends, by the servers {reasons:?}");
    println!(
        "  memory (PSS)         {early_kib} KiB at {:.1} min, {late_kib} KiB at the end ({:+.1} %)",
        early.as_secs_f64() / 60.0,
        growth_percent(early_kib, late_kib)
    );
    println!("  descriptors          {descriptors_before} before, {descriptors_after} after");
    assert!(lost.is_empty(), "lost: {lost:?}");
    assert!(kills > 0 && reloads > 0);
    assert!(growth_percent(early_kib, late_kib) <= 2.0);
    assert_eq!(descriptors_after, descriptors_before);
    assert_eq!((&status["keys_in_memory"], &status["sessions"]), (&json!(1), &json!(0)));
    Arc::into_inner(edge).unwrap().stop();
}
