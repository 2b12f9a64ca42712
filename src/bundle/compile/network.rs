//! Listeners, upstreams and trust between them: the keys of sanedge.toml against each other.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::context::Context;
use crate::bundle::file::word;
use crate::bundle::finding::{Code, Finding, listed};
use crate::bundle::source::{Lined, Source};
use crate::bundle::{Admin, Upstream};
use crate::excerpt::Excerpt;
use crate::names::Host;

/// Where serve puts the admin socket when nothing is written.
const ADMIN_DEFAULT: &str = Admin::DEFAULT_PATH;

/// Every proof about addresses.
pub(super) fn check(context: &mut Context, source: &Source) {
    listeners(context, source);
    admin(context, source);
    folders(context, source);
    trusted(context, source);
    hosts(context, source);
    for route in source.sites.iter().flat_map(|site| &site.routes) {
        if let (Some(version), Some(upstream)) = (route.rules.send_proxy_protocol, route.upstreams.first()) {
            context.push(upstream.line, speaks_proxy_protocol(version, &upstream.value));
        }
        for upstream in &route.upstreams {
            if let Some(whom) = own(&upstream.value, source) {
                context.push(upstream.line, ourselves(&upstream.value, &whom));
            } else if is_public(&upstream.value) && !route.allow_public_upstream {
                context.push(upstream.line, public(&upstream.value));
            }
            if let Upstream::Name { host, .. } = &upstream.value
                && host.ends_with(".local")
            {
                context.push(upstream.line, multicast_dns(host));
            }
        }
    }
}

fn speaks_proxy_protocol(version: u8, upstream: &Upstream) -> Finding {
    let shown = show(upstream);
    Finding::new(
        Code::SendsProxyProtocol,
        format!(
            "`{shown}` must expect a PROXY protocol header (version {version}). Plain Node does not, and answers 400: remove \
                `send_proxy_protocol` for it"
        ),
    )
    .expected("a server configured for it: nginx `proxy_protocol`, HAProxy `accept-proxy`")
    .found(format!("send_proxy_protocol = {version}"))
    .remedy("Plain Node and Socket.IO find the client's address in X-Forwarded-For.")
}

fn listeners(context: &mut Context, source: &Source) {
    let listen = &source.listen;
    let admin = listen.admin.iter().filter_map(|admin| match admin.value {
        Admin::Tcp(address) => Some(Lined { value: address, line: admin.line }),
        Admin::Unix(_) => None,
    });
    let all: Vec<Lined<SocketAddr>> = listen.https.iter().chain(&listen.http).cloned().chain(admin).collect();
    for (at, later) in all.iter().enumerate() {
        let earlier = all.iter().take(at).find(|earlier| collide(earlier.value, later.value));
        if let Some(earlier) = earlier {
            context.push(later.line.max(earlier.line), conflict(earlier.value, later.value));
        }
    }
    if let (Some(acme), true) = (&listen.acme_dir, listen.http.is_empty()) {
        let finding = Finding::new(Code::AcmeWithoutHttp, "the tokens in `acme_dir` cannot be fetched")
            .expected("a plain listener: for http-01 the CA connects to port 80 (RFC 8555 §8.3)")
            .found("no `http` in [listen]")
            .remedy("Add http = [\"[::]:80\"], or remove `acme_dir`.");
        context.push(acme.line, finding);
    }
}

/// Whether two listeners cannot both be opened. `[::]` takes IPv4 as well; port 0 is a new port each time.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let takes_all = |a: SocketAddr, b: SocketAddr| a.ip().is_unspecified() && (a.is_ipv6() || b.is_ipv4());
    one.port() == other.port()
        && one.port() != 0
        && (one.ip() == other.ip() || takes_all(one, other) || takes_all(other, one))
}

fn conflict(earlier: SocketAddr, later: SocketAddr) -> Finding {
    let remedy = if earlier == later {
        "Remove one of them, or give one another port."
    } else {
        "`[::]` includes IPv4: remove the narrower one, or give one another port."
    };
    Finding::new(Code::ListenConflict, format!("`{later}` and `{earlier}` cannot both be opened"))
        .expected("listeners with different addresses or ports")
        .found(format!("`{earlier}` and `{later}`"))
        .remedy(remedy)
}

