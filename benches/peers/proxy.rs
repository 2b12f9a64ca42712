//! What is measured: the edge, the floor, each peer in each of its configurations. And what the kernel knows of them.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::HOST;
use crate::again::Helper;
use crate::support::certs::Ca;
use crate::support::edge::{Edge, PATIENCE, memory_kib};

/// Open at once: 5,000, and some that are on their way out.
const SESSIONS_MAX: usize = 6000;

/// One column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// sanedge.
    Ours,
    /// A TCP relay without TLS on the same runtime.
    Floor,
    /// Index in [`PEERS`].
    Peer(usize),
}

/// A peer's configuration.
pub struct Peer {
    pub name: &'static str,
    pub tuning: &'static str,
    program: &'static str,
    version: &'static str,
    config: &'static str,
    /// Arguments; `{config}` is the file.
    arguments: &'static [&'static str],
    /// What its file is called.
    file: &'static str,
}

macro_rules! peer {
    ($name:literal, $tuning:literal, $extension:literal, $program:literal, $version:literal, $arguments:expr) => {
        Peer {
            name: $name,
            tuning: $tuning,
            program: $program,
            version: $version,
            config: include_str!(concat!($name, "-", $tuning, $extension)),
            arguments: &$arguments,
            file: concat!($name, "-", $tuning, $extension),
        }
    };
}

/// Each in its default and in a memory-tuned configuration.
pub const PEERS: [Peer; 8] = [
    peer!("nginx", "default", ".conf", "nginx", "-v", ["-c", "{config}"]),
    peer!("nginx", "tuned", ".conf", "nginx", "-v", ["-c", "{config}"]),
    peer!("haproxy", "default", ".cfg", "haproxy", "-v", ["-db", "-f", "{config}"]),
    peer!("haproxy", "tuned", ".cfg", "haproxy", "-v", ["-db", "-f", "{config}"]),
    peer!("caddy", "default", ".conf", "caddy", "version", CADDY),
    peer!("caddy", "tuned", ".conf", "caddy", "version", CADDY),
    peer!("hitch", "default", ".conf", "hitch", "--version", ["--config={config}"]),
    peer!("hitch", "tuned", ".conf", "hitch", "--version", ["--config={config}"]),
];
const CADDY: [&str; 5] = ["run", "--adapter", "caddyfile", "--config", "{config}"];

impl Peer {
    /// The first line that it says of its version; none if it is not installed.
    pub fn version(&self) -> Option<String> {
        let said = command(self.program).arg(self.version).output().ok()?;
        let text = [said.stdout, said.stderr].concat();
        String::from_utf8_lossy(&text).lines().next().map(str::to_owned)
    }
}

/// Debian puts servers where only root's PATH looks.
fn command(program: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("/usr/bin/env");
    command.env("PATH", format!("{path}:/usr/sbin:/sbin")).arg(program);
    command
}

/// A running one. Ended when dropped, with every process below it.
pub struct Proxy {
    pub kind: Kind,
    pub address: SocketAddr,
    /// The CA that clients trust, unless they speak plainly.
    pub ca: Option<String>,
    running: Running,
}

enum Running {
    Ours(Box<Edge>),
    Floor(Helper),
    Peer { child: Child, _folder: tempfile::TempDir },
}

impl Proxy {
    /// Starts it in front of `upstream`, with one worker.
    pub fn start(kind: Kind, upstream: SocketAddr) -> Self {
        match kind {
            Kind::Ours => {
                let edge = Edge::certified_for(&[HOST])
                    .site(&[HOST], upstream)
                    .limits(&format!("workers = 1\nsessions_max = {SESSIONS_MAX}"))
                    .start();
                let ca = Some(edge.desk().ca_file().display().to_string());
                Self { kind, address: edge.https, ca, running: Running::Ours(Box::new(edge)) }
            }
            Kind::Floor => {
                let mut floor = Helper::start(&["floor", &upstream.to_string()]);
                let address = floor.line().parse().unwrap();
                Self { kind, address, ca: None, running: Running::Floor(floor) }
            }
            Kind::Peer(index) => Self::start_peer(kind, &PEERS[index], upstream),
        }
    }

