//! A session between two of its phases.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::access::Access;
use crate::decision::Refusal;
use crate::edge::net::pool::{Connection, OwnConnection};
use crate::edge::net::tls::TlsStream;
use crate::edge::net::upstream::Dial;
use crate::edge::session::driver::Alarm;
use crate::edge::session::exchange::{Input, Request, Upgraded};
use crate::edge::session::worker::Worker;
use crate::edge::shared::active_config::Identity;
use crate::edge::shared::eviction::Evictable;
use crate::http::answer::AnswerForm;
use crate::http::changes::FieldChanges;

/// What a session does next.
#[allow(clippy::large_enum_variant)] // boxing it would allocate for every exchange
pub(super) enum Phase {
    /// Waits for a request.
    Head,
    /// Answers one itself.
    Answer(Answer),
    /// Has an upstream answer it.
    Forward(Forward),
    /// Ends the connection so that the client gets all of it.
    Close,
    /// Nothing more can be said; or two streams go on as a WebSocket.
    Over(Option<Box<Upgraded>>),
}

/// A request that goes upstream.
pub(super) struct Forward {
    pub(super) request: Request,
    pub(super) dial: Dial,
    pub(super) access: Option<Box<Access>>,
    /// If another process has sent it.
    pub(super) resumed: Option<Box<Resumed>>,
}

/// What another process did with a request.
pub(super) struct Resumed {
    /// Where it was sent.
    pub(super) connection: Connection,
    /// How long it has been waiting for its response.
    pub(super) waited: Duration,
}

pub(super) struct Session {
    pub(super) worker: Rc<Worker>,
    pub(super) client: TlsStream,
    pub(super) input: Input,
    pub(super) alarm: Alarm,
    pub(super) identity: Identity,
    /// Of the TCP connection, or as a PROXY protocol header named it.
    pub(super) peer: IpAddr,
    pub(super) peer_port: u16,
    /// None once it has sent a request.
    pub(super) newcomer_until: Option<Instant>,
    /// Until it is a WebSocket's.
    pub(super) evictable: Evictable,
    /// Heads that were read.
    pub(super) requests: u32,
    /// The edge drained when the last response went out.
    pub(super) answered_in_drain: bool,
    /// An upstream connection that is authenticated for this client, and waits for its next request.
    pub(super) own: Option<Box<OwnConnection>>,
}

/// What the edge says itself.
pub(super) enum Says {
    /// What is wrong.
    Refused(Refusal),
    /// Where to go: an URL.
    Redirect(String),
}

impl From<Refusal> for Says {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// An answer of the edge's own.
pub(super) struct Answer {
    pub(super) says: Says,
    pub(super) form: AnswerForm,
    /// What the site adds to its fields.
    pub(super) changes: Option<Arc<FieldChanges>>,
    /// Where it is logged as a request, and has not been yet.
    pub(super) access: Option<Box<Access>>,
}

impl Answer {
    /// The last of its connection, to a request that cannot be read.
    pub(super) fn closing(refusal: Refusal, changes: Option<Arc<FieldChanges>>) -> Self {
        let form = AnswerForm { close: true, ..AnswerForm::default() };
        Self { says: refusal.into(), form, changes, access: None }
    }
}
