//! The way of a client to one host, in its order: name, port, TLS, HTTP, Engine.IO.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use futures_util::future::join_all;
use hyper::header;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;

use super::check::{Finding, Section};
use super::explain::{Code, Group};
use super::http::{Answer, Ask};
use super::options::Options;
use super::talk::Talk;
use super::target::Target;
use super::tls::{self, Case, Client, Shown};
use super::way::{CONNECT_TIME, Patience, Place, Session, Trouble, Way};
use crate::bundle::Upstream;
use crate::names::Host;

/// For one name; the system's resolver would wait much longer.
const RESOLVE_TIME: Duration = Duration::from_secs(4);
/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 8;
/// A name that nobody has: which certificate does it get?
const NOBODY: &str = "sanedge-doctor.invalid";
/// Endings of names that exist at home only, where a private address is right.
const HOME_ENDINGS: [&str; 7] = ["local", "lan", "home.arpa", "home", "internal", "localhost", "test"];

/// One host, and what all steps share.
pub(super) struct Walk<'a> {
    pub(super) target: &'a Target,
    pub(super) options: &'a Options,
    pub(super) trust: &'a [CertificateDer<'static>],
    /// Seconds since 1970.
    pub(super) now: i64,
    pub(super) patience: Patience,
}

/// How connecting to an address went.
struct Knock {
    address: SocketAddr,
    result: Result<Duration, Option<io::Error>>,
}

