//! X25519MLKEM768 with clients of every kind: which get it, that none is asked for it unasked, and what `status` and metrics count.
//! The page of the demo negotiates it with Chromium (demo_browser.rs); hellos with odd shares are in tls_hellos.rs.

mod client;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::crypto::ring::kx_group::{SECP256R1, SECP384R1, X25519};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::{HandshakeKind, NamedGroup, ProtocolVersion};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use client::X25519MLKEM768;

use crate::support::HOST;
use crate::support::edge::{Edge, PATIENCE, client_config_with, sanedge};
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
    Arc::new(client_config_with(provider(groups), &edge.desk().ca.pem))
}

fn provider(groups: Groups<'_>) -> CryptoProvider {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.kx_groups = groups.to_vec();
    provider
}

/// One exchange over a connection with TLS 1.3, which gives the client its tickets.
async fn exchange(edge: &Edge, config: Arc<rustls::ClientConfig>) -> std::io::Result<Got> {
    let tls = exchanged(edge, config).await?;
    let session = tls.get_ref().1;
    assert_eq!(session.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let group = session.negotiated_key_exchange_group().unwrap().name();
    Ok(Got(group, session.handshake_kind().unwrap()))
}

/// The same with any version: the connection at its end.
async fn exchanged(edge: &Edge, config: Arc<rustls::ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(edge.https).await?;
    let name = ServerName::try_from(HOST).unwrap();
    let mut tls = TlsConnector::from(config).connect(name, stream).await?;
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    tls.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    tls.read_to_string(&mut answer).await?;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(tls)
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

/// The samples of the metric of handshakes, without zeros: labels and value.
fn samples(edge: &Edge) -> Vec<String> {
    let mut socket = UnixStream::connect(edge.desk().path("admin.sock")).unwrap();
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    let samples = text.lines().filter_map(|line| line.strip_prefix("sanedge_tls_handshakes_total"));
    let mut samples: Vec<_> = samples.filter(|line| !line.ends_with(" 0")).map(str::to_owned).collect();
    samples.sort_unstable();
    samples
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_have_a_sample_for_each_version_group_and_resumption() {
    let (edge, _upstream) = edge("auto").await;
    let hybrid = config(&edge, &[X25519MLKEM768]);
    for config in [hybrid.clone(), hybrid, config(&edge, &[SECP256R1])] {
        exchange(&edge, config).await.unwrap();
    }
    // Without suites of TLS 1.3 it is a client of 1.2.
    let mut older = provider(&[SECP384R1]);
    older.cipher_suites.retain(|suite| suite.tls13().is_none());
    let older = Arc::new(client_config_with(older, &edge.desk().ca.pem));
    for _ in 0..2 {
        exchanged(&edge, older.clone()).await.unwrap();
    }
    let wanted = json!({ "1.3 x25519mlkem768": 1, "1.3 x25519mlkem768 resumed": 1, "1.3 secp256r1": 1, "1.2 secp384r1": 1, "1.2 none resumed": 1 });
    assert_counted(&edge, &wanted);
    let wanted = [
        r#"{version="1.2",group="none",resumed="true"} 1"#,
        r#"{version="1.2",group="secp384r1",resumed="false"} 1"#,
        r#"{version="1.3",group="secp256r1",resumed="false"} 1"#,
        r#"{version="1.3",group="x25519mlkem768",resumed="false"} 1"#,
        r#"{version="1.3",group="x25519mlkem768",resumed="true"} 1"#,
    ];
    assert_eq!(samples(&edge), wanted);
    edge.stop();
}

/// Doctor reports the group that a browser would get.
#[tokio::test(flavor = "multi_thread")]
async fn doctor_names_the_group_of_a_browsers_key_exchange() {
    for (choice, group) in [("auto", "X25519MLKEM768"), ("off", "X25519")] {
        let (edge, _upstream) = edge(choice).await;
        let (url, resolve, ca) = (edge.url(HOST), format!("{HOST}:127.0.0.1"), edge.desk().ca_file());
        let mut doctor = sanedge();
        doctor.args(["doctor", &url, "--resolve", &resolve, "--ca"]).arg(ca);
        let output = tokio::task::spawn_blocking(move || doctor.output().unwrap()).await.unwrap();
        let said = crate::support::edge::text(&output);
        let line =
            said.lines().find(|line| line.contains("TLS 1.3 and 1.2, ")).unwrap_or_else(|| panic!("{said}"));
        assert!(line.contains(&format!(" with {group}, ")), "{choice}: {line}");
        edge.stop();
    }
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
