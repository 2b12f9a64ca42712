//! A server behind the edge that records every byte it gets, per connection, and does what its script says.

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::edge::PATIENCE;

/// Bytes of a connection that are recorded; what comes beyond is counted.
const RECORDED_BYTES_MAX: usize = 1 << 20;

/// A 101 to [`super::raw::upgrade`].
pub const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// `200` with `ok`.
pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A running server; ends when dropped, its open connections with it.
pub struct Upstream {
    /// As sanedge.toml wants it.
    pub address: String,
    records: Arc<watch::Sender<Vec<Record>>>,
    accepting: JoinHandle<()>,
}

/// What a connection brought.
#[derive(Clone, Default)]
pub struct Record {
    /// Its first bytes.
    pub received: Vec<u8>,
    pub bytes: u64,
    /// The edge ended it, by FIN or reset.
    pub closed: bool,
    /// By reset.
    pub reset: bool,
}

/// One connection, in the hands of a script.
pub struct Connection {
    /// 0 is the first.
    pub index: usize,
    /// Bytes received that the script has not taken.
    pub buffer: Vec<u8>,
    stream: Box<dyn Stream>,
    records: Arc<watch::Sender<Vec<Record>>>,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// Without its empty line.
    pub head: String,
    /// Chunks put together.
    pub body: Vec<u8>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Upstream {
    /// Runs `script` for each connection on a free port of 127.0.0.1; the connection closes when the script ends.
    pub async fn scripted<F>(script: impl Fn(Connection) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::scripted_at("127.0.0.1:0", script).await
    }

    /// The same at an address of its own.
    pub async fn scripted_at<F>(address: &str, script: impl Fn(Connection) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let listener = Arc::new(listener);
        Self::run(address, script, move || {
            let listener = Arc::clone(&listener);
            async move {
                let stream = listener.accept().await.unwrap().0;
                stream.set_nodelay(true).unwrap();
                Box::new(stream) as Box<dyn Stream>
            }
        })
    }

    /// Answers every request with `response`, one after the other, until the edge closes.
    pub async fn answering(response: impl Into<Vec<u8>>) -> Self {
        let response = response.into();
        Self::scripted(move |connection| answer_all(connection, response.clone())).await
    }

    /// [`Upstream::answering`] on a Unix socket.
    pub fn answering_unix(path: &Path, response: &'static str) -> Self {
        let listener = Arc::new(UnixListener::bind(path).unwrap());
        Self::run(
            format!("unix:{}", path.display()),
            |connection| answer_all(connection, response.into()),
            move || {
                let listener = Arc::clone(&listener);
                async move { Box::new(listener.accept().await.unwrap().0) as Box<dyn Stream> }
            },
        )
    }

    /// Answers an upgrade with a good 101 and then runs `script`.
    pub async fn switching<F>(script: impl Fn(Connection) -> F + Clone + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let script = Arc::new(std::sync::Mutex::new(script));
        Self::scripted(move |mut connection| {
            let script = script.lock().unwrap().clone();
            async move {
                if connection.request().await.is_some() {
                    connection.send(SWITCHING).await;
                    script(connection).await;
                }
            }
        })
        .await
    }

    fn run<F, A>(
        address: String,
        script: impl Fn(Connection) -> F + Send + 'static,
        accept: impl Fn() -> A + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
        A: Future<Output = Box<dyn Stream>> + Send,
    {
        let records = Arc::new(watch::Sender::new(Vec::new()));
        let ours = Arc::clone(&records);
        let accepting = tokio::spawn(async move {
            let mut scripts = tokio::task::JoinSet::new();
            let next = AtomicUsize::new(0);
            loop {
                let stream = accept().await;
                let index = next.fetch_add(1, Relaxed);
                ours.send_modify(|records| records.push(Record::default()));
                let records = Arc::clone(&ours);
                scripts.spawn(script(Connection { index, buffer: Vec::new(), stream, records }));
            }
        });
        Self { address, records, accepting }
    }

    /// Port of a TCP upstream.
    pub fn port(&self) -> u16 {
        self.address.rsplit(':').next().unwrap().parse().unwrap()
    }

    /// Everything so far.
    pub fn records(&self) -> Vec<Record> {
        self.records.borrow().clone()
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.records.borrow().len()
    }

    /// All bytes of connection `index` so far.
    pub fn received(&self, index: usize) -> String {
        String::from_utf8_lossy(&self.records.borrow()[index].received).into_owned()
    }

    /// What connection `index` brought behind its first request's head.
    pub fn behind_the_head(&self, index: usize) -> Vec<u8> {
        let received = &self.records.borrow()[index].received;
        let head_bytes = received.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        received[head_bytes..].to_vec()
    }

    /// How many requests began with `method`, over all connections.
    pub fn count(&self, method: &str) -> usize {
        let of = |record: &Record| {
            String::from_utf8_lossy(&record.received).matches(&format!("{method} /")).count()
        };
        self.records.borrow().iter().map(of).sum()
    }

    /// Waits until `look` is true of the records.
    pub async fn wait(&self, what: &str, look: impl Fn(&[Record]) -> bool) {
        let mut records = self.records.subscribe();
        let seen = timeout(PATIENCE, records.wait_for(|records| look(records))).await.is_ok();
        assert!(seen, "upstream waits in vain: {what}");
    }

    /// Waits until the edge has ended connection `index`.
    pub async fn wait_closed(&self, index: usize) {
        self.wait("connection closed", |records| records.get(index).is_some_and(|record| record.closed))
            .await;
    }

    /// Waits until connection `index` has brought `bytes`.
    pub async fn wait_bytes(&self, index: usize, bytes: u64) {
        self.wait("bytes", |records| records.get(index).is_some_and(|record| record.bytes >= bytes)).await;
    }
}

async fn answer_all(mut connection: Connection, response: Vec<u8>) {
    while connection.request().await.is_some() {
        connection.send(&response).await;
    }
}

impl Connection {
    /// Reads a request with its body; `None` where the edge closed first.
    pub async fn request(&mut self) -> Option<Request> {
        let head = self.head().await?;
        let body = if let Some(length) = super::raw::fields(&head, "content-length").first() {
            self.exactly(length.parse().unwrap()).await?
        } else if !super::raw::fields(&head, "transfer-encoding").is_empty() {
            self.chunks().await?
        } else {
            Vec::new()
        };
        Some(Request { head, body })
    }

    /// Reads a head, without its empty line.
    pub async fn head(&mut self) -> Option<String> {
        let head = self.until(b"\r\n\r\n").await?;
        Some(String::from_utf8_lossy(&head[..head.len() - 2]).into_owned())
    }

    async fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.until(b"\r\n").await?;
            let size = std::str::from_utf8(&line[..line.len() - 2]).unwrap();
            let size = usize::from_str_radix(size, 16).expect("a bare chunk size");
            if size == 0 {
                break;
            }
            body.extend(self.exactly(size).await?);
            assert_eq!(self.exactly(2).await?, b"\r\n");
        }
        while self.until(b"\r\n").await? != b"\r\n" {}
        Some(body)
    }

    async fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                return Some(self.buffer.drain(..at + end.len()).collect());
            }
            self.more().await?;
        }
    }

    /// Reads `count` bytes.
    pub async fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            self.more().await?;
        }
        Some(self.buffer.drain(..count).collect())
    }

    /// Reads and throws away until the edge closes.
    pub async fn until_closed(&mut self) {
        while self.more().await.is_some() {
            self.buffer.clear();
        }
    }

    /// Sends; a connection that the edge has ended is no failure of the script.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// FIN in our direction.
    pub async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Reads more and records it; `None` is the end.
    pub async fn more(&mut self) -> Option<()> {
        let mut piece = [0; 64 * 1024];
        let read = self.stream.read(&mut piece).await;
        let index = self.index;
        let count = *read.as_ref().unwrap_or(&0);
        self.records.send_modify(|records| {
            let record = &mut records[index];
            let room = RECORDED_BYTES_MAX.saturating_sub(record.received.len());
            record.received.extend_from_slice(&piece[..count.min(room)]);
            record.bytes += count as u64;
            record.closed |= count == 0;
            record.reset |= read.is_err();
        });
        self.buffer.extend_from_slice(&piece[..count]);
        (count > 0).then_some(())
    }
}
