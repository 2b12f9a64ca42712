//! `sanedge console`: root's half. It opens a listener on loopback, starts the server in a process without rights, and performs the
//! edits that the server asks for, by the code of `sanedge site` and `sanedge apply`.
//!
//! The server may be taken over by what it reads. It can then ask for what the page offers, and for nothing else: each message is one
//! of [`Ask`], of limited length and read strictly; what it names is parsed again. A change that has begun is completed or undone
//! whatever becomes of the server. A message that is none ends the console.

mod certificates;
mod doctor;
mod perform;

use std::io::{self, BufRead as _, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::Access;
use serde_json::json;

use super::failure::Failure;
use super::terminal::{complain, print};
use crate::bundle::compile::shell_word;
use crate::bundle::file::{self, folder_of, word};
use crate::bundle::report;
use crate::console::link::{self, Ask, Hello, Said, Start};
use crate::console::{secret, serve};
use crate::setup::account::{NOBODY, User};
use crate::setup::again;
use doctor::LOOK_INTERVAL;
use perform::{Desk, FILE};

/// How long the link is valid.
const TOKEN_TIME: Duration = Duration::from_secs(5 * 60);
/// Longest time without a request, after which the console ends.
const IDLE_TIME: Duration = Duration::from_secs(60 * 60);
/// For the server's process to begin.
const BEGIN_TIME: Duration = Duration::from_secs(20);
/// For a part of an answer to be taken by the server's process.
const WRITE_TIME: Duration = Duration::from_secs(30);
/// For the server's process to end: longer than it takes for responses in progress.
const END_TIME: Duration = Duration::from_secs(8);
/// Shortest time from one question to the next: each may compile the file.
const QUESTION_INTERVAL: Duration = Duration::from_millis(50);
/// Bytes that are shown of what the server's process writes to stderr.
const COMPLAINTS_BYTES_MAX: u64 = 4096;
/// The hidden option of the server's process.
const SERVER: &str = "--server";

/// The options of `sanedge console`.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Options {
    /// The sanedge.toml.
    #[arg(default_value = FILE)]
    file: PathBuf,
    /// The port of the page on 127.0.0.1 [default: a free one].
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    port: u16,
    /// End after this time without a request: `500ms`, `30s`, `10m`, at most `1h`, which is the default.
    #[arg(long, value_name = "TIME", value_parser = idle)]
    idle: Option<Duration>,
    /// Also offer the certificates of this folder, and of the folders in it: `x.pem` or `x.crt` with `x.key`, `fullchain.pem` with
    /// `privkey.pem`. The page always offers those of certbot and of the folders that the
    /// file names.
    #[arg(long, value_name = "FOLDER")]
    certificates: Option<PathBuf>,
    /// Print the link as JSON, and errors too. Notes go to stderr, as they do without it.
    #[arg(long)]
    json: bool,
    /// For the console itself: serves the page without root's rights.
    #[arg(long, hide = true)]
    server: bool,
    /// For the console itself: runs the doctor without root's rights.
    #[arg(long, hide = true, conflicts_with = "server")]
    doctor: bool,
}

fn idle(text: &str) -> Result<Duration, String> {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
    let parsed =
        units.iter().find_map(|(unit, ms)| text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(*ms));
    let time = parsed.map(Duration::from_millis).filter(|time| !time.is_zero() && *time <= IDLE_TIME);
    time.ok_or_else(|| "expected a time up to 1h, such as `10m`".to_owned())
}

pub(super) fn console(options: &Options) -> ExitCode {
    if options.server {
        return if serve().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if options.doctor {
        return doctor::examine_here();
    }
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(options.json),
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    let file = &options.file;
    may_change(file)?;
    let idle = options.idle.unwrap_or(IDLE_TIME);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).map_err(|error| {
        Failure::new("listen", format!("cannot listen on 127.0.0.1:{}: {error}", options.port))
    })?;
    let port = listener.local_addr().map_err(begin)?.port();
    let token = secret().ok_or_else(|| Failure::new("random", "the system has no random numbers"))?;
    let user = rustix::process::geteuid().is_root().then_some(NOBODY);
    let mut server = Server::start(listener, user)?;
    let start =
        Start { token: token.clone(), token_ms: u64::try_from(TOKEN_TIME.as_millis()).unwrap_or(u64::MAX) };
    let hello = server.begin(&start)?;
    print(&invitation(options.json, port, &token, idle));
    let of = if user.is_some() { "as nobody" } else { "as this user" };
    let level = if hello.is_whole { "note" } else { "warning the sandbox is not complete:" };
    complain(&format!("{level} the page's process runs {of}: {}\n", report::escaped(&hello.sandbox)));
    let ended = server.attend(&Desk::new(file, options.certificates.as_deref()), &hello, idle);
    drop(server);
    ended.map(|why| complain(&format!("note the console has ended: {why}\n")))
}

