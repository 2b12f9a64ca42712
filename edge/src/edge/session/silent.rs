//! A connection that has sent nothing yet.

use std::future::poll_fn;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::task::Poll;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::edge::session::frozen::{self, RECORD_BYTES};
use crate::edge::session::worker::Permit;
use crate::edge::shared::handover::{self, FORMAT, Frozen, Head, Kind};

/// Waits for the first byte, or until `time` is over; how much of `time` is left. `None`: the next process has the connection.
pub(crate) async fn first_byte(
    permit: &Permit,
    stream: &TcpStream,
    (kind, peer): (Kind, IpAddr),
    time: Duration,
) -> Option<Duration> {
    let begun = Instant::now();
    let hand_over = &permit.worker.shared.hand_over;
    let comes = poll_fn(|cx| {
        permit.wake_at_drain(cx.waker());
        if stream.poll_read_ready(cx).is_ready() {
            return Poll::Ready(true);
        }
        let Some(receiver) = hand_over.receiver() else { return Poll::Pending };
        let is_sent = freeze(stream, kind, peer).is_some_and(|frozen| receiver.send(frozen).is_ok());
        if is_sent { Poll::Ready(false) } else { Poll::Pending }
    });
    match timeout(time, comes).await {
        Ok(false) => None,
        Ok(true) | Err(_) => Some(time.saturating_sub(begun.elapsed())),
    }
}

fn freeze(stream: &TcpStream, kind: Kind, peer: IpAddr) -> Option<Frozen> {
    let (cookies, descriptors) = frozen::copies(stream.as_fd(), None)?;
    let head = Head { format: FORMAT, kind, cookies, host: "", path: "", peer };
    Some(Frozen { record: handover::write(&head, RECORD_BYTES)?, descriptors })
}

/// The connection of a record, and its peer.
///
/// # Errors
/// Why it cannot be used.
pub(crate) fn resume(Frozen { record, descriptors }: Frozen) -> Result<(TcpStream, IpAddr), &'static str> {
    let head: Head<'_> = handover::read(&record)?;
    Ok((frozen::resume(descriptors, &head)?.0, head.peer))
}
