//! Which requests the console takes, and from whom. Pure: heads, bytes and the time come in as arguments.
//!
//! The console listens on loopback, which every user of the board can reach, and every page in the user's browser as well. Therefore:
//!
//! - `Host` must be a loopback name or address (DNS rebinding), with any port (`ssh -L`);
//! - a POST must have `Origin`, equal to that Host, be JSON, and, but for the first one, have the CSRF token of the page;
//! - the link's token is exchanged for a session once, within its time, in a few tries;
//! - the session is a cookie below a random path: cookies ignore ports, so a server of another user on the same address
//!   would otherwise be sent it;
//! - secrets are compared by their digests, so the time that takes says nothing about them.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom as _, SystemRandom};

use crate::bundle::report::hex;
use crate::bundle::wire::sha256;
use crate::http::head::RequestHead;
use crate::names::Host;

/// Bytes of each secret: 128 bits.
const SECRET_BYTES: usize = 16;
/// Wrong tokens after which the link is void: a user types none.
const TRIES_MAX: u32 = 5;
/// The name of the cookie.
const COOKIE: &str = "sanedge-console";
/// The field with the CSRF token.
const CSRF_FIELD: &str = "sanedge-csrf";
/// Requests in a row, and their rate: far above a person with a form that is checked while typing.
const BURST: u32 = 40;
const REQUESTS_PER_S: u32 = 10;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// A file that everybody may have.
    Open(Open),
    /// The exchange of the token.
    Enter,
    /// The page, for the session alone, as all that follow.
    Page,
    /// The script of the page.
    Script,
    /// What an edit would change.
    Check,
    /// A change.
    Apply,
    /// The doctor.
    Doctor,
    /// The end of the console.
    End,
}

/// What needs no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Open {
    /// The page of the link.
    Door,
    /// Its script.
    DoorScript,
    /// The style of both pages.
    Style,
}

/// Why a request is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) reason: &'static str,
    pub(super) message: &'static str,
}

const fn refusal(status: u16, reason: &'static str, message: &'static str) -> Refusal {
    Refusal { status, reason, message }
}

const HOST: Refusal =
    refusal(403, "Forbidden", "the console is at 127.0.0.1, localhost or [::1], and at no other name");
const ORIGIN: Refusal = refusal(403, "Forbidden", "only the console's own page may send this");
const FORM: Refusal = refusal(415, "Unsupported Media Type", "expected application/json");
const CSRF: Refusal = refusal(403, "Forbidden", "this page belongs to another session: load it again");
const SESSION: Refusal = refusal(
    403,
    "Forbidden",
    "this browser has no session here. Start `sanedge console` again, and open its link",
);
const MISSING: Refusal = refusal(404, "Not Found", "there is nothing at this address");
const METHOD: Refusal = refusal(405, "Method Not Allowed", "this address does not accept this method");
const RATE: Refusal = refusal(429, "Too Many Requests", "too many requests; wait a second");
const TOKEN: Refusal = refusal(
    403,
    "Forbidden",
    "this link was used, is too old, or is incomplete. A link opens one session. Start `sanedge console` again",
);

/// The session of the one browser.
struct Session {
    /// The path of its pages: a slash at each end.
    path: String,
    cookie: String,
    csrf: String,
}

/// The state of the console's door.
pub(super) struct Gate {
    /// The digest of the token; `None`: used or void.
    token: Option<[u8; 32]>,
    until: Instant,
    tries: u32,
    session: Option<Session>,
    strangers: Bucket,
    ours: Bucket,
}

/// A right to a session.
pub(super) struct Entered {
    pub(super) path: String,
    /// The value of Set-Cookie.
    pub(super) cookie: String,
}

impl Gate {
    pub(super) fn new(token: &str, now: Instant, lasting: Duration) -> Self {
        Self {
            token: Some(sha256(token.as_bytes())),
            until: now + lasting,
            tries: TRIES_MAX,
            session: None,
            strangers: Bucket::full(now),
            ours: Bucket::full(now),
        }
    }

    /// Whether the link may still be used, or was.
    pub(super) fn is_void(&self, now: Instant) -> bool {
        self.session.is_none() && (self.token.is_none() || now >= self.until)
    }

    pub(super) fn csrf(&self) -> &str {
        self.session.as_ref().map_or("", |session| &session.csrf)
    }

