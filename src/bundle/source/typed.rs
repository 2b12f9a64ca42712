//! Values of the right type and within their bounds, or a finding with the line.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::advice::advice;
use super::parsed::{LimitValue, Lined, NamedFile};
use super::values::{Bad, parse_listener, parse_network};
use crate::bundle::finding::{Code, Finding, did_you_mean};
use crate::bundle::keys::{self, LIMITS, TOP, Table};
use crate::bundle::{PostQuantum, SuiteOrder, wire};
use crate::excerpt::Excerpt;
use crate::limits::{self, Row, Unit};

pub(super) type Value<'i> = Spanned<DeValue<'i>>;

/// Turns TOML values into ours and remembers what was wrong with them.
pub(super) struct Reader<'a> {
    pub(super) path: &'a Path,
    pub(super) folder: PathBuf,
    /// Offsets at which lines begin.
    lines: Vec<usize>,
    pub(super) findings: Vec<Finding>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(path: &'a Path, text: &str) -> Self {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let folder = absolute.parent().unwrap_or(Path::new("/")).to_owned();
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { path, folder, lines, findings: Vec::new() }
    }

    pub(super) fn line(&self, offset: usize) -> u32 {
        u32::try_from(self.lines.partition_point(|begin| *begin <= offset)).unwrap_or(u32::MAX)
    }

    pub(super) fn line_of<T>(&self, spanned: &Spanned<T>) -> u32 {
        self.line(spanned.span().start)
    }

    pub(super) fn push(&mut self, line: u32, finding: Finding) {
        self.findings.push(finding.at(self.path, line));
    }
}

