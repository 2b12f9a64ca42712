//! Polls pass and WebSockets do not: another rule, a platform without WebSockets, frames that are changed or held back.

use super::house::{Beside, House, SOCKETIO, to};

pub fn hang(house: &mut House) {
    another_rule(house);
    switched_off(house);
    after_the_handshake(house);
    refusals(house);
    changed_responses(house);
}

fn url(host: &str) -> String {
    format!("https://{host}.recre.store")
}

const APP: &str = "proxy_pass http://127.0.0.1:4004;";

fn for_upgrades(house: &mut House, host: &str, rule: &str) {
    let inside = format!("location / {{ {SOCKETIO} {rule} {APP} }}");
    house.nginx(&format!("{host}.recre.store"), &inside);
}

fn another_rule(house: &mut House) {
    for_upgrades(house, "ws-404", "if ($http_upgrade) { return 404; }");
    house.exhibit("ws-elsewhere", &[&url("ws-404")]);
    house.says(&["another path, port or Host", "the same without Upgrade"]);
    // The prefix stays on the path of upgrades, and Node ends a handshake of a path that is not its own.
    let prefix = format!(
        "location /app/ {{ {SOCKETIO} set $to $uri; if ($http_upgrade = '') {{ rewrite ^/app(/.*)$ $1 break; }} {APP} }}"
    );
    house.nginx("ws-prefix.recre.store", &prefix);
    house.exhibit("ws-elsewhere", &[&url("ws-prefix"), "--path", "/app/socket.io/"]);
    for_upgrades(house, "ws-query", "if ($http_upgrade) { set $args ''; }");
    house.exhibit("ws-elsewhere", &[&url("ws-query")]);
    house.says(&["without its query"]);
    for_upgrades(
        house,
        "ws-no-backend",
        "if ($http_upgrade) { return 503 'No server is available to handle this request.'; }",
    );
    house.exhibit("ws-elsewhere", &[&url("ws-no-backend")]);
    house.says(&["no working server for WebSockets"]);
    for_upgrades(house, "ws-page", "if ($http_upgrade) { return 200 '<!doctype html>'; }");
    house.exhibit("ws-elsewhere", &[&url("ws-page")]);
    house.nginx(
        "page-only.recre.store",
        "location / { default_type text/html; return 200 '<!doctype html>'; }",
    );
    house.exhibit("eio-not-socketio", &[&url("page-only"), "--transport", "websocket"]);
    // One rule for both, by two proxies.
    house.nginx(
        "ws-prefix-of-both.recre.store",
        &format!("location /app/ {{ {SOCKETIO} proxy_pass http://127.0.0.1:4004/; }}"),
    );
    house.exhibit("healthy-kind", &[&url("ws-prefix-of-both"), "--path", "/app/socket.io/"]);
    // `Connection: upgrade` on polls as well, which Node does not mind.
    house.nginx("ws-fixed-connection.recre.store", &to(4004).replace("$connection_upgrade", "upgrade"));
    house.exhibit("healthy-kind", &[&url("ws-fixed-connection")]);
}

fn switched_off(house: &mut House) {
    for_upgrades(house, "ws-501", "if ($http_upgrade) { return 501; }");
    house.exhibit("ws-off", &[&url("ws-501")]);
    house.says(&["disabled or forbidden there"]);
    for_upgrades(house, "ws-503", "if ($http_upgrade) { return 503 'The service is unavailable.'; }");
    house.exhibit("ws-off", &[&url("ws-503")]);
    house.exhibit("healthy-kind", &[&url("ws-503"), "--transport", "polling"]);
    for_upgrades(house, "ws-403", "if ($http_upgrade) { return 403; }");
    house.exhibit("ws-off", &[&url("ws-403")]);
    house.says(&["with any Origin"]);
    house.nginx_line("map $http_upgrade$http_origin $foreign_upgrade { default 0; 'websockethttps://other.recre.store' 1; }");
    let origin = format!(
        "location / {{ {SOCKETIO} if ($foreign_upgrade) {{ return 403; }} proxy_pass http://127.0.0.1:4017; }}"
    );
    house.nginx("ws-foreign.recre.store", &origin);
    house.exhibit("eio-origin-refused", &[&url("ws-foreign"), "--origin", "https://other.recre.store"]);
    house.exhibit("healthy-kind", &[&url("ws-foreign"), "--origin", "https://page.recre.store"]);
    // Two proxies that both set it.
    let twice = to(4004).replace("Upgrade $http_upgrade", "Upgrade $upgrade_twice");
    house.nginx_line("map $http_upgrade $upgrade_twice { default 'websocket,websocket'; '' ''; }");
    house.nginx("ws-upgrade-twice.recre.store", &twice);
    house.exhibit("ws-upgrade-lost", &[&url("ws-upgrade-twice")]);
    house.says(&["the field `Upgrade`"]);
}

