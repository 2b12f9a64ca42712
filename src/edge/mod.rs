//! Sockets, tasks and the clock: accept, TLS, one session's life, reload and drain. The only place that has them.
//!
//! State across workers is `Shared` and nothing else; each part of it names its lock or is an atomic.

use std::io;
use std::net::{IpAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::server::{ProducesTickets, ServerConfig};
use rustls::sign::CertifiedKey;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

use crate::bundle::{Bundle, Listen, OpenError, Route, Site};
use crate::http::head::HeadLimits;
use crate::names::{Host, SanName};
use crate::ops::admin::{self, ReloadReport};
use crate::ops::log::{self, Outside};
use crate::ops::metrics::{Counters, Reason, Refusals};
use crate::ops::systemd;

mod accept;
mod exchange;
mod plain;
mod relay;
mod session;
mod tls;
mod upstream;

use accept::{Balance, Kind};
use upstream::{UpstreamState, Upstreams};

/// Descriptors beyond two per session: listeners, epoll, the admin socket, the bundle while it is read, the pools.
const DESCRIPTORS_RESERVED: u64 = 256;
/// How long a drain for a restart (SIGUSR1) lasts, and within what time every WebSocket gets its Close.
const RESTART_DRAIN: Duration = Duration::from_secs(2);
const RESTART_SPREAD: Duration = Duration::from_millis(800);
/// Close codes of the two drains (RFC 6455 §7.4.1, and the registry of its §11.7).
const GOING_AWAY: u16 = 1001;
const SERVICE_RESTART: u16 = 1012;
/// How often a watched bundle file is looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// A bundle in use: everything that a session asks of it.
pub(crate) struct Serving {
    pub(crate) bundle: Bundle,
    pub(crate) head_limits: HeadLimits,
    /// By certificate.
    tls: Vec<Arc<ServerConfig>>,
    covered: Vec<Arc<[SanName]>>,
    /// By site and route.
    routes: Vec<Vec<Arc<RouteState>>>,
}

/// A route with its upstreams; outlives its bundle while an exchange uses it.
#[derive(Debug)]
pub(crate) struct RouteState {
    pub(crate) rules: Route,
    pub(crate) upstreams: Vec<Arc<UpstreamState>>,
}

/// Who a TLS connection was opened for.
pub(crate) struct Identity {
    /// The server name of the hello. Boxed: a name is 264 bytes.
    pub(crate) name: Option<Box<Host>>,
    /// What the certificate that was sent covers.
    pub(crate) covered: Arc<[SanName]>,
}

/// How the edge ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drain {
    /// What is open then is cut.
    pub(crate) deadline: Instant,
    /// WebSockets get their Close at a moment of their own within this time, so that clients do not come back all at
    /// once.
    pub(crate) spread: Duration,
    /// What that Close says.
    pub(crate) close_code: u16,
}

/// The state across workers.
pub(crate) struct Shared {
    /// Lock-free reads; replaced whole by a reload.
    pub(crate) serving: ArcSwap<Serving>,
    pub(crate) counters: Counters,
    pub(crate) refusals: Refusals,
    /// Open sessions of all workers, and their bound.
    pub(crate) sessions: AtomicU32,
    pub(crate) sessions_max: AtomicU32,
    handshakes: AtomicU32,
    pub(crate) workers: usize,
    pub(crate) balance: Balance,
    /// Set once the drain has begun.
    pub(crate) drain: watch::Sender<Option<Drain>>,
    /// A mutex, taken when a bundle is taken into use.
    upstreams: Upstreams,
    /// Outlives reloads, so that resumption does.
    ticketer: Arc<dyn ProducesTickets>,
    /// A mutex, taken by reloads and `status`.
    keys: Keys,
    started: Instant,
}

