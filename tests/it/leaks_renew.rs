//! A private key in each position of what `sanedge renew` reads is in nothing that it says, nor in a file that everybody may read:
//! each string of each answer of the CA, its fields, `x.acme`, what that names, and each file of the state folder.
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use crate::support::certs::Ca;
use crate::support::each;
use crate::support::pebble::{request, serve_challenges};
use crate::support::program::sanedge;
use crate::support::secret::Secret;

const HOST: &str = "a.localhost";
/// What is asked of the CA in one run, in this order; `status` is the order, asked for again.
const KINDS: [&str; 9] =
    ["dir", "nonce", "account", "order", "authz", "challenge", "status", "finalize", "certificate"];

/// An answer, before it is sent.
#[derive(Clone)]
struct Answer {
    status: String,
    fields: Vec<(&'static str, String)>,
    body: String,
}

/// What a CA answers to a kind of request, as it should be.
fn healthy(kind: &str, base: &str, chain: &str) -> Answer {
    let order = |status: &str| {
        json!({
            "status": status, "expires": "2030-01-01T00:00:00Z", "identifiers": [{ "type": "dns", "value": HOST }],
            "authorizations": [format!("{base}/authz")], "finalize": format!("{base}/finalize"),
            "certificate": format!("{base}/certificate"),
        })
    };
    let challenge = json!({ "type": "http-01", "url": format!("{base}/challenge"), "token": "a-token", "status": "pending" });
    let body = match kind {
        "dir" => json!({
            "newNonce": format!("{base}/nonce"), "newAccount": format!("{base}/account"), "newOrder": format!("{base}/order"),
            "revokeCert": format!("{base}/revoke"), "keyChange": format!("{base}/change"),
            "meta": { "termsOfService": format!("{base}/terms"), "profiles": { "classic": "the default" } },
        }),
        "account" => json!({ "status": "valid", "orders": format!("{base}/orders") }),
        "order" => order("pending"),
        "status" => order("ready"),
        "finalize" => order("valid"),
        "authz" => json!({
            "status": "pending", "expires": "2030-01-01T00:00:00Z", "identifier": { "type": "dns", "value": HOST },
            "challenges": [challenge],
        }),
        "challenge" => challenge,
        _ => Value::Null,
    };
    let mut fields =
        vec![("Replay-Nonce", "a-nonce".to_owned()), ("Content-Type", "application/json".to_owned())];
    match kind {
        "account" => fields.push(("Location", format!("{base}/account/1"))),
        "order" => fields.push(("Location", format!("{base}/status"))),
        _ => {}
    }
    let created = matches!(kind, "account" | "order");
    let body = if kind == "certificate" { chain.to_owned() } else { body.to_string() };
    Answer { status: if created { "201 Created" } else { "200 OK" }.to_owned(), fields, body }
}

type Change = Arc<dyn Fn(&str, Answer) -> Answer + Send + Sync>;

/// A CA that believes everything. Its answers are changed before they are sent.
struct FakeCa {
    trust: String,
    base: String,
    change: Arc<Mutex<Change>>,
}

impl FakeCa {
    fn start() -> Self {
        let ca = Ca::new("the CA of the CA");
        let own = ca.issue(&["localhost"]);
        let chain = ca.issue(&[HOST]).chain_pem;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let certificate = CertificateDer::from_pem_slice(own.chain_pem.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(own.key_pem.as_bytes()).unwrap();
        let config = Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let as_it_is: Change = Arc::new(|_, answer| answer);
        let change = Arc::new(Mutex::new(as_it_is));
        let fake = Self { trust: ca.pem, base: base.clone(), change: change.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (config, base, chain, change) =
                    (config.clone(), base.clone(), chain.clone(), change.clone());
                std::thread::spawn(move || {
                    let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
                    let Some(request) = request(&mut stream) else { return };
                    let text = String::from_utf8_lossy(&request).into_owned();
                    let path = text.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
                    let kind = path.split('/').next().unwrap_or_default().to_owned();
                    let change = change.lock().unwrap().clone();
                    let answer = change(&kind, healthy(&kind, &base, &chain));
                    let fields: String =
                        answer.fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
                    let (status, body) = (answer.status, answer.body);
                    let body = if text.starts_with("HEAD") { String::new() } else { body };
                    let length = body.len();
                    let _ = write!(
                        stream,
                        "HTTP/1.1 {status}\r\n{fields}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                    );
                    stream.conn.send_close_notify();
                    let _ = stream.flush();
                });
            }
        });
        fake
    }

