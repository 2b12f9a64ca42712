//! The CA itself: how it is made, and what it issues.
//!
//! It is a root and an issuer below it. The root's key signs the issuer once and is then forgotten: it is never written. RFC 5280 §6.1.1
//! leaves it to a client whether the nameConstraints of a trust anchor count for it. Those of the issuer count everywhere, and whoever gets
//! its key cannot issue around them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256,
};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use super::certificate::Certificate;
use crate::bundle::acme::local::{ISSUER_NAME, ROOT_NAME};
use crate::bundle::lifetime::{DAY_S, Lifetime};
use crate::bundle::private::Subtree;
use crate::names::Host;

/// For how long the CA is valid: as mkcert's and Caddy's.
const LIFETIME_S: i64 = 3_650 * DAY_S;
/// Its beginning lies so far back: a device's clock may be behind.
const BACKDATED_S: i64 = DAY_S;
/// The same of a certificate that it issues, or a tenth of its lifetime where that is less.
const HOST_BACKDATED_S: i64 = 3_600;
/// Longest name of an organization and of a common name (RFC 5280, appendix A.1).
const NAME_CHARS_MAX: usize = 64;
/// Characters of a line of PEM (RFC 7468 §2).
const PEM_LINE_CHARS: usize = 64;
/// A domain that no name is below (RFC 6761 §6.4): without one here, each DNS name would be permitted.
const NO_DOMAIN: &str = "invalid";

/// A CA that is there.
pub(crate) struct Authority {
    key: KeyPair,
    issuer: Certificate,
    pub(crate) root: Certificate,
    /// First host that it was made for.
    organization: String,
}

impl Authority {
    /// A new one for `hosts` and the subtrees that `permit` names, as the text of its file.
    ///
    /// # Errors
    /// Without random numbers.
    pub(super) fn create(
        hosts: &[Host],
        permit: &[Subtree],
        now: i64,
    ) -> Result<Zeroizing<String>, rcgen::Error> {
        let around = hosts.iter().map(Subtree::around).chain(permit.iter().cloned());
        let constraints = constraints(&Subtree::smallest_set(around.collect()));
        let organization = hosts.first().map(ToString::to_string).unwrap_or_default();
        let number = number()?;
        let params = |name: &str, below: u8| {
            let mut params = CertificateParams::default();
            params.distinguished_name = names(&format!("{name} {number}"), &organization);
            let not_before = now - BACKDATED_S;
            last(&mut params, Lifetime { not_before, not_after: not_before + LIFETIME_S - 1 });
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            params.name_constraints = Some(constraints.clone());
            params
        };
        let root = params(ROOT_NAME, 1);
        let mut issuer = params(ISSUER_NAME, 0);
        // What it signs is good for TLS servers alone: no program, mail or user.
        issuer.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        issuer.use_authority_key_identifier_extension = true;
        let [root_key, key] = [new_key()?, new_key()?];
        let root_certificate = root.self_signed(&root_key)?;
        let issuer = issuer.signed_by(&key, &Issuer::from_params(&root, &root_key))?;
        let text = [secret(&key).as_str(), &issuer.pem(), &root_certificate.pem()].concat();
        Ok(Zeroizing::new(text))
    }

