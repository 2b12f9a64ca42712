//! What a failure means and what to do about it: the CA's problem documents, and our own.

use instant_acme::{Error, Problem};

use super::challenge::Method;
use super::dns::DnsError;
use super::fetch::{Seen, Trouble};
use super::policy::{Class, Told};
use super::state::StateError;
use crate::bundle::acme::{Challenge, Plan};
use crate::bundle::file::word;
use crate::excerpt::{kept_text, netted, visible};

/// Longest text of the CA that is shown.
const SHOWN_CHARS_MAX: usize = 400;
const URN: &str = "urn:ietf:params:acme:error:";

/// Why there is no certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) code: &'static str,
    pub(super) found: String,
    pub(super) means: &'static str,
    pub(super) remedy: String,
    pub(super) class: Class,
    /// The CA wants no other attempt before then.
    pub(super) retry_after: Option<i64>,
    /// That holds for the whole account, or the failure is its own.
    pub(super) account_wide: bool,
    /// The stored order is of no more use.
    pub(super) order_is_over: bool,
}

impl Failure {
    pub(super) fn told(&self, at: i64) -> Told {
        Told {
            code: self.code.to_owned(),
            found: self.found.clone(),
            means: self.means.to_owned(),
            remedy: self.remedy.clone(),
            at,
        }
    }

    fn new(known: &Known, found: String, class: Class) -> Self {
        Self {
            code: known.code,
            found,
            means: known.means,
            remedy: known.remedy.to_owned(),
            class,
            retry_after: None,
            account_wide: known.account_wide,
            order_is_over: false,
        }
    }

    /// Of the state folder.
    pub(super) fn of_state(error: &StateError) -> Self {
        let known = if matches!(error, StateError::Full(_)) { &DISK_FULL } else { &STATE };
        Self::new(known, error.to_string(), Class::Refused)
    }

    /// A key for external account binding that cannot be read.
    pub(super) fn binding_key(file: &str, found: String) -> Self {
        let failure = Self::new(&BINDING_KEY, found, Class::Refused);
        Self { remedy: failure.remedy.replace("{file}", file), ..failure }
    }

    /// Whether another CA may issue where this one does not: this one is at fault, and nothing is wrong with the names.
    pub(super) fn is_the_cas_fault(&self) -> bool {
        self.class == Class::Ca && ![SLOW.code, CLOCK.code].contains(&self.code)
    }

    /// A key or a request that could not be made.
    pub(super) fn of_making(what: &str) -> Self {
        Self::new(&MAKING, what.to_owned(), Class::Refused)
    }

    /// The order of `names` does not become ready in time.
    pub(super) fn slow(found: String) -> Self {
        Self::new(&SLOW, found, Class::Ca)
    }

    /// Of a TXT record.
    pub(super) fn of_dns(error: &DnsError) -> Self {
        let (known, class) = match error {
            DnsError::Credentials(_) => (&DNS_CREDENTIALS, Class::Refused),
            DnsError::Refused(_) => (&DNS_REFUSED, Class::Refused),
            DnsError::NoZone(_) => (&DNS_ZONE, Class::Refused),
            DnsError::OneValue(_) => (&DNS_ONE_VALUE, Class::Refused),
            DnsError::Failed(_) => (&DNS_FAILED, Class::Ca),
            DnsError::Invisible(_) => (&DNS_INVISIBLE, Class::Ca),
        };
        // Names and URLs of the file of credentials stand in it, and what a provider or a program says.
        Self::new(known, kept_text(&error.to_string()), class)
    }

    /// The CA offers no challenge that we can do.
    pub(super) fn no_challenge(name: &str, offered: &[String]) -> Self {
        let found = format!("for {} the CA offers {}", shown(name), shown(&offered.join(", ")));
        Self { order_is_over: true, ..Self::new(&NO_CHALLENGE, found, Class::Refused) }
    }

    /// A profile that the CA does not offer.
    pub(super) fn no_profile(name: &str, offered: &str) -> Self {
        Self::new(
            &PROFILE,
            format!("profile {}; the CA offers {}", shown(name), shown(offered)),
            Class::Refused,
        )
    }

