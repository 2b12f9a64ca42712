//! One request and its response: the head and body go upstream while the response comes back, each side stopping
//! the other where it does not take its bytes. Ends the upstream's request as soon as the client is gone.
//!
//! What it does is the [`Exchange`]'s, a machine; here are its streams, and what becomes of them.

mod input;
mod machine;
mod request;
mod response;
mod state;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant;

use crate::edge::net::pool::{Connection, OwnConnection};
use crate::edge::net::tls::TlsStream;
use crate::edge::net::transport::Woken;
use crate::edge::net::upstream::UpstreamStream;
use crate::edge::session::driver::{Alarm, drive};
use crate::edge::session::machine::Step;
use crate::edge::session::worker::Worker;
use crate::edge::shared::active_config::RouteState;
use crate::edge::shared::sticky::SidObserver;
use crate::engineio::OpenObserver;
use crate::http::forward::Plan;
use crate::ops::metrics::OpenWebSocket;

pub(crate) use input::Input;
pub(crate) use machine::Exchange;
pub(crate) use state::{Done, ExchangeLimits, Fault, Request, Switched};

/// How an exchange ended well.
pub(crate) enum Complete {
    /// The client's connection can carry another request.
    Next,
    /// The client's connection ends with this response.
    Close,
    /// Two streams go on as a WebSocket.
    // Boxed: every exchange carries a `Complete` about, and few are upgrades.
    Upgraded(Box<Upgraded>),
    /// The edge hands over, and the response has not begun: this is the upstream's connection.
    Waits(Box<Connection>),
}

/// What the relay needs of an exchange that became a WebSocket, but for the client.
pub(crate) struct Upgraded {
    pub(crate) upstream: UpstreamStream,
    pub(crate) switched: Switched,
    pub(crate) route: Arc<RouteState>,
    pub(crate) client: IpAddr,
    pub(crate) open: OpenWebSocket,
}

/// Runs one exchange on `connection` until its end.
///
/// # Errors
/// Why there is no whole response.
pub(crate) async fn run(
    worker: &Worker,
    client: &mut TlsStream,
    input: &mut Input,
    alarm: &mut Alarm,
    (request, plan): (&Request, &Plan),
    connection: Connection,
    own: &mut Option<Box<OwnConnection>>,
) -> Result<Complete, Fault> {
    let Connection { mut io, upstream, reused, bound } = connection;
    let observer = request.choice.opens.then(|| {
        let packets = if request.offer.is_some() { OpenObserver::frames() } else { OpenObserver::body() };
        SidObserver::new(packets, &worker.shared.sids, &request.route, upstream.id)
    });
    let mut exchange = Exchange::new(Instant::now(), (request, plan), input, observer, (reused, bound));
    let done = drive(alarm, |now, waker| {
        let (mut client, mut upstream) = (Woken::by(waker, &mut *client), Woken::by(waker, &mut io));
        let (mut scratch, mut out) = (worker.scratch.borrow_mut(), worker.out.borrow_mut());
        let step = exchange.step(now.get(), &mut client, &mut upstream, (&mut scratch, &mut out), worker);
        let receiver = worker.shared.hand_over.receiver();
        match (step, receiver.and_then(|_| exchange.portable_at())) {
            (Step::Wait(..), Some(at)) if at <= now.get() => Step::Over(Ok(Done::Waits)),
            (Step::Wait(due, more), Some(at)) => Step::Wait(Some(due.map_or(at, |due| due.min(at))), more),
            (step, _) => step,
        }
    })
    .await?;
    if done == Done::Waits {
        return Ok(Complete::Waits(Box::new(Connection { io, upstream, reused, bound })));
    }
    if done == Done::Upgraded {
        return Ok(Complete::Upgraded(Box::new(Upgraded {
            upstream: io,
            switched: exchange.switched(),
            route: Arc::clone(&request.route),
            client: request.client,
            open: Arc::clone(&request.tally).websocket(),
        })));
    }
    if let Some((bound, keep_alive)) = exchange.reusable() {
        let connection = Connection { io, upstream, reused: true, bound };
        match bound {
            true if done == Done::Next && request.limits.pool_idle_max > 0 => {
                *own = Some(Box::new(OwnConnection::new(connection, keep_alive)));
            }
            true => {}
            false => worker.pool.put(connection, keep_alive, request.limits.pool_idle_max),
        }
    }
    Ok(if done == Done::Next { Complete::Next } else { Complete::Close })
}
