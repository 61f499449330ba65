// SPDX-License-Identifier: GPL-2.0

//! AES-256-GCM with the kernel's library.

use kernel::prelude::*;
use psp::guest_msg::{
    Aead,
    Forged,
    Vmpck,
    IV_LEN,
    TAG_LEN, //
};

use crate::ffi::GcmKey;

/// A key, which is zero in memory when this is dropped.
pub(crate) struct Gcm(GcmKey);

impl Gcm {
    /// For a copy of a VMPCK.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(key: &Vmpck) -> Result<Self> {
        Ok(Gcm(GcmKey::new(key.bytes())?))
    }
}

impl Aead for Gcm {
    fn seal(&mut self, iv: &[u8; IV_LEN], aad: &[u8], text: &mut [u8]) -> [u8; TAG_LEN] {
        self.0.encrypt(iv, aad, text)
    }

    fn open(
        &mut self,
        iv: &[u8; IV_LEN],
        aad: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), Forged> {
        self.0.decrypt(iv, aad, text, tag).map_err(|_| Forged)
    }
}
