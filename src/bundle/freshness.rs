//! Will a bundle last, and is it still what its sources would make: what a timer asks of it every day.
//!
//! Compares by content: a renewal that stopped half-way shows, files that were only touched do not.

use std::path::{Path, PathBuf};

use super::commands::{apply_command, reload_command, renew_command};
use super::compare::{Difference, differences, told};
use super::compile::{Outcome, moment};
use super::file::word;
use super::finding::{Severity, listed};
use super::lifetime::{Lifetime, Urgency};
use super::{Bundle, Certificate};

/// Why attention is needed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Its renewal is overdue, or its end is near or past.
    #[error(
        "certificate `{certificate}` of {}: expected a renewal around {}, found {}. Find out why the renewal failed \
            (`sanedge renew` with [acme], `certbot renew --dry-run`, or the log of your ACME client)",
        listed(.hosts), moment(.lifetime.renewal_due()), remaining(*.lifetime, *.now)
    )]
    ExpiresSoon {
        /// The file that it came from.
        certificate: String,
        /// From when to when it is valid.
        lifetime: Lifetime,
        /// The time of the check, in seconds since 1970.
        now: i64,
        /// The hosts that use it.
        hosts: Vec<String>,
    },
    /// Hosts have no certificate yet.
    #[error("{}: expected a certificate, found none yet: clients are refused. Type `{renew}`", listed(.hosts))]
    Pending {
        /// The hosts.
        hosts: Vec<String>,
        /// What obtains their certificates.
        renew: String,
    },
    /// sanedge.toml or the certificate files have changed.
    #[error(
        "{bundle}: expected the bundle that {source_file} compiles to now, found another one. They differ in {}. Type \
         `{apply}`",
        told(.differences)
    )]
    OlderThanItsSources {
        /// Everything in which they differ.
        differences: Vec<Difference>,
        /// The sanedge.toml, as a word for a shell.
        source_file: String,
        /// The bundle, as a word for a shell.
        bundle: String,
        /// What puts the sanedge.toml to use.
        apply: String,
    },
    /// A reload did not get through.
    #[error(
        "{bundle}: expected it in use, found the running edge with an older one ({served}). Type `{reload}`, and read its \
            log if that changes nothing"
    )]
    NotInUse {
        /// The bundle, as a word for a shell.
        bundle: String,
        /// First bytes of the digest of the bundle in use.
        served: String,
        /// What has the running edge open it.
        reload: String,
    },
    /// An edge is there, and what it serves cannot be known.
    #[error("{bundle}: not compared with the running edge: {problem}")]
    NotAsked {
        /// The file, as a word for a shell.
        bundle: String,
        /// Why, and what to do.
        problem: String,
    },
    /// The next renewal would not get through.
    #[error(
        "{source_file}: expected a file without errors, found {errors}. Type `sanedge bundle {source_file}` to see them; \
            until they are fixed, no renewed certificate gets into the bundle"
    )]
    SourcesBroken {
        /// The sanedge.toml, as a word for a shell.
        source_file: String,
        /// How many.
        errors: usize,
    },
}

impl Trouble {
    /// A stable name, for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::ExpiresSoon { .. } => "expires-soon",
            Self::Pending { .. } => "certificate-pending",
            Self::OlderThanItsSources { .. } => "older-than-its-sources",
            Self::NotInUse { .. } => "not-in-use",
            Self::NotAsked { .. } => "not-asked",
            Self::SourcesBroken { .. } => "sources-broken",
        }
    }

    /// How bad it is. An overdue renewal leaves time, but needs attention.
    pub fn severity(&self) -> Severity {
        match self {
            Self::ExpiresSoon { lifetime, now, .. } if lifetime.urgency(*now) <= Urgency::Overdue => {
                Severity::Warning
            }
            _ => Severity::Error,
        }
    }
}

/// Checks the bundle that was opened from `path` as of `now`, in seconds since 1970; `fresh` is what the sanedge.toml at
/// that path compiles to.
pub fn check(bundle: &Bundle, path: &Path, fresh: Option<(&PathBuf, Outcome)>, now: i64) -> Vec<Trouble> {
    let mut troubles: Vec<Trouble> =
        bundle.certificates.iter().enumerate().filter_map(|(at, c)| expires(bundle, at, c, now)).collect();
    troubles.extend(pending(bundle, path));
    troubles.extend(fresh.and_then(|(source, outcome)| stale(bundle, path, source, outcome)));
    troubles
}

/// Whether the running edge, which serves the file at `path`, has what is in it: `served` is how its status names its bundle,
/// the first bytes of a digest.
pub fn served(bundle: &Bundle, path: &Path, served: &str) -> Option<Trouble> {
    (!super::report::hex(&bundle.digest).starts_with(served)).then(|| Trouble::NotInUse {
        bundle: word(path),
        served: served.to_owned(),
        reload: reload_command(bundle.listen.admin.as_ref()),
    })
}

fn remaining(lifetime: Lifetime, now: i64) -> String {
    let left = lifetime.left(now);
    match lifetime.urgency(now) {
        Urgency::Expired => format!("it expired {left} ago"),
        _ => format!("{left} left"),
    }
}

/// Only of what a host uses: the rest does not matter.
fn expires(bundle: &Bundle, at: usize, certificate: &Certificate, now: i64) -> Option<Trouble> {
    let lifetime = certificate.lifetime();
    let users = bundle.hosts.iter().filter(|entry| usize::from(entry.certificate) == at);
    let hosts: Vec<String> = users.map(|entry| entry.host.to_string()).collect();
    let soon = lifetime.urgency(now) > Urgency::None && !hosts.is_empty();
    soon.then(|| Trouble::ExpiresSoon { certificate: certificate.label.to_string(), lifetime, now, hosts })
}

fn pending(bundle: &Bundle, path: &Path) -> Option<Trouble> {
    let hosts: Vec<String> = bundle.pending.iter().map(|entry| entry.host.to_string()).collect();
    (!hosts.is_empty()).then(|| Trouble::Pending { hosts, renew: renew_command(path) })
}

fn stale(bundle: &Bundle, path: &Path, source: &Path, outcome: Outcome) -> Option<Trouble> {
    let (file, source_file) = (word(path), word(source));
    let errors = outcome.findings.iter().filter(|finding| finding.severity() == Severity::Error).count();
    let Some(fresh) = outcome.bundle.and_then(|bytes| Bundle::decode(bytes).ok()) else {
        return Some(Trouble::SourcesBroken { source_file, errors });
    };
    let differences = differences(bundle, &fresh);
    let apply = match path == source.with_extension("bundle") {
        true => apply_command(source),
        false => {
            format!(
                "sanedge bundle {source_file} -o {file} && {}",
                reload_command(bundle.listen.admin.as_ref())
            )
        }
    };
    let older = Trouble::OlderThanItsSources { differences, source_file, bundle: file, apply };
    (bundle.digest != fresh.digest).then_some(older)
}
