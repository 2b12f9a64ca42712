//! Whether a request passes, and where it goes: the rules of its site and route, one after the other. The first that it breaks is
//! what the edge answers.

use std::net::IpAddr;

use crate::bundle::{Bundle, Redirect, Route, Site};
use crate::http::answer::{self, AnswerForm, Problem};
use crate::http::body::Framing;
use crate::http::forward::{ForwardContext, Plan, client_address};
use crate::http::head::{HeadError, RequestHead};
use crate::names::{Host, Origin, SanName};
use crate::route::{self, Ambiguous};
use crate::ws::handshake::{self, Offer, UpgradeError};
use crate::ws::origin::{self, OriginRefused};

/// The TLS connection that a request came on.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// Its other end.
    pub peer: IpAddr,
    /// The server name of its hello.
    pub name: Option<&'a Host>,
    /// What the certificate that was sent covers.
    pub covered: &'a [SanName],
}

/// A request that the edge answers itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong.
    pub problem: Problem,
    /// What was found, for the log: it may hold text of the client.
    pub found: String,
    /// What to do, for anybody.
    pub check: Option<String>,
    /// The same for the log, where it is not for everybody.
    pub check_inside: Option<String>,
}

impl Refusal {
    /// One whose problem says what to do.
    pub fn new(problem: Problem, found: impl ToString) -> Self {
        Self { problem, found: found.to_string(), check: None, check_inside: None }
    }
}

impl From<HeadError> for Refusal {
    fn from(error: HeadError) -> Self {
        Self::new(error.problem(), error)
    }
}

impl From<Ambiguous> for Refusal {
    fn from(error: Ambiguous) -> Self {
        Self::new(Problem::AmbiguousPath, error)
    }
}

impl From<UpgradeError> for Refusal {
    fn from(error: UpgradeError) -> Self {
        Self::new(error.problem(), error)
    }
}

impl From<OriginRefused> for Refusal {
    fn from(error: OriginRefused) -> Self {
        let OriginRefused { found, remedy, remedy_inside } = error;
        let (check, check_inside) = (Some(remedy), Some(remedy_inside));
        Self { problem: Problem::OriginRefused, found, check, check_inside }
    }
}

/// How an answer of the edge's own is written. `keep_alive`: the connection may carry another request.
pub fn answer_form(head: &RequestHead<'_>, keep_alive: bool) -> AnswerForm {
    // What follows a body or an upgrade that we refuse may be anything but the next head.
    let ends_here = head.framing != Framing::None || head.fields.values("upgrade").next().is_some();
    AnswerForm {
        html: answer::wants_html(head),
        close: ends_here || !keep_alive,
        head_only: head.method == "HEAD",
    }
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub struct Destination<'b> {
    /// Index into [`Bundle::hosts`].
    pub host: usize,
    /// Index into [`Bundle::sites`].
    pub site: usize,
    /// Index into [`Site::routes`].
    pub route: usize,
    /// Its rules.
    pub rules: &'b Route,
    /// Who it is from, by fields of proxies that are believed.
    pub client: IpAddr,
    /// Set for a WebSocket upgrade.
    pub offer: Option<Offer>,
}

/// What becomes of a request that breaks no rule.
#[derive(Clone, Debug)]
pub enum Decision<'b> {
    /// It goes upstream.
    Forward(Destination<'b>),
    /// Its client is sent elsewhere.
    Redirect {
        /// Index into [`Bundle::hosts`].
        host: usize,
        /// Where to.
        to: &'b Redirect,
    },
}

/// What becomes of the request with this head.
///
/// # Errors
/// The first rule that it breaks.
pub fn decide<'b>(
    bundle: &'b Bundle,
    asker: &Asker<'_>,
    head: &RequestHead<'_>,
) -> Result<Decision<'b>, Refusal> {
    let (host, index, site) = site_of(bundle, asker, head)?;
    if let Some(to) = &site.redirect {
        return Ok(Decision::Redirect { host, to });
    }
    let found = route::find(site, head.path.as_bytes())?;
    let (route, rules) = found.ok_or_else(|| Refusal::new(Problem::UnknownPath, head.path))?;
    let client = client_address(asker.peer, head, &bundle.trusted_proxies);
    check_address(rules, client)?;
    check_length(rules, head)?;
    let offer = handshake::request(head, !rules.check_utf8)?;
    if offer.is_some() {
        check_origin(bundle, rules, rules.require_origin, head)?;
    }
    Ok(Decision::Forward(Destination { host, site: index, route, rules, client, offer }))
}

/// The head that goes upstream, in `plan`.
///
/// # Errors
/// The path has no unambiguous form without its route's prefix; or the head is too large for a plan.
pub fn plan(
    bundle: &Bundle,
    peer: IpAddr,
    destination: &Destination<'_>,
    head: &RequestHead<'_>,
    plan: &mut Plan,
) -> Result<(), Refusal> {
    let rules = destination.rules;
    let context = ForwardContext {
        peer,
        trusted_proxies: &bundle.trusted_proxies,
        public_https_port: bundle.listen.public_https_port,
        websocket: destination.offer.is_some(),
        strip_bytes: route::stripped(rules, head.path.as_bytes())?,
        extensions: !rules.check_utf8,
    };
    Ok(plan.make(head, &context)?)
}

/// Checks the Origin of a request to a route of the site of its host.
///
/// # Errors
/// See [`origin::check`].
pub fn check_origin(
    bundle: &Bundle,
    rules: &Route,
    require: bool,
    head: &RequestHead<'_>,
) -> Result<(), OriginRefused> {
    let site = bundle.host(&head.host).map(|entry| entry.site);
    let is_own = |origin: &Origin| site.is_some_and(|site| bundle.is_own_origin(site, origin));
    origin::check(&rules.origins, is_own, require, head)
}

/// The host that is asked for, which is the one that the connection was opened for, and its site.
fn site_of<'b>(
    bundle: &'b Bundle,
    asker: &Asker<'_>,
    head: &RequestHead<'_>,
) -> Result<(usize, usize, &'b Site), Refusal> {
    // RFC 9110 §7.4: what was asked for without TLS is not what is here.
    if head.target.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http:")) {
        return Err(Refusal::new(Problem::Misdirected, "an http: target on a TLS connection"));
    }
    let misdirected = || Refusal::new(Problem::Misdirected, &head.host);
    route::check_host(&head.host, asker.name, asker.covered).map_err(|_| misdirected())?;
    let host = bundle.position(&head.host).ok_or_else(misdirected)?;
    let site = bundle.hosts.get(host).map(|entry| usize::from(entry.site)).ok_or_else(misdirected)?;
    Ok((host, site, bundle.sites.get(site).ok_or_else(misdirected)?))
}

fn check_address(rules: &Route, client: IpAddr) -> Result<(), Refusal> {
    let passes = rules.allow.is_empty() || rules.allow.iter().any(|network| network.contains(&client));
    if passes { Ok(()) } else { Err(Refusal::new(Problem::AddressRefused, client)) }
}

fn check_length(rules: &Route, head: &RequestHead<'_>) -> Result<(), Refusal> {
    match (head.framing, rules.body_bytes_max) {
        (Framing::Length(length), Some(limit)) if length > limit => {
            Err(Refusal::new(Problem::BodyTooLarge, format!("{length} bytes: expected at most {limit}")))
        }
        _ => Ok(()),
    }
}
