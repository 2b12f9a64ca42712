//! The cases of the Autobahn test suite, each straight to an echo server and through the edge to the same: what passes
//! straight passes through, and looks the same. Where the edge enforces a rule itself it may be stricter: a Close with the
//! code that the suite asks for, where the server might only have dropped the connection.
//!
//! Behind are tungstenite, and `ws` of npm, which also knows compression (groups 12 and 13). The suite itself is for
//! Python 2; where that is to be had, `tests/autobahn/run` runs it.

mod cases;
use std::fmt;
use std::process::Command;
use std::sync::Arc;

use crate::support::SOCKET_HOST as HOST;
use crate::support::edge::{Edge, PATIENCE};
use crate::support::frames::{BINARY, CLOSE, MORE, PING, PONG, TEXT, client_frame, close, take};
use crate::support::node::Interop;
use crate::support::raw::{Raw, upgrade};
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

/// A site with `check_utf8`.
const UTF8: &str = "utf8.recre.store";
/// Cases under way at once.
const TOGETHER: usize = 6;

struct Case {
    number: String,
    send: Vec<Step>,
    expected: Vec<Event>,
    /// What may come instead: NON-STRICT in the suite's report.
    lax: Option<Vec<Event>>,
    end: End,
}

enum Step {
    /// In writes of `chop` bytes; 0 is one.
    Send { bytes: Vec<u8>, chop: usize },
    /// Until so many events have come.
    Await(usize),
}

