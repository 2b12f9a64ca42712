//! What a certificate says of itself, taken out of X.509 once.

use std::net::IpAddr;

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry as oid;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use super::profile::Profile;
use crate::bundle::lifetime::Lifetime;
use crate::excerpt::{Excerpt, number};
use crate::names::SanName;

/// The kind of a certificate's key, in the order in which serving prefers them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum KeyKind {
    /// ECDSA over P-256 or P-384.
    Ecdsa(&'static str),
    /// Ed25519 (RFC 8032).
    Ed25519,
    /// RSA with this many bits.
    Rsa(usize),
    /// Something that ring cannot sign with.
    Other(String),
}

impl std::fmt::Display for KeyKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ecdsa(curve) => write!(f, "ECDSA {curve}"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::Rsa(bits) => write!(f, "RSA {bits}"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// Whether an extended key usage lets a server use the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServerAuth {
    Yes,
    OtherUsesOnly,
    NoExtension,
}

/// How an EC key is called whose curve is spelt out in numbers, which RFC 5480 §2.1.1 forbids in certificates.
pub(super) const EXPLICIT: &str = "an EC key with explicit curve parameters";

/// One certificate's facts.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) subject: Excerpt,
    pub(super) issuer: Excerpt,
    pub(super) subject_raw: Vec<u8>,
    pub(super) issuer_raw: Vec<u8>,
    pub(super) names: Vec<SanName>,
    /// SAN entries that no client accepts, as text, and why.
    pub(super) odd_names: Vec<(Excerpt, String)>,
    pub(super) has_san: bool,
    pub(super) common_name: Option<Excerpt>,
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    pub(super) key: KeyKind,
    pub(super) is_ca: bool,
    pub(super) server_auth: ServerAuth,
    pub(super) digital_signature: bool,
    pub(super) weak_signature: Option<&'static str>,
    /// Where the issuer's certificate can be fetched (RFC 5280 §4.2.2.1).
    pub(super) issuer_url: Option<Excerpt>,
    pub(super) self_signed: bool,
    /// What single client families are strict about.
    pub(super) profile: Profile,
}

/// One certificate of a chain, parsed.
pub(super) struct Link {
    pub(super) der: CertificateDer<'static>,
    pub(super) facts: Facts,
}

/// Parses X.509; the error is a sentence.
pub(super) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    let (rest, certificate) = X509Certificate::from_der(der.as_ref())
        .map_err(|_| "bytes that are not an X.509 certificate".to_owned())?;
    if !rest.is_empty() {
        return Err(format!("{} after the end of the certificate", number(rest.len(), "byte")));
    }
    Ok(certificate)
}

impl Facts {
    pub(super) fn lifetime(&self) -> Lifetime {
        Lifetime { not_before: self.not_before, not_after: self.not_after }
    }

    /// Reads the facts; the error is a sentence.
    pub(super) fn of(der: &CertificateDer<'_>) -> Result<Self, String> {
        let certificate = parse(der)?;
        let twice = |e: x509_parser::error::X509Error| {
            format!("an extension that is repeated or malformed: {}", Excerpt::of(&e.to_string()))
        };
        let san = certificate.subject_alternative_name().map_err(twice)?;
        let (names, odd_names) =
            san.as_ref().map_or_else(Default::default, |san| names(&san.value.general_names));
        let usage = certificate.key_usage().map_err(twice)?;
        let constraints = certificate.basic_constraints().map_err(twice)?;
        Ok(Self {
            subject: title(certificate.subject()),
            issuer: title(certificate.issuer()),
            subject_raw: certificate.subject().as_raw().to_vec(),
            issuer_raw: certificate.issuer().as_raw().to_vec(),
            names,
            odd_names,
            has_san: san.is_some(),
            common_name: common_name(certificate.subject()),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
            key: key_of(&certificate),
            is_ca: constraints.is_some_and(|c| c.value.ca),
            server_auth: server_auth(&certificate).map_err(twice)?,
            digital_signature: usage.is_none_or(|u| u.value.digital_signature()),
            weak_signature: weak_signature(&certificate),
            issuer_url: issuer_url(&certificate),
            self_signed: self_signed(&certificate),
            profile: Profile::of(&certificate),
        })
    }
}

