//! Why a step fails: what clients see, why, and what to type. Findings of the doctor have the same form; the table here is for failures of
//! `sanedge setup` only. `docs/errors.md` contains it as well.

use serde::{Deserialize, Serialize};

use crate::doctor::Finding;
use crate::doctor::explain::page::entry_of;
use crate::doctor::explain::{Explanation, fill};

/// The explanation of a failed step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Problem {
    /// Stable, for scripts.
    pub(crate) code: String,
    /// One sentence about the case at hand.
    pub(crate) message: String,
    /// Evidence: label and text.
    pub(crate) evidence: Vec<(String, String)>,
    /// What clients show.
    pub(crate) see: String,
    pub(crate) why: String,
    /// What to type.
    pub(crate) fix: String,
}

macro_rules! table {
    ($($variant:ident = $text:literal;
        title: $title:literal; see: $see:literal; why: $why:literal; fix: $fix:literal;)+) => {
        /// The kind of a problem that is not a finding of the doctor.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code { $(#[doc = $title] $variant,)+ }

        impl Code {
            /// Every code, in the order of the steps.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The stable text, in kebab case.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// Its explanation.
            pub fn explanation(self) -> Explanation {
                match self {
                    $(Self::$variant => Explanation { title: $title, see: $see, why: $why, fix: $fix },)+
                }
            }
        }
    };
}