    fn start_peer(kind: Kind, peer: &Peer, upstream: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::new("peers CA");
        let issued = ca.issue(&[HOST]);
        let path = |name: &str| folder.path().join(name).display().to_string();
        let pem = format!("{}{}", issued.chain_pem, issued.key_pem);
        for (name, text) in [
            ("ca.pem", &ca.pem),
            ("chain.pem", &issued.chain_pem),
            ("key.pem", &issued.key_pem),
            ("both.pem", &pem),
        ] {
            fs::write(path(name), text).unwrap();
        }
        // A free port, taken from the kernel and given up again just before: peers cannot be asked for theirs.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = [
            ("{dir}", folder.path().display().to_string()),
            ("{chain}", path("chain.pem")),
            ("{key}", path("key.pem")),
            ("{pem}", path("both.pem")),
            ("{host}", HOST.to_owned()),
            ("{port}", address.port().to_string()),
            ("{upstream}", upstream.to_string()),
            // hitch refuses to work as root.
            ("{user}", if rustix::process::geteuid().is_root() { "nobody" } else { "" }.to_owned()),
            ("{upstream_ip}", upstream.ip().to_string()),
            ("{upstream_port}", upstream.port().to_string()),
        ]
        .iter()
        .fold(peer.config.to_owned(), |text, (key, value)| text.replace(key, value));
        fs::write(path(peer.file), config).unwrap();
        let mut command = command(peer.program);
        command.args(peer.arguments.iter().map(|argument| argument.replace("{config}", &path(peer.file))));
        command.envs(
            peer.config
                .lines()
                .filter_map(|line| line.strip_prefix("# env: "))
                .flat_map(|line| line.split_whitespace().filter_map(|pair| pair.split_once('='))),
        );
        command.env("HOME", folder.path()).env("XDG_DATA_HOME", folder.path());
        let log = fs::File::create(path("said")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap();
        let ca = Some(path("ca.pem"));
        let mut proxy = Self { kind, address, ca, running: Running::Peer { child, _folder: folder } };
        proxy.wait_until_it_listens(peer.file);
        proxy
    }

    fn wait_until_it_listens(&mut self, file: &str) {
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(self.address).is_err() {
            let Running::Peer { child, _folder } = &mut self.running else { return };
            let ended = child.try_wait().unwrap();
            if ended.is_some() || Instant::now() > until {
                let said = fs::read_to_string(_folder.path().join("said")).unwrap_or_default();
                panic!("{file} does not listen ({ended:?}):\n{said}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn pid(&self) -> u32 {
        match &self.running {
            Running::Ours(edge) => edge.pid(),
            Running::Floor(helper) => helper.pid(),
            Running::Peer { child, .. } => child.id(),
        }
    }

    /// It and every process below it.
    pub fn pids(&self) -> Vec<u32> {
        with_children(self.pid())
    }

    /// CPU time so far.
    pub fn cpu(&self) -> Cpu {
        self.pids().into_iter().map(Cpu::of).fold(Cpu::default(), |sum, one| Cpu {
            all_ns: sum.all_ns + one.all_ns,
            user_ticks: sum.user_ticks + one.user_ticks,
            ticks: sum.ticks + one.ticks,
        })
    }

    /// Proportional set size in KiB.
    pub fn pss_kib(&self) -> f64 {
        self.pids().into_iter().map(|pid| memory_kib(pid, "Pss") as f64).sum()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let Running::Peer { child, .. } = &mut self.running else { return };
        let pids = with_children(child.id());
        let tell = |signal| {
            for pid in &pids {
                let _ = kill_process(Pid::from_raw(i32::try_from(*pid).unwrap()).unwrap(), signal);
            }
        };
        // First the polite way, which ends a master's workers with it.
        tell(Signal::TERM);
        let until = Instant::now() + Duration::from_secs(2);
        let mut is_alive = || {
            let _ = child.try_wait();
            pids.iter().any(|pid| Path::new(&format!("/proc/{pid}")).exists())
        };
        while is_alive() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        if is_alive() {
            tell(Signal::KILL);
        }
        let _ = child.wait();
    }
}

/// CPU time of processes: the sum is the scheduler's own, the split by the ticks that met user space.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    pub all_ns: u64,
    pub user_ticks: u64,
    pub ticks: u64,
}

impl Cpu {
    fn of(pid: u32) -> Self {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let all_ns = tasks.filter_map(|task| run_ns(&task.path())).sum();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // proc(5): behind the name in parentheses, utime is the 12th field and stime the 13th.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let field = |at: usize| fields.get(at).and_then(|field| field.parse().ok()).unwrap_or(0);
        let (user_ticks, system_ticks): (u64, u64) = (field(11), field(12));
        Self { all_ns, user_ticks, ticks: user_ticks + system_ticks }
    }

    /// What was spent since `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            all_ns: self.all_ns - before.all_ns,
            user_ticks: self.user_ticks - before.user_ticks,
            ticks: self.ticks - before.ticks,
        }
    }

