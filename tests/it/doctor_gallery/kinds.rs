//! Kinds of fault that people report in public, each with a twin that has nothing wrong.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use rcgen::{DistinguishedName, DnType};
use time::OffsetDateTime;

use super::house::{Beside, House, SOCKETIO, run, to};
use crate::support::certs::{Ca, Issued, ca_params, leaf_params};
use crate::support::odd_certs::self_signed;

pub fn hang(house: &mut House) {
    waiting_polls(house);
    browsers(house);
    cookies(house);
    limits(house);
    refusals(house);
    python(house);
    protocols(house);
    words(house);
    paths(house);
    apache(house);
    caddy(house);
    addresses(house);
    strangers(house);
    packets(house);
}

/// Healthy: nothing is found.
fn fine(house: &mut House, host: &str, more: &[&str]) {
    house.exhibit("healthy-kind", &[&[format!("https://{host}.recre.store").as_str()], more].concat());
}

fn location(inside: &str) -> String {
    format!("location / {{ {SOCKETIO} {inside} }}")
}

const APP: &str = "proxy_pass http://127.0.0.1:4004;";

// --- A. what the client does ------------------------------------------------------------------------------

fn waiting_polls(house: &mut House) {
    let polling = ["--transport", "polling"];
    house.exhibit("healthy-kind", &[&["https://healthy-nginx.recre.store"], &polling[..]].concat());
    house.says(&["/ is joined with polling", "no proxy on the way delays answers"]);
    house.exhibit(
        "healthy-kind",
        &[
            &[
                "https://healthy-nginx.recre.store",
                "--hold",
                "2s",
                "--namespace",
                "/catch",
                "--query",
                "uuId=1",
            ],
            &polling[..],
        ]
        .concat(),
    );
    house.says(&["/catch is joined with polling", "held with polling for 2 s"]);
    house
        .exhibit("healthy-kind", &["https://healthy-2x.recre.store", "--eio", "3", "--transport", "polling"]);
    house.exhibit("eio-poll-held", &[&["https://eio-poll-held.recre.store"], &polling[..]].concat());
    house.exhibit(
        "ns-refused",
        &[&["https://healthy-nginx.recre.store", "--namespace", "/catch"], &polling[..]].concat(),
    );
    house.exhibit(
        "ns-silent",
        &[&["https://ns-silent.recre.store", "--namespace", "/slow"], &polling[..]].concat(),
    );
    house.exhibit("eio-sid-unknown", &[&["https://eio-sid-unknown.recre.store"], &polling[..]].concat());
    house.nginx_line("map $request_method$arg_transport$arg_sid $waits { default 0; '~^GETpolling.+' 1; }");
    let refuses = |status: u16| location(&format!("if ($waits) {{ return {status}; }} {APP}"));
    house.nginx_fault("eio-poll-refused", &refuses(500), &polling);
    for (code, status) in [("http-bad-gateway", 502), ("http-limited", 429), ("eio-post-too-large", 413)] {
        let host = format!("poll-{status}");
        house.nginx(&format!("{host}.recre.store"), &refuses(status));
        house.exhibit(code, &[&[format!("https://{host}.recre.store").as_str()], &polling[..]].concat());
    }
    // The WebSocket fails, and so does what a client falls back to.
    house.nginx("both-fail.recre.store", &format!("location / {{ if ($waits) {{ return 500; }} {APP} }}"));
    house.exhibit("eio-poll-refused", &["https://both-fail.recre.store"]);
    house.says(&["ws-upgrade-lost"]);
    let short = to(4004).replace("proxy_pass", "proxy_read_timeout 1s; proxy_pass");
    house.nginx_fault("eio-poll-cut", &short, &["--transport", "polling", "--hold", "4s"]);
    house.nginx("bodies.recre.store", &location(&format!("client_max_body_size 1m; {APP}")));
    fine(house, "bodies", &[]);
    house.nginx_fault("eio-body-limit", &location(&format!("client_max_body_size 100k; {APP}")), &[]);
    // Nothing but Socket.IO is attached: GET / hangs, and so does a wrong path.
    house.nginx("bare-server.recre.store", &to(4052));
    fine(house, "bare-server", &[]);
    house.says(&["GET / gets no answer"]);
    house.exhibit("eio-wrong-path", &["https://bare-server.recre.store", "--path", "/game/"]);
    house.says(&["Socket.IO answers at /socket.io/"]);
}

