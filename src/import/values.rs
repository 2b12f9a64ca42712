//! What directives mean together: values that a level has from those around it, variables, addresses, times and sizes.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::rc::Rc;

use ipnet::IpNet;

use super::known::{self, Fate};
use super::syntax::{Directive, WORD_BYTES_MAX};
use crate::excerpt::may_hold_key;
use crate::http::changes::{is_name, is_value, reserved};
use crate::names::Host;

/// The directives of one block, those of included files among them, and what its `allow` and `deny` say.
#[derive(Clone, Debug, Default)]
pub(super) struct Level<'a>(Rc<(Vec<&'a Directive>, Option<Access>)>);
/// The groups of upstreams by name.
pub(super) type Groups<'a> = BTreeMap<&'a str, &'a Directive>;

/// Variables within each other.
const EXPANSIONS_MAX: usize = 8;
const HTTP_PORT: u16 = 80;

pub(super) const HTTPS: Fate =
    Fate::Closed("sanedge speaks plain HTTP to the app: name the port on which it does so");
const VARIABLE: Fate = Fate::Closed("the address depends on the request: write it");
const REWRITTEN: Fate = Fate::Closed("sanedge can remove the location's path, but not replace it");
const ADDRESS: Fate = Fate::Closed("sanedge cannot take this as the address of an app");
const DOCKER: &str = "the upstream is a name of Docker's network: publish the app's port (`ports: [\"127.0.0.1:3000:3000\"]`) and write that address, unless sanedge runs in that network";
const KEEPS: &str = "sanedge's redirect is permanent (308), and adds the path and the query of the request";
const LOOPBACK: &str = "the upstream is a loopback address: for NPM its own container, unless that has `network_mode: host`, for sanedge this machine";

impl<'a> Level<'a> {
    pub(super) fn of(directives: Vec<&'a Directive>) -> Self {
        let access = Access::of(&directives);
        Self(Rc::new((directives, access)))
    }

    /// Who may come in, where it has rules of its own.
    pub(super) fn access(&self) -> Option<&Access> {
        self.0.1.as_ref()
    }
}

impl<'a> Deref for Level<'a> {
    type Target = [&'a Directive];

    fn deref(&self) -> &Self::Target {
        &self.0.0
    }
}

/// What is in a block and in the files that it includes.
pub(super) fn flat(body: &[Directive]) -> Level<'_> {
    Level::of(flattened(body))
}

fn flattened(body: &[Directive]) -> Vec<&Directive> {
    let mut found = Vec::new();
    for directive in body {
        found.push(directive);
        if let (true, Some(body)) = (directive.name == "include", &directive.body) {
            found.extend(flattened(body));
        }
    }
    found
}

/// Those of this name on the innermost level that has one.
pub(super) fn nearest<'a>(chain: &[Level<'a>], name: &str) -> Vec<&'a Directive> {
    let on = |level: &Level<'a>| -> Vec<&'a Directive> {
        level.iter().copied().filter(|one| one.name == name).collect()
    };
    chain.iter().rev().map(on).find(|found| !found.is_empty()).unwrap_or_default()
}

/// The first argument.
pub(super) fn first(directive: &Directive) -> &str {
    directive.words.first().map(String::as_str).unwrap_or_default()
}

/// Who may come in by `allow` and `deny`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// These, or everybody where there are none.
    Only(Vec<IpNet>),
    /// Nobody, or everybody but some.
    Unsayable,
}

impl Access {
    /// Of the rules on one level, where it has some: the first that fits a client counts.
    fn of(level: &[&Directive]) -> Option<Self> {
        let rules: Vec<_> =
            level.iter().filter(|one| matches!(one.name.as_str(), "allow" | "deny")).collect();
        let mut allowed = Vec::new();
        for rule in &rules {
            match (rule.name.as_str(), first(rule)) {
                ("allow", "all") => return Some(Self::Only(Vec::new())),
                ("allow", address) => allowed.extend(network(address)),
                (_, "all") if !allowed.is_empty() => return Some(Self::Only(allowed)),
                _ => return Some(Self::Unsayable),
            }
        }
        (!rules.is_empty()).then(|| Self::Only(Vec::new()))
    }

