// SPDX-License-Identifier: GPL-2.0

//! The cipher, as whoever uses this crate has to provide it.

/// Bytes of an IV.
pub const IV_LEN: usize = 12;

/// Bytes of an authentication tag.
pub const TAG_LEN: usize = 16;

/// The tag does not fit what it should authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forged;

/// AES-256-GCM with one key.
///
/// The key belongs to the implementor, who makes every copy of it zero when dropped, the expanded one
/// too: [`Channel`](super::Channel) drops it the moment it must not be used any more.
pub trait Aead {
    /// Encrypts `text` in place; what is returned authenticates it and `aad`.
    fn seal(&mut self, iv: &[u8; IV_LEN], aad: &[u8], text: &mut [u8]) -> [u8; TAG_LEN];

    /// Decrypts `text` in place.
    ///
    /// # Errors
    ///
    /// [`Forged`] if `tag` does not authenticate `text` and `aad`; what is in `text` then is undefined.
    fn open(
        &mut self,
        iv: &[u8; IV_LEN],
        aad: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), Forged>;
}
