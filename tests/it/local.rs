//! `[local]`: a local CA. What it issues is accepted by real clients that trust it, and what somebody else makes with its key is
//! accepted by none.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use rcgen::{CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::Value;

use crate::support::HOST;
use crate::support::edge::{Desk, Edge, client_config, json, sanedge, text};
use crate::support::node::{has, skip};

const LOCAL: &str = "socket.home.arpa";
const NAS: &str = "nas.home.arpa";
const ADDRESS: &str = "127.0.0.1";
/// An `[acme]` that is asked for nothing: it names the folders.
const FOLDERS: &str = "[acme]\nterms = \"agreed\"\nstate = \"state\"\nchallenges = \"challenges\"\n";

/// A file with a host of a `[[certificate]]`, and `hosts` of the local CA, an address among them.
fn desk(hosts: &[&str], local: &str) -> Desk {
    let builder = Edge::certified_for(&[HOST]).site(&[HOST], "127.0.0.1:1");
    let sites = hosts.iter().fold(builder, |builder, host| builder.site(&[host], "127.0.0.1:1"));
    sites
        .listen(&format!("default_host = \"{}\"", hosts[0]))
        .limits(&format!("{FOLDERS}[local]\n{local}"))
        .write()
}

fn plan(desk: &Desk) -> PathBuf {
    desk.toml().with_extension("acme")
}

fn renew(desk: &Desk, words: &[&str]) -> Output {
    sanedge().arg("renew").arg(plan(desk)).args(words).output().unwrap()
}

fn renewed(desk: &Desk, words: &[&str]) {
    let output = renew(desk, words);
    assert!(output.status.success(), "{}", text(&output));
}

/// Bundled, with the certificate of the CA.
fn issued(hosts: &[&str], local: &str) -> Desk {
    let desk = desk(hosts, local);
    desk.bundled();
    renewed(&desk, &[]);
    desk
}

fn root(desk: &Desk) -> PathBuf {
    desk.path("local/ca.crt")
}

fn chain(desk: &Desk) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(desk.path("local/hosts.crt")).unwrap().map(Result::unwrap).collect()
}

/// The names of a certificate.
fn names(der: &CertificateDer<'_>) -> Vec<String> {
    use x509_parser::extensions::GeneralName;
    let (_, parsed) = x509_parser::parse_x509_certificate(der).unwrap();
    let names = parsed.subject_alternative_name().unwrap().unwrap();
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress(bytes) => format!("{bytes:?}"),
        other => panic!("{other:?}"),
    };
    names.value.general_names.iter().map(name).collect()
}

/// The certificate of the CA's issuer, and the CA itself with its key.
fn authority(desk: &Desk) -> (String, Issuer<'static, KeyPair>) {
    let text = fs::read_to_string(desk.path("local/ca.key")).unwrap();
    let issuer = text[text.find("-----BEGIN CERTIFICATE").unwrap()..]
        .split_inclusive("-----END CERTIFICATE-----\n")
        .next()
        .unwrap();
    (issuer.to_owned(), Issuer::from_ca_cert_pem(issuer, KeyPair::from_pem(&text).unwrap()).unwrap())
}

/// What a thief makes with the key of the CA: a certificate for `name`, with its key and the issuer.
fn stolen(desk: &Desk, name: &str) -> (String, String) {
    let (issuer, authority) = authority(desk);
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name = DistinguishedName::new();
    (params.not_before, params.not_after) =
        (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2036, 1, 1));
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    (format!("{}{issuer}", certificate.pem()), key.serialize_pem())
}

/// `openssl verify` as a client would.
fn openssl(desk: &Desk, chain: &Path) -> Output {
    let mut command = Command::new("openssl");
    command.args(["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile"]).arg(root(desk));
    command.arg("-untrusted").arg(chain).arg(chain).output().unwrap()
}