    /// Of the innermost level that has some.
    pub(super) fn within(chain: &[Level<'_>]) -> Self {
        chain.iter().rev().find_map(Level::access).cloned().unwrap_or(Self::Only(Vec::new()))
    }
}

/// An address or a network; nginx takes bits behind the prefix, sanedge.toml does not.
pub(super) fn network(text: &str) -> Option<IpNet> {
    let network = text.parse::<IpNet>().map(|network| network.trunc());
    network.or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()
}

/// Whether requests to upgrade to a WebSocket reach the app: request fields are those of the innermost level that sets any.
pub(super) fn passes_websockets(chain: &[Level<'_>]) -> bool {
    let sets = |one: &&Directive| one.name == "proxy_set_header" || is_npm_proxy(one);
    let level = chain.iter().rev().find(|level| level.iter().any(sets));
    let upgrades = |one: &&Directive| {
        one.name == "proxy_set_header"
            && first(one).eq_ignore_ascii_case("upgrade")
            && one.words.get(1).is_some_and(|value| !value.is_empty())
    };
    level.is_some_and(|level| level.iter().any(upgrades))
}

fn is_npm_proxy(directive: &Directive) -> bool {
    directive.name == "include" && directive.unread == Some(Fate::Translated)
}

/// Where requests of a location go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) upstreams: Vec<String>,
    /// The app gets the path without that of the location.
    pub(super) strips: bool,
    /// What to check.
    pub(super) check: Option<&'static str>,
}

/// Of the location at `path`; none where nothing passes its requests on.
pub(super) fn target(
    chain: &[Level<'_>],
    groups: &Groups<'_>,
    path: &str,
    is_npm: bool,
) -> Option<Result<Target, Fate>> {
    let own = chain.last()?;
    let passes = own.iter().find(|one| one.name == "proxy_pass" || is_npm_proxy(one))?;
    let written = if passes.name == "proxy_pass" {
        first(passes)
    } else {
        "$forward_scheme://$server:$port$request_uri"
    };
    Some(targeted(&expanded(written, chain), written, groups, path, is_npm))
}

fn targeted(url: &str, written: &str, groups: &Groups<'_>, path: &str, is_npm: bool) -> Result<Target, Fate> {
    let (scheme, rest) = url.split_once("://").ok_or(VARIABLE)?;
    match scheme.to_ascii_lowercase().as_str() {
        "http" => {}
        "https" => return Err(HTTPS),
        scheme => return Err(if scheme.contains('$') { VARIABLE } else { ADDRESS }),
    }
    let (authority, uri) = match rest.strip_prefix("unix:").and_then(|socket| socket.split_once(':')) {
        Some((socket, uri)) => (format!("unix:{socket}"), uri),
        None if rest.starts_with("unix:") => (rest.to_owned(), ""),
        None => {
            let host_end = rest.find(['/', '?']).unwrap_or(rest.len());
            let end =
                rest.find("$request_uri").or_else(|| rest.find("$uri")).unwrap_or(host_end).min(host_end);
            let (authority, uri) = rest.split_at_checked(end).unwrap_or((rest, ""));
            (authority.to_owned(), uri)
        }
    };
    if authority.contains('$') {
        return Err(VARIABLE);
    }
    let strips = strips(uri, path, written.contains('$'))?;
    let (upstreams, check) = match groups.get(authority.as_str()) {
        Some(group) => (members(group)?, None),
        None => {
            let upstream = address(&authority).ok_or(ADDRESS)?;
            (vec![upstream], check(&authority, is_npm))
        }
    };
    Ok(Target { upstreams, strips, check })
}

/// Whether the app gets a shorter path, where a `proxy_pass` ends in `uri`.
fn strips(uri: &str, path: &str, has_variables: bool) -> Result<bool, Fate> {
    let bare = |path: &str| path.trim_end_matches('/').to_owned();
    match uri {
        "" | "$request_uri" | "$uri" | "$uri$is_args$args" => Ok(false),
        _ if uri.contains('$') => Err(VARIABLE),
        // nginx sends it as it is then, whatever was asked for.
        _ if has_variables => Err(REWRITTEN),
        _ if bare(uri) == bare(path) => Ok(false),
        "/" => Ok(true),
        _ => Err(REWRITTEN),
    }
}

/// A text with the values that `set` gives its variables.
fn expanded(text: &str, chain: &[Level<'_>]) -> String {
    let mut text = text.to_owned();
    for _ in 0..EXPANSIONS_MAX {
        let mut next = String::new();
        let mut parts = text.split('$');
        next += parts.next().unwrap_or_default();
        for part in parts {
            let braced = part.strip_prefix('{').and_then(|part| part.split_once('}'));
            let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(part.len());
            let (name, rest) = braced.or_else(|| part.split_at_checked(end)).unwrap_or((part, ""));
            match value(name, chain) {
                Some(value) => next += value,
                None => next.extend(["$", name]),
            }
            next += rest;
        }
        if next == text || next.len() > WORD_BYTES_MAX {
            break;
        }
        text = next;
    }
    text
}

/// The last value on the innermost level that sets it.
fn value<'a>(name: &str, chain: &[Level<'a>]) -> Option<&'a str> {
    let sets = |one: &&&Directive| one.name == "set" && first(one).strip_prefix('$') == Some(name);
    let found = chain.iter().rev().find_map(|level| level.iter().rfind(sets))?;
    found.words.get(1).map(String::as_str)
}

