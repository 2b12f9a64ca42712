//! Which certificate serves which host (RFC 9525): coverage decides, not an assignment.

use std::collections::{BTreeMap, BTreeSet};

use super::anchors::Anchors;
use super::context::{Context, Subject, day};
use super::facts::KeyKind;
use super::facts::Link;
use crate::bundle::finding::{Code, Finding, listed};
use crate::bundle::private::is_private_name;
use crate::bundle::shell::shell_word;
use crate::bundle::source::{Lined, Source};
use crate::excerpt::number;
use crate::names::{Host, SanName};

/// A certificate that was loaded, good or not, for the choice among several.
pub(super) struct Candidate<'a> {
    pub(super) subject: Subject<'a>,
    pub(super) chain: Vec<Link>,
}

impl Candidate<'_> {
    /// A finding says already that it can serve no host, and to issue it anew.
    fn is_hopeless(&self) -> bool {
        self.chain.first().is_some_and(|link| link.facts.is_ca || !link.facts.has_san)
    }

    pub(super) fn covers(&self, host: &Host) -> bool {
        self.names().iter().any(|name| name.covers(host))
    }

    fn names(&self) -> &[SanName] {
        self.chain.first().map_or(&[], |end_entity| &end_entity.facts.names)
    }
}

/// For each host the index of its certificate, as far as there is one.
pub(super) fn assign(
    context: &mut Context,
    source: &Source,
    candidates: &[Candidate<'_>],
    all_readable: bool,
    managed: &BTreeSet<Host>,
) -> BTreeMap<Host, usize> {
    let mut chosen = BTreeMap::new();
    let mut uncovered = Vec::new();
    for host in source.sites.iter().flat_map(|site| &site.hosts) {
        if chosen.contains_key(&host.value) || uncovered.iter().any(|u: &&Lined<Host>| u.value == host.value)
        {
            continue;
        }
        match best(context, host, candidates) {
            Some(at) => drop(chosen.insert(host.value.clone(), at)),
            None if managed.contains(&host.value) => {} // it waits for its certificate
            None => uncovered.push(host),
        }
    }
    // A file that could not be read may cover them, and so will a certificate that has to be made anew for all hosts:
    // their own findings come first.
    if all_readable
        && !candidates.iter().any(Candidate::is_hopeless)
        && !(candidates.is_empty() && source.acme.is_none())
    {
        let names: Vec<&Host> = uncovered.iter().map(|u| &u.value).collect();
        uncovered.iter().for_each(|host| context.push(host.line, not_covered(host, &names, candidates)));
    }
    addresses(context, source, candidates, &chosen);
    let to_reissue: Vec<_> = uncovered.iter().filter_map(|h| nearest(&h.value, candidates)).collect();
    for (at, candidate) in candidates.iter().enumerate() {
        if to_reissue.iter().any(|near| std::ptr::eq(*near, candidate)) {
            continue; // it is about to be used
        }
        if candidate.is_hopeless() {
            continue;
        }
        if !chosen.values().any(|c| *c == at) && source.sites.iter().any(|site| !site.hosts.is_empty()) {
            context.push(candidate.subject.line, unused(candidate, source));
        }
    }
    chosen
}

/// A client that asks for an address sends no server name, and so gets the default host's certificate: that one has
/// to cover every address.
fn addresses(
    context: &mut Context,
    source: &Source,
    candidates: &[Candidate<'_>],
    chosen: &BTreeMap<Host, usize>,
) {
    let default = source.listen.default_host.as_ref().and_then(|default| chosen.get(&default.value));
    let Some(sent) = default.and_then(|at| candidates.get(*at)) else { return };
    for host in source.sites.iter().flat_map(|site| &site.hosts).filter(|h| matches!(h.value, Host::Ip(_))) {
        if !sent.names().iter().any(|name| name.covers(&host.value)) && chosen.contains_key(&host.value) {
            let finding = Finding::new(
                Code::IpHostNeedsDefault,
                format!("clients of `{}` get another certificate", host.value),
            )
            .host(&host.value)
            .certificate(sent.subject.label)
            .expected(format!(
                "the certificate of `default_host` to cover `{}`: clients send no server name for an IP \
                    address (RFC 6066 §3)",
                host.value
            ))
            .found(covers_only(sent))
            .remedy(format!("Write default_host = \"{}\", or issue one certificate for both.", host.value));
            context.push(host.line, finding);
        }
    }
}

/// Exact before wildcard, then ECDSA before Ed25519 before RSA, then the one valid longest.
fn best(context: &mut Context, host: &Lined<Host>, candidates: &[Candidate<'_>]) -> Option<usize> {
    let mut ranked: Vec<(Rank, usize)> =
        candidates.iter().enumerate().filter_map(|(at, c)| Some((rank(c, &host.value)?, at))).collect();
    ranked.sort();
    if let [(first, won), (second, lost), ..] = ranked.as_slice() {
        let (won, lost) = (candidates.get(*won)?, candidates.get(*lost)?);
        context.push(host.line, choice(host, first, won, second, lost, ranked.len()));
    }
    ranked.first().map(|(_, at)| *at)
}

/// Smaller is better.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    wildcard: bool,
    kind: u8,
    ends: std::cmp::Reverse<i64>,
}

fn rank(candidate: &Candidate<'_>, host: &Host) -> Option<Rank> {
    let facts = &candidate.chain.first()?.facts;
    let covering: Vec<_> = facts.names.iter().filter(|name| name.covers(host)).collect();
    let wildcard = !covering.iter().any(|name| !matches!(name, SanName::Wildcard(_)));
    let kind = match facts.key {
        KeyKind::Ecdsa(_) => 0,
        KeyKind::Ed25519 => 1,
        KeyKind::Rsa(_) => 2,
        KeyKind::Other(_) => 3,
    };
    (!covering.is_empty()).then_some(Rank { wildcard, kind, ends: std::cmp::Reverse(facts.not_after) })
}

fn choice(
    host: &Lined<Host>,
    first: &Rank,
    won: &Candidate<'_>,
    second: &Rank,
    lost: &Candidate<'_>,
    count: usize,
) -> Finding {
    let because = if first.wildcard != second.wildcard {
        "it names the host exactly, the other by a wildcard".to_owned()
    } else if first.kind != second.kind {
        let kind = |c: &Candidate<'_>| c.chain.first().map(|l| l.facts.key.to_string()).unwrap_or_default();
        format!("its key is {}, the other's {}", kind(won), kind(lost))
    } else if first.ends != second.ends && day(first.ends.0) == day(second.ends.0) {
        format!(
            "it is valid longer, by {} of {}",
            number(usize::try_from(first.ends.0 - second.ends.0).unwrap_or_default(), "second"),
            day(first.ends.0)
        )
    } else if first.ends != second.ends {
        format!("it is valid longer, until {} instead of {}", day(first.ends.0), day(second.ends.0))
    } else {
        "it is first in sanedge.toml; they are equal otherwise".to_owned()
    };
    let (won, lost) = (won.subject.label, lost.subject.label);
    Finding::new(Code::CertificateChosen, format!("`{}` gets `{won}`: {because}", host.value))
        .host(&host.value)
        .certificate(won)
        .expected("one certificate for each host")
        .found(format!("{count} that cover it, `{won}` before `{lost}`"))
        .remedy("Nothing to do.")
}

fn covers_only(candidate: &Candidate<'_>) -> String {
    let label = candidate.subject.label;
    match (candidate.names(), candidate.chain.first().and_then(|l| l.facts.common_name.as_ref())) {
        ([], Some(cn)) => format!("`{label}` covers nothing (its common name `{cn}` does not count)"),
        ([], None) => format!("`{label}` covers nothing"),
        (names, _) => format!("`{label}` covers only {}", listed(names)),
    }
}

fn not_covered(host: &Lined<Host>, uncovered: &[&Host], candidates: &[Candidate<'_>]) -> Finding {
    let covers: Vec<String> = candidates.iter().map(covers_only).collect();
    let near = nearest(&host.value, candidates);
    let hint = match &host.value {
        Host::Ip(_) => "an iPAddress entry",
        Host::Dns(_) => "a dNSName entry",
    };
    let finding = Finding::new(Code::HostNotCovered, format!("no certificate covers `{}`", host.value))
        .host(&host.value)
        .expected(format!("{hint} for `{}` in a certificate's subjectAltName", host.value))
        .found(covers.join("; "))
        .remedy(reissue(uncovered, near));
    match near {
        Some(candidate) => finding.certificate(candidate.subject.label),
        None => finding,
    }
}

/// The certificate that this host most likely belongs on: the one sharing the most right-most labels with it.
fn nearest<'c, 'a>(host: &Host, candidates: &'c [Candidate<'a>]) -> Option<&'c Candidate<'a>> {
    let alike = |candidate: &&Candidate<'_>| {
        let shared =
            |name: &SanName| shared_labels(&host.to_string(), name.to_string().trim_start_matches("*."));
        candidate.names().iter().map(shared).max().unwrap_or(0)
    };
    match candidates {
        [only] => Some(only),
        several => several.iter().rev().max_by_key(alike).filter(|c| alike(c) >= 2),
    }
}

fn shared_labels(one: &str, other: &str) -> usize {
    one.rsplit('.').zip(other.rsplit('.')).take_while(|(a, b)| a == b).count()
}

/// The command that issues the certificate again with *every* name: those it has and those that lack.
fn reissue(uncovered: &[&Host], near: Option<&Candidate<'_>>) -> String {
    let mut names: Vec<String> =
        near.map(|c| c.names().iter().map(ToString::to_string).collect()).unwrap_or_default();
    for host in uncovered {
        let host = host.to_string();
        if !names.contains(&host) {
            names.push(host);
        }
    }
    let all = |separator: &str| names.iter().map(|n| shell_word(n)).collect::<Vec<_>>().join(separator);
    let what = if near.is_some() {
        "Issue the certificate again with all of its names"
    } else {
        "Issue a certificate"
    };
    if names.iter().any(|name| is_private(name)) {
        return format!(
            "No public CA issues all of these names. {what} with a CA of your own:\n  mkcert {}\nOr add [local] to sanedge.toml, for a local CA (docs/local.md), or remove the host.",
            all(" ")
        );
    }
    // A wildcard can be proven by DNS only (RFC 8555 §8.4 and CA/Browser Forum rules).
    let challenge = if names.iter().any(|name| name.starts_with('*')) {
        " --manual --preferred-challenges dns"
    } else {
        ""
    };
    let expand = if near.is_some() { " --expand" } else { "" };
    let own = match near {
        Some(candidate) if !Anchors::are_public(&candidate.chain) => {
            format!("\nOr, with a CA of your own:\n  mkcert {}", all(" "))
        }
        _ => String::new(),
    };
    let command = format!("certbot certonly{challenge}{expand} -d {}", all(" -d "));
    format!("{what}:\n  {command}{own}\nOr remove the host from sanedge.toml.")
}

pub(super) fn is_private(name: &str) -> bool {
    name.parse::<std::net::IpAddr>().is_ok() || is_private_name(name)
}

fn unused(candidate: &Candidate<'_>, source: &Source) -> Finding {
    let label = candidate.subject.label;
    let hosts = source.sites.iter().flat_map(|s| &s.hosts).map(|h| &h.value);
    let covers_some = hosts.clone().any(|h| candidate.names().iter().any(|n| n.covers(h)));
    let wanted = format!("a certificate for one of {}", listed(hosts));
    let expected = if covers_some { "one certificate for each host".to_owned() } else { wanted };
    let found = covers_only(candidate) + if covers_some { ", and others are preferred there" } else { "" };
    let remedy = if covers_some {
        "Another certificate is preferred for each of its hosts. Remove this [[certificate]]; its key need not be on the board."
    } else {
        "Remove this [[certificate]]; its key need not be on the board. Or add the host it is for to a [[site]]."
    };
    Finding::new(Code::UnusedCertificate, format!("no host uses `{label}`"))
        .certificate(label)
        .expected(expected)
        .found(found)
        .remedy(remedy)
}
