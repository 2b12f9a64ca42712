//! Whether the bundle in use is what sanedge.toml and its certificate files make now.
//!
//! The running edge may read neither (its sandbox has no place for keys), so the command does: it compiles the file again and
//! compares what comes out. Where it may not read a key either, it compares times.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Value, json};

use super::terminal::now;
use crate::bundle::commands::reload_command;
use crate::bundle::compare::{Difference, differences, told};
use crate::bundle::compile::{self, Outcome};
use crate::bundle::file::word;
use crate::bundle::finding::{Code, Severity};
use crate::bundle::{Admin, Bundle, report, source};

/// The code of the problem that the source and the bundle in use differ.
pub(super) const SOURCE: &str = "source-newer";
/// Files that one sentence names.
const FILES_TOLD_MAX: usize = 3;

/// What came of the comparison.
#[derive(Debug)]
pub(super) struct Look {
    file: PathBuf,
    state: State,
    /// What to type so that they are the same.
    command: String,
}

#[derive(Debug)]
enum State {
    /// The file makes what is in use.
    Same,
    /// The bundle on the disk is what the file makes; the edge has another one.
    NotTaken,
    /// The file makes another bundle. `newer`: which files are newer than the bundle.
    Older { newer: Vec<PathBuf>, differences: Vec<Difference> },
    /// The file makes no bundle at all.
    Broken { errors: usize },
    /// Somebody else may read it.
    NotCompared { unreadable: String },
}

/// The sanedge.toml that `sanedge bundle` makes `bundle` of where nobody says otherwise.
pub(super) fn beside(bundle: &Path) -> PathBuf {
    bundle.with_extension("toml")
}

/// Compares the bundle in use, of which `in_use` is the beginning of the digest, with the sanedge.toml beside its file. None where
/// there is none: a bundle that came from another machine has no source here.
pub(super) fn look(bundle: &Path, in_use: &str, admin: &Admin) -> Option<Look> {
    let file = beside(bundle);
    if !file.is_file() {
        return None;
    }
    let outcome = compile::compile(&file, now());
    let on_disk = Bundle::open(bundle).ok();
    let reload = reload_command(Some(admin));
    let make = format!("sanedge bundle {} -o {} && {reload}", word(&file), word(bundle));
    let state = state(&file, bundle, on_disk.as_ref(), in_use, outcome);
    let command = match state {
        State::Same => String::new(),
        State::NotTaken => reload,
        State::Older { ref differences, .. } if differences.iter().any(Difference::needs_a_restart) => {
            format!("sanedge bundle {} -o {} && sudo systemctl restart sanedge", word(&file), word(bundle))
        }
        State::Older { .. } | State::NotCompared { .. } => make,
        State::Broken { .. } => format!("sanedge bundle {} -o {}", word(&file), word(bundle)),
    };
    Some(Look { file, state, command })
}

fn state(file: &Path, path: &Path, on_disk: Option<&Bundle>, in_use: &str, outcome: Outcome) -> State {
    let errors = || outcome.findings.iter().filter(|finding| finding.severity() == Severity::Error);
    let closed = errors().find(|finding| finding.code == Code::FileUnreadable);
    let fresh = outcome.bundle.as_ref().and_then(|bytes| Bundle::decode(bytes.clone()).ok());
    match (fresh, closed) {
        (Some(fresh), _) if report::hex(&fresh.digest).starts_with(in_use) => State::Same,
        (Some(fresh), _) if on_disk.is_some_and(|bundle| bundle.digest == fresh.digest) => State::NotTaken,
        (Some(fresh), _) => {
            let differences = on_disk.map(|bundle| differences(bundle, &fresh)).unwrap_or_default();
            State::Older { newer: newer(file, path), differences }
        }
        (None, Some(closed)) if errors().all(|finding| finding.code == Code::FileUnreadable) => {
            let newer = newer(file, path);
            if newer.is_empty() {
                State::NotCompared { unreadable: closed.message.clone() }
            } else {
                State::Older { newer, differences: Vec::new() }
            }
        }
        (None, _) => State::Broken { errors: errors().count() },
    }
}

/// Which of sanedge.toml and the files that it names are newer than the bundle.
fn newer(file: &Path, bundle: &Path) -> Vec<PathBuf> {
    let changed = |path: &Path| std::fs::metadata(path).and_then(|about| about.modified()).ok();
    let Some(written) = changed(bundle) else { return Vec::new() };
    let is_newer = |path: &PathBuf| changed(path).is_some_and(|at: SystemTime| at > written);
    let named = source::read(file).0.map(|source| source.certificates).unwrap_or_default();
    let named = named.into_iter().flat_map(|files| [files.chain.value.path, files.key.value.path]);
    std::iter::once(file.to_owned()).chain(named).filter(is_newer).collect()
}

impl Look {
    /// The file makes something else than what is in use.
    pub(super) fn is_trouble(&self) -> bool {
        matches!(self.state, State::NotTaken | State::Older { .. } | State::Broken { .. })
    }

    /// One sentence with what to type; none where all is well.
    pub(super) fn sentence(&self) -> Option<String> {
        let message = self.told()?;
        Some(if self.is_trouble() { format!("{message}. Type `{}`", self.command) } else { message })
    }

    fn told(&self) -> Option<String> {
        let file = word(&self.file);
        Some(match &self.state {
            State::Same => return None,
            State::NotTaken => format!("the edge does not use the bundle on disk, which matches {file}"),
            State::Older { newer, differences } => older(&file, newer, differences),
            State::Broken { errors } => {
                let plural = if *errors == 1 { "" } else { "s" };
                format!("{file} has {errors} error{plural}; the edge keeps the bundle in use")
            }
            State::NotCompared { unreadable } => {
                format!("not compared with {file}: {unreadable}; run the same command with sudo")
            }
        })
    }

    /// As one of the problems that the edge tells; it compares times only.
    pub(super) fn problem(&self) -> Option<Value> {
        let problem = |message| json!({ "code": SOURCE, "severity": Severity::Warning, "message": message, "command": self.command });
        self.told().filter(|_| self.is_trouble()).map(problem)
    }

    pub(super) fn json(&self) -> Value {
        let (state, differences) = match &self.state {
            State::Same => ("same", &[][..]),
            State::NotTaken => ("not-taken", &[][..]),
            State::Older { differences, .. } => ("newer", differences.as_slice()),
            State::Broken { .. } => ("broken", &[][..]),
            State::NotCompared { .. } => ("not-compared", &[][..]),
        };
        json!({
            "file": self.file,
            "state": state,
            "message": self.sentence(),
            "command": Some(&self.command).filter(|command| !command.is_empty()),
            "differences": differences,
        })
    }
}

fn older(file: &str, newer: &[PathBuf], differences: &[Difference]) -> String {
    let names: Vec<String> = newer.iter().take(FILES_TOLD_MAX).map(|file| word(file)).collect();
    let said = match names.as_slice() {
        [] => format!("{file} differs from the bundle in use"),
        [one] => format!("{one} is newer than the bundle in use"),
        some => format!("{} are newer than the bundle in use", some.join(", ")),
    };
    match differences {
        [] => said,
        some => format!("{said}, which differs in {}", told(some)),
    }
}
