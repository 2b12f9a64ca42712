//! Certificates, as far as renewal needs them: keys and requests, lifetimes, and the identifier that a CA uses for one.

use instant_acme::CertificateIdentifier;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use crate::bundle::acme::KeyChoice;
use crate::bundle::lifetime::Lifetime;
use crate::names::SanName;

/// A new private key, as PEM.
pub(super) fn key(choice: KeyChoice) -> Result<Zeroizing<String>, rcgen::Error> {
    let kind = match choice {
        KeyChoice::P256 => &PKCS_ECDSA_P256_SHA256,
        KeyChoice::P384 => &PKCS_ECDSA_P384_SHA384,
    };
    KeyPair::generate_for(kind).map(|pair| Zeroizing::new(pair.serialize_pem()))
}

/// The signing request for `names` (RFC 8555 §7.4): the names, and nothing else.
pub(super) fn request(key: &str, names: &[String]) -> Result<Vec<u8>, rcgen::Error> {
    let mut parameters = CertificateParams::new(names)?;
    parameters.distinguished_name = DistinguishedName::new();
    Ok(parameters.serialize_request(&KeyPair::from_pem(key)?)?.der().to_vec())
}

/// The end-entity certificate of a PEM file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) der: CertificateDer<'static>,
    pub(super) lifetime: Lifetime,
    names: Vec<SanName>,
    public_key: Vec<u8>,
}

impl Held {
    /// The first certificate of `pem`.
    pub(super) fn of(pem: &[u8]) -> Option<Self> {
        let der = CertificateDer::pem_slice_iter(pem).next()?.ok()?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).ok()?;
        let validity = parsed.validity();
        let lifetime = Lifetime {
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        };
        let names =
            parsed.subject_alternative_name().ok().flatten().map(|san| san.value.general_names.clone());
        let names = names.unwrap_or_default().iter().filter_map(name).collect();
        let public_key = parsed.public_key().subject_public_key.data.to_vec();
        Some(Self { lifetime, names, public_key, der: der.clone() })
    }

    /// Whether it names all of `wanted`.
    pub(super) fn names_all(&self, wanted: &[String]) -> bool {
        let has = |name: &String| self.names.iter().any(|san| san.to_string() == *name);
        wanted.iter().all(has)
    }

    /// Whether its key is the one in `key`.
    pub(super) fn fits(&self, key: &str) -> bool {
        use rcgen::PublicKeyData as _;
        KeyPair::from_pem(key).is_ok_and(|pair| pair.der_bytes() == self.public_key)
    }

    /// Its identifier at the CA (RFC 9773 §4.1).
    pub(super) fn identifier(&self) -> Option<CertificateIdentifier<'static>> {
        CertificateIdentifier::try_from(&self.der).ok().map(CertificateIdentifier::into_owned)
    }
}

fn name(general: &x509_parser::extensions::GeneralName<'_>) -> Option<SanName> {
    use x509_parser::extensions::GeneralName;
    match general {
        GeneralName::DNSName(name) => SanName::parse_dns(name).ok(),
        GeneralName::IPAddress(bytes) => SanName::parse_ip(bytes).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_names_and_the_certificate_of_it_fits_its_key_alone() {
        let names = [
            "recre.store".to_owned(),
            "*.recre.store".to_owned(),
            "192.0.2.1".to_owned(),
            "2001:db8::1".to_owned(),
        ];
        for choice in [KeyChoice::P256, KeyChoice::P384] {
            let (one, other) = (key(choice).unwrap(), key(choice).unwrap());
            assert!(request(&one, &names).unwrap().len() > 100);
            let mut parameters = CertificateParams::new(names.to_vec()).unwrap();
            parameters.not_before = rcgen::date_time_ymd(2026, 1, 1);
            parameters.not_after = rcgen::date_time_ymd(2026, 1, 2);
            let signed = parameters.self_signed(&KeyPair::from_pem(&one).unwrap()).unwrap();
            let held = Held::of(format!("{}{}", &*one, signed.pem()).as_bytes()).unwrap();
            assert!(held.fits(&one) && !held.fits(&other));
            assert!(held.names_all(&names) && !held.names_all(&["other.test".to_owned()]));
            assert_eq!(held.lifetime.not_after - held.lifetime.not_before, 86_400);
        }
        for broken in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "x"] {
            assert_eq!(Held::of(broken.as_bytes()), None);
        }
    }
}
