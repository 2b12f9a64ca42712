//! Names and addresses that no public CA issues for, and the subtrees that a CA at home is limited to (RFC 5280 §4.2.1.10).

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::names::Host;

/// Names under which no public CA may issue (RFC 6761, 6762, 8375, ICANN's `internal`, and habits of home routers).
const SUFFIXES: [&str; 11] = [
    "local",
    "localhost",
    "lan",
    "home",
    "internal",
    "intranet",
    "private",
    "corp",
    "test",
    "invalid",
    "home.arpa",
];

/// Below these every customer has a name of their own (dynamic DNS and hosting), beside the two labels of `co.uk` and the like.
pub(crate) const SHARED_DOMAINS: [&str; 16] = [
    "duckdns.org",
    "dyndns.org",
    "ddns.net",
    "no-ip.org",
    "noip.com",
    "dynu.net",
    "myfritz.net",
    "synology.me",
    "myqnapcloud.com",
    "ddnss.de",
    "selfhost.eu",
    "dedyn.io",
    "freemyip.com",
    "github.io",
    "herokuapp.com",
    "ngrok.app",
];

/// Second labels below which registries of countries give out names.
const SECOND_LEVELS: [&str; 16] = [
    "ac", "co", "com", "edu", "gob", "gov", "gv", "info", "mil", "ne", "net", "nom", "or", "org", "sch",
    "web",
];

/// The blocks of addresses for networks of one's own, and for links and machines (RFC 1918, 3927, 4193, 4291).
const BLOCKS: [&str; 7] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "127.0.0.0/8",
    "fc00::/7",
    "fe80::/10",
];

/// Prefix lengths of a network at home.
const LAN: (u8, u8) = (24, 64);

/// The one of these names that a name is or ends with.
pub(crate) fn suffix(name: &str) -> Option<&'static str> {
    SUFFIXES.iter().copied().find(|suffix| is_below(name, suffix))
}

fn is_below(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Whether no public CA issues for a DNS name.
pub(crate) fn is_private_name(name: &str) -> bool {
    !name.contains('.') || suffix(name).is_some()
}

/// Whether a host exists on networks of its own only: no public CA issues for it.
pub(crate) fn is_private_host(host: &Host) -> bool {
    match host {
        Host::Dns(name) => is_private_name(name.as_str()),
        Host::Ip(address) => address.is_loopback() || is_of_lan(*address),
    }
}

fn is_of_lan(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// Whether it is one label that is not of private networks: a CA that is limited to `cloud` may issue for each name of a registry
/// (RFC 5280 §4.2.1.10).
pub(crate) fn is_top_level(host: &Host) -> bool {
    matches!(host, Host::Dns(name) if !name.as_str().contains('.') && suffix(name.as_str()).is_none())
}

/// Whether others have names below this domain, by a rule that needs no list of all registries: a top-level domain that is not of private
/// networks, two labels such as `co.uk`, or a provider's domain.
pub(crate) fn is_shared(domain: &str) -> bool {
    if suffix(domain).is_some() {
        return false;
    }
    match domain.split_once('.') {
        None => true,
        Some((second, top)) => {
            (top.len() == 2 && SECOND_LEVELS.contains(&second)) || SHARED_DOMAINS.contains(&domain)
        }
    }
}

/// Whether a network is part of a block that everybody may use, or one address.
pub(crate) fn is_private_network(network: &IpNet) -> bool {
    let mut blocks = BLOCKS.iter().filter_map(|block| block.parse::<IpNet>().ok());
    network.prefix_len() == network.max_prefix_len() || blocks.any(|block| block.contains(network))
}

/// A part of all names: a domain with all below it, or a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subtree {
    Domain(String),
    Network(IpNet),
}

impl Subtree {
    /// What a CA for this host is limited to. A domain that only exists at home is taken whole, and so is the network of an address at
    /// home: a second host there needs no new CA. Of others only the host itself.
    pub(crate) fn around(host: &Host) -> Self {
        match host {
            Host::Dns(name) => Self::Domain(suffix(name.as_str()).unwrap_or(name.as_str()).to_owned()),
            Host::Ip(address) => {
                let (v4, v6) = LAN;
                let lan = if address.is_ipv4() { v4 } else { v6 };
                let network = IpNet::new(*address, lan).ok().filter(|_| is_of_lan(*address));
                Self::Network(network.unwrap_or_else(|| IpNet::from(*address)).trunc())
            }
        }
    }

    /// As [`fmt::Display`] writes it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match Host::parse(text) {
            Ok(Host::Dns(name)) => Some(Self::Domain(name.as_str().to_owned())),
            Ok(Host::Ip(address)) => Some(Self::Network(address.into())),
            Err(_) => text.parse().ok().map(Self::Network),
        }
    }

    pub(crate) fn holds(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Domain(domain), Host::Dns(name)) => is_below(name.as_str(), domain),
            (Self::Network(network), Host::Ip(address)) => network.contains(address),
            _ => false,
        }
    }

    /// Whether it holds all of another.
    fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Domain(domain), Self::Domain(inner)) => is_below(inner, domain),
            (Self::Network(network), Self::Network(inner)) => network.contains(inner),
            _ => false,
        }
    }

    /// All of them that no other one contains, each once.
    pub(crate) fn smallest_set(all: Vec<Self>) -> Vec<Self> {
        let mut kept: Vec<Self> = Vec::new();
        for subtree in all {
            if !kept.iter().any(|other| other.contains(&subtree)) {
                kept.retain(|other| !subtree.contains(other));
                kept.push(subtree);
            }
        }
        kept
    }
}

