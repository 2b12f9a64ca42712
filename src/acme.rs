//! `sanedge renew`: obtains and renews the certificates that `x.acme` lists (RFC 8555), or says why it cannot.
//!
//! The only part that talks to a CA. It reads `x.acme` and the files that it names, writes the state folder and the challenge folder,
//! and neither reads nor writes a bundle. A pure state machine decides when it acts.

mod account;
mod alpn;
mod certificate;
mod challenge;
pub(crate) mod clock;
pub(crate) mod confirm;
pub(crate) mod dns;
mod fetch;
mod jws;
mod local;
pub mod manage;
mod order;
mod policy;
mod problem;
pub mod progress;
mod state;
mod stop;
mod tell;
mod unserved;

use std::path::{Path, PathBuf};
use std::time::Duration;

use ring::rand::SecureRandom as _;

use crate::bundle::acme::{Ca, PLAN_BYTES_MAX, Plan, Wanted, told};
use crate::bundle::compile::moment;
use crate::bundle::file::word;
use crate::doctor::explain::Code;
use certificate::Held;
use challenge::Method;
use clock::clock;
use dns::Dns;
use fetch::Client;
use order::Work;
use policy::{End, Facts, Record, Step, Told, WITHIN_RUN_S};
use problem::Failure;
use progress::{Outcome, Row, Run, remembered};
use state::{State, StateError};
pub use stop::Stop;
use stop::{normal, runtime};

/// What `sanedge renew` is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `x.acme`.
    pub file: PathBuf,
    /// Only these names; empty: all.
    pub hosts: Vec<String>,
    /// Order certificates that are not due as well, and do not wait for a second attempt.
    pub now: bool,
    /// Do everything except the issuance, at the CA's staging directory if it has one, and store nothing.
    pub dry_run: bool,
}

/// Reads `x.acme`.
///
/// # Errors
/// If the file does not exist or is damaged.
pub fn read_plan(file: &Path) -> Result<Plan, Stop> {
    let wrong = |what: String| {
        Stop::new(
            "acme-plan",
            format!(
                "{what}; expected the file that `sanedge bundle` writes beside the bundle of a sanedge.toml with [acme] or [local]"
            ),
        )
    };
    let bytes = state::read_public(file, PLAN_BYTES_MAX).map_err(wrong)?;
    Plan::decode(&bytes).map_err(|error| wrong(format!("{} is damaged: {error}", word(file))))
}

/// Orders what is due. `tell` gets a name and each step for it. `before_pause` runs before each wait for another attempt, with whether a
/// certificate was stored, so that a stored certificate does not wait for another host.
///
/// # Errors
/// If nothing could be attempted.
pub fn run(
    options: &Options,
    plan: &Plan,
    tell: &dyn Fn(&str, &str),
    before_pause: &(dyn Fn(bool) + Sync),
) -> Result<Run, Stop> {
    let whole = plan;
    let mut plan = plan.clone();
    let options =
        &Options { hosts: options.hosts.iter().map(|host| normal(host)).collect(), ..options.clone() };
    if let Some(unknown) = options.hosts.iter().find(|host| !wanted(&plan, host)) {
        let known: Vec<&str> = plan.certificates.iter().map(Wanted::name).chain(local_names(&plan)).collect();
        let message =
            format!("--host {}: {} has {}", word(Path::new(unknown)), word(&options.file), known.join(", "));
        return Err(Stop::new("acme-host", message));
    }
    plan.certificates
        .retain(|wanted| options.hosts.is_empty() || wanted.names.iter().any(|n| options.hosts.contains(n)));
    if plan.certificates.is_empty() && plan.local.is_some() {
        return Ok(local::run(&options.hosts, options.dry_run, &plan));
    }
    let keeps_state = options.keeps_state(&plan);
    if options.dry_run {
        plan.ca.directory = plan.ca.staging().map_or(plan.ca.directory, str::to_owned);
    }
    let state = if keeps_state { Some(State::open(&plan.state)?) } else { None };
    let names: Vec<String> = plan.certificates.iter().map(|wanted| wanted.name().to_owned()).collect();
    let moments = state.as_ref().map(|state| state.newest(&names)).unwrap_or_default();
    let (newest, ahead) = clock::newest(clock(), moments);
    clock::believable(clock(), newest).map_err(|message| Stop::not_now("acme-clock", message))?;
    for (file, at) in ahead {
        let what = format!(
            "{file} is dated {}, which is ahead of the system clock ({})",
            moment(at),
            moment(clock())
        );
        tell("", &format!("{what}: it was written with a wrong clock, so its times are ignored"));
    }
    for what in state.as_ref().map(State::damaged).into_iter().flatten() {
        tell("", &what);
    }
    let client = Client::new(plan.ca.trust.as_deref()).map_err(|error| Stop::new("acme-trust", error))?;
    let renewal = Renewal { whole, plan: &plan, options, state, client, tell, before_pause, poll_at: None };
    Ok(runtime()?.block_on(renewal.run()))
}

