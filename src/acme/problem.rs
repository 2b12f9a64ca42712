//! What a failure means and what to do: the CA's problem documents, and failures on this machine.

use instant_acme::{Error, Problem};

use super::challenge::Method;
use super::dns::DnsError;
use super::fetch::{Seen, Trouble};
use super::policy::{Class, Told};
use super::state::StateError;
use super::unserved::Unserved;
use crate::bundle::acme::Plan;
use crate::bundle::file::word;
use crate::doctor::explain::Code;
use crate::excerpt::{kept_text, netted, visible};

/// Longest part of a CA's text that is shown.
const SHOWN_CHARS_MAX: usize = 400;
const URN: &str = "urn:ietf:params:acme:error:";

/// Why there is no certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) code: Code,
    pub(super) found: String,
    pub(super) remedy: String,
    pub(super) class: Class,
    /// The CA accepts no other attempt before then.
    pub(super) retry_after: Option<i64>,
    /// The wait, or the failure, concerns the whole account.
    pub(super) account_wide: bool,
    /// The stored order can no longer be used.
    pub(super) order_is_over: bool,
}

/// The commands of a remedy within its sentences: a log and a line of `renew` have no others.
fn on_one_line(fix: &str) -> String {
    let mut out = String::new();
    let mut was_command = false;
    for line in fix.lines() {
        let is_command = line.starts_with("  ");
        out.push_str(match (out.is_empty(), was_command, is_command) {
            (true, ..) => "",
            (false, true, true) => " && ",
            (false, true, false) => ". ",
            (false, false, _) => " ",
        });
        out.push_str(line.trim_start());
        was_command = is_command;
    }
    out
}

impl Failure {
    pub(super) fn told(&self, at: i64) -> Told {
        Told {
            code: self.code.as_str().to_owned(),
            found: self.found.clone(),
            means: self.means().to_owned(),
            remedy: self.remedy.clone(),
            at,
        }
    }

