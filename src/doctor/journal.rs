//! What was sent to a host and what came back, at no more than a client's pace. Secrets are masked on the way out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::excerpt::{self, Excerpt};

/// Requests that a client makes at once for its first connection: handshake, POST, poll, WebSocket, poll.
pub(super) const CLIENT_REQUESTS: u32 = 5;
/// Between further requests. Limits of a proxy are five a second and more, or they would hit clients first.
const REQUEST_GAP: Duration = Duration::from_millis(350);
/// Exchanges that are kept: a run makes at most three times a client's requests for each address of the host.
const EXCHANGES_MAX: usize = 64;
/// A shorter text stands in too many others to be masked everywhere.
const SECRET_CHARS_MIN: usize = 4;

/// One request and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Method and target, with what is particular about its fields.
    pub sent: String,
    /// Status and beginning of the body, or why there is none.
    pub came: String,
}

/// The exchanges with one host; clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Journal(Arc<Mutex<Pages>>);

#[derive(Debug, Default)]
struct Pages {
    exchanges: Vec<Exchange>,
    secrets: Vec<(String, String)>,
    /// Names, addresses and paths that are shown whole.
    vouched: Vec<String>,
    /// Requests so far, and when the next one may go.
    requests: u32,
    next: Option<Instant>,
}

impl Journal {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next place in the row: when this request may be sent.
    pub(super) fn turn(&self, now: Instant) -> Instant {
        let mut pages = self.pages();
        pages.requests += 1;
        if pages.requests <= CLIENT_REQUESTS {
            pages.next = Some(now + REQUEST_GAP);
            return now;
        }
        let turn = pages.next.unwrap_or(now).max(now);
        pages.next = Some(turn + REQUEST_GAP);
        turn
    }

    pub(super) fn note(&self, sent: impl Into<String>, came: impl Into<String>) {
        let mut pages = self.pages();
        if pages.exchanges.len() < EXCHANGES_MAX {
            pages.exchanges.push(Exchange { sent: sent.into(), came: came.into() });
        }
    }

    /// Never shows `secret` again, but `shown` in its place.
    pub(super) fn hide(&self, secret: &str, shown: &str) {
        if secret.chars().count() >= SECRET_CHARS_MIN {
            let mut pages = self.pages();
            // The longest first: one secret may begin with another.
            let at = pages.secrets.partition_point(|(known, _)| known.len() >= secret.len());
            pages.secrets.insert(at, (secret.to_owned(), shown.to_owned()));
        }
    }

    /// The name of a session, also as it stands in a target.
    pub(super) fn hide_sid(&self, sid: &str, escaped: &str) {
        let shown = masked_sid(sid);
        self.hide(sid, &shown);
        self.hide(escaped, &shown);
    }

    /// Shows a value of the command line no longer than its excerpt.
    pub(super) fn excerpt(&self, value: &str) {
        let shown = Excerpt::of(value);
        if *shown != *value {
            self.hide(value, &shown);
        }
    }

    /// Parsed as a host or an address, or a text that holds only excerpts.
    pub(super) fn vouch(&self, text: &str) {
        self.pages().vouched.extend(Some(text.to_owned()).filter(|text| !text.is_empty()));
    }

    /// `text` without the secrets, and without what else may be a key.
    pub(super) fn masked(&self, text: &str) -> String {
        let text = self.known_masked(text);
        excerpt::netted(&text, &self.pages().vouched)
    }

    /// Of a request, which has nothing else in it that was not made here.
    fn known_masked(&self, text: &str) -> String {
        let hide = |text: String, (secret, shown): &(String, String)| text.replace(secret, shown);
        self.pages().secrets.iter().fold(text.to_owned(), hide)
    }

    /// Everything so far, masked.
    pub(super) fn exchanges(&self) -> Vec<Exchange> {
        let exchanges = self.pages().exchanges.clone();
        let masked =
            |one: Exchange| Exchange { sent: self.known_masked(&one.sent), came: self.masked(&one.came) };
        exchanges.into_iter().map(masked).collect()
    }
}

/// A session's name is as good as its owner's cookie.
pub(super) fn masked_sid(sid: &str) -> String {
    format!("{}…", sid.chars().take(4).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_requests_go_at_once_and_later_ones_at_a_distance() {
        let journal = Journal::default();
        let begin = Instant::now();
        for _ in 0..CLIENT_REQUESTS {
            assert_eq!(journal.turn(begin), begin);
        }
        assert_eq!(journal.turn(begin), begin + REQUEST_GAP);
        assert_eq!(journal.turn(begin), begin + 2 * REQUEST_GAP);
        let later = begin + Duration::from_secs(5);
        assert_eq!(journal.turn(later), later);
    }

    #[test]
    fn secrets_are_masked_longest_first() {
        let journal = Journal::default();
        journal.hide("abcd", "***");
        journal.hide("abcdefgh", "ab…");
        journal.hide("abc", "never: too short");
        assert_eq!(journal.masked("sid=abcdefgh, abcd, abc"), "sid=ab…, ***, abc");
        journal.note("GET /?key=abcd", "200 abcdefgh");
        let key = "q7Zk2Vw9XbT4mRs1";
        journal.vouch("q7zk2vw9xbt4mrs1.example");
        assert_eq!(
            journal.masked(&format!("`q7zk2vw9xbt4mrs1.example` says {key}")),
            "`q7zk2vw9xbt4mrs1.example` says [16 characters hidden]"
        );
        journal.excerpt(&format!("/{key}/"));
        assert_eq!(
            journal.masked(&format!("at /{key}/ is nothing")),
            "at /[17 characters hidden] is nothing"
        );
        let exchange = journal.exchanges().remove(0);
        assert_eq!((exchange.sent.as_str(), exchange.came.as_str()), ("GET /?key=***", "200 ab…"));
    }
}
