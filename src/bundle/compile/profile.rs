//! The extensions and fields of a certificate that some client families check strictly.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{KeyUsage, ParsedExtension};
use x509_parser::x509::X509Version;

/// The TLS feature extension (RFC 7633 §4): what a server promises to send.
const TLS_FEATURE: &str = "1.3.6.1.5.5.7.1.24";
/// `status_request` and `status_request_v2` (RFC 6066 §8, RFC 6961 §2.2).
const STATUS_REQUESTS: [u8; 2] = [5, 17];
/// Netscape's certificate type, which OpenSSL still checks: a BIT STRING.
const NS_CERT_TYPE: &str = "2.16.840.1.113730.1.1";
/// Its bit of TLS servers.
const NS_SSL_SERVER: u8 = 0x40;
/// The list of signed certificate timestamps (RFC 6962 §3.3).
const SCT_LIST: &str = "1.3.6.1.4.1.11129.2.4.2";

/// Extensions and fields as they are; [`super::clients`] interprets them.
#[derive(Debug, Default)]
pub(super) struct Profile {
    /// Content of the INTEGER, sign included.
    pub(super) serial: Vec<u8>,
    pub(super) issuer_is_empty: bool,
    pub(super) subject_is_empty: bool,
    pub(super) is_ca: bool,
    /// X.509 before version 3, which cannot mark a root as a CA's.
    pub(super) is_old: bool,
    /// None: no basicConstraints.
    pub(super) constraints_critical: Option<bool>,
    pub(super) path_length: Option<u32>,
    /// None: no keyUsage, which permits everything.
    pub(super) usage: Option<Usage>,
    /// None: no extension; inside: its key identifier.
    pub(super) authority_key: Option<KeyIdentifier>,
    pub(super) subject_key: Option<KeyIdentifier>,
    /// None: no subjectAltName.
    pub(super) names_critical: Option<bool>,
    pub(super) names_are_empty: bool,
    /// The algorithm outside of the signed part is the one inside.
    pub(super) algorithms_agree: bool,
    pub(super) must_staple: bool,
    /// An nsCertType without TLS servers; clients ignore it in a CA with basicConstraints.
    pub(super) ns_other: bool,
    pub(super) has_timestamps: bool,
}

/// The bits of a keyUsage that are checked here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    pub(super) signs_certificates: bool,
    pub(super) signs_lists: bool,
}

/// A subjectKeyIdentifier or authorityKeyIdentifier.
#[derive(Clone, Debug)]
pub(super) struct KeyIdentifier {
    pub(super) critical: bool,
    pub(super) key: Option<Vec<u8>>,
}

impl Profile {
    pub(super) fn of(certificate: &X509Certificate<'_>) -> Self {
        let mut profile = Self {
            serial: certificate.raw_serial().to_vec(),
            issuer_is_empty: certificate.issuer().iter().next().is_none(),
            subject_is_empty: certificate.subject().iter().next().is_none(),
            is_old: certificate.version().0 < X509Version::V3.0,
            algorithms_agree: certificate.signature_algorithm == certificate.signature,
            ..Self::default()
        };
        for extension in certificate.extensions() {
            match extension.oid.to_id_string().as_str() {
                TLS_FEATURE => profile.must_staple = promises_status(extension.value),
                SCT_LIST => profile.has_timestamps = true,
                NS_CERT_TYPE => {
                    profile.ns_other =
                        !matches!(extension.value, [3, _, _, bits, ..] if bits & NS_SSL_SERVER != 0);
                }
                _ => profile.note(extension.critical, extension.parsed_extension()),
            }
        }
        profile
    }

    fn note(&mut self, critical: bool, extension: &ParsedExtension<'_>) {
        let identifier = |key: Option<&[u8]>| Some(KeyIdentifier { critical, key: key.map(<[u8]>::to_vec) });
        match extension {
            ParsedExtension::BasicConstraints(constraints) => {
                self.is_ca = constraints.ca;
                self.constraints_critical = Some(critical);
                self.path_length = constraints.path_len_constraint;
            }
            ParsedExtension::KeyUsage(usage) => self.usage = Some(Usage::of(*usage)),
            ParsedExtension::AuthorityKeyIdentifier(authority) => {
                self.authority_key = identifier(authority.key_identifier.as_ref().map(|key| key.0));
            }
            ParsedExtension::SubjectKeyIdentifier(key) => self.subject_key = identifier(Some(key.0)),
            ParsedExtension::SubjectAlternativeName(names) => {
                self.names_critical = Some(critical);
                self.names_are_empty = names.general_names.is_empty();
            }
            _ => {}
        }
    }

    /// Whether existing key identifiers permit that `parent` signed this certificate (RFC 5280 §4.2.1.1).
    pub(super) fn may_be_signed_by(&self, parent: &Self) -> bool {
        let key = |identifier: &Option<KeyIdentifier>| {
            identifier.as_ref().and_then(|identifier| identifier.key.clone())
        };
        match (key(&self.authority_key), key(&parent.subject_key)) {
            (Some(wanted), Some(found)) => wanted == found,
            _ => true,
        }
    }
}

impl Usage {
    fn of(usage: KeyUsage) -> Self {
        Self { signs_certificates: usage.key_cert_sign(), signs_lists: usage.crl_sign() }
    }
}

/// A SEQUENCE of INTEGERs with one of the two in it.
fn promises_status(value: &[u8]) -> bool {
    let features = super::der::sequence(value);
    features.iter().any(|feature| matches!(feature.content, [number] if STATUS_REQUESTS.contains(number)))
}
