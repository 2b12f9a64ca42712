//! Traffic keys of one direction of a connection, and record protection with them (RFC 8446 §5.2 to §5.5, RFC 5288, RFC 7905).

use ring::aead::{self, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{self, KeyType, Prk};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::fault::Fault;

/// Most plaintext of a record (RFC 8446 §5.1).
pub const PLAIN_BYTES_MAX: usize = 1 << 14;
/// Most that a record adds to its plaintext: header, nonce and tag of AES-GCM in TLS 1.2 (RFC 5288 §3).
pub const RECORD_EXTRA_BYTES: usize = HEADER_BYTES + EXPLICIT_NONCE_BYTES + TAG_BYTES;
/// Content type, version and length.
pub(super) const HEADER_BYTES: usize = 5;
/// Of all suites that we have.
const TAG_BYTES: usize = 16;
/// The part of a nonce that travels with each AES-GCM record of TLS 1.2 (RFC 5288 §3).
const EXPLICIT_NONCE_BYTES: usize = 8;
/// Longest traffic secret: an output of SHA-384.
const SECRET_BYTES_MAX: usize = 48;
pub(super) const KEY_BYTES_MAX: usize = 32;
/// Content type of all protected records of TLS 1.3.
const APPLICATION_DATA: u8 = 23;

/// The versions that the edge speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// What protects records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Aead {
    /// With SHA-256 in TLS 1.3.
    Aes128Gcm,
    /// With SHA-384 in TLS 1.3.
    Aes256Gcm,
    /// With SHA-256 in TLS 1.3.
    Chacha20Poly1305,
}

impl Aead {
    fn algorithm(self) -> &'static aead::Algorithm {
        match self {
            Self::Aes128Gcm => &aead::AES_128_GCM,
            Self::Aes256Gcm => &aead::AES_256_GCM,
            Self::Chacha20Poly1305 => &aead::CHACHA20_POLY1305,
        }
    }

    fn hash(self) -> hkdf::Algorithm {
        match self {
            Self::Aes256Gcm => hkdf::HKDF_SHA384,
            Self::Aes128Gcm | Self::Chacha20Poly1305 => hkdf::HKDF_SHA256,
        }
    }

    /// Most records that one key may seal: RFC 8446 §5.5 allows about 2^24.5 with AES-GCM, of which 2^24 are used, and with ChaCha20 more
    /// than any connection sends.
    pub(super) fn records_max(self) -> u64 {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm => 1 << 24,
            Self::Chacha20Poly1305 => u64::MAX - (1 << 16),
        }
    }
}

/// How the records of a connection are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Protection {
    pub(super) version: Version,
    pub(super) aead: Aead,
}

impl Protection {
    fn explicit_bytes(self) -> usize {
        match (self.version, self.aead) {
            (Version::Tls13, _) | (_, Aead::Chacha20Poly1305) => 0,
            (Version::Tls12, _) => EXPLICIT_NONCE_BYTES,
        }
    }
}

/// Keys for one direction; wiped when they are dropped or replaced.
#[derive(Zeroize, ZeroizeOnDrop, Serialize, Deserialize)]
pub(super) struct Keys {
    /// Of TLS 1.3, from which the next one is made. In two halves, because serde takes arrays of up to 32 bytes.
    secret: [[u8; SECRET_BYTES_MAX / 2]; 2],
    pub(super) key: [u8; KEY_BYTES_MAX],
    /// In TLS 1.2 with AES-GCM: the salt, and where explicit nonces begin.
    iv: [u8; NONCE_LEN],
    /// The number of the next record.
    pub(super) sequence: u64,
}

impl Keys {
    /// `secret` is empty in TLS 1.2.
    ///
    /// # Errors
    /// A part whose length is not that of the suite.
    pub(super) fn new(
        protection: Protection,
        secret: &[u8],
        key: &[u8],
        iv: &[u8],
        sequence: u64,
    ) -> Result<Self, Fault> {
        let secret_bytes = match protection.version {
            Version::Tls12 => 0,
            Version::Tls13 => protection.aead.hash().len(),
        };
        if secret.len() != secret_bytes || key.len() != protection.aead.algorithm().key_len() {
            return Err(Fault::Keys);
        }
        let mut halves = [[0; SECRET_BYTES_MAX / 2]; 2];
        halves.as_flattened_mut().get_mut(..secret.len()).ok_or(Fault::Keys)?.copy_from_slice(secret);
        let iv = iv.try_into().map_err(|_| Fault::Keys)?;
        Ok(Self { secret: halves, key: padded(key)?, iv, sequence })
    }

