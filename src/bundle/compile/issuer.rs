//! A chain that does not lead to a known root, and what that means for the user.

use super::anchors::Anchors;
use super::context::Subject;
use super::facts::{Facts, Link};
use crate::bundle::acme::STAGING_MARK;
use crate::bundle::file::word;
use crate::bundle::finding::{Code, Finding, listed};
use crate::bundle::shell::shell_word;

/// Most subjects of a `trust` file that are shown: a whole system store would fill the screen.
const SUBJECTS_TOLD_MAX: usize = 5;

pub(super) fn unknown_issuer(
    subject: &Subject<'_>,
    path: &[Link],
    last: &Link,
    anchors: &Anchors,
) -> Finding {
    let alone = path.len() == 1;
    match (&last.facts.issuer_url, alone, &anchors.label) {
        (_, true, _) if last.facts.self_signed => self_signed(subject, last),
        (Some(url), true, _) => missing_intermediate(subject, last, url),
        (_, _, Some(trust)) => not_in_trust(subject, last, trust, anchors),
        _ => unknown_ca(subject, last),
    }
}

/// An error if `trust` names a CA: a chain that does not lead to it is then a mistake, not a choice.
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
            "Either an intermediate is missing from `chain`: append the certificate of {issuer} to `{}`. Or {other}",
            subject.label
        )
    };
    Finding::new(
        Code::NotInTrust,
        format!("the chain in `{}` does not lead to a CA in `{trust}`", subject.label),
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
        .found(format!("{}, signed by itself", link.facts.subject))
        .remedy("Browsers show a warning for pages, and refuse WebSockets without one. Get one from Let's Encrypt, or from a CA of your own that your clients trust (and name that in trust = \"ca.pem\").")
}

fn missing_intermediate(subject: &Subject<'_>, link: &Link, url: &str) -> Finding {
    Finding::new(Code::MissingIntermediate, format!("`{}` lacks its intermediate certificate", subject.label))
        .certificate(subject.label)
        .expected(format!("the certificate of {} after it", link.facts.issuer))
        .found("only one certificate; some browsers fetch the other, but programs and phones fail")
        .remedy(append(subject, url))
}

/// The URL comes from the certificate: it becomes part of a command only if curl cannot misinterpret it.
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

/// The CA that a client must know to continue from here.
fn ends_at(last: &Link) -> &str {
    if last.facts.self_signed { &last.facts.subject } else { &last.facts.issuer }
}

fn unknown_ca(subject: &Subject<'_>, last: &Link) -> Finding {
    let issuer = ends_at(last);
    let remedy = if issuer.contains(STAGING_MARK) {
        "It is for trials. Request one of the CA's production directory: for a certificate of [acme], remove `directory` there, apply the file, and type `sudo sanedge renew --now`; with certbot, request it again without --staging, --test-cert or --dry-run."
    } else {
        "If this is your own CA, name its root at the top of sanedge.toml, trust = \"ca.pem\", and install it on every client."
    };
    Finding::new(Code::UnknownCa, format!("clients do not trust the CA of `{}` by default", subject.label))
        .certificate(subject.label)
        .expected("a chain that ends at a root of Mozilla's list, or of the file in `trust`")
        .found(format!("it ends at {issuer}"))
        .remedy(remedy)
}

pub(super) fn root_included(subject: &Subject<'_>, last: &Link) -> Finding {
    Finding::new(Code::RootIncluded, format!("the root in `{}` is left out", subject.label))
        .certificate(subject.label)
        .expected("the chain without its root: clients use their own copy")
        .found(format!("the self-signed {}", last.facts.subject))
        .remedy(
            "Nothing to do: the bundle is made without it. To silence this note, remove it from the file.",
        )
}
