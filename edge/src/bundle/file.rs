//! The bundle's file: who may own and read it, reading it safely, and replacing it in one step.
//!
//! Knows nothing of what the bytes mean.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use super::shell::shell_word;
use super::wire::{FILE_BYTES_MAX, MAGIC};
use crate::excerpt::Excerpt;

/// Bits that a bundle's mode may not have: read and write for others, write for the group.
const MODE_REFUSED: u32 = 0o026;
/// Mode of a new file without secrets.
const PUBLIC_MODE: u32 = 0o644;
/// Bits that we leave of the mode of a replaced file.
const MODE_KEPT: u32 = 0o640;
/// The user and the group of the service.
const SERVICE: &str = "sanedge";
/// Mode of a bundle that the service reads as a member of its group.
const SERVICE_MODE: u32 = 0o640;
/// Temporary names that are tried: more than one only where earlier runs were killed.
const TEMPORARY_TRIES: u32 = 16;

/// Why a bundle file is not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No such file.
    #[error("the bundle {0} does not exist: compile one with `sanedge bundle sanedge.toml -o {0}`", word(.path))]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Closed to this user, as it should be; or a folder that we may not enter.
    #[error(
        "bundle {0} cannot be read by uid {uid}, gid {gid}: run the command with sudo. Only if the edge runs as this user, type as root \
            `chown root:{gid} {0} && chmod 0640 {0}`",
        word(.path)
    )]
    Denied {
        /// The file.
        path: PathBuf,
        /// Our effective uid.
        uid: u32,
        /// Our effective gid.
        gid: u32,
    },
    /// Its mode would let us, the sandbox does not: its folder is another than the one at the start.
    #[error(
        "bundle {} is in a folder that this process cannot read, because the folder was replaced after its start: restart \
            it, under systemd with `systemctl restart sanedge`", word(.path)
    )]
    Outside {
        /// The file.
        path: PathBuf,
    },
    /// A directory, pipe, socket or device.
    #[error("bundle {} is {found}: expected a regular file, which `sanedge bundle` writes", word(.path))]
    Kind {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// Does not begin like a bundle: reported before its mode, which does not matter then.
    #[error(
        "{0} is not a bundle: give the file that `sanedge bundle` wrote; if this is a sanedge.toml, type `sanedge bundle \
            {0}` first",
        word(.path)
    )]
    NotABundle {
        /// The file.
        path: PathBuf,
    },
    /// Readable by others, or writable by others than its owner: it holds private keys.
    #[error(
        "bundle {0} has mode {found:04o}, and it contains private keys: expected no access for others and no write access \
            for the group; type `chmod {wanted:04o} {0}`",
        word(.path)
    )]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        found: u32,
        /// The mode to give it.
        wanted: u32,
    },
    /// Owned by neither root nor this user.
    #[error(
        "bundle {0} belongs to uid {found}: expected root{1} as its owner; type `chown root {0}`",
        word(.path), or_us(*.uid)
    )]
    Owner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        found: u32,
        /// Our effective uid.
        uid: u32,
    },
    /// Larger than any bundle.
    #[error("bundle {} has {found} bytes: expected at most {FILE_BYTES_MAX}", word(.path))]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        found: u64,
    },
    /// Anything else.
    #[error("bundle {} cannot be read: {error}", word(.path))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// Why a bundle file was not written. Nothing is left behind, and a file that was there is still as it was.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Where the file should be is something that it may not replace.
    #[error("{} is {found}: expected a regular file, or none", word(.path))]
    Kind {
        /// The path.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// A symbolic link. Following it would let whoever made it choose which file is replaced, replacing it would
    /// undo what it is for.
    #[error("{} is a symbolic link: give the file that it points to, {}", word(.path), word(.target))]
    Link {
        /// The link.
        path: PathBuf,
        /// Where it points.
        target: PathBuf,
    },
    /// Somebody wants it to stay as it is.
    #[error("{0} is read-only (mode {mode:04o}): expected a file that its owner may write; type `chmod u+w {0}`", word(.path))]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The service could replace what root writes.
    #[error(
        "the folder {0} of {1} belongs to the user {SERVICE}: expected a folder of root, because an attacker who takes over the \
            service could replace the bundle; type `chown root:{SERVICE} {0} && chmod 0751 {0}`",
        word(.folder), word(.path)
    )]
    Folder {
        /// The file.
        path: PathBuf,
        /// The folder, or one above it.
        folder: PathBuf,
    },
    /// Anything else.
    #[error("{} cannot be written ({step}): {error}", word(.path))]
    Io {
        /// The file.
        path: PathBuf,
        /// At which step.
        step: &'static str,
        /// What the system said.
        error: io::Error,
    },
}

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its mode.
    pub mode: u32,
    /// What to type before the service can read it, or what was changed: for people.
    pub note: Option<String>,
}

