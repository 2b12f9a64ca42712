//! Records what was sent to a host and what came back, and limits the rate to that of a client. Secrets are masked in the output.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::excerpt::{self, Excerpt};

/// Requests that a client makes at once for its first connection: handshake, POST, poll, WebSocket, poll.
pub(super) const CLIENT_REQUESTS: u32 = 5;
/// Pause between further requests. A proxy's rate limit is at least five a second; a lower one would affect clients first.
const REQUEST_GAP: Duration = Duration::from_millis(350);
/// Most exchanges that are kept: a run sends at most three times a client's requests to each address of the host.
const EXCHANGES_MAX: usize = 64;
/// A shorter text occurs in too many others to be masked everywhere.
const SECRET_CHARS_MIN: usize = 4;

/// One request and its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Method and target, and unusual fields.
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
    /// Names, addresses and paths that are shown in full.
    vouched: Vec<String>,
    /// Number of requests so far, and when the next one may be sent.
    requests: u32,
    next: Option<Instant>,
}

impl Journal {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves the time at which this request may be sent.
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

    /// From now on shows `shown` instead of `secret`.
    pub(super) fn hide(&self, secret: &str, shown: &str) {
        if secret.chars().count() >= SECRET_CHARS_MIN {
            let mut pages = self.pages();
            // The longest first: one secret may begin with another.
            let at = pages.secrets.partition_point(|(known, _)| known.len() >= secret.len());
            pages.secrets.insert(at, (secret.to_owned(), shown.to_owned()));
        }
    }

    /// Masks a session id, also in its form in a target.
    pub(super) fn hide_sid(&self, sid: &str, escaped: &str) {
        let shown = masked_sid(sid);
        self.hide(sid, &shown);
        self.hide(escaped, &shown);
    }

    /// Shows a value of the command line only as its excerpt.
    pub(super) fn excerpt(&self, value: &str) {
        let shown = Excerpt::of(value);
        if *shown != *value {
            self.hide(value, &shown);
        }
    }

    /// A text that parses as a host or an address, or that contains only excerpts.
    pub(super) fn vouch(&self, text: &str) {
        self.pages().vouched.extend(Some(text.to_owned()).filter(|text| !text.is_empty()));
    }

    /// `text` without the secrets, and without what else may be a key.
    pub(super) fn masked(&self, text: &str) -> String {
        let text = self.known_masked(text);
        excerpt::netted(&text, &self.pages().vouched)
    }

    /// The same for a request, whose other parts were all created here.
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

/// A session id gives the same access as its owner's cookie.
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
