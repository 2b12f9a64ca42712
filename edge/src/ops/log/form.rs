//! How a line of the log looks: for a person, as `key=value` pairs, or as JSON.

use std::fmt::{self, Write as _};

use tracing::Level;
use tracing::field::{Field, Visit};

/// How lines of the log are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// Time, level, sentence and fields, for reading.
    Readable,
    /// `key=value` pairs.
    KeyValue,
    /// One JSON object per line.
    Json,
}

/// The sequences of a terminal; none of them where colours are not wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Colours(pub(super) bool);

/// An event: what happened, and its fields in their order.
#[derive(Debug, Default)]
pub(super) struct Event {
    message: String,
    fields: Vec<(&'static str, Content)>,
}

#[derive(Debug)]
enum Content {
    Text(String),
    /// A number or a truth value, as JSON has it.
    Bare(String),
}

impl Visit for Event {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, format!("{value:?}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.fields.push((field.name(), Content::Bare(value.to_string())));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.fields.push((field.name(), Content::Bare(value.to_string())));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.fields.push((field.name(), Content::Bare(value.to_string())));
    }
}

impl Event {
    fn text(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            name => self.fields.push((name, Content::Text(value))),
        }
    }

    /// The line, without its end. `time` is of RFC 3339; none where who reads the line notes the time.
    pub(super) fn line(&self, form: Form, colours: Colours, time: Option<&str>, level: Level) -> String {
        let word = word(level);
        match form {
            Form::Readable => self.readable(colours, time, level),
            Form::KeyValue => {
                let time = time.map_or_else(String::new, |time| format!("time={time} "));
                format!("{time}level={word} msg={}{}", Value(&self.message), self.pairs())
            }
            Form::Json => self.json(time, word),
        }
    }

    fn pairs(&self) -> String {
        let pair = |(name, content): &(&str, Content)| match content {
            Content::Text(text) => format!(" {name}={}", Value(text)),
            Content::Bare(text) => format!(" {name}={text}"),
        };
        self.fields.iter().map(pair).collect()
    }

    fn readable(&self, colours: Colours, time: Option<&str>, level: Level) -> String {
        let (dim, plain) = (colours.sequence("2"), colours.sequence("0"));
        let strong = match level {
            Level::ERROR => colours.sequence("1;31"),
            Level::WARN => colours.sequence("33"),
            _ => "",
        };
        let after = if strong.is_empty() { "" } else { plain };
        // The time of day: the date is on the screen's clock.
        let time = time
            .and_then(|time| time.get(11..19))
            .map_or_else(String::new, |time| format!("{dim}{time}{plain} "));
        let mut line = format!("{time}{strong}{:<5}{after} {}", word(level), Shown(&self.message));
        if !self.fields.is_empty() {
            line += &format!(" {dim}{}{plain}", self.pairs());
        }
        line
    }

    fn json(&self, time: Option<&str>, level: &str) -> String {
        let mut members = serde_json::Map::new();
        members.extend(time.map(|time| ("time".to_owned(), time.into())));
        members.insert("level".to_owned(), level.into());
        members.insert("msg".to_owned(), self.message.as_str().into());
        for (name, content) in &self.fields {
            let value = match content {
                // Quotes around text from outside are of the other forms; here the string has its own.
                Content::Text(text) => unquoted(text).into(),
                Content::Bare(text) => serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into()),
            };
            members.insert((*name).to_owned(), value);
        }
        serde_json::Value::Object(members).to_string()
    }
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text)
}

fn word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

impl Colours {
    fn sequence(self, code: &str) -> &'static str {
        match (self.0, code) {
            (false, _) => "",
            (true, "2") => "\x1b[2m",
            (true, "1;31") => "\x1b[1;31m",
            (true, "33") => "\x1b[33m",
            (true, _) => "\x1b[0m",
        }
    }
}

/// A value as it stands in the line: as it is where it is one plain word or what [`Quoted`](super::Quoted) wrote, else quoted
/// with controls, quotes and backslashes escaped.
pub(super) struct Value<'a>(pub(super) &'a str);

impl Value<'_> {
    fn is_plain(&self) -> bool {
        !self.0.is_empty() && self.0.bytes().all(|b| matches!(b, 0x21..=0x7e) && !b"\"\\=".contains(&b))
    }

    pub(super) fn is_outside(&self) -> bool {
        let inner = self.0.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        inner.is_some_and(|text| {
            let visible = text.bytes().all(|b| matches!(b, 0x20..=0x7e) && b != b'"');
            // As `Quoted` or as `Said` wrote it: beside blanks `=` is escaped.
            visible && !(text.contains(' ') && text.contains('='))
        })
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_plain() || self.is_outside() {
            return f.write_str(self.0);
        }
        f.write_char('"')?;
        for character in self.0.chars() {
            match character {
                '"' | '\\' => write!(f, "\\{character}")?,
                c if c.is_control() => write!(f, "\\x{:02x}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

/// A sentence without anything that moves the cursor.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            c if c.is_control() => write!(f, "\\x{:02x}", u32::from(c)),
            c => f.write_char(c),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2026-11-29T18:03:04.123456Z";

    fn event() -> Event {
        let fields = vec![
            ("host", Content::Text("\"a\\x0ab\"".to_owned())),
            ("path", Content::Text("two words".to_owned())),
            ("count", Content::Bare("3".to_owned())),
        ];
        Event { message: "a \"name\" went\u{1b}[31m away".to_owned(), fields }
    }

    #[test]
    fn a_line_for_people_has_time_level_sentence_and_dimmed_fields() {
        let line = event().line(Form::Readable, Colours(true), Some(TIME), Level::WARN);
        assert_eq!(
            line,
            "\x1b[2m18:03:04\x1b[0m \x1b[33mwarn \x1b[0m a \"name\" went\\x1b[31m away \x1b[2m host=\"a\\x0ab\" path=\"two words\" count=3\x1b[0m"
        );
        let plain = event().line(Form::Readable, Colours(false), Some(TIME), Level::ERROR);
        assert!(plain.starts_with("18:03:04 error a \"name\"") && !plain.contains('\u{1b}'), "{plain}");
        let bare = Event { message: "ready".to_owned(), fields: Vec::new() };
        assert_eq!(bare.line(Form::Readable, Colours(false), None, Level::INFO), "info  ready");
    }

    #[test]
    fn pairs_are_one_value_each() {
        let line = event().line(Form::KeyValue, Colours(true), Some(TIME), Level::INFO);
        let pairs = "msg=\"a \\\"name\\\" went\\x1b[31m away\" host=\"a\\x0ab\" path=\"two words\" count=3";
        assert_eq!(line, format!("time={TIME} level=info {pairs}"));
        assert!(event().line(Form::KeyValue, Colours(false), None, Level::INFO).starts_with("level=info "));
    }

    #[test]
    fn json_is_one_object_that_parses() {
        let line = event().line(Form::Json, Colours(true), Some(TIME), Level::ERROR);
        assert!(!line.contains('\n'), "{line}");
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["msg"], "a \"name\" went\u{1b}[31m away");
        assert_eq!(
            (&read["level"], &read["time"], &read["count"]),
            (&"error".into(), &TIME.into(), &3.into())
        );
        assert_eq!((&read["host"], &read["path"]), (&"a\\x0ab".into(), &"two words".into()));
    }
}
