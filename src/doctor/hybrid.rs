//! The client's part of X25519MLKEM768, to see whether a server takes it: for connections that carry nothing.
//!
//! The ML-KEM key in its share is the one whose polynomials are 0. Every server encapsulates for it, but the secret is not secret: the
//! message stands in the ciphertext, beside a little noise. X25519 alone protects such a connection. This needs none of the code that
//! makes keys and decapsulates, 16 KB of a program.

use rustls::crypto::ring::kx_group::X25519;
use rustls::crypto::{ActiveKeyExchange, SharedSecret, SupportedKxGroup};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::{Error, NamedGroup, PeerMisbehaved, ProtocolVersion};
use sha3::{Digest, Sha3_256, Sha3_512};

/// The encapsulation key: 3 polynomials of 384 bytes, and the seed of the matrix (FIPS 203 §4.2.1, §5.1).
const KEY: [u8; 1184] = [0; 1184];
/// Of the ciphertext: the vector `u`, which only a key's owner needs.
const U_BYTES: usize = 960;
/// The polynomial `v`, 4 bits for each of 256 coefficients.
const V_BYTES: usize = 128;

/// The group; for TLS 1.3.
#[derive(Debug)]
pub(super) struct Probe;

struct Started {
    classical: Box<dyn ActiveKeyExchange>,
    share: Vec<u8>,
}

impl SupportedKxGroup for Probe {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let classical = X25519.start()?;
        let share = [&KEY[..], classical.pub_key()].concat();
        Ok(Box::new(Started { classical, share }))
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519MLKEM768
    }

    fn usable_for_version(&self, version: ProtocolVersion) -> bool {
        version == ProtocolVersion::TLSv1_3
    }
}

impl ActiveKeyExchange for Started {
    fn complete(self: Box<Self>, server_share: &[u8]) -> Result<SharedSecret, Error> {
        let parts = server_share.split_at_checked(U_BYTES).and_then(|(_, rest)| rest.split_first_chunk());
        let (v, point) = parts.ok_or(Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare))?;
        let classical = self.classical.complete(point)?;
        Ok([&secret(v), classical.secret_bytes()].concat().into())
    }

    fn hybrid_component(&self) -> Option<(NamedGroup, &[u8])> {
        Some((self.classical.group(), self.classical.pub_key()))
    }

    fn complete_hybrid_component(self: Box<Self>, server_share: &[u8]) -> Result<SharedSecret, Error> {
        self.classical.complete(server_share)
    }

    fn pub_key(&self) -> &[u8] {
        &self.share
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519MLKEM768
    }
}

/// With a key of 0, `v` is the message plus noise (FIPS 203 §5.2): a coefficient near 0 is the bit 0, one near the half is 1. Of the
/// message and the key's hash comes the secret (§6.2).
fn secret(v: &[u8; V_BYTES]) -> [u8; 32] {
    let is_one = |nibble: u8| u8::from((4..12).contains(&nibble));
    let coefficients = v.iter().flat_map(|byte| [byte & 15, byte >> 4]);
    let mut message = [0; 32];
    for (at, coefficient) in coefficients.enumerate() {
        message.get_mut(at / 8).into_iter().for_each(|byte| *byte |= is_one(coefficient) << (at % 8));
    }
    let both = Sha3_512::new().chain_update(message).chain_update(Sha3_256::digest(KEY)).finalize();
    let mut secret = [0; 32];
    secret.iter_mut().zip(both).for_each(|(to, from)| *to = from);
    secret
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hybrid::X25519MLKEM768;

    #[test]
    fn it_has_the_secret_of_the_server() {
        for _ in 0..20 {
            let client = Probe.start().unwrap();
            let server = X25519MLKEM768.start_and_complete(client.pub_key()).unwrap();
            let secret = client.complete(&server.pub_key).unwrap();
            assert_eq!(secret.secret_bytes(), server.secret.secret_bytes());
        }
    }

    #[test]
    fn a_share_of_another_length_is_refused() {
        let complete = |change: fn(&mut Vec<u8>)| {
            let client = Probe.start().unwrap();
            let mut share = X25519MLKEM768.start_and_complete(client.pub_key()).unwrap().pub_key;
            change(&mut share);
            client.complete(&share).is_ok()
        };
        assert!(complete(|_| {}));
        assert!(!complete(|share| share.truncate(1119)) && !complete(|share| share.push(0)));
        assert!(!complete(|share| share.truncate(1087)) && !complete(Vec::clear));
    }
}
