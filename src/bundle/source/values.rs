//! The small languages inside strings: hosts, addresses, upstreams, networks, origins, paths.
//!
//! Pure: a text in, a value or what would have been one out.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::parsed::OriginEntry;
use crate::bundle::{Admin, Redirect, Upstream, wire};
use crate::excerpt::Excerpt;
use crate::names::{Host, Origin};

/// A value that its key cannot take.
pub(super) struct Bad {
    pub(super) expected: String,
    /// Why it cannot; else the value itself is said to have been found.
    pub(super) why: Option<String>,
    pub(super) remedy: String,
}

impl Bad {
    pub(super) fn new(expected: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { expected: expected.into(), why: None, remedy: remedy.into() }
    }

    pub(super) fn because(mut self, why: impl ToString) -> Self {
        self.why = Some(why.to_string());
        self
    }
}

pub(super) fn parse_host(text: &str) -> Result<Host, Bad> {
    let expected = "one host: a DNS name or an address";
    if let Some((scheme, rest)) = text.split_once("://") {
        let bare =
            rest.split(['/', '?', '#']).next().and_then(|authority| Host::parse_authority(authority).ok());
        let remedy = match bare {
            Some((host, _)) => format!("Write \"{host}\", without scheme, port and path."),
            None => host_advice(text),
        };
        return Err(
            Bad::new(expected, remedy).because(format!("a URL, with its scheme `{}`", Excerpt::of(scheme)))
        );
    }
    Host::parse(text).map_err(|error| Bad::new(expected, host_advice(text)).because(error))
}

fn host_advice(text: &str) -> String {
    if text.contains("://") || text.contains('/') {
        return "Write the bare host, without scheme and path.".to_owned();
    }
    if text.starts_with('*') {
        return "List every host by its full name; the certificate may be a wildcard.".to_owned();
    }
    if !text.is_ascii() {
        return "Write the name in its ASCII form (xn--…); `idn2 --quiet <name>` prints it.".to_owned();
    }
    match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') && port.bytes().all(|b| b.is_ascii_digit()) => {
            format!("Write `{}`; ports belong in [listen].", Excerpt::of(host))
        }
        _ => "Write a name such as `socket.recre.store`, or an address.".to_owned(),
    }
}

pub(super) fn parse_upstream(text: &str, folder: &Path) -> Result<Upstream, Bad> {
    let bad = |remedy: String| {
        Bad::new("an address with port, a name with port, or unix:/path: \"127.0.0.1:3000\"", remedy)
    };
    if let Some(path) = text.strip_prefix("unix:") {
        return unix_path(path, folder).map(Upstream::Unix);
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        return Err(bad(without_scheme(&scheme.to_ascii_lowercase(), rest)));
    }
    if let Some(zoned) = zoned_upstream(text) {
        return zoned.map_err(bad);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return address_upstream(address).map_err(bad);
    }
    match Host::parse_authority(text) {
        Ok((Host::Dns(name), Some(port))) if port > 0 => {
            Ok(Upstream::Name { host: name.as_str().to_owned(), port })
        }
        Ok((host, None)) => Err(bad(format!("Add the port: \"{}:3000\".", bracketed(&host)))),
        Ok(_) => Err(bad("Write a port from 1 to 65535.".to_owned())),
        Err(_) if text.contains('%') => {
            Err(bad("Write an address with a zone in brackets: \"[fe80::1%eth0]:3000\".".to_owned()))
        }
        Err(error) => {
            Err(bad(upstream_advice(text).unwrap_or_else(|| format!("Correct the name: {error}."))))
        }
    }
}

