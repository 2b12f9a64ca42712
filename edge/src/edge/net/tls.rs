//! TLS behind one small stream type of ours, and the alert for a name that we do not serve.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::event::{self, PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::time::Timespec;
use serde::{Deserialize, Serialize, Serializer};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

pub(crate) use crate::edge::net::handshake::Negotiated;
use crate::edge::net::handshake::{Established, Handshake};
pub(crate) use crate::edge::net::hello::Asked;
use crate::edge::net::hello::{Unread, invalid, is_fallback, read_hello};
use crate::edge::net::records::Records;
use crate::edge::net::send_buffer::{Pending, forward};
use crate::edge::net::socket::write;
use crate::edge::shared::tls_config::Configs;
pub(crate) use crate::record::Alert;
use crate::record::{
    Answer, Ciphers, Fault, MESSAGE_BYTES_MAX, Opened, PLAIN_BYTES_MAX, RECORD_BYTES_MAX, RECORD_EXTRA_BYTES,
    RecordLayer,
};

/// Room for one read of the kernel behind a partial record.
const INCOMING_BYTES: usize = 64 * 1024 + RECORD_BYTES_MAX;
/// Most plaintext that one write takes, and room for its records.
const OUTGOING_PLAIN_BYTES: usize = 80 * 1024;
const OUTGOING_BYTES: usize = OUTGOING_PLAIN_BYTES + 4 * 1024;
/// What may wait for the next write, to go in one segment with it: tickets, an answer to a KeyUpdate.
const JOINED_BYTES_MAX: usize = 1024;

/// Why a handshake came to nothing.
#[derive(Debug)]
pub(crate) enum Refused<R> {
    /// The chooser's answer; the alert is sent.
    Name(R),
    /// It looks like HTTP in the clear; to be answered in kind.
    PlainHttp(TcpStream),
    /// Not TLS, no common version, a broken peer, or gone. Holds what rustls, the record layer or the kernel says.
    Handshake(io::Error),
}

/// What the connections of a worker share, so that an idle connection owns no buffer: no byte of a connection stays in the first two
/// between two polls.
struct Buffers {
    incoming: Box<[u8]>,
    outgoing: Box<[u8]>,
    ciphers: Ciphers,
}

thread_local! {
    /// From when on [`Records`] count milliseconds.
    static CLOCK_START: Cell<Instant> = Cell::new(Instant::now());
    static BUFFERS: RefCell<Buffers> = RefCell::new(Buffers {
        incoming: vec![0; INCOMING_BYTES].into_boxed_slice(),
        outgoing: vec![0; OUTGOING_BYTES].into_boxed_slice(),
        ciphers: Ciphers::default(),
    });
}

/// A client connection after its TLS handshake: a socket, keys, and what is under way. rustls is gone.
pub(crate) struct TlsStream {
    io: TcpStream,
    layer: Box<RecordLayer>,
    /// The beginning of a record whose end has not come yet.
    partial: Pending,
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
    /// Bytes of `unsent` up to the end of an answer to a KeyUpdate: further ones get none until it is sent (RFC 8446 §4.6.3), so that
    /// `unsent` stays within bounds.
    answer_bytes: u32,
}

