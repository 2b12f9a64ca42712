//! The test as systemd: it starts edges with listening sockets and what the last one stored, and takes their notifications
//! (sd_notify(3)), with its descriptor store and barriers.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use rustix::process::Signal;

use super::edge::{Desk, Edge, PATIENCE, sanedge};
use super::node::{has, skip};

/// Takes descriptors from the socket of its first argument, puts them at 3 and up, and becomes the rest of its arguments. Python, because it
/// takes `unsafe` to choose the number of a descriptor in Rust.
const LAUNCHER: &str = r#"
import array, fcntl, os, socket, sys
door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
door.connect(sys.argv[1])
held = []
while True:
    data, control, _, _ = door.recvmsg(1, socket.CMSG_SPACE(4))
    if not data:
        break
    for level, kind, rights in control:
        (descriptor,) = array.array("i", rights)
        held.append(fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 600))
        os.close(descriptor)
door.close()
for at, descriptor in enumerate(held):
    os.dup2(descriptor, 3 + at)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execvp(sys.argv[2], sys.argv[2:])
"#;

/// It lives as long as this value.
pub struct ServiceManager {
    folder: tempfile::TempDir,
    sockets: Vec<(String, OwnedFd)>,
    state: Arc<State>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    now: Mutex<Now>,
    news: Condvar,
}

struct Now {
    said: Vec<String>,
    stored: Vec<(String, OwnedFd)>,
    /// Ends of barriers.
    unanswered: Vec<OwnedFd>,
    room: usize,
    answers: bool,
    ended: bool,
}

impl Default for Now {
    fn default() -> Self {
        Self {
            said: Vec::new(),
            stored: Vec::new(),
            unanswered: Vec::new(),
            room: 256,
            answers: true,
            ended: false,
        }
    }
}

impl ServiceManager {
    /// With `FileDescriptorStoreMax=256`. None where it cannot start programs, which is said.
    pub fn ready(test: &str) -> Option<Self> {
        if has("python3", "--version") {
            return Some(Self::new());
        }
        skip(test, "it needs python3");
        None
    }

