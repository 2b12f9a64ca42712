//! `sanedge console`: what its page can do, and what nobody else can. Attacks are bytes over TCP; the page itself is in a browser.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};

use crate::support::HOST;
use crate::support::activation::Sockets;
use crate::support::edge::{Desk, Edge, EdgeBuilder, PATIENCE, json as document, sanedge, text};
use crate::support::node::Interop;

const NEW: &str = "game.recre.store";
/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(20);

fn builder() -> EdgeBuilder {
    Edge::certified_for(&[HOST, NEW]).site(&[HOST], "127.0.0.1:3002")
}

/// A running console.
struct Console {
    child: Child,
    port: u16,
    token: String,
    stdout: Vec<String>,
    stderr: Receiver<String>,
    said: Vec<String>,
}

/// A session of its page.
struct Session {
    port: u16,
    path: String,
    cookie: String,
    csrf: String,
    page: String,
}

/// A response.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Console {
    fn start(desk: &Desk, words: &[&str]) -> Self {
        let mut command = sanedge();
        command.arg("console").arg(desk.toml()).args(words);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (lines, stderr) = channel();
        let errors = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            errors.lines().map_while(Result::ok).try_for_each(|line| lines.send(line))
        });
        let mut stdout = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap) {
            stdout.push(line);
            if stdout.last().is_some_and(|line| line.starts_with("Ctrl-C") || line == "}") {
                break;
            }
        }
        let link = stdout.iter().find_map(|line| Some(line.split_once("http://127.0.0.1:")?.1));
        let link = link.and_then(|rest| rest.split('"').next());
        let link =
            link.unwrap_or_else(|| panic!("no link in {stdout:?}: {:?}", stderr.iter().collect::<Vec<_>>()));
        let (port, token) = link.split_once("/#").unwrap();
        let (port, token) = (port.parse().unwrap(), token.to_owned());
        Self { child, port, token, stdout, stderr, said: Vec::new() }
    }

    fn enter(&self) -> Session {
        let answer = self.try_enter(&self.token);
        assert_eq!(answer.status, 200, "{answer:?}");
        let path = serde_json::from_str::<Value>(&answer.body).unwrap()["path"].as_str().unwrap().to_owned();
        let cookie = answer.field("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        let mut session = Session { port: self.port, path, cookie, csrf: String::new(), page: String::new() };
        session.load();
        session
    }

    fn try_enter(&self, token: &str) -> Answer {
        post(self.port, "/enter", &[], &json!({ "token": token }).to_string())
    }

    /// The server's process.
    fn server(&self) -> u32 {
        let path = format!("/proc/{0}/task/{0}/children", self.child.id());
        let children = fs::read_to_string(path).unwrap();
        children.split_whitespace().next().expect("a process of the page").parse().unwrap()
    }

    /// Waits for a line on stderr.
    fn wait(&mut self, wanted: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = self.said.iter().find(|line| line.contains(wanted)) {
                return line.clone();
            }
            match self.stderr.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => self.said.push(line),
                Err(error) => panic!("no `{wanted}` ({error}) in {:#?}", self.said),
            }
        }
    }

    /// Waits for its end; everything that it wrote to stderr.
    fn ended(mut self) -> (ExitStatus, String) {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.stderr.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => self.said.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end: {:#?}", self.said),
            }
        }
        let status = self.child.wait().unwrap();
        let said = self.said.join("\n");
        assert!(!said.contains("panic"), "{said}");
        (status, said)
    }

    fn signal(&self, signal: Signal) {
        kill_process(pid(self.child.id()), signal).unwrap();
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Session {
    fn load(&mut self) {
        let answer = self.get("");
        assert_eq!(answer.status, 200, "{answer:?}");
        self.page = answer.body;
        self.csrf = attribute(&self.page, "data-csrf");
    }

    fn get(&self, name: &str) -> Answer {
        let head = format!(
            "GET {}{name} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nCookie: {}\r\n\r\n",
            self.path, self.port, self.cookie
        );
        exchange(self.port, head.as_bytes())
    }

    fn post(&self, name: &str, body: &Value) -> Answer {
        let cookie = format!("Cookie: {}", self.cookie);
        let csrf = format!("Sanedge-Csrf: {}", self.csrf);
        post(self.port, &format!("{}{name}", self.path), &[&cookie, &csrf], &body.to_string())
    }

    fn check(&self, form: &Value) -> Value {
        let answer = self.post("check", form);
        assert_eq!(answer.status, 200, "{answer:?}");
        serde_json::from_str(&answer.body).unwrap()
    }

    /// What an apply sends at the end, and all lines before.
    fn apply(&self, form: &Value) -> (Value, Vec<String>) {
        let answer = self.post("apply", &self.applied(form));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.steps()
    }

    fn applied(&self, form: &Value) -> Value {
        json!({ "form": form, "seen": attribute(&self.page, "data-seen"), "restart": false })
    }
}

impl Answer {
    fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn steps(&self) -> (Value, Vec<String>) {
        let mut lines: Vec<Value> =
            self.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let last = lines.pop().expect("a last line")["done"].clone();
        (last, lines.iter().map(|line| line["line"].as_str().unwrap().to_owned()).collect())
    }
}

fn exchange(port: u16, bytes: &[u8]) -> Answer {
    try_exchange(port, bytes).unwrap_or_else(|| panic!("no response to {}", String::from_utf8_lossy(bytes)))
}

fn try_exchange(port: u16, bytes: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // A refusal may come before all is sent.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

/// As the page sends it, with more fields.
fn post(port: u16, path: &str, fields: &[&str], body: &str) -> Answer {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\nContent-Type: application/json\r\n\
         {fields}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    exchange(port, head.as_bytes())
}

fn attribute(page: &str, name: &str) -> String {
    let rest = page.split_once(&format!("{name}=\"")).unwrap_or_else(|| panic!("no {name} in {page}")).1;
    rest.split_once('"').unwrap().0.to_owned()
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(number.try_into().unwrap()).unwrap()
}

fn is_gone(process: u32) -> bool {
    let until = Instant::now() + PATIENCE;
    while test_kill_process(pid(process)).is_ok() {
        if Instant::now() >= until {
            return false;
        }
        sleep(PAUSE);
    }
    true
}

fn add(host: &str, app: &str) -> Value {
    json!({ "add": { "host": host, "app": app, "path": "", "redirect": "", "certificate": "", "agreed": false } })
}

fn read(desk: &Desk) -> String {
    fs::read_to_string(desk.toml()).unwrap()
}

// --- what the page can do ---------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_added_changed_and_removed_and_each_change_is_logged() {
    let edge = builder().start();
    let before = read(edge.desk());
    let mut console = Console::start(edge.desk(), &[]);
    let said = console.stdout.join("\n");
    let forward = format!("ssh -o ExitOnForwardFailure=yes -N -L 127.0.0.1:{0}:127.0.0.1:{0} ", console.port);
    assert!(said.contains(&forward) && said.contains("5 minutes"), "{said}");
    assert!(console.token.len() >= 32, "{}", console.token);
    let mut session = console.enter();
    console.wait("a browser has opened the console");
    for part in ["The edge serves 1 host", HOST, "127.0.0.1:3002", "id=\"problems\"", "[listen]"] {
        assert!(session.page.contains(part), "{part} in {}", session.page);
    }

    // A finding stands at the field that it is about.
    for (form, field, words) in [
        (add("other.test", "3002"), "host", "other.test"),
        (add("no host", "3002"), "host", "host"),
        (add(HOST, "3003"), "host", "is served already"),
        (add(NEW, "70000"), "app", "expected a port"),
        (add(NEW, "0"), "app", "expected a port"),
        (add(NEW, "unix:/etc/passwd"), "app", "expected a port"),
        (add(NEW, "http://a:1"), "app", "expected a port"),
        (add(NEW, "8.8.8.8:80"), "app", "8.8.8.8"),
        (add(NEW, ""), "app", "expected the port"),
        (
            json!({ "add": { "host": NEW, "app": "1", "path": "", "redirect": "https://a.b", "certificate": "", "agreed": false } }),
            "redirect",
            "one of the two",
        ),
        (json!({ "remove": { "host": NEW } }), "host", "is not one of the hosts"),
        (
            json!({ "upstream": { "host": HOST, "path": "/x/", "app": "1" } }),
            "host",
            "no route for this path",
        ),
    ] {
        let found = session.check(&form);
        assert_eq!(found["is_good"], false, "{form}: {found:#}");
        let problems = found["problems"].as_array().unwrap();
        let is_it = |one: &&Value| one["field"] == field && one["message"].as_str().unwrap().contains(words);
        assert!(problems.iter().any(|one| is_it(&one)), "{form}: {found:#}");
    }
    assert_eq!(read(edge.desk()), before);

    let found = session.check(&add(NEW, "3002"));
    assert_eq!((&found["is_good"], &found["problems"]), (&json!(true), &json!([])), "{found:#}");
    assert_eq!(found["changes"], json!([format!("+ {NEW} → 127.0.0.1:3002")]));
    assert!(
        found["edit"].as_array().unwrap().contains(&format!("+ hosts = [\"{NEW}\"]").into()),
        "{found:#}"
    );
    assert!(edge.try_tls(NEW).await.is_err(), "a check changes nothing");
    let (last, steps) = session.apply(&add(NEW, "3002"));
    assert_eq!(last["is_good"], true, "{last} {steps:?}");
    assert!(last["text"].as_str().unwrap().ends_with("is in use"), "{last}");
    assert!(steps.contains(&format!("+ {NEW} → 127.0.0.1:3002")), "{steps:?}");
    edge.tls(NEW).await;
    console.wait(&format!("applied add host {NEW}"));
    console.wait(&format!("  + {NEW} → 127.0.0.1:3002"));
    let by_hand = builder().start();
    let added = sanedge()
        .args(["site", "add", NEW, "--app", "3002", "--file"])
        .arg(by_hand.desk().toml())
        .output()
        .unwrap();
    assert!(added.status.success(), "{}", text(&added));
    let without_paths =
        |text: &str| text.lines().filter(|line| !line.starts_with("admin")).collect::<Vec<_>>().join("\n");
    assert_eq!(
        without_paths(&read(edge.desk())),
        without_paths(&read(by_hand.desk())),
        "the same as `site add`"
    );

    session.load();
    assert!(session.page.contains("The edge serves 2 hosts"), "{}", session.page);
    let (last, _) = session.apply(&json!({ "upstream": { "host": NEW, "path": "/", "app": "[::1]:3002" } }));
    assert_eq!(last["is_good"], true, "{last}");
    console.wait(&format!("applied change the app of {NEW}"));
    assert!(read(edge.desk()).contains("upstream = [\"[::1]:3002\"]"), "{}", read(edge.desk()));
    session.load();
    let (last, _) = session.apply(&json!({ "remove": { "host": NEW } }));
    assert_eq!(last["is_good"], true, "{last}");
    assert_eq!(read(edge.desk()), before);
    assert!(edge.try_tls(NEW).await.is_err(), "it is served no more");
    let log = console.wait(&format!("applied remove host {NEW}"));
    assert!(log.starts_with("20") && log.contains(" console: "), "{log}");

    let answer = session.post("end", &json!({}));
    assert_eq!(answer.status, 200, "{answer:?}");
    let (status, said) = console.ended();
    assert!(status.success() && said.contains("the page has ended it"), "{said}");
    edge.stop();
}

#[test]
fn an_edit_by_hand_is_shown_and_put_to_use_and_a_change_that_needs_a_restart_says_so() {
    let edge = builder().start();
    let console = Console::start(edge.desk(), &[]);
    let session = console.enter();
    assert!(!session.page.contains("Not in use yet"), "{}", session.page);
    let text = read(edge.desk());
    fs::write(edge.desk().toml(), text.replace("[limits]", "[limits]\nsessions_max = 77")).unwrap();
    // The page of before does not put to use what it did not show.
    let (last, _) = session.apply(&Value::Null);
    assert!(last["is_good"] == false && last["text"].as_str().unwrap().contains("has changed"), "{last}");
    let mut session = session;
    session.load();
    assert!(
        session.page.contains("Not in use yet") && session.page.contains("limits.sessions_max"),
        "{}",
        session.page
    );
    let (last, _) = session.apply(&Value::Null);
    assert_eq!(last["is_good"], true, "{last}");
    session.load();
    assert!(!session.page.contains("Not in use yet"), "{}", session.page);
    // Where no systemd runs the edge, a new port cannot be taken into use: nothing is half done.
    let before = read(edge.desk());
    let found = session.check(&add(NEW, "3999"));
    if found["restart"].as_array().is_some_and(|why| !why.is_empty()) {
        let (last, _) = session.apply(&add(NEW, "3999"));
        assert_eq!(last["is_good"], false, "{last}");
        assert_eq!(read(edge.desk()), before);
    }
    drop(console);
    edge.stop();
}

/// An apply is for the file that the page showed.
#[test]
fn a_file_that_changed_in_between_is_left_alone() {
    let desk = builder().write();
    let mut console = Console::start(&desk, &[]);
    let session = console.enter();
    let other = read(&desk) + "# by hand\n";
    fs::write(desk.toml(), &other).unwrap();
    let (last, _) = session.apply(&add(NEW, "3002"));
    assert_eq!(last["is_good"], false);
    assert!(
        last["text"]
            .as_str()
            .unwrap()
            .contains("has changed since this page was loaded: nothing was changed"),
        "{last}"
    );
    assert_eq!(read(&desk), other);
    assert!(!desk.bundle_file().exists());
    console.wait(&format!("not applied, add host {NEW}"));
    for seen in ["", "0", &"0".repeat(63), &"0".repeat(65)] {
        let answer =
            session.post("apply", &json!({ "form": add(NEW, "3002"), "seen": seen, "restart": false }));
        assert_eq!(answer.status, 400, "{seen}");
    }
}

#[test]
fn no_key_in_the_file_is_shown_or_logged() {
    let key = "MC4CAQAwBQYDK2VwBCIEIKrlZ0VhZJQ0cXl8rTgk1pXyG3bq";
    let desk = builder().write();
    let with_key = format!("# {key}\n{}", read(&desk));
    fs::write(desk.toml(), &with_key).unwrap();
    let console = Console::start(&desk, &[]);
    let mut session = console.enter();
    assert!(session.page.contains("[listen]") && !session.page.contains(&key[4..20]), "{}", session.page);
    let form = add(&format!("{key}.test"), "3002");
    assert!(!session.check(&form).to_string().contains(&key[4..20]));
    let (last, steps) = session.apply(&form);
    assert!(!format!("{last}{steps:?}").contains(&key[4..20]), "{last} {steps:?}");
    fs::write(desk.toml(), with_key.replacen("# ", "", 1)).unwrap();
    session.load();
    assert!(session.page.contains("error") && !session.page.contains(&key[4..20]), "{}", session.page);
    console.signal(Signal::INT);
    let (_, said) = console.ended();
    assert!(!said.contains(&key[4..20]), "{said}");
}

/// The place of a file in the page's list.
fn place(page: &str, file: &str) -> Option<String> {
    let option = page.split("<option").find(|option| option.contains(file))?;
    Some(attribute(option, "value"))
}

fn choose(host: &str, certificate: &str, agreed: bool) -> Value {
    json!({ "certificate": { "host": host, "certificate": certificate, "agreed": agreed } })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_chosen_from_the_list_and_folders_with_our_own_keys_are_not_in_it() {
    let desk = builder().write();
    let text = read(&desk)
        + "[local]\nfolder = \"local\"\n[acme]\nterms = \"agreed\"\nstate = \"state\"\nchallenges = \"challenges\"\n";
    fs::write(desk.toml(), text).unwrap();
    for (folder, name) in
        [("more", "two.recre.store"), ("local", "three.recre.store"), ("state", "four.recre.store")]
    {
        fs::create_dir_all(desk.path(folder)).unwrap();
        let issued = desk.ca.issue(&[name]);
        fs::write(desk.path(&format!("{folder}/{name}.pem")), issued.chain_pem).unwrap();
        fs::write(desk.path(&format!("{folder}/{name}.key")), issued.key_pem).unwrap();
    }
    fs::write(desk.path("more/alone.pem"), "no certificate").unwrap();
    fs::write(desk.path("more/alone.key"), "no key").unwrap();
    fs::create_dir(desk.path("challenges")).unwrap();
    let edge = desk.serve();
    let folder = edge.desk().path("");
    let console = Console::start(edge.desk(), &["--certificates", folder.to_str().unwrap()]);
    let mut session = console.enter();
    let two = place(&session.page, "more/two.recre.store.pem").expect("the pair of the folder");
    let own = place(&session.page, "/0.pem").expect("the pair of the file");
    for hidden in ["three.recre.store", "four.recre.store", "alone.pem", "ca.pem"] {
        let listed = session.page.split("<pre").next().unwrap();
        assert!(!listed.contains(hidden), "{hidden} in {listed}");
    }
    // One that is not in the list, or does not cover the host.
    for (form, words) in [
        (choose(HOST, "99", false), "not in the list"),
        (choose(HOST, &two, false), "does not cover `recre.store`, but two.recre.store"),
        (choose(HOST, "x", false), "expected a certificate from the list"),
        (choose(HOST, "-1", false), "expected a certificate from the list"),
    ] {
        let found = session.check(&form);
        let problem = &found["problems"][0];
        assert!(found["is_good"] == false && problem["field"] == "certificate", "{form}: {found:#}");
        assert!(problem["message"].as_str().unwrap().contains(words), "{found:#}");
    }
    assert_eq!(session.check(&choose(HOST, &own, false))["edit"], json!([]), "the file names it already");
    let mut form = add("two.recre.store", "3002");
    form["add"]["certificate"] = json!(two);
    let (last, steps) = session.apply(&form);
    assert_eq!(last["is_good"], true, "{last} {steps:?}");
    edge.tls("two.recre.store").await;
    assert!(read(edge.desk()).contains("more/two.recre.store.pem\""), "{}", read(edge.desk()));

    // By a CA: the host keeps its certificate until the new one is there.
    session.load();
    let found = session.check(&choose(HOST, "acme", false));
    let warning = &found["problems"][0];
    assert!(found["is_good"] == true && warning["severity"] == "warning", "{found:#}");
    assert!(
        warning["message"].as_str().unwrap().starts_with("0.pem stays in use for `recre.store` until"),
        "{found:#}"
    );
    let (last, steps) = session.apply(&choose(HOST, "acme", false));
    assert_eq!(last["is_good"], true, "{last} {steps:?}");
    assert!(
        read(edge.desk()).ends_with("\n[[acme.certificate]]\nnames = [\"recre.store\"]\n"),
        "{}",
        read(edge.desk())
    );
    edge.tls(HOST).await;
    assert_eq!(edge.status()["pending"], json!([]));
    session.load();
    assert_eq!(session.check(&choose(HOST, "acme", false))["edit"], json!([]), "it is wanted already");
    drop(console);
    edge.stop();
}

#[test]
fn a_ca_without_its_table_needs_the_agreement_of_the_user() {
    let desk = builder().listen("http = [\"127.0.0.1:0\"]").write();
    let console = Console::start(&desk, &[]);
    let session = console.enter();
    let mut form = add("new.recre.store", "3002");
    form["add"]["certificate"] = json!("acme");
    let found = session.check(&form);
    let problem = &found["problems"][0];
    assert!(found["is_good"] == false && problem["field"] == "certificate", "{found:#}");
    assert!(problem["message"].as_str().unwrap().contains("terms of service"), "{found:#}");
    form["add"]["agreed"] = json!(true);
    let found = session.check(&form);
    assert_eq!(found["is_good"], true, "{found:#}");
    let edit = found["edit"].as_array().unwrap();
    assert!(
        edit.contains(&"+ [acme]".into()) && edit.contains(&"+ hosts = [\"new.recre.store\"]".into()),
        "{found:#}"
    );
    assert!(!found["edit"].to_string().contains("acme.certificate"), "{found:#}");
    assert!(found["problems"].to_string().contains("until `sanedge renew` has obtained"), "{found:#}");
}

/// The stages come while the doctor runs: the app behind the host answers only after some of them were read.
#[test]
fn the_doctor_shows_each_stage_when_it_is_done() {
    let app = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = app.local_addr().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let https = listener.local_addr().unwrap();
    let desk = Edge::certified_for(&["game.localhost"]).site(&["game.localhost"], upstream).write();
    let file = read(&desk).replace("https = [\"127.0.0.1:0\"]", &format!("https = [\"{https}\"]"));
    fs::write(desk.toml(), file).unwrap();
    let edge = desk.serve_on(&Sockets::new().with("https", listener));
    let console = Console::start(edge.desk(), &[]);
    let session = console.enter();
    for host in ["other.localhost", "127.0.0.1", "x y", "/etc/passwd"] {
        let (last, steps) = session.post("doctor", &json!({ "host": host, "here": true })).steps();
        assert!(last["is_good"] == false && steps.is_empty(), "{host}: {last} {steps:?}");
    }
    assert_eq!(session.post("doctor", &json!({ "host": "game.localhost" })).status, 400);
    let body = json!({ "host": "game.localhost", "here": true }).to_string();
    let head = format!(
        "POST {}doctor HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nContent-Type: application/json\r\nCookie: {}\r\n\
         Sanedge-Csrf: {}\r\nContent-Length: {}\r\n\r\n{body}",
        session.path,
        session.cookie,
        session.csrf,
        body.len()
    );
    let mut stream = TcpStream::connect(("127.0.0.1", console.port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let mut lines =
        BufReader::new(stream).lines().map(Result::unwrap).skip_while(|line| !line.starts_with('{'));
    let mut said = Vec::new();
    for line in lines.by_ref() {
        said.push(line);
        if said.last().unwrap().contains(" port ") {
            break;
        }
    }
    assert!(said.iter().any(|line| line.contains(" name ")), "{said:?}");
    // From here on the app refuses.
    app.set_nonblocking(true).unwrap();
    let (stop, stopped) = channel::<()>();
    let refusing = app.try_clone().unwrap();
    let answering = std::thread::spawn(move || {
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            if let Ok((mut stream, _)) = refusing.accept() {
                let _ = stream.set_nonblocking(false);
                let _ = stream
                    .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                let _ = stream.read(&mut [0; 4096]);
            }
            sleep(PAUSE);
        }
    });
    said.extend(lines);
    drop(stop);
    answering.join().unwrap();
    let all = said.join("\n");
    let last: Value = serde_json::from_str(said.last().unwrap()).unwrap();
    assert_eq!(last["done"]["is_good"], false, "{all}");
    for part in ["ok", " tls ", "you see", "why", "1 failure"] {
        assert!(all.contains(part), "{part} in {all}");
    }
    drop(console);
    edge.stop();
}

// --- what nobody else can ---------------------------------------------------------------------------------

/// The open descriptors of a process.
fn links(process: u32) -> BTreeMap<String, String> {
    let entries = fs::read_dir(format!("/proc/{process}/fd")).unwrap().map(Result::unwrap);
    let link = |entry: fs::DirEntry| {
        let to = fs::read_link(entry.path()).ok()?;
        Some((entry.file_name().into_string().unwrap(), to.to_str().unwrap().to_owned()))
    };
    entries.filter_map(link).collect()
}

/// What programs that this process starts inherit, besides their streams.
fn inherited() -> Vec<String> {
    let is_given = |number: &str| {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
        flags.is_some_and(|flags| flags & 0o2_000_000 == 0)
    };
    let all = links(std::process::id()).into_iter();
    all.filter(|(number, _)| number.parse::<u32>().is_ok_and(|number| number > 2) && is_given(number))
        .map(|(_, link)| link)
        .collect()
}

#[test]
fn the_servers_process_has_no_rights_and_no_descriptors_but_its_own() {
    let desk = builder().write();
    let mut console = Console::start(&desk, &[]);
    let server = console.server();
    let status = fs::read_to_string(format!("/proc/{server}/status")).unwrap();
    let line = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_else(|| panic!("{name} in {status}"));
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(line("NoNewPrivs:"), ["1"]);
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert!(line(set).iter().all(|bits| bits.bytes().all(|byte| byte == b'0')), "{set} {status}");
    }
    let said = console.wait("the page's process runs");
    assert!(said.contains("no capabilities") && said.contains("no new privileges"), "{said}");
    if rustix::process::geteuid().is_root() {
        assert_eq!((line("Uid:"), line("Gid:")), (vec!["65534".to_owned(); 4], vec!["65534".to_owned(); 4]));
        assert!(line("Groups:").is_empty(), "{status}");
        assert!(said.contains("as nobody"), "{said}");
        // Its descriptors: the listener, the sockets to the parent, stderr, and its own event queue; no file but `/proc`, and what a
        // test is given by the shell.
        let kinds = ["socket:", "pipe:", "anon_inode:", "/proc/"];
        let mut files: BTreeSet<String> = links(server).into_values().collect();
        files.retain(|link| !kinds.iter().any(|kind| link.starts_with(kind)));
        let ours = inherited();
        assert!(files.iter().all(|link| ours.contains(link)), "{files:?}");
        assert_eq!(said.contains("inherited from the shell"), !ours.is_empty(), "{said}");
        assert_eq!(said.contains("the sandbox is not complete"), !ours.is_empty(), "{said}");
        let environment = fs::read(format!("/proc/{server}/environ")).unwrap();
        assert!(environment.is_empty(), "{}", String::from_utf8_lossy(&environment));
    }
    // No terminal of the parent's.
    let session = |process: u32| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        stat.rsplit_once(')').unwrap().1.split_whitespace().nth(3).unwrap().to_owned()
    };
    assert_eq!(session(server), server.to_string());
    assert_ne!(session(console.child.id()), server.to_string());
}

#[test]
fn a_link_opens_one_session_and_wrong_tokens_void_it() {
    let desk = builder().write();
    let console = Console::start(&desk, &[]);
    for wrong in ["", "0", &console.token[1..], &format!("{}0", console.token)] {
        let answer = console.try_enter(wrong);
        assert!(answer.status == 403 && answer.field("set-cookie").is_none(), "{answer:?}");
    }
    // The fourth was not the last.
    let session = console.enter();
    let again = console.try_enter(&console.token);
    assert!(again.status == 403 && again.body.contains("A link opens one session"), "{again:?}");
    assert_eq!(session.get("").status, 200);
    console.signal(Signal::INT);
    assert!(console.ended().0.success());

    let console = Console::start(&desk, &[]);
    for _ in 0..5 {
        assert_eq!(console.try_enter("other").status, 403);
    }
    let (status, said) = console.ended();
    assert!(status.code() == Some(1) && said.contains("start the console again"), "{said}");
}

#[test]
fn other_sites_hosts_forms_and_sessions_are_refused() {
    let edge = builder().start();
    let before = read(edge.desk());
    let console = Console::start(edge.desk(), &[]);
    let port = console.port;
    let session = console.enter();
    let body = session.applied(&add(NEW, "3002")).to_string();
    let lines = [
        format!("POST {}apply HTTP/1.1", session.path),
        format!("Host: 127.0.0.1:{port}"),
        format!("Origin: http://127.0.0.1:{port}"),
        "Content-Type: application/json".to_owned(),
        format!("Cookie: {}", session.cookie),
        format!("Sanedge-Csrf: {}", session.csrf),
    ];
    let send = |lines: &[String]| {
        let head = format!("{}\r\nContent-Length: {}\r\n\r\n{body}", lines.join("\r\n"), body.len());
        exchange(port, head.as_bytes())
    };
    let mut tried = 0;
    for (at, other) in [
        (0, "POST /apply HTTP/1.1"),
        (0, "POST /00000000000000000000000000000000/apply HTTP/1.1"),
        (1, "Host: recre.store"),
        (1, "Host: 127.0.0.1.recre.store"),
        (1, "Host: 127.0.0.2"),
        (2, "Origin: https://recre.store"),
        (2, "Origin: http://127.0.0.1"),
        (2, "Origin: http://localhost"),
        (2, "Origin: null"),
        (2, "X-Origin: missing"),
        (3, "Content-Type: text/plain"),
        (3, "Content-Type: application/x-www-form-urlencoded"),
        (3, "Content-Type: multipart/form-data; boundary=a"),
        (4, "Cookie: sanedge-console=0"),
        (4, "X-Cookie: missing"),
        (5, "Sanedge-Csrf: 0"),
        (5, "X-Csrf: missing"),
        (5, "Sec-Fetch-Site: cross-site"),
    ] {
        let mut changed = lines.to_vec();
        changed[at] = other.to_owned();
        let answer = send(&changed);
        assert!((400..500).contains(&answer.status), "{other}: {answer:?}");
        assert!(
            answer.field("access-control-allow-origin").is_none() && answer.field("set-cookie").is_none()
        );
        tried += 1;
    }
    assert_eq!(tried, 18);
    for method in ["GET", "PUT", "DELETE", "OPTIONS", "HEAD"] {
        let mut changed = lines.to_vec();
        changed[0] = changed[0].replace("POST", method);
        assert_eq!(send(&changed).status, 405, "{method}");
    }
    assert_eq!(read(edge.desk()), before, "one of these changed the file");
    // `ssh -L` has another port on the other side; a page of localhost is one of ours as well.
    let mut through = lines.to_vec();
    through[1] = "Host: localhost:8123".to_owned();
    through[2] = "Origin: http://localhost:8123".to_owned();
    let answer = send(&through);
    assert!(answer.status == 200 && answer.steps().0["is_good"] == true, "{answer:?}");
    assert_ne!(read(edge.desk()), before);
    drop(console);
    edge.stop();
}

#[test]
fn edits_outside_the_types_and_requests_that_are_too_long_are_refused() {
    let desk = builder().write();
    let before = read(&desk);
    let console = Console::start(&desk, &[]);
    let session = console.enter();
    let long = |bytes: usize| "a".repeat(bytes);
    for form in [
        json!(null),
        json!({}),
        json!("remove"),
        json!({ "write": { "text": "board = \"host\"" } }),
        json!({ "remove": { "host": HOST, "file": "/etc/passwd" } }),
        json!({ "remove": { "host": 1 } }),
        json!({ "remove": {} }),
        json!({ "add": { "host": NEW, "app": "1" } }),
        json!({ "remove": { "host": HOST }, "add": { "host": NEW, "app": "1", "path": "", "redirect": "", "certificate": "", "agreed": false } }),
        json!([{ "remove": { "host": HOST } }]),
    ] {
        assert_eq!(session.post("check", &form).status, 400, "{form}");
        if !form.is_null() {
            let body =
                json!({ "form": form, "seen": attribute(&session.page, "data-seen"), "restart": false });
            assert_eq!(session.post("apply", &body).status, 400, "{form}");
        }
    }
    // A text is what it says, and never more than one.
    for host in [
        "a.b\"]\nupstream = [\"127.0.0.1:1",
        "a.b\n[limits]",
        "../../etc/passwd",
        "*",
        &long(512),
        &long(513),
    ] {
        let found = session.check(&add(host, "3002"));
        assert!(found["is_good"] == false && found["problems"][0]["field"] == "host", "{host}: {found}");
    }
    for path in ["/\"\n[limits]\nsessions_max = 1", "x", "/a?b", "/a b"] {
        let form = json!({ "add": { "host": NEW, "app": "3002", "path": path, "redirect": "", "certificate": "", "agreed": false } });
        assert_eq!(session.check(&form)["is_good"], false, "{path}");
    }
    for redirect in ["http://a.b", "https://a.b\n", "javascript:alert(1)", "https://a.b\"]\nx = 1"] {
        let form = json!({ "add": { "host": NEW, "app": "", "path": "", "redirect": redirect, "certificate": "", "agreed": false } });
        let found = session.check(&form);
        assert!(found["is_good"] == false || redirect.trim() == "https://a.b", "{redirect}: {found}");
        sleep(PAUSE);
    }
    assert_eq!(read(&desk), before);
    drop(console);

    let console = Console::start(&desk, &[]);
    let (port, session) = (console.port, console.enter());
    let of_length = |length: usize| {
        let fields = [format!("Cookie: {}", session.cookie), format!("Sanedge-Csrf: {}", session.csrf)];
        let body = format!("{{{}}}", " ".repeat(length - 2));
        post(port, &format!("{}check", session.path), &[&fields[0], &fields[1]], &body).status
    };
    assert_eq!((of_length(8 * 1024), of_length(8 * 1024 + 1)), (400, 413));
    for (bytes, status) in [(7 * 1024, Some(200)), (9 * 1024, Some(400))] {
        let head = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", long(bytes));
        assert_eq!(try_exchange(port, head.as_bytes()).map(|answer| answer.status), status, "{bytes}");
    }
    for bad in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        "GET / HTTP/1.1\nHost: localhost\n\n",
        "POST /enter HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /enter HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST /enter HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "\u{16}\u{3}\u{1}\r\n\r\n",
    ] {
        let answer = try_exchange(port, bad.as_bytes());
        assert!(answer.as_ref().is_none_or(|answer| answer.status >= 400), "{bad}: {answer:?}");
    }
    assert_eq!(session.get("").status, 200, "the session is as before");
}

