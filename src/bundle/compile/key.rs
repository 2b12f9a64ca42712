//! The private key: serve can load it, it signs, and the signature is the certificate's.

use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::sign::SigningKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use webpki::EndEntityCert;

use super::desk::{Desk, RSA_BITS_MAX, RSA_BITS_MIN, Subject};
use super::facts::KeyKind;
use crate::bundle::file::word;
use crate::bundle::finding::{Code, Finding};
use crate::excerpt::Excerpt;

/// What is signed once: 64 bytes, as long as what a TLS 1.3 server signs at least.
const SAMPLE: [u8; 64] = [0x20; 64];

pub(super) const NEW_KEY: &str =
    "Issue the certificate again with an ECDSA P-256 key:\n  certbot renew --key-type ecdsa --force-renewal";

/// Every proof about one key. `kind` is that of the certificate. True where nothing is wrong.
pub(super) fn check(
    desk: &mut Desk,
    subject: &Subject<'_>,
    kind: &KeyKind,
    end_entity: &CertificateDer<'_>,
    key: &PrivateKeyDer<'static>,
) {
    if !fits_serve(desk, subject, kind) {
        return;
    }
    match crate::bundle::load_key(key) {
        Ok(key) if belongs(&key, end_entity) => speed(desk, subject, kind),
        Ok(_) => desk.push(subject.key_line, mismatch(subject, kind)),
        Err(error) => desk.push(
            subject.key_line,
            unsupported(
                subject,
                &format!("another kind of key, or a damaged one ({})", Excerpt::of(&error.0.to_string())),
            ),
        ),
    }
}

/// Says so where everybody on this machine may read the key.
pub(super) fn guarded(desk: &mut Desk, subject: &Subject<'_>) {
    use std::os::unix::fs::PermissionsExt as _;
    let path = &subject.files.key.value.path;
    let Ok(mode) = std::fs::metadata(path).map(|about| about.permissions().mode() & 0o777) else { return };
    if mode & 0o004 == 0 {
        return;
    }
    let finding = Finding::new(
        Code::KeyReadable,
        format!("everybody on this machine may read `{}`", subject.key_label),
    )
    .certificate(subject.label)
    .expected("a private key that only its owner may read")
    .found(format!("mode {mode:04o}"))
    .remedy(format!("Type: chmod 600 {}", word(path)));
    desk.push(subject.key_line, finding);
}

/// Whether serve could use a key of this kind at all.
fn fits_serve(desk: &mut Desk, subject: &Subject<'_>, kind: &KeyKind) -> bool {
    match kind {
        KeyKind::Rsa(bits) if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(bits) => {
            desk.push(subject.line, rsa_size(subject.label, *bits, "the certificate", NEW_KEY));
            false
        }
        KeyKind::Other(what) => {
            desk.push(subject.key_line, unsupported(subject, what));
            false
        }
        _ => true,
    }
}

/// Signs once and checks the signature with the certificate.
fn belongs(key: &Arc<dyn SigningKey>, end_entity: &CertificateDer<'_>) -> bool {
    let provider = rustls::crypto::ring::default_provider();
    let mapping = provider.signature_verification_algorithms.mapping;
    let schemes: Vec<SignatureScheme> = mapping.iter().map(|(scheme, _)| *scheme).collect();
    let signed =
        key.choose_scheme(&schemes).and_then(|s| s.sign(&SAMPLE).ok().map(|bytes| (s.scheme(), bytes)));
    let (Some((scheme, signature)), Ok(certificate)) = (signed, EndEntityCert::try_from(end_entity)) else {
        return false;
    };
    let mut algorithms =
        mapping.iter().filter(|(known, _)| *known == scheme).flat_map(|(_, algorithms)| *algorithms);
    algorithms.any(|algorithm| certificate.verify_signature(*algorithm, &SAMPLE, &signature).is_ok())
}

/// Keys that work and will surprise somebody.
fn speed(desk: &mut Desk, subject: &Subject<'_>, kind: &KeyKind) {
    match kind {
        KeyKind::Ed25519 => {
            let finding = Finding::new(Code::Ed25519, format!("browsers refuse the Ed25519 key of `{}`", subject.label))
                .expected("ECDSA P-256, which every client takes")
                .found("Ed25519")
                .remedy("Fine for programs of your own. For browsers issue it again: certbot's --key-type ecdsa, or openssl ecparam -name prime256v1 -genkey");
            desk.push(subject.line, finding.certificate(subject.label));
        }
        KeyKind::Rsa(bits) if desk.rsa_is_slow => {
            let finding =
                Finding::new(Code::RsaSlow, format!("RSA handshakes are slow on the board `{}`", desk.board))
                    .expected("ECDSA P-256: ten times as many handshakes a second")
                    .found(format!("RSA with {bits} bits"))
                    .remedy(
                        "Issue it again with an ECDSA key:\n  certbot renew --key-type ecdsa --force-renewal",
                    );
            desk.push(subject.line, finding.certificate(subject.label));
        }
        _ => {}
    }
}

pub(super) fn rsa_size(label: &str, bits: usize, whose: &str, remedy: &str) -> Finding {
    Finding::new(Code::RsaSize, format!("the RSA key of {whose} in `{label}` has {bits} bits"))
        .certificate(label)
        .expected(format!("RSA with {RSA_BITS_MIN} to {RSA_BITS_MAX} bits, or better ECDSA P-256"))
        .found(format!("{bits} bits"))
        .remedy(remedy)
}

fn mismatch(subject: &Subject<'_>, kind: &KeyKind) -> Finding {
    let (chain, key) = (word(&subject.files.chain.value.path), word(&subject.files.key.value.path));
    Finding::new(Code::KeyMismatch, format!("`{}` is not the key of `{}`", subject.key_label, subject.label))
        .certificate(subject.label)
        .expected(format!("the private key of this {kind} certificate"))
        .found("a key whose signature the certificate does not confirm")
        .remedy(format!("Name the key that was made with this certificate; both of these must print the same:\n  openssl x509 -noout -pubkey -in {chain}\n  openssl pkey -pubout -in {key}"))
}

fn unsupported(subject: &Subject<'_>, found: &str) -> Finding {
    Finding::new(Code::KeyUnsupported, format!("the key in `{}` cannot be used", subject.key_label))
        .certificate(subject.label)
        .expected("ECDSA P-256 or P-384, Ed25519, or RSA with 2048 to 4096 bits")
        .found(found)
        .remedy(NEW_KEY)
}
