//! Kinds of fault that a set of public reports showed, on which the doctor was not built; each with a twin that has nothing
//! wrong.

use super::house::{Beside, House, SOCKETIO, odd, to};
use crate::support::certs::leaf_params;
use crate::support::odd_certs::self_signed;

pub fn hang(house: &mut House) {
    certificates(house);
    own_pages(house);
    slashes(house);
    processes(house);
    upgrades(house);
    ages(house);
    policies(house);
}

fn url(host: &str) -> String {
    format!("https://{host}.recre.store")
}

fn fine(house: &mut House, host: &str, more: &[&str]) {
    house.exhibit("healthy-kind", &[&[url(host).as_str()], more].concat());
}

fn certificates(house: &mut House) {
    let host = "tls-no-purpose.recre.store";
    let issued = odd(&house.ca, host, |params| params.extended_key_usages.clear());
    house.certificate_fault("tls-no-purpose", &issued);
    // As `openssl req -x509` makes it.
    let host = "self-signed-ca.recre.store";
    let mut params = leaf_params(&[host]);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    house.nginx_with(host, &self_signed(params), &to(4004));
    house.exhibit("tls-self-signed", &[&url("self-signed-ca")]);
}

/// python-engineio accepts pages of the host that it is asked by.
fn own_pages(house: &mut House) {
    let location = |fields: &str| {
        format!(
            "location / {{ {} {fields} proxy_pass http://127.0.0.1:4101; }}",
            SOCKETIO.replace("proxy_set_header Host $host;", "proxy_set_header X-Forwarded-Proto $scheme;")
        )
    };
    let (no_host, host) = (location(""), location("proxy_set_header Host $http_host;"));
    house.nginx("forwarded-host.recre.store", &host);
    fine(house, "forwarded-host", &["--origin", &url("forwarded-host")]);
    house.nginx("eio-forwarded-host.recre.store", &no_host);
    house
        .exhibit("eio-forwarded-host", &[&url("eio-forwarded-host"), "--origin", &url("eio-forwarded-host")]);
    house.says(&["does not forward Host", "cors_allowed_origins"]);
    let address = house.address("other-port.recre.store");
    house.plain(&format!("{address}:8080"), &location("proxy_set_header Host $host;"));
    house.plain(&format!("{address}:8081"), &host);
    for (code, port) in [("eio-forwarded-host", 8080), ("healthy-kind", 8081)] {
        let page = format!("http://other-port.recre.store:{port}");
        house.exhibit(code, &[&page, "--origin", &page]);
    }
    // Without an origin the page may be one of the same host at another port.
    house.exhibit("healthy-kind", &["http://other-port.recre.store:8080"]);
    house.says(&["itself would be refused"]);
    // Traefik says `wss` of WebSockets.
    house.nginx_line("map $http_upgrade $forwarded_wss { default wss; '' https; }");
    house.nginx(
        "py-wss.recre.store",
        &host.replace(
            "proxy_set_header X-Forwarded-Proto $scheme",
            "proxy_set_header X-Forwarded-Proto $forwarded_wss",
        ),
    );
    house.exhibit("eio-forwarded-proto", &[&url("py-wss"), "--origin", &url("py-wss")]);
    house.says(&["`X-Forwarded-Proto: wss`"]);
    house.exhibit("eio-forwarded-proto", &[&url("py-wss")]);
    house.beside(Beside::Succeeds("Node sends no Origin"));
    house.says(&["`X-Forwarded-Proto: wss`"]);
}

