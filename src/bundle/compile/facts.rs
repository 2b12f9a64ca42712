//! What a certificate says of itself, taken out of X.509 once.

use std::net::IpAddr;

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry as oid;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use crate::bundle::lifetime::Lifetime;
use crate::excerpt::Excerpt;
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
}

/// Parses X.509; the error is a sentence.
pub(super) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    let (rest, certificate) = X509Certificate::from_der(der.as_ref())
        .map_err(|e| format!("X.509 that cannot be parsed: {}", Excerpt::of(&e.to_string())))?;
    if !rest.is_empty() {
        return Err(format!("{} bytes behind the end of the certificate", rest.len()));
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
            format!("an extension that stands twice or is broken: {}", Excerpt::of(&e.to_string()))
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
        })
    }
}

/// Whether a certificate is its own issuer. Where the signature is of a kind that cannot be checked here the names
/// decide: the answer chooses words, never trust.
fn self_signed(certificate: &X509Certificate<'_>) -> bool {
    use x509_parser::error::X509Error::SignatureUnsupportedAlgorithm;
    let unknown = matches!(key_of(certificate), KeyKind::Rsa(bits) if bits < super::desk::RSA_BITS_MIN);
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
    let curve = spki.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok());
    match (spki.parsed(), curve) {
        (Ok(PublicKey::RSA(rsa)), _) if *algorithm == oid::OID_PKCS1_RSAENCRYPTION => {
            KeyKind::Rsa(rsa_bits(rsa.modulus))
        }
        (_, Some(curve)) if curve == oid::OID_EC_P256 => KeyKind::Ecdsa("P-256"),
        (_, Some(curve)) if curve == oid::OID_NIST_EC_P384 => KeyKind::Ecdsa("P-384"),
        (_, Some(curve)) if *algorithm == oid::OID_KEY_TYPE_EC_PUBLIC_KEY => {
            KeyKind::Other(format!("an EC key on the curve {}", curve_name(&curve)))
        }
        _ => KeyKind::Other(format!("a key of the algorithm {}", algorithm_name(algorithm))),
    }
}

fn rsa_bits(modulus: &[u8]) -> usize {
    let digits = modulus.iter().position(|b| *b != 0).and_then(|at| modulus.get(at..)).unwrap_or_default();
    let unused = digits.first().map_or(0, |first| first.leading_zeros() as usize);
    digits.len() * 8 - unused
}

fn curve_name(curve: &oid::asn1_rs::Oid<'_>) -> String {
    match curve.to_id_string().as_str() {
        "1.3.132.0.35" => "P-521".to_owned(),
        "1.3.132.0.10" => "secp256k1".to_owned(),
        other => Excerpt::of(other).into(),
    }
}

fn algorithm_name(algorithm: &oid::asn1_rs::Oid<'_>) -> String {
    match algorithm.to_id_string().as_str() {
        "1.3.101.113" => "Ed448".to_owned(),
        "1.2.840.10040.4.1" => "DSA".to_owned(),
        "1.2.840.113549.1.1.10" => "RSASSA-PSS".to_owned(),
        other => Excerpt::of(other).into(),
    }
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
