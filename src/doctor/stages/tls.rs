//! TLS with every address of the host, and the further steps over a correct one.

use std::net::SocketAddr;

use rustls::AlertDescription;
use rustls_pki_types::{CertificateDer, ServerName};

use super::Stages;
use crate::doctor::ask::{Answer, Ask};
use crate::doctor::certificate::{self, Case};
use crate::doctor::check::{Finding, Section};
use crate::doctor::client::{self, Between, Client, Met};
use crate::doctor::connection::{Connector, PROXY_HEADER, Place, Trouble};
use crate::doctor::explain::{Code, Group};
use crate::doctor::tls::{self, NoTls, Session, TlsClient};

/// An unknown name, to see which certificate it gets.
const NOBODY: &str = "sanedge-doctor.invalid";
/// Segments small enough for every link (RFC 879).
const SMALL_MSS: u32 = 536;
/// A handshake with one address.
struct Look {
    address: SocketAddr,
    connector: Connector,
    client: TlsClient,
    opened: Result<Session, Trouble>,
    acceptable: bool,
}

impl Stages<'_> {
    pub(super) fn tls_connector(&self, address: SocketAddr) -> Option<(Connector, TlsClient)> {
        self.connector_for(address, &self.target.host.to_string(), TlsClient::new(rustls::ALL_VERSIONS)?)
    }

    fn connector_for(
        &self,
        address: SocketAddr,
        name: &str,
        client: TlsClient,
    ) -> Option<(Connector, TlsClient)> {
        let name = ServerName::try_from(name.to_owned()).ok()?;
        let connector = Connector {
            tls: Some((client.clone(), name)),
            authority: self.target.authority(),
            ..Connector::new(Place::Tcp(address), self.deadline, self.journal.clone())
        };
        Some((connector, client))
    }

    pub(super) async fn with_tls(&self, open: &[SocketAddr], section: &mut Section) -> Option<()> {
        let looks = futures_util::future::join_all(open.iter().map(|address| self.look(*address)));
        let first = *open.first()?;
        let (looks, older, nobody, large) = tokio::join!(
            looks,
            self.shakes(first, TlsClient::new(&[&rustls::version::TLS12])),
            self.default_of(first),
            self.shaken(first, TlsClient::large()),
        );
        let looks: Vec<Look> = looks.into_iter().flatten().collect();
        let look = self.compare_certificates(&looks, section)?;
        let session = match &look.opened {
            Ok(session) => session,
            Err(trouble) => {
                let finding = self.no_tls(look, trouble).await;
                section.found(finding);
                return None;
            }
        };
        if large.is_none() && look.address == first {
            self.large_hello(first, section).await;
        }
        let large =
            if look.address == first { large } else { self.shaken(look.address, TlsClient::large()).await };
        // That of a browser, which offers more than our short hello.
        let session = Session { group: large.unwrap_or_else(|| session.clone()).group, ..session.clone() };
        let versions = match (session.version.as_str(), older) {
            ("TLS 1.3", true) => "TLS 1.3 and 1.2",
            ("TLS 1.3", false) => "TLS 1.3",
            _ => "TLS 1.2",
        };
        let other = looks.iter().find(|other| other.acceptable && other.address != look.address);
        let other = other.map(|other| other.connector.clone());
        self.converse(look, other, (&session, versions), nobody, section).await?;
        let others: Vec<SocketAddr> = open.iter().copied().filter(|other| *other != look.address).collect();
        if looks.iter().all(|look| look.acceptable) && self.target.redirect.is_none() {
            let all: Vec<SocketAddr> = std::iter::once(look.address).chain(others).collect();
            self.compare_apps(&all, section).await;
        }
        Some(())
    }

    async fn look(&self, address: SocketAddr) -> Option<Look> {
        let (connector, client) = self.tls_connector(address)?;
        let opened = match connector.open().await {
            Ok(connection) => Ok(connection.session?),
            Err(trouble) => Err(trouble),
        };
        let shown = client.shown();
        let acceptable = opened.is_ok()
            && shown.unproven.is_none()
            && certificate::acceptable(&self.target.host, &shown.chain, self.trust, self.now);
        Some(Look { address, connector, client, opened, acceptable })
    }

    /// The address for the further steps: a correct one if there is one. If only some are correct, that is the first finding.
    fn compare_certificates<'a>(&self, looks: &'a [Look], section: &mut Section) -> Option<&'a Look> {
        let right = looks.iter().find(|look| look.acceptable);
        let wrong = looks.iter().find(|look| !look.acceptable);
        if let (Some(right), Some(wrong)) = (right, wrong) {
            let seen = match &wrong.opened {
                Ok(_) => certificate::summary(&wrong.client.shown().chain, self.trust, self.now),
                Err(trouble) => trouble.to_string(),
            };
            section.found(self.differ(right.address, wrong.address).seen("seen there", seen));
        }
        right.or(looks.first())
    }

    fn differ(&self, right: SocketAddr, wrong: SocketAddr) -> Finding {
        let kind = |address: SocketAddr| if address.is_ipv6() { "AAAA" } else { "A" };
        let (here, there) = (kind(right), kind(wrong));
        let leads = if here == there {
            format!("one {there} record belongs to another server than the other")
        } else {
            format!("{there} belongs to another server than {here}")
        };
        let message = format!(
            "{leads}: {} is right, {} is not: remove that address from the name's DNS records, or fix the server there",
            right.ip(),
            wrong.ip()
        );
        Finding::new(Code::NameAddressesDiffer, message)
    }

    /// Checks with one request to each further address with a correct certificate whether the same app answers.
    pub(super) async fn compare_apps(&self, open: &[SocketAddr], section: &mut Section) {
        let Some((first, others)) = open.split_first() else { return };
        let first_is_right = match section.first_failure().map(|finding| finding.code.group()) {
            None => true,
            Some(Group::Http | Group::Polling) => false,
            Some(_) => return,
        };
        for other in others {
            let seen = match self.handshake_at(*other).await {
                None => return,
                Some(Met::Open(..)) if first_is_right => continue,
                Some(Met::Open(..)) => {
                    section.found(self.differ(*other, *first));
                    return;
                }
                Some(_) if !first_is_right => continue,
                Some(Met::Error(_, answer) | Met::Other(_, answer)) => answer.shown().into(),
                Some(Met::Trouble(trouble)) => trouble.to_string(),
            };
            section.found(self.differ(*first, *other).seen("seen there", seen));
            return;
        }
    }

    async fn handshake_at(&self, address: SocketAddr) -> Option<Met> {
        let connector =
            if self.target.tls { self.tls_connector(address)?.0 } else { self.plain_connector(address) };
        self.engine(&connector, true).begin().await
    }

    /// All further steps over one address after its handshake.
    async fn converse(
        &self,
        look: &Look,
        other: Option<Connector>,
        (session, versions): (&Session, &str),
        nobody: Option<CertificateDer<'static>>,
        section: &mut Section,
    ) -> Option<()> {
        let (connector, client, shown) = (&look.connector, &look.client, look.client.shown());
        let host = &self.target.host;
        if look.acceptable {
            let (host, trust, now) = (host.clone(), self.trust.to_vec(), self.now);
            client.guard(move |chain| certificate::acceptable(&host, chain, &trust, now));
        }
        let open = look.acceptable || self.options.insecure;
        let ours = self.target.expected.as_ref().is_some_and(|own| shown.chain.first() == Some(own));
        let between = if ours { Between::Sanedge } else { Between::Somebody };
        let engine = Client { between, other, ..self.engine(connector, open) };
        let met = engine.begin().await;
        let resumed = self.resumes(connector, met.as_ref().is_none_or(|met| met.answer().is_some())).await;
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
            server_now: met.as_ref().and_then(Met::answer).and_then(date),
        };
        self.tls_lines(&case, session, versions, section);
        self.nothing_private(open, section);
        self.tell(section);
        // A server that asks for a certificate in TLS 1.3 refuses only after the handshake.
        if client.shown().wants_certificate && met.as_ref().is_some_and(|met| matches!(met, Met::Trouble(_)))
        {
            section.found(tls::wants_certificate("closed the connection at the first request"));
            return None;
        }
        if !self.redirects(met.as_ref(), section) {
            engine.go_on(met, section).await;
        }
        let root = Ask::get("/");
        let (page, http) = tokio::join!(connector.ask(&root), self.plain_http(look.address));
        self.http_lines(&page, http, section);
        Some(())
    }

    fn nothing_private(&self, open: bool, section: &mut Section) {
        let private = self.options.private(!self.target.query.is_empty());
        if !open && !private.is_empty() {
            let list = private.join(", no ");
            let text = format!(
                "without a valid certificate nothing private is sent: no {list} (--insecure sends it)"
            );
            section.skipped(Group::Tls, text);
        }
    }

    fn tls_lines(&self, case: &Case<'_>, session: &Session, versions: &str, section: &mut Section) {
        let is_fine = certificate::judge(section, case, session, versions);
        if let Some(finding) =
            case.server_now.filter(|_| is_fine).and_then(|theirs| certificate::skew(self.now, theirs))
        {
            section.found(finding);
        }
    }

    /// Why a handshake fails; tests two causes with further handshakes.
    async fn no_tls(&self, look: &Look, trouble: &Trouble) -> Finding {
        let small = Connector { mss: Some(SMALL_MSS), ..look.connector.clone() };
        let proxied = Connector { preface: PROXY_HEADER, ..look.connector.clone() };
        let port = self.target.port;
        match trouble {
            Trouble::Tls(NoTls::Silent) if small.open().await.is_ok() => Finding::new(
                Code::PortMtu,
                format!("large packets are lost on the way: the TLS handshake hangs, and works with packets of at most {SMALL_MSS} bytes: clamp the MSS on the router or tunnel"),
            )
            .seen("usual segments", trouble.to_string()),
            Trouble::Tls(NoTls::Closed | NoTls::Other(_) | NoTls::Silent) if proxied.open().await.is_ok() => Finding::new(
                Code::PortProxyProtocol,
                format!("port {port} expects the PROXY protocol, which only a load balancer sends: disable it there (nginx: `proxy_protocol` in `listen`; HAProxy: `accept-proxy`)"),
            )
            .seen("without it", trouble.to_string()),
            Trouble::Tls(NoTls::Alert(AlertDescription::UnrecognisedName)) if self.waits(look.address).await => {
                let host = &self.target.host;
                Finding::new(
                    Code::EdgeCertificatePending,
                    format!("the certificate of `{host}` is pending: run `sanedge renew` on the board"),
                )
                .seen("seen", trouble.to_string())
            }
            Trouble::Tls(error) => tls::no_tls(error, &look.client.shown(), &self.target.host, port),
            Trouble::Connect(error) => {
                let message = format!("port {port} was open and no longer is");
                Finding::new(Code::PortRefused, message).seen("seen", error.to_string())
            }
            other => client::silence(other, "TLS handshake"),
        }
    }

    /// Whether sanedge serves the host without a certificate yet: by its bundle, or by the answer of its plain port.
    async fn waits(&self, address: SocketAddr) -> bool {
        let says = |answer: &Answer| answer.field("sanedge-error") == Some("certificate_pending");
        self.target.pending || matches!(self.plain_http(address).await, Some(Ok(answer)) if says(&answer))
    }

    /// Repeated before it is reported: a packet may have been lost.
    async fn large_hello(&self, address: SocketAddr, section: &mut Section) {
        if self.shakes(address, TlsClient::large()).await
            || !self.shakes(address, TlsClient::new(rustls::ALL_VERSIONS)).await
        {
            return;
        }
        let message = "a ClientHello of 1.8 KB, as browsers send since 2024, gets no answer, but a short one does: browsers fail and older programs work: update the firewall or load balancer in front of the server";
        section.found(Finding::new(Code::TlsLargeHello, message));
    }

    async fn shakes(&self, address: SocketAddr, client: Option<TlsClient>) -> bool {
        self.shaken(address, client).await.is_some()
    }

    async fn shaken(&self, address: SocketAddr, client: Option<TlsClient>) -> Option<Session> {
        let (connector, _) = self.connector_for(address, &self.target.host.to_string(), client?)?;
        connector.open().await.ok()?.session
    }

    /// Whether the TLS session of an answered request is resumed.
    async fn resumes(&self, connector: &Connector, answered: bool) -> Option<bool> {
        if !answered {
            return None;
        }
        Some(connector.open().await.ok()?.session?.resumed)
    }

    /// The certificate for an unknown name.
    async fn default_of(&self, address: SocketAddr) -> Option<CertificateDer<'static>> {
        let (connector, client) =
            self.connector_for(address, NOBODY, TlsClient::new(rustls::ALL_VERSIONS)?)?;
        connector.open().await.ok()?;
        client.shown().chain.into_iter().next()
    }
}

/// The server's clock.
fn date(answer: &Answer) -> Option<i64> {
    parse_date(answer.field("date")?)
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7) in seconds since 1970. The older forms are not in use.
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