/// Folders that may well be on the board only.
fn folders(context: &mut Context, source: &Source) {
    let mut missing = |line, code, key: &str, folder: &Path| {
        if folder.is_dir() {
            return;
        }
        let text = Excerpt::of_path(folder);
        let finding = Finding::new(
            code,
            format!("`{text}` of `{key}` does not exist here; it must exist on the board"),
        )
        .expected(format!("the folder `{text}` on the machine that runs `sanedge serve`"))
        .found("no such folder on this machine")
        .remedy(format!("Create it on the board: mkdir -p {}", word(folder)));
        context.push(line, finding);
    };
    if let Some(acme) = &source.listen.acme_dir {
        missing(acme.line, Code::AcmeDirMissing, "acme_dir", &acme.value);
    }
    if let Some(Lined { value: Admin::Unix(socket), line }) = &source.listen.admin {
        missing(*line, Code::AdminFolderMissing, "admin", socket.parent().unwrap_or(Path::new("/")));
    }
}

fn admin(context: &mut Context, source: &Source) {
    let Some(Lined { value: Admin::Tcp(address), line }) = &source.listen.admin else { return };
    if address.ip().to_canonical().is_loopback() {
        return;
    }
    let finding = Finding::new(
        Code::AdminNotLoopback,
        format!("other machines can reach the admin address `{address}`"),
    )
    .expected("a Unix socket, or a loopback address")
    .found(format!("`{address}`"))
    .remedy(format!(
        "Write admin = \"unix:{ADMIN_DEFAULT}\", or \"127.0.0.1:{}\" for reading over TCP.",
        address.port()
    ));
    context.push(*line, finding);
}

fn trusted(context: &mut Context, source: &Source) {
    let believed = source.trusted_proxies.iter().chain(&source.listen.proxy_protocol_from);
    for network in believed.filter(|n| n.value.prefix_len() == 0) {
        let finding = Finding::new(Code::TrustedEverybody, "every client can forge its address")
            .expected("the addresses of your own proxies")
            .found(format!("`{}`, which is every address", network.value))
            .remedy("List only your proxies, for example \"192.168.1.2/32\".");
        context.push(network.line, finding);
    }
}

fn hosts(context: &mut Context, source: &Source) {
    let all: Vec<&Lined<Host>> = source.sites.iter().flat_map(|site| &site.hosts).collect();
    for (at, later) in all.iter().enumerate() {
        if let Some(earlier) = all.iter().take(at).find(|earlier| earlier.value == later.value) {
            context.push(later.line, twice(later, earlier.line));
        }
    }
    match &source.listen.default_host {
        Some(default) if !all.iter().any(|host| host.value == default.value) => {
            let served = listed(all.iter().map(|host| &host.value));
            let finding = Finding::new(
                Code::DefaultHostUnknown,
                format!("no site serves the default host `{}`", default.value),
            )
            .host(&default.value)
            .expected(format!("one of {served}"))
            .found(format!("`{}`", default.value))
            .remedy("Name a host of a [[site]], or add this one.");
            context.push(default.line, finding);
        }
        Some(_) => {}
        None => {
            let addresses = all.iter().filter(|host| matches!(host.value, Host::Ip(_)));
            addresses.for_each(|host| context.push(host.line, needs_default(host)));
        }
    }
    for site in &source.sites {
        for (at, route) in site.routes.iter().enumerate() {
            if site.routes.iter().take(at).any(|earlier| earlier.path == route.path) {
                let finding = Finding::new(Code::DuplicatePath, format!("the path `{}` appears twice in one \
                    site", Excerpt::of(&route.path)))
                    .expected("each path once; the site's own upstream is the path `/`")
                    .found(format!("`{}` again", Excerpt::of(&route.path)))
                    .remedy("Remove one of them. Several servers for one path belong in one list: upstream = [\"…\", \"…\"].");
                context.push(route.line, finding);
            }
        }
    }
}

fn twice(later: &Lined<Host>, earlier_line: u32) -> Finding {
    let found = if later.line == earlier_line {
        "it appears twice on this line".to_owned()
    } else {
        format!("it is also on line {earlier_line}")
    };
    Finding::new(Code::DuplicateHost, format!("the host `{}` appears twice", later.value))
        .host(&later.value)
        .expected("each host once, in one site")
        .found(found)
        .remedy("Remove one. Different paths of one host are [[site.route]]s of one site.")
}

fn needs_default(host: &Lined<Host>) -> Finding {
    Finding::new(
        Code::IpHostNeedsDefault,
        format!("clients of `{}` send no server name, so the edge has no certificate for them", host.value),
    )
    .host(&host.value)
    .expected("`default_host`: clients send no server name for an IP address (RFC 6066 §3)")
    .found("no `default_host` in [listen]")
    .remedy(format!("Add default_host = \"{}\" to [listen].", host.value))
}

