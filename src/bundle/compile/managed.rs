//! `[acme]`: which hosts `sanedge renew` obtains certificates for, and the certificates that it has stored.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;

use super::context::Context;
use super::cover::{Candidate, is_private};
use crate::bundle::acme::{self, Challenge, Plan, Wanted, stored};
use crate::bundle::finding::{Code, Finding};
use crate::bundle::source::{Acme, CertificateFiles, Lined, NamedFile, Source};
use crate::excerpt::Excerpt;
use crate::names::{Host, SanName};

/// The managed hosts, and the certificates that they need.
#[derive(Debug, Default)]
pub(super) struct Managed {
    pub(super) hosts: BTreeSet<Host>,
    pub(super) wanted: Vec<Wanted>,
}

/// Every host of a site with `acme` that neither a `[[certificate]]` nor an `[[acme.certificate]]` covers gets a certificate of its
/// own, or one with the others of its site.
pub(super) fn find(context: &mut Context, source: &Source, candidates: &[Candidate<'_>]) -> Managed {
    let Some(acme) = &source.acme else { return Managed::default() };
    let covered = |host: &Host| candidates.iter().any(|candidate| candidate.covers(host));
    let mut managed = Managed::default();
    for names in &acme.certificates {
        managed.take_names(&names.value, source);
    }
    for site in source.sites.iter().filter(|site| site.acme) {
        let hosts = || site.hosts.iter().map(|host| &host.value);
        let new: Vec<&Host> =
            hosts().filter(|host| !managed.hosts.contains(*host) && !covered(host)).collect();
        match acme.by_site {
            true => managed.take(new.into_iter()),
            false => new.into_iter().for_each(|host| managed.take(std::iter::once(host))),
        }
    }
    for host in managed.hosts.iter().filter(|host| matches!(host, Host::Dns(_))) {
        if acme.trust.is_none() && is_private(&host.to_string()) {
            context.push(acme.line, private(host));
        }
    }
    let needs_http = acme.challenge == Challenge::Http01 && source.listen.http.is_empty();
    if !managed.wanted.is_empty() && needs_http {
        context.push(acme.line, no_listener());
    }
    managed
}

impl Managed {
    /// One certificate for `names`, without those that an earlier one has; the hosts that it covers need no other.
    fn take_names(&mut self, names: &[SanName], source: &Source) {
        let before: BTreeSet<&String> = self.wanted.iter().flat_map(|wanted| &wanted.names).collect();
        let mut new: Vec<String> = Vec::new();
        for name in names.iter().map(ToString::to_string) {
            if !before.contains(&name) && !new.contains(&name) {
                new.push(name);
            }
        }
        let of_sites = source.sites.iter().flat_map(|site| &site.hosts).map(|host| &host.value);
        self.hosts.extend(of_sites.filter(|host| names.iter().any(|name| name.covers(host))).cloned());
        self.hosts.extend(names.iter().filter_map(|name| Host::parse(&name.to_string()).ok()));
        if !new.is_empty() {
            self.wanted.push(Wanted { names: new });
        }
    }

    fn take<'h>(&mut self, hosts: impl Iterator<Item = &'h Host>) {
        let new: Vec<&Host> = hosts.filter(|host| self.hosts.insert((*host).clone())).collect();
        if !new.is_empty() {
            self.wanted.push(Wanted { names: new.iter().map(ToString::to_string).collect() });
        }
    }

    /// The files of the certificates that are stored.
    pub(super) fn files(&self, acme: Option<&Acme>) -> Vec<CertificateFiles> {
        let Some(acme) = acme else { return Vec::new() };
        let stored = self.wanted.iter().filter_map(|wanted| {
            let path = stored::path(&acme.state, &acme::file_name(wanted.name())?);
            // An unreadable file is reported when it is read.
            std::fs::symlink_metadata(&path).ok()?;
            let label = Excerpt::of(&format!("acme: {}", wanted.name()));
            let file = NamedFile { label, path, state: Some(acme.state.clone()) };
            let file = Lined { value: file, line: acme.line };
            Some(CertificateFiles { line: acme.line, chain: file.clone(), key: file })
        });
        stored.collect()
    }

    /// The input of `sanedge renew`; `None` without `[acme]`.
    pub(super) fn plan(self, source: &Source) -> Option<Plan> {
        source.acme.as_ref().map(|acme| plan(source, acme, self.wanted))
    }
}

fn plan(source: &Source, acme: &Acme, certificates: Vec<Wanted>) -> Plan {
    let addresses = |list: &[Lined<SocketAddr>]| list.iter().map(|listener| listener.value).collect();
    let here = |network: &Lined<IpNet>| network.value.contains(&IpAddr::V4(Ipv4Addr::LOCALHOST));
    Plan {
        version: acme::VERSION,
        source: std::path::absolute(&source.path).unwrap_or_else(|_| source.path.clone()),
        bundle: PathBuf::new(),
        source_sha256: source.digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        ca: acme.ca.clone(),
        fallback: acme.fallback.clone(),
        state: acme.state.clone(),
        challenge: acme.challenge,
        challenges: acme.challenges.clone(),
        dns: acme.dns.clone(),
        http: addresses(&source.listen.http),
        http_expects_proxy: source.listen.proxy_protocol_from.iter().any(here),
        https: addresses(&source.listen.https),
        certificates,
    }
}

fn private(host: &Host) -> Finding {
    Finding::new(Code::AcmePrivateName, format!("no public CA issues a certificate for `{host}`"))
        .host(host)
        .expected("a name under a public domain, or `trust` in [acme] for a private CA")
        .found(format!("`{host}`, a name of private networks"))
        .remedy("Use a name of a domain of yours, or set acme = false in its [[site]] and name a certificate of your own in [[certificate]].")
}

fn no_listener() -> Finding {
    Finding::new(Code::AcmeWithoutListener, "the CA's challenges cannot be answered")
        .expected("a plain listener: http-01 asks on port 80 (RFC 8555 §8.3)")
        .found("no `http` in [listen]")
        .remedy("Add http = [\"[::]:80\"] to [listen], or write challenge = \"tls-alpn-01\" in [acme], which needs port 443 alone.")
}
