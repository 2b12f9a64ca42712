//! A change that was interrupted, by a kill or a power cut: it is completed if the edge serves it, and undone otherwise.
//!
//! `apply --settle` does only this. `sanedge-settle.service` runs it at a boot, before the edge starts.

use std::path::{Path, PathBuf};

use super::edge::Edge;
use super::journal::{self, Interrupted};
use super::lock::{self, Lock};
use crate::bundle::Bundle;
use crate::bundle::file::folder_of;
use crate::cli::failure::Failure;

/// What became of an interrupted change.
#[derive(Debug, Default)]
pub(super) enum Settled {
    /// There was none.
    #[default]
    Nothing,
    /// The edge serves it.
    Completed,
    /// The files are as before it; not these, which another program has changed meanwhile.
    Undone(Vec<PathBuf>),
}

/// Settles the change beside the bundle at `bundle`. The caller holds the lock.
pub(super) fn recover(bundle: &Path) -> Result<Settled, Failure> {
    let Some(interrupted) = Interrupted::find(folder_of(bundle))? else { return Ok(Settled::Nothing) };
    let holds = match interrupted.new_bundle() {
        Some(path) => match Bundle::open(&path) {
            Ok(bundle) => Edge::find(&path, &[&bundle])?.is_some_and(|edge| edge.uses(&bundle)),
            Err(_) => false,
        },
        None => false,
    };
    let others = interrupted.settle(holds)?;
    Ok(if holds { Settled::Completed } else { Settled::Undone(others) })
}

/// Takes the lock and settles the change beside the bundle at `bundle`, if there is one. A running edge follows.
pub(super) fn settle(bundle: &Path, waiting: impl FnMut()) -> Result<Settled, Failure> {
    if !journal::is_left(folder_of(bundle)) {
        return Ok(Settled::Nothing);
    }
    lock::ours(bundle)?;
    let _lock = Lock::take(bundle, waiting)?;
    let settled = recover(bundle)?;
    if matches!(settled, Settled::Undone(_)) {
        follow(bundle)?;
    }
    Ok(settled)
}

/// Makes a running edge use the bundle that is in place again: the command may have been killed while it undid the change.
fn follow(path: &Path) -> Result<(), Failure> {
    let Ok(bundle) = Bundle::open(path) else { return Ok(()) };
    match Edge::find(path, &[&bundle])? {
        Some(edge) if !edge.uses(&bundle) => {
            edge.reload()?;
            Edge::confirm(path, &bundle, false)
        }
        _ => Ok(()),
    }
}
