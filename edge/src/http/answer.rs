//! Responses of the edge itself: a stable code, one sentence, and what to check, as JSON or as a small page.
//!
//! Each carries `Sanedge-Error: code`, which distinguishes it from the app's responses.

use std::fmt::{self, Write as _};

use crate::http::changes::FieldChanges;
use crate::http::field::Known;
use crate::http::forward::push_status;
use crate::http::head::{RequestHead, list, trim};
pub use crate::http::problem::{PROBLEMS, Problem};

/// Bytes of text from outside that a response repeats; the rest is cut.
pub const DETAIL_BYTES_MAX: usize = 1024;

/// How long a browser may keep a redirect, in seconds.
const REDIRECT_MAX_AGE_S: u32 = 3600;

/// The part of a response beyond its fixed sentence. Text from outside is escaped and cut.
#[derive(Clone, Copy, Debug, Default)]
pub struct Detail<'a> {
    /// What was found, e.g. the head's error.
    pub found: Option<&'a str>,
    /// What to check or to add, e.g. a line for sanedge.toml. Never an upstream's address: the response goes to clients.
    pub check: Option<&'a str>,
    /// What the site adds to the fields. Never on a plain port: a field of HSTS is for TLS alone (RFC 6797 §7.2).
    pub changes: Option<&'a FieldChanges>,
}

/// The form of a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerForm {
    /// A page instead of JSON; see [`wants_html`].
    pub html: bool,
    /// `Connection: close`.
    pub close: bool,
    /// Response to HEAD: no body.
    pub head_only: bool,
}

/// Whether the client prefers a page: `Accept` names `text/html` with a weight above 0 (RFC 9110 §12.5.1).
pub fn wants_html(head: &RequestHead<'_>) -> bool {
    head.fields.known(|known| known == Known::Accept).flat_map(list).any(|range| {
        let mut parts = range.split(|&byte| byte == b';').map(trim);
        let html = parts.next().is_some_and(|media| media.eq_ignore_ascii_case(b"text/html"));
        html && !parts
            .any(|parameter| matches!(parameter, b"q=0" | b"q=0." | b"q=0.0" | b"q=0.00" | b"q=0.000"))
    })
}

/// Appends a complete response, head and body, to `out`.
pub fn write(problem: Problem, detail: &Detail<'_>, form: AnswerForm, out: &mut Vec<u8>) {
    let body = if form.html { page(problem, detail) } else { json(problem, detail) };
    let media = if form.html { "text/html; charset=utf-8" } else { "application/json" };
    status_line(problem.status(), problem.phrase(), out);
    let upgrade = problem.fields().contains("Upgrade:");
    push(out, format_args!("Sanedge-Error: {}\r\n{}", problem.code(), problem.fields()));
    push(out, format_args!("Cache-Control: no-store\r\nContent-Type: {media}\r\n"));
    add(detail.changes, out);
    finish(&body, upgrade, form, out);
}

/// Appends a 308 to `to`, which is a scheme with an authority and perhaps the beginning of a path, and `target` behind it.
/// `target` is a scanned path with its query, so it cannot contain a line end. Browsers keep a 308 without Cache-Control for as
/// long as they like (RFC 9110 §15.4.9), also once it is no longer configured.
pub fn redirect(
    to: &dyn fmt::Display,
    target: &str,
    changes: Option<&FieldChanges>,
    form: AnswerForm,
    out: &mut Vec<u8>,
) {
    status_line(308, "Permanent Redirect", out);
    push(out, format_args!("Location: {to}"));
    let target = target.bytes().filter(u8::is_ascii_graphic);
    out.extend(target);
    push(out, format_args!("\r\nCache-Control: max-age={REDIRECT_MAX_AGE_S}\r\n"));
    add(changes, out);
    finish("", false, form, out);
}

/// To a head that lacks its end.
fn add(changes: Option<&FieldChanges>, out: &mut Vec<u8>) {
    if let Some(changes) = changes {
        changes.add_to(out);
    }
}

fn status_line(status: u16, reason: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    push_status(status, out);
    push(out, format_args!(" {reason}\r\n"));
}

/// Length, connection, empty line and body.
fn finish(body: &str, upgrade: bool, form: AnswerForm, out: &mut Vec<u8>) {
    push(out, format_args!("Content-Length: {}\r\n", body.len()));
    out.extend_from_slice(match (upgrade, form.close) {
        (true, true) => b"Connection: Upgrade, close\r\n",
        (true, false) => b"Connection: Upgrade\r\n",
        (false, true) => b"Connection: close\r\n",
        (false, false) => b"",
    });
    out.extend_from_slice(b"\r\n");
    if !form.head_only {
        out.extend_from_slice(body.as_bytes());
    }
}

fn push(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    use std::io::Write as _;
    let _ = out.write_fmt(text); // a Vec takes everything
}

