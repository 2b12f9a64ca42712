//! What `sanedge reload` and `sanedge status` say on a terminal. Pure: state in, text out.

use std::fmt::Write as _;

use super::{HostStatus, ReloadReport, Status};
use crate::bundle::acme::told::Renewals;
use crate::bundle::lifetime::moment;
use crate::bundle::table::{PENDING, columns};
use crate::excerpt::visible as escaped;

/// How a reload went.
pub fn reload(report: &ReloadReport) -> String {
    let notes: String = report.notes.iter().map(|note| format!("note {}\n", escaped(note))).collect();
    format!("{} ({})\n{notes}", escaped(&report.message), escaped(&report.bundle))
}

/// How the edge is.
pub fn status(status: &Status) -> String {
    let mut out = head(status);
    let _ = write!(out, "\n{}", hosts(status));
    let _ = write!(out, "\n{}", upstreams(status));
    if let Some(told) = status.acme.as_ref().filter(|told| !told.certificates.is_empty()) {
        let _ = write!(out, "\n{}", renewals(told));
    }
    for (title, counts) in [
        ("TLS handshakes", &status.tls_handshakes),
        ("refused", &status.refused),
        ("WebSockets ended", &status.websocket_closes),
    ] {
        let rows = counts.iter().filter(|(_, count)| **count > 0);
        let rows: Vec<_> = rows.map(|(name, count)| [name.clone(), count.to_string()]).collect();
        if !rows.is_empty() {
            let _ = write!(out, "\n{}", table([title, "since the start"], rows));
        }
    }
    out
}

fn head(status: &Status) -> String {
    let count = |name: &str| status.counters.get(name).copied().unwrap_or(0);
    let (rates, process) = (&status.rates, &status.process);
    let mut state = format!(
        "sanedge {} for board {}, up {}, bundle {}",
        escaped(&status.version),
        escaped(&status.board),
        duration(status.uptime_s),
        escaped(&status.bundle),
    );
    if status.draining {
        state += ", DRAINING";
    }
    if !status.clock_believable {
        state += "\nthe system clock is earlier than a certificate's notBefore: days left are unknown";
    }
    if !status.workers_stuck.is_empty() {
        let _ = write!(state, ", STUCK WORKERS {:?}", status.workers_stuck);
    }
    let lines = [
        (
            "sessions",
            format!(
                "{} now, {} at the peak, {} at most; {} in the TLS handshake",
                status.sessions, status.sessions_peak, status.sessions_max, status.handshakes
            ),
        ),
        (
            "traffic",
            format!(
                "{:.1} messages/s, {}/s in, {}/s out",
                rates.messages_per_s,
                bytes(rates.received_bytes_per_s),
                bytes(rates.sent_bytes_per_s)
            ),
        ),
        ("processor", format!("{:.1} % of one core, {} workers", rates.cpu_percent, status.workers)),
        (
            "memory",
            format!(
                "{} of at most {}; {} of {} descriptors",
                bytes(process.resident_bytes as f64),
                bytes(process.budget_bytes as f64),
                process.open_files,
                process.open_files_max
            ),
        ),
        ("sandbox", status.sandbox.clone()),
        (
            "so far",
            format!(
                "{} sessions, {} requests, {} WebSockets, {} requests that no upstream answered, {} reloads ({} refused)",
                count("sessions_total"),
                count("exchanges_total"),
                count("websockets_total"),
                count("upstream_failures_total"),
                count("reloads_total"),
                count("reloads_refused_total")
            ),
        ),
    ];
    let lines = lines.iter().map(|(label, text)| format!("  {label:<10}{text}\n")).collect::<String>();
    let panics = match count("panics_total") {
        0 => String::new(),
        panics => format!("  panics    {panics}: each is a bug; please report it with its log line\n"),
    };
    format!("{state}\n{lines}{panics}")
}

