//! Requests and responses over one connection, as Engine.IO polling makes them, with a raw client in front and a
//! recording server behind.

use std::time::{Duration, Instant};

use crate::support::HOST;
use crate::support::edge::{Edge, PATIENCE};
use crate::support::raw::{Raw, fields, upgrade};
use crate::support::upstream::{Connection, OK, Upstream};
use tokio::io::AsyncWriteExt;

fn edge(upstream: &Upstream) -> Edge {
    edge_with(upstream, "")
}

fn edge_with(upstream: &Upstream, keys: &str) -> Edge {
    Edge::certified_for(&[HOST]).site_with(&[HOST], upstream, keys).start()
}

fn get(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n")
}

fn post(target: &str, fields: &str, body: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n{body}")
}

/// Answers every request with its own request line and body.
async fn mirror(mut connection: Connection) {
    while let Some(request) = connection.request().await {
        let line = request.head.split("\r\n").next().unwrap();
        let body = format!("{line}|{}", String::from_utf8_lossy(&request.body));
        connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_one_after_the_other_share_both_connections() {
    let upstream = Upstream::scripted(mirror).await;
    let edge = edge(&upstream);
    let mut client = Raw::open(&edge, HOST).await;
    for n in 0..500 {
        let target = format!("/socket.io/?EIO=4&transport=polling&t={n}&x=%20a%2F[b]");
        client.get(HOST, &target, "").await.assert_apps(200, format!("GET {target} HTTP/1.1|"));
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_wants_to_close_gets_its_close_and_upstream_stays() {
    let upstream = Upstream::answering(OK).await;
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], &upstream).limits("workers = 1").start();
    for _ in 0..3 {
        let mut client = Raw::open(&edge, HOST).await;
        client.send(get("/", "Connection: close\r\n") + &get("/never", "")).await;
        let response = client.response().await;
        response.assert_apps(200, "ok");
        assert_eq!(response.field("connection"), Some("close"));
        client.closed().await;
    }
    assert_eq!(upstream.connections(), 1);
    assert!(!upstream.received(0).contains("/never"));
}

/// Letters without a pattern that a shift would hide.
fn letters(count: usize) -> String {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'a' + (state >> 24) as u8 % 26)
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// As chunks of uneven sizes.
fn in_chunks(body: &str) -> String {
    let mut chunks = String::new();
    let (mut rest, mut size) = (body, 1);
    while !rest.is_empty() {
        let (chunk, behind) = rest.split_at(size.min(rest.len()));
        // Extensions are bounded in one body: only the small chunks have one.
        let extension = if size < 10 { ";n=\"x\"" } else { "" };
        chunks += &format!("{:X}{extension}\r\n{chunk}\r\n", chunk.len());
        (rest, size) = (behind, size % 70_001 * 3 + 1);
    }
    chunks + "0\r\n\r\n"
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_arrive_byte_for_byte_in_every_framing() {
    const BYTES: usize = 3_000_000;
    let body = letters(BYTES);
    let download = body.clone();
    let upstream = Upstream::scripted(move |mut connection: Connection| {
        let body = download.clone();
        async move {
            while let Some(request) = connection.request().await {
                assert!(request.body.is_empty() || request.body == body.as_bytes(), "the upload differs");
                let head = "HTTP/1.1 200 OK\r\n";
                connection
                    .send(match request.head.split(' ').nth(1).unwrap() {
                        "/length" => format!("{head}Content-Length: {BYTES}\r\n\r\n{body}"),
                        "/chunked" => format!("{head}Transfer-Encoding: chunked\r\n\r\n{}", in_chunks(&body)),
                        "/close" => format!("{head}\r\n{body}"),
                        _ => OK.to_owned(),
                    })
                    .await;
                if request.head.contains("/close") {
                    break;
                }
            }
        }
    })
    .await;
    let edge = edge(&upstream);
    let mut client = Raw::open(&edge, HOST).await;
    for _ in 0..2 {
        client.send(post("/", &format!("Content-Length: {BYTES}\r\n"), &body)).await;
        client.response().await.assert_apps(200, "ok");
        client.send(post("/", "Transfer-Encoding: chunked\r\n", &in_chunks(&body))).await;
        client.response().await.assert_apps(200, "ok");
        for target in ["/length", "/chunked", "/close"] {
            client.send(get(target, "")).await;
            let response = client.response().await;
            assert!(
                response.status == 200 && response.body == body.as_bytes(),
                "{target}: the download differs"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_their_order() {
    let upstream = Upstream::scripted(mirror).await;
    let edge = edge(&upstream);
    let mut client = Raw::open(&edge, HOST).await;
    client.send(get("/1", "") + &get("/2", "") + &get("/3", "")).await;
    for n in 1..=3 {
        client.response().await.assert_apps(200, format!("GET /{n} HTTP/1.1|"));
    }
    // Behind bodies of both kinds, whole and in pieces.
    let all = post("/4", "Content-Length: 5\r\n", "hello")
        + &post("/5", "Transfer-Encoding: chunked\r\n", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n")
        + &get("/6", "");
    for size in [all.len(), 7, 1] {
        client.send_pieces(all.as_bytes().chunks(size)).await;
        client.response().await.assert_apps(200, "POST /4 HTTP/1.1|hello");
        client.response().await.assert_apps(200, "POST /5 HTTP/1.1|hello");
        client.response().await.assert_apps(200, "GET /6 HTTP/1.1|");
    }
    // More than the input holds at once.
    let many = 400;
    let sent: String = (0..many).map(|n| get(&format!("/many/{n}"), "X-Pad: 0123456789\r\n")).collect();
    assert!(sent.len() > 16 * 1024);
    client.send(sent).await;
    for n in 0..many {
        client.response().await.assert_apps(200, format!("GET /many/{n} HTTP/1.1|"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_may_be_split_at_every_byte() {
    let upstream = Upstream::scripted(mirror).await;
    let edge = edge(&upstream);
    let mut client = Raw::open(&edge, HOST).await;
    let length = post("/l", "Content-Length: 11\r\n", "hello world");
    let chunked = post(
        "/c",
        "Trailer: Content-Digest\r\nTransfer-Encoding: chunked\r\n",
        "5;ext=\"a b\";q\r\nhello\r\n0001\r\n \r\n5;x\r\nworld\r\n0;last\r\n\
        Content-Digest: sha-256=:AA==:\r\nX-Forwarded-For: 6.6.6.6\r\nHost: evil\r\n\r\n",
    );
    for (request, line) in [(&length, "POST /l HTTP/1.1|"), (&chunked, "POST /c HTTP/1.1|")] {
        let bytes = request.as_bytes();
        for at in 1..bytes.len() {
            client.send_pieces([&bytes[..at], &bytes[at..]]).await;
            client.response().await.assert_apps(200, format!("{line}hello world"));
        }
        client.send_pieces(bytes.chunks(1)).await;
        client.response().await.assert_apps(200, format!("{line}hello world"));
    }
    let received = upstream.received(0);
    let (lengths, chunks) = received.split_once("POST /c").unwrap();
    assert_eq!(lengths.matches("\r\nContent-Length: 11\r\n").count(), length.len());
    assert!(!lengths.contains("chunked"));
    assert_eq!(chunks.matches("\r\nTransfer-Encoding: chunked\r\n").count(), chunked.len());
    assert_eq!(chunks.matches("0\r\nContent-Digest: sha-256=:AA==:\r\n\r\n").count(), chunked.len());
    for gone in ["ext", ";", "6.6.6.6", "evil", "Trailer:"] {
        assert!(!chunks.contains(gone), "{gone} went upstream");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_without_a_body_keep_the_connection() {
    let upstream = Upstream::scripted(async |mut connection| {
        while let Some(request) = connection.request().await {
            connection
                .send(match request.head.split(' ').nth(1).unwrap() {
                    "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
                    "/304" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\nETag: \"x\"\r\n\r\n",
                    "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n",
                    "/head-chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                    _ => OK,
                })
                .await;
        }
    })
    .await;
    let edge = edge(&upstream);
    let mut client = Raw::open(&edge, HOST).await;
    for (method, target, status, length) in [
        ("GET", "/204", 204, None),
        ("GET", "/304", 304, Some("500")),
        ("HEAD", "/head", 200, Some("500")),
        ("HEAD", "/head-chunked", 200, None),
        ("OPTIONS", "/204", 204, None),
    ] {
        client.send(format!("{method} {target} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
        let response = client.response_to(method).await;
        assert_eq!((response.status, response.field("content-length")), (status, length), "{response:?}");
        assert_eq!(response.field("connection"), None);
        client.get(HOST, "/", "").await.assert_apps(200, "ok");
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_client_gets_what_it_understands() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let upstream = Upstream::scripted(move |mut connection: Connection| async move {
        while let Some(request) = connection.request().await {
            assert!(request.head.contains(" HTTP/1.1\r\n"), "upstream always gets HTTP/1.1");
            let early = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
            let answer = if request.head.contains("/chunked") { chunked } else { OK };
            connection.send(format!("{early}{answer}")).await;
        }
    })
    .await;
    let edge = edge(&upstream);
    let old = |target: &str, fields: &str| format!("GET {target} HTTP/1.0\r\nHost: {HOST}\r\n{fields}\r\n");

    let mut client = Raw::open(&edge, HOST).await;
    client.send(old("/", "")).await;
    let response = client.response().await;
    response.assert_apps(200, "ok");
    assert_eq!(response.field("connection"), Some("close"));
    client.closed().await;

    let mut client = Raw::open(&edge, HOST).await;
    for _ in 0..2 {
        client.send(old("/", "Connection: keep-alive\r\n")).await;
        let response = client.response().await;
        response.assert_apps(200, "ok");
        assert_eq!(response.field("connection"), Some("keep-alive"));
    }
    client.send(old("/chunked", "Connection: keep-alive\r\n")).await;
    let response = client.response().await; // until close
    response.assert_apps(200, "abcde");
    assert_eq!(response.field("transfer-encoding"), None);
    assert_eq!(response.field("connection"), Some("close"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_expects_100_continue_gets_the_upstreams() {
    let upstream = Upstream::scripted(async |mut connection: Connection| {
        while let Some(head) = connection.head().await {
            assert_eq!(fields(&head, "expect"), ["100-continue"]);
            assert!(connection.buffer.is_empty());
            if head.contains("/no") {
                connection.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno").await;
                continue;
            }
            connection.send("HTTP/1.1 100 Continue\r\n\r\n").await;
            assert_eq!(connection.exactly(5).await.unwrap(), b"hello");
            connection.send(OK).await;
        }
    })
    .await;
    let edge = edge(&upstream);
    let mut client = Raw::open(&edge, HOST).await;
    for _ in 0..2 {
        client.send(post("/yes", "Content-Length: 5\r\nExpect: 100-continue\r\n", "")).await;
        assert_eq!(client.response().await.status, 100);
        client.send("hello").await;
        client.response().await.assert_apps(200, "ok");
    }
    client.send(post("/no", "Content-Length: 5\r\nExpect: 100-continue\r\n", "")).await;
    let response = client.response().await;
    response.assert_apps(417, "no");
    assert_eq!(response.field("connection"), Some("close"), "where the body would be, a head may come");
    client.closed().await;
    let mut client = Raw::open(&edge, HOST).await;
    client.send(post("/", "Content-Length: 5\r\nExpect: 200-ok\r\n", "")).await;
    client.response().await.assert_ours(417, "expectation_failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn interim_responses_pass_and_a_flood_of_them_does_not() {
    let upstream = Upstream::scripted(async |mut connection: Connection| {
        while let Some(request) = connection.request().await {
            let early = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n";
            let count = if request.head.contains("/flood") { 1000 } else { 8 };
            connection.send(early.repeat(count) + OK).await;
        }
    })
    .await;
    let edge = edge(&upstream);
    let mut client = Raw::open(&edge, HOST).await;
    client.send(get("/", "")).await;
    for _ in 0..8 {
        let response = client.response().await;
        assert_eq!((response.status, response.field("link")), (103, Some("</style.css>")));
    }
    client.response().await.assert_apps(200, "ok");

    client.send(get("/flood", "")).await;
    let mut last = client.response().await;
    let mut early = 0;
    while last.status == 103 {
        early += 1;
        last = client.response().await;
    }
    assert!(early <= 8, "{early}");
    last.assert_ours(502, "upstream_malformed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_until_close_is_chunked_for_the_client() {
    let upstream = Upstream::scripted(async |mut connection: Connection| {
        connection.request().await.unwrap();
        connection.send("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nall of ").await;
        connection.send("it").await;
    })
    .await;
    let edge = edge(&upstream);
    let mut client = Raw::open(&edge, HOST).await;
    for n in 1..=3 {
        let response = client.get(HOST, "/", "").await;
        response.assert_apps(200, "all of it");
        assert_eq!(response.field("transfer-encoding"), Some("chunked"));
        assert_eq!(upstream.connections(), n, "a connection each");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_and_trailers_of_a_response_are_framed_anew() {
    let answer = "HTTP/1.1 200 OK\r\nTrailer: Server-Timing\r\nTransfer-Encoding: chunked\r\n\r\n\
        5;ext=1\r\nhello\r\n01;x\r\n \r\n5\r\nworld\r\n0\r\nServer-Timing: db;dur=5\r\nSet-Cookie: a=b\r\n\r\n";
    let upstream = Upstream::scripted(move |mut connection: Connection| async move {
        while let Some(request) = connection.request().await {
            let size = if request.head.contains("/bytewise") { 1 } else { answer.len() };
            for piece in answer.as_bytes().chunks(size) {
                connection.send(piece).await;
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
    let edge = edge(&upstream);
    let mut client = Raw::open(&edge, HOST).await;
    for target in ["/whole", "/bytewise", "/whole"] {
        let response = client.get(HOST, target, "").await;
        response.assert_apps(200, "hello world");
        assert_eq!(response.trailers, "Server-Timing: db;dur=5\r\n");
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_response_breaks_and_never_looks_complete() {
    let mut tried = 0;
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ] {
        for version in ["1.1", "1.0"] {
            let upstream = Upstream::scripted(move |mut connection: Connection| async move {
                connection.request().await.unwrap();
                connection.send(answer).await;
            })
            .await;
            let edge = edge(&upstream);
            let mut client = Raw::open(&edge, HOST).await;
            client.send(format!("GET / HTTP/{version}\r\nHost: {HOST}\r\n\r\n")).await;
            let got = String::from_utf8_lossy(&client.broken().await).into_owned();
            assert!(!got.contains("\r\n0\r\n"), "{got}");
            assert_eq!(upstream.connections(), 1);
            // It is the app's failure, and not a client that left.
            let line = edge.wait_for_log("its response ended early", PATIENCE);
            assert!(line.contains("reason=upstream"), "{line}");
            tried += 1;
        }
    }
    assert_eq!(tried, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_bad_from_its_beginning_is_a_502() {
    let upstream =
        Upstream::answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX").await;
    let edge = edge(&upstream);
    let mut client = Raw::open(&edge, HOST).await;
    client.get(HOST, "/", "").await.assert_ours(502, "upstream_malformed");
    client.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_with_an_ambiguous_end_is_never_used_again() {
    let mut tried = 0;
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n!",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 2\r\n\r\nok",
    ] {
        let upstream = Upstream::answering(answer).await;
        let edge = edge(&upstream);
        let mut client = Raw::open(&edge, HOST).await;
        for n in 1..=3 {
            client.get(HOST, "/", "").await.assert_apps(200, "ok");
            assert_eq!(upstream.connections(), n, "{answer:?}");
        }
        upstream.wait_closed(0).await;
        tried += 1;
    }
    assert_eq!(tried, 6);
    // The rest of an announced body that a 204 may not have would be the next response.
    let upstream = Upstream::answering("HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n").await;
    let edge = edge(&upstream);
    let mut client = Raw::open(&edge, HOST).await;
    for n in 1..=2 {
        assert_eq!(client.get(HOST, "/", "").await.field("content-length"), None);
        assert_eq!(upstream.connections(), n);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_an_upload_arrives_while_the_client_still_sends() {
    for closes in [true, false] {
        let upstream = Upstream::scripted(move |mut connection: Connection| async move {
            connection.head().await.unwrap();
            connection.send("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig").await;
            if !closes {
                connection.until_closed().await;
            }
        })
        .await;
        let edge = edge(&upstream);
        let client = Raw::open(&edge, HOST).await;
        let (reader, mut writer) = tokio::io::split(client.stream);
        let mut reader = Raw::from(tokio::io::join(reader, tokio::io::sink()));
        let sending = tokio::spawn(async move {
            let head = post("/", "Content-Length: 100000000\r\n", "");
            writer.write_all(head.as_bytes()).await?;
            for _ in 0..100 {
                writer.write_all(&[0; 100_000]).await?;
                writer.flush().await?;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            std::io::Result::Ok(())
        });
        let response = reader.response().await;
        response.assert_apps(413, "big");
        assert_eq!(response.field("connection"), Some("close"));
        reader.closed().await;
        sending.abort();
        if !closes {
            upstream.wait_closed(0).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_answers_first_still_gets_the_body() {
    const BYTES: usize = 3_000_000;
    for framing in [format!("Content-Length: {BYTES}\r\n"), "Transfer-Encoding: chunked\r\n".to_owned()] {
        let upstream = Upstream::scripted(async |mut connection: Connection| {
            connection.head().await.unwrap();
            connection.send("HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok").await;
            connection.until_closed().await;
        })
        .await;
        let edge = edge(&upstream);
        let mut client = Raw::open(&edge, HOST).await;
        client.send(post("/", &framing, "")).await;
        let response = client.response().await;
        response.assert_apps(202, "ok");
        assert_eq!(response.field("connection"), Some("close"));
        for _ in 0..BYTES / 100_000 {
            let body = vec![b'x'; 100_000];
            match framing.starts_with("Content") {
                true => client.send(body).await,
                false => client.send([b"186a0\r\n", &body[..], b"\r\n"].concat()).await,
            }
        }
        if !framing.starts_with("Content") {
            client.send("0\r\n\r\n").await;
        }
        client.closed().await;
        upstream.wait_bytes(0, BYTES as u64).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_first_and_reads_later_still_reads_the_refusal() {
    let refusing = Upstream::scripted(async |mut connection: Connection| {
        connection.head().await.unwrap();
        connection.send("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig").await;
        connection.until_closed().await;
    })
    .await;
    let reading = Upstream::scripted(mirror).await;
    let edges = [edge(&refusing), edge_with(&reading, "body_bytes_max = \"64KiB\"")];
    let clients = edges.iter().map(async |edge| {
        let mut client = Raw::open(edge, HOST).await;
        client.send(post("/", "Content-Length: 3000000\r\n", "")).await;
        for _ in 0..30 {
            client.send(vec![b'x'; 100_000]).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(client.response().await.status, 413);
        client.closed().await;
    });
    futures_util::future::join_all(clients).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_sent_events_flow_at_once_and_outlive_response_timeout() {
    let go = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let gate = std::sync::Arc::clone(&go);
    let upstream = Upstream::scripted(move |mut connection| {
        let gate = std::sync::Arc::clone(&gate);
        async move {
            connection.request().await.unwrap();
            connection
                .send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
                .await;
            for n in 0..4 {
                gate.acquire().await.unwrap().forget();
                connection.send(format!("9\r\ndata: {n}\n\n\r\n")).await;
            }
            connection.send("0\r\n\r\n").await;
            connection.until_closed().await;
        }
    })
    .await;
    let edge = edge_with(&upstream, "response_timeout = \"200ms\"");
    let mut client = Raw::open(&edge, HOST).await;
    client.send(get("/events", "Accept: text/event-stream\r\n")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 "));
    let begun = Instant::now();
    for n in 0..4 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        go.add_permits(1);
        assert_eq!(
            client.chunk().await.unwrap(),
            format!("data: {n}\n\n").as_bytes(),
            "before the next is sent"
        );
    }
    assert!(begun.elapsed() > Duration::from_millis(400), "longer than response_timeout");
    assert_eq!(client.chunk().await, None);
    assert_eq!(client.line().await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_megabytes_stream_both_ways_with_flat_memory() {
    const BYTES: usize = 100_000_000;
    const GROWTH_KIB: u64 = 6 * 1024;
    let upstream = Upstream::scripted(async |mut connection: Connection| {
        connection.head().await.unwrap();
        let mut got = connection.buffer.len();
        connection.buffer.clear();
        while got < BYTES {
            connection.more().await.unwrap();
            got += connection.buffer.len();
            connection.buffer.clear();
        }
        connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\n\r\n")).await;
        for _ in 0..BYTES / 100_000 {
            connection.send(vec![9; 100_000]).await;
        }
        connection.until_closed().await;
    })
    .await;
    let edge = edge(&upstream);
    let mut client = Raw::open(&edge, HOST).await;
    client.get("other.test", "/", "").await.assert_ours(421, "misdirected");
    let before = edge.memory_kib("Rss");
    client.send(post("/", &format!("Content-Length: {BYTES}\r\n"), "")).await;
    let piece = vec![7; 100_000];
    for n in 0..BYTES / piece.len() {
        client.send(&piece).await;
        if n % 250 == 0 {
            let now = edge.memory_kib("Rss");
            assert!(now < before + GROWTH_KIB, "upload: {before} KiB grew to {now} KiB");
        }
    }
    assert!(client.head().await.starts_with("HTTP/1.1 200 "));
    for n in 0..BYTES / piece.len() {
        assert_eq!(client.exactly(piece.len()).await[0], 9);
        if n % 250 == 0 {
            let now = edge.memory_kib("Rss");
            assert!(now < before + GROWTH_KIB, "download: {before} KiB grew to {now} KiB");
        }
    }
    assert!(upstream.records()[0].bytes > BYTES as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_never_answers_is_a_504() {
    let upstream =
        Upstream::scripted(async |mut connection: Connection| connection.until_closed().await).await;
    let edge = edge_with(&upstream, "response_timeout = \"300ms\"");
    let requests = [get("/", ""), post("/", "Content-Length: 2\r\n", "hi"), upgrade(HOST, "/", "")];
    for request in requests {
        let mut client = Raw::open(&edge, HOST).await;
        client.send(request).await;
        let response = client.response().await;
        response.assert_ours(504, "upstream_timeout");
        assert!(!response.text().contains(&upstream.address), "{}", response.text());
        client.closed().await;
    }
    upstream.wait_closed(0).await;
    upstream.wait_closed(1).await;
    upstream.wait_closed(2).await;
    assert_eq!(upstream.connections(), 3, "none is sent twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stalls_is_a_408() {
    let upstream = Upstream::scripted(mirror).await;
    let edge =
        Edge::certified_for(&[HOST]).site(&[HOST], &upstream).limits("stall_timeout = \"300ms\"").start();
    let mut client = Raw::open(&edge, HOST).await;
    client.send(post("/", "Content-Length: 5\r\n", "hell")).await;
    client.response().await.assert_ours(408, "request_timeout");
    client.closed().await;
    upstream.wait_closed(0).await;
    // Who waits to be asked for a body does not stall: the app does, which neither asks nor answers.
    let silent = Upstream::scripted(async |mut connection: Connection| connection.until_closed().await).await;
    let edge =
        Edge::certified_for(&[HOST]).site(&[HOST], &silent).limits("stall_timeout = \"300ms\"").start();
    let mut client = Raw::open(&edge, HOST).await;
    client.send(post("/", "Content-Length: 5\r\nExpect: 100-continue\r\n", "")).await;
    client.response().await.assert_ours(504, "upstream_timeout");
    client.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_ends_its_upstream_request() {
    let upstream = Upstream::scripted(async |mut connection: Connection| {
        let request = connection.request().await.unwrap();
        if request.head.contains("/begun") {
            connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n").await;
        }
        connection.until_closed().await;
    })
    .await;
    let edge = edge(&upstream);
    let mut index = 0;
    for request in [
        get("/socket.io/?EIO=4&transport=polling", ""),
        get("/begun", ""),
        post("/", "Content-Length: 2\r\n", "hi"),
        post("/", "Content-Length: 20\r\n", "half of it"),
        post("/", "Transfer-Encoding: chunked\r\n", "5\r\nhalf"),
    ] {
        for vanish in [true, false] {
            let mut client = Raw::open(&edge, HOST).await;
            client.send(&request).await;
            if request.contains("half") {
                upstream.wait("the head", |records| records.len() > index).await;
            } else {
                upstream
                    .wait("the request", |records| {
                        records
                            .get(index)
                            .is_some_and(|record| record.received.windows(4).any(|w| w == b"\r\n\r\n"))
                    })
                    .await;
            }
            let gone = Instant::now();
            if vanish {
                client.vanish()
            } else {
                drop(client)
            }
            upstream.wait_closed(index).await;
            assert!(gone.elapsed() < Duration::from_secs(1), "{:?} for {request}", gone.elapsed());
            index += 1;
        }
    }
    assert_eq!(index, 10);
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_reading_is_cut_after_stall_timeout() {
    let upstream = Upstream::scripted(async |mut connection: Connection| {
        connection.request().await.unwrap();
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n").await;
        while connection.send(vec![0; 100_000]).await {}
        connection.until_closed().await;
    })
    .await;
    let edge =
        Edge::certified_for(&[HOST]).site(&[HOST], &upstream).limits("stall_timeout = \"500ms\"").start();
    let mut client = Raw::open(&edge, HOST).await;
    client.send(get("/", "")).await;
    client.head().await;
    upstream.wait_closed(0).await;
    client.broken().await;
}