/// What to write for an upstream that another program would take.
fn upstream_advice(text: &str) -> Option<String> {
    let write = |address: String| Some(format!("Write \"{address}\"."));
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let text = text.trim();
    // As Docker, Node and Go have it: `:3000`, `*:3000`, `3000/tcp`.
    let alone = text
        .strip_prefix("0:")
        .or_else(|| text.strip_prefix("*:"))
        .or_else(|| text.strip_prefix(':'))
        .unwrap_or(text);
    let alone = alone.strip_suffix("/tcp").unwrap_or(alone);
    if let Some(port) = port(alone) {
        return write(format!("127.0.0.1:{port}"));
    }
    if !alone.is_empty() && alone.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some("Write a port from 1 to 65535: \"127.0.0.1:3000\".".to_owned());
    }
    if text.is_empty() {
        return Some("Write the app's address and port: \"127.0.0.1:3000\".".to_owned());
    }
    if text.starts_with(['/', '.', '@']) || text.ends_with(".sock") {
        let path = Excerpt::all_of(text).filter(|_| !text.starts_with('@'));
        return Some(path.map_or_else(
            || "Write a socket's path after `unix:`: \"unix:/run/app/app.sock\".".to_owned(),
            |path| format!("Write \"unix:{path}\"."),
        ));
    }
    if let Some((address, _)) = text.split_once('/') {
        let app = parse_upstream(address, Path::new("/")).ok()?;
        return Some(format!("Write \"{}\"; a path belongs in a [[site.route]].", named(&app)?));
    }
    match text.rsplit_once(':') {
        _ if text.parse::<Ipv6Addr>().is_ok_and(|ip| !ip.is_unicast_link_local()) && !ends_in_port(text) => {
            Some(format!("Add brackets and the port: \"[{text}]:3000\"."))
        }
        Some((ip, digits)) if ip.parse::<Ipv6Addr>().is_ok() && port(digits).is_some() => {
            let zone =
                if ip.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_unicast_link_local()) { "%eth0" } else { "" };
            write(format!("[{ip}{zone}]:{digits}"))
        }
        Some((_, word)) if word.starts_with(|c: char| c.is_ascii_alphabetic()) && !text.contains("::") => {
            Some("Write the port as a number: \"127.0.0.1:3000\".".to_owned())
        }
        Some((name, digits)) => {
            let bare = name.rsplit_once(':').map_or(name, |(_, name)| name);
            let corrected =
                Some(format!("{}:{}", bare.trim(), digits.trim())).filter(|corrected| corrected != text)?;
            let app = parse_upstream(&corrected, Path::new("/")).ok()?;
            Some(format!("Write \"{}\".", named(&app)?))
        }
        None => None,
    }
}

/// Whether the last group is a port that people use rather than a part of the address.
fn ends_in_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(ip, port)| {
        port.len() >= 4 && port.parse::<u16>().is_ok() && ip.parse::<Ipv6Addr>().is_ok()
    })
}

fn named(upstream: &Upstream) -> Option<String> {
    match upstream {
        Upstream::Address(address) => Some(address.to_string()),
        Upstream::Name { host, port } => Some(format!("{host}:{port}")),
        _ => None,
    }
}

/// What to write for an upstream that is a URL.
pub fn without_scheme(scheme: &str, rest: &str) -> String {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match (scheme, Host::parse_authority(authority)) {
        ("https" | "wss", _) => {
            "Name the port on which the app accepts plain HTTP, for example \"127.0.0.1:3000\": the edge does not use TLS to \
                the app. What listens on this machine:\n  sudo ss -tlnp\nIf the app has no such port, disable TLS in it (in \
            Node `http.createServer` instead of `https.createServer`): the edge provides TLS to clients."
                .to_owned()
        }
        ("http" | "ws", Ok((host, port))) => format!(
            "Remove the scheme: \"{}:{}\". The edge uses plain HTTP/1.1 to the app.",
            bracketed(&host),
            port.unwrap_or(80)
        ),
        _ => "Remove the scheme, and write address and port: \"127.0.0.1:3000\". The edge uses plain HTTP/1.1 to the app."
            .to_owned(),
    }
}

