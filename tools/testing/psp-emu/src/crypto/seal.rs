// SPDX-License-Identifier: GPL-2.0
//! Authenticated encryption of the platform's persistent data.
//!
//! ```text
//! 0x00   8  magic
//! 0x08   4  version of the format, little-endian
//! 0x0c   4  length of the ciphertext, little-endian
//! 0x10  16  initial counter block
//! 0x20      ciphertext, AES-256-CTR
//!       32  HMAC-SHA-256 over all before it
//! ```
//!
//! AMD's own format is not public in a form one could rely on; this one is ours. Its first bytes are
//! never 0xff, which is what erased storage reads as.

use super::{hmac_sha256, kdf, Random};
use aes::{
    cipher::{KeyIvInit, StreamCipher},
    Aes256,
};
use hmac::Mac;

type Aes256Ctr = ctr::Ctr128BE<Aes256>;

const MAGIC: &[u8; 8] = b"SEV-data";
const VERSION: u32 = 1;
const IV: std::ops::Range<usize> = 0x10..0x20;
const HEADER_LEN: usize = 0x20;
const MAC_LEN: usize = 32;

/// The keys of one chip for its persistent data.
pub(crate) struct SealKey {
    encryption: [u8; 32],
    integrity: [u8; 32],
}

impl SealKey {
    /// Derives the keys from the chip's secret.
    pub(crate) fn derive(secret: &[u8; 32]) -> Self {
        Self {
            encryption: kdf(secret, "sev-persistent-encryption", &[]),
            integrity: kdf(secret, "sev-persistent-integrity", &[]),
        }
    }
}

/// Encrypts and authenticates `data`.
pub(crate) fn seal(key: &SealKey, random: &mut dyn Random, data: &[u8]) -> Vec<u8> {
    let mut sealed = MAGIC.to_vec();
    sealed.extend_from_slice(&VERSION.to_le_bytes());
    // CAST: persistent data is some kilobytes.
    sealed.extend_from_slice(&(data.len() as u32).to_le_bytes());
    let mut iv = [0; 16];
    random.fill_bytes(&mut iv);
    sealed.extend_from_slice(&iv);
    sealed.extend_from_slice(data);
    let mut cipher = Aes256Ctr::new(&key.encryption.into(), &iv.into());
    cipher.apply_keystream(&mut sealed[HEADER_LEN..]);
    let mac = hmac_sha256(&key.integrity, &[&sealed])
        .finalize()
        .into_bytes();
    sealed.extend_from_slice(&mac);
    sealed
}

/// Checks and decrypts what [`seal`] made. Bytes after it are ignored.
///
/// `None` when it is not authentic, of another chip, or of a version this firmware does not know.
pub(crate) fn unseal(key: &SealKey, sealed: &[u8]) -> Option<Vec<u8>> {
    let (header, rest) = sealed.split_at_checked(HEADER_LEN)?;
    let (preamble, length) = header[..IV.start].split_at(12);
    if preamble != [&MAGIC[..], &VERSION.to_le_bytes()].concat() {
        return None;
    }
    let len = usize::try_from(u32::from_le_bytes(length.try_into().ok()?)).ok()?;
    let (ciphertext, rest) = rest.split_at_checked(len)?;
    let mac = rest.get(..MAC_LEN)?;
    hmac_sha256(&key.integrity, &[header, ciphertext])
        .verify_slice(mac)
        .ok()?;
    let mut data = ciphertext.to_vec();
    let mut cipher = Aes256Ctr::new_from_slices(&key.encryption, &header[IV]).ok()?;
    cipher.apply_keystream(&mut data);
    Some(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::OsRng;

    #[test]
    fn sealed_data_opens_again() {
        let key = SealKey::derive(&[1; 32]);
        let mut sealed = seal(&key, &mut OsRng, b"the owner");
        assert_eq!(unseal(&key, &sealed).as_deref(), Some(&b"the owner"[..]));
        sealed.extend_from_slice(&[0xff; 100]);
        assert_eq!(unseal(&key, &sealed).as_deref(), Some(&b"the owner"[..]));
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let key = SealKey::derive(&[1; 32]);
        let sealed = seal(&key, &mut OsRng, b"the owner");
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unseal(&key, &changed), None, "bit {bit}");
        }
    }

    #[test]
    fn truncated_and_foreign_data_is_refused() {
        let key = SealKey::derive(&[1; 32]);
        let sealed = seal(&key, &mut OsRng, b"the owner");
        for len in 0..sealed.len() {
            assert_eq!(unseal(&key, &sealed[..len]), None, "{len}");
        }
        assert_eq!(unseal(&SealKey::derive(&[2; 32]), &sealed), None);
        assert_eq!(unseal(&key, &[0; 0x8000]), None);
    }

    #[test]
    fn contents_are_not_readable() {
        let sealed = seal(&SealKey::derive(&[1; 32]), &mut OsRng, b"the owner");
        assert!(!sealed.windows(9).any(|window| window == b"the owner"));
    }
}
