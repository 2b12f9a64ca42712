//! What a browser asks before a page of another origin may read an answer (the Fetch standard, CORS).

use hyper::header::{self, HeaderName, HeaderValue};

use super::Client;
use crate::doctor::ask::{Answer, Ask};
use crate::doctor::check::{Finding, Section};
use crate::doctor::explain::{Code, Group};
use crate::excerpt::Excerpt;
use crate::names::Origin;

impl Client<'_> {
    pub(super) async fn cors(&self, answer: &Answer, section: &mut Section) {
        let Some(page) = self.other_page() else { return };
        let add = match page.as_str() {
            "null" => "serve the page over https, and add that origin to `cors.origin` of the server",
            _ => "add it to `cors.origin` of the server",
        };
        let allowed: Vec<&str> = answer
            .fields
            .get_all(header::ACCESS_CONTROL_ALLOW_ORIGIN)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .collect();
        let credentials = answer.field("access-control-allow-credentials") == Some("true");
        let finding = match allowed.as_slice() {
            [] => self.worded(Code::CorsMissing, format!("the server does not allow pages of `{page}` (CORS): {add}")),
            [_, _, ..] if answer.fields.get_all(header::ACCESS_CONTROL_ALLOW_ORIGIN).iter().count() == 1 => self.worded(Code::CorsTwice, "Access-Control-Allow-Origin is a list, so browsers refuse it: name the pages in `cors.origin` as an array, not in one string, or remove the field from the proxy"),
            [_, _, ..] => self.worded(Code::CorsTwice, "Access-Control-Allow-Origin has more than one value, so browsers refuse it: remove it from the proxy, because the app sends it"),
            ["*"] if credentials || self.options.cookie.is_some() => self.worded(Code::CorsStar, format!("the server allows `*`, which browsers refuse together with credentials: {add}")),
            [one] if one == page && !credentials && self.options.cookie.is_some() => self.worded(Code::CorsMissing, format!("the server allows pages of `{page}`, but not with cookies (Access-Control-Allow-Credentials is missing): set `cors.credentials: true` in the server")),
            [one] if *one == "*" || one == page => {
                match self.preflight(page).await {
                    Some(finding) => section.found(finding),
                    None => section.passed(Group::Polling, format!("CORS allows `{page}`")),
                }
                return;
            }
            [other] if other.strip_suffix('/') == Some(page) => self.worded(Code::CorsOther, format!("the server allows `{}`, with a slash at the end, which no page's origin has: write `{page}` into `cors.origin` of the server", Excerpt::of(other))),
            [other] => self.worded(Code::CorsOther, format!("the server allows pages of `{}`, not of `{page}` (CORS): {add}", Excerpt::of(other))),
        };
        section.found(finding.seen("allowed", Excerpt::of(&allowed.join(", "))));
    }

    /// The origin of the page, if it is not this server's own, which needs no permission.
    fn other_page(&self) -> Option<&String> {
        let page = self.options.origin.as_ref().filter(|origin| is_of_a_page(origin))?;
        let is_own = self.connector.tls.is_some() && *page == format!("https://{}", self.connector.authority);
        (!is_own).then_some(page)
    }

    /// Reports an answer of a session that a page may not read, although it may read that to the handshake.
    pub(super) fn later_cors(&self, method: &str, answer: &Answer, section: &mut Section) {
        let Some(page) = self.other_page() else { return };
        let is_known = |finding: &Finding| finding.code.as_str().starts_with("cors-");
        if allows(answer, page) || section.findings().any(is_known) {
            return;
        }
        let message = format!(
            "the answer to a {method} of the session does not allow pages of `{page}` (CORS), and that to the handshake does: the proxy or a middleware of the app sets Access-Control-Allow-Origin for some requests only"
        );
        section.found(self.answered(self.worded(Code::CorsMissing, message), answer));
    }

    /// A browser asks for permission (OPTIONS) before a page sends fields of its own (`extraHeaders`). Names go along, no
    /// values.
    async fn preflight(&self, page: &str) -> Option<Finding> {
        let names = self.unusual_fields();
        if names.is_empty() {
            return None;
        }
        let list = names.join(",");
        let fields = [
            (header::ORIGIN, HeaderValue::from_str(page).ok()?),
            (header::ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("GET")),
            (header::ACCESS_CONTROL_REQUEST_HEADERS, HeaderValue::from_str(&list).ok()?),
        ];
        let target = self.target(self.version(), self.path, "polling", None);
        let ask = Ask { method: "OPTIONS", ..Ask::get(target).with(&fields) };
        let finding = |why: &str| {
            let message = format!("before a page sends `{list}`, the browser sends OPTIONS, and {why}");
            self.worded(Code::CorsPreflight, message).word("fields", format!("\"{}\"", names.join("\", \"")))
        };
        let answer = match self.connector.ask(&ask).await {
            Ok(answer) => answer,
            Err(trouble) => {
                return Some(finding("nothing answers it").seen("seen", super::describe(&trouble)));
            }
        };
        let why = match (answer.status, allows(&answer, page), allows_fields(&answer, &names)) {
            (200..=299, true, true) => return None,
            (200..=299, false, _) => format!("the answer does not allow `{page}`"),
            (200..=299, true, false) => "the answer does not allow these fields".to_owned(),
            (status, ..) => format!("gets {status} ({}): let OPTIONS pass to the app", answer.author()),
        };
        Some(finding(&why).seen("answered", answer.shown()))
    }

    /// Names of fields that make a browser ask first (Fetch, "CORS-safelisted request-header"), in its order.
    fn unusual_fields(&self) -> Vec<&str> {
        let usual = [
            header::ORIGIN,
            header::COOKIE,
            header::ACCEPT,
            header::ACCEPT_LANGUAGE,
            header::CONTENT_LANGUAGE,
        ];
        let mut names: Vec<&str> = self
            .fields
            .iter()
            .map(|(name, _)| name)
            .filter(|name| !usual.contains(name))
            .map(HeaderName::as_str)
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

fn allows(answer: &Answer, page: &str) -> bool {
    answer.field("access-control-allow-origin").is_some_and(|allowed| allowed == "*" || allowed == page)
}

/// `*` is every field but Authorization.
fn allows_fields(answer: &Answer, names: &[&str]) -> bool {
    let allowed = answer.fields.get_all(header::ACCESS_CONTROL_ALLOW_HEADERS).iter();
    let allowed: Vec<&str> = allowed
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let is_allowed = |name: &&str| {
        allowed.iter().any(|one| one.eq_ignore_ascii_case(name) || (*one == "*" && *name != "authorization"))
    };
    names.iter().all(is_allowed)
}

/// Programs that name the scheme of a WebSocket ask nobody for permission.
fn is_of_a_page(origin: &str) -> bool {
    let of_program = matches!(Origin::parse(origin), Ok(Origin::Web { scheme, .. }) if !scheme.is_of_pages());
    !origin.is_empty() && !of_program
}
