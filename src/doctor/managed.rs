//! The managed hosts of a bundle: `x.acme` beside it, and the status that the last run of `sanedge renew` wrote for the edge.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::bundle::acme::told::{self, Renewal, Renewals};
use crate::bundle::acme::{Local, PLAN_BYTES_MAX, Plan, Wanted};
use crate::names::Host;

/// The managed hosts of a bundle.
#[derive(Debug)]
pub(super) struct Managed {
    pub(super) plan: Plan,
    told: Option<Renewals>,
}

impl Managed {
    /// Reads `x.acme` beside the bundle or sanedge.toml at `path`; `None` if it cannot be read.
    pub(super) fn beside(path: &Path) -> Option<Self> {
        let path = Plan::beside(path);
        // Opening a pipe would block.
        std::fs::metadata(&path).ok().filter(std::fs::Metadata::is_file)?;
        let file = File::open(path).ok()?;
        let mut bytes = Vec::new();
        file.take(PLAN_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        let plan = Plan::decode(&bytes).ok()?;
        let told = told::read(&plan.challenges);
        Some(Self { plan, told })
    }

    /// The certificate that is to be obtained for `host`.
    pub(super) fn wanted(&self, host: &Host) -> Option<&Wanted> {
        let host = host.to_string();
        let covers = |name: &String| {
            *name == host
                || name
                    .strip_prefix("*.")
                    .is_some_and(|parent| host.split_once('.').is_some_and(|(_, rest)| rest == parent))
        };
        self.plan.certificates.iter().find(|wanted| wanted.names.iter().any(covers))
    }

    /// The local CA, if it issues for `host`.
    pub(super) fn local(&self, host: &Host) -> Option<&Local> {
        let host = host.to_string();
        self.plan.local.as_ref().filter(|local| local.names.contains(&host))
    }

    /// When the last run ended, and its result for a host of the local CA.
    pub(super) fn last_run_of_local(&self, host: &Host) -> Option<(i64, &Renewal)> {
        let (told, host) = (self.told.as_ref()?, host.to_string());
        Some((told.at, told.certificates.iter().find(|one| one.names.contains(&host))?))
    }

    /// When the last run ended, and its result for `wanted`.
    pub(super) fn last_run(&self, wanted: &Wanted) -> Option<(i64, &Renewal)> {
        let told = self.told.as_ref()?;
        Some((told.at, told.certificates.iter().find(|one| one.names == wanted.names)?))
    }

    /// The path of the status, if this user may not read it.
    pub(super) fn unreadable(&self) -> Option<PathBuf> {
        let file = self.plan.challenges.join(told::FILE);
        let denied = |error: std::io::Error| error.kind() == std::io::ErrorKind::PermissionDenied;
        File::open(&file).is_err_and(denied).then_some(file)
    }
}

/// Whether the response is an edge's, which carries `Sanedge-Error`.
pub(crate) fn is_of_edge(answer: &str) -> bool {
    let mut fields = answer.lines().take_while(|line| !line.is_empty());
    fields.any(|line| line.get(..14).is_some_and(|name| name.eq_ignore_ascii_case("sanedge-error:")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_the_certificate_with_its_name_or_the_wildcard_one_label_above() {
        let names = [&["recre.store"][..], &["*.recre.store", "a.test"], &["192.0.2.1"]];
        let plan = serde_json::json!({
            "version": 1, "source": "", "bundle": "", "source_sha256": "",
            "ca": { "directory": "https://ca/", "trust": null, "contact": null, "profile": "auto", "key": "p256", "eab": null },
            "fallback": [], "state": "", "challenge": "auto", "challenges": "", "dns": null, "http": [],
            "http_expects_proxy": false, "https": [],
            "certificates": names.iter().map(|names| serde_json::json!({ "names": names })).collect::<Vec<_>>(),
        });
        let plan = Plan::decode(plan.to_string().as_bytes()).unwrap();
        let managed = Managed { plan, told: None };
        let of =
            |host: &str| managed.wanted(&Host::parse(host).unwrap()).map(|wanted| wanted.name().to_owned());
        assert_eq!(of("recre.store").as_deref(), Some("recre.store"));
        assert_eq!(of("socket.recre.store").as_deref(), Some("*.recre.store"));
        assert_eq!(of("192.0.2.1").as_deref(), Some("192.0.2.1"));
        for other in ["a.b.recre.store", "b.test", "store", "192.0.2.2"] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
