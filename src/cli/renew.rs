//! `sanedge renew`: the part that talks to the CA, then the deployment: check, write, reload, and verify that the edge serves the new
//! certificates.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};

use super::apply::commit::{Checks, Commit};
use super::apply::{NEEDS_RESTART, NOT_NOW, NOT_SERVED, State, exit_code};
use super::failure::Failure;
use super::output::{DONE_IN_PART, in_place};
use super::running::{admin_of, asked};
use super::terminal::{complain, now, print};
use crate::acme::confirm::{self, NotServed};
use crate::acme::{self, Options, Stop};
use crate::bundle::acme::{Plan, stored};
use crate::bundle::commands::{apply_command, reload_command};
use crate::bundle::compile;
use crate::bundle::file::word;
use crate::bundle::{Bundle, report};
use crate::doctor::explain::Code;
use crate::local;
use crate::names::Host;
use crate::ops::log;
use crate::setup::account::{self, User};
use crate::setup::again::{self, Output};

/// The result of a deployment.
#[derive(Debug)]
struct Deployed {
    /// One sentence.
    message: String,
    /// Some certificates have errors, and the others are in use.
    in_part: bool,
    /// Why the local CA does not issue for all its hosts.
    trouble: Option<Failure>,
}

pub(super) fn renew(options: &Options, only_deploy: bool, json: bool) -> ExitCode {
    let plan = match acme::read_plan(&options.file) {
        Ok(plan) => plan,
        Err(stop) => return told(&stop, json),
    };
    if only_deploy {
        return finish(None, deploy(&plan, Issue::WhatIsDue, json), json);
    }
    if let Some(user) = acme_user(&plan).filter(|_| options.keeps_state(&plan)) {
        return as_user(options, &plan, user, json);
    }
    let tell = |name: &str, what: &str| {
        if !json {
            let name = if name.is_empty() { String::new() } else { format!("{name}: ") };
            print(&format!("{}\n", report::escaped(&format!("{name}{what}"))));
        }
    };
    let before_pause = |stored: bool| match put_to_use(options, &plan, stored, json) {
        Ok(Some(done)) => tell("", &done.message),
        Ok(None) => {}
        Err(failure) => drop((!json).then(|| failure.tell(false))),
    };
    let run = match acme::run(options, &plan, &tell, &before_pause) {
        Ok(run) => run,
        Err(stop) => return told(&stop, json),
    };
    if !json {
        print(&run.text());
    }
    finish(Some(&run), put_to_use(options, &plan, true, json), json)
}

/// Deploys, or requests a deployment by another user if the edge does not serve the stored certificates.
fn put_to_use(options: &Options, plan: &Plan, stored: bool, json: bool) -> Result<Option<Deployed>, Failure> {
    match () {
        () if options.dry_run || !holds_some(plan) => Ok(None),
        () if is_ours(plan) => {
            if stored {
                deploy(plan, issue(options, plan), json)
            } else {
                Ok(None)
            }
        }
        () => {
            confirm::ask_for_deployment(plan);
            Ok(None)
        }
    }
}

/// Shortest and longest pause of `--every`: often enough for renewals, and not too often for a CA.
const EVERY: std::ops::RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(86_400);

/// Parses the value of `--every`.
pub(super) fn parse_every(text: &str) -> Result<Duration, String> {
    let wrong = || "expected 1m to 24h, such as `1h`".to_owned();
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err(wrong()),
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).ok_or_else(wrong)?;
    Some(Duration::from_secs(seconds)).filter(|pause| EVERY.contains(pause)).ok_or_else(wrong)
}

/// Runs now and after each `pause`, until SIGTERM or Ctrl-C. A failure of one run does not end the others.
pub(super) fn repeated(options: &Options, pause: Duration) -> ExitCode {
    // Signals do not end the first process of a container by default.
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let ended = runtime.and_then(|runtime| runtime.block_on(terminated()));
        // If the handlers cannot be installed, the system's default action applies.
        if ended.is_ok() {
            again::end_running();
            std::process::exit(0);
        }
    });
    loop {
        let _ = renew(options, false, false);
        std::thread::sleep(pause);
    }
}

