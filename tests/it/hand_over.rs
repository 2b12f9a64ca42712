//! A restart hands open WebSockets over to the next process. The tests act as the service manager.

use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::CipherSuite;
use rustls::crypto::{CryptoProvider, ring};
use rustls_pki_types::ServerName;
use sanedge::system::descriptor_store::{Manager, NAME};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::support::HOST;
use crate::support::edge::{Edge, EdgeBuilder, PATIENCE, client_config_with};
use crate::support::frames::{assert_echoes, client_frame, echo, frame, server_frame};
use crate::support::raw::{Raw, upgrade};
use crate::support::service_manager::ServiceManager;
use crate::support::upstream::{OK, SWITCHING, Upstream};
use rustix::process::Signal;

const OTHER: &str = "other.test";

fn site(upstream: &Upstream) -> EdgeBuilder {
    Edge::certified_for(&[HOST, OTHER]).site(&[HOST], upstream).site(&[OTHER], upstream)
}

async fn websocket(edge: &Edge, host: &str) -> Raw {
    let mut client = Raw::open(edge, host).await;
    client.send(upgrade(host, "/", "")).await;
    client.head().await;
    assert_echoes(&mut client).await;
    client
}

/// With this suite alone.
async fn websocket_with(edge: &Edge, suite: CipherSuite) -> Raw {
    let mut provider: CryptoProvider = ring::default_provider();
    provider.cipher_suites.retain(|known| known.suite() == suite);
    let config = client_config_with(provider, &edge.desk().ca.pem);
    let stream = TcpStream::connect(edge.https).await.unwrap();
    let name = ServerName::try_from(HOST).unwrap();
    let mut client = Raw::from(TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap());
    client.send(upgrade(HOST, "/", "")).await;
    client.head().await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_of_every_suite_live_through_restarts() {
    let Some(manager) = ServiceManager::ready("websockets_of_every_suite_live_through_restarts") else {
        return;
    };
    let upstream = Upstream::switching(echo).await;
    let mut edge = manager.serve(site(&upstream).write());
    let mut clients = Vec::new();
    for suite in ring::ALL_CIPHER_SUITES {
        let rsa = format!("{:?}", suite.suite()).contains("_RSA_");
        if !rsa {
            clients.push(websocket_with(&edge, suite.suite()).await);
        }
    }
    assert_eq!(clients.len(), 6);
    for round in 0..3 {
        for client in &mut clients {
            // Half of a frame comes before the restart, and half behind it.
            let message = client_frame(2, true, &[round; 70]);
            client.send(&message[..20]).await;
        }
        edge = manager.restart(edge);
        edge.wait_for_log(
            "received open connections from the previous process websockets=6 others=0",
            PATIENCE,
        );
        for client in &mut clients {
            let message = client_frame(2, true, &[round; 70]);
            client.send(&message[20..]).await;
            assert_eq!(frame(client).await.payload, [round; 70]);
            assert_echoes(client).await;
        }
        assert_eq!(edge.status()["counters"]["websockets_open"], 6);
        assert_eq!(edge.status()["hands_over"], true);
    }
    assert_eq!(upstream.connections(), 6);
    // Stop and start is no restart.
    edge.signal(Signal::TERM);
    for client in &mut clients {
        assert_eq!(frame(client).await.close().0, 1001);
    }
    edge.wait_until_ended();
}

/// If the hand-over fails, each WebSocket gets Close 1012 and the process ends.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_service_manager_does_not_keep_gets_a_close() {
    let test = "what_the_service_manager_does_not_keep_gets_a_close";
    for (what, room, answers) in [("no store", 0, true), ("no answer", 256, false)] {
        let Some(manager) = ServiceManager::ready(test) else { return };
        let upstream = Upstream::switching(echo).await;
        let edge = manager.serve(site(&upstream).write());
        let mut client = websocket(&edge, HOST).await;
        assert_eq!(edge.status()["hands_over"], true, "it had room at the start");
        manager.store_at_most(room);
        manager.answer_barriers(answers);
        edge.signal(Signal::USR1);
        assert_eq!(frame(&mut client).await.close().0, 1012, "{what}");
        client.send(client_frame(8, true, &1012_u16.to_be_bytes())).await;
        assert_eq!(client.rest().await, b"", "{what}");
        let log = edge.ended();
        assert!(log.contains("could not hand over all connections; the rest are closed"), "{what}: {log}");
        manager.answer_barriers(true);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_are_those_of_the_new_bundle() {
    let Some(manager) = ServiceManager::ready("the_rules_are_those_of_the_new_bundle") else { return };
    let upstream = Upstream::switching(echo).await;
    let edge = manager.serve(site(&upstream).limits("workers = 2").write());
    let (mut stays, mut goes) = (websocket(&edge, HOST).await, websocket(&edge, OTHER).await);
    // A host less, a worker less, and smaller frames.
    let toml = std::fs::read_to_string(edge.desk().toml()).unwrap();
    let at = toml.find(&format!("[[site]]\nhosts = [\"{OTHER}\"]")).unwrap();
    let behind = toml[at..].find("\n[limits]").map_or("", |behind| &toml[at + behind..]);
    let toml = [&toml[..at], behind].concat().replace("workers = 2", "workers = 1");
    let toml = toml.replace("upstream = ", "frame_bytes_max = 200\nupstream = ");
    std::fs::write(edge.desk().toml(), toml).unwrap();
    edge.desk().bundled();
    let edge = manager.restart(edge);
    assert_eq!(frame(&mut goes).await.close().0, 1001);
    assert_echoes(&mut stays).await;
    assert_eq!(edge.status()["workers"], 1);
    stays.send(client_frame(2, true, &[1; 200])).await;
    assert_eq!(frame(&mut stays).await.payload, [1; 200]);
    stays.send(client_frame(2, true, &[1; 201])).await;
    assert_eq!(frame(&mut stays).await.close().0, 1009);
}

/// Where nothing keeps sessions, a restart is a drain.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_store_the_edge_knows_at_its_start() {
    let test = "without_a_store_the_edge_knows_at_its_start";
    let Some(manager) = ServiceManager::ready(test) else { return };
    manager.store_at_most(0);
    let upstream = Upstream::switching(echo).await;
    let edge = manager.serve(site(&upstream).write());
    assert_eq!(edge.status()["hands_over"], false);
    let mut client = websocket(&edge, HOST).await;
    edge.signal(Signal::USR1);
    assert_eq!(frame(&mut client).await.close().0, 1012);
    assert_eq!(manager.stored(), [""; 0]);
}

/// A second signal ends the process, whatever the first has begun.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    let Some(manager) = ServiceManager::ready("a_second_signal_ends_it_at_once") else { return };
    let upstream = Upstream::switching(echo).await;
    let edge = manager.serve(site(&upstream).write());
    let mut client = websocket(&edge, HOST).await;
    manager.answer_barriers(false);
    edge.signal(Signal::USR1);
    manager.wait_for("FDNAME=sessions");
    edge.signal(Signal::TERM);
    edge.wait_for_log("ended at once by a second signal", PATIENCE);
    // The service manager has the session: without it, its sockets are closed.
    assert!(!manager.stored().is_empty());
    drop(manager);
    let _ = client.try_send(b"x").await;
    client.until_ended().await;
}