/// Whether a certificate is its own issuer. Where the signature is of a kind that cannot be checked here the names
/// decide: the answer chooses words, never trust.
fn self_signed(certificate: &X509Certificate<'_>) -> bool {
    use x509_parser::error::X509Error::SignatureUnsupportedAlgorithm;
    let unknown = matches!(key_of(certificate), KeyKind::Rsa(bits) if bits < super::context::RSA_BITS_MIN);
    let same_name = certificate.subject().as_raw() == certificate.issuer().as_raw();
    let verdict = certificate.verify_signature(None);
    same_name && (unknown || matches!(verdict, Ok(()) | Err(SignatureUnsupportedAlgorithm)))
}

/// How a distinguished name is shown: `CN=R11, O=Let's Encrypt`, or that it is empty.
fn title(name: &x509_parser::x509::X509Name<'_>) -> Excerpt {
    let text = name.to_string();
    Excerpt::of(if text.is_empty() { "an empty name" } else { &text })
}

fn common_name(name: &x509_parser::x509::X509Name<'_>) -> Option<Excerpt> {
    name.iter_common_name().next().and_then(|cn| cn.as_str().ok()).map(Excerpt::of)
}

fn names(entries: &[GeneralName<'_>]) -> (Vec<SanName>, Vec<(Excerpt, String)>) {
    let (mut good, mut odd) = (Vec::new(), Vec::new());
    for entry in entries {
        match entry {
            GeneralName::DNSName(text) => match SanName::parse_dns(text) {
                Ok(name) => good.push(name),
                Err(error) => odd.push((Excerpt::of(text), error.to_string())),
            },
            GeneralName::IPAddress(bytes) => match address(bytes) {
                Some(ip) => good.push(SanName::Ip(ip)),
                None => odd
                    .push((Excerpt::of(&format!("{bytes:02x?}")), "an address has 4 or 16 bytes".to_owned())),
            },
            GeneralName::Invalid(_, bytes) => {
                odd.push((Excerpt::of_bytes(bytes), "not an IA5String".to_owned()));
            }
            _ => {} // mail addresses, URIs and the like say nothing of hosts
        }
    }
    (good, odd)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let sixteen = || <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| sixteen()).ok().map(|ip| ip.to_canonical())
}

fn server_auth(certificate: &X509Certificate<'_>) -> Result<ServerAuth, x509_parser::error::X509Error> {
    Ok(match certificate.extended_key_usage()? {
        None => ServerAuth::NoExtension,
        Some(usage) if usage.value.server_auth => ServerAuth::Yes,
        Some(_) => ServerAuth::OtherUsesOnly,
    })
}

pub(super) fn key_of(certificate: &X509Certificate<'_>) -> KeyKind {
    let spki = certificate.public_key();
    let algorithm = &spki.algorithm.algorithm;
    if *algorithm == oid::OID_SIG_ED25519 {
        return KeyKind::Ed25519;
    }
    let named = |p: &&oid::asn1_rs::Any<'_>| p.tag() == oid::asn1_rs::Tag::Oid;
    let curve = spki.algorithm.parameters.as_ref().filter(named).and_then(|p| p.as_oid().ok());
    match (spki.parsed(), curve) {
        (Ok(PublicKey::RSA(rsa)), _) if *algorithm == oid::OID_PKCS1_RSAENCRYPTION => {
            KeyKind::Rsa(rsa_bits(rsa.modulus))
        }
        (_, Some(curve)) if curve == oid::OID_EC_P256 => KeyKind::Ecdsa("P-256"),
        (_, Some(curve)) if curve == oid::OID_NIST_EC_P384 => KeyKind::Ecdsa("P-384"),
        (_, Some(curve)) if *algorithm == oid::OID_KEY_TYPE_EC_PUBLIC_KEY => {
            KeyKind::Other(format!("an EC key on the curve {}", curve_name(&curve.to_id_string())))
        }
        _ if *algorithm == oid::OID_KEY_TYPE_EC_PUBLIC_KEY => KeyKind::Other(EXPLICIT.to_owned()),
        _ => KeyKind::Other(format!("a key of the algorithm {}", algorithm_name(&algorithm.to_id_string()))),
    }
}

