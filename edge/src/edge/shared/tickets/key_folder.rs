//! Where the keys of session tickets outlive a restart: a file of ours, 0600, in a folder that lies in memory, so that a
//! key never reaches an SD card and none survives a boot.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::keys::{BOOT_ID_BYTES, BootId, FILE_BYTES_MAX, Keys, Unusable};
use crate::bundle::Admin;
use crate::excerpt::Excerpt;

const FILE: &str = "ticket-keys";
const TEMPORARY: &str = "ticket-keys.new";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// File systems that are nothing but memory (statfs(2)).
const TMPFS_MAGIC: u32 = 0x0102_1994;
const RAMFS_MAGIC: u32 = 0x8584_58f6;

/// A folder in memory, held open: what is at its path later does not matter.
pub(super) struct KeyFolder {
    folder: OwnedFd,
    path: PathBuf,
    boot: BootId,
}

/// Why a folder keeps no keys.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoKeyFolder {
    #[error("expected a tmpfs, so that keys are never on a disk; set [listen] admin to a socket in one")]
    OnDisk,
    #[error("cannot be used: {0}")]
    Folder(Errno),
    #[error("{BOOT_ID} cannot be read")]
    BootId,
}

/// Why kept keys are not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotLoaded {
    #[error("{0}")]
    Unusable(#[from] Unusable),
    #[error(
        "expected a regular file of user {}, mode 0600; found {} of user {found_uid}, mode {found_mode:04o}",
        rustix::process::geteuid().as_raw(),
        if *.is_file { "one" } else { "something else" }
    )]
    Guard { is_file: bool, found_uid: u32, found_mode: u32 },
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The folder for them: systemd's `RuntimeDirectory=` (the first, as it stands in `RUNTIME_DIRECTORY`), else that of the
/// admin socket, which by default is the same. That default is made where we may.
pub fn folder(admin: Option<&Admin>, runtime_directory: Option<OsString>) -> PathBuf {
    let given = runtime_directory.unwrap_or_default();
    let first = given.as_bytes().split(|byte| *byte == b':').next().unwrap_or_default();
    if !first.is_empty() {
        return PathBuf::from(OsStr::from_bytes(first));
    }
    let socket = match admin {
        Some(Admin::Unix(path)) => path,
        Some(Admin::Tcp(_)) | None => Path::new(Admin::DEFAULT_PATH),
    };
    let folder = socket.parent().unwrap_or(Path::new("/"));
    if socket == Path::new(Admin::DEFAULT_PATH) {
        let _ = std::fs::create_dir(folder);
    }
    folder.to_owned()
}

impl KeyFolder {
    /// # Errors
    /// Says why no keys are kept in `path`.
    pub(super) fn open(path: &Path) -> Result<Self, NoKeyFolder> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(NoKeyFolder::Folder)?;
        // The number has 32 bits; the field more or fewer, by architecture.
        let kind = rustix::fs::fstatfs(&folder).map_err(NoKeyFolder::Folder)?.f_type as u32;
        if kind != TMPFS_MAGIC && kind != RAMFS_MAGIC {
            return Err(NoKeyFolder::OnDisk);
        }
        Ok(Self { folder, path: path.join(FILE), boot: boot_id().ok_or(NoKeyFolder::BootId)? })
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The keys in the file; none where there is no file.
    ///
    /// # Errors
    /// The file is not ours alone, or not usable at `now`.
    pub(super) fn load(&self, now: u64) -> Result<Option<Keys>, NotLoaded> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = match rustix::fs::openat(&self.folder, FILE, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(io::Error::from(error).into()),
        };
        let about = file.metadata()?;
        let (found_uid, found_mode) = (about.uid(), about.mode() & 0o7777);
        if !about.is_file() || found_uid != rustix::process::geteuid().as_raw() || found_mode & 0o177 != 0 {
            return Err(NotLoaded::Guard { is_file: about.is_file(), found_uid, found_mode });
        }
        // One byte more than any good file has; of its final size from the start, so that no copy is left behind.
        let mut bytes = Zeroizing::new(vec![0; FILE_BYTES_MAX + 1]);
        let mut length = 0;
        while let Some(room) = bytes.get_mut(length..).filter(|room| !room.is_empty()) {
            match file.read(room)? {
                0 => break,
                count => length += count,
            }
        }
        Ok(Some(Keys::decode(bytes.get(..length).unwrap_or_default(), &self.boot, now)?))
    }

    /// Replaces the file.
    pub(super) fn save(&self, keys: &Keys) -> io::Result<()> {
        let mode = Mode::RUSR | Mode::WUSR;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = || rustix::fs::openat(&self.folder, TEMPORARY, flags, mode);
        let file = match create() {
            // What an edge left that was killed while it wrote.
            Err(Errno::EXIST) => {
                rustix::fs::unlinkat(&self.folder, TEMPORARY, AtFlags::empty())?;
                create()
            }
            created => created,
        }?;
        File::from(file).write_all(&keys.encode(&self.boot))?;
        Ok(rustix::fs::renameat(&self.folder, TEMPORARY, &self.folder, FILE)?)
    }
}