fn browsers(house: &mut House) {
    house.nginx_line("map $http_connection $only_upgrade { default ''; Upgrade websocket; }");
    house.nginx_line("map $http_connection $any_upgrade { default ''; ~*upgrade websocket; }");
    let by = |word: &str| {
        format!(
            "location / {{ proxy_http_version 1.1; proxy_set_header Host $host; proxy_set_header Upgrade ${word}; proxy_set_header Connection $http_connection; {APP} }}"
        )
    };
    house.nginx_fault("ws-connection-list", &by("only_upgrade"), &[]);
    house.beside(Beside::Succeeds("Node sends `Connection: Upgrade` alone"));
    house.nginx("any-upgrade.recre.store", &by("any_upgrade"));
    fine(house, "any-upgrade", &[]);
    house.nginx_fault(
        "ws-extension",
        &location(&format!("if ($http_sec_websocket_extensions) {{ return 400; }} {APP}")),
        &[],
    );
    house.says(&["with the offer", "clients that offer no compression"]);
    house.nginx("compressing.recre.store", &to(4050));
    fine(house, "compressing", &["--hold", "1s", "--namespace", "/catch", "--query", "uuId=1"]);
    fine(house, "compressing", &["--hold", "1s", "--transport", "websocket"]);
    let dropped = to(4050).replace("proxy_pass", "proxy_hide_header Sec-WebSocket-Extensions; proxy_pass");
    house.nginx("drops-answer.recre.store", &dropped);
    house.exhibit("ws-extension", &["https://drops-answer.recre.store"]);
    house.says(&["drops the answer"]);
    // IIS (ARR) ends the connection at the first compressed message.
    house.nginx("arr.recre.store", &to(4056));
    house.exhibit("ws-extension", &["https://arr.recre.store"]);
    house.python(Beside::Unasked("this server says no more than the doctor asks"));
    // A tunnel that cannot do upgrades.
    house.nginx("tunnel-502.recre.store", &location(&format!("if ($http_upgrade) {{ return 502; }} {APP}")));
    house.exhibit("ws-elsewhere", &["https://tunnel-502.recre.store"]);
    house.says(&["cannot forward an upgrade"]);
    // In front of a good nginx something that knows a hello of one packet only.
    let host = "tls-large-hello.recre.store";
    let issued = house.ca.issue(&[host, "two-packets.recre.store"]);
    let (chain, key) = house.files("large", &issued);
    house.nginx_at("127.0.0.3", &chain, &key, &to(4004));
    house.raw(host, |client| through(client, false));
    house.exhibit("tls-large-hello", &[&format!("https://{host}")]);
    house.beside(Beside::Succeeds("the hello of Node before 24 is short"));
    house.raw("two-packets.recre.store", |client| through(client, true));
    fine(house, "two-packets", &[]);
    house
        .exhibit("mixed-content", &["http://mixed.recre.store:8081", "--origin", "https://page.recre.store"]);
    house.beside(Beside::Succeeds("Node knows no mixed content"));
    let address = house.address("mixed.recre.store");
    house.plain(&format!("{address}:8081"), &to(4017));
    house.exhibit("healthy-kind", &["http://mixed.recre.store:8081", "--origin", "http://page.recre.store"]);
}

/// What one packet of Ethernet carries (RFC 894: 1,500 bytes, less the heads of IP and TCP).
const FIRST_PACKET_BYTES: usize = 1460;

/// A filter that looks at the TLS hello: one that waits for all of it, or one that takes the first packet for all.
fn through(mut client: TcpStream, waits: bool) {
    std::thread::spawn(move || {
        let mut hello = vec![0; 16_384];
        let mut length = client.read(&mut hello).unwrap_or(0);
        let whole = |hello: &[u8]| {
            hello.len() > 5 && hello.len() >= 5 + usize::from(u16::from_be_bytes([hello[3], hello[4]]))
        };
        while waits && length > 0 && !whole(&hello[..length]) {
            match client.read(&mut hello[length..]) {
                Ok(more) if more > 0 => length += more,
                _ => return,
            }
        }
        // Both packets may be there by the time they are read: the second one is what such a filter does not see.
        if !whole(&hello[..length]) || (!waits && length > FIRST_PACKET_BYTES) {
            return;
        }
        let mut server = TcpStream::connect("127.0.0.3:443").unwrap();
        let _ = server.write_all(&hello[..length]);
        let (mut down, mut up) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut down, &mut server);
            let _ = server.shutdown(std::net::Shutdown::Write);
        });
        let _ = std::io::copy(&mut up, &mut client);
        let _ = client.shutdown(std::net::Shutdown::Both);
    });
}

