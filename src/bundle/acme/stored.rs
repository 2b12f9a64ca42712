//! The certificates that `sanedge renew` has stored. The reader, root during a deployment, does not trust the writer.

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use zeroize::Zeroizing;

/// Folder of the certificates in the state folder.
pub const FOLDER: &str = "certificates";
/// Largest file: a key and a chain of ten certificates.
pub const BYTES_MAX: u64 = 64 * 1024;

/// Why a stored certificate is not read.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    /// It could be another file's content.
    #[error(
        "it is {0}: expected a regular file of the folder's owner, mode 0600, with one name, of at most 64 KiB"
    )]
    Kind(&'static str),
    /// An error of the system.
    #[error("it cannot be read: {0}")]
    Io(io::Error),
}

/// The path of the certificate named `file`.
pub fn path(state: &Path, file: &str) -> PathBuf {
    state.join(FOLDER).join(format!("{file}.pem"))
}

/// Key and chain at `path` in the state folder `state`; `None` if nothing was obtained yet.
///
/// The owner of the state folder can replace anything in it at any time. The file is therefore checked after it is opened, and no link is
/// followed. It must belong to the owner of the folder, who therefore cannot pass off another user's file.
///
/// # Errors
/// If it is not such a file.
pub fn read(state: &Path, path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, StoredError> {
    let owner = match std::fs::symlink_metadata(state) {
        Ok(folder) if folder.is_dir() => folder.uid(),
        Ok(_) => return Err(StoredError::Kind("in a state folder that is none")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoredError::Io(error)),
    };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(rustix::io::Errno::LOOP) => return Err(StoredError::Kind("a symbolic link")),
        Err(error) => return Err(StoredError::Io(error.into())),
    };
    let found = file.metadata().map_err(StoredError::Io)?;
    if let Some(wrong) = wrong(&found, owner) {
        return Err(StoredError::Kind(wrong));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(BYTES_MAX).unwrap_or_default() + 1));
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(StoredError::Io)?;
    if bytes.len() as u64 > BYTES_MAX { Err(StoredError::Kind("too large")) } else { Ok(Some(bytes)) }
}

/// File of the state folder with the certificates that were revoked: their SHA-256 in hex, a line each.
pub const REVOKED: &str = "revoked";

/// The revoked certificates, which are never used again.
pub fn revoked(state: &Path) -> BTreeSet<[u8; 32]> {
    let bytes = read(state, &state.join(REVOKED)).ok().flatten().unwrap_or_default();
    let digest = |line: &[u8]| -> Option<[u8; 32]> {
        let text = std::str::from_utf8(line).ok()?;
        let bytes = (0..32).map(|at| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok());
        bytes.collect::<Option<Vec<u8>>>()?.try_into().ok()
    };
    bytes.split(|byte| *byte == b'\n').filter_map(digest).collect()
}

/// The mark that `renew` creates in the state folder after it has stored a certificate; a path unit waits for it.
pub const MARK: &str = "deploy";
/// The mark's name during a deployment: after a loss of power, the deployment runs again.
const TAKEN: &str = "deploying";

/// Renames the mark before the stored certificates are read: a certificate that is stored later creates a new mark.
pub fn take_mark(state: &Path) {
    // By names relative to the opened folder: its owner cannot redirect them.
    if let Some(folder) = folder(state) {
        let _ = rustix::fs::renameat(&folder, MARK, &folder, TAKEN);
    }
}

/// Whether a stored certificate waits for its deployment.
pub fn is_marked(state: &Path) -> bool {
    [MARK, TAKEN].iter().any(|name| std::fs::symlink_metadata(state.join(name)).is_ok())
}

/// Removes the mark after a deployment, also after a failed one.
pub fn drop_mark(state: &Path) {
    if let Some(folder) = folder(state) {
        let _ = rustix::fs::unlinkat(&folder, TAKEN, AtFlags::empty());
    }
}

fn folder(state: &Path) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(state, flags, Mode::empty()).ok()
}

fn wrong(found: &Metadata, owner: u32) -> Option<&'static str> {
    match () {
        () if !found.is_file() => Some("not a regular file"),
        () if found.uid() != owner => Some("a file of another user"),
        () if found.nlink() != 1 => Some("a file with several names"),
        () if found.mode() & 0o077 != 0 => Some("readable by others"),
        () if found.len() > BYTES_MAX => Some("too large"),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn a_mark_that_comes_while_one_is_taken_stays() {
        let state = tempfile::tempdir().unwrap();
        let names = || {
            let mut names: Vec<_> =
                std::fs::read_dir(state.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let mark = || std::fs::write(state.path().join(MARK), "").unwrap();
        take_mark(state.path());
        drop_mark(state.path());
        assert!(names().is_empty());
        mark();
        take_mark(state.path());
        assert_eq!(names(), [TAKEN]);
        mark();
        drop_mark(state.path());
        assert_eq!(names(), [MARK]);
        // A link in its place leads nowhere.
        let (other, link) = (tempfile::tempdir().unwrap(), state.path().join("link"));
        std::fs::write(other.path().join(TAKEN), "").unwrap();
        symlink(other.path(), &link).unwrap();
        drop_mark(&link);
        assert!(other.path().join(TAKEN).exists());
    }

    #[test]
    fn only_a_private_regular_file_of_bounded_size_is_read() {
        let state = tempfile::tempdir().unwrap();
        std::fs::create_dir(state.path().join(FOLDER)).unwrap();
        let at = |name: &str| path(state.path(), name);
        let write = |name: &str, bytes: &[u8], mode: u32| {
            std::fs::write(at(name), bytes).unwrap();
            std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let read = |name: &str| super::read(state.path(), &at(name));
        let refused = |name: &str| read(name).unwrap_err().to_string();
        let largest = vec![b'x'; BYTES_MAX as usize];
        write("good", &largest, 0o600);
        assert_eq!(read("good").unwrap().unwrap().to_vec(), largest);
        assert!(read("none").unwrap().is_none());
        write("large", &vec![b'x'; BYTES_MAX as usize + 1], 0o600);
        assert!(refused("large").contains("too large"));
        write("open", b"x", 0o640);
        assert!(refused("open").contains("readable by others"));
        symlink(at("good"), at("link")).unwrap();
        assert!(refused("link").contains("symbolic link"));
        std::fs::hard_link(at("good"), at("twice")).unwrap();
        assert!(refused("twice").contains("several names"));
        std::fs::create_dir(at("folder")).unwrap();
        assert!(refused("folder").contains("not a regular file"));
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(refused("pipe").contains("not a regular file"), "and it is not waited for");
        assert!(super::read(Path::new("/nonexistent"), &at("good")).unwrap().is_none());
        let linked = state.path().join("state");
        symlink(state.path(), &linked).unwrap();
        assert!(super::read(&linked, &at("good")).is_err(), "a state folder that is a link");
    }
}
