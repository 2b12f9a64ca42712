//! The worst case that the memory equation of `sanedge bundle` promises, brought about: every session's client has
//! stopped reading in the middle of a response, and its upstream sends as fast as it can; or both do so on a WebSocket.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::support::SOCKET_HOST as HOST;
use crate::support::edge::{Edge, PATIENCE, text};
use crate::support::frames::{BINARY, client_frame, server_frame};
use crate::support::node::{has, skip};
use crate::support::raw::{Raw, upgrade};
use crate::support::upstream::Upstream;
use tokio::task::JoinSet;

const MIB: f64 = 1_048_576.0;
/// More than all buffers on the way hold together.
const BODY_BYTES: u64 = 64 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_slow_readers_stay_within_the_equation() {
    let _turn = crate::turn();
    if !has("ss", "-V") {
        return skip("five_hundred_slow_readers_stay_within_the_equation", "it needs ss of iproute2");
    }
    println!("{}", stay_within(500, "32KiB", "", false).await);
}

/// Where the kernel and the scratch would have room for thirty times what a session may hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unread_websockets_stay_within_the_equation() {
    let _turn = crate::turn();
    if !has("ss", "-V") {
        return skip("unread_websockets_stay_within_the_equation", "it needs ss of iproute2");
    }
    let small = "scratch_bytes = \"1MiB\"\ntls_buffer_bytes = \"32KiB\"\nhead_bytes_max = \"8KiB\"";
    println!("{}", stay_within(60, "1MiB", small, true).await);
}

/// Apps that stop in the middle of long heads, behind clients that have begun long requests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_without_their_end_stay_within_the_equation() {
    let _turn = crate::turn();
    const HEADS: u64 = 200;
    const HEAD_BYTES: usize = 63 * 1024;
    let upstream = Upstream::scripted(|mut connection| async move {
        connection.head().await;
        let head = format!("HTTP/1.1 200 OK\r\n{}", "X: y\r\n".repeat(100));
        connection.send(format!("{head}X: {}", "x".repeat(HEAD_BYTES - head.len() - 100))).await;
        std::future::pending::<()>().await
    })
    .await;
    let limits = format!(
        "workers = 1\nsessions_max = {HEADS}\nhandshakes_max = {HEADS}\nsocket_buffer_bytes = \"64KiB\"\n\
         tls_buffer_bytes = \"32KiB\"\nresponse_head_bytes_max = \"63KiB\"\nhead_bytes_max = \"63KiB\""
    );
    let desk = Edge::certified_for(&[HOST]).site(&[HOST], &upstream.address).limits(&limits).write();
    let output = desk.bundle();
    assert!(output.status.success(), "{}", text(&output));
    let promised = term(&text(&output), "sessions");
    let edge = desk.serve();
    let before = edge.memory_kib("Pss") as f64 / 1024.0;
    let mut clients = Vec::new();
    for _ in 0..HEADS {
        let mut client = Raw::open(&edge, HOST).await;
        let begun = format!("GET /next HTTP/1.1\r\nHost: {HOST}\r\nX: {}", "x".repeat(HEAD_BYTES - 200));
        client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n{begun}")).await;
        clients.push(client);
    }
    let both = (2 * HEADS) as f64 * HEAD_BYTES as f64 / MIB;
    let until = Instant::now() + PATIENCE;
    let mut held = 0.0;
    while held < 0.9 * both && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(100)).await;
        held = edge.memory_kib("Pss") as f64 / 1024.0 - before;
    }
    let found =
        format!("{HEADS} halves of heads: {held:.1} MiB for {both:.1} of heads, {promised:.1} promised");
    assert!(held >= 0.9 * both, "they are not held, and nothing is shown: {found}");
    assert!(before + held <= promised, "{found}");
    println!("{found}");
    drop(clients);
    edge.stop();
}