impl Walk<'_> {
    /// Goes the whole way.
    pub(super) async fn go(&self) -> Section {
        let target = self.target;
        let url = target.url();
        let mut section = Section::new(
            url.clone(),
            vec![
                ("host", target.host.to_string()),
                ("port", target.port.to_string()),
                ("origin", url.clone()),
                ("url", url),
                ("path", target.path.clone()),
            ],
        );
        self.on_the_way(&mut section).await;
        section
    }

    async fn on_the_way(&self, section: &mut Section) -> Option<()> {
        let addresses = self.name(section).await?;
        let address = self.port(&addresses, section).await?;
        let way = Way {
            place: Place::Tcp(address),
            tls: None,
            authority: self.target.authority(),
            patience: self.patience,
        };
        if self.target.tls {
            self.with_tls(way, address, section).await?;
        } else {
            let talk = self.talk(&way, true);
            let met = talk.begin().await;
            talk.go_on(met, section).await;
        }
        Some(())
    }

    // --- name ---------------------------------------------------------------------------------------------

    async fn name(&self, section: &mut Section) -> Option<Vec<IpAddr>> {
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
        let found = match self.patience.wait(RESOLVE_TIME, looked).await {
            Ok(Ok(found)) => found.map(|address| address.ip().to_canonical()),
            Ok(Err(error)) => return self.no_name(&error.to_string(), section),
            Err(_) => return self.no_name("no answer within 4 s: Try again", section),
        };
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in found {
            if !addresses.contains(&address) && addresses.len() < ADDRESSES_MAX {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            return self.no_name("no address", section);
        }
        self.judge_addresses(&addresses, section).then_some(addresses)
    }

    fn no_name(&self, error: &str, section: &mut Section) -> Option<Vec<IpAddr>> {
        let host = &self.target.host;
        let passing = ["Temporary failure", "Try again", "try again"].iter().any(|text| error.contains(text));
        let finding = match (passing, own_address()) {
            (_, None) => Finding::new(
                Code::NameOffline,
                format!(
                    "this machine is offline, so nothing can be said about `{host}`: connect it to the network"
                ),
            ),
            (true, Some(_)) => Finding::new(
                Code::NameResolver,
                format!(
                    "the name server that this machine asks gives no answer for `{host}`: try another (nslookup {host} 9.9.9.9)"
                ),
            ),
            (false, _) => Finding::new(
                Code::NameUnknown,
                format!("`{host}` does not exist in DNS: make an A record for it, or look at its spelling"),
            ),
        };
        section.found(finding.seen("resolver", error));
        None
    }

    /// False where nothing can be tried at these addresses.
    fn judge_addresses(&self, addresses: &[IpAddr], section: &mut Section) -> bool {
        let host = &self.target.host;
        let all = shown(addresses);
        let about = |code, text: String| Finding::new(code, text).seen("addresses", all.clone());
        if addresses.iter().all(unusable) {
            let text = format!(
                "`{host}` leads to {all}, which is no server's address: put the right one into the record"
            );
            section.found(about(Code::NameUnusable, text));
            return false;
        }
        let at_home = is_home(host);
        let finding = if addresses.iter().any(IpAddr::is_loopback) && !at_home {
            let text = format!(
                "`{host}` leads to {all}: to this machine itself, so that no other machine finds the server"
            );
            Some(about(Code::NameLoopback, text))
        } else if addresses.iter().any(is_cgnat) {
            let text = format!(
                "`{host}` leads to {all}, an address that your provider shares among customers: nobody outside can reach it"
            );
            Some(about(Code::NameCgnat, text))
        } else if addresses.iter().any(is_private) && !at_home {
            let text = format!(
                "`{host}` leads to the private address {all}: right at home, unreachable from the internet"
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

    // --- port ---------------------------------------------------------------------------------------------

    async fn port(&self, addresses: &[IpAddr], section: &mut Section) -> Option<SocketAddr> {
        let port = self.target.port;
        let knocks = join_all(addresses.iter().map(|ip| self.knock(SocketAddr::new(*ip, port)))).await;
        let open = knocks.iter().find(|knock| knock.result.is_ok());
        let Some(open) = open else {
            let finding = self.closed(&knocks).await;
            section.found(finding);
            self.outside(section);
            return None;
        };
        let time = open.result.as_ref().map(Duration::as_millis).unwrap_or_default();
        section.passed(Group::Port, format!("{} is open ({time} ms)", open.address));
        let dead = knocks.iter().find(|knock| knock.result.is_err() && knock.address.is_ipv6());
        if let (Some(dead), true) = (dead, open.address.is_ipv4()) {
            let text = format!(
                "the IPv6 address {} does not answer while IPv4 does: open it as well, or take the AAAA record away",
                dead.address.ip()
            );
            section.found(Finding::new(Code::NameIpv6Dead, text).seen(dead_label(dead), describe(dead)));
        }
        self.outside(section);
        Some(open.address)
    }

    async fn knock(&self, address: SocketAddr) -> Knock {
        let begin = tokio::time::Instant::now();
        let result = match self.patience.wait(CONNECT_TIME, TcpStream::connect(address)).await {
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
        let kind = |knock: &Knock| match &knock.result {
            Err(Some(error)) => error.kind(),
            _ => io::ErrorKind::TimedOut,
        };
        let any = |wanted| knocks.iter().any(|knock| kind(knock) == wanted);
        let finding = if any(io::ErrorKind::ConnectionRefused) {
            Finding::new(
                Code::PortRefused,
                format!(
                    "nothing listens on port {port}: start the edge, or look where the router sends the port"
                ),
            )
        } else if any(io::ErrorKind::TimedOut) {
            Finding::new(
                Code::PortFiltered,
                format!(
                    "port {port} does not answer at all: forward it in the router, and let it through the firewall"
                ),
            )
        } else {
            Finding::new(Code::PortUnreachable, "there is no way to this address from here: is the machine on, and is this still its address?".to_owned())
        };
        finding.seen("seen", seen)
    }

    /// Does the server answer on this machine, by another address than the one in DNS?
    async fn hairpin(&self, knocks: &[Knock]) -> Option<Finding> {
        let public = |knock: &Knock| !knock.address.ip().is_loopback() && !is_private(&knock.address.ip());
        if !self.target.tls || !knocks.iter().all(public) {
            return None;
        }
        let port = self.target.port;
        let mut places = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
        places.extend(own_address());
        for ip in places {
            let address = SocketAddr::new(ip, port);
            let (way, client) = self.tls_way(address)?;
            if way.open().await.is_ok()
                && tls::acceptable(&self.target.host, &client.shown().chain, self.trust, self.now)
            {
                let text = format!(
                    "the server answers at {address} with the right certificate, and its public name does not lead to it from here: port forwarding, or a router without NAT loopback"
                );
                return Some(Finding::new(Code::PortHairpin, text));
            }
        }
        None
    }

    /// What cannot be seen from inside.
    fn outside(&self, section: &mut Section) {
        if !is_home(&self.target.host) && self.target.tls {
            let target = self.target;
            section.unknown(
                Group::Port,
                format!(
                    "whether it can be reached from the internet cannot be seen from here: open {}{}?EIO=4&transport=polling on a phone off Wi-Fi",
                    target.url(), target.path
                ),
            );
        }
    }

    // --- TLS and what follows -----------------------------------------------------------------------------

    fn tls_way(&self, address: SocketAddr) -> Option<(Way, Client)> {
        self.way_for(address, &self.target.host.to_string(), rustls::ALL_VERSIONS)
    }

    fn way_for(
        &self,
        address: SocketAddr,
        name: &str,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Option<(Way, Client)> {
        let client = Client::new(versions)?;
        let name = ServerName::try_from(name.to_owned()).ok()?;
        let way = Way {
            place: Place::Tcp(address),
            tls: Some((client.clone(), name)),
            authority: self.target.authority(),
            patience: self.patience,
        };
        Some((way, client))
    }

    async fn with_tls(&self, plain: Way, address: SocketAddr, section: &mut Section) -> Option<()> {
        let (way, client) = self.tls_way(address)?;
        let (opened, older, nobody) =
            tokio::join!(way.open(), self.shakes(address, &rustls::version::TLS12), self.default_of(address));
        let session = match opened {
            Ok(connection) => connection.session?,
            Err(trouble) => {
                section.found(self.no_tls(&trouble, &client.shown()));
                return None;
            }
        };
        let shown = client.shown();
        let host = &self.target.host;
        let trusted = shown.unproven.is_none() && tls::acceptable(host, &shown.chain, self.trust, self.now);
        if trusted {
            client.guard(host, self.trust, self.now);
        }
        let open = trusted || self.options.insecure;
        let talk = self.talk(&way, open);
        let root = Ask::get("/");
        let (page, http, met) = tokio::join!(way.ask(&root), self.plain_http(&plain, address), talk.begin());
        let page = page.ok();
        let server_now = date(page.as_ref(), met.as_ref());
        let versions = match (session.version.as_str(), older) {
            ("TLS 1.3", true) => "TLS 1.3 and 1.2",
            ("TLS 1.3", false) => "TLS 1.3",
            _ => "TLS 1.2",
        };
        let case = Case {
            host,
            chain: &shown.chain,
            trust: self.trust,
            expected: self.target.expected.as_ref(),
            unproven: shown.unproven.as_deref(),
            default: nobody.map(|other| Some(&other) == shown.chain.first()),
            now: self.now,
            server_now,
        };
        self.tls_lines(&case, &session, versions, section);
        self.http_lines(page.as_ref(), http, section);
        let private = self.options.private(!self.target.query.is_empty());
        if !open && !private.is_empty() {
            let list = private.join(", no ");
            let text = format!(
                "without a good certificate nothing private is sent: no {list} (--insecure sends it)"
            );
            section.skipped(Group::Tls, text);
        }
        // A server that asks for a certificate in TLS 1.3 refuses only after the handshake.
        if client.shown().wants_certificate
            && met.as_ref().is_some_and(|met| matches!(met, super::talk::Met::Trouble(_)))
        {
            section.found(tls::wants_certificate("hung up on the first request"));
            return None;
        }
        talk.go_on(met, section).await;
        Some(())
    }

    fn tls_lines(&self, case: &Case<'_>, session: &Session, versions: &str, section: &mut Section) {
        let is_fine = tls::judge(section, case, session, versions);
        if let Some(finding) =
            case.server_now.filter(|_| is_fine).and_then(|theirs| tls::skew(self.now, theirs))
        {
            section.found(finding);
        }
    }

    fn no_tls(&self, trouble: &Trouble, shown: &Shown) -> Finding {
        match trouble {
            Trouble::Tls(error) => tls::no_tls(error, shown, &self.target.host, self.target.port),
            Trouble::Connect(error) => {
                let message = format!("port {} was open a moment ago and is not any more", self.target.port);
                Finding::new(Code::PortRefused, message).seen("seen", error.to_string())
            }
            other => super::talk::silence(other, "TLS handshake"),
        }
    }

    async fn shakes(&self, address: SocketAddr, version: &'static rustls::SupportedProtocolVersion) -> bool {
        let Some((way, _)) = self.way_for(address, &self.target.host.to_string(), &[version]) else {
            return false;
        };
        way.open().await.is_ok()
    }

    /// The certificate of a name that nobody has.
    async fn default_of(&self, address: SocketAddr) -> Option<CertificateDer<'static>> {
        let (way, client) = self.way_for(address, NOBODY, rustls::ALL_VERSIONS)?;
        way.open().await.ok()?;
        client.shown().chain.into_iter().next()
    }

    fn talk<'a>(&'a self, way: &'a Way, open: bool) -> Talk<'a> {
        let options = self.options;
        let mut fields = Vec::new();
        if let Some(origin) = options.origin.as_ref().and_then(|origin| origin.parse().ok()) {
            fields.push((header::ORIGIN, origin));
        }
        if open {
            fields.extend(options.header.iter().cloned());
            fields.extend(options.cookie.iter().map(|cookie| (header::COOKIE, cookie.clone())));
        }
        Talk {
            way,
            path: &self.target.path,
            query: if open { &self.target.query } else { &[] },
            fields,
            options,
            namespace: options.namespace.as_deref().filter(|_| open),
            hold: options.hold,
        }
    }

    // --- HTTP ---------------------------------------------------------------------------------------------

    async fn plain_http(&self, way: &Way, address: SocketAddr) -> Option<Result<Answer, Trouble>> {
        let place = Place::Tcp(SocketAddr::new(address.ip(), self.target.http_port?));
        let way = Way { place, authority: self.target.host.uri_host().to_string(), ..way.clone() };
        Some(way.ask(&Ask::get("/")).await)
    }

    fn http_lines(
        &self,
        page: Option<&Answer>,
        http: Option<Result<Answer, Trouble>>,
        section: &mut Section,
    ) {
        if let Some(page) = page {
            let hsts = page.field("strict-transport-security").map_or("", |_| ", HSTS");
            section.passed(Group::Http, format!("GET / answers {} ({}){hsts}", page.status, page.author()));
        }
        match http {
            None => {}
            Some(Err(trouble)) => {
                let message = "nothing answers on port 80: nobody is led to https, and certbot cannot use it";
                section.found(
                    Finding::new(Code::Port80Refused, message).seen("seen", super::talk::describe(&trouble)),
                );
            }
            Some(Ok(answer)) => self.redirect(&answer, section),
        }
    }

    fn redirect(&self, answer: &Answer, section: &mut Section) {
        let location = answer.field("location").unwrap_or_default();
        let host = self.target.host.uri_host().to_string();
        let rest = location.strip_prefix("https://");
        let same = rest.is_some_and(|rest| rest.split(['/', ':']).next() == Some(&host));
        match (answer.status, same) {
            (301 | 302 | 303 | 307 | 308, true) => section.passed(Group::Http, "port 80 leads to https"),
            (300..=399, false) => {
                let message = format!("port 80 leads to `{location}`, not to https on `{host}`");
                section.found(Finding::new(Code::HttpRedirectElsewhere, message));
            }
            (status, _) => {
                let message = format!(
                    "port 80 answers {status} by itself ({}) and leads nobody to https",
                    answer.author()
                );
                section.found(Finding::new(Code::HttpNoRedirect, message));
            }
        }
    }
}

/// The app itself, past the edge.
pub(super) async fn app(upstream: &Upstream, walk: &Walk<'_>) -> Section {
    let mut section = Section::new(
        format!("the app itself, at {upstream}"),
        vec![("host", upstream.to_string()), ("origin", walk.target.url()), ("url", walk.target.url())],
    );
    let (authority, patience) = (walk.target.authority(), walk.patience);
    let places = match upstream {
        Upstream::Address(address) => vec![Place::Tcp(*address)],
        Upstream::Unix(path) => vec![Place::Unix(path.clone())],
        Upstream::Name { host, port } => {
            let looked =
                walk.patience.wait(RESOLVE_TIME, tokio::net::lookup_host((host.clone(), *port))).await;
            looked.ok().and_then(Result::ok).map(|found| found.map(Place::Tcp).collect()).unwrap_or_default()
        }
    };
    let mut error = "its name has no address".to_owned();
    for place in places {
        let way = Way { place, tls: None, authority: authority.clone(), patience };
        match way.open().await {
            Ok(_) => {
                section.passed(Group::Port, "it accepts connections");
                let talk = Talk { namespace: None, hold: None, ..walk.talk(&way, true) };
                let met = talk.begin().await;
                talk.go_on(met, &mut section).await;
                return section;
            }
            Err(trouble) => error = super::talk::describe(&trouble),
        }
    }
    let message = format!("the app does not accept connections at {upstream}: start it, or mend the address");
    section.found(Finding::new(Code::AppDown, message).seen("seen", error));
    section
}

/// The server's clock, from any answer that has one.
fn date(page: Option<&Answer>, met: Option<&super::talk::Met>) -> Option<i64> {
    use super::talk::Met;
    let met = match met {
        Some(Met::Open(_, _, answer) | Met::Error(_, answer) | Met::Other(_, answer)) => Some(answer),
        _ => None,
    };
    page.into_iter().chain(met).find_map(|answer| parse_date(answer.field("date")?))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7) in seconds since 1970; the older forms nobody sends.
fn parse_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.split(' ');
    let day: i64 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = i64::try_from(MONTHS.iter().position(|known| *known == month)?).ok()? + 1;
    let year: i64 = words.next()?.parse().ok().filter(|year| (1970..10_000).contains(year))?;
    let mut time = words.next()?.split(':').map(str::parse::<i64>);
    let (hour, minute, second) = (time.next()?.ok()?, time.next()?.ok()?, time.next()?.ok()?);
    // Days from a civil date, after Howard Hinnant: years begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// The address by which this machine would go out; `None`: it is offline. Nothing is sent.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // A public address: only a default route leads there.
    socket.connect((Ipv4Addr::new(9, 9, 9, 9), 53)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified()).then_some(address)
}

fn shown(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn describe(knock: &Knock) -> String {
    match &knock.result {
        Ok(_) => "open".to_owned(),
        Err(Some(error)) => error.to_string(),
        Err(None) => "no answer within 3.5 s".to_owned(),
    }
}

fn dead_label(knock: &Knock) -> &'static str {
    if knock.address.is_ipv6() { "IPv6" } else { "IPv4" }
}

fn is_home(host: &Host) -> bool {
    match host {
        Host::Ip(address) => address.is_loopback() || is_private(address),
        Host::Dns(name) => {
            let name = name.as_str();
            let under = |ending: &str| name == ending || name.ends_with(&format!(".{ending}"));
            !name.contains('.') || HOME_ENDINGS.iter().any(|ending| under(ending))
        }
    }
}

fn is_private(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private(),
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

fn is_cgnat(address: &IpAddr) -> bool {
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
    fn dates_of_http_are_seconds() {
        assert_eq!(parse_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(parse_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(parse_date("Tue, 29 Feb 2000 12:00:00 GMT"), Some(951_825_600));
        for bad in [
            "",
            "now",
            "Sun, 06 Foo 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
        ] {
            assert_eq!(parse_date(bad), None, "{bad}");
        }
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
        assert!(is_home(&Host::parse("pi.local").unwrap()) && is_home(&Host::parse("localhost").unwrap()));
        assert!(
            !is_home(&Host::parse("recre.store").unwrap())
                && !is_home(&Host::parse("notlocal.store").unwrap())
        );
    }
}
