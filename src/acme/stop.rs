//! Why a command ended before it tried anything, and what each command needs at its start.

use super::state::StateError;

/// Why a command ended before it tried anything.
#[derive(Debug)]
pub struct Stop {
    /// Stable code.
    pub code: &'static str,
    /// What was expected, what was found, what to do.
    pub message: String,
    /// It may be possible later, without a change by the user.
    pub not_now: bool,
}

impl Stop {
    pub(super) fn new(code: &'static str, message: String) -> Self {
        Self { code, message, not_now: false }
    }

    pub(super) fn not_now(code: &'static str, message: String) -> Self {
        Self { not_now: true, ..Self::new(code, message) }
    }
}

impl From<StateError> for Stop {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Busy(_) => Self::not_now("acme-busy", error.to_string()),
            StateError::Full(_) => {
                Self::not_now("acme-disk-full", format!("{error}: nothing was sent to the CA"))
            }
            _ => Self::new("acme-state", error.to_string()),
        }
    }
}

/// The runtime of one command.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Stop> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Stop::new("acme-runtime", error.to_string()))
}

/// A name as sanedge.toml has it.
pub(super) fn normal(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}
