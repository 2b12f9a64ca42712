//! What differs between two bundles, in the keys of `sanedge.toml`.
//!
//! Pure. Compares everything that `sanedge show --json` shows, and the certificate of each host byte for byte. If it finds no difference but
//! the digests differ, it says so: every difference is reported.

use std::fmt;

use serde_json::{Map, Value};

use super::acme::Plan;
use super::compile::{day, shown_redirect};
use super::report::{bundle_json, hex, label_of, route_json, shown_header, site_json};
use super::{Bundle, Site, wire};
use crate::excerpt::Excerpt;
use crate::limits::{self, Unit};
use crate::names::Host;

/// Differences that one sentence names; the others are counted.
const TOLD_MAX: usize = 6;
/// Longest value in a sentence, in characters.
const VALUE_CHARS_MAX: usize = 80;
/// Bytes of a certificate's SHA-256 that a line shows.
const FINGERPRINT_BYTES: usize = 4;

/// One difference. `bundle` and `source` are values as the file would write them; both are missing if the name says everything.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// The key, with its host.
    pub what: String,
    /// The value in the bundle.
    pub bundle: Option<String>,
    /// The value that the source has now.
    pub source: Option<String>,
    /// The same as a line: `+ host → upstream`, `- host → upstream`, `~ key before → after`.
    pub line: String,
}

impl Difference {
    fn plain(what: String, line: String) -> Self {
        Self { what, bundle: None, source: None, line }
    }

    /// The running edge keeps its listeners: a reload refuses others.
    pub fn needs_a_restart(&self) -> bool {
        matches!(self.what.as_str(), "`https`" | "`http`" | "`admin`")
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match (&self.bundle, &self.source) {
            (Some(bundle), Some(source)) => write!(f, " ({}, now {})", short(bundle), short(source)),
            _ => Ok(()),
        }
    }
}

fn short(value: &str) -> String {
    match value.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", value.get(..end).unwrap_or_default()),
        None => value.to_owned(),
    }
}

/// The first few as a part of a sentence.
pub fn told(differences: &[Difference]) -> String {
    let mut words: Vec<String> = differences.iter().take(TOLD_MAX).map(ToString::to_string).collect();
    if let Some(more @ 1..) = differences.len().checked_sub(TOLD_MAX) {
        words.push(format!("{more} more"));
    }
    words.join("; ")
}

/// All differences between `bundle` and `fresh`, to which the source compiles now.
pub fn differences(bundle: &Bundle, fresh: &Bundle) -> Vec<Difference> {
    if bundle.digest == fresh.digest {
        return Vec::new();
    }
    let mut found = settings(bundle, fresh);
    found.extend(hosts(bundle, fresh));
    if found.is_empty() {
        let what = "the encoding of a key or certificate".to_owned();
        found.push(Difference::plain(what.clone(), format!("~ {what}")));
    }
    found
}

/// All hosts of a bundle as additions, if there was no bundle before.
pub fn all_new(fresh: &Bundle) -> Vec<Difference> {
    Entry::all(fresh).iter().map(Entry::added).collect()
}

