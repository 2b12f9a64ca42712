//! The page at `/`: one document without any outside resource, and the policy that holds it to that.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};

/// The document. It reads `/status` and `/history`, and can do nothing else.
pub(super) const HTML: &str = include_str!("page.html");

/// Nothing but the one script and the one style of [`HTML`], by their hashes, and reading from where it came.
pub(super) fn content_security_policy() -> &'static str {
    static POLICY: LazyLock<String> = LazyLock::new(|| {
        let (script, style) = (hash("<script>", "</script>"), hash("<style>", "</style>"));
        format!(
            "default-src 'none'; script-src '{script}'; style-src '{style}'; connect-src 'self'; img-src data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
    });
    &POLICY
}

/// The hash source of what stands between two tags (CSP Level 3 §2.3.1).
fn hash(begin: &str, end: &str) -> String {
    let inner = HTML.split_once(begin).and_then(|(_, rest)| Some(rest.split_once(end)?.0));
    format!("sha256-{}", STANDARD.encode(digest(&SHA256, inner.unwrap_or_default().as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_asks_for_nothing_from_outside() {
        for forbidden in ["http://", "https://", "src=", "@import", "url(", " style=", " onclick="] {
            let found = HTML
                .match_indices(forbidden)
                .filter(|(at, _)| !HTML[*at..].starts_with("http://www.w3.org/"));
            assert_eq!(found.count(), 0, "{forbidden}");
        }
        for once in ["<script>", "</script>", "<style>", "</style>"] {
            assert_eq!(HTML.matches(once).count(), 1, "{once}");
        }
        assert!(HTML.len() < 24 * 1024, "{} bytes are in every binary", HTML.len());
    }
}
