//! The main job without node: a Socket.IO server (socketioxide) behind, Engine.IO v4 clients over TLS in front.

use crate::support::SOCKET_HOST as HOST;
use crate::support::edge::Edge;
use crate::support::engineio::{
    Http, Poller, SHORT_PING, Socket, serve, serve_default, serve_websocket_only,
};
use crate::support::program::is_emulated;
use serde_json::json;
use socketioxide::SocketIo;
use tokio::net::TcpStream;

async fn edge() -> Edge {
    Edge::certified_for(&["recre.store", HOST]).site(&[HOST], serve_default().await).start()
}

#[tokio::test(flavor = "multi_thread")]
async fn websocket_only_echoes_and_acknowledges() {
    let edge = edge().await;
    let mut socket = Socket::open(&edge, HOST, "").await;
    socket.join("/").await;
    socket.send(r#"42["echo",{"n":1,"to":"there"}]"#).await;
    assert_eq!(socket.text().await, r#"42["echo",{"n":1,"to":"there"}]"#);
    socket.send(r#"4217["ask","who?"]"#).await;
    assert_eq!(socket.text().await, r#"4317["who?"]"#);
    socket.close().await;
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_namespace_of_the_story_gets_its_query() {
    let edge = edge().await;
    let mut socket = Socket::open(&edge, HOST, "&uuId=bd6bf4b7-d4f6-49e8-9b84-e2b53818289f").await;
    socket.join("/catch").await;
    assert_eq!(socket.text().await, r#"42/catch,["caught","bd6bf4b7-d4f6-49e8-9b84-e2b53818289f"]"#);

    let mut nobody = Socket::open(&edge, HOST, "").await;
    nobody.join("/catch").await;
    assert_eq!(nobody.text().await, "41/catch,");
}

#[tokio::test(flavor = "multi_thread")]
async fn polling_opens_posts_polls_and_upgrades_without_loss() {
    let edge = edge().await;
    let mut poller = Poller::open(&edge, HOST).await;
    poller.send("40").await;
    let joined = poller.events().await;
    assert!(joined[0].starts_with("40{\"sid\":"), "{joined:?}");
    poller.send(r#"42["echo","before"]"#).await;
    assert_eq!(poller.events().await, [r#"42["echo","before"]"#]);

    let mut socket = Socket::upgrade(&edge, HOST, &poller.sid).await;
    socket.send(r#"42["echo","after"]"#).await;
    assert_eq!(socket.text().await, r#"42["echo","after"]"#);
    socket.close().await;
    drop(poller);
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_waits_for_the_servers_event() {
    let server = serve(SocketIo::builder().ping_interval(SHORT_PING)).await;
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], server).start();
    let mut poller = Poller::open(&edge, HOST).await;
    for _ in 0..3 {
        assert_eq!(poller.poll().await, ["2"], "the heartbeat ends the poll");
        poller.send("3").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attachments_of_every_frame_length_come_back_whole() {
    let edge = edge().await;
    let mut socket = Socket::open(&edge, HOST, "").await;
    socket.join("/").await;
    let sizes = [1, 125, 126, 127, 65_535, 65_536, 65_537, 1 << 20, 5 << 20];
    for size in sizes {
        let sent: Vec<u8> = (0..size).map(|at: usize| (at % 251) as u8).collect();
        socket.send(r#"451-0["blob",{"_placeholder":true,"num":0}]"#).await;
        socket.send_binary(sent.clone()).await;
        assert_eq!(socket.text().await, r#"461-0[{"_placeholder":true,"num":0}]"#);
        assert!(socket.binary().await == sent, "{size} bytes came back changed");
    }
    socket.close().await;
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_megabyte_travels_by_polling_both_ways() {
    let edge = edge().await;
    let mut poller = Poller::open(&edge, HOST).await;
    poller.send("40").await;
    poller.events().await;
    let packet = format!("42{}", json!(["echo", "x".repeat(1 << 20)]));
    poller.send(&packet).await;
    assert!(poller.events().await == [packet], "the megabyte came back changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_apps_refusals_arrive_in_its_own_words() {
    let server = serve_websocket_only().await;
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], server).start();
    for transport in ["polling", "pigeon"] {
        let target = format!("/socket.io/?EIO=4&transport={transport}");
        let mut direct = Http::new(TcpStream::connect(server).await.unwrap());
        let app = direct.exchange("GET", HOST, &target, "").await;
        let through = Http::new(edge.tls(HOST).await).exchange("GET", HOST, &target, "").await;
        assert_eq!((app.status, app.text()), (through.status, through.text()));
        assert_eq!(through.status, 400);
        assert_eq!(through.field("sanedge-error"), None, "{}", through.head);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_clients_keep_their_messages_apart() {
    let edge = edge().await;
    // Emulated, the last of 200 comes after the server has given up on the first for want of its pong.
    let clients = if is_emulated() { 20 } else { 200 };
    let mut sockets = Vec::new();
    for _ in 0..clients {
        let mut socket = Socket::open(&edge, HOST, "").await;
        socket.join("/").await;
        sockets.push(socket);
    }
    for round in 0..3 {
        for (at, socket) in sockets.iter_mut().enumerate() {
            socket.send(&format!(r#"42["echo","{round} of {at}"]"#)).await;
        }
        for (at, socket) in sockets.iter_mut().enumerate() {
            assert_eq!(socket.text().await, format!(r#"42["echo","{round} of {at}"]"#));
        }
    }
    assert_eq!(sockets.len(), clients);
    drop(sockets);
    edge.stop();
}
