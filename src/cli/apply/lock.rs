//! One change at a time: the lock of a folder with sanedge.toml and its bundle.
//!
//! `apply`, `site`, `setup`, `console` and `renew --deploy` hold it while they write and reload, but not while they wait for a CA or
//! an answer of the user.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use crate::bundle::file::{self, folder_of, word};
use crate::cli::failure::Failure;
use crate::excerpt::Excerpt;

/// Longest wait for another command, which holds the lock during a reload or a restart.
const WAIT: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// The code if the other command holds the lock for longer.
pub(crate) const BUSY: &str = "busy";

/// Held until it is dropped; the kernel releases it if the process is killed.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "the descriptor is the lock")] File);

impl Lock {
    /// Locks the folder of the bundle at `bundle`. `waiting` is called once if another command holds the lock.
    ///
    /// # Errors
    /// If the folder cannot be read, or the other command does not release the lock in time.
    pub(crate) fn take(bundle: &Path, waiting: impl FnMut()) -> Result<Self, Failure> {
        Self::take_within(WAIT, bundle, waiting)
    }

    fn take_within(wait: Duration, bundle: &Path, mut waiting: impl FnMut()) -> Result<Self, Failure> {
        let folder = folder_of(bundle);
        let unusable = |error: std::io::Error| {
            Failure::new("not-written", format!("the folder {} cannot be used: {error}", word(folder)))
        };
        let file = File::open(folder).map_err(unusable)?;
        let until = Instant::now() + wait;
        let mut told = false;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self(file)),
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) if Instant::now() < until => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(busy(folder, &file)),
                Err(error) => return Err(unusable(error.into())),
            }
            if !std::mem::replace(&mut told, true) {
                waiting();
            }
            sleep(LOOK_INTERVAL);
        }
    }
}

fn busy(folder: &Path, file: &File) -> Failure {
    let holder = holder(file).map_or_else(String::new, |holder| format!(": {holder}"));
    let message = format!(
        "another sanedge command has been changing {} for {} s{holder}. Nothing was changed; try again",
        word(folder),
        WAIT.as_secs()
    );
    Failure::new(BUSY, message)
}

/// The process that holds the lock, as far as this user may see it.
fn holder(file: &File) -> Option<String> {
    let inode = file.metadata().ok()?.ino();
    let pid = holder_of(&std::fs::read_to_string("/proc/locks").ok()?, inode)?;
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = words.split(|byte| *byte == 0).filter(|word| !word.is_empty()).take(2).collect();
    let words = words.iter().map(|word| Excerpt::of_path(Path::new(OsStr::from_bytes(word))).to_string());
    let command = words.collect::<Vec<_>>().join(" ");
    Some(if command.is_empty() { format!("process {pid}") } else { format!("process {pid} ({command})") })
}

/// From the lines of `/proc/locks`, such as `2: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF`. Two file systems may have the same inode
/// number; then the process may be another.
fn holder_of(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let is_it = fields.next() == Some("FLOCK");
        let (pid, file) = (fields.nth(2)?.parse().ok()?, fields.next()?);
        let at = file.rsplit(':').next()?.parse::<u64>().ok()?;
        (is_it && at == inode && pid != 0).then_some(pid)
    })
}

/// For root, refuses a folder of another user, who could replace what root writes there.
///
/// # Errors
/// With the owner.
pub(super) fn ours(bundle: &Path) -> Result<(), Failure> {
    file::guarded(bundle).map_err(|error| Failure::new("folder", error.to_string()))?;
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let folder = folder_of(bundle);
    // A missing folder is an error of the next step.
    let Ok(about) = std::fs::metadata(folder) else { return Ok(()) };
    // By sudo, its user has root's rights already.
    let by_sudo = std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok());
    if about.uid() == 0 || Some(about.uid()) == by_sudo {
        return Ok(());
    }
    let message = format!(
        "the folder {0} belongs to uid {1}, and that user could replace what root writes there: expected a folder that root owns; type `chown root {0}`, or run the command as its owner",
        word(folder),
        about.uid()
    );
    Err(Failure::new("folder", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_busy_names_the_process_that_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = folder.path().join("x.bundle");
        let held = Lock::take(&bundle, || panic!("it is free")).unwrap();
        let mut waits = 0;
        let busy = Lock::take_within(Duration::from_millis(120), &bundle, || waits += 1).unwrap_err();
        assert_eq!((busy.code.as_str(), waits), (BUSY, 1));
        let process = format!("process {}", std::process::id());
        assert!(busy.message.contains(&process), "{}", busy.message);
        drop(held);
        Lock::take_within(Duration::ZERO, &bundle, || panic!("it is free")).unwrap();
    }

    #[test]
    fn the_holder_is_found_by_the_inode() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 08:01:77 0 EOF\n2: FLOCK  ADVISORY  WRITE 22 08:01:77 0 EOF\n2: -> FLOCK  ADVISORY  WRITE 33 08:01:77 0 EOF\nbad\n";
        assert_eq!(holder_of(locks, 77), Some(22));
        assert_eq!(holder_of(locks, 7), None);
        assert_eq!(holder_of("", 77), None);
    }
}
