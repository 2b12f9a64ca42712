//! `sanedge setup`: the steps in their order, and the questions on a terminal.

mod dialogue;
mod options;
mod qr;
mod steps;
mod told;
mod write;

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::process::ExitCode;

use dialogue::{Confirmation, Dialogue, Terminal};
pub(super) use options::Options;
use options::{ByLocal, SUDO, issuer, names_issuer, parse_app, parse_host};
use steps::{Setup, has_own_ca};
use told::{Stop, Told};

use super::failure::Failure;
use crate::bundle::compile::shell_word;
use crate::bundle::source::{self, Source};
use crate::excerpt::Excerpt;
use crate::names::Host;
use crate::setup::child;
use crate::setup::edit::{Issuer, Wish, is_local, is_of_network};

/// The port that many Socket.IO examples listen on.
const APP_PORT: &str = "3000";

/// Runs the steps. `words` are the arguments as they were typed.
pub(super) fn setup(options: &Options, words: &[String]) -> ExitCode {
    if options.look {
        return if child::answer().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let mut told = Told::new(options.json);
    let command = typed(words);
    let finished = wished(options).and_then(|(wish, confirmation)| {
        Setup { options, wish, command, confirmation, told: &mut told }.run()
    });
    match finished {
        Ok(more) => super::terminal::exit(told.done(&more)),
        Err(Stop::Step(step, problem)) => {
            told.failed(step, &problem);
            ExitCode::FAILURE
        }
        Err(Stop::Usage(message)) => {
            let _ = Failure::new("usage", message).tell(options.json);
            ExitCode::from(2)
        }
    }
}

/// The command to type again.
fn typed(words: &[String]) -> String {
    let words = words.iter().map(|word| shell_word(&Excerpt::of_path(Path::new(word))));
    let command = std::iter::once("sanedge".to_owned()).chain(words).collect::<Vec<_>>().join(" ");
    // sudo sets this variable.
    if std::env::var_os("SUDO_UID").is_some() { format!("{SUDO}{command}") } else { command }
}

/// What the options and answers ask for, and how changes are confirmed.
fn wished(options: &Options) -> Result<(Wish, Confirmation), Stop> {
    let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    let mut dialogue = (is_terminal && !options.yes && !options.json).then(Dialogue::here);
    let before = source::read(&options.file).0;
    let by_local = match () {
        () if options.local => ByLocal::Yes,
        () if names_issuer(options) || before.as_ref().is_some_and(has_own_ca) => ByLocal::No,
        () if dialogue.is_some() || before.as_ref().is_some_and(|before| before.local.is_some()) => {
            ByLocal::OfNetwork
        }
        () => ByLocal::No,
    };
    let parse = |text: &str| parse_host(text, by_local);
    let host = given_or_asked(options.host.as_deref(), &mut dialogue, parse, |dialogue| {
        let first = before.as_ref().and_then(first_host);
        dialogue.ask("Name that clients will connect to", first.as_deref(), parse)
    })?;
    let app = given_or_asked(options.app.as_deref(), &mut dialogue, parse_app, |dialogue| {
        dialogue.ask("Port of the app on this machine", Some(APP_PORT), parse_app)
    })?;
    let issuer = match by_local {
        ByLocal::OfNetwork => suggested(options, before.as_ref(), &host, &mut dialogue)?,
        ByLocal::No | ByLocal::Yes => issuer(options)?,
    };
    let confirmation = match dialogue {
        _ if options.yes => Confirmation::Given,
        Some(dialogue) => Confirmation::Asked(dialogue),
        None => Confirmation::Impossible,
    };
    Ok((Wish { host, app, issuer }, confirmation))
}

/// For a host that no public CA issues for: the local CA, if the file or the user says so.
fn suggested(
    options: &Options,
    before: Option<&Source>,
    host: &Host,
    dialogue: &mut Option<Terminal>,
) -> Result<Issuer, Stop> {
    if before.is_some_and(|before| is_local(before, host)) {
        return Ok(Issuer::Local);
    }
    let question = format!(
        "No public CA issues a certificate for {host}. Shall a local CA issue it? Each client has to trust that CA once"
    );
    let is_agreed = match dialogue.as_mut().filter(|_| is_of_network(host)) {
        Some(dialogue) => dialogue.confirm(&question, true)?,
        None => false,
    };
    match () {
        () if is_agreed => Ok(Issuer::Local),
        () if matches!(host, Host::Ip(_)) => Err(Stop::Usage(format!(
            "most CAs issue no certificate for an address such as {host}: use a name"
        ))),
        () => issuer(options),
    }
}

fn given_or_asked<T>(
    given: Option<&str>,
    dialogue: &mut Option<Terminal>,
    parse: impl Fn(&str) -> Result<T, String>,
    ask: impl FnOnce(&mut Terminal) -> io::Result<Option<T>>,
) -> Result<T, Stop> {
    match (given, dialogue) {
        (Some(given), _) => parse(given).map_err(Stop::Usage),
        (None, Some(dialogue)) => {
            ask(dialogue)?.ok_or_else(|| Stop::Usage("no answer: nothing was changed".to_owned()))
        }
        (None, None) => {
            let message =
                "expected a name and the port of the app: sanedge setup socket.recre.store --app 3002";
            Err(Stop::Usage(message.to_owned()))
        }
    }
}

/// The first host of the existing file, as a default.
fn first_host(before: &Source) -> Option<String> {
    Some(before.sites.first()?.hosts.first()?.value.to_string())
}
