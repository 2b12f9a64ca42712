//! The Origin of a page, as an app behind a proxy compares it with its own.

use crate::doctor::ask::Answer;

/// What a proxy does not forward of a page's origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    Scheme,
    /// It says `wss` of WebSockets, as Traefik does.
    WebsocketScheme,
    Port,
    SchemeAndPort,
    Host,
}

/// The origins that such an app derives for a page of this server.
pub(super) fn seen_by_the_app(page: &str) -> Vec<(Lost, String)> {
    let Some((scheme, authority)) = page.split_once("://") else { return Vec::new() };
    let host =
        authority.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map(|(host, _)| host);
    let secure = scheme == "https";
    let mut seen = Vec::new();
    if secure {
        seen.push((Lost::Scheme, format!("http://{authority}")));
    }
    if let Some(host) = host {
        seen.push((Lost::Port, format!("{scheme}://{host}")));
        if secure {
            seen.push((Lost::SchemeAndPort, format!("http://{host}")));
        }
    }
    seen
}

/// python-engineio's text.
pub(super) fn says_origin(answer: &Answer) -> bool {
    answer.body.to_ascii_lowercase().contains("not an accepted origin")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_that_is_told_too_little_sees_another_origin() {
        let seen = |page| seen_by_the_app(page).into_iter().map(|(_, seen)| seen).collect::<Vec<_>>();
        assert_eq!(seen("https://a.b"), ["http://a.b"]);
        assert_eq!(seen("https://a.b:8443"), ["http://a.b:8443", "https://a.b", "http://a.b"]);
        assert_eq!(seen("http://[::1]:3000"), ["http://[::1]"]);
        assert!(seen("http://[::1]").is_empty() && seen("http://a.b").is_empty() && seen("null").is_empty());
    }
}
