//! Who may open WebSockets: what real clients send as Origin, and that the line which a refusal names works once it is
//! pasted into `sanedge.toml`.

use crate::support::SOCKET_HOST as HOST;
use crate::support::edge::{Desk, Edge, EdgeBuilder, PATIENCE, sanedge, text};
use crate::support::raw::{Raw, Response, upgrade};
use crate::support::upstream::{Connection, Upstream};
use serde_json::Value;

const PARENT: &str = "recre.store";
const TARGET: &str = "/socket.io/?EIO=4&transport=websocket";

async fn app() -> Upstream {
    Upstream::switching(async |mut connection: Connection| connection.until_closed().await).await
}

fn both(upstream: &Upstream) -> EdgeBuilder {
    Edge::certified_for(&[HOST, PARENT]).site(&[PARENT], upstream)
}

async fn asked(edge: &Edge, host: &str, origin: &str) -> Response {
    let mut client = Raw::open(edge, host).await;
    client.send(upgrade(host, TARGET, &format!("Origin: {origin}\r\n"))).await;
    client.response().await
}

async fn status(edge: &Edge, host: &str, origin: &str) -> u16 {
    asked(edge, host, origin).await.status
}

/// What clients send of themselves to `wss://socket.recre.store`, by their public sources and issues.
const BY_DEFAULT: &[(&str, &str)] = &[
    ("a page of the site", "https://socket.recre.store"),
    ("React Native on Android names the port", "https://socket.recre.store:443"),
    ("a page of the served parent", "https://recre.store"),
    ("socket.io-client-swift (Starscream)", "wss://socket.recre.store"),
    ("Starscream with a port", "wss://socket.recre.store:443"),
    ("a program that connects by ws behind a tunnel", "ws://socket.recre.store"),
    ("Qt, and others with an empty setting", ""),
];

