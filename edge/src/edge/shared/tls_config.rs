//! The TLS configurations: which suites come first, which key exchange there is, which certificate is sent, ALPN and tickets.

use std::sync::{Arc, OnceLock};

use rustls::CipherSuite;
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, ProducesTickets, ServerConfig};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::bundle::alpn::PROTOCOL;
use crate::bundle::{PostQuantum, SuiteOrder};
use crate::edge::shared::traffic_secrets;
use crate::hybrid::X25519MLKEM768;
use crate::hybrid::offer::Offer;

/// Tickets after a handshake of TLS 1.3: Chromium keeps two, and resumes no more with more of them (docs/measurements.md).
const TICKETS: usize = 2;
/// The most tickets for a client that requests a number of them (RFC 9149): a browser opens at most six connections to a host.
const REQUESTED_TICKETS_MAX: usize = 6;

/// The family of suites that the edge prefers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SuitePreference {
    Aes,
    Chacha,
}

impl SuitePreference {
    /// For `order` on this processor.
    pub(crate) fn choose(order: SuiteOrder) -> Self {
        // Asked once, whatever the order, and so before the sandbox: where a word of it is 0, rustix reads `/proc/self/auxv`
        // again each time, and panics once it may not (Linux before 6.4).
        static HWCAP: OnceLock<usize> = OnceLock::new();
        let hwcap = *HWCAP.get_or_init(|| rustix::param::linux_hwcap().0);
        match order {
            SuiteOrder::Aes => Self::Aes,
            SuiteOrder::Chacha => Self::Chacha,
            SuiteOrder::Auto => Self::for_processor(std::env::consts::ARCH, hwcap),
        }
    }

    /// What ring really uses: on aarch64 AES-GCM only with both the AES and the PMULL bit (HWCAP bits 3 and 4); on
    /// 32-bit ARM ring has no AES instructions at all; elsewhere AES-GCM.
    fn for_processor(architecture: &str, hwcap: usize) -> Self {
        const AES_AND_PMULL: usize = (1 << 3) | (1 << 4);
        match architecture {
            "arm" => Self::Chacha,
            "aarch64" if hwcap & AES_AND_PMULL != AES_AND_PMULL => Self::Chacha,
            _ => Self::Aes,
        }
    }

    fn provider(self, exchange: Exchange) -> CryptoProvider {
        let mut provider = rustls::crypto::ring::default_provider();
        if exchange == Exchange::Hybrid {
            // Alone: rustls takes the client's first group that it finds here, also if the client sent no share for it.
            provider.kx_groups = vec![X25519MLKEM768];
        }
        // TLS 1.3 before 1.2; AES-128 before AES-256, as browsers have it: it is quicker, and nobody breaks it. A stable sort keeps
        // ring's own order otherwise, ECDSA before RSA.
        provider.cipher_suites.sort_by_key(|suite| {
            (
                suite.version().version != rustls::ProtocolVersion::TLSv1_3,
                Self::of(suite.suite()) != Some(self),
                matches!(u16::from(suite.suite()), 0x1302 | 0xc02c | 0xc030),
            )
        });
        provider
    }

    /// The family of a suite that we have; none of others. By number: their names are many bytes of a board's program.
    fn of(suite: CipherSuite) -> Option<Self> {
        match u16::from(suite) {
            0x1301 | 0x1302 | 0xc02b | 0xc02c | 0xc02f | 0xc030 => Some(Self::Aes),
            0x1303 | 0xcca8 | 0xcca9 => Some(Self::Chacha),
            _ => None,
        }
    }

    /// The family that a client wants first, of what it offers that we have.
    fn wanted(suites: &[CipherSuite]) -> Option<Self> {
        suites.iter().copied().find_map(Self::of)
    }
}

/// Which groups a configuration has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exchange {
    /// ring's.
    Classical,
    /// X25519MLKEM768 and nothing else, for hellos that offer it.
    Hybrid,
}

/// The configurations that answer with one certificate.
pub(crate) struct Configs {
    classical: BySuites,
    /// None if no hello gets it.
    hybrid: Option<BySuites>,
    post_quantum: PostQuantum,
}

/// By what leads.
struct BySuites {
    aes: Arc<ServerConfig>,
    chacha: Arc<ServerConfig>,
}

impl Configs {
    /// To answer with `key`: TLS 1.2 and 1.3, ALPN `http/1.1`, tickets from `ticketer`. The order of suites is ours; but where AES
    /// leads, a client that puts ChaCha20 first gets it: it has no instructions for AES.
    ///
    /// # Errors
    /// rustls's own, when the provider cannot do the protocol versions.
    pub(crate) fn new(
        key: &Arc<CertifiedKey>,
        preference: SuitePreference,
        post_quantum: PostQuantum,
        ticketer: &Arc<impl ProducesTickets + 'static>,
    ) -> Result<Self, rustls::Error> {
        let of = |exchange| BySuites::new(key, preference, exchange, ticketer);
        let hybrid = (post_quantum != PostQuantum::Off).then(|| of(Exchange::Hybrid)).transpose()?;
        Ok(Self { classical: of(Exchange::Classical)?, hybrid, post_quantum })
    }