    fn answers(&self, change: impl Fn(&str, Answer) -> Answer + Send + Sync + 'static) {
        *self.change.lock().unwrap() = Arc::new(change);
    }
}

/// A folder with a sanedge.toml with `[acme]`, its `x.acme`, and the CA.
struct Desk {
    folder: tempfile::TempDir,
    ca: FakeCa,
    secret: Secret,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let http = serve_challenges(&folder.path().join("challenges"));
        let ca = FakeCa::start();
        fs::write(folder.path().join("trust.pem"), &ca.trust).unwrap();
        let toml = format!(
            "board = \"host\"\n[listen]\nhttps = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:{http}\"]\n\
             admin = \"unix:admin.sock\"\npublic_https_port = 443\n[acme]\nterms = \"agreed\"\n\
             directory = \"{}/dir\"\ntrust = \"trust.pem\"\nstate = \"state\"\nchallenges = \"challenges\"\n\
             contact = \"you@example.org\"\n[[site]]\nhosts = [\"{HOST}\"]\nupstream = [\"127.0.0.1:1\"]\n",
            ca.base
        );
        fs::write(folder.path().join("x.toml"), toml).unwrap();
        let desk = Self { folder, ca, secret: Secret::new() };
        let output = sanedge().arg("bundle").arg(desk.path("x.toml")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs `renew`, and looks at everything that it says and at every file that everybody may read; `given` are those that the test
    /// has written. (A certificate has its key's algorithm in common with the key.)
    fn renew(&self, what: &str, options: &[&str], given: &[&str]) -> Output {
        let mut command = sanedge();
        command.arg("renew").arg(self.path("x.acme")).args(options).stdin(Stdio::null());
        let output = command.output().unwrap();
        let said = [&output.stdout[..], &output.stderr].concat();
        let text = String::from_utf8_lossy(&said);
        // A deployment of what is in use already is no news.
        assert!(!text.is_empty() || options == ["--deploy"], "{what}, {options:?}: nothing is said");
        assert_eq!(self.secret.shown_in(&said), None, "{what}, {options:?}: {text}");
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                let (path, about) = (entry.path(), entry.metadata().unwrap());
                if about.is_dir() && about.permissions().mode() & 0o044 != 0 {
                    folders.push(path);
                } else if about.is_file()
                    && about.permissions().mode() & 0o044 != 0
                    && !given.iter().chain(&["trust.pem"]).any(|name| path.ends_with(name))
                {
                    let content = fs::read(&path).unwrap();
                    assert_eq!(self.secret.shown_in(&content), None, "{what}: {}", path.display());
                }
            }
        }
        output
    }

    fn forget(&self) {
        let _ = fs::remove_dir_all(self.path("state"));
        let _ = fs::remove_dir_all(self.path("challenges"));
    }
}

/// The paths of all strings of a document, and of the names of its members.
fn places(document: &Value, at: String, found: &mut Vec<String>) {
    match document {
        Value::String(_) => found.push(at),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(nth, item)| places(item, format!("{at}/{nth}"), found));
        }
        Value::Object(members) => {
            members.iter().for_each(|(name, item)| places(item, format!("{at}/{name}"), found));
        }
        _ => {}
    }
}

fn strings(document: &Value) -> Vec<String> {
    let mut found = Vec::new();
    places(document, String::new(), &mut found);
    found
}

fn with(document: &Value, place: &str, text: &str) -> Value {
    let mut changed = document.clone();
    if let Some(value) = changed.pointer_mut(place) {
        // A URL stays one, so that it is asked.
        let url =
            value.as_str().is_some_and(|url| url.starts_with("https://")) && text.len().is_multiple_of(2);
        *value = if url { format!("https://{text}/").into() } else { text.into() };
    }
    changed
}

/// A text as a field's value has room for it.
fn in_field(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || !c.is_ascii() { ' ' } else { c }).collect()
}

