//! The doctor for the page: in a process of its own without rights, because it reads what servers and name servers send.

use std::io::{self, BufRead as _, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use rustix::process::DumpableBehavior;

use crate::bundle::acme::local::ROOT;
use crate::bundle::compile::PEM_BYTES_MAX;
use crate::bundle::report;
use crate::bundle::source::{self, Source, read_bounded};
use crate::cli::site::named;
use crate::cli::terminal::print;
use crate::console::link::Said;
use crate::doctor::Check;
use crate::doctor::explain::Level;
use crate::doctor::render;
use crate::setup::account::User;
use crate::setup::again;
use crate::setup::look::{Question, examine};

/// The hidden option of the doctor's process.
pub(super) const DOCTOR: &str = "--doctor";
/// Between two looks at a process.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Limit for a run, above the doctor's own.
const TIME: Duration = Duration::from_secs(60);
/// Longest question: roots, their line ends escaped.
const QUESTION_BYTES_MAX: u64 = 5 * PEM_BYTES_MAX;
/// Lines that are shown, and bytes of one.
const LINES_MAX: usize = 500;
const LINE_BYTES_MAX: u64 = 4096;

/// Runs the doctor for a host of the file; each stage goes to `line`.
pub(super) fn run(
    file: &Path,
    host: &str,
    is_here: bool,
    user: Option<User>,
    is_ending: &AtomicBool,
    line: &mut dyn FnMut(String),
) -> Said {
    let ran = question(file, host, is_here).and_then(|question| streamed(&question, user, is_ending, line));
    match ran {
        Ok(true) => done(true, "The doctor has found no failure, as seen from this board."),
        Ok(false) => done(false, "The doctor has found problems that prevent clients from connecting."),
        Err(why) => done(false, &why),
    }
}

fn done(is_good: bool, text: &str) -> Said {
    Said::Done { is_good, text: text.to_owned() }
}

/// Only hosts of the file are looked at: the page's process may not choose others.
fn question(file: &Path, host: &str, is_here: bool) -> Result<Question, String> {
    let host = named(host).map_err(|failure| failure.message)?;
    let source = source::read(file).0.ok_or("the file cannot be read")?;
    if !source.sites.iter().flat_map(|site| &site.hosts).any(|one| one.value == host) {
        return Err(format!("`{host}` is not one of the hosts of the file"));
    }
    let listen = source.listen.https.iter().map(|listen| listen.value).find(|listen| listen.port() != 0);
    let (port, address) = match (is_here, listen) {
        (false, _) => (source.listen.public_https_port, None),
        (true, Some(listen)) if listen.ip().is_unspecified() => {
            (listen.port(), Some(IpAddr::V4(Ipv4Addr::LOCALHOST)))
        }
        (true, Some(listen)) => (listen.port(), Some(listen.ip())),
        (true, None) => return Err("the file names no port for https".to_owned()),
    };
    let trials = source.acme.as_ref().is_some_and(|acme| acme.ca.is_staging());
    Ok(Question::Edge {
        host: host.to_string(),
        port,
        address,
        namespace: None,
        trust: trust(&source)?,
        trials,
    })
}

/// The roots of private CAs: the file's, and that of the local CA.
fn trust(source: &Source) -> Result<Option<String>, String> {
    let own = source.local.as_ref().map(|local| local.folder.join(ROOT)).filter(|root| root.exists());
    let files = source.trust_file().map(|file| file.path.clone()).into_iter().chain(own);
    let mut all = String::new();
    for file in files {
        let bytes = read_bounded(&file, PEM_BYTES_MAX)
            .map_err(|error| format!("the roots of the CA cannot be read: {error}"))?;
        all += std::str::from_utf8(&bytes).map_err(|_| "the roots of the CA are not text".to_owned())?;
        all.push('\n');
    }
    Ok(Some(all).filter(|all| !all.is_empty()))
}

/// Whether no client fails.
fn streamed(
    question: &Question,
    user: Option<User>,
    is_ending: &AtomicBool,
    line: &mut dyn FnMut(String),
) -> Result<bool, String> {
    let failed = |error: io::Error| format!("the doctor cannot be run: {error}");
    let question = serde_json::to_vec(question).map_err(|error| error.to_string())?;
    let mut command = again::command(user);
    command.args(["console", DOCTOR]).env_clear().current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // The question is longer than a pipe may hold, and the process reads it before it does anything else.
        let _ = stdin.write_all(&question);
    }
    let (sender, lines) = sync_channel(1);
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            let mut from = io::BufReader::new(stdout);
            for _ in 0..LINES_MAX {
                let mut bytes = Vec::new();
                let read = from.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes);
                if read.is_err() || bytes.is_empty() || sender.send(bytes).is_err() {
                    break;
                }
            }
        });
    }
    let until = Instant::now() + TIME;
    loop {
        match lines.recv_timeout(LOOK_INTERVAL) {
            Ok(bytes) => line(report::escaped(String::from_utf8_lossy(&bytes).trim_end())),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if is_ending.load(Ordering::Relaxed) || Instant::now() >= until {
            break;
        }
    }
    let is_over = |child: &mut std::process::Child| matches!(child.try_wait(), Ok(Some(_)));
    while !is_over(&mut child) && !is_ending.load(Ordering::Relaxed) && Instant::now() < until {
        std::thread::sleep(LOOK_INTERVAL);
    }
    if !is_over(&mut child) {
        let _ = child.kill();
        let _ = child.wait();
        return Err("the doctor was stopped before its end".to_owned());
    }
    match child.wait().map_err(failed)?.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => Err("the doctor has ended without a result".to_owned()),
    }
}

/// The doctor's process: answers the question on stdin, one line for each stage, then explains the findings.
pub(super) fn examine_here() -> ExitCode {
    match examined() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            print(&format!("{why}\n"));
            ExitCode::from(2)
        }
    }
}

fn examined() -> Result<bool, String> {
    let text = |error: io::Error| error.to_string();
    // Another process of this user may not attach to it.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| text(error.into()))?;
    rustix::thread::set_no_new_privs(true).map_err(|error| text(error.into()))?;
    again::leave_session().map_err(|error| text(error.into()))?;
    let mut question = Vec::new();
    io::stdin().lock().take(QUESTION_BYTES_MAX).read_to_end(&mut question).map_err(text)?;
    let question = serde_json::from_slice(&question).map_err(|error| error.to_string())?;
    let found = examine(&question, Some(tell))?;
    print(&format!("\n{}", render::rest(&found, false, false)));
    Ok(found.count(Level::Fail) == 0)
}

fn tell(check: &Check) {
    print(&format!("{}\n", render::one(check)));
}
