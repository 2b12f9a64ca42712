//! The state folder: account, records, open orders and certificates. Mode 0700, files 0600, each replaced atomically.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use rustix::fs::{FlockOperation, Mode, OFlags};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::certificate::Held;
use super::policy::{Record, Told};
use crate::bundle::acme::{file_name, stored};
use crate::excerpt::Excerpt;

/// Largest file of the folder.
const BYTES_MAX: u64 = 64 * 1024;
/// Files of a folder that are checked.
const FILES_MAX: usize = 4_096;
/// Twice what a run may write at most; the keys, chains and records of one certificate need a fourth of it.
const FREE_BYTES_MIN: u64 = 512 * 1024;
const FOLDERS: [&str; 4] = ["accounts", "records", "orders", stored::FOLDER];

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum StateError {
    #[error("{0} is {1}: expected a folder of this user with mode 0700; type `chmod 0700 {0}`, or remove it")]
    Folder(String, &'static str),
    #[error("{0}: {1}")]
    Io(String, io::Error),
    #[error(
        "another `sanedge renew` is running in {0}; between two attempts it waits for up to ten minutes, and Ctrl-C there does no harm"
    )]
    Busy(String),
    #[error("no space on the disk of {0}")]
    Full(String),
}

/// An account at a CA. The key is stored before it is sent.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Account {
    pub(super) directory: String,
    /// PKCS #8, in base64.
    pub(super) key: Zeroizing<String>,
    /// The next key, from before it is sent until the CA has accepted it.
    #[serde(default)]
    pub(super) next_key: Option<Zeroizing<String>>,
    /// The CA's names in CAA records.
    #[serde(default)]
    pub(super) caa: Vec<String>,
    /// Its URL, once the CA has given it.
    pub(super) id: Option<String>,
    /// The contact that the CA has.
    pub(super) contact: Option<String>,
    /// The action that the CA requires of the user; nothing is ordered until the user runs `--now`.
    #[serde(default)]
    pub(super) wants_user: Option<Told>,
    /// The CA accepts no request of this account before then.
    pub(super) blocked_until: i64,
}

/// An order that may be interrupted, with the key of its certificate.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct OpenOrder {
    pub(super) directory: String,
    pub(super) url: String,
    pub(super) names: Vec<String>,
    /// PKCS #8, as PEM.
    pub(super) key: Zeroizing<String>,
    /// The tokens that were written for it, which a killed run leaves.
    pub(super) tokens: Vec<String>,
    /// Likewise the TXT records.
    pub(super) records: Vec<TxtRecord>,
}

/// A TXT record of dns-01 that must be removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TxtRecord {
    /// Its name, after all CNAMEs, without the last dot.
    pub(super) name: String,
    /// The digest of the key authorization.
    pub(super) value: String,
}

/// The folder, locked by this process.
pub(super) struct State {
    folder: PathBuf,
    _lock: OwnedFd,
}