impl Serving {
    fn new(
        bundle: Bundle,
        upstreams: &Upstreams,
        ticketer: &Arc<dyn ProducesTickets>,
    ) -> Result<Self, rustls::Error> {
        let lead = tls::Lead::choose(bundle.suite_order);
        let tls = bundle.certificates.iter().map(|certificate| {
            tls::server_config(Arc::clone(&certificate.key), lead, Arc::clone(ticketer)).map(Arc::new)
        });
        let state = |rules: &Route| {
            let upstreams = rules.upstreams.iter().map(|upstream| upstreams.state(upstream)).collect();
            Arc::new(RouteState { rules: rules.clone(), upstreams })
        };
        Ok(Self {
            tls: tls.collect::<Result<_, _>>()?,
            covered: bundle
                .certificates
                .iter()
                .map(|certificate| certificate.names.as_slice().into())
                .collect(),
            routes: bundle.sites.iter().map(|site| site.routes.iter().map(state).collect()).collect(),
            head_limits: HeadLimits {
                head_bytes_max: bundle.limits.head_bytes_max as usize,
                fields_max: bundle.limits.fields_max.into(),
                target_bytes_max: bundle.limits.target_bytes_max as usize,
            },
            bundle,
        })
    }

    /// Configuration and identity for a hello with this server name, or without one.
    fn identify(&self, name: Option<&str>) -> Option<(Arc<ServerConfig>, Identity)> {
        let name = name.map(Host::parse).transpose().ok()?;
        let entry = match &name {
            Some(name) => self.bundle.host(name),
            None => {
                self.bundle.listen.default_host.and_then(|index| self.bundle.hosts.get(usize::from(index)))
            }
        }?;
        let certificate = usize::from(entry.certificate);
        let config = Arc::clone(self.tls.get(certificate)?);
        let covered = Arc::clone(self.covered.get(certificate)?);
        Some((config, Identity { name: name.map(Box::new), covered }))
    }

    /// The site of a host, with its routes in the same order.
    pub(crate) fn site(&self, host: &Host) -> Option<(&Site, &[Arc<RouteState>])> {
        let index = usize::from(self.bundle.host(host)?.site);
        Some((self.bundle.sites.get(index)?, self.routes.get(index)?))
    }
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
            let found = Outside(found.as_bytes());
            info!(reason = reason.name(), %peer, %found, check, more_since_last_line = silent, "refused");
        }
    }

    /// A place among the handshakes, given back when dropped.
    pub(crate) fn handshaking(self: &Arc<Self>, most: u32) -> Option<impl Drop + use<>> {
        struct Handshaking(Arc<Shared>);
        impl Drop for Handshaking {
            fn drop(&mut self) {
                self.0.handshakes.fetch_sub(1, Relaxed);
            }
        }
        let place = Handshaking(Arc::clone(self));
        (self.handshakes.fetch_add(1, Relaxed) < most).then_some(place)
    }
}

/// Why the edge could not start, or ended badly.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The bundle is not usable.
    #[error(transparent)]
    Open(#[from] OpenError),
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
    /// The operating system refused something else.
    #[error("{0}")]
    System(#[from] io::Error),
    /// A worker ended before the drain.
    #[error("a worker ended by itself; see the log above")]
    Worker,
    /// A second SIGTERM cut the drain short.
    #[error("a second signal ended the drain at once")]
    Impatient,
}

/// Serves the bundle at `path` until a drain ends. Logs to stderr; takes SIGHUP, SIGTERM, SIGINT and SIGUSR1.
pub fn serve(path: &Path) -> ExitCode {
    log::start();
    match run(path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            error!(error = %problem, "cannot serve");
            ExitCode::FAILURE
        }
    }
}

