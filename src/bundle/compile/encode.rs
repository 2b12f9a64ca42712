//! Encodes the checked configuration as the bytes of a bundle, and reads them back.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use zeroize::{Zeroize, Zeroizing};

use super::context::{Context, origins, routes_by_length};
use super::cover::Candidate;
use super::settle::Settled;
use crate::bundle::finding::{Code, Finding};
use crate::bundle::source::{self, Source};
use crate::bundle::wire::EncodeError;
use crate::bundle::{Bundle, Certificate, HostEntry, Listen, PendingHost, Route, Site, load_key};
use crate::excerpt::Excerpt;
use crate::limits::{Rules, WebSocketBounds};
use crate::names::Host;

/// Everything that goes in; nothing in it has an error.
pub(super) struct Parts<'a> {
    pub(super) source: &'a Source,
    pub(super) settled: Option<&'a Settled>,
    pub(super) candidates: &'a [Candidate<'a>],
    /// Of the candidates, in their order.
    pub(super) keys: &'a [Option<PrivateKeyDer<'static>>],
    /// Hosts to candidates.
    pub(super) chosen: &'a BTreeMap<Host, usize>,
    /// Hosts that wait for their first certificate.
    pub(super) pending: &'a [Host],
}

/// The bytes, or `None` after a finding.
pub(super) fn encode(context: &mut Context, parts: &Parts<'_>) -> Option<Zeroizing<Vec<u8>>> {
    // Only certificates that some host uses, and so no key that lies on the board for nothing.
    let used: Vec<usize> =
        (0..parts.candidates.len()).filter(|at| parts.chosen.values().any(|c| c == at)).collect();
    let mut keys: Vec<PrivateKeyDer<'static>> =
        used.iter().filter_map(|at| parts.keys.get(*at)?.as_ref().map(PrivateKeyDer::clone_key)).collect();
    let certificates: Vec<Certificate> = used
        .iter()
        .zip(&keys)
        .filter_map(|(at, key)| certificate(parts, parts.candidates.get(*at)?, key))
        .collect();
    let encoded = bundle(parts, &used, certificates).map(|bundle| bundle.encode(&keys));
    keys.iter_mut().for_each(Zeroize::zeroize);
    encoded?.map_err(|error| context.push(0, refused(&error))).ok()
}

fn bundle(parts: &Parts<'_>, used: &[usize], certificates: Vec<Certificate>) -> Option<Bundle> {
    let Parts { source, .. } = parts;
    let settled = parts.settled?;
    let hosts = hosts(parts, used);
    let default_host =
        source.listen.default_host.as_ref().and_then(|d| hosts.iter().position(|h| h.host == d.value));
    Some(Bundle {
        board: Excerpt::of(&source.board.value),
        listen: Listen {
            https: source.listen.https.iter().map(|l| l.value).collect(),
            http: source.listen.http.iter().map(|l| l.value).collect(),
            admin: source.listen.admin.as_ref().map(|a| a.value.clone()),
            default_host: default_host.and_then(narrow),
            public_https_port: source.listen.public_https_port,
            acme_dir: source.listen.acme_dir.as_ref().map(|d| d.value.clone()),
            challenges: super::managed::challenges(source),
            proxy_protocol_from: source.listen.proxy_protocol_from.iter().map(|n| n.value).collect(),
        },
        trusted_proxies: source.trusted_proxies.iter().map(|n| n.value).collect(),
        exempt: source.exempt.clone(),
        watch: source.watch,
        drain: source.drain,
        suite_order: source.suite_order,
        post_quantum: source.post_quantum,
        limits: settled.limits.clone(),
        certificates,
        sites: sites(parts).map(|site| self::site(site, settled.websocket)).collect(),
        hosts,
        pending: pending(parts),
        digest: [0; 32],
    })
}

/// Those with a host that is served or pending: without any of that a host is left out.
fn sites<'p>(parts: &'p Parts<'_>) -> impl Iterator<Item = &'p source::Site> {
    let is_known = |host: &Host| parts.chosen.contains_key(host) || parts.pending.contains(host);
    parts.source.sites.iter().filter(move |site| site.hosts.iter().any(|host| is_known(&host.value)))
}

fn site_of(parts: &Parts<'_>, host: &Host) -> Option<u16> {
    sites(parts).position(|site| site.hosts.iter().any(|h| h.value == *host)).and_then(narrow)
}

/// Sorted by host, as a bundle has them.
fn pending(parts: &Parts<'_>) -> Vec<PendingHost> {
    let entry = |host: &Host| Some(PendingHost { host: host.clone(), site: site_of(parts, host)? });
    let mut pending: Vec<_> = parts.pending.iter().filter_map(entry).collect();
    pending.sort_by(|one, other| one.host.cmp(&other.host));
    pending.dedup();
    pending
}

/// Sorted by host, as a bundle has them.
fn hosts(parts: &Parts<'_>, used: &[usize]) -> Vec<HostEntry> {
    let entry = |(host, candidate): (&Host, &usize)| {
        let certificate = used.iter().position(|at| at == candidate).and_then(narrow)?;
        Some(HostEntry { host: host.clone(), site: site_of(parts, host)?, certificate })
    };
    parts.chosen.iter().filter_map(entry).collect()
}