impl Options {
    /// Whether the run uses the state folder. A dry run does if its validations count at the CA that issues the certificates.
    pub(crate) fn keeps_state(&self, plan: &Plan) -> bool {
        !self.dry_run || plan.ca.staging().is_none()
    }

    /// Whether the local CA is to issue now, due or not.
    pub(crate) fn asks_local(&self, plan: &Plan) -> bool {
        let is_named = |name: &str| self.hosts.iter().any(|host| normal(host) == name);
        self.now && (self.hosts.is_empty() || local_names(plan).any(is_named))
    }
}

fn wanted(plan: &Plan, host: &str) -> bool {
    let mut of_ca = plan.certificates.iter().flat_map(|wanted| &wanted.names);
    of_ca.any(|name| name == host) || local_names(plan).any(|name| name == host)
}

fn local_names(plan: &Plan) -> impl Iterator<Item = &str> {
    plan.local.iter().flat_map(|local| &local.names).map(String::as_str)
}

/// One run, with everything that it needs.
struct Renewal<'a> {
    /// The whole `x.acme`.
    whole: &'a Plan,
    /// The part of it for the hosts of this run.
    plan: &'a Plan,
    options: &'a Options,
    /// None in a dry run.
    state: Option<State>,
    client: Client,
    tell: &'a dyn Fn(&str, &str),
    before_pause: &'a (dyn Fn(bool) + Sync),
    /// When the CA is next asked for renewal information, if this run has asked.
    poll_at: Option<i64>,
}

