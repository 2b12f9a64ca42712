//! The log: one event a line, on stderr; `log/form.rs` has the forms.
//!
//! Whatever came from outside goes through [`Quoted`] or [`Said`], so that no host, path, Origin or upstream text can forge a
//! line or a field. The formatter checks again: a value that could be read as more than one is quoted.

mod form;

use std::fmt::{self, Write as _};
use std::io::IsTerminal;

use form::{Colours, Event};
use tracing::Subscriber;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, Subscriber as FmtSubscriber};
use tracing_subscriber::registry::LookupSpan;

use crate::excerpt::{self, Excerpt};

pub use form::Form;

/// Longest sentence, and longest target, in a line, in bytes before escaping.
pub const OUTSIDE_BYTES_MAX: usize = 200;

/// Bytes from outside, as an excerpt of them (`Excerpt::bytes_of`), quoted: those outside 0x21–0x7E and `"`, `\` as `\xNN`. With
/// neither a blank nor a quote inside, `=` cannot begin a field, and stays.
pub struct Quoted<'a>(pub &'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        escape(self.0, b"\"\\", f)?;
        f.write_char('"')
    }
}

/// A sentence of ours that may hold text from outside: its spaces stay, so that it can be read, and nothing that may be a key.
/// No field can be forged in it: `=` and quotes are escaped. Cut at [`OUTSIDE_BYTES_MAX`].
pub struct Said<'a>(pub &'a str);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        let looked_at = self.0.get(..self.0.floor_char_boundary(4 * OUTSIDE_BYTES_MAX)).unwrap_or_default();
        let said = excerpt::netted(looked_at, &[]);
        let mut words =
            said.get(..said.floor_char_boundary(OUTSIDE_BYTES_MAX)).unwrap_or_default().split(' ');
        if let Some(first) = words.next() {
            escape(first.as_bytes(), b"\"\\=", f)?;
        }
        for word in words {
            f.write_char(' ')?;
            escape(word.as_bytes(), b"\"\\=", f)?;
        }
        f.write_char('"')
    }
}

/// `special` as `\xNN`, and everything that is not visible ASCII.
fn escape(bytes: &[u8], special: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for &byte in bytes {
        match byte {
            0x21..=0x7e if !special.contains(&byte) => f.write_char(char::from(byte))?,
            _ => write!(f, "\\x{byte:02x}")?,
        }
    }
    Ok(())
}

/// A request target as the log may show it: the path, and of the query only `EIO`, `transport` and `t`.
/// A `sid` is a credential; so may be anything else that an app puts into a query.
pub struct ShownTarget<'a>(pub &'a [u8]);

impl ShownTarget<'_> {
    /// What may be shown of it, cut at [`OUTSIDE_BYTES_MAX`] with `...` behind; to be escaped still.
    pub fn bytes(&self) -> Vec<u8> {
        let mut parts = self.0.splitn(2, |&b| b == b'?');
        let path = parts.next().unwrap_or_default();
        let query = parts.next().unwrap_or_default();
        let mut shown = Excerpt::bytes_of(path);
        let mut separator = b'?';
        for pair in query.split(|&b| b == b'&') {
            let mut pair = pair.splitn(2, |&b| b == b'=');
            let key = pair.next().unwrap_or_default();
            if matches!(key, b"EIO" | b"transport" | b"t") {
                shown.push(separator);
                shown.extend_from_slice(key);
                shown.extend(pair.flat_map(|value| [b"=".to_vec(), Excerpt::bytes_of(value)].concat()));
                separator = b'&';
            }
        }
        if shown.len() > OUTSIDE_BYTES_MAX {
            shown.truncate(OUTSIDE_BYTES_MAX);
            shown.extend_from_slice(b"...");
        }
        shown
    }
}

impl fmt::Display for ShownTarget<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Quoted(&self.bytes()).fmt(f)
    }
}

/// Starts logging to stderr: in `form`, else for people on a terminal and in pairs elsewhere. Times are written unless the journal
/// already does (`JOURNAL_STREAM`).
pub fn start(form: Option<Form>) {
    let stderr = std::io::stderr();
    let form = form.unwrap_or(if stderr.is_terminal() { Form::Readable } else { Form::KeyValue });
    let colours = Colours(is_coloured(&stderr));
    let format = Lines { form, colours, with_time: std::env::var_os("JOURNAL_STREAM").is_none() };
    let subscriber = FmtSubscriber::builder()
        .with_max_level(tracing::Level::INFO)
        .with_ansi(false)
        .event_format(format)
        .with_writer(std::io::stderr)
        .finish();
    // A second start in one process (tests, the demo) keeps the first subscriber.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Whether colours are wanted there (no-color.org).
pub fn is_coloured(stream: &impl IsTerminal) -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    stream.is_terminal() && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

struct Lines {
    form: Form,
    colours: Colours,
    with_time: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        if self.with_time {
            SystemTime.format_time(&mut Writer::new(&mut time))?;
        }
        let mut found = Event::default();
        event.record(&mut found);
        let time = Some(time.as_str()).filter(|time| !time.is_empty());
        writeln!(writer, "{}", found.line(self.form, self.colours, time, *event.metadata().level()))
    }
}

