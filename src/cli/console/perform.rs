//! What the page can ask for: the status, the findings of an edit, and the edit itself, by the code of `sanedge site` and `apply`.

use std::cell::RefCell;
use std::io::{self, IsTerminal as _};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use serde_json::Value;

use super::certificates::{self, Offered};
use crate::admin::client::AskError;
use crate::bundle::compare::Difference;
use crate::bundle::compile::{HostRow, Outcome, moment};
use crate::bundle::file::word;
use crate::bundle::finding::{Code, Finding, Severity};
use crate::bundle::wire::sha256;
use crate::bundle::{Bundle, report, source};
use crate::cli::apply::{self, Report, Request, Talk, tell};
use crate::cli::difference;
use crate::cli::failure::Failure;
use crate::cli::running::{admin_of, asked, is_absent};
use crate::cli::site::edit::{self, Wanted};
use crate::cli::site::{self, named};
use crate::cli::sources::SOURCE;
use crate::cli::terminal::{complain, now};
use crate::console::link::{Checked, Choice, Edit, Hello, HostView, Leads, Problem, Said, View};
use crate::console::page;
use crate::excerpt::{Excerpt, number};
use crate::names::Host;
use crate::setup::units;

/// The path in the packaged units.
pub(super) const FILE: &str = "/etc/sanedge/sanedge.toml";
/// Lines of the file that are shown.
const LINES_MAX: usize = 2_000;
/// The code of a certificate that cannot be chosen.
const CERTIFICATE: &str = "certificate";
/// Lines of a change that are logged.
const LOGGED_MAX: usize = 20;

/// The files of one configuration.
pub(super) struct Desk<'a> {
    pub(super) file: &'a Path,
    certificates: Offered,
    /// Warnings about the file itself, which an edit does not cause.
    known: RefCell<Vec<String>>,
}

/// The text of the file, changed.
type Changed<'a> = Box<dyn Fn(Option<&str>) -> Result<String, Failure> + 'a>;

impl<'a> Desk<'a> {
    /// `folder`: a further one with certificates that can be chosen.
    pub(super) fn new(file: &'a Path, folder: Option<&Path>) -> Self {
        Self { file, certificates: Offered::new(folder), known: RefCell::default() }
    }

    // --- reading --------------------------------------------------------------------------------------------

    /// `csrf` is the server's, and `hello` what it has said about its sandbox.
    pub(super) fn page(&self, csrf: &str, hello: &Hello) -> Said {
        let text = match source::text(self.file) {
            Ok(text) => text,
            Err(finding) => {
                return Said::Done {
                    is_good: false,
                    text: format!("{}: {}", finding.message, finding.found),
                };
            }
        };
        let request = Request { file: self.file, edit: None, dry_run: true, restart: false };
        let (report, state) = apply::run(&request, &mut tell::Silent);
        let (edge, mut problems) = self.edge();
        let source = source::parse(self.file, &text).0;
        let findings = shown(&report.outcome, &[]);
        *self.known.borrow_mut() =
            report.outcome.findings.iter().map(|finding| finding.message.clone()).collect();
        // If nothing could be compiled, the findings say why.
        if let (Err(failure), true) = (&state, findings.is_empty()) {
            problems.insert(0, problem("", Severity::Error, failure.message.clone(), String::new()));
        }
        let view = View {
            digest: report::hex(&sha256(text.as_bytes())),
            lines: text.lines().take(LINES_MAX).map(|line| Excerpt::of(line).to_string()).collect(),
            is_cut: text.lines().count() > LINES_MAX,
            edge,
            problems: findings.into_iter().chain(problems).collect(),
            hosts: report.outcome.hosts.iter().map(host).collect(),
            certificates: source.as_ref().map(|source| self.certificates.shown(source)).unwrap_or_default(),
            has_acme: source.is_some_and(|source| source.acme.is_some()),
            unapplied: report.differences.iter().map(|one| one.line.clone()).collect(),
            restart: report.restart,
            websockets: report.websockets,
        };
        Said::Page(page::console(&word(self.file), csrf, hello, &view))
    }

