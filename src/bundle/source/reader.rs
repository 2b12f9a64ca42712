//! Tables to types: what each table of sanedge.toml holds, and what a route inherits from its site.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use toml::de::{DeTable, DeValue};

use super::parsed::{CertificateFiles, LimitSetting, Lined, Listen, OriginEntry, Route, Site, Source};
use super::typed::{Reader, Value, holds_items, out_of_bounds};
use super::values::{parse_admin, parse_host, parse_origin, parse_path, parse_redirect, parse_upstream};
use crate::bundle::Upstream;
use crate::bundle::finding::{Code, Finding};
use crate::bundle::keys::{CERTIFICATE, LIMITS, LISTEN, ROUTE, SITE, TOP, Table};
use crate::excerpt::Excerpt;
use crate::limits::{self, DRAIN, Drain, RULES, Row, Rules};
use crate::names::Origin;

impl Reader<'_> {
    pub(super) fn syntax(&mut self, error: &toml::de::Error, text: &str) {
        let at = error.span().map_or(0, |span| span.start);
        let line = error.span().map_or(0, |span| self.line(span.start));
        let finding = Finding::new(Code::TomlSyntax, "this is not TOML")
            .expected("TOML 1.0: `key = \"text\"`, `key = [\"a\", \"b\"]`, `[table]`, `[[list of tables]]`");
        let twice = if error.message().contains("duplicate key") { origins_twice(text, at) } else { None };
        if let Some(one) = twice {
            let finding = finding
                .found("two lines of `origins` in one table")
                .remedy(format!("Write one line in their place:\n  {one}"));
            return self.push(line, finding);
        }
        let finding = match unquoted(text, at)
            .filter(|_| error.message().contains("must be quoted"))
            .map(|(k, v)| (Excerpt::of(k), Excerpt::of(v)))
        {
            Some((key, value)) => finding
                .found(format!("`{key} = {value}`, text without quotes"))
                .remedy(format!("Put the value in double quotes: {key} = \"{value}\"")),
            None => finding
                .found(Excerpt::of(error.message()))
                .remedy("Fix this line; later lines are checked once it parses."),
        };
        self.push(line, finding);
    }

    /// A certificate or key given for sanedge.toml, said once and without a line of it.
    pub(super) fn pem(&mut self) {
        let finding = Finding::new(Code::TomlSyntax, "this is not TOML, but a PEM file")
            .expected("a sanedge.toml, which names the PEM files")
            .found("-----BEGIN")
            .remedy("Give your sanedge.toml, and name this file in it as `chain`, `key` or `trust`.");
        self.push(1, finding);
    }

    // --- tables -------------------------------------------------------------------------------------------

    pub(super) fn source(&mut self, root: &DeTable<'_>) -> Source {
        self.unknown_keys(root, &TOP);
        let board = root.get("board").and_then(|v| self.text(v, "board", "\"rpi4\""));
        let board = board.map(|b| Lined { value: b.value.to_owned(), line: b.line });
        if !root.contains_key("board") && !is_below(root, "board") {
            self.missing(1, "board", &TOP, "board = \"rpi4\", or \"host\" for the machine that compiles");
        }
        let acme = self.acme(root);
        let local = self.local(root);
        if !root.contains_key("acme") && !root.contains_key("local") {
            self.wanted(
                root,
                &CERTIFICATE,
                "certificate",
                "chain = \"fullchain.pem\"\n  key = \"privkey.pem\"",
            );
        }
        self.wanted(root, &SITE, "site", "hosts = [\"recre.store\"]\n  upstream = [\"127.0.0.1:3000\"]");
        Source {
            path: self.path.to_owned(),
            digest: [0; 32], // of the text, which is not here
            board: board.unwrap_or(Lined { value: String::new(), line: 0 }),
            listen: self.listen(root),
            certificates: self.tables(root, &CERTIFICATE, "certificate", Self::certificate),
            trust: root.get("trust").and_then(|v| self.file(v, "trust", "\"ca.pem\"")),
            sites: self.tables(root, &SITE, "site", Self::site),
            acme,
            local,
            limits: self.limits(root),
            trusted_proxies: self.networks(root, "trusted_proxies").unwrap_or_default(),
            exempt: self.networks(root, "exempt").map_or_else(loopback, values),
            watch: self.boolean(root, "watch").unwrap_or(false),
            drain: written(Drain::default(), &DRAIN, &self.numbers(root, &DRAIN)),
            suite_order: self.suite_order(root),
            post_quantum: self.post_quantum(root),
        }
    }

    fn listen(&mut self, root: &DeTable<'_>) -> Listen {
        let empty = DeTable::new();
        let table = match root.get("listen") {
            Some(value) => self.table(value, &LISTEN).unwrap_or(&empty),
            None => &empty,
        };
        self.unknown_keys(table, &LISTEN);
        let folder = self.folder.clone();
        let https = self.addresses(table, "https").unwrap_or_else(|| vec![default_https()]);
        let public_https_port = match table.get("public_https_port") {
            Some(_) => self.port(table, "public_https_port").unwrap_or(443),
            None => self.followed_port(&https),
        };
        Listen {
            https,
            http: self.addresses(table, "http").unwrap_or_default(),
            admin: self
                .one(table, "admin", "\"unix:/run/sanedge/admin.sock\"", |text| parse_admin(text, &folder)),
            default_host: self.one(table, "default_host", "\"recre.store\"", parse_host),
            public_https_port,
            acme_dir: table
                .get("acme_dir")
                .and_then(|v| self.file(v, "acme_dir", "\"/var/lib/acme\""))
                .map(|f| Lined { value: f.value.path, line: f.line }),
            proxy_protocol_from: self.networks(table, "proxy_protocol_from").unwrap_or_default(),
        }
    }

    /// The port that clients see where nobody says: the one of all https listeners, 443 where they have several, or one
    /// that only the system will choose.
    fn followed_port(&mut self, https: &[Lined<SocketAddr>]) -> u16 {
        let Some(first) = https.first() else { return 443 };
        let port = first.value.port();
        if port == 0 || port == 443 || https.iter().any(|listener| listener.value.port() != port) {
            return 443;
        }
        let finding = Finding::new(
            Code::PublicPortFollows,
            format!("redirects and origins use port {port}; if a router maps 443 to it, set public_https_port = 443"),
        )
        .expected("`public_https_port`, if clients connect to another port than that of `https`")
        .found(format!("none, so redirects, origins and X-Forwarded-Port use {port}"))
        .remedy("Nothing to do if clients really connect to this port.");
        self.push(first.line, finding);
        port
    }

    fn certificate(&mut self, table: &DeTable<'_>, line: u32) -> Option<CertificateFiles> {
        self.unknown_keys(table, &CERTIFICATE);
        let mut file = |key: &'static str, example: &str| {
            if !table.contains_key(key) {
                self.missing(line, key, &CERTIFICATE, &format!("{key} = {example}"));
            }
            table.get(key).and_then(|v| self.file(v, key, example))
        };
        let (chain, key) = (file("chain", "\"certs/fullchain.pem\""), file("key", "\"certs/privkey.pem\""));
        Some(CertificateFiles { line, chain: chain?, key: key? })
    }

    fn site(&mut self, table: &DeTable<'_>, line: u32) -> Option<Site> {
        self.unknown_keys(table, &SITE);
        let hosts = self.several(table, "hosts", "[\"recre.store\"]", parse_host);
        if hosts.as_ref().is_none_or(Vec::is_empty) && !table.get("hosts").is_some_and(holds_items) {
            self.missing(line, "hosts", &SITE, "hosts = [\"recre.store\"]");
        }
        let acme = self.boolean(table, "acme").unwrap_or(true);
        let local = self.boolean(table, "local");
        let local_line = table.get("local").map_or(line, |value| self.line_of(value));
        let given = self.given(table);
        let path = self.one(table, "path", "\"/\"", parse_path);
        let routes =
            self.tables(table, &ROUTE, "route", |reader, route, line| reader.route(route, line, &given));
        let redirects = table.contains_key("redirect");
        if redirects {
            self.only_redirects(table, line);
        } else if given.upstreams.is_none() && !table.contains_key("route") && !table.contains_key("upstream")
        {
            self.no_upstream(line, "this site has neither an upstream nor a route");
        }
        let own = given.upstreams.is_some().then(|| {
            let own = Given::default().or(&given);
            own.route(line, path.map_or_else(|| "/".to_owned(), |p| p.value))
        });
        let hsts_s = self.hsts(table);
        let rules = written(Rules::default(), &RULES, &given.values);
        Some(Site {
            access_log: redirects && rules.access_log,
            line,
            acme,
            local: local.map(|value| Lined { value, line: local_line }),
            hosts: hosts.unwrap_or_default(),
            routes: own.into_iter().chain(routes).filter(|_| !redirects).collect(),
            redirect: self.one(table, "redirect", "\"https://recre.store\"", parse_redirect),
            headers: self.headers(table, hsts_s.is_some()),
            hsts_s,
            record_bytes_max: self.record_bytes_max(table),
        })
    }

    fn route(&mut self, table: &DeTable<'_>, line: u32, site: &Given) -> Option<Route> {
        self.unknown_keys(table, &ROUTE);
        let path = self.one(table, "path", "\"/socket.io/\"", parse_path);
        if !table.contains_key("path") {
            self.missing(line, "path", &ROUTE, "path = \"/socket.io/\"");
        }
        let given = self.given(table).or(site);
        if given.upstreams.is_none() && !table.contains_key("upstream") && !site.redirects {
            self.no_upstream(line, "neither this route nor its site has an upstream");
        }
        let strip_prefix = self.boolean(table, "strip_prefix").unwrap_or(false);
        Some(Route { strip_prefix, ..given.route(line, path?.value) })
    }

    fn given(&mut self, table: &DeTable<'_>) -> Given {
        let folder = self.folder.clone();
        let parse = |text: &str| parse_upstream(text, &folder);
        let upstreams = self.several(table, "upstream", "[\"127.0.0.1:3000\"]", parse);
        if upstreams.as_ref().is_some_and(Vec::is_empty) && !table.get("upstream").is_some_and(holds_items) {
            self.no_upstream(
                table.get("upstream").map_or(0, |v| self.line_of(v)),
                "the list of upstreams is empty",
            );
        }
        Given {
            upstreams,
            origins_default: self.boolean(table, "origins_default"),
            site_origins: Vec::new(),
            origins: self
                .several(table, "origins", "[\"https://app.recre.store\"]", parse_origin)
                .map(values)
                .unwrap_or_default(),
            allow: self.networks(table, "allow").map(values),
            allow_public_upstream: self.boolean(table, "allow_public_upstream"),
            values: self.numbers(table, &RULES),
            redirects: table.contains_key("redirect"),
        }
    }

    fn limits(&mut self, root: &DeTable<'_>) -> Vec<LimitSetting> {
        let Some(table) = root.get("limits").and_then(|v| self.table(v, &LIMITS)) else { return Vec::new() };
        let mut settings = Vec::new();
        for (name, value) in table.iter() {
            let name = Lined { value: name.get_ref().to_string(), line: self.line_of(name) };
            if !LIMITS.names().contains(&name.value.as_str()) {
                // Here, so that it is said whether or not the board is known.
                let unknown = limits::LimitError::Unknown { key: Excerpt::of(&name.value), suggestion: None };
                self.push(name.line, out_of_bounds(&name.value, &unknown, ""));
                continue;
            }
            if let Some(value) = self.limit(&name.value, value) {
                settings.push(LimitSetting { name, value });
            }
        }
        settings
    }

    pub(super) fn tables<'t, 'i, T>(
        &mut self,
        parent: &'t DeTable<'i>,
        section: &Table,
        key: &'static str,
        mut one: impl FnMut(&mut Self, &'t DeTable<'i>, u32) -> Option<T>,
    ) -> Vec<T> {
        let Some(value) = parent.get(key) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type(value, key, "a list of tables", section.title);
            return Vec::new();
        };
        self.room(items.first().map_or(0, |item| self.line_of(item)), key, items.len());
        let mut found = Vec::new();
        for item in items.iter() {
            let line = self.line_of(item);
            if let Some(made) = self.table(item, section).and_then(|table| one(self, table, line)) {
                found.push(made);
            }
        }
        found
    }

    pub(super) fn table<'t, 'i>(&mut self, value: &'t Value<'i>, section: &Table) -> Option<&'t DeTable<'i>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong_type(value, section.title, "a table", section.title);
        }
        table
    }
}

