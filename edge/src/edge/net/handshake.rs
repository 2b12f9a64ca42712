//! The handshake of a connection, by rustls. It leaves keys, and the bytes behind its last record. `hello.rs` parses the ClientHello with
//! rustls; nothing else drives it.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{ConnectionTrafficSecrets, ExtractedSecrets, HandshakeKind, ProtocolVersion, ServerConfig};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::edge::net::hello::{in_turn, invalid};
use crate::edge::net::send_buffer::Pending;
use crate::edge::net::socket::write;
use crate::edge::shared::traffic_secrets::{self, TrafficSecrets};
use crate::record::{Aead, Alert, RECORD_BYTES_MAX, RecordLayer, Secrets, Version};

/// One read of the kernel: a client's last flight is shorter.
const READ_BYTES: usize = 4 * 1024;

thread_local! {
    /// Steps of handshakes that a worker may take between two looks at the kernel: see [`in_turn`].
    static TURN: Rc<Semaphore> = Rc::new(Semaphore::new(1));
}

/// A handshake under way.
pub(super) struct Handshake {
    io: TcpStream,
    tls: UnbufferedServerConnection,
    /// Records that rustls has not done with.
    input: Vec<u8>,
    /// So many bytes at the front of `input` rustls has seen: whole records with a part of a message.
    seen: usize,
    /// Records that the kernel has not taken yet.
    unsent: Pending,
    secrets: Option<TrafficSecrets>,
    /// FIN has come, or what came was wrong.
    ended: bool,
}

/// What a handshake leaves.
pub(super) struct Established {
    pub(super) io: TcpStream,
    pub(super) layer: Box<RecordLayer>,
    pub(super) negotiated: Negotiated,
    /// What came behind the last record of the handshake.
    pub(super) input: Vec<u8>,
    /// Tickets above all: they go in one segment with the first answer, or when there is nothing to read.
    pub(super) unsent: Pending,
}

/// For the counters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Negotiated {
    pub(crate) is_tls13: bool,
    /// Of the key exchange; 0: there was none.
    pub(crate) group: u16,
    pub(crate) is_resumed: bool,
}

impl Handshake {
    /// With the records that were read to find the ClientHello.
    pub(super) fn new(io: TcpStream, config: Arc<ServerConfig>, hello: Vec<u8>) -> io::Result<Box<Self>> {
        let tls = UnbufferedServerConnection::new(config).map_err(invalid)?;
        let (unsent, secrets) = (Pending::default(), None);
        Ok(Box::new(Self { io, tls, input: hello, seen: 0, unsent, secrets, ended: false }))
    }

    /// Finishes it.
    pub(super) async fn run(mut self: Box<Self>) -> io::Result<Established> {
        let stepped = in_turn(&TURN, |cx| {
            self.step()?;
            // Before the yield of `in_turn`: if the connection is evicted there, its signature was computed for nothing.
            match self.poll_flush(cx) {
                Poll::Ready(sent) => sent,
                Poll::Pending => Ok(()),
            }
        })
        .await;
        if let Err(error) = stepped {
            // rustls says none where no suite and signature goes with the key.
            if self.unsent.is_empty() {
                self.unsent.push(&Alert::HandshakeFailure.plaintext_record());
            }
            let _ = poll_fn(|cx| self.poll_flush(cx)).await;
            return Err(error);
        }
        while self.tls.is_handshaking() {
            poll_fn(|cx| self.poll_flush(cx)).await?;
            if self.ended {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            // Before the turn: a client that sends nothing delays no other.
            self.io.readable().await?;
            if let Poll::Ready(result) = in_turn(&TURN, |cx| self.poll_step(cx)).await {
                result?;
            }
        }
        self.established()
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let io = &mut self.io;
        self.unsent.poll_drain(|bytes| write(io, cx, bytes)).map_ok(drop)
    }

    /// Reads once, and goes on with what came.
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [0; READ_BYTES];
        let mut read = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut read))?;
        self.ended = read.filled().is_empty();
        self.input.extend_from_slice(read.filled());
        let stepped = self.step();
        if stepped.is_err() {
            let _ = self.poll_flush(cx); // the alert; there is no second try
        }
        Poll::Ready(stepped)
    }

    /// Gives rustls one record after the other and no more, so that what is behind the last one of the handshake is ours to open: rustls
    /// would keep a part of a message there, and take it with it.
    fn step(&mut self) -> io::Result<()> {
        while self.tls.is_handshaking() {
            let rest = self.input.get(self.seen..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            let whole = record_bytes(rest).filter(|bytes| *bytes <= rest.len());
            // Also a part of a record: its header may be wrong already.
            let end = self.seen + whole.unwrap_or(rest.len());
            let used = self.process(end);
            // In any case, so that none stays for the step of another connection.
            let made = traffic_secrets::take();
            self.secrets = self.secrets.take().or(made);
            let used = used?;
            self.input.drain(..used);
            // What is seen and not used is a part of a message.
            self.seen = if whole.is_some() { end - used } else { self.seen.saturating_sub(used) };
            if whole.is_none() {
                break;
            }
        }
        if self.input.len() >= RECORD_BYTES_MAX && self.tls.is_handshaking() {
            self.ended = true;
            return Err(invalid("a handshake message longer than any client sends"));
        }
        Ok(())
    }

    /// Lets rustls work through the first `end` bytes of the input; how many of them are done with.
    fn process(&mut self, end: usize) -> io::Result<usize> {
        let mut used = 0;
        loop {
            let records = self.input.get_mut(used..end).unwrap_or_default();
            let UnbufferedStatus { discard, state } = self.tls.process_tls_records(records);
            let mut is_idle = false;
            match state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, &mut self.unsent)?,
                Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(), // it waits in `unsent`
                Ok(ConnectionState::WriteTraffic(_) | ConnectionState::BlockedHandshake) => is_idle = true,
                Ok(ConnectionState::PeerClosed) => self.ended = true,
                Ok(ConnectionState::Closed) => (self.ended, is_idle) = (true, true),
                Ok(_) => return Err(invalid("data before the end of the handshake")),
                Err(error) => {
                    self.queue_alert();
                    return Err(invalid(error));
                }
            }
            used += discard;
            if is_idle {
                return Ok(used);
            }
        }
    }

    /// After an error rustls still has its alert to say. Asked for more than that, it would read the records that it
    /// refused once more.
    fn queue_alert(&mut self) {
        self.ended = true;
        while self.tls.wants_write() {
            let Ok(ConnectionState::EncodeTlsData(mut data)) = self.tls.process_tls_records(&mut []).state
            else {
                break;
            };
            if encode(&mut data, &mut self.unsent).is_err() {
                break;
            }
        }
    }

    fn established(self: Box<Self>) -> io::Result<Established> {
        let Self { io, tls, input, unsent, secrets, .. } = *self;
        let negotiated = Negotiated {
            is_tls13: tls.protocol_version() == Some(ProtocolVersion::TLSv1_3),
            group: tls.negotiated_key_exchange_group().map_or(0, |group| group.name().into()),
            is_resumed: tls.handshake_kind() == Some(HandshakeKind::Resumed),
        };
        let layer = Extracted::of(tls, secrets.unwrap_or_default())?.server()?;
        Ok(Established { io, layer: Box::new(layer), negotiated, input, unsent })
    }
}

