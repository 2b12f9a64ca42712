//! The running edge, for `apply`: its state, a reload, a restart by systemd, and a check of what it serves.

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::acme::confirm::{self, NotServed};
use crate::admin::client::AskError;
use crate::bundle::file::word;
use crate::bundle::report::hex;
use crate::bundle::{Admin, Bundle};
use crate::cli::failure::Failure;
use crate::cli::running::{admin_of, asked, is_absent, reload_of};
use crate::excerpt::Excerpt;
use crate::names::Host;
use crate::setup::programs;
use crate::system::started::Started;

/// The service of the package.
pub(super) const UNIT: &str = "sanedge.service";
/// Limit until the service has started, if something else starts it.
const START_TIME: Duration = Duration::from_secs(30);
/// Limit for a question to systemd.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(10);
/// The code if it has not started by then.
pub(super) const STARTING: &str = "starting";
/// Limit for a restart, from the unit's limits for stop and start.
const RESTART_TIME: Duration = Duration::from_secs(180);
/// Limit until the edge answers after a restart.
const CONFIRM_TIME: Duration = Duration::from_secs(20);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Hosts whose certificate is checked with a handshake.
const HOSTS_ASKED_MAX: usize = 16;
/// The code if a handshake on this machine gets another certificate.
pub(in crate::cli) const NOT_SERVED: &str = "not-served";

/// A running edge that serves the bundle of this configuration.
#[derive(Debug)]
pub(super) struct Edge {
    admin: Admin,
    /// The first bytes of the digest of the bundle in use, in hex.
    digest: String,
    draining: bool,
    /// `None`: the edge has another version.
    pub(super) started: Option<Started>,
    /// WebSockets that a restart closes.
    pub(super) websockets: u64,
    /// systemd runs it.
    pub(super) has_unit: bool,
}

impl Edge {
    /// The edge that serves the file at `path`, by the admin socket of the old bundle, then by that of the new one. Waits for one that is
    /// starting.
    pub(super) fn find(path: &Path, bundles: &[&Bundle]) -> Result<Option<Self>, Failure> {
        let unit = Unit::settled(path)?;
        // Its socket units may accept connections for it, which no process would answer.
        if unit == Some(Unit::Inactive) {
            return Ok(None);
        }
        let mut tried = Vec::new();
        for admin in bundles.iter().map(|bundle| admin_of(bundle)) {
            if tried.contains(&admin) {
                continue;
            }
            match asked(&admin) {
                Ok(status) if serves(&status, path) => {
                    return Ok(Some(Self::of(admin, &status, unit.is_some())));
                }
                Ok(_) => {}
                Err(AskError::Connect { error, .. }) if is_absent(&error) => {}
                Err(error) => return Err(error.into()),
            }
            tried.push(admin);
        }
        Ok(None)
    }

    fn of(admin: Admin, status: &Value, has_unit: bool) -> Self {
        let started = status.get("started").cloned().unwrap_or_default();
        Self {
            admin,
            digest: status.get("bundle").and_then(Value::as_str).unwrap_or_default().to_owned(),
            draining: status.get("draining").and_then(Value::as_bool).unwrap_or_default(),
            started: serde_json::from_value(started).ok(),
            websockets: status
                .pointer("/counters/websockets_open")
                .filter(|_| status.get("hands_over") != Some(&Value::Bool(true)))
                .and_then(Value::as_u64)
                .unwrap_or_default(),
            has_unit,
        }
    }

    /// Whether `bundle` is in use.
    pub(super) fn uses(&self, bundle: &Bundle) -> bool {
        !self.digest.is_empty() && hex(&bundle.digest).starts_with(&self.digest)
    }

    /// Why `bundle` needs a new process; empty if a reload is enough.
    pub(super) fn cannot_follow(&self, path: &Path, bundle: &Bundle) -> Vec<String> {
        self.started.as_ref().map(|started| started.cannot_follow(path, bundle)).unwrap_or_default()
    }

