//! Engine.IO and Socket.IO as a client speaks them, as far as a first meeting needs: pure text in, values out.
//!
//! Protocols: <https://socket.io/docs/v4/engine-io-protocol/> (4), <https://github.com/socketio/engine.io-protocol/tree/v3> (3),
//! <https://socket.io/docs/v4/socket-io-protocol/>.

use serde_json::Value;

/// Version of the protocol, as in the query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Eio {
    V3,
    V4,
}

/// The open packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    pub(super) sid: String,
    pub(super) upgrades: Vec<String>,
    pub(super) ping_interval_ms: u64,
    pub(super) ping_timeout_ms: u64,
    pub(super) max_payload: Option<u64>,
    /// Written as python-engineio does, whose fields have an order of their own.
    pub(super) is_of_python: bool,
}

/// An error of Engine.IO's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EngineError {
    pub(super) code: u64,
    pub(super) message: String,
}

/// What a handshake's body is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// An open packet in the framing of this version.
    Open(Eio, Open),
    /// `{"code":…,"message":…}`
    Error(EngineError),
    /// A page.
    Html,
    /// None of these.
    Other,
}

/// The answer to a namespace's CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Joined {
    Yes,
    No(String),
}

impl Eio {
    pub(super) fn number(self) -> u8 {
        match self {
            Self::V3 => 3,
            Self::V4 => 4,
        }
    }

    /// Packets of a polling body that do nothing: one noop.
    pub(super) fn noop(self) -> &'static str {
        match self {
            Self::V3 => "1:6",
            Self::V4 => "6",
        }
    }

    /// The client's half of the heartbeat as a polling body.
    pub(super) fn heartbeat(self) -> &'static str {
        match self {
            Self::V3 => "1:2",
            Self::V4 => "3",
        }
    }

    /// The close packet as a polling body.
    pub(super) fn close(self) -> &'static str {
        match self {
            Self::V3 => "1:1",
            Self::V4 => "1",
        }
    }

    /// One packet as a polling body.
    pub(super) fn framed(self, packet: &str) -> String {
        match self {
            Self::V3 => format!("{}:{packet}", packet.encode_utf16().count()),
            Self::V4 => packet.to_owned(),
        }
    }

    /// The CONNECT packet of a namespace. The query of v2 stands behind its name, and `auth` (JSON or empty) of v4 behind
    /// the comma.
    pub(super) fn connect(self, namespace: &str, query: &str, auth: &str) -> String {
        match (self, query) {
            (Self::V3, query) if !query.is_empty() => format!("40{namespace}?{query},"),
            (Self::V3, _) => format!("40{namespace},"),
            (Self::V4, _) => format!("40{namespace},{auth}"),
        }
    }
}

impl Body {
    pub(crate) fn read(body: &str) -> Self {
        if let Some(open) = body.strip_prefix('0').and_then(open) {
            return Self::Open(Eio::V4, open);
        }
        if let Some(open) = first_of_v3(body).and_then(|packet| open(packet.strip_prefix('0')?)) {
            return Self::Open(Eio::V3, open);
        }
        if let Some(error) = error(body) {
            return Self::Error(error);
        }
        let start = body.trim_start().get(..14).unwrap_or_default().to_ascii_lowercase();
        if start.starts_with("<!doctype html") || start.starts_with("<html") {
            Self::Html
        } else {
            Self::Other
        }
    }
}

/// `LENGTH:packet` of version 3, its first packet. Lengths count UTF-16 units, and an open packet is ASCII. Engine.IO 1.x
/// and old ones of Python send the binary form: 0, digits as bytes, 255 (which is not UTF-8), packet.
fn first_of_v3(body: &str) -> Option<&str> {
    if let Some(binary) = body.strip_prefix('\0') {
        let (digits, packets) = binary.split_once(char::REPLACEMENT_CHARACTER)?;
        let length = digits
            .chars()
            .fold(0_usize, |length, digit| length.saturating_mul(10).saturating_add(digit as usize));
        return packets.get(..length);
    }
    let (length, rest) = body.split_once(':')?;
    rest.get(..length.parse().ok()?)
}

