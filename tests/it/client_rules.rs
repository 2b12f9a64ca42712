//! Certificates as openssl makes them: what strict clients refuse is warned of, conversions that are advised work, and of a
//! chain with more than is needed the right path is served. The real `openssl` and Python are asked the same.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::edge::{sanedge, text};
use crate::support::node::{has, skip};
use sanedge::bundle::Bundle;

const SOURCE: &str = r#"board = "rpi4"
trust = "ca.pem"

[listen]
https = ["[::]:443"]

[[certificate]]
chain = "cert.pem"
key = "key.pem"

[[site]]
hosts = ["localhost"]
upstream = ["127.0.0.1:3000"]
"#;

const CA: &str =
    "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n";
const LEAF: &str = "subjectAltName=DNS:localhost\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n\
                    extendedKeyUsage=serverAuth\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";

/// A folder in which openssl works.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        desk.write("sanedge.toml", SOURCE);
        desk.key("ca", "EC -pkeyopt ec_paramgen_curve:P-256");
        desk.key("key", "EC -pkeyopt ec_paramgen_curve:P-256");
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn shell(&self, command: &str) -> Output {
        Command::new("sh").args(["-c", command]).current_dir(self.0.path()).output().unwrap()
    }

    fn run(&self, command: &str) {
        let output = self.shell(command);
        assert!(output.status.success(), "{command}\n{}", text(&output));
    }

    /// NAME.pem's private key.
    fn key(&self, name: &str, algorithm: &str) {
        self.run(&format!("umask 077; openssl genpkey -algorithm {algorithm} -out {name}.pem"));
        if name != "key" {
            std::fs::rename(self.path(&format!("{name}.pem")), self.path(&format!("{name}.key"))).unwrap();
        }
    }

    /// OUT.pem for the key in KEY, signed by `issuer` (itself where that is the same), with these extensions.
    fn sign(&self, out: &str, subject: &str, key: &str, issuer: &str, extensions: &str, more: &str) {
        self.write("ext", extensions);
        let by = if issuer == out {
            format!("-signkey {key}")
        } else {
            format!("-CA {issuer}.pem -CAkey {issuer}.key")
        };
        self.run(&format!(
            "openssl req -new -key {key} -subj '{subject}' -out csr && openssl x509 -req -in csr {by} -days 90 -set_serial \
             0x$(openssl rand -hex 8 | sed 's/^./5/') -extfile ext {more} -out {out}.pem"
        ));
    }

    fn root(&self, extensions: &str) {
        self.sign("ca", "/CN=Home CA", "ca.key", "ca", extensions, "");
    }

    fn leaf(&self, extensions: &str, more: &str) {
        self.sign("cert", "/CN=localhost", "key.pem", "ca", extensions, more);
    }

    fn bundle(&self) -> Output {
        sanedge().args(["bundle", "--json"]).arg(self.path("sanedge.toml")).output().unwrap()
    }

    /// The findings by code, and the whole of what was said.
    fn findings(&self) -> (Vec<String>, serde_json::Value) {
        let output = self.bundle();
        let json: serde_json::Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
        let said = json.to_string();
        for rust in ["Context", "InvalidKey", "Unsupported", "General(", "Err(", "{ "] {
            assert!(!said.contains(rust), "Rust's debug output: {said}");
        }
        let codes =
            json["findings"].as_array().unwrap().iter().map(|f| f["code"].as_str().unwrap().to_owned());
        (codes.collect(), json)
    }

    fn finding(&self, code: &str) -> serde_json::Value {
        let (codes, json) = self.findings();
        let found = json["findings"].as_array().unwrap().iter().find(|finding| finding["code"] == code);
        found.unwrap_or_else(|| panic!("no {code} but {codes:?}")).clone()
    }

    /// The commands in a remedy, each on a line of its own.
    fn commands(finding: &serde_json::Value) -> Vec<String> {
        let lines = finding["remedy"].as_str().unwrap().lines();
        lines.filter_map(|line| line.strip_prefix("  ")).map(str::to_owned).collect()
    }

    /// Subjects of what the bundle serves, the host's own first.
    fn served(&self) -> Vec<Vec<u8>> {
        let bundle = Bundle::open(&self.path("sanedge.bundle")).unwrap();
        bundle.certificates[0].key.cert.iter().map(|der| der.to_vec()).collect()
    }

    fn der(&self, name: &str) -> Vec<u8> {
        let output = self.shell(&format!("openssl x509 -in {name}.pem -outform DER"));
        output.stdout
    }
}