    /// Fails, before anything is written, if the edge cannot accept a bundle now.
    pub(super) fn is_ready(&self) -> Result<(), Failure> {
        match &self.admin {
            _ if self.draining => {
                Err(Failure::new("draining", "the edge is shutting down; try again when it runs"))
            }
            Admin::Tcp(address) if !self.has_unit => {
                let message = format!(
                    "the admin socket of the edge is {address}, which is read-only, and systemd does not run the edge as {UNIT}: stop the edge, type `sanedge apply`, and start it"
                );
                Err(Failure::new("admin-only-reads", message))
            }
            _ => Ok(()),
        }
    }

    /// Reloads the edge; returns its notes.
    pub(super) fn reload(&self) -> Result<Vec<String>, Failure> {
        if let Admin::Tcp(_) = self.admin {
            return systemctl("reload").map(|()| Vec::new());
        }
        let said: Value = serde_json::from_str(&reload_of(&self.admin, true)?).unwrap_or_default();
        let notes = said.get("notes").and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(notes.iter().filter_map(|note| note.as_str().map(str::to_owned)).collect())
    }

    /// Starts a new process by systemd.
    pub(super) fn restart(&self) -> Result<(), Failure> {
        systemctl("restart")
    }

    /// Checks that the edge at `path` uses `bundle`. A new process gets time to answer.
    pub(super) fn confirm(path: &Path, bundle: &Bundle, is_new: bool) -> Result<(), Failure> {
        let admin = admin_of(bundle);
        let until = Instant::now() + if is_new { CONFIRM_TIME } else { Duration::ZERO };
        loop {
            let status = asked(&admin);
            let edge = status.as_ref().ok().filter(|status| serves(status, path));
            if edge.is_some_and(|status| Self::of(admin.clone(), status, false).uses(bundle)) {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(unconfirmed(status));
            }
            sleep(LOOK_INTERVAL);
        }
    }
}

/// Checks with handshakes on this machine that the edge serves the certificates that `bundle` has for `hosts`. Only another certificate
/// is an error: if none comes, the edge's own confirmation must do.
pub(super) fn serves_new(bundle: &Bundle, hosts: &[Host]) -> Result<(), Failure> {
    let Some(listener) = bundle.listen.https.iter().find(|listener| listener.port() != 0) else {
        return Ok(());
    };
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let expects_proxy = bundle.listen.proxy_protocol_from.iter().any(|network| network.contains(&here));
    for host in hosts.iter().take(HOSTS_ASKED_MAX) {
        let entry = bundle.host(host).map(|entry| usize::from(entry.certificate));
        let certificate = entry.and_then(|at| bundle.certificates.get(at));
        let Some(end_entity) = certificate.and_then(|found| found.key.cert.first()) else { continue };
        match confirm::serves(*listener, &host.to_string(), end_entity, expects_proxy) {
            Ok(()) => {}
            Err(NotServed::Unreachable(_) | NotServed::Refused(_)) => return Ok(()),
            Err(NotServed::Differs(found)) => return Err(Failure::new(NOT_SERVED, found)),
        }
    }
    Ok(())
}

fn unconfirmed(status: Result<Value, AskError>) -> Failure {
    match status {
        Err(error) => error.into(),
        Ok(status) => {
            let in_use = status.get("bundle").and_then(Value::as_str).unwrap_or_default();
            let message = format!("the edge does not use the new bundle, but {}", Excerpt::of(in_use));
            Failure::new("not-in-use", message)
        }
    }
}

/// Whether the edge with this status serves the bundle at `path`.
fn serves(status: &Value, path: &Path) -> bool {
    let file = status.get("bundle_file").and_then(Value::as_str).unwrap_or_default();
    let [ours, theirs] = [path, Path::new(file)].map(|path| std::fs::canonicalize(path).ok());
    let whole = std::path::absolute(path).ok();
    ours.is_some() && ours == theirs || whole.is_some_and(|whole| whole == Path::new(file))
}

/// The packaged service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Active,
    /// Its process starts, and does not answer yet.
    Starting,
    /// No process runs, or systemd waits before it starts another.
    Inactive,
}

