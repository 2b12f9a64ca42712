//! From a payload to what serving wants, and every rule of the format on the way.

use std::path::Path;
use std::sync::Arc;

use rustls::sign::CertifiedKey;
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};

use super::error::Broken;
use super::payload::{
    Admin, Certificate, HOSTS_MAX, Host, Key, Origin, Payload, ROUTE_UPSTREAMS_MAX, Redirect, Route,
    RouteOrigin, SITE_HEADERS_MAX, SOCKET_PATH_BYTES_MAX, SanName, Site, SiteHeader, TEXT_BYTES_MAX,
    Upstream,
};
use super::value::{
    self, absolute, dns_name, index, ip, link_local, net, nets, ordered, path, port, text, used,
};
use crate::bundle::redirect::circle;
use crate::bundle::{self, Bundle};
use crate::excerpt::Excerpt;
use crate::http::changes::{HSTS_FIELD, LINES_BYTES_MAX, line_bytes};
use crate::limits::{HSTS, RECORD_BYTES_MAX};
use crate::names;

/// Turns a payload into what serving wants, and checks every rule on the way.
pub(crate) fn assemble(payload: &Payload<'_>, digest: [u8; 32]) -> Result<Bundle, Broken> {
    payload.limits.check()?;
    let certificates = certificates(payload)?;
    let hosts = hosts(payload, &certificates)?;
    let pending = pending(payload, &hosts)?;
    used(
        "sites",
        payload.sites.len(),
        hosts.iter().map(|host| host.site).chain(pending.iter().map(|host| host.site)),
    )?;
    payload.drain.check_ranges()?;
    Ok(Bundle {
        board: Excerpt::of(&text("board", payload.board)?),
        listen: listen(payload)?,
        trusted_proxies: nets("trusted_proxies", &payload.trusted_proxies, 1)?,
        exempt: nets("exempt", &payload.exempt, 0)?,
        watch: payload.watch,
        drain: payload.drain,
        suite_order: payload.suite_order,
        post_quantum: payload.post_quantum,
        limits: payload.limits.clone(),
        certificates,
        sites: sites(payload, &hosts)?,
        hosts,
        pending,
        digest,
    })
}

fn listen(payload: &Payload<'_>) -> Result<bundle::Listen, Broken> {
    if payload.https.is_empty() {
        return Err(Broken::Empty { table: "https" });
    }
    let all = || payload.https.iter().chain(payload.http.iter());
    for (at, address) in all().enumerate() {
        if address.port() != 0 && all().take(at).any(|earlier| earlier == address) {
            return Err(Broken::Order { table: "https and http", at });
        }
    }
    let default_host = payload.default_host.map(|host| index("default_host", host, payload.hosts.len()));
    default_host.transpose()?;
    Ok(bundle::Listen {
        https: payload.https.to_vec(),
        http: payload.http.to_vec(),
        admin: payload.admin.map(admin).transpose()?,
        default_host: payload.default_host,
        public_https_port: port("public_https_port", payload.public_https_port)?,
        acme_dir: payload.acme_dir.map(|path| absolute("acme_dir", path, TEXT_BYTES_MAX)).transpose()?,
        challenges: payload
            .challenges
            .map(|path| absolute("challenges", path, TEXT_BYTES_MAX))
            .transpose()?,
        proxy_protocol_from: nets("proxy_protocol_from", &payload.proxy_protocol_from, 1)?,
    })
}

fn admin(admin: Admin<'_>) -> Result<bundle::Admin, Broken> {
    match admin {
        Admin::Unix(path) => Ok(bundle::Admin::Unix(absolute("admin", path, SOCKET_PATH_BYTES_MAX)?)),
        Admin::Tcp(address) if address.ip().to_canonical().is_loopback() => Ok(bundle::Admin::Tcp(address)),
        Admin::Tcp(address) => Err(Broken::Address {
            field: "admin",
            found: address.to_string(),
            expected: "a loopback address",
        }),
    }
}

fn certificates(payload: &Payload<'_>) -> Result<Vec<bundle::Certificate>, Broken> {
    ordered("names", payload.names.iter().map(|row| row.certificate))?;
    for row in payload.names.iter() {
        index("names.certificate", row.certificate, payload.certificates.len())?;
    }
    let certificates =
        payload.certificates.iter().enumerate().map(|(at, certificate)| load(payload, at, certificate));
    certificates.collect()
}