impl fmt::Display for Subtree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(domain) => f.write_str(domain),
            Self::Network(network) => network.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Host {
        Host::parse(text).unwrap()
    }

    #[test]
    fn a_private_domain_is_taken_whole_and_a_public_name_alone() {
        for (name, around) in [
            ("socket.home.arpa", "home.arpa"),
            ("a.b.local", "local"),
            ("local", "local"),
            ("nas.lan", "lan"),
            ("board", "board"),
            ("socket.recre.store", "socket.recre.store"),
            ("notlocal.store", "notlocal.store"),
            ("192.168.178.20", "192.168.178.0/24"),
            ("10.1.2.3", "10.1.2.0/24"),
            ("169.254.7.1", "169.254.7.0/24"),
            ("127.0.0.1", "127.0.0.1/32"),
            ("192.0.2.1", "192.0.2.1/32"),
            ("fd12:3456::7", "fd12:3456::/64"),
            ("2001:db8::7", "2001:db8::7/128"),
        ] {
            let subtree = Subtree::around(&host(name));
            assert_eq!(subtree.to_string(), around, "{name}");
            assert!(subtree.holds(&host(name)), "{name}");
            assert_eq!(Subtree::parse(around), Some(subtree));
        }
    }

    #[test]
    fn a_subtree_holds_what_is_below_it_at_a_dot() {
        let holds = |subtree: &str, name: &str| Subtree::parse(subtree).unwrap().holds(&host(name));
        assert!(holds("home.arpa", "a.home.arpa") && holds("home.arpa", "home.arpa"));
        assert!(!holds("home.arpa", "nothome.arpa") && !holds("home.arpa", "arpa"));
        assert!(!holds("a.home.arpa", "home.arpa") && !holds("home.arpa", "192.168.1.1"));
        assert!(holds("192.168.1.0/24", "192.168.1.255") && !holds("192.168.1.0/24", "192.168.2.0"));
        assert!(!holds("192.168.1.0/24", "fd00::1"));
    }

    #[test]
    fn only_what_no_other_one_contains_is_kept() {
        let set = |all: &[&str]| {
            let all = all.iter().map(|text| Subtree::parse(text).unwrap()).collect();
            Subtree::smallest_set(all).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(set(&["a.local", "local", "b.local", "local"]), ["local"]);
        assert_eq!(set(&["192.168.1.0/24", "192.168.0.0/16", "a.b"]), ["192.168.0.0/16", "a.b"]);
    }

    #[test]
    fn hosts_of_a_home_are_told_from_public_ones() {
        for private in
            ["a.local", "home.arpa", "board", "192.168.1.1", "127.0.0.1", "::1", "fd00::1", "fe80::1"]
        {
            assert!(is_private_host(&host(private)), "{private}");
        }
        for public in ["recre.store", "local.store", "192.0.2.1", "8.8.8.8", "2606:4700::1"] {
            assert!(!is_private_host(&host(public)), "{public}");
        }
    }
}