/// The packets of a polling body; of a damaged one those before the damage.
pub(crate) fn packets(eio: Eio, body: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(body).filter(|body| !body.is_empty());
    std::iter::from_fn(move || {
        let text = rest?;
        let (packet, behind) = match eio {
            Eio::V4 => {
                text.split_once('\x1e').map_or((text, None), |(packet, behind)| (packet, Some(behind)))
            }
            Eio::V3 => {
                let (length, packets) = text.split_once(':')?;
                let (packet, behind) = packets.split_at_checked(utf16_end(packets, length.parse().ok()?)?)?;
                (packet, Some(behind).filter(|behind| !behind.is_empty()))
            }
        };
        rest = behind;
        Some(packet)
    })
}

/// Where so many UTF-16 units end, in bytes.
fn utf16_end(text: &str, units: usize) -> Option<usize> {
    let mut seen = 0;
    let ends = text.char_indices().map(|(at, c)| (at + c.len_utf8(), c.len_utf16()));
    std::iter::once((0, 0))
        .chain(ends)
        .find_map(|(end, width)| {
            seen += width;
            (seen >= units).then_some((seen == units).then_some(end))
        })
        .flatten()
}

/// The JSON of an open packet, in a WebSocket message as well.
pub(super) fn open(json: &str) -> Option<Open> {
    let value: Value = serde_json::from_str(json).ok()?;
    let strings = |value: &Value| value.as_str().map(str::to_owned);
    Some(Open {
        sid: value.get("sid")?.as_str()?.to_owned(),
        upgrades: value.get("upgrades")?.as_array()?.iter().filter_map(strings).collect(),
        ping_interval_ms: value.get("pingInterval")?.as_u64()?,
        ping_timeout_ms: value.get("pingTimeout")?.as_u64()?,
        max_payload: value.get("maxPayload").and_then(Value::as_u64),
        is_of_python: json.find("\"pingTimeout\"") < json.find("\"pingInterval\""),
    })
}

/// `allowRequest` may send any message, even none.
pub(super) fn error(body: &str) -> Option<EngineError> {
    let value: Value = serde_json::from_str(body).ok()?;
    let message = value
        .get("message")
        .map_or_else(String::new, |m| m.as_str().map_or_else(|| m.to_string(), str::to_owned));
    let code = value.get("code")?;
    // socketioxide writes the number in quotes.
    let code = code.as_u64().or_else(|| code.as_str()?.parse().ok())?;
    Some(EngineError { code, message })
}

/// The same error in other words: Engine.IO's own to an upgrade, which is plain text, and those of python-engineio.
pub(crate) fn error_in_words(body: &str) -> Option<EngineError> {
    const WORDS: [(&str, u64); 12] = [
        ("Transport unknown", 0),
        ("Session ID unknown", 1),
        ("Bad handshake method", 2),
        ("Bad request", 3),
        ("Forbidden", 4),
        ("Unsupported protocol version", 5),
        ("\"Invalid transport\"", 0),
        ("\"Not connected\"", 1),
        ("\"Session is disconnected\"", 1),
        ("\"Unexpected HTTP request\"", 3),
        ("\"Invalid websocket upgrade\"", 3),
        ("\"The client is using an unsupported version of the Socket.IO or Engine.IO protocols\"", 5),
    ];
    let text = body.trim();
    let exact = WORDS.iter().find(|(words, _)| *words == text).map(|(_, code)| *code);
    // With the session behind it.
    let code = exact.or_else(|| text.starts_with("\"Invalid session").then_some(1))?;
    Some(EngineError { code, message: text.trim_matches('"').to_owned() })
}

/// Whether an error is one of python-engineio: a JSON string.
pub(crate) fn is_of_python(body: &str) -> bool {
    let text = body.trim();
    text == "\"Bad Request\"" || text.starts_with('"') && error_in_words(text).is_some()
}

/// Whether a message disconnects the client from `namespace`.
pub(crate) fn leaves(message: &str, namespace: &str) -> bool {
    let own = if namespace == "/" { "" } else { namespace };
    message
        .strip_prefix("41")
        .and_then(|rest| rest.strip_prefix(own))
        .is_some_and(|rest| rest.trim_end_matches(',').is_empty())
}

/// Whether a body has the fields of an open packet, in whatever state.
pub(crate) fn looks_like_open(body: &str) -> bool {
    body.contains("\"sid\"") && (body.contains("\"upgrades\"") || body.contains("\"pingInterval\""))
}

