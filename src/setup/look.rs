//! The questions of the steps `app`, `name` and `works`, and how the doctor answers them.

use std::net::IpAddr;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::problem::Problem;
use crate::bundle::Upstream;
use crate::doctor::explain::{Code, Level};
use crate::doctor::{self, Finding, Options, Outcome, Report, Section, Spoken};
use crate::names::Host;

/// Limit for one question to the doctor.
const TIME: Duration = Duration::from_secs(20);

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Question {
    /// Does an app answer at one of these addresses? Each as in `upstream`.
    App { at: Vec<String> },
    /// To which addresses does the name resolve?
    Name { host: String },
    /// Does a client reach the app through the edge?
    Edge {
        host: String,
        port: u16,
        /// The address to use instead of DNS.
        address: Option<IpAddr>,
        namespace: Option<String>,
        /// Further roots besides those of browsers, as PEM.
        trust: Option<String>,
        /// The certificate is for trials, which no client trusts.
        trials: bool,
    },
}

/// The answer to a question.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Look {
    /// What prevents a client from connecting.
    pub(crate) problem: Option<Problem>,
    /// Notes, one sentence each.
    pub(crate) notes: Vec<String>,
    /// The version of Socket.IO.
    pub(crate) spoken: Option<Spoken>,
    /// The address of [`Question::App`] that answered.
    pub(crate) at: Option<String>,
    /// Addresses of the name.
    pub(crate) addresses: Vec<IpAddr>,
}

/// Answers a question.
///
/// # Errors
/// The check could not be started.
pub(crate) fn look(question: &Question) -> Result<Look, String> {
    match question {
        Question::App { at } => app(at),
        Question::Name { host } => Ok(name(&Host::parse(host).map_err(|error| error.to_string())?)),
        Question::Edge { .. } => edge(question),
    }
}

/// The first address at which an app answers; if there is none, the problem of the first address.
fn app(at: &[String]) -> Result<Look, String> {
    let one = |text: &String| {
        let upstream: Upstream = doctor::options::upstream(text).ok()?;
        let section = doctor::app(&upstream, TIME);
        Some(Look { at: Some(text.clone()), ..Look::of(&section) })
    };
    let mut first = None;
    for look in at.iter().filter_map(one) {
        // Node listens on ::1 only if `localhost` resolves to that.
        if look.problem.as_ref().is_none_or(|problem| problem.code != Code::AppDown.as_str()) {
            return Ok(look);
        }
        first = first.or(Some(look));
    }
    first.ok_or_else(|| "there is no address to ask".to_owned())
}

fn name(host: &Host) -> Look {
    let (section, addresses) = doctor::name(host, TIME);
    Look { addresses, ..Look::of(&section) }
}

/// What the doctor finds at the edge of [`Question::Edge`]. `progress` gets each check when it is done.
///
/// # Errors
/// Nothing was looked at.
pub(crate) fn examine(question: &Question, progress: Option<doctor::Progress>) -> Result<Report, String> {
    let Question::Edge { host, port, address, namespace, trust, trials } = question else {
        return Err("another question was expected".to_owned());
    };
    let host = Host::parse(host).map_err(|error| error.to_string())?;
    let roots = trust.as_deref().map(in_memory).transpose().map_err(|error| error.to_string())?;
    let options = Options {
        resolve: address.iter().map(|address| (host.clone(), *address)).collect(),
        namespace: namespace.clone(),
        ca: roots.as_ref().map(|roots| format!("/proc/self/fd/{}", roots.as_raw_fd()).into()),
        insecure: *trials,
        progress,
        ..Options::of(format!("https://{}:{port}", host.uri_host()), TIME)
    };
    doctor::run(&options)
}

fn edge(question: &Question) -> Result<Look, String> {
    let report = examine(question, None)?;
    let trials = matches!(question, Question::Edge { trials: true, .. });
    let section = report.sections.first().ok_or("the doctor has looked at nothing")?;
    // If the app refuses a client without a login, the connection through the edge works.
    let of_trials = if trials { &[Code::TlsUnknownCa][..] } else { &[] };
    let mut look = Look::but(section, &[&[Code::NsRefused], of_trials].concat());
    // What cannot be known from here is said once, at the end.
    let is_finding = |note: &String| section.findings().any(|finding| finding.message == *note);
    look.notes.retain(is_finding);
    Ok(look)
}

/// A file in memory: this user may neither read root's file nor write one.
fn in_memory(text: &str) -> std::io::Result<std::fs::File> {
    let file = rustix::fs::memfd_create("roots", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(file);
    std::io::Write::write_all(&mut file, text.as_bytes())?;
    Ok(file)
}

impl Look {
    fn of(section: &Section) -> Self {
        Self::but(section, &[])
    }

    /// Findings with an `expected` code become notes.
    fn but(section: &Section, expected: &[Code]) -> Self {
        let is_problem =
            |finding: &&Finding| finding.code.level() == Level::Fail && !expected.contains(&finding.code);
        let worth = section.findings().filter(|finding| !is_problem(finding));
        let mut notes: Vec<String> = worth.map(|finding| finding.message.clone()).collect();
        notes.extend(section.checks.iter().filter_map(|check| match &check.outcome {
            Outcome::Unknown(text) => Some(text.clone()),
            _ => None,
        }));
        Self {
            problem: section.findings().find(is_problem).map(Problem::from),
            notes,
            spoken: section.spoken,
            at: None,
            addresses: Vec::new(),
        }
    }
}
