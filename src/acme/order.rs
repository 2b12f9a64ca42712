//! One order (RFC 8555 §7.4): from the names to the stored certificate, or to a failure.

use std::io;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, ChallengeStatus, ChallengeType, Error, Identifier, NewOrder, Order,
    OrderStatus,
};
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use super::account;
use super::alpn::Proofs;
use super::certificate::{self, Held};
use super::challenge::{self, Method, Token};
use super::clock::clock;
use super::dns::{Dns, DnsError};
use super::fetch::{Client, Trouble, with_nonce};
use super::jws::Session;
use super::problem::{Failure, OfValidation as _};
use super::state::{OpenOrder, State, TxtRecord};
use super::unserved::Unserved;
use crate::bundle::acme::{Ca, Challenge, Plan, Wanted, stored};
use crate::excerpt::kept_text;

/// How long the CA may take to check the challenges, or to issue.
const READY_TIME: Duration = Duration::from_secs(120);
/// Pauses between two requests for the status if the CA names no time: first and longest.
const LOOK_PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// Status of a CA that has replaced the certificate already (RFC 9773 §5), and the end of those that are the client's fault.
const CLIENT_FAULTS: std::ops::Range<u16> = 400..500;

/// What an order needs.
pub(super) struct Work<'a> {
    pub(super) plan: &'a Plan,
    /// The CA to use: the plan's first, or a fallback.
    pub(super) ca: &'a Ca,
    /// None: a dry run, which stores nothing and ends before a certificate is issued.
    pub(super) state: Option<&'a State>,
    pub(super) client: &'a Client,
    pub(super) account: &'a Account,
    /// How the names are validated.
    pub(super) method: Method,
    /// The DNS provider, for dns-01.
    pub(super) dns: Option<&'a Dns>,
    pub(super) tell: &'a dyn Fn(&str, &str),
}

/// What the CA checks. Tokens and proofs are served until this is dropped; records must be removed.
#[derive(Default)]
struct Served {
    tokens: Vec<Token>,
    proofs: Option<Proofs>,
    records: Vec<TxtRecord>,
}

impl Served {
    fn is_empty(&self) -> bool {
        self.tokens.is_empty() && self.proofs.is_none() && self.records.is_empty()
    }
}