impl TlsStream {
    /// Reads the hello, lets `choose` pick the configuration by what it asks for, and finishes the handshake.
    /// `write_bytes_max` bounds what is held for a client that does not read.
    pub(crate) async fn accept<R, C>(
        mut io: TcpStream,
        write_bytes_max: usize,
        choose: impl FnOnce(&Asked<'_>) -> Result<(Arc<Configs>, C), (Alert, R)>,
    ) -> Result<(Self, Negotiated, C), Refused<R>> {
        let (accepted, hello) = match read_hello(&mut io).await {
            Ok(hello) => hello,
            Err(Unread::PlainHttp) => return Err(Refused::PlainHttp(io)),
            Err(Unread::Io(error)) => return Err(Refused::Handshake(error)),
        };
        let (configs, chosen) = match choose(&Asked::by(&accepted.client_hello())) {
            Ok(chosen) => chosen,
            Err((alert, reason)) => {
                let _ = io.write_all(&alert.plaintext_record()).await;
                let _ = io.shutdown().await;
                return Err(Refused::Name(reason));
            }
        };
        if is_fallback(accepted.client_hello().cipher_suites()) {
            let _ = io.write_all(&Alert::InappropriateFallback.plaintext_record()).await;
            let _ = io.shutdown().await;
            return Err(Refused::Handshake(invalid(
                "a ClientHello that fell back from a newer version to TLS 1.2",
            )));
        }
        let config = Arc::clone(configs.for_hello(accepted.client_hello().cipher_suites(), &hello));
        drop((accepted, configs));
        let handshake = Handshake::new(io, config, hello).map_err(Refused::Handshake)?;
        let Established { io, layer, negotiated, mut input, unsent } =
            handshake.run().await.map_err(Refused::Handshake)?;
        let mut client = Self {
            io,
            layer,
            partial: Pending::default(),
            plain: Pending::default(),
            unsent,
            write_bytes_max: write_bytes_max.min(OUTGOING_PLAIN_BYTES) as u32, // lossless: it is 80 KiB
            records: Records::new(PLAIN_BYTES_MAX as u16),                     // lossless: it is 16 KiB
            ended: false,
            goodbye: false,
            close_sent: false,
            answer_bytes: 0,
        };
        // A client may send its first request and its close_notify in one segment with Finished.
        match BUFFERS.with_borrow_mut(|buffers| client.open(&mut buffers.ciphers, &mut input, &mut [])) {
            Ok((used, _)) => client.partial = input.get(used..).unwrap_or_default().into(),
            Err(error) => {
                let _ = poll_fn(|cx| client.poll_flush(cx)).await;
                return Err(Refused::Handshake(error));
            }
        }
        Ok((client, negotiated, chosen))
    }

    /// Goes on with the stream that was `saved`, on its socket.
    pub(crate) fn resume(io: TcpStream, saved: SavedTls, write_bytes_max: usize) -> Self {
        let SavedTls(layer, partial, [plain, unsent], [ended, goodbye, close_sent], answer_bytes) = saved;
        let write_bytes_max = write_bytes_max.min(OUTGOING_PLAIN_BYTES) as u32; // lossless: it is 80 KiB
        Self {
            io,
            layer,
            partial,
            plain,
            unsent,
            write_bytes_max,
            records: Records::new(PLAIN_BYTES_MAX as u16), // lossless: it is 16 KiB
            ended,
            goodbye,
            close_sent,
            answer_bytes,
        }
    }

    /// Bytes that came and are not read, and bytes that are not sent.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.partial.len() + self.plain.len() + self.unsent.len()
    }

    /// Bounds the plaintext of each record of application data, but not of the handshake.
    pub(crate) fn bound_records(&mut self, bytes_max: u16) {
        self.records = Records::new(bytes_max);
        // What the headers of more records add, a write takes less.
        let more = |bytes: u32| bytes / u32::from(bytes_max).max(1) - bytes / PLAIN_BYTES_MAX as u32;
        self.write_bytes_max -= more(self.write_bytes_max) * RECORD_EXTRA_BYTES as u32;
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
        if taken.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.records.begin(taken.len(), now_ms);
        let sealed = BUFFERS.with_borrow_mut(|Buffers { outgoing, ciphers, .. }| {
            if self.layer.is_worn() {
                self.rekey(cx, ciphers)?;
            }
            let (mut rest, records) = (taken, &mut self.records);
            let next = || {
                let (record, later) = rest.split_at_checked(records.next(rest.len()))?;
                rest = later;
                (!record.is_empty()).then_some(record)
            };
            let count = self.layer.seal_data(ciphers, next, outgoing).map_err(invalid)?;
            self.send(cx, outgoing.get(..count).unwrap_or_default())
        });
        if sealed.is_err() {
            // What was sealed is lost; nothing behind it could be opened.
            self.close_sent = true;
            sealed?;
        }
        if let Poll::Ready(sent) = self.poll_flush(cx) {
            sent?;
        }
        Poll::Ready(Ok(taken.len()))
    }