/// `{"code":…,"message":…,"found":…,"check":…}`, the last two if they are not empty.
fn json(problem: Problem, detail: &Detail<'_>) -> String {
    let mut body = format!("{{\"code\":\"{}\",\"message\":\"{}\"", problem.code(), problem.sentence());
    for (name, text) in [("found", detail.found), ("check", detail.check)] {
        if let Some(text) = text {
            let _ = write!(body, ",\"{name}\":\"{}\"", Escaped(text, escape_json));
        }
    }
    body.push_str("}\n");
    body
}

fn page(problem: Problem, detail: &Detail<'_>) -> String {
    let mut body = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{0} {1}</title>\n\
        <h1>{0} {1}</h1>\n<p>{2}</p>\n",
        problem.status(),
        problem.phrase(),
        problem.sentence()
    );
    for (name, text) in [("Found", detail.found), ("Check", detail.check)] {
        if let Some(text) = text {
            let _ = writeln!(body, "<p>{name}: <code>{}</code></p>", Escaped(text, escape_html));
        }
    }
    let _ = writeln!(body, "<p><small>sanedge: {}</small></p>", problem.code());
    body
}

/// Text from outside: cut at [`DETAIL_BYTES_MAX`], each character escaped as needed.
struct Escaped<'a>(&'a str, fn(char, &mut fmt::Formatter<'_>) -> fmt::Result);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |&(at, character): &(usize, char)| at + character.len_utf8() <= DETAIL_BYTES_MAX;
        let mut characters = self.0.char_indices();
        characters.by_ref().take_while(fits).try_for_each(|(_, character)| (self.1)(character, f))?;
        if self.0.len() > DETAIL_BYTES_MAX { f.write_str("...") } else { Ok(()) }
    }
}

/// RFC 8259 §7. Non-ASCII characters are escaped too, because some look like others.
fn escape_json(character: char, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match character {
        '"' | '\\' => write!(f, "\\{character}"),
        '\n' => f.write_str("\\n"),
        ' '..='~' => f.write_char(character),
        _ => character.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(f, "\\u{unit:04x}")),
    }
}

