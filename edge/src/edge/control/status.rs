//! How the running edge is, as the admin socket and systemd are told.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use crate::bundle::acme::told;
use crate::edge::control::expiry::{self, wall_clock};
use crate::edge::control::sources;
use crate::edge::shared::active_config::ActiveConfig;
use crate::edge::shared::state::Shared;
use crate::excerpt::Excerpt;
use crate::limits::{Limits, Machine, Memory};
use crate::ops::admin::problems::problems;
use crate::ops::admin::{HostStatus, Process, Status, UpstreamStatus};
use crate::ops::meter::{Meter, Reading, Traffic};
use crate::ops::process;
use crate::ops::started::Started;

/// Beats that a worker may miss before it counts as stuck.
const BEATS_MISSED_MAX: u32 = 4;

impl Shared {
    /// What the counters say now.
    pub(crate) fn reading(&self) -> Reading {
        let mut traffic = Traffic::default();
        for tally in &self.work {
            let ((received_messages, received_bytes), (sent_messages, sent_bytes)) =
                (tally.received.value(), tally.sent.value());
            traffic.received_messages += received_messages;
            traffic.sent_messages += sent_messages;
            traffic.received_bytes += received_bytes;
            traffic.sent_bytes += sent_bytes;
        }
        Reading { at: self.started.elapsed(), cpu: process::cpu_time(), traffic }
    }

    /// Workers that have not run their tasks for a while.
    pub(crate) fn stuck_workers(&self) -> Vec<usize> {
        let now = self.started.elapsed();
        let longest = self.beat_interval * BEATS_MISSED_MAX;
        let stuck = self.work.iter().enumerate().filter(|(_, tally)| tally.silence(now) > longest);
        stuck.map(|(at, _)| at).collect()
    }

    /// The first bytes of the digest of the bundle in use.
    pub(crate) fn digest(&self) -> String {
        self.active.load().bundle.digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// One line: what there is to serve, and what is going on.
    pub(crate) fn summary(&self, meter: &Meter) -> String {
        let active = self.active.load();
        let now = wall_clock();
        let left =
            active.bundle.certificates.iter().map(|certificate| certificate.lifetime().left(now)).min();
        let left = left.filter(|_| expiry::is_believable(&active.bundle, now));
        let days = left.map_or_else(String::new, |left| match left.0 {
            ..0 => ", A CERTIFICATE HAS EXPIRED".to_owned(),
            _ => format!(", certificates for {left}"),
        });
        let pending = match active.bundle.pending.len() {
            0 => String::new(),
            count => format!(", {count} WITHOUT A CERTIFICATE"),
        };
        let stuck = self.stuck_workers();
        let stuck = if stuck.is_empty() { String::new() } else { format!(", STUCK WORKERS {stuck:?}") };
        format!(
            "{} of {} sessions, {} WebSockets, {:.1} messages/s, {} hosts{days}{pending}, bundle {}{stuck}",
            self.sessions.load(Relaxed),
            self.sessions_max.load(Relaxed),
            self.counters.websockets_open.value(),
            meter.rates(&self.reading()).messages_per_s,
            active.bundle.hosts.len(),
            self.digest(),
        )
    }

    /// Everything.
    pub(crate) fn status(
        &self,
        meter: &Meter,
        bundle_file: &Path,
        sandbox: &str,
        started: &Started,
    ) -> Status {
        let active = self.active.load();
        let now = wall_clock();
        let reading = self.reading();
        let named = |(name, value): (&str, u64)| (name.to_owned(), value);
        let mut status = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: reading.at.as_secs(),
            board: active.bundle.board.to_string(),
            bundle: self.digest(),
            bundle_file: Excerpt::of_path(bundle_file).to_string(),
            draining: self.drain.borrow().is_some(),
            clock_believable: expiry::is_believable(&active.bundle, now),
            sessions: self.sessions.load(Relaxed),
            sessions_peak: self.sessions_peak.value(),
            sessions_max: self.sessions_max.load(Relaxed),
            handshakes: self.handshakes.load(Relaxed),
            workers: self.workers,
            workers_stuck: self.stuck_workers(),
            keys_in_memory: self.keys.alive(),
            rates: meter.rates(&reading),
            traffic: reading.traffic,
            process: Process {
                resident_bytes: process::resident_bytes(),
                budget_bytes: memory_at_worst(&active.bundle.limits),
                cpu_s: reading.cpu.as_secs_f64(),
                open_files: process::open_files(),
                open_files_max: process::open_files_max(),
            },
            problems: Vec::new(),
            source: sources::look(bundle_file, &active.bundle),
            sandbox: sandbox.to_owned(),
            started: Some(started.told()),
            counters: self.counters.all().map(named).collect(),
            refused: self.refusals.all().map(named).collect(),
            websocket_closes: self.closes.all().map(named).collect(),
            hosts: (0..active.bundle.hosts.len()).filter_map(|at| host(&active, at, now)).collect(),
            pending: active.bundle.pending.iter().map(|entry| entry.host.to_string()).collect(),
            acme: active.bundle.listen.challenges.as_deref().and_then(told::read),
        };
        status.problems = problems(&status);
        status
    }
}

/// The process's own part of the memory equation; the kernel's buffers are not in its RSS.
fn memory_at_worst(limits: &Limits) -> u64 {
    let any = Machine { cores: 1, ram_bytes: 0, budget_bytes: 0 };
    let memory = Memory::of(limits, &any, 0);
    memory.handshake_bytes + memory.session_bytes
}

fn host(active: &ActiveConfig, at: usize, now: i64) -> Option<HostStatus> {
    let entry = active.bundle.hosts.get(at)?;
    let certificate = active.bundle.certificates.get(usize::from(entry.certificate))?;
    let lifetime = certificate.lifetime();
    // What the clock says, while it is believable.
    let now = Some(now).filter(|now| expiry::is_believable(&active.bundle, *now));
    let tally = active.tallies.get(at)?;
    let redirect = active.bundle.sites.get(usize::from(entry.site))?.redirect.as_ref();
    let upstreams = active.routes.get(usize::from(entry.site))?.iter().flat_map(|route| {
        route.upstreams.iter().map(|upstream| UpstreamStatus {
            path: Excerpt::of(&route.rules.path).to_string(),
            upstream: upstream.text.clone(),
            state: upstream.state().to_owned(),
            connect_failures: upstream.failures.value(),
        })
    });
    Some(HostStatus {
        host: entry.host.to_string(),
        certificate: certificate.label.to_string(),
        not_after: certificate.not_after,
        days_left: now.map(|now| lifetime.days_left(now)),
        left: now.map(|now| lifetime.column(now)),
        renewal: now.map(|now| lifetime.urgency(now)),
        renewal_due: lifetime.renewal_due(),
        renewal_overdue_after: lifetime.overdue_after(),
        ends_soon_after: lifetime.ends_soon_after(),
        websockets_open: tally.websockets_open.value(),
        websockets_total: tally.websockets_total.value(),
        responses: tally.responses().map(|(class, count)| (class.to_owned(), count)).collect(),
        upstreams: upstreams.collect(),
        redirect: redirect.map(|to| Excerpt::of(&to.to_string()).into()),
    })
}