    /// What it means, from the doctor's table.
    pub(super) fn means(&self) -> &'static str {
        self.code.explanation().why
    }

    fn new(code: Code, found: String, class: Class) -> Self {
        Self {
            code,
            found,
            remedy: on_one_line(code.explanation().fix),
            class,
            retry_after: None,
            account_wide: is_of_account(code),
            order_is_over: false,
        }
    }

    /// A failure of the state folder.
    pub(super) fn of_state(error: &StateError) -> Self {
        let known = if matches!(error, StateError::Full(_)) { Code::AcmeDiskFull } else { Code::AcmeState };
        Self::new(known, error.to_string(), Class::Refused)
    }

    /// Of the local CA.
    pub(super) fn of_local(code: Code, found: String) -> Self {
        Self::new(code, found, Class::Refused)
    }

    /// A key for external account binding that cannot be read.
    pub(super) fn binding_key(file: &str, found: String) -> Self {
        let failure = Self::new(Code::AcmeEabKey, found, Class::Refused);
        Self { remedy: failure.remedy.replace("{eab}", file), ..failure }
    }

    /// Whether a fallback CA may issue: the failure is this CA's, and not one of the names.
    pub(super) fn is_the_cas_fault(&self) -> bool {
        let is_ours = matches!(
            self.code,
            Code::AcmeSlow
                | Code::AcmeClock
                | Code::AcmeDnsFailed
                | Code::AcmeDnsInvisible
                | Code::AcmeDnsServfail
                | Code::AcmeDnssec
        );
        self.class == Class::Ca && !is_ours
    }

    /// A key or a request that could not be created.
    pub(super) fn of_making(what: &str) -> Self {
        Self::new(Code::AcmeRequest, what.to_owned(), Class::Refused)
    }

    /// The order of `names` does not become ready in time.
    pub(super) fn slow(found: String) -> Self {
        Self::new(Code::AcmeSlow, found, Class::Ca)
    }

    /// A failure of a TXT record.
    pub(super) fn of_dns(error: &DnsError) -> Self {
        let (known, class) = match error {
            DnsError::Credentials(_) => (Code::AcmeDnsCredentials, Class::Refused),
            DnsError::Refused(_) => (Code::AcmeDnsRefused, Class::Refused),
            DnsError::NoZone(_) => (Code::AcmeDnsZone, Class::Refused),
            DnsError::OneValue(_) => (Code::AcmeDnsOneValue, Class::Refused),
            DnsError::ServFail(_) => (Code::AcmeDnsServfail, Class::Ca),
            DnsError::Bogus(_) => (Code::AcmeDnssec, Class::Ca),
            DnsError::Failed(_) => (Code::AcmeDnsFailed, Class::Ca),
            DnsError::Invisible(_) => (Code::AcmeDnsInvisible, Class::Ca),
        };
        // It contains names and URLs from the file of credentials, and text of a provider or a program.
        Self::new(known, kept_text(&error.to_string()), class)
    }

    /// The CA offers no challenge that can be answered here.
    pub(super) fn no_challenge(name: &str, offered: &[String]) -> Self {
        let found = format!("for {} the CA offers {}", shown(name), shown(&offered.join(", ")));
        Self { order_is_over: true, ..Self::new(Code::AcmeNoChallenge, found, Class::Refused) }
    }

    /// A profile that the CA does not offer.
    pub(super) fn no_profile(name: &str, offered: &str) -> Self {
        Self::new(
            Code::AcmeProfile,
            format!("profile {}; the CA offers {}", shown(name), shown(offered)),
            Class::Refused,
        )
    }

    /// A validation of `name` that failed.
    pub(super) fn of_validation(name: &str, problem: Option<&Problem>) -> Self {
        let short = problem.map(kind).unwrap_or_default();
        let detail = problem.map(|problem| shown(&said(problem))).unwrap_or_default();
        let says = |words: &str| detail.to_ascii_lowercase().contains(words);
        let code = match short {
            _ if says("dnssec") => Code::AcmeDnssec,
            "dns" if says("secondary validation") => Code::AcmeSecondaryDns,
            _ if says("secondary validation") => Code::AcmeSecondary,
            _ if says("servfail") || says("query timed out") => Code::AcmeDnsServfail,
            "dns" => Code::AcmeDns,
            "connection" => Code::AcmeConnection,
            "caa" => Code::AcmeCaa,
            "tls" => Code::AcmeTls,
            "rejectedIdentifier" => Code::AcmeRejectedName,
            _ => Code::AcmeWrongAnswer,
        };
        let found = if detail.is_empty() { "no reason was given".to_owned() } else { detail };
        let failure = Self::new(code, format!("{}: {found}", shown(name)), Class::Validation);
        Self { order_is_over: true, ..failure }
    }

    /// A failed request to the CA about `names`. `seen` has what the answer said besides its body.
    pub(super) fn of_call(error: &Error, names: &[String], seen: &Seen) -> Self {
        match error {
            Error::Api(problem) => Self::of_problem(problem, names, seen),
            Error::Other(inner) => match inner.downcast_ref::<Trouble>() {
                Some(trouble) => {
                    let code = trouble.code();
                    Self {
                        retry_after: seen.retry_after,
                        // Without a problem document it is unknown whether it concerns these names only.
                        account_wide: is_of_account(code) || code == Code::AcmeRateLimited,
                        ..Self::new(code, shown(&trouble.to_string()), Class::Ca)
                    }
                }
                None => Self::new(Code::AcmeCaAnswer, shown(&inner.to_string()), Class::Ca),
            },
            other => Self::new(Code::AcmeCaAnswer, shown(&other.to_string()), Class::Ca),
        }
    }

    fn of_problem(problem: &Problem, names: &[String], seen: &Seen) -> Self {
        // The type of a compound problem is that of its first part (RFC 8555 §6.7.1).
        let inner = problem.subproblems.first().and_then(|sub| sub.r#type.as_deref());
        let short = match kind(problem) {
            "compound" | "" => inner.map(|text| text.trim_start_matches(URN)).unwrap_or_default(),
            short => short,
        };
        let mut found = shown(&said(problem));
        let code = match short {
            "rateLimited" => Code::AcmeRateLimited,
            "rejectedIdentifier" => Code::AcmeRejectedName,
            "unsupportedIdentifier" => Code::AcmeUnsupportedName,
            "caa" => Code::AcmeCaa,
            "dns" => Code::AcmeDns,
            "userActionRequired" => Code::AcmeUserAction,
            "externalAccountRequired" => Code::AcmeExternalAccount,
            "accountDoesNotExist" => Code::AcmeAccountGone,
            "invalidContact" | "unsupportedContact" => Code::AcmeContact,
            "invalidProfile" => Code::AcmeProfile,
            "badCSR" | "badPublicKey" => Code::AcmeBadKey,
            "serverInternal" => Code::AcmeCaFault,
            "unauthorized" => Code::AcmeUnauthorized,
            _ if problem.status.is_some_and(|status| status >= 500) => Code::AcmeCaFault,
            _ if problem.status == Some(429) => Code::AcmeRateLimited,
            _ => Code::AcmeRefused,
        };
        let class = if code == Code::AcmeCaFault { Class::Ca } else { Class::Refused };
        if let Some(url) = seen.instance.as_ref().filter(|_| code == Code::AcmeUserAction) {
            found = format!("{found} See {url}");
        }
        let mut failure = Self::new(code, found, class);
        failure.retry_after = seen.retry_after;
        if code == Code::AcmeRateLimited {
            failure.account_wide = !is_about(problem, names);
        }
        failure
    }

    /// The edge on this machine does not answer the challenge.
    pub(super) fn unserved(unserved: Unserved, plan: &Plan) -> Self {
        let failure = Self::new(unserved.code, unserved.found, Class::Refused);
        Self { remedy: failure.remedy.replace("{place}", &word(&plan.challenges)), ..failure }
    }

    /// The failure with the code that applies to the method of validation.
    #[must_use]
    pub(super) fn with(self, method: Method) -> Self {
        let code = match (method, self.code) {
            _ if self.class != Class::Validation => self.code,
            (Method::Dns01, _) if self.is_of_what_was_found() => Code::AcmeDnsNotFound,
            (Method::Dns01, Code::AcmeSecondary) => Code::AcmeSecondaryDns,
            (Method::TlsAlpn01, Code::AcmeConnection) => Code::AcmeConnectionTls,
            (Method::TlsAlpn01, Code::AcmeWrongAnswer) => Code::AcmeWrongAnswerTls,
            (Method::TlsAlpn01, Code::AcmeSecondary) => Code::AcmeSecondaryTls,
            (Method::TlsAlpn01, Code::AcmeTls) => Code::AcmeTlsAlpn,
            (_, code) => code,
        };
        let remedy = if code == self.code { self.remedy } else { on_one_line(code.explanation().fix) };
        Self { code, remedy, ..self }
    }

    /// Whether the CA did not find a correct answer, rather than refusing the name.
    fn is_of_what_was_found(&self) -> bool {
        matches!(self.code, Code::AcmeDns | Code::AcmeConnection | Code::AcmeWrongAnswer | Code::AcmeTls)
    }

    /// The name's DNSSEC signatures do not verify.
    pub(super) fn bogus(name: &str) -> Self {
        Self::new(
            Code::AcmeDnssec,
            format!("{name}: the resolver refuses its DNSSEC signatures"),
            Class::Refused,
        )
    }

    /// No resolver answers.
    pub(super) fn no_resolver(name: &str, error: &str) -> Self {
        Self::new(Code::AcmeNoResolver, format!("{name}: {}", shown(error)), Class::Refused)
    }

    /// The name does not resolve.
    pub(super) fn waiting_for_dns(name: &str) -> Self {
        Self::new(Code::AcmeWaitingForDns, format!("no address is known for {name}"), Class::Refused)
    }
}

