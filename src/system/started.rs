//! What a serving process keeps from its start to its end, because a reload cannot change it.
//!
//! The edge refuses bundles that do not fit it. It is part of the status, so that `sanedge apply` can tell whether a change needs a new
//! process.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::sandbox::{Needs, Reach};
use crate::bundle::{Admin, Bundle, Listen};
use crate::limits::Limits;

/// Values from the bundle at the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    https: BTreeSet<SocketAddr>,
    http: BTreeSet<SocketAddr>,
    admin: String,
    workers: u16,
    scratch_bytes: u32,
    socket_buffer_bytes: u32,
    address_rows: u64,
    /// Files and ports that the sandbox allows.
    pub reach: Reach,
}

impl Started {
    /// The values of a process that is started with this bundle.
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

    /// The same for the status, without paths that may be a key.
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

    /// Addresses of `listen` on ports that this process does not listen on. Other addresses may conflict with its own sockets while it runs.
    pub fn lacks(&self, listen: &Listen) -> Vec<SocketAddr> {
        let admin = match &listen.admin {
            Some(Admin::Tcp(address)) => Some(address),
            _ => None,
        };
        let own_admin = self.admin.parse::<SocketAddr>().ok();
        let has = |port: u16| {
            let mut own = self.https.iter().chain(&self.http).chain(&own_admin);
            own.any(|address| address.port() == port)
        };
        let all = listen.https.iter().chain(&listen.http).chain(admin);
        all.filter(|address| !has(address.port())).copied().collect()
    }

    /// Limits of `bundle` that take effect only after a restart.
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
