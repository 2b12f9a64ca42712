//! `sanedge local`: the local CA, how devices come to trust it, and another in its place.

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::failure::Failure;
use super::renew::{told, with_new_ca};
use super::terminal::{exit, now, print};
use crate::acme;
use crate::bundle::acme::local::ROOT;
use crate::bundle::acme::{Local, Plan};
use crate::bundle::compile::moment;
use crate::bundle::file::word;
use crate::bundle::report;
use crate::bundle::wire::sha256;
use crate::cli::apply::Talk as _;
use crate::cli::apply::tell::Terminal;
use crate::local::{self, Certificate, Judgement, LocalError};

/// What is done with the local CA.
#[derive(Subcommand, Debug)]
pub(super) enum Action {
    /// Show the CA's certificate, which devices have to trust, its fingerprint, and how to install it on each system.
    Show,
    /// Make another CA for the hosts of the file, and put its certificate to use: if the present CA may not issue for a host, ends soon,
    /// or its key was stolen. Every device has to trust the new CA.
    Replace {
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
}

/// Where the package has the page.
const PAGE: &str = "/usr/share/doc/sanedge/docs/local.md";
/// How each system is told to trust the file; docs/local.md says more.
const SYSTEMS: [(&str, &str); 9] = [
    ("Windows", "certutil -addstore -f Root ca.crt      (as administrator)"),
    ("macOS", "sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain ca.crt"),
    (
        "iOS",
        "send ca.crt to the device and install the profile; then Settings, General, About, Certificate Trust Settings: switch it on",
    ),
    (
        "Android",
        "Settings, Security, Encryption & credentials, Install a certificate, CA certificate. Chrome uses it; most apps do not",
    ),
    (
        "Linux",
        "sudo install -m 0644 ca.crt /usr/local/share/ca-certificates/sanedge-local.crt && sudo update-ca-certificates",
    ),
    ("Chrome on Linux", "certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n sanedge-local -i ca.crt"),
    ("Firefox", "Settings, Privacy & Security, View Certificates, Authorities, Import: for web sites"),
    ("Node", "NODE_EXTRA_CA_CERTS=/path/to/ca.crt node client.js"),
    ("curl", "curl --cacert ca.crt https://HOST/"),
];

pub(super) fn local(action: &Action, file: &Path, json: bool) -> ExitCode {
    let plan = match acme::read_plan(file) {
        Ok(plan) => plan,
        Err(stop) => return told(&stop, json),
    };
    let Some(local) = &plan.local else {
        let message = format!("{} has no [local]: add it to {}", word(file), word(&plan.source));
        return Failure::new("local-none", message).tell(json);
    };
    match action {
        Action::Show => show(local, json),
        Action::Replace { yes } => replace(&plan, *yes, json),
    }
}

fn show(local: &Local, json: bool) -> ExitCode {
    let (root, judgement) = local::look(local, now());
    let Some(root) = root else {
        let message = format!(
            "{} does not exist yet: type `sudo sanedge renew --now`, which makes the CA for the hosts of the file",
            word(&local.folder.join(ROOT))
        );
        return Failure::new("local-none", message).tell(json);
    };
    exit(print(&if json { document(local, &root, &judgement) } else { text(local, &root, &judgement) }))
}

/// As systems show it.
fn fingerprint(root: &Certificate) -> String {
    sha256(&root.der).map(|byte| format!("{byte:02X}")).join(":")
}

fn listed<T: ToString>(all: &[T]) -> Vec<String> {
    all.iter().map(ToString::to_string).collect()
}

fn document(local: &Local, root: &Certificate, judgement: &Result<Judgement, LocalError>) -> String {
    let judged = judgement.as_ref().ok();
    let lifetime = judged.and_then(|judged| judged.lifetime);
    let document = json!({
        "ok": true,
        "certificate": local.folder.join(ROOT),
        "name": root.name,
        "sha256": fingerprint(root),
        "not_after": root.lifetime.not_after,
        "permitted": listed(&root.permitted),
        "hosts": judged.map(|judged| listed(&judged.hosts)),
        "not_permitted": judged.map(|judged| listed(&judged.outside)),
        "hosts_not_after": lifetime.map(|lifetime| lifetime.not_after),
        "next_renewal": lifetime.map(|lifetime| lifetime.renewal_due()),
        "trouble": judgement.as_ref().err().map(ToString::to_string),
    });
    format!("{document:#}\n")
}

fn text(local: &Local, root: &Certificate, judgement: &Result<Judgement, LocalError>) -> String {
    let mut rows = vec![
        ("CA", root.name.clone()),
        ("certificate", word(&local.folder.join(ROOT))),
        ("SHA-256", fingerprint(root)),
        ("valid until", moment(root.lifetime.not_after)),
        ("issues for", listed(&root.permitted).join(", ")),
    ];
    match judgement {
        Ok(judged) => {
            rows.push(("hosts", listed(&judged.hosts).join(", ")));
            rows.push((
                "",
                match judged.lifetime {
                    Some(lifetime) => {
                        format!(
                            "valid until {}, next renewal {}",
                            moment(lifetime.not_after),
                            moment(lifetime.renewal_due())
                        )
                    }
                    None => "no certificate for all of them yet: type `sudo sanedge renew --now`".to_owned(),
                },
            ));
            rows.extend(judged.outside.iter().map(|host| ("not", local::outside(host))));
        }
        Err(error) => rows.push(("trouble", error.to_string())),
    }
    let line = |(label, said): &(&str, String)| format!("{label:<12} {}\n", report::escaped(said));
    let mut text: String = rows.iter().map(line).collect();
    text += "\nA device connects once it trusts that certificate, which is no secret. Copy it there, compare the SHA-256, and:\n";
    text.extend(SYSTEMS.iter().map(|(system, way)| format!("  {system:<16} {way}\n")));
    text + &format!("More: {PAGE}\n")
}

fn replace(plan: &Plan, yes: bool, json: bool) -> ExitCode {
    if !yes && !agreed(json) {
        let message = "every device that trusts the CA would have to trust the new one: nothing was changed. Add --yes to make another";
        return Failure::new("local-not-agreed", message).tell(json);
    }
    with_new_ca(plan, json)
}

fn agreed(json: bool) -> bool {
    let question =
        "Every device that trusts the CA has to trust the new one before it can connect again. Make another?";
    !json && io::stdout().is_terminal() && Terminal.ask(question) == Some(true)
}
