//! A name server with zones of a test, over UDP and TCP, in the fewest bytes of RFC 1035.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};

const A: u16 = 1;
const NS: u16 = 2;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const CAA: u16 = 257;
const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;
/// Checking disabled (RFC 4035 §3.2.2).
const CD: u8 = 0x10;

#[derive(Default)]
struct Zones {
    zones: Vec<String>,
    texts: Vec<(String, String)>,
    aliases: Vec<(String, String)>,
    /// Of names that are not this machine; none: no such name.
    addresses: Vec<(String, Vec<IpAddr>)>,
    /// Flags, tag and value.
    caa: Vec<(String, u8, String, String)>,
    /// SERVFAIL; true: only where DNSSEC is checked.
    failing: Vec<(String, bool)>,
    /// Answers over UDP are cut to nothing: the client has to ask over TCP.
    cut: bool,
}

/// A server that says of every name that it is this machine; without a last dot, in small letters.
#[derive(Clone)]
pub struct NameServer {
    /// Where it listens, over UDP and TCP.
    pub address: SocketAddr,
    zones: Arc<Mutex<Zones>>,
}

impl NameServer {
    /// With these zones, all empty.
    pub fn with(zones: &[&str]) -> Self {
        Self::at("127.0.0.1:0", zones)
    }

    /// The same at an address of its own.
    pub fn at(address: &str, zones: &[&str]) -> Self {
        // The same port for both: another process may have one of them, then we try again.
        let (udp, tcp) = (0..100)
            .find_map(|_| {
                let tcp = TcpListener::bind(address).unwrap();
                UdpSocket::bind(tcp.local_addr().unwrap()).ok().map(|udp| (udp, tcp))
            })
            .unwrap();
        let known =
            Zones { zones: zones.iter().map(|zone| (*zone).to_owned()).collect(), ..Zones::default() };
        let server = Self { address: udp.local_addr().unwrap(), zones: Arc::new(Mutex::new(known)) };
        let (over_udp, over_tcp) = (server.clone(), server.clone());
        std::thread::spawn(move || {
            let mut bytes = [0; 1500];
            while let Ok((length, client)) = udp.recv_from(&mut bytes) {
                // Pebble asks for TXT, and never over TCP.
                let kind = question(&bytes[..length]).iter().rev().nth(2).copied();
                let cut = over_udp.zones.lock().unwrap().cut && kind == Some(SOA as u8);
                let mut answer = over_udp.answer(&bytes[..length]);
                if cut {
                    answer[2] |= 2;
                    answer[6..8].fill(0);
                    answer.truncate(12 + question(&bytes[..length]).len());
                }
                let _ = udp.send_to(&answer, client);
            }
        });
        std::thread::spawn(move || {
            for mut stream in tcp.incoming().flatten() {
                let mut length = [0; 2];
                let _ = stream.read_exact(&mut length);
                let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
                if stream.read_exact(&mut bytes).is_ok() && !bytes.is_empty() {
                    let answer = over_tcp.answer(&bytes);
                    let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
                    let _ = stream.write_all(&[&length, answer.as_slice()].concat());
                }
            }
        });
        server
    }

    /// From now on, no SOA record fits over UDP.
    pub fn cut(&self) {
        self.zones.lock().unwrap().cut = true;
    }

    /// `name` is an alias of `target`.
    pub fn alias(&self, name: &str, target: &str) {
        self.zones.lock().unwrap().aliases.push((name.to_owned(), target.to_owned()));
    }

    /// The addresses of a name that is not this machine; none: no such name.
    pub fn addresses(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        self.zones.lock().unwrap().addresses.push((name.to_owned(), addresses));
    }

    /// Takes the addresses of a name back.
    pub fn forget(&self, name: &str) {
        self.zones.lock().unwrap().addresses.retain(|(of, _)| of != name);
    }

    /// A CAA record.
    pub fn caa(&self, name: &str, flags: u8, tag: &str, value: &str) {
        let record = (name.to_owned(), flags, tag.to_owned(), value.to_owned());
        self.zones.lock().unwrap().caa.push(record);
    }

    /// From now on, questions about the name are answered with SERVFAIL; `checked`: unless they say that DNSSEC is not to be checked.
    pub fn fail(&self, name: &str, checked: bool) {
        self.zones.lock().unwrap().failing.push((name.to_owned(), checked));
    }

    /// Ends [`NameServer::fail`] for all names.
    pub fn recover(&self) {
        self.zones.lock().unwrap().failing.clear();
    }

    /// Adds a TXT record.
    pub fn add(&self, name: &str, text: &str) {
        self.zones.lock().unwrap().texts.push((name.to_owned(), text.to_owned()));
    }

