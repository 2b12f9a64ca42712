//! `rfc2136`: dynamic updates (RFC 2136) that are signed with TSIG (RFC 8945), as bind9, Knot and PowerDNS accept them.

use std::net::SocketAddr;
use std::path::Path;
use std::str::FromStr as _;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::base::iana::{Class, Opcode, Rcode};
use domain::base::{Message, MessageBuilder, Rtype, Ttl};
use domain::rdata::Txt;
use domain::rdata::tsig::Time48;
use domain::tsig::{Algorithm, ClientTransaction, Key, KeyName, ValidationError};
use zeroize::Zeroizing;

use super::credentials::{self, Checked};
use super::error::DnsError;
use super::lookup::{self, Lookup, Name, TTL_S};
use crate::acme::state::TxtRecord;
use crate::toml_file::{Keys, Wrong};

/// What tsig-keygen makes unless told otherwise.
const USUAL_ALGORITHM: &str = "hmac-sha256";

/// The file of credentials.
pub(super) struct Credentials {
    /// Address of the primary server of the zone.
    server: String,
    key_name: String,
    algorithm: String,
    /// In base64, as `tsig-keygen` prints it.
    secret: Zeroizing<String>,
    /// The zone; none: it is looked up.
    zone: Option<String>,
}

impl Checked for Credentials {
    const EXAMPLE: &'static str = "server = \"192.0.2.1:53\", key_name = \"sanedge\", algorithm = \"hmac-sha256\" and secret = \"…\", as tsig-keygen prints them";

    fn of(keys: &mut Keys<'_>) -> Result<Self, Wrong> {
        Ok(Self {
            server: keys.text("server")?.to_owned(),
            key_name: keys.text("key_name")?.to_owned(),
            algorithm: keys.text_if("algorithm")?.unwrap_or(USUAL_ALGORITHM).to_owned(),
            secret: Zeroizing::new(keys.text("secret")?.to_owned()),
            zone: keys.text_if("zone")?.map(str::to_owned),
        })
    }
}

/// The zone that the file of credentials names.
pub(super) fn zone_of_credentials(file: &Path) -> Result<Option<String>, DnsError> {
    let zone = Updates::new(credentials::read(file)?)?.zone;
    Ok(zone.map(|zone| lookup::text(&zone)))
}

/// A server with its key.
pub(super) struct Updates {
    server: SocketAddr,
    key: Key,
    zone: Option<Name>,
}

impl Updates {
    pub(super) fn new(read: (Credentials, &Path)) -> Result<Self, DnsError> {
        let (credentials, file) = read;
        let bad = |key: &str, expected: &str| super::credentials::bad(file, key, expected);
        let server = &credentials.server;
        let server = server.parse().ok().or_else(|| Some(SocketAddr::new(server.parse().ok()?, 53)));
        let server = server.ok_or_else(|| bad("server", "an address, with or without a port"))?;
        let algorithm = Algorithm::from_str(&credentials.algorithm)
            .map_err(|_| bad("algorithm", "hmac-sha256, hmac-sha384, hmac-sha512 or hmac-sha1"))?;
        let name = KeyName::from_str(&credentials.key_name)
            .map_err(|_| bad("key_name", "the name of a key, as `key \"sanedge\"` has it"))?;
        let secret = STANDARD.decode(credentials.secret.trim()).map(Zeroizing::new);
        let secret = secret.map_err(|_| bad("secret", "base64, as tsig-keygen prints it"))?;
        let key = Key::new(algorithm, &secret, name, None, None);
        let key = key.map_err(|_| bad("secret", "a key for the algorithm"))?;
        let zone = credentials.zone.map(|zone| {
            lookup::name(&zone)
                .ok_or_else(|| bad("zone", "the name of the zone, for example \"recre.store\""))
        });
        Ok(Self { server, key, zone: zone.transpose()? })
    }

    pub(super) async fn add(&self, lookup: &Lookup, record: &TxtRecord) -> Result<(), DnsError> {
        self.update(lookup, record, Class::IN, TTL_S).await
    }

