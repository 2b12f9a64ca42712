//! What `sanedge renew` does about the certificate of the local CA: it looks whether a renewal is due, and asks the deployment for
//! it. It may read neither key.

use super::clock::clock;
use super::policy::Told;
use super::problem::Failure;
use super::progress::{Row, Run};
use super::state::{self, StateError};
use super::tell;
use crate::bundle::acme::{Local, Plan, Wanted};
use crate::bundle::lifetime::Lifetime;
use crate::doctor::explain::Code;
use crate::local::{self, Judgement, LocalError};
use crate::names::Host;

/// Why a certificate is renewed then.
const HALF: &str = "half of its lifetime is over then";
const TWO_THIRDS: &str = "two thirds of its lifetime are over then";
/// The same where people should act first.
const ENDING: &str = "the local CA ends within a year: type `sudo sanedge local replace` before, and have every device trust the new one";
/// What a certificate that is due waits for.
const ASKED: &str = "the deployment has been asked for it";

/// A run that asks no other CA.
pub(super) fn run(hosts: &[String], dry_run: bool, plan: &Plan) -> Run {
    let run = Run { rows: rows(hosts, dry_run, plan), staging: false, stored: false };
    if !dry_run {
        // If no package has prepared the folder, the edge runs as this user.
        let _ = super::challenge::folder(&plan.challenges);
        tell::tell(plan, &run.rows, None, &|_| None);
    }
    run
}

/// A row for the hosts with the certificate, and one for those that the CA may not issue for; none if `hosts` names only others.
pub(super) fn rows(hosts: &[String], dry_run: bool, plan: &Plan) -> Vec<Row> {
    let is_asked = |local: &&Local| {
        let mut names = local.names.iter();
        !local.names.is_empty() && (hosts.is_empty() || names.any(|name| hosts.contains(name)))
    };
    let Some(local) = plan.local.as_ref().filter(is_asked) else { return Vec::new() };
    match local::look(local, clock()).1 {
        Ok(judgement) => judged(dry_run, plan, &judgement),
        Err(error) => vec![row(local.names.clone(), None).failed(&told(&error), None, false)],
    }
}

fn judged(dry_run: bool, plan: &Plan, judgement: &Judgement) -> Vec<Row> {
    let names = |hosts: &[Host]| hosts.iter().map(ToString::to_string).collect::<Vec<_>>();
    let inside = (!judgement.hosts.is_empty()).then(|| {
        let row = row(names(&judgement.hosts), judgement.lifetime);
        match judgement.lifetime.filter(|_| !judgement.is_due) {
            Some(lifetime) => {
                let why = match (judgement.is_ending, lifetime.is_short()) {
                    (true, _) => ENDING,
                    (false, true) => HALF,
                    (false, false) => TWO_THIRDS,
                };
                row.fine(lifetime.renewal_due(), why)
            }
            None if dry_run => row.issued(None, None, true),
            None => asked(row, plan),
        }
    });
    let outside = judgement.outside.first().map(|host| {
        let failure = Failure::of_local(Code::LocalNotPermitted, local::outside(host));
        row(names(&judgement.outside), None).failed(&failure.told(clock()), None, false)
    });
    inside.into_iter().chain(outside).collect()
}

/// Leaves the mark that starts the deployment. It says that something is to be done, and nothing else.
fn asked(row: Row, plan: &Plan) -> Row {
    match state::mark(&plan.state) {
        Err(error @ StateError::Full(_)) => row.not_now(&Failure::of_state(&error).told(clock())),
        // Without the folder the deployment is this user's, and follows.
        _ => row.requested(ASKED),
    }
}

fn row(names: Vec<String>, lifetime: Option<Lifetime>) -> Row {
    Row::new(&Wanted { names }, lifetime)
}

fn told(error: &LocalError) -> Told {
    Failure::of_local(error.code(), error.to_string()).told(clock())
}
