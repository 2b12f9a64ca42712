//! Whether a page's Content-Security-Policy lets it connect to its own server (CSP Level 3, §6.1.1 and §6.7).

/// The sources of an enforced policy that do not include the page's own server; `None` if the page may connect to it.
pub(super) fn forbids<'a>(policies: impl IntoIterator<Item = &'a str>, origin: &str) -> Option<String> {
    policies.into_iter().flat_map(|policy| policy.split(',')).find_map(|policy| {
        let sources = connect_sources(policy)?;
        let allowed = sources.split_ascii_whitespace().any(|source| allows(source, origin));
        (!allowed).then(|| sources.to_owned())
    })
}

/// Of `connect-src`, else of `default-src`; the first of a name counts.
fn connect_sources(policy: &str) -> Option<&str> {
    let find = |wanted: &str| {
        policy.split(';').map(str::trim).find_map(|directive| {
            let (name, sources) =
                directive.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((directive, ""));
            name.eq_ignore_ascii_case(wanted).then_some(sources.trim())
        })
    };
    find("connect-src").or_else(|| find("default-src"))
}

/// `http:` covers `https:`, and `ws:` and `wss:` are the same server's as `http:` and `https:` (§6.7.2.8). A client begins by
/// polling and continues with a WebSocket: one of the two is enough to connect.
fn allows(source: &str, origin: &str) -> bool {
    let source = source.to_ascii_lowercase();
    let Some((scheme, authority)) = origin.split_once("://") else { return true };
    let secure = scheme == "https";
    let fits = |scheme: &str| match scheme {
        "http" | "ws" => true,
        "https" | "wss" => secure,
        _ => false,
    };
    if source == "*" || source == "'self'" {
        return true;
    }
    if let Some(scheme) = source.strip_suffix(':') {
        return fits(scheme);
    }
    let (its_scheme, rest) = match source.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, source.as_str()),
    };
    let its_authority = rest.split('/').next().unwrap_or_default();
    its_scheme.is_none_or(fits) && same_host(its_authority, authority, secure)
}

fn same_host(pattern: &str, authority: &str, secure: bool) -> bool {
    let default = if secure { "443" } else { "80" };
    let part = |text: &'_ str| -> (String, String) {
        match text.rsplit_once(':') {
            Some((host, port)) if port == "*" || port.parse::<u16>().is_ok() => {
                (host.to_owned(), port.to_owned())
            }
            _ => (text.to_owned(), default.to_owned()),
        }
    };
    let ((pattern, its_port), (host, port)) = (part(pattern), part(authority));
    let host_fits = match pattern.strip_prefix("*.") {
        Some(ending) => host.strip_suffix(ending).is_some_and(|rest| rest.ends_with('.')),
        None => pattern == host,
    };
    host_fits && (its_port == "*" || its_port == port)
}

#[cfg(test)]
mod tests {
    use super::forbids;

    const ORIGIN: &str = "https://app.example.org";

    #[test]
    fn a_policy_that_leaves_the_own_server_out_forbids_it() {
        for policy in [
            "connect-src https://api.example.org",
            "default-src 'none'",
            "connect-src 'none'; default-src 'self'",
            "Connect-Src ws://10.0.69.116:8081",
            "connect-src https://app.example.org:8443",
            "connect-src *.app.example.org",
            "connect-src",
            "default-src 'self', connect-src https://cdn.example.org",
        ] {
            assert!(forbids([policy], ORIGIN).is_some(), "{policy}");
        }
    }

    #[test]
    fn a_policy_that_names_it_in_any_way_does_not() {
        for policy in [
            "",
            "script-src 'none'",
            "default-src 'self'",
            "connect-src *",
            "connect-src wss:",
            "connect-src https:",
            "connect-src wss://app.example.org",
            "connect-src app.example.org",
            "connect-src *.example.org:*",
            "connect-src https://api.example.org https://app.example.org/socket.io/",
            "default-src 'none'; connect-src 'self'",
        ] {
            assert_eq!(forbids([policy], ORIGIN), None, "{policy}");
        }
        assert_eq!(forbids(["connect-src ws://app:3000"], "http://app:3000"), None);
        assert!(forbids(["connect-src wss://app:3000"], "http://app:3000").is_some());
    }
}
