//! A private key that a server sends, or that the command line of `sanedge doctor` holds, is in no report: text, JSON and the one to
//! paste. What servers say in words stays.
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sanedge::doctor::{self, Options};

use crate::support::each;
use crate::support::secret::Secret;

/// What the server does with a connection: the head of the request in, bytes out; `None` closes.
type Says = fn(&Head, &str) -> Vec<u8>;

struct Head {
    line: String,
    key: Option<String>,
}

impl Head {
    fn has(&self, word: &str) -> bool {
        self.line.contains(word)
    }
}

fn answer(status: &str, fields: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{fields}Connection: close\r\n\r\n{body}", body.len())
        .into_bytes()
}

fn field(name: &str, text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("{name}: {plain}\r\n")
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

const OPEN: &str = r#"0{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;

/// A server of Engine.IO by polling, whose polls bring `packet`.
fn polled(head: &Head, packet: &str) -> Vec<u8> {
    match head.key {
        Some(_) => answer("400 Bad Request", "", r#"{"code":3,"message":"Bad request"}"#),
        None if head.has("POST") => answer("200 OK", "", "ok"),
        None if head.has("sid=") => answer("200 OK", "", packet),
        None => answer("200 OK", "", OPEN),
    }
}

/// The same, with a WebSocket that sends one frame.
fn framed(head: &Head, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let Some(key) = &head.key else { return polled(head, "6") };
    let joined = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, joined.as_bytes());
    let accept = STANDARD.encode(digest);
    let payload = &payload[..payload.len().min(if opcode == 8 { 125 } else { 60_000 })];
    let mut sent = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )
    .into_bytes();
    sent.push(0x80 | opcode);
    match payload.len() {
        short if short < 126 => sent.push(short as u8),
        long => {
            sent.push(126);
            sent.extend((long as u16).to_be_bytes());
        }
    }
    sent.extend(payload);
    sent
}

/// Each place of an answer from which a text gets into a report.
const SAYS: &[(&str, Says)] = &[
    ("bytes that are no HTTP", |_, text| text.as_bytes().to_vec()),
    ("the reason", |_, text| answer(&format!("404 {}", text.replace(['\r', '\n'], " ")), "", "")),
    ("Server", |_, text| answer("404 Not Found", &field("Server", text), "")),
    ("X-Powered-By", |_, text| answer("502 Bad Gateway", &field("X-Powered-By", text), "")),
    ("Location", |_, text| answer("302 Found", &field("Location", text), "")),
    ("Location of a login", |_, text| {
        answer("302 Found", &field("Location", &format!("/login?back={text}")), "")
    }),
    ("Content-Type", |_, text| answer("200 OK", &field("Content-Type", text), "x")),
    ("Set-Cookie", |_, text| answer("200 OK", &field("Set-Cookie", &format!("a={text}; Path=/")), OPEN)),
    ("WWW-Authenticate", |_, text| answer("401 Unauthorized", &field("WWW-Authenticate", text), "")),
    ("Access-Control-Allow-Origin", |head, text| {
        answer(
            "200 OK",
            &field("Access-Control-Allow-Origin", text),
            if head.has("sid=") { "6" } else { OPEN },
        )
    }),
    ("Sanedge-Error", |_, text| answer("502 Bad Gateway", &field("Sanedge-Error", text), "")),
    ("Retry-After", |_, text| answer("429 Too Many Requests", &field("Retry-After", text), "")),
    ("CF-Ray", |_, text| {
        answer("403 Forbidden", &(field("CF-Ray", text) + "Server: cloudflare\r\n"), "error code: 1020")
    }),
    ("Via", |_, text| answer("503 Service Unavailable", &field("Via", text), "")),
    ("X-Sanedge", |_, text| answer("403 Forbidden", &field("X-Amzn-ErrorType", text), "")),
    ("a body", |_, text| answer("200 OK", "", text)),
    ("a body of a 500", |_, text| answer("500 Internal Server Error", "", text)),
    ("a title", |_, text| answer("404 Not Found", "", &format!("<html><title>{text}</title></html>"))),
    ("a page", |_, text| {
        answer("404 Not Found", "", &format!("<!DOCTYPE html><body><pre>Cannot GET {text}</pre>"))
    }),
    ("an attribute", |_, text| answer("404 Not Found", "", &format!("<html><p id=\"{text}\">x"))),
    ("a path that was asked for", |_, text| answer("404 Not Found", "", &format!("Cannot GET /{text}/"))),
    ("an error of Engine.IO", |_, text| {
        answer("400 Bad Request", "", &format!("{{\"code\":4,\"message\":{}}}", json(text)))
    }),
    ("another error of Engine.IO", |_, text| {
        answer("400 Bad Request", "", &format!("{{\"code\":9,\"message\":{}}}", json(text)))
    }),
    ("a sid", |head, text| match head.has("sid=") {
        true => answer("400 Bad Request", "", &format!("{{\"code\":1,\"message\":{}}}", json(text))),
        false => answer(
            "200 OK",
            "",
            &OPEN.replace("lv_VI97HAXpY6yYWAAAC", &text.replace(['"', '\\', '\n', '\r'], "")),
        ),
    }),
    ("an upgrade", |_, text| {
        answer("200 OK", "", &OPEN.replace("websocket", &text.replace(['"', '\\', '\n', '\r'], "")))
    }),
    ("a poll", polled),
    ("a refusal of the namespace", |head, text| polled(head, &format!("44{{\"message\":{}}}", json(text)))),
    ("an old refusal of the namespace", |head, text| polled(head, &format!("44{}", json(text)))),
    ("a message of the WebSocket", |head, text| framed(head, 1, text.as_bytes())),
    ("a refusal on the WebSocket", |head, text| {
        framed(head, 1, format!("44{{\"message\":{}}}", json(text)).as_bytes())
    }),
    ("a reason to close", |head, text| {
        framed(head, 8, &[&1008u16.to_be_bytes()[..], text.as_bytes()].concat())
    }),
    ("an extension", |head, text| match head.key {
        Some(_) => answer("101 Switching Protocols", &field("Sec-WebSocket-Extensions", text), ""),
        None => polled(head, "6"),
    }),
    ("an answer to the upgrade", |head, text| match head.key {
        Some(_) => answer("403 Forbidden", "", text),
        None => polled(head, "6"),
    }),
];

