//! The findings of the path check: what is refused and why, and what it cannot check.

use super::context::Subject;
use super::facts::Facts;
use super::facts::{Link, ServerAuth};
use crate::bundle::file::word;
use crate::bundle::finding::{Code, Finding, listed};
use crate::names::SanName;

/// Errors of a path, except for signatures and name constraints (RFC 5280 §6.1.4). webpki does not check keyUsage, and checks only name and
/// key of a root; OpenSSL, Go, Firefox and Chrome check more.
pub(super) fn misplaced(path: &[&Link]) -> Option<&'static str> {
    path.iter().skip(1).enumerate().find_map(|(below, link)| {
        let profile = &link.facts.profile;
        let may_sign = profile.usage.is_none_or(|usage| usage.signs_certificates);
        let is_ca = profile.is_ca || (profile.is_old && link.facts.self_signed);
        let room = profile
            .path_length
            .is_none_or(|length| usize::try_from(length).is_ok_and(|length| below <= length));
        match (is_ca && may_sign, room, link.facts.server_auth) {
            (false, ..) => {
                Some("a certificate that is not a CA's, or may not sign others, but signed another")
            }
            (true, false, _) => Some("a CA below another that permits none"),
            (true, true, ServerAuth::OtherUsesOnly) => Some(FOR_OTHER_USES),
            (true, true, _) => None,
        }
    })
}

/// Go and Firefox ignore the extendedKeyUsage of a root; OpenSSL does not, and does not accept anyExtendedKeyUsage.
const FOR_OTHER_USES: &str = "a CA whose extendedKeyUsage does not permit certificates for TLS servers";

pub(super) fn unverified(subject: &Subject<'_>, how: &str, trust: Option<&std::path::Path>) -> Finding {
    let chain = word(&subject.files.chain.value.path);
    let roots = trust.map_or_else(String::new, |path| format!("-CAfile {} ", word(path)));
    Finding::new(Code::ChainUnverified, format!("sanedge cannot check a signature in the chain of `{}`", subject.label))
        .certificate(subject.label)
        .expected("signatures that its library (ring) checks: RSA of 2048 to 8192 bits, ECDSA of P-256 or P-384 with SHA-256 or SHA-384, Ed25519")
        .found(format!("{how}; names, dates and key identifiers fit, name constraints were not checked"))
        .remedy(format!("Clients with OpenSSL, and most browsers, accept it. To check it:\n  openssl verify \
            {roots}-untrusted {chain} {chain}\nClients with the same library, mostly programs in Rust, refuse it: a CA with \
        a P-256 key and SHA-256 works for all."))
}

pub(super) fn refused(subject: &Subject<'_>, facts: &Facts, error: &webpki::Error) -> Finding {
    let label = subject.label;
    let finding = match error {
        webpki::Error::NameConstraintViolation => {
            Finding::new(Code::NameConstraints, format!("a CA of `{label}` may not issue for these names"))
                .expected("names that the name constraints of every CA above permit (RFC 5280 §4.2.1.10)")
                .found(listed(facts.names.iter().map(SanName::to_string)))
                .remedy("Have the certificate issued for names that the CA permits, or by another CA.")
        }
        webpki::Error::PathLenConstraintViolated => refused_because(
            label,
            "a CA below another that permits none",
            "Have the certificate issued by a CA that the path length above permits.",
        ),
        webpki::Error::EndEntityUsedAsCa => refused_because(
            label,
            "a certificate that is not a CA's but signed another",
            "Have the certificate issued by a CA: basicConstraints CA:TRUE and keyUsage keyCertSign.",
        ),
        other => refused_because(label, path_error(other), "Issue the certificate again."),
    };
    finding.certificate(label)
}

/// The findings of the path check.
pub(super) fn path_error(error: &webpki::Error) -> &'static str {
    use webpki::Error;
    match error {
        Error::BadDer | Error::BadDerTime | Error::TrailingData(_) => "a certificate with damaged fields",
        Error::CaUsedAsEndEntity => "a CA's certificate instead of a server's",
        Error::EmptyEkuExtension | Error::RequiredEkuNotFoundContext(_) => FOR_OTHER_USES,
        Error::ExtensionValueInvalid | Error::MalformedExtensions => "an extension that is malformed",
        Error::InvalidCertValidity => "a certificate that ends before it begins",
        Error::InvalidNetworkMaskConstraint | Error::MalformedNameConstraint | Error::UnsupportedNameType => {
            "name constraints that are malformed, or of a kind that clients do not support"
        }
        Error::InvalidSerialNumber => "a malformed serial number",
        Error::InvalidSignatureForPublicKey => "a signature by another key",
        Error::MaximumNameConstraintComparisonsExceeded
        | Error::MaximumPathBuildCallsExceeded
        | Error::MaximumPathDepthExceeded
        | Error::MaximumSignatureChecksExceeded => "more certificates or names than a client checks",
        Error::SignatureAlgorithmMismatch => "a certificate that names two different signature algorithms",
        Error::UnknownIssuer => "a chain that does not lead to its root",
        Error::UnsupportedCertVersion => "a certificate that is not of X.509 version 3",
        Error::UnsupportedCriticalExtension => "a critical extension that clients do not know",
        Error::UnsupportedSignatureAlgorithmContext(_)
        | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            "a signature of a kind that sanedge's library cannot check"
        }
        _ => "a chain that fails path validation",
    }
}

pub(super) fn refused_because(label: &str, found: &str, remedy: &str) -> Finding {
    Finding::new(Code::ChainRefused, format!("clients refuse the chain in `{label}`"))
        .expected("a chain that passes path validation (RFC 5280 §6.1)")
        .found(found)
        .remedy(remedy)
}