/// What is printed once the page is there.
fn invitation(is_json: bool, port: u16, token: &str, idle: Duration) -> String {
    let link = format!("http://127.0.0.1:{port}/#{token}");
    if is_json {
        let said = json!({ "link": link, "port": port, "link_s": TOKEN_TIME.as_secs(), "idle_s": idle.as_secs_f64() });
        return format!("{said:#}\n");
    }
    format!(
        "Open this link within {} minutes. It works once:\n  {link}\n\
         If the browser is on another computer, first type this there, and leave it running:\n  \
         ssh -o ExitOnForwardFailure=yes -N -L 127.0.0.1:{port}:127.0.0.1:{port} user@board\n\
         Ctrl-C ends the console, and so do {} without a request.\n",
        TOKEN_TIME.as_secs() / 60,
        spoken(idle)
    )
}

fn begin(error: io::Error) -> Failure {
    Failure::new("console", format!("the console cannot start: {error}"))
}

fn spoken(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds >= 60 && seconds % 60 == 0 => format!("{} minutes", seconds / 60),
        _ => format!("{} seconds", time.as_secs_f64()),
    }
}

/// Fails if this user could not apply a change.
fn may_change(file: &Path) -> Result<(), Failure> {
    if !file.exists() {
        let message = format!(
            "{} does not exist: set up the first host with `sudo sanedge setup`, or name the file",
            word(file)
        );
        return Err(Failure::new("file-missing", message));
    }
    file::editable(file).map_err(|error| Failure::new("not-written", error.to_string()))?;
    let may = |path: &Path, access| rustix::fs::access(path, access).is_ok();
    if may(file, Access::READ_OK | Access::WRITE_OK) && may(folder_of(file), Access::WRITE_OK) {
        return Ok(());
    }
    let again = match file == Path::new(FILE) {
        true => "sudo sanedge console".to_owned(),
        false => format!("sudo sanedge console {}", shell_word(&word(file))),
    };
    Err(Failure::new("not-root", format!("this user cannot change {}: type `{again}`", word(file))))
}

/// The server's process.
struct Server {
    child: Child,
    from: io::BufReader<UnixStream>,
    to: UnixStream,
    /// Ctrl-C, or the end of the terminal.
    is_ending: Arc<AtomicBool>,
    user: Option<User>,
}

impl Server {
    /// Starts the process: as `user`, without environment, with the listener and a socket to this process as its only descriptors
    /// besides stderr.
    fn start(listener: TcpListener, user: Option<User>) -> Result<Self, Failure> {
        let (ours, theirs) = UnixStream::pair().map_err(begin)?;
        let is_ending = signals(&ours).map_err(begin)?;
        // It leaves root's terminal before it gives up root's rights.
        let mut command = again::command(user);
        command
            .args(["console", SERVER])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(Stdio::from(OwnedFd::from(theirs)))
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(begin)?;
        if let Some(stderr) = child.stderr.take() {
            std::thread::spawn(move || {
                let mut lines = io::BufReader::new(stderr.take(COMPLAINTS_BYTES_MAX));
                let mut line = String::new();
                while lines.read_line(&mut line).is_ok_and(|count| count > 0) {
                    complain(&format!("warning the page's process: {}\n", report::escaped(line.trim_end())));
                    line.clear();
                }
                // The process must not wait for a reader.
                let _ = io::copy(&mut lines.into_inner().into_inner(), &mut io::sink());
            });
        }
        ours.set_write_timeout(Some(WRITE_TIME)).map_err(begin)?;
        let from = io::BufReader::new(ours.try_clone().map_err(begin)?);
        Ok(Self { child, from, to: ours, is_ending, user })
    }

    fn begin(&mut self, start: &Start) -> Result<Hello, Failure> {
        self.to.set_read_timeout(Some(BEGIN_TIME)).map_err(begin)?;
        let begun = link::line(start)
            .and_then(|line| self.to.write_all(&line))
            .and_then(|()| link::next(&mut self.from, link::ASK_BYTES_MAX))
            .and_then(|hello| hello.ok_or_else(|| io::ErrorKind::UnexpectedEof.into()));
        begun.map_err(|error| Failure::new("console", format!("the page's process did not start: {error}")))
    }