// --- clients and processes that go away -------------------------------------------------------------------

#[test]
fn clients_that_send_nothing_do_not_block_the_session() {
    let desk = builder().write();
    let console = Console::start(&desk, &[]);
    let session = console.enter();
    let stalled: Vec<TcpStream> = (0..60)
        .map(|at| {
            let mut stream = TcpStream::connect(("127.0.0.1", console.port)).unwrap();
            let begun: &[u8] = if at % 2 == 0 {
                b""
            } else {
                b"POST /enter HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
            };
            stream.write_all(begun).unwrap();
            stream
        })
        .collect();
    assert_eq!(session.get("").status, 200);
    assert_eq!(session.check(&add(NEW, "3002"))["is_good"], true);
    // Each of them is closed by the console.
    for mut stream in stalled {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut rest = Vec::new();
        match stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
        }
    }
    assert_eq!(session.get("").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_goes_away_in_a_change_leaves_nothing_half_done() {
    let edge = builder().start();
    let mut console = Console::start(edge.desk(), &[]);
    let session = console.enter();
    let body = session.applied(&add(NEW, "3002")).to_string();
    let head = format!(
        "POST {}apply HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nContent-Type: application/json\r\nCookie: {}\r\n\
         Sanedge-Csrf: {}\r\nContent-Length: {}\r\n\r\n{body}",
        session.path,
        session.cookie,
        session.csrf,
        body.len()
    );
    let mut stream = TcpStream::connect(("127.0.0.1", console.port)).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let _ = stream.shutdown(Shutdown::Both);
    drop(stream);
    // Either the request did not arrive, or it is done as a whole.
    console.wait(&format!("applied add host {NEW}"));
    edge.tls(NEW).await;
    assert!(!edge.desk().path(".sanedge-apply").exists());
    assert_eq!(session.get("").status, 200, "the console goes on");
    drop(console);
    edge.stop();
}

/// An edge whose reload takes until it is told how to answer. Each reload is announced.
fn slow_edge(desk: &Desk) -> (Receiver<()>, Sender<bool>) {
    desk.bundled();
    let file = desk.bundle_file();
    let digest = |file: &Path| {
        let output = sanedge().args(["show", "--json"]).arg(file).output().unwrap();
        document(&output)["digest"].as_str().unwrap()[..16].to_owned()
    };
    let mut used = digest(&file);
    let listener = UnixListener::bind(desk.path("admin.sock")).unwrap();
    let ((began, begun), (answer, answers)) = (channel(), channel());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count > 0) {
                head.push(byte[0]);
            }
            let (code, body) = if head.starts_with(b"GET /status") {
                let counters = json!({ "websockets_open": 0 });
                let status =
                    json!({ "bundle": used, "bundle_file": file, "draining": false, "counters": counters });
                (200, status.to_string())
            } else {
                let _ = began.send(());
                let Ok(takes) = answers.recv() else { return };
                if takes {
                    used = digest(&file);
                    (200, json!({ "ok": true, "notes": [] }).to_string())
                } else {
                    (
                        409,
                        json!({ "ok": false, "code": "reload-refused", "message": "not this one" })
                            .to_string(),
                    )
                }
            };
            let answer = format!(
                "HTTP/1.1 {code} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (begun, answer)
}

#[test]
fn a_server_that_is_killed_in_a_change_leaves_nothing_half_done() {
    for takes in [true, false] {
        let desk = builder().write();
        let (begun, answer) = slow_edge(&desk);
        let before = read(&desk);
        let console = Console::start(&desk, &[]);
        let session = console.enter();
        let server = console.server();
        std::thread::scope(|scope| {
            let page = scope.spawn(|| {
                let answer = session.post("apply", &session.applied(&add(NEW, "3002")));
                answer.body
            });
            begun.recv_timeout(PATIENCE).expect("a reload");
            assert!(desk.path(".sanedge-apply").exists(), "the change is in progress");
            kill_process(pid(server), Signal::KILL).unwrap();
            answer.send(takes).unwrap();
            assert!(!page.join().unwrap().contains("done"));
        });
        let (status, said) = console.ended();
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("the page's process has ended"), "{said}");
        assert!(!desk.path(".sanedge-apply").exists());
        let word =
            if takes { format!("applied add host {NEW}") } else { format!("not applied, add host {NEW}") };
        assert!(said.contains(&word), "{said}");
        assert_eq!(read(&desk) == before, !takes, "{said}");
        assert_eq!(read(&desk).contains(NEW), takes);
    }
}

