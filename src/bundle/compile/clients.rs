//! Rules of some client families that the path check here (webpki) does not have. Other clients accept the certificate, so each is a warning
//! that names the clients and the remedy.
//!
//! Pure, and shared by `sanedge bundle` and `sanedge doctor`.

use super::context::day;
use super::facts::Facts;
use super::profile::Profile;
use crate::bundle::finding::{Code, Finding};
use crate::bundle::lifetime::DAY_S;
use crate::excerpt::number;

/// Longest serial number in octets (RFC 5280 §4.1.2.2).
const SERIAL_BYTES_MAX: usize = 20;
/// From 2019-07-01 on Apple's clients hold every server's certificate to this, whatever CA it is of
/// (support.apple.com/103769).
const APPLE_DAYS_MAX: (i64, i64) = (1_561_939_200, 825);
/// Date of issue from which on a public CA's certificate may live this many days (CA/Browser Forum's baseline requirements
/// §6.3.2, ballots 193, SC31 and SC081v3); latest first.
const PUBLIC_DAYS_MAX: [(i64, i64); 5] = [
    (1_868_227_200, 47),  // 2029-03-15
    (1_805_068_800, 100), // 2027-03-15
    (1_773_532_800, 200), // 2026-03-15
    (1_598_918_400, 398), // 2020-09-01
    (1_519_862_400, 825), // 2018-03-01
];

/// A chain as clients see it.
pub(super) struct Served<'a> {
    /// Its name in findings.
    pub(super) label: &'a str,
    /// End-entity first, without a root.
    pub(super) path: Vec<&'a Facts>,
    /// The root above, if its certificate is known.
    pub(super) root: Option<&'a Facts>,
    /// It ends at a root of Mozilla's list, and not at one of `trust`.
    pub(super) public: bool,
    /// The server sends an OCSP response with it (RFC 6066 §8). sanedge does not.
    pub(super) stapled: bool,
}

/// Reports everything that some client family refuses.
pub(super) fn check(served: &Served<'_>) -> Vec<Finding> {
    let Some(end_entity) = served.path.first() else { return Vec::new() };
    let findings = [
        lifetime(served, end_entity),
        must_staple(served, &end_entity.profile),
        timestamps(served, &end_entity.profile),
        serial_numbers(served),
        strictness(served),
    ];
    findings.into_iter().flatten().map(|finding| finding.certificate(served.label)).collect()
}

/// The limit in days for a certificate with this date of issue, and the clients that enforce it.
fn days_max(public: bool, not_before: i64) -> Option<(i64, &'static str)> {
    let limit =
        |rules: &[(i64, i64)]| rules.iter().find(|(from, _)| not_before >= *from).map(|(_, days)| *days);
    if public {
        return Some((limit(&PUBLIC_DAYS_MAX)?, "Chrome, Safari and Apple's clients"));
    }
    Some((limit(&[APPLE_DAYS_MAX])?, "Safari and Apple's clients (iPhone, iPad, Mac)"))
}

fn lifetime(served: &Served<'_>, facts: &Facts) -> Option<Finding> {
    let (days, clients) = days_max(served.public, facts.not_before)?;
    // The difference, as Chrome and Apple count, and not a second more as RFC 5280 does: `-days 825` is fine.
    let length_s = facts.not_after.saturating_sub(facts.not_before);
    if length_s <= days * DAY_S {
        return None;
    }
    let (whose, remedy) = if served.public {
        ("a public CA", "Get a new one from the CA; public CAs no longer issue certificates that are valid for too long. With certbot: \
            `certbot renew --force-renewal`.".to_owned())
    } else {
        (
            "any CA",
            format!(
                "Issue it again for {days} days or less: `-days {days}` with openssl. mkcert stays below that by default."
            ),
        )
    };
    let finding = Finding::new(
        Code::LifetimeTooLong,
        format!("`{}` is valid for too long: {clients} refuse it", served.label),
    )
    .expected(format!(
        "at most {days} days, for a certificate of {whose} that was issued on {}",
        day(facts.not_before)
    ))
    .found(format!(
        "{} days, until {}",
        length_s.div_euclid(DAY_S) + i64::from(length_s % DAY_S > 0),
        day(facts.not_after)
    ))
    .remedy(remedy);
    Some(finding)
}

