use super::*;
use crate::fuzz::messages::scan_bytewise;
use crate::http::answer::Problem;

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 8192, fields_max: 64, target_bytes_max: 2048 };

fn request(head: &str) -> Result<RequestHead<'_>, HeadFault> {
    scanned(HeadScanner::request(), head.as_bytes())?;
    parse_request(head.as_bytes(), &LIMITS).map_err(|error| error.fault)
}

fn response(head: &str) -> Result<ResponseHead<'_>, HeadFault> {
    scanned(HeadScanner::response(), head.as_bytes())?;
    parse_response(head.as_bytes(), false, &LIMITS).map_err(|error| error.fault)
}

fn scanned(mut scanner: HeadScanner, head: &[u8]) -> Result<(), HeadFault> {
    match scanner.scan(head, &LIMITS) {
        Ok(Some(n)) => {
            assert_eq!(n, head.len());
            Ok(())
        }
        Ok(None) => panic!("the sample is only a part of a head"),
        Err(error) => Err(error.fault),
    }
}

/// A GET with these field lines.
fn with(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n")
}

fn fault(fields: &str) -> HeadFault {
    match request(&with(fields)) {
        Err(fault) => fault,
        Ok(_) => panic!("{fields:?} was let through"),
    }
}

const POLL: &str = "GET /socket.io/?EIO=4&transport=polling&t=P_1a.b-c&sid=x%2Fy|{} HTTP/1.1\r\n\
    Host: Chat.Home.Arpa:8443\r\n\
    Accept: */*\r\n\
    X-Empty:\r\n\
    Cookie:  a=b; c=\"d\" \t\r\n\
    X-Latin: caf\u{e9}\r\n\r\n";

#[test]
fn a_poll_is_read_byte_for_byte() {
    let head = request(POLL).unwrap();
    assert_eq!((head.method, head.path), ("GET", "/socket.io/"));
    assert_eq!(head.query, Some("EIO=4&transport=polling&t=P_1a.b-c&sid=x%2Fy|{}"));
    assert_eq!((head.host.to_string().as_str(), head.port), ("chat.home.arpa", Some(8443)));
    assert_eq!(head.authority, "Chat.Home.Arpa:8443");
    assert_eq!((head.framing, head.keep_alive, head.asks_upgrade), (Framing::None, true, false));
    let names: Vec<_> = head.fields.iter().map(|field| field.name.escape_ascii().to_string()).collect();
    assert_eq!(names, ["Host", "Accept", "X-Empty", "Cookie", "X-Latin"]);
    assert_eq!(head.fields.values("COOKIE").collect::<Vec<_>>(), [b"a=b; c=\"d\""]);
    assert_eq!(head.fields.values("x-empty").collect::<Vec<_>>(), [b""]);
    assert_eq!(head.fields.values("x-latin").collect::<Vec<_>>(), ["caf\u{e9}".as_bytes()]);
}

#[test]
fn field_lines_cover_the_head_without_gaps() {
    let head = request(POLL).unwrap();
    let lines: Vec<_> = head.fields.iter().map(|field| &POLL.as_bytes()[field.line]).collect();
    let first = POLL.find("\r\n").unwrap() + 2;
    assert_eq!(lines.concat(), POLL.as_bytes()[first..POLL.len() - 2]);
    assert!(lines.iter().all(|line| line.ends_with(b"\r\n")));
}

#[test]
fn every_prefix_of_a_head_is_partial() {
    for (start, head) in [
        (HeadScanner::request(), POLL),
        (HeadScanner::request(), "\r\nOPTIONS * HTTP/1.0\r\n\r\n"),
        (HeadScanner::response(), "HTTP/1.1 200 OK\r\nA: b\r\n\r\n"),
        (HeadScanner::response(), "HTTP/1.0 404\r\n\r\n"),
    ] {
        let bytes = head.as_bytes();
        for n in 0..bytes.len() {
            assert_eq!(start.clone().scan(&bytes[..n], &LIMITS), Ok(None), "{head:?} cut at {n}");
        }
        let followed = [bytes, b"\0rest of what came"].concat();
        assert_eq!(start.clone().scan(&followed, &LIMITS), Ok(Some(bytes.len())));
    }
}

