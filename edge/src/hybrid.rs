//! The server's part of X25519MLKEM768 (draft-ietf-tls-ecdhe-mlkem): a key exchange whose secret holds as long as one of X25519 and
//! ML-KEM-768 (FIPS 203) does. X25519 is ring's, ML-KEM is the crate `ml-kem`'s, and all randomness is ring's.
//!
//! [`offer`] finds the client's share, which rustls does not show before it chooses a group. An ML-KEM of ring's can replace that of the
//! crate here: nothing else knows it.

pub mod offer;

use std::fmt;

use ml_kem::{EncapsulationKey, MlKem768};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::crypto::ring::kx_group::X25519;
use rustls::crypto::{
    ActiveKeyExchange, CompletedKeyExchange, GetRandomFailed, SharedSecret, SupportedKxGroup,
};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::{Error, NamedGroup, PeerMisbehaved, ProtocolVersion};
use zeroize::{Zeroize, Zeroizing};

/// An encapsulation key (FIPS 203 §8, table 3), the first part of the client's share.
const KEY_BYTES: usize = 1184;
/// A ciphertext, the first part of the server's share.
const CIPHERTEXT_BYTES: usize = 1088;
/// Each secret.
const SECRET_BYTES: usize = 32;
/// rustls answers it with the alert `illegal_parameter`.
const BAD_SHARE: Error = Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare);

/// The group, for rustls; for TLS 1.3 only.
pub static X25519MLKEM768: &dyn SupportedKxGroup = &Hybrid;

struct Hybrid;

impl fmt::Debug for Hybrid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("X25519MLKEM768")
    }
}