/// What becomes of an answer.
type Way = Box<dyn Fn(Answer, &str) -> Answer + Send + Sync>;

/// Ways to answer with a key.
fn ways(kind: &str, ca: &FakeCa) -> Vec<(String, Way)> {
    let problem = |text: &str, kind: String| {
        let part = json!({ "type": text, "detail": text, "identifier": { "type": "dns", "value": text } });
        json!({ "type": kind, "title": text, "detail": text, "instance": text, "subproblems": [part] })
            .to_string()
    };
    let mut ways: Vec<(String, Way)> = vec![
        ("the body".into(), Box::new(|answer, text| Answer { body: text.to_owned(), ..answer })),
        (
            "the body of a fault".into(),
            Box::new(|answer, text| Answer {
                status: format!("500 {}", in_field(text)),
                body: format!("<html>{text}</html>"),
                ..answer
            }),
        ),
        (
            "a problem".into(),
            Box::new(move |answer, text| Answer {
                status: "403 No".into(),
                body: problem(text, "urn:ietf:params:acme:error:userActionRequired".into()),
                ..answer
            }),
        ),
        (
            "a problem of that type".into(),
            Box::new(move |answer, text| Answer {
                status: "400 No".into(),
                body: problem(text, text.to_owned()),
                ..answer
            }),
        ),
        (
            "the fields".into(),
            Box::new(|mut answer, text| {
                for (_, value) in &mut answer.fields {
                    *value = in_field(text);
                }
                answer.fields.extend(["Retry-After", "Link", "Server"].map(|name| (name, in_field(text))));
                answer
            }),
        ),
    ];
    let document: Value = serde_json::from_str(&healthy(kind, &ca.base, "").body).unwrap_or_default();
    for place in strings(&document) {
        let document = document.clone();
        ways.push((
            place.clone(),
            Box::new(move |answer, text| Answer {
                body: with(&document, &place, text).to_string(),
                ..answer
            }),
        ));
    }
    ways
}

#[test]
fn a_key_in_any_answer_of_a_ca_is_not_shown() {
    let shapes = Secret::new().shapes();
    let tried = Mutex::new(0);
    each(4, &KINDS, |kind| {
        let desk = Desk::new();
        let first = KINDS.iter().position(|known| known == kind).unwrap() * 11;
        for (nth, (way, change)) in ways(kind, &desk.ca).into_iter().enumerate() {
            let (shape, text) = shapes[(first + nth) % shapes.len()].clone();
            let of = (*kind).to_owned();
            desk.ca.answers(move |kind, answer| if kind == of { change(answer, &text) } else { answer });
            let what = format!("{shape} as {way} of {kind}");
            let form: &[&str] = if nth % 2 == 0 { &["--now"] } else { &["--now", "--json"] };
            desk.renew(&what, form, &[]);
            desk.forget();
            *tried.lock().unwrap() += 1;
        }
    });
    assert!(*tried.lock().unwrap() > 70, "{}", tried.lock().unwrap());
}

/// The healthy twin: without a key the same CA is believed up to its certificate, which is of another key.
#[test]
fn the_same_ca_without_a_key_is_asked_for_everything() {
    let desk = Desk::new();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    desk.ca.answers(move |kind, answer| {
        seen.lock().unwrap().push(kind.to_owned());
        answer
    });
    let output = desk.renew("nothing", &["--now"], &[]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("does not fit the request"), "{said}");
    let asked = asked.lock().unwrap();
    assert!(KINDS.iter().all(|kind| asked.iter().any(|seen| seen == kind)), "{asked:?}");
}

