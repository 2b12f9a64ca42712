//! WebSocket frames (RFC 6455 §5.2), written and read in the plainest way: a test of the edge's own reader must not
//! lean on it.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use super::raw::Raw;
use super::upstream::{Connection, Upstream};

pub const MORE: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xA;
/// Beside an opcode: compressed.
pub const RSV1: u8 = 0x40;

/// The masking key of [`client_frame`].
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// FIN, reserved bits and opcode.
    pub first: u8,
    pub masked: bool,
    /// Unmasked.
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn opcode(&self) -> u8 {
        self.first & 0xF
    }

    /// Code and reason of a Close.
    pub fn close(&self) -> (u16, String) {
        assert_eq!(
            (self.first, self.payload.len() >= 2),
            (0x80 | CLOSE, true),
            "a Close with a code: {self:?}"
        );
        let code = u16::from_be_bytes([self.payload[0], self.payload[1]]);
        (code, String::from_utf8(self.payload[2..].to_vec()).unwrap())
    }
}

/// A frame of a client; `opcode` may have reserved bits beside it.
pub fn client_frame(opcode: u8, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(opcode, fin, payload.len(), true);
    frame.extend(KEY);
    frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// A frame of a server.
pub fn server_frame(opcode: u8, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(opcode, fin, payload.len(), false);
    frame.extend(payload);
    frame
}

/// The payload of a Close.
pub fn close(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

fn header(opcode: u8, fin: bool, length: usize, masked: bool) -> Vec<u8> {
    let mask = if masked { 0x80 } else { 0 };
    let mut header = vec![if fin { 0x80 } else { 0 } | opcode];
    match length {
        0..126 => header.push(mask | length as u8),
        126..65_536 => {
            header.push(mask | 126);
            header.extend((length as u16).to_be_bytes());
        }
        _ => {
            header.push(mask | 127);
            header.extend((length as u64).to_be_bytes());
        }
    }
    header
}

/// Bytes of the frame at the start of `bytes`: of its header, of its payload. `None`: more are wanted.
fn sizes(bytes: &[u8]) -> Option<(usize, usize)> {
    let second = *bytes.get(1)?;
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    Some(match second & 0x7F {
        126 => (4 + mask, u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap()).into()),
        127 => (10 + mask, u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()) as usize),
        short => (2 + mask, short.into()),
    })
}

/// Takes the first frame off `bytes`. `None`: more are wanted.
pub fn take(bytes: &mut Vec<u8>) -> Option<Frame> {
    let (header_bytes, payload_bytes) = sizes(bytes)?;
    if bytes.len() < header_bytes + payload_bytes {
        return None;
    }
    let mut payload = bytes[header_bytes..header_bytes + payload_bytes].to_vec();
    let (first, masked) = (bytes[0], bytes[1] & 0x80 != 0);
    if masked {
        let key = &bytes[header_bytes - 4..header_bytes];
        payload.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
    }
    bytes.drain(..header_bytes + payload_bytes);
    Some(Frame { first, masked, payload })
}

/// All of `bytes` as frames; nothing may be left over.
pub fn frames(bytes: &[u8]) -> Vec<Frame> {
    let mut rest = bytes.to_vec();
    let found = std::iter::from_fn(|| take(&mut rest)).collect();
    assert!(rest.is_empty(), "{} bytes of an unfinished frame", rest.len());
    found
}

/// The next frame that the edge sends.
pub async fn frame<S: AsyncRead + AsyncWrite + Unpin>(client: &mut Raw<S>) -> Frame {
    let mut bytes = client.exactly(2).await;
    let more = match bytes[1] & 0x7F {
        126 => 2,
        127 => 8,
        _ => 0,
    } + if bytes[1] & 0x80 == 0 { 0 } else { 4 };
    bytes.extend(client.exactly(more).await);
    let (_, payload_bytes) = sizes(&bytes).unwrap();
    bytes.extend(client.exactly(payload_bytes).await);
    take(&mut bytes).unwrap()
}

/// A frame through an open WebSocket to an upstream that echoes comes back.
pub async fn assert_echoes<S: AsyncRead + AsyncWrite + Unpin>(client: &mut Raw<S>) {
    client.send(client_frame(BINARY, true, b"still here")).await;
    assert_eq!(
        frame(client).await,
        Frame { first: 0x80 | BINARY, masked: false, payload: b"still here".to_vec() }
    );
}

/// Sends every frame back, unmasked and otherwise as it came, until the edge closes.
pub async fn echo(mut connection: Connection) {
    loop {
        let mut back = Vec::new();
        while let Some(frame) = take(&mut connection.buffer) {
            back.extend(server_frame(frame.first & 0x7F, frame.first & 0x80 != 0, &frame.payload));
        }
        if !back.is_empty() && !connection.send(back).await {
            return;
        }
        if connection.more().await.is_none() {
            return;
        }
    }
}

/// The next frame that the edge sends to this connection; `None` at its end.
pub async fn received(connection: &mut Connection) -> Option<Frame> {
    loop {
        if let Some(frame) = take(&mut connection.buffer) {
            return Some(frame);
        }
        connection.more().await?;
    }
}

/// An upstream that answers a client's Close only once there is a permit for it, and then ends.
pub async fn closes_late() -> (Upstream, Arc<Semaphore>) {
    let go = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&go);
    let upstream = Upstream::switching(move |mut connection| {
        let gate = Arc::clone(&gate);
        async move {
            let asked = received(&mut connection).await.unwrap();
            gate.acquire().await.unwrap().forget();
            connection.send(server_frame(CLOSE, true, &asked.payload)).await;
            connection.finish().await;
            connection.until_closed().await;
        }
    })
    .await;
    (upstream, go)
}
