//! The output of `sanedge apply` and `sanedge site`: text, or one JSON document.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use serde_json::{Value, json};

use super::preflight;
use super::settle::{self, Settled};
use super::{NOT_NOW, Report, Request, State, Talk, WAITING, exit_code, run};
use crate::acme;
use crate::bundle::acme::Plan;
use crate::bundle::commands::renew_command;
use crate::bundle::compare::Difference;
use crate::bundle::compile::Outcome;
use crate::bundle::file::word;
use crate::bundle::report;
use crate::cli::difference;
use crate::cli::failure::Failure;
use crate::cli::output::DONE_IN_PART;
use crate::cli::terminal::{complain, exit, print};
use crate::excerpt::number;
use crate::names::Host;
use crate::ops::log;
use crate::setup::programs::{self, RENEW_TIME};

/// Longest answer to a question.
const ANSWER_BYTES_MAX: u64 = 64;

/// Runs the change and prints its result. If `added` waits for a certificate that `sanedge renew` obtains, that runs as well.
pub(in crate::cli) fn told(request: &Request<'_>, added: Option<&Host>, json: bool) -> ExitCode {
    let (report, state) = match json {
        true => run(request, &mut Silent),
        false => run(request, &mut Terminal),
    };
    let is_served = matches!(state, Ok(State::Reloaded | State::Restarted));
    let renewal = added.filter(|_| is_served).and_then(|host| renewal(request, &report, host));
    if json {
        let mut document = document(request, &report, &state);
        let renewed = renewal.map(|mut command| in_document(&mut command, &mut document));
        let printed = print(&format!("{document:#}\n"));
        return in_part(code(&report, &state, printed), renewed);
    }
    match &state {
        Ok(state) => {
            let now = renewal.as_ref().zip(added).map(|(_, host)| format!("Obtaining that of {host} now"));
            let said = sentence(request, &report, *state, now.as_deref());
            let printed = print(&format!("{}\n", report::escaped(&said)));
            let renewed = renewal.map(|mut command| command.status().is_ok_and(|status| status.success()));
            if renewed == Some(false) {
                let later = renew_command(&request.file.with_extension("bundle"));
                complain(&format!(
                    "note the host is in use without a certificate. The timer tries again; to try earlier, type `{later}`\n"
                ));
            }
            in_part(code(&report, &Ok(*state), printed), renewed)
        }
        Err(failure) => {
            let _ = failure.tell(false);
            code(&report, &state, true)
        }
    }
}

/// Obtains the certificate of `host`; none if it has one, or if that needs another user.
fn renewal(request: &Request<'_>, report: &Report, host: &Host) -> Option<Command> {
    let host = host.to_string();
    let bundle = request.file.with_extension("bundle");
    let waits = report.outcome.hosts.iter().any(|one| one.pending && one.host == host);
    let may = rustix::process::geteuid().is_root() || !renew_command(&bundle).starts_with("sudo");
    let plan = Plan::beside(&bundle);
    let name = acme::read_plan(&plan).ok().filter(|_| waits && may)?.renewed_as(&host).to_owned();
    let mut command = programs::renewal(&plan, &name);
    command.stdin(Stdio::null());
    Some(command)
}

/// Runs `renew --json` and adds its document to that of the change; false if it fails.
fn in_document(command: &mut Command, document: &mut Value) -> bool {
    let said = programs::ended(command.arg("--json"), &[], RENEW_TIME);
    let renewed: Value =
        said.as_ref().ok().and_then(|said| serde_json::from_slice(&said.stdout).ok()).unwrap_or_default();
    if let Some(members) = document.as_object_mut() {
        members.insert("renewal".to_owned(), renewed);
    }
    said.is_ok_and(|said| said.succeeded)
}

/// The change is in use also if the certificate was not obtained.
fn in_part(code: ExitCode, renewed: Option<bool>) -> ExitCode {
    if code == ExitCode::SUCCESS && renewed == Some(false) { ExitCode::from(DONE_IN_PART) } else { code }
}

/// Tries whether a new process could start with the bundle of `file`: exit code 1 if not, 75 if that is not known.
pub(in crate::cli) fn tried(file: &Path, json: bool) -> ExitCode {
    match preflight::in_place(&file.with_extension("bundle")) {
        Ok(true) if json => exit(print(&format!("{:#}\n", json!({ "ok": true })))),
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            let _ = Failure::new("not-tried", preflight::NOT_TRIED.to_owned()).tell(json);
            ExitCode::from(NOT_NOW)
        }
        Err(failure) => {
            let _ = failure.tell(json);
            ExitCode::from(if failure.code == preflight::CANNOT_START { 1 } else { NOT_NOW })
        }
    }
}

