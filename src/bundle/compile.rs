//! Files to a proven bundle: reads what sanedge.toml names, proves that it fits together, and encodes it.
//!
//! Every problem is found in one run. Time is an argument. What it does not do: write the bundle, or resolve names.

mod anchors;
mod carry;
mod chain;
mod clients;
mod container;
mod context;
mod cover;
mod der;
mod encode;
mod facts;
mod issuer;
mod key;
mod key_form;
mod managed;
mod network;
mod path;
mod pem;
mod presented;
mod profile;
mod purpose;
mod settle;
mod sites;
mod verdict;

use std::collections::BTreeMap;
use std::path::Path;

use rustls_pki_types::PrivateKeyDer;
use zeroize::{Zeroize, Zeroizing};

use super::Bundle;
use super::acme::{Plan, stored};
use super::finding::{Code, Finding};
use super::lifetime::{Lifetime, Urgency};
pub use super::shell::shell_word;
use super::source::{self, CertificateFiles, Source};
use super::websockets::WebSockets;
use crate::excerpt::Excerpt;
use crate::limits::Memory;
use crate::names::Host;
pub use carry::InPlace;
use carry::{CarryOver, Loaded};
pub use context::moment;
use context::{Context, Subject, routes_by_length};
pub use context::{RSA_BITS_MAX, RSA_BITS_MIN, day};
use cover::Candidate;

pub use network::show as show_upstream;
pub use pem::{CHAIN_CERTIFICATES_MAX, PEM_BYTES_MAX, TRUST_CERTIFICATES_MAX};
pub use presented::{Presented, presented};
pub use sites::shown_redirect;

/// What came out.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Errors first, then warnings, then notes; of the errors unknown keys first, of which others may only follow; then in
    /// the order of the file.
    pub findings: Vec<Finding>,
    /// One row a host.
    pub hosts: Vec<HostRow>,
    /// One row a route: who may open WebSockets. Empty without a bundle.
    pub websockets: Vec<WebSockets>,
    /// The memory equation.
    pub memory: Option<Memory>,
    /// The file to write; `None` where there is an error.
    pub bundle: Option<Zeroizing<Vec<u8>>>,
    /// What `sanedge renew` obtains, of a sanedge.toml with `[acme]`; its bundle is not named yet.
    pub plan: Option<Plan>,
    /// The bundle was made although a source failed. `findings` has its errors.
    pub in_part: bool,
}

/// A row of the table host → certificate → days left → upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRow {
    /// The host.
    pub host: String,
    /// Its certificate's chain file, as written; `None`: no certificate covers it.
    pub certificate: Option<String>,
    /// It waits for the certificate that `sanedge renew` obtains.
    pub pending: bool,
    /// The certificate comes from the bundle in place, since that file fails.
    pub carried_over: bool,
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
    /// Where it redirects to; then it has no routes.
    pub redirect: Option<String>,
}

/// Compiles the sanedge.toml at `path` as of `now`, in seconds since 1970.
pub fn compile(path: &Path, now: i64) -> Outcome {
    carry_over(path, None, now)
}

/// The same; where a source fails, the bundle in place gives what it was given from it ([`InPlace`]).
pub fn carry_over(path: &Path, in_place: Option<&InPlace>, now: i64) -> Outcome {
    let (source, findings) = source::read(path);
    match source {
        Some(source) => prove(&source, findings, in_place, now),
        None => Outcome { findings, ..Outcome::default() },
    }
}

/// Compiles `text` as the content of the sanedge.toml at `path`.
pub fn compile_text(path: &Path, text: &str, now: i64) -> Outcome {
    let (source, findings) = source::parse(path, text);
    match source {
        Some(source) => prove(&source, findings, None, now),
        None => Outcome { findings, ..Outcome::default() },
    }
}

