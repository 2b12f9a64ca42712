//! What is wrong with the running edge, worst first, each with the command to type: the status page and `sanedge status` show the
//! same list. Pure: status in, problems out.

use std::path::Path;

use super::{HostStatus, Problem, Severity, Status};
use crate::bundle::commands::renew_command;
use crate::bundle::file::word;
use crate::bundle::lifetime::Urgency;

/// Those that the user can do most about; any other is `acme-failed`.
const ACME_CODES: [&str; 13] = [
    "acme-dns",
    "acme-connection",
    "acme-wrong-answer",
    "acme-secondary",
    "acme-caa",
    "acme-tls",
    "acme-rejected-name",
    "acme-rate-limited",
    "acme-user-action",
    "acme-external-account",
    "acme-waiting-for-dns",
    "acme-edge-not-answering",
    "acme-ca-unreachable",
];
/// Hosts that one sentence names; it counts the others.
const HOSTS_NAMED_MAX: usize = 3;

/// Everything that is wrong, worst first.
pub fn problems(status: &Status) -> Vec<Problem> {
    let mut found: Vec<Problem> = stuck(status).into_iter().collect();
    found.extend(pending(status));
    found.extend(certificates(status));
    found.extend(renewals(status));
    found.extend(clock(status));
    found.extend(upstreams(status));
    found.extend(source(status));
    found.extend(panics(status));
    found.sort_by_key(|problem| problem.severity); // stable: the order above otherwise
    found
}

fn stuck(status: &Status) -> Option<Problem> {
    let stuck: Vec<String> = status.workers_stuck.iter().map(ToString::to_string).collect();
    let (plural, hang) = if stuck.len() == 1 { ("", "hangs") } else { ("s", "hang") };
    (!stuck.is_empty()).then(|| Problem {
        code: "worker-stuck",
        severity: Severity::Error,
        message: format!(
            "worker{plural} {} of {} {hang}: their connections get no answer",
            stuck.join(", "),
            status.workers
        ),
        command: "sudo systemctl restart sanedge".to_owned(),
    })
}

/// One for all hosts: one command obtains their certificates.
fn pending(status: &Status) -> Option<Problem> {
    let verb = if status.pending.len() == 1 { "waits" } else { "wait" };
    (!status.pending.is_empty()).then(|| Problem {
        code: "certificate-pending",
        severity: Severity::Error,
        message: format!(
            "{} {verb} for a first certificate: clients are refused",
            named(status.pending.iter().map(String::as_str))
        ),
        command: renew_command(Path::new(&status.bundle_file)),
    })
}

/// One for each certificate: many hosts may share it.
fn certificates(status: &Status) -> Vec<Problem> {
    let (hosts, mut found) = (&status.hosts, Vec::new());
    for (at, host) in hosts.iter().enumerate() {
        let is_first = hosts.iter().take(at).all(|earlier| earlier.certificate != host.certificate);
        let urgency = host.renewal.filter(|urgency| *urgency > Urgency::None && is_first);
        let Some(urgency) = urgency else { continue };
        let users = hosts.iter().filter(|other| other.certificate == host.certificate);
        let users = named(users.map(|other| other.host.as_str()));
        let left = host.left.as_deref().unwrap_or("?").trim_end_matches(" (renew)");
        let left =
            if left.chars().all(|c| c.is_ascii_digit()) { format!("{left} days") } else { left.to_owned() };
        let (severity, message) = match urgency {
            Urgency::Expired => {
                (Severity::Error, format!("the certificate of {users} has expired: clients refuse it"))
            }
            Urgency::EndsSoon => (Severity::Error, format!("the certificate of {users} expires in {left}")),
            _ => (
                Severity::Warning,
                format!("the renewal of the certificate of {users} is overdue: {left} left"),
            ),
        };
        found.push(Problem {
            code: "certificate-due",
            severity,
            message,
            command: format!("sanedge show --check {}", word(Path::new(&status.bundle_file))),
        });
    }
    found
}

/// What `sanedge renew` could not do, and certificates that no browser trusts. The failures have codes of their own.
fn renewals(status: &Status) -> Vec<Problem> {
    let command = || renew_command(Path::new(&status.bundle_file));
    let mut found = Vec::new();
    for renewal in status.acme.iter().flat_map(|told| &told.certificates) {
        let names = named(renewal.names.iter().map(String::as_str));
        if let Some(failure) = &renewal.failure {
            let text =
                format!("{}. {} {}", failure.found.trim_end_matches('.'), failure.means, failure.remedy);
            found.push(Problem {
                code: acme_code(&failure.code),
                severity: Severity::Warning,
                message: format!(
                    "`sanedge renew` has no new certificate for {names}: {}",
                    text.trim_end_matches('.')
                ),
                command: command(),
            });
        }
        if renewal.staging {
            found.push(Problem {
                code: "acme-staging",
                severity: Severity::Warning,
                message: format!(
                    "STAGING: the certificate of {names} is for trials, and browsers refuse it. For real ones first remove `directory` from [acme] and type `sudo sanedge apply`"
                ),
                command: command(),
            });
        }
    }
    found
}