/// HAProxy with two processes behind it, by a cookie and by the client's address.
fn cookies(house: &mut House) {
    let mut frontends = String::new();
    let mut frontend = |house: &mut House, name: &str, backend: &str| {
        let host = format!("{name}.recre.store");
        let issued = house.ca.issue(&[&host]);
        let address = house.address(&host);
        let pem = house.path(&format!("{name}.pem"));
        std::fs::write(&pem, issued.chain_pem + &issued.key_pem).unwrap();
        house.redirect(&address, "https://$host$request_uri");
        house.wait_for(&format!("{address}:443"));
        frontends += &format!(
            "frontend {name}\n bind {address}:443 ssl crt {}\n default_backend {name}\nbackend {name}\n {backend}\n",
            pem.display()
        );
    };
    let servers = "server a 127.0.0.1:4004 cookie a\n server b 127.0.0.1:4005 cookie b";
    let cookie = "cookie SRV insert indirect nocache";
    frontend(house, "cookie-needed", &format!("balance roundrobin\n {cookie}\n {servers}"));
    frontend(house, "by-address", &format!("balance source\n hash-type consistent\n {cookie}\n {servers}"));
    // `sending` has the request before it connects: Node closes at the header of the PROXY protocol, and a request that comes after it would
    // reset the connection before the answer is read.
    let configuration = format!(
        "defaults\n mode http\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n timeout tunnel 1h\n{frontends}\
         frontend wary\n bind 127.0.0.1:4060 accept-proxy\n default_backend wary\nbackend wary\n server a 127.0.0.1:4004\n\
         listen sending\n mode tcp\n bind 127.0.0.1:4083\n tcp-request inspect-delay 5s\n \
         tcp-request content accept if {{ req.len gt 0 }}\n server a 127.0.0.1:4004 send-proxy\n"
    );
    let file = house.path("haproxy-cookies.cfg");
    std::fs::write(&file, configuration).unwrap();
    house.start(Command::new("haproxy").arg("-f").arg(file).stderr(Stdio::null()));
    house.wait_for("127.0.0.1:4060");
    house.exhibit("http-refuses-all", &["http://127.0.0.1:4083"]);
    house.says(&["PROXY protocol"]);
    house.exhibit("eio-cookie-needed", &["https://cookie-needed.recre.store"]);
    house.says(&["the cookie SRV"]);
    house.exhibit("eio-sid-unknown", &["https://cookie-needed.recre.store", "--no-cookies"]);
    fine(house, "by-address", &[]);
    fine(house, "by-address", &["--no-cookies"]);
}

/// Limits that a client does not reach are not reached by the doctor either.
fn limits(house: &mut House) {
    for (host, code, rate, limit) in [
        ("five-a-second", "healthy-kind", "5r/s", "burst=5 nodelay"),
        ("five-delayed", "healthy-kind", "5r/s", "burst=5"),
        ("burst-of-a-client", "healthy-kind", "1r/s", "burst=7 nodelay"),
        ("http-limited", "http-limited", "1r/s", ""),
    ] {
        house.nginx_line(&format!("limit_req_zone $server_name zone={host}:1m rate={rate};"));
        let zone = format!("limit_req zone={host}");
        house.nginx(
            &format!("{host}.recre.store"),
            &format!("server_name {host}; {}", location(&format!("{zone} {limit}; {APP}"))),
        );
        house.exhibit(code, &[&format!("https://{host}.recre.store")]);
        house.pause(Duration::from_secs(9));
    }
    house.says(&["a client's first requests"]);
    for (host, code, most) in [("two-at-once", "healthy-kind", 3), ("one-at-once", "http-limited", 1)] {
        house.nginx_line(&format!("limit_conn_zone $server_name zone={host}:1m;"));
        house.nginx(
            &format!("{host}.recre.store"),
            &format!("server_name {host}; {}", location(&format!("limit_conn {host} {most}; {APP}"))),
        );
        house.exhibit(code, &[&format!("https://{host}.recre.store")]);
    }
    house.nginx("always-503.recre.store", "return 503;");
    house.exhibit("http-unavailable", &["https://always-503.recre.store"]);
    house.says(&["nginx itself answers 503 for every name", "VIRTUAL_HOST"]);
}