impl Renewal<'_> {
    async fn run(mut self) -> Run {
        let mut run = Run { rows: Vec::new(), staging: self.plan.ca.is_staging(), stored: false };
        self.poll().await;
        loop {
            // A second pass does not order again what this run has issued.
            let done: Vec<Row> = run.rows.drain(..).filter(|row| row.outcome == Outcome::Issued).collect();
            // If the CA requires an action of the user first, it does so for every certificate.
            let mut stopped: Option<Told> = self.account().and_then(|account| account.wants_user);
            stopped = stopped.filter(|_| !self.asks_again()).as_ref().map(remembered);
            for wanted in &self.plan.certificates {
                let row = match (done.iter().find(|row| row.names == wanted.names), &stopped) {
                    (Some(row), _) => row.clone(),
                    (None, Some(told)) => self.untried(wanted, told),
                    (None, None) => self.one(wanted).await,
                };
                stopped = stopped
                    .or_else(|| row.told.clone().filter(|told| told.code == Code::AcmeUserAction.as_str()));
                run.stored |= row.outcome == Outcome::Issued;
                run.rows.push(row);
            }
            run.rows.extend(local::rows(&self.options.hosts, self.options.dry_run, self.whole));
            if !self.options.dry_run {
                // The whole plan, including the certificates that --host leaves out.
                let directory_of = |name: &str| self.state.as_ref()?.record(name).directory;
                tell::tell(self.whole, &run.rows, self.poll_at, &directory_of);
            }
            let Some(pause) = self.pause(&run.rows) else { break };
            for row in &run.rows {
                row.reasons().iter().for_each(|reason| (self.tell)(&row.names.join(", "), reason));
            }
            (self.tell)("", &format!("trying again in {pause} s (after Ctrl-C, the next run does it)"));
            // Another run may use the folder during the pause. If it holds the folder at the end, it does the rest.
            drop(self.state.take());
            let (before_pause, stored) = (self.before_pause, run.stored);
            // In a separate thread, because it creates its own runtime. A panic there does not end this run.
            std::thread::scope(|scope| drop(scope.spawn(move || before_pause(stored)).join()));
            tokio::time::sleep(Duration::from_secs(pause)).await;
            match State::open(&self.plan.state) {
                Ok(state) => self.state = Some(state),
                Err(error) => {
                    (self.tell)("", &error.to_string());
                    break;
                }
            }
        }
        run
    }

    /// Whether the user says with `--now` that the action which the CA required is done.
    fn asks_again(&self) -> bool {
        self.options.now || self.options.dry_run
    }

    /// The CA has issued a certificate, so the action that it required is done.
    fn is_content(&self) {
        let Some(account) = self.account().filter(|account| account.wants_user.is_some()) else { return };
        if let Some(state) = self.state.as_ref().filter(|_| !self.options.dry_run) {
            // If this fails, the next run with --now does it.
            let _ = state.keep_account(&state::Account { wants_user: None, ..account });
        }
    }

    /// The row of a certificate that is not ordered because the CA requires an action of the user first. One that is not due is still fine.
    fn untried(&self, wanted: &Wanted, told: &Told) -> Row {
        let (held, record) = (self.held(wanted), self.record(wanted));
        let row = Row::new(wanted, held.as_ref().map(|held| held.lifetime));
        match record.step(&self.facts(wanted, held.as_ref()), clock()) {
            Step::Fine(next, why) => row.fine(next, why),
            _ => row.failed(told, None, false),
        }
    }

    /// Seconds until the next attempt within this run.
    fn pause(&self, rows: &[Row]) -> Option<u64> {
        if self.options.now || self.options.dry_run {
            return None;
        }
        let next = rows.iter().filter(|row| row.retries).filter_map(|row| row.next).min()?;
        let pause = next.saturating_sub(clock()).max(1);
        u64::try_from(pause).ok().filter(|_| pause <= WITHIN_RUN_S)
    }

    fn record(&self, wanted: &Wanted) -> Record {
        let record = self.state.as_ref().map(|state| state.record(wanted.name())).unwrap_or_default();
        record.without_what_is_ahead(clock())
    }

    fn keep(&self, wanted: &Wanted, record: &Record) -> Result<(), StateError> {
        self.state.as_ref().map_or(Ok(()), |state| state.keep_record(wanted.name(), record))
    }

    /// The stored certificate, unless the wanted names have changed since.
    fn held(&self, wanted: &Wanted) -> Option<Held> {
        let pem = self.state.as_ref()?.certificate(wanted.name())?;
        let latest = clock().saturating_add(policy::AHEAD_S_MAX);
        Held::of(&pem).filter(|held| held.names_all(&wanted.names) && held.lifetime.not_before <= latest)
    }

    fn facts(&self, wanted: &Wanted, held: Option<&Held>) -> Facts {
        let directory = &self.plan.ca.directory;
        let open = self.state.as_ref().and_then(|state| state.order(wanted.name()));
        Facts {
            lifetime: held.map(|held| held.lifetime),
            open_order: !self.options.dry_run
                && open.is_some_and(|open| open.directory == *directory && open.names == wanted.names),
            account_blocked_until: self.account().map_or(0, |account| account.blocked_until),
            now: self.options.now || self.options.dry_run,
        }
    }

    fn account(&self) -> Option<state::Account> {
        let mut account = self.state.as_ref()?.account(&self.plan.ca.directory)?;
        account.blocked_until = policy::not_ahead(account.blocked_until, policy::RETRY_AFTER_S_MAX, clock());
        Some(account)
    }

    async fn one(&self, wanted: &Wanted) -> Row {
        let (held, mut record) = (self.held(wanted), self.record(wanted));
        let row = Row::new(wanted, held.as_ref().map(|held| held.lifetime));
        let facts = self.facts(wanted, held.as_ref());
        let step = record.step(&facts, clock());
        match step {
            Step::Fine(next, why) => {
                self.clear(wanted, held.as_ref()).await;
                row.fine(next, why)
            }
            Step::Wait(until, why) => row.waiting(until, why, record.last.as_ref()),
            Step::Order | Step::Resume => {
                match self.attempt(wanted, held.as_ref(), &mut record, step).await {
                    Ok(()) => {
                        if !self.options.dry_run {
                            (self.tell)(wanted.name(), "issued");
                        }
                        let now = self.held(wanted);
                        let due =
                            record.due(&Facts { lifetime: now.as_ref().map(|held| held.lifetime), ..facts });
                        row.issued(now.map(|held| held.lifetime), due, self.options.dry_run)
                    }
                    Err(failure) => {
                        let told = failure.told(clock());
                        if failure.code == Code::AcmeDiskFull {
                            return row.not_now(&told);
                        }
                        row.failed(&told, self.next(wanted, held.as_ref()), failure.retries())
                    }
                }
            }
        }
    }

    /// Removes a stored order that is no longer needed. If a run was killed after it had stored the certificate, the order is still there,
    /// and the renewal would resume it and get the old certificate again.
    async fn clear(&self, wanted: &Wanted, held: Option<&Held>) {
        let Some(state) = self.state.as_ref().filter(|_| !self.options.dry_run) else { return };
        let Some(open) = state.order(wanted.name()) else { return };
        challenge::remove(&self.plan.challenges, &open.tokens);
        if !open.records.is_empty() {
            let dns = self.dns(Method::Dns01).ok().flatten();
            order::remove(dns.as_ref(), &open.records, &|what| (self.tell)(wanted.name(), what)).await;
        }
        if held.is_some_and(|held| held.fits(&open.key)) {
            let mut record = self.record(wanted);
            record.end(End::Issued, clock());
            record.directory = Some(open.directory);
            // The certificate is in use in any case; the next run tries this again.
            if self.keep(wanted, &record).is_err() {
                return;
            }
        }
        state.drop_order(wanted.name());
    }

    /// When a failed certificate is attempted next; a dry run is not repeated.
    fn next(&self, wanted: &Wanted, held: Option<&Held>) -> Option<i64> {
        let facts = Facts { now: false, ..self.facts(wanted, held) };
        let wait = self.record(wanted).wait(&facts, clock()).filter(|_| !self.options.dry_run);
        wait.map(|(until, _)| until)
    }

    async fn attempt(
        &self,
        wanted: &Wanted,
        held: Option<&Held>,
        record: &mut Record,
        step: Step,
    ) -> Result<(), Failure> {
        let before = record.clone();
        let method = self.possible(wanted, record).await?;
        if step == Step::Resume {
            record.resume(clock());
        } else {
            record.begin(clock());
        }
        self.keep(wanted, record).map_err(|error| Failure::of_state(&error))?;
        let result = async {
            if before.proves_first && !self.options.dry_run && step == Step::Order {
                self.prove_at_staging(wanted, method).await?;
            }
            self.obtain(wanted, held, method).await
        };
        let result = result.await.map_err(|failure| failure.with(method));
        let now = clock();
        match &result {
            Ok(directory) => {
                record.end(End::Issued, now);
                if *directory == self.plan.ca.directory {
                    self.is_content();
                }
                record.directory = Some(directory.clone());
            }
            Err(failure) => self.failed(wanted, record, failure, now),
        }
        if self.options.dry_run {
            *record = before.after_trial(record.clone());
        }
        // A success counts even if it cannot be recorded: the certificate is stored.
        let kept = self.keep(wanted, record);
        result.and_then(|_| kept.map_err(|error| Failure::of_state(&error)))
    }

    /// Checks what can be checked before the CA is contacted, and chooses the method of validation. Does not count as an attempt.
    async fn possible(&self, wanted: &Wanted, record: &mut Record) -> Result<Method, Failure> {
        let checked = async {
            self.state.as_ref().map_or(Ok(()), State::has_room).map_err(|error| Failure::of_state(&error))?;
            if challenge::is_by_dns(self.plan, wanted) {
                return self.dns(Method::Dns01).map(|_| Method::Dns01);
            }
            for name in &wanted.names {
                if name.starts_with("*.") {
                    return Err(Failure::no_challenge(name, &["dns-01".to_owned()]));
                }
                match challenge::addresses(name).await {
                    Ok(found) if found.is_empty() => return Err(Failure::waiting_for_dns(name)),
                    Ok(found) => {
                        let shown: Vec<_> = found.iter().map(ToString::to_string).collect();
                        (self.tell)(name, &format!("DNS: {}", shown.join(", ")));
                        challenge::not_ours(&found).iter().for_each(|said| (self.tell)(name, said));
                    }
                    Err(_) if dns::is_bogus(name).await => return Err(Failure::bogus(name)),
                    Err(error) => return Err(Failure::no_resolver(name, &error)),
                }
            }
            let failed = |unserved| Failure::unserved(unserved, self.plan);
            challenge::folder(&self.plan.challenges).map_err(failed)?;
            challenge::method(self.plan, wanted).await.map_err(failed)
        };
        let checked = checked.await;
        if let (Err(failure), false) = (&checked, self.options.dry_run) {
            let told = failure.told(clock());
            // An unchanged failure is not worth a write to the card.
            if record.last.as_ref().is_none_or(|last| (&last.code, &last.found) != (&told.code, &told.found))
            {
                record.last = Some(told);
            }
            self.keep(wanted, record).map_err(|error| Failure::of_state(&error))?;
        }
        checked
    }

    /// Has the CA's staging directory validate the names, because a failure does not count there. Does nothing if the CA has none.
    async fn prove_at_staging(&self, wanted: &Wanted, method: Method) -> Result<(), Failure> {
        let Some(staging) = self.plan.ca.staging() else { return Ok(()) };
        let ca = Ca { directory: staging.to_owned(), ..self.plan.ca.clone() };
        (self.tell)(wanted.name(), "the last validation failed: trying the CA's staging directory first");
        let proven = async {
            let account = account::open(self.state.as_ref(), &self.client, &ca).await?;
            let dns = self.dns(method)?;
            let work = Work {
                plan: self.plan,
                ca: &ca,
                state: None,
                client: &self.client,
                account: &account,
                method,
                dns: dns.as_ref(),
                tell: self.tell,
            };
            work.obtain(wanted, None).await
        };
        match proven.await {
            // A fault of the staging directory says nothing about the name.
            Err(failure) if failure.is_the_cas_fault() || failure.code == Code::AcmeSlow => Ok(()),
            // CAA records with `accounturi` name the account at the CA itself.
            Err(failure) if failure.code == Code::AcmeCaa => Ok(()),
            proven => proven.map_err(|failure| Failure { account_wide: false, ..failure }),
        }
    }

    /// The DNS provider, if the names are validated by dns-01.
    fn dns(&self, method: Method) -> Result<Option<Dns>, Failure> {
        let plan = self.plan.dns.as_ref().filter(|_| method == Method::Dns01);
        plan.map(Dns::open).transpose().map_err(|error| Failure::of_dns(&error))
    }

    /// Obtains the certificate from the first CA, or from a fallback if that has a fault of its own. Returns the directory that issued it.
    async fn obtain(&self, wanted: &Wanted, held: Option<&Held>, method: Method) -> Result<String, Failure> {
        let mut ca = &self.plan.ca;
        let mut result = self.obtain_from(ca, &self.client, wanted, held, method).await;
        for other in self.plan.fallback.iter().filter(|_| !self.options.dry_run) {
            let Err(first) = &result else { break };
            if !first.is_the_cas_fault() {
                break;
            }
            (self.tell)(
                wanted.name(),
                &format!("{}: {}; trying {}", ca.directory, first.found, other.directory),
            );
            let client = Client::new(other.trust.as_deref()).map_err(|error| Failure::of_making(&error))?;
            let second = self.obtain_from(other, &client, wanted, held, method).await;
            result = match second {
                // A fault of a fallback is reported together with that of the first CA.
                Err(failure) if failure.is_the_cas_fault() => {
                    let found = format!("{}; {}: {}", first.found, other.directory, failure.found);
                    Err(Failure { found, ..first.clone() })
                }
                // A fallback's pauses do not apply to the account at the first CA.
                Err(failure) => Err(Failure { retry_after: None, account_wide: false, ..failure }),
                Ok(()) => {
                    ca = other;
                    Ok(())
                }
            };
        }
        result.map(|()| ca.directory.clone())
    }

    async fn obtain_from(
        &self,
        ca: &Ca,
        client: &Client,
        wanted: &Wanted,
        held: Option<&Held>,
        method: Method,
    ) -> Result<(), Failure> {
        let account = account::open(self.state.as_ref(), client, ca).await?;
        // Another CA does not know this certificate (RFC 9773 §5).
        let held = held.filter(|_| self.record(wanted).is_of(&ca.directory));
        let dns = self.dns(method)?;
        let work = Work {
            plan: self.plan,
            ca,
            state: self.state.as_ref().filter(|_| !self.options.dry_run),
            client,
            account: &account,
            method,
            dns: dns.as_ref(),
            tell: self.tell,
        };
        work.obtain(wanted, held.filter(|_| !self.options.dry_run)).await
    }

    fn failed(&self, wanted: &Wanted, record: &mut Record, failure: &Failure, now: i64) {
        let of_host = failure.retry_after.filter(|_| !failure.account_wide);
        record.end(End::Failed(failure.class, of_host), now);
        record.last = Some(failure.told(now));
        let Some(state) = &self.state else { return };
        if failure.order_is_over && !self.options.dry_run {
            state.drop_order(wanted.name());
        }
        let Some(mut account) = self.account() else { return };
        if failure.code == Code::AcmeAccountGone {
            account.id = None;
        }
        if failure.code == Code::AcmeUserAction && !self.options.dry_run {
            account.wants_user = Some(failure.told(now));
        }
        if let Some(until) = failure.retry_after.filter(|_| failure.account_wide) {
            account.blocked_until = until;
        }
        // If this fails, the pause in the record still holds.
        let _ = state.keep_account(&account);
    }

    /// Asks the CA when it wants the stored certificates renewed (RFC 9773), as often as it says.
    async fn poll(&mut self) {
        if self.options.dry_run {
            return;
        }
        let Some(kept) = self.account().filter(|account| account.id.is_some()) else { return };
        let next = told::read(&self.whole.challenges).unwrap_or_default().poll_at;
        if clock() < policy::not_ahead(next, policy::AHEAD_S_MAX, clock()) {
            return;
        }
        let ours = |wanted: &&Wanted| self.record(wanted).is_of(&self.plan.ca.directory);
        let held: Vec<_> =
            self.plan.certificates.iter().filter(ours).filter_map(|w| Some((w, self.held(w)?))).collect();
        if held.is_empty() || clock() < kept.blocked_until {
            return;
        }
        let Ok(account) = account::open(self.state.as_ref(), &self.client, &self.plan.ca).await else {
            return;
        };
        let mut retry_after: Option<i64> = None;
        for (wanted, held) in &held {
            let Some(id) = held.identifier() else { continue };
            let Ok((info, pause)) = account.renewal_info(&id).await else { continue };
            let window =
                (info.suggested_window.start.unix_timestamp(), info.suggested_window.end.unix_timestamp());
            let mut record = self.record(wanted);
            record.suggest(&id.to_string(), window, random());
            let _ = self.keep(wanted, &record);
            let pause = i64::try_from(pause.as_secs()).unwrap_or(i64::MAX);
            retry_after = Some(retry_after.map_or(pause, |other| other.min(pause)));
        }
        // Kept in memory, so that the card is not written; after a boot the CA is asked again.
        self.poll_at = Some(policy::poll_at(retry_after, clock()));
    }
}

impl Failure {
    /// Whether a second attempt within the run may have another result.
    fn retries(&self) -> bool {
        !matches!(
            self.code,
            Code::AcmeState
                | Code::AcmeDnsCredentials
                | Code::AcmeDnsOneValue
                | Code::AcmeWaitingForDns
                | Code::AcmeNoResolver
                | Code::AcmeDnssec
                | Code::AcmeDnsServfail
                | Code::AcmeEdgeNotAnswering
                | Code::AcmeEdgeNotAnsweringTls
                | Code::AcmeChallengeFolder
                | Code::AcmePortTaken
                | Code::AcmeEabKey
                | Code::AcmeExternalAccount
                | Code::AcmeUserAction
        )
    }
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    // Without random numbers the start of the window is used.
    let _ = ring::rand::SystemRandom::new().fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}
