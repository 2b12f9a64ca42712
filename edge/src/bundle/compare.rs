//! What differs between two bundles, in the keys of `sanedge.toml`.
//!
//! Pure. Compares everything that `sanedge show --json` shows, and the certificate of each host byte for byte. Where the
//! digests differ all the same, it says that too: no difference goes unmentioned.

use std::fmt;

use serde_json::{Map, Value};

use super::report::bundle_json;
use super::{Bundle, HostEntry};
use crate::excerpt::Excerpt;
use crate::limits::{self, Unit};
use crate::names::Host;

/// Differences that one sentence tells; the others are counted.
const TOLD_MAX: usize = 6;
/// Longest value in a sentence, in characters.
const VALUE_CHARS_MAX: usize = 80;

/// One difference. `bundle` and `source` are values as the file would write them; neither where the name says it all.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// Which key, of which host.
    pub what: String,
    /// The value in the bundle.
    pub bundle: Option<String>,
    /// The value that the source has now.
    pub source: Option<String>,
}

impl Difference {
    fn plain(what: String) -> Self {
        Self { what, bundle: None, source: None }
    }

    /// The running edge keeps its listeners: a reload refuses others.
    pub fn needs_a_restart(&self) -> bool {
        matches!(self.what.as_str(), "`https`" | "`http`" | "`admin`")
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        let short = |value: &str| match value.char_indices().nth(VALUE_CHARS_MAX) {
            Some((end, _)) => format!("{}…", value.get(..end).unwrap_or_default()),
            None => value.to_owned(),
        };
        match (&self.bundle, &self.source) {
            (Some(bundle), Some(source)) => write!(f, " ({}, now {})", short(bundle), short(source)),
            _ => Ok(()),
        }
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

/// Everything in which `fresh`, what the source makes now, is not `bundle`.
pub fn differences(bundle: &Bundle, fresh: &Bundle) -> Vec<Difference> {
    if bundle.digest == fresh.digest {
        return Vec::new();
    }
    let (old, new) = (settings(bundle), settings(fresh));
    let mut found = values("", &old, &new);
    found.extend(hosts(bundle, fresh));
    if found.is_empty() {
        found.push(Difference::plain("the encoding of a key or certificate".to_owned()));
    }
    found
}

/// The keys of the whole file, `[listen]` and `[limits]`.
fn settings(bundle: &Bundle) -> Map<String, Value> {
    let Value::Object(mut all) = bundle_json(bundle, 0) else { return Map::new() };
    for elsewhere in ["digest", "certificates", "hosts", "sites"] {
        all.remove(elsewhere);
    }
    for table in ["listen", "limits"] {
        if let Some(Value::Object(keys)) = all.remove(table) {
            all.extend(keys);
        }
    }
    all
}

/// Keys whose values differ; `of` says whose they are.
fn values(of: &str, old: &Map<String, Value>, new: &Map<String, Value>) -> Vec<Difference> {
    let differing = new.iter().filter(|(key, value)| old.get(*key) != Some(value));
    let difference = |(key, value): (&String, &Value)| Difference {
        what: format!("`{}`{of}", key.strip_suffix("_ms").unwrap_or(key)),
        bundle: Some(old.get(key).map_or_else(|| "none".to_owned(), |old| written(key, old))),
        source: Some(written(key, value)),
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

fn hosts(bundle: &Bundle, fresh: &Bundle) -> Vec<Difference> {
    let mut found = Vec::new();
    for entry in &fresh.hosts {
        match bundle.host(&entry.host) {
            None => found.push(Difference::plain(format!("the host `{}`, which is new", entry.host))),
            Some(old) => found.extend(host((bundle, old), (fresh, entry))),
        }
    }
    let gone = bundle.hosts.iter().filter(|entry| fresh.host(&entry.host).is_none());
    found.extend(gone.map(|entry| Difference::plain(format!("the host `{}`, which is gone", entry.host))));
    found
}

fn host(old: (&Bundle, &HostEntry), new: (&Bundle, &HostEntry)) -> Vec<Difference> {
    let host = &new.1.host;
    let mut found = Vec::new();
    if chain(old) != chain(new) {
        found.push(Difference::plain(format!("the certificate of `{host}`")));
    } else if label(old) != label(new) {
        let [bundle, source] = [old, new].map(|side| label(side).map(|label| format!("{label:?}")));
        found.push(Difference { what: format!("`chain` of `{host}`"), bundle, source });
    }
    let (before, now) = (routes(old), routes(new));
    for (path, rules) in &now {
        match before.iter().find(|(earlier, _)| earlier == path) {
            Some((_, earlier)) => found.extend(values(&place(host, path), earlier, rules)),
            None => found.push(Difference::plain(format!(
                "the path `{}` of `{host}`, which is new",
                Excerpt::of(path)
            ))),
        }
    }
    let gone = before.iter().filter(|(path, _)| now.iter().all(|(later, _)| later != path));
    found.extend(gone.map(|(path, _)| {
        Difference::plain(format!("the path `{}` of `{host}`, which is gone", Excerpt::of(path)))
    }));
    found
}

fn place(host: &Host, path: &str) -> String {
    if path == "/" { format!(" of `{host}`") } else { format!(" of `{host}{}`", Excerpt::of(path)) }
}

type Chain = [rustls_pki_types::CertificateDer<'static>];

fn chain((bundle, entry): (&Bundle, &HostEntry)) -> Option<Box<Chain>> {
    let certificate = bundle.certificates.get(usize::from(entry.certificate))?;
    Some(certificate.key.cert.clone().into_boxed_slice())
}

fn label((bundle, entry): (&Bundle, &HostEntry)) -> Option<String> {
    bundle.certificates.get(usize::from(entry.certificate)).map(|certificate| certificate.label.to_string())
}

/// Path and rules of each route of a host's site.
fn routes((bundle, entry): (&Bundle, &HostEntry)) -> Vec<(String, Map<String, Value>)> {
    let site = bundle.sites.get(usize::from(entry.site));
    let rules = site.into_iter().flat_map(|site| &site.routes).map(|route| {
        let rules = match super::report::route_json(bundle, entry.site, route) {
            Value::Object(rules) => rules,
            _ => Map::new(),
        };
        (route.path.clone(), rules)
    });
    rules.collect()
}