    /// Answers the questions of the server until the console ends; returns why.
    fn attend(&mut self, desk: &Desk<'_>, hello: &Hello, idle: Duration) -> Result<&'static str, Failure> {
        let mut unused_until = Some(Instant::now() + TOKEN_TIME);
        loop {
            let left =
                unused_until.map_or(idle, |until| until.saturating_duration_since(Instant::now()).min(idle));
            self.to.set_read_timeout(Some(left.max(LOOK_INTERVAL))).map_err(begin)?;
            let asked = link::next::<Ask>(&mut self.from, link::ASK_BYTES_MAX);
            if self.is_ending.load(Ordering::Relaxed) {
                return Ok("it was stopped");
            }
            let ask = match asked {
                Ok(Some(ask)) => ask,
                Ok(None) => return Err(Failure::new("console", "the page's process has ended")),
                Err(error) if is_timeout(&error) && unused_until.is_some() => return unused(),
                Err(error) if is_timeout(&error) => return Ok("no request arrived for the time of `--idle`"),
                Err(_) => {
                    let message = "the page's process sent an invalid message and was stopped";
                    return Err(Failure::new("console", message));
                }
            };
            let asked_at = Instant::now();
            let last = match ask {
                Ask::Void => return unused(),
                Ask::Entered => {
                    unused_until = None;
                    perform::log("a browser has opened the console");
                    done(true, "")
                }
                Ask::End => {
                    self.say(&done(true, "the console has ended"));
                    return Ok("the page has ended it");
                }
                Ask::Page { csrf } => desk.page(&csrf, hello),
                Ask::Check(edit) => desk.check(&edit),
                Ask::Doctor { host, is_here } => {
                    let to = &mut self.to;
                    let line = &mut |line| write(to, &Said::Line(line));
                    doctor::run(desk.file, &host, is_here, self.user, &self.is_ending, line)
                }
                Ask::Apply { edit, seen, restart } => {
                    let to = &mut self.to;
                    desk.apply(edit.as_ref(), &seen, restart, &mut |line| write(to, &Said::Line(line)))
                }
            };
            self.say(&last);
            sleep(QUESTION_INTERVAL.saturating_sub(asked_at.elapsed()));
        }
    }

    fn say(&mut self, said: &Said) {
        write(&mut self.to, said);
    }
}

/// A server that does not read, or has ended, is noticed by the next read.
fn write(to: &mut UnixStream, said: &Said) {
    let _ = link::line(said).and_then(|line| to.write_all(&line)).inspect_err(|_| {
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
}

fn done(is_good: bool, text: &str) -> Said {
    Said::Done { is_good, text: text.to_owned() }
}

fn unused() -> Result<&'static str, Failure> {
    Err(Failure::new(
        "unused",
        "the link was not opened within 5 minutes, or five wrong tokens were tried: start the console again",
    ))
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process ends with its socket.
        let _ = self.to.shutdown(std::net::Shutdown::Both);
        let until = Instant::now() + END_TIME;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() >= until {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            sleep(LOOK_INTERVAL);
        }
    }
}

/// From now on these signals end the console between two questions, never inside a change.
fn signals(socket: &UnixStream) -> io::Result<Arc<AtomicBool>> {
    use tokio::signal::unix::{Signal, SignalKind, signal};
    let socket = socket.try_clone()?;
    let is_ending = Arc::new(AtomicBool::new(false));
    let ending = Arc::clone(&is_ending);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()];
    let mut all: Vec<Signal> = {
        let _context = runtime.enter();
        kinds.into_iter().map(signal).collect::<io::Result<_>>()?
    };
    std::thread::spawn(move || {
        runtime.block_on(std::future::poll_fn(|context| {
            match all.iter_mut().any(|one| one.poll_recv(context).is_ready()) {
                true => std::task::Poll::Ready(()),
                false => std::task::Poll::Pending,
            }
        }));
        ending.store(true, Ordering::Relaxed);
        // Wakes the thread that reads.
        let _ = socket.shutdown(std::net::Shutdown::Read);
    });
    Ok(is_ending)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_idle_time_is_at_most_an_hour() {
        for (text, ms) in [("1ms", 1), ("500ms", 500), ("30s", 30_000), ("10m", 600_000), ("1h", 3_600_000)] {
            assert_eq!(idle(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "0s", "1", "61m", "3600001ms", "2h", "-1s", "1d", "99999999999999999999h"] {
            assert!(idle(text).is_err(), "{text}");
        }
    }
}
