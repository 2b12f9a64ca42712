//! `renew` cut short at every system call that writes a file or talks to somebody.
//!
//! - *kill*: SIGKILL before the call.
//! - *power*: the same, and what is not synced is lost, as is the challenge folder, which is a tmpfs. The edge starts again.
//! - *stop*: SIGSTOP after the call; another `renew` is started meanwhile, and the first one goes on after it.
//!
//! After each, the edge serves the old certificate or the new one, and the run of an hour later ends with the new one in use, at most
//! one order more than without the cut, and the keys that were stored before it.

use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::super::acme::toml;
use super::super::support::activation::Sockets;
use super::super::support::certs::{Ca, leaf_params};
use super::super::support::edge::{sanedge, text};
use super::super::support::pebble::{Act, Front, Pebble, try_connected};
use super::clock::Clock;
use super::disk::Disk;
use super::{needs, row};

const HOST: &str = "a.localhost";
const HOUR_S: i64 = 3_600;
/// For how long a second run is alone, while the first one is stopped.
const HEAD_START: Duration = Duration::from_secs(3);
/// The certificate that is renewed: of how many days ago, and for how many.
const OLD_DAYS: (u64, u64) = (61, 90);
/// Calls of which some are steps.
const CALLS: [&str; 13] = [
    "mkdir", "openat", "write", "writev", "fsync", "rename", "renameat", "unlink", "fchmod", "fchown",
    "sendto", "recvfrom", "connect",
];

/// One host, the edge before it, and a CA; what belongs on the card is on a disk of its own.
pub struct Board {
    folder: tempfile::TempDir,
    disk: Option<Disk>,
    pub front: Front,
    _pebble: Pebble,
    /// The roots of the CA, and of the one that issued the old certificate.
    roots: String,
    old_ca: Ca,
    pub clock: Clock,
    sockets: Sockets,
    port: u16,
    edge: Option<Child>,
}

impl Board {
    /// With a bundle whose only host is pending.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [https, http] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [port, plain] = [&https, &http].map(|listener| listener.local_addr().unwrap().port());
        let pebble = Pebble::start(folder.path(), plain);
        let front = Front::before(&pebble);
        let sockets = Sockets::new().with("https", https).with("http", http);
        let disk = Some(Disk::make(&folder.path().join("card"), &folder.path().join("board")));
        let (old_ca, clock) = (Ca::new("of the old certificate"), Clock::new());
        let (trust, roots) = [&pebble.trust, &pebble.root].map(|pem| format!("{pem}{}", old_ca.pem)).into();
        let board =
            Self { folder, disk, front, _pebble: pebble, roots, old_ca, clock, sockets, port, edge: None };
        std::fs::write(board.path("trust.pem"), trust).unwrap();
        let toml = toml(&board.front.directory(), plain, port, &[HOST], "");
        // A tmpfs on a board.
        let challenges = format!("challenges = {:?}", board.challenges());
        std::fs::write(board.path("x.toml"), toml.replace("challenges = \"challenges\"", &challenges))
            .unwrap();
        board.bundled();
        board
    }

    fn bundled(&self) {
        let output = sanedge().arg("bundle").arg(self.path("x.toml")).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }

    /// Has a certificate that is due in place of the stored one, and in the bundle.
    fn age(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let mut params = leaf_params(&[HOST]);
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + now - Duration::from_secs(OLD_DAYS.0 * 86_400);
        params.not_after = params.not_before + Duration::from_secs(OLD_DAYS.1 * 86_400);
        let old = self.old_ca.issue_with(params, rcgen::KeyPair::generate().unwrap());
        std::fs::write(self.certificate(), old.key_pem + &old.chain_pem).unwrap();
        self.bundled();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("board").join(name)
    }

    pub fn challenges(&self) -> PathBuf {
        self.folder.path().join("challenges")
    }

    fn certificate(&self) -> PathBuf {
        self.path(&format!("state/certificates/{HOST}.pem"))
    }

    pub fn disk(&self) -> &Disk {
        self.disk.as_ref().unwrap()
    }

    pub fn start_edge(&mut self) {
        let _ = std::fs::create_dir_all(self.challenges());
        let log = self.folder.path().join("log");
        let _ = std::fs::remove_file(&log);
        let mut command = self.sockets.command(&sanedge(), &log);
        // It waits in the shell until somebody reads its log.
        std::thread::spawn(move || {
            let mut log = std::fs::File::open(log).unwrap();
            std::io::copy(&mut log, &mut std::io::sink())
        });
        command.arg("serve").arg(self.path("x.bundle"));
        self.edge = Some(command.spawn().unwrap());
    }

    pub fn stop_edge(&mut self) {
        if let Some(mut edge) = self.edge.take() {
            edge.kill().unwrap();
            edge.wait().unwrap();
        }
    }

    /// The end-entity certificate that a client gets; what it gets instead.
    pub fn served(&self) -> Result<Vec<u8>, String> {
        try_connected(&self.roots, HOST, self.port).map(|(_, certificate)| certificate)
    }

    pub fn stored(&self) -> Option<Vec<u8>> {
        Some(CertificateDer::from_pem_slice(&std::fs::read(self.certificate()).ok()?).unwrap().to_vec())
    }

    pub fn renew(&self, option: &[&str]) -> Command {
        let mut command = sanedge();
        command.arg("renew").arg(self.path("x.acme")).args(option);
        command
    }

    /// To its end, without its pauses.
    pub fn renewed(&self) -> (ExitStatus, String) {
        self.clock.run(self.renew(&[]))
    }

    pub fn keep(&mut self, name: &str) -> PathBuf {
        self.stop_edge();
        let base = self.folder.path().join(name);
        self.disk.take().unwrap().kept(&base);
        base
    }

    /// Begins again with what a base holds.
    pub fn begin(&mut self, base: &Path) {
        self.stop_edge();
        drop(self.disk.take());
        let _ = std::fs::remove_dir_all(self.challenges());
        let (card, at) = (self.folder.path().join("card"), self.path(""));
        self.disk = Some(Disk::of(base, &card, &at));
        self.start_edge();
        self.front.faults(|_, _| Act::Pass);
    }

    /// The power fails, and comes back.
    fn cut_power(&mut self) {
        let seized = self.folder.path().join("seized");
        self.disk().seized(&seized);
        self.begin(&seized);
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.stop_edge();
    }
}

