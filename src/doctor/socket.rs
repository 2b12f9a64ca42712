//! A WebSocket after its handshake: sends and receives texts, and checks the first frame against the negotiated compression.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt as _;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

use super::connection::{ANSWER_TIME, Connector};

/// Largest WebSocket message that is read: an app may send its whole state first, and a board has memory for one such message.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Bytes of the first message that are needed; the rest of a longer one is not read.
const BEGINNING_BYTES_MAX: usize = 4096;
/// Limit for the first message, which a server sends at once.
const FIRST_TIME: Duration = Duration::from_secs(4);
/// Longest status line that is shown as evidence.
const LINE_CHARS_MAX: usize = 60;
/// The first byte of a compressed text: RSV1 marks it (RFC 7692 §6), FIN may be there or not.
const COMPRESSED_TEXT: u8 = 0x41;
const FIN: u8 = 0x80;
/// Payload of a Ping, which its Pong repeats.
const PING: &[u8] = b"sanedge";

/// A WebSocket after its handshake.
pub(super) struct Socket {
    stream: WebSocketStream<TokioIo<Upgraded>>,
    beginning: Beginning,
    /// The line of HTTP that came instead of a frame.
    line: String,
}

/// The first frame if compression was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beginning {
    /// Compression was not offered, or the first message is not compressed.
    Usual,
    /// Compressed, as negotiated: this client does not read further.
    Compressed,
    /// Compressed, although the 101 did not negotiate it.
    Unagreed,
    /// Another answer in HTTP, after the 101.
    Http,
    /// Nothing came.
    Silent,
}

/// What a WebSocket received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Text(String),
    /// A compressed message, as negotiated.
    Compressed,
    /// A compressed message, although the handshake did not negotiate it.
    Unagreed,
    /// The first line of another answer in HTTP, after the 101.
    Http(String),
    /// A Close frame, with code and reason if it had any.
    Closed(String),
    /// The connection ended without a Close frame.
    Cut(String),
    /// Not a frame that a server may send (RFC 6455 §5).
    Damaged(String),
    /// The answer to a Ping.
    Pong,
    Nothing,
}

impl Socket {
    /// If compression was `offered`, checks the first frame before tungstenite, which does not support compression, reads it.
    pub(super) async fn new(connector: &Connector, upgraded: Upgraded, offered: bool, agreed: bool) -> Self {
        let config = Some(WebSocketConfig::default().max_message_size(Some(MESSAGE_BYTES_MAX)));
        let mut io = TokioIo::new(upgraded);
        let mut first = Vec::with_capacity(BEGINNING_BYTES_MAX);
        let mut waited = Ok(Ok(0));
        if offered {
            waited = connector
                .in_time(FIRST_TIME, (&mut io).take(BEGINNING_BYTES_MAX as u64).read_buf(&mut first))
                .await;
        }
        let line = http_line(&first);
        let beginning = match first.first() {
            _ if line.is_some() => Beginning::Http,
            Some(byte) if is_compressed_text(*byte) && agreed => Beginning::Compressed,
            Some(byte) if is_compressed_text(*byte) => Beginning::Unagreed,
            _ if waited.is_err() => Beginning::Silent,
            _ => Beginning::Usual,
        };
        let stream = WebSocketStream::from_partially_read(io, first, Role::Client, config).await;
        Self { stream, beginning, line: line.unwrap_or_default() }
    }

