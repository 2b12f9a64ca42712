//! What hangs in the gallery: one fault each, in the order of the way.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SerialNumber,
};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::house::{
    Beside, House, Machine, SOCKETIO, alert, banner, full, hang_up, malformed, odd, run, silent, to,
};
use crate::support::certs::{Ca, Issued, ca_params, leaf_params};
use crate::support::edge::{Desk, Edge};
use crate::support::odd_certs::{ca_for, ca_issuers, ca_without_cas_below, self_signed};

/// Puts everything up; what the apps need to know, and the edges of our own that have to stay.
pub fn hang(house: &mut House) -> (Value, Vec<Edge>) {
    let mut edges = Vec::new();
    healthy(house, &mut edges);
    names(house);
    ports(house);
    handshakes(house);
    certificates(house);
    old_certificates(house);
    http(house);
    polling(house);
    our_own_codes(house, &mut edges);
    cors(house);
    websockets(house, &mut edges);
    namespaces(house);
    super::kinds::hang(house);
    super::reports::hang(house);
    super::upgrades::hang(house);
    super::gateways::hang(house);
    board(house, &mut edges);
    let apps = apps(house);
    for exhibit in &mut house.exhibits {
        if let Some((_, why)) = OTHER_CLIENTS.iter().find(|(code, _)| *code == exhibit.code) {
            exhibit.beside = Beside::Succeeds(why);
        }
        if matches!(exhibit.code, "ws-extension" | "ws-connection-list")
            && matches!(exhibit.python, Beside::TheSame)
        {
            exhibit.python =
                Beside::Succeeds("Python offers no compression, and sends `Connection: Upgrade` alone");
        }
    }
    (apps, edges)
}

/// Failures of other clients than Node's.
const OTHER_CLIENTS: [(&str, &str); 11] = [
    ("tls-key-usage", "OpenSSL does not look at keyUsage"),
    ("tls-no-common-suite", "OpenSSL takes suites with CBC"),
    ("tls-no-san", "Node reads the common name where there is no subjectAltName"),
    ("tls-ca-certificate", "OpenSSL takes a CA's certificate for a server's"),
    ("tls-weak-key", "OpenSSL's security level 1 takes 1024 bits"),
    ("tls-ed25519", "OpenSSL takes Ed25519"),
    ("cors-missing", "CORS is of browsers"),
    ("cors-other-origin", "CORS is of browsers"),
    ("cors-star-with-credentials", "CORS is of browsers"),
    ("cors-preflight", "CORS is of browsers"),
    ("cors-twice", "CORS is of browsers"),
];

const QUIET: Beside = Beside::Succeeds("a client of 2.x sends nothing before it has something to say");

fn good(ca: &Ca, host: &str) -> Issued {
    ca.issue(&[host])
}

// --- nothing wrong ----------------------------------------------------------------------------------------

