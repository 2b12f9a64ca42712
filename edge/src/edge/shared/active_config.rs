//! A bundle in use: what a session asks of it, and the keys that are still in memory.

use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rustls::sign::CertifiedKey;

use crate::bundle::{Bundle, Route, Site};
use crate::decision::Destination;
use crate::edge::shared::tickets::Tickets;
use crate::edge::shared::tls_config::{Configs, SuitePreference};
use crate::edge::shared::upstreams::{UpstreamState, Upstreams};
use crate::http::changes::FieldChanges;
use crate::http::head::HeadLimits;
use crate::names::{Host, SanName};
use crate::ops::metrics::{HostTallies, HostTally};

/// A bundle in use: everything that a session asks of it.
pub struct ActiveConfig {
    /// The bundle that it was made from.
    pub bundle: Bundle,
    pub(crate) head_limits: HeadLimits,
    pub(crate) response_head_limits: HeadLimits,
    /// By certificate.
    tls: Vec<Arc<Configs>>,
    covered: Vec<Arc<[SanName]>>,
    /// By site and route.
    pub routes: Vec<Vec<Arc<RouteState>>>,
    /// By site.
    sites: Vec<SiteState>,
    /// By host.
    pub tallies: Vec<Arc<HostTally>>,
}

/// What a site has besides its routes.
#[derive(Debug)]
struct SiteState {
    changes: Option<Arc<FieldChanges>>,
    /// Says that a client asks for a WebSocket where it is redirected.
    redirected_news: OncePerMinute,
}

/// A route with its upstreams; outlives its bundle while an exchange uses it.
#[derive(Debug)]
pub struct RouteState {
    /// The route's rules in the bundle.
    pub rules: Route,
    /// Its upstreams, in the order of sanedge.toml.
    pub upstreams: Vec<Arc<UpstreamState>>,
    /// What its site changes in the fields of responses.
    pub(crate) changes: Option<Arc<FieldChanges>>,
    /// Whose turn it is to open a session.
    pub(crate) turn: AtomicUsize,
    /// The last answer to a handshake told no sid that we could read.
    pub(crate) sid_unread: AtomicBool,
    /// Says that.
    pub(crate) unread_sid_news: OncePerMinute,
    /// Says that a page of an origin that is not listed polls here.
    pub(crate) foreign_news: OncePerMinute,
}

impl SiteState {
    fn new(site: &Site) -> Self {
        Self { changes: site.field_changes().map(Arc::new), redirected_news: OncePerMinute::default() }
    }
}

impl RouteState {
    pub(crate) fn new(
        rules: Route,
        upstreams: Vec<Arc<UpstreamState>>,
        changes: Option<Arc<FieldChanges>>,
    ) -> Self {
        Self {
            rules,
            upstreams,
            changes,
            turn: AtomicUsize::new(0),
            sid_unread: AtomicBool::new(false),
            unread_sid_news: OncePerMinute::default(),
            foreign_news: OncePerMinute::default(),
        }
    }
}

/// For a log line that clients can cause at will.
#[derive(Debug, Default)]
pub(crate) struct OncePerMinute(AtomicU64);

impl OncePerMinute {
    /// Whether it is due, `uptime` after the start; then it is taken as said.
    pub(crate) fn is_due(&self, uptime: Duration) -> bool {
        let minute = uptime.as_secs() / 60 + 1;
        self.0.swap(minute, Relaxed) != minute
    }
}

/// Who a TLS connection was opened for.
pub(crate) struct Identity {
    /// The server name of the hello. Boxed: a name is 264 bytes.
    pub(crate) name: Option<Box<Host>>,
    /// What the certificate that was sent covers.
    pub(crate) covered: Arc<[SanName]>,
}

