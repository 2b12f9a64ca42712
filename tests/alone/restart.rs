//! A restart under socket units: the sockets outlive the process, connections queue and none is refused.
//!
//! The test is the service manager. `tests/restart/run` runs the second one with 1,000 clients and prints its figures.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::SOCKET_HOST as HOST;
use crate::support::activation::Sockets;
use crate::support::edge::{Edge, PATIENCE, client_config};
use crate::support::engineio::{Socket, serve_default};
use crate::support::node::Interop;
use crate::support::raw::Raw;
use crate::support::upstream::{OK, Upstream};
use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};
use rustls_pki_types::ServerName;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

const SLOW: &str = "slow.recre.store";
const WITNESSES: usize = 50;
/// What a restart is meant to keep to, with 1,000 clients on a machine with nothing else to do.
const LONGEST_GAP: Duration = Duration::from_secs(3);
const CLOSES_WITHIN: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn connections_queue_and_none_is_refused() {
    let _turn = crate::turn();
    const WEBSOCKETS: usize = 30;
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let slow = Upstream::scripted(move |mut connection| {
        let opened = Arc::clone(&opened);
        async move {
            while connection.request().await.is_some() {
                opened.acquire().await.unwrap().forget();
                connection.send(OK).await;
            }
        }
    })
    .await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let sockets = Sockets::new().with("https", listener.try_clone().unwrap());
    // Neither time counts for a restart.
    let drain = "drain_timeout = \"10m\"\ndrain_spread = \"1h\"";
    let edge = Edge::certified_for(&[HOST, SLOW]).top(drain).site(&[HOST], serve_default().await);
    let edge = edge.site(&[SLOW], &slow).write().serve_on(&sockets);
    let newcomers = Newcomers::start(&edge);

    let mut websockets = JoinSet::new();
    for _ in 0..WEBSOCKETS {
        let mut socket = Socket::open(&edge, HOST, "").await;
        socket.join("/").await;
        websockets.spawn(async move { socket.closed().await });
    }
    let mut waiting = Raw::open(&edge, SLOW).await;
    waiting.send(format!("GET / HTTP/1.1\r\nHost: {SLOW}\r\n\r\n")).await;
    slow.wait("the request", |records| !records.is_empty() && !records[0].received.is_empty()).await;

    edge.signal(Signal::USR1);
    edge.wait_for_log("msg=draining", PATIENCE);
    // An exchange in flight ends well, if it does within 2 s.
    gate.add_permits(1);
    let response = waiting.response().await;
    assert_eq!((response.status, response.field("connection")), (200, Some("close")));
    assert_eq!(websockets.join_all().await, [Some(1012); WEBSOCKETS]);

    // Between the two processes: nobody accepts, nobody is refused.
    let mut edge = edge;
    edge.wait_until_ended();
    let mut queued = JoinSet::new();
    for _ in 0..WEBSOCKETS {
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.expect("queues");
        let connector = connector(&edge);
        queued.spawn(
            async move { connector.connect(ServerName::try_from(HOST).unwrap(), stream).await.is_ok() },
        );
    }
    let edge = edge.succeeded_on(&sockets);
    assert_eq!(queued.join_all().await, [true; WEBSOCKETS]);
    let mut socket = Socket::open(&edge, HOST, "").await;
    socket.join("/").await;
    let seen = newcomers.stop().await;
    assert!(seen.refused.is_empty() && seen.completed.len() > 2, "{seen:?}");
    drop(socket);
    edge.stop();
}