    /// Decides about a request by its head.
    pub(super) fn admit(&mut self, head: &RequestHead<'_>, now: Instant) -> Result<Wish, Refusal> {
        let asked = self.asked(head);
        let is_ours = asked.is_ok_and(|wish| !matches!(wish, Wish::Open(_) | Wish::Enter));
        let bucket = if is_ours { &mut self.ours } else { &mut self.strangers };
        if !bucket.take(now) {
            return Err(RATE);
        }
        asked
    }

    fn asked(&self, head: &RequestHead<'_>) -> Result<Wish, Refusal> {
        if !is_loopback(&head.host) {
            return Err(HOST);
        }
        let value = |name| one(head, name);
        let from = value("sec-fetch-site")?;
        // A terminal in a browser opens the link from its own site. The page behind it is the same for everybody.
        let is_door = head.method == "GET" && head.path == "/";
        if !is_door && from.is_some_and(|from| !matches!(from, b"same-origin" | b"none")) {
            return Err(ORIGIN);
        }
        let is_post = match head.method {
            "GET" => false,
            "POST" => true,
            _ => return Err(METHOD),
        };
        let origin = format!("http://{}", head.authority);
        let is_from_here = value("origin")?.map(|value| value == origin.as_bytes());
        if is_post && is_from_here != Some(true) || is_from_here == Some(false) {
            return Err(ORIGIN);
        }
        if is_post && value("content-type")? != Some(b"application/json") {
            return Err(FORM);
        }
        let (wish, takes_post) = self.wish(head.path).ok_or(MISSING)?;
        if takes_post != is_post {
            return Err(METHOD);
        }
        if matches!(wish, Wish::Open(_) | Wish::Enter) {
            return Ok(wish);
        }
        let session = self.session.as_ref().ok_or(SESSION)?;
        if !cookies(head).any(|cookie| same(cookie, session.cookie.as_bytes())) {
            return Err(SESSION);
        }
        if is_post && !value(CSRF_FIELD)?.is_some_and(|csrf| same(csrf, session.csrf.as_bytes())) {
            return Err(CSRF);
        }
        Ok(wish)
    }

    /// What is at a path, and whether it takes POST.
    fn wish(&self, path: &str) -> Option<(Wish, bool)> {
        match path {
            "/" => return Some((Wish::Open(Open::Door), false)),
            "/door.js" => return Some((Wish::Open(Open::DoorScript), false)),
            "/style.css" => return Some((Wish::Open(Open::Style), false)),
            "/enter" => return Some((Wish::Enter, true)),
            _ => {}
        }
        let (below, name) = path.split_at_checked(path.rfind('/')? + 1)?;
        let session = self.session.as_ref()?;
        if !same(below.as_bytes(), session.path.as_bytes()) {
            return None;
        }
        match name {
            "" => Some((Wish::Page, false)),
            "console.js" => Some((Wish::Script, false)),
            "check" => Some((Wish::Check, true)),
            "apply" => Some((Wish::Apply, true)),
            "doctor" => Some((Wish::Doctor, true)),
            "end" => Some((Wish::End, true)),
            _ => None,
        }
    }

    /// Exchanges the token for the session.
    pub(super) fn enter(&mut self, token: &str, now: Instant) -> Result<Entered, Refusal> {
        let wanted = self.token.filter(|_| now < self.until).ok_or(TOKEN)?;
        if !equal(&sha256(token.as_bytes()), &wanted) {
            self.tries = self.tries.saturating_sub(1);
            if self.tries == 0 {
                self.token = None;
            }
            return Err(TOKEN);
        }
        let secrets = (secret(), secret(), secret());
        let (Some(path), Some(cookie), Some(csrf)) = secrets else {
            return Err(refusal(500, "Internal Server Error", "the system has no random numbers"));
        };
        self.token = None;
        let path = format!("/{path}/");
        let set = format!("{COOKIE}={cookie}; HttpOnly; SameSite=Strict; Path={path}");
        self.session = Some(Session { path: path.clone(), cookie, csrf });
        Ok(Entered { path, cookie: set })
    }
}

/// A new secret in hex.
pub(crate) fn secret() -> Option<String> {
    let mut bytes = [0; SECRET_BYTES];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(hex(&bytes))
}

fn is_loopback(host: &Host) -> bool {
    match host {
        Host::Ip(IpAddr::V4(address)) => *address == std::net::Ipv4Addr::LOCALHOST,
        Host::Ip(IpAddr::V6(address)) => *address == std::net::Ipv6Addr::LOCALHOST,
        Host::Dns(name) => name.as_str() == "localhost",
    }
}