#[test]
fn a_key_in_any_file_that_renew_reads_is_not_shown() {
    let desk = Desk::new();
    let (shapes, contents) = (desk.secret.shapes(), desk.secret.contents());
    let plan: Value = serde_json::from_slice(&fs::read(desk.path("x.acme")).unwrap()).unwrap();
    let write = |path: &Path, content: &[u8], mode: u32| {
        let _ = fs::remove_file(path);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path).unwrap();
        file.write_all(content).unwrap();
    };
    let commands: [&[&str]; 4] = [&["--now"], &["--now", "--json"], &["--deploy"], &["--dry-run", "--json"]];
    let mut tried = 0;
    // x.acme: each string, the name of a member, and the whole.
    for (nth, place) in strings(&plan).into_iter().enumerate() {
        for more in 0..3 {
            let (shape, text) = &shapes[(nth * 3 + more) % shapes.len()];
            write(&desk.path("x.acme"), with(&plan, &place, text).to_string().as_bytes(), 0o644);
            desk.renew(&format!("{shape} as {place}"), commands[(nth + more) % 4], &["x.acme"]);
            tried += 1;
        }
    }
    for (nth, (shape, content)) in contents.iter().enumerate() {
        write(&desk.path("x.acme"), content, 0o644);
        desk.renew(&format!("{shape} as x.acme"), commands[nth % 4], &["x.acme"]);
        let mut other = plan.clone();
        let name = String::from_utf8_lossy(content).into_owned();
        other.as_object_mut().unwrap().insert(name, Value::Null);
        write(&desk.path("x.acme"), other.to_string().as_bytes(), 0o644);
        desk.renew(&format!("{shape} as a member"), commands[nth % 4], &["x.acme"]);
        tried += 2;
    }
    write(&desk.path("x.acme"), plan.to_string().as_bytes(), 0o644);
    // The roots.
    let trust = fs::read(desk.path("trust.pem")).unwrap();
    for (nth, (shape, content)) in contents.iter().enumerate() {
        write(&desk.path("trust.pem"), content, 0o644);
        desk.renew(&format!("{shape} as the roots"), commands[nth % 4], &["trust.pem"]);
        tried += 1;
    }
    write(&desk.path("trust.pem"), &trust, 0o644);
    // The state folder, with an order that was interrupted.
    desk.forget();
    desk.ca.answers(|kind, answer| {
        if kind == "challenge" {
            Answer { status: "500 No".into(), body: String::new(), ..answer }
        } else {
            answer
        }
    });
    desk.renew("nothing", &["--now"], &[]);
    let of = |folder: &str| {
        fs::read_dir(desk.path("state").join(folder)).unwrap().map(|entry| entry.unwrap().path())
    };
    let files: Vec<PathBuf> = ["accounts", "records", "orders"].into_iter().flat_map(of).collect();
    assert_eq!(files.len(), 3, "account, record and order");
    let files: Vec<(PathBuf, Vec<u8>)> =
        files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    // A run removes an order that the CA does not know.
    let restore = || files.iter().for_each(|(path, content)| write(path, content, 0o600));
    for (file, before) in &files {
        let document: Value = serde_json::from_slice(before).unwrap();
        for (nth, place) in strings(&document).into_iter().enumerate() {
            let (shape, text) = &shapes[(nth * 5) % shapes.len()];
            restore();
            write(file, with(&document, &place, text).to_string().as_bytes(), 0o600);
            desk.renew(&format!("{shape} as {place} of {}", file.display()), commands[nth % 2], &[]);
            tried += 1;
        }
        for (nth, (shape, content)) in contents.iter().enumerate().filter(|(nth, _)| nth % 4 == 0) {
            restore();
            write(file, content, 0o600);
            desk.renew(&format!("{shape} as {}", file.display()), commands[nth / 4 % 2], &[]);
            tried += 1;
        }
    }
    // The certificate that is stored.
    let stored = desk.path(&format!("state/certificates/{HOST}.pem"));
    for (nth, (shape, content)) in contents.iter().enumerate() {
        write(&stored, content, 0o600);
        desk.renew(
            &format!("{shape} as the stored certificate"),
            if nth % 2 == 0 { &["--deploy"] } else { &["--deploy", "--json"] },
            &[],
        );
        tried += 1;
    }
    assert!(tried > 250, "{tried}");
}

#[test]
fn a_key_as_an_argument_of_renew_is_not_shown() {
    let desk = Desk::new();
    for (shape, text) in desk.secret.shapes().iter().filter(|(_, text)| !text.contains('\0')) {
        for options in [
            vec!["--host", text],
            vec!["--json", "--host", text],
            vec![text],
            vec!["--deploy", "--host", text],
        ] {
            desk.renew(shape, &options, &[]);
        }
    }
}
