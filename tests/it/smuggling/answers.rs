//! The table of answers: what an upstream says, and what the client gets of it.

use std::sync::Arc;

use super::HOST;
use crate::support::edge::Edge;
use crate::support::raw::{Raw, upgrade};
use crate::support::upstream::{Connection, OK, Record, Upstream};

struct Row {
    name: &'static str,
    asks: Asks,
    answer: String,
    then: Then,
}

/// What the client asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Asks {
    Get,
    Head,
    Post,
    /// A GET of HTTP/1.0.
    Old,
    /// A WebSocket that offers the subprotocols `a` and `b`, and permessage-deflate.
    Upgrade,
}

/// What becomes of an answer. In each case the next request gets the answer that is meant for it.
enum Then {
    /// 502, `upstream_malformed`, and that connection is not used again.
    Malformed,
    /// 502, `upstream_tls`.
    Tls,
    /// 502, `upstream_head_too_large`, as above.
    TooLarge,
    /// The client gets this head and body; the upstream's connection is used again.
    Kept(String, &'static str),
    /// The same, and the upstream's connection is not used again: where the answer ends is not certain.
    Dropped(String, &'static str),
    /// It breaks off: the client's connection ends without anything that looks like the answer's end.
    Broken,
    /// 101.
    Opened,
}

use Asks::{Get, Head, Old, Post, Upgrade};
use Then::{Broken, Dropped, Kept, Malformed, Opened, Tls, TooLarge};

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: socket.recre.store\r\n\r\n";
const ACCEPT: &str = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

fn switching(fields: &str) -> String {
    format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{fields}\r\n")
}

fn ok(fields: &str, behind: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n{behind}")
}

fn head(fields: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}")
}

#[rustfmt::skip]
fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |name, asks, answer: &str, then| rows.push(Row { name, asks, answer: answer.to_owned(), then });
    let length = "Content-Length: 2\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";

    // --- plain ones ----------------------------------------------------------------------------------------------
    row("a length", Get, &ok(length, "ok"), Kept(head(length), "ok"));
    row("chunks", Get, &ok(chunked, "2\r\nok\r\n0\r\n\r\n"), Kept(head(chunked), "ok"));
    row("no reason", Get, "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", Kept("HTTP/1.1 200 \r\nContent-Length: 2\r\n".into(), "ok"));
    row("an empty reason", Get, "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", Kept("HTTP/1.1 200 \r\nContent-Length: 2\r\n".into(), "ok"));
    row("a reason with high bytes", Get, "HTTP/1.1 200 \u{e9}\r\nContent-Length: 2\r\n\r\nok", Kept("HTTP/1.1 200 \u{fffd}\r\nContent-Length: 2\r\n".into(), "ok"));
    row("one interim answer", Get, &format!("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n{}", ok(length, "ok")), Kept(head(length), "ok"));