/// rustls with webpki, as a client would.
fn webpki(desk: &Desk, chain: &[CertificateDer<'static>], name: &str) -> Result<(), String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(root(desk)).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let verified = verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], UnixTime::now());
    verified.map(drop).map_err(|error| error.to_string())
}

/// Names inside and outside of a CA that was made for `LOCAL` and `ADDRESS`.
const INSIDE: [&str; 4] = [LOCAL, "home.arpa", "a.b.home.arpa", ADDRESS];
const OUTSIDE: [&str; 7] =
    ["recre.store", "nothome.arpa", "router.local", "127.0.0.2", "8.8.8.8", "::1", "2606:4700::1111"];

#[test]
fn what_a_thief_makes_with_the_key_for_another_name_is_refused() {
    const TEST: &str = "what_a_thief_makes_with_the_key_for_another_name_is_refused";
    let desk = issued(&[LOCAL, ADDRESS], "");
    let has_openssl = has("openssl", "version");
    if !has_openssl {
        skip(TEST, "openssl");
    }
    for (name, is_inside) in
        INSIDE.map(|name| (name, true)).into_iter().chain(OUTSIDE.map(|name| (name, false)))
    {
        let (pem, _) = stolen(&desk, name);
        let chain: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect();
        let seen = webpki(&desk, &chain, name);
        assert_eq!(seen.is_ok(), is_inside, "webpki on {name}: {seen:?}");
        let file = desk.path("stolen.pem");
        fs::write(&file, &pem).unwrap();
        if has_openssl {
            let seen = openssl(&desk, &file);
            assert_eq!(seen.status.success(), is_inside, "openssl on {name}: {}", text(&seen));
            assert!(is_inside || text(&seen).contains("subtree violation"), "{name}: {}", text(&seen));
        }
    }
    // A CA for one kind of name permits none of the other.
    for (host, other) in [(LOCAL, ADDRESS), (ADDRESS, LOCAL)] {
        let desk = issued(&[host], "");
        for (name, is_inside) in
            [(host, true), (other, false), ("192.0.2.1", false), ("::1", false), ("invalid.test", false)]
        {
            let (pem, _) = stolen(&desk, name);
            let chain: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect();
            assert_eq!(webpki(&desk, &chain, name).is_ok(), is_inside, "{host}: webpki on {name}");
            let file = desk.path("stolen.pem");
            fs::write(&file, &pem).unwrap();
            assert!(
                !has_openssl || openssl(&desk, &file).status.success() == is_inside,
                "{host}: openssl on {name}"
            );
        }
    }
}

/// Node's own client, with the CA as its documentation says; `server` is a chain and a key for a server of its own.
const NODE: &str = "
const tls = require('tls'), fs = require('fs');
const [name, port, chain, key] = process.argv.slice(1);
const ask = (port) => {
  const options = { host: '127.0.0.1', port, servername: /^[\\d.:]+$/.test(name) ? undefined : name,
    checkServerIdentity: (_, certificate) => tls.checkServerIdentity(name, certificate) };
  const socket = tls.connect(options, () => { console.log('authorized ' + socket.authorized); process.exit(0); });
  socket.on('error', (error) => { console.log(error.code || error.message); process.exit(0); });
};
if (chain) {
  const server = tls.createServer({ cert: fs.readFileSync(chain), key: fs.readFileSync(key) });
  server.on('tlsClientError', () => {});
  server.listen(0, '127.0.0.1', () => ask(server.address().port));
} else ask(Number(port));
";

fn node(desk: &Desk, trusts: bool, words: &[&str]) -> String {
    let mut command = Command::new("node");
    command.args(["-e", NODE, "--"]).args(words).env_remove("NODE_EXTRA_CA_CERTS");
    if trusts {
        command.env("NODE_EXTRA_CA_CERTS", root(desk));
    }
    let output = command.output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn node_accepts_what_the_edge_serves_and_refuses_what_a_thief_makes() {
    const TEST: &str = "node_accepts_what_the_edge_serves_and_refuses_what_a_thief_makes";
    if !has("node", "--version") {
        return skip(TEST, "node");
    }
    let edge = issued(&[LOCAL, ADDRESS], "").serve();
    let (desk, port) = (edge.desk(), edge.https.port().to_string());
    for name in [LOCAL, ADDRESS] {
        assert_eq!(node(desk, true, &[name, &port]), "authorized true", "{name}");
        assert_ne!(node(desk, false, &[name, &port]), "authorized true", "{name}, without the CA");
    }
    for (name, is_inside) in [(NAS, true), ("recre.store", false), ("127.0.0.2", false)] {
        let (chain, key) = stolen(desk, name);
        let [chain_file, key_file] = ["stolen.pem", "stolen.key"].map(|name| desk.path(name));
        fs::write(&chain_file, chain).unwrap();
        fs::write(&key_file, key).unwrap();
        let seen = node(desk, true, &[name, "0", chain_file.to_str().unwrap(), key_file.to_str().unwrap()]);
        assert_eq!(seen == "authorized true", is_inside, "{name}: {seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_and_rustls_connect_once_they_trust_it_and_hosts_of_other_certificates_are_untouched() {
    let edge = issued(&[LOCAL, ADDRESS], "").serve();
    let desk = edge.desk();
    edge.tls(HOST).await; // by the [[certificate]]
    let pem = fs::read_to_string(root(desk)).unwrap();
    for name in [LOCAL, ADDRESS] {
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client_config(&pem)));
        let stream = tokio::net::TcpStream::connect(edge.https).await.unwrap();
        connector.connect(ServerName::try_from(name).unwrap(), stream).await.unwrap();
    }
    if !has("curl", "--version") {
        return skip("curl_and_rustls_connect_once_they_trust_it", "curl");
    }
    let curl = |trusted: &[&str]| {
        let at = format!("{LOCAL}:{}", edge.https.port());
        let mut command = Command::new("curl");
        command.args([
            "-sS",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--resolve",
            &format!("{at}:127.0.0.1"),
        ]);
        command.args(trusted).arg(format!("https://{at}/")).output().unwrap()
    };
    let seen = curl(&["--cacert", root(desk).to_str().unwrap()]);
    assert_eq!(String::from_utf8_lossy(&seen.stdout), "502", "{}", text(&seen));
    assert_eq!(curl(&[]).status.code(), Some(60), "no device trusts it by itself");
}

/// The certificate of the hosts as it would be so many days after it was issued.
fn aged(desk: &Desk, days: i64) {
    let (issuer, authority) = authority(desk);
    let mut params = CertificateParams::new(names_of_toml(desk)).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let day = std::time::Duration::from_secs(86_400);
    let begin = rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(now)
        - day * u32::try_from(days).unwrap();
    (params.not_before, params.not_after) = (begin, begin + day * 90);
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().unwrap();
    let chain = format!("{}{issuer}", params.signed_by(&key, &authority).unwrap().pem());
    fs::write(desk.path("local/hosts.key"), key.serialize_pem() + &chain).unwrap();
    fs::write(desk.path("local/hosts.crt"), chain).unwrap();
}

fn names_of_toml(desk: &Desk) -> Vec<String> {
    let plan: Value = serde_json::from_slice(&fs::read(plan(desk)).unwrap()).unwrap();
    plan["local"]["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_certificate_is_renewed_when_it_is_due_and_the_edge_serves_it() {
    let edge = issued(&[LOCAL], "").serve();
    let desk = edge.desk();
    aged(desk, 59);
    let before = chain(desk);
    renewed(desk, &[]);
    assert_eq!(chain(desk), before, "not yet");
    aged(desk, 61);
    let before = chain(desk);
    let run = renew(desk, &["--json"]);
    let document = json(&run);
    assert_eq!(document["certificates"][0]["outcome"], "requested", "{document:#}");
    assert!(document["deployed"].as_str().is_some_and(|said| said.contains(LOCAL)), "{document:#}");
    assert_ne!(chain(desk), before);
    let served = edge.status();
    assert!(served["acme"]["certificates"][0]["names"][0] == LOCAL, "{served:#}");
    let document = json(&renew(desk, &["--json"]));
    assert_eq!(document["certificates"][0]["outcome"], "fine", "{document:#}");
    let told = &edge.status()["acme"]["certificates"][0];
    assert_eq!((&told["outcome"], told["next"].is_i64()), (&"fine".into(), true), "{told:#}");
    // Where somebody insists, it is made anew.
    let before = chain(desk);
    renewed(desk, &["--now"]);
    assert_ne!(chain(desk), before);
}

#[test]
fn no_ca_is_made_for_a_whole_top_level_domain() {
    for host in ["cloud", "board", "store"] {
        let desk = desk(&[host], "");
        let output = sanedge().args(["bundle"]).arg(desk.toml()).output().unwrap();
        assert!(!output.status.success(), "{}", text(&output));
        let said = text(&output);
        assert!(said.contains("a top-level domain") && said.contains(&format!("{host}.home.arpa")), "{said}");
    }
    for host in ["local", "cloud.local", "board.home.arpa"] {
        desk(&[host], "").bundled();
    }
}

#[test]
fn no_ca_is_made_for_a_file_that_was_not_taken_into_use() {
    let desk = desk(&[LOCAL], "");
    desk.bundled();
    let bundled = fs::read_to_string(desk.toml()).unwrap();
    fs::write(
        desk.toml(),
        format!("{bundled}\n[[site]]\nhosts = [\"{NAS}\"]\nupstream = [\"127.0.0.1:1\"]\n"),
    )
    .unwrap();
    // The user of `sanedge renew` can leave a mark at any time, and it starts the deployment.
    fs::create_dir_all(desk.path("state")).unwrap();
    fs::set_permissions(desk.path("state"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(desk.path("state/deploy"), "").unwrap();
    let said = text(&renew(&desk, &["--deploy"]));
    assert!(said.contains("has changed since `sanedge bundle`"), "{said}");
    assert!(!desk.path("local/ca.key").exists(), "{said}");
    desk.bundled();
    renewed(&desk, &[]);
    assert_eq!(names(&chain(&desk)[0]), [LOCAL, NAS]);
}

#[test]
fn a_later_host_gets_its_certificate_and_one_outside_is_told_and_keeps_no_other_out() {
    let edge = issued(&[LOCAL], "").serve();
    let desk = edge.desk();
    let add = |host: &str, keys: &str| {
        let more = format!("\n[[site]]\nhosts = [\"{host}\"]\nupstream = [\"127.0.0.1:1\"]\n{keys}\n");
        fs::write(desk.toml(), fs::read_to_string(desk.toml()).unwrap() + &more).unwrap();
        let output = sanedge().arg("apply").arg(desk.toml()).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    };
    let ca = fs::read(root(desk)).unwrap();
    assert!(add(NAS, "").contains("+ certificate of the local CA for nas.home.arpa"));
    renewed(desk, &[]);
    assert_eq!(names(&chain(desk)[0]), [LOCAL, NAS]);
    assert_eq!(fs::read(root(desk)).unwrap(), ca, "devices trust it already");

    add("game.recre.store", "local = true");
    let run = renew(desk, &["--json"]);
    let document = json(&run);
    assert_eq!(run.status.code(), Some(3), "{document:#}");
    let refused =
        document["certificates"].as_array().unwrap().iter().find(|row| row["outcome"] == "failed").unwrap();
    assert_eq!(refused["failure"]["code"], "local-not-permitted", "{document:#}");
    assert!(refused["failure"]["remedy"].as_str().unwrap().contains("sudo sanedge local replace"));
    assert_eq!(names(&chain(desk)[0]), [LOCAL, NAS], "and never its name");
    let told = edge.status();
    assert!(
        told["acme"]["certificates"]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["failure"]["code"] == "local-not-permitted")
    );

    let local =
        |words: &[&str]| sanedge().arg("local").args(words).arg("--acme").arg(plan(desk)).output().unwrap();
    let asked = local(&["replace"]);
    assert_eq!(
        (asked.status.code(), fs::read(root(desk)).unwrap() == ca),
        (Some(1), true),
        "{}",
        text(&asked)
    );
    let replaced = local(&["replace", "--yes"]);
    assert!(replaced.status.success(), "{}", text(&replaced));
    assert_ne!(fs::read(root(desk)).unwrap(), ca);
    assert_eq!(names(&chain(desk)[0]), [LOCAL, NAS, "game.recre.store"]);
    renewed(desk, &[]);
    assert!(webpki(desk, &chain(desk), "game.recre.store").is_ok());
    let shown = json(&local(&["show", "--json"]));
    assert_eq!(shown["permitted"], serde_json::json!(["home.arpa", "game.recre.store"]), "{shown:#}");
    // A host that is gone leaves the certificate.
    let removed = sanedge().args(["site", "remove", NAS, "--file"]).arg(desk.toml()).output().unwrap();
    assert!(removed.status.success(), "{}", text(&removed));
    renewed(desk, &[]);
    assert_eq!(names(&chain(desk)[0]), [LOCAL, "game.recre.store"]);
}

// --- what is said of it -----------------------------------------------------------------------------------------------

/// The checks of the doctor, of one host.
fn doctor(words: &[&str]) -> Vec<Value> {
    let output = sanedge()
        .args(["doctor", "--json", "--resolve", &format!("{LOCAL}:127.0.0.1")])
        .args(words)
        .output()
        .unwrap();
    let report = json(&output);
    crate::support::doctor_schema::holds(&report);
    let sections = report["sections"].as_array().unwrap().iter().filter(|section| section["kind"] == "host");
    let of_host = |section: &&Value| section["subject"].as_str().unwrap().contains(LOCAL);
    sections.filter(of_host).flat_map(|section| section["checks"].as_array().unwrap().clone()).collect()
}

fn codes(checks: &[Value]) -> Vec<&str> {
    checks.iter().filter_map(|check| check["code"].as_str()).collect()
}

fn said_by<'c>(checks: &'c [Value], code: &str) -> &'c Value {
    checks.iter().find(|check| check["code"] == code).unwrap_or_else(|| panic!("{code}: {checks:#?}"))
}

#[test]
fn the_doctor_names_the_way_to_trust_it_and_not_another_ca() {
    let edge = issued(&[LOCAL], "").serve();
    let desk = edge.desk();
    let url = format!("https://{LOCAL}:{}", edge.https.port());
    let untrusted = doctor(&[&url]);
    let found = said_by(&untrusted, "local-untrusted");
    assert!(found["text"].as_str().unwrap().contains("sanedge local show"), "{found:#}");
    let all = serde_json::to_string(&untrusted).unwrap();
    assert!(!all.contains("certbot") && !all.contains("mkcert") && !all.contains("tls-unknown-ca"), "{all}");
    let old = desk.path("old.crt");
    fs::copy(root(desk), &old).unwrap();
    let trusted = doctor(&["--ca", old.to_str().unwrap(), &url]);
    assert!(
        !codes(&trusted).iter().any(|code| code.starts_with("local-") || code.starts_with("tls-")),
        "{trusted:#?}"
    );
    let text = serde_json::to_string(&trusted).unwrap();
    assert!(text.contains("issued by the local CA (sanedge local CA "), "{text}");
    let replaced = sanedge().args(["local", "replace", "--yes", "--acme"]).arg(plan(desk)).output().unwrap();
    assert!(replaced.status.success(), "{}", crate::support::edge::text(&replaced));
    let after = doctor(&["--ca", old.to_str().unwrap(), &url]);
    let found = said_by(&after, "local-replaced");
    assert!(found["evidence"].to_string().contains("sanedge local CA "), "{found:#}");
    let now = doctor(&["--ca", root(desk).to_str().unwrap(), &url]);
    assert!(!codes(&now).contains(&"local-replaced"), "{now:#?}");
}

/// A TLS server with this chain and key, until the test process ends.
fn serving(chain: &str, key: &str) -> u16 {
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap).collect();
    let key = rustls_pki_types::PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            std::thread::spawn(move || {
                use std::io::{Read as _, Write as _};
                let mut stream = rustls::StreamOwned::new(connection, stream);
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream
                    .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            });
        }
    });
    port
}

