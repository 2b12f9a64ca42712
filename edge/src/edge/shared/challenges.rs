//! The tls-alpn-01 challenges that are pending, each with the certificate that answers it (RFC 8737). No hello makes one: they are
//! made when `sanedge renew` writes a challenge, and forgotten when it takes that away.

use std::sync::Arc;

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, KeyPair, SanType};
use rustls::crypto::ring::sign::any_ecdsa_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::bundle::alpn::{Proof, server_name};
use crate::edge::shared::tls_config::Configs;
use crate::names::Host;

/// What is pending: mostly nothing, and at most [`crate::bundle::alpn::PROOFS_MAX`] names.
#[derive(Default)]
pub struct Challenges(Vec<Challenge>);

struct Challenge {
    proof: Proof,
    /// What the CA asks for.
    server_name: String,
    configs: Arc<Configs>,
}

impl Challenges {
    /// With exactly `proofs`; a certificate that is there already is kept. One that cannot be made is left out, and the CA's part
    /// finds that it is not served.
    pub fn of(proofs: Vec<Proof>, before: &Self) -> Self {
        let kept = |proof: &Proof| before.0.iter().find(|challenge| challenge.proof == *proof);
        let challenge = |proof: Proof| {
            let configs = kept(&proof).map(|challenge| Arc::clone(&challenge.configs));
            let configs = configs.or_else(|| {
                let key = Arc::new(certificate(&proof)?);
                Configs::for_challenge(&key).ok().map(Arc::new)
            })?;
            Some(Challenge { server_name: server_name(&proof.host), configs, proof })
        };
        Self(proofs.into_iter().filter_map(challenge).collect())
    }

    /// What answers a hello with `server_name` that asks for a proof, and the name that it proves.
    pub(crate) fn find(&self, server_name: &str) -> Option<(&Host, &Arc<Configs>)> {
        let challenge = self.0.iter().find(|known| known.server_name.eq_ignore_ascii_case(server_name))?;
        Some((&challenge.proof.host, &challenge.configs))
    }

    /// The names that can be proved now.
    pub fn names(&self) -> impl Iterator<Item = &Host> {
        self.0.iter().map(|challenge| &challenge.proof.host)
    }
}

/// A self-signed certificate with the name alone and the digest as a critical extension (RFC 8737 §3), and a key of its own.
fn certificate(proof: &Proof) -> Option<CertifiedKey> {
    let pair = KeyPair::generate().ok()?;
    let mut parameters = CertificateParams::default();
    parameters.subject_alt_names = vec![match &proof.host {
        Host::Ip(ip) => SanType::IpAddress(*ip),
        Host::Dns(name) => SanType::DnsName(name.to_string().try_into().ok()?),
    }];
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, "tls-alpn-01");
    parameters.custom_extensions = vec![CustomExtension::new_acme_identifier(&proof.digest)];
    let certificate = parameters.self_signed(&pair).ok()?.der().clone();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.serialized_der().to_vec()));
    Some(CertifiedKey::new(vec![certificate], any_ecdsa_type(&key).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::alpn::{PROTOCOL, extension};
    use x509_parser::extensions::{GeneralName, ParsedExtension};

    fn proof(name: &str, byte: u8) -> Proof {
        Proof { host: Host::parse(name).unwrap(), digest: [byte; 32] }
    }

    #[test]
    fn a_certificate_has_one_name_and_the_digest_as_a_critical_extension() {
        for proof in [proof("recre.store", 7), proof("192.0.2.1", 8), proof("2001:db8::1", 9)] {
            let key = certificate(&proof).unwrap();
            let [der] = key.cert.as_slice() else { panic!("{}", key.cert.len()) };
            let (rest, parsed) = x509_parser::parse_x509_certificate(der).unwrap();
            assert!(rest.is_empty() && parsed.subject() == parsed.issuer());
            parsed.verify_signature(None).unwrap();
            let san = parsed.subject_alternative_name().unwrap().unwrap();
            let [name] = san.value.general_names.as_slice() else { panic!("{san:?}") };
            match (name, &proof.host) {
                (GeneralName::DNSName(name), Host::Dns(host)) => assert_eq!(*name, host.to_string()),
                (GeneralName::IPAddress(bytes), Host::Ip(std::net::IpAddr::V4(ip))) => {
                    assert_eq!(*bytes, ip.octets());
                }
                (GeneralName::IPAddress(bytes), Host::Ip(std::net::IpAddr::V6(ip))) => {
                    assert_eq!(*bytes, ip.octets());
                }
                other => panic!("{other:?}"),
            }
            let ours: Vec<_> = parsed.extensions().iter().filter(|extension| extension.critical).collect();
            let [ours] = ours.as_slice() else { panic!("{:?}", parsed.extensions()) };
            assert_eq!(ours.oid.to_id_string(), "1.3.6.1.5.5.7.1.31");
            assert!(matches!(ours.parsed_extension(), ParsedExtension::UnsupportedExtension { .. }));
            let whole = extension(&proof.digest);
            assert!(
                der.windows(whole.len()).any(|window| window == whole),
                "as `sanedge renew` looks for it"
            );
        }
    }

    #[test]
    fn one_certificate_a_digest_for_as_long_as_it_is_pending() {
        let first = Challenges::of(vec![proof("a.test", 1), proof("b.test", 2)], &Challenges::default());
        let second = Challenges::of(vec![proof("b.test", 2), proof("a.test", 3)], &first);
        let is_same =
            |old: &str, new: &str| Arc::ptr_eq(first.find(old).unwrap().1, second.find(new).unwrap().1);
        assert!(is_same("b.test", "B.TEST") && !is_same("a.test", "a.test"));
        let third = Challenges::of(vec![proof("a.test", 3)], &second);
        assert!(third.find("b.test").is_none() && third.find("c.test").is_none());
        assert!(third.find("test").is_none() && third.find("").is_none());
        assert_eq!(third.names().count(), 1);
    }

    #[test]
    fn a_challenge_is_answered_without_tickets_and_with_one_protocol() {
        let challenges = Challenges::of(vec![proof("a.test", 1)], &Challenges::default());
        let configs = challenges.find("a.test").unwrap().1;
        for suites in [[0x1301.into()], [0x1303.into()]] {
            let config = configs.for_hello(&suites, b"");
            assert_eq!(config.alpn_protocols, [PROTOCOL.to_vec()]);
            assert!(
                config.send_tls13_tickets == 0 && config.max_tls13_tickets == 0 && !config.ticketer.enabled()
            );
            assert!(!config.session_storage.can_cache());
        }
    }
}
