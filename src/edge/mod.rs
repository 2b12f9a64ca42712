//! Sockets, tasks and the clock: accept, TLS, one session's life, reload and drain. The only place that has them.
//!
//! State across workers is `Shared` and nothing else; each part of it names its lock or is an atomic.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::bundle::{Bundle, Listen, OpenError};
use crate::ops::access::{AccessLog, Form, Place};
use crate::ops::log::{self, Outside, Said};
use crate::ops::metrics::{Closes, Counter, Counters, HostTallies, Reason, Refusals, WorkerTally};
use crate::ops::sandbox::{Needs, Sandbox};
use crate::ops::sockets::{Inherited, SocketsError};
use crate::ops::systemd;

mod accept;
mod addresses;
mod alarm;
mod calendar;
mod control;
mod exchange;
mod lobby;
mod pace;
mod plain;
mod proxied;
mod pulse;
mod relay;
mod serving;
mod session;
mod status;
mod sticky;
mod tickets;
mod tls;
mod upstream;

use accept::{Balance, Kind};
use addresses::{Addresses, Over, Quota, SharedMeter, Slot, Source};
use control::{Control, Signals};
use lobby::Lobby;
use serving::Keys;
pub(crate) use serving::{Identity, RouteState, Serving};
use sticky::Sids;
use tickets::Tickets;
use upstream::Upstreams;

/// How often every worker gives a sign of life, unless systemd's watchdog wants to know sooner. Four of them missed, and
/// it counts as stuck.
const BEAT_INTERVAL: Duration = Duration::from_secs(5);

/// How the edge ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drain {
    /// What is open then is cut.
    pub(crate) deadline: Instant,
    /// WebSockets get their Close at a moment of their own within this time, so that clients do not come back all at
    /// once.
    pub(crate) spread: Duration,
    /// What that Close says: code and reason.
    pub(crate) close: (u16, &'static str),
}

/// How many sessions a drain ended how; plain atomics.
#[derive(Debug, Default)]
pub(crate) struct Endings {
    /// Between two requests, or before the first.
    pub(crate) idle: Counter,
    /// With the response that was on its way.
    pub(crate) exchanges: Counter,
    /// By a Close, from either side.
    pub(crate) websockets: Counter,
    /// By the end of its time.
    pub(crate) cut: Counter,
}

/// The state across workers.
pub(crate) struct Shared {
    /// Lock-free reads; replaced whole by a reload.
    pub(crate) serving: ArcSwap<Serving>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) refusals: Refusals,
    pub(crate) closes: Closes,
    pub(crate) access: AccessLog,
    /// A mutex, taken when a bundle is taken into use.
    tallies: HostTallies,
    /// By worker, each written by that worker alone.
    work: Vec<Arc<WorkerTally>>,
    /// Open sessions of all workers, and their bound.
    pub(crate) sessions: AtomicU32,
    pub(crate) sessions_max: AtomicU32,
    /// Most sessions that were open at once.
    sessions_peak: Counter,
    handshakes: AtomicU32,
    /// Handshakes begun. An atomic.
    handshake_rate: SharedMeter,
    /// What each client address has; as large as the limits at the start want it. Mutexes, each taken for one look-up.
    pub(crate) addresses: Addresses,
    /// Who has sent no request yet. A mutex, taken a few times before a connection's first request.
    pub(crate) lobby: Lobby,
    /// Descriptors have run out, and no worker accepts.
    pub(crate) exhausted: AtomicBool,
    /// How sessions ended in a drain.
    pub(crate) endings: Endings,
    pub(crate) workers: usize,
    /// How often every worker gives a sign of life.
    beat_interval: Duration,
    pub(crate) balance: Balance,
    /// Set once the drain has begun.
    pub(crate) drain: watch::Sender<Option<Drain>>,
    /// A mutex, taken when a bundle is taken into use.
    upstreams: Upstreams,
    /// Where sessions of Engine.IO live. Mutexes, each taken for one look-up, where a route has several upstreams.
    sids: Sids,
    /// Outlives reloads, so that resumption does. Lock-free reads; replaced by the main thread alone.
    tickets: Arc<Tickets>,
    /// A mutex, taken by reloads and `status`.
    keys: Keys,
    started: Instant,
}

