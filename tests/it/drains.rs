//! The edge ends, and every WebSocket hears of it between two frames: 1001 over a while on SIGTERM, 1012 at once on
//! SIGUSR1.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::SOCKET_HOST as HOST;
use crate::support::edge::{Edge, PATIENCE};
use crate::support::engineio::{Socket, serve_default};
use crate::support::frames::{
    BINARY, CLOSE, TEXT, client_frame, close, closes_late, echo, frame, frames, received, server_frame,
};
use crate::support::raw::{Raw, upgrade};
use crate::support::upstream::{Connection, Upstream};
use rustix::process::Signal;
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;

fn edge(upstream: &Upstream, drain: &str) -> Edge {
    Edge::certified_for(&[HOST]).top(drain).site(&[HOST], upstream).start()
}

async fn open(edge: &Edge) -> Raw {
    let mut client = Raw::open(edge, HOST).await;
    client.send(upgrade(HOST, "/", "")).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    client
}

/// An upstream that echoes, and answers a Close and closes, as RFC 6455 §7.1.1 asks of a server.
async fn echo_until_close(mut connection: Connection) {
    while let Some(frame) = received(&mut connection).await {
        connection.send(server_frame(frame.opcode(), true, &frame.payload)).await;
        if frame.opcode() == CLOSE {
            break;
        }
    }
}

/// Waits for the Close and answers it, as RFC 6455 §5.5.1 asks; its code and when it came.
async fn answer_close(client: &mut Raw) -> (u16, Instant) {
    let last = frame(client).await;
    let came = Instant::now();
    let (code, reason) = last.close();
    let said = if code == 1012 { "restarting" } else { "shutting down" };
    assert!(!last.masked && reason.contains(said), "{last:?}");
    client.send(client_frame(CLOSE, true, &last.payload)).await;
    client.closed().await;
    (code, came)
}

fn drain(edge: &Edge, signal: Signal) -> Instant {
    edge.signal(signal);
    edge.wait_for_log("msg=draining", PATIENCE);
    Instant::now()
}

/// The drain came to its end by itself.
#[track_caller]
fn assert_drained(log: &str) {
    assert!(log.contains("drained") && !log.contains("drain_timeout reached"), "{log}");
}