fn hosts(status: &Status) -> String {
    let rows = status.hosts.iter().map(|host| {
        let of = |class: &str| host.responses.get(class).copied().unwrap_or(0).to_string();
        [
            host.host.clone(),
            host.certificate.clone(),
            host.left.clone().unwrap_or_else(|| "?".to_owned()),
            host.websockets_open.to_string(),
            of("2xx"),
            of("3xx"),
            of("4xx"),
            of("5xx"),
        ]
    });
    let titles = ["host", "certificate", "days left", "WebSockets", "2xx", "3xx", "4xx", "5xx"];
    let waits = |host: &String| {
        let mut row = ["-"; 8].map(str::to_owned);
        let [name, certificate, ..] = &mut row;
        (*name, *certificate) = (host.clone(), PENDING.to_owned());
        row
    };
    table(titles, rows.chain(status.pending.iter().map(waits)).collect())
}

fn upstreams(status: &Status) -> String {
    let rows = status.upstreams().map(|upstream| {
        let routes = status.hosts.iter().flat_map(|host| {
            let ours = host.upstreams.iter().filter(|other| other.upstream == upstream.upstream);
            ours.map(|route| format!("{}{}", host.host, route.path))
        });
        let state = if upstream.state == "down" { "DOWN" } else { upstream.state.as_str() };
        [
            upstream.upstream.clone(),
            state.to_owned(),
            upstream.connect_failures.to_string(),
            routes.collect::<Vec<_>>().join(" "),
        ]
    });
    let redirect = |host: &HostStatus| {
        let to = host.redirect.as_ref()?;
        Some([format!("redirect to {to}"), "-".to_owned(), "-".to_owned(), format!("{}/", host.host)])
    };
    let redirects = status.hosts.iter().filter_map(redirect);
    table(["upstream", "state", "failures", "serves"], rows.chain(redirects).collect())
}

fn renewals(told: &Renewals) -> String {
    let rows = told.certificates.iter().map(|renewal| {
        let staging = if renewal.staging { "STAGING " } else { "" };
        let why = renewal.failure.as_ref().map(|failure| failure.code.as_str()).or(renewal.why.as_deref());
        [
            renewal.names.join(" "),
            format!("{staging}{}", renewal.directory.trim_start_matches("https://")),
            if renewal.profile.is_empty() { "-".to_owned() } else { renewal.profile.clone() },
            renewal.outcome.clone(),
            renewal.next.map_or_else(|| "-".to_owned(), moment),
            why.unwrap_or("-").to_owned(),
        ]
    });
    table(["renewal of", "CA", "profile", "last run", "next", "why"], rows.collect())
}

fn table<const N: usize>(titles: [&str; N], rows: Vec<[String; N]>) -> String {
    let mut all = vec![titles.map(str::to_owned)];
    all.extend(rows);
    columns(&all)
}

/// `3 d 4 h`: the two largest units that there are.
fn duration(seconds: u64) -> String {
    let units = [
        ("d", seconds / 86_400),
        ("h", seconds / 3_600 % 24),
        ("min", seconds / 60 % 60),
        ("s", seconds % 60),
    ];
    let from = units.iter().position(|(_, count)| *count > 0).unwrap_or(units.len() - 1);
    let some = units.iter().skip(from).take(2);
    some.map(|(unit, count)| format!("{count} {unit}")).collect::<Vec<_>>().join(" ")
}

fn bytes(count: f64) -> String {
    let mut value = count;
    for unit in ["B", "KiB", "MiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{value:.0} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_short() {
        assert_eq!(duration(0), "0 s");
        assert_eq!(duration(59), "59 s");
        assert_eq!(duration(60), "1 min 0 s");
        assert_eq!(duration(90_061), "1 d 1 h");
        assert_eq!(bytes(0.0), "0 B");
        assert_eq!(bytes(1023.0), "1023 B");
        assert_eq!(bytes(1024.0), "1.0 KiB");
        assert_eq!(bytes(5.5 * 1024.0 * 1024.0 * 1024.0), "5.5 GiB");
    }
}
