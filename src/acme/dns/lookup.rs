//! Queries to name servers: the target of aliases, the zone of a name, the zone's servers, and records.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::str::FromStr as _;
use std::time::Duration;

use domain::base::iana::Rcode;
use domain::base::{Message, MessageBuilder, Rtype, ToName as _};
use domain::rdata::{Caa, Cname, Ns, Soa, Txt};
use ring::rand::SecureRandom as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::error::DnsError;
use crate::excerpt::Excerpt;

/// A name in DNS.
pub(crate) type Name = domain::base::Name<Vec<u8>>;

/// TTL of a record in seconds: short, because the next order needs another value.
pub(super) const TTL_S: u32 = 60;
/// Limit for one answer over UDP, which is queried twice.
const UDP_TIME: Duration = Duration::from_secs(2);
/// Limit for one query over TCP.
const TCP_TIME: Duration = Duration::from_secs(10);
/// Longest answer over UDP without extensions (RFC 1035 §4.2.1).
const UDP_BYTES_MAX: usize = 512;
/// CNAMEs that are followed.
const ALIASES_MAX: usize = 8;
/// Name servers of one zone that are queried.
const SERVERS_MAX: usize = 8;
/// Servers of `/etc/resolv.conf` that are queried: as many as the C library uses.
const RESOLVERS_MAX: usize = 3;
const RESOLV_CONF: &str = "/etc/resolv.conf";
const PORT: u16 = 53;

/// Parses a name, with or without a last dot.
pub(crate) fn name(text: &str) -> Option<Name> {
    Name::from_str(text).ok()
}

/// Queries resolvers.
pub(crate) struct Lookup {
    resolvers: Vec<SocketAddr>,
}

impl Lookup {
    /// Queries `resolvers`, or the system's if that is empty.
    pub(crate) fn new(resolvers: &[SocketAddr]) -> Result<Self, String> {
        let resolvers = match resolvers {
            [] => of_system(Path::new(RESOLV_CONF)),
            resolvers => resolvers.to_vec(),
        };
        match resolvers.is_empty() {
            true => Err(format!(
                "{RESOLV_CONF} names no server: add `nameserver ADDRESS`, or set `resolvers` in [acme.dns]"
            )),
            false => Ok(Self { resolvers }),
        }
    }

    /// The target of the CNAMEs at a name (RFC 1034 §3.6.2); the name itself if there is none.
    pub(super) async fn end_of_aliases(&self, name: Name) -> Result<Name, DnsError> {
        let mut at = name;
        for _ in 0..ALIASES_MAX {
            let answer = self.ask(&at, Rtype::CNAME).await?;
            match alias(&answer, &at) {
                Some(next) => at = next,
                None => return Ok(at),
            }
        }
        Err(DnsError::Failed(format!("more than {ALIASES_MAX} CNAMEs follow each other to {at}")))
    }

    /// The zone that a name is in: the nearest name above it, or itself, that has a SOA record.
    pub(super) async fn zone_of(&self, name: &Name) -> Result<Name, DnsError> {
        for suffix in name.iter_suffixes() {
            let suffix = suffix.to_name::<Vec<u8>>();
            if suffix.is_root() {
                break;
            }
            let answer = self.ask(&suffix, Rtype::SOA).await?;
            let records = answer.answer().map(|section| section.limit_to::<Soa<_>>());
            let mut owners = records.into_iter().flatten().flatten().map(|record| *record.owner());
            if owners.any(|owner| owner == suffix) {
                return Ok(suffix);
            }
        }
        Err(DnsError::NoZone(format!(
            "no zone was found for {name}: DNS has no SOA record at this name or above it"
        )))
    }

    /// One address of each name server of the zone of a name.
    pub(super) async fn servers_of(&self, name: &Name) -> Result<Vec<SocketAddr>, DnsError> {
        let zone = self.zone_of(name).await?;
        let answer = self.ask(&zone, Rtype::NS).await?;
        let records = answer.answer().map(|section| section.limit_to::<Ns<_>>());
        let names = records.into_iter().flatten().flatten();
        let names: Vec<String> = names.map(|record| record.data().nsdname().to_string()).collect();
        let mut servers = Vec::new();
        for name in names.iter().take(SERVERS_MAX) {
            let found = timeout(TCP_TIME, tokio::net::lookup_host((name.as_str(), PORT))).await;
            servers.extend(found.ok().and_then(Result::ok).and_then(|mut addresses| addresses.next()));
        }
        Ok(servers)
    }

