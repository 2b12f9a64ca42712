//! The main thread: signals, the admin socket, reloads, status and the drain.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::admin::problems::named;
use crate::admin::{Ask, ReloadReport, server};
use crate::bundle::commands::renew_command;
use crate::bundle::open::OpenError;
use crate::bundle::{Admin, Bundle};
use crate::control::challenges;
use crate::control::descriptors::fit_descriptors;
use crate::control::expiry::{Expiry, wall_clock};
use crate::control::hand_over::{self, Outcome, Workers};
use crate::control::health;
use crate::control::serve_error::{ServeError, listen_error};
use crate::control::watchdog::{self, Watchdog};
use crate::control::{paths, sources, status};
use crate::edge::shared::active_config::ActiveConfig;
use crate::edge::shared::state::{Drain, Shared};
use crate::excerpt::Excerpt;
use crate::ops::metrics::Counter;
use crate::system::sandbox::Needs;
use crate::system::sockets::AdminListener;
use crate::system::started::Started;
use crate::system::systemd;

/// Within what time every WebSocket gets its Close at a restart (SIGUSR1) that does not hand it over.
const RESTART_SPREAD: Duration = Duration::from_millis(800);
/// What the Closes of the two drains say (RFC 6455 §7.4.1, and the registry of its §11.7).
const GOING_AWAY: (u16, &str) = (1001, "the server is shutting down");
const SERVICE_RESTART: (u16, &str) = (1012, "the server is restarting");
/// How often a watched bundle file is looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// How often ticket keys and the expiry of certificates are looked at.
const CHORES_INTERVAL: Duration = Duration::from_secs(60);

/// What this process reacts to; made before the first thread.
pub(crate) struct Signals {
    reload: Signal,
    terminate: Signal,
    interrupt: Signal,
    restart: Signal,
}

impl Signals {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            reload: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            restart: signal(SignalKind::user_defined1())?,
        })
    }
}

/// The main thread's work.
pub(crate) struct Control {
    pub(crate) shared: Arc<Shared>,
    pub(crate) path: PathBuf,
    /// Where the admin socket is made.
    pub(crate) admin: Option<Admin>,
    /// What holds until the end.
    pub(crate) started: Started,
    pub(crate) tickets_folder: PathBuf,
    /// What the process has given up, in words.
    pub(crate) sandbox: String,
    /// Delivers sessions to resume to each worker. Empty once the edge drains.
    pub(crate) session_takers: Workers,
}

impl Control {
    pub(crate) async fn run(
        mut self,
        inherited_admin: Option<AdminListener>,
        mut signals: Signals,
        mut ended: mpsc::Receiver<io::Result<()>>,
    ) -> Result<(), ServeError> {
        let (asks_sender, mut asks) = mpsc::channel(4);
        let admin = server::start(self.admin.as_ref(), inherited_admin, asks_sender)
            .map_err(|(address, error)| listen_error(address, error))?;
        let mut watchdog = Watchdog::new(self.shared.beat_interval);
        info!(hosts = self.shared.active.load().bundle.hosts.len(), workers = self.shared.workers, "ready");
        self.tell_pending();
        systemd::ready(&status::summary(&self.shared, &watchdog.meter));
        let mut watched = Watched::new(&self.path);
        // Not sleeps in the loop, which whatever else happens would begin anew.
        let (mut looks, mut chores) = (watchdog::every(WATCH_INTERVAL), watchdog::every(CHORES_INTERVAL));
        chores.reset_immediately();
        let mut expiry = Expiry::default();
        let (mut challenge_looks, mut challenges) =
            (watchdog::every(challenges::INTERVAL), challenges::Look::default());
        // Sessions when the drain began.
        let mut drained = None;
        let (handed_over, mut outcomes) = mpsc::channel(1);
        let mut stored = 0;
        loop {
            let draining = drained.is_some();
            tokio::select! {
                _ = signals.reload.recv() => {
                    self.reload(&watchdog).await;
                    chores.reset_immediately();
                }
                _ = async { tokio::select! { _ = signals.terminate.recv() => {}, _ = signals.interrupt.recv() => {} } } => {
                    if draining { return Err(self.cut_short()); }
                    let (time, spread) = self.drain_times();
                    self.session_takers.clear();
                    drained = Some(self.drain(time, spread, GOING_AWAY, false));
                }
                _ = signals.restart.recv() => {
                    if draining { return Err(self.cut_short()); }
                    let workers = std::mem::take(&mut self.session_takers);
                    let hands_over = self.shared.hand_over.is_allowed();
                    drained = Some(self.drain(hand_over::EXCHANGES_TIME, RESTART_SPREAD, SERVICE_RESTART, hands_over));
                    if hands_over {
                        let (shared, sender) = (Arc::clone(&self.shared), handed_over.clone());
                        tokio::spawn(async move { sender.send(hand_over::hand_over(shared, workers).await).await });
                    }
                }
                Some(Outcome { stored: all, returned }) = outcomes.recv() => {
                    stored = all;
                    // Exchanges have had their time, and the next process waits for the end of this one. A Close gets a second.
                    if returned == 0 && self.shared.hand_over.staying() == 0 { break; }
                }
                Some(ask) = asks.recv() => match ask {
                    Ask::Reload(answer) => {
                        let _ = answer.send(self.reload(&watchdog).await);
                        chores.reset_immediately();
                    }
                    Ask::Status(answer) => { let _ = answer.send(status::status(&self.shared, &watchdog.meter, &self.path, &self.sandbox, &self.started)); }
                    // Beside this loop: it takes as long as the slowest worker.
                    Ask::Health(answer) => {
                        let shared = Arc::clone(&self.shared);
                        tokio::spawn(async move { answer.send(health::check(shared).await) });
                    }
                    Ask::History(answer) => { let _ = answer.send(watchdog.meter.history()); }
                },
                due = watchdog.due() => watchdog.run(due, &self.shared),
                end = ended.recv() => match end {
                    Some(Ok(())) if draining => {}
                    Some(Err(error)) => return Err(error.into()),
                    Some(Ok(())) => return Err(ServeError::Worker),
                    None if draining => break,
                    None => return Err(ServeError::Worker),
                },
                _ = looks.tick(), if self.shared.active.load().bundle.watch && !draining => {
                    if watched.has_changed(&self.path) {
                        self.reload(&watchdog).await;
                        chores.reset_immediately();
                    }
                }
                _ = challenge_looks.tick(), if challenges.is_wanted(&self.shared) => challenges.look(&self.shared),
                _ = chores.tick() => {
                    self.shared.tickets.turn();
                    expiry.look(&self.shared.active.load().bundle, wall_clock());
                }
            }
        }
        drop(admin);
        if let Ok(outcome) = outcomes.try_recv() {
            stored = outcome.stored;
        }
        self.say_drained(drained.unwrap_or_default(), stored as u64);
        Ok(())
    }