impl Reader<'_> {
    pub(super) fn limit(&mut self, name: &str, value: &Value<'_>) -> Option<LimitValue> {
        match value.get_ref() {
            DeValue::String(text) => Some(LimitValue::Text(text.to_string())),
            // A number beyond 64 bits is beyond every bound as well.
            DeValue::Integer(_) => Some(LimitValue::Number(integer(value).unwrap_or(i64::MAX))),
            _ => {
                self.wrong_type(value, name, "a number, a size or a duration", "4096, \"16KiB\" or \"30s\"");
                None
            }
        }
    }

    pub(super) fn one<T>(
        &mut self,
        table: &DeTable<'_>,
        key: &'static str,
        example: &str,
        parse: impl Fn(&str) -> Result<T, Bad>,
    ) -> Option<Lined<T>> {
        let value = table.get(key)?;
        let text = self.text(value, key, example)?;
        self.parsed(value, key, text.value, parse)
    }

    /// The well-formed items of a list of strings; `None` where the key is absent or not a list.
    pub(super) fn several<T>(
        &mut self,
        table: &DeTable<'_>,
        key: &'static str,
        example: &str,
        parse: impl Fn(&str) -> Result<T, Bad>,
    ) -> Option<Vec<Lined<T>>> {
        let value = table.get(key)?;
        let Some(items) = value.get_ref().as_array() else {
            self.wrong_type(value, key, "a list of strings", example);
            return None;
        };
        self.room(self.line_of(value), key, items.len());
        let mut good = Vec::new();
        for item in items.iter() {
            let Some(text) = self.text(item, key, example) else { continue };
            good.extend(self.parsed(item, key, text.value, &parse));
        }
        Some(good)
    }

    pub(super) fn parsed<T>(
        &mut self,
        value: &Value<'_>,
        key: &str,
        text: &str,
        parse: impl Fn(&str) -> Result<T, Bad>,
    ) -> Option<Lined<T>> {
        match parse(text) {
            Ok(parsed) => Some(Lined { value: parsed, line: self.line_of(value) }),
            Err(bad) => {
                self.bad(value, key, bad);
                None
            }
        }
    }

    pub(super) fn text<'t>(
        &mut self,
        value: &'t Value<'_>,
        key: &str,
        example: &str,
    ) -> Option<Lined<&'t str>> {
        match value.get_ref().as_str() {
            Some(text) => Some(Lined { value: text, line: self.line_of(value) }),
            None => {
                self.wrong_type(value, key, "a string", example);
                None
            }
        }
    }

    pub(super) fn file(
        &mut self,
        value: &Value<'_>,
        key: &'static str,
        example: &str,
    ) -> Option<Lined<NamedFile>> {
        let text = self.text(value, key, example)?;
        let path = self.folder.join(text.value);
        let fits = !text.value.is_empty() && path.as_os_str().len() <= wire::TEXT_BYTES_MAX;
        if !fits || text.value.contains(char::is_control) {
            let expected = format!(
                "a path of 1 to {} bytes, its folder included, without control characters",
                wire::TEXT_BYTES_MAX
            );
            self.bad(value, key, Bad::new(expected, format!("Write {key} = {example}.")));
            return None;
        }
        let file = NamedFile { label: Excerpt::of_file(text.value, &path), path, state: None };
        Some(Lined { value: file, line: text.line })
    }

    pub(super) fn boolean(&mut self, table: &DeTable<'_>, key: &'static str) -> Option<bool> {
        let value = table.get(key)?;
        let found = value.get_ref().as_bool();
        if found.is_none() {
            self.wrong_type(value, key, "true or false", "true");
        }
        found
    }

    /// What the table has of `rows`, in their order.
    pub(super) fn numbers<T>(&mut self, table: &DeTable<'_>, rows: &'static [Row<T>]) -> Vec<Option<u64>> {
        let one = |row: &'static Row<T>| match row.range.unit {
            Unit::Switch => self.boolean(table, row.range.key).map(u64::from),
            _ => self.ranged(table, &row.range),
        };
        rows.iter().map(one).collect()
    }

    /// A number in the unit of `range` and within it.
    pub(super) fn ranged(&mut self, table: &DeTable<'_>, range: &limits::Range) -> Option<u64> {
        let value = table.get(range.key)?;
        let written = self.limit(range.key, value)?;
        match range.read(written.borrowed()) {
            Ok(number) => Some(number),
            Err(error) => {
                let finding = out_of_bounds(range.key, &error, &shown(value));
                self.push(self.line_of(value), finding);
                None
            }
        }
    }

    pub(super) fn port(&mut self, table: &DeTable<'_>, key: &'static str) -> Option<u16> {
        let value = table.get(key)?;
        let found = integer(value).and_then(|n| u16::try_from(n).ok()).filter(|port| *port > 0);
        if found.is_none() {
            self.bad(value, key, Bad::new("a port number, 1 to 65535", format!("Write {key} = 443.")));
        }
        found
    }

    pub(super) fn suite_order(&mut self, root: &DeTable<'_>) -> SuiteOrder {
        let parse = |text: &str| match text {
            "auto" => Ok(SuiteOrder::Auto),
            "aes" => Ok(SuiteOrder::Aes),
            "chacha" => Ok(SuiteOrder::Chacha),
            _ => Err(Bad::new(
                "\"auto\", \"aes\" or \"chacha\"",
                "Remove it unless a measurement shows a benefit.",
            )),
        };
        self.one(root, "suite_order", "\"auto\"", parse).map_or(SuiteOrder::Auto, |s| s.value)
    }

    pub(super) fn post_quantum(&mut self, root: &DeTable<'_>) -> PostQuantum {
        let parse = |text: &str| match text {
            "auto" => Ok(PostQuantum::Auto),
            "prefer" => Ok(PostQuantum::Prefer),
            "off" => Ok(PostQuantum::Off),
            _ => Err(Bad::new("\"auto\", \"prefer\" or \"off\"", "Remove it for \"auto\".")),
        };
        self.one(root, "post_quantum", "\"auto\"", parse).map_or(PostQuantum::Auto, |p| p.value)
    }

    pub(super) fn networks(&mut self, table: &DeTable<'_>, key: &'static str) -> Option<Vec<Lined<IpNet>>> {
        self.several(table, key, "[\"192.168.0.0/16\"]", parse_network)
    }

    pub(super) fn addresses(
        &mut self,
        table: &DeTable<'_>,
        key: &'static str,
    ) -> Option<Vec<Lined<SocketAddr>>> {
        let list = self.several(table, key, "[\"[::]:443\"]", parse_listener)?;
        let given = table.get(key)?;
        if list.is_empty() && key == "https" && !holds_items(given) {
            let bad = Bad::new(
                "at least one address",
                "Write https = [\"[::]:443\"], or remove the key for that default.",
            );
            self.bad(given, key, bad);
        }
        Some(list)
    }

    pub(super) fn bad(&mut self, value: &Value<'_>, key: &str, bad: Bad) {
        let code = if key == "hosts" || key == "default_host" { Code::BadHost } else { Code::BadValue };
        let found = shown(value);
        let finding = Finding::new(code, format!("`{key}` cannot be {found}"))
            .expected(bad.expected)
            .found(bad.why.unwrap_or(found))
            .remedy(bad.remedy);
        self.push(self.line_of(value), finding);
    }

    pub(super) fn wrong_type(&mut self, value: &Value<'_>, key: &str, expected: &str, example: &str) {
        let remedy = if example.starts_with('[') && example == key {
            format!("Write it as a table, {example}, with its keys below.")
        } else if example.starts_with("[[") {
            format!("Write it as {example}, with its keys below.")
        } else {
            format!("Write {key} = {}.", carried(key, value, example))
        };
        let finding = Finding::new(Code::WrongType, format!("`{key}` should be {expected}"))
            .expected(format!("{expected}, as in {example}"))
            .found(typed(value))
            .remedy(remedy);
        self.push(self.line_of(value), finding);
    }

    pub(super) fn missing(&mut self, line: u32, key: &str, section: &Table, example: &str) {
        let finding = Finding::new(Code::MissingKey, format!("`{key}` is missing {}", section.place))
            .expected(format!("`{key}`"))
            .found("nothing")
            .remedy(format!("Add {example}."));
        self.push(line, finding);
    }

    /// Says so where the bundle has no room for a list of `count`. What several lists need together the encoder sees.
    pub(super) fn room(&mut self, line: u32, key: &str, count: usize) {
        let max = keys::items_max(key);
        if count > max {
            let finding = Finding::new(Code::TooMany, format!("too many entries in `{key}`"))
                .expected(format!("at most {max}"))
                .found(count.to_string())
                .remedy("Remove what is not needed, or run a second edge with its own bundle.");
            self.push(line, finding);
        }
    }

    /// Says so where there is not one table of a kind.
    pub(super) fn wanted(&mut self, root: &DeTable<'_>, section: &Table, key: &str, example: &str) {
        // A near miss has its own finding, which says both.
        let known = TOP.names();
        let near = |k: &str| !known.contains(&k) && did_you_mean(k, known.iter().copied()) == Some(key);
        if root.get(key).is_some_and(holds_items) || root.keys().any(|k| near(k.get_ref())) {
            return;
        }
        let finding = Finding::new(Code::MissingKey, format!("there is no {}", section.title))
            .expected(format!("at least one {}", section.title))
            .found("none")
            .remedy(format!("Add one:\n  {}\n  {example}", section.title));
        self.push(0, finding);
    }

    pub(super) fn no_upstream(&mut self, line: u32, message: &str) {
        let finding = Finding::new(Code::NoUpstream, message)
            .expected("at least one server to send requests to")
            .found("none")
            .remedy("Add upstream = [\"127.0.0.1:3000\"].");
        self.push(line, finding);
    }

    pub(super) fn unknown_keys(&mut self, table: &DeTable<'_>, section: &Table) {
        let known = section.names();
        let strange: Vec<_> = table.keys().filter(|k| !known.contains(&k.get_ref().as_ref())).collect();
        for key in strange {
            let line = self.line_of(key);
            let advice = advice(key.get_ref(), section);
            let finding = Finding::new(Code::UnknownKey, advice.message)
                .expected(format!("one of {}", known.join(", ")))
                .found(format!("`{}`", Excerpt::of(key.get_ref())))
                .remedy(advice.remedy);
            self.push(line, finding);
        }
    }
}

