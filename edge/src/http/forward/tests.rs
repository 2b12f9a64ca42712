use super::*;
use crate::fuzz::messages::{fuzz_http_forward, fuzz_http_head, written};
use crate::http::head::{HeadLimits, parse_request, parse_response};
use proptest::prelude::*;

const LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 65_535, fields_max: FIELDS_MAX, target_bytes_max: 2048 };

fn networks(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn plan_from(peer: &str, trusted: &[&str], websocket: bool, head: &str) -> String {
    let request = parse_request(head.as_bytes(), &LIMITS).unwrap();
    let peer = peer.parse().unwrap();
    let trusted_proxies = networks(trusted);
    let context = ForwardContext {
        peer,
        trusted_proxies: &trusted_proxies,
        public_https_port: 443,
        websocket,
        strip_bytes: 0,
        extensions: true,
    };
    let plan = request_plan(&request, &context).unwrap();
    let sent = written(&plan, head.as_bytes());
    assert_eq!(sent.len(), plan.len());
    String::from_utf8(sent).unwrap()
}

/// What goes upstream for a client at 192.168.0.9 that nobody trusts.
fn sent(head: &str) -> String {
    plan_from("192.168.0.9", &[], false, head)
}

/// What goes upstream from the trusted proxy 10.0.0.1.
fn from_proxy(head: &str) -> String {
    plan_from("10.0.0.1", &["10.0.0.0/8"], false, head)
}

const OURS: &str = "X-Forwarded-For: 192.168.0.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: a.test\r\n\
    X-Forwarded-Port: 443\r\nX-Real-IP: 192.168.0.9\r\n";

proptest! {
    #[test]
    fn addresses_and_numbers_are_written_as_display_does(v4: u32, v6: u128, number: u64, bits in 0..64_u32) {
        for address in [IpAddr::V4(v4.into()), IpAddr::V6(v6.into()), IpAddr::V4((v4 & 0x00ff_0009).into())] {
            prop_assert!(address_text(address).as_slice() == address.to_string().as_bytes(), "{address}");
        }
        for number in [number >> bits, 0, u64::MAX] {
            prop_assert!(decimal(number, &mut [0; 20]) == number.to_string().as_bytes(), "{number}");
        }
    }
}

#[test]
fn a_plain_request_is_one_slice_and_ours() {
    let head = "\r\nGET /socket.io/?EIO=4&sid=%2F|x HTTP/1.1\r\nHost: a.test\r\nX:  y \r\naccept:*/*\r\n\r\n";
    let kept = &head[2..head.len() - 2];
    assert_eq!(sent(head), format!("{kept}{OURS}\r\n"));
    let request = parse_request(head.as_bytes(), &LIMITS).unwrap();
    let peer = "192.168.0.9".parse().unwrap();
    let context = ForwardContext {
        peer,
        trusted_proxies: &[],
        public_https_port: 443,
        websocket: false,
        strip_bytes: 0,
        extensions: true,
    };
    let plan = request_plan(&request, &context).unwrap();
    assert!(plan.pieces.len() <= 4, "adjacent lines are one piece: {:?}", plan.pieces);
}

#[test]
fn hop_by_hop_fields_end_here() {
    let head = "POST / HTTP/1.1\r\nHost: a.test\r\nConnection: close, X-Hop\r\nx-hop: 1\r\nKeep-Alive: 5\r\nA: 1\r\n\
        Proxy-Connection: x\r\nTE: trailers\r\nTrailer: x\r\nB: 2\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\
        Proxy-Authorization: Basic x\r\nTransfer-Encoding: chunked\r\nSanedge-Error: x\r\nC: 3\r\n\r\n";
    let expected = format!(
        "POST / HTTP/1.1\r\nHost: a.test\r\nA: 1\r\nB: 2\r\nC: 3\r\n{OURS}Transfer-Encoding: chunked\r\n\r\n"
    );
    assert_eq!(sent(head), expected);
}

#[test]
fn every_forged_forwarding_field_is_removed() {
    let mut forged = 0;
    for name in [
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Forwarded-Port",
        "X-Forwarded-Server",
        "X-Forwarded-Prefix",
        "X-Forwarded",
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
    ] {
        for spelling in [name.to_owned(), name.to_lowercase(), name.to_uppercase(), name.replace('-', "_")] {
            let head = format!("GET / HTTP/1.1\r\nHost: a.test\r\n{spelling}: 6.6.6.6\r\n\r\n");
            assert_eq!(sent(&head), format!("GET / HTTP/1.1\r\nHost: a.test\r\n{OURS}\r\n"), "{spelling}");
            forged += 1;
        }
    }
    assert_eq!(forged, 84);
    let innocent = "GET / HTTP/1.1\r\nHost: a.test\r\nX-Forward: 1\r\nX-Real-IPs: 2\r\n\r\n";
    assert!(sent(innocent).contains("X-Forward: 1\r\nX-Real-IPs: 2\r\n"));
}

#[test]
fn a_trusted_proxy_is_added_to_its_chain() {
    let head = "GET / HTTP/1.1\r\nHost: a.test\r\nx-forwarded-for: 6.6.6.6, 1.2.3.4 \r\nX-Forwarded-Proto: http\r\n\
        X-Real-IP: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\nForwarded: for=1.2.3.4\r\n\r\n";
    assert_eq!(
        from_proxy(head),
        "GET / HTTP/1.1\r\nHost: a.test\r\nx-forwarded-for: 6.6.6.6, 1.2.3.4, 10.0.0.1\r\n\
        X-Forwarded-Proto: http\r\nForwarded: for=1.2.3.4\r\nX-Forwarded-Host: a.test\r\n\
        X-Forwarded-Port: 443\r\nX-Real-IP: 1.2.3.4\r\n\r\n"
    );
    let lines = "GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 1.1.1.1\r\nA: b\r\nX-Forwarded-For: 2.2.2.2\r\n\
        X-Forwarded-For:\r\n\r\n";
    assert!(from_proxy(lines).starts_with(
        "GET / HTTP/1.1\r\nHost: a.test\r\nA: b\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2, 10.0.0.1\r\nX-Forwarded-Proto"
    ));
    let empty = "GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For:\r\n\r\n";
    assert!(
        from_proxy(empty)
            .contains("Host: a.test\r\nX-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: https\r\n")
    );
}

#[test]
fn several_lines_of_a_trusted_proxy_become_one() {
    let head = "GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Proto: http\r\nx-forwarded-for: 6.6.6.6 , 1.2.3.4\r\nForwarded: for=a\r\n\
        A: b\r\nX-Forwarded-For:\r\nX-FORWARDED-FOR:5.6.7.8\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: x\r\nForwarded: for=c;proto=https\r\n\
        X-Forwarded-Host:\r\nX-Forwarded-Port:\r\nX-Forwarded-Port:\r\nCookie: a\r\nCookie: b\r\n\r\n";
    assert_eq!(
        from_proxy(head),
        "GET / HTTP/1.1\r\nHost: a.test\r\nA: b\r\nX-FORWARDED-FOR:6.6.6.6 , 1.2.3.4, 5.6.7.8, 10.0.0.1\r\n\
        X-Forwarded-Proto: http, https\r\nX-Forwarded-Host: x\r\nForwarded: for=a, for=c;proto=https\r\n\
        X-Forwarded-Port:\r\nCookie: a\r\nCookie: b\r\nX-Real-IP: 5.6.7.8\r\n\r\n"
    );
    assert!(
        sent(head).starts_with("GET / HTTP/1.1\r\nHost: a.test\r\nA: b\r\nCookie"),
        "a stranger's end here"
    );
    let lines = |count: usize| {
        let line = format!("X-Forwarded-For: {}\r\n", "x".repeat(PLAN_JOINED_BYTES_MAX / 8 - ", ".len()));
        format!("GET / HTTP/1.1\r\nHost: a.test\r\n{}X-Forwarded-For: 1.2.3.4\r\n\r\n", line.repeat(count))
    };
    assert!(from_proxy(&lines(8)).contains(", 1.2.3.4, 10.0.0.1\r\n"));
    let trusted_proxies = networks(&["10.0.0.0/8"]);
    let peer = "10.0.0.1".parse().unwrap();
    let context = ForwardContext {
        peer,
        trusted_proxies: &trusted_proxies,
        public_https_port: 443,
        websocket: false,
        strip_bytes: 0,
        extensions: true,
    };
    let error = request_plan(&parse_request(lines(9).as_bytes(), &LIMITS).unwrap(), &context).unwrap_err();
    assert_eq!(error.fault, HeadFault::PlanTooLong { limit: PLAN_JOINED_BYTES_MAX });
}

#[test]
fn the_client_is_the_right_most_untrusted_entry() {
    let trusted = networks(&["10.0.0.0/8", "fd00::/8"]);
    let client = |peer: &str, lines: &[&str]| {
        let fields: String = lines.iter().map(|line| format!("X-Forwarded-For: {line}\r\n")).collect();
        let head = format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n");
        let request = parse_request(head.as_bytes(), &LIMITS).unwrap();
        client_address(peer.parse().unwrap(), &request, &trusted).to_string()
    };
    assert_eq!(client("8.8.8.8", &["1.2.3.4"]), "8.8.8.8", "nobody trusts it");
    assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
    assert_eq!(client("10.0.0.1", &["6.6.6.6, 1.2.3.4"]), "1.2.3.4");
    assert_eq!(client("10.0.0.1", &["6.6.6.6, 1.2.3.4, 10.0.0.2 ,, fd00::1"]), "1.2.3.4");
    assert_eq!(client("10.0.0.1", &["6.6.6.6, 1.2.3.4", "10.0.0.2"]), "1.2.3.4");
    assert_eq!(client("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
    assert_eq!(client("10.0.0.1", &["6.6.6.6, unknown, 10.0.0.2"]), "10.0.0.2");
    assert_eq!(client("10.0.0.1", &["1.2.3.4:567"]), "1.2.3.4");
    assert_eq!(client("10.0.0.1", &["[2001:db8::1]:567"]), "2001:db8::1");
    assert_eq!(client("10.0.0.1", &["[2001:db8::1]"]), "2001:db8::1");
    assert_eq!(
        client("10.0.0.1", &["6.6.6.6, ::ffff:10.0.0.2"]),
        "6.6.6.6",
        "canonical before it is compared"
    );
}

#[test]
fn upstream_gets_http_1_1_in_origin_form() {
    let line = |head: &str| sent(head).split("X-Forwarded-For").next().unwrap().to_owned();
    for (head, expected) in [
        ("GET /a?b HTTP/1.0\r\nHost: a.test\r\n\r\n", "GET /a?b HTTP/1.1\r\nHost: a.test\r\n"),
        ("GET https://a.test/a?b HTTP/1.1\r\nHost: a.test\r\n\r\n", "GET /a?b HTTP/1.1\r\nHost: a.test\r\n"),
        ("GET https://a.test HTTP/1.1\r\nHost: a.test\r\n\r\n", "GET / HTTP/1.1\r\nHost: a.test\r\n"),
        (
            "OPTIONS https://a.test/ HTTP/1.0\r\nHost: a.test\r\n\r\n",
            "OPTIONS / HTTP/1.1\r\nHost: a.test\r\n",
        ),
        ("GET http://a.test:80/ HTTP/1.0\r\nA: b\r\n\r\n", "GET / HTTP/1.1\r\nA: b\r\nHost: a.test:80\r\n"),
    ] {
        assert_eq!(line(head), expected, "{head:?}");
    }
}

#[test]
fn expect_goes_upstream_unless_the_client_speaks_http_1_0() {
    let head = |version: &str| {
        format!("POST / HTTP/{version}\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")
    };
    assert!(sent(&head("1.1")).contains("Expect: 100-continue\r\nContent-Length: 1\r\n"));
    assert!(sent(&head("1.0")).contains("Host: a.test\r\nContent-Length: 1\r\n"));
}

#[test]
fn an_upgrade_is_made_again_only_for_websockets() {
    let head = "GET / HTTP/1.1\r\nHost: a.test\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let websocket = plan_from("192.168.0.9", &[], true, head);
    assert_eq!(
        websocket,
        format!(
            "GET / HTTP/1.1\r\nHost: a.test\r\n{key}{OURS}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        )
    );
    assert_eq!(sent(head), format!("GET / HTTP/1.1\r\nHost: a.test\r\n{key}{OURS}\r\n"));
}

#[test]
fn extensions_go_upstream_only_where_they_may() {
    let line = "sec-websocket-EXTENSIONS: permessage-deflate\r\n";
    let head = format!("GET / HTTP/1.1\r\nHost: a.test\r\n{line}A: b\r\n{line}\r\n");
    let request = parse_request(head.as_bytes(), &LIMITS).unwrap();
    let peer = "192.168.0.9".parse().unwrap();
    for (extensions, lines) in [(true, 2), (false, 0)] {
        let context = ForwardContext {
            peer,
            trusted_proxies: &[],
            public_https_port: 443,
            websocket: true,
            strip_bytes: 0,
            extensions,
        };
        let plan = request_plan(&request, &context).unwrap();
        let sent = String::from_utf8(written(&plan, head.as_bytes())).unwrap();
        assert_eq!(sent.matches(line).count(), lines, "{sent}");
        assert!(sent.contains("\r\nA: b\r\n"), "{sent}");
    }
}

#[test]
fn ipv6_peers_and_other_ports_are_told() {
    let trusted_proxies = [];
    let head = "GET / HTTP/1.1\r\nHost: [2001:db8::2]:8443\r\n\r\n";
    let request = parse_request(head.as_bytes(), &LIMITS).unwrap();
    let peer = "2001:db8:1111:2222:3333:4444:5555:6666".parse().unwrap();
    let context = ForwardContext {
        peer,
        trusted_proxies: &trusted_proxies,
        public_https_port: 8443,
        websocket: false,
        strip_bytes: 0,
        extensions: true,
    };
    let plan = request_plan(&request, &context).unwrap();
    let sent = String::from_utf8(written(&plan, head.as_bytes())).unwrap();
    assert!(sent.contains("X-Forwarded-For: 2001:db8:1111:2222:3333:4444:5555:6666\r\n"));
    assert!(sent.contains("X-Forwarded-Host: [2001:db8::2]:8443\r\nX-Forwarded-Port: 8443\r\n"));
}

#[test]
fn the_worst_head_fits_a_plan() {
    let joined: String =
        JOINED.iter().map(|name| format!("{name}: a\r\nA: b\r\n{name}: 1.2.3.4\r\nTE: x\r\n")).collect();
    let alternating = joined + &"TE: x\r\nA: b\r\n".repeat((FIELDS_MAX - 5 - 20) / 2);
    let chunked = "Connection: x\r\nTransfer-Encoding: chunked\r\nB: c\r\n";
    let head = format!("GET http://a.test HTTP/1.1\r\nTE: x\r\nHost: a.test\r\n{chunked}{alternating}\r\n");
    let request = parse_request(head.as_bytes(), &LIMITS).unwrap();
    assert!(request.fields.len() >= FIELDS_MAX - 1);
    let trusted_proxies = networks(&["::/8", "2001:db8::/32"]);
    let peer = "2001:db8:1111:2222:3333:4444:5555:6666".parse().unwrap();
    let context = ForwardContext {
        peer,
        trusted_proxies: &trusted_proxies,
        public_https_port: 65535,
        websocket: true,
        strip_bytes: 0,
        extensions: true,
    };
    let plan = request_plan(&request, &context).unwrap();
    assert!(plan.pieces.len() > FIELDS_MAX / 2, "{}", plan.pieces.len());
}

#[test]
fn a_plan_is_small() {
    // It lives in a session's future while upstream is written to.
    assert!(size_of::<Plan>() <= 1024, "{}", size_of::<Plan>());
}

#[test]
fn a_write_resumes_at_every_byte() {
    let head = "GET http://a.test/x HTTP/1.0\r\nTE: x\r\nA: b\r\nTE: y\r\nC: d\r\n\r\n";
    let request = parse_request(head.as_bytes(), &LIMITS).unwrap();
    let peer = "192.168.0.9".parse().unwrap();
    let context = ForwardContext {
        peer,
        trusted_proxies: &[],
        public_https_port: 443,
        websocket: false,
        strip_bytes: 0,
        extensions: true,
    };
    let plan = request_plan(&request, &context).unwrap();
    let whole = written(&plan, head.as_bytes());
    for at in 0..=whole.len() {
        let mut slices: heapless::Vec<IoSlice<'_>, PLAN_PIECES_MAX> = heapless::Vec::new();
        plan.slices(head.as_bytes(), at, &mut slices);
        assert_eq!(slices.iter().flat_map(|slice| slice.iter()).copied().collect::<Vec<_>>(), whole[at..]);
    }
}

fn to_client(head: &str, form: ResponseForm<'_>) -> String {
    let response = parse_response(head.as_bytes(), false, &LIMITS).unwrap();
    let mut out = Vec::new();
    response_head(&response, &form, &mut out);
    String::from_utf8(out).unwrap()
}

const FORM: ResponseForm<'static> = ResponseForm {
    client_version: Version::Http11,
    keep_alive: true,
    framing_out: Framing::None,
    websocket: false,
    changes: None,
};

#[test]
fn a_response_passes_but_for_its_hop() {
    let head = "HTTP/1.0 200 Fine by me\r\nServer: x\r\nVia: 1.1 y\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\n\
        Keep-Alive: timeout=5\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nSanedge-Error: forged\r\nsanedge_error: f\r\n\
        Upgrade: h2c\r\nTrailer: x\r\nProxy-Authenticate: x\r\nContent-Length: 2\r\n\r\n";
    let form = ResponseForm { framing_out: Framing::Length(2), ..FORM };
    let kept = "HTTP/1.1 200 Fine by me\r\nServer: x\r\nVia: 1.1 y\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 2\r\n";
    assert_eq!(to_client(head, form), format!("{kept}\r\n"));
    let close = ResponseForm { keep_alive: false, ..form };
    assert_eq!(to_client(head, close), format!("{kept}Connection: close\r\n\r\n"));
    let old = ResponseForm { client_version: Version::Http10, ..form };
    assert_eq!(to_client(head, old), format!("{kept}Connection: keep-alive\r\n\r\n"));
}

#[test]
fn lines_and_lengths_are_written_anew() {
    let form = ResponseForm { framing_out: Framing::Length(2), ..FORM };
    assert_eq!(
        to_client("HTTP/1.1 200 OK\nA:b \t\r\nContent-length:\t2\nSet-Cookie: x\n\n", form),
        "HTTP/1.1 200 OK\r\nA:b \t\r\nContent-length: 2\r\nSet-Cookie: x\r\n\r\n"
    );
    for twice in ["Content-Length: 2, 2\r\nA: b\r\n", "Content-Length: 2\r\nA: b\r\ncontent-length: 2\r\n"] {
        let head = format!("HTTP/1.1 200 OK\r\n{twice}\r\n");
        assert_eq!(to_client(&head, form), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nA: b\r\n\r\n", "{twice}");
    }
    let switching =
        "HTTP/1.1 101 x\r\nContent-Length: 0\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    let websocket = ResponseForm { websocket: true, ..FORM };
    assert_eq!(
        to_client(switching, websocket),
        "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    );
    assert_eq!(to_client("HTTP/1.1 999 \n\n", FORM), "HTTP/1.1 999 \r\n\r\n");
}

#[test]
fn framing_is_made_again() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\nA: b\r\n\r\n";
    let chunked = ResponseForm { framing_out: Framing::Chunked, ..FORM };
    assert_eq!(to_client(head, chunked), "HTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n");
    let old = ResponseForm {
        client_version: Version::Http10,
        framing_out: Framing::UntilClose,
        keep_alive: false,
        ..FORM
    };
    assert_eq!(to_client(head, old), "HTTP/1.1 200 OK\r\nA: b\r\nConnection: close\r\n\r\n");
    let no_content = "HTTP/1.1 204\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(to_client(no_content, FORM), "HTTP/1.1 204 \r\n\r\n");
    let not_modified = "HTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(to_client(not_modified, FORM), "HTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\n");
}

#[test]
fn interim_responses_and_upgrades_say_their_own() {
    let upgrade = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: x\r\n\r\n";
    let websocket = ResponseForm { websocket: true, keep_alive: false, ..FORM };
    assert_eq!(
        to_client(upgrade, websocket),
        "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    );
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
    let close = ResponseForm { keep_alive: false, ..FORM };
    assert_eq!(to_client(hints, close), hints, "the final response closes, not this one");
    let advice =
        "HTTP/1.1 426 x\r\nUpgrade: websocket\r\nConnection: upgrade\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunked = ResponseForm { framing_out: Framing::Chunked, ..close };
    assert_eq!(
        to_client(advice, chunked),
        "HTTP/1.1 426 x\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\nConnection: Upgrade, close\r\n\r\n"
    );
}

fn field() -> impl Strategy<Value = String> {
    let names = prop::sample::select(vec![
        "Accept",
        "Cookie",
        "X-Forwarded-For",
        "x_forwarded_for",
        "X-Real-IP",
        "X-Forwarded-Host",
        "Forwarded",
        "TE",
        "Keep-Alive",
        "Upgrade",
        "X-Custom",
        "Origin",
    ]);
    (names, "[ -~]{0,30}").prop_map(|(name, value)| format!("{name}:{value}\r\n"))
}

proptest! {
    #[test]
    fn what_is_sent_is_the_same_message(
        target in prop::sample::select(vec!["/", "/a?b=c", "https://a.test/x?y", "http://a.test"]),
        minor in 0..2_u8,
        framing in prop::sample::select(vec!["", "Content-Length: 7\r\n", "Transfer-Encoding: chunked\r\n"]),
        connection in prop::sample::select(vec!["", "Connection: close\r\n", "Connection: x-custom, te\r\n"]),
        mut fields in prop::collection::vec(field(), 0..12),
        place in any::<prop::sample::Index>(),
    ) {
        fields.insert(place.index(fields.len() + 1), format!("Host: a.test\r\n{framing}{connection}"));
        let head = format!("POST {target} HTTP/1.{minor}\r\n{}\r\n", fields.concat());
        let refused = minor == 0 && framing.starts_with("Transfer");
        prop_assert_eq!(parse_request(head.as_bytes(), &LIMITS).is_err(), refused);
        fuzz_http_head(head.as_bytes());
    }

    #[test]
    fn any_response_is_sent_as_the_same_message(
        status in 100..=999_u16,
        reason in "[ -~]{0,12}",
        framing in prop::sample::select(vec!["", "Content-Length: 7\r\n", "Content-Length: 7, 7\r\n", "Transfer-Encoding: chunked\r\n"]),
        fields in prop::collection::vec(field(), 0..12),
        bare in any::<bool>(),
    ) {
        let head = format!("HTTP/1.1 {status} {reason}\r\n{framing}{}\r\n", fields.concat());
        let head = if bare { head.replace("\r\n", "\n") } else { head };
        fuzz_http_head(head.as_bytes());
        fuzz_http_forward(&[b"\x08".as_slice(), head.as_bytes(), b"0000007 \t\r\n1234567\r\n0\r\n\r\n"].concat());
    }
}
