//! The chain: right order, right signatures, complete, and acceptable to a path check (RFC 5280 §6.1).

use std::time::Duration;

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use super::anchors::{Anchors, malformed, reaches};
use super::clients::{self, Served};
use super::context::{Context, Subject, moment};
use super::facts::{Facts, KeyKind, Link};
use super::issuer::{root_included, unknown_issuer};
use super::path::{self, Fit, Signed};
use super::purpose::purpose;
use super::verdict::{misplaced, refused, refused_because, unverified};
use crate::bundle::finding::{Code, Finding};
use crate::bundle::lifetime::{Lifetime, Urgency};

/// Parses every certificate of a file; `None` after a finding.
pub(super) fn links(
    context: &mut Context,
    subject: &Subject<'_>,
    chain: Vec<CertificateDer<'static>>,
) -> Option<Vec<Link>> {
    let mut links = Vec::new();
    let mut whole = true;
    for (at, der) in chain.into_iter().enumerate() {
        match Facts::of(&der) {
            Ok(facts) => links.push(Link { der, facts }),
            Err(found) => {
                context.push(subject.line, malformed(subject.label, at, &found));
                whole = false;
            }
        }
    }
    whole.then_some(links)
}

/// Every proof about one chain. `links` is in the order of the file; what comes back begins with the end-entity and has no root.
pub(super) fn check(
    context: &mut Context,
    subject: &Subject<'_>,
    links: Vec<Link>,
    anchors: &Anchors,
    stapled: bool,
) -> Vec<Link> {
    let before = context.errors();
    let (mut path, root) = order(context, subject, links, anchors);
    let Some(end_entity) = path.first() else { return path };
    dates(context, subject, &path);
    let hopeless = purpose(context, subject, &end_entity.facts);
    signatures(context, subject, &path);
    sizes(context, subject, &path);
    if !hopeless {
        completeness(context, subject, &path, anchors, before);
    }
    let sent = path.iter().filter(|link| !is_root_of(link, &path)).map(|link| &link.facts).collect();
    let root = root.as_ref().or(path.last().filter(|last| is_root_of(last, &path)));
    let public = Anchors::are_public(&path) && !anchors.names_issuer_of(&path);
    let served =
        Served { label: subject.label, path: sent, root: root.map(|root| &root.facts), public, stapled };
    clients::check(&served).into_iter().for_each(|finding| context.push(subject.line, finding));
    if path.len() > 1 {
        path.pop_if(|last| last.facts.self_signed);
    }
    path
}

/// A root at the end of a path, above something else.
fn is_root_of(link: &Link, path: &[Link]) -> bool {
    link.facts.self_signed && path.first().is_some_and(|first| first.der != link.der)
}

/// The certificates as a path from the end-entity upwards, and the root above it where that is known and not on the path.
/// Findings say what is left out, and where the file has them in another order.
fn order(
    context: &mut Context,
    subject: &Subject<'_>,
    links: Vec<Link>,
    anchors: &Anchors,
) -> (Vec<Link>, Option<Link>) {
    let written = numbered(&links);
    let way = path::find(&links, |path| fit(path, anchors, context.now));
    let mut all: Vec<Option<Link>> = links.into_iter().map(Some).collect();
    let path: Vec<Link> = way.iter().filter_map(|at| all.get_mut(*at)?.take()).collect();
    let mut root = path.last().and_then(|last| anchors.root_above(last));
    for (at, link) in all.into_iter().enumerate().filter_map(|(at, link)| Some((at, link?))) {
        let finding = left_out(subject, at, &link, &path, context.now);
        context.push(subject.line, finding);
        if root.is_none()
            && path.last().is_some_and(|last| link.facts.self_signed && path::issued(&link, last))
        {
            root = Some(link);
        }
    }
    if !way.is_sorted() {
        context.push(subject.line, disordered(subject, &written, &path));
    }
    (path, root)
}

