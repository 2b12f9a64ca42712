//! A connection that waits for a request, or for the response to one, as data for the next process.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::access::Access;
use super::phase::Session;
use crate::edge::net::tls::SavedTls;
use crate::edge::net::upstream::UpstreamStream;
use crate::edge::session::exchange::Request;
use crate::edge::session::frozen::{self, RECORD_BYTES};
use crate::edge::shared::handover::{self, FORMAT, Frozen, Head, Kind};
use crate::http::head::Version;
use crate::names::Host;

/// A connection, but for its TLS state.
#[derive(Serialize, Deserialize)]
pub(crate) struct Saved<'a> {
    #[serde(borrow)]
    pub(super) head: Head<'a>,
    /// The server name of its hello.
    pub(super) name: Option<&'a str>,
    pub(super) peer_port: u16,
    pub(super) requests: u32,
    /// What came behind the last request.
    pub(super) input: &'a [u8],
    #[serde(borrow)]
    pub(super) waiting: Option<Waiting<'a>>,
}

/// A request that the upstream has, and whose response has not begun.
#[derive(Serialize, Deserialize)]
pub(super) struct Waiting<'a> {
    pub(super) client: IpAddr,
    pub(super) is_http10: bool,
    pub(super) is_head: bool,
    pub(super) keep_alive: bool,
    pub(super) wants_html: bool,
    pub(super) waited_ms: u64,
    /// Its method and target, if it is logged.
    #[serde(borrow)]
    pub(super) access: Option<(&'a str, &'a str)>,
}

impl Waiting<'_> {
    /// Its line in the access log, if it is logged. `host` is that of the record's head.
    pub(super) fn access(&self, host: Host) -> Option<Box<Access>> {
        self.access.map(|(method, target)| Access::again(host, self.client, method, target))
    }

    pub(super) fn waited(&self) -> Duration {
        Duration::from_millis(self.waited_ms)
    }
}

/// The same in the process that has it.
pub(super) struct Waits<'a> {
    pub(super) request: &'a Request,
    pub(super) upstream: &'a UpstreamStream,
    pub(super) access: Option<&'a Access>,
    pub(super) waited: Duration,
}

impl Session {
    /// Passes the connection to the next process. `None`: that is not possible. After `Some`, nothing may be read from it or written to it.
    pub(super) fn hand_over(&self, waits: Option<&Waits<'_>>) -> Option<()> {
        let receiver = self.worker.shared.hand_over.receiver()?;
        let upstream = waits.map(|waits| waits.upstream.as_fd());
        let (cookies, descriptors) = frozen::copies(self.client.as_fd(), upstream)?;
        let name = self.identity.name.as_ref().map(|name| name.to_string());
        let host = waits.map_or_else(String::new, |waits| waits.request.tally.host.to_string());
        let path = waits.map_or("", |waits| waits.request.route.rules.path.as_str());
        let access = waits.and_then(|waits| waits.access).map(Access::request);
        let input = self.input.rest();
        let logged_bytes = access.map_or(0, |(method, target)| method.len() + target.len());
        let names_bytes = name.as_ref().map_or(0, String::len) + host.len() + path.len();
        let room_bytes =
            RECORD_BYTES + names_bytes + logged_bytes + input.len() + self.client.waiting_bytes();
        let saved = Saved {
            head: Head { format: FORMAT, kind: Kind::Http, cookies, host: &host, path, peer: self.peer },
            name: name.as_deref(),
            peer_port: self.peer_port,
            requests: self.requests,
            input,
            waiting: waits.map(|Waits { request, waited, .. }| Waiting {
                client: request.client,
                is_http10: request.version == Version::Http10,
                is_head: request.is_head,
                keep_alive: request.keep_alive,
                wants_html: request.wants_html,
                waited_ms: waited.as_millis() as u64, // lossless: it is months at most
                access,
            }),
        };
        let record = handover::write(&(saved, &self.client), room_bytes)?;
        receiver.send(Frozen { record, descriptors }).ok()
    }
}

/// What a record holds.
///
/// # Errors
/// Why it cannot be read.
pub(crate) fn read_record(record: &[u8]) -> Result<(Saved<'_>, SavedTls), &'static str> {
    handover::read(record)
}
