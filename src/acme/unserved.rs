//! Why the edge on this machine would not show the CA what proves a name.

use std::io;
use std::path::Path;

use crate::bundle::file::word;
use crate::doctor::explain::Code;

/// Why the edge on this machine would not show the CA what proves a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unserved {
    pub(super) code: Code,
    pub(super) found: String,
}

impl Unserved {
    pub(super) fn new(code: Code, found: String) -> Self {
        Self { code, found }
    }

    /// The folder, where nothing can be written.
    pub(super) fn folder(folder: &Path, error: &io::Error) -> Self {
        let found = format!("no challenge can be written to {}: {error}", word(folder));
        Self::new(Code::AcmeChallengeFolder, found)
    }
}