/// The upstream got `before`, and then a masked Close 1001 and nothing else.
#[track_caller]
fn assert_upstream_told(upstream: &Upstream, index: usize, before: &[u8]) {
    let got = upstream.behind_the_head(index);
    assert!(got.starts_with(before), "what the client sent arrives whole");
    let rest = frames(&got[before.len()..]);
    assert!(rest.len() == 1 && rest[0].masked, "{rest:?}");
    assert_eq!(rest[0].close().0, 1001);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_tells_every_websocket_spread_over_drain_spread() {
    const SOCKETS: usize = 200;
    let upstream = Upstream::switching(echo_until_close).await;
    let edge = edge(&upstream, "drain_timeout = \"30s\"\ndrain_spread = \"1s\"");
    let word = client_frame(TEXT, true, b"hello");
    let mut sockets = tokio::task::JoinSet::new();
    for _ in 0..SOCKETS {
        let mut client = open(&edge).await;
        client.send(&word).await;
        assert_eq!(frame(&mut client).await.payload, b"hello");
        sockets.spawn(async move { answer_close(&mut client).await });
    }
    let begun = drain(&edge, Signal::TERM);
    let told = sockets.join_all().await;
    let log = edge.ended();
    assert_drained(&log);
    assert!(log.contains("sessions=200 idle=0 exchanges=0 websockets=200 others=0 cut=0"), "{log}");
    assert!(begun.elapsed() < Duration::from_secs(15), "long before drain_timeout: {:?}", begun.elapsed());
    assert!(told.len() == SOCKETS && told.iter().all(|(code, _)| *code == 1001), "{told:?}");
    let first = told.iter().map(|(_, came)| *came).min().unwrap();
    let last = told.iter().map(|(_, came)| *came).max().unwrap();
    assert!(last - first > Duration::from_millis(400), "all at once: within {:?}", last - first);
    for index in 0..SOCKETS {
        assert_upstream_told(&upstream, index, &word);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_spread_leaves_half_of_drain_timeout_for_answers() {
    let upstream = Upstream::switching(echo_until_close).await;
    let edge = edge(&upstream, "drain_timeout = \"4s\"\ndrain_spread = \"1h\"");
    let mut sockets = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let mut client = open(&edge).await;
        sockets.spawn(async move { answer_close(&mut client).await.0 });
    }
    drain(&edge, Signal::TERM);
    assert_eq!(sockets.join_all().await, [1001; 20]);
    assert_drained(&edge.ended());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_tells_everybody_within_a_second() {
    // Real ends: what they make of the edge's Close is theirs.
    let edge = Edge::certified_for(&[HOST])
        .top("drain_timeout = \"10m\"\ndrain_spread = \"1h\"")
        .site(&[HOST], serve_default().await)
        .start();
    let mut sockets = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let mut socket = Socket::open(&edge, HOST, "").await;
        socket.join("/").await;
        sockets.spawn(async move {
            let code = socket.closed().await;
            (code, Instant::now(), socket.closed().await)
        });
    }
    let begun = drain(&edge, Signal::USR1);
    for (code, came, end) in sockets.join_all().await {
        assert_eq!((code, end), (Some(1012), None));
        assert!(came - begun < Duration::from_secs(2), "0.8 s are asked for, it took {:?}", came - begun);
    }
    assert_drained(&edge.ended());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_says_that_it_is_one() {
    let upstream = Upstream::switching(echo_until_close).await;
    let edge = edge(&upstream, "drain_timeout = \"30s\"");
    let mut client = open(&edge).await;
    drain(&edge, Signal::USR1);
    assert_eq!(answer_close(&mut client).await.0, 1012); // which looks at the reason as well
    drop(client);
    assert_drained(&edge.ended());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_frame_arrives_whole_before_the_close() {
    const BYTES: usize = 24 << 20; // more than the kernel holds on the way
    let upstream = Upstream::switching(async |mut connection| {
        connection.send(server_frame(BINARY, true, &vec![7; BYTES])).await;
        echo_until_close(connection).await;
    })
    .await;
    let edge = edge(&upstream, "drain_timeout = \"30s\"\ndrain_spread = \"0s\"");
    let mut client = open(&edge).await;
    assert_eq!(client.exactly(10).await[..2], [0x80 | BINARY, 127]);
    assert!(client.exactly(BYTES / 8).await.iter().all(|byte| *byte == 7));
    drain(&edge, Signal::TERM);
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(100)).await; // a slow reader
        let told = upstream.behind_the_head(0);
        assert!(told.is_empty(), "the upstream might not end its frame if it heard of it now: {told:x?}");
        assert!(client.exactly(BYTES / 16).await.iter().all(|byte| *byte == 7));
    }
    assert!(client.exactly(BYTES - BYTES / 8 - 4 * (BYTES / 16)).await.iter().all(|byte| *byte == 7));
    assert_eq!(answer_close(&mut client).await.0, 1001);
    drop(client);
    assert_drained(&edge.ended());
    assert_upstream_told(&upstream, 0, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_end_the_frame_that_it_is_sending() {
    let upstream = Upstream::switching(async |mut connection| connection.until_closed().await).await;
    let edge = edge(&upstream, "drain_timeout = \"30s\"\ndrain_spread = \"0s\"");
    let mut client = open(&edge).await;
    let word = client_frame(BINARY, true, &[1; 3000]);
    client.send(&word[..1000]).await;
    upstream.wait("the frame's beginning", |records| records[0].received.ends_with(&word[..1000])).await;
    drain(&edge, Signal::TERM);
    assert_eq!(frame(&mut client).await.close().0, 1001);
    assert!(upstream.behind_the_head(0) == word[..1000], "nothing within a frame");
    client.send(&word[1000..]).await;
    client.send(client_frame(TEXT, true, b"one more")).await;
    client.closed().await;
    client.stream.shutdown().await.unwrap();
    assert_drained(&edge.ended());
    assert_upstream_told(&upstream, 0, &word);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_end_is_cut_at_drain_timeout() {
    let sent = server_frame(BINARY, true, &[1; 3000]);
    let (half, never) = (sent[..1000].to_vec(), Arc::new(Semaphore::new(0)));
    let upstream = Upstream::switching(move |mut connection: Connection| {
        let (half, never) = (half.clone(), Arc::clone(&never));
        async move {
            if connection.index == 0 {
                connection.send(half).await;
                let _end = never.acquire().await;
            }
            echo(connection).await; // an answer to the Close, and no end
        }
    })
    .await;
    let edge = edge(&upstream, "drain_timeout = \"2s\"\ndrain_spread = \"0s\"");
    let mut halfway = open(&edge).await;
    assert_eq!(halfway.exactly(1000).await, sent[..1000]);
    let mut silent = open(&edge).await;
    let begun = drain(&edge, Signal::TERM);
    assert_eq!(frame(&mut silent).await.close().0, 1001);
    let log = edge.ended(); // with 0 all the same
    assert!(begun.elapsed() > Duration::from_millis(1500), "{:?}", begun.elapsed());
    assert!(log.contains("drain_timeout reached") && log.contains("drained"), "{log}");
    assert!(log.contains("websockets=0 others=0 cut=2"), "{log}");
    assert!(halfway.until_ended().await.is_empty(), "no Close within a frame");
    assert!(silent.until_ended().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_a_close_unanswered_does_not_hold_the_drain_up() {
    let bye = server_frame(CLOSE, true, &close(3000, "bye"));
    let sent = bye.clone();
    let upstream = Upstream::switching(move |mut connection: Connection| {
        let sent = sent.clone();
        async move {
            connection.send(sent).await;
            connection.until_closed().await;
        }
    })
    .await;
    let edge = edge(&upstream, "drain_timeout = \"10m\"\ndrain_spread = \"0s\"");
    let mut client = open(&edge).await;
    assert_eq!(client.exactly(bye.len()).await, bye);
    drain(&edge, Signal::TERM);
    client.closed().await;
    assert_drained(&edge.ended());
    assert_upstream_told(&upstream, 0, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_closed_already_hears_nothing_more() {
    let (upstream, go) = closes_late().await;
    let edge = edge(&upstream, "drain_timeout = \"30s\"\ndrain_spread = \"0s\"");
    let mut client = open(&edge).await;
    let bye = client_frame(CLOSE, true, &close(1000, "bye"));
    client.send(&bye).await;
    upstream.wait("the client's Close", |records| records[0].received.ends_with(&bye)).await;
    drain(&edge, Signal::TERM);
    // The client has had no answer yet: the edge's comes first.
    assert_eq!(frame(&mut client).await.close().0, 1001);
    go.add_permits(1);
    client.closed().await;
    drop(client);
    assert_drained(&edge.ended());
    assert_eq!(upstream.behind_the_head(0), bye);
}
