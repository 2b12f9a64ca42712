//! Why a private key that is not damaged cannot be loaded: what ring lacks, and what converts the key.

use rustls_pki_types::PrivateKeyDer;
use x509_parser::oid_registry::asn1_rs::{Oid, Tag};

use super::der::{Element, elements, sequence};
use super::facts::{algorithm_name, curve_name};

const EC: &str = "1.2.840.10045.2.1";
const RSA: &str = "1.2.840.113549.1.1.1";
/// The smallest public exponent with which ring signs.
const EXPONENT_MIN: u64 = 65_537;

/// Why ring does not load a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// An EC key as a lone scalar (RFC 5915 §3: the public key is optional).
    NoPublicHalf,
    /// The curve is spelt out in numbers.
    ExplicitParameters,
    /// A curve that ring does not sign with.
    Curve(String),
    /// RSA with a small public exponent.
    Exponent(u64),
    /// RSA of more than two primes (RFC 8017 §3.2).
    SeveralPrimes,
    /// RSA with numbers that ring considers damaged.
    OddRsa,
    /// Another algorithm.
    Algorithm(String),
    /// Not a known kind of key, or a damaged one.
    Unknown,
}

/// Why ring does not load `key`.
pub(super) fn of(key: &PrivateKeyDer<'_>) -> Form {
    match key {
        PrivateKeyDer::Pkcs1(der) => rsa(der.secret_pkcs1_der()),
        PrivateKeyDer::Sec1(der) => ec(der.secret_sec1_der(), None),
        PrivateKeyDer::Pkcs8(der) => pkcs8(der.secret_pkcs8_der()),
        _ => Form::Unknown,
    }
}

/// PrivateKeyInfo (RFC 5208 §5): version, algorithm, key.
fn pkcs8(der: &[u8]) -> Form {
    let parts = sequence(der);
    let [_, algorithm, key, ..] = parts.as_slice() else { return Form::Unknown };
    let algorithm = elements(algorithm.content);
    match algorithm.first().map(identifier).as_deref() {
        Some(EC) => ec(key.content, algorithm.get(1)),
        Some(RSA) => rsa(key.content),
        Some(other) => Form::Algorithm(algorithm_name(other)),
        None => Form::Unknown,
    }
}

/// ECPrivateKey (RFC 5915 §3): version, scalar, `[0]` parameters, `[1]` public key.
fn ec(der: &[u8], outer: Option<&Element<'_>>) -> Form {
    let parts = sequence(der);
    let inner =
        parts.iter().find(|part| part.is_context(0)).map(|part| elements(part.content)).unwrap_or_default();
    let Some(curve) = outer.or(inner.first()).filter(|_| parts.len() >= 2) else { return Form::Unknown };
    match curve {
        _ if curve.is(Tag::Sequence) => Form::ExplicitParameters,
        _ if !["P-256", "P-384"].contains(&&*curve_name(&identifier(curve))) => {
            Form::Curve(curve_name(&identifier(curve)))
        }
        _ if !parts.iter().any(|part| part.is_context(1)) => Form::NoPublicHalf,
        _ => Form::Unknown,
    }
}

/// RSAPrivateKey (RFC 8017 §A.1.2): version, modulus, public exponent, and so on.
fn rsa(der: &[u8]) -> Form {
    let parts = sequence(der);
    let [version, _, exponent, ..] = parts.as_slice() else { return Form::Unknown };
    let digits: Vec<u8> = exponent.content.iter().copied().skip_while(|digit| *digit == 0).collect();
    let value =
        (digits.len() <= 8).then(|| digits.iter().fold(0_u64, |sum, digit| sum << 8 | u64::from(*digit)));
    match value {
        Some(value) if value < EXPONENT_MIN => Form::Exponent(value),
        _ if version.content != [0] => Form::SeveralPrimes,
        _ => Form::OddRsa,
    }
}

fn identifier(element: &Element<'_>) -> String {
    Oid::new(element.content.into()).to_id_string()
}
