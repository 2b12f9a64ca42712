//! What to do about an unknown key.

use super::foreign;
use crate::bundle::finding::did_you_mean;
use crate::bundle::keys::{TABLES, TOP, Table};
use crate::excerpt::Excerpt;

/// Other programs' words for sanedge's keys.
const ELSEWHERE: [(&str, &str); 66] = [
    ("server", "upstream"),
    ("servers", "upstream"),
    ("backend", "upstream"),
    ("target", "upstream"),
    ("proxy_pass", "upstream"),
    ("reverse_proxy", "upstream"),
    ("forward_host", "upstream"),
    ("forward_port", "upstream"),
    ("server_name", "hosts"),
    ("domain", "hosts"),
    ("domain_names", "hosts"),
    ("names", "hosts"),
    ("location", "route"),
    ("locations", "route"),
    ("handle", "route"),
    ("stripprefix", "strip_prefix"),
    ("uri_strip_prefix", "strip_prefix"),
    ("strip_path", "strip_prefix"),
    ("strip_path_prefix", "strip_prefix"),
    ("handle_path", "route"),
    ("redir", "redirect"),
    ("redirects", "redirect"),
    ("redirection", "redirect"),
    ("redirection_host", "redirect"),
    ("www_redirect", "redirect"),
    ("redirect_www", "redirect"),
    ("ssl_buffer_size", "record_bytes_max"),
    ("hsts_enabled", "hsts"),
    ("strict_transport_security", "hsts"),
    ("sts_seconds", "hsts"),
    ("stsseconds", "hsts"),
    ("header", "headers"),
    ("add_header", "headers"),
    ("more_set_headers", "headers"),
    ("proxy_hide_header", "headers"),
    ("response_header", "headers"),
    ("response_headers", "headers"),
    ("header_down", "headers"),
    ("custom_headers", "headers"),
    ("custom_response_headers", "headers"),
    ("customresponseheaders", "headers"),
    ("set_header", "headers"),
    ("security_headers", "headers"),
    ("fullchain", "chain"),
    ("cert", "chain"),
    ("cert_file", "chain"),
    ("ssl_certificate", "chain"),
    ("privkey", "key"),
    ("key_file", "key"),
    ("ssl_certificate_key", "key"),
    ("ca", "trust"),
    ("ca_file", "trust"),
    ("bind", "https"),
    ("port", "https"),
    ("entrypoints", "https"),
    ("set_real_ip_from", "trusted_proxies"),
    ("trusted_ips", "trusted_proxies"),
    ("client_max_body_size", "body_bytes_max"),
    ("proxy_read_timeout", "response_timeout"),
    ("timeout", "response_timeout"),
    ("proxy_connect_timeout", "connect_timeout"),
    ("proxy_send_timeout", "stall_timeout"),
    ("client_header_timeout", "head_timeout"),
    ("large_client_header_buffers", "head_bytes_max"),
    ("worker_processes", "workers"),
    ("worker_connections", "sessions_max"),
];

/// sanedge's key for another program's word, if this table has it.
fn translated(key: &str, known: &[&'static str]) -> Option<&'static str> {
    let words = ELSEWHERE.iter().filter(|(_, ours)| known.contains(ours)).map(|(word, _)| *word);
    let word = did_you_mean(key, words)?;
    ELSEWHERE.iter().find(|(known, _)| *known == word).map(|(_, ours)| *ours)
}

/// sanedge's key for exactly this word of another program, with the table that has it.
fn translated_elsewhere(key: &str) -> Option<(&'static str, &'static str)> {
    let (_, ours) = ELSEWHERE.iter().find(|(word, _)| word.eq_ignore_ascii_case(key))?;
    let home = TABLES.iter().find(|table| table.names().contains(ours))?;
    Some((ours, home.place))
}

/// What is wrong with an unknown key and what to do: correct its spelling, move it, both, or use an alternative to a missing feature.
pub(super) struct Advice {
    pub(super) message: String,
    pub(super) remedy: String,
}

pub(super) fn advice(key: &str, table: &Table) -> Advice {
    let shown = Excerpt::of(key);
    let unknown =
        |remedy: String| Advice { message: format!("unknown key `{shown}` {}", table.place), remedy };
    if let Some(home) = TABLES.iter().find(|home| home.names().contains(&key)) {
        if home.title == TOP.title {
            return unknown(format!(
                "`{shown}` belongs at the top of the file. In TOML, a key below a header such as {} belongs to that table: \
                 move `{shown}` above the first [table].",
                table.title
            ));
        }
        return unknown(format!("`{shown}` belongs {}: move it there.", home.place));
    }
    if let Some(feature) = foreign::find(key) {
        let message = format!("sanedge does not do this: `{shown}` {}", table.place);
        return Advice { message, remedy: format!("Remove it: {}. {}.", feature.reason, feature.instead) };
    }
    let known = table.names();
    if let Some(near) = did_you_mean(key, known.iter().copied()).or_else(|| translated(key, &known)) {
        return unknown(format!("Did you mean `{near}`?"));
    }
    let elsewhere = TABLES.iter().find_map(|home| Some((did_you_mean(key, home.names())?, home.place)));
    match elsewhere.or_else(|| translated_elsewhere(key)) {
        Some((near, place)) => unknown(format!("Did you mean `{near}` {place}?")),
        None => unknown("Remove it.".to_owned()),
    }
}
