//! The access log: one line a request, for sites with `access_log = true`, whoever answered it.
//!
//! Never more than [`LINES_PER_SECOND_MAX`]: under load it is a sample, and a line says how many are missing before it. No
//! `sid`, cookie or key is ever in it (see [`ShownTarget`](super::log::ShownTarget)). A reader that is not there yet, or that comes
//! back, is sent to again: each line goes to the path.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::Serialize;
use tracing::warn;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use super::log::Quoted;
use crate::excerpt::Excerpt;
use crate::names::Host;

/// Most lines of all workers in a second: what an SD card takes for hours, and a person can still scroll through.
pub const LINES_PER_SECOND_MAX: u64 = 100;
/// Bits for the lines of a second; above them stands the second.
const LINES_BITS: u32 = 16;

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// `key=value` pairs, as in the rest of the log.
    #[default]
    KeyValue,
    /// One JSON object per line.
    Json,
}

/// Where lines go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// Among the rest of the log.
    #[default]
    Stderr,
    /// A Unix datagram socket, one line a datagram.
    Socket(PathBuf),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stderr => f.write_str("stderr"),
            Self::Socket(path) => write!(f, "unix:{}", Excerpt::of_path(path)),
        }
    }
}

/// Reads `stderr`, or `unix:PATH`.
///
/// # Errors
/// What was expected, as a sentence.
pub fn parse_place(text: &str) -> Result<Place, String> {
    match (text, text.strip_prefix("unix:").unwrap_or(text)) {
        ("stderr", _) => Ok(Place::Stderr),
        (_, path) if path.starts_with('/') => Ok(Place::Socket(path.into())),
        _ => {
            Err(format!("expected `stderr`, or `unix:/path/to/datagram.sock`, found `{}`", Excerpt::of(text)))
        }
    }
}

/// One request and what became of it.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    /// The host that was asked for.
    #[serde(serialize_with = "as_text")]
    pub host: &'a Host,
    /// The client's address.
    pub client: IpAddr,
    /// The method, an excerpt.
    pub method: &'a str,
    /// The target, less what may be secret.
    pub target: &'a str,
    /// Status that the client got; 0: none.
    pub status: u16,
    /// `complete`, `upgraded`, `broken-off`, `not-served`, `redirected`, or the code of the edge's own answer.
    pub outcome: &'a str,
    /// From the head to the end of the response, in milliseconds.
    pub ms: u64,
    /// Requests without a line since the last one.
    #[serde(skip_serializing_if = "is_zero")]
    pub skipped: u64,
}

