//! Real clients beside the doctor: what they get with the same options decides whether a finding is right.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::house::{Beside, Exhibit};

/// Longest that a client takes for one visit, with its hold, on a busy machine.
const VISIT_TIME: Duration = Duration::from_secs(180);

/// One program for each kind of client.
pub struct Clients {
    node: Talker,
    python: Talker,
    pages: Talker,
}

impl Clients {
    pub fn start(folder: &Path, roots: &Path, python: &Path, chromium: &Path) -> Self {
        for script in ["clients.mjs", "clients.py", "pages.mjs"] {
            let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gallery").join(script);
            std::fs::copy(ours, folder.join(format!("gallery-{script}"))).unwrap();
        }
        let at = |program: &Path, script: &str| {
            let mut command = Command::new(program);
            command.arg(format!("gallery-{script}")).current_dir(folder);
            command
        };
        let node = Path::new("node");
        Self {
            node: Talker::start(at(node, "clients.mjs").env("NODE_EXTRA_CA_CERTS", roots)),
            python: Talker::start(at(python, "clients.py").arg(roots)),
            pages: Talker::start(at(node, "pages.mjs").arg(chromium)),
        }
    }

    /// What each client that an exhibit has comes to, with what it should come to.
    pub fn visit(&self, id: u64, exhibit: &Exhibit) -> Vec<Outcome> {
        let Some(target) = Target::of(exhibit) else { return Vec::new() };
        let asked = [
            ("node", &self.node, Some(target.for_node()), exhibit.beside),
            ("python", &self.python, target.for_python(), exhibit.python),
            ("page", &self.pages, target.for_page(), Beside::TheSame),
        ];
        std::thread::scope(|scope| {
            let visits = asked.into_iter().filter_map(|(who, talker, request, expected)| {
                let request = request?;
                Some(scope.spawn(move || {
                    let said = talker.ask(id, request);
                    let why = said["why"].as_str().unwrap_or_default().to_owned();
                    Outcome { who, ok: said["ok"] == true, why, expected }
                }))
            });
            let visits: Vec<_> = visits.collect();
            visits.into_iter().map(|visit| visit.join().unwrap()).collect()
        })
    }
}

/// How a client fared.
pub struct Outcome {
    pub who: &'static str,
    pub ok: bool,
    pub why: String,
    pub expected: Beside,
}

/// A program that visits servers: a request is a line of JSON, and so is what it says.
struct Talker {
    child: Mutex<(Child, ChildStdin)>,
    waiting: Arc<Mutex<HashMap<u64, Sender<Value>>>>,
}

impl Talker {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let waiting: Arc<Mutex<HashMap<u64, Sender<Value>>>> = Arc::default();
        let theirs = Arc::clone(&waiting);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let said: Value = serde_json::from_str(&line).unwrap_or_default();
                let waiter = said["id"].as_u64().and_then(|id| theirs.lock().unwrap().remove(&id));
                waiter.map(|waiter| waiter.send(said));
            }
            // Nobody waits for a program that has ended.
            theirs.lock().unwrap().clear();
        });
        Self { child: Mutex::new((child, input)), waiting }
    }

    fn ask(&self, id: u64, mut request: Value) -> Value {
        request["id"] = json!(id);
        let (sender, receiver): (_, Receiver<Value>) = channel();
        self.waiting.lock().unwrap().insert(id, sender);
        writeln!(self.child.lock().unwrap().1, "{request}").unwrap();
        receiver.recv_timeout(VISIT_TIME).unwrap_or_else(
            |error| json!({ "ok": false, "why": format!("the client's program is silent: {error}") }),
        )
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap();
        let _ = child.0.kill();
        let _ = child.0.wait();
    }
}

/// The doctor's command line in a client's words.
struct Target<'a> {
    exhibit: &'a Exhibit,
    url: &'a str,
}

impl<'a> Target<'a> {
    /// `None` where no client has such a target.
    fn of(exhibit: &'a Exhibit) -> Option<Self> {
        let arguments = &exhibit.arguments;
        // `--resolve` has no twin in a client, and `--upstream` is of one machine.
        let other = ["--upstream", "--resolve"].iter().any(|flag| arguments.iter().any(|word| word == flag));
        if exhibit.offline || exhibit.machine.is_some() || other {
            return None;
        }
        let url = arguments.iter().find(|word| word.contains("://"))?;
        Some(Self { exhibit, url })
    }

