//! Format 1 of the bundle file, byte by byte; encoding, decoding, and every rule that a decoded bundle keeps.
//!
//! # The file
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | magic, `SANEDGE` and a zero byte |
//! | 8 | 2 | format version, little endian: 1 |
//! | 10 | 4 | length of the payload, little endian; the file ends behind it; the whole file is at most [`FILE_BYTES_MAX`] |
//! | 14 | 32 | SHA-256 of the payload |
//! | 46 | length | payload |
//!
//! # The payload
//!
//! One [`Payload`] in [postcard's wire format](https://postcard.jamesmunns.com/wire-format): fields follow each other in
//! the order of the struct, without names, padding or alignment.
//!
//! - `u16`, `u32`, `u64`, lengths and variant numbers: LEB128 varint (seven bits a byte, least significant first, top
//!   bit set on all but the last byte). `i64`: zigzag (0, -1, 1, -2 are 0, 1, 2, 3), then varint.
//! - `u8`: the byte. `bool`: a byte 0 or 1. `Option`: a byte 0, or 1 and the value.
//! - `&str`, `&[u8]`: length, then the bytes (UTF-8 for `&str`). `Vec<T, N>`: count (at most N), then the elements.
//! - `enum`: variant number, counted from 0 as declared here, then the variant's fields.
//! - [`Limits`](crate::limits::Limits), [`Rules`](crate::limits::Rules), [`Drain`](crate::limits::Drain): their fields in the order
//!   of the struct, each an integer of its type or a `bool`; a duration is a `u32` of milliseconds.
//! - `Ipv6Addr`: 16 bytes, network order. `IpAddr`: 0 and 4 bytes, or 1 and 16 bytes. `SocketAddr`: 0 or 1, the address bytes, port as varint.
//!
//! Tables are flat, so that decoding needs little memory: a row that belongs to a route or a certificate carries that
//! one's index, and the rows of such a table are sorted by it. Nothing is read past a table's capacity, and capacity is
//! the documented bound. Decoding borrows texts and keys from the loaded file.
//!
//! # The rules
//!
//! A file whose digest is right can still be one that no `sanedge bundle` ever wrote. [`Bundle::decode`] therefore checks
//! again what `compile` promised, each rule a variant of [`Broken`]: indexes in range, hosts sorted and unique and each
//! covered by a recorded name of its certificate, no site without host, each with either routes or a redirect, no redirect that
//! comes back, no route without upstream, paths that
//! begin with `/`, chains that are not empty, keys that belong to their certificates, limits and durations in range.
//!
//! Nothing is released: until then the format may change without a new version. `tests/golden/` holds a file of it.

use rustls_pki_types::PrivateKeyDer;
use zeroize::Zeroizing;

use crate::bundle::Bundle;

mod assemble;
mod error;
mod layout;
mod payload;
mod value;

pub(crate) use assemble::assemble;
pub use error::{Broken, EncodeError, FormatError};
pub use payload::*;
pub use value::is_zone;

/// Writes a payload as a bundle file, and reads it back to prove that `open` will take it.
///
/// # Errors
/// Where the file would be too large, or breaks a rule of the format.
pub fn encode(payload: &Payload<'_>) -> Result<Zeroizing<Vec<u8>>, EncodeError> {
    let file = write(payload)?;
    if body(&file).and_then(read).map_err(EncodeError::Check)? != *payload {
        return Err(EncodeError::Differs);
    }
    decode(&file).map_err(EncodeError::Check)?;
    Ok(file)
}

/// Header and payload, unchecked. The buffer has its final size from the start: one that grows leaves copies of keys.
pub(crate) fn write(payload: &Payload<'_>) -> Result<Zeroizing<Vec<u8>>, EncodeError> {
    let mut file = Zeroizing::new(vec![0; FILE_BYTES_MAX]);
    let (head, room) = file.split_at_mut(HEADER_BYTES);
    let body = postcard::to_slice(payload, room).map_err(|_| EncodeError::TooLarge)?;
    let length = body.len();
    head.copy_from_slice(&header(body));
    file.truncate(HEADER_BYTES + length);
    Ok(file)
}

