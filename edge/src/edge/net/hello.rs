//! The ClientHello, before a configuration is chosen: reading it within bounds, and the alerts for what is none.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::thread::LocalKey;

use rustls::CipherSuite;
use rustls::server::{Accepted, Acceptor, ClientHello};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::yield_now;

use crate::bundle::alpn::PROTOCOL;
use crate::record::Alert;

/// Reads of hellos between two looks for what open sessions have: together they cost about what a signature does.
const HELLOS_AT_ONCE: usize = 4;
/// A usual ClientHello, with a post-quantum key share.
const HELLO_BYTES: usize = 2 * 1024;
/// Longest ClientHello, its record headers included. rustls has 64 KiB; no client needs a fourth of that.
const HELLO_BYTES_MAX: usize = 16 * 1024;

/// What a hello asks for, as far as it decides what answers it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) name: Option<&'a str>,
    /// A proof for a CA and nothing else: ALPN is exactly `acme-tls/1` (RFC 8737 §3).
    pub(crate) proof: bool,
}

impl<'a> Asked<'a> {
    pub(super) fn by(hello: &'a ClientHello<'_>) -> Self {
        let proof = hello.alpn().is_some_and(|mut protocols| {
            protocols.next().is_some_and(|first| first == PROTOCOL) && protocols.next().is_none()
        });
        Self { name: hello.server_name(), proof }
    }
}

thread_local! {
    /// Reads of hellos that a worker may do between two looks at the kernel: see [`in_turn`].
    static HELLOS: Rc<Semaphore> = Rc::new(Semaphore::new(HELLOS_AT_ONCE));
}

/// Reads until rustls has a whole ClientHello; gives back every byte that was read as well.
pub(super) async fn read_hello(io: &mut TcpStream) -> Result<(Accepted, Vec<u8>), Unread> {
    let mut acceptor = Acceptor::default();
    let mut hello = Vec::new();
    loop {
        if hello.len() >= HELLO_BYTES_MAX {
            let _ = io.write_all(&Alert::DecodeError.plaintext_record()).await;
            let _ = io.shutdown().await;
            return Err(invalid("a ClientHello longer than any client sends").into());
        }
        io.readable().await?;
        match in_turn(&HELLOS, |cx| take_hello(cx, io, &mut acceptor, &mut hello)).await? {
            Hello::Whole(accepted) => return Ok((*accepted, hello)),
            Hello::Part => {}
            Hello::Method => return Err(Unread::PlainHttp),
            Hello::Bad(error, alert) => {
                let _ = io.write_all(&alert).await;
                let _ = io.shutdown().await;
                return Err(invalid(error).into());
            }
        }
    }
}

/// What one read of a hello came to.
enum Hello {
    Whole(Box<Accepted>),
    Part,
    /// Of HTTP in the clear.
    Method,
    /// And the alert that goes with it; none for an alert.
    Bad(rustls::Error, Vec<u8>),
}

fn take_hello(
    cx: &mut Context<'_>,
    io: &mut TcpStream,
    acceptor: &mut Acceptor,
    hello: &mut Vec<u8>,
) -> io::Result<Hello> {
    let before = hello.len();
    if before == hello.capacity() {
        hello.reserve(HELLO_BYTES); // only now: who says nothing has no buffer
    }
    match pin!(io.read_buf(hello)).poll(cx)? {
        Poll::Ready(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
        Poll::Ready(_) => {}
        Poll::Pending => return Ok(Hello::Part),
    }
    // A method; a TLS record begins with its type, a small number.
    if hello.first().is_some_and(u8::is_ascii_uppercase) {
        return Ok(Hello::Method);
    }
    if let Some(alert) = refused_record(hello) {
        let error = rustls::Error::General("the first record does not begin a ClientHello".to_owned());
        return Ok(Hello::Bad(error, alert.plaintext_record().to_vec()));
    }
    let mut news = hello.get(before..).unwrap_or_default();
    while !news.is_empty() {
        acceptor.read_tls(&mut news)?;
        match acceptor.accept() {
            Ok(Some(accepted)) => return Ok(Hello::Whole(Box::new(accepted))),
            Ok(None) => {}
            Err((error, mut alert)) => {
                let mut of_rustls = Vec::new();
                alert.write_all(&mut of_rustls)?;
                return Ok(Hello::Bad(error, alert_for(hello, of_rustls)));
            }
        }
    }
    Ok(Hello::Part)
}

/// What the first record gets where its first bytes tell that it is too long (RFC 8446 §5.1) or begins another message than a
/// ClientHello (§4). rustls would wait for all of it, and call the message malformed.
fn refused_record(hello: &[u8]) -> Option<Alert> {
    const CLIENT_HELLO: u8 = 1;
    match hello {
        [22, 3, _, high, low, ..] if u16::from_be_bytes([*high, *low]) > 1 << 14 => {
            Some(Alert::RecordOverflow)
        }
        [22, 3, _, high, low, message, ..] if (*high, *low) != (0, 0) && *message != CLIENT_HELLO => {
            Some(Alert::UnexpectedMessage)
        }
        _ => None,
    }
}

/// What rustls would say, but where it says nothing, or another thing than RFC 8446 §5 wants. An alert has no answer. A first
/// byte with the top bit set is that of a hello of SSLv2, which is no record at all.
fn alert_for(hello: &[u8], of_rustls: Vec<u8>) -> Vec<u8> {
    let alert = match hello.get(..5) {
        Some([22, _, _, high, low]) if u16::from_be_bytes([*high, *low]) > 1 << 14 => Alert::RecordOverflow,
        Some([0..=19 | 24..=127, ..]) => Alert::UnexpectedMessage,
        _ if !of_rustls.is_empty() => return of_rustls,
        Some([21, ..]) => return Vec::new(),
        Some([22, ..]) => Alert::DecodeError,
        _ => Alert::UnexpectedMessage,
    };
    alert.plaintext_record().to_vec()
}

/// Why there is no hello.
pub(super) enum Unread {
    PlainHttp,
    Io(io::Error),
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Whether a hello without TLS 1.3 says that its client could do better (TLS_FALLBACK_SCSV, RFC 7507).
pub(super) fn is_fallback(suites: &[CipherSuite]) -> bool {
    const TLS_FALLBACK_SCSV: u16 = 0x5600;
    let offers_tls13 = suites.iter().any(|suite| u16::from(*suite) >> 8 == 0x13);
    !offers_tls13 && suites.iter().any(|suite| u16::from(*suite) == TLS_FALLBACK_SCSV)
}

/// Does one step when it is its turn: of the handshakes that this worker has under way one step, so at most one signature, and a few
/// reads of hellos, between two looks for what the kernel has for open sessions. Who waits costs next to nothing, however many the
/// kernel has news of at once. First come, first served; how many wait is bounded by `handshakes_max` and `sessions_max`, how long by
/// `handshake_timeout`.
pub(super) async fn in_turn<T>(
    turns: &'static LocalKey<Rc<Semaphore>>,
    mut step: impl FnMut(&mut Context<'_>) -> T,
) -> T {
    let turn = turns.with(Rc::clone);
    let _turn = turn.acquire().await;
    let done = poll_fn(|cx| Poll::Ready(step(cx))).await;
    // The app waits for the processor as our own sessions do.
    rustix::thread::sched_yield();
    // Ready again only after that look.
    yield_now().await;
    done
}

pub(super) fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