async fn terminated() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}

pub(super) fn told(stop: &Stop, json: bool) -> ExitCode {
    let _ = Failure::new(stop.code, stop.message.clone()).tell(json);
    ExitCode::from(match (stop.not_now, stop.code) {
        (true, _) => NOT_NOW,
        (_, "acme-host") => 2,
        _ => 1,
    })
}

/// Prints the JSON document; returns the worse of both exit codes.
fn finish(
    run: Option<&acme::progress::Run>,
    deployed: Result<Option<Deployed>, Failure>,
    json: bool,
) -> ExitCode {
    let code = run.map_or(0, acme::progress::Run::exit_code);
    let mut document = run.map_or_else(|| json!({}), acme::progress::Run::json);
    if let Some(members) = document.as_object_mut() {
        members.insert("ok".to_owned(), true.into());
    }
    if let Some((code, message)) = run.and_then(acme::progress::Run::failure).filter(|_| code != 0) {
        Failure::new(&code, message).mark(&mut document);
    }
    ended(code, document, deployed, json)
}

/// The same if the part that talks to the CA has ended with `code` and this `document`.
fn ended(code: u8, mut document: Value, deployed: Result<Option<Deployed>, Failure>, json: bool) -> ExitCode {
    if json {
        let message = deployed.as_ref().ok().and_then(|deployed| deployed.as_ref()).map(|done| &done.message);
        if let Some(members) = document.as_object_mut() {
            members.insert("deployed".to_owned(), json!(message));
        }
        let failure = match &deployed {
            Err(failure) => Some(failure),
            // The failure of a certificate says more.
            Ok(deployed) => deployed.as_ref().and_then(|done| done.trouble.as_ref()).filter(|_| code == 0),
        };
        failure.into_iter().for_each(|failure| failure.mark(&mut document));
        print(&format!("{document:#}\n"));
    }
    match deployed {
        Err(failure) => {
            if !json {
                let _ = failure.tell(false);
            }
            // A deployment never restarts the edge: what needs that needs the user.
            ExitCode::from(if failure.code == NEEDS_RESTART { 1 } else { exit_code(&failure) })
        }
        Ok(deployed) => {
            let in_part = deployed.as_ref().is_some_and(|deployed| deployed.in_part);
            if let Some(deployed) = deployed.filter(|_| !json) {
                print(&format!("{}\n", report::escaped(&deployed.message)));
            }
            ExitCode::from(if code == 0 && in_part { DONE_IN_PART } else { code })
        }
    }
}

/// Makes another local CA, and puts what it issues to use.
pub(super) fn with_new_ca(plan: &Plan, json: bool) -> ExitCode {
    ended(0, json!({ "ok": true }), deploy(plan, Issue::ByNewCa, json), json)
}

/// Whether this user also writes the bundle. With the packaged units, root does.
fn is_ours(plan: &Plan) -> bool {
    let owner = |path: &Path| std::fs::metadata(path).map(|about| about.uid()).ok();
    let parent = plan.bundle.parent().unwrap_or(Path::new("/"));
    owner(&plan.bundle).or_else(|| owner(parent)) == Some(rustix::process::geteuid().as_raw())
        && std::fs::File::open(&plan.source).is_ok()
}

fn holds_some(plan: &Plan) -> bool {
    plan.certificates.iter().any(|wanted| stored_at(plan, wanted.name()).is_some_and(|path| path.exists()))
        || plan.local.as_ref().is_some_and(|local| !local.names.is_empty())
}

fn stored_at(plan: &Plan, name: &str) -> Option<std::path::PathBuf> {
    Some(stored::path(&plan.state, &crate::bundle::acme::file_name(name)?))
}

