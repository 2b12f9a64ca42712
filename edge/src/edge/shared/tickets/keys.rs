//! Keys of session tickets, sealed with ChaCha20-Poly1305, and the file that holds them.

use std::fmt;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use rustix::time::{ClockId, clock_gettime};
use zeroize::{ZeroizeOnDrop, Zeroizing};

/// How long a key issues tickets: half a day limits what a stolen key opens (RFC 9325 §3.4 asks for at least weekly).
pub(crate) const ROTATION_S: u64 = 12 * 60 * 60;
/// The key that issues, and two before it.
const KEYS_MAX: usize = 3;
/// How long a key opens tickets, and what clients are told: a ticket is accepted for 24 to 36 hours.
pub(crate) const LIFETIME_S: u64 = KEYS_MAX as u64 * ROTATION_S;
/// Longest ticket that is made or looked at: rustls's session is a name of at most 255 bytes, a secret, and a few numbers.
const TICKET_BYTES_MAX: usize = 1024;

const NAME_BYTES: usize = 16;
const SECRET_BYTES: usize = 32;
/// Begins the file; the last byte is the version of its form.
const MAGIC: [u8; 8] = *b"SANETKT\x01";
/// Text of `/proc/sys/kernel/random/boot_id`.
pub(crate) const BOOT_ID_BYTES: usize = 36;
const HEADER_BYTES: usize = MAGIC.len() + BOOT_ID_BYTES;
const KEY_BYTES: usize = NAME_BYTES + 8 + SECRET_BYTES;
const DIGEST_BYTES: usize = 32;
/// Largest file of keys.
pub(crate) const FILE_BYTES_MAX: usize = HEADER_BYTES + KEYS_MAX * KEY_BYTES + DIGEST_BYTES;

/// Which boot of the machine this is.
pub(crate) type BootId = [u8; BOOT_ID_BYTES];

/// A key; wiped when dropped. ring's form of it is made for each use: it could not be wiped.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub(crate) struct Key {
    name: [u8; NAME_BYTES],
    /// Uptime in seconds at which it opens nothing any more.
    until_s: u64,
    secret: [u8; SECRET_BYTES],
}

/// The keys, newest first; never empty, at most [`KEYS_MAX`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys(pub(crate) Vec<Key>);

/// There was no randomness.
#[derive(Debug, thiserror::Error)]
#[error("no random bytes for the keys of session tickets")]
pub struct NoRandomness;

/// Why a file of keys is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("damaged, or not a ticket key file of this version")]
    Damaged,
    #[error("from another boot of this machine")]
    OtherBoot,
    #[error("a key in it has an impossible lifetime")]
    Lifetime,
    #[error("all keys in it have expired")]
    Expired,
}

impl fmt::Debug for Key {
    /// Never the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("until_s", &self.until_s).finish_non_exhaustive()
    }
}

impl Key {
    pub(crate) fn new(now: u64) -> Result<Self, NoRandomness> {
        let mut key = Self { name: [0; NAME_BYTES], until_s: now + LIFETIME_S, secret: [0; SECRET_BYTES] };
        let random = SystemRandom::new();
        random.fill(&mut key.name).and_then(|()| random.fill(&mut key.secret)).map_err(|_| NoRandomness)?;
        Ok(key)
    }

    fn is_alive(&self, now: u64) -> bool {
        now < self.until_s
    }

    /// Whether it issues tickets still.
    fn issues(&self, now: u64) -> bool {
        now + (LIFETIME_S - ROTATION_S) < self.until_s
    }

    fn aead(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&CHACHA20_POLY1305, &self.secret).ok().map(LessSafeKey::new)
    }
}

