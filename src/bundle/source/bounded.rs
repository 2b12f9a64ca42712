//! Files of a bounded size.

use std::fmt;
use std::path::Path;

/// Why a file could not be read whole.
#[derive(Debug)]
pub enum FileTrouble {
    /// It does not exist.
    Missing,
    /// What it is instead of a regular file.
    NotRegular(&'static str),
    /// The error of the system.
    Unreadable(std::io::Error),
    /// It has no bytes.
    Empty,
    /// Its size in bytes.
    TooLarge(u64),
}

/// Reads a regular file of 1 to `bytes_max` bytes.
///
/// # Errors
/// [`FileTrouble`], also for an empty file.
pub fn read_bounded(path: &Path, bytes_max: u64) -> Result<Vec<u8>, FileTrouble> {
    use std::io::Read as _;
    let about = std::fs::metadata(path).map_err(FileTrouble::of)?;
    if !about.is_file() {
        return Err(FileTrouble::NotRegular(if about.is_dir() { "a folder" } else { "a pipe or a device" }));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(FileTrouble::of)?;
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(FileTrouble::of)?;
    match bytes.len() as u64 {
        0 => Err(FileTrouble::Empty),
        length if length > bytes_max => Err(FileTrouble::TooLarge(about.len())),
        _ => Ok(bytes),
    }
}

impl FileTrouble {
    fn of(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::NotFound => Self::Missing,
            _ => Self::Unreadable(error),
        }
    }
}

impl fmt::Display for FileTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("no such file"),
            Self::NotRegular(what) => f.write_str(what),
            Self::Unreadable(error) => write!(f, "cannot be read: {error}"),
            Self::Empty => f.write_str("an empty file"),
            Self::TooLarge(bytes) => write!(f, "{bytes} bytes"),
        }
    }
}
