//! sanedge's units under systemd: checks that they are installed, and starts them.

use std::path::Path;
use std::time::Duration;

use super::problem::{Code, Problem};
use super::programs;

/// The edge, and the sockets in front of it.
const EDGE: [&str; 4] =
    ["sanedge-https.socket", "sanedge-http.socket", "sanedge-admin.socket", "sanedge.service"];
/// Ends an interrupted change at a boot. The package enables it, and here it is for units from the tarball; it is not necessary to serve.
const SETTLE: &str = "sanedge-settle.service";
/// The units of renewals and deployments.
const RENEWALS: [&str; 2] = [TIMER, "sanedge-deploy.path"];
/// Starts a renewal once an hour.
const TIMER: &str = "sanedge-renew.timer";
/// What the timer starts.
const RENEWAL: &str = "sanedge-renew.service";
/// Folders in which the package, flash.sh and administrators install units.
const FOLDERS: [&str; 3] = ["/usr/lib/systemd/system", "/lib/systemd/system", "/etc/systemd/system"];
/// Exists if systemd is the first process.
const RUNNING: &str = "/run/systemd/system";
/// The package's file for systemd-tmpfiles, with the folders of the services.
const TMPFILES: &str = "/usr/lib/tmpfiles.d/sanedge.conf";
/// Limit for one call of systemctl: the edge may drain during a restart.
const PROGRAM_TIME: Duration = Duration::from_secs(120);
/// Lines of a log that are shown.
const LOG_LINES: &str = "5";

/// Whether the units can be started at all.
///
/// # Errors
/// No systemd, or no units; `command` is what the user typed.
pub(crate) fn present(command: &str) -> Result<(), Box<Problem>> {
    let words = [("command", command)];
    if !Path::new(RUNNING).is_dir() {
        return Err(Problem::of(Code::NoSystemd, "systemd is not the first process of this machine", &words));
    }
    let is_there = |unit: &str| FOLDERS.iter().any(|folder| Path::new(folder).join(unit).exists());
    match EDGE.iter().chain(&RENEWALS).find(|unit| !is_there(unit)) {
        None => Ok(()),
        Some(unit) => Err(Problem::of(Code::NoUnits, format!("there is no {unit}"), &words)),
    }
}

/// Creates the folders of the services, as a boot does.
pub(crate) fn folders() {
    if Path::new(TMPFILES).exists() {
        // If this fails, the service reports that its folder is missing.
        let _ = programs::run("systemd-tmpfiles", &["--create", "sanedge.conf"], PROGRAM_TIME);
    }
}

/// Enables and starts the edge.
///
/// # Errors
/// With the end of the unit's log.
pub(crate) fn start_edge() -> Result<(), Box<Problem>> {
    let _ = programs::run("systemctl", &["enable", "--quiet", SETTLE], PROGRAM_TIME);
    start(&EDGE)
}

/// Enables and starts the renewals.
///
/// # Errors
/// As [`start_edge`].
pub(crate) fn start_renewals() -> Result<(), Box<Problem>> {
    start(&RENEWALS)
}

/// Whether the renewals run.
pub(crate) fn renews() -> bool {
    is_active(TIMER)
}

/// Enables and starts the renewals, and begins one now: a timer that runs already waits for up to an hour. Returns false if a renewal was
/// in progress: it may have read the list of hosts before the last change.
///
/// # Errors
/// As [`start_edge`].
pub(crate) fn renew_now() -> Result<bool, Box<Problem>> {
    let state = programs::run("systemctl", &["is-active", RENEWAL], PROGRAM_TIME);
    let is_busy = state.is_ok_and(|said| said.text().starts_with("activating"));
    start_renewals()?;
    // The renewal talks to the CA, which can take minutes: this call does not wait for it.
    match asked(&["start", "--no-block"], &[RENEWAL]) {
        complaint if complaint.is_empty() => Ok(!is_busy),
        complaint => Err(failure(RENEWAL, &complaint)),
    }
}

/// Runs systemctl; returns what it complains about.
fn asked(words: &[&str], units: &[&str]) -> String {
    match programs::run("systemctl", &[words, units].concat(), PROGRAM_TIME) {
        Ok(said) if said.succeeded => String::new(),
        Ok(said) => said.complaint(),
        Err(error) => error.to_string(),
    }
}

fn start(units: &[&str]) -> Result<(), Box<Problem>> {
    let complaint = asked(&["enable", "--now", "--quiet"], units);
    match units.iter().find(|unit| !is_active(unit)) {
        None if complaint.is_empty() => Ok(()),
        failed => {
            Err(failure(failed.copied().unwrap_or(units.last().copied().unwrap_or_default()), &complaint))
        }
    }
}

fn is_active(unit: &str) -> bool {
    programs::run("systemctl", &["is-active", "--quiet", unit], PROGRAM_TIME).is_ok_and(|said| said.succeeded)
}

fn failure(unit: &str, complaint: &str) -> Box<Problem> {
    let words = ["-u", unit, "-n", LOG_LINES, "--no-pager", "-o", "cat"];
    let log = programs::run("journalctl", &words, PROGRAM_TIME).map(|said| said.text()).unwrap_or_default();
    Problem::of(Code::UnitFailed, format!("{unit} does not start"), &[("unit", unit)])
        .seen("systemctl", complaint)
        .seen("log", log.trim_end())
}
