//! What may prevent a CA from validating a managed host, as far as the board can see it: port 80, the addresses in DNS, CAA records.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Stages;
use super::name::{is_cgnat, own_addresses, shown};
use crate::acme::clock::believable;
use crate::acme::dns::lookup::{self, Issuer, Lookup};
use crate::bundle::acme::{Challenge, Plan, Wanted, here};
use crate::doctor::check::{Finding, Section};
use crate::doctor::explain::{Code, Group};
use crate::doctor::home_network::is_private;
use crate::excerpt::Excerpt;

/// The path of a token (RFC 8555 §8.3) that no run of `renew` uses.
const PATH: &str = "/.well-known/acme-challenge/sanedge-doctor";
/// The port of http-01.
const PORT: u16 = 80;
/// Limit for the answer of one address.
const LOOK_TIME: Duration = Duration::from_millis(3_500);
/// Longest part of an answer that is read.
const ANSWER_BYTES_MAX: u64 = 4 * 1024;
/// Limit for all queries about CAA records.
const CAA_TIME: Duration = Duration::from_secs(4);
/// The port of name servers.
const DNS_PORT: u16 = 53;

/// What answers on port 80 of an address.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// An edge.
    Edge,
    /// Another server, with its first line.
    Other(String),
    /// Nothing.
    Closed(String),
}