/// Settles an interrupted change of `file` and prints what became of it; nothing if there is none.
pub(in crate::cli) fn settled(file: &Path, json: bool) -> ExitCode {
    let waiting = || {
        if !json {
            complain(WAITING);
        }
    };
    let (state, said) = match settle::settle(&file.with_extension("bundle"), waiting) {
        Err(failure) => {
            let _ = failure.tell(json);
            return ExitCode::from(exit_code(&failure));
        }
        Ok(Settled::Nothing) => ("unchanged", String::new()),
        Ok(Settled::Completed) => (
            "completed",
            format!("a change of {} was interrupted; the edge serves it, so it is kept", word(file)),
        ),
        Ok(Settled::Undone(others)) => {
            let kept = |path: &PathBuf| {
                format!(". Another program changed {} in the meantime; that change stays", word(path))
            };
            let kept = others.iter().map(kept).collect::<String>();
            (
                "undone",
                format!("a change of {} was interrupted; the files are as before it{kept}", word(file)),
            )
        }
    };
    exit(match json {
        true => print(&format!("{:#}\n", json!({ "ok": true, "state": state, "message": said }))),
        false => said.is_empty() || print(&format!("{}\n", report::escaped(&said))),
    })
}

fn code(report: &Report, state: &Result<State, Failure>, printed: bool) -> ExitCode {
    match state {
        Err(failure) => ExitCode::from(exit_code(failure)),
        Ok(_) if printed && report.outcome.in_part => ExitCode::from(DONE_IN_PART),
        Ok(_) => exit(printed),
    }
}

/// How a change ended. `renewal`: what becomes of hosts without a certificate; none: what to type for them.
pub(in crate::cli) fn sentence(
    request: &Request<'_>,
    report: &Report,
    state: State,
    renewal: Option<&str>,
) -> String {
    let file = word(request.file);
    let pending: Vec<_> =
        report.outcome.hosts.iter().filter(|host| host.pending).map(|host| host.host.as_str()).collect();
    let wait = match pending.as_slice() {
        [] => String::new(),
        some => {
            let typed = || format!("Type `{}`", renew_command(&request.file.with_extension("bundle")));
            let renewal = renewal.map_or_else(typed, str::to_owned);
            format!(". Without a certificate yet: {}. {renewal}", some.join(", "))
        }
    };
    let said = match state {
        State::Unchanged => format!("{file} is in use: nothing has changed"),
        State::Stored => format!(
            "written; no edge is running, and the next start uses {}",
            word(&request.file.with_extension("bundle"))
        ),
        State::Reloaded => format!("{file} is in use"),
        State::Restarted => format!("{file} is in use by a new process"),
        State::Planned if report.restart.is_empty() => {
            "nothing was written (--dry-run); a reload is enough".to_owned()
        }
        State::Planned => {
            let open = number(usize::try_from(report.websockets).unwrap_or(usize::MAX), "WebSocket");
            let why = report.restart.join("; ");
            let closed =
                if report.websockets == 0 { String::new() } else { format!(", and {open} would be closed") };
            format!("nothing was written (--dry-run); a new process is necessary ({why}){closed}")
        }
    };
    said + &wait
}

fn document(request: &Request<'_>, report: &Report, state: &Result<State, Failure>) -> Value {
    let mut document = report::outcome_json(&report.outcome, None);
    let members = json!({
        "ok": true,
        "state": state.as_ref().ok(),
        "file": word(request.file),
        "dry_run": request.dry_run,
        "edit": report.edit,
        "changes": report.differences,
        "restart": {
            "needed": !report.restart.is_empty(),
            "reasons": report.restart,
            "websockets_closed": report.websockets,
        },
    });
    if let (Some(document), Value::Object(members)) = (document.as_object_mut(), members) {
        document.remove("written");
        document.extend(members);
    }
    if let Err(failure) = state {
        failure.mark(&mut document);
    }
    document
}

/// Prints and asks nothing: what is found is in the report.
pub(in crate::cli) struct Silent;

impl Talk for Silent {
    fn edited(&mut self, _: &Path, _: &str, _: &str) {}
    fn proven(&mut self, _: &Outcome) {}
    fn differs(&mut self, _: &[Difference]) {}
    fn note(&mut self, _: &str) {}
    fn ask(&mut self, _: &str) -> Option<bool> {
        None
    }
}

/// Prints text, and asks if there is a terminal.
pub(crate) struct Terminal;

impl Talk for Terminal {
    fn edited(&mut self, file: &Path, old: &str, new: &str) {
        let lines: String = difference::between(old, new)
            .iter()
            .map(|line| format!("  {}\n", report::escaped(line)))
            .collect();
        print(&format!("{}:\n{lines}", word(file)));
    }

    fn proven(&mut self, outcome: &Outcome) {
        complain(&report::findings(&outcome.findings, log::is_coloured(&io::stderr())));
    }

    fn differs(&mut self, differences: &[Difference]) {
        print(&differences.iter().map(|one| format!("{}\n", report::escaped(&one.line))).collect::<String>());
    }

    fn note(&mut self, text: &str) {
        complain(&format!("note {}\n", report::escaped(text)));
    }

    fn ask(&mut self, question: &str) -> Option<bool> {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return None;
        }
        complain(&format!("{} [y/N] ", report::escaped(question)));
        let _ = io::stderr().flush();
        let mut answer = String::new();
        let read = io::Read::take(io::stdin().lock(), ANSWER_BYTES_MAX).read_line(&mut answer);
        Some(read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }
}
