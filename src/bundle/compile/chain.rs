//! The chain: right order, right signatures, complete, and acceptable to a path check (RFC 5280 §6.1).

use std::time::Duration;

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use super::desk::{Desk, Subject, moment};
use super::facts::{Facts, KeyKind, ServerAuth, parse};
use crate::bundle::file::{word, word_beside};
use crate::bundle::finding::{Code, Finding, listed};
use crate::bundle::lifetime::{Lifetime, Urgency};
use crate::bundle::shell::shell_word;
use crate::bundle::source::{Lined, NamedFile};
use crate::excerpt::Excerpt;
use crate::names::{Host, SanName};

/// Subjects of a `trust` file that are told: a whole system store would fill the screen.
const SUBJECTS_TOLD_MAX: usize = 5;

/// One certificate of a chain, parsed.
pub(super) struct Link {
    pub(super) der: CertificateDer<'static>,
    pub(super) facts: Facts,
}

/// Roots that a chain may end at.
pub(super) struct Anchors {
    all: Vec<TrustAnchor<'static>>,
    /// Name of the `trust` file as written, if there is one.
    label: Option<Excerpt>,
    /// What the `trust` file holds: a self-signed certificate may be in it and is then no surprise.
    trusted: Vec<CertificateDer<'static>>,
    /// The `trust` file has findings of its own: what it would have said about a CA is not known.
    broken: bool,
}

impl Anchors {
    /// Mozilla's, and those of the `trust` file.
    pub(super) fn load(desk: &mut Desk, trust: Option<&Lined<NamedFile>>) -> Self {
        let mut all = webpki_roots::TLS_SERVER_ROOTS.to_vec();
        let Some(file) = trust else {
            return Self { all, label: None, trusted: Vec::new(), broken: false };
        };
        let before = desk.errors();
        let trusted = super::pem::trust(desk, file).unwrap_or_default();
        for (at, der) in trusted.iter().enumerate() {
            match webpki::anchor_from_trusted_cert(der) {
                Ok(anchor) => all.push(anchor.to_owned()),
                Err(error) => {
                    desk.push(file.line, malformed(&file.value.label, at, &Excerpt::of(&error.to_string())))
                }
            }
        }
        Self { all, label: Some(file.value.label.clone()), trusted, broken: desk.errors() > before }
    }