fn refusals(house: &mut House) {
    house.nginx_line("map $http_origin $foreign { default 1; '' 0; 'https://page.recre.store' 0; }");
    house.nginx(
        "origins.recre.store",
        &location("if ($foreign) { return 403; } proxy_pass http://127.0.0.1:4017;"),
    );
    house.exhibit(
        "eio-origin-refused",
        &["https://origins.recre.store", "--origin", "https://other.recre.store"],
    );
    fine(house, "origins", &["--origin", "https://page.recre.store"]);
    fine(house, "origins", &[]);
    house.says(&["a page of `https://origins.recre.store` itself would be refused"]);
    house.nginx_line("map $http_cookie$arg_token$http_x_game $bad { default 0; ~select 1; }");
    house.nginx_fault(
        "eio-part-refused",
        &location(&format!("if ($bad) {{ return 403; }} {APP}")),
        &["--query", "token=select"],
    );
    house.says(&["the query (--query)"]);
    let url = "https://eio-part-refused.recre.store";
    house.exhibit("eio-part-refused", &[url, "--cookie", "a=select", "--query", "x=1"]);
    house.says(&["the cookie (--cookie)"]);
    house.exhibit(
        "eio-part-refused",
        &[url, "--header", "X-Game: select", "--origin", "https://page.recre.store"],
    );
    house.says(&["the fields of --header"]);
    house.exhibit(
        "healthy-kind",
        &[url, "--query", "token=right", "--cookie", "a=b", "--header", "X-Game: 1"],
    );
    let long = "x".repeat(3000);
    let small = "large_client_header_buffers 2 2k; client_header_buffer_size 1k;";
    house.nginx_fault("http-too-long", &format!("{small} {}", to(4004)), &["--cookie", &format!("a={long}")]);
    house.says(&["the cookie (--cookie) is too long"]);
    house.exhibit(
        "http-too-long",
        &["https://http-too-long.recre.store", "--query", &format!("token={long}")],
    );
    house.says(&["the query (--query) is too long"]);
    house.exhibit(
        "healthy-kind",
        &["https://http-too-long.recre.store", "--query", "token=short", "--cookie", "a=b"],
    );
}

// --- B. servers and their words ---------------------------------------------------------------------------

fn python(house: &mut House) {
    let proto =
        |port: u16| to(port).replace("proxy_pass", "proxy_set_header X-Forwarded-Proto $scheme; proxy_pass");
    let hosts = [("py-asgi", proto(4101)), ("py-wsgi", proto(4105))];
    for (host, inside) in &hosts {
        house.nginx(&format!("{host}.recre.store"), inside);
        fine(house, host, &["--hold", "1s"]);
        house.exhibit("healthy-kind", &[&format!("https://{host}.recre.store"), "--transport", "polling"]);
    }
    fine(house, "py-asgi", &["--namespace", "/catch", "--query", "uuId=1"]);
    house.exhibit("ns-refused", &["https://py-asgi.recre.store", "--namespace", "/catch"]);
    house.exhibit("ns-unknown", &["https://py-asgi.recre.store", "--namespace", "/cath"]);
    house.nginx_line("upstream two_pythons { server 127.0.0.1:4101; server 127.0.0.1:4102; }");
    house.nginx("py-workers.recre.store", &proto(0).replace("127.0.0.1:0", "two_pythons"));
    house.exhibit("eio-sid-unknown", &["https://py-workers.recre.store"]);
    house.says(&["gunicorn -w 1"]);
    house.nginx("py-query.recre.store", &location("set $args ''; proxy_pass http://127.0.0.1:4101;"));
    house.exhibit("eio-transport-unknown", &["https://py-query.recre.store"]);
    house.says(&["python-engineio does not see `EIO=4`"]);
    house.exhibit("eio-protocol", &["https://py-asgi.recre.store", "--eio", "3"]);
    house.nginx_fault("ws-no-library", &proto(4103), &[]);
    house.nginx("py-no-websocket.recre.store", &proto(4106));
    house.exhibit("ws-no-library", &["https://py-no-websocket.recre.store"]);
    house.exhibit("healthy-kind", &["https://py-no-websocket.recre.store", "--transport", "polling"]);
    house.nginx_fault("eio-forwarded-proto", &to(4101), &[]);
    house.beside(Beside::Succeeds("Node sends no Origin"));
    house.exhibit(
        "eio-forwarded-proto",
        &["https://eio-forwarded-proto.recre.store", "--origin", "https://eio-forwarded-proto.recre.store"],
    );
    house.nginx("py-origins.recre.store", &proto(4104));
    house.exhibit(
        "eio-origin-refused",
        &["https://py-origins.recre.store", "--origin", "https://other.recre.store"],
    );
    house.says(&["`cors_allowed_origins`"]);
    house.exhibit("healthy-kind", &["https://py-origins.recre.store", "--origin", "https://app.recre.store"]);
    house.exhibit("healthy-kind", &["https://py-origins.recre.store"]);
    house.says(&["python-socketio, which sends this Origin"]);
    house.python(Beside::Unasked("it stays on polling, as is said"));
}

