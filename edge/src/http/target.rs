//! The target of a request (RFC 9112 §3.2).

use crate::http::fault::{HeadFault, Version};

/// The parts of a request target (RFC 9112 §3.2).
pub(super) struct TargetParts<'b> {
    /// Of an absolute-form.
    pub(super) authority: Option<&'b str>,
    pub(super) path: &'b str,
    pub(super) query: Option<&'b str>,
}

impl<'b> TargetParts<'b> {
    pub(super) fn split(method: &str, target: &'b str) -> Result<Self, HeadFault> {
        if target.starts_with('/') {
            let (path, query) = split_query(target);
            return Ok(Self { authority: None, path, query });
        }
        let rest = strip_scheme(target).ok_or(HeadFault::TargetForm)?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, local) = rest.split_at(end);
        // RFC 3986 §3.3 lets a path be empty before a query; HAProxy reads the query into the host.
        if local.starts_with('?') {
            return Err(HeadFault::TargetForm);
        }
        let (path, query) = split_query(local);
        // RFC 9112 §3.2.4: it would become `OPTIONS *`, which nginx refuses and no Socket.IO client sends.
        if method == "OPTIONS" && local.is_empty() {
            return Err(HeadFault::TargetForm);
        }
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { authority: Some(authority), path, query })
    }

    /// An absolute-form equals Host (RFC 9112 §3.2: identical), or is alone in HTTP/1.0.
    pub(super) fn check_authority(&self, named: Option<&str>, version: Version) -> Result<(), HeadFault> {
        match (self.authority, named) {
            (Some(_), None) if version == Version::Http11 => Err(HeadFault::HostMissing),
            (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
                Err(HeadFault::HostDiffers)
            }
            _ => Ok(()),
        }
    }
}

fn split_query(target: &str) -> (&str, Option<&str>) {
    // By bytes: most targets are short, and a character search is made for long ones.
    let end = target.bytes().position(|byte| byte == b'?');
    match end.and_then(|end| Some((target.get(..end)?, target.get(end + 1..)?))) {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    }
}

fn strip_scheme(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_once("://")?;
    let is_ours = scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http");
    is_ours.then_some(rest)
}
