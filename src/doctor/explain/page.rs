//! The table as a page, by what the person sees.

use std::fmt::Write as _;

use super::{Code, Explanation, Group, Level, fill};
use crate::http::problem::{PROBLEMS, Problem};

/// What a person sees first, in the words of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Symptom {
    Name,
    Port,
    Certificate,
    Renewal,
    Poll,
    Websocket,
    BreaksOff,
    Browser,
    Namespace,
    Here,
}

impl Symptom {
    const ALL: [Self; 10] = [
        Self::Name,
        Self::Port,
        Self::Certificate,
        Self::Renewal,
        Self::Poll,
        Self::Websocket,
        Self::BreaksOff,
        Self::Browser,
        Self::Namespace,
        Self::Here,
    ];

    fn of(code: Code) -> Self {
        match code {
            Code::EioPollHeld
            | Code::EioPollCut
            | Code::EioPollRefused
            | Code::EioBodyLimit
            | Code::EioPingLong
            | Code::EioSidUnknown
            | Code::EioCookieNeeded
            | Code::EioCached
            | Code::EioPostRefused
            | Code::EioPostTooLarge
            | Code::EioPostLost
            | Code::WsCut
            | Code::WsHeartbeat
            | Code::WsCloses => Self::BreaksOff,
            Code::CorsMissing
            | Code::CorsOther
            | Code::CorsStar
            | Code::CorsPreflight
            | Code::CorsTwice
            | Code::MixedContent => Self::Browser,
            other => match other.group() {
                Group::Name => Self::Name,
                Group::Port => Self::Port,
                Group::Tls => Self::Certificate,
                Group::Renewal => Self::Renewal,
                Group::Http | Group::Polling => Self::Poll,
                Group::Websocket => Self::Websocket,
                Group::Namespace => Self::Namespace,
                Group::Files | Group::Board => Self::Here,
            },
        }
    }

    fn heading(self) -> &'static str {
        match self {
            Self::Name => "The name is not found",
            Self::Port => "The connection is refused, times out or closes",
            Self::Certificate => "A certificate or TLS error",
            Self::Renewal => "`sanedge renew` gets no certificate, or does not renew it",
            Self::Poll => "xhr poll error, or a status such as 400, 404, 502",
            Self::Websocket => "websocket error, or the client stays on polling",
            Self::BreaksOff => "The connection drops, or messages arrive late",
            Self::Browser => "CORS or Mixed Content in the browser's console",
            Self::Namespace => "connect_error with the app's message, Invalid namespace",
            Self::Here => "On the machine of the server: files, service, board",
        }
    }

    /// The text of each client; empty where clients say nothing.
    fn clients(self) -> [(&'static str, &'static str); 5] {
        let [browser, node, python, swift, java] = match self {
            Self::Name => [
                "net::ERR_NAME_NOT_RESOLVED; Firefox: Server Not Found",
                "xhr poll error; cause: getaddrinfo ENOTFOUND, EAI_AGAIN",
                "socketio.exceptions.ConnectionError: … Name or service not known",
                "NSURLErrorDomain -1003: A server with the specified hostname could not be found",
                "EngineIOException: xhr poll error; cause: java.net.UnknownHostException",
            ],
            Self::Port => [
                "net::ERR_CONNECTION_REFUSED, ERR_CONNECTION_TIMED_OUT, ERR_CONNECTION_CLOSED, ERR_SSL_PROTOCOL_ERROR",
                "xhr poll error; cause: connect ECONNREFUSED, ETIMEDOUT, ECONNRESET, EPROTO wrong version number",
                "socketio.exceptions.ConnectionError: … Connection refused, timed out, WRONG_VERSION_NUMBER",
                "NSURLErrorDomain -1004: Could not connect to the server; -1001: The request timed out",
                "EngineIOException: xhr poll error; cause: java.net.ConnectException, SocketTimeoutException",
            ],
            Self::Certificate => [
                "net::ERR_CERT_COMMON_NAME_INVALID, ERR_CERT_DATE_INVALID, ERR_CERT_AUTHORITY_INVALID; Firefox: SSL_ERROR_BAD_CERT_DOMAIN",
                "xhr poll error; cause: Hostname/IP does not match certificate's altnames, CERT_HAS_EXPIRED, UNABLE_TO_VERIFY_LEAF_SIGNATURE",
                "socketio.exceptions.ConnectionError: … CERTIFICATE_VERIFY_FAILED",
                "NSURLErrorDomain -1202: The certificate for this server is invalid; -1200: A TLS error caused the secure connection to fail",
                "EngineIOException: xhr poll error; cause: SSLPeerUnverifiedException: Hostname not verified, SSLHandshakeException: Trust anchor for certification path not found",
            ],
            Self::Poll => [
                "connect_error: xhr poll error; the network tab shows the status; Failed to load resource",
                "connect_error: xhr poll error; error.context.status is the status",
                "socketio.exceptions.ConnectionError: Unexpected status code 400 in server response; OPEN packet not returned by server",
                "SocketEngine: Got error during polling request; status code 400",
                "EngineIOException: xhr poll error; cause: java.io.IOException: 400",
            ],
            Self::Websocket => [
                "WebSocket connection to 'wss://…' failed: Unexpected response code: 400; connect_error: websocket error",
                "connect_error: websocket error; error.description: Unexpected server response: 400",
                "socketio.exceptions.ConnectionError: Connection error; WebSocket upgrade failed",
                "HTTPUpgradeError.notAnUpgrade(400)",
                "EngineIOException: websocket error; cause: java.net.ProtocolException: Expected HTTP 101 response but was '400 Bad Request'",
            ],
            Self::BreaksOff => [
                "disconnect: transport close, transport error, ping timeout; xhr post error",
                "disconnect: transport close, transport error, ping timeout; xhr post error",
                "engineio: packet queue is empty, aborting; Unexpected status code 400 in server response, aborting",
                "disconnect: Ping timeout; Session ID unknown",
                "disconnect: transport close, transport error, ping timeout; EngineIOException: xhr post error",
            ],
            Self::Browser => [
                "Access to XMLHttpRequest at '…' from origin '…' has been blocked by CORS policy; Mixed Content: …",
                "",
                "",
                "",
                "",
            ],
            Self::Namespace => [
                "connect_error: the app's message; Invalid namespace",
                "connect_error: the app's message; Invalid namespace",
                "socketio.exceptions.ConnectionError: One or more namespaces failed to connect",
                "error: the app's message",
                "connect_error: {\"message\":\"…\"}",
            ],
            Self::Renewal | Self::Here => ["", "", "", "", ""],
        };
        [("Browser", browser), ("Node", node), ("Python", python), ("Swift", swift), ("Java, Android", java)]
    }

    fn codes(self) -> impl Iterator<Item = Code> {
        Code::ALL.iter().copied().filter(move |code| Self::of(*code) == self)
    }
}