table! {
NotRoot = "setup-not-root";
    title: "setup needs root";
    see: "Connection refused: nothing is set up yet.";
    why: "Setup writes to /etc/sanedge and starts services. It connects to the app and queries DNS as the user sanedge.";
    fix: "  sudo {typed}";
NoSystemd = "setup-no-systemd";
    title: "systemd is not the init system of this machine";
    see: "Connection refused: nothing starts the edge.";
    why: "Setup starts sanedge's units, and this is a container, or a system with another init.";
    fix: "Start `sanedge serve` yourself, and let setup do everything else:\n  {command} --no-units";
NoUnits = "setup-no-units";
    title: "sanedge's units are not installed";
    see: "Connection refused: nothing starts the edge.";
    why: "The program was installed without its package (by cargo, or copied), so systemd does not know it.";
    fix: "Install the package (docs/install.md). Or start `sanedge serve` yourself, and let setup do everything else:\n  {command} --no-units";
Account = "setup-account";
    title: "the user sanedge cannot be created";
    see: "Connection refused: nothing is set up yet.";
    why: "The edge runs as the user sanedge, and obtains certificates as sanedge-acme. Neither systemd-sysusers nor useradd could create them.";
    fix: "Create them, then run setup again:\n  sudo useradd --system --user-group --home-dir /nonexistent --shell /usr/sbin/nologin sanedge\n  sudo useradd --system --user-group --home-dir /nonexistent --shell /usr/sbin/nologin sanedge-acme";
LookFailed = "setup-look-failed";
    title: "a part of setup that runs without root's rights ended without a result";
    see: "";
    why: "Setup checks the app, the name and the edge in a process of its own. That process could not start, was killed, or took too long.";
    fix: "Run setup again. If it fails again, the doctor makes the same checks:\n  sanedge doctor --upstream {upstream} https://{host}";
NoPublicCa = "setup-no-public-ca";
    title: "no public CA issues a certificate for this name";
    see: "Chrome: ERR_SSL_UNRECOGNIZED_NAME_ALERT\nNode: EPROTO, tlsv1 unrecognized name";
    why: "`{host}` exists in a home network only, so no CA can check that it is yours. Let's Encrypt refuses such names.";
    fix: "Let a local CA issue for it. Clients have to trust that CA once (docs/local.md):\n  sudo sanedge setup {host} --app {app} --local\nOr use a name of a domain that is yours, a certificate of your own, or a private CA that has an ACME server:\n  sudo sanedge setup {host} --app {app} --certificate CHAIN KEY\n  sudo sanedge setup {host} --app {app} --directory URL --trust FILE";
Terms = "setup-terms";
    title: "the terms of service of the CA are not agreed to";
    see: "Connection refused: nothing is set up yet.";
    why: "A CA issues certificates only to accounts whose owner agrees to its terms. Only you can agree.";
    fix: "Read the terms (Let's Encrypt: https://letsencrypt.org/repository/), then:\n  {command} --agree";
FileUnusable = "setup-file";
    title: "sanedge.toml cannot be read or changed";
    see: "No change: clients see what they saw before.";
    why: "Setup changes the file only if it can read all of it.";
    fix: "Do what the message says. To see every error of the file:\n  sudo sanedge apply {file} --dry-run";
NotCovered = "setup-not-covered";
    title: "the given certificate does not cover the name";
    see: "No change: clients see what they saw before. With it: ERR_CERT_COMMON_NAME_INVALID, Hostname/IP does not match certificate's altnames";
    why: "Clients look for `{host}` in the subjectAltName of the certificate, and it is not there.";
    fix: "Have it issued again with this name, or give the right files. To see its names:\n  openssl x509 -noout -ext subjectAltName -in {chain}";
OfOtherCa = "setup-other-ca";
    title: "another CA of the file issues for the name";
    see: "No change: clients see what they saw before.";
    why: "`[[acme.certificate]]` in {file} covers `{host}`. The local CA issues only for hosts that no other certificate of the file covers.";
    fix: "Leave the name to that CA:\n  sudo sanedge setup {host} --app {app}\nOr remove the name that covers `{host}` from [[acme.certificate]] in {file}, then run setup again.";
DefaultHost = "setup-default-host";
    title: "clients of the address would get another certificate";
    see: "No change: clients see what they saw before. With it: ERR_CERT_COMMON_NAME_INVALID, IP: {host} is not in the cert's list";
    why: "Clients of an address send no server name. They get the certificate of `default_host`, which is `{other}`, and the local CA does not issue that one.";
    fix: "Write default_host = \"{host}\" in [listen] of {file}, then run setup again: clients without a server name then get no certificate for `{other}` any more. Or use a name instead of the address.";
SharedSite = "setup-shared-site";
    title: "the name is in a site with other names, or with routes";
    see: "No change: clients see what they saw before.";
    why: "Another upstream or CA for that `[[site]]` would apply to its other names or paths as well, and setup cannot know whether you want that.";
    fix: "Change the site yourself: give `{host}` a `[[site]]` of its own with `upstream = [\"{upstream}\"]` in {file}, then run setup again.";
NotConfirmed = "setup-not-confirmed";
    title: "the change was not confirmed";
    see: "No change: clients see what they saw before.";
    why: "Setup writes only changes that you confirm, and without a terminal it cannot ask.";
    fix: "  {command} --yes";
Bundle = "setup-bundle";
    title: "sanedge.toml cannot be compiled to a bundle";
    see: "No change: clients see what they saw before.";
    why: "The contents of the file do not fit together, so the edge keeps its bundle. The file was not changed.";
    fix: "Do what the findings above say, then run setup again.";
UnitFailed = "setup-unit-failed";
    title: "a unit does not start";
    see: "Connection refused, or a timeout.";
    why: "systemd could not enable or start it.";
    fix: "See why, then run setup again:\n  systemctl status {unit}\n  journalctl -u {unit} -n 20";
NoEdge = "setup-no-edge";
    title: "no edge serves the bundle";
    see: "Connection refused.";
    why: "With --no-units setup starts nothing, and the next steps need a running edge: the CA and the last check connect to it.";
    fix: "Start it, for example in another terminal, then run setup again:\n  sanedge serve {bundle}";
NotReloaded = "setup-needs-restart";
    title: "the change needs a restart of the edge";
    see: "No change: clients see what they saw before.";
    why: "A running edge cannot open other listeners, and cannot connect to a port that no upstream had when it started. Where systemd does not run it, a restart closes its WebSockets; clients reconnect.";
    fix: "Let setup restart it:\n  {command} --restart\nWithout sanedge's units: stop the edge, type the command below, start the edge, and run setup again:\n  sanedge apply {file}";
NoPlan = "setup-no-plan";
    title: "the file that tells `sanedge renew` what to obtain cannot be read";
    see: "Chrome: ERR_SSL_UNRECOGNIZED_NAME_ALERT\nNode: EPROTO, tlsv1 unrecognized name";
    why: "`sanedge apply` writes {plan} from [acme] and [local] of {file}. Without it no CA is asked for a certificate.";
    fix: "Write it again, then run setup again:\n  sudo sanedge apply {file}\n  {command}";
Certificate = "setup-certificate";
    title: "the CA issued no certificate";
    see: "Chrome: ERR_SSL_UNRECOGNIZED_NAME_ALERT\nNode: EPROTO, tlsv1 unrecognized name\nOn port 80: 503, Sanedge-Error: certificate_pending";
    why: "The CA could not be reached, or did not reach this board by its name: port 80 is not forwarded to the board, or the name resolves to another address. The timer tries again.";
    fix: "Forward TCP ports 80 and 443 to this board in the router, check the name, then run setup again, or the one step:\n  nslookup {host} 9.9.9.9\n  sudo sanedge renew {plan} --now";
}