#[test]
fn the_doctor_says_what_renews_a_certificate_that_has_ended_or_is_about_to() {
    let desk = issued(&[LOCAL], "");
    let ca = root(&desk);
    for (days, code) in [(91, Some("local-expired")), (85, Some("local-due")), (10, None)] {
        aged(&desk, days);
        let chain = fs::read_to_string(desk.path("local/hosts.crt")).unwrap();
        let port = serving(&chain, &fs::read_to_string(desk.path("local/hosts.key")).unwrap());
        let checks = doctor(&["--ca", ca.to_str().unwrap(), &format!("https://{LOCAL}:{port}")]);
        let found: Vec<&str> = codes(&checks)
            .into_iter()
            .filter(|code| code.starts_with("local-") || code.starts_with("tls-e"))
            .collect();
        assert_eq!(found, code.into_iter().collect::<Vec<_>>(), "{days}: {checks:#?}");
        if let Some(code) = code {
            let found = said_by(&checks, code);
            assert!(found["text"].as_str().unwrap().contains("sudo sanedge renew --now"), "{found:#}");
        }
    }
}

#[test]
fn status_page_and_doctor_name_the_issuer_the_days_and_the_next_renewal() {
    let edge = issued(&[LOCAL], "").serve();
    let desk = edge.desk();
    renewed(desk, &[]);
    let status = edge.status();
    let told = &status["acme"]["certificates"][0];
    assert_eq!(
        (
            &told["directory"],
            &told["staging"],
            &told["outcome"],
            told["next"].is_i64(),
            told["not_after"].is_i64()
        ),
        (&"the local CA".into(), &false.into(), &"fine".into(), true, true),
        "{told:#}"
    );
    let shown = text(&desk.ask(&["status"]));
    let line = shown.lines().find(|line| line.contains("the local CA")).unwrap_or_else(|| panic!("{shown}"));
    assert!(line.contains(LOCAL) && line.contains("fine") && line.contains("two thirds"), "{line}");
    let host = shown.lines().find(|line| line.starts_with(LOCAL)).unwrap_or_else(|| panic!("{shown}"));
    assert!(host.contains("89 d") || host.contains("90 d") || host.contains("89"), "{host}");
    // The file names the CA: the doctor trusts what it names.
    let checks = doctor(&[desk.bundle_file().to_str().unwrap()]);
    let renewal =
        checks.iter().find(|check| check["group"] == "renewal").unwrap_or_else(|| panic!("{checks:#?}"));
    let said = renewal["text"].as_str().unwrap();
    for part in ["the local CA", "89 days left", "next renewal", "two thirds"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("letsencrypt") && !said.contains("profile"), "{said}");
}