    /// A validation of `name` that failed.
    pub(super) fn of_validation(name: &str, problem: Option<&Problem>) -> Self {
        let short = problem.map(kind).unwrap_or_default();
        let detail = problem.map(|problem| shown(&said(problem))).unwrap_or_default();
        let secondary = detail.to_ascii_lowercase().contains("secondary validation");
        let known = match short {
            _ if secondary => &SECONDARY,
            "dns" => &DNS,
            "connection" => &CONNECTION,
            "caa" => &CAA,
            "tls" => &TLS,
            "rejectedIdentifier" => &REJECTED,
            _ => &WRONG_ANSWER,
        };
        let found = if detail.is_empty() { "no reason was given".to_owned() } else { detail };
        let failure = Self::new(known, format!("{}: {found}", shown(name)), Class::Validation);
        Self { order_is_over: true, ..failure }
    }

    /// Of a call to the CA about `names`. `seen` has what the answer said beside its body.
    pub(super) fn of_call(error: &Error, names: &[String], seen: &Seen) -> Self {
        match error {
            Error::Api(problem) => Self::of_problem(problem, names, seen),
            Error::Other(inner) => match inner.downcast_ref::<Trouble>() {
                Some(trouble) => {
                    let known = if *trouble == Trouble::Nonces { &NONCES } else { trouble.known() };
                    Self {
                        retry_after: seen.retry_after,
                        // Without a problem document nothing says that it is about these names.
                        account_wide: known.account_wide || known.code == RATE_LIMITED.code,
                        ..Self::new(known, shown(&trouble.to_string()), Class::Ca)
                    }
                }
                None => Self::new(&ANSWER, shown(&inner.to_string()), Class::Ca),
            },
            other => Self::new(&ANSWER, shown(&other.to_string()), Class::Ca),
        }
    }

    fn of_problem(problem: &Problem, names: &[String], seen: &Seen) -> Self {
        // A compound problem is as its first part says (RFC 8555 §6.7.1).
        let inner = problem.subproblems.first().and_then(|sub| sub.r#type.as_deref());
        let short = match kind(problem) {
            "compound" | "" => inner.map(|text| text.trim_start_matches(URN)).unwrap_or_default(),
            short => short,
        };
        let mut found = shown(&said(problem));
        let known = match short {
            "rateLimited" => &RATE_LIMITED,
            "rejectedIdentifier" => &REJECTED,
            "unsupportedIdentifier" => &UNSUPPORTED,
            "caa" => &CAA,
            "dns" => &DNS,
            "userActionRequired" => &USER_ACTION,
            "externalAccountRequired" => &EXTERNAL_ACCOUNT,
            "accountDoesNotExist" => &ACCOUNT_GONE,
            "invalidContact" | "unsupportedContact" => &CONTACT,
            "invalidProfile" => &PROFILE,
            "badCSR" | "badPublicKey" => &BAD_KEY,
            "serverInternal" => &CA_INTERNAL,
            "unauthorized" => &UNAUTHORIZED,
            _ if problem.status.is_some_and(|status| status >= 500) => &CA_INTERNAL,
            _ if problem.status == Some(429) => &RATE_LIMITED,
            _ => &REFUSED,
        };
        let class = if known.code == CA_INTERNAL.code { Class::Ca } else { Class::Refused };
        if let Some(url) = seen.instance.as_ref().filter(|_| known.code == USER_ACTION.code) {
            found = format!("{found} See {url}");
        }
        let mut failure = Self::new(known, found, class);
        failure.retry_after = seen.retry_after;
        if known.code == RATE_LIMITED.code {
            failure.account_wide = !is_about(problem, names);
        }
        failure
    }

    /// No server answers for the challenges on this machine.
    pub(super) fn edge_not_answering(found: String, plan: &Plan) -> Self {
        let over_tls = plan.challenge == Challenge::TlsAlpn01;
        let known = if over_tls { &NOT_ANSWERING_TLS } else { &NOT_ANSWERING };
        let failure = Self::new(known, found, Class::Refused);
        Self { remedy: failure.remedy.replace("{place}", &word(&plan.challenges)), ..failure }
    }

    /// What it means where the CA looked on port 443, or for a record.
    #[must_use]
    pub(super) fn with(self, method: Method) -> Self {
        if method == Method::Dns01 && self.class == Class::Validation && self.is_of_what_was_found() {
            let known = &DNS_NOT_FOUND;
            return Self { code: known.code, means: known.means, remedy: known.remedy.to_owned(), ..self };
        }
        let over_tls = OVER_TLS.iter().find(|known| known.code == self.code && method == Method::TlsAlpn01);
        let is_validation = self.class == Class::Validation;
        match over_tls.filter(|_| is_validation) {
            Some(known) => Self { means: known.means, remedy: known.remedy.to_owned(), ..self },
            None => self,
        }
    }

    /// The CA does not say that it refuses the name or the place, but that it did not find what it looked for.
    fn is_of_what_was_found(&self) -> bool {
        [&DNS, &CONNECTION, &WRONG_ANSWER, &TLS].iter().any(|known| known.code == self.code)
    }

    /// No name can be resolved here.
    pub(super) fn no_resolver(name: &str, error: &str) -> Self {
        Self::new(&NO_RESOLVER, format!("{name}: {}", shown(error)), Class::Refused)
    }

    /// The name does not resolve.
    pub(super) fn waiting_for_dns(name: &str) -> Self {
        Self::new(&WAITING_FOR_DNS, format!("no address is known for {name}"), Class::Refused)
    }
}

/// Whether a problem is what the CA found where it looked for the challenge (RFC 8555 §6.7).
pub(super) trait OfValidation {
    fn is_of_validation(&self) -> bool;
}

impl OfValidation for Problem {
    fn is_of_validation(&self) -> bool {
        matches!(kind(self), "connection" | "dns" | "tls" | "incorrectResponse" | "unauthorized" | "caa")
    }
}

impl Trouble {
    fn known(&self) -> &'static Known {
        match self {
            Self::Untrusted(..) => &CA_UNTRUSTED,
            Self::Time(..) => &CLOCK,
            Self::NotAcme(_, 429, _) => &RATE_LIMITED,
            Self::Unresolved(_) | Self::Unreachable(..) => &CA_UNREACHABLE,
            Self::NotAcme(_, 500.., _) => &CA_INTERNAL,
            Self::Url(_) | Self::TooLarge(_) | Self::NotAcme(..) | Self::Nonces | Self::Problem(_) => &ANSWER,
            Self::Late(..) | Self::Broken(..) => &CA_INTERNAL,
        }
    }
}