/// What is wrong with a bounded value, in the words of the limits module.
pub(in crate::bundle) fn out_of_bounds(key: &str, error: &limits::LimitError, found: &str) -> Finding {
    use limits::LimitError::{Above, Duration, Form, OutOfRange, Size, Unknown};
    let range = limits::bounded(key).map(|(range, _)| range);
    let (code, expected) = match error {
        OutOfRange { range, .. } => (Code::OutOfRange, range.to_string()),
        Above { bound, max, .. } => (Code::OutOfRange, format!("at most `{bound}`, which is {max}")),
        Form { unit, .. } => (Code::BadValue, unit.form().to_owned()),
        Duration { .. } => (Code::BadValue, limits::Unit::Milliseconds.form().to_owned()),
        Size { .. } => (Code::BadValue, limits::Unit::Bytes.form().to_owned()),
        Unknown { .. } => (Code::UnknownKey, format!("one of {}", LIMITS.names().join(", "))),
    };
    let remedy = match (error, range) {
        (Unknown { .. }, _) => advice(key, &LIMITS).remedy,
        (_, Some(range)) => {
            format!("Write a value from {range}, or remove the key for its default. Why: {}.", range.reason)
        }
        _ => "Remove the key for its default.".to_owned(),
    };
    let message = match error {
        Unknown { .. } => advice(key, &LIMITS).message,
        _ => format!("`{key}` cannot be {found}"),
    };
    let key = Excerpt::of(key);
    let found = if code == Code::UnknownKey { format!("`{key}`") } else { found.to_owned() };
    Finding::new(code, message).expected(expected).found(found).remedy(remedy)
}