impl SupportedKxGroup for Hybrid {
    /// Never called: the edge is no client.
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        Err(Error::General("X25519MLKEM768 is for servers here".to_owned()))
    }

    /// The checks are in the order of their cost: length, the modulus check of the encapsulation key (FIPS 203 §7.2),
    /// X25519 with a result that is not zero (RFC 7748 §6.1), then the encapsulation.
    fn start_and_complete(&self, client_share: &[u8]) -> Result<CompletedKeyExchange, Error> {
        let (key, point) = client_share.split_at_checked(KEY_BYTES).ok_or(BAD_SHARE)?;
        if point.len() != SECRET_BYTES {
            return Err(BAD_SHARE);
        }
        let key = encapsulation_key(key)?;
        let classical = X25519.start_and_complete(point)?;
        let mut message = Zeroizing::new([0; SECRET_BYTES]);
        fill(&mut *message)?;
        let (ciphertext, shared) = encapsulate(&key, &message);
        Ok(CompletedKeyExchange {
            group: self.name(),
            pub_key: [ciphertext.as_slice(), &classical.pub_key].concat(),
            secret: joined(&*shared, &classical.secret),
        })
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

/// The key that `bytes` encode, if they have its length and every coefficient is reduced (FIPS 203 §7.2).
fn encapsulation_key(bytes: &[u8]) -> Result<EncapsulationKey<MlKem768>, Error> {
    let bytes = bytes.try_into().map_err(|_| BAD_SHARE)?;
    EncapsulationKey::new(bytes).map_err(|_| BAD_SHARE)
}

/// Ciphertext and secret for a random `message` (FIPS 203 §6.2).
fn encapsulate(
    key: &EncapsulationKey<MlKem768>,
    message: &[u8; SECRET_BYTES],
) -> ([u8; CIPHERTEXT_BYTES], Zeroizing<[u8; SECRET_BYTES]>) {
    let (ciphertext, mut shared) = key.encapsulate_deterministic(message.into());
    let secret = Zeroizing::new(shared.0);
    shared.as_mut_slice().zeroize();
    (ciphertext.0, secret)
}

/// That of ML-KEM first (draft-ietf-tls-ecdhe-mlkem §4.3). rustls wipes it.
fn joined(of_mlkem: &[u8], classical: &SharedSecret) -> SharedSecret {
    // Of its final size from the beginning: what grew would leave a copy.
    let mut both = Vec::with_capacity(2 * SECRET_BYTES);
    both.extend_from_slice(of_mlkem);
    both.extend_from_slice(classical.secret_bytes());
    SharedSecret::from(both)
}

fn fill(bytes: &mut [u8]) -> Result<(), Error> {
    SystemRandom::new().fill(bytes).map_err(|_| GetRandomFailed.into())
}

#[cfg(test)]
mod tests {
    use ml_kem::{Decapsulate, DecapsulationKey, KeyExport};

    use super::*;

    const ANSWERS: &str = include_str!("../tests/wycheproof/mlkem_768_encaps.json");

    fn bytes(hex: &serde_json::Value) -> Vec<u8> {
        let digits: Vec<u32> = hex.as_str().unwrap().chars().map(|c| c.to_digit(16).unwrap()).collect();
        digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
    }

    /// A client's keys, and its share.
    struct Client {
        classical: Box<dyn ActiveKeyExchange>,
        key: DecapsulationKey<MlKem768>,
        share: Vec<u8>,
    }

    impl Client {
        fn new() -> Self {
            let classical = X25519.start().unwrap();
            let mut seed = [0; 64];
            fill(&mut seed).unwrap();
            let key = DecapsulationKey::from_seed(seed.into());
            let share = [key.encapsulation_key().to_bytes().as_slice(), classical.pub_key()].concat();
            Self { classical, key, share }
        }

        fn secret(self, server_share: &[u8]) -> Vec<u8> {
            let (ciphertext, point) = server_share.split_at(CIPHERTEXT_BYTES);
            let shared = self.key.decapsulate(ciphertext.try_into().unwrap());
            [shared.as_slice(), self.classical.complete(point).unwrap().secret_bytes()].concat()
        }
    }

    fn is_refused(share: &[u8]) -> bool {
        match X25519MLKEM768.start_and_complete(share) {
            Ok(_) => false,
            Err(error) => {
                assert_eq!(error, BAD_SHARE);
                true
            }
        }
    }

    #[test]
    fn known_answers() {
        let (mut valid, mut invalid) = (0, 0);
        let file: serde_json::Value = serde_json::from_str(ANSWERS).unwrap();
        for test in file["testGroups"].as_array().unwrap().iter().flat_map(|g| g["tests"].as_array().unwrap())
        {
            let (key, what) = (bytes(&test["ek"]), &test["tcId"]);
            if test["result"] == "valid" {
                let key = encapsulation_key(&key).unwrap();
                let message = bytes(&test["m"]).try_into().unwrap();
                let (ciphertext, secret) = encapsulate(&key, &message);
                assert_eq!(
                    (&ciphertext[..], &secret[..]),
                    (&*bytes(&test["c"]), &*bytes(&test["K"])),
                    "{what}"
                );
                valid += 1;
            } else {
                assert!(encapsulation_key(&key).is_err(), "{what}");
                assert!(is_refused(&[&*key, &[9; 32]].concat()), "{what}");
                invalid += 1;
            }
        }
        assert_eq!((valid, invalid), (27, 42));
    }

    #[test]
    fn both_ends_have_the_same_secret_and_each_time_another() {
        let mut secrets = Vec::new();
        for _ in 0..3 {
            let client = Client::new();
            assert_eq!(client.share.len(), 1216);
            let server = X25519MLKEM768.start_and_complete(&client.share).unwrap();
            assert_eq!((server.pub_key.len(), server.group), (1120, NamedGroup::X25519MLKEM768));
            let secret = server.secret.secret_bytes().to_vec();
            assert_eq!(client.secret(&server.pub_key), secret);
            assert_eq!(secret.len(), 64);
            secrets.extend([secret[..32].to_vec(), secret[32..].to_vec()]);
        }
        secrets.sort();
        secrets.dedup();
        assert_eq!(secrets.len(), 6);
    }

    #[test]
    fn a_share_of_another_length_is_refused() {
        let Client { share, .. } = Client::new();
        assert!(!is_refused(&share));
        assert!(is_refused(&share[..share.len() - 1]) && is_refused(&[&*share, &[0]].concat()));
        assert!(is_refused(b"") && is_refused(&share[..KEY_BYTES]) && is_refused(&share[KEY_BYTES..]));
    }

    #[test]
    fn the_largest_coefficient_is_one_below_the_modulus() {
        let Client { mut share, .. } = Client::new();
        // The first coefficient is the first 12 bits, little-endian (FIPS 203 §4.2.1).
        let mut refused = |coefficient: u16| {
            let [low, high] = coefficient.to_le_bytes();
            (share[0], share[1]) = (low, share[1] & 0xf0 | high);
            is_refused(&share)
        };
        assert!(!refused(0) && !refused(3328) && refused(3329) && refused(4095));
    }

    #[test]
    fn a_point_of_small_order_is_refused() {
        let Client { share, .. } = Client::new();
        let with = |point: [u8; 32]| is_refused(&[&share[..KEY_BYTES], &point].concat());
        let mut one = [0; 32];
        one[0] = 1;
        // RFC 7748 §6.1: the result for these is zero. The base point is none of them.
        let mut base = [0; 32];
        base[0] = 9;
        assert!(with([0; 32]) && with(one) && !with(base));
    }

    /// A worker's thread has 2 MiB. An optimised build needs less than 32 KiB of it; one that is not, more.
    #[test]
    fn a_small_stack_is_enough() {
        const STACK_BYTES: usize = if cfg!(debug_assertions) { 512 * 1024 } else { 64 * 1024 };
        let Client { share, .. } = Client::new();
        let small = std::thread::Builder::new().stack_size(STACK_BYTES);
        let thread = small.spawn(move || X25519MLKEM768.start_and_complete(&share).is_ok()).unwrap();
        assert!(thread.join().unwrap());
    }

    #[test]
    fn it_is_for_tls_1_3_alone() {
        assert!(X25519MLKEM768.usable_for_version(ProtocolVersion::TLSv1_3));
        assert!(!X25519MLKEM768.usable_for_version(ProtocolVersion::TLSv1_2));
        assert_eq!(format!("{X25519MLKEM768:?}"), "X25519MLKEM768");
        assert!(X25519MLKEM768.start().is_err());
    }
}