impl State {
    /// Opens the folder, and creates it if its parent exists.
    pub(super) fn open(folder: &Path) -> Result<Self, StateError> {
        private(folder)?;
        for name in FOLDERS {
            private(&folder.join(name))?;
        }
        let lock = folder.join("lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened =
            rustix::fs::open(&lock, flags, Mode::RUSR | Mode::WUSR).map_err(|e| io_error(&lock, e.into()))?;
        match rustix::fs::flock(&opened, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(StateError::Busy(shown(folder))),
            Err(error) => return Err(io_error(&lock, error.into())),
        }
        Ok(Self { folder: folder.to_owned(), _lock: opened })
    }

    /// Whether there is space for what a run writes: an order whose certificate cannot be stored would be wasted.
    pub(super) fn has_room(&self) -> Result<(), StateError> {
        let found = rustix::fs::statvfs(&self.folder).map_err(|e| io_error(&self.folder, e.into()))?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        if free < FREE_BYTES_MIN { Err(StateError::Full(shown(&self.folder))) } else { Ok(()) }
    }

    /// The newest moment in the record of each name, and the notBefore of its certificate, each with its file.
    pub(super) fn newest(&self, names: &[String]) -> Vec<(String, i64)> {
        let of = |name: &String| {
            let record = self.record(name).newest();
            let certificate = self.certificate(name).and_then(|pem| Held::of(&pem));
            let at = [
                (self.path("records", name, "json"), record),
                (self.certificate_path(name), certificate.map(|held| held.lifetime.not_before)),
            ];
            at.map(|(path, at)| Some((shown(&path), at?)))
        };
        names.iter().flat_map(of).flatten().collect()
    }

    pub(super) fn record(&self, name: &str) -> Record {
        self.read(&self.path("records", name, "json")).unwrap_or_default()
    }

    pub(super) fn keep_record(&self, name: &str, record: &Record) -> Result<(), StateError> {
        let path = self.path("records", name, "json");
        // An unchanged record is not written to the card again.
        if self.read::<Record>(&path).as_ref() == Some(record) { Ok(()) } else { self.write(&path, record) }
    }

    pub(super) fn order(&self, name: &str) -> Option<OpenOrder> {
        self.read(&self.path("orders", name, "json"))
    }

    pub(super) fn keep_order(&self, name: &str, order: &OpenOrder) -> Result<(), StateError> {
        self.write(&self.path("orders", name, "json"), order)
    }

    pub(super) fn drop_order(&self, name: &str) {
        let _ = fs::remove_file(self.path("orders", name, "json"));
    }

    pub(super) fn account(&self, directory: &str) -> Option<Account> {
        kept_account(&self.folder, directory)
    }

    pub(super) fn keep_account(&self, account: &Account) -> Result<(), StateError> {
        self.write(&account_path(&self.folder, &account.directory), account)
    }

    /// Adds a certificate to the list of those that are never used again.
    pub(super) fn remember_revoked(&self, der: &[u8]) -> Result<(), StateError> {
        let mut all = stored::revoked(&self.folder);
        all.insert(crate::bundle::wire::sha256(der));
        self.keep_revoked(&all)
    }

    /// Removes it from that list, because the CA has not revoked it.
    pub(super) fn forget_revoked(&self, der: &[u8]) -> Result<(), StateError> {
        let mut all = stored::revoked(&self.folder);
        all.remove(&crate::bundle::wire::sha256(der));
        self.keep_revoked(&all)
    }

    fn keep_revoked(&self, all: &BTreeSet<[u8; 32]>) -> Result<(), StateError> {
        let lines: String = all.iter().map(|digest| crate::bundle::report::hex(digest) + "\n").collect();
        replace(&self.folder.join(stored::REVOKED), lines.as_bytes())
    }

    /// Removes a certificate with its key, record and order.
    pub(super) fn drop_certificate(&self, name: &str) {
        let _ = fs::remove_file(self.certificate_path(name));
        let _ = fs::remove_file(self.path("records", name, "json"));
        self.drop_order(name);
    }

    /// Renames damaged files, and returns a sentence about each.
    pub(super) fn damaged(&self) -> Vec<String> {
        let of = |folder: &str, is_good: fn(&[u8]) -> bool| {
            let files =
                fs::read_dir(self.folder.join(folder)).into_iter().flatten().flatten().take(FILES_MAX);
            let files = files.map(|entry| entry.path()).filter(|path| {
                path.extension().is_some_and(|extension| extension == "json" || extension == "pem")
            });
            files.filter_map(move |path| self.put_aside(&path, is_good)).collect::<Vec<_>>()
        };
        [
            of("accounts", |bytes| serde_json::from_slice::<Account>(bytes).is_ok()),
            of("records", |bytes| serde_json::from_slice::<Record>(bytes).is_ok()),
            of("orders", |bytes| serde_json::from_slice::<OpenOrder>(bytes).is_ok()),
            of(stored::FOLDER, |bytes| Held::of(bytes).is_some()),
        ]
        .concat()
    }

    fn put_aside(&self, path: &Path, is_good: fn(&[u8]) -> bool) -> Option<String> {
        let wrong = match stored::read(&self.folder, path) {
            Ok(Some(bytes)) if is_good(&bytes) => return None,
            Ok(None) => return None,
            Ok(Some(_)) => "it is damaged".to_owned(),
            Err(error) => error.to_string(),
        };
        let aside = path.with_added_extension("damaged");
        let moved = fs::rename(path, &aside).is_ok();
        let place = if moved { format!("; it is now {}", shown(&aside)) } else { String::new() };
        Some(format!("{}: {wrong}, and is treated as missing{place}", shown(path)))
    }

    /// The certificate with its key, as it is stored.
    pub(super) fn certificate(&self, name: &str) -> Option<Zeroizing<Vec<u8>>> {
        stored::read(&self.folder, &self.certificate_path(name)).ok().flatten()
    }

    pub(super) fn keep_certificate(&self, name: &str, pem: &[u8]) -> Result<(), StateError> {
        replace(&self.certificate_path(name), pem)
    }

    /// Requests a deployment.
    pub(super) fn mark(&self) -> Result<(), StateError> {
        mark(&self.folder)
    }

    fn certificate_path(&self, name: &str) -> PathBuf {
        self.path(stored::FOLDER, name, "pem")
    }

    fn path(&self, folder: &str, name: &str, extension: &str) -> PathBuf {
        let file = file_name(name).unwrap_or_else(|| "_".to_owned());
        self.folder.join(folder).join(format!("{file}.{extension}"))
    }

    /// Reads a file. A damaged one is treated as missing; [`State::damaged`] reports it.
    fn read<T: DeserializeOwned>(&self, path: &Path) -> Option<T> {
        read(&self.folder, path)
    }

    #[allow(clippy::unused_self)]
    fn write(&self, path: &Path, content: &impl Serialize) -> Result<(), StateError> {
        let bytes = Zeroizing::new(serde_json::to_vec(content).unwrap_or_default());
        debug_assert!(bytes.len() as u64 <= BYTES_MAX);
        replace(path, &bytes)
    }
}

fn read<T: DeserializeOwned>(folder: &Path, path: &Path) -> Option<T> {
    serde_json::from_slice(&stored::read(folder, path).ok()??).ok()
}

/// The stored account, read without the lock: another process may be using the folder.
pub(super) fn kept_account(folder: &Path, directory: &str) -> Option<Account> {
    read(folder, &account_path(folder, directory)).filter(|account: &Account| account.directory == directory)
}

fn account_path(folder: &Path, directory: &str) -> PathBuf {
    let hash = digest(&SHA256, directory.as_bytes());
    let hex: String = hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    folder.join("accounts").join(format!("{hex}.json"))
}

/// See [`State::mark`].
pub(super) fn mark(folder: &Path) -> Result<(), StateError> {
    replace(&folder.join(stored::MARK), b"")
}

fn shown(path: &Path) -> String {
    crate::bundle::file::word(path)
}

fn io_error(path: &Path, error: io::Error) -> StateError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StateError::Full(shown(path)),
        _ => StateError::Io(shown(path), error),
    }
}

