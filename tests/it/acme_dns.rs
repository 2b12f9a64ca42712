//! dns-01: `sanedge renew` with a real CA (Pebble), real name servers (bind9), and stand-ins for providers with an HTTPS interface.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sanedge::bundle::Bundle;
use sanedge::names::Host;
use serde_json::{Value, json};

use super::support::certs::Ca;
use super::support::edge::{PATIENCE, sanedge, text};
use super::support::name_server::NameServer;
use super::support::node::{has, skip};
use super::support::pebble::{Pebble, request};
use super::support::peers::free_address;
use super::support::program;

/// In base64; of a provider that is a stand-in it is the token as well.
const SECRET: &str = "c2FuZWRnZSB0ZXN0cyBhIHNlY3JldCBvZiAzMiBieXQ=";
const WILDCARD: &str = "*.recre.store";
const APEX: &str = "recre.store";
const SOCKET: &str = "socket.recre.store";
const PLACE: &str = "_acme-challenge.recre.store";

/// A folder with a sanedge.toml whose certificates are proven by dns-01, and a Pebble that asks one name server.
struct Home {
    folder: tempfile::TempDir,
    _pebble: Pebble,
}

impl Home {
    /// For `names` in one certificate, and the host `socket` of their domain.
    fn new(dns: SocketAddr, provider: &str, names: &[&str], credentials: &str) -> Self {
        let domain = names[0].trim_start_matches("*.");
        let folder = tempfile::tempdir().unwrap();
        let pebble = Pebble::asking(dns, folder.path(), 1, &[], &json!({}));
        std::fs::write(folder.path().join("trust.pem"), &pebble.trust).unwrap();
        let toml = format!(
            "board = \"host\"\n[listen]\nhttps = [\"127.0.0.1:0\"]\nadmin = \"unix:admin.sock\"\npublic_https_port = 443\n\
             [acme]\nterms = \"agreed\"\ndirectory = \"{}\"\ntrust = \"trust.pem\"\nstate = \"state\"\nchallenges = \"challenges\"\n\
             [acme.dns]\nprovider = \"{provider}\"\ncredentials = \"dns.toml\"\nresolvers = [\"{dns}\"]\n\
             [[acme.certificate]]\nnames = {names:?}\n\
             [[site]]\nhosts = [\"socket.{domain}\"]\nupstream = [\"127.0.0.1:1\"]\n",
            pebble.directory()
        );
        std::fs::write(folder.path().join("x.toml"), toml).unwrap();
        let home = Self { folder, _pebble: pebble };
        home.credentials(credentials);
        let output = sanedge().arg("bundle").arg(home.path("x.toml")).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn credentials(&self, content: &str) {
        std::fs::write(self.path("dns.toml"), content).unwrap();
        self.mode(0o640);
    }

    fn mode(&self, mode: u32) {
        std::fs::set_permissions(self.path("dns.toml"), std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn renew(&self) -> Output {
        let output =
            sanedge().arg("renew").arg(self.path("x.acme")).args(["--now", "--json"]).output().unwrap();
        let said = text(&output);
        assert!(!said.contains(SECRET), "{said}");
        output
    }

    /// Runs; the first failure's code, what was found, and what to do.
    fn failure(&self) -> (String, String, String) {
        let output = self.renew();
        let said: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
        let row = &said["certificates"][0];
        let failure = if row["failure"].is_object() { &row["failure"] } else { row };
        let of = |key: &str| failure[key].as_str().unwrap_or_else(|| panic!("{said:#}")).to_owned();
        (of("code"), of("found"), of("remedy"))
    }

    fn serves(&self, host: &str) -> bool {
        Bundle::open(&self.path("x.bundle")).unwrap().host(&Host::parse(host).unwrap()).is_some()
    }
}

/// A bind9 with the zones `recre.store` and `auth.test`, which takes updates with the key `sanedge`; killed when dropped.
struct Bind {
    child: Child,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Bind {
    fn start() -> Self {
        Self::with("", "")
    }

    /// With more records in either zone.
    fn with(apex: &str, auth: &str) -> Self {
        for _ in 0..10 {
            let folder = tempfile::tempdir().unwrap();
            let port = free_address().port();
            let at = folder.path().display();
            // bind9 started by root stays root here: its files are the test's.
            let zone = |name: &str, more: &str, policy: &str| {
                let records = format!(
                    "$TTL 1\n@ SOA ns admin 1 60 60 60 1\n@ NS ns\n@ A 127.0.0.1\nns A 127.0.0.1\nsocket A 127.0.0.1\n{more}"
                );
                std::fs::write(folder.path().join(name), records).unwrap();
                format!("zone \"{name}\" {{ type primary; file \"{at}/{name}\"; {policy} }};\n")
            };
            let config = format!(
                "key \"sanedge\" {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};\n\
                 key \"other\" {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};\n\
                 options {{ directory \"{at}\"; pid-file \"{at}/pid\"; session-keyfile \"{at}/session\"; listen-on port {port} {{ 127.0.0.1; }};\n\
                 listen-on-v6 {{ none; }}; recursion yes; dnssec-validation no; }};\ncontrols {{ }};\n{}{}",
                zone(APEX, apex, "update-policy { grant sanedge name _acme-challenge.recre.store TXT; };"),
                zone("auth.test", auth, "allow-update { key sanedge; };"),
            );
            std::fs::write(folder.path().join("named.conf"), config).unwrap();
            // A copy: AppArmor lets the installed one read no file of a test.
            let own = folder.path().join("own-named");
            program::install(program::on_path("named").unwrap(), &own);
            let mut named = Command::new(own);
            named.args(["-g", "-c"]).arg(folder.path().join("named.conf"));
            let child = named.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            let mut bind = Self { child, address, folder };
            let until = Instant::now() + PATIENCE;
            while Instant::now() < until && bind.child.try_wait().unwrap().is_none() {
                if TcpStream::connect(bind.address).is_ok() {
                    return bind;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        panic!("named does not listen");
    }

    fn credentials(&self, key: &str, secret: &str) -> String {
        format!("server = \"{}\"\nkey_name = \"{key}\"\nsecret = \"{secret}\"\n", self.address)
    }

    fn update(&self, line: &str) {
        let mut nsupdate = Command::new("nsupdate")
            .args(["-y", &format!("hmac-sha256:sanedge:{SECRET}")])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = nsupdate.stdin.take();
        let (ip, port) = (self.address.ip(), self.address.port());
        stdin.unwrap().write_all(format!("server {ip} {port}\n{line}\nsend\n").as_bytes()).unwrap();
        assert!(nsupdate.wait().unwrap().success());
    }

    /// What `dig` says of the TXT records of a name.
    fn texts(&self, name: &str) -> String {
        let port = self.address.port().to_string();
        let output = Command::new("dig").args(["@127.0.0.1", "-p", &port, "+short", name, "TXT"]).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = &self.folder;
    }
}

fn lacks(test: &str, bind: bool) -> bool {
    for (program, argument) in [("pebble", "-help"), ("named", "-V"), ("dig", "-v"), ("nsupdate", "-V")] {
        if (bind || program == "pebble") && !has(program, argument) {
            skip(test, &format!("it needs {program}"));
            return true;
        }
    }
    false
}

#[test]
fn a_wildcard_beside_its_parent_is_obtained_by_dynamic_updates_that_are_taken_back() {
    if lacks("a_wildcard_beside_its_parent_is_obtained_by_dynamic_updates_that_are_taken_back", true) {
        return;
    }
    let bind = Bind::start();
    let home = Home::new(bind.address, "rfc2136", &[WILDCARD, APEX], &bind.credentials("sanedge", SECRET));
    // Of somebody else: it stays.
    bind.update(&format!("update add {PLACE} 1 TXT \"kept\""));
    let output = home.renew();
    assert!(output.status.success(), "{}", text(&output));
    assert!(home.serves(SOCKET));
    assert_eq!(bind.texts(PLACE), "\"kept\"\n");
}

#[test]
fn an_alias_leads_to_the_zone_that_is_updated() {
    if lacks("an_alias_leads_to_the_zone_that_is_updated", true) {
        return;
    }
    let bind = Bind::with("_acme-challenge CNAME first.auth.test.\n", "first CNAME proof\n");
    let home = Home::new(bind.address, "rfc2136", &[WILDCARD], &bind.credentials("sanedge", SECRET));
    let output = home.renew();
    assert!(output.status.success(), "{}", text(&output));
    assert!(home.serves(SOCKET) && bind.texts("proof.auth.test").is_empty());
}

#[test]
fn an_update_that_is_refused_says_which_part_of_it_is_wrong() {
    if lacks("an_update_that_is_refused_says_which_part_of_it_is_wrong", true) {
        return;
    }
    let bind = Bind::start();
    let good = bind.credentials("sanedge", SECRET);
    let home = Home::new(bind.address, "rfc2136", &[WILDCARD], &good);
    let cases = [
        (
            bind.credentials("sanedge", "YW5vdGhlcg=="),
            "acme-dns-refused",
            "another secret for the key sanedge",
        ),
        (bind.credentials("nobody", SECRET), "acme-dns-refused", "does not know the key nobody"),
        (bind.credentials("other", SECRET), "acme-dns-refused", "does not let the key other change"),
        (
            format!("{good}zone = \"example.org\"\n"),
            "acme-dns-zone",
            "is not the primary server of the zone example.org",
        ),
        (good.replace(&bind.address.to_string(), "127.0.0.1:1"), "acme-dns-failed", "cannot be asked"),
        (good.replace("key_name", "key_nam"), "acme-dns-credentials", "line 2"),
        (good.replace(SECRET, "%%%"), "acme-dns-credentials", "`secret` is not valid"),
        (good.replace(&bind.address.to_string(), "ns.example"), "acme-dns-credentials", "`server`"),
    ];
    for (credentials, code, found) in cases {
        home.credentials(&credentials);
        let failure = home.failure();
        assert!(failure.0 == code && failure.1.contains(found), "{failure:?} is not {code}, {found}");
    }
    home.credentials(&good);
    home.mode(0o644);
    let (code, found, _) = home.failure();
    assert!(code == "acme-dns-credentials" && found.contains("chmod o="), "{code} {found}");
    home.mode(0o640);
    assert!(home.renew().status.success() && bind.texts(PLACE).is_empty());
}

#[test]
fn a_program_of_the_users_own_is_called_as_lego_calls_one() {
    if lacks("a_program_of_the_users_own_is_called_as_lego_calls_one", true) {
        return;
    }
    let bind = Bind::start();
    let home = Home::new(bind.address, "exec", &[WILDCARD, APEX], "");
    let (ip, port) = (bind.address.ip(), bind.address.port());
    let (hook, log) = (home.path("hook"), home.path("log"));
    let script = format!(
        "#!/bin/sh\necho \"$@\" >>{log}\ncase $1 in present) verb=add ttl=1 ;; cleanup) verb=delete ttl= ;; esac\n\
         printf 'server {ip} {port}\\nupdate %s %s %s TXT \"%s\"\\nsend\\n' \"$verb\" \"$2\" \"$ttl\" \"$3\" | nsupdate -y hmac-sha256:sanedge:{SECRET}\n",
        log = log.display()
    );
    program::script(&hook, &script);
    home.credentials(&format!("program = {:?}\n", hook));
    let output = home.renew();
    assert!(output.status.success(), "{}", text(&output));
    let calls = std::fs::read_to_string(&log).unwrap();
    let calls: Vec<Vec<&str>> = calls.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!(
        calls.iter().map(|call| call[0]).collect::<Vec<_>>(),
        ["present", "present", "cleanup", "cleanup"]
    );
    assert!(calls.iter().all(|call| call[1] == format!("{PLACE}.") && call[2].len() == 43), "{calls:?}");
    assert!(bind.texts(PLACE).is_empty());
    // One that fails is told with its last words, and what it may have made is taken back.
    program::script(
        &hook,
        &format!(
            "#!/bin/sh\necho \"$1\" >>{}\necho first >&2\necho no such zone >&2\n[ $1 = cleanup ]\n",
            log.display()
        ),
    );
    std::fs::remove_file(&log).unwrap();
    let (code, found, _) = home.failure();
    assert!(
        code == "acme-dns-failed" && found.contains("no such zone") && found.contains("present"),
        "{code} {found}"
    );
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "present\ncleanup\n");
    std::fs::remove_file(&hook).unwrap();
    assert!(home.failure().1.contains("cannot be run"));
}

/// What a stand-in gets: method, target, fields in small letters, body.
struct Asked {
    method: String,
    target: String,
    fields: BTreeMap<String, String>,
    body: Value,
}

type Handler = dyn Fn(&Asked) -> (u16, String) + Send + Sync;

/// An HTTPS server in place of a provider; its port, and the PEM of what it is to be trusted by.
fn stand_in(handler: Arc<Handler>) -> (u16, String) {
    let ca = Ca::new("the CA of a stand-in");
    let own = ca.issue(&["localhost"]);
    let chain = vec![CertificateDer::from_pem_slice(own.chain_pem.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(own.key_pem.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream);
            let Some(bytes) = request(&mut stream) else { continue };
            let text = String::from_utf8(bytes).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let mut words = head.split(' ');
            let [method, target] = [(); 2].map(|()| words.next().unwrap().to_owned());
            let fields = head.lines().skip(1).filter_map(|line| line.split_once(": "));
            let fields = fields.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
            let body = serde_json::from_str(body).unwrap_or_default();
            let (status, answer) = handler(&Asked { method, target, fields, body });
            let length = answer.len();
            let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: {length}\r\n\r\n{answer}");
            let _ = stream.write_all(answer.as_bytes()).and_then(|()| stream.flush());
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    (port, ca.pem)
}

/// Obtains a certificate for `names` by a provider whose stand-in is `handler`; then with a credential that is wrong.
fn by_provider(
    provider: &str,
    dns: &NameServer,
    names: &[&str],
    credentials: &str,
    handler: Arc<Handler>,
) -> Home {
    let (port, pem) = stand_in(handler);
    let home = Home::new(dns.address, provider, names, "");
    std::fs::write(home.path("provider.pem"), pem).unwrap();
    let place = format!("url = \"https://localhost:{port}\"\ntrust = {:?}\n", home.path("provider.pem"));
    home.credentials(&format!("{place}{}", credentials.replace(SECRET, "wrong")));
    let (code, found, remedy) = home.failure();
    assert!(code == "acme-dns-refused" && !remedy.is_empty(), "{code} {found}");
    assert_eq!(dns.all_texts(), [], "{found}");
    home.credentials(&format!("{place}{credentials}"));
    let output = home.renew();
    assert!(output.status.success(), "{}", text(&output));
    home
}

#[test]
fn cloudflare_gets_a_record_for_each_value_and_loses_them_again() {
    if lacks("cloudflare_gets_a_record_for_each_value_and_loses_them_again", false) {
        return;
    }
    let dns = NameServer::with(&[APEX]);
    dns.cut();
    let zone = dns.clone();
    let handler = move |asked: &Asked| {
        if asked.fields.get("authorization") != Some(&format!("Bearer {SECRET}")) {
            return (
                403,
                json!({ "success": false, "errors": [{ "code": 9109, "message": "Invalid access token" }] })
                    .to_string(),
            );
        }
        let records = "/zones/z1/dns_records";
        let answer = match (asked.method.as_str(), asked.target.as_str()) {
            ("GET", "/zones?name=recre.store") => json!([{ "id": "z1" }]),
            ("POST", target) if target == records => {
                assert_eq!(asked.body["type"], "TXT");
                let content = asked.body["content"].as_str().unwrap().trim_matches('"');
                zone.add(asked.body["name"].as_str().unwrap(), content);
                json!({ "id": content })
            }
            ("GET", target) if target == format!("{records}?type=TXT&name={PLACE}") => {
                let found = zone.texts(PLACE);
                found.iter().map(|text| json!({ "id": text, "content": format!("\"{text}\"") })).collect()
            }
            ("DELETE", target) => {
                zone.remove(PLACE, |text| target == format!("{records}/{text}"));
                json!({})
            }
            (method, target) => panic!("{method} {target}"),
        };
        (200, json!({ "success": true, "errors": [], "result": answer }).to_string())
    };
    let home = by_provider(
        "cloudflare",
        &dns,
        &[WILDCARD, APEX],
        &format!("token = \"{SECRET}\"\n"),
        Arc::new(handler),
    );
    assert!(home.serves(SOCKET));
    assert_eq!(dns.all_texts(), []);
}

#[test]
fn desec_keeps_the_values_of_others_at_the_same_name() {
    if lacks("desec_keeps_the_values_of_others_at_the_same_name", false) {
        return;
    }
    let dns = NameServer::with(&[APEX]);
    let zone = dns.clone();
    let most = Arc::new(Mutex::new(0));
    let seen = most.clone();
    let handler = move |asked: &Asked| {
        if asked.fields.get("authorization") != Some(&format!("Token {SECRET}")) {
            return (401, json!({ "detail": "Invalid token." }).to_string());
        }
        match (asked.method.as_str(), asked.target.as_str()) {
            ("GET", target) if target == format!("/domains/?owns_qname={PLACE}") => {
                (200, json!([{ "name": APEX }]).to_string())
            }
            ("GET", "/domains/recre.store/rrsets/_acme-challenge/TXT/") => match zone.texts(PLACE) {
                texts if texts.is_empty() => (404, "{}".to_owned()),
                texts => {
                    let quoted: Vec<String> = texts.iter().map(|text| format!("\"{text}\"")).collect();
                    (200, json!({ "records": quoted }).to_string())
                }
            },
            ("PUT", "/domains/recre.store/rrsets/") => {
                let set = &asked.body[0];
                assert_eq!(
                    (set["subname"].as_str(), set["type"].as_str()),
                    (Some("_acme-challenge"), Some("TXT"))
                );
                zone.remove(PLACE, |_| true);
                let records = set["records"].as_array().unwrap();
                for text in records {
                    zone.add(PLACE, text.as_str().unwrap().trim_matches('"'));
                }
                let mut most = seen.lock().unwrap();
                *most = records.len().max(*most);
                (200, "[]".to_owned())
            }
            (method, target) => panic!("{method} {target}"),
        }
    };
    by_provider("desec", &dns, &[WILDCARD, APEX], &format!("token = \"{SECRET}\"\n"), Arc::new(handler));
    assert_eq!((dns.all_texts(), *most.lock().unwrap()), (vec![], 2));
}

#[test]
fn an_acme_dns_server_is_reached_by_an_alias_and_keeps_no_value() {
    if lacks("an_acme_dns_server_is_reached_by_an_alias_and_keeps_no_value", false) {
        return;
    }
    const AT: &str = "d420c923.auth.test";
    let dns = NameServer::with(&[APEX, "auth.test"]);
    dns.alias(PLACE, AT);
    let zone = dns.clone();
    let handler = move |asked: &Asked| {
        let field = |name: &str| asked.fields.get(name).map(String::as_str);
        if (field("x-api-user"), field("x-api-key")) != (Some("user"), Some(SECRET)) {
            return (401, json!({ "error": "forbidden" }).to_string());
        }
        assert_eq!((asked.method.as_str(), asked.target.as_str()), ("POST", "/update"));
        assert_eq!(asked.body["subdomain"], "d420c923");
        let text = asked.body["txt"].as_str().unwrap();
        assert_eq!(text.len(), 43);
        // The two newest values are kept.
        let texts = zone.texts(AT);
        zone.remove(AT, |_| true);
        texts.iter().skip(texts.len().saturating_sub(1)).for_each(|text| zone.add(AT, text));
        zone.add(AT, text);
        (200, json!({ "txt": text }).to_string())
    };
    let credentials = format!("username = \"user\"\npassword = \"{SECRET}\"\nsubdomain = \"d420c923\"\n");
    by_provider("acme-dns", &dns, &[WILDCARD, APEX], &credentials, Arc::new(handler));
    assert!(dns.texts(AT).iter().all(|text| text.bytes().all(|byte| byte == b'_')), "{:?}", dns.texts(AT));
}

#[test]
fn duckdns_has_room_for_one_value_and_a_certificate_that_needs_two_is_not_ordered() {
    if lacks("duckdns_has_room_for_one_value_and_a_certificate_that_needs_two_is_not_ordered", false) {
        return;
    }
    let dns = NameServer::with(&["duckdns.org"]);
    let zone = dns.clone();
    let handler = move |asked: &Asked| {
        let query = asked.target.strip_prefix("/update?").unwrap();
        let of = |key: &str| {
            query.split('&').find_map(|pair| pair.strip_prefix(key)).unwrap_or_default().to_owned()
        };
        if of("token=") != SECRET.replace('=', "%3D") {
            return (200, "KO".to_owned());
        }
        let at = format!("_acme-challenge.{}.duckdns.org", of("domains="));
        zone.remove(&at, |_| true);
        if of("clear=").is_empty() {
            zone.add(&at, &of("txt="));
        }
        (200, "OK".to_owned())
    };
    let credentials = format!("token = \"{SECRET}\"\n");
    let home = by_provider("duckdns", &dns, &["*.home.duckdns.org"], &credentials, Arc::new(handler));
    assert_eq!(dns.all_texts(), []);
    // Names that were not validated before: Pebble reuses one authorization in a hundred even with PEBBLE_AUTHZREUSE=0.
    let both = std::fs::read_to_string(home.path("x.toml")).unwrap();
    let both = both.replace(r#"["*.home.duckdns.org"]"#, r#"["*.shed.duckdns.org", "shed.duckdns.org"]"#);
    // The host as well, which the certificate covers: for one of its own `renew` would wait for a record that this DNS does not show.
    let both = both.replace("socket.home.", "socket.shed.");
    std::fs::write(home.path("x.toml"), both).unwrap();
    let output = sanedge().arg("bundle").arg(home.path("x.toml")).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let (code, found, _) = home.failure();
    assert!(
        code == "acme-dns-one-value" && found.contains("_acme-challenge.shed.duckdns.org"),
        "{code} {found}"
    );
}

#[test]
fn a_wildcard_or_dns_01_without_a_provider_is_refused_with_what_to_add() {
    let folder = tempfile::tempdir().unwrap();
    let said = |acme: &str| {
        let toml = format!(
            "board = \"host\"\n[listen]\nhttps = [\"127.0.0.1:0\"]\n[acme]\nterms = \"agreed\"\n{acme}\n\
             [[site]]\nhosts = [\"socket.recre.store\"]\nupstream = [\"127.0.0.1:1\"]\n"
        );
        let path = folder.path().join("x.toml");
        std::fs::write(&path, toml).unwrap();
        std::fs::write(folder.path().join("dns.toml"), "").unwrap();
        text(&sanedge().arg("bundle").arg(&path).output().unwrap())
    };
    let dns = "[acme.dns]\nprovider = \"exec\"\ncredentials = \"dns.toml\"\n";
    let wildcard = "[[acme.certificate]]\nnames = [\"*.recre.store\"]";
    for acme in [wildcard, "challenge = \"dns-01\""] {
        let refused = said(acme);
        assert!(refused.contains("[acme.dns]") && refused.contains("error"), "{refused}");
    }
    for acme in [format!("{dns}{wildcard}"), format!("challenge = \"dns-01\"\n{dns}")] {
        let taken = said(&acme);
        assert!(!taken.contains("error"), "{taken}");
    }
    let refused = said(&format!("{dns}{wildcard}").replace("exec", "route53"));
    assert!(refused.contains("rfc2136") && refused.contains("exec"), "{refused}");
}

#[test]
fn a_resolver_that_fails_or_refuses_signatures_is_the_cause_and_no_other_ca_is_asked() {
    if lacks("a_resolver_that_fails_or_refuses_signatures_is_the_cause_and_no_other_ca_is_asked", false) {
        return;
    }
    let dns = NameServer::with(&[APEX]);
    let hook = tempfile::tempdir().unwrap();
    let script = hook.path().join("hook");
    program::script(&script, "#!/bin/sh\nexit 1\n");
    let home = Home::new(dns.address, "exec", &[APEX], &format!("program = {script:?}\n"));
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    other.set_nonblocking(true).unwrap();
    let toml = std::fs::read_to_string(home.path("x.toml")).unwrap();
    let fallback = format!(
        "[[acme.fallback]]\ndirectory = \"https://localhost:{}/dir\"\n[[acme.certificate]]",
        other.local_addr().unwrap().port()
    );
    std::fs::write(home.path("x.toml"), toml.replacen("[[acme.certificate]]", &fallback, 1)).unwrap();
    let output = sanedge().arg("bundle").arg(home.path("x.toml")).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    for (checked, code, says) in [
        (false, "acme-dns-servfail", "answered SERVFAIL for _acme-challenge.recre.store"),
        (true, "acme-dnssec", "without checking DNSSEC it has an answer"),
    ] {
        dns.recover();
        dns.fail(PLACE, checked);
        let (found, said, _) = home.failure();
        assert!(found == code && said.contains(says), "{found} {said}");
    }
    dns.recover();
    let (code, said, _) = home.failure();
    assert!(code == "acme-dns-failed" && said.contains("hook present"), "{code} {said}");
    let error = other.accept().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "the fallback is for faults of the CA alone");
}