fn narrow(index: usize) -> Option<u16> {
    u16::try_from(index).ok()
}

fn certificate(
    parts: &Parts<'_>,
    candidate: &Candidate<'_>,
    key: &PrivateKeyDer<'static>,
) -> Option<Certificate> {
    let facts = &candidate.chain.first()?.facts;
    let chain = candidate.chain.iter().map(|link| link.der.clone()).collect();
    Some(Certificate {
        label: candidate.subject.label.clone(),
        source: super::carry::identity(&parts.source.path, candidate.subject.files),
        names: facts.names.clone(),
        not_before: facts.not_before,
        not_after: facts.not_after,
        key: Arc::new(CertifiedKey::new(chain, load_key(key).ok()?)),
    })
}

fn site(site: &source::Site, websocket: WebSocketBounds) -> Site {
    let routes = routes_by_length(site).into_iter().map(|r| route(r, websocket)).collect();
    Site {
        routes,
        redirect: site.redirect.as_ref().map(|to| to.value.clone()),
        hsts_s: site.hsts_s.as_ref().map(|seconds| seconds.value),
        record_bytes_max: site.record_bytes_max.as_ref().map(|bytes| bytes.value),
        access_log: site.access_log,
        headers: site.headers.clone(),
    }
}

fn route(route: &source::Route, websocket: WebSocketBounds) -> Route {
    let rules = route.rules;
    let websocket = websocket.written_over(rules.frame_bytes_max, rules.message_bytes_max);
    Route {
        path: route.path.clone(),
        strip_prefix: route.strip_prefix,
        upstreams: route.upstreams.iter().map(|u| u.value.clone()).collect(),
        origins: origins(route),
        allow: route.allow.clone(),
        rules: Rules {
            frame_bytes_max: Some(websocket.frame_bytes_max),
            message_bytes_max: Some(websocket.message_bytes_max),
            ..rules
        },
    }
}

/// Why the encoder refused. Tables that are too small are the user's news; the rest is ours.
pub(super) fn refused(error: &EncodeError) -> Finding {
    match error {
        EncodeError::TooMany { table, found, max } => {
            Finding::new(Code::TooMany, format!("too many {table} for one bundle"))
                .expected(format!("at most {max}"))
                .found(found.to_string())
                .remedy("Remove what is not needed, or run a second edge with its own bundle.")
        }
        EncodeError::TooLarge => Finding::new(Code::TooMany, "too much for one bundle")
            .expected("a bundle of at most 4 MiB")
            .found("more")
            .remedy("Remove certificates that no host needs."),
        EncodeError::Path { field, path } => Finding::new(Code::BadValue, format!("`{field}` is not UTF-8"))
            .expected("a path in UTF-8")
            .found(Excerpt::of_path(path))
            .remedy("Rename it."),
        other => Finding::new(Code::SelfCheck, "the compiled bundle cannot be opened; nothing was written")
            .expected("a bundle that opens as it was compiled")
            .found(Excerpt::of(&other.to_string()))
            .remedy("This is a bug in sanedge. Please report it with sanedge.toml (never with a key)."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::wire::{Broken, FormatError};

    #[test]
    fn a_bundle_that_does_not_open_again_is_a_finding_and_not_a_file() {
        for error in [EncodeError::Differs, EncodeError::Check(FormatError::Digest)] {
            let finding = refused(&error);
            assert_eq!(finding.code, Code::SelfCheck);
            assert_eq!(finding.found, *Excerpt::of(&error.to_string()));
        }
    }

    #[test]
    fn a_mistake_of_ours_shows_no_key() {
        let key = "MC4CAQAwBQYDK2VwBCIEIOB4yvQh9ZrTkWm3xN8sJ0LpFcUa5dGe7HtXi1RnSbK6";
        let shown = Excerpt::of(key);
        let text = Broken::Text { field: "host", found: shown.clone(), expected: "a host" };
        for error in
            [EncodeError::KeyForm { certificate: shown }, EncodeError::Check(FormatError::Broken(text))]
        {
            let finding = refused(&error);
            let all = [finding.message, finding.expected, finding.found, finding.remedy].concat();
            assert!(
                key.as_bytes().windows(16).all(|part| !all.contains(std::str::from_utf8(part).unwrap())),
                "{all}"
            );
        }
    }

    #[test]
    fn what_the_format_has_no_room_for_is_the_users_news() {
        let finding = refused(&EncodeError::TooMany { table: "routes", found: 257, max: 256 });
        assert_eq!(
            (finding.code, finding.expected.as_str(), finding.found.as_str()),
            (Code::TooMany, "at most 256", "257")
        );
        assert_eq!(refused(&EncodeError::TooLarge).code, Code::TooMany);
        let path = std::path::PathBuf::from("/run/\u{fffd}");
        assert_eq!(refused(&EncodeError::Path { field: "acme_dir", path }).code, Code::BadValue);
    }
}
