//! `sanedge apply`: checks sanedge.toml, writes the bundle and `x.acme`, reloads or restarts the edge, and checks that the edge uses the new
//! bundle. If a step fails, nothing changes.
//!
//! [`run`] does this for the other commands that change the file as well (`site`, `setup`). Output and questions go through a [`Talk`].

pub(super) mod commit;
mod edge;
mod journal;
pub(super) mod lock;
mod preflight;
mod settle;
mod signals;
pub(super) mod tell;

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::difference;
use super::failure::Failure;
use super::terminal::now;
use crate::bundle::acme::{PLAN_BYTES_MAX, Plan};
use crate::bundle::compare::{self, Difference};
use crate::bundle::compile::{self, Outcome};
use crate::bundle::file::word;
use crate::bundle::finding::Finding;
use crate::bundle::source::SOURCE_BYTES_MAX;
use crate::bundle::{Bundle, file, report, source};
use crate::names::Host;
pub(crate) use commit::State;
use commit::{Checks, Commit};
use edge::Edge;
pub(super) use edge::NOT_SERVED;
use journal::{Change, Contents, Kind};
use lock::Lock;

/// Exit code if the change may be possible later, or with `--restart` (`EX_TEMPFAIL`).
pub(crate) const NOT_NOW: u8 = 75;
/// The code of a change that needs a new process.
pub(crate) const NEEDS_RESTART: &str = "needs-restart";
/// The note while another command holds the lock.
pub(super) const WAITING: &str = "note waiting for another sanedge command that changes the same files\n";

/// Changes the text of sanedge.toml; `None` if there is no file yet.
pub(crate) type Edit<'a> = &'a dyn Fn(Option<&str>) -> Result<String, Failure>;

/// What is to be applied.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    /// The sanedge.toml. Its bundle is beside it.
    pub(crate) file: &'a Path,
    /// How the file changes; `None`: the user has edited it.
    pub(crate) edit: Option<Edit<'a>>,
    /// Only report what would change.
    pub(crate) dry_run: bool,
    /// Restart the edge if necessary, even if that closes WebSockets.
    pub(crate) restart: bool,
}

/// The output of a change, and its questions.
pub(crate) trait Talk {
    /// The file changes from one text to another.
    fn edited(&mut self, file: &Path, old: &str, new: &str);
    /// The result of the checks.
    fn proven(&mut self, outcome: &Outcome);
    /// The differences from the bundle in use.
    fn differs(&mut self, differences: &[Difference]);
    /// One sentence about a step, or worth knowing.
    fn note(&mut self, text: &str);
    /// A question to be answered with yes or no; `None` without a terminal.
    fn ask(&mut self, question: &str) -> Option<bool>;
}

/// Everything that is known about a change, also if it was not made.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// The changed lines of the file, each with `+` or `-`; never a key.
    pub(crate) edit: Vec<String>,
    /// The result of the checks: findings, hosts, memory.
    pub(crate) outcome: Outcome,
    /// What changes.
    pub(crate) differences: Vec<Difference>,
    /// Why a new process is necessary; empty if a reload is enough.
    pub(crate) restart: Vec<String>,
    /// WebSockets that a restart closes.
    pub(crate) websockets: u64,
}

/// Applies the change.
///
/// # Errors
/// Nothing has changed then; [`exit_code`] gives the exit code. If the old state could not be restored, the message says so.
pub(crate) fn run(request: &Request<'_>, talk: &mut dyn Talk) -> (Report, Result<State, Failure>) {
    let mut report = Report::default();
    let state = applied(request, talk, &mut report);
    (report, state)
}

/// Of a failure.
pub(crate) fn exit_code(failure: &Failure) -> u8 {
    match failure.code.as_str() {
        NEEDS_RESTART | lock::BUSY | edge::STARTING | "draining" | "edited-meanwhile" => NOT_NOW,
        _ => 1,
    }
}

/// Takes the lock of `run`, for other commands that write the bundle at `bundle`. First completes or undoes an interrupted change.
pub(super) fn locked(bundle: &Path, waiting: impl FnMut()) -> Result<Lock, Failure> {
    lock::ours(bundle)?;
    let lock = Lock::take(bundle, waiting)?;
    settle::recover(bundle)?;
    Ok(lock)
}

