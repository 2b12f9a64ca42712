//! The steps. Each checks what exists, does what is missing, and prints both.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};

use super::dialogue::Confirmation;
use super::options::{Options, SUDO};
use super::qr;
use super::told::{Stop, Told};
use super::write::{self, Change, Written};
use crate::acme;
use crate::bundle::acme::local::ROOT;
use crate::bundle::acme::{Local, Plan, STAGING_MARK};
use crate::bundle::compile::{self, PEM_BYTES_MAX};
use crate::bundle::file::word;
use crate::bundle::finding::Severity;
use crate::bundle::source::{self, Source};
use crate::bundle::{Bundle, report};
use crate::cli::apply::NEEDS_RESTART;
use crate::cli::difference;
use crate::cli::failure::Failure;
use crate::cli::terminal::{complain, now};
use crate::doctor::explain;
use crate::local;
use crate::names::Host;
use crate::ops::log;
use crate::setup::account::{self, NOBODY, User};
use crate::setup::child;
use crate::setup::edit::{self, Issuer, Wish};
use crate::setup::look::{Look, Question};
use crate::setup::ports::{self, Port};
use crate::setup::problem::{Code, Problem};
use crate::setup::programs::{self, RENEW_TIME};
use crate::setup::units;

/// The listeners in the file that setup writes.
const LISTEN: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 443),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 80),
];
/// The default of the commands that take `--acme`.
const PLAN: &str = "/etc/sanedge/sanedge.acme";
/// This machine's name, which mDNS announces.
const HOSTNAME: &str = "/proc/sys/kernel/hostname";
/// Exists while avahi-daemon runs.
const MDNS: &str = "/run/avahi-daemon/pid";
/// Mode of /etc/sanedge: sanedge-acme, which is in no group of it, opens sanedge.acme by its name.
const FOLDER_MODE: u32 = 0o751;

/// A run.
pub(super) struct Setup<'a> {
    pub(super) options: &'a Options,
    pub(super) wish: Wish,
    /// The command line, to be typed again.
    pub(super) command: String,
    pub(super) confirmation: Confirmation,
    pub(super) told: &'a mut Told,
}

type Step<T> = Result<T, Stop>;

fn failed(step: &'static str) -> impl Fn(Box<Problem>) -> Stop {
    move |problem| Stop::Step(step, problem)
}