    /// A sentence about the running edge, and its problems.
    fn edge(&self) -> (String, Vec<Problem>) {
        let bundle = match Bundle::open(&self.file.with_extension("bundle")) {
            Ok(bundle) => bundle,
            Err(error) => return (format!("There is no usable bundle yet: {error}."), Vec::new()),
        };
        match asked(&admin_of(&bundle)) {
            Ok(status) => (serving(&status), of_status(&status)),
            Err(AskError::Connect { error, .. }) if is_absent(&error) => {
                ("No edge is running. Its next start uses the bundle.".to_owned(), Vec::new())
            }
            Err(error) => (
                "The edge does not answer.".to_owned(),
                vec![problem("", Severity::Error, error.to_string(), String::new())],
            ),
        }
    }

    pub(super) fn check(&self, edit: &Edit) -> Said {
        let checked = match self.changed(edit) {
            Ok(changed) => {
                let request =
                    Request { file: self.file, edit: Some(&*changed), dry_run: true, restart: false };
                let (report, state) = apply::run(&request, &mut tell::Silent);
                let mut problems = shown(&report.outcome, &self.known.borrow());
                match &state {
                    Err(failure) if problems.is_empty() => problems.push(failed(edit, failure)),
                    _ => problems.extend(chosen(edit, &report)),
                }
                Checked {
                    is_good: state.is_ok(),
                    problems,
                    edit: report.edit,
                    changes: report.differences.iter().map(|one| one.line.clone()).collect(),
                    restart: report.restart,
                    websockets: report.websockets,
                }
            }
            Err(failure) => Checked { problems: vec![failed(edit, &failure)], ..Checked::default() },
        };
        Said::Checked(serde_json::to_string(&checked).unwrap_or_default())
    }

    // --- changing -------------------------------------------------------------------------------------------

