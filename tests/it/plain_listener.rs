//! The plain listener: redirects, ACME challenges, and nothing else.

use std::path::PathBuf;

use crate::support::HOST;
use crate::support::edge::{Desk, Edge, PATIENCE};
use crate::support::raw::{Raw, Response};
use crate::support::upstream::{OK, Upstream};

const ACME: &str = "/.well-known/acme-challenge";

async fn ask(edge: &Edge, request: &str) -> Response {
    let mut client = Raw::open_plain(edge.http.unwrap()).await;
    client.send(request).await;
    let method = request.split(' ').next().unwrap();
    let response = client.response_to(method).await;
    assert_eq!(response.field("connection"), Some("close"));
    client.closed().await;
    response
}

async fn get(edge: &Edge, host: &str, target: &str) -> Response {
    ask(edge, &format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await
}

fn location(response: &Response) -> &str {
    assert_eq!(response.status, 308, "{response:?}");
    response.field("location").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn known_hosts_are_redirected_with_their_target() {
    let upstream = Upstream::answering(OK).await;
    let edge = Edge::certified_for(&[HOST, "*.recre.test"])
        .site(&[HOST, "a.recre.test"], &upstream)
        .with_http()
        .start();
    let target = "/socket.io/?EIO=4&x=%0d%0aSet-Cookie:%20a";
    assert_eq!(location(&get(&edge, HOST, target).await), format!("https://{HOST}{target}"));
    assert_eq!(location(&get(&edge, "RECRE.store.:80", "/").await), "https://recre.store/");
    assert_eq!(location(&get(&edge, "a.recre.test:8080", "/x").await), "https://a.recre.test/x");
    assert_eq!(location(&get(&edge, HOST, "http://recre.store/?q").await), "https://recre.store/?q");
    let post = format!("POST /form HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(location(&ask(&edge, &post).await), "https://recre.store/form");
    assert_eq!(
        location(&ask(&edge, &format!("HEAD /h HTTP/1.0\r\nHost: {HOST}\r\n\r\n")).await),
        "https://recre.store/h"
    );
    // Whatever follows is not answered.
    let two = format!("GET /1 HTTP/1.1\r\nHost: {HOST}\r\n\r\nGET /2 HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    assert_eq!(location(&ask(&edge, &two).await), "https://recre.store/1");
    assert_eq!(upstream.connections(), 0, "nothing goes upstream in the clear");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_redirect_names_the_public_port() {
    let edge = Edge::certified_for(&[HOST])
        .site(&[HOST], "127.0.0.1:1")
        .listen("public_https_port = 8443")
        .with_http()
        .start();
    assert_eq!(location(&get(&edge, HOST, "/x?y").await), "https://recre.store:8443/x?y");
}

#[tokio::test(flavor = "multi_thread")]
async fn others_get_a_404_and_malformed_heads_a_400() {
    let edge =
        Edge::certified_for(&["*.recre.store"]).site(&["a.recre.store"], "127.0.0.1:1").with_http().start();
    for host in ["evil.test", "b.recre.store", "127.0.0.1", "[::1]:80"] {
        get(&edge, host, "/").await.assert_ours(404, "unknown_host");
    }
    let page = ask(&edge, "GET / HTTP/1.1\r\nHost: evil.test\r\nAccept: text/html\r\n\r\n").await;
    assert_eq!((page.status, page.field("content-type")), (404, Some("text/html; charset=utf-8")));
    let known = "Host: a.recre.store\r\n";
    for (request, status, code) in [
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400, "bad_request"),
        (format!("GET / HTTP/1.1\n{known}\n"), 400, "bad_request"),
        (format!("GET / HTTP/1.1\r\n{known}{known}\r\n"), 400, "bad_request"),
        ("\u{16}\u{3}\u{1}\u{2}\0".to_owned(), 400, "bad_request"),
        (format!("CONNECT a.recre.store:443 HTTP/1.1\r\n{known}\r\n"), 501, "not_implemented"),
        (format!("GET / HTTP/1.1\r\n{known}X: {}\r\n\r\n", "x".repeat(17_000)), 431, "head_too_large"),
        (format!("GET /{} HTTP/1.1\r\n{known}\r\n", "x".repeat(9_000)), 414, "target_too_long"),
    ] {
        ask(&edge, &request).await.assert_ours(status, code);
    }
    // One line a reason, whatever comes.
    let mark = edge.log_mark();
    for _ in 0..100 {
        get(&edge, "evil.test", "/").await.assert_ours(404, "unknown_host");
    }
    assert!(edge.log_mark() - mark <= 2, "{}", edge.log());
}

fn desk() -> (Desk, PathBuf) {
    let desk = Edge::certified_for(&[HOST])
        .site(&[HOST], "127.0.0.1:1")
        .listen("acme_dir = \"acme\"")
        .with_http()
        .write();
    let folder = desk.path("acme");
    std::fs::create_dir(&folder).unwrap();
    (desk, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn acme_challenges_are_served_for_every_host() {
    let (desk, folder) = desk();
    let edge = desk.serve();
    let longest = "t".repeat(128);
    for token in ["evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr_oA", "a", longest.as_str()] {
        // Put there while the edge runs, as an ACME client does.
        let content = format!("{token}.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI");
        std::fs::write(folder.join(token), &content).unwrap();
        for host in [HOST, "new.recre.store", "127.0.0.1"] {
            let response = get(&edge, host, &format!("{ACME}/{token}")).await;
            assert_eq!((response.status, response.text()), (200, content.as_str()));
        }
        let head = ask(&edge, &format!("HEAD {ACME}/{token} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
        assert_eq!(head.field("content-length").unwrap(), content.len().to_string());
        std::fs::remove_file(folder.join(token)).unwrap();
        get(&edge, HOST, &format!("{ACME}/{token}")).await.assert_ours(404, "unknown_path");
    }
    std::fs::write(folder.join("full"), vec![b'x'; 4096]).unwrap();
    assert_eq!(get(&edge, HOST, &format!("{ACME}/full")).await.body.len(), 4096);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_plain_files_of_the_folder_are_challenges() {
    let (desk, folder) = desk();
    std::fs::write(desk.path("secret"), "secret").unwrap();
    std::os::unix::fs::symlink(desk.path("secret"), folder.join("link")).unwrap();
    std::fs::create_dir(folder.join("directory")).unwrap();
    std::fs::write(folder.join("directory/inside"), "secret").unwrap();
    std::fs::write(folder.join("large"), vec![b's'; 4097]).unwrap();
    std::fs::write(folder.join("t".repeat(129)), "secret").unwrap();
    std::fs::write(folder.join("dotted.txt"), "secret").unwrap();
    std::fs::write(folder.join("spa ce"), "secret").unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.join("fifo"), rustix::fs::Mode::RWXU).unwrap();
    let edge = desk.serve();
    let too_long = "t".repeat(129);
    let mut tried = 0;
    for token in [
        "../secret",
        "..%2fsecret",
        "%2e%2e/secret",
        "..\\secret",
        "../0.key",
        "/secret",
        "//secret",
        "link",
        "directory",
        "directory/",
        "directory/inside",
        "fifo",
        "large",
        &too_long,
        "missing",
        "",
        ".",
        "..",
        "dotted.txt",
        "spa%20ce",
        "link?x",
    ] {
        let response = get(&edge, HOST, &format!("{ACME}/{token}")).await;
        assert_eq!(response.status, 404, "{token}: {response:?}");
        assert!(!response.text().contains("secret"));
        tried += 1;
    }
    assert_eq!(tried, 21);
    std::fs::write(folder.join("query"), "answer").unwrap();
    assert_eq!(get(&edge, HOST, &format!("{ACME}/query?x=1")).await.text(), "answer");
    // Beside the folder's path, a host is a host.
    assert_eq!(
        location(&get(&edge, HOST, "/.well-known/acme-challengex").await),
        "https://recre.store/.well-known/acme-challengex"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_folder_challenges_are_redirected_like_all_else() {
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], "127.0.0.1:1").with_http().start();
    let target = format!("{ACME}/token");
    assert_eq!(location(&get(&edge, HOST, &target).await), format!("https://{HOST}{target}"));
    get(&edge, "new.recre.store", &target).await.assert_ours(404, "unknown_host");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_plain_client_is_let_go() {
    let edge = Edge::certified_for(&[HOST])
        .site(&[HOST], "127.0.0.1:1")
        .limits("head_timeout = \"300ms\"")
        .with_http()
        .start();
    for begun in ["", "GET / HTTP/1.1\r\nHo"] {
        let mut client = Raw::open_plain(edge.http.unwrap()).await;
        client.send(begun).await;
        client.until_ended().await;
    }
    edge.wait_for_log("reason=request-timeout", PATIENCE);
    assert_eq!(location(&get(&edge, HOST, "/").await), "https://recre.store/");
    edge.stop();
}
