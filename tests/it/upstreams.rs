//! Which server gets a request, over which connection, and what happens when it is not there.

use std::sync::Arc;
use std::time::Duration;

use crate::support::HOST;
use crate::support::edge::{Edge, PATIENCE};
use crate::support::raw::{Raw, Response, upgrade};
use crate::support::upstream::{Connection, OK, Upstream};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

fn edge(upstream: &Upstream) -> Edge {
    Edge::certified_for(&[HOST]).site(&[HOST], upstream).start()
}

fn named(name: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len())
}

async fn asked(client: &mut Raw, method: &str) -> Response {
    let length = if method == "POST" { "Content-Length: 2\r\n\r\nhi" } else { "\r\n" };
    client.send(format!("{method} / HTTP/1.1\r\nHost: {HOST}\r\n{length}")).await;
    client.response().await
}

/// Waits until nobody listens at `address`.
async fn wait_for_silence(address: &str) {
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

/// An upstream whose first connection answers one request, reads the next, says `last_words` and closes.
async fn dying(last_words: &'static str) -> Upstream {
    Upstream::scripted(move |mut connection| async move {
        let mut answered = 0;
        while connection.request().await.is_some() {
            if connection.index == 0 && answered == 1 {
                connection.send(last_words).await;
                return;
            }
            connection.send(OK).await;
            answered += 1;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_that_meets_a_dying_connection_is_sent_again_and_a_post_never() {
    for method in ["GET", "HEAD", "OPTIONS"] {
        let upstream = dying("").await;
        let edge = edge(&upstream);
        let mut client = Raw::open(&edge, HOST).await;
        asked(&mut client, "GET").await.assert_apps(200, "ok");
        client.send(format!("{method} /again HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
        assert_eq!(client.response_to(method).await.status, 200, "the client notices nothing");
        let again = format!("{method} /again HTTP/1.1\r\n");
        assert!(upstream.received(0).contains(&again) && upstream.received(1).contains(&again));
        assert_eq!(upstream.connections(), 2);
    }
    for method in ["POST", "PUT", "DELETE"] {
        let upstream = dying("").await;
        let edge = edge(&upstream);
        let mut client = Raw::open(&edge, HOST).await;
        asked(&mut client, "GET").await.assert_apps(200, "ok");
        asked(&mut client, method).await.assert_ours(502, "upstream_closed");
        assert_eq!((upstream.count(method), upstream.connections()), (1, 1), "sent once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_again_once_an_answer_has_begun_or_on_a_new_connection() {
    for begun in ["HTTP/1.1 200 O", "HTTP/1.1 103 Early Hints\r\n\r\n"] {
        let upstream = dying(begun).await;
        let edge = edge(&upstream);
        let mut client = Raw::open(&edge, HOST).await;
        asked(&mut client, "GET").await.assert_apps(200, "ok");
        let mut response = asked(&mut client, "GET").await;
        if response.status == 103 {
            response = client.response().await;
        }
        response.assert_ours(502, "upstream_closed");
        assert_eq!((upstream.count("GET"), upstream.connections()), (2, 1), "after {begun:?}");
    }
    let upstream = Upstream::scripted(async |mut connection| drop(connection.request().await)).await;
    let edge = edge(&upstream);
    asked(&mut Raw::open(&edge, HOST).await, "GET").await.assert_ours(502, "upstream_closed");
    assert_eq!(upstream.connections(), 1, "a new connection that dies is the server's answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_ended_or_spoke_while_idle_is_not_used() {
    for behind in ["", "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"] {
        let go = Arc::new(Semaphore::new(0));
        let done = Arc::new(Semaphore::new(0));
        let (gate, told) = (Arc::clone(&go), Arc::clone(&done));
        let upstream = Upstream::scripted(move |mut connection| {
            let (gate, told) = (Arc::clone(&gate), Arc::clone(&told));
            async move {
                connection.request().await.unwrap();
                connection.send(OK).await;
                gate.acquire().await.unwrap().forget();
                connection.send(behind).await;
                if behind.is_empty() {
                    connection.finish().await;
                }
                told.add_permits(1);
                connection.until_closed().await;
            }
        })
        .await;
        let edge = edge(&upstream);
        let mut client = Raw::open(&edge, HOST).await;
        for (n, method) in ["GET", "POST", "GET"].into_iter().enumerate() {
            asked(&mut client, method).await.assert_apps(200, "ok");
            assert_eq!(upstream.connections(), n + 1);
            go.add_permits(1);
            done.acquire().await.unwrap().forget();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_repeated_takes_a_fresh_connection() {
    let upstream = Upstream::answering(OK).await;
    let edge = edge(&upstream);
    let mut client = Raw::open(&edge, HOST).await;
    asked(&mut client, "GET").await.assert_apps(200, "ok");
    // Not to wait for something: being idle for longer than a second is what is tested.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    asked(&mut client, "POST").await.assert_apps(200, "ok");
    assert_eq!(upstream.connections(), 2, "the idle one is too old for a POST");
    assert_eq!(upstream.count("POST"), 1);
    asked(&mut client, "GET").await.assert_apps(200, "ok");
    assert_eq!(upstream.connections(), 2, "and good enough for a GET");
    // Node ends its own after 5 s: ours go before.
    upstream.wait_closed(0).await;
    upstream.wait_closed(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_most_pool_idle_max_connections_stay() {
    let go = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&go);
    let upstream = Upstream::scripted(move |mut connection| {
        let gate = Arc::clone(&gate);
        async move {
            while connection.request().await.is_some() {
                gate.acquire().await.unwrap().forget();
                connection.send(OK).await;
            }
        }
    })
    .await;
    let edge = Edge::certified_for(&[HOST])
        .site(&[HOST], &upstream)
        .limits("pool_idle_max = 2\nworkers = 1")
        .start();
    let mut clients = Vec::new();
    for n in 0..4 {
        let mut client = Raw::open(&edge, HOST).await;
        client.send(format!("GET /{n} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
        clients.push(client);
    }
    upstream.wait("four requests", |records| records.iter().filter(|r| r.bytes > 0).count() == 4).await;
    go.add_permits(4);
    for client in &mut clients {
        client.response().await.assert_apps(200, "ok");
    }
    upstream.wait("two closed", |records| records.iter().filter(|r| r.closed).count() >= 2).await;
    go.add_permits(2);
    for client in clients.iter_mut().take(2) {
        asked(client, "GET").await.assert_apps(200, "ok");
    }
    assert_eq!(upstream.connections(), 4, "the two that stayed are used");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_a_502_and_one_line_and_its_end_another() {
    let mut upstream = Upstream::answering(OK).await;
    let address = upstream.address.clone();
    let edge = edge(&upstream);
    let mut client = Raw::open(&edge, HOST).await;
    asked(&mut client, "GET").await.assert_apps(200, "ok");
    for outage in 1..=2 {
        drop(upstream);
        wait_for_silence(&address).await;
        for method in ["GET", "POST", "GET", "GET", "GET"] {
            let mut client = Raw::open(&edge, HOST).await;
            let response = asked(&mut client, method).await;
            response.assert_ours(502, "upstream_unreachable");
            assert!(!response.text().contains(&address), "no stranger learns it: {}", response.text());
            let page = Raw::open(&edge, HOST).await.get(HOST, "/", "Accept: text/html\r\n").await;
            assert_eq!((page.status, page.field("content-type")), (502, Some("text/html; charset=utf-8")));
            assert!(!page.text().contains(&address));
        }
        upstream = Upstream::scripted_at(&address, async |mut connection: Connection| {
            while connection.request().await.is_some() {
                connection.send(OK).await;
            }
        })
        .await;
        asked(&mut Raw::open(&edge, HOST).await, "GET").await.assert_apps(200, "ok");
        edge.wait_for_log("msg=\"upstream is back\"", PATIENCE);
        let log = edge.log();
        let down: Vec<&str> = log.lines().filter(|line| line.contains("upstream is down")).collect();
        assert_eq!(down.len(), outage, "once per outage:\n{log}");
        assert!(down[0].contains(&format!("upstream={address}")), "{}", down[0]);
        assert!(down[0].contains(&format!("host={HOST}")), "{}", down[0]);
        assert!(log.lines().filter(|line| line.contains(&address)).count() <= 2 * outage, "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_to_a_server_that_is_down_is_a_502() {
    let upstream = Upstream::answering(OK).await;
    let address = upstream.address.clone();
    let edge = edge(&upstream);
    drop(upstream);
    wait_for_silence(&address).await;
    let mut client = Raw::open(&edge, HOST).await;
    client.send(upgrade(HOST, "/", "") + "frames").await;
    client.response().await.assert_ours(502, "upstream_unreachable");
    client.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_connection_is_a_502_after_connect_timeout() {
    // A full backlog: the kernel answers no further SYN.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut held = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
    {
        held.push(stream);
    }
    let edge =
        Edge::certified_for(&[HOST]).site(&[HOST], address).limits("connect_timeout = \"300ms\"").start();
    let response = asked(&mut Raw::open(&edge, HOST).await, "GET").await;
    response.assert_ours(502, "upstream_unreachable");
    edge.wait_for_log("msg=\"upstream is down", PATIENCE);
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_servers_one_that_is_there_answers() {
    let (gone, there) = (Upstream::answering(OK).await, Upstream::answering(named("there")).await);
    let dead = gone.address.clone();
    drop(gone);
    wait_for_silence(&dead).await;
    for pair in [format!("{dead}\", \"{there}"), format!("{there}\", \"{dead}")] {
        let edge = Edge::certified_for(&[HOST]).site(&[HOST], pair).start();
        let mut client = Raw::open(&edge, HOST).await;
        for method in ["GET", "POST", "GET"] {
            asked(&mut client, method).await.assert_apps(200, "there");
        }
    }
    // A client's requests all meet the same server.
    let (one, two) = (Upstream::answering(named("one")).await, Upstream::answering(named("two")).await);
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], format!("{one}\", \"{two}")).start();
    let first = asked(&mut Raw::open(&edge, HOST).await, "GET").await;
    for _ in 0..10 {
        asked(&mut Raw::open(&edge, HOST).await, "GET").await.assert_apps(200, &first.body);
    }
}

/// A port that refuses connections, and that no other test gets meanwhile: `localhost` is both addresses.
fn kept_from_others(address: &str) -> Option<socket2::Socket> {
    let address: std::net::SocketAddr = address.parse().unwrap();
    let socket =
        socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None).unwrap();
    if address.is_ipv6() {
        socket.set_only_v6(true).unwrap();
    }
    socket.bind(&address.into()).ok().map(|()| socket)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_may_be_a_unix_socket_a_name_or_an_ipv6_address() {
    let folder = tempfile::tempdir().unwrap();
    let unix = Upstream::answering_unix(&folder.path().join("app.sock"), OK);
    let (four, _six_is_free) = loop {
        let four = Upstream::answering(OK).await;
        if let Some(kept) = kept_from_others(&format!("[::1]:{}", four.port())) {
            break (four, kept);
        }
    };
    let (six, _four_is_free) = loop {
        let six = Upstream::scripted_at("[::1]:0", async |mut connection: Connection| {
            while connection.request().await.is_some() {
                connection.send(OK).await;
            }
        })
        .await;
        if let Some(kept) = kept_from_others(&format!("127.0.0.1:{}", six.port())) {
            break (six, kept);
        }
    };
    let mut tried = 0;
    for address in [
        unix.address.clone(),
        six.address.clone(),
        format!("localhost:{}", four.port()),
        format!("localhost:{}", six.port()),
        format!("LocalHost:{}", six.port()),
    ] {
        let edge = Edge::certified_for(&[HOST]).site(&[HOST], &address).start();
        let mut client = Raw::open(&edge, HOST).await;
        for method in ["GET", "POST", "GET"] {
            asked(&mut client, method).await.assert_apps(200, "ok");
        }
        tried += 1;
    }
    assert_eq!(tried, 5);
    assert_eq!((unix.connections(), four.connections(), six.connections()), (1, 1, 3));
    drop(unix);
    std::fs::remove_file(folder.path().join("app.sock")).unwrap();
    let missing = format!("unix:{}", folder.path().join("app.sock").display());
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], &missing).start();
    let response = asked(&mut Raw::open(&edge, HOST).await, "GET").await;
    response.assert_ours(502, "upstream_unreachable");
    assert!(!response.text().contains("app.sock"), "no stranger learns it: {}", response.text());
    edge.wait_for_log("upstream is down", PATIENCE);
    assert!(edge.log().contains("app.sock"), "{}", edge.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_path_on_a_segment_boundary_chooses_the_server() {
    let (root, socket, deep) = (
        Upstream::answering(named("root")).await,
        Upstream::answering(named("socket")).await,
        Upstream::answering(named("deep")).await,
    );
    let routes = format!(
        "[[site.route]]\npath = \"/socket.io/\"\nupstream = [\"{socket}\"]\n\
        [[site.route]]\npath = \"/socket.io/deep\"\nupstream = [\"{deep}\"]\n"
    );
    let edge = Edge::certified_for(&[HOST]).site_with(&[HOST], &root, &routes).start();
    let mut client = Raw::open(&edge, HOST).await;
    for (target, name) in [
        ("/", "root"),
        ("/socket.io/?EIO=4", "socket"),
        ("/socket.io?EIO=4", "socket"),
        ("/socket.io/x", "socket"),
        ("/socket.iox", "root"),
        ("/Socket.io/", "root"),
        ("/socket.io/deep", "deep"),
        ("/socket.io/deep/er", "deep"),
        ("/socket.io/deeper", "socket"),
        ("/x?/socket.io/", "root"),
        ("https://recre.store/socket.io/x", "socket"),
        ("https://recre.store/?x", "root"),
    ] {
        client.get(HOST, target, "").await.assert_apps(200, name);
    }
    for target in
        ["/x/../socket.io/", "/%73ocket.io/", "//socket.io/", "/socket.io/%2e%2e/", "/x\\..\\socket.io/"]
    {
        client.get(HOST, target, "").await.assert_ours(400, "ambiguous_path");
    }
    assert!(root.received(0).contains("GET /?x HTTP/1.1\r\n"), "absolute-form becomes origin-form");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_without_a_route_is_a_404_of_ours() {
    let upstream = Upstream::answering(OK).await;
    let routes = format!("[[site.route]]\npath = \"/socket.io/\"\nupstream = [\"{upstream}\"]\n");
    let desk = Edge::certified_for(&[HOST]).site_with(&[HOST], "REMOVED", &routes).write();
    let toml = std::fs::read_to_string(desk.toml()).unwrap().replace("upstream = [\"REMOVED\"]\n", "");
    std::fs::write(desk.toml(), toml).unwrap();
    let edge = desk.serve();
    let mut client = Raw::open(&edge, HOST).await;
    client.get(HOST, "/", "").await.assert_ours(404, "unknown_path");
    client.get(HOST, "/socket.io/", "").await.assert_apps(200, "ok");
    client.get(HOST, "/other", "").await.assert_ours(404, "unknown_path");
    client.send(format!("HEAD /other HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    let response = client.response_to("HEAD").await;
    assert_eq!((response.status, response.field("sanedge-error")), (404, Some("unknown_path")));
    client.get(HOST, "/socket.io/", "").await.assert_apps(200, "ok");
    // A body that nobody reads would be the next head.
    client.send(format!("POST /other HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 2\r\n\r\nhi")).await;
    client.response().await.assert_ours(404, "unknown_path");
    client.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_host_has_its_own_servers() {
    let (one, two) = (Upstream::answering(named("one")).await, Upstream::answering(named("two")).await);
    let edge = Edge::certified_for(&["a.recre.store", "b.recre.store"])
        .certificate(&["*.recre.test"])
        .site(&["a.recre.store", "x.recre.test"], &one)
        .site(&["b.recre.store"], &two)
        .start();
    for (host, name) in [("a.recre.store", "one"), ("b.recre.store", "two"), ("x.recre.test", "one")] {
        Raw::open(&edge, host).await.get(host, "/", "").await.assert_apps(200, name);
    }
    assert!(edge.try_tls("y.recre.test").await.is_err(), "covered by a certificate and served by nobody");
}