fn must_staple(served: &Served<'_>, profile: &Profile) -> Option<Finding> {
    let finding = || {
        Finding::new(Code::MustStaple, format!("`{}` requires OCSP stapling: Firefox and GnuTLS refuse it without a stapled response", served.label))
            .expected("no `tlsfeature = status_request` (must-staple, RFC 7633), or a server that sends an OCSP response")
            .found("must-staple, and no OCSP response; sanedge sends none")
            .remedy("Issue it again without must-staple: leave `--must-staple` out (certbot: delete `must_staple = True` from /etc/letsencrypt/renewal/NAME.conf), or `tlsfeature` from openssl's extensions. With certbot, then:\n  certbot renew --force-renewal")
    };
    (profile.must_staple && !served.stapled).then(finding)
}

fn timestamps(served: &Served<'_>, profile: &Profile) -> Option<Finding> {
    let finding = || {
        Finding::new(Code::NoTimestamps, format!("`{}` has no proof of Certificate Transparency: Chrome and Safari refuse it", served.label))
            .expected("signed certificate timestamps (SCT, RFC 6962 §3.3) in a certificate of a public CA")
            .found("none in the certificate; like nearly every server, sanedge does not send them separately")
            .remedy("Get a certificate from a CA that includes them, such as Let's Encrypt. If a CA asks whether to log the \
                certificate, answer yes.")
    };
    (served.public && !profile.has_timestamps).then(finding)
}

/// What is wrong with a serial number, and which clients refuse it.
fn serial_trouble(serial: &[u8]) -> Option<(&'static str, &'static str)> {
    match serial {
        [first, ..] if first & 0x80 != 0 => Some(("negative", "programs in Go refuse it (1.23 and later)")),
        _ if serial.iter().all(|byte| *byte == 0) => {
            Some(("zero", "RFC 5280 forbids it, and strict validators refuse it"))
        }
        _ if serial.len() > SERIAL_BYTES_MAX => {
            Some(("longer than 20 octets", "GnuTLS refuses it if built with strict X.509 checks"))
        }
        _ => None,
    }
}

fn serial_numbers(served: &Served<'_>) -> Option<Finding> {
    let all = served.path.iter().chain(&served.root);
    let (facts, (what, clients)) =
        all.into_iter().find_map(|facts| Some((facts, serial_trouble(&facts.profile.serial)?)))?;
    let message = format!("a serial number in the chain of `{}` is {what}: {clients}", served.label);
    let finding = Finding::new(Code::SerialNumber, message)
        .expected("a positive number of at most 20 octets (RFC 5280 §4.1.2.2)")
        .found(format!("{} on {}", number(facts.profile.serial.len(), "octet"), facts.subject))
        .remedy("Issue that certificate again with a usual serial number; openssl creates one without -set_serial, or with \
            -CAcreateserial.");
    Some(finding)
}

/// What OpenSSL's X509_V_FLAG_X509_STRICT refuses (crypto/x509/x509_vfy.c, check_extensions), and Python 3.13 and later set by default.
fn strictness(served: &Served<'_>) -> Option<Finding> {
    // A lone self-signed certificate is exempt there: RFC 6818 §2.
    let alone = served.path.len() == 1 && served.root.is_none();
    if alone && served.path.first().is_some_and(|facts| facts.self_signed) {
        return None;
    }
    let below = served.path.iter().map(|facts| (*facts, false));
    let chain = below.chain(served.root.map(|facts| (facts, true)));
    let (mut found, mut lines) = (Vec::new(), Vec::new());
    for (facts, is_root) in chain {
        let troubles = strict_troubles(&facts.profile, is_root);
        if !troubles.is_empty() {
            let texts: Vec<&str> = troubles.iter().map(|(text, _)| *text).collect();
            found.push(format!("{}: {}", facts.subject, texts.join(", ")));
            lines.extend(troubles.into_iter().map(|(_, line)| line).filter(|line| !line.is_empty()));
        }
    }
    lines.sort_unstable();
    lines.dedup();
    let extensions = lines.iter().map(|line| format!("\n  {line}")).collect::<String>();
    let finding = || {
        Finding::new(Code::StrictClients, format!("Python 3.13 and other strict clients of OpenSSL refuse the chain in `{}`", served.label))
            .expected("what RFC 5280 §4.2.1 requires of a CA, and OpenSSL's X509_STRICT checks")
            .found(found.join("; "))
            .remedy(format!("Issue these certificates again, a CA first. For openssl the lines of the extensions section are:{extensions}"))
    };
    (!found.is_empty()).then(finding)
}