/// The header that belongs to a payload of at most [`FILE_BYTES_MAX`].
pub(crate) fn header(body: &[u8]) -> [u8; HEADER_BYTES] {
    let mut head = [0; HEADER_BYTES];
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
    let digest = sha256(body);
    let parts = MAGIC.into_iter().chain(VERSION.to_le_bytes()).chain(length).chain(digest);
    head.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
    head
}

/// The SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    digest
}

/// Reads a bundle file.
pub(crate) fn decode(file: &[u8]) -> Result<Bundle, FormatError> {
    let body = body(file)?;
    Ok(assemble(&read(body)?, sha256(body))?)
}

/// The same with the private keys, in the order of the certificates.
pub fn decode_with_keys(file: &[u8]) -> Result<(Bundle, Vec<PrivateKeyDer<'static>>), FormatError> {
    let bundle = decode(file)?;
    let payload = read(body(file)?)?;
    let keys = payload.certificates.iter().map(|certificate| certificate.key.der().clone_key()).collect();
    Ok((bundle, keys))
}

/// The payload of a file. Checks magic, version, length and digest, in this order: an error about one of them means that those
/// before it are right.
pub(crate) fn body(file: &[u8]) -> Result<&[u8], FormatError> {
    if !file.starts_with(&MAGIC) {
        let found = file.iter().copied().take(MAGIC.len()).collect::<Vec<_>>();
        let cut_off = !found.is_empty() && MAGIC.starts_with(&found);
        return Err(if cut_off { short(file) } else { FormatError::Magic { found } });
    }
    let (_, rest) = file.split_first_chunk::<8>().ok_or_else(|| short(file))?;
    let (version, rest) = rest.split_first_chunk().ok_or_else(|| short(file))?;
    match u16::from_le_bytes(*version) {
        found if found > VERSION => return Err(FormatError::Newer { found }),
        found if found < VERSION => return Err(FormatError::Older { found }),
        _ => {}
    }
    if file.len() > FILE_BYTES_MAX {
        return Err(FormatError::TooLarge { found: file.len() as u64 });
    }
    let (length, rest) = rest.split_first_chunk().ok_or_else(|| short(file))?;
    let (digest, body) = rest.split_first_chunk::<32>().ok_or_else(|| short(file))?;
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if body.len() != length {
        return Err(FormatError::Length { expected: length.saturating_add(HEADER_BYTES), found: file.len() });
    }
    if sha256(body) == *digest { Ok(body) } else { Err(FormatError::Digest) }
}

fn short(file: &[u8]) -> FormatError {
    FormatError::Length { expected: HEADER_BYTES, found: file.len() }
}

pub(crate) fn read(body: &[u8]) -> Result<Payload<'_>, FormatError> {
    match postcard::take_from_bytes::<Payload<'_>>(body) {
        Ok((payload, [])) => Ok(payload),
        Ok((_, rest)) => Err(FormatError::Trailing { bytes: rest.len() }),
        Err(error) => Err(FormatError::Encoding(error)),
    }
}

impl Bundle {
    /// Decodes the bytes of a bundle file, checks every rule of the format again, and wipes the bytes.
    ///
    /// # Errors
    /// Says whether the bytes are cut off, damaged, another kind of file, of another version, or break a rule.
    pub fn decode(bytes: Zeroizing<Vec<u8>>) -> Result<Self, FormatError> {
        decode(&bytes)
    }

    /// The bytes of a bundle file that decodes to this bundle (but for the digest, which is that of the bytes). `keys`
    /// are those of [`Bundle::certificates`], in the same order.
    ///
    /// # Errors
    /// Where a table has no room, or the result would not open.
    pub fn encode(&self, keys: &[PrivateKeyDer<'_>]) -> Result<Zeroizing<Vec<u8>>, EncodeError> {
        encode(&Payload::of(self, keys)?)
    }
}