#[test]
fn a_head_is_the_same_however_it_is_cut() {
    let bytes = POLL.as_bytes();
    for n in 0..bytes.len() {
        let mut scanner = HeadScanner::request();
        assert_eq!(scanner.scan(&bytes[..n], &LIMITS), Ok(None));
        assert_eq!(scanner.scan(bytes, &LIMITS), Ok(Some(bytes.len())));
        assert_eq!(scanner.scan(bytes, &LIMITS), Ok(Some(bytes.len())), "a finished scan says so again");
    }
    assert_eq!(scan_bytewise(HeadScanner::request(), bytes, &LIMITS), Ok(Some(bytes.len())));
}

#[test]
fn what_httparse_forgives_is_refused() {
    use HeadFault::*;
    for (head, expected) in [
        ("GET / HTTP/1.1\nHost: a.test\r\n\r\n", LfWithoutCr),
        ("GET / HTTP/1.1\r\nHost: a.test\n\r\n", LfWithoutCr),
        ("GET / HTTP/1.1\r\nHost: a.test\r\n\n", LfWithoutCr),
        ("GET / HTTP/1.1\r\nHost: a.test\r\n\rX", CrWithoutLf),
        ("GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", CrWithoutLf),
        ("GET / HTTP/1.1\rHost: a.test\r\n\r\n", CrWithoutLf),
        ("\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n", LfWithoutCr),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n", SecondBlankLine),
        ("GET / HTTP/1.1\r\nHost: a.test\r\n folded\r\n\r\n", FoldedLine),
        ("GET / HTTP/1.1\r\n\tHost: a.test\r\n\r\n", FoldedLine),
        ("GET / HTTP/1.1\r\nHost : a.test\r\n\r\n", SpaceBeforeColon),
        ("GET / HTTP/1.1\r\n: a.test\r\n\r\n", EmptyName),
        ("GET / HTTP/1.1\r\nHost\r\n\r\n", NoColon),
        ("GET / HTTP/1.1\r\nHo\u{1}st: a\r\n\r\n", BadByte { byte: 1, part: "field name" }),
        ("GET / HTTP/1.1\r\nH\u{e9}: a\r\n\r\n", BadByte { byte: 0xc3, part: "field name" }),
        ("GET / HTTP/1.1\r\nA: b\0c\r\n\r\n", BadByte { byte: 0, part: "field value" }),
        ("GET / HTTP/1.1\r\nA: b\u{b}c\r\n\r\n", BadByte { byte: 0xb, part: "field value" }),
        ("GET / HTTP/1.1\r\nA: b\u{7f}\r\n\r\n", BadByte { byte: 0x7f, part: "field value" }),
        ("GET /caf\u{e9} HTTP/1.1\r\n\r\n", BadByte { byte: 0xc3, part: "target" }),
        ("GET /#top HTTP/1.1\r\n\r\n", BadByte { byte: b'#', part: "target" }),
        ("GET /\"<> HTTP/1.1\r\n\r\n", BadByte { byte: b'"', part: "target" }),
        ("GET\t/ HTTP/1.1\r\n\r\n", BadByte { byte: b'\t', part: "method" }),
        ("\u{16}\u{3}\u{1}", BadByte { byte: 0x16, part: "method" }),
        ("GET  / HTTP/1.1\r\n\r\n", RequestLineMalformed),
        ("GET /\r\n\r\n", RequestLineMalformed),
        (" GET / HTTP/1.1\r\n\r\n", RequestLineMalformed),
        ("GET / HTTP/1.1 \r\n\r\n", VersionMalformed),
        ("GET /  HTTP/1.1\r\n\r\n", VersionMalformed),
        ("GET / http/1.1\r\n\r\n", VersionMalformed),
        ("GET / HTTP/1.10\r\n\r\n", VersionMalformed),
        ("GET / HTTP/1.2\r\n\r\n", VersionNotSupported),
        ("GET / HTTP/0.9\r\n\r\n", VersionNotSupported),
        ("PRI * HTTP/2.0\r\n\r\n", VersionNotSupported),
    ] {
        let found = HeadScanner::request().scan(head.as_bytes(), &LIMITS);
        assert_eq!(found.map_err(|error| error.fault), Err(expected), "{head:?}");
    }
}

#[test]
fn an_error_names_the_byte_and_comes_with_it() {
    let head = b"GET / HTTP/1.1\r\nHost: a\0";
    let error = HeadScanner::request().scan(head, &LIMITS).unwrap_err();
    assert_eq!(error.offset, head.len() - 1);
    assert_eq!(error.to_string(), "byte 23 of the head: byte 0x00 is not allowed in a field value");
    assert_eq!(HeadScanner::request().scan(&head[..head.len() - 1], &LIMITS), Ok(None));
}