impl Keys {
    /// A ticket: the key's name, a random nonce, and `plain` sealed together with the name.
    pub(crate) fn seal(&self, plain: &[u8], now: u64) -> Option<Vec<u8>> {
        let key = self.0.first().filter(|key| key.is_alive(now))?;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        let tag = key
            .aead()?
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(key.name), &mut sealed)
            .ok()?;
        let ticket = [&key.name[..], &nonce, &sealed, tag.as_ref()].concat();
        (ticket.len() <= TICKET_BYTES_MAX).then_some(ticket)
    }

    /// What is in a ticket of ours; the bytes are whatever a client sends.
    pub(crate) fn open(&self, ticket: &[u8], now: u64) -> Option<Vec<u8>> {
        if ticket.len() > TICKET_BYTES_MAX {
            return None;
        }
        let (name, rest) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        // The name is no secret: it stands in the ticket.
        let key = self.0.iter().find(|key| key.name == *name && key.is_alive(now))?;
        let mut plain = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = key.aead()?.open_in_place(nonce, Aad::from(*name), &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }

    /// These keys at `now`, if they are others then: without those that have expired, and with one that issues.
    pub(crate) fn turned(&self, now: u64) -> Result<Option<Self>, NoRandomness> {
        let mut keys = Self(self.0.iter().filter(|key| key.is_alive(now)).cloned().collect());
        if !keys.0.first().is_some_and(|key| key.issues(now)) {
            keys.0.insert(0, Key::new(now)?);
            keys.0.truncate(KEYS_MAX);
        }
        Ok((keys != *self).then_some(keys))
    }

    /// The file: magic, boot id, the keys (name, `until_s` big-endian, secret), and the SHA-256 of all that.
    pub(crate) fn encode(&self, boot: &BootId) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX));
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(boot);
        for key in &self.0 {
            bytes.extend_from_slice(&key.name);
            bytes.extend_from_slice(&key.until_s.to_be_bytes());
            bytes.extend_from_slice(&key.secret);
        }
        let digest = digest::digest(&digest::SHA256, &bytes);
        bytes.extend_from_slice(digest.as_ref());
        bytes
    }

    /// The keys of a file that was written in this boot and that are alive at `now`.
    pub(crate) fn decode(bytes: &[u8], boot: &BootId, now: u64) -> Result<Self, Unusable> {
        let (body, digest) = bytes.split_last_chunk::<DIGEST_BYTES>().ok_or(Unusable::Damaged)?;
        if digest::digest(&digest::SHA256, body).as_ref() != digest {
            return Err(Unusable::Damaged);
        }
        let rest = body.strip_prefix(&MAGIC).ok_or(Unusable::Damaged)?;
        let (found, mut rest) = rest.split_first_chunk::<BOOT_ID_BYTES>().ok_or(Unusable::Damaged)?;
        if found != boot {
            return Err(Unusable::OtherBoot);
        }
        let mut keys = Vec::with_capacity(KEYS_MAX);
        while let Some((key, behind)) = Key::decode(rest) {
            keys.push(key);
            rest = behind;
        }
        let newest_first = keys.is_sorted_by(|newer, older| newer.until_s >= older.until_s);
        if !rest.is_empty() || keys.len() > KEYS_MAX || !newest_first {
            return Err(Unusable::Damaged);
        }
        if keys.iter().any(|key| key.until_s > now + LIFETIME_S) {
            return Err(Unusable::Lifetime);
        }
        keys.retain(|key| key.is_alive(now));
        if keys.is_empty() { Err(Unusable::Expired) } else { Ok(Self(keys)) }
    }
}

impl Key {
    pub(crate) fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (name, rest) = bytes.split_first_chunk()?;
        let (until_s, rest) = rest.split_first_chunk()?;
        let (secret, rest) = rest.split_first_chunk()?;
        Some((Self { name: *name, until_s: u64::from_be_bytes(*until_s), secret: *secret }, rest))
    }
}

