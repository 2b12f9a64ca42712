//! Files to a proven bundle: reads what sanedge.toml names, proves that it fits together, and encodes it.
//!
//! Every problem is found in one run. Time is an argument. What it does not do: write the bundle, or resolve names.

mod anchors;
mod chain;
mod clients;
mod cover;
mod der;
mod desk;
mod encode;
mod facts;
mod issuer;
mod key;
mod key_form;
mod network;
mod path;
mod pem;
mod presented;
mod profile;
mod purpose;
mod settle;
mod verdict;

use std::collections::BTreeMap;
use std::path::Path;

use rustls_pki_types::PrivateKeyDer;
use zeroize::{Zeroize, Zeroizing};

use super::Bundle;
use super::finding::{Code, Finding};
use super::lifetime::{Lifetime, Urgency};
pub(crate) use super::shell::shell_word;
use super::source::{self, CertificateFiles, Source};
use super::websockets::WebSockets;
use crate::excerpt::Excerpt;
use crate::names::Host;
use cover::Candidate;
pub(crate) use desk::moment;
use desk::{Desk, Subject, routes_by_length};
pub use desk::{RSA_BITS_MAX, RSA_BITS_MIN, day};

pub use network::show as show_upstream;
pub use pem::{CHAIN_CERTIFICATES_MAX, PEM_BYTES_MAX, TRUST_CERTIFICATES_MAX};
pub use presented::{Presented, presented};

/// What came out.
#[derive(Debug)]
pub struct Outcome {
    /// Errors first, then warnings, then notes; of the errors unknown keys first, of which others may only follow; then in
    /// the order of the file.
    pub findings: Vec<Finding>,
    /// One row a host.
    pub hosts: Vec<HostRow>,
    /// One row a route: who may open WebSockets. Empty without a bundle.
    pub websockets: Vec<WebSockets>,
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
    let anchors = anchors::Anchors::load(&mut desk, source.trust.as_ref());
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
    let websockets = opened.map(|bundle| WebSockets::all(&bundle)).unwrap_or_default();
    let memory = settled.map(|settled| settled.memory.to_string());
    Outcome { findings: desk.findings, hosts, websockets, memory, bundle }
}

/// Reads and proves one `[[certificate]]`; `None` where its chain could not be read.
fn load<'a>(
    desk: &mut Desk,
    files: &'a CertificateFiles,
    anchors: &anchors::Anchors,
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
    let chain = chain::check(desk, &subject, links, anchors, false);
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