#[test]
fn one_empty_line_before_a_request_is_ignored() {
    let head = request("\r\nGET /a HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap();
    assert_eq!((head.method, head.path), ("GET", "/a"));
    assert!(response("\r\nHTTP/1.1 200 OK\r\n\r\n").is_err(), "not before a response");
}

#[test]
fn every_byte_of_a_target_is_decided() {
    let mut refused = Vec::new();
    for byte in 0..=255_u8 {
        let head = [b"GET /", &[byte][..], b" HTTP/1.1\r\nHost: a.test\r\n\r\n"].concat();
        match HeadScanner::request().scan(&head, &LIMITS) {
            Ok(Some(_)) => {
                assert!(parse_request(&head, &LIMITS).is_ok(), "httparse and we differ on {byte:#x}")
            }
            _ => refused.push(byte),
        }
    }
    let graphic: Vec<_> = refused.iter().filter(|byte| byte.is_ascii_graphic()).copied().collect();
    assert_eq!(graphic, b"\"#<>");
    assert_eq!(refused.len(), 0x21 + 4 + 1 + 0x80, "and no control, no space, nothing above ASCII");
}

#[test]
fn every_byte_of_a_name_and_a_value_is_decided() {
    for byte in 0..=255_u8 {
        let name = [b"GET / HTTP/1.1\r\nHost: a.test\r\nX", &[byte][..], b": 1\r\n\r\n"].concat();
        let value = [b"GET / HTTP/1.1\r\nHost: a.test\r\nX: a", &[byte][..], b"b\r\n\r\n"].concat();
        let passes = |head: &[u8]| {
            let scanned =
                matches!(HeadScanner::request().scan(head, &LIMITS), Ok(Some(n)) if n == head.len());
            assert!(!scanned || parse_request(head, &LIMITS).is_ok(), "httparse and we differ on {byte:#x}");
            scanned
        };
        let token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        assert_eq!(passes(&name), token || byte == b':', "name with {byte:#x}");
        assert_eq!(passes(&value), byte == b'\t' || (byte >= 0x20 && byte != 0x7f), "value with {byte:#x}");
    }
}

#[test]
fn limits_hold_just_above_and_not_just_below() {
    let head = "GET /123456789 HTTP/1.1\r\nHost: a.test\r\nX: y\r\n\r\n";
    let fits = HeadLimits { head_bytes_max: head.len(), fields_max: 2, target_bytes_max: 10 };
    assert!(parse_request(head.as_bytes(), &fits).is_ok());
    for (limits, fault, problem) in [
        (
            HeadLimits { head_bytes_max: head.len() - 1, ..fits },
            HeadFault::HeadTooLong { limit: head.len() - 1, key: "head_bytes_max" },
            Problem::HeadTooLarge,
        ),
        (
            HeadLimits { fields_max: 1, ..fits },
            HeadFault::TooManyFields { limit: 1, key: "fields_max" },
            Problem::HeadTooLarge,
        ),
        (
            HeadLimits { target_bytes_max: 9, ..fits },
            HeadFault::TargetTooLong { limit: 9 },
            Problem::TargetTooLong,
        ),
    ] {
        let error = parse_request(head.as_bytes(), &limits).unwrap_err();
        assert_eq!((error.fault, error.problem()), (fault, problem));
        assert_eq!(scan_bytewise(HeadScanner::request(), head.as_bytes(), &limits), Err(error));
    }
}

#[test]
fn a_long_target_is_refused_before_it_ends() {
    let limits = HeadLimits { target_bytes_max: 10, ..LIMITS };
    assert_eq!(HeadScanner::request().scan(b"GET /123456789", &limits), Ok(None));
    let error = HeadScanner::request().scan(b"GET /1234567890", &limits).unwrap_err();
    assert_eq!((error.offset, error.fault), (14, HeadFault::TargetTooLong { limit: 10 }));
    let at_once = HeadScanner::request().scan(&[b"GET /".as_slice(), &[b"a"[0]; 500]].concat(), &limits);
    assert_eq!(at_once, Err(error), "however many bytes too many came at once");
}

#[test]
fn a_head_without_end_is_refused_at_the_limit() {
    let limits = HeadLimits { head_bytes_max: 64, ..LIMITS };
    let endless = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'a'; 100]].concat();
    assert_eq!(HeadScanner::request().scan(&endless[..63], &limits), Ok(None));
    let error = HeadScanner::request().scan(&endless[..64], &limits).unwrap_err();
    assert_eq!(error.fault, HeadFault::HeadTooLong { limit: 64, key: "head_bytes_max" });
}

