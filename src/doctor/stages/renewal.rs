//! What `sanedge renew` does about the certificate of a host: the CA, the next renewal and its reason, and the last failure.

use std::net::IpAddr;

use super::Stages;
use crate::bundle::acme::told::Renewal;
use crate::bundle::acme::{Wanted, local};
use crate::bundle::compile::moment;
use crate::bundle::file::word;
use crate::bundle::lifetime::DAY_S;
use crate::doctor::check::{Finding, Section};
use crate::doctor::explain::{Code, Group};
use crate::doctor::managed::Managed;

/// The timer is hourly: without a run for this long, it is not enabled.
const SILENT_S: i64 = DAY_S;

impl Stages<'_> {
    pub(super) async fn renewal(&self, addresses: &[IpAddr], section: &mut Section) {
        let Some(managed) = &self.target.named.managed else { return };
        let Some(wanted) = managed.wanted(&self.target.host) else {
            if managed.local(&self.target.host).is_some() {
                self.local_renewal(managed, section);
            }
            return;
        };
        section.word("place", word(&managed.plan.challenges));
        if let Some(eab) = &managed.plan.ca.eab {
            section.word("eab", word(&eab.key_file));
        }
        match managed.last_run(wanted) {
            Some((at, told)) => self.told(at, told, section),
            None => section.unknown(Group::Renewal, untold(managed, wanted)),
        }
        self.reach(&managed.plan, wanted, addresses, section).await;
    }

    /// The local CA needs no way to the host.
    fn local_renewal(&self, managed: &Managed, section: &mut Section) {
        section.word("place", word(&managed.plan.challenges));
        match managed.last_run_of_local(&self.target.host) {
            Some((at, told)) => self.told(at, told, section),
            None => {
                let planned = format!("{} issues for {}", local::NAME, self.target.host);
                section.unknown(Group::Renewal, no_run(managed, &planned));
            }
        }
    }

    fn told(&self, at: i64, told: &Renewal, section: &mut Section) {
        let profile = match told.profile.as_str() {
            "" => String::new(),
            profile => format!(", profile {profile}"),
        };
        let staging = if told.staging { "STAGING " } else { "" };
        let ca = format!("{staging}{}{profile}", told.directory.trim_start_matches("https://"));
        let held = self.held(told);
        let next = next(told);
        if told.staging {
            let text = format!(
                "STAGING: {} issues for trials, and browsers refuse its certificates",
                told.directory
            );
            section.found(Finding::new(Code::AcmeStaging, text));
        }
        match &told.failure {
            None => section.passed(Group::Renewal, format!("{ca}: {held}, {next}")),
            Some(failure) => {
                let code = Code::ALL.iter().find(|code| code.as_str() == failure.code);
                let code =
                    code.copied().filter(|code| code.group() == Group::Renewal).unwrap_or(Code::AcmeRefused);
                let title = code.explanation().title;
                let finding = Finding::new(code, format!("{title}: {next}"))
                    .seen("found", &failure.found)
                    .seen("last try", moment(failure.at))
                    .seen("CA", ca)
                    .seen("certificate", held);
                section.found(finding);
            }
        }
        if self.now.saturating_sub(at) > SILENT_S {
            let text = format!("`sanedge renew` last ran at {}: its timer does not run", moment(at));
            section.found(Finding::new(Code::AcmeNotRunning, text));
        }
    }

    fn held(&self, told: &Renewal) -> String {
        match told.not_after {
            None => "no certificate yet".to_owned(),
            Some(end) => {
                let days = end.saturating_sub(self.now).div_euclid(DAY_S);
                let plural = if days == 1 { "" } else { "s" };
                format!("{days} day{plural} left (until {})", moment(end))
            }
        }
    }
}

/// The next renewal or attempt, and the reason for its time.
fn next(told: &Renewal) -> String {
    let why = told.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
    match (told.next, told.outcome.as_str()) {
        (Some(at), "fine" | "issued") => format!("next renewal {}{why}", moment(at)),
        (Some(at), _) => format!("next try {}{why}", moment(at)),
        (None, "fine" | "issued") => format!("no next renewal is planned{why}"),
        (None, _) => format!("the next run of `sanedge renew` looks again{why}"),
    }
}

/// Why there is no result of a last run.
fn untold(managed: &Managed, wanted: &Wanted) -> String {
    let ca = &managed.plan.ca;
    let staging = if ca.is_staging() { "STAGING " } else { "" };
    let name = wanted.name();
    let planned = format!(
        "{staging}{} is asked for {name}, profile {}",
        ca.directory.trim_start_matches("https://"),
        ca.profile
    );
    no_run(managed, &planned)
}

fn no_run(managed: &Managed, planned: &str) -> String {
    match managed.unreadable() {
        Some(file) => {
            format!("{planned}; this user may not read {}: run the same command with sudo", word(&file))
        }
        None => format!("{planned}; `sanedge renew` has not run since the last boot"),
    }
}
