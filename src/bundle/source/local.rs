//! `[local]` to types.

use ipnet::IpNet;
use toml::de::DeTable;

use super::parsed::Local;
use super::typed::Reader;
use super::values::{Bad, parse_host, parse_network};
use crate::bundle::keys::{LOCAL, LOCAL_LIFETIME};
use crate::bundle::private::{is_private_network, is_shared};
use crate::excerpt::path_may_hold_key;
use crate::names::Host;

/// Of the CA and its certificate, beside sanedge.toml.
const FOLDER: &str = "local";
/// Of a certificate, in milliseconds.
const LIFETIME_MS: u64 = 90 * 86_400_000;

impl Reader<'_> {
    pub(super) fn local(&mut self, root: &DeTable<'_>) -> Option<Local> {
        let value = root.get("local")?;
        let line = self.line_of(value);
        let table = self.table(value, &LOCAL)?;
        self.unknown_keys(table, &LOCAL);
        let lifetime_ms = self.ranged(table, &LOCAL_LIFETIME).unwrap_or(LIFETIME_MS);
        let permit = self.several(table, "permit", "[\"home.arpa\"]", parse_permit);
        let folder = table.get("folder").and_then(|value| {
            let path = self.file(value, "folder", "\"local\"")?.value.path;
            // x.acme names it, which everybody may read.
            if path_may_hold_key(&path) {
                let expected = "a path that is there, or a name that cannot be a key";
                self.bad(value, "folder", Bad::new(expected, "Remove it for its default."));
            }
            Some(path)
        });
        let folder = folder.unwrap_or_else(|| self.folder.join(FOLDER));
        Some(Local {
            line,
            folder: std::path::absolute(&folder).unwrap_or(folder),
            permit: permit.unwrap_or_default().into_iter().map(|lined| lined.value).collect(),
            lifetime_s: i64::try_from(lifetime_ms / 1000).unwrap_or_default(),
        })
    }
}

/// A domain with all below it, or a network.
fn parse_permit(text: &str) -> Result<String, Bad> {
    if text.contains('/') {
        let network = parse_network(text)?;
        let bad = || {
            Bad::new(
                "a network of private addresses, or one address",
                "Write the network of your home, such as \"192.168.1.0/24\": a CA must not issue for addresses that belong to others.",
            )
        };
        return is_private_network(&network).then(|| network.to_string()).ok_or_else(bad);
    }
    match parse_host(text.strip_prefix('.').unwrap_or(text))? {
        Host::Ip(address) => Ok(IpNet::from(address).to_string()),
        Host::Dns(name) if !is_shared(name.as_str()) => Ok(name.as_str().to_owned()),
        Host::Dns(name) => Err(Bad::new(
            "a domain of your own, such as \"home.arpa\" or \"recre.store\"",
            format!(
                "Others have names below `{name}`, and a CA for all of them is one for the internet. Write your own domain below it in full."
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_is_a_domain_or_a_network_and_never_the_internet() {
        for (text, kept) in [
            ("home.arpa", "home.arpa"),
            (".home.arpa", "home.arpa"),
            ("local", "local"),
            ("Recre.Store", "recre.store"),
            ("192.168.1.0/24", "192.168.1.0/24"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("192.168.1.5", "192.168.1.5/32"),
            ("172.16.0.0/12", "172.16.0.0/12"),
            ("192.168.0.0/16", "192.168.0.0/16"),
            ("169.254.0.0/16", "169.254.0.0/16"),
            ("fd00::/32", "fd00::/32"),
            ("fc00::/7", "fc00::/7"),
            ("fe80::/10", "fe80::/10"),
            ("8.8.8.8", "8.8.8.8/32"),
            ("8.8.8.8/32", "8.8.8.8/32"),
            ("2001:db8::1/128", "2001:db8::1/128"),
            ("internal", "internal"),
            ("lan", "lan"),
            ("test", "test"),
            ("a.co.uk", "a.co.uk"),
            ("abc.de", "abc.de"),
            ("recre.uk", "recre.uk"),
            ("a.b", "a.b"),
            ("me.duckdns.org", "me.duckdns.org"),
        ] {
            assert_eq!(parse_permit(text).ok().as_deref(), Some(kept), "{text}");
        }
        for bad in [
            "store",
            "com",
            "arpa",
            "co.uk",
            "com.au",
            "duckdns.org",
            "10.0.0.0/7",
            "172.0.0.0/11",
            "192.168.0.0/15",
            "169.254.0.0/15",
            "8.0.0.0/8",
            "8.8.8.8/31",
            "0.0.0.0/0",
            "fc00::/6",
            "fe80::/9",
            "2001:db8::/127",
            "192.168.1.5/24",
            "*.a.b",
            "",
            "a b",
        ] {
            assert!(parse_permit(bad).is_err(), "{bad}");
        }
    }
}