fn after_the_handshake(house: &mut House) {
    house.exhibit("ws-ends", &["http://127.0.0.1:4078"]);
    house.exhibit("ws-damaged", &["http://127.0.0.1:4079"]);
    house.exhibit("ws-one-way", &["http://127.0.0.1:4080"]);
    house.never_says(&["eio-sid-unknown"]);
    house.exhibit("healthy-kind", &["http://127.0.0.1:4081"]);
    house.exhibit("eio-garbled", &["http://127.0.0.1:4085"]);
    house.says(&["ends before its announced end"]);
}

fn refusals(house: &mut House) {
    // The app repeats the path: no proxy has changed it.
    house.nginx(
        "express-404.recre.store",
        "location / { default_type text/html; return 404 '<pre>Cannot GET /socket.io/</pre>'; }",
    );
    house.exhibit("eio-not-found", &[&url("express-404")]);
    house.says(&["Socket.IO is not attached to the server that listens"]);
    house.nginx(
        "tunnel-401.recre.store",
        "location / { add_header WWW-Authenticate 'Bearer realm=\"tunnels\", tunnel' always; return 401; }",
    );
    house.exhibit("eio-unauthorized", &[&url("tunnel-401")]);
    house.says(&["make the tunnel's port public"]);
    house.nginx("no-location.recre.store", "location /other/ { proxy_pass http://127.0.0.1:4004/; }");
    house.exhibit("eio-not-found", &[&url("no-location")]);
    house.says(&["no rule that forwards /socket.io/ to the app"]);
    house.nginx("untrusted.recre.store", &to(4082));
    house.exhibit("http-refuses-all", &[&url("untrusted")]);
    house.says(&["does not trust the proxy"]);
    house.nginx("field-dropped.recre.store", &to(4012));
    house.exhibit("eio-forbidden", &[&url("field-dropped"), "--header", "access_token: x"]);
    house.says(&["nginx drops names with an underscore"]);
    let twice = format!(
        "location / {{ {SOCKETIO} proxy_hide_header Access-Control-Allow-Origin; add_header Access-Control-Allow-Origin '$http_origin, $http_origin' always; proxy_pass http://127.0.0.1:4017; }}"
    );
    house.nginx("cors-in-one-field.recre.store", &twice);
    house.exhibit("cors-twice", &[&url("cors-in-one-field"), "--origin", "https://page.recre.store"]);
    // A path behind the host of a client's URL is a namespace.
    house.nginx(
        "path-as-namespace.recre.store",
        &format!("location /my/place/ {{ {SOCKETIO} proxy_pass http://127.0.0.1:4004/; }} location / {{ return 404; }}"),
    );
    house.exhibit("eio-wrong-path", &[&url("path-as-namespace"), "--namespace", "/my/place"]);
    house.says(&["is a namespace, not a path", "Socket.IO answers at /my/place/socket.io/"]);
    house.exhibit("healthy-kind", &[&url("path-as-namespace"), "--path", "/my/place/socket.io/"]);
}