fn healthy(house: &mut House, edges: &mut Vec<Edge>) {
    let whole = |host: &str| -> Vec<String> {
        let url = format!("https://{host}");
        ["--namespace", "/catch", "--query", "uuId=1", "--hold", "1s"]
            .iter()
            .map(|w| (*w).to_owned())
            .chain([url])
            .collect()
    };
    let visit = |house: &mut House, code: &'static str, host: &str| {
        let arguments = whole(host);
        house.exhibit(code, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    };
    house.nginx("healthy-nginx.recre.store", &to(4004));
    visit(house, "healthy-nginx", "healthy-nginx.recre.store");
    house.nginx("healthy-2x.recre.store", &to(4002));
    house.exhibit(
        "healthy-nginx",
        &["https://healthy-2x.recre.store", "--eio", "3", "--namespace", "/catch", "--query", "uuId=1"],
    );

    let host = "healthy-haproxy.recre.store";
    let address = house.address(host);
    let issued = good(&house.ca, host);
    let (chain, key) = house.files(host, &issued);
    let together = house.path("haproxy.pem");
    std::fs::write(&together, [std::fs::read(chain).unwrap(), std::fs::read(key).unwrap()].concat()).unwrap();
    let down = house.address("http-unavailable.recre.store");
    let issued = good(&house.ca, "http-unavailable.recre.store");
    let pem = house.path("down.pem");
    std::fs::write(&pem, issued.chain_pem + &issued.key_pem).unwrap();
    let wants = house.address("tls-unknown-name.recre.store");
    let configuration = format!(
        "defaults\n mode http\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n timeout tunnel 1h\n\
         frontend f\n bind {address}:443 ssl crt {}\n bind {address}:80\n http-request redirect scheme https unless {{ ssl_fc }}\n default_backend app\n\
         backend app\n server a 127.0.0.1:4004\n\
         frontend g\n bind {down}:443 ssl crt {}\n bind {down}:80\n http-request redirect scheme https unless {{ ssl_fc }}\n default_backend none\n\
         backend none\n server a 127.0.0.1:4999 check inter 200ms fall 1\n\
         frontend h\n bind {wants}:443 ssl crt {} strict-sni\n default_backend app\n",
        together.display(),
        pem.display(),
        together.display()
    );
    std::fs::write(house.path("haproxy.cfg"), configuration).unwrap();
    let file = house.path("haproxy.cfg");
    house.start(Command::new("haproxy").arg("-f").arg(file).stderr(std::process::Stdio::null()));
    house.wait_for(&format!("{address}:443"));
    visit(house, "healthy-haproxy", host);
    house.exhibit("http-unavailable", &["https://http-unavailable.recre.store"]);
    house.exhibit("tls-unknown-name", &["https://tls-unknown-name.recre.store"]);

    let host = "healthy-caddy.recre.store";
    let address = house.address(host);
    let issued = good(&house.ca, host);
    let (chain, key) = house.files(host, &issued);
    // OpenSSL would not even use it; Go does.
    let other = "tls-key-usage.recre.store";
    let other_address = house.address(other);
    let usage = odd(&house.ca, other, |params| params.key_usages = vec![KeyUsagePurpose::KeyAgreement]);
    let (other_chain, other_key) = house.files(other, &usage);
    house.exhibit("tls-key-usage", &[&format!("https://{other}")]);
    let configuration = format!(
        "{{\n admin off\n auto_https disable_certs\n storage file_system {}\n log default {{\n level ERROR\n }}\n}}\nhttps://{host} {{\n bind {address}\n tls {} {}\n reverse_proxy 127.0.0.1:4004\n}}\nhttp://{host} {{\n bind {address}\n redir https://{{host}}{{uri}} permanent\n}}\nhttps://{other} {{\n bind {other_address}\n tls {} {}\n reverse_proxy 127.0.0.1:4004\n}}\n",
        house.path("caddy").display(),
        chain.display(),
        key.display(),
        other_chain.display(),
        other_key.display()
    );
    std::fs::write(house.path("Caddyfile"), configuration).unwrap();
    let home = house.path("home");
    let file = house.path("Caddyfile");
    let mut caddy = Command::new("caddy");
    caddy.args(["run", "--adapter", "caddyfile", "--config"]).arg(file).env("HOME", &home);
    house.start(
        caddy.env("XDG_DATA_HOME", &home).env("XDG_CONFIG_HOME", &home).stderr(std::process::Stdio::null()),
    );
    house.wait_for(&format!("{address}:443"));
    visit(house, "healthy-caddy", host);

    let host = "healthy-sanedge.recre.store";
    let desk = desk(house, host, "127.0.0.1:4004", "");
    edges.push(desk.serve());
    visit(house, "healthy-sanedge", host);
    house.says(&["resumption, HTTP/1.1", "no proxy on the way delays answers"]);
    // By its bundle, on the board: two descriptors for each of the 16,384 sessions.
    let bundle = edges.last().unwrap().desk().bundle_file().display().to_string();
    for (code, unit) in [
        (
            "healthy-sanedge",
            "LoadState=loaded\nActiveState=active\nSubState=running\nLimitNOFILE=32768\nMemoryMax=infinity",
        ),
        (
            "fd-limit",
            "LoadState=loaded\nActiveState=active\nSubState=running\nLimitNOFILE=32767\nMemoryMax=infinity",
        ),
    ] {
        house.exhibit(code, &[&bundle]);
        house.machine(&Machine { unit, ..Machine::default() });
        house.says(&["sanedge listens at", "listens at 127.0.0.1:4004, where the app should"]);
        house.says(&[":80", "MiB of memory are available", "is not an address of this machine, which has"]);
    }
}

/// Files of our own edge for `host`, at an address of its own.
fn desk(house: &mut House, host: &str, upstream: &str, keys: &str) -> Desk {
    let address = house.address(host);
    let desk = Edge::certified_for(&[host]).site_with(&[host], upstream, keys).write();
    house.trust(&desk.ca.pem);
    let toml = std::fs::read_to_string(desk.toml()).unwrap();
    let listen = format!("https = [\"{address}:443\"]\nhttp = [\"{address}:80\"]");
    std::fs::write(desk.toml(), toml.replace("https = [\"127.0.0.1:0\"]", &listen)).unwrap();
    desk
}

// --- name and port ----------------------------------------------------------------------------------------

fn names(house: &mut House) {
    house.exhibit("name-unknown", &["https://nobody.recre.store"]);
    house.exhibit("name-offline", &["https://healthy-nginx.recre.store"]);
    house.exhibits.last_mut().unwrap().offline = true;
    house.broken_zone("name-resolver.recre.store");
    house.exhibit("name-resolver", &["https://name-resolver.recre.store"]);
    house.unsigned_zone("name-dnssec.recre.store");
    house.exhibit("name-dnssec", &["https://name-dnssec.recre.store"]);
    house.record("name-unusable.recre.store", vec!["0.0.0.0".parse().unwrap()]);
    house.exhibit("name-unusable", &["https://name-unusable.recre.store"]);
    for (code, address) in
        [("name-private", "192.168.77.1"), ("name-cgnat", "100.64.0.5"), ("name-loopback", "127.0.0.9")]
    {
        let host = format!("{code}.recre.store");
        house.record(&host, vec![address.parse().unwrap()]);
        let (chain, key) = house.files(&host, &good(&house.ca, &host));
        house.nginx_at(address, &chain, &key, &to(4004));
        house.redirect(address, "https://$host$request_uri");
        house.exhibit(code, &[&format!("https://{host}")]);
    }
    let address = house.nginx("answers-by-v4.recre.store", &to(4004));
    let both = vec![address.parse().unwrap(), "2620:99::5".parse().unwrap()];
    house.record("name-ipv6-dead.recre.store", both);
    let host = "name-ipv6-dead.recre.store";
    let (chain, key) = house.files(host, &good(&house.ca, host));
    house.nginx_line(&format!("server {{ listen {address}:443 ssl; server_name {host}; ssl_certificate {}; ssl_certificate_key {}; {} }}", chain.display(), key.display(), to(4004)));
    house.exhibit("name-ipv6-dead", &[&format!("https://{host}")]);
}