    /// RFC 2136 §2.5.4: of class NONE, a record is removed.
    pub(super) async fn remove(&self, lookup: &Lookup, record: &TxtRecord) -> Result<(), DnsError> {
        self.update(lookup, record, Class::NONE, 0).await
    }

    async fn update(
        &self,
        lookup: &Lookup,
        record: &TxtRecord,
        class: Class,
        ttl_s: u32,
    ) -> Result<(), DnsError> {
        let wrong = |what: &str| DnsError::Failed(format!("{} {what}", record.name));
        let name = lookup::name(&record.name).ok_or_else(|| wrong("is not a valid DNS name"))?;
        let zone = match &self.zone {
            Some(zone) => zone.clone(),
            None => lookup.zone_of(&name).await?,
        };
        let text = Txt::<Vec<u8>>::build_from_slice(record.value.as_bytes());
        let text = text.map_err(|_| wrong("would hold a text that is too long"))?;
        let mut message = MessageBuilder::new_vec();
        message.header_mut().set_id(lookup::id());
        message.header_mut().set_opcode(Opcode::UPDATE);
        let long = |_| wrong("is too long for an update");
        let mut message = message.question();
        message.push((&zone, Rtype::SOA)).map_err(long)?;
        let mut message = message.authority();
        message.push((&name, class, Ttl::from_secs(ttl_s), text)).map_err(long)?;
        let mut message = message.additional();
        let signed = ClientTransaction::request(&self.key, &mut message, now()).map_err(long)?;
        let failed = |what: String| DnsError::Failed(format!("the name server {} {what}", self.server));
        let sent = message.finish();
        let mut answer = lookup::exchange(self.server, &sent).await.map_err(failed)?;
        let verified = signed.answer(&mut answer, now());
        self.outcome(&answer, verified, &zone, &sent)
    }

    fn outcome(
        &self,
        answer: &Message<Vec<u8>>,
        verified: Result<(), ValidationError>,
        zone: &Name,
        sent: &[u8],
    ) -> Result<(), DnsError> {
        let (server, key) = (self.server, self.key.name());
        let refused = |what: String| Err(DnsError::Refused(format!("the name server {server} {what}")));
        let code = answer.header().rcode();
        match verified {
            Ok(()) => {}
            Err(ValidationError::ServerBadKey) => {
                return refused(format!("does not know the key {key}, or has it with another algorithm"));
            }
            Err(ValidationError::ServerBadSig | ValidationError::BadSig) => {
                return refused(format!("has another secret for the key {key}"));
            }
            Err(ValidationError::ServerBadTime { .. } | ValidationError::BadTime) => {
                return refused(
                    "has a clock that differs by more than 5 minutes from this machine's".to_owned(),
                );
            }
            // A refusal may come without a signature: forging one gains an attacker nothing.
            Err(ValidationError::ServerUnsigned) if code != Rcode::NOERROR => {}
            Err(error) => {
                return Err(DnsError::Failed(format!(
                    "the answer of the name server {server} is not signed as it should be: {error}"
                )));
            }
        }
        if Some(answer.header().id().to_be_bytes().as_slice()) != sent.get(..2) || !answer.header().qr() {
            return Err(DnsError::Failed(format!("the name server {server} answered another message")));
        }
        match code {
            Rcode::NOERROR => Ok(()),
            Rcode::REFUSED => refused(format!(
                "does not let the key {key} change TXT records there (REFUSED): see `update-policy` or `allow-update` of the zone {zone}"
            )),
            Rcode::NOTAUTH | Rcode::NOTZONE => Err(DnsError::NoZone(format!(
                "the name server {server} is not the primary server of the zone {zone} ({code})"
            ))),
            code => {
                Err(DnsError::Failed(format!("the name server {server} answered the update with {code}")))
            }
        }
    }
}

/// Seconds since 1970; the 48 bits of TSIG end in eight million years.
fn now() -> Time48 {
    const MAX: u64 = (1 << 48) - 1;
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Time48::from_u64(since.as_secs().min(MAX))
}
