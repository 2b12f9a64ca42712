//! The real `sanedge` binary in front of a test, so that a test reads as a sentence:
//!
//! ```ignore
//! let edge = Edge::certified_for(&["recre.store"]).site(&["recre.store"], upstream).start();
//! edge.tls("recre.store").await;
//! edge.stop();
//! ```
//!
//! A throwaway CA, `sanedge.toml` and PEM files in a folder of their own, `sanedge bundle`, `sanedge serve` on port 0.
//! The child is killed when the value is dropped, so it cannot outlive its test.

use std::fmt::Display;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::activation::Sockets;
use super::certs::Ca;
use super::program::install;
pub use super::program::sanedge;

/// Long enough for a debug build on a busy machine; nothing waits this long when all is well.
pub const PATIENCE: Duration = Duration::from_secs(if cfg!(target_arch = "x86_64") { 30 } else { 120 });

/// What `sanedge.toml` will say.
pub struct EdgeBuilder {
    ca: Ca,
    certificates: Vec<Vec<String>>,
    top: String,
    listen: String,
    http: bool,
    sites: String,
    limits: String,
    runtime: Option<PathBuf>,
    admin: Option<String>,
    options: Vec<String>,
}

/// A running `sanedge serve`.
pub struct Edge {
    /// The first TLS listener.
    pub https: SocketAddr,
    /// The plain listener, where `with_http` asked for one.
    pub http: Option<SocketAddr>,
    desk: Desk,
    child: Child,
    log: Arc<Log>,
}

/// The folder with `sanedge.toml`, the PEM files and the bundle.
pub struct Desk {
    /// Its files' authority; `write_certificate` issues from it.
    pub ca: Ca,
    folder: tempfile::TempDir,
    runtime: Option<PathBuf>,
    options: Vec<String>,
}

/// What `serve` has said so far on stderr.
#[derive(Default)]
struct Log {
    said: Mutex<Said>,
    news: Condvar,
}

#[derive(Default)]
struct Said {
    lines: Vec<String>,
    ended: bool,
}

impl Edge {
    /// An edge with one certificate for `names`, of a CA of its own.
    pub fn certified_for(names: &[&str]) -> EdgeBuilder {
        EdgeBuilder {
            ca: Ca::new("sanedge test CA"),
            certificates: vec![owned(names)],
            top: String::new(),
            listen: String::new(),
            http: false,
            sites: String::new(),
            limits: String::new(),
            runtime: None,
            admin: None,
            options: Vec::new(),
        }
    }
}

impl EdgeBuilder {
    /// One more certificate.
    pub fn certificate(mut self, names: &[&str]) -> Self {
        self.certificates.push(owned(names));
        self
    }

    /// A site with one upstream (`127.0.0.1:3002`, `unix:/run/app.sock`).
    pub fn site(self, hosts: &[&str], upstream: impl Display) -> Self {
        self.site_with(hosts, upstream, "")
    }

    /// A site with more keys, one a line.
    pub fn site_with(mut self, hosts: &[&str], upstream: impl Display, keys: &str) -> Self {
        self.sites += &format!("[[site]]\nhosts = {hosts:?}\nupstream = [\"{upstream}\"]\n{keys}\n");
        self
    }

    /// Whole tables of sites.
    pub fn site_text(mut self, tables: &str) -> Self {
        self.sites += tables;
        self
    }

    /// Lines for `[limits]`.
    pub fn limits(mut self, lines: &str) -> Self {
        self.limits += &format!("{lines}\n");
        self
    }

    /// Lines for `[listen]`.
    pub fn listen(mut self, lines: &str) -> Self {
        self.listen += &format!("{lines}\n");
        self
    }

    /// Another admin address than a socket in the folder.
    pub fn admin(mut self, address: &str) -> Self {
        self.admin = Some(address.to_owned());
        self
    }

    /// Options of `sanedge serve`.
    pub fn options(mut self, options: &[&str]) -> Self {
        self.options = owned(options);
        self
    }

    /// A plain listener besides the TLS one.
    pub fn with_http(mut self) -> Self {
        self.http = true;
        self
    }

    /// The folder that systemd would have made (`RUNTIME_DIRECTORY`).
    pub fn runtime(mut self, folder: &Path) -> Self {
        self.runtime = Some(folder.to_owned());
        self
    }

    /// Lines above the first table.
    pub fn top(mut self, lines: &str) -> Self {
        self.top += &format!("{lines}\n");
        self
    }