fn ports(house: &mut House) {
    let fault = |house: &mut House, code: &'static str| {
        house.exhibit(code, &[&format!("https://{code}.recre.store")])
    };
    house.address("port-refused.recre.store");
    fault(house, "port-refused");
    let address = house.address("port-filtered.recre.store");
    full(&address);
    fault(house, "port-filtered");
    house.record("port-unreachable.recre.store", vec!["23.9.0.1".parse().unwrap()]);
    fault(house, "port-unreachable");
    // The server is here, and the router does not send its public address back.
    house.address("port-hairpin.recre.store");
    let (chain, key) = house.files("port-hairpin", &good(&house.ca, "port-hairpin.recre.store"));
    house.nginx_at("127.0.0.1", &chain, &key, &to(4004));
    fault(house, "port-hairpin");
    let address = house.address("port-plain-http.recre.store");
    house.plain(&format!("{address}:443"), &to(4004));
    house.redirect(&address, "https://$host$request_uri");
    fault(house, "port-plain-http");
    house.raw("port-not-tls.recre.store", banner);
    fault(house, "port-not-tls");
    house.raw("port-silent.recre.store", silent);
    fault(house, "port-silent");
    house.raw("port-closes.recre.store", hang_up);
    fault(house, "port-closes");
    let host = "port-80-closed.recre.store";
    let address = house.address(host);
    let (chain, key) = house.files(host, &good(&house.ca, host));
    house.nginx_at(&address, &chain, &key, &to(4004));
    fault(house, "port-80-closed");
}

// --- TLS --------------------------------------------------------------------------------------------------

fn handshakes(house: &mut House) {
    let old = "ssl_protocols TLSv1 TLSv1.1; ssl_ciphers ALL:@SECLEVEL=0;";
    house.nginx_fault("tls-version", &format!("{old} {}", to(4004)), &[]);
    let suites = "ssl_protocols TLSv1.2; ssl_ciphers ECDHE-ECDSA-AES128-SHA;";
    house.nginx_fault("tls-no-common-suite", &format!("{suites} {}", to(4004)), &[]);
    std::fs::write(house.path("clients.pem"), &house.ca.pem).unwrap();
    let clients = house.path("clients.pem");
    let mutual = format!("ssl_verify_client on; ssl_client_certificate {}; {}", clients.display(), to(4004));
    house.nginx_fault("tls-client-certificate", &mutual, &[]);
    house.raw("tls-handshake.recre.store", alert);
    house.exhibit("tls-handshake", &["https://tls-handshake.recre.store"]);
    house.raw("tls-malformed-certificate.recre.store", malformed);
    house.exhibit("tls-malformed-certificate", &["https://tls-malformed-certificate.recre.store"]);
    let host = "tls-no-http1.recre.store";
    house.address(host);
    house.exhibit("tls-no-http1", &[&format!("https://{host}")]);
}