fn run(path: &Path) -> Result<(), ServeError> {
    let bundle = Bundle::open(path)?;
    let listen = bundle.listen.clone();
    let (workers, scratch_bytes) =
        (usize::from(bundle.limits.workers.max(1)), bundle.limits.scratch_bytes as usize);
    let socket_buffer_bytes = bundle.limits.socket_buffer_bytes as usize;
    let ticketer = rustls::crypto::ring::Ticketer::new()?;
    let upstreams = Upstreams::default();
    let sessions_max = fit_descriptors(bundle.limits.sessions_max);
    let serving = Serving::new(bundle, &upstreams, &ticketer)?;
    let shared = Arc::new(Shared {
        keys: Keys::default(),
        serving: ArcSwap::from_pointee(serving),
        counters: Counters::default(),
        refusals: Refusals::default(),
        sessions: AtomicU32::new(0),
        sessions_max: AtomicU32::new(sessions_max),
        handshakes: AtomicU32::new(0),
        workers,
        balance: Balance::default(),
        drain: watch::Sender::new(None),
        upstreams,
        ticketer,
        started: Instant::now(),
    });
    shared.keys.note(&shared.serving.load().bundle);
    count_panics(&shared);
    let mut listeners = Vec::new();
    for (kind, addresses) in [(Kind::Https, &listen.https), (Kind::Http, &listen.http)] {
        for address in addresses {
            let listener = accept::bind(*address, socket_buffer_bytes)
                .map_err(|error| listen_error(address.to_string(), error))?;
            let kind_name = if kind == Kind::Https { "https" } else { "http" };
            info!(kind = kind_name, address = %listener.local_addr()?, "listening");
            listeners.push((kind, listener));
        }
    }
    // Before the first thread: a signal that arrives early must find its handler.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let signals = runtime.block_on(async { Signals::new() })?;
    let ended = start_workers(&shared, workers, scratch_bytes, &listeners)?;
    drop(listeners);
    runtime.block_on(Control { shared, path: path.to_owned(), listen }.run(signals, ended))
}

fn listen_error(address: String, error: io::Error) -> ServeError {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need CAP_NET_BIND_SERVICE: run as a systemd unit with AmbientCapabilities=, or `sysctl net.ipv4.ip_unprivileged_port_start=443`"
        }
        io::ErrorKind::AddrInUse => "; another program listens there: `ss -ltnp` shows which",
        io::ErrorKind::AddrNotAvailable => {
            "; this machine has no such address: `ip address` lists those it has"
        }
        _ => "",
    };
    ServeError::Listen { address, error, hint }
}

/// Raises the soft limit of open files to what `sessions_max` needs, or lowers `sessions_max` to what it allows.
fn fit_descriptors(sessions_max: u32) -> u32 {
    let needed = u64::from(sessions_max) * 2 + DESCRIPTORS_RESERVED;
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
    let fits = u32::try_from(got.saturating_sub(DESCRIPTORS_RESERVED) / 2).unwrap_or(u32::MAX).max(1);
    if fits < sessions_max {
        warn!(
            sessions_max = fits,
            asked = sessions_max,
            open_files = got,
            "sessions_max lowered to what the limit of open files allows; raise LimitNOFILE="
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

struct Signals {
    reload: Signal,
    terminate: Signal,
    interrupt: Signal,
    restart: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            reload: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            restart: signal(SignalKind::user_defined1())?,
        })
    }
}

/// The main thread: signals, the admin socket, reloads and the drain.
struct Control {
    shared: Arc<Shared>,
    path: PathBuf,
    /// As it was when the listeners were made.
    listen: Listen,
}