impl fmt::Debug for KeyFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyFolder({})", Excerpt::of_path(&self.path))
    }
}

fn boot_id() -> Option<BootId> {
    std::fs::read(BOOT_ID).ok()?.first_chunk::<BOOT_ID_BYTES>().copied()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::keys::{Key, uptime_s};
    use super::*;

    /// A folder in memory; said aloud where the machine has none.
    fn memory() -> Option<tempfile::TempDir> {
        let folder =
            tempfile::tempdir_in("/dev/shm").ok().filter(|folder| KeyFolder::open(folder.path()).is_ok());
        if folder.is_none() {
            eprintln!("SKIPPED: /dev/shm is no tmpfs");
            assert!(std::env::var_os("SANEDGE_REQUIRE_ALL").is_none(), "SANEDGE_REQUIRE_ALL is set");
        }
        folder
    }

    #[test]
    fn the_folder_is_systemds_or_the_admin_sockets() {
        let admin = Admin::Unix("/srv/x/admin.sock".into());
        let of = |admin, given: Option<&str>| folder(admin, given.map(OsString::from));
        assert_eq!(of(Some(&admin), Some("/run/a:/run/b")), Path::new("/run/a"));
        assert_eq!(of(Some(&admin), Some("")), Path::new("/srv/x"));
        assert_eq!(of(Some(&admin), None), Path::new("/srv/x"));
    }

    #[test]
    fn a_disk_keeps_no_keys() {
        let found = KeyFolder::open(Path::new(env!("CARGO_MANIFEST_DIR")));
        assert!(matches!(found, Err(NoKeyFolder::OnDisk)), "{found:?}");
        assert!(matches!(KeyFolder::open(Path::new("/nowhere")), Err(NoKeyFolder::Folder(Errno::NOENT))));
    }

    #[test]
    fn keys_are_kept_for_their_owner_alone() {
        let Some(folder) = memory() else { return };
        let (key_folder, now) = (KeyFolder::open(folder.path()).unwrap(), uptime_s());
        assert!(key_folder.load(now).unwrap().is_none());
        let keys = Keys(vec![Key::new(now).unwrap()]);
        std::fs::write(folder.path().join(TEMPORARY), "of a killed edge").unwrap();
        for _ in 0..2 {
            key_folder.save(&keys).unwrap();
            assert!(key_folder.load(now).unwrap() == Some(keys.clone()));
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing temporary is left");
        let mode =
            |mode| std::fs::set_permissions(key_folder.path(), PermissionsExt::from_mode(mode)).unwrap();
        let mut tried = 0;
        for (bits, taken) in [(0o600, true), (0o640, false), (0o604, false), (0o700, false), (0o400, true)] {
            mode(bits);
            assert_eq!(key_folder.load(now).is_ok(), taken, "{bits:o}");
            tried += 1;
        }
        assert_eq!(tried, 5);
        if rustix::process::geteuid().is_root() {
            mode(0o600);
            std::os::unix::fs::chown(key_folder.path(), Some(65_534), None).unwrap();
            assert!(matches!(key_folder.load(now), Err(NotLoaded::Guard { found_uid: 65_534, .. })));
            std::os::unix::fs::chown(key_folder.path(), Some(0), None).unwrap();
        }
        mode(0o604);
        let said = key_folder.load(now).unwrap_err().to_string();
        assert!(said.contains("mode 0600") && said.contains("0604"), "{said}");
    }

    #[test]
    fn what_is_no_file_of_keys_is_refused() {
        let Some(folder) = memory() else { return };
        let (key_folder, now) = (KeyFolder::open(folder.path()).unwrap(), uptime_s());
        std::os::unix::fs::symlink("/etc/passwd", key_folder.path()).unwrap();
        assert!(matches!(key_folder.load(now), Err(NotLoaded::Io(_))));
        std::fs::remove_file(key_folder.path()).unwrap();
        std::fs::create_dir(key_folder.path()).unwrap();
        assert!(matches!(key_folder.load(now), Err(NotLoaded::Guard { is_file: false, .. })));
        std::fs::remove_dir(key_folder.path()).unwrap();
        std::fs::write(key_folder.path(), vec![0; 1 << 20]).unwrap();
        std::fs::set_permissions(key_folder.path(), PermissionsExt::from_mode(0o600)).unwrap();
        assert!(matches!(key_folder.load(now), Err(NotLoaded::Unusable(Unusable::Damaged))));
    }
}