/// `docs/errors.md`: the whole table as a page, with example words in the braces.
pub fn page() -> String {
    let mut page = "# Findings of `sanedge doctor`\n\n\
        Sorted by what clients show. To search by an error message, open [errors.html](errors.html), or let `sanedge doctor https://socket.recre.store` find the cause. This page is generated from `src/doctor/explain.rs`.\n"
        .to_owned();
    for symptom in Symptom::ALL {
        let _ = write!(page, "\n## {}\n", symptom.heading());
        let said: Vec<_> = symptom.clients().into_iter().filter(|(_, text)| !text.is_empty()).collect();
        if !said.is_empty() {
            page.push_str("\n| client | says |\n|---|---|\n");
            for (client, text) in said {
                let _ = writeln!(page, "| {client} | {} |", text.replace('|', "\\|"));
            }
        }
        symptom.codes().for_each(|code| entry(&mut page, code));
    }
    page
}

fn entry(page: &mut String, code: Code) {
    let level = if code.level() == Level::Fail { "FAIL" } else { "warn" };
    entry_of(page, &format!("`{}` ({level})", code.as_str()), code.explanation(), example);
}

/// One code with its explanation; `example` fills the braces.
pub(crate) fn entry_of(page: &mut String, code: &str, text: Explanation, example: impl Fn(&str) -> String) {
    let _ = write!(page, "\n### {}\n\n{code}\n", text.title);
    if !text.see.is_empty() {
        let _ = write!(page, "\nYou see:\n\n```text\n{}\n```\n", example(text.see));
    }
    let _ = write!(page, "\n{}\n\n**Do:** ", example(text.why));
    let mut fenced = false;
    for line in example(text.fix).lines() {
        let (is_code, line) = line.strip_prefix("  ").map_or((false, line), |code| (true, code));
        if is_code != fenced {
            page.push_str(if is_code { "\n```text\n" } else { "```\n\n" });
            fenced = is_code;
        }
        let _ = writeln!(page, "{line}");
    }
    if fenced {
        page.push_str("```\n");
    }
}

/// Hides what does not have every word of the box; without scripts the whole table is there.
const SCRIPT: &str =
    "const box = document.getElementById('q'), all = [...document.querySelectorAll('article')]