#[test]
fn the_parsers_array_bounds_the_fields_whatever_the_limit_says() {
    let limits =
        HeadLimits { head_bytes_max: usize::MAX, fields_max: usize::MAX, target_bytes_max: usize::MAX };
    let lines = |n: usize| with(&"X: y\r\n".repeat(n - 1));
    assert_eq!(parse_request(lines(FIELDS_MAX).as_bytes(), &limits).unwrap().fields.len(), FIELDS_MAX);
    let error = parse_request(lines(FIELDS_MAX + 1).as_bytes(), &limits).unwrap_err();
    assert_eq!(error.fault, HeadFault::TooManyFields { limit: FIELDS_MAX, key: "fields_max" });
    let long = |n: usize| with(&format!("X: {}\r\n", "y".repeat(n - with("X: \r\n").len())));
    assert!(parse_request(long(HEAD_BYTES_CEILING).as_bytes(), &limits).is_ok());
    let error = parse_request(long(HEAD_BYTES_CEILING + 1).as_bytes(), &limits).unwrap_err();
    assert_eq!(error.fault, HeadFault::HeadTooLong { limit: HEAD_BYTES_CEILING, key: "head_bytes_max" });
}

#[test]
fn methods_are_those_that_node_knows_but_two() {
    let line = |method: &str| format!("{method} / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    for method in METHODS {
        assert_eq!(request(&line(method)).unwrap().method, method);
    }
    for method in ["CONNECT", "TRACE", "PRI", "trace", "get", "FOO", &"X".repeat(METHOD_BYTES_MAX)] {
        let error = parse_request(line(method).as_bytes(), &LIMITS).unwrap_err();
        assert_eq!((error.fault, error.problem()), (HeadFault::MethodNotServed, Problem::NotImplemented));
    }
    assert_eq!(request(&line(&"X".repeat(METHOD_BYTES_MAX + 1))).unwrap_err(), HeadFault::MethodTooLong);
}

#[test]
fn exactly_one_host() {
    use HeadFault::*;
    let host = |lines: &str, version: &str| {
        let head = format!("GET / HTTP/{version}\r\n{lines}\r\n");
        request(&head).map(|head| (head.host.to_string(), head.port))
    };
    assert_eq!(host("Host: A.test.\r\n", "1.1"), Ok(("a.test".to_owned(), None)));
    assert_eq!(host("host: [::1]:443\r\n", "1.1"), Ok(("::1".to_owned(), Some(443))));
    assert_eq!(host("HOST: 192.168.0.4\r\n", "1.0"), Ok(("192.168.0.4".to_owned(), None)));
    assert_eq!(host("", "1.1"), Err(HostMissing));
    assert_eq!(host("", "1.0"), Err(HostMissing));
    assert_eq!(host("Host: a.test\r\nHost: a.test\r\n", "1.1"), Err(HostRepeated));
    for bad in ["", "a.test, b.test", "user@a.test", "a.test:99999", "a.test:+1", "a b", "a/b", "\u{e9}.test"]
    {
        assert_eq!(host(&format!("Host: {bad}\r\n"), "1.1"), Err(HostMalformed), "{bad:?}");
    }
}

