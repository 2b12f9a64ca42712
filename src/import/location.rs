//! The locations of a server: which of them are routes of sanedge, and whether it matters that another one is not.

use ipnet::IpNet;

use super::known::{self, Fate};
use super::syntax::Directive;
use super::values::{
    Access, Field, Groups, Level, Target, bytes, fields, first, flat, nearest, passes_websockets, target,
    time_ms,
};
use crate::excerpt::may_hold_key;

/// Longest path of a route.
const PATH_BYTES_MAX: usize = 1024;

const OTHER: Fate = Fate::Closed("sanedge has no such location: its requests would reach another app");
const SAME: Fate = Fate::Lost("sanedge has no such location: the same app gets its requests by another path");
const NOT_SERVED: Fate = Fate::Lost("sanedge has no such location, and answers 404 there");
const PUBLIC: Fate = Fate::Lost("sanedge has no such location: the app answers there");
const SEGMENT: Fate = Fate::Closed(
    "its `allow` also protects longer names, such as `/adminer` for `/admin`; a path of sanedge matches whole segments",
);
const TWICE: Fate = Fate::Closed("for sanedge, a path with and without its last `/` is the same");
const NAMED: Fate = Fate::Lost("only nginx itself uses this location");
pub(super) const ACME: Fate = Fate::Fine("sanedge answers the CA itself");
const NEAR: &str =
    "nginx also matches longer names, such as `/apis` for `/api`; a path of sanedge matches whole segments";

/// One path of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) path: String,
    pub(super) upstreams: Vec<String>,
    pub(super) strip_prefix: bool,
    pub(super) allow: Vec<IpNet>,
    pub(super) websockets: bool,
    pub(super) response_timeout_ms: Option<u64>,
    pub(super) body_bytes_max: Option<u64>,
    /// Response fields that are set or removed in it.
    pub(super) fields: Vec<Field>,
}

/// How a location says which requests are its.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Prefix,
    Exact,
    Pattern,
    Named,
}

#[derive(Debug)]
pub(super) struct Location<'a> {
    pub(super) at: &'a Directive,
    kind: Kind,
    pub(super) path: &'a str,
    /// What holds in it, from `http` to its own directives.
    pub(super) chain: Vec<Level<'a>>,
    /// Where its requests go; why that cannot be said.
    goes: Option<Result<Target, Fate>>,
    /// The same as a route, if it can be one.
    pub(super) route: Option<Route>,
}

/// Those of the innermost block of `chain`, and those in them.
pub(super) fn find<'a>(chain: &[Level<'a>], groups: &Groups<'_>, is_npm: bool) -> Vec<Location<'a>> {
    let level = chain.last().cloned().unwrap_or_default();
    let mut found = Vec::new();
    for &at in level.iter().filter(|one| one.name == "location") {
        let own = flat(at.body.as_deref().unwrap_or_default());
        let chain: Vec<_> = chain.iter().cloned().chain([own]).collect();
        let location = Location::of(at, chain, groups, is_npm);
        let mut inner = find(&location.chain, groups, is_npm);
        if location.kind != Kind::Prefix {
            // Only what has got into the outer one gets there.
            inner.iter_mut().for_each(|inner| inner.route = None);
        }
        found.push(location);
        found.extend(inner);
    }
    found
}

impl<'a> Location<'a> {
    fn of(at: &'a Directive, chain: Vec<Level<'a>>, groups: &Groups<'_>, is_npm: bool) -> Self {
        let (kind, path) = read(at);
        let goes = target(&chain, groups, path, is_npm);
        let mut location = Self { at, kind, path, chain, goes, route: None };
        location.route = location.as_route().filter(|_| kind == Kind::Prefix && location.whole().is_none());
        location
    }

    fn as_route(&self) -> Option<Route> {
        let (Some(Ok(target)), Access::Only(allow)) = (&self.goes, Access::within(&self.chain)) else {
            return None;
        };
        let value = |name| nearest(&self.chain, name).first().map(|one| first(one)).unwrap_or_default();
        let is_answered = self.own().iter().any(|one| known::is_handler(&one.name));
        (!is_answered && (is_path(self.path) || self.kind == Kind::Pattern)).then(|| Route {
            path: self.path.to_owned(),
            upstreams: target.upstreams.clone(),
            strip_prefix: target.strips,
            allow,
            websockets: passes_websockets(&self.chain),
            response_timeout_ms: time_ms(value("proxy_read_timeout")),
            body_bytes_max: bytes(value("client_max_body_size")).filter(|bytes| *bytes > 0),
            fields: fields(&self.chain),
        })
    }

    pub(super) fn own(&self) -> &[&'a Directive] {
        self.chain.last().map(|level| &**level).unwrap_or_default()
    }

