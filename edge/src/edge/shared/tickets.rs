//! Session tickets (RFC 8446 §4.6.1, RFC 5077), sealed with ChaCha20-Poly1305 under keys that rotate.
//!
//! A key issues tickets for `ROTATION_S` and opens them for `LIFETIME_S`, which is what clients are told; then it
//! is wiped. Times are of `CLOCK_BOOTTIME`: a board whose wall clock jumps keeps its keys neither longer nor shorter.
//! The keys outlive this process in memory only, see `KeyFolder`.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::ProducesTickets;
use tracing::{error, info, warn};

use crate::excerpt::Excerpt;

mod key_folder;
mod keys;

use key_folder::KeyFolder;
pub use key_folder::folder;
pub use keys::NoRandomness;
use keys::{Key, Keys, LIFETIME_S, uptime_s};

/// rustls's ticketer. All workers share it: each reads the keys without a lock, and the main thread alone replaces them.
pub struct Tickets {
    keys: ArcSwap<Keys>,
    key_folder: Option<KeyFolder>,
}

impl Tickets {
    /// Takes up the keys that an edge before this one left in `folder`, or makes fresh ones. They are kept there if it is
    /// a place in memory, and only in this process otherwise; says which.
    ///
    /// # Errors
    /// The kernel gives no randomness.
    pub fn start(folder: &Path) -> Result<Arc<Self>, NoRandomness> {
        let now = uptime_s();
        let key_folder = KeyFolder::open(folder)
            .inspect_err(|reason| {
                let folder = Excerpt::of_path(folder);
                info!(%folder, %reason, "ticket keys are kept in memory only: clients cannot resume after a restart");
            })
            .ok();
        let kept = key_folder.as_ref().and_then(|key_folder| match key_folder.load(now) {
            Ok(kept) => kept,
            Err(reason) => {
                warn!(path = %Excerpt::of_path(key_folder.path()), %reason, "ticket keys of the previous process not used: clients \
                    make one full handshake");
                None
            }
        });
        if let Some(key_folder) = &key_folder {
            let keys = kept.as_ref().map_or(0, |keys| keys.0.len());
            info!(path = %Excerpt::of_path(key_folder.path()), keys, "ticket keys are kept across restarts");
        }
        let keys = match &kept {
            Some(keys) => keys.clone(),
            None => Keys(vec![Key::new(now)?]),
        };
        let tickets = Self { keys: ArcSwap::from_pointee(keys), key_folder };
        if kept.is_none() {
            tickets.save();
        }
        tickets.turn();
        Ok(Arc::new(tickets))
    }

    /// Makes a new key where it is time and wipes those that have expired. To be called by one thread, once a minute.
    pub fn turn(&self) {
        let now = uptime_s();
        match self.keys.load().turned(now) {
            Ok(None) => {}
            Ok(Some(keys)) => {
                self.keys.store(Arc::new(keys));
                self.save();
            }
            Err(error) => error!(%error, "ticket keys not rotated; trying again in a minute"),
        }
    }

    fn save(&self) {
        let Some(key_folder) = &self.key_folder else { return };
        if let Err(error) = key_folder.save(&self.keys.load()) {
            let path = Excerpt::of_path(key_folder.path()).to_string();
            warn!(path, %error, "ticket keys not written: clients cannot resume after a restart");
        }
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_S as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.keys.load().seal(plain, uptime_s())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.keys.load().open(ticket, uptime_s())
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("keys", &self.keys.load().0.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::keys::ROTATION_S;
    use super::*;

    #[test]
    fn the_advertised_lifetime_is_at_most_36_hours() {
        let tickets =
            Tickets { keys: ArcSwap::from_pointee(Keys(vec![Key::new(1_000).unwrap()])), key_folder: None };
        assert!(tickets.enabled());
        assert_eq!(u64::from(tickets.lifetime()), LIFETIME_S);
        assert_eq!((ROTATION_S, LIFETIME_S), (12 * 3600, 36 * 3600));
        assert_eq!(format!("{tickets:?}"), "Tickets { keys: 1, .. }");
    }
}
