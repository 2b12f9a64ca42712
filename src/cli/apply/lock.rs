//! One change at a time: the lock of a folder with sanedge.toml and its bundle.
//!
//! `apply`, `site`, `setup`, `console` and `renew --deploy` hold it while they write and reload, never while a CA or a person is asked.

use std::fs::File;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use crate::bundle::file::{folder_of, word};
use crate::cli::failure::Failure;

/// How long another command is waited for: it holds the lock for a reload, or a restart.
const WAIT: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// The code where that was too short.
pub(crate) const BUSY: &str = "busy";

/// Held until it is dropped; the kernel takes it back from a process that was killed.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "the descriptor is the lock")] File);

impl Lock {
    /// Of the folder that the bundle at `bundle` is in. `waiting` is called once where another command has it.
    ///
    /// # Errors
    /// Where the folder cannot be read, or another command keeps the lock.
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
