//! Which keys exist where, and what to do about others.

use crate::bundle::finding::did_you_mean;
use crate::limits;

/// Keys of one kind of table.
pub(super) struct Section {
    /// As it is written in the file.
    pub(super) title: &'static str,
    /// The same after a verb.
    pub(super) place: &'static str,
    pub(super) keys: &'static [&'static str],
}

pub(super) const TOP: Section = Section {
    title: "the top of the file",
    place: "at the top of the file",
    keys: &[
        "board",
        "listen",
        "certificate",
        "site",
        "limits",
        "trusted_proxies",
        "exempt",
        "trust",
        "watch",
        "drain_timeout",
        "drain_spread",
        "suite_order",
    ],
};
pub(super) const LISTEN: Section = Section {
    title: "[listen]",
    place: "in [listen]",
    keys: &["https", "http", "admin", "default_host", "public_https_port", "acme_dir", "proxy_protocol_from"],
};
pub(super) const CERTIFICATE: Section =
    Section { title: "[[certificate]]", place: "in [[certificate]]", keys: &["chain", "key"] };
macro_rules! rule_keys {
    ($($own:literal),*) => {
        &[
            $($own,)*
            "upstream",
            "path",
            "origins",
            "require_origin",
            "allow",
            "allow_public_upstream",
            "response_timeout",
            "idle_timeout",
            "ping_interval",
            "frame_bytes_max",
            "message_bytes_max",
            "body_bytes_max",
            "check_utf8",
            "send_proxy_protocol",
            "access_log",
        ]
    };
}
pub(super) const SITE: Section =
    Section { title: "[[site]]", place: "in [[site]]", keys: rule_keys!("hosts", "route") };
pub(super) const ROUTE: Section =
    Section { title: "[[site.route]]", place: "in [[site.route]]", keys: rule_keys!() };

/// Its keys are the limits module's.
pub(super) const LIMITS: Section = Section { title: "[limits]", place: "in [limits]", keys: &[] };

pub(super) fn limit_keys() -> Vec<&'static str> {
    limits::LIMITS.iter().map(|limit| limit.range.key).collect()
}

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

/// What to do about an unknown key: mend its spelling, move it, or both.
pub(super) fn advice(key: &str, section: &Section) -> String {
    let homes = || [&TOP, &LISTEN, &CERTIFICATE, &SITE, &ROUTE, &LIMITS].into_iter();
    if let Some(home) = homes().find(|home| home.known().contains(&key)) {
        if home.title == TOP.title {
            return format!(
                "`{key}` is a key of the whole file. TOML gives what stands below a header such as {} to that table: move \
                 `{key}` above the first [table].",
                section.title
            );
        }
        return format!("`{key}` belongs {}: move it there.", home.place);
    }
    let known = section.known();
    if let Some(near) = did_you_mean(key, known.iter().copied()).or_else(|| translated(key, &known)) {
        return format!("Did you mean `{near}`?");
    }
    let elsewhere = homes().find_map(|home| Some((did_you_mean(key, home.known())?, home.place)));
    match elsewhere {
        Some((near, place)) => format!("Did you mean `{near}` {place}?"),
        None => "Remove it.".to_owned(),
    }
}

impl Section {
    fn known(&self) -> Vec<&'static str> {
        if self.title == LIMITS.title { limit_keys() } else { self.keys.to_vec() }
    }
}