/// A system call: its name, and how many of this name the program's first thread made before, and itself.
#[derive(Clone)]
struct Step {
    call: &'static str,
    nth: usize,
    shown: String,
}

/// What is run and cut.
struct Trial<'a> {
    title: &'a str,
    base: PathBuf,
    options: &'a [&'a str],
    /// Orders without a cut.
    orders: usize,
}

fn strace(board: &Board, trace: &Path, options: &[&str], inject: Option<(&Step, &str)>) -> Command {
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "-qq",
        "-yy",
        "-s",
        "0",
        "-e",
        "signal=SIGSTOP",
        "-e",
        &format!("trace={}", CALLS.join(",")),
    ]);
    if let Some((step, signal)) = inject {
        command.args(["-e", &format!("inject={}:signal={signal}:when={}", step.call, step.nth)]);
    }
    for (name, value) in board.clock.variables() {
        command.args(["-E", &format!("{name}={}", value.display())]);
    }
    let renew = board.renew(options);
    command.arg("-o").arg(trace).arg(renew.get_program()).args(renew.get_args());
    command
}

/// The steps of a run that nothing cuts.
fn steps(board: &Board, options: &[&str]) -> Vec<Step> {
    let trace = board.folder.path().join("trace");
    let output = strace(board, &trace, options, None).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let trace = std::fs::read_to_string(trace).unwrap();
    let first = trace.split_whitespace().next().unwrap().to_owned();
    let mut counts = [0; CALLS.len()];
    let (folder, root) = (board.folder.path().display().to_string(), board.path(""));
    let root = root.display().to_string();
    let lines = trace.lines().filter_map(|line| line.trim_start().strip_prefix(&first)?.trim_start().into());
    let mut steps = Vec::new();
    for line in lines {
        let line: &str = line;
        let Some(at) = CALLS.iter().position(|call| line.split('(').next() == Some(call)) else { continue };
        counts[at] += 1;
        let writes = match CALLS[at] {
            "openat" => line.contains("O_CREAT") && line.contains(&folder),
            "write" | "writev" => line.contains(&folder),
            "recvfrom" => line.contains("<TCP") && !line.contains(" = -1"),
            "sendto" | "connect" => line.contains("<TCP"),
            _ => true,
        };
        if writes {
            let shown = line.replace(&root, "").replace(&folder, "…");
            let shown = shown.chars().take(90).collect();
            steps.push(Step { call: CALLS[at], nth: counts[at], shown });
        }
    }
    steps
}