const ONCE_LISTED: &[(&str, &str, &str)] = &[
    ("websocket-client 1.2 of Python", "http://socket.recre.store", "http://socket.recre.store:8080"),
    ("MicroPython", "http://localhost", "http://localhost:8080"),
    ("Arduino WebSockets, Electron by loadFile, Cordova", "file://", "file://a"),
    ("Capacitor on iOS", "capacitor://localhost", "capacitor://localhost:8100"),
    ("Capacitor on Android", "https://localhost", "http://localhost:443"),
    ("Ionic on iOS", "ionic://localhost", "ionic://localhost.evil.test"),
    ("Tauri on Linux and macOS", "tauri://localhost", "tauri://localhosts"),
    ("Tauri on Windows", "http://tauri.localhost", "https://tauri.localhost"),
    ("Electron with a scheme of its own", "app://.", "app://"),
    (
        "an extension of Chrome",
        "chrome-extension://knipolnnllmklapflnccelgolnamhhpl",
        "chrome-extension://knipolnnllmklapflnccelgolnamhhpm",
    ),
    (
        "an extension of Firefox",
        "moz-extension://9f1c3a52-7d04-4e6b-8a35-0c2d4e6f8a1b",
        "moz-extension://9f1c3a52-7d04-4e6b-8a35-0c2d4e6f8a1c",
    ),
    (
        "an extension of Safari",
        "safari-web-extension://7E3C1B5A-0F2D-4C6E-9A8B-1D3F5E7C9B0A",
        "safari-web-extension://7e3c1b5a-0f2d-4c6e-9a8b-1d3f5e7c9b0a",
    ),
    ("VS Code", "vscode-file://vscode-app", "vscode-webview://vscode-app"),
    ("a page of a development server", "http://localhost:5173", "http://localhost:5174"),
    ("a program that names another host by wss", "wss://recre.store", "wss://recre.store:8443"),
    ("odd characters", "app://it's-\"so\"-\\", "app://it's-\"so\""),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_real_clients_send_passes_by_default_or_once_it_is_listed() {
    let upstream = app().await;
    let default = both(&upstream).site(&[HOST], &upstream).start();
    for (client, origin) in BY_DEFAULT {
        assert_eq!(status(&default, HOST, origin).await, 101, "{client}: {origin}");
    }
    let listed: Vec<_> = ONCE_LISTED.iter().map(|(_, origin, _)| format!("{origin:?}")).collect();
    let listed = format!("origins = [{}]", listed.join(", "));
    let listed = both(&upstream).site_with(&[HOST], &upstream, &listed).start();
    for (client, origin, twin) in ONCE_LISTED {
        assert_eq!(status(&default, HOST, origin).await, 403, "{client}: {origin} unless listed");
        assert_eq!(status(&listed, HOST, origin).await, 101, "{client}: {origin}");
        assert_eq!(status(&listed, HOST, twin).await, 403, "{client}: not {twin}");
    }
    for (client, origin) in BY_DEFAULT {
        assert_eq!(status(&listed, HOST, origin).await, 101, "{client}: {origin} beside what is listed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_counts_as_the_site_ends_at_its_hosts_ports_and_schemes() {
    let upstream = app().await;
    let own = both(&upstream).site(&[HOST], &upstream).start();
    let ported = both(&upstream).site(&[HOST], &upstream).listen("public_https_port = 8443").start();
    let several = Edge::certified_for(&[HOST, PARENT]).site(&[HOST, PARENT], &upstream).start();
    for (edge, host, origin, wanted) in [
        (&own, HOST, "http://socket.recre.store", 403),
        (&own, HOST, "http://recre.store", 403),
        (&own, HOST, "wss://recre.store", 403), // a page's site, not a host that this client connects to
        (&own, PARENT, "wss://recre.store", 101),
        (&own, PARENT, "https://socket.recre.store", 403),
        (&own, HOST, "wss://socket.recre.store:8443", 403),
        (&own, HOST, "ws://socket.recre.store:8080", 403),
        (&own, HOST, "ws://socket.recre.store:443", 101),
        (&own, HOST, "wss://socket.recre.store.evil.test", 403),
        (&own, HOST, "wss://evilsocket.recre.store", 403),
        (&own, HOST, "wss://socket.recre.store/", 403),
        (&own, HOST, "wss://user@socket.recre.store", 403),
        (&own, HOST, "wsss://socket.recre.store", 403),
        (&own, HOST, "null", 403),
        (&own, HOST, "*", 403),
        (&ported, HOST, "https://socket.recre.store:8443", 101),
        (&ported, HOST, "https://socket.recre.store", 403),
        (&ported, HOST, "wss://socket.recre.store:8443", 101),
        (&ported, HOST, "wss://socket.recre.store", 101),
        (&ported, HOST, "ws://socket.recre.store", 101),
        (&ported, HOST, "wss://socket.recre.store:444", 403),
        (&several, HOST, "wss://recre.store", 101), // another host of the same site
        (&several, HOST, "https://recre.store", 101),
    ] {
        assert_eq!(status(edge, host, origin).await, wanted, "{origin} at {host}");
    }
    let mut twice = Raw::open(&own, HOST).await;
    twice.send(upgrade(HOST, TARGET, "Origin:\r\nOrigin: https://socket.recre.store\r\n")).await;
    twice.response().await.assert_ours(403, "origin_refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_can_be_dropped_and_a_route_adds_to_its_site() {
    let upstream = app().await;
    let route = |keys: &str| {
        format!(
            "origins = [\"https://site.test\"]\n[[site.route]]\npath = \"/socket.io/\"\norigins = [\"https://route.test\"]\n{keys}"
        )
    };
    let added = both(&upstream).site_with(&[HOST], &upstream, &route("")).start();
    let closed_route =
        both(&upstream).site_with(&[HOST], &upstream, &route("origins_default = false")).start();
    let closed = both(&upstream)
        .site_with(&[HOST], &upstream, &format!("origins_default = false\n{}", route("")))
        .start();
    let reopened = both(&upstream)
        .site_with(
            &[HOST],
            &upstream,
            &format!("origins_default = false\n{}", route("origins_default = true")),
        )
        .start();
    let programs =
        both(&upstream).site_with(&[HOST], &upstream, "origins_default = false\norigins = []").start();
    for (edge, name, own, listed) in [
        (&added, "added", 101, 101),
        (&closed_route, "closed_route", 403, 101),
        (&closed, "closed", 403, 101),
        (&reopened, "reopened", 101, 101),
        (&programs, "programs", 403, 403),
    ] {
        for (origin, wanted) in [
            ("https://socket.recre.store", own),
            ("wss://socket.recre.store", own),
            ("https://recre.store", own),
            ("https://site.test", listed),
            ("https://route.test", listed),
            ("https://evil.test", 403),
            ("", 101),
        ] {
            assert_eq!(status(edge, HOST, origin).await, wanted, "{name}: {origin}");
        }
    }
    // What a route lists is not the site's.
    let mut client = Raw::open(&added, HOST).await;
    client.send(upgrade(HOST, "/other", "Origin: https://route.test\r\n")).await;
    client.response().await.assert_ours(403, "origin_refused");
}

/// The piece of `text` that is a line of `origins`, as it stands there.
fn line_in(text: &str) -> String {
    let begin = text.find("origins = [").unwrap_or_else(|| panic!("no line of origins in {text}"));
    let end = text[begin..].find(']').unwrap() + begin + 1;
    text[begin..end].to_owned()
}

/// Does what the texts say: puts the line below its `[[site]]`, or in place of the one that is there.
fn paste(desk: &Desk, line: &str) {
    let toml = std::fs::read_to_string(desk.toml()).unwrap();
    let at = toml.find(&format!("[[site]]\nhosts = [{HOST:?}]")).unwrap();
    let (before, site) = toml.split_at(at);
    let own = site.find("[[site.route]]").unwrap_or(site.len());
    let (own, routes) = site.split_at(own);
    let there: Vec<_> = own.lines().filter(|line| line.starts_with("origins =")).collect();
    let own = match there.as_slice() {
        [] => own.replacen("[[site]]\n", &format!("[[site]]\n{line}\n"), 1),
        [old] => own.replacen(old, line, 1),
        more => panic!("{more:?}"),
    };
    std::fs::write(desk.toml(), format!("{before}{own}{routes}")).unwrap();
    desk.bundled();
}

/// Puts what stands in the brackets at the beginning of the existing list.
fn paste_entry(desk: &Desk, entry: &str) {
    let toml = std::fs::read_to_string(desk.toml()).unwrap();
    std::fs::write(desk.toml(), toml.replacen("origins = [", &format!("origins = [{entry}, "), 1)).unwrap();
    desk.bundled();
}

const ROUTE: &str = "[[site.route]]\npath = \"/socket.io/\"\norigins = [\"https://route.test\"]";

#[tokio::test(flavor = "multi_thread")]
async fn the_line_of_the_log_works_when_it_is_pasted() {
    let upstream = app().await;
    for (what, keys, listed) in [
        ("nothing listed", String::new(), vec![]),
        (
            "something listed",
            "origins = [\"https://old.test\", \"file://\"]".to_owned(),
            vec!["https://old.test", "file://"],
        ),
        ("a route that lists", ROUTE.to_owned(), vec!["https://route.test"]),
        (
            "both",
            format!("origins = [\"https://old.test\"]\n{ROUTE}"),
            vec!["https://old.test", "https://route.test"],
        ),
        ("a route alone", "[[site.route]]\npath = \"/socket.io/\"".to_owned(), vec![]),
    ] {
        for origin in
            ["https://app.test:8443", "capacitor://localhost", "http://socket.recre.store", "app://it's"]
        {
            let edge = both(&upstream).site_with(&[HOST], &upstream, &keys).start();
            assert_eq!(status(&edge, HOST, origin).await, 403, "{what}: {origin}");
            let said = edge.wait_for_log("reason=origin", PATIENCE);
            // As a person takes it from the journal; what has quotes in it is escaped there.
            let line = line_in(&said).replace("\\\"", "\"").replace("\\\\", "\\");
            paste(edge.desk(), &line);
            edge.reload();
            for passes in listed.iter().chain(&[
                origin,
                "https://socket.recre.store",
                "https://recre.store",
                "wss://socket.recre.store",
            ]) {
                assert_eq!(status(&edge, HOST, passes).await, 101, "{what}: {passes} after {line}");
            }
            assert_eq!(status(&edge, HOST, "https://evil.test").await, 403, "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_answer_says_works_when_it_is_pasted_and_names_nothing_that_is_listed() {
    let upstream = app().await;
    let origin = "capacitor://localhost";
    let edge = both(&upstream).site_with(&[HOST], &upstream, "").start();
    let refused = asked(&edge, HOST, origin).await;
    refused.assert_ours(403, "origin_refused");
    paste(edge.desk(), &line_in(refused.text()));
    edge.reload();
    assert_eq!(status(&edge, HOST, origin).await, 101);
    assert_eq!(status(&edge, HOST, "https://socket.recre.store").await, 101);

    let refused = asked(&edge, HOST, "https://app.test").await;
    assert!(!refused.text().contains("capacitor"), "{refused:?}");
    let check: Value = serde_json::from_slice(&refused.body).unwrap();
    assert!(
        check["check"]
            .as_str()
            .unwrap()
            .contains("'https://app.test', at the beginning of the existing list"),
        "{check}"
    );
    paste_entry(edge.desk(), "'https://app.test'");
    edge.reload();
    for passes in [origin, "https://app.test", "https://socket.recre.store"] {
        assert_eq!(status(&edge, HOST, passes).await, 101, "{passes}");
    }
}

async fn doctor(edge: &Edge, origin: &str) -> String {
    let (url, ca) = (edge.url(HOST), edge.desk().ca_file());
    let mut command = sanedge();
    command.args([
        "doctor",
        &url,
        "--resolve",
        &format!("{HOST}:127.0.0.1"),
        "--transport",
        "websocket",
        "--origin",
        origin,
    ]);
    command.arg("--ca").arg(ca);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    text(&output)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_line_of_the_doctor_works_when_it_is_pasted() {
    let upstream = app().await;
    for origin in ["https://app.test", "file://", "wss://other.test", "ionic://localhost"] {
        let edge = both(&upstream).site(&[HOST], &upstream).start();
        let report = doctor(&edge, origin).await;
        assert!(report.contains("ws-origin-refused") || report.contains("origin_refused"), "{report}");
        paste(edge.desk(), &line_in(&report));
        edge.reload();
        assert_eq!(status(&edge, HOST, origin).await, 101, "{origin}");
        assert_eq!(status(&edge, HOST, "https://socket.recre.store").await, 101, "{origin}");
        let report = doctor(&edge, origin).await;
        assert!(!report.contains("origin_refused"), "{report}");
    }
    let edge = both(&upstream).site(&[HOST], &upstream).start();
    let report = doctor(&edge, "wss://socket.recre.store").await;
    assert!(!report.contains("origin_refused"), "{report}");
    let report = doctor(&edge, "null").await;
    assert!(
        report.contains("serve the page over https")
            && !report.contains("\"null\"")
            && !report.contains("'null'"),
        "{report}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_line_of_origins_is_answered_with_one_for_both() {
    let upstream = app().await;
    let twice =
        "origins = [\"https://old.test\"] # mine\norigins = ['capacitor://localhost', \"https://OLD.test\"]";
    let desk = both(&upstream).site_with(&[HOST], &upstream, twice).write();
    let output = desk.bundle();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output);
    assert!(said.contains("origins = ['https://old.test', 'capacitor://localhost']"), "{said}");
    let toml = std::fs::read_to_string(desk.toml()).unwrap();
    std::fs::write(desk.toml(), toml.replace(twice, &line_in(&said[said.find("Write one line").unwrap()..])))
        .unwrap();
    desk.bundled();
}

#[tokio::test(flavor = "multi_thread")]
async fn bundle_prints_the_origins_that_may_open_websockets() {
    let upstream = app().await;
    let desk =
        both(&upstream).site_with(&[HOST], &upstream, &format!("origins = [\"file://\"]\n{ROUTE}")).write();
    let said = text(&desk.bundle());
    let row = |path: &str| {
        let of_host = |line: &&str| line.starts_with(HOST) && line.split_whitespace().nth(1) == Some(path);
        said.lines().find(of_host).map(str::to_owned)
    };
    let own = "https://socket.recre.store https://recre.store";
    assert!(row("/").is_some_and(|row| row.ends_with(&format!("{own} file://"))), "{said}");
    assert!(
        row("/socket.io/").is_some_and(|row| row.ends_with(&format!("{own} file:// https://route.test"))),
        "{said}"
    );
    assert!(said.contains("`origins` adds to them") && said.contains("origins_default = false"), "{said}");

    let output = sanedge()
        .args(["bundle", "--json"])
        .arg(desk.toml())
        .arg("-o")
        .arg(desk.bundle_file())
        .output()
        .unwrap();
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let row = json["websockets"].as_array().unwrap().iter().find(|row| row["path"] == "/socket.io/").unwrap();
    assert_eq!(row["own"], serde_json::json!(["https://socket.recre.store", "https://recre.store"]));
    assert_eq!(row["listed"], serde_json::json!(["file://", "https://route.test"]));

    let closed = both(&upstream).site_with(&[HOST], &upstream, "origins_default = false").write();
    let said = text(&closed.bundle());
    assert!(said.lines().any(|line| line.starts_with(HOST) && line.ends_with("programs only")), "{said}");
}