#[test]
fn an_absolute_form_says_the_same_as_host() {
    use HeadFault::*;
    let read = |target: &str, host: &str| {
        let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        request(&head).map(|head| (head.path.to_owned(), head.query.map(str::to_owned)))
    };
    let ok = |path: &str, query: Option<&str>| Ok((path.to_owned(), query.map(str::to_owned)));
    assert_eq!(read("https://a.test/x?y", "A.test"), ok("/x", Some("y")));
    assert_eq!(read("HTTP://a.test:80", "a.test:80"), ok("/", None));
    assert_eq!(read("https://a.test:443/", "a.test"), Err(HostDiffers));
    assert_eq!(read("https://a.test./", "a.test"), Err(HostDiffers));
    assert_eq!(read("https://a.test/x", "b.test"), Err(HostDiffers));
    assert_eq!(read("https://a.test:444/x", "a.test"), Err(HostDiffers));
    assert_eq!(read("https://u@a.test/x", "u@a.test"), Err(HostMalformed));
    assert_eq!(read("https://u@a.test/x", "a.test"), Err(HostDiffers));
    assert_eq!(read("https:///x", "a.test"), Err(HostDiffers));
    for bad in
        ["ftp://a.test/", "a.test/", "a.test:443", "x://y", "*", "https:/a.test/", "https://a.test?q", "?q"]
    {
        assert_eq!(read(bad, "a.test"), Err(TargetForm), "{bad:?}");
    }
    let old = request("GET http://a.test/ HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(old.host.to_string(), "a.test");
    assert_eq!(request("GET http://a.test/ HTTP/1.1\r\n\r\n").unwrap_err(), HostMissing);
}

#[test]
fn asterisk_form_is_refused() {
    let path = |line: &str| {
        request(&format!("{line} HTTP/1.1\r\nHost: a.test\r\n\r\n")).map(|head| head.path.to_owned())
    };
    for whole in ["OPTIONS *", "OPTIONS http://a.test", "GET *"] {
        assert_eq!(path(whole), Err(HeadFault::TargetForm), "{whole}");
    }
    assert_eq!(path("OPTIONS http://a.test/").unwrap(), "/");
    assert_eq!(path("GET http://a.test").unwrap(), "/");
}

#[test]
fn ambiguous_framing_is_refused() {
    use HeadFault::*;
    for (fields, expected) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", LengthAndCoding),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", LengthAndCoding),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", LengthRepeated),
        ("Content-Length: 5\r\ncontent-length: 5\r\n", LengthRepeated),
        ("Content-Length: 5, 5\r\n", LengthMalformed),
        ("Content-Length: +5\r\n", LengthMalformed),
        ("Content-Length: -5\r\n", LengthMalformed),
        ("Content-Length: 5 \u{a0}\r\n", LengthMalformed),
        ("Content-Length: 0x5\r\n", LengthMalformed),
        ("Content-Length: 5.0\r\n", LengthMalformed),
        ("Content-Length: 5 6\r\n", LengthMalformed),
        ("Content-Length:\r\n", LengthMalformed),
        ("Content-Length: 9223372036854775808\r\n", LengthMalformed),
        ("Content-Length: 05\r\n", LengthMalformed),
        ("Content-Length:\t5\r\n", TabInFraming),
        ("Content-Length: 5\t\r\n", TabInFraming),
        ("Transfer-Encoding: chunked\t\r\n", TabInFraming),
        ("Content_Length: 5\r\n", UnderscoreInName),
        ("Transfer_Encoding: chunked\r\n", UnderscoreInName),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", CodingMalformed),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", CodingMalformed),
        ("Transfer-Encoding: chunked, chunked\r\n", CodingMalformed),
        ("Transfer-Encoding: chunked, gzip\r\n", CodingMalformed),
        ("Transfer-Encoding: ,chunked\r\n", CodingMalformed),
        ("Transfer-Encoding:\r\n", CodingMalformed),
        ("Transfer-Encoding: gzip, chunked\r\n", CodingUnknown),
        ("Transfer-Encoding: identity\r\n", CodingUnknown),
        ("Transfer-Encoding: xchunked\r\n", CodingUnknown),
        ("Transfer-Encoding: \"chunked\"\r\n", CodingMalformed),
        ("Transfer-Encoding: chunked;q=1\r\n", CodingMalformed),
        ("Transfer-Encoding: chunk\u{e9}d\r\n", CodingMalformed),
    ] {
        assert_eq!(fault(fields), expected, "{fields:?}");
    }
    for (fields, expected) in [
        ("Content-Length: 5\r\n", Framing::Length(5)),
        ("Content-Length:  5 \r\n", Framing::Length(5)),
        ("Content-Length: 0\r\n", Framing::Length(0)),
        ("Content-Length: 9223372036854775807\r\n", Framing::Length(u64::MAX >> 1)),
        ("Transfer-Encoding: chunked\r\n", Framing::Chunked),
        ("transfer-encoding: Chunked\r\n", Framing::Chunked),
        ("X-Content-Length: 5\r\n", Framing::None),
    ] {
        assert_eq!(request(&with(fields)).unwrap().framing, expected, "{fields:?}");
    }
    let old = "POST / HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(request(old).unwrap_err(), CodingInHttp10);
}