fn kind(problem: &Problem) -> &str {
    problem.r#type.as_deref().unwrap_or_default().trim_start_matches(URN)
}

/// The CA's text, each name's own part included.
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

/// Of what a CA says: its beginning, without what may be a key.
fn shown(text: &str) -> String {
    visible(&netted(&text.chars().take(SHOWN_CHARS_MAX).collect::<String>(), &[]))
}

struct Known {
    code: &'static str,
    means: &'static str,
    remedy: &'static str,
    account_wide: bool,
}

const fn known(code: &'static str, means: &'static str, remedy: &'static str) -> Known {
    Known { code, means, remedy, account_wide: false }
}

const fn of_account(code: &'static str, means: &'static str, remedy: &'static str) -> Known {
    Known { code, means, remedy, account_wide: true }
}

static DNS: Known = known(
    "acme-dns",
    "The CA's resolver finds no usable answer for this name.",
    "Check the A and AAAA records of the name at your DNS provider with `dig NAME A` and `dig NAME AAAA`, and that the provider's name servers answer.",
);
static CONNECTION: Known = known(
    "acme-connection",
    "The CA cannot connect to port 80 of the address that DNS gives for this name.",
    "Forward port 80 (TCP) of the router to this board. Remove an AAAA record that is not this board's. Behind carrier-grade NAT (a WAN address in 100.64.0.0/10) no port can be forwarded: use dns-01 (docs/dns-01.md). Where the provider blocks port 80 alone, write `challenge = \"tls-alpn-01\"` in [acme], then run `sanedge bundle`.",
);
static WRONG_ANSWER: Known = known(
    "acme-wrong-answer",
    "Another server than this edge answers the challenge: a router's page, another program on port 80, a CDN, or a wrong A or AAAA record.",
    "Compare the addresses of `dig NAME A` and `dig NAME AAAA` with this network's own, and forward port 80 to the edge.",
);
static SECONDARY: Known = known(
    "acme-secondary",
    "The CA checks from several places in the world, and some of them are refused: a geo-block or a filter lies in between.",
    "Allow port 80 from all countries, in the router and at the provider. The CA publishes no list of its addresses.",
);
/// The same for tls-alpn-01.
static OVER_TLS: [Known; 4] = [
    known(
        "acme-connection",
        "The CA cannot connect to port 443 of the address that DNS gives for this name.",
        "Forward port 443 (TCP) of the router to this board's `https` listener. Remove an AAAA record that is not this board's. Behind carrier-grade NAT (a WAN address in 100.64.0.0/10) no port can be forwarded: use dns-01 (docs/dns-01.md).",
    ),
    known(
        "acme-wrong-answer",
        "Another server than this edge answers the TLS handshake on port 443: a CDN, a router's page, a proxy that ends TLS, or a wrong A or AAAA record.",
        "Compare the addresses of `dig NAME A` and `dig NAME AAAA` with this network's own, and let port 443 reach the edge without another TLS server in between. Behind a CDN use `challenge = \"http-01\"`.",
    ),
    known(
        "acme-secondary",
        "The CA checks from several places in the world, and some of them are refused: a geo-block or a filter lies in between.",
        "Allow port 443 from all countries, in the router and at the provider. The CA publishes no list of its addresses.",
    ),
    known(
        "acme-tls",
        "What answers on port 443 does not finish the TLS handshake of the challenge (ALPN acme-tls/1): another server than this edge, or one in between that does not pass it on.",
        "Forward port 443 to the edge as it is (TCP). A proxy before it must pass TLS through by name. Else use `challenge = \"http-01\"`.",
    ),
];
static CAA: Known = known(
    "acme-caa",
    "A CAA record of the domain forbids this CA from issuing.",
    "Add the CA to the CAA records of the domain (for Let's Encrypt: `0 issue \"letsencrypt.org\"`), or remove them.",
);
static TLS: Known = known(
    "acme-tls",
    "The CA followed a redirect to https and the TLS handshake failed.",
    "Serve the challenge on port 80 without a redirect: forward port 80 to the edge.",
);
static REJECTED: Known = known(
    "acme-rejected-name",
    "The CA does not issue for this name: it is on a blocklist or not a public name.",
    "Use another name, another CA (`[acme] directory`), or a certificate of your own (`[[site]] acme = false` and [[certificate]]).",
);
static UNSUPPORTED: Known = known(
    "acme-unsupported-name",
    "The CA does not issue for names or addresses of this kind.",
    "Use a DNS name, or a CA and a profile that issue for addresses (`[acme] profile = \"shortlived\"`).",
);
static RATE_LIMITED: Known = known(
    "acme-rate-limited",
    "A rate limit of the CA is reached. A request before it ends extends it.",
    "Wait: the next run after that time tries again by itself.",
);
static USER_ACTION: Known = of_account(
    "acme-user-action",
    "The CA requires an action from you first, usually to agree to new terms of service.",
    "Open the URL that it names, then run `sanedge renew --now`.",
);
static EXTERNAL_ACCOUNT: Known = of_account(
    "acme-external-account",
    "This CA issues only for accounts that are bound to one at its web site.",
    "Write eab = { kid = \"…\", key_file = \"…\" } into [acme], with what the CA's web site shows (external account binding), then run `sanedge bundle`. Or use `directory = \"letsencrypt\"`.",
);
static BINDING_KEY: Known = of_account(
    "acme-eab-key",
    "The key for external account binding cannot be read, and this CA wants it for a new account.",
    "Write the key of the CA's web site into {file}, alone, then type `chown root:sanedge-acme {file}` and `chmod 0640 {file}`.",
);
static ACCOUNT_GONE: Known = of_account(
    "acme-account-gone",
    "The CA does not know the account of the state folder.",
    "The next run creates an account.",
);
static CONTACT: Known = of_account(
    "acme-contact",
    "The CA does not accept the mail address.",
    "Correct `contact` in [acme] or remove it, then run `sanedge bundle`.",
);
static PROFILE: Known = known(
    "acme-profile",
    "The CA does not issue with this profile.",
    "Remove `profile` from [acme], then run `sanedge bundle`.",
);
static BAD_KEY: Known = known(
    "acme-bad-key",
    "The CA does not accept the key or the request that was made for the certificate.",
    "Use `key = \"p256\"` in [acme], then run `sanedge bundle` and `sanedge renew --now`.",
);
static CA_INTERNAL: Known = known(
    "acme-ca-fault",
    "The CA has a fault of its own or is overloaded.",
    "Nothing: the next run tries again. See its status page.",
);
static UNAUTHORIZED: Known = of_account(
    "acme-unauthorized",
    "The CA refuses this account.",
    "If it was deactivated on purpose, move the folder `accounts` of the state folder away; the next run creates an account.",
);
static REFUSED: Known = known(
    "acme-refused",
    "The CA refuses the request.",
    "Read what it says. If it makes no sense for your names, report it as a bug of sanedge.",
);
static CA_UNTRUSTED: Known = of_account(
    "acme-ca-untrusted",
    "Something between this board and the CA intercepts the connection, or a private CA's root is missing.",
    "For a private CA, name its root with `trust` in [acme]. Otherwise look for a proxy or a captive portal, and check the clock.",
);
static CLOCK: Known = of_account(
    "acme-clock",
    "The clock of this board is wrong, or the certificate of the CA's server has expired.",
    "Compare `date -u` with another clock, and set this one (`timedatectl`). The next run tries again.",
);
static CA_UNREACHABLE: Known = of_account(
    "acme-ca-unreachable",
    "This board cannot reach the CA: no internet, no DNS, or a firewall.",
    "Check with `curl -sS DIRECTORY` on this board. Nothing was counted against your limits.",
);
static ANSWER: Known = of_account(
    "acme-ca-answer",
    "Another server answers instead of the CA, or the CA has a fault.",
    "Check `[acme] directory`, and whether a proxy or captive portal is in between. The next run tries again.",
);
static NONCES: Known = of_account(
    "acme-bad-nonce",
    "The CA refuses its own nonces: several servers of it do not share them, or a proxy caches its answers.",
    "Nothing: the next run tries again. Behind a proxy, switch its cache off for the CA.",
);
static SLOW: Known = known(
    "acme-slow",
    "The CA has accepted the proofs and has not issued the certificate yet.",
    "Nothing: the next run continues with the same order and key.",
);
static NO_CHALLENGE: Known = known(
    "acme-no-challenge",
    "The CA offers no challenge that can be answered here; a wildcard needs dns-01.",
    "For a wildcard add [acme.dns] and remove `challenge` from [acme] (docs/dns-01.md), or list the hosts one by one.",
);
static DNS_CREDENTIALS: Known = known(
    "acme-dns-credentials",
    "The file of credentials for dns-01 cannot be used; the CA was asked for nothing.",
    "Correct the file (docs/dns-01.md), then run `sanedge renew --now`.",
);
static DNS_REFUSED: Known = known(
    "acme-dns-refused",
    "The DNS provider refuses the credentials, or does not let them change this name.",
    "Compare the file of credentials with what the provider shows, and its rights; then run `sanedge renew --now`.",
);
static DNS_ZONE: Known = known(
    "acme-dns-zone",
    "The DNS provider does not have the zone of this name, or the name is not delegated.",
    "Compare `dig NS ZONE` with the provider's name servers, and the zone with the one that the credentials are for.",
);
static DNS_FAILED: Known = known(
    "acme-dns-failed",
    "The DNS provider, the resolver or the program that makes the record cannot be asked, or fails.",
    "Read what it says, and check the network and `cat /etc/resolv.conf`. The next run tries again.",
);
static DNS_INVISIBLE: Known = known(
    "acme-dns-invisible",
    "The record was made, and a name server of the zone does not show it.",
    "Compare the answers of the zone's name servers (`dig NS ZONE`, then `dig @SERVER TXT NAME`). The next run tries again.",
);
static DNS_NOT_FOUND: Known = known(
    "acme-dns-not-found",
    "The CA's resolver does not find the TXT record that was made, or finds another.",
    "Look from outside (`dig @9.9.9.9 TXT _acme-challenge.NAME`) whether the zone is delegated to the provider that holds the record, and whether DNSSEC is intact. Remove old records of that name.",
);
static DNS_ONE_VALUE: Known = known(
    "acme-dns-one-value",
    "The provider holds one TXT value for a name, and this certificate needs two at one.",
    "Put the domain and its wildcard into two [[acme.certificate]], then run `sanedge bundle`.",
);
static STATE: Known = of_account(
    "acme-state",
    "The certificate could not be stored, so nothing is ordered.",
    "Free space on the disk, or give the folder to the user that runs `sanedge renew`.",
);
static DISK_FULL: Known = of_account(
    "acme-disk-full",
    "The certificate could not be stored.",
    "Free space on the disk (`df -h`). The next run tries again.",
);
static MAKING: Known =
    known("acme-request", "No request could be made for these names.", "Check the names in sanedge.toml.");