/// `[fe80::1%eth0]:3000`: which interface a zone names only the board knows (RFC 4007 §11). None for everything else.
pub fn zoned_upstream(text: &str) -> Option<Result<Upstream, String>> {
    let (ip, rest) = text.strip_prefix('[')?.split_once('%')?;
    let (zone, after) = rest.split_once(']')?;
    let port = after.strip_prefix(':').and_then(|port| port.parse::<u16>().ok()).filter(|port| *port > 0);
    let zone_alone =
        zone.strip_prefix("25").filter(|zone| zone.starts_with(|c: char| c.is_ascii_alphabetic()));
    Some(match (ip.parse::<Ipv6Addr>(), port) {
        (Err(_), _) => Err("Write an IPv6 address before the zone: \"[fe80::1%eth0]:3000\".".to_owned()),
        (Ok(_), None) => Err("Write a port from 1 to 65535 after it: \"[fe80::1%eth0]:3000\".".to_owned()),
        (Ok(ip), Some(port)) if !ip.is_unicast_link_local() => {
            Err(format!("Remove the zone, which only link-local addresses have: \"[{ip}]:{port}\"."))
        }
        (Ok(ip), Some(port)) if zone_alone.is_some() => {
            let zone = zone_alone.filter(|zone| wire::is_zone(zone)).unwrap_or("eth0");
            Err(format!("Write one `%`, because this is not a URL: \"[{ip}%{zone}]:{port}\"."))
        }
        (Ok(_), Some(_)) if !wire::is_zone(zone) => {
            Err("After `%`, write the name or number of an interface of the board; `ip -6 addr` lists them."
                .to_owned())
        }
        (Ok(ip), Some(port)) => Ok(Upstream::Zoned { ip, zone: zone.to_owned(), port }),
    })
}

fn address_upstream(address: SocketAddr) -> Result<Upstream, String> {
    let ip = address.ip().to_canonical();
    if address.port() == 0 {
        return Err("Write a port from 1 to 65535.".to_owned());
    }
    if ip.is_unspecified() {
        return Err(format!("{ip} is only an address to listen on; write \"127.0.0.1:{}\".", address.port()));
    }
    if let IpAddr::V6(ip) = ip
        && ip.is_unicast_link_local()
    {
        return Err(format!(
            "Add the interface of the board: \"[{ip}%eth0]:{}\"; `ip -6 addr` lists them.",
            address.port()
        ));
    }
    Ok(Upstream::Address(SocketAddr::new(ip, address.port())))
}

fn bracketed(host: &Host) -> String {
    match host {
        Host::Ip(IpAddr::V6(ip)) => format!("[{ip}]"),
        other => other.to_string(),
    }
}

/// A socket's path; a relative one lies beside sanedge.toml, like every other relative path.
fn unix_path(text: &str, folder: &Path) -> Result<PathBuf, Bad> {
    let path = folder.join(text);
    let fits = path.as_os_str().len() <= wire::SOCKET_PATH_BYTES_MAX;
    if fits && !text.is_empty() && !text.contains('\0') {
        return Ok(path);
    }
    let expected =
        format!("a socket path of 1 to {} bytes (unix(7)), its folder included", wire::SOCKET_PATH_BYTES_MAX);
    Err(Bad::new(expected, "Write for example \"unix:/run/app/app.sock\"."))
}

pub(super) fn parse_admin(text: &str, folder: &Path) -> Result<Admin, Bad> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix_path(path, folder).map(Admin::Unix);
    }
    let bad =
        || Bad::new("unix:/path, or a loopback address with port", "Write \"unix:/run/sanedge/admin.sock\".");
    text.parse().map(Admin::Tcp).map_err(|_| bad())
}

pub(super) fn parse_listener(text: &str) -> Result<SocketAddr, Bad> {
    text.parse().map_err(|_| {
        let remedy = match text.trim_start_matches(['*', ':']).parse::<u16>() {
            Ok(port) => format!("Write \"[::]:{port}\": it includes IPv4."),
            Err(_) => "Write \"[::]:443\", or one of the board's addresses with a port.".to_owned(),
        };
        Bad::new("an address with port", remedy)
    })
}

pub(super) fn parse_network(text: &str) -> Result<IpNet, Bad> {
    let bad = |remedy: String| Bad::new("a network as address/length", remedy);
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Err(bad(format!("Write \"{}\" for this one address.", IpNet::from(ip))));
    }
    let network: IpNet = text.parse().map_err(|_| bad(network_advice(text)))?;
    if network.trunc() != network {
        return Err(bad(format!("Bits after the prefix length are set: write \"{}\".", network.trunc())));
    }
    Ok(network)
}

fn network_advice(text: &str) -> String {
    let ip = text.split_once('/').and_then(|(ip, _)| ip.parse::<IpAddr>().ok());
    match ip {
        Some(ip @ IpAddr::V4(_)) => {
            format!("Write a prefix length from 0 to 32: \"{}\" is this one address.", IpNet::from(ip))
        }
        Some(ip @ IpAddr::V6(_)) => {
            format!("Write a prefix length from 0 to 128: \"{}\" is this one address.", IpNet::from(ip))
        }
        None => "Write for example \"192.168.0.0/16\".".to_owned(),
    }
}