/// Runs the same command as the user that talks to the CA, if root runs it. `None` if this process does it.
pub(super) fn as_acme_user(plan: &Plan, arguments: &[OsString]) -> Option<ExitCode> {
    let mut command = again::command(Some(acme_user(plan)?));
    let ended = again::run(command.args(arguments), Output { out: Some(passed_on), err: complained });
    Some(ExitCode::from(ended.map_or(1, |ended| ended.code())))
}

/// A line of the process that talks to the CA, which this one does not trust.
fn passed_on(line: &str) {
    print(&format!("{}\n", report::escaped(line)));
}

fn complained(line: &str) {
    complain(&format!("{}\n", report::escaped(line)));
}

/// Deploys the stored certificates if this user writes the bundle.
pub(super) fn deployed_by_us(plan: &Plan, json: bool) -> Result<Option<String>, Failure> {
    if !is_ours(plan) {
        return Ok(None);
    }
    Ok(deploy(plan, Issue::WhatIsDue, json)?.map(|deployed| deployed.message))
}

/// The user that talks to the CA if root runs the command; `None` if root does everything, as in a container.
fn acme_user(plan: &Plan) -> Option<User> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let of_folder = std::fs::symlink_metadata(&plan.state).ok();
    let of_folder = of_folder.map(|about| User { uid: about.uid(), gid: about.gid() });
    of_folder.or_else(|| account::find(account::ACME)).filter(|user| user.uid != 0)
}

/// Runs this program again as the user that talks to the CA, then deploys: root does not talk to the CA if another user can.
fn as_user(options: &Options, plan: &Plan, user: User, json: bool) -> ExitCode {
    let mut command = again::command(Some(user));
    let output = Output { out: if json { None } else { Some(passed_on) }, err: complained };
    let ended = match again::run(command.args(arguments(options, json)), output) {
        Ok(ended) => ended,
        Err(error) => {
            let message = format!("cannot run the part that talks to the CA as uid {}: {error}", user.uid);
            return Failure::new("acme-user", message).tell(json);
        }
    };
    let code = ended.code();
    if ended.interrupted.is_some() {
        return ExitCode::from(code);
    }
    let deployed = if holds_some(plan) && !options.dry_run {
        deploy(plan, issue(options, plan), json)
    } else {
        Ok(None)
    };
    let document = serde_json::from_slice(&ended.document).unwrap_or_else(|_| json!({}));
    self::ended(code, document, deployed, json)
}

/// The command line of the same run, for another current folder.
fn arguments(options: &Options, json: bool) -> Vec<OsString> {
    let file = std::path::absolute(&options.file).unwrap_or_else(|_| options.file.clone());
    let hosts = options.hosts.iter().flat_map(|host| ["--host".into(), host.into()]);
    let flags = [(options.now, "--now"), (options.dry_run, "--dry-run"), (json, "--json")];
    let flags = flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag.into());
    ["renew".into(), file.into_os_string()].into_iter().chain(hosts).chain(flags).collect()
}

/// What the local CA is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Issue {
    WhatIsDue,
    /// Whether it is due or not.
    All,
    /// As another CA.
    ByNewCa,
}

fn issue(options: &Options, plan: &Plan) -> Issue {
    if options.asks_local(plan) { Issue::All } else { Issue::WhatIsDue }
}

/// Takes the stored certificates into use, and those of the local CA. None: they are in use already.
fn deploy(plan: &Plan, issue: Issue, json: bool) -> Result<Option<Deployed>, Failure> {
    // Without it the mark stays, and the unit tries again.
    let _lock = super::apply::locked(&plan.bundle, || {
        if !json {
            complain(super::apply::WAITING);
        }
    })
    .inspect_err(|failure| {
        // Another attempt fails in the same way, and the path unit would start it at once.
        if exit_code(failure) != NOT_NOW {
            stored::take_mark(&plan.state);
            stored::drop_mark(&plan.state);
        }
    })?;
    stored::take_mark(&plan.state);
    let deployed = brought(plan, issue, json);
    stored::drop_mark(&plan.state);
    deployed
}