    /// Writes the folder and runs nothing.
    pub fn write(self) -> Desk {
        let desk = Desk {
            ca: self.ca,
            folder: tempfile::tempdir().unwrap(),
            runtime: self.runtime,
            options: self.options,
        };
        std::fs::write(desk.ca_file(), &desk.ca.pem).unwrap();
        for (at, names) in self.certificates.iter().enumerate() {
            desk.write_certificate(at, &names.iter().map(String::as_str).collect::<Vec<_>>());
        }
        let admin = self.admin.unwrap_or_else(|| format!("unix:{}", desk.path("admin.sock").display()));
        // A test that stops with open WebSockets should not wait the default minute.
        let drain = if self.top.contains("drain_timeout") { "" } else { "drain_timeout = \"2s\"" };
        let mut toml = format!("board = \"host\"\ntrust = \"ca.pem\"\n{drain}\n{}\n[listen]\n", self.top);
        toml += "https = [\"127.0.0.1:0\"]\n";
        if self.http {
            toml += "http = [\"127.0.0.1:0\"]\n";
        }
        toml += &format!("admin = \"{admin}\"\n{}\n", self.listen);
        for at in 0..self.certificates.len() {
            toml += &format!("[[certificate]]\nchain = \"{at}.pem\"\nkey = \"{at}.key\"\n");
        }
        toml += &format!("{}\n[limits]\n{}", self.sites, self.limits);
        std::fs::write(desk.toml(), toml).unwrap();
        desk
    }

    /// Compiles the bundle and serves it; panics with the findings where either refuses.
    pub fn start(self) -> Edge {
        self.write().serve()
    }
}

impl Desk {
    /// A file of the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `sanedge.toml`, to be rewritten by a test.
    pub fn toml(&self) -> PathBuf {
        self.path("sanedge.toml")
    }

    /// The bundle.
    pub fn bundle_file(&self) -> PathBuf {
        self.path("sanedge.bundle")
    }

    /// The CA that clients must trust.
    pub fn ca_file(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// Issues certificate number `at` anew, for `names`.
    pub fn write_certificate(&self, at: usize, names: &[&str]) {
        let issued = self.ca.issue(names);
        std::fs::write(self.path(&format!("{at}.pem")), issued.chain_pem).unwrap();
        std::fs::write(self.path(&format!("{at}.key")), issued.key_pem).unwrap();
    }

    /// Runs `sanedge bundle`, which also prints how the memory is calculated.
    pub fn bundle(&self) -> Output {
        sanedge()
            .args(["bundle", "--verbose"])
            .arg(self.toml())
            .arg("-o")
            .arg(self.bundle_file())
            .output()
            .unwrap()
    }

    /// Runs `sanedge bundle`, which must succeed.
    pub fn bundled(&self) {
        let output = self.bundle();
        assert!(output.status.success(), "sanedge bundle refused:\n{}", text(&output));
    }

    /// Runs `sanedge bundle` on another sanedge.toml, which must succeed.
    pub fn bundled_from(&self, toml: &std::path::Path) {
        let output = sanedge().arg("bundle").arg(toml).arg("-o").arg(self.bundle_file()).output().unwrap();
        assert!(output.status.success(), "sanedge bundle refused:\n{}", text(&output));
    }

    /// `sanedge` with these words, which asks the edge of this folder.
    pub fn ask(&self, words: &[&str]) -> Output {
        sanedge().args(words).arg("--admin").arg(self.path("admin.sock")).output().unwrap()
    }

    /// Compiles and serves.
    pub fn serve(self) -> Edge {
        self.bundled();
        self.serve_by(sanedge())
    }

    /// Compiles and serves with this environment besides.
    pub fn serve_with(self, environment: &[(&str, &str)]) -> Edge {
        self.bundled();
        let mut command = sanedge();
        command.envs(environment.iter().copied());
        self.serve_by(command)
    }

    /// Compiles as this user (root), hands the bundle to `group` as on a board, and serves as `user`.
    pub fn serve_as(self, user: u32, group: u32) -> Edge {
        use std::os::unix::fs::{PermissionsExt, chown};
        use std::os::unix::process::CommandExt;
        self.bundled();
        chown(self.bundle_file(), Some(0), Some(group)).unwrap();
        std::fs::set_permissions(self.bundle_file(), std::fs::Permissions::from_mode(0o640)).unwrap();
        // The admin socket is made in the folder; the target folder may be closed to this user.
        chown(self.folder.path(), Some(user), Some(group)).unwrap();
        let program = self.path("sanedge");
        install(env!("CARGO_BIN_EXE_sanedge"), &program);
        let mut command = Command::new(program);
        command.uid(user).gid(group).env_remove("SANEDGE_DUMPABLE");
        self.serve_by(command)
    }

    /// Compiles, and serves on sockets that `sockets` holds.
    pub fn serve_on(self, sockets: &Sockets) -> Edge {
        self.bundled();
        let started = self.spawn_on(sockets);
        self.serve_started(started)
    }

    /// Compiles; `serve` must refuse these sockets by itself, with 1. What it says.
    pub fn refused_on(&self, sockets: &Sockets) -> String {
        self.bundled();
        let (mut child, log) = self.spawn_on(sockets);
        let ended = log.wait(PATIENCE, |said| said.ended.then(|| said.lines.join("\n")));
        let said = ended.unwrap_or_else(|| {
            let _ = child.kill();
            panic!("these sockets were taken:\n{}", log.said.lock().unwrap().lines.join("\n"))
        });
        assert_eq!(child.wait().unwrap().code(), Some(1), "{said}");
        said
    }

    /// Serves by another program, which is given `serve` and the bundle.
    pub fn serve_by(self, command: Command) -> Edge {
        let started = self.spawn(command);
        self.serve_started(started)
    }

    fn serve_started(self, (child, log): (Child, Arc<Log>)) -> Edge {
        let unbound = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut edge = Edge { https: unbound, http: None, desk: self, child, log };
        edge.wait_until_ready();
        edge
    }

    fn spawn(&self, mut command: Command) -> (Child, Arc<Log>) {
        command.env_remove("RUNTIME_DIRECTORY");
        // So that tests may read its memory, and stop a thread of it, without being root.
        if !command.get_envs().any(|(name, _)| name == "SANEDGE_DUMPABLE") {
            command.env("SANEDGE_DUMPABLE", "1");
        }
        self.runtime.as_ref().map(|folder| command.env("RUNTIME_DIRECTORY", folder));
        let mut child = command
            .arg("serve")
            .arg(self.bundle_file())
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        (child, Log::follow(move || stderr))
    }

    fn spawn_on(&self, sockets: &Sockets) -> (Child, Arc<Log>) {
        let pipe = self.path("log");
        let _ = std::fs::remove_file(&pipe);
        let mut command = sockets.command(&sanedge(), &pipe);
        let log = Log::follow(move || File::open(pipe).unwrap());
        (command.arg("serve").arg(self.bundle_file()).spawn().unwrap(), log)
    }
}

impl Edge {
    /// Its folder.
    pub fn desk(&self) -> &Desk {
        &self.desk
    }

