//! Limits of addresses, rates and time, just below and just above; a full house; and descriptors that run out. All of it
//! shows in `status`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::SOCKET_HOST as HOST;
use crate::support::edge::{Edge, EdgeBuilder, PATIENCE, client_config};
use crate::support::frames::{BINARY, assert_echoes, echo, server_frame};
use crate::support::raw::{Raw, upgrade};
use crate::support::upstream::{Connection, OK, SWITCHING, Upstream};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

/// What loopback is by default it is not in most of these tests.
const NOBODY_IS_EXEMPT: &str = "exempt = []";

/// An app that echoes on WebSockets and answers everything else.
async fn app() -> Upstream {
    Upstream::scripted(|mut connection: Connection| async move {
        while let Some(request) = connection.request().await {
            if request.head.contains("websocket") {
                connection.send(SWITCHING).await;
                return echo(connection).await;
            }
            connection.send(OK).await;
        }
    })
    .await
}

async fn edge_with(build: impl FnOnce(EdgeBuilder) -> EdgeBuilder) -> (Edge, Upstream) {
    let upstream = app().await;
    let edge = build(Edge::certified_for(&[HOST]).site(&[HOST], &upstream)).start();
    (edge, upstream)
}

async fn tcp_from(edge: &Edge, address: &str) -> io::Result<TcpStream> {
    let own: IpAddr = address.parse().unwrap();
    let socket = if own.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.bind(SocketAddr::new(own, 0))?;
    let target = if own.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { own };
    let stream = socket.connect(SocketAddr::new(target, edge.https.port())).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A TLS session from an address of ours.
async fn try_from(edge: &Edge, address: &str) -> io::Result<Raw> {
    let stream = tcp_from(edge, address).await?;
    let connector = TlsConnector::from(Arc::new(client_config(&edge.desk().ca.pem)));
    Ok(connector.connect(ServerName::try_from(HOST).unwrap(), stream).await?.into())
}

/// One that has sent its request.
async fn served_from(edge: &Edge, address: &str) -> io::Result<Raw> {
    let mut client = try_from(edge, address).await?;
    client.get(HOST, "/", "").await.assert_apps(200, "ok");
    Ok(client)
}

/// Opens a session from `address` as soon as there is room.
async fn served_soon(edge: &Edge, address: &str) -> Raw {
    let served = timeout(PATIENCE, async {
        loop {
            match served_from(edge, address).await {
                Ok(client) => return client,
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    });
    served.await.expect("descriptors are free again")
}

/// `101` or what came instead, over a connection of its own, which stays open with the client.
async fn upgraded_from(edge: &Edge, address: &str, fields: &str) -> (u16, Raw) {
    let mut client = try_from(edge, address).await.unwrap();
    client.send(upgrade(HOST, "/", fields)).await;
    let response = client.response().await;
    if response.status == 429 {
        response.assert_ours(429, "too_many_requests");
        assert_eq!(response.field("retry-after"), Some("1"));
        client.closed().await;
    }
    (response.status, client)
}

/// Waits until `status` has counted `reason`.
async fn wait_refused(edge: &Edge, reason: &str, at_least: u64) {
    let until = Instant::now() + PATIENCE;
    while edge.refused(reason) < at_least {
        assert!(Instant::now() < until, "{reason}: {} of {at_least}", edge.refused(reason));
        sleep(Duration::from_millis(20)).await;
    }
}

// --- by address ------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_address_sessions_max_and_another_its_own() {
    let (edge, _app) = edge_with(|e| e.top(NOBODY_IS_EXEMPT).limits("address_sessions_max = 3")).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(served_from(&edge, "127.0.0.2").await.unwrap());
    }
    let mark = edge.log_mark();
    for _ in 0..50 {
        assert!(try_from(&edge, "127.0.0.2").await.is_err(), "one too many");
    }
    served_from(&edge, "127.0.0.3").await.unwrap();
    assert_eq!(edge.refused("address-sessions"), 50);
    assert_eq!(edge.log_mark() - mark, 1, "one line for all of them:\n{}", edge.log());
    edge.wait_for_log("reason=address-sessions peer=127.0.0.2", PATIENCE);
    clients[0].get(HOST, "/", "").await.assert_apps(200, "ok");
    clients.pop();
    served_soon(&edge, "127.0.0.2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_listener_of_both_families_each_ipv4_client_has_its_own_limit() {
    let upstream = app().await;
    let build = Edge::certified_for(&[HOST]).site(&[HOST], &upstream).top(NOBODY_IS_EXEMPT);
    let desk = build.limits("address_sessions_max = 1").write();
    let toml = std::fs::read_to_string(desk.toml()).unwrap().replace("127.0.0.1:0", "[::]:0");
    std::fs::write(desk.toml(), toml).unwrap();
    let edge = desk.serve();
    let mut clients = Vec::new();
    for address in ["127.0.0.2", "127.0.0.3", "::1"] {
        clients.push(served_from(&edge, address).await.unwrap());
        assert!(try_from(&edge, address).await.is_err(), "a second of {address}");
    }
    assert_eq!(edge.refused("address-sessions"), 3);
}

/// How many of up to `most` are served at once, and how many more could be by what is saved up meanwhile at one a second.
async fn burst(most: usize, each: impl AsyncFn() -> bool) -> (usize, usize) {
    let start = Instant::now();
    let mut served = 0;
    while served < most && each().await {
        served += 1;
    }
    (served, 10 + start.elapsed().as_secs() as usize + 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_begins_no_more_connections_than_its_rate() {
    let limits = "address_handshakes_per_s_max = 1";
    let (edge, _app) = edge_with(|e| e.top(NOBODY_IS_EXEMPT).limits(limits)).await;
    let (served, most) = burst(60, async || served_from(&edge, "127.0.0.2").await.is_ok()).await;
    assert!((10..=most).contains(&served), "{served}, at most {most}");
    assert!(edge.refused("address-handshakes") >= 1);
    served_from(&edge, "127.0.0.3").await.unwrap();
    served_soon(&edge, "127.0.0.2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_together_begin_no_more_handshakes_than_their_rate_and_silence_is_none() {
    let (edge, _app) = edge_with(|e| e.top(NOBODY_IS_EXEMPT).limits("handshakes_per_s_max = 1")).await;
    let mut silent = Vec::new();
    for _ in 0..30 {
        silent.push(tcp_from(&edge, "127.0.0.9").await.unwrap());
    }
    let next = std::sync::atomic::AtomicU8::new(10);
    let (served, most) = burst(60, async || {
        let from = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        served_from(&edge, &format!("127.0.0.{from}")).await.is_ok()
    })
    .await;
    assert!((10..=most).contains(&served), "{served}, at most {most}");
    assert!(edge.refused("handshake-rate") >= 1);
    let error = try_from(&edge, "127.0.0.100").await.err().map(|error| error.to_string());
    assert!(error.as_ref().is_none_or(|error| error.contains("InternalError")), "no wrong name: {error:?}");
    served_soon(&edge, "127.0.0.200").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_opens_no_more_websockets_than_its_rate() {
    let limits = "address_websockets_per_s_max = 1";
    let (edge, _app) = edge_with(|e| e.top(NOBODY_IS_EXEMPT).limits(limits)).await;
    let (opened, most) = burst(60, async || upgraded_from(&edge, "127.0.0.2", "").await.0 == 101).await;
    assert!((10..=most).contains(&opened), "{opened}, at most {most}");
    assert!(edge.refused("address-websockets") >= 1);
    assert_eq!(upgraded_from(&edge, "127.0.0.3", "").await.0, 101);
    served_from(&edge, "127.0.0.2").await.expect("other requests are not WebSockets");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_is_no_client_and_whom_it_names_is() {
    let top = format!("{NOBODY_IS_EXEMPT}\ntrusted_proxies = [\"127.0.0.2/32\"]");
    let limits = "address_sessions_max = 1\naddress_handshakes_per_s_max = 1\naddress_websockets_per_s_max = 1\nhandshakes_per_s_max = 1";
    let (edge, _app) = edge_with(|e| e.top(&top).limits(limits)).await;
    let named = |who: &str| format!("X-Forwarded-For: {who}\r\n");
    let mut open = Vec::new();
    let (opened, most) =
        burst(60, async || upgraded_from(&edge, "127.0.0.2", &named("6.6.6.6, 203.0.113.1")).await.0 == 101)
            .await;
    assert!((10..=most).contains(&opened), "{opened}, at most {most}");
    for who in ["203.0.113.2", "2001:db8::1", "6.6.6.6"] {
        open.push(upgraded_from(&edge, "127.0.0.2", &named(who)).await);
    }
    // It names nobody: then there is nobody to be limited.
    for _ in 0..15 {
        open.push(upgraded_from(&edge, "127.0.0.2", "").await);
    }
    assert!(open.iter().all(|(status, _)| *status == 101));
    let _direct = served_from(&edge, "127.0.0.3").await.unwrap();
    assert!(try_from(&edge, "127.0.0.3").await.is_err(), "a client like others");
}

#[tokio::test(flavor = "multi_thread")]
async fn loopback_is_exempt_unless_something_else_is_written() {
    let limits = "address_sessions_max = 1\naddress_handshakes_per_s_max = 1\nhandshakes_per_s_max = 1\naddress_websockets_per_s_max = 1";
    let (edge, _app) = edge_with(|e| e.limits(limits)).await;
    let mut open = Vec::new();
    for _ in 0..30 {
        open.push(upgraded_from(&edge, "127.0.0.2", "").await);
    }
    assert!(open.iter().all(|(status, _)| *status == 101));
    let (edge, _app) = edge_with(|e| e.top("exempt = [\"127.0.0.3/32\"]").limits(limits)).await;
    let _one = served_from(&edge, "127.0.0.2").await.unwrap();
    assert!(try_from(&edge, "127.0.0.2").await.is_err());
    for _ in 0..15 {
        open.push(upgraded_from(&edge, "127.0.0.3", "").await);
    }
    assert!(open.iter().all(|(status, _)| *status == 101));
}

// --- a full house ----------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn four_thousand_silent_connections_lock_no_client_out() {
    more_files();
    const SESSIONS_MAX: usize = 300;
    let limits = format!("sessions_max = {SESSIONS_MAX}\nhandshake_timeout = \"2m\"\nworkers = 2");
    let (edge, _app) = edge_with(|e| e.top(NOBODY_IS_EXEMPT).limits(&limits)).await;
    let (status_code, mut websocket) = upgraded_from(&edge, "127.0.0.2", "").await;
    assert_eq!(status_code, 101);
    let mut resting = served_from(&edge, "127.0.0.2").await.unwrap();
    let mut silent = Vec::new();
    let mut players = Vec::new();
    for n in 0..4000_u32 {
        let from = format!("127.{}.{}.1", 1 + n % 200, n / 200);
        silent.push(tcp_from(&edge, &from).await.unwrap());
        if n % 400 == 399 {
            // In the middle of it: while a player shakes hands, more come.
            let flood = async {
                let mut more = Vec::new();
                for k in 0..50 {
                    more.push(tcp_from(&edge, &format!("127.200.{}.{k}", n / 400)).await.unwrap());
                }
                more
            };
            let player = upgraded_from(&edge, "127.0.0.7", "");
            let ((status_code, player), more) = tokio::join!(player, flood);
            assert_eq!(status_code, 101, "after {n}");
            players.push(player);
            silent.extend(more);
        }
    }
    for client in players.iter_mut().chain([&mut websocket]) {
        assert_echoes(client).await;
    }
    resting.get(HOST, "/", "").await.assert_apps(200, "ok");
    let status = edge.status();
    assert!(status["sessions"].as_u64().unwrap() <= SESSIONS_MAX as u64 + 1, "{status}");
    let evicted = status["refused"]["evicted"].as_u64().unwrap();
    assert!(evicted >= (4000 + 500 - SESSIONS_MAX) as u64, "{status}");
    assert_eq!(status["refused"]["full"], 0, "{status}");
    drop(silent);
    drop(players);
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn at_sessions_max_handshakes_then_silent_then_idle_connections_are_evicted_and_no_others() {
    let limits = "sessions_max = 4\nhandshakes_max = 4\nhandshake_timeout = \"2m\"\nworkers = 1";
    let (edge, _app) = edge_with(|e| e.limits(limits)).await;
    let (_, websocket) = upgraded_from(&edge, "127.0.0.1", "").await;
    let mut resting = vec![served_from(&edge, "127.0.0.1").await.unwrap()];
    let mut silent = try_from(&edge, "127.0.0.1").await.unwrap();
    let mut begun = tcp_from(&edge, "127.0.0.1").await.unwrap();
    // It must have been accepted before the next: both are in the same queue, in order.
    resting.push(served_from(&edge, "127.0.0.1").await.unwrap());
    assert!(matches!(timeout(PATIENCE, begun.read(&mut [0; 9])).await.expect("an end"), Ok(0) | Err(_)));
    wait_refused(&edge, "evicted", 1).await;
    resting.push(served_from(&edge, "127.0.0.1").await.unwrap());
    assert!(silent.until_ended().await.is_empty());
    wait_refused(&edge, "evicted", 2).await;
    for client in &mut resting {
        client.get(HOST, "/", "").await.assert_apps(200, "ok");
    }
    let mut websockets = Vec::new();
    for (sent_away, mut client) in (3..).zip(resting) {
        websockets.push(upgraded_from(&edge, "127.0.0.1", "").await.1);
        assert!(client.until_ended().await.is_empty(), "the longest there");
        wait_refused(&edge, "evicted", sent_away).await;
    }
    assert!(try_from(&edge, "127.0.0.1").await.is_err(), "all are WebSockets");
    assert_eq!((edge.refused("evicted"), edge.refused("full")), (5, 1));
    websockets.push(websocket);
    for websocket in &mut websockets {
        assert_echoes(websocket).await;
    }
    edge.stop();
}

// --- requests and time -----------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_carries_requests_max() {
    let (edge, _app) = edge_with(|e| e.limits("requests_max = 3")).await;
    for last in ["/", "/nowhere/../../.."] {
        let mut client = Raw::open(&edge, HOST).await;
        for _ in 0..2 {
            assert_eq!(client.get(HOST, "/", "").await.field("connection"), None);
        }
        let response = client.get(HOST, last, "").await;
        assert_eq!(response.field("connection"), Some("close"), "{}", response.head);
        client.closed().await;
    }
    let mut client = Raw::open(&edge, HOST).await;
    for _ in 0..2 {
        client.get(HOST, "/", "").await.assert_apps(200, "ok");
    }
    client.send(upgrade(HOST, "/", "")).await;
    assert_eq!(client.response().await.status, 101, "the last may be an upgrade");
    assert_echoes(&mut client).await;
    wait_refused(&edge, "requests", 3).await;
    let (edge, _app) = edge_with(|e| e.limits("requests_max = 0")).await;
    let mut client = Raw::open(&edge, HOST).await;
    for _ in 0..50 {
        assert_eq!(client.get(HOST, "/", "").await.field("connection"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_that_end_are_counted_and_no_news() {
    let (edge, _app) = edge_with(|e| e.limits("keepalive_timeout = \"300ms\"")).await;
    let mark = edge.log_mark();
    served_from(&edge, "127.0.0.1").await.unwrap().closed().await;
    try_from(&edge, "127.0.0.1").await.unwrap().closed().await;
    wait_refused(&edge, "keepalive", 2).await;
    assert_eq!(edge.log_mark(), mark, "{}", edge.log());
}

/// Sends a body of `bytes` each 50 ms for `time`; whether it was taken to its end.
async fn uploads(edge: &Edge, bytes: usize, time: Duration) -> bool {
    let pieces = time.as_millis() as usize / 50;
    let mut client = Raw::open(edge, HOST).await;
    let length = pieces * bytes;
    client.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\n\r\n")).await;
    for _ in 0..pieces {
        if client.try_send(&vec![b'x'; bytes]).await.is_err() {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    let response = client.response().await;
    match response.status {
        200 => true,
        _ => {
            response.assert_ours(408, "request_timeout");
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_comes_slower_than_its_rate_is_a_408() {
    let limits = "stall_timeout = \"1s\"\nbody_bytes_per_s_min = 1000";
    let (edge, _app) = edge_with(|e| e.limits(limits)).await;
    assert!(uploads(&edge, 200, Duration::from_secs(4)).await, "four times the rate");
    assert!(!uploads(&edge, 10, Duration::from_secs(10)).await, "a fifth of it");
    assert!(edge.refused("request-timeout") >= 1);
    edge.wait_for_log("slower than body_bytes_per_s_min", PATIENCE);
    // A phone in a lift, twice.
    let mut client = Raw::open(&edge, HOST).await;
    client.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 6000\r\n\r\n")).await;
    for _ in 0..3 {
        client.send("x".repeat(2000)).await;
        sleep(Duration::from_millis(700)).await;
    }
    client.response().await.assert_apps(200, "ok");
    // Without a rate any byte will do.
    let (edge, _app) = edge_with(|e| e.limits("stall_timeout = \"1s\"\nbody_bytes_per_s_min = 0")).await;
    assert!(uploads(&edge, 1, Duration::from_secs(3)).await);
}

/// An app that never stops sending, in a response and on a WebSocket.
async fn endless() -> Upstream {
    Upstream::scripted(|mut connection: Connection| async move {
        let request = connection.request().await.unwrap();
        let is_websocket = request.head.contains("websocket");
        connection.send(if is_websocket { SWITCHING } else { "HTTP/1.1 200 OK\r\n\r\n" }).await;
        let piece = if is_websocket { server_frame(BINARY, true, &[7; 8192]) } else { vec![7; 8192] };
        while connection.send(&piece).await {}
    })
    .await
}

/// Takes `bytes` each 100 ms off the socket, below TLS, for `time`; whether the edge bore it so long.
async fn is_borne(edge: &Edge, app: &Upstream, request: String, bytes: usize, time: Duration) -> bool {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8 * 1024).unwrap();
    let stream = socket.connect(edge.https).await.unwrap();
    let connector = TlsConnector::from(Arc::new(client_config(&edge.desk().ca.pem)));
    let stream = connector.connect(ServerName::try_from(HOST).unwrap(), stream).await.unwrap();
    let (index, start) = (app.connections(), Instant::now());
    let mut client = Raw::from(stream);
    client.send(request).await;
    client.head().await;
    let (mut socket, _) = client.stream.into_inner();
    let mut taken = vec![0; bytes];
    while start.elapsed() < time {
        match timeout(Duration::from_millis(100), socket.read_exact(&mut taken)).await {
            Ok(Err(_)) => return false,
            _ => sleep(Duration::from_millis(100)).await,
        }
        // What the app still sends or not tells as much: the edge ends its request with the client's session.
        if app.records().get(index).is_some_and(|record| record.closed) {
            return false;
        }
    }
    let mut rest = vec![0; 1 << 20];
    while let Ok(read) = timeout(Duration::from_millis(200), socket.read(&mut rest)).await {
        match read {
            Ok(0) | Err(_) => return false,
            Ok(_) if start.elapsed() > time + Duration::from_secs(1) => return true,
            Ok(_) => {}
        }
    }
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_responses_or_messages_slower_than_the_rate_is_cut() {
    // Each 100 ms. The client's kernel asks for more only when its buffer of 16 KiB is almost empty: with much less,
    // a busy machine needs longer than the stall timeout for that.
    const PIECE_BYTES: usize = 4000;
    // An app for each: `is_borne` counts its connections.
    let (app, other_app) = (endless().await, endless().await);
    let edge_of = |app: &Upstream, rate: &str| {
        let limits = format!(
            "stall_timeout = \"3s\"\nbody_bytes_per_s_min = {rate}\nsocket_buffer_bytes = \"16KiB\"\ntls_buffer_bytes = \"16KiB\""
        );
        Edge::certified_for(&[HOST]).site(&[HOST], app).limits(&limits).start()
    };
    let (strict, mild) = (edge_of(&app, "\"256KiB\""), edge_of(&other_app, "1000"));
    let get = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let mut cut = 0;
    for request in [get, upgrade(HOST, "/", "")] {
        let time = Duration::from_secs(9);
        let (slow, fine) = tokio::join!(
            is_borne(&strict, &app, request.clone(), PIECE_BYTES, Duration::from_secs(20)),
            is_borne(&mild, &other_app, request.clone(), PIECE_BYTES, time),
        );
        assert!(!slow, "40 kB/s where 256 KiB/s are asked for: {request}");
        cut += 1;
        wait_refused(&strict, "write-stall", cut).await;
        assert!(fine, "40 kB/s where 1 kB/s is asked for: {request}");
        assert_eq!(mild.refused("write-stall"), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_is_no_stalled_one_though_the_kernel_holds_megabytes_for_it() {
    const BODY_BYTES: usize = 40 << 20;
    const PIECE_BYTES: usize = 32 * 1024;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY_BYTES}\r\n\r\n");
    let response = [head.into_bytes(), vec![b'x'; BODY_BYTES]].concat();
    let upstream = Upstream::answering(response).await;
    let edge = Edge::certified_for(&[HOST])
        .site(&[HOST], &upstream)
        .limits("stall_timeout = \"3s\"\nsocket_buffer_bytes = 0")
        .start();
    let mut client = Raw::open(&edge, HOST).await;
    client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    client.head().await;
    // A third of the kernel's buffer, which it wants free before it asks for more, takes longer than the stall time.
    let pieces = 80;
    for _ in 0..pieces {
        client.exactly(PIECE_BYTES).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let rest = client.exactly(BODY_BYTES - pieces * PIECE_BYTES).await;
    assert!(rest.iter().all(|&byte| byte == b'x'));
    client.get(HOST, "/", "").await;
    edge.stop();
}

// --- descriptors -----------------------------------------------------------------------------------------------------

/// As many files as this process may have.
fn more_files() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_descriptors_accepting_pauses_and_the_admin_socket_answers() {
    let (edge, _app) = edge_with(|e| e.limits("workers = 2\nhandshake_timeout = \"2m\"")).await;
    let mut open = served_from(&edge, "127.0.0.1").await.unwrap();
    let (_, mut websocket) = upgraded_from(&edge, "127.0.0.1", "").await;
    let taken = edge.status()["process"]["open_files"].as_u64().unwrap();
    let mark = edge.log_mark();
    let process = Pid::from_raw(edge.pid().try_into().unwrap());
    let limit = getrlimit(Resource::Nofile);
    let low = Rlimit { current: Some(taken + 20), maximum: limit.maximum };
    prlimit(process, Resource::Nofile, low).unwrap();
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(edge.https).await.expect("the kernel's queue takes them"));
    }
    edge.wait_for_log_after(mark, "reason=exhausted", PATIENCE);
    for _ in 0..20 {
        let status = edge.status();
        assert!(status["refused"]["exhausted"].as_u64().unwrap() >= 1, "{status}");
        assert!(status["process"]["open_files"].as_u64().unwrap() > taken, "{status}");
    }
    open.get(HOST, "/", "").await.assert_apps(200, "ok");
    assert_echoes(&mut websocket).await;
    let mut waiting = TcpStream::connect(edge.https).await.unwrap();
    waiting.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let answer = timeout(Duration::from_millis(300), waiting.read(&mut [0; 9])).await;
    assert!(answer.is_err(), "it waits in the queue, neither served nor refused");
    // Room again, by itself.
    drop(silent);
    let answer = timeout(PATIENCE, waiting.read(&mut [0; 9])).await.expect("accepting goes on").unwrap();
    assert!(answer > 0);
    served_soon(&edge, "127.0.0.1").await;
    let lines = edge.log_mark() - mark;
    assert!(lines <= 3, "{lines} lines:\n{}", edge.log());
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bounds_of_response_heads_are_those_that_are_set() {
    let upstream = Upstream::scripted(async |mut connection: Connection| {
        while let Some(request) = connection.request().await {
            let wanted: Vec<usize> =
                request.head.split(['/', ' ']).filter_map(|word| word.parse().ok()).collect();
            let [bytes, fields] = wanted[..2] else { return };
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{}X: ", "X: y\r\n".repeat(fields - 2));
            let rest = "x".repeat(bytes.saturating_sub(head.len() + 4));
            connection.send(format!("{head}{rest}\r\n\r\n")).await;
        }
    })
    .await;
    let raised = "response_head_bytes_max = \"48KiB\"\nresponse_fields_max = 256";
    let lowered = "response_head_bytes_max = 4096\nresponse_fields_max = 16";
    for (limits, bytes, fields) in [(raised, 48 * 1024, 256), (lowered, 4096, 16)] {
        let edge = Edge::certified_for(&[HOST]).site(&[HOST], &upstream).limits(limits).start();
        for (bytes, fields, status) in
            [(bytes, 3, 200), (bytes + 1, 3, 502), (200, fields, 200), (200, fields + 1, 502)]
        {
            let mut client = Raw::open(&edge, HOST).await;
            let answer = client.get(HOST, &format!("/{bytes}/{fields}"), "").await;
            assert_eq!(answer.status, status, "{bytes} bytes, {fields} fields: {limits}");
            let code = (status == 502).then_some("upstream_head_too_large");
            assert_eq!(answer.field("sanedge-error"), code);
        }
        let line = edge.wait_for_log("upstream_head_too_large", PATIENCE);
        assert!(line.contains("response_head_bytes_max"), "{line}");
        edge.stop();
    }
}
