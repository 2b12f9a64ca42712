//! Writes the result of a run for the edge, which shows it in status, page and metrics.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use super::clock::clock;
use super::policy::Told;
use super::progress::{Outcome, Row};
use crate::bundle::acme::told::{self, CODES_MAX, FILE, Failure, Renewal};
use crate::bundle::acme::{Ca, Plan, local};

/// Updates the file with the rows of a run, and with the time of the next request for renewal information if this run has sent one.
/// `directory_of` is the CA that issued a certificate. If the folder is missing or full, the edge shows nothing of the run.
pub(super) fn tell(
    plan: &Plan,
    rows: &[Row],
    poll_at: Option<i64>,
    directory_of: &dyn Fn(&str) -> Option<String>,
) {
    let mut told = told::read(&plan.challenges).unwrap_or_default();
    told.at = clock();
    told.poll_at = poll_at.unwrap_or(told.poll_at);
    // A run for one host keeps the entries of the others; hosts that are no longer managed are removed.
    let is_local = |name: &String| plan.local.as_ref().is_some_and(|local| local.names.contains(name));
    told.certificates.retain(|kept| {
        plan.certificates.iter().any(|wanted| wanted.names == kept.names) || kept.names.iter().all(is_local)
    });
    for row in rows {
        if let Some(failure) = row.told.as_ref().filter(|_| row.outcome == Outcome::Failed) {
            let is_known = told.failures.len() < CODES_MAX || told.failures.contains_key(&failure.code);
            if is_known {
                *told.failures.entry(failure.code.clone()).or_default() += 1;
            }
        }
        told.certificates.retain(|kept| {
            kept.names != row.names && !kept.names.iter().any(|name| row.names.contains(name))
        });
        told.certificates.push(renewal(plan, row, directory_of));
    }
    let _ = write(&plan.challenges, &serde_json::to_vec(&told).unwrap_or_default());
}

fn renewal(plan: &Plan, row: &Row, directory_of: &dyn Fn(&str) -> Option<String>) -> Renewal {
    let issued = row.names.first().and_then(|name| directory_of(name));
    let mut all = std::iter::once(&plan.ca).chain(&plan.fallback);
    let ca: &Ca = all.find(|ca| Some(&ca.directory) == issued.as_ref()).unwrap_or(&plan.ca);
    let is_well = matches!(row.outcome, Outcome::Fine | Outcome::Issued);
    let local = plan.local.as_ref().filter(|local| row.names.iter().all(|name| local.names.contains(name)));
    // `Plan::decode` refuses what may be a key in either.
    let (directory, profile) = match local {
        Some(_) => (local::NAME.to_owned(), String::new()),
        None => (ca.directory.clone(), ca.profile.clone()),
    };
    Renewal {
        names: row.names.clone(),
        directory,
        staging: local.is_none() && ca.is_staging(),
        profile,
        outcome: row.outcome.word().to_owned(),
        not_after: row.lifetime.map(|lifetime| lifetime.not_after),
        next: row.next,
        why: row.why.map(str::to_owned),
        failure: row.told.as_ref().filter(|_| !is_well).map(failure),
    }
}

fn failure(told: &Told) -> Failure {
    let Told { code, found, means, remedy, at } = told.clone();
    Failure { code, found, means, remedy, at }
}

/// Writes the file atomically, readable by every user that can open the folder.
fn write(folder: &Path, bytes: &[u8]) -> io::Result<()> {
    let (path, temporary) = (folder.join(FILE), folder.join(FILE).with_extension("new"));
    let _ = fs::remove_file(&temporary); // of a run that was killed
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary)?;
    file.set_permissions(Permissions::from_mode(0o644))?; // whatever the umask
    file.write_all(bytes)?;
    fs::rename(&temporary, path)
}
