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
use tracing::{error, info};

use super::pulse::{self, Pulse};
use super::serving::Serving;
use super::{Drain, ServeError, Shared, fit_descriptors, listen_error};
use crate::bundle::{Bundle, Listen};
use crate::ops::admin::{Ask, ReloadReport, server};
use crate::ops::systemd;

/// How long a drain for a restart (SIGUSR1) lasts, and within what time every WebSocket gets its Close.
const RESTART_DRAIN: Duration = Duration::from_secs(2);
const RESTART_SPREAD: Duration = Duration::from_millis(800);
/// Close codes of the two drains (RFC 6455 §7.4.1, and the registry of its §11.7).
const GOING_AWAY: u16 = 1001;
const SERVICE_RESTART: u16 = 1012;
/// How often a watched bundle file is looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// What this process reacts to; made before the first thread.
pub(super) struct Signals {
    reload: Signal,
    terminate: Signal,
    interrupt: Signal,
    restart: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            reload: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            restart: signal(SignalKind::user_defined1())?,
        })
    }
}

/// The main thread's work.
pub(super) struct Control {
    pub(super) shared: Arc<Shared>,
    pub(super) path: PathBuf,
    /// As it was when the listeners were made.
    pub(super) listen: Listen,
}

impl Control {
    pub(super) async fn run(
        self,
        mut signals: Signals,
        mut ended: mpsc::Receiver<io::Result<()>>,
    ) -> Result<(), ServeError> {
        let (asks_sender, mut asks) = mpsc::channel(4);
        let admin = server::start(self.listen.admin.as_ref(), asks_sender)
            .map_err(|(address, error)| listen_error(address, error))?;
        let mut pulse = Pulse::new(self.shared.beat_interval);
        info!(hosts = self.shared.serving.load().bundle.hosts.len(), workers = self.shared.workers, "ready");
        systemd::ready(&self.summary(&pulse.meter));
        let mut watched = Watched::new(&self.path);
        let mut looks = pulse::every(WATCH_INTERVAL);
        let mut draining = false;
        loop {
            tokio::select! {
                _ = signals.reload.recv() => { self.reload(&pulse).await; }
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
                    Ask::Reload(answer) => { let _ = answer.send(self.reload(&pulse).await); }
                    Ask::Status(answer) => { let _ = answer.send(self.status(&pulse.meter)); }
                    Ask::History(answer) => { let _ = answer.send(pulse.meter.history()); }
                },
                due = pulse.due() => pulse.run(due, &self),
                end = ended.recv() => match end {
                    Some(Ok(())) if draining => {}
                    Some(Err(error)) => return Err(error.into()),
                    Some(Ok(())) => return Err(ServeError::Worker),
                    None if draining => break,
                    None => return Err(ServeError::Worker),
                },
                // Its own clock: one begun anew in every turn would never end while somebody asks for the status.
                _ = looks.tick(), if self.shared.serving.load().bundle.watch && !draining => {
                    if watched.has_changed(&self.path) { self.reload(&pulse).await; }
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
        info!(
            sessions,
            websockets,
            at_most_s = time.as_secs(),
            "draining; the same signal again ends at once"
        );
        systemd::stopping("draining");
        self.shared.drain.send_replace(Some(Drain { deadline: Instant::now() + time, spread, close_code }));
        true
    }

    /// Opens the bundle again and takes it into use if it is good; says how it went.
    async fn reload(&self, pulse: &Pulse) -> ReloadReport {
        systemd::reloading();
        let report = match self.open_again().await {
            Ok(report) => report,
            Err(refused) => {
                self.shared.counters.reloads_refused_total.increment();
                error!(error = %refused, "reload refused; the bundle in use stays");
                let message = format!("{refused}. The bundle in use stays.");
                ReloadReport { ok: false, message, bundle: self.digest(), notes: Vec::new() }
            }
        };
        systemd::ready(&self.summary(&pulse.meter));
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
        let unchanged = bundle.digest == self.shared.serving.load().bundle.digest;
        let mut notes = Vec::new();
        if usize::from(bundle.limits.workers.max(1)) != self.shared.workers {
            notes.push(format!("`workers` stays {} until the next restart", self.shared.workers));
        }
        let sessions_max = fit_descriptors(bundle.limits.sessions_max);
        let serving =
            Serving::new(bundle, &self.shared.upstreams, &self.shared.ticketer, &self.shared.tallies);
        let serving = serving.map_err(|error| error.to_string())?;
        self.shared.keys.note(&serving.bundle);
        self.shared.sessions_max.store(sessions_max, Relaxed);
        drop(self.shared.serving.swap(Arc::new(serving)));
        self.shared.upstreams.prune();
        self.shared.tallies.prune();
        self.shared.counters.reloads_total.increment();
        let bundle = self.digest();
        info!(%bundle, hosts = self.shared.serving.load().bundle.hosts.len(), "reloaded");
        let path = self.path.display();
        let message = match unchanged {
            true => format!("{path} is the bundle that was in use already: nothing has changed"),
            false => format!("{path} is in use"),
        };
        Ok(ReloadReport { ok: true, message, bundle, notes })
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

    pub(super) fn digest(&self) -> String {
        self.shared.serving.load().bundle.digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
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
