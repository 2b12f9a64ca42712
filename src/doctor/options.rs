//! What `sanedge doctor` is asked: its command line as values.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};

use super::check::Check;
use crate::bundle::{Upstream, source};
use crate::excerpt::Excerpt;
use crate::limits;
use crate::names::{Host, Origin};

/// The options of `sanedge doctor`.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Options {
    /// What to check: https:// or wss:// URLs, bundles, sanedge.toml files; may be repeated.
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
    /// Check every host of the sanedge.toml in this folder or in /etc/sanedge.
    #[arg(long)]
    pub from_config: bool,
    /// Print one JSON document (docs/doctor-json.md).
    #[arg(long)]
    pub json: bool,
    /// Also print every request and its response.
    #[arg(long, short)]
    pub verbose: bool,
    /// Print a text for a bug report: versions, stages and evidence, without addresses, cookies, tokens and queries.
    #[arg(long, conflicts_with = "json")]
    pub report: bool,
    /// Path of Socket.IO, as in the client's `path` option.
    #[arg(long, value_name = "PATH", value_parser = path)]
    pub path: Option<String>,
    /// Use this Engine.IO version: 4 (socket.io-client 3 and 4) or 3 (2.x) [default: the server's].
    #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(u8).range(3..=4))]
    pub eio: Option<u8>,
    /// Use only this transport, as a client with `transports: ["polling"]` or `["websocket"]`.
    #[arg(long, value_name = "TRANSPORT")]
    pub transport: Option<Transport>,
    /// Connect to this namespace, as in the client's URL; the app sees a client connect and disconnect.
    #[arg(long, value_name = "/NAME", value_parser = namespace)]
    pub namespace: Option<String>,
    /// Send this in the query, as in the client's `query` option; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub query: Vec<(String, String)>,
    /// Send this when joining the namespace, as in the client's `auth` option; may be repeated. Socket.IO 2.x has no `auth`. The output
    /// masks values of four or more characters.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair, requires = "namespace")]
    pub auth: Vec<(String, String)>,
    /// Connect as a page of this origin, with the browser's CORS checks, or as a program that sends this Origin: `wss://host`, `file://`.
    #[arg(long, value_name = "ORIGIN", value_parser = origin)]
    pub origin: Option<String>,
    /// Send this field with every request; may be repeated. The report masks its value.
    #[arg(long, value_name = "NAME: VALUE", value_parser = field)]
    pub header: Vec<(HeaderName, HeaderValue)>,
    /// Send this Cookie, as with `withCredentials`. The report masks it.
    #[arg(long, value_name = "NAME=VALUE", value_parser = cookie)]
    pub cookie: Option<HeaderValue>,
    /// Keep no cookies that the server sets, like Node and pages of another origin.
    #[arg(long)]
    pub no_cookies: bool,
    /// Use this address for a host instead of asking DNS; may be repeated.
    #[arg(long, value_name = "HOST:ADDRESS", value_parser = resolve)]
    pub resolve: Vec<(Host, IpAddr)>,
    /// Also ask this name server, such as 9.9.9.9, and compare. Without this option, 9.9.9.9 is queried only if the
    /// system's resolver gives no address for the name.
    #[arg(long, value_name = "ADDRESS")]
    pub dns: Option<IpAddr>,
    /// Also trust the roots in this PEM file, as with NODE_EXTRA_CA_CERTS.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Send cookies, fields, query and namespace even if the certificate is not valid.
    #[arg(long)]
    pub insecure: bool,
    /// Keep a WebSocket open for this long (`90s`), to see whether it is cut and whether the heartbeat arrives.
    #[arg(long, value_name = "TIME", value_parser = limits::parse_duration)]
    pub hold: Option<Duration>,
    /// Also check the app behind the edge directly, at this address: `127.0.0.1:3002`.
    #[arg(long, value_name = "ADDRESS", value_parser = upstream)]
    pub upstream: Vec<Upstream>,
    /// Time limit of the whole run, besides --hold.
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = limits::parse_duration)]
    pub timeout: Duration,
    /// For a program: gets each check when it is done.
    #[arg(skip)]
    pub progress: Option<Progress>,
}

/// Gets a check while the run goes on.
pub type Progress = fn(&Check);

/// A way of Engine.IO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Transport {
    /// HTTP long-polling.
    Polling,
    /// WebSocket.
    Websocket,
}

impl Options {
    /// For one target, and otherwise as a command line without options.
    pub(crate) fn of(target: String, timeout: Duration) -> Self {
        Self { targets: vec![target], timeout, ..Self::default() }
    }

    /// Whether the address of a host is given by `--resolve`.
    pub(super) fn is_given(&self, host: &Host) -> bool {
        self.resolve.iter().any(|(name, _)| name == host)
    }