/// The codes of problems are the program's own: one that another version has written is a failure like others.
fn acme_code(code: &str) -> &'static str {
    ACME_CODES.iter().find(|known| **known == code).copied().unwrap_or("acme-failed")
}

fn clock(status: &Status) -> Option<Problem> {
    (!status.clock_believable).then(|| Problem {
        code: "clock-wrong",
        severity: Severity::Warning,
        message: "the system clock is earlier than a certificate's notBefore: days left are unknown"
            .to_owned(),
        command: "timedatectl status".to_owned(),
    })
}

fn upstreams(status: &Status) -> Vec<Problem> {
    let down = status.upstreams().filter(|upstream| upstream.state == "down");
    let problem = |address: &str| {
        let serves = |host: &&HostStatus| host.upstreams.iter().any(|other| other.upstream == address);
        let hosts = status.hosts.iter().filter(serves).map(|host| host.host.as_str());
        Problem {
            code: "upstream-down",
            severity: Severity::Error,
            message: format!("upstream {address} of {} does not accept connections", named(hosts)),
            command: format!("sanedge doctor {}", word(Path::new(&status.bundle_file))),
        }
    };
    down.map(|upstream| problem(&upstream.upstream)).collect()
}

fn source(status: &Status) -> Option<Problem> {
    let source = status.source.as_ref()?;
    Some(Problem {
        code: "source-newer",
        severity: Severity::Warning,
        message: source.message.clone()?,
        command: source.command.clone(),
    })
}

fn panics(status: &Status) -> Option<Problem> {
    let panics = status.counters.get("panics_total").copied().filter(|panics| *panics > 0)?;
    Some(Problem {
        code: "panicked",
        severity: Severity::Warning,
        message: format!("{panics} sessions ended by a bug of sanedge; please report it with its log line"),
        command: "journalctl -u sanedge -g panic".to_owned(),
    })
}

