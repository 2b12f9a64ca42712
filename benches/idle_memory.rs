//! What an idle WSS session costs the edge: `cargo bench --bench idle_memory`.
//!
//! One worker, a plain WebSocket echo behind and clients in front, each in a process of its own. Every client echoes one
//! message and then rests. Printed is the slope of the edge's PSS (`/proc/<pid>/smaps_rollup`) between few and many
//! sessions, so that what the process costs anyway does not count. Ends with 1 above the bound.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use rustls_pki_types::ServerName;
use support::again::{Helper, alone};
use support::edge::{Edge, client_config};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

const HOST: &str = "socket.recre.store";
const FEW: u64 = 200;
const MANY: u64 = 2_000;
/// The promise, in KiB of PSS per session.
const SESSION_KIB_MAX: f64 = 12.0;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["upstream"] => alone(upstream()),
        ["clients", address, ca] => alone(clients(address.parse().unwrap(), ca.to_owned())),
        // `cargo test --benches` passes nothing of cargo bench's: then there is nothing to measure.
        _ if arguments.iter().any(|argument| argument == "--bench") => return measure(),
        _ => println!("cargo bench --bench idle_memory"),
    }
    ExitCode::SUCCESS
}

fn measure() -> ExitCode {
    let mut upstream = Helper::start(&["upstream"]);
    let edge = Edge::certified_for(&[HOST])
        .site(&[HOST], upstream.line())
        .limits("workers = 1\nsessions_max = 2100")
        .start();
    let ca = edge.desk().ca_file().display().to_string();
    let mut clients = Helper::start(&["clients", &edge.https.to_string(), &ca]);
    let mut pss_kib_with = |sessions: u64| {
        clients.tell(sessions);
        assert_eq!(clients.line(), sessions.to_string());
        edge.memory_kib("Pss")
    };
    let (few, many) = (pss_kib_with(FEW), pss_kib_with(MANY));
    let each = (many as f64 - few as f64) / (MANY - FEW) as f64;
    println!("PSS with {FEW} idle WSS sessions {few} KiB, with {MANY} {many} KiB: {each:.2} KiB each");
    drop(clients);
    edge.stop();
    if each <= SESSION_KIB_MAX {
        return ExitCode::SUCCESS;
    }
    println!("more than the promised {SESSION_KIB_MAX} KiB");
    ExitCode::FAILURE
}

/// Buffers small enough for thousands in one process.
fn small() -> Option<WebSocketConfig> {
    Some(WebSocketConfig::default().read_buffer_size(1024).write_buffer_size(0))
}

/// A WebSocket echo without TLS; says its address, and ends with its stdin.
async fn upstream() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    std::thread::spawn(|| {
        std::io::stdin().lines().for_each(drop);
        std::process::exit(0);
    });
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut socket = tokio_tungstenite::accept_async_with_config(stream, small()).await.unwrap();
            while let Some(Ok(message)) = socket.next().await {
                if message.is_binary() && socket.send(message).await.is_err() {
                    break;
                }
            }
        });
    }
}

/// Opens sessions up to each number that comes on stdin, and says it when they all rest.
async fn clients(address: SocketAddr, ca: String) {
    let connector = TlsConnector::from(Arc::new(client_config(&std::fs::read_to_string(ca).unwrap())));
    let mut open = Vec::new();
    for wanted in std::io::stdin().lines() {
        let wanted: usize = wanted.unwrap().parse().unwrap();
        while open.len() < wanted {
            let stream = TcpStream::connect(address).await.unwrap();
            let tls = connector.connect(ServerName::try_from(HOST).unwrap(), stream).await.unwrap();
            let url = format!("wss://{HOST}:{}/", address.port());
            let (mut socket, _) =
                tokio_tungstenite::client_async_with_config(url, tls, small()).await.unwrap();
            socket.send(Message::binary(vec![7; 64])).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap().into_data().len(), 64);
            open.push(socket);
        }
        println!("{wanted}");
    }
}