    // --- two lengths (RFC 9112 §6.3) -----------------------------------------------------------------------------
    row("two lengths", Get, &ok("Content-Length: 2\r\nContent-Length: 3\r\n", "ok!"), Malformed);
    row("one length twice", Get, &ok("Content-Length: 2\r\nX: y\r\ncontent-length: 2\r\n", "ok"), Dropped(head("Content-Length: 2\r\nX: y\r\n"), "ok"));
    row("one length twice, to HEAD", Head, &ok("Content-Length: 2\r\nContent-Length: 2\r\n", ""), Dropped(head(length), ""));
    row("one length three times and a coding", Get, &ok("Content-Length: 2, 2\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), Malformed);
    row("a length between tabs", Get, &ok("Content-Length:\t2\t\r\n", "ok"), Kept(head(length), "ok"));
    for value in ["2, 2", "2,2", "2 ,\t2 , 2"] {
        row("one length in a list", Get, &ok(&format!("Content-Length: {value}\r\n"), "ok"), Dropped(head(length), "ok"));
    }
    row("length and coding", Get, &ok("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), Malformed);
    row("coding and length", Post, &ok("Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", "0\r\n\r\n"), Malformed);
    row("length and coding to HEAD", Head, &ok("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", ""), Malformed);
    row("length with an underscore", Get, &ok("Content_Length: 2\r\n", "ok"), Malformed);
    for value in ["+2", "-2", "0x2", "2,3", "2, 02", "2,", ",2", "2 2", "02", "", "two", "2\u{b}", "18446744073709551618", "9223372036854775808"] {
        row("no length", Get, &ok(&format!("Content-Length: {value}\r\n"), "ok"), Malformed);
    }
    for value in ["gzip", "gzip, chunked", "chunked, gzip", "chunked, chunked", "identity", "", "chunked;x", "chunked\u{b}", "xchunked"] {
        row("no coding of ours", Get, &ok(&format!("Transfer-Encoding: {value}\r\n"), "0\r\n\r\n"), Malformed);
    }
    row("coding twice", Get, &ok("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), Malformed);
    row("coding in HTTP/1.0", Get, "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Malformed);
    row("Connection names the length", Get, &ok("Connection: Content-Length\r\nContent-Length: 2\r\n", "ok"), Malformed);

    // --- status lines --------------------------------------------------------------------------------------------
    for line in [
        "HTTP/1.1 99 OK", "HTTP/1.1 099 OK", "HTTP/1.1 000 OK", "HTTP/1.1 2000 OK", "HTTP/1.1 20 OK", "HTTP/1.1 2OO OK", "HTTP/1.1 200OK",
        "HTTP/1.1  200 OK", "HTTP/1.1\t200 OK", "HTTP/1.1 +200 OK", "HTTP/1.2 200 OK", "HTTP/2.0 200 OK", "HTTP/2 200 OK", "HTTP/0.9 200 OK",
        "http/1.1 200 OK", "HTTP/1.1", "HTTP/1.1 ", "200 OK", "ICY 200 OK", " HTTP/1.1 200 OK", "\r\nHTTP/1.1 200 OK", "HTTP/1.1 200 O\0K", "HTTP/1.1 200 O\rK",
    ] {
        row("no status line", Get, &format!("{line}\r\nContent-Length: 2\r\n\r\nok"), Malformed);
    }
    for status in [600, 666, 999] {
        let line = format!("HTTP/1.1 {status} Odd\r\n");
        row("a status of no class", Get, &format!("{line}{length}\r\nok"), Kept(format!("{line}{length}"), "ok"));
    }
    row("HTTP/0.9", Get, "<html>hello</html>\r\n\r\n", Malformed);
    row("another protocol", Get, "SSH-2.0-OpenSSH_9.2\r\n\r\n", Malformed);
    row("a TLS alert", Get, "\u{15}\u{3}\u{3}\0\u{2}\u{2}F", Tls);
    row("a request", Get, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", Malformed);

    // --- lines and bytes: what splits a response for one reader and not for another -------------------------------
    row("bare LF everywhere", Get, "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", Dropped(head(length), "ok"));
    row("bare LF here and there", Get, "HTTP/1.1 200 OK\r\nX: a\nContent-Length: 2\r\n\nok", Dropped(head("X: a\r\nContent-Length: 2\r\n"), "ok"));
    row("bare LF at the end alone", Get, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\nok", Dropped(head(length), "ok"));
    row("bare LF and chunks", Get, "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\r\nok\r\n0\r\n\r\n", Dropped(head(chunked), "ok"));
    row("bare LF and what would be another answer", Get, "HTTP/1.1 200 OK\nContent-Length: 2\n\nokHTTP/1.1 200 OK\nContent-Length: 6\n\nforged", Dropped(head(length), "ok"));
    row("an injected end of the head", Get, "HTTP/1.1 200 OK\r\nX: a\n\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: end\r\n\r\nok",
        Dropped(head("X: a\r\nTransfer-Encoding: chunked\r\n"), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: end\r\n\r\nok"));
    row("bare LF in an interim answer", Get, &format!("HTTP/1.1 103 Early Hints\nLink: </x>\n\n{}", ok(length, "ok")), Dropped(head(length), "ok"));
    row("an interim answer with a length", Get, &format!("HTTP/1.1 103 Early Hints\r\nContent-Length: 9\r\n\r\n{}", ok(length, "ok")), Dropped(head(length), "ok"));
    row("LF and folded lines", Get, "HTTP/1.1 200 OK\nX: a\n folded\nContent-Length: 2\n\nok", Malformed);
    row("LF and two lengths", Get, "HTTP/1.1 200 OK\nContent-Length: 2\nContent-Length: 3\n\nok!", Malformed);
    row("CR CR LF", Get, "HTTP/1.1 200 OK\r\r\nContent-Length: 2\r\r\n\r\r\nok", Malformed);
    for field in [
        "X: a\rSet-Cookie: b", "X: a\r\n folded", "X: a\r\n\tfolded", "X : a", "X\t: a", ": a", "nonsense", "X: a\0b", "X: a\u{1}b",
        "X: a\u{7f}b", "X Y: a", "X\u{e9}: a", "\0X: a", "(X): a", " X: a", "HTTP/1.1 200 OK",
    ] {
        row("a field that is none", Get, &ok(&format!("{field}\r\n{length}"), "ok"), Malformed);
    }
    row("a value with high bytes", Get, &ok(&format!("X: \u{fe}\r\n{length}"), "ok"), Kept(head(&format!("X: \u{fffd}\r\n{length}")), "ok"));
    let of_bytes = |bytes: usize| {
        let rest = head(&format!("X: \r\n{length}\r\n")).len();
        format!("X: {}\r\n{length}", "x".repeat(bytes - rest))
    };
    row("a head of 32 KiB", Get, &ok(&of_bytes(32 * 1024), "ok"), Kept(head(&of_bytes(32 * 1024)), "ok"));
    row("a head of a byte more", Get, &ok(&of_bytes(32 * 1024 + 1), "ok"), TooLarge);
    row("a head without end", Get, &head(&"X: y\r\n".repeat(150)).repeat(40), Malformed);
    row("a value without end", Get, &head(&format!("X: {}", "x".repeat(80 * 1024))), TooLarge);
    row("200 fields", Get, &ok(&format!("{}{length}", "X: y\r\n".repeat(199)), "ok"), Kept(head(&format!("{}{length}", "X: y\r\n".repeat(199))), "ok"));
    row("201 fields", Get, &ok(&format!("{}{length}", "X: y\r\n".repeat(200)), "ok"), TooLarge);
    row("fields that end here", Get, &ok(&format!("Connection: x-own\r\nX-Own: 1\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\nProxy-Authenticate: x\r\n\
        Sanedge-Error: forged\r\nsanedge_error: forged\r\nTrailer: x\r\n{length}"), "ok"), Kept(head(length), "ok"));

    // --- where the answer ends ------------------------------------------------------------------------------------
    row("bytes behind the end", Get, &ok(length, &format!("ok{}", ok("Content-Length: 6\r\n", "forged"))), Dropped(head(length), "ok"));
    row("a line behind the end", Get, &ok(length, "ok\r\n"), Dropped(head(length), "ok"));
    row("bytes behind the last chunk", Get, &ok(chunked, "2\r\nok\r\n0\r\n\r\nX"), Dropped(head(chunked), "ok"));
    row("a body to HEAD", Head, &ok(length, "ok"), Dropped(head(length), ""));
    row("a head to HEAD", Head, &ok(length, ""), Kept(head(length), ""));
    row("chunks to HEAD", Head, &ok(chunked, "0\r\n\r\n"), Dropped(head(""), ""));
    row("a body with 204", Get, "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok", Dropped("HTTP/1.1 204 No Content\r\n".into(), ""));
    row("chunks with 204", Get, "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Dropped("HTTP/1.1 204 No Content\r\n".into(), ""));
    row("a length with 304", Get, "HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n", Kept("HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n".into(), ""));
    row("a body with 304", Get, "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nok", Dropped("HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n".into(), ""));
    row("until close", Get, "HTTP/1.1 200 OK\r\nX: end\r\n\r\nok", Dropped(head("X: end\r\nTransfer-Encoding: chunked\r\n"), "ok"));
    row("until close, HTTP/1.0", Get, "HTTP/1.0 200 OK\r\nX: end\r\n\r\nok", Dropped(head("X: end\r\nTransfer-Encoding: chunked\r\n"), "ok"));
    row("Connection: close", Get, &ok(&format!("Connection: close\r\n{length}"), "ok"), Dropped(head(length), "ok"));
    row("HTTP/1.0 with a length", Get, "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", Dropped(head(length), "ok"));
    row("chunks to an old client", Old, &ok(chunked, "2\r\nok\r\n0\r\n\r\n"), Kept(head("Connection: close\r\n"), "ok"));
    row("a length to an old client", Old, &ok(length, "ok"), Kept(head(&format!("{length}Connection: close\r\n")), "ok"));
    row("fewer bytes than said", Get, &ok("X: end\r\nContent-Length: 10\r\n", "hello"), Broken);
    row("no last chunk", Get, &ok("X: end\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n"), Broken);
    for body in [
        "x\r\n", "+2\r\nok\r\n0\r\n\r\n", "0x2\r\nok\r\n0\r\n\r\n", " 2\r\nok\r\n0\r\n\r\n", "2 2\r\nok\r\n0\r\n\r\n", "2 \nok\r\n0\r\n\r\n", "2 ; x\r\nok\r\n0\r\n\r\n", "2\nok\r\n0\r\n\r\n", "2\r\nok0\r\n\r\n", "2\r\nok\n0\r\n\r\n",
        "2;x\nok\r\n0\r\n\r\n", "2\r\nok\r\n0\n\n", "2\r\nok\r\n0\r\nX : y\r\n\r\n", "2\r\nok\r\n0\r\nHTTP/1.1 200 OK\r\n\r\n", "ffffffffffffffff\r\nok\r\n0\r\n\r\n",
        "2\r\nok\r\n\r\n0\r\n\r\n", "-1\r\nok\r\n0\r\n\r\n", "2\r\nok\r\n0\r\nContent-Length: 50\r\n\r\n",
    ] {
        row("broken chunks", Get, &ok(chunked, body), Malformed);
    }
    for body in ["2 \r\nok\r\n0\r\n\r\n", "2\t\r\nok\r\n0\r\n\r\n", "00000002  \r\nok\r\n0       \r\n\r\n", "2 ;x\r\nok\r\n0\r\n\r\n", "2\r\nok\r\n0 \r\n\r\n"] {
        row("blanks behind a size", Get, &ok(chunked, body), Dropped(head(chunked), "ok"));
    }
    row("trailers end here", Get, &ok(chunked, "2\r\nok\r\n0\r\nX: y\r\nSet-Cookie: a=b\r\n\r\n"), Kept(head(chunked), "ok"));
    row("extensions end here", Get, &ok(chunked, "2;x=y\r\nok\r\n0;z\r\n\r\n"), Kept(head(chunked), "ok"));

    // --- interim answers and 101 (RFC 9110 §15.2, RFC 6455 §4.1) ---------------------------------------------------
    row("nine interim answers", Get, &format!("{}{}", "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(9), ok(length, "ok")), Malformed);
    row("eight interim answers", Get, &format!("{}{}", "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(8), ok(length, "ok")), Kept(head(length), "ok"));
    row("interim answers without end", Get, &"HTTP/1.1 100 Continue\r\n\r\n".repeat(600), Malformed);
    row("a broken interim answer", Get, &format!("HTTP/1.1 103 Early Hints\rX: y\r\r{}", ok(length, "ok")), Malformed);
    row("101 to a GET", Get, &switching(ACCEPT), Malformed);
    row("101 to a POST", Post, &switching(ACCEPT), Malformed);
    row("101 to h2c's nobody", Get, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", Malformed);
    row("a good 101", Upgrade, &switching(ACCEPT), Opened);
    row("101 with a length of 0", Upgrade, &switching(&format!("{ACCEPT}Content-Length: 0\r\n")), Opened);
    row("101 with a length of 0 twice", Upgrade, &switching(&format!("Content-Length: 0\r\n{ACCEPT}Content-Length: 0\r\n")), Opened);
    row("101 with bare LF", Upgrade, &switching(ACCEPT).replace("\r\n", "\n"), Opened);
    row("a good 101 with what was offered", Upgrade, &switching(&format!("{ACCEPT}Sec-WebSocket-Protocol: b\r\nSec-WebSocket-Extensions: permessage-deflate\r\n")), Opened);
    for (name, answer) in [
        ("101 without Accept", switching("")), ("101 with another Accept", switching("Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n")),
        ("101 with Accept in lower case", switching(&ACCEPT.to_lowercase())),
        ("101 with Accept twice", switching(&ACCEPT.repeat(2))), ("101 with Accept in a list", switching(&ACCEPT.replace("=\r\n", "=, x\r\n"))),
        ("101 without Upgrade", switching(ACCEPT).replace("Upgrade: websocket\r\n", "")), ("101 to another protocol", switching(ACCEPT).replace("websocket", "h2c")),
        ("101 to two protocols", switching(ACCEPT).replace("websocket", "websocket, h2c")), ("101 with Upgrade twice", switching(&format!("{ACCEPT}Upgrade: websocket\r\n"))),
        ("101 without Connection", switching(ACCEPT).replace("Connection: Upgrade\r\n", "")), ("101 with Connection: close", switching(ACCEPT).replace("Connection: Upgrade", "Connection: close")),
        ("101 with a subprotocol not offered", switching(&format!("{ACCEPT}Sec-WebSocket-Protocol: c\r\n"))),
        ("101 with a subprotocol in another case", switching(&format!("{ACCEPT}Sec-WebSocket-Protocol: A\r\n"))),
        ("101 with two subprotocols", switching(&format!("{ACCEPT}Sec-WebSocket-Protocol: a, b\r\n"))),
        ("101 with an extension not offered", switching(&format!("{ACCEPT}Sec-WebSocket-Extensions: x-other\r\n"))),
        ("101 with an extension twice", switching(&format!("{ACCEPT}Sec-WebSocket-Extensions: permessage-deflate, permessage-deflate\r\n"))),
        ("101 with a length", switching(&format!("{ACCEPT}Content-Length: 2\r\n"))), ("101 with two lengths", switching(&format!("{ACCEPT}Content-Length: 0\r\nContent-Length: 1\r\n"))),
        ("101 with a coding", switching(&format!("{ACCEPT}Transfer-Encoding: chunked\r\n"))), ("101 of HTTP/1.0", switching(ACCEPT).replace("HTTP/1.1", "HTTP/1.0")),
        ("101 with bare CR", switching(ACCEPT).replace("\r\n", "\r")),
    ] {
        row(name, Upgrade, &answer, Malformed);
    }
    rows
}

fn request(asks: Asks, at: usize) -> String {
    let target = format!("/row/{at}");
    let plain = |method: &str, version: &str, fields: &str| {
        format!("{method} {target} {version}\r\nHost: {HOST}\r\n{fields}\r\n")
    };
    match asks {
        Get => plain("GET", "HTTP/1.1", ""),
        Head => plain("HEAD", "HTTP/1.1", ""),
        Post => plain("POST", "HTTP/1.1", "Content-Length: 2\r\n") + "hi",
        Old => plain("GET", "HTTP/1.0", ""),
        Upgrade => upgrade(
            HOST,
            &target,
            "Sec-WebSocket-Protocol: a, b\r\nSec-WebSocket-Extensions: permessage-deflate\r\n",
        ),
    }
}

/// Says what the row says, as Latin-1; `X: end` in it: and closes. `ok` to anything else.
async fn script(mut connection: Connection, rows: Arc<Vec<Row>>) {
    while let Some(request) = connection.request().await {
        let target = request.head.split(' ').nth(1).unwrap();
        let Some(at) = target.strip_prefix("/row/") else {
            connection.send(OK).await;
            continue;
        };
        let answer = &rows[at.parse::<usize>().unwrap()].answer;
        connection
            .send(answer.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect::<Vec<_>>())
            .await;
        if answer.contains("X: end") {
            return;
        }
    }
}

async fn run(row: &Row, at: usize, edge: &Edge, upstream: &Upstream) {
    let name = format!("{}: {:?}", row.name, row.answer.chars().take(300).collect::<String>());
    let mut client = Raw::open(edge, HOST).await;
    // Behind an upgrade that comes to nothing stands what would be a request to a server that did not switch.
    let smuggled = if row.asks == Upgrade && matches!(row.then, Malformed) { SMUGGLED } else { "" };
    client.send(request(row.asks, at) + smuggled).await;
    if matches!(row.then, Broken) {
        let got = String::from_utf8_lossy(&client.broken().await).into_owned();
        assert!(!got.contains("\r\n0\r\n"), "{name}: {got}");
    } else {
        let method = if row.asks == Head { "HEAD" } else { "GET" };
        let mut answer = client.response_to(method).await;
        while matches!(answer.status, 100 | 103) {
            answer = client.response_to(method).await;
        }
        match &row.then {
            Malformed if row.asks == Head => {
                assert_eq!((answer.status, answer.field("sanedge-error")), (502, Some("upstream_malformed")))
            }
            Tls => answer.assert_ours(502, "upstream_tls"),
            Malformed => {
                answer.assert_ours(502, "upstream_malformed");
                assert!(!answer.text().contains(&upstream.address), "to no stranger: {answer:?}");
            }
            TooLarge => {
                answer.assert_ours(502, "upstream_head_too_large");
                assert!(answer.text().contains("response_head_bytes_max"), "says what to raise: {answer:?}");
            }
            Kept(head, body) | Dropped(head, body) => {
                assert_eq!(
                    (&answer.head, answer.text(), answer.trailers.as_str()),
                    (head, *body, ""),
                    "{name}"
                );
            }
            Opened => {
                assert_eq!(answer.status, 101, "{name}: {answer:?}");
                assert!(!answer.head.to_ascii_lowercase().contains("content-length"), "{name}: {answer:?}");
            }
            Broken => unreachable!(),
        }
        if !matches!(row.then, Kept(..) | Dropped(..)) || row.asks == Old {
            if !matches!(row.then, Opened) {
                client.closed().await;
            }
            client = Raw::open(edge, HOST).await;
        }
    }
    // Nothing of it is left for whoever comes next.
    if matches!(row.then, Broken) {
        client = Raw::open(edge, HOST).await;
    }
    let before = upstream.connections();
    client.get(HOST, "/next", "").await.assert_apps(200, "ok");
    let fresh = upstream.connections() - before;
    match row.then {
        Kept(..) => assert_eq!(fresh, 0, "{name}: the upstream's connection can be used again"),
        _ => assert_eq!(fresh, 1, "{name}: an upstream connection of its own"),
    }
    // The next row wants a connection that no other knows.
    client.send(upgrade(HOST, "/next", "")).await;
    client.response().await.assert_apps(200, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_of_the_table_arrives_exactly_or_not_at_all() {
    let rows = Arc::new(rows());
    assert!(rows.len() > 140, "{} rows", rows.len());
    let table = Arc::clone(&rows);
    let upstream = Upstream::scripted(move |connection| script(connection, Arc::clone(&table))).await;
    let mut failed = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        // A worker and a pool of its own for every row: what one leaves behind is not another's.
        let edge = Edge::certified_for(&[HOST]).site(&[HOST], &upstream).limits("workers = 1").start();
        let trial = std::panic::AssertUnwindSafe(run(row, at, &edge, &upstream));
        if futures_util::FutureExt::catch_unwind(trial).await.is_err() {
            failed.push(row.name);
        }
        edge.stop();
    }
    assert!(failed.is_empty(), "{} of {} rows: {failed:#?}", failed.len(), rows.len());
    let smuggled = |record: &Record| String::from_utf8_lossy(&record.received).contains("smuggled");
    assert!(!upstream.records().iter().any(smuggled));
}
