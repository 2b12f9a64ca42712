//! A strict reader of Prometheus's text format 0.0.4, stricter than a scraper: also grouping, names by convention, help.

use std::collections::{BTreeMap, BTreeSet};

/// Every sample by its name with labels, as written. Panics with the line that breaks a rule.
pub fn parse(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with('\n'), "the last line has no end");
    let mut samples = BTreeMap::new();
    let mut kinds = BTreeMap::new();
    let mut helped = BTreeSet::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap_or_else(|| panic!("help without text: {line}"));
            assert!(is_name(name) && !help.trim().is_empty(), "{line}");
            assert!(helped.insert(name.to_owned()), "help twice, or a group that is torn apart: {line}");
            current = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("type without kind: {line}"));
            assert_eq!(name, current, "a type belongs behind its help: {line}");
            assert!(["counter", "gauge"].contains(&kind), "{line}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "counters alone end in _total: {line}");
            assert!(kinds.insert(name.to_owned(), kind).is_none(), "type twice: {line}");
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
            let name = series.split('{').next().unwrap();
            assert!(is_name(name), "{line}");
            assert_eq!(name, current, "a sample belongs to the group above it: {line}");
            assert!(kinds.contains_key(name), "no type before {line}");
            if let Some(labels) = series.strip_prefix(name).filter(|rest| !rest.is_empty()) {
                check_labels(labels, line);
            }
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            assert!(value.is_finite(), "{line}");
            assert!(samples.insert(series.to_owned(), value).is_none(), "twice: {line}");
        }
    }
    let families: BTreeSet<_> = samples.keys().map(|series| series.split('{').next().unwrap()).collect();
    assert_eq!(families.len(), kinds.len(), "a family without a sample");
    samples
}

/// `[a-zA-Z_:][a-zA-Z0-9_:]*`, and no colon: those are for rules.
fn is_name(name: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name.bytes().next().is_some_and(first) && name.bytes().all(|byte| first(byte) || byte.is_ascii_digit())
}

/// `{name="value",…}` with `\\`, `\"` and `\n` as the only escapes.
fn check_labels(text: &str, line: &str) {
    let mut rest = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).expect(line);
    let mut names = BTreeSet::new();
    loop {
        let (name, value) = rest.split_once("=\"").expect(line);
        assert!(is_name(name) && names.insert(name), "{line}");
        let mut escaped = false;
        let end = value.find(|c| {
            assert!(!escaped || ['\\', '"', 'n'].contains(&c), "unknown escape: {line}");
            let is_end = !escaped && c == '"';
            escaped = !escaped && c == '\\';
            is_end
        });
        rest = value.get(end.expect(line) + 1..).unwrap();
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => break assert!(rest.is_empty(), "{line}"),
        }
    }
}
