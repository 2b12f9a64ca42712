//! What the machines of a session have in common. A machine has no clock, no sockets and no task: it is stepped, with the
//! time and its ends as arguments, and tells for what to wait. The [`driver`](super::driver) has the rest.

use std::net::IpAddr;

use tokio::time::Instant;

use crate::edge::session::buffers::Buffers;
use crate::edge::session::pace::Pace;
use crate::ops::metrics::{Flow, Reason};

/// Full buffers that a session moves in a row before the worker's others get their turn.
pub(crate) const TURNS: usize = 4;

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step<T> {
    Over(T),
    /// Wait for either end, or until then. `true`: there may be more at once, after others have had their turn.
    Wait(Option<Instant>, bool),
}

/// What a machine asks of the edge around it, and tells it.
pub(crate) trait Surroundings {
    /// `stall_timeout` and `body_bytes_per_s_min`, as they are now.
    fn pace(&self) -> Pace;
    /// Once the edge drains: what its Close says, code and reason.
    fn drain_close(&self) -> Option<(u16, &'static str)>;
    /// Whether a connection stays open after a response: not while the edge drains, unless the next process continues it.
    fn keeps_connections(&self) -> bool {
        self.drain_close().is_none()
    }
    /// What passes from clients, and to them.
    fn flows(&self) -> (&Flow, &Flow);
    fn buffers(&self) -> &Buffers;
    fn refuse(&self, reason: Reason, peer: IpAddr, found: &str);
    fn count_close(&self, code: Option<u16>);
}