    /// To answer a tls-alpn-01 challenge with `key`: no other protocol, and nothing to resume (RFC 8737 §3).
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub(crate) fn for_challenge(key: &Arc<CertifiedKey>) -> Result<Self, rustls::Error> {
        let mut config = with_certificate(Arc::clone(key), SuitePreference::Chacha, Exchange::Classical)?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        config.send_tls13_tickets = 0;
        let config = Arc::new(config);
        let classical = BySuites { aes: Arc::clone(&config), chacha: config };
        Ok(Self { classical, hybrid: None, post_quantum: PostQuantum::Off })
    }

    /// For a hello with these suites, which came in these records.
    pub(crate) fn for_hello(&self, suites: &[CipherSuite], records: &[u8]) -> &Arc<ServerConfig> {
        let hybrid = self.hybrid.as_ref().filter(|_| Offer::of(records).is_taken(self.post_quantum));
        let configs = hybrid.unwrap_or(&self.classical);
        if SuitePreference::wanted(suites) == Some(SuitePreference::Chacha) {
            &configs.chacha
        } else {
            &configs.aes
        }
    }
}

impl BySuites {
    fn new(
        key: &Arc<CertifiedKey>,
        preference: SuitePreference,
        exchange: Exchange,
        ticketer: &Arc<impl ProducesTickets + 'static>,
    ) -> Result<Self, rustls::Error> {
        let config = |preference| {
            server_config(Arc::clone(key), preference, exchange, Arc::clone(ticketer) as _).map(Arc::new)
        };
        let chacha = config(SuitePreference::Chacha)?;
        let aes = if preference == SuitePreference::Aes { config(preference)? } else { Arc::clone(&chacha) };
        Ok(Self { aes, chacha })
    }
}

fn server_config(
    key: Arc<CertifiedKey>,
    preference: SuitePreference,
    exchange: Exchange,
    ticketer: Arc<dyn ProducesTickets>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = with_certificate(key, preference, exchange)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = ticketer;
    config.send_tls13_tickets = TICKETS;
    config.max_tls13_tickets = REQUESTED_TICKETS_MAX;
    Ok(config)
}

/// Without ALPN and tickets.
fn with_certificate(
    key: Arc<CertifiedKey>,
    preference: SuitePreference,
    exchange: Exchange,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(preference.provider(exchange)))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.ignore_client_order = true;
    // The connection ends with its handshake; its secrets go to our own record layer.
    config.enable_secret_extraction = true;
    config.key_log = Arc::new(traffic_secrets::Taken);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lead_follows_what_ring_uses() {
        let (aes, pmull) = (1 << 3, 1 << 4);
        assert_eq!(SuitePreference::for_processor("aarch64", aes | pmull), SuitePreference::Aes);
        assert_eq!(
            SuitePreference::for_processor("aarch64", aes),
            SuitePreference::Chacha,
            "a Pi 4 has neither; one alone is no use"
        );
        assert_eq!(SuitePreference::for_processor("aarch64", pmull), SuitePreference::Chacha);
        assert_eq!(SuitePreference::for_processor("aarch64", 0), SuitePreference::Chacha);
        assert_eq!(SuitePreference::for_processor("arm", usize::MAX), SuitePreference::Chacha);
        assert_eq!(SuitePreference::for_processor("x86_64", 0), SuitePreference::Aes);
    }

    #[test]
    fn the_order_of_suites_follows_the_lead() {
        let names = |preference: SuitePreference| {
            preference
                .provider(Exchange::Classical)
                .cipher_suites
                .iter()
                .map(|s| format!("{:?}", s.suite()))
                .collect::<Vec<_>>()
        };
        let (aes, chacha) = (names(SuitePreference::Aes), names(SuitePreference::Chacha));
        assert!(aes[0].starts_with("TLS13_AES_"), "{aes:?}");
        assert!(chacha[0].starts_with("TLS13_CHACHA20"), "{chacha:?}");
        assert_eq!(aes.len(), chacha.len());
        assert!(
            aes[0].contains("AES_128") && aes[1].contains("AES_256") && aes[2].contains("CHACHA20"),
            "{aes:?}"
        );
        assert_eq!(aes.len(), rustls::crypto::ring::default_provider().cipher_suites.len());
    }

    #[test]
    fn who_wants_chacha_first_gets_it() {
        let wanted =
            |suites: &[u16]| SuitePreference::wanted(&suites.iter().map(|s| (*s).into()).collect::<Vec<_>>());
        // Chrome with AES instructions and without; what is only for show, or not ours, does not count.
        assert_eq!(wanted(&[0x6a6a, 0x1301, 0x1302, 0x1303]), Some(SuitePreference::Aes));
        assert_eq!(wanted(&[0x6a6a, 0x1303, 0x1301, 0x1302]), Some(SuitePreference::Chacha));
        assert_eq!(wanted(&[0xc014, 0x009c, 0xc02f, 0xcca8]), Some(SuitePreference::Aes));
        assert_eq!(wanted(&[0x009e, 0xc013, 0xcca8, 0xc02f]), Some(SuitePreference::Chacha));
        assert_eq!(wanted(&[0x6a6a, 0x0035]), None);
        let ours = rustls::crypto::ring::default_provider().cipher_suites;
        assert!(ours.iter().all(|suite| SuitePreference::of(suite.suite()).is_some()));
    }
}