pub(super) fn integer(value: &Value<'_>) -> Option<i64> {
    let number = value.get_ref().as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

pub(super) fn holds_items(value: &Value<'_>) -> bool {
    value.get_ref().as_array().is_none_or(|items| !items.is_empty())
}

/// `example` with what was found in its place, as far as that is one plain word: a remedy must not lose it.
fn carried(key: &str, value: &Value<'_>, example: &str) -> String {
    let (open, close) = if example.starts_with("[\"") { ("[", "]") } else { ("", "") };
    let lone = value.get_ref().as_array().filter(|items| items.len() == 1).and_then(|items| items.first());
    let value = lone.unwrap_or(value);
    let port = integer(value).filter(|port| (1..=65535).contains(port));
    let text = match (value.get_ref(), port, key) {
        (DeValue::String(text), ..) => text.to_string(),
        (_, Some(port), "upstream" | "admin") => format!("127.0.0.1:{port}"),
        (_, Some(port), "https" | "http") => format!("[::]:{port}"),
        _ => return example.to_owned(),
    };
    let plain = |c: char| !c.is_control() && c != '"' && c != '\\';
    let one_word =
        !text.is_empty() && text.chars().all(plain) && example.trim_start_matches('[').starts_with('"');
    match Excerpt::all_of(&text).filter(|_| one_word) {
        Some(text) => format!("{open}\"{text}\"{close}"),
        None => example.to_owned(),
    }
}

/// A value as a person wrote it, short.
fn shown(value: &Value<'_>) -> String {
    match value.get_ref() {
        DeValue::String(text) => format!("{:?}", Excerpt::of(text)),
        DeValue::Integer(number) => Excerpt::of(&number.to_string()).into(),
        DeValue::Float(number) => Excerpt::of(&number.to_string()).into(),
        DeValue::Boolean(is) => is.to_string(),
        DeValue::Datetime(date) => date.to_string(),
        DeValue::Array(items) if items.is_empty() => "an empty list".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// A value with what it is, where that does not show.
fn typed(value: &Value<'_>) -> String {
    match value.get_ref() {
        DeValue::Array(_) | DeValue::Table(_) => shown(value),
        other => format!("the {} {}", other.type_str(), shown(value)),
    }
}
