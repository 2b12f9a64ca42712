//! TLS behind one small stream type of ours. Which suites lead, which certificate answers a hello, and the alert
//! for a name that we do not serve. tokio-rustls is inside; nothing outside this file knows.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::crypto::CryptoProvider;
use rustls::server::{Acceptor, NoServerSessionStorage, ProducesTickets, ServerConfig};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::bundle::SuiteOrder;

/// Fatal `unrecognized_name` (RFC 6066 §3, RFC 8446 §6) in a plaintext record: rustls has no call for it.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// The suite that leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lead {
    Aes,
    Chacha,
}

impl Lead {
    /// For `order` on this processor.
    pub(crate) fn choose(order: SuiteOrder) -> Self {
        match order {
            SuiteOrder::Aes => Self::Aes,
            SuiteOrder::Chacha => Self::Chacha,
            SuiteOrder::Auto => Self::for_processor(std::env::consts::ARCH, rustix::param::linux_hwcap().0),
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

    fn provider(self) -> CryptoProvider {
        let mut provider = rustls::crypto::ring::default_provider();
        let is_chacha =
            |suite: &rustls::SupportedCipherSuite| format!("{:?}", suite.suite()).contains("CHACHA20");
        // A stable sort keeps ring's own order within each family, TLS 1.3 before 1.2.
        provider.cipher_suites.sort_by_key(|suite| {
            (
                suite.version().version != rustls::ProtocolVersion::TLSv1_3,
                is_chacha(suite) == (self == Self::Aes),
            )
        });
        provider
    }
}

/// The rustls configuration that answers with `key`: TLS 1.2 and 1.3, ALPN `http/1.1`, tickets from `ticketer`.
///
/// # Errors
/// rustls's own, when the provider cannot do the protocol versions.
pub(crate) fn server_config(
    key: Arc<CertifiedKey>,
    lead: Lead,
    ticketer: Arc<dyn ProducesTickets>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(lead.provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ignore_client_order = lead == Lead::Chacha;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = ticketer;
    config.send_tls13_tickets = 1;
    Ok(config)
}

/// Why a handshake came to nothing.
#[derive(Debug)]
pub(crate) enum Refused<R> {
    /// The chooser's answer; the alert is sent.
    Name(R),
    /// Not TLS, no common version, a broken peer, or gone. Holds what rustls or the kernel says.
    Handshake(io::Error),
}

/// A client connection after its TLS handshake.
pub(crate) struct Client {
    // Boxed: moving 1.2 KB through every future's state costs more than the pointer.
    stream: Box<TlsStream<TcpStream>>,
}

impl Client {
    /// Reads the hello, lets `choose` pick the configuration by server name, and finishes the handshake.
    /// `buffer_bytes` bounds what rustls may hold unsent.
    pub(crate) async fn accept<R, C>(
        io: TcpStream,
        buffer_bytes: usize,
        choose: impl FnOnce(Option<&str>) -> Result<(Arc<ServerConfig>, C), R>,
    ) -> Result<(Self, C), Refused<R>> {
        let start = LazyConfigAcceptor::new(Acceptor::default(), io).await.map_err(Refused::Handshake)?;
        let (config, chosen) = match choose(start.client_hello().server_name()) {
            Ok(chosen) => chosen,
            Err(reason) => {
                let mut io = start.io;
                let _ = io.write_all(&UNRECOGNIZED_NAME).await;
                let _ = io.shutdown().await;
                return Err(Refused::Name(reason));
            }
        };
        let accept =
            start.into_stream_with(config, |connection| connection.set_buffer_limit(Some(buffer_bytes)));
        let stream = accept.await.map_err(Refused::Handshake)?;
        Ok((Self { stream: Box::new(stream) }, chosen))
    }

    /// Reads decrypted bytes; 0 is the peer's close, with or without close_notify.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        match ready!(Pin::new(&mut *self.stream).poll_read(cx, &mut buffer)) {
            Ok(()) => Poll::Ready(Ok(buffer.filled().len())),
            // A close without close_notify could be a cut by someone else; for framed messages and WebSockets
            // the truncation shows in the message itself.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(0)),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Takes bytes to be encrypted; those taken may still be in rustls's buffer: see [`Self::poll_flush`].
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write(cx, bytes)
    }

    /// Ready when the kernel has everything.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    /// Sends close_notify and FIN.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lead_follows_what_ring_uses() {
        let (aes, pmull) = (1 << 3, 1 << 4);
        assert_eq!(Lead::for_processor("aarch64", aes | pmull), Lead::Aes);
        assert_eq!(
            Lead::for_processor("aarch64", aes),
            Lead::Chacha,
            "a Pi 4 has neither; one alone is no use"
        );
        assert_eq!(Lead::for_processor("aarch64", pmull), Lead::Chacha);
        assert_eq!(Lead::for_processor("aarch64", 0), Lead::Chacha);
        assert_eq!(Lead::for_processor("arm", usize::MAX), Lead::Chacha);
        assert_eq!(Lead::for_processor("x86_64", 0), Lead::Aes);
    }

    #[test]
    fn the_order_of_suites_follows_the_lead() {
        let names = |lead: Lead| {
            lead.provider().cipher_suites.iter().map(|s| format!("{:?}", s.suite())).collect::<Vec<_>>()
        };
        let (aes, chacha) = (names(Lead::Aes), names(Lead::Chacha));
        assert!(aes[0].starts_with("TLS13_AES_"), "{aes:?}");
        assert!(chacha[0].starts_with("TLS13_CHACHA20"), "{chacha:?}");
        assert_eq!(aes.len(), chacha.len());
        assert_eq!(aes.len(), rustls::crypto::ring::default_provider().cipher_suites.len());
    }
}
