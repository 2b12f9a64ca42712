//! `reload` and `status`: requests to the running edge, and how the bundle in use differs from the files on the disk.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::failure::Failure;
use super::sources::{self, Look, SOURCE};
use super::terminal::{exit, print, unwritable, write_out};
use crate::admin;
use crate::admin::client::{self, Answer, AskError};
use crate::admin::endpoints::{CHECK, Endpoint, RELOAD, STATUS};
use crate::bundle::{Admin, Bundle, report};

/// Interval of `status --watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// Interval of the comparisons with sanedge.toml in `status --watch`: each compiles the file.
const COMPARE_INTERVAL: Duration = Duration::from_secs(30);
/// How long a reload by signal may take, and how often it is checked.
const RELOAD_TIME: Duration = Duration::from_secs(20);
const RELOAD_LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Does `what` with the admin socket that `bundle` names, or with `admin` if no bundle is given.
pub(super) fn at(
    admin: Admin,
    bundle: Option<PathBuf>,
    json: bool,
    what: impl FnOnce(&Admin) -> ExitCode,
) -> ExitCode {
    let opened = bundle.map(|file| Bundle::open(&file)).transpose();
    match opened {
        Ok(None) => what(&admin),
        Ok(Some(bundle)) => what(&admin_of(&bundle)),
        Err(error) => Failure::from(error).tell(json),
    }
}

pub(super) fn admin_of(bundle: &Bundle) -> Admin {
    bundle.listen.admin.clone().unwrap_or_else(|| Admin::Unix(admin::DEFAULT_PATH.into()))
}

// --- reload -----------------------------------------------------------------------------------------------

pub(super) fn reload(admin: &Admin, json: bool) -> ExitCode {
    match reload_of(admin, json) {
        Ok(said) => {
            // If the comparison is not possible, `status` says so.
            let look = compared(admin).filter(|look| json || look.is_trouble());
            exit(print(&with_sources(said, look.as_ref(), json)))
        }
        Err(failure) => failure.tell(json),
    }
}

/// Makes the edge open its bundle again; returns its answer.
pub(super) fn reload_of(admin: &Admin, json: bool) -> Result<String, Failure> {
    match admin {
        Admin::Unix(_) => reload_by_request(admin, json),
        Admin::Tcp(address) => {
            match std::env::var("MAINPID").ok().and_then(|pid| Pid::from_raw(pid.parse().ok()?)) {
                Some(process) => reload_by_signal(admin, process, json),
                // The same message as for `--admin` with such an address.
                None => Err(Failure::new(
                    "admin-only-reads",
                    admin::parse_unix(&address.to_string()).err().unwrap_or_default(),
                )),
            }
        }
    }
}

fn reload_by_request(admin: &Admin, json: bool) -> Result<String, Failure> {
    answer(admin, &RELOAD, json)
}

/// Sends SIGHUP and reads the result from the status.
fn reload_by_signal(admin: &Admin, process: Pid, json: bool) -> Result<String, Failure> {
    let look = || {
        let status = status_of(admin)?;
        let count = |name| {
            let no_counter = || Failure::new("edge-answer", "its status lacks a counter");
            status.pointer(name).and_then(Value::as_u64).ok_or_else(no_counter)
        };
        let bundle = status.get("bundle").and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok::<_, Failure>((
            count("/counters/reloads_total")?,
            count("/counters/reloads_refused_total")?,
            bundle,
        ))
    };
    let (taken, refused, _) = look()?;
    kill_process(process, Signal::HUP)
        .map_err(|error| Failure::new("no-signal", format!("process {process:?}: {error}")))?;
    let until = Instant::now() + RELOAD_TIME;
    while Instant::now() < until {
        std::thread::sleep(RELOAD_LOOK_INTERVAL);
        match look()? {
            (_, now, _) if now != refused => {
                let message = "the edge refused the new bundle and keeps the old one; the reason is in its log: `journalctl -u sanedge -n 20`";
                return Err(Failure::new("reload-refused", message));
            }
            (now, _, bundle) if now != taken => return Ok(signalled(&bundle, json)),
            _ => {}
        }
    }
    let message = format!("no reload within {} s of SIGHUP to the process in MAINPID", RELOAD_TIME.as_secs());
    Err(Failure::new("reload-timeout", message))
}

fn signalled(bundle: &str, json: bool) -> String {
    let message = "its bundle is in use";
    match json {
        true => format!("{}\n", json!({ "ok": true, "message": message, "bundle": bundle, "notes": [] })),
        false => format!("{message} ({})\n", report::escaped(bundle)),
    }
}

// --- status -----------------------------------------------------------------------------------------------

pub(super) fn status(admin: &Admin, watch: bool, json: bool) -> ExitCode {
    let asked = |look: Option<&Look>| told(admin, look, json);
    if !watch {
        return match asked(compared(admin).as_ref()) {
            Ok(text) => exit(print(&text)),
            Err(failure) => failure.tell(json),
        };
    }
    let in_place = !json && io::stdout().is_terminal();
    let mut shown = false;
    let mut comparison: Option<(Instant, Option<Look>)> = None;
    loop {
        if comparison.as_ref().is_none_or(|(at, _)| at.elapsed() >= COMPARE_INTERVAL) {
            comparison = Some((Instant::now(), compared(admin)));
        }
        let text = match asked(comparison.as_ref().and_then(|(_, look)| look.as_ref())) {
            Ok(text) => text,
            Err(failure) if !shown => return failure.tell(json),
            // The edge may be restarting.
            Err(failure) if json => failure.document(),
            Err(failure) => format!("{}\n", report::escaped(&failure.message)),
        };
        let text = match (in_place, shown) {
            (true, _) => redrawn(&text, !shown),
            (false, true) if !json => format!("\n{text}"),
            (false, _) => text,
        };
        shown = true;
        match write_out(&text) {
            Ok(()) => std::thread::sleep(WATCH_INTERVAL),
            // The reader has closed the pipe.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
            Err(error) => return exit(unwritable(&error)),
        }
    }
}

