//! The access log's view of a request.

use std::net::IpAddr;
use std::time::Duration;

use crate::edge::session::exchange::{Complete, Fault};
use crate::edge::session::worker::Worker;
use crate::excerpt::Excerpt;
use crate::http::head::RequestHead;
use crate::names::Host;
use crate::ops::access::Line;
use crate::ops::log::ShownTarget;

/// The outcome of a request that the previous process received, and whose host or route is no longer in the bundle.
pub(super) const NOT_SERVED: &str = "not-served";

/// One line of the access log. Boxed where it is kept: most have none.
pub(super) struct Access {
    host: Host,
    client: IpAddr,
    method: String,
    target: String,
}

impl Access {
    pub(super) fn new(head: &RequestHead<'_>, client: IpAddr) -> Box<Self> {
        let text = |shown: Vec<u8>| String::from_utf8_lossy(&shown).into_owned();
        let target = text(ShownTarget(head.target.as_bytes()).bytes());
        let method = text(Excerpt::bytes_of(head.method.as_bytes()));
        Box::new(Self { host: head.host.clone(), client, method, target })
    }

    /// The method and the target, as they are logged.
    pub(super) fn request(&self) -> (&str, &str) {
        (&self.method, &self.target)
    }

    /// The line of a request that another process has received.
    pub(super) fn again(host: Host, client: IpAddr, method: &str, target: &str) -> Box<Self> {
        Box::new(Self { host, client, method: method.to_owned(), target: target.to_owned() })
    }

    pub(super) fn log(&self, worker: &Worker, status: u16, outcome: &str, time: Duration) {
        let Some(skipped) = worker.shared.access.admit(worker.shared.uptime()) else { return };
        worker.shared.access.write(&Line {
            host: &self.host,
            client: self.client,
            method: &self.method,
            target: &self.target,
            status,
            outcome,
            ms: time.as_millis() as u64,
            skipped,
        });
    }
}

/// How an exchange ended.
pub(super) fn outcome(end: &Result<Complete, Fault>) -> &'static str {
    match end {
        Ok(Complete::Waits(_)) => "handed-over", // not logged: the next process does that
        Ok(Complete::Upgraded(_)) => "upgraded",
        Err(Fault::Failed(problem, _) | Fault::BrokenOff(problem, _)) => problem.code(),
        Err(Fault::Broken) => "broken-off",
        Ok(Complete::Next | Complete::Close) | Err(Fault::Again) => "complete",
    }
}