/// Reads a bundle file of at most [`FILE_BYTES_MAX`].
///
/// Looks at the file that it opened, not at the path again: it must be a regular file, owned by root or by our
/// effective user, not accessible to others and not writable for its group. A pipe is refused and not waited for.
///
/// # Errors
/// Has the `chmod` or `chown` to type.
pub fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let opened = OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path);
    let mut file = opened.map_err(|error| refused(path, error))?;
    let found = file.metadata().map_err(|error| io_error(path, error))?;
    if let Err(error) = check(path, &found, rustix::process::geteuid().as_raw()) {
        let guarded = matches!(error, ReadError::Mode { .. } | ReadError::Owner { .. });
        let stranger = guarded && is_no_bundle(&mut file);
        return Err(if stranger { ReadError::NotABundle { path: path.to_owned() } } else { error });
    }
    contents(&mut file, found.len()).map_err(|error| io_error(path, error))
}

fn refused(path: &Path, error: io::Error) -> ReadError {
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound => ReadError::Missing { path },
        // Landlock refuses to open, and has no say in what access(2) looks at.
        io::ErrorKind::PermissionDenied if rustix::fs::access(&path, rustix::fs::Access::READ_OK).is_ok() => {
            ReadError::Outside { path }
        }
        io::ErrorKind::PermissionDenied => ReadError::Denied {
            path,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        },
        // A Unix socket cannot be opened at all.
        _ if rustix::io::Errno::from_io_error(&error) == Some(rustix::io::Errno::NXIO) => {
            ReadError::Kind { path, found: "a socket or device" }
        }
        _ => ReadError::Io { path, error },
    }
}

fn io_error(path: &Path, error: io::Error) -> ReadError {
    ReadError::Io { path: path.to_owned(), error }
}

/// Whether a file like this may be read as a bundle by `uid`.
fn check(path: &Path, file: &Metadata, uid: u32) -> Result<(), ReadError> {
    let path = path.to_owned();
    if !file.is_file() {
        return Err(ReadError::Kind { path, found: kind(file) });
    }
    if file.uid() != 0 && file.uid() != uid {
        return Err(ReadError::Owner { path, found: file.uid(), uid });
    }
    let found = file.mode() & 0o7777;
    if found & MODE_REFUSED != 0 {
        return Err(ReadError::Mode { path, found, wanted: found & MODE_KEPT | 0o400 });
    }
    if file.len() > FILE_BYTES_MAX as u64 {
        return Err(ReadError::TooLarge { path, found: file.len() });
    }
    Ok(())
}

/// Whether the file plainly is something else. An empty one, or one that is cut off, may have been a bundle.
fn is_no_bundle(file: &mut File) -> bool {
    let mut begin = Vec::new();
    let read = file.take(MAGIC.len() as u64).read_to_end(&mut begin);
    read.is_ok() && !MAGIC.starts_with(&begin)
}

/// The buffer has its final size from the start: one that grows leaves copies of keys. A file that grows or shrinks
/// meanwhile gives other bytes than its header promises, and is refused there.
fn contents(file: &mut File, size: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let size = usize::try_from(size).unwrap_or(FILE_BYTES_MAX).min(FILE_BYTES_MAX);
    let mut bytes = Zeroizing::new(vec![0; size]);
    let mut filled = 0;
    while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
        match file.read(room) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn kind(file: &Metadata) -> &'static str {
    let kind = file.file_type();
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

/// Writes `bytes` to `path` in one step: readers see the old file or the new one, also after a loss of power.
///
/// The bytes go to a temporary file in the same folder, which is created new with mode 0600, gets owner, group and mode
/// of the file that it replaces (less what [`read`] would refuse), is flushed to the disk and renamed. Where we may not
/// give it that owner and group it keeps mode 0600, and the note has the command to type. A new file has mode 0600, or 0640 and
/// the folder's group where root writes it and that group is the service's. A symbolic link is refused, and so is, for root, a folder
/// of the service's user.
///
/// # Errors
/// Nothing has changed then, but for [`WriteError::Io`] at the step "flushing the folder": the new file is in place.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<Written, WriteError> {
    guarded(path)?;
    let before = replaced(path)?;
    in_one_step(path, bytes, |file| adopt(file, path, before.as_ref()))
}

