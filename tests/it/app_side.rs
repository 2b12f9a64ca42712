//! What an app behind the edge may be like: authenticated by connection, behind TLS, on a link-local address, below a prefix.

use std::process::Command;
use std::sync::Arc;

use crate::support::HOST;
use crate::support::edge::{Edge, PATIENCE, text};
use crate::support::node::skip;
use crate::support::peers::free_address;
use crate::support::raw::{Raw, Response, upgrade};
use crate::support::upstream::{Connection, OK, SWITCHING, Upstream};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

fn edge(upstream: &Upstream) -> Edge {
    Edge::certified_for(&[HOST]).site(&[HOST], &upstream.address).start()
}

// --- authentication of connections ------------------------------------------------------------------------

/// An app that takes every request on a connection for the user who authenticated it, as IIS does (RFC 4559 §6). It answers
/// with the connection's number and its user.
async fn authenticates_connections(scheme: &'static str) -> Upstream {
    Upstream::scripted(move |mut connection: Connection| async move {
        let mut user = None;
        while let Some(request) = connection.request().await {
            let head = request.head.to_ascii_lowercase();
            let credentials = head.lines().find_map(|line| line.strip_prefix("authorization: ")).map(str::to_owned);
            let scheme_name = scheme.to_ascii_lowercase();
            match credentials.as_deref().and_then(|value| value.split_once(' ')) {
                Some((found, "one")) if *found == scheme_name => {
                    let again = format!(
                        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: {scheme} two\r\nContent-Length: 0\r\n\r\n"
                    );
                    connection.send(again).await;
                    continue;
                }
                Some((found, name)) if *found == scheme_name => user = Some(name.to_owned()),
                _ => {}
            }
            if head.contains("upgrade: websocket") {
                let switched = SWITCHING.replacen("\r\n\r\n", &format!("\r\nX-User: {user:?}\r\n\r\n"), 1);
                connection.send(switched).await;
                connection.until_closed().await;
                return;
            }
            let (status, body) = match &user {
                Some(name) => ("200 OK", format!("{} {name}", connection.index)),
                None if head.starts_with("get /public") => ("200 OK", format!("{} nobody", connection.index)),
                None => ("401 Unauthorized", String::new()),
            };
            let challenge =
                if user.is_none() { format!("WWW-Authenticate: {scheme}\r\n") } else { String::new() };
            let response =
                format!("HTTP/1.1 {status}\r\n{challenge}Content-Length: {}\r\n\r\n{body}", body.len());
            connection.send(response).await;
        }
    })
    .await
}

