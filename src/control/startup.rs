//! The start: everything that needs the process to have one thread, then the workers, then the main thread's work.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{error, info, warn};

use crate::bundle::{Admin, Bundle, Listen};
use crate::excerpt::Excerpt;
use crate::ops::access::{AccessLog, Form, Place};
use crate::ops::log::{self, Said};
use crate::system::sandbox::{Needs, Sandbox};
use crate::system::sockets::Inherited;
use crate::system::started::Started;
use crate::system::systemd;

use crate::control::descriptors::fit_descriptors;
use crate::control::hand_over::{self, Workers};
use crate::control::main_thread::{Control, Signals};
use crate::control::paths;
use crate::control::preflight::{self, Trial};
use crate::control::serve_error::{ServeError, listen_error};
use crate::edge::accept::accept_loop;
use crate::edge::accept::listeners::{self, Kind};
use crate::edge::shared::state::Shared;
use crate::edge::shared::tickets::{self, Tickets};

/// How often every worker gives a sign of life, unless systemd's watchdog wants to know sooner. Four of them missed, and
/// it counts as stuck.
const BEAT_INTERVAL: Duration = Duration::from_secs(5);

/// Serves the bundle at `path` until a drain ends. Logs to stderr, in `form` where one is asked for, and requests of sites that
/// want it to `access`; takes SIGHUP, SIGTERM, SIGINT and SIGUSR1.
pub fn serve(path: &Path, form: Option<log::Form>, access: (Form, Place)) -> ExitCode {
    log::start(form);
    match run(path, access, None) {
        Ok(()) => ExitCode::SUCCESS,
        Err(ServeError::Impatient { cut }) => {
            warn!(cut, "ended at once by a second signal; open connections are cut");
            ExitCode::FAILURE
        }
        Err(problem) => {
            error!(error = %problem, "cannot serve");
            ExitCode::FAILURE
        }
    }
}

/// Performs the startup steps that do not affect the serving process: all but its listeners and its admin socket. The calling process gives up its rights for that.
///
/// # Errors
/// Why a process could not start.
pub(crate) fn rehearse(path: &Path, trial: &Trial) -> Result<(), ServeError> {
    run(path, <_>::default(), Some(trial))
}

fn run(path: &Path, (form, place): (Form, Place), trial: Option<&Trial>) -> Result<(), ServeError> {
    // Before the first thread: it changes the environment.
    let mut inherited = Inherited::take()?;
    // As the edge will say it in answers to `sanedge reload`, whose folder is another.
    let path = &std::path::absolute(path)?;
    let bundle = Bundle::open(path)?;
    let mut listen = bundle.listen.clone();
    inherited.agree(&listen)?;
    let limits = bundle.limits.clone();
    let scratch_bytes = limits.read_bytes() as usize;
    let socket_buffer_bytes = limits.socket_buffer_bytes as usize;
    let tickets_folder = tickets::folder(listen.admin.as_ref(), std::env::var_os("RUNTIME_DIRECTORY"));
    // The keys in the folder are those of the serving process.
    let tickets = Tickets::start(if trial.is_none() { &tickets_folder } else { Path::new("") })?;
    let access = AccessLog::open(form, &place).map_err(|error| ServeError::Access(place.clone(), error))?;
    let needs = Needs::of(path, &bundle, &tickets_folder);
    let sessions_max = fit_descriptors(&bundle);
    let beat_interval = systemd::watchdog().map_or(BEAT_INTERVAL, |limit| (limit / 8).min(BEAT_INTERVAL));
    let shared = Arc::new(Shared::new(bundle, access, tickets, (sessions_max, beat_interval))?);
    count_panics(&shared);
    let inherited_admin = inherited.admin.take();
    let inherited_sessions = std::mem::take(&mut inherited.sessions);
    if let Some(trial) = trial {
        listen.https.retain(|address| trial.binds.contains(address));
        listen.http.retain(|address| trial.binds.contains(address));
    }
    let listeners = open_listeners(inherited, &listen, socket_buffer_bytes)?;
    if let Some(trial) = trial {
        return rehearse_rest(trial, &needs, &listen, shared.workers);
    }
    // Before the first thread: a signal that arrives early must find its handler.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let signals = runtime.block_on(async { Signals::new() })?;
    // Before the first thread: those that come inherit it.
    let sandbox = Sandbox::enter(&needs);
    let sessions = hand_over::take(&shared, inherited_sessions);
    let (ended, session_takers) = start_workers(&shared, scratch_bytes, &listeners)?;
    drop(listeners);
    hand_over::begin(&shared, sessions, &session_takers);
    let path = path.to_owned();
    let started = Started::new(&listen, &limits, sandbox.reach);
    let control = Control {
        shared,
        path,
        admin: listen.admin,
        started,
        tickets_folder,
        sandbox: sandbox.summary,
        session_takers,
    };
    runtime.block_on(control.run(inherited_admin, signals, ended))
}

