//! A chain as a server presents it, by the same proofs as a chain in a file.

use rustls_pki_types::CertificateDer;

use super::anchors::Anchors;
use super::chain;
use super::context::{Context, RSA_BITS_MIN, Subject};
use super::facts::KeyKind;
use crate::bundle::finding::{Code, Finding};
use crate::bundle::source::{CertificateFiles, Lined, NamedFile};
use crate::excerpt::Excerpt;
use crate::names::SanName;

/// What stands for a file name in findings about a presented chain.
const LABEL: &str = "what the server presents";

/// What a presented chain says of itself, and what is wrong with it.
#[derive(Clone, Debug)]
pub struct Presented {
    /// Usable SAN entries of the end-entity.
    pub names: Vec<SanName>,
    /// It has a subjectAltName at all.
    pub has_san: bool,
    /// Common name of the end-entity, which no client looks at.
    pub common_name: Option<Excerpt>,
    /// Who issued the end-entity.
    pub issuer: Excerpt,
    /// Seconds since 1970 when it starts and ends to be valid.
    pub not_before: i64,
    /// See `not_before`.
    pub not_after: i64,
    /// Kind of its key, for people.
    pub key: String,
    /// Where the issuer's certificate can be fetched (RFC 5280 §4.2.2.1).
    pub issuer_url: Option<Excerpt>,
    /// Subject and issuer of the end-entity are the same.
    pub self_signed: bool,
    /// Every finding but those about hosts.
    pub findings: Vec<Finding>,
}

/// Proves a chain as it was presented, end-entity first, as of `now` in seconds since 1970. `trust` are roots beside
/// Mozilla's; `stapled`: an OCSP response came with it.
///
/// # Errors
/// Which certificate is no X.509, as a sentence.
pub fn presented(
    chain: &[CertificateDer<'static>],
    trust: &[CertificateDer<'static>],
    stapled: bool,
    now: i64,
) -> Result<Presented, String> {
    let label = Excerpt::of(LABEL);
    let file =
        || Lined { value: NamedFile { label: label.clone(), path: LABEL.into(), state: None }, line: 0 };
    let files = CertificateFiles { line: 0, chain: file(), key: file() };
    let subject = Subject { files: &files, label: &label, key_label: &label, line: 0, key_line: 0 };
    let mut context = Context {
        path: LABEL.into(),
        now,
        board: Excerpt::of(""),
        rsa_is_slow: false,
        hosts: Vec::new(),
        findings: Vec::new(),
    };
    let anchors = Anchors::of(trust);
    let links = chain::links(&mut context, &subject, chain.to_vec());
    let unreadable = || context.findings.first().map_or_else(String::new, |finding| finding.found.clone());
    let Some(links) = links else { return Err(unreadable()) };
    let path = chain::check(&mut context, &subject, links, &anchors, stapled);
    let Some(facts) = path.first().map(|link| &link.facts) else { return Err("no certificate".to_owned()) };
    strength(&mut context, &subject, &facts.key);
    Ok(Presented {
        names: facts.names.clone(),
        has_san: facts.has_san,
        common_name: facts.common_name.clone(),
        issuer: facts.issuer.clone(),
        not_before: facts.not_before,
        not_after: facts.not_after,
        key: facts.key.to_string(),
        issuer_url: facts.issuer_url.clone(),
        self_signed: facts.self_signed,
        findings: context.findings,
    })
}

fn strength(context: &mut Context, subject: &Subject<'_>, key: &KeyKind) {
    match key {
        KeyKind::Rsa(bits) if *bits < RSA_BITS_MIN => {
            let finding = super::key::rsa_size(subject.label, *bits, "the certificate", super::key::NEW_KEY);
            context.push(0, finding);
        }
        KeyKind::Ed25519 => {
            context.push(0, Finding::new(Code::Ed25519, "browsers refuse an Ed25519 key").found("Ed25519"));
        }
        _ => {}
    }
}
