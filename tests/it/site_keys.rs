//! Keys of a site besides its app: `redirect`, `hsts` and `[site.headers]`.
#![allow(dropping_references)] // the rows' closures end a builder's chain

use std::process::{Output, Stdio};

use sanedge::bundle::compile::compile;
use sanedge::bundle::finding::{Code, Finding};

use crate::support::HOST;
use crate::support::edge::{Desk, Edge, EdgeBuilder, PATIENCE, json, sanedge, text};
use crate::support::odd_certs::{Folder, NOW};
use crate::support::raw::{Raw, Response, fields, upgrade};
use crate::support::secret::{Secret, toml};
use crate::support::upstream::{Connection, OK, Upstream};

const WWW: &str = "www.recre.store";

/// An app that says a lot of itself.
const TALKATIVE: &str = "HTTP/1.1 200 OK\r\nServer: nginx/1.2\r\nX-Powered-By: Express\r\nx-powered-by: PHP\r\n\
    X-Frame-Options: SAMEORIGIN\r\nStrict-Transport-Security: max-age=1; includeSubDomains\r\nVary: Origin\r\n\
    Content-Length: 2\r\n\r\nok";

const HEADERS: &str = "[site.headers]\nX-Frame-Options = \"DENY\"\nServer = false\nX-Powered-By = false\n\
    Cache-Control = \"public\"\n";

fn two() -> EdgeBuilder {
    Edge::certified_for(&[HOST, WWW])
}

/// A site without an app.
fn redirecting(builder: EdgeBuilder, to: &str, more: &str) -> EdgeBuilder {
    builder.site_text(&format!("[[site]]\nhosts = [\"{WWW}\"]\nredirect = \"{to}\"\n{more}\n"))
}

async fn get(edge: &Edge, host: &str, target: &str) -> Response {
    Raw::open(edge, host).await.get(host, target, "").await
}