    /// Makes the change, if the file is still the one that the page showed.
    pub(super) fn apply(
        &self,
        edit: Option<&Edit>,
        seen: &str,
        restart: bool,
        line: &mut dyn FnMut(String),
    ) -> Said {
        let changed: Result<Changed<'_>, Failure> = match edit {
            Some(edit) => self.changed(edit),
            None => Ok(Box::new(|text: Option<&str>| Ok(text.unwrap_or_default().to_owned()))),
        };
        let what = edit.map_or_else(|| "the file as it is".to_owned(), described);
        let changed = match changed {
            Ok(changed) => changed,
            Err(failure) => return refused(&what, &failure),
        };
        let of_seen = |text: Option<&str>| match text {
            Some(found) if report::hex(&sha256(found.as_bytes())) == seen => changed(text),
            _ => {
                let message = format!(
                    "{} has changed since this page was loaded: nothing was changed. Load the page again, and look at the file",
                    word(self.file)
                );
                Err(Failure::new("file-changed", message))
            }
        };
        let request = Request { file: self.file, edit: Some(&of_seen), dry_run: false, restart };
        let (report, state) = apply::run(&request, &mut Steps(line));
        match state {
            Ok(state) => {
                let renewal = self.renewal(edit, &report);
                let text = tell::sentence(&request, &report, state, renewal.as_deref());
                log(&format!("applied {what}: {text}"));
                changed_lines(&report).for_each(|line| complain_line(line));
                if let Some(said) = renewal.filter(|said| !text.ends_with(said.as_str())) {
                    log(&said);
                    line(said);
                }
                Said::Done { is_good: true, text }
            }
            Err(failure) => refused(&what, &failure),
        }
    }

    /// Has the units obtain the certificate that the change needs, if they are those of the file; says so.
    fn renewal(&self, edit: Option<&Edit>, report: &Report) -> Option<String> {
        if self.file != Path::new(FILE)
            || !rustix::process::geteuid().is_root()
            || units::present("sanedge console").is_err()
        {
            return None;
        }
        let is_due = match edit {
            Some(
                Edit::AddHost { certificate: Some(Choice::Acme { .. }), .. }
                | Edit::SetCertificate { certificate: Choice::Acme { .. }, .. },
            ) => true,
            None | Some(Edit::AddHost { .. }) => {
                report.outcome.hosts.iter().any(|host| host.pending) && units::renews()
            }
            Some(_) => false,
        };
        is_due.then(|| match units::renew_now() {
            Ok(true) => {
                "sanedge-renew.service obtains the certificate now: load this page again in a minute. If it fails, the status says why"
                    .to_owned()
            }
            Ok(false) => {
                "A renewal is in progress. The next one obtains the certificate, within 70 minutes. To obtain it earlier, type \
                 `sudo sanedge renew /etc/sanedge/sanedge.acme`"
                    .to_owned()
            }
            Err(problem) => format!(
                "{}: type `sudo systemctl enable --now sanedge-renew.timer sanedge-deploy.path`",
                problem.message
            ),
        })
    }

    /// How the edit changes the text.
    fn changed(&self, edit: &Edit) -> Result<Changed<'a>, Failure> {
        let file = self.file;
        let usage = |message: String| Failure::new("usage", message);
        match edit {
            Edit::AddHost { host, leads, path, certificate } => {
                let (app, redirect) = match leads {
                    Leads::App(app) => (app.upstream().map_err(usage)?, None),
                    Leads::Redirect(url) => (String::new(), Some(url.clone())),
                };
                let wanted = Wanted { host: named(host)?, app, path: path.clone(), redirect };
                let certificate =
                    certificate.map(|choice| self.certificate(&wanted.host, choice)).transpose()?;
                Ok(Box::new(move |text| {
                    let added = site::edited(file, text, &|text, source| edit::add(text, source, &wanted))?;
                    certificate.as_ref().map_or(Ok(added.clone()), |change| change(Some(&added)))
                }))
            }
            Edit::SetCertificate { host, certificate } => {
                let host = named(host)?;
                let change = self.certificate(&host, *certificate)?;
                Ok(Box::new(move |text| {
                    // The host must be there.
                    site::edited(file, text, &|text, source| edit::known(text, source, &host))?;
                    change(text)
                }))
            }
            Edit::RemoveHost { host } => {
                let host = named(host)?;
                Ok(Box::new(move |text| {
                    site::edited(file, text, &|text, source| edit::remove(text, source, &host))
                }))
            }
            Edit::SetUpstream { host, path, app } => {
                let (host, path, app) = (named(host)?, path.clone(), app.upstream().map_err(usage)?);
                Ok(Box::new(move |text| {
                    site::edited(file, text, &|text, source| {
                        edit::set_upstream(text, source, &host, &path, &app)
                    })
                }))
            }
        }
    }
}

impl<'a> Desk<'a> {
    /// How the choice of a certificate changes the text.
    fn certificate(&self, host: &Host, choice: Choice) -> Result<Changed<'a>, Failure> {
        let (file, host) = (self.file, host.clone());
        match choice {
            Choice::Files(place) => {
                let pair = self.certificates.get(place);
                let pair =
                    pair.ok_or_else(|| Failure::new(CERTIFICATE, "this certificate is not in the list"))?;
                if !pair.names.iter().any(|name| name.covers(&host)) {
                    let message = format!(
                        "{} does not cover `{host}`, but {}",
                        word(&pair.chain),
                        certificates::listed(&pair.names)
                    );
                    return Err(Failure::new(CERTIFICATE, message));
                }
                Ok(Box::new(move |text| {
                    site::edited(file, text, &|text, source| match pair.is_in(source) {
                        true => Ok(text.to_owned()),
                        false => edit::add_files(text, source, &pair.chain, &pair.key),
                    })
                }))
            }
            Choice::Acme { agreed } => Ok(Box::new(move |text| {
                let source = text.and_then(|text| source::parse(file, text).0);
                if !agreed && source.as_ref().is_some_and(|source| source.acme.is_none()) {
                    let message = "the file has no [acme]: tick the box if you agree to the terms of service of Let's Encrypt, or set up \
                                   another CA with `sudo sanedge setup`";
                    return Err(Failure::new(CERTIFICATE, message));
                }
                // A host that has a certificate keeps it until the CA's is there.
                let has_files = source.is_some_and(|source| certificates::has_files_for(&source, &host));
                site::edited(file, text, &|text, source| edit::add_acme(text, source, &host, has_files))
            })),
        }
    }
}