fn ready(test: &str) -> bool {
    has("openssl", "version") || {
        skip(test, "it needs openssl");
        false
    }
}

/// What Python 3.13 does by default.
fn python_says(desk: &Desk) -> bool {
    let script = "
import ssl, socket, threading
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server.load_cert_chain('cert.pem', 'key.pem')
listener = socket.create_server(('127.0.0.1', 0))
def serve():
    try: server.wrap_socket(listener.accept()[0], server_side=True).recv(1)
    except Exception: pass
threading.Thread(target=serve, daemon=True).start()
client = ssl.create_default_context(cafile='ca.pem')
client.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
client.wrap_socket(socket.create_connection(listener.getsockname()), server_hostname='localhost')
";
    desk.write("strict.py", script);
    desk.shell("python3 strict.py").status.success()
}

#[test]
fn strict_clients_and_the_warning_agree() {
    let test = "strict_clients_and_the_warning_agree";
    if !ready(test) {
        return;
    }
    let without = |text: &str, line: &str| {
        text.lines().filter(|l| !l.starts_with(line)).map(|l| format!("{l}\n")).collect::<String>()
    };
    let rows = [
        ("nothing", CA.to_owned(), LEAF.to_owned(), true),
        ("a CA without keyUsage", without(CA, "keyUsage"), LEAF.to_owned(), false),
        (
            "a CA without subjectKeyIdentifier",
            without(CA, "subjectKey") + "subjectKeyIdentifier=none\n",
            without(LEAF, "authority") + "authorityKeyIdentifier=none\n",
            false,
        ),
        (
            "basicConstraints not critical",
            CA.replace("basicConstraints=critical,", "basicConstraints="),
            LEAF.to_owned(),
            false,
        ),
        (
            "no authorityKeyIdentifier",
            CA.to_owned(),
            without(LEAF, "authority") + "authorityKeyIdentifier=none\n",
            false,
        ),
        (
            "no subjectKeyIdentifier on the leaf, which is no CA",
            CA.to_owned(),
            without(LEAF, "subjectKey") + "subjectKeyIdentifier=none\n",
            true,
        ),
        ("keyUsage not critical", CA.replace("keyUsage=critical,", "keyUsage="), LEAF.to_owned(), true),
        (
            "keyCertSign on the leaf",
            CA.to_owned(),
            LEAF.replace("digitalSignature", "digitalSignature,keyCertSign"),
            false,
        ),
        ("a path length", CA.replace("CA:TRUE", "CA:TRUE,pathlen:0"), LEAF.to_owned(), true),
        ("no keyUsage on the leaf", CA.to_owned(), without(LEAF, "keyUsage"), true),
    ];
    for (what, ca, leaf, good) in rows {
        let desk = Desk::new();
        desk.root(&ca);
        desk.leaf(&leaf, "");
        let openssl = desk.shell("openssl verify -x509_strict -CAfile ca.pem cert.pem");
        assert_eq!(openssl.status.success(), good, "{what}: openssl says {}", text(&openssl));
        if has("python3", "--version") {
            assert_eq!(python_says(&desk), good, "{what}: Python");
        }
        let (codes, json) = desk.findings();
        assert_eq!(!codes.contains(&"strict-clients".to_owned()), good, "{what}: {json:#}");
        assert!(desk.path("sanedge.bundle").exists(), "{what}: it is a warning");
        if !good {
            // What is advised makes it good.
            let lines = Desk::commands(&desk.finding("strict-clients"));
            assert!(!lines.is_empty(), "{what}");
            desk.root(CA);
            desk.leaf(LEAF, "");
            for line in lines {
                let line = line.replace(" ", "");
                assert!(CA.contains(&line) || LEAF.contains(&line), "{what}: {line}");
            }
            assert!(desk.findings().0.is_empty(), "{what}");
        }
    }
}

