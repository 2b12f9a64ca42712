//! Whether the bundle in use is what sanedge.toml and its certificate files compile to now.
//!
//! The sandbox does not let the running edge read these files, so the command does it: it compiles the file again and compares the result.
//! If it may not read a key, it compares file times.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Value, json};

use super::terminal::now;
use crate::bundle::commands::{apply_command, reload_command};
use crate::bundle::compare::{Difference, differences, told};
use crate::bundle::compile::{self, Outcome};
use crate::bundle::file::word;
use crate::bundle::finding::{Code, Severity};
use crate::bundle::{Admin, Bundle, report, source};

/// The code of the problem if the source and the bundle in use differ.
pub(super) const SOURCE: &str = "source-newer";
/// Files that one sentence names.
const FILES_TOLD_MAX: usize = 3;

/// The result of the comparison.
#[derive(Debug)]
pub(super) struct Look {
    file: PathBuf,
    state: State,
    /// The command after which they are the same.
    command: String,
}

#[derive(Debug)]
enum State {
    /// The file compiles to the bundle in use.
    Same,
    /// The file compiles to the bundle on the disk, but the edge uses another one.
    NotTaken,
    /// The file compiles to another bundle. `newer`: which files are newer than the bundle.
    Older { newer: Vec<PathBuf>, differences: Vec<Difference> },
    /// The file does not compile.
    Broken { errors: usize },
    /// This user may not read it.
    NotCompared { unreadable: String },
}

/// The sanedge.toml that `sanedge bundle` compiles to `bundle` by default.
pub(super) fn beside(bundle: &Path) -> PathBuf {
    bundle.with_extension("toml")
}

/// Compares the bundle in use with the sanedge.toml beside its file; `in_use` is the beginning of the bundle's digest. `None` if there is no
/// sanedge.toml, because the bundle came from another machine.
pub(super) fn look(bundle: &Path, in_use: &str, admin: &Admin) -> Option<Look> {
    let file = beside(bundle);
    if !file.is_file() {
        return None;
    }
    let outcome = compile::compile(&file, now());
    let on_disk = Bundle::open(bundle).ok();
    let reload = reload_command(Some(admin));
    let apply = apply_command(&file);
    let state = state(&file, bundle, on_disk.as_ref(), in_use, outcome);
    let command = match state {
        State::Same => String::new(),
        State::NotTaken => reload,
        State::Older { ref differences, .. } if differences.iter().any(Difference::needs_a_restart) => {
            format!("{apply} --restart")
        }
        State::Older { .. } | State::NotCompared { .. } => apply,
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
    /// Whether the file compiles to another bundle than the one in use.
    pub(super) fn is_trouble(&self) -> bool {
        matches!(self.state, State::NotTaken | State::Older { .. } | State::Broken { .. })
    }

    /// One sentence with what to type; `None` if there is no difference.
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

    /// The result in the form of the edge's problems.
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
