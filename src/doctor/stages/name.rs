//! From a name to addresses, and what those addresses say.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use super::{RESOLVE_TIME, Stages};
use crate::acme::dns::lookup::{self, Lookup};
use crate::doctor::check::{Finding, Section};
use crate::doctor::client::time_up;
use crate::doctor::connection::Late;
use crate::doctor::dns;
use crate::doctor::explain::{Code, Group};
use crate::doctor::home_network::{is_home, is_private};
use crate::names::Host;

/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 8;

impl Stages<'_> {
    pub(in crate::doctor) async fn name(&self, section: &mut Section) -> Option<Vec<IpAddr>> {
        let host = &self.target.host;
        let given: Vec<IpAddr> = self
            .options
            .resolve
            .iter()
            .filter(|(name, _)| name == host)
            .map(|(_, address)| *address)
            .collect();
        if let Host::Ip(address) = host {
            return Some(vec![*address]);
        }
        if !given.is_empty() {
            section.passed(Group::Name, format!("{} by --resolve", shown(&given)));
            return Some(given);
        }
        let looked = tokio::net::lookup_host((host.to_string(), self.target.port));
        let found = match self.deadline.wait(RESOLVE_TIME, looked).await {
            Ok(Ok(found)) => found.map(|address| address.ip().to_canonical()),
            Ok(Err(error)) => return self.no_name(&error.to_string(), section).await,
            Err(Late::Step) => return self.no_name("no answer within 4 s: Try again", section).await,
            Err(Late::Run) => {
                section.found(time_up().seen("step", "the address of the name"));
                return None;
            }
        };
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in found {
            if !addresses.contains(&address) && addresses.len() < ADDRESSES_MAX {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            return self.no_name("no address", section).await;
        }
        let usable = self.judge_addresses(&addresses, section);
        if usable && self.target.here {
            compare(&addresses, &own_addresses(), section);
        }
        self.compare_dns(&addresses, section).await;
        usable.then_some(addresses)
    }

    async fn no_name(&self, error: &str, section: &mut Section) -> Option<Vec<IpAddr>> {
        let host = &self.target.host;
        let passing = ["Temporary failure", "Try again", "try again"].iter().any(|text| error.contains(text));
        let online = own_address().is_some();
        let server = self.options.dns.unwrap_or(dns::PUBLIC);
        let public = if online { self.ask(server).await } else { None };
        let said = match &public {
            None => "gives no answer either".to_owned(),
            Some(addresses) if addresses.is_empty() => "has no address for it".to_owned(),
            Some(addresses) => format!("answers {}", shown(addresses)),
        };
        let is_bogus = passing && online && public.is_none() && self.is_bogus().await;
        let finding = match (passing, public.as_deref()) {
            _ if is_bogus => Finding::new(
                Code::NameDnssec,
                format!(
                    "`{host}` exists, and resolvers refuse it because its DNSSEC signatures do not verify"
                ),
            ),
            _ if !online => Finding::new(
                Code::NameOffline,
                format!("this machine is offline, so `{host}` cannot be checked: connect it to the network"),
            ),
            (false, Some(addresses @ [_, ..])) => self.hidden(server, addresses),
            (true, _) => Finding::new(
                Code::NameResolver,
                format!(
                    "the name server of this machine gives no answer for `{host}`: try another (nslookup {host} 9.9.9.9)"
                ),
            ),
            (false, _) => Finding::new(
                Code::NameUnknown,
                format!("`{host}` does not exist in DNS: create an A record for it, or check the spelling"),
            ),
        };
        let finding = finding.seen("resolver", error);
        section.found(if online {
            finding.seen("also asked", format!("{server}, which {said}"))
        } else {
            finding
        });
        None
    }

    async fn ask(&self, server: IpAddr) -> Option<Vec<IpAddr>> {
        match &self.target.host {
            Host::Dns(name) => dns::ask(server, name, self.deadline).await,
            Host::Ip(_) => None,
        }
    }

    /// Is there an answer only where DNSSEC is not checked?
    async fn is_bogus(&self) -> bool {
        let (Some(name), Ok(lookup)) = (lookup::name(&self.target.host.to_string()), Lookup::new(&[])) else {
            return false;
        };
        self.deadline.wait(RESOLVE_TIME, lookup.is_bogus(&name)).await == Ok(true)
    }

    /// The world knows the name, and the resolver of this network says that it does not exist.
    fn hidden(&self, server: IpAddr, addresses: &[IpAddr]) -> Finding {
        let (host, all) = (&self.target.host, shown(addresses));
        let text = if addresses.iter().all(|ip| is_private(ip) || ip.is_loopback()) {
            format!(
                "{server} resolves `{host}` to the private address {all}, and the name server of this network hides it (protection against DNS rebinding): allow the name there"
            )
        } else {
            format!(
                "`{host}` exists ({server} answers {all}), but the name server of this network says that it does not: it blocks the name, or has cached an old answer"
            )
        };
        Finding::new(Code::NameHidden, text)
    }

    /// On request: does another name server say the same?
    async fn compare_dns(&self, addresses: &[IpAddr], section: &mut Section) {
        let Some(server) = self.options.dns else { return };
        match self.ask(server).await {
            None => section.unknown(Group::Name, format!("{server} gives no answer")),
            Some(others) if others.iter().all(|ip| addresses.contains(ip)) && !others.is_empty() => {
                section.passed(Group::Name, format!("{server} says the same"));
            }
            Some(others) => section.unknown(
                Group::Name,
                format!(
                    "{server} answers {}, and the resolver of this machine {}: this is right if your router's DNS gives the address at home",
                    if others.is_empty() { "that there is no address".to_owned() } else { shown(&others) },
                    shown(addresses)
                ),
            ),
        }
    }

    /// False where nothing can be tried at these addresses.
    fn judge_addresses(&self, addresses: &[IpAddr], section: &mut Section) -> bool {
        let host = &self.target.host;
        let all = shown(addresses);
        let about = |code, text: String| Finding::new(code, text).seen("addresses", all.clone());
        if addresses.iter().all(unusable) {
            let text = format!(
                "`{host}` resolves to {all}, which cannot be a server's address: put the right one into the record"
            );
            section.found(about(Code::NameUnusable, text));
            return false;
        }
        let at_home = is_home(host);
        let finding = if addresses.iter().any(IpAddr::is_loopback) && !at_home {
            let text = format!(
                "`{host}` resolves to {all}, this machine itself, so no other machine finds the server"
            );
            Some(about(Code::NameLoopback, text))
        } else if addresses.iter().any(is_cgnat) {
            let text = format!(
                "`{host}` resolves to {all}, an address that your provider shares among customers and that cannot be reached \
                    from outside"
            );
            Some(about(Code::NameCgnat, text))
        } else if addresses.iter().any(is_private) && !at_home {
            let text = format!(
                "`{host}` resolves to the private address {all}: right at home, unreachable from the internet"
            );
            Some(about(Code::NamePrivate, text))
        } else {
            None
        };
        match finding {
            Some(finding) => section.found(finding),
            None => section.passed(Group::Name, all),
        }
        true
    }
}

