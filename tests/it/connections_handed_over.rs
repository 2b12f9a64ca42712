//! A restart hands over connections that wait for their client or for a response. The tests act as the service manager.

use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use rustls_pki_types::ServerName;
use sanedge::system::descriptor_store::{Manager, NAME};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::support::HOST;
use crate::support::edge::{Edge, EdgeBuilder, PATIENCE, client_config};
use crate::support::frames::{assert_echoes, echo};
use crate::support::raw::{Raw, upgrade};
use crate::support::service_manager::ServiceManager;
use crate::support::upstream::{OK, Upstream};

const OTHER: &str = "other.test";

fn site(upstream: &Upstream) -> EdgeBuilder {
    Edge::certified_for(&[HOST, OTHER]).site(&[HOST], upstream).site(&[OTHER], upstream)
}

fn get(host: &str, target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

/// Answers `/slow` once `answer` is notified, `/never` never, and anything else at once; each with its target.
async fn slow(answer: &Arc<Notify>) -> Upstream {
    let answer = Arc::clone(answer);
    Upstream::scripted(move |mut connection| {
        let answer = Arc::clone(&answer);
        async move {
            while let Some(head) = connection.head().await {
                let target = head.split(' ').nth(1).unwrap().to_owned();
                if target == "/never" {
                    return connection.until_closed().await;
                }
                if target.contains("slow") {
                    tokio::select! { () = answer.notified() => {}, () = connection.until_closed() => return }
                }
                let length = target.len();
                let body = if head.starts_with("HEAD") { "" } else { &target };
                connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}")).await;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_lives_through_restarts() {
    let Some(manager) = ServiceManager::ready("an_idle_connection_lives_through_restarts") else { return };
    let upstream = Upstream::answering(OK).await;
    let mut edge = manager.serve(site(&upstream).limits("workers = 2").write());
    let (mut used, mut unused) = (Raw::open(&edge, HOST).await, Raw::open(&edge, OTHER).await);
    assert_eq!(used.get(HOST, "/", "").await.status, 200);
    for round in 0..3 {
        edge = manager.restart(edge);
        edge.wait_for_log(
            "received open connections from the previous process websockets=0 others=2",
            PATIENCE,
        );
        let response = used.get(HOST, "/", "").await;
        assert_eq!(response.status, 200);
        assert_eq!(response.field("connection"), None, "it stays open");
        if round == 1 {
            assert_eq!(unused.get(OTHER, "/", "").await.status, 200);
        }
        assert_eq!(edge.status()["sessions"], 2, "{}", edge.status());
    }
    assert_eq!(edge.status()["counters"]["handshakes_total"], 0);
    // Stop and start is no restart.
    edge.signal(Signal::TERM);
    assert_eq!(used.rest().await, b"");
    assert_eq!(unused.rest().await, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_gets_its_response_from_the_next_process() {
    let Some(manager) = ServiceManager::ready("a_poll_gets_its_response_from_the_next_process") else {
        return;
    };
    let answer = Arc::new(Notify::new());
    let upstream = slow(&answer).await;
    let builder = Edge::certified_for(&[HOST]).site_with(&[HOST], &upstream, "access_log = true");
    let mut edge = manager.serve(builder.write());
    let mut client = Raw::open(&edge, HOST).await;
    for round in 0..3 {
        let target = format!("/slow/{round}");
        client.send(get(HOST, &target)).await;
        upstream.wait("the poll", |records| records.len() == round + 1).await;
        // The next request comes behind it before the restart, and one more behind that.
        client.send(get(HOST, "/next")).await;
        edge = manager.restart(edge);
        client.send(get(HOST, "/later")).await;
        assert!(client.is_silent(Duration::from_millis(100)).await, "it waits");
        answer.notify_one();
        for wanted in [target.as_str(), "/next", "/later"] {
            let response = client.response().await;
            response.assert_apps(200, wanted);
            assert_eq!(response.field("connection"), None);
        }
        let log = edge.log();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("slow")).collect();
        assert_eq!(lines.len(), 1, "{log}");
        assert!(!log.contains("handed-over"), "{log}");
    }
    // The poll's connection to the app went with it, and is not used for other requests.
    assert_eq!(edge.status()["counters"]["panics_total"], 0);
}

/// HEAD has no body, and HTTP/1.0 gets its response without chunks and with the end of the connection.
#[tokio::test(flavor = "multi_thread")]
async fn the_form_of_the_response_is_that_of_the_request() {
    let Some(manager) = ServiceManager::ready("the_form_of_the_response_is_that_of_the_request") else {
        return;
    };
    let answer = Arc::new(Notify::new());
    let upstream = Upstream::scripted({
        let answer = Arc::clone(&answer);
        move |mut connection| {
            let answer = Arc::clone(&answer);
            async move {
                let Some(head) = connection.head().await else { return };
                answer.notified().await;
                let body = if head.starts_with("HEAD") { "" } else { "5\r\nhello\r\n0\r\n\r\n" };
                connection.send(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}")).await;
                connection.until_closed().await;
            }
        }
    })
    .await;
    let edge = manager.serve(site(&upstream).write());
    let requests = [
        ("GET", "1.1", "", "5\r\nhello\r\n0\r\n\r\n"),
        ("HEAD", "1.1", "", ""),
        ("GET", "1.0", "", "hello"),
        ("GET", "1.1", "Connection: close\r\n", "5\r\nhello\r\n0\r\n\r\n"),
    ];
    let mut clients = Vec::new();
    for (at, (method, version, fields, _)) in requests.iter().enumerate() {
        let mut client = Raw::open(&edge, HOST).await;
        client.send(format!("{method} /slow HTTP/{version}\r\nHost: {HOST}\r\n{fields}\r\n")).await;
        upstream.wait("a request", |records| records.len() == at + 1).await;
        clients.push(client);
    }
    let edge = manager.restart(edge);
    for (mut client, (method, version, fields, body)) in clients.into_iter().zip(requests) {
        answer.notify_waiters();
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{method} {version}: {head}");
        assert_eq!(client.exactly(body.len()).await, body.as_bytes(), "{method} {version}");
        let closes = version == "1.0" || !fields.is_empty();
        assert_eq!(head.to_ascii_lowercase().contains("connection: close"), closes, "{head}");
        if closes {
            assert_eq!(client.rest().await, b"");
        }
    }
    drop(edge);
}

/// What either end does while no process has the connection.
#[tokio::test(flavor = "multi_thread")]
async fn what_happens_meanwhile_reaches_the_other_end() {
    let Some(manager) = ServiceManager::ready("what_happens_meanwhile_reaches_the_other_end") else { return };
    let answer = Arc::new(Notify::new());
    let upstream = slow(&answer).await;
    let mut edge = manager.serve(site(&upstream).write());
    let (mut answered, mut gone) = (Raw::open(&edge, HOST).await, Raw::open(&edge, HOST).await);
    answered.send(get(HOST, "/slow")).await;
    upstream.wait("the first", |records| records.len() == 1).await;
    gone.send(get(HOST, "/never")).await;
    upstream.wait("the second", |records| records.len() == 2).await;
    let mut half = Raw::open(&edge, HOST).await;
    let request = get(HOST, "/half");
    half.send(&request[..20]).await;
    edge.signal(Signal::USR1);
    edge.wait_until_ended();
    answer.notify_one();
    gone.vanish();
    half.send(&request[20..]).await;
    let edge = manager.start_again(edge);
    answered.response().await.assert_apps(200, "/slow");
    half.response().await.assert_apps(200, "/half");
    upstream.wait_closed(1).await;
    edge.wait_for_log("received open connections from the previous process websockets=0 others=3", PATIENCE);
}

/// A request whose response comes within 100 ms is answered by the process that has it, and a body on its way is not handed over.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_progress_ends_first() {
    let Some(manager) = ServiceManager::ready("a_request_in_progress_ends_first") else { return };
    let answer = Arc::new(Notify::new());
    let upstream = Upstream::scripted({
        let answer = Arc::clone(&answer);
        move |mut connection| {
            let answer = Arc::clone(&answer);
            async move {
                while let Some(request) = connection.head().await {
                    if request.starts_with("POST") {
                        let body = connection.exactly(4).await.unwrap_or_default();
                        connection
                            .send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()))
                            .await;
                        connection.send(body).await;
                        continue;
                    }
                    // The response has begun.
                    connection.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab").await;
                    answer.notified().await;
                    connection.send("cd").await;
                }
            }
        }
    })
    .await;
    let mut edge = manager.serve(site(&upstream).write());
    let (mut post, mut begun) = (Raw::open(&edge, HOST).await, Raw::open(&edge, HOST).await);
    post.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\n\r\nda")).await;
    upstream.wait("the post", |records| records.len() == 1).await;
    begun.send(get(HOST, "/")).await;
    begun.head().await;
    edge.signal(Signal::USR1);
    edge.wait_for_log("draining", PATIENCE);
    tokio::time::sleep(Duration::from_millis(300)).await;
    post.send("ta").await;
    post.response().await.assert_apps(200, "data");
    answer.notify_one();
    assert_eq!(begun.exactly(4).await, b"abcd");
    let log = edge.wait_until_ended();
    assert!(log.contains("websockets=0 others=2"), "both connections go on: {log}");
    let _edge = manager.start_again(edge);
    post.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\n\r\nmore")).await;
    post.response().await.assert_apps(200, "more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_has_sent_nothing_goes_on() {
    let Some(manager) = ServiceManager::ready("a_connection_that_has_sent_nothing_goes_on") else { return };
    let upstream = Upstream::answering(OK).await;
    let edge = manager.serve(site(&upstream).with_http().write());
    let silent = TcpStream::connect(edge.https).await.unwrap();
    let mut plain = Raw::open_plain(edge.http.unwrap()).await;
    while edge.status()["sessions"] != 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let edge = manager.restart(edge);
    let config = client_config(&edge.desk().ca.pem);
    let name = ServerName::try_from(HOST).unwrap();
    let tls = TlsConnector::from(Arc::new(config)).connect(name, silent).await.unwrap();
    assert_eq!(Raw::from(tls).get(HOST, "/", "").await.status, 200);
    assert_eq!(plain.get(HOST, "/", "").await.status, 308);
}

/// A host that is gone, and a route that is no longer for this client.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_whose_host_is_gone_is_closed() {
    let Some(manager) = ServiceManager::ready("a_connection_whose_host_is_gone_is_closed") else { return };
    let answer = Arc::new(Notify::new());
    let upstream = slow(&answer).await;
    let logged = Edge::certified_for(&[HOST, OTHER])
        .site_with(&[HOST], &upstream, "access_log = true")
        .site_with(&[OTHER], &upstream, "access_log = true");
    let edge = manager.serve(logged.write());
    let mut clients = Vec::new();
    for (host, waits) in [(OTHER, false), (OTHER, true), (HOST, true), (HOST, false)] {
        let mut client = Raw::open(&edge, host).await;
        if waits {
            let before = upstream.connections();
            client.send(get(host, "/slow")).await;
            upstream.wait("a request", |records| records.len() > before).await;
        }
        clients.push(client);
    }
    let toml = std::fs::read_to_string(edge.desk().toml()).unwrap();
    let at = toml.find(&format!("[[site]]\nhosts = [\"{OTHER}\"]")).unwrap();
    let toml = toml[..at].replace("upstream = ", "allow = [\"10.0.0.0/8\"]\nupstream = ");
    std::fs::write(edge.desk().toml(), toml).unwrap();
    edge.desk().bundled();
    let edge = manager.restart(edge);
    let mut last = clients.pop().unwrap();
    for client in &mut clients {
        assert_eq!(client.rest().await, b"", "closed with close_notify");
    }
    upstream.wait("their end", |records| records.iter().all(|record| record.closed)).await;
    for host in [HOST, OTHER] {
        edge.wait_for_log(&format!("host={host} "), PATIENCE);
    }
    let log = edge.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("/slow")).collect();
    assert!(lines.len() == 2 && lines.iter().all(|line| line.contains("outcome=not-served")), "{log}");
    // It is asked anew for each request.
    assert_eq!(last.get(HOST, "/", "").await.status, 403);
    drop(edge);
}

/// Without a store, connections end as at a stop.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_kept_is_closed() {
    for (what, room, answers) in [("no store", 0, true), ("no answer", 256, false)] {
        let Some(manager) = ServiceManager::ready("what_is_not_kept_is_closed") else { return };
        let answer = Arc::new(Notify::new());
        let upstream = slow(&answer).await;
        let mut edge = manager.serve(site(&upstream).write());
        let (mut idle, mut waits) = (Raw::open(&edge, HOST).await, Raw::open(&edge, HOST).await);
        waits.send(get(HOST, "/slow")).await;
        upstream.wait("the request", |records| records.len() == 1).await;
        assert_eq!(idle.get(HOST, "/", "").await.status, 200);
        assert_eq!(edge.status()["hands_over"], true);
        manager.store_at_most(room);
        manager.answer_barriers(answers);
        edge.signal(Signal::USR1);
        assert_eq!(idle.rest().await, b"", "{what}");
        waits.until_ended().await;
        let log = edge.wait_until_ended();
        assert!(log.contains("could not hand over all connections"), "{what}: {log}");
        assert!(log.contains("websockets=0 others=2"), "{what}: {log}");
        manager.answer_barriers(true);
    }
}

