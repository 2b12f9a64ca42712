//! The command line: arguments to a command, its result to text and exit code.
//!
//! Exit codes are a contract: 0 fine, 1 problems, 2 wrong usage (clap's own).

mod account;
pub(crate) mod apply;
mod console;
mod difference;
mod failure;
mod import;
mod local;
mod output;
mod renew;
mod running;
mod setup;
mod site;
mod sources;
mod terminal;
mod verbs;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use serde_json::{Value, json};

use crate::acme;
use crate::admin;
use crate::admin::client::{self, AskError};
use crate::admin::endpoints::STATUS;
use crate::bundle::compile::{self, Outcome};
use crate::bundle::finding::Code;
use crate::bundle::{Admin, Bundle, file, freshness, report};
use crate::control::{self, preflight};
use crate::doctor;
use crate::excerpt::{self, Excerpt};
use crate::ops::access;
use crate::ops::log;
use crate::setup::again;
use failure::Failure;
use output::{DONE_IN_PART, in_place, keep_plan, write};
use running::{admin_of, at, reload, status};
use terminal::{complain, exit, now, print};

/// A TLS proxy for single-board computers at home, in front of a Socket.IO server.
#[derive(Parser, Debug)]
#[command(name = "sanedge", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// Where the packaged units have sanedge.toml.
const FILE: &str = "/etc/sanedge/sanedge.toml";
/// Where the packaged units have the file that `sanedge renew` reads.
const PLAN: &str = "/etc/sanedge/sanedge.acme";

