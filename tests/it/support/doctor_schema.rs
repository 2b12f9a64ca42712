//! Holds a document of `sanedge doctor --json` to the tables of docs/doctor-json.md: every field that is there is described
//! there with its type, and every field that is described is there.

use std::collections::BTreeSet;

use serde_json::Value;

const PAGE: &str = include_str!("../../../docs/doctor-json.md");

/// # Panics
/// Where document and page differ.
pub(crate) fn holds(document: &Value) {
    let check = |outcome: &str| matches!(outcome, "fail" | "warn");
    same(document, &described("", "`version`"), "the document");
    for section in document["sections"].as_array().unwrap() {
        same(section, &described("sections[].", "`version`"), "a section");
        for one in section["checks"].as_array().unwrap() {
            let mut fields = described("checks[].", "`version`");
            if check(one["outcome"].as_str().unwrap()) {
                fields.extend(described("", "`code`"));
                one["evidence"].as_array().unwrap().iter().for_each(evidence);
            }
            same(one, &fields, "a check");
        }
    }
}

fn evidence(one: &Value) {
    assert!(PAGE.contains("array of `{label, text}`"));
    assert!(
        one["label"].is_string() && one["text"].is_string() && one.as_object().unwrap().len() == 2,
        "{one}"
    );
}

/// Name and type of the fields below `prefix`, in the table that has a row for `row`.
fn described(prefix: &str, row: &str) -> Vec<(String, String)> {
    let table = PAGE.split("\n\n").find(|part| part.starts_with("| field") && part.contains(row)).unwrap();
    let mut found = Vec::new();
    for line in table.lines().skip(2) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        for name in cells[1].split(", ").map(|name| name.trim_matches('`')) {
            let own = name.strip_prefix(prefix).filter(|own| !own.contains('.'));
            found.extend(own.map(|own| (own.to_owned(), cells[2].to_owned())));
        }
    }
    assert!(!found.is_empty(), "{prefix} {row}");
    found
}

fn same(value: &Value, described: &[(String, String)], what: &str) {
    let object = value.as_object().unwrap();
    let fields: BTreeSet<&str> = object.keys().map(String::as_str).collect();
    let expected: BTreeSet<&str> = described.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(fields, expected, "fields of {what}: {value}");
    for (name, kind) in described {
        let value = &object[name];
        let fits = kind.split(" or ").any(|kind| match kind {
            "number" => value.is_u64(),
            "bool" => value.is_boolean(),
            "string" => value.is_string(),
            "null" => value.is_null(),
            kind => kind.starts_with("array") && value.is_array(),
        });
        assert!(fits, "`{name}` of {what} is no {kind}: {value}");
    }
}
