//! Frames through the relay: what is legal passes byte for byte, what is not ends both sides with a word to each, and
//! what the edge says itself stands between two frames.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::SOCKET_HOST as HOST;
use crate::support::edge::{Edge, PATIENCE};
use crate::support::frames::{
    BINARY, CLOSE, Frame, MORE, PING, PONG, RSV1, TEXT, client_frame, close, closes_late, echo, frame,
    frames, received, server_frame,
};
use crate::support::raw::{Raw, upgrade};
use crate::support::upstream::{Connection, SWITCHING, Upstream};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::timeout;

const UTF8: &str = "utf8.recre.store";
const SMALL_FRAMES: &str = "frames.recre.store";
const SMALL_MESSAGES: &str = "messages.recre.store";
const HOSTS: [&str; 4] = [HOST, UTF8, SMALL_FRAMES, SMALL_MESSAGES];
const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

type Make = fn(u8, bool, &[u8]) -> Vec<u8>;

/// A broken rule.
struct Row {
    what: &'static str,
    host: &'static str,
    deflate: bool,
    /// Legal, and just before it.
    good: Vec<u8>,
    bad: Vec<u8>,
    /// The Close that answers it: its code, and a part of its reason.
    code: u16,
    said: &'static str,
}

/// Every class of broken rule, in frames that `make` makes; `wrong` makes those of the other direction.
fn rows(make: Make, wrong: Make) -> Vec<Row> {
    let row = |what, code, said, good: &[&[u8]], bad: Vec<u8>| Row {
        what,
        host: HOST,
        deflate: false,
        good: good.concat(),
        bad,
        code,
        said,
    };
    let mask = make(TEXT, true, b"")[1];
    let text = make(TEXT, true, b"fine");
    let open = make(TEXT, false, b"begun ");
    let half = make(MORE, false, &[5; 400]);
    let full = make(BINARY, true, &[5; 1000]);
    vec![
        row("the mask of the other direction", 1002, "mask", &[&text], wrong(TEXT, true, b"x")),
        row("a reserved opcode", 1002, "opcode 0x3", &[&text], make(0x3, true, b"x")),
        row("a reserved control opcode", 1002, "opcode 0xB", &[&text, &open], make(0xB, true, b"")),
        row("RSV1 without extension", 1002, "not negotiated", &[&text], make(TEXT | RSV1, true, b"x")),
        row("RSV2", 1002, "RSV2", &[&text], make(TEXT | 0x20, true, b"x")),
        Row {
            deflate: true,
            ..row(
                "RSV1 in a continuation",
                1002,
                "first frame of a message",
                &[&make(TEXT | RSV1, false, b"packed")],
                make(MORE | RSV1, true, b"x"),
            )
        },
        Row {
            deflate: true,
            ..row(
                "RSV1 on a Ping",
                1002,
                "Ping",
                &[&make(BINARY | RSV1, true, b"p")],
                make(PING | RSV1, true, b""),
            )
        },
        row(
            "a Ping in fragments",
            1002,
            "without FIN",
            &[&make(PING, true, &[1; 125])],
            make(PING, false, b"x"),
        ),
        row(
            "a Ping of 126 bytes",
            1002,
            "at most 125",
            &[&make(PING, true, &[1; 125])],
            make(PING, true, &[1; 126]),
        ),
        row(
            "125 in 16 bits",
            1002,
            "shortest",
            &[&text],
            [&[0x82, mask | 126, 0, 125][..], &[0; 129]].concat(),
        ),
        row(
            "65535 in 64 bits",
            1002,
            "shortest",
            &[&text],
            [&[0x82, mask | 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff][..], &[0; 100]].concat(),
        ),
        row(
            "the top bit of a length",
            1002,
            "most significant",
            &[&text],
            [&[0x82, mask | 127, 0x80, 0, 0, 0, 0, 0, 0, 0][..], &[0; 100]].concat(),
        ),
        row("a continuation of nothing", 1002, "no message is open", &[&text], make(MORE, true, b"x")),
        row(
            "a message within a message",
            1002,
            "a message is open",
            &[&open, &make(PING, true, b"may be here")],
            make(BINARY, true, b"x"),
        ),
        row("close code 999", 1002, "close code 999", &[&text], make(CLOSE, true, &close(999, "x"))),
        row("close code 1005", 1002, "close code 1005", &[&text], make(CLOSE, true, &close(1005, ""))),
        row("half a close code", 1002, "1 byte", &[&text], make(CLOSE, true, &[3])),
        row(
            "a close reason in Latin-1",
            1007,
            "reason",
            &[&text],
            make(CLOSE, true, &[&close(1000, "")[..], b"caf\xe9"].concat()),
        ),
        Row {
            host: UTF8,
            ..row(
                "text in Latin-1",
                1007,
                "text",
                &[
                    &make(TEXT, false, b"caf\xc3"),
                    &make(MORE, true, b"\xa9"),
                    &make(BINARY, true, b"caf\xe9"),
                ],
                make(TEXT, true, b"caf\xe9"),
            )
        },
        Row {
            host: UTF8,
            ..row("half a character", 1007, "text", &[&make(TEXT, false, b"caf\xc3")], make(MORE, true, b""))
        },
        Row {
            host: SMALL_FRAMES,
            ..row(
                "frame_bytes_max and one byte",
                1009,
                "1001 bytes",
                &[&full, &make(BINARY, false, &[5; 1000]), &make(MORE, true, &[5; 1000])],
                make(BINARY, true, &[5; 1001]),
            )
        },
        Row {
            host: SMALL_MESSAGES,
            ..row(
                "message_bytes_max and one byte",
                1009,
                "1001 bytes",
                &[&full, &make(BINARY, false, &[5; 600]), &half, &make(PING, true, b"does not count")],
                make(MORE, true, &[5; 1]),
            )
        },
        Row {
            host: SMALL_MESSAGES,
            ..row("a frame beyond message_bytes_max", 1009, "1001", &[&full], make(BINARY, true, &[5; 1001]))
        },
    ]
}