    /// Hands records to the kernel; keeps what it does not take.
    #[inline]
    fn send(&mut self, cx: &mut Context<'_>, records: &[u8]) -> io::Result<()> {
        match forward(&mut self.unsent, records, |bytes| write(&mut self.io, cx, bytes)) {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        }
    }

    /// Takes new keys, or sends close_notify where there are none.
    #[cold]
    fn rekey(&mut self, cx: &mut Context<'_>, ciphers: &mut Ciphers) -> io::Result<()> {
        let mut record = [0; MESSAGE_BYTES_MAX];
        match self.layer.rekey(ciphers, &mut record) {
            Ok(count) => self.send(cx, record.get(..count).unwrap_or_default()),
            Err(fault) => {
                self.queue(|layer, record| layer.close(record));
                self.close_sent = true;
                let _ = self.poll_flush(cx);
                Err(invalid(fault))
            }
        }
    }

    /// Puts a message of TLS itself behind what is unsent.
    fn queue(&mut self, seal: impl FnOnce(&mut RecordLayer, &mut [u8]) -> Result<usize, Fault>) {
        let mut record = [0; MESSAGE_BYTES_MAX];
        if let Ok(count) = seal(&mut self.layer, &mut record) {
            self.unsent.push(record.get(..count).unwrap_or_default());
        }
    }

    /// Ready when the kernel has everything.
    #[inline]
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unsent.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let (io, before) = (&mut self.io, self.unsent.len());
        let drained = self.unsent.poll_drain(|bytes| write(io, cx, bytes)).map_ok(drop);
        self.sent(before);
        drained
    }

    /// Bytes of records that the kernel has not taken.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.unsent.len()
    }

    /// Offers the kernel what is unsent though it has not asked for more: it does so only once a third of its buffer
    /// is free, megabytes for a client that had been fast. What it takes, a client has read that reads slowly.
    pub(crate) fn nudge(&mut self) {
        let (io, before) = (self.io.as_fd(), self.unsent.len());
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let _ = self.unsent.poll_drain(|bytes| match rustix::net::send(io, bytes, flags) {
            Err(Errno::AGAIN) => Poll::Pending,
            sent => Poll::Ready(Ok(sent?)),
        });
        self.sent(before);
    }

    /// `before`: bytes that were unsent then.
    fn sent(&mut self, before: usize) {
        let count = before - self.unsent.len().min(before);
        self.answer_bytes = self.answer_bytes.saturating_sub(count as u32); // lossless: see `write_bytes_max`
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
            self.queue(|layer, record| layer.close(record));
        }
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    /// Reads once from the kernel and opens the records that are complete; bytes of plaintext put into `plain`.
    #[inline]
    fn poll_records(&mut self, cx: &mut Context<'_>, plain: &mut [u8]) -> Poll<io::Result<usize>> {
        BUFFERS.with_borrow_mut(|Buffers { incoming, ciphers, .. }| {
            let front = self.partial.len();
            // No more than the reader can take, but always room for a whole record.
            let most = front.saturating_add(plain.len().max(RECORD_BYTES_MAX));
            let room = incoming.len().min(most);
            let mut read = ReadBuf::new(incoming.get_mut(front..room).unwrap_or_default());
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
            let records = incoming.get_mut(..front + count).unwrap_or_default();
            self.partial.take(records.get_mut(..front).unwrap_or_default());
            let processed = self.open(ciphers, records, plain);
            if processed.is_err() {
                let _ = self.poll_flush(cx); // the alert; there is no second try
            }
            let (used, opened) = processed?;
            self.partial = records.get(used..).filter(|_| !self.ended).unwrap_or_default().into();
            Poll::Ready(Ok(opened))
        })
    }

    /// Opens the complete records of `records`: plaintext goes to `plain`, and where that is full to `self.plain`; what it calls for
    /// goes to `unsent`. Returns bytes of `records` used, and bytes put into `plain`.
    #[inline]
    fn open(
        &mut self,
        ciphers: &mut Ciphers,
        records: &mut [u8],
        plain: &mut [u8],
    ) -> io::Result<(usize, usize)> {
        let (mut used, mut filled) = (0, 0);
        while !self.ended {
            let record = records.get_mut(used..).unwrap_or_default();
            let (count, opened) = self.layer.open(ciphers, record).map_err(|fault| self.fail(fault))?;
            used += count;
            match opened {
                Opened::Partial => break,
                Opened::Nothing => {}
                Opened::Data(place) => {
                    let data = record.get(place).unwrap_or_default();
                    let room = plain.get_mut(filled..).unwrap_or_default();
                    let (now, later) = data.split_at(data.len().min(room.len()));
                    room.get_mut(..now.len()).unwrap_or_default().copy_from_slice(now);
                    filled += now.len();
                    self.plain.push(later);
                }
                Opened::CloseNotify => (self.ended, self.goodbye) = (true, true),
                Opened::Answer(answer) => self.answer(ciphers, answer),
            }
        }
        Ok((used, filled))
    }

    #[cold]
    fn answer(&mut self, ciphers: &mut Ciphers, answer: Answer) {
        // Nothing is sealed behind close_notify, also no answer.
        let is_said = answer == Answer::KeyUpdate && self.answer_bytes > 0;
        if !is_said && !self.close_sent {
            self.queue(|layer, record| layer.answer(ciphers, answer, record));
            if answer == Answer::KeyUpdate {
                self.answer_bytes = self.unsent.len() as u32; // lossless: see `write_bytes_max`
            }
        }
    }

    /// Reads nothing more, and says why.
    #[cold]
    fn fail(&mut self, fault: Fault) -> io::Error {
        if let Some(alert) = fault.alert().filter(|_| !self.close_sent) {
            self.queue(|layer, record| layer.alert(alert, record));
        }
        (self.ended, self.close_sent) = (true, true);
        invalid(fault)
    }
}

