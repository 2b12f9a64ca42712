//! The servers behind: a WebSocket echo that also answers GETs, and the floor, a TCP relay without TLS. Both on the
//! runtime that the edge uses, one thread each, in a process of their own.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use sanedge::ws::frame::{Decoded, decode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use crate::support::upstream::SWITCHING;

/// The body that every GET gets.
pub const BODY: [u8; 64] = [b'b'; 64];

const SCRATCH_BYTES: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
}

/// Listens on `count` ports, so that each proxy has one of its own, and says them on one line.
pub async fn run(count: usize) {
    let mut addresses = Vec::new();
    for _ in 0..count {
        let listener = listen().await;
        addresses.push(listener.local_addr().unwrap().to_string());
        tokio::spawn(async move {
            loop {
                tokio::spawn(serve(accept(&listener).await));
            }
        });
    }
    say(&addresses.join(" "));
    std::future::pending().await
}

/// Relays what comes to `upstream` and back, and says its address.
pub async fn floor(upstream: SocketAddr) {
    let listener = listen().await;
    say(&listener.local_addr().unwrap().to_string());
    loop {
        let client = accept(&listener).await;
        tokio::spawn(async move {
            let Ok(upstream) = TcpStream::connect(upstream).await else { return };
            upstream.set_nodelay(true).unwrap();
            let mut relay = [Pipe::new(), Pipe::new()];
            let mut ends = (client, upstream);
            poll_fn(|cx| relay_once(cx, &mut relay, &mut ends)).await;
        });
    }
}

async fn listen() -> TcpListener {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    socket.listen(1024).unwrap()
}

async fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Says the addresses, and ends the process with its stdin.
fn say(line: &str) {
    println!("{line}");
    std::thread::spawn(|| {
        std::io::stdin().lines().for_each(drop);
        std::process::exit(0);
    });
}

async fn serve(mut stream: TcpStream) {
    let mut held = Vec::with_capacity(1024);
    loop {
        let Some(end) = held.windows(4).position(|window| window == b"\r\n\r\n") else {
            match stream.read_buf(&mut held).await {
                Ok(0) | Err(_) => return,
                Ok(_) => continue,
            }
        };
        let head = String::from_utf8_lossy(&held[..end]).to_ascii_lowercase();
        held.drain(..end + 4);
        if head.contains("upgrade: websocket") {
            let _ = stream.write_all(SWITCHING.as_bytes()).await;
            return echo(stream, std::mem::take(&mut held)).await;
        }
        let mut answer =
            b"HTTP/1.1 200 OK\r\nContent-Length: 64\r\nContent-Type: text/plain\r\n\r\n".to_vec();
        answer.extend(BODY);
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

async fn echo(mut stream: TcpStream, first: Vec<u8>) {
    let (mut frames, mut out) = (Echo::default(), Vec::new());
    frames.echo(&first, &mut out);
    loop {
        if stream.write_all(&out).await.is_err() {
            return;
        }
        out.clear();
        out.shrink_to(1024);
        let read = poll_fn(|cx| read_scratch(cx, &mut stream, |_, bytes| frames.echo(bytes, &mut out)));
        if read.await == 0 {
            return;
        }
    }
}

/// One read through the thread's scratch; 0 is the end, by error as well.
fn read_scratch(
    cx: &mut Context<'_>,
    stream: &mut TcpStream,
    take: impl FnOnce(&mut Context<'_>, &[u8]),
) -> Poll<usize> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut buffer = ReadBuf::new(scratch);
        match ready!(Pin::new(stream).poll_read(cx, &mut buffer)) {
            Ok(()) => take(cx, buffer.filled()),
            Err(_) => return Poll::Ready(0),
        }
        Poll::Ready(buffer.filled().len())
    })
}

/// Turns a client's frames into the server's, as they come.
#[derive(Default)]
struct Echo {
    header: Vec<u8>,
    key: [u8; 4],
    left: usize,
}

impl Echo {
    fn echo(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while let Some((&first, rest)) = bytes.split_first() {
            if self.left > 0 {
                let (now, later) = bytes.split_at(self.left.min(bytes.len()));
                out.extend(now.iter().enumerate().map(|(at, byte)| byte ^ self.key[at % 4]));
                self.key.rotate_left(now.len() % 4);
                self.left -= now.len();
                bytes = later;
                continue;
            }
            bytes = rest;
            self.header.push(first);
            let Ok(Decoded::Header(header)) = decode(&self.header) else { continue };
            // A proxy that says goodbye with a frame of its own, unmasked: nothing to echo.
            let Some(key) = header.mask else { return };
            self.key = key;
            self.left = usize::try_from(header.payload_bytes).unwrap();
            // The same header without mask bit and key.
            self.header[1] &= 0x7f;
            out.extend(&self.header[..header.header_bytes - 4]);
            self.header.clear();
        }
    }
}

/// One direction of the floor.
struct Pipe {
    pending: Vec<u8>,
    ended: bool,
}

impl Pipe {
    fn new() -> Self {
        Self { pending: Vec::new(), ended: false }
    }

    /// Moves what can be moved at once; ready when the source has ended and the sink knows.
    fn poll(&mut self, cx: &mut Context<'_>, from: &mut TcpStream, to: &mut TcpStream) -> Poll<()> {
        while !self.ended {
            while !self.pending.is_empty() {
                match ready!(Pin::new(&mut *to).poll_write(cx, &self.pending)) {
                    Ok(count) => drop(self.pending.drain(..count)),
                    Err(_) => self.pending.clear(),
                }
            }
            self.pending = Vec::new();
            let pending = &mut self.pending;
            let count = ready!(read_scratch(cx, from, |cx, bytes| {
                let written = match Pin::new(&mut *to).poll_write(cx, bytes) {
                    Poll::Ready(Ok(written)) => written,
                    Poll::Ready(Err(_)) | Poll::Pending => 0,
                };
                pending.extend_from_slice(&bytes[written..]);
            }));
            self.ended = count == 0;
        }
        Pin::new(to).poll_shutdown(cx).map(drop)
    }
}

fn relay_once(cx: &mut Context<'_>, pipes: &mut [Pipe; 2], ends: &mut (TcpStream, TcpStream)) -> Poll<()> {
    let (client, upstream) = ends;
    let up = pipes[0].poll(cx, client, upstream);
    let down = pipes[1].poll(cx, upstream, client);
    if up.is_ready() && down.is_ready() { Poll::Ready(()) } else { Poll::Pending }
}