    /// Removes the TXT records of `name` that `is_gone`.
    pub fn remove(&self, name: &str, is_gone: impl Fn(&str) -> bool) {
        self.zones.lock().unwrap().texts.retain(|(of, text)| of != name || !is_gone(text));
    }

    /// The TXT records of `name`.
    pub fn texts(&self, name: &str) -> Vec<String> {
        let zones = self.zones.lock().unwrap();
        zones.texts.iter().filter(|(of, _)| of == name).map(|(_, text)| text.clone()).collect()
    }

    /// All TXT records.
    pub fn all_texts(&self) -> Vec<(String, String)> {
        self.zones.lock().unwrap().texts.clone()
    }

    fn answer(&self, message: &[u8]) -> Vec<u8> {
        let question = question(message);
        let name = name(question);
        let kind = u16::from_be_bytes([question[question.len() - 4], question[question.len() - 3]]);
        let failing = |(of, checked): &(String, bool)| *of == name && (!checked || message[3] & CD == 0);
        let fails = self.zones.lock().unwrap().failing.iter().any(failing);
        let unknown = |(of, addresses): &(String, Vec<IpAddr>)| *of == name && addresses.is_empty();
        let is_unknown = self.zones.lock().unwrap().addresses.iter().any(unknown);
        let records = if fails { Vec::new() } else { self.records(&name, kind) };
        let code = if fails { SERVFAIL } else { NXDOMAIN * u8::from(is_unknown) };
        let mut answer = vec![message[0], message[1], 0x85, 0x80 | code, 0, 1, 0, 0, 0, 0, 0, 0];
        answer[7] = u8::try_from(records.len()).unwrap();
        answer.extend(question);
        for (owner, kind, data) in records {
            answer.extend(wire(&owner));
            answer.extend(kind.to_be_bytes());
            answer.extend([0, 1, 0, 0, 0, 0]);
            answer.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            answer.extend(data);
        }
        answer
    }

    fn records(&self, name: &str, kind: u16) -> Vec<(String, u16, Vec<u8>)> {
        let zones = self.zones.lock().unwrap();
        let alias = zones.aliases.iter().find(|(of, _)| of == name).map(|(_, target)| target.clone());
        let mut records = Vec::new();
        if let Some(target) = &alias {
            records.push((name.to_owned(), CNAME, wire(target)));
        }
        let at = alias.unwrap_or_else(|| name.to_owned());
        let addresses = zones.addresses.iter().find(|(of, _)| *of == at).map(|(_, addresses)| addresses);
        if let (Some(addresses), A | AAAA) = (addresses, kind) {
            records.extend(addresses.iter().filter_map(|ip| match ip {
                IpAddr::V4(ip) if kind == A => Some((at.clone(), A, ip.octets().to_vec())),
                IpAddr::V6(ip) if kind == AAAA => Some((at.clone(), AAAA, ip.octets().to_vec())),
                _ => None,
            }));
            return records;
        }
        match kind {
            CAA => {
                records.extend(zones.caa.iter().filter(|(of, ..)| *of == at).map(|(_, flags, tag, value)| {
                    let length = u8::try_from(tag.len()).unwrap();
                    (at.clone(), CAA, [&[*flags, length], tag.as_bytes(), value.as_bytes()].concat())
                }))
            }
            A => records.push((at, A, Ipv4Addr::LOCALHOST.octets().to_vec())),
            TXT => records.extend(zones.texts.iter().filter(|(of, _)| *of == at).map(|(_, text)| {
                let length = u8::try_from(text.len()).unwrap();
                (at.clone(), TXT, [&[length], text.as_bytes()].concat())
            })),
            SOA if zones.zones.contains(&at) => {
                records.push((at, SOA, [wire("ns.test"), wire("admin.test"), vec![0; 20]].concat()));
            }
            NS if zones.zones.contains(&at) => records.push((at, NS, wire("ns.test"))),
            _ => {}
        }
        records
    }
}

/// The first question: what follows it (EDNS) is not repeated.
fn question(message: &[u8]) -> &[u8] {
    let name = message[12..].iter().position(|byte| *byte == 0).unwrap() + 13;
    &message[12..name + 4]
}

fn name(question: &[u8]) -> String {
    let (mut at, mut labels) = (0, Vec::new());
    while question[at] != 0 {
        let end = at + 1 + usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..end]).to_ascii_lowercase());
        at = end;
    }
    labels.join(".")
}

fn wire(name: &str) -> Vec<u8> {
    let labels = name.split('.').flat_map(|label| {
        let length = u8::try_from(label.len()).unwrap();
        [&[length], label.as_bytes()].concat()
    });
    labels.chain([0]).collect()
}
