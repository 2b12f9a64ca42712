//! A connection to one place, with TLS or without, that remembers how it was answered.
//!
//! Every wait is bounded, by its step and by the whole run.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::time::{Instant, Sleep, sleep, timeout_at};
use tokio_rustls::TlsConnector;

use super::journal::Journal;
use super::tls::{NoTls, Session, TlsClient};

/// To connect: a lost SYN is sent again after one second.
pub(super) const CONNECT_TIME: Duration = Duration::from_millis(3_500);
/// For a TLS handshake: two round trips and a signature of a small board.
pub(super) const HANDSHAKE_TIME: Duration = Duration::from_secs(4);
/// For the head of an answer.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(4);
/// What a load balancer says first (the PROXY protocol, version 1) of a connection that is its own.
pub(super) const PROXY_HEADER: &[u8] = b"PROXY UNKNOWN\r\n";
/// A packet of a usual line, less its headers.
const PACKET_BYTES: usize = 1_400;
/// Between two packets, so that the kernel does not put them together.
const PACKET_PAUSE: Duration = Duration::from_millis(30);
/// First bytes of an answer that are kept, to tell what answered where TLS should.
const BEGINNING_BYTES: usize = 256;

/// How long may still be waited in all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    until: Instant,
}

/// A wait that came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// The step had its time.
    Step,
    /// The whole run had its time.
    Run,
}

impl Deadline {
    pub(super) fn lasting(time: Duration) -> Self {
        Self { until: Instant::now() + time }
    }

    /// The whole run had its time.
    pub(super) fn is_over(self) -> bool {
        Instant::now() >= self.until
    }

    /// Waits at most `time`, and no longer than the run lasts.
    pub(super) async fn wait<T>(self, time: Duration, work: impl Future<Output = T>) -> Result<T, Late> {
        let step = Instant::now() + time;
        let late = if step <= self.until { Late::Step } else { Late::Run };
        timeout_at(step.min(self.until), work).await.map_err(|_| late)
    }
}

/// Where to connect to.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// The way to a server.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    pub(super) place: Place,
    /// With TLS for this name.
    pub(super) tls: Option<(TlsClient, ServerName<'static>)>,
    /// `Host` of its requests.
    pub(super) authority: String,
    pub(super) deadline: Deadline,
    /// What was asked at this host, and when the next request may go.
    pub(super) journal: Journal,
    /// Largest segment that the server may send; `None`: what the system takes.
    pub(super) mss: Option<u32>,
    /// Said before anything else.
    pub(super) preface: &'static [u8],
}

/// Why there is no connection, or no answer over it.
#[derive(Debug)]
pub(super) enum Trouble {
    /// No connection.
    Connect(io::Error),
    /// No TLS.
    Tls(NoTls),
    /// No answer in time.
    Silent,
    /// The connection ended in place of an answer.
    Closed,
    /// Something else than HTTP.
    Malformed(String),
    /// The whole run had its time.
    TimeUp,
}

/// Bytes of either kind of connection.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection, with what its handshake said.
pub(super) struct Connection {
    pub(super) io: Box<dyn Io>,
    pub(super) session: Option<Session>,
}

impl Connector {
    /// Without TLS and without a name for `Host` yet.
    pub(super) fn new(place: Place, deadline: Deadline, journal: Journal) -> Self {
        Self { place, tls: None, authority: String::new(), deadline, journal, mss: None, preface: b"" }
    }

    /// Connects, and shakes hands where the way has TLS.
    pub(super) async fn open(&self) -> Result<Connection, Trouble> {
        let mut io: Box<dyn Io> = match &self.place {
            Place::Tcp(address) => {
                let stream = self.in_time(CONNECT_TIME, self.connect(*address)).await?;
                let stream = stream.map_err(Trouble::Connect)?;
                let _ = stream.set_nodelay(true);
                Box::new(stream)
            }
            Place::Unix(path) => {
                let stream = self.in_time(CONNECT_TIME, UnixStream::connect(path)).await?;
                Box::new(stream.map_err(Trouble::Connect)?)
            }
        };
        if !self.preface.is_empty() {
            let _ = self.in_time(CONNECT_TIME, io.write_all(self.preface)).await?;
        }
        match &self.tls {
            None => Ok(Connection { io, session: None }),
            Some((client, name)) => self.shake_hands(client, name.clone(), io).await,
        }
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(mss) = self.mss {
            socket2::SockRef::from(&socket).set_tcp_mss(mss)?;
        }
        socket.connect(address).await
    }