fn certificates(house: &mut House) {
    let host = |code: &str| format!("{code}.recre.store");
    let day = |days: i64| OffsetDateTime::now_utc() + time::Duration::days(days);
    house.certificate_fault("tls-name", &good(&house.ca, "recre.store"));
    let cn = odd(&house.ca, &host("tls-no-san"), |params| params.subject_alt_names.clear());
    house.certificate_fault("tls-no-san", &cn);
    let dated = |house: &mut House, code: &'static str, from: i64, to: i64| {
        let issued = odd(&house.ca, &host(code), |params| {
            (params.not_before, params.not_after) = (day(from), day(to))
        });
        house.certificate_fault(code, &issued);
    };
    dated(house, "tls-expired", -100, -10);
    dated(house, "tls-not-yet-valid", 10, 100);
    dated(house, "tls-expires-soon", -80, 10);
    dated(house, "tls-lifetime", -10, 816);
    let staple = odd(&house.ca, &host("tls-must-staple"), |params| {
        let feature =
            CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 24], vec![0x30, 3, 2, 1, 5]);
        params.custom_extensions = vec![feature]
    });
    house.certificate_fault("tls-must-staple", &staple);
    let numbered = odd(&house.ca, &host("tls-serial-number"), |params| {
        params.serial_number = Some(SerialNumber::from_slice(&[0x7f; 21]))
    });
    house.certificate_fault("tls-serial-number", &numbered);
    let lax = odd(&house.ca, &host("tls-strict-clients"), |params| {
        params.use_authority_key_identifier_extension = false
    });
    house.certificate_fault("tls-strict-clients", &lax);
    house.certificate_fault("tls-self-signed", &self_signed(leaf_params(&[&host("tls-self-signed")])));
    house.certificate_fault("tls-unknown-ca", &good(&Ca::new("Somebody's CA"), &host("tls-unknown-ca")));
    let trial = Ca::new("(STAGING) Pretend Pear X1");
    house.nginx_with("trial.recre.store", &good(&trial, "trial.recre.store"), &to(4004));
    house.exhibit("tls-unknown-ca", &["https://trial.recre.store"]);
    house.says(&["the certificate is for trials", "(STAGING) Pretend Pear X1"]);
    let client = odd(&house.ca, &host("tls-no-server-auth"), |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]
    });
    house.certificate_fault("tls-no-server-auth", &client);
    let authority = odd(&house.ca, &host("tls-ca-certificate"), |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)
    });
    house.certificate_fault("tls-ca-certificate", &authority);

    let below = house.ca.subordinate("Gallery CA 2");
    let lone = odd(&below, &host("tls-missing-intermediate"), |params| {
        params.custom_extensions = vec![ca_issuers("http://ca.recre.store/2.der")]
    });
    house.certificate_fault("tls-missing-intermediate", &lone);
    let whole = |code: &str| good(&below, &host(code)).and(&below.pem);
    let swapped = whole("tls-chain-order");
    let (leaf, above) = swapped.chain_pem.split_at(swapped.chain_pem.len() - below.pem.len());
    // nginx itself insists on the host's own certificate first; three make a disorder behind it.
    let third = below.subordinate("Gallery CA 3");
    let deep = good(&third, &host("tls-chain-order")).and(&below.pem).and(&third.pem);
    assert!(!leaf.is_empty() && !above.is_empty());
    house.certificate_fault("tls-chain-order", &deep);
    let extra = whole("tls-chain-extra").and(&house.ca.pem);
    house.certificate_fault("tls-chain-extra", &extra);
    let twin = house.ca.subordinate("Gallery CA 2");
    let crossed = good(&below, &host("tls-chain-signature")).and(&twin.pem);
    house.certificate_fault("tls-chain-signature", &crossed);
    let mut params = ca_params("Old Gallery CA");
    (params.not_before, params.not_after) = (day(-900), day(-5));
    let old = house.ca.subordinate_with(params);
    let issued = good(&old, &host("tls-intermediate-expired")).and(&old.pem);
    house.certificate_fault("tls-intermediate-expired", &issued);
    let narrow = house.ca.subordinate_with(ca_for("Narrow CA", "example.org"));
    let issued = good(&narrow, &host("tls-name-constraints")).and(&narrow.pem);
    house.certificate_fault("tls-name-constraints", &issued);
    let last = house.ca.subordinate_with(ca_without_cas_below("Last CA"));
    let beyond = last.subordinate("Beyond the last CA");
    let issued = good(&beyond, &host("tls-chain-refused")).and(&beyond.pem).and(&last.pem);
    house.certificate_fault("tls-chain-refused", &issued);
}

/// Keys and hashes that openssl makes and nginx loads.
fn old_certificates(house: &mut House) {
    let folder = house.folder.path().to_owned();
    let file = |name: &str| folder.join(name).display().to_string();
    let (ca, ca_key) = (file("openssl-ca.pem"), file("openssl-ca.key"));
    run(&format!(
        "openssl req -x509 -newkey rsa:2048 -noenc -days 900 -subj /CN=OldCA -keyout {ca_key} -out {ca}"
    ));
    house.trust(&std::fs::read_to_string(&ca).unwrap());
    let (large, large_key) = (file("p521-ca.pem"), file("p521-ca.key"));
    run(&format!(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-521 -noenc -days 900 -subj /CN=LargeCA -keyout {large_key} -out {large} \
         -addext keyUsage=critical,keyCertSign"
    ));
    house.trust(&std::fs::read_to_string(&large).unwrap());
    for (code, kind, hash) in [
        ("tls-chain-unverified", "ec -pkeyopt ec_paramgen_curve:P-256", "sha512"),
        ("tls-weak-key", "rsa:1024", "sha256"),
        ("tls-weak-signature", "rsa:2048", "sha1"),
        ("tls-ed25519", "ed25519", "sha256"),
    ] {
        let (ca, ca_key) = if hash == "sha512" { (&large, &large_key) } else { (&ca, &ca_key) };
        let (request, chain, key, extensions) =
            (file("old.csr"), file("old.pem"), file("old.key"), file("old.ext"));
        let names = format!(
            "subjectAltName=DNS:{code}.recre.store\nextendedKeyUsage=serverAuth\nkeyUsage=digitalSignature\nbasicConstraints=CA:FALSE\nauthorityKeyIdentifier=keyid\n"
        );
        std::fs::write(&extensions, names).unwrap();
        run(&format!("openssl req -newkey {kind} -noenc -subj /CN={code} -keyout {key} -out {request}"));
        run(&format!(
            "openssl x509 -req -in {request} -CA {ca} -CAkey {ca_key} -CAcreateserial -days 90 -{hash} -extfile {extensions} -out {chain}"
        ));
        let read = |path: &str| std::fs::read_to_string(path).unwrap();
        let issued = Issued { chain_pem: read(&chain), key_pem: read(&key) };
        let host = format!("{code}.recre.store");
        house.nginx_with(&host, &issued, &format!("ssl_ciphers ALL:@SECLEVEL=0; {}", to(4004)));
        house.exhibit(code, &[&format!("https://{host}")]);
    }
}

