//! How the running edge is, as the admin socket and systemd are told.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use crate::admin::problems::problems;
use crate::admin::{HostStatus, Process, Status, UpstreamStatus};
use crate::bundle::acme::told;
use crate::control::expiry::{self, wall_clock};
use crate::control::sources;
use crate::edge::shared::active_config::ActiveConfig;
use crate::edge::shared::state::Shared;
use crate::excerpt::Excerpt;
use crate::limits::{Limits, Machine, Memory};
use crate::ops::meter::{Meter, Reading, Traffic};
use crate::system::process;
use crate::system::started::Started;

/// Beats that a worker may miss before it counts as stuck.
const BEATS_MISSED_MAX: u32 = 4;

/// What the counters say now.
pub(super) fn reading(shared: &Shared) -> Reading {
    let mut traffic = Traffic::default();
    for tally in &shared.work {
        let ((received_messages, received_bytes), (sent_messages, sent_bytes)) =
            (tally.received.value(), tally.sent.value());
        traffic.received_messages += received_messages;
        traffic.sent_messages += sent_messages;
        traffic.received_bytes += received_bytes;
        traffic.sent_bytes += sent_bytes;
    }
    Reading { at: shared.started.elapsed(), cpu: process::cpu_time(), traffic }
}

/// Workers that have not run their tasks for a while.
pub(super) fn stuck_workers(shared: &Shared) -> Vec<usize> {
    let now = shared.started.elapsed();
    let longest = shared.beat_interval * BEATS_MISSED_MAX;
    let stuck = shared.work.iter().enumerate().filter(|(_, tally)| tally.silence(now) > longest);
    stuck.map(|(at, _)| at).collect()
}

/// The first bytes of the digest of the bundle in use.
pub(super) fn digest(shared: &Shared) -> String {
    shared.active.load().bundle.digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// One line: what there is to serve, and what is going on.
pub(super) fn summary(shared: &Shared, meter: &Meter) -> String {
    let active = shared.active.load();
    let now = wall_clock();
    let left = active.bundle.certificates.iter().map(|certificate| certificate.lifetime().left(now)).min();
    let left = left.filter(|_| expiry::is_believable(&active.bundle, now));
    let days = left.map_or_else(String::new, |left| match left.0 {
        ..0 => ", A CERTIFICATE HAS EXPIRED".to_owned(),
        _ => format!(", certificates for {left}"),
    });
    let pending = match active.bundle.pending.len() {
        0 => String::new(),
        count => format!(", {count} WITHOUT A CERTIFICATE"),
    };
    let stuck = stuck_workers(shared);
    let stuck = if stuck.is_empty() { String::new() } else { format!(", STUCK WORKERS {stuck:?}") };
    format!(
        "{} of {} sessions, {} WebSockets, {:.1} messages/s, {} hosts{days}{pending}, bundle {}{stuck}",
        shared.sessions.load(Relaxed),
        shared.sessions_max.load(Relaxed),
        shared.counters.websockets_open.value(),
        meter.rates(&reading(shared)).messages_per_s,
        active.bundle.hosts.len(),
        digest(shared),
    )
}

/// Everything.
pub(super) fn status(
    shared: &Shared,
    meter: &Meter,
    bundle_file: &Path,
    sandbox: &str,
    started: &Started,
) -> Status {
    let active = shared.active.load();
    let now = wall_clock();
    let reading = reading(shared);
    let named = |(name, value): (&str, u64)| (name.to_owned(), value);
    let mut status = Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_s: reading.at.as_secs(),
        board: active.bundle.board.to_string(),
        bundle: digest(shared),
        bundle_file: Excerpt::of_path(bundle_file).to_string(),
        draining: shared.drain.get().is_some(),
        hands_over: shared.hand_over.is_allowed(),
        clock_believable: expiry::is_believable(&active.bundle, now),
        sessions: shared.sessions.load(Relaxed),
        sessions_peak: shared.sessions_peak.value(),
        sessions_max: shared.sessions_max.load(Relaxed),
        handshakes: shared.handshakes.load(Relaxed),
        tls_handshakes: shared.handshakes_by.all().map(named).collect(),
        workers: shared.workers,
        workers_stuck: stuck_workers(shared),
        keys_in_memory: shared.keys.alive(),
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
        counters: shared.counters.all().map(named).collect(),
        refused: shared.refusals.all().map(named).collect(),
        websocket_closes: shared.closes.all().map(named).collect(),
        hosts: (0..active.bundle.hosts.len()).filter_map(|at| host(&active, at, now)).collect(),
        pending: active.bundle.pending.iter().map(|entry| entry.host.to_string()).collect(),
        acme: active.bundle.listen.challenges.as_deref().and_then(told::read),
    };
    status.problems = problems(&status);
    status
}

/// The process's own part of the memory equation; the kernel's buffers are not in its RSS.
fn memory_at_worst(limits: &Limits) -> u64 {
    let any = Machine { cores: 1, ram_bytes: 0, budget_bytes: 0, handshakes_per_s: 0 };
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