struct Server {
    address: SocketAddr,
}

impl Server {
    fn start(says: Says, text: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let text: Arc<str> = text.into();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let text = Arc::clone(&text);
                std::thread::spawn(move || drop(serve(stream, says, &text)));
            }
        });
        Self { address }
    }
}

fn serve(mut stream: TcpStream, says: Says, text: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut head = Head { line: String::new(), key: None };
    reader.read_line(&mut head.line)?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? < 3 {
            break;
        }
        if let Some((name, value)) =
            line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"))
        {
            assert!(!name.is_empty());
            head.key = Some(value.trim().to_owned());
        }
    }
    let is_open = head.key.is_some();
    stream.write_all(&says(&head, text))?;
    // A WebSocket ends when the client has read it.
    while is_open && reader.fill_buf().is_ok_and(|more| !more.is_empty()) {
        let length = reader.buffer().len();
        reader.consume(length);
    }
    stream.shutdown(std::net::Shutdown::Write)
}

fn options(words: &[&str]) -> Result<Options, clap::Error> {
    use clap::{Args as _, FromArgMatches as _};
    let command = Options::augment_args(clap::Command::new("doctor"));
    let given = command.try_get_matches_from([&["doctor", "--timeout", "3s"], words].concat())?;
    Options::from_arg_matches(&given)
}

/// Everything that doctor can print of one run.
fn reports(words: &[&str]) -> String {
    let options = match options(words) {
        Ok(options) => options,
        // The command line's own errors: tests/leaks.rs.
        Err(_) => return String::new(),
    };
    match doctor::run(&options) {
        Ok(report) => {
            doctor::render::text(&report, false, true)
                + &doctor::render::json(&report).to_string()
                + &doctor::render::summary(&report)
                + &doctor::paste::text(&report, &options)
                + &doctor::foreword(&options).unwrap_or_default()
        }
        Err(usage) => usage,
    }
}

/// How many at a time: most of a run is waiting.
const THREADS: usize = 12;