#[test]
fn connection_options_decide_and_may_not_hide_fields() {
    use HeadFault::*;
    let keep = |version: &str, connection: &str| {
        let head = format!("GET / HTTP/{version}\r\nHost: a.test\r\nConnection: {connection}\r\n\r\n");
        request(&head).map(|head| (head.keep_alive, head.asks_upgrade))
    };
    assert_eq!(keep("1.1", ""), Ok((true, false)));
    assert_eq!(keep("1.0", ""), Ok((false, false)));
    assert_eq!(keep("1.0", "Keep-Alive"), Ok((true, false)));
    assert_eq!(keep("1.1", "keep-alive, Upgrade"), Ok((true, true)));
    assert_eq!(keep("1.1", "keep-alive,CLOSE"), Ok((false, false)));
    assert_eq!(keep("1.1", ", x-trace ,,te"), Ok((true, false)));
    assert_eq!(keep("1.1", "a b"), Err(ConnectionMalformed));
    assert_eq!(keep("1.1", "\"close\""), Err(ConnectionMalformed));
    for name in [
        "Host",
        "content-length",
        "Transfer-Encoding",
        "Cookie",
        "X-Forwarded-For",
        "Sec-WebSocket-Key",
        "x_real_ip",
        "close, X-Client-IP",
        "CF_Connecting_IP",
    ] {
        assert_eq!(keep("1.1", name), Err(ConnectionNamesField), "{name}");
    }
    let options = |n: usize| vec!["x"; n].join(",");
    assert!(keep("1.1", &options(CONNECTION_OPTIONS_MAX)).is_ok());
    assert_eq!(keep("1.1", &options(CONNECTION_OPTIONS_MAX + 1)), Err(ConnectionMalformed));
    // What is held against every field is found once, however much stands between.
    let head = format!(
        "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: x{},close\r\nX: 1\r\nconnection: Y \r\n\r\n",
        ",".repeat(999)
    );
    let head = parse_request(head.as_bytes(), &LIMITS).unwrap();
    assert_eq!(head.fields.connection_options().collect::<Vec<_>>(), [&b"x"[..], b"Y"]);
}

#[test]
fn only_100_continue_can_be_expected() {
    let expects = |version: &str, fields: &str| {
        let head = format!("POST / HTTP/{version}\r\nHost: a.test\r\n{fields}\r\n");
        request(&head).map(|head| head.expects_continue)
    };
    assert_eq!(expects("1.1", "Expect: 100-Continue\r\nContent-Length: 1\r\n"), Ok(true));
    assert_eq!(expects("1.1", "Expect: 100-continue\r\n"), Ok(false), "nothing to wait with");
    assert_eq!(expects("1.0", "Expect: 100-continue\r\nContent-Length: 1\r\n"), Ok(false));
    assert_eq!(expects("1.1", "Expect: 200-ok\r\n"), Err(HeadFault::ExpectationUnknown));
    assert_eq!(
        HeadError { offset: 0, fault: HeadFault::ExpectationUnknown }.problem(),
        Problem::ExpectationFailed
    );
}

#[test]
fn faults_have_their_answers() {
    for (fields, status) in [
        ("Transfer-Encoding: gzip\r\n", 501),
        ("Transfer-Encoding: chunked, chunked\r\n", 400),
        ("Expect: x\r\n", 417),
        ("Host: a.test\r\n", 400),
    ] {
        let head = with(fields);
        assert_eq!(parse_request(head.as_bytes(), &LIMITS).unwrap_err().problem().status(), status);
    }
    let version = HeadScanner::request().scan(b"PRI * HTTP/2.0\r\n\r\n", &LIMITS).unwrap_err();
    assert_eq!(version.problem().status(), 505);
}

#[test]
fn responses_end_as_rfc_9112_section_6_3_says() {
    let read = |head: &str, is_head: bool| {
        let head = parse_response(head.as_bytes(), is_head, &LIMITS).unwrap();
        (head.framing, head.keep_alive)
    };
    for (head, expected) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", (Framing::Length(5), true)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", (Framing::Chunked, true)),
        ("HTTP/1.1 200 OK\r\n\r\n", (Framing::UntilClose, false)),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", (Framing::Length(5), false)),
        (
            "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n",
            (Framing::Length(5), true),
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n", (Framing::Length(5), false)),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", (Framing::None, true)),
        ("HTTP/1.1 204 No Content\r\n\r\n", (Framing::None, true)),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", (Framing::None, true)),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", (Framing::None, false)),
        ("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", (Framing::None, false)),
        ("HTTP/1.1 100 Continue\r\n\r\n", (Framing::None, true)),
        ("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\r\n", (Framing::None, false)),
    ] {
        assert_eq!(read(head, false), expected, "{head:?}");
    }
    assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true), (Framing::None, true));
    assert_eq!(read("HTTP/1.1 200 OK\r\n\r\n", true), (Framing::None, true));
}

