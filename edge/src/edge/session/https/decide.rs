//! What becomes of a request: the rules of its route are the core's ([`decision`]); rates, upstreams and counters are here.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use super::access::Access;
use super::phase::{Answer, Forward, Phase, Says, Session};
use crate::bundle::{Redirect, Route};
use crate::decision::{self, Asker, Decision, Refusal};
use crate::edge::net::upstream::Dial;
use crate::edge::session::exchange::{ExchangeLimits, Request};
use crate::edge::session::machine::Surroundings;
use crate::edge::session::pace::Pace;
use crate::edge::shared::active_config::{ActiveConfig, RouteState};
use crate::engineio::Asks;
use crate::http::answer::Problem;
use crate::http::changes::FieldChanges;
use crate::http::forward::{Plan, client_address, origin_form};
use crate::http::head::{HeadScanner, Known, RequestHead, RequestLines, parse_scanned_request};
use crate::ops::log::Said;
use crate::ops::metrics::Reason;
use crate::route;

impl Session {
    /// Decides where the request at the front of the input goes, by the bundle of this moment.
    pub(super) fn decide(&mut self, active: &ActiveConfig, scanner: &HeadScanner, plan: &mut Plan) -> Phase {
        self.requests = self.requests.saturating_add(1);
        let all = self.input.all();
        let head_bytes = scanner.end().unwrap_or(all.len());
        let mut lines = RequestLines::new();
        let head = parse_scanned_request(all.get(..head_bytes).unwrap_or_default(), scanner, &mut lines);
        let phase = match head {
            Ok(head) => self.decide_head(active, head_bytes, &head, plan),
            Err(error) => Phase::Answer(Answer::closing(error.into(), self.named_changes(active))),
        };
        self.worker.shared.counters.exchanges_total.increment();
        if self.is_last_request(active) {
            self.worker.shared.count(Reason::Requests);
        }
        self.newcomer_until = None;
        self.input.consume(head_bytes);
        phase
    }

    /// The one with which `requests_max` is reached.
    fn is_last_request(&self, active: &ActiveConfig) -> bool {
        let most = active.bundle.limits.requests_max;
        most != 0 && self.requests >= most
    }

    fn decide_head(
        &self,
        active: &ActiveConfig,
        head_bytes: usize,
        head: &RequestHead<'_>,
        plan: &mut Plan,
    ) -> Phase {
        let keep_alive = head.keep_alive && !self.is_last_request(active);
        match self.request(active, (head_bytes, keep_alive), head, plan) {
            Ok(request) => {
                let access = request.route.rules.access_log.then(|| Access::new(head, request.client));
                Phase::Forward(Forward { request, dial: dial(active), access, resumed: None })
            }
            Err(says) => {
                let form = decision::answer_form(head, keep_alive && self.worker.keeps_connections());
                let changes = self.answer_changes(active, head, &says);
                Phase::Answer(Answer { says, form, changes, access: self.refused_access(active, head) })
            }
        }
    }

    fn request(
        &self,
        active: &ActiveConfig,
        (head_bytes, keep_alive): (usize, bool),
        head: &RequestHead<'_>,
        plan: &mut Plan,
    ) -> Result<Request, Says> {
        let name = self.identity.name.as_deref();
        let asker = Asker { peer: self.peer, name, covered: &self.identity.covered };
        let destination = match decision::decide(&active.bundle, &asker, head)? {
            Decision::Forward(destination) => destination,
            Decision::Redirect { host, to } => return Err(self.redirect(active, host, to, head)),
        };
        let route = active.route(&destination);
        let (Some(route), Some(tally)) = (route, active.tally(destination.host)) else {
            return Err(Refusal::new(Problem::Misdirected, &head.host).into()); // never: what the bundle has, they have
        };
        match destination.offer {
            Some(_) => self.check_rate(active, destination.client)?,
            None => self.foresee(active, route, head),
        }
        decision::plan(&active.bundle, self.peer, &destination, head, plan)?;
        let choice = self.worker.shared.sids.choose(route, head, destination.client, Instant::now());
        let limits = exchange_limits(active, &route.rules);
        let (request, to) = ((head_bytes, keep_alive), (route, choice));
        Ok(Request::new(head, request, destination, to, tally, limits))
    }