fn protocols(house: &mut House) {
    let fixed = "location / { proxy_http_version 1.1; proxy_set_header Upgrade websocket; proxy_set_header Connection upgrade; proxy_set_header Host $host; proxy_pass http://127.0.0.1:4004; }";
    house.nginx_fault("eio-upgrade-always", fixed, &[]);
    // An nginx with TLS where the proxy asks by plain HTTP, and the reverse.
    let issued = house.ca.issue(&["app.recre.store"]);
    let (chain, key) = house.files("app", &issued);
    house.nginx_line(&format!(
        "server {{ listen 127.0.0.1:4061 ssl; ssl_certificate {}; ssl_certificate_key {}; {} }}",
        chain.display(),
        key.display(),
        to(4004)
    ));
    house.nginx_fault("http-tls-expected", &to(4061), &[]);
    house.nginx("https-to-https.recre.store", &to(4061).replace("http://", "https://"));
    fine(house, "https-to-https", &[]);
    house.exhibit("http-tls-expected", &["http://https-to-https.recre.store:443"]);
    house.says(&["connect with https"]);
    house.nginx("https-to-http.recre.store", &to(4004).replace("http://", "https://"));
    house.exhibit("http-bad-gateway", &["https://https-to-http.recre.store"]);
    house.says(&["http or https"]);
    house.nginx_fault("http-h2-expected", &to(4055).replace("http://", "https://"), &[]);
    // On the board the app itself says it.
    house.exhibit("app-http2", &["http://127.0.0.1:4004", "--upstream", "127.0.0.1:4053"]);
    house.exhibit("app-proxy-protocol", &["http://127.0.0.1:4004", "--upstream", "127.0.0.1:4060"]);
    let host = "port-proxy-protocol.recre.store";
    let address = house.address(host);
    let issued = house.ca.issue(&[host]);
    let (chain, key) = house.files(host, &issued);
    house.nginx_line(&format!("server {{ listen {address}:443 ssl proxy_protocol; ssl_certificate {}; ssl_certificate_key {}; {} }}", chain.display(), key.display(), to(4004)));
    house.wait_for(&format!("{address}:443"));
    house.exhibit("port-proxy-protocol", &[&format!("https://{host}")]);
}

/// Answers as their makers word them; the body is what the real server sends, in its shortest form.
fn words(house: &mut House) {
    let say = |status: u16, body: &str| format!("default_type text/html; return {status} '{body}';");
    let field = |field: &str, status: u16| format!("add_header {field} always; return {status};");
    for (code, host, inside) in [
        (
            "http-host-refused",
            "vite",
            say(403, "Blocked request. This host (\"vite.recre.store\") is not allowed."),
        ),
        ("http-host-refused", "webpack", say(403, "Invalid Host header")),
        (
            "http-host-refused",
            "django",
            say(
                400,
                "Invalid HTTP_HOST header: webpack.recre.store. You may need to add it to ALLOWED_HOSTS.",
            ),
        ),
        ("http-host-refused", "rails", say(403, "Blocked hosts: rails.recre.store")),
        (
            "http-login",
            "login-page",
            say(200, "<html><form><input name=user><input type=\"password\"></form>"),
        ),
        (
            "eio-redirected",
            "login-redirect",
            "return 302 https://x.cloudflareaccess.com/cdn-cgi/access/login/x;".to_owned(),
        ),
        ("http-challenge", "challenge-403", field("cf-mitigated challenge", 403)),
        ("http-challenge", "challenge-503", say(503, "<title>Just a moment...</title>")),
        ("http-challenge", "anubis", say(200, "<title>Making sure you are not a bot!</title>")),
        ("cdn-origin", "cdn-521", "return 521;".to_owned()),
        ("cdn-origin", "cdn-525", "return 525;".to_owned()),
        ("tunnel-error", "cdn-530", say(530, "error code: 1033")),
        ("tunnel-error", "ngrok-offline", field("ngrok-error-code ERR_NGROK_3200", 404)),
        ("tunnel-error", "ngrok-app", field("ngrok-error-code ERR_NGROK_8012", 502)),
        (
            "tunnel-error",
            "ngrok-page",
            "add_header ngrok-error-code ERR_NGROK_6024; default_type text/html; return 200 '<html>';"
                .to_owned(),
        ),
        ("http-captive", "captive", "return 511;".to_owned()),
        ("http-default-site", "default-nginx", say(200, "<h1>Welcome to nginx!</h1>")),
        (
            "http-default-site",
            "default-npm",
            say(200, "<h1>Congratulations!</h1> You have successfully started the Nginx Proxy Manager."),
        ),
        ("eio-not-found", "traefik-404", say(404, "404 page not found")),
        ("eio-not-socketio", "spa", say(200, "<!doctype html><div id=root></div>")),
    ] {
        house.nginx(&format!("{host}.recre.store"), &inside);
        house.exhibit(code, &[&format!("https://{host}.recre.store")]);
    }
}