impl Stages<'_> {
    /// Checks what a CA needs. `addresses` are those of DNS.
    pub(super) async fn reach(
        &self,
        plan: &Plan,
        wanted: &Wanted,
        addresses: &[IpAddr],
        section: &mut Section,
    ) {
        if let Err(message) = believable(self.now, 0) {
            section.found(Finding::new(Code::AcmeClock, message));
        }
        // With --resolve the addresses are not those of DNS.
        if self.options.is_given(&self.target.host) {
            return;
        }
        let by_dns = plan.dns.is_some() && matches!(plan.challenge, Challenge::Auto | Challenge::Dns01);
        if !by_dns && !addresses.is_empty() {
            self.router(addresses, section);
            if plan.challenge != Challenge::TlsAlpn01 && !plan.http.is_empty() {
                self.port_80(plan, addresses, section).await;
            }
        }
        self.caa(plan, wanted, section).await;
    }

    /// Whether the router has the address in DNS.
    fn router(&self, addresses: &[IpAddr], section: &mut Section) {
        let Some(wan) = self.way_out.wan else { return };
        let ip = IpAddr::V4(wan);
        if is_cgnat(&ip) || is_private(&ip) {
            let text = format!(
                "the router's own address is {wan}, which is not public: no CA and no client outside can connect to a port of this network"
            );
            section.found(Finding::new(Code::AcmeCgnat, text).seen("router (NAT-PMP)", wan.to_string()));
            return;
        }
        let v4: Vec<IpAddr> = addresses.iter().copied().filter(IpAddr::is_ipv4).collect();
        let own = own_addresses();
        if v4.is_empty() || v4.contains(&ip) || v4.iter().any(|ip| own.contains(ip)) {
            section.passed(Group::Renewal, format!("the router's address is {wan}"));
            return;
        }
        let (host, all) = (&self.target.host, shown(&v4));
        let text = format!(
            "`{host}` resolves to {all}, but the router's own address is {wan}: put the router's address into the A record"
        );
        section.found(
            Finding::new(Code::AcmeAddress, text).seen("router (NAT-PMP)", wan.to_string()).question(
                format!("Does a CDN or a tunnel of yours answer at {all}? Then the record is right."),
            ),
        );
    }

    /// Checks port 80 at each address in DNS; behind a router also at the listeners that it should forward to.
    async fn port_80(&self, plan: &Plan, addresses: &[IpAddr], section: &mut Section) {
        let own = own_addresses();
        let is_own = |ip: IpAddr| ip.is_loopback() || own.contains(&ip);
        let mut places: Vec<SocketAddr> = addresses.iter().map(|ip| SocketAddr::new(*ip, PORT)).collect();
        if !addresses.iter().any(|ip| is_own(*ip)) && !plan.http_expects_proxy {
            places.extend(
                plan.http.iter().filter(|listener| listener.port() != 0).map(|listener| here(*listener)),
            );
        }
        let looks = places.into_iter().map(|place| async move { (place, self.answer_at(place).await) });
        for (place, seen) in join_all(looks).await {
            judge(place, is_own(place.ip()), &seen, section);
        }
    }

    async fn answer_at(&self, place: SocketAddr) -> Seen {
        let request =
            format!("GET {PATH} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.target.host);
        let work = async {
            let mut stream = TcpStream::connect(place).await?;
            stream.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        match self.deadline.wait(LOOK_TIME, work).await {
            Ok(Ok(answer)) => seen(&String::from_utf8_lossy(&answer)),
            Ok(Err(error)) => Seen::Closed(error.to_string()),
            Err(_) => Seen::Closed("no answer within 3.5 s".to_owned()),
        }
    }

    /// Whether the CAA records permit the CA (RFC 8659).
    async fn caa(&self, plan: &Plan, wanted: &Wanted, section: &mut Section) {
        let Some(identity) = plan.ca.caa_identity() else { return };
        let Some(name) = lookup::name(&self.target.host.to_string()) else { return };
        let servers: Vec<SocketAddr> =
            self.options.dns.iter().map(|ip| SocketAddr::new(*ip, DNS_PORT)).collect();
        let Ok(lookup) = Lookup::new(&servers) else { return };
        let Ok(Ok(records)) = self.deadline.wait(CAA_TIME, lookup.caa(&name)).await else { return };
        let host = self.target.host.to_string();
        let is_wildcard = !wanted.names.contains(&host);
        if records.is_empty() || permits(&records, identity, is_wildcard) {
            return section.passed(Group::Renewal, format!("CAA records permit {identity}"));
        }
        let all =
            records.iter().map(|one| format!("{} \"{}\"", one.tag, one.value)).collect::<Vec<_>>().join(", ");
        let text = format!("the CAA records of `{host}` do not name {identity}, so this CA refuses to issue");
        section.found(Finding::new(Code::AcmeCaa, text).seen("CAA", Excerpt::of(&all).to_string()));
    }
}

fn seen(answer: &str) -> Seen {
    if crate::doctor::managed::is_of_edge(answer) {
        return Seen::Edge;
    }
    match answer.lines().next() {
        Some(line) => Seen::Other(Excerpt::of(line).into()),
        None => Seen::Closed("closed without an answer".to_owned()),
    }
}

/// Behind a router only the result for IPv6 counts: from inside, the server on port 80 of the public IPv4 address may be the router itself.
fn judge(place: SocketAddr, is_own: bool, seen: &Seen, section: &mut Section) {
    let (ip, port) = (place.ip(), place.port());
    let what = match seen {
        Seen::Edge => {
            return section.passed(Group::Renewal, format!("the edge answers on port {port} of {ip}"));
        }
        Seen::Other(line) => format!("answers {line}"),
        Seen::Closed(error) => format!("does not answer: {error}"),
    };
    let code = match (is_own, ip.is_ipv6(), seen) {
        (true, _, Seen::Closed(_)) => Code::AcmePortClosed,
        (true, ..) => Code::AcmePortTaken,
        (false, true, _) => Code::AcmeAaaa,
        (false, false, _) => {
            let text = format!(
                "from here, port {PORT} of {ip} {what}. This is normal if the router has no NAT loopback, which forwards its own clients back in: open http://{ip}{PATH} on a phone off Wi-Fi; the edge answers 404 with `Sanedge-Error`"
            );
            return section.unknown(Group::Renewal, text);
        }
    };
    let text = match code {
        Code::AcmeAaaa => format!(
            "{ip} is not an address of this machine, and a CA that connects there finds another server: correct the AAAA record"
        ),
        Code::AcmePortTaken => format!("another program than the edge answers on port {port} of {ip}"),
        _ => format!("nothing listens on port {port} of {ip}, which the CA's connections are to reach"),
    };
    section.found(Finding::new(code, text).seen("port 80", what));
}

/// Whether a CA with this name may issue (RFC 8659 §4.2, §4.3).
fn permits(records: &[Issuer], identity: &str, is_wildcard: bool) -> bool {
    const KNOWN: [&str; 4] = ["issue", "issuewild", "iodef", "contactemail"];
    if records.iter().any(|one| one.is_critical && !KNOWN.contains(&one.tag.as_str())) {
        return false;
    }
    let of = |tag: &str| records.iter().filter(|one| one.tag == tag).collect::<Vec<_>>();
    let wild = if is_wildcard { of("issuewild") } else { Vec::new() };
    let relevant = if wild.is_empty() { of("issue") } else { wild };
    let names =
        |one: &&Issuer| one.value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(identity);
    relevant.is_empty() || relevant.iter().any(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caa_records_are_read_as_a_ca_reads_them() {
        let one = |critical, tag: &str, value: &str| Issuer {
            is_critical: critical,
            tag: tag.to_owned(),
            value: value.to_owned(),
        };
        let own = "letsencrypt.org";
        for (records, host, wildcard) in [
            (vec![], true, true),
            (vec![one(false, "issue", "letsencrypt.org")], true, true),
            (vec![one(false, "issue", " LetsEncrypt.org ; accounturi=https://ca/1")], true, true),
            (vec![one(false, "issue", ";")], false, false),
            (vec![one(false, "issue", "pki.goog")], false, false),
            (vec![one(false, "issue", "pki.goog"), one(false, "issue", own)], true, true),
            (vec![one(false, "issue", own), one(false, "issuewild", ";")], true, false),
            (vec![one(false, "issue", "pki.goog"), one(false, "issuewild", own)], false, true),
            (vec![one(false, "iodef", "mailto:you@recre.store")], true, true),
            (vec![one(true, "tbs", "x"), one(false, "issue", own)], false, false),
            (vec![one(false, "tbs", "x"), one(false, "issue", own)], true, true),
        ] {
            assert_eq!(
                (permits(&records, own, false), permits(&records, own, true)),
                (host, wildcard),
                "{records:?}"
            );
        }
    }

    #[test]
    fn behind_a_router_a_closed_port_is_a_hint_and_no_finding() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let code = |address: &str, is_own, seen| {
            let mut section = Section::new(crate::doctor::Kind::Host, "x", Vec::new());
            judge(SocketAddr::new(ip(address), PORT), is_own, &seen, &mut section);
            let code = section.findings().next().map(|finding| finding.code);
            assert_eq!(section.checks.len(), 1);
            code
        };
        let (closed, other) =
            (|| Seen::Closed("refused".to_owned()), || Seen::Other("HTTP/1.1 200 OK".to_owned()));
        for (address, is_own, shut, taken) in [
            ("9.9.9.9", false, None, None),
            ("9.9.9.9", true, Some(Code::AcmePortClosed), Some(Code::AcmePortTaken)),
            ("2620:fe::9", false, Some(Code::AcmeAaaa), Some(Code::AcmeAaaa)),
            ("2620:fe::9", true, Some(Code::AcmePortClosed), Some(Code::AcmePortTaken)),
        ] {
            assert_eq!(
                (code(address, is_own, closed()), code(address, is_own, other())),
                (shut, taken),
                "{address}"
            );
            assert_eq!(code(address, is_own, Seen::Edge), None);
        }
        assert_eq!(seen("HTTP/1.1 404 Not Found\r\nsanedge-error: unknown_path\r\n\r\n"), Seen::Edge);
        assert_eq!(
            seen("HTTP/1.1 404 Not Found\r\n\r\nSanedge-Error: x"),
            Seen::Other("HTTP/1.1 404 Not Found".to_owned())
        );
        assert!(matches!(seen(""), Seen::Closed(_)));
    }
}