fn load(
    payload: &Payload<'_>,
    at: usize,
    certificate: &Certificate<'_>,
) -> Result<bundle::Certificate, Broken> {
    let label = label(&text("certificates.label", certificate.label)?);
    let names = payload.names.iter().filter(|row| usize::from(row.certificate) == at);
    let names = names.map(|row| row.name.parse()).collect::<Result<Vec<_>, _>>()?;
    if names.is_empty() {
        return Err(Broken::Empty { table: "names" });
    }
    if certificate.not_after < certificate.not_before {
        return Err(Broken::Number {
            field: "certificates.not_after",
            found: certificate.not_after,
            expected: "not_before or later",
        });
    }
    let key = certified_key(certificate)?;
    let (not_before, not_after) = (certificate.not_before, certificate.not_after);
    let source = certificate.source;
    Ok(bundle::Certificate { label, source, names, not_before, not_after, key: Arc::new(key) })
}

fn label(text: &str) -> Excerpt {
    Excerpt::of_path(Path::new(text))
}

/// Copies the chain, hands the key to ring, and checks that they belong together.
fn certified_key(certificate: &Certificate<'_>) -> Result<CertifiedKey, Broken> {
    if certificate.chain.is_empty() || certificate.chain.iter().any(|der| der.is_empty()) {
        return Err(Broken::Empty { table: "certificates.chain" });
    }
    let label = || label(certificate.label);
    let chain = certificate.chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    let key = bundle::load_key(&certificate.key.der())
        .map_err(|error| Broken::Key { certificate: label(), error })?;
    let certified = CertifiedKey::new(chain, key);
    // Every key of ring's has a public half, so that "cannot tell" is an answer we need not forgive.
    certified.keys_match().map_err(|error| Broken::KeyMismatch { certificate: label(), error })?;
    Ok(certified)
}

impl Key<'_> {
    pub(super) fn der(&self) -> PrivateKeyDer<'_> {
        match *self {
            Self::Pkcs8(der) => PrivatePkcs8KeyDer::from(der).into(),
            Self::Sec1(der) => PrivateSec1KeyDer::from(der).into(),
            Self::Pkcs1(der) => PrivatePkcs1KeyDer::from(der).into(),
        }
    }
}

impl SanName<'_> {
    fn parse(self) -> Result<names::SanName, Broken> {
        match self {
            Self::Exact(name) => dns_name("names.name", name).map(names::SanName::Exact),
            Self::Ip(address) => ip("names.name", address).map(names::SanName::Ip),
            Self::Wildcard(rest) => {
                let rest = dns_name("names.name", rest)?;
                names::SanName::parse_dns(&format!("*.{rest}"))
                    .map_err(|error| Broken::Name { field: "names.name", error })
            }
        }
    }
}

impl Host<'_> {
    fn parse(self, field: &'static str) -> Result<names::Host, Broken> {
        match self {
            Self::Dns(name) => dns_name(field, name).map(names::Host::Dns),
            Self::Ip(address) => ip(field, address).map(names::Host::Ip),
        }
    }
}

fn hosts(
    payload: &Payload<'_>,
    certificates: &[bundle::Certificate],
) -> Result<Vec<bundle::HostEntry>, Broken> {
    if payload.hosts.is_empty() && payload.pending.is_empty() {
        return Err(Broken::Empty { table: "hosts" });
    }
    let mut hosts = Vec::<bundle::HostEntry>::with_capacity(payload.hosts.len());
    for (at, row) in payload.hosts.iter().enumerate() {
        let host = row.host.parse("hosts.host")?;
        if hosts.last().is_some_and(|last| last.host >= host) {
            return Err(Broken::Order { table: "hosts", at });
        }
        index("hosts.site", row.site, payload.sites.len())?;
        covered(&host, row.certificate, certificates)?;
        hosts.push(bundle::HostEntry { host, site: row.site, certificate: row.certificate });
    }
    used("certificates", certificates.len(), hosts.iter().map(|host| host.certificate))?;
    Ok(hosts)
}

fn pending(payload: &Payload<'_>, hosts: &[bundle::HostEntry]) -> Result<Vec<bundle::PendingHost>, Broken> {
    let mut pending = Vec::<bundle::PendingHost>::with_capacity(payload.pending.len());
    for (at, row) in payload.pending.iter().enumerate() {
        let host = row.host.parse("pending.host")?;
        let is_served = hosts.binary_search_by(|entry| entry.host.cmp(&host)).is_ok();
        if is_served || pending.last().is_some_and(|last| last.host >= host) {
            return Err(Broken::Order { table: "pending", at });
        }
        index("pending.site", row.site, payload.sites.len())?;
        pending.push(bundle::PendingHost { host, site: row.site });
    }
    if hosts.len() + pending.len() > HOSTS_MAX {
        return Err(Broken::TooMany { table: "hosts", found: hosts.len() + pending.len(), max: HOSTS_MAX });
    }
    Ok(pending)
}