/// Whether a message answers the CONNECT of `namespace`, and how. A server of version 2 answers for `/` unasked.
pub(crate) fn joined(message: &str, namespace: &str) -> Option<Joined> {
    let (kind, rest) = message.split_at_checked(2)?;
    let rest = match namespace {
        "/" => rest.strip_prefix("/,").unwrap_or(rest),
        name => {
            let rest = rest.strip_prefix(name)?;
            // v2 repeats the query, and sends no comma where nothing follows.
            let rest =
                rest.strip_prefix('?').map_or(rest, |rest| rest.split_once(',').map_or("", |(_, rest)| rest));
            rest.strip_prefix(',').unwrap_or(rest)
        }
    };
    match kind {
        "40" if namespace != "/" || !rest.starts_with('/') => Some(Joined::Yes),
        "44" if namespace != "/" || !rest.starts_with('/') => Some(Joined::No(refusal(rest))),
        _ => None,
    }
}

fn refusal(data: &str) -> String {
    match serde_json::from_str::<Value>(data) {
        Ok(Value::String(text)) => text,
        Ok(value) => {
            value.get("message").and_then(Value::as_str).map_or_else(|| value.to_string(), str::to_owned)
        }
        Err(_) => data.to_owned(),
    }
}

/// One value of a query, escaped as a client's `encodeURIComponent` does.
pub(super) fn escape(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.!~*'()%".contains(&b);
    text.bytes().fold(String::new(), |mut out, b| {
        if plain(b) {
            out.push(char::from(b))
        } else {
            out.push_str(&format!("%{b:02X}"))
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The edge's ear takes pieces and looks for the session only, this reads a whole body and all of it: of one body both
    /// must hear the same session.
    #[test]
    fn the_edge_hears_the_same_session() {
        use crate::engineio::{Observed, OpenObserver};
        let heard = |body: &str| match OpenObserver::body().observe(body.as_bytes()) {
            Observed::Open(open) => Some(open.sid),
            _ => None,
        };
        let read = |body: &str| match Body::read(body) {
            Body::Open(_, open) => Some(open.sid),
            _ => None,
        };
        let v3 = format!("{}:0{JSON}", JSON.len() + 1);
        for body in [
            format!("0{JSON}"),
            v3.clone(),
            format!("{v3}2:40"),
            JSON.to_owned(),
            format!("4{JSON}"),
            String::new(),
        ] {
            assert_eq!(heard(&body), read(&body), "{body}");
        }
    }

    #[test]
    fn the_binary_form_of_old_servers_is_read() {
        let packet = format!("0{JSON}");
        let digits: String = packet.len().to_string().bytes().map(|digit| char::from(digit - b'0')).collect();
        let body = format!("\0{digits}\u{fffd}{packet}");
        assert!(matches!(Body::read(&body), Body::Open(Eio::V3, open) if open.sid == "x"));
        for bad in ["\0", "\0\u{fffd}", "\0\u{1}\u{fffd}", "\0\u{fffe}\u{fffe}\u{fffe}\u{fffe}\u{fffd}0{}"] {
            assert_eq!(Body::read(bad), Body::Other, "{bad:?}");
        }
    }

    #[test]
    fn auth_stands_behind_the_comma_of_version_4() {
        assert_eq!(Eio::V4.connect("/", "a=b", ""), "40/,");
        assert_eq!(Eio::V4.connect("/x", "", "{\"t\":\"1\"}"), "40/x,{\"t\":\"1\"}");
        assert_eq!(Eio::V3.connect("/x", "a=b", "{}"), "40/x?a=b,");
        assert_eq!(joined("44/other,{\"message\":\"no\"}", "/"), None);
        assert_eq!(joined("44{\"message\":\"no\"}", "/"), Some(Joined::No("no".to_owned())));
        assert!(leaves("41", "/") && leaves("41/x,", "/x") && leaves("41/x", "/x"));
        assert!(
            !leaves("41/x,", "/") && !leaves("41", "/x") && !leaves("42[]", "/") && !leaves("41/xy,", "/x")
        );
    }

    const JSON: &str = r#"{"sid":"x","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;

    #[test]
    fn both_framings_of_an_open_packet_are_distinguished() {
        let Body::Open(Eio::V4, open) = Body::read(&format!("0{JSON}")) else { panic!() };
        assert_eq!(
            (open.sid.as_str(), open.ping_interval_ms, open.max_payload),
            ("x", 25_000, Some(1_000_000))
        );
        let python =
            r#"{"sid":"x","upgrades":[],"pingTimeout":20000,"pingInterval":25000,"maxPayload":1000000}"#;
        assert!(!open.is_of_python && super::open(python).is_some_and(|open| open.is_of_python));
        let v3 = format!("{}:0{JSON}2:40", JSON.len() + 1);
        assert_eq!(Body::read(&v3), Body::Open(Eio::V3, open));
        for cut in 0..v3.len() - 4 {
            assert_eq!(Body::read(&v3[..cut]), Body::Other, "{cut}");
        }
    }

    #[test]
    fn errors_and_pages_are_no_open_packets() {
        let error = |code, message: &str| Body::Error(EngineError { code, message: message.to_owned() });
        assert_eq!(Body::read(r#"{"code":0,"message":"Transport unknown"}"#), error(0, "Transport unknown"));
        assert_eq!(Body::read(r#"{"code":4,"message":{"a":1}}"#), error(4, r#"{"a":1}"#));
        assert_eq!(
            Body::read(r#"{"code":"1","message":"Session ID unknown"}"#),
            error(1, "Session ID unknown")
        );
        assert_eq!(Body::read("\n<!DOCTYPE html><p>"), Body::Html);
        assert_eq!(Body::read("ok"), Body::Other);
        assert_eq!(Body::read(""), Body::Other);
    }

    #[test]
    fn a_polling_body_is_read_packet_by_packet() {
        let read = |eio, body| packets(eio, body).collect::<Vec<_>>();
        assert_eq!(read(Eio::V4, "2\x1e40{}\x1e6"), ["2", "40{}", "6"]);
        assert_eq!(read(Eio::V3, "1:22:403:42€"), ["2", "40", "42€"]);
        assert_eq!(read(Eio::V3, "4:4\u{1f680}x2:40"), ["4\u{1f680}x", "40"], "lengths count UTF-16 units");
        assert!(read(Eio::V4, "").is_empty() && read(Eio::V3, "").is_empty());
        assert_eq!(read(Eio::V3, "1:29:40"), ["2"], "cut off");
        assert!(read(Eio::V3, "1:\u{1f680}").is_empty() && read(Eio::V3, "x:2").is_empty());
        for (eio, packet) in [(Eio::V3, "40/k€,"), (Eio::V4, "40/k€,")] {
            let framed = eio.framed(packet);
            assert_eq!(packets(eio, &framed).collect::<Vec<_>>(), [packet]);
        }
    }

    #[test]
    fn the_words_of_each_server_mean_the_same_numbers() {
        let code = |body: &str| error_in_words(body).map(|error| error.code);
        assert_eq!(code("Session ID unknown"), Some(1));
        assert_eq!(code("\"Invalid session\""), Some(1));
        assert_eq!(code("\"Invalid session dxX_7\"\n"), Some(1));
        assert_eq!(code("\"Invalid transport\""), Some(0));
        for other in
            ["", "Bad Request", "\"Bad Request\"", "<h1>Session ID unknown</h1>", "Invalid session x"]
        {
            assert_eq!(code(other), None, "{other}");
        }
        assert!(is_of_python("\"Bad Request\"") && is_of_python("\"Invalid session x\""));
        assert!(!is_of_python("Session ID unknown") && !is_of_python("\"hello\""));
    }

    #[test]
    fn a_changed_packet_is_distinguished_from_another_app() {
        assert!(looks_like_open(r#"0{"sid":"x","upgrades"<script src=/inject.js></script>"#));
        assert!(looks_like_open(r#"<b>{"pingInterval":1,"sid":"x"}"#));
        for other in ["", "hello", r#"{"sid":"x"}"#, "<html>pingInterval", r#"{"ok":true}"#] {
            assert!(!looks_like_open(other), "{other}");
        }
    }

    #[test]
    fn a_namespace_answers_in_both_versions() {
        let no = |text: &str| Some(Joined::No(text.to_owned()));
        assert_eq!(joined(r#"40/catch,{"sid":"y"}"#, "/catch"), Some(Joined::Yes));
        assert_eq!(joined("40/catch?uuId=1,", "/catch"), Some(Joined::Yes));
        assert_eq!(joined(r#"44/catch,{"message":"a uuId is needed"}"#, "/catch"), no("a uuId is needed"));
        assert_eq!(joined(r#"44/catch,"Invalid namespace""#, "/catch"), no("Invalid namespace"));
        assert_eq!(joined(r#"40{"sid":"y"}"#, "/"), Some(Joined::Yes));
        assert_eq!(joined("40", "/"), Some(Joined::Yes));
        assert_eq!(joined("40", "/catch"), None);
        assert_eq!(joined(r#"42/catch,["x"]"#, "/catch"), None);
        assert_eq!(joined("2", "/"), None);
    }
}