/// Seconds since the machine booted, suspended ones included.
pub(crate) fn uptime_s() -> u64 {
    u64::try_from(clock_gettime(ClockId::Boottime).tv_sec).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: BootId = *b"6d0d9fd4-5a9b-4f0e-8f0a-0d3c0a7d9c11";
    /// Some uptime.
    const NOW: u64 = 1_000;

    fn fresh() -> Keys {
        Keys(vec![Key::new(NOW).unwrap()])
    }

    pub(crate) fn turned(keys: &Keys, now: u64) -> Keys {
        keys.turned(now).unwrap().expect("a turn")
    }

    #[test]
    fn a_key_issues_for_half_a_day_and_opens_for_the_announced_lifetime() {
        let first = fresh();
        let ticket = first.seal(b"session", NOW).unwrap();
        assert_eq!(first.turned(NOW + ROTATION_S - 1).unwrap().map(|keys| keys.0.len()), None);
        let second = turned(&first, NOW + ROTATION_S);
        let last = second.seal(b"later", NOW + 2 * ROTATION_S - 1).unwrap();
        let third = turned(&second, NOW + 2 * ROTATION_S);
        assert_eq!(third.0.len(), 3);
        assert_eq!(third.open(&ticket, NOW + LIFETIME_S - 1).as_deref(), Some(&b"session"[..]));
        // Also where nobody has turned the keys in time.
        assert_eq!(third.open(&ticket, NOW + LIFETIME_S), None, "accepted no longer than advertised");
        let fourth = turned(&third, NOW + LIFETIME_S);
        assert_eq!(fourth.0.len(), 3, "one issues, two before it are accepted");
        assert!(fourth.0.iter().all(|key| key.name != first.0[0].name), "the oldest is gone");
        assert!(fourth.open(&last, NOW + LIFETIME_S + ROTATION_S - 1).is_some());
        assert!(fourth.open(&last, NOW + LIFETIME_S + ROTATION_S).is_none());
    }

    #[test]
    fn after_a_long_sleep_only_a_new_key_is_left() {
        let keys = turned(&fresh(), NOW + 10 * LIFETIME_S);
        assert_eq!(keys.0.len(), 1);
        assert!(keys.0[0].issues(NOW + 10 * LIFETIME_S));
        assert!(
            fresh().seal(b"session", NOW + LIFETIME_S).is_none(),
            "no ticket under a key that has expired"
        );
    }

    #[test]
    fn a_ticket_that_was_touched_or_is_of_another_key_is_not_opened() {
        let keys = fresh();
        let ticket = keys.seal(b"session", NOW).unwrap();
        assert_ne!(ticket, keys.seal(b"session", NOW).unwrap(), "a nonce of its own");
        for at in 0..ticket.len() {
            let mut touched = ticket.clone();
            touched[at] ^= 1;
            assert_eq!(keys.open(&touched, NOW), None, "byte {at}");
            assert_eq!(keys.open(&ticket[..at], NOW), None, "cut at {at}");
        }
        assert_eq!(fresh().open(&ticket, NOW), None);
    }

    #[test]
    fn a_ticket_has_a_largest_size() {
        let keys = fresh();
        let overhead = keys.seal(b"", NOW).unwrap().len();
        let largest = keys.seal(&vec![7; TICKET_BYTES_MAX - overhead], NOW).unwrap();
        assert!(keys.open(&largest, NOW).is_some());
        assert!(keys.seal(&vec![7; TICKET_BYTES_MAX - overhead + 1], NOW).is_none());
        assert!(keys.open(&[largest, vec![0]].concat(), NOW).is_none());
    }

    #[test]
    fn a_file_gives_back_its_keys_in_its_boot_only() {
        let keys = turned(&turned(&fresh(), NOW + ROTATION_S), NOW + 2 * ROTATION_S);
        let now = NOW + 2 * ROTATION_S;
        let bytes = keys.encode(&BOOT);
        assert_eq!(bytes.len(), FILE_BYTES_MAX);
        assert!(Keys::decode(&bytes, &BOOT, now) == Ok(keys.clone()));
        let mut other = BOOT;
        other[0] ^= 1;
        assert_eq!(Keys::decode(&bytes, &other, now).err(), Some(Unusable::OtherBoot));
        assert_eq!(Keys::decode(&bytes, &BOOT, now + LIFETIME_S).err(), Some(Unusable::Expired));
        assert_eq!(
            Keys::decode(&bytes, &BOOT, now - 1).err(),
            Some(Unusable::Lifetime),
            "the clock ran backwards"
        );
        let left = Keys::decode(&bytes, &BOOT, NOW + LIFETIME_S).unwrap();
        assert_eq!(left.0.len(), 2, "an expired one is left out");
    }

    #[test]
    fn a_file_that_was_touched_is_refused() {
        let bytes = fresh().encode(&BOOT);
        for at in 0..bytes.len() {
            let mut touched = bytes.to_vec();
            touched[at] ^= 1;
            assert_eq!(Keys::decode(&touched, &BOOT, NOW).err(), Some(Unusable::Damaged), "byte {at}");
            assert_eq!(Keys::decode(&bytes[..at], &BOOT, NOW).err(), Some(Unusable::Damaged), "cut at {at}");
        }
        let four = Keys((0..4).map(|_| Key::new(NOW).unwrap()).collect());
        assert_eq!(Keys::decode(&four.encode(&BOOT), &BOOT, NOW).err(), Some(Unusable::Damaged));
        let mut rising = turned(&fresh(), NOW + ROTATION_S);
        rising.0.reverse();
        assert_eq!(
            Keys::decode(&rising.encode(&BOOT), &BOOT, NOW + ROTATION_S).err(),
            Some(Unusable::Damaged)
        );
        assert_eq!(Keys::decode(&Keys(Vec::new()).encode(&BOOT), &BOOT, NOW).err(), Some(Unusable::Expired));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes: Vec<u8>) {
            proptest::prop_assert!(fresh().open(&bytes, NOW).is_none());
            proptest::prop_assert!(Keys::decode(&bytes, &BOOT, NOW).is_err());
            // ... and behind a digest that is right.
            let sealed = [&bytes[..], digest::digest(&digest::SHA256, &bytes).as_ref()].concat();
            proptest::prop_assert!(Keys::decode(&sealed, &BOOT, NOW).is_err());
            let framed = [&MAGIC[..], &BOOT, &bytes].concat();
            let sealed = [&framed[..], digest::digest(&digest::SHA256, &framed).as_ref()].concat();
            let _ = Keys::decode(&sealed, &BOOT, NOW);
        }
    }
}