/// Whether clients are served, in one line: for a container's health check, which runs often and wants no more than the exit code.
pub(super) fn check(admin: &Admin, json: bool) -> ExitCode {
    match answer(admin, &CHECK, json) {
        Ok(said) => exit(print(&said)),
        Err(failure) => failure.tell(json),
    }
}

/// The status, followed by the problems: the edge's own, with the result of the comparison instead of that of file times.
fn told(admin: &Admin, look: Option<&Look>, json: bool) -> Result<String, Failure> {
    let mut document = status_of(admin)?;
    let found = document.get_mut("problems").and_then(Value::as_array_mut);
    if let (Some(problems), Some(look)) = (found, look) {
        problems.retain(|problem| problem.get("code").is_none_or(|code| code != SOURCE));
        problems.extend(look.problem());
    }
    if json {
        return Ok(with_sources(document.to_string(), look, true));
    }
    let said = answer(admin, &STATUS, false)?;
    let note = look
        .filter(|look| !look.is_trouble())
        .map_or_else(String::new, |look| with_sources(String::new(), Some(look), false));
    Ok(format!("{said}\n{note}{}", verdict(&document)))
}

/// A line for each problem, or `nothing is wrong`.
fn verdict(status: &Value) -> String {
    let Some(problems) = status.get("problems").and_then(Value::as_array) else { return String::new() };
    let line = |problem: &Value| {
        let of = |name| report::escaped(problem.get(name).and_then(Value::as_str).unwrap_or_default());
        format!("{} {}. Type `{}`\n", of("severity"), of("message"), of("command"))
    };
    match problems.as_slice() {
        [] => "nothing is wrong\n".to_owned(),
        some => some.iter().map(line).collect(),
    }
}

/// Writes `text` from the top of the screen. It is not cleared first, which would flicker.
fn redrawn(text: &str, first: bool) -> String {
    let clear = if first { "\x1b[2J" } else { "" };
    let lines: String = text.lines().map(|line| format!("{line}\x1b[K\n")).collect();
    format!("{clear}\x1b[H{lines}\x1b[J")
}

// --- both -------------------------------------------------------------------------------------------------

/// Prints the answer after a success, as text or JSON.
fn answer(admin: &Admin, endpoint: &Endpoint, json: bool) -> Result<String, Failure> {
    let accept = if json { "application/json" } else { "text/plain" };
    let found = client::ask(admin, endpoint, accept)?;
    match found {
        Answer { status: 200, body, .. } if json => Ok(format!("{}\n", String::from_utf8_lossy(&body))),
        Answer { status: 200, is_text: true, body } => {
            let text = String::from_utf8_lossy(&body);
            Ok(text.lines().map(|line| format!("{}\n", report::escaped(line))).collect())
        }
        Answer { status: 200, .. } => {
            Err(Failure::new("edge-answer", "the edge sent a response of another version"))
        }
        Answer { body, .. } => Err(Failure::of_answer(&body)),
    }
}

/// The status of the edge as JSON.
pub(super) fn asked(admin: &Admin) -> Result<Value, AskError> {
    let found = client::ask(admin, &STATUS, "application/json")?;
    match serde_json::from_slice(&found.body) {
        Ok(status) if found.status == 200 => Ok(status),
        _ => {
            let found = format!("status {} for its own status", found.status);
            Err(AskError::Answer { address: admin.to_string(), found })
        }
    }
}

/// Whether the error means that no process listens.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn status_of(admin: &Admin) -> Result<Value, Failure> {
    let found = client::ask(admin, &STATUS, "application/json")?;
    match found.status {
        200 => Ok(serde_json::from_slice(&found.body).unwrap_or_default()),
        _ => Err(Failure::of_answer(&found.body)),
    }
}

/// Compares the bundle in use with the sanedge.toml beside its file, if both are on this machine.
fn compared(admin: &Admin) -> Option<Look> {
    let status = status_of(admin).ok()?;
    let said = |name| status.get(name).and_then(Value::as_str);
    sources::look(Path::new(said("bundle_file")?), said("bundle")?, admin)
}

/// The status of the edge with the result of the comparison.
fn with_sources(said: String, look: Option<&Look>, json: bool) -> String {
    let Some(look) = look else { return said };
    if json {
        let mut document: Value = serde_json::from_str(&said).unwrap_or_default();
        if let Some(members) = document.as_object_mut() {
            members.insert("source".to_owned(), look.json());
        }
        return format!("{document}\n");
    }
    let word = if look.is_trouble() { "warning" } else { "note" };
    let sentence = look.sentence().map(|text| format!("{word} {}\n", report::escaped(&text)));
    said + &sentence.unwrap_or_default()
}
