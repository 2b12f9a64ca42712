//! Files to a proven bundle: reads what sanedge.toml names, proves that it fits together, and encodes it.
//!
//! Every problem is found in one run. Time is an argument. What it does not do: write the bundle, or resolve names.

mod chain;
mod cover;
mod encode;
mod facts;
mod key;
mod network;
mod pem;
mod presented;
mod settle;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustls_pki_types::PrivateKeyDer;
use zeroize::{Zeroize, Zeroizing};

use super::finding::{Code, Finding, Severity};
use super::lifetime::{Lifetime, Urgency};
use super::source::{self, CertificateFiles, OriginEntry, Source};
use super::{Bundle, Origins, report};
use crate::excerpt::Excerpt;
use crate::names::{Host, Origin};
use cover::Candidate;

pub use network::show as show_upstream;
pub use pem::{CHAIN_CERTIFICATES_MAX, PEM_BYTES_MAX, TRUST_CERTIFICATES_MAX};
pub use presented::{Presented, presented};

/// Shortest RSA key: browsers refuse shorter ones, and so does ring.
pub const RSA_BITS_MIN: usize = 2048;
/// Longest RSA key that ring signs with.
pub const RSA_BITS_MAX: usize = 4096;

/// What came out.
#[derive(Debug)]
pub struct Outcome {
    /// Errors first, then warnings, then notes; of the errors unknown keys first, of which others may only follow; then in
    /// the order of the file.
    pub findings: Vec<Finding>,
    /// One row a host.
    pub hosts: Vec<HostRow>,
    /// One row a route: who may open WebSockets. Empty without a bundle.
    pub websockets: Vec<report::WebSockets>,
    /// The memory equation, in lines.
    pub memory: Option<String>,
    /// The file to write; `None` where there is an error.
    pub bundle: Option<Zeroizing<Vec<u8>>>,
}

/// A row of the table host → certificate → days left → upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRow {
    /// The host.
    pub host: String,
    /// Its certificate's chain file, as written; `None`: no certificate covers it.
    pub certificate: Option<String>,
    /// Whole days until that ends, negative after it.
    pub days_left: Option<i64>,
    /// The same for people, with what is to be done.
    pub left: Option<String>,
    /// When that should be renewed, in seconds since 1970.
    pub renewal_due: Option<i64>,
    /// How urgent that is.
    pub renewal: Option<Urgency>,
    /// Path and upstreams, in the order in which paths are tried.
    pub routes: Vec<(String, Vec<String>)>,
}

/// Compiles the sanedge.toml at `path` as of `now`, in seconds since 1970.
pub fn compile(path: &Path, now: i64) -> Outcome {
    let (source, findings) = source::read(path);
    match source {
        Some(source) => prove(&source, findings, now),
        None => Outcome { findings, hosts: Vec::new(), websockets: Vec::new(), memory: None, bundle: None },
    }
}

/// Proves a source that was read, `findings` being the reader's.
pub fn prove(source: &Source, findings: Vec<Finding>, now: i64) -> Outcome {
    let mut desk = Desk {
        path: source.path.clone(),
        now,
        findings,
        board: Excerpt::of(&source.board.value),
        rsa_is_slow: false,
        hosts: source.sites.iter().flat_map(|site| &site.hosts).map(|host| host.value.clone()).collect(),
    };
    let settled = settle::settle(&mut desk, source);
    network::check(&mut desk, source);
    let anchors = chain::Anchors::load(&mut desk, source.trust.as_ref());
    let loaded: Vec<_> = source.certificates.iter().map(|files| load(&mut desk, files, &anchors)).collect();
    let all_readable = loaded.iter().all(Option::is_some);
    let (candidates, mut keys): (Vec<_>, Vec<_>) = loaded.into_iter().flatten().unzip();
    let chosen = cover::assign(&mut desk, source, &candidates, all_readable);
    let hosts = table(source, &candidates, &chosen, now);
    let parts = encode::Parts {
        source,
        candidates: &candidates,
        keys: &keys,
        chosen: &chosen,
        settled: settled.as_ref(),
    };
    let bundle = if desk.errors() == 0 { encode::encode(&mut desk, &parts) } else { None };
    keys.iter_mut().flatten().for_each(Zeroize::zeroize);
    desk.findings.sort_by_key(|f| (f.severity(), f.code != Code::UnknownKey, f.place.line));
    let opened = bundle.as_ref().and_then(|bytes| Bundle::decode(bytes.clone()).ok());
    let websockets = opened.map(|bundle| report::WebSockets::all(&bundle)).unwrap_or_default();
    let memory = settled.map(|settled| settled.memory.to_string());
    Outcome { findings: desk.findings, hosts, websockets, memory, bundle }
}

/// What all proofs share: where they are about, when it is, and what they found.
struct Desk {
    path: PathBuf,
    now: i64,
    board: Excerpt,
    rsa_is_slow: bool,
    /// Every host of sanedge.toml: what a new certificate has to cover.
    hosts: Vec<Host>,
    findings: Vec<Finding>,
}

impl Desk {
    fn push(&mut self, line: u32, finding: Finding) {
        self.findings.push(finding.at(&self.path, line));
    }

    fn errors(&self) -> usize {
        self.findings.iter().filter(|f| f.severity() == Severity::Error).count()
    }
}

