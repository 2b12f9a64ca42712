//! The table of requests: what a client says, and what becomes of it. One row, one idea.
//!
//! `HOST` stands for the edge's host, and each request is followed by `GET /next` on the same connection.

/// One row.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// The bytes of the request; those above 0x7F are written `\u{..}`, one byte each (Latin-1).
    pub(crate) request: String,
    pub(crate) then: Then,
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub(crate) enum Then {
    /// We answer with this status and end the connection. The upstream gets nothing at all.
    Refused(u16),
    /// We answer with this status: the request is well formed and not for here. The next one is served.
    Answered(u16),
    /// The upstream gets the same bytes (and our own fields); the next request is served.
    Same,
    /// The upstream gets these bytes (and our own fields); the next request is served.
    Becomes(String),
    /// The same, and the connection ends behind the answer: the next request is never read.
    Last(String),
    /// The head was fine and went upstream, with these bytes; then the body broke a rule: we answer 400, both connections
    /// end, and the upstream never sees the end of a message.
    Cut(String),
}

use Then::{Answered, Becomes, Cut, Last, Refused, Same};

fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: HOST\r\n{fields}\r\n")
}

fn line(request_line: &str) -> String {
    format!("{request_line}\r\nHost: HOST\r\n\r\n")
}

fn host(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\n{fields}\r\n")
}

fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: HOST\r\n{fields}\r\n{body}")
}

fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", body)
}

fn becomes(text: &str) -> Then {
    Becomes(text.to_owned())
}

/// A chunked POST that goes upstream as one chunk of `data`.
fn chunks(data: &str) -> Then {
    let chunk = if data.is_empty() { String::new() } else { format!("{:x}\r\n{data}\r\n", data.len()) };
    Becomes(chunked(&format!("{chunk}0\r\n\r\n")))
}

fn cut() -> Then {
    Cut(chunked(""))
}

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn upgrade_with(line: &str, fields: &str, behind: &str) -> String {
    format!("{line}\r\nHost: HOST\r\n{fields}\r\n{behind}")
}

/// A good upgrade but for `fields`, which come last.
fn websocket(fields: &str) -> String {
    upgrade_with(
        "GET / HTTP/1.1",
        &format!("Upgrade: websocket\r\nConnection: Upgrade\r\n{KEY}Sec-WebSocket-Version: 13\r\n{fields}"),
        "",
    )
}

