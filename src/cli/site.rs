//! `sanedge site`: adds a host to sanedge.toml or removes one, and puts the change to use.

pub(super) mod edit;

use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::apply::{Request, tell};
use super::failure::Failure;
use super::terminal::{complain, exit, print};
use crate::bundle::file::word;
use crate::bundle::source::{self, Source};
use crate::bundle::{compile, report, table};
use crate::excerpt::Excerpt;
use crate::names::Host;
use edit::{Unchanged, Wanted};

/// What is done with the hosts.
#[derive(Subcommand, Debug)]
pub(super) enum Action {
    /// Add a [[site]] for a host, put the change to use as `sanedge apply` does, and obtain its certificate under [acme] or [local].
    Add {
        /// The host.
        host: String,
        /// Where the app listens: a port of this machine, `ADDRESS:PORT`, `NAME:PORT` or `unix:PATH`.
        #[arg(long, value_name = "PORT", required_unless_present = "redirect")]
        app: Option<String>,
        /// Forward only this path to the app.
        #[arg(long, value_name = "PATH", conflicts_with = "redirect")]
        path: Option<String>,
        /// Instead of an app: redirect the host to this https URL (key `redirect`).
        #[arg(long, value_name = "URL", conflicts_with = "app")]
        redirect: Option<String>,
        /// Leave the certificate to the timer, for a name that does not resolve to this machine yet.
        #[arg(long)]
        no_renew: bool,
        #[command(flatten)]
        how: How,
    },
    /// Remove a host, with its [[site]] if it has no other host, and put the change to use as `sanedge apply` does.
    Remove {
        /// The host.
        host: String,
        #[command(flatten)]
        how: How,
    },
    /// Show the hosts of the file with their apps.
    List,
}

/// The options that `sanedge apply` also has.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(super) struct How {
    /// Print what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Restart the edge if the change needs a new process, even if that closes WebSockets.
    #[arg(long)]
    restart: bool,
}

pub(super) fn site(action: &Action, file: &Path, json: bool) -> ExitCode {
    match action {
        Action::List => list(file, json),
        Action::Add { host, app, path, redirect, no_renew, how } => match named(host) {
            Ok(host) => {
                let app = app.as_deref().map(address).unwrap_or_default();
                let wanted = Wanted { host, app, path: path.clone(), redirect: redirect.clone() };
                change(file, *how, json, (!no_renew).then_some(&wanted.host), &|text, source| {
                    edit::add(text, source, &wanted)
                })
            }
            Err(failure) => usage(&failure, json),
        },
        Action::Remove { host, how } => match named(host) {
            Ok(host) => change(file, *how, json, None, &|text, source| edit::remove(text, source, &host)),
            Err(failure) => usage(&failure, json),
        },
    }
}

fn usage(failure: &Failure, json: bool) -> ExitCode {
    let _ = failure.tell(json);
    ExitCode::from(2)
}

pub(super) fn named(host: &str) -> Result<Host, Failure> {
    Host::parse(host).map_err(|error| {
        Failure::new(
            "usage",
            format!("{error}. Give one host, such as game.recre.store, without scheme, port and path"),
        )
    })
}

/// A port without an address means this machine.
fn address(app: &str) -> String {
    let is_port = !app.is_empty() && app.bytes().all(|byte| byte.is_ascii_digit());
    if is_port { format!("127.0.0.1:{app}") } else { app.to_owned() }
}

pub(super) type Change<'a> = &'a dyn Fn(&str, &Source) -> Result<String, Unchanged>;

fn change(file: &Path, how: How, json: bool, added: Option<&Host>, change: Change<'_>) -> ExitCode {
    let edit = |text: Option<&str>| edited(file, text, change);
    tell::told(&Request { file, edit: Some(&edit), dry_run: how.dry_run, restart: how.restart }, added, json)
}

