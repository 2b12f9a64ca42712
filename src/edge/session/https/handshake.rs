//! The TLS handshake of a connection: whose name it asks for, what limits hold, and what the log says where it comes to nothing.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::edge::net::linger::finish;
use crate::edge::net::tls::{Alert, Refused, TlsStream};
use crate::edge::session::worker::Worker;
use crate::edge::shared::active_config::Identity;
use crate::edge::shared::eviction::Evictable;
use crate::http::answer::{self, AnswerForm, Detail, Problem};
use crate::ops::metrics::Reason;

/// Why a hello is not answered.
enum Unanswered {
    Unknown(Option<String>),
    Full,
    Rate,
}

/// `None`: it came to nothing, which the log says.
pub(super) async fn handshake(
    worker: &Worker,
    stream: TcpStream,
    peer: IpAddr,
    is_limited: bool,
    evictable: &Evictable,
) -> Option<(TlsStream, Identity)> {
    let shared = &worker.shared;
    let (time, tls_buffer_bytes) = {
        let limits = &shared.active.load().bundle.limits;
        (Duration::from_millis(limits.handshake_timeout_ms.into()), limits.tls_buffer_bytes as usize)
    };
    let accept = TlsStream::accept(stream, tls_buffer_bytes, |name| {
        let active = shared.active.load();
        // Only now: a connection that says nothing must not take the place of one that does.
        let limits = &active.bundle.limits;
        // What is refused for other reasons must not have sent another away for its place.
        let unknown = || (Alert::UnrecognizedName, Unanswered::Unknown(name.map(str::to_owned)));
        let (config, identity) = active.identify(name).ok_or_else(unknown)?;
        if is_limited && !shared.may_handshake(limits.handshakes_per_s_max) {
            return Err((Alert::InternalError, Unanswered::Rate));
        }
        let place =
            shared.handshaking(limits.handshakes_max).ok_or((Alert::InternalError, Unanswered::Full))?;
        shared.eviction.handshake_begins(evictable);
        Ok((config, (identity, place)))
    });
    match timeout(time, accept).await {
        Ok(Ok((client, (identity, _place)))) => {
            shared.counters.handshakes_total.increment();
            return Some((client, identity));
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