    /// What `sanedge status --json` says.
    pub fn status(&self) -> serde_json::Value {
        let admin = self.desk.path("admin.sock");
        let output = sanedge().args(["status", "--json", "--admin"]).arg(admin).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// How often `status` says that was refused.
    pub fn refused(&self, reason: &str) -> u64 {
        self.status()["refused"][reason].as_u64().unwrap_or_else(|| panic!("no reason {reason}"))
    }

    /// Process id of the edge.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `https://host:port`.
    pub fn url(&self, host: &str) -> String {
        format!("https://{host}:{}", self.https.port())
    }

    /// Everything said so far.
    pub fn log(&self) -> String {
        self.log.said.lock().unwrap().lines.join("\n")
    }

    /// Number of lines said so far, for [`Edge::wait_for_log_after`].
    pub fn log_mark(&self) -> usize {
        self.log.said.lock().unwrap().lines.len()
    }

    /// The first line that holds `wanted` (quotes around values do not count); panics after `patience`.
    pub fn wait_for_log(&self, wanted: &str, patience: Duration) -> String {
        self.wait_for_log_after(0, wanted, patience)
    }

    /// The same, among the lines after `mark`.
    pub fn wait_for_log_after(&self, mark: usize, wanted: &str, patience: Duration) -> String {
        let found = self.log.wait(patience, |said| {
            said.lines.iter().skip(mark).find(|line| plain(line).contains(&plain(wanted))).cloned()
        });
        found.unwrap_or_else(|| panic!("no line with `{wanted}` within {patience:?} in\n{}", self.log()))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.process(), signal).unwrap();
    }

    /// Compiles the folder again, sends SIGHUP, and waits for the answer: the new bundle must be in use.
    pub fn reload(&self) {
        self.desk.bundled();
        let mark = self.log_mark();
        self.signal(Signal::HUP);
        let line = self.wait_for_log_after(mark, "msg=\"reload", PATIENCE);
        assert!(plain(&line).contains("msg=reloaded"), "{line}");
    }

    /// SIGTERM; the edge must end by itself with 0, without a panic anywhere in its log.
    pub fn stop(self) -> String {
        self.signal(Signal::TERM);
        self.ended()
    }

    /// Kills the edge without a word and serves the same folder again.
    pub fn killed_and_served_again(mut self) -> Self {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.start_again();
        self
    }

    /// Waits until it has ended, as [`Edge::ended`], and serves the same folder again on the same sockets.
    pub fn succeeded_on(mut self, sockets: &Sockets) -> Self {
        self.wait_until_ended();
        (self.child, self.log) = self.desk.spawn_on(sockets);
        self.wait_until_ready();
        self
    }