fn location(response: &Response) -> &str {
    assert_eq!(response.status, 308, "{response:?}");
    assert_eq!((response.field("sanedge-error"), response.body.len()), (None, 0), "{response:?}");
    response.field("location").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_keeps_path_query_and_method_and_its_connection() {
    let upstream = Upstream::answering(OK).await;
    let edge = redirecting(two().site(&[HOST], &upstream), "https://recre.store", "").start();
    let mut client = Raw::open(&edge, WWW).await;
    for target in ["/", "/a/b?c=d&e=%2F", "//evil.test/x", "/a/../b", "/?q", "/%0d%0aSet-Cookie:%20a"] {
        let response = client.get(WWW, target, "").await;
        assert_eq!(location(&response), format!("https://recre.store{target}"));
    }
    let whole = client.get(WWW, &format!("https://{WWW}/whole?x"), "").await;
    assert_eq!(location(&whole), "https://recre.store/whole?x");
    client.send(format!("HEAD /h HTTP/1.1\r\nHost: {WWW}\r\n\r\n")).await;
    assert_eq!(location(&client.response_to("HEAD").await), "https://recre.store/h");
    // What follows a body may be anything but the next head.
    client.send(format!("POST /form HTTP/1.1\r\nHost: {WWW}\r\nContent-Length: 5\r\n\r\nhello")).await;
    let posted = client.response().await;
    assert_eq!((location(&posted), posted.field("connection")), ("https://recre.store/form", Some("close")));
    client.closed().await;
    assert_eq!(upstream.connections(), 0);
    get(&edge, HOST, "/").await.assert_apps(200, "ok");
    let status = edge.status();
    let www = status["hosts"].as_array().unwrap().iter().find(|host| host["host"] == WWW).unwrap();
    assert_eq!(
        (&www["redirect"], &www["responses"]["3xx"]),
        (&"https://recre.store".into(), &9.into()),
        "{www:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_may_name_a_port_and_the_beginning_of_a_path() {
    for (to, target, wanted) in [
        ("https://recre.store/shop", "/", "https://recre.store/shop/"),
        ("https://recre.store/shop/", "/a?b", "https://recre.store/shop/a?b"),
        ("HTTPS://Shop.Example:8443/", "/a", "https://shop.example:8443/a"),
        ("https://shop.example:443", "/a", "https://shop.example/a"),
        ("https://[2001:db8::1]:444/x", "/", "https://[2001:db8::1]:444/x/"),
    ] {
        let edge = redirecting(two().site(&[HOST], "127.0.0.1:1"), to, "").start();
        assert_eq!(location(&get(&edge, WWW, target).await), wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_is_redirected_too_and_the_log_names_the_url_that_it_needs() {
    let edge = redirecting(two().site(&[HOST], "127.0.0.1:1"), "https://recre.store", "").start();
    for _ in 0..3 {
        let mut client = Raw::open(&edge, WWW).await;
        client
            .send(upgrade(WWW, "/socket.io/?EIO=4&transport=websocket", "Origin: https://recre.store\r\n"))
            .await;
        let response = client.response().await;
        let wanted = "https://recre.store/socket.io/?EIO=4&transport=websocket";
        assert_eq!((location(&response), response.field("connection")), (wanted, Some("close")));
        client.closed().await;
    }
    let said = edge.wait_for_log("do not follow redirects", PATIENCE);
    assert!(said.contains("wss://recre.store"), "{said}");
    assert!(edge.log().matches("do not follow redirects").count() <= 2, "once a minute: {}", edge.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn port_80_leads_to_the_same_host_first_and_never_has_hsts() {
    let all = "hsts = \"1h\"\n[site.headers]\nX-A = \"1\"";
    let builder = two().site_with(&[HOST], "127.0.0.1:1", all).with_http();
    let edge = redirecting(builder, "https://recre.store", all).start();
    for (request, status) in [
        (format!("GET /x HTTP/1.1\r\nHost: {WWW}\r\n\r\n"), 308),
        (format!("GET /x HTTP/1.1\r\nHost: {HOST}\r\n\r\n"), 308),
        ("GET /x HTTP/1.1\r\nHost: evil.test\r\n\r\n".to_owned(), 404),
        ("GET /x HTTP/1.1\r\n\r\n".to_owned(), 400),
    ] {
        let mut client = Raw::open_plain(edge.http.unwrap()).await;
        client.send(&request).await;
        let response = client.response().await;
        assert_eq!(response.status, status, "{response:?}");
        assert_eq!((response.field("strict-transport-security"), response.field("x-a")), (None, None));
        if let Some(location) = response.field("location") {
            let host = if request.contains(WWW) { WWW } else { HOST };
            assert_eq!(location, format!("https://{host}/x"), "HSTS of the host itself comes there");
        }
    }
    // Plain HTTP on the TLS port is not TLS either (RFC 6797 §7.2).
    let mut client = Raw::open_plain(edge.https).await;
    client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    let response = client.response().await;
    response.assert_ours(400, "plain_http");
    assert_eq!((response.field("strict-transport-security"), response.field("x-a")), (None, None));
}

fn assert_hsts(response: &Response, max_age: u32) {
    assert_eq!(
        fields(&response.head, "strict-transport-security"),
        [format!("max-age={max_age}")],
        "{response:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn hsts_is_on_every_https_response_once_and_replaces_the_apps() {
    let upstream = Upstream::answering(TALKATIVE).await;
    let routes = format!(
        "hsts = \"8760h\"\n[[site.route]]\npath = \"/dead\"\nupstream = [\"127.0.0.1:1\"]\n\
        [[site.route]]\npath = \"/mine\"\nallow = [\"192.0.2.0/24\"]\nupstream = [\"{upstream}\"]\n"
    );
    let edge =
        redirecting(two().site_with(&[HOST], &upstream, &routes), "https://recre.store", "hsts = \"0s\"")
            .start();
    let mut client = Raw::open(&edge, HOST).await;
    let app = client.get(HOST, "/", "").await;
    app.assert_apps(200, "ok");
    assert_hsts(&app, 31_536_000);
    assert_eq!(app.field("x-frame-options"), Some("SAMEORIGIN"), "nothing else changes");
    let refused = client.get(HOST, "/mine", "").await;
    refused.assert_ours(403, "address_refused");
    assert_hsts(&refused, 31_536_000);
    let dead = client.get(HOST, "/dead", "").await;
    dead.assert_ours(502, "upstream_unreachable");
    assert_hsts(&dead, 31_536_000);
    // A head that cannot be read is of the name that the connection was opened for.
    let mut client = Raw::open(&edge, HOST).await;
    client.send("GET / HTTP/1.1\r\n\r\n").await;
    let malformed = client.response().await;
    malformed.assert_ours(400, "bad_request");
    assert_hsts(&malformed, 31_536_000);
    // 0 has browsers forget the host.
    assert_hsts(&get(&edge, WWW, "/").await, 0);
    // A 421 is not an answer of either site.
    let mut client = Raw::open(&edge, HOST).await;
    let misdirected = client.get(WWW, "/", "").await;
    misdirected.assert_ours(421, "misdirected");
    assert_eq!(misdirected.field("strict-transport-security"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_hsts_the_apps_own_passes() {
    let upstream = Upstream::answering(TALKATIVE).await;
    let edge = Edge::certified_for(&[HOST]).site(&[HOST], &upstream).start();
    let app = get(&edge, HOST, "/").await;
    assert_eq!(app.field("strict-transport-security"), Some("max-age=1; includeSubDomains"));
    let ours = Raw::open(&edge, HOST).await.get(HOST, "/%", "").await;
    ours.assert_ours(400, "ambiguous_path");
    assert_eq!(ours.field("strict-transport-security"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_are_set_and_removed_in_every_case_and_the_rest_stays() {
    let upstream = Upstream::answering(TALKATIVE).await;
    let edge = two().site_with(&[HOST], &upstream, HEADERS).site_with(&[WWW], &upstream, "").start();
    let mut client = Raw::open(&edge, HOST).await;
    for _ in 0..2 {
        let app = client.get(HOST, "/", "").await;
        app.assert_apps(200, "ok");
        assert_eq!(fields(&app.head, "x-frame-options"), ["DENY"], "{app:?}");
        assert_eq!(fields(&app.head, "cache-control"), ["public"], "{app:?}");
        for gone in ["server", "x-powered-by"] {
            assert!(fields(&app.head, gone).is_empty(), "{gone}: {app:?}");
        }
        assert_eq!(app.field("vary"), Some("Origin"));
    }
    // The healthy twin: another site of the same edge.
    let other = get(&edge, WWW, "/").await;
    assert_eq!(
        (other.field("server"), other.field("x-frame-options")),
        (Some("nginx/1.2"), Some("SAMEORIGIN"))
    );
    assert_eq!(fields(&other.head, "x-powered-by"), ["Express", "PHP"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_the_edge_get_set_fields_but_keep_their_own() {
    let edge = Edge::certified_for(&[HOST]).site_with(&[HOST], "127.0.0.1:1", HEADERS).start();
    let ours = get(&edge, HOST, "/").await;
    ours.assert_ours(502, "upstream_unreachable");
    assert_eq!(ours.field("x-frame-options"), Some("DENY"));
    assert_eq!(ours.field("cache-control"), Some("no-store"), "an error is not public");
}

#[tokio::test(flavor = "multi_thread")]
async fn interim_responses_pass_unchanged_and_a_101_gets_the_fields() {
    let upstream = Upstream::scripted(|mut connection: Connection| async move {
        while let Some(request) = connection.request().await {
            if request.head.contains("websocket") {
                let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Server: x\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
                connection.send(answer).await;
                return connection.until_closed().await;
            }
            let hints = "HTTP/1.1 103 Early Hints\r\nServer: x\r\nLink: </a.css>\r\n\r\n";
            let answer = "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 2\r\n\r\nok";
            connection.send(format!("{hints}{answer}")).await;
        }
    })
    .await;
    let keys = format!("hsts = \"1h\"\n{HEADERS}");
    let edge = Edge::certified_for(&[HOST]).site_with(&[HOST], &upstream, &keys).start();
    let mut client = Raw::open(&edge, HOST).await;
    client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    let interim = client.head().await;
    assert!(interim.starts_with("HTTP/1.1 103"), "{interim}");
    assert_eq!(fields(&interim, "server"), ["x"]);
    assert!(
        fields(&interim, "x-frame-options").is_empty()
            && fields(&interim, "strict-transport-security").is_empty()
    );
    let last = client.response().await;
    last.assert_apps(200, "ok");
    assert_eq!((last.field("server"), last.field("x-frame-options")), (None, Some("DENY")));
    let mut client = Raw::open(&edge, HOST).await;
    client.send(upgrade(HOST, "/", "")).await;
    let switched = client.head().await;
    assert!(switched.starts_with("HTTP/1.1 101"), "{switched}");
    for (name, wanted) in [
        ("server", &[][..]),
        ("x-frame-options", &["DENY"]),
        ("strict-transport-security", &["max-age=3600"]),
        ("upgrade", &["websocket"]),
        ("connection", &["Upgrade"]),
        ("sec-websocket-accept", &["s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]),
    ] {
        assert_eq!(fields(&switched, name), wanted, "{switched}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_the_fields_of_the_next_request_on_an_open_connection() {
    let upstream = Upstream::answering(OK).await;
    let edge = Edge::certified_for(&[HOST]).site_with(&[HOST], &upstream, "hsts = \"1h\"").start();
    let mut client = Raw::open(&edge, HOST).await;
    assert_hsts(&client.get(HOST, "/", "").await, 3600);
    let desk = edge.desk();
    let toml = std::fs::read_to_string(desk.toml()).unwrap();
    std::fs::write(desk.toml(), toml.replace("hsts = \"1h\"", "hsts = \"0s\"")).unwrap();
    let applied = apply(desk, &[]);
    assert_eq!(applied.status.code(), Some(0), "{}", text(&applied));
    assert!(text(&applied).contains("~ recre.store hsts 1h → 0"), "{}", text(&applied));
    assert_hsts(&client.get(HOST, "/", "").await, 0);
}

fn apply(desk: &Desk, words: &[&str]) -> Output {
    sanedge().arg("apply").arg(desk.toml()).args(words).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn apply_and_show_tell_all_three_keys() {
    let desk = redirecting(two().site(&[HOST], "127.0.0.1:1"), "https://recre.store/shop", "").write();
    let first = apply(&desk, &[]);
    assert_eq!(first.status.code(), Some(0), "{}", text(&first));
    assert!(
        text(&first).contains("+ www.recre.store → redirect to https://recre.store/shop\n"),
        "{}",
        text(&first)
    );
    let toml = std::fs::read_to_string(desk.toml()).unwrap();
    let changed = toml.replace("https://recre.store/shop", "https://recre.store").replacen(
        "upstream = [\"127.0.0.1:1\"]",
        &format!("upstream = [\"127.0.0.1:1\"]\nhsts = \"1h\"\n{HEADERS}"),
        1,
    );
    std::fs::write(desk.toml(), changed).unwrap();
    let second = apply(&desk, &[]);
    for line in [
        "~ www.recre.store redirect https://recre.store/shop → https://recre.store",
        "~ recre.store hsts none → 1h",
        "~ recre.store headers.Server none → removed",
        "~ recre.store headers.X-Frame-Options none → DENY",
    ] {
        assert!(text(&second).lines().any(|said| said == line), "{line}: {}", text(&second));
    }
    let shown = sanedge().arg("show").arg(desk.bundle_file()).output().unwrap();
    for row in
        ["redirects to https://recre.store", "Strict-Transport-Security  max-age=3600", "X-Frame-Options"]
    {
        assert!(text(&shown).contains(row), "{row}: {}", text(&shown));
    }
    let shown = json(&sanedge().args(["show", "--json"]).arg(desk.bundle_file()).output().unwrap());
    assert_eq!(
        shown["sites"][0]["headers"],
        serde_json::json!({
            "Cache-Control": "public", "Server": false, "X-Frame-Options": "DENY", "X-Powered-By": false,
        })
    );
    assert_eq!(
        (&shown["sites"][0]["hsts_ms"], &shown["sites"][1]["redirect"]),
        (&3_600_000.into(), &"https://recre.store".into())
    );
    let back = std::fs::read_to_string(desk.toml()).unwrap().replace("X-Frame-Options = \"DENY\"\n", "");
    std::fs::write(desk.toml(), back).unwrap();
    let third = apply(&desk, &[]);
    assert!(text(&third).contains("~ recre.store headers.X-Frame-Options DENY → none\n"), "{}", text(&third));
}

#[test]
fn a_secret_in_a_field_is_in_no_output() {
    let secret = Secret::new();
    let desk = two().site_with(&[HOST], "127.0.0.1:1", "hsts = \"1h\"").write();
    let before = std::fs::read_to_string(desk.toml()).unwrap();
    let quiet = |output: &Output| {
        assert_eq!(
            secret.shown_in(&[&output.stdout[..], &output.stderr[..]].concat()),
            None,
            "{}",
            text(output)
        );
    };
    let mut tried = 0;
    for (_, value) in secret.shapes() {
        for line in [format!("X-Api-Key = {}", toml(&value)), format!("{} = \"a\"", toml(&value))] {
            std::fs::write(
                desk.toml(),
                before.replacen("hsts = \"1h\"", &format!("[site.headers]\n{line}"), 1),
            )
            .unwrap();
            let there = apply(&desk, &[]);
            quiet(&there);
            if there.status.success() {
                quiet(&sanedge().args(["show", "--json"]).arg(desk.bundle_file()).output().unwrap());
                tried += 1;
            }
        }
    }
    assert!(tried > 0, "some shapes are values of a field");
}

/// Doctor's report about one host, with the sanedge.toml as it would be if the edge had been told its port.
fn doctor(edge: &Edge, host: &str, change: impl Fn(String) -> String) -> (Vec<String>, String) {
    let desk = edge.desk();
    let https = format!("https = [\"{}\"]\npublic_https_port = {}", edge.https, edge.https.port());
    let toml = std::fs::read_to_string(desk.toml()).unwrap().replace("https = [\"127.0.0.1:0\"]", &https);
    std::fs::write(desk.path("seen.toml"), change(toml)).unwrap();
    let resolve = [HOST, WWW].map(|host| format!("{host}:127.0.0.1"));
    let mut command = sanedge();
    command.args(["doctor", "--json"]).arg(desk.path("seen.toml"));
    let output = command.args(["--resolve", &resolve[0], "--resolve", &resolve[1]]).output().unwrap();
    let report = json(&output);
    let sections = report["sections"].as_array().unwrap();
    let title = format!("https://{host}:{}", edge.https.port());
    let section =
        sections.iter().find(|section| section["subject"] == title).unwrap_or_else(|| panic!("{report:#}"));
    let checks = section["checks"].as_array().unwrap();
    let codes = checks.iter().filter_map(|check| check["code"].as_str()).map(str::to_owned);
    (codes.collect(), section.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_finds_a_configured_redirect_right_and_names_every_other_one() {
    let edge =
        redirecting(two().site(&[HOST], "127.0.0.1:1"), "https://recre.store", "hsts = \"1h\"").start();
    let (codes, said) = tokio::task::block_in_place(|| doctor(&edge, WWW, |toml| toml));
    assert!(codes.iter().all(|code| !code.starts_with("eio-") && !code.starts_with("ws-")), "{said}");
    assert!(
        said.contains("redirected to https://recre.store, as `redirect` says")
            && said.contains("wss://recre.store"),
        "{said}"
    );
    // The file says another target than the running edge.
    let other = |toml: String| {
        toml.replace("redirect = \"https://recre.store\"", "redirect = \"https://other.example\"")
    };
    let (codes, said) = tokio::task::block_in_place(|| doctor(&edge, WWW, other));
    assert!(codes.contains(&"eio-redirected".to_owned()) && said.contains("https://recre.store"), "{said}");
    // From outside nobody knows what is configured.
    let mut command = sanedge();
    command.arg("doctor").arg(edge.url(WWW)).args(["--resolve", &format!("{WWW}:127.0.0.1")]);
    command.arg("--ca").arg(edge.desk().ca_file());
    for more in [&[][..], &["--transport", "websocket"]] {
        let output = tokio::task::block_in_place(|| command.args(more).output().unwrap());
        let said = text(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("https://recre.store/socket.io/"), "{said}");
    }
}

/// The findings of a folder in which all is well but for what is appended to its site.
fn findings(change: impl FnOnce(&mut Folder)) -> Vec<Finding> {
    let mut folder = Folder::good();
    change(&mut folder);
    compile(&folder.sanedge_toml(), NOW).findings
}

fn only(found: &[Finding]) -> &Finding {
    let [one] = found else { panic!("{found:#?}") };
    one
}

fn redirected(to: &str) -> Vec<Finding> {
    findings(|folder| {
        folder.change("upstream = [\"127.0.0.1:3000\"]", &format!("redirect = {to:?}"));
    })
}

#[test]
fn a_redirect_that_is_no_url_is_told_how_to_be_one() {
    for (to, remedy) in [
        ("other.example", "Write \"https://other.example\"."),
        ("http://other.example", "Write \"https://other.example\"."),
        ("http://other.example:80/x", "Write \"https://other.example\"."),
        ("wss://other.example:8443", "Write \"https://other.example:8443\"."),
        ("https://user:pass@other.example", "Write \"https://other.example\"."),
        ("https://other.example/?a=b", "Write \"https://other.example\"."),
        ("https://other.example#top", "Write \"https://other.example\"."),
        ("https://other.example/a b", "Write \"https://other.example\"."),
        ("https://other.example/../x", "Write \"https://other.example\"."),
        ("https://other.example//evil.test", "Write \"https://other.example\"."),
        ("https://other.example/a\r\nSet-Cookie: b", "Write \"https://other.example\"."),
        ("https://other.example:0", "Write for example"),
        ("https://other.example:99999", "Write for example"),
        ("https://*.example", "Write for example"),
        ("https://", "Write for example"),
        ("//other.example", "Write for example"),
        ("", "Write for example"),
        ("https://$host$request_uri", "Write for example"),
    ] {
        let found = redirected(to);
        let finding = only(&found);
        assert_eq!(finding.code, Code::BadValue, "{to}: {finding:#?}");
        assert!(finding.remedy.starts_with(remedy), "{to}: {finding:#?}");
    }
    for good in [
        "https://other.example",
        "https://other.example/a/b",
        "https://127.0.0.1:8443",
        "https://xn--bcher-kva.example",
    ] {
        assert_eq!(redirected(good), [], "{good}");
    }
}

#[test]
fn circles_of_any_length_are_told_once_with_the_way() {
    let sites = |to: [&str; 3]| {
        findings(|folder| {
            folder.issue(&["a.example", "b.example", "c.example"]);
            let site = |host: &str, to: &str| match to {
                "" => format!("[[site]]\nhosts = [\"{host}\"]\nupstream = [\"127.0.0.1:3000\"]\n"),
                to => format!("[[site]]\nhosts = [\"{host}\"]\nredirect = \"{to}\"\n"),
            };
            folder.change("[[site]]\nhosts = [\"recre.store\"]\nupstream = [\"127.0.0.1:3000\"]\n", "");
            for (host, to) in ["a.example", "b.example", "c.example"].into_iter().zip(to) {
                folder.append(&site(host, to));
            }
        })
    };
    for (to, way) in [
        (["https://b.example/x", "https://a.example", ""], "a.example → b.example → a.example"),
        (
            ["https://b.example", "https://c.example:443", "https://A.example/"],
            "a.example → b.example → c.example → a.example",
        ),
        (
            ["https://b.example", "https://c.example", "https://b.example"],
            "b.example → c.example → b.example",
        ),
    ] {
        let found = sites(to);
        let finding = only(&found);
        assert_eq!((finding.code, finding.found.as_str()), (Code::RedirectLoop, way), "{finding:#?}");
    }
    let found = sites(["https://a.example/x", "https://b.example", ""]);
    assert_eq!(found.iter().map(|finding| finding.code).collect::<Vec<_>>(), [Code::RedirectLoop; 2]);
    assert!(found[0].remedy.contains("upstream = ["), "{found:#?}");
    // A chain ends, and another port or host is another server.
    for to in [
        ["https://b.example", "https://c.example", ""],
        ["https://a.example:8443", "https://d.example", "https://a.example.evil.test"],
    ] {
        assert_eq!(sites(to), [], "{to:?}");
    }
}

#[test]
fn a_host_of_the_same_site_or_behind_another_listener_is_itself() {
    let found = findings(|folder| {
        folder.issue(&["recre.store", "www.recre.store"]);
        folder
            .change("[\"recre.store\"]", "[\"recre.store\", \"www.recre.store\"]")
            .change("upstream = [\"127.0.0.1:3000\"]", "redirect = \"https://recre.store\"");
    });
    let finding = only(&found);
    assert_eq!(finding.code, Code::RedirectLoop);
    assert!(finding.remedy.contains("[[site]]\n  hosts = [\"recre.store\"]"), "{finding:#?}");
    let found = findings(|folder| {
        folder
            .change("[\"[::]:443\"]", "[\"[::]:443\", \"[::]:8443\"]")
            .change("upstream = [\"127.0.0.1:3000\"]", "redirect = \"https://recre.store:8443\"");
    });
    assert_eq!(only(&found).code, Code::RedirectLoop);
}

#[test]
fn keys_of_an_app_beside_a_redirect_are_named_all_at_once() {
    let found = findings(|folder| {
        folder.append(
            "redirect = \"https://other.example\"\nallow = [\"10.0.0.0/8\"]\nidle_timeout = \"1h\"\n[[site.route]]\npath = \"/a\"\n",
        );
    });
    let finding = only(&found);
    assert_eq!(finding.code, Code::RedirectWithApp);
    for key in ["`upstream`", "`route`", "`allow`", "`idle_timeout`"] {
        assert!(finding.message.contains(key) && finding.remedy.contains(key), "{key}: {finding:#?}");
    }
}

#[test]
fn hsts_has_bounds_and_zero() {
    let hsts = |value: &str| findings(|folder| drop(folder.append(&format!("hsts = {value}\n"))));
    for good in ["\"0s\"", "\"5m\"", "\"300s\"", "\"8760h\"", "\"17520h\""] {
        assert_eq!(hsts(good), [], "{good}");
    }
    for (bad, code) in [
        ("\"299s\"", Code::OutOfRange),
        ("\"299999ms\"", Code::OutOfRange),
        ("\"17521h\"", Code::OutOfRange),
        ("\"63072001s\"", Code::OutOfRange),
        ("\"1s\"", Code::OutOfRange),
        ("31536000", Code::BadValue),
        ("\"1 year\"", Code::BadValue),
        ("\"-1s\"", Code::BadValue),
        ("true", Code::WrongType),
    ] {
        let found = hsts(bad);
        assert_eq!(only(&found).code, code, "{bad}: {found:#?}");
    }
    let found = hsts("\"1s\"");
    assert!(only(&found).expected.contains("5m to 17520h, or 0"), "{found:#?}");
}

#[test]
fn fields_that_no_site_may_change_are_refused_with_the_reason() {
    let headers = |lines: &str| findings(|folder| drop(folder.append(&format!("[site.headers]\n{lines}\n"))));
    for (line, code, part) in [
        ("Content-Length = \"1\"", Code::FieldReserved, "delimits the body"),
        ("transfer-encoding = false", Code::FieldReserved, "delimits the body"),
        ("Connection = \"close\"", Code::FieldReserved, "connection"),
        ("upgrade = false", Code::FieldReserved, "WebSocket"),
        ("Sec-WebSocket-Protocol = \"a\"", Code::FieldReserved, "handshake"),
        ("Sanedge-Error = false", Code::FieldReserved, "edge's own"),
        ("Content-Type = \"text/html\"", Code::FieldReserved, "one body"),
        ("X-A = \"\"", Code::BadValue, "Write X-A = false"),
        ("X-A = \" a\"", Code::BadValue, "visible ASCII"),
        ("X-A = \"a\\r\\nB: c\"", Code::BadValue, "line ends"),
        ("X-A = \"gr\u{fc}n\"", Code::BadValue, "visible ASCII"),
        ("X-A = true", Code::WrongType, "false to remove"),
        ("X-A = 1", Code::WrongType, "a text in quotes"),
        ("X-A = [\"a\", \"b\"]", Code::WrongType, "a text in quotes"),
        ("\"X A\" = \"a\"", Code::BadValue, "without blanks"),
        ("\"X-A:\" = \"a\"", Code::BadValue, "colon"),
        ("X.A = \"a\"", Code::WrongType, "a text in quotes"),
    ] {
        let found = headers(line);
        let finding = only(&found);
        let all = format!("{} {} {}", finding.message, finding.expected, finding.remedy);
        assert_eq!((finding.code, finding.place.line), (code, Some(15)), "{line}: {finding:#?}");
        assert!(all.contains(part), "{line}: {finding:#?}");
    }
    let good = "X-Frame-Options = \"DENY\"\nServer = false\nX_A = \"a\\tb\"\n\"!#$%&'*+.^`|~\" = \"~\"\nSet-Cookie = false";
    assert_eq!(headers(good), []);
    assert_eq!(headers(""), []);
}

#[test]
fn the_table_of_fields_has_bounds() {
    let headers = |lines: &str| findings(|folder| drop(folder.append(&format!("[site.headers]\n{lines}"))));
    let many = |count: usize| (0..count).map(|at| format!("X-{at:03} = false\n")).collect::<String>();
    assert_eq!(headers(&many(32)), []);
    assert_eq!(only(&headers(&many(33))).code, Code::TooMany);
    // Name, colon, blank, CRLF.
    let long = |bytes: usize| format!("X-A = \"{}\"\n", "v".repeat(bytes - 7));
    assert_eq!(headers(&long(8192)), []);
    assert_eq!(only(&headers(&long(8193))).code, Code::TooMany);
    let name = |bytes: usize| format!("{} = \"a\"\n", "n".repeat(bytes));
    assert_eq!(headers(&name(64)), []);
    assert_eq!(only(&headers(&name(65))).code, Code::BadValue);
}

#[test]
fn words_of_other_programs_lead_to_these_keys() {
    for (line, near) in [
        ("hsts_enabled = true", "`hsts`"),
        ("strict_transport_security = \"max-age=1\"", "`hsts`"),
        ("redirects = \"https://other.example\"", "`redirect`"),
        ("redir = \"https://other.example\"", "`redirect`"),
        ("add_header = \"X\"", "`headers`"),
        ("custom_headers = {}", "`headers`"),
        ("header = {}", "`headers`"),
        ("server_tokens = \"off\"", "Server = false"),
        ("hsts_subdomains = true", "includeSubDomains"),
    ] {
        let found = findings(|folder| drop(folder.append(&format!("{line}\n"))));
        let finding = only(&found);
        assert_eq!(finding.code, Code::UnknownKey, "{line}: {finding:#?}");
        assert!(finding.remedy.contains(near), "{line}: {finding:#?}");
    }
    let found = findings(|folder| drop(folder.append("[[site.route]]\npath = \"/a\"\nhsts = \"1h\"\n")));
    assert!(only(&found).remedy.contains("belongs in [[site]]"), "{found:#?}");
}

#[test]
fn site_add_writes_a_redirect_and_list_shows_it() {
    let desk = two().site(&[HOST], "127.0.0.1:1").write();
    let site = |words: &[&str]| {
        sanedge()
            .arg("site")
            .args(words)
            .arg("--file")
            .arg(desk.toml())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    let added = site(&["add", WWW, "--redirect", "https://recre.store"]);
    assert_eq!(added.status.code(), Some(0), "{}", text(&added));
    assert!(text(&added).contains("+ www.recre.store → redirect to https://recre.store"), "{}", text(&added));
    let toml = std::fs::read_to_string(desk.toml()).unwrap();
    assert!(
        toml.contains("[[site]]\nhosts = [\"www.recre.store\"]\nredirect = \"https://recre.store\"\n"),
        "{toml}"
    );
    let again = site(&["add", WWW, "--redirect", "https://recre.store/", "--json"]);
    assert_eq!(
        (again.status.code(), &json(&again)["state"]),
        (Some(0), &"unchanged".into()),
        "{}",
        text(&again)
    );
    assert!(
        text(&site(&["list"])).contains("redirects to https://recre.store"),
        "{}",
        text(&site(&["list"]))
    );
    assert_eq!(json(&site(&["list", "--json"]))["sites"][1]["redirect"], "https://recre.store");
    for (words, part) in [
        (&["add", WWW, "--app", "3002"][..], "redirects to https://recre.store"),
        (&["add", WWW, "--redirect", "https://other.example"], "redirects to https://recre.store"),
        (&["add", HOST, "--redirect", "https://other.example"], "is served already"),
    ] {
        let refused = site(words);
        assert_eq!(refused.status.code(), Some(1), "{words:?}: {}", text(&refused));
        assert!(text(&refused).contains(part), "{words:?}: {}", text(&refused));
        assert_eq!(std::fs::read_to_string(desk.toml()).unwrap(), toml);
    }
    for words in [&["add", "a.b"][..], &["add", "a.b", "--app", "1", "--redirect", "https://c.d"]] {
        assert_eq!(site(words).status.code(), Some(2), "{words:?}");
    }
    // What the proof refuses is not written.
    let looped = site(&["remove", WWW]);
    assert_eq!(looped.status.code(), Some(0), "{}", text(&looped));
    let looped = site(&["add", WWW, "--redirect", "https://www.recre.store/x"]);
    assert_eq!(looped.status.code(), Some(1), "{}", text(&looped));
    assert!(text(&looped).contains("redirect-loop"), "{}", text(&looped));
}
