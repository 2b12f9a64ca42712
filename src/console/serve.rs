//! The server: connections, requests, and the questions to root's process.
//!
//! Each connection has one request. Its head and body must arrive within [`READ_TIME`], and each part of a response must be read within
//! [`WRITE_TIME`]; at [`CONNECTIONS_MAX`] the oldest connection without a complete request is closed, so that none blocks the session.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd as _;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{AbortHandle, LocalSet, spawn_local};
use tokio::time::{sleep, timeout};

use super::gate::{Entered, Gate, Open, Refusal, Wish};
use super::link::{self, App, Ask, Choice, Edit, Hello, Leads, Problem, Said, Start};
use super::page;
use crate::http::body::Framing;
use crate::http::head::{HeadLimits, HeadScanner, parse_request};
use crate::setup::again;
use crate::system::sandbox::{Needs, Sandbox};

/// Longest body: an edit.
pub(crate) const BODY_BYTES_MAX: usize = 8 * 1024;
/// A browser sends about 20 fields.
const HEAD_LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 8 * 1024, fields_max: 48, target_bytes_max: 256 };
/// For a request, head and body.
const READ_TIME: Duration = Duration::from_secs(5);
/// For a part of a response to be read by the browser.
const WRITE_TIME: Duration = Duration::from_secs(10);
/// Connections at the same time: a browser opens six, some of them before it needs them.
const CONNECTIONS_MAX: usize = 24;
/// Lines of a stream that wait for the browser.
const LINES_MAX: usize = 64;
/// For the answer of root's process to a question that changes nothing, while it does something else.
const TURN_TIME: Duration = Duration::from_secs(30);
/// Pause after an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// For responses in progress, when root's process has ended.
const LAST_TIME: Duration = Duration::from_secs(5);
/// Between two looks at what another thread does.
const PAUSE: Duration = Duration::from_millis(20);
/// Interval in which the end of the link's time is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Descriptors of this process before it opens one: three streams, and the folder that lists them.
const DESCRIPTORS: usize = 4;

/// The server's process, whose stdin is the listener and whose stdout the socket to root's process. Ends with that process.
///
/// # Errors
/// It cannot begin.
pub(crate) fn serve() -> io::Result<()> {
    again::leave_session()?;
    let inherited =
        std::fs::read_dir("/proc/self/fd").map_or(0, |all| all.count().saturating_sub(DESCRIPTORS));
    let sandbox = Sandbox::enter(&Needs::nothing());
    let listener = std::net::TcpListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    let root = std::os::unix::net::UnixStream::from(io::stdout().as_fd().try_clone_to_owned()?);
    listener.set_nonblocking(true)?;
    let mut from_root = io::BufReader::new(root.try_clone()?);
    let start: Start = link::next(&mut from_root, link::SAID_BYTES_MAX)?
        .ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "no first message"))?;
    let more = match inherited {
        0 => String::new(),
        count => format!(", {count} descriptors inherited from the shell"),
    };
    let hello = Hello {
        sandbox: sandbox.summary.clone() + &more,
        is_whole: sandbox.reach.is_limited() && inherited == 0,
    };
    io::Write::write_all(&mut &root, &link::line(&hello)?)?;
    let awaited = Arc::new(Mutex::new(None));
    let active = Arc::new(AtomicUsize::new(0));
    let (theirs, responses) = (Arc::clone(&awaited), Arc::clone(&active));
    std::thread::spawn(move || listen(from_root, &theirs, &responses));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let gate = Gate::new(&start.token, Instant::now(), Duration::from_millis(start.token_ms));
    let server = Server {
        gate: RefCell::new(gate),
        root,
        turn: Arc::new(Semaphore::new(1)),
        awaited,
        active,
        waiting: RefCell::default(),
    };
    LocalSet::new().block_on(&runtime, accept_all(Rc::new(server), listener))
}

/// The answer that is awaited from root's process.
struct Awaited {
    answers: mpsc::Sender<Said>,
    /// One question at a time.
    _turn: OwnedSemaphorePermit,
}