/// The `[[certificate]]` that a proof is about.
struct Subject<'a> {
    /// Chain and key, as written and where they are.
    files: &'a CertificateFiles,
    /// Chain file as written.
    label: &'a Excerpt,
    /// Key file as written.
    key_label: &'a Excerpt,
    /// Line of `chain`.
    line: u32,
    /// Line of `key`.
    key_line: u32,
}

/// Reads and proves one `[[certificate]]`; `None` where its chain could not be read.
fn load<'a>(
    desk: &mut Desk,
    files: &'a CertificateFiles,
    anchors: &chain::Anchors,
) -> Option<(Candidate<'a>, Option<PrivateKeyDer<'static>>)> {
    let subject = Subject {
        files,
        label: &files.chain.value.label,
        key_label: &files.key.value.label,
        line: files.chain.line,
        key_line: files.key.line,
    };
    let key = pem::key(desk, &files.key);
    let read = pem::chain(desk, &files.chain)?;
    let links = chain::links(desk, &subject, read)?;
    let chain = chain::check(desk, &subject, links, anchors);
    key::guarded(desk, &subject);
    if let (Some(key), Some(end_entity)) = (&key, chain.first()) {
        key::check(desk, &subject, &end_entity.facts.key, &end_entity.der, key);
    }
    Some((Candidate { subject, chain }, key))
}

fn table(
    source: &Source,
    candidates: &[Candidate<'_>],
    chosen: &BTreeMap<Host, usize>,
    now: i64,
) -> Vec<HostRow> {
    let mut rows = Vec::new();
    for site in &source.sites {
        let routes: Vec<_> = routes_by_length(site)
            .into_iter()
            .map(|route| {
                (
                    Excerpt::of(&route.path).into(),
                    route.upstreams.iter().map(|u| network::show(&u.value)).collect(),
                )
            })
            .collect();
        for host in &site.hosts {
            let certificate = chosen.get(&host.value).and_then(|at| candidates.get(*at));
            let lifetime = certificate.and_then(|c| c.chain.first()).map(|link| link.facts.lifetime());
            rows.push(HostRow {
                host: host.value.to_string(),
                certificate: certificate.map(|c| c.subject.label.to_string()),
                days_left: lifetime.map(|lifetime| lifetime.days_left(now)),
                left: lifetime.map(|lifetime| lifetime.column(now)),
                renewal_due: lifetime.map(Lifetime::renewal_due),
                renewal: lifetime.map(|lifetime| lifetime.urgency(now)),
                routes: routes.clone(),
            });
        }
    }
    rows
}

/// The longest path first: the order in which serving tries them.
fn routes_by_length(site: &source::Site) -> Vec<&source::Route> {
    let mut routes: Vec<_> = site.routes.iter().collect();
    routes.sort_by_key(|route| (std::cmp::Reverse(route.path.len()), &route.path));
    routes
}

/// Allowed origins of a route: the default, unless it is dropped, then what the site lists, then what the route does.
fn origins(route: &source::Route) -> Origins {
    let mut origins = Origins { own: route.origins_default, ..Origins::default() };
    origins.list_all(&route.site_origins);
    origins.of_site = u16::try_from(origins.list.len()).unwrap_or(u16::MAX);
    origins.list_all(&route.origins);
    origins
}

impl Origins {
    fn list_all(&mut self, entries: &[OriginEntry]) {
        for entry in entries {
            match entry {
                OriginEntry::Any => self.any = true,
                OriginEntry::Null => self.null = true,
                OriginEntry::One(origin) if self.list.contains(origin) => {}
                OriginEntry::One(origin) => self.list.push(Origin::clone(origin)),
            }
        }
    }
}

/// A moment in seconds since 1970, as `2026-11-23 03:12 UTC`.
pub(crate) fn moment(seconds: i64) -> String {
    let of_day = seconds.rem_euclid(86_400);
    format!("{} {:02}:{:02} UTC", day(seconds), of_day / 3600, of_day % 3600 / 60)
}

/// The date of a moment in seconds since 1970, as `2026-11-23` (UTC).
pub fn day(seconds: i64) -> String {
    // Days to a civil date, after Howard Hinnant's `civil_from_days`: eras of 400 years that begin in March.
    let days = seconds.div_euclid(86_400) + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    format!("{:04}-{month:02}-{day:02}", year + era * 400 + i64::from(month <= 2))
}

/// A word as a POSIX shell takes it.
pub(crate) fn shell_word(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:=@+,%".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(day(0), "1970-01-01");
        assert_eq!(day(951_782_400), "2000-02-29");
        assert_eq!(day(4_107_542_399), "2100-02-28");
        assert_eq!(day(4_107_542_400), "2100-03-01");
        assert_eq!(day(-1), "1969-12-31");
        assert_eq!(moment(951_782_400 + 3600 * 13 + 59), "2000-02-29 13:00 UTC");
    }

    #[test]
    fn words_for_a_shell_are_quoted_where_needed() {
        assert_eq!(shell_word("certs/fullchain.pem"), "certs/fullchain.pem");
        assert_eq!(shell_word("*.recre.store"), "'*.recre.store'");
        assert_eq!(shell_word("it's; rm"), "'it'\\''s; rm'");
        assert_eq!(shell_word(""), "''");
    }
}