#[test]
fn a_response_that_can_be_read_in_two_ways_is_refused() {
    use HeadFault::*;
    for (head, expected) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", LengthRepeated),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\n", LengthRepeated),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 05\r\n\r\n", LengthMalformed),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5,\r\n\r\n", LengthMalformed),
        ("HTTP/1.1 200 OK\nContent-Length: 5\nTransfer-Encoding: chunked\n\n", LengthAndCoding),
        ("HTTP/1.1 200 OK\nA: b\n c\n\n", FoldedLine),
        ("HTTP/1.1 200 OK\nA: b\r\r\n\n", CrWithoutLf),
        ("HTTP/1.1 200 OK\rA: b\n\n", CrWithoutLf),
        ("HTTP/1.1 200 OK\nA: b\r\n\rX", CrWithoutLf),
        ("HTTP/1.1 200 OK\nA\n\n", NoColon),
        ("HTTP/1.1 200 OK\nA: \0\n\n", BadByte { byte: 0, part: "field value" }),
        ("HTTP/1.1\n", LfWithoutCr),
        ("\nHTTP/1.1 200 OK\n\n", LfWithoutCr),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", LengthAndCoding),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", CodingUnknown),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", CodingInHttp10),
        ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", SpaceBeforeColon),
        ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", FoldedLine),
        ("HTTP/1.1 200 O\0K\r\n\r\n", BadByte { byte: 0, part: "reason phrase" }),
        ("HTTP/1.1 099 OK\r\n\r\n", StatusMalformed),
        ("HTTP/1.1 000 OK\r\n\r\n", StatusMalformed),
        ("HTTP/1.1 20\n\n", StatusMalformed),
        ("HTTP/1.1 20 OK\r\n\r\n", StatusMalformed),
        ("HTTP/1.1 2000 OK\r\n\r\n", StatusMalformed),
        ("HTTP/1.1  200 OK\r\n\r\n", StatusMalformed),
        ("HTTP/2.0 200 OK\r\n\r\n", VersionNotSupported),
        ("ICY 200 OK\r\n\r\n", VersionMalformed),
    ] {
        assert_eq!(response(head).unwrap_err(), expected, "{head:?}");
    }
}

#[test]
fn a_slip_of_a_response_with_one_reading_is_read_over_and_ends_its_connection() {
    let read = |head: &str| {
        let mut scanner = HeadScanner::response();
        for n in 0..head.len() {
            assert_eq!(scanner.scan(&head.as_bytes()[..n], &LIMITS), Ok(None), "{head:?} up to {n}");
        }
        let head = parse_response(head.as_bytes(), false, &LIMITS)
            .unwrap_or_else(|error| panic!("{head:?}: {error}"));
        let fields: Vec<_> =
            head.fields.iter().map(|field| (field.name.to_vec(), field.value.to_vec())).collect();
        (head.status, String::from_utf8(head.reason.to_vec()).unwrap(), fields, head.framing, head.keep_alive)
    };
    let good = read("HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 5\r\n\r\n");
    assert!(good.4);
    for slip in [
        "HTTP/1.1 200 OK\nA: b\nContent-Length: 5\n\n",
        "HTTP/1.1 200 OK\r\nA: b\nContent-Length: 5\r\n\n",
        "HTTP/1.1 200 OK\nA: b\r\nContent-Length: 5\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 5\r\n\n",
    ] {
        assert_eq!(read(slip), (good.0, good.1.clone(), good.2.clone(), good.3, false), "{slip:?}");
    }
    for length in
        ["Content-Length: 5\r\nContent-Length: 5", "Content-Length: 5, 5", "Content-Length: 5,\t5 ,5"]
    {
        let (.., framing, keep_alive) = read(&format!("HTTP/1.1 200 OK\r\n{length}\r\n\r\n"));
        assert_eq!((framing, keep_alive), (Framing::Length(5), false), "{length}");
    }
    // No slip: white space around a value is any (RFC 9110 §5.5), and a status is any of three digits (§15).
    for fine in
        ["HTTP/1.1 200 OK\r\nContent-Length:\t5\t\r\n\r\n", "HTTP/1.1 999 OK\r\nContent-Length:5\r\n\r\n"]
    {
        let (.., framing, keep_alive) = read(fine);
        assert_eq!((framing, keep_alive), (Framing::Length(5), true), "{fine:?}");
    }
    assert_eq!(read("HTTP/1.1 600\n\n").0, 600);
    assert_eq!(read("HTTP/1.1 200\n\n").1, "");
    // Requests stay as they are.
    for request in [
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
    ] {
        assert!(scanned(HeadScanner::request(), request.as_bytes()).is_err(), "{request:?}");
    }
}

