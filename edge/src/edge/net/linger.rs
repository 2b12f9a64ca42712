//! The end of a connection without TLS.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long unread bytes are thrown away after the answer.
const LINGER: Duration = Duration::from_secs(1);

/// Sends the last bytes of a connection, so that no reset overtakes them.
pub(crate) async fn finish(mut stream: TcpStream, answer: &[u8]) -> io::Result<()> {
    stream.write_all(answer).await?;
    stream.shutdown().await?;
    let mut rest = [0; 512];
    let _ = timeout(LINGER, async { while matches!(stream.read(&mut rest).await, Ok(1..)) {} }).await;
    Ok(())
}