/// The text of the file after a change.
pub(super) fn edited(file: &Path, text: Option<&str>, change: Change<'_>) -> Result<String, Failure> {
    let Some(text) = text else { return Err(missing(file)) };
    let source = read(file, text)?;
    let after = change(text, &source).map_err(|error| refused(file, &error))?;
    // The edited text must parse; the checks of `apply` report everything else.
    source::parse(file, &after).0.map(|_| after).ok_or_else(|| refused(file, &Unchanged::Form))
}

fn missing(file: &Path) -> Failure {
    let message = format!(
        "{} does not exist: set up the first host with `sudo sanedge setup`, or name the file with --file",
        word(file)
    );
    Failure::new("file-missing", message)
}

fn refused(file: &Path, error: &Unchanged) -> Failure {
    let code = match error {
        Unchanged::Exists { .. } | Unchanged::Redirects { .. } => "host-exists",
        Unchanged::Shared { .. } => "host-shared",
        Unchanged::Missing { .. } | Unchanged::NoRoute { .. } => "host-missing",
        Unchanged::Form | Unchanged::LineEnds => "file-form",
    };
    Failure::new(code, format!("{}: {error}", word(file)))
}

/// Parses the file before the change. It must be TOML; the checks of `apply` report everything else.
fn read(file: &Path, text: &str) -> Result<Source, Failure> {
    let (source, findings) = source::parse(file, text);
    source.ok_or_else(|| {
        let finding = findings.first();
        let line = finding
            .and_then(|finding| finding.place.line)
            .map_or_else(String::new, |line| format!(":{line}"));
        let [message, found, remedy] =
            [finding.map(|one| &one.message), finding.map(|one| &one.found), finding.map(|one| &one.remedy)]
                .map(|text| text.cloned().unwrap_or_default());
        let message = format!("{}{line}: {message}: {found}. {remedy} Nothing was changed", word(file));
        Failure::new("findings", message)
    })
}

fn list(file: &Path, json: bool) -> ExitCode {
    let source = match source::text(file) {
        Ok(text) => read(file, &text),
        Err(finding) => Err(Failure::new("findings", format!("{}: {}", finding.message, finding.found))),
    };
    let source = match source {
        Ok(source) => source,
        Err(failure) => return failure.tell(json),
    };
    if json {
        let document = json!({ "ok": true, "file": word(file), "sites": source.sites.iter().map(row_json).collect::<Vec<_>>() });
        return exit(print(&format!("{document:#}\n")));
    }
    let head = ["host", "path", "upstream"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(head).chain(source.sites.iter().flat_map(rows)).collect();
    if source.sites.is_empty() {
        complain(&format!("note {} has no [[site]]\n", word(file)));
    }
    exit(print(&table::columns(&rows)))
}

fn upstreams(route: &source::Route) -> Vec<String> {
    route.upstreams.iter().map(|one| compile::show_upstream(&one.value)).collect()
}

fn row_json(site: &source::Site) -> serde_json::Value {
    let routes = site
        .routes
        .iter()
        .map(|route| json!({ "path": &*Excerpt::of(&route.path), "upstream": upstreams(route) }));
    json!({
        "hosts": site.hosts.iter().map(|host| host.value.to_string()).collect::<Vec<_>>(),
        "line": site.line,
        "redirect": site.redirect.as_ref().map(|to| compile::shown_redirect(&to.value)),
        "routes": routes.collect::<Vec<_>>(),
    })
}

fn rows(site: &source::Site) -> Vec<[String; 3]> {
    let of_host = |host: &source::Lined<Host>| {
        let host = host.value.to_string();
        let row = |route: &source::Route| {
            [host.clone(), Excerpt::of(&route.path).to_string(), upstreams(route).join(", ")]
        };
        let redirect = site.redirect.iter().map(|to| report::redirected(&compile::shown_redirect(&to.value)));
        let redirect = redirect.map(|to| [host.clone(), "/".to_owned(), to]);
        redirect.chain(site.routes.iter().map(row)).collect::<Vec<_>>()
    };
    site.hosts.iter().flat_map(of_host).collect()
}
