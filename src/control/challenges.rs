//! Looks for tls-alpn-01 challenges that `sanedge renew` has written or taken away: from time to time, and never for a hello.

use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use crate::admin::problems::named;
use crate::bundle::alpn;
use crate::edge::session::port80::read_small;
use crate::edge::shared::challenges::Challenges;
use crate::edge::shared::state::Shared;
use crate::excerpt::Excerpt;

/// How often. At rest a look is one call to the kernel, which finds no file.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);

/// The file as it was last time; empty: none.
#[derive(Debug, Default)]
pub(crate) struct Look {
    seen: Vec<u8>,
}

impl Look {
    /// Whether there may be something: else nothing wakes for it.
    pub(crate) fn is_wanted(&self, shared: &Shared) -> bool {
        !self.seen.is_empty() || shared.active.load().bundle.listen.challenges.is_some()
    }

    /// Takes over what has changed in the folder.
    pub(crate) fn look(&mut self, shared: &Shared) {
        let active = shared.active.load();
        let folder = active.bundle.listen.challenges.as_deref();
        let path = folder.map(|folder| folder.join(alpn::FILE)).unwrap_or_default();
        let now = folder.and_then(|_| read_small(&path, alpn::BYTES_MAX as u64)).unwrap_or_default();
        if now == self.seen {
            return;
        }
        let proofs = alpn::decode(&now);
        if proofs.is_none() {
            let file = Excerpt::of_path(&path);
            warn!(%file, "this is not a list of challenges, so it is ignored; only `sanedge renew` should write this file");
        }
        self.seen = now;
        let challenges = Challenges::of(proofs.unwrap_or_default(), &shared.challenges.load());
        let names: Vec<String> = challenges.names().map(ToString::to_string).collect();
        shared.challenges.store(Arc::new(challenges));
        if !names.is_empty() {
            info!(hosts = named(names.iter().map(String::as_str)), "answering tls-alpn-01 challenges");
        }
    }
}
