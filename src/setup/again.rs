//! This program again, as another user and without root's terminal.
//!
//! On a terminal of root, a process of another user could insert commands (TIOCSTI) or read what is typed. Such a process therefore leaves
//! root's session before it gives up root's rights, and its output goes through pipes. Ctrl-C does not reach it then, so this
//! process passes signals on.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::signal::unix::{SignalKind, signal};

use super::account::User;

/// The first argument of the process between the two: user and group follow, then the arguments of the program.
const ARGUMENT: &str = "--as-user";
/// This program, even if the user cannot open the folders above it: exec(2) follows the link to the file.
const ITSELF: &str = "/proc/self/exe";
/// Limit for a run, above the limits for each of its waits.
const RUN_TIME: Duration = Duration::from_secs(60 * 60);
/// Time to end after a signal.
const END_TIME: Duration = Duration::from_secs(5);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Longest line and longest document that are passed on.
const LINE_BYTES_MAX: u64 = 16 * 1024;
const DOCUMENT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The process that [`run`] waits for; 0: none.
static RUNNING: AtomicI32 = AtomicI32::new(0);

/// This program as `user`, or as the current user if none is given.
pub(crate) fn command(user: Option<User>) -> Command {
    let mut command = Command::new(ITSELF);
    if let Some(User { uid, gid }) = user {
        command.arg(ARGUMENT).arg(uid.to_string()).arg(gid.to_string());
    }
    // That user may not be able to open root's current folder.
    command.current_dir("/");
    command
}

/// The process between the two, if the arguments are those of one: it leaves the session of the terminal, and becomes the program as
/// that user. Returns only if that fails, with the reason.
pub(crate) fn between(words: &[OsString]) -> Option<io::Error> {
    let [first, uid, gid, rest @ ..] = words else { return None };
    if first != ARGUMENT {
        return None;
    }
    let number = |word: &OsStr| word.to_str().and_then(|word| word.parse::<u32>().ok());
    Some(match (number(uid), number(gid)) {
        (Some(uid), Some(gid)) => match rustix::process::setsid() {
            // If root runs this, std also drops the supplementary groups.
            Ok(_) => Command::new(ITSELF).arg0("sanedge").args(rest).gid(gid).uid(uid).exec(),
            Err(error) => error.into(),
        },
        _ => io::ErrorKind::InvalidInput.into(),
    })
}

/// Gives up the controlling terminal, on which a process could insert commands (TIOCSTI), unless [`between`] did it before.
///
/// # Errors
/// This process leads a group of processes.
pub(crate) fn leave_session() -> rustix::io::Result<()> {
    if rustix::process::getsid(None)? != rustix::process::getpid() {
        rustix::process::setsid()?;
    }
    Ok(())
}

/// The end of a run.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// What it wrote to stdout, if it is not passed on by line.
    pub(crate) document: Vec<u8>,
    /// The signal that this process got meanwhile: it should end.
    pub(crate) interrupted: Option<Signal>,
}

impl Ended {
    /// The exit code for this process.
    pub(crate) fn code(&self) -> u8 {
        let of_signal = |signal: i32| 128_i32.saturating_add(signal);
        let code = self.interrupted.map(|signal| of_signal(signal.as_raw())).or_else(|| self.status.code());
        code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
    }
}

/// Where the output of a run goes.
#[derive(Clone, Copy)]
pub(crate) struct Output {
    /// Gets each line of stdout; none: stdout is kept as a document.
    pub(crate) out: Option<fn(&str)>,
    /// Gets each line of stderr.
    pub(crate) err: fn(&str),
}

/// Runs the command to its end, without input. Signals that would end this process end the command first.
///
/// # Errors
/// If it cannot be started.
pub(crate) fn run(command: &mut Command, output: Output) -> io::Result<Ended> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Before the start: a signal in between would leave the command behind.
    let mut signals = {
        let _context = runtime.enter();
        let kinds =
            [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()];
        kinds.map(|kind| Some((kind, signal(kind).ok()?)))
    };
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    RUNNING.store(i32::try_from(child.id()).unwrap_or(0), Ordering::SeqCst);
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let reader = apart(move || match (out, output.out) {
        (Some(out), None) => bounded(out),
        (Some(out), Some(tell)) => lines(out, tell),
        (None, _) => Vec::new(),
    });
    let errors = apart(move || err.map_or_else(Vec::new, |err| lines(err, output.err)));
    let mut interrupted = None;
    let mut until = Instant::now() + RUN_TIME;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= until {
            end(&child, Signal::KILL);
            break child.wait()?;
        }
        let got = runtime.block_on(async {
            let wait = tokio::time::timeout(LOOK_INTERVAL, first(&mut signals));
            wait.await.ok().and_then(|kind| Signal::from_named_raw(kind.as_raw_value()))
        });
        if let Some(signal) = got {
            end(&child, signal);
            if interrupted.replace(signal).is_none() {
                until = Instant::now() + END_TIME;
            }
        }
    };
    RUNNING.store(0, Ordering::SeqCst);
    let mut document = reader.recv_timeout(END_TIME);
    if interrupted.is_some() || document.is_err() {
        // What it has started may ignore the signal, and keep the pipes open. In a session of its own it is not waited for.
        end_group(child.id(), Signal::KILL);
        document = document.or_else(|_| reader.recv_timeout(END_TIME));
    }
    let _ = errors.recv_timeout(END_TIME);
    let document = document.unwrap_or_default();
    Ok(Ended { status, document, interrupted })
}

/// The result of `read` in a thread of its own.
fn apart(read: impl FnOnce() -> Vec<u8> + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        // Nobody may wait for it any more.
        let _ = sender.send(read());
    });
    receiver
}

/// Ends the process that [`run`] waits for in another thread, before this process ends.
pub(crate) fn end_running() {
    if let Ok(pid @ 1..) = u32::try_from(RUNNING.load(Ordering::SeqCst)) {
        end_group(pid, Signal::TERM);
    }
}

/// The first signal that arrives.
async fn first(signals: &mut [Option<(SignalKind, tokio::signal::unix::Signal)>; 4]) -> SignalKind {
    std::future::poll_fn(|context| {
        for (kind, stream) in signals.iter_mut().flatten() {
            if stream.poll_recv(context).is_ready() {
                return std::task::Poll::Ready(*kind);
            }
        }
        std::task::Poll::Pending
    })
    .await
}

fn end(child: &Child, signal: Signal) {
    end_group(child.id(), signal);
    // It has no group of its own yet.
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Ends the process with all that it has started: it leads a process group.
fn end_group(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(pid, signal);
    }
}

fn bounded(stream: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = stream.take(DOCUMENT_BYTES_MAX).read_to_end(&mut bytes);
    bytes
}

/// Passes lines on; longer ones in parts.
fn lines(stream: impl Read, tell: fn(&str)) -> Vec<u8> {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while matches!(reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line), Ok(1..)) {
        tell(String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line)).as_ref());
        line.clear();
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_keeps_the_pipes_open_is_not_waited_for() {
        let mut command = Command::new("sh");
        // In a session of its own, out of reach of what ends the group.
        command.args(["-c", "setsid sleep 60 & echo done"]);
        let begun = Instant::now();
        let ended = run(&mut command, Output { out: None, err: |_| {} }).unwrap();
        assert!(ended.status.success() && ended.interrupted.is_none());
        assert!(begun.elapsed() < Duration::from_secs(55), "{:?}", begun.elapsed());
    }
}
