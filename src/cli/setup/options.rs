//! The options of `sanedge setup` and what they mean.

use std::path::PathBuf;

use super::told::Stop;
use crate::bundle::private::is_top_level;
use crate::doctor::options;
use crate::names::Host;
use crate::setup::edit::{Acme, Issuer, STAGING, is_of_network};

/// Before the command, if it was typed with sudo.
pub(super) const SUDO: &str = "sudo ";
/// The path in the packaged units.
const FILE: &str = "/etc/sanedge/sanedge.toml";

/// The options of `sanedge setup`.
#[derive(clap::Args, Clone, Debug)]
pub(in crate::cli) struct Options {
    /// The name that clients will connect to, such as socket.recre.store.
    #[arg(value_name = "HOST")]
    pub(super) host: Option<String>,
    /// Where the app listens: a port of this machine, `ADDRESS:PORT`, `NAME:PORT` or `unix:PATH`.
    #[arg(long, value_name = "PORT")]
    pub(super) app: Option<String>,
    /// Connect to this namespace at the end, as in the client's URL; the app sees a client connect and disconnect.
    #[arg(long, value_name = "/NAME", value_parser = options::namespace)]
    pub(super) namespace: Option<String>,
    /// Mail address for the CA.
    #[arg(long, value_name = "ADDRESS")]
    pub(super) email: Option<String>,
    /// You have read and agree to the CA's terms of service.
    #[arg(long)]
    pub(super) agree: bool,
    /// Obtain a certificate for trials, from Let's Encrypt's staging CA; clients refuse it.
    #[arg(long, conflicts_with_all = ["directory", "certificate"])]
    pub(super) staging: bool,
    /// Obtain the certificate from the CA with this ACME directory: an https URL, or a name such as `letsencrypt`.
    #[arg(long, value_name = "URL", conflicts_with = "certificate")]
    pub(super) directory: Option<String>,
    /// PEM file with the roots of that CA, if it is private.
    #[arg(long, value_name = "FILE", requires = "directory")]
    pub(super) trust: Option<PathBuf>,
    /// Use this certificate: PEM files of its chain and of its key.
    #[arg(long, num_args = 2, value_names = ["CHAIN", "KEY"])]
    pub(super) certificate: Vec<PathBuf>,
    /// Let a local CA on this machine issue the certificate, for a name or address of your own network; clients have to trust that CA once.
    #[arg(long, conflicts_with_all = ["staging", "directory", "certificate", "email", "agree"])]
    pub(super) local: bool,
    /// Start no units of systemd: for a container, where `sanedge serve` is started by other means.
    #[arg(long)]
    pub(super) no_units: bool,
    /// The sanedge.toml to write or change.
    #[arg(long, value_name = "FILE", default_value = FILE)]
    pub(super) file: PathBuf,
    /// Restart the edge if the change needs a new process, even if that closes WebSockets.
    #[arg(long)]
    pub(super) restart: bool,
    /// Write the changes without asking.
    #[arg(long, short)]
    pub(super) yes: bool,
    /// Print one JSON document, and ask nothing.
    #[arg(long)]
    pub(super) json: bool,
    /// For setup itself: answers one question on stdin without root's rights.
    #[arg(long, hide = true)]
    pub(super) look: bool,
}

/// A name that may have a certificate, or an address if the local CA may issue for it.
pub(super) fn parse_host(text: &str, by_local: ByLocal) -> Result<Host, String> {
    let expected = || "expected a name such as socket.recre.store, without https:// and port";
    let host = Host::parse(text).map_err(|error| format!("{}: {error}", expected()))?;
    let is_possible = match by_local {
        ByLocal::No => false,
        ByLocal::OfNetwork => is_of_network(&host),
        ByLocal::Yes => true,
    };
    match host {
        Host::Ip(_) if !is_possible => Err(format!(
            "{}: most CAs issue no certificate for an address; with --local, a local CA does",
            expected()
        )),
        Host::Dns(_) if is_possible && is_top_level(&host) => Err(format!(
            "expected a name below one of private networks: write {host}.local or {host}.home.arpa"
        )),
        host => Ok(host),
    }
}

/// For which hosts the local CA may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ByLocal {
    No,
    /// Those that no public CA issues for.
    OfNetwork,
    Yes,
}

/// The app's address in the form of `upstream`.
pub(super) fn parse_app(text: &str) -> Result<String, String> {
    match text.parse::<u16>() {
        Ok(0) => Err("expected a port from 1 to 65535".to_owned()),
        Ok(port) => Ok(format!("127.0.0.1:{port}")),
        Err(_) => options::upstream(text).map(|upstream| upstream.to_string()),
    }
}

/// Whether the options say where the certificate is to come from.
pub(super) fn names_issuer(options: &Options) -> bool {
    options.local || options.staging || options.directory.is_some() || !options.certificate.is_empty()
}

/// Where the certificate is to come from.
pub(super) fn issuer(options: &Options) -> Result<Issuer, Stop> {
    let whole = |path: &PathBuf| std::path::absolute(path).map_err(|error| Stop::Usage(error.to_string()));
    if let [chain, key] = options.certificate.as_slice() {
        return Ok(Issuer::Files { chain: whole(chain)?, key: whole(key)? });
    }
    if options.local {
        return Ok(Issuer::Local);
    }
    let staging = options.staging.then(|| STAGING.to_owned());
    Ok(Issuer::Acme(Acme {
        directory: options.directory.clone().or(staging),
        trust: options.trust.as_ref().map(whole).transpose()?,
        contact: options.email.clone(),
    }))
}
