// SPDX-License-Identifier: GPL-2.0
//! The encryption of a guest's memory.
//!
//! A chip encrypts with AES-128 and a tweak of the physical address, so that equal plaintext at two
//! addresses is not equal ciphertext, and ciphertext moved is not plaintext moved. AMD's tweak is not public.
//! Ours is that of AES-128-XTS (IEEE 1619): the data unit is a page of 4 KiB, its number that of the page.
//! Every 16-byte block of a page can be encrypted by itself.

use super::{new_key, Random};
use aes::{
    cipher::{
        consts::U16, generic_array::GenericArray, inout::InOutBuf, BlockDecrypt, BlockEncrypt,
        KeyInit,
    },
    Aes128,
};

/// Granularity of addresses and lengths in bytes.
pub const BLOCK_LEN: usize = 16;

const PAGE_LEN: usize = 0x1000;

type Block = GenericArray<u8, U16>;

/// A guest's memory encryption key (VEK). Zeroed when dropped; has no `Debug` that shows it.
#[derive(Clone)]
pub struct MemoryKey {
    data: Aes128,
    tweak: Aes128,
}

impl MemoryKey {
    /// A new key.
    #[must_use]
    pub fn generate(random: &mut dyn Random) -> Self {
        Self::from_bytes(&new_key(random))
    }

    /// The key of the data, then that of the tweak.
    fn from_bytes(key: &[u8; 32]) -> Self {
        let (data, tweak) = key.split_at(16);
        Self {
            data: Aes128::new(data.into()),
            tweak: Aes128::new(tweak.into()),
        }
    }

    /// Encrypts in place what is written to physical address `addr`.
    ///
    /// # Panics
    ///
    /// When `addr` or the length of `data` is not a multiple of [`BLOCK_LEN`].
    pub fn encrypt(&self, addr: u64, data: &mut [u8]) {
        self.for_each_page(addr, data, |blocks| self.data.encrypt_blocks_inout(blocks));
    }

    /// Decrypts in place what is read from physical address `addr`.
    ///
    /// # Panics
    ///
    /// As [`MemoryKey::encrypt`].
    pub fn decrypt(&self, addr: u64, data: &mut [u8]) {
        self.for_each_page(addr, data, |blocks| self.data.decrypt_blocks_inout(blocks));
    }

    /// Applies `cipher` between two applications of the tweaks, to a page, or what there is of it, at a time.
    fn for_each_page(
        &self,
        addr: u64,
        mut data: &mut [u8],
        cipher: impl Fn(InOutBuf<'_, '_, Block>),
    ) {
        // CAST: less than a page.
        let mut offset = (addr % PAGE_LEN as u64) as usize;
        assert!(
            offset % BLOCK_LEN == 0 && data.len() % BLOCK_LEN == 0,
            "{:#x} bytes at {addr:#x} are not whole blocks",
            data.len()
        );
        let mut page = addr / PAGE_LEN as u64;
        let mut tweaks = [0; PAGE_LEN];
        while !data.is_empty() {
            let (here, rest) = data.split_at_mut(data.len().min(PAGE_LEN - offset));
            let tweaks = &mut tweaks[..here.len()];
            self.fill_tweaks(page, offset / BLOCK_LEN, tweaks);
            xor(here, tweaks);
            // All blocks in one call: the cipher works on eight at once.
            let (blocks, _) = InOutBuf::from(&mut *here).into_chunks();
            cipher(blocks);
            xor(here, tweaks);
            (data, offset, page) = (rest, 0, page + 1);
        }
    }

    /// The tweaks of a page's blocks from `first` on: the encrypted page number times α^j for block j.
    fn fill_tweaks(&self, page: u64, first: usize, tweaks: &mut [u8]) {
        let mut number = u128::from(page).to_le_bytes().into();
        self.tweak.encrypt_block(&mut number);
        let mut tweak = u128::from_le_bytes(number.into());
        for _ in 0..first {
            tweak = times_alpha(tweak);
        }
        for block in tweaks.chunks_exact_mut(BLOCK_LEN) {
            block.copy_from_slice(&tweak.to_le_bytes());
            tweak = times_alpha(tweak);
        }
    }
}

/// Multiplies by x modulo x^128 + x^7 + x^2 + x + 1.
fn times_alpha(tweak: u128) -> u128 {
    (tweak << 1) ^ ((tweak >> 127) * 0x87)
}