    /// Replaces the keys by the next ones (RFC 8446 §7.2).
    ///
    /// # Errors
    /// In TLS 1.2, which has none.
    pub(super) fn update(&mut self, Protection { version, aead }: Protection) -> Result<(), Fault> {
        if version == Version::Tls12 {
            return Err(Fault::Exhausted);
        }
        let hash = aead.hash();
        let current = self.secret.as_flattened().get(..hash.len()).ok_or(Fault::Keys)?;
        let mut next = [0; SECRET_BYTES_MAX];
        expand(hash, current, b"traffic upd", next.get_mut(..hash.len()).ok_or(Fault::Keys)?)?;
        self.secret.as_flattened_mut().copy_from_slice(&next);
        next.zeroize();
        self.derive(aead)
    }

    fn derive(&mut self, aead: Aead) -> Result<(), Fault> {
        let hash = aead.hash();
        let secret = self.secret.as_flattened().get(..hash.len()).ok_or(Fault::Keys)?;
        let key = self.key.get_mut(..aead.algorithm().key_len()).ok_or(Fault::Keys)?;
        expand(hash, secret, b"key", key)?;
        expand(hash, secret, b"iv", &mut self.iv)?;
        self.sequence = 0;
        Ok(())
    }

    /// The cipher object: see [`super::Ciphers`].
    pub(super) fn cipher(&self, aead: Aead) -> Result<LessSafeKey, Fault> {
        let algorithm = aead.algorithm();
        let key = self.key.get(..algorithm.key_len()).ok_or(Fault::Keys)?;
        UnboundKey::new(algorithm, key).map(LessSafeKey::new).map_err(|_| Fault::Keys)
    }

