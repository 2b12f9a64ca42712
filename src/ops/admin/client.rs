//! The asking side of the admin socket: one request, one answer.

use std::io;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::bundle::Admin;

/// For the whole of an answer: a reload opens a file and checks a few signatures.
const ANSWER_TIME: Duration = Duration::from_secs(20);

/// Why the admin socket gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens, or not for us.
    #[error("cannot reach an edge at {address}: {error}. {}", hint(.error))]
    Connect {
        /// Where.
        address: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// It answered something unexpected.
    #[error("the edge at {address} gave no usable answer: {found}")]
    Answer {
        /// Where.
        address: String,
        /// What was found.
        found: String,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "Its admin socket is for root and the edge's own group: try with sudo."
        }
        io::ErrorKind::TimedOut => "It is there and does not answer: look at its log, or restart it.",
        _ => {
            "No edge is running here, or its admin socket is elsewhere ([listen] admin; name it with --admin). \
             SIGHUP reloads as well."
        }
    }
}

/// Sends one request to the admin socket and gives back status and body.
///
/// # Errors
/// Nobody answers, or not in HTTP.
pub fn ask(admin: &Admin, method: &str, path: &str) -> Result<(u16, Vec<u8>), AskError> {
    let address = match admin {
        Admin::Unix(path) => format!("unix:{}", path.display()),
        Admin::Tcp(address) => address.to_string(),
    };
    let unreachable = |error| AskError::Connect { address: address.clone(), error };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let answered = runtime.map_err(unreachable)?.block_on(async {
        let answer = async {
            Ok(match admin {
                Admin::Unix(socket) => exchange(UnixStream::connect(socket).await?, method, path).await,
                Admin::Tcp(address) => exchange(TcpStream::connect(address).await?, method, path).await,
            })
        };
        timeout(ANSWER_TIME, answer).await
    });
    let late =
        |_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", ANSWER_TIME.as_secs()));
    let found = answered.map_err(late).and_then(|answered| answered).map_err(unreachable)?;
    found.map_err(|error| AskError::Answer { address, found: error.to_string() })
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    method: &str,
    path: &str,
) -> Result<(u16, Vec<u8>), Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = hyper::Request::builder().method(method).uri(path).header("host", "localhost");
    let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    let status = response.status().as_u16();
    Ok((status, response.into_body().collect().await?.to_bytes().to_vec()))
}