    /// Where all that is in it has one fate.
    pub(super) fn whole(&self) -> Option<Fate> {
        match self.kind {
            Kind::Named => Some(NAMED),
            Kind::Prefix | Kind::Exact if self.path.starts_with("/.well-known/acme-challenge") => Some(ACME),
            _ => None,
        }
    }

    /// The `return` of `location /`, which may be a redirect of the whole host.
    pub(super) fn returned(&self) -> Option<&'a Directive> {
        let is_root = self.kind == Kind::Prefix && self.path == "/";
        self.own().iter().copied().find(|one| is_root && one.name == "return")
    }

    /// What becomes of it beside the routes of its server.
    pub(super) fn fate(&self, routes: &[Route]) -> Fate {
        if let Some(whole) = self.whole() {
            return whole;
        }
        match &self.route {
            Some(route) => fits(route, routes),
            None => self.left_out(routes),
        }
    }

    fn left_out(&self, routes: &[Route]) -> Fate {
        let instead: Vec<_> = match self.kind {
            Kind::Pattern => routes.iter().collect(),
            _ => longest(self.path, routes, |_| true).into_iter().collect(),
        };
        let own = self.as_route();
        let is_same = |route: &&Route| own.as_ref().is_some_and(|own| is_alike(own, route));
        let is_public =
            self.path.starts_with("/.well-known/") || matches!(self.path, "/favicon.ico" | "/robots.txt");
        match () {
            () if instead.is_empty() => NOT_SERVED,
            () if instead.iter().all(is_same) => SAME,
            () if is_public && self.kind != Kind::Pattern => PUBLIC,
            () => OTHER,
        }
    }

    /// What becomes of the directive that passes its requests on.
    pub(super) fn proxied(&self) -> Fate {
        match &self.goes {
            Some(Err(fate)) => *fate,
            Some(Ok(target)) if self.route.is_some() => target.check.map_or(Fate::Translated, Fate::Check),
            _ => SAME,
        }
    }
}

/// Whether a route means the same to sanedge as to nginx.
fn fits(route: &Route, routes: &[Route]) -> Fate {
    let bare = |path: &str| path.trim_end_matches('/').to_owned();
    let is_twin = |other: &&Route| other.path != route.path && bare(&other.path) == bare(&route.path);
    if routes.iter().filter(is_twin).any(|twin| !is_alike(twin, route)) {
        return TWICE;
    }
    let around = longest(&route.path, routes, |other| bare(&other.path) != bare(&route.path));
    match around {
        Some(around)
            if !route.path.ends_with('/') && around.allow != route.allow && !route.allow.is_empty() =>
        {
            SEGMENT
        }
        Some(around) if !route.path.ends_with('/') && around.upstreams != route.upstreams => {
            Fate::Check(NEAR)
        }
        _ => Fate::Translated,
    }
}

/// Whether a request means the same on both, wherever it comes from.
fn is_alike(one: &Route, other: &Route) -> bool {
    let is_stripped = one.strip_prefix || other.strip_prefix;
    one.upstreams == other.upstreams && one.allow == other.allow && !(is_stripped && one.path != other.path)
}

/// The route that sanedge takes for `path`.
fn longest<'r>(path: &str, routes: &'r [Route], wanted: impl Fn(&Route) -> bool) -> Option<&'r Route> {
    let covers = |route: &&Route| {
        let prefix = route.path.trim_end_matches('/');
        wanted(route)
            && path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    routes.iter().filter(covers).max_by_key(|route| route.path.len())
}

/// `location = /path`, also without the blank.
fn read(at: &Directive) -> (Kind, &str) {
    let (first, second) = (first(at), at.words.get(1).map(String::as_str));
    let signs = [
        ("^~", Kind::Prefix),
        ("~*", Kind::Pattern),
        ("~", Kind::Pattern),
        ("=", Kind::Exact),
        ("@", Kind::Named),
    ];
    let sign = signs.into_iter().find_map(|(sign, kind)| Some((kind, first.strip_prefix(sign)?)));
    let (kind, rest) = sign.unwrap_or((Kind::Prefix, first));
    (kind, if rest.is_empty() { second.unwrap_or_default() } else { rest })
}

/// Whether sanedge.toml can have it; a percent sign means another one to nginx, which compares what it stands for.
fn is_path(text: &str) -> bool {
    let plain = text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'\\' | b'%' | b'"'));
    let is_clean = !text.contains("//") && !text.split('/').any(|segment| matches!(segment, "." | ".."));
    text.starts_with('/') && plain && is_clean && text.len() <= PATH_BYTES_MAX && !may_hold_key(text)
}