/// An https URL that ends with its host, its port or a path.
pub(super) fn parse_redirect(text: &str) -> Result<Redirect, Bad> {
    let bad = |why: &str| {
        let expected =
            "an https URL of a host, with a port and the beginning of a path where they are needed";
        Bad::new(expected, redirect_advice(text)).because(why)
    };
    let (scheme, rest) = text.split_once("://").ok_or_else(|| bad("a text without `https://`"))?;
    if !scheme.eq_ignore_ascii_case("https") {
        return Err(bad("another scheme than https"));
    }
    if rest.contains(['?', '#']) {
        return Err(bad("a query or a fragment: the request brings its own"));
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err(bad("a user name, which every client would get"));
    }
    let (host, port) = Host::parse_authority(authority).map_err(|error| bad(&error.to_string()))?;
    let port = port.unwrap_or(443);
    let path = path.trim_end_matches('/');
    match path {
        _ if port == 0 => Err(bad("port 0")),
        "" => Ok(Redirect { host, port, path: String::new() }),
        // A path with two slashes in front would be read as another host by whoever joins it to something.
        _ if path.starts_with("//") || parse_path(path).is_err() => Err(bad(
            "a path with other characters than visible ASCII, with `.` or `..`, or with two slashes in front",
        )),
        _ => Ok(Redirect { host, port, path: path.to_owned() }),
    }
}

/// The same URL as it can be written.
fn redirect_advice(text: &str) -> String {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let authority = rest.split('/').next().unwrap_or_default();
    let authority = authority.rsplit('@').next().unwrap_or_default();
    match Host::parse_authority(authority) {
        // A port of another scheme leads nowhere.
        Ok((host, None | Some(80))) => format!("Write \"https://{}\".", host.uri_host()),
        Ok((host, Some(port @ 1..))) => format!("Write \"https://{}:{port}\".", host.uri_host()),
        _ => "Write for example redirect = \"https://recre.store\": path and query of the request are added."
            .to_owned(),
    }
}

/// The two words that are no origins are taken as well; nothing tells anybody to write them.
pub(super) fn parse_origin(text: &str) -> Result<OriginEntry, Bad> {
    match text {
        "*" => Ok(OriginEntry::Any),
        "null" => Ok(OriginEntry::Null),
        _ => Origin::parse(text).map(Box::new).map(OriginEntry::One).map_err(|error| {
            Bad::new(
                "an origin as clients send it: scheme, host, and port if it is not the default",
                origin_advice(text),
            )
            .because(error)
        }),
    }
}

/// Names the origin of a page's address, or of a host without its scheme.
fn origin_advice(text: &str) -> String {
    let scheme_of = |at| {
        text.split_once(at).filter(|(_, rest): &(&str, &str)| !rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let (scheme, rest) = text.split_once("://").or_else(|| scheme_of(":/")).unwrap_or(("https", text));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let authority = authority.rsplit('@').next().unwrap_or_default();
    match Origin::parse(&format!("{scheme}://{authority}")) {
        Ok(origin) if origin.is_showable() => format!("Write \"{origin}\"."),
        _ if text.contains('*') => "List every origin by its whole name.".to_owned(),
        _ => "Write for example \"https://recre.store\", or \"capacitor://localhost\".".to_owned(),
    }
}

/// A path prefix: begins with `/`, visible ASCII, no query, no fragment (RFC 3986 §3.3).
pub(super) fn parse_path(text: &str) -> Result<String, Bad> {
    let plain = text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'\\'));
    let dots = text.split('/').any(|segment| matches!(segment, "." | ".."));
    if text.starts_with('/') && plain && !dots && text.len() <= wire::TEXT_BYTES_MAX {
        return Ok(text.to_owned());
    }
    Err(Bad::new(
        "a path that begins with `/`, in visible ASCII, without query, `.` and `..`, of at most 1024 bytes",
        "Write for example \"/socket.io/\"; other characters percent-encoded.",
    ))
}