// --- HTTP -------------------------------------------------------------------------------------------------

fn http(house: &mut House) {
    house.nginx_fault(
        "http-silent",
        &to(4031).replace("proxy_pass", "proxy_read_timeout 60s; proxy_pass"),
        &[],
    );
    // Straight to Node: nginx would make a 502 of it.
    house.exhibit("http-closed", &["http://127.0.0.1:4032"]);
    house.exhibit("http-malformed", &["http://127.0.0.1:4033"]);
    house.nginx_fault("http-redirect-loop", &to(4034), &[]);
    house.nginx_fault("http-bad-gateway", &to(4999), &[]);
    house.nginx_fault(
        "http-gateway-timeout",
        &to(4031).replace("proxy_pass", "proxy_read_timeout 500ms; proxy_pass"),
        &[],
    );
    house.nginx_fault("http-error", &to(4035), &[]);
    house.nginx_fault("http-misdirected", "return 421;", &[]);
    house.nginx_fault(
        "clock-skew",
        &to(4020).replace("proxy_pass", "proxy_pass_header Date; proxy_pass"),
        &[],
    );
    for (code, answer) in [
        ("http-no-redirect", "return 200 'hello';"),
        ("http-redirect-elsewhere", "return 301 https://other.recre.store/;"),
    ] {
        let host = format!("{code}.recre.store");
        let address = house.address(&host);
        let (chain, key) = house.files(&host, &good(&house.ca, &host));
        house.nginx_at(&address, &chain, &key, &to(4004));
        house.plain(&format!("{address}:80"), answer);
        house.exhibit(code, &[&format!("https://{host}")]);
    }
    house.address("clock-wrong.recre.store");
    house.exhibit("clock-wrong", &["https://clock-wrong.recre.store"]);
}

// --- Engine.IO --------------------------------------------------------------------------------------------

fn polling(house: &mut House) {
    let location = |inside: &str| format!("location / {{ {SOCKETIO} {inside} }}");
    let app = "proxy_pass http://127.0.0.1:4004;";
    house.nginx_fault(
        "eio-transport-unknown",
        &location("set $args ''; proxy_pass http://127.0.0.1:4004;"),
        &[],
    );
    house.nginx_fault("eio-websocket-only", &to(4010), &[]);
    // The two halves of the story, with its client's options.
    let story = ["--transport", "websocket", "--namespace", "/catch", "--query", "uuId=bd6bf4b7"];
    house.exhibit(
        "eio-transport-unknown",
        &[&["https://eio-transport-unknown.recre.store"], &story[..]].concat(),
    );
    house.exhibit("tls-name", &[&["https://tls-name.recre.store"], &story[..]].concat());
    house.nginx_line("upstream two { server 127.0.0.1:4004; server 127.0.0.1:4005; }");
    house.nginx_fault(
        "eio-sid-unknown",
        &format!("location = / {{ return 404; }} {}", location("proxy_pass http://two;")),
        &[],
    );
    house.nginx_fault("eio-bad-method", &location(&format!("proxy_method POST; {app}")), &[]);
    house.nginx_fault(
        "eio-bad-request",
        &location(&format!("set $args 'EIO=4&transport=websocket'; {app}")),
        &[],
    );
    house.nginx_fault("eio-forbidden", &to(4012), &[]);
    house.nginx_fault("eio-protocol", &to(4004), &["--eio", "3"]);
    house.nginx_fault("eio-old-server", &to(4002), &["--eio", "4"]);
    house.nginx_fault("eio-v3-server", &to(4002), &[]);
    house.nginx_fault("eio-not-found", &to(4013), &[]);
    house.nginx_fault("eio-wrong-path", &to(4019), &[]);
    house.nginx_fault("eio-not-socketio", &to(4030), &[]);
    house.nginx_fault("eio-redirected", "return 302 https://elsewhere.recre.store/login;", &[]);
    std::fs::write(house.path("htpasswd"), "a:{PLAIN}b\n").unwrap();
    let passwords = house.path("htpasswd");
    house.nginx_fault(
        "eio-unauthorized",
        &location(&format!("auth_basic game; auth_basic_user_file {}; {app}", passwords.display())),
        &[],
    );
    house.nginx_fault("eio-refused-by-edge", &location(&format!("deny all; {app}")), &[]);
    house.nginx_fault("eio-status", &location("return 418;"), &[]);
    house.nginx_fault("eio-garbled", &to(4036), &[]);
    // No page, and no proxy's fault either: another app has the port.
    house.nginx("other-app.recre.store", &to(4048));
    house.exhibit("eio-not-socketio", &["https://other-app.recre.store"]);
    house.says(&["application/json", "it does not depend on the path"]);
    house.exhibit("eio-not-socketio", &["http://127.0.0.1:4048", "--upstream", "127.0.0.1:4048"]);
    house.says(&["the app, no Server field"]);
    house.exhibit("eio-not-socketio", &["http://127.0.0.1:4049"]);
    house.says(&["a plain WebSocket server"]);
    house.exhibit("eio-not-socketio", &["http://127.0.0.1:4049", "--transport", "websocket"]);
    house.says(&["a WebSocket server answers that is not Socket.IO"]);
    let cache = house.path("cache");
    house.nginx_line(&format!("proxy_cache_path {} keys_zone=game:1m;", cache.display()));
    let cached = "proxy_cache game; proxy_cache_key $uri$arg_transport; proxy_cache_valid 200 1m; proxy_ignore_headers Cache-Control Set-Cookie Vary Expires;";
    house.nginx_fault("eio-cached", &location(&format!("{cached} {app}")), &[]);
    house.nginx_fault("eio-post-refused", &location(&format!("limit_except GET {{ deny all; }} {app}")), &[]);
    house.nginx_fault(
        "eio-post-too-large",
        &location("client_max_body_size 1; proxy_pass http://127.0.0.1:4002;"),
        &["--eio", "3"],
    );
    house.beside(QUIET);
    house.nginx_fault(
        "eio-post-lost",
        &location(&format!("if ($request_method = POST) {{ return 500; }} {app}")),
        &[],
    );
    house.nginx_fault("eio-ping-long", &to(4014), &[]);
    house.nginx("healthy-wary.recre.store", &to(4047));
    house.exhibit("healthy-nginx", &["https://healthy-wary.recre.store", "--transport", "polling"]);
    house.beside(Beside::Unasked("the server is a stub without namespaces"));
    house.nginx_fault("eio-poll-held", &to(4046), &[]);
}

