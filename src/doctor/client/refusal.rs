//! Finds the part of a request because of which it is refused: without that part it is accepted.

use hyper::header::{self, HeaderValue};

use super::origin::{Lost, says_origin, seen_by_the_app};
use super::{Client, Jar, Met};
use crate::doctor::ask::Answer;
use crate::doctor::check::Finding;
use crate::doctor::explain::Code;

/// A browser's User-Agent.
const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";

/// A part of the request that comes from the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Origin,
    Cookie,
    Query,
    Fields,
}

impl Part {
    const ALL: [Self; 4] = [Self::Origin, Self::Cookie, Self::Query, Self::Fields];

    fn name(self) -> &'static str {
        match self {
            Self::Origin => "the Origin (--origin)",
            Self::Cookie => "the cookie (--cookie)",
            Self::Query => "the query (--query)",
            Self::Fields => "the fields of --header",
        }
    }
}

impl Client<'_> {
    /// Requests the same path without these parts. If that is accepted, leaves them out one by one.
    pub(super) async fn refusal(&self, answer: &Answer) -> Option<Finding> {
        let parts: Vec<Part> = Part::ALL.into_iter().filter(|part| self.sends(*part)).collect();
        if parts.is_empty() || !(400..500).contains(&answer.status) {
            return None;
        }
        let bare = self.bare();
        if !opens(&bare.meet(self.version(), self.path).await) {
            return None;
        }
        let mut guilty = Vec::new();
        for part in &parts {
            if parts.len() == 1 || opens(&self.without(*part).meet(self.version(), self.path).await) {
                guilty.push(*part);
            }
        }
        let finding = match guilty[..] {
            [Part::Origin] => match self.own_page_refused(answer).await {
                Some(finding) => finding,
                None => self.origin_refused(answer),
            },
            _ => self.named(&guilty, answer),
        };
        Some(self.answered(finding, answer))
    }

    /// python-engineio accepts pages of the scheme and host of the request: finds which of the two a proxy changes.
    async fn own_page_refused(&self, answer: &Answer) -> Option<Finding> {
        let page = self.options.origin.clone()?;
        if !says_origin(answer) || page != self.own_origin() {
            return None;
        }
        for (lost, seen) in seen_by_the_app(&page) {
            let Some(other) = self.as_page_of(&seen) else { continue };
            if opens(&other.meet(self.version(), self.path).await) {
                return Some(self.forwarded(lost, &page));
            }
        }
        Some(self.forwarded(Lost::Host, &page))
    }

    /// Whether a filter accepts the same from a browser: it refuses programs by their User-Agent.
    pub(super) async fn only_browsers(&self) -> Option<Finding> {
        let mut browser = self.clone();
        browser.fields.retain(|(name, _)| *name != header::USER_AGENT);
        browser.fields.push((header::USER_AGENT, HeaderValue::from_static(BROWSER)));
        if !opens(&browser.meet(self.version(), self.path).await) {
            return None;
        }
        let message = format!(
            "a filter refuses this program by its User-Agent, and accepts a browser's: clients in Node, Python and on phones may be refused as well: exempt {} from the filter",
            self.path
        );
        Some(self.worded(Code::HttpChallenge, message).seen("with a browser's User-Agent", "a session opens"))
    }

    fn sends(&self, part: Part) -> bool {
        match part {
            Part::Query => !self.query.is_empty(),
            Part::Origin => self.fields.iter().any(|(name, _)| *name == header::ORIGIN),
            Part::Cookie => self.fields.iter().any(|(name, _)| *name == header::COOKIE),
            Part::Fields => {
                self.fields.iter().any(|(name, _)| *name != header::ORIGIN && *name != header::COOKIE)
            }
        }
    }

    /// Speaks for a page of another origin.
    pub(super) fn as_page_of(&self, origin: &str) -> Option<Self> {
        let mut other = self.without(Part::Origin);
        other.fields.push((header::ORIGIN, HeaderValue::from_str(origin).ok()?));
        Some(other)
    }

    pub(super) fn without(&self, part: Part) -> Self {
        let mut other = self.clone();
        other.jar = Jar::closed();
        match part {
            Part::Query => other.query = &[],
            Part::Origin => other.fields.retain(|(name, _)| *name != header::ORIGIN),
            Part::Cookie => other.fields.retain(|(name, _)| *name != header::COOKIE),
            Part::Fields => {
                other.fields.retain(|(name, _)| *name == header::ORIGIN || *name == header::COOKIE);
            }
        }
        other
    }

    fn named(&self, guilty: &[Part], answer: &Answer) -> Finding {
        let names = match guilty {
            [] => "all of it together (--origin, --cookie, --query, --header)".to_owned(),
            parts => parts.iter().map(|part| part.name()).collect::<Vec<_>>().join(", and "),
        };
        let (status, by) = (answer.status, self.who(answer));
        if matches!(status, 414 | 431) || is_too_long(answer) {
            return self
                .worded(
                    Code::HttpTooLong,
                    format!(
                        "{names} is too long for the server ({status}, {by}): send less, or raise its limit"
                    ),
                )
                .word("part", names);
        }
        self.worded(
            Code::EioPartRefused,
            format!("the server refuses {names} ({status}, {by}): without it the same request is accepted"),
        )
        .word("part", names)
    }

    pub(super) fn origin_refused(&self, answer: &Answer) -> Finding {
        let page = self.options.origin.clone().unwrap_or_else(|| self.own_origin());
        let python = says_origin(answer);
        if python && page == self.own_origin() {
            let lost = if page.starts_with("https://") { Lost::Scheme } else { Lost::Host };
            return self.forwarded(lost, &page);
        }
        let remedy = if python {
            "`cors_allowed_origins`"
        } else {
            "what the server allows (`cors.origin`, `allowRequest`, a rule of the proxy)"
        };
        let message = format!(
            "the server refuses pages of `{page}` ({}, {}): add the page to {remedy}",
            answer.status,
            self.who(answer)
        );
        self.worded(Code::EioOriginRefused, message)
    }

    pub(super) fn forwarded(&self, lost: Lost, page: &str) -> Finding {
        let (code, why) = match lost {
            Lost::Scheme => (
                Code::EioForwardedProto,
                "the proxy does not say that they use https: X-Forwarded-Proto is missing",
            ),
            Lost::WebsocketScheme => (
                Code::EioForwardedProto,
                "the proxy sends `X-Forwarded-Proto: wss` for WebSockets, but the app expects https (Traefik: a middleware `headers` with customRequestHeaders X-Forwarded-Proto=https)",
            ),
            Lost::Port => (
                Code::EioForwardedHost,
                "the proxy forwards Host without the port (nginx: `$host` instead of `$http_host`)",
            ),
            Lost::SchemeAndPort => (
                Code::EioForwardedHost,
                "the proxy forwards Host without the port, and X-Forwarded-Proto is missing (nginx: `$http_host`, `$scheme`)",
            ),
            Lost::Host => (
                Code::EioForwardedHost,
                "the proxy does not forward Host as the client sent it (nginx: proxy_set_header Host $http_host)",
            ),
        };
        let finding = self.worded(code, format!("the app refuses pages of `{page}`, its own host: {why}"));
        let finding = finding.word("page", page.to_owned());
        if code == Code::EioForwardedProto {
            return finding;
        }
        finding.question("does the app have a list of its own, `cors_allowed_origins`? Then the page is not on it, and Host may be right")
    }
}

fn opens(met: &Met) -> bool {
    matches!(met, Met::Open(..))
}

/// For fields that are too long, nginx answers 400 (its 494), Node 431, Apache 400.
fn is_too_long(answer: &Answer) -> bool {
    ["Header Or Cookie Too Large", "field exceeds server limit", "Header Fields Too Large", "URI Too Long"]
        .iter()
        .any(|text| answer.body.contains(text))
}
