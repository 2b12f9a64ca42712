//! Answers of what is in front of the app or in its place (hosts for files, gateways, filters, tunnels), and apps and answers that look
//! odd and work.

use super::house::{House, SOCKETIO, to};

pub fn hang(house: &mut House) {
    in_place_of_the_app(house);
    redirects(house);
    refused(house);
    lost_parts(house);
    accepted_and_disconnected(house);
    heads(house);
    pages(house);
    odd_and_right(house);
}

fn url(host: &str) -> String {
    format!("https://{host}.recre.store")
}

const APP: &str = "proxy_pass http://127.0.0.1:4004;";

fn with(rule: &str) -> String {
    format!("location / {{ {SOCKETIO} {rule} {APP} }}")
}

fn in_place_of_the_app(house: &mut House) {
    // With fields that nginx does not send.
    for (code, port, says) in [
        ("eio-not-found", 4091, "static hosting answers"),
        ("http-default-site", 4092, "Envoy itself answers 404"),
        ("tunnel-error", 4093, "AWS API Gateway"),
        ("eio-not-found", 4094, "as `cloudflared` sends it"),
        ("http-default-site", 4095, "IIS has no site"),
    ] {
        house.exhibit(code, &[&format!("http://127.0.0.1:{port}")]);
        house.says(&[says]);
    }
    for (code, host, status, body, says) in [
        ("tunnel-error", "frp", 404, "<p><em>Faithfully yours, frp.</em></p>", "start frpc"),
        ("tunnel-error", "azure-stopped", 403, "<h1>Error 403 - This web app is stopped.</h1>", "is stopped"),
        (
            "http-challenge",
            "firewall-page",
            200,
            "<title>Request Rejected</title>The requested URL was rejected. Your support ID is: 1",
            "a web application firewall",
        ),
        (
            "http-challenge",
            "web-filter",
            403,
            "<title>Web Page Blocked!</title>",
            "of this network or in front",
        ),
        ("http-default-site", "parked", 200, "<script>location.href=\"/lander\"</script>", "unused domains"),
        ("cdn-origin", "cdn-1003", 403, "error code: 1003", "by an address"),
        (
            "eio-not-socketio",
            "vite-page",
            200,
            "<!doctype html><script src=\"/@vite/client\">",
            "server.proxy",
        ),
        ("eio-not-socketio", "other-page", 200, "<!doctype html><title>My Blog</title>", "page `My Blog`"),
        ("eio-not-found", "fastapi-404", 404, "{\"detail\":\"Not Found\"}", "(FastAPI or Starlette)"),
        (
            "eio-not-found",
            "django-404",
            404,
            "<p>The requested resource was not found on this server.</p>",
            "the app itself answers 404 at /socket.io/ (Django)",
        ),
    ] {
        house.nginx(
            &format!("{host}.recre.store"),
            &format!("location / {{ default_type text/html; return {status} '{body}'; }}"),
        );
        house.exhibit(code, &[&url(host)]);
        house.says(&[says]);
    }
}

fn redirects(house: &mut House) {
    house.nginx("slash-off.recre.store", "location / { return 308 /api/io?$args; }");
    house.exhibit("eio-redirected", &[&url("slash-off"), "--path", "/api/io/"]);
    house.says(&["addTrailingSlash: false"]);
    house.nginx(
        "no-slash.recre.store",
        &format!("location = /socket.io {{ {SOCKETIO} proxy_pass http://127.0.0.1:4124; }} location / {{ return 404; }}"),
    );
    house.exhibit("eio-wrong-path", &[&url("no-slash")]);
    house.says(&["answers at `/socket.io` without the trailing slash"]);
    house.nginx("empty-200.recre.store", "location / { return 200; }");
    house.exhibit("eio-garbled", &[&url("empty-200")]);
    house.says(&["is empty (200"]);
    house.nginx("starlette.recre.store", "location / { if ($http_upgrade) { return 403; } return 404; }");
    house.exhibit("eio-not-found", &[&url("starlette"), "--transport", "websocket"]);
    house.says(&["the same without Upgrade"]);
    house.nginx("language.recre.store", "location / { return 307 /en$request_uri; }");
    house.exhibit("eio-redirected", &[&url("language")]);
    house.says(&["adds a prefix to the path"]);
    // A login that exempts polls only.
    for (code, host, answer) in [
        ("eio-unauthorized", "ws-needs-login", "return 401;"),
        ("eio-redirected", "ws-to-login", "return 302 https://login.recre.store/oauth2/start;"),
    ] {
        house.nginx(&format!("{host}.recre.store"), &with(&format!("if ($http_upgrade) {{ {answer} }}")));
        house.exhibit(code, &[&url(host)]);
        house.says(&["a WebSocket handshake"]);
    }
}

fn refused(house: &mut House) {
    for (host, answer) in [("post-406", "return 406;"), ("post-444", "return 444;")] {
        house.nginx(
            &format!("{host}.recre.store"),
            &with(&format!("if ($request_method = POST) {{ {answer} }}")),
        );
        house.exhibit("eio-post-refused", &[&url(host)]);
    }
    house.nginx_line("map $http_user_agent $not_a_browser { default 1; ~Mozilla 0; }");
    house.nginx_line("map $http_user_agent $a_robot { default 0; ~*bot 1; }");
    house.nginx("browsers-only.recre.store", &with("if ($not_a_browser) { return 403; }"));
    house.exhibit("http-challenge", &[&url("browsers-only")]);
    house.says(&["by its User-Agent, and accepts a browser's"]);
    house.nginx("no-robots.recre.store", &with("if ($a_robot) { return 403; }"));
    house.exhibit("healthy-kind", &[&url("no-robots")]);
}

