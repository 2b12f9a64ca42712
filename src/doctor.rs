//! `sanedge doctor`: follows the steps of a client, and says what is wrong, why, and what to do.
//!
//! Works against any TLS edge and any Socket.IO server. It sends only what a client would send and changes nothing; where
//! the certificate is no good it sends nothing private. Checks are values ([`Check`]) with their evidence; text and JSON
//! are made of them, and of the one table in [`explain`]. What it does not do: repair.

mod ask;
mod certificate;
mod check;
mod client;
mod connection;
mod csp;
pub(crate) mod dns;
pub mod explain;
mod foreign_certificate;
mod head_lines;
pub(crate) mod holder;
pub(crate) mod home_network;
mod hybrid;
mod journal;
mod local;
pub(crate) mod managed;
pub(crate) mod options;
pub(crate) mod packets;
pub mod paste;
pub mod render;
mod router;
mod socket;
mod stages;
mod target;
mod tls;

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use futures_util::stream;

pub use check::{Check, Exchange, Finding, Kind, Outcome, Report, Section, Spoken};
use connection::Deadline;
use explain::Code;
use journal::Journal;
pub use options::{Options, Progress, Transport};
use stages::Stages;
use target::{Plan, Target};

use crate::bundle::Upstream;
use crate::names::Host;

/// Hosts that are looked at at the same time: where all of them hang, two rounds fit into the usual 15 s.
const HOSTS_AT_ONCE: usize = 16;

/// What the run will do that the app notices: to be said before it begins.
pub fn foreword(options: &Options) -> Option<String> {
    let polls = options.transport == Some(Transport::Polling);
    let namespace = options.namespace.as_deref().or(polls.then_some("/"))?;
    Some(format!(
        "the app will see a client connect to `{}` and disconnect",
        crate::excerpt::Excerpt::of(namespace)
    ))
}

/// Looks at everything that the options name.
///
/// # Errors
/// A sentence about the usage: nothing was looked at.
pub fn run(options: &Options) -> Result<Report, String> {
    let now = now();
    let plan = Plan::of(options, now)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot create an event queue: {error}"))?;
    let sections = runtime.block_on(look(&plan, options, now));
    // A resolver that hangs does so in its own thread, which no task waits for.
    runtime.shutdown_background();
    Ok(Report { sections: [plan.files, sections].concat() })
}

/// What the files among the targets say, without asking a host.
///
/// # Errors
/// As [`run`].
pub fn files(options: &Options) -> Result<Report, String> {
    Ok(Report { sections: Plan::of(options, now())?.files })
}

/// Asks an app on its own port, as a client would that no edge stands in front of.
pub(crate) fn app(upstream: &Upstream, timeout: Duration) -> Section {
    let options = Options::of("http://localhost".to_owned(), timeout);
    alone(&options, async |stages| stages::app::app(upstream, &stages).await)
        .unwrap_or_else(|message| broken(Kind::App, &message))
}

/// Where a name leads that should lead to this machine.
pub(crate) fn name(host: &Host, timeout: Duration) -> (Section, Vec<IpAddr>) {
    let options = Options::of(format!("https://{}", host.uri_host()), timeout);
    alone(&options, async |stages| {
        let mut section = Section::new(Kind::Host, host.to_string(), stages.words());
        let target = Target { here: true, ..stages.target.clone() };
        let addresses = Stages { target: &target, ..stages }.name(&mut section).await;
        (section, addresses.unwrap_or_default())
    })
    .unwrap_or_else(|message| (broken(Kind::Host, &message), Vec::new()))
}

/// One step of the way, for the one target of `options`.
fn alone<T>(options: &Options, step: impl AsyncFnOnce(Stages<'_>) -> T) -> Result<T, String> {
    let now = now();
    let plan = Plan::of(options, now)?;
    let target = plan.targets.first().ok_or("no target")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot create an event queue: {error}"))?;
    let deadline = runtime.block_on(async { Deadline::lasting(options.timeout) });
    let (way_out, journal) = (router::WayOut::default(), Journal::default());
    let stages = Stages { target, options, trust: &plan.trust, now, way_out, deadline, journal };
    let found = runtime.block_on(step(stages));
    runtime.shutdown_background();
    Ok(found)
}

fn broken(kind: Kind, message: &str) -> Section {
    let mut section = Section::new(kind, "this machine", Vec::new());
    section.found(client::time_up().seen("found", message));
    section
}

async fn look(plan: &Plan, options: &Options, now: i64) -> Vec<Section> {
    let deadline = Deadline::lasting(options.timeout + options.hold.unwrap_or(Duration::ZERO));
    let way_out = way_out(plan, options, deadline).await;
    let of = |target| Stages {
        target,
        options,
        trust: &plan.trust,
        now,
        way_out,
        deadline,
        journal: Journal::default(),
    };
    let hosts = stream::iter(&plan.targets).map(|target| async move { of(target).go().await });
    let mut sections: Vec<Section> = hosts.buffered(HOSTS_AT_ONCE).collect().await;
    for (upstream, target) in apps(&plan.targets) {
        sections.push(stages::app::app(upstream, &of(target)).await);
    }
    if !plan.listens.is_empty() || !options.upstream.is_empty() {
        let apps = app_addresses(&plan.targets);
        let mut section = local::look(&plan.listens, &apps, plan.sessions_max, deadline).await;
        if way_out.is_intercepted {
            let text = "something on the way answers DNS for a server that does not exist: answers about names cannot be trusted here";
            section.found(Finding::new(Code::AcmeDnsIntercepted, text));
        }
        sections.push(section);
    }
    sections
}

/// What is between this machine and a CA, where one is to connect to it.
async fn way_out(plan: &Plan, options: &Options, deadline: Deadline) -> router::WayOut {
    let is_managed = |target: &&Target| target.named.managed.is_some() && !options.is_given(&target.host);
    let mut names = plan.targets.iter().filter(is_managed).filter_map(|target| match &target.host {
        crate::names::Host::Dns(name) => Some(name),
        crate::names::Host::Ip(_) => None,
    });
    match names.next() {
        Some(name) => router::way_out(name, deadline).await,
        None => router::WayOut::default(),
    }
}

fn app_addresses(targets: &[Target]) -> Vec<std::net::SocketAddr> {
    let address = |(upstream, _): (&crate::bundle::Upstream, &Target)| match upstream {
        crate::bundle::Upstream::Address(address) => Some(*address),
        _ => None,
    };
    apps(targets).into_iter().filter_map(address).collect()
}

/// Each upstream once, with the first target that leads to it.
fn apps(targets: &[Target]) -> Vec<(&crate::bundle::Upstream, &Target)> {
    let mut apps: Vec<(&crate::bundle::Upstream, &Target)> = Vec::new();
    for target in targets {
        for upstream in &target.upstreams {
            if apps.iter().all(|(known, _)| *known != upstream) {
                apps.push((upstream, target));
            }
        }
    }
    apps
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
