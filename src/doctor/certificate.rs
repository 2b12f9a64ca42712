//! Checks the chain that a server presents: what some client refuses, and what fails later.

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::x509::X509Name;

use super::check::{Finding, Section};
use super::explain::{Code, Group, Level};
use super::foreign_certificate::foreign_certificate;
use super::home_network::{is_home, is_related};
use super::target::Named;
use super::tls::Session;
use crate::bundle::acme::STAGING_MARK;
use crate::bundle::acme::local::{ISSUER_NAME, ROOT_NAME};
use crate::bundle::compile::{Presented, day, moment, presented};
use crate::bundle::finding::{self, Code as ChainCode, listed};
use crate::bundle::lifetime::Lifetime;
use crate::names::Host;

/// Hexadecimal digits of the number in the name of a local CA.
const NUMBER_CHARS_MAX: usize = 8;
/// Seconds by which two clocks may differ without a finding.
const SKEW_S: i64 = 300;

/// Whether a strict client accepts this chain for this host.
pub(super) fn acceptable(
    host: &Host,
    chain: &[CertificateDer<'static>],
    trust: &[CertificateDer<'static>],
    now: i64,
) -> bool {
    let Ok(found) = presented(chain, trust, true, now) else { return false };
    let failing =
        |seen: &finding::Finding| code_of(seen, false).is_some_and(|code| code.level() == Level::Fail);
    found.names.iter().any(|name| name.covers(host)) && !found.findings.iter().any(failing)
}

/// Whether a certificate above the host's own has expired. If the chain is valid nevertheless, clients know a root below it.
fn has_expired_above(chain: &[CertificateDer<'static>], now: i64) -> bool {
    let ended = |der: &CertificateDer<'_>| {
        x509_parser::parse_x509_certificate(der)
            .is_ok_and(|(_, parsed)| parsed.validity().not_after.timestamp() < now)
    };
    chain.iter().skip(1).any(ended)
}

/// A chain in one line, for evidence.
pub(super) fn summary(
    chain: &[CertificateDer<'static>],
    trust: &[CertificateDer<'static>],
    now: i64,
) -> String {
    match presented(chain, trust, true, now) {
        Ok(found) => format!(
            "certificate for {}, by {}, until {}",
            altnames(&found),
            found.issuer,
            day(found.not_after)
        ),
        Err(error) => error,
    }
}

/// What the check of a chain needs to know.
pub(super) struct Case<'a> {
    pub(super) host: &'a Host,
    pub(super) chain: &'a [CertificateDer<'static>],
    /// An OCSP response came with it.
    pub(super) stapled: bool,
    /// Further roots besides Mozilla's.
    pub(super) trust: &'a [CertificateDer<'static>],
    /// The certificate that the bundle has for this host.
    pub(super) expected: Option<&'a CertificateDer<'static>>,
    /// What says so.
    pub(super) named: &'a Named,
    /// Why the handshake's signature proves nothing.
    pub(super) unproven: Option<&'a str>,
    /// Whether an invented name gets the same certificate; `None` if unknown.
    pub(super) default: Option<bool>,
    /// Whether a second connection resumed the session of the first; `None` if unknown.
    pub(super) resumed: Option<bool>,
    /// Seconds since 1970, by this machine and by the server's Date.
    pub(super) now: i64,
    pub(super) server_now: Option<i64>,
}

/// Checks a presented chain and reports into `section`; false if some client refuses it.
pub(super) fn judge(section: &mut Section, case: &Case<'_>, session: &Session, versions: &str) -> bool {
    let found = match presented(case.chain, case.trust, case.stapled, case.now) {
        Ok(found) => found,
        Err(error) => {
            let message = "the server's certificate cannot be read: issue it again";
            section.found(Finding::new(Code::TlsMalformed, message).seen("error", error));
            return false;
        }
    };
    let mut findings: Vec<Finding> = name(case, &found).into_iter().collect();
    findings.extend(findings_of(case, &found));
    let is_extra = |finding: &Finding| finding.code == Code::TlsChainExtra;
    if findings.iter().any(is_extra) && has_expired_above(case.chain, case.now) {
        findings.retain(|finding| !is_extra(finding));
        let message = "the chain ends with an expired certificate: current clients do not need it, old ones (OpenSSL 1.0) fail on it";
        findings.push(Finding::new(Code::TlsCrossSign, message));
    }
    let of_issuer =
        |code: Code| matches!(code, Code::TlsSelfSigned | Code::TlsUnknownCa | Code::TlsMissingIntermediate);
    let untrusted = findings.iter().any(|finding| of_issuer(finding.code));
    if let Some(other) = foreign_certificate(case.host, case.chain.first(), &found, untrusted) {
        findings.retain(|finding| {
            !of_issuer(finding.code)
                && !matches!(finding.code, Code::TlsName | Code::TlsNoSan | Code::TlsCaCertificate)
        });
        findings.insert(0, other.word("altnames", altnames(&found)));
    }
    if let (Some(error), true) = (case.unproven, findings.iter().all(|f| f.code.level() != Level::Fail)) {
        let message =
            "the server does not prove that it has the certificate's key: another program is in between";
        findings.push(Finding::new(Code::TlsHandshake, message).seen("error", error));
    }
    let local = is_local(case.chain).then(|| root_of(case.chain)).flatten();
    findings.sort_by_key(|finding| finding.code.level());
    let trusted = findings.iter().all(|finding| finding.code.level() != Level::Fail);
    if trusted {
        let lifetime = Lifetime { not_before: found.not_before, not_after: found.not_after };
        let left = lifetime.left(case.now);
        let names = listed(found.names.iter().map(ToString::to_string));
        section.passed(Group::Tls, format!("certificate for {names}, {left} left ({})", found.key));
        if let Some(root) = &local {
            let text = format!(
                "issued by the local CA ({root}): each device has to trust it once, as `sanedge local show` says"
            );
            section.passed(Group::Tls, text);
        }
    }
    if let Some(other) = not_the_bundle(case, &found) {
        findings.insert(0, other);
    }
    findings.into_iter().for_each(|finding| section.found(finding));
    let resumed = match case.resumed {
        Some(true) => ", resumption",
        Some(false) => ", no resumption",
        None => "",
    };
    section.passed(
        Group::Tls,
        format!("{versions}, {} with {}{resumed}, HTTP/1.1", session.suite, session.group),
    );
    trusted
}

fn altnames(found: &Presented) -> String {
    let one = |name: &crate::names::SanName| match name {
        crate::names::SanName::Ip(ip) => format!("IP Address:{ip}"),
        other => format!("DNS:{other}"),
    };
    found.names.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn name(case: &Case<'_>, found: &Presented) -> Option<Finding> {
    let host = case.host;
    if !found.has_san {
        let cn = found.common_name.clone().unwrap_or_default();
        let message = format!(
            "the certificate has no subjectAltName, so no client finds `{host}` in it: issue it again with one"
        );
        return Some(
            Finding::new(Code::TlsNoSan, message).seen("common name", format!("{cn}, which does not count")),
        );
    }
    if found.names.iter().any(|name| name.covers(host)) {
        return None;
    }
    let names = listed(found.names.iter().map(ToString::to_string));
    let related = found.names.iter().filter(|name| is_related(name, host));
    let mut all: Vec<String> = related.map(ToString::to_string).collect();
    all.push(host.to_string());
    let both = listed(all.iter().map(ToString::to_string));
    let message = format!("the certificate covers only {names}, not `{host}`: issue it again for {both}");
    let mut finding = Finding::new(Code::TlsName, message)
        .seen("altnames", altnames(found))
        .seen("issuer", format!("{}, until {}", found.issuer, day(found.not_after)))
        .word("altnames", altnames(found))
        .word("issue", issue(host, &all));
    if case.default == Some(true) {
        let same = "an unknown name gets the same certificate, so it is the server's default: the server may have no site for this name";
        finding = finding.seen("also", same);
    }
    Some(finding)
}

/// The command that issues a certificate for these names; no public CA issues for names of a home network.
fn issue(host: &Host, names: &[String]) -> String {
    let words: Vec<String> = names.iter().map(|name| crate::bundle::compile::shell_word(name)).collect();
    if is_home(host) || matches!(host, Host::Ip(_)) {
        format!("mkcert {}", words.join(" "))
    } else {
        format!("certbot certonly --expand -d {}", words.join(" -d "))
    }
}

fn findings_of(case: &Case<'_>, found: &Presented) -> Vec<Finding> {
    let clock_is_wrong = clock_is_wrong(case, found);
    let untrusted = found.self_signed && !case.chain.first().is_some_and(|leaf| case.trust.contains(leaf));
    let one = |seen: &finding::Finding| match code_of(seen, clock_is_wrong)? {
        Code::ClockWrong => Some(clock_finding(case)),
        // The default of `openssl req -x509`. That no client trusts it is reported before what only few of them check.
        Code::TlsCaCertificate if untrusted => {
            Some(chain_finding(case.host, Code::TlsSelfSigned, seen, found))
        }
        code if is_local(case.chain) => Some(match local_finding(case, code, found) {
            Some(finding) => finding.seen("found", &seen.found),
            None => chain_finding(case.host, code, seen, found),
        }),
        code => Some(chain_finding(case.host, code, seen, found)),
    };
    found.findings.iter().filter_map(one).collect()
}

/// Whether the CA of a board with sanedge has issued it, by the name of the issuer.
fn is_local(chain: &[CertificateDer<'static>]) -> bool {
    chain.first().and_then(|der| name_of(der, |own| own.issuer(), ISSUER_NAME)).is_some()
}

/// The name of the CA above the issuer that a server sends with it.
fn root_of(chain: &[CertificateDer<'static>]) -> Option<String> {
    name_of(chain.get(1)?, |own| own.issuer(), ROOT_NAME)
}

/// A common name that is `known` and the number of a CA: nothing else is shown of it.
fn name_of(
    der: &CertificateDer<'_>,
    which: impl for<'c> Fn(&'c X509Certificate<'c>) -> &'c X509Name<'c>,
    known: &str,
) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(der).ok()?;
    let name = which(&parsed).iter_common_name().next()?.as_str().ok()?;
    let number = name.strip_prefix(known)?.strip_prefix(' ')?;
    let is_number = number.len() <= NUMBER_CHARS_MAX && number.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_number.then(|| name.to_owned())
}

/// The same case as [`chain_finding`] of a certificate of the CA on a board: no other CA helps.
fn local_finding(case: &Case<'_>, code: Code, found: &Presented) -> Option<Finding> {
    let trusted = case.trust.iter().filter_map(|root| name_of(root, |own| own.subject(), ROOT_NAME));
    let trusted: Vec<String> = trusted.collect();
    let root = root_of(case.chain).unwrap_or_else(|| ROOT_NAME.to_owned());
    let finding = match code {
        Code::TlsUnknownCa | Code::TlsSelfSigned | Code::TlsMissingIntermediate if trusted.is_empty() => {
            let message = format!(
                "the local CA ({root}) issued the certificate, and this client does not trust it: type `sanedge local show` on the board"
            );
            Finding::new(Code::LocalUntrusted, message)
        }
        Code::TlsUnknownCa | Code::TlsSelfSigned | Code::TlsMissingIntermediate => {
            let message = format!(
                "`{root}` issued the certificate, and this client trusts another local CA: have it trust the new one (`sanedge local show` on the board)"
            );
            Finding::new(Code::LocalReplaced, message).seen("trusted", trusted.join(", "))
        }
        Code::TlsExpired => {
            let message = format!(
                "the certificate of the local CA expired on {}: type `sudo sanedge renew --now` on the board",
                day(found.not_after)
            );
            Finding::new(Code::LocalExpired, message)
        }
        Code::TlsExpiresSoon => {
            let message = format!(
                "the certificate of the local CA ends on {}, and was not renewed: type `sudo sanedge renew --now` on the board",
                day(found.not_after)
            );
            Finding::new(Code::LocalDue, message)
        }
        _ => return None,
    };
    Some(finding)
}

fn not_the_bundle(case: &Case<'_>, found: &Presented) -> Option<Finding> {
    let expected = case.expected?;
    let served = case.chain.first()?;
    if served == expected {
        return None;
    }
    let theirs = presented(std::slice::from_ref(expected), &[], true, case.now).ok();
    let of = |one: &Presented| format!("{} by {}, until {}", altnames(one), one.issuer, day(one.not_after));
    let named = case.named;
    let message = format!(
        "the server sends another certificate than the one in {}: type `{}`",
        named.expected_in, named.load
    );
    let finding = Finding::new(Code::TlsNotTheBundle, message).seen("served", of(found));
    Some(finding.seen("expected", theirs.as_ref().map(of).unwrap_or_default()))
}

/// The certificate is valid by the server's clock, but not by this machine's.
fn clock_is_wrong(case: &Case<'_>, found: &Presented) -> bool {
    let valid = |now: i64| (found.not_before..=found.not_after).contains(&now);
    case.server_now
        .is_some_and(|theirs| !valid(case.now) && valid(theirs) && (theirs - case.now).abs() > SKEW_S)
}

fn clock_finding(case: &Case<'_>) -> Finding {
    let theirs = case.server_now.map(moment).unwrap_or_default();
    Finding::new(
        Code::ClockWrong,
        "the clock of this machine is wrong, so a valid certificate looks invalid: set the clock",
    )
    .seen("this machine", moment(case.now))
    .seen("the server", theirs)
}

/// Compares the clocks if the certificate gave no reason to.
pub(super) fn skew(now: i64, server_now: i64) -> Option<Finding> {
    let apart = (now - server_now).abs();
    (apart > SKEW_S).then(|| {
        let message =
            format!("the clocks of this machine and of the server are {} minutes apart", apart / 60);
        Finding::new(Code::ClockSkew, message)
            .seen("this machine", moment(now))
            .seen("the server", moment(server_now))
    })
}

/// The doctor's code for a finding of the chain's proofs.
fn code_of(seen: &finding::Finding, clock_is_wrong: bool) -> Option<Code> {
    let intermediate = seen.message.starts_with("the intermediate");
    Some(match seen.code {
        ChainCode::Expired | ChainCode::NotYetValid if intermediate => Code::TlsIntermediateExpired,
        ChainCode::Expired | ChainCode::NotYetValid if clock_is_wrong => Code::ClockWrong,
        ChainCode::Expired => Code::TlsExpired,
        ChainCode::NotYetValid => Code::TlsNotYetValid,
        ChainCode::ExpiresSoon => Code::TlsExpiresSoon,
        ChainCode::MissingIntermediate => Code::TlsMissingIntermediate,
        ChainCode::SelfSigned => Code::TlsSelfSigned,
        ChainCode::UnknownCa => Code::TlsUnknownCa,
        ChainCode::ChainSignature => Code::TlsChainSignature,
        ChainCode::WeakSignature => Code::TlsWeakSignature,
        ChainCode::RsaSize => Code::TlsWeakKey,
        ChainCode::NoServerAuth if seen.found.starts_with("no extendedKeyUsage") => Code::TlsNoPurpose,
        ChainCode::NoServerAuth => Code::TlsNoServerAuth,
        ChainCode::NoDigitalSignature => Code::TlsKeyUsage,
        ChainCode::CaAsEndEntity => Code::TlsCaCertificate,
        ChainCode::NameConstraints => Code::TlsNameConstraints,
        ChainCode::ChainRefused => Code::TlsChainRefused,
        ChainCode::Ed25519 => Code::TlsEd25519,
        ChainCode::ChainOrder => Code::TlsChainOrder,
        ChainCode::ChainForeign | ChainCode::RootIncluded => Code::TlsChainExtra,
        ChainCode::LifetimeTooLong => Code::TlsLifetime,
        ChainCode::MustStaple => Code::TlsMustStaple,
        ChainCode::NoTimestamps => Code::TlsNoTimestamps,
        ChainCode::SerialNumber => Code::TlsSerialNumber,
        ChainCode::StrictClients => Code::TlsStrictClients,
        ChainCode::ChainUnverified => Code::TlsChainUnverified,
        _ => return None,
    })
}

/// Rules that only some clients have: what they expect is not common knowledge.
fn is_of_some_clients(code: Code) -> bool {
    matches!(
        code,
        Code::TlsLifetime
            | Code::TlsMustStaple
            | Code::TlsNoTimestamps
            | Code::TlsSerialNumber
            | Code::TlsStrictClients
            | Code::TlsChainUnverified
    )
}

/// A short text, if the finding has no facts of its own.
fn remedy(code: Code) -> &'static str {
    match code {
        Code::TlsChainOrder => "put the host's own first, and after each certificate the one that signed it",
        Code::TlsChainExtra => "remove it from the file",
        Code::TlsChainSignature => "serve the complete fullchain.pem of the last renewal",
        Code::TlsIntermediateExpired => "renew, and serve the fullchain.pem that comes with it",
        Code::TlsNameConstraints | Code::TlsChainRefused => "get one from another CA",
        Code::TlsWeakKey | Code::TlsEd25519 => "issue it again with an ECDSA key",
        Code::TlsWeakSignature => "issue it again with SHA-256",
        Code::TlsNoServerAuth | Code::TlsNoPurpose => "issue it again with extendedKeyUsage serverAuth",
        Code::TlsKeyUsage => "issue it again with keyUsage digitalSignature",
        Code::TlsLifetime => "issue it again for a shorter time",
        Code::TlsMustStaple => "issue it again without must-staple, or have the server staple",
        Code::TlsNoTimestamps => "get one from a CA that includes them",
        Code::TlsSerialNumber => "issue it again with a positive number of at most 20 octets",
        Code::TlsStrictClients => "issue it again with the extensions that RFC 5280 requires",
        Code::TlsChainUnverified => {
            "check it with `openssl verify`, or use a CA with a P-256 key and SHA-256"
        }
        Code::TlsCaCertificate => "issue one for the host, with basicConstraints CA:FALSE",
        _ => "issue it again",
    }
}

fn chain_finding(host: &Host, code: Code, seen: &finding::Finding, found: &Presented) -> Finding {
    let title = code.explanation().title;
    let until = format!("{} to {}", moment(found.not_before), moment(found.not_after));
    let message = match code {
        Code::TlsExpired => format!(
            "the certificate expired on {}: renew it (`certbot renew`) and let the server load it",
            day(found.not_after)
        ),
        Code::TlsNotYetValid => format!(
            "the certificate is not valid before {}: wait, or set the clock of the machine that issued it and issue it again",
            moment(found.not_before)
        ),
        Code::TlsExpiresSoon => format!(
            "the certificate ends on {}, and its renewal failed or was not loaded: run `certbot renew --dry-run` to see why",
            day(found.not_after)
        ),
        Code::TlsMissingIntermediate => {
            "the intermediate certificate is missing: serve fullchain.pem instead of cert.pem".to_owned()
        }
        Code::TlsSelfSigned if is_home(host) => format!("the certificate is self-signed, so no client trusts it: create one with a CA of your own (`mkcert {host}`), and install its root on every client"),
        Code::TlsUnknownCa if found.issuer.contains(STAGING_MARK) => format!("the certificate is for trials, and no client trusts its CA `{}`: request one from the CA's production directory (certbot: without --staging, --test-cert and --dry-run; sanedge: remove `directory` from [acme])", found.issuer),
        Code::TlsUnknownCa if is_home(host) => format!("clients do not know the authority `{}` that issued the certificate: install its root on every client", found.issuer),
        Code::TlsSelfSigned => "the certificate is self-signed, so no client trusts it: get one from a CA (`certbot certonly`, free of charge)".to_owned(),
        Code::TlsUnknownCa => format!("clients do not know the authority `{}` that issued the certificate: get one from a public CA (`certbot certonly`), or install this root on every client", found.issuer),
        _ => format!("{title}: {}", remedy(code)),
    };
    let finding = Finding::new(code, message)
        .seen("found", &seen.found)
        .word("issue", issue(host, &[host.to_string()]));
    let finding = if is_of_some_clients(code) { finding.seen("expected", &seen.expected) } else { finding };
    let finding = if matches!(code, Code::TlsExpired | Code::TlsNotYetValid) {
        finding.seen("valid", until)
    } else {
        finding
    };
    match &found.issuer_url {
        Some(url) if code == Code::TlsMissingIntermediate => finding.seen("offered at", url.to_string()),
        _ => finding,
    }
}
