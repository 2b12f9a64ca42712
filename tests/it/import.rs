//! `sanedge import npm`: what NPM's and nginx's files become, and that nothing is lost in silence or opened by it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::support::certs::Ca;
use crate::support::edge::{json, sanedge, text};

/// A folder with NPM's `data` and `letsencrypt`, and what is to be imported.
struct Npm {
    dir: tempfile::TempDir,
}

impl Npm {
    fn new() -> Self {
        let npm = Self { dir: tempfile::tempdir().unwrap() };
        npm.write("data/nginx/custom/.keep", "");
        npm.write("data/nginx/proxy_host/.keep", "");
        npm
    }

    /// With the certificate `npm-1` of these names, as certbot keeps it.
    fn certified(self, names: &[&str]) -> Self {
        let issued = Ca::new("Home CA").issue(names);
        for (name, content) in [("fullchain", issued.chain_pem), ("privkey", issued.key_pem)] {
            self.write(&format!("letsencrypt/archive/npm-1/{name}1.pem"), &content);
            let live = self.path(&format!("letsencrypt/live/npm-1/{name}.pem"));
            fs::create_dir_all(live.parent().unwrap()).unwrap();
            symlink(format!("../../archive/npm-1/{name}1.pem"), live).unwrap();
        }
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    fn host(&self, number: u32, content: &str) -> &Self {
        self.write(&format!("data/nginx/proxy_host/{number}.conf"), content)
    }

    fn import(&self) -> Imported {
        Imported::of(self.dir.path())
    }
}

/// The output with `--json`.
struct Imported {
    code: i32,
    document: Value,
    toml: String,
}

impl Imported {
    fn of(path: &Path) -> Self {
        let output = import(&[path.to_str().unwrap(), "--json"]);
        let document = json(&output);
        let toml = document["toml"].as_str().unwrap_or_default().to_owned();
        Self { code: output.status.code().unwrap(), document, toml }
    }

    /// What is in use of the file.
    fn used(&self) -> String {
        let lines = self.toml.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        lines.map(|line| format!("{line}\n")).collect()
    }

    fn list(&self, key: &str) -> Vec<&str> {
        self.document[key].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect()
    }

    /// The fates of all directives with this name.
    fn fates(&self, name: &str) -> Vec<&str> {
        let rows = self.document["directives"].as_array().unwrap().iter();
        rows.filter(|row| row["directive"] == name).map(|row| row["fate"].as_str().unwrap()).collect()
    }

    fn reasons(&self) -> String {
        self.document["directives"].as_array().unwrap().iter().map(|row| format!("{row}\n")).collect()
    }
}

fn import(words: &[&str]) -> Output {
    sanedge().args(["import", "npm"]).args(words).stdin(Stdio::null()).output().unwrap()
}

/// A proxy host as NPM 2.9 to 2.12 write it, `inside` where its interface has "Advanced", `location` in `location /`.
fn proxy_host(names: &str, inside: &str, location: &str) -> String {
    format!(
        "# ------------------------------------------------------------
# {names}
# ------------------------------------------------------------

map $scheme $hsts_header {{
    https   \"max-age=63072000; preload\";
}}

server {{
  set $forward_scheme http;
  set $server         \"192.168.0.10\";
  set $port           3002;

  listen 80;
listen [::]:80;

listen 443 ssl http2;
listen [::]:443 ssl http2;

  server_name {names};

  # Let's Encrypt SSL
  include conf.d/include/letsencrypt-acme-challenge.conf;
  include conf.d/include/ssl-ciphers.conf;
  ssl_certificate /etc/letsencrypt/live/npm-1/fullchain.pem;
  ssl_certificate_key /etc/letsencrypt/live/npm-1/privkey.pem;

  # Block Exploits
  include conf.d/include/block-exploits.conf;

  # Force SSL
  include conf.d/include/force-ssl.conf;

proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection $http_connection;
proxy_http_version 1.1;

  access_log /data/logs/proxy-host-1_access.log proxy;
  error_log /data/logs/proxy-host-1_error.log warn;

{inside}

  location / {{
{location}
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $http_connection;
    proxy_http_version 1.1;

    # Proxy!
    include conf.d/include/proxy.conf;
  }}

  # Custom
  include /data/nginx/custom/server_proxy[.]conf;
}}
"
    )
}

/// A host of plain nginx with TLS.
fn plain(inside: &str) -> String {
    format!(
        "server {{
    listen 443 ssl; listen [::]:443 ssl;
    server_name recre.store;
    ssl_certificate /etc/letsencrypt/live/npm-1/fullchain.pem;
    ssl_certificate_key /etc/letsencrypt/live/npm-1/privkey.pem;
    {inside}
}}
"
    )
}