    /// One that cannot start programs.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        let state = Arc::new(State::default());
        let ours = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            while !ours.now().ended {
                let (said, descriptors) = receive(&socket);
                ours.take(said, descriptors);
            }
        });
        Self { folder, sockets: Vec::new(), state, thread: Some(thread) }
    }

    /// One more socket for each program; the caller may keep a clone.
    pub fn with(mut self, name: &str, socket: impl Into<OwnedFd>) -> Self {
        self.sockets.push((name.to_owned(), socket.into()));
        self
    }

    /// `FileDescriptorStoreMax=`: further descriptors are closed.
    pub fn store_at_most(&self, room: usize) {
        self.state.now().room = room;
    }

    /// Whether barriers are answered; those of before are not made up for.
    pub fn answer_barriers(&self, answers: bool) {
        self.state.now().answers = answers;
    }

    /// `NOTIFY_SOCKET`.
    pub fn address(&self) -> PathBuf {
        self.folder.path().join("notify")
    }

    /// What programs said, each message whole.
    pub fn said(&self) -> Vec<String> {
        self.state.now().said.clone()
    }

    /// Waits for a message with this line.
    pub fn wait_for(&self, line: &str) {
        let until = Instant::now() + PATIENCE;
        let mut now = self.state.now();
        while !now.said.iter().any(|said| said.lines().any(|found| found == line)) {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {line} in {:?}", now.said);
            now = self.state.news.wait_timeout(now, left.min(Duration::from_secs(1))).unwrap().0;
        }
    }

    /// Names of what is stored.
    pub fn stored(&self) -> Vec<String> {
        self.state.now().stored.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Copies of what is stored under `name`, as the next program gets them.
    pub fn held(&self, name: &str) -> Vec<OwnedFd> {
        let now = self.state.now();
        let held = now.stored.iter().filter(|(found, _)| found == name);
        held.map(|(_, descriptor)| descriptor.try_clone().unwrap()).collect()
    }

    /// Stores this, as if the last program had.
    pub fn put(&self, name: &str, descriptor: impl Into<OwnedFd>) {
        self.state.now().stored.push((name.to_owned(), descriptor.into()));
    }

    /// `program` with the sockets, then what is stored.
    pub fn command(&self, program: &Command) -> Command {
        let mut handed: Vec<(String, OwnedFd)> = Vec::new();
        for (name, socket) in self.sockets.iter().chain(&self.state.now().stored) {
            handed.push((name.clone(), socket.try_clone().unwrap()));
        }
        let names: Vec<&str> = handed.iter().map(|(name, _)| name.as_str()).collect();
        let mut command = Command::new("python3");
        let path = self.folder.path().join("door");
        let _ = std::fs::remove_file(&path);
        command.args(["-c", LAUNCHER]).arg(&path).arg(program.get_program()).args(program.get_args());
        command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("NOTIFY_SOCKET", self.address()).env("INVOCATION_ID", "0");
        command.env("LISTEN_FDS", names.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
        let door = UnixListener::bind(path).unwrap();
        std::thread::spawn(move || {
            let (door, _) = door.accept().unwrap();
            handed.iter().for_each(|(_, descriptor)| send(&door, b"x", &[descriptor.as_fd()]));
        });
        command
    }

    /// Compiles and serves.
    pub fn serve(&self, desk: Desk) -> Edge {
        desk.bundled();
        desk.serve_by(self.command(&sanedge()))
    }

    /// `systemctl restart`: SIGUSR1, then the same folder again once the edge has ended.
    pub fn restart(&self, mut edge: Edge) -> Edge {
        edge.signal(Signal::USR1);
        edge.wait_until_ended();
        self.start_again(edge)
    }

    /// Serves the folder of an edge that has ended.
    pub fn start_again(&self, edge: Edge) -> Edge {
        edge.succeeded_by(self.command(&sanedge()))
    }
}

impl State {
    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap()
    }

    fn take(&self, said: String, descriptors: Vec<OwnedFd>) {
        let mut now = self.now();
        let name = said.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or("stored").to_owned();
        let has = |wanted: &str| said.lines().any(|line| line == wanted);
        if has("BARRIER=1") {
            // Alone with its descriptor; else systemd ignores all of the message.
            assert!(said.trim_end() == "BARRIER=1" && descriptors.len() == 1, "{said}");
            if !now.answers {
                now.unanswered.extend(descriptors);
            }
        } else if has("FDSTORE=1") {
            for descriptor in descriptors {
                // systemd watches them for the end of the other side, unless it is asked not to.
                assert!(has("FDPOLL=0"), "{said}");
                if now.stored.len() < now.room {
                    now.stored.push((name.clone(), descriptor));
                }
            }
        } else if has("FDSTOREREMOVE=1") {
            now.stored.retain(|(found, _)| *found != name);
        }
        now.said.push(said);
        self.news.notify_all();
    }
}

impl Drop for ServiceManager {
    fn drop(&mut self) {
        self.state.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner).ended = true;
        if let Ok(socket) = UnixDatagram::unbound() {
            let _ = socket.send_to(b"", self.address());
        }
        let ended = self.thread.take().map(std::thread::JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))), "the service manager panicked");
    }
}

fn receive(socket: &UnixDatagram) -> (String, Vec<OwnedFd>) {
    let mut bytes = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(socket, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let rights = control.drain().filter_map(|part| match part {
        RecvAncillaryMessage::ScmRights(rights) => Some(rights),
        _ => None,
    });
    let descriptors = rights.flatten().collect();
    (String::from_utf8(bytes[..received.bytes].to_vec()).unwrap(), descriptors)
}

/// Sends a message with descriptors.
pub fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).unwrap();
}
