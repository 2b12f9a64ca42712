//! A TLS client that records what it is shown instead of judging it (`certificate` does), and what a handshake that fails means.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{AlertDescription, ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::check::Finding;
use super::explain::Code;
use super::hybrid::Probe;
use crate::excerpt::Excerpt;
use crate::names::Host;

/// Of the name of a protocol that makes the hello as long as a browser's; 255 is the longest (RFC 7301 §3.1).
const LARGE_NAME_BYTES: usize = 250;

/// A client configuration with its record.
#[derive(Clone, Debug)]
pub(super) struct TlsClient {
    pub(super) config: Arc<ClientConfig>,
    /// Its hello is of two packets.
    pub(super) is_large: bool,
    seen: Arc<Recorder>,
}

/// Why there is no TLS.
#[derive(Debug)]
pub(super) enum NoTls {
    /// An alert of the server.
    Alert(AlertDescription),
    /// The server says something that is not TLS, its first bytes.
    Other(Vec<u8>),
    /// Nothing comes.
    Silent,
    /// It hangs up.
    Closed,
    /// rustls does not want to go on.
    Refused(String),
}

/// What a TLS handshake came to.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) version: String,
    pub(super) suite: String,
    /// Of the key exchange.
    pub(super) group: String,
    pub(super) resumed: bool,
}

/// What a server has shown, and once that was judged, what it may show from then on.
#[derive(Debug, Default)]
struct Recorder {
    shown: Mutex<Shown>,
    guard: Mutex<Option<Guard>>,
}

/// Whether a chain is good enough to send something private.
type Judge = dyn Fn(&[CertificateDer<'static>]) -> bool + Send + Sync;

/// Once something private may be sent, every later connection is held to it.
struct Guard(Box<Judge>);

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Guard")
    }
}

/// The certificates of the last full handshake, and whether one was asked of us.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) wants_certificate: bool,
    /// An OCSP response came with them (RFC 6066 §8).
    pub(super) stapled: bool,
    /// Why the handshake's signature does not prove that the server has the certificate's key.
    pub(super) unproven: Option<String>,
}

impl TlsClient {
    /// For the versions given; `None` where ring cannot do them, which it can.
    pub(super) fn new(versions: &[&'static rustls::SupportedProtocolVersion]) -> Option<Self> {
        Self::with(rustls::crypto::ring::default_provider(), versions)
    }

    fn with(
        provider: CryptoProvider,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Option<Self> {
        let seen = Arc::new(Recorder::default());
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .ok()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::<Recorder>::clone(&seen))
            .with_client_cert_resolver(Arc::<Recorder>::clone(&seen));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Some(Self { config: Arc::new(config), is_large: false, seen })
    }

    /// With the hello of a browser: shares for X25519MLKEM768 and X25519. An ALPN name that no server knows makes the hello as long.
    pub(super) fn large() -> Option<Self> {
        let mut provider = rustls::crypto::ring::default_provider();
        provider.kx_groups.insert(0, &Probe);
        let mut client = Self::with(provider, rustls::ALL_VERSIONS)?;
        let mut config = ClientConfig::clone(&client.config);
        config.alpn_protocols.push(vec![b'-'; LARGE_NAME_BYTES]);
        (client.config, client.is_large) = (Arc::new(config), true);
        Some(client)
    }

    pub(super) fn shown(&self) -> Shown {
        self.seen.shown().clone()
    }

    /// From now on refuses a chain that is not `acceptable`.
    pub(super) fn guard(
        &self,
        acceptable: impl Fn(&[CertificateDer<'static>]) -> bool + Send + Sync + 'static,
    ) {
        *self.seen.guard() = Some(Guard(Box::new(acceptable)));
    }
}

impl Session {
    pub(super) fn of(connection: &rustls::ClientConnection) -> Self {
        let version = match connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3".to_owned(),
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2".to_owned(),
            other => format!("{other:?}"),
        };
        let suite = connection.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
        let group = connection.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name()));
        Self {
            version,
            suite: suite
                .unwrap_or_default()
                .trim_start_matches("TLS13_")
                .trim_start_matches("TLS_")
                .to_owned(),
            group: group.unwrap_or_default(),
            resumed: connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        }
    }
}

impl NoTls {
    pub(super) fn of(error: &io::Error, beginning: &[u8]) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(rustls::Error::AlertReceived(alert)) => Self::Alert(*alert),
            _ if !beginning.is_empty() && !is_record(beginning) => Self::Other(beginning.to_vec()),
            Some(error) => Self::Refused(error.to_string()),
            None if beginning.is_empty() => Self::Closed,
            None => Self::Refused(error.to_string()),
        }
    }

    /// Something that is no TLS may wait for more in vain, and so do we.
    pub(super) fn unfinished(beginning: &[u8]) -> Self {
        if beginning.is_empty() || is_record(beginning) {
            Self::Silent
        } else {
            Self::Other(beginning.to_vec())
        }
    }
}

