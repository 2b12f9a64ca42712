//! The TLS handshake of a connection: whose name it asks for, what limits hold, and what the log says where it comes to nothing.
//! A CA that asks for a proof gets that, and its connection ends here.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::edge::net::linger::finish;
use crate::edge::net::tls::{Alert, Asked, Negotiated, Refused, TlsStream};
use crate::edge::net::transport::Woken;
use crate::edge::session::driver::{Alarm, drive};
use crate::edge::session::https::last::Closing;
use crate::edge::session::worker::Worker;
use crate::edge::shared::active_config::{ActiveConfig, Identity};
use crate::edge::shared::eviction::Evictable;
use crate::edge::shared::state::Shared;
use crate::edge::shared::tls_config::Configs;
use crate::http::answer::{self, AnswerForm, Detail, Problem};
use crate::ops::metrics::Reason;

/// Why a hello is not answered.
enum Unanswered {
    Unknown(Option<String>),
    /// It asks for a proof, and none is pending.
    NoProof(Option<String>),
    Full,
    Rate,
}

/// Takes at most `time`. `None`: it failed, which the log says, or it was a CA that looked for a proof.
pub(super) async fn handshake(
    worker: &Worker,
    stream: TcpStream,
    peer: IpAddr,
    is_limited: bool,
    evictable: &Evictable,
    time: Duration,
) -> Option<(TlsStream, Identity)> {
    let shared = &worker.shared;
    let tls_buffer_bytes = shared.active.load().bundle.limits.tls_buffer_bytes as usize;
    let accept = TlsStream::accept(stream, tls_buffer_bytes, |asked| {
        let active = shared.active.load();
        // Only now: a connection that says nothing must not take the place of one that does.
        let limits = &active.bundle.limits;
        // What is refused for other reasons must not have sent another away for its place.
        let (config, identity) = choose(shared, &active, asked)?;
        if is_limited && !shared.may_handshake(limits.handshakes_per_s_max) {
            return Err((Alert::InternalError, Unanswered::Rate));
        }
        let place =
            shared.handshaking(limits.handshakes_max).ok_or((Alert::InternalError, Unanswered::Full))?;
        shared.eviction.handshake_begins(evictable);
        Ok((config, (identity, place)))
    });
    match timeout(time, accept).await {
        Ok(Ok((mut client, negotiated, (identity, place)))) => {
            shared.counters.handshakes_total.increment();
            let Negotiated { is_tls13, group, is_resumed } = negotiated;
            shared.handshakes_by.count(is_tls13, group, is_resumed);
            drop(place);
            match identity {
                Some((identity, record_bytes_max)) => {
                    if let Some(bytes) = record_bytes_max {
                        client.bound_records(bytes);
                    }
                    return Some((client, identity));
                }
                None => Box::pin(close(worker, client)).await,
            }
        }
        Ok(Err(Refused::Name(Unanswered::Full))) => {
            shared.refuse(Reason::Full, peer, "handshakes_max reached")
        }
        Ok(Err(Refused::Name(Unanswered::Rate))) => {
            shared.refuse(Reason::HandshakeRate, peer, "handshakes_per_s_max reached");
        }
        Ok(Err(Refused::Name(Unanswered::Unknown(Some(name))))) => {
            shared.refuse(Reason::UnknownServerName, peer, &name);
        }
        Ok(Err(Refused::Name(Unanswered::Unknown(None)))) => {
            shared.refuse(
                Reason::NoServerName,
                peer,
                "ClientHello without a server name; set default_host to answer it",
            );
        }
        Ok(Err(Refused::Name(Unanswered::NoProof(name)))) => {
            let name = name.as_deref().unwrap_or("no name");
            shared.refuse(
                Reason::Handshake,
                peer,
                &format!("acme-tls/1 for {name}: no challenge is pending"),
            );
        }
        Ok(Err(Refused::PlainHttp(stream))) => {
            shared.refuse(
                Reason::Handshake,
                peer,
                "plain HTTP on the TLS port; the client must use https://",
            );
            let mut bytes = Vec::new();
            let form = AnswerForm { close: true, ..AnswerForm::default() };
            answer::write(Problem::PlainHttp, &Detail::default(), form, &mut bytes);
            let _ = timeout(time, finish(stream, &bytes)).await;
        }
        Ok(Err(Refused::Handshake(error))) if error.kind() == io::ErrorKind::UnexpectedEof => {
            shared.refuse(Reason::Handshake, peer, "the client closed during the handshake");
        }
        Ok(Err(Refused::Handshake(error))) => shared.refuse(Reason::Handshake, peer, &error.to_string()),
        Err(_) => shared.refuse(Reason::HandshakeTimeout, peer, "handshake_timeout reached"),
    }
    None
}

/// An identity, with `record_bytes_max` of its site if that is set.
type Identified = (Identity, Option<u16>);

/// What answers a hello. Without identity: a proof for a CA.
fn choose(
    shared: &Shared,
    active: &ActiveConfig,
    asked: &Asked<'_>,
) -> Result<(Arc<Configs>, Option<Identified>), (Alert, Unanswered)> {
    let identified = active.identify(asked.name);
    if asked.proof {
        let is_served = identified.is_some();
        return proof(shared, active, asked.name, is_served).map(|configs| (configs, None));
    }
    let unknown = || (Alert::UnrecognizedName, Unanswered::Unknown(asked.name.map(str::to_owned)));
    identified.map(|(configs, identity, records)| (configs, Some((identity, records)))).ok_or_else(unknown)
}

/// The certificate that proves `name`, if `sanedge renew` wants that now and the bundle has the name.
fn proof(
    shared: &Shared,
    active: &ActiveConfig,
    name: Option<&str>,
    is_served: bool,
) -> Result<Arc<Configs>, (Alert, Unanswered)> {
    let challenges = shared.challenges.load();
    let ours = |host| active.bundle.host(host).is_some() || active.bundle.is_pending(host);
    let pending = name.and_then(|name| challenges.find(name)).filter(|(host, _)| ours(host));
    pending.map(|(_, configs)| Arc::clone(configs)).ok_or_else(|| {
        let name = name.map(str::to_owned);
        match is_served {
            true => (Alert::NoApplicationProtocol, Unanswered::NoProof(name)),
            false => (Alert::UnrecognizedName, Unanswered::Unknown(name)),
        }
    })
}

/// Nothing follows the proof (RFC 8737 §3).
async fn close(worker: &Worker, mut client: TlsStream) {
    let mut closing = Closing::new(Instant::now());
    drive(Alarm::default(), |now, waker| {
        closing.step(now.get(), &mut Woken::by(waker, &mut client), &mut worker.scratch.borrow_mut())
    })
    .await;
}