#[derive(Subcommand, Debug)]
enum Command {
    /// Set up a host in front of an app, step by step, until wss:// works. Needs no configuration, and can be repeated.
    Setup(Box<setup::Options>),
    /// Check that certificates, hosts and upstreams fit together, and write a bundle.
    Bundle {
        /// The sanedge.toml to compile.
        source: PathBuf,
        /// Where to write the bundle [default: beside the source, with its name and `.bundle`].
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// If the files of a certificate have errors, keep the certificate that the existing bundle has from them, if
        /// it is still valid, write the bundle, and exit with 3. No host loses a valid certificate.
        #[arg(long)]
        carry_over: bool,
        /// Also print how the memory that the limits may take is calculated.
        #[arg(short, long)]
        verbose: bool,
        /// Print findings and hosts as one JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Put an edited sanedge.toml to use: check it, print what changes, write the bundle, reload the edge, and confirm that the edge
    /// serves the new bundle. If a step fails, nothing changes.
    Apply {
        /// The sanedge.toml.
        #[arg(default_value = FILE)]
        file: PathBuf,
        /// Print what would change, and change nothing.
        #[arg(long)]
        dry_run: bool,
        /// Restart the edge if the change needs a new process, even if that closes WebSockets. Without it, the command asks on a
        /// terminal, and exits with 75 elsewhere.
        #[arg(long)]
        restart: bool,
        /// Only settle a change that was interrupted by a kill or a power cut: complete it if the edge serves it, and undo it otherwise.
        /// Without one, do nothing.
        #[arg(long, conflicts_with_all = ["dry_run", "restart"])]
        settle: bool,
        /// Only check that a new process could start with the current bundle, in the sandbox of its unit. Restart nothing.
        #[arg(long, conflicts_with_all = ["dry_run", "restart", "settle"])]
        preflight: bool,
        /// Print one JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Obtain and renew the certificates of a sanedge.toml with `[acme]` or `[local]`, and put them to use. Exits with 1 if all
    /// failed, 3 if some failed, and 75 if it must wait.
    Renew {
        /// The sanedge.acme that `sanedge bundle` wrote beside the bundle.
        #[arg(default_value = PLAN)]
        file: PathBuf,
        /// Only the certificate with this name. May be repeated.
        #[arg(long, value_name = "HOST")]
        host: Vec<String>,
        /// Also order certificates that are not due, ignore the pause after a failure, and try once. A Retry-After of the
        /// CA is still obeyed.
        #[arg(long)]
        now: bool,
        /// Contact no CA: put stored certificates to use. Check them, write the bundle, reload the edge, and check with a TLS handshake that it serves them.
        #[arg(long, conflicts_with_all = ["host", "now", "dry_run"])]
        deploy: bool,
        /// Have the CA validate the names, at its staging directory if it has one, without obtaining a certificate.
        #[arg(long)]
        dry_run: bool,
        /// Keep running: renew now, and again after each TIME (`1h`, `30m`). For a container, which has no timer.
        #[arg(long, value_name = "TIME", value_parser = renew::parse_every, conflicts_with_all = ["now", "deploy", "dry_run", "json"])]
        every: Option<std::time::Duration>,
        /// Print one JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Show or change the account at the CA that `sanedge renew` uses.
    Account {
        #[command(subcommand)]
        action: account::Action,
        /// The sanedge.acme that `sanedge bundle` wrote beside the bundle.
        #[arg(long, value_name = "FILE", default_value = PLAN, global = true)]
        acme: PathBuf,
        /// Print one JSON document.
        #[arg(long, global = true)]
        json: bool,
    },
    /// Show or replace the local CA of a sanedge.toml with `[local]`.
    Local {
        #[command(subcommand)]
        action: local::Action,
        /// The file that `sanedge bundle` wrote beside the bundle.
        #[arg(long, value_name = "FILE", default_value = PLAN, global = true)]
        acme: PathBuf,
        /// Print one JSON document.
        #[arg(long, global = true)]
        json: bool,
    },
    /// Revoke the certificate of a host, for example because its key may be known to others. No later bundle contains it; `sanedge renew`
    /// obtains another certificate with another key.
    Revoke {
        /// A name of the certificate.
        host: String,
        /// The sanedge.acme that `sanedge bundle` wrote beside the bundle.
        #[arg(long, value_name = "FILE", default_value = PLAN)]
        acme: PathBuf,
        /// Print one JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Show what a bundle contains, without keys.
    Show {
        /// The file that `sanedge bundle` wrote.
        bundle: PathBuf,
        /// Only check, and exit with 1 if something needs attention: a certificate in use whose renewal is overdue, a
        /// bundle that differs from what its sanedge.toml (same name, same folder) compiles to now, a host that waits for its first
        /// certificate, or a running edge that uses an older bundle.
        #[arg(long)]
        check: bool,
        /// With --check: the sanedge.toml that the bundle was made from, if it is not beside it.
        #[arg(long, value_name = "FILE", requires = "check")]
        source: Option<PathBuf>,
        /// Print one JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Make the running edge open its bundle again, and report whether it is in use.
    Reload {
        /// Admin socket of the edge: `unix:PATH`, or a path that contains a slash. A relative path starts at the current folder.
        #[arg(long, value_name = "ADDRESS", default_value = admin::DEFAULT_PATH, value_parser = admin::parse_unix)]
        admin: Admin,
        /// Take the admin socket from this bundle, which the edge serves. If the admin socket is on TCP, which is read-only,
        /// signal the process in MAINPID, which systemd sets.
        #[arg(long, value_name = "FILE", conflicts_with = "admin")]
        bundle: Option<PathBuf>,
        /// Print one JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Show hosts, certificates, sessions and upstreams of the running edge.
    Status {
        /// Admin socket of the edge: `unix:PATH`, a path that contains a slash, or a loopback address with port. A relative
        /// path starts at the current folder.
        #[arg(long, value_name = "ADDRESS", default_value = admin::DEFAULT_PATH, value_parser = admin::parse)]
        admin: Admin,
        /// Take the admin socket from this bundle, which the edge serves.
        #[arg(long, value_name = "FILE", conflicts_with = "admin")]
        bundle: Option<PathBuf>,
        /// Only check, in one line, for a container's health check: exit with 0 if every worker answers within a second and at least
        /// one host has a certificate that has not expired. Upstreams do not count, nor do certificates that end soon.
        #[arg(long, conflicts_with = "watch")]
        check: bool,
        /// Repeat every two seconds until Ctrl-C; on a terminal, update in place.
        #[arg(long)]
        watch: bool,
        /// Print one JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Add a host to sanedge.toml or remove one, and put the change to use; or list the hosts. Comments and order of the file stay.
    Site {
        #[command(subcommand)]
        action: site::Action,
        /// The sanedge.toml.
        #[arg(long, value_name = "FILE", default_value = FILE, global = true)]
        file: PathBuf,
        /// Print one JSON document.
        #[arg(long, global = true)]
        json: bool,
    },
    /// Show status and file as a page in a browser, with forms to add, change and remove hosts; put changes to use as `sanedge apply` does.
    /// Prints the link; the page is on this machine only.
    Console(console::Options),
    /// Create a sanedge.toml from the configuration of another program.
    Import {
        #[command(subcommand)]
        from: import::From,
    },
    /// Find out why clients cannot connect to a Socket.IO server behind any TLS proxy, and what to do.
    Doctor(Box<doctor::Options>),
    /// Serve a bundle. SIGHUP reloads it, SIGTERM drains and exits, SIGUSR1 drains within 2 s for a restart.
    Serve {
        /// The file that `sanedge bundle` wrote.
        bundle: PathBuf,
        /// Format of the log on stderr [default: readable on a terminal, else key-value].
        #[arg(long, value_name = "FORM", value_enum)]
        log: Option<log::Form>,
        /// Format of the access log, for sites with `access_log = true`.
        #[arg(long, value_name = "FORM", value_enum, default_value_t)]
        access_log: access::Form,
        /// Destination of the access log: `stderr`, or `unix:PATH` of a datagram socket.
        #[arg(long, value_name = "PLACE", default_value = "stderr", value_parser = access::parse_place)]
        access_log_to: access::Place,
    },
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some(error) = again::between(&words) {
        complain(&format!("error cannot run as that user: {error}\n"));
        return ExitCode::FAILURE;
    }
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return misused(&error, &words),
    };
    match arguments.command {
        Command::Setup(options) => setup::setup(&options, &words),
        Command::Bundle { source, output, carry_over, verbose, json } => bundle(
            &source,
            output.as_deref(),
            carry_over,
            if json { Form::Json } else { Form::Text { verbose } },
        ),
        Command::Apply { file, settle: true, json, .. } => apply::tell::settled(&file, json),
        Command::Apply { file, preflight: true, json, .. } => apply::tell::tried(&file, json),
        Command::Apply { file, dry_run, restart, json, .. } => {
            apply::tell::told(&apply::Request { file: &file, edit: None, dry_run, restart }, None, json)
        }
        Command::Renew { file, host, now, deploy, dry_run, every, json } => {
            let options = acme::Options { file, hosts: host, now, dry_run };
            match every {
                Some(pause) => renew::repeated(&options, pause),
                None => renew::renew(&options, deploy, json),
            }
        }
        Command::Account { action, acme, json } => account::account(&action, &acme, json),
        Command::Local { action, acme, json } => local::local(&action, &acme, json),
        Command::Revoke { host, acme, json } => account::revoke(&host, &acme, json),
        Command::Show { bundle, check: true, source, json } => check(&bundle, source, json),
        Command::Show { bundle, json, .. } => show(&bundle, json),
        Command::Reload { admin, bundle, json } => {
            match bundle.as_deref().and_then(|file| preflight::answered(file, control::rehearse)) {
                Some(Ok(())) => exit(print(&format!("{}\n", preflight::FINE))),
                Some(Err(why)) => {
                    Failure::new("cannot-start", why).tell(json);
                    // Not the code of a refused reload, which `apply` takes for a program without a preflight.
                    ExitCode::from(77)
                }
                None => at(admin, bundle, json, |admin| reload(admin, json)),
            }
        }
        Command::Status { admin, bundle, check: true, json, .. } => {
            at(admin, bundle, json, |admin| running::check(admin, json))
        }
        Command::Status { admin, bundle, watch, json, .. } => {
            at(admin, bundle, json, |admin| status(admin, watch, json))
        }
        Command::Site { action, file, json } => site::site(&action, &file, json),
        Command::Console(options) => console::console(&options),
        Command::Import { from } => import::import(&from),
        Command::Doctor(options) => examine(&options),
        Command::Serve { bundle, log, access_log, access_log_to } => {
            crate::control::serve(&bundle, log, (access_log, access_log_to))
        }
    }
}

/// Help and version on stdout; what was typed wrongly on stderr, with our command for a verb of another program.
fn misused(error: &clap::Error, words: &[String]) -> ExitCode {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
    }
    let first = words.first().map(String::as_str).unwrap_or_default();
    let advice =
        Some(words).filter(|_| Arguments::command().find_subcommand(first).is_none()).and_then(verbs::advice);
    let first = words.get(1).filter(|_| first == "help").map_or(first, String::as_str);
    let rendered = error.to_string();
    let message = match &advice {
        Some(advice) => format!("there is no command `{}`. {advice}", Excerpt::of(first)),
        None => without_secrets(rendered.trim_start_matches("error: ").trim_end(), words),
    };
    if words.iter().any(|word| word == "--json") {
        print(&Failure::new("usage", message).document());
    } else if advice.is_some() {
        complain(&format!("error {}\n", report::escaped(&message)));
    } else if words.iter().any(|word| hides(word)) {
        complain(&format!("error: {message}\n"));
    } else {
        let _ = error.print();
    }
    ExitCode::from(2)
}

/// Diagnoses the targets; 1 if some client cannot connect.
fn examine(options: &doctor::Options) -> ExitCode {
    if let Some(foreword) = doctor::foreword(options) {
        complain(&format!("note {}\n", report::escaped(&foreword)));
    }
    match doctor::run(options) {
        Ok(found) => {
            let said = if options.json {
                print(&format!("{:#}\n", doctor::render::json(&found)))
            } else if options.report {
                print(&doctor::paste::text(&found, options))
            } else {
                print(&doctor::render::text(&found, log::is_coloured(&io::stdout()), options.verbose))
            };
            let healthy = found.count(doctor::explain::Level::Fail) == 0;
            if said && healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(usage) if options.json => {
            print(&Failure::new("usage", usage).document());
            ExitCode::from(2)
        }
        Err(usage) => {
            complain(&format!(
                "error {}\n",
                usage.lines().map(report::escaped).collect::<Vec<_>>().join("\n")
            ));
            ExitCode::from(2)
        }
    }
}

/// The command line as data, for man pages and completions.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// How `sanedge bundle` says what it found.
#[derive(Clone, Copy)]
enum Form {
    Json,
    Text { verbose: bool },
}

fn bundle(source: &Path, given: Option<&Path>, carry_over: bool, form: Form) -> ExitCode {
    let output = given.map_or_else(|| source.with_extension("bundle"), Path::to_owned);
    let output = output.as_path();
    let in_place = if carry_over { in_place(output) } else { None };
    let mut outcome = compile::carry_over(source, in_place.as_ref(), now());
    let written = outcome.bundle.take().and_then(|bytes| match write(output, given.is_some(), &bytes) {
        Ok(written) => Some(written),
        Err(finding) => {
            outcome.findings.insert(0, *finding);
            None
        }
    });
    if let Some(plan) = outcome.plan.take().filter(|_| written.is_some() && !outcome.in_part) {
        keep_plan(&plan.for_bundle(output), output);
    }
    let said = match form {
        Form::Json => {
            let mut document = report::outcome_json(&outcome, written.is_some().then_some(output));
            if written.is_none() {
                let message = format!("{}: nothing was written", report::count(&outcome.findings));
                Failure::new("findings", message).mark(&mut document);
            }
            print(&format!("{document:#}\n"))
        }
        Form::Text { verbose } => {
            tell(&outcome, written.is_some(), verbose) & conclude(&outcome, output, written.as_ref())
        }
    };
    match written.is_some() && said {
        true if outcome.in_part => ExitCode::from(DONE_IN_PART),
        good => exit(good),
    }
}

/// Findings to stderr; the table and, unless something else is the problem, the memory that it may take to stdout: the equation
/// where somebody asks, or it is the problem. False where stdout cannot be written to.
fn tell(outcome: &Outcome, written: bool, verbose: bool) -> bool {
    complain(&report::findings(&outcome.findings, log::is_coloured(&io::stderr())));
    let mut text = String::new();
    if !outcome.hosts.is_empty() {
        text += &format!("{}\n", report::table(&outcome.hosts));
    }
    if !outcome.websockets.is_empty() {
        text += &format!("{}\n", report::websockets(&outcome.websockets));
    }
    let over_budget = outcome.findings.iter().any(|f| f.code == Code::MemoryOverBudget);
    if let Some(memory) = outcome.memory.as_ref().filter(|_| written || over_budget) {
        text += &if verbose || over_budget {
            let equation = memory.to_string();
            format!("memory\n{}\n", equation.lines().map(|line| format!("  {line}\n")).collect::<String>())
        } else {
            format!("{}\n", memory.summary())
        };
    }
    print(&text)
}

fn conclude(outcome: &Outcome, output: &Path, written: Option<&file::Written>) -> bool {
    let count = report::count(&outcome.findings);
    let output = Excerpt::of_path(output);
    match written {
        None => {
            complain(&format!("{count}: nothing was written\n"));
            true
        }
        Some(written) => {
            let count = if count.is_empty() { count } else { format!(" ({count})") };
            let output = if outcome.in_part { format!("{output} in part") } else { output.to_string() };
            let said = print(&format!("wrote {output}, mode {:04o}{count}\n", written.mode));
            written.note.iter().for_each(|note| complain(&format!("{}\n", report::escaped(note))));
            said
        }
    }
}

/// The check that a timer runs every six hours.
fn check(path: &Path, source: Option<PathBuf>, json: bool) -> ExitCode {
    let bundle = match Bundle::open(path) {
        Ok(bundle) => bundle,
        Err(error) => return Failure::from(error).tell(json),
    };
    // A bundle that came from another machine has no source here.
    let beside = || Some(sources::beside(path)).filter(|file| file.exists());
    let source = source.or_else(beside);
    let fresh = source.as_ref().map(|source| (source, compile::compile(source, now())));
    let mut troubles = freshness::check(&bundle, path, fresh, now());
    troubles.extend(match served(&bundle, path) {
        Ok(served) => served.and_then(|served| freshness::served(&bundle, path, &served)),
        Err(problem) => Some(freshness::Trouble::NotAsked { bundle: file::word(path), problem }),
    });
    let compared = source.as_deref();
    let said = if json {
        print(&format!("{:#}\n", checked_json(&troubles, compared)))
    } else if troubles.is_empty() {
        let compared = compared
            .map_or_else(String::new, |source| format!(", and the bundle matches {}", file::word(source)));
        print(&format!("no certificate is overdue for renewal{compared}\n"))
    } else {
        let line = |trouble: &freshness::Trouble| {
            let severity = trouble.severity().as_str();
            format!("{severity} {} [{}]\n", report::escaped(&trouble.to_string()), trouble.code())
        };
        complain(&troubles.iter().map(line).collect::<String>());
        true
    };
    if compared.is_none() && !json {
        complain(&format!(
            "note not compared with its sources: there is no {}; name the sanedge.toml with --source\n",
            Excerpt::of_derived(&sources::beside(path), path)
        ));
    }
    exit(said && troubles.is_empty())
}

fn checked_json(troubles: &[freshness::Trouble], compared: Option<&Path>) -> Value {
    let row = |trouble: &freshness::Trouble| {
        json!({
            "code": trouble.code(),
            "severity": trouble.severity(),
            "message": trouble.to_string(),
            "differences": match trouble {
                freshness::Trouble::OlderThanItsSources { differences, .. } => differences.as_slice(),
                _ => &[],
            },
        })
    };
    let rows: Vec<_> = troubles.iter().map(row).collect();
    let mut document =
        json!({ "troubles": rows, "compared_with": compared.map(|file| Excerpt::of_path(file).to_string()) });
    if let Some(first) = troubles.first() {
        Failure::new(first.code(), first.to_string()).mark(&mut document);
    }
    document
}

/// clap repeats arguments as they were given: those that may be secrets are replaced by their excerpts.
fn without_secrets(message: &str, words: &[String]) -> String {
    let mut message = message.to_owned();
    for word in words.iter().filter(|word| hides(word)) {
        let value = word.split_once('=').map_or(word.as_str(), |(_, value)| value);
        for text in [word, value].into_iter().filter(|text| hides(text)) {
            message = message.replace(text, &Excerpt::of_path(Path::new(text)));
        }
    }
    // Whatever clap has made of them besides.
    let repeats = |word: &&String| {
        let mut windows = word.as_bytes().windows(excerpt::RUN_CHARS_MAX);
        hides(word)
            && windows.any(|window| message.as_bytes().windows(window.len()).any(|part| part == window))
    };
    if words.iter().any(|word| repeats(&word)) {
        return "an argument cannot be used; it is not shown, as it may be a secret\n\nFor more information, try '--help'."
            .to_owned();
    }
    message
}

/// Whether a part of an argument must not be shown.
fn hides(word: &str) -> bool {
    *Excerpt::of_path(Path::new(word)) != *report::escaped(word)
}

/// The bundle that the running edge has of the file at `path`, as its status names it; none where no edge runs, or with another file.
fn served(bundle: &Bundle, path: &Path) -> Result<Option<String>, String> {
    use io::ErrorKind::{ConnectionRefused, NotFound};
    let found = match client::ask(&admin_of(bundle), &STATUS, "application/json") {
        Ok(found) => found,
        Err(AskError::Connect { error, .. }) if matches!(error.kind(), NotFound | ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error.to_string()),
    };
    let status: Value = serde_json::from_slice(&found.body).unwrap_or_default();
    let same = |file: &str| std::fs::canonicalize(file).ok() == std::fs::canonicalize(path).ok();
    let said = |name| status.get(name).and_then(Value::as_str);
    let is_it = said("bundle_file").is_some_and(same);
    Ok(said("bundle").filter(|_| is_it).map(str::to_owned))
}

fn show(path: &Path, json: bool) -> ExitCode {
    match Bundle::open(path) {
        Ok(bundle) if json => exit(print(&format!("{:#}\n", report::bundle_json(&bundle, now())))),
        Ok(bundle) => exit(print(&report::bundle(&bundle, now()))),
        Err(error) => Failure::from(error).tell(json),
    }
}
