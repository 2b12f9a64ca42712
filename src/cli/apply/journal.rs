//! Several files that change together: all of them, or none, also if the process is killed.
//!
//! Before the first file is written, the old contents are saved to a folder beside them ([`ACTIVE`]). While this folder exists, a change is
//! in progress; the next command that holds the lock completes or undoes it. A file is restored only if it still has the contents that the
//! change wrote, so an edit by the user is never undone.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::bundle::file::{self, WriteError, sync, word};
use crate::bundle::report::hex;
use crate::bundle::source::read_bounded;
use crate::bundle::wire::{FILE_BYTES_MAX, sha256};
use crate::cli::failure::Failure;

/// The folder of a change in progress, and its name before and after.
const ACTIVE: &str = ".sanedge-apply";
const INACTIVE: &str = ".sanedge-apply.tmp";
/// The list of its files, and the limit of its size.
const LIST: &str = "files.json";
const LIST_BYTES_MAX: u64 = 4096;
const VERSION: u32 = 1;

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// sanedge.toml: its owner, group and mode stay.
    Text,
    /// `x.acme`: readable by all.
    Public,
    /// The bundle, with keys.
    Bundle,
}

/// The contents of a file; `None`: it does not exist.
pub(super) type Contents = Option<Zeroizing<Vec<u8>>>;

/// One file that changes.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    /// The old contents.
    pub(super) old: Contents,
    /// The new contents.
    pub(super) new: Contents,
}

#[derive(Serialize, Deserialize)]
struct List {
    version: u32,
    files: Vec<Entry>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Entry {
    /// File name, in the folder that contains the journal.
    name: String,
    kind: Kind,
    /// SHA-256 of the contents, in hex; `None`: no file.
    old: Option<String>,
    new: Option<String>,
}

/// A change in progress.
pub(super) struct Journal {
    folder: PathBuf,
    files: Vec<Entry>,
}

/// An interrupted change.
pub(super) struct Interrupted(Journal);

impl Journal {
    /// Saves the old contents of `changes`, which are one or more files of one folder.
    pub(super) fn begin(folder: &Path, changes: &[Change]) -> Result<Self, Failure> {
        let temporary = folder.join(INACTIVE);
        let begun = || -> io::Result<Self> {
            remove(&temporary)?;
            DirBuilder::new().mode(0o700).create(&temporary)?;
            let mut files = Vec::new();
            for (at, change) in changes.iter().enumerate() {
                files.push(entry(change)?);
                if let Some(old) = &change.old {
                    keep(&temporary.join(at.to_string()), old)?;
                }
            }
            let list = serde_json::to_vec(&List { version: VERSION, files: files.clone() })?;
            keep(&temporary.join(LIST), &list)?;
            sync(&temporary)?;
            fs::rename(&temporary, folder.join(ACTIVE))?;
            sync(folder)?;
            Ok(Self { folder: folder.to_owned(), files })
        };
        begun().map_err(|error| {
            let _ = remove(&temporary);
            let folder = word(folder);
            Failure::new("not-written", format!("the old files cannot be kept in {folder}: {error}"))
        })
    }

    /// Writes the new contents. After a failure, the caller must roll back.
    pub(super) fn write(changes: &[Change]) -> Result<Vec<String>, Failure> {
        let mut notes = Vec::new();
        for change in changes {
            notes.extend(put(&change.path, change.kind, change.new.as_deref().map(Vec::as_slice))?);
        }
        Ok(notes)
    }

    /// Ends the change: the new files stay.
    pub(super) fn end(self) -> Result<(), Failure> {
        let (active, temporary) = (self.folder.join(ACTIVE), self.folder.join(INACTIVE));
        let ended = || -> io::Result<()> {
            fs::rename(&active, &temporary)?;
            sync(&self.folder)?;
            remove(&temporary)
        };
        ended().map_err(|error| {
            Failure::new("not-written", format!("{} cannot be removed: {error}", word(&active)))
        })
    }

