//! `server` blocks to sites: which hosts, which paths lead to which app, and what would be open without what sanedge does not have.
//!
//! Each directive gets one [`Row`], which says what becomes of it.

use std::collections::BTreeSet;

use super::known::{self, Fate, Row};
use super::location::{self, Location, Route};
use super::syntax::Directive;
use super::values::{
    Access, Field, Groups, Level, bytes, field, fields, first, flat, is_https_redirect,
    is_same_host_in_https, member, nearest, redirect, time_ms,
};
use crate::excerpt::may_hold_key;
use crate::http::changes::HSTS_FIELD;
use crate::names::Host;

const PLAIN: Fate = Fate::Closed("nginx serves it without TLS: it needs a certificate first");
const SHADOWED: Fate = Fate::Lost("an earlier `server` has the same names, so nginx does not use this one");
const REDIRECTS: Fate = Fate::Fine("port 80 redirects to https");
const NO_NAME: Fate =
    Fate::Lost("it answers for names that no other `server` has: sanedge serves named hosts only");
const NAMES: Fate = Fate::Lost(
    "one of its names is a pattern or not ASCII: list each host by its whole name (xn--… for other scripts)",
);
const NO_HOST: Fate = Fate::Closed(
    "its names are patterns or not ASCII: list each host by its whole name (xn--… for other scripts)",
);
const LISTEN: Fate = Fate::Closed(
    "it listens on one address, or on another port than 443, and sanedge serves every host on every listener",
);
const LISTEN_MORE: Fate = Fate::Lost("sanedge serves every host on the listeners in [listen]");
const PROXY_PROTOCOL: Fate =
    Fate::Closed("its clients send the PROXY protocol: set `proxy_protocol_from` in [listen]");
const DENY: Fate =
    Fate::Closed("sanedge.toml can express `allow` followed by `deny all`, and no other `deny`");
const REAL_IP: Fate = Fate::Closed(
    "nginx compares `allow` with the client of the proxy: list the proxy in `trusted_proxies`, otherwise `allow` admits all its clients",
);
const DEAD: Fate =
    Fate::Lost("sanedge has no host that only answers with an error: its clients get a TLS alert");
const NO_PATH: Fate = Fate::Fine("sanedge answers 404 where no path is served");
const REDIRECTION: Fate = Fate::Closed(
    "sanedge redirects whole hosts only, to an https URL that does not depend on the request: let the app do it",
);
const FIELD_OF_PATH: Fate = Fate::Lost(
    "nginx does not send this field on every path of the host, and [site.headers] applies to all of them",
);
const FIELD_REPLACED: Fate =
    Fate::Check("a field in [site.headers] replaces that of the app, while nginx adds it");
const LOCATIONS: Fate = Fate::Closed("it has more locations than a site can have paths");
const LEFT_OUT: Fate = Fate::Lost("its location is left out");
const OFF: Fate = Fate::Fine("it switches off what sanedge does not have");
const VALUE: Fate = Fate::Lost("sanedge does not take this value");

const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;
/// Locations of one server that are looked at: a bundle has 256 routes.
const LOCATIONS_MAX: usize = 256;
/// Reasons that are written for one host.
const REASONS_MAX: usize = 20;

/// A site, in use or not.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) file: u16,
    pub(super) line: u32,
    pub(super) hosts: Vec<Host>,
    pub(super) routes: Vec<Route>,
    /// Where the whole host is redirected to.
    pub(super) redirect: Option<String>,
    /// Response fields of all its paths.
    pub(super) fields: Vec<Field>,
    pub(super) certificates: Vec<Certificate>,
    /// Why it is written as comments; empty where it is in use.
    pub(super) closed: Vec<Row>,
    /// What to check before it is used.
    pub(super) checks: Vec<&'static str>,
}

/// A chain and its key as nginx names them.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) file: u16,
    pub(super) line: u32,
    pub(super) chain: String,
    pub(super) key: String,
}

/// What stands in `http`: the servers, the groups of upstreams, and what holds for all servers.
#[derive(Debug, Default)]
pub(super) struct Http<'a> {
    level: Level<'a>,
    servers: Vec<&'a Directive>,
    groups: Groups<'a>,
    has_allow: bool,
    is_npm: bool,
    pub(super) rows: Vec<Row>,
    /// Of `rows`, those that close every host.
    closed: Vec<Row>,
    /// Response fields of all paths of the server that is judged.
    fields: Vec<Field>,
}

/// A server before its locations are looked at.
struct Front<'a> {
    at: &'a Directive,
    level: Level<'a>,
    hosts: Vec<Host>,
    /// It has names that are no hosts.
    has_patterns: bool,
    is_tls: bool,
}