    /// From the text of its file; none where that is damaged.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let key = PrivateKeyDer::from_pem_slice(text).ok()?;
        let key = KeyPair::from_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256).ok()?;
        let [issuer, root] = <[Certificate; 2]>::try_from(Certificate::all(text)).ok()?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&issuer.der).ok()?;
        use rcgen::PublicKeyData as _;
        let is_its = parsed.public_key().subject_public_key.data == key.der_bytes();
        let organization = parsed.subject().iter_organization().next()?.as_str().ok()?.to_owned();
        (is_its && issuer.is_by(&root) && !root.permitted.is_empty()).then_some(Self {
            key,
            issuer,
            root,
            organization,
        })
    }

    /// A certificate for `hosts` with a new key, and what leads to the root, as the text of its file.
    ///
    /// # Errors
    /// Without random numbers.
    pub(super) fn issue(
        &self,
        hosts: &[Host],
        lifetime_s: i64,
        now: i64,
    ) -> Result<Zeroizing<String>, rcgen::Error> {
        let names: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names)?;
        // No client looks for a host in it (RFC 9525 §2), which may be too long for it.
        params.distinguished_name = self::names("sanedge", &self.organization);
        last(&mut params, self.lifetime(lifetime_s, now));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let mut issuer = CertificateParams::default();
        issuer.distinguished_name = self::names(&self.issuer.name, &self.organization);
        issuer.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = new_key()?;
        let certificate = params.signed_by(&key, &Issuer::from_params(&issuer, &self.key))?;
        let issuer = pem(&self.issuer);
        Ok(Zeroizing::new([secret(&key).as_str(), &certificate.pem(), &issuer].concat()))
    }

    /// When a certificate that is issued at `now` would begin and end.
    pub(super) fn lifetime(&self, lifetime_s: i64, now: i64) -> Lifetime {
        let not_before = (now - HOST_BACKDATED_S.min(lifetime_s / 10)).max(self.root.lifetime.not_before);
        let not_after = not_before.saturating_add(lifetime_s).saturating_sub(1);
        Lifetime { not_before, not_after: not_after.min(self.root.lifetime.not_after) }
    }
}

/// A certificate as PEM.
pub(super) fn pem(certificate: &Certificate) -> String {
    let text = STANDARD.encode(&certificate.der);
    let lines = text.as_bytes().chunks(PEM_LINE_CHARS).map(|line| String::from_utf8_lossy(line) + "\n");
    format!("-----BEGIN CERTIFICATE-----\n{}-----END CERTIFICATE-----\n", lines.collect::<Vec<_>>().concat())
}

/// Everything but `permitted` is excluded: a kind of name that the first list lacks would be free otherwise (RFC 5280 §4.2.1.10).
fn constraints(permitted: &[Subtree]) -> NameConstraints {
    let domain = |domain: &str| GeneralSubtree::DnsName(domain.to_owned());
    let mut permitted_subtrees: Vec<_> = permitted.iter().map(general).collect();
    if !permitted.iter().any(|subtree| matches!(subtree, Subtree::Domain(_))) {
        permitted_subtrees.push(domain(NO_DOMAIN));
    }
    let has = |wanted: fn(&IpNet) -> bool| {
        permitted.iter().any(|subtree| matches!(subtree, Subtree::Network(network) if wanted(network)))
    };
    let mut excluded_subtrees = Vec::new();
    if !has(|network| matches!(network, IpNet::V4(_))) {
        excluded_subtrees.push(GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])));
    }
    if !has(|network| matches!(network, IpNet::V6(_))) {
        excluded_subtrees.push(GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])));
    }
    NameConstraints { permitted_subtrees, excluded_subtrees }
}

fn general(subtree: &Subtree) -> GeneralSubtree {
    match subtree {
        Subtree::Domain(domain) => GeneralSubtree::DnsName(domain.clone()),
        Subtree::Network(IpNet::V4(v4)) => {
            GeneralSubtree::IpAddress(CidrSubnet::V4(v4.network().octets(), v4.netmask().octets()))
        }
        Subtree::Network(IpNet::V6(v6)) => {
            GeneralSubtree::IpAddress(CidrSubnet::V6(v6.network().octets(), v6.netmask().octets()))
        }
    }
}

/// A name, and in it what tells two of these CAs apart for people.
fn names(common: &str, organization: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    let short = |text: &str| text.chars().take(NAME_CHARS_MAX).collect::<String>();
    names.push(DnType::OrganizationName, short(organization));
    names.push(DnType::CommonName, short(common));
    names
}

/// Drawn for each CA: two of one name would be one to a client.
fn number() -> Result<String, rcgen::Error> {
    let mut bytes = [0; 4];
    SystemRandom::new().fill(&mut bytes).map_err(|_| rcgen::Error::RingUnspecified)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn new_key() -> Result<KeyPair, rcgen::Error> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
}

fn secret(key: &KeyPair) -> Zeroizing<String> {
    Zeroizing::new(key.serialize_pem())
}

fn last(params: &mut CertificateParams, lifetime: Lifetime) {
    let at = |seconds: i64| {
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
    };
    (params.not_before, params.not_after) = (at(lifetime.not_before), at(lifetime.not_after));
}