/// A connection as data.
pub(crate) struct Extracted {
    version: Version,
    secrets: ExtractedSecrets,
    traffic: TrafficSecrets,
}

impl Extracted {
    /// Fails rather than lose what rustls still has to say.
    pub(crate) fn of(tls: UnbufferedServerConnection, traffic: TrafficSecrets) -> io::Result<Self> {
        let is_tls13 = tls.protocol_version() == Some(ProtocolVersion::TLSv1_3);
        let version = if is_tls13 { Version::Tls13 } else { Version::Tls12 };
        let (secrets, _) = tls.dangerous_into_kernel_connection().map_err(invalid)?;
        Ok(Self { version, secrets, traffic })
    }

    /// For the server's end.
    pub(crate) fn server(&self) -> io::Result<RecordLayer> {
        let ((aead, read), (_, write)) = (self.read()?, self.write()?);
        RecordLayer::new(self.version, aead, read, write).map_err(invalid)
    }

    /// For the client's end: the fuzz target's.
    pub(crate) fn client(&self) -> io::Result<RecordLayer> {
        let ((aead, read), (_, write)) = (self.write()?, self.read()?);
        RecordLayer::new(self.version, aead, read, write).map_err(invalid)
    }

    fn read(&self) -> io::Result<(Aead, Secrets<'_>)> {
        parts(&self.secrets.rx, &self.traffic.client)
    }

    fn write(&self) -> io::Result<(Aead, Secrets<'_>)> {
        parts(&self.secrets.tx, &self.traffic.server)
    }
}

fn parts<'a>(
    (sequence, secrets): &'a (u64, ConnectionTrafficSecrets),
    traffic: &'a [u8],
) -> io::Result<(Aead, Secrets<'a>)> {
    let (aead, key, iv) = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Aead::Aes128Gcm, key, iv),
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Aead::Aes256Gcm, key, iv),
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (Aead::Chacha20Poly1305, key, iv),
        _ => return Err(invalid("a suite that the edge does not offer")),
    };
    Ok((aead, Secrets { traffic, key: key.as_ref(), iv: iv.as_ref(), sequence: *sequence }))
}

/// Of the record at the front, once its header is there.
fn record_bytes(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [_, _, _, high, low, ..] => Some(5 + usize::from(u16::from_be_bytes([*high, *low]))),
        _ => None,
    }
}

/// Puts a handshake record or an alert behind what is unsent.
fn encode(data: &mut EncodeTlsData<'_, ServerConnectionData>, unsent: &mut Pending) -> io::Result<()> {
    // Asked with no room, rustls says how much it needs.
    let mut record = Vec::new();
    if let Err(EncodeError::InsufficientSize(needed)) = data.encode(&mut record) {
        record.resize(needed.required_size, 0);
        data.encode(&mut record).map_err(invalid)?;
    }
    unsent.push(&record);
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::task::yield_now;

    use super::*;

    #[test]
    fn one_step_of_all_handshakes_between_two_looks_at_the_kernel() {
        use std::cell::Cell;
        let steps = Rc::new(Cell::new(0));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            for _ in 0..100 {
                let steps = Rc::clone(&steps);
                tokio::task::spawn_local(async move { in_turn(&TURN, |_| steps.set(steps.get() + 1)).await });
            }
            let mut looks = 0;
            while steps.get() < 100 {
                let before = steps.get();
                yield_now().await;
                assert!(steps.get() <= before + 1, "{before} and then {}", steps.get());
                looks += 1;
            }
            assert!(looks < 110, "none is left out while somebody waits: {looks}");
        });
    }
}