impl Control {
    async fn run(
        self,
        mut signals: Signals,
        mut ended: mpsc::Receiver<io::Result<()>>,
    ) -> Result<(), ServeError> {
        let (asks_sender, mut asks) = mpsc::channel(4);
        let admin = admin::start(self.listen.admin.as_ref(), asks_sender)
            .map_err(|(address, error)| listen_error(address, error))?;
        let summary = self.summary();
        info!(hosts = self.shared.serving.load().bundle.hosts.len(), workers = self.shared.workers, "ready");
        systemd::ready(&summary);
        let mut watched = Watched::new(&self.path);
        let mut draining = false;
        loop {
            tokio::select! {
                _ = signals.reload.recv() => { self.reload().await; }
                _ = async { tokio::select! { _ = signals.terminate.recv() => {}, _ = signals.interrupt.recv() => {} } } => {
                    if draining { return Err(ServeError::Impatient); }
                    let (time, spread) = self.drain_times();
                    draining = self.drain(time, spread, GOING_AWAY);
                }
                _ = signals.restart.recv() => {
                    if draining { return Err(ServeError::Impatient); }
                    draining = self.drain(RESTART_DRAIN, RESTART_SPREAD, SERVICE_RESTART);
                }
                Some(ask) = asks.recv() => match ask {
                    admin::Ask::Reload(answer) => { let _ = answer.send(self.reload().await); }
                    admin::Ask::Status(answer) => { let _ = answer.send(self.status()); }
                },
                end = ended.recv() => match end {
                    Some(Ok(())) if draining => {}
                    Some(Err(error)) => return Err(error.into()),
                    Some(Ok(())) => return Err(ServeError::Worker),
                    None if draining => break,
                    None => return Err(ServeError::Worker),
                },
                () = sleep(WATCH_INTERVAL), if self.shared.serving.load().bundle.watch && !draining => {
                    if watched.has_changed(&self.path) { self.reload().await; }
                }
            }
        }
        drop(admin);
        info!("drained");
        Ok(())
    }

    /// `drain_timeout`, and `drain_spread` within half of it: a Close wants an answer.
    fn drain_times(&self) -> (Duration, Duration) {
        let serving = self.shared.serving.load();
        let time = serving.bundle.drain_timeout;
        (time, serving.bundle.drain_spread.min(time / 2))
    }

    /// Tells every worker to stop accepting and to be done by `time` from now.
    fn drain(&self, time: Duration, spread: Duration, close_code: u16) -> bool {
        let sessions = self.shared.sessions.load(Relaxed);
        let websockets = self.shared.counters.websockets_open.value();
        info!(sessions, websockets, at_most_s = time.as_secs(), "draining");
        systemd::stopping("draining");
        self.shared.drain.send_replace(Some(Drain { deadline: Instant::now() + time, spread, close_code }));
        true
    }

    /// Opens the bundle again and takes it into use if it is good; says how it went.
    async fn reload(&self) -> ReloadReport {
        systemd::reloading();
        let report = match self.open_again().await {
            Ok(report) => report,
            Err(refused) => {
                self.shared.counters.reloads_refused_total.increment();
                error!(error = %refused, "reload refused; the bundle in use stays");
                ReloadReport { ok: false, message: refused, bundle: self.digest(), notes: Vec::new() }
            }
        };
        systemd::ready(&self.summary());
        report
    }

    async fn open_again(&self) -> Result<ReloadReport, String> {
        if self.shared.drain.borrow().is_some() {
            return Err("the edge is draining and takes no new bundle".to_owned());
        }
        // On a thread of its own: reading and checking must not hold up signals and the admin socket.
        let (sender, opened) = oneshot::channel();
        let path = self.path.clone();
        let spawned = thread::Builder::new().name("reload".to_owned()).spawn(move || {
            let _ = sender.send(Bundle::open(&path));
        });
        spawned.map_err(|error| format!("no thread to open the bundle on: {error}"))?;
        let bundle = opened.await.map_err(|_| "opening the bundle ended in a panic".to_owned())?;
        let bundle = bundle.map_err(|error| error.to_string())?;
        self.needs_no_restart(&bundle)?;
        let mut notes = Vec::new();
        if usize::from(bundle.limits.workers.max(1)) != self.shared.workers {
            notes.push(format!("`workers` stays {} until the next restart", self.shared.workers));
        }
        let sessions_max = fit_descriptors(bundle.limits.sessions_max);
        let serving = Serving::new(bundle, &self.shared.upstreams, &self.shared.ticketer);
        let serving = serving.map_err(|error| error.to_string())?;
        self.shared.keys.note(&serving.bundle);
        self.shared.sessions_max.store(sessions_max, Relaxed);
        drop(self.shared.serving.swap(Arc::new(serving)));
        self.shared.upstreams.prune();
        self.shared.counters.reloads_total.increment();
        let bundle = self.digest();
        info!(%bundle, hosts = self.shared.serving.load().bundle.hosts.len(), "reloaded");
        Ok(ReloadReport { ok: true, message: "the new bundle is in use".to_owned(), bundle, notes })
    }