const PASS: &str = "proxy_pass http://127.0.0.1:3002;";
const UPGRADE: &str = "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\";";

#[test]
fn a_proxy_host_becomes_a_site_that_bundle_accepts() {
    let npm = Npm::new().certified(&["recre.store", "socket.recre.store"]);
    npm.host(
        1,
        &proxy_host(
            "recre.store socket.recre.store",
            "client_max_body_size 64m;",
            "proxy_read_timeout 300s;",
        ),
    );
    let toml = npm.path("new.toml");
    let output = import(&[npm.dir.path().to_str().unwrap(), "--output", toml.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let written = fs::read_to_string(&toml).unwrap();
    for line in [
        "hosts = [\"recre.store\", \"socket.recre.store\"]",
        "upstream = [\"192.168.0.10:3002\"]",
        "response_timeout = \"300s\"",
        "body_bytes_max = 67108864",
    ] {
        assert!(written.lines().any(|found| found == line), "{line}: {written}");
    }
    assert!(!written.contains("origins_default"), "WebSockets are on: {written}");
    let bundled = sanedge().arg("bundle").arg(&toml).output().unwrap();
    assert_eq!(bundled.status.code(), Some(0), "{}", text(&bundled));
    let shown = sanedge().arg("show").arg(toml.with_extension("bundle")).output().unwrap();
    assert!(text(&shown).contains("192.168.0.10:3002"), "{}", text(&shown));
}

#[test]
fn an_existing_file_is_never_replaced_and_a_link_is_not_followed() {
    let npm = Npm::new().certified(&["recre.store"]);
    npm.host(1, &proxy_host("recre.store", "", ""));
    npm.write("there.toml", "mine");
    symlink("nowhere.toml", npm.path("link.toml")).unwrap();
    for name in ["there.toml", "link.toml"] {
        let file = npm.path(name);
        let output = import(&[npm.dir.path().to_str().unwrap(), "-o", file.to_str().unwrap(), "--json"]);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert_eq!(json(&output)["code"], "import-exists", "{name}");
    }
    assert_eq!(fs::read_to_string(npm.path("there.toml")).unwrap(), "mine");
    assert!(!npm.path("nowhere.toml").exists());
    let output = import(&[
        npm.dir.path().to_str().unwrap(),
        "-o",
        npm.path("no/such/folder.toml").to_str().unwrap(),
        "--json",
    ]);
    assert_eq!(json(&output)["code"], "import-not-written", "{}", text(&output));
}

/// What would be open without nginx: each with its twin that is not.
#[test]
fn a_host_that_would_be_open_is_a_comment_and_its_twin_is_not() {
    let location = |inside: &str| plain(&format!("location / {{ {PASS} {inside} }}"));
    let beside = |inside: &str| plain(&format!("location / {{ {PASS} }} {inside}"));
    let cases = [
        (
            "a password",
            location("auth_basic \"Private\"; auth_basic_user_file /data/access/1;"),
            location("auth_basic off;"),
        ),
        (
            "a password for the server",
            plain(&format!("auth_basic x; location / {{ {PASS} }}")),
            plain(&format!("auth_basic off; location / {{ {PASS} }}")),
        ),
        ("another server is asked", location("auth_request /auth;"), location("auth_request off;")),
        (
            "client certificates",
            beside("ssl_verify_client on; ssl_client_certificate /ca.pem;"),
            beside("ssl_verify_client off;"),
        ),
        ("deny one", location("deny 10.0.0.9;"), location("allow 10.0.0.0/8; deny all;")),
        ("deny all", location("deny all;"), location("allow all;")),
        (
            "deny between",
            location("allow 10.0.0.0/8; deny 10.1.0.0/16; allow 192.168.0.0/16; deny all;"),
            location("allow 10.0.0.0/8; allow 192.168.0.0/16; deny all;"),
        ),
        (
            "deny below a path",
            beside("location /admin/ { deny all; }"),
            beside(&format!("location /admin/ {{ {PASS} }}")),
        ),
        (
            "deny by a pattern",
            beside("location ~ /\\.ht { deny all; }"),
            beside(&format!("location ~ \\.css$ {{ {PASS} expires 30d; }}")),
        ),
        (
            "return 403 for a path",
            beside("location /admin { return 403; }"),
            beside(&format!("location /admin {{ {PASS} }}")),
        ),
        (
            "return 404 for one path",
            beside("location = /metrics { return 404; }"),
            beside(&format!("location = /metrics {{ {PASS} }}")),
        ),
        (
            "a path to files",
            beside("location /secret/ { alias /srv/empty/; }"),
            beside("location /.well-known/security.txt { alias /srv/security.txt; }"),
        ),
        (
            "a path to another app by a pattern",
            beside("location ~ ^/v[12]/ { proxy_pass http://127.0.0.1:9; }"),
            beside(&format!("location ~ ^/v[12]/ {{ {PASS} }}")),
        ),
        (
            "internal",
            beside("location /auth { internal; proxy_pass http://127.0.0.1:9; }"),
            beside("location @auth { internal; proxy_pass http://127.0.0.1:9; }"),
        ),
        (
            "if",
            location("if ($http_x_token != \"s3cret\") { return 403; }"),
            location("if ($scheme = http) { return 301 https://$host$request_uri; }"),
        ),
        ("only some methods", location("limit_except GET { deny all; }"), location("proxy_buffering off;")),
        ("rewrite", location("rewrite ^/admin / last;"), location("proxy_request_buffering off;")),
        ("a rule of Lua", location("access_by_lua_file /data/access.lua;"), location("log_not_found off;")),
        ("an unknown directive", location("crowdsec_check on;"), location("gzip on;")),
        (
            "a request field that the app may trust",
            location("proxy_set_header Remote-User \"\";"),
            location("proxy_set_header X-Real-IP $remote_addr;"),
        ),
        (
            "another host for the app",
            location("proxy_set_header Host intern.example;"),
            location("proxy_set_header Host $http_host;"),
        ),
        (
            "one address",
            plain(&format!("location / {{ {PASS} }}"))
                .replace("listen 443 ssl; listen [::]:443 ssl;", "listen 127.0.0.1:443 ssl;"),
            location(""),
        ),
        (
            "another port",
            plain(&format!("location / {{ {PASS} }}"))
                .replace("listen 443 ssl; listen [::]:443 ssl;", "listen 8443 ssl;"),
            location("").replace("listen [::]", "listen 8443 ssl; listen [::]"),
        ),
        (
            "the PROXY protocol",
            location("").replace("listen 443 ssl;", "listen 443 ssl proxy_protocol;"),
            location("").replace("443 ssl;", "443 ssl default_server;"),
        ),
        (
            "a proxy in front, and allow",
            location("set_real_ip_from 10.0.0.1; allow 192.168.0.0/16; deny all;"),
            location("set_real_ip_from 10.0.0.1;"),
        ),
        ("TLS to the app", plain("location / { proxy_pass https://127.0.0.1:3002; }"), location("")),
        ("an app on the internet", plain("location / { proxy_pass http://8.8.8.8:3002; }"), location("")),
        ("an app on port 443", plain("location / { proxy_pass http://127.0.0.1:443; }"), location("")),
        (
            "another path for the app",
            plain("location /api/ { proxy_pass http://127.0.0.1:3002/v2/; }"),
            plain("location /api/ { proxy_pass http://127.0.0.1:3002/; }"),
        ),
        (
            "an app that the request names",
            plain("location / { proxy_pass http://$arg_to; }"),
            plain("set $to 127.0.0.1:3002; location / { proxy_pass http://$to; }"),
        ),
        (
            "allow for the beginning of a name",
            beside(&format!("location /admin {{ {PASS} allow 10.0.0.0/8; deny all; }}")),
            beside(&format!("location /admin/ {{ {PASS} allow 10.0.0.0/8; deny all; }}")),
        ),
        ("a file outside", location("include /srv/rules.conf;"), location("include /etc/nginx/mime.types;")),
        ("a file that is not there", location("include rules.conf;"), location("include rules[.]conf;")),
        (
            "no TLS",
            plain(&format!("location / {{ {PASS} }}")).replace(" ssl;", ";").replace("443", "80"),
            location(""),
        ),
        (
            "a redirect of one path",
            beside("location /old/ { return 301 https://www.example.org$request_uri; }"),
            beside("location /.well-known/carddav { return 301 https://$host/dav; }"),
        ),
        (
            "a redirect to http",
            plain("return 301 http://www.example.org$request_uri;"),
            plain("return 301 $scheme://www.example.org$request_uri;"),
        ),
        (
            "a redirect to where the request says",
            plain("return 302 https://$arg_to/;"),
            plain("set $to www.example.org; return 301 https://$to$request_uri;"),
        ),
        (
            "a redirect to itself",
            plain("return 301 https://recre.store/app;"),
            plain("return 301 https://www.recre.store/app;"),
        ),
        (
            "a redirect beside an app",
            plain(&format!(
                "location / {{ return 301 https://example.org$request_uri; }} location /a/ {{ {PASS} }}"
            )),
            plain("location / { return 301 https://example.org$request_uri; }"),
        ),
    ];
    for (what, closed, open) in cases {
        let npm = Npm::new().certified(&["recre.store"]);
        let found = npm.host(1, &closed).import();
        assert_eq!(
            (found.list("hosts"), found.list("commented")),
            (vec![], vec!["recre.store"]),
            "{what}: {}",
            found.toml
        );
        assert_eq!(found.code, 3, "{what}");
        assert!(!found.used().contains("recre.store"), "{what}: {}", found.toml);
        assert!(found.toml.contains("# Not in use: "), "{what}: {}", found.toml);
        let found = npm.host(1, &open).import();
        assert_eq!(found.list("hosts"), ["recre.store"], "the twin of {what}: {}", found.toml);
        assert_eq!(found.code, 0, "the twin of {what}");
        npm.write("new.toml", &found.toml);
        let bundled = sanedge().arg("bundle").arg(npm.path("new.toml")).output().unwrap();
        assert_eq!(bundled.status.code(), Some(0), "the twin of {what}: {}\n{}", text(&bundled), found.toml);
    }
}

/// The same for what holds for every host.
#[test]
fn what_protects_all_hosts_makes_each_a_comment() {
    for (name, content, is_open) in [
        ("http_top.conf", "auth_basic Private;", false),
        ("http_top.conf", "gzip on; map $a $b { default x; }", true),
        ("http.conf", "deny 10.0.0.9;", false),
        ("http.conf", "server_tokens off;", true),
        ("server_proxy.conf", "auth_request /auth;", false),
        ("server_proxy.conf", "proxy_buffering off;", true),
        ("root_top.conf", "load_module modules/x.so;", true),
        ("stream.conf", "server { listen 25565; proxy_pass 10.0.0.1:25565; }", true),
    ] {
        let npm = Npm::new().certified(&["recre.store"]);
        npm.host(1, &proxy_host("recre.store", "", "")).write(&format!("data/nginx/custom/{name}"), content);
        let found = npm.import();
        assert_eq!(found.list("hosts").len(), usize::from(is_open), "{name} {content}: {}", found.toml);
        let directive = content.split(' ').next().unwrap();
        let directive = if name == "stream.conf" { "stream" } else { directive };
        assert!(!found.fates(directive).is_empty(), "{name} {content}: {}", found.reasons());
    }
}

#[test]
fn paths_groups_websockets_and_networks_are_translated() {
    let npm = Npm::new().certified(&["recre.store"]);
    npm.host(
        1,
        &format!(
            "upstream node {{ ip_hash; server 127.0.0.1:3002; server 127.0.0.1:3003 max_fails=3; server 127.0.0.1:3004 down; keepalive 8; }}
             map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
             {}",
            plain(&format!(
                "proxy_read_timeout 1h;
                 allow 192.168.0.5/24;
                 deny all;
                 location /socket.io/ {{ {UPGRADE} proxy_pass http://node; proxy_read_timeout 86400s; allow all; }}
                 location ^~ /api/ {{ proxy_pass http://unix:/run/api.sock:/; client_max_body_size 0; }}
                 location / {{ proxy_pass http://127.0.0.1:3000; proxy_set_header Host $host; }}"
            ))
        ),
    );
    let found = npm.import();
    assert_eq!(
        found.used().split_once("[[site]]\n").unwrap().1,
        "hosts = [\"recre.store\"]
[[site.route]]
path = \"/socket.io/\"
upstream = [\"127.0.0.1:3002\", \"127.0.0.1:3003\"]
response_timeout = \"86400s\"
[[site.route]]
path = \"/api/\"
upstream = [\"unix:/run/api.sock\"]
strip_prefix = true
allow = [\"192.168.0.0/24\"]
response_timeout = \"3600s\"
origins_default = false
require_origin = true
[[site.route]]
path = \"/\"
upstream = [\"127.0.0.1:3000\"]
allow = [\"192.168.0.0/24\"]
response_timeout = \"3600s\"
origins_default = false
require_origin = true
"
    );
    assert_eq!(found.fates("server"), ["translated", "translated", "left-out", "translated"]);
    npm.write("new.toml", &found.toml);
    let bundled = sanedge().arg("bundle").arg(npm.path("new.toml")).output().unwrap();
    assert_eq!(bundled.status.code(), Some(0), "{}", text(&bundled));
}

#[test]
fn redirects_hsts_and_response_fields_are_translated() {
    let site = |server: &str| {
        let npm = Npm::new().certified(&["recre.store"]);
        let found = npm.host(1, server).import();
        assert_eq!((found.code, found.list("hosts")), (0, vec!["recre.store"]), "{}", found.toml);
        npm.write("new.toml", &found.toml);
        let bundled = sanedge().arg("bundle").arg(npm.path("new.toml")).output().unwrap();
        assert_eq!(bundled.status.code(), Some(0), "{}\n{}", text(&bundled), found.toml);
        let used = found.used();
        let (_, site) = used.split_once("hosts = [\"recre.store\"]\n").unwrap();
        (
            site.replace(
                "upstream = [\"127.0.0.1:3002\"]\norigins_default = false\nrequire_origin = true\n",
                "",
            ),
            found,
        )
    };
    let root = |inside: &str| plain(&format!("location / {{ {PASS} {inside} }}"));
    for (server, expected) in [
        (
            plain("return 301 https://www.example.org$request_uri;"),
            "redirect = \"https://www.example.org\"\n",
        ),
        (
            plain("location / { return 302 https://www.example.org/new/; }"),
            "redirect = \"https://www.example.org/new\"\n",
        ),
        (
            plain(
                "add_header Strict-Transport-Security \"max-age=3600\" always; return 308 $scheme://example.org:8443$request_uri;",
            ),
            "redirect = \"https://example.org:8443\"\nhsts = \"1h\"\n",
        ),
        (
            format!(
                "map $scheme $hsts_header {{ https \"max-age=63072000; preload\"; }} {}",
                root("add_header Strict-Transport-Security $hsts_header always;")
            ),
            "hsts = \"17520h\"\n",
        ),
        (
            root(
                "add_header Strict-Transport-Security \"max-age=63072000; includeSubDomains; preload\" always;",
            ),
            "[site.headers]\nStrict-Transport-Security = \"max-age=63072000; includeSubDomains; preload\"\n",
        ),
        (
            root(
                "add_header X-Frame-Options DENY; add_header X-Content-Type-Options \"nosniff\" always; proxy_hide_header X-Powered-By;",
            ),
            "[site.headers]\nX-Content-Type-Options = \"nosniff\"\nX-Frame-Options = \"DENY\"\nX-Powered-By = false\n",
        ),
        (format!("add_header X-Http a; {}", root("")), "[site.headers]\nX-Http = \"a\"\n"),
        // Not sent by nginx, or not to be said for a whole host.
        (format!("add_header X-Http a; {}", root("add_header Set-Cookie a=b; add_header X-By $host;")), ""),
        (root("add_header Content-Type text/plain; add_header X-Twice a; add_header X-Twice b;"), ""),
        (
            root("add_header Strict-Transport-Security \"max-age=1\";"),
            "[site.headers]\nStrict-Transport-Security = \"max-age=1\"\n",
        ),
    ] {
        assert_eq!(site(&server).0, expected, "{server}");
    }
    let (_, found) = site(&plain(&format!(
        "location / {{ {PASS} add_header X-A a; }} location /b/ {{ {PASS} add_header X-B b; }}"
    )));
    assert_eq!(found.fates("add_header"), ["left-out", "left-out"], "{}", found.toml);
    assert!(!found.toml.contains("[site.headers]"), "{}", found.toml);
}

/// Every directive has a fate; what is in a `map` is none.
#[test]
fn no_directive_is_dropped_in_silence() {
    let npm = Npm::new().certified(&["recre.store"]);
    let inside = "    location /a/ { proxy_pass http://10.0.0.1:80; if ($a) { set $b c; return 403; } }
    location @b { proxy_pass http://10.0.0.2:80; }
    location ~* ^/c { location ~ d { deny all; } }
    waf { rule 1; }";
    npm.host(1, &proxy_host("recre.store", inside, "auth_basic x;"))
        .write("data/nginx/stream/1.conf", "server { listen 25565; proxy_pass 10.0.0.1:25565; }")
        .write("data/nginx/dead_host/1.conf", "server { listen 80; server_name old.recre.store; location / { return 404; } }")
        .write("data/nginx/default_host/site.conf", "server { listen 80 default; server_name _; location / { root /data; try_files $uri /index.html; } }");
    let found = npm.import();
    let mut rows: Vec<_> = found.document["directives"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            assert!(
                row["line"].as_u64().unwrap() > 0 && row["file"].as_str().unwrap().ends_with(".conf"),
                "{row}"
            );
            let fate = row["fate"].as_str().unwrap();
            assert_eq!(fate == "translated", row["reason"].as_str().unwrap().is_empty(), "{row}");
            row["directive"].as_str().unwrap()
        })
        .collect();
    rows.sort_unstable();
    let mut expected: Vec<&str> = "map server set set set listen listen listen listen server_name include include ssl_certificate ssl_certificate_key \
        include include proxy_set_header proxy_set_header proxy_http_version access_log error_log location proxy_pass if set return location \
        proxy_pass location location deny waf location auth_basic proxy_set_header proxy_set_header proxy_http_version include include \
        stream server listen server_name location return server listen server_name location root try_files"
        .split_whitespace()
        .collect();
    expected.sort_unstable();
    assert_eq!(rows, expected);
}

#[test]
fn a_certificate_is_found_below_the_folder_or_said_to_be_missing() {
    let host = proxy_host("recre.store", "", "");
    let with = |chain: &str| host.replace("/etc/letsencrypt/live/npm-1/fullchain.pem", chain);
    let npm = Npm::new().certified(&["recre.store"]);
    let live = fs::canonicalize(npm.dir.path()).unwrap().join("letsencrypt/live/npm-1/fullchain.pem");
    let chain =
        |found: &Imported| found.used().lines().find(|line| line.starts_with("chain")).map(str::to_owned);
    assert_eq!(chain(&npm.host(1, &host).import()), Some(format!("chain = \"{}\"", live.display())));
    npm.write("data/custom_ssl/npm-2/fullchain.pem", "x");
    assert!(
        chain(&npm.host(1, &with("/data/custom_ssl/npm-2/fullchain.pem")).import())
            .unwrap()
            .contains("custom_ssl/npm-2")
    );
    let outside = tempfile::NamedTempFile::new().unwrap();
    symlink(outside.path(), npm.path("data/link.pem")).unwrap();
    for missing in [
        "/etc/letsencrypt/live/npm-9/fullchain.pem",
        "/data/link.pem",
        "/data/../../etc/passwd",
        "data:$x",
        "relative.pem",
        "",
    ] {
        let found =
            npm.host(1, &with(missing).replace("ssl_certificate ;", "ssl_certificate \"\";")).import();
        assert_eq!(chain(&found), None, "{missing}: {}", found.toml);
        assert!(found.toml.contains("# [[certificate]]"), "{missing}: {}", found.toml);
        assert_eq!(found.list("hosts"), ["recre.store"], "{missing}");
        assert!(found.fates("ssl_certificate").contains(&"left-out"), "{missing}: {}", found.reasons());
    }
    // With [acme], which the file offers, it needs none.
    let found = npm.host(1, &with("/etc/letsencrypt/live/npm-9/fullchain.pem")).import();
    npm.write("new.toml", found.toml.replace("# [acme]", "[acme]").replace("# terms", "terms"));
    let bundled = sanedge().arg("bundle").arg(npm.path("new.toml")).output().unwrap();
    assert_eq!(bundled.status.code(), Some(0), "{}", text(&bundled));
    assert!(text(&bundled).contains("pending"), "{}", text(&bundled));
}

#[test]
fn one_host_in_two_servers_is_served_once() {
    let npm = Npm::new().certified(&["recre.store"]);
    let certbot = "server { if ($host = recre.store) { return 301 https://$host$request_uri; } listen 80; server_name recre.store; return 404; }";
    let twice = plain("location / { proxy_pass http://127.0.0.1:9999; }");
    npm.host(1, certbot).host(2, &plain(&format!("location / {{ {PASS} }}"))).host(10, &twice);
    let found = npm.import();
    assert_eq!((found.code, found.list("hosts")), (0, vec!["recre.store"]), "{}", found.reasons());
    assert!(found.used().contains("127.0.0.1:3002") && !found.toml.contains("9999"), "{}", found.toml);
    assert_eq!(found.fates("if"), ["not-needed"]);
    assert_eq!(found.fates("server"), ["not-needed", "translated", "left-out"], "{}", found.reasons());
}

#[test]
fn names_that_are_no_hosts_are_reported() {
    let npm = Npm::new().certified(&["recre.store"]);
    for (names, hosts, fate) in [
        ("recre.store *.recre.store", vec!["recre.store"], "left-out"),
        (".recre.store", vec!["recre.store"], "left-out"),
        ("recre.store bücher.example", vec!["recre.store"], "left-out"),
        ("~^(?<sub>.+)\\.recre\\.store$", vec![], "closed"),
        ("*.recre.store", vec![], "closed"),
        ("RECRE.store recre.store", vec!["recre.store"], "translated"),
        ("recre.store \"\" _", vec!["recre.store"], "translated"),
    ] {
        let found = npm.host(1, &proxy_host(names, "", "")).import();
        assert_eq!(found.list("hosts"), hosts, "{names}: {}", found.toml);
        assert_eq!(found.fates("server_name"), [fate], "{names}");
    }
}

#[test]
fn folders_of_every_layout_are_read() {
    let npm = Npm::new().certified(&["recre.store"]);
    npm.host(1, &proxy_host("recre.store", "", ""));
    for (path, found) in [
        ("", 1),
        ("data", 1),
        ("data/nginx", 1),
        ("data/nginx/proxy_host", 1),
        ("data/nginx/proxy_host/1.conf", 1),
    ] {
        assert_eq!(Imported::of(&npm.path(path)).list("hosts").len(), found, "{path}");
    }
    npm.write("data/nginx/custom/server_proxy.conf", "auth_basic x;");
    for path in ["", "data", "data/nginx"] {
        assert_eq!(Imported::of(&npm.path(path)).list("commented").len(), 1, "{path}");
    }
    let nginx = Npm { dir: tempfile::tempdir().unwrap() }.certified(&["recre.store"]);
    nginx
        .write("nginx.conf", "user www-data; events { worker_connections 64; } http { include /etc/nginx/sites-enabled/*; include mime.types; }")
        .write("sites-available/recre", plain(&format!("include snippets/pass.conf; location / {{ {PASS} }}")))
        .write("snippets/pass.conf", "proxy_buffering off;");
    fs::create_dir(nginx.path("sites-enabled")).unwrap();
    symlink("../sites-available/recre", nginx.path("sites-enabled/recre")).unwrap();
    let found = nginx.import();
    assert_eq!((found.code, found.list("hosts")), (0, vec!["recre.store"]), "{}", found.reasons());
    assert_eq!(found.fates("proxy_buffering"), ["not-needed"]);
    fs::remove_file(nginx.path("nginx.conf")).unwrap();
    assert_eq!(nginx.import().list("hosts"), ["recre.store"]);
    // The link leaves this folder.
    let found = Imported::of(&nginx.path("sites-enabled"));
    assert_eq!(found.document["code"], "import-nothing", "{}", found.document);
}

#[test]
fn what_is_no_configuration_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (path, code) in [("missing", "import-unreadable"), ("", "import-nothing")] {
        let output = import(&[dir.path().join(path).to_str().unwrap(), "--json"]);
        assert_eq!((output.status.code(), &json(&output)["code"]), (Some(1), &code.into()), "{path}");
    }
}

/// The others are imported; this file is named with its line.
#[test]
fn a_file_that_cannot_be_read_is_named_and_the_others_are_imported() {
    for (content, place) in [
        (&b"server {\n listen 443 ssl;\n"[..], "2.conf:3: not read: the file ends within a block"),
        (b"server { }\n}", "2.conf:2: not read: `}` closes no block"),
        (b"server {\n x \"y;\n}\n", "2.conf:4: not read: the file ends within quotes"),
        (b"\xff\xfes\0e\0r\0", "2.conf:1: not read: a zero byte"),
        (b"access_by_lua_block { ngx.exit(403) }", "2.conf:1: not read: a block of Lua"),
    ] {
        let npm = Npm::new().certified(&["recre.store"]);
        npm.host(1, &proxy_host("recre.store", "", ""))
            .host(2, "")
            .write("data/nginx/proxy_host/2.conf", content);
        let output = import(&[npm.dir.path().to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(3), "{}", text(&output));
        assert!(text(&output).contains(place), "{place}: {}", text(&output));
        assert!(text(&output).contains("hosts = [\"recre.store\"]"));
    }
}

#[test]
fn links_that_leave_the_folder_devices_and_pipes_are_not_read() {
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("1.conf");
    fs::write(&secret, proxy_host("stolen.example", "", "")).unwrap();
    let npm = Npm::new().certified(&["recre.store"]);
    npm.host(1, &proxy_host("recre.store", "", ""));
    for (name, target) in [
        ("2.conf", secret.to_str().unwrap()),
        ("3.conf", "/dev/zero"),
        ("4.conf", "/etc/passwd"),
        ("5.conf", "nowhere"),
        ("6.conf", "6.conf"),
    ] {
        symlink(target, npm.path(&format!("data/nginx/proxy_host/{name}"))).unwrap();
    }
    let pipe = npm.path("data/nginx/proxy_host/7.conf");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let found = npm.import();
    assert_eq!((found.code, found.list("hosts"), found.list("commented")), (3, vec!["recre.store"], vec![]));
    assert_eq!(found.fates("").len(), 6, "{}", found.reasons());
    // A folder of the configuration that is such a link.
    fs::remove_dir_all(npm.path("data/nginx/proxy_host")).unwrap();
    symlink(outside.path(), npm.path("data/nginx/proxy_host")).unwrap();
    let output = import(&[npm.dir.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(!text(&output).contains("stolen"), "{}", text(&output));
}

#[test]
fn files_that_include_each_other_end() {
    let npm = Npm::new().certified(&["recre.store"]);
    npm.host(1, &proxy_host("recre.store", "include /data/nginx/custom/server_loop.conf;", "")).write(
        "data/nginx/custom/server_loop.conf",
        "include /data/nginx/custom/server_loop.conf;\n".repeat(4),
    );
    let found = npm.import();
    assert_eq!((found.code, found.list("commented")), (3, vec!["recre.store"]), "{}", found.toml);
    // Eight files within each other are read, a ninth is not.
    for (deepest, is_open) in [(8, true), (9, false)] {
        let npm = Npm::new().certified(&["recre.store"]);
        npm.host(1, &proxy_host("recre.store", "include /data/nginx/custom/server_1.conf;", ""));
        for depth in 1..=deepest {
            let next = format!("include /data/nginx/custom/server_{}.conf;", depth + 1);
            npm.write(
                &format!("data/nginx/custom/server_{depth}.conf"),
                if depth == deepest { "" } else { &next },
            );
        }
        assert_eq!(!npm.import().list("hosts").is_empty(), is_open, "{deepest}");
    }
}

/// Just below each bound, and just above.
#[test]
fn sizes_and_numbers_are_bounded() {
    const MIB: usize = 1024 * 1024;
    let npm = Npm::new().certified(&["recre.store"]);
    let host = proxy_host("recre.store", "", "");
    for (bytes, hosts) in [(MIB, 1), (MIB + 1, 0)] {
        let file = format!("{host}#{}", "x".repeat(bytes - host.len() - 1));
        let found = npm.host(1, &file).import();
        let count = found.document["hosts"].as_array().map_or(0, Vec::len);
        assert_eq!(count, hosts, "{bytes} bytes: {}", found.document["message"]);
    }
    for (files, faults) in [(16, 0), (17, 1)] {
        let npm = Npm::new();
        for number in 1..=files {
            npm.host(number, &format!("#{}", "x".repeat(MIB - 1)));
        }
        npm.host(files + 1, "");
        let output = import(&[npm.dir.path().to_str().unwrap()]);
        let count = text(&output).matches("16 MiB").count();
        assert_eq!(count, faults, "{files} files: {}", text(&output));
    }
}

#[test]
fn more_sites_than_a_bundle_has_are_comments() {
    let names: Vec<_> = (0..65).map(|nth| format!("h{nth}.recre.store")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let npm = Npm::new().certified(&names);
    for (number, name) in (1..).zip(&names) {
        npm.host(number, &proxy_host(name, "", ""));
    }
    let found = npm.import();
    assert_eq!((found.list("hosts").len(), found.list("commented")), (64, vec!["h64.recre.store"]));
    npm.write("new.toml", &found.toml);
    let bundled = sanedge().arg("bundle").arg(npm.path("new.toml")).output().unwrap();
    assert_eq!(bundled.status.code(), Some(0), "{}", text(&bundled));
}

/// A report has names of directives, and no argument.
#[test]
fn secrets_in_arguments_are_in_no_output() {
    let secrets = [
        "hunter2pass",
        "Basic-aHVudGVyMg",
        "tok_live_51",
        "s3cr3tcookie",
        "htpasswd-of-mum",
        "lua-pw-77",
        "map-key-1",
        "upstream-pw",
        "geo-key",
        "comment-pw",
    ];
    let [password, basic, token, cookie, htpasswd, lua, map, upstream, geo, comment] = secrets;
    let npm = Npm::new().certified(&["recre.store"]);
    npm.host(
        1,
        &format!(
            "map $http_x_key $ok {{ default 0; \"{map}\" 1; }}\ngeo ${geo} {{ default 0; 10.0.0.0/8 {geo}; }}\n{}",
            proxy_host(
                "recre.store",
                &format!(
                    "# {comment}\nlocation /hook/ {{ proxy_pass http://user:{upstream}@10.0.0.1/; }}\nif ($http_x_token != \"{token}\") {{ return 403 {token}; }}\nset $secret {cookie};\nwaf_{{ x {lua}; }}"
                ),
                &format!("auth_basic_user_file /data/access/{htpasswd}; proxy_set_header Authorization \"Basic {basic}\"; unknown_directive {password};")
            )
        ),
    );
    let folder = npm.dir.path().to_str().unwrap();
    for words in [&[folder][..], &[folder, "--json"]] {
        let output = import(words);
        assert_eq!(output.status.code(), Some(3));
        for secret in secrets {
            assert!(!text(&output).contains(secret), "{secret}: {}", text(&output));
        }
    }
    // A healthy twin, so that the test can fail: what is translated is shown.
    assert!(text(&import(&[folder])).contains("192.168.0.10:3002"));
}

#[test]
fn a_byte_order_mark_crlf_utf8_and_long_lines_are_read() {
    let host = proxy_host("recre.store", "# Bücher 📚", "");
    let one_line = format!(
        "{} #",
        host.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join(" ")
    );
    for (what, content) in [
        ("a byte order mark", format!("\u{feff}{host}")),
        ("CRLF", host.replace('\n', "\r\n")),
        ("one line", one_line.clone()),
        ("one long line", one_line + &"x".repeat(500_000)),
    ] {
        let npm = Npm::new().certified(&["recre.store"]);
        let found = npm.host(1, &content).import();
        assert_eq!(
            (found.code, found.list("hosts")),
            (0, vec!["recre.store"]),
            "{what}: {}",
            found.reasons()
        );
    }
}
