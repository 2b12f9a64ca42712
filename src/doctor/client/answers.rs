//! Answers that are not Engine.IO's: which program sent them, and why.

use super::websocket::Opening;
use super::{Client, Met, known, packets};
use crate::doctor::ask::{Answer, Style};
use crate::doctor::check::{Finding, Section};
use crate::doctor::explain::{self, Code, Group};
use crate::doctor::packets::Body;
use crate::doctor::tls;
use crate::excerpt::Excerpt;
use crate::names::{Origin, OriginError};
use crate::ws;

use super::Between;

/// After this pause a rate limit that other clients had reached permits another request.
const LIMIT_PAUSE: std::time::Duration = std::time::Duration::from_millis(1_500);

impl Client<'_> {
    /// If a rate limit refuses the first request, this client did not cause it: the request is repeated once.
    pub(super) async fn once_more(&self, met: Met, section: &mut Section) -> Met {
        let Some(first) = met.answer().filter(|answer| answer.may_be_limit()) else { return met };
        let said = first.shown();
        let _ = self.connector.in_time(LIMIT_PAUSE * 2, tokio::time::sleep(LIMIT_PAUSE)).await;
        let again = self.patient_meet().await;
        if matches!(again, Met::Open(..)) {
            let text =
                format!("a limit of the proxy refused the first request ({said}) and accepted the second");
            section.unknown(Group::Polling, text);
        }
        again
    }

    /// Reports an answer that is not Engine.IO's.
    pub(super) async fn strange(&self, body: &Body, answer: &Answer) -> Finding {
        if answer.is_cut {
            let message = "the answer to the handshake ends before its announced end: a proxy on the way, or the app, cuts responses short";
            return self.answered(self.worded(Code::EioGarbled, message), answer);
        }
        if matches!(body, Body::Open(..)) && answer.status != 200 {
            let status = answer.status;
            let message = format!(
                "the answer to the handshake is Engine.IO's, with the status {status}: a proxy changes it from 200, and clients accept no other"
            );
            return self.answered(self.worded(Code::EioGarbled, message), answer);
        }
        if let Some(coding) = answer.coding().filter(|_| answer.status == 200) {
            let message = format!(
                "the answer to the handshake is compressed (`Content-Encoding: {coding}`), and this client offers no compression, as Node's does not: a proxy compresses every response"
            );
            return self.answered(self.worded(Code::EioGarbled, message), answer);
        }
        if let Some(finding) = self.refusal(answer).await {
            return finding;
        }
        let finding = self.strange_status(body, answer);
        let finding = match finding.code {
            Code::EioNotFound | Code::EioNotSocketio | Code::EioStatus | Code::EdgeUnknownPath => {
                let found = match self.only_upgrades().await {
                    Some(found) => Some(found),
                    None => match self.elsewhere().await.or_else(|| self.rewritten(answer)) {
                        None if matches!(finding.code, Code::EioNotFound | Code::EioNotSocketio) => {
                            self.own_rule(answer).await
                        }
                        found => found,
                    },
                };
                match found {
                    Some(found) => found,
                    None => self.alike(answer, finding).await,
                }
            }
            Code::EioRefused if let Some(found) = self.only_browsers().await => found,
            Code::EioRefused | Code::EioUnauthorized => self.lost_field(finding),
            Code::HttpUnavailable if answer.is_nginx_itself() => self.for_every_name(answer, finding).await,
            _ => finding,
        };
        self.answered(finding, answer)
    }

    /// Reports a 401 by the scheme that it requires (RFC 9110 §11.6.1).
    fn unauthorized(&self, answer: &Answer) -> Finding {
        let (path, by) = (self.path, self.who(answer));
        let asked = answer.field("www-authenticate").unwrap_or_default();
        let scheme = asked.split([' ', ',']).next().unwrap_or_default().to_ascii_lowercase();
        let finding = match scheme.as_str() {
            "basic" | "digest" | "negotiate" | "ntlm" => self.worded(Code::EioUnauthorized, format!("the proxy asks for a password at {path} (401), which a Socket.IO client cannot send: remove the password from this path")),
            "" => self.worded(Code::EioUnauthorized, format!("401 at {path} ({by}) without a request for a password: a middleware of the app, or a gateway, expects a token from the client"))
                .question("does it pass with what your client sends (--header, --query, --cookie)? Then only the token was missing here"),
            _ => self.worded(Code::EioUnauthorized, format!("401 at {path} ({by}): a gateway or tunnel asks for a sign-in (`{}`), which a Socket.IO client does not have: make the tunnel's port public, or send the token", Excerpt::of(asked))),
        };
        finding.seen("www-authenticate", Excerpt::of(asked))
    }

    pub(super) fn strange_status(&self, body: &Body, answer: &Answer) -> Finding {
        if let Some(finding) = self.by_edge(answer).or_else(|| self.by_words(answer)) {
            return finding;
        }
        let path = self.path;
        let status = answer.status;
        let by = self.who(answer);
        let alone = self.between != Between::Somebody;
        match status {
            300..=399 => self.redirected(answer),
            400 if answer.body.contains("No required SSL certificate") => tls::wants_certificate("status 400"),
            401 => self.unauthorized(answer),
            403 if alone => self.worded(Code::EioRefused, format!("the app refuses the client (403, {by}) before Socket.IO: look for a middleware in front of it")),
            403 => self.worded(Code::EioRefused, format!("the proxy refuses the client (403, {by}), and the app never saw it: look for a `deny` or a filter there"))
                .question("does the app's own log show the request? Then the app refuses it, not the proxy"),
            404 if alone => self.worded(Code::EioNotFound, format!("the app answers 404 at {path} ({by}): Socket.IO is not attached to the server that listens, or is at another path")),
            404 if known::repeats(&answer.body, path) => self.worded(Code::EioNotFound, format!("the app itself answers 404 and repeats {path}, so the proxy forwards it unchanged ({by}): Socket.IO is not attached to the server that listens (`app.listen()` instead of `httpServer.listen()`), or has another `path`")),
            404 if let Some(app) = known::app_that_answers(answer) => self.worded(Code::EioNotFound, format!("the app itself answers 404 at {path} ({app}), so the proxy forwards it: Socket.IO is not attached to this app, or has another path (JavaScript: `path`; python-socketio: `socketio_path`, and the place where its ASGI or WSGI app is mounted)")),
            404 if answer.body.trim() == "Not Found" => self.worded(Code::EioNotFound, format!("404 at {path} with the body `Not Found`, which python-socketio, Koa and Starlette send ({by}): Socket.IO has another path there (python-socketio: `socketio_path`), or the proxy forwards {path} to another app"))
                .question("does the app's own log show the request? Then the app has Socket.IO at another path; otherwise the proxy forwards it elsewhere"),
            404 if known::is_of_a_file_server(answer) => self.worded(Code::EioNotFound, format!("the web server itself answers 404 ({by}), as for a missing file: it has no rule that forwards {path} to the app (nginx: a `location` with `proxy_pass` and without `try_files`)")),
            404 => self.worded(Code::EioNotFound, format!("nothing answers at {path} (404, {by}): the proxy forwards it to the wrong app, or Socket.IO has another path"))
                .question("does the app's own log show the request? Then the app has Socket.IO at another path; otherwise the proxy forwards it elsewhere"),
            421 => self.worded(Code::HttpMisdirected, "the proxy says that this name is not served on this connection (421): add it to the site there"),
            429 => self.limited(answer),
            502 => self.worded(Code::HttpBadGateway, format!("the proxy works and cannot reach the app behind it (502, {by}): is the app running, and on that port?"))
                .question("does `curl http://127.0.0.1:PORT/socket.io/?EIO=4&transport=polling` answer on the board? If yes, compare host, port and scheme (http or https) with the proxy's upstream address"),
            503 if answer.is_nginx_itself() => self.worded(Code::HttpUnavailable, "nginx itself answers 503, at every attempt: a rule for maintenance (`return 503`) or a limit (`limit_req`, `limit_conn`) is in force"),
            503 => self.worded(Code::HttpUnavailable, format!("the proxy has no working server behind it (503, {by}): is the app running?")),
            504 => self.worded(Code::HttpGatewayTimeout, format!("the app behind the proxy does not answer in time (504, {by}): does it hang? Check its log")),
            500..=599 => self.worded(Code::HttpError, format!("the server fails on the handshake ({status}, {by}): check its log")),
            200 if *body == Body::Html => self.worded(Code::EioNotSocketio, format!("a web page answers at {path} ({by}), where Socket.IO should be: forward {path} to the app")),
            200 if packets::looks_like_open(&answer.body) => self.worded(Code::EioGarbled, "the answer to the handshake is a damaged Engine.IO packet: a program on the way changes it"),
            200 if answer.body.is_empty() => self.worded(Code::EioGarbled, format!("the answer to the handshake is empty (200, {by}): the app or a proxy sends it without its body (`Content-Length: 0`), or another app answers at {path}")),
            200 | 426 => self.worded(Code::EioNotSocketio, format!("what answers at {path} is not Socket.IO ({status}, {by}): is another app on that port, or does Socket.IO have another path?")),
            _ => self.worded(Code::EioStatus, format!("status {status} to the handshake at {path} ({by}): check the log of the server that answered")),
        }
    }

    /// Reports an answer that the table recognises.
    fn by_words(&self, answer: &Answer) -> Option<Finding> {
        let (code, message) = known::read(answer, self.connector.tls.is_some())?;
        Some(
            self.worded(
                code,
                message.replace("{path}", self.path).replace("{host}", &self.connector.authority),
            ),
        )
    }

    /// Reports an edge's own refusals that need another text than those of other proxies.
    pub(super) fn by_edge(&self, answer: &Answer) -> Option<Finding> {
        let said = answer.field("sanedge-error")?;
        let (path, itself) =
            (self.path, format!("sanedge itself answers {} ({})", answer.status, Excerpt::of(said)));
        Some(match said {
            "unknown_path" => self.worded(Code::EdgeUnknownPath, format!("{itself}: no route of this host covers {path}: add one in sanedge.toml")),
            "unknown_host" => self.worded(Code::EdgeUnknownHost, format!("{itself}: no site of its bundle has this host: add it in sanedge.toml, and use https://")),
            "certificate_pending" => self.worded(Code::EdgeCertificatePending, format!("{itself}: the certificate of this name is pending: run `sanedge renew` on the board")),
            "misdirected" => self.worded(Code::HttpMisdirected, format!("{itself}: the Host of the request and the name in the ClientHello belong to different sites")),
            "address_refused" => self.worded(Code::EdgeAddressRefused, format!("{itself}: the site's `allow` does not list this client's address: add its network")),
            "origin_refused" => self.edge_origin_refused(),
            "upstream_unreachable" | "upstream_timeout" => return None,
            "upstream_tls" => self.worded(Code::AppTls, format!("{itself}: the app expects TLS there, and sanedge uses plain HTTP to it: name the app's plain port as `upstream`")),
            "upstream_closed" | "upstream_malformed" => self.worded(Code::EdgeUpstreamBroken, format!("{itself}: the app accepts the connection and does not answer in HTTP: check its log, and whether the port is right")),
            "too_many_requests" => self.worded(Code::EdgeBusy, format!("{itself}: this address opens more WebSockets a second than address_websockets_per_s_max allows")),
            _ => {
                let remedy = explain::edge_remedy(said);
                self.worded(Code::EdgeRefused, format!("{itself}: {remedy}")).word("remedy", remedy)
            }
        })
    }

    fn edge_origin_refused(&self) -> Finding {
        let sent = self.options.origin.as_deref().unwrap_or_default();
        let listed = Origin::parse(sent);
        let (what, advice) = match &listed {
            _ if sent.is_empty() => (
                "sanedge refuses WebSockets without an Origin here (require_origin)".to_owned(),
                "Browsers send one: give the page's origin with --origin. For programs, remove `require_origin`."
                    .to_owned(),
            ),
            Ok(origin) => (
                format!("sanedge refuses WebSockets of `{origin}`: add it to `origins` of the site"),
                format!(
                    "Add this line to the site in sanedge.toml, below its [[site]]:\n  {}\nIf it has a line of `origins` already, put \
                     {}, with its comma, at the beginning of that list.",
                    ws::origin::line([origin]),
                    origin.toml(),
                ),
            ),
            Err(OriginError::Null) => (
                "sanedge refuses WebSockets of pages that have no origin of their own".to_owned(),
                "Any page can send this origin: serve the page over https, and list that origin."
                    .to_owned(),
            ),
            Err(error) => (
                format!("sanedge refuses WebSockets of `{}`, which is not an origin", Excerpt::of(sent)),
                format!("Let the client send no Origin, or a complete one ({error})."),
            ),
        };
        self.worded(Code::WsOriginRefused, what).word("advice", advice)
    }

    fn redirected(&self, answer: &Answer) -> Finding {
        let whole = answer.field("location").unwrap_or("nowhere");
        let location = Excerpt::of(whole);
        let own = format!("https://{}", self.connector.authority);
        let (path, query) = whole.split_once('?').unwrap_or((whole, ""));
        let same = |prefix: &str| {
            path.strip_prefix(prefix) == Some(self.path) || (path == format!("{prefix}{}", self.path))
        };
        let http = own.replacen("https", "http", 1);
        if self.connector.tls.is_some()
            && (same(&own) || path == self.path || same(&http))
            && (query.is_empty() || query.contains("transport="))
        {
            let message = format!(
                "the server redirects the handshake to the same URL (`{location}`): the app does not know that the client uses https"
            );
            return self.worded(Code::HttpRedirectLoop, message).word("location", location);
        }
        let (host, behind) = match path.split_once("//") {
            Some((scheme, rest)) if scheme.is_empty() || scheme.ends_with(':') => {
                rest.split_at(rest.find('/').unwrap_or(rest.len()))
            }
            _ => ("", path),
        };
        let is_here = host.is_empty() || host.eq_ignore_ascii_case(&self.connector.authority);
        let text = if is_here && self.path.strip_suffix('/') == Some(behind) {
            format!(
                "the server redirects to its path without the trailing slash, `{behind}`: set `addTrailingSlash: false` in client and server (Socket.IO 4.6 or later), or keep the slash (Next.js: `skipTrailingSlashRedirect: true`)"
            )
        } else if is_here && behind != self.path && behind.ends_with(self.path) {
            format!(
                "a middleware of the app or the proxy adds a prefix to the path, such as a language (it redirects to `{location}`): exempt {} from it",
                self.path
            )
        } else if self.connector.tls.is_none() && path.starts_with("https://") {
            format!(
                "plain http is redirected to https (`{location}`), which a WebSocket does not follow: give the client the address with https://"
            )
        } else if known::is_login(path) {
            format!(
                "a login is in front of {} (it redirects to `{location}`), which a Socket.IO client cannot pass: exempt the path from it",
                self.path
            )
        } else {
            format!(
                "the handshake is redirected to `{location}`, which a WebSocket does not follow: connect there, or remove the redirect"
            )
        };
        self.worded(Code::EioRedirected, text).word("location", location)
    }

    /// Whether a WebSocket at the same path reaches Socket.IO.
    async fn only_upgrades(&self) -> Option<Finding> {
        let Opening::Open(socket, _) = self.attempt(self.version(), Style::PLAIN, None).await else {
            return None;
        };
        socket.close(self.connector).await;
        let message = format!(
            "a WebSocket reaches Socket.IO at {}, but a poll, with which clients begin, does not: forward the whole path to the app, not only upgrades (Apache: http:// with upgrade=websocket instead of ws://)",
            self.path
        );
        Some(self.worded(Code::EioPollingLost, message))
    }
}

#[cfg(test)]
mod tests {
    use crate::http::answer::PROBLEMS;

    #[test]
    fn every_code_of_the_edge_has_a_remedy() {
        let of_their_own = [
            "origin_refused",
            "address_refused",
            "unknown_path",
            "unknown_host",
            "misdirected",
            "too_many_requests",
            "upstream_closed",
            "upstream_malformed",
            "upstream_tls",
            "certificate_pending",
        ];
        let without =
            PROBLEMS.iter().filter(|problem| problem.remedy().is_none()).map(|problem| problem.code());
        assert_eq!(without.collect::<Vec<_>>(), of_their_own);
    }
}