async fn with_credentials(client: &mut Raw, scheme: &str, credentials: &str) -> Response {
    client.get(HOST, "/", &format!("Authorization: {scheme} {credentials}\r\n")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_inherits_a_connection_that_another_authenticated() {
    for scheme in ["NTLM", "Negotiate"] {
        let upstream = authenticates_connections(scheme).await;
        // One worker, and so one pool, which everybody shares.
        let edge =
            Edge::certified_for(&[HOST]).site(&[HOST], &upstream.address).limits("workers = 1").start();
        let mut alice = Raw::open(&edge, HOST).await;
        assert_eq!(alice.get(HOST, "/", "").await.status, 401);
        assert_eq!(with_credentials(&mut alice, scheme, "one").await.status, 401);
        let response = with_credentials(&mut alice, scheme, "alice").await;
        assert_eq!(
            (response.status, response.body.as_slice()),
            (200, &b"0 alice"[..]),
            "three legs on one connection"
        );
        // Hers it stays, also without credentials: that is what such an app expects.
        assert_eq!(alice.get(HOST, "/", "").await.body, b"0 alice");
        let mut stranger = Raw::open(&edge, HOST).await;
        let response = stranger.get(HOST, "/", "").await;
        assert_eq!(response.status, 401, "{scheme}: {}", String::from_utf8_lossy(&response.body));
        assert_eq!(alice.get(HOST, "/", "").await.body, b"0 alice");
        // With her connection to the edge it ends.
        drop(alice);
        upstream.wait_closed(0).await;
        let mut later = Raw::open(&edge, HOST).await;
        assert_eq!(later.get(HOST, "/", "").await.status, 401);
        edge.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_only_challenged_is_not_pooled_either() {
    let upstream = authenticates_connections("NTLM").await;
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], &upstream.address).limits("workers = 1").start();
    let mut one = Raw::open(&edge, HOST).await;
    assert_eq!(one.get(HOST, "/", "").await.status, 401);
    let mut two = Raw::open(&edge, HOST).await;
    assert_eq!(two.get(HOST, "/", "").await.status, 401);
    assert_eq!(upstream.connections(), 2);
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_goes_over_the_connection_that_was_authenticated() {
    let upstream = authenticates_connections("NTLM").await;
    let edge = edge(&upstream);
    let mut alice = Raw::open(&edge, HOST).await;
    assert_eq!(with_credentials(&mut alice, "NTLM", "alice").await.status, 200);
    alice.send(upgrade(HOST, "/", "")).await;
    let response = alice.response().await;
    assert!(response.status == 101 && response.head.contains("X-User: Some(\"alice\")"), "{response:?}");
    assert_eq!(upstream.connections(), 1);
}

/// The healthy twin: what authenticates requests does not cost the pool.
#[tokio::test(flavor = "multi_thread")]
async fn other_schemes_leave_connections_in_the_pool() {
    let upstream = Upstream::scripted(|mut connection: Connection| async move {
        while connection.request().await.is_some() {
            let challenge = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"NTLM\"\r\nContent-Length: 0\r\n\r\n";
            connection.send(challenge).await;
        }
    })
    .await;
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], &upstream.address).limits("workers = 1").start();
    for _ in 0..3 {
        let mut client = Raw::open(&edge, HOST).await;
        assert_eq!(with_credentials(&mut client, "Basic", "TlRMTQ==").await.status, 401);
    }
    assert_eq!(upstream.connections(), 1);
    edge.stop();
}

// --- no response names an upstream ------------------------------------------------------------------------

async fn assert_hidden(edge: &Edge, upstream: &str, code: &str, status: u16) {
    for accept in ["application/json", "text/html"] {
        let mut client = Raw::open(edge, HOST).await;
        let response = client.get(HOST, "/", &format!("Accept: {accept}\r\n")).await;
        assert_eq!((response.status, response.field("sanedge-error")), (status, Some(code)), "{response:?}");
        let said = format!("{}{}", response.head, String::from_utf8_lossy(&response.body));
        let port = upstream.rsplit(':').next().unwrap();
        assert!(!said.contains(upstream) && !said.contains(port), "{said}");
        assert!(said.contains("sanedge status"), "who runs it is told where to look: {said}");
    }
    // Once a minute for each reason.
    edge.wait_for_log(upstream, PATIENCE);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_response_names_an_upstream_and_the_log_does() {
    let free = free_address().to_string();
    let down = Edge::certified_for(&[HOST]).site(&[HOST], &free).start();
    assert_hidden(&down, &free, "upstream_unreachable", 502).await;
    let status = crate::support::edge::sanedge()
        .args(["status", "--bundle"])
        .arg(down.desk().bundle_file())
        .output()
        .unwrap();
    assert!(text(&status).contains(&free), "{}", text(&status));

    let closing = Upstream::scripted(async |mut connection| drop(connection.request().await)).await;
    assert_hidden(&edge(&closing), &closing.address, "upstream_closed", 502).await;
    let malformed = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n").await;
    assert_hidden(&edge(&malformed), &malformed.address, "upstream_malformed", 502).await;
    let silent = Upstream::scripted(async |mut connection| connection.until_closed().await).await;
    let slow = Edge::certified_for(&[HOST])
        .site_with(&[HOST], &silent.address, "response_timeout = \"200ms\"")
        .start();
    assert_hidden(&slow, &silent.address, "upstream_timeout", 504).await;
}

// --- TLS at the app ---------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_speaks_tls_is_recognised_by_its_alert() {
    // As OpenSSL, rustls and Schannel end the handshake: record and description differ; also byte by byte.
    for (alert, pieces) in [
        (&[0x15, 3, 1, 0, 2, 2, 70][..], 1),
        (&[0x15, 3, 3, 0, 2, 2, 10], 1),
        (&[0x15, 3, 3, 0, 2, 2, 22], 7),
    ] {
        let upstream = Upstream::scripted(move |mut connection: Connection| async move {
            connection.request().await;
            for piece in alert.chunks(alert.len() / pieces) {
                connection.send(piece).await;
                tokio::task::yield_now().await;
            }
        })
        .await;
        let edge = edge(&upstream);
        assert_hidden(&edge, &upstream.address, "upstream_tls", 502).await;
        edge.wait_for_log("plain port as `upstream`", PATIENCE);
        edge.stop();
    }
    // Twins: what begins otherwise is malformed, and what ends without a word is closed, with a hint.
    let malformed = Upstream::scripted(async |mut connection| {
        connection.request().await;
        connection.send(b"\x16\x03\x01 GET\r\n\r\n").await;
    })
    .await;
    assert_hidden(&edge(&malformed), &malformed.address, "upstream_malformed", 502).await;
    let closing = Upstream::scripted(async |mut connection| drop(connection.request().await)).await;
    let edge = edge(&closing);
    assert_hidden(&edge, &closing.address, "upstream_closed", 502).await;
    edge.wait_for_log("does it expect TLS there?", PATIENCE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_tls_server_is_recognised() {
    let ca = crate::support::certs::Ca::new("app CA");
    let issued = ca.issue(&["localhost"]);
    let chain = vec![CertificateDer::from_pem_slice(issued.chain_pem.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let accepting = acceptor.accept(stream);
            tokio::spawn(async move { drop(accepting.await) });
        }
    });
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], &address).start();
    assert_hidden(&edge, &address, "upstream_tls", 502).await;
    {
        let doctor = crate::support::edge::sanedge()
            .args(["doctor", "--json", &format!("http://{address}"), "--upstream", &address])
            .output()
            .unwrap();
        assert!(text(&doctor).contains("\"app-tls\""), "{}", text(&doctor));
    }
}