    fn needs_no_restart(&self, bundle: &Bundle) -> Result<(), String> {
        let (old, new) = (&self.listen, &bundle.listen);
        let changed = [
            ("https", format!("{:?}", old.https), format!("{:?}", new.https)),
            ("http", format!("{:?}", old.http), format!("{:?}", new.http)),
            ("admin", format!("{:?}", old.admin), format!("{:?}", new.admin)),
        ];
        match changed.iter().find(|(_, old, new)| old != new) {
            Some((key, old, new)) => Err(format!(
                "needs a restart: [listen] {key} was {old} and is {new}; `systemctl restart sanedge`"
            )),
            None => Ok(()),
        }
    }

    fn digest(&self) -> String {
        self.shared.serving.load().bundle.digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    fn summary(&self) -> String {
        let serving = self.shared.serving.load();
        format!("serving {} hosts, bundle {}", serving.bundle.hosts.len(), self.digest())
    }

    fn status(&self) -> admin::Status {
        let shared = &self.shared;
        let serving = shared.serving.load();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs() as i64);
        let hosts = serving.bundle.hosts.iter().filter_map(|entry| {
            let certificate = serving.bundle.certificates.get(usize::from(entry.certificate))?;
            let upstreams = serving.routes.get(usize::from(entry.site))?.iter().flat_map(|route| {
                route.upstreams.iter().map(|upstream| admin::UpstreamStatus {
                    path: route.rules.path.clone(),
                    upstream: upstream.text.clone(),
                    down: upstream.is_down(),
                })
            });
            Some(admin::HostStatus {
                host: entry.host.to_string(),
                certificate: certificate.label.clone(),
                days_left: (certificate.not_after - now).div_euclid(86_400),
                upstreams: upstreams.collect(),
            })
        });
        admin::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: shared.started.elapsed().as_secs(),
            board: serving.bundle.board.clone(),
            bundle: self.digest(),
            draining: shared.drain.borrow().is_some(),
            sessions: shared.sessions.load(Relaxed),
            sessions_max: shared.sessions_max.load(Relaxed),
            handshakes: shared.handshakes.load(Relaxed),
            workers: shared.workers,
            keys_in_memory: shared.keys.alive(),
            counters: shared.counters.all().map(|(name, value)| (name.to_owned(), value)).collect(),
            refused: shared.refusals.all().map(|(name, value)| (name.to_owned(), value)).collect(),
            hosts: hosts.collect(),
        }
    }
}

/// Which file is at a path: told apart by inode, size and time.
#[derive(Debug, PartialEq, Eq)]
struct Watched(Option<(u64, u64, i64, i64)>);

impl Watched {
    fn new(path: &Path) -> Self {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(path).ok();
        Self(metadata.map(|file| (file.ino(), file.size(), file.mtime(), file.mtime_nsec())))
    }

    /// A missing file is no change: it may be on its way.
    fn has_changed(&mut self, path: &Path) -> bool {
        let now = Self::new(path);
        let changed = now.0.is_some() && now != *self;
        if changed {
            *self = now;
        }
        changed
    }
}

/// Every private key that was ever in use, to tell whether one is still in memory.
/// A mutex, taken by reloads and `status`.
#[derive(Debug, Default)]
struct Keys(Mutex<Vec<Weak<CertifiedKey>>>);

impl Keys {
    fn note(&self, bundle: &Bundle) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|key| key.strong_count() > 0);
        keys.extend(bundle.certificates.iter().map(|certificate| Arc::downgrade(&certificate.key)));
    }

    fn alive(&self) -> usize {
        let keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.iter().filter(|key| key.strong_count() > 0).count()
    }
}
