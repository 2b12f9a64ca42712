//! `sanedge bundle --carry-over`: one bad certificate does not stop the others.
//!
//! If the source of a certificate has errors, the certificate that the existing bundle has from the same source stays in use, if it passes
//! every check again. If a host would lose a valid certificate, nothing is written. A certificate whose source is no longer in sanedge.toml is
//! not carried over.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rustls_pki_types::PrivateKeyDer;

use super::context::{Context, Subject, moment};
use super::cover::Candidate;
use super::{anchors::Anchors, chain, key};
use crate::bundle::finding::{Code, Finding, Severity};
use crate::bundle::source::{CertificateFiles, NamedFile};
use crate::bundle::{Bundle, Certificate, wire};
use crate::names::Host;

/// A certificate with what proves it, and its key.
pub(super) type Loaded<'a> = (Candidate<'a>, Option<PrivateKeyDer<'static>>);

/// The bundle that will be replaced, with its keys.
#[derive(Debug, Default)]
pub struct InPlace {
    /// `None`: there is no bundle yet.
    bundle: Option<Bundle>,
    keys: Vec<PrivateKeyDer<'static>>,
}

impl InPlace {
    /// Decodes the bytes of the file.
    ///
    /// # Errors
    /// As [`Bundle::decode`].
    pub fn decode(file: &[u8]) -> Result<Self, wire::FormatError> {
        let (bundle, keys) = wire::decode_with_keys(file)?;
        Ok(Self { bundle: Some(bundle), keys })
    }

    /// Every certificate from this source.
    fn of(
        &self,
        source: [u8; 32],
        revoked: &BTreeSet<[u8; 32]>,
    ) -> impl Iterator<Item = (&Certificate, &PrivateKeyDer<'static>)> {
        self.bundle
            .iter()
            .flat_map(|bundle| &bundle.certificates)
            .zip(&self.keys)
            .filter(move |(certificate, _)| certificate.source == source && !is_in(revoked, certificate))
    }

    /// When the certificate of `host` ends, if it is still valid.
    fn valid_until(&self, host: &Host, now: i64, revoked: &BTreeSet<[u8; 32]>) -> Option<i64> {
        let bundle = self.bundle.as_ref()?;
        let entry = bundle.host(host)?;
        let certificate = bundle.certificates.get(usize::from(entry.certificate))?;
        if is_in(revoked, certificate) {
            return None;
        }
        (certificate.not_before..=certificate.not_after).contains(&now).then_some(certificate.not_after)
    }
}

impl Drop for InPlace {
    fn drop(&mut self) {
        self.keys.iter_mut().for_each(zeroize::Zeroize::zeroize);
    }
}

/// Whether a certificate was revoked.
fn is_in(revoked: &BTreeSet<[u8; 32]>, certificate: &Certificate) -> bool {
    certificate.key.cert.first().is_some_and(|end_entity| revoked.contains(&wire::sha256(end_entity)))
}

/// The state of carrying over: what is kept, and why.
pub(super) struct CarryOver<'a> {
    pub(super) in_place: &'a InPlace,
    /// Revoked certificates, which are never carried over, by their SHA-256.
    revoked: BTreeSet<[u8; 32]>,
    /// Findings of sources with errors: they are reported, and do not stop the others.
    pub(super) tolerated: Vec<Finding>,
    /// The candidates that come from the existing bundle.
    pub(super) carried: Vec<usize>,
    pub(super) left_out: Vec<Host>,
}

/// Identifies a source: a certificate of the bundle belongs to the `[[certificate]]` with the same chain and key file. If sanedge.toml was
/// moved, the files are others.
pub(super) fn identity(toml: &Path, files: &CertificateFiles) -> [u8; 32] {
    let folder = toml.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let whole = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let path = |file: &NamedFile| -> PathBuf {
        let inside = file.path.strip_prefix(folder).map(|rest| whole.join(rest));
        inside.unwrap_or_else(|_| whole.join(&file.path))
    };
    let [chain, key] = [path(&files.chain.value), path(&files.key.value)];
    let (chain, key) = (chain.as_os_str().as_encoded_bytes(), key.as_os_str().as_encoded_bytes());
    wire::sha256(&[chain, key].join(&0))
}

impl<'a> CarryOver<'a> {
    pub(super) fn new(in_place: &'a InPlace, revoked: BTreeSet<[u8; 32]>) -> Self {
        Self { in_place, revoked, tolerated: Vec::new(), carried: Vec::new(), left_out: Vec::new() }
    }