/// The same for a file that holds no secret: readable by all.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_public(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    replaced(path)?;
    in_one_step(path, bytes, |file| file.set_permissions(fs::Permissions::from_mode(PUBLIC_MODE)))
}

/// The same for a key that nobody but the writing user reads: mode 0600, whatever it replaces.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    guarded(path)?;
    replaced(path)?;
    in_one_step(path, bytes, |_| Ok(()))
}

/// The same for a file that people edit: it keeps owner, group and mode exactly, or has mode 0644 where it is new.
///
/// # Errors
/// As [`write_atomic`]; also where this user cannot give it to its owner.
pub fn write_text(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let before = replaced(path)?;
    in_one_step(path, bytes, |file| {
        let (new, mode) = (file.metadata()?, before.as_ref().map_or(PUBLIC_MODE, |old| old.mode() & 0o7777));
        // First: the mode of another user's file takes a capability that units do not have.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        if let Some(old) = &before {
            let uid = (old.uid() != new.uid()).then_some(old.uid());
            let gid = (old.gid() != new.gid()).then_some(old.gid());
            std::os::unix::fs::fchown(file, uid, gid)?;
        }
        Ok(())
    })
}

/// Whether [`write_text`] may replace the file at `path`: no link, and not read-only.
///
/// # Errors
/// Where not.
pub fn editable(path: &Path) -> Result<(), WriteError> {
    match replaced(path)? {
        Some(file) if file.mode() & 0o222 == 0 => {
            Err(WriteError::ReadOnly { path: path.to_owned(), mode: file.mode() & 0o7777 })
        }
        _ => Ok(()),
    }
}

/// A temporary file beside `path` gets the bytes, then what `prepare` gives it, and takes the place of `path`.
fn in_one_step<T>(
    path: &Path,
    bytes: &[u8],
    prepare: impl FnOnce(&File) -> io::Result<T>,
) -> Result<T, WriteError> {
    let step = |step| move |error| WriteError::Io { path: path.to_owned(), step, error };
    let folder = folder_of(path);
    let (mut file, temporary) = create(folder).map_err(step("creating a temporary file beside it"))?;
    file.write_all(bytes).map_err(step("writing"))?;
    let prepared = prepare(&file).map_err(step("setting its mode"))?;
    file.sync_all().map_err(step("flushing"))?;
    temporary.rename(path).map_err(step("renaming"))?;
    sync(folder).map_err(step("flushing the folder"))?;
    Ok(prepared)
}

/// The folder that a file is in.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes what was renamed or removed in a folder last.
pub fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Whether root may keep keys at `path`: the user of the service, which an attacker may take over, owns no folder on the way.
///
/// # Errors
/// With the folder.
pub fn guarded(path: &Path) -> Result<(), WriteError> {
    let service = id_of(PASSWD, SERVICE).filter(|_| rustix::process::geteuid().is_root());
    let (Some(service), Ok(folder)) = (service, fs::canonicalize(folder_of(path))) else { return Ok(()) };
    let is_owned = |folder: &&Path| fs::metadata(folder).is_ok_and(|about| about.uid() == service);
    match folder.ancestors().find(is_owned) {
        Some(folder) => Err(WriteError::Folder { path: path.to_owned(), folder: folder.to_owned() }),
        None => Ok(()),
    }
}

/// The system's users and groups.
const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// The number of a user or group.
fn id_of(table: &str, name: &str) -> Option<u32> {
    let text = fs::read_to_string(table).ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

/// The file that is there now, if it is one that we may replace.
fn replaced(path: &Path) -> Result<Option<Metadata>, WriteError> {
    let owned = || path.to_owned();
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => Ok(Some(found)),
        Ok(found) if found.is_symlink() => {
            let target = fs::canonicalize(path).or_else(|_| fs::read_link(path)).unwrap_or_default();
            Err(WriteError::Link { path: owned(), target })
        }
        Ok(found) => Err(WriteError::Kind { path: owned(), found: kind(&found) }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(WriteError::Io { path: owned(), step: "looking at it", error }),
    }
}

/// A temporary file, removed when dropped unless it was renamed.
struct Temporary(Option<PathBuf>);

impl Temporary {
    fn rename(mut self, to: &Path) -> io::Result<()> {
        if let Some(from) = &self.0 {
            fs::rename(from, to)?;
        }
        self.0 = None;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // There is nobody left to tell; the error that brought us here is the one to see.
            let _ = fs::remove_file(path);
        }
    }
}