// --- a prefix that is stripped ----------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_stripped_prefix_is_the_one_change_to_a_target() {
    let root = Upstream::answering(OK).await;
    let game = Upstream::answering(OK).await;
    let routes =
        format!("[[site.route]]\npath = \"/game/\"\nstrip_prefix = true\nupstream = [\"{}\"]", game.address);
    let edge =
        Edge::certified_for(&[HOST]).site_with(&[HOST], &root.address, &routes).limits("workers = 1").start();
    let mut client = Raw::open(&edge, HOST).await;
    let mut sent = 0;
    for (target, expected) in [
        ("/game/", "/"),
        ("/game", "/"),
        ("/game?x=/game/", "/?x=/game/"),
        ("/game/?", "/?"),
        ("/game/socket.io/?EIO=4&transport=polling", "/socket.io/?EIO=4&transport=polling"),
        ("/game/a%2Fb//c?q=%zz//", "/a%2Fb//c?q=%zz//"),
        ("https://recre.store/game/x?y", "/x?y"),
        ("https://recre.store/game", "/"),
    ] {
        client.get(HOST, target, "").await.assert_apps(200, "ok");
        let all: String = (0..game.connections()).map(|at| game.received(at)).collect();
        let last = all.rsplit("GET ").next().unwrap();
        assert!(last.starts_with(&format!("{expected} HTTP/1.1\r\n")), "{target}: {all}");
        sent += 1;
    }
    assert_eq!((game.count("GET"), root.count("GET")), (sent, 0));
    let shown = crate::support::edge::sanedge().arg("show").arg(edge.desk().bundle_file()).output().unwrap();
    assert!(text(&shown).contains("/game/ (stripped)"), "{}", text(&shown));
    for target in
        ["/game//evil", "/game/..", "/game/%2fevil", "/game/.//evil", "/game/a/..//evil", "/game/%5cevil"]
    {
        let response = client.get(HOST, target, "").await;
        response.assert_ours(400, "ambiguous_path");
    }
    // The twin without it: nothing changes.
    client.get(HOST, "/games//x?y", "").await.assert_apps(200, "ok");
    assert!(root.received(0).contains("GET /games//x?y HTTP/1.1\r\n"), "{}", root.received(0));
    assert_eq!(game.count("GET"), sent, "nothing that was refused got through");
    edge.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_goes_without_the_prefix_too() {
    let upstream = Upstream::switching(async |mut connection| connection.until_closed().await).await;
    let routes = format!(
        "[[site.route]]\npath = \"/game\"\nstrip_prefix = true\nupstream = [\"{}\"]",
        upstream.address
    );
    let edge = Edge::certified_for(&[HOST]).site_with(&[HOST], "127.0.0.1:1", &routes).start();
    let mut client = Raw::open(&edge, HOST).await;
    client.send(upgrade(HOST, "/game/socket.io/?EIO=4&transport=websocket", "")).await;
    assert_eq!(client.response().await.status, 101);
    let received = upstream.received(0);
    assert!(received.starts_with("GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n"), "{received}");
}

// --- what sanedge.toml says -------------------------------------------------------------------------------

/// What `sanedge bundle` says of an upstream, and its exit code.
fn bundled(upstream: &str) -> (String, Option<i32>) {
    let output = Edge::certified_for(&[HOST]).site(&[HOST], upstream).write().bundle();
    (text(&output), output.status.code())
}

#[test]
fn a_url_as_upstream_is_refused_with_what_works() {
    for url in ["https://127.0.0.1:3000", "HTTPS://localhost", "wss://127.0.0.1:3000/socket.io/"] {
        let (said, code) = bundled(url);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("does not use TLS to the app") && said.contains("sudo ss -tlnp"), "{said}");
        assert!(!said.contains("Remove the scheme"), "that would be a 502 for ever: {said}");
    }
    for (url, wanted) in [
        ("http://127.0.0.1:3000", "\"127.0.0.1:3000\""),
        ("http://127.0.0.1:3000/socket.io/?x", "\"127.0.0.1:3000\""),
        ("ws://localhost", "\"localhost:80\""),
        ("http://[::1]:3000/", "\"[::1]:3000\""),
    ] {
        let (said, code) = bundled(url);
        assert!(code == Some(1) && said.contains(&format!("Remove the scheme: {wanted}.")), "{said}");
        let (said, code) = bundled(wanted.trim_matches('"'));
        assert_eq!(code, Some(0), "what it says to write works: {said}");
    }
}