/// What a site hands down to its routes: all of `None` unless written.
#[derive(Clone, Default)]
struct Given {
    upstreams: Option<Vec<Lined<Upstream>>>,
    origins_default: Option<bool>,
    site_origins: Vec<OriginEntry>,
    origins: Vec<OriginEntry>,
    allow: Option<Vec<IpNet>>,
    allow_public_upstream: Option<bool>,
    /// Of [`RULES`], in their order.
    values: Vec<Option<u64>>,
    /// It leads to no app.
    redirects: bool,
}

impl Given {
    /// The route's own keys, the site's where it has none; to its origins it adds.
    fn or(self, site: &Self) -> Self {
        let own = self.values.iter().copied().chain(std::iter::repeat(None));
        Self {
            upstreams: self.upstreams.or_else(|| site.upstreams.clone()),
            origins_default: self.origins_default.or(site.origins_default),
            site_origins: site.origins.clone(),
            origins: self.origins,
            allow: self.allow.or_else(|| site.allow.clone()),
            allow_public_upstream: self.allow_public_upstream.or(site.allow_public_upstream),
            values: own.zip(&site.values).map(|(own, site)| own.or(*site)).collect(),
            redirects: site.redirects,
        }
    }

    fn route(self, line: u32, path: String) -> Route {
        Route {
            line,
            path,
            strip_prefix: false,
            upstreams: self.upstreams.unwrap_or_default(),
            allow_public_upstream: self.allow_public_upstream.unwrap_or(false),
            origins_default: self.origins_default.unwrap_or(true),
            site_origins: self.site_origins,
            origins: self.origins,
            allow: self.allow.unwrap_or_default(),
            rules: written(Rules::default(), &RULES, &self.values),
        }
    }
}