/// The keys of the whole file, `[listen]` and `[limits]`.
fn settings(bundle: &Bundle, fresh: &Bundle) -> Vec<Difference> {
    let [mut old, mut new] = [bundle, fresh].map(|bundle| object(bundle_json(bundle, 0)));
    let mut found = Vec::new();
    for elsewhere in ["digest", "certificates", "hosts", "pending", "sites"] {
        old.remove(elsewhere);
        new.remove(elsewhere);
    }
    for table in ["listen", "limits"] {
        let [old, new] = [&mut old, &mut new].map(|all| object(all.remove(table).unwrap_or_default()));
        found.extend(values("", &format!("{table}."), &old, &new));
    }
    found.splice(0..0, values("", "", &old, &new));
    found
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// Keys whose values differ; `of` and `prefix` name their owner, in a sentence and in a line.
fn values(of: &str, prefix: &str, old: &Map<String, Value>, new: &Map<String, Value>) -> Vec<Difference> {
    let differing = new.iter().filter(|(key, value)| old.get(*key) != Some(value));
    let difference = |(key, value): (&String, &Value)| {
        let before = old.get(key).unwrap_or(&Value::Null);
        let name = key.strip_suffix("_ms").unwrap_or(key);
        Difference {
            what: format!("`{name}`{of}"),
            bundle: Some(written(key, before)),
            source: Some(written(key, value)),
            line: format!("~ {prefix}{name} {}", change(key, before, value)),
        }
    };
    differing.map(difference).collect()
}

/// A value as sanedge.toml would write it.
fn written(key: &str, value: &Value) -> String {
    let unit = limits::bounded(key.strip_suffix("_ms").unwrap_or(key)).map(|(range, _)| range.unit);
    match (value, value.as_u64(), unit) {
        (Value::Null, ..) => "none".to_owned(),
        (_, Some(number), Some(Unit::Count) | None) => number.to_string(),
        (_, Some(number), Some(unit)) => format!("\"{}\"", unit.show(number)),
        _ => value.to_string(),
    }
}

/// Before and after for a line; for lists, what was added and removed.
fn change(key: &str, old: &Value, new: &Value) -> String {
    let items = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(|item| bare(key, item)).collect()
    };
    if let (Value::Array(_), Value::Array(_)) = (old, new) {
        let (before, after) = (items(old), items(new));
        let gone = before.iter().filter(|item| !after.contains(item)).map(|item| format!("-{item}"));
        let added = after.iter().filter(|item| !before.contains(item)).map(|item| format!("+{item}"));
        let all: Vec<String> = gone.chain(added).collect();
        // A replaced item, or another order, is easier to read with an arrow.
        if before.len().max(after.len()) > 1 && !all.is_empty() {
            return all.join(" ");
        }
    }
    format!("{} → {}", bare(key, old), bare(key, new))
}

/// A value without quotes and brackets.
fn bare(key: &str, value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => items.iter().map(|item| bare(key, item)).collect::<Vec<_>>().join(", "),
        _ => written(key, value).trim_matches('"').to_owned(),
    }
}

/// A host that is served or waits for its certificate.
struct Entry<'a> {
    bundle: &'a Bundle,
    host: &'a Host,
    site: u16,
    certificate: Option<u16>,
}

impl<'a> Entry<'a> {
    fn all(bundle: &'a Bundle) -> Vec<Self> {
        let served = bundle.hosts.iter().map(|entry| (&entry.host, entry.site, Some(entry.certificate)));
        let pending = bundle.pending.iter().map(|entry| (&entry.host, entry.site, None));
        let entry = |(host, site, certificate)| Self { bundle, host, site, certificate };
        served.chain(pending).map(entry).collect()
    }

    fn added(&self) -> Difference {
        let pending = if self.certificate.is_none() { " (certificate pending)" } else { "" };
        let line = format!("+ {} → {}{pending}", self.host, self.upstreams());
        Difference::plain(format!("the host `{}`, which is new", self.host), line)
    }

    fn removed(&self) -> Difference {
        let line = format!("- {} → {}", self.host, self.upstreams());
        Difference::plain(format!("the host `{}`, which is gone", self.host), line)
    }

    fn upstreams(&self) -> String {
        let of_route = |(path, rules): &(String, Map<String, Value>)| match path.as_str() {
            "/" => leads_to(rules),
            path => format!("{} → {}", Excerpt::of(path), leads_to(rules)),
        };
        let redirect = self.settings().and_then(|site| site.redirect.as_ref());
        let redirect = redirect.map(|to| format!("redirect to {}", shown_redirect(to)));
        redirect.into_iter().chain(self.routes().iter().map(of_route)).collect::<Vec<_>>().join("; ")
    }

    fn settings(&self) -> Option<&Site> {
        self.bundle.sites.get(usize::from(self.site))
    }

