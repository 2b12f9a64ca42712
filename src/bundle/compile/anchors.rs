//! The roots that a chain may end at: Mozilla's, and those of `trust`.

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, TrustAnchor};

use super::context::Context;
use super::facts::{Facts, Link};
use super::path::{self, Signed};
use super::pem::{self, PEM_BYTES_MAX};
use super::verdict::path_error;
use crate::bundle::acme::local;
use crate::bundle::finding::{Code, Finding};
use crate::bundle::source::{Lined, Local, NamedFile, read_bounded};
use crate::excerpt::Excerpt;

/// Roots that a chain may end at.
pub(super) struct Anchors {
    pub(super) all: Vec<TrustAnchor<'static>>,
    /// Name of the `trust` file as written, if there is one, and where it is.
    pub(super) label: Option<Excerpt>,
    pub(super) path: Option<std::path::PathBuf>,
    /// The certificates of the `trust` file: a self-signed certificate in it is expected.
    pub(super) trusted: Vec<CertificateDer<'static>>,
    /// The `trust` file has errors, so its CAs are not known completely.
    pub(super) broken: bool,
}

impl Anchors {
    /// Mozilla's, those of the `trust` file, and the one of the local CA.
    pub(super) fn load(
        context: &mut Context,
        trust: Option<&Lined<NamedFile>>,
        local: Option<&Local>,
    ) -> Self {
        let before = context.errors();
        let mut anchors = Self::of(&local.map(own_root).unwrap_or_default());
        let Some(file) = trust else { return anchors };
        let trusted = pem::trust(context, file).unwrap_or_default();
        for (at, der) in trusted.iter().enumerate() {
            match webpki::anchor_from_trusted_cert(der) {
                Ok(anchor) => anchors.all.push(anchor.to_owned()),
                Err(error) => context.push(file.line, malformed(&file.value.label, at, path_error(&error))),
            }
        }
        anchors.trusted.extend(trusted);
        (anchors.label, anchors.path) = (Some(file.value.label.clone()), Some(file.value.path.clone()));
        anchors.broken = context.errors() > before;
        anchors
    }

    /// Mozilla's roots, and further trusted ones.
    pub(super) fn of(trusted: &[CertificateDer<'static>]) -> Self {
        let mut all = webpki_roots::TLS_SERVER_ROOTS.to_vec();
        let anchor = |der| webpki::anchor_from_trusted_cert(der).ok().map(|anchor| anchor.to_owned());
        all.extend(trusted.iter().filter_map(anchor));
        Self { all, label: None, path: None, trusted: trusted.to_vec(), broken: false }
    }

    /// The further roots that may have signed this certificate.
    pub(super) fn roots_above(&self, last: &Link) -> impl Iterator<Item = Link> {
        let root =
            |der: &CertificateDer<'static>| Some(Link { der: der.clone(), facts: Facts::of(der).ok()? });
        let roots = self.trusted.iter().filter_map(root).filter(|root| path::issued(root, last));
        roots.filter(|root| path::signed(last, root) != Signed::No)
    }

    /// The first of them.
    pub(super) fn root_above(&self, last: &Link) -> Option<Link> {
        self.roots_above(last).next()
    }

    /// Whether the path ends at one of the further roots.
    pub(super) fn names_issuer_of(&self, path: &[Link]) -> bool {
        path.last().is_some_and(|last| self.trusted.contains(&last.der) || self.root_above(last).is_some())
    }

    /// Whether the chain leads to a root that browsers know, by names.
    pub(super) fn are_public(path: &[Link]) -> bool {
        reaches(&path.iter().collect::<Vec<_>>(), webpki_roots::TLS_SERVER_ROOTS)
    }
}

/// The root that devices are to trust, once the deployment has made it.
fn own_root(local: &Local) -> Vec<CertificateDer<'static>> {
    let pem = read_bounded(&local.folder.join(local::ROOT), PEM_BYTES_MAX).unwrap_or_default();
    CertificateDer::pem_slice_iter(&pem).take(1).flatten().collect()
}

/// Whether a chain leads to one of the roots by names; the path check verifies the signatures.
pub(super) fn reaches(path: &[&Link], anchors: &[TrustAnchor<'_>]) -> bool {
    let issuer_is = |link: &Link, anchor: &TrustAnchor<'_>| {
        sequence_content(&link.facts.issuer_raw) == Some(anchor.subject.as_ref())
    };
    path.iter().any(|link| anchors.iter().any(|anchor| issuer_is(link, anchor)))
}

/// The content of a DER SEQUENCE; webpki keeps names without their header.
fn sequence_content(der: &[u8]) -> Option<&[u8]> {
    match der {
        [0x30, length, content @ ..] if *length < 0x80 => Some(content),
        [0x30, long, rest @ ..] => rest.get(usize::from(long & 0x7f)..),
        _ => None,
    }
}

pub(super) fn malformed(label: &str, at: usize, found: &str) -> Finding {
    Finding::new(Code::CertificateMalformed, format!("certificate {} in `{label}` is damaged", at + 1))
        .certificate(label)
        .expected("an X.509 version 3 certificate")
        .found(found)
        .remedy("Copy the file again from where it was issued.")
}