#[test]
fn a_ca_that_openssl_refuses_is_refused_here() {
    let test = "a_ca_that_openssl_refuses_is_refused_here";
    if !ready(test) {
        return;
    }
    let inter = format!("{CA}authorityKeyIdentifier=keyid\n");
    let no_usage = |text: &str| text.replace("keyCertSign,cRLSign", "digitalSignature,cRLSign");
    let rows = [
        ("nothing", CA.to_owned(), inter.clone(), true),
        ("a root without keyCertSign", no_usage(CA), inter.clone(), false),
        ("an intermediate without keyCertSign", CA.to_owned(), no_usage(&inter), false),
        ("a root that is no CA", CA.replace("CA:TRUE", "CA:FALSE"), inter.clone(), false),
        ("a root without basicConstraints", "subjectKeyIdentifier=hash\n".to_owned(), inter.clone(), false),
        ("a root that permits no CA below", CA.replace("CA:TRUE", "CA:TRUE,pathlen:0"), inter.clone(), false),
        ("a root that permits one", CA.replace("CA:TRUE", "CA:TRUE,pathlen:1"), inter.clone(), true),
        (
            "an intermediate that permits none",
            CA.to_owned(),
            inter.replace("CA:TRUE", "CA:TRUE,pathlen:0"),
            true,
        ),
        ("a root of X.509 version 1", String::new(), inter.clone(), true),
    ];
    for (what, root, inter, good) in rows {
        let desk = Desk::new();
        desk.key("inter", "EC -pkeyopt ec_paramgen_curve:P-256");
        if root.is_empty() {
            desk.run("openssl req -new -key ca.key -subj '/CN=Home CA' -out csr && openssl x509 -req -in csr -signkey ca.key -out ca.pem");
        } else {
            desk.root(&root);
        }
        desk.sign("inter", "/CN=Between", "inter.key", "ca", &inter.replace("keyid", "keyid,issuer"), "");
        desk.sign("leaf", "/CN=localhost", "key.pem", "inter", LEAF, "");
        desk.write("cert.pem", desk.read("leaf.pem") + &desk.read("inter.pem"));
        let openssl = desk.shell("openssl verify -CAfile ca.pem -untrusted inter.pem leaf.pem");
        assert_eq!(openssl.status.success(), good, "{what}: openssl says {}", text(&openssl));
        let (codes, json) = desk.findings();
        assert_eq!(!codes.contains(&"chain-refused".to_owned()), good, "{what}: {json:#}");
        assert_eq!(desk.path("sanedge.bundle").exists(), good, "{what}: {json:#}");
    }
}

