//! The way of a client to one host, in its order: name, port, TLS, HTTP, Engine.IO.

mod name;
mod port;

use std::net::SocketAddr;
use std::time::Duration;

use hyper::header::{self, HeaderValue};
use rustls_pki_types::{CertificateDer, ServerName};

use super::certificate::{self, Case};
use super::check::{Finding, Kind, Section};
use super::client::{Between, Client};
use super::connection::{Connector, Deadline, Place, Trouble};
use super::explain::{Code, Group};
use super::http::{Answer, Ask};
use super::options::Options;
use super::target::Target;
use super::tls::{self, NoTls, Session, Shown, TlsClient};
use crate::bundle::Upstream;

/// A name that nobody has: which certificate does it get?
const NOBODY: &str = "sanedge-doctor.invalid";

/// For one name; the system's resolver would wait much longer.
const RESOLVE_TIME: Duration = Duration::from_secs(4);

/// One host, and what all steps share.
pub(super) struct Stages<'a> {
    pub(super) target: &'a Target,
    pub(super) options: &'a Options,
    pub(super) trust: &'a [CertificateDer<'static>],
    /// Seconds since 1970.
    pub(super) now: i64,
    pub(super) deadline: Deadline,
}

impl Stages<'_> {
    /// Goes the whole way.
    pub(super) async fn go(&self) -> Section {
        let target = self.target;
        let url = target.url();
        let mut section = Section::new(
            Kind::Host,
            url.clone(),
            vec![
                ("host", target.host.to_string()),
                ("port", target.port.to_string()),
                ("origin", url.clone()),
                ("url", url),
                ("path", target.path.clone()),
                ("http_port", target.http_port.unwrap_or(80).to_string()),
                ("file", target.named.config.clone()),
                ("reload", target.named.reload.clone()),
                ("load", target.named.load.clone()),
            ],
        );
        self.on_the_way(&mut section).await;
        if section.checks.iter().any(|check| check.group == Group::Port) {
            self.outside(&mut section);
        }
        section
    }

    async fn on_the_way(&self, section: &mut Section) -> Option<()> {
        let addresses = self.name(section).await?;
        let address = self.port(&addresses, section).await?;
        let connector = Connector {
            place: Place::Tcp(address),
            tls: None,
            authority: self.target.authority(),
            deadline: self.deadline,
        };
        if self.target.tls {
            self.with_tls(connector, address, section).await?;
        } else {
            let engine = self.engine(&connector, true);
            let met = engine.begin().await;
            engine.go_on(met, section).await;
        }
        Some(())
    }

    // --- TLS and what follows -----------------------------------------------------------------------------

    fn tls_connector(&self, address: SocketAddr) -> Option<(Connector, TlsClient)> {
        self.connector_for(address, &self.target.host.to_string(), rustls::ALL_VERSIONS)
    }

    fn connector_for(
        &self,
        address: SocketAddr,
        name: &str,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Option<(Connector, TlsClient)> {
        let client = TlsClient::new(versions)?;
        let name = ServerName::try_from(name.to_owned()).ok()?;
        let connector = Connector {
            place: Place::Tcp(address),
            tls: Some((client.clone(), name)),
            authority: self.target.authority(),
            deadline: self.deadline,
        };
        Some((connector, client))
    }

    async fn with_tls(&self, plain: Connector, address: SocketAddr, section: &mut Section) -> Option<()> {
        let (connector, client) = self.tls_connector(address)?;
        let (opened, older, nobody) = tokio::join!(
            connector.open(),
            self.shakes(address, &rustls::version::TLS12),
            self.default_of(address)
        );
        let session = match opened {
            Ok(connection) => connection.session?,
            Err(trouble) => {
                section.found(self.no_tls(&trouble, &client.shown()));
                return None;
            }
        };
        let shown = client.shown();
        let host = &self.target.host;
        let trusted =
            shown.unproven.is_none() && certificate::acceptable(host, &shown.chain, self.trust, self.now);
        if trusted {
            let (host, trust, now) = (host.clone(), self.trust.to_vec(), self.now);
            client.guard(move |chain| certificate::acceptable(&host, chain, &trust, now));
        }
        let open = trusted || self.options.insecure;
        let ours = self.target.expected.as_ref().is_some_and(|own| shown.chain.first() == Some(own));
        let between = if ours { Between::Sanedge } else { Between::Somebody };
        let engine = Client { between, ..self.engine(&connector, open) };
        let root = Ask::get("/");
        let (page, http, met) =
            tokio::join!(connector.ask(&root), self.plain_http(&plain, address), engine.begin());
        let page = page.ok();
        let resumed = self.resumes(&connector, page.is_some()).await;
        let server_now = date(page.as_ref(), met.as_ref());
        let versions = match (session.version.as_str(), older) {
            ("TLS 1.3", true) => "TLS 1.3 and 1.2",
            ("TLS 1.3", false) => "TLS 1.3",
            _ => "TLS 1.2",
        };
        let case = Case {
            host,
            chain: &shown.chain,
            stapled: shown.stapled,
            trust: self.trust,
            expected: self.target.expected.as_ref(),
            named: &self.target.named,
            unproven: shown.unproven.as_deref(),
            resumed,
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
            && met.as_ref().is_some_and(|met| matches!(met, super::client::Met::Trouble(_)))
        {
            section.found(tls::wants_certificate("hung up on the first request"));
            return None;
        }
        engine.go_on(met, section).await;
        Some(())
    }

    fn tls_lines(&self, case: &Case<'_>, session: &Session, versions: &str, section: &mut Section) {
        let is_fine = certificate::judge(section, case, session, versions);
        if let Some(finding) =
            case.server_now.filter(|_| is_fine).and_then(|theirs| certificate::skew(self.now, theirs))
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
            other => super::client::silence(other, "TLS handshake"),
        }
    }

    async fn shakes(&self, address: SocketAddr, version: &'static rustls::SupportedProtocolVersion) -> bool {
        let Some((connector, _)) = self.connector_for(address, &self.target.host.to_string(), &[version])
        else {
            return false;
        };
        connector.open().await.is_ok()
    }

    /// Whether the session of an answered request is taken up again.
    async fn resumes(&self, connector: &Connector, answered: bool) -> Option<bool> {
        if !answered {
            return None;
        }
        Some(connector.open().await.ok()?.session?.resumed)
    }

    /// The certificate of a name that nobody has.
    async fn default_of(&self, address: SocketAddr) -> Option<CertificateDer<'static>> {
        let (connector, client) = self.connector_for(address, NOBODY, rustls::ALL_VERSIONS)?;
        connector.open().await.ok()?;
        client.shown().chain.into_iter().next()
    }

    fn engine<'a>(&'a self, connector: &'a Connector, open: bool) -> Client<'a> {
        let options = self.options;
        let mut fields = Vec::new();
        let origin = options.origin.as_ref().and_then(|text| HeaderValue::from_bytes(text.as_bytes()).ok());
        fields.extend(origin.map(|origin| (header::ORIGIN, origin)));
        if open {
            fields.extend(options.header.iter().cloned());
            fields.extend(options.cookie.iter().map(|cookie| (header::COOKIE, cookie.clone())));
        }
        Client {
            connector,
            path: &self.target.path,
            query: if open { &self.target.query } else { &[] },
            fields,
            options,
            namespace: options.namespace.as_deref().filter(|_| open),
            hold: options.hold,
            between: Between::Somebody,
        }
    }

    // --- HTTP ---------------------------------------------------------------------------------------------

    async fn plain_http(
        &self,
        connector: &Connector,
        address: SocketAddr,
    ) -> Option<Result<Answer, Trouble>> {
        let place = Place::Tcp(SocketAddr::new(address.ip(), self.target.http_port?));
        let connector =
            Connector { place, authority: self.target.host.uri_host().to_string(), ..connector.clone() };
        Some(connector.ask(&Ask::get("/")).await)
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
                let message = format!(
                    "nothing answers on port {}: clients are not redirected to https, and certbot cannot use it",
                    self.http_port()
                );
                section.found(
                    Finding::new(Code::Port80Refused, message)
                        .seen("seen", super::client::describe(&trouble)),
                );
            }
            Some(Ok(answer)) => self.redirect(&answer, section),
        }
    }

    fn http_port(&self) -> u16 {
        self.target.http_port.unwrap_or(80)
    }

    fn redirect(&self, answer: &Answer, section: &mut Section) {
        let port = self.http_port();
        let location = answer.field("location").unwrap_or_default();
        let host = self.target.host.uri_host().to_string();
        let rest = location.strip_prefix("https://");
        let same = rest.is_some_and(|rest| rest.split(['/', ':']).next() == Some(&host));
        match (answer.status, same) {
            (301 | 302 | 303 | 307 | 308, true) => {
                section.passed(Group::Http, format!("port {port} leads to https"));
            }
            (300..=399, false) => {
                let message = format!("port {port} leads to `{location}`, not to https on `{host}`");
                section.found(Finding::new(Code::HttpRedirectElsewhere, message));
            }
            _ if answer.field("sanedge-error") == Some("unknown_host") => {
                let message = format!(
                    "sanedge answers on port {port} and does not know `{host}` (404 unknown_host): add it to a site, or have the new bundle opened"
                );
                section.found(Finding::new(Code::HttpNoRedirect, message).seen("answered", answer.shown()));
            }
            (status, _) => {
                let message = format!(
                    "port {port} answers {status} by itself ({}) and does not redirect to https",
                    answer.author()
                );
                section.found(Finding::new(Code::HttpNoRedirect, message));
            }
        }
    }
}

