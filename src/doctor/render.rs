//! The report as text for a terminal and as JSON for a program. Whatever came from outside is escaped.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::check::{Check, Finding, Outcome, Report};
use super::explain::Level;
use crate::bundle::report::escaped;

/// Version of the JSON document; see docs/doctor-json.md.
pub const JSON_VERSION: u32 = 1;

/// The report for a terminal; `verbose` with every request and what came.
pub fn text(report: &Report, colour: bool, verbose: bool) -> String {
    let mut out = String::new();
    let mut number = 0;
    for section in &report.sections {
        let _ = writeln!(out, "{}", escaped(&section.subject));
        for check in &section.checks {
            line(&mut out, check, &mut number, colour);
        }
        for exchange in section.exchanges.iter().filter(|_| verbose) {
            let _ = writeln!(out, "  > {}\n  < {}", escaped(&exchange.sent), escaped(&exchange.came));
        }
        out.push('\n');
    }
    out + &rest(report, colour, verbose)
}

/// What stands below the checks: the findings, explained, and the verdict.
pub(crate) fn rest(report: &Report, colour: bool, verbose: bool) -> String {
    let mut out = String::new();
    let findings = report.sections.iter().flat_map(|section| section.findings());
    for (at, finding) in findings.enumerate() {
        explained(&mut out, at + 1, finding, colour, verbose);
    }
    let _ = writeln!(out, "{}", summary(report));
    if let Some(verdict) = report.verdict() {
        let _ = writeln!(out, "{verdict}");
    }
    out
}

/// `2 failures, 1 warning`, or that all is well.
pub fn summary(report: &Report) -> String {
    let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    match (report.count(Level::Fail), report.count(Level::Warn)) {
        (0, 0) => "no problem found from here".to_owned(),
        (0, warnings) => format!("no failure, {}", plural(warnings, "warning")),
        (failures, 0) => plural(failures, "failure"),
        (failures, warnings) => format!("{}, {}", plural(failures, "failure"), plural(warnings, "warning")),
    }
}

/// One check, for a program that shows each when it is done.
pub(crate) fn one(check: &Check) -> String {
    let (word, text) = said(check);
    format!("{word}{}  {:<9}  {}", pad(word), check.group.word(), escaped(text))
}

fn said(check: &Check) -> (&'static str, &str) {
    match &check.outcome {
        Outcome::Passed(text) => ("ok", text),
        Outcome::Unknown(text) => ("?", text),
        Outcome::Skipped(text) => ("-", text),
        Outcome::Found(finding) => (word(finding.code.level()), &finding.message),
    }
}

fn line(out: &mut String, check: &Check, number: &mut usize, colour: bool) {
    let (word, text) = said(check);
    let mut text = text.to_owned();
    if let Outcome::Found(_) = check.outcome {
        *number += 1;
        let _ = write!(text, " ({number})");
    }
    let _ = writeln!(
        out,
        "  {}{}  {:<9}  {}",
        painted(word, colour),
        pad(word),
        check.group.word(),
        escaped(&text)
    );
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Fail => "FAIL",
        Level::Warn => "warn",
    }
}

fn pad(word: &str) -> String {
    " ".repeat(4_usize.saturating_sub(word.len()))
}

fn painted(word: &str, colour: bool) -> String {
    let paint = match word {
        "FAIL" => "\x1b[1;31m",
        "warn" => "\x1b[1;33m",
        "ok" => "\x1b[32m",
        _ => "\x1b[36m",
    };
    if colour { format!("{paint}{word}\x1b[0m") } else { word.to_owned() }
}

fn explained(out: &mut String, number: usize, finding: &Finding, colour: bool, verbose: bool) {
    let text = finding.code.explanation();
    let level = painted(word(finding.code.level()), colour);
    let _ = writeln!(out, "{number}. {level} {} [{}]", escaped(&finding.message), finding.code.as_str());
    for (label, seen) in finding.evidence.iter().filter(|(label, _)| verbose || *label != "sent") {
        field(out, label, seen);
    }
    if let Some(question) = &finding.question {
        field(out, "not certain", question);
    }
    field(out, "you see", &finding.told(text.see));
    field(out, "why", &finding.told(text.why));
    field(out, "do", &finding.told(text.fix));
    out.push('\n');
}

