//! The command line: arguments to a command, and what came of it to text and exit code.
//!
//! Exit codes are a contract: 0 fine, 1 problems, 2 wrong usage (clap's own).

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Parser, Subcommand};

use crate::bundle::compile::{self, Outcome};
use crate::bundle::finding::{Code, Finding};
use crate::bundle::{Admin, Bundle, file, report, wire};
use crate::doctor;
use crate::ops::admin;

/// The TLS edge for the single-board computer at home.
#[derive(Parser, Debug)]
#[command(name = "sanedge", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Prove that certificates, hosts and upstreams fit together, and write a bundle.
    Bundle {
        /// The sanedge.toml to compile.
        source: PathBuf,
        /// Where to write; sanedge.bundle beside the source unless given.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Print findings and hosts as one JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Show what is inside a bundle; never a key.
    Show {
        /// The file that `sanedge bundle` wrote.
        bundle: PathBuf,
        /// Print one JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Ask the running edge to open its bundle again; says what came of it.
    Reload {
        /// Admin socket of the edge: `unix:PATH`, or a path.
        #[arg(long, value_name = "ADDRESS", default_value = admin::DEFAULT_PATH, value_parser = admin::parse_unix)]
        admin: Admin,
        /// Print one JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Show how the running edge is: hosts, certificates, sessions, upstreams.
    Status {
        /// Admin socket of the edge: `unix:PATH`, a path, or a loopback address with its port.
        #[arg(long, value_name = "ADDRESS", default_value = admin::DEFAULT_PATH, value_parser = admin::parse)]
        admin: Admin,
        /// Print one JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Find out why clients cannot connect, on any TLS edge and Socket.IO server, and what to do.
    Doctor(Box<doctor::Options>),
    /// Serve a bundle. SIGHUP reloads it, SIGTERM drains, SIGUSR1 drains for a restart.
    Serve {
        /// The file that `sanedge bundle` wrote.
        bundle: PathBuf,
    },
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    match Arguments::parse().command {
        Command::Bundle { source, output, json } => bundle(&source, output.as_deref(), json),
        Command::Show { bundle, json } => show(&bundle, json),
        Command::Reload { admin, json } => ask(&admin, "POST", "/reload", json, reload_text),
        Command::Status { admin, json } => ask(&admin, "GET", "/status", json, status_text),
        Command::Doctor(options) => examine(&options),
        Command::Serve { bundle } => crate::edge::serve(&bundle),
    }
}

/// Looks at what the options name; 1 where some client cannot connect.
fn examine(options: &doctor::Options) -> ExitCode {
    if let Some(foreword) = doctor::foreword(options) {
        complain(&format!("note {}\n", report::escaped(&foreword)));
    }
    match doctor::run(options) {
        Ok(found) => {
            let said = if options.json {
                print(&format!("{:#}\n", doctor::report::json(&found)))
            } else {
                print(&doctor::report::text(&found, colour(&io::stdout())))
            };
            let healthy = found.count(doctor::explain::Level::Fail) == 0;
            if said && healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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

/// Asks the running edge and shows its answer; only a 200 is a success.
fn ask(admin: &Admin, method: &str, path: &str, json: bool, text: fn(&[u8]) -> Option<String>) -> ExitCode {
    match admin::ask(admin, method, path) {
        Ok((status, body)) if json => {
            say(&format!("{}\n", String::from_utf8_lossy(&body)));
            if status == 200 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Ok((200, body)) => {
            say(&text(&body).unwrap_or_else(|| "the edge gave an answer of another version\n".to_owned()));
            ExitCode::SUCCESS
        }
        Ok((_, body)) => {
            let found = serde_json::from_slice::<serde_json::Value>(&body).ok();
            let message = found.as_ref().and_then(|found| found.get("message")?.as_str());
            let message = report::escaped(message.unwrap_or("the edge refused and gave no reason"));
            complain(&format!("error {message}\n"));
            ExitCode::FAILURE
        }
        Err(error) => {
            if json {
                say(&format!("{}\n", serde_json::json!({ "ok": false, "message": error.to_string() })));
            } else {
                complain(&format!("error {}\n", report::escaped(&error.to_string())));
            }
            ExitCode::FAILURE
        }
    }
}

fn reload_text(body: &[u8]) -> Option<String> {
    let report: admin::ReloadReport = serde_json::from_slice(body).ok()?;
    let notes: String = report.notes.iter().map(|note| format!("note {}\n", report::escaped(note))).collect();
    Some(format!("{} ({})\n{notes}", report.message, report.bundle))
}

fn status_text(body: &[u8]) -> Option<String> {
    let status: admin::Status = serde_json::from_slice(body).ok()?;
    let mut text = format!(
        "sanedge {} up {} s, bundle {} for board {}{}\nsessions {} of at most {}, {} in their handshake, {} workers\n",
        status.version,
        status.uptime_s,
        status.bundle,
        report::escaped(&status.board),
        if status.draining { ", draining" } else { "" },
        status.sessions,
        status.sessions_max,
        status.handshakes,
        status.workers,
    );
    for host in &status.hosts {
        let certificate = report::escaped(&host.certificate);
        text += &format!("\n{}  {certificate}, {} days left\n", report::escaped(&host.host), host.days_left);
        for upstream in &host.upstreams {
            text += &format!(
                "  {} -> {} {}\n",
                report::escaped(&upstream.path),
                upstream.upstream,
                upstream.state
            );
        }
    }
    let nonzero = |(name, value): (&String, &u64)| (*value > 0).then(|| format!("  {name} {value}\n"));
    let counters: String = status.counters.iter().filter_map(nonzero).collect();
    if !counters.is_empty() {
        text += &format!("\nsince the start\n{counters}");
    }
    let refused: String = status.refused.iter().filter_map(nonzero).collect();
    if !refused.is_empty() {
        text += &format!("refused\n{refused}");
    }
    Some(text)
}

fn bundle(source: &Path, given: Option<&Path>, json: bool) -> ExitCode {
    let output = given.map_or_else(|| source.with_file_name("sanedge.bundle"), Path::to_owned);
    let output = output.as_path();
    let mut outcome = compile::compile(source, now());
    let written = outcome.bundle.take().and_then(|bytes| match write(output, given.is_some(), &bytes) {
        Ok(written) => Some(written),
        Err(finding) => {
            outcome.findings.insert(0, *finding);
            None
        }
    });
    let said = if json {
        print(&format!("{:#}\n", report::outcome_json(&outcome, written.is_some().then_some(output))))
    } else {
        tell(&outcome, written.is_some()) & conclude(&outcome, output, written.as_ref())
    };
    if written.is_some() && said { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Replaces a bundle, or makes a new one, and nothing else: a slip of the keyboard must not cost a key.
fn write(output: &Path, given: bool, bytes: &[u8]) -> Result<file::Written, Box<Finding>> {
    let refused = |found: String, remedy: &str| {
        let finding = Finding::new(Code::NotWritten, format!("`{}` was not written", output.display()));
        Box::new(finding.at(output, 0).expected("a place for the bundle").found(found).remedy(remedy))
    };
    if is_something_else(output) {
        let word = file::word(output);
        let remedy = if given {
            "Give another file to -o, or remove this one.".to_owned()
        } else {
            format!(
                "Move it away and try again; a bundle that was damaged is of no use:\n  mv {word} {word}.damaged"
            )
        };
        return Err(refused("a file that is no bundle".to_owned(), &remedy));
    }
    file::write_atomic(output, bytes)
        .map_err(|error| refused(error.to_string(), "Give a file that you may write to -o."))
}

fn is_something_else(output: &Path) -> bool {
    use io::Read as _;
    let full = std::fs::metadata(output).is_ok_and(|about| about.is_file() && about.len() > 0);
    let mut magic = [0; wire::MAGIC.len()];
    let mut begins = |mut file: std::fs::File| file.read_exact(&mut magic).is_ok() && magic == wire::MAGIC;
    full && std::fs::File::open(output).is_ok_and(|file| !begins(file))
}

/// Findings to stderr; the table and, unless something else is the problem, the memory equation to stdout. False where
/// stdout cannot be written to.
fn tell(outcome: &Outcome, written: bool) -> bool {
    complain(&report::findings(&outcome.findings, colour(&io::stderr())));
    let mut text = String::new();
    if !outcome.hosts.is_empty() {
        text += &format!("{}\n", report::table(&outcome.hosts));
    }
    let over_budget = outcome.findings.iter().any(|f| f.code == Code::MemoryOverBudget);
    if let Some(memory) = outcome.memory.as_ref().filter(|_| written || over_budget) {
        text +=
            &format!("memory\n{}\n", memory.lines().map(|line| format!("  {line}\n")).collect::<String>());
    }
    print(&text)
}

fn conclude(outcome: &Outcome, output: &Path, written: Option<&file::Written>) -> bool {
    let count = report::count(&outcome.findings);
    let output = report::escaped(&output.display().to_string());
    match written {
        None => {
            complain(&format!("{count}: nothing was written\n"));
            true
        }
        Some(written) => {
            let count = if count.is_empty() { count } else { format!(" ({count})") };
            let said = print(&format!("wrote {output}, mode {:04o}{count}\n", written.mode));
            written.note.iter().for_each(|note| complain(&format!("{}\n", report::escaped(note))));
            said
        }
    }
}

fn show(path: &Path, json: bool) -> ExitCode {
    let said = match Bundle::open(path) {
        Ok(bundle) if json => print(&format!("{:#}\n", report::bundle_json(&bundle, now()))),
        Ok(bundle) => print(&report::bundle(&bundle, now())),
        Err(error) => {
            if json {
                print(&format!("{:#}\n", serde_json::json!({ "error": error.to_string() })));
            } else {
                complain(&format!("error {}\n", report::escaped(&error.to_string())));
            }
            false
        }
    };
    if said { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// To stdout, all of it: false, and said on stderr, where that fails. A reader who has gone (`| head`) has what he wanted.
fn print(text: &str) -> bool {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!("error standard output cannot be written to: {error}\n"));
            false
        }
        _ => true,
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn colour(stream: &impl IsTerminal) -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    stream.is_terminal() && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// To stdout. A reader who has gone (`| head`) is no reason to panic.
fn say(text: &str) {
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

/// To stderr.
fn complain(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