/// The address by which this machine would go out; `None`: it is offline. Nothing is sent.
pub(super) fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // A public address: only a default route leads there.
    socket.connect((Ipv4Addr::new(9, 9, 9, 9), 53)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified()).then_some(address)
}

pub(super) fn shown(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Where the edge should run on this machine: does the name lead here? Behind a router nobody can say, so it is a hint.
fn compare(addresses: &[IpAddr], own: &[IpAddr], section: &mut Section) {
    let elsewhere = |ip: &&IpAddr| !own.contains(ip) && !ip.is_loopback();
    let foreign: Vec<IpAddr> = addresses.iter().filter(elsewhere).copied().collect();
    let (v6, v4): (Vec<IpAddr>, Vec<IpAddr>) = foreign.into_iter().partition(IpAddr::is_ipv6);
    let reachable: Vec<IpAddr> = own.iter().filter(|ip| !ip.is_loopback()).copied().collect();
    let here = if reachable.is_empty() { "none".to_owned() } else { shown(&reachable) };
    if !v4.is_empty() {
        section.unknown(
            Group::Name,
            format!(
                "{} is not an address of this machine, which has {here}: this is right if it is your router's public address (see the router's status page)",
                shown(&v4)
            ),
        );
    }
    if !v6.is_empty() {
        section.unknown(
            Group::Name,
            format!(
                "{} is not an address of this machine, which has {here}: routers do not translate IPv6, so put this machine's own address into the AAAA record",
                shown(&v6)
            ),
        );
    }
}

/// The addresses of this machine's interfaces, as the kernel tells everybody; empty where it does not.
pub(super) fn own_addresses() -> Vec<IpAddr> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let mut own = addresses_v4(&read("/proc/net/fib_trie"));
    own.extend(addresses_v6(&read("/proc/net/if_inet6")));
    own
}