/// An upstream as sanedge.toml writes it.
fn address(text: &str) -> Option<String> {
    if may_hold_key(text) {
        return None;
    }
    if let Some(path) = text.strip_prefix("unix:") {
        let is_plain = path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-@".contains(&b));
        return (path.starts_with('/') && is_plain).then(|| text.to_owned());
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.to_string());
    }
    let (host, port) = Host::parse_authority(text).ok()?;
    let port = port.unwrap_or(HTTP_PORT);
    let host = if host.to_string() == "host.docker.internal" {
        "127.0.0.1".to_owned()
    } else {
        host.uri_host().to_string()
    };
    Some(format!("{host}:{port}"))
}

fn check(authority: &str, is_npm: bool) -> Option<&'static str> {
    let (host, _) = Host::parse_authority(authority).ok()?;
    match &host {
        Host::Dns(name) if name.as_str() == "localhost" => is_npm.then_some(LOOPBACK),
        Host::Dns(name) => (!name.as_str().contains('.')).then_some(DOCKER),
        Host::Ip(ip) => (ip.is_loopback() && is_npm).then_some(LOOPBACK),
    }
}

/// The servers of an `upstream` that take requests.
fn members(group: &Directive) -> Result<Vec<String>, Fate> {
    let all = flat(group.body.as_deref().unwrap_or_default());
    let servers = all.iter().filter(|one| one.name == "server" && !is_spare(one));
    let found: Option<Vec<_>> = servers.map(|server| address(first(server))).collect();
    found.filter(|found| !found.is_empty()).ok_or(ADDRESS)
}

fn is_spare(server: &Directive) -> bool {
    server.words.iter().any(|word| matches!(word.as_str(), "down" | "backup"))
}