/// What a cut at this step came to; with what is wrong.
fn cut(board: &mut Board, trial: &Trial<'_>, step: &Step, kind: &str) -> Result<String, String> {
    board.begin(&trial.base);
    let old = board.stored();
    let before = board.served();
    let trace = board.folder.path().join("trace");
    if kind == "stop" {
        stopped(board, trial, step, &trace)?;
    } else {
        let mut command = strace(board, &trace, trial.options, Some((step, "KILL")));
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        if status.signal() != Some(9) {
            return Ok("not reached".to_owned());
        }
    }
    board.front.settle();
    let (orders, finalized) = (board.front.count("order-plz"), board.front.count("finalize-order"));
    if kind == "power" {
        board.cut_power();
    }
    board.front.faults(|_, _| Act::Pass);
    let served = board.served();
    let word = match (&served, &before) {
        (Ok(certificate), _) if Some(certificate) == board.stored().as_ref() && served != before => "new",
        (Err(_), Err(_)) => "pending",
        (now, then) if now == then => "old",
        (now, _) => return Err(format!("the edge serves neither the old nor the new one: {now:?}")),
    };
    let kept = ["accounts", "orders"].map(|folder| keys(board, folder));
    board.clock.advance(HOUR_S);
    if ["deploy", "deploying"].iter().any(|mark| board.path("state").join(mark).exists()) {
        // As sanedge-deploy.path does.
        let (status, said) = board.clock.run(board.renew(&["--deploy"]));
        if status.code() != Some(0) {
            return Err(format!("--deploy ends with {status}: {said}"));
        }
    }
    let (status, said) = board.renewed();
    let (orders, finalized_now) =
        (orders + board.front.count("order-plz"), finalized + board.front.count("finalize-order"));
    let stored = board.stored();
    let is_empty =
        |folder: &str| std::fs::read_dir(board.path(folder)).is_ok_and(|mut all| all.next().is_none());
    let mut tokens = std::fs::read_dir(board.challenges()).unwrap().map(|entry| entry.unwrap().file_name());
    let holds = [
        (status.code() == Some(0), "the next run fails"),
        (stored.is_some() && board.served().ok() == stored, "the stored certificate is not in use"),
        (trial.orders == 0 || stored != old, "no new certificate"),
        (orders <= trial.orders + 1, "more than one order more"),
        (finalized == 0 || finalized_now == finalized, "what the CA has issued is not used"),
        (keys(board, "accounts").ends_with(&kept[0]), "the account's key is lost"),
        // An order that failed, for the CA looked while the board had no power, is followed by one with another key.
        (
            kept[1].is_empty()
                || keys(board, "certificates") == kept[1]
                || finalized == 0 && orders > trial.orders,
            "the order's key is lost",
        ),
        (is_empty("state/orders"), "an order is left"),
        (!board.path("state/deploy").exists() && !board.path("state/deploying").exists(), "a mark is left"),
        (tokens.all(|name| name == sanedge::bundle::acme::told::FILE), "a token is left"),
    ];
    match holds.iter().find(|(holds, _)| !holds) {
        None => Ok(format!("{word} {orders}")),
        Some((_, wrong)) => Err(format!("{wrong}; {orders} orders\n{said}")),
    }
}

/// The keys of a folder of the state.
fn keys(board: &Board, folder: &str) -> Vec<String> {
    let files = std::fs::read_dir(board.path("state").join(folder)).into_iter().flatten().flatten();
    let files = files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|is| is != "new"));
    let key = |path: PathBuf| {
        let content = std::fs::read_to_string(path).unwrap();
        match serde_json::from_str::<serde_json::Value>(&content) {
            Ok(document) => document["key"].as_str().unwrap().to_owned(),
            Err(_) => content[..content.find("-----BEGIN CERTIFICATE").unwrap()].to_owned(),
        }
    };
    files.map(key).collect()
}

/// The processes that strace has stopped: `renew`, or a program that it has started.
fn stopped_in(trace: &Path) -> Vec<i32> {
    let said = std::fs::read_to_string(trace).unwrap_or_default();
    let lines = said.lines().filter(|line| line.ends_with("--- stopped by SIGSTOP ---"));
    lines.filter_map(|line| line.split(' ').next()?.parse().ok()).collect()
}

