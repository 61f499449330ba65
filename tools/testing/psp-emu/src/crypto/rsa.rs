// SPDX-License-Identifier: GPL-2.0
//! RSA-PSS with a salt as long as the digest.

use super::{Hash, Random};
use rsa::{
    pkcs8::{DecodePrivateKey, EncodePrivateKey, LineEnding},
    traits::PublicKeyParts,
    BigUint, Pss, RsaPrivateKey, RsaPublicKey,
};
use sha2::{Sha256, Sha384};

/// A private key.
#[derive(Clone)]
pub struct RsaKey(RsaPrivateKey);

/// A public key, both numbers big-endian without leading zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RsaPublic {
    pub modulus: Vec<u8>,
    pub exponent: Vec<u8>,
}

fn padding(hash: Hash) -> Pss {
    match hash {
        Hash::Sha256 => Pss::new_with_salt::<Sha256>(32),
        Hash::Sha384 => Pss::new_with_salt::<Sha384>(48),
    }
}

impl RsaKey {
    /// A new key. Takes seconds for 4096 bits.
    ///
    /// # Errors
    ///
    /// When `bits` is too small for an RSA key.
    pub fn generate(mut random: &mut dyn Random, bits: usize) -> Result<Self, rsa::Error> {
        RsaPrivateKey::new(&mut random, bits).map(Self)
    }

    /// Writes the key in PKCS #8 PEM.
    ///
    /// # Errors
    ///
    /// When it cannot be encoded.
    pub fn to_pem(&self) -> Result<String, rsa::pkcs8::Error> {
        Ok(self.0.to_pkcs8_pem(LineEnding::LF)?.to_string())
    }

    /// Reads a key in PKCS #8 PEM.
    ///
    /// # Errors
    ///
    /// When the text is none.
    pub fn from_pem(pem: &str) -> Result<Self, rsa::pkcs8::Error> {
        RsaPrivateKey::from_pkcs8_pem(pem).map(Self)
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> RsaPublic {
        RsaPublic {
            modulus: self.0.n().to_bytes_be(),
            exponent: self.0.e().to_bytes_be(),
        }
    }

    /// Signs a message; the signature is big-endian and as long as the modulus.
    ///
    /// # Errors
    ///
    /// When the key is too short for the hash.
    pub fn sign(
        &self,
        mut random: &mut dyn Random,
        hash: Hash,
        message: &[u8],
    ) -> Result<Vec<u8>, rsa::Error> {
        self.0
            .sign_with_rng(&mut random, padding(hash), &hash.digest(message))
    }
}

impl RsaPublic {
    /// Whether `signature` (big-endian, as long as the modulus) is this key's over `message`.
    #[must_use]
    pub fn verify(&self, hash: Hash, message: &[u8], signature: &[u8]) -> bool {
        let (n, e) = (
            BigUint::from_bytes_be(&self.modulus),
            BigUint::from_bytes_be(&self.exponent),
        );
        let key = RsaPublicKey::new(n, e);
        key.is_ok_and(|key| {
            key.verify(padding(hash), &hash.digest(message), signature)
                .is_ok()
        })
    }
}