/// What a start does once it has its listeners.
fn rehearse_rest(trial: &Trial, needs: &Needs, listen: &Listen, workers: usize) -> Result<(), ServeError> {
    for (what, path) in &trial.paths {
        paths::check(what, path).map_err(io::Error::other)?;
    }
    Sandbox::enter(needs);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let workers =
        (0..workers).map(|_| thread::Builder::new().spawn(runtime)).collect::<io::Result<Vec<_>>>()?;
    for worker in workers {
        worker.join().map_err(|_| ServeError::Worker)??;
    }
    match &listen.admin {
        Some(Admin::Tcp(address)) if trial.binds.contains(address) => {
            TcpListener::bind(address).map_err(|error| listen_error(address.to_string(), error))?;
        }
        Some(Admin::Unix(path)) if trial.makes_admin => {
            let beside = preflight::socket_of(path);
            UnixListener::bind(&beside)
                .and_then(|_| fs::remove_file(&beside))
                .map_err(|error| listen_error(format!("unix:{}", Excerpt::of_path(path)), error))?;
        }
        _ => {}
    }
    Ok(())
}

/// The inherited sockets, or those that `[listen]` asks for; with the options that accepted ones inherit.
fn open_listeners(
    inherited: Inherited,
    listen: &Listen,
    socket_buffer_bytes: usize,
) -> Result<Vec<(Kind, TcpListener)>, ServeError> {
    let is_inherited = inherited.serves();
    let mut listeners = Vec::new();
    let kinds = [(Kind::Https, &listen.https, inherited.https), (Kind::Http, &listen.http, inherited.http)];
    for (kind, addresses, mut made) in kinds {
        made.iter().try_for_each(|given| listeners::adopt(given, socket_buffer_bytes))?;
        for address in addresses.iter().filter(|_| !is_inherited) {
            let bound = listeners::bind(*address, socket_buffer_bytes);
            made.push(bound.map_err(|error| listen_error(address.to_string(), error))?);
        }
        for listener in made {
            let kind_name = if kind == Kind::Https { "https" } else { "http" };
            info!(kind = kind_name, address = %listener.local_addr()?, inherited = is_inherited, "listening");
            listeners.push((kind, listener));
        }
    }
    Ok(listeners)
}

/// A panic ends its own session only; it is said, counted, and a defect.
fn count_panics(shared: &Arc<Shared>) {
    let shared = Arc::downgrade(shared);
    std::panic::set_hook(Box::new(move |panic| {
        if let Some(shared) = shared.upgrade() {
            shared.counters.panics_total.increment();
        }
        let text = panic.to_string();
        error!(panic = %Said(&text), "panic: this is a bug, please report it");
    }));
}

fn start_workers(
    shared: &Arc<Shared>,
    scratch_bytes: usize,
    listeners: &[(Kind, TcpListener)],
) -> io::Result<(mpsc::Receiver<io::Result<()>>, Workers)> {
    let (sender, ended) = mpsc::channel(shared.workers);
    let mut takers = Vec::new();
    for index in 0..shared.workers {
        let cloned = listeners.iter().map(|(kind, listener)| Ok((*kind, listener.try_clone()?)));
        let cloned = cloned.collect::<io::Result<Vec<_>>>()?;
        let (shared, sender) = (Arc::clone(shared), sender.clone());
        let (taker, sessions) = mpsc::unbounded_channel();
        takers.push(taker);
        thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            // A panic outside any session drops the sender without a word: also an end.
            let result = accept_loop::run_worker(shared, index, scratch_bytes, cloned, sessions);
            let _ = sender.blocking_send(result);
        })?;
    }
    Ok((ended, takers))
}