fn lost_parts(house: &mut House) {
    house.nginx("sid-lost.recre.store", &with("set $args EIO=$arg_EIO&transport=$arg_transport;"));
    house.exhibit("eio-transport-unknown", &[&url("sid-lost")]);
    house.says(&["the query parameter `sid` (the session)"]);
    house.nginx(
        "eio-lost.recre.store",
        &format!("location / {{ {SOCKETIO} set $args transport=$arg_transport&sid=$arg_sid; proxy_pass http://127.0.0.1:4096; }}"),
    );
    house.exhibit("eio-transport-unknown", &[&url("eio-lost")]);
    house.says(&["answers in EIO=3"]);
    house.nginx("eio-both.recre.store", &to(4096));
    house.exhibit("healthy-kind", &[&url("eio-both")]);
    house.exhibit("healthy-kind", &[&url("eio-both"), "--eio", "3"]);
    // The app's 400 is replaced.
    house.nginx_line("upstream two_hidden { server 127.0.0.1:4004; server 127.0.0.1:4005; }");
    house.nginx(
        "hidden-errors.recre.store",
        &format!(
            "location = / {{ return 404; }} location / {{ {SOCKETIO} proxy_intercept_errors on; error_page 400 @oops; proxy_pass http://two_hidden; }} location @oops {{ return 400 'Something went wrong'; }}"
        ),
    );
    house.exhibit("eio-sid-unknown", &[&url("hidden-errors")]);
    house.says(&["one of a session that does not exist"]);
    // Two addresses of a name, of which one forwards no WebSockets.
    let (lame, good) = (house.address("lame.recre.store"), house.address("sound.recre.store"));
    house.plain(&format!("{lame}:8080"), &format!("location / {{ {APP} }}"));
    house.plain(&format!("{good}:8080"), &to(4004));
    let at = |address: &str| format!("two-ways.recre.store:{address}");
    house.exhibit(
        "name-addresses-differ",
        &["http://two-ways.recre.store:8080", "--resolve", &at(&lame), "--resolve", &at(&good)],
    );
    house.says(&["a WebSocket opens at"]);
    house.exhibit(
        "ws-upgrade-lost",
        &["http://two-ways.recre.store:8080", "--resolve", &at(&lame), "--resolve", &at(&lame)],
    );
}

fn accepted_and_disconnected(house: &mut House) {
    house.exhibit("ns-refused", &["http://127.0.0.1:4098", "--namespace", "/"]);
    house.says(&["disconnects it at once"]);
    house.exhibit("ns-refused", &["http://127.0.0.1:4099", "--namespace", "/"]);
    house.says(&["the connection ends at once"]);
    house.exhibit("ns-refused", &["http://127.0.0.1:4117", "--namespace", "/"]);
    house.says(&["--auth KEY=VALUE"]);
    let auth = ["http://127.0.0.1:4117", "--namespace", "/", "--auth", "token=a \"secret\""];
    house.exhibit("healthy-kind", &auth);
    house.never_says(&["secret"]);
    house.exhibit("healthy-kind", &[&auth[..], &["--transport", "polling"]].concat());
    house.never_says(&["secret"]);
}

/// Heads that Node refuses and browsers accept.
fn heads(house: &mut House) {
    for (port, says) in
        [(4112, "has Content-Length twice"), (4113, "KiB of fields"), (4114, "end with a bare LF")]
    {
        house.exhibit("http-malformed", &[&format!("http://127.0.0.1:{port}")]);
        house.says(&[says]);
    }
    house.exhibit("healthy-kind", &["http://127.0.0.1:4115"]);
    house.exhibit("ws-accept", &["http://127.0.0.1:4116"]);
}

fn pages(house: &mut House) {
    let page = ["--origin", "https://page.recre.store"];
    for (code, host, port, says) in [
        ("cors-other-origin", "cors-slash", 4120, "with a slash at the end"),
        ("cors-twice", "cors-list", 4121, "as an array"),
    ] {
        house.nginx(&format!("{host}.recre.store"), &to(port));
        house.exhibit(code, &[&[url(host).as_str()], &page[..]].concat());
        house.says(&[says]);
    }
    house.nginx("cors-no-cookies.recre.store", &to(4122));
    house.exhibit(
        "cors-missing",
        &[&[url("cors-no-cookies").as_str(), "--cookie", "a=b"], &page[..]].concat(),
    );
    house.says(&["`cors.credentials: true`"]);
    house.exhibit(
        "healthy-kind",
        &[&["https://healthy-cors.recre.store", "--cookie", "a=b"], &page[..]].concat(),
    );
}

fn odd_and_right(house: &mut House) {
    // A proxy that empties the answers to POST: clients look at the status.
    house.exhibit("healthy-kind", &["http://127.0.0.1:4118"]);
    // An app that asks a database first.
    house.exhibit("healthy-kind", &["http://127.0.0.1:4119", "--namespace", "/"]);
    house.exhibit("healthy-kind", &["http://127.0.0.1:4119", "--namespace", "/", "--transport", "polling"]);
    // An app whose first message is large.
    house.exhibit("healthy-kind", &["http://127.0.0.1:4123", "--namespace", "/", "--hold", "1s"]);
}
