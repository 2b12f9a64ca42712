//! dns-01 (RFC 8555 §8.4): TXT records at the provider that `[acme] dns` names, and whether the name servers show them.

mod api;
mod credentials;
pub(crate) mod error;
mod exec;
pub(crate) mod lookup;
mod update;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::state::TxtRecord;
use crate::bundle::acme::{Dns as Plan, Provider as Kind};
use crate::excerpt::Excerpt;
use api::Api;
pub(super) use error::DnsError;
use exec::Program;
use lookup::Lookup;
use update::Updates;

/// How long `renew` waits until the name servers show a record.
struct Waits {
    /// Limit until all of them show it.
    visible: Duration,
    /// Pauses between queries: first and longest.
    pauses: (Duration, Duration),
    /// The wait if none of them answers.
    blind: Duration,
}

const WAITS: Waits = Waits {
    visible: Duration::from_secs(180),
    pauses: (Duration::from_millis(500), Duration::from_secs(10)),
    blind: Duration::from_secs(30),
};
/// The label before the name that is validated (RFC 8555 §8.4).
const LABEL: &str = "_acme-challenge.";

/// The name of the TXT record for `host`.
pub(super) fn owner(host: &str) -> String {
    format!("{LABEL}{}", host.strip_prefix("*.").unwrap_or(host))
}

/// Whether this machine's resolver refuses a name for its DNSSEC signatures.
pub(super) async fn is_bogus(host: &str) -> bool {
    let Some(name) = lookup::name(host) else { return false };
    match Lookup::new(&[]) {
        Ok(lookup) => lookup.is_bogus(&name).await,
        Err(_) => false,
    }
}

/// Where the credentials of a provider can create records, so where `_acme-challenge` is delegated to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// To this one name.
    Name(String),
    /// To a name of its own in this zone.
    Zone(String),
}

impl Target {
    /// The target for the record at `owner`, with its last dot; none if the record is in the zone already.
    pub(super) fn of(&self, owner: &str) -> Option<String> {
        match self {
            Self::Name(name) => Some(format!("{name}.")),
            Self::Zone(zone) if owner.ends_with(&format!(".{zone}")) => None,
            Self::Zone(zone) => Some(format!("{}.{zone}.", owner.trim_start_matches(LABEL))),
        }
    }
}

/// Reads from the file of credentials where the records are.
///
/// # Errors
/// What the user must add or do if the file does not say.
pub(super) fn delegated_to(plan: &Plan) -> Result<Target, String> {
    let named = match plan.provider {
        Kind::AcmeDns => api::acme_dns_name(&plan.credentials).map(|name| name.map(Target::Name)),
        Kind::Rfc2136 => update::zone_of_credentials(&plan.credentials).map(|zone| zone.map(Target::Zone)),
        _ => Ok(None),
    };
    let wanted = match plan.provider {
        Kind::AcmeDns => {
            "write `fulldomain = \"…\"`, as the registration returned it, into the file of credentials"
        }
        Kind::Rfc2136 => "write `zone = \"…\"`, a zone that holds nothing else, into the file of credentials",
        _ => {
            "make each an alias (CNAME) of a name in a zone that holds nothing else, and use credentials for that zone only (docs/dns-01.md)"
        }
    };
    named.map_err(|error| error.to_string())?.ok_or_else(|| wanted.to_owned())
}

/// A provider with its credentials.
pub(super) struct Dns {
    provider: Provider,
    lookup: Lookup,
    /// Servers to query instead of the zone's name servers; empty: those.
    asked: Vec<SocketAddr>,
}

enum Provider {
    Updates(Box<Updates>),
    Api(Api),
    Exec(Program),
}

impl Dns {
    /// Reads the credentials.
    pub(super) fn open(plan: &Plan) -> Result<Self, DnsError> {
        let provider = match plan.provider {
            Kind::Rfc2136 => {
                Provider::Updates(credentials::read(&plan.credentials).and_then(Updates::new).map(Box::new)?)
            }
            Kind::Exec => Provider::Exec(credentials::read(&plan.credentials).and_then(Program::new)?),
            kind => Provider::Api(Api::open(kind, &plan.credentials)?),
        };
        let lookup = Lookup::new(&plan.resolvers).map_err(DnsError::Failed)?;
        Ok(Self { provider, lookup, asked: plan.resolvers.clone() })
    }

    /// The name of the record for `host`: `_acme-challenge.host`, or the target of a CNAME there.
    pub(super) async fn place(&self, host: &str) -> Result<String, DnsError> {
        let name = owner(host);
        let name = lookup::name(&name)
            .ok_or_else(|| DnsError::Failed(format!("{} is not a valid DNS name", Excerpt::of(&name))))?;
        Ok(lookup::text(&self.lookup.end_of_aliases(name).await?))
    }

    /// Adds a record. An existing one is not an error.
    pub(super) async fn add(&self, record: &TxtRecord) -> Result<(), DnsError> {
        match &self.provider {
            Provider::Updates(updates) => updates.add(&self.lookup, record).await,
            Provider::Api(api) => api.add(&self.lookup, record).await,
            Provider::Exec(program) => program.run("present", record).await,
        }
    }