    /// Serves the folder of an edge that has ended, by this program, as [`Desk::serve_by`].
    pub fn succeeded_by(mut self, command: Command) -> Self {
        (self.child, self.log) = self.desk.spawn(command);
        self.wait_until_ready();
        self
    }

    /// SIGUSR1, as systemd sends it for a restart, and the same folder served again.
    pub fn restarted(mut self) -> Self {
        self.signal(Signal::USR1);
        self.wait_until_ended();
        self.start_again();
        self
    }

    /// The edge must end by itself with 0, without a panic anywhere in its log, which is given back.
    pub fn ended(mut self) -> String {
        self.wait_until_ended()
    }

    /// [`Edge::ended`], for a test that wants to look at the folder afterwards.
    pub fn wait_until_ended(&mut self) -> String {
        let ended = self.log.wait(PATIENCE, |said| said.ended.then_some(()));
        assert!(ended.is_some(), "no end within {PATIENCE:?} of SIGTERM:\n{}", self.log());
        let status = self.child.wait().unwrap();
        let log = self.log();
        assert!(status.success(), "{status} after SIGTERM:\n{log}");
        assert!(!log.contains("panic"), "{log}");
        log
    }

    /// A line of `/proc/<pid>/smaps_rollup` in KiB: `Pss`, `Rss`.
    pub fn memory_kib(&self, line: &str) -> u64 {
        memory_kib(self.pid(), line)
    }

    /// A TLS connection with `host` as SNI, trusting the CA and checking the name.
    pub async fn tls(&self, host: &str) -> TlsStream<TcpStream> {
        self.try_tls(host).await.unwrap_or_else(|error| panic!("TLS to {host}: {error}\n{}", self.log()))
    }

    /// The same; the error is the client's.
    pub async fn try_tls(&self, host: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.https).await?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::new(client_config(&self.desk.ca.pem)));
        connector.connect(ServerName::try_from(host.to_owned()).unwrap(), stream).await
    }

    fn start_again(&mut self) {
        (self.child, self.log) = self.desk.spawn(sanedge());
        self.wait_until_ready();
    }

    fn wait_until_ready(&mut self) {
        self.wait_for_log("msg=ready", PATIENCE);
        self.https = self.listening("https").expect("a line that names the TLS listener");
        self.http = self.listening("http");
    }

    fn listening(&self, kind: &str) -> Option<SocketAddr> {
        let log = self.log();
        let line = log
            .lines()
            .map(plain)
            .find(|line| line.contains("msg=listening") && line.contains(&format!("kind={kind} ")))?;
        let address = line.split("address=").nth(1)?.split_whitespace().next()?;
        Some(address.parse().unwrap_or_else(|error| panic!("{address}: {error}")))
    }

    fn process(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap()).unwrap()
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let said = self.log.said.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let from = said.lines.len().saturating_sub(40);
            eprintln!(
                "--- the edge's last lines:\n{}",
                said.lines.get(from..).unwrap_or_default().join("\n")
            );
        }
    }
}

impl Log {
    /// Follows what `open` gives on a thread until it ends.
    fn follow<R: Read>(open: impl FnOnce() -> R + Send + 'static) -> Arc<Self> {
        let log = Arc::new(Self::default());
        let ours = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(open()).lines().map_while(Result::ok) {
                ours.said.lock().unwrap().lines.push(line);
                ours.news.notify_all();
            }
            ours.said.lock().unwrap().ended = true;
            ours.news.notify_all();
        });
        log
    }

    /// Waits until `look` finds something, the log ends, or `patience` does.
    fn wait<T>(&self, patience: Duration, look: impl Fn(&Said) -> Option<T>) -> Option<T> {
        let until = Instant::now() + patience;
        let mut said = self.said.lock().unwrap();
        loop {
            let found = look(&said);
            let left = until.saturating_duration_since(Instant::now());
            if found.is_some() || said.ended || left.is_zero() {
                return found;
            }
            said = self.news.wait_timeout(said, left).unwrap().0;
        }
    }
}

/// A client's configuration that trusts `ca_pem` alone.
pub fn client_config(ca_pem: &str) -> rustls::ClientConfig {
    client_config_with(rustls::crypto::ring::default_provider(), ca_pem)
}

/// The same with the suites and groups of `provider`.
pub fn client_config_with(provider: rustls::crypto::CryptoProvider, ca_pem: &str) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// A line of `/proc/<pid>/smaps_rollup` in KiB.
pub fn memory_kib(pid: u32, line: &str) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let found = rollup.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':'));
    found.unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

/// What a command printed for programs.
pub fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(output)))
}

/// Both streams of a command, for an assertion's message.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn plain(line: &str) -> String {
    line.replace('"', "")
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