#[test]
fn account_and_revoke_say_that_the_ca_here_has_neither() {
    let desk = issued(&[LOCAL], "");
    let run = |words: &[&str]| sanedge().args(words).arg("--acme").arg(plan(&desk)).output().unwrap();
    let shown = run(&["account", "show"]);
    assert!(shown.status.success() && text(&shown).contains("no account"), "{}", text(&shown));
    assert!(!text(&shown).contains("letsencrypt"), "{}", text(&shown));
    let shown = json(&run(&["account", "show", "--json"]));
    assert_eq!((&shown["ok"], &shown["accounts"]), (&true.into(), &serde_json::json!([])));
    for action in [&["account", "rollover"][..], &["account", "dns-records"]] {
        let refused = run(action);
        assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
        assert!(text(&refused).contains("sanedge local show"), "{action:?}: {}", text(&refused));
    }
    let before = chain(&desk);
    let refused = run(&["revoke", LOCAL]);
    assert_eq!(refused.status.code(), Some(1));
    for part in [&format!("sudo sanedge renew --now --host {LOCAL}"), "sudo sanedge local replace"] {
        assert!(text(&refused).contains(part), "{}", text(&refused));
    }
    assert_eq!(chain(&desk), before);
    assert_eq!(json(&run(&["revoke", LOCAL, "--json"]))["code"], "local-host");
}