fn as_text<S: serde::Serializer>(host: &Host, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(host)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands references")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The log and its bound; shared by all workers, two atomics.
#[derive(Debug, Default)]
pub struct AccessLog {
    form: Form,
    /// The journal notes the time by itself.
    without_time: bool,
    socket: Option<Socket>,
    /// The second of the last line, and the lines in it.
    taken: AtomicU64,
    skipped: AtomicU64,
    /// The minute in which it was last said that lines are lost, counted from 1.
    said: AtomicU64,
}

impl AccessLog {
    /// A log that is written so, and to there. That nobody reads there yet is a warning: a log must not keep an edge down.
    ///
    /// # Errors
    /// What the kernel says of the socket; a path that is too long for one.
    pub fn open(form: Form, place: &Place) -> io::Result<Self> {
        let socket = match place {
            Place::Stderr => None,
            Place::Socket(path) => Some(Socket::open(path)?),
        };
        let without_time = socket.is_none() && std::env::var_os("JOURNAL_STREAM").is_some();
        Ok(Self { form, without_time, socket, ..Self::default() })
    }

    /// Whether a request that ends `uptime` after the start gets a line, and how many got none since the last.
    pub fn admit(&self, uptime: Duration) -> Option<u64> {
        let second = uptime.as_secs() << LINES_BITS;
        let before = self.taken.fetch_max(second, Relaxed).max(second);
        // What is behind by then is only late: it counts for the second that has begun.
        let in_bound = before & ((1 << LINES_BITS) - 1) < LINES_PER_SECOND_MAX;
        if in_bound && self.taken.fetch_add(1, Relaxed) & ((1 << LINES_BITS) - 1) < LINES_PER_SECOND_MAX {
            Some(self.skipped.swap(0, Relaxed))
        } else {
            self.skipped.fetch_add(1, Relaxed);
            None
        }
    }

    /// Writes a line. One that does not get through is counted with those that were skipped.
    pub fn write(&self, line: &Line<'_>) {
        let time = if self.without_time { String::new() } else { now() };
        let mut text = match self.form {
            Form::KeyValue => key_value(&time, line),
            Form::Json => serde_json::to_string(&Stamped { time, line }).unwrap_or_default(),
        };
        let sent = match &self.socket {
            Some(socket) => socket.send(&text),
            None => {
                text.push('\n');
                io::stderr().lock().write_all(text.as_bytes())
            }
        };
        if let Err(error) = sent {
            self.lost(line.skipped + 1, &error);
        }
    }

    /// Counts lines for the next one to tell, and says so once a minute.
    fn lost(&self, lines: u64, error: &io::Error) {
        self.skipped.fetch_add(lines, Relaxed);
        // The second of a line that was admitted lately: no clock is asked again.
        let minute = (self.taken.load(Relaxed) >> LINES_BITS) / 60 + 1;
        if let Some(socket) = &self.socket
            && self.said.fetch_max(minute, Relaxed) < minute
        {
            socket.unread(error);
        }
    }
}

/// Where lines go, one a datagram: to whoever reads at `path` at that moment.
#[derive(Debug)]
struct Socket {
    socket: UnixDatagram,
    address: SocketAddr,
    path: PathBuf,
}

impl Socket {
    /// Never waits: a reader that is slow gets a sample.
    fn open(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let opened = Self { socket, address: SocketAddr::from_pathname(path)?, path: path.to_owned() };
        // Tries who reads there, and sends nothing.
        if let Err(error) = UnixDatagram::unbound()?.connect_addr(&opened.address) {
            opened.unread(&error);
        }
        Ok(opened)
    }

    fn send(&self, line: &str) -> io::Result<()> {
        self.socket.send_to_addr(line.as_bytes(), &self.address).map(drop)
    }

    fn unread(&self, error: &io::Error) {
        let place = Excerpt::of_path(&self.path);
        warn!(%place, %error, "access log lines are lost; is its reader running? Each later line tries again");
    }
}

/// RFC 3339, as the rest of the log.
fn now() -> String {
    let mut text = String::new();
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

#[derive(Serialize)]
struct Stamped<'a> {
    #[serde(skip_serializing_if = "String::is_empty")]
    time: String,
    #[serde(flatten)]
    line: &'a Line<'a>,
}

fn key_value(time: &str, line: &Line<'_>) -> String {
    let mut text = if time.is_empty() { String::new() } else { format!("time={time} ") };
    let (method, target) = (Quoted(line.method.as_bytes()), Quoted(line.target.as_bytes()));
    let _ = write!(
        text,
        "level=info msg=request host={} client={} method={method} target={target} status={} outcome={} ms={}",
        line.host, line.client, line.status, line.outcome, line.ms
    );
    if line.skipped > 0 {
        let _ = write!(text, " skipped={}", line.skipped);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_its_lines_and_no_more() {
        let log = AccessLog::default();
        let at = Duration::from_millis;
        assert!((0..LINES_PER_SECOND_MAX).all(|_| log.admit(at(1000)) == Some(0)));
        assert!((0..70_000).all(|_| log.admit(at(1999)).is_none()), "however many come");
        assert_eq!(log.admit(at(2000)), Some(70_000));
        assert_eq!(log.admit(at(1999)), Some(0), "late, and counted for now");
        assert!((2..LINES_PER_SECOND_MAX).all(|_| log.admit(at(2500)) == Some(0)));
        assert_eq!(log.admit(at(2500)), None);
    }

    #[test]
    fn a_line_is_one_line_in_either_form() {
        let host = Host::parse("a.test").unwrap();
        let line = Line {
            host: &host,
            client: "192.0.2.1".parse().unwrap(),
            method: "GET",
            target: "/a\" b\nstatus=200",
            status: 404,
            outcome: "complete",
            ms: 7,
            skipped: 3,
        };
        let text = key_value("", &line);
        assert!(text.starts_with("level=info msg=request host=a.test client=192.0.2.1 method="), "{text}");
        assert!(text.contains(r#" target="/a\x22\x20b\x0astatus=200" "#), "`=` as it came: {text}");
        assert!(key_value("now", &line).starts_with("time=now level="));
        assert!(
            text.ends_with("outcome=complete ms=7 skipped=3") && text.matches(" status=").count() == 1,
            "{text}"
        );
        let json = serde_json::to_string(&Stamped { time: now(), line: &line }).unwrap();
        assert!(
            !json.contains('\n') && json.contains(r#"Z","host":"a.test","client":"192.0.2.1""#),
            "{json}"
        );
    }

    #[test]
    fn destinations_are_distinguished() {
        assert_eq!(parse_place("stderr"), Ok(Place::Stderr));
        assert_eq!(parse_place("unix:/run/a.sock"), Ok(Place::Socket("/run/a.sock".into())));
        assert!(parse_place("stdout").unwrap_err().contains("datagram"));
    }
}