async fn looked_up(host: String, port: u16, stages: &Stages<'_>) -> Vec<Place> {
    let found = stages.deadline.wait(RESOLVE_TIME, tokio::net::lookup_host((host, port))).await;
    found.ok().and_then(Result::ok).map(|found| found.map(Place::Tcp).collect()).unwrap_or_default()
}

/// The app itself, past the edge.
pub(super) async fn app(upstream: &Upstream, stages: &Stages<'_>) -> Section {
    let mut section = Section::new(
        Kind::App,
        format!("the app itself, at {upstream}"),
        vec![("host", upstream.to_string()), ("origin", stages.target.url()), ("url", stages.target.url())],
    );
    let (authority, deadline) = (stages.target.authority(), stages.deadline);
    let places = match upstream {
        Upstream::Address(address) => vec![Place::Tcp(*address)],
        Upstream::Unix(path) => vec![Place::Unix(path.clone())],
        // getaddrinfo(3) knows the number of an interface as well.
        Upstream::Zoned { ip, zone, port } => looked_up(format!("{ip}%{zone}"), *port, stages).await,
        Upstream::Name { host, port } => looked_up(host.clone(), *port, stages).await,
    };
    let mut error = "its name has no address".to_owned();
    for place in places {
        let connector = Connector { place, tls: None, authority: authority.clone(), deadline };
        match connector.open().await {
            Ok(_) => {
                section.passed(Group::Port, "it accepts connections");
                let engine = Client {
                    namespace: None,
                    hold: None,
                    between: Between::Nobody,
                    path: stages.target.stripped_path.as_deref().unwrap_or(&stages.target.path),
                    ..stages.engine(&connector, true)
                };
                let met = engine.begin().await;
                if met.as_ref().is_some_and(may_be_tls) && speaks_tls(&connector).await {
                    let message = format!(
                        "the app speaks TLS at {upstream}, where the edge speaks plain HTTP to it: name its plain port"
                    );
                    section.found(Finding::new(Code::AppTls, message));
                    return section;
                }
                engine.go_on(met, &mut section).await;
                return section;
            }
            Err(Trouble::TimeUp) => {
                section.found(super::client::time_up());
                return section;
            }
            Err(trouble) => error = super::client::describe(&trouble),
        }
    }
    let message =
        format!("the app does not accept connections at {upstream}: start it, or correct the address");
    section.found(Finding::new(Code::AppDown, message).seen("seen", error));
    section
}

/// No answer to plain HTTP, an alert in place of one, or a 400 that says it (nginx, Apache, Go).
fn may_be_tls(met: &super::client::Met) -> bool {
    use super::client::Met;
    match met {
        Met::Trouble(trouble) => !matches!(trouble, Trouble::TimeUp),
        Met::Other(_, answer) => answer.status == 400 && answer.body.to_ascii_lowercase().contains("https"),
        Met::Open(..) | Met::Error(..) => false,
    }
}

/// Whether the same place shakes hands.
async fn speaks_tls(connector: &Connector) -> bool {
    let (Some(client), Ok(name)) = (TlsClient::new(rustls::ALL_VERSIONS), ServerName::try_from("localhost"))
    else {
        return false;
    };
    let tls = Connector { tls: Some((client, name)), ..connector.clone() };
    match tls.open().await {
        Ok(_) => true,
        // It refuses us, in TLS.
        Err(Trouble::Tls(trouble)) => matches!(trouble, NoTls::Alert(_) | NoTls::Refused(_)),
        Err(_) => false,
    }
}

/// The server's clock, from any answer that has one.
fn date(page: Option<&Answer>, met: Option<&super::client::Met>) -> Option<i64> {
    use super::client::Met;
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
}
