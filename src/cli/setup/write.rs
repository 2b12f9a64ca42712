//! Changes the file, its bundle and the running edge as `sanedge apply` does: if a step fails, nothing changes.

use std::net::SocketAddr;
use std::path::Path;

use super::dialogue::Confirmation;
use crate::admin::client::{self, AskError};
use crate::admin::endpoints::STATUS;
use crate::bundle::compare::Difference;
use crate::bundle::compile::Outcome;
use crate::bundle::file::word;
use crate::bundle::{Bundle, report};
use crate::cli::apply::{self, Request, State, Talk};
use crate::cli::failure::Failure;
use crate::cli::running::{admin_of, is_absent};
use crate::cli::terminal::complain;
use crate::ops::log;

/// What was written.
#[derive(Debug)]
pub(super) struct Written {
    /// One sentence.
    pub(super) said: String,
    /// Further sentences.
    pub(super) notes: Vec<String>,
    /// An edge runs and uses the new bundle.
    pub(super) is_running: bool,
    /// TLS listeners.
    pub(super) https: Vec<SocketAddr>,
    /// The port that clients connect to.
    pub(super) public_port: u16,
}

/// The change to write.
pub(super) struct Change<'a> {
    pub(super) file: &'a Path,
    /// The text when the change was shown and confirmed.
    pub(super) before: Option<&'a str>,
    pub(super) text: &'a str,
    /// Restart the edge if necessary.
    pub(super) restart: bool,
}

/// Keeps notes, prints findings, and asks before a restart that closes WebSockets.
struct Listener<'a> {
    confirmation: &'a mut Confirmation,
    notes: Vec<String>,
}

impl Talk for Listener<'_> {
    /// Prints nothing: the change was shown and confirmed before.
    fn edited(&mut self, _file: &Path, _old: &str, _new: &str) {}

    fn proven(&mut self, outcome: &Outcome) {
        complain(&report::findings(&outcome.findings, log::is_coloured(&std::io::stderr())));
    }

    fn differs(&mut self, differences: &[Difference]) {
        // Changes of `[acme]` were shown with the file.
        let lines =
            differences.iter().map(|difference| &difference.line).filter(|line| !line.starts_with("~ acme."));
        self.notes.extend(lines.cloned());
    }

    fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }

    fn ask(&mut self, question: &str) -> Option<bool> {
        match self.confirmation {
            Confirmation::Asked(dialogue) => dialogue.confirm(question, false).ok(),
            Confirmation::Given | Confirmation::Impossible => None,
        }
    }
}

/// Makes the change.
///
/// # Errors
/// Nothing has changed then.
pub(super) fn put(change: &Change<'_>, confirmation: &mut Confirmation) -> Result<Written, Failure> {
    let edit = |found: Option<&str>| {
        let message = "the file was changed by another program meanwhile: nothing was written";
        let same = found == change.before;
        same.then(|| change.text.to_owned()).ok_or_else(|| Failure::new("edited-meanwhile", message))
    };
    let request = Request { file: change.file, edit: Some(&edit), dry_run: false, restart: change.restart };
    let mut listener = Listener { confirmation, notes: Vec::new() };
    let (_, state) = apply::run(&request, &mut listener);
    let target = change.file.with_extension("bundle");
    let said = match state? {
        State::Unchanged => format!("{} is up to date", word(&target)),
        State::Stored | State::Planned => format!("{} is written", word(&target)),
        State::Reloaded => format!("{} is written, and the edge uses it", word(&target)),
        State::Restarted => format!("{} is written, and a new process of the edge uses it", word(&target)),
    };
    let bundle = Bundle::open(&target).map_err(Failure::from)?;
    Ok(Written {
        said,
        notes: listener.notes,
        is_running: is_running(&bundle)?,
        https: bundle.listen.https.to_vec(),
        public_port: bundle.listen.public_https_port,
    })
}

fn is_running(bundle: &Bundle) -> Result<bool, Failure> {
    match client::ask(&admin_of(bundle), &STATUS, "application/json") {
        Err(AskError::Connect { error, .. }) if is_absent(&error) => Ok(false),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(true),
    }
}
