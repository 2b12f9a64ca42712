//! What a browser gets for the bare name: the page at `/`, and port 80.

use std::net::SocketAddr;

use super::Stages;
use crate::doctor::ask::{Answer, Ask};
use crate::doctor::check::{Finding, Section};
use crate::doctor::client::Met;
use crate::doctor::connection::{Connector, Place, Trouble};
use crate::doctor::explain::{Code, Group};
use crate::doctor::{client, csp};
use crate::excerpt::Excerpt;

impl Stages<'_> {
    pub(super) async fn plain_http(&self, address: SocketAddr) -> Option<Result<Answer, Trouble>> {
        let port80 = SocketAddr::new(address.ip(), self.target.http_port?);
        let connector = Connector {
            authority: self.target.host.uri_host().to_string(),
            ..Connector::new(Place::Tcp(port80), self.deadline, self.journal.clone())
        };
        Some(connector.ask(&Ask::get("/")).await)
    }

    pub(super) fn http_lines(
        &self,
        page: &Result<Answer, Trouble>,
        http: Option<Result<Answer, Trouble>>,
        section: &mut Section,
    ) {
        match page {
            Ok(page) => {
                let hsts = page.field("strict-transport-security").map_or("", |_| ", HSTS");
                section.passed(Group::Http, format!("GET / answers {} ({}){hsts}", page.status, page.author()));
                self.policy(page, section);
            }
            Err(Trouble::Silent) => section.unknown(
                Group::Http,
                "GET / gets no answer in time, which is right if only Socket.IO is attached to the app's server",
            ),
            Err(trouble) => section.unknown(Group::Http, format!("GET / fails: {trouble}")),
        }
        match http {
            None => {}
            Some(Err(trouble)) => {
                let message = format!(
                    "nothing answers on port {}: clients are not redirected to https, and certbot cannot use it",
                    self.http_port()
                );
                section.found(
                    Finding::new(Code::Port80Refused, message).seen("seen", client::describe(&trouble)),
                );
            }
            Some(Ok(answer)) => self.redirect(&answer, section),
        }
    }

    /// Whether the host redirects as its site says. Then there is no app for a Socket.IO client.
    pub(super) fn redirects(&self, met: Option<&Met>, section: &mut Section) -> bool {
        let Some(to) = self.target.redirect.as_ref().map(ToString::to_string) else { return false };
        let answer = met.and_then(Met::answer).filter(|answer| answer.status == 308);
        let location = answer.and_then(|answer| answer.field("location"));
        if !location
            .is_some_and(|location| location.strip_prefix(&to).is_some_and(|rest| rest.starts_with('/')))
        {
            return false;
        }
        let (shown, wss) = (Excerpt::of(&to), Excerpt::of(&to.replacen("https", "wss", 1)));
        let text = format!(
            "every request is redirected to {shown}, as `redirect` says; WebSocket clients do not follow that: they need {wss}"
        );
        section.passed(Group::Http, text);
        true
    }

    /// Finds a page with scripts whose policy forbids it to connect to its server. Error pages have strict policies, and no scripts.
    fn policy(&self, page: &Answer, section: &mut Section) {
        let html = page.field("content-type").is_some_and(|kind| kind.starts_with("text/html"));
        if page.status != 200 || !html || !page.body.contains("<script") {
            return;
        }
        let policies = page.fields.get_all("content-security-policy");
        let policies = policies.iter().filter_map(|policy| policy.to_str().ok());
        if let Some(sources) = csp::forbids(policies, &self.target.url()) {
            let message = format!(
                "the page at / may not connect to its own server: its Content-Security-Policy allows only {sources}: add 'self' to connect-src"
            );
            section.found(Finding::new(Code::PageCsp, message).seen("policy", Excerpt::of(&sources)));
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
                section.passed(Group::Http, format!("port {port} redirects to https"));
            }
            (300..=399, false) => {
                let message = format!("port {port} redirects to `{location}`, not to https on `{host}`");
                section.found(Finding::new(Code::HttpRedirectElsewhere, message));
            }
            _ if answer.field("sanedge-error") == Some("unknown_host") => {
                let message = format!(
                    "sanedge answers on port {port} and does not know `{host}` (404 unknown_host): add it to a site, or load the new bundle"
                );
                section.found(Finding::new(Code::HttpNoRedirect, message).seen("answered", answer.shown()));
            }
            (status, _) => {
                let message = format!(
                    "port {port} answers {status} ({}) and does not redirect to https",
                    answer.author()
                );
                section.found(Finding::new(Code::HttpNoRedirect, message));
            }
        }
    }
}
