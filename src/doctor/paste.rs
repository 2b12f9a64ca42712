//! A text for a bug report: everything that helps, and nothing that identifies the server or gives access to it.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::check::{Check, Outcome, Report};
use super::options::Options;
use crate::bundle::report::escaped;

/// Parts of a query that describe the protocol and do not identify a user.
const PLAIN_KEYS: [&str; 3] = ["EIO", "transport", "t"];
/// Length from which letters and digits in a row may be a token.
const TOKEN_CHARS: usize = 24;

/// The text of the report.
pub fn text(report: &Report, options: &Options) -> String {
    let mut out = format!(
        "```text\nsanedge {} on {} {}\nasked with: {}\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH,
        given(options)
    );
    for section in &report.sections {
        let _ = writeln!(out, "\n{}", section.subject);
        section.checks.iter().for_each(|check| line(&mut out, check));
        for exchange in &section.exchanges {
            let _ = writeln!(out, "  {} -> {}", exchange.sent, exchange.came);
        }
    }
    let mut addresses = Vec::new();
    let mut masked: String = out.lines().map(|line| mask(&escaped(line), &mut addresses) + "\n").collect();
    masked.push_str("```\n");
    masked
}

/// Names of the options that matter, without their values.
fn given(options: &Options) -> String {
    let mut given = options.private(!options.query.is_empty());
    let more = [
        (options.origin.is_some(), "origin"),
        (options.path.is_some(), "path"),
        (options.hold.is_some(), "hold"),
        (options.insecure, "insecure"),
        (options.no_cookies, "no-cookies"),
        (options.ca.is_some(), "ca"),
        (!options.resolve.is_empty(), "resolve"),
        (!options.upstream.is_empty(), "upstream"),
    ];
    given.extend(more.into_iter().filter_map(|(is, name)| is.then_some(name)));
    let mut text = given.join(", ");
    if let Some(transport) = options.transport {
        let _ = write!(text, " transport {transport:?}");
    }
    if text.is_empty() { "a host alone".to_owned() } else { text }
}

fn line(out: &mut String, check: &Check) {
    let (word, text) = match &check.outcome {
        Outcome::Passed(text) => ("ok", text.clone()),
        Outcome::Unknown(text) => ("?", text.clone()),
        Outcome::Skipped(text) => ("-", text.clone()),
        Outcome::Found(finding) => {
            let seen =
                finding.evidence.iter().map(|(label, text)| format!("; {label}: {text}")).collect::<String>();
            let level = if finding.code.level() == super::explain::Level::Fail { "FAIL" } else { "warn" };
            (level, format!("[{}] {}{seen}", finding.code.as_str(), finding.message))
        }
    };
    let _ = writeln!(out, "  {word:<4} {:<9} {text}", check.group.word());
}

/// One line without addresses, values of queries and tokens. The same address has the same number everywhere.
fn mask(line: &str, addresses: &mut Vec<IpAddr>) -> String {
    let is_end = |c: char| c.is_whitespace() || "()`\"',;<>".contains(c);
    let mut out = String::new();
    for word in line.split_inclusive(is_end) {
        let ends = word.chars().next_back().filter(|c| is_end(*c));
        out += &mask_word(word.strip_suffix(is_end).unwrap_or(word), addresses);
        out.extend(ends);
    }
    out
}

fn mask_word(word: &str, addresses: &mut Vec<IpAddr>) -> String {
    let (front, query) = word.split_once('?').map_or((word, None), |(front, query)| (front, Some(query)));
    let parts = front.split_inclusive('/').map(|part| {
        let bare = part.trim_end_matches('/');
        mask_part(bare, addresses) + part.get(bare.len()..).unwrap_or_default()
    });
    let mut out: String = parts.collect();
    if let Some(query) = query {
        let pairs: Vec<String> = query.split('&').map(mask_pair).collect();
        let _ = write!(out, "?{}", pairs.join("&"));
    }
    out
}

fn mask_pair(pair: &str) -> String {
    match pair.split_once('=') {
        Some((key, _)) if !PLAIN_KEYS.contains(&key) => format!("{key}=***"),
        _ => pair.to_owned(),
    }
}

/// A part of a word: an address with or without its port, a long token, or something else.
fn mask_part(part: &str, addresses: &mut Vec<IpAddr>) -> String {
    let bare = part.trim_end_matches(['.', ':']);
    let rest = part.get(bare.len()..).unwrap_or_default();
    let unbracketed = bare.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = unbracketed.parse::<IpAddr>() {
        return number(ip, addresses) + rest;
    }
    if let Ok(socket) = bare.parse::<SocketAddr>() {
        return format!("{}:{}{rest}", number(socket.ip(), addresses), socket.port());
    }
    let is_token = bare.chars().all(|c| c.is_ascii_alphanumeric() || "-_+=".contains(c))
        && bare.len() >= TOKEN_CHARS
        && bare.chars().any(|c| c.is_ascii_digit());
    if is_token { format!("[token]{rest}") } else { part.to_owned() }
}

/// This machine's own address says nothing.
fn number(ip: IpAddr, addresses: &mut Vec<IpAddr>) -> String {
    if ip.is_loopback() || ip.is_unspecified() {
        return ip.to_string();
    }
    let at = addresses.iter().position(|known| *known == ip).unwrap_or_else(|| {
        addresses.push(ip);
        addresses.len() - 1
    });
    format!("[address {}]", at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_queries_and_tokens_are_masked_and_the_rest_stays() {
        let mut addresses = Vec::new();
        for (line, masked) in [
            ("9.9.9.9:443 is open (3 ms)", "[address 1]:443 is open (3 ms)"),
            ("[2620:fe::9]:443, and 9.9.9.9.", "[address 2]:443, and [address 1]."),
            ("127.0.0.1:3002 refuses", "127.0.0.1:3002 refuses"),
            (
                "GET https://a.test/socket.io/?EIO=4&transport=polling&t=x&token=s3&sid=ab…",
                "GET https://a.test/socket.io/?EIO=4&transport=polling&t=x&token=***&sid=***",
            ),
            ("to `https://9.9.9.9/login?next=/a`", "to `https://[address 1]/login?next=***`"),
            ("Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9", "Bearer [token]"),
            (
                "Engine.IO 4 at /socket.io/: pingInterval 25000 ms",
                "Engine.IO 4 at /socket.io/: pingInterval 25000 ms",
            ),
            ("certificate-for-a-rather-long-name", "certificate-for-a-rather-long-name"),
        ] {
            assert_eq!(mask(line, &mut addresses), masked);
        }
    }
}
