//! `[acme]`: which hosts `sanedge renew` obtains certificates for, and the certificates that it has stored.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::context::Context;
use super::cover::{Candidate, is_private};
use crate::bundle::acme::{self, Ca, Challenge, Local, Plan, Wanted, local, stored};
use crate::bundle::file::word;
use crate::bundle::finding::{Code, Finding};
use crate::bundle::private::is_top_level;
use crate::bundle::source::{CertificateFiles, Lined, NamedFile, Source};
use crate::excerpt::Excerpt;
use crate::names::{Host, SanName};

/// Where sanedge-deploy.service may write, beside the state folder (`ReadWritePaths=`).
const UNIT_FOLDER: &str = "/etc/sanedge";

/// The managed hosts, and the certificates that they need.
#[derive(Debug, Default)]
pub(super) struct Managed {
    pub(super) hosts: BTreeSet<Host>,
    pub(super) wanted: Vec<Wanted>,
    /// Those whose certificate comes from the local CA.
    local: Vec<Host>,
}

/// Every host of a site with `acme` that neither a `[[certificate]]` nor an `[[acme.certificate]]` covers gets a certificate of its
/// own, or one with the others of its site; with `[local]`, the local CA issues one for those of home networks.
pub(super) fn find(context: &mut Context, source: &Source, candidates: &[Candidate<'_>]) -> Managed {
    let covered = |host: &Host| candidates.iter().any(|candidate| candidate.covers(host));
    let mut managed = Managed::default();
    managed.find_local(context, source, &covered);
    let Some(acme) = &source.acme else { return managed };
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
    let of_ca = managed.hosts.iter().filter(|host| !managed.local.contains(host));
    for host in of_ca.filter(|host| matches!(host, Host::Dns(_))) {
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
    fn find_local(&mut self, context: &mut Context, source: &Source, covered: &dyn Fn(&Host) -> bool) {
        let of_ca = |host: &Host| {
            let names = source.acme.iter().flat_map(|acme| &acme.certificates).flat_map(|names| &names.value);
            names.into_iter().any(|name| name.covers(host))
        };
        if let Some(of) = source.local.as_ref().filter(|of| is_outside(source, &of.folder)) {
            context.push(of.line, outside(&of.folder));
        }
        for site in &source.sites {
            if let (Some(Lined { value: true, line }), None) = (&site.local, &source.local) {
                context.push(*line, no_local());
            }
            let hosts = site.hosts.iter().map(|host| &host.value).filter(|_| source.local.is_some());
            for host in hosts.filter(|host| site.is_local(host) && !covered(host) && !of_ca(host)) {
                if is_top_level(host) {
                    context.push(source.local.as_ref().map_or(0, |of| of.line), top_level(host));
                }
                if self.hosts.insert(host.clone()) {
                    self.local.push(host.clone());
                }
            }
        }
    }

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

    /// The files of those that were obtained, or are at least there.
    pub(super) fn files(&self, source: &Source) -> Vec<CertificateFiles> {
        let file = |line: u32, label: &str, path: PathBuf, folder: &PathBuf| {
            // Whether it may be read is told when it is.
            std::fs::symlink_metadata(&path).ok()?;
            let file = NamedFile { label: Excerpt::of(label), path, state: Some(folder.clone()) };
            let file = Lined { value: file, line };
            Some(CertificateFiles { line, chain: file.clone(), key: file })
        };
        let obtained = source.acme.iter().flat_map(|acme| {
            self.wanted.iter().filter_map(|wanted| {
                let path = stored::path(&acme.state, &acme::file_name(wanted.name())?);
                file(acme.line, &format!("acme: {}", wanted.name()), path, &acme.state)
            })
        });
        let issued = source
            .local
            .iter()
            .filter(|_| !self.local.is_empty())
            .filter_map(|of| file(of.line, "local", of.folder.join(local::CERTIFICATE), &of.folder));
        obtained.chain(issued).collect()
    }

    /// The input of `sanedge renew`; `None` without `[acme]` and `[local]`.
    pub(super) fn plan(self, source: &Source) -> Option<Plan> {
        let names = self.local.iter().map(ToString::to_string).collect();
        let local = source.local.as_ref().map(|of| Local {
            folder: of.folder.clone(),
            names,
            permit: of.permit.clone(),
            lifetime_s: of.lifetime_s,
        });
        (source.acme.is_some() || local.is_some()).then(|| plan(source, self.wanted, local))
    }
}

fn plan(source: &Source, certificates: Vec<Wanted>, local: Option<Local>) -> Plan {
    let acme = source.acme.as_ref();
    let addresses = |list: &[Lined<SocketAddr>]| list.iter().map(|listener| listener.value).collect();
    let here = |network: &Lined<IpNet>| network.value.contains(&IpAddr::V4(Ipv4Addr::LOCALHOST));
    Plan {
        version: acme::VERSION,
        source: std::path::absolute(&source.path).unwrap_or_else(|_| source.path.clone()),
        bundle: PathBuf::new(),
        source_sha256: source.digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        ca: acme.map_or_else(Ca::default, |acme| acme.ca.clone()),
        fallback: acme.map(|acme| acme.fallback.clone()).unwrap_or_default(),
        state: acme.map_or_else(|| acme::STATE.into(), |acme| acme.state.clone()),
        challenge: acme.map_or(Challenge::Auto, |acme| acme.challenge),
        challenges: challenges(source).unwrap_or_else(|| acme::CHALLENGES.into()),
        dns: acme.and_then(|acme| acme.dns.clone()),
        http: addresses(&source.listen.http),
        http_expects_proxy: source.listen.proxy_protocol_from.iter().any(here),
        https: addresses(&source.listen.https),
        certificates,
        local,
    }
}

/// The folder in which `sanedge renew` leaves what the edge is to know.
pub(super) fn challenges(source: &Source) -> Option<PathBuf> {
    let local = source.local.as_ref().map(|_| acme::CHALLENGES.into());
    source.acme.as_ref().map(|acme| acme.challenges.clone()).or(local)
}

/// Whether the packaged deployment, which makes the bundle of this file, may not write in a folder.
fn is_outside(source: &Source, folder: &Path) -> bool {
    let file = std::path::absolute(&source.path).unwrap_or_default();
    file.parent() == Some(Path::new(UNIT_FOLDER)) && !folder.starts_with(UNIT_FOLDER)
}

fn outside(folder: &Path) -> Finding {
    let folder = word(folder);
    Finding::new(Code::LocalFolder, "sanedge-deploy.service may not write in the folder of the CA")
        .expected(format!("`folder` below {UNIT_FOLDER}, where that service writes"))
        .found(folder.clone())
        .remedy(format!(
            "Remove `folder` from [local] for its default. Or type `sudo systemctl edit sanedge-deploy.service`, and add the lines `[Service]` and `ReadWritePaths=-{folder}`."
        ))
}

fn no_local() -> Finding {
    Finding::new(Code::BadValue, "`local = true` needs a local CA")
        .expected("the table [local] (docs/local.md)")
        .found("none in this file")
        .remedy("Add an empty [local] at the end of the file, or remove this line.")
}

fn top_level(host: &Host) -> Finding {
    Finding::new(Code::BadValue, format!("the local CA issues no certificate for `{host}`"))
        .host(host)
        .expected("a name below one of private networks")
        .found(format!(
            "a single label: a CA limited to it could issue for all of a top-level domain `{host}`"
        ))
        .remedy(format!("Write {host}.local or {host}.home.arpa in `hosts`, and use that name in the app."))
}

fn private(host: &Host) -> Finding {
    Finding::new(Code::AcmePrivateName, format!("no public CA issues a certificate for `{host}`"))
        .host(host)
        .expected("a name under a public domain, or `trust` in [acme] for a private CA")
        .found(format!("`{host}`, a name of private networks"))
        .remedy("Use a name of a domain of yours. Or add [local] to the file, for a local CA that your own devices trust (docs/local.md).")
}

fn no_listener() -> Finding {
    Finding::new(Code::AcmeWithoutListener, "the CA's challenges cannot be answered")
        .expected("a plain listener: for http-01 the CA connects to port 80 (RFC 8555 §8.3)")
        .found("no `http` in [listen]")
        .remedy("Add http = [\"[::]:80\"] to [listen], or write challenge = \"tls-alpn-01\" in [acme], which needs port 443 alone.")
}
