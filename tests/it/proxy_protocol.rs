//! PROXY protocol: who may say whose a connection is, what becomes of it, and what upstreams are told.
//! The parser has its tests in `edge/src/proxy_protocol.rs`.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::support::SOCKET_HOST as HOST;
use crate::support::edge::{Edge, EdgeBuilder, PATIENCE, client_config};
use crate::support::peers;
use crate::support::raw::{Raw, fields, upgrade};
use crate::support::upstream::{Connection, OK, SWITCHING, Upstream};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

const FROM: &str = "proxy_protocol_from = [\"127.0.0.1/32\"]";

/// A header of version 2 with addresses of family `family`.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, family], &length, rest].concat()
}

const V4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x34, 1, 0xbb];

fn v6(client: &str) -> Vec<u8> {
    let client: std::net::Ipv6Addr = client.parse().unwrap();
    [&client.octets()[..], &client.octets(), &[0x12, 0x34, 1, 0xbb]].concat()
}

fn edge(upstream: &Upstream, more: impl FnOnce(EdgeBuilder) -> EdgeBuilder) -> Edge {
    more(Edge::certified_for(&[HOST]).site_with(&[HOST], upstream, "access_log = true").listen(FROM)).start()
}

async fn connect_from(local: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(local.parse().unwrap(), 0)).unwrap();
    socket.connect(to).await.unwrap()
}

/// TLS behind `header`, which is sent in `pieces`.
async fn behind(edge: &Edge, header: &[u8], piece_bytes: usize) -> std::io::Result<Raw> {
    let mut stream = connect_from("127.0.0.1", edge.https).await;
    stream.set_nodelay(true)?;
    for piece in header.chunks(piece_bytes) {
        stream.write_all(piece).await?;
        tokio::task::yield_now().await;
    }
    let connector = TlsConnector::from(Arc::new(client_config(&edge.desk().ca.pem)));
    Ok(connector.connect(ServerName::try_from(HOST).unwrap(), stream).await?.into())
}

