//! TLS behind one small stream type of ours, and the alert for a name that we do not serve. How rustls is driven, nothing outside this file knows.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::event::{self, PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::time::Timespec;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{HandshakeKind, ProtocolVersion};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::Instant;

pub(crate) use crate::edge::net::hello::{Alert, Asked};
use crate::edge::net::hello::{Unread, in_turn, invalid, is_fallback, read_hello};
use crate::edge::net::records::Records;
use crate::edge::net::send_buffer::{Pending, forward};
use crate::edge::net::socket::offer;
use crate::edge::shared::tls_config::Configs;

/// Largest record on the wire: header, 2^14 bytes, and what TLS 1.2 allows on top (RFC 5246 §6.2.3).
const RECORD_BYTES_MAX: usize = 5 + 16_384 + 2_048;
/// Most plaintext of a record (RFC 8446 §5.1).
const PLAIN_BYTES_MAX: u16 = 16_384;
/// Room for one read of the kernel behind a partial record.
const INCOMING_BYTES: usize = 64 * 1024 + RECORD_BYTES_MAX;
/// Most plaintext that one write takes, and room for its records.
const OUTGOING_PLAIN_BYTES: usize = 80 * 1024;
const OUTGOING_BYTES: usize = OUTGOING_PLAIN_BYTES + 4 * 1024;
/// Most that a record adds to its plaintext: header, nonce and tag of AES-GCM in TLS 1.2 (RFC 5288 §3).
const RECORD_EXTRA_BYTES: u32 = 5 + 8 + 16;
/// What may wait for the next write, to go in one segment with it: tickets, an answer to a KeyUpdate.
const JOINED_BYTES_MAX: usize = 1024;

/// Why a handshake came to nothing.
#[derive(Debug)]
pub(crate) enum Refused<R> {
    /// The chooser's answer; the alert is sent.
    Name(R),
    /// It looks like HTTP in the clear; to be answered in kind.
    PlainHttp(TcpStream),
    /// Not TLS, no common version, a broken peer, or gone. Holds what rustls or the kernel says.
    Handshake(io::Error),
}

/// What every connection of a worker passes through on its way: nothing stays in it between two polls, so that an
/// idle connection owns no buffer.
struct Buffers {
    incoming: Box<[u8]>,
    outgoing: Box<[u8]>,
}

thread_local! {
    /// Steps of handshakes that a worker may take between two looks at the kernel: see [`in_turn`].
    static TURN: Rc<Semaphore> = Rc::new(Semaphore::new(1));
    /// From when on [`Records`] count milliseconds.
    static CLOCK_START: Cell<Instant> = Cell::new(Instant::now());
    static BUFFERS: RefCell<Buffers> = RefCell::new(Buffers {
        incoming: vec![0; INCOMING_BYTES].into_boxed_slice(),
        outgoing: vec![0; OUTGOING_BYTES].into_boxed_slice(),
    });
}

/// A client connection after its TLS handshake.
///
/// Inside is rustls's unbuffered connection: a buffered one keeps a 4 KiB record buffer for life that no call frees.
pub(crate) struct TlsStream {
    io: TcpStream,
    // Boxed: moving 1 KB through every future's state costs more than the pointer.
    tls: Box<UnbufferedServerConnection>,
    /// The beginning of a record whose end has not come yet.
    partial: Box<[u8]>,
    /// Decrypted bytes that did not fit the reader's buffer.
    plain: Pending,
    /// Records that the kernel has not taken yet.
    unsent: Pending,
    /// Most bytes that a write takes; with under 1 KiB of record headers and [`JOINED_BYTES_MAX`], the bound of `unsent`.
    write_bytes_max: u32,
    records: Records,
    /// close_notify or FIN has come, or what came was wrong: nothing more is read.
    ended: bool,
    /// It was close_notify.
    goodbye: bool,
    /// close_notify or a fatal alert is said: nothing more is sealed.
    close_sent: bool,
}

