//! The app itself, past the edge.

use rustls_pki_types::ServerName;
use tokio::io::AsyncReadExt as _;

use super::{RESOLVE_TIME, Stages};
use crate::bundle::Upstream;
use crate::doctor::check::{Finding, Kind, Section};
use crate::doctor::client::{self, Between, Client, Met};
use crate::doctor::connection::{ANSWER_TIME, Connector, PROXY_HEADER, Place, Trouble};
use crate::doctor::explain::{Code, Group};
use crate::doctor::tls::{NoTls, TlsClient};

/// The app itself, past the edge.
pub(in crate::doctor) async fn app(upstream: &Upstream, stages: &Stages<'_>) -> Section {
    let mut section = Section::new(
        Kind::App,
        format!("the app itself, at {upstream}"),
        vec![("host", upstream.to_string()), ("origin", stages.target.url()), ("url", stages.target.url())],
    );
    stages.hide_secrets();
    ask(upstream, stages, &mut section).await;
    section.finish(&stages.journal);
    section
}

async fn ask(upstream: &Upstream, stages: &Stages<'_>, section: &mut Section) {
    let mut error = "its name has no address".to_owned();
    for place in places(upstream, stages).await {
        let connector = Connector {
            authority: stages.target.authority(),
            ..Connector::new(place, stages.deadline, stages.journal.clone())
        };
        match connector.open().await {
            Ok(_) => {
                section.passed(Group::Port, "it accepts connections");
                return converse(upstream, &connector, stages, section).await;
            }
            Err(Trouble::TimeUp) => return section.found(client::time_up()),
            Err(trouble) => error = client::describe(&trouble),
        }
    }
    let message =
        format!("the app does not accept connections at {upstream}: start it, or correct the address");
    section.found(Finding::new(Code::AppDown, message).seen("seen", error));
}

async fn places(upstream: &Upstream, stages: &Stages<'_>) -> Vec<Place> {
    match upstream {
        Upstream::Address(address) => vec![Place::Tcp(*address)],
        Upstream::Unix(path) => vec![Place::Unix(path.clone())],
        // getaddrinfo(3) knows the number of an interface as well.
        Upstream::Zoned { ip, zone, port } => looked_up(format!("{ip}%{zone}"), *port, stages).await,
        Upstream::Name { host, port } => looked_up(host.clone(), *port, stages).await,
    }
}

async fn looked_up(host: String, port: u16, stages: &Stages<'_>) -> Vec<Place> {
    let found = stages.deadline.wait(RESOLVE_TIME, tokio::net::lookup_host((host, port))).await;
    found.ok().and_then(Result::ok).map(|found| found.map(Place::Tcp).collect()).unwrap_or_default()
}

async fn converse(upstream: &Upstream, connector: &Connector, stages: &Stages<'_>, section: &mut Section) {
    let engine = Client {
        namespace: None,
        hold: None,
        between: Between::Nobody,
        path: stages.target.stripped_path.as_deref().unwrap_or(&stages.target.path),
        ..stages.engine(connector, true)
    };
    let met = engine.begin().await;
    if met.as_ref().is_some_and(may_be_tls) && speaks_tls(connector).await {
        let message = format!(
            "the app expects TLS at {upstream}, but the edge uses plain HTTP to it: name its plain port"
        );
        section.found(Finding::new(Code::AppTls, message));
        return;
    }
    if met.as_ref().is_some_and(is_no_http)
        && let Some(finding) = another_protocol(connector, stages).await
    {
        section.found(finding);
        return;
    }
    engine.go_on(met, section).await;
}

/// Whether the app expects TLS: no answer to plain HTTP, an alert instead, or a 400 that says so (nginx, Apache, Go).
fn may_be_tls(met: &Met) -> bool {
    match met {
        Met::Trouble(trouble) => !matches!(trouble, Trouble::TimeUp),
        Met::Other(_, answer) => answer.status == 400 && answer.body.to_ascii_lowercase().contains("https"),
        Met::Open(..) | Met::Error(..) => false,
    }
}

/// Whether a TLS handshake with the same address succeeds.
async fn speaks_tls(connector: &Connector) -> bool {
    let (Some(client), Ok(name)) = (TlsClient::new(rustls::ALL_VERSIONS), ServerName::try_from("localhost"))
    else {
        return false;
    };
    let tls = Connector { tls: Some((client, name)), ..connector.clone() };
    match tls.open().await {
        Ok(_) => true,
        // An alert is an answer in TLS.
        Err(Trouble::Tls(trouble)) => matches!(trouble, NoTls::Alert(_) | NoTls::Refused(_)),
        Err(_) => false,
    }
}

/// The app's port answers, but not to HTTP/1.1: checks whether it expects a PROXY header first, or another version.
async fn another_protocol(connector: &Connector, stages: &Stages<'_>) -> Option<Finding> {
    let proxied = Connector { preface: PROXY_HEADER, ..connector.clone() };
    if let Some(Met::Open(..)) = stages.engine(&proxied, false).begin().await {
        let message = "the app expects the PROXY protocol: disable it in the app, or let the proxy send it (sanedge.toml: send_proxy_protocol = 1 or 2)";
        return Some(Finding::new(Code::AppProxyProtocol, message).seen("with it", "Engine.IO answers"));
    }
    if speaks_http2(connector).await {
        let message =
            "the app supports HTTP/2 only (h2c), and proxies use HTTP/1.1: start an HTTP/1.1 server in it";
        return Some(Finding::new(Code::AppHttp2, message).seen("to HTTP/2", "a SETTINGS frame"));
    }
    None
}

/// Whether a connection preface is answered by SETTINGS (RFC 9113 §3.4).
async fn speaks_http2(connector: &Connector) -> bool {
    const SETTINGS: u8 = 4;
    let preface =
        Connector { preface: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", ..connector.clone() };
    let Ok(mut connection) = preface.open().await else { return false };
    let mut header = [0; 9];
    let read = connector.in_time(ANSWER_TIME, connection.io.read_exact(&mut header)).await;
    matches!(read, Ok(Ok(_))) && header[3] == SETTINGS
}

/// Whether this is not an answer of an HTTP/1.1 app: a closed connection, other bytes, or a bare 400 (Node's, to what it cannot parse).
fn is_no_http(met: &Met) -> bool {
    match met {
        Met::Trouble(Trouble::Closed | Trouble::Malformed(_)) => true,
        Met::Other(_, answer) => answer.status == 400 && answer.body.is_empty(),
        _ => false,
    }
}