/// Creates a folder for this user only, or checks that it is one.
fn private(folder: &Path) -> Result<(), StateError> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(io_error(folder, error)),
    }
    let found = fs::symlink_metadata(folder).map_err(|error| io_error(folder, error))?;
    let wrong = match () {
        () if !found.is_dir() => "not a folder",
        () if found.uid() != rustix::process::geteuid().as_raw() => "a folder of another user",
        () if found.mode() & 0o077 != 0 => "open to other users",
        () => return Ok(()),
    };
    Err(StateError::Folder(shown(folder), wrong))
}

/// Writes a file in one step: after a loss of power the old one is there, or the new one.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    let temporary = path.with_extension("new");
    let written = || -> io::Result<()> {
        let _ = fs::remove_file(&temporary); // of a run that was killed
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    written().map_err(|error| {
        let _ = fs::remove_file(&temporary);
        io_error(path, error)
    })
}

/// Reads a file that is not secret, with a bound on its size.
pub(super) fn read_public(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let named = |what: &dyn std::fmt::Display| format!("{} cannot be read: {what}", Excerpt::of_path(path));
    let file = File::open(path).map_err(|error| named(&error))?;
    if !file.metadata().is_ok_and(|about| about.is_file()) {
        return Err(named(&"it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(|error| named(&error))?;
    if bytes.len() as u64 > bytes_max {
        Err(named(&format!("more than {bytes_max} bytes")))
    } else {
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn everything_is_private_and_survives_a_second_opening() {
        let desk = tempfile::tempdir().unwrap();
        let folder = desk.path().join("state");
        let state = State::open(&folder).unwrap();
        let record = Record { failures: 3, ..Record::default() };
        state.keep_record("*.recre.store", &record).unwrap();
        state.keep_certificate("recre.store", b"pem").unwrap();
        let order = OpenOrder {
            directory: "https://ca/dir".to_owned(),
            url: "https://ca/order/1".to_owned(),
            names: vec!["recre.store".to_owned()],
            key: Zeroizing::new("key".to_owned()),
            tokens: Vec::new(),
            records: Vec::new(),
        };
        state.keep_order("recre.store", &order).unwrap();
        assert!(matches!(State::open(&folder), Err(StateError::Busy(_))), "one at a time");
        drop(state);
        let state = State::open(&folder).unwrap();
        assert_eq!(state.record("*.recre.store"), record);
        assert_eq!(state.record("recre.store"), Record::default());
        assert_eq!(state.certificate("recre.store").unwrap().to_vec(), b"pem");
        assert_eq!(state.order("recre.store").unwrap().url, order.url);
        state.drop_order("recre.store");
        assert!(state.order("recre.store").is_none());
        for name in FOLDERS {
            assert_eq!(mode(&folder.join(name)), 0o700);
            for file in fs::read_dir(folder.join(name)).unwrap() {
                assert_eq!(mode(&file.unwrap().path()), 0o600);
            }
        }
    }

    #[test]
    fn what_is_known_already_is_not_written_again() {
        let desk = tempfile::tempdir().unwrap();
        let state = State::open(&desk.path().join("state")).unwrap();
        let record = Record { failures: 1, ..Record::default() };
        state.keep_record("a.b", &record).unwrap();
        let before = fs::metadata(state.path("records", "a.b", "json")).unwrap().ino();
        state.keep_record("a.b", &record).unwrap();
        assert_eq!(fs::metadata(state.path("records", "a.b", "json")).unwrap().ino(), before);
        state.keep_record("a.b", &Record::default()).unwrap();
        assert_ne!(fs::metadata(state.path("records", "a.b", "json")).unwrap().ino(), before);
    }

    #[test]
    fn a_folder_that_others_can_enter_is_refused_and_a_damaged_file_counts_as_none() {
        let desk = tempfile::tempdir().unwrap();
        let folder = desk.path().join("state");
        let state = State::open(&folder).unwrap();
        state.keep_record("a.b", &Record { failures: 1, ..Record::default() }).unwrap();
        fs::write(state.path("records", "a.b", "json"), "{").unwrap();
        assert_eq!(state.record("a.b"), Record::default());
        drop(state);
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o750)).unwrap();
        let refused = State::open(&folder).err().unwrap().to_string();
        assert!(refused.contains("chmod 0700"), "{refused}");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(State::open(&folder).is_ok());
        let link = desk.path().join("link");
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        assert!(State::open(&link).is_err());
    }
}