/// Reads the answers of root's process. A browser that does not read its answer does not stop this: what it does not take in time is
/// dropped. Ends this process with root's.
fn listen(mut from: impl io::BufRead, awaited: &Mutex<Option<Awaited>>, active: &AtomicUsize) {
    while let Ok(Some(said)) = link::next::<Said>(&mut from, link::SAID_BYTES_MAX) {
        let is_last = said.is_last();
        let answers = locked(awaited).as_ref().map(|awaited| awaited.answers.clone());
        let until = Instant::now() + WRITE_TIME;
        let mut left = Some(said);
        while let (Some(to), Some(said)) = (&answers, left.take()) {
            match to.try_send(said) {
                Err(mpsc::error::TrySendError::Full(said)) if Instant::now() < until => {
                    left = Some(said);
                    std::thread::sleep(PAUSE);
                }
                Err(mpsc::error::TrySendError::Full(_)) => {
                    // The stream ends without its last line, which the page notices.
                    if let Some(awaited) = locked(awaited).as_mut() {
                        awaited.answers = mpsc::channel(1).0;
                    }
                }
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            }
        }
        if is_last {
            *locked(awaited) = None;
        }
    }
    // A browser still hears how its change ended.
    let until = Instant::now() + LAST_TIME;
    while active.load(Ordering::Relaxed) > 0 && Instant::now() < until {
        std::thread::sleep(PAUSE);
    }
    std::process::exit(0)
}

fn locked(awaited: &Mutex<Option<Awaited>>) -> MutexGuard<'_, Option<Awaited>> {
    awaited.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Server {
    gate: RefCell<Gate>,
    root: std::os::unix::net::UnixStream,
    turn: Arc<Semaphore>,
    awaited: Arc<Mutex<Option<Awaited>>>,
    /// Responses that are being sent.
    active: Arc<AtomicUsize>,
    /// Connections without a complete request, the oldest first.
    waiting: RefCell<VecDeque<(u64, AbortHandle)>>,
}

async fn accept_all(server: Rc<Server>, listener: std::net::TcpListener) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    spawn_local(ended_unused(Rc::clone(&server)));
    let mut number = 0_u64;
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        number += 1;
        let (ours, at) = (Rc::clone(&server), number);
        let task = spawn_local(async move { ours.connection(stream, at).await });
        let mut waiting = server.waiting.borrow_mut();
        waiting.push_back((number, task.abort_handle()));
        if waiting.len() > CONNECTIONS_MAX
            && let Some((_, oldest)) = waiting.pop_front()
        {
            oldest.abort();
        }
    }
}

/// Ends the console if its link can no longer be used.
async fn ended_unused(server: Rc<Server>) {
    loop {
        sleep(LOOK_INTERVAL).await;
        if server.gate.borrow().is_void(Instant::now()) {
            let _ = server.ask(Ask::Void).await;
        }
    }
}

/// A request, as far as it is used.
struct Request {
    bytes: Vec<u8>,
    head_bytes: usize,
}

impl Server {
    async fn connection(&self, mut stream: TcpStream, number: u64) {
        let read = timeout(READ_TIME, read(&mut stream)).await;
        // From here on it is not evicted: an answer has its own limits.
        self.waiting.borrow_mut().retain(|(other, _)| *other != number);
        let Ok(Some(request)) = read else { return };
        self.active.fetch_add(1, Ordering::Relaxed);
        let answered = match request {
            Ok(request) => self.answer(&mut stream, &request).await,
            Err(refusal) => send(&mut stream, &refused(&refusal)).await,
        };
        if answered.is_ok() {
            let _ = timeout(WRITE_TIME, stream.shutdown()).await;
        }
        self.active.fetch_sub(1, Ordering::Relaxed);
    }

    async fn answer(&self, stream: &mut TcpStream, request: &Request) -> io::Result<()> {
        let bytes = request.bytes.get(..request.head_bytes).unwrap_or_default();
        let body = request.bytes.get(request.head_bytes..).unwrap_or_default();
        let Ok(head) = parse_request(bytes, &HEAD_LIMITS) else { return send(stream, &refused(&BAD)).await };
        let wish = self.gate.borrow_mut().admit(&head, Instant::now());
        let answer = match wish {
            Err(refusal) => refused(&refusal),
            Ok(Wish::Open(Open::Door)) => page::html(&page::door()),
            Ok(Wish::Open(Open::DoorScript)) => page::script(page::DOOR_SCRIPT),
            Ok(Wish::Open(Open::Style)) => page::style(),
            Ok(Wish::Script) => page::script(page::SCRIPT),
            Ok(Wish::Enter) => self.enter(body).await,
            Ok(Wish::Page) => self.page().await,
            Ok(Wish::Check) => self.check(body).await,
            Ok(Wish::Apply) => return self.apply(stream, body).await,
            Ok(Wish::Doctor) => return self.doctor(stream, body).await,
            Ok(Wish::End) => self.end().await,
        };
        send(stream, &answer).await
    }