/// `a`, `a and b`, `a, b, c and 2 more`.
pub(crate) fn named<'h>(hosts: impl Iterator<Item = &'h str>) -> String {
    let all: Vec<&str> = hosts.collect();
    let (some, more) = all.split_at(all.len().min(HOSTS_NAMED_MAX));
    match (some, more) {
        (some, [_, ..]) => format!("{} and {} more", some.join(", "), more.len()),
        ([rest @ .., last], []) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        (some, []) => some.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{Process, SourceStatus, UpstreamStatus};
    use crate::ops::meter::{Rates, Traffic};

    fn upstream(address: &str, state: &str) -> UpstreamStatus {
        UpstreamStatus {
            path: "/".into(),
            upstream: address.into(),
            state: state.into(),
            connect_failures: 0,
        }
    }

    fn host(name: &str, certificate: &str) -> HostStatus {
        HostStatus {
            host: name.into(),
            certificate: certificate.into(),
            not_after: 0,
            days_left: Some(60),
            left: Some("60".into()),
            renewal: Some(Urgency::None),
            renewal_due: 0,
            renewal_overdue_after: 0,
            ends_soon_after: 0,
            websockets_open: 0,
            websockets_total: 0,
            responses: Default::default(),
            upstreams: vec![upstream("127.0.0.1:3000", "ok")],
            redirect: None,
        }
    }

    /// Two hosts of one certificate and a third of another, with nothing wrong.
    fn healthy() -> Status {
        Status {
            version: String::new(),
            uptime_s: 1,
            board: "rpi4".into(),
            bundle: String::new(),
            bundle_file: "/etc/sanedge/my board.bundle".into(),
            draining: false,
            hands_over: false,
            clock_believable: true,
            sessions: 0,
            sessions_peak: 0,
            sessions_max: 1,
            handshakes: 0,
            workers: 4,
            workers_stuck: Vec::new(),
            keys_in_memory: 2,
            rates: Rates::default(),
            traffic: Traffic::default(),
            process: Process::default(),
            problems: Vec::new(),
            source: None,
            sandbox: String::new(),
            started: None,
            counters: [("panics_total".to_owned(), 0)].into(),
            refused: Default::default(),
            websocket_closes: Default::default(),
            tls_handshakes: Default::default(),
            hosts: vec![host("a.test", "1.pem"), host("b.test", "1.pem"), host("c.test", "2.pem")],
            pending: Vec::new(),
            acme: None,
        }
    }

    #[test]
    fn a_certificate_that_was_not_obtained_is_told_with_its_remedy_and_one_for_trials_loudly() {
        use crate::bundle::acme::told::{Failure, Renewal, Renewals};
        let of = |outcome: &str, staging, failure: bool| {
            let text = str::to_owned;
            let failure = failure.then(|| Failure {
                code: text("acme-dns"),
                found: text("no A record"),
                means: text("No address."),
                remedy: text("Add one."),
                at: 1,
            });
            let names = vec![text("a.test")];
            Renewal { names, outcome: text(outcome), staging, failure, ..Renewal::default() }
        };
        let all = |renewal: Renewal| {
            told(|status| status.acme = Some(Renewals { certificates: vec![renewal], ..Renewals::default() }))
        };
        assert_eq!(all(of("fine", false, false)), []);
        let found = all(of("failed", false, true));
        let [(code, severity, message, command)] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((*code, *severity), ("acme-dns", Severity::Warning));
        assert_eq!(
            message,
            "`sanedge renew` has no new certificate for a.test: no A record. No address. Add one"
        );
        assert_eq!(*command, renew_command(Path::new("/etc/sanedge/my board.bundle")));
        let found = all(of("fine", true, false));
        let [(code, _, message, _)] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((*code, message.contains("STAGING")), ("acme-staging", true));
    }

    fn told(change: impl FnOnce(&mut Status)) -> Vec<(&'static str, Severity, String, String)> {
        let mut status = healthy();
        change(&mut status);
        let found = problems(&status).into_iter();
        found.map(|problem| (problem.code, problem.severity, problem.message, problem.command)).collect()
    }

    #[test]
    fn of_a_healthy_edge_there_is_nothing_to_say() {
        assert_eq!(told(|_| ()), []);
        assert_eq!(told(|status| status.hosts[0].upstreams[0].state = "untried".into()), []);
        let newer =
            SourceStatus { file: "x.toml".into(), state: "not-compared", message: None, command: "x".into() };
        assert_eq!(told(|status| status.source = Some(newer)), []);
    }

    #[test]
    fn an_upstream_is_reported_once_with_its_hosts_and_a_path_quoted_for_a_shell() {
        let found = told(|status| {
            status.hosts.iter_mut().for_each(|host| host.upstreams[0].state = "down".into());
            status.hosts.push(host("d.test", "2.pem"));
            status.hosts[3].upstreams =
                vec![upstream("127.0.0.1:4000", "ok"), upstream("127.0.0.1:3000", "down")];
        });
        let [(code, severity, message, command)] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((*code, *severity), ("upstream-down", Severity::Error));
        assert_eq!(
            message,
            "upstream 127.0.0.1:3000 of a.test, b.test, c.test and 1 more does not accept connections"
        );
        assert_eq!(command, "sanedge doctor '/etc/sanedge/my board.bundle'");
    }

    #[test]
    fn pending_hosts_are_reported_once_with_the_command_that_obtains_their_certificates() {
        let pending = |hosts: &[&str]| {
            let found = told(|status| status.pending = hosts.iter().map(ToString::to_string).collect());
            let [(code, severity, message, command)] = found.as_slice() else { panic!("{found:?}") };
            assert_eq!((*code, *severity), ("certificate-pending", Severity::Error));
            assert_eq!(command, "sudo sanedge renew '/etc/sanedge/my board.acme' --now");
            message.clone()
        };
        assert_eq!(pending(&["d.test"]), "d.test waits for a first certificate: clients are refused");
        assert_eq!(
            pending(&["d.test", "e.test"]),
            "d.test and e.test wait for a first certificate: clients are refused"
        );
        assert!(pending(&["d", "e", "f", "g", "h"]).starts_with("d, e, f and 2 more wait for "));
    }

    #[test]
    fn a_certificate_is_reported_once_with_its_severity() {
        let due = |urgency, left: &str| {
            let left = left.to_owned();
            let found = told(move |status| {
                for host in &mut status.hosts[..2] {
                    (host.renewal, host.left) = (Some(urgency), Some(left.clone()));
                }
            });
            let [(_, severity, message, _)] = found.as_slice() else { panic!("{found:?}") };
            (*severity, message.clone())
        };
        let (severity, message) = due(Urgency::Overdue, "25 (renew)");
        assert_eq!(
            (severity, message.as_str()),
            (
                Severity::Warning,
                "the renewal of the certificate of a.test and b.test is overdue: 25 days left"
            )
        );
        let (severity, message) = due(Urgency::EndsSoon, "30 hours (renew)");
        assert_eq!(
            (severity, message.as_str()),
            (Severity::Error, "the certificate of a.test and b.test expires in 30 hours")
        );
        let (severity, message) = due(Urgency::Expired, "EXPIRED 2 days ago");
        assert_eq!(
            (severity, message.as_str()),
            (Severity::Error, "the certificate of a.test and b.test has expired: clients refuse it")
        );
    }

    #[test]
    fn the_worst_is_reported_first() {
        let newer = SourceStatus {
            file: "x.toml".into(),
            state: "newer",
            message: Some("x.toml is newer".into()),
            command: "make it".into(),
        };
        let found = told(|status| {
            status.source = Some(newer);
            status.clock_believable = false;
            status.counters.insert("panics_total".into(), 1);
            status.hosts[2].upstreams[0] = upstream("127.0.0.1:1", "down");
            status.workers_stuck = vec![0, 2];
        });
        let codes: Vec<_> = found.iter().map(|(code, ..)| *code).collect();
        assert_eq!(codes, ["worker-stuck", "upstream-down", "clock-wrong", "source-newer", "panicked"]);
        assert_eq!(found[0].2, "workers 0, 2 of 4 hang: their connections get no answer");
        assert_eq!((found[3].2.as_str(), found[3].3.as_str()), ("x.toml is newer", "make it"));
    }
}