fn applied(request: &Request<'_>, talk: &mut dyn Talk, report: &mut Report) -> Result<State, Failure> {
    let place = Place::of(request.file);
    // The digest of the bundle for which the user confirmed a restart: the file may change during the question.
    let mut agreed = None;
    let mut told = None;
    let mut forced = Vec::new();
    loop {
        let lock = match request.dry_run {
            true => None,
            false => Some(locked(&place.bundle, || {
                talk.note("waiting for another sanedge command that changes the same files")
            })?),
        };
        let mut planned = Planned::of(request, &place, talk, report, &mut told)?;
        planned.restart.append(&mut forced.clone());
        report.restart.clone_from(&planned.restart);
        report.websockets = planned.commit.edge.as_ref().map_or(0, |edge| edge.websockets);
        if request.dry_run {
            return Ok(State::Planned);
        }
        if planned.is_done() {
            return Ok(State::Unchanged);
        }
        let may_restart =
            request.restart || report.websockets == 0 || agreed == Some(planned.commit.bundle.digest);
        if !planned.restart.is_empty() && !may_restart {
            drop(lock);
            agree(&planned.restart, report.websockets, talk)?;
            agreed = Some(planned.commit.bundle.digest);
            continue;
        }
        match planned.commit(talk) {
            // Only the edge itself knows whether its sandbox allows a path.
            Err(failure) if failure.code == NEEDS_RESTART && forced.is_empty() && planned.can_restart() => {
                forced.push(failure.message.clone());
            }
            done => return done,
        }
    }
}

/// Asks whether WebSockets may be closed.
fn agree(why: &[String], websockets: u64, talk: &mut dyn Talk) -> Result<(), Failure> {
    let open = crate::excerpt::number(usize::try_from(websockets).unwrap_or(usize::MAX), "WebSocket");
    let are = if websockets == 1 { "is" } else { "are" };
    let why = why.join("; ");
    let question = format!(
        "The change needs a new process ({why}). {open} {are} open and would be closed. Restart the edge now?"
    );
    match talk.ask(&question) {
        Some(true) => Ok(()),
        Some(false) => Err(Failure::new(NEEDS_RESTART, "nothing was changed")),
        None => {
            let message = format!(
                "the change needs a new process ({why}), and {open} {are} open, which a restart closes: nothing was changed. Add --restart to restart the edge"
            );
            Err(Failure::new(NEEDS_RESTART, message))
        }
    }
}

/// The files that belong together.
struct Place {
    file: PathBuf,
    bundle: PathBuf,
    plan: PathBuf,
}

impl Place {
    fn of(file: &Path) -> Self {
        let bundle = file.with_extension("bundle");
        Self { file: file.to_owned(), plan: Plan::beside(&bundle), bundle }
    }
}

/// A change that passed the checks and is not made yet.
struct Planned<'a> {
    place: &'a Place,
    commit: Commit<'a>,
    /// Why a new process is necessary.
    restart: Vec<String>,
    /// Hosts whose certificate changes.
    renewed: Vec<Host>,
    /// The text of sanedge.toml that was checked.
    text: Contents,
}

impl<'a> Planned<'a> {
    fn of(
        request: &Request<'_>,
        place: &'a Place,
        talk: &mut dyn Talk,
        report: &mut Report,
        told: &mut Option<[u8; 32]>,
    ) -> Result<Self, Failure> {
        lock::ours(&place.bundle)?;
        let (old_text, text) = texts(request, place, report)?;
        let is_edited = request.edit.is_some() && old_text.as_deref() != Some(text.as_str());
        report.edit = if is_edited {
            difference::between(old_text.as_deref().unwrap_or_default(), &text)
        } else {
            Vec::new()
        };
        let mut outcome = compile::compile_text(&place.file, &text, now());
        let bytes = outcome.bundle.take();
        let is_news = *told != Some(crate::bundle::wire::sha256(text.as_bytes()));
        if is_news && is_edited {
            talk.edited(&place.file, old_text.as_deref().unwrap_or_default(), &text);
        }
        if is_news {
            talk.proven(&outcome);
        }
        let fresh = outcome.plan.take().map(|plan| plan.for_bundle(&place.bundle));
        report.outcome = outcome;
        let Some(bytes) = bytes else {
            let count = report::count(&report.outcome.findings);
            return Err(Failure::new("findings", format!("{count}: nothing was changed")));
        };
        let bundle = Bundle::decode(bytes.clone())
            .map_err(|error| Failure::new("bundle-refused", error.to_string()))?;
        let (in_place, before) = commit::in_place(&place.bundle)?;
        let (plan_bytes, plan_before) = plan_in_place(place)?;
        let mut differences = before
            .as_ref()
            .map_or_else(|| compare::all_new(&bundle), |old| compare::differences(old, &bundle));
        differences.extend(compare::plans(plan_before.as_ref(), fresh.as_ref()));
        if is_news {
            talk.differs(&differences);
        }
        *told = Some(crate::bundle::wire::sha256(text.as_bytes()));
        report.differences = differences;
        let edge = Edge::find(&place.bundle, &before.iter().chain([&bundle]).collect::<Vec<_>>())?;
        let restart = edge.as_ref().map_or_else(Vec::new, |edge| edge.cannot_follow(&place.bundle, &bundle));
        let text = Some(Zeroizing::new(text.into_bytes()));
        let old_text = old_text.map(|text| Zeroizing::new(text.into_bytes()));
        let new_plan = fresh.map(|plan| Zeroizing::new(plan.encode()));
        let all = [
            Change { path: place.file.clone(), kind: Kind::Text, old: old_text, new: text.clone() },
            Change { path: place.plan.clone(), kind: Kind::Public, old: plan_bytes, new: new_plan },
            // Last, because the next start of the edge uses it.
            Change { path: place.bundle.clone(), kind: Kind::Bundle, old: in_place, new: Some(bytes) },
        ];
        let changes = all.into_iter().filter(|change| change.old != change.new).collect();
        let commit = Commit { path: &place.bundle, changes, bundle, before, edge };
        let renewed = commit.renewed();
        Ok(Self { place, commit, restart, renewed, text })
    }

