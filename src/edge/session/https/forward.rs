//! A request on its way: which upstream connection it takes, how often it is tried, and what its exchange came to.

use std::net::SocketAddr;

use tokio::time::Instant;

use super::access::outcome;
use super::phase::{Answer, Forward, Phase, Session};
use crate::edge::net::pool::{Connection, Want};
use crate::edge::net::upstream::Dial;
use crate::edge::session::exchange::{self, Complete, Fault, Request};
use crate::http::answer::Problem;
use crate::proxy_protocol::{WRITTEN_BYTES_MAX, header};

impl Session {
    /// Forwards a request, and says what comes next.
    pub(super) async fn forward(&mut self, Forward { request, dial, access }: &Forward) -> Phase {
        let started = access.as_ref().map(|_| Instant::now());
        let end = self.exchange_somewhere(request, *dial).await;
        let status = match &end {
            Err(Fault::Failed(problem, _)) => problem.status(),
            _ => request.status.get(),
        };
        request.tally.responded(status);
        if let (Some(access), Some(started)) = (access, started) {
            access.log(&self.worker, status, outcome(&end), started.elapsed());
        }
        match end {
            Ok(Complete::Upgraded(begun)) => Phase::Over(Some(begun)),
            Ok(Complete::Next) => self.responded(true),
            Ok(Complete::Close) | Err(Fault::Again) => self.responded(false),
            Err(Fault::Failed(problem, found)) => Phase::Answer(Answer::of_upstream(request, problem, found)),
            Err(Fault::Broken) => Phase::Over(None),
            Err(Fault::BrokenOff(problem, found)) => {
                self.note(&Answer::of_upstream(request, problem, found));
                Phase::Over(None)
            }
        }
    }

    async fn exchange_somewhere(&mut self, request: &Request, dial: Dial) -> Result<Complete, Fault> {
        if let Some(connection) = self.own_connection(request) {
            let end = self.exchange(request, connection).await;
            if !matches!(end, Err(Fault::Again)) {
                return end;
            }
            return self.forward_anew(request, dial, true).await;
        }
        self.forward_anew(request, dial, false).await
    }

    /// The upstream connection that is this client's alone, where the request may go there and it is still open.
    fn own_connection(&mut self, request: &Request) -> Option<Connection> {
        // Where a PROXY protocol header belongs, it has none; and a session of Engine.IO stays where it is.
        let chosen = request.route.upstreams.get(request.choice.first);
        let chosen = chosen.filter(|_| request.route.rules.send_proxy_protocol.is_none())?;
        self.own.take_if(|own| own.is_to(chosen))?.usable()
    }

    async fn exchange(&mut self, request: &Request, connection: Connection) -> Result<Complete, Fault> {
        exchange::run(
            &self.worker,
            &mut self.client,
            &mut self.input,
            &mut self.alarm,
            request,
            connection,
            &mut self.own,
        )
        .await
    }

    async fn forward_anew(&mut self, request: &Request, dial: Dial, again: bool) -> Result<Complete, Fault> {
        let preface = self.preface(request);
        let mut want = match (&request.offer, request.repeatable) {
            // What a header says of a connection holds for all of it.
            _ if again || preface.is_some() => Want::New,
            (Some(_), _) => Want::New,
            (None, true) => Want::Repeatable,
            (None, false) => Want::Once,
        };
        loop {
            let connected = self
                .worker
                .pool
                .connect(&request.route.upstreams, request.choice.first, &request.host, want, dial)
                .await;
            let mut connection = match connected {
                Ok(connection) => connection,
                Err((upstream, error)) => {
                    return Err(Fault::Failed(Problem::UpstreamUnreachable, format!("{upstream}: {error}")));
                }
            };
            if let Some(preface) = &preface
                && let Err(error) = connection.io.write_all(preface).await
            {
                return Err(Fault::Failed(Problem::UpstreamClosed, error.to_string()));
            }
            let end = self.exchange(request, connection).await;
            match end {
                Err(Fault::Again) if want != Want::New => want = Want::New,
                end => return end,
            }
        }
    }

    /// The PROXY protocol header that goes before the request, where its route wants one. It names who the request is
    /// from, by the header or the fields of proxies in front that are believed; such a client's port is not known.
    fn preface(&self, request: &Request) -> Option<heapless::Vec<u8, WRITTEN_BYTES_MAX>> {
        let version = request.route.rules.send_proxy_protocol?;
        let port = if request.client == self.peer { self.peer_port } else { 0 };
        Some(header(version, SocketAddr::new(request.client, port), self.client.local_addr().ok()?))
    }
}