/// What our own edge answers by itself.
fn our_own_codes(house: &mut House, edges: &mut Vec<Edge>) {
    let mut refuse = |house: &mut House, code: &'static str, upstream: &str, keys: &str, more: &[&str]| {
        let host = format!("{code}.recre.store");
        edges.push(desk(house, &host, upstream, keys).serve());
        house.exhibit(code, &[&[format!("https://{host}").as_str()], more].concat());
    };
    let app = "127.0.0.1:4004";
    refuse(house, "edge-unknown-path", app, "path = \"/app/\"\n", &[]);
    house.says(&["sanedge itself, code unknown_path"]);
    refuse(house, "edge-address-refused", app, "allow = [\"10.0.0.0/8\"]\n", &[]);
    refuse(house, "edge-upstream-broken", "127.0.0.1:4033", "", &[]);
    house.says(&["upstream_malformed"]);
    refuse(house, "edge-refused", "127.0.0.1:4002", "body_bytes_max = 1\n", &["--eio", "3"]);
    house.says(&["body_too_large", "raise body_bytes_max"]);
    house.beside(QUIET);
    // Its plain port is asked for a name that it does not have.
    let address = house.address_of("edge-refused.recre.store");
    house.record("edge-unknown-host.recre.store", vec![address.parse().unwrap()]);
    house.exhibit("edge-unknown-host", &["http://edge-unknown-host.recre.store"]);
    // At a limit for longer than a test can hold it there: its answer, from nginx.
    house.nginx_fault("edge-busy", "add_header Sanedge-Error too_many_requests always; return 429;", &[]);
    // Not the edge but the app behind it: by the bundle, whose certificate is served.
    let served = desk(house, "no-socketio.recre.store", "127.0.0.1:4013", "").serve();
    house.exhibit("eio-not-found", &[&served.desk().bundle_file().display().to_string()]);
    house.says(&["the app answers 404 at /socket.io/ (the app behind sanedge"]);
    edges.push(served);
}

fn cors(house: &mut House) {
    let page = ["--origin", "https://recre.store"];
    house.nginx_fault("cors-missing", &to(4004), &page);
    house.nginx_fault("cors-other-origin", &to(4016), &page);
    house.nginx_fault("cors-star-with-credentials", &to(4015), &page);
    let asking = [&page[..], &["--header", "Authorization: Bearer x"]].concat();
    let refusing = |answer: &str| {
        format!(
            "location / {{ {SOCKETIO} if ($request_method = OPTIONS) {{ {answer} }} proxy_pass http://127.0.0.1:4017; }}"
        )
    };
    house.nginx_fault("cors-preflight", &refusing("return 405;"), &asking);
    house.says(&["gets 405"]);
    house.nginx("other-fields.recre.store", &to(4021));
    house.exhibit("cors-preflight", &[&["https://other-fields.recre.store"], &asking[..]].concat());
    house.says(&["does not allow these fields"]);
    house.nginx("healthy-cors.recre.store", &to(4017));
    house.exhibit("healthy-nginx", &[&["https://healthy-cors.recre.store"], &asking[..]].concat());
    house.says(&["CORS allows `https://recre.store`"]);
    house.nginx_fault(
        "cors-twice",
        &format!("add_header Access-Control-Allow-Origin https://recre.store; {}", to(4017)),
        &page,
    );
}

