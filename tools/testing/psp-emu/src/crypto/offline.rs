// SPDX-License-Identifier: GPL-2.0
//! The encryption of guest pages that are swapped out (SEV-API, SWAP_OUT and SWAP_IN).
//!
//! AES-256-GCM; the additional data is the page's metadata entry with its tag still zero. The nonce is the
//! guest's 64-bit counter, little-endian, and four bytes of zero, as in the firmware AMD published.

use super::{new_key, BadMac, Random};
use aes_gcm::{aead::AeadInPlace, Aes256Gcm, KeyInit};

/// Length of an authentication tag in bytes.
pub const TAG_LEN: usize = 16;

/// A guest's offline encryption key (OEK). The AES key is zeroed when dropped; has no `Debug` that shows it.
#[derive(Clone)]
pub struct OfflineKey(Aes256Gcm);

impl OfflineKey {
    /// A new key.
    #[must_use]
    pub fn generate(random: &mut dyn Random) -> Self {
        Self::from_bytes(&new_key(random))
    }

    fn from_bytes(key: &[u8; 32]) -> Self {
        Self(Aes256Gcm::new(key.into()))
    }

    /// Encrypts `data` in place and authenticates it together with `aad`; the result is the tag.
    ///
    /// A second use of a counter would give away both plaintexts and the means to forge: it must grow with
    /// every call.
    #[must_use]
    pub fn seal(&self, counter: u64, aad: &[u8], data: &mut [u8]) -> [u8; TAG_LEN] {
        // PANIC: fails for more than 64 GiB only.
        self.0
            .encrypt_in_place_detached(&nonce(counter).into(), aad, data)
            .expect("not that long")
            .into()
    }

    /// Checks `data` and decrypts it in place.
    ///
    /// # Errors
    ///
    /// [`BadMac`] when anything differs from what was sealed. `data` is untouched then.
    pub fn open(
        &self,
        counter: u64,
        aad: &[u8],
        data: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), BadMac> {
        self.0
            .decrypt_in_place_detached(&nonce(counter).into(), aad, data, tag.into())
            .map_err(|_| BadMac)
    }
}

fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&counter.to_le_bytes());
    nonce
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::symm::{decrypt_aead, encrypt_aead, Cipher};
    use rand_core::OsRng;

    const COUNTER: u64 = 0x0123_4567_89ab_cdef;
    const NONCE: [u8; 12] = [0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01, 0, 0, 0, 0];
    const AAD: [u8; 64] = [0xa5; 64];

    #[test]
    fn is_aes_256_gcm_both_ways() {
        let cipher = Cipher::aes_256_gcm();
        let (key, plaintext) = ([7; 32], [9; 4096]);
        let ours = OfflineKey::from_bytes(&key);

        let mut data = plaintext;
        let tag = ours.seal(COUNTER, &AAD, &mut data);
        let opened = decrypt_aead(cipher, &key, Some(&NONCE), &AAD, &data, &tag).unwrap();
        assert_eq!(opened, plaintext);

        let mut tag = [0; TAG_LEN];
        let mut data =
            encrypt_aead(cipher, &key, Some(&NONCE), &AAD, &plaintext, &mut tag).unwrap();
        assert_eq!(ours.open(COUNTER, &AAD, &mut data, &tag), Ok(()));
        assert_eq!(data, plaintext);
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let key = OfflineKey::generate(&mut OsRng);
        let mut data = [9; 48];
        let tag = key.seal(COUNTER, &AAD, &mut data);
        let sealed = [&COUNTER.to_le_bytes()[..], &AAD, &tag, &data].concat();
        let open = |bytes: &[u8]| {
            let (counter, rest) = bytes.split_first_chunk().unwrap();
            let (aad, rest) = rest.split_at(AAD.len());
            let (tag, data) = rest.split_first_chunk().unwrap();
            let (mut data, before) = (data.to_vec(), data);
            let opened = key.open(u64::from_le_bytes(*counter), aad, &mut data, tag);
            assert_eq!(opened.is_err(), data == before);
            opened
        };
        assert_eq!(open(&sealed), Ok(()));
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&changed), Err(BadMac), "bit {bit}");
        }
    }

    #[test]
    fn another_key_does_not_open() {
        let mut data = [9; 48];
        let tag = OfflineKey::generate(&mut OsRng).seal(COUNTER, &AAD, &mut data);
        let other = OfflineKey::generate(&mut OsRng);
        assert_eq!(other.open(COUNTER, &AAD, &mut data, &tag), Err(BadMac));
    }
}