async fn stay_within(readers: u64, socket_buffer: &str, more: &str, websockets: bool) -> String {
    let sent = Arc::new(AtomicU64::new(0));
    let upstream = if websockets { deaf(Arc::clone(&sent)).await } else { endless(Arc::clone(&sent)).await };
    let limits = format!(
        "workers = 1\nsessions_max = {readers}\nhandshakes_max = {readers}\nsocket_buffer_bytes = \"{socket_buffer}\"\n{more}"
    );
    let desk = Edge::certified_for(&[HOST]).site(&[HOST], &upstream.address).limits(&limits).write();
    let output = desk.bundle();
    assert!(output.status.success(), "{}", text(&output));
    let equation = text(&output);
    let edge = desk.serve();
    let machine_before = tcp_mib();
    let mut clients = JoinSet::new();
    for _ in 0..readers {
        let mut client = Raw::open(&edge, HOST).await;
        if websockets {
            client.send(upgrade(HOST, "/", "")).await;
            client.head().await;
            let sent = Arc::clone(&sent);
            clients.spawn(async move {
                let frame = client_frame(BINARY, true, &[0; 4096]);
                while client.try_send(&frame).await.is_ok() {
                    sent.fetch_add(4096, Relaxed);
                }
            });
        } else {
            client.send(format!("GET /big HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
            clients.spawn(async move {
                let _open = client;
                std::future::pending().await
            });
        }
    }
    stands_still(&sent).await;
    // Without the file pages of the program, which are many in a debug build.
    let process = edge.memory_kib("Pss_Anon") as f64 / 1024.0;
    let kernel = socket_mib(edge.https.port(), upstream.port(), 2 * readers);
    let (promised, promised_kernel) = (term(&equation, "sessions"), term(&equation, "kernel"));
    let found = format!(
        "{readers} slow readers: process {process:.1} of {promised:.1} MiB, kernel {kernel:.1} of {promised_kernel:.1} MiB"
    );
    let found =
        format!("{found}; all TCP sockets of this machine {:.1} MiB more", tcp_mib() - machine_before);
    // The kernel takes one packet more than a buffer has room for.
    assert!(process <= promised && kernel <= 1.05 * promised_kernel, "{found}\n{equation}");
    // Else nobody was slow, and nothing is shown.
    assert!(kernel > promised_kernel / 10.0 && process > promised / 20.0, "{found}\n{equation}");
    // Back-pressure: what the upstream got rid of is in these buffers, and in those of the test's own sockets.
    assert!(sent.load(Relaxed) < readers * BODY_BYTES / 2, "{} bytes were taken", sent.load(Relaxed));
    drop(clients);
    edge.stop();
    found
}

/// Sends frames as fast as they are taken, and reads none.
async fn deaf(sent: Arc<AtomicU64>) -> Upstream {
    Upstream::switching(move |mut connection| {
        let sent = Arc::clone(&sent);
        async move {
            let frame = server_frame(BINARY, true, &[0; 4096]);
            while connection.send(&frame).await {
                sent.fetch_add(4096, Relaxed);
            }
        }
    })
    .await
}

/// Answers every request with a long body, as fast as it is taken.
async fn endless(sent: Arc<AtomicU64>) -> Upstream {
    Upstream::scripted(move |mut connection| {
        let sent = Arc::clone(&sent);
        async move {
            connection.head().await;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY_BYTES}\r\n\r\n");
            let mut open = connection.send(head).await;
            while open {
                open = connection.send([b'x'; 4096]).await;
                sent.fetch_add(4096, Relaxed);
            }
        }
    })
    .await
}

/// Until nothing moved for a second.
async fn stands_still(sent: &AtomicU64) {
    let until = Instant::now() + PATIENCE;
    let mut before = u64::MAX;
    while std::mem::replace(&mut before, sent.load(Relaxed)) != sent.load(Relaxed) || before == 0 {
        assert!(Instant::now() < until, "bytes still move after {PATIENCE:?}: there is no back-pressure");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// A term of the equation in MiB, as `sanedge bundle` prints it.
fn term(equation: &str, name: &str) -> f64 {
    let line =
        equation.lines().find_map(|line| line.trim().strip_prefix(name)).expect("a line of the equation");
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// `mem` of `/proc/net/sockstat`, pages: of the whole machine, so the other ends of the edge's connections are in it.
fn tcp_mib() -> f64 {
    let sockstat = std::fs::read_to_string("/proc/net/sockstat").unwrap();
    let line = sockstat.lines().find(|line| line.starts_with("TCP:")).unwrap();
    let pages: f64 = line.split("mem ").nth(1).unwrap().trim().parse().unwrap();
    pages * rustix::param::page_size() as f64 / MIB
}

/// What the kernel holds for the edge's sockets, those accepted and those to the upstream, as `ss` shows it:
/// `skmem:(r<bytes>,rb<limit>,t<bytes>,tb<limit>,f<bytes>,w<bytes>,…)`.
fn socket_mib(listener: u16, upstream: u16, sockets: u64) -> f64 {
    let filter = format!("( sport = :{listener} or dport = :{upstream} )");
    let output = Command::new("ss").args(["-tmnH", "state", "established", &filter]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let (mut count, mut bytes) = (0, 0);
    for fields in said.split("skmem:(").skip(1) {
        let own = fields.split(')').next().unwrap().split(',');
        let held = own.filter(|field| field[1..].starts_with(|next: char| next.is_ascii_digit()));
        // `f` is what is allocated ahead, negative at times, printed as 32 bits without sign.
        let held = held.filter(|field| ['r', 't', 'f', 'w'].iter().any(|wanted| field.starts_with(*wanted)));
        bytes += held.map(|field| i64::from(field[1..].parse::<u32>().unwrap().cast_signed())).sum::<i64>();
        count += 1;
    }
    assert!(count >= sockets, "{count} sockets in\n{said}");
    bytes as f64 / MIB
}