fn websockets(house: &mut House, edges: &mut Vec<Edge>) {
    let app = "proxy_pass http://127.0.0.1:4004;";
    let upgrades =
        |answer: &str| format!("location / {{ {SOCKETIO} if ($http_upgrade) {{ {answer} }} {app} }}");
    house.nginx_fault("ws-upgrade-lost", &format!("location / {{ {app} }}"), &[]);
    house.nginx_fault("ws-forbidden", &to(4084), &[]);
    house.nginx_fault("ws-status", &upgrades("return 418;"), &[]);
    house.nginx_fault("ws-no-answer", &upgrades("return 444;"), &[]);
    house.nginx_fault("ws-upgrade-required", &to(4043), &[]);
    // A 101 that is not this handshake's: nginx passes it on.
    house.nginx_fault("ws-accept", &to(4040), &[]);
    house.nginx_fault("ws-silent", &to(4041), &[]);
    house.nginx_fault("ws-closes", &to(4042), &[]);
    house.nginx_fault("ws-heartbeat", &to(4044), &["--hold", "3s"]);
    house.nginx_fault("ws-probe", &to(4045), &[]);
    house.nginx_fault(
        "ws-cut",
        &to(4004).replace("proxy_pass", "proxy_read_timeout 1s; proxy_pass"),
        &["--hold", "4s"],
    );
    house.nginx_fault("eio-polling-only", &to(4011), &["--transport", "websocket"]);
    house.exhibits.last_mut().unwrap().arguments.truncate(1); // a client that begins by polling
    let host = "ws-origin-refused.recre.store";
    edges.push(desk(house, host, "127.0.0.1:4017", "").serve());
    house.exhibit("ws-origin-refused", &[&format!("https://{host}"), "--origin", "https://other.example"]);
}

fn namespaces(house: &mut House) {
    house.nginx_fault("ns-refused", &to(4004), &["--namespace", "/catch"]);
    house.nginx_fault("ns-unknown", &to(4004), &["--namespace", "/cath"]);
    house.nginx_fault("ns-silent", &to(4018), &["--namespace", "/slow"]);
}

// --- on the board -----------------------------------------------------------------------------------------

fn board(house: &mut House, edges: &mut Vec<Edge>) {
    house.nginx_fault("app-down", &to(4004), &["--upstream", "127.0.0.1:4999"]);
    house.says(&["the path is fine, the app is not"]);
    house.nginx_fault("app-tls", &to(4004), &["--upstream", "127.0.0.1:4022"]);
    // The same faults beside the edge: is it the app or the path?
    for (code, upstream, verdict) in [
        ("ws-upgrade-lost", "127.0.0.1:4004", "the app is fine, the path to it is not"),
        ("tls-expired", "127.0.0.1:4004", "the app is fine, the path to it is not"),
        ("http-bad-gateway", "127.0.0.1:4999", "the path only forwards that"),
        ("eio-forbidden", "127.0.0.1:4012", "the path only forwards that"),
        ("tls-self-signed", "127.0.0.1:4012", "neither the path nor the app is fine"),
    ] {
        house.exhibit(code, &[&format!("https://{code}.recre.store"), "--upstream", upstream]);
        house.says(&[verdict]);
    }
    let refused = ["https://ns-refused.recre.store", "--namespace", "/catch", "--upstream", "127.0.0.1:4004"];
    house.exhibit("ns-refused", &refused);
    house.says(&["the path is fine, the app is not: it refuses"]);
    machines(house);

    let word = |path: &Path| path.display().to_string();
    let served = desk(house, "tls-not-the-bundle.recre.store", "127.0.0.1:4004", "").serve();
    served.desk().write_certificate(0, &["tls-not-the-bundle.recre.store"]);
    served.desk().bundled();
    house.exhibit("tls-not-the-bundle", &[&word(&served.desk().bundle_file())]);
    house.says(&["than the one in `/", "sanedge reload --admin /"]);
    house.exhibit("tls-not-the-bundle", &[&word(&served.desk().toml())]);
    house.says(&["a bundle made of `/", "sanedge apply /", "is newer than its sources"]);
    edges.push(served);

    let served = desk(house, "bundle-stale.recre.store", "127.0.0.1:4004", "").serve();
    for file in ["0.key", "0.pem"] {
        std::fs::set_permissions(served.desk().path(file), PermissionsExt::from_mode(0o600)).unwrap();
    }
    let later = SystemTime::now() + Duration::from_secs(5);
    std::fs::File::options().append(true).open(served.desk().toml()).unwrap().set_modified(later).unwrap();
    house.exhibit("bundle-stale", &[&word(&served.desk().toml())]);
    house.says(&["/sanedge.bundle`: write", "sanedge apply /"]);
    house.exhibit("bundle-stale", &[&word(&served.desk().bundle_file())]);
    house.says(&["sanedge apply /", "/sanedge.toml"]);
    edges.push(served);

    // Its plain listener is on another port than 80, and not there yet.
    let served = desk(house, "other-plain-port.recre.store", "127.0.0.1:4004", "").serve();
    let toml = std::fs::read_to_string(served.desk().toml()).unwrap();
    std::fs::write(served.desk().toml(), toml.replace(":80\"]", ":8081\"]")).unwrap();
    served.desk().bundled();
    house.exhibit("port-80-closed", &[&word(&served.desk().bundle_file())]);
    house.says(&["nothing answers on port 8081", "[::]:8081"]);
    edges.push(served);

    // Whoever may read the key may be the server.
    let served = desk(house, "key-readable.recre.store", "127.0.0.1:4004", "").serve();
    std::fs::set_permissions(served.desk().path("0.key"), PermissionsExt::from_mode(0o644)).unwrap();
    house.exhibit("key-readable", &[&word(&served.desk().toml())]);
    edges.push(served);

    let served = desk(house, "config-errors.recre.store", "127.0.0.1:4004", "").serve();
    let toml = std::fs::read_to_string(served.desk().toml()).unwrap();
    let added = toml.replace("hosts = [", "hosts = [\"socket.recre.store\", ");
    std::fs::write(served.desk().toml(), added).unwrap();
    house.exhibit("config-errors", &[&word(&served.desk().toml())]);
    house.says(&["certbot certonly --expand", "sanedge.toml:"]);
    edges.push(served);

    let served = desk(house, "bundle-refused.recre.store", "127.0.0.1:4004", "").serve();
    std::fs::set_permissions(served.desk().bundle_file(), PermissionsExt::from_mode(0o644)).unwrap();
    house.exhibit("bundle-refused", &[&word(&served.desk().bundle_file())]);
    edges.push(served);

    // nginx has the port, with the bundle's own certificate.
    let planned = desk(house, "port-owner.recre.store", "127.0.0.1:4004", "");
    planned.bundled();
    let toml = std::fs::read_to_string(planned.toml()).unwrap();
    let address = toml.split("https = [\"").nth(1).unwrap().split(':').next().unwrap().to_owned();
    house.nginx_at(&address, &planned.path("0.pem"), &planned.path("0.key"), &to(4004));
    house.redirect(&address, "https://$host$request_uri");
    house.exhibit("port-owner", &[&word(&planned.bundle_file())]);
    std::mem::forget(planned); // its folder stays as long as the gallery
}