/// Who ends the connection and how.
#[derive(Clone, Copy)]
enum End {
    /// We close with 1000 when all events have come; the answer is 1000.
    Ours,
    /// The steps have a Close; its answer has one of these codes, or none.
    Sent(&'static [u16]),
    /// The steps have a Close that breaks a rule: one of these codes, none, or no Close.
    Refused(&'static [u16]),
    /// The server: with a Close of one of these codes, or without one.
    Theirs(&'static [u16]),
    /// The server because a text is not UTF-8: 1007. The edge only where the site asks for it.
    TheirsForText,
}

#[derive(Clone, PartialEq, Eq)]
enum Event {
    Message { binary: bool, payload: Vec<u8> },
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

/// What a client sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Observed {
    events: Vec<Event>,
    /// Code of the server's Close, 0 where that had none; `None` where it only dropped the connection.
    close: Option<u16>,
}

/// How far a connection is.
#[derive(Clone, Copy, Default)]
struct Progress {
    events: usize,
    closed: bool,
    ended: bool,
}

impl Step {
    fn send(bytes: Vec<u8>) -> Self {
        Self::Send { bytes, chop: 0 }
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, payload) = match self {
            Self::Message { binary: true, payload } => ("binary", payload),
            Self::Message { binary: false, payload } => ("text", payload),
            Self::Ping(payload) => ("ping", payload),
            Self::Pong(payload) => ("pong", payload),
        };
        write!(f, "{kind} of {}: {}", payload.len(), payload[..payload.len().min(20)].escape_ascii())
    }
}

impl Case {
    /// As the suite judges.
    fn passes(&self, observed: &Observed) -> bool {
        let events = observed.events == self.expected || self.lax.as_ref() == Some(&observed.events);
        events
            && match (self.end, observed.close) {
                (End::Ours, Some(code)) => code == 1000 || code == 0,
                (End::Sent(codes), Some(code)) => codes.contains(&code) || code == 0,
                (End::Ours | End::Sent(_), None) => false,
                (End::Refused(codes) | End::Theirs(codes), Some(code)) => codes.contains(&code) || code == 0,
                (End::TheirsForText, Some(code)) => code == 1007 || code == 0,
                (_, None) => true,
            }
    }

    /// The code that the edge itself answers with, before the server has a say.
    fn enforced(&self, checks_utf8: bool, observed: &Observed) -> bool {
        match self.end {
            End::Theirs(codes) | End::Refused(codes) => {
                observed.close.is_some_and(|code| [1002, 1007].contains(&code) && codes.contains(&code))
            }
            End::TheirsForText => !checks_utf8 || observed.close == Some(1007),
            End::Ours | End::Sent(_) => true,
        }
    }

    /// Not one of the large binary messages.
    fn may_be_text(&self) -> bool {
        !["9.2.", "9.4.", "9.5.", "9.6.", "9.8."].iter().any(|group| self.number.starts_with(group))
    }

    /// Whether the edge lets the server answer, and so what is seen is the server's alone.
    fn is_servers(&self, checks_utf8: bool) -> bool {
        match self.end {
            End::Ours | End::Sent(_) => self.lax.is_none(),
            End::TheirsForText => !checks_utf8,
            End::Theirs(_) | End::Refused(_) => false,
        }
    }
}

/// Runs a case on a stream to an echo server.
async fn run<S: AsyncRead + AsyncWrite + Unpin>(stream: S, host: &str, case: &Case) -> Observed {
    let mut client = Raw::from(stream);
    client.send(upgrade(host, "/", "")).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{}: {head}", case.number);
    let (mut reader, mut writer) = tokio::io::split(client.stream);
    let progress = watch::Sender::new(Progress::default());
    let mut buffer = client.buffer;
    let mut observed = Observed::default();
    let reading = async {
        let mut message = None;
        loop {
            while let Some(frame) = take(&mut buffer) {
                assert!(!frame.masked, "{}: a masked frame", case.number);
                match frame.opcode() {
                    CLOSE => {
                        let code = frame.payload.first_chunk().map_or(0, |code| u16::from_be_bytes(*code));
                        observed.close = Some(code);
                    }
                    PING => observed.events.push(Event::Ping(frame.payload)),
                    PONG => observed.events.push(Event::Pong(frame.payload)),
                    opcode => {
                        assert!([TEXT, BINARY, MORE].contains(&opcode), "{}: {frame:?}", case.number);
                        let (_, payload) = message.get_or_insert_with(|| (opcode == BINARY, Vec::new()));
                        payload.extend(frame.payload);
                        if frame.first & 0x80 != 0 {
                            let (binary, payload) = message.take().unwrap();
                            observed.events.push(Event::Message { binary, payload });
                        }
                    }
                }
            }
            let (events, closed) = (observed.events.len(), observed.close.is_some());
            progress.send_replace(Progress { events, closed, ended: false });
            if matches!(reader.read_buf(&mut buffer).await, Ok(0) | Err(_)) {
                progress.send_replace(Progress { events, closed, ended: true });
                return;
            }
        }
    };
    let writing = async {
        let mut news = progress.subscribe();
        for step in &case.send {
            match step {
                Step::Send { bytes, chop } => {
                    let chop = if *chop == 0 { bytes.len().max(1) } else { *chop };
                    for piece in bytes.chunks(chop) {
                        if writer.write_all(piece).await.is_err() || writer.flush().await.is_err() {
                            return;
                        }
                    }
                }
                Step::Await(events) => {
                    let _ = news.wait_for(|now| now.events >= *events || now.closed || now.ended).await;
                }
            }
        }
        let wanted = if matches!(case.end, End::Ours) { case.expected.len() } else { usize::MAX };
        let now = news
            .wait_for(|now| now.events >= wanted || now.closed || now.ended)
            .await
            .map(|now| *now)
            .unwrap();
        if !now.ended && !matches!(case.end, End::Sent(_) | End::Refused(_)) {
            let _ = writer.write_all(&client_frame(CLOSE, true, &close(1000, ""))).await;
            let _ = writer.flush().await;
        }
    };
    let both = timeout(PATIENCE, async { tokio::join!(reading, writing) }).await;
    assert!(both.is_ok(), "{}: no end in time: {observed:?}", case.number);
    observed
}

/// Runs the cases straight to the echo server on `port` and through the edge, on both sites; how many passed.
async fn compare(port: u16, cases: Vec<Case>) -> usize {
    let upstream = format!("127.0.0.1:{port}");
    let edge = Edge::certified_for(&[HOST, UTF8])
        .site_with(&[HOST], &upstream, "message_bytes_max = \"16MiB\"")
        .site_with(&[UTF8], &upstream, "message_bytes_max = \"16MiB\"\ncheck_utf8 = true")
        .start();
    let edge = Arc::new(edge);
    let room = Arc::new(Semaphore::new(TOGETHER));
    let mut running = tokio::task::JoinSet::new();
    let count = cases.len();
    for case in cases {
        let (edge, room) = (Arc::clone(&edge), Arc::clone(&room));
        running.spawn(async move {
            let _place = room.acquire().await.unwrap();
            let direct = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            direct.set_nodelay(true).unwrap();
            let direct = run(direct, HOST, &case).await;
            let mut failed = Vec::new();
            // Megabytes that are no text look the same on both.
            let hosts = [HOST, UTF8].into_iter().filter(|host| *host == HOST || case.may_be_text());
            for host in hosts {
                let through = run(edge.tls(host).await, host, &case).await;
                let checks = host == UTF8;
                let same = !case.is_servers(checks) || through == direct;
                let passes = !case.passes(&direct) || case.passes(&through);
                if !(same && passes && case.enforced(checks, &through)) {
                    failed.push(format!("{} on {host}: {through:?}\n  straight: {direct:?}", case.number));
                }
            }
            (case.passes(&direct), failed)
        });
    }
    let (mut passed, mut failed) = (0, Vec::new());
    for (passes, differences) in running.join_all().await {
        passed += usize::from(passes);
        failed.extend(differences);
    }
    assert!(failed.is_empty(), "{} of {count} cases:\n{}", failed.len(), failed.join("\n"));
    let log = Arc::into_inner(edge).unwrap().stop();
    assert!(!log.contains("drain_timeout reached"), "sessions are left over: {log}");
    passed
}

/// An echo that keeps RFC 6455.
async fn tungstenite() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            tokio::spawn(async move {
                let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
                while let Some(Ok(message)) = socket.next().await {
                    if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_straight_to_tungstenite_passes_through() {
    let cases = cases::all();
    assert_eq!(cases.len(), 301, "as many as the suite has in these groups");
    let passed = compare(tungstenite().await, cases).await;
    println!("{passed} of 301 cases pass straight, and all of those through the edge");
    assert!(passed > 295, "the echo itself fails too much: {passed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_straight_to_ws_passes_through() {
    let Some(interop) = Interop::ready("what_passes_straight_to_ws_passes_through") else { return };
    let server = interop.start(Command::new("node").args(["autobahn.mjs", "echo"]));
    let port = server.wait("listening")["port"].as_u64().unwrap().try_into().unwrap();
    // Of the large ones it refuses some; and that megabytes pass has been seen with the other.
    let cases = cases::all().into_iter().filter(|case| !case.number.starts_with("9."));
    let passed = compare(port, cases.collect()).await;
    assert!(passed > 245, "the echo itself fails too much: {passed}");
}

/// Groups 12 and 13: compressed messages of all sizes and kinds, whole and in fragments, under every set of parameters.
#[tokio::test(flavor = "multi_thread")]
async fn compressed_messages_pass_under_all_parameters() {
    let Some(interop) = Interop::ready("compressed_messages_pass_under_all_parameters") else { return };
    let server = interop.start(Command::new("node").args(["autobahn.mjs", "echo"]));
    let port = server.wait("listening")["port"].as_u64().unwrap();
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], format!("127.0.0.1:{port}")).start();
    let urls = json!([format!("ws://127.0.0.1:{port}"), edge.url(HOST).replace("https", "wss")]);
    let client = interop.start(
        Command::new("node")
            .args(["--require", "./resolve.cjs", "autobahn.mjs", "compressed", &urls.to_string()])
            .env("NODE_EXTRA_CA_CERTS", edge.desk().ca_file()),
    );
    let said = client.finish();
    let done = said.last().unwrap();
    assert_eq!(done["event"], "done", "{said:?}");
    assert_eq!(done["cases"], 18 * (5 + 7), "{done}");
    assert!(done["compressed"].as_u64().unwrap() > 0);
    edge.stop();
}