    /// Removes a record. A missing one is not an error.
    pub(super) async fn remove(&self, record: &TxtRecord) -> Result<(), DnsError> {
        match &self.provider {
            Provider::Updates(updates) => updates.remove(&self.lookup, record).await,
            Provider::Api(api) => api.remove(&self.lookup, record).await,
            Provider::Exec(program) => program.run("cleanup", record).await,
        }
    }

    /// Whether one name of this provider can hold several values at a time, as a wildcard beside its parent needs.
    pub(super) fn holds_several(&self) -> bool {
        !matches!(&self.provider, Provider::Api(api) if api.holds_one())
    }

    /// Waits until every name server of the zone shows all the records. `tell` is called if none of them answers.
    pub(super) async fn visible(&self, records: &[TxtRecord], tell: &dyn Fn(&str)) -> Result<(), DnsError> {
        let until = Instant::now() + WAITS.visible;
        for record in records {
            let Some(name) = lookup::name(&record.name) else { continue };
            let servers = match self.asked.as_slice() {
                [] => self.lookup.servers_of(&name).await.unwrap_or_default(),
                asked => asked.to_vec(),
            };
            shown_by(&servers, record, &WAITS, until, tell).await?;
        }
        Ok(())
    }
}

/// Waits until each of the servers that answers shows the record.
async fn shown_by(
    servers: &[SocketAddr],
    record: &TxtRecord,
    waits: &Waits,
    until: Instant,
    tell: &dyn Fn(&str),
) -> Result<(), DnsError> {
    let Some(name) = lookup::name(&record.name) else { return Ok(()) };
    let (mut pause, longest) = waits.pauses;
    loop {
        let (mut missing, mut answers) = (None, 0);
        for server in servers {
            // The CA does not get an answer from a server that is down either.
            let Ok(texts) = lookup::texts(*server, &name).await else { continue };
            answers += 1;
            if !texts.iter().any(|text| *text == record.value.as_bytes()) {
                missing = Some(*server);
            }
        }
        match missing {
            None if answers > 0 => return Ok(()),
            None => {
                let (name, seconds) = (&record.name, waits.blind.as_secs());
                tell(&format!("no name server of {name} answers here: waiting {seconds} s"));
                sleep(waits.blind).await;
                return Ok(());
            }
            Some(server) if Instant::now() + pause > until => {
                let (name, seconds, ip) = (&record.name, waits.visible.as_secs(), server.ip());
                return Err(DnsError::Invisible(format!(
                    "the name server {ip} does not show the TXT record of {name} after {seconds} s"
                )));
            }
            Some(_) => {}
        }
        sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    const QUICK: Waits = Waits {
        visible: Duration::from_millis(1_500),
        pauses: (Duration::from_millis(10), Duration::from_millis(50)),
        blind: Duration::from_millis(300),
    };

    /// A name server that shows the record `x` from its `from`th answer on.
    fn server(from: usize) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 512];
            for answers in 1.. {
                let Ok((length, client)) = socket.recv_from(&mut bytes) else { return };
                let mut answer = bytes[..length].to_vec();
                (answer[2], answer[3]) = (0x84, 0);
                if answers >= from {
                    answer[7] = 1;
                    answer.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 0, 0, 2, 1, b'x']);
                }
                let _ = socket.send_to(&answer, client);
            }
        });
        address
    }

    async fn waited(servers: &[SocketAddr]) -> (Result<(), DnsError>, Vec<String>, Duration) {
        let record = TxtRecord { name: "_acme-challenge.a.test".to_owned(), value: "x".to_owned() };
        let said = std::sync::Mutex::new(Vec::new());
        let (begin, until) = (Instant::now(), Instant::now() + QUICK.visible);
        let tell = |what: &str| said.lock().unwrap().push(what.to_owned());
        let result = shown_by(servers, &record, &QUICK, until, &tell).await;
        let said = said.lock().unwrap().clone();
        (result, said, begin.elapsed())
    }

    #[tokio::test]
    async fn a_record_is_waited_for_until_every_server_that_answers_shows_it() {
        for servers in
            [&[server(1)][..], &[server(1), server(5)], &[server(5), "127.0.0.1:1".parse().unwrap()]]
        {
            assert_eq!(waited(servers).await.0, Ok(()));
        }
        let (never, late) = (server(usize::MAX), server(1));
        let (result, said, time) = waited(&[late, never]).await;
        let error = result.unwrap_err();
        assert!(
            matches!(&error, DnsError::Invisible(text) if text.contains("_acme-challenge.a.test")),
            "{error}"
        );
        assert!(said.is_empty() && time >= QUICK.visible / 2, "{said:?} {time:?}");
    }

    #[tokio::test]
    async fn where_no_server_can_be_asked_a_fixed_time_is_waited_and_told() {
        for servers in [&[][..], &["127.0.0.1:1".parse().unwrap()]] {
            let (result, said, time) = waited(servers).await;
            assert_eq!(result, Ok(()));
            assert!(
                said.len() == 1 && said[0].contains("no name server") && time >= QUICK.blind,
                "{said:?} {time:?}"
            );
        }
    }
}
