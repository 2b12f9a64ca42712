//! Why the edge does not serve.

use std::io;

use crate::bundle::open::OpenError;
use crate::edge::shared::tickets::NoRandomness;
use crate::ops::access::Place;
use crate::system::sockets::SocketsError;

/// Why the edge could not start, or ended badly.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The bundle is not usable.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What the service manager handed over is not what the bundle says.
    #[error(transparent)]
    Sockets(#[from] SocketsError),
    /// TLS could not be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error}{hint}")]
    Listen {
        /// What was asked for.
        address: String,
        /// What the kernel said.
        error: io::Error,
        /// What to do.
        hint: &'static str,
    },
    /// The kernel gives no randomness.
    #[error(transparent)]
    Tickets(#[from] NoRandomness),
    /// The access log has nowhere to go.
    #[error("cannot write the access log to {0}: {1}; is its reader running?")]
    Access(Place, io::Error),
    /// The operating system refused something else.
    #[error("{0}")]
    System(#[from] io::Error),
    /// A worker ended before the drain.
    #[error("a worker ended unexpectedly; see the log above")]
    Worker,
    /// A second SIGTERM cut the drain short.
    #[error("a second signal ended the drain at once")]
    Impatient {
        /// Sessions that were open.
        cut: u32,
    },
}

/// The same, with what to do.
pub(crate) fn listen_error(address: String, error: io::Error) -> ServeError {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need the socket units (`systemctl enable --now sanedge-https.socket`, sanedge-http.socket for port 80), CAP_NET_BIND_SERVICE, or `sysctl net.ipv4.ip_unprivileged_port_start=80`"
        }
        io::ErrorKind::AddrInUse if address.starts_with("unix:") => {
            "; stop it, or give this edge an `admin` of its own in [listen]"
        }
        io::ErrorKind::AddrInUse => "; another program listens there: `ss -ltnp` shows which",
        _ => "",
    };
    ServeError::Listen { address, error, hint }
}
