//! One change at a time: the lock of a folder with sanedge.toml and its bundle.
//!
//! `apply`, `site`, `setup`, `console` and `renew --deploy` hold it while they write and reload, but not while they wait for a CA or
//! an answer of the user.

use std::fs::File;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use crate::bundle::file::{folder_of, word};
use crate::cli::failure::Failure;

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
    pub(crate) fn take(bundle: &Path, mut waiting: impl FnMut()) -> Result<Self, Failure> {
        let folder = folder_of(bundle);
        let unusable = |error: std::io::Error| {
            Failure::new("not-written", format!("the folder {} cannot be used: {error}", word(folder)))
        };
        let file = File::open(folder).map_err(unusable)?;
        let until = Instant::now() + WAIT;
        let mut told = false;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self(file)),
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) if Instant::now() < until => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(busy(folder)),
                Err(error) => return Err(unusable(error.into())),
            }
            if !std::mem::replace(&mut told, true) {
                waiting();
            }
            sleep(LOOK_INTERVAL);
        }
    }
}

fn busy(folder: &Path) -> Failure {
    let message = format!(
        "another sanedge command has been changing {} for {} s; nothing was changed. Try again",
        word(folder),
        WAIT.as_secs()
    );
    Failure::new(BUSY, message)
}
