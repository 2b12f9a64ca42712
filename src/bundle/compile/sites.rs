//! Redirects of sites, and what `hsts` does to the site's own hosts.

use super::context::Context;
use crate::bundle::Redirect;
use crate::bundle::finding::{Code, Finding, listed};
use crate::bundle::redirect::circle;
use crate::bundle::source::{Site, Source};
use crate::excerpt::Excerpt;
use crate::names::Host;

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

fn named_hosts(site: &Site) -> impl Iterator<Item = &Host> {
    site.hosts.iter().map(|host| &host.value).filter(|host| matches!(host, Host::Dns(_)))
}