impl Shared {
    /// Counts a refusal and says it, at most once per reason and minute.
    pub(crate) fn refuse(&self, reason: Reason, peer: IpAddr, found: &str) {
        self.refuse_with_check(reason, peer, found, None);
    }

    /// The same, with what to check or to add: a sentence of ours, to be read and copied as it stands.
    pub(crate) fn refuse_with_check(&self, reason: Reason, peer: IpAddr, found: &str, check: Option<&str>) {
        let minute = self.started.elapsed().as_secs() / 60;
        if let Some(silent) = self.refusals.count(reason, minute) {
            let found = Said(found);
            info!(reason = reason.name(), %peer, %found, check, more_since_last_line = silent, "refused");
        }
    }

    /// Counts what ends a connection and is no news.
    pub(crate) fn count(&self, reason: Reason) {
        self.refusals.count_silently(reason);
    }

    /// Counts a new connection of `peer` in the table of addresses; `None`: no limit by address holds for it.
    ///
    /// # Errors
    /// Which limit it is over.
    fn place(&self, peer: IpAddr) -> Result<Option<Slot>, (Reason, &'static str)> {
        let serving = self.serving.load();
        if serving.is_exempt(&peer) || serving.is_proxy(&peer) {
            return Ok(None);
        }
        let quota = Quota::of(&serving.bundle.limits);
        match self.addresses.enter(Source::from(peer), &quota, self.uptime()) {
            Ok(place) => {
                if !place.is_known() {
                    self.counters.addresses_unknown_total.increment();
                }
                Ok(Some(place))
            }
            Err(Over::Sessions) => Err((Reason::AddressSessions, "address_sessions_max reached")),
            Err(Over::Rate) => Err((Reason::AddressHandshakes, "address_handshakes_per_s_max reached")),
        }
    }

    /// Counts a new WebSocket of `client`, whom a trusted proxy may have named; `false`: it is one too many.
    fn may_upgrade(&self, serving: &Serving, client: IpAddr) -> bool {
        let most = serving.bundle.limits.address_websockets_per_s_max;
        serving.is_exempt(&client)
            || serving.is_proxy(&client) // which has named nobody
            || self.addresses.may_upgrade(Source::from(client), most, self.uptime())
    }

    /// Counts a handshake that begins; `false`: it is one too many.
    fn may_handshake(&self, per_s: u32) -> bool {
        self.handshake_rate.take(per_s, self.uptime())
    }

    /// Since the start.
    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// A place among the handshakes, given back when dropped. Where all are taken, the one that has been in its handshake
    /// longest is sent away.
    pub(crate) fn handshaking(self: &Arc<Self>, most: u32) -> Option<impl Drop + use<>> {
        struct Handshaking(Arc<Shared>);
        impl Drop for Handshaking {
            fn drop(&mut self) {
                self.0.handshakes.fetch_sub(1, Relaxed);
            }
        }
        let place = Handshaking(Arc::clone(self));
        let has_room = self.handshakes.fetch_add(1, Relaxed) < most || self.lobby.send_away_handshaking();
        has_room.then_some(place)
    }
}