    /// For the journal.
    pub(super) fn shown(&self) -> &'static str {
        match self.beginning {
            Beginning::Usual => "101",
            Beginning::Silent => "101, and nothing after it",
            Beginning::Http => "101, and a second answer in HTTP",
            Beginning::Compressed => "101, and a compressed message",
            Beginning::Unagreed => "101 without Sec-WebSocket-Extensions, and a compressed message",
        }
    }

    /// Whether texts can be received.
    pub(super) fn is_readable(&self) -> bool {
        self.beginning == Beginning::Usual
    }

    /// The next text within `time`.
    pub(super) async fn hear(&mut self, connector: &Connector, time: Duration) -> Heard {
        match self.beginning {
            Beginning::Compressed => Heard::Compressed,
            Beginning::Unagreed => Heard::Unagreed,
            Beginning::Http => Heard::Http(self.line.clone()),
            Beginning::Silent => Heard::Nothing,
            Beginning::Usual => connector.deadline.wait(time, self.next()).await.unwrap_or(Heard::Nothing),
        }
    }

    /// Sends a text. A failure shows as a close at the next receive.
    pub(super) async fn say(&mut self, connector: &Connector, text: &str) {
        let _ = connector.in_time(ANSWER_TIME, self.stream.send(Message::text(text))).await;
    }

    /// Closes it as a client does.
    pub(super) async fn close(mut self, connector: &Connector) {
        self.say(connector, "1").await;
        let _ = connector.in_time(Duration::from_secs(1), self.stream.close(None)).await;
    }

    /// Whether a Ping is answered within `time` (RFC 6455 §5.5.3), which shows that frames of this client arrive.
    pub(super) async fn answers_ping(&mut self, connector: &Connector, time: Duration) -> bool {
        let _ = connector.in_time(ANSWER_TIME, self.stream.send(Message::Ping(PING.into()))).await;
        let pong = async {
            loop {
                match self.next().await {
                    Heard::Pong => return true,
                    Heard::Text(_) => {}
                    _ => return false,
                }
            }
        };
        connector.deadline.wait(time, pong).await.unwrap_or(false)
    }

    async fn next(&mut self) -> Heard {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => return Heard::Text(text.as_str().to_owned()),
                Some(Ok(Message::Close(frame))) => {
                    let said = frame.map(|frame| format!("Close {} {}", u16::from(frame.code), frame.reason));
                    return Heard::Closed(said.unwrap_or_else(|| "Close without a code".to_owned()));
                }
                Some(Ok(Message::Pong(payload))) if payload.as_ref() == PING => return Heard::Pong,
                Some(Ok(_)) => {}
                Some(Err(error)) => return broken(&error),
                None => return Heard::Cut("the connection ended without a Close".to_owned()),
            }
        }
    }
}

fn is_compressed_text(byte: u8) -> bool {
    byte & !FIN == COMPRESSED_TEXT
}

fn broken(error: &Error) -> Heard {
    match error {
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Heard::Cut(error.to_string()),
        Error::Protocol(_) | Error::Utf8(_) | Error::Capacity(_) => Heard::Damaged(error.to_string()),
        _ => Heard::Cut(error.to_string()),
    }
}

/// A status line among the first bytes: a frame that has one is of no Engine.IO packet either.
fn http_line(first: &[u8]) -> Option<String> {
    let at = first.windows(7).position(|bytes| bytes == b"HTTP/1.")?;
    let line = first.get(at..)?.split(|byte| matches!(byte, b'\r' | b'\n')).next()?;
    Some(String::from_utf8_lossy(line).chars().take(LINE_CHARS_MAX).collect())
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Socket")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compressed_text_is_told_from_a_damaged_frame() {
        assert!(is_compressed_text(0xc1) && is_compressed_text(0x41));
        // 0x81 is a plain text; the others have reserved bits or opcodes that no extension of ours gives a meaning.
        for byte in [0x81, 0x01, 0xf1, 0xe1, 0xc2, 0x76] {
            assert!(!is_compressed_text(byte), "{byte:#x}");
        }
    }

    #[test]
    fn a_cut_is_told_from_damage() {
        let cut = Error::Protocol(ProtocolError::ResetWithoutClosingHandshake);
        assert!(matches!(broken(&cut), Heard::Cut(_)));
        assert!(matches!(broken(&Error::Protocol(ProtocolError::NonZeroReservedBits)), Heard::Damaged(_)));
        assert!(matches!(broken(&Error::Io(std::io::ErrorKind::ConnectionReset.into())), Heard::Cut(_)));
    }

    #[test]
    fn a_second_answer_is_distinguished_from_frames() {
        let bad = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
        assert_eq!(http_line(bad).as_deref(), Some("HTTP/1.1 400 Bad Request"));
        let open = b"\x81\x0e0{\"sid\":\"abc\"}";
        assert_eq!(http_line(open), None);
        assert_eq!(http_line(&[open, &bad[..]].concat()).as_deref(), Some("HTTP/1.1 400 Bad Request"));
        assert_eq!(http_line(b"HTTP/1"), None);
        assert_eq!(http_line(b""), None);
    }
}