impl ActiveConfig {
    /// Makes TLS configurations for the bundle's certificates, and takes over the state of upstreams and hosts that stay.
    ///
    /// # Errors
    /// A key that rustls does not take.
    pub fn new(
        bundle: Bundle,
        upstreams: &Upstreams,
        tickets: &Arc<Tickets>,
        tallies: &HostTallies,
    ) -> Result<Self, rustls::Error> {
        let preference = SuitePreference::choose(bundle.suite_order);
        let post_quantum = bundle.post_quantum;
        let tls = bundle.certificates.iter().map(|certificate| {
            Configs::new(&certificate.key, preference, post_quantum, tickets).map(Arc::new)
        });
        let sites: Vec<_> = bundle.sites.iter().map(SiteState::new).collect();
        let state = |rules: &Route, changes: &Option<Arc<FieldChanges>>| {
            let upstreams = rules.upstreams.iter().map(|upstream| upstreams.state(upstream)).collect();
            Arc::new(RouteState::new(rules.clone(), upstreams, changes.clone()))
        };
        let routes =
            bundle.sites.iter().zip(&sites).map(|(site, of_site)| {
                site.routes.iter().map(|rules| state(rules, &of_site.changes)).collect()
            });
        Ok(Self {
            tls: tls.collect::<Result<_, _>>()?,
            covered: bundle
                .certificates
                .iter()
                .map(|certificate| certificate.names.as_slice().into())
                .collect(),
            tallies: bundle.hosts.iter().map(|entry| tallies.of(&entry.host)).collect(),
            routes: routes.collect(),
            sites,
            response_head_limits: HeadLimits {
                head_bytes_max: bundle.limits.response_head_bytes_max as usize,
                fields_max: bundle.limits.response_fields_max.into(),
                target_bytes_max: 0, // has none
            },
            head_limits: HeadLimits {
                head_bytes_max: bundle.limits.head_bytes_max as usize,
                fields_max: bundle.limits.fields_max.into(),
                target_bytes_max: bundle.limits.target_bytes_max as usize,
            },
            bundle,
        })
    }

    /// For a hello with this server name, or without one: configuration, identity, and `record_bytes_max` if its site sets it.
    pub(crate) fn identify(&self, name: Option<&str>) -> Option<(Arc<Configs>, Identity, Option<u16>)> {
        let name = name.map(Host::parse).transpose().ok()?;
        let entry = match &name {
            Some(name) => self.bundle.host(name),
            None => {
                self.bundle.listen.default_host.and_then(|index| self.bundle.hosts.get(usize::from(index)))
            }
        }?;
        let certificate = usize::from(entry.certificate);
        let config = Arc::clone(self.tls.get(certificate)?);
        let covered = Arc::clone(self.covered.get(certificate)?);
        let record_bytes_max = self.bundle.sites.get(usize::from(entry.site))?.record_bytes_max;
        Some((config, Identity { name: name.map(Box::new), covered }, record_bytes_max))
    }

    /// Whether no limit by address holds for `address`.
    pub(crate) fn is_exempt(&self, address: &IpAddr) -> bool {
        self.bundle.exempt.iter().any(|network| network.contains(address))
    }

    /// Whether others come through `address`, so that its connections are not one client's.
    pub(crate) fn is_proxy(&self, address: &IpAddr) -> bool {
        let proxies = self.bundle.trusted_proxies.iter().chain(&self.bundle.listen.proxy_protocol_from);
        proxies.into_iter().any(|network| network.contains(address))
    }

    /// The tally of a host.
    pub(crate) fn tally(&self, host: usize) -> Option<&Arc<HostTally>> {
        self.tallies.get(host)
    }

    /// The route of a destination in this bundle.
    pub(crate) fn route(&self, destination: &Destination<'_>) -> Option<&Arc<RouteState>> {
        self.routes.get(destination.site)?.get(destination.route)
    }

    /// The upstreams of all routes.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<UpstreamState>> {
        self.routes.iter().flatten().flat_map(|route| &route.upstreams)
    }

    /// What the site of a host changes in the fields of its responses.
    pub(crate) fn changes(&self, host: &Host) -> Option<Arc<FieldChanges>> {
        self.site_state(host)?.changes.clone()
    }

    /// Whether it is due to say that clients ask for WebSockets at a host that redirects; then it is taken as said.
    pub(crate) fn redirected_is_news(&self, host: &Host, uptime: Duration) -> bool {
        self.site_state(host).is_some_and(|site| site.redirected_news.is_due(uptime))
    }

    fn site_state(&self, host: &Host) -> Option<&SiteState> {
        self.sites.get(usize::from(self.bundle.host(host)?.site))
    }

    /// The site of a host, with its routes in the same order.
    pub(crate) fn site(&self, host: &Host) -> Option<(&Site, &[Arc<RouteState>])> {
        let index = usize::from(self.bundle.host(host)?.site);
        Some((self.bundle.sites.get(index)?, self.routes.get(index)?))
    }
}

/// Every private key that was ever in use, to tell whether one is still in memory.
/// A mutex, taken by reloads and `status`.
#[derive(Debug, Default)]
pub struct Keys(Mutex<Vec<Weak<CertifiedKey>>>);

impl Keys {
    /// Adds the keys of a bundle that is taken into use.
    pub fn note(&self, bundle: &Bundle) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|key| key.strong_count() > 0);
        keys.extend(bundle.certificates.iter().map(|certificate| Arc::downgrade(&certificate.key)));
    }

    /// How many of them are in memory.
    pub fn alive(&self) -> usize {
        let keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.iter().filter(|key| key.strong_count() > 0).count()
    }
}
