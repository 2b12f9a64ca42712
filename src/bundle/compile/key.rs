//! The private key: serve can load it, it signs, and the signature is the certificate's.

use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::sign::SigningKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::context::{Context, RSA_BITS_MAX, RSA_BITS_MIN, Subject};
use super::der;
use super::facts::{EXPLICIT, KeyKind, parse};
use super::key_form::{self, Form};
use crate::bundle::file::{word, word_beside};
use crate::bundle::finding::{Code, Finding};

/// What is signed once: 64 bytes, as long as what a TLS 1.3 server signs at least.
const SAMPLE: [u8; 64] = [0x20; 64];

pub(super) const NEW_KEY: &str = "Issue the certificate again with an ECDSA P-256 key, with certbot:\n  certbot renew --key-type ecdsa --force-renewal";

/// Every proof about one key. `kind` is that of the certificate. True where nothing is wrong.
pub(super) fn check(
    context: &mut Context,
    subject: &Subject<'_>,
    kind: &KeyKind,
    end_entity: &CertificateDer<'_>,
    key: &PrivateKeyDer<'static>,
) {
    if !fits_serve(context, subject, kind) {
        return;
    }
    match crate::bundle::load_key(key) {
        Ok(key) if belongs(&key, end_entity) => speed(context, subject, kind),
        Ok(_) => context.push(subject.key_line, mismatch(subject, kind)),
        Err(_) => context.push(subject.key_line, not_loaded(subject, &key_form::of(key))),
    }
}

/// Says so where everybody on this machine may read the key.
pub(super) fn guarded(context: &mut Context, subject: &Subject<'_>) {
    use std::os::unix::fs::PermissionsExt as _;
    let path = &subject.files.key.value.path;
    let Ok(mode) = std::fs::metadata(path).map(|about| about.permissions().mode() & 0o777) else { return };
    if mode & 0o004 == 0 {
        return;
    }
    let finding = Finding::new(
        Code::KeyReadable,
        format!("every user of this machine can read `{}`", subject.key_label),
    )
    .certificate(subject.label)
    .expected("a private key that only its owner can read")
    .found(format!("mode {mode:04o}"))
    .remedy(format!("Type: chmod 600 {}", word(path)));
    context.push(subject.key_line, finding);
}

/// Whether serve could use a key of this kind at all.
fn fits_serve(context: &mut Context, subject: &Subject<'_>, kind: &KeyKind) -> bool {
    match kind {
        KeyKind::Rsa(bits) if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(bits) => {
            context.push(subject.line, rsa_size(subject.label, *bits, "the certificate", NEW_KEY));
            false
        }
        KeyKind::Other(what) => {
            context.push(subject.key_line, of_another_kind(subject, what));
            false
        }
        _ => true,
    }
}

/// Signs once and checks the signature with the certificate's key, whatever else is wrong with the certificate.
fn belongs(key: &Arc<dyn SigningKey>, end_entity: &CertificateDer<'_>) -> bool {
    let provider = rustls::crypto::ring::default_provider();
    let mapping = provider.signature_verification_algorithms.mapping;
    let schemes: Vec<SignatureScheme> = mapping.iter().map(|(scheme, _)| *scheme).collect();
    let signed =
        key.choose_scheme(&schemes).and_then(|s| s.sign(&SAMPLE).ok().map(|bytes| (s.scheme(), bytes)));
    let (Some((scheme, signature)), Ok(certificate)) = (signed, parse(end_entity)) else { return false };
    let spki = der::sequence(certificate.public_key().raw);
    let by = spki.first().map(|element| element.content).unwrap_or_default();
    let public = certificate.public_key().subject_public_key.data.as_ref();
    let algorithms =
        mapping.iter().filter(|(known, _)| *known == scheme).flat_map(|(_, algorithms)| *algorithms);
    let mut fitting = algorithms.filter(|algorithm| algorithm.public_key_alg_id().as_ref() == by);
    fitting.any(|algorithm| algorithm.verify_signature(public, &SAMPLE, &signature).is_ok())
}

