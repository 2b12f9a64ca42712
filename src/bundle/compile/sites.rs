//! Redirects of sites, what `hsts` does to the site's own hosts, and whether small clients can read the handshake.

use std::collections::BTreeMap;

use super::context::Context;
use super::cover::Candidate;
use super::facts::{KeyKind, Link};
use crate::bundle::Redirect;
use crate::bundle::finding::{Code, Finding, listed};
use crate::bundle::redirect::circle;
use crate::bundle::source::{Site, Source};
use crate::excerpt::{Excerpt, number};
use crate::limits::RECORD_BYTES_MAX;
use crate::names::Host;

/// A `record_bytes_max` up to this is for clients with small buffers, which are 4 KiB in most of them.
const SMALL_RECORD_BYTES: u16 = 4_096;
/// What is in one record with the Certificate message and the signature, in TLS 1.2 and with P-384 at most: ServerHello,
/// ServerKeyExchange and ServerHelloDone. rustls sends its first messages together.
const HANDSHAKE_REST_BYTES: usize = 200;

/// Every proof about them.
pub(super) fn check(context: &mut Context, source: &Source) {
    redirects(context, source);
    for site in &source.sites {
        hsts(context, source, site);
    }
}

/// Where a site redirects to, for people.
pub fn shown_redirect(to: &Redirect) -> String {
    Excerpt::of(&to.to_string()).into()
}

fn redirects(context: &mut Context, source: &Source) {
    let mut leads_to: Vec<_> = source.sites.iter().map(|site| served_here(source, site)).collect();
    while let Some(circle) = circle(&leads_to) {
        let first = circle.first().copied().unwrap_or_default();
        let sites: Vec<&Site> = circle.iter().filter_map(|at| source.sites.get(*at)).collect();
        let to = sites.first().and_then(|site| site.redirect.as_ref());
        if let Some(to) = to {
            let finding = match sites.as_slice() {
                [alone] => to_itself(alone, &to.value),
                several => in_a_circle(several),
            };
            context.push(to.line, finding);
        }
        // Each circle is told once.
        if let Some(next) = leads_to.get_mut(first) {
            *next = None;
        }
    }
}

/// The site that answers where this one redirects to. A listener of ours on that port is one as well, whatever port clients
/// mostly use.
fn served_here(source: &Source, site: &Site) -> Option<usize> {
    let to = &site.redirect.as_ref()?.value;
    let listens = source.listen.https.iter().any(|listener| listener.value.port() == to.port);
    if !listens && to.port != source.listen.public_https_port {
        return None;
    }
    source.sites.iter().position(|other| other.hosts.iter().any(|host| host.value == to.host))
}

fn to_itself(site: &Site, to: &Redirect) -> Finding {
    let host = &to.host;
    let others = site.hosts.iter().map(|host| &host.value).filter(|other| *other != host);
    let remedy = match others.count() {
        0 => format!(
            "Write another host, or serve `{host}`: upstream = [\"127.0.0.1:3000\"] instead of `redirect`."
        ),
        _ => format!(
            "Remove `{host}` from the hosts of this site, and serve it in a [[site]] of its own:\n  [[site]]\n  hosts = \
             [\"{host}\"]\n  upstream = [\"127.0.0.1:3000\"]"
        ),
    };
    Finding::new(Code::RedirectLoop, format!("`{host}` redirects to itself"))
        .host(host)
        .expected("a host that this site does not have")
        .found(format!("`{}`, which is one of its own", shown_redirect(to)))
        .remedy(remedy)
}

fn in_a_circle(sites: &[&Site]) -> Finding {
    let to = |site: &&Site| site.redirect.as_ref().map(|to| to.value.host.to_string()).unwrap_or_default();
    let way: Vec<String> = sites.iter().map(to).collect();
    let first = way.last().cloned().unwrap_or_default();
    let way = std::iter::once(&first).chain(&way).map(String::as_str).collect::<Vec<_>>().join(" → ");
    Finding::new(Code::RedirectLoop, format!("these redirects form a loop: {way}"))
        .host(first)
        .expected("redirects that end at a site with an app, or outside this file")
        .found(way)
        .remedy(
            "Let one of these sites serve its app: upstream = [\"127.0.0.1:3000\"] instead of `redirect`.",
        )
}