#[test]
fn keys_that_others_can_read_are_a_failure_that_everybody_sees_with_the_command() {
    let edge = issued(&[LOCAL], "").serve();
    let desk = edge.desk();
    let key = desk.path("local/hosts.key");
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let run = renew(desk, &["--json"]);
    let document = json(&run);
    assert_eq!((run.status.code(), &document["code"]), (Some(1), &"local-files".into()), "{document:#}");
    let command = format!("sudo chmod 600 {}", key.display());
    let failure = &document["certificates"][0]["failure"];
    assert!(failure["found"].as_str().unwrap().contains(&command), "{document:#}");
    let told = &edge.status()["acme"]["certificates"][0]["failure"];
    assert!(told["found"].as_str().unwrap().contains("sudo chmod 600"), "{told:#}");
    let shown = text(&sanedge().args(["local", "show", "--acme"]).arg(plan(desk)).output().unwrap());
    assert!(shown.contains(&command), "{shown}");
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    renewed(desk, &[]);
}

#[test]
fn a_folder_where_the_packaged_deployment_may_not_write_is_a_warning() {
    let findings = |place: &str, folder: &str| {
        let text = format!(
            "board = \"host\"\n[local]\nfolder = \"{folder}\"\n[[site]]\nhosts = [\"{LOCAL}\"]\nupstream = [\"127.0.0.1:1\"]\n"
        );
        let outcome = sanedge::bundle::compile::compile_text(Path::new(place), &text, 1_800_000_000);
        let found = outcome.findings.into_iter();
        found
            .filter(|finding| finding.code == sanedge::bundle::finding::Code::LocalFolder)
            .collect::<Vec<_>>()
    };
    for outside in ["/srv/ca", "/etc/ca", "/var/lib/sanedge-acme/ca", "/etc/sanedge2/ca"] {
        let found = findings("/etc/sanedge/sanedge.toml", outside);
        assert_eq!(found.len(), 1, "{outside}");
        assert!(found[0].remedy.contains(&format!("ReadWritePaths=-{outside}")), "{:?}", found[0]);
    }
    let key = "MC4CAQAwBQYDK2VwBCIEIOB4yvQh9ZrTkWm3xN8sJ0LpFcUa5dGe7HtXi1RnSbK6";
    for finding in findings("/etc/sanedge/sanedge.toml", &format!("/srv/{key}")) {
        let all = [finding.message, finding.expected, finding.found, finding.remedy].concat();
        assert!(!key.as_bytes().windows(16).any(|part| all.contains(str::from_utf8(part).unwrap())), "{all}");
    }
    for (place, folder) in [
        ("/etc/sanedge/sanedge.toml", "local"),
        ("/etc/sanedge/sanedge.toml", "/etc/sanedge/ca"),
        ("/srv/edge/sanedge.toml", "/srv/ca"),
    ] {
        assert!(findings(place, folder).is_empty(), "{place} {folder}");
    }
}

