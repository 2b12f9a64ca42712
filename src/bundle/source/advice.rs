//! What to do about an unknown key.

use crate::bundle::finding::did_you_mean;
use crate::bundle::keys::{TABLES, TOP, Table};

/// What others call our keys.
const ELSEWHERE: [(&str, &str); 12] = [
    ("server", "upstream"),
    ("backend", "upstream"),
    ("target", "upstream"),
    ("proxy_pass", "upstream"),
    ("server_name", "hosts"),
    ("domain", "hosts"),
    ("names", "hosts"),
    ("fullchain", "chain"),
    ("cert", "chain"),
    ("ssl_certificate", "chain"),
    ("privkey", "key"),
    ("ssl_certificate_key", "key"),
];

/// Our key for a word of others, where this table has it.
fn translated(key: &str, known: &[&'static str]) -> Option<&'static str> {
    let words = ELSEWHERE.iter().filter(|(_, ours)| known.contains(ours)).map(|(word, _)| *word);
    let word = did_you_mean(key, words)?;
    ELSEWHERE.iter().find(|(known, _)| *known == word).map(|(_, ours)| *ours)
}

/// What to do about an unknown key: correct its spelling, move it, or both.
pub(super) fn advice(key: &str, table: &Table) -> String {
    if let Some(home) = TABLES.iter().find(|home| home.names().contains(&key)) {
        if home.title == TOP.title {
            return format!(
                "`{key}` belongs at the top of the file. In TOML, a key below a header such as {} belongs to that table: \
                 move `{key}` above the first [table].",
                table.title
            );
        }
        return format!("`{key}` belongs {}: move it there.", home.place);
    }
    let known = table.names();
    if let Some(near) = did_you_mean(key, known.iter().copied()).or_else(|| translated(key, &known)) {
        return format!("Did you mean `{near}`?");
    }
    let elsewhere = TABLES.iter().find_map(|home| Some((did_you_mean(key, home.names())?, home.place)));
    match elsewhere {
        Some((near, place)) => format!("Did you mean `{near}` {place}?"),
        None => "Remove it.".to_owned(),
    }
}
