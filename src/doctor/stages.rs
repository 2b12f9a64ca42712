//! The way of a client to one host, in its order: name, port, TLS, HTTP, Engine.IO.

pub(super) mod app;
mod name;
mod page;
mod port;
mod reach;
mod renewal;
mod tls;

use std::net::IpAddr;

use hyper::header::{self, HeaderValue};
use rustls_pki_types::CertificateDer;

use super::check::{Kind, Section};
use super::client::{Between, Client, Jar};
use super::connection::{Connector, Deadline, Place};
use super::explain::Group;
use super::journal::Journal;
use super::options::Options;
use super::router::WayOut;
use super::target::Target;

/// For one name; the system's resolver would wait much longer.
const RESOLVE_TIME: std::time::Duration = std::time::Duration::from_secs(4);

/// One host, and what all steps share.
pub(super) struct Stages<'a> {
    pub(super) target: &'a Target,
    pub(super) options: &'a Options,
    pub(super) trust: &'a [CertificateDer<'static>],
    /// Seconds since 1970.
    pub(super) now: i64,
    pub(super) way_out: WayOut,
    pub(super) deadline: Deadline,
    pub(super) journal: Journal,
}

impl Stages<'_> {
    /// Goes the whole way.
    pub(super) async fn go(&self) -> Section {
        let mut section = Section::new(Kind::Host, self.target.url(), self.words());
        self.hide_secrets();
        let addresses = self.name(&mut section).await;
        self.tell(&mut section);
        if let Some(addresses) = &addresses {
            self.on_the_way(addresses, &mut section).await;
        }
        self.renewal(addresses.as_deref().unwrap_or_default(), &mut section).await;
        if section.checks.iter().any(|check| check.group == Group::Port) {
            self.outside(&mut section);
        }
        self.tell(&mut section);
        section.finish(&self.journal);
        section
    }

    /// Gives what was found so far to the caller of the run.
    fn tell(&self, section: &mut Section) {
        section.tell(&self.journal, self.options.progress);
    }

    /// For the braces of explanations.
    pub(super) fn words(&self) -> Vec<(&'static str, String)> {
        let target = self.target;
        let url = target.url();
        vec![
            ("host", target.host.to_string()),
            ("port", target.port.to_string()),
            ("origin", url.clone()),
            ("url", url),
            ("path", target.path.clone()),
            ("http_port", target.http_port.unwrap_or(80).to_string()),
            ("file", target.named.config.clone()),
            ("apply", target.named.apply.clone()),
            ("load", target.named.load.clone()),
            ("acme", target.named.acme.clone()),
        ]
    }

    async fn on_the_way(&self, addresses: &[IpAddr], section: &mut Section) -> Option<()> {
        let open = self.port(addresses, section).await;
        self.tell(section);
        let open = open?;
        if self.target.tls {
            return self.with_tls(&open, section).await;
        }
        let connector = self.plain_connector(*open.first()?);
        let other = open.get(1).map(|address| self.plain_connector(*address));
        let engine = Client { other, ..self.engine(&connector, true) };
        self.in_the_clear(&engine, section);
        let met = engine.begin().await;
        engine.go_on(met, section).await;
        self.compare_apps(&open, section).await;
        Some(())
    }

    /// What a client of this machine does not notice.
    fn in_the_clear(&self, engine: &Client<'_>, section: &mut Section) {
        if !engine.is_loopback() {
            section.unknown(
                Group::Port,
                "plain http: apps on Android 9 and later and on iOS refuse it unless they allow cleartext, and browsers refuse it for pages of https",
            );
        }
    }

    fn plain_connector(&self, address: std::net::SocketAddr) -> Connector {
        Connector {
            tls: None,
            authority: self.target.authority(),
            ..Connector::new(Place::Tcp(address), self.deadline, self.journal.clone())
        }
    }

    /// Nothing of what the user gave is shown.
    fn hide_secrets(&self) {
        let options = self.options;
        let target = self.target;
        [
            &target.host.to_string(),
            &target.named.expected_in,
            &target.named.config,
            &target.named.apply,
            &target.named.load,
            &target.named.acme,
        ]
        .into_iter()
        .for_each(|text| self.journal.vouch(text));
        let values = [
            Some(target.path.as_str()),
            // This is requested too.
            target.path.strip_suffix('/'),
            target.stripped_path.as_deref(),
            options.namespace.as_deref(),
            options.origin.as_deref(),
        ];
        values.into_iter().flatten().for_each(|value| self.journal.excerpt(value));
        for (_, value) in &options.header {
            self.journal.hide(&String::from_utf8_lossy(value.as_bytes()), "***");
        }
        if let Some(cookie) = &options.cookie {
            self.journal.hide(&String::from_utf8_lossy(cookie.as_bytes()), "***");
        }
        for (_, value) in &options.auth {
            self.journal.hide(value, "***");
            // Its form in a packet.
            let quoted = serde_json::Value::from(value.as_str()).to_string();
            let quoted = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            self.journal.hide(quoted.unwrap_or_default(), "***");
        }
        for (key, value) in &self.target.query {
            let escaped = super::packets::escape(value);
            self.journal.hide(&format!("{key}={escaped}"), &format!("{key}=***"));
            self.journal.hide(&escaped, "***");
        }
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
            other: None,
            path: &self.target.path,
            query: if open { &self.target.query } else { &[] },
            fields,
            jar: Jar::new(!options.no_cookies),
            options,
            namespace: options.namespace.as_deref().filter(|_| open),
            hold: options.hold,
            between: Between::Somebody,
        }
    }
}
