//! The file of `[acme.dns] credentials`: TOML with the keys of the provider. Its values are never shown.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use zeroize::Zeroizing;

use super::error::DnsError;
use crate::bundle::file::word;
use crate::toml_file::{self, Keys, Wrong};

/// Largest file.
const BYTES_MAX: u64 = 16 * 1024;
/// Mode bits of other users, none of which may be set.
const OTHERS: u32 = 0o007;

/// The content of a file for one provider.
pub(super) trait Checked: Sized {
    /// The keys that it needs, as an example.
    const EXAMPLE: &'static str;

    fn of(keys: &mut Keys<'_>) -> Result<Self, Wrong>;
}

/// Reads the file; returns its content and its path.
pub(super) fn read<T: Checked>(file: &Path) -> Result<(T, &Path), DnsError> {
    let wrong = |what: String| DnsError::Credentials(format!("{} {what}", word(file)));
    let text = text(file).map_err(wrong)?;
    toml_file::read(&text, T::of).map(|content| (content, file)).map_err(|error| {
        let line = toml_file::line(&text, error);
        wrong(format!("cannot be read at line {line}; expected {}", T::EXAMPLE))
    })
}

fn text(file: &Path) -> Result<Zeroizing<String>, String> {
    let opened = File::open(file).map_err(|error| format!("cannot be opened: {error}"))?;
    let found = opened.metadata().map_err(|error| format!("cannot be read: {error}"))?;
    if !found.is_file() || found.len() > BYTES_MAX {
        return Err(format!("is not a file of at most {BYTES_MAX} bytes"));
    }
    if found.mode() & OTHERS != 0 {
        return Err(format!("can be read by every user of this machine: type `chmod o= {}`", word(file)));
    }
    let mut text = Zeroizing::new(String::with_capacity(found.len() as usize));
    opened.take(BYTES_MAX).read_to_string(&mut text).map_err(|error| format!("cannot be read: {error}"))?;
    Ok(text)
}

/// The error for a value that cannot be used. The value is not shown.
pub(super) fn bad(file: &Path, key: &str, expected: &str) -> DnsError {
    DnsError::Credentials(format!("{}: `{key}` is not valid; expected {expected}", word(file)))
}