/// `sanedge-acme`, `sanedge`, and a third user, by numbers that no package takes.
const ACME: u32 = 64_011;
const EDGE: u32 = 64_012;

#[test]
fn who_asks_has_no_say_in_what_is_issued_and_reads_no_key() {
    const TEST: &str = "who_asks_has_no_say_in_what_is_issued_and_reads_no_key";
    if !rustix::process::geteuid().is_root() {
        return skip(TEST, "root: it runs each part as its own user");
    }
    let desk = desk(&[LOCAL], "");
    desk.bundled();
    for (name, group, mode) in [("state", ACME, 0o700), ("challenges", EDGE, 0o750)] {
        fs::create_dir_all(desk.path(name)).unwrap();
        chown(desk.path(name), Some(ACME), Some(group)).unwrap();
        fs::set_permissions(desk.path(name), Permissions::from_mode(mode)).unwrap();
    }
    chown(desk.path("."), Some(0), Some(EDGE)).unwrap();
    fs::set_permissions(desk.path("."), Permissions::from_mode(0o751)).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_sanedge"), desk.path("sanedge")).unwrap();
    let as_user = |user: u32, program: &Path| {
        let mut command = Command::new(program);
        command.uid(user).gid(user).env_remove("SANEDGE_DUMPABLE").current_dir("/");
        command
    };
    let ask = || {
        let output = as_user(ACME, &desk.path("sanedge")).arg("renew").arg(plan(&desk)).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    };
    let deploy = || {
        let mut command = Command::new("sh");
        // As the unit's UMask=.
        let output = command
            .args(["-c", "umask 0077; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_sanedge"), "renew", "--deploy"])
            .arg(plan(&desk))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output));
    };
    let mark = desk.path("state/deploy");
    assert!(ask().contains(&format!("{LOCAL}: requested")) && mark.exists(), "it asks, and cannot do it");
    assert!(!desk.path("local").exists());
    // The one that asks adds what it likes: a certificate of its own for a host, other names, and something to sign.
    let (own, _) = (rcgen::generate_simple_self_signed(vec![LOCAL.to_owned()]).unwrap(), ());
    let planted = format!("{}{}", own.signing_key.serialize_pem(), own.cert.pem());
    for (name, content) in [
        ("certificates/socket.home.arpa.pem", &*planted),
        ("deploy", "recre.store\nevil.home.arpa\n"),
        ("local", "evil.home.arpa"),
    ] {
        fs::create_dir_all(desk.path("state/certificates")).unwrap();
        fs::write(desk.path("state").join(name), content).unwrap();
        chown(desk.path("state").join(name), Some(ACME), Some(ACME)).unwrap();
        fs::set_permissions(desk.path("state").join(name), Permissions::from_mode(0o600)).unwrap();
    }
    deploy();
    assert_eq!(names(&chain(&desk)[0]), [LOCAL]);
    assert_ne!(chain(&desk)[0], *own.cert.der());
    assert!(!mark.exists() && ask().contains("fine, valid until"), "and sees that it is done");
    // x.acme is root's, too; nothing but the file counts even so.
    let edited = fs::read_to_string(plan(&desk))
        .unwrap()
        .replace("\"socket.home.arpa\"", "\"socket.home.arpa\", \"evil.home.arpa\"");
    fs::write(plan(&desk), edited).unwrap();
    assert!(ask().contains("requested"));
    deploy();
    assert_eq!(names(&chain(&desk)[0]), [LOCAL]);

    let can = |user: u32, name: &str| {
        let mut command = as_user(user, Path::new("cat"));
        command.arg(desk.path(name)).output().unwrap().status.success()
    };
    for (name, is_public) in [
        ("local/ca.key", false),
        ("local/hosts.key", false),
        ("local/ca.crt", true),
        ("local/hosts.crt", true),
    ] {
        let about = fs::metadata(desk.path(name)).unwrap();
        assert_eq!((about.uid(), about.gid() == EDGE), (0, false), "{name}");
        assert_eq!(about.mode() & 0o777, if is_public { 0o644 } else { 0o600 }, "{name}");
        for user in [ACME, EDGE] {
            assert_eq!(can(user, name), is_public, "{user} {name}");
        }
    }
    assert!(!can(ACME, "sanedge.bundle"), "nor that of the bundle");
}