fn covered(host: &names::Host, at: u16, certificates: &[bundle::Certificate]) -> Result<(), Broken> {
    let certificate = certificates.get(usize::from(at));
    let out_of_range =
        Broken::Index { field: "hosts.certificate", index: at.into(), len: certificates.len() };
    let certificate = certificate.ok_or(out_of_range)?;
    if certificate.names.iter().any(|name| name.covers(host)) {
        return Ok(());
    }
    Err(Broken::NotCovered {
        host: host.to_string(),
        certificate: certificate.label.clone(),
        names: certificate.names.iter().map(ToString::to_string).collect(),
    })
}

fn sites(payload: &Payload<'_>, hosts: &[bundle::HostEntry]) -> Result<Vec<bundle::Site>, Broken> {
    ordered("upstreams", payload.upstreams.iter().map(|row| row.route))?;
    let site_first =
        |row: &RouteOrigin<'_>| row.route.saturating_mul(2).saturating_add(u16::from(!row.of_site));
    ordered("origins", payload.origins.iter().map(site_first))?;
    ordered("allow", payload.allow.iter().map(|row| row.route))?;
    check_routes(payload)?;
    let mut sites = payload.sites.iter().map(site).collect::<Result<Vec<_>, _>>()?;
    for (at, row) in payload.routes.iter().enumerate() {
        let route = route(payload, at, row)?;
        if let Some(site) = sites.get_mut(usize::from(row.site)) {
            site.routes.push(route);
        }
    }
    headers(payload, &mut sites)?;
    check_redirects(payload, &sites, hosts)?;
    Ok(sites)
}

fn site(row: &Site<'_>) -> Result<bundle::Site, Broken> {
    if let Some(seconds) = row.hsts_s {
        HSTS.check(u64::from(seconds) * 1000)?;
    }
    if let Some(bytes) = row.record_bytes_max {
        RECORD_BYTES_MAX.check(bytes.into())?;
    }
    let redirect = |to: &Redirect<'_>| {
        let (host, port) = (to.host.parse("redirect.host")?, port("redirect.port", to.port)?);
        Ok::<_, Broken>(bundle::Redirect { host, port, path: value::redirect_path(to.path)? })
    };
    let redirect = row.redirect.as_ref().map(redirect).transpose()?;
    let Site { hsts_s, record_bytes_max, access_log, .. } = *row;
    Ok(bundle::Site { redirect, hsts_s, record_bytes_max, access_log, ..bundle::Site::default() })
}

/// Gives each site its fields.
fn headers(payload: &Payload<'_>, sites: &mut [bundle::Site]) -> Result<(), Broken> {
    let key = |row: &SiteHeader<'_>| (row.site, row.name.to_ascii_lowercase());
    let rows = &payload.headers;
    if let Some(at) = (1..rows.len()).find(|at| rows.get(at - 1).map(key) >= rows.get(*at).map(key)) {
        return Err(Broken::Order { table: "headers", at });
    }
    for row in rows.iter() {
        index("headers.site", row.site, payload.sites.len())?;
        let Some(site) = sites.get_mut(usize::from(row.site)) else { continue };
        let is_hsts = site.hsts_s.is_some() && row.name.eq_ignore_ascii_case(HSTS_FIELD);
        site.headers.push(value::header(row.name, row.value, is_hsts)?);
    }
    for site in sites {
        let bytes = site.headers.iter().filter_map(|h| Some(line_bytes(&h.name, h.value.as_ref()?)));
        for (table, found, max) in [
            ("headers of a site", site.headers.len(), SITE_HEADERS_MAX),
            ("bytes of headers of a site", bytes.sum(), LINES_BYTES_MAX),
        ] {
            if found > max {
                return Err(Broken::TooMany { table, found, max });
            }
        }
    }
    Ok(())
}

/// A site has routes or redirects, and no redirect comes back.
fn check_redirects(
    payload: &Payload<'_>,
    sites: &[bundle::Site],
    hosts: &[bundle::HostEntry],
) -> Result<(), Broken> {
    if let Some(at) = sites.iter().position(|site| site.routes.is_empty() == site.redirect.is_none()) {
        return Err(Broken::Unused { table: "sites", at });
    }
    if let Some(at) = sites.iter().position(|site| site.access_log && site.redirect.is_none()) {
        return Err(Broken::Unused { table: "sites", at });
    }
    let leads_to = |site: &bundle::Site| {
        let to = site.redirect.as_ref().filter(|to| to.port == payload.public_https_port)?;
        hosts.iter().find(|entry| entry.host == to.host).map(|entry| usize::from(entry.site))
    };
    match circle(&sites.iter().map(leads_to).collect::<Vec<_>>()) {
        Some(circle) => Err(Broken::RedirectLoop { site: circle.first().copied().unwrap_or_default() }),
        None => Ok(()),
    }
}

