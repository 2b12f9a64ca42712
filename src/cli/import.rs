//! `sanedge import`: the new sanedge.toml on stdout or in a new file, what became of each directive on stderr.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::failure::Failure;
use super::output::DONE_IN_PART;
use super::terminal::{complain, print};
use crate::bundle::file::word;
use crate::excerpt::{Excerpt, number};
use crate::import::known::Fate;
use crate::import::{self, Imported};

/// Lines of a file that are named in one row.
const LINES_TOLD_MAX: usize = 10;

/// Whose files are read.
#[derive(Subcommand, Debug)]
pub(super) enum From {
    /// Nginx Proxy Manager, or nginx: write a sanedge.toml with its hosts, apps, paths, certificates and `allow`, and report what the new
    /// file cannot express. A host that would then be open to more clients is written as comments.
    Npm {
        /// The folder with NPM's docker-compose.yml, its `data`, /etc/nginx, or one file. Nothing outside it is read.
        path: PathBuf,
        /// Write a new file instead of to stdout. An existing one is never replaced.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Print one JSON document, with the fate of every directive, and with the new file as `toml` unless --output is given.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn import(from: &From) -> ExitCode {
    let From::Npm { path, output, json } = from;
    match run(path, output.as_deref()) {
        Err(failure) => failure.tell(*json),
        Ok(found) => tell(&found, output.as_deref(), *json),
    }
}

fn run(path: &Path, output: Option<&Path>) -> Result<Imported, Failure> {
    let found = import::npm(path).map_err(|error| {
        Failure::new("import-unreadable", format!("{} cannot be read: {error}", word(path)))
    })?;
    if found.rows.iter().all(|row| row.name != "server") {
        complain(&report(&found));
        let message = format!(
            "{}: no `server` of nginx was found. Give the folder that has NPM's docker-compose.yml, or its `data`",
            word(path)
        );
        return Err(Failure::new("import-nothing", message));
    }
    if let Some(output) = output {
        create(output, &found.text).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Failure::new(
                "import-exists",
                format!("{} exists, and is not replaced: name a new file with -o", word(output)),
            ),
            _ => Failure::new("import-not-written", format!("{} cannot be written: {error}", word(output))),
        })?;
    }
    Ok(found)
}

/// A new file, whole or not at all; never one that a link names.
fn create(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = std::fs::remove_file(path);
    }
    written
}

fn tell(found: &Imported, output: Option<&Path>, json: bool) -> ExitCode {
    let is_whole = found.commented.is_empty() && !found.rows.iter().any(|row| row.name.is_empty());
    let said = if json {
        print(&format!("{:#}\n", document(found, output, is_whole)))
    } else {
        complain(&report(found));
        match output {
            Some(output) => {
                print(&format!("{} is written. Check it: sanedge bundle {}\n", word(output), word(output)))
            }
            None => print(&found.text),
        }
    };
    match (said, is_whole) {
        (false, _) => ExitCode::FAILURE,
        (true, false) => ExitCode::from(DONE_IN_PART),
        (true, true) => ExitCode::SUCCESS,
    }
}

/// The level, the stable word and the reason of a fate.
fn of(fate: Fate) -> (&'static str, &'static str, &'static str) {
    match fate {
        Fate::Translated => ("", "translated", ""),
        Fate::Check(what) => ("note", "check", what),
        Fate::Fine(why) => ("", "not-needed", why),
        Fate::Lost(why) => ("note", "left-out", why),
        Fate::Closed(why) => ("warning", "closed", why),
    }
}

fn file(found: &Imported, file: u16) -> &str {
    found.files.get(usize::from(file)).map(String::as_str).unwrap_or_default()
}

/// What is not as in nginx: one line for what is the same at several places of a file.
fn report(found: &Imported) -> String {
    let mut places: BTreeMap<(u16, String, &str, &str), Vec<u32>> = BTreeMap::new();
    for row in &found.rows {
        let (level, _, why) = of(row.fate);
        if !level.is_empty() {
            places.entry((row.file, row.shown(), level, why)).or_default().push(row.line);
        }
    }
    let mut places: Vec<_> = places.into_iter().collect();
    places.sort_by_key(|((file, ..), lines)| (*file, lines.first().copied()));
    let lines = places.into_iter().map(|((at, name, level, why), lines)| {
        let (at, lines) = (file(found, at), listed(lines));
        match name.is_empty() {
            true => format!("error {at}{lines}: not read: {why}\n"),
            false => format!("{level} {at}{lines}: `{name}`: {why}\n"),
        }
    });
    let count = |fates: &[&str]| found.rows.iter().filter(|row| fates.contains(&of(row.fate).1)).count();
    lines.collect::<String>()
        + &format!(
            "{} in use, {} as comments; of {}, {} translated, {} not needed, {} reported\n",
            number(found.hosts.len(), "host"),
            found.commented.len(),
            number(found.rows.len(), "directive"),
            count(&["translated", "check"]),
            count(&["not-needed"]),
            count(&["left-out", "closed"]),
        )
}

/// `:3,7`, or nothing where the whole file is meant.
fn listed(mut lines: Vec<u32>) -> String {
    lines.dedup();
    let more = if lines.len() > LINES_TOLD_MAX { ",…" } else { "" };
    let told: Vec<_> =
        lines.iter().filter(|line| **line > 0).take(LINES_TOLD_MAX).map(u32::to_string).collect();
    if told.is_empty() { String::new() } else { format!(":{}{more}", told.join(",")) }
}

fn document(found: &Imported, output: Option<&Path>, is_whole: bool) -> Value {
    let rows = found.rows.iter().map(|row| {
        let (_, fate, why) = of(row.fate);
        json!({ "file": file(found, row.file), "line": row.line, "directive": row.shown(), "fate": fate, "reason": why })
    });
    json!({
        "ok": true,
        "whole": is_whole,
        "hosts": found.hosts,
        "commented": found.commented,
        "directives": rows.collect::<Vec<_>>(),
        "output": output.map(|path| Excerpt::of_path(path).to_string()),
        "toml": output.is_none().then_some(&found.text),
    })
}
