//! One query to a chosen name server (RFC 1035), to compare with the system's resolver.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;

use super::connection::Deadline;
use crate::names::DnsName;

/// The default name server: Quad9.
pub(super) const PUBLIC: IpAddr = IpAddr::V4(Ipv4Addr::new(9, 9, 9, 9));
/// Limit for one answer.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// Longest answer over UDP without extensions (RFC 1035 §4.2.1).
const MESSAGE_BYTES_MAX: usize = 512;
/// Records of one answer that are read.
pub(crate) const RECORDS_MAX: usize = 32;
const HEADER_BYTES: usize = 12;
pub(crate) const A: u16 = 1;
pub(crate) const AAAA: u16 = 28;
const CLASS_IN: u16 = 1;
/// Name error: the name does not exist (RFC 1035 §4.1.1).
const NXDOMAIN: u8 = 3;

/// The addresses of a name from `server`; empty: it answers that there are none. `None`: no usable answer.
pub(super) async fn ask(server: IpAddr, name: &DnsName, deadline: Deadline) -> Option<Vec<IpAddr>> {
    let (v4, v6) = tokio::join!(one(server, name, A, deadline), one(server, name, AAAA, deadline));
    match (v4, v6) {
        (None, None) => None,
        (v4, v6) => Some(v4.into_iter().chain(v6).flatten().collect()),
    }
}

async fn one(server: IpAddr, name: &DnsName, kind: u16, deadline: Deadline) -> Option<Vec<IpAddr>> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let id = kind ^ u16::try_from(std::process::id() & 0xffff).unwrap_or_default();
    let work = async {
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await.ok()?;
        socket.connect(SocketAddr::new(server, 53)).await.ok()?;
        socket.send(&question(id, name.as_str(), kind)).await.ok()?;
        let mut message = [0; MESSAGE_BYTES_MAX];
        let length = socket.recv(&mut message).await.ok()?;
        read(message.get(..length)?, id, kind)
    };
    deadline.wait(ANSWER_TIME, work).await.ok()?
}

/// One query, recursion desired.
fn question(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap_or_default());
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend(CLASS_IN.to_be_bytes());
    message
}

/// The addresses in the answer to the query with this id; `None` if it is another message, or the server failed.
pub(crate) fn read(message: &[u8], id: u16, kind: u16) -> Option<Vec<IpAddr>> {
    let short = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    let (is_answer, code) = (message.get(2)? & 0x80 != 0, message.get(3)? & 0x0f);
    if short(0)? != id || !is_answer || !matches!(code, 0 | NXDOMAIN) {
        return None;
    }
    let mut at = HEADER_BYTES;
    for _ in 0..short(4)? {
        at = behind_name(message, at)? + 4;
    }
    let mut found = Vec::new();
    for _ in 0..usize::from(short(6)?).min(RECORDS_MAX) {
        at = behind_name(message, at)?;
        let (of, length) = (short(at)?, usize::from(short(at + 8)?));
        let data = message.get(at + 10..at + 10 + length)?;
        if of == kind {
            found.extend(address(data));
        }
        at += 10 + length;
    }
    Some(found)
}

fn address(data: &[u8]) -> Option<IpAddr> {
    match data.len() {
        4 => <[u8; 4]>::try_from(data).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(data).ok().map(IpAddr::from),
        _ => None,
    }
}

/// Where a name ends: after its root label, or after the pointer to the rest of it (RFC 1035 §4.1.4).
fn behind_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u8, records: &[(u16, &[u8])]) -> Vec<u8> {
        let mut message = question(7, "socket.recre.store", A);
        message[2] |= 0x80;
        message[3] = code;
        message[7] = u8::try_from(records.len()).unwrap();
        for (kind, data) in records {
            message.extend([0xc0, 12]);
            message.extend(kind.to_be_bytes());
            message.extend([0, 1, 0, 0, 0, 60]);
            message.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            message.extend(*data);
        }
        message
    }

    #[test]
    fn addresses_are_read_past_other_records() {
        let cname: &[u8] = &[1, b'x', 0xc0, 12];
        let message = answer(0, &[(5, cname), (A, &[192, 168, 1, 5]), (A, &[9, 9, 9, 9])]);
        let both: Vec<IpAddr> = vec!["192.168.1.5".parse().unwrap(), "9.9.9.9".parse().unwrap()];
        assert_eq!(read(&message, 7, A), Some(both));
        assert_eq!(read(&message, 7, AAAA), Some(vec![]));
        assert_eq!(read(&message, 8, A), None, "an answer to somebody else");
        assert_eq!(read(&question(7, "a.test", A), 7, A), None, "a question");
        for cut in 0..message.len() {
            let _ = read(&message[..cut], 7, A);
        }
    }

    #[test]
    fn no_such_name_is_an_answer_and_a_failure_is_none() {
        assert_eq!(read(&answer(NXDOMAIN, &[]), 7, A), Some(vec![]));
        assert_eq!(read(&answer(2, &[]), 7, A), None);
    }
}
