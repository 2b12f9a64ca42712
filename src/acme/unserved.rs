//! Why the edge on this machine does not answer a challenge.

use std::io;
use std::path::Path;

use crate::bundle::file::word;
use crate::doctor::explain::Code;

/// Why the edge on this machine does not answer a challenge.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unserved {
    pub(super) code: Code,
    pub(super) found: String,
}

impl Unserved {
    pub(super) fn new(code: Code, found: String) -> Self {
        Self { code, found }
    }

    /// The folder cannot be written.
    pub(super) fn folder(folder: &Path, error: &io::Error) -> Self {
        let found = format!("no challenge can be written to {}: {error}", word(folder));
        Self::new(Code::AcmeChallengeFolder, found)
    }
}