/// Bytes that either side has not taken yet go on with the session.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_late_gets_all_of_it() {
    const MESSAGES: usize = 400;
    let Some(manager) = ServiceManager::ready("a_client_that_reads_late_gets_all_of_it") else { return };
    let upstream = Upstream::switching(|mut connection| async move {
        for number in 0..MESSAGES {
            let mut message = vec![0; 20_000];
            message[..8].copy_from_slice(&number.to_be_bytes());
            if !connection.send(server_frame(2, true, &message)).await {
                return;
            }
        }
        echo(connection).await;
    })
    .await;
    let edge = manager.serve(site(&upstream).write());
    let mut client = Raw::open(&edge, HOST).await;
    client.send(upgrade(HOST, "/", "")).await;
    client.head().await;
    // It reads nothing until the edge reads nothing of the app either.
    let sent = || edge.status()["traffic"]["sent_bytes"].as_u64().unwrap();
    let mut before = u64::MAX;
    while before != sent() {
        before = sent();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(before < (MESSAGES * 20_000) as u64, "all of it was taken");
    let edge = manager.restart(edge);
    for number in 0..MESSAGES {
        let message = frame(&mut client).await;
        assert_eq!(message.payload[..8], number.to_be_bytes());
        assert_eq!(message.payload.len(), 20_000);
    }
    assert_echoes(&mut client).await;
    drop(edge);
}

/// An exchange has two seconds to end, and WebSockets go on meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_ends_first_and_websockets_go_on_meanwhile() {
    let test = "an_exchange_ends_first_and_websockets_go_on_meanwhile";
    let Some(manager) = ServiceManager::ready(test) else { return };
    let answer = Arc::new(Notify::new());
    let app = Arc::clone(&answer);
    let upstream = Upstream::scripted(move |mut connection| {
        let answer = Arc::clone(&app);
        async move {
            while let Some(head) = connection.head().await {
                if head.contains("websocket") {
                    connection.send(SWITCHING).await;
                    return echo(connection).await;
                }
                answer.notified().await;
                connection.send(OK).await;
            }
        }
    })
    .await;
    let edge = manager.serve(site(&upstream).write());
    let mut socket = websocket(&edge, HOST).await;
    let mut request = Raw::open(&edge, HOST).await;
    request.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    upstream.wait("the request", |records| records.len() == 2).await;
    edge.signal(Signal::USR1);
    edge.wait_for_log("draining", PATIENCE);
    assert_echoes(&mut socket).await;
    answer.notify_one();
    assert_eq!(request.response().await.status, 200);
    let mut edge = edge;
    edge.wait_until_ended();
    let _edge = manager.start_again(edge);
    assert_echoes(&mut socket).await;
}