fn brought(plan: &Plan, issue: Issue, json: bool) -> Result<Option<Deployed>, Failure> {
    let compiled = || compile::carry_over(&plan.source, in_place(&plan.bundle).as_ref(), now());
    let mut outcome = compiled();
    // An edit that was not finished with `sanedge bundle` is no reason to leave a certificate out; without one it is not taken.
    let is_edited = outcome.plan.as_ref().is_none_or(|made| made.source_sha256 != plan.source_sha256);
    if is_edited {
        let note = format!(
            "{} has changed since `sanedge bundle`: type `{}`",
            word(&plan.source),
            apply_command(&plan.source)
        );
        if issue == Issue::ByNewCa {
            return Err(Failure::new("edited", format!("{note} first; nothing was changed")));
        }
        if !stored::is_marked(&plan.state) {
            return Ok(Some(Deployed {
                message: format!("{note}; the bundle in use stays as it is"),
                in_part: false,
                trouble: None,
            }));
        }
        complain(&format!("warning {}\n", report::escaped(&note)));
    }
    // A CA is made once, for the hosts that the file then has: not for those of an edit that is not finished.
    let may_issue = |made: &&Plan| !is_edited || made.local.as_ref().is_none_or(local::is_made);
    let local = issued(outcome.plan.as_ref().filter(may_issue), issue)?;
    if local.is_new {
        outcome = compiled();
    }
    local.trouble.iter().for_each(|said| complain(&format!("warning {}\n", report::escaped(&said.message))));
    outcome.in_part |= is_edited || !local.trouble.is_empty();
    let trouble = local.trouble.into_iter().next();
    let findings = report::findings(&outcome.findings, log::is_coloured(&io::stderr()));
    let tell = || {
        if !json {
            complain(&findings)
        }
    };
    let Some(bytes) = outcome.bundle.take() else {
        tell();
        let count = report::count(&outcome.findings);
        return Err(Failure::new("findings", format!("{count}: the bundle in use stays as it is")));
    };
    let commit = Commit::of_bundle(&plan.bundle, bytes)?;
    let unchecked = RefCell::new(None);
    let served = || match is_served(plan, commit.bundle()) {
        Ok(()) => Ok(()),
        Err(NotServed::Differs(found)) => Err(Failure::new(NOT_SERVED, found)),
        // The edge has confirmed the bundle, so it stays in use.
        Err(NotServed::Unreachable(found) | NotServed::Refused(found)) => {
            *unchecked.borrow_mut() = Some(Failure::new(NOT_SERVED, found));
            Ok(())
        }
    };
    if commit.is_written() && served().is_ok() && unchecked.borrow().is_none() {
        let stays = "the bundle in use stays as it is".to_owned();
        return Ok(outcome.in_part.then(|| {
            tell();
            Deployed { message: stays, in_part: true, trouble }
        }));
    }
    tell();
    let renewed = commit.renewed();
    let renewed: Vec<_> = managed(plan, commit.bundle())
        .map(|(name, _)| name)
        .filter(|name| Host::parse(name).is_ok_and(|host| renewed.contains(&host)))
        .collect();
    let step = |what: &str| {
        let lines = renewed.iter().map(|name| format!("{}\n", report::escaped(&format!("{name}: {what}"))));
        if !json {
            print(&lines.collect::<String>());
        }
    };
    step("proven");
    let checks = Checks { sources: &|| Ok(()), served: &served };
    let state = commit.run(false, &checks, &mut |text| {
        if !json {
            complain(&format!("note {}\n", report::escaped(text)));
        }
    })?;
    let mut unchecked = unchecked.into_inner();
    // An edge in a container may know the file by another path.
    if state == State::Stored && asked(&admin_of(commit.bundle())).is_ok() {
        let message = format!(
            "the edge at the admin socket has another bundle file than {}, so it was not reloaded: type `{}`",
            word(&plan.bundle),
            reload_command(commit.bundle().listen.admin.as_ref())
        );
        unchecked = Some(Failure::new(NOT_SERVED, message));
    }
    if state != State::Stored && unchecked.is_none() {
        step("serving");
    }
    if let Some(failure) = &unchecked {
        complain(&format!("warning {}\n", report::escaped(&failure.message)));
    }
    let message = match (state, served_hosts(plan, commit.bundle())) {
        (State::Stored, _) => format!("no edge is running; the next start uses {}", word(&plan.bundle)),
        (_, hosts) if hosts.is_empty() => "the new bundle is in use".to_owned(),
        (_, hosts) => format!("serving: {}", hosts.join(", ")),
    };
    let in_part = outcome.in_part || unchecked.is_some();
    Ok(Some(Deployed { message, in_part, trouble: trouble.or(unchecked) }))
}