impl TlsStream {
    /// Reads the hello, lets `choose` pick the configuration by what it asks for, and finishes the handshake.
    /// `write_bytes_max` bounds what is held for a client that does not read.
    pub(crate) async fn accept<R, C>(
        mut io: TcpStream,
        write_bytes_max: usize,
        choose: impl FnOnce(&Asked<'_>) -> Result<(Arc<Configs>, C), (Alert, R)>,
    ) -> Result<(Self, C), Refused<R>> {
        let (accepted, hello) = match read_hello(&mut io).await {
            Ok(hello) => hello,
            Err(Unread::PlainHttp) => return Err(Refused::PlainHttp(io)),
            Err(Unread::Io(error)) => return Err(Refused::Handshake(error)),
        };
        let (configs, chosen) = match choose(&Asked::by(&accepted.client_hello())) {
            Ok(chosen) => chosen,
            Err((alert, reason)) => {
                let _ = io.write_all(&alert.record()).await;
                let _ = io.shutdown().await;
                return Err(Refused::Name(reason));
            }
        };
        if is_fallback(accepted.client_hello().cipher_suites()) {
            let _ = io.write_all(&Alert::InappropriateFallback.record()).await;
            let _ = io.shutdown().await;
            return Err(Refused::Handshake(invalid(
                "a ClientHello that fell back from a newer version to TLS 1.2",
            )));
        }
        let config = Arc::clone(configs.for_hello(accepted.client_hello().cipher_suites(), &hello));
        drop((accepted, configs));
        let tls = UnbufferedServerConnection::new(config).map_err(|e| Refused::Handshake(invalid(e)))?;
        let mut client = Self {
            io,
            tls: Box::new(tls),
            partial: Box::default(),
            plain: Pending::default(),
            unsent: Pending::default(),
            write_bytes_max: write_bytes_max.min(OUTGOING_PLAIN_BYTES) as u32, // lossless: it is 80 KiB
            records: Records::new(PLAIN_BYTES_MAX),
            ended: false,
            goodbye: false,
            close_sent: false,
        };
        client.handshake(hello).await.map_err(Refused::Handshake)?;
        Ok((client, chosen))
    }

    /// Bounds the plaintext of each record of application data, but not of the handshake.
    pub(crate) fn bound_records(&mut self, bytes_max: u16) {
        self.records = Records::new(bytes_max);
        // What the headers of more records add, a write takes less.
        let more = |bytes: u32| bytes / u32::from(bytes_max).max(1) - bytes / u32::from(PLAIN_BYTES_MAX);
        self.write_bytes_max -= more(self.write_bytes_max) * RECORD_EXTRA_BYTES;
    }

    async fn handshake(&mut self, mut hello: Vec<u8>) -> io::Result<()> {
        let processed = in_turn(&TURN, |cx| {
            let processed = self.process(&mut hello, &mut [])?;
            // At once: signed for and then sent away in the yield would be for nothing.
            if let Poll::Ready(sent) = self.poll_flush(cx) {
                sent?;
            }
            Ok(processed)
        })
        .await;
        let (used, _) = self.or_alert(processed).await?;
        self.partial = hello.get(used..).unwrap_or_default().into();
        drop(hello);
        loop {
            // What is unsent then, tickets above all, goes in one segment with the first answer, or when there is
            // nothing to read.
            if !self.tls.is_handshaking() {
                return Ok(());
            }
            poll_fn(|cx| self.poll_flush(cx)).await?;
            // Only here: a client may say its first request and its close_notify in one breath with Finished.
            if self.ended {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            // Before the turn: who has nothing to say holds nobody up.
            self.io.readable().await?;
            if let Poll::Ready(result) = in_turn(&TURN, |cx| self.poll_records(cx, &mut [])).await {
                result?;
            }
        }
    }

    /// Sends the alert that goes with an error of the first step, then gives the error back.
    async fn or_alert<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        if result.is_err() {
            // rustls says none where no suite and signature goes with the key.
            if self.unsent.is_empty() {
                self.unsent.push(&Alert::HandshakeFailure.record());
            }
            let _ = poll_fn(|cx| self.poll_flush(cx)).await;
        }
        result
    }

    /// Reads decrypted bytes; 0 is the peer's close, with or without close_notify: for framed messages and
    /// WebSockets a truncation shows in the message itself.
    #[inline]
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let held = self.plain.take(buffer);
            if held > 0 || self.ended || buffer.is_empty() {
                return Poll::Ready(Ok(held));
            }
            let count = ready!(self.poll_records(cx, buffer))?;
            if count > 0 {
                return Poll::Ready(Ok(count));
            }
        }
    }

    /// After the handshake: whether it is TLS 1.3, the group of its key exchange (0: there was none) and whether a session is resumed.
    pub(crate) fn negotiated(&self) -> (bool, u16, bool) {
        (
            self.tls.protocol_version() == Some(ProtocolVersion::TLSv1_3),
            self.tls.negotiated_key_exchange_group().map_or(0, |group| group.name().into()),
            self.tls.handshake_kind() == Some(HandshakeKind::Resumed),
        )
    }

    /// Whether close_notify has come: what was said before it was all. By itself it closes one direction only (RFC 8446 §6.1).
    pub(crate) fn said_goodbye(&self) -> bool {
        self.goodbye
    }

    /// Ready once the peer is gone, or says more after its close_notify.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.io).poll_read(cx, &mut ReadBuf::new(&mut [0])).map(drop)
    }

    /// Takes bytes to be encrypted, unless much is unsent; those taken may still be so: see [`Self::poll_flush`].
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.unsent.len() > JOINED_BYTES_MAX {
            ready!(self.poll_flush(cx))?;
        }
        if self.close_sent {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let taken = bytes.get(..self.write_bytes_max as usize).unwrap_or(bytes);
        let mut records = self.records;
        records.begin(taken.len(), now_ms);
        self.seal(cx, |traffic, outgoing| {
            let (mut rest, mut end) = (taken, 0);
            while !rest.is_empty() {
                let (record, later) = rest.split_at(records.next(rest.len()));
                end += traffic.encrypt(record, outgoing.get_mut(end..).unwrap_or_default())?;
                rest = later;
            }
            Ok(end)
        })?;
        self.records = records;
        if let Poll::Ready(sent) = self.poll_flush(cx) {
            sent?;
        }
        Poll::Ready(Ok(taken.len()))
    }

    /// Ready when the kernel has everything.
    #[inline]
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unsent.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let io = &mut self.io;
        self.unsent.poll_drain(|bytes| write(io, cx, bytes)).map_ok(drop)
    }

    /// Bytes of records that the kernel has not taken.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.unsent.len()
    }

    /// Offers the kernel what is unsent though it has not asked for more: it does so only once a third of its buffer
    /// is free, megabytes for a client that had been fast. What it takes, a client has read that reads slowly.
    pub(crate) fn nudge(&mut self) {
        let io = self.io.as_fd();
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let _ = self.unsent.poll_drain(|bytes| match rustix::net::send(io, bytes, flags) {
            Err(Errno::AGAIN) => Poll::Pending,
            sent => Poll::Ready(Ok(sent?)),
        });
    }

    /// Whether all that the kernel took is on the wire, as far as the client's window and the network allowed. Costs
    /// three calls: the kernel counts for this option what it has not sent, and poll(2) then tells whether that is any.
    pub(crate) fn kernel_has_sent_all(&self) -> bool {
        let socket = SockRef::from(&self.io);
        if socket.set_tcp_notsent_lowat(1).is_err() {
            return true; // before Linux 3.12
        }
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let writable = event::poll(&mut [PollFd::new(&self.io, PollFlags::OUT)], Some(&now));
        let _ = socket.set_tcp_notsent_lowat(0); // the system's own again
        writable != Ok(0)
    }

    /// Our end of the connection.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// Sends close_notify and FIN.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.close_sent {
            self.close_sent = true;
            self.seal(cx, |traffic, outgoing| traffic.queue_close_notify(outgoing))?;
        }
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    /// Reads once from the kernel and opens the records that are complete; bytes of plaintext put into `plain`.
    #[inline]
    fn poll_records(&mut self, cx: &mut Context<'_>, plain: &mut [u8]) -> Poll<io::Result<usize>> {
        BUFFERS.with_borrow_mut(|buffers| {
            let front = self.partial.len();
            // No more than the reader can take, but always room for a whole record.
            let most = front.saturating_add(plain.len().max(RECORD_BYTES_MAX));
            let room = buffers.incoming.len().min(most);
            let mut read = ReadBuf::new(buffers.incoming.get_mut(front..room).unwrap_or_default());
            if Pin::new(&mut self.io).poll_read(cx, &mut read)?.is_pending() {
                // Tickets and the like have waited for an answer to go with; none is coming now.
                ready!(self.poll_flush(cx))?;
                return Poll::Pending;
            }
            let count = read.filled().len();
            if count == 0 {
                self.ended = true;
                return Poll::Ready(Ok(0));
            }
            let records = buffers.incoming.get_mut(..front + count).unwrap_or_default();
            records.get_mut(..front).unwrap_or_default().copy_from_slice(&self.partial);
            let processed = self.process(records, plain);
            if processed.is_err() {
                let _ = self.poll_flush(cx); // the alert: nobody comes back for it
            }
            let (used, opened) = processed?;
            // Also after the handshake: a message over many records is held until its end.
            let rest = records.get(used..).filter(|_| !self.ended).unwrap_or_default();
            if rest.len() >= RECORD_BYTES_MAX {
                (self.ended, self.close_sent) = (true, true);
                return Poll::Ready(Err(invalid("a handshake message longer than any client sends")));
            }
            self.partial = rest.into();
            Poll::Ready(Ok(opened))
        })
    }

    /// Lets rustls work through `records`: plaintext goes to `plain`, and where that is full to `self.plain`; what
    /// rustls wants to say goes to `unsent`. Returns bytes of `records` used, and bytes put into `plain`.
    fn process(&mut self, records: &mut [u8], plain: &mut [u8]) -> io::Result<(usize, usize)> {
        let (mut used, mut opened) = (0, 0);
        // rustls has encoded something, and not been told yet that it is on its way.
        let mut encoded = false;
        loop {
            let UnbufferedStatus { mut discard, state } =
                self.tls.process_tls_records(records.get_mut(used..).unwrap_or_default());
            let (mut opens, mut is_idle) = (false, false);
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    opens = true;
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(invalid)?;
                        discard += record.discard;
                        let room = plain.get_mut(opened..).unwrap_or_default();
                        let (now, later) = record.payload.split_at(record.payload.len().min(room.len()));
                        room.get_mut(..now.len()).unwrap_or_default().copy_from_slice(now);
                        opened += now.len();
                        self.plain.push(later);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(&mut data, &mut self.unsent)?;
                    encoded = true;
                }
                Ok(ConnectionState::TransmitTlsData(transmit)) => {
                    transmit.done(); // it waits in `unsent`, which is sent before anything else
                    encoded = false;
                }
                Ok(ConnectionState::PeerClosed) => (self.ended, self.goodbye) = (true, true),
                Ok(ConnectionState::WriteTraffic(_) | ConnectionState::BlockedHandshake) => is_idle = true,
                Ok(ConnectionState::Closed) => (self.ended, is_idle) = (true, true),
                Ok(_) => return Err(invalid("early data, which was never offered")),
                Err(error) => {
                    self.queue_alert();
                    return Err(invalid(error));
                }
            }
            used += discard;
            // Behind the last record rustls has nothing to add but what it wants to write: it need not be asked again.
            is_idle |= opens && !encoded && used >= records.len() && !self.tls.wants_write();
            if is_idle {
                return Ok((used, opened));
            }
        }
    }

    /// After an error rustls still has its alert to say. Asked for more than that, it would read the records that it
    /// refused once more.
    fn queue_alert(&mut self) {
        (self.ended, self.close_sent) = (true, true);
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

    /// Makes records and hands them to the kernel; keeps what it does not take.
    fn seal(
        &mut self,
        cx: &mut Context<'_>,
        make: impl FnOnce(&mut WriteTraffic<'_, ServerConnectionData>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> io::Result<()> {
        // Not with nothing: the partial record may hold a fragment of a handshake message; see `queue_alert`.
        let mut partial = std::mem::take(&mut self.partial).into_vec();
        let sealed = self.seal_beside(&mut partial, cx, make);
        self.partial = partial.into_boxed_slice();
        sealed
    }

    fn seal_beside(
        &mut self,
        partial: &mut Vec<u8>,
        cx: &mut Context<'_>,
        make: impl FnOnce(&mut WriteTraffic<'_, ServerConnectionData>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> io::Result<()> {
        if self.tls.wants_write() {
            let (used, _) = self.process(partial, &mut [])?;
            partial.drain(..used.min(partial.len()));
        }
        let Ok(ConnectionState::WriteTraffic(mut traffic)) = self.tls.process_tls_records(partial).state
        else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        BUFFERS.with_borrow_mut(|buffers| {
            let count = make(&mut traffic, &mut buffers.outgoing).map_err(invalid)?;
            let records = buffers.outgoing.get(..count).unwrap_or_default();
            match forward(&mut self.unsent, records, |bytes| write(&mut self.io, cx, bytes)) {
                Poll::Ready(result) => result,
                Poll::Pending => Ok(()),
            }
        })
    }
}

#[inline]
fn write(io: &mut TcpStream, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    match offer(bytes, |bytes| io.try_write(bytes)) {
        Poll::Pending => Pin::new(io).poll_write(cx, bytes),
        written => written,
    }
}

/// The time for [`Records`]: a session stays on its worker, and so with one clock.
fn now_ms() -> u32 {
    CLOCK_START.get().elapsed().as_millis() as u32 // wraps around
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

    /// Serves a client that reads record by record; `write` writes what it reads. Lengths of the records' plaintext.
    fn lengths(
        version: &'static rustls::SupportedProtocolVersion,
        bytes_max: Option<u16>,
        writes: &[Write],
    ) -> Vec<usize> {
        use std::io::Read;

        use rustls::pki_types::{PrivateKeyDer, ServerName};
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let own = rcgen::generate_simple_self_signed(["recre.store".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
        let key = rustls::sign::CertifiedKey::new(vec![own.cert.der().clone()], key);
        // It sends no tickets.
        let configs = Arc::new(Configs::for_challenge(&Arc::new(key)).unwrap());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(own.cert.der().clone()).unwrap();
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![crate::bundle::alpn::PROTOCOL.to_vec()];

        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let name = ServerName::try_from("recre.store").unwrap();
        let client = std::thread::spawn(move || {
            let mut tls = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            let mut lengths = Vec::new();
            loop {
                while tls.wants_write() {
                    tls.write_tls(&mut stream).unwrap();
                }
                let mut record = vec![0; 5];
                if stream.read_exact(&mut record).is_err() {
                    return lengths;
                }
                record.resize(5 + usize::from(u16::from_be_bytes([record[3], record[4]])), 0);
                stream.read_exact(&mut record[5..]).unwrap();
                let mut rest = &record[..];
                while !rest.is_empty() {
                    tls.read_tls(&mut rest).unwrap();
                }
                let length = tls.process_new_packets().unwrap().plaintext_bytes_to_read();
                let mut piece = vec![0; length];
                tls.reader().read_exact(&mut piece).unwrap();
                assert!(piece.iter().all(|byte| *byte == b'x'));
                lengths.extend((length > 0).then_some(length));
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            listener.set_nonblocking(true).unwrap();
            let (stream, _) = tokio::net::TcpListener::from_std(listener).unwrap().accept().await.unwrap();
            let (mut server, ()) =
                TlsStream::accept(stream, 64 * 1024, |_| Ok::<_, (Alert, ())>((Arc::clone(&configs), ())))
                    .await
                    .unwrap();
            if let Some(bytes) = bytes_max {
                server.bound_records(bytes);
            }
            for write in writes {
                match write {
                    Write::Bytes(count) => {
                        let all = vec![b'x'; *count];
                        let mut rest = &all[..];
                        while !rest.is_empty() {
                            let taken = poll_fn(|cx| server.poll_write(cx, rest)).await.unwrap();
                            rest = &rest[taken..];
                        }
                    }
                    Write::Pause(ms) => {
                        CLOCK_START.set(CLOCK_START.get() - std::time::Duration::from_millis(*ms))
                    }
                }
            }
            poll_fn(|cx| server.poll_shutdown(cx)).await.unwrap();
        });
        client.join().unwrap()
    }

    enum Write {
        Bytes(usize),
        /// So many milliseconds pass.
        Pause(u64),
    }

    #[test]
    fn records_on_the_wire_are_short_first_and_again_after_a_pause() {
        use rustls::version::{TLS12, TLS13};
        let short = |count| vec![1_300; count];
        for version in [&TLS12, &TLS13] {
            let writes = [
                Write::Bytes(50_000),
                Write::Bytes(20_000),
                Write::Pause(1_000),
                Write::Bytes(1_300),
                Write::Bytes(5_000),
                Write::Bytes(40_000),
            ];
            let wanted = [
                short(26),
                vec![16_200], // 50,000 in all
                vec![16_384, 3_616],
                vec![1_300],
                short(3),
                vec![1_100],
                short(23),
                vec![10_100],
            ];
            assert_eq!(lengths(version, None, &writes), wanted.concat(), "{version:?}");
        }
    }

    #[test]
    fn records_on_the_wire_are_bounded() {
        use rustls::version::{TLS12, TLS13};
        for version in [&TLS12, &TLS13] {
            for bytes_max in [512, 513] {
                // A write takes less than 64 KiB, so that records and headers are no more than with long records.
                let taken = 64 * 1024 - (64 * 1024 / u32::from(bytes_max) - 4) * RECORD_EXTRA_BYTES;
                let full = usize::from(bytes_max);
                let mut wanted = Vec::new();
                for bytes in [taken as usize, 70_000 - taken as usize] {
                    wanted.extend(vec![full; bytes / full]);
                    wanted.extend((bytes % full > 0).then_some(bytes % full));
                }
                let found = lengths(version, Some(bytes_max), &[Write::Bytes(70_000)]);
                assert_eq!(found, wanted, "{version:?}, {bytes_max}");
            }
            let mut wanted = vec![1_300; 26];
            wanted.extend([16_384, 15_352, 4_464]); // 64 KiB in one write, then the rest
            assert_eq!(lengths(version, Some(16_384), &[Write::Bytes(70_000)]), wanted, "{version:?}");
        }
    }

    #[test]
    fn the_records_of_a_write_always_have_room() {
        for bytes_max in 512..=16_384_u32 {
            let most = OUTGOING_PLAIN_BYTES as u32;
            let taken = most - (most / bytes_max - most / 16_384) * RECORD_EXTRA_BYTES;
            let records = taken / bytes_max + 1 + if bytes_max > 1_300 { 26 } else { 0 };
            assert!(taken + records * RECORD_EXTRA_BYTES <= OUTGOING_BYTES as u32 - 1_024, "{bytes_max}");
        }
    }
}