#[test]
fn zones_are_taken_where_they_belong() {
    for good in
        ["[fe80::1%eth0]:3000", "[fe80::1%2]:3000", "[FE80::1%wlan0.5]:3000", "[fe80::1%a23456789012345]:1"]
    {
        let desk = Edge::certified_for(&[HOST]).site(&[HOST], good).write();
        desk.bundled();
        let shown = crate::support::edge::sanedge()
            .args(["show", "--json"])
            .arg(desk.bundle_file())
            .output()
            .unwrap();
        let shown = text(&shown);
        assert!(shown.contains(&good.to_ascii_lowercase()), "{shown}");
    }
    for (bad, wanted) in [
        ("[fe80::1]:3000", "Add the interface"),
        ("[fe80::1%eth0]", "Write a port"),
        ("[fe80::1%eth0]:0", "Write a port"),
        ("[fe80::1%]:3000", "an interface of the board"),
        ("[fe80::1%a234567890123456]:3000", "an interface of the board"),
        ("[fe80::1%a/b]:3000", "an interface of the board"),
        ("[fe80::1%25eth0]:3000", "\"[fe80::1%eth0]:3000\""),
        ("[fd00::1%eth0]:3000", "\"[fd00::1]:3000\""),
        ("[127.0.0.1%eth0]:3000", "an IPv6 address before the zone"),
        ("fe80::1%eth0:3000", "in brackets"),
    ] {
        let (said, code) = bundled(bad);
        assert!(code == Some(1) && said.contains(wanted), "{bad}: {said}");
    }
}

#[test]
fn a_name_of_multicast_dns_is_a_warning_that_says_what_resolves_it() {
    let (said, code) = bundled("raspberrypi.local:3000");
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("[mdns-upstream]") && said.contains("/etc/hosts") && said.contains("resolvectl mdns"),
        "{said}"
    );
    for other in ["localhost:3000", "local.test:3000", "raspberrypi.lan:3000", "127.0.0.1:3000"] {
        assert!(!bundled(other).0.contains("mdns-upstream"), "{other}");
    }
}

#[test]
fn strip_prefix_belongs_to_a_route() {
    let desk =
        Edge::certified_for(&[HOST]).site_with(&[HOST], "127.0.0.1:3000", "strip_prefix = true").write();
    let said = text(&desk.bundle());
    assert!(said.contains("`strip_prefix` belongs in [[site.route]]"), "{said}");
}

// --- link-local addresses ---------------------------------------------------------------------------------

/// In a network of its own, where an interface has such an address: by name and by number.
#[test]
fn an_upstream_on_a_link_local_address_is_reached_by_name_and_number_of_its_interface() {
    let test = "an_upstream_on_a_link_local_address_is_reached_by_name_and_number_of_its_interface";
    let own = if rustix::process::geteuid().is_root() {
        &["--net"][..]
    } else {
        &["--user", "--map-root-user", "--net"]
    };
    let set_up = "ip link set lo up && ip -6 addr add fe80::1/64 dev lo nodad && exec \"$@\"";
    let in_network = |words: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(own).args(["sh", "-c", set_up, "sh"]).args(words);
        command
    };
    if !in_network(&["true"]).output().is_ok_and(|output| output.status.success()) {
        return skip(test, "it needs iproute2 and network namespaces (root or unprivileged user namespaces)");
    }
    let program = std::env::current_exe().unwrap();
    let words = [
        program.to_str().unwrap(),
        "--exact",
        "app_side::reaches_link_local_upstreams",
        "--ignored",
        "--nocapture",
    ];
    let output = in_network(&words).output().unwrap();
    assert!(output.status.success() && text(&output).contains("1 passed"), "{}", text(&output));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the test above, in a network of its own"]
async fn reaches_link_local_upstreams() {
    let listener = std::net::TcpListener::bind("[::]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let _upstream = Upstream::scripted_at(&format!("[::]:{port}"), async |mut connection: Connection| {
        while connection.request().await.is_some() {
            connection.send(OK).await;
        }
    })
    .await;
    for zone in ["lo", "1"] {
        let edge = Edge::certified_for(&[HOST]).site(&[HOST], format!("[fe80::1%{zone}]:{port}")).start();
        Raw::open(&edge, HOST).await.get(HOST, "/", "").await.assert_apps(200, "ok");
        edge.stop();
    }
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], format!("[fe80::1%nothing0]:{port}")).start();
    Raw::open(&edge, HOST).await.get(HOST, "/", "").await.assert_ours(502, "upstream_unreachable");
    edge.wait_for_log("no interface nothing0", PATIENCE);
}
