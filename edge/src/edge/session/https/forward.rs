//! A request on its way: which upstream connection it takes, how often it is tried, and what its exchange came to.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::access::outcome;
use super::frozen::Waits;
use super::phase::{Answer, Forward, Phase, Session};
use crate::edge::net::pool::Connection;
use crate::edge::net::retry::Want;
use crate::edge::net::upstream::Dial;
use crate::edge::session::exchange::{self, Complete, Fault, Request};
use crate::http::answer::Problem;
use crate::http::forward::Plan;
use crate::proxy_protocol::{WRITTEN_BYTES_MAX, header};

impl Session {
    /// Forwards a request, and says what comes next.
    pub(super) async fn forward(
        &mut self,
        Forward { request, dial, access, resumed }: &mut Forward,
        plan: &Plan,
    ) -> Phase {
        let (connection, waited) = resumed.take().map(|resumed| (resumed.connection, resumed.waited)).unzip();
        let now = access.as_ref().map(|_| Instant::now());
        let started = now.map(|now| now.checked_sub(waited.unwrap_or_default()).unwrap_or(now));
        let end = self.exchange_somewhere(request, plan, *dial, connection).await;
        if let Ok(Complete::Waits(connection)) = &end {
            let waited = started.map_or(Duration::ZERO, |started| started.elapsed());
            let (upstream, access) = (&connection.io, access.as_deref());
            let handed_over = self.hand_over(Some(&Waits { request, upstream, access, waited }));
            return handed_over.map_or(Phase::Close, |()| Phase::Over(None));
        }
        let status = match &end {
            Err(Fault::Failed(problem, _)) => problem.status(),
            _ => request.status.get(),
        };
        request.tally.responded(status);
        if let (Some(access), Some(started)) = (access, started) {
            access.log(&self.worker, status, outcome(&end), started.elapsed());
        }
        match end {
            Ok(Complete::Waits(_)) => Phase::Over(None), // never: see above
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

    async fn exchange_somewhere(
        &mut self,
        request: &Request,
        plan: &Plan,
        dial: Dial,
        resumed: Option<Connection>,
    ) -> Result<Complete, Fault> {
        let preface = self.preface(request);
        let mut own = resumed.or_else(|| self.own_connection(request));
        let mut want = match own {
            Some(_) => Want::Idle,
            None => Want::first(request.repeatable, request.offer.is_some() || preface.is_some()),
        };
        loop {
            let connection = match own.take() {
                Some(connection) => connection,
                None => self.connect(request, want, dial, preface.as_deref()).await?,
            };
            let end = self.exchange(request, plan, connection).await;
            match want.second().filter(|_| matches!(end, Err(Fault::Again))) {
                Some(second) => want = second,
                None => return end,
            }
        }
    }

    /// The upstream connection that is this client's alone, where the request may go there and it is still open.
    fn own_connection(&mut self, request: &Request) -> Option<Connection> {
        // Where a PROXY protocol header belongs, it has none; and a session of Engine.IO stays where it is.
        let chosen = request.route.upstreams.get(request.choice.first);
        let chosen = chosen.filter(|_| request.route.rules.send_proxy_protocol.is_none())?;
        self.own.take_if(|own| own.is_to(chosen))?.usable()
    }

    async fn exchange(
        &mut self,
        request: &Request,
        plan: &Plan,
        connection: Connection,
    ) -> Result<Complete, Fault> {
        exchange::run(
            &self.worker,
            &mut self.client,
            &mut self.input,
            &mut self.alarm,
            (request, plan),
            connection,
            &mut self.own,
        )
        .await
    }

    /// A connection to one of the route's upstreams, on which nothing of the request has been sent.
    async fn connect(
        &self,
        request: &Request,
        want: Want,
        dial: Dial,
        preface: Option<&[u8]>,
    ) -> Result<Connection, Fault> {
        let (upstreams, first) = (&request.route.upstreams, request.choice.first);
        let connected = self.worker.pool.connect(upstreams, first, &request.tally.host, want, dial).await;
        let mut connection = connected.map_err(|(upstream, error)| {
            Fault::Failed(Problem::UpstreamUnreachable, format!("{upstream}: {error}"))
        })?;
        if let Some(preface) = preface {
            let sent = connection.io.write_all(preface).await;
            sent.map_err(|error| Fault::Failed(Problem::UpstreamClosed, error.to_string()))?;
        }
        Ok(connection)
    }

    /// The PROXY protocol header that goes before the request, where its route wants one. It names who the request is
    /// from, by the header or the fields of proxies in front that are believed; such a client's port is not known.
    fn preface(&self, request: &Request) -> Option<heapless::Vec<u8, WRITTEN_BYTES_MAX>> {
        let version = request.route.rules.send_proxy_protocol?;
        let port = if request.client == self.peer { self.peer_port } else { 0 };
        Some(header(version, SocketAddr::new(request.client, port), self.client.local_addr().ok()?))
    }
}