/// A session of Engine.IO stays with its upstream, and so does the key by which it is found.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_stay_with_their_upstream() {
    const SESSIONS: usize = 40;
    let Some(manager) = ServiceManager::ready("sessions_stay_with_their_upstream") else { return };
    let app = |name: &'static str| {
        Upstream::scripted(move |mut connection| async move {
            while let Some(head) = connection.head().await {
                let target = head.split(' ').nth(1).unwrap();
                let asked = target.split("&id=").nth(1).unwrap_or_default();
                let open = format!(
                    "0{{\"sid\":\"session-{asked}\",\"upgrades\":[],\"pingInterval\":25000,\"pingTimeout\":20000,\
                     \"maxPayload\":1000000}}"
                );
                let body =
                    if target.contains("sid=") { name.to_owned() } else { format!("{open} of {name}") };
                connection
                    .send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
                    .await;
            }
        })
    };
    let (one, two, three) = (app("one").await, app("two").await, app("three").await);
    let toml = format!("[[site]]\nhosts = [\"{HOST}\"]\nupstream = [\"{one}\", \"{two}\", \"{three}\"]\n");
    let mut edge = manager.serve(Edge::certified_for(&[HOST]).site_text(&toml).write());
    let mut client = Raw::open(&edge, HOST).await;
    let mut places = Vec::new();
    for id in 0..SESSIONS {
        let target = format!("/socket.io/?EIO=4&transport=polling&id={id}");
        let response = client.get(HOST, &target, "").await;
        places.push(response.text().rsplit(' ').next().unwrap().to_owned());
    }
    for name in ["one", "two", "three"] {
        assert!(places.iter().filter(|place| *place == name).count() >= SESSIONS / 3, "each has its turn");
    }
    for _ in 0..2 {
        edge = manager.restart(edge);
        for (id, place) in places.iter().enumerate() {
            let target = format!("/socket.io/?EIO=4&transport=polling&sid=session-{id}");
            assert_eq!(client.get(HOST, &target, "").await.text(), place, "session {id}");
        }
    }
    // Of an upstream that is gone, its sessions go where others go; the rest stay, in another order.
    let toml = std::fs::read_to_string(edge.desk().toml()).unwrap();
    let toml =
        toml.replace(&format!("\"{one}\", \"{two}\", \"{three}\""), &format!("\"{three}\", \"{one}\""));
    std::fs::write(edge.desk().toml(), toml).unwrap();
    edge.desk().bundled();
    let edge = manager.restart(edge);
    for (id, place) in places.iter().enumerate() {
        let target = format!("/socket.io/?EIO=4&transport=polling&sid=session-{id}");
        let found = client.get(HOST, &target, "").await;
        assert!(place == "two" || found.text() == place, "session {id}");
    }
    drop(edge);
}