fn paths(house: &mut House) {
    // Express repeats what it was asked for: here without the slash at the end.
    house.nginx_fault(
        "eio-path-rewritten",
        &format!("location /socket.io/ {{ {SOCKETIO} proxy_pass http://127.0.0.1:4019/socket.io; }}"),
        &[],
    );
    house.says(&["the app got `/socket.io`"]);
    let prefix =
        |slash: &str| format!("location /game/ {{ {SOCKETIO} proxy_pass http://127.0.0.1:4004{slash}; }}");
    house.nginx("prefix-kept.recre.store", &prefix(""));
    house.exhibit("eio-not-found", &["https://prefix-kept.recre.store", "--path", "/game/socket.io/"]);
    house.nginx("prefix-off.recre.store", &prefix("/"));
    fine(house, "prefix-off", &["--path", "/game/socket.io/"]);
}

/// Apache as people write it, in one server with one address for each.
fn apache(house: &mut House) {
    let modules = ["mpm_event", "authz_core", "ssl", "proxy", "proxy_http", "proxy_wstunnel", "rewrite"];
    let load: String = modules
        .iter()
        .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
        .collect();
    let folder = house.folder.path().display().to_string();
    let mut configuration = format!(
        "ServerName gallery\nPidFile {folder}/apache.pid\nMutex file:{folder}\nDefaultRuntimeDir {folder}\nErrorLog /dev/null\nServerLimit 2\nThreadsPerChild 32\nMaxRequestWorkers 64\n{load}"
    );
    let app = "http://127.0.0.1:4004/";
    let rule = |connection: &str| {
        format!(
            "RewriteEngine on\nRewriteCond %{{HTTP:Upgrade}} websocket [NC]\nRewriteCond %{{HTTP:Connection}} {connection} [NC]\nRewriteRule ^/(.*) ws://127.0.0.1:4004/$1 [P,L]\nProxyPass / {app}"
        )
    };
    let old = "ProxyWebsocketFallbackToProxyHttp off\n";
    for (host, code, beside, rules) in [
        ("apache-upgrade", "healthy-kind", Beside::TheSame, format!("ProxyPass / {app} upgrade=websocket")),
        ("apache-rule", "healthy-kind", Beside::TheSame, rule("upgrade")),
        ("apache-no-upgrade", "ws-upgrade-lost", Beside::TheSame, format!("ProxyPass / {app}")),
        (
            "apache-whole-word",
            "ws-connection-list",
            Beside::Succeeds("Node sends `Connection: Upgrade` alone"),
            rule("^Upgrade$"),
        ),
        (
            "apache-ws-only",
            "eio-polling-lost",
            Beside::TheSame,
            format!("{old}ProxyPass / ws://127.0.0.1:4004/"),
        ),
    ] {
        let name = format!("{host}.recre.store");
        let address = house.address(&name);
        let issued = house.ca.issue(&[&name]);
        let (chain, key) = house.files(&name, &issued);
        configuration += &format!(
            "Listen {address}:443\n<VirtualHost {address}:443>\nSSLEngine on\nSSLCertificateFile {}\nSSLCertificateKeyFile {}\nProxyPreserveHost on\n{rules}\n</VirtualHost>\n",
            chain.display(),
            key.display()
        );
        house.redirect(&address, "https://$host$request_uri");
        house.wait_for(&format!("{address}:443"));
        house.exhibit(code, &[&format!("https://{name}")]);
        house.beside(beside);
    }
    let file = house.path("apache.conf");
    std::fs::write(&file, configuration).unwrap();
    house.start(Command::new("apache2").args(["-DFOREGROUND", "-f"]).arg(file).stderr(Stdio::null()));
}

