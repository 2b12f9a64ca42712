//! The test as service manager: it holds listening sockets and hands them to edges, as sd_listen_fds(3) has it.
//!
//! A child gets three descriptors by the standard library alone; a shell moves them to 3, 4 and 5 and becomes the edge, so
//! that `LISTEN_PID` is right. The log goes through a named pipe then.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{CWD, FileType, Mode, mknodat};

/// At most three sockets with their names; they outlive the edges that they are handed to.
pub struct Sockets {
    held: Vec<(String, OwnedFd)>,
    names: Option<String>,
    count: Option<usize>,
    /// A word of the shell.
    pid: &'static str,
    trace: Option<PathBuf>,
}

impl Sockets {
    /// None yet.
    pub fn new() -> Self {
        Self { held: Vec::new(), names: None, count: None, pid: "$$", trace: None }
    }

    /// One more; the caller may keep a clone, to look at it or to connect.
    pub fn with(mut self, name: &str, socket: impl Into<OwnedFd>) -> Self {
        self.held.push((name.to_owned(), socket.into()));
        assert!(self.held.len() <= 3);
        self
    }

    /// Other `LISTEN_FDNAMES` than the sockets have.
    pub fn named(mut self, names: &str) -> Self {
        self.names = Some(names.to_owned());
        self
    }

    /// Another `LISTEN_FDS` than there are.
    pub fn counted(mut self, count: usize) -> Self {
        self.count = Some(count);
        self
    }

    /// For another process than the edge.
    pub fn for_another_process(mut self) -> Self {
        self.pid = "1";
        self
    }

    /// The edge's system calls are written to this file, by a strace that is its child.
    pub fn traced(mut self, trace: &Path) -> Self {
        self.trace = Some(trace.to_owned());
        self
    }

    /// `program` with these sockets and its log to the named pipe `log`, which this makes.
    pub fn command(&self, program: &Command, log: &Path) -> Command {
        mknodat(CWD, log, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let moves: String = (0..self.held.len()).map(|at| format!("{}<&{at} ", at + 3)).collect();
        let script = format!(
            "exec {moves} </dev/null >/dev/null 2>\"$0\"; export LISTEN_PID={}; exec \"$@\"",
            self.pid
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script]).arg(log);
        if let Some(trace) = &self.trace {
            command.args(["strace", "-D", "-f", "-qq", "-e", "signal=none", "-o"]).arg(trace);
        }
        command.arg(program.get_program()).args(program.get_args());
        let mut slots = self.held.iter().map(|(_, socket)| Stdio::from(socket.try_clone().unwrap()));
        command.stdin(slots.next().unwrap_or_else(Stdio::null));
        command.stdout(slots.next().unwrap_or_else(Stdio::null));
        command.stderr(slots.next().unwrap_or_else(Stdio::null));
        let held: Vec<&str> = self.held.iter().map(|(name, _)| name.as_str()).collect();
        command.env("SANEDGE_DUMPABLE", "1");
        command.env("LISTEN_FDS", self.count.unwrap_or(held.len()).to_string());
        command.env("LISTEN_FDNAMES", self.names.clone().unwrap_or_else(|| held.join(":")));
        command
    }
}
