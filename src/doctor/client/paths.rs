//! Answers that are not Engine.IO's: whether the path or the name is the cause.

use super::{Between, Client, Met, known};
use crate::doctor::ask::{Answer, Ask};
use crate::doctor::check::Finding;
use crate::doctor::connection::Connector;
use crate::doctor::explain::Code;
use crate::excerpt::Excerpt;

/// A name for which no proxy has a site.
const NOBODY: &str = "sanedge-doctor.invalid";

impl Client<'_> {
    /// Express and others repeat the requested path: compares it with the one that was sent.
    pub(super) fn rewritten(&self, answer: &Answer) -> Option<Finding> {
        let asked = known::path_asked(&answer.body)?;
        if asked == self.path || asked.trim_end_matches('/').is_empty() && self.path == "/" {
            return None;
        }
        let message = format!(
            "the proxy changes the path: the client sent `{}`, and the app got `{}`: remove the path from the proxy's upstream address, or add the missing slash",
            self.path,
            Excerpt::of(&asked)
        );
        Some(self.worded(Code::EioPathRewritten, message).word("asked", Excerpt::of(&asked)))
    }

    /// nginx redirects from a path without its trailing slash only if a `location` with the slash forwards to a server
    /// (`ngx_http_core_module`, `location`). The rule exists, so what it forwards is wrong.
    pub(super) async fn own_rule(&self, answer: &Answer) -> Option<Finding> {
        let short = self.path.strip_suffix('/').filter(|short| !short.is_empty())?;
        if answer.is_nginx_itself()
            || !answer.field("server").is_some_and(|server| server.starts_with("nginx"))
        {
            return None;
        }
        let redirected = self.connector.ask(&Ask::get(short)).await.ok()?;
        let location = redirected
            .field("location")
            .filter(|_| redirected.status == 301 && redirected.is_nginx_itself())?;
        if !location.ends_with(self.path) {
            return None;
        }
        let message = format!(
            "nginx has a location for {} and forwards it, but the app does not know the path that it gets: is the slash missing at the end of the path in `proxy_pass`?",
            self.path
        );
        Some(
            self.worded(Code::EioPathRewritten, message)
                .question("does `proxy_pass` have a path after the port? If not, it forwards to another app")
                .seen(
                    "GET without the trailing slash",
                    format!("301 of nginx itself to {}", Excerpt::of(location)),
                ),
        )
    }

    /// Reports if the front page gets the same answer: the program that answers does not know the path.
    pub(super) async fn alike(&self, answer: &Answer, finding: Finding) -> Finding {
        let kind = answer.field("content-type").unwrap_or_default().to_owned();
        let finding = finding.seen("type", Excerpt::of(&kind));
        match self.connector.ask(&Ask::get("/")).await {
            Ok(root) if root.status == 400 && finding.code == Code::EioStatus && answer.status == 400 => {
                self.refuses_all(answer)
            }
            Ok(root) if root.status == answer.status && root.body == answer.body => {
                finding.seen("GET /", "the same answer, so it does not depend on the path")
            }
            _ => finding,
        }
    }

    /// Node and others answer 400 without a body if they cannot parse a request.
    fn refuses_all(&self, answer: &Answer) -> Finding {
        let by = self.who(answer);
        let (first, question) = if answer.body.is_empty() && answer.field("server").is_none() {
            (
                "the server cannot parse any request: the proxy in front of it sends the PROXY protocol first (HAProxy: `send-proxy`; nginx or the load balancer: `proxy_protocol`), or TLS",
                "does the app answer on its own port? Then disable the PROXY protocol in the proxy",
            )
        } else {
            (
                "the app refuses every request that the proxy forwards: it does not trust the proxy (`trusted_proxies`, X-Forwarded-For), or does not accept this Host",
                "does the app answer on its own port? Then add the proxy's address to those that the app trusts",
            )
        };
        self.worded(Code::HttpRefusesAll, format!("every request gets 400, GET / as well ({by}): {first}"))
            .question(question)
    }

    /// The refusal may be due to a dropped field: nginx drops names with an underscore.
    pub(super) fn lost_field(&self, mut finding: Finding) -> Finding {
        let odd = self.options.header.iter().map(|(name, _)| name.as_str()).find(|name| name.contains('_'));
        if let Some(name) = odd.filter(|_| self.between != Between::Nobody) {
            finding.message += &format!(
                "; the field `{}` may be missing, because nginx drops names with an underscore: write it with `-`, or set underscores_in_headers on",
                Excerpt::of(name)
            );
        }
        finding
    }

    /// Looks for Socket.IO at other common paths. Sends nothing private.
    pub(super) async fn elsewhere(&self) -> Option<Finding> {
        let doubled = format!("{}socket.io/", self.path);
        // The part after the host in a client's URL is a namespace, but often a path was meant.
        let namespace = self.namespace.filter(|name| *name != "/").map(|name| format!("{name}/socket.io/"));
        let bare = self.bare();
        // With `addTrailingSlash: false`.
        let short = self.path.strip_suffix('/').filter(|short| !short.is_empty()).unwrap_or("/socket.io");
        let paths = [short, "/socket.io/", &doubled, "/api/socket.io/", "/ws/socket.io/", "/engine.io/"];
        let paths = namespace.as_deref().into_iter().chain(paths).filter(|path| *path != self.path);
        let paths: Vec<&str> = paths.collect();
        let tries = paths.iter().map(|path| bare.meet(self.version(), path));
        let met = futures_util::future::join_all(tries).await;
        let found = paths.iter().zip(met).find(|(_, met)| matches!(met, Met::Open(..)))?.0;
        if namespace.as_deref() == Some(*found) {
            let message = format!(
                "Socket.IO answers at {found}; the part after the host in a client's URL is a namespace, not a path: io(\"{}\", {{ path: \"{found}\" }})",
                self.own_origin()
            );
            return Some(self.worded(Code::EioWrongPath, message).word("found_path", *found));
        }
        if *found == short {
            let message = format!(
                "nothing answers at {}, but Socket.IO answers at `{found}` without the trailing slash: give the client `addTrailingSlash: false`, or let the router forward both",
                self.path
            );
            return Some(self.worded(Code::EioWrongPath, message).word("found_path", *found));
        }
        if *found == doubled && self.path.ends_with("/socket.io/") {
            let message = format!(
                "the proxy removes {} from the path (a request for {found} arrives as {}): remove the path from the proxy's upstream address",
                self.path, self.path
            );
            return Some(self.worded(Code::EioPathRewritten, message).word("asked", "/"));
        }
        let message = format!(
            "nothing answers at {}, but Socket.IO answers at {found}: give the client `path: \"{found}\"`, or correct the prefix in the proxy",
            self.path
        );
        Some(self.worded(Code::EioWrongPath, message).word("found_path", *found))
    }

    /// nginx answers 503 if it has no site for a name (nginx-proxy), or if a rule says so.
    pub(super) async fn for_every_name(&self, answer: &Answer, finding: Finding) -> Finding {
        let connector = Connector { authority: NOBODY.to_owned(), ..self.connector.clone() };
        let ask = Ask::get(self.target(self.version(), self.path, "polling", None));
        let Ok(other) = connector.ask(&ask).await else { return finding };
        if other.status != answer.status || other.body != answer.body {
            let message = format!(
                "nginx itself answers 503 for `{}` and not for another name: a limit (`limit_req`, `limit_conn`) or a maintenance rule (`return 503`) of this site is in force; in Kubernetes, its Service has no ready endpoints",
                self.connector.authority
            );
            return self.worded(finding.code, message).seen("for another name", other.shown());
        }
        let message = format!(
            "nginx itself answers {} for every name: it has no site for `{}` (nginx-proxy: VIRTUAL_HOST of the app's container), or a rule for everything is in force (`return 503`, a limit)",
            answer.status, self.connector.authority
        );
        self.worded(finding.code, message)
            .question("does this proxy serve another name? Then it has no site for this one")
            .seen("for another name", "the same answer")
    }
}