/// Keys that work, but not for every client.
fn speed(context: &mut Context, subject: &Subject<'_>, kind: &KeyKind) {
    match kind {
        KeyKind::Ed25519 => {
            let finding = Finding::new(Code::Ed25519, format!("browsers refuse the Ed25519 key of `{}`", subject.label))
                .expected("ECDSA P-256, which every client accepts")
                .found("Ed25519")
                .remedy("This works for your own programs. For browsers, issue it again: certbot's --key-type ecdsa, or \
                    openssl ecparam -name prime256v1 -genkey");
            context.push(subject.line, finding.certificate(subject.label));
        }
        KeyKind::Rsa(bits) if context.rsa_is_slow => {
            let finding =
                Finding::new(Code::RsaSlow, format!("RSA handshakes are slow on the board `{}`", context.board))
                    .expected("ECDSA P-256: ten times as many handshakes a second")
                    .found(format!("RSA with {bits} bits"))
                    .remedy(
                        "Issue it again with an ECDSA key, with certbot:\n  certbot renew --key-type ecdsa --force-renewal",
                    );
            context.push(subject.line, finding.certificate(subject.label));
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

/// A certificate whose key serve cannot sign with.
fn of_another_kind(subject: &Subject<'_>, what: &str) -> Finding {
    if what == EXPLICIT {
        return unsupported(
            subject,
            "an EC key with explicit curve parameters in the certificate, which OpenSSL 3, Go and browsers refuse as well",
            format!("{}\nHave a certificate issued for the new key.", named_curve(subject)),
        );
    }
    unsupported(
        subject,
        &format!("{what}: the library of sanedge (ring) does not sign with it"),
        NEW_KEY.to_owned(),
    )
}

/// A key that is whole and cannot be loaded, or is damaged.
fn not_loaded(subject: &Subject<'_>, form: &Form) -> Finding {
    const RING: &str = "the library of sanedge (ring)";
    match form {
        Form::NoPublicHalf => unsupported(
            subject,
            &format!(
                "an EC key without its public half: it is valid (RFC 5915 §3), but {RING} needs both halves"
            ),
            named_curve(subject),
        ),
        Form::ExplicitParameters => unsupported(
            subject,
            &format!("an EC key with explicit curve parameters: {RING} needs a named curve"),
            named_curve(subject),
        ),
        Form::Curve(curve) => unsupported(
            subject,
            &format!("an EC key on the curve {curve}: {RING} does not sign with it"),
            NEW_KEY.to_owned(),
        ),
        Form::Exponent(exponent) => unsupported(
            subject,
            &format!("an RSA key with the public exponent {exponent}: {RING} signs only with 65537 or more"),
            format!("This key cannot be converted and must be replaced. {NEW_KEY}"),
        ),
        Form::SeveralPrimes => unsupported(
            subject,
            &format!("an RSA key of more than two primes: {RING} signs only with two"),
            format!("This key cannot be converted and must be replaced. {NEW_KEY}"),
        ),
        Form::OddRsa => unsupported(
            subject,
            &format!("an RSA key with parameters that {RING} does not accept, or a damaged one"),
            format!(
                "`openssl pkey -check -noout` says whether it is damaged. If not, it must be replaced. {NEW_KEY}"
            ),
        ),
        Form::Algorithm(name) => unsupported(
            subject,
            &format!("a key for {name}: {RING} does not sign with it"),
            NEW_KEY.to_owned(),
        ),
        Form::Unknown => unsupported(subject, "a damaged key, or one of another kind", NEW_KEY.to_owned()),
    }
}

/// How openssl writes an EC key with the name of its curve and with its public half. `openssl pkey` would leave that out again.
fn named_curve(subject: &Subject<'_>) -> String {
    let path = &subject.files.key.value.path;
    let new = word_beside(&super::pem::fresh(path, &["converted.key"]), path);
    format!(
        "Convert the key, and name the new file here:\n  openssl ec -param_enc named_curve -in {} -out {new}",
        word(path)
    )
}

fn unsupported(subject: &Subject<'_>, found: &str, remedy: String) -> Finding {
    Finding::new(Code::KeyUnsupported, format!("sanedge cannot use the key in `{}`", subject.key_label))
        .certificate(subject.label)
        .expected("ECDSA P-256 or P-384, Ed25519, or RSA with 2048 to 4096 bits")
        .found(found)
        .remedy(remedy)
}