/// How an upgrade goes upstream, where it refuses it with a 200: that one is the last.
fn asked(fields: &str) -> Then {
    Last(format!(
        "GET / HTTP/1.1\r\nHost: HOST\r\n{KEY}Sec-WebSocket-Version: 13\r\n{fields}\
        Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    ))
}

#[rustfmt::skip]
pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |name, request: String, then| rows.push(Row { name, request, then });

    // --- plain ones, so that the table can tell yes from no ------------------------------------------------------
    row("a GET", get(""), Same);
    row("a POST with a length", post("Content-Length: 5\r\n", "hello"), Same);
    row("a POST of nothing", post("Content-Length: 0\r\n", ""), Same);
    row("a POST without a length", post("", ""), Same);
    row("a GET with a body", "GET / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 5\r\n\r\nhello".into(), Same);
    row("a body that looks like a request", post("Content-Length: 55\r\n", "GET /smuggled HTTP/1.1\r\nHost: HOST\r\n\r\nabc"), Same);
    row("a chunked POST", chunked("5\r\nhello\r\n0\r\n\r\n"), chunks("hello"));

    // --- two lengths: CL.TE, TE.CL, CL.CL, TE.TE (RFC 9112 §6.1, §6.3) -------------------------------------------
    row("CL.TE", post("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\nG"), Refused(400));
    row("TE.CL", post("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", "8\r\nSMUGGLED\r\n0\r\n\r\n"), Refused(400));
    row("TE.CL of the right length", post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"), Refused(400));
    row("TE and CL of 0", post("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", "0\r\n\r\n"), Refused(400));
    row("CL.CL, different", post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"), Refused(400));
    row("CL.CL, equal", post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), Refused(400));
    row("CL.CL, far apart and in another case", post("Content-Length: 5\r\nX: y\r\ncontent-length: 5\r\n", "hello"), Refused(400));
    row("CL 0 and CL", post("Content-Length: 0\r\nContent-Length: 44\r\n", ""), Refused(400));
    row("TE.TE, the second unknown", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n", "0\r\n\r\n"), Refused(400));
    row("TE.TE, the first unknown", post("Transfer-Encoding: cow\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), Refused(501));
    row("TE.TE, identity second", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"), Refused(400));
    row("TE twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), Refused(400));
    row("TE with an underscore beside CL", post("Content-Length: 5\r\nTransfer_Encoding: chunked\r\n", "hello"), Refused(400));
    row("CL with an underscore", post("Content_Length: 5\r\n", "hello"), Refused(400));
    row("CL with an underscore beside CL", post("Content-Length: 5\r\nContent_Length: 0\r\n", "hello"), Refused(400));

    // --- what is no Content-Length (RFC 9110 §8.6) -----------------------------------------------------------------
    for (name, value) in [
        ("CL +5", "+5"), ("CL -5", "-5"), ("CL 0x5", "0x5"), ("CL 5.0", "5.0"), ("CL 5e0", "5e0"), ("CL 5_0", "5_0"),
        ("CL 5,5", "5,5"), ("CL 5, 5", "5, 5"), ("CL 5, 6", "5, 6"), ("CL ,5", ",5"), ("CL 5 5", "5 5"), ("CL 5;", "5;"),
        ("CL empty", ""), ("CL of words", "five"), ("CL in quotes", "\"5\""), ("CL 2^64", "18446744073709551616"),
        ("CL 2^64 + 5", "18446744073709551621"), ("CL far too large", "99999999999999999999999999"),
        ("CL in other digits", "\u{b2}"), ("CL with a high byte", "5\u{a0}"), ("CL chunked", "chunked"),
    ] {
        row(name, post(&format!("Content-Length: {value}\r\n"), "hello"), Refused(400));
    }
    row("CL with zeros in front", post("Content-Length: 0005\r\n", "hello"), Refused(400));
    row("CL 010, which is 8 to some", post("Content-Length: 010\r\n", "0123456789"), Refused(400));
    row("CL 2^63", post("Content-Length: 9223372036854775808\r\n", "hello"), Refused(400));
    row("CL 00", post("Content-Length: 00\r\n", ""), Refused(400));
    row("CL in spaces", post("Content-Length:   5  \r\n", "hello"), Same);
    row("CL behind a tab", post("Content-Length:\t5\r\n", "hello"), Refused(400));
    row("CL before a tab", post("Content-Length: 5\t\r\n", "hello"), Refused(400));
    row("CL without white space", post("Content-Length:5\r\n", "hello"), Same);
    row("CL with VT in front", post("Content-Length: \u{b}5\r\n", "hello"), Refused(400));
    row("CL with VT behind", post("Content-Length: 5\u{b}\r\n", "hello"), Refused(400));
    row("CL with NUL behind", post("Content-Length: 5\0\r\n", "hello"), Refused(400));
    row("CL on a folded line", post("Content-Length:\r\n 5\r\n", "hello"), Refused(400));
    row("CL with a space before the colon", post("Content-Length : 5\r\n", "hello"), Refused(400));
    row("CL with a tab before the colon", post("Content-Length\t: 5\r\n", "hello"), Refused(400));
    row("CL with a space in front", post(" Content-Length: 5\r\n", "hello"), Refused(400));
    row("CL behind NUL", post("\0Content-Length: 5\r\n", "hello"), Refused(400));
    row("CL with a letter that looks like one", post("Content-\u{cc}ength: 5\r\n", "hello"), Refused(400));
    row("CL as half of a name", post("Content-Length-X: 5\r\n", ""), Same);

    // --- what is no Transfer-Encoding of ours (RFC 9112 §6.1, §7) ---------------------------------------------------
    for (name, value, status) in [
        ("TE gzip", "gzip", 501), ("TE gzip, chunked", "gzip, chunked", 501), ("TE deflate, chunked", "deflate, chunked", 501),
        ("TE chunked, gzip", "chunked, gzip", 400), ("TE chunked, chunked", "chunked, chunked", 400),
        ("TE chunked, identity", "chunked, identity", 400), ("TE identity", "identity", 501),
        ("TE identity, chunked", "identity, chunked", 501), ("TE xchunked", "xchunked", 501), ("TE chunkedx", "chunkedx", 501),
        ("TE chunk", "chunk", 501), ("TE chunked;", "chunked;", 400), ("TE chunked;q=1", "chunked;q=1", 400),
        ("TE \"chunked\"", "\"chunked\"", 400), ("TE 'chunked'", "'chunked'", 501), ("TE chunked chunked", "chunked chunked", 400),
        ("TE ,chunked", ",chunked", 400), ("TE chunked,", "chunked,", 400), ("TE empty", "", 400), ("TE of a comma", ",", 400),
        ("TE with VT behind", "chunked\u{b}", 400), ("TE with VT in front", "\u{b}chunked", 400), ("TE with FF", "\u{c}chunked", 400),
        ("TE with NUL", "chunked\0", 400), ("TE with DEL", "chunked\u{7f}", 400), ("TE with a high byte", "chunked\u{a0}", 400),
        ("TE with a high byte in front", "\u{ff}chunked", 400), ("TE with CR", "chunked\r", 400), ("TE with CR in front", "\rchunked", 400),
    ] {
        row(name, post(&format!("Transfer-Encoding: {value}\r\n"), "0\r\n\r\n"), Refused(status));
    }
    row("TE of any case", post("transfer-ENCODING: ChUnKeD\r\n", "5\r\nhello\r\n0\r\n\r\n"), chunks("hello"));
    row("TE in spaces", post("Transfer-Encoding:  chunked  \r\n", "5\r\nhello\r\n0\r\n\r\n"), chunks("hello"));
    row("TE behind a tab", post("Transfer-Encoding:\tchunked\r\n", "0\r\n\r\n"), Refused(400));
    row("TE before a tab", post("Transfer-Encoding: chunked\t\r\n", "0\r\n\r\n"), Refused(400));
    row("Host behind a tab", host("Host:\tHOST\r\n"), Refused(400));
    row("TE on a folded line", post("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"), Refused(400));
    row("TE folded behind", post("Transfer-Encoding: chunked\r\n , gzip\r\n", "0\r\n\r\n"), Refused(400));
    row("TE with a space before the colon", post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), Refused(400));
    row("TE with a tab before the colon", post("Transfer-Encoding\t: chunked\r\n", "0\r\n\r\n"), Refused(400));
    row("TE with VT before the colon", post("Transfer-Encoding\u{b}: chunked\r\n", "0\r\n\r\n"), Refused(400));
    row("TE with a high byte in its name", post("Transfer-Encoding\u{a0}: chunked\r\n", "0\r\n\r\n"), Refused(400));
    row("TE behind a space", post(" Transfer-Encoding: chunked\r\n", "0\r\n\r\n"), Refused(400));
    row("TE behind bare LF", post("X: y\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), Refused(400));
    row("TE behind bare CR", post("X: y\rTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), Refused(400));
    row("TE in HTTP/1.0", "POST / HTTP/1.0\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(), Refused(400));
    row("TE in HTTP/1.0 beside CL", "POST / HTTP/1.0\r\nHost: HOST\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello".into(), Refused(400));
    row("TE named by Connection", post("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), Refused(400));
    row("CL named by Connection", post("Connection: Content-Length\r\nContent-Length: 5\r\n", "hello"), Refused(400));

    // --- chunks (RFC 9112 §7.1) -------------------------------------------------------------------------------------
    row("several chunks become what came together", chunked("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"), chunks("hello world"));
    row("a chunk size of both cases", chunked("a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n"), chunks("01234567890123456789"));
    row("a chunk size with zeros in front", chunked("0005\r\nhello\r\n000\r\n\r\n"), chunks("hello"));
    row("a chunk that looks like an end", chunked("7\r\n0\r\n\r\nab\r\n0\r\n\r\n"), chunks("0\r\n\r\nab"));
    for (name, body) in [
        ("chunk size +5", "+5\r\nhello\r\n0\r\n\r\n"), ("chunk size -1", "-1\r\nhello\r\n0\r\n\r\n"), ("chunk size 0x5", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("chunk size 5_", "5_\r\nhello\r\n0\r\n\r\n"), ("chunk size 0_5", "0_5\r\nhello\r\n0\r\n\r\n"), ("chunk size 5h", "5h\r\nhello\r\n0\r\n\r\n"),
        ("chunk size 5.0", "5.0\r\nhello\r\n0\r\n\r\n"), ("chunk size of nothing", "\r\nhello\r\n0\r\n\r\n"), ("chunk size of an extension", ";x\r\nhello\r\n0\r\n\r\n"),
        ("chunk size in quotes", "\"5\"\r\nhello\r\n0\r\n\r\n"), ("chunk size with a space in front", " 5\r\nhello\r\n0\r\n\r\n"),
        ("chunk size with a space behind", "5 \r\nhello\r\n0\r\n\r\n"), ("chunk size with a tab behind", "5\t\r\nhello\r\n0\r\n\r\n"),
        ("chunk size with VT behind", "5\u{b}\r\nhello\r\n0\r\n\r\n"), ("chunk size with NUL behind", "5\0\r\nhello\r\n0\r\n\r\n"),
        ("chunk size of 17 digits", "10000000000000005\r\nhello\r\n0\r\n\r\n"), ("chunk size of 17 zeros", "00000000000000000\r\n\r\n"),
        ("chunk size of 2^64 and 5", "10000000000000005\r\nhello\r\n"), ("chunk size, bare LF", "5\nhello\r\n0\r\n\r\n"),
        ("chunk size, bare CR", "5\rhello\r\n0\r\n\r\n"), ("chunk size, CR CR LF", "5\r\r\nhello\r\n0\r\n\r\n"), ("chunk size, LF CR", "5\n\rhello\r\n0\r\n\r\n"),
        ("chunk size, space before the extension", "5 ;x\r\nhello\r\n0\r\n\r\n"),
        ("no CRLF behind the data", "5\r\nhello0\r\n\r\n"), ("bare LF behind the data", "5\r\nhello\n0\r\n\r\n"),
        ("two bytes behind the data that are no CRLF", "5\r\nhelloXX0\r\n\r\n"), ("CR and another byte behind the data", "5\r\nhello\rX0\r\n\r\n"),
        ("data longer than its size", "3\r\nhello\r\n0\r\n\r\n"),
        ("last chunk, bare LF", "5\r\nhello\r\n0\n\n"), ("last chunk, bare LF in the end", "5\r\nhello\r\n0\r\n\n"), ("last chunk, CR alone", "5\r\nhello\r\n0\r\n\rX"),
        ("extension with bare LF", "5;x\nhello\r\n0\r\n\r\n"), ("extension with bare CR", "5;x\ry\r\nhello\r\n0\r\n\r\n"),
        ("extension with NUL", "5;x=\0\r\nhello\r\n0\r\n\r\n"), ("extension that hides a chunk from one who ends lines with LF", "2;\n1e\r\nab\r\n0\r\n\r\n"),
        ("extension on the last chunk with bare LF", "0;x\n\r\n\r\n"), ("extension of nothing", "5;\r\nhello\r\n0\r\n\r\n"),
        ("extension without a name", "5;=x\r\nhello\r\n0\r\n\r\n"), ("extension without a value", "5;x=\r\nhello\r\n0\r\n\r\n"),
        ("extension with white space", "5; x\r\nhello\r\n0\r\n\r\n"), ("extension with an open quote", "5;x=\"y\r\nhello\r\n0\r\n\r\n"),
        ("extension with a quote in its quotes", "5;x=\"\\\"\"\r\nhello\r\n0\r\n\r\n"), ("extension with bytes behind its quotes", "5;x=\"y\"z\r\nhello\r\n0\r\n\r\n"),
    ] {
        row(name, chunked(body), cut());
    }
    row("chunk size of 2^52", chunked("10000000000000\r\nhello"), cut());
    row("chunk size of 2^64 - 1", chunked("ffffffffffffffff\r\nhello"), cut());
    row("extensions end here", chunked("5;name=value;other=\"quoted\"\r\nhello\r\n0;x\r\n\r\n"), chunks("hello"));
    row("extensions of 1024 bytes", chunked(&format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(1023))), chunks("hello"));
    row("extensions of 1025 bytes", chunked(&format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(1024))), cut());

    // --- trailers (RFC 9110 §6.5, RFC 9112 §7.1.2) ------------------------------------------------------------------
    for (name, trailers) in [
        ("a trailer that names a host", "Host: evil.test\r\n"), ("a trailer that names the client", "X-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n"),
        ("a trailer that authorises", "Authorization: x\r\nCookie: a=b\r\n"), ("a trailer of any other name", "X: y\r\n"),
    ] {
        row(name, chunked(&format!("5\r\nhello\r\n0\r\n{trailers}\r\n")), chunks("hello"));
    }
    row("a digest passes", chunked("5\r\nhello\r\n0\r\nContent-Digest: x\r\nX: y\r\n\r\n"), Becomes(chunked("5\r\nhello\r\n0\r\nContent-Digest: x\r\n\r\n")));
    for (name, trailers) in [
        ("a trailer without a colon", "GET / HTTP/1.1\r\n"), ("a trailer with a space before its colon", "X : y\r\n"), ("a folded trailer", "X: y\r\n z\r\n"),
        ("a trailer with bare LF", "X: y\nZ: z\r\n"), ("a trailer with bare CR", "X: y\rZ\r\n"), ("a trailer with NUL", "X: \0\r\n"),
        ("a trailer that names a length", "Content-Length: 50\r\n"), ("a trailer that names a coding", "X: y\r\ntransfer-encoding: chunked\r\n"),
        ("a trailer that names a length with an underscore", "Content_Length: 50\r\n"),
        ("a trailer without a name", ": y\r\n"), ("a trailer that is a request", "GET /smuggled HTTP/1.1\r\nHost: HOST\r\n"),
    ] {
        row(name, chunked(&format!("5\r\nhello\r\n0\r\n{trailers}\r\n")), cut());
    }

    // --- lines and bytes (RFC 9112 §2.2, §5) ------------------------------------------------------------------------
    row("bare LF behind the request line", "GET / HTTP/1.1\nHost: HOST\r\n\r\n".into(), Refused(400));
    row("bare LF behind a field", "GET / HTTP/1.1\r\nHost: HOST\n\r\n".into(), Refused(400));
    row("bare LF as the empty line", "GET / HTTP/1.1\r\nHost: HOST\r\n\n".into(), Refused(400));
    row("bare LF everywhere", "GET / HTTP/1.1\nHost: HOST\n\n".into(), Refused(400));
    row("bare CR behind the request line", "GET / HTTP/1.1\rHost: HOST\r\n\r\n".into(), Refused(400));
    row("bare CR as the empty line", "GET / HTTP/1.1\r\nHost: HOST\r\n\rX".into(), Refused(400));
    row("CR CR LF", "GET / HTTP/1.1\r\r\nHost: HOST\r\n\r\n".into(), Refused(400));
    row("LF CR", "GET / HTTP/1.1\n\rHost: HOST\n\r\n\r".into(), Refused(400));
    row("a folded line", get("X: y\r\n z\r\n"), Refused(400));
    row("a line folded with a tab", get("X: y\r\n\tz\r\n"), Refused(400));
    row("a folded line that is blank", get("X: y\r\n \r\n"), Refused(400));
    row("a fold behind the request line", "GET / HTTP/1.1\r\n X: y\r\nHost: HOST\r\n\r\n".into(), Refused(400));
    row("a space before the colon", get("X : y\r\n"), Refused(400));
    row("a name of nothing", get(": y\r\n"), Refused(400));
    row("a line without a colon", get("nonsense\r\n"), Refused(400));
    row("a name with a space", get("X Y: z\r\n"), Refused(400));
    row("a name with a bracket", get("X(Y): z\r\n"), Refused(400));
    row("a name with NUL", get("X\0: y\r\n"), Refused(400));
    row("a name with a high byte", get("X\u{e9}: y\r\n"), Refused(400));
    row("a name with DEL", get("X\u{7f}: y\r\n"), Refused(400));
    row("a name of every other token byte", get("!#$%&'*+-.^_`|~09azAZ: y\r\n"), Same);
    row("a value with NUL", get("X: a\0b\r\n"), Refused(400));
    row("a value with a control", get("X: a\u{1}b\r\n"), Refused(400));
    row("a value with ESC", get("X: \u{1b}[31m\r\n"), Refused(400));
    row("a value with DEL", get("X: a\u{7f}b\r\n"), Refused(400));
    row("a value with bare CR", get("X: a\rb\r\n"), Refused(400));
    row("a value with bare LF", get("X: a\nb\r\n"), Refused(400));
    row("a value with bytes above 0x7F", get("X: \u{80}\u{e9}\u{ff}\r\n"), Same);
    row("a value with tabs", get("X: a\tb\r\n"), Same);
    row("a value of nothing", get("X:\r\nY: \r\n"), Same);
    row("a value with colons and quotes", get("X: a:b \"c\\\" , ;d\r\n"), Same);
    row("one empty line before it is ignored", format!("\r\n{}", get("")), becomes(&get("")));
    row("two empty lines before it", format!("\r\n\r\n{}", get("")), Refused(400));
    row("bare LF before it", format!("\n{}", get("")), Refused(400));
    row("a space before it", format!(" {}", get("")), Refused(400));
    row("a byte order mark before it", format!("\u{ef}\u{bb}\u{bf}{}", get("")), Refused(400));
    row("100 fields", get(&"X: y\r\n".repeat(99)), Same);
    row("101 fields", get(&"X: y\r\n".repeat(100)), Refused(431));
    row("16384 bytes", get(&format!("X: {}\r\n", "x".repeat(16_384 - get("X: \r\n").len() + 4 - 18))), Same);
    row("16385 bytes", get(&format!("X: {}\r\n", "x".repeat(16_385 - get("X: \r\n").len() + 4 - 18))), Refused(431));

    // --- the request line (RFC 9112 §3) -------------------------------------------------------------------------------
    row("HTTP/0.9", "GET /\r\n".into(), Refused(400));
    row("HTTP/0.9 with a space", "GET / \r\n\r\n".into(), Refused(400));
    row("HTTP/0.9, said", line("GET / HTTP/0.9"), Refused(505));
    row("HTTP/1.2", line("GET / HTTP/1.2"), Refused(505));
    row("HTTP/2.0", line("GET / HTTP/2.0"), Refused(505));
    row("HTTP/2", line("GET / HTTP/2"), Refused(400));
    row("HTTP/3.0", line("GET / HTTP/3.0"), Refused(505));
    row("HTTP/11", line("GET / HTTP/11"), Refused(400));
    row("HTTP/1.10", line("GET / HTTP/1.10"), Refused(400));
    row("HTTP/01.1", line("GET / HTTP/01.1"), Refused(400));
    row("HTTP/1.", line("GET / HTTP/1."), Refused(400));
    row("HTTP/1,1", line("GET / HTTP/1,1"), Refused(400));
    row("HTTP 1.1", line("GET / HTTP 1.1"), Refused(400));
    row("http/1.1", line("GET / http/1.1"), Refused(400));
    row("HTTP/+1.1", line("GET / HTTP/+1.1"), Refused(400));
    row("HTTPS/1.1", line("GET / HTTPS/1.1"), Refused(400));
    row("RTSP/1.0", line("DESCRIBE / RTSP/1.0"), Refused(400));
    row("ICY", line("SOURCE / ICE/1.0"), Refused(400));
    row("a space behind the version", line("GET / HTTP/1.1 "), Refused(400));
    row("a tab behind the version", line("GET / HTTP/1.1\t"), Refused(400));
    row("more behind the version", line("GET / HTTP/1.1 X"), Refused(400));
    row("two spaces before the target", line("GET  / HTTP/1.1"), Refused(400));
    row("two spaces before the version", line("GET /  HTTP/1.1"), Refused(400));
    row("a tab before the target", line("GET\t/ HTTP/1.1"), Refused(400));
    row("a tab before the version", line("GET /\tHTTP/1.1"), Refused(400));
    row("VT before the target", line("GET\u{b}/ HTTP/1.1"), Refused(400));
    row("a space in the target", line("GET /a b HTTP/1.1"), Refused(400));
    row("a second version in the target", line("GET /smuggled HTTP/1.1 /x HTTP/1.1"), Refused(400));
    row("no target", line("GET HTTP/1.1"), Refused(400));
    row("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), Refused(505));
    row("PRI in HTTP/1.1", line("PRI * HTTP/1.1"), Refused(501));
    row("the preface in HTTP/1.1", "PRI * HTTP/1.1\r\n\r\nSM\r\n\r\n".into(), Refused(501));
    row("a TLS hello", "\u{16}\u{3}\u{1}\u{2}\0".into(), Refused(400));
    row("a PROXY protocol header", format!("PROXY TCP4 6.6.6.6 127.0.0.1 1 2\r\n{}", get("")), Refused(400));

    // --- methods (RFC 9110 §9) ----------------------------------------------------------------------------------------
    for method in ["HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "M-SEARCH", "QUERY"] {
        row("a method of the registry", line(&format!("{method} / HTTP/1.1")), Same);
    }
    row("CONNECT, authority-form", line("CONNECT HOST:443 HTTP/1.1"), Refused(501));
    row("CONNECT elsewhere", line("CONNECT 127.0.0.1:22 HTTP/1.1"), Refused(501));
    row("CONNECT with a path", line("CONNECT / HTTP/1.1"), Refused(501));
    row("connect", line("connect HOST:443 HTTP/1.1"), Refused(501));
    row("TRACE", line("TRACE / HTTP/1.1"), Refused(501));
    row("TRACE with a body", "TRACE / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 5\r\n\r\nhello".into(), Refused(501));
    row("TRACK", line("TRACK / HTTP/1.1"), Refused(501));
    row("get", line("get / HTTP/1.1"), Refused(501));
    row("Get", line("Get / HTTP/1.1"), Refused(501));
    row("GETT", line("GETT / HTTP/1.1"), Refused(501));
    row("a method of nobody", line("FOO / HTTP/1.1"), Refused(501));
    row("a method of 24 bytes", line("AAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1"), Refused(501));
    row("a method of 25 bytes", line("AAAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1"), Refused(501));
    row("a method with a colon", line("GET: / HTTP/1.1"), Refused(400));
    row("a method with NUL", line("G\0ET / HTTP/1.1"), Refused(400));
    row("a method with a high byte", line("G\u{c9}T / HTTP/1.1"), Refused(400));
    row("a method in quotes", line("\"GET\" / HTTP/1.1"), Refused(400));

    // --- targets (RFC 9112 §3.2, RFC 3986) ----------------------------------------------------------------------------
    row("absolute-form", line("GET https://HOST/x?y HTTP/1.1"), becomes(&line("GET /x?y HTTP/1.1")));
    row("absolute-form without a path", line("GET https://HOST HTTP/1.1"), becomes(&line("GET / HTTP/1.1")));
    row("absolute-form with a query alone", line("GET https://HOST?y HTTP/1.1"), Refused(400));
    row("absolute-form in upper case", line("GET HTTPS://SOCKET.RECRE.STORE/x HTTP/1.1"), becomes(&line("GET /x HTTP/1.1")));
    row("absolute-form with the port", line("GET https://HOST:443/x HTTP/1.1"), Refused(400));
    row("absolute-form with the port, and Host as well", "GET https://HOST:443/x HTTP/1.1\r\nHost: HOST:443\r\n\r\n".into(), becomes("GET /x HTTP/1.1\r\nHost: HOST:443\r\n\r\n"));
    row("absolute-form of http", line("GET http://HOST/x HTTP/1.1"), Answered(421));
    row("absolute-form with another port", line("GET https://HOST:444/x HTTP/1.1"), Refused(400));
    row("absolute-form of another host", line("GET https://evil.test/x HTTP/1.1"), Refused(400));
    row("absolute-form of another host, Host agrees", "GET https://evil.test/x HTTP/1.1\r\nHost: evil.test\r\n\r\n".into(), Answered(421));
    row("absolute-form with userinfo", line("GET https://HOST@evil.test/x HTTP/1.1"), Refused(400));
    row("absolute-form with userinfo of ours", line("GET https://user@HOST/x HTTP/1.1"), Refused(400));
    row("absolute-form of another scheme", line("GET ftp://HOST/x HTTP/1.1"), Refused(400));
    row("absolute-form of a WebSocket", line("GET wss://HOST/x HTTP/1.1"), Refused(400));
    row("absolute-form without a host", line("GET https:///x HTTP/1.1"), Refused(400));
    row("absolute-form with one slash", line("GET https:/HOST/x HTTP/1.1"), Refused(400));
    row("absolute-form with a backslash", line("GET https://HOST\\@evil.test/x HTTP/1.1"), Refused(400));
    row("absolute-form without Host", "GET https://HOST/x HTTP/1.1\r\n\r\n".into(), Refused(400));
    row("absolute-form with an empty port", line("GET https://HOST:/x HTTP/1.1"), Refused(400));
    row("absolute-form of IPv6 with a zone", line("GET https://[fe80::1%25eth0]/x HTTP/1.1"), Refused(400));
    row("authority-form", line("GET HOST:443 HTTP/1.1"), Refused(400));
    row("a target that is a host", line("GET HOST HTTP/1.1"), Refused(400));
    row("a target without its slash", line("GET x HTTP/1.1"), Refused(400));
    row("a target of a question", line("GET ?x HTTP/1.1"), Refused(400));
    row("asterisk-form", line("OPTIONS * HTTP/1.1"), Refused(400));
    row("asterisk-form in full", line("OPTIONS https://HOST HTTP/1.1"), Refused(400));
    row("absolute-form of OPTIONS", line("OPTIONS https://HOST/ HTTP/1.1"), becomes(&line("OPTIONS / HTTP/1.1")));
    row("asterisk-form of GET", line("GET * HTTP/1.1"), Refused(400));
    row("asterisk-form and more", line("OPTIONS *x HTTP/1.1"), Refused(400));
    row("a fragment", line("GET /x#y HTTP/1.1"), Refused(400));
    row("a fragment that is empty", line("GET /# HTTP/1.1"), Refused(400));
    row("a target with a high byte", line("GET /\u{e9} HTTP/1.1"), Refused(400));
    row("a target with NUL", line("GET /\0 HTTP/1.1"), Refused(400));
    row("a target with DEL", line("GET /\u{7f} HTTP/1.1"), Refused(400));
    row("a target with a quote", line("GET /\"x\" HTTP/1.1"), Refused(400));
    row("a target with angles", line("GET /<x> HTTP/1.1"), Refused(400));
    row("a target with CR", line("GET /x\ry HTTP/1.1"), Refused(400));
    row("a target of %00", line("GET /x%00y HTTP/1.1"), Answered(400));
    row("a query of %00", line("GET /?x%00y HTTP/1.1"), Same);
    row("%0d%0a stays as it is", line("GET /x%0d%0aX:%20y HTTP/1.1"), Same);
    row("a broken escape", line("GET /%zz HTTP/1.1"), Answered(400));
    row("half an escape", line("GET /x% HTTP/1.1"), Answered(400));
    row("half an escape in the query", line("GET /?x=100% HTTP/1.1"), Same);
    row("dot segments within", line("GET /a/../b HTTP/1.1"), Same);
    row("dot segments above the root", line("GET /../x HTTP/1.1"), Answered(400));
    row("dot segments above the root, escaped", line("GET /%2e%2e/x HTTP/1.1"), Answered(400));
    row("dot segments above the root, later", line("GET /a/../../x HTTP/1.1"), Answered(400));
    row("a double slash", line("GET //x//y HTTP/1.1"), Same);
    row("a double slash that reads as a host", line("GET //evil.test/x HTTP/1.1"), Same);
    row("an escaped slash", line("GET /a%2Fb HTTP/1.1"), Same);
    row("a backslash", line("GET /a\\b HTTP/1.1"), Same);
    row("to the private route, straight", line("GET /private/x HTTP/1.1"), Answered(403));
    row("to the private route by dots", line("GET /a/../private/x HTTP/1.1"), Answered(400));
    row("to the private route by escaped dots", line("GET /a/%2e%2e/private/x HTTP/1.1"), Answered(400));
    row("to the private route by dots escaped twice", line("GET /a/%252e%252e/private/x HTTP/1.1"), Answered(400));
    row("to the private route by a double slash", line("GET //private/x HTTP/1.1"), Answered(400));
    row("to the private route by a backslash", line("GET /a/..\\private/x HTTP/1.1"), Answered(400));
    row("to the private route by a parameter", line("GET /a/..;/private/x HTTP/1.1"), Answered(400));
    row("to the private route by an escaped letter", line("GET /%70rivate/x HTTP/1.1"), Answered(400));
    row("to the private route in full", line("GET https://HOST/private/x HTTP/1.1"), Answered(403));
    row("a target of 8192 bytes", line(&format!("GET /{} HTTP/1.1", "x".repeat(8191))), Same);
    row("a target of 8193 bytes", line(&format!("GET /{} HTTP/1.1", "x".repeat(8192))), Refused(414));

    // --- Host (RFC 9112 §3.2, RFC 9110 §7.2) --------------------------------------------------------------------------
    row("no Host", host(""), Refused(400));
    row("no Host in HTTP/1.0", "GET / HTTP/1.0\r\n\r\n".into(), Refused(400));
    row("two Hosts", host("Host: HOST\r\nHost: HOST\r\n"), Refused(400));
    row("two Hosts, the second another", host("Host: HOST\r\nHost: evil.test\r\n"), Refused(400));
    row("two Hosts, far apart", host("Host: HOST\r\nX: y\r\nhOsT: evil.test\r\n"), Refused(400));
    row("Host of nothing", host("Host:\r\n"), Refused(400));
    row("Host with a list", host("Host: HOST, evil.test\r\n"), Refused(400));
    row("Host with a space", host("Host: HOST evil.test\r\n"), Refused(400));
    row("Host with a path", host("Host: HOST/x\r\n"), Refused(400));
    row("Host with a scheme", host("Host: https://HOST\r\n"), Refused(400));
    row("Host with userinfo", host("Host: user@HOST\r\n"), Refused(400));
    row("Host as userinfo", host("Host: HOST@evil.test\r\n"), Refused(400));
    row("Host with a question", host("Host: HOST?x\r\n"), Refused(400));
    row("Host with a fragment", host("Host: HOST#@evil.test\r\n"), Refused(400));
    row("Host with NUL", host("Host: HOST\0\r\n"), Refused(400));
    row("Host with a high byte", host("Host: HOST\u{e9}\r\n"), Refused(400));
    row("Host with an escape", host("Host: socket%2erecre.store\r\n"), Refused(400));
    row("Host with a port", host("Host: HOST:443\r\n"), Same);
    row("Host with any port", host("Host: HOST:9\r\n"), Same);
    row("Host with a port of letters", host("Host: HOST:x\r\n"), Refused(400));
    row("Host with a port too large", host("Host: HOST:65536\r\n"), Refused(400));
    row("Host with an empty port", host("Host: HOST:\r\n"), Same);
    row("Host with a signed port", host("Host: HOST:+443\r\n"), Refused(400));
    row("Host with two ports", host("Host: HOST:443:444\r\n"), Refused(400));
    row("Host with a trailing dot", host("Host: HOST.\r\n"), Same);
    row("Host with two trailing dots", host("Host: HOST..\r\n"), Refused(400));
    row("Host in upper case", host("Host: SOCKET.RECRE.STORE\r\n"), Same);
    row("Host of another name", host("Host: evil.test\r\n"), Answered(421));
    row("Host of a parent", host("Host: recre.store\r\n"), Answered(421));
    row("Host of an address", host("Host: 127.0.0.1\r\n"), Answered(421));
    row("Host of IPv6", host("Host: [::1]\r\n"), Answered(421));
    row("Host of IPv6 with a zone", host("Host: [fe80::1%eth0]\r\n"), Refused(400));
    row("Host of IPv6 without brackets", host("Host: ::1\r\n"), Refused(400));
    row("Host with a space before the colon", host("Host : HOST\r\n"), Refused(400));
    row("Host on a folded line", host("Host:\r\n HOST\r\n"), Refused(400));
    row("Host with an underscore does not exist", host("Host: HOST\r\nH_ost: evil.test\r\n"), Same);

    // --- Connection and hop-by-hop fields (RFC 9110 §7.6.1) -----------------------------------------------------------
    row("Connection: close is the last", get("Connection: close\r\n"), Last(get("")));
    row("Connection: keep-alive", get("Connection: keep-alive\r\nKeep-Alive: timeout=9\r\n"), becomes(&get("")));
    row("Connection names a field of its own", get("Connection: X-Hop\r\nX-Hop: gone\r\nx-hop: gone\r\nX: y\r\n"), becomes(&get("X: y\r\n")));
    row("Connection: close, and a field that is not there", get("Connection: close, X-Nothing\r\n"), Last(get("")));
    for named in ["Host", "X-Forwarded-For", "X_Forwarded_For", "Forwarded", "X-Real-IP", "Cookie", "Authorization", "Origin", "Content-Type",
        "Sec-WebSocket-Key", "Expect", "Connection", "x-forwarded-proto", "Range"] {
        row("Connection names a field that matters", get(&format!("Connection: close, {named}\r\n")), Refused(400));
    }
    row("Connection is no list", get("Connection: close; X-Forwarded-For\r\n"), Refused(400));
    row("Connection in quotes", get("Connection: \"close\"\r\n"), Refused(400));
    row("Connection with a high byte", get("Connection: close\u{e9}\r\n"), Refused(400));
    row("Connection of nothing", get("Connection:\r\nConnection: ,\r\n"), becomes(&get("")));
    row("Connection with an underscore is another field", get("Proxy_Connection: close\r\n"), becomes(&get("")));
    row("TE", get("TE: trailers, deflate\r\nConnection: TE\r\n"), becomes(&get("")));
    row("Proxy-Authorization", get("Proxy-Authorization: Basic eA==\r\nProxy-Connection: close\r\n"), becomes(&get("")));
    row("17 options", get(&format!("Connection: {}\r\n", (0..17).map(|n| format!("x-{n}")).collect::<Vec<_>>().join(", "))), Refused(400));
    row("16 options", get(&format!("Connection: {}\r\n", (0..16).map(|n| format!("x-{n}")).collect::<Vec<_>>().join(", "))), becomes(&get("")));

    // --- HTTP/1.0 (RFC 9112 §9.3) -------------------------------------------------------------------------------------
    row("HTTP/1.0 is the last", "GET / HTTP/1.0\r\nHost: HOST\r\n\r\n".into(), Last(get("")));
    row("HTTP/1.0 that stays", "GET / HTTP/1.0\r\nHost: HOST\r\nConnection: keep-alive\r\n\r\n".into(), becomes(&get("")));
    row("HTTP/1.0 with a body", "POST / HTTP/1.0\r\nHost: HOST\r\nContent-Length: 5\r\n\r\nhello".into(), Last(post("Content-Length: 5\r\n", "hello")));
    row("a GET of HTTP/1.0 with a body", "GET / HTTP/1.0\r\nHost: HOST\r\nContent-Length: 5\r\n\r\nhello".into(), Refused(400));
    row("HTTP/1.0 with two lengths", "POST / HTTP/1.0\r\nHost: HOST\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello".into(), Refused(400));
    row("HTTP/1.0 in full, without Host", "GET https://HOST/x HTTP/1.0\r\n\r\n".into(), Last("GET /x HTTP/1.1\r\nHost: HOST\r\n\r\n".into()));

    // --- Expect (RFC 9110 §10.1.1) ------------------------------------------------------------------------------------
    row("Expect: 100-continue", post("Expect: 100-continue\r\nContent-Length: 5\r\n", "hello"), Same);
    row("Expect in another case", post("Expect: 100-Continue\r\nContent-Length: 5\r\n", "hello"), Same);
    row("Expect without a body", get("Expect: 100-continue\r\n"), Same);
    row("Expect of something else", post("Expect: 200-ok\r\nContent-Length: 5\r\n", "hello"), Refused(417));
    row("Expect of two things", post("Expect: 100-continue, x\r\nContent-Length: 5\r\n", "hello"), Refused(417));
    row("Expect with a parameter", post("Expect: 100-continue;x\r\nContent-Length: 5\r\n", "hello"), Refused(417));
    row("Expect of nothing", post("Expect:\r\nContent-Length: 5\r\n", "hello"), Refused(417));
    row("Expect in HTTP/1.0 ends here", "POST / HTTP/1.0\r\nHost: HOST\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello".into(), Last(post("Content-Length: 5\r\n", "hello")));

    // --- upgrades (RFC 6455 §4.2.1, RFC 9110 §7.8) --------------------------------------------------------------------
    row("a WebSocket that the upstream refuses is the last", websocket(""), asked(""));
    row("early frames are dropped then", websocket("") + "\u{81}\u{85}\u{1}\u{2}\u{3}\u{4}ignps", asked(""));
    row("a WebSocket with a length of 0", websocket("Content-Length: 0\r\n"), asked("Content-Length: 0\r\n"));
    row("a WebSocket with subprotocols and extensions", websocket("Sec-WebSocket-Protocol: a, b\r\nSec-WebSocket-Extensions: permessage-deflate; x\r\n"),
        asked("Sec-WebSocket-Protocol: a, b\r\nSec-WebSocket-Extensions: permessage-deflate; x\r\n"));
    row("a WebSocket with a length", websocket("Content-Length: 5\r\n") + "hello", Refused(400));
    row("a WebSocket with a coding", websocket("Transfer-Encoding: chunked\r\n") + "0\r\n\r\n", Refused(400));
    row("a WebSocket of POST", websocket("").replace("GET", "POST"), Refused(400));
    row("a WebSocket of HEAD", websocket("").replace("GET", "HEAD"), Refused(400));
    row("a WebSocket in HTTP/1.0", websocket("").replace("HTTP/1.1", "HTTP/1.0"), Refused(400));
    row("a WebSocket without Connection", websocket("").replace("Connection: Upgrade\r\n", ""), Refused(400));
    row("a WebSocket with Connection: close alone", websocket("").replace("Connection: Upgrade", "Connection: close"), Refused(400));
    row("a WebSocket with more options", websocket("").replace("Connection: Upgrade", "Connection: keep-alive, uPGRADE"), asked(""));
    row("a WebSocket and h2c", websocket("").replace("Upgrade: websocket", "Upgrade: h2c, websocket"), Refused(400));
    row("a WebSocket twice", websocket("").replace("Upgrade: websocket", "Upgrade: websocket, websocket"), Refused(400));
    row("a WebSocket on two lines", websocket("Upgrade: h2c\r\n"), Refused(400));
    row("a WebSocket with a version behind", websocket("").replace("Upgrade: websocket", "Upgrade: websocket/13"), becomes(&get(&format!("{KEY}Sec-WebSocket-Version: 13\r\n"))));
    row("version 8", websocket("").replace("Version: 13", "Version: 8"), Refused(426));
    row("version 13, 8", websocket("").replace("Version: 13", "Version: 13, 8"), Refused(426));
    row("version 013", websocket("").replace("Version: 13", "Version: 013"), Refused(426));
    row("version twice", websocket("Sec-WebSocket-Version: 13\r\n"), Refused(426));
    row("no version", websocket("").replace("Sec-WebSocket-Version: 13\r\n", ""), Refused(426));
    row("no key", websocket("").replace(KEY, ""), Refused(400));
    row("the key twice", websocket(KEY), Refused(400));
    row("a key too short", websocket("").replace("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ=="), Refused(400));
    row("a key too long", websocket("").replace("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZSBhbmQgbW9yZQ=="), Refused(400));
    row("a key that is no base64", websocket("").replace("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j!Q=="), Refused(400));
    row("a key of base64url", websocket("").replace("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub2-_ZQ=="), Refused(400));
    row("an empty key", websocket("").replace("dGhlIHNhbXBsZSBub25jZQ==", ""), Refused(400));
    row("a key in a list", websocket("").replace("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ==, x"), Refused(400));
    row("a subprotocol that is no token", websocket("Sec-WebSocket-Protocol: a b\r\n"), Refused(400));
    row("an extension that is no token", websocket("Sec-WebSocket-Extensions: a b\r\n"), Refused(400));
    row("h2c: the request goes on without it", get("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"), becomes(&get("")));
    row("h2c without its settings named", get("Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n"), becomes(&get("")));
    row("h2c of POST", post("Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n", "hello"), becomes(&post("Content-Length: 5\r\n", "hello")));
    row("an upgrade to TLS", get("Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n"), becomes(&get("")));
    row("Upgrade without Connection", get("Upgrade: x\r\n"), becomes(&get("")));
    row("a WebSocket of another origin", websocket("Origin: https://evil.test\r\n"), Refused(403));
    row("a WebSocket of two origins", websocket("Origin: https://HOST\r\nOrigin: https://HOST\r\n"), Refused(403));
    row("a WebSocket of its own origin", websocket("Origin: https://HOST\r\n"), asked("Origin: https://HOST\r\n"));

    rows
}