#[test]
fn a_signal_ends_both_processes_and_a_change_in_progress_first() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let desk = builder().write();
        let (begun, answer) = slow_edge(&desk);
        let console = Console::start(&desk, &[]);
        let session = console.enter();
        let server = console.server();
        std::thread::scope(|scope| {
            let page = scope.spawn(|| session.apply(&add(NEW, "3002")));
            begun.recv_timeout(PATIENCE).expect("a reload");
            console.signal(signal);
            answer.send(true).unwrap();
            // The page still hears how its change ended.
            assert_eq!(page.join().unwrap().0["is_good"], true);
        });
        let (status, said) = console.ended();
        assert!(status.success() && said.contains("it was stopped"), "{said}");
        assert!(is_gone(server), "the page's process is left");
        assert!(read(&desk).contains(NEW) && !desk.path(".sanedge-apply").exists());
    }
    // Nothing is in progress, and a parent that is killed takes the server with it.
    let desk = builder().write();
    for signal in [Signal::INT, Signal::KILL] {
        let console = Console::start(&desk, &[]);
        let server = console.server();
        console.signal(signal);
        drop(console.ended());
        assert!(is_gone(server), "the page's process is left after {signal:?}");
    }
}

#[test]
fn it_ends_by_itself_without_requests() {
    let desk = builder().write();
    let (status, said) = Console::start(&desk, &["--idle", "300ms"]).ended();
    assert!(status.code() == Some(1) && said.contains("the link was not opened within"), "{said}");
    // Longer than a start of the server's process on a slow machine.
    let console = Console::start(&desk, &["--idle", "3s"]);
    let session = console.enter();
    for _ in 0..3 {
        assert_eq!(session.get("").status, 200);
    }
    let last = Instant::now();
    let (status, said) = console.ended();
    assert!(status.success() && said.contains("no request arrived for the time of"), "{said}");
    assert!(last.elapsed() >= Duration::from_secs(1), "{:?}", last.elapsed());
}

