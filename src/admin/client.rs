//! The asking side of the admin socket: one request, one answer.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::endpoints::Endpoint;
use crate::bundle::Admin;
use crate::excerpt::number;
use crate::http::body::Framing;
use crate::http::head::{HeadLimits, HeadScanner, ResponseLines, parse_scanned_response};

/// Of an answer, far above the status of an edge with every host and upstream that a bundle may hold.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The other side sends a dozen short fields.
const HEAD_LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 8 * 1024, fields_max: 32, target_bytes_max: 256 };

/// Why the admin socket gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No process listens, or not for us.
    #[error("cannot reach an edge at {address}: {error}. {}", hint(.error))]
    Connect {
        /// Where.
        address: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// It answered something unexpected.
    #[error("the edge at {address} sent an unusable response: {found}")]
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
            "Only root and the edge's group may use its admin socket: try with sudo."
        }
        io::ErrorKind::TimedOut => "It is running but does not answer: look at its log, or restart it.",
        _ => {
            "No edge listens there. Check with `systemctl status sanedge`, and start it with `sudo systemctl start sanedge` \
                or `sanedge serve BUNDLE`. If its admin socket is elsewhere ([listen] admin), name it with --admin."
        }
    }
}

/// What the edge answered.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// Of the response.
    pub status: u16,
    /// `text/plain`; else it is JSON.
    pub is_text: bool,
    /// All of it.
    pub body: Vec<u8>,
}

/// Sends one request to the admin socket; `accept` is the media type wanted.
///
/// # Errors
/// No answer, or none in HTTP.
pub fn ask(admin: &Admin, endpoint: &Endpoint, accept: &str) -> Result<Answer, AskError> {
    let Endpoint { method, path, time, .. } = endpoint;
    let address = admin.to_string();
    let unreachable = |error| AskError::Connect { address: address.clone(), error };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let answered = runtime.map_err(unreachable)?.block_on(async {
        let answer = async {
            Ok(match admin {
                Admin::Unix(socket) => exchange(UnixStream::connect(socket).await?, &request).await,
                Admin::Tcp(address) => exchange(TcpStream::connect(address).await?, &request).await,
            })
        };
        timeout(*time, answer).await
    });
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", time.as_secs()));
    let found = answered.map_err(late).and_then(|answered| answered).map_err(unreachable)?;
    found.map_err(|found| AskError::Answer { address, found })
}

/// One request, and the answer up to the end of the connection: the other side answers one and closes.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> Result<Answer, String> {
    let mut answer = Vec::new();
    // A refusal may end the connection before all of the request is out; then the answer says why.
    let sent = stream.write_all(request.as_bytes()).await;
    let received = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await;
    match parsed(&answer) {
        Err(found) if answer.is_empty() => {
            Err(sent.and(received).err().map_or(found, |error| error.to_string()))
        }
        parsed => parsed,
    }
}

fn parsed(answer: &[u8]) -> Result<Answer, String> {
    let mut scanner = HeadScanner::response();
    let end = scanner.scan(answer, &HEAD_LIMITS).map_err(|error| error.to_string())?;
    let Some((head, body)) = end.and_then(|end| answer.split_at_checked(end)) else {
        return Err(format!("it ends inside its head, after {}", number(answer.len(), "byte")));
    };
    let mut lines = ResponseLines::new();
    let head =
        parse_scanned_response(head, false, &scanner, &mut lines).map_err(|error| error.to_string())?;
    match head.framing {
        Framing::Length(length) if length == body.len() as u64 => {
            let mut media = head.fields.values("content-type");
            let is_text = media.next().is_some_and(|media| media.starts_with(b"text/plain"));
            Ok(Answer { status: head.status, is_text, body: body.to_vec() })
        }
        framing => Err(format!("its body has {} bytes, announced as {framing:?}", body.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_exactly_the_body_that_was_announced() {
        let answer = |body: &str| {
            parsed(format!("HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\n{body}").as_bytes())
        };
        assert_eq!(answer("{}"), Ok(Answer { status: 409, is_text: false, body: b"{}".to_vec() }));
        assert_eq!(answer("{"), Err("its body has 1 bytes, announced as Length(2)".to_owned()));
        assert_eq!(answer("{}}"), Err("its body has 3 bytes, announced as Length(2)".to_owned()));
    }

    #[test]
    fn says_what_was_found_instead_of_an_answer() {
        assert_eq!(parsed(b""), Err("it ends inside its head, after 0 bytes".to_owned()));
        assert_eq!(parsed(b"HTTP/1.1 200 OK\r\n"), Err("it ends inside its head, after 17 bytes".to_owned()));
        assert!(parsed(b"SSH-2.0-OpenSSH_9.2\r\n\r\n").is_err());
    }
}