/// What the local CA came to.
#[derive(Debug, Default)]
struct Issued {
    is_new: bool,
    /// What it does not issue, and why.
    trouble: Vec<Failure>,
}

/// The names are those of the sanedge.toml that root has just read: whatever the user of the CA's part has written says nothing here.
fn issued(made: Option<&Plan>, issue: Issue) -> Result<Issued, Failure> {
    let Some(wanted) = made.and_then(|made| made.local.as_ref()) else { return Ok(Issued::default()) };
    let replaced = if issue == Issue::ByNewCa { local::replace(wanted, now()) } else { Ok(()) };
    match replaced.and_then(|()| local::bring(wanted, issue == Issue::All, now())) {
        Ok(brought) => {
            let code = Code::LocalNotPermitted.as_str();
            let outside = brought.outside.iter().map(local::outside);
            let trouble = outside.map(|said| Failure::new(code, said)).collect();
            Ok(Issued { is_new: brought.is_new, trouble })
        }
        Err(error) if issue == Issue::ByNewCa => Err(Failure::new("local-ca", error.to_string())),
        // Those of other CAs are put to use all the same.
        Err(error) => {
            let trouble = Failure::new(error.code().as_str(), error.to_string());
            Ok(Issued { is_new: false, trouble: vec![trouble] })
        }
    }
}

/// The managed hosts that have a certificate in `bundle`.
fn served_hosts(plan: &Plan, bundle: &Bundle) -> Vec<String> {
    managed(plan, bundle).map(|(name, _)| name.clone()).collect()
}

/// The managed names, each with its end-entity certificate in `bundle`.
fn managed<'a>(
    plan: &'a Plan,
    bundle: &'a Bundle,
) -> impl Iterator<Item = (&'a String, &'a CertificateDer<'static>)> {
    let of_ca = plan.certificates.iter().flat_map(|wanted| &wanted.names);
    of_ca.chain(plan.local.iter().flat_map(|local| &local.names)).filter_map(|name| {
        let entry = bundle.host(&Host::parse(name).ok()?)?;
        Some((name, bundle.certificates.get(usize::from(entry.certificate))?.key.cert.first()?))
    })
}

/// Checks with a handshake for each managed host that the running edge serves its certificate.
fn is_served(plan: &Plan, bundle: &Bundle) -> Result<(), NotServed> {
    let Some(listener) = plan.https.iter().find(|listener| listener.port() != 0) else { return Ok(()) };
    for (name, end_entity) in managed(plan, bundle) {
        confirm::serves(*listener, name, end_entity, plan.http_expects_proxy)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_user_gets_the_same_command_with_the_whole_path() {
        let options = Options {
            file: "x.acme".into(),
            hosts: vec!["a.b".to_owned(), "x.acme".to_owned()],
            now: true,
            dry_run: false,
        };
        let whole = std::env::current_dir().unwrap().join("x.acme");
        let wanted =
            ["renew", whole.to_str().unwrap(), "--host", "a.b", "--host", "x.acme", "--now", "--json"];
        assert_eq!(arguments(&options, true), wanted);
        let trial = Options { file: "/x.acme".into(), hosts: Vec::new(), now: false, dry_run: true };
        assert_eq!(arguments(&trial, false), ["renew", "/x.acme", "--dry-run"]);
    }
}
