//! What all checks share: the file, the time, the findings, and their wording.

use std::path::PathBuf;

use crate::bundle::Origins;
use crate::bundle::finding::{Finding, Severity};
pub use crate::bundle::lifetime::{day, moment};
use crate::bundle::source::{self, CertificateFiles, OriginEntry};
use crate::excerpt::Excerpt;
use crate::names::{Host, Origin};

/// Shortest RSA key: browsers refuse shorter ones, and so does ring.
pub const RSA_BITS_MIN: usize = 2048;
/// Longest RSA key that ring signs with.
pub const RSA_BITS_MAX: usize = 4096;

/// What all checks share: the file, the time and the findings.
pub(super) struct Context {
    pub(super) path: PathBuf,
    pub(super) now: i64,
    pub(super) board: Excerpt,
    pub(super) rsa_is_slow: bool,
    /// Every host of sanedge.toml: what a new certificate has to cover.
    pub(super) hosts: Vec<Host>,
    pub(super) findings: Vec<Finding>,
}

impl Context {
    pub(super) fn push(&mut self, line: u32, finding: Finding) {
        self.findings.push(finding.at(&self.path, line));
    }

    /// The same for checks whose findings are discarded.
    pub(super) fn without_findings(&self) -> Self {
        Self {
            path: self.path.clone(),
            now: self.now,
            board: self.board.clone(),
            rsa_is_slow: self.rsa_is_slow,
            hosts: self.hosts.clone(),
            findings: Vec::new(),
        }
    }

    pub(super) fn errors(&self) -> usize {
        self.errors_from(0)
    }

    /// Of the findings from the one at `from` on.
    pub(super) fn errors_from(&self, from: usize) -> usize {
        self.findings.iter().skip(from).filter(|f| f.severity() == Severity::Error).count()
    }
}

/// The `[[certificate]]` that a proof is about.
pub(super) struct Subject<'a> {
    /// Chain and key, as written and where they are.
    pub(super) files: &'a CertificateFiles,
    /// Chain file as written.
    pub(super) label: &'a Excerpt,
    /// Key file as written.
    pub(super) key_label: &'a Excerpt,
    /// Line of `chain`.
    pub(super) line: u32,
    /// Line of `key`.
    pub(super) key_line: u32,
}

impl<'a> Subject<'a> {
    pub(super) fn of(files: &'a CertificateFiles) -> Self {
        Self {
            files,
            label: &files.chain.value.label,
            key_label: &files.key.value.label,
            line: files.chain.line,
            key_line: files.key.line,
        }
    }
}

/// The longest path first: the order in which serving tries them.
pub(super) fn routes_by_length(site: &source::Site) -> Vec<&source::Route> {
    let mut routes: Vec<_> = site.routes.iter().collect();
    routes.sort_by_key(|route| (std::cmp::Reverse(route.path.len()), &route.path));
    routes
}

/// Allowed origins of a route: the default, unless it is dropped, then what the site lists, then what the route does.
pub(super) fn origins(route: &source::Route) -> Origins {
    let mut origins = Origins { own: route.origins_default, ..Origins::default() };
    list_all(&mut origins, &route.site_origins);
    origins.of_site = u16::try_from(origins.list.len()).unwrap_or(u16::MAX);
    list_all(&mut origins, &route.origins);
    origins
}

fn list_all(origins: &mut Origins, entries: &[OriginEntry]) {
    for entry in entries {
        match entry {
            OriginEntry::Any => origins.any = true,
            OriginEntry::Null => origins.null = true,
            OriginEntry::One(origin) if origins.list.contains(origin) => {}
            OriginEntry::One(origin) => origins.list.push(Origin::clone(origin)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(day(0), "1970-01-01");
        assert_eq!(day(951_782_400), "2000-02-29");
        assert_eq!(day(4_107_542_399), "2100-02-28");
        assert_eq!(day(4_107_542_400), "2100-03-01");
        assert_eq!(day(-1), "1969-12-31");
        assert_eq!(moment(951_782_400 + 3600 * 13 + 59), "2000-02-29 13:00 UTC");
    }
}