#[test]
fn a_key_that_a_server_sends_is_in_no_report() {
    let secret = Secret::new();
    let shapes = secret.shapes();
    let jobs: Vec<_> = SAYS
        .iter()
        .enumerate()
        .flat_map(|(at, row)| (0..2).map(move |nth| (at * 2 + nth * 7, row)))
        .collect();
    let said_more = Mutex::new(0);
    each(THREADS, &jobs, |(nth, (place, says))| {
        let (shape, text) = &shapes[nth % shapes.len()];
        let server = Server::start(*says, text);
        let url = format!("http://{}", server.address);
        let said = reports(&[&url, "--namespace", "/", "--origin", "https://recre.store"]);
        assert!(said.len() > 200, "{place}: {said}");
        if let Some(part) = secret.shown_in(said.as_bytes()) {
            panic!("{shape} as {place}: shows {part}\n{said}");
        }
        *said_more.lock().unwrap() += usize::from(said.contains("hidden]"));
    });
    assert!(*said_more.lock().unwrap() > 10, "the reports show where the keys were");
}

#[test]
fn a_key_on_the_command_line_is_in_no_report() {
    let secret = Secret::new();
    let shapes = secret.shapes();
    let arguments = ["--path", "--namespace", "--origin", "--query", "--header", "--cookie", "--auth"];
    let jobs: Vec<_> = arguments
        .iter()
        .flat_map(|argument| (0..shapes.len()).map(move |shape| (*argument, shape)))
        .collect();
    let tried = Mutex::new(0);
    each(THREADS, &jobs, |(argument, shape)| {
        let (shape, text) = &shapes[*shape];
        let value = match *argument {
            "--namespace" => format!("/{text}"),
            "--query" | "--auth" => format!("token={text}"),
            "--header" => format!("X-Token: {text}"),
            "--cookie" => format!("a={text}"),
            _ => text.clone(),
        };
        let value = format!("{argument}={value}");
        for says in [SAYS[15].1, polled] {
            let server = Server::start(says, "44{\"message\":\"not you\"}");
            let url = format!("http://{}", server.address);
            let mut words = vec![url.as_str(), value.as_str()];
            words.extend((*argument == "--auth").then_some("--namespace=/chat"));
            let said = reports(&words);
            *tried.lock().unwrap() += usize::from(said.len() > 200);
            if let Some(part) = secret.shown_in(said.as_bytes()) {
                panic!("{shape} as {argument}: shows {part}\n{said}");
            }
        }
    });
    assert!(*tried.lock().unwrap() > 60, "{}", tried.lock().unwrap());
}

/// The healthy twins: what a server says in words, as people search for it.
#[test]
fn the_words_of_a_server_are_shown() {
    let rows: &[(Says, &str, &str)] = &[
        (SAYS[15].1, "{\"code\":0,\"message\":\"Transport unknown\"}", "Transport unknown"),
        (
            |_, text| answer("400 Bad Request", "", text),
            "{\"code\":5,\"message\":\"Unsupported protocol version\"}",
            "Unsupported protocol version",
        ),
        (SAYS[17].1, "504 Gateway Time-out", "504 Gateway Time-out"),
        (SAYS[18].1, "/socket.io/", "Cannot GET /socket.io/"),
        (SAYS[2].1, "nginx/1.22.1", "nginx/1.22.1"),
        (SAYS[2].1, "Apache/2.4.57 (Debian) OpenSSL/3.0.11", "Apache/2.4.57 (Debian) OpenSSL/3.0.11"),
        (SAYS[4].1, "https://auth.recre.store/outpost.goauthentik.io/start?rd=x", "auth.recre.store"),
        (SAYS[16].1, "Error: connect ECONNREFUSED 127.0.0.1:3000", "connect ECONNREFUSED 127.0.0.1:3000"),
        (SAYS[26].1, "Authentication error: no token", "Authentication error: no token"),
        (
            |_, _| {
                answer(
                    "502 Bad Gateway",
                    "",
                    "<html>\n<head><style>a { b }</style><title>502 Bad Gateway</title></head>\n<body>\n<center><h1>502 Bad Gateway</h1></center><hr><center>nginx/1.22.1</center></body></html>",
                )
            },
            "",
            "502 Bad Gateway 502 Bad Gateway nginx/1.22.1",
        ),
    ];
    each(THREADS, rows, |(says, text, wanted)| {
        let server = Server::start(*says, text);
        let said = reports(&[&format!("http://{}", server.address), "--namespace", "/"]);
        assert!(said.contains(wanted), "{wanted} is not in\n{said}");
    });
}