/// `settings`, with what is written of them.
fn written<T>(mut settings: T, rows: &[Row<T>], values: &[Option<u64>]) -> T {
    for (row, value) in rows.iter().zip(values) {
        if let Some(value) = value {
            row.set(&mut settings, *value);
        }
    }
    settings
}

/// Key and value of the line around `at`, where they are a key and one bare word. No line of a key file has such a form.
fn unquoted(text: &str, at: usize) -> Option<(&str, &str)> {
    let before = text.get(..at)?;
    let begin = before.rfind('\n').map_or(0, |newline| newline + 1);
    let (key, value) = text.get(begin..)?.lines().next()?.split_once('=')?;
    let (key, value) = (key.trim(), value.split('#').next().unwrap_or(value).trim());
    let bare = !value.is_empty()
        && !value.contains(['"', '\'', '[', '{', '\\'])
        && !value.contains(char::is_control);
    let known = !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    (bare && known).then_some((key, value))
}

/// The one line for two of `origins`, of which the second is at `at`: what the log tells people to add may well be pasted
/// beside one that is there. None where either is more than a line.
fn origins_twice(text: &str, at: usize) -> Option<String> {
    let mut lines = text.get(at..)?.lines();
    let second = origins_of(lines.next()?)?;
    let above = text.get(..at)?.lines().rev();
    let first = above.take_while(|line| !line.trim_start().starts_with('[')).find_map(origins_of)?;
    let mut all: Vec<Origin> = Vec::new();
    for origin in first.into_iter().chain(second) {
        if !all.contains(&origin) {
            all.push(origin);
        }
    }
    let all: Option<Vec<_>> = all.iter().map(|origin| origin.is_showable().then(|| origin.toml())).collect();
    Some(format!("origins = [{}]", all?.join(", ")))
}

