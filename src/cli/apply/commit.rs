//! How files and edge change together, for every command that writes a bundle: the journal, atomic writes, a reload or restart, and the
//! confirmation by the edge. If a step fails, files and edge are as before.

use std::path::Path;

use zeroize::Zeroizing;

use super::edge::Edge;
use super::journal::{self, Change, Contents, Journal, Kind};
use super::preflight;
use super::signals::Deferred;
use crate::bundle::Bundle;
use crate::bundle::file::{folder_of, word};
use crate::cli::failure::Failure;
use crate::cli::output::is_something_else;
use crate::names::Host;

/// The result of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// Files and edge needed no change.
    Unchanged,
    /// Nothing was changed (`--dry-run`).
    Planned,
    /// The files are written, and no edge runs.
    Stored,
    /// The edge serves it.
    Reloaded,
    /// A new process serves it.
    Restarted,
}

/// A change that passed the checks.
pub(in crate::cli) struct Commit<'a> {
    /// The bundle's file.
    pub(super) path: &'a Path,
    /// The files that differ, the bundle last, because the next start of the edge uses it.
    pub(super) changes: Vec<Change>,
    pub(super) bundle: Bundle,
    /// The bundle in place.
    pub(super) before: Option<Bundle>,
    pub(super) edge: Option<Edge>,
}

/// What a change is checked by.
pub(in crate::cli) struct Checks<'a> {
    /// Whether the sources are still those that were compiled.
    pub(in crate::cli) sources: &'a dyn Fn() -> Result<(), Failure>,
    /// Whether clients get the new certificates, asked once the edge uses the bundle.
    pub(in crate::cli) served: &'a dyn Fn() -> Result<(), Failure>,
}

impl<'a> Commit<'a> {
    /// The change of one bundle to `bytes`.
    pub(in crate::cli) fn of_bundle(path: &'a Path, bytes: Zeroizing<Vec<u8>>) -> Result<Self, Failure> {
        let bundle = Bundle::decode(bytes.clone())
            .map_err(|error| Failure::new("bundle-refused", error.to_string()))?;
        let (old, before) = in_place(path)?;
        let edge = Edge::find(path, &before.iter().chain([&bundle]).collect::<Vec<_>>())?;
        let change = Change { path: path.to_owned(), kind: Kind::Bundle, old, new: Some(bytes) };
        let changes = if change.old == change.new { Vec::new() } else { vec![change] };
        Ok(Self { path, changes, bundle, before, edge })
    }

    /// Whether the files need no change.
    pub(in crate::cli) fn is_written(&self) -> bool {
        self.changes.is_empty()
    }

    /// The new bundle.
    pub(in crate::cli) fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The hosts whose certificate changes.
    pub(in crate::cli) fn renewed(&self) -> Vec<Host> {
        let end_entity = |bundle: &Bundle, host: &Host| {
            let certificate = bundle.host(host).map(|entry| usize::from(entry.certificate))?;
            bundle.certificates.get(certificate)?.key.cert.first().cloned()
        };
        let is_renewed = |host: &&Host| {
            let before = self.before.as_ref();
            before.is_none_or(|before| end_entity(before, host) != end_entity(&self.bundle, host))
        };
        self.bundle.hosts.iter().map(|entry| &entry.host).filter(is_renewed).cloned().collect()
    }

    /// Makes the change, with a new process if `restarts`.
    ///
    /// # Errors
    /// Files and edge are as before, or the message says what is not.
    pub(in crate::cli) fn run(
        &self,
        restarts: bool,
        checks: &Checks<'_>,
        note: &mut dyn FnMut(&str),
    ) -> Result<State, Failure> {
        if let Some(edge) = &self.edge {
            edge.is_ready()?;
        }
        (checks.sources)()?;
        let _deferred = Deferred::new();
        if self.changes.is_empty() {
            return self.put_to_use(restarts, &mut false, checks, note);
        }
        let journal = Journal::begin(folder_of(self.path), &self.changes)?;
        // An editor may have saved the file while the journal was written. No file is replaced yet.
        if let Err(edited) = (checks.sources)() {
            journal.end()?;
            return Err(edited);
        }
        let mut restarted = false;
        let done = Journal::write(&self.changes).and_then(|notes| {
            notes.iter().for_each(|text| note(text));
            self.put_to_use(restarts, &mut restarted, checks, note)
        });
        match done {
            Ok(state) => journal.end().map(|()| state),
            Err(failure) => Err(self.undone(restarted, journal, failure)),
        }
    }

    fn put_to_use(
        &self,
        restarts: bool,
        restarted: &mut bool,
        checks: &Checks<'_>,
        note: &mut dyn FnMut(&str),
    ) -> Result<State, Failure> {
        let Some(edge) = &self.edge else { return Ok(State::Stored) };
        let state = if restarts {
            if !preflight::passed(self.path, &self.bundle, self.before.as_ref(), edge.started.as_ref())? {
                note(preflight::NOT_TRIED);
            }
            note("restarting the edge");
            *restarted = true;
            edge.restart()?;
            State::Restarted
        } else {
            if !edge.uses(&self.bundle) {
                edge.reload()?.iter().for_each(|text| note(text));
            }
            State::Reloaded
        };
        Edge::confirm(self.path, &self.bundle, restarts)?;
        (checks.served)()?;
        Ok(state)
    }

    /// Restores files and edge, and says so in the failure.
    fn undone(&self, restarts: bool, journal: Journal, mut failure: Failure) -> Failure {
        let others = match journal.roll_back() {
            Ok(others) => others,
            Err(error) => {
                failure.message += &format!(
                    ". The files could not be restored: {}. The next `sanedge apply` tries again",
                    error.message
                );
                return failure;
            }
        };
        for path in others {
            failure.message +=
                &format!(". Another program changed {} in the meantime; that change stays", word(&path));
        }
        failure.message += match self.edge_as_before(restarts) {
            Ok(()) => ". Files and edge are as before",
            Err(_) => {
                ". The files are as before, but the edge does not confirm that it serves them: check `sanedge status`"
            }
        };
        failure
    }

    fn edge_as_before(&self, restarts: bool) -> Result<(), Failure> {
        let (Some(edge), Some(before)) = (&self.edge, &self.before) else { return Ok(()) };
        if !edge.uses(before) {
            return Ok(());
        }
        match Edge::find(self.path, &[before, &self.bundle])? {
            Some(now) if now.uses(before) => return Ok(()),
            Some(now) if !restarts => drop(now.reload()?),
            _ if edge.has_unit => edge.restart()?,
            _ => {}
        }
        Edge::confirm(self.path, before, restarts)
    }
}

/// The existing bundle. One that cannot be opened is replaced as well; everything in the new bundle then counts as new.
pub(super) fn in_place(path: &Path) -> Result<(Contents, Option<Bundle>), Failure> {
    if is_something_else(path) {
        let message =
            format!("{0} is not a bundle: move it away (`mv {0} {0}.damaged`) and try again", word(path));
        return Err(Failure::new("not-written", message));
    }
    let bytes = journal::contents(path)?;
    let bundle = bytes.as_ref().and_then(|bytes| Bundle::decode(bytes.clone()).ok());
    Ok((bytes, bundle))
}