#[test]
fn a_key_that_only_our_library_refuses_is_converted_by_the_command_that_is_advised() {
    let test = "a_key_that_only_our_library_refuses_is_converted_by_the_command_that_is_advised";
    if !ready(test) {
        return;
    }
    for (what, make, says) in [
        (
            "SEC1 without public half",
            "openssl ec -in key.pem -no_public -out odd.pem",
            "without its public half",
        ),
        (
            "PKCS #8 without public half",
            "openssl ec -in key.pem -no_public -out sec1.pem && openssl pkcs8 -topk8 -nocrypt -in sec1.pem -out odd.pem",
            "without its public half",
        ),
        (
            "SEC1 with explicit parameters",
            "openssl ec -in key.pem -param_enc explicit -out odd.pem",
            "explicit curve parameters",
        ),
        (
            "PKCS #8 with explicit parameters",
            "openssl pkey -in key.pem -ec_param_enc explicit -out odd.pem",
            "explicit curve parameters",
        ),
    ] {
        let desk = Desk::new();
        desk.root(CA);
        desk.leaf(LEAF, "");
        assert!(desk.findings().0.is_empty(), "the healthy twin");
        desk.run(&format!("umask 077; {make}"));
        desk.write("sanedge.toml", SOURCE.replace("key.pem", "odd.pem"));
        let finding = desk.finding("key-unsupported");
        let found = finding["found"].as_str().unwrap();
        assert!(found.contains(says) && found.contains("ring"), "{what}: {finding:#}");
        assert!(
            !finding.to_string().contains("certbot"),
            "{what}: nothing has to be issued again: {finding:#}"
        );
        let [command] = Desk::commands(&finding).try_into().unwrap();
        desk.run(&command);
        let new = command.rsplit(' ').next().unwrap();
        desk.write("sanedge.toml", SOURCE.replace("key.pem", new));
        assert!(desk.findings().0.is_empty(), "{what}: {command}");
        let mode = std::os::unix::fs::PermissionsExt::mode(&Path::new(new).metadata().unwrap().permissions());
        assert_eq!(mode & 0o077, 0, "{what}: others may read the new key");
    }
}

#[test]
fn a_key_that_nothing_converts_is_to_be_replaced() {
    let test = "a_key_that_nothing_converts_is_to_be_replaced";
    if !ready(test) {
        return;
    }
    for (what, algorithm, code, says) in [
        (
            "e = 3",
            "RSA -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_keygen_pubexp:3",
            "key-unsupported",
            "public exponent 3",
        ),
        (
            "three primes",
            "RSA -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_keygen_primes:3",
            "key-unsupported",
            "more than two primes",
        ),
        ("P-521", "EC -pkeyopt ec_paramgen_curve:P-521", "key-unsupported", "P-521"),
        ("Ed448", "ED448", "key-unsupported", "Ed448"),
    ] {
        let desk = Desk::new();
        desk.root(CA);
        desk.key("key", algorithm);
        desk.leaf(LEAF, "");
        let finding = desk.finding(code);
        let found = finding["found"].as_str().unwrap();
        assert!(found.contains(says) && found.contains("ring"), "{what}: {finding:#}");
        let commands = Desk::commands(&finding);
        assert!(commands.iter().all(|command| command.starts_with("certbot")), "{what}: {commands:?}");
    }
    // The curve in numbers also in the certificate: a new key and a new certificate.
    let desk = Desk::new();
    desk.root(CA);
    desk.run("openssl pkey -in key.pem -ec_param_enc explicit -out odd.pem && mv odd.pem key.pem && chmod 600 key.pem");
    desk.leaf(LEAF, "");
    let finding = desk.finding("key-unsupported");
    assert!(finding["found"].as_str().unwrap().contains("explicit curve parameters"), "{finding:#}");
    let [command] = Desk::commands(&finding).try_into().unwrap();
    desk.run(&command);
    std::fs::rename(command.rsplit(' ').next().unwrap(), desk.path("key.pem")).unwrap();
    desk.leaf(LEAF, "");
    assert!(desk.findings().0.is_empty());
}