/// The app does not repeat what it was asked for.
fn slashes(house: &mut House) {
    let through = |slash: &str| {
        format!("location /socket.io/ {{ {SOCKETIO} proxy_pass http://127.0.0.1:4105/socket.io{slash}; }}")
            .replace("proxy_pass", "proxy_set_header X-Forwarded-Proto $scheme; proxy_pass")
    };
    house.nginx("slash-missing.recre.store", &through(""));
    house.exhibit("eio-path-rewritten", &[&url("slash-missing")]);
    house.says(&["is the slash missing"]);
    house.nginx("slash-there.recre.store", &through("/"));
    fine(house, "slash-there", &[]);
    // To an app without Socket.IO that answers every path.
    house.nginx("slash-page.recre.store", &through("").replace("4105", "4030"));
    house.exhibit("eio-path-rewritten", &[&url("slash-page")]);
    house.nginx(
        "path-off.recre.store",
        &format!("location /socket.io/ {{ {SOCKETIO} proxy_pass http://127.0.0.1:4004/; }}"),
    );
    house.exhibit("eio-path-rewritten", &[&url("path-off")]);
    house.says(&["removes /socket.io/ from the path"]);
}

/// The session that is refused is not the first one: python-engineio holds the POST on that until it is polled.
fn processes(house: &mut House) {
    house.nginx_line("upstream late_pythons { server 127.0.0.1:4105 weight=3; server 127.0.0.1:4107; }");
    let inside = format!(
        "location / {{ return 404; }} location /socket.io/ {{ {SOCKETIO} proxy_set_header X-Forwarded-Proto $scheme; proxy_pass http://late_pythons; }}"
    );
    house.nginx("py-late-workers.recre.store", &inside);
    house.exhibit("eio-sid-unknown", &[&url("py-late-workers")]);
    house.beside(Beside::Unasked("it depends on which process its requests happen to meet"));
}

fn upgrades(house: &mut House) {
    house.nginx_fault("ws-two-servers", &to(4070), &[]);
    house.says(&["`HTTP/1.1 400 Bad Request`"]);
    house.nginx("two-servers-apart.recre.store", &to(4071));
    fine(house, "two-servers-apart", &[]);
    house.exhibit("ws-crash", &["http://127.0.0.1:4072"]);
    house.nginx("passenger.recre.store", &to(4057));
    house.exhibit("ws-accept", &[&url("passenger")]);
    house.says(&["without `Upgrade: websocket`"]);
    house.nginx("gunicorn.recre.store", &to(4058));
    house.exhibit("ws-no-library", &[&url("gunicorn")]);
    house.says(&["its worker class does not support WebSockets"]);
    house.nginx("http2-to-app.recre.store", &to(4076));
    house.exhibit("ws-upgrade-lost", &[&url("http2-to-app")]);
    house.says(&["uses HTTP/2 to the app"]);
    house.nginx("compressing-proxy.recre.store", &to(4077));
    house.exhibit("ws-status", &[&url("compressing-proxy")]);
    house.says(&["cannot handle an upgrade"]);
    // A dev server's proxy without `ws: true`.
    house.nginx("dev-proxy.recre.store", &to(4059));
    house.exhibit("ws-no-answer", &[&url("dev-proxy")]);
    house.says(&["`ws: true`"]);
}

fn ages(house: &mut House) {
    house.nginx_fault("ws-lifetime", &to(4073), &["--hold", "5s"]);
    house.nginx("quick-pings.recre.store", &to(4074));
    fine(house, "quick-pings", &["--hold", "2s"]);
}

/// What a page's own policy forbids; an error page without scripts has no page to forbid it to.
fn policies(house: &mut House) {
    let page = |status: u16, policy: &str, body: &str| {
        format!(
            "{} location = / {{ default_type text/html; add_header Content-Security-Policy \"{policy}\" always; return {status} '{body}'; }}",
            to(4004)
        )
    };
    let script = "<script src=app.js></script>";
    house.nginx_fault("page-csp", &page(200, "connect-src ws://10.0.69.116:8081", script), &[]);
    house.says(&["add 'self' to connect-src"]);
    for (host, status, policy, body) in [
        ("page-csp-self", 200, "default-src 'self'", script),
        ("page-csp-none", 200, "default-src 'none'", "<p>no scripts"),
        ("page-csp-error", 404, "default-src 'none'", script),
    ] {
        house.nginx(&format!("{host}.recre.store"), &page(status, policy, body));
        fine(house, host, &[]);
    }
}