static NOT_ANSWERING: Known = known(
    "acme-edge-not-answering",
    "The CA could not fetch the challenge: nothing was sent to it.",
    "Start the edge (`sanedge serve`) with `http = [\"[::]:80\"]` in [listen], and with the bundle that belongs to this file; it must be able to read {place}.",
);
static NOT_ANSWERING_TLS: Known = known(
    "acme-edge-not-answering",
    "The CA would not get the proof over TLS: nothing was sent to it.",
    "Start the edge (`sanedge serve`) with the bundle that belongs to this file, in which a [[site]] has the name; it must be able to read {place}.",
);
static NO_RESOLVER: Known = known(
    "acme-no-resolver",
    "This board cannot query DNS, so it is unknown whether the name has an address. Nothing was sent to the CA.",
    "Check the network and the name servers of this board (`cat /etc/resolv.conf`, `getent hosts letsencrypt.org`). The next run looks again.",
);
static WAITING_FOR_DNS: Known = known(
    "acme-waiting-for-dns",
    "The name has no address yet: nothing was sent to the CA.",
    "Add an A or AAAA record for it at your DNS provider; new records can take an hour. The next run looks again.",
);

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(json: serde_json::Value) -> Error {
        Error::Api(serde_json::from_value(json).unwrap())
    }

    fn of(json: serde_json::Value) -> Failure {
        let seen =
            Seen { retry_after: Some(77), instance: Some("https://ca/terms".to_owned()), ..Seen::default() };
        Failure::of_call(&problem(json), &["a.recre.store".to_owned()], &seen)
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
            assert_eq!((failure.code, failure.account_wide), ("acme-rate-limited", account_wide), "{detail}");
            assert_eq!((failure.retry_after, failure.class), (Some(77), Class::Refused));
        }
    }

    #[test]
    fn a_429_is_a_rate_limit_in_whatever_form_it_comes() {
        let failure = of(serde_json::json!({ "type": "about:blank", "status": 429, "detail": "slow down" }));
        assert_eq!((failure.code, failure.account_wide), ("acme-rate-limited", true));
        let seen = Seen { retry_after: Some(77), ..Seen::default() };
        let call = |trouble: Trouble| Failure::of_call(&Error::Other(Box::new(trouble)), &[], &seen);
        let failure = call(Trouble::NotAcme("ca".to_owned(), 429, "<html>".to_owned()));
        assert_eq!(
            (failure.code, failure.account_wide, failure.retry_after),
            ("acme-rate-limited", true, Some(77))
        );
        assert_eq!(call(Trouble::NotAcme("ca".to_owned(), 403, String::new())).code, "acme-ca-answer");
        assert_eq!(call(Trouble::Time("ca".to_owned(), "1999".to_owned())).code, "acme-clock");
    }

    #[test]
    fn a_full_disk_is_no_fault_of_the_folder() {
        let full = Failure::of_state(&StateError::Full("state".to_owned()));
        let other = Failure::of_state(&StateError::Busy("state".to_owned()));
        assert_eq!((full.code, other.code), ("acme-disk-full", "acme-state"));
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
        assert_eq!(failure.code, "acme-rejected-name");
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
            assert_eq!((failure.code, failure.class), (code, class), "{kind}");
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
            Failure::of_validation("a.b", Some(&problem)).code
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