/// How good a path is, by everything that can be checked of it.
fn fit(path: &[&Link], anchors: &Anchors, now: i64) -> Fit {
    let in_date = |link: &&Link| (link.facts.not_before..=link.facts.not_after).contains(&now);
    let Some((last, above)) = path.last().zip(path.get(1..)) else { return Fit::Unfit };
    if !above.iter().all(|link| in_date(link) || link.facts.self_signed) {
        return Fit::Unfit;
    }
    let is_root = path.len() > 1 && last.facts.self_signed;
    if is_root || !reaches(&[*last], &anchors.all) {
        return Fit::Open;
    }
    match verify(path, &anchors.all, now) {
        Ok(()) => Fit::Proven,
        Err(_) if unchecked(path, anchors).is_some() => Fit::Plausible,
        Err(_) => Fit::Unfit,
    }
}

/// The first signature of a path that cannot be checked here, that of a known root included.
fn unchecked(path: &[&Link], anchors: &Anchors) -> Option<String> {
    let root = path.last().and_then(|last| anchors.root_above(last));
    let parents = path.iter().skip(1).copied().chain(&root);
    path.iter().zip(parents).find_map(|(child, parent)| match path::signed(child, parent) {
        Signed::Unchecked(how) => {
            Some(format!("{} is signed with {how}, of {}", child.facts.subject, parent.facts.subject))
        }
        Signed::Yes | Signed::No => None,
    })
}

fn numbered(links: &[Link]) -> String {
    let lines = links.iter().enumerate().map(|(at, link)| format!("{}. {}", at + 1, link.facts.subject));
    lines.collect::<Vec<_>>().join("; ")
}

fn disordered(subject: &Subject<'_>, written: &str, path: &[Link]) -> Finding {
    Finding::new(Code::ChainOrder, format!("the certificates in `{}` are in the wrong order", subject.label))
        .certificate(subject.label)
        .expected(numbered(path))
        .found(written)
        .remedy("Put the host's own certificate first, and after each certificate the one that signed it:\n  cat cert.pem \
            chain.pem > fullchain.pem")
}

/// What is in the file and not sent, and why.
fn left_out(subject: &Subject<'_>, at: usize, link: &Link, path: &[Link], now: i64) -> Finding {
    let (facts, number) = (&link.facts, at + 1);
    if facts.self_signed && path.last().is_some_and(|last| path::issued(link, last)) {
        return root_included(subject, link);
    }
    let names = path.iter().any(|other| path::issued(link, other));
    let (what, found) = match () {
        () if path.iter().any(|other| other.der == link.der) => {
            ("is in the file twice", "the same certificate again".to_owned())
        }
        () if now > facts.not_after => {
            ("has expired and is not needed", format!("{}, until {}", facts.subject, moment(facts.not_after)))
        }
        () if names => (
            "is not needed",
            format!(
                "{} by {}: clients reach a root without it, or its key differs",
                facts.subject, facts.issuer
            ),
        ),
        () => (
            "does not belong to this chain",
            format!("it signed none of the others; it is for {}", facts.subject),
        ),
    };
    Finding::new(Code::ChainForeign, format!("certificate {number} in `{}` {what} and is left out", subject.label))
        .certificate(subject.label)
        .expected("the host's own certificate, and each certificate that signed the one before, up to a root that clients know")
        .found(found)
        .remedy("Nothing to do: the bundle is made without it. To silence this note, remove it from the file. Another \
            host's certificate needs a file and a [[certificate]] of its own.")
}

fn dates(context: &mut Context, subject: &Subject<'_>, path: &[Link]) {
    for (at, link) in path.iter().enumerate() {
        let facts = &link.facts;
        if at > 0 && facts.self_signed {
            continue; // a root: the client uses its own copy
        }
        let (not_before, not_after) = (facts.not_before, facts.not_after);
        let whose = if at == 0 {
            "the certificate".to_owned()
        } else {
            format!("the intermediate {}", facts.subject)
        };
        let says = |code, text: &str| {
            Finding::new(code, format!("{whose} in `{}` {text}", subject.label)).certificate(subject.label)
        };
        let remedy = if at == 0 {
            "Renew it the way it was issued, with certbot `certbot renew`. If it should still be valid, check this machine's \
                clock with `date`."
        } else {
            "Fetch the chain again; a renewal includes the current intermediates."
        };
        if context.now > not_after {
            let expected = format!("valid now, {}", moment(context.now));
            context.push(
                subject.line,
                says(Code::Expired, "has expired")
                    .expected(expected)
                    .found(format!("it ended on {}", moment(not_after)))
                    .remedy(remedy),
            );
        } else if context.now < not_before {
            let expected = format!("valid now, {}", moment(context.now));
            let remedy = "Wait, or check this machine's clock with `date`.";
            context.push(
                subject.line,
                says(Code::NotYetValid, "is not valid yet")
                    .expected(expected)
                    .found(format!("it begins on {}", moment(not_before)))
                    .remedy(remedy),
            );
        } else if let (0, Some(finding)) = (at, renewal(subject.label, facts.lifetime(), context.now)) {
            context.push(subject.line, finding);
        }
    }
}

