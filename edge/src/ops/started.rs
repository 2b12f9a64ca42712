//! What a serving process has from its start and keeps until its end: what a reload cannot change.
//!
//! The edge refuses a bundle by it, and `sanedge apply` asks by it whether a change needs a new process: the status tells it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::sandbox::{Needs, Reach};
use crate::bundle::{Admin, Bundle, Listen};
use crate::limits::Limits;

/// Of the bundle of the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    https: BTreeSet<SocketAddr>,
    http: BTreeSet<SocketAddr>,
    admin: String,
    workers: u16,
    scratch_bytes: u32,
    socket_buffer_bytes: u32,
    address_rows: u64,
    /// Files and ports that the sandbox leaves.
    pub reach: Reach,
}

impl Started {
    /// A process that was started with these.
    pub fn new(listen: &Listen, limits: &Limits, reach: Reach) -> Self {
        let (https, http) = (listen.https.iter().copied().collect(), listen.http.iter().copied().collect());
        Self {
            https,
            http,
            admin: admin(listen),
            workers: limits.workers,
            scratch_bytes: limits.read_bytes(),
            socket_buffer_bytes: limits.socket_buffer_bytes,
            address_rows: limits.address_rows(),
            reach,
        }
    }

    /// For the status, which shows no path that may be a key.
    #[must_use]
    pub fn told(&self) -> Self {
        Self { reach: self.reach.told(), ..self.clone() }
    }

    /// Why the process refuses `bundle` at `path`.
    pub fn refuses(&self, bundle: &Bundle, needs: &Needs) -> Option<String> {
        let new = Self::new(&bundle.listen, &bundle.limits, Reach::default());
        let changed = [
            ("https", addresses(&self.https), addresses(&new.https)),
            ("http", addresses(&self.http), addresses(&new.http)),
            ("admin", self.admin.clone(), new.admin),
        ];
        match changed.into_iter().find(|(_, old, new)| old != new) {
            Some((key, old, new)) => Some(format!("[listen] {key} was {old} and is {new}")),
            None => self.reach.lacks(needs).map(|what| format!("{what} that this process was started with")),
        }
    }

    /// What `bundle` says and the process does not follow.
    pub fn keeps(&self, bundle: &Bundle) -> Vec<String> {
        let new = Self::new(&bundle.listen, &bundle.limits, Reach::default());
        let fixed = [
            ("workers", u32::from(self.workers), u32::from(new.workers)),
            ("scratch_bytes", self.scratch_bytes, new.scratch_bytes),
            ("socket_buffer_bytes", self.socket_buffer_bytes, new.socket_buffer_bytes),
        ];
        let changed = fixed.into_iter().filter(|(_, old, new)| old != new);
        let stays = changed.map(|(key, old, _)| format!("`{key}` stays {old} until the next restart"));
        let rows = (new.address_rows > self.address_rows).then(|| {
            let rows = self.address_rows;
            format!("the table of client addresses keeps its {rows} rows until the next restart")
        });
        stays.chain(rows).collect()
    }

    /// Everything for which `bundle` at `path` needs a new process.
    pub fn cannot_follow(&self, path: &Path, bundle: &Bundle) -> Vec<String> {
        let needs = Needs::of(path, bundle, path.parent().unwrap_or(Path::new("/")));
        self.refuses(bundle, &needs).into_iter().chain(self.keeps(bundle)).collect()
    }
}

fn addresses(all: &BTreeSet<SocketAddr>) -> String {
    if all.is_empty() {
        "none".to_owned()
    } else {
        all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

fn admin(listen: &Listen) -> String {
    listen.admin.as_ref().map_or_else(|| format!("unix:{}", Admin::DEFAULT_PATH), ToString::to_string)
}