/// Whether a problem reports the result of a validation (RFC 8555 §6.7).
pub(super) trait OfValidation {
    fn is_of_validation(&self) -> bool;
}

impl OfValidation for Problem {
    fn is_of_validation(&self) -> bool {
        matches!(kind(self), "connection" | "dns" | "tls" | "incorrectResponse" | "unauthorized" | "caa")
    }
}

impl Trouble {
    fn code(&self) -> Code {
        match self {
            Self::Nonces => Code::AcmeBadNonce,
            Self::Untrusted(..) => Code::AcmeCaUntrusted,
            Self::Time(..) => Code::AcmeClock,
            Self::NotAcme(_, 429, _) => Code::AcmeRateLimited,
            Self::Unresolved(_) | Self::Unreachable(..) => Code::AcmeCaUnreachable,
            Self::NotAcme(_, 500.., _) => Code::AcmeCaFault,
            Self::Url(_) | Self::TooLarge(_) | Self::NotAcme(..) | Self::Problem(_) => Code::AcmeCaAnswer,
            Self::Late(..) | Self::Broken(..) => Code::AcmeCaFault,
        }
    }
}

fn kind(problem: &Problem) -> &str {
    problem.r#type.as_deref().unwrap_or_default().trim_start_matches(URN)
}

/// The CA's text, including the part for each name.
fn said(problem: &Problem) -> String {
    let mut text = problem.detail.clone().unwrap_or_else(|| kind(problem).to_owned());
    for sub in &problem.subproblems {
        let name =
            sub.identifier.as_ref().map(|of| format!("{}: ", of.authorized(false))).unwrap_or_default();
        let detail = sub.detail.as_deref().or(sub.r#type.as_deref()).unwrap_or_default();
        text += &format!("; {name}{detail}");
    }
    text
}

/// Whether a rate limit is about these names and not about the account.
fn is_about(problem: &Problem, names: &[String]) -> bool {
    let text = said(problem);
    let parent = |name: &String| {
        name.split_once('.').is_some_and(|(_, rest)| rest.contains('.') && text.contains(rest))
    };
    text.contains("exact set of") || names.iter().any(|name| text.contains(name.as_str()) || parent(name))
}

/// The beginning of a CA's text, without what may be a key.
fn shown(text: &str) -> String {
    visible(&netted(&text.chars().take(SHOWN_CHARS_MAX).collect::<String>(), &[]))
}

/// Whether a failure concerns the account and not the names.
fn is_of_account(code: Code) -> bool {
    use Code::*;
    matches!(
        code,
        AcmeUserAction
            | AcmeExternalAccount
            | AcmeEabKey
            | AcmeAccountGone
            | AcmeContact
            | AcmeUnauthorized
            | AcmeCaUntrusted
            | AcmeClock
            | AcmeCaUnreachable
            | AcmeCaAnswer
            | AcmeBadNonce
            | AcmeState
            | AcmeDiskFull
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::explain::Group;

    fn problem(json: serde_json::Value) -> Error {
        Error::Api(serde_json::from_value(json).unwrap())
    }

    fn of(json: serde_json::Value) -> Failure {
        let seen =
            Seen { retry_after: Some(77), instance: Some("https://ca/terms".to_owned()), ..Seen::default() };
        Failure::of_call(&problem(json), &["a.recre.store".to_owned()], &seen)
    }

    #[test]
    fn a_remedy_is_one_line_and_its_commands_can_be_copied() {
        assert_eq!(on_one_line("Look at the log."), "Look at the log.");
        assert_eq!(
            on_one_line("Type:\n  a b\n  c\nThen look.\nAgain:\n  d"),
            "Type: a b && c. Then look. Again: d"
        );
        // Only the doctor, which fills the words, reports these.
        let of_doctor = [Code::AcmeStaging, Code::AcmeNotRunning];
        let is_of_renew = |code: &&Code| code.group() == Group::Renewal && !of_doctor.contains(code);
        for code in Code::ALL.iter().filter(is_of_renew) {
            let remedy = Failure::new(*code, String::new(), Class::Refused).remedy;
            assert!(!remedy.contains('\n') && !remedy.contains("  "), "{remedy}");
            // `binding_key` fills `{eab}`, `unserved` `{place}`.
            let words = ["{host}", "{file}", "{acme}", "{apply}", "{http_port}"];
            let left: Vec<_> = words.iter().filter(|word| remedy.contains(**word)).collect();
            assert!(left.is_empty(), "{}: {left:?} in {remedy}", code.as_str());
        }
    }

    /// Let's Encrypt's texts, as its users report them.
    #[test]
    fn a_rate_limit_holds_for_the_names_or_for_the_account() {
        let limited = |detail: &str| {
            of(
                serde_json::json!({ "type": "urn:ietf:params:acme:error:rateLimited", "status": 429, "detail": detail }),
            )
        };
        for (detail, account_wide) in [
            (
                "too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s",
                false,
            ),
            ("too many certificates (50) already issued for \"recre.store\" in the last 168h0m0s", false),
            ("too many failed authorizations (5) for \"a.recre.store\" in the last 1h0m0s", false),
            ("too many new orders (300) from this account in the last 3h0m0s", true),
            ("too many new registrations (10) from this IP address in the last 3h0m0s", true),
            ("Service busy; retry later.", true),
        ] {
            let failure = limited(detail);
            assert_eq!(
                (failure.code.as_str(), failure.account_wide),
                ("acme-rate-limited", account_wide),
                "{detail}"
            );
            assert_eq!((failure.retry_after, failure.class), (Some(77), Class::Refused));
        }
    }

    #[test]
    fn a_429_is_a_rate_limit_in_whatever_form_it_comes() {
        let failure = of(serde_json::json!({ "type": "about:blank", "status": 429, "detail": "slow down" }));
        assert_eq!((failure.code.as_str(), failure.account_wide), ("acme-rate-limited", true));
        let seen = Seen { retry_after: Some(77), ..Seen::default() };
        let call = |trouble: Trouble| Failure::of_call(&Error::Other(Box::new(trouble)), &[], &seen);
        let failure = call(Trouble::NotAcme("ca".to_owned(), 429, "<html>".to_owned()));
        assert_eq!(
            (failure.code.as_str(), failure.account_wide, failure.retry_after),
            ("acme-rate-limited", true, Some(77))
        );
        assert_eq!(
            call(Trouble::NotAcme("ca".to_owned(), 403, String::new())).code.as_str(),
            "acme-ca-answer"
        );
        assert_eq!(call(Trouble::Time("ca".to_owned(), "1999".to_owned())).code.as_str(), "acme-clock");
    }

    #[test]
    fn a_full_disk_is_no_fault_of_the_folder() {
        let full = Failure::of_state(&StateError::Full("state".to_owned()));
        let other = Failure::of_state(&StateError::Busy("state".to_owned()));
        assert_eq!((full.code.as_str(), other.code.as_str()), ("acme-disk-full", "acme-state"));
    }

    #[test]
    fn subproblems_are_reported_per_name() {
        let failure = of(serde_json::json!({
        "type": "urn:ietf:params:acme:error:compound", "detail": "Errors", "subproblems": [
            { "type": "urn:ietf:params:acme:error:rejectedIdentifier", "detail": "policy",
              "identifier": { "type": "dns", "value": "a.recre.store" } },
            { "type": "urn:ietf:params:acme:error:dns", "detail": "NXDOMAIN",
              "identifier": { "type": "dns", "value": "b.recre.store" } }
        ]}));
        assert_eq!(failure.code.as_str(), "acme-rejected-name");
        assert_eq!(failure.found, "Errors; a.recre.store: policy; b.recre.store: NXDOMAIN");
    }

    #[test]
    fn each_type_of_problem_has_its_own_code_class_and_remedy() {
        for (kind, code, class) in [
            ("userActionRequired", "acme-user-action", Class::Refused),
            ("externalAccountRequired", "acme-external-account", Class::Refused),
            ("accountDoesNotExist", "acme-account-gone", Class::Refused),
            ("serverInternal", "acme-ca-fault", Class::Ca),
            ("invalidContact", "acme-contact", Class::Refused),
            ("somethingNew", "acme-refused", Class::Refused),
        ] {
            let failure = of(serde_json::json!({ "type": format!("{URN}{kind}"), "detail": "why" }));
            assert_eq!((failure.code.as_str(), failure.class), (code, class), "{kind}");
            assert!(failure.found.starts_with("why") && failure.remedy.ends_with('.'), "{failure:?}");
            assert_eq!(failure.found.contains("https://ca/terms"), kind == "userActionRequired");
        }
    }

    #[test]
    fn a_failed_validation_says_where_the_ca_came_to() {
        let validation = |kind: &str, detail: &str| {
            let problem: Problem = serde_json::from_value(
                serde_json::json!({ "type": format!("{URN}{kind}"), "detail": detail }),
            )
            .unwrap();
            Failure::of_validation("a.b", Some(&problem)).code.as_str()
        };
        for (kind, detail, code) in [
            ("dns", "DNS problem: NXDOMAIN looking up A for a.b", "acme-dns"),
            (
                "connection",
                "192.0.2.1: Fetching http://a.b/: Timeout during connect (likely firewall problem)",
                "acme-connection",
            ),
            (
                "connection",
                "During secondary validation: 192.0.2.1: Fetching http://a.b/: Timeout",
                "acme-secondary",
            ),
            ("unauthorized", "192.0.2.1: Invalid response from http://a.b/: 404", "acme-wrong-answer"),
            ("caa", "CAA record for a.b prevents issuance", "acme-caa"),
            (
                "dns",
                "DNS problem: SERVFAIL looking up CAA for a.b - the domain's nameservers may be malfunctioning",
                "acme-dns-servfail",
            ),
            ("dns", "DNS problem: query timed out looking up A for a.b", "acme-dns-servfail"),
            ("dns", "DNS problem: looking up A for a.b: DNSSEC: DNSKEY Missing", "acme-dnssec"),
            (
                "dns",
                "During secondary validation: DNS problem: query timed out looking up A for a.b",
                "acme-secondary-dns",
            ),
        ] {
            assert_eq!(validation(kind, detail), code, "{detail}");
        }
        let nothing = Failure::of_validation("a.b", None);
        assert!(
            nothing.found.contains("no reason")
                && nothing.order_is_over
                && nothing.class == Class::Validation
        );
    }

    #[test]
    fn what_a_ca_says_shows_no_key_and_keeps_its_words() {
        let key = "MC4CAQAwBQYDK2VwBCIEIOB4yvQh9ZrTkWm3xN8sJ0LpFcUa5dGe7HtXi1RnSbK6";
        let says = |detail: &str| of(serde_json::json!({ "type": "x", "detail": detail })).found;
        assert_eq!(says(&format!("not allowed: {key}!")), "not allowed: [64 characters hidden]");
        let words = "CAA record for a.recre.store prevents issuance; see https://letsencrypt.org/docs/caa/";
        assert_eq!(says(words), words);
        let trouble = Trouble::Unresolved(format!("{key}.lan"));
        let failure = Failure::of_call(&Error::Other(Box::new(trouble)), &[], &Seen::default());
        assert!(!failure.found.contains(&key[..16]), "{}", failure.found);
        assert!(!Failure::no_challenge(key, &[key.to_owned()]).found.contains(&key[..16]));
        assert!(!Failure::no_profile("x", key).found.contains(&key[..16]));
        assert!(!Failure::of_validation(key, None).found.contains(&key[..16]));
    }

    #[test]
    fn what_a_ca_says_cannot_act_on_a_terminal_and_is_bounded() {
        let failure =
            of(serde_json::json!({ "type": "x", "detail": format!("\x1b[2J{}", "a".repeat(9_999)) }));
        assert!(!failure.found.contains('\x1b') && failure.found.chars().count() < 2 * SHOWN_CHARS_MAX);
    }
}
