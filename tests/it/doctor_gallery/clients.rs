//! Real clients beside the doctor: what they get with the same options decides whether a finding is right.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::house::Exhibit;

/// Longest that a client takes for one visit, with its hold, on a busy machine.
const VISIT_TIME: Duration = Duration::from_secs(60);

/// One program with all clients.
pub struct Clients {
    child: Mutex<(Child, ChildStdin)>,
    waiting: Arc<Mutex<HashMap<u64, Sender<Value>>>>,
}

impl Clients {
    pub fn start(folder: &Path, roots: &Path) -> Self {
        let script = folder.join("gallery-clients.mjs");
        std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gallery/clients.mjs"), script)
            .unwrap();
        let mut command = Command::new("node");
        command.arg("gallery-clients.mjs").current_dir(folder).env("NODE_EXTRA_CA_CERTS", roots);
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
        });
        Self { child: Mutex::new((child, input)), waiting }
    }

    /// What the real client of an exhibit comes to; `None` where it has none.
    pub fn visit(&self, id: u64, exhibit: &Exhibit) -> Option<Outcome> {
        let mut request = request(exhibit)?;
        request["id"] = json!(id);
        let (sender, receiver): (_, Receiver<Value>) = channel();
        self.waiting.lock().unwrap().insert(id, sender);
        writeln!(self.child.lock().unwrap().1, "{request}").unwrap();
        let said = receiver.recv_timeout(VISIT_TIME).expect("the client's program answers");
        Some(Outcome { ok: said["ok"] == true, why: said["why"].as_str().unwrap_or_default().to_owned() })
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        let _ = self.child.lock().unwrap().0.kill();
    }
}

/// How a client fared.
pub struct Outcome {
    pub ok: bool,
    pub why: String,
}

/// The doctor's command line in a client's words; `None` where no client has such a target.
fn request(exhibit: &Exhibit) -> Option<Value> {
    if exhibit.offline
        || exhibit.machine.is_some()
        || exhibit.arguments.iter().any(|word| word == "--upstream")
    {
        return None;
    }
    let mut url = exhibit.arguments.iter().find(|word| word.contains("://"))?.clone();
    let value = |name: &str| {
        let at = exhibit.arguments.iter().position(|word| word == name)?;
        exhibit.arguments.get(at + 1).map(String::as_str)
    };
    let all = |name: &str| -> Vec<&str> {
        let pairs = exhibit.arguments.windows(2);
        pairs.filter(|pair| pair[0] == name).map(|pair| pair[1].as_str()).collect()
    };
    // `--resolve` has no twin in a client.
    if value("--resolve").is_some() {
        return None;
    }
    let mut fields: HashMap<&str, &str> =
        all("--header").into_iter().filter_map(|field| field.split_once(": ")).collect();
    fields.extend(value("--origin").map(|origin| ("Origin", origin)));
    fields.extend(value("--cookie").map(|cookie| ("Cookie", cookie)));
    let mut options = json!({ "extraHeaders": fields, "path": value("--path").unwrap_or("/socket.io") });
    let query: HashMap<&str, &str> =
        all("--query").into_iter().filter_map(|pair| pair.split_once('=')).collect();
    if !query.is_empty() {
        options["query"] = json!(query);
    }
    // Node keeps cookies with it.
    options["withCredentials"] = json!(!exhibit.arguments.iter().any(|word| word == "--no-cookies"));
    if let Some(transport) = value("--transport") {
        options["transports"] = json!([transport]);
    }
    url += value("--namespace").unwrap_or_default();
    let hold: u64 = value("--hold").map_or(0, |hold| hold.trim_end_matches('s').parse().unwrap());
    let old = value("--eio") == Some("3") || exhibit.code == "eio-v3-server";
    Some(json!({
        "url": url,
        "version": if old { 2 } else { 4 },
        "options": options,
        "websocket": value("--transport") != Some("polling"),
        "hold": hold * 1000,
    }))
}
