//! Request smuggling, response splitting and forged fields: what the edge answers, and what really reaches the upstream.
//!
//! The tables are [`requests`] and [`answers`]. [`differential`] has other servers read the same bytes.

mod answers;
mod differential;
mod forged;
mod requests;

use std::panic::AssertUnwindSafe;

use crate::support::SOCKET_HOST as HOST;
use crate::support::edge::Edge;
use crate::support::raw::Raw;
use crate::support::upstream::{OK, Upstream};
use futures_util::FutureExt;
use requests::{Row, Then};

const NEXT: &str = "GET /next HTTP/1.1\r\nHost: HOST\r\n\r\n";

/// An edge that keeps no upstream connection, so that each request has one of its own, and a route for others only.
fn edge(upstream: &Upstream) -> Edge {
    let private = format!(
        "[[site.route]]\npath = \"/private/\"\nupstream = [\"{upstream}\"]\nallow = [\"192.0.2.0/24\"]"
    );
    Edge::certified_for(&[HOST])
        .site_with(&[HOST], upstream, &private)
        .limits("pool_idle_max = 0\nworkers = 1")
        .start()
}

/// As Latin-1: one byte a character.
fn bytes(text: &str) -> Vec<u8> {
    text.replace("HOST", HOST).chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

/// What the upstream got without the fields that the edge adds to every request, each of which must be there once.
fn without_ours(received: &[u8]) -> String {
    let mut text: String = received.iter().map(|&byte| char::from(byte)).collect();
    if !text.contains("\r\n\r\n") {
        return text;
    }
    for ours in [
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Port: 443",
        "X-Real-IP: 127.0.0.1",
    ] {
        let line = format!("\r\n{ours}\r\n");
        assert_eq!(text.matches(&line).count(), 1, "{ours} in {text:?}");
        text = text.replacen(&line, "\r\n", 1);
    }
    let at = text.find("\r\nX-Forwarded-Host: ").unwrap() + 2;
    let end = at + text[at..].find("\r\n").unwrap() + 2;
    text.replace_range(at..end, "");
    assert!(!text.contains("X-Forwarded-Host"), "{text:?}");
    text
}

struct Trial<'a> {
    row: &'a Row,
    upstream: &'a Upstream,
    /// Connections of the upstream before.
    before: usize,
}

impl Trial<'_> {
    /// What the upstream got on the connection that was `at` after the row began.
    fn received(&self, at: usize) -> String {
        let records = self.upstream.records();
        without_ours(
            &records
                .get(self.before + at)
                .unwrap_or_else(|| panic!("{}: nothing came", self.row.name))
                .received,
        )
    }

    fn assert_received(&self, at: usize, expected: &str) {
        let expected: String = bytes(expected).iter().map(|&byte| char::from(byte)).collect();
        assert_eq!(self.received(at), expected, "{}", self.row.name);
    }

    fn assert_connections(&self, expected: usize) {
        assert_eq!(
            self.upstream.connections() - self.before,
            expected,
            "{}: connections upstream",
            self.row.name
        );
    }

    async fn run(&self, edge: &Edge) {
        let mut client = Raw::open(edge, HOST).await;
        let name = self.row.name;
        let method = self.row.request.trim_start().split(' ').next().unwrap();
        client.send([bytes(&self.row.request), bytes(NEXT)].concat()).await;
        let answer = client.response_to(method).await;
        let ours = answer.field("sanedge-error").is_some();
        match &self.row.then {
            Then::Refused(status) | Then::Answered(status) => {
                assert_eq!((answer.status, ours), (*status, true), "{name}: {answer:?}");
            }
            Then::Cut(_) => assert_eq!((answer.status, ours), (400, true), "{name}: {answer:?}"),
            _ => assert_eq!((answer.status, ours), (200, false), "{name}: {answer:?}"),
        }
        let mut seen = 0;
        match &self.row.then {
            Then::Refused(_) | Then::Answered(_) => {}
            Then::Same => self.assert_received(0, &self.row.request),
            Then::Becomes(text) | Then::Last(text) => self.assert_received(0, text),
            Then::Cut(text) => {
                self.upstream.wait_closed(self.before).await;
                self.assert_received(0, text);
            }
        }
        seen += usize::from(!matches!(self.row.then, Then::Refused(_) | Then::Answered(_)));
        if matches!(self.row.then, Then::Same | Then::Becomes(_) | Then::Answered(_)) {
            let next = client.response().await;
            assert_eq!((next.status, next.text()), (200, "ok"), "{name}: {next:?}");
            self.assert_received(seen, NEXT);
            seen += 1;
        } else {
            assert!(
                answer.field("connection").is_some_and(|value| value.contains("close")),
                "{name}: {answer:?}"
            );
            client.closed().await;
        }
        self.assert_connections(seen);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_of_the_table_is_forwarded_exactly_or_not_at_all() {
    let upstream = Upstream::answering(OK).await;
    let edge = edge(&upstream);
    let rows = requests::rows();
    assert!(rows.len() > 350, "{} rows", rows.len());
    let mut failed = Vec::new();
    for row in &rows {
        let trial = Trial { row, upstream: &upstream, before: upstream.connections() };
        if AssertUnwindSafe(trial.run(&edge)).catch_unwind().await.is_err() {
            failed.push(row.name);
        }
    }
    assert!(failed.is_empty(), "{} of {} rows: {failed:#?}", failed.len(), rows.len());
    for record in upstream.records() {
        let text = String::from_utf8_lossy(&record.received);
        assert!(
            !text.starts_with("GET /smuggled") && !text.contains("\nGET /smuggled HTTP/1.1\r\nHost: evil"),
            "{text}"
        );
    }
    edge.stop();
}