/// A labelled text; its further lines stand below.
fn field(out: &mut String, label: &str, text: &str) {
    for (at, line) in text.lines().enumerate() {
        // A long label keeps its blank.
        let label = if at == 0 { format!("{label} ") } else { String::new() };
        let _ = writeln!(out, "   {label:<13}{}", escaped(line));
    }
}

/// The report for a program.
pub fn json(report: &Report) -> Value {
    let sections = report.sections.iter().map(|section| {
        json!({
            "kind": section.kind,
            "subject": section.subject,
            "checks": section.checks.iter().map(check_json).collect::<Vec<_>>(),
            "exchanges": section.exchanges.iter().map(|one| json!({ "sent": one.sent, "came": one.came })).collect::<Vec<_>>(),
        })
    });
    json!({
        "version": JSON_VERSION,
        "healthy": report.count(Level::Fail) == 0,
        "failures": report.count(Level::Fail),
        "warnings": report.count(Level::Warn),
        "verdict": report.verdict(),
        "sections": sections.collect::<Vec<_>>(),
    })
}

fn check_json(check: &Check) -> Value {
    let plain = |outcome: &str, text: &str| json!({ "group": check.group, "outcome": outcome, "text": text });
    match &check.outcome {
        Outcome::Passed(text) => plain("ok", text),
        Outcome::Unknown(text) => plain("unknown", text),
        Outcome::Skipped(text) => plain("skipped", text),
        Outcome::Found(finding) => finding_json(check, finding),
    }
}

fn finding_json(check: &Check, finding: &Finding) -> Value {
    let text = finding.code.explanation();
    let evidence: Vec<_> =
        finding.evidence.iter().map(|(label, seen)| json!({ "label": label, "text": seen })).collect();
    json!({
        "group": check.group,
        "outcome": finding.code.level(),
        "text": finding.message,
        "code": finding.code.as_str(),
        "evidence": evidence,
        "confidence": if finding.question.is_some() { "likely" } else { "certain" },
        "question": finding.question,
        "you_see": finding.told(text.see),
        "why": finding.told(text.why),
        "do": finding.told(text.fix),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::check::{Kind, Section};
    use crate::doctor::explain::{Code, Group};

    fn report() -> Report {
        let mut section = Section::new(Kind::Host, "https://a.test", vec![("host", "a.test".to_owned())]);
        section.passed(Group::Port, "open");
        section.found(
            Finding::new(Code::TlsName, "bad\x1b[2J")
                .seen("altnames", "DNS:\u{202e}evil")
                .word("altnames", "DNS:b.test"),
        );
        Report { sections: vec![section] }
    }

    #[test]
    fn nothing_from_a_server_moves_the_cursor() {
        let text = text(&report(), false, false);
        assert!(!text.contains('\x1b') && !text.contains('\u{202e}'), "{text:?}");
        assert!(text.contains("\\u{1b}[2J") && text.contains("\\u{202e}evil"), "{text}");
    }

    #[test]
    fn the_explanation_speaks_of_the_case_at_hand() {
        let text = text(&report(), true, false);
        assert!(text.contains("Host: a.test. is not in the cert's altnames: DNS:b.test"), "{text}");
        assert!(text.contains("\x1b[1;31mFAIL\x1b[0m"), "{text}");
        assert!(text.ends_with("1 failure\n"), "{text}");
    }

    #[test]
    fn a_blank_stands_behind_every_label() {
        let mut out = String::new();
        for label in ["seen", "not certain.", "asked as well", "usual segments"] {
            field(&mut out, label, "9.9.9.9\nmore");
        }
        let expected = "   seen         9.9.9.9\n                more\n   not certain. 9.9.9.9\n                more\n   \
                        asked as well 9.9.9.9\n                more\n   usual segments 9.9.9.9\n                more\n";
        assert_eq!(out, expected);
    }

    #[test]
    fn json_has_the_same_findings() {
        let json = json(&report());
        assert_eq!(json["failures"], 1);
        assert_eq!(json["healthy"], false);
        let found = &json["sections"][0]["checks"][1];
        assert_eq!((found["code"].as_str(), found["outcome"].as_str()), (Some("tls-name"), Some("fail")));
    }

    #[test]
    fn findings_are_counted_in_words() {
        assert_eq!(summary(&Report::default()), "no problem found from here");
        assert_eq!(summary(&report()), "1 failure");
    }
}
