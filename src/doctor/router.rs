//! Asks the router for its public address, and checks whether DNS is intercepted on the way. One query each.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::connection::Deadline;
use super::dns;
use crate::names::DnsName;

/// Limit for the router's answer; it is one hop away.
const ANSWER_TIME: Duration = Duration::from_millis(700);
/// The port of NAT-PMP (RFC 6886 §3.1).
const PORT: u16 = 5351;
/// Version 0, opcode 0: the router's external address (RFC 6886 §3.2).
const QUESTION: [u8; 2] = [0, 0];
/// The kernel's IPv4 routes.
const ROUTES: &str = "/proc/net/route";
/// A bit of its flags: the route has a gateway.
const GATEWAY: u16 = 2;
/// An address for documentation (RFC 5737), which no server has.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 53));

/// What is known of the network's connection to the internet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WayOut {
    /// The router's own address at the provider.
    pub(super) wan: Option<Ipv4Addr>,
    /// A query to an address without a server was answered: DNS is intercepted.
    pub(super) is_intercepted: bool,
}

/// Asks the router, and sends a query about `name` to an address without a name server.
pub(super) async fn way_out(name: &DnsName, deadline: Deadline) -> WayOut {
    let gateway = std::fs::read_to_string(ROUTES).ok().and_then(|table| gateway(&table));
    let wan = async { wan(gateway?, deadline).await };
    let (wan, answer) = tokio::join!(wan, dns::ask(NOBODY, name, deadline));
    WayOut { wan, is_intercepted: answer.is_some() }
}

async fn wan(gateway: Ipv4Addr, deadline: Deadline) -> Option<Ipv4Addr> {
    let work = async {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        socket.set_nonblocking(true).ok()?;
        let socket = tokio::net::UdpSocket::from_std(socket).ok()?;
        socket.connect(SocketAddr::from((gateway, PORT))).await.ok()?;
        socket.send(&QUESTION).await.ok()?;
        let mut bytes = [0; 64];
        let length = socket.recv(&mut bytes).await.ok()?;
        external(bytes.get(..length)?)
    };
    deadline.wait(ANSWER_TIME, work).await.ok()?
}

/// The address in an answer (RFC 6886 §3.2): version, opcode plus 128, a result of 0, four bytes of time, the address.
fn external(answer: &[u8]) -> Option<Ipv4Addr> {
    let [0, 128, 0, 0, _, _, _, _, a, b, c, d] = answer else { return None };
    Some(Ipv4Addr::new(*a, *b, *c, *d)).filter(|address| !address.is_unspecified())
}

/// The gateway of the default route; the kernel prints addresses as words in the machine's byte order.
fn gateway(table: &str) -> Option<Ipv4Addr> {
    let one = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let flags = u16::from_str_radix(words.get(3)?, 16).ok()?;
        let is_default = *words.get(1)? == "00000000" && *words.get(7)? == "00000000" && flags & GATEWAY != 0;
        let address = u32::from_str_radix(words.get(2)?, 16).ok()?;
        is_default.then(|| Ipv4Addr::from(address.to_ne_bytes()))
    };
    table.lines().skip(1).find_map(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_the_router_is_read_from_a_whole_answer_alone() {
        let good = [0, 128, 0, 0, 0, 0, 1, 2, 100, 64, 3, 2];
        assert_eq!(external(&good), Some(Ipv4Addr::new(100, 64, 3, 2)));
        for cut in 0..good.len() {
            assert_eq!(external(&good[..cut]), None);
        }
        for (at, byte) in [(0, 2), (1, 0), (3, 3)] {
            let mut bad = good;
            bad[at] = byte;
            assert_eq!(external(&bad), None, "{at}");
        }
        assert_eq!(external(&[0, 128, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0]), None, "not connected");
    }

    #[test]
    fn the_gateway_is_that_of_the_default_route() {
        let word = |ip: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(ip));
        let head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
        let none = word([0; 4]);
        let router = word([192, 168, 1, 1]);
        let line = |to: &str, by: &str, flags: &str, mask: &str| {
            format!("eth0\t{to}\t{by}\t{flags}\t0\t0\t0\t{mask}\t0\t0\t0\n")
        };
        let local = line(&word([192, 168, 1, 0]), &none, "0001", &word([255, 255, 255, 0]));
        let default = line(&none, &router, "0003", &none);
        assert_eq!(gateway(&format!("{head}{local}{default}")), Some(Ipv4Addr::new(192, 168, 1, 1)));
        assert_eq!(gateway(&format!("{head}{local}")), None);
        assert_eq!(
            gateway(&format!("{head}{}", line(&none, &none, "0001", &none))),
            None,
            "a line without a gateway"
        );
        assert_eq!(gateway("x\nshort\n"), None);
    }
}