/// Changes one byte of each record, each at another position. The digests are computed again, so only later checks can reject a record.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_changed_ends_its_own_connection() {
    const PLACES: usize = 120;
    let Some(manager) = ServiceManager::ready("a_record_that_was_changed_ends_its_own_connection") else {
        return;
    };
    let answer = Arc::new(Notify::new());
    let upstream = slow(&answer).await;
    let builder = Edge::certified_for(&[HOST]).site_with(&[HOST], &upstream, "access_log = true");
    let mut edge = manager.serve(builder.limits("address_sessions_max = 1000").write());
    let mut clients = Vec::new();
    for at in 0..=PLACES {
        let mut client = Raw::open(&edge, HOST).await;
        if at % 2 == 0 {
            client.send(get(HOST, "/slow")).await;
        }
        clients.push(client);
    }
    upstream.wait("the requests", |records| records.len() == PLACES / 2 + 1).await;
    edge.signal(Signal::USR1);
    edge.wait_until_ended();
    let stored = Manager::at(manager.address().as_os_str().as_bytes()).unwrap();
    let mut sessions = stored.take(manager.held(NAME)).sessions;
    assert_eq!(sessions.len(), PLACES + 1);
    for (at, session) in sessions.iter_mut().enumerate().take(PLACES) {
        // The positions cover the record twice, with a different bit changed each time.
        let places = session.record.len();
        let byte = &mut session.record[at * places * 2 / PLACES % places];
        *byte ^= if at < PLACES / 2 { 0x01 } else { 0x80 };
    }
    assert_eq!(stored.store(sessions, u64::MAX).sessions, PLACES + 1);
    let edge = manager.start_again(edge);
    edge.wait_for_log("received open connections from the previous process", PATIENCE);
    for _ in 0..=PLACES / 2 {
        answer.notify_one();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut living = 0;
    for (at, client) in clients.iter_mut().enumerate() {
        // Either the response is right or the connection ends.
        if at % 2 != 0 {
            let _ = client.try_send(get(HOST, "/fast").as_bytes()).await;
        }
        let mut answer = [0; 12];
        let read =
            timeout(PATIENCE, client.stream.read_exact(&mut answer)).await.expect("it answers or ends");
        living += usize::from(read.is_ok() && answer == *b"HTTP/1.1 200");
    }
    assert!((1..PLACES).contains(&living), "{living} go on");
    assert_eq!(edge.status()["counters"]["panics_total"], 0);
}

