// SPDX-License-Identifier: GPL-2.0
//! The encryption of a guest's memory.
//!
//! A chip encrypts with AES-128 and a tweak of the physical address, so that equal plaintext at two
//! addresses is not equal ciphertext, and ciphertext moved is not plaintext moved. AMD's tweak is not public.
//! Ours is that of AES-128-XTS (IEEE 1619): the data unit is a page of 4 KiB, its number that of the page.
//! Every 16-byte block of a page can be encrypted by itself.

use super::Random;
use aes::{
    cipher::{
        consts::U16, generic_array::GenericArray, inout::InOutBuf, BlockDecrypt, BlockEncrypt,
        KeyInit,
    },
    Aes128,
};
use zeroize::Zeroizing;

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
        let mut key = Zeroizing::new([0; 32]);
        random.fill_bytes(&mut *key);
        Self::from_bytes(&key)
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