#[test]
fn a_chain_that_only_our_library_cannot_check_is_a_warning_and_the_command_checks_it() {
    let test = "a_chain_that_only_our_library_cannot_check_is_a_warning_and_the_command_checks_it";
    if !ready(test) {
        return;
    }
    for (what, algorithm, hash, says) in [
        ("P-521", "EC -pkeyopt ec_paramgen_curve:P-521", "-sha256", Some("P-521")),
        ("P-256 with SHA-512", "EC -pkeyopt ec_paramgen_curve:P-256", "-sha512", Some("ECDSA with SHA-512")),
        ("P-384 with SHA-512", "EC -pkeyopt ec_paramgen_curve:P-384", "-sha512", Some("ECDSA with SHA-512")),
        ("P-256 with SHA-224", "EC -pkeyopt ec_paramgen_curve:P-256", "-sha224", Some("ECDSA with SHA-224")),
        ("brainpool", "EC -pkeyopt ec_paramgen_curve:brainpoolP256r1", "-sha256", Some("brainpoolP256r1")),
        ("Ed448", "ED448", "", Some("Ed448")),
        ("RSA with e = 3", "RSA -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_keygen_pubexp:3", "-sha256", None),
        ("P-384 with SHA-256", "EC -pkeyopt ec_paramgen_curve:P-384", "-sha256", None),
        ("Ed25519", "ED25519", "", None),
    ] {
        let desk = Desk::new();
        desk.key("ca", algorithm);
        desk.root(CA);
        desk.leaf(LEAF, hash);
        let (codes, json) = desk.findings();
        assert_eq!(
            codes,
            says.map(|_| "chain-unverified".to_owned()).into_iter().collect::<Vec<_>>(),
            "{what}: {json:#}"
        );
        assert!(desk.path("sanedge.bundle").exists(), "{what}: a warning");
        let Some(says) = says else { continue };
        let finding = desk.finding("chain-unverified");
        assert!(finding["found"].as_str().unwrap().contains(says), "{what}: {finding:#}");
        let [command] = Desk::commands(&finding).try_into().unwrap();
        desk.run(&command);
        // Through an intermediate as well, which is where the unknown kind is then.
        desk.key("inter", algorithm);
        desk.key("ca", "EC -pkeyopt ec_paramgen_curve:P-256");
        desk.root(CA);
        let inter = format!("{CA}authorityKeyIdentifier=keyid\n");
        desk.sign("inter", "/CN=Between", "inter.key", "ca", &inter, "");
        desk.sign("leaf", "/CN=localhost", "key.pem", "inter", LEAF, hash);
        desk.write("cert.pem", desk.read("leaf.pem") + &desk.read("inter.pem"));
        assert_eq!(desk.findings().0, ["chain-unverified"], "{what}: {:#}", desk.findings().1);
        let [command] = Desk::commands(&desk.finding("chain-unverified")).try_into().unwrap();
        desk.run(&command);
        // Not plausible: what signed it is no CA.
        desk.sign("inter", "/CN=Between", "inter.key", "ca", &LEAF.replace("localhost", "between"), "");
        desk.write("cert.pem", desk.read("leaf.pem") + &desk.read("inter.pem"));
        assert!(desk.findings().0.contains(&"chain-refused".to_owned()), "{what}: {:#}", desk.findings().1);
    }
}