    async fn enter(&self, body: &[u8]) -> Vec<u8> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Token {
            token: String,
        }
        let Ok(Token { token }) = serde_json::from_slice(body) else { return refused(&BAD) };
        let entered = self.gate.borrow_mut().enter(&token, Instant::now());
        match entered {
            Ok(Entered { path, cookie }) => {
                let _ = self.ask(Ask::Entered).await;
                page::entered(&path, &cookie)
            }
            Err(refusal) => refused(&refusal),
        }
    }

    async fn page(&self) -> Vec<u8> {
        let csrf = self.gate.borrow().csrf().to_owned();
        match self.ask(Ask::Page { csrf }).await {
            Some(Said::Page(html)) => page::html(&html),
            Some(Said::Done { text, .. }) => page::problem(503, "Service Unavailable", &text),
            _ => refused(&BUSY),
        }
    }

    async fn check(&self, body: &[u8]) -> Vec<u8> {
        let Ok(form) = serde_json::from_slice::<Form>(body) else { return refused(&BAD) };
        let edit = match form.edit() {
            Ok(edit) => edit,
            Err(problem) => {
                return page::json(&serde_json::json!({ "is_good": false, "problems": [problem] }));
            }
        };
        match self.ask(Ask::Check(edit)).await {
            Some(Said::Checked(json)) => page::json_text(&json),
            _ => refused(&BUSY),
        }
    }

    async fn end(&self) -> Vec<u8> {
        match self.ask(Ask::End).await {
            Some(Said::Done { text, .. }) => {
                page::json(&serde_json::json!({ "is_good": true, "text": text }))
            }
            _ => refused(&BUSY),
        }
    }

    async fn apply(&self, stream: &mut TcpStream, body: &[u8]) -> io::Result<()> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Apply {
            form: Option<Form>,
            seen: String,
            restart: bool,
        }
        let Ok(Apply { form, seen, restart }) = serde_json::from_slice(body) else {
            return send(stream, &refused(&BAD)).await;
        };
        let edit = form.map(|form| form.edit()).transpose();
        let (Ok(edit), true) = (edit, seen.len() == 2 * 32) else {
            return send(stream, &refused(&BAD)).await;
        };
        self.stream(stream, Ask::Apply { edit, seen, restart }).await
    }

    async fn doctor(&self, stream: &mut TcpStream, body: &[u8]) -> io::Result<()> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Doctor {
            host: String,
            here: bool,
        }
        let asked = serde_json::from_slice(body).ok();
        let asked = asked.and_then(|Doctor { host, here }| Some((text("host", host).ok()?, here)));
        let Some((host, is_here)) = asked else { return send(stream, &refused(&BAD)).await };
        self.stream(stream, Ask::Doctor { host, is_here }).await
    }

    /// Sends the steps as they come, one JSON document a line. What is asked for happens also if the browser goes away.
    async fn stream(&self, stream: &mut TcpStream, ask: Ask) -> io::Result<()> {
        let Some(mut answers) = self.begin(ask).await else { return send(stream, &refused(&BUSY)).await };
        send(stream, &page::stream()).await?;
        while let Some(said) = answers.recv().await {
            send(stream, &link::line(&said)?).await?;
        }
        Ok(())
    }

    /// The last answer to a question; `None`: root's process is busy with another one.
    async fn ask(&self, ask: Ask) -> Option<Said> {
        let mut answers = self.begin(ask).await?;
        let last = async {
            while let Some(said) = answers.recv().await {
                if said.is_last() {
                    return Some(said);
                }
            }
            None
        };
        timeout(TURN_TIME, last).await.ok()?
    }

    async fn begin(&self, ask: Ask) -> Option<mpsc::Receiver<Said>> {
        let turn = timeout(TURN_TIME, Arc::clone(&self.turn).acquire_owned()).await.ok()?.ok()?;
        let (answers, said) = mpsc::channel(LINES_MAX);
        *locked(&self.awaited) = Some(Awaited { answers, _turn: turn });
        // Root's process reads between two answers; a question is far shorter than the socket's buffer.
        io::Write::write_all(&mut &self.root, &link::line(&ask).ok()?).ok()?;
        Some(said)
    }
}

const BAD: Refusal =
    Refusal { status: 400, reason: "Bad Request", message: "this is not a request of the console's page" };
const LONG: Refusal = Refusal {
    status: 413,
    reason: "Content Too Large",
    message: "the request is longer than 8 KiB, the limit of the console",
};
const BUSY: Refusal = Refusal {
    status: 503,
    reason: "Service Unavailable",
    message: "another change is in progress; try again when it has ended",
};

fn refused(refusal: &Refusal) -> Vec<u8> {
    page::problem(refusal.status, refusal.reason, refusal.message)
}

async fn send(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    timeout(WRITE_TIME, stream.write_all(bytes)).await.map_err(late)?
}