fn edge(upstream: &Upstream) -> Edge {
    Edge::certified_for(&HOSTS)
        .site(&[HOST], upstream)
        .site_with(&[UTF8], upstream, "check_utf8 = true")
        .site_with(&[SMALL_FRAMES], upstream, "frame_bytes_max = 1000")
        .site_with(&[SMALL_MESSAGES], upstream, "message_bytes_max = 1000")
        .start()
}

fn edge_with(upstream: &Upstream, keys: &str) -> Edge {
    Edge::certified_for(&[HOST]).site_with(&[HOST], upstream, keys).start()
}

/// A WebSocket that is open.
async fn open(edge: &Edge) -> Raw {
    let mut client = Raw::open(edge, HOST).await;
    client.send(upgrade(HOST, "/", "")).await;
    switched(&mut client).await;
    client
}

async fn switched(client: &mut Raw) -> String {
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    head
}

/// A 101 to this request, with permessage-deflate where it is asked for.
fn switching(head: &str) -> String {
    let extensions = if head.contains("permessage-deflate") { DEFLATE } else { "" };
    SWITCHING.replace("\r\n\r\n", &format!("\r\n{extensions}\r\n"))
}

/// `bytes` are `good` and then a masked Close 1001; its reason.
#[track_caller]
fn assert_going_away(bytes: &[u8], good: &[u8], what: &str) -> String {
    assert!(bytes.starts_with(good), "{what}: what came before differs: {bytes:x?}");
    let [last]: [Frame; 1] = frames(&bytes[good.len()..]).try_into().expect(what);
    assert!(last.masked, "{what}: frames to a server are masked");
    let (code, reason) = last.close();
    assert_eq!(code, 1001, "{what}: {reason}");
    assert!(!reason.is_empty(), "{what}");
    reason
}

/// A status counter of the edge.
fn websockets_open(edge: &Edge) -> u64 {
    let admin = format!("unix:{}", edge.desk().path("admin.sock").display());
    let output =
        crate::support::edge::sanedge().args(["status", "--json", "--admin", &admin]).output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    status["counters"]["websockets_open"].as_u64().unwrap()
}