/// In the kernel's table of routes an address of ours is a line with it, and then `/32 host LOCAL`.
fn addresses_v4(table: &str) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    let mut last = None;
    for line in table.lines().map(str::trim) {
        match line.strip_prefix("|-- ") {
            Some(address) => last = address.parse().ok(),
            None if line == "/32 host LOCAL" => found.extend(last.filter(|ip| !found.contains(ip))),
            None => {}
        }
    }
    found
}

/// One address a line: 32 digits, index, prefix, scope (20 is link-local, which no record may have), flags, name.
fn addresses_v6(table: &str) -> Vec<IpAddr> {
    let one = |line: &str| {
        let mut words = line.split_whitespace();
        let bits = u128::from_str_radix(words.next()?, 16).ok()?;
        let global = words.nth(2)? != "20";
        global.then(|| IpAddr::from(bits.to_be_bytes()))
    };
    table.lines().filter_map(one).collect()
}

pub(super) fn is_cgnat(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64)
}

fn unusable(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.octets()[0] == 0
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.is_documentation()
                || v4.is_link_local()
        }
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_multicast() || v6.segments()[..2] == [0x2001, 0xdb8],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_our_addresses() {
        let table = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     +-- 127.0.0.0/8 2 0 2\n\
            |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 192.168.1.0\n        /24 link UNICAST\n\
            |-- 192.168.1.5\n        /32 host LOCAL\n     |-- 192.168.1.255\n        /32 link BROADCAST\n\
            Local:\n     |-- 192.168.1.5\n        /32 host LOCAL\n";
        assert_eq!(shown(&addresses_v4(table)), "127.0.0.1, 192.168.1.5");
        let table = "fe80000000000000023456fffe789abc 02 40 20 80 eth0\n\
            2a010e0a000000000000000000000005 02 40 00 80 eth0\nshort line\n\n";
        assert_eq!(shown(&addresses_v6(table)), "2a01:e0a::5");
        assert!(addresses_v4("|-- x\n/32 host LOCAL\n").is_empty());
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_a_hint_and_no_finding() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let hints = |of: &[IpAddr]| {
            let mut section = Section::new(crate::doctor::Kind::Host, "x", Vec::new());
            compare(of, &[ip("127.0.0.1"), ip("192.168.1.5"), ip("2620:fe::5")], &mut section);
            assert_eq!(section.findings().count(), 0);
            format!("{:?}", section.checks)
        };
        assert_eq!(hints(&[ip("192.168.1.5"), ip("2620:fe::5"), ip("127.0.0.9")]), "[]");
        assert!(
            hints(&[ip("9.9.9.9")])
                .contains("9.9.9.9 is not an address of this machine, which has 192.168.1.5")
        );
        assert!(hints(&[ip("2620:fe::6")]).contains("routers do not translate IPv6"));
    }

    #[test]
    fn addresses_are_sorted_by_who_can_reach_them() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(is_cgnat(&ip("100.64.0.1")) && is_cgnat(&ip("100.127.255.255")));
        assert!(!is_cgnat(&ip("100.63.255.255")) && !is_cgnat(&ip("100.128.0.0")));
        assert!(
            unusable(&ip("0.0.0.0"))
                && unusable(&ip("::"))
                && unusable(&ip("224.0.0.1"))
                && unusable(&ip("2001:db8::1"))
        );
        assert!(!unusable(&ip("9.9.9.9")) && !unusable(&ip("2620:fe::fe")));
    }
}