/// Writes a line of the console's log.
pub(super) fn log(text: &str) {
    let text = report::escaped(text);
    complain(&format!("{} console: {text}\n", moment(now())));
    keep(&text);
}

/// A terminal keeps nothing: what is logged there is also sent to the system's log.
fn keep(text: &str) {
    if !io::stderr().is_terminal() {
        return;
    }
    // As syslog(3) does, with facility daemon and severity notice (RFC 5424 §6.2.1). A system without a log has no such socket.
    let line = format!("<29>sanedge[{}]: console: {text}", std::process::id());
    let _ = UnixDatagram::unbound().and_then(|socket| {
        socket.set_nonblocking(true)?;
        socket.send_to(line.as_bytes(), "/dev/log")
    });
}

fn refused(what: &str, failure: &Failure) -> Said {
    log(&format!("not applied, {what}: {}", failure.message));
    Said::Done { is_good: false, text: failure.message.clone() }
}

fn changed_lines(report: &Report) -> impl Iterator<Item = &String> {
    report.differences.iter().map(|one| &one.line).take(LOGGED_MAX)
}

fn complain_line(line: &str) {
    let line = report::escaped(line);
    complain(&format!("  {line}\n"));
    keep(&format!("  {line}"));
}

/// For the log. What was typed is shown as an excerpt.
fn described(edit: &Edit) -> String {
    let host =
        |host: &str| named(host).map_or_else(|_| Excerpt::of(host).to_string(), |host| host.to_string());
    match edit {
        Edit::AddHost { host: of, .. } => format!("add host {}", host(of)),
        Edit::RemoveHost { host: of } => format!("remove host {}", host(of)),
        Edit::SetUpstream { host: of, .. } => format!("change the app of {}", host(of)),
        Edit::SetCertificate { host: of, .. } => format!("choose the certificate of {}", host(of)),
    }
}

fn serving(status: &Value) -> String {
    let count = |at: &str| {
        usize::try_from(status.pointer(at).and_then(Value::as_u64).unwrap_or_default()).unwrap_or(usize::MAX)
    };
    let hosts = status.get("hosts").and_then(Value::as_array).map_or(0, Vec::len);
    let draining = status.get("draining").and_then(Value::as_bool).unwrap_or_default();
    if draining {
        return "The edge is shutting down.".to_owned();
    }
    format!(
        "The edge serves {}; {} open.",
        number(hosts, "host"),
        number(count("/counters/websockets_open"), "WebSocket")
    )
}

/// The problems of the edge, but for that of file times: the differences say more.
fn of_status(status: &Value) -> Vec<Problem> {
    let all = status.get("problems").and_then(Value::as_array).into_iter().flatten();
    let shown = all.filter(|one| one.get("code").is_none_or(|code| code != SOURCE));
    let of = |one: &Value, name| one.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    shown
        .map(|one| Problem {
            field: String::new(),
            severity: of(one, "severity"),
            message: of(one, "message"),
            remedy: format!("On the board, type: {}", of(one, "command")),
        })
        .collect()
}

fn host(row: &HostRow) -> HostView {
    let certificate = match (&row.certificate, row.pending) {
        (Some(file), _) => format!(
            "{file}, {}",
            row.left.as_deref().map_or("?".to_owned(), |left| format!("days left: {left}"))
        ),
        (None, true) => "waits for its certificate".to_owned(),
        (None, false) => "none".to_owned(),
    };
    HostView {
        host: row.host.clone(),
        routes: row.routes.iter().map(|(path, apps)| (path.clone(), apps.join(", "))).collect(),
        redirect: row.redirect.clone(),
        certificate,
    }
}