    /// WebSocket clients do not follow it, browsers never: the log names the URL that they need.
    fn redirect(&self, active: &ActiveConfig, host: usize, to: &Redirect, head: &RequestHead<'_>) -> Says {
        active.tally(host).into_iter().for_each(|tally| tally.responded(308));
        let is_websocket = head.fields.known(|known| known == Known::Upgrade).next().is_some();
        if is_websocket && active.redirected_is_news(&head.host, self.worker.shared.uptime()) {
            let wss = to.to_string().replacen("https", "wss", 1);
            let check = format!("WebSocket clients do not follow redirects: let this one connect to {wss}");
            info!(host = %head.host, peer = %self.peer, check, "a client requested a WebSocket from a host that redirects");
        }
        Says::Redirect(format!("{to}{}", origin_form(head)))
    }

    /// What the site of an answer of ours adds to it. A 421 is not an answer of any site.
    fn answer_changes(
        &self,
        active: &ActiveConfig,
        head: &RequestHead<'_>,
        says: &Says,
    ) -> Option<Arc<FieldChanges>> {
        match says {
            Says::Refused(refusal) if refusal.problem == Problem::Misdirected => None,
            _ => active.changes(&head.host),
        }
    }

    /// The same where no request could be read: of the name that the connection was opened for.
    pub(super) fn named_changes(&self, active: &ActiveConfig) -> Option<Arc<FieldChanges>> {
        active.changes(self.identity.name.as_deref()?)
    }

    fn check_rate(&self, active: &ActiveConfig, client: IpAddr) -> Result<(), Refusal> {
        match self.worker.shared.may_upgrade(active, client) {
            true => Ok(()),
            false => Err(Refusal::new(Problem::TooManyRequests, "address_websockets_per_s_max reached")),
        }
    }

    /// For a request that gets no further: by its route, where it has none by any of its site's, or by its site that redirects. Where no site has its
    /// host it is of the one that the connection was opened for.
    fn refused_access(&self, active: &ActiveConfig, head: &RequestHead<'_>) -> Option<Box<Access>> {
        let named = || active.site(self.identity.name.as_deref()?);
        let (site, routes) = active.site(&head.host).or_else(named)?;
        let route = route::find(site, head.path.as_bytes()).ok().flatten().and_then(|(at, _)| routes.get(at));
        let is_wanted = match route {
            Some(route) => route.rules.access_log,
            None => site.access_log || routes.iter().any(|route| route.rules.access_log),
        };
        let client = || client_address(self.peer, head, &active.bundle.trusted_proxies);
        is_wanted.then(|| Access::new(head, client()))
    }

    /// A page that opens a session by polling wants a WebSocket next. That its origin will be refused then is said here,
    /// once a minute for each route: polling alone works, and nobody would look for the reason.
    fn foresee(&self, active: &ActiveConfig, route: &RouteState, head: &RequestHead<'_>) {
        // Pages of the site's own origin name none where they poll: most requests end here.
        if head.fields.known(|known| known == Known::Origin).next().is_none() || Asks::of(head) != Asks::Open
        {
            return;
        }
        let Err(error) = decision::check_origin(&active.bundle, &route.rules, false, head) else { return };
        if route.foreign_news.is_due(self.worker.shared.uptime()) {
            let (found, check) = (Said(&error.found), error.remedy_inside);
            info!(host = %head.host, peer = %self.peer, %found, check, "this page may poll, but its WebSocket will be refused");
        }
    }
}

pub(super) fn dial(active: &ActiveConfig) -> Dial {
    let limits = &active.bundle.limits;
    let time = Duration::from_millis(limits.connect_timeout_ms.into());
    Dial { time, socket_buffer_bytes: limits.socket_buffer_bytes as usize }
}

pub(super) fn exchange_limits(active: &ActiveConfig, rules: &Route) -> ExchangeLimits {
    ExchangeLimits {
        head: active.head_limits,
        response_head: active.response_head_limits,
        pace: Pace::of(&active.bundle.limits),
        pool_idle_max: match rules.send_proxy_protocol {
            Some(_) => 0, // it was this client's alone
            None => active.bundle.limits.pool_idle_max.into(),
        },
    }
}