    /// Path and rules of each route of the host's site.
    fn routes(&self) -> Vec<(String, Map<String, Value>)> {
        let rules = |route| object(route_json(self.bundle, self.site, route));
        self.settings()
            .into_iter()
            .flat_map(|site| &site.routes)
            .map(|r| (r.path.clone(), rules(r)))
            .collect()
    }

    fn chain(&self) -> Option<Box<Chain>> {
        let certificate = self.bundle.certificates.get(usize::from(self.certificate?))?;
        Some(certificate.key.cert.clone().into_boxed_slice())
    }

    fn label(&self) -> Option<String> {
        Some(label_of(self.bundle, self.certificate?))
    }

    /// File, end and fingerprint of the certificate.
    fn certificate(&self) -> String {
        let found = self.certificate.and_then(|at| self.bundle.certificates.get(usize::from(at)));
        let Some(certificate) = found else { return "pending".to_owned() };
        let digest = certificate.key.cert.first().map(|der| wire::sha256(der)).unwrap_or_default();
        let short = digest.get(..FINGERPRINT_BYTES).map(hex).unwrap_or_default();
        format!("{} (until {}, SHA-256 {short}…)", certificate.label, day(certificate.not_after))
    }
}

type Chain = [rustls_pki_types::CertificateDer<'static>];

fn leads_to(rules: &Map<String, Value>) -> String {
    rules.get("upstream").map(|upstreams| bare("upstream", upstreams)).unwrap_or_default()
}

fn hosts(bundle: &Bundle, fresh: &Bundle) -> Vec<Difference> {
    let (before, now) = (Entry::all(bundle), Entry::all(fresh));
    let mut found = Vec::new();
    for entry in &now {
        match before.iter().find(|old| old.host == entry.host) {
            None => found.push(entry.added()),
            Some(old) => found.extend(host(old, entry)),
        }
    }
    let gone = before.iter().filter(|old| now.iter().all(|entry| entry.host != old.host));
    found.extend(gone.map(Entry::removed));
    found
}

fn host(old: &Entry<'_>, new: &Entry<'_>) -> Vec<Difference> {
    let host = new.host;
    let mut found = Vec::new();
    if old.chain() != new.chain() {
        let line = format!("~ {host} certificate {} → {}", old.certificate(), new.certificate());
        found.push(Difference::plain(format!("the certificate of `{host}`"), line));
    } else if old.label() != new.label() {
        let [bundle, source] = [old, new].map(|side| side.label().map(|label| format!("{label:?}")));
        let [before, now] = [old, new].map(|side| side.label().unwrap_or_default());
        let line = format!("~ {host} chain {before} → {now}");
        found.push(Difference { what: format!("`chain` of `{host}`"), bundle, source, line });
    }
    if let (Some(before), Some(now)) = (old.settings(), new.settings()) {
        found.extend(values(
            &format!(" of `{host}`"),
            &format!("{host} "),
            &site_json(before),
            &site_json(now),
        ));
        found.extend(headers(host, before, now));
    }
    let (before, now) = (old.routes(), new.routes());
    for (path, rules) in &now {
        let place = place(host, path);
        match before.iter().find(|(earlier, _)| earlier == path) {
            Some((_, earlier)) => {
                found.extend(values(&format!(" of `{place}`"), &format!("{place} "), earlier, rules));
            }
            None => found.push(Difference::plain(
                format!("the path `{}` of `{host}`, which is new", Excerpt::of(path)),
                format!("+ {place} → {}", leads_to(rules)),
            )),
        }
    }
    let gone = before.iter().filter(|(path, _)| now.iter().all(|(later, _)| later != path));
    found.extend(gone.map(|(path, rules)| {
        let what = format!("the path `{}` of `{host}`, which is gone", Excerpt::of(path));
        Difference::plain(what, format!("- {} → {}", self::place(host, path), leads_to(rules)))
    }));
    found
}

/// Values are compared as they are, and told as far as they are shown.
fn headers(host: &Host, old: &Site, new: &Site) -> Vec<Difference> {
    let of = |site: &Site, name: &str| {
        site.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).cloned()
    };
    let names = new.headers.iter().chain(old.headers.iter().filter(|header| of(new, &header.name).is_none()));
    let differing = names.filter(|header| of(old, &header.name) != of(new, &header.name));
    differing
        .map(|header| {
            let name = Excerpt::of(&header.name);
            let shown =
                |site| of(site, &header.name).map_or_else(|| "none".to_owned(), |one| shown_header(&one).1);
            let (bundle, source) = (shown(old), shown(new));
            let line = format!("~ {host} headers.{name} {bundle} → {source}");
            let what = format!("`{name}` in [site.headers] of `{host}`");
            Difference { what, bundle: Some(bundle), source: Some(source), line }
        })
        .collect()
}

