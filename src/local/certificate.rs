//! A certificate of the local CA, as far as is decided by it.

use std::net::IpAddr;

use ipnet::IpNet;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use crate::bundle::lifetime::Lifetime;
use crate::bundle::private::Subtree;
use crate::names::Host;

/// One certificate.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) lifetime: Lifetime,
    /// Its subject's common name.
    pub(crate) name: String,
    /// Of its subjectAltName.
    pub(super) hosts: Vec<Host>,
    /// What it may issue for (RFC 5280 §4.2.1.10); empty where it is not a CA of ours.
    pub(crate) permitted: Vec<Subtree>,
    /// Both names in DER.
    subject: Vec<u8>,
    issuer: Vec<u8>,
}

impl Certificate {
    /// Those of a PEM file, in its order, up to the first that is damaged.
    pub(crate) fn all(pem: &[u8]) -> Vec<Self> {
        CertificateDer::pem_slice_iter(pem).map_while(|der| Self::of(der.ok()?)).collect()
    }

    fn of(der: CertificateDer<'static>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).ok()?;
        let validity = parsed.validity();
        let lifetime = Lifetime {
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        };
        let name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        Some(Self {
            lifetime,
            name: name.unwrap_or_default().to_owned(),
            hosts: hosts(&parsed),
            permitted: permitted(&parsed),
            subject: parsed.subject().as_raw().to_vec(),
            issuer: parsed.issuer().as_raw().to_vec(),
            der: der.clone(),
        })
    }

    /// Whether that one issued it, by the names: each CA has one that is drawn at random.
    pub(super) fn is_by(&self, issuer: &Self) -> bool {
        self.issuer == issuer.subject
    }

    pub(super) fn may_issue_for(&self, host: &Host) -> bool {
        self.permitted.iter().any(|subtree| subtree.holds(host))
    }
}

fn hosts(parsed: &X509Certificate<'_>) -> Vec<Host> {
    let names = parsed.subject_alternative_name().ok().flatten();
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    names.iter().filter_map(host).collect()
}

fn host(name: &GeneralName<'_>) -> Option<Host> {
    match name {
        GeneralName::DNSName(name) => Host::parse(name).ok(),
        GeneralName::IPAddress(bytes) => address(bytes).map(Host::Ip),
        _ => None,
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from);
    v4().or_else(v6)
}

fn permitted(parsed: &X509Certificate<'_>) -> Vec<Subtree> {
    let constraints = parsed.name_constraints().ok().flatten();
    let subtrees = constraints.and_then(|constraints| constraints.value.permitted_subtrees.as_ref());
    subtrees.into_iter().flatten().filter_map(|subtree| subtree_of(&subtree.base)).collect()
}

fn subtree_of(base: &GeneralName<'_>) -> Option<Subtree> {
    match base {
        GeneralName::DNSName(domain) => Some(Subtree::Domain((*domain).to_owned())),
        GeneralName::IPAddress(bytes) => {
            let (address_of, mask) = bytes.split_at_checked(bytes.len() / 2)?;
            IpNet::with_netmask(address(address_of)?, address(mask)?).ok().map(Subtree::Network)
        }
        _ => None,
    }
}