impl Unit {
    /// Its state once it is not starting; `None` if systemd does not run, or the service serves another file than `path`.
    fn settled(path: &Path) -> Result<Option<Self>, Failure> {
        let until = Instant::now() + START_TIME;
        loop {
            match Self::of(path)? {
                Some(Self::Starting) if Instant::now() >= until => {
                    let seconds = START_TIME.as_secs();
                    let message = format!(
                        "{UNIT} has been starting for {seconds} s: nothing was changed. `systemctl status {UNIT}` says more; try again when it runs"
                    );
                    return Err(Failure::new(STARTING, message));
                }
                Some(Self::Starting) => sleep(LOOK_INTERVAL),
                unit => return Ok(unit),
            }
        }
    }

    fn of(path: &Path) -> Result<Option<Self>, Failure> {
        let words = ["show", "--property=LoadState,ActiveState,SubState,ExecStart", UNIT];
        let said = match programs::run("systemctl", &words, ANSWER_TIME) {
            Ok(said) => said,
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                let message = format!(
                    "`systemctl show {UNIT}` gives no answer within {} s: nothing was changed",
                    ANSWER_TIME.as_secs()
                );
                return Err(Failure::new("systemd", message));
            }
            Err(_) => return Ok(None),
        };
        Ok(if said.succeeded { Self::parsed(&said.text(), path) } else { None })
    }

    /// Parses the properties.
    fn parsed(said: &str, path: &Path) -> Option<Self> {
        let path = std::fs::canonicalize(path).or_else(|_| std::path::absolute(path)).ok()?;
        let is_served = said.split_whitespace().any(|word| Path::new(word) == path);
        let property = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let state = match property("ActiveState")? {
            "active" | "reloading" | "deactivating" => Self::Active,
            "activating" if property("SubState") != Some("auto-restart") => Self::Starting,
            _ => Self::Inactive,
        };
        is_served.then_some(state)
    }
}

/// Runs systemctl in a separate process group, so that Ctrl-C does not interrupt it.
pub(super) fn systemctl(verb: &str) -> Result<(), Failure> {
    let failed = |why: String| {
        let message = format!("`systemctl {verb} {UNIT}` failed: {why}; `journalctl -u {UNIT}` says more");
        Failure::new("systemd", message)
    };
    let mut command = Command::new("systemctl");
    command
        .args([verb, UNIT])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    let until = Instant::now() + RESTART_TIME;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(failed(status.to_string())),
            Err(error) => return Err(failed(error.to_string())),
            Ok(None) if Instant::now() >= until => {
                // It only waits for a job of systemd, which goes on.
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(format!("it has not ended after {} s", RESTART_TIME.as_secs())));
            }
            Ok(None) => sleep(LOOK_INTERVAL),
        }
    }
}

/// What to type if systemd does not run the edge, and therefore cannot restart it.
pub(super) fn by_hand(file: &Path) -> String {
    format!(
        "systemd does not run this edge as {UNIT}, so it cannot be restarted here: stop the edge, type `sanedge apply {}`, and start it",
        word(file)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_active_starting_or_without_a_process() {
        let said = |state: &str, sub: &str| {
            let exec = "ExecStart={ path=/usr/bin/sanedge ; argv[]=/usr/bin/sanedge serve /x/a.bundle ; }";
            format!("LoadState=loaded\nActiveState={state}\nSubState={sub}\n{exec}\n")
        };
        let parsed = |state, sub| Unit::parsed(&said(state, sub), Path::new("/x/a.bundle"));
        for (state, sub, unit) in [
            ("active", "running", Unit::Active),
            ("reloading", "reload", Unit::Active),
            ("deactivating", "stop-sigterm", Unit::Active),
            ("activating", "start", Unit::Starting),
            ("activating", "start-pre", Unit::Starting),
            ("activating", "auto-restart", Unit::Inactive),
            ("inactive", "dead", Unit::Inactive),
            ("failed", "failed", Unit::Inactive),
        ] {
            assert_eq!(parsed(state, sub), Some(unit), "{state} {sub}");
        }
        assert_eq!(Unit::parsed(&said("active", "running"), Path::new("/x/b.bundle")), None);
        assert_eq!(Unit::parsed("", Path::new("/x/a.bundle")), None);
    }
}