    /// Waits; too late is the answer of silence.
    pub(super) async fn in_time<T>(
        &self,
        time: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, Trouble> {
        self.deadline.wait(time, work).await.map_err(|late| match late {
            Late::Step => Trouble::Silent,
            Late::Run => Trouble::TimeUp,
        })
    }

    async fn shake_hands(
        &self,
        client: &TlsClient,
        name: ServerName<'static>,
        io: Box<dyn Io>,
    ) -> Result<Connection, Trouble> {
        let beginning = Beginning::default();
        let tap = Tap { io, beginning: beginning.clone(), split: Split::of(client) };
        let connecting = TlsConnector::from(Arc::clone(&client.config)).connect(name, tap);
        match self.deadline.wait(HANDSHAKE_TIME, connecting).await {
            Ok(Ok(stream)) => {
                let session = Some(Session::of(stream.get_ref().1));
                Ok(Connection { io: Box::new(stream), session })
            }
            Ok(Err(error)) => Err(Trouble::Tls(NoTls::of(&error, &beginning.take()))),
            Err(Late::Run) => Err(Trouble::TimeUp),
            Err(Late::Step) => Err(Trouble::Tls(NoTls::unfinished(&beginning.take()))),
        }
    }
}

/// The first bytes that came.
#[derive(Clone, Default)]
struct Beginning(Arc<Mutex<Vec<u8>>>);

impl Beginning {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn keep(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = BEGINNING_BYTES.saturating_sub(kept.len());
        kept.extend(bytes.iter().take(room));
    }
}

/// A connection that keeps its first bytes, and sends a large hello in two packets.
struct Tap {
    io: Box<dyn Io>,
    beginning: Beginning,
    split: Split,
}

/// Where the first packet ends.
enum Split {
    /// Nowhere: what is written is sent.
    No,
    /// After so many bytes.
    After(usize),
    /// The second packet waits.
    Pause(Pin<Box<Sleep>>),
}

impl Split {
    fn of(client: &TlsClient) -> Self {
        if client.is_large { Self::After(PACKET_BYTES) } else { Self::No }
    }
}

impl AsyncRead for Tap {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        self.beginning.keep(buf.filled().get(before..).unwrap_or_default());
        polled
    }
}

impl AsyncWrite for Tap {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if let Split::Pause(pause) = &mut self.split {
            std::task::ready!(pause.as_mut().poll(cx));
            self.split = Split::No;
        }
        let Split::After(left) = self.split else { return Pin::new(&mut self.io).poll_write(cx, buf) };
        let packet = buf.get(..left).unwrap_or(buf);
        let written = std::task::ready!(Pin::new(&mut self.io).poll_write(cx, packet))?;
        self.split = match left.saturating_sub(written) {
            0 => Split::Pause(Box::pin(sleep(PACKET_PAUSE))),
            left => Split::After(left),
        };
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl Trouble {
    /// Nothing arrived, and the connection is still open.
    pub(super) fn is_silent(&self) -> bool {
        matches!(self, Self::Silent)
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "{error}"),
            Self::Tls(error) => write!(f, "no TLS: {error:?}"),
            Self::Silent => f.write_str("no answer in time"),
            Self::Closed => f.write_str("the connection ended without an answer"),
            Self::Malformed(error) => f.write_str(error),
            Self::TimeUp => f.write_str("the time limit of the run was reached"),
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("session", &self.session).finish_non_exhaustive()
    }
}
