//! From an address to an open port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::TcpStream;

use super::Stages;
use super::name::own_address;
use crate::doctor::certificate;
use crate::doctor::check::{Finding, Section};
use crate::doctor::client::time_up;
use crate::doctor::connection::CONNECT_TIME;
use crate::doctor::explain::{Code, Group};
use crate::doctor::home_network::{is_home, is_private};

/// How connecting to an address went.
struct Knock {
    address: SocketAddr,
    result: Result<Duration, Option<io::Error>>,
}

impl Stages<'_> {
    /// Every address that takes connections, the first of the resolver's first.
    pub(super) async fn port(&self, addresses: &[IpAddr], section: &mut Section) -> Option<Vec<SocketAddr>> {
        let port = self.target.port;
        let knocks = join_all(addresses.iter().map(|ip| self.knock(SocketAddr::new(*ip, port)))).await;
        let open: Vec<&Knock> = knocks.iter().filter(|knock| knock.result.is_ok()).collect();
        if open.is_empty() {
            if self.deadline.is_over() {
                section.found(time_up().seen("step", format!("port {port}")));
                return None;
            }
            let finding = self.closed(&knocks).await;
            section.found(finding);
            return None;
        }
        for knock in &open {
            let time = knock.result.as_ref().map(Duration::as_millis).unwrap_or_default();
            section.passed(Group::Port, format!("{} is open ({time} ms)", knock.address));
        }
        knocks.iter().filter(|knock| knock.result.is_err()).for_each(|dead| dead_address(dead, section));
        Some(open.iter().map(|knock| knock.address).collect())
    }

    async fn knock(&self, address: SocketAddr) -> Knock {
        let begin = tokio::time::Instant::now();
        let result = match self.deadline.wait(CONNECT_TIME, TcpStream::connect(address)).await {
            Ok(Ok(_)) => Ok(begin.elapsed()),
            Ok(Err(error)) => Err(Some(error)),
            Err(_) => Err(None),
        };
        Knock { address, result }
    }

    async fn closed(&self, knocks: &[Knock]) -> Finding {
        let port = self.target.port;
        let seen = knocks.iter().map(|knock| format!("{}: {}", knock.address, describe(knock)));
        let seen = seen.collect::<Vec<_>>().join("; ");
        if let Some(finding) = self.hairpin(knocks).await {
            return finding.seen("seen", seen);
        }
        closed_port(port, &knocks.iter().map(kind).collect::<Vec<_>>()).seen("seen", seen)
    }

    /// Does the server answer on this machine, by another address than the one in DNS?
    async fn hairpin(&self, knocks: &[Knock]) -> Option<Finding> {
        let public = |knock: &Knock| !knock.address.ip().is_loopback() && !is_private(&knock.address.ip());
        if !self.target.tls || !knocks.iter().all(public) {
            return None;
        }
        let mut places = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
        places.extend(own_address());
        let answers = join_all(places.into_iter().map(|ip| self.answers(ip))).await;
        let address = answers.into_iter().flatten().next()?;
        let text = format!(
            "the server answers at {address} with the right certificate, and its public name does not reach it from here: check the router's port forwarding and NAT loopback"
        );
        Some(Finding::new(Code::PortHairpin, text))
    }

    /// The address, where the right server answers there.
    async fn answers(&self, ip: IpAddr) -> Option<SocketAddr> {
        let address = SocketAddr::new(ip, self.target.port);
        let (connector, client) = self.tls_connector(address)?;
        connector.open().await.ok()?;
        certificate::acceptable(&self.target.host, &client.shown().chain, self.trust, self.now)
            .then_some(address)
    }

    /// What cannot be seen from inside.
    pub(super) fn outside(&self, section: &mut Section) {
        if !is_home(&self.target.host) && self.target.tls {
            let target = self.target;
            section.unknown(
                Group::Port,
                format!(
                    "this run cannot show whether it can be reached from the internet: open {}{}?EIO=4&transport=polling on a phone off Wi-Fi",
                    target.url(), target.path
                ),
            );
        }
    }
}

fn kind(knock: &Knock) -> io::ErrorKind {
    match &knock.result {
        Err(Some(error)) => error.kind(),
        _ => io::ErrorKind::TimedOut,
    }
}

/// None of the addresses takes connections: by what each of them says.
fn closed_port(port: u16, kinds: &[io::ErrorKind]) -> Finding {
    let any = |wanted| kinds.contains(&wanted);
    if any(io::ErrorKind::ConnectionRefused) {
        let text = format!(
            "nothing listens on port {port}: start the server (sanedge, nginx, the app), or check where the router forwards the port"
        );
        Finding::new(Code::PortRefused, text)
    } else if any(io::ErrorKind::ConnectionReset) || any(io::ErrorKind::ConnectionAborted) {
        let text = format!(
            "port {port} accepts the connection and resets it at once: nothing listens behind it (a container whose app listens on 127.0.0.1 only, or a forwarded port without a server)"
        );
        Finding::new(Code::PortCloses, text)
    } else if any(io::ErrorKind::TimedOut) {
        let text = format!(
            "port {port} does not answer at all: forward it in the router, and allow it in the firewall"
        );
        Finding::new(Code::PortFiltered, text)
    } else {
        let text = "this address is unreachable from here: is the machine on, and is this still its address?";
        Finding::new(Code::PortUnreachable, text)
    }
}

fn describe(knock: &Knock) -> String {
    match &knock.result {
        Ok(_) => "open".to_owned(),
        Err(Some(error)) => error.to_string(),
        Err(None) => "no answer within 3.5 s".to_owned(),
    }
}

/// One address of several does not answer. A machine without IPv6 cannot know about those.
fn dead_address(dead: &Knock, section: &mut Section) {
    let ip = dead.address.ip();
    let no_route = matches!(&dead.result, Err(Some(error)) if matches!(error.kind(), io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable));
    if ip.is_ipv6() && no_route {
        section
            .unknown(Group::Port, format!("the IPv6 address {ip} was not tried: this machine has no IPv6"));
        return;
    }
    let finding = if ip.is_ipv6() {
        let text = format!(
            "the IPv6 address {ip} does not answer while IPv4 does: open the port for IPv6, or remove the AAAA record"
        );
        Finding::new(Code::NameIpv6Dead, text).seen("IPv6", describe(dead))
    } else {
        let text = format!(
            "the address {ip} does not answer while another of the name does: remove it from the name, or start the server there"
        );
        Finding::new(Code::NameAddressDead, text).seen("IPv4", describe(dead))
    };
    section.found(finding);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_be_closed_has_its_cause() {
        use io::ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, TimedOut};
        for (kinds, code) in [
            (&[ConnectionRefused, TimedOut][..], Code::PortRefused),
            (&[ConnectionReset], Code::PortCloses),
            (&[HostUnreachable, TimedOut], Code::PortFiltered),
            (&[HostUnreachable], Code::PortUnreachable),
        ] {
            assert_eq!(closed_port(443, kinds).code, code, "{kinds:?}");
        }
    }
}