/// All of a stream but its socket, and the bounds of today.
#[derive(Serialize, Deserialize)]
pub(crate) struct SavedTls(Box<RecordLayer>, Pending, [Pending; 2], [bool; 3], u32);

impl SavedTls {
    pub(crate) fn layer(&mut self) -> &mut RecordLayer {
        &mut self.0
    }
}

/// As [`SavedTls`]. Nothing may be read from the stream or written to it afterwards: a record that is sealed twice repeats its nonce.
impl Serialize for TlsStream {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { layer, partial, plain, unsent, .. } = self;
        let flags = [self.ended, self.goodbye, self.close_sent];
        (layer, partial, [plain, unsent], flags, self.answer_bytes).serialize(serializer)
    }
}

impl AsFd for TlsStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

impl Drop for TlsStream {
    fn drop(&mut self) {
        // At the end of the thread there are no buffers, and so no cipher objects.
        let _ = BUFFERS.try_with(|buffers| {
            if let Ok(mut buffers) = buffers.try_borrow_mut() {
                self.layer.forget(&mut buffers.ciphers);
            }
        });
    }
}

/// The time for [`Records`]: a session stays on its worker, and so with one clock.
fn now_ms() -> u32 {
    CLOCK_START.get().elapsed().as_millis() as u32 // wraps around
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::WRITE_RECORDS_MAX;

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
            let (mut server, _, ()) =
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
                let taken = 64 * 1024 - (64 * 1024 / usize::from(bytes_max) - 4) * RECORD_EXTRA_BYTES;
                let full = usize::from(bytes_max);
                let mut wanted = Vec::new();
                for bytes in [taken, 70_000 - taken] {
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
        for bytes_max in 512..=PLAIN_BYTES_MAX {
            let most = OUTGOING_PLAIN_BYTES;
            let taken = most - (most / bytes_max - most / PLAIN_BYTES_MAX) * RECORD_EXTRA_BYTES;
            let records = taken / bytes_max + 1 + if bytes_max > 1_300 { 26 } else { 0 };
            assert!(taken + records * RECORD_EXTRA_BYTES <= OUTGOING_BYTES - 1_024, "{bytes_max}");
            assert!(records as u64 <= WRITE_RECORDS_MAX, "{bytes_max}");
        }
    }
}
