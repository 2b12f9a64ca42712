//! Port 80: redirects known hosts to https and answers ACME http-01 challenges. Nothing is ever forwarded.

use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::bundle::Redirect;
use crate::edge::net::linger::finish;
use crate::edge::session::proxy_header;
use crate::edge::session::silent::first_byte;
use crate::edge::session::worker::{Permit, Worker, unless_evicted};
use crate::edge::shared::active_config::ActiveConfig;
use crate::edge::shared::eviction::Evictable;
use crate::edge::shared::handover::Kind;
use crate::http::answer::{self, AnswerForm, Detail, Problem};
use crate::http::forward::origin_form;
use crate::http::head::{HeadScanner, RequestHead, parse_request};
use crate::ops::metrics::Reason;

/// Where ACME servers look for the token (RFC 8555 §8.3).
const CHALLENGE_PATH: &str = "/.well-known/acme-challenge/";
/// Longest token: ours to choose; RFC 8555 has them at 22 characters and more.
const TOKEN_BYTES_MAX: usize = 128;
/// Largest challenge file: a token, a dot, and a thumbprint.
const CHALLENGE_BYTES_MAX: u64 = 4 * 1024;
/// Answers one request and closes.
pub(crate) async fn run(
    worker: Rc<Worker>,
    mut stream: TcpStream,
    peer: IpAddr,
    mut permit: Permit,
    evictable: Evictable,
) {
    let work = async {
        let time = Duration::from_millis(worker.shared.active.load().bundle.limits.head_timeout_ms.into());
        let first = first_byte(&permit, &stream, (Kind::SilentPort80, peer), time).await;
        let Some(time) = first else { return };
        if let Some(client) = proxy_header::client(&worker, &mut stream, peer, &mut permit).await {
            serve(&worker, stream, client.ip(), time).await;
        }
    };
    let _ = unless_evicted(&worker, &evictable, peer, Box::pin(work)).await;
}

async fn serve(worker: &Worker, mut stream: TcpStream, peer: IpAddr, time: Duration) {
    let active = worker.shared.active.load_full();
    let Ok(answer) = timeout(time, answer_one(worker, &active, &mut stream, peer)).await else {
        worker.shared.refuse(Reason::RequestTimeout, peer, "plain request: head_timeout reached");
        return;
    };
    if !answer.is_empty() {
        let head_time = Duration::from_millis(active.bundle.limits.head_timeout_ms.into());
        let _ = timeout(head_time, finish(stream, &answer)).await;
    }
}

/// The bytes to answer with; none if the client went away.
async fn answer_one(worker: &Worker, active: &ActiveConfig, stream: &mut TcpStream, peer: IpAddr) -> Vec<u8> {
    let limits = &active.head_limits;
    let mut scanner = HeadScanner::request();
    let (mut bytes, mut out) = (Vec::new(), Vec::new());
    let close = AnswerForm { close: true, ..AnswerForm::default() };
    let error = loop {
        match scanner.scan(&bytes, limits) {
            Err(error) => break error,
            Ok(Some(length)) => match parse_request(bytes.get(..length).unwrap_or_default(), limits) {
                Ok(head) => return answer_head(worker, active, &head, peer).await,
                Err(error) => break error,
            },
            Ok(None) => {
                let mut piece =
                    (&mut *stream).take(limits.head_bytes_max.saturating_sub(bytes.len()).max(1) as u64);
                if !matches!(piece.read_buf(&mut bytes).await, Ok(1..)) {
                    return out;
                }
            }
        }
    };
    let reason = match error.problem() {
        Problem::HeadTooLarge | Problem::TargetTooLong => Reason::HeadTooLarge,
        _ => Reason::BadRequest,
    };
    worker.shared.refuse(reason, peer, &format!("plain request: {error}"));
    answer::write(error.problem(), &Detail::default(), close, &mut out);
    out
}

async fn answer_head(
    worker: &Worker,
    active: &ActiveConfig,
    head: &RequestHead<'_>,
    peer: IpAddr,
) -> Vec<u8> {
    let form = AnswerForm { html: answer::wants_html(head), close: true, head_only: head.method == "HEAD" };
    let mut out = Vec::new();
    let listen = &active.bundle.listen;
    let folders = || listen.challenges.iter().chain(&listen.acme_dir);
    if let (Some(_), Some(token)) = (folders().next(), head.path.strip_prefix(CHALLENGE_PATH)) {
        // Before the host is looked at: a new name proves itself before any bundle knows it.
        match challenge(folders().cloned().collect(), token).await {
            Some(content) => write_challenge(&content, form.head_only, &mut out),
            None => answer::write(Problem::UnknownPath, &Detail::default(), form, &mut out),
        }
    } else if active.bundle.host(&head.host).is_some() {
        // To the same host even where its site redirects: what follows is over TLS, and HSTS can come with it.
        let to = Redirect { host: head.host.clone(), port: listen.public_https_port, path: String::new() };
        answer::redirect(&to, origin_form(head), None, form, &mut out);
    } else if active.bundle.is_pending(&head.host) {
        worker.shared.refuse(
            Reason::Misdirected,
            peer,
            &format!("plain request for {}, whose certificate is pending", head.host),
        );
        answer::write(Problem::CertificatePending, &Detail::default(), form, &mut out);
    } else {
        worker.shared.refuse(Reason::Misdirected, peer, &format!("plain request for {}", head.host));
        answer::write(Problem::UnknownHost, &Detail::default(), form, &mut out);
    }
    out
}

/// The challenge file of `token` in the first of `folders` that has it: a regular file, no symbolic link, of at most
/// [`CHALLENGE_BYTES_MAX`].
async fn challenge(folders: Vec<PathBuf>, token: &str) -> Option<Vec<u8>> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX || !token.bytes().all(allowed) {
        return None;
    }
    let paths: Vec<PathBuf> = folders.iter().map(|folder| folder.join(token)).collect();
    tokio::task::spawn_blocking(move || paths.iter().find_map(|path| read_small(path, CHALLENGE_BYTES_MAX)))
        .await
        .ok()?
}

/// A regular file of at most `bytes_max`, no symbolic link.
pub fn read_small(path: &Path, bytes_max: u64) -> Option<Vec<u8>> {
    // NONBLOCK: a fifo put there must not hold the thread.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = std::fs::File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
    let metadata = file.metadata().ok().filter(|m| m.is_file() && m.len() <= bytes_max)?;
    let mut content = Vec::with_capacity(metadata.len() as usize);
    file.take(bytes_max).read_to_end(&mut content).ok()?;
    Some(content)
}

fn write_challenge(content: &[u8], head_only: bool, out: &mut Vec<u8>) {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        content.len()
    );
    out.extend_from_slice(head.as_bytes());
    if !head_only {
        out.extend_from_slice(content);
    }
}