    /// Mozilla's, and some that are trusted beside them.
    pub(super) fn of(trusted: &[CertificateDer<'static>]) -> Self {
        let mut all = webpki_roots::TLS_SERVER_ROOTS.to_vec();
        let anchor = |der| webpki::anchor_from_trusted_cert(der).ok().map(|anchor| anchor.to_owned());
        all.extend(trusted.iter().filter_map(anchor));
        Self { all, label: None, trusted: trusted.to_vec(), broken: false }
    }

    /// Whether the chain gets to a root that browsers know, by its names.
    pub(super) fn are_public(path: &[Link]) -> bool {
        reaches(path, webpki_roots::TLS_SERVER_ROOTS)
    }
}

/// Whether a chain gets to one of the roots by its names; whether the signatures agree is the path check's question.
fn reaches(path: &[Link], anchors: &[TrustAnchor<'_>]) -> bool {
    let issuer_is = |link: &Link, anchor: &TrustAnchor<'_>| {
        sequence_content(&link.facts.issuer_raw) == Some(anchor.subject.as_ref())
    };
    path.iter().any(|link| anchors.iter().any(|anchor| issuer_is(link, anchor)))
}

/// Parses every certificate of a file; `None` after a finding.
pub(super) fn links(
    desk: &mut Desk,
    subject: &Subject<'_>,
    chain: Vec<CertificateDer<'static>>,
) -> Option<Vec<Link>> {
    let mut links = Vec::new();
    let mut whole = true;
    for (at, der) in chain.into_iter().enumerate() {
        match Facts::of(&der) {
            Ok(facts) => links.push(Link { der, facts }),
            Err(found) => {
                desk.push(subject.line, malformed(subject.label, at, &found));
                whole = false;
            }
        }
    }
    whole.then_some(links)
}

fn malformed(label: &str, at: usize, found: &str) -> Finding {
    Finding::new(Code::CertificateMalformed, format!("certificate {} in `{label}` is damaged", at + 1))
        .certificate(label)
        .expected("an X.509 version 3 certificate")
        .found(found)
        .remedy("Copy the file again from where it was issued.")
}

/// Every proof about one chain. `links` is in the order of the file; what comes back begins with the end-entity.
pub(super) fn check(
    desk: &mut Desk,
    subject: &Subject<'_>,
    links: Vec<Link>,
    anchors: &Anchors,
) -> Vec<Link> {
    let before = desk.errors();
    let path = order(desk, subject, links);
    let Some(end_entity) = path.first() else { return path };
    dates(desk, subject, &path);
    let hopeless = purpose(desk, subject, &end_entity.facts);
    signatures(desk, subject, &path);
    sizes(desk, subject, &path);
    if !hopeless {
        completeness(desk, subject, &path, anchors, before);
    }
    path
}

/// The certificates as a path from the end-entity upwards; a finding where the file has them otherwise.
fn order(desk: &mut Desk, subject: &Subject<'_>, links: Vec<Link>) -> Vec<Link> {
    let written = numbered(&links);
    let mut left: Vec<(usize, Link)> = links.into_iter().enumerate().collect();
    let mut path: Vec<(usize, Link)> = Vec::new();
    let mut next = left.iter().position(|(_, l)| !l.facts.is_ca).or((!left.is_empty()).then_some(0));
    while let Some(at) = next {
        path.push(left.remove(at));
        next = path.last().and_then(|(_, last)| left.iter().position(|(_, l)| issued(l, last)));
    }
    for (at, link) in &left {
        let repeats = path.iter().any(|(_, l)| l.der == link.der);
        desk.push(subject.line, foreign(subject, *at, link, repeats));
    }
    let in_order = path.is_sorted_by_key(|(at, _)| *at);
    let path: Vec<Link> = path.into_iter().map(|(_, link)| link).collect();
    if !in_order {
        desk.push(subject.line, disordered(subject, &written, &path));
    }
    path
}

/// By its names only; signatures are looked at later. Nothing is its own issuer here.
fn issued(parent: &Link, child: &Link) -> bool {
    child.facts.issuer_raw == parent.facts.subject_raw && child.der != parent.der
}

fn numbered(links: &[Link]) -> String {
    let lines = links.iter().enumerate().map(|(at, link)| format!("{}. {}", at + 1, link.facts.subject));
    lines.collect::<Vec<_>>().join("; ")
}

fn disordered(subject: &Subject<'_>, written: &str, path: &[Link]) -> Finding {
    Finding::new(Code::ChainOrder, format!("the certificates in `{}` stand in the wrong order", subject.label))
        .certificate(subject.label)
        .expected(numbered(path))
        .found(written)
        .remedy("Put the host's own certificate first and behind each certificate the one that signed it:\n  cat cert.pem chain.pem > fullchain.pem")
}

fn foreign(subject: &Subject<'_>, at: usize, link: &Link, repeats: bool) -> Finding {
    let (what, found) = if repeats {
        ("stands twice", "the same certificate again".to_owned())
    } else {
        (
            "does not belong to this chain",
            format!("it signed none of the others; it is for {}", link.facts.subject),
        )
    };
    Finding::new(Code::ChainForeign, format!("certificate {} in `{}` {what}", at + 1, subject.label))
        .certificate(subject.label)
        .expected("the host's own certificate, and each certificate that signed the one before")
        .found(found)
        .remedy("Take it out of the file. Another host's certificate goes into a file and a [[certificate]] of its own.")
}

fn dates(desk: &mut Desk, subject: &Subject<'_>, path: &[Link]) {
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
            "Renew it with `certbot renew`. If it should be fine, look at this machine's clock with `date`."
        } else {
            "Fetch the chain again; a renewal brings the intermediates of today."
        };
        if desk.now > not_after {
            let expected = format!("valid now, {}", moment(desk.now));
            desk.push(
                subject.line,
                says(Code::Expired, "has expired")
                    .expected(expected)
                    .found(format!("it ended on {}", moment(not_after)))
                    .remedy(remedy),
            );
        } else if desk.now < not_before {
            let expected = format!("valid now, {}", moment(desk.now));
            let remedy = "Wait, or look at this machine's clock with `date`.";
            desk.push(
                subject.line,
                says(Code::NotYetValid, "is not valid yet")
                    .expected(expected)
                    .found(format!("it begins on {}", moment(not_before)))
                    .remedy(remedy),
            );
        } else if let (0, Some(finding)) = (at, renewal(subject.label, facts.lifetime(), desk.now)) {
            desk.push(subject.line, finding);
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
        .remedy(
            "Renew it now, and find out why the renewal did not do so by itself: `certbot renew --dry-run`.",
        );
    Some(finding)
}

/// The end-entity is one, and for servers. True where it has to be made anew with a command that cures everything
/// else as well: then nothing else is said about it.
fn purpose(desk: &mut Desk, subject: &Subject<'_>, facts: &Facts) -> bool {
    let label = subject.label;
    let made_by_hand = facts.self_signed;
    if facts.is_ca {
        let finding = Finding::new(
            Code::CaAsEndEntity,
            format!("`{label}` is a CA's certificate, not a server's"),
        )
        .expected("basicConstraints CA:FALSE")
        .found(format!("CA:TRUE on {}", facts.subject))
        .remedy(format!(
            "If this is your CA, name the certificate that it issued for the server. If it is none, its \
                 flag is a mistake. {}",
            anew(desk, subject, facts, "with openssl: -addext basicConstraints=critical,CA:FALSE")
        ));
        desk.push(subject.line, finding.certificate(label));
        return true;
    }
    sans(desk, subject, facts);
    if !facts.has_san && made_by_hand {
        return true;
    }
    if facts.server_auth != ServerAuth::Yes {
        let found = match facts.server_auth {
            ServerAuth::NoExtension => "no extendedKeyUsage at all: Apple's clients refuse that",
            _ => "an extendedKeyUsage for other uses only",
        };
        let finding = Finding::new(Code::NoServerAuth, format!("`{label}` is not for TLS servers"))
            .expected("extendedKeyUsage with serverAuth")
            .found(found)
            .remedy(anew(desk, subject, facts, "with openssl: -addext extendedKeyUsage=serverAuth"));
        desk.push(subject.line, finding.certificate(label));
        if made_by_hand {
            return true;
        }
    }
    if !facts.digital_signature {
        let finding =
            Finding::new(Code::NoDigitalSignature, format!("the key of `{label}` may not sign handshakes"))
                .expected("keyUsage with digitalSignature: every cipher suite here signs (RFC 8446 §4.4.2.2)")
                .found("a keyUsage without it")
                .remedy(anew(
                    desk,
                    subject,
                    facts,
                    "with openssl: -addext keyUsage=critical,digitalSignature",
                ));
        desk.push(subject.line, finding.certificate(label));
        return made_by_hand;
    }
    false
}

fn sans(desk: &mut Desk, subject: &Subject<'_>, facts: &Facts) {
    let label = subject.label;
    for (text, why) in &facts.odd_names {
        let finding = Finding::new(Code::UnusableSan, format!("`{label}` has a name that no client accepts"))
            .expected("a full DNS name, or `*.` before one with at least two labels (RFC 9525 §6.3)")
            .found(format!("{text:?}: {why}"))
            .remedy("Nothing depends on it unless you meant it to cover a host: then issue the certificate again with the host's full name.");
        desk.push(subject.line, finding.certificate(label));
    }
    if facts.has_san {
        return;
    }
    let found = match &facts.common_name {
        Some(cn) => format!("only the common name `{cn}`, which no client looks at (RFC 9525 §2)"),
        None => "no name at all".to_owned(),
    };
    let finding = Finding::new(Code::NoSan, format!("`{label}` has no subjectAltName"))
        .expected("a subjectAltName with every host")
        .found(found)
        .remedy(anew(desk, subject, facts, &format!("with openssl: -addext {}", alternative_names(desk))));
    desk.push(subject.line, finding.certificate(label));
}

/// `subjectAltName=…` with every host of sanedge.toml, as openssl takes it and quoted for a shell.
fn alternative_names(desk: &Desk) -> String {
    let name = |host: &Host| match host {
        Host::Ip(ip) => format!("IP:{ip}"),
        Host::Dns(name) => format!("DNS:{}", name.as_str()),
    };
    let names: Vec<String> = desk.hosts.iter().map(name).collect();
    let names = if names.is_empty() { "DNS:recre.store".to_owned() } else { names.join(",") };
    shell_word(&format!("subjectAltName={names}"))
}

/// How to get a certificate with nothing wrong in it: one command for one that was made by hand, `option` for others.
fn anew(desk: &Desk, subject: &Subject<'_>, facts: &Facts, option: &str) -> String {
    if !facts.self_signed {
        return format!("Issue it again with every host in its subjectAltName; {option}");
    }
    let beside = |path, extension| word_beside(&super::pem::fresh(path, &[extension]), path);
    let chain = beside(&subject.files.chain.value.path, "new.pem");
    let key = beside(&subject.files.key.value.path, "new.key");
    format!(
        "Make it anew with all that a server's certificate needs, and name the new files here:\n  \
         openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 365 -subj /CN=sanedge \
         -addext {} -addext basicConstraints=critical,CA:FALSE -addext keyUsage=critical,digitalSignature \
         -addext extendedKeyUsage=serverAuth -keyout {key} -out {chain}",
        alternative_names(desk)
    )
}

/// Each certificate is signed by the next one, and not with a broken hash. A root's own signature does not count.
fn signatures(desk: &mut Desk, subject: &Subject<'_>, path: &[Link]) {
    for (at, link) in path.iter().enumerate() {
        if let (Some(weak), false) = (link.facts.weak_signature, link.facts.self_signed) {
            desk.push(subject.line, weakly_signed(subject, at, link, weak));
        }
        let Some(parent) = path.get(at + 1) else { continue };
        if !signed_by(link, parent) {
            desk.push(subject.line, badly_signed(subject, at, link, parent));
        }
    }
}

fn signed_by(child: &Link, parent: &Link) -> bool {
    use x509_parser::error::X509Error;
    let (Ok(child), Ok(parent)) = (parse(&child.der), parse(&parent.der)) else { return false };
    match child.verify_signature(Some(parent.public_key())) {
        // What this verifier does not know is left to the path check.
        Ok(()) | Err(X509Error::SignatureUnsupportedAlgorithm) => true,
        // Too short a key fails as well; that has a finding of its own.
        Err(_) => {
            matches!(super::facts::key_of(&parent), KeyKind::Rsa(bits) if bits < super::desk::RSA_BITS_MIN)
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

fn sizes(desk: &mut Desk, subject: &Subject<'_>, path: &[Link]) {
    for link in path.iter().skip(1) {
        match link.facts.key {
            KeyKind::Rsa(bits) if bits < super::desk::RSA_BITS_MIN => {
                let finding = super::key::rsa_size(
                    subject.label,
                    bits,
                    &format!("the CA {}", link.facts.subject),
                    "No client accepts that. Issue the certificate by another CA, or make the CA anew with a key of today.",
                );
                desk.push(subject.line, finding);
            }
            _ => {}
        }
    }
}

/// The path check against the anchors, and what its failure means for the person at the desk.
fn completeness(
    desk: &mut Desk,
    subject: &Subject<'_>,
    path: &[Link],
    anchors: &Anchors,
    errors_before: usize,
) {
    let (Some(end_entity), Some(last)) = (path.first(), path.last()) else { return };
    if path.len() > 1 && last.facts.self_signed {
        desk.push(subject.line, root_included(subject, last));
    }
    let verdict = if reaches(path, &anchors.all) {
        verify(path, &anchors.all, desk.now)
    } else {
        if !anchors.trusted.contains(&end_entity.der) && !anchors.broken {
            desk.push(subject.line, unknown_issuer(subject, path, last, anchors));
        }
        verify_below(path, last, desk.now)
    };
    // What was found wrong already has its own words.
    if let (Err(error), true) = (verdict, desk.errors() == errors_before) {
        desk.push(subject.line, refused(subject, &end_entity.facts, &error));
    }
}

/// An unknown root must not hide what else is wrong below it: the path check, up to the last certificate there is.
fn verify_below(path: &[Link], last: &Link, now: i64) -> Result<(), webpki::Error> {
    if path.len() == 1 {
        return EndEntityCert::try_from(&last.der).map(|_| ());
    }
    let anchor = webpki::anchor_from_trusted_cert(&last.der)?;
    verify(path, &[anchor], now)
}

fn verify(path: &[Link], anchors: &[TrustAnchor<'_>], now: i64) -> Result<(), webpki::Error> {
    let Some((end_entity, above)) = path.split_first() else { return Ok(()) };
    let Some(time) = time_within(path, now) else { return Ok(()) }; // dates have findings of their own
    let intermediates: Vec<_> = above.iter().map(|l| l.der.clone()).collect();
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms.all;
    EndEntityCert::try_from(&end_entity.der)?
        .verify_for_usage(algorithms, anchors, &intermediates, time, KeyUsage::server_auth(), None, None)
        .map(|_| ())
}

/// A moment at which every certificate is valid, as near to now as there is one.
fn time_within(path: &[Link], now: i64) -> Option<UnixTime> {
    let begin = path.iter().map(|l| l.facts.not_before).max()?;
    let end = path.iter().map(|l| l.facts.not_after).min()?;
    let moment = u64::try_from(now.max(begin).min(end)).ok()?;
    (begin <= end).then(|| UnixTime::since_unix_epoch(Duration::from_secs(moment)))
}

/// The content of a DER SEQUENCE; webpki keeps names without their header.
fn sequence_content(der: &[u8]) -> Option<&[u8]> {
    match der {
        [0x30, length, content @ ..] if *length < 0x80 => Some(content),
        [0x30, long, rest @ ..] => rest.get(usize::from(long & 0x7f)..),
        _ => None,
    }
}

fn unknown_issuer(subject: &Subject<'_>, path: &[Link], last: &Link, anchors: &Anchors) -> Finding {
    let alone = path.len() == 1;
    match (&last.facts.issuer_url, alone, &anchors.label) {
        (_, true, _) if last.facts.self_signed => self_signed(subject, last),
        (Some(url), true, _) => missing_intermediate(subject, last, url),
        (_, _, Some(trust)) => not_in_trust(subject, last, trust, anchors),
        _ => unknown_ca(subject, last),
    }
}

/// Somebody took the trouble to name a CA: then a chain that does not get there is a mistake and no choice.
fn not_in_trust(subject: &Subject<'_>, last: &Link, trust: &str, anchors: &Anchors) -> Finding {
    let issuer = ends_at(last);
    let mut held: Vec<String> = anchors
        .trusted
        .iter()
        .filter_map(|der| Facts::of(der).ok())
        .map(|facts| facts.subject.into())
        .collect();
    if held.len() > SUBJECTS_TOLD_MAX {
        let more = held.len() - SUBJECTS_TOLD_MAX;
        held.truncate(SUBJECTS_TOLD_MAX);
        held.push(format!("{more} more"));
    }
    let other = format!("`trust` names another CA: name a file that holds {issuer}.");
    let causes = if last.facts.self_signed {
        other
    } else {
        format!(
            "Either an intermediate is missing from `chain`: put the certificate of {issuer} behind those in `{}`. Or {other}",
            subject.label
        )
    };
    Finding::new(
        Code::NotInTrust,
        format!("the chain in `{}` does not get to a CA in `{trust}`", subject.label),
    )
    .certificate(subject.label)
    .expected("a chain that ends at a root of the file in `trust`, or of Mozilla's list")
    .found(format!("it ends at {issuer}; `{trust}` holds {}", listed(held)))
    .remedy(causes)
}

fn self_signed(subject: &Subject<'_>, link: &Link) -> Finding {
    Finding::new(Code::SelfSigned, format!("`{}` is self-signed", subject.label))
        .certificate(subject.label)
        .expected("a certificate of a CA that clients know")
        .found(format!("{} signed by itself", link.facts.subject))
        .remedy("Browsers will warn, and refuse WebSockets without asking. Get one from Let's Encrypt, or from a CA of your own that your clients trust (and name that in trust = \"ca.pem\").")
}

fn missing_intermediate(subject: &Subject<'_>, link: &Link, url: &str) -> Finding {
    Finding::new(Code::MissingIntermediate, format!("`{}` lacks its intermediate certificate", subject.label))
        .certificate(subject.label)
        .expected(format!("behind it the certificate of {}", link.facts.issuer))
        .found("one certificate alone; some browsers would fetch the other, programs and phones fail")
        .remedy(append(subject, url))
}

/// The address is the certificate's word: only one that curl cannot take for something else becomes a command.
fn append(subject: &Subject<'_>, url: &str) -> String {
    let name = "Name fullchain.pem instead of cert.pem";
    if !url.starts_with("http://") {
        return format!("{name}.");
    }
    let (url, file) = (shell_word(url), word(&subject.files.chain.value.path));
    format!(
        "{name}, or append what the CA offers here:\n  curl -s {url} | openssl x509 -inform DER >> {file}"
    )
}

/// The CA that a client has to know to go on from here.
fn ends_at(last: &Link) -> &str {
    if last.facts.self_signed { &last.facts.subject } else { &last.facts.issuer }
}

fn unknown_ca(subject: &Subject<'_>, last: &Link) -> Finding {
    let issuer = ends_at(last);
    Finding::new(Code::UnknownCa, format!("no client trusts the CA of `{}` by itself", subject.label))
        .certificate(subject.label)
        .expected("a chain that ends at a root of Mozilla's list, or of the file in `trust`")
        .found(format!("it ends at {issuer}"))
        .remedy("If this is your own CA, name its root at the top of sanedge.toml, trust = \"ca.pem\", and install it on every client.")
}

fn root_included(subject: &Subject<'_>, last: &Link) -> Finding {
    Finding::new(Code::RootIncluded, format!("`{}` ends with the root itself", subject.label))
        .certificate(subject.label)
        .expected("the chain without its root: clients use their own copy")
        .found(format!("the self-signed {}", last.facts.subject))
        .remedy("Take the last certificate out of the file: every handshake gets shorter.")
}

fn refused(subject: &Subject<'_>, facts: &Facts, error: &webpki::Error) -> Finding {
    let label = subject.label;
    let finding = match error {
        webpki::Error::NameConstraintViolation => {
            Finding::new(Code::NameConstraints, format!("a CA of `{label}` may not issue for these names"))
                .expected("names that the name constraints of every CA above permit (RFC 5280 §4.2.1.10)")
                .found(listed(facts.names.iter().map(SanName::to_string)))
                .remedy("Issue the certificate with names that the CA permits, or by another CA.")
        }
        webpki::Error::PathLenConstraintViolated => refused_because(
            label,
            "a CA below another that permits none",
            "Issue the certificate by a CA that the path length above permits.",
        ),
        webpki::Error::EndEntityUsedAsCa => refused_because(
            label,
            "a certificate that is no CA's and yet signed another",
            "Issue the certificate by a CA: basicConstraints CA:TRUE and keyUsage keyCertSign.",
        ),
        other => refused_because(
            label,
            &Excerpt::of(&other.to_string()),
            "Clients would refuse it as well. Issue the certificate again.",
        ),
    };
    finding.certificate(label)
}

fn refused_because(label: &str, found: &str, remedy: &str) -> Finding {
    Finding::new(Code::ChainRefused, format!("clients would refuse the chain in `{label}`"))
        .expected("a chain that passes the path check of RFC 5280 §6.1")
        .found(found)
        .remedy(remedy)
}
