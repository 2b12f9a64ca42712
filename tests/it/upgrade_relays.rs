//! WebSocket upgrades and the relay behind them, with a raw client in front and a recording server behind.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::SOCKET_HOST as HOST;
use crate::support::edge::{Edge, PATIENCE};
use crate::support::frames::{BINARY, MORE, TEXT, assert_echoes, client_frame, echo, frame, server_frame};
use crate::support::raw::{Raw, upgrade};
use crate::support::upstream::{OK, SWITCHING, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

const TARGET: &str = "/socket.io/?EIO=4&transport=websocket";
/// A masked text frame, as a client sends it, and what the upstreams here send back.
const FRAME: &[u8] = b"\x81\x85\x01\x02\x03\x04ignps";
const ECHO: &[u8] = b"\x81\x05hemtr";
/// What would be a second request to a server that did not switch.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: socket.recre.store\r\n\r\n";

fn edge(upstream: &Upstream) -> Edge {
    Edge::certified_for(&[HOST]).site(&[HOST], upstream).start()
}

async fn assert_opens(client: &mut Raw) {
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_echoes(client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_may_be_split_at_every_byte() {
    let upstream = Upstream::switching(echo).await;
    let edge = edge(&upstream);
    let request = upgrade(HOST, TARGET, "Origin: https://socket.recre.store\r\n");
    let request = request.as_bytes();
    let mut first = None;
    for at in 1..request.len() {
        let mut client = Raw::open(&edge, HOST).await;
        client.send_pieces([&request[..at], &request[at..]]).await;
        assert_opens(&mut client).await;
        let received = upstream.received(upstream.connections() - 1);
        assert_eq!(*first.get_or_insert(received.clone()), received, "split at {at}");
    }
    let mut client = Raw::open(&edge, HOST).await;
    client.send_pieces(request.chunks(1)).await;
    assert_opens(&mut client).await;
    assert_eq!(upstream.connections(), request.len(), "one upstream connection each");
    let first = first.unwrap();
    assert!(first.starts_with(&format!("GET {TARGET} HTTP/1.1\r\nHost: {HOST}\r\n")), "{first}");
    assert!(first.contains("\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"), "{first}");
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_behind_an_upgrade_wait_for_the_101() {
    let go = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&go);
    let upstream = Upstream::scripted(move |mut connection| {
        let gate = Arc::clone(&gate);
        async move {
            connection.request().await.unwrap();
            // Whatever came by then is on record before the 101 is.
            while gate.try_acquire().map(|permit| permit.forget()).is_err() {
                let _ = tokio::time::timeout(Duration::from_millis(20), connection.more()).await;
            }
            assert!(connection.buffer.is_empty(), "frames before the 101: {:?}", connection.buffer);
            connection.send(SWITCHING).await;
            echo(connection).await;
        }
    })
    .await;
    let edge = edge(&upstream);
    // Fewer bytes than the head buffer holds, and many more; in one TLS record, and in one each.
    for (frames, pieces) in [(1, false), (3, true), (20_000, false)] {
        let mut client = Raw::open(&edge, HOST).await;
        let behind = FRAME.repeat(frames);
        let request = upgrade(HOST, TARGET, "").into_bytes();
        let head_bytes = request.len();
        let sent = async {
            if pieces {
                client.send(&request).await;
                client.send_pieces(behind.chunks(FRAME.len())).await;
            } else {
                client.send([&request[..], &behind[..]].concat()).await;
            }
            let head = client.head().await;
            assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
            let back = ECHO.repeat(frames);
            assert_eq!(client.exactly(back.len()).await, back);
        };
        let index = upstream.connections();
        let opened = async {
            upstream.wait_bytes(index, head_bytes as u64).await;
            // Two exchanges on other connections: the edge has had its time to misbehave.
            for _ in 0..2 {
                Raw::open(&edge, HOST).await.get(HOST, "http", "").await.assert_ours(400, "bad_request");
            }
            assert!(upstream.received(index).ends_with("\r\n\r\n"), "{}", upstream.received(index));
            go.add_permits(1);
        };
        tokio::join!(sent, opened);
        let received = &upstream.records()[index].received;
        assert!(received.ends_with(&behind), "the masked frames arrive as they were sent");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_answer_but_101_arrives_unchanged_and_ends_both_connections() {
    let unknown = r#"{"code":0,"message":"Transport unknown"}"#;
    let mut tried = 0;
    for (status, fields, body) in [
        ("400 Bad Request", "Content-Type: application/json\r\nContent-Length: 40\r\n", unknown),
        ("302 Found", "Location: https://recre.store/?x=1\r\nContent-Length: 0\r\n", ""),
        ("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 5\r\n", "who?\n"),
        ("200 OK", "Content-Length: 2\r\n", "ok"),
        ("426 Upgrade Required", "Upgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 0\r\n", ""),
        ("204 No Content", "", ""),
    ] {
        let answer = format!("HTTP/1.1 {status}\r\n{fields}\r\n{body}");
        let upstream = Upstream::answering(answer).await;
        let edge = edge(&upstream);
        let mut client = Raw::open(&edge, HOST).await;
        client.send(upgrade(HOST, TARGET, "") + SMUGGLED).await;
        let response = client.response().await;
        response.assert_apps(status[..3].parse().unwrap(), body);
        let kept = fields.split("\r\n").filter(|line| !line.is_empty() && !line.starts_with("Connection"));
        for line in kept {
            assert!(response.head.contains(&format!("\r\n{line}\r\n")), "{line} in {}", response.head);
        }
        assert!(response.field("connection").is_some_and(|value| value.contains("close")), "{response:?}");
        client.closed().await;
        upstream.wait_closed(0).await;
        assert!(!upstream.received(0).contains("smuggled"), "{}", upstream.received(0));
        assert_eq!(upstream.connections(), 1);
        tried += 1;
    }
    assert_eq!(tried, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_refused_an_upgrade_is_not_used_again() {
    let upstream = Upstream::answering(OK).await;
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], &upstream).limits("workers = 1").start();
    for n in 1..=3 {
        let mut client = Raw::open(&edge, HOST).await;
        client.send(upgrade(HOST, TARGET, "")).await;
        client.response().await.assert_apps(200, "ok");
        assert_eq!(upstream.connections(), n);
    }
    Raw::open(&edge, HOST).await.get(HOST, "/", "").await.assert_apps(200, "ok");
    assert_eq!(upstream.connections(), 4);
    // And the other way round: an upgrade takes no idle connection.
    let mut client = Raw::open(&edge, HOST).await;
    client.send(upgrade(HOST, TARGET, "")).await;
    client.response().await.assert_apps(200, "ok");
    assert_eq!(upstream.connections(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_our_own_drops_what_is_behind_the_upgrade() {
    let upstream = Upstream::answering(OK).await;
    let edge = Edge::certified_for(&[HOST, "recre.store"])
        .site(&[HOST], &upstream)
        .site(&["recre.store"], &upstream)
        .start();
    let good = upgrade(HOST, TARGET, "");
    let cases = [
        (upgrade(HOST, TARGET, "Origin: https://evil.test\r\n"), 403, "origin_refused"),
        (upgrade("recre.store", TARGET, ""), 421, "misdirected"),
        (good.replace("Version: 13", "Version: 8"), 426, "websocket_version"),
        (good.replace("dGhlIHNhbXBsZSBub25jZQ==", "short"), 400, "bad_upgrade"),
        (good.replace("GET ", "POST "), 400, "bad_upgrade"),
        (good.replace("HTTP/1.1", "HTTP/1.0"), 400, "bad_upgrade"),
        (good.replace("Connection: Upgrade\r\n", ""), 400, "bad_upgrade"),
    ];
    let mut tried = 0;
    for (request, status, code) in cases {
        let mut client = Raw::open(&edge, HOST).await;
        client.send(request + SMUGGLED).await;
        client.response().await.assert_ours(status, code);
        client.closed().await;
        tried += 1;
    }
    assert_eq!(tried, 7);
    assert_eq!(upstream.connections(), 0, "nothing goes upstream");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_has_no_body() {
    let upstream = Upstream::switching(echo).await;
    let edge = edge(&upstream);
    for body in ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut client = Raw::open(&edge, HOST).await;
        client.send(upgrade(HOST, TARGET, body) + "5\r\nhello\r\n0\r\n\r\n").await;
        client.response().await.assert_ours(400, "bad_upgrade");
        client.closed().await;
    }
    assert_eq!(upstream.connections(), 0);
    let mut client = Raw::open(&edge, HOST).await;
    client.send(upgrade(HOST, TARGET, "Content-Length: 0\r\n")).await;
    assert_opens(&mut client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_closes_instead_of_answering_is_a_502() {
    let upstream = Upstream::scripted(async |mut connection| drop(connection.head().await)).await;
    let edge = edge(&upstream);
    let mut client = Raw::open(&edge, HOST).await;
    client.send(upgrade(HOST, TARGET, "") + SMUGGLED).await;
    client.response().await.assert_ours(502, "upstream_closed");
    client.closed().await;
    assert_eq!(upstream.connections(), 1, "an upgrade is not sent twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_upstream_sent_behind_its_101_comes_first() {
    let upstream = Upstream::scripted(async |mut connection| {
        connection.request().await.unwrap();
        connection.send(format!("HTTP/1.1 103 Early\r\nLink: </x>\r\n\r\n{SWITCHING}\u{1}\u{2}fi")).await;
        connection.send(server_frame(MORE, true, b"rst")).await;
        echo(connection).await;
    })
    .await;
    let edge = edge(&upstream);
    let mut client = Raw::open(&edge, HOST).await;
    client.send(upgrade(HOST, TARGET, "")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 103 "));
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(client.exactly(9).await, b"\x01\x02fi\x80\x03rst");
    client.send(FRAME).await;
    assert_eq!(client.exactly(ECHO.len()).await, ECHO);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_101_in_pieces_opens_and_arrives_whole() {
    let upstream = Upstream::scripted(async |mut connection| {
        connection.request().await.unwrap();
        for byte in SWITCHING.as_bytes().chunks(1) {
            connection.send(byte).await;
            tokio::task::yield_now().await;
        }
        echo(connection).await;
    })
    .await;
    let edge = edge(&upstream);
    let mut client = Raw::open(&edge, HOST).await;
    client.send([upgrade(HOST, TARGET, "").as_bytes(), FRAME].concat()).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    assert_eq!(client.exactly(ECHO.len()).await, ECHO);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_behind_other_requests_waits_its_turn_and_never_meets_the_pool() {
    let upstream = Upstream::scripted(async |mut connection| {
        while let Some(request) = connection.request().await {
            if request.head.contains("Upgrade: websocket") {
                connection.send(SWITCHING).await;
                return echo(connection).await;
            }
            connection.send(OK).await;
        }
    })
    .await;
    let edge = edge(&upstream);
    let mut client = Raw::open(&edge, HOST).await;
    let get = format!("GET /a HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let post = format!("POST /b HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 3\r\n\r\nabc");
    let all = [get.as_bytes(), post.as_bytes(), upgrade(HOST, TARGET, "").as_bytes(), FRAME].concat();
    client.send(all).await;
    client.response().await.assert_apps(200, "ok");
    client.response().await.assert_apps(200, "ok");
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(client.exactly(ECHO.len()).await, ECHO);
    let upgraded = upstream.connections() - 1;
    assert!(upstream.received(upgraded).starts_with(&format!("GET {TARGET} ")), "a connection of its own");

    client.stream.shutdown().await.unwrap();
    client.until_ended().await;
    upstream.wait_closed(upgraded).await;
    let before = upstream.received(upgraded);
    let mut next = Raw::open(&edge, HOST).await;
    next.get(HOST, "/c", "").await.assert_apps(200, "ok");
    assert_eq!(upstream.received(upgraded), before, "never used again");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_passes_megabytes_both_ways_at_once_byte_for_byte() {
    let upstream = Upstream::switching(echo).await;
    let edge = edge(&upstream);
    let mut client = Raw::open(&edge, HOST).await;
    client.send(upgrade(HOST, TARGET, "")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    let payload: Vec<u8> = (0..8 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    // Whole messages and fragmented ones, from a few bytes to megabytes.
    let (mut sent, mut back, mut rest) = (Vec::new(), Vec::new(), &payload[..]);
    for (n, size) in [7, 125, 3 << 20, 126, 65_535, 65_536, 1 << 20].into_iter().cycle().enumerate() {
        let (piece, behind) = rest.split_at(rest.len().min(size));
        let (opcode, fin) = [(BINARY, true), (BINARY, false), (MORE, false), (MORE, true)][n % 4];
        sent.extend(client_frame(opcode, fin, piece));
        back.extend(server_frame(opcode, fin, piece));
        rest = behind;
        if rest.is_empty() {
            break;
        }
    }
    let copy = sent.clone();
    let (reader, mut writer) = tokio::io::split(client.stream);
    let writing = tokio::spawn(async move {
        writer.write_all(&copy).await.unwrap();
        writer.flush().await.unwrap();
        writer
    });
    let mut reader = Raw { stream: tokio::io::join(reader, tokio::io::sink()), buffer: client.buffer };
    assert!(reader.exactly(back.len()).await == back, "the bytes differ");
    drop(writing.await.unwrap());
    let recorded = upstream.behind_the_head(0);
    assert!(recorded.len() > 1 << 19 && sent.starts_with(&recorded), "what the upstream got differs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_side_that_does_not_read_stops_the_other_and_costs_no_memory() {
    const MIB: usize = 1 << 20;
    const TOTAL: usize = 64 * MIB;
    let upstream = Upstream::switching(async |mut connection| {
        let piece = server_frame(BINARY, true, &vec![0x5a; MIB]);
        for _ in 0..TOTAL / MIB {
            connection.send(&piece).await;
        }
        connection.until_closed().await;
    })
    .await;
    let edge = edge(&upstream);
    let mut client = Raw::open(&edge, HOST).await;
    client.send(upgrade(HOST, TARGET, "")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    frame(&mut client).await;
    let before = edge.memory_kib("Rss");
    // Long enough to buffer all of it, if something would; a slow machine only makes the test milder.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let stalled = edge.memory_kib("Rss");
    assert!(stalled < before + 4 * 1024, "{before} KiB grew to {stalled} KiB while the client did not read");
    for _ in 1..TOTAL / MIB {
        let payload = frame(&mut client).await.payload;
        assert!(payload.len() == MIB && payload.iter().all(|byte| *byte == 0x5a));
    }
    let after = edge.memory_kib("Rss");
    assert!(after < before + 4 * 1024, "{before} KiB grew to {after} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_close_is_carried_across_and_the_other_half_goes_on() {
    let upstream = Upstream::switching(async |mut connection| {
        connection.until_closed().await; // the client's FIN, through the edge
        connection.send(server_frame(TEXT, true, b"still here")).await;
    })
    .await;
    let edge = edge(&upstream);
    let mut client = Raw::open(&edge, HOST).await;
    client.send(upgrade(HOST, TARGET, "")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.rest().await, server_frame(TEXT, true, b"still here"));

    let upstream = Upstream::switching(async |mut connection| {
        connection.finish().await;
        connection.until_closed().await;
    })
    .await;
    let edge = self::edge(&upstream);
    let mut client = Raw::open(&edge, HOST).await;
    client.send(upgrade(HOST, TARGET, "")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    client.closed().await;
    let still_here = client_frame(TEXT, true, b"still here");
    client.send(&still_here).await;
    client.stream.shutdown().await.unwrap();
    upstream.wait_closed(0).await;
    assert!(upstream.records()[0].received.ends_with(&still_here));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_gets_everything_that_came_before_the_end() {
    const BYTES: usize = 48 << 20; // more than the kernel holds for two connections
    let upstream = Upstream::switching(async |mut connection| {
        connection.send(server_frame(BINARY, true, &vec![7; BYTES])).await;
        connection.finish().await;
        connection.until_closed().await;
    })
    .await;
    let edge = edge(&upstream);
    let mut client = Raw::open(&edge, HOST).await;
    client.send(upgrade(HOST, TARGET, "")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    // The client's own half ends first; what is still on its way to it must not be cut.
    client.stream.shutdown().await.unwrap();
    let mut got = 0;
    for _ in 0..14 {
        got += client.exactly(BYTES / 16).await.len();
        tokio::time::sleep(Duration::from_millis(450)).await;
    }
    got += client.rest().await.len();
    assert_eq!(got, server_frame(BINARY, true, &vec![7; BYTES]).len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_words_of_an_upstream_that_resets_reach_a_client_that_talks() {
    const SESSIONS: usize = 40;
    let words = server_frame(1, true, "last words. ".repeat(5000).as_bytes());
    let said = words.clone();
    // Drops its connection with bytes of the client unread, which the kernel says with a reset.
    let upstream = Upstream::switching(move |mut connection| {
        let said = said.clone();
        async move {
            connection.more().await.unwrap();
            connection.send(said).await;
        }
    })
    .await;
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], &upstream).start();
    for session in 0..SESSIONS {
        let mut client = Raw::open(&edge, HOST).await;
        client.send(upgrade(HOST, "/", "")).await;
        assert!(client.head().await.starts_with("HTTP/1.1 101 "));
        let (mut read, mut write) = tokio::io::split(client.stream);
        let talk = client_frame(2, true, &[b'x'; 4096]);
        let talks = tokio::spawn(async move { while write.write_all(&talk).await.is_ok() {} });
        let mut heard = client.buffer;
        let ended = tokio::time::timeout(PATIENCE, read.read_to_end(&mut heard)).await.expect("an end");
        let complete = heard == words && ended.is_ok();
        assert!(complete, "session {session}: {} of {} bytes, {ended:?}", heard.len(), words.len());
        if session + 1 < SESSIONS {
            talks.abort();
        } else {
            tokio::time::timeout(PATIENCE, talks).await.expect("nobody may talk to nobody for ever").unwrap();
        }
    }
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_side_vanishing_ends_the_other() {
    let upstream = Upstream::switching(async |mut connection| connection.until_closed().await).await;
    let edge = edge(&upstream);
    for index in 0..2 {
        let mut client = Raw::open(&edge, HOST).await;
        client.send(upgrade(HOST, TARGET, "")).await;
        assert!(client.head().await.starts_with("HTTP/1.1 101 "));
        let gone = Instant::now();
        // A reset, and a FIN without close_notify.
        if index == 0 {
            client.vanish()
        } else {
            drop(client)
        }
        upstream.wait_closed(index).await;
        assert!(gone.elapsed() < Duration::from_secs(1), "{:?}", gone.elapsed());
    }
    let upstream = Upstream::switching(async |connection| drop(connection)).await;
    let edge = self::edge(&upstream);
    let mut client = Raw::open(&edge, HOST).await;
    client.send(upgrade(HOST, TARGET, "")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    let gone = Instant::now();
    client.closed().await;
    assert!(gone.elapsed() < Duration::from_secs(1), "{:?}", gone.elapsed());
    drop(client);
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_websocket_ends_after_idle_timeout_and_a_busy_one_does_not() {
    let upstream = Upstream::switching(echo).await;
    let edge = Edge::certified_for(&[HOST]).site_with(&[HOST], &upstream, "idle_timeout = \"1s\"").start();
    let mut idle = Raw::open(&edge, HOST).await;
    idle.send(upgrade(HOST, TARGET, "")).await;
    let mut busy = Raw::open(&edge, HOST).await;
    busy.send(upgrade(HOST, TARGET, "")).await;
    assert!(busy.head().await.starts_with("HTTP/1.1 101 "));
    assert!(idle.head().await.starts_with("HTTP/1.1 101 "));
    let mut ending = tokio::spawn(async move { idle.until_ended().await });
    while !ending.is_finished() {
        busy.send(FRAME).await;
        assert_eq!(busy.exactly(ECHO.len()).await, ECHO);
        let _ = tokio::time::timeout(Duration::from_millis(50), &mut ending).await;
    }
    busy.send(FRAME).await;
    assert_eq!(busy.exactly(ECHO.len()).await, ECHO, "outlives the idle one");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kernel_looks_after_both_sides_of_an_idle_websocket() {
    let upstream = Upstream::switching(echo).await;
    let edge = edge(&upstream);
    let mut client = Raw::open(&edge, HOST).await;
    client.send(upgrade(HOST, TARGET, "")).await;
    assert_opens(&mut client).await;
    let (own, behind) = (edge.https.port(), upstream.port());
    let begun = Instant::now();
    loop {
        let (accepted, connected) =
            (keep_alive_timers(Some(own), None), keep_alive_timers(None, Some(behind)));
        if (&accepted[..], &connected[..]) == (&[true], &[true]) {
            break;
        }
        // Another timer may run while the last bytes are on their way.
        assert!(
            begun.elapsed() < PATIENCE,
            "keep-alive: {accepted:?} to clients, {connected:?} to upstreams"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Of each established connection with this local or remote port, whether its timer is the keep-alive's: 2 in the column
/// `tr` of `/proc/net/tcp`.
fn keep_alive_timers(local: Option<u16>, remote: Option<u16>) -> Vec<bool> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = |address: &str| u16::from_str_radix(address.split(':').nth(1).unwrap(), 16).unwrap();
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let rows = rows.filter(|row| {
        let is = |wanted: Option<u16>, at: usize| wanted.is_none_or(|wanted| port(row[at]) == wanted);
        row[3] == "01" && is(local, 1) && is(remote, 2)
    });
    rows.map(|row| row[5].starts_with("02:")).collect()
}
