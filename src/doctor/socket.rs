//! A WebSocket after its handshake, as far as a first meeting needs: texts in and out, and whether frames are as agreed.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt as _;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

use super::connection::{ANSWER_TIME, Connector};

/// Largest WebSocket message that is read.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// The first message comes at once; of a bigger one the beginning says enough.
const BEGINNING_BYTES_MAX: usize = 4096;
/// For the first message, which the server owes at once.
const FIRST_TIME: Duration = Duration::from_secs(4);
/// RSV1 marks a compressed message (RFC 7692 §6).
const RSV1: u8 = 0x40;

/// A WebSocket after its handshake.
pub(super) struct Socket {
    stream: WebSocketStream<TokioIo<Upgraded>>,
    beginning: Beginning,
}

/// The first frame, where compression was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beginning {
    /// Compression was not offered, or the first message is not compressed.
    Usual,
    /// Compressed, as agreed: this client does not read further.
    Compressed,
    /// Compressed, though the answer does not say that it would be.
    Unagreed,
    /// Nothing came.
    Silent,
}

/// What came through a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Text(String),
    /// A message that is compressed, as agreed.
    Compressed,
    /// A message that is compressed, which the handshake did not agree on.
    Unagreed,
    /// Closed, with code and reason where there were any.
    Closed(String),
    Nothing,
}

impl Socket {
    /// Where compression was `offered` the first frame is looked at before tungstenite, which knows no compression, reads it.
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
        let beginning = match first.first() {
            Some(byte) if byte & RSV1 != 0 && agreed => Beginning::Compressed,
            Some(byte) if byte & RSV1 != 0 => Beginning::Unagreed,
            _ if waited.is_err() => Beginning::Silent,
            _ => Beginning::Usual,
        };
        let stream = WebSocketStream::from_partially_read(io, first, Role::Client, config).await;
        Self { stream, beginning }
    }

    /// For the journal.
    pub(super) fn shown(&self) -> &'static str {
        match self.beginning {
            Beginning::Usual => "101",
            Beginning::Silent => "101, and nothing after it",
            Beginning::Compressed => "101, and a compressed message",
            Beginning::Unagreed => "101 without Sec-WebSocket-Extensions, and a compressed message",
        }
    }

    /// Whether texts can be read from it.
    pub(super) fn is_readable(&self) -> bool {
        self.beginning == Beginning::Usual
    }

    /// The next text within `time`.
    pub(super) async fn hear(&mut self, connector: &Connector, time: Duration) -> Heard {
        match self.beginning {
            Beginning::Compressed => Heard::Compressed,
            Beginning::Unagreed => Heard::Unagreed,
            Beginning::Silent => Heard::Nothing,
            Beginning::Usual => connector.deadline.wait(time, self.next()).await.unwrap_or(Heard::Nothing),
        }
    }

    /// Sends a text; what fails here is heard as a close.
    pub(super) async fn say(&mut self, connector: &Connector, text: &str) {
        let _ = connector.in_time(ANSWER_TIME, self.stream.send(Message::text(text))).await;
    }

    /// Says farewell as a client does.
    pub(super) async fn close(mut self, connector: &Connector) {
        self.say(connector, "1").await;
        let _ = connector.in_time(Duration::from_secs(1), self.stream.close(None)).await;
    }

    async fn next(&mut self) -> Heard {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => return Heard::Text(text.as_str().to_owned()),
                Some(Ok(Message::Close(frame))) => {
                    let said = frame.map(|frame| format!("Close {} {}", u16::from(frame.code), frame.reason));
                    return Heard::Closed(said.unwrap_or_else(|| "Close without a code".to_owned()));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Heard::Closed(error.to_string()),
                None => return Heard::Closed("the connection ended without a Close".to_owned()),
            }
        }
    }
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Socket")
    }
}