impl Setup<'_> {
    /// Runs all steps; returns further fields of the JSON document.
    pub(super) fn run(mut self) -> Step<Value> {
        let user = self.start()?;
        let before = self.file_before()?;
        self.app(user)?;
        self.name(user, before.as_ref().map(|(_, source)| source))?;
        self.ports(before.as_ref().map(|(_, source)| source))?;
        let written = self.file(before)?;
        self.units(&written)?;
        self.certificate()?;
        self.outside(user, &written)
    }

    /// A problem, with the words for the braces of its explanation.
    fn problem(&self, code: Code, message: impl Into<String>) -> Box<Problem> {
        self.problem_with(code, message, ("", ""))
    }

    /// The same with one word more.
    fn problem_with(&self, code: Code, message: impl Into<String>, more: (&str, &str)) -> Box<Problem> {
        let (host, app) =
            (self.wish.host.to_string(), self.wish.app.strip_prefix("127.0.0.1:").unwrap_or(&self.wish.app));
        let (file, bundle) = (word(&self.options.file), word(&self.bundle_file()));
        let plan = word(&Plan::beside(&self.bundle_file()));
        let chain = match &self.wish.issuer {
            Issuer::Files { chain, .. } => word(chain),
            _ => String::new(),
        };
        let words = [
            ("host", host.as_str()),
            ("app", app),
            ("upstream", &self.wish.app),
            ("typed", self.command.trim_start_matches(SUDO)),
            ("file", &file),
            ("bundle", &bundle),
            ("plan", &plan),
            ("command", &self.command),
            ("chain", &chain),
            more,
        ];
        Problem::of(code, message, &words)
    }

    fn bundle_file(&self) -> PathBuf {
        self.options.file.with_extension("bundle")
    }

    // --- before anything is asked ---------------------------------------------------------------------------

    /// The user for connections and DNS; `None`: the current user, which is not root.
    fn start(&mut self) -> Step<Option<User>> {
        let is_root = rustix::process::geteuid().is_root();
        if self.options.no_units {
            return Ok(is_root.then(|| account::find(account::EDGE).unwrap_or(NOBODY)));
        }
        let fail = failed("start");
        if !is_root {
            return Err(fail(
                self.problem(Code::NotRoot, "this user cannot write /etc/sanedge and start services"),
            ));
        }
        units::present(&self.command).map_err(&fail)?;
        let user = account::make().map_err(|said| fail(self.problem(Code::Account, said)))?;
        Ok(Some(user))
    }

    fn ask(&self, step: &'static str, question: &Question, user: Option<User>) -> Step<Look> {
        child::ask(question, user).map_err(|why| {
            failed(step)(self.problem(Code::LookFailed, format!("this part of setup failed: {why}")))
        })
    }

    fn notes(&mut self, look: &Look) {
        look.notes.iter().for_each(|note| self.told.note(note));
    }

    // --- 1: the app -----------------------------------------------------------------------------------------

    fn app(&mut self, user: Option<User>) -> Step<()> {
        let mut at = vec![self.wish.app.clone()];
        if let Some(port) = self.wish.app.strip_prefix("127.0.0.1:") {
            at.push(format!("[::1]:{port}"));
        }
        let look = self.ask("app", &Question::App { at: at.clone() }, user)?;
        if let Some(problem) = look.problem {
            return Err(failed("app")(problem.into()));
        }
        // Only an address that was in the question: the answering process reads input of others.
        if let Some(found) = look.at.as_ref().filter(|found| at.contains(found)) {
            self.wish.app.clone_from(found);
        }
        let found = look.spoken.map_or("an app", |spoken| spoken.socketio());
        self.told.step("app", &format!("{found} answers at {}", self.wish.app));
        self.notes(&look);
        Ok(())
    }

    // --- 2: the name and the ports --------------------------------------------------------------------------

    fn name(&mut self, user: Option<User>, before: Option<&Source>) -> Step<()> {
        let host = self.wish.host.to_string();
        if self.wish.issuer == Issuer::Local && self.local_name(&host) {
            return Ok(());
        }
        let is_public = edit::is_public(&self.wish.host);
        let by_ca = matches!(self.wish.issuer, Issuer::Acme(_));
        let private_ca = match &self.wish.issuer {
            Issuer::Acme(acme) => {
                acme.directory.as_deref().is_some_and(|of| of != edit::STAGING)
                    || before.is_some_and(has_own_ca)
            }
            _ => true,
        };
        if by_ca && !is_public && !private_ca {
            let message = format!("no public CA issues a certificate for `{host}`");
            return Err(failed("name")(self.problem(Code::NoPublicCa, message)));
        }
        let look = self.ask("name", &Question::Name { host: host.clone() }, user)?;
        let by_dns = before.and_then(|source| source.acme.as_ref()).is_some_and(|acme| acme.dns.is_some());
        let hidden = explain::Code::NameHidden.as_str();
        match &look.problem {
            Some(problem) if by_ca && is_public && !by_dns && problem.code != hidden => {
                return Err(failed("name")(problem.clone().into()));
            }
            Some(problem) => {
                self.told.step("name", &format!("it is unknown whether {host} resolves to this network"));
                self.told.note(&problem.message);
                if self.wish.issuer == Issuer::Local {
                    self.told
                        .note("clients need it in the DNS of this network's router, or in their hosts file");
                }
            }
            None => {
                let addresses: Vec<String> = look.addresses.iter().map(ToString::to_string).collect();
                self.told.step("name", &format!("{host} resolves to {}", addresses.join(", ")));
            }
        }
        self.notes(&look);
        Ok(())
    }

    /// What clients need to find a host that no DNS has; false: it is a name of DNS.
    fn local_name(&mut self, host: &str) -> bool {
        if let Host::Ip(address) = self.wish.host {
            self.told.step("name", &format!("{address} is an address: clients need no DNS"));
            if std::net::UdpSocket::bind((address, 0)).is_err() {
                self.told.note(
                    "this machine does not have this address now: reserve it for this machine in the router",
                );
            }
            return true;
        }
        let Some(label) = host.strip_suffix(".local") else { return false };
        let own = fs::read_to_string(HOSTNAME).unwrap_or_default().trim().to_ascii_lowercase();
        let own = own.split('.').next().unwrap_or_default().to_owned();
        let announces = Path::new(MDNS).exists();
        if announces && label == own {
            self.told.step("name", &format!("clients find {host} by mDNS, and this machine announces it"));
            return true;
        }
        self.told.step("name", &format!("clients find {host} by mDNS (no DNS server has it)"));
        self.told.note(&match (announces, label.contains('.')) {
            (false, _) => "no avahi-daemon runs here to announce it: sudo apt-get install avahi-daemon".to_owned(),
            (true, true) => format!(
                "this machine announces {own}.local, and many systems do not look up a .local name of three labels by mDNS: use {own}.local, or write the name in the hosts file of each client"
            ),
            (true, false) => format!(
                "this machine announces {own}.local: use that name, or type: sudo hostnamectl set-hostname {label} && sudo systemctl restart avahi-daemon"
            ),
        });
        true
    }

    fn ports(&mut self, before: Option<&Source>) -> Step<()> {
        let listens: Vec<SocketAddr> = match before {
            Some(source) => {
                source.listen.https.iter().chain(&source.listen.http).map(|listen| listen.value).collect()
            }
            None => LISTEN.to_vec(),
        };
        let mut found = Vec::new();
        for listen in listens.into_iter().filter(|listen| listen.port() != 0) {
            match ports::of(listen) {
                Port::Free => found.push(format!("{} is free", listen.port())),
                Port::Ours => found.push(format!("{} is used by the edge", listen.port())),
                Port::Taken(problem) => return Err(Stop::Step("ports", problem)),
            }
        }
        found.dedup();
        self.told.step("ports", &found.join(", "));
        Ok(())
    }

    // --- 3: the file ----------------------------------------------------------------------------------------

    /// The existing file, if there is one.
    fn file_before(&mut self) -> Step<Option<(String, Source)>> {
        let path = &self.options.file;
        if !path.exists() {
            return Ok(None);
        }
        let unusable = |findings: &[_]| {
            complain(&report::findings(findings, log::is_coloured(&std::io::stderr())));
            let message = format!("{} cannot be used: {}", word(path), report::count(findings));
            failed("file")(self.problem(Code::FileUnusable, message))
        };
        let text = source::text(path).map_err(|finding| unusable(&[*finding]))?;
        match source::parse(path, &text) {
            (Some(source), findings)
                if findings.iter().all(|finding| finding.severity() != Severity::Error) =>
            {
                Ok(Some((text, source)))
            }
            (_, findings) => Err(unusable(&findings)),
        }
    }

    fn file(&mut self, before: Option<(String, Source)>) -> Step<Written> {
        let fail = failed("file");
        let file = word(&self.options.file);
        let before_ref = before.as_ref().map(|(text, source)| (text.as_str(), source));
        let mut text = self.edited(before_ref, &file).map_err(&fail)?;
        if before.is_some() && self.is_covered(&text) {
            self.wish.issuer = Issuer::Given;
            text = self.edited(before_ref, &file).map_err(&fail)?;
        }
        if self.wish.issuer == Issuer::Local {
            self.is_possible(&text).map_err(&fail)?;
        }
        if let Issuer::Files { chain, .. } = &self.wish.issuer
            && self.is_pending(&text)
        {
            let message = format!("{} does not cover `{}`", word(chain), self.wish.host);
            return Err(fail(self.problem(Code::NotCovered, message)));
        }
        let had_acme = before.as_ref().is_some_and(|(_, source)| source.acme.is_some());
        if matches!(self.wish.issuer, Issuer::Acme(_)) && !had_acme {
            self.agreed()?;
        }
        let old = before.as_ref().map(|(text, _)| text.as_str()).unwrap_or_default();
        let difference = difference::between(old, &text);
        if difference.is_empty() {
            self.told.step("file", &format!("{file} needs no change"));
        } else {
            self.told
                .step("file", &format!("{file} {}:", if before.is_some() { "changes" } else { "is new" }));
            difference.iter().for_each(|line| self.told.note(line));
            self.confirmed()?;
        }
        self.folder().map_err(&fail)?;
        let change = Change {
            file: &self.options.file,
            before: before.as_ref().map(|(text, _)| text.as_str()),
            text: &text,
            restart: self.options.restart,
        };
        let written =
            write::put(&change, &mut self.confirmation).map_err(|failure| fail(self.unwritten(&failure)))?;
        self.told.step("bundle", &written.said);
        written.notes.iter().for_each(|note| self.told.note(note));
        Ok(written)
    }

    fn edited(&self, before: Option<(&str, &Source)>, file: &str) -> Result<String, Box<Problem>> {
        edit::edited(before, &self.wish, file)
    }

    /// The problem for a change that `apply` did not make.
    fn unwritten(&self, failure: &Failure) -> Box<Problem> {
        let code = match failure.code.as_str() {
            NEEDS_RESTART => Code::NotReloaded,
            _ => Code::Bundle,
        };
        self.problem(code, failure.message.clone()).seen("code", &failure.code)
    }

    /// Whether a certificate of the file covers the host already, so that no CA is needed.
    fn is_covered(&self, with_ca: &str) -> bool {
        if !matches!(self.wish.issuer, Issuer::Acme(_) | Issuer::Local) {
            return false;
        }
        let host = self.wish.host.to_string();
        let outcome = compile::compile_text(&self.options.file, with_ca, now());
        outcome.hosts.iter().any(|row| row.host == host && row.certificate.is_some() && !row.pending)
            && outcome
                .plan
                .as_ref()
                .is_none_or(|plan| plan.certificates.iter().all(|one| !one.names.contains(&host)))
            && outcome
                .plan
                .as_ref()
                .and_then(|plan| plan.local.as_ref())
                .is_none_or(|local| !local.names.contains(&host))
    }

    /// Whether the local CA would issue for the host, and clients would get its certificate.
    fn is_possible(&self, with_ca: &str) -> Result<(), Box<Problem>> {
        let host = self.wish.host.to_string();
        let outcome = compile::compile_text(&self.options.file, with_ca, now());
        let Some(local) = outcome.plan.and_then(|plan| plan.local) else { return Ok(()) };
        if !local.names.contains(&host) {
            let message = format!("[[acme.certificate]] of the file covers `{host}`");
            return Err(self.problem(Code::OfOtherCa, message));
        }
        let default =
            source::parse(&self.options.file, with_ca).0.and_then(|source| source.listen.default_host);
        let default = default.map(|default| default.value.to_string());
        match default.filter(|default| !local.names.contains(default)) {
            Some(other) if matches!(self.wish.host, Host::Ip(_)) => {
                let message = format!("clients of {host} would get the certificate of `{other}`");
                Err(self.problem_with(Code::DefaultHost, message, ("other", &other)))
            }
            _ => Ok(()),
        }
    }

    /// Whether the host would wait for a certificate.
    fn is_pending(&self, text: &str) -> bool {
        let host = self.wish.host.to_string();
        let outcome = compile::compile_text(&self.options.file, text, now());
        outcome.hosts.iter().any(|row| row.host == host && row.pending)
    }

    fn agreed(&mut self) -> Step<()> {
        if self.options.agree {
            return Ok(());
        }
        let refused =
            failed("file")(self.problem(Code::Terms, "the CA's terms of service are not agreed to"));
        let Confirmation::Asked(dialogue) = &mut self.confirmation else { return Err(refused) };
        let question =
            "Do you agree to the CA's terms of service (Let's Encrypt: https://letsencrypt.org/repository/)?";
        if dialogue.confirm(question, false)? { Ok(()) } else { Err(refused) }
    }

    fn confirmed(&mut self) -> Step<()> {
        let refused = failed("file")(self.problem(Code::NotConfirmed, "nothing was written"));
        let is_confirmed = match &mut self.confirmation {
            Confirmation::Given => true,
            Confirmation::Asked(dialogue) => dialogue.confirm("Write it and continue?", true)?,
            Confirmation::Impossible => false,
        };
        if is_confirmed { Ok(()) } else { Err(refused) }
    }

    /// Creates /etc/sanedge as the package does.
    fn folder(&self) -> Result<(), Box<Problem>> {
        let unusable = |error: std::io::Error| {
            self.problem(
                Code::FileUnusable,
                format!("the folder of {} cannot be created: {error}", word(&self.options.file)),
            )
        };
        let folder = self
            .options
            .file
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        if folder.is_dir() {
            return Ok(());
        }
        fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder).map_err(unusable)?;
        if let Some(user) = account::find(account::EDGE).filter(|_| !self.options.no_units) {
            std::os::unix::fs::chown(folder, Some(0), Some(user.gid)).map_err(unusable)?;
        }
        fs::set_permissions(folder, fs::Permissions::from_mode(FOLDER_MODE)).map_err(unusable)
    }

    // --- 4: the units ---------------------------------------------------------------------------------------

    fn units(&mut self, written: &Written) -> Step<()> {
        let fail = failed("units");
        if self.options.no_units {
            if !written.is_running {
                let message = format!("no edge serves {}", word(&self.bundle_file()));
                return Err(fail(self.problem(Code::NoEdge, message)));
            }
            self.told.step("edge", "an edge serves the bundle");
            return Ok(());
        }
        units::folders();
        units::start_edge().map_err(&fail)?;
        self.told.step("units", "the edge is enabled and runs");
        Ok(())
    }

    // --- 5: the certificate ---------------------------------------------------------------------------------

    fn certificate(&mut self) -> Step<()> {
        let plan = self.plan();
        let entry = self.entry();
        let entry = entry.as_ref();
        // A certificate for trials is replaced if the file names another CA.
        let mark = STAGING_MARK.as_bytes();
        let is_trial = |der: &CertificateDer<'_>| der.windows(mark.len()).any(|part| part == mark);
        let entry =
            entry.filter(|der| !is_trial(der) || plan.as_ref().is_none_or(|plan| plan.ca.is_staging()));
        let result = match (entry, &plan) {
            (_, Some(plan)) if self.ca_here(plan).is_some() => self.issued_here(plan),
            (Some(_), _) => {
                self.told.step("certificate", &format!("{} has a certificate", self.wish.host));
                Ok(())
            }
            (None, Some(plan)) => self.obtain(plan),
            (None, None) => Err(self.without_plan()),
        };
        // Enabled after a failure as well: the timer tries again.
        let renewals = if self.options.no_units || plan.is_none() { Ok(()) } else { units::start_renewals() };
        result.and(renewals).map_err(failed("certificate"))
    }

    /// What `apply` has written for `sanedge renew`.
    fn plan(&self) -> Option<Plan> {
        acme::read_plan(&Plan::beside(&self.bundle_file())).ok()
    }

    /// `apply` succeeded, and what it wrote for `sanedge renew` is missing or damaged.
    fn without_plan(&self) -> Box<Problem> {
        let why = acme::read_plan(&Plan::beside(&self.bundle_file())).err().map(|stop| stop.message);
        self.problem(
            Code::NoPlan,
            format!("{} has no certificate: {}", self.wish.host, why.unwrap_or_default()),
        )
    }

    /// The host's certificate in the bundle.
    fn entry(&self) -> Option<CertificateDer<'static>> {
        let bundle = Bundle::open(&self.bundle_file()).ok()?;
        let at = usize::from(bundle.host(&self.wish.host)?.certificate);
        bundle.certificates.get(at)?.key.cert.first().cloned()
    }

    /// The local CA, if it issues for the host.
    fn ca_here<'p>(&self, plan: &'p Plan) -> Option<&'p Local> {
        let host = self.wish.host.to_string();
        plan.local.as_ref().filter(|local| local.names.contains(&host))
    }

    /// Has the local CA issue what is missing.
    fn issued_here(&mut self, plan: &Plan) -> Result<(), Box<Problem>> {
        let host = &self.wish.host;
        let is_current = || {
            let entry = self.entry();
            self.ca_here(plan).zip(entry).is_some_and(|(ca, der)| local::has_issued(ca, host, &der, now()))
        };
        if is_current() {
            let said = format!("{host} has a certificate of the local CA");
            self.told.step("certificate", &said);
            return Ok(());
        }
        let (said, document) = self.renew(&host.to_string())?;
        // The run also tells what is wrong with other hosts.
        if !is_current() {
            return Err(self.refused(&document, &said.complaint()));
        }
        let said = format!("issued for {host} by the local CA, and served");
        self.told.step("certificate", &said);
        Ok(())
    }

    /// Runs `sanedge renew` for a name; what it has said, and its document.
    fn renew(&self, name: &str) -> Result<(programs::Said, Value), Box<Problem>> {
        let file = Plan::beside(&self.bundle_file());
        let said = programs::ended(programs::renewal(&file, name).arg("--json"), &[], RENEW_TIME);
        let said =
            said.map_err(|error| self.problem(Code::Certificate, format!("sanedge renew: {error}")))?;
        let document = serde_json::from_slice(&said.stdout).unwrap_or_default();
        Ok((said, document))
    }

    /// Runs `sanedge renew`, which talks to the CA as its own user and deploys as this one.
    fn obtain(&mut self, plan: &Plan) -> Result<(), Box<Problem>> {
        let host = self.wish.host.to_string();
        let name = plan.renewed_as(&host);
        self.told.say(&format!("{:12}contacting {} …\n", "", report::escaped(&plan.ca.directory)));
        let begin = Instant::now();
        let (said, document) = self.renew(name)?;
        if !said.succeeded {
            return Err(self.refused(&document, &said.complaint()));
        }
        self.told.step(
            "certificate",
            &format!("issued for {name}, and served, after {} s", begin.elapsed().as_secs()),
        );
        Ok(())
    }

    /// The problem for a failure that `renew --json` reports.
    fn refused(&self, document: &Value, complaint: &str) -> Box<Problem> {
        let text = |at: &str| {
            document.pointer(at).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let message = text("/message").unwrap_or_else(|| format!("sanedge renew: {complaint}"));
        let mut problem = self.problem(Code::Certificate, message);
        problem.code = text("/code").unwrap_or(problem.code);
        let known = explain::Code::ALL.iter().find(|code| code.as_str() == problem.code);
        let known = known.map(|code| code.explanation());
        let row = self.row_of(document).map(|at| format!("/certificates/{at}/failure"));
        let of_row = |field: &str| row.as_ref().and_then(|row| text(&format!("{row}/{field}")));
        let why = of_row("means").or_else(|| known.map(|known| known.why.to_owned()));
        problem.why = why.unwrap_or(problem.why);
        if let Some(remedy) = of_row("remedy").or_else(|| known.map(|known| known.fix.to_owned())) {
            let plan = word(&Plan::beside(&self.bundle_file()));
            problem.fix = format!(
                "{remedy}\nThen run setup again, or this step alone:\n  sudo sanedge renew {plan} --now"
            );
        }
        problem
    }

    /// The index of the certificate of the document that failed: that of the host, or else the first.
    fn row_of(&self, document: &Value) -> Option<usize> {
        let host = self.wish.host.to_string();
        let rows = document.get("certificates")?.as_array()?;
        let names = |row: &Value| {
            let names = row.get("names").and_then(Value::as_array);
            names.is_some_and(|names| names.iter().any(|name| name.as_str() == Some(&host)))
        };
        let failed = |row: &Value| row.get("failure").is_some_and(Value::is_object);
        let own = rows.iter().position(|row| failed(row) && names(row));
        own.or_else(|| rows.iter().position(failed))
    }

    // --- 6: a client ----------------------------------------------------------------------------------------

    fn outside(self, user: Option<User>, written: &Written) -> Step<Value> {
        let fail = failed("works");
        let host = self.wish.host.to_string();
        let source = source::read(&self.options.file).0;
        let trust = source.as_ref().and_then(trust_of).map(|path| source::read_bounded(&path, PEM_BYTES_MAX));
        let trust = trust.transpose().map_err(|error| {
            fail(self.problem(Code::LookFailed, format!("the roots of the CA cannot be read: {error}")))
        })?;
        let trust = trust.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let plan = self.plan();
        let ca = plan.as_ref().and_then(|plan| self.ca_here(plan));
        let root = ca.and_then(local::root_pem);
        let trust = match (trust, root) {
            (Some(trust), Some(root)) => Some(format!("{trust}\n{root}")),
            (trust, root) => trust.or(root),
        };
        let is_staging =
            source.as_ref().and_then(|source| source.acme.as_ref()).is_some_and(|acme| acme.ca.is_staging());
        let Some(listen) = written.https.iter().find(|listen| listen.port() != 0) else {
            return Err(fail(self.problem(Code::NoEdge, "the file names no port for https")));
        };
        let address = match listen.ip() {
            ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            ip => ip,
        };
        let question = Question::Edge {
            host: host.clone(),
            port: listen.port(),
            address: Some(address),
            namespace: self.options.namespace.clone(),
            trust,
            trials: is_staging,
        };
        let look = self.ask("works", &question, user)?;
        if let Some(problem) = look.problem {
            return Err(fail(problem.into()));
        }
        let port = written.public_port;
        let authority = if port == 443 { host.clone() } else { format!("{host}:{port}") };
        let mut works = format!(
            "wss://{authority} works: {}",
            look.spoken.map_or("Socket.IO", |spoken| spoken.socketio())
        );
        if let Some(namespace) = &self.options.namespace {
            works += &format!(", namespace {namespace}");
        }
        if let Some(time) = look.spoken.and_then(|spoken| spoken.joined_after) {
            works += &format!(", {} ms", time.as_millis());
        }
        self.told.step("works", &works);
        look.notes.iter().for_each(|note| self.told.note(note));
        if is_staging {
            self.told.note("the certificate is for trials, and clients refuse it: run setup again with --directory letsencrypt");
        }
        self.last_words(&authority, ca.is_some());
        let trust = ca.map(|ca| ca.folder.join(ROOT));
        Ok(json!({ "host": host, "url": format!("https://{authority}"), "works": works, "trust": trust }))
    }

    fn last_words(&self, authority: &str, by_ca_here: bool) {
        let url = format!("https://{authority}/socket.io/?EIO=4&transport=polling");
        let file = word(&self.options.file);
        let plan = match Plan::beside(&self.bundle_file()) {
            plan if plan == Path::new(PLAN) => String::new(),
            plan => format!(" --acme {}", word(&plan)),
        };
        self.told.say(&format!("\n{}", qr::text(&url)));
        self.told.say(&match by_ca_here {
            true => format!(
                "Clients connect once they trust the local CA. Its certificate, its fingerprint, and what to do on each system (more in \
                 docs/local.md):\n  sanedge local show{plan}\n\nThen open this on a phone of this network:\n  {}\n\n",
                report::escaped(&url)
            ),
            false => format!(
                "Open it on a phone off Wi-Fi, to see whether it can be reached from outside:\n  {}\n\n",
                report::escaped(&url)
            ),
        });
        self.told.say(&format!(
            "Next:\n  sanedge status                          # hosts, certificates, sessions\n  sanedge doctor https://{authority}   # when a client cannot connect\n  \
             sudo sanedge apply {file}   # after a change of the file\n"
        ));
    }
}

/// Whether the file names a private CA.
pub(super) fn has_own_ca(source: &Source) -> bool {
    source.acme.as_ref().is_some_and(|acme| acme.trust.is_some())
}

fn trust_of(source: &Source) -> Option<PathBuf> {
    std::path::absolute(&source.trust_file()?.path).ok()
}
