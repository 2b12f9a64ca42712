//! From a bundle and its keys to the payload of its file.

use std::path::Path;

use ipnet::IpNet;
use rustls_pki_types::PrivateKeyDer;

use super::error::EncodeError;
use super::payload::{
    Admin, CERTIFICATES_MAX, Certificate, CertificateName, Host, HostEntry, Key, Net, Origin, Payload,
    PendingHost, Redirect, Route, RouteNet, RouteOrigin, RouteUpstream, SanName, Site, SiteHeader, Table,
    Upstream,
};
use crate::bundle::{self, Bundle};
use crate::names;

impl<'a> Payload<'a> {
    /// Lays a bundle out as it lies in the file; `keys` are those of its certificates, in the same order.
    ///
    /// Hosts must be sorted, and routes longest path first, as [`Bundle`] says.
    ///
    /// # Errors
    /// Where a table has no room, or a value no form in the file.
    pub fn of(bundle: &'a Bundle, keys: &'a [PrivateKeyDer<'_>]) -> Result<Self, EncodeError> {
        let listen = &bundle.listen;
        let routes = || {
            bundle.sites.iter().zip(0_u16..).flat_map(|(site, at)| site.routes.iter().map(move |r| (at, r)))
        };
        let numbered = || routes().map(|(_, route)| route).zip(0_u16..);
        Ok(Self {
            board: &bundle.board,
            https: table("https listeners", listen.https.iter().copied())?,
            http: table("http listeners", listen.http.iter().copied())?,
            admin: listen.admin.as_ref().map(Admin::of).transpose()?,
            default_host: listen.default_host,
            public_https_port: listen.public_https_port,
            acme_dir: listen.acme_dir.as_deref().map(|path| utf8("acme_dir", path)).transpose()?,
            challenges: listen.challenges.as_deref().map(|path| utf8("challenges", path)).transpose()?,
            proxy_protocol_from: table(
                "networks in proxy_protocol_from",
                listen.proxy_protocol_from.iter().map(Net::of),
            )?,
            trusted_proxies: table(
                "networks in trusted_proxies",
                bundle.trusted_proxies.iter().map(Net::of),
            )?,
            exempt: table("networks in exempt", bundle.exempt.iter().map(Net::of))?,
            watch: bundle.watch,
            drain: bundle.drain,
            suite_order: bundle.suite_order,
            post_quantum: bundle.post_quantum,
            limits: bundle.limits.clone(),
            certificates: Certificate::all(bundle, keys)?,
            names: table(
                "certificate names",
                bundle.certificates.iter().zip(0..).flat_map(|(certificate, at)| {
                    certificate
                        .names
                        .iter()
                        .map(move |name| CertificateName { certificate: at, name: SanName::of(name) })
                }),
            )?,
            sites: table("sites", bundle.sites.iter().map(Site::of))?,
            hosts: table("hosts", bundle.hosts.iter().map(HostEntry::of))?,
            pending: table(
                "hosts",
                bundle.pending.iter().map(|p| PendingHost { host: Host::of(&p.host), site: p.site }),
            )?,
            routes: table("routes", routes().map(|(site, route)| Route::of(site, route)))?,
            upstreams: collect(
                "upstreams",
                numbered().flat_map(|(route, at)| {
                    route.upstreams.iter().map(move |upstream| RouteUpstream::of(at, upstream))
                }),
            )?,
            origins: table(
                "origins",
                numbered().flat_map(|(route, at)| {
                    let of_site = route.origins.of_site().len();
                    let numbered = route.origins.list.iter().enumerate();
                    numbered.map(move |(n, origin)| RouteOrigin {
                        route: at,
                        of_site: n < of_site,
                        origin: Origin::of(origin),
                    })
                }),
            )?,
            allow: table(
                "networks in allow",
                numbered().flat_map(|(route, at)| {
                    route.allow.iter().map(move |net| RouteNet { route: at, net: Net::of(net) })
                }),
            )?,
            headers: table(
                "response fields",
                bundle
                    .sites
                    .iter()
                    .zip(0_u16..)
                    .flat_map(|(site, at)| site.headers.iter().map(move |header| SiteHeader::of(at, header))),
            )?,
        })
    }
}

impl<'a> Certificate<'a> {
    fn all(
        bundle: &'a Bundle,
        keys: &'a [PrivateKeyDer<'_>],
    ) -> Result<Table<Self, CERTIFICATES_MAX>, EncodeError> {
        let certificates = &bundle.certificates;
        if keys.len() != certificates.len() {
            return Err(EncodeError::Keys { keys: keys.len(), certificates: certificates.len() });
        }
        collect(
            "certificates",
            certificates.iter().zip(keys).map(|(certificate, key)| Self::of(certificate, key)),
        )
    }