#[test]
fn of_a_chain_with_more_than_is_needed_the_shortest_valid_path_is_served() {
    let test = "of_a_chain_with_more_than_is_needed_the_shortest_valid_path_is_served";
    if !ready(test) {
        return;
    }
    let desk = Desk::new();
    let below = format!("{CA}authorityKeyIdentifier=keyid\n");
    desk.root(CA);
    desk.key("inter", "EC -pkeyopt ec_paramgen_curve:P-256");
    desk.sign("inter", "/CN=Between", "inter.key", "ca", &below, "");
    desk.sign("leaf", "/CN=localhost", "key.pem", "inter", LEAF, "");
    // Another root, what it says of ours, and a namesake of the intermediate.
    desk.key("old", "RSA -pkeyopt rsa_keygen_bits:2048");
    desk.sign("old", "/CN=Old Root", "old.key", "old", CA, "");
    desk.sign("cross", "/CN=Home CA", "ca.key", "old", &below, "");
    desk.run("openssl x509 -in cross.pem -noout"); // it is one
    desk.write("ext", &below);
    desk.run(
        "openssl req -new -key inter.key -subj /CN=Between -out csr && openssl ca -version >/dev/null 2>&1; openssl x509 -req -in csr \
         -CA old.pem -CAkey old.key -days 90 -extfile ext -set_serial 77 -out cross-inter.pem",
    );
    desk.key("twin", "EC -pkeyopt ec_paramgen_curve:P-256");
    desk.sign("twin", "/CN=Between", "twin.key", "ca", &below, "");
    let all = |names: &[&str]| names.iter().map(|name| desk.read(&format!("{name}.pem"))).collect::<String>();
    for (what, chain, served, left) in [
        ("what is needed", vec!["leaf", "inter"], vec!["leaf", "inter"], vec![]),
        ("the root behind", vec!["leaf", "inter", "ca"], vec!["leaf", "inter"], vec!["root-included"]),
        ("the root between", vec!["leaf", "ca", "inter"], vec!["leaf", "inter"], vec!["root-included"]),
        ("a cross-signed root", vec!["leaf", "inter", "cross"], vec!["leaf", "inter"], vec!["chain-foreign"]),
        (
            "a cross-signed root and what signed it",
            vec!["leaf", "inter", "cross", "old"],
            vec!["leaf", "inter"],
            vec!["chain-foreign"; 2],
        ),
        (
            "two of one name, the wrong one first",
            vec!["leaf", "twin", "inter"],
            vec!["leaf", "inter"],
            vec!["chain-foreign"],
        ),
        (
            "two of one name, the right one first",
            vec!["leaf", "inter", "twin"],
            vec!["leaf", "inter"],
            vec!["chain-foreign"],
        ),
        (
            "one key, two issuers",
            vec!["leaf", "cross-inter", "inter"],
            vec!["leaf", "inter"],
            vec!["chain-foreign"],
        ),
        ("the same twice", vec!["leaf", "inter", "inter"], vec!["leaf", "inter"], vec!["chain-foreign"]),
    ] {
        desk.write("cert.pem", all(&chain));
        let (codes, json) = desk.findings();
        assert_eq!(codes, left, "{what}: {json:#}");
        let wanted: Vec<Vec<u8>> = served.iter().map(|name| desk.der(name)).collect();
        assert_eq!(desk.served(), wanted, "{what}");
        if !left.is_empty() {
            assert!(json.to_string().contains("left out"), "{what}: {json:#}");
        }
    }
    // Where only the other root is trusted, the cross-signed one is needed.
    desk.write("cert.pem", all(&["leaf", "inter", "cross"]));
    desk.write("sanedge.toml", SOURCE.replace("ca.pem", "old.pem"));
    let (codes, json) = desk.findings();
    assert!(codes.is_empty(), "{json:#}");
    assert_eq!(desk.served().len(), 3);
    // Out of date it helps nobody, and hurts nobody where the other way is there.
    desk.run(
        "printf '[ca]\\ndefault_ca=x\\n[x]\\ndatabase=db\\nnew_certs_dir=.\\nserial=serial\\ndefault_md=sha256\\npolicy=p\\n[p]\\ncommonName=supplied\\n' > ca.cnf \
         && : > db && echo 01 > serial && openssl req -new -key ca.key -subj '/CN=Home CA' -out csr \
         && openssl ca -batch -config ca.cnf -in csr -cert old.pem -keyfile old.key -extfile ext -startdate 20200101000000Z \
         -enddate 20210101000000Z -notext -out cross.pem 2>log",
    );
    desk.write("cert.pem", all(&["leaf", "inter", "cross"]));
    assert!(desk.findings().0.contains(&"expired".to_owned()), "{:#}", desk.findings().1);
    desk.write("sanedge.toml", SOURCE);
    let (codes, json) = desk.findings();
    assert_eq!(codes, ["chain-foreign"], "{json:#}");
    assert!(json.to_string().contains("has expired and is not needed"), "{json:#}");
    assert_eq!(desk.served().len(), 2);
}