/// Which listener of ours `upstream` is, if it is one.
fn own(upstream: &Upstream, source: &Source) -> Option<String> {
    let listen = &source.listen;
    let listeners = || listen.https.iter().chain(&listen.http).map(|l| l.value);
    let admin_tcp = listen.admin.iter().find_map(|admin| match admin.value {
        Admin::Tcp(address) => Some(address),
        Admin::Unix(_) => None,
    });
    match upstream {
        Upstream::Address(address) => {
            let met = |listener: &SocketAddr| {
                listener.port() == address.port() && reaches(address.ip(), listener.ip())
            };
            let found = listeners().find(met).map(|l| format!("the listener `{l}`"));
            found.or_else(|| admin_tcp.filter(met).map(|a| format!("the admin address `{a}`")))
        }
        Upstream::Name { host, port } => {
            let host = Host::parse(host).ok()?;
            let ours =
                is_localhost(&host) || source.sites.iter().any(|s| s.hosts.iter().any(|h| h.value == host));
            let met = |listener: &SocketAddr| listener.port() == *port && listener.port() != 0;
            let found = listeners().find(met).map(|l| format!("the listener `{l}`"));
            found
                .or_else(|| admin_tcp.filter(met).map(|a| format!("the admin address `{a}`")))
                .filter(|_| ours)
        }
        // A link-local address of the board itself: only the board knows.
        Upstream::Zoned { .. } => None,
        Upstream::Unix(path) => {
            let admin = match listen.admin.as_ref().map(|a| &a.value) {
                Some(Admin::Unix(admin)) => admin,
                Some(Admin::Tcp(_)) => return None,
                None => Path::new(ADMIN_DEFAULT),
            };
            (path == admin).then(|| format!("the admin socket `{}`", Excerpt::of_path(admin)))
        }
    }
}

/// Whether connecting to `target` arrives at a listener bound to `bound`, as far as this machine can know. A listener on
/// every address is reached by loopback for sure; whether another address is the board's own only the board knows.
fn reaches(target: IpAddr, bound: IpAddr) -> bool {
    let (target, bound) = (target.to_canonical(), bound.to_canonical());
    target == bound
        || (bound.is_unspecified() && target.is_loopback() && (bound.is_ipv6() || target.is_ipv4()))
}

fn is_localhost(host: &Host) -> bool {
    matches!(host, Host::Dns(name) if name.as_str() == "localhost" || name.as_str().ends_with(".localhost"))
}

fn ourselves(upstream: &Upstream, whom: &str) -> Finding {
    let text = show(upstream);
    Finding::new(Code::UpstreamIsOurselves, format!("the upstream `{text}` is sanedge itself"))
        .expected("the address of the app behind sanedge")
        .found(format!("{whom}: every request would loop"))
        .remedy(
            "Write the port on which the app itself listens, for example upstream = [\"127.0.0.1:3000\"].",
        )
}

fn public(upstream: &Upstream) -> Finding {
    let text = show(upstream);
    Finding::new(Code::PublicUpstream, format!("the upstream `{text}` is on the internet"))
        .expected("a loopback or private address, or a Unix socket")
        .found(format!("`{text}`, to which requests go unencrypted"))
        .remedy(
            "Run the app on this network, or reach it through a tunnel; if that network is safe, add \
            allow_public_upstream = true.",
        )
}

fn multicast_dns(host: &str) -> Finding {
    Finding::new(Code::MdnsUpstream, format!("the upstream's name `{host}` is known only to multicast DNS (RFC 6762)"))
        .expected("an address, or a name in DNS or in /etc/hosts of the board")
        .found(format!("`{host}`: the programs of packages and boards are static and ask /etc/hosts and the servers in /etc/resolv.conf, not Avahi (libnss-mdns)"))
        .remedy(format!(
            "Write its address, or put a line into /etc/hosts of the board:\n  echo \"$(avahi-resolve -4 -n {host} | cut -f2) {host}\" | sudo tee -a \
             /etc/hosts\nsystemd-resolved resolves it too, if `resolvectl mdns` says yes and /etc/resolv.conf names 127.0.0.53."
        ))
}

/// Names are not resolved while a bundle is compiled, so their addresses are unknown.
fn is_public(upstream: &Upstream) -> bool {
    match upstream {
        Upstream::Address(address) => match address.ip().to_canonical() {
            IpAddr::V4(ip) => {
                let shared = ip.octets()[0] == 100 && (ip.octets()[1] & 0xc0) == 64; // RFC 6598, tunnels use it
                !(ip.is_loopback() || ip.is_private() || ip.is_link_local() || shared)
            }
            IpAddr::V6(ip) => !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()),
        },
        Upstream::Zoned { .. } | Upstream::Name { .. } | Upstream::Unix(_) => false,
    }
}

/// An upstream as sanedge.toml writes it.
pub fn show(upstream: &Upstream) -> String {
    upstream.to_string()
}