/// A warning also where little time is left: a certificate that is valid is never refused.
fn renewal(label: &str, lifetime: Lifetime, now: i64) -> Option<Finding> {
    let text = match lifetime.urgency(now) {
        Urgency::None => return None,
        Urgency::Overdue => "is overdue for renewal",
        Urgency::EndsSoon | Urgency::Expired => "ends soon",
    };
    let finding = Finding::new(Code::ExpiresSoon, format!("the certificate in `{label}` {text}"))
        .certificate(label)
        .expected(format!("renewed around {}", moment(lifetime.renewal_due())))
        .found(format!("{} left, until {}", lifetime.left(now), moment(lifetime.not_after)))
        .remedy("Renew it now the way it was issued. If a program renews it, find out why that failed, with certbot \
            `certbot renew --dry-run`.");
    Some(finding)
}

/// Each certificate is signed by the next one, and not with a broken hash. A root's own signature does not count.
fn signatures(context: &mut Context, subject: &Subject<'_>, path: &[Link]) {
    for (at, link) in path.iter().enumerate() {
        if let (Some(weak), false) = (link.facts.weak_signature, link.facts.self_signed) {
            context.push(subject.line, weakly_signed(subject, at, link, weak));
        }
        let Some(parent) = path.get(at + 1) else { continue };
        if path::signed(link, parent) == Signed::No {
            context.push(subject.line, badly_signed(subject, at, link, parent));
        }
    }
}

fn weakly_signed(subject: &Subject<'_>, at: usize, link: &Link, weak: &str) -> Finding {
    Finding::new(
        Code::WeakSignature,
        format!("certificate {} in `{}` is signed with a broken hash", at + 1, subject.label),
    )
    .certificate(subject.label)
    .expected("a signature with SHA-256 or better")
    .found(format!("{weak} on {}", link.facts.subject))
    .remedy("No client accepts it. Issue the certificate again.")
}

fn badly_signed(subject: &Subject<'_>, at: usize, link: &Link, parent: &Link) -> Finding {
    Finding::new(
        Code::ChainSignature,
        format!("certificate {} in `{}` did not sign certificate {}", at + 2, subject.label, at + 1),
    )
    .certificate(subject.label)
    .expected(format!("{} signed by the key of {}", link.facts.subject, parent.facts.subject))
    .found("the right name with another key, or a damaged certificate")
    .remedy(
        "Fetch the chain that belongs to this certificate; a CA may have several intermediates of one name.",
    )
}

fn sizes(context: &mut Context, subject: &Subject<'_>, path: &[Link]) {
    for link in path.iter().skip(1) {
        match link.facts.key {
            KeyKind::Rsa(bits) if bits < super::context::RSA_BITS_MIN => {
                let finding = super::key::rsa_size(
                    subject.label,
                    bits,
                    &format!("the CA {}", link.facts.subject),
                    "No client accepts that. Have the certificate issued by another CA, or create the CA again with a current key.",
                );
                context.push(subject.line, finding);
            }
            _ => {}
        }
    }
}