    /// How many of the `sessions` that were open ended how. The others' clients went away, or were in their handshake.
    fn say_drained(&self, sessions: u32, handed_over: u64) {
        let endings = &self.shared.endings;
        let all = [&endings.idle, &endings.exchanges, &endings.websockets, &endings.cut];
        let [idle, exchanges, websockets, cut] = all.map(Counter::value);
        let others = u64::from(sessions).saturating_sub(idle + exchanges + websockets + cut + handed_over);
        info!(sessions, idle, exchanges, websockets, others, cut, handed_over, "drained");
    }

    /// A second signal: what is open now is cut.
    fn cut_short(&self) -> ServeError {
        ServeError::Impatient { cut: self.shared.sessions.load(Relaxed) }
    }

    /// `drain_timeout`, and `drain_spread` within half of it: a Close wants an answer.
    fn drain_times(&self) -> (Duration, Duration) {
        let active = self.shared.active.load();
        let time = active.bundle.drain.timeout;
        (time, active.bundle.drain.spread.min(time / 2))
    }

    /// Tells every worker to stop accepting and to be done by `time` from now. Gives the sessions that are open.
    fn drain(&self, time: Duration, spread: Duration, close: (u16, &'static str), hands_over: bool) -> u32 {
        let sessions = self.shared.sessions.load(Relaxed);
        let websockets = self.shared.counters.websockets_open.value();
        // First: what the log says has happened.
        let time = if hands_over { time + hand_over::TIME_MAX } else { time };
        let deadline = Instant::now() + time;
        let _ = self.shared.drain.set(Drain { deadline, spread, close, hands_over });
        self.shared.drain_begins.send_replace(());
        info!(
            sessions,
            websockets,
            at_most_s = time.as_secs(),
            "draining; a second signal ends the process at once"
        );
        systemd::stopping("draining");
        sessions
    }

    /// Opens the bundle again and takes it into use if it is good; says how it went.
    async fn reload(&self, watchdog: &Watchdog) -> ReloadReport {
        let draining = self.shared.drain.get().is_some();
        // Nothing takes back that the edge stops.
        if !draining {
            systemd::reloading();
        }
        let report = match self.open_again().await {
            Ok(report) => report,
            Err(refused) => {
                self.shared.counters.reloads_refused_total.increment();
                let Refused { code, message } = refused;
                error!(error = %message, "reload refused; the old bundle stays in use");
                let message = format!("{message}. The old bundle stays in use.");
                ReloadReport {
                    ok: false,
                    code: Some(code),
                    message,
                    bundle: status::digest(&self.shared),
                    notes: Vec::new(),
                }
            }
        };
        if !draining {
            systemd::ready(&status::summary(&self.shared, &watchdog.meter));
        }
        report
    }

    async fn open_again(&self) -> Result<ReloadReport, Refused> {
        if self.shared.drain.get().is_some() {
            return Err("the edge is draining and accepts no new bundle".to_owned().into());
        }
        // On a thread of its own: a panic there is the reload's end and not the edge's.
        let (sender, opened) = oneshot::channel();
        let path = self.path.clone();
        let spawned = thread::Builder::new().name("reload".to_owned()).spawn(move || {
            let _ = sender.send(Bundle::open(&path));
        });
        spawned.map_err(|error| format!("cannot start a thread to open the bundle: {error}"))?;
        let bundle = opened.await.map_err(|_| "opening the bundle panicked".to_owned())?;
        let bundle = bundle.map_err(|error| self.unopened(&error))?;
        self.needs_no_restart(&bundle)?;
        let unchanged = bundle.digest == self.shared.active.load().bundle.digest;
        let notes = self.started.keeps(&bundle);
        let sessions_max = fit_descriptors(&bundle);
        let active =
            ActiveConfig::new(bundle, &self.shared.upstreams, &self.shared.tickets, &self.shared.tallies);
        let active = active.map_err(|error| error.to_string())?;
        self.shared.keys.note(&active.bundle);
        self.shared.sessions_max.store(sessions_max, Relaxed);
        drop(self.shared.active.swap(Arc::new(active)));
        self.shared.upstreams.prune();
        self.shared.tallies.prune();
        self.shared.counters.reloads_total.increment();
        let bundle = status::digest(&self.shared);
        info!(%bundle, hosts = self.shared.active.load().bundle.hosts.len(), "reloaded");
        self.tell_pending();
        let source = sources::look(&self.path, &self.shared.active.load().bundle);
        if let Some((message, command)) = source.and_then(|source| Some((source.message?, source.command))) {
            let found = format!("{message}. Type `{command}`");
            warn!(found = %found, "the bundle is older than its sources");
        }
        let path = Excerpt::of_path(&self.path);
        let message = match unchanged {
            true => format!("{path} is already in use: nothing has changed"),
            false => format!("{path} is in use"),
        };
        Ok(ReloadReport { ok: true, code: None, message, bundle, notes })
    }

    /// Names the hosts that have no certificate yet.
    fn tell_pending(&self) {
        let active = self.shared.active.load();
        let hosts: Vec<String> = active.bundle.pending.iter().map(|entry| entry.host.to_string()).collect();
        if !hosts.is_empty() {
            let (hosts, command) = (named(hosts.iter().map(String::as_str)), renew_command(&self.path));
            warn!(%hosts, %command, "hosts wait for their first certificate");
        }
    }

    /// Why the bundle was not opened: where a link has led elsewhere, no `chown` helps.
    fn unopened(&self, error: &OpenError) -> Refused {
        let active = self.shared.active.load();
        let needs = Needs::of(&self.path, &active.bundle, &self.tickets_folder);
        let lacks = self.started.reach.lacks(&needs);
        match lacks {
            Some(what) => needs_a_restart(&format!("{what} that this process was started with")),
            None => error.to_string().into(),
        }
    }

    fn needs_no_restart(&self, bundle: &Bundle) -> Result<(), Refused> {
        let needs = Needs::of(&self.path, bundle, &self.tickets_folder);
        self.started.refuses(bundle, &needs).map_or(Ok(()), |what| Err(needs_a_restart(&what)))?;
        self.within_reach(bundle)
    }

    /// Paths that the old bundle did not name must be open to this process's user.
    fn within_reach(&self, bundle: &Bundle) -> Result<(), Refused> {
        let active = self.shared.active.load();
        let mut paths = paths::added(bundle, &active.bundle);
        paths
            .try_for_each(|(what, path)| paths::check(what, path))
            .map_err(|why| format!("needs a restart: {why}, then `systemctl restart sanedge`").into())
    }
}

/// Why a bundle is not put to use.
struct Refused {
    code: &'static str,
    message: String,
}

impl From<String> for Refused {
    fn from(message: String) -> Self {
        Self { code: "reload-refused", message }
    }
}

fn needs_a_restart(what: &str) -> Refused {
    let message = format!("needs a restart: {what}; `systemctl restart sanedge`");
    Refused { code: "needs-restart", message }
}

/// Which file is at a path, and who may read it: told apart by inode, size and time, mode and owners. Not by ctime: the deploy hook
/// gives the file a second name.
#[derive(Debug, PartialEq, Eq)]
struct Watched(Option<([u64; 2], [i64; 2], [u32; 3])>);

impl Watched {
    fn new(path: &Path) -> Self {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(path).ok();
        Self(metadata.map(|file| {
            let time = [file.mtime(), file.mtime_nsec()];
            ([file.ino(), file.size()], time, [file.mode(), file.uid(), file.gid()])
        }))
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
