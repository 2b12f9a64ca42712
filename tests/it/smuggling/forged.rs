//! Fields that tell an upstream who the client is: nobody but a trusted proxy can set one, in any spelling.

use super::HOST;
use crate::support::edge::Edge;
use crate::support::raw::{Raw, fields, upgrade};
use crate::support::upstream::{OK, Upstream};

/// What the design names, and what is like it.
const NAMES: [&str; 22] = [
    "Forwarded",
    "X-Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Forwarded-Server",
    "X-Forwarded-Prefix",
    "X-Forwarded-Ssl",
    "X-Real-IP",
    "X-Client-IP",
    "X-Cluster-Client-IP",
    "True-Client-IP",
    "CF-Connecting-IP",
    "Fastly-Client-IP",
    "X-Original-URL",
    "X-Rewrite-URL",
    "Client-IP",
    "Forwarded-For",
    "CF-Connecting-IPv6",
    "CF-Pseudo-IPv4",
    "X-Appengine-User-IP",
];

/// As it is written, in other cases, and with an underscore for each hyphen and for all.
fn spellings(name: &str) -> Vec<String> {
    let mut all = vec![name.to_owned(), name.to_lowercase(), name.to_uppercase(), name.replace('-', "_")];
    all.extend(
        name.match_indices('-').map(|(at, _)| format!("{}_{}", &name[..at], &name[at + 1..]).to_lowercase()),
    );
    all.sort();
    all.dedup();
    all
}

/// What the upstream got of a request with `lines`, as a GET or as an upgrade.
async fn received(edge: &Edge, upstream: &Upstream, lines: &str, as_upgrade: bool) -> String {
    let before = upstream.connections();
    let mut client = Raw::open(edge, HOST).await;
    let request = match as_upgrade {
        true => upgrade(HOST, "/", lines),
        false => format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n"),
    };
    client.send(request).await;
    client.response().await.assert_apps(200, "ok");
    upstream.received(before)
}

fn edge(upstream: &Upstream, top: &str) -> Edge {
    Edge::certified_for(&[HOST])
        .site(&[HOST], upstream)
        .top(top)
        .listen("public_https_port = 8443")
        .limits("pool_idle_max = 0")
        .start()
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_stranger_every_spelling_is_removed_and_ours_stand_once() {
    let upstream = Upstream::answering(OK).await;
    let edge = edge(&upstream, "");
    let mut tried = 0;
    for name in NAMES {
        for spelling in spellings(name) {
            for lines in [
                format!("{spelling}: 6.6.6.6\r\n"),
                format!("{spelling}:6.6.6.6\r\nX: y\r\n{spelling}:\t6.6.6.6\r\n"),
            ] {
                let head = received(&edge, &upstream, &lines, tried % 3 == 0).await;
                assert!(!head.contains("6.6.6.6"), "{lines}\n{head}");
                assert!(
                    !head.to_lowercase().replace('_', "-").contains(&format!("{}: 6", name.to_lowercase())),
                    "{head}"
                );
                for (name, value) in [
                    ("x-forwarded-for", "127.0.0.1"),
                    ("x-forwarded-proto", "https"),
                    ("x-forwarded-host", HOST),
                    ("x-forwarded-port", "8443"),
                    ("x-real-ip", "127.0.0.1"),
                ] {
                    assert_eq!(fields(&head, name), [value], "{lines}\n{head}");
                }
                tried += 1;
            }
        }
    }
    assert!(tried > 150, "{tried}");
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_trusted_proxy_only_the_proper_spelling_passes() {
    let upstream = Upstream::answering(OK).await;
    let edge = edge(&upstream, "trusted_proxies = [\"127.0.0.1/32\"]");
    for name in NAMES {
        for spelling in spellings(name) {
            let head = received(&edge, &upstream, &format!("{spelling}: 192.0.2.9\r\n"), false).await;
            let came = fields(&head, &spelling);
            match name {
                _ if spelling.contains('_') => assert!(!head.contains(&spelling), "{head}"),
                "X-Real-IP" => assert_eq!(came, ["127.0.0.1"], "ours alone"),
                "X-Forwarded-For" => assert_eq!(came, ["192.0.2.9, 127.0.0.1"], "{head}"),
                _ => assert_eq!(came, ["192.0.2.9"], "{head}"),
            }
            let real =
                if spelling.eq_ignore_ascii_case("x-forwarded-for") { "192.0.2.9" } else { "127.0.0.1" };
            assert_eq!(fields(&head, "x-real-ip"), [real], "{head}");
        }
    }
    // Two lines are one list; what is no address, or is left of one that nobody trusts, is not believed.
    for (lines, client) in [
        ("X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 192.0.2.9\r\n", "192.0.2.9"),
        ("X-Forwarded-For: 6.6.6.6, 192.0.2.9\r\n", "192.0.2.9"),
        ("X-Forwarded-For: 192.0.2.9, unknown\r\n", "127.0.0.1"),
        ("X-Forwarded-For: 192.0.2.9, 127.0.0.1\r\n", "192.0.2.9"),
        ("X-Forwarded-For: [2001:db8::9]:4711\r\n", "2001:db8::9"),
        ("X-Forwarded-For: ::ffff:192.0.2.9\r\n", "192.0.2.9"),
        ("X-Forwarded-For: 192.0.2.9;x\r\n", "127.0.0.1"),
        ("X-Forwarded-For: 0192.0.2.9\r\n", "127.0.0.1"),
        ("X-Forwarded-For:\r\n", "127.0.0.1"),
    ] {
        let head = received(&edge, &upstream, lines, false).await;
        assert_eq!(fields(&head, "x-real-ip"), [client], "{lines}\n{head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_cannot_take_them_away() {
    let upstream = Upstream::answering(OK).await;
    for top in ["", "trusted_proxies = [\"127.0.0.1/32\"]"] {
        let edge = edge(&upstream, top);
        for name in NAMES {
            for spelling in spellings(name) {
                let before = upstream.connections();
                let mut client = Raw::open(&edge, HOST).await;
                client
                    .send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close, {spelling}\r\n\r\n"))
                    .await;
                let response = client.response().await;
                if response.status == 400 {
                    response.assert_ours(400, "bad_request");
                    assert_eq!(upstream.connections(), before);
                } else {
                    let head = upstream.received(before);
                    assert_eq!(fields(&head, "x-forwarded-for"), ["127.0.0.1"], "{spelling}");
                    assert_eq!(fields(&head, "x-real-ip"), ["127.0.0.1"], "{spelling}");
                }
            }
        }
    }
}
