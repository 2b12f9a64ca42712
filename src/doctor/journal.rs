//! What was sent to a host and what came back, at no more than a client's pace. Secrets are masked on the way out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

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

    /// `text` without the secrets.
    pub(super) fn masked(&self, text: &str) -> String {
        let pages = self.pages();
        pages.secrets.iter().fold(text.to_owned(), |text, (secret, shown)| text.replace(secret, shown))
    }

    /// Everything so far, masked.
    pub(super) fn exchanges(&self) -> Vec<Exchange> {
        let exchanges = self.pages().exchanges.clone();
        let masked = |one: Exchange| Exchange { sent: self.masked(&one.sent), came: self.masked(&one.came) };
        exchanges.into_iter().map(masked).collect()
    }
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
        let exchange = journal.exchanges().remove(0);
        assert_eq!((exchange.sent.as_str(), exchange.came.as_str()), ("GET /?key=***", "200 ab…"));
    }
}