fn rsa_bits(modulus: &[u8]) -> usize {
    let digits = modulus.iter().position(|b| *b != 0).and_then(|at| modulus.get(at..)).unwrap_or_default();
    let unused = digits.first().map_or(0, |first| first.leading_zeros() as usize);
    digits.len() * 8 - unused
}

/// The name of a curve by its object identifier, or that itself.
pub(super) fn curve_name(identifier: &str) -> String {
    let name = match identifier {
        "1.2.840.10045.3.1.7" => "P-256",
        "1.3.132.0.33" => "P-224",
        "1.3.132.0.34" => "P-384",
        "1.3.132.0.35" => "P-521",
        "1.3.132.0.10" => "secp256k1",
        "1.3.36.3.3.2.8.1.1.7" => "brainpoolP256r1",
        "1.3.36.3.3.2.8.1.1.11" => "brainpoolP384r1",
        "1.3.36.3.3.2.8.1.1.13" => "brainpoolP512r1",
        "1.2.156.10197.1.301" => "SM2",
        other => return Excerpt::of(other).into(),
    };
    name.to_owned()
}

/// The name of an algorithm of a key or a signature by its object identifier, or that itself.
pub(super) fn algorithm_name(identifier: &str) -> String {
    let name = match identifier {
        "1.3.101.112" => "Ed25519",
        "1.3.101.113" => "Ed448",
        "1.2.840.10040.4.1" => "DSA",
        "1.2.840.10045.2.1" => "EC",
        "1.2.840.10045.4.1" => "ECDSA with SHA-1",
        "1.2.840.10045.4.3.1" => "ECDSA with SHA-224",
        "1.2.840.10045.4.3.2" => "ECDSA with SHA-256",
        "1.2.840.10045.4.3.3" => "ECDSA with SHA-384",
        "1.2.840.10045.4.3.4" => "ECDSA with SHA-512",
        "1.2.840.113549.1.1.1" => "RSA",
        "1.2.840.113549.1.1.4" => "RSA with MD5",
        "1.2.840.113549.1.1.5" => "RSA with SHA-1",
        "1.2.840.113549.1.1.10" => "RSASSA-PSS",
        "1.2.840.113549.1.1.11" => "RSA with SHA-256",
        "1.2.840.113549.1.1.12" => "RSA with SHA-384",
        "1.2.840.113549.1.1.13" => "RSA with SHA-512",
        "1.2.840.113549.1.1.14" => "RSA with SHA-224",
        "1.2.156.10197.1.501" => "SM2 with SM3",
        other => return Excerpt::of(other).into(),
    };
    name.to_owned()
}

fn weak_signature(certificate: &X509Certificate<'_>) -> Option<&'static str> {
    match certificate.signature_algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.113549.1.1.5" | "1.3.14.3.2.29" => Some("RSA with SHA-1"),
        "1.2.840.10045.4.1" => Some("ECDSA with SHA-1"),
        "1.2.840.113549.1.1.4" => Some("RSA with MD5"),
        _ => None,
    }
}

fn issuer_url(certificate: &X509Certificate<'_>) -> Option<Excerpt> {
    use x509_parser::extensions::ParsedExtension;
    let access =
        certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityInfoAccess(access) => Some(access),
            _ => None,
        })?;
    access.accessdescs.iter().find_map(|description| match &description.access_location {
        GeneralName::URI(url) if description.access_method == oid::OID_PKIX_ACCESS_DESCRIPTOR_CA_ISSUERS => {
            Excerpt::all_of(url)
        }
        _ => None,
    })
}
