//! X25519MLKEM768 with clients of every kind: which get it, that none is asked for it unasked, and what `status` and metrics count.
//! The page of the demo negotiates it with Chromium (demo_browser.rs); hellos with odd shares are in tls_hellos.rs.

mod client;

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::crypto::SupportedKxGroup;
use rustls::crypto::ring::kx_group::{SECP256R1, SECP384R1, X25519};
use rustls::{HandshakeKind, NamedGroup, ProtocolVersion};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use client::X25519MLKEM768;

use crate::support::HOST;
use crate::support::edge::{Edge, PATIENCE, client_config_with};
use crate::support::node::{Interop, has, skip};
use crate::support::upstream::{Connection, Upstream};

type Groups<'a> = &'a [&'static dyn SupportedKxGroup];

/// What a client got.
#[derive(Debug, PartialEq)]
struct Got(NamedGroup, HandshakeKind);

/// An edge with `post_quantum` so, whose app answers once a connection.
async fn edge(choice: &str) -> (Edge, Upstream) {
    let upstream = Upstream::scripted(async |mut connection: Connection| {
        connection.request().await;
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
    })
    .await;
    let top = format!("post_quantum = \"{choice}\"");
    (Edge::certified_for(&[HOST]).top(&top).site(&[HOST], &upstream).start(), upstream)
}

fn config(edge: &Edge, groups: Groups<'_>) -> Arc<rustls::ClientConfig> {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.kx_groups = groups.to_vec();
    Arc::new(client_config_with(provider, &edge.desk().ca.pem))
}

/// One exchange over a connection, which gives the client its tickets.
async fn exchange(edge: &Edge, config: Arc<rustls::ClientConfig>) -> std::io::Result<Got> {
    let stream = TcpStream::connect(edge.https).await?;
    let name = ServerName::try_from(HOST).unwrap();
    let mut tls = TlsConnector::from(config).connect(name, stream).await?;
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    tls.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    tls.read_to_string(&mut answer).await?;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let session = tls.get_ref().1;
    assert_eq!(session.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let group = session.negotiated_key_exchange_group().unwrap().name();
    Ok(Got(group, session.handshake_kind().unwrap()))
}

/// Waits until `status` counts this, without zeros: a client may be done before the edge is.
fn assert_counted(edge: &Edge, wanted: &Value) {
    let until = Instant::now() + PATIENCE;
    loop {
        let mut kinds = edge.status()["tls_handshakes"].as_object().unwrap().clone();
        kinds.retain(|_, count| *count != 0);
        let found = Value::Object(kinds);
        if found == *wanted {
            return;
        }
        assert!(Instant::now() < until, "{found}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_a_share_gets_it_and_no_other_is_asked_for_one() {
    let (edge, _upstream) = edge("auto").await;
    let rows: [(Groups<'_>, NamedGroup); 6] = [
        (&[X25519MLKEM768], NamedGroup::X25519MLKEM768),
        (&[X25519MLKEM768, X25519], NamedGroup::X25519MLKEM768),
        // Of these the first alone has a share.
        (&[X25519, X25519MLKEM768], NamedGroup::X25519),
        (&[X25519], NamedGroup::X25519),
        (&[SECP256R1, X25519], NamedGroup::secp256r1),
        (&[SECP384R1, X25519MLKEM768], NamedGroup::secp384r1),
    ];
    for (groups, group) in rows {
        let got = exchange(&edge, config(&edge, groups)).await.unwrap();
        assert_eq!(got, Got(group, HandshakeKind::Full), "{groups:?}");
    }
    let wanted = json!({ "1.3 x25519mlkem768": 2, "1.3 x25519": 2, "1.3 secp256r1": 1, "1.3 secp384r1": 1 });
    assert_counted(&edge, &wanted);
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn prefer_asks_for_a_share_and_off_does_without() {
    let (edge_that_prefers, _upstream) = edge("prefer").await;
    let asked = Got(NamedGroup::X25519MLKEM768, HandshakeKind::FullWithHelloRetryRequest);
    for groups in [&[X25519, X25519MLKEM768][..], &[SECP256R1, X25519, X25519MLKEM768]] as [Groups<'_>; 2] {
        assert_eq!(exchange(&edge_that_prefers, config(&edge_that_prefers, groups)).await.unwrap(), asked);
    }
    let classical = exchange(&edge_that_prefers, config(&edge_that_prefers, &[X25519])).await.unwrap();
    assert_eq!(classical, Got(NamedGroup::X25519, HandshakeKind::Full));
    edge_that_prefers.stop();

    let (edge_without, _upstream) = edge("off").await;
    let both = exchange(&edge_without, config(&edge_without, &[X25519MLKEM768, X25519])).await.unwrap();
    assert_eq!(both, Got(NamedGroup::X25519, HandshakeKind::Full));
    let alone = exchange(&edge_without, config(&edge_without, &[X25519MLKEM768])).await.unwrap_err();
    assert!(alone.to_string().contains("HandshakeFailure"), "{alone}");
    assert_counted(&edge_without, &json!({ "1.3 x25519": 1 }));
    edge_without.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_session_exchanges_keys_anew() {
    let (edge, _upstream) = edge("auto").await;
    let hybrid = config(&edge, &[X25519MLKEM768, X25519]);
    let (full, resumed) =
        (exchange(&edge, hybrid.clone()).await.unwrap(), exchange(&edge, hybrid.clone()).await.unwrap());
    assert_eq!(full, Got(NamedGroup::X25519MLKEM768, HandshakeKind::Full));
    assert_eq!(resumed, Got(NamedGroup::X25519MLKEM768, HandshakeKind::Resumed));
    assert_counted(&edge, &json!({ "1.3 x25519mlkem768": 1, "1.3 x25519mlkem768 resumed": 1 }));
    let said = crate::support::edge::text(&edge.desk().ask(&["status"]));
    assert!(said.contains("1.3 x25519mlkem768 resumed") && !said.contains("secp256r1"), "{said}");
    edge.stop();
}

/// OpenSSL sends shares for X25519MLKEM768 and X25519 since version 3.5. Before, it knows nothing of the first.
#[test]
fn openssl_before_and_since_3_5() {
    let test = "openssl_before_and_since_3_5";
    let Some(interop) = Interop::ready(test) else { return };
    let Some(node) = interop.newer_node(test) else { return };
    if !has("openssl", "version") {
        return skip(test, "it needs openssl");
    }
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], "127.0.0.1:1").start();
    let clients = json!([
        {},
        { "ecdhCurve": "X25519MLKEM768" },
        { "ecdhCurve": "X25519MLKEM768:X25519" },
        { "ecdhCurve": "X25519:X25519MLKEM768" },
        { "ecdhCurve": "X25519" },
        { "maxVersion": "TLSv1.2" },
    ]);
    let ca = edge.desk().ca_file();
    let parameters = json!({ "port": edge.https.port(), "host": HOST, "ca": ca, "clients": clients });
    let said = interop.start(Command::new(node).args(["groups.mjs", &parameters.to_string()])).finish();
    let version = said[0]["version"].as_str().unwrap();
    assert!(version.starts_with("3.5."), "{version}");
    let protocols: Vec<_> = said.iter().filter_map(|said| said["protocol"].as_str()).collect();
    assert_eq!(protocols, ["TLSv1.3", "TLSv1.3", "TLSv1.3", "TLSv1.3", "TLSv1.3", "TLSv1.2"]);
    let mut wanted = json!({ "1.3 x25519mlkem768": 3, "1.3 x25519": 2, "1.2 x25519": 1 });
    assert_counted(&edge, &wanted);

    let mut older = Command::new("openssl");
    older.args([
        "s_client",
        "-connect",
        &edge.https.to_string(),
        "-servername",
        HOST,
        "-groups",
        "P-384:X25519",
    ]);
    older.args(["-verify_return_error", "-CAfile"]).arg(&ca).stdin(std::process::Stdio::null());
    let said = crate::support::edge::text(&older.output().unwrap());
    assert!(said.contains("TLSv1.3") && said.contains("Verify return code: 0"), "{said}");
    wanted["1.3 secp384r1"] = json!(1);
    assert_counted(&edge, &wanted);
    edge.stop();
}