/// The content types of RFC 8446 §5.1, and a major version of 3.
fn is_record(bytes: &[u8]) -> bool {
    matches!(bytes, [20..=24, 3, ..] | [20..=24])
}

impl Recorder {
    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn guard(&self) -> MutexGuard<'_, Option<Guard>> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn proof(
        &self,
        checked: Result<HandshakeSignatureValid, rustls::Error>,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match checked {
            Err(error) if self.guard().is_none() => {
                self.shown().unproven = Some(error.to_string());
                Ok(HandshakeSignatureValid::assertion())
            }
            checked => checked,
        }
    }
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp_response: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = std::iter::once(end_entity).chain(intermediates);
        let chain: Vec<_> = chain.map(|certificate| certificate.clone().into_owned()).collect();
        if self.guard().as_ref().is_some_and(|Guard(acceptable)| !acceptable(&chain)) {
            return Err(rustls::Error::General(
                "another certificate than before, which is not valid".to_owned(),
            ));
        }
        let mut shown = self.shown();
        (shown.chain, shown.stapled) = (chain, !ocsp_response.is_empty());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.proof(rustls::crypto::verify_tls12_signature(message, certificate, signed, &algorithms()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.proof(rustls::crypto::verify_tls13_signature(message, certificate, signed, &algorithms()))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

fn algorithms() -> rustls::crypto::WebPkiSupportedAlgorithms {
    rustls::crypto::ring::default_provider().signature_verification_algorithms
}

impl ResolvesClientCert for Recorder {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        self.shown().wants_certificate = true;
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// What an unfinished handshake means.
pub(super) fn no_tls(error: &NoTls, shown: &Shown, host: &Host, port: u16) -> Finding {
    match error {
        NoTls::Alert(alert) => alerted(*alert, shown, host),
        NoTls::Other(bytes) => not_tls(bytes, port),
        NoTls::Silent => Finding::new(
            Code::PortSilent,
            format!("port {port} accepts the connection and then sends nothing: the program there hangs, or the far end of a tunnel is gone"),
        )
        .seen("waited", "4 s for an answer to the ClientHello"),
        NoTls::Closed if shown.wants_certificate => wants_certificate("hung up"),
        NoTls::Closed => Finding::new(
            Code::PortCloses,
            format!("port {port} closes the connection at the ClientHello: check the log of the program that listens there"),
        )
        .seen("seen", "the connection ended before one byte of TLS"),
        NoTls::Refused(error) => {
            Finding::new(Code::TlsHandshake, "the TLS handshake fails").seen("error", error)
        }
    }
}

fn alerted(alert: AlertDescription, shown: &Shown, host: &Host) -> Finding {
    let said = format!("alert {alert:?} from the server");
    match alert {
        AlertDescription::UnrecognisedName => Finding::new(
            Code::TlsUnknownName,
            format!("the server does not serve `{host}`: add the name to its configuration"),
        ),
        AlertDescription::ProtocolVersion => Finding::new(
            Code::TlsVersion,
            "the server speaks only TLS versions before 1.2, which every client has disabled",
        ),
        AlertDescription::NoApplicationProtocol => Finding::new(
            Code::TlsNoHttp1,
            "the server does not support HTTP/1.1, which WebSockets need: enable it beside HTTP/2",
        ),
        AlertDescription::CertificateRequired => wants_certificate("alert CertificateRequired"),
        AlertDescription::HandshakeFailure | AlertDescription::BadCertificate if shown.wants_certificate => {
            wants_certificate("an alert")
        }
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => Finding::new(
            Code::TlsNoCommonSuite,
            "the server refuses every cipher suite of current clients: remove the cipher list from its configuration",
        ),
        _ => Finding::new(Code::TlsHandshake, format!("the server aborts the TLS handshake ({alert:?})")),
    }
    .seen("seen", said)
}

pub(super) fn wants_certificate(said: &str) -> Finding {
    Finding::new(
        Code::TlsClientCertificate,
        "the server requires a client certificate, which browsers and Socket.IO clients do not have",
    )
    .seen("seen", format!("CertificateRequest in the handshake, then {said}"))
}

fn not_tls(bytes: &[u8], port: u16) -> Finding {
    let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = Excerpt::of_bytes(first).to_string();
    if bytes.starts_with(b"HTTP/") {
        return Finding::new(
            Code::PortPlainHttp,
            format!(
                "port {port} answers in plain HTTP, without TLS: forward it to the proxy instead of the app"
            ),
        )
        .seen("answered", line);
    }
    let what =
        if bytes.starts_with(b"SSH-") { "an SSH server answers" } else { "a program without TLS answers" };
    Finding::new(Code::PortNotTls, format!("{what} on port {port}, where the proxy should be"))
        .seen("answered", line)
}