/// Whatever comes until the edge ends the connection, which it must soon do.
async fn ended(mut stream: TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("an end");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_is_the_one_that_the_header_names() {
    let upstream = Upstream::answering(OK).await;
    let edge = edge(&upstream, |edge| edge);
    let v1 = |line: &str| format!("PROXY {line}\r\n").into_bytes();
    let mut tried = 0;
    for (header, client) in [
        (v1("TCP4 192.0.2.7 198.51.100.1 4660 443"), "192.0.2.7"),
        (v1("TCP6 2001:db8::7 2001:db8::1 4660 443"), "2001:db8::7"),
        (v1("TCP6 ::ffff:192.0.2.8 ::ffff:198.51.100.1 4660 443"), "192.0.2.8"),
        (v1("UNKNOWN"), "127.0.0.1"),
        (v1(&format!("UNKNOWN {}", "x".repeat(91))), "127.0.0.1"),
        (v2(0x21, 0x11, &V4), "192.0.2.7"),
        (v2(0x21, 0x21, &v6("2001:db8::8")), "2001:db8::8"),
        (v2(0x21, 0x21, &v6("::ffff:192.0.2.9")), "192.0.2.9"),
        (v2(0x21, 0x31, &[b'/'; 216]), "127.0.0.1"),
        (v2(0x20, 0x00, b""), "127.0.0.1"),
        (v2(0x21, 0x11, &[&V4[..], &[2, 0, 3, b'a', b'b', b'c']].concat()), "192.0.2.7"),
        (v2(0x21, 0x11, &[&V4[..], &[4, 3, 0xe1], &[0; 993]].concat()), "192.0.2.7"),
    ] {
        for piece_bytes in [header.len(), 1] {
            let mut raw = behind(&edge, &header, piece_bytes).await.unwrap();
            // Believed about the connection; not about fields, which the client wrote.
            tried += 1;
            let mark = format!("/trial-{tried}.");
            raw.get(HOST, &mark, "X-Forwarded-For: 6.6.6.6\r\n").await.assert_apps(200, "ok");
            raw.get(HOST, "/", "").await.assert_apps(200, "ok");
            let heads: String = (0..upstream.connections()).map(|index| upstream.received(index)).collect();
            let head = &heads[heads.rfind(&mark).unwrap()..];
            assert_eq!(fields(head, "x-forwarded-for")[0], client, "{}", header.escape_ascii());
            assert_eq!(fields(head, "x-real-ip")[0], client);
        }
        edge.wait_for_log(&format!("client={client} "), PATIENCE);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listed_peer_without_a_good_header_is_closed_with_a_line() {
    let upstream = Upstream::answering(OK).await;
    for (header, found) in [
        (&b"GET / HTTP/1.1\r\nHost: socket.recre.store\r\n\r\n"[..], "other bytes"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "other bytes"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 4660\r\n", "one space each"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 4660 443\nGET / HTTP/1.1\r\n", "one space each"),
        (&[b"PROXY UNKNOWN ", &[b'x'; 94][..]].concat(), "without CRLF in 107 bytes"),
        (&v2(0x21, 0x12, &V4), "family 0x12"),
        (&v2(0x31, 0x11, &V4), "version 2"),
        (&v2(0x21, 0x11, &V4[..8]), "exceed the length"),
        (&v2(0x21, 0x11, &[&V4[..], &[4, 3, 0xe2], &[0; 994]].concat()), "at most 1024"),
        (&v2(0x21, 0x11, &[&V4[..], &[3, 0, 4, 1, 2, 3, 4]].concat()), "checksum"),
    ] {
        let edge = edge(&upstream, |edge| edge.with_http());
        for address in [edge.https, edge.http.unwrap()] {
            let mut stream = connect_from("127.0.0.1", address).await;
            stream.write_all(header).await.unwrap();
            assert_eq!(ended(stream).await, b"", "not even an alert: {}", header.escape_ascii());
        }
        let line = edge.wait_for_log("reason=proxy-protocol", PATIENCE);
        assert!(line.contains(found) && line.contains("proxy_protocol_from lists this peer"), "{line}");
        assert!(line.contains("peer=127.0.0.1"), "{line}");
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_has_its_time() {
    let upstream = Upstream::answering(OK).await;
    let edge = edge(&upstream, |edge| edge.limits("handshake_timeout = \"300ms\"").with_http());
    for begun in [&b""[..], b"PROXY TCP4 192.0.2.7", b"\r\n\r\n\0\r\nQUIT\n\x21"] {
        for address in [edge.https, edge.http.unwrap()] {
            let mut stream = connect_from("127.0.0.1", address).await;
            stream.write_all(begun).await.unwrap();
            assert_eq!(ended(stream).await, b"");
        }
    }
    edge.wait_for_log("within handshake_timeout", PATIENCE);
    let mut raw = behind(&edge, b"PROXY UNKNOWN\r\n", 100).await.unwrap();
    raw.get(HOST, "/", "").await.assert_apps(200, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn from_any_other_peer_a_header_is_a_bad_hello() {
    let upstream = Upstream::answering(OK).await;
    let edge = edge(&upstream, |edge| edge.with_http());
    for header in [&b"PROXY TCP4 192.0.2.7 198.51.100.1 4660 443\r\n"[..], &v2(0x21, 0x11, &V4)] {
        let mut stream = connect_from("127.0.0.2", edge.https).await;
        stream.write_all(header).await.unwrap();
        let said = ended(stream).await;
        let is_alert = said.first() == Some(&21) || said.is_empty();
        assert!(is_alert || said.starts_with(b"HTTP/1.1 400 "), "{}", said.escape_ascii());
        let mut stream = connect_from("127.0.0.2", edge.http.unwrap()).await;
        stream.write_all(header).await.unwrap();
        let said = ended(stream).await;
        assert!(said.starts_with(b"HTTP/1.1 400 "), "{}", said.escape_ascii());
    }
    let line = edge.wait_for_log("reason=handshake", PATIENCE);
    assert!(line.contains("peer=127.0.0.2"), "{line}");
    assert!(!edge.log().contains("192.0.2.7"), "nobody believed it:\n{}", edge.log());
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plain_listener_takes_headers_too_and_rules_go_by_the_client_they_name() {
    let upstream = Upstream::answering(OK).await;
    let edge = Edge::certified_for(&[HOST])
        .site_with(&[HOST], &upstream, "allow = [\"192.0.2.0/24\"]")
        .listen(FROM)
        .with_http()
        .start();
    let mut stream = connect_from("127.0.0.1", edge.http.unwrap()).await;
    let redirect = format!("GET /x HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    stream.write_all(&[&v2(0x21, 0x11, &V4)[..], redirect.as_bytes()].concat()).await.unwrap();
    let said = String::from_utf8(ended(stream).await).unwrap();
    assert!(said.starts_with("HTTP/1.1 308 "), "{said}");
    let mut raw = behind(&edge, b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n", 100).await.unwrap();
    raw.get(HOST, "/", "").await.assert_apps(200, "ok");
    let mut raw = behind(&edge, b"PROXY TCP4 203.0.113.7 198.51.100.1 1 2\r\n", 100).await.unwrap();
    raw.get(HOST, "/", "").await.assert_ours(403, "address_refused");
    edge.wait_for_log("peer=203.0.113.7", PATIENCE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_client_may_be_a_trusted_proxy_itself() {
    let upstream = Upstream::answering(OK).await;
    let edge = edge(&upstream, |edge| edge.top("trusted_proxies = [\"192.0.2.7/32\"]"));
    let mut raw = behind(&edge, &v2(0x21, 0x11, &V4), 100).await.unwrap();
    raw.get(HOST, "/", "X-Forwarded-For: 203.0.113.5\r\n").await.assert_apps(200, "ok");
    let head = upstream.received(0);
    assert_eq!(fields(&head, "x-forwarded-for"), ["203.0.113.5, 192.0.2.7"]);
    assert_eq!(fields(&head, "x-real-ip"), ["203.0.113.5"]);
}

// --- to the upstream ---------------------------------------------------------------------------------------------

/// Answers requests behind a header of either version; an upgrade with a 101.
async fn introduced() -> Upstream {
    Upstream::scripted(|mut connection: Connection| async move {
        let fixed = connection.exactly(16).await.unwrap();
        if fixed.starts_with(b"PROXY ") {
            while !connection.buffer.contains(&b'\n') {
                connection.more().await.unwrap();
            }
            let end = connection.buffer.iter().position(|&byte| byte == b'\n').unwrap();
            connection.exactly(end + 1).await.unwrap();
        } else {
            connection.exactly(usize::from(fixed[15])).await.unwrap();
        }
        while let Some(request) = connection.request().await {
            if request.head.contains("Upgrade: websocket") {
                connection.send(SWITCHING).await;
                return connection.until_closed().await;
            }
            connection.send(OK).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_gets_the_client_on_a_connection_of_its_own() {
    for (version, wanted) in [
        (1, "PROXY TCP4 127.0.0.1 127.0.0.1 "),
        (2, "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01"),
    ] {
        let upstream = introduced().await;
        let keys = format!("send_proxy_protocol = {version}");
        let edge = Edge::certified_for(&[HOST]).site_with(&[HOST], &upstream, &keys).start();
        let mut raw = Raw::open(&edge, HOST).await;
        let port = raw.stream.get_ref().0.local_addr().unwrap().port();
        for _ in 0..3 {
            raw.get(HOST, "/", "").await.assert_apps(200, "ok");
        }
        raw.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 2\r\n\r\nhi")).await;
        raw.response().await.assert_apps(200, "ok");
        raw.send(upgrade(HOST, "/", "")).await;
        assert_eq!(raw.response().await.status, 101);
        assert_eq!(upstream.connections(), 5, "never one that was used before");
        for index in 0..5 {
            let record = upstream.records()[index].received.clone();
            assert!(record.starts_with(wanted.as_bytes()), "{}", record.escape_ascii());
            let told = match version {
                1 => format!("127.0.0.1 {port} {}\r\n", edge.https.port()).into_bytes(),
                _ => [port.to_be_bytes(), edge.https.port().to_be_bytes()].concat(),
            };
            assert!(record.windows(told.len()).any(|window| window == told), "{}", record.escape_ascii());
            let method: &[u8] = if index == 3 { b"POST /" } else { b"GET /" };
            let head = record.windows(method.len()).position(|window| window == method).unwrap();
            assert!(head <= 107, "the header comes first");
        }
        for index in 0..4 {
            upstream.wait_closed(index).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_came_in_goes_on_and_a_believed_field_counts_more() {
    let upstream = introduced().await;
    let edge = Edge::certified_for(&[HOST])
        .site_with(&[HOST], &upstream, "send_proxy_protocol = 1")
        .listen(FROM)
        .top("trusted_proxies = [\"192.0.2.7/32\"]")
        .start();
    for (header, field, told) in [
        ("PROXY TCP4 192.0.2.8 198.51.100.1 4660 443\r\n", "", "PROXY TCP4 192.0.2.8 127.0.0.1 4660 "),
        (
            "PROXY TCP6 2001:db8::7 2001:db8::1 4660 443\r\n",
            "",
            "PROXY TCP6 2001:db8::7 ::ffff:127.0.0.1 4660 ",
        ),
        ("PROXY UNKNOWN\r\n", "", "PROXY TCP4 127.0.0.1 127.0.0.1 "),
        (
            "PROXY TCP4 192.0.2.7 198.51.100.1 4660 443\r\n",
            "X-Forwarded-For: 203.0.113.5\r\n",
            "PROXY TCP4 203.0.113.5 127.0.0.1 0 ",
        ),
        (
            "PROXY TCP4 192.0.2.8 198.51.100.1 4660 443\r\n",
            "X-Forwarded-For: 203.0.113.5\r\n",
            "PROXY TCP4 192.0.2.8 127.0.0.1 4660 ",
        ),
    ] {
        let index = upstream.connections();
        let mut raw = behind(&edge, header.as_bytes(), 100).await.unwrap();
        raw.get(HOST, "/", field).await.assert_apps(200, "ok");
        let received = upstream.received(index);
        assert!(received.starts_with(told), "{header:?}: {received:?}");
    }
}

// --- with those who wrote the protocol ---------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_in_front_is_understood() {
    if !peers::both_installed("haproxy_in_front_is_understood") {
        return;
    }
    let upstream = Upstream::answering(OK).await;
    let edge = edge(&upstream, |edge| edge.with_http());
    for options in [
        "send-proxy",
        "send-proxy-v2",
        "send-proxy-v2 proxy-v2-options crc32c",
        "send-proxy-v2 proxy-v2-options ssl,crc32c,authority,unique-id",
        "send-proxy-v2-ssl-cn",
    ] {
        let address = peers::free_address();
        let sections = format!(
            "listen l\n  mode tcp\n  unique-id-format %[uuid]\n  bind {address}\n  server edge {} {options}",
            edge.https
        );
        let _haproxy = peers::haproxy(&sections, &address.to_string());
        let stream = connect_from("127.0.0.9", address).await;
        let connector = TlsConnector::from(Arc::new(client_config(&edge.desk().ca.pem)));
        let mut raw =
            Raw::from(connector.connect(ServerName::try_from(HOST).unwrap(), stream).await.unwrap());
        raw.get(HOST, "/", "").await.assert_apps(200, "ok");
        let head = upstream.received(upstream.connections() - 1);
        let head = &head[head.rfind("GET /").unwrap()..];
        assert_eq!(fields(head, "x-real-ip"), ["127.0.0.9"], "{options}");
    }
    // Its health checks speak for themselves (LOCAL), and end at once.
    let address = peers::free_address();
    let sections = format!(
        "listen l\n  mode tcp\n  bind {address}\n  server edge {} send-proxy-v2 check inter 100ms",
        edge.http.unwrap()
    );
    let _haproxy = peers::haproxy(&sections, &address.to_string());
    let mut stream = connect_from("127.0.0.9", address).await;
    stream.write_all(format!("GET /x HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
    assert!(ended(stream).await.starts_with(b"HTTP/1.1 308 "));
    assert!(!edge.log().contains("reason=proxy-protocol"), "{}", edge.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_and_nginx_behind_understand() {
    if !peers::both_installed("haproxy_and_nginx_behind_understand") {
        return;
    }
    let nginx = peers::nginx(
        "server { listen unix:FOLDER/s proxy_protocol; location / { return 200 $proxy_protocol_addr:$proxy_protocol_port; } }",
        "s",
    );
    let haproxy = peers::haproxy(
        "frontend f\n  bind unix@FOLDER/s accept-proxy\n  http-request return status 200 content-type text/plain lf-string \"%[src]:%[src_port]\"",
        "s",
    );
    for peer in [&nginx, &haproxy] {
        for version in [1, 2] {
            let upstream = format!("unix:{}", peer.path("s").display());
            let edge = Edge::certified_for(&[HOST])
                .site_with(&[HOST], upstream, &format!("send_proxy_protocol = {version}"))
                .listen(FROM)
                .start();
            for (header, told) in [
                (v2(0x21, 0x11, &V4), "192.0.2.7:4660"),
                (v2(0x21, 0x21, &v6("2001:db8::7")), "2001:db8::7:4660"),
            ] {
                let mut raw = behind(&edge, &header, 100).await.unwrap();
                for _ in 0..2 {
                    raw.get(HOST, "/", "").await.assert_apps(200, told);
                }
            }
        }
    }
}
