//! `sanedge account` and `sanedge revoke`.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::failure::Failure;
use super::renew::{as_acme_user, deployed_by_us, told};
use super::terminal::{exit, print};
use crate::acme;
use crate::acme::manage::{self, Account, Records};
use crate::bundle::acme::Plan;
use crate::bundle::compile::moment;
use crate::bundle::file::word;
use crate::bundle::report;

/// What is done with the account.
#[derive(Subcommand, Debug)]
pub(super) enum Action {
    /// Show URL, contact and thumbprint, without contacting the CA.
    Show,
    /// Replace the account's key, for example because the old one may be known to others.
    Rollover,
    /// Write the account's key to a new file of mode 0600, as PEM: for another ACME client, or as a backup.
    Export {
        /// The file, which must not exist.
        file: PathBuf,
    },
    /// Print the CNAME records that delegate the challenges of dns-01, and the CAA records by which only this account
    /// may issue for the hosts.
    DnsRecords,
}

pub(super) fn account(action: &Action, file: &Path, json: bool) -> ExitCode {
    let plan = match acme::read_plan(file) {
        Ok(plan) => plan,
        Err(stop) => return told(&stop, json),
    };
    match action {
        Action::Show if manage::needs_no_account(&plan) => no_accounts(json),
        Action::Show => show(&manage::accounts(&plan), json),
        Action::Rollover => {
            let words = ["account", "rollover"].map(OsString::from);
            if let Some(code) = as_acme_user(&plan, &again(&words, file, json)) {
                return code;
            }
            match manage::roll_over(&plan) {
                Ok(()) => done("the account has a new key; the CA no longer accepts the old one", json),
                Err(stop) => told(&stop, json),
            }
        }
        Action::Export { file } => match manage::exported(&plan) {
            Ok(text) => export(file, text.as_bytes(), json),
            Err(stop) => told(&stop, json),
        },
        Action::DnsRecords => match manage::records(&plan) {
            Ok(records) => zone_lines(&records, json),
            Err(stop) => told(&stop, json),
        },
    }
}

/// Prints the records as lines of a zone file, and the notes as comments.
fn zone_lines(records: &Records, json: bool) -> ExitCode {
    if json {
        let document = json!({ "ok": true, "records": records.lines, "notes": records.notes });
        return exit(print(&format!("{document:#}\n")));
    }
    let lines = records.lines.iter().map(|line| report::escaped(line) + "\n");
    let notes = records.notes.iter().map(|note| format!("; {}\n", report::escaped(note)));
    exit(print(&lines.chain(notes).collect::<String>()))
}

/// The command line of the same command, for another current folder.
fn again(words: &[OsString], file: &Path, json: bool) -> Vec<OsString> {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let json = json.then(|| OsString::from("--json"));
    words.iter().cloned().chain(["--acme".into(), file.into_os_string()]).chain(json).collect()
}

fn done(message: &str, json: bool) -> ExitCode {
    exit(print(&match json {
        true => format!("{:#}\n", json!({ "ok": true, "message": message })),
        false => format!("{}\n", report::escaped(message)),
    }))
}

fn no_accounts(json: bool) -> ExitCode {
    exit(print(&match json {
        true => format!("{:#}\n", json!({ "ok": true, "accounts": [], "message": manage::NO_ACCOUNT })),
        false => format!("{}\n", manage::NO_ACCOUNT),
    }))
}

fn show(accounts: &[Account], json: bool) -> ExitCode {
    if json {
        return exit(print(&format!("{:#}\n", json!({ "ok": true, "accounts": accounts }))));
    }
    let text = |account: &Account| {
        let mut text = format!("{}\n", account.directory);
        if account.staging {
            text += "  STAGING: its certificates are for trials; browsers refuse them\n";
        }
        let none = || "none yet; `sanedge renew` creates it".to_owned();
        text += &format!("  account     {}\n", report::escaped(&account.url.clone().unwrap_or_else(none)));
        for (label, said) in [("contact", &account.contact), ("thumbprint", &account.thumbprint)] {
            if let Some(said) = said {
                text += &format!("  {label:<11} {}\n", report::escaped(said));
            }
        }
        if let Some(until) = account.blocked_until {
            text += &format!("  the CA asked to wait until {} (Retry-After)\n", moment(until));
        }
        text
    };
    exit(print(&accounts.iter().map(text).collect::<String>()))
}

/// Writes the key to a new file of mode 0600. It is never printed and never replaces a file.
fn export(file: &Path, bytes: &[u8], json: bool) -> ExitCode {
    let written =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).and_then(|mut opened| {
            opened.write_all(bytes)?;
            opened.sync_all()
        });
    match written {
        Ok(()) => done(&format!("wrote {}, mode 0600: it is a private key", word(file)), json),
        Err(error) => {
            let message = format!("{} was not written: {error}; expected the name of a new file", word(file));
            Failure::new("acme-export", message).tell(json)
        }
    }
}

pub(super) fn revoke(host: &str, file: &Path, json: bool) -> ExitCode {
    let plan = match acme::read_plan(file) {
        Ok(plan) => plan,
        Err(stop) => return told(&stop, json),
    };
    if let Some(stop) = manage::of_local(&plan, host) {
        return told(&stop, json);
    }
    if let Some(code) = as_acme_user(&plan, &again(&["revoke".into(), host.into()], file, json)) {
        return if code == ExitCode::SUCCESS { taken_out(&plan, "", json) } else { code };
    }
    match manage::revoke(&plan, host) {
        Ok(message) => taken_out(&plan, &message, json),
        Err(stop) => told(&stop, json),
    }
}

/// Deploys, so that the edge stops serving the certificate. `message` is empty if another process has revoked it and printed that.
fn taken_out(plan: &Plan, message: &str, json: bool) -> ExitCode {
    match deployed_by_us(plan, json) {
        Err(failure) => failure.tell(json),
        Ok(_) if message.is_empty() && json => ExitCode::SUCCESS,
        Ok(deployed) => {
            let parts = [message, deployed.as_deref().unwrap_or_default()];
            done(&parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n"), json)
        }
    }
}
