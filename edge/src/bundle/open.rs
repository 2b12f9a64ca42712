//! From the path of a bundle to what it says.

use std::path::{Path, PathBuf};

use crate::bundle::Bundle;
use crate::bundle::file::{ReadError, read};
use crate::bundle::wire::FormatError;
use crate::excerpt::Excerpt;

/// Why a bundle cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file is not there, or not as safe as it has to be.
    #[error(transparent)]
    File(#[from] ReadError),
    /// The file is not a bundle that this program can use.
    #[error("bundle {} is {error}", Excerpt::of_path(.path))]
    Format {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: FormatError,
    },
}

impl Bundle {
    /// Opens the bundle file at `path`: looks at owner and mode first (see [`read`]), then as
    /// [`Bundle::decode`].
    ///
    /// # Errors
    /// Says in one sentence what was expected, what was found and what to do.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let bytes = read(path)?;
        Self::decode(bytes).map_err(|error| OpenError::Format { path: path.to_owned(), error })
    }
}