#[test]
fn a_response_has_bounds_of_its_own() {
    use HeadFault::{HeadTooLong, TooManyFields};
    let head = "HTTP/1.1 200 OK\r\nA: b\r\nC: d\r\n\r\n";
    let fits = HeadLimits { head_bytes_max: head.len(), fields_max: 2, target_bytes_max: 0 };
    fn response(head: &str, limits: HeadLimits) -> Result<ResponseHead<'_>, HeadError> {
        parse_response(head.as_bytes(), false, &limits)
    }
    assert!(response(head, fits).is_ok());
    let limit = head.len() - 1;
    for (limits, fault) in [
        (HeadLimits { head_bytes_max: limit, ..fits }, HeadTooLong { limit, key: "response_head_bytes_max" }),
        (HeadLimits { fields_max: 1, ..fits }, TooManyFields { limit: 1, key: "response_fields_max" }),
    ] {
        let error = response(head, limits).unwrap_err();
        assert_eq!((error.fault, error.upstream_problem()), (fault, Problem::UpstreamHeadTooLarge));
    }
    let roomy = HeadLimits { head_bytes_max: usize::MAX, fields_max: usize::MAX, target_bytes_max: 0 };
    let lines = |count: usize| format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(count));
    assert_eq!(response(&lines(RESPONSE_FIELDS_MAX), roomy).unwrap().fields.len(), RESPONSE_FIELDS_MAX);
    let error = response(&lines(RESPONSE_FIELDS_MAX + 1), roomy).unwrap_err();
    assert_eq!(error.fault, TooManyFields { limit: RESPONSE_FIELDS_MAX, key: "response_fields_max" });
    let malformed = response("HTTP/1.1 200 OK\r\nA\r\n\r\n", roomy).unwrap_err();
    assert_eq!(malformed.upstream_problem(), Problem::UpstreamMalformed);
}

#[test]
fn fields_of_requests_mean_nothing_in_a_response() {
    assert!(response("HTTP/1.1 200 OK\r\nHost: a\r\nHost: b\r\nExpect: x\r\n\r\n").is_ok());
}

#[test]
fn a_reason_is_passed_or_absent() {
    for (head, status, reason) in [
        ("HTTP/1.1 200 OK\r\n\r\n", 200, "OK"),
        ("HTTP/1.1 100\r\n\r\n", 100, ""),
        ("HTTP/1.1 599 \r\n\r\n", 599, ""),
        ("HTTP/1.0 404 Ni\u{f1}o  nicht da\r\nA: b\r\n\r\n", 404, "Ni\u{f1}o  nicht da"),
    ] {
        let head = response(head).unwrap();
        assert_eq!((head.status, head.reason), (status, reason.as_bytes()));
    }
}

#[test]
fn node_says_how_long_it_keeps_a_connection() {
    let timeout = |value: &str| {
        let head = format!("HTTP/1.1 200 OK\r\nKeep-Alive: {value}\r\n\r\n");
        response(&head).unwrap().keep_alive_timeout_s
    };
    assert_eq!(timeout("timeout=5"), Some(5));
    assert_eq!(timeout("max=100, Timeout = 72"), Some(72));
    assert_eq!(timeout("timeout=5.5"), None);
    assert_eq!(timeout("timeout=99999999999"), None);
    assert_eq!(timeout(""), None);
}

#[test]
fn heads_are_small_values() {
    // They are handed on by value.
    assert!(size_of::<RequestHead<'_>>() <= 1792, "{}", size_of::<RequestHead<'_>>());
    assert!(size_of::<ResponseHead<'_>>() <= 2768, "{}", size_of::<ResponseHead<'_>>());
    assert!(size_of::<HeadScanner>() <= 32, "{}", size_of::<HeadScanner>());
    assert!(size_of::<HeadError>() <= 40, "{}", size_of::<HeadError>());
}
