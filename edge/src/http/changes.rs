//! What a site changes in the fields of its responses: lines that it sets, and fields that it removes.

use crate::http::field::{Known, has_prefix};
use crate::http::scan::{is_text_byte, is_token};

/// The field of RFC 6797.
pub const HSTS_FIELD: &str = "Strict-Transport-Security";
/// Longest name of a field; the longest registered one has 40 bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// All lines that one site sets, in bytes: clients in Node accept a head of 16 KiB, and the app has fields as well.
pub const LINES_BYTES_MAX: usize = 8 * 1024;

/// Lines to add to a response head, once the lines of these names are removed from it.
#[derive(Debug, PartialEq, Eq)]
pub struct FieldChanges {
    /// Names that are set or removed.
    names: Box<[Box<[u8]>]>,
    /// Each with its CRLF.
    lines: Box<[u8]>,
}

impl FieldChanges {
    /// Of names with their values; without a value a field is removed. `None`: nothing is changed.
    pub fn of<'a>(changes: impl Iterator<Item = (&'a str, Option<&'a str>)>) -> Option<Self> {
        let (mut names, mut lines) = (Vec::new(), Vec::new());
        for (name, value) in changes {
            names.push(name.as_bytes().into());
            if let Some(value) = value {
                lines.extend_from_slice(&line(name, value));
            }
        }
        (!names.is_empty()).then(|| Self { names: names.into(), lines: lines.into() })
    }

    /// Whether lines of this name from the app are left out.
    #[inline]
    pub(crate) fn replaces(&self, name: &[u8]) -> bool {
        self.names.iter().any(|changed| changed.eq_ignore_ascii_case(name))
    }

    /// The lines to add.
    pub(crate) fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// Adds the lines to a head of the edge's own, less those of fields that it has: they say what the answer needs.
    pub(crate) fn add_to(&self, head: &mut Vec<u8>) {
        let has = |line: &&[u8]| lines(head).any(|own| name(own).eq_ignore_ascii_case(name(line)));
        let missing: Vec<&[u8]> = lines(&self.lines).filter(|line| !has(line)).collect();
        missing.into_iter().for_each(|line| head.extend_from_slice(line));
    }
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n')
}

/// What stands before the colon.
fn name(line: &[u8]) -> &[u8] {
    line.split(|byte| *byte == b':').next().unwrap_or_default()
}

/// A field as a line.
fn line(name: &str, value: &str) -> Vec<u8> {
    [name.as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat()
}

/// Bytes of the line of a field.
pub fn line_bytes(name: &str, value: &str) -> usize {
    line(name, value).len()
}

/// Whether a text may be the name of a field (RFC 9110 §5.1).
pub fn is_name(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX && is_token(text.as_bytes())
}

/// Whether a text may be the value of a field (RFC 9110 §5.5): visible ASCII, with blanks and tabs inside. What other bytes mean is
/// left to each recipient.
pub fn is_value(text: &str) -> bool {
    let inside = text.is_ascii() && text.bytes().all(is_text_byte);
    inside && !text.is_empty() && text.trim_matches([' ', '\t']) == text
}

/// Why no site may change a field; `None`: it may.
pub fn reserved(name: &str) -> Option<&'static str> {
    let bytes = name.as_bytes();
    match Known::of(bytes) {
        Known::ContentLength | Known::TransferEncoding => {
            Some("it delimits the body (RFC 9112 §6), and the edge sets it")
        }
        Known::Upgrade | Known::Connection => Some(
            "it belongs to the connection and to the WebSocket handshake (RFC 9110 §7.6.1, §7.8), and the edge sets it",
        ),
        _ if has_prefix(bytes, "sec-websocket-") => {
            Some("it belongs to the WebSocket handshake (RFC 6455 §4.2.2)")
        }
        _ if has_prefix(bytes, "sanedge-") => Some("it distinguishes the edge's own responses"),
        known if known.is_hop_by_hop() => {
            Some("it belongs to one connection (RFC 9110 §7.6.1), and the edge removes it")
        }
        _ if BODY.iter().any(|of_body| name.eq_ignore_ascii_case(of_body)) => {
            Some("it describes one body, which the app alone knows (RFC 9110 §8)")
        }
        _ => None,
    }
}

/// Fields without which a body is read as something else.
const BODY: [&str; 3] = ["content-type", "content-encoding", "content-range"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_obey_rfc_9110() {
        for good in ["X-Frame-Options", "a", "x_y", "!#$%&'*+.^`|~", &"n".repeat(NAME_BYTES_MAX)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "a b", "a:", "a\r\nb", "\u{e4}", "a/b", &"n".repeat(NAME_BYTES_MAX + 1)] {
            assert!(!is_name(bad), "{bad:?}");
        }
        for good in ["DENY", "max-age=1; includeSubDomains", "a\tb", "\"q\", 'self'", "~"] {
            assert!(is_value(good), "{good}");
        }
        for bad in [
            "",
            " ",
            " a",
            "a ",
            "a\t",
            "a\r\nSet-Cookie: b",
            "a\nb",
            "a\0b",
            "a\u{7f}",
            "a\u{1b}[2J",
            "\u{fc}",
        ] {
            assert!(!is_value(bad), "{bad:?}");
        }
    }

    #[test]
    fn framing_connection_handshake_and_our_own_fields_are_reserved_in_every_spelling() {
        let reserved_names = [
            "Content-Length",
            "Transfer-Encoding",
            "Connection",
            "Keep-Alive",
            "Upgrade",
            "TE",
            "Trailer",
            "Proxy-Connection",
            "Proxy-Authenticate",
            "HTTP2-Settings",
            "Sec-WebSocket-Accept",
            "Sec-WebSocket-Protocol",
            "Sec-WebSocket-Extensions",
            "Sanedge-Error",
            "Content-Type",
            "Content-Encoding",
        ];
        for name in reserved_names {
            for spelling in [name.to_owned(), name.to_lowercase(), name.to_uppercase()] {
                assert!(reserved(&spelling).is_some(), "{spelling}");
            }
        }
        for name in [
            "Server",
            "X-Powered-By",
            "Set-Cookie",
            "Strict-Transport-Security",
            "Sec-Fetch-Site",
            "Content-Language",
        ] {
            assert_eq!(reserved(name), None, "{name}");
        }
    }

    #[test]
    fn a_head_of_ours_gets_what_it_does_not_have() {
        let changes = [("cache-control", Some("public")), ("X-A", Some("1")), ("Server", None)];
        let changes = FieldChanges::of(changes.into_iter()).unwrap();
        let mut head = b"HTTP/1.1 404 Not Found\r\nCache-Control: no-store\r\n".to_vec();
        changes.add_to(&mut head);
        assert_eq!(
            head.escape_ascii().to_string(),
            r"HTTP/1.1 404 Not Found\r\nCache-Control: no-store\r\nX-A: 1\r\n"
        );
        assert!(FieldChanges::of(std::iter::empty()).is_none());
    }
}
