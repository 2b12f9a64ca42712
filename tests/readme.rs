//! README.md says what the program does: its table of limits is the program's own.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use sanedge::limits::{KEYS, LIMITS, Preset, Range};
use sanedge::ops::metrics::Reason;

const BEGIN: &str = "<!-- limits -->\n";
const END: &str = "<!-- /limits -->";

fn row(place: &str, range: &Range, preset: &Preset) -> String {
    let default = match preset {
        Preset::Fixed(value) => range.unit.show(*value),
        Preset::Board(rule) => (*rule).to_owned(),
        Preset::Unbounded => "no bound".to_owned(),
    };
    let zero = range.zero.map_or(String::new(), |means| format!(", or 0: {means}"));
    let bounds = format!("{} to {}{zero}", range.unit.show(range.min), range.unit.show(range.max));
    format!("| {place} | `{}` | {default} | {bounds} | {} |\n", range.key, range.reason)
}

fn table() -> String {
    let mut table = "| where | key | default | bounds | reason |\n|---|---|---|---|---|\n".to_owned();
    for limit in &LIMITS {
        table += &row("`[limits]`", &limit.range, &limit.preset);
    }
    for (range, preset) in &KEYS {
        let place = if range.key.starts_with("drain") { "top" } else { "site, route" };
        table += &row(place, range, preset);
    }
    table
}

#[test]
fn the_table_of_limits_is_the_programs_own() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let (before, rest) = readme.split_once(BEGIN).expect("README.md has the marker of the table");
    let (found, after) = rest.split_once(END).expect("README.md has the end marker of the table");
    if std::env::var_os("SANEDGE_WRITE_README").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{}{END}{after}", table())).unwrap();
        return;
    }
    assert_eq!(found, table(), "run SANEDGE_WRITE_README=1 cargo test --test readme");
}

#[test]
fn the_table_of_reasons_is_the_programs_own() {
    let (_, rows) =
        include_str!("../README.md").split_once("| reason | which limit, or what was wrong |\n").unwrap();
    let rows = rows.lines().skip(1).take_while(|line| line.starts_with('|'));
    let words = |row: &str| -> Vec<String> {
        let first = row.split('|').nth(1).unwrap();
        first.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    let mut found: Vec<String> = rows.flat_map(words).collect();
    let mut known = Reason::NAMES.to_vec();
    found.sort_unstable();
    known.sort_unstable();
    assert_eq!(found, known);
}

#[test]
fn the_example_of_the_readme_compiles_but_for_its_certificates() {
    let readme = include_str!("../README.md");
    let example = readme.split_once("<<'X'\n").unwrap().1.split_once("\nX\n").unwrap().0;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sanedge.toml");
    std::fs::write(&path, example).unwrap();
    let outcome = sanedge::bundle::compile::compile(&path, 0);
    let codes: Vec<_> = outcome.findings.iter().map(|finding| finding.code.as_str()).collect();
    assert!(codes.iter().all(|code| *code == "file-missing"), "{codes:?}");
    assert!(!codes.is_empty());
}
