//! Certificates that are somebody else's: of a device, a proxy without one, a program that reads TLS. By their words, and by
//! names that have nothing to do with the host.

use rustls_pki_types::CertificateDer;

use super::check::Finding;
use super::explain::Code;
use super::home_network::is_related;
use crate::bundle::compile::Presented;
use crate::bundle::finding::listed;
use crate::names::Host;

/// What proxies send where they have no certificate for a name.
const PROXY_DEFAULTS: [(&str, &str); 8] = [
    ("traefik default cert", "Traefik"),
    ("ingress controller fake certificate", "ingress-nginx"),
    ("snakeoil", "a Debian or Ubuntu server"),
    ("caddy local authority", "Caddy (`tls internal`)"),
    ("plesk", "Plesk"),
    ("parallels panel", "Plesk"),
    ("cpanel", "cPanel"),
    ("nginx proxy manager", "Nginx Proxy Manager"),
];

/// Firewalls, filters and antivirus programs that issue a certificate of their own for every site.
const INSPECTORS: [&str; 36] = [
    "fortigate",
    "fortinet",
    "zscaler",
    "palo alto",
    "sophos",
    "netskope",
    "cisco umbrella",
    "cisco secure",
    "check point",
    "blue coat",
    "bluecoat",
    "symantec web",
    "mcafee",
    "skyhigh",
    "barracuda",
    "watchguard",
    "untangle",
    "smoothwall",
    "lightspeed",
    "securly",
    "forcepoint",
    "sonicwall",
    "contentkeeper",
    "iboss",
    "cloudflare gateway",
    "avast",
    "avg technologies",
    "avg web",
    "kaspersky",
    "eset ssl",
    "bitdefender",
    "adguard",
    "dr.web",
    "mitmproxy",
    "charles proxy",
    "fiddler",
];

/// Devices of a home whose own pages have TLS.
const DEVICES: [&str; 26] = [
    "fritz.box",
    "fritz!box",
    "synology",
    "qnap",
    "unifi",
    "ubiquiti",
    "mikrotik",
    "asusrouter",
    "router.asus.com",
    "routerlogin",
    "netgear",
    "tplinkwifi",
    "tp-link",
    "openwrt",
    "speedport",
    "livebox",
    "draytek",
    "zyxel",
    "pfsense",
    "opnsense",
    "truenas",
    "proxmox",
    "technicolor",
    "linksys",
    "d-link",
    "hikvision",
];

/// Whose it is, where it is not the host's own: in place of what is wrong with its names and its issuer.
pub(super) fn foreign_certificate(
    host: &Host,
    end_entity: Option<&CertificateDer<'_>>,
    found: &Presented,
    untrusted: bool,
) -> Option<Finding> {
    let covers = found.names.iter().any(|name| name.covers(host));
    if covers && !untrusted {
        return None;
    }
    let names = listed(found.names.iter().map(ToString::to_string));
    // As they are: an excerpt hides serial numbers, with which devices and firewalls begin their names.
    let words = format!("{} {names}", end_entity.map(identity).unwrap_or_default()).to_lowercase();
    let says = |list: &[&str]| list.iter().any(|word| words.contains(word));
    let finding = if words.contains("cloudflare origin") || words.contains("origin ssl certificate authority")
    {
        Finding::new(
            Code::TlsOriginCa,
            format!(
                "the certificate is a Cloudflare Origin certificate, which only Cloudflare trusts, and `{host}` resolves to the server itself: switch the record to proxied, or install a certificate that clients trust"
            ),
        )
    } else if let Some((_, whose)) = PROXY_DEFAULTS.iter().find(|(word, _)| words.contains(word)) {
        Finding::new(
            Code::TlsProxyDefault,
            format!(
                "{whose} sends its built-in certificate, because it has none for `{host}`: give the name a certificate there"
            ),
        )
    } else if let Some(whose) = INSPECTORS.iter().find(|word| words.contains(**word)) {
        Finding::new(
            Code::TlsInspection,
            format!(
                "a firewall or an antivirus program ({whose}, issuer `{}`) intercepts TLS on this network or machine and replaces the certificate: the server is not at fault; try another network",
                found.issuer
            ),
        )
    } else if !covers && (says(&DEVICES) || is_foreign(host, found)) {
        let whose = if found.names.is_empty() {
            found.common_name.as_ref().map(ToString::to_string).unwrap_or_default()
        } else {
            names
        };
        Finding::new(Code::TlsOtherServer, format!("another server answers: its certificate is for {whose} and has nothing to do with `{host}` (a router, a NAS, a hosting page): check the name's address and the port forwarding"))
            .question("does it work on a phone off Wi-Fi? Then the router answers from inside (no NAT loopback); otherwise the address or the port forwarding is wrong")
    } else {
        return None;
    };
    Some(finding.seen("issuer", found.issuer.clone()))
}

/// Issuer and subject.
fn identity(certificate: &CertificateDer<'_>) -> String {
    x509_parser::parse_x509_certificate(certificate)
        .map(|(_, parsed)| format!("{} {}", parsed.issuer(), parsed.subject()))
        .unwrap_or_default()
}

/// Names that the host's owner cannot have.
fn is_foreign(host: &Host, found: &Presented) -> bool {
    !found.names.is_empty() && !found.names.iter().any(|name| is_related(name, host))
}
