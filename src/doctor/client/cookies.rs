//! Cookies that the server sets, kept as a browser keeps them for one host (RFC 6265 §5.3, as far as a handshake needs).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::header::{self, HeaderValue};

use crate::doctor::ask::Answer;

/// Most cookies that are kept; a load balancer sets one.
const COOKIES_MAX: usize = 16;
/// Longest cookie that is kept (RFC 6265 §6.1).
const COOKIE_BYTES_MAX: usize = 4096;

/// A jar; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Jar {
    inside: Arc<Mutex<Inside>>,
    open: bool,
}

#[derive(Debug, Default)]
struct Inside {
    cookies: Vec<(String, String)>,
    stamps: u32,
}

impl Jar {
    /// Keeps nothing unless it is `open`.
    pub(crate) fn new(open: bool) -> Self {
        Self { inside: Arc::default(), open }
    }

    pub(super) fn closed() -> Self {
        Self::new(false)
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A text that no request before had.
    pub(super) fn stamp(&self) -> String {
        let mut inside = self.inside();
        inside.stamps += 1;
        format!("sanedge{:x}{}", std::process::id(), inside.stamps)
    }

    /// Stores the cookies that an answer sets.
    pub(super) fn learn(&self, answer: &Answer) {
        if !self.open {
            return;
        }
        for value in answer.fields.get_all(header::SET_COOKIE) {
            if let Some((name, value)) = value.to_str().ok().and_then(cookie) {
                let mut inside = self.inside();
                inside.cookies.retain(|(known, _)| *known != name);
                if !value.is_empty() && inside.cookies.len() < COOKIES_MAX {
                    inside.cookies.push((name, value));
                }
            }
        }
    }

    /// The Cookie field of a request: cookies of the command line, and those that the server set.
    pub(super) fn field(&self, given: Option<&HeaderValue>) -> Option<HeaderValue> {
        let given = given.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let own =
            self.inside().cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
        let all: Vec<String> = given.into_iter().chain(own).collect();
        let mut value = HeaderValue::from_str(&all.join("; ")).ok().filter(|_| !all.is_empty())?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Names of the cookies, without those that only repeat the session (`io` of Socket.IO 2.x).
    pub(super) fn names(&self, sid: &str) -> Vec<String> {
        let inside = self.inside();
        inside.cookies.iter().filter(|(_, value)| value != sid).map(|(name, _)| name.clone()).collect()
    }
}

/// Name and value; an empty value if the field removes the cookie.
fn cookie(text: &str) -> Option<(String, String)> {
    let (pair, attributes) = text.split_once(';').unwrap_or((text, ""));
    let (name, value) = pair.split_once('=').filter(|_| pair.len() <= COOKIE_BYTES_MAX)?;
    let ends = attributes.split(';').any(|one| one.trim().eq_ignore_ascii_case("max-age=0"));
    let value = if ends { "" } else { value.trim() };
    Some((name.trim().to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(cookies: &[&str]) -> Answer {
        let mut fields = header::HeaderMap::new();
        for cookie in cookies {
            fields.append(header::SET_COOKIE, cookie.parse().unwrap());
        }
        Answer { status: 200, fields, body: String::new(), is_cut: false, has_bare_lf: false }
    }

    #[test]
    fn cookies_are_kept_replaced_and_taken_away() {
        let jar = Jar::new(true);
        jar.learn(&answer(&["SRV=a; path=/; HttpOnly", "io=sid1", "bad"]));
        let field = |jar: &Jar, given: Option<&str>| {
            let given = given.map(|text| HeaderValue::from_str(text).unwrap());
            jar.field(given.as_ref()).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(field(&jar, None).as_deref(), Some("SRV=a; io=sid1"));
        assert_eq!(field(&jar, Some("x=1")).as_deref(), Some("x=1; SRV=a; io=sid1"));
        assert_eq!(jar.names("sid1"), ["SRV"]);
        jar.learn(&answer(&["SRV=b", "io=; Max-Age=0"]));
        assert_eq!(field(&jar, None).as_deref(), Some("SRV=b"));
        let closed = Jar::closed();
        closed.learn(&answer(&["SRV=a"]));
        assert_eq!(field(&closed, None), None);
        assert_eq!(field(&closed, Some("x=1")).as_deref(), Some("x=1"));
    }

    #[test]
    fn a_server_cannot_fill_the_jar() {
        let jar = Jar::new(true);
        for at in 0..100 {
            jar.learn(&answer(&[&format!("c{at}=v")]));
        }
        jar.learn(&answer(&[&format!("long={}", "x".repeat(COOKIE_BYTES_MAX))]));
        assert_eq!(jar.names("").len(), COOKIES_MAX);
    }
}