impl<'a> Http<'a> {
    /// Of what stands at the top of all files.
    pub(super) fn of(top: &'a [Directive], is_npm: bool) -> Self {
        let mut http = Self { is_npm, ..Self::default() };
        let mut level = Vec::new();
        http.gather(top, &mut level);
        let level = Level::of(level);
        http.level = level.clone();
        http.has_allow = level.iter().chain(&http.servers).any(|one| has_allow(one));
        level.iter().for_each(|directive| http.judge(directive, std::slice::from_ref(&level), None));
        http.closed = http.rows.iter().filter(|row| row.is_closed()).cloned().collect();
        http
    }

    fn gather(&mut self, directives: &'a [Directive], level: &mut Vec<&'a Directive>) {
        for directive in directives {
            match (directive.name.as_str(), &directive.body) {
                ("http" | "include", Some(body)) => {
                    self.row(directive, Fate::Translated);
                    self.gather(body, level);
                }
                ("server", Some(_)) => self.servers.push(directive),
                ("upstream", Some(body)) => {
                    self.row(directive, Fate::Translated);
                    flat(body).iter().for_each(|one| self.row(one, member(one)));
                    self.groups.entry(first(directive)).or_insert(directive);
                }
                _ => level.push(directive),
            }
        }
    }

    /// All sites. Those with TLS have their hosts, whatever another server says about port 80.
    pub(super) fn sites(&mut self) -> Vec<Site> {
        let fronts = std::mem::take(&mut self.servers).into_iter().map(Front::of);
        let (tls, plain): (Vec<_>, Vec<_>) = fronts.partition(|front| front.is_tls);
        let (mut taken, none) = (BTreeSet::new(), BTreeSet::new());
        let mut sites: Vec<_> =
            tls.into_iter().filter_map(|front| self.site(front, &mut taken, &none)).collect();
        let with_tls = taken.clone();
        sites.extend(plain.into_iter().filter_map(|front| self.site(front, &mut taken, &with_tls)));
        sites.sort_by_key(|site| (site.file, site.line));
        sites
    }

    /// None where it has no host of its own.
    fn site(
        &mut self,
        mut front: Front<'a>,
        taken: &mut BTreeSet<Host>,
        with_tls: &BTreeSet<Host>,
    ) -> Option<Site> {
        let (at, has_names) = (front.at, !front.hosts.is_empty());
        let is_redirected = has_names && front.hosts.iter().all(|host| with_tls.contains(host));
        front.hosts.retain(|host| taken.insert(host.clone()));
        if front.hosts.is_empty() && !front.has_patterns {
            let named = if is_redirected { REDIRECTS } else { SHADOWED };
            self.all(at, if has_names { named } else { NO_NAME });
            return None;
        }
        let from = self.rows.len();
        self.row(at, if front.is_tls { Fate::Translated } else { PLAIN });
        let chain = [self.level.clone(), front.level.clone()];
        let (routes, redirect) = self.server(&chain);
        let certificates =
            nearest(&chain, "ssl_certificate").into_iter().zip(nearest(&chain, "ssl_certificate_key"));
        let certificate = |(chain, key): (&Directive, &Directive)| {
            let Directive { file, line, .. } = *chain;
            Certificate { file, line, chain: first(chain).to_owned(), key: first(key).to_owned() }
        };
        let rows = self.rows.get(from..).unwrap_or_default();
        let checks: BTreeSet<_> = rows.iter().filter_map(Row::check).collect();
        let closed = rows.iter().filter(|row| row.is_closed()).chain(&self.closed);
        Some(Site {
            file: at.file,
            line: at.line,
            hosts: front.hosts,
            certificates: certificates.map(certificate).collect(),
            closed: closed.take(REASONS_MAX).cloned().collect(),
            checks: checks.into_iter().collect(),
            fields: std::mem::take(&mut self.fields),
            routes,
            redirect,
        })
    }

