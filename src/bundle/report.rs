//! What `sanedge bundle` and `sanedge show` say: text for a terminal, JSON for a program.
//!
//! Pure: values in, text out. Whatever came from a file is escaped, so that no name can move a cursor.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::compile::{HostRow, Outcome, day, show_upstream, shown_redirect};
use super::finding::{Finding, Severity};
use super::table::{PENDING, columns};
use super::websockets::WebSockets;
use super::{Admin, Bundle, Certificate, Route, Site, SiteHeader};
use crate::excerpt::Excerpt;
pub use crate::excerpt::visible as escaped;
use crate::http::changes::HSTS_FIELD;
use crate::limits::{DRAIN, LIMITS, Limits, RECORD_BYTES_MAX, RULES, Row, Unit};

/// Findings for a terminal, one paragraph each, and a last line that counts them.
pub fn findings(findings: &[Finding], colour: bool) -> String {
    let mut out = String::new();
    for finding in findings {
        paragraph(&mut out, finding, colour);
    }
    out
}

/// `2 errors, 1 warning`; empty where there is neither.
pub fn count(findings: &[Finding]) -> String {
    let of = |severity| findings.iter().filter(|f| f.severity() == severity).count();
    let words = [(of(Severity::Error), "error"), (of(Severity::Warning), "warning")];
    let some = words.iter().filter(|(n, _)| *n > 0);
    some.map(|(n, word)| format!("{n} {word}{}", if *n == 1 { "" } else { "s" }))
        .collect::<Vec<_>>()
        .join(", ")
}

fn paragraph(out: &mut String, finding: &Finding, colour: bool) {
    let word = finding.severity().as_str();
    let paint = match finding.severity() {
        Severity::Error => "\x1b[1;31m",
        Severity::Warning => "\x1b[1;33m",
        Severity::Note => "\x1b[1;36m",
    };
    let (paint, plain) = if colour { (paint, "\x1b[0m") } else { ("", "") };
    let _ = writeln!(out, "{paint}{word}{plain} {} [{}]", escaped(&finding.message), finding.code.as_str());
    let place = &finding.place;
    if let Some(file) = &place.file {
        let line = place.line.map(|line| format!(":{line}")).unwrap_or_default();
        field(out, "at", &format!("{}{line}", Excerpt::of_path(file)));
    }
    field(out, "expected", &finding.expected);
    field(out, "found", &finding.found);
    if finding.severity() != Severity::Note {
        field(out, "do", &finding.remedy);
    }
    out.push('\n');
}

/// A labelled text; its further lines are commands and stand below.
fn field(out: &mut String, label: &str, text: &str) {
    for (at, line) in text.lines().enumerate() {
        let label = if at == 0 { label } else { "" };
        let _ = writeln!(out, "  {label:<10}{}", escaped(line));
    }
}

/// host → certificate → days left → upstream.
pub fn table(hosts: &[HostRow]) -> String {
    let mut rows = vec![["host", "certificate", "days left", "upstream"].map(str::to_owned)];
    for host in hosts {
        let mut certificate = host
            .certificate
            .clone()
            .unwrap_or_else(|| if host.pending { PENDING.to_owned() } else { "none".to_owned() });
        if host.carried_over {
            certificate += " (kept)";
        }
        let days = host.left.clone().unwrap_or_else(|| "-".to_owned());
        let redirect = host.redirect.iter().map(|to| redirected(to));
        let routes = host.routes.iter().map(|(path, upstreams)| routed(path, upstreams));
        let mut upstreams = redirect.chain(routes);
        rows.push([
            host.host.clone(),
            certificate,
            days,
            upstreams.next().unwrap_or_else(|| "none".to_owned()),
        ]);
        rows.extend(upstreams.map(|text| [String::new(), String::new(), String::new(), text]));
    }
    columns(&rows)
}

/// Where a site redirects to, in the place of its upstreams.
pub fn redirected(to: &str) -> String {
    format!("redirects to {to}")
}

fn routed(path: &str, upstreams: &[String]) -> String {
    let upstreams = upstreams.join(", ");
    if path == "/" { upstreams } else { format!("{path} -> {upstreams}") }
}