fn create(folder: &Path) -> io::Result<(File, Temporary)> {
    let mut last = io::Error::other("no name was tried");
    for attempt in 0..TEMPORARY_TRIES {
        let temporary = folder.join(format!(".sanedge.{}.{attempt}.tmp", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary) {
            Ok(file) => return Ok((file, Temporary(Some(temporary)))),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// The process that makes or made a temporary file of this name.
pub fn process_of_temporary(name: &str) -> Option<u32> {
    let (process, attempt) = name.strip_prefix(".sanedge.")?.strip_suffix(".tmp")?.split_once('.')?;
    attempt.parse::<u32>().ok()?;
    process.parse().ok()
}

/// Removes temporary files of processes that are gone: they hold keys.
pub fn remove_leftovers(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(process_of_temporary);
        if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Gives the new file owner, group and mode of the one that it replaces.
fn adopt(file: &File, path: &Path, replaced: Option<&Metadata>) -> io::Result<Written> {
    let word = word(path);
    let Some(old) = replaced else {
        if let Some(group) = service_group(path) {
            std::os::unix::fs::fchown(file, None, Some(group))?;
            file.set_permissions(fs::Permissions::from_mode(SERVICE_MODE))?;
            return Ok(Written { mode: SERVICE_MODE, note: None });
        }
        let note = format!(
            "{word} is new and readable only by its owner; for a service with its own user, type: \
             `chown root:sanedge {word} && chmod 0640 {word}`"
        );
        return Ok(Written { mode: 0o600, note: Some(note) });
    };
    let mode = old.mode() & MODE_KEPT | 0o600;
    let new = file.metadata()?;
    let uid = (old.uid() != new.uid()).then_some(old.uid());
    let gid = (old.gid() != new.gid()).then_some(old.gid());
    if (uid, gid) != (None, None) {
        match std::os::unix::fs::fchown(file, uid, gid) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let (uid, gid) = (old.uid(), old.gid());
                let note = format!(
                    "{word} belonged to {uid}:{gid}, which only root can restore; type \
                     `chown {uid}:{gid} {word} && chmod {mode:04o} {word}`"
                );
                return Ok(Written { mode: 0o600, note: Some(note) });
            }
            Err(error) => return Err(error),
        }
    }
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    let before = old.mode() & 0o777;
    let note = (before & MODE_REFUSED != 0).then(|| {
        format!("{word} had mode {before:04o}, which `sanedge serve` refuses; it has {mode:04o} now")
    });
    Ok(Written { mode, note })
}

/// The service's group, where the folder has it and root writes: any other owner's bundle is refused by the service.
fn service_group(path: &Path) -> Option<u32> {
    let group = id_of(GROUP, SERVICE).filter(|_| rustix::process::geteuid().is_root())?;
    fs::metadata(folder_of(path)).is_ok_and(|folder| folder.gid() == group).then_some(group)
}

/// A path as a shell takes it, and no command takes for an option.
pub fn word(path: &Path) -> String {
    operand(&Excerpt::of_path(path))
}

/// The same for a path that does not exist and was made of `original`: a command is to write it.
pub fn word_beside(path: &Path, original: &Path) -> String {
    operand(&Excerpt::of_derived(path, original))
}

fn operand(text: &str) -> String {
    let here = if text.starts_with('-') { "./" } else { "" };
    shell_word(&format!("{here}{text}"))
}

fn or_us(uid: u32) -> String {
    if uid == 0 { String::new() } else { format!(" or uid {uid}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_file_is_private_and_goes_away_unless_renamed() {
        let folder = tempfile::tempdir().unwrap();
        let (file, temporary) = create(folder.path()).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
        let path = temporary.0.clone().unwrap();
        assert!(path.exists());
        drop(temporary);
        assert!(!path.exists());
        let (_file, temporary) = create(folder.path()).unwrap();
        // Renaming onto a folder fails; nothing may be left.
        assert!(temporary.rename(folder.path()).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_command_to_type_is_quoted_for_a_shell() {
        let quoted = [
            ("/etc/sanedge/sanedge.bundle", "/etc/sanedge/sanedge.bundle"),
            ("/tmp/a b", "'/tmp/a b'"),
            ("it's", r"'it'\''s'"),
            ("-rf", "./-rf"),
            ("$(x)", "'$(x)'"),
            ("", "''"),
        ];
        for (path, wanted) in quoted {
            assert_eq!(word(Path::new(path)), wanted);
        }
    }
}
