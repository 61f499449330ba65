// SPDX-License-Identifier: GPL-2.0
//! Private memory: a guest's RAM under its VM encryption key (VEK).
//!
//! The cipher and its tweak are ours ([`crate::crypto::memory_key`]): AMD's are not public.

use super::Done;
use crate::{
    crypto::{
        memory_key::{MemoryKey, BLOCK_LEN},
        Random,
    },
    memory::GuestMemory,
};
use std::str::FromStr;

/// So much memory is worked on at a time: it fits the processor's caches.
const CHUNK: usize = 64 << 10;

/// Whether commands encrypt private memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encryption {
    /// Private memory is ciphertext.
    #[default]
    Aes,
    /// Private memory stays readable, for an emulated CPU without a memory controller that decrypts.
    Plain,
}

/// Neither `aes` nor `plain`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no treatment of private memory (aes or plain)")]
pub struct UnknownEncryption(String);

impl FromStr for Encryption {
    type Err = UnknownEncryption;

    fn from_str(text: &str) -> Result<Self, UnknownEncryption> {
        match text {
            "aes" => Ok(Self::Aes),
            "plain" => Ok(Self::Plain),
            _ => Err(UnknownEncryption(text.to_owned())),
        }
    }
}

/// The VM encryption key of a guest.
#[derive(Clone)]
pub(super) enum Vek {
    Aes(Box<MemoryKey>),
    Plain,
}

impl Vek {
    pub(super) fn generate(encryption: Encryption, random: &mut dyn Random) -> Self {
        match encryption {
            Encryption::Aes => Self::Aes(Box::new(MemoryKey::generate(random))),
            Encryption::Plain => Self::Plain,
        }
    }

    /// Whether what the memory holds can be told from what the guest has written.
    pub(super) fn encrypts(&self) -> bool {
        matches!(self, Self::Aes(_))
    }

    /// Reads private memory.
    ///
    /// `addr` and the length are multiples of [`BLOCK_LEN`].
    ///
    /// # Errors
    ///
    /// INVALID_ADDRESS when a byte is not RAM.
    pub(super) fn read(&self, memory: &dyn GuestMemory, addr: u64, buf: &mut [u8]) -> Done {
        memory.read(addr, buf)?;
        if let Self::Aes(key) = self {
            key.decrypt(addr, buf);
        }
        Ok(())
    }

    /// Writes private memory; `data` is encrypted in place.
    ///
    /// `addr` and the length are multiples of [`BLOCK_LEN`].
    ///
    /// # Errors
    ///
    /// INVALID_ADDRESS when a byte is not writable RAM; nothing is then written.
    pub(super) fn write(&self, memory: &mut dyn GuestMemory, addr: u64, data: &mut [u8]) -> Done {
        if let Self::Aes(key) = self {
            key.encrypt(addr, data);
        }
        Ok(memory.write(addr, data)?)
    }
}

/// Calls `work` with the offset of each chunk of `len` bytes and with a buffer as long as the chunk.
pub(super) fn in_chunks(len: usize, mut work: impl FnMut(u64, &mut [u8]) -> Done) -> Done {
    let mut buffer = vec![0; len.min(CHUNK)];
    for offset in (0..len).step_by(CHUNK) {
        let part = CHUNK.min(len - offset);
        work(offset as u64, &mut buffer[..part])?;
    }
    Ok(())
}

/// Whether a number of bytes, or an address, is a multiple of [`BLOCK_LEN`].
pub(super) fn is_aligned(number: u64) -> bool {
    number % BLOCK_LEN as u64 == 0
}