    /// The part of it in user space, in ns.
    pub fn user_ns(self) -> f64 {
        self.all_ns as f64 * self.user_ticks as f64 / self.ticks.max(1) as f64
    }
}

fn run_ns(task: &Path) -> Option<u64> {
    fs::read_to_string(task.join("schedstat")).ok()?.split_whitespace().next()?.parse().ok()
}

fn with_children(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut at = 0;
    while let Some(parent) = all.get(at) {
        let tasks = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
        let children: Vec<u32> = tasks
            .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
            .flat_map(|line| line.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
            .collect();
        all.extend(children);
        at += 1;
    }
    all
}

/// System calls of `pids` while something runs, from the kernel's tracepoints by perf, else from strace.
pub struct Calls {
    child: Child,
    output: tempfile::NamedTempFile,
    by: &'static str,
}

impl Calls {
    const PERF: &str = "raw_syscalls:sys_enter,syscalls:sys_enter_epoll_wait,\
        syscalls:sys_enter_epoll_pwait,syscalls:sys_enter_epoll_pwait2";

    /// Which tool there is.
    pub fn tool() -> Option<&'static str> {
        let works = |command: &mut Command| {
            command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
        };
        if works(command("perf").args(["stat", "-e", Self::PERF, "true"])) {
            return Some("perf");
        }
        works(command("strace").args(["-c", "true"])).then_some("strace")
    }

    pub fn count(by: &'static str, proxy: &Proxy) -> Self {
        let output = tempfile::NamedTempFile::new().unwrap();
        let pids = proxy.pids().iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let mut command = command(by);
        match by {
            "perf" => command.args(["stat", "-x;", "-e", Self::PERF, "-p", &pids, "-o"]).arg(output.path()),
            _ => command.args(["-q", "-c", "-f", "-p", &pids, "-o"]).arg(output.path()),
        };
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Neither says when it is attached.
        std::thread::sleep(Duration::from_millis(400));
        Self { child, output, by }
    }

    /// All calls, and those to wait for events among them.
    pub fn end(mut self) -> (f64, f64) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        let _ = kill_process(pid, Signal::INT);
        let _ = self.child.wait();
        let said = fs::read_to_string(self.output.path()).unwrap();
        let lines = said.lines().filter_map(|line| match self.by {
            "perf" => {
                let mut fields = line.split(';');
                Some((fields.next()?.parse::<f64>().ok()?, fields.nth(1)?.to_owned()))
            }
            _ => {
                let words: Vec<&str> = line.split_whitespace().collect();
                let name = words.last()?.to_string();
                Some((words.get(3)?.parse().ok()?, name))
            }
        });
        let (mut all, mut waits) = (0.0, 0.0);
        for (count, name) in lines {
            let waits_for_events = name.contains("epoll_wait") || name.contains("epoll_pwait");
            if waits_for_events {
                waits += count;
            }
            // perf's first event is all of them; strace's `total` line is their sum.
            if name.contains("raw_syscalls") || name == "total" {
                all = count;
            }
        }
        assert!(all > 0.0, "{} counted nothing:\n{said}", self.by);
        (all, waits)
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