/// What becomes of a directive in an `upstream`.
pub(super) fn member(directive: &Directive) -> Fate {
    match directive.name.as_str() {
        "server" if is_spare(directive) => {
            Fate::Lost("sanedge has no backup upstreams: this one is left out")
        }
        "server" if directive.words.iter().any(|word| word.starts_with("weight=")) => {
            Fate::Lost("sanedge has no weights: upstreams get new sessions in rotation")
        }
        "server" => Fate::Translated,
        "ip_hash" | "hash" | "sticky" | "least_conn" | "least_time" | "random" | "keepalive"
        | "keepalive_requests" | "keepalive_timeout" | "keepalive_time" | "zone" | "resolver"
        | "resolver_timeout" | "ntlm" => Fate::Fine(
            "sanedge keeps connections, and an Engine.IO session stays with the upstream that opened it",
        ),
        "include" => {
            if directive.body.is_some() {
                Fate::Translated
            } else {
                directive.unread.unwrap_or(known::UNKNOWN)
            }
        }
        _ => Fate::Lost("sanedge distributes new sessions in its own way"),
    }
}

/// `if` that redirects plain HTTP to https, on the same host.
pub(super) fn is_https_redirect(directive: &Directive) -> bool {
    let asks = ["$scheme", "$http_x_forwarded_proto", "$https", "$server_port"];
    let condition = directive.words.first().map(|word| word.trim_start_matches('(')).unwrap_or_default();
    let body = directive.body.as_deref().unwrap_or_default();
    asks.contains(&condition) && matches!(body, [only] if is_same_host_in_https(only))
}

/// `return 301 https://$host$request_uri`.
pub(super) fn is_same_host_in_https(directive: &Directive) -> bool {
    let url = directive.words.last().map(String::as_str).unwrap_or_default();
    let host =
        url.strip_prefix("https://").and_then(|rest| rest.strip_suffix("$request_uri")).unwrap_or_default();
    directive.name == "return" && matches!(host, "$host" | "$http_host" | "$server_name")
}

/// A response field by its name, with its value; none: it is removed.
pub(super) type Field = (String, Option<String>);

/// Fields that have several lines, or that the app has to have the last word on.
const FIELDS_LEFT: [&str; 5] = ["set-cookie", "vary", "link", "www-authenticate", "alt-svc"];

