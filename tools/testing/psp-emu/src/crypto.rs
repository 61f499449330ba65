// SPDX-License-Identifier: GPL-2.0
//! Cryptography of the SEV API, over the RustCrypto crates: what the specification wants that differs
//! from common usage (byte order, hash and curve pairing) is put right here.

pub mod ecc;
pub mod rsa;
mod seal;

pub(crate) use seal::{seal, unseal, SealKey};

use hmac::{Hmac, Mac};
use rand_core::{CryptoRng, RngCore};
use sha2::{Digest, Sha256, Sha384};

/// A source of randomness for keys. Tests substitute a seeded one.
pub trait Random: RngCore + CryptoRng + Send {}

impl<T: RngCore + CryptoRng + Send> Random for T {}

/// Hash functions the certificate formats know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    Sha256,
    Sha384,
}

impl Hash {
    /// The digest of a message.
    #[must_use]
    pub fn digest(self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(message).to_vec(),
            Self::Sha384 => Sha384::digest(message).to_vec(),
        }
    }
}

/// HMAC-SHA-256 over the concatenation of `parts`.
pub(crate) fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    // PANIC: HMAC takes keys of any length.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any key length is valid");
    parts.iter().for_each(|part| mac.update(part));
    mac
}

/// Key derivation: NIST SP 800-108 in counter mode with HMAC-SHA-256, 32-bit little-endian counter and
/// length in bits (SEV-API, "Key Derivation").
pub(crate) fn kdf<const N: usize>(key: &[u8], label: &str, context: &[u8]) -> [u8; N] {
    // CAST: callers derive some dozens of bytes.
    let bits = (N * 8) as u32;
    let mut derived = [0; N];
    for (i, block) in (1u32..).zip(derived.chunks_mut(32)) {
        let parts = [
            &i.to_le_bytes(),
            label.as_bytes(),
            &[0],
            context,
            &bits.to_le_bytes(),
        ];
        let mac = hmac_sha256(key, &parts).finalize().into_bytes();
        block.copy_from_slice(&mac[..block.len()]);
    }
    derived
}

/// Copies a big-endian number into a little-endian field, which is zeroed first.
///
/// # Panics
///
/// When the field is shorter than the number.
pub(crate) fn put_le(field: &mut [u8], big_endian: &[u8]) {
    field.fill(0);
    let number = &mut field[..big_endian.len()];
    number.copy_from_slice(big_endian);
    number.reverse();
}

/// Takes a number of at most `N` bytes from a little-endian field, as big-endian bytes.
///
/// `None` when a byte beyond them is not zero.
pub(crate) fn get_le<const N: usize>(field: &[u8]) -> Option<[u8; N]> {
    let (number, rest) = field.split_first_chunk::<N>()?;
    let mut big_endian = *number;
    big_endian.reverse();
    rest.iter().all(|&byte| byte == 0).then_some(big_endian)
}
