//! Runs setup's connections and DNS queries in a process without root's rights: this program again as the user `sanedge`, without
//! supplementary groups, environment and capabilities, and unable to gain any.
//!
//! It reads the question from stdin and writes the result to stdout. Text from it is shown escaped.

use std::io::{self, Read as _};
use std::time::Duration;

use rustix::process::Signal;

use super::account::User;
use super::again;
use super::look::{Look, Question, look};
use super::programs;
use crate::bundle::compile::PEM_BYTES_MAX;

/// The hidden argument of the process.
pub(crate) const ARGUMENT: &str = "--look";
/// Longest question: a file of roots, its line ends escaped, and a few names.
const QUESTION_BYTES_MAX: u64 = 3 * PEM_BYTES_MAX;
/// Limit for one question, above the doctor's own limits.
const LOOK_TIME: Duration = Duration::from_secs(90);

/// Asks the question as `user`, or as the current user if none is given.
///
/// # Errors
/// Why there is no result.
pub(crate) fn ask(question: &Question, user: Option<User>) -> Result<Look, String> {
    let question = serde_json::to_vec(question).map_err(|error| error.to_string())?;
    let mut command = again::command(user);
    command.args(["setup", ARGUMENT]).env_clear();
    let said = programs::ended(&mut command, &question, LOOK_TIME).map_err(|error| error.to_string())?;
    let answer: Result<Look, String> =
        serde_json::from_slice(&said.stdout).map_err(|_| match said.complaint() {
            complaint if complaint.is_empty() => "it ended without a result".to_owned(),
            complaint => complaint,
        })?;
    answer
}

/// The other end: answers the question on stdin.
///
/// # Errors
/// The question cannot be read, or stdout is closed.
pub(crate) fn answer() -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    // Ctrl-C ends setup, which is in another session.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    again::leave_session()?;
    let mut question = Vec::new();
    io::stdin().lock().take(QUESTION_BYTES_MAX).read_to_end(&mut question)?;
    let found = look(&serde_json::from_slice(&question)?);
    io::Write::write_all(&mut io::stdout().lock(), &serde_json::to_vec(&found)?)
}
