//! The load generator, in a process of its own. It is told one command a line: it prepares, says `ready`, waits for
//! `go`, works for the time it was given, and says what it did.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustls::client::Resumption;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::HOST;
use crate::support::edge::client_config_with;
use crate::support::raw::upgrade;
use crate::upstream::BODY;

/// Messages in flight, GETs in flight.
const ACTIVE: usize = 50;
/// Handshakes in flight.
const OPENING: usize = 8;
/// Sessions that relay large frames.
const BULK: usize = 4;
const BULK_BYTES: usize = 1 << 20;
/// A proxy that is silent for so long is broken: the measurement ends.
const PATIENCE: Duration = Duration::from_secs(60);

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}
type Session = Box<dyn Stream>;

/// Where to, and with whose CA: without one, without TLS.
pub async fn run(address: SocketAddr, ca: Option<String>) {
    let target = Arc::new(Target { address, tls: ca.map(|ca| connector(&ca)) });
    let mut sessions = Vec::new();
    while let Some(line) = line() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let work = work(&target, &mut sessions, &words);
        println!("{}", timeout(PATIENCE, work).await.expect("the proxy answers"));
    }
}

async fn work(target: &Arc<Target>, sessions: &mut Vec<Session>, words: &[&str]) -> String {
    let number = |at: usize| words[at].parse::<f64>().unwrap();
    let time = || Duration::from_secs_f64(number(1));
    match words[0] {
        "open" => target.open_to(sessions, number(1) as usize).await,
        "echo" => echo(sessions, time(), number(2) as usize).await,
        "bulk" => bulk(target, time()).await,
        "connect" => connect(target, time()).await,
        "get" => get(target, time()).await,
        "close" => {
            sessions.clear();
            "closed".to_owned()
        }
        other => panic!("{other}?"),
    }
}

fn line() -> Option<String> {
    std::io::stdin().lines().next().map(Result::unwrap)
}

fn go() -> Instant {
    println!("ready");
    assert_eq!(line().as_deref(), Some("go"));
    Instant::now()
}

/// One suite, one group, no resumption: every peer does the same cryptography.
fn connector(ca: &str) -> TlsConnector {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites = vec![rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256];
    provider.kx_groups = vec![rustls::crypto::ring::kx_group::X25519];
    let mut config = client_config_with(provider, &std::fs::read_to_string(ca).unwrap());
    config.resumption = Resumption::disabled();
    TlsConnector::from(Arc::new(config))
}

struct Target {
    address: SocketAddr,
    tls: Option<TlsConnector>,
}

impl Target {
    async fn stream(&self) -> Session {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        match &self.tls {
            None => Box::new(stream),
            Some(tls) => Box::new(tls.connect(ServerName::try_from(HOST).unwrap(), stream).await.unwrap()),
        }
    }

    async fn session(&self) -> Session {
        let mut session = self.stream().await;
        send(&mut session, upgrade(HOST, "/", "").as_bytes()).await;
        let head = head(&mut session).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        session
    }

    /// Opens up to `wanted`; each echoes one message.
    async fn open_to(&self, sessions: &mut Vec<Session>, wanted: usize) -> String {
        while sessions.len() < wanted {
            let count = (wanted - sessions.len()).min(2 * OPENING);
            let opened = join_all((0..count).map(|_| async {
                let mut session = self.session().await;
                let mut answer = answer_buffer(64);
                exchange(&mut session, &frame(64), &mut answer).await;
                session
            }));
            sessions.extend(opened.await);
        }
        sessions.len().to_string()
    }
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
}