impl Work<'_> {
    /// Obtains and stores the certificate of `wanted`; `held` is the one that it replaces, if this CA issued it.
    pub(super) async fn obtain(&self, wanted: &Wanted, held: Option<&Held>) -> Result<(), Failure> {
        let name = wanted.name();
        let open = self.state.and_then(|state| state.order(name)).filter(|open| self.is_of(open, wanted));
        let (mut order, key) = match open {
            Some(open) => {
                (self.tell)(name, "resuming the stored order");
                challenge::remove(&self.plan.challenges, &open.tokens);
                self.remove(wanted, &open.records).await;
                let order = with_nonce!(self.account.order(open.url.clone()))
                    .map_err(|error| self.gone(&error, wanted))?;
                (order, open.key)
            }
            None => self.place(wanted, held).await?,
        };
        self.prove(&mut order, wanted).await?;
        let Some(state) = self.state else { return Ok(()) }; // a trial
        let chain = self.finish(&mut order, &key, wanted).await?;
        let held = Held::of(chain.as_bytes()).filter(|held| held.fits(&key) && held.names_all(&wanted.names));
        let size = chain.len() + key.len();
        if held.is_none() || size as u64 > stored::BYTES_MAX {
            let error = Error::Str("the certificate of the CA does not fit the request");
            return Err(Failure { order_is_over: true, ..self.failed(&error, wanted) });
        }
        let pem = Zeroizing::new(format!("{}{chain}", &*key));
        state.keep_certificate(name, pem.as_bytes()).map_err(|error| Failure::of_state(&error))?;
        // Before the order is removed: after a kill in between, the next run resumes the order and marks again.
        state.mark().map_err(|error| Failure::of_state(&error))?;
        state.drop_order(name);
        Ok(())
    }

    fn is_of(&self, open: &OpenOrder, wanted: &Wanted) -> bool {
        open.directory == self.ca.directory && open.names == wanted.names
    }

    fn failed(&self, error: &Error, wanted: &Wanted) -> Failure {
        Failure::of_call(error, &wanted.names, &self.client.seen())
    }

    /// A stored order that the CA no longer has is dropped; one that could not be requested is kept.
    fn gone(&self, error: &Error, wanted: &Wanted) -> Failure {
        let failure = self.failed(error, wanted);
        Failure { order_is_over: matches!(error, Error::Api(_)) && failure.retry_after.is_none(), ..failure }
    }

    async fn place(
        &self,
        wanted: &Wanted,
        held: Option<&Held>,
    ) -> Result<(Order, Zeroizing<String>), Failure> {
        let key = certificate::key(self.ca.key);
        let key = key.map_err(|error| Failure::of_making(&error.to_string()))?;
        let identifiers: Vec<Identifier> = wanted.names.iter().map(|name| identifier(name)).collect();
        let profile = self.profile(&identifiers)?;
        let replaces = held.and_then(Held::identifier);
        let order = |replaces: bool| {
            let order = NewOrder::new(&identifiers);
            let order =
                profile.as_deref().map_or(NewOrder::new(&identifiers), |profile| order.profile(profile));
            match held.filter(|_| replaces).and_then(Held::identifier) {
                Some(certificate) => order.replaces(certificate),
                None => order,
            }
        };
        let mut placed = with_nonce!(self.account.new_order(&order(replaces.is_some())));
        // `replaces` only helps the CA; it must not prevent a certificate (RFC 9773 §5).
        if replaces.is_some() && placed.as_ref().is_err_and(blames_replaces) {
            // If the CA has no renewal information, the crate does not send the order: the CA refused nothing.
            if !matches!(placed, Err(Error::Unsupported(_))) {
                let what = "the CA refuses the order as a replacement (`replaces`): ordering without it";
                (self.tell)(wanted.name(), what);
            }
            placed = with_nonce!(self.account.new_order(&order(false)));
        }
        let order = placed.map_err(|error| self.failed(&error, wanted))?;
        (self.tell)(wanted.name(), "ordered");
        if let Some(state) = self.state {
            let open = OpenOrder {
                directory: self.ca.directory.clone(),
                url: order.url().to_owned(),
                names: wanted.names.clone(),
                key: key.clone(),
                tokens: Vec::new(),
                records: Vec::new(),
            };
            state.keep_order(wanted.name(), &open).map_err(|error| Failure::of_state(&error))?;
        }
        Ok((order, key))
    }

    /// The profile to request: a named one only if the CA offers it; `auto` is the CA's default, and for addresses the only one that
    /// Let's Encrypt issues with.
    fn profile(&self, identifiers: &[Identifier]) -> Result<Option<String>, Failure> {
        let written = self.ca.profile.as_str();
        let has_address = identifiers.iter().any(|identifier| matches!(identifier, Identifier::Ip(_)));
        let offered = |name: &str| self.account.profiles().any(|profile| profile.name == name);
        match written {
            "auto" => Ok(Some("shortlived".to_owned()).filter(|name| has_address && offered(name))),
            name if offered(name) => Ok(Some(name.to_owned())),
            name => {
                let offered: Vec<_> =
                    self.account.profiles().map(|profile| profile.name.to_owned()).collect();
                let offered = if offered.is_empty() { "none".to_owned() } else { offered.join(", ") };
                Err(Failure::no_profile(name, &offered))
            }
        }
    }

    /// Serves the challenges and waits until the CA has checked them.
    async fn prove(&self, order: &mut Order, wanted: &Wanted) -> Result<(), Failure> {
        if order.state().status == OrderStatus::Pending {
            let mut served = Served::default();
            let seen = self.seen(order, wanted, &mut served).await;
            self.remove(wanted, &served.records).await;
            seen?;
        }
        if order.state().status == OrderStatus::Invalid {
            return Err(self.why_invalid(order, wanted).await);
        }
        (self.tell)(wanted.name(), "the CA has validated the names");
        Ok(())
    }

    async fn seen(&self, order: &mut Order, wanted: &Wanted, served: &mut Served) -> Result<(), Failure> {
        self.serve(order, wanted, served).await?;
        if !served.is_empty() {
            (self.tell)(wanted.name(), "challenge ready, waiting for the CA to check it");
        }
        self.call(order, wanted).await?;
        self.wait(order, wanted, |status| status != OrderStatus::Pending).await
    }

    /// Creates everything that the CA will check.
    async fn serve(&self, order: &mut Order, wanted: &Wanted, served: &mut Served) -> Result<(), Failure> {
        let mut authorizations = order.authorizations();
        while let Some(next) = authorizations.next().await {
            let mut authorization = next.map_err(|error| self.failed(&error, wanted))?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let name = authorization.identifier().to_string();
            let offered: Vec<String> =
                authorization.challenges.iter().map(|challenge| format!("{:?}", challenge.r#type)).collect();
            let method = self.method_of(&authorization.challenges);
            let challenge = method.and_then(|method| Some((method, authorization.challenge(kind(method))?)));
            let Some((method, challenge)) = challenge else {
                return Err(Failure::no_challenge(&name, &offered));
            };
            let content = challenge.key_authorization();
            match method {
                Method::Http01 => {
                    self.remember(wanted, |open| note(&mut open.tokens, &challenge.token))?;
                    let token = Token::serve(&self.plan.challenges, &challenge.token, content.as_str());
                    let token = token.map_err(|error| match error.kind() {
                        io::ErrorKind::InvalidInput => Failure::of_making(&error.to_string()),
                        _ => Failure::unserved(Unserved::folder(&self.plan.challenges, &error), self.plan),
                    });
                    served.tokens.push(token?);
                }
                Method::TlsAlpn01 => {
                    self.prove_over_tls(&mut served.proofs, &name, content.digest().as_ref()).await?;
                }
                Method::Dns01 => {
                    self.make_record(wanted, &name, content.dns_value(), &mut served.records).await?;
                }
            }
        }
        let tell = |what: &str| (self.tell)(wanted.name(), what);
        match self.dns {
            Some(dns) if !served.records.is_empty() => {
                tell("record created, waiting for the name servers to show it");
                dns.visible(&served.records, &tell).await.map_err(|error| Failure::of_dns(&error))
            }
            _ => Ok(()),
        }
    }

    /// Tells the CA that the challenges are ready.
    async fn call(&self, order: &mut Order, wanted: &Wanted) -> Result<(), Failure> {
        let mut authorizations = order.authorizations();
        while let Some(next) = authorizations.next().await {
            let mut authorization = next.map_err(|error| self.failed(&error, wanted))?;
            let name = authorization.identifier().to_string();
            let method = self.method_of(&authorization.challenges);
            let is_pending = authorization.status == AuthorizationStatus::Pending;
            let challenge = method.and_then(|method| authorization.challenge(kind(method)));
            let Some(mut challenge) = challenge.filter(|_| is_pending) else { continue };
            if challenge.status == ChallengeStatus::Pending {
                // A CA that checks at once reports the result in this answer.
                with_nonce!(challenge.set_ready()).map_err(|error| match error {
                    Error::Api(problem) if problem.is_of_validation() => {
                        Failure::of_validation(&name, Some(&problem))
                    }
                    error => self.failed(&error, wanted),
                })?;
            }
        }
        Ok(())
    }

    /// Creates the record for `name`. It is noted first, so that it is removed whatever happens next.
    async fn make_record(
        &self,
        wanted: &Wanted,
        name: &str,
        value: String,
        records: &mut Vec<TxtRecord>,
    ) -> Result<(), Failure> {
        let failed = |error: DnsError| Failure::of_dns(&error);
        let Some(dns) = self.dns else { return Err(Failure::of_making("no DNS provider is known")) };
        let record = TxtRecord { name: dns.place(name).await.map_err(failed)?, value };
        if !dns.holds_several() && records.iter().any(|other| other.name == record.name) {
            return Err(failed(DnsError::OneValue(format!("{} would need two", record.name))));
        }
        self.remember(wanted, |open| note(&mut open.records, &record))?;
        records.push(record.clone());
        dns.add(&record).await.map_err(failed)
    }

    async fn remove(&self, wanted: &Wanted, records: &[TxtRecord]) {
        remove(self.dns, records, &|what| (self.tell)(wanted.name(), what)).await;
    }

    /// Which of the offered challenges to answer; with `auto` any that is possible here.
    fn method_of(&self, offered: &[instant_acme::Challenge]) -> Option<Method> {
        let ours = [Method::Http01, Method::TlsAlpn01].into_iter();
        let ours = ours.filter(|_| self.plan.challenge == Challenge::Auto && self.method != Method::Dns01);
        let ours = ours.chain([self.method]);
        let offered = ours.filter(|method| offered.iter().any(|challenge| challenge.r#type == kind(*method)));
        offered.max_by_key(|method| *method == self.method)
    }

    /// Adds the proof for `name`, and waits until the edge answers with it.
    async fn prove_over_tls(
        &self,
        proofs: &mut Option<Proofs>,
        name: &str,
        digest: &[u8],
    ) -> Result<(), Failure> {
        let failed = |unserved| Failure::unserved(unserved, self.plan);
        if proofs.is_none() {
            *proofs = Some(Proofs::open(&self.plan.challenges).map_err(failed)?);
        }
        let Some(proofs) = proofs else { return Ok(()) };
        let digest = digest.try_into().map_err(|_| Failure::of_making("the digest is not of 32 bytes"))?;
        proofs.add(name, digest).map_err(failed)?;
        proofs.are_served(self.plan).await.map_err(failed)
    }

    /// Notes in the stored order what a killed run would leave behind.
    fn remember(&self, wanted: &Wanted, note: impl FnOnce(&mut OpenOrder) -> bool) -> Result<(), Failure> {
        let Some(state) = self.state else { return Ok(()) };
        let Some(mut open) = state.order(wanted.name()) else { return Ok(()) };
        if !note(&mut open) {
            return Ok(());
        }
        state.keep_order(wanted.name(), &open).map_err(|error| Failure::of_state(&error))
    }

    /// Looks at the order, at the CA's pace, until its status is one that `is_wanted`.
    async fn wait(
        &self,
        order: &mut Order,
        wanted: &Wanted,
        is_wanted: impl Fn(OrderStatus) -> bool,
    ) -> Result<(), Failure> {
        let until = Instant::now() + READY_TIME;
        let (mut pause, longest) = LOOK_PAUSES;
        loop {
            with_nonce!(async { order.refresh().await.map(drop) })
                .map_err(|error| self.failed(&error, wanted))?;
            let status = order.state().status;
            if is_wanted(status) {
                return Ok(());
            }
            let said = self.client.seen().retry_after.map(|at| at.saturating_sub(clock()));
            let said = said.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
            let next = said.unwrap_or(pause).max(LOOK_PAUSES.0);
            if Instant::now() + next > until {
                let slow = Failure::slow(format!("its status is still {status:?}"));
                return Err(Failure { retry_after: self.client.seen().retry_after, ..slow });
            }
            sleep(next).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// The reason, from the first challenge with an error.
    async fn why_invalid(&self, order: &mut Order, wanted: &Wanted) -> Failure {
        let own = order.state().error.clone();
        let mut authorizations = order.authorizations();
        while let Some(Ok(mut authorization)) = authorizations.next().await {
            let name = authorization.identifier().to_string();
            let Ok(state) = authorization.refresh().await else { continue };
            let error = state.challenges.iter().find_map(|challenge| challenge.error.as_ref());
            if error.is_some() || state.status == AuthorizationStatus::Invalid {
                return Failure::of_validation(&name, error);
            }
        }
        match own {
            Some(problem) if problem.is_of_validation() => {
                Failure::of_validation(wanted.name(), Some(&problem))
            }
            Some(problem) => Failure { order_is_over: true, ..self.failed(&Error::Api(problem), wanted) },
            None => Failure::of_validation(wanted.name(), None),
        }
    }

    /// Sends the request and fetches the chain.
    async fn finish(&self, order: &mut Order, key: &str, wanted: &Wanted) -> Result<String, Failure> {
        let over = |failure: Failure| Failure {
            order_is_over: failure.class == super::policy::Class::Refused,
            ..failure
        };
        if order.state().status == OrderStatus::Ready {
            let request = certificate::request(key, &wanted.names);
            let request = request.map_err(|error| Failure::of_making(&error.to_string()))?;
            with_nonce!(order.finalize_csr(&request)).map_err(|error| over(self.failed(&error, wanted)))?;
        }
        if order.state().status == OrderStatus::Processing {
            self.wait(order, wanted, |status| status != OrderStatus::Processing).await?;
        }
        if order.state().status == OrderStatus::Invalid {
            return Err(self.why_invalid(order, wanted).await);
        }
        let chain = with_nonce!(order.certificate()).map_err(|error| self.failed(&error, wanted))?;
        let chain = chain.ok_or_else(|| Failure::slow("the certificate is not ready".to_owned()))?;
        if self.client.trusts(&chain, wanted.name()) {
            return Ok(chain);
        }
        let other = match order.state().certificate.clone() {
            Some(url) => self.other_chain(&url, wanted).await,
            None => None,
        };
        // If there is no better one, the deployment reports what is wrong with the first.
        Ok(other.unwrap_or(chain))
    }

    /// Another chain of the same certificate, if one of them leads to a root that is trusted.
    async fn other_chain(&self, url: &str, wanted: &Wanted) -> Option<String> {
        let kept = self.state?.account(&self.ca.directory)?;
        let session = Session::open(self.client, &self.ca.directory).await.ok()?;
        let key = account::signer(&kept.key).ok()?;
        let chains = session.other_chains(&kept.id?, &key, url).await.ok()?;
        let chain = chains.into_iter().find(|chain| self.client.trusts(chain, wanted.name()))?;
        (self.tell)(
            wanted.name(),
            "the CA's first chain does not lead to a trusted root: using another of its chains",
        );
        Some(chain)
    }
}

/// Removes records. One that remains after a failure does no harm, and is reported.
pub(super) async fn remove(dns: Option<&Dns>, records: &[TxtRecord], tell: &dyn Fn(&str)) {
    let Some(dns) = dns else { return };
    for record in records {
        if let Err(error) = dns.remove(record).await {
            let what = format!("the TXT record of {} was not removed: {error}", record.name);
            tell(&kept_text(&what));
        }
    }
}

/// Adds an item that is not yet in the list; true if it was added.
fn note<T: PartialEq + Clone>(list: &mut Vec<T>, item: &T) -> bool {
    let is_new = !list.contains(item);
    if is_new {
        list.push(item.clone());
    }
    is_new
}

fn kind(method: Method) -> ChallengeType {
    match method {
        Method::Http01 => ChallengeType::Http01,
        Method::TlsAlpn01 => ChallengeType::TlsAlpn01,
        Method::Dns01 => ChallengeType::Dns01,
    }
}

fn identifier(name: &str) -> Identifier {
    name.parse().map_or_else(|_| Identifier::Dns(name.to_owned()), Identifier::Ip)
}

/// Whether a refusal may be because of `replaces`: not a rate limit, and not a refused name.
fn blames_replaces(error: &Error) -> bool {
    let problem = match error {
        Error::Api(problem) => problem,
        // An answer that does not repeat the field. If no answer came, the order is not sent twice.
        Error::Other(inner) => return !inner.is::<Trouble>(),
        other => return matches!(other, Error::Unsupported(_)),
    };
    let kind = problem.r#type.as_deref().unwrap_or_default();
    let status = problem.status.unwrap_or(400);
    CLIENT_FAULTS.contains(&status)
        && !["rateLimited", "rejectedIdentifier", "caa"].iter().any(|k| kind.ends_with(k))
}