/// Why the edge could not start, or ended badly.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The bundle is not usable.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What the service manager handed over is not what the bundle says.
    #[error(transparent)]
    Sockets(#[from] SocketsError),
    /// TLS could not be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error}{hint}")]
    Listen {
        /// What was asked for.
        address: String,
        /// What the kernel said.
        error: io::Error,
        /// What to do.
        hint: &'static str,
    },
    /// The kernel gives no randomness.
    #[error(transparent)]
    Tickets(#[from] tickets::NoRandomness),
    /// The access log has nowhere to go.
    #[error("the access log cannot be written to {0}: {1}; is its reader running?")]
    Access(Place, io::Error),
    /// The operating system refused something else.
    #[error("{0}")]
    System(#[from] io::Error),
    /// A worker ended before the drain.
    #[error("a worker ended by itself; see the log above")]
    Worker,
    /// A second SIGTERM cut the drain short.
    #[error("a second signal ended the drain at once")]
    Impatient {
        /// Sessions that were open.
        cut: u32,
    },
}

/// Serves the bundle at `path` until a drain ends. Logs to stderr, requests of sites that want it to `access`; takes
/// SIGHUP, SIGTERM, SIGINT and SIGUSR1.
pub fn serve(path: &Path, access: (Form, Place)) -> ExitCode {
    log::start();
    match run(path, access) {
        Ok(()) => ExitCode::SUCCESS,
        Err(ServeError::Impatient { cut }) => {
            warn!(cut, "ended at once by a second signal; what was open is cut");
            ExitCode::FAILURE
        }
        Err(problem) => {
            error!(error = %problem, "cannot serve");
            ExitCode::FAILURE
        }
    }
}

fn run(path: &Path, (form, place): (Form, Place)) -> Result<(), ServeError> {
    // Before the first thread: it changes the environment.
    let mut inherited = Inherited::take()?;
    // As the edge will say it in answers to `sanedge reload`, whose folder is another.
    let path = &std::path::absolute(path)?;
    let bundle = Bundle::open(path)?;
    let listen = bundle.listen.clone();
    inherited.agree(&listen)?;
    let limits = bundle.limits.clone();
    let (workers, scratch_bytes) = (usize::from(limits.workers.max(1)), limits.read_bytes() as usize);
    let socket_buffer_bytes = limits.socket_buffer_bytes as usize;
    let tickets_folder = tickets::folder(listen.admin.as_ref(), std::env::var_os("RUNTIME_DIRECTORY"));
    let tickets = Tickets::start(&tickets_folder)?;
    let access = AccessLog::open(form, &place).map_err(|error| ServeError::Access(place.clone(), error))?;
    let upstreams = Upstreams::default();
    let needs = Needs::of(path, &bundle, &tickets_folder);
    let sessions_max = fit_descriptors(&bundle);
    let counters = Arc::default();
    let tallies = HostTallies::new(&counters);
    let serving = Serving::new(bundle, &upstreams, &tickets, &tallies)?;
    let shared = Arc::new(Shared {
        keys: Keys::default(),
        serving: ArcSwap::from_pointee(serving),
        counters,
        refusals: Refusals::default(),
        closes: Closes::default(),
        access,
        tallies,
        work: (0..workers).map(|_| Arc::default()).collect(),
        sessions: AtomicU32::new(0),
        sessions_max: AtomicU32::new(sessions_max),
        sessions_peak: Counter::default(),
        handshakes: AtomicU32::new(0),
        handshake_rate: SharedMeter::default(),
        addresses: Addresses::new(limits.address_rows()),
        lobby: Lobby::default(),
        exhausted: AtomicBool::new(false),
        endings: Endings::default(),
        workers,
        beat_interval: systemd::watchdog().map_or(BEAT_INTERVAL, |limit| (limit / 8).min(BEAT_INTERVAL)),
        balance: Balance::default(),
        drain: watch::Sender::new(None),
        upstreams,
        sids: Sids::new(Instant::now()),
        tickets,
        started: Instant::now(),
    });
    shared.keys.note(&shared.serving.load().bundle);
    count_panics(&shared);
    let inherited_admin = inherited.admin.take();
    let listeners = listeners(inherited, &listen, socket_buffer_bytes)?;
    // Before the first thread: a signal that arrives early must find its handler.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let signals = runtime.block_on(async { Signals::new() })?;
    // Before the first thread: those that come inherit it.
    let sandbox = Sandbox::enter(&needs);
    let ended = start_workers(&shared, workers, scratch_bytes, &listeners)?;
    drop(listeners);
    let path = path.to_owned();
    let control = Control { shared, path, listen, limits, tickets_folder, sandbox };
    runtime.block_on(control.run(inherited_admin, signals, ended))
}

/// The inherited sockets, or those that `[listen]` asks for; with the options that accepted ones inherit.
fn listeners(
    inherited: Inherited,
    listen: &Listen,
    socket_buffer_bytes: usize,
) -> Result<Vec<(Kind, TcpListener)>, ServeError> {
    let is_inherited = inherited.serves();
    let mut listeners = Vec::new();
    let kinds = [(Kind::Https, &listen.https, inherited.https), (Kind::Http, &listen.http, inherited.http)];
    for (kind, addresses, mut made) in kinds {
        made.iter().try_for_each(|given| accept::adopt(given, socket_buffer_bytes))?;
        for address in addresses.iter().filter(|_| !is_inherited) {
            let bound = accept::bind(*address, socket_buffer_bytes);
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

fn listen_error(address: String, error: io::Error) -> ServeError {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need the socket units (`systemctl enable --now sanedge-https.socket`, sanedge-http.socket for port 80), CAP_NET_BIND_SERVICE, or `sysctl net.ipv4.ip_unprivileged_port_start=80`"
        }
        io::ErrorKind::AddrInUse if address.starts_with("unix:") => {
            "; stop it, or give this edge an `admin` of its own in [listen]"
        }
        io::ErrorKind::AddrInUse => "; another program listens there: `ss -ltnp` shows which",
        io::ErrorKind::AddrNotAvailable => {
            "; this machine has no such address: `ip address` lists those it has"
        }
        _ => "",
    };
    ServeError::Listen { address, error, hint }
}

/// Raises the soft limit of open files to what `bundle` needs, or lowers its `sessions_max`, which this gives, to what it allows.
fn fit_descriptors(bundle: &Bundle) -> u32 {
    let sessions_max = bundle.limits.sessions_max;
    let others = bundle.limits.other_descriptors(bundle.upstreams().collect::<HashSet<_>>().len() as u64);
    let needed = u64::from(sessions_max) * 2 + others;
    let limit = getrlimit(Resource::Nofile);
    let (soft, hard) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
    if needed <= soft {
        return sessions_max;
    }
    let raised = needed.min(hard);
    let got = match setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: limit.maximum }) {
        Ok(()) => raised,
        Err(_) => soft,
    };
    let fits = u32::try_from(got.saturating_sub(others) / 2).unwrap_or(u32::MAX).max(1);
    if fits < sessions_max {
        warn!(
            sessions_max = fits,
            asked = sessions_max,
            open_files = got,
            "sessions_max lowered to what the limit of open files allows; raise LimitNOFILE= (without systemd: `ulimit -n`)"
        );
    }
    fits.min(sessions_max)
}

/// A panic ends its own session only; it is said, counted, and a defect.
fn count_panics(shared: &Arc<Shared>) {
    let shared = Arc::downgrade(shared);
    std::panic::set_hook(Box::new(move |panic| {
        if let Some(shared) = shared.upgrade() {
            shared.counters.panics_total.increment();
        }
        let text = panic.to_string();
        error!(panic = %Outside(text.as_bytes()), "panic: this is a defect, please report it");
    }));
}

fn start_workers(
    shared: &Arc<Shared>,
    workers: usize,
    scratch_bytes: usize,
    listeners: &[(Kind, TcpListener)],
) -> io::Result<mpsc::Receiver<io::Result<()>>> {
    let (sender, ended) = mpsc::channel(workers);
    for index in 0..workers {
        let cloned = listeners.iter().map(|(kind, listener)| Ok((*kind, listener.try_clone()?)));
        let cloned = cloned.collect::<io::Result<Vec<_>>>()?;
        let (shared, sender) = (Arc::clone(shared), sender.clone());
        thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            // A panic outside any session drops the sender without a word: also an end.
            let result = accept::run_worker(shared, index, scratch_bytes, cloned);
            let _ = sender.blocking_send(result);
        })?;
    }
    Ok(ended)
}
