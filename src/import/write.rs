//! Sites to the text of a sanedge.toml, with comments that say what is not in use, and why.

use std::fmt::Write as _;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use toml_edit::{Array, Value};

use super::files::Tree;
use super::known::{Fate, Row};
use super::location::Route;
use super::server::{Certificate, Site};
use super::values::Field;
use crate::bundle::compile::compile_text;
use crate::bundle::finding::{Code, Severity};
use crate::bundle::wire;
use crate::excerpt::path_may_hold_key;
use crate::http::changes::HSTS_FIELD;

const HEAD: &str = "# Made by `sanedge import npm`. Check it with `sanedge bundle`; docs/from-npm.md says how to go on.
# Lines that begin with `#` are not in use: the comments say why.

board = \"host\"                       # or the board that it is for: rpi4, rpi-zero, ...
# If a proxy or a tunnel forwards to this machine, list it: otherwise `allow` admits all its clients.
# trusted_proxies = [\"192.168.1.2/32\"]

[listen]
https = [\"[::]:443\"]
http  = [\"[::]:80\"]                  # redirects to https

# NPM's certificates are not renewed once NPM is stopped. To let `sanedge renew` obtain certificates, agree to the terms of Let's
# Encrypt by removing the `#` of the next two lines, and remove each [[certificate]] below.
# [acme]
# terms = \"agreed\"
";

/// Sites that are tried: four times as many as there may be.
const PROOFS_MAX: usize = 4 * wire::SITES_MAX;
/// `hsts` in seconds.
const HSTS_S: RangeInclusive<u64> = 300..=63_072_000;
/// Longest `response_timeout`.
const RESPONSE_TIMEOUT_MS_MAX: u64 = 24 * 3_600_000;
/// Shortest `response_timeout`.
const RESPONSE_TIMEOUT_MS_MIN: u64 = 100;

const NO_FILES: Fate =
    Fate::Lost("its files are not in the folder: write their paths as `chain` and `key`, or use [acme]");
const LINK: Fate =
    Fate::Lost("its files are links that leave the folder: write their paths as `chain` and `key`");
const TOO_MANY: Fate =
    Fate::Closed("sanedge.toml cannot have more sites, hosts, paths, upstreams or networks");
const REFUSED: Fate = Fate::Closed("`sanedge bundle` refuses it: remove the `#`, and read what it says");
const NO_APP: &str = "No path of it leads to an app: there is nothing to serve.";

/// Sites, hosts, routes, upstreams and networks.
type Filled = [usize; 5];

/// Collects a sanedge.toml.
pub(super) struct Writer<'t> {
    tree: &'t Tree,
    certificates: Vec<[PathBuf; 2]>,
    /// Those whose files were not found, as nginx names them.
    missing: Vec<[String; 2]>,
    certificate_tables: String,
    site_tables: String,
    /// What is in use of the tables of a bundle.
    filled: Filled,
    /// The tables of the sites in use, which `sanedge bundle` accepts.
    used: String,
    proofs: usize,
    pub(super) hosts: Vec<String>,
    pub(super) commented: Vec<String>,
    /// What was found beside the rows of the directives.
    pub(super) rows: Vec<Row>,
}

impl<'t> Writer<'t> {
    pub(super) fn new(tree: &'t Tree) -> Self {
        Self {
            tree,
            certificates: Vec::new(),
            missing: Vec::new(),
            certificate_tables: String::new(),
            site_tables: String::new(),
            filled: [0; 5],
            used: String::new(),
            proofs: 0,
            hosts: Vec::new(),
            commented: Vec::new(),
            rows: Vec::new(),
        }
    }

    pub(super) fn text(&self) -> String {
        format!("{HEAD}{}{}", self.certificate_tables, self.site_tables)
    }

    pub(super) fn site(&mut self, mut site: Site) {
        let tables = tables(&site);
        let leads_anywhere = !site.routes.is_empty() || site.redirect.is_some();
        if site.closed.is_empty() && leads_anywhere {
            let filled = filled(&self.filled, &site);
            let is_room = fits(&filled) && self.proofs < PROOFS_MAX;
            let all = format!("{}\n{tables}", self.used);
            let refused = if is_room { refusal(&all) } else { Some(TOO_MANY) };
            self.proofs += 1;
            if refused.is_none() {
                self.filled = filled;
                self.used = all;
            }
            let row = |fate| Row { file: site.file, line: site.line, name: "server".to_owned(), fate };
            site.closed.extend(refused.map(row));
            self.rows.extend(site.closed.iter().cloned());
        }
        let is_used = site.closed.is_empty() && leads_anywhere;
        for certificate in &site.certificates {
            self.certificate(certificate, is_used);
        }
        let hosts = site.hosts.iter().map(ToString::to_string);
        if is_used {
            self.hosts.extend(hosts)
        } else {
            self.commented.extend(hosts)
        }
        let text = self.commented_site(&site, &tables, is_used);
        self.site_tables += &text;
    }

    fn commented_site(&self, site: &Site, tables: &str, is_used: bool) -> String {
        let mut text = format!("\n# {}\n", self.place(site.file, site.line));
        for row in &site.closed {
            let Fate::Closed(why) = row.fate else { continue };
            let _ =
                writeln!(text, "# Not in use: {} `{}`: {why}.", self.place(row.file, row.line), row.shown());
        }
        for check in &site.checks {
            let _ = writeln!(text, "# Check: {check}.");
        }
        if site.routes.is_empty() && site.redirect.is_none() {
            let _ = writeln!(text, "# {NO_APP}");
        }
        for line in tables.lines() {
            let _ = writeln!(text, "{}{line}", if is_used { "" } else { "# " });
        }
        text
    }

    fn place(&self, file: u16, line: u32) -> String {
        format!("{}:{line}", self.tree.labels.get(usize::from(file)).map(String::as_str).unwrap_or_default())
    }

    fn certificate(&mut self, certificate: &Certificate, is_used: bool) {
        match [&certificate.chain, &certificate.key].map(|path| found(self.tree, path)) {
            [Ok(chain), Ok(key)] => {
                let pair = [chain, key];
                if !is_used || self.certificates.contains(&pair) {
                    return;
                }
                let [chain, key] = pair.each_ref().map(|path| Value::from(path.to_string_lossy().as_ref()));
                let _ =
                    write!(self.certificate_tables, "\n[[certificate]]\nchain = {chain}\nkey   = {key}\n");
                self.certificates.push(pair);
            }
            [Err(fate), _] | [_, Err(fate)] => {
                let written = [certificate.chain.clone(), certificate.key.clone()];
                if self.missing.contains(&written) {
                    return;
                }
                let Certificate { file, line, .. } = *certificate;
                self.rows.push(Row { file, line, name: "ssl_certificate".to_owned(), fate });
                if let Fate::Lost(why) = fate {
                    let place = self.place(file, line);
                    let _ = write!(
                        self.certificate_tables,
                        "\n# {place} `ssl_certificate`: {why}.\n# [[certificate]]\n# chain = \"fullchain.pem\"\n# key   = \"privkey.pem\"\n"
                    );
                }
                self.missing.push(written);
            }
        }
    }
}

fn filled(before: &Filled, site: &Site) -> Filled {
    let upstreams = site.routes.iter().map(|route| route.upstreams.len()).sum();
    let networks = site.routes.iter().map(|route| route.allow.len()).sum();
    let more = [1, site.hosts.len(), site.routes.len(), upstreams, networks];
    std::array::from_fn(|at| before.get(at).unwrap_or(&0) + more.get(at).unwrap_or(&0))
}

fn fits(filled: &Filled) -> bool {
    let rooms = [wire::SITES_MAX, wire::HOSTS_MAX, wire::ROUTES_MAX, wire::UPSTREAMS_MAX, wire::ALLOW_MAX];
    filled.iter().zip(rooms).all(|(filled, room)| *filled <= room)
}

/// Where the file is that nginx knows by `path`. It is not read: the folder may be for root alone.
fn found(tree: &Tree, path: &str) -> Result<PathBuf, Fate> {
    if let Some(placed) = tree.placed(path) {
        match tree.holds(&placed) {
            Some(true) if placed.is_file() => return Ok(placed),
            None if !path_may_hold_key(&placed) => return Ok(placed),
            Some(false) if fs::symlink_metadata(&placed).is_ok() => return Err(LINK),
            _ => {}
        }
    }
    // nginx without a container has its files where it says; they are named here, and not opened.
    let path = Path::new(path);
    let is_there = || path.is_absolute() && path.metadata().is_ok_and(|about| about.is_file());
    if !tree.is_npm && is_there() { Ok(path.to_owned()) } else { Err(NO_FILES) }
}

/// The tables of a site as they are in use.
pub(super) fn tables(site: &Site) -> String {
    let hosts: Array = site.hosts.iter().map(ToString::to_string).collect();
    let mut text = format!("[[site]]\nhosts = {hosts}\n");
    let mut routes: Vec<&Route> = Vec::new();
    for route in &site.routes {
        let is_twin = |other: &&Route| other.path.trim_end_matches('/') == route.path.trim_end_matches('/');
        if !routes.iter().any(is_twin) {
            routes.push(route);
        }
    }
    let only = matches!(routes.as_slice(), [only] if only.path == "/");
    if only {
        text.extend(routes.drain(..).map(route));
    }
    if let Some(to) = &site.redirect {
        let _ = writeln!(text, "redirect = {}", Value::from(to.as_str()));
    }
    text += &headers(&site.fields);
    for one in routes {
        let _ = write!(text, "\n[[site.route]]\npath = {}\n{}", Value::from(one.path.as_str()), route(one));
    }
    text
}

/// `hsts` and `[site.headers]`.
fn headers(fields: &[Field]) -> String {
    let hsts = |field: &&Field| {
        field.1.as_deref().filter(|_| field.0.eq_ignore_ascii_case(HSTS_FIELD)).and_then(hsts_s)
    };
    let mut text = String::new();
    if let Some(seconds) = fields.iter().find_map(|field| hsts(&field)) {
        let time = if seconds % 3600 == 0 { format!("{}h", seconds / 3600) } else { format!("{seconds}s") };
        let _ = writeln!(text, "hsts = \"{time}\"");
    }
    let others: Vec<_> = fields.iter().filter(|field| hsts(field).is_none()).collect();
    if !others.is_empty() {
        text += "\n[site.headers]\n";
    }
    for (name, value) in others {
        let value = value.as_ref().map_or(Value::from(false), Value::from);
        let _ = writeln!(text, "{} = {value}", toml_edit::Key::new(name.as_str()));
    }
    text
}

/// A Strict-Transport-Security that `hsts` says: `preload` means nothing without `includeSubDomains`.
fn hsts_s(value: &str) -> Option<u64> {
    let mut words: Vec<_> = value.split(';').map(str::trim).filter(|word| !word.is_empty()).collect();
    words.retain(|word| !word.eq_ignore_ascii_case("preload"));
    let [age] = words.as_slice() else { return None };
    age.strip_prefix("max-age=")?.parse().ok().filter(|seconds| HSTS_S.contains(seconds) || *seconds == 0)
}

/// The keys of a route, but for its path.
fn route(route: &Route) -> String {
    let upstreams: Array = route.upstreams.iter().map(String::as_str).collect();
    let mut text = format!("upstream = {upstreams}\n");
    if route.strip_prefix {
        text += "strip_prefix = true\n";
    }
    if !route.allow.is_empty() {
        let networks: Array = route.allow.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "allow = {networks}");
    }
    if let Some(ms) = route.response_timeout_ms {
        let ms = ms.clamp(RESPONSE_TIMEOUT_MS_MIN, RESPONSE_TIMEOUT_MS_MAX);
        let time = if ms % 1000 == 0 { format!("{}s", ms / 1000) } else { format!("{ms}ms") };
        let _ = writeln!(text, "response_timeout = \"{time}\"");
    }
    if let Some(bytes) = route.body_bytes_max {
        let _ = writeln!(text, "body_bytes_max = {bytes}");
    }
    if !route.websockets {
        text += "# nginx does not pass WebSockets here. To allow those of the site's own pages, remove the next two lines:\n";
        text += "origins_default = false\nrequire_origin = true\n";
    }
    text
}

/// Why `sanedge bundle` would refuse a site, certificates aside.
fn refusal(tables: &str) -> Option<Fate> {
    let text = format!("board = \"rpi4\"\n[listen]\nhttp = [\"[::]:80\"]\n{tables}");
    let found = compile_text(Path::new("/sanedge.toml"), &text, 0).findings;
    let is_ours = |code| !matches!(code, Code::MissingKey | Code::HostNotCovered);
    let mut errors = found.iter().filter(|one| one.severity() == Severity::Error && is_ours(one.code));
    errors.next().map(|error| match error.code {
        Code::PublicUpstream => Fate::Closed(
            "its app is on the internet, and sanedge does not encrypt to it: see `allow_public_upstream`",
        ),
        Code::UpstreamIsOurselves => Fate::Closed(
            "its app listens on port 80 or 443 of this machine, which sanedge uses: give it another port",
        ),
        Code::IpHostNeedsDefault => {
            Fate::Closed("clients send no name for an address: set `default_host` in [listen] to it")
        }
        Code::RedirectLoop => Fate::Closed("it redirects to itself, or in a circle"),
        Code::TooMany => Fate::Closed("it has more hosts, paths, networks or upstreams than a site can have"),
        _ => REFUSED,
    })
}