fn place(host: &Host, path: &str) -> String {
    if path == "/" { host.to_string() } else { format!("{host}{}", Excerpt::of(path)) }
}

/// The differences between the old and the new input of `sanedge renew`. Listeners are compared with the bundle.
pub fn plans(old: Option<&Plan>, fresh: Option<&Plan>) -> Vec<Difference> {
    let local = [old, fresh].map(|plan| plan.and_then(|plan| plan.local.clone()));
    // Where only the local CA issues, nothing else is asked.
    let asks_ca = |plan: &&Plan| plan.local.is_none() || !plan.certificates.is_empty();
    let [mut old, mut new] =
        [old, fresh].map(|plan| object(serde_json::to_value(plan.filter(asks_ca)).unwrap_or_default()));
    let names = |plan: &mut Map<String, Value>| -> Vec<String> {
        let all = plan.remove("certificates").unwrap_or_default();
        let one = |wanted: &Value| wanted.get("names").map(|names| bare("names", names));
        all.as_array().into_iter().flatten().filter_map(one).collect()
    };
    let (before, now) = (names(&mut old), names(&mut new));
    let line = |sign: &str, ca: &str, all: &[String], others: &[String]| -> Vec<Difference> {
        let missing = all.iter().filter(|name| !others.contains(name));
        missing
            .map(|name| {
                let what = format!("certificate of {ca} for {name}");
                Difference::plain(format!("the {what}"), format!("{sign} {what}"))
            })
            .collect()
    };
    let mut found = [line("-", "the CA", &before, &now), line("+", "the CA", &now, &before)].concat();
    let [before, now] =
        local.each_ref().map(|local| local.as_ref().map(|local| local.names.clone()).unwrap_or_default());
    let ca = "the local CA";
    found.extend([line("-", ca, &before, &now), line("+", ca, &now, &before)].concat());
    let [before, now] = local.map(|local| object(serde_json::to_value(local).unwrap_or_default()));
    for key in ["folder", "permit", "lifetime_s"].iter().filter(|_| !before.is_empty() && !now.is_empty()) {
        let [before, now] = [&before, &now].map(|local| local.get(*key).cloned().unwrap_or_default());
        nested(&format!("local.{key}"), &before, &now, &mut found);
    }
    for key in ["ca", "fallback", "state", "challenge", "dns"] {
        let [old, new] = [&old, &new].map(|plan| plan.get(key).cloned().unwrap_or_default());
        nested(&format!("acme.{key}"), &old, &new, &mut found);
    }
    found
}

/// Each member of two documents that differs.
fn nested(name: &str, old: &Value, new: &Value, found: &mut Vec<Difference>) {
    if old == new {
        return;
    }
    if let (Value::Object(before), Value::Object(now)) = (old, new) {
        for key in now.keys().chain(before.keys().filter(|key| !now.contains_key(*key))) {
            let of = |all: &Map<String, Value>| all.get(key).cloned().unwrap_or_default();
            nested(&format!("{name}.{key}"), &of(before), &of(now), found);
        }
        return;
    }
    let shown = |value: &Value| match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => Excerpt::of(text).to_string(),
        other => Excerpt::of(&other.to_string()).to_string(),
    };
    let (bundle, source) = (shown(old), shown(new));
    let line = format!("~ {name} {bundle} → {source}");
    found.push(Difference { what: format!("`{name}`"), bundle: Some(bundle), source: Some(source), line });
}