    /// Restores the old files, last file first. Returns those that another program has changed meanwhile, which are not restored.
    pub(super) fn roll_back(self) -> Result<Vec<PathBuf>, Failure> {
        let mut others = Vec::new();
        for (at, entry) in self.files.iter().enumerate().rev() {
            let path = self.folder.join(&entry.name);
            let found = contents(&path)?.map(|bytes| hex(&sha256(&bytes)));
            if found == entry.old {
                continue;
            }
            if found != entry.new {
                others.push(path);
                continue;
            }
            let kept = self.folder.join(ACTIVE).join(at.to_string());
            let old = entry.old.as_ref().map(|_| contents(&kept)).transpose()?.flatten();
            if old.as_ref().map(|bytes| hex(&sha256(bytes))) != entry.old {
                return Err(Failure::new("not-written", format!("{} is damaged", word(&kept))));
            }
            put(&path, entry.kind, old.as_deref().map(Vec::as_slice))?;
        }
        self.end()?;
        Ok(others)
    }
}

impl Interrupted {
    /// Finds a change in `folder` that an earlier command neither ended nor rolled back. Also removes files of commands that were
    /// killed before they changed anything. The caller holds the lock.
    pub(super) fn find(folder: &Path) -> Result<Option<Self>, Failure> {
        let active = folder.join(ACTIVE);
        let _ = remove(&folder.join(INACTIVE));
        file::remove_leftovers(folder);
        let unusable = |what: String| {
            Failure::new(
                "not-written",
                format!(
                    "{} {what}. It is the folder for the files from before an interrupted change: check the file with `sudo sanedge apply --dry-run`, then remove the folder",
                    word(&active)
                ),
            )
        };
        match fs::symlink_metadata(&active) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unusable(error.to_string())),
            Ok(found) if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() => {
                return Err(unusable("is not a folder of this user".to_owned()));
            }
            Ok(_) => {}
        }
        let list =
            read_bounded(&active.join(LIST), LIST_BYTES_MAX).map_err(|error| unusable(error.to_string()))?;
        let list: List = serde_json::from_slice(&list).map_err(|_| unusable("is damaged".to_owned()))?;
        let is_name = |entry: &Entry| Path::new(&entry.name).file_name() == Some(entry.name.as_ref());
        if list.version != VERSION || !list.files.iter().all(is_name) {
            return Err(unusable("is of another version".to_owned()));
        }
        Ok(Some(Self(Journal { folder: folder.to_owned(), files: list.files })))
    }

    /// The path of the bundle, if it still has the contents that the change wrote.
    pub(super) fn new_bundle(&self) -> Option<PathBuf> {
        let entry = self.0.files.iter().find(|entry| entry.kind == Kind::Bundle)?;
        let path = self.0.folder.join(&entry.name);
        let found = contents(&path).ok()?.map(|bytes| hex(&sha256(&bytes)));
        (found.is_some() && found == entry.new).then_some(path)
    }

    /// Completes it if it `holds`, and otherwise rolls it back.
    pub(super) fn settle(self, holds: bool) -> Result<Vec<PathBuf>, Failure> {
        if holds { self.0.end().map(|()| Vec::new()) } else { self.0.roll_back() }
    }
}

/// Whether an earlier command has left something in `folder`, or another is at work there.
pub(super) fn is_left(folder: &Path) -> bool {
    [ACTIVE, INACTIVE].iter().any(|name| fs::symlink_metadata(folder.join(name)).is_ok())
}

fn entry(change: &Change) -> io::Result<Entry> {
    let digest = |bytes: &Contents| bytes.as_ref().map(|bytes| hex(&sha256(bytes)));
    let name = change.path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| io::Error::other("its name is not UTF-8"))?.to_owned();
    Ok(Entry { name, kind: change.kind, old: digest(&change.old), new: digest(&change.new) })
}

/// Writes a file of the journal.
fn keep(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Reads a file; `None` if it does not exist.
pub(super) fn contents(path: &Path) -> Result<Contents, Failure> {
    use io::Read as _;
    let unreadable =
        |error: io::Error| Failure::new("not-written", format!("{} cannot be read: {error}", word(path)));
    // Opening a fifo must not block while the lock is held.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(unreadable(io::Error::other("it is not a regular file")));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(Some(bytes))
}

/// Writes the contents of a file, or removes it.
fn put(path: &Path, kind: Kind, bytes: Option<&[u8]>) -> Result<Option<String>, Failure> {
    let written = match (kind, bytes) {
        (_, None) => fs::remove_file(path)
            .and_then(|()| sync(file::folder_of(path)))
            .map(|()| None)
            .map_err(|error| WriteError::Io { path: path.to_owned(), step: "removing", error }),
        (Kind::Text, Some(bytes)) => file::write_text(path, bytes).map(|()| None),
        (Kind::Public, Some(bytes)) => file::write_public(path, bytes).map(|()| None),
        (Kind::Bundle, Some(bytes)) => file::write_atomic(path, bytes).map(|written| written.note),
    };
    written.map_err(|error| Failure::new("not-written", error.to_string()))
}

/// Removes a folder and its files.
fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
