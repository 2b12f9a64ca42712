//! Builds the path from the end-entity upwards from the certificates of a file: by names, signatures and key identifiers.
//!
//! A file may contain more than is needed: cross-signed certificates, an expired one, a root, two of one name. The shortest valid path is used
//! and the rest is left out.

use std::collections::VecDeque;

use rustls_pki_types::SignatureVerificationAlgorithm;
use x509_parser::oid_registry::asn1_rs::Tag;

use super::context::RSA_BITS_MIN;
use super::der;
use super::facts::{KeyKind, Link, algorithm_name, parse};

/// Most paths that are tried. A file has at most ten certificates; only a malicious one has so many paths.
const PATHS_MAX: usize = 256;
/// Longest RSA key whose signatures ring checks.
const RSA_BITS_CHECKED_MAX: usize = 8192;

/// Whether one certificate signed another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Signed {
    Yes,
    No,
    /// Names and key identifiers fit, but the signature is of a kind that cannot be checked here; the kind as text.
    Unchecked(String),
}

/// Whether `parent` signed `child`, as far as ring can check it.
pub(super) fn signed(child: &Link, parent: &Link) -> Signed {
    if !child.facts.profile.may_be_signed_by(&parent.facts.profile) {
        return Signed::No;
    }
    let (Ok(key), kind) = (parse(&parent.der), &parent.facts.key) else { return Signed::No };
    let parts = der::sequence(&child.der);
    let [body, algorithm, signature] = parts.as_slice() else { return Signed::No };
    let spki = der::sequence(key.public_key().raw);
    let by = spki.first().map(|element| element.content).unwrap_or_default();
    let unchecked = || Signed::Unchecked(format!("{} by {kind}", signature_name(algorithm.content)));
    if matches!(kind, KeyKind::Rsa(bits) if !(RSA_BITS_MIN..=RSA_BITS_CHECKED_MAX).contains(bits)) {
        return unchecked();
    }
    let fits = |known: &&&dyn SignatureVerificationAlgorithm| {
        known.public_key_alg_id().as_ref() == by && known.signature_alg_id().as_ref() == algorithm.content
    };
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms.all;
    let known: Vec<_> = algorithms.iter().filter(fits).collect();
    let public = key.public_key().subject_public_key.data.as_ref();
    // The first octet of a BIT STRING counts unused bits (X.690 §8.6.2.2).
    let signature = signature.content.get(1..).unwrap_or_default();
    match known.as_slice() {
        [] => unchecked(),
        some if some.iter().any(|known| known.verify_signature(public, body.raw, signature).is_ok()) => {
            Signed::Yes
        }
        _ => Signed::No,
    }
}

/// The name of an AlgorithmIdentifier's content.
fn signature_name(identifier: &[u8]) -> String {
    use x509_parser::oid_registry::asn1_rs::Oid;
    match der::elements(identifier).first() {
        Some(element) if element.is(Tag::Oid) => {
            algorithm_name(&Oid::new(element.content.into()).to_id_string())
        }
        _ => "a signature of unknown kind".to_owned(),
    }
}

/// How good a path is; later is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    /// It cannot be valid: a certificate above the end-entity is out of date.
    Unfit,
    /// It has no error, but does not end at a known root.
    Open,
    /// It ends at a known root, but a signature cannot be checked here.
    Plausible,
    /// Valid.
    Proven,
}

/// The shortest of the best paths, as indexes of `links`; `judge` rates a path. It begins with the first certificate that is not a CA's. If no
/// path is valid, it is continued by names alone, so that the error there can be reported.
pub(super) fn find(links: &[Link], judge: impl Fn(&[&Link]) -> Fit) -> Vec<usize> {
    let first = links.iter().position(|link| !link.facts.is_ca).or((!links.is_empty()).then_some(0));
    let Some(start) = first else { return Vec::new() };
    let edges = edges(links);
    let mut queue = VecDeque::from([vec![start]]);
    let mut best: Option<(Fit, Vec<usize>)> = None;
    for _ in 0..PATHS_MAX {
        let Some(path) = queue.pop_front() else { break };
        let certificates: Vec<&Link> = path.iter().filter_map(|at| links.get(*at)).collect();
        let fit = judge(&certificates);
        let longer = longer(&path, &edges);
        let counts = fit >= Fit::Plausible || longer.is_empty();
        if counts && best.as_ref().is_none_or(|(other, _)| fit > *other) {
            best = Some((fit, path));
        }
        if fit == Fit::Proven {
            break;
        }
        queue.extend(longer);
    }
    match best {
        Some((fit, path)) if fit >= Fit::Plausible => path,
        Some((_, path)) => led_by_names(links, path),
        None => led_by_names(links, vec![start]),
    }
}

/// Child and parent, for every pair of which the parent may have signed the child.
fn edges(links: &[Link]) -> Vec<(usize, usize)> {
    let pairs = (0..links.len()).flat_map(|child| (0..links.len()).map(move |parent| (child, parent)));
    let is_edge = |(child, parent): &(usize, usize)| match (links.get(*child), links.get(*parent)) {
        (Some(child), Some(parent)) => issued(parent, child) && signed(child, parent) != Signed::No,
        _ => false,
    };
    pairs.filter(is_edge).collect()
}

fn longer(path: &[usize], edges: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let parents = edges.iter().filter(|(child, parent)| path.last() == Some(child) && !path.contains(parent));
    parents.map(|(_, parent)| [path, &[*parent]].concat()).collect()
}

fn led_by_names(links: &[Link], mut path: Vec<usize>) -> Vec<usize> {
    while let Some(last) = path.last().and_then(|at| links.get(*at)) {
        let mut others = links.iter().enumerate().filter(|(at, _)| !path.contains(at));
        let Some((next, _)) = others.find(|(_, link)| issued(link, last)) else { break };
        path.push(next);
    }
    path
}

/// Whether one issued the other, by names only. A certificate is not its own issuer here.
pub(super) fn issued(parent: &Link, child: &Link) -> bool {
    child.facts.issuer_raw == parent.facts.subject_raw && child.der != parent.der
}