    /// Whether files and edge need no change.
    fn is_done(&self) -> bool {
        let commit = &self.commit;
        commit.changes.is_empty()
            && commit.edge.as_ref().is_none_or(|edge| edge.uses(&commit.bundle))
            && self.restart.is_empty()
    }

    fn can_restart(&self) -> bool {
        self.commit.edge.as_ref().is_some_and(|edge| edge.has_unit)
    }

    fn commit(&self, talk: &mut dyn Talk) -> Result<State, Failure> {
        if let Some(edge) = &self.commit.edge {
            edge.is_ready()?;
            if !self.restart.is_empty() && !edge.has_unit {
                let message = format!(
                    "the change needs a new process ({}). {}",
                    self.restart.join("; "),
                    edge::by_hand(&self.place.file)
                );
                return Err(Failure::new(NEEDS_RESTART, message));
            }
        }
        let sources = || self.is_as_proven();
        let served = || edge::serves_new(&self.commit.bundle, &self.renewed);
        let checks = Checks { sources: &sources, served: &served };
        self.commit.run(!self.restart.is_empty(), &checks, &mut |text| talk.note(text))
    }

    /// Checks that the file is still the one that was checked: an editor does not take the lock.
    fn is_as_proven(&self) -> Result<(), Failure> {
        let edited = self.commit.changes.iter().find(|change| change.kind == Kind::Text);
        let wanted = edited.map_or(&self.text, |change| &change.old);
        if journal::contents(&self.place.file)? == *wanted {
            return Ok(());
        }
        let message = format!(
            "{} was changed by another program meanwhile: nothing was changed. Try again",
            word(&self.place.file)
        );
        Err(Failure::new("edited-meanwhile", message))
    }
}

/// The current text of the file, and the new one.
fn texts(
    request: &Request<'_>,
    place: &Place,
    report: &mut Report,
) -> Result<(Option<String>, String), Failure> {
    if request.edit.is_some() {
        file::editable(&place.file).map_err(|error| Failure::new("not-written", error.to_string()))?;
    }
    let found = match (source::text(&place.file), request.edit) {
        (Ok(text), _) => Some(text),
        (Err(_), Some(_))
            if std::fs::symlink_metadata(&place.file)
                .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) =>
        {
            None
        }
        (Err(finding), _) => {
            let message = finding.message.clone();
            report.outcome.findings = vec![*finding];
            return Err(unreadable(message, &report.outcome.findings));
        }
    };
    let Some(edit) = request.edit else {
        let text = found.clone().unwrap_or_default();
        return Ok((found, text));
    };
    let text = edit(found.as_deref())?;
    if text.len() as u64 > SOURCE_BYTES_MAX {
        let message = format!("{} would be larger than {} KiB", word(&place.file), SOURCE_BYTES_MAX / 1024);
        return Err(Failure::new("too-large", message));
    }
    Ok((found, text))
}

fn unreadable(message: String, findings: &[Finding]) -> Failure {
    let found = findings.first().map(|finding| format!(": {}", finding.found)).unwrap_or_default();
    Failure::new("findings", format!("{message}{found}: nothing was changed"))
}

fn plan_in_place(place: &Place) -> Result<(Contents, Option<Plan>), Failure> {
    let bytes = journal::contents(&place.plan)?;
    if bytes.as_ref().is_some_and(|bytes| bytes.len() as u64 > PLAN_BYTES_MAX) {
        let message =
            format!("{} is not what `sanedge bundle` writes: move it away and try again", word(&place.plan));
        return Err(Failure::new("not-written", message));
    }
    let plan = bytes.as_ref().and_then(|bytes| Plan::decode(bytes).ok());
    Ok((bytes, plan))
}