/// What a line of `origins` lists, where each entry is an origin.
fn origins_of(line: &str) -> Option<Vec<Origin>> {
    let table = DeTable::parse(line).ok()?;
    let entries = table.get_ref().get("origins")?.get_ref().as_array()?;
    entries.iter().map(|entry| Origin::parse(entry.get_ref().as_str()?).ok()).collect()
}

/// Whether `key` stands in one of the tables, where it has a finding of its own.
fn is_below(root: &DeTable<'_>, key: &str) -> bool {
    let holds = |value: &Value<'_>| value.get_ref().as_table().is_some_and(|table| table.contains_key(key));
    root.values()
        .any(|value| holds(value) || value.get_ref().as_array().is_some_and(|items| items.iter().any(holds)))
}

fn default_https() -> Lined<SocketAddr> {
    Lined { value: SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 443)), line: 0 }
}

/// What comes from there has the same address whoever it is: tunnels, a doctor on the board, tests.
fn loopback() -> Vec<IpNet> {
    let (v4, v6) = (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
    [IpNet::new(v4.into(), 8), IpNet::new(v6.into(), 128)].into_iter().flatten().map(|n| n.trunc()).collect()
}

fn values<T>(list: Vec<Lined<T>>) -> Vec<T> {
    list.into_iter().map(|l| l.value).collect()
}