/// Proves a source that was read, `findings` being the reader's.
fn prove(source: &Source, findings: Vec<Finding>, in_place: Option<&InPlace>, now: i64) -> Outcome {
    let mut context = Context {
        path: source.path.clone(),
        now,
        findings,
        board: Excerpt::of(&source.board.value),
        rsa_is_slow: false,
        hosts: source.sites.iter().flat_map(|site| &site.hosts).map(|host| host.value.clone()).collect(),
    };
    let settled = settle::settle(&mut context, source);
    network::check(&mut context, source);
    sites::check(&mut context, source);
    let trust = source.trust.as_ref().or_else(|| source.acme.as_ref()?.trust.as_ref());
    let anchors = anchors::Anchors::load(&mut context, trust, source.local.as_ref());
    let revoked = source.acme.as_ref().map(|acme| stored::revoked(&acme.state)).unwrap_or_default();
    let carry = in_place.map(|in_place| CarryOver::new(in_place, revoked));
    let mut shelf = Shelf { carry, ..Shelf::default() };
    for files in &source.certificates {
        shelf.take(&mut context, files, &anchors);
    }
    let managed = managed::find(&mut context, source, &shelf.candidates);
    let obtained = managed.files(source);
    for files in &obtained {
        shelf.take(&mut context, files, &anchors);
    }
    let Shelf { mut candidates, mut keys, mut carry, unreadable, unusable } = shelf;
    let all_readable = !unreadable && carry.as_ref().is_none_or(|carry| carry.tolerated.is_empty());
    let mut chosen = cover::assign(&mut context, source, &candidates, all_readable, &managed.hosts);
    if let Some(carry) = &mut carry {
        let files: Vec<_> = source.certificates.iter().chain(&obtained).collect();
        let more = carry.fill(&mut context, &files, &anchors, &managed.hosts, &mut candidates, &mut chosen);
        keys.extend(more);
        carry.tell(&mut context, &candidates, &chosen);
    }
    sites::handshake_records(&mut context, source, &candidates, &chosen);
    let carried = carry.as_ref().map(|carry| &*carry.carried).unwrap_or_default();
    let pending: Vec<Host> = context
        .hosts
        .iter()
        .filter(|h| managed.hosts.contains(*h) && !chosen.contains_key(*h))
        .cloned()
        .collect();
    let hosts = table(source, &candidates, &chosen, carried, &pending, now);
    let parts = encode::Parts {
        source,
        candidates: &candidates,
        keys: &keys,
        chosen: &chosen,
        pending: &pending,
        settled: settled.as_ref(),
    };
    // Where every source fails nothing is done in part: the bundle in place has it all.
    let failed = carry.as_ref().is_some_and(|carry| !carry.tolerated.is_empty());
    let takes_some = !failed || chosen.values().any(|at| !carried.contains(at));
    let bundle =
        if context.errors() == 0 && takes_some { encode::encode(&mut context, &parts) } else { None };
    keys.iter_mut().flatten().for_each(Zeroize::zeroize);
    let mut tolerated = carry.map(|carry| carry.tolerated).unwrap_or_default();
    tolerated.extend(unusable);
    let in_part = bundle.is_some() && !tolerated.is_empty();
    context.findings.extend(tolerated);
    context.findings.sort_by_key(|f| (f.severity(), f.code != Code::UnknownKey, f.place.line));
    let opened = bundle.as_ref().and_then(|bytes| Bundle::decode(bytes.clone()).ok());
    let websockets = opened.map(|bundle| WebSockets::all(&bundle)).unwrap_or_default();
    let memory = settled.map(|settled| settled.memory);
    let plan = managed.plan(source);
    Outcome { findings: context.findings, hosts, websockets, memory, bundle, plan, in_part }
}

/// What was loaded, good or not.
#[derive(Default)]
struct Shelf<'p, 'f> {
    candidates: Vec<Candidate<'f>>,
    keys: Vec<Option<PrivateKeyDer<'static>>>,
    carry: Option<CarryOver<'p>>,
    /// A file could not be read.
    unreadable: bool,
    /// What is wrong with certificates that `sanedge renew` has stored: their hosts wait, and the others are served.
    unusable: Vec<Finding>,
}

impl<'f> Shelf<'_, 'f> {
    fn take(&mut self, context: &mut Context, files: &'f CertificateFiles, anchors: &anchors::Anchors) {
        let from = context.findings.len();
        let fresh = load(context, files, anchors);
        let is_obtained = files.chain.value.state.is_some();
        self.unreadable |= fresh.is_none() && !is_obtained;
        let loaded = match &mut self.carry {
            Some(carry) => carry.instead(context, files, anchors, from, fresh),
            None if is_obtained && context.errors_from(from) > 0 => {
                self.unusable.extend(context.findings.split_off(from));
                Vec::new()
            }
            None => fresh.into_iter().map(|loaded| (loaded, false)).collect(),
        };
        for ((candidate, key), carried) in loaded {
            if let (Some(carry), true) = (&mut self.carry, carried) {
                carry.carried.push(self.candidates.len());
            }
            self.candidates.push(candidate);
            self.keys.push(key);
        }
    }
}

/// Reads and proves one `[[certificate]]`; `None` where its chain could not be read.
fn load<'a>(
    context: &mut Context,
    files: &'a CertificateFiles,
    anchors: &anchors::Anchors,
) -> Option<Loaded<'a>> {
    let subject = Subject::of(files);
    let key = pem::key(context, &files.key);
    let read = pem::chain(context, &files.chain)?;
    let links = chain::links(context, &subject, read)?;
    let chain = chain::check(context, &subject, links, anchors, false);
    key::guarded(context, &subject);
    if let (Some(key), Some(end_entity)) = (&key, chain.first()) {
        key::check(context, &subject, &end_entity.facts.key, &end_entity.der, key);
    }
    Some((Candidate { subject, chain }, key))
}

fn table(
    source: &Source,
    candidates: &[Candidate<'_>],
    chosen: &BTreeMap<Host, usize>,
    carried: &[usize],
    pending: &[Host],
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
                pending: pending.contains(&host.value),
                carried_over: chosen.get(&host.value).is_some_and(|at| carried.contains(at)),
                days_left: lifetime.map(|lifetime| lifetime.days_left(now)),
                left: lifetime.map(|lifetime| lifetime.column(now)),
                renewal_due: lifetime.map(Lifetime::renewal_due),
                renewal: lifetime.map(|lifetime| lifetime.urgency(now)),
                routes: routes.clone(),
                redirect: site.redirect.as_ref().map(|to| shown_redirect(&to.value)),
            });
        }
    }
    rows
}