/// A matcher that does not cover the path: Caddy answers 200 with nothing.
fn caddy(house: &mut House) {
    let host = "caddy-matcher.recre.store";
    let address = house.address(host);
    let issued = house.ca.issue(&[host]);
    let (chain, key) = house.files(host, &issued);
    let configuration = format!(
        "{{\n admin off\n auto_https off\n storage file_system {}\n log default {{\n level ERROR\n }}\n}}\nhttps://{host} {{\n bind {address}\n tls {} {}\n reverse_proxy /game/* 127.0.0.1:4004\n}}\n",
        house.path("caddy-2").display(),
        chain.display(),
        key.display()
    );
    let file = house.path("Caddyfile-2");
    std::fs::write(&file, configuration).unwrap();
    let home = house.path("home");
    let mut caddy = Command::new("caddy");
    caddy.args(["run", "--adapter", "caddyfile", "--config"]).arg(file).env("HOME", &home);
    house.start(caddy.env("XDG_DATA_HOME", &home).env("XDG_CONFIG_HOME", &home).stderr(Stdio::null()));
    house.redirect(&address, "https://$host$request_uri");
    house.wait_for(&format!("{address}:443"));
    house.exhibit("http-default-site", &[&format!("https://{host}")]);
    house.says(&["Caddy sends an empty answer"]);
}

// --- C. network and name ----------------------------------------------------------------------------------

fn addresses(house: &mut House) {
    let certificate = |house: &mut House, host: &str, address: &str, inside: &str| {
        let issued = house.ca.issue(&[host]);
        let (chain, key) = house.files(&format!("{host}-{address}").replace(':', "_"), &issued);
        let listen = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        house.nginx_line(&format!("server {{ listen {listen}:443 ssl; server_name {host}; ssl_certificate {}; ssl_certificate_key {}; {inside} }}", chain.display(), key.display()));
        if !address.contains(':') {
            house.redirect(address, "https://$host$request_uri");
        }
    };
    run("ip -6 addr add 2620:99::6/128 dev lo nodad");
    // Both right, the second another server, the sixth a router, the AAAA another app behind the same certificate, one dead.
    let first = |house: &mut House, host: &str| house.address(host).parse::<std::net::IpAddr>().unwrap();
    for (host, code, second, other) in [
        ("both-right.recre.store", "healthy-kind", "23.1.0.1", Some((true, to(4004)))),
        ("second-a.recre.store", "name-addresses-differ", "23.1.0.2", Some((false, to(4004)))),
        ("other-aaaa.recre.store", "name-addresses-differ", "2620:99::6", Some((true, to(4030)))),
        ("name-address-dead.recre.store", "name-address-dead", "23.1.0.4", None),
    ] {
        let own = first(house, host);
        certificate(house, host, &own.to_string(), &to(4004));
        if let Some((right, inside)) = &other {
            certificate(house, if *right { host } else { "nas.example.org" }, second, inside);
        }
        house.record(host, vec![own, second.parse().unwrap()]);
        house.exhibit(code, &[&format!("https://{host}")]);
        if code != "healthy-kind" {
            house.beside(Beside::Unasked("which of the addresses a client takes is its own affair"));
        }
    }
    run("ip route add local 23.1.0.0/16 dev lo");
    // The world knows the name, this network's resolver does not.
    house.public_record("name-hidden.recre.store", "192.168.77.1");
    house.exhibit("name-hidden", &["https://name-hidden.recre.store"]);
    house.says(&["DNS rebinding", "192.168.77.1"]);
    house.public_record("name-blocked.recre.store", "23.0.0.1");
    house.exhibit("name-hidden", &["https://name-blocked.recre.store"]);
    house.says(&["it blocks the name"]);
    house.exhibit("healthy-kind", &["https://healthy-nginx.recre.store", "--dns", "9.9.9.9"]);
    house.says(&["9.9.9.9 answers that there is no address"]);
}

