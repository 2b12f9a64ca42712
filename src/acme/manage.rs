//! `sanedge account` and `sanedge revoke`: the account at the CA, and the revocation of a certificate.

use std::path::Path;

use instant_acme::{Error, RevocationRequest};
use serde::Serialize;
use zeroize::Zeroizing;

use super::account;
use super::certificate::Held;
use super::challenge;
use super::clock::clock;
use super::dns;
use super::fetch::{Client, with_nonce};
use super::jws;
use super::problem::Failure;
use super::state::{self, State};
use super::stop::{Stop, normal, runtime};
use crate::bundle::acme::{Ca, Dns as DnsPlan, Plan};
use crate::bundle::compile::moment;
use crate::bundle::file::word;

/// An account, without its key.
#[derive(Clone, Debug, Serialize)]
pub struct Account {
    /// The CA's directory.
    pub directory: String,
    /// Its certificates are for trials.
    pub staging: bool,
    /// Its URL; none before the first order.
    pub url: Option<String>,
    /// The contact that the CA has.
    pub contact: Option<String>,
    /// The thumbprint of its key (RFC 7638).
    pub thumbprint: Option<String>,
    /// The CA wants no request before then, in seconds since 1970.
    pub blocked_until: Option<i64>,
}

/// The stored accounts of `plan`, the first CA's first. No CA is contacted.
pub fn accounts(plan: &Plan) -> Vec<Account> {
    let of = |ca: &Ca| {
        let kept = state::kept_account(&plan.state, &ca.directory);
        Account {
            directory: ca.directory.clone(),
            staging: ca.is_staging(),
            url: kept.as_ref().and_then(|kept| kept.id.clone()),
            contact: kept.as_ref().and_then(|kept| kept.contact.clone()),
            thumbprint: kept.as_ref().and_then(|kept| Some(account::signer(&kept.key).ok()?.thumbprint())),
            blocked_until: kept.map(|kept| kept.blocked_until).filter(|until| clock() < *until),
        }
    };
    std::iter::once(&plan.ca).chain(&plan.fallback).map(of).collect()
}

/// The account of the first CA as a PEM file, for another ACME client: its key, with the URL and the directory before it.
///
/// # Errors
/// Where there is none.
pub fn exported(plan: &Plan) -> Result<Zeroizing<String>, Stop> {
    let kept = state::kept_account(&plan.state, &plan.ca.directory);
    let kept = kept.ok_or_else(|| no_account(plan, &plan.ca))?;
    let url = kept.id.as_deref().unwrap_or("not created yet");
    let mut text = format!("# account {url}\n# directory {}\n-----BEGIN PRIVATE KEY-----\n", kept.directory);
    for line in kept.key.as_bytes().chunks(64) {
        text += &String::from_utf8_lossy(line);
        text.push('\n');
    }
    text += "-----END PRIVATE KEY-----\n";
    Ok(Zeroizing::new(text))
}

/// The records for the zones of a plan's names.
#[derive(Debug, Default)]
pub struct Records {
    /// Lines of a zone file.
    pub lines: Vec<String>,
    /// What cannot be written as a line yet, and why.
    pub notes: Vec<String>,
}

/// The CNAME records that delegate `_acme-challenge`, if dns-01 is used, and the CAA records by which only these accounts may issue.
///
/// # Errors
/// If neither is known.
pub fn records(plan: &Plan) -> Result<Records, Stop> {
    let mut records = plan.dns.as_ref().map(|dns| delegations(plan, dns)).unwrap_or_default();
    match caa(plan, &plan.ca) {
        Ok(lines) => records.lines.extend(lines),
        Err(stop) if plan.dns.is_none() => return Err(stop),
        // A name is delegated before its first certificate, and so before there is an account.
        Err(stop) => {
            records.notes.push(format!("no CAA records yet: {}", stop.message));
            return Ok(records);
        }
    }
    for other in &plan.fallback {
        match caa(plan, other) {
            Ok(lines) => records.lines.extend(lines),
            Err(stop) => records.notes.push(format!(
                "with these CAA records {} cannot issue as a fallback: {}",
                other.directory, stop.message
            )),
        }
    }
    if let Some(staging) = plan.ca.staging() {
        records.notes.push(format!(
            "{staging} has other accounts: with these CAA records `sanedge renew --dry-run` fails there"
        ));
    }
    Ok(records)
}