async fn wait_for_no_websocket(edge: &Edge) {
    let begun = Instant::now();
    while websockets_open(edge) > 0 {
        assert!(begun.elapsed() < PATIENCE, "a WebSocket is still open");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_breaks_a_rule_hears_which_and_the_upstream_gets_what_came_before() {
    let upstream = Upstream::scripted(async |mut connection: Connection| {
        let request = connection.request().await.unwrap();
        connection.send(switching(&request.head)).await;
        connection.send(server_frame(TEXT, true, b"hello")).await;
        connection.until_closed().await;
    })
    .await;
    let edge = edge(&upstream);
    let mut index = 0;
    for row in rows(client_frame, server_frame) {
        // In the same write as the upgrade, and later.
        for glued in [true, false] {
            let what = format!("{} (glued: {glued})", row.what);
            let mut client = Raw::open(&edge, row.host).await;
            let request = upgrade(row.host, "/", if row.deflate { DEFLATE } else { "" });
            let frames = [&row.good[..], &row.bad, &client_frame(TEXT, true, b"after")].concat();
            if glued {
                client.send([request.as_bytes(), &frames].concat()).await;
            } else {
                client.send(request).await;
            }
            switched(&mut client).await;
            if !glued {
                assert_eq!(frame(&mut client).await.payload, b"hello", "{what}");
                client.send(frames).await;
            }
            let mut last = frame(&mut client).await;
            if last.opcode() == TEXT {
                last = frame(&mut client).await; // with the glued ones either may come first
            }
            let (code, reason) = last.close();
            assert!(!last.masked && code == row.code && reason.contains(row.said), "{what}: {code} {reason}");
            client.closed().await;
            upstream.wait_closed(index).await;
            let got = upstream.behind_the_head(index);
            assert_eq!(assert_going_away(&got, &row.good, &what), "the client broke a WebSocket rule");
            index += 1;
        }
    }
    assert_eq!(index, 2 * 23);
    edge.wait_for_log("reason=websocket", PATIENCE);
    let log = edge.stop();
    assert!(!log.contains("drain_timeout reached"), "sessions are left over: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_breaks_a_rule_hears_which_and_the_client_gets_what_came_before() {
    let upstream = Upstream::scripted(async |mut connection: Connection| {
        let request = connection.request().await.unwrap();
        let target = request.head.split(' ').nth(1).unwrap();
        let (index, glued) = target[1..].split_once('/').unwrap();
        let row = &rows(server_frame, client_frame)[index.parse::<usize>().unwrap()];
        let mut bytes = [&row.good[..], &row.bad, &server_frame(TEXT, true, b"after")].concat();
        if glued == "true" {
            bytes.splice(..0, switching(&request.head).bytes());
        } else {
            connection.send(switching(&request.head)).await;
            assert_eq!(received(&mut connection).await.unwrap().payload, b"hello");
        }
        connection.send(bytes).await;
        connection.until_closed().await;
    })
    .await;
    let edge = edge(&upstream);
    let hello = client_frame(TEXT, true, b"hello");
    let mut index = 0;
    for (at, row) in rows(server_frame, client_frame).iter().enumerate() {
        for glued in [true, false] {
            let what = format!("{} (glued: {glued})", row.what);
            let mut client = Raw::open(&edge, row.host).await;
            let target = format!("/{at}/{glued}");
            client.send(upgrade(row.host, &target, if row.deflate { DEFLATE } else { "" })).await;
            switched(&mut client).await;
            let mut sent: &[u8] = &[];
            if !glued {
                client.send(&hello).await;
                sent = &hello;
            }
            assert_eq!(client.exactly(row.good.len()).await, row.good, "{what}");
            let last = frame(&mut client).await;
            let (code, reason) = last.close();
            assert!(!last.masked && code == row.code, "{what}: {code} {reason}");
            assert!(
                reason.starts_with("from the upstream: ") && reason.contains(row.said),
                "{what}: {reason}"
            );
            client.closed().await;
            upstream.wait_closed(index).await;
            let reason = assert_going_away(&upstream.behind_the_head(index), sent, &what);
            assert!(reason.contains(row.said), "{what}: {reason}");
            index += 1;
        }
    }
    assert_eq!(index, 2 * 23);
    let said = edge.wait_for_log("reason=websocket", PATIENCE);
    assert!(said.contains("from the upstream"), "{said}");
    let log = edge.stop();
    assert!(!log.contains("drain_timeout reached"), "sessions are left over: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_stay_after_their_end_are_cut() {
    let upstream = Upstream::switching(async |mut connection| {
        let first = received(&mut connection).await.unwrap();
        if first.opcode() == CLOSE {
            connection.send(server_frame(CLOSE, true, &first.payload)).await;
        }
        connection.until_closed().await;
        std::future::pending::<()>().await; // never closes its side
    })
    .await;
    let edge = edge(&upstream);
    let mut broken = open(&edge).await;
    broken.send([client_frame(TEXT, true, b"fine"), client_frame(MORE, true, b"bad")].concat()).await;
    assert_eq!(frame(&mut broken).await.close().0, 1002);
    let mut closed = open(&edge).await;
    closed.send(client_frame(CLOSE, true, &close(1000, "bye"))).await;
    assert_eq!(frame(&mut closed).await.close(), (1000, "bye".to_owned()));
    // The one sends on, the other keeps still; neither ends its connection.
    let sending = tokio::spawn(async move { while broken.try_send(&[0; 1000]).await.is_ok() {} });
    wait_for_no_websocket(&edge).await;
    timeout(PATIENCE, sending).await.expect("the connection is gone").unwrap();
    closed.until_ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_pass_wherever_they_are_cut() {
    let upstream = Upstream::switching(async |mut connection| {
        while let Some(frame) = received(&mut connection).await {
            let back = server_frame(frame.first & 0x7F, frame.first & 0x80 != 0, &frame.payload);
            // The beginning byte by byte, the rest at once.
            let (start, rest) = back.split_at(back.len().min(16));
            for byte in start.chunks(1) {
                connection.send(byte).await;
                tokio::task::yield_now().await;
            }
            connection.send(rest).await;
        }
    })
    .await;
    let edge = edge(&upstream);
    let mut client = open(&edge).await;
    let sequence = |make: Make| {
        [
            make(TEXT, false, b"one "),
            make(PING, true, b"between"),
            make(MORE, false, b""),
            make(MORE, true, b"two"),
            make(BINARY, true, &[9; 126]),
            make(PONG, true, b"unasked!"),
        ]
        .concat()
    };
    let (there, back) = (sequence(client_frame), sequence(server_frame));
    for at in 1..there.len() {
        client.send_pieces([&there[..at], &there[at..]]).await;
        assert_eq!(client.exactly(back.len()).await, back, "cut at {at}");
    }
    client.send_pieces(there.chunks(1)).await;
    assert_eq!(client.exactly(back.len()).await, back);
    assert_eq!(upstream.behind_the_head(0), there.repeat(there.len()));
    // The long form of a length, cut within its header.
    let large = [client_frame(BINARY, true, &[9; 70_000]), server_frame(BINARY, true, &[9; 70_000])];
    for at in 1..15 {
        client.send_pieces([&large[0][..at], &large[0][at..]]).await;
        assert_eq!(client.exactly(large[1].len()).await, large[1], "cut at {at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_messages_pass_and_check_utf8_keeps_them_from_being_offered() {
    let upstream = Upstream::scripted(async |mut connection: Connection| {
        let request = connection.request().await.unwrap();
        // Insists, where the target says so.
        let asked = if request.head.contains("/insist") { DEFLATE } else { &request.head };
        connection.send(switching(asked)).await;
        echo(connection).await;
    })
    .await;
    let edge = edge(&upstream);
    let mut client = Raw::open(&edge, HOST).await;
    client.send(upgrade(HOST, "/", DEFLATE)).await;
    assert!(switched(&mut client).await.contains("permessage-deflate"));
    let sequence = |make: Make| {
        let packed = [make(TEXT | RSV1, true, b"\xca\x48\xcd"), make(BINARY | RSV1, false, b"\xff")];
        [packed.concat(), make(MORE, true, b"\xfe"), make(TEXT, true, b"plain")].concat()
    };
    client.send(sequence(client_frame)).await;
    let back = sequence(server_frame);
    assert_eq!(client.exactly(back.len()).await, back);

    let mut client = Raw::open(&edge, UTF8).await;
    client.send(upgrade(UTF8, "/", DEFLATE)).await;
    let head = switched(&mut client).await;
    assert!(!head.contains("permessage-deflate"), "{head}");
    let asked = upstream.received(1);
    assert!(asked.contains("Sec-WebSocket-Key") && !asked.contains("Extensions"), "{asked}");
    client.send(client_frame(TEXT, true, "é".as_bytes())).await;
    assert_eq!(frame(&mut client).await.payload, "é".as_bytes());

    let mut client = Raw::open(&edge, UTF8).await;
    client.send(upgrade(UTF8, "/insist", DEFLATE)).await;
    client.response().await.assert_ours(502, "upstream_malformed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reserved_bits_of_another_extension_are_its_two_ends_affair() {
    const OTHER: &str = "Sec-WebSocket-Extensions: x-webkit-deflate-frame\r\n";
    let upstream = Upstream::scripted(async |mut connection: Connection| {
        let request = connection.request().await.unwrap();
        let used = if request.head.contains("x-webkit-deflate-frame") { OTHER } else { "" };
        connection.send(SWITCHING.replace("\r\n\r\n", &format!("\r\n{used}\r\n"))).await;
        echo(connection).await;
    })
    .await;
    let edge = edge(&upstream);
    let mut client = Raw::open(&edge, HOST).await;
    client.send(upgrade(HOST, "/", OTHER)).await;
    assert!(switched(&mut client).await.contains("x-webkit-deflate-frame"));
    let sequence = |make: Make| {
        [make(TEXT | RSV1, false, b"a"), make(MORE | RSV1, true, b"b"), make(BINARY | 0x30, true, b"c")]
            .concat()
    };
    client.send(sequence(client_frame)).await;
    let back = sequence(server_frame);
    assert_eq!(client.exactly(back.len()).await, back);
    // Its payloads may be anything, its frames may not.
    client.send(client_frame(MORE, true, b"x")).await;
    assert_eq!(frame(&mut client).await.close().0, 1002);
}

#[tokio::test(flavor = "multi_thread")]
async fn text_is_not_looked_at_unless_asked_for() {
    let upstream = Upstream::switching(echo).await;
    let edge = edge(&upstream);
    let mut client = open(&edge).await;
    client.send(client_frame(TEXT, true, b"caf\xe9")).await;
    assert_eq!(frame(&mut client).await.payload, b"caf\xe9");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_handshake_passes_untouched_and_data_behind_it_does_not() {
    let payloads = [Vec::new(), close(1000, ""), close(4321, "später"), close(1014, &"x".repeat(123))];
    // Begun by the client.
    let upstream = Upstream::switching(async |mut connection| {
        let asked = received(&mut connection).await.unwrap();
        connection.send(server_frame(CLOSE, true, &asked.payload)).await;
        connection.send(server_frame(TEXT, true, b"too late")).await;
        connection.finish().await;
        connection.until_closed().await;
    })
    .await;
    let edge = edge(&upstream);
    for (index, payload) in payloads.iter().enumerate() {
        let mut client = open(&edge).await;
        let ours = client_frame(CLOSE, true, payload);
        client.send([&ours[..], &client_frame(TEXT, true, b"too late")].concat()).await;
        assert_eq!(client.rest().await, server_frame(CLOSE, true, payload));
        client.stream.shutdown().await.unwrap();
        upstream.wait_closed(index).await;
        assert_eq!(upstream.behind_the_head(index), ours);
    }
    // By the upstream.
    let payload = close(3000, "a reason of the app's");
    let ours = payload.clone();
    let upstream = Upstream::switching(move |mut connection: Connection| {
        let ours = ours.clone();
        async move {
            connection.send(server_frame(CLOSE, true, &ours)).await;
            connection.send(server_frame(TEXT, true, b"too late")).await;
            received(&mut connection).await.unwrap();
        }
    })
    .await;
    let edge = self::edge(&upstream);
    let mut client = open(&edge).await;
    assert_eq!(client.exactly(payload.len() + 2).await, server_frame(CLOSE, true, &payload));
    let answer = client_frame(CLOSE, true, &payload);
    client.send(&answer).await;
    client.closed().await;
    drop(client);
    wait_for_no_websocket(&edge).await;
    assert_eq!(upstream.behind_the_head(0), answer);
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_are_ours_and_so_are_their_pongs() {
    let upstream = Upstream::switching(echo).await;
    let edge = edge_with(&upstream, "ping_interval = \"1s\"");
    let mut client = open(&edge).await;
    let mut own = Vec::new();
    for n in 0..3u8 {
        let ping = frame(&mut client).await;
        assert_eq!((ping.first, ping.masked, ping.payload.len()), (0x80 | PING, false, 8));
        // The application's, one of them as long as ours.
        let frames = [client_frame(PING, true, &[n; 8]), client_frame(PONG, true, &[n; 8])].concat();
        let before = client_frame(PONG, true, b"");
        client.send([&before[..], &client_frame(PONG, true, &ping.payload), &frames].concat()).await;
        own.extend([&before[..], &frames].concat());
        assert_eq!(frame(&mut client).await, Frame { first: 0x80 | PONG, masked: false, payload: vec![] });
        assert_eq!(
            frame(&mut client).await,
            Frame { first: 0x80 | PING, masked: false, payload: vec![n; 8] }
        );
        assert_eq!(
            frame(&mut client).await,
            Frame { first: 0x80 | PONG, masked: false, payload: vec![n; 8] }
        );
    }
    assert_eq!(upstream.behind_the_head(0), own);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ping_waits_for_the_end_of_a_frame() {
    let go = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&go);
    let message = [server_frame(BINARY, false, &[1; 5000]), server_frame(MORE, true, &[2; 5000])].concat();
    let sent = message.clone();
    let upstream = Upstream::switching(move |mut connection: Connection| {
        let (gate, sent) = (Arc::clone(&gate), sent.clone());
        async move {
            connection.send(&sent[..4000]).await;
            gate.acquire().await.unwrap().forget();
            connection.send(&sent[4000..]).await;
            connection.until_closed().await;
        }
    })
    .await;
    let edge = edge_with(&upstream, "ping_interval = \"200ms\"");
    let mut client = open(&edge).await;
    let mut got = client.exactly(4000).await;
    // Many intervals: the Ping may not come, and nobody may be taken for dead for not answering it.
    assert!(client.is_silent(Duration::from_secs(1)).await, "a Ping within a frame");
    go.add_permits(1);
    got.extend(client.exactly(1004).await);
    let ping = frame(&mut client).await;
    assert_eq!((ping.first, ping.payload.len()), (0x80 | PING, 8), "between the two fragments");
    got.extend(client.exactly(message.len() - 5004).await);
    assert!(got == message, "the message differs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_answers_no_ping_is_cut_and_one_that_sends_other_frames_is_not() {
    let upstream = Upstream::switching(echo).await;
    let edge = edge_with(&upstream, "ping_interval = \"700ms\"");
    let mut deaf = open(&edge).await;
    let mut busy = open(&edge).await;
    let mut ending = tokio::spawn(async move { deaf.until_ended().await });
    let mut ended = None;
    let word = client_frame(TEXT, true, b"still here");
    let mut pings = 0;
    while ended.is_none() {
        busy.send(&word).await;
        let mut back = frame(&mut busy).await;
        if back.opcode() == PING {
            pings += 1; // and no answer: what else is said is a sign of life as good (RFC 6455 §5.5.3)
            back = frame(&mut busy).await;
        }
        assert_eq!(back.payload, b"still here");
        ended = timeout(Duration::from_millis(20), &mut ending).await.ok();
    }
    let got = frames(&ended.unwrap().unwrap());
    assert!(got.len() == 1 && got[0].opcode() == PING, "{got:?}");
    upstream.wait_closed(0).await;
    let reason = assert_going_away(&upstream.behind_the_head(0), b"", "a deaf client");
    assert_eq!(reason, "the client does not answer a Ping");
    assert_eq!(websockets_open(&edge), 1, "the busy one lives");
    // And is asked anew, so that its silence would be noticed too.
    while pings < 3 {
        busy.send(&word).await;
        if frame(&mut busy).await.opcode() == PING {
            pings += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_answers_the_last_of_several_pings_only_is_alive() {
    let upstream = Upstream::switching(echo).await;
    let edge = edge_with(&upstream, "ping_interval = \"700ms\"");
    let mut client = open(&edge).await;
    let apps = client_frame(PONG, true, b"the application's");
    let mut payload = None;
    for _ in 0..4 {
        // The application's Ping has overtaken ours: its Pong is all that the client says in this interval.
        let ping = frame(&mut client).await;
        assert_eq!(ping.opcode(), PING);
        assert_eq!(*payload.get_or_insert(ping.payload.clone()), ping.payload, "late answers are known");
        client.send(&apps).await;
        assert_eq!(frame(&mut client).await.payload, b"the application's");
    }
    // Late, and more than once.
    let late = client_frame(PONG, true, &payload.unwrap());
    client.send([&late[..], &late, &apps].concat()).await;
    assert_eq!(frame(&mut client).await.payload, b"the application's");
    assert_eq!(upstream.behind_the_head(0), apps.repeat(5), "no Pong to the edge's Pings");
    // Silence ends it.
    let rest = frames(&client.until_ended().await);
    assert!(rest.iter().all(|frame| frame.opcode() == PING) && (1..3).contains(&rest.len()), "{rest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_its_bytes_slowly_is_not_dead() {
    const BYTES: usize = 1 << 20; // less than the kernel takes at once
    let upstream = Upstream::switching(async |mut connection: Connection| {
        connection.send(server_frame(BINARY, true, &vec![1; BYTES])).await;
        connection.until_closed().await;
    })
    .await;
    let edge = Edge::certified_for(&[HOST])
        .site_with(&[HOST], &upstream, "ping_interval = \"400ms\"")
        .limits("socket_buffer_bytes = 0")
        .start();
    let mut client = Raw::open(&edge, HOST).await;
    SockRef::from(client.stream.get_ref().0).set_recv_buffer_size(32 << 10).unwrap();
    client.send(upgrade(HOST, "/", "")).await;
    switched(&mut client).await;
    // Five intervals behind the message, where the first Ping is.
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.exactly(40_000).await;
    }
    client.exactly(BYTES + 10 - 20 * 40_000).await;
    for _ in 0..3 {
        let ping = frame(&mut client).await;
        assert_eq!(ping.opcode(), PING);
        client.send(client_frame(PONG, true, &ping.payload)).await;
    }
    assert_eq!(websockets_open(&edge), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_is_pinged_or_checked_after_a_close() {
    let (upstream, go) = closes_late().await;
    let edge = edge_with(&upstream, "ping_interval = \"300ms\"");
    let mut client = open(&edge).await;
    client.send(client_frame(CLOSE, true, &close(1000, "bye"))).await;
    assert!(client.is_silent(Duration::from_millis(1500)).await, "cut, or a Ping: {:x?}", client.buffer);
    go.add_permits(1);
    assert_eq!(frame(&mut client).await.close(), (1000, "bye".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_bytes_the_upstream_does_not_take_is_not_dead() {
    const BYTES: usize = 24 << 20; // more than the kernel holds on the way
    let go = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&go);
    let upstream = Upstream::switching(move |mut connection: Connection| {
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.unwrap().forget();
            connection.until_closed().await;
        }
    })
    .await;
    let edge = edge_with(&upstream, "ping_interval = \"700ms\"");
    let bytes = client_frame(BINARY, true, &vec![1; BYTES]);
    let client = open(&edge).await;
    let (mut reader, mut writer) = tokio::io::split(client.stream);
    let sending = tokio::spawn(async move {
        writer.write_all(&bytes).await.unwrap();
        writer.flush().await.unwrap();
    });
    let mut ping = [0; 10];
    reader.read_exact(&mut ping).await.unwrap();
    assert_eq!(ping[..2], [0x80 | PING, 8]);
    // Its Pong stands behind bytes that nobody reads. Three intervals; an end would come within two.
    let more = timeout(Duration::from_millis(2200), reader.read(&mut ping)).await;
    assert!(more.is_err(), "cut, or a second Ping: {more:?}");
    go.add_permits(1);
    upstream.wait_bytes(0, BYTES as u64).await;
    sending.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_do_not_keep_an_idle_session_alive() {
    let upstream = Upstream::switching(echo).await;
    let edge = edge_with(&upstream, "ping_interval = \"400ms\"\nidle_timeout = \"1s\"");
    let mut client = open(&edge).await;
    let mut pings = 0;
    let answering = async {
        loop {
            let frame = frame(&mut client).await;
            if frame.opcode() != PING {
                return frame;
            }
            pings += 1;
            client.send(client_frame(PONG, true, &frame.payload)).await;
        }
    };
    let last = timeout(PATIENCE, answering).await.expect("the session ends");
    assert_eq!(last.close(), (1001, "no data for idle_timeout".to_owned()));
    client.closed().await;
    assert!(pings > 0);
    upstream.wait_closed(0).await;
    let reason = assert_going_away(&upstream.behind_the_head(0), b"", "idle");
    assert_eq!(reason, "no data for idle_timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_session_ends_between_two_frames() {
    let upstream = Upstream::switching(async |mut connection: Connection| {
        connection.send(&server_frame(BINARY, true, &[1; 100])[..50]).await;
        connection.until_closed().await;
    })
    .await;
    let edge = edge_with(&upstream, "idle_timeout = \"500ms\"");
    let mut client = open(&edge).await;
    let ours = client_frame(TEXT, true, b"whole");
    client.send(&ours).await;
    // The upstream's frame has no end: no Close can come behind its beginning.
    assert_eq!(client.until_ended().await, server_frame(BINARY, true, &[1; 100])[..50]);
    upstream.wait_closed(0).await;
    assert_going_away(&upstream.behind_the_head(0), &ours, "idle within a frame");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_upstream_gets_a_close_for_a_client_that_reads_nothing() {
    let upstream = Upstream::switching(async |mut connection: Connection| {
        let flood = server_frame(BINARY, true, &[1; 60_000]);
        for _ in 0..1000 {
            if timeout(Duration::from_millis(200), connection.send(&flood)).await.is_err() {
                break;
            }
        }
        connection.until_closed().await;
    })
    .await;
    let edge = Edge::certified_for(&[HOST])
        .site(&[HOST], &upstream)
        .limits("stall_timeout = \"500ms\"\nsocket_buffer_bytes = \"16KiB\"")
        .start();
    let client = open(&edge).await;
    upstream.wait_closed(0).await;
    let reason = assert_going_away(&upstream.behind_the_head(0), b"", "a stalled client");
    assert_eq!(reason, "the client does not read its messages");
    wait_for_no_websocket(&edge).await;
    drop(client);
    edge.wait_for_log("reason=write-stall", PATIENCE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_that_is_not_answered_ends_both_sides_within_stall_timeout() {
    let edge = |upstream: &Upstream| {
        Edge::certified_for(&[HOST]).site(&[HOST], upstream).limits("stall_timeout = \"1s\"").start()
    };
    // By an upstream that goes on as before, which buys no time.
    let word = server_frame(TEXT, true, b"so?");
    let said = word.clone();
    let upstream = Upstream::switching(move |mut connection: Connection| {
        let said = said.clone();
        async move {
            received(&mut connection).await.unwrap();
            while connection.send(&said).await {
                let _ = timeout(Duration::from_millis(50), connection.until_closed()).await;
            }
        }
    })
    .await;
    let talking = edge(&upstream);
    let mut client = open(&talking).await;
    let bye = client_frame(CLOSE, true, &close(1000, "bye"));
    let begun = Instant::now();
    client.send(&bye).await;
    let mut last = frame(&mut client).await;
    while last.opcode() == TEXT {
        last = frame(&mut client).await;
    }
    assert_eq!(last.close(), (1001, "a Close was not answered".to_owned()));
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    client.closed().await;
    drop(client);
    wait_for_no_websocket(&talking).await;
    assert_eq!(upstream.behind_the_head(0), bye, "which has had its Close");

    // By a client that does.
    let bye = server_frame(CLOSE, true, &close(1000, "bye"));
    let said = bye.clone();
    let upstream = Upstream::switching(move |mut connection: Connection| {
        let said = said.clone();
        async move {
            connection.send(&said).await;
            connection.until_closed().await;
        }
    })
    .await;
    let talked_to = edge(&upstream);
    let mut client = open(&talked_to).await;
    assert_eq!(client.exactly(bye.len()).await, bye);
    let word = client_frame(TEXT, true, b"so?");
    while client.try_send(&word).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if upstream.records()[0].closed {
            break;
        }
    }
    upstream.wait_closed(0).await;
    let got = upstream.behind_the_head(0);
    let words = frames(&got).len() - 1;
    assert!(words > 1, "{got:x?}");
    let reason = assert_going_away(&got, &word.repeat(words), "unanswered");
    assert_eq!(reason, "a Close was not answered");
    client.until_ended().await;
}

/// Numbers that look random and are the same in every run (splitmix64).
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) as usize % bound
    }

    /// Legal frames, a Close at the end.
    fn sequence(&mut self, make: Make) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut opened = false;
        for _ in 0..self.below(60) {
            let size = match self.below(8) {
                0 => 125 + self.below(3),
                1 => 65_534 + self.below(4),
                2 => self.below(20_000),
                _ => self.below(200),
            };
            let payload: Vec<u8> = (0..size).map(|n| n as u8).collect();
            let fin = self.below(3) > 0;
            match self.below(6) {
                0 => bytes.extend(make(PING, true, &payload[..size.min(125)])),
                1 => bytes.extend(make(PONG, true, &payload[..size.min(125)])),
                _ => {
                    let opcode = if opened { MORE } else { [TEXT, BINARY][self.below(2)] };
                    opened = !fin;
                    bytes.extend(make(opcode, fin, &payload));
                }
            }
        }
        bytes.extend(make(CLOSE, true, &close(1000, "done")));
        bytes
    }

    /// Sizes of writes and reads: now a few bytes, now many.
    fn piece(&mut self) -> usize {
        [1 + self.below(16), 1 + self.below(3000), 40_000][self.below(3)]
    }

    async fn stall(&mut self) {
        match self.below(12) {
            0 => tokio::time::sleep(Duration::from_millis(self.below(4) as u64)).await,
            1..4 => tokio::task::yield_now().await,
            _ => {}
        }
    }
}

const SESSIONS: u64 = 24;

/// What session `seed` says in both directions.
fn script(seed: u64) -> (Vec<u8>, Vec<u8>) {
    (Dice(seed).sequence(client_frame), Dice(!seed).sequence(server_frame))
}

async fn talk(client: Raw, seed: u64) {
    let (there, back) = script(seed);
    let (mut reader, mut writer) = tokio::io::split(client.stream);
    let writing = async {
        let (mut dice, mut rest) = (Dice(seed ^ 1), &there[..]);
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.len().min(dice.piece()));
            writer.write_all(piece).await.unwrap();
            writer.flush().await.unwrap();
            rest = behind;
            dice.stall().await;
        }
    };
    let reading = async {
        let (mut dice, mut got) = (Dice(seed ^ 2), client.buffer);
        let mut room = vec![0; 40_000];
        while got.len() < back.len() {
            let most = dice.piece();
            let count = reader.read(&mut room[..most]).await.unwrap();
            assert!(count > 0, "ends after {} of {} bytes", got.len(), back.len());
            got.extend_from_slice(&room[..count]);
            dice.stall().await;
        }
        assert!(got == back, "what came from the upstream differs");
    };
    timeout(PATIENCE, async { tokio::join!(writing, reading) }).await.expect("all of it in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_legal_passes_byte_for_byte_through_short_writes_and_stalls() {
    let upstream = Upstream::scripted(async |mut connection: Connection| {
        let request = connection.request().await.unwrap();
        let seed: u64 = request.head.split(' ').nth(1).unwrap()[1..].parse().unwrap();
        connection.send(SWITCHING).await;
        let (there, back) = script(seed);
        let (mut dice, mut rest) = (Dice(seed ^ 3), &back[..]);
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.len().min(dice.piece()));
            connection.send(piece).await;
            rest = behind;
            dice.stall().await;
            if dice.below(3) == 0 {
                let _ = timeout(Duration::ZERO, connection.more()).await;
            }
        }
        while connection.buffer.len() < there.len() && connection.more().await.is_some() {
            dice.stall().await;
        }
        assert!(connection.buffer == there, "what came from the client differs");
    })
    .await;
    // Small buffers everywhere: a write is rarely taken whole.
    let edge = Edge::certified_for(&[HOST])
        .site(&[HOST], &upstream)
        .limits("socket_buffer_bytes = \"4KiB\"\ntls_buffer_bytes = \"4KiB\"\nscratch_bytes = \"4KiB\"")
        .start();
    let mut sessions = tokio::task::JoinSet::new();
    let mut bytes = Vec::new();
    for seed in 0..SESSIONS {
        let mut client = Raw::open(&edge, HOST).await;
        client.send(upgrade(HOST, &format!("/{seed}"), "")).await;
        switched(&mut client).await;
        bytes.push(script(seed).0.len() as u64);
        sessions.spawn(talk(client, seed));
    }
    assert_eq!(sessions.join_all().await.len() as u64, SESSIONS);
    assert!(bytes.iter().sum::<u64>() > 1 << 20, "there was something to compare");
    for seed in 0..SESSIONS {
        upstream.wait("bytes", |records| records[seed as usize].bytes >= bytes[seed as usize]).await;
        assert!(upstream.behind_the_head(seed as usize) == script(seed).0, "session {seed}");
    }
}
