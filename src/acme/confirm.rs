//! Whether the running edge serves a certificate: a TLS handshake on this machine that accepts exactly that one.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::challenge::here;
use crate::bundle::acme::{Plan, Wanted, file_name, stored};

/// For one handshake, each read and write of it.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// Connects to the TLS listener and asks for `host`.
///
/// # Errors
/// What was found instead.
pub(crate) fn serves(
    listener: SocketAddr,
    host: &str,
    certificate: &CertificateDer<'static>,
    expects_proxy: bool,
) -> Result<(), String> {
    let address = here(listener);
    let failed =
        |what: String| format!("the edge at {address} does not serve the new certificate of {host}: {what}");
    let handshake = || -> std::io::Result<()> {
        let mut stream = TcpStream::connect_timeout(&address, HANDSHAKE_TIME)?;
        stream.set_read_timeout(Some(HANDSHAKE_TIME))?;
        stream.set_write_timeout(Some(HANDSHAKE_TIME))?;
        if expects_proxy {
            stream.write_all(b"PROXY UNKNOWN\r\n")?;
        }
        let mut connection = client(host, certificate).map_err(std::io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        Ok(())
    };
    handshake().map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => failed(format!(
            "{error}; the unit allows loopback alone: type `systemctl edit sanedge-deploy.service` and add [Service] IPAddressAllow={}",
            address.ip()
        )),
        _ => failed(error.to_string()),
    })
}

/// Leaves the mark for a deployment where the running edge serves another certificate than the stored one of some host: the last
/// deployment failed, or never came. What a stopped edge will serve is not known.
pub(crate) fn ask_for_deployment(plan: &Plan) {
    let listener = plan.https.iter().find(|listener| listener.port() != 0);
    let is_missed = |wanted: &Wanted| {
        let path = stored::path(&plan.state, &file_name(wanted.name())?);
        let pem = stored::read(&plan.state, &path).ok()??;
        let end_entity = CertificateDer::pem_slice_iter(&pem).next()?.ok()?;
        let address = here(*listener?);
        TcpStream::connect_timeout(&address, HANDSHAKE_TIME).ok()?;
        serves(*listener?, wanted.name(), &end_entity, plan.http_expects_proxy).err()
    };
    if !plan.state.join(stored::MARK).exists() && plan.certificates.iter().any(|w| is_missed(w).is_some()) {
        // Without room for it the next run tries again.
        let _ = super::state::mark(&plan.state);
    }
}

fn client(host: &str, certificate: &CertificateDer<'static>) -> Result<ClientConnection, rustls::Error> {
    let name =
        ServerName::try_from(host.to_owned()).map_err(|error| rustls::Error::General(error.to_string()))?;
    let provider = rustls::crypto::ring::default_provider();
    let only =
        Only { certificate: certificate.clone(), algorithms: provider.signature_verification_algorithms };
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(only))
        .with_no_client_auth();
    ClientConnection::new(Arc::new(config), name)
}

/// Accepts one certificate, whoever issued it: it was proven already.
#[derive(Debug)]
struct Only {
    certificate: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
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
        match *end_entity == self.certificate {
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
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