box.addEventListener('input', () => {
  const words = box.value.toLowerCase().split(/\\s+/).filter(Boolean)
  for (const one of all) one.hidden = !words.every(word => one.textContent.toLowerCase().includes(word))
  for (const part of document.querySelectorAll('section'))
    part.hidden = ![...part.querySelectorAll('article')].some(one => !one.hidden)
})";

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}\
    input{font:inherit;width:100%;padding:.5rem;box-sizing:border-box}pre{background:#8881;padding:.5rem;overflow-x:auto}\
    article{border-top:1px solid #8884;margin-top:1.5rem}td{vertical-align:top;padding:.1rem .6rem .1rem 0}";

/// `docs/errors.html`: the same with a search box, one static file.
pub fn html() -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n<meta name=viewport content=\"width=device-width\">\n\
         <title>What went wrong: sanedge doctor</title>\n<style>{STYLE}</style>\n<h1>What went wrong</h1>\n\
         <p><label>Paste the message that you see: <input id=q type=search autofocus></label></p>\n"
    );
    for symptom in Symptom::ALL {
        let _ = writeln!(out, "<section>\n<h2>{}</h2>", escaped(symptom.heading()));
        let rows = symptom.clients().into_iter().filter(|(_, text)| !text.is_empty());
        let rows: String =
            rows.map(|(client, text)| format!("<tr><td>{client}<td>{}\n", escaped(text))).collect();
        if !rows.is_empty() {
            let _ = write!(out, "<table>\n{rows}</table>\n");
        }
        symptom.codes().for_each(|code| article(&mut out, code));
        out.push_str("</section>\n");
    }
    let _ = write!(out, "<script>\n{SCRIPT}\n</script>\n</html>\n");
    out
}

fn article(out: &mut String, code: Code) {
    let text = code.explanation();
    let name = code.as_str();
    let _ =
        writeln!(out, "<article id={name}>\n<h3>{}</h3>\n<p><code>{name}</code></p>", escaped(text.title));
    for (label, text) in [("You see", text.see), ("Why", text.why), ("Do", text.fix)] {
        let text = example(text);
        if !text.is_empty() {
            let tag = if label == "Why" { "p" } else { "pre" };
            let _ = writeln!(out, "<p><b>{label}</b></p>\n<{tag}>{}</{tag}>", escaped(&text));
        }
    }
    out.push_str("</article>\n");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Words that stand in the braces on the page.
pub(super) const EXAMPLES: &[(&str, &str)] = &[
    ("host", "socket.recre.store"),
    ("url", "https://socket.recre.store"),
    ("origin", "https://socket.recre.store"),
    ("port", "443"),
    ("path", "/socket.io/"),
    ("found_path", "/game/socket.io/"),
    ("altnames", "DNS:recre.store"),
    ("issue", "certbot certonly --expand -d recre.store -d socket.recre.store"),
    ("page", "https://recre.store"),
    ("namespace", "/catch"),
    (
        "advice",
        "Add this line to the site in sanedge.toml, below its [[site]]:\n  origins = ['https://recre.store']\nIf it has a line of `origins` already, put 'https://recre.store', with its comma, at the beginning of that list.",
    ),
    ("location", "https://socket.recre.store/socket.io/"),
    ("file", "sanedge.toml"),
    ("acme", "sanedge.acme"),
    ("place", "/run/sanedge-acme/challenges"),
    ("eab", "/etc/sanedge/eab.key"),
    ("stop", "sudo systemctl disable --now nginx.service"),
    ("fields", "\"authorization\""),
    ("http_port", "80"),
    ("apply", "sudo sanedge apply"),
    ("load", "sanedge reload"),
    ("remedy", ""),
    ("part", "the cookie"),
];

fn example(text: &str) -> String {
    let text = text.replace("{remedy}", &remedies());
    fill(&text, |word| {
        EXAMPLES.iter().find(|(known, _)| *known == word).map(|(_, example)| (*example).to_owned())
    })
}

/// One code a line, as a table of its own.
fn remedies() -> String {
    let row = |problem: &Problem| Some(format!("  {}: {}\n", problem.code(), problem.remedy()?));
    format!("By the code:\n{}", PROBLEMS.iter().filter_map(row).collect::<String>().trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_stands_under_one_symptom_on_both_pages() {
        assert_eq!(
            Symptom::ALL.iter().map(|symptom| symptom.codes().count()).sum::<usize>(),
            Code::ALL.len()
        );
        let (page, html) = (page(), html());
        for code in Code::ALL {
            assert_eq!(page.matches(&format!("\n`{}` (", code.as_str())).count(), 1, "{code:?}");
            assert_eq!(html.matches(&format!("<article id={}>", code.as_str())).count(), 1, "{code:?}");
        }
        assert!(Symptom::ALL.iter().all(|symptom| symptom.codes().next().is_some()));
    }
}
