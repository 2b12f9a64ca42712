//! Cipher objects of the keys that were used last. One is 560 bytes, which a connection at rest does not keep, and making one of AES-GCM
//! costs twice what sealing a short message does.

use ring::aead::LessSafeKey;
use zeroize::Zeroizing;

use super::fault::Fault;
use super::keys::{Aead, KEY_BYTES_MAX, Keys};

/// By the first byte of the key, which is as random as the rest of it.
const SLOTS: usize = 1 << u8::BITS;

/// Those of a worker: at most 256, 160 KB.
#[derive(Default)]
pub struct Ciphers(Vec<Option<Box<Cipher>>>);

struct Cipher {
    key: Zeroizing<[u8; KEY_BYTES_MAX]>,
    aead: Aead,
    object: LessSafeKey,
}

impl Ciphers {
    /// The one of these keys, which is made if another has its place.
    #[inline]
    pub(super) fn of(&mut self, keys: &Keys, aead: Aead) -> Result<&LessSafeKey, Fault> {
        if self.0.is_empty() {
            self.0.resize_with(SLOTS, || None);
        }
        let [slot, ..] = keys.key;
        let place = self.0.get_mut(usize::from(slot)).ok_or(Fault::Keys)?;
        match place {
            Some(cipher) if *cipher.key == keys.key && cipher.aead == aead => {}
            _ => fill(place, keys, aead)?,
        }
        place.as_deref().map(|cipher| &cipher.object).ok_or(Fault::Keys)
    }

    /// Drops the one of these keys: they are not used any more.
    pub(super) fn forget(&mut self, keys: &Keys) {
        let [slot, ..] = keys.key;
        if let Some(place) = self.0.get_mut(usize::from(slot)) {
            place.take_if(|cipher| *cipher.key == keys.key);
        }
    }
}

#[cold]
fn fill(place: &mut Option<Box<Cipher>>, keys: &Keys, aead: Aead) -> Result<(), Fault> {
    let cipher = Cipher { key: Zeroizing::new(keys.key), aead, object: keys.cipher(aead)? };
    match place {
        Some(other) => **other = cipher,
        None => *place = Some(Box::new(cipher)),
    }
    Ok(())
}