/// Stops the run at the step, has another one try meanwhile, and lets the first go on.
fn stopped(board: &Board, trial: &Trial<'_>, step: &Step, trace: &Path) -> Result<(), String> {
    let _ = std::fs::remove_file(trace);
    let mut command = strace(board, trace, trial.options, Some((step, "STOP")));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let stopped = loop {
        let is_stopped = |pid: &i32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.contains(") t ")
        };
        if stopped_in(trace).iter().any(is_stopped) {
            break true;
        }
        if child.try_wait().unwrap().is_some() {
            break false;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    if !stopped {
        return Ok(());
    }
    let (clock, renew) = (&board.clock, board.renew(trial.options));
    let ((status, said), first) = std::thread::scope(|scope| {
        let second = scope.spawn(move || clock.run(renew));
        // It ends at once, or waits for the first: not for ever, so that it is no reason to wait here.
        let until = Instant::now() + HEAD_START;
        while !second.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        // More than once where another thread or program comes to its call of that number.
        let first = loop {
            for pid in stopped_in(trace).into_iter().filter_map(Pid::from_raw) {
                let _ = kill_process(pid, Signal::CONT);
            }
            match child.try_wait().unwrap() {
                Some(first) => break first,
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        (second.join().unwrap(), first)
    });
    match (status.code(), first.code()) {
        (Some(0 | 75), Some(0 | 75)) => Ok(()),
        codes => Err(format!("while the first stands still, the second run ends with {codes:?}: {said}")),
    }
}

fn matrix(board: &mut Board, trial: &Trial<'_>) -> usize {
    let set = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<usize>().ok());
    let (every, first) = (set("SANEDGE_TRIAL_EVERY").unwrap_or(1), set("SANEDGE_TRIAL_FIRST").unwrap_or(1));
    board.begin(&trial.base);
    let all = steps(board, trial.options);
    assert!(all.iter().any(|step| step.call.starts_with("rename")), "{}", trial.title);
    row(&format!("\n{}: {} steps", trial.title, all.len()));
    row(&format!("{:>4}  {:<12} {:<12} {:<12}  at the call", "step", "kill", "power", "stop"));
    let (mut bad, mut cuts) = (0, 0);
    for (at, step) in all.iter().enumerate().skip(first - 1).step_by(every) {
        let found = ["kill", "power", "stop"].map(|kind| match cut(board, trial, step, kind) {
            Ok(found) => found,
            Err(wrong) => {
                bad += 1;
                row(&format!(
                    "      {kind} at step {}: {}",
                    at + 1,
                    wrong.trim_end().replace('\n', "\n        ")
                ));
                "WRONG".to_owned()
            }
        });
        cuts += found.len();
        row(&format!("{:>4}  {:<12} {:<12} {:<12}  {}", at + 1, found[0], found[1], found[2], step.shown));
    }
    row(&format!("{cuts} cuts; wrong: {bad}"));
    bad
}

#[test]
#[ignore = "tests/acme/run cuts"]
fn a_run_that_is_cut_at_any_call_is_followed_by_one_that_ends_well() {
    needs(&[("pebble", "-help"), ("strace", "--version"), ("cc", "--version")]);
    let mut board = Board::new();
    let base = board.keep("first");
    let mut bad = matrix(
        &mut board,
        &Trial { title: "the first certificate", base: base.clone(), options: &[], orders: 1 },
    );

    board.begin(&base);
    assert!(board.renewed().0.success());
    board.age();
    let renewal = board.keep("renewal");
    bad += matrix(&mut board, &Trial { title: "a renewal", base: renewal.clone(), options: &[], orders: 1 });

    board.begin(&renewal);
    // Another user makes the bundle.
    std::fs::rename(board.path("x.toml"), board.path("y.toml")).unwrap();
    let (status, said) = board.renewed();
    assert!(status.success() && board.path("state/deploy").exists(), "{said}");
    std::fs::rename(board.path("y.toml"), board.path("x.toml")).unwrap();
    let base = board.keep("deploy");
    bad += matrix(&mut board, &Trial { title: "a deployment", base, options: &["--deploy"], orders: 0 });
    assert_eq!(bad, 0, "cuts with a wrong end");
}