    /// What is used for a source whose findings begin at `from`: the source, or the existing bundle's certificates from it.
    pub(super) fn instead<'f>(
        &mut self,
        context: &mut Context,
        files: &'f CertificateFiles,
        anchors: &Anchors,
        from: usize,
        fresh: Option<Loaded<'f>>,
    ) -> Vec<(Loaded<'f>, bool)> {
        let failed = context.findings.iter().skip(from).any(|finding| finding.severity() == Severity::Error);
        if !failed {
            return fresh.into_iter().map(|loaded| (loaded, false)).collect();
        }
        self.tolerated.extend(context.findings.split_off(from));
        let identity = identity(&context.path, files);
        let all = self.in_place.of(identity, &self.revoked);
        all.filter_map(|(certificate, key)| Some((proven(context, files, anchors, certificate, key)?, true)))
            .collect()
    }

    /// For hosts that no certificate covers any more: the existing bundle's certificates from sources that sanedge.toml still names. Returns the
    /// keys of the candidates that it adds.
    pub(super) fn fill<'f>(
        &mut self,
        context: &mut Context,
        sources: &[&'f CertificateFiles],
        anchors: &Anchors,
        managed: &BTreeSet<Host>,
        candidates: &mut Vec<Candidate<'f>>,
        chosen: &mut BTreeMap<Host, usize>,
    ) -> Vec<Option<PrivateKeyDer<'static>>> {
        let mut keys = Vec::new();
        let hosts: Vec<Host> =
            context.hosts.iter().filter(|host| !chosen.contains_key(*host)).cloned().collect();
        for host in hosts {
            let covers = |(candidate, _): &Loaded<'_>| candidate.covers(&host);
            let kept = sources.iter().find_map(|files| {
                let mut all = self.in_place.of(identity(&context.path, files), &self.revoked);
                all.find_map(|(certificate, key)| {
                    proven(context, files, anchors, certificate, key).filter(covers)
                })
            });
            if let Some((candidate, key)) = kept {
                self.tolerate_uncovered(context, &host);
                self.carried.push(candidates.len());
                chosen.insert(host, candidates.len());
                candidates.push(candidate);
                keys.push(key);
            } else if let Some(end) = self.in_place.valid_until(&host, context.now, &self.revoked) {
                context.push(0, would_lose(&host, end));
            } else if !self.tolerated.is_empty() && !managed.contains(&host) {
                context.push(0, left_out(&host));
                self.left_out.push(host);
            }
        }
        keys
    }

    fn tolerate_uncovered(&mut self, context: &mut Context, host: &Host) {
        let name = host.to_string();
        let is_it = |f: &Finding| f.code == Code::HostNotCovered && f.place.host.as_deref() == Some(&*name);
        let (uncovered, others) = context.findings.drain(..).partition(is_it);
        context.findings = others;
        self.tolerated.extend::<Vec<Finding>>(uncovered);
    }

    /// Reports each host that keeps its certificate.
    pub(super) fn tell(
        &self,
        context: &mut Context,
        candidates: &[Candidate<'_>],
        chosen: &BTreeMap<Host, usize>,
    ) {
        for (host, at) in chosen.iter().filter(|(_, at)| self.carried.contains(at)) {
            if let Some(candidate) = candidates.get(*at) {
                context.push(candidate.subject.line, kept(host, candidate));
            }
        }
    }
}

/// Checks a certificate of a bundle again, completely.
fn proven<'f>(
    context: &Context,
    files: &'f CertificateFiles,
    anchors: &Anchors,
    certificate: &Certificate,
    key: &PrivateKeyDer<'static>,
) -> Option<Loaded<'f>> {
    let subject = Subject::of(files);
    let mut quiet = context.without_findings();
    let links = chain::links(&mut quiet, &subject, certificate.key.cert.clone())?;
    let chain = chain::check(&mut quiet, &subject, links, anchors, false);
    let end_entity = chain.first()?;
    key::check(&mut quiet, &subject, &end_entity.facts.key, &end_entity.der, key);
    (quiet.errors() == 0).then(|| (Candidate { subject, chain }, Some(key.clone_key())))
}

fn kept(host: &Host, candidate: &Candidate<'_>) -> Finding {
    let label = candidate.subject.label;
    let end = candidate.chain.first().map(|link| moment(link.facts.not_after)).unwrap_or_default();
    Finding::new(
        Code::CarriedOver,
        format!("`{host}` keeps the certificate of `{label}` that the existing bundle has"),
    )
    .host(host)
    .certificate(label)
    .expected(format!("a certificate in `{label}` that passes every check and covers the host"))
    .found(format!("errors (see above); the existing one is valid until {end}"))
    .remedy("Fix these errors before then, and run the command again.")
}

fn left_out(host: &Host) -> Finding {
    Finding::new(
        Code::HostLeftOut,
        format!("`{host}` has no certificate and is left out: clients are refused"),
    )
    .host(host)
    .expected("a certificate that covers the host, in a file or in the existing bundle")
    .found("files with errors (see above), and no valid certificate in the existing bundle")
    .remedy("Fix these errors, and run the command again.")
}

fn would_lose(host: &Host, end: i64) -> Finding {
    Finding::new(Code::HostNotCovered, format!("`{host}` would lose its certificate, which is valid"))
        .host(host)
        .expected("a certificate for the host in sanedge.toml, or a [[certificate]] with the files of the existing one")
        .found(format!("none; the existing bundle has one, valid until {}", moment(end)))
        .remedy("Fix the [[certificate]] for this host, or remove the host from sanedge.toml.")
}
