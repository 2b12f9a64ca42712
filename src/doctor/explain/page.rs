//! The table as a page.

use std::fmt::Write as _;

use super::{Code, EDGE_REMEDIES, Group, Level, fill};

/// `docs/errors.md`: the whole table as a page, with example words in the braces.
pub fn page() -> String {
    let mut page = "# What went wrong: every finding of `sanedge doctor`\n\n\
        Made from the program's own table (`src/doctor/explain.rs`); a test holds this page to it. Look for the message \
        that you see, or type `sanedge doctor https://socket.recre.store`, and it looks for you.\n"
        .to_owned();
    let mut group = None;
    for code in Code::ALL {
        if group != Some(code.group()) {
            group = Some(code.group());
            let _ = write!(page, "\n## {}\n", heading(code.group()));
        }
        entry(&mut page, *code);
    }
    page
}

fn heading(group: Group) -> &'static str {
    match group {
        Group::Files => "Files: sanedge.toml and the bundle",
        Group::Name => "Name: from a name to an address",
        Group::Port => "Port: from an address to a connection",
        Group::Tls => "TLS: handshake and certificate",
        Group::Http => "HTTP: through the edge",
        Group::Polling => "Engine.IO: polling",
        Group::Websocket => "Engine.IO: WebSocket",
        Group::Namespace => "Socket.IO: namespace",
        Group::Board => "On the board",
    }
}

fn entry(page: &mut String, code: Code) {
    let text = code.explanation();
    let level = if code.level() == Level::Fail { "FAIL" } else { "warn" };
    let _ = write!(page, "\n### {}\n\n`{}` ({level})\n", text.title, code.as_str());
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

/// Words that stand in the braces on the page.
pub(super) const EXAMPLES: &[(&str, &str)] = &[
    ("host", "socket.recre.store"),
    ("url", "https://socket.recre.store"),
    ("origin", "https://socket.recre.store"),
    ("port", "443"),
    ("path", "/socket.io/"),
    ("found_path", "/game/socket.io/"),
    ("altnames", "DNS:recre.store"),
    ("dnames", "-d recre.store -d socket.recre.store"),
    ("page", "https://recre.store"),
    ("namespace", "/catch"),
    (
        "advice",
        "Add this line to the site in sanedge.toml, below its [[site]]:\n  origins = ['https://recre.store']\nWhere it has a line \
         of `origins` already, put 'https://recre.store', with its comma, at the beginning of that list.",
    ),
    ("location", "https://socket.recre.store/socket.io/"),
    ("file", "sanedge.toml"),
    ("owner", "nginx"),
    ("fields", "\"authorization\""),
    ("http_port", "80"),
    ("reload", "sanedge reload"),
    ("load", "sanedge reload"),
    ("remedy", ""),
];

fn example(text: &str) -> String {
    let text = text.replace("{remedy}", &remedies());
    fill(&text, |word| {
        EXAMPLES.iter().find(|(known, _)| *known == word).map(|(_, example)| (*example).to_owned())
    })
}

/// One code a line, as a table of its own.
fn remedies() -> String {
    let row = |(code, remedy): &(&str, &str)| format!("  {code}: {remedy}\n");
    format!("By the code:\n{}", EDGE_REMEDIES.iter().map(row).collect::<String>().trim_end())
}