/// Where the store has room for some sessions only, WebSockets come first.
#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_do_not_take_the_room_of_websockets() {
    const WEBSOCKETS: usize = 60;
    const OTHERS: usize = 200;
    let test = "idle_connections_do_not_take_the_room_of_websockets";
    let Some(manager) = ServiceManager::ready(test) else { return };
    let upstream = Upstream::switching(echo).await;
    let builder = Edge::certified_for(&[HOST]).site(&[HOST], &upstream);
    let mut edge = manager.serve(builder.limits("address_sessions_max = 1000").write());
    let mut silent = Vec::new();
    for _ in 0..OTHERS {
        silent.push(TcpStream::connect(edge.https).await.unwrap());
    }
    let mut websockets = Vec::new();
    for _ in 0..WEBSOCKETS {
        let mut client = Raw::open(&edge, HOST).await;
        client.send(upgrade(HOST, "/", "")).await;
        client.head().await;
        websockets.push(client);
    }
    // One message has 253 sockets: all of the WebSockets' 120, and 133 others.
    manager.store_at_most(1);
    edge.signal(Signal::USR1);
    let log = edge.wait_until_ended();
    assert!(log.contains("websockets=60 others=133 parcels=1"), "{log}");
    assert!(log.contains("websockets=0 others=67"), "{log}");
    let _edge = manager.start_again(edge);
    for client in &mut websockets {
        assert_echoes(client).await;
    }
}