/// host, path → origins.
pub fn websockets(rows: &[WebSockets]) -> String {
    let head = ["host", "path", "WebSockets from"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(head).chain(rows.iter().map(row)).collect();
    let rule = "the site's own are its https:// pages and wss:// of its hosts; `origins` adds to them, `origins_default = false` drops them";
    format!("{}  ({rule})\n", columns(&rows))
}

fn row(route: &WebSockets) -> [String; 3] {
    let host = match route.hosts.as_slice() {
        [one] => one.clone(),
        [first, others @ ..] => format!("{first} and {} more", others.len()),
        [] => String::new(),
    };
    let all: Vec<_> = route.own.iter().chain(&route.listed).map(String::as_str).collect();
    [host, route.path.clone(), if all.is_empty() { "programs only".to_owned() } else { all.join(" ") }]
}

fn websockets_json(row: &WebSockets) -> Value {
    json!({ "hosts": row.hosts, "path": row.path, "own": row.own, "listed": row.listed })
}

/// The same findings for a program; `written` is the bundle's path where one was written.
pub fn outcome_json(outcome: &Outcome, written: Option<&Path>) -> Value {
    json!({
        "findings": outcome.findings.iter().map(finding_json).collect::<Vec<_>>(),
        "hosts": outcome.hosts.iter().map(host_json).collect::<Vec<_>>(),
        "websockets": outcome.websockets.iter().map(websockets_json).collect::<Vec<_>>(),
        "in_part": outcome.in_part,
        "written": written.map(|path| Excerpt::of_path(path).to_string()),
    })
}

/// One finding for a program.
pub fn finding_json(finding: &Finding) -> Value {
    let place = &finding.place;
    json!({
        "code": finding.code.as_str(),
        "severity": finding.severity(),
        "file": place.file.as_ref().map(|file| Excerpt::of_path(file).to_string()),
        "line": place.line,
        "host": place.host,
        "certificate": place.certificate,
        "message": finding.message,
        "expected": finding.expected,
        "found": finding.found,
        "remedy": finding.remedy,
    })
}

fn host_json(host: &HostRow) -> Value {
    let routes = host.routes.iter().map(|(path, upstream)| json!({ "path": path, "upstream": upstream }));
    json!({
        "host": host.host,
        "certificate": host.certificate,
        "carried_over": host.carried_over,
        "days_left": host.days_left,
        "renewal_due": host.renewal_due,
        "renewal": host.renewal,
        "redirect": host.redirect,
        "routes": routes.collect::<Vec<_>>(),
    })
}

// --- what is inside a bundle ------------------------------------------------------------------------------

/// A bundle's content for a terminal as of `now`, in seconds since 1970. Never a key.
pub fn bundle(bundle: &Bundle, now: i64) -> String {
    let mut out = String::new();
    let listed = |addresses: &[std::net::SocketAddr]| match addresses {
        [] => "none".to_owned(),
        some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    field(&mut out, "digest", &hex(&bundle.digest));
    field(&mut out, "board", &bundle.board);
    field(&mut out, "https", &listed(&bundle.listen.https));
    field(&mut out, "http", &listed(&bundle.listen.http));
    field(&mut out, "admin", &admin(bundle.listen.admin.as_ref()));
    let default = bundle.listen.default_host.and_then(|at| bundle.hosts.get(usize::from(at)));
    field(&mut out, "no SNI", &default.map_or_else(|| "refused".to_owned(), |h| h.host.to_string()));
    let _ = write!(out, "\n{}\n{}\n", certificates(bundle, now), hosts(bundle));
    let _ = write!(out, "{}\n{}{}", routes(bundle), fields(bundle), limit_rows(bundle));
    out
}

fn admin(admin: Option<&Admin>) -> String {
    let default = "the default path, where its folder can be used";
    admin.map_or_else(|| default.to_owned(), ToString::to_string)
}

fn names(certificate: &Certificate) -> Vec<String> {
    certificate.names.iter().map(ToString::to_string).collect()
}

fn certificates(bundle: &Bundle, now: i64) -> String {
    let mut rows = vec![["certificate", "key", "chain", "until", "days left", "covers"].map(str::to_owned)];
    rows.extend(bundle.certificates.iter().map(|c| {
        let key = format!("{:?}", c.key.key.algorithm());
        let (chain, days) = (c.key.cert.len().to_string(), c.lifetime().column(now));
        [c.label.to_string(), key, chain, day(c.not_after), days, names(c).join(" ")]
    }));
    columns(&rows)
}

pub(super) fn label_of(bundle: &Bundle, certificate: u16) -> String {
    bundle.certificates.get(usize::from(certificate)).map(|c| c.label.to_string()).unwrap_or_default()
}

fn hosts(bundle: &Bundle) -> String {
    let mut rows = vec![["host", "site", "certificate"].map(str::to_owned)];
    rows.extend(
        bundle
            .hosts
            .iter()
            .map(|h| [h.host.to_string(), h.site.to_string(), label_of(bundle, h.certificate)]),
    );
    rows.extend(bundle.pending.iter().map(|h| [h.host.to_string(), h.site.to_string(), PENDING.to_owned()]));
    columns(&rows)
}

fn upstreams(route: &Route) -> Vec<String> {
    route.upstreams.iter().map(show_upstream).collect()
}

fn routes(bundle: &Bundle) -> String {
    let mut rows = vec![["site", "path", "upstream", "WebSockets from"].map(str::to_owned)];
    for (at, site) in (0..).zip(&bundle.sites) {
        let row = |r: &Route| {
            let [_, path, origins] = row(&WebSockets::of(bundle, at, r));
            let path = if r.strip_prefix { format!("{path} (stripped)") } else { path };
            [at.to_string(), path, upstreams(r).join(", "), origins]
        };
        let redirect = site.redirect.iter().map(|to| redirected(&shown_redirect(to)));
        rows.extend(redirect.map(|to| [at.to_string(), "/".to_owned(), to, String::new()]));
        rows.extend(site.routes.iter().map(row));
    }
    columns(&rows)
}

/// What sites change in the fields of responses; empty where none does.
fn fields(bundle: &Bundle) -> String {
    let head = ["site", "response field", "value"].map(str::to_owned);
    let rows = (0..).zip(&bundle.sites).flat_map(|(at, site): (usize, _)| {
        let hsts = site.hsts_s.map(|seconds| (HSTS_FIELD.to_owned(), format!("max-age={seconds}")));
        let all = hsts.into_iter().chain(site.headers.iter().map(shown_header));
        all.map(move |(name, value)| [at.to_string(), name, value])
    });
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    if rows.len() == 1 { String::new() } else { format!("{}\n", columns(&rows)) }
}

/// Name and value, as far as they are shown.
pub(super) fn shown_header(header: &SiteHeader) -> (String, String) {
    let value = header.value.as_ref().map_or_else(|| "removed".to_owned(), |value| Excerpt::of(value).into());
    (Excerpt::of(&header.name).into(), value)
}

fn limit_rows(bundle: &Bundle) -> String {
    let mut rows = vec![["limit", "value"].map(str::to_owned)];
    let shown = |row: &Row<Limits>| row.range.unit.show(row.value(&bundle.limits).unwrap_or_default());
    rows.extend(LIMITS.iter().map(|row| [row.range.key.to_owned(), shown(row)]));
    columns(&rows)
}

/// `bytes` in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// The same for a program. Never a key.
pub fn bundle_json(bundle: &Bundle, now: i64) -> Value {
    let listen = &bundle.listen;
    let texts =
        |addresses: &[std::net::SocketAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
    let default = listen.default_host.and_then(|at| bundle.hosts.get(usize::from(at)));
    let limits: Map<String, Value> =
        LIMITS.iter().map(|row| (row.range.key.to_owned(), json!(row.value(&bundle.limits)))).collect();
    let mut all = json!({
        "digest": hex(&bundle.digest),
        "board": &*bundle.board,
        "listen": {
            "https": texts(&listen.https),
            "http": texts(&listen.http),
            "admin": listen.admin.as_ref().map(|a| admin(Some(a))),
            "default_host": default.map(|h| h.host.to_string()),
            "public_https_port": listen.public_https_port,
            "challenges": listen.challenges.as_ref().map(|d| Excerpt::of_path(d).to_string()),
            "acme_dir": listen.acme_dir.as_ref().map(|d| Excerpt::of_path(d).to_string()),
            "proxy_protocol_from": listen.proxy_protocol_from.iter().map(ToString::to_string).collect::<Vec<_>>(),
        },
        "trusted_proxies": bundle.trusted_proxies.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "exempt": bundle.exempt.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "watch": bundle.watch,
        "suite_order": bundle.suite_order,
        "post_quantum": bundle.post_quantum,
        "limits": limits,
        "certificates": bundle.certificates.iter().map(|c| json!({
            "label": &*c.label,
            "names": names(c),
            "key": format!("{:?}", c.key.key.algorithm()),
            "chain_length": c.key.cert.len(),
            "not_before": c.not_before,
            "not_after": c.not_after,
            "days_left": c.lifetime().days_left(now),
            "renewal_due": c.lifetime().renewal_due(),
            "renewal": c.lifetime().urgency(now),
        })).collect::<Vec<_>>(),
        "hosts": bundle.hosts.iter().map(|h| json!({
            "host": h.host.to_string(),
            "site": h.site,
            "certificate": label_of(bundle, h.certificate),
        })).collect::<Vec<_>>(),
        "pending": bundle.pending.iter().map(|h| h.host.to_string()).collect::<Vec<_>>(),
        "sites": (0..).zip(&bundle.sites).map(|(at, site)| {
            let mut all = site_json(site);
            let routes: Vec<_> = site.routes.iter().map(|route| route_json(bundle, at, route)).collect();
            all.insert("headers".to_owned(), headers_json(site));
            all.insert("routes".to_owned(), json!(routes));
            all
        }).collect::<Vec<_>>(),
    });
    add_settings(&mut all, &DRAIN, &bundle.drain);
    all
}

/// Adds each row of a table under its key, with the unit of durations.
fn add_settings<T>(to: &mut Value, rows: &[Row<T>], settings: &T) {
    let Some(to) = to.as_object_mut() else { return };
    for row in rows {
        let value = row.value(settings);
        let (key, value) = match row.range.unit {
            Unit::Milliseconds => (format!("{}_ms", row.range.key), json!(value)),
            Unit::Switch => (row.range.key.to_owned(), json!(value == Some(1))),
            Unit::Count | Unit::Bytes => (row.range.key.to_owned(), json!(value)),
        };
        to.insert(key, value);
    }
}

/// What a site has for all its paths, but for its fields.
pub(super) fn site_json(site: &Site) -> Map<String, Value> {
    let redirect = site.redirect.as_ref().map(shown_redirect);
    let hsts_ms = site.hsts_s.map(|seconds| u64::from(seconds) * 1000);
    let access_log = site.redirect.as_ref().map(|_| json!(site.access_log));
    let record_bytes_max = site.record_bytes_max.map_or(RECORD_BYTES_MAX.max, u64::from);
    [
        ("redirect", json!(redirect)),
        ("hsts_ms", json!(hsts_ms)),
        (RECORD_BYTES_MAX.key, json!(record_bytes_max)),
    ]
    .into_iter()
    .chain(access_log.map(|value| ("access_log", value)))
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

fn headers_json(site: &Site) -> Value {
    let one = |header: &SiteHeader| {
        let (name, value) = shown_header(header);
        (name, header.value.as_ref().map_or(json!(false), |_| json!(value)))
    };
    Value::Object(site.headers.iter().map(one).collect())
}

pub(super) fn route_json(bundle: &Bundle, site: u16, route: &Route) -> Value {
    let WebSockets { own, listed, .. } = WebSockets::of(bundle, site, route);
    let mut all = json!({
        "path": &*Excerpt::of(&route.path),
        "strip_prefix": route.strip_prefix,
        "upstream": upstreams(route),
        "origins": own.into_iter().chain(listed).collect::<Vec<_>>(),
        "origins_default": route.origins.own,
        "allow": route.allow.iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    add_settings(&mut all, &RULES, &route.rules);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::finding::Code;

    #[test]
    fn nothing_from_a_file_moves_the_cursor() {
        let finding =
            Finding::new(Code::HostNotCovered, "a\x1b[2Jb").found("one\nCN=\u{202e}evil").remedy("x\r");
        let text = findings(&[finding], false);
        assert!(!text.contains('\x1b') && !text.contains('\r') && !text.contains('\u{202e}'), "{text:?}");
        assert!(text.contains("\\u{1b}[2J"), "{text}");
    }

    #[test]
    fn korean_paths_stay_readable() {
        assert_eq!(escaped("인증서/fullchain.pem"), "인증서/fullchain.pem");
    }

    #[test]
    fn colour_is_there_only_when_asked_for() {
        let finding = [Finding::new(Code::Expired, "old")];
        assert!(findings(&finding, true).contains("\x1b[1;31merror\x1b[0m old"));
        assert!(!findings(&finding, false).contains('\x1b'));
    }

    #[test]
    fn findings_are_counted_in_words() {
        let error = Finding::new(Code::Expired, "");
        let warning = Finding::new(Code::UnknownCa, "");
        assert_eq!(count(&[]), "");
        assert_eq!(count(&[error.clone(), error.clone(), warning.clone()]), "2 errors, 1 warning");
        assert_eq!(count(&[warning]), "1 warning");
        assert_eq!(count(&[error]), "1 error");
    }
}