/// The response fields that nginx sets in a location: those of the innermost level that sets any.
pub(super) fn fields(chain: &[Level<'_>]) -> Vec<Field> {
    let sets = |one: &&Directive| one.name == "add_header" || is_npm_proxy(one);
    let level = chain.iter().rev().find(|level| level.iter().any(sets));
    let set = level.into_iter().flat_map(|level| level.iter().filter(|one| one.name == "add_header"));
    let mut found: Vec<_> = set.filter_map(|one| field(one, chain)).collect();
    let is_set =
        |found: &[Field], name: &str| found.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
    for hidden in nearest(chain, "proxy_hide_header").into_iter().filter_map(|one| field(one, chain)) {
        if !is_set(&found, &hidden.0) {
            found.push(hidden);
        }
    }
    found.sort_by_cached_key(|(name, _)| name.to_ascii_lowercase());
    let twice: Vec<_> = found
        .windows(2)
        .filter(|two| matches!(two, [one, other] if one.0.eq_ignore_ascii_case(&other.0)))
        .collect();
    let twice: Vec<_> = twice.into_iter().flatten().map(|(name, _)| name.clone()).collect();
    found.retain(|(name, _)| !twice.contains(name));
    found
}

/// The field of `add_header` or `proxy_hide_header`, if a site can say it.
pub(super) fn field(directive: &Directive, chain: &[Level<'_>]) -> Option<Field> {
    let name = first(directive);
    let is_left = FIELDS_LEFT.iter().any(|left| name.eq_ignore_ascii_case(left));
    if !is_name(name) || may_hold_key(name) || reserved(name).is_some() || is_left {
        return None;
    }
    if directive.name == "proxy_hide_header" {
        return Some((name.to_owned(), None));
    }
    let value = expanded(directive.words.get(1)?, chain);
    let value = mapped(&value, directive.file, chain).unwrap_or(value);
    (is_value(&value) && !value.contains('$') && !may_hold_key(&value))
        .then(|| (name.to_owned(), Some(value)))
}

/// What a variable is with https, by `map $scheme $variable`; NPM has one in the file of each host.
fn mapped(variable: &str, file: u16, chain: &[Level<'_>]) -> Option<String> {
    let maps = |one: &&&Directive| {
        one.name == "map" && matches!(one.words.as_slice(), [from, to] if from == "$scheme" && to == variable)
    };
    let http = chain.first()?;
    let map = http.iter().rfind(|one| maps(one) && one.file == file).or_else(|| http.iter().rfind(maps))?;
    let https = map.body.iter().flatten().find(|one| one.name == "https")?;
    https.words.first().cloned()
}

/// Where a `return` sends clients of a whole host, and what to check about it.
pub(super) fn redirect(directive: &Directive, chain: &[Level<'_>]) -> Option<(String, Option<&'static str>)> {
    let (code, url) = match directive.words.as_slice() {
        [url] => ("302", url),
        [code, url] => (code.as_str(), url),
        _ => return None,
    };
    let url = expanded(url, chain);
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("$scheme://"))?;
    let (to, keeps) = rest.strip_suffix("$request_uri").map_or((rest, false), |to| (to, true));
    let (authority, path) = to.split_at_checked(to.find('/').unwrap_or(to.len()))?;
    let is_plain = path.bytes().all(|b| b.is_ascii_graphic() && !b"?#\\$\"'".contains(&b));
    if !is_plain || may_hold_key(to) || !matches!(code, "301" | "302" | "303" | "307" | "308") {
        return None;
    }
    Host::parse_authority(authority).ok()?;
    let check = (!keeps || !matches!(code, "301" | "308")).then_some(KEEPS);
    Some((format!("https://{authority}{}", path.trim_end_matches('/')), check))
}

/// A time as nginx writes it (`60`, `5m`, `1h30m`, `500ms`), in milliseconds.
pub(super) fn time_ms(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 8] = [
        ("ms", 1),
        ("s", 1000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
        ("w", 604_800_000),
        ("M", 2_592_000_000),
        ("y", 31_536_000_000),
    ];
    let (mut rest, mut total) = (text.trim(), 0_u64);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (digits, behind) = rest.split_at_checked(end)?;
        let unit = UNITS.iter().find(|(unit, _)| behind.starts_with(unit));
        let (length, factor) = unit.map_or((0, 1000), |(unit, factor)| (unit.len(), *factor));
        if unit.is_none() && !behind.is_empty() {
            return None;
        }
        total = total.checked_add(digits.parse::<u64>().ok()?.checked_mul(factor)?)?;
        rest = behind.get(length..)?.trim_start();
    }
    (!text.is_empty()).then_some(total)
}

/// A size as nginx writes it (`1m`, `64k`, `2g`), in bytes.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(end)?;
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::syntax::parse;

    fn access(text: &str) -> Option<String> {
        let read = parse(text.as_bytes(), 0).unwrap();
        flat(&read).access().cloned().map(|access| match access {
            Access::Only(networks) => networks.iter().map(|one| format!("{one} ")).collect(),
            Access::Unsayable => "unsayable".to_owned(),
        })
    }

    #[test]
    fn the_first_rule_counts_and_only_a_list_with_deny_all_behind_is_an_allow() {
        for (rules, expected) in [
            ("", None),
            (
                "allow 192.168.1.5/24; allow 10.0.0.1; allow fd00::/8; deny all;",
                Some("192.168.1.0/24 10.0.0.1/32 fd00::/8 "),
            ),
            ("allow 10.0.0.0/8; deny all; allow 1.2.3.4;", Some("10.0.0.0/8 ")),
            ("allow all; deny all;", Some("")),
            ("allow 10.0.0.0/8;", Some("")),
            ("deny all;", Some("unsayable")),
            ("deny 1.2.3.4;", Some("unsayable")),
            ("allow 10.0.0.0/8; deny 0.0.0.0/0;", Some("unsayable")),
            ("allow 10.0.0.0/8; deny 10.1.0.0/16; deny all;", Some("unsayable")),
            ("allow unix:; deny all;", Some("unsayable")),
            ("allow example.org; deny all;", Some("unsayable")),
        ] {
            assert_eq!(access(rules).as_deref(), expected, "{rules}");
        }
    }

    #[test]
    fn where_requests_go_is_read_from_every_form_of_proxy_pass() {
        let text = "upstream app { ip_hash; server 10.0.0.1:3000; server 10.0.0.2 weight=2; server 10.0.0.3 backup; server unix:/run/a.sock; }
            set $forward_scheme http; set $server \"node\"; set $port 3000; set $up 10.0.0.9:80; set $loop $loop;";
        let read = parse(text.as_bytes(), 0).unwrap();
        let groups = Groups::from([("app", &read[0])]);
        let http = flat(&read);
        let go = |path: &str, pass: &str| {
            let own = parse(format!("proxy_pass {pass};").as_bytes(), 0).unwrap();
            match target(&[http.clone(), flat(&own)], &groups, path, true).unwrap() {
                Ok(target) => format!("{} {}", target.upstreams.join(" "), target.strips),
                Err(Fate::Closed(why)) => why.chars().take(20).collect(),
                Err(other) => format!("{other:?}"),
            }
        };
        for (path, pass, expected) in [
            ("/", "$forward_scheme://$server:$port$request_uri", "node:3000 false"),
            ("/", "http://${server}:${port}", "node:3000 false"),
            ("/", "http://$up", "10.0.0.9:80 false"),
            ("/", "http://10.0.0.1:3000/", "10.0.0.1:3000 false"),
            ("/api/", "http://10.0.0.1:3000/", "10.0.0.1:3000 true"),
            ("/api", "http://10.0.0.1:3000/", "10.0.0.1:3000 true"),
            ("/api/", "http://10.0.0.1:3000/api/", "10.0.0.1:3000 false"),
            ("/api/", "http://10.0.0.1:3000", "10.0.0.1:3000 false"),
            ("/", "http://app", "10.0.0.1:3000 10.0.0.2:80 unix:/run/a.sock false"),
            ("/", "http://unix:/run/app/a.sock:/", "unix:/run/app/a.sock false"),
            ("/", "http://unix:/run/app/a.sock", "unix:/run/app/a.sock false"),
            ("/", "HTTP://[fd00::1]:3000", "[fd00::1]:3000 false"),
            ("/", "http://host.docker.internal:3000", "127.0.0.1:3000 false"),
            ("/", "http://node", "node:80 false"),
            ("/", "https://10.0.0.1:8443", "sanedge speaks plain"),
            ("/api/", "http://10.0.0.1:3000/v2/", "sanedge can remove t"),
            ("/", "http://$server:$port/v2", "sanedge can remove t"),
            ("/", "http://$arg_host", "the address depends "),
            ("/", "http://$loop", "the address depends "),
            ("/", "$up", "the address depends "),
            ("/", "http://user:secret@10.0.0.1:3000", "sanedge cannot take "),
            ("/", "http://unix:relative.sock", "sanedge cannot take "),
            ("/", "fastcgi://10.0.0.1:9000", "sanedge cannot take "),
        ] {
            assert_eq!(go(path, pass), expected, "{path} {pass}");
        }
    }

    #[test]
    fn times_and_sizes_are_those_of_nginx() {
        for (text, expected) in [
            ("60", Some(60_000)),
            ("5m", Some(300_000)),
            ("1h30m", Some(5_400_000)),
            ("500ms", Some(500)),
            ("1d", Some(86_400_000)),
            ("", None),
            ("x", None),
            ("5x", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(time_ms(text), expected, "{text}");
        }
        for (text, expected) in [
            ("0", Some(0)),
            ("64m", Some(64 << 20)),
            ("2G", Some(2 << 30)),
            ("1k", Some(1024)),
            ("x", None),
            ("1t", None),
            ("", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}