fn strangers(house: &mut House) {
    let own = |house: &mut House, code: &'static str, host: &str, issued: &Issued, says: &[&'static str]| {
        let host = format!("{host}.recre.store");
        house.nginx_with(&host, issued, &to(4004));
        house.exhibit(code, &[&format!("https://{host}")]);
        house.says(says);
    };
    let named = |name: &str, sans: &[&str]| {
        let mut params = leaf_params(sans);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        self_signed(params)
    };
    own(
        house,
        "tls-other-server",
        "tls-other-server",
        &named("fritz.box", &["fritz.box", "www.fritz.box", "myfritz.box"]),
        &["fritz.box", "phone off Wi-Fi"],
    );
    let nas = house.ca.issue(&["other.example.org"]);
    own(house, "tls-other-server", "other-hosting", &nas, &["other.example.org"]);
    own(
        house,
        "tls-proxy-default",
        "tls-proxy-default",
        &named("TRAEFIK DEFAULT CERT", &["a1b2.traefik.default"]),
        &["Traefik"],
    );
    own(
        house,
        "tls-proxy-default",
        "ingress",
        &named("Kubernetes Ingress Controller Fake Certificate", &["ingress.local"]),
        &["ingress-nginx"],
    );
    let inspector = Ca::new("FortiGate CA FG100E").issue(&["tls-inspection.recre.store"]);
    own(house, "tls-inspection", "tls-inspection", &inspector, &["(fortigate"]);
    let antivirus = Ca::new("Avast Web/Mail Shield Root").issue(&["antivirus.recre.store"]);
    own(house, "tls-inspection", "antivirus", &antivirus, &["(avast"]);
    let origin =
        Ca::new("CloudFlare Origin SSL Certificate Authority").issue(&["*.recre.store", "recre.store"]);
    own(house, "tls-origin-ca", "tls-origin-ca", &origin, &["Cloudflare Origin certificate"]);
    // The chain ends in an expired cross-sign of a root that clients have.
    let day = |days: i64| OffsetDateTime::now_utc() + time::Duration::days(days);
    let root = Ca::new("Cross Root");
    house.trust(&root.pem);
    let middle = root.subordinate("Cross Middle");
    let mut params = ca_params("Cross Root");
    (params.not_before, params.not_after) = (day(-900), day(-5));
    let older = Ca::new("Root that has gone");
    let cross = params.signed_by(root.issuer.key(), &older.issuer).unwrap().pem();
    let issued = middle.issue(&["tls-cross-sign-expired.recre.store"]).and(&middle.pem).and(&cross);
    own(house, "tls-cross-sign-expired", "tls-cross-sign-expired", &issued, &[]);
    // A name of the home: no advice to ask a public CA.
    house.record("board.fritz.box", vec!["192.168.77.1".parse().unwrap()]);
    let (chain, key) = house.files("home", &named("board.fritz.box", &["board.fritz.box"]));
    house.nginx_line(&format!(
        "server {{ listen 192.168.77.1:8443 ssl; ssl_certificate {}; ssl_certificate_key {}; {} }}",
        chain.display(),
        key.display(),
        to(4004)
    ));
    house.exhibit("tls-self-signed", &["https://board.fritz.box:8443"]);
    house.says(&["mkcert board.fritz.box"]);
    house.never_says(&["certbot"]);
}

/// A line whose packets have 1300 bytes at most, and that says so to nobody.
fn packets(house: &mut House) {
    let sans: Vec<String> = (0..60).map(|at| format!("a-rather-long-name-{at}.recre.store")).collect();
    let names: Vec<&str> = sans
        .iter()
        .map(String::as_str)
        .chain(["port-mtu.recre.store", "small-packets.recre.store"])
        .collect();
    let issued = house.ca.issue(&names);
    let (chain, key) = house.files("mtu", &issued);
    let folder = house.folder.path().display().to_string();
    let configuration = format!(
        "user root;\nmaster_process off;\npid {folder}/far.pid;\nevents {{ }}\nhttp {{ access_log off;\n{}\nserver {{ listen 443 ssl; ssl_certificate {}; ssl_certificate_key {}; location / {{ {SOCKETIO} proxy_pass http://10.88.0.1:4004; }} }}\nserver {{ listen 80; return 301 https://$host$request_uri; }} map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }} }}\n",
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {folder}/far-{kind};\n"))
            .concat(),
        chain.display(),
        key.display(),
    );
    std::fs::write(house.path("far.conf"), configuration).unwrap();
    run("ip link add m0 type veth peer name m1");
    let far = format!(
        "ip link set lo up; while ! ip link show m1 >/dev/null 2>&1; do sleep 0.05; done; ip addr add 10.88.0.2/24 dev m1; ip addr add 10.88.0.3/24 dev m1; \
         ip link set m1 mtu 1500 gso_max_segs 1; ip link set m1 up; exec nginx -g 'daemon off; error_log stderr crit;' -e stderr -c {folder}/far.conf"
    );
    let pid = house.start(Command::new("unshare").args(["--net", "sh", "-c", &far]));
    // The namespace is there once the program has left ours.
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    while std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|theirs| theirs == own) {
        std::thread::sleep(Duration::from_millis(20));
    }
    run(&format!("ip link set m1 netns {pid}"));
    run("ip addr add 10.88.0.1/24 dev m0");
    run("ip link set m0 mtu 1300 up");
    run("ip route add 10.88.0.2/32 dev m0 advmss 1460");
    run("ip route add 10.88.0.3/32 dev m0 advmss 500");
    house.plain("10.88.0.1:4004", &to(4004));
    for (code, host, address) in [
        ("port-mtu", "port-mtu.recre.store", "10.88.0.2"),
        ("name-private", "small-packets.recre.store", "10.88.0.3"),
    ] {
        house.record(host, vec![address.parse().unwrap()]);
        house.wait_for(&format!("{address}:443"));
        house.exhibit(code, &[&format!("https://{host}")]);
    }
}