#[test]
fn it_does_not_begin_where_a_change_could_not_be_made() {
    let refused = |file: &Path, words: &str| {
        let output = sanedge().arg("console").arg(file).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(
            text(&output).contains(words) && !text(&output).contains("http://"),
            "{words}: {}",
            text(&output)
        );
    };
    let desk = builder().write();
    refused(&desk.path("missing.toml"), "does not exist");
    std::os::unix::fs::symlink(desk.toml(), desk.path("link.toml")).unwrap();
    refused(&desk.path("link.toml"), "link");
    if !rustix::process::geteuid().is_root() {
        let about = fs::metadata("/etc/passwd").unwrap();
        assert_eq!(about.uid(), 0);
        refused(Path::new("/etc/passwd"), "type `sudo sanedge console /etc/passwd`");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = sanedge().arg("console").arg(desk.toml()).args(["--port", &port]).output().unwrap();
    assert!(output.status.code() == Some(1) && text(&output).contains(&port), "{}", text(&output));
}

#[test]
fn its_link_and_its_errors_are_json_where_asked() {
    let desk = builder().write();
    let console = Console::start(&desk, &["--json", "--idle", "30s"]);
    let said: Value = serde_json::from_str(&console.stdout.join("\n")).unwrap();
    let link = format!("http://127.0.0.1:{}/#{}", console.port, console.token);
    assert_eq!(said, json!({ "link": link, "port": console.port, "link_s": 300, "idle_s": 30.0 }));
    console.enter();
    console.signal(Signal::INT);
    assert!(console.ended().0.success());

    let missing = desk.path("missing.toml");
    let output = sanedge().arg("console").arg(missing).arg("--json").output().unwrap();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.code() == Some(1) && said["code"] == "file-missing", "{said:#}");
}

