//! What loads the machine, or measures it, so that nothing else should run meanwhile. cargo runs test programs one after the
//! other, and [`turn`] does the same for the tests of this one.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

#[path = "../it/support/mod.rs"]
#[allow(dead_code)] // the tests of `it` use all of it
mod support;

#[path = "../it/post_quantum/client.rs"]
mod post_quantum;

mod busy_memory;
mod chaos;
mod handshake_storm;
mod reload_storm;
mod restart;
mod soak;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A test's turn; it ends when dropped.
struct Turn {
    _held: MutexGuard<'static, ()>,
}

/// Waits until no other test of this program runs.
fn turn() -> Turn {
    static RUNNING: Mutex<()> = Mutex::new(());
    Turn { _held: RUNNING.lock().unwrap_or_else(PoisonError::into_inner) }
}