/// One fault of the board each, as systemd and `/sys` of another machine show it.
fn machines(house: &mut House) {
    let mut fault = |code: &'static str, machine: Machine, says: &[&'static str]| {
        house.exhibit(code, &["http://127.0.0.1:4004", "--upstream", "127.0.0.1:4004"]);
        house.machine(&machine);
        house.says(says);
    };
    let fine = ["the service sanedge is active (running)", "the clock is synchronised"];
    fault("healthy-board", Machine::default(), &fine);
    let failed = Machine {
        unit: "LoadState=loaded\nActiveState=failed\nSubState=failed\nLimitNOFILE=65536\nMemoryMax=infinity\nResult=exit-code",
        log: "error bundle /etc/sanedge/sanedge.bundle is damaged\nMain process exited, status=1/FAILURE",
        ..Machine::default()
    };
    fault("unit-failed", failed, &["exit-code", "sanedge.bundle is damaged", "status=1/FAILURE"]);
    fault("memory-max-ignored", Machine { controllers: "cpuset cpu io pids", ..Machine::default() }, &[]);
    fault("clock-unsynchronised", Machine { synchronised: "no", ..Machine::default() }, &[]);
    fault("healthy-board", Machine { millidegrees: "79999", ..Machine::default() }, &[]);
    fault("pi-hot", Machine { millidegrees: "80000", ..Machine::default() }, &["80 °C"]);
    fault(
        "pi-throttled",
        Machine { throttled: "50005", ..Machine::default() },
        &["too weak right now", "0x50005"],
    );
    fault("pi-throttled", Machine { throttled: "0x50000", ..Machine::default() }, &["is or was throttled"]);
    // Neither a Pi nor systemd: nothing is known, and nothing is wrong.
    let other = Machine { unit: "", synchronised: "", millidegrees: "", throttled: "", ..Machine::default() };
    fault("healthy-board", other, &["there is no unit `sanedge`"]);
}

/// Keys and addresses of the apps that end TLS themselves.
fn apps(house: &mut House) -> Value {
    let h2 = good(&house.ca, "tls-no-http1.recre.store");
    let (chain, key) = house.files("h2", &h2);
    let begin = OffsetDateTime::now_utc() + time::Duration::days(300);
    let future = odd(&house.ca, "clock-wrong.recre.store", |params| {
        (params.not_before, params.not_after) = (begin, begin + time::Duration::days(90));
    });
    let (future_chain, future_key) = house.files("future", &future);
    let date = (begin + time::Duration::days(30)).unix_timestamp() * 1000;
    json!({
        "chain": chain, "key": key, "h2": house.address_of("tls-no-http1.recre.store"),
        "future": { "chain": future_chain, "key": future_key, "date": date, "address": house.address_of("clock-wrong.recre.store") },
    })
}