/// A request; `None`: the connection ended before it.
async fn read(stream: &mut TcpStream) -> Option<Result<Request, Refusal>> {
    let mut scanner = HeadScanner::request();
    let mut bytes = Vec::new();
    let head_bytes = loop {
        match scanner.scan(&bytes, &HEAD_LIMITS) {
            Ok(Some(end)) => break end,
            Ok(None) => more(stream, &mut bytes).await?,
            Err(_) => return Some(Err(BAD)),
        }
    };
    let framing = parse_request(bytes.get(..head_bytes)?, &HEAD_LIMITS).map(|head| head.framing);
    let body = match framing {
        Ok(Framing::None) => 0,
        Ok(Framing::Length(length)) => match usize::try_from(length) {
            Ok(length) if length <= BODY_BYTES_MAX => length,
            _ => return Some(Err(LONG)),
        },
        _ => return Some(Err(BAD)),
    };
    while bytes.len() < head_bytes + body {
        more(stream, &mut bytes).await?;
    }
    bytes.truncate(head_bytes + body);
    Some(Ok(Request { bytes, head_bytes }))
}

async fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<()> {
    let mut piece = [0; 2048];
    let count = stream.read(&mut piece).await.ok().filter(|count| *count > 0)?;
    bytes.extend_from_slice(piece.get(..count)?);
    Some(())
}

/// A form of the page, as its fields were typed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Form {
    Add { host: String, app: String, path: String, redirect: String, certificate: String, agreed: bool },
    Certificate { host: String, certificate: String, agreed: bool },
    Remove { host: String },
    Upstream { host: String, path: String, app: String },
}

impl Form {
    /// The typed edit, or what is wrong with a field.
    fn edit(self) -> Result<Edit, Problem> {
        match self {
            Self::Add { host, app, path, redirect, certificate, agreed } => {
                let host = text("host", host)?;
                let leads = match (app.trim().is_empty(), redirect.trim().is_empty()) {
                    (false, true) => Leads::App(parsed_app(&app)?),
                    (true, false) => Leads::Redirect(text("redirect", redirect)?),
                    (true, true) => {
                        return Err(wrong("app", "expected the port of the app, or a URL to redirect to"));
                    }
                    (false, false) => {
                        return Err(wrong(
                            "redirect",
                            "a host has an app or redirects: leave one of the two empty",
                        ));
                    }
                };
                let path = Some(path.trim().to_owned()).filter(|path| !path.is_empty() && path != "/");
                if path.is_some() && matches!(leads, Leads::Redirect(_)) {
                    return Err(wrong("path", "a redirect is for the whole host: leave the path empty"));
                }
                let path = path.map(|path| text("path", path)).transpose()?;
                let certificate = match certificate.as_str() {
                    "" => None,
                    chosen => Some(choice(chosen, agreed)?),
                };
                Ok(Edit::AddHost { host, leads, path, certificate })
            }
            Self::Certificate { host, certificate, agreed } => Ok(Edit::SetCertificate {
                host: text("host", host)?,
                certificate: choice(&certificate, agreed)?,
            }),
            Self::Remove { host } => Ok(Edit::RemoveHost { host: text("host", host)? }),
            Self::Upstream { host, path, app } => Ok(Edit::SetUpstream {
                host: text("host", host)?,
                path: text("path", path)?,
                app: parsed_app(&app)?,
            }),
        }
    }
}

fn text(field: &'static str, text: String) -> Result<String, Problem> {
    let text = text.trim();
    match text.len() {
        0 => Err(wrong(field, "expected a value")),
        length if length > link::TEXT_BYTES_MAX => Err(wrong(field, "the value is too long")),
        _ if text.contains(char::is_control) => Err(wrong(field, "the value has a control character")),
        _ => Ok(text.to_owned()),
    }
}

fn choice(chosen: &str, agreed: bool) -> Result<Choice, Problem> {
    match chosen {
        "acme" => Ok(Choice::Acme { agreed }),
        place => place
            .parse()
            .map(Choice::Files)
            .map_err(|_| wrong("certificate", "expected a certificate from the list")),
    }
}

/// `PORT`, `ADDRESS:PORT` or `NAME:PORT`.
fn parsed_app(typed: &str) -> Result<App, Problem> {
    let typed = text("app", typed.to_owned())?;
    let expected = || wrong("app", "expected a port from 1 to 65535, ADDRESS:PORT or NAME:PORT");
    let (address, port) = match typed.rsplit_once(':') {
        Some((address, port)) => (Some(address.to_owned()), port),
        None => (None, typed.as_str()),
    };
    let app = App { address, port: port.parse().map_err(|_| expected())? };
    app.upstream().map(|_| app).map_err(|_| expected())
}

fn wrong(field: &str, message: &str) -> Problem {
    Problem {
        field: field.to_owned(),
        severity: "error".to_owned(),
        message: message.to_owned(),
        remedy: String::new(),
    }
}