impl Problem {
    /// A problem of the table above; `words` fill the braces.
    pub(crate) fn of(code: Code, message: impl Into<String>, words: &[(&str, &str)]) -> Box<Self> {
        let text = code.explanation();
        let filled = |text: &str| {
            fill(text, |word| {
                words.iter().find(|(known, _)| *known == word).map(|(_, value)| (*value).to_owned())
            })
        };
        Box::new(Self {
            code: code.as_str().to_owned(),
            message: message.into(),
            evidence: Vec::new(),
            see: filled(text.see),
            why: filled(text.why),
            fix: filled(text.fix),
        })
    }

    /// Adds evidence.
    #[must_use]
    pub(crate) fn seen(mut self: Box<Self>, label: &str, text: impl Into<String>) -> Box<Self> {
        let text = text.into();
        if !text.is_empty() {
            self.evidence.push((label.to_owned(), text));
        }
        self
    }
}

impl From<&Finding> for Problem {
    fn from(finding: &Finding) -> Self {
        let text = finding.code.explanation();
        let evidence = finding.evidence.iter().map(|(label, text)| ((*label).to_owned(), text.clone()));
        Self {
            code: finding.code.as_str().to_owned(),
            message: finding.message.clone(),
            evidence: evidence.collect(),
            see: finding.told(text.see),
            why: finding.told(text.why),
            fix: finding.told(text.fix),
        }
    }
}

/// The words that fill the braces on the page.
const EXAMPLES: [(&str, &str); 11] = [
    ("chain", "fullchain.pem"),
    ("command", "sudo sanedge setup socket.recre.store --app 3002"),
    ("typed", "sanedge setup socket.recre.store --app 3002"),
    ("upstream", "127.0.0.1:3002"),
    ("host", "socket.recre.store"),
    ("app", "3002"),
    ("file", "/etc/sanedge/sanedge.toml"),
    ("bundle", "/etc/sanedge/sanedge.bundle"),
    ("plan", "/etc/sanedge/sanedge.acme"),
    ("unit", "sanedge.service"),
    ("other", "recre.store"),
];

/// The table as a section of `docs/errors.md`, after the doctor's.
pub fn page() -> String {
    let mut page = String::from(
        "\n## A step of `sanedge setup` fails\n\n`sanedge setup` shows one of these, or a finding from above: one about the app \
         (`app-down`, `app-tls`, `eio-not-socketio`), the name (`name-unknown`), a port (`port-owner`), or the edge as clients see it. \
         It exits with 1. Type the same command again to continue.\n",
    );
    let example = |text: &str| {
        fill(text, |word| {
            EXAMPLES.iter().find(|(known, _)| *known == word).map(|(_, example)| (*example).to_owned())
        })
    };
    for code in Code::ALL {
        entry_of(&mut page, &format!("`{}`", code.as_str()), code.explanation(), example);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::options;

    #[test]
    fn every_word_in_braces_has_an_example_and_addresses_are_ones_that_the_doctor_and_the_file_take() {
        let page = page();
        assert!(!page.contains('{') && !page.contains('}'), "a word without an example");
        let after = |mark: &str| {
            let rest = page.split(mark).skip(1);
            rest.filter_map(|rest| rest.split([' ', '"', '\n']).next().map(str::to_owned)).collect::<Vec<_>>()
        };
        let addresses = [after("--upstream "), after("upstream = [\"")].concat();
        assert_eq!(addresses.len(), 2, "{addresses:?}");
        for address in addresses {
            assert!(options::upstream(&address).is_ok(), "{address}");
        }
    }
}
