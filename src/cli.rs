//! The command line: arguments to a command, and what came of it to text and exit code.
//!
//! Exit codes are a contract: 0 fine, 1 problems, 2 wrong usage (clap's own).

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::{CommandFactory, Parser, Subcommand};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::bundle::compile::{self, Outcome};
use crate::bundle::finding::{Code, Finding};
use crate::bundle::{Admin, Bundle, check, file, report, wire};
#[cfg(feature = "doctor")]
use crate::doctor;
use crate::ops::access;
use crate::ops::admin;
use crate::ops::admin::client::{self, AskError};

/// Time between two looks of `status --watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// How long a reload by signal may take, and how often is looked whether it is done.
const RELOAD_TIME: Duration = Duration::from_secs(20);
const RELOAD_LOOK_INTERVAL: Duration = Duration::from_millis(100);

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
        /// Instead say only what needs somebody, and fail then: a certificate in use whose renewal is overdue, a bundle
        /// that is older than the certificates that the sanedge.toml beside it names (without one there it compares
        /// nothing, and says so), or a running edge that has not taken this file.
        #[arg(long)]
        check: bool,
        /// With --check: the sanedge.toml that the bundle was made of, where it is not beside it.
        #[arg(long, value_name = "FILE", requires = "check")]
        source: Option<PathBuf>,
        /// Print one JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Ask the running edge to open its bundle again; says what came of it.
    Reload {
        /// Admin socket of the edge: `unix:PATH`, or a path with a slash in it. A relative one begins at the current folder.
        #[arg(long, value_name = "ADDRESS", default_value = admin::DEFAULT_PATH, value_parser = admin::parse_unix)]
        admin: Admin,
        /// Instead: the bundle that the edge serves, which says where its admin socket is. Where that is on TCP, which only reads,
        /// the edge gets a signal if the environment has its process id in MAINPID, as systemd sets it.
        #[arg(long, value_name = "FILE", conflicts_with = "admin")]
        bundle: Option<PathBuf>,
        /// Print one JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Show how the running edge is: hosts, certificates, sessions, upstreams.
    Status {
        /// Admin socket of the edge: `unix:PATH`, a path with a slash in it, or a loopback address with its port. A
        /// relative path begins at the current folder.
        #[arg(long, value_name = "ADDRESS", default_value = admin::DEFAULT_PATH, value_parser = admin::parse)]
        admin: Admin,
        /// Instead: the bundle that the edge serves, which says where its admin socket is.
        #[arg(long, value_name = "FILE", conflicts_with = "admin")]
        bundle: Option<PathBuf>,
        /// Go on every two seconds, in place on a terminal, until Ctrl-C.
        #[arg(long)]
        watch: bool,
        /// Print one JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Find out why clients cannot connect, on any TLS edge and Socket.IO server, and what to do.
    #[cfg(feature = "doctor")]
    Doctor(Box<doctor::Options>),
    /// Serve a bundle. SIGHUP reloads it, SIGTERM drains, SIGUSR1 drains for a restart.
    Serve {
        /// The file that `sanedge bundle` wrote.
        bundle: PathBuf,
        /// How requests of sites with `access_log = true` are written.
        #[arg(long, value_name = "FORM", value_enum, default_value_t)]
        access_log: access::Form,
        /// Where to: `stderr`, or `unix:PATH` of a datagram socket.
        #[arg(long, value_name = "PLACE", default_value = "stderr", value_parser = access::parse_place)]
        access_log_to: access::Place,
    },
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    match Arguments::parse().command {
        Command::Bundle { source, output, json } => bundle(&source, output.as_deref(), json),
        Command::Show { bundle, check: true, source, json } => check(&bundle, source, json),
        Command::Show { bundle, json, .. } => show(&bundle, json),
        Command::Reload { admin, bundle, json } => at(admin, bundle, json, |admin| reload(admin, json)),
        Command::Status { admin, bundle, watch, json } => {
            at(admin, bundle, json, |admin| status(admin, watch, json))
        }
        #[cfg(feature = "doctor")]
        Command::Doctor(options) => examine(&options),
        Command::Serve { bundle, access_log, access_log_to } => {
            crate::edge::serve(&bundle, (access_log, access_log_to))
        }
    }
}

/// Looks at what the options name; 1 where some client cannot connect.
#[cfg(feature = "doctor")]
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

/// The command line as data, for man pages and completions.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Does `what` where the edge that serves `bundle` is asked; without one at `admin`.
fn at(admin: Admin, bundle: Option<PathBuf>, json: bool, what: impl FnOnce(&Admin) -> ExitCode) -> ExitCode {
    let opened = bundle.map(|file| Bundle::open(&file)).transpose();
    match opened {
        Ok(None) => what(&admin),
        Ok(Some(bundle)) => what(&admin_of(&bundle)),
        Err(error) => refuse(&error.to_string(), json),
    }
}

fn admin_of(bundle: &Bundle) -> Admin {
    bundle.listen.admin.clone().unwrap_or_else(|| Admin::Unix(admin::DEFAULT_PATH.into()))
}

fn reload(admin: &Admin, json: bool) -> ExitCode {
    let Admin::Tcp(address) = admin else { return ask(admin, "POST", "/reload", json) };
    let process = std::env::var("MAINPID").ok().and_then(|pid| Pid::from_raw(pid.parse().ok()?));
    let Some(process) = process else {
        // What `--admin` says of such an address.
        return refuse(&admin::parse_unix(&address.to_string()).err().unwrap_or_default(), json);
    };
    match reload_by_signal(admin, process) {
        Ok(message) if json => exit(print(&format!("{}\n", json!({ "ok": true, "message": message })))),
        Ok(message) => exit(print(&format!("{}\n", report::escaped(&message)))),
        Err(problem) => refuse(&problem, json),
    }
}

/// Sends SIGHUP and reads what came of it.
fn reload_by_signal(admin: &Admin, process: Pid) -> Result<String, String> {
    let look = || {
        let found = client::ask(admin, "GET", "/status", "application/json").map_err(|e| e.to_string())?;
        let status: Value = serde_json::from_slice(&found.body).unwrap_or_default();
        let count =
            |name| status.pointer(name).and_then(Value::as_u64).ok_or("its status has no such counter");
        let bundle = status.get("bundle").and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok::<_, String>((
            count("/counters/reloads_total")?,
            count("/counters/reloads_refused_total")?,
            bundle,
        ))
    };
    let (taken, refused, _) = look()?;
    kill_process(process, Signal::HUP).map_err(|error| format!("process {process:?}: {error}"))?;
    let until = Instant::now() + RELOAD_TIME;
    while Instant::now() < until {
        std::thread::sleep(RELOAD_LOOK_INTERVAL);
        match look()? {
            (_, now, _) if now != refused => {
                return Err(
                    "the edge refused its bundle, and the one in use stays: its log says why".to_owned()
                );
            }
            (now, _, bundle) if now != taken => return Ok(format!("its bundle is in use ({bundle})")),
            _ => {}
        }
    }
    Err(format!("no reload within {} s of SIGHUP to the process in MAINPID", RELOAD_TIME.as_secs()))
}

/// As [`fail`], in JSON as well.
fn refuse(problem: &str, json: bool) -> ExitCode {
    match json {
        true => fail(&format!("{}\n", json!({ "ok": false, "message": problem })), json),
        false => fail(problem, json),
    }
}

/// Asks the running edge and shows its answer; only a 200 that could be shown is a success.
fn ask(admin: &Admin, method: &str, path: &str, json: bool) -> ExitCode {
    match answer(admin, method, path, json) {
        Ok(text) => exit(print(&text)),
        Err(problem) => fail(&problem, json),
    }
}

/// What a success says, or what is wrong; for a program both are JSON.
fn answer(admin: &Admin, method: &str, path: &str, json: bool) -> Result<String, String> {
    let document = |body: Vec<u8>| format!("{}\n", String::from_utf8_lossy(&body));
    let accept = if json { "application/json" } else { "text/plain" };
    match client::ask(admin, method, path, accept) {
        Ok(found) if json && found.status == 200 => Ok(document(found.body)),
        Ok(found) if json => Err(document(found.body)),
        Err(error) if json => Err(format!("{}\n", json!({ "ok": false, "message": error.to_string() }))),
        Ok(found) if found.status == 200 && found.is_text => {
            let text = String::from_utf8_lossy(&found.body);
            Ok(text.lines().map(|line| format!("{}\n", report::escaped(line))).collect())
        }
        Ok(found) if found.status == 200 => Err("the edge gave an answer of another version".to_owned()),
        Ok(found) => {
            let found = serde_json::from_slice::<Value>(&found.body).ok();
            let message = found.as_ref().and_then(|found| found.get("message")?.as_str());
            Err(message.unwrap_or("the edge refused and gave no reason").to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

fn fail(problem: &str, json: bool) -> ExitCode {
    if json {
        print(problem);
    } else {
        complain(&format!("error {}\n", report::escaped(problem)));
    }
    ExitCode::FAILURE
}

fn status(admin: &Admin, watch: bool, json: bool) -> ExitCode {
    if !watch {
        return ask(admin, "GET", "/status", json);
    }
    let in_place = !json && io::stdout().is_terminal();
    let mut shown = false;
    loop {
        let text = match answer(admin, "GET", "/status", json) {
            Ok(text) => text,
            Err(problem) if !shown => return fail(&problem, json),
            // It may be on its way back.
            Err(problem) if json => problem,
            Err(problem) => format!("{}\n", report::escaped(&problem)),
        };
        let text = match (in_place, shown) {
            (true, _) => redrawn(&text, !shown),
            (false, true) if !json => format!("\n{text}"),
            (false, _) => text,
        };
        shown = true;
        match write_out(&text) {
            Ok(()) => std::thread::sleep(WATCH_INTERVAL),
            // Nobody reads on.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
            Err(error) => return exit(unwritable(&error)),
        }
    }
}

/// `text` from the top of the screen, without the flicker of an empty one in between.
fn redrawn(text: &str, first: bool) -> String {
    let clear = if first { "\x1b[2J" } else { "" };
    let lines: String = text.lines().map(|line| format!("{line}\x1b[K\n")).collect();
    format!("{clear}\x1b[H{lines}\x1b[J")
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
    exit(written.is_some() && said)
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

/// What a timer asks every day.
fn check(path: &Path, source: Option<PathBuf>, json: bool) -> ExitCode {
    let bundle = match Bundle::open(path) {
        Ok(bundle) => bundle,
        Err(error) if json => return fail(&format!("{:#}\n", json!({ "error": error.to_string() })), json),
        Err(error) => return fail(&error.to_string(), json),
    };
    // A bundle that came from the desk has no source here.
    let beside = || Some(path.with_file_name("sanedge.toml")).filter(|file| file.exists());
    let source = source.or_else(beside);
    let fresh = source.as_ref().map(|source| (source, compile::compile(source, now())));
    let mut troubles = check::check(&bundle, path, fresh, now());
    troubles.extend(match served(&bundle, path) {
        Ok(served) => served.and_then(|served| check::served(&bundle, path, &served)),
        Err(problem) => Some(check::Trouble::NotAsked { bundle: file::word(path), problem }),
    });
    let compared = source.as_deref();
    let said = if json {
        let row = |t: &check::Trouble| json!({ "code": t.code(), "severity": t.severity(), "message": t.to_string() });
        let rows: Vec<_> = troubles.iter().map(row).collect();
        print(&format!("{:#}\n", json!({ "troubles": rows, "compared_with": compared })))
    } else if troubles.is_empty() {
        let compared = compared
            .map_or_else(String::new, |source| format!(", and {} would make it again", file::word(source)));
        print(&format!("no certificate is overdue for renewal{compared}\n"))
    } else {
        let line = |trouble: &check::Trouble| {
            let severity = trouble.severity().as_str();
            format!("{severity} {} [{}]\n", report::escaped(&trouble.to_string()), trouble.code())
        };
        complain(&troubles.iter().map(line).collect::<String>());
        true
    };
    if compared.is_none() && !json {
        complain(&format!(
            "note not compared with its sources: there is no {}; name the file that it was made of with --source\n",
            report::escaped(&path.with_file_name("sanedge.toml").display().to_string())
        ));
    }
    exit(said && troubles.is_empty())
}

/// The bundle that the running edge has of the file at `path`, as its status names it; none where no edge runs, or with another file.
fn served(bundle: &Bundle, path: &Path) -> Result<Option<String>, String> {
    use io::ErrorKind::{ConnectionRefused, NotFound};
    let found = match client::ask(&admin_of(bundle), "GET", "/status", "application/json") {
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
    let said = match Bundle::open(path) {
        Ok(bundle) if json => print(&format!("{:#}\n", report::bundle_json(&bundle, now()))),
        Ok(bundle) => print(&report::bundle(&bundle, now())),
        Err(error) => {
            if json {
                print(&format!("{:#}\n", json!({ "error": error.to_string() })));
            } else {
                complain(&format!("error {}\n", report::escaped(&error.to_string())));
            }
            false
        }
    };
    exit(said)
}

/// To stdout, all of it: false, and said on stderr, where that fails. A reader who has gone (`| head`) has what he wanted.
fn print(text: &str) -> bool {
    match write_out(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => unwritable(&error),
        _ => true,
    }
}

fn write_out(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

fn unwritable(error: &io::Error) -> bool {
    complain(&format!("error standard output cannot be written to: {error}\n"));
    false
}

fn exit(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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

/// To stderr.
fn complain(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