/// Fields and status of the app's responses are changed, so that clients refuse them.
fn changed_responses(house: &mut House) {
    let with = |rule: &str| format!("location / {{ {SOCKETIO} {rule} {APP} }}");
    // The 101 (RFC 6455 §4.1).
    house.nginx("ws-protocol.recre.store", &with("add_header Sec-WebSocket-Protocol chat always;"));
    house.exhibit("ws-accept", &[&url("ws-protocol")]);
    house.says(&["`Sec-WebSocket-Protocol: chat`, and the client asked for none"]);
    house.nginx(
        "ws-extensions.recre.store",
        &with("add_header Sec-WebSocket-Extensions x-webkit-frame always;"),
    );
    house.exhibit("ws-accept", &[&url("ws-extensions")]);
    house.says(&["`Sec-WebSocket-Extensions: x-webkit-frame`"]);
    house.nginx(
        "ws-other-upgrade.recre.store",
        &with("proxy_hide_header Upgrade; add_header Upgrade 'websocket, h2c' always;"),
    );
    house.exhibit("ws-accept", &[&url("ws-other-upgrade")]);
    house.says(&["has `Upgrade: websocket, h2c` instead of"]);
    // A field of the 101 that no client minds.
    house.nginx(
        "ws-odd-field.recre.store",
        &with("add_header X-Protocol chat always; add_header Vary Upgrade always;"),
    );
    house.exhibit("healthy-kind", &[&url("ws-odd-field")]);

    // Polls.
    house.nginx("coding-named.recre.store", &with("add_header Content-Encoding gzip always;"));
    house.exhibit("eio-garbled", &[&url("coding-named")]);
    house.beside(Beside::Succeeds("browsers decode a body by this field, Node's XMLHttpRequest does not"));
    house.says(&["says `Content-Encoding: gzip` and is not compressed"]);
    house.nginx("coding-identity.recre.store", &with("add_header Content-Encoding identity always;"));
    house.exhibit("healthy-kind", &[&url("coding-identity")]);
    house.exhibit("eio-garbled", &["http://127.0.0.1:4086"]);
    house.says(&["is compressed (`Content-Encoding: gzip`)"]);
    let open = "0{\"sid\":\"a\",\"upgrades\":[],\"pingInterval\":25000,\"pingTimeout\":20000,\"maxPayload\":1000000}";
    house.nginx(
        "status-203.recre.store",
        &format!("location / {{ default_type text/plain; return 203 '{open}'; }}"),
    );
    house.exhibit("eio-garbled", &[&url("status-203")]);
    house.says(&["with the status 203"]);
    house.nginx("post-204.recre.store", &with("if ($request_method = POST) { return 204; }"));
    house.exhibit("eio-post-lost", &[&url("post-204")]);
    house.says(&["has the status 204", "clients accept no other"]);

    // The fields of CORS, on some methods only.
    let page = ["--origin", "https://page.recre.store"];
    // The page's client sends cookies.
    let allows = |page: &str| {
        let credentials = "add_header Access-Control-Allow-Credentials true always;";
        with(&format!("{credentials} add_header Access-Control-Allow-Origin {page} always;"))
    };
    house.nginx_line("map $request_method $page_by_method { default https://page.recre.store; POST ''; }");
    house.nginx_line("map $arg_sid $page_without_sid { '' https://page.recre.store; default ''; }");
    house.nginx_line("map $request_method$arg_sid $page_before_polls { GET https://page.recre.store; '~^POST' https://page.recre.store; default ''; }");
    for (host, page_of, says) in [
        ("cors-not-on-post", "$page_by_method", "the answer to a POST of the session does not allow"),
        ("cors-not-on-sid", "$page_without_sid", "the answer to a POST of the session does not allow"),
        ("cors-not-on-polls", "$page_before_polls", "the answer to a GET of the session does not allow"),
    ] {
        house.nginx(&format!("{host}.recre.store"), &allows(page_of));
        house.exhibit("cors-missing", &[&[url(host).as_str()], &page[..]].concat());
        house.says(&[says]);
    }
    house.exhibit(
        "cors-missing",
        &[&[url("cors-not-on-polls").as_str(), "--transport", "polling"], &page[..]].concat(),
    );
    house.says(&["the answer to a GET of the session does not allow"]);
    house.nginx("cors-everywhere.recre.store", &allows("https://page.recre.store"));
    house.exhibit("healthy-kind", &[&[url("cors-everywhere").as_str()], &page[..]].concat());

    // Straight to Node: nginx would answer 502.
    house.exhibit("http-malformed", &["http://127.0.0.1:4087"]);
    house.says(&["HTTP with a field that HTTP does not allow"]);
}
