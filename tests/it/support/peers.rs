//! nginx and HAProxy as children of a test, each with a configuration of a few lines, in a folder that goes away.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use super::edge::PATIENCE;
use super::node::{has, skip};

/// A running peer; ends when dropped.
pub struct Peer {
    child: Child,
    folder: tempfile::TempDir,
}

/// Is it installed? Says so aloud where it is not.
pub fn both_installed(test: &str) -> bool {
    let there = has("nginx", "-v") && has("haproxy", "-v");
    if !there {
        skip(test, "it needs nginx and haproxy");
    }
    there
}

/// A port of 127.0.0.1 that nobody listens on, and that no other test gets: below the ports that the kernel gives for port 0, from
/// another beginning in each process.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const PORTS: std::ops::Range<u32> = 10_000..32_000;
    loop {
        let at = u32::from(NEXT.fetch_add(1, Ordering::Relaxed)) + std::process::id() * 131;
        let port = PORTS.start + at % PORTS.len() as u32;
        let address = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).unwrap()));
        if std::net::TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// HAProxy with `sections` (`frontend`, `backend`, `listen`); `FOLDER` in them is its folder. Waits until something
/// listens at `socket` there.
pub fn haproxy(sections: &str, socket: &str) -> Peer {
    let config = format!(
        "global\n  maxconn 100\n  tune.bufsize 65536\ndefaults\n  mode http\n  timeout client 10s\n  timeout server 10s\n  timeout connect 5s\n{sections}\n"
    );
    start(&config, socket, |path| {
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f"]).arg(path);
        command
    })
}

/// nginx with `servers` inside its `http` block; the same otherwise.
pub fn nginx(servers: &str, socket: &str) -> Peer {
    let user = if rustix::process::getuid().is_root() { "user root;\n" } else { "" };
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path FOLDER/{name};\n"))
        .concat();
    let config = format!(
        "{user}daemon off;\nmaster_process on;\nworker_processes 1;\npid FOLDER/pid;\nerror_log stderr error;\n\
        events {{}}\nhttp {{\naccess_log off;\n{temporary}{servers}\n}}\n"
    );
    start(&config, socket, |path| {
        let mut command = Command::new("nginx");
        command.arg("-p").arg(path.parent().unwrap()).arg("-c").arg(path);
        command
    })
}

fn start(config: &str, socket: &str, command: impl Fn(&Path) -> Command) -> Peer {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    std::fs::write(&path, config.replace("FOLDER", folder.path().to_str().unwrap())).unwrap();
    let log = folder.path().join("log");
    let said = std::fs::File::create(&log).unwrap();
    let mut command = command(&path);
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::from(said));
    let mut peer = Peer { child: command.spawn().unwrap(), folder };
    let until = Instant::now() + PATIENCE;
    while !peer.listens(socket) {
        let ended = peer.child.try_wait().unwrap();
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        assert!(ended.is_none() && Instant::now() < until, "{config}\ndoes not serve: {ended:?}\n{}", said());
        std::thread::sleep(Duration::from_millis(10));
    }
    peer
}

impl Peer {
    /// A file of its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn listens(&self, socket: &str) -> bool {
        match socket.parse::<SocketAddr>() {
            Ok(address) => std::net::TcpStream::connect(address).is_ok(),
            Err(_) => std::os::unix::net::UnixStream::connect(self.path(socket)).is_ok(),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // nginx's master takes its worker along only when asked.
        if let Ok(pid) = i32::try_from(self.child.id())
            && let Some(pid) = rustix::process::Pid::from_raw(pid)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}