fn hsts(context: &mut Context, source: &Source, site: &Site) {
    let Some(hsts) = site.hsts_s.as_ref().filter(|hsts| hsts.value > 0) else { return };
    let names: Vec<&Host> = named_hosts(site).collect();
    if names.is_empty() && !site.hosts.is_empty() {
        let hosts = listed(site.hosts.iter().map(|host| &host.value));
        let finding = Finding::new(Code::HstsAddress, format!("browsers ignore `hsts` of {hosts}"))
            .expected("a site with a name: browsers remember no address (RFC 6797 §8.1.1)")
            .found(format!("{hosts} alone"))
            .remedy("Remove `hsts` here.");
        context.push(hsts.line, finding);
    }
    let port = source.listen.public_https_port;
    if let (Some(name), true) = (names.first(), port != 443) {
        let finding = Finding::new(
            Code::HstsPort,
            format!("with `hsts`, browsers connect to port 443 of `{name}` if only the name is typed, but clients connect to port {port}"),
        )
        .host(name)
        .expected("`public_https_port` 443: a browser that remembers the host replaces port 80 by 443 (RFC 6797 §8.3)")
        .found(format!("port {port}, and browsers no longer use the redirect from port 80"))
        .remedy("Remove `hsts`, or let the router map port 443 to this edge, with public_https_port = 443 in [listen].");
        context.push(hsts.line, finding);
    }
}

/// The handshake is not split into records of `record_bytes_max`: mbedTLS and BearSSL need it so.
pub(super) fn handshake_records(
    context: &mut Context,
    source: &Source,
    candidates: &[Candidate<'_>],
    chosen: &BTreeMap<Host, usize>,
) {
    for site in &source.sites {
        let Some(set) = site.record_bytes_max.as_ref().filter(|set| set.value <= SMALL_RECORD_BYTES) else {
            continue;
        };
        let of_host = |host: &Host| {
            let candidate = candidates.get(*chosen.get(host)?)?;
            Some((handshake_record_bytes(&candidate.chain), host.clone(), candidate))
        };
        let hosts = site.hosts.iter().filter_map(|host| of_host(&host.value));
        let longest = hosts.max_by_key(|(bytes, ..)| *bytes);
        let Some((bytes, host, candidate)) =
            longest.filter(|(bytes, ..)| *bytes > usize::from(SMALL_RECORD_BYTES))
        else {
            continue;
        };
        let finding = Finding::new(
            Code::HandshakeRecord,
            format!("a client with buffers of {SMALL_RECORD_BYTES} bytes cannot read the handshake of `{host}`"),
        )
        .host(&host)
        .expected(format!(
            "a handshake record of at most {SMALL_RECORD_BYTES} bytes, as `{}` is {}: it does not split the handshake",
            RECORD_BYTES_MAX.key, set.value
        ))
        .found(format!(
            "up to {bytes} bytes, {} of them the Certificate message with {}",
            certificate_message_bytes(&candidate.chain),
            number(candidate.chain.len(), "certificate")
        ))
        .remedy(
            "Use a certificate with an ECDSA key and with fewer names, or a CA with a shorter chain. If no client of the site has such \
             small buffers, remove `record_bytes_max`.",
        );
        context.push(set.line, finding);
    }
}

/// The longest record of a full handshake with this chain. In TLS 1.3 it is shorter: the key exchange is in a record of its own.
fn handshake_record_bytes(chain: &[Link]) -> usize {
    let signature_bytes = match chain.first().map(|link| &link.facts.key) {
        Some(KeyKind::Rsa(bits)) => bits.div_ceil(8),
        _ => 104, // ECDSA P-384 at most
    };
    certificate_message_bytes(chain) + signature_bytes + HANDSHAKE_REST_BYTES
}

/// RFC 5246 §7.4.2: its header, the length of the list, and that of each certificate.
fn certificate_message_bytes(chain: &[Link]) -> usize {
    4 + 3 + chain.iter().map(|link| 3 + link.der.len()).sum::<usize>()
}

fn named_hosts(site: &Site) -> impl Iterator<Item = &Host> {
    site.hosts.iter().map(|host| &host.value).filter(|host| matches!(host, Host::Dns(_)))
}