#[cfg(test)]
mod tests {
    use super::form::Value;
    use super::*;
    use crate::excerpt::CHARS_MAX;

    #[test]
    fn outside_text_stays_one_value() {
        let forged = "a\nlevel=error msg=\"x\" host=evil \u{1b}[31m";
        let shown = Quoted(forged.as_bytes()).to_string();
        assert!(shown.starts_with('"') && shown.ends_with('"'));
        let inner = &shown[1..shown.len() - 1];
        assert!(!inner.contains(['\n', ' ', '"', '\u{1b}']) && inner.contains("host=evil"), "{shown}");
        assert!(Value(&shown).is_outside());
    }

    #[test]
    fn a_sentence_keeps_its_spaces_and_nothing_else() {
        let shown = Said("no route for a\nlevel=error \"x\"").to_string();
        assert_eq!(shown, "\"no route for a\\x0alevel\\x3derror \\x22x\\x22\"");
        assert!(Value(&shown).is_outside());
    }

    #[test]
    fn outside_text_is_an_excerpt() {
        let words = |count: usize| "Word-".repeat(40).chars().take(count).collect::<String>();
        let at = words(CHARS_MAX);
        let shown = |bytes: &[u8]| Quoted(&Excerpt::bytes_of(bytes)).to_string();
        assert_eq!(shown(at.as_bytes()), format!("\"{at}\""));
        let above = words(CHARS_MAX + 1);
        assert_eq!(shown(above.as_bytes()), format!("\"{}...\"", words(CHARS_MAX - 1)));
        assert_eq!(shown(b"q7Zk2Vw9XbT4mRs1"), "\"[16\\x20characters\\x20hidden]\"");
        assert_eq!(shown(b"\xff\n-----BEGIN PRIVATE KEY-----"), "\"\\xff\\x0a-----BEGIN...\"");
        let said = Said("plain request for q7Zk2Vw9XbT4mRs1").to_string();
        assert_eq!(said, "\"plain request for [16 characters hidden]\"");
    }

    #[test]
    fn a_sentence_is_cut_just_above_the_bound() {
        let words = |count: usize| "word ".repeat(50).chars().take(count).collect::<String>();
        let at = words(OUTSIDE_BYTES_MAX);
        assert_eq!(Said(&at).to_string(), format!("\"{at}\""));
        assert_eq!(Said(&words(OUTSIDE_BYTES_MAX + 1)).to_string(), format!("\"{at}\""));
    }

    #[test]
    fn a_value_that_skipped_outside_is_still_one_value() {
        assert_eq!(Value("two words\nlevel=error").to_string(), "\"two words\\x0alevel=error\"");
        assert_eq!(Value("x\" y=\"z").to_string(), "\"x\\\" y=\\\"z\"");
        assert_eq!(Value("plain-word").to_string(), "plain-word");
        assert_eq!(Value("").to_string(), "\"\"");
    }

    #[test]
    fn a_target_shows_no_sid() {
        let target = b"/socket.io/?EIO=4&transport=polling&t=abc&sid=secret&token=x";
        let shown = ShownTarget(target).to_string();
        assert!(shown.contains("EIO=4") && shown.contains("transport=polling"), "{shown}");
        assert!(!shown.contains("secret") && !shown.contains("token"), "{shown}");
    }

    #[test]
    fn a_target_shows_an_excerpt_of_path_and_query() {
        let path =
            |count: usize| format!("/{}", "word/".repeat(40).chars().take(count - 1).collect::<String>());
        assert_eq!(ShownTarget(path(CHARS_MAX).as_bytes()).bytes(), path(CHARS_MAX).as_bytes());
        let cut = [path(CHARS_MAX - 1).as_bytes(), b"..."].concat();
        assert_eq!(ShownTarget(path(CHARS_MAX + 1).as_bytes()).bytes(), cut);
        let keys = ShownTarget(b"/q7Zk2Vw9XbT4mRs1/a?t=q7Zk2Vw9XbT4mRs1").bytes();
        assert_eq!(keys, b"/[18 characters hidden]?t=[16 characters hidden]");
        let long = format!("{0}?t={1}&t={1}", path(CHARS_MAX), path(CHARS_MAX - 2));
        let shown = ShownTarget(long.as_bytes()).bytes();
        assert!(shown.len() == OUTSIDE_BYTES_MAX + 3 && shown.ends_with(b"..."), "{shown:?}");
    }
}