    /// The nonce of the next record (RFC 8446 §5.3, RFC 7905 §2; RFC 5288 §3 leaves ours to us).
    #[inline]
    fn nonce(&self) -> [u8; NONCE_LEN] {
        let mut nonce = self.iv;
        let [_, _, _, _, counter @ ..] = &mut nonce;
        for (byte, of_sequence) in counter.iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= of_sequence;
        }
        nonce
    }

    /// Opens a record in place: its content type, and where in `record` its plaintext is.
    ///
    /// # Errors
    /// It was not sealed with these keys, or it is longer than a record may be.
    #[inline]
    pub(super) fn open(
        &mut self,
        protection: Protection,
        cipher: &LessSafeKey,
        record: &mut [u8],
    ) -> Result<(u8, std::ops::Range<usize>), Fault> {
        let front = HEADER_BYTES + protection.explicit_bytes();
        let length = record.len().checked_sub(front + TAG_BYTES).ok_or(Fault::Undecryptable)?;
        let (header, body) = record.split_at_mut_checked(HEADER_BYTES).ok_or(Fault::Undecryptable)?;
        let [content, major, minor, high, low] = *header else { return Err(Fault::Undecryptable) };
        let mut nonce = self.nonce();
        let next = self.sequence.checked_add(1).ok_or(Fault::Exhausted)?;
        let opened = match protection.version {
            Version::Tls13 => {
                let aad = Aad::from([APPLICATION_DATA, 3, 3, high, low]);
                cipher.open_in_place(Nonce::assume_unique_for_key(nonce), aad, body)
            }
            Version::Tls12 => {
                let explicit = protection.explicit_bytes();
                if let (Some(own), Some(sent)) = (nonce.last_chunk_mut::<8>(), body.get(..explicit))
                    && explicit > 0
                {
                    own.copy_from_slice(sent);
                }
                let aad = tls12_aad(self.sequence, content, [major, minor], length);
                cipher.open_within(Nonce::assume_unique_for_key(nonce), aad, body, explicit..)
            }
        };
        // ring moves what it opens to the front of the body.
        let plain: &[u8] = opened.map_err(|_| Fault::Undecryptable)?;
        self.sequence = next;
        let (content, length) = match protection.version {
            Version::Tls12 => (content, plain.len()),
            // Behind the content are its type and any number of zeros (RFC 8446 §5.4).
            Version::Tls13 => {
                if plain.len() > PLAIN_BYTES_MAX + 1 {
                    return Err(Fault::TooLong);
                }
                let end = plain.iter().rposition(|byte| *byte != 0).ok_or(Fault::NoContentType)?;
                (plain.get(end).copied().ok_or(Fault::NoContentType)?, end)
            }
        };
        if length > PLAIN_BYTES_MAX {
            return Err(Fault::TooLong);
        }
        Ok((content, HEADER_BYTES..HEADER_BYTES + length))
    }

    /// Seals `plain` into the front of `out`; bytes of the record.
    ///
    /// # Errors
    /// `out` is too small: see [`RECORD_EXTRA_BYTES`].
    #[inline]
    pub(super) fn seal(
        &mut self,
        protection: Protection,
        cipher: &LessSafeKey,
        content: u8,
        plain: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Fault> {
        let explicit = protection.explicit_bytes();
        let is_tls13 = protection.version == Version::Tls13;
        let inner_bytes = plain.len() + usize::from(is_tls13);
        let body_bytes = explicit + inner_bytes + TAG_BYTES;
        let record = out.get_mut(..HEADER_BYTES + body_bytes).ok_or(Fault::NoRoom)?;
        let [high, low] = u16::try_from(body_bytes).map_err(|_| Fault::NoRoom)?.to_be_bytes();
        let outer = if is_tls13 { APPLICATION_DATA } else { content };
        let nonce = self.nonce();
        let next = self.sequence.checked_add(1).ok_or(Fault::Exhausted)?;

        let (header, body) = record.split_at_mut_checked(HEADER_BYTES).ok_or(Fault::NoRoom)?;
        header.copy_from_slice(&[outer, 3, 3, high, low]);
        let (sent_nonce, body) = body.split_at_mut_checked(explicit).ok_or(Fault::NoRoom)?;
        sent_nonce.copy_from_slice(nonce.get(NONCE_LEN - explicit..).ok_or(Fault::NoRoom)?);
        let (inner, tag) = body.split_at_mut_checked(inner_bytes).ok_or(Fault::NoRoom)?;
        let (data, inner_content) = inner.split_at_mut_checked(plain.len()).ok_or(Fault::NoRoom)?;
        data.copy_from_slice(plain);
        inner_content.fill(content);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = match protection.version {
            Version::Tls13 => {
                cipher.seal_in_place_separate_tag(nonce, Aad::from([outer, 3, 3, high, low]), inner)
            }
            Version::Tls12 => {
                let aad = tls12_aad(self.sequence, outer, [3, 3], plain.len());
                cipher.seal_in_place_separate_tag(nonce, aad, inner)
            }
        };
        self.sequence = next;
        tag.copy_from_slice(sealed.map_err(|_| Fault::NoRoom)?.as_ref());
        Ok(HEADER_BYTES + body_bytes)
    }
}

/// RFC 5246 §6.2.3.3.
#[inline]
fn tls12_aad(sequence: u64, content: u8, version: [u8; 2], length: usize) -> Aad<[u8; 13]> {
    let mut aad = [0; 13];
    let (of_sequence, rest) = aad.split_at_mut(8);
    of_sequence.copy_from_slice(&sequence.to_be_bytes());
    let [high, low] = (length as u16).to_be_bytes(); // lossless: the length of a record is 16 bits
    rest.copy_from_slice(&[content, version[0], version[1], high, low]);
    Aad::from(aad)
}

/// HKDF-Expand-Label without context (RFC 8446 §7.1).
fn expand(hash: hkdf::Algorithm, secret: &[u8], label: &[u8], out: &mut [u8]) -> Result<(), Fault> {
    struct Length(usize);
    impl KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let [high, low] = (out.len() as u16).to_be_bytes(); // lossless: at most 48
    let label_bytes = [6 + label.len() as u8]; // lossless: labels are ours
    let info: [&[u8]; 5] = [&[high, low], &label_bytes, b"tls13 ", label, &[0]];
    let prk = Prk::new_less_safe(hash, secret);
    prk.expand(&info, Length(out.len())).and_then(|okm| okm.fill(out)).map_err(|_| Fault::Keys)
}

fn padded<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Fault> {
    let mut all = [0; N];
    all.get_mut(..bytes.len()).ok_or(Fault::Keys)?.copy_from_slice(bytes);
    Ok(all)
}