/// The value of a field that may occur once.
fn one<'b>(head: &RequestHead<'b>, name: &str) -> Result<Option<&'b [u8]>, Refusal> {
    let mut values = head.fields.values(name);
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(refusal(400, "Bad Request", "a field occurs more than once")),
    }
}

/// The values of our cookie (RFC 6265 §4.2.1).
fn cookies<'b>(head: &RequestHead<'b>) -> impl Iterator<Item = &'b [u8]> {
    let all =
        head.fields.values("cookie").flat_map(|line| line.split(|byte| *byte == b';')).collect::<Vec<_>>();
    all.into_iter().filter_map(|pair| pair.trim_ascii().strip_prefix(COOKIE.as_bytes())?.strip_prefix(b"="))
}

fn same(a: &[u8], b: &[u8]) -> bool {
    equal(&sha256(a), &sha256(b))
}

/// In the same time, whatever differs.
fn equal(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

/// How many requests are left.
struct Bucket {
    left: u32,
    at: Instant,
}

impl Bucket {
    fn full(now: Instant) -> Self {
        Self { left: BURST, at: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let pause = Duration::from_secs(1) / REQUESTS_PER_S;
        let more = now.saturating_duration_since(self.at).as_millis() / pause.as_millis();
        let more = u32::try_from(more).unwrap_or(BURST).min(BURST);
        if more > 0 {
            self.left = (self.left + more).min(BURST);
            self.at = if self.left == BURST { now } else { self.at + pause * more };
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{HeadLimits, parse_request};

    const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 8192, fields_max: 40, target_bytes_max: 256 };
    const LASTING: Duration = Duration::from_secs(300);

    fn admit(gate: &mut Gate, text: &str, now: Instant) -> Result<Wish, u16> {
        let text = text.replace('\n', "\r\n") + "\r\n\r\n";
        let head = parse_request(text.as_bytes(), &LIMITS).unwrap();
        gate.admit(&head, now).map_err(|refusal| refusal.status)
    }

    /// A gate with a session; its path, cookie and CSRF token.
    fn entered(now: Instant) -> (Gate, String, String, String) {
        let mut gate = Gate::new("token", now, LASTING);
        let entered = gate.enter("token", now).unwrap_or_else(|_| panic!("the token is valid"));
        let cookie = entered.cookie.split(';').next().unwrap().to_owned();
        let csrf = gate.csrf().to_owned();
        (gate, entered.path, cookie, csrf)
    }

    #[test]
    fn a_token_is_exchanged_once_in_its_time_and_in_a_few_tries() {
        let now = Instant::now();
        let mut gate = Gate::new("token", now, LASTING);
        assert!(!gate.is_void(now) && gate.enter("", now).is_err());
        let entered = gate.enter("token", now + LASTING - Duration::from_millis(1)).ok().unwrap();
        for part in ["; HttpOnly", "; SameSite=Strict", &format!("; Path={}", entered.path)] {
            assert!(entered.cookie.contains(part), "{}", entered.cookie);
        }
        assert_eq!(entered.path.len(), 2 * SECRET_BYTES + 2);
        assert!(gate.enter("token", now).is_err() && !gate.is_void(now + LASTING * 99));
        let mut late = Gate::new("token", now, LASTING);
        assert!(late.enter("token", now + LASTING).is_err() && late.is_void(now + LASTING));
        for wrong in [TRIES_MAX - 1, TRIES_MAX] {
            let mut gate = Gate::new("token", now, LASTING);
            assert!((0..wrong).all(|_| gate.enter("other", now).is_err()));
            assert_eq!(gate.enter("token", now).is_ok(), wrong < TRIES_MAX, "{wrong}");
            assert_eq!(gate.is_void(now), wrong == TRIES_MAX);
        }
    }

    #[test]
    fn only_a_loopback_host_is_answered_at_any_port() {
        let now = Instant::now();
        let mut gate = Gate::new("token", now, LASTING);
        for host in ["127.0.0.1:80", "localhost", "localhost:9", "[::1]:443"] {
            let wish = admit(&mut gate, &format!("GET / HTTP/1.1\nHost: {host}"), now);
            assert_eq!(wish, Ok(Wish::Open(Open::Door)), "{host}");
        }
        for host in ["recre.store", "localhost.recre.store", "127.0.0.2", "[::2]", "0.0.0.0", "localhost."] {
            let text = format!("GET / HTTP/1.1\nHost: {host}").replace('\n', "\r\n") + "\r\n\r\n";
            let Ok(head) = parse_request(text.as_bytes(), &LIMITS) else { continue };
            // A trailing dot names the same host.
            let expected = if host == "localhost." { Ok(Wish::Open(Open::Door)) } else { Err(HOST) };
            assert_eq!(gate.admit(&head, now), expected, "{host}");
        }
    }

    #[test]
    fn a_change_needs_cookie_origin_form_and_csrf_token() {
        let now = Instant::now();
        let (mut gate, path, cookie, csrf) = entered(now);
        let lines = [
            format!("POST {path}apply HTTP/1.1"),
            "Host: localhost:1".to_owned(),
            "Origin: http://localhost:1".to_owned(),
            "Content-Type: application/json".to_owned(),
            format!("Cookie: a=b; {cookie}"),
            format!("Sanedge-Csrf: {csrf}"),
        ];
        assert_eq!(admit(&mut gate, &lines.join("\n"), now), Ok(Wish::Apply));
        for left_out in 2..lines.len() {
            let mut less = lines.to_vec();
            less.remove(left_out);
            assert!(admit(&mut gate, &less.join("\n"), now).is_err(), "without {}", lines[left_out]);
        }
        for (at, other) in [
            (0, "POST /apply HTTP/1.1".to_owned()),
            (0, format!("GET {path}apply HTTP/1.1")),
            (0, format!("POST {path} HTTP/1.1")),
            (0, format!("POST {path}other HTTP/1.1")),
            (0, format!("POST /x{path}apply HTTP/1.1")),
            (2, "Origin: http://localhost".to_owned()),
            (2, "Origin: https://localhost:1".to_owned()),
            (2, "Origin: http://127.0.0.1:1".to_owned()),
            (2, "Origin: null".to_owned()),
            (2, "Origin: http://localhost:1\nOrigin: http://localhost:1".to_owned()),
            (3, "Content-Type: text/plain".to_owned()),
            (3, "Content-Type: application/x-www-form-urlencoded".to_owned()),
            (4, "Cookie: sanedge-console=".to_owned()),
            (4, format!("Cookie: x{cookie}")),
            (5, format!("Sanedge-Csrf: {}", &csrf[1..])),
            (5, format!("Sanedge-Csrf: {csrf}\nSec-Fetch-Site: same-site")),
            (5, format!("Sanedge-Csrf: {csrf}\nSec-Fetch-Site: cross-site")),
        ] {
            let mut changed = lines.to_vec();
            changed[at] = other.clone();
            assert!(admit(&mut gate, &changed.join("\n"), now).is_err(), "{other}");
        }
        // The link in a terminal that a browser shows.
        let door = "GET / HTTP/1.1\nHost: localhost:1\nSec-Fetch-Site: cross-site";
        assert_eq!(admit(&mut gate, door, now), Ok(Wish::Open(Open::Door)));
        let page =
            format!("GET {path} HTTP/1.1\nHost: localhost:1\nCookie: {cookie}\nSec-Fetch-Site: same-origin");
        assert_eq!(admit(&mut gate, &page, now), Ok(Wish::Page));
        assert_eq!(admit(&mut gate, &page.replace(&cookie, "a=b"), now), Err(403));
    }

    #[test]
    fn strangers_do_not_use_up_the_rate_of_the_session() {
        let now = Instant::now();
        let (mut gate, path, cookie, _) = entered(now);
        let page = format!("GET {path} HTTP/1.1\nHost: localhost:1\nCookie: {cookie}");
        let door = "GET / HTTP/1.1\nHost: localhost:1";
        for _ in 0..BURST {
            assert!(admit(&mut gate, door, now).is_ok());
        }
        assert_eq!(admit(&mut gate, door, now), Err(429));
        for _ in 0..BURST {
            assert_eq!(admit(&mut gate, &page, now), Ok(Wish::Page));
        }
        assert_eq!(admit(&mut gate, &page, now), Err(429));
        let later = now + Duration::from_secs(1);
        for _ in 0..REQUESTS_PER_S {
            assert!(admit(&mut gate, door, later).is_ok());
        }
        assert_eq!(admit(&mut gate, door, later), Err(429));
        let much_later = later + Duration::from_secs(3600);
        assert!((0..BURST).all(|_| admit(&mut gate, door, much_later).is_ok()));
        assert_eq!(admit(&mut gate, door, much_later), Err(429));
    }
}