/// `_acme-challenge` of each name that dns-01 validates, as an alias of a name that the provider's credentials can change.
fn delegations(plan: &Plan, dns: &DnsPlan) -> Records {
    let by_dns = plan.certificates.iter().filter(|wanted| challenge::is_by_dns(plan, wanted));
    let mut owners: Vec<String> =
        by_dns.flat_map(|wanted| &wanted.names).map(|name| dns::owner(name)).collect();
    owners.sort_unstable();
    owners.dedup();
    let mut records = Records::default();
    match dns::delegated_to(dns) {
        Ok(target) => {
            for owner in owners {
                match target.of(&owner) {
                    Some(name) => records.lines.push(format!("{owner}. CNAME {name}")),
                    None => records
                        .notes
                        .push(format!("{owner} needs no CNAME: the credentials are for its zone")),
                }
            }
        }
        Err(why) => {
            let list = owners.join(", ");
            records.notes.push(format!("no CNAME records for {list}: {why}"));
        }
    }
    records
}

/// The CAA records (RFC 8659, RFC 8657) for the account at this CA.
fn caa(plan: &Plan, ca: &Ca) -> Result<Vec<String>, Stop> {
    let kept = state::kept_account(&plan.state, &ca.directory).ok_or_else(|| no_account(plan, ca))?;
    let url = kept.id.as_deref().ok_or_else(|| no_account(plan, ca))?;
    let issuer = kept.caa.first().map(String::as_str).or_else(|| ca.caa_identity()).ok_or_else(|| {
        let message = format!(
            "the directory {} does not name its domain for CAA records (caaIdentities)",
            ca.directory
        );
        Stop::new("acme-no-caa", message)
    })?;
    let mut names: Vec<&str> =
        plan.certificates.iter().flat_map(|wanted| &wanted.names).map(String::as_str).collect();
    names.retain(|name| name.parse::<std::net::IpAddr>().is_err());
    let record = |name: &str| {
        let (name, kind) = name.strip_prefix("*.").map_or((name, "issue"), |parent| (parent, "issuewild"));
        format!("{name}. CAA 0 {kind} \"{issuer}; accounturi={url}\"")
    };
    Ok(names.into_iter().map(record).collect())
}

/// Whether no certificate comes from an ACME CA, and none has come from one before: the local CA issues them all.
pub fn needs_no_account(plan: &Plan) -> bool {
    let is_known = |ca: &Ca| state::kept_account(&plan.state, &ca.directory).is_some();
    let mut all = std::iter::once(&plan.ca).chain(&plan.fallback);
    plan.local.is_some() && plan.certificates.is_empty() && !all.any(is_known)
}

/// Why there is no account then.
pub const NO_ACCOUNT: &str = "no host of the file gets its certificate from an ACME CA, so there is no account. The local CA needs none: `sanedge local show`";

fn no_account(plan: &Plan, ca: &Ca) -> Stop {
    if needs_no_account(plan) {
        return Stop::new("acme-no-account", NO_ACCOUNT.to_owned());
    }
    let message = format!(
        "{} has no account at {}; `sanedge renew` creates it with the first order",
        word(&plan.state),
        ca.directory
    );
    Stop::new("acme-no-account", message)
}

/// Replaces the key of the account at the first CA.
///
/// # Errors
/// If the CA refuses, or cannot be reached.
pub fn roll_over(plan: &Plan) -> Result<(), Stop> {
    if needs_no_account(plan) {
        return Err(no_account(plan, &plan.ca));
    }
    let state = State::open(&plan.state)?;
    if state.account(&plan.ca.directory).is_none_or(|kept| kept.id.is_none()) {
        return Err(no_account(plan, &plan.ca));
    }
    let client = Client::new(plan.ca.trust.as_deref()).map_err(|error| Stop::new("acme-trust", error))?;
    let changed = runtime()?.block_on(account::roll_over(&state, &client, &plan.ca));
    changed.map(drop).map_err(|failure| stop(&failure))
}

/// What is said of a host with a certificate of the local CA.
pub fn of_local(plan: &Plan, host: &str) -> Option<Stop> {
    let host = normal(host);
    plan.local.as_ref().filter(|local| local.names.contains(&host))?;
    let message = format!(
        "{host} has a certificate of the local CA. This CA cannot revoke: clients do not check it for revocation. For another key and certificate type `sudo sanedge renew --now --host {host}`; the old one stays valid until its end. If others may know ca.key, type `sudo sanedge local replace`, and remove the old CA from every device"
    );
    Some(Stop::new("local-host", message))
}