/// Reads up to the empty line, and nothing behind it.
async fn head(session: &mut Session) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(session.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// A client's binary frame.
fn frame(payload_bytes: usize) -> Vec<u8> {
    let mut frame = vec![0x82];
    match payload_bytes {
        0..126 => frame.push(0x80 | u8::try_from(payload_bytes).unwrap()),
        _ => {
            frame.push(0x80 | 127);
            frame.extend((payload_bytes as u64).to_be_bytes());
        }
    }
    frame.extend([0x37, 0xfa, 0x21, 0x3d]);
    frame.resize(frame.len() + payload_bytes, 7);
    frame
}

/// Room for the server's frame that answers: the same without key.
fn answer_buffer(payload_bytes: usize) -> Vec<u8> {
    vec![0; frame(payload_bytes).len() - 4]
}

async fn exchange(session: &mut Session, frame: &[u8], answer: &mut [u8]) {
    send(session, frame).await;
    session.read_exact(answer).await.unwrap();
    assert_eq!(answer.first(), Some(&0x82));
    assert_eq!(answer.last(), Some(&(frame[frame.len() - 1] ^ 0x3d)), "unmasked with the last of the key");
}

/// `speaking` of the sessions, spread over all, echo in turn: never more than [`ACTIVE`] at once. Says the number of
/// messages, and the median and 99th percentile of their round trips in ns.
async fn echo(sessions: &mut Vec<Session>, time: Duration, speaking: usize) -> String {
    let step = sessions.len() / speaking;
    let (mut hands, mut quiet): (Vec<Vec<Session>>, Vec<Session>) = Default::default();
    hands.resize_with(ACTIVE, Vec::new);
    for (at, session) in sessions.drain(..).enumerate() {
        match at % step {
            0 => hands[at / step % ACTIVE].push(session),
            _ => quiet.push(session),
        }
    }
    let until = go() + time;
    let hands = hands.into_iter().map(|hand| tokio::spawn(echo_in_turn(hand, until)));
    let mut trips = Vec::new();
    for hand in join_all(hands).await {
        let (hand, its_trips) = hand.unwrap();
        sessions.extend(hand);
        trips.extend(its_trips);
    }
    sessions.extend(quiet);
    trips.sort_unstable();
    let at = |share: f64| trips[((trips.len() - 1) as f64 * share) as usize];
    format!("{} {} {}", trips.len(), at(0.5), at(0.99))
}

async fn echo_in_turn(mut hand: Vec<Session>, until: Instant) -> (Vec<Session>, Vec<u64>) {
    let (frame, mut answer, mut trips) = (frame(64), answer_buffer(64), Vec::new());
    let mut at = 0;
    while !hand.is_empty() && Instant::now() < until {
        let begun = Instant::now();
        exchange(&mut hand[at], &frame, &mut answer).await;
        trips.push(u64::try_from(begun.elapsed().as_nanos()).unwrap());
        at = (at + 1) % hand.len();
    }
    (hand, trips)
}

/// 1 MiB frames on a few sessions. Says the bytes, both ways together.
async fn bulk(target: &Target, time: Duration) -> String {
    let sessions = join_all((0..BULK).map(|_| target.session())).await;
    let until = go() + time;
    let tasks = sessions.into_iter().map(|session| {
        tokio::spawn(async move {
            let (frame, mut answer) = (frame(BULK_BYTES), answer_buffer(BULK_BYTES));
            let (mut read, mut write) = tokio::io::split(session);
            let mut bytes = 0;
            while Instant::now() < until {
                let (_, answered) = tokio::join!(send(&mut write, &frame), read.read_exact(&mut answer));
                bytes += frame.len() + answered.unwrap();
                assert_eq!(answer.last(), Some(&(7 ^ 0x3d)));
            }
            bytes
        })
    });
    let bytes: usize = join_all(tasks).await.into_iter().map(Result::unwrap).sum();
    bytes.to_string()
}

/// New sessions, one after the other on each of a few hands, ended as a browser ends them. Says how many.
async fn connect(target: &Arc<Target>, time: Duration) -> String {
    let until = go() + time;
    let tasks = (0..OPENING).map(|_| {
        let target = Arc::clone(target);
        tokio::spawn(async move {
            let mut count = 0;
            while Instant::now() < until {
                let _ = target.session().await.shutdown().await;
                count += 1;
            }
            count
        })
    });
    join_all(tasks).await.into_iter().map(Result::unwrap).sum::<usize>().to_string()
}

/// GETs on kept connections. Says how many.
async fn get(target: &Target, time: Duration) -> String {
    let mut connections = Vec::new();
    while connections.len() < ACTIVE {
        connections.extend(join_all((0..10).map(|_| target.stream())).await);
    }
    let until = go() + time;
    let tasks = connections.into_iter().map(|mut connection| {
        tokio::spawn(async move {
            let (mut count, mut answer) = (0, vec![0; 4096]);
            let path = "/socket.io/?EIO=4&transport=polling&t=P8xQ2aZ&sid=Zb0c1pVZ0kJQm3bGAAAC";
            let request = format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nAccept: */*\r\n\r\n");
            while Instant::now() < until {
                send(&mut connection, request.as_bytes()).await;
                let mut have = 0;
                while !answer[..have].ends_with(&BODY) {
                    let read = connection.read(&mut answer[have..]).await.unwrap();
                    assert!(read > 0, "ended after {}", String::from_utf8_lossy(&answer[..have]));
                    have += read;
                }
                assert!(answer.starts_with(b"HTTP/1.1 200"));
                count += 1;
            }
            count
        })
    });
    join_all(tasks).await.into_iter().map(Result::unwrap).sum::<usize>().to_string()
}