// --- in a browser -----------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn in_a_browser_a_host_is_added_by_click_and_by_keyboard() {
    let test = "in_a_browser_a_host_is_added_by_click_and_by_keyboard";
    let Some(interop) = Interop::ready(test) else { return };
    let edge = Edge::certified_for(&["first.localhost", NEW, "two.recre.store"])
        .site(&["first.localhost"], "127.0.0.1:3002")
        .start();
    let mut console = Console::start(edge.desk(), &[]);
    let shots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("console");
    fs::create_dir_all(&shots).unwrap();
    let link = format!("http://127.0.0.1:{}/#{}", console.port, console.token);
    let parameters = json!({ "url": link, "shots": shots, "host": NEW, "second": "two.recre.store", "first": "first.localhost" });
    let ca = edge.desk().ca_file();
    let Some(browser) = interop.start_browser(test, &ca, "console", &parameters) else { return };
    browser.wait("added");
    edge.tls(NEW).await;
    browser.wait("typed");
    edge.tls("two.recre.store").await;
    browser.wait("removed");
    assert!(edge.try_tls(NEW).await.is_err(), "it is served no more");
    assert_eq!(browser.finish().last().unwrap()["event"], "passed");
    console.wait("applied remove host");
    let (status, said) = console.ended();
    assert!(status.success() && said.contains("the page has ended it"), "{said}");
    edge.stop();
}
