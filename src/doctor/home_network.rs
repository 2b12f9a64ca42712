//! Which names and addresses are of a home network, and which names belong together.

use std::net::IpAddr;

use crate::bundle::private::SHARED_DOMAINS;
use crate::names::{Host, SanName};

/// Endings of names that exist at home only, where a private address is right and no public CA issues.
const HOME_ENDINGS: [&str; 8] =
    ["local", "lan", "home.arpa", "home", "internal", "localhost", "test", "fritz.box"];
pub(crate) fn is_home(host: &Host) -> bool {
    match host {
        Host::Ip(address) => address.is_loopback() || is_private(address),
        Host::Dns(name) => {
            let name = name.as_str();
            let under = |ending: &str| name == ending || name.ends_with(&format!(".{ending}"));
            !name.contains('.') || HOME_ENDINGS.iter().any(|ending| under(ending))
        }
    }
}

pub(super) fn is_private(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private(),
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

/// Whether whoever has the host may have this name of a certificate as well.
pub(super) fn is_related(name: &SanName, host: &Host) -> bool {
    let (SanName::Ip(ip), Host::Ip(own)) = (name, host) else {
        let (name, host) = (name.to_string(), host.to_string());
        return domain(&host).is_some_and(|own| domain(name.trim_start_matches("*.")) == Some(own));
    };
    ip == own
}

/// The part of a name that one registers: its last two labels, three below a shared domain.
fn domain(name: &str) -> Option<&str> {
    let labels: Vec<&str> = name.rsplit('.').take(2).collect();
    let [top, second] = labels[..] else { return None };
    let shared = SHARED_DOMAINS.contains(&last(name, 2)?);
    let country = top.len() == 2 && second.len() <= 3 && name.matches('.').count() >= 2;
    last(name, if shared || country { 3 } else { 2 })
}

/// The last `count` labels of a name that has so many.
fn last(name: &str, count: usize) -> Option<&str> {
    let mut dots = name.rmatch_indices('.').map(|(at, _)| at + 1).chain(std::iter::once(0));
    name.get(dots.nth(count - 1)?..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_owner_are_distinguished_from_those_of_others() {
        let related = |name: &str, host: &str| {
            is_related(&SanName::parse_dns(name).unwrap(), &Host::parse(host).unwrap())
        };
        assert!(related("recre.store", "socket.recre.store") && related("*.recre.store", "recre.store"));
        assert!(related("a.example.co.uk", "b.example.co.uk") && !related("a.co.uk", "b.co.uk"));
        assert!(
            related("x.me.duckdns.org", "me.duckdns.org") && !related("you.duckdns.org", "me.duckdns.org")
        );
        for other in ["fritz.box", "localhost", "example.org", "router.asus.com"] {
            assert!(!related(other, "socket.recre.store"), "{other}");
        }
    }

    #[test]
    fn names_that_no_public_ca_issues_are_of_a_home_network() {
        let home = |name: &str| is_home(&Host::parse(name).unwrap());
        for name in
            ["pi.local", "localhost", "fritz.box", "board.fritz.box", "nas.lan", "192.168.1.5", "raspberrypi"]
        {
            assert!(home(name), "{name}");
        }
        for name in ["recre.store", "notlocal.store", "box.recre.store", "9.9.9.9"] {
            assert!(!home(name), "{name}");
        }
    }
}