fn escape_html(character: char, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match character {
        '&' | '<' | '>' | '"' | '\'' => write!(f, "&#{};", u32::from(character)),
        ' '..='~' | '\n' => f.write_char(character),
        _ if character.is_control() => f.write_str("&#xfffd;"),
        _ => write!(f, "&#{};", u32::from(character)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::body::Framing;
    use crate::http::head::{HeadLimits, HeadScanner, ResponseHead, parse_request, parse_response};

    const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 4096, fields_max: 32, target_bytes_max: 1024 };
    const HTML: AnswerForm = AnswerForm { html: true, close: false, head_only: false };

    fn answer(problem: Problem, detail: &Detail<'_>, form: AnswerForm) -> (String, String) {
        let mut out = Vec::new();
        write(problem, detail, form, &mut out);
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (format!("{head}\r\n\r\n"), body.to_owned())
    }

    fn parsed(head: &str) -> ResponseHead<'_> {
        assert_eq!(HeadScanner::response().scan(head.as_bytes(), &LIMITS), Ok(Some(head.len())));
        parse_response(head.as_bytes(), false, &LIMITS).unwrap()
    }

    #[test]
    fn every_problem_is_a_whole_response_with_its_own_code() {
        let mut codes = std::collections::HashSet::new();
        for problem in PROBLEMS {
            assert!(codes.insert(problem.code()), "{problem:?} shares its code");
            for form in [AnswerForm::default(), HTML, AnswerForm { close: true, ..HTML }] {
                let (head, body) = answer(problem, &Detail::default(), form);
                let head = parsed(&head);
                assert_eq!(head.status, problem.status());
                assert_eq!(head.framing, Framing::Length(body.len() as u64));
                assert_eq!(head.keep_alive, !form.close);
                assert_eq!(
                    head.fields.values("sanedge-error").collect::<Vec<_>>(),
                    [problem.code().as_bytes()]
                );
                assert!(body.contains(problem.sentence()) && !problem.phrase().is_empty());
            }
        }
        assert_eq!(codes.len(), PROBLEMS.len());
    }

    #[test]
    fn a_problem_of_the_upstream_tells_the_log_what_to_check_and_no_client_where_it_is() {
        for problem in PROBLEMS {
            let inside = problem.check_inside("127.0.0.1:3002");
            assert_eq!(problem.is_upstream(), inside.is_some(), "{problem:?}");
            assert_eq!(problem.is_upstream(), problem.check().is_some(), "{problem:?}");
            assert!(inside.is_none_or(|check| !check.contains('{')), "{problem:?}");
            assert!(!problem.check().is_some_and(|check| check.contains('{')), "{problem:?}");
            // Only an upstream that takes no connection has a line of its own.
            assert_eq!(problem.reason().is_none(), problem == Problem::UpstreamUnreachable, "{problem:?}");
        }
        let check = Problem::UpstreamClosed.check_inside("127.0.0.1:3002").unwrap();
        assert_eq!(check, "Check the log of the app on 127.0.0.1:3002.");
    }

    #[test]
    fn an_answer_is_json_with_stable_keys() {
        let detail =
            Detail { found: Some("refused"), check: Some("is 127.0.0.1:3002 up?"), ..Detail::default() };
        let (head, body) = answer(Problem::UpstreamUnreachable, &detail, AnswerForm::default());
        assert!(head.starts_with("HTTP/1.1 502 Bad Gateway\r\nSanedge-Error: upstream_unreachable\r\n"));
        assert!(head.contains("Content-Type: application/json\r\n"));
        let value: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(value["code"], "upstream_unreachable");
        assert_eq!(value["message"], Problem::UpstreamUnreachable.sentence());
        assert_eq!((&value["found"], &value["check"]), (&"refused".into(), &"is 127.0.0.1:3002 up?".into()));
        let (_, bare) = answer(Problem::UnknownPath, &Detail::default(), AnswerForm::default());
        let value: serde_json::Value = serde_json::from_str(&bare).unwrap();
        assert_eq!(value.as_object().unwrap().len(), 2, "nothing to check, no key for it");
    }

    #[test]
    fn text_from_outside_cannot_leave_its_place() {
        let hostile = "\"},\r\n\0\u{1b}\\ <script>&'\u{2028}\u{1f600}\u{e9}";
        let detail = Detail { found: Some(hostile), ..Detail::default() };
        let (_, body) = answer(Problem::BadRequest, &detail, AnswerForm::default());
        assert!(body.trim_end().bytes().all(|byte| (0x20..0x7f).contains(&byte)));
        let value: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(value["found"], hostile);
        let (_, page) = answer(Problem::BadRequest, &detail, HTML);
        assert!(!page.contains("<script") && !page.contains('\0') && page.is_ascii());
        assert!(page.contains("&#60;script&#62;&#38;&#39;"));
    }

    #[test]
    fn text_from_outside_is_cut() {
        for (bytes, dots) in [(DETAIL_BYTES_MAX, false), (DETAIL_BYTES_MAX + 1, true)] {
            let long = "x".repeat(bytes);
            let (_, body) =
                answer(Problem::BadRequest, &Detail { found: Some(&long), ..Detail::default() }, HTML);
            assert_eq!(body.matches('x').count(), DETAIL_BYTES_MAX);
            assert_eq!(body.contains("x..."), dots);
        }
        let split = format!("{}\u{e9}", "x".repeat(DETAIL_BYTES_MAX - 1));
        let (_, body) =
            answer(Problem::BadRequest, &Detail { found: Some(&split), ..Detail::default() }, HTML);
        assert!(body.contains("x..."), "not inside a character");
    }

    #[test]
    fn a_head_request_gets_the_length_but_no_body() {
        let form = AnswerForm { head_only: true, ..AnswerForm::default() };
        let (head, body) = answer(Problem::UnknownPath, &Detail::default(), form);
        assert_eq!(body, "");
        let (full_head, _) = answer(Problem::UnknownPath, &Detail::default(), AnswerForm::default());
        assert_eq!(head, full_head);
    }

    #[test]
    fn some_statuses_bring_their_fields() {
        let head = |problem| answer(problem, &Detail::default(), AnswerForm { close: true, ..HTML }).0;
        let upgrade = head(Problem::WebSocketVersion);
        assert!(upgrade.contains("Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n"));
        assert!(upgrade.contains("Connection: Upgrade, close\r\n"));
        assert!(head(Problem::TooManyRequests).contains("Retry-After: 1\r\n"));
        assert!(head(Problem::UnknownPath).contains("Connection: close\r\n"));
    }

    #[test]
    fn a_page_is_sent_to_clients_that_accept_html() {
        let wants = |accept: &str| {
            let head = format!("GET / HTTP/1.1\r\nHost: a.test\r\n{accept}\r\n");
            wants_html(&parse_request(head.as_bytes(), &LIMITS).unwrap())
        };
        assert!(wants("Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\n"));
        assert!(wants("Accept: application/json\r\nAccept: TEXT/HTML ;q=0.1\r\n"));
        assert!(!wants("Accept: */*\r\n"));
        assert!(!wants(""));
        assert!(!wants("Accept: text/html;q=0, */*\r\n"));
        assert!(!wants("Accept: text/htmlx, x/text/html\r\n"));
    }

    #[test]
    fn a_redirect_keeps_target_and_port() {
        let location = |to: &str, target| {
            let mut out = Vec::new();
            redirect(&to, target, None, AnswerForm::default(), &mut out);
            let text = String::from_utf8(out).unwrap();
            let head = parsed(&text);
            assert_eq!((head.status, head.framing), (308, Framing::Length(0)));
            String::from_utf8(head.fields.values("location").next().unwrap().to_vec()).unwrap()
        };
        assert_eq!(location("https://a.test", "/x?y=%20"), "https://a.test/x?y=%20");
        assert_eq!(location("https://a.test:8443/shop", "/"), "https://a.test:8443/shop/");
        assert_eq!(location("https://a.test", "/\r\nSet-Cookie: x"), "https://a.test/Set-Cookie:x");
    }
}