/// Errors, and warnings that are not `known`.
fn shown(outcome: &Outcome, known: &[String]) -> Vec<Problem> {
    let worth = outcome.findings.iter().filter(|finding| match finding.severity() {
        Severity::Error => true,
        Severity::Warning => !known.contains(&finding.message),
        Severity::Note => false,
    });
    worth
        .map(|finding| {
            let line = finding
                .place
                .line
                .filter(|line| *line > 0)
                .map_or_else(String::new, |line| format!(" (line {line})"));
            let found = [&finding.found, &finding.remedy].map(|text| text.trim_end().to_owned());
            problem(
                field(finding),
                finding.severity(),
                format!("{}{line}", finding.message),
                found.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(". "),
            )
        })
        .collect()
}

/// The field of a form that a finding is about.
fn field(finding: &Finding) -> &'static str {
    match finding.code {
        Code::BadHost
        | Code::DuplicateHost
        | Code::HostNotCovered
        | Code::AcmePrivateName
        | Code::IpHostNeedsDefault => "host",
        Code::PublicUpstream | Code::UpstreamIsOurselves | Code::MdnsUpstream | Code::NoUpstream => "app",
        Code::DuplicatePath => "path",
        Code::RedirectWithApp | Code::RedirectLoop => "redirect",
        _ => "",
    }
}

fn problem(field: &str, severity: Severity, message: String, remedy: String) -> Problem {
    Problem { field: field.to_owned(), severity: severity.as_str().to_owned(), message, remedy }
}

/// What is worth knowing about the choice of a certificate.
fn chosen(edit: &Edit, report: &Report) -> Option<Problem> {
    let (host, choice) = match edit {
        Edit::AddHost { host, certificate, .. } => (host, (*certificate)?),
        Edit::SetCertificate { host, certificate } => (host, *certificate),
        _ => return None,
    };
    let host = named(host).ok()?.to_string();
    let row = report.outcome.hosts.iter().find(|row| row.host == host)?;
    let message = match (choice, &row.certificate) {
        (Choice::Acme { .. }, Some(file)) if !file.starts_with("acme: ") => format!(
            "{file} stays in use for `{host}` until `sanedge renew` has obtained a certificate. Then remove its [[certificate]] from the \
             file, unless another host needs it"
        ),
        (Choice::Acme { .. }, None) => {
            format!(
                "`{host}` cannot be reached over https until `sanedge renew` has obtained its certificate"
            )
        }
        _ => return None,
    };
    Some(problem("certificate", Severity::Warning, message, String::new()))
}

/// Why an edit cannot be made, at the field that it is about.
fn failed(edit: &Edit, failure: &Failure) -> Problem {
    let field = match (failure.code.as_str(), edit) {
        ("host-exists" | "host-shared" | "host-missing" | "usage", _) => "host",
        (CERTIFICATE, _) => "certificate",
        _ => "",
    };
    problem(field, Severity::Error, failure.message.clone(), String::new())
}

/// Sends each step to the page.
struct Steps<'a>(&'a mut dyn FnMut(String));

impl Talk for Steps<'_> {
    fn edited(&mut self, file: &Path, old: &str, new: &str) {
        (self.0)(format!("changing {}", word(file)));
        difference::between(old, new).into_iter().for_each(&mut *self.0);
    }

    fn proven(&mut self, outcome: &Outcome) {
        let count = report::count(&outcome.findings);
        (self.0)(if count.is_empty() {
            "checked: no problem".to_owned()
        } else {
            format!("checked: {count}")
        });
        report::findings(&outcome.findings, false).lines().map(str::to_owned).for_each(&mut *self.0);
    }

    fn differs(&mut self, differences: &[Difference]) {
        differences.iter().for_each(|one| (self.0)(one.line.clone()));
        (self.0)("writing the bundle and putting it to use".to_owned());
    }

    fn note(&mut self, text: &str) {
        (self.0)(text.to_owned());
    }

    /// The page asks beforehand, with a box to tick.
    fn ask(&mut self, question: &str) -> Option<bool> {
        (self.0)(question.to_owned());
        Some(false)
    }
}