    fn all(&self, name: &str) -> Vec<&'a str> {
        let pairs = self.exhibit.arguments.windows(2);
        pairs.filter(|pair| pair[0] == name).map(|pair| pair[1].as_str()).collect()
    }

    fn value(&self, name: &str) -> Option<&'a str> {
        self.all(name).first().copied()
    }

    fn has(&self, flag: &str) -> bool {
        self.exhibit.arguments.iter().any(|word| word == flag)
    }

    fn fields(&self) -> HashMap<&'a str, &'a str> {
        self.all("--header").into_iter().filter_map(|field| field.split_once(": ")).collect()
    }

    fn polls_only(&self) -> bool {
        self.value("--transport") == Some("polling")
    }

    fn is_old(&self) -> bool {
        self.value("--eio") == Some("3") || self.exhibit.code == "eio-v3-server"
    }

    /// With the namespace, as socket.io-client takes it.
    fn whole_url(&self) -> String {
        format!("{}{}", self.url, self.value("--namespace").unwrap_or_default())
    }

    fn options(&self) -> Value {
        let mut options = json!({
            "extraHeaders": self.fields(),
            "path": self.value("--path").unwrap_or("/socket.io"),
        });
        let query: HashMap<&str, &str> =
            self.all("--query").into_iter().filter_map(|pair| pair.split_once('=')).collect();
        if !query.is_empty() {
            options["query"] = json!(query);
        }
        let auth: HashMap<&str, &str> =
            self.all("--auth").into_iter().filter_map(|pair| pair.split_once('=')).collect();
        if !auth.is_empty() {
            options["auth"] = json!(auth);
        }
        if let Some(transport) = self.value("--transport") {
            options["transports"] = json!([transport]);
        }
        options
    }

    fn for_node(&self) -> Value {
        let mut options = self.options();
        for (field, flag) in [("Origin", "--origin"), ("Cookie", "--cookie")] {
            if let Some(value) = self.value(flag) {
                options["extraHeaders"][field] = json!(value);
            }
        }
        // Node keeps cookies with it.
        options["withCredentials"] = json!(!self.has("--no-cookies"));
        let hold: u64 = self.value("--hold").map_or(0, |hold| hold.trim_end_matches('s').parse().unwrap());
        json!({
            "url": self.whole_url(),
            "version": if self.is_old() { 2 } else { 4 },
            "options": options,
            "websocket": !self.polls_only(),
            "hold": hold * 1000,
        })
    }

    /// Where the server is of Python, or what differs between programs is the matter.
    fn for_python(&self) -> Option<Value> {
        let of_python = ["py-", "forwarded", "slash-"].iter().any(|part| self.url.contains(part));
        let matters = ["eio-cookie-needed", "ws-extension", "ws-connection-list"]
            .contains(&self.exhibit.code)
            || ["--cookie", "--no-cookies", "--header"].iter().any(|flag| self.has(flag));
        // A balancer would count its requests with Node's, which goes there at the same time.
        let alone = self.exhibit.code == "eio-sid-unknown";
        if !of_python && !matters || alone || self.value("--origin").is_some() || self.is_old() {
            return None;
        }
        let mut fields = self.fields();
        fields.extend(self.value("--cookie").map(|cookie| ("Cookie", cookie)));
        let query = self.all("--query").join("&");
        Some(json!({
            "url": if query.is_empty() { self.url.to_owned() } else { format!("{}?{query}", self.url) },
            "path": self.value("--path").unwrap_or("/socket.io"),
            "namespace": self.value("--namespace").unwrap_or("/"),
            "fields": fields,
            "transports": self.value("--transport").map(|one| vec![one]),
            "websocket": !self.polls_only(),
        }))
    }

    /// Where a page's origin is given.
    fn for_page(&self) -> Option<Value> {
        let origin = self.value("--origin").filter(|origin| origin.starts_with("http"))?;
        let mut options = self.options();
        let cookies = self.all("--cookie").into_iter().filter_map(|cookie| cookie.split_once('='));
        let secure = self.url.starts_with("https://");
        let cookies: Vec<Value> = cookies
            .map(|(name, value)| {
                json!({
                    "name": name, "value": value, "url": self.url, "secure": secure,
                    "sameSite": if secure { "None" } else { "Lax" },
                })
            })
            .collect();
        options["withCredentials"] = json!(!self.has("--no-cookies"));
        Some(json!({
            "origin": origin,
            "url": self.whole_url(),
            "options": options,
            "cookies": cookies,
            "websocket": !self.polls_only(),
        }))
    }
}
