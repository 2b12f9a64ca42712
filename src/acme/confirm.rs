//! Whether the running edge serves a certificate: a TLS handshake on this machine that accepts exactly that one.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::bundle::acme::{Plan, Wanted, file_name, here, stored};

/// Limit for the connection, and for each read and write of a handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// Why a handshake does not confirm a certificate, in words.
#[derive(Debug)]
pub(crate) enum NotServed {
    /// This process cannot connect to the listener. That says nothing about what clients get.
    Unreachable(String),
    /// No certificate came: an alert, a time limit, or a limit of the edge for handshakes.
    Refused(String),
    /// Another certificate came, or the server says that it does not have the name.
    Differs(String),
}

/// Connects to the TLS listener with the server name `host`, and checks the certificate.
///
/// # Errors
/// What was found instead.
pub(crate) fn serves(
    listener: SocketAddr,
    host: &str,
    certificate: &CertificateDer<'static>,
    expects_proxy: bool,
) -> Result<(), NotServed> {
    let address = here(listener);
    let stream = connect(listener).map_err(|error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::PermissionDenied => format!(
                "; the unit allows only loopback: type `systemctl edit sanedge-deploy.service` and add [Service] IPAddressAllow={}",
                address.ip()
            ),
            _ => String::new(),
        };
        NotServed::Unreachable(format!("cannot connect to the edge at {address} to check its certificate of {host}: {error}{remedy}"))
    })?;
    let certificate = certificate.clone();
    let came = Arc::new(AtomicBool::new(false));
    let differs = Arc::clone(&came);
    let wish = Wish {
        server_name: host,
        protocol: None,
        accepts: Box::new(move |end_entity| {
            let is_it = *end_entity == *certificate;
            differs.store(!is_it, Ordering::Relaxed);
            is_it
        }),
    };
    shake(stream, wish, expects_proxy).map_err(|error| {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
        let has_none = rustls::Error::AlertReceived(rustls::AlertDescription::UnrecognisedName);
        let is_other = came.load(Ordering::Relaxed) || cause == Some(&has_none);
        let text = format!("the edge at {address} does not serve the new certificate of {host}: {error}");
        if is_other { NotServed::Differs(text) } else { NotServed::Refused(text) }
    })
}

/// Requests a deployment if the running edge serves another certificate for some host than the stored one, because the last deployment
/// failed or did not run. Does nothing if no edge runs.
pub(crate) fn ask_for_deployment(plan: &Plan) {
    let listener = plan.https.iter().find(|listener| listener.port() != 0);
    let is_missed = |wanted: &Wanted| {
        let path = stored::path(&plan.state, &file_name(wanted.name())?);
        let pem = stored::read(&plan.state, &path).ok()??;
        let end_entity = CertificateDer::pem_slice_iter(&pem).next()?.ok()?;
        let served = serves(*listener?, wanted.name(), &end_entity, plan.http_expects_proxy);
        matches!(served, Err(NotServed::Refused(_) | NotServed::Differs(_))).then_some(())
    };
    if !plan.state.join(stored::MARK).exists() && plan.certificates.iter().any(|w| is_missed(w).is_some()) {
        // If the disk is full, the next run tries again.
        let _ = super::state::mark(&plan.state);
    }
}

/// Decides whether a certificate, in DER, is accepted.
type Accepts = Box<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// What a handshake offers, and which certificate it accepts.
pub(super) struct Wish<'a> {
    pub(super) server_name: &'a str,
    pub(super) protocol: Option<&'static [u8]>,
    pub(super) accepts: Accepts,
}

/// Connects to the edge on this machine.
///
/// # Errors
/// Why the handshake failed.
pub(super) fn handshake(listener: SocketAddr, wish: Wish<'_>, expects_proxy: bool) -> std::io::Result<()> {
    shake(connect(listener)?, wish, expects_proxy)
}

fn connect(listener: SocketAddr) -> std::io::Result<TcpStream> {
    TcpStream::connect_timeout(&here(listener), HANDSHAKE_TIME)
}

fn shake(mut stream: TcpStream, wish: Wish<'_>, expects_proxy: bool) -> std::io::Result<()> {
    stream.set_read_timeout(Some(HANDSHAKE_TIME))?;
    stream.set_write_timeout(Some(HANDSHAKE_TIME))?;
    if expects_proxy {
        stream.write_all(b"PROXY UNKNOWN\r\n")?;
    }
    let mut connection = client(wish).map_err(std::io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(())
}

fn client(wish: Wish<'_>) -> Result<ClientConnection, rustls::Error> {
    let name = ServerName::try_from(wish.server_name.to_owned())
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let provider = rustls::crypto::ring::default_provider();
    let only = Only {
        accepts: wish.accepts,
        is_proof: wish.protocol.is_some(),
        algorithms: provider.signature_verification_algorithms,
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(only))
        .with_no_client_auth();
    config.alpn_protocols = wish.protocol.iter().map(|protocol| protocol.to_vec()).collect();
    ClientConnection::new(Arc::new(config), name)
}

/// Accepts one certificate from any issuer, because it was checked before.
struct Only {
    accepts: Accepts,
    /// The certificate of a tls-alpn-01 challenge: the verifier of signatures does not know its critical extension, so they are not checked.
    is_proof: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl std::fmt::Debug for Only {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Only").finish_non_exhaustive()
    }
}

impl ServerCertVerifier for Only {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match (self.accepts)(end_entity) {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if self.is_proof {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if self.is_proof {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
