//! The client's part of X25519MLKEM768, for rustls's client.

use ml_kem::{Decapsulate, DecapsulationKey, KeyExport, MlKem768};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::crypto::ring::kx_group::X25519;
use rustls::crypto::{ActiveKeyExchange, SharedSecret, SupportedKxGroup};
use rustls::{Error, NamedGroup};

/// The group.
pub static X25519MLKEM768: &dyn SupportedKxGroup = &Hybrid;

#[derive(Debug)]
struct Hybrid;

struct Started {
    classical: Box<dyn ActiveKeyExchange>,
    key: DecapsulationKey<MlKem768>,
    share: Vec<u8>,
}

impl SupportedKxGroup for Hybrid {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let classical = X25519.start()?;
        let mut seed = [0; 64];
        SystemRandom::new().fill(&mut seed).unwrap();
        let key = DecapsulationKey::from_seed(seed.into());
        let share = [key.encapsulation_key().to_bytes().as_slice(), classical.pub_key()].concat();
        Ok(Box::new(Started { classical, key, share }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519MLKEM768
    }
}

impl ActiveKeyExchange for Started {
    fn complete(self: Box<Self>, server_share: &[u8]) -> Result<SharedSecret, Error> {
        let (ciphertext, point) = server_share.split_at(1088);
        let shared = self.key.decapsulate(ciphertext.try_into().unwrap());
        let classical = self.classical.complete(point)?;
        Ok([shared.as_slice(), classical.secret_bytes()].concat().into())
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

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519MLKEM768
    }
}