    fn of(certificate: &'a bundle::Certificate, key: &'a PrivateKeyDer<'_>) -> Result<Self, EncodeError> {
        let form = || EncodeError::KeyForm { certificate: certificate.label.clone() };
        Ok(Self {
            label: &certificate.label,
            source: certificate.source,
            chain: table("certificates in one chain", certificate.key.cert.iter().map(AsRef::as_ref))?,
            key: Key::of(key).ok_or_else(form)?,
            not_before: certificate.not_before,
            not_after: certificate.not_after,
        })
    }
}

impl<'a> Key<'a> {
    fn of(key: &'a PrivateKeyDer<'_>) -> Option<Self> {
        match key {
            PrivateKeyDer::Pkcs8(der) => Some(Self::Pkcs8(der.secret_pkcs8_der())),
            PrivateKeyDer::Sec1(der) => Some(Self::Sec1(der.secret_sec1_der())),
            PrivateKeyDer::Pkcs1(der) => Some(Self::Pkcs1(der.secret_pkcs1_der())),
            _ => None,
        }
    }
}

impl<'a> Admin<'a> {
    fn of(admin: &'a bundle::Admin) -> Result<Self, EncodeError> {
        match admin {
            bundle::Admin::Unix(path) => utf8("admin", path).map(Self::Unix),
            bundle::Admin::Tcp(address) => Ok(Self::Tcp(*address)),
        }
    }
}

impl Net {
    fn of(net: &IpNet) -> Self {
        Self { address: net.addr(), prefix: net.prefix_len() }
    }
}

impl<'a> SanName<'a> {
    fn of(name: &'a names::SanName) -> Self {
        match name {
            names::SanName::Exact(name) => Self::Exact(name.as_str()),
            names::SanName::Wildcard(rest) => Self::Wildcard(rest.as_str()),
            names::SanName::Ip(address) => Self::Ip(*address),
        }
    }
}

impl<'a> HostEntry<'a> {
    fn of(entry: &'a bundle::HostEntry) -> Self {
        Self { host: Host::of(&entry.host), site: entry.site, certificate: entry.certificate }
    }
}

impl<'a> Site<'a> {
    fn of(site: &'a bundle::Site) -> Self {
        let redirect =
            |to: &'a bundle::Redirect| Redirect { host: Host::of(&to.host), port: to.port, path: &to.path };
        Self {
            redirect: site.redirect.as_ref().map(redirect),
            hsts_s: site.hsts_s,
            record_bytes_max: site.record_bytes_max,
            access_log: site.access_log,
        }
    }
}

impl<'a> SiteHeader<'a> {
    fn of(site: u16, header: &'a bundle::SiteHeader) -> Self {
        Self { site, name: &header.name, value: header.value.as_deref() }
    }
}

impl<'a> Host<'a> {
    fn of(host: &'a names::Host) -> Self {
        match host {
            names::Host::Dns(name) => Self::Dns(name.as_str()),
            names::Host::Ip(address) => Self::Ip(*address),
        }
    }
}

impl<'a> Route<'a> {
    fn of(site: u16, route: &'a bundle::Route) -> Self {
        Self {
            site,
            path: &route.path,
            strip_prefix: route.strip_prefix,
            own_origins: route.origins.own,
            any_origin: route.origins.any,
            null_origin: route.origins.null,
            rules: route.rules,
        }
    }
}

impl<'a> RouteUpstream<'a> {
    fn of(route: u16, upstream: &'a bundle::Upstream) -> Result<Self, EncodeError> {
        let upstream = match upstream {
            bundle::Upstream::Address(address) => Upstream::Address(*address),
            bundle::Upstream::Zoned { ip, zone, port } => Upstream::Zoned(*ip, zone, *port),
            bundle::Upstream::Name { host, port } => Upstream::Name(host, *port),
            bundle::Upstream::Unix(path) => Upstream::Unix(utf8("upstream", path)?),
        };
        Ok(Self { route, upstream })
    }
}

impl<'a> Origin<'a> {
    fn of(origin: &'a names::Origin) -> Self {
        match origin {
            names::Origin::Web { scheme, host, port } => Self::Web(*scheme, Host::of(host), *port),
            names::Origin::Other(text) => Self::Other(text),
        }
    }
}

/// Fills a table, or says how many rows there were.
fn table<T, const N: usize>(
    name: &'static str,
    mut rows: impl Iterator<Item = T>,
) -> Result<Table<T, N>, EncodeError> {
    let mut table = Table::<T, N>::default();
    while let Some(row) = rows.next() {
        if table.push(row).is_err() {
            return Err(EncodeError::TooMany { table: name, found: N + 1 + rows.count(), max: N });
        }
    }
    Ok(table)
}

/// As [`table`], of rows that may have failed.
fn collect<T, const N: usize>(
    name: &'static str,
    rows: impl Iterator<Item = Result<T, EncodeError>>,
) -> Result<Table<T, N>, EncodeError> {
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    table(name, rows.into_iter())
}

fn utf8<'a>(field: &'static str, path: &'a Path) -> Result<&'a str, EncodeError> {
    path.to_str().ok_or_else(|| EncodeError::Path { field, path: path.to_owned() })
}