/// The path check against the anchors, and what its failure means for the user.
fn completeness(
    context: &mut Context,
    subject: &Subject<'_>,
    path: &[Link],
    anchors: &Anchors,
    errors_before: usize,
) {
    let (Some(end_entity), Some(last)) = (path.first(), path.last()) else { return };
    if path.len() > 1 && last.facts.self_signed {
        context.push(subject.line, root_included(subject, last));
    }
    let all: Vec<&Link> = path.iter().collect();
    let verdict = if reaches(&all, &anchors.all) {
        verify(&all, &anchors.all, context.now)
    } else {
        if !anchors.trusted.contains(&end_entity.der) && !anchors.broken {
            context.push(subject.line, unknown_issuer(subject, path, last, anchors));
        }
        verify_below(&all, last, context.now)
    };
    // What was found wrong already has its own words.
    if context.errors() != errors_before {
        return;
    }
    let finding = match (verdict, unchecked(&all, anchors)) {
        (Err(error), None) => Some(refused(subject, &end_entity.facts, &error)),
        (Err(_), Some(how)) => unfit(subject, &all, anchors, context.now).or(Some(unverified(
            subject,
            &how,
            anchors.path.as_deref(),
        ))),
        (Ok(()), _) => unfit(subject, &all, anchors, context.now),
    };
    finding.into_iter().for_each(|finding| context.push(subject.line, finding));
}

/// What most clients check and webpki does not: keyUsage of CAs, and everything of a root but its name and key. Of several roots
/// one that is good is enough.
fn unfit(subject: &Subject<'_>, path: &[&Link], anchors: &Anchors, now: i64) -> Option<Finding> {
    let refused = |found| {
        let remedy = "Have the certificate issued by a CA that may issue it: basicConstraints CA:TRUE, keyUsage keyCertSign, and no \
            extendedKeyUsage or one with serverAuth.";
        refused_because(subject.label, found, remedy).certificate(subject.label)
    };
    if let Some(found) = misplaced(path) {
        return Some(refused(found));
    }
    let roots: Vec<Link> = path.last().into_iter().flat_map(|last| anchors.roots_above(last)).collect();
    if roots.is_empty() || verify(path, webpki_roots::TLS_SERVER_ROOTS, now).is_ok() {
        return None;
    }
    let trouble = |root: &Link| match misplaced(&[path, &[root]].concat()) {
        Some(found) => Some(refused(found)),
        None => (now > root.facts.not_after).then(|| root_expired(subject, root)),
    };
    let troubles: Vec<Option<Finding>> = roots.iter().map(trouble).collect();
    troubles.into_iter().collect::<Option<Vec<_>>>()?.into_iter().next()
}

fn root_expired(subject: &Subject<'_>, root: &Link) -> Finding {
    let found = format!("the root {} ended on {}", root.facts.subject, moment(root.facts.not_after));
    let remedy = "Create the CA's certificate again, with the same key and name, so that the certificates that it issued stay valid; name it in \
        `trust`, and install it on every client.";
    refused_because(subject.label, &found, remedy).certificate(subject.label)
}

/// An unknown root must not hide what else is wrong below it: the path check, up to the last certificate there is.
fn verify_below(path: &[&Link], last: &Link, now: i64) -> Result<(), webpki::Error> {
    if path.len() == 1 {
        return EndEntityCert::try_from(&last.der).map(|_| ());
    }
    let anchor = webpki::anchor_from_trusted_cert(&last.der)?;
    verify(path, &[anchor], now)
}

fn verify(path: &[&Link], anchors: &[TrustAnchor<'_>], now: i64) -> Result<(), webpki::Error> {
    let Some((end_entity, above)) = path.split_first() else { return Ok(()) };
    let Some(time) = time_within(path, now) else { return Ok(()) }; // dates have findings of their own
    let intermediates: Vec<_> = above.iter().map(|l| l.der.clone()).collect();
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms.all;
    EndEntityCert::try_from(&end_entity.der)?
        .verify_for_usage(algorithms, anchors, &intermediates, time, KeyUsage::server_auth(), None, None)
        .map(|_| ())
}

/// A moment at which every certificate is valid, as near to now as there is one.
fn time_within(path: &[&Link], now: i64) -> Option<UnixTime> {
    let begin = path.iter().map(|l| l.facts.not_before).max()?;
    let end = path.iter().map(|l| l.facts.not_after).min()?;
    let moment = u64::try_from(now.max(begin).min(end)).ok()?;
    (begin <= end).then(|| UnixTime::since_unix_epoch(Duration::from_secs(moment)))
}