    /// What of these would tell a stranger something: named for the report, never shown. `query`: there is one, here or in
    /// the target's URL.
    pub fn private(&self, query: bool) -> Vec<&'static str> {
        let given = [
            (query, "query"),
            (!self.header.is_empty(), "header"),
            (self.cookie.is_some(), "cookie"),
            (self.namespace.is_some(), "namespace"),
            (!self.auth.is_empty(), "auth"),
        ];
        given.into_iter().filter_map(|(given, name)| given.then_some(name)).collect()
    }
}

/// With a slash at both ends, as Engine.IO has it.
fn path(text: &str) -> Result<String, String> {
    let plain = text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#'));
    if !plain || text.is_empty() {
        return Err("expected a path such as /socket.io/, without a query".to_owned());
    }
    Ok(format!("/{}/", text.trim_matches('/')).replace("//", "/"))
}

/// For `--namespace`.
pub(crate) fn namespace(text: &str) -> Result<String, String> {
    let plain = text.chars().all(|c| !c.is_control() && c != ',');
    if !plain || !text.starts_with('/') {
        return Err("expected a namespace such as /catch, beginning with a slash".to_owned());
    }
    Ok(text.to_owned())
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// A page's origin as browsers write it, whatever else a client can send as it is. An http URL with a path is a page's
/// address, which no client sends.
fn origin(text: &str) -> Result<String, String> {
    HeaderValue::from_bytes(text.as_bytes()).map_err(|_| "expected an origin without control characters")?;
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    let scheme = scheme.as_deref().unwrap_or_default();
    let bare = match scheme {
        "http" | "https" | "ws" | "wss" => text.strip_suffix('/').unwrap_or(text),
        _ => text,
    };
    match Origin::parse(bare) {
        Ok(Origin::Web { scheme, host, port }) if scheme.is_of_pages() => {
            Ok(Origin::Web { scheme, host, port }.to_string())
        }
        Err(error) if matches!(scheme, "http" | "https") => Err(error.to_string()),
        _ => Ok(bare.to_owned()),
    }
}

/// Neither value is repeated in an error: it may be a secret.
fn field(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("expected NAME: VALUE")?;
    let name = HeaderName::from_bytes(name.trim().as_bytes())
        .map_err(|_| "expected a field name before the colon")?;
    Ok((name, secret(value)?))
}

fn cookie(text: &str) -> Result<HeaderValue, String> {
    secret(text)
}

fn secret(text: &str) -> Result<HeaderValue, String> {
    let mut value =
        HeaderValue::from_str(text.trim()).map_err(|_| "a value without line ends and controls")?;
    value.set_sensitive(true);
    Ok(value)
}

fn resolve(text: &str) -> Result<(Host, IpAddr), String> {
    let (host, address) = text.split_once(':').ok_or("expected HOST:ADDRESS")?;
    let address = address.trim_start_matches('[').trim_end_matches(']');
    let address = address.parse().map_err(|_| format!("`{}` is not an address", Excerpt::of(address)))?;
    Ok((Host::parse(host).map_err(|error| error.to_string())?, address))
}

/// For `--upstream`.
pub(crate) fn upstream(text: &str) -> Result<Upstream, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok(Upstream::Unix(path.into()));
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        return Err(source::without_scheme(&scheme.to_ascii_lowercase(), rest));
    }
    if let Some(zoned) = source::zoned_upstream(text) {
        return zoned;
    }
    if let Ok(address) = text.parse() {
        return Ok(Upstream::Address(address));
    }
    let (host, port) = text.rsplit_once(':').ok_or("expected an address with its port, or unix:PATH")?;
    let port = port.parse().map_err(|_| format!("`{}` is not a port", Excerpt::of(port)))?;
    Host::parse(host).map_err(|error| error.to_string())?;
    Ok(Upstream::Name { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_whatever_a_client_can_send() {
        for (text, sent) in [
            ("https://Recre.store:443/", "https://recre.store"),
            ("http://recre.store", "http://recre.store"),
            ("http://localhost:5173", "http://localhost:5173"),
            ("wss://socket.recre.store/", "wss://socket.recre.store"),
            ("WSS://Socket.recre.store:443", "WSS://Socket.recre.store:443"),
            ("file://", "file://"),
            ("file:///", "file:///"),
            ("capacitor://localhost", "capacitor://localhost"),
            (
                "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
                "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
            ),
            ("null", "null"),
            ("", ""),
            ("recre.store", "recre.store"),
            ("app://é", "app://é"),
        ] {
            assert_eq!(origin(text).as_deref(), Ok(sent), "{text}");
        }
        for text in
            ["https://recre.store/app", "http://a b", "https://", "https://*.recre.store", "file://\n", "a\0"]
        {
            assert!(origin(text).is_err(), "{text:?}");
        }
    }
}
