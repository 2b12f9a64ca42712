//! Clients that lie, dawdle, flood and forge, and the limits that hold them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::support::SOCKET_HOST as HOST;
use crate::support::edge::{Edge, EdgeBuilder, PATIENCE, client_config};
use crate::support::raw::{Raw, fields, upgrade};
use crate::support::upstream::{Connection, OK, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PARENT: &str = "recre.store";

async fn edge_with(build: impl FnOnce(EdgeBuilder) -> EdgeBuilder) -> (Edge, Upstream) {
    let upstream = Upstream::answering(OK).await;
    let edge = build(Edge::certified_for(&[HOST]).site(&[HOST], &upstream)).start();
    (edge, upstream)
}

// --- host and server name --------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn the_host_must_be_the_server_name() {
    let (edge, upstream) = edge_with(|edge| edge).await;
    let mut client = Raw::open(&edge, HOST).await;
    for host in
        [HOST, "socket.recre.store:443", "socket.recre.store:9", "socket.recre.store.", "SOCKET.Recre.Store"]
    {
        client.get(host, "/", "").await.assert_apps(200, "ok");
    }
    assert!(upstream.received(0).contains("\r\nHost: SOCKET.Recre.Store\r\n"), "goes on as it came");
    for host in ["recre.store", "xsocket.recre.store", "127.0.0.1", "localhost", "[::1]:443"] {
        client.get(host, "/", "").await.assert_ours(421, "misdirected");
    }
    for host in
        ["", "a b", "a\"b", "socket.recre.store:99999", "socket.recre.store:x", "user@socket.recre.store"]
    {
        Raw::open(&edge, HOST).await.get(host, "/", "").await.assert_ours(400, "bad_request");
    }
    let mut client = Raw::open(&edge, HOST).await;
    client.send("GET / HTTP/1.1\r\n\r\n").await;
    client.response().await.assert_ours(400, "bad_request");
    client.closed().await;
    let twice = format!("Host: {HOST}\r\n");
    Raw::open(&edge, HOST).await.get(HOST, "/", &twice).await.assert_ours(400, "bad_request");
    let target = format!("https://{PARENT}/");
    Raw::open(&edge, HOST).await.get(HOST, &target, "").await.assert_ours(400, "bad_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_for_one_host_does_not_serve_another_of_the_same_certificate() {
    let upstream = Upstream::answering(OK).await;
    let edge = Edge::certified_for(&[HOST, PARENT]).site(&[HOST, PARENT], &upstream).start();
    let mut client = Raw::open(&edge, HOST).await;
    client.get(PARENT, "/", "").await.assert_ours(421, "misdirected");
    client.get(HOST, "/", "").await.assert_apps(200, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_name_default_host_answers_for_the_names_of_its_certificate() {
    let upstream = Upstream::answering(OK).await;
    let build = || {
        Edge::certified_for(&[HOST, PARENT])
            .certificate(&["other.test"])
            .site(&[HOST, PARENT, "other.test"], &upstream)
    };
    let edge = build().listen(&format!("default_host = \"{PARENT}\"")).start();
    let mut client = Raw::open_at(&edge, edge.https, PARENT, false).await.unwrap();
    client.get(PARENT, "/", "").await.assert_apps(200, "ok");
    client.get(HOST, "/", "").await.assert_apps(200, "ok");
    client.get("other.test", "/", "").await.assert_ours(421, "misdirected");
    assert!(edge.try_tls("unknown.test").await.is_err(), "default_host is not for unknown names");

    let edge = build().start();
    let error = Raw::open_at(&edge, edge.https, PARENT, false).await.err().unwrap().to_string();
    assert!(error.contains("UnrecognisedName"), "{error}");
    let error = edge.try_tls("unknown.test").await.unwrap_err().to_string();
    assert!(error.contains("UnrecognisedName"), "{error}");
    edge.wait_for_log("reason=no-server-name", PATIENCE);
    edge.wait_for_log("reason=unknown-server-name", PATIENCE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_may_be_an_address_whose_certificate_names_it() {
    let upstream = Upstream::answering(OK).await;
    let edge = Edge::certified_for(&["127.0.0.1", "::1"])
        .site(&["127.0.0.1", "::1"], &upstream)
        .listen("default_host = \"127.0.0.1\"")
        .start();
    let mut client = Raw::open(&edge, "127.0.0.1").await; // no server name: RFC 6066 §3
    client.get(&edge.https.to_string(), "/", "").await.assert_apps(200, "ok");
    client.get("[::1]:8443", "/", "").await.assert_apps(200, "ok");
    client.get("127.0.0.2", "/", "").await.assert_ours(421, "misdirected");
    client.get("localhost", "/", "").await.assert_ours(421, "misdirected");
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_shown_in_their_canonical_form() {
    let upstream = Upstream::answering(OK).await;
    for (listen, connect, shown) in
        [("[::1]:0", "::1", "::1"), ("[::]:0", "127.0.0.1", "127.0.0.1"), ("[::]:0", "::1", "::1")]
    {
        let desk = Edge::certified_for(&[HOST]).site(&[HOST], &upstream).write();
        let toml = std::fs::read_to_string(desk.toml()).unwrap().replace("127.0.0.1:0", listen);
        std::fs::write(desk.toml(), toml).unwrap();
        let edge = desk.serve();
        let address = SocketAddr::new(connect.parse().unwrap(), edge.https.port());
        let mut client = Raw::open_at(&edge, address, HOST, true).await.unwrap();
        client.get(HOST, "/", "").await.assert_apps(200, "ok");
        let head = upstream.received(upstream.connections() - 1);
        assert_eq!(fields(&head, "x-forwarded-for"), [shown]);
        assert_eq!(fields(&head, "x-real-ip"), [shown]);
        drop(client);
        drop(edge);
    }
}

// --- fields ----------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_is_believed_up_to_the_first_it_does_not_know() {
    let top = "trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]";
    let upstream = Upstream::answering(OK).await;
    let edge = Edge::certified_for(&[HOST])
        .top(top)
        .site_with(&[HOST], &upstream, "allow = [\"192.168.0.0/16\"]\naccess_log = true")
        .start();
    let mut client = Raw::open(&edge, HOST).await;
    let forwarded = "X-Forwarded-For: 6.6.6.6, 192.168.1.7, 10.0.0.1\r\nX-Forwarded-Proto: https\r\n";
    client.get(HOST, "/", forwarded).await.assert_apps(200, "ok");
    let head = upstream.received(0);
    assert_eq!(fields(&head, "x-forwarded-for"), ["6.6.6.6, 192.168.1.7, 10.0.0.1, 127.0.0.1"]);
    assert_eq!(fields(&head, "x-real-ip"), ["192.168.1.7"]);
    assert_eq!(fields(&head, "x-forwarded-proto"), ["https"]);
    edge.wait_for_log("client=192.168.1.7", PATIENCE);
    let outside = "X-Forwarded-For: 192.168.1.7, 6.6.6.6\r\n";
    client.get(HOST, "/", outside).await.assert_ours(403, "address_refused");
    client.get(HOST, "/", "").await.assert_ours(403, "address_refused");
    assert_eq!(upstream.count("GET"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_its_path_leads_around_a_routes_networks() {
    let upstream = Upstream::answering(OK).await;
    let private = format!(
        "[[site.route]]\npath = \"/private/\"\nupstream = [\"{}\"]\nallow = [\"192.0.2.0/24\"]",
        upstream.address
    );
    let edge = Edge::certified_for(&[HOST]).site_with(&[HOST], &upstream, &private).start();
    let mut client = Raw::open(&edge, HOST).await;
    client.get(HOST, "/private/x", "").await.assert_ours(403, "address_refused");
    for path in ["//x/private/y", "/\\x/private/y", "//user@x/private/y", "/PRIVATE/x", "/x/../private/y"] {
        client.get(HOST, path, "").await.assert_ours(400, "ambiguous_path");
    }
    assert_eq!(upstream.connections(), 0);
    client.get(HOST, "//x/y", "").await.assert_apps(200, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_allowed_networks_reach_a_site() {
    for (networks, reached) in
        [("\"192.168.0.0/16\", \"::1/128\"", false), ("\"10.0.0.0/8\", \"127.0.0.1/32\"", true)]
    {
        let upstream = Upstream::answering(OK).await;
        let edge = Edge::certified_for(&[HOST])
            .site_with(&[HOST], &upstream, &format!("allow = [{networks}]"))
            .start();
        let response = Raw::open(&edge, HOST).await.get(HOST, "/", "X-Forwarded-For: 192.168.1.1\r\n").await;
        match reached {
            true => response.assert_apps(200, "ok"),
            false => response.assert_ours(403, "address_refused"),
        }
        assert_eq!(upstream.connections(), usize::from(reached));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hop_by_hop_fields_end_here_in_both_directions() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nConnection: x-mine, keep-alive\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\n\
        Proxy-Authenticate: x\r\nUpgrade: h2c\r\nSanedge-Error: forged\r\nsanedge_error: forged\r\n\
        X-Kept: yes\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], &upstream).start();
    let mut client = Raw::open(&edge, HOST).await;
    let hop = "Connection: X-Hop, keep-alive\r\nX-Hop: gone\r\nKeep-Alive: gone\r\nProxy-Connection: gone\r\n\
        TE: trailers, gone\r\nUpgrade: gone/1\r\nProxy-Authorization: gone\r\nHTTP2-Settings: gone\r\nX-Kept: yes\r\n";
    let response = client.get(HOST, "/", hop).await;
    response.assert_apps(200, "ok");
    let head = upstream.received(0);
    assert!(!head.contains("gone") && !head.contains("Connection:"), "{head}");
    assert_eq!(fields(&head, "x-kept"), ["yes"]);
    for name in ["x-mine", "keep-alive", "proxy-authenticate", "upgrade", "sanedge_error", "connection"] {
        assert_eq!(response.field(name), None, "{name}");
    }
    assert_eq!(response.field("x-kept"), Some("yes"));
    for named in ["Host", "Content-Length", "Cookie", "X-Forwarded-For", "Sec-WebSocket-Key"] {
        let fields = format!("Connection: {named}\r\n");
        Raw::open(&edge, HOST).await.get(HOST, "/", &fields).await.assert_ours(400, "bad_request");
    }
}

// --- origins (who may open WebSockets is the subject of origins.rs) ----------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn polling_of_another_origin_is_the_apps_business() {
    let (edge, _upstream) = edge_with(|edge| edge).await;
    Raw::open(&edge, HOST).await.get(HOST, "/", "Origin: https://evil.test\r\n").await.assert_apps(200, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_origin_gets_the_line_to_add_in_the_response_and_in_the_log() {
    let (edge, upstream) = edge_with(|edge| edge).await;
    let mut client = Raw::open(&edge, HOST).await;
    client.send(upgrade(HOST, "/", "Origin: https://App.test:8443\r\n")).await;
    let response = client.response().await;
    response.assert_ours(403, "origin_refused");
    let json: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    let check = json["check"].as_str().unwrap();
    assert!(check.contains("add \"https://app.test:8443\" to this site's origins"), "{check}");
    let line = edge.wait_for_log("reason=origin", PATIENCE);
    assert_eq!(pairs(&line)["check"], check);
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_a_foreign_origin_that_polls_is_named_once() {
    let (edge, upstream) = edge_with(|edge| edge).await;
    let mut client = Raw::open(&edge, HOST).await;
    let open = "/socket.io/?EIO=4&transport=polling&t=x";
    for (target, origin) in [
        (open, "Origin: https://socket.recre.store\r\n"),
        (open, ""),
        ("/", "Origin: https://evil.test\r\n"),
        ("/socket.io/?EIO=4&transport=polling&sid=abc", "Origin: https://evil.test\r\n"),
        (open, "Origin: https://app.test:8443\r\n"),
        (open, "Origin: https://evil.test\r\n"),
        (open, "Origin: https://app.test:8443\r\n"),
    ] {
        client.get(HOST, target, origin).await.assert_apps(200, "ok");
    }
    let line = edge.wait_for_log("its WebSocket will be refused", PATIENCE);
    let said = pairs(&line);
    assert_eq!(said["found"], "origin `https://app.test:8443` is not allowed");
    assert!(said["check"].contains("add \"https://app.test:8443\" to this site's origins"), "{line}");
    assert_eq!((said["host"].as_str(), said["peer"].as_str()), (HOST, "127.0.0.1"));
    assert_eq!(upstream.count("GET"), 7, "CORS is the app's");
    drop(client);
    let log = edge.stop();
    assert_eq!(log.matches("its WebSocket will be refused").count(), 1, "{log}");
    assert_honest(&log);
}

// --- limits, just below and just above -------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_bounded_by_body_bytes_max() {
    let upstream = Upstream::answering(OK).await;
    let edge = Edge::certified_for(&[HOST]).site_with(&[HOST], &upstream, "body_bytes_max = 1000").start();
    let length =
        |n: usize| format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {n}\r\n\r\n{}", "x".repeat(n));
    let chunked = |n: usize| {
        let body =
            format!("100\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(256), n - 256, "x".repeat(n - 256));
        format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
    };
    let mut client = Raw::open(&edge, HOST).await;
    for request in [length(1000), chunked(1000)] {
        client.send(request).await;
        client.response().await.assert_apps(200, "ok");
    }
    for request in [length(1001), chunked(1001)] {
        let mut client = Raw::open(&edge, HOST).await;
        client.send(request).await;
        client.response().await.assert_ours(413, "body_too_large");
        client.closed().await;
    }
    assert_eq!(edge.refused("body-too-large"), 2);
    for index in 0..upstream.connections() {
        let received = upstream.received(index);
        assert!(!received.contains("Content-Length: 1001"), "refused before anything goes upstream");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_are_bounded() {
    let limits = "head_bytes_max = 4096\nfields_max = 16\ntarget_bytes_max = 256";
    let (edge, _upstream) = edge_with(|edge| edge.limits(limits)).await;
    let padded = |total: usize| {
        let head = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Pad: \r\n\r\n");
        head.replace("X-Pad: ", &format!("X-Pad: {}", "x".repeat(total - head.len())))
    };
    let many =
        |total: usize| format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{}\r\n", "X: y\r\n".repeat(total - 1));
    let long = |total: usize| format!("GET /{} HTTP/1.1\r\nHost: {HOST}\r\n\r\n", "x".repeat(total - 1));
    let mut client = Raw::open(&edge, HOST).await;
    for request in [padded(4096), many(16), long(256)] {
        for pieces in [request.len(), 100] {
            client.send_pieces(request.as_bytes().chunks(pieces)).await;
            client.response().await.assert_apps(200, "ok");
        }
    }
    for (request, status, code) in [
        (padded(4097), 431, "head_too_large"),
        (many(17), 431, "head_too_large"),
        (long(257), 414, "target_too_long"),
    ] {
        for pieces in [request.len(), 100] {
            let mut client = Raw::open(&edge, HOST).await;
            client.send_pieces(request.as_bytes().chunks(pieces)).await;
            client.response().await.assert_ours(status, code);
            client.closed().await;
        }
    }
    assert_eq!((edge.refused("head-too-large"), edge.refused("bad-request")), (6, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_head_is_a_408_and_an_idle_connection_just_ends() {
    let (edge, upstream) =
        edge_with(|edge| edge.limits("head_timeout = \"400ms\"\nkeepalive_timeout = \"400ms\"")).await;
    let mut client = Raw::open(&edge, HOST).await;
    client.get(HOST, "/", "").await.assert_apps(200, "ok");
    client.send("GET / HT").await;
    client.response().await.assert_ours(408, "request_timeout");
    client.closed().await;

    // A byte now and then does not buy more time, and would be a good head for some minutes.
    for begun in ["GET /", "GET / HTTP/1.1\r\nX: "] {
        let (reader, mut writer) = tokio::io::split(Raw::open(&edge, HOST).await.stream);
        let mut reader = Raw::from(tokio::io::join(reader, tokio::io::sink()));
        let trickle = tokio::spawn(async move {
            writer.write_all(begun.as_bytes()).await.unwrap();
            while writer.write_all(b"x").await.is_ok() && writer.flush().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        reader.response().await.assert_ours(408, "request_timeout");
        trickle.abort();
    }

    let mut client = Raw::open(&edge, HOST).await;
    client.get(HOST, "/", "").await.assert_apps(200, "ok");
    client.closed().await; // nothing said: a request may be on its way
    Raw::open(&edge, HOST).await.closed().await;
    assert_eq!(upstream.count("GET"), 2);
    assert_eq!((edge.refused("request-timeout"), edge.refused("keepalive")), (3, 2));
}

/// Half of each limit for each part, and more than each limit in all.
#[tokio::test(flavor = "multi_thread")]
async fn what_takes_less_than_its_time_is_served() {
    let limits = "handshake_timeout = \"4s\"\nhead_timeout = \"4s\"\nkeepalive_timeout = \"4s\"";
    let (edge, _upstream) = edge_with(|edge| edge.limits(limits)).await;
    let half = || tokio::time::sleep(Duration::from_secs(2));
    let (slow, https) = (tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(), edge.https);
    let address = slow.local_addr().unwrap();
    tokio::spawn(async move {
        let mut client = slow.accept().await.unwrap().0;
        let mut edge = TcpStream::connect(https).await.unwrap();
        let mut begun = [0; 100];
        client.read_exact(&mut begun).await.unwrap();
        edge.write_all(&begun).await.unwrap();
        half().await;
        tokio::io::copy_bidirectional(&mut client, &mut edge).await
    });
    let mut client = Raw::open_at(&edge, address, HOST, true).await.unwrap();
    for _ in 0..2 {
        half().await;
        client.send("GET / HTTP/1.1\r\nHost: ").await;
        half().await;
        client.send(format!("{HOST}\r\n\r\n")).await;
        client.response().await.assert_apps(200, "ok");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_has_its_time() {
    let (edge, _upstream) = edge_with(|edge| edge.limits("handshake_timeout = \"300ms\"")).await;
    for begun in [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00"] {
        let mut client = TcpStream::connect(edge.https).await.unwrap();
        client.write_all(begun).await.unwrap();
        let ended = timeout(PATIENCE, client.read(&mut [0; 100])).await.expect("an end");
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    }
    edge.wait_for_log("reason=handshake-timeout", PATIENCE);
    Raw::open(&edge, HOST).await.get(HOST, "/", "").await.assert_apps(200, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_and_unfinished_records_end_their_own_connection() {
    let (edge, _upstream) = edge_with(|edge| edge.limits("keepalive_timeout = \"500ms\"")).await;
    // An unfinished record is no beginning of a request, and buys no time.
    for begun in [&b"\x17"[..], b"\x17\x03\x03\x3f\xff", b"\x17\x03\x03\x3f\xff0123456789"] {
        let mut client = Raw::open(&edge, HOST).await;
        client.get(HOST, "/", "").await.assert_apps(200, "ok");
        client.stream.get_mut().0.write_all(begun).await.unwrap();
        client.until_ended().await;
    }
    // Not decryptable, too long, of no known kind, in the clear.
    let garbage = [
        &b"\x17\x03\x03\x00\x200123456789abcdef0123456789abcdef"[..],
        b"\x17\x03\x03\xff\xff",
        b"\x63\x03\x03\x00\x01x",
        b"\x16\x03\x03\x00\x04\x18\x00\x00\x01",
        b"GET / HTTP/1.1\r\n\r\n",
    ];
    for bytes in garbage {
        let mut client = Raw::open(&edge, HOST).await;
        client.get(HOST, "/", "").await.assert_apps(200, "ok");
        client.stream.get_mut().0.write_all(bytes).await.unwrap();
        let said = client.until_ended().await;
        assert!(said.is_empty(), "{}", String::from_utf8_lossy(&said));
    }
    Raw::open(&edge, HOST).await.get(HOST, "/", "").await.assert_apps(200, "ok");
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_every_size_are_read() {
    let (edge, upstream) = edge_with(|edge| edge).await;
    let mut client = Raw::open(&edge, HOST).await;
    for size in [1, 1023, 16_383, 16_384] {
        let body = "x".repeat(40_000);
        client
            .send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n", body.len()))
            .await;
        // A write of rustls is a record, up to its largest.
        client.send_pieces(body.as_bytes().chunks(size)).await;
        client.response().await.assert_apps(200, "ok");
    }
    assert!(upstream.records()[0].bytes > 160_000);
}

/// Opens connections until one is served.
async fn wait_for_room(edge: &Edge) -> Raw {
    let opened = timeout(PATIENCE, async {
        loop {
            if let Ok(stream) = edge.try_tls(HOST).await {
                return Raw::from(stream);
            }
            tokio::task::yield_now().await;
        }
    });
    opened.await.expect("descriptors are free again")
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_max_is_the_last_one_served() {
    let (edge, upstream) = edge_with(|edge| edge.limits("sessions_max = 3\nhandshakes_max = 3")).await;
    let body = "POST / HTTP/1.1\r\nHost: socket.recre.store\r\nContent-Length: 1\r\n\r\n";
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Raw::open(&edge, HOST).await;
        client.send(body).await;
        clients.push(client);
    }
    upstream.wait("their requests", |all| all.iter().filter(|one| one.bytes > 0).count() == 3).await;
    assert!(edge.try_tls(HOST).await.is_err(), "one too many");
    edge.wait_for_log("reason=full", PATIENCE);
    clients[1].send("x").await;
    clients[1].response().await.assert_apps(200, "ok");
    clients.pop();
    wait_for_room(&edge).await.get(HOST, "/", "").await.assert_apps(200, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_max_counts_connections_with_a_client_hello_and_touches_no_open_session() {
    let (edge, _upstream) = edge_with(|edge| edge.limits("handshakes_max = 2\nworkers = 1")).await;
    let mut open = Raw::open(&edge, HOST).await;
    // Who says nothing takes no place.
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(TcpStream::connect(edge.https).await.unwrap());
    }
    Raw::open(&edge, HOST).await.get(HOST, "/", "").await.assert_apps(200, "ok");
    // A hello does, until the handshake ends.
    let mut begun = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(edge.https).await.unwrap();
        stream.write_all(&hello(&edge, HOST.as_bytes())).await.unwrap();
        assert!(stream.read(&mut [0; 1]).await.unwrap() > 0, "the edge's flight");
        begun.push(stream);
    }
    // What would be refused anyway makes nobody leave.
    for _ in 0..4 {
        let mut stream = TcpStream::connect(edge.https).await.unwrap();
        stream.write_all(&hello(&edge, b"unknown.store")).await.unwrap();
        Raw::from(stream).until_ended().await;
    }
    assert!(!edge.log().contains("reason=evicted"), "{}", edge.log());
    // One too many: the longest of them makes room, and no other.
    Raw::open(&edge, HOST).await.get(HOST, "/", "").await.assert_apps(200, "ok");
    edge.wait_for_log("reason=evicted", PATIENCE);
    let [first, second] = begun.try_into().unwrap();
    Raw::from(first).until_ended().await;
    let mut second = Raw::from(second);
    let flight =
        async { while second.stream.read_buf(&mut second.buffer).await.is_ok_and(|count| count > 0) {} };
    assert!(timeout(Duration::from_millis(200), flight).await.is_err(), "still there");
    open.get(HOST, "/", "").await.assert_apps(200, "ok");
    wait_for_room(&edge).await.get(HOST, "/", "").await.assert_apps(200, "ok");
}

// --- the log ---------------------------------------------------------------------------------------------------------

/// The pairs of a log line; panics where it is anything but one well-formed event.
fn pairs(line: &str) -> BTreeMap<String, String> {
    let mut pairs = BTreeMap::new();
    let mut rest = line;
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').unwrap_or_else(|| panic!("no pair at {rest:?} in {line:?}"));
        assert!(key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "key {key:?} in {line:?}");
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = if after.starts_with('"') {
            characters.next();
            loop {
                match characters.next().unwrap_or_else(|| panic!("no closing quote in {line:?}")) {
                    (at, '"') => break at + 1,
                    (_, '\\') => value.push(characters.next().unwrap().1),
                    (_, c) => value.push(c),
                }
            }
        } else {
            let end = after.find(' ').unwrap_or(after.len());
            value.push_str(&after[..end]);
            end
        };
        assert!(pairs.insert(key.to_owned(), value).is_none(), "{key} twice in {line:?}");
        rest = match after[end..].strip_prefix(' ') {
            Some(rest) => rest,
            None => {
                assert_eq!(&after[end..], "", "{line:?}");
                ""
            }
        };
    }
    pairs
}

/// No line says anything that the edge did not mean to say.
fn assert_honest(log: &str) {
    const KEYS: &[&str] = &[
        "time",
        "level",
        "msg",
        "kind",
        "address",
        "inherited",
        "hosts",
        "workers",
        "worker",
        "reason",
        "peer",
        "found",
        "check",
        "more_since_last_line",
        "host",
        "client",
        "method",
        "target",
        "status",
        "outcome",
        "ms",
        "upstream",
        "error",
        "sessions",
        "websockets",
        "at_most_s",
        "sessions_max",
        "asked",
        "open_files",
        "bundle",
        "code",
        "panic",
        "notes",
        "folder",
        "path",
        "keys",
        "idle",
        "exchanges",
        "others",
        "handed_over",
        "cut",
        "certificate",
        "days_left",
        "holds",
    ];
    for line in log.lines() {
        assert!(line.chars().all(|c| (' '..='~').contains(&c)), "{line:?}");
        let pairs = pairs(line);
        assert!(pairs.keys().all(|key| KEYS.contains(&key.as_str())), "{line:?}");
        assert!(matches!(pairs["level"].as_str(), "info" | "warn"), "{line:?}");
        assert!(!pairs["msg"].contains("forged"), "{line:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_forges_a_log_line_or_field() {
    let forged = "x\" level=error msg=\"forged";
    // What a server says is as foreign as what a client says.
    let upstream = Upstream::scripted(move |mut connection: Connection| async move {
        while let Some(request) = connection.request().await {
            connection
                .send(match request.head.split(' ').nth(1).unwrap() {
                    "/reason" => format!("HTTP/1.1 200 {forged}\u{1b}[31m\r\nContent-Length: 2\r\n\r\nok"),
                    "/line" => format!("{forged}\nlevel=error msg=forged\r\n\r\n"),
                    "/length" => format!("HTTP/1.1 200 OK\r\nContent-Length: {forged}\r\n\r\nok"),
                    "/name" => "HTTP/1.1 200 OK\r\nlevel=error msg=forged: x\r\n\r\nok".to_owned(),
                    _ => OK.to_owned(),
                })
                .await;
        }
    })
    .await;
    let routes = format!(
        "access_log = true\n[[site.route]]\npath = \"/app\"\nupstream = [\"{upstream}\"]\naccess_log = true\n"
    );
    // A new edge for each: a reason is said once a minute.
    let mut tried = 0;
    let long = "y".repeat(3000);
    for request in [
        format!("GET /{} HTTP/1.1\r\nHost: {HOST}\r\n\r\n", "x|level=error^msg=`forged`\\{[]}'"),
        format!("GET /?t=x|level=error&EIO=\\&transport={long} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
        format!("level'error|msg GET /{long} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
        format!("LEVEL'ERROR|MSG / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {forged}\r\n\r\n"),
        "GET / HTTP/1.1\r\nHost: level-error.msg_forged.test\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{forged}: x\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX: \u{1b}[31m\nlevel=error msg=forged\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {forged}\r\n\r\n"),
        format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n{forged}\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: {forged}\r\n\r\n"),
        upgrade(HOST, "/", &format!("Origin: https://{forged}\r\n")),
        upgrade(HOST, "/", &format!("Origin: \u{e9}\u{202e}{forged}{long}\r\n")),
        format!("GET /reason HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
        format!("GET /line HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
        format!("GET /length HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
        format!("GET /name HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
        format!("GET /app/../%2e%2e\\level=error HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
    ] {
        let edge = Edge::certified_for(&[HOST]).site_with(&[HOST], &upstream, &routes).start();
        let mark = edge.log_mark();
        let mut client = Raw::open(&edge, HOST).await;
        client.send(&request).await;
        client.response().await;
        edge.wait_for_log_after(mark, "level=", PATIENCE);
        drop(client);
        assert_honest(&edge.stop());
        tried += 1;
    }
    assert_eq!(tried, 18);
}

/// A hello whose server name is `name`, whatever bytes that has: one of rustls's, patched.
fn hello(edge: &Edge, name: &[u8]) -> Vec<u8> {
    let placeholder = format!("{}.test", "a".repeat(name.len() - 5));
    let server = rustls_pki_types::ServerName::try_from(placeholder.clone()).unwrap();
    let config = Arc::new(client_config(&edge.desk().ca.pem));
    let mut connection = rustls::ClientConnection::new(config, server).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    let at = bytes.windows(name.len()).position(|window| window == placeholder.as_bytes()).unwrap();
    bytes[at..at + name.len()].copy_from_slice(name);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_may_come_byte_by_byte_and_its_name_in_any_case() {
    let (edge, _upstream) = edge_with(|edge| edge).await;
    for (name, pieces) in [(&b"socket.recre.store"[..], 1), (b"SOCKET.Recre.Store", 1000)] {
        let mut client = TcpStream::connect(edge.https).await.unwrap();
        client.set_nodelay(true).unwrap();
        for piece in hello(&edge, name).chunks(pieces) {
            client.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        let kind = timeout(PATIENCE, client.read_u8()).await.expect("an answer").unwrap();
        assert_eq!(kind, 22, "a handshake record, not an alert");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_forges_a_log_line_through_the_server_name_or_garbage() {
    for name in [
        &b"x\nlevel=error msg=forged"[..],
        b"x\" level=error msg=\"forged",
        b"\x1b[31m.level-error.test",
        b"\xff\xfe\xfd\xfc\xfb.test.\0\0",
    ] {
        let (edge, _upstream) = edge_with(|edge| edge).await;
        let mut garbage = hello(&edge, name);
        for _ in 0..2 {
            let mut client = TcpStream::connect(edge.https).await.unwrap();
            client.write_all(&garbage).await.unwrap();
            let mut answer = Vec::new();
            let _ = timeout(PATIENCE, client.read_to_end(&mut answer)).await.expect("an end");
            assert!(answer.first().is_none_or(|kind| *kind == 21), "an alert at most: {answer:?}");
            garbage = name.to_vec();
        }
        edge.wait_for_log("reason=", PATIENCE);
        assert_honest(&edge.stop());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_never_reach_the_log() {
    const SECRET: &str = "s3cr3t0123456789";
    let upstream = Upstream::answering(format!(
        "HTTP/1.1 200 OK\r\nSet-Cookie: io={SECRET}\r\nContent-Length: 2\r\n\r\nok"
    ))
    .await;
    let edge = Edge::certified_for(&[HOST]).site_with(&[HOST], &upstream, "access_log = true").start();
    let secrets = format!("Cookie: io={SECRET}\r\nAuthorization: Bearer {SECRET}\r\nX-Api-Key: {SECRET}\r\n");
    let target =
        format!("/socket.io/?EIO=4&transport=polling&sid={SECRET}&token={SECRET}&t=shown&%73id={SECRET}");
    let mut client = Raw::open(&edge, HOST).await;
    client.get(HOST, &target, &secrets).await.assert_apps(200, "ok");
    client.get("other.test", &target, &secrets).await.assert_ours(421, "misdirected");
    client.get(HOST, &format!("//..{target}"), &secrets).await;
    client.send(upgrade(HOST, &target, &secrets)).await;
    client.response().await;
    let mut client = Raw::open(&edge, HOST).await;
    client.send(upgrade(HOST, &target, &format!("{secrets}Origin: https://evil.test\r\n"))).await;
    client.response().await.assert_ours(403, "origin_refused");
    let mut client = Raw::open(&edge, HOST).await;
    client
        .get(HOST, &target, &format!("{secrets}Bad Name: {SECRET}\r\n"))
        .await
        .assert_ours(400, "bad_request");
    drop(client);
    let log = edge.stop();
    assert!(log.contains("transport") && log.contains("shown"), "{log}");
    assert!(!log.contains(SECRET) && !log.contains("dGhlIHNhbXBsZSBub25jZQ"), "{log}");
    assert_honest(&log);
    let line = log.lines().find(|line| line.contains("msg=request")).unwrap();
    let pairs = pairs(line);
    assert_eq!(
        (pairs["host"].as_str(), pairs["status"].as_str(), pairs["outcome"].as_str()),
        (HOST, "200", "complete")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_bad_handshakes_add_few_lines_and_cost_no_session() {
    const EACH: usize = 2_000;
    let (edge, _upstream) = edge_with(|edge| edge.limits("handshake_timeout = \"5s\"")).await;
    let mut open = Raw::open(&edge, HOST).await;
    open.get(HOST, "/", "").await.assert_apps(200, "ok");
    let mark = edge.log_mark();
    let unknown = hello(&edge, b"unknown.level-error.test");
    let mut cut = unknown.clone();
    cut.truncate(40);
    for bad in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], b"\x16\x03\x01\xff\xff\xff", &unknown, &cut, b""] {
        for _ in 0..EACH / 50 {
            let tries = (0..50).map(|_| async {
                let mut client = TcpStream::connect(edge.https).await.unwrap();
                let _ = client.write_all(bad).await;
                let _ = client.shutdown().await;
                let _ = timeout(PATIENCE, client.read_to_end(&mut Vec::new())).await.expect("an end");
            });
            futures_util::future::join_all(tries).await;
        }
    }
    open.get(HOST, "/", "").await.assert_apps(200, "ok");
    let lines = edge.log_mark() - mark;
    assert!((1..=30).contains(&lines), "{lines} lines for {} bad handshakes:\n{}", 5 * EACH, edge.log());
    drop(open);
    assert_honest(&edge.stop());
}