    /// The CAA records that apply to a name: its own, or those of the nearest name above it that has any (RFC 8659 §3).
    pub(crate) async fn caa(&self, name: &Name) -> Result<Vec<Issuer>, DnsError> {
        for suffix in name.iter_suffixes() {
            let suffix = suffix.to_name::<Vec<u8>>();
            if suffix.is_root() {
                break;
            }
            let answer = self.ask(&suffix, Rtype::CAA).await?;
            let records = answer.answer().map(|section| section.limit_to::<Caa<_>>());
            let records: Vec<Issuer> =
                records.into_iter().flatten().flatten().map(|r| issuer(r.data())).collect();
            if !records.is_empty() {
                return Ok(records);
            }
        }
        Ok(Vec::new())
    }

    /// Whether the resolver answers for a name only if DNSSEC is not checked.
    pub(crate) async fn is_bogus(&self, name: &Name) -> bool {
        matches!(self.ask(name, Rtype::A).await, Err(DnsError::Bogus(_)))
    }

    /// The answer of the first resolver that has one.
    async fn ask(&self, name: &Name, kind: Rtype) -> Result<Message<Vec<u8>>, DnsError> {
        let mut last = DnsError::Failed("no resolver is known".to_owned());
        for resolver in &self.resolvers {
            match ask(*resolver, name, kind).await {
                Ok(answer) => return Ok(answer),
                Err(DnsError::ServFail(_)) if asked(*resolver, name, kind, false).await.is_ok() => {
                    return Err(DnsError::Bogus(format!(
                        "the name server {resolver} answers SERVFAIL for {name}, and without checking DNSSEC it has an answer"
                    )));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// What a CAA record says (RFC 8659 §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issuer {
    /// A CA that does not know the tag must not issue.
    pub(crate) is_critical: bool,
    /// `issue`, `issuewild` and others, in small letters.
    pub(crate) tag: String,
    /// The CA's name, and parameters.
    pub(crate) value: String,
}

/// The flag of a CAA record whose tag must be known (RFC 8659 §4.1).
const CRITICAL: u8 = 0x80;

fn issuer<O: AsRef<[u8]>>(record: &Caa<O>) -> Issuer {
    Issuer {
        is_critical: record.flags().bits() & CRITICAL != 0,
        tag: record.tag().to_string().to_ascii_lowercase(),
        value: String::from_utf8_lossy(record.value().as_ref()).into_owned(),
    }
}

/// The TXT records of a name at one server.
pub(super) async fn texts(server: SocketAddr, name: &Name) -> Result<Vec<Vec<u8>>, DnsError> {
    let answer = ask(server, name, Rtype::TXT).await?;
    let records = answer.answer().map(|section| section.limit_to::<Txt<_>>());
    Ok(records.into_iter().flatten().flatten().map(|record| record.data().text()).collect())
}

/// The target of the CNAME whose owner is `name`.
fn alias(answer: &Message<Vec<u8>>, name: &Name) -> Option<Name> {
    let mut records = answer.answer().ok()?.limit_to::<Cname<_>>().flatten();
    let record = records.find(|record| record.owner() == name)?;
    Some(record.data().cname().to_name())
}

/// One query: over UDP, then over TCP if the answer is lost or truncated.
async fn ask(server: SocketAddr, name: &Name, kind: Rtype) -> Result<Message<Vec<u8>>, DnsError> {
    asked(server, name, kind, true).await
}

/// The same. Without `checks` the resolver does not check DNSSEC (the bit CD).
async fn asked(
    server: SocketAddr,
    name: &Name,
    kind: Rtype,
    checks: bool,
) -> Result<Message<Vec<u8>>, DnsError> {
    let failed = |what: String| DnsError::Failed(format!("the name server {server} {what}"));
    let question = question(name, kind, checks).ok_or_else(|| failed("cannot be asked".to_owned()))?;
    for _ in 0..2 {
        let answer = timeout(UDP_TIME, over_udp(server, &question)).await;
        match answer.ok().and_then(Result::ok).filter(|answer| is_answer(answer, &question)) {
            Some(answer) if answer.header().tc() => break,
            Some(answer) => return usable(answer, server, name),
            None => {}
        }
    }
    let answer = exchange(server, question.as_slice()).await.map_err(failed)?;
    match is_answer(&answer, &question) {
        true => usable(answer, server, name),
        false => Err(failed("answered another question".to_owned())),
    }
}

fn question(name: &Name, kind: Rtype, checks: bool) -> Option<Message<Vec<u8>>> {
    let mut message = MessageBuilder::new_vec();
    message.header_mut().set_id(id());
    message.header_mut().set_cd(!checks);
    message.header_mut().set_rd(true);
    let mut message = message.question();
    message.push((name, kind)).ok()?;
    Some(message.into_message())
}

/// The id of a message. Without random numbers, TCP still protects the answer.
pub(super) fn id() -> u16 {
    let mut bytes = [0; 2];
    let _ = ring::rand::SystemRandom::new().fill(&mut bytes);
    u16::from_be_bytes(bytes)
}

fn is_answer(answer: &Message<Vec<u8>>, question: &Message<Vec<u8>>) -> bool {
    answer.header().qr()
        && answer.header().id() == question.header().id()
        && answer.sole_question().ok() == question.sole_question().ok()
}

fn usable(answer: Message<Vec<u8>>, server: SocketAddr, name: &Name) -> Result<Message<Vec<u8>>, DnsError> {
    let said = |code: Rcode| format!("the name server {server} answered {code} for {name}");
    match answer.header().rcode() {
        Rcode::NOERROR | Rcode::NXDOMAIN => Ok(answer),
        Rcode::SERVFAIL => Err(DnsError::ServFail(said(Rcode::SERVFAIL))),
        code => Err(DnsError::Failed(said(code))),
    }
}

async fn over_udp(server: SocketAddr, question: &Message<Vec<u8>>) -> std::io::Result<Message<Vec<u8>>> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(server).await?;
    socket.send(question.as_slice()).await?;
    let mut bytes = vec![0; UDP_BYTES_MAX];
    let length = socket.recv(&mut bytes).await?;
    bytes.truncate(length);
    Message::from_octets(bytes).map_err(|_| std::io::ErrorKind::InvalidData.into())
}

/// One message and its answer over TCP (RFC 1035 §4.2.2).
///
/// # Errors
/// What went wrong, behind the name of the server.
pub(super) async fn exchange(server: SocketAddr, message: &[u8]) -> Result<Message<Vec<u8>>, String> {
    let work = async {
        let mut stream = TcpStream::connect(server).await?;
        let length = u16::try_from(message.len()).map_err(|_| std::io::ErrorKind::InvalidInput)?;
        stream.write_all(&[&length.to_be_bytes(), message].concat()).await?;
        let length = stream.read_u16().await?;
        let mut bytes = vec![0; usize::from(length)];
        stream.read_exact(&mut bytes).await?;
        Ok::<_, std::io::Error>(bytes)
    };
    let bytes = timeout(TCP_TIME, work)
        .await
        .map_err(|_| format!("gave no whole answer within {} s", TCP_TIME.as_secs()))?
        .map_err(|error| format!("cannot be asked: {error}"))?;
    Message::from_octets(bytes).map_err(|_| "answered what is no DNS message".to_owned())
}

/// The servers of a resolv.conf(5).
fn of_system(file: &Path) -> Vec<SocketAddr> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next())?;
        // A zone of a link-local address belongs to the C library.
        Some(SocketAddr::new(address.parse::<IpAddr>().ok()?, PORT))
    });
    servers.take(RESOLVERS_MAX).collect()
}

/// A name for a text, cut to what may be shown.
pub(super) fn shown(text: &str) -> String {
    Excerpt::of(text).into()
}

/// A name without the last dot.
pub(super) fn text(name: &Name) -> String {
    name.to_string().trim_end_matches('.').to_owned()
}