/// Whatever happens to the two ends while no process has the session.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_goes_meanwhile_ends_its_own_session() {
    let test = "an_end_that_goes_meanwhile_ends_its_own_session";
    let Some(manager) = ServiceManager::ready(test) else { return };
    let ends = Arc::new(Notify::new());
    let app = Arc::clone(&ends);
    let upstream = Upstream::switching(move |connection| {
        let (ends, is_second) = (Arc::clone(&app), connection.index == 1);
        async move {
            if is_second {
                let mut connection = connection;
                connection.send(server_frame(1, true, b"hello")).await;
                ends.notified().await;
                return;
            }
            echo(connection).await;
        }
    })
    .await;
    let mut edge = manager.serve(site(&upstream).write());
    let mut stays = websocket(&edge, HOST).await;
    let mut loses = Raw::open(&edge, HOST).await;
    loses.send(upgrade(HOST, "/", "")).await;
    loses.head().await;
    assert_eq!(frame(&mut loses).await.payload, b"hello");
    let mut closes = websocket(&edge, HOST).await;
    let vanishes = websocket(&edge, HOST).await;
    let mut floods = websocket(&edge, HOST).await;
    edge.signal(Signal::USR1);
    edge.wait_until_ended();
    ends.notify_one();
    closes.send(client_frame(8, true, &1000_u16.to_be_bytes())).await;
    vanishes.vanish();
    let message = client_frame(2, true, &[9; 60_000]);
    floods.send(&message).await;
    let edge = manager.start_again(edge);
    assert_eq!(loses.rest().await, b"");
    assert_eq!(frame(&mut closes).await.close().0, 1000);
    assert_eq!(frame(&mut floods).await.payload, [9; 60_000]);
    assert_echoes(&mut stays).await;
    edge.wait_for_log("received open connections from the previous process websockets=5 others=0", PATIENCE);
    let open = || edge.status()["counters"]["websockets_open"].as_u64().unwrap();
    let until = Instant::now() + PATIENCE;
    while open() > 2 {
        assert!(Instant::now() < until, "{} are open", open());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Changes one byte of each record, each at another position. The digests are computed again, so only later checks can reject a record.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_changed_ends_its_own_session() {
    const PLACES: usize = 150;
    let Some(manager) = ServiceManager::ready("a_record_that_was_changed_ends_its_own_session") else {
        return;
    };
    let upstream = Upstream::switching(echo).await;
    let mut edge = manager.serve(site(&upstream).limits("address_sessions_max = 1000").write());
    let mut clients = Vec::new();
    for _ in 0..=PLACES {
        clients.push(websocket(&edge, HOST).await);
    }
    edge.signal(Signal::USR1);
    edge.wait_until_ended();
    let stored = Manager::at(manager.address().as_os_str().as_bytes()).unwrap();
    let taken = stored.take(manager.held(NAME));
    assert_eq!(taken.sessions.len(), PLACES + 1);
    let mut sessions = taken.sessions;
    let (mut longest, mut whole) = (0, 0);
    for (at, session) in sessions.iter_mut().enumerate() {
        longest = longest.max(session.record.len());
        // The positions cover the record twice, with a different bit changed each time. The last record is unchanged.
        let places = session.record.len();
        match session.record.get_mut(at * places * 2 / PLACES % places).filter(|_| at < PLACES) {
            Some(byte) => *byte ^= if at < PLACES / 2 { 0x01 } else { 0x80 },
            None => whole += 1,
        }
    }
    assert!(whole == 1 && longest < 700, "{longest} bytes");
    assert_eq!(stored.store(sessions, u64::MAX).sessions, PLACES + 1);
    let edge = manager.start_again(edge);
    edge.wait_for_log("received open connections from the previous process", PATIENCE);
    let mut living = 0;
    for client in &mut clients {
        // Either the echo is correct or the connection ends.
        let _ = client.try_send(&client_frame(2, true, b"ping")).await;
        let mut answer = [0; 6];
        let read =
            timeout(PATIENCE, client.stream.read_exact(&mut answer)).await.expect("it answers or ends");
        living += usize::from(read.is_ok() && answer[2..] == *b"ping");
    }
    assert!((1..PLACES).contains(&living), "{living} go on");
    assert_eq!(edge.status()["counters"]["panics_total"], 0);
}
