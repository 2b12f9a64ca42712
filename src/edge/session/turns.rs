//! How the sessions of a worker take turns.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll};

use tokio::task::yield_now;

/// Full buffers that a session moves in a row before the worker's others get their turn.
pub(crate) const TURNS: usize = 4;

/// Pending until the worker has asked the kernel for the others' news and let them go first. A bare wake would run
/// this session again before that, dozens of times.
pub(crate) fn poll_later<T>(cx: &mut Context<'_>) -> Poll<T> {
    let _ = pin!(yield_now()).poll(cx);
    Poll::Pending
}