/// A connection that was taken just before: its first request is not lost.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_just_come_may_still_ask() {
    let _turn = crate::turn();
    const NEWCOMER: Duration = Duration::from_secs(1);
    let upstream = Upstream::answering(OK).await;
    let sockets = Sockets::new().with("https", TcpListener::bind("127.0.0.1:0").unwrap());
    let mut edge = Edge::certified_for(&[HOST]).site(&[HOST], &upstream).write().serve_on(&sockets);
    let ask = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    for _ in 0..20 {
        let mut idle = Raw::open(&edge, HOST).await;
        idle.send(&ask).await;
        assert_eq!(idle.response().await.field("connection"), None);
        let from = Instant::now();
        let mut newcomer = Raw::open(&edge, HOST).await;
        edge.signal(Signal::USR1);
        edge.wait_for_log("msg=draining", PATIENCE);
        idle.closed().await;
        newcomer.send(&ask).await;
        if from.elapsed() < NEWCOMER {
            let response = newcomer.response().await;
            assert_eq!((response.status, response.field("connection")), (200, Some("close")));
            edge.wait_until_ended();
            return;
        }
        edge = edge.succeeded_on(&sockets); // on a machine as busy as this one: once more
    }
    panic!("a handshake and a signal never took less than {NEWCOMER:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_clients_are_back_by_themselves() {
    let _turn = crate::turn();
    let asked = std::env::var("SANEDGE_RESTART_CLIENTS").ok();
    let clients: usize = asked.as_ref().map_or(40, |count| count.parse().unwrap());
    let Some(interop) = Interop::ready("real_clients_are_back_by_themselves") else { return };
    let (_server, port) = interop.server(&json!({}));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let sockets = Sockets::new().with("https", listener);
    let edge =
        Edge::certified_for(&[HOST]).site(&[HOST], format!("127.0.0.1:{port}")).write().serve_on(&sockets);
    let program = interop.start(
        Command::new("node")
            .args(["--require", "./resolve.cjs", "restart.mjs", &edge.url(HOST), &clients.to_string()])
            .env("NODE_EXTRA_CA_CERTS", edge.desk().ca_file()),
    );
    assert_eq!(program.wait("connected")["clients"], clients);
    let newcomers = Newcomers::start(&edge);
    newcomers.wait_for(5).await;

    // When the Close comes is asked of clients that have nothing else to do: a thousand real ones share one thread.
    let mut witnesses = JoinSet::new();
    for _ in 0..WITNESSES {
        let mut socket = Socket::open(&edge, HOST, "").await;
        socket.join_only("/").await;
        witnesses.spawn(async move { (socket.closed().await, monotonic()) });
    }

    let from = monotonic();
    edge.signal(Signal::USR1);
    let edge = edge.succeeded_on(&sockets);
    let served_again = monotonic() - from;
    let closed = witnesses.join_all().await;
    assert!(closed.iter().all(|(code, _)| *code == Some(1012)), "{closed:?}");
    let closed = closed.iter().map(|(_, when)| *when - from).max().unwrap();
    let said = program.wait("back");
    newcomers.wait_for(5).await;
    let seen = newcomers.stop().await;

    assert_eq!(said["codes"], json!({ "1012": clients }), "every WebSocket is told that it is a restart");
    assert!(seen.refused.is_empty() && !seen.completed.is_empty(), "{seen:?}");
    let since = |key: &str| Duration::from_nanos(said[key].as_u64().unwrap()).saturating_sub(from);
    let gap = seen.longest_gap();
    println!(
        "{clients} clients: Close 1012 within {closed:.2?}; the next process served after {served_again:.2?}; \
         longest time without a completed new handshake {gap:.2?} ({} completed, none refused); back by themselves: the \
         first after {:.2?}, half after {:.2?}, all after {:.2?}",
        seen.completed.len(),
        since("first_back_ns"),
        since("median_back_ns"),
        since("last_back_ns"),
    );
    if asked.is_some() {
        assert!(
            gap <= LONGEST_GAP,
            "{gap:?} without a completed handshake, at most {LONGEST_GAP:?} are meant"
        );
        assert!(closed <= CLOSES_WITHIN, "the last Close came after {closed:?}, {CLOSES_WITHIN:?} are meant");
    }
    edge.stop();
}

fn monotonic() -> Duration {
    clock_gettime(ClockId::Monotonic).try_into().unwrap()
}

fn connector(edge: &Edge) -> TlsConnector {
    TlsConnector::from(Arc::new(client_config(&edge.desk().ca.pem)))
}

/// Somebody new every 20 ms.
struct Newcomers {
    enough: Arc<AtomicBool>,
    completed: Arc<std::sync::Mutex<Vec<Instant>>>,
    coming: tokio::task::JoinHandle<Vec<String>>,
}

#[derive(Debug)]
struct Seen {
    completed: Vec<Instant>,
    refused: Vec<String>,
}

impl Newcomers {
    fn start(edge: &Edge) -> Self {
        let (enough, completed) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let coming = come(edge.https, connector(edge), Arc::clone(&enough), Arc::clone(&completed));
        Self { enough, completed, coming: tokio::spawn(coming) }
    }

    /// Waits until so many more have completed their handshake.
    async fn wait_for(&self, more: usize) {
        let count = || self.completed.lock().unwrap().len();
        let (wanted, end) = (count() + more, Instant::now() + PATIENCE);
        while count() < wanted {
            assert!(Instant::now() < end, "{} of {wanted} handshakes within {PATIENCE:?}", count());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn stop(self) -> Seen {
        self.enough.store(true, Ordering::Relaxed);
        let refused = self.coming.await.unwrap();
        Seen { completed: std::mem::take(&mut *self.completed.lock().unwrap()), refused }
    }
}

impl Seen {
    fn longest_gap(&self) -> Duration {
        let mut moments = self.completed.clone();
        moments.sort();
        moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap()
    }
}

/// What went wrong, once enough have come.
async fn come(
    address: SocketAddr,
    connector: TlsConnector,
    enough: Arc<AtomicBool>,
    completed: Arc<std::sync::Mutex<Vec<Instant>>>,
) -> Vec<String> {
    let mut attempts = JoinSet::new();
    while !enough.load(Ordering::Relaxed) {
        let (connector, completed) = (connector.clone(), Arc::clone(&completed));
        attempts.spawn(async move {
            let stream = TcpStream::connect(address).await?;
            connector.connect(ServerName::try_from(HOST).unwrap(), stream).await?;
            completed.lock().unwrap().push(Instant::now());
            Ok::<_, std::io::Error>(())
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    attempts.join_all().await.into_iter().filter_map(|attempt| attempt.err().map(|e| e.to_string())).collect()
}