/// Order of routes, and indexes into and out of them.
fn check_routes(payload: &Payload<'_>) -> Result<(), Broken> {
    let mut before = (0, std::cmp::Reverse(usize::MAX));
    for (at, row) in payload.routes.iter().enumerate() {
        let order = (row.site, std::cmp::Reverse(row.path.len()));
        let mut earlier = payload.routes.iter().take(at);
        if order < before || earlier.any(|other| (other.site, other.path) == (row.site, row.path)) {
            return Err(Broken::Order { table: "routes", at });
        }
        before = order;
    }
    let routes = payload.routes.len();
    payload.routes.iter().try_for_each(|row| index("routes.site", row.site, payload.sites.len()))?;
    payload.upstreams.iter().try_for_each(|row| index("upstreams.route", row.route, routes))?;
    payload.origins.iter().try_for_each(|row| index("origins.route", row.route, routes))?;
    payload.allow.iter().try_for_each(|row| index("allow.route", row.route, routes))
}

fn route(payload: &Payload<'_>, at: usize, row: &Route<'_>) -> Result<bundle::Route, Broken> {
    let of = |route: u16| usize::from(route) == at;
    let origins = || payload.origins.iter().filter(|row| of(row.route));
    let of_site = origins().take_while(|row| row.of_site).count();
    let allow = payload.allow.iter().filter(|row| of(row.route)).map(|row| net("allow", row.net, 0));
    row.rules.check_ranges()?;
    Ok(bundle::Route {
        path: path(row.path)?,
        strip_prefix: row.strip_prefix,
        upstreams: upstreams(payload, at)?,
        origins: bundle::Origins {
            own: row.own_origins,
            any: row.any_origin,
            null: row.null_origin,
            list: origins().map(|row| origin(row.origin)).collect::<Result<_, _>>()?,
            of_site: u16::try_from(of_site).unwrap_or(u16::MAX),
        },
        allow: allow.collect::<Result<_, _>>()?,
        rules: row.rules,
    })
}

fn upstreams(payload: &Payload<'_>, at: usize) -> Result<Vec<bundle::Upstream>, Broken> {
    let rows = payload.upstreams.iter().filter(|row| usize::from(row.route) == at);
    let upstreams = rows.map(|row| upstream(row.upstream)).collect::<Result<Vec<_>, _>>()?;
    match upstreams.len() {
        0 => Err(Broken::Empty { table: "upstreams" }),
        1..=ROUTE_UPSTREAMS_MAX => Ok(upstreams),
        found => Err(Broken::TooMany { table: "upstreams of a route", found, max: ROUTE_UPSTREAMS_MAX }),
    }
}

fn upstream(upstream: Upstream<'_>) -> Result<bundle::Upstream, Broken> {
    const FIELD: &str = "upstreams.upstream";
    match upstream {
        Upstream::Address(address) => {
            port(FIELD, address.port())?;
            Ok(bundle::Upstream::Address(address))
        }
        Upstream::Name(host, number) => Ok(bundle::Upstream::Name {
            host: dns_name(FIELD, host)?.to_string(),
            port: port(FIELD, number)?,
        }),
        Upstream::Unix(path) => absolute(FIELD, path, SOCKET_PATH_BYTES_MAX).map(bundle::Upstream::Unix),
        Upstream::Zoned(ip, zone, number) => Ok(bundle::Upstream::Zoned {
            ip: link_local(FIELD, ip)?,
            zone: value::zone(FIELD, zone)?,
            port: port(FIELD, number)?,
        }),
    }
}

fn origin(origin: Origin<'_>) -> Result<names::Origin, Broken> {
    match origin {
        Origin::Web(scheme, host, number) => {
            let (host, port) = (host.parse("origins.host")?, port("origins.port", number)?);
            Ok(names::Origin::Web { scheme, host, port })
        }
        Origin::Other(text) => match names::Origin::parse(text) {
            Ok(other @ names::Origin::Other(_)) => Ok(other),
            _ => {
                let expected = "an origin whose scheme is none of https, http, wss and ws";
                Err(Broken::Text { field: "origins.origin", found: Excerpt::of(text), expected })
            }
        },
    }
}