    /// Judges all that is in a server, the last level of `chain`: its routes, or where it redirects to.
    fn server(&mut self, chain: &[Level<'a>; 2]) -> (Vec<Route>, Option<String>) {
        let [_, level] = chain;
        if level.iter().map(|one| locations_in(one)).sum::<usize>() > LOCATIONS_MAX {
            level.iter().for_each(|directive| self.all(directive, LOCATIONS));
            return (Vec::new(), None);
        }
        let locations = location::find(chain, &self.groups, self.is_npm);
        let routes: Vec<_> = locations.iter().filter_map(|location| location.route.clone()).collect();
        let is_public = is_public(level);
        let returns = level.iter().copied().find(|one| one.name == "return");
        let of_root = locations.iter().filter(|_| routes.is_empty()).find_map(|location| {
            Some((redirect(location.returned()?, &location.chain)?, fields(&location.chain)))
        });
        let redirected = match returns {
            Some(returns) => redirect(returns, chain).map(|to| (to, fields(chain))),
            None => of_root,
        };
        self.fields = match &redirected {
            Some((_, fields)) => fields.clone(),
            None => common(&routes),
        };
        let check = redirected.as_ref().map(|((_, check), _)| check.map_or(Fate::Translated, Fate::Check));
        for directive in level.iter().filter(|one| one.name != "location") {
            match directive.name.as_str() {
                "server_name" => self.row(directive, Names::of(directive).fate()),
                "listen" => self.row(directive, listens(directive, is_public)),
                "return" if check.is_some() => self.row(directive, check.unwrap_or(Fate::Translated)),
                _ => self.judge(directive, chain, None),
            }
        }
        let whole: Vec<_> = locations.iter().filter(|one| one.whole().is_some()).map(|one| one.at).collect();
        // What is in another whole one has the rows of that.
        for location in locations.iter().filter(|one| !whole.iter().any(|outer| is_within(one.at, outer))) {
            let redirects = check.filter(|_| returns.is_none() && location.returned().is_some());
            let fate = if redirects.is_some() { Fate::Translated } else { location.fate(&routes) };
            if let Some(whole) = location.whole() {
                self.all(location.at, whole);
                continue;
            }
            self.row(location.at, fate);
            for directive in location.own().iter().filter(|one| one.name != "location") {
                match redirects.filter(|_| directive.name == "return") {
                    Some(redirects) => self.row(directive, redirects),
                    None => self.judge(directive, &location.chain, Some((location, fate))),
                }
            }
        }
        let routes = if returns.is_some() { Vec::new() } else { routes };
        (routes, redirected.map(|((to, _), _)| to))
    }

    /// The row of a directive at the end of `chain`, and, where it is in a location, of what becomes of that.
    fn judge(&mut self, directive: &Directive, chain: &[Level<'a>], within: Option<(&Location<'a>, Fate)>) {
        let word = first(directive);
        let value = |read: Option<u64>| if read.is_some() { Fate::Translated } else { VALUE };
        let proxied = || within.map_or(known::UNKNOWN, |(location, _)| location.proxied());
        let is_left_out = matches!(within, Some((_, Fate::Lost(_))));
        let fate = match directive.name.as_str() {
            "include" if directive.body.is_some() => Fate::Translated,
            "include" if directive.unread == Some(Fate::Translated) => proxied(),
            "include" => directive.unread.unwrap_or(known::UNKNOWN),
            "proxy_pass" => proxied(),
            "allow" | "deny" => match chain.last().and_then(Level::access) {
                Some(Access::Unsayable) => DENY,
                _ => Fate::Translated,
            },
            "proxy_set_header" => {
                known::request_field(word, directive.words.get(1).map(String::as_str).unwrap_or_default())
            }
            "proxy_read_timeout" => value(time_ms(word)),
            "client_max_body_size" => value(bytes(word)),
            "ssl_certificate" | "ssl_certificate_key" => Fate::Translated,
            "add_header" | "proxy_hide_header" => self.response_field(directive, chain),
            "map" if matches!(word, "$scheme" | "$http_upgrade") => known::directive("set"),
            "auth_basic" | "auth_request" | "ssl_verify_client" if word == "off" => OFF,
            "set_real_ip_from" if self.has_allow => REAL_IP,
            "if" if is_https_redirect(directive) => REDIRECTS,
            "return" if is_same_host_in_https(directive) => REDIRECTS,
            "return" if within.is_none_or(|(location, _)| location.path == "/") => {
                returned(directive, within.is_some())
            }
            name if is_left_out && known::is_handler(name) => LEFT_OUT,
            name => match known::directive(name) {
                Fate::Lost(_) if word == "off" => OFF,
                fate => fate,
            },
        };
        match directive.name.as_str() {
            "if" | "limit_except" => self.all(directive, fate),
            _ => self.row(directive, fate),
        }
    }

    fn response_field(&self, directive: &Directive, chain: &[Level<'a>]) -> Fate {
        match field(directive, chain) {
            Some(field) if !self.fields.contains(&field) => FIELD_OF_PATH,
            Some((name, Some(_))) if !name.eq_ignore_ascii_case(HSTS_FIELD) => FIELD_REPLACED,
            Some(_) => Fate::Translated,
            None => known::directive(&directive.name),
        }
    }

    /// One fate for a directive and for all in it; what is in a `map` and the like are no directives.
    fn all(&mut self, directive: &Directive, fate: Fate) {
        self.row(directive, fate);
        let has_directives =
            ["server", "location", "if", "limit_except", "include"].contains(&directive.name.as_str());
        for inner in directive.body.iter().flatten().filter(|_| has_directives) {
            self.all(inner, fate);
        }
    }

    fn row(&mut self, directive: &Directive, fate: Fate) {
        let Directive { file, line, name, .. } = directive;
        self.rows.push(Row { file: *file, line: *line, name: name.clone(), fate });
    }
}

impl<'a> Front<'a> {
    fn of(at: &'a Directive) -> Self {
        let level = flat(at.body.as_deref().unwrap_or_default());
        let names: Vec<_> =
            level.iter().filter(|one| one.name == "server_name").map(|one| Names::of(one)).collect();
        let has = |name: &str, word: &str| {
            level.iter().any(|one| one.name == name && one.words.iter().any(|w| w == word))
        };
        Self {
            is_tls: has("listen", "ssl") || has("listen", "quic") || has("ssl", "on"),
            has_patterns: names.iter().any(|names| names.has_patterns),
            hosts: names.into_iter().flat_map(|names| names.hosts).collect(),
            at,
            level,
        }
    }
}

/// What a `server_name` says.
struct Names {
    hosts: Vec<Host>,
    has_patterns: bool,
}

impl Names {
    fn of(directive: &Directive) -> Self {
        let mut names = Self { hosts: Vec::new(), has_patterns: false };
        for word in directive.words.iter().filter(|word| !matches!(word.as_str(), "" | "_")) {
            // `.recre.store` is the name itself and all below it.
            let host =
                Host::parse(word.strip_prefix('.').unwrap_or(word)).ok().filter(|_| !may_hold_key(word));
            names.has_patterns |= host.is_none() || word.starts_with('.');
            names.hosts.extend(host.filter(|host| !names.hosts.contains(host)));
        }
        names
    }

    fn fate(&self) -> Fate {
        match (self.has_patterns, self.hosts.is_empty()) {
            (true, true) => NO_HOST,
            (true, false) => NAMES,
            (false, _) => Fate::Translated,
        }
    }
}

/// The port of a `listen` on every address.
fn public_port(listen: &Directive) -> Option<u16> {
    let address = first(listen);
    let is_every = |host: &str| matches!(host, "*" | "[::]" | "0.0.0.0");
    if is_every(address) {
        return Some(HTTP_PORT);
    }
    let (host, port) = address.rsplit_once(':').unwrap_or(("*", address));
    port.parse().ok().filter(|_| is_every(host))
}

/// Whether a server can be reached on the port of every address on which sanedge has it.
fn is_public(level: &Level<'_>) -> bool {
    let listens = || level.iter().filter(|one| one.name == "listen");
    let has_ssl = listens().any(|one| one.words.iter().any(|word| matches!(word.as_str(), "ssl" | "quic")));
    listens().any(
        |one| matches!(public_port(one), Some(port) if port == HTTPS_PORT || (port == HTTP_PORT && !has_ssl)),
    )
}

/// What becomes of a `listen`: [listen] has the two ports, for all hosts.
fn listens(listen: &Directive, is_public: bool) -> Fate {
    match public_port(listen) {
        _ if listen.words.iter().any(|word| word == "proxy_protocol") => PROXY_PROTOCOL,
        Some(HTTP_PORT | HTTPS_PORT) => Fate::Translated,
        _ if is_public => LISTEN_MORE,
        _ => LISTEN,
    }
}

/// A `return` that answers all requests of a server, or those of `location /`.
fn returned(directive: &Directive, is_in_location: bool) -> Fate {
    let is_redirect = matches!(first(directive), "301" | "302" | "303" | "307" | "308")
        || directive.words.len() == 1 && first(directive).contains("://");
    match (is_redirect, is_in_location) {
        (true, _) => REDIRECTION,
        (false, true) => NO_PATH,
        (false, false) => DEAD,
    }
}

fn locations_in(directive: &Directive) -> usize {
    let inner = directive.body.iter().flatten().map(locations_in).sum::<usize>();
    inner + usize::from(directive.name == "location")
}

/// Whether `inner` is somewhere in the block of `outer`.
fn is_within(inner: &Directive, outer: &Directive) -> bool {
    outer.body.iter().flatten().any(|one| std::ptr::eq(one, inner) || is_within(inner, one))
}

/// The fields that all routes have.
fn common(routes: &[Route]) -> Vec<Field> {
    let mut all = routes.iter().map(|route| &route.fields);
    let mut common = all.next().cloned().unwrap_or_default();
    all.for_each(|fields| common.retain(|field| fields.contains(field)));
    common
}

fn has_allow(directive: &Directive) -> bool {
    directive.name == "allow" || directive.body.iter().flatten().any(has_allow)
}