/// Revokes and deletes the stored certificate of `host`. The next run of `renew` orders another, with another key.
///
/// # Errors
/// If there is none, or the CA refuses.
pub fn revoke(plan: &Plan, host: &str) -> Result<String, Stop> {
    let host = normal(host);
    let wanted = plan.certificates.iter().find(|wanted| wanted.names.contains(&host));
    let state = State::open(&plan.state)?;
    // A host that is no longer managed may still have a certificate.
    let name = wanted.map_or(host.as_str(), |wanted| wanted.name()).to_owned();
    let held = state.certificate(&name).and_then(|pem| Held::of(&pem)).ok_or_else(|| {
        Stop::new(
            "acme-host",
            format!("{} has no certificate for {}", word(&plan.state), word(Path::new(&host))),
        )
    })?;
    let directory = state.record(&name).directory;
    let ca = std::iter::once(&plan.ca).chain(&plan.fallback);
    let ca = ca.into_iter().find(|ca| Some(&ca.directory) == directory.as_ref()).unwrap_or(&plan.ca);
    let client = Client::new(ca.trust.as_deref()).map_err(|error| Stop::new("acme-trust", error))?;
    // First, so that no later bundle contains a revoked certificate, whatever happens next.
    state.remember_revoked(&held.der)?;
    let asked = runtime()?.block_on(async {
        let account = account::open(Some(&state), &client, ca).await?;
        let request = RevocationRequest { certificate: &held.der, reason: None };
        let seen = |error: Error| Failure::of_call(&error, &[], &client.seen());
        match with_nonce!(account.revoke(&request)) {
            Err(Error::Api(problem)) if jws::is_of(&problem, "alreadyRevoked") => Ok(()),
            other => other.map_err(seen),
        }
    });
    if let Err(failure) = asked {
        state.forget_revoked(&held.der)?;
        return Err(stop(&failure));
    }
    state.drop_certificate(&name);
    state.mark()?;
    Ok(format!(
        "the certificate of {name} (valid until {}) is revoked at {}; `sanedge renew` obtains another",
        moment(held.lifetime.not_after),
        ca.directory
    ))
}

fn stop(failure: &Failure) -> Stop {
    let message = format!("{}. {} {}", failure.found.trim_end_matches('.'), failure.means(), failure.remedy);
    Stop { not_now: failure.retry_after.is_some(), ..Stop::new(failure.code.as_str(), message) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::acme::{self, Wanted};

    /// A plan for two CAs, and an account at each of `directories`, which say nothing of CAA.
    fn plan(state: &Path, directories: &[&str]) -> Plan {
        let ca = |name: &str| Ca { directory: acme::directory(name).unwrap(), ..Ca::default() };
        let open = State::open(state).unwrap();
        for name in directories {
            let directory = ca(name).directory;
            let account = state::Account {
                id: Some(format!("https://{name}.test/1")),
                directory,
                key: Zeroizing::new(String::new()),
                next_key: None,
                caa: Vec::new(),
                contact: None,
                wants_user: None,
                blocked_until: 0,
            };
            open.keep_account(&account).unwrap();
        }
        let names = vec!["a.b".to_owned(), "*.a.b".to_owned()];
        Plan {
            version: acme::VERSION,
            source: "x.toml".into(),
            bundle: "x.bundle".into(),
            source_sha256: String::new(),
            ca: ca("google"),
            fallback: vec![ca("zerossl")],
            state: state.to_owned(),
            challenge: acme::Challenge::Auto,
            challenges: "challenges".into(),
            dns: None,
            http: Vec::new(),
            http_expects_proxy: false,
            https: Vec::new(),
            certificates: vec![Wanted { names }],
            local: None,
        }
    }

    #[test]
    fn every_ca_that_may_issue_has_caa_records_with_its_account() {
        let state = tempfile::tempdir().unwrap();
        let state = state.path().join("state");
        let first = [
            "a.b. CAA 0 issue \"pki.goog; accounturi=https://google.test/1\"",
            "a.b. CAA 0 issuewild \"pki.goog; accounturi=https://google.test/1\"",
        ];
        assert_eq!(records(&plan(&state, &[])).unwrap_err().code, "acme-no-account");
        // Alone they would keep the fallback from issuing.
        let alone = records(&plan(&state, &["google"])).unwrap();
        assert_eq!(alone.lines, first);
        assert!(
            alone.notes[0].contains("https://acme.zerossl.com/v2/DV90 cannot issue"),
            "{:?}",
            alone.notes
        );
        let both = records(&plan(&state, &["google", "zerossl"])).unwrap();
        let other = |kind| format!("a.b. CAA 0 {kind} \"sectigo.com; accounturi=https://zerossl.test/1\"");
        assert_eq!(both.lines[..2], first);
        assert_eq!(both.lines[2..], [other("issue"), other("issuewild")]);
        assert!(both.notes.is_empty(), "{:?}", both.notes);
    }
}