/// What strict clients refuse in one certificate, each with the line of openssl's configuration that makes it right.
fn strict_troubles(profile: &Profile, is_root: bool) -> Vec<(&'static str, &'static str)> {
    const CA: &str = "basicConstraints = critical,CA:TRUE";
    const USAGE: &str = "keyUsage = critical,keyCertSign,cRLSign";
    const LEAF_USAGE: &str = "keyUsage = critical,digitalSignature";
    const SUBJECT_KEY: &str = "subjectKeyIdentifier = hash";
    const AUTHORITY_KEY: &str = "authorityKeyIdentifier = keyid";
    let usage = profile.usage;
    let signs = usage.is_none_or(|usage| usage.signs_certificates);
    let lists = usage.is_some_and(|usage| usage.signs_lists);
    let has_key =
        |key: &Option<super::profile::KeyIdentifier>| key.as_ref().is_some_and(|key| key.key.is_some());
    let critical = |key: &Option<super::profile::KeyIdentifier>| key.as_ref().is_some_and(|key| key.critical);
    let empty = profile.subject_is_empty;
    let all = [
        (
            profile.path_length.is_some() && !profile.is_ca,
            "a path length without CA:TRUE",
            "basicConstraints = critical,CA:FALSE",
        ),
        (
            profile.path_length.is_some() && profile.is_ca && !signs,
            "a path length without keyCertSign",
            USAGE,
        ),
        (
            profile.is_ca && profile.constraints_critical == Some(false),
            "basicConstraints is not critical",
            CA,
        ),
        (profile.is_ca && usage.is_none(), "no keyUsage", USAGE),
        (!profile.is_ca && usage.is_some() && signs, "keyCertSign without CA:TRUE", LEAF_USAGE),
        (profile.issuer_is_empty, "an empty issuer", ""),
        (empty && (profile.is_ca || lists || profile.names_critical.is_none()), "an empty subject", ""),
        (
            empty && profile.names_critical == Some(false),
            "an empty subject and a subjectAltName that is not critical",
            "subjectAltName = critical,…",
        ),
        (profile.names_are_empty, "an empty subjectAltName", "subjectAltName = DNS:…"),
        (!profile.algorithms_agree, "two different signature algorithms", ""),
        (critical(&profile.authority_key), "a critical authorityKeyIdentifier", AUTHORITY_KEY),
        (critical(&profile.subject_key), "a critical subjectKeyIdentifier", SUBJECT_KEY),
        (
            !is_root && !has_key(&profile.authority_key),
            "no authorityKeyIdentifier with a key identifier",
            AUTHORITY_KEY,
        ),
        (profile.is_ca && !has_key(&profile.subject_key), "no subjectKeyIdentifier", SUBJECT_KEY),
    ];
    all.into_iter().filter(|(found, _, _)| *found).map(|(_, text, line)| (text, line)).collect()
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::CertificateDer;

    use super::*;

    /// Of a server, in order in every way, and as lacking as `change` makes it.
    fn facts(not_before: i64, days: i64, change: impl FnOnce(&mut Facts)) -> Facts {
        let mut params = rcgen::CertificateParams::new(vec!["recre.store".to_owned()]).unwrap();
        params.use_authority_key_identifier_extension = true;
        params.is_ca = rcgen::IsCa::ExplicitNoCa;
        let key = rcgen::KeyPair::generate().unwrap();
        let ca = rcgen::Issuer::new(
            rcgen::CertificateParams::new(Vec::new()).unwrap(),
            rcgen::KeyPair::generate().unwrap(),
        );
        let der: CertificateDer<'static> = params.signed_by(&key, &ca).unwrap().der().clone();
        let mut facts = Facts::of(&der).unwrap();
        (facts.not_before, facts.not_after) = (not_before, not_before + days * DAY_S);
        facts.profile.has_timestamps = true;
        change(&mut facts);
        facts
    }

    fn codes(facts: &Facts, public: bool, stapled: bool) -> Vec<Code> {
        let served = Served { label: "cert.pem", path: vec![facts], root: None, public, stapled };
        check(&served).into_iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn public_certificates_are_held_to_the_limit_of_their_date_of_issue() {
        // A second before each change, and at it.
        for (from, before, after) in [
            (1_598_918_400, 825, 398),
            (1_773_532_800, 398, 200),
            (1_805_068_800, 200, 100),
            (1_868_227_200, 100, 47),
        ] {
            for (not_before, days) in [(from - 1, before), (from, after)] {
                let found = |days| codes(&facts(not_before, days, |_| {}), true, false);
                assert_eq!(found(days), [], "{not_before} {days}");
                assert_eq!(found(days + 1), [Code::LifetimeTooLong], "{not_before} {days}");
            }
        }
        let a_second_more = facts(1_868_227_200, 47, |facts| facts.not_after += 1);
        assert_eq!(codes(&a_second_more, true, false), [Code::LifetimeTooLong]);
    }

    #[test]
    fn private_ones_are_held_to_apples_limit_from_july_2019_on() {
        let found = |not_before, days| codes(&facts(not_before, days, |_| {}), false, false);
        assert_eq!(found(1_561_939_200, 825), []);
        assert_eq!(found(1_561_939_200, 826), [Code::LifetimeTooLong]);
        assert_eq!(found(1_561_939_199, 36_500), []);
        assert_eq!(found(1_900_000_000, 825), [], "later limits are for public CAs");
    }

    #[test]
    fn stapling_and_timestamps_are_asked_for_where_clients_ask() {
        let staple = facts(1_900_000_000, 40, |facts| facts.profile.must_staple = true);
        assert_eq!(codes(&staple, false, false), [Code::MustStaple]);
        assert_eq!(codes(&staple, false, true), []);
        let unlogged = facts(1_900_000_000, 40, |facts| facts.profile.has_timestamps = false);
        assert_eq!(codes(&unlogged, true, false), [Code::NoTimestamps]);
        assert_eq!(codes(&unlogged, false, false), [], "a CA of one's own logs nowhere");
    }

    #[test]
    fn serial_numbers_are_positive_and_have_at_most_20_octets() {
        let found = |serial: &[u8]| {
            codes(&facts(1_900_000_000, 40, |f| f.profile.serial = serial.to_vec()), false, false)
        };
        for good in [&[1][..], &[0x7f], &[0, 0x80], &[0x7f; 20]] {
            assert_eq!(found(good), [], "{good:02x?}");
        }
        for bad in [&[0xff][..], &[0x80; 20], &[0], &[], &[0x7f; 21]] {
            assert_eq!(found(bad), [Code::SerialNumber], "{bad:02x?}");
        }
    }

    #[test]
    fn names_the_clients_and_the_remedy() {
        let facts = facts(1_900_000_000, 3650, |facts| {
            facts.profile.must_staple = true;
            facts.profile.has_timestamps = false;
            facts.profile.serial = vec![0xfb];
            facts.profile.authority_key = None;
        });
        let served =
            Served { label: "cert.pem", path: vec![&facts], root: None, public: true, stapled: false };
        let findings = check(&served);
        let clients = ["Chrome", "Firefox and GnuTLS", "Chrome and Safari", "Go", "Python 3.13"];
        assert_eq!(findings.len(), clients.len());
        for (finding, clients) in findings.iter().zip(clients) {
            assert!(finding.message.contains(clients), "{finding:?}");
            assert!(!finding.remedy.is_empty() && !finding.found.is_empty() && !finding.expected.is_empty());
        }
    }
}