fn xor(data: &mut [u8], tweaks: &[u8]) {
    data.iter_mut()
        .zip(tweaks)
        .for_each(|(byte, tweak)| *byte ^= tweak);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::tests::hex;
    use openssl::symm::{Cipher, Crypter, Mode};
    use rand_core::{OsRng, RngCore};
    use std::ops::Range;

    /// Three pages in the middle of memory, with different contents everywhere.
    const ADDR: u64 = 0x12_3456_7000;
    const LEN: usize = 3 * PAGE_LEN;

    struct Memory {
        key: MemoryKey,
        plaintext: Vec<u8>,
        ciphertext: Vec<u8>,
    }

    impl Memory {
        /// Encrypted by OpenSSL, page by page.
        fn new() -> Self {
            let (mut key, mut plaintext) = ([0; 32], vec![0; LEN]);
            OsRng.fill_bytes(&mut key);
            OsRng.fill_bytes(&mut plaintext);
            let pages = (ADDR / 0x1000..).zip(plaintext.chunks(PAGE_LEN));
            let ciphertext = pages
                .flat_map(|(number, page)| {
                    let mut tweak = [0; 16];
                    tweak[..8].copy_from_slice(&number.to_le_bytes());
                    openssl_xts(&key, &tweak, page)
                })
                .collect();
            Self {
                key: MemoryKey::from_bytes(&key),
                plaintext,
                ciphertext,
            }
        }

        /// Encrypts and decrypts a part of the memory by itself.
        fn check(&self, range: Range<usize>) {
            let addr = ADDR + range.start as u64;
            let mut data = self.plaintext[range.clone()].to_vec();
            self.key.encrypt(addr, &mut data);
            assert!(data == self.ciphertext[range.clone()], "{range:x?}");
            self.key.decrypt(addr, &mut data);
            assert!(data == self.plaintext[range.clone()], "{range:x?}");
        }
    }

    fn openssl_xts(key: &[u8; 32], tweak: &[u8; 16], data: &[u8]) -> Vec<u8> {
        let cipher = Cipher::aes_128_xts();
        let mut crypter = Crypter::new(cipher, Mode::Encrypt, key, Some(tweak)).unwrap();
        let mut out = vec![0; data.len() + BLOCK_LEN];
        let len = crypter.update(data, &mut out).unwrap();
        out.truncate(len);
        out
    }

    #[test]
    fn pages_are_xts_data_units() {
        Memory::new().check(0..LEN);
    }

    #[test]
    fn ranges_begin_and_end_at_any_block() {
        let memory = Memory::new();
        for block in (0..2 * PAGE_LEN).step_by(BLOCK_LEN) {
            memory.check(block..block + BLOCK_LEN);
            memory.check(block..LEN);
            memory.check(0..block);
        }
    }

    #[test]
    fn matches_the_vectors_of_ieee_1619() {
        let vectors = [
            (
                [[0; 16], [0; 16]],
                0,
                [0; 32],
                "917cf69ebd68b2ec9b9fe9a3eadda692cd43d2f59598ed858c02c2652fbf922e",
            ),
            (
                [[0x11; 16], [0x22; 16]],
                0x33_3333_3333,
                [0x44; 32],
                "c454185e6a16936e39334038acef838bfb186fff7480adc4289382ecd6d394f0",
            ),
            (
                [hex("fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0"), [0x22; 16]],
                0x33_3333_3333,
                [0x44; 32],
                "af85336b597afc1a900b2eb21ec949d292df4c047e0b21532186a5971a227a89",
            ),
        ];
        for (keys, page, plaintext, ciphertext) in vectors {
            let key = MemoryKey::from_bytes(keys.concat().as_slice().try_into().unwrap());
            let mut data = plaintext;
            key.encrypt(page << 12, &mut data);
            assert_eq!(data, hex(ciphertext));
            key.decrypt(page << 12, &mut data);
            assert_eq!(data, plaintext);
        }
    }

    #[test]
    fn the_last_page_of_the_address_space_is_a_page() {
        let key = MemoryKey::generate(&mut OsRng);
        let mut data = [7; PAGE_LEN];
        key.encrypt(0xffff_ffff_ffff_f000, &mut data);
        assert_ne!(data, [7; PAGE_LEN]);
        key.decrypt(0xffff_ffff_ffff_f000, &mut data);
        assert_eq!(data, [7; PAGE_LEN]);
    }

    #[test]
    fn one_guests_key_does_not_decrypt_anothers_memory() {
        let [ours, theirs] = [(); 2].map(|()| MemoryKey::generate(&mut OsRng));
        let mut data = [7; 64];
        theirs.encrypt(ADDR, &mut data);
        ours.decrypt(ADDR, &mut data);
        assert_ne!(data, [7; 64]);
    }

    #[test]
    #[should_panic(expected = "0x10 bytes at 0x1008 are not whole blocks")]
    fn half_a_block_has_no_address() {
        MemoryKey::generate(&mut OsRng).encrypt(0x1008, &mut [0; 16]);
    }

    #[test]
    #[should_panic(expected = "0x18 bytes at 0x1000 are not whole blocks")]
    fn half_a_block_is_not_encrypted() {
        MemoryKey::generate(&mut OsRng).decrypt(0x1000, &mut [0; 24]);
    }
}
