//! Open WebSockets outlive the process: at a restart the next one goes on with them. The service manager is the test.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustls::CipherSuite;
use rustls::crypto::{CryptoProvider, ring};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::HOST;
use crate::support::edge::{Edge, EdgeBuilder, PATIENCE, client_config_with};
use crate::support::frames::{assert_echoes, client_frame, echo, frame, server_frame};
use crate::support::raw::{Raw, upgrade};
use crate::support::service_manager::ServiceManager;
use crate::support::upstream::Upstream;
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
    let Some(manager) = ServiceManager::ready("websockets_of_every_suite_live_through_restarts") else { return };
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
        edge.wait_for_log("taken over from the process before websockets=6", PATIENCE);
        for client in &mut clients {
            let message = client_frame(2, true, &[round; 70]);
            client.send(&message[20..]).await;
            assert_eq!(frame(client).await.payload, [round; 70]);
            assert_echoes(client).await;
        }
        assert_eq!(edge.status()["counters"]["websockets_open"], 6);
    }
    assert_eq!(upstream.connections(), 6);
    // Stop and start is no restart.
    edge.signal(Signal::TERM);
    for client in &mut clients {
        assert_eq!(frame(client).await.close().0, 1001);
    }
    edge.wait_until_ended();
}
