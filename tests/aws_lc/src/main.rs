//! One TLS 1.3 request with rustls on aws-lc-rs: `sanedge-aws-lc PORT HOST CA.pem GROUP...`, where GROUP is `hybrid` or `x25519`, in the
//! order of the client's preference. Prints the group of the key exchange, the kind of handshake and the status line.

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, host, ca, groups @ ..] = arguments.as_slice() else {
        return Err("expected PORT HOST CA.pem GROUP...".into());
    };
    let kx_groups = groups
        .iter()
        .map(|group| match group.as_str() {
            "hybrid" => Ok(kx_group::X25519MLKEM768),
            "x25519" => Ok(kx_group::X25519),
            other => Err(format!("expected hybrid or x25519, found {other}")),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca)?)?;
    let provider = CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() };
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut tls = ClientConnection::new(Arc::new(config), ServerName::try_from(host.clone())?)?;
    let mut tcp = TcpStream::connect(("127.0.0.1", port.parse()?))?;
    let mut stream = Stream::new(&mut tls, &mut tcp);
    write!(stream, "GET / HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n")?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response)?;
    let group = tls.negotiated_key_exchange_group().ok_or("no key exchange")?.name();
    let kind = tls.handshake_kind().ok_or("no handshake")?;
    let status = String::from_utf8_lossy(&response);
    println!("{group:?} {kind:?} {}", status.lines().next().unwrap_or_default());
    Ok(())
}
