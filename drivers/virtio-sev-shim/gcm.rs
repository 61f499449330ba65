// SPDX-License-Identifier: GPL-2.0

//! AES-256-GCM with the kernel's library.

use core::ptr::NonNull;

use kernel::{
    ffi::{
        c_int,
        c_void, //
    },
    prelude::*, //
};
use psp::guest_msg::{
    Aead,
    Forged,
    Vmpck,
    IV_LEN,
    TAG_LEN, //
};

// The declarations of shim.h.
extern "C" {
    fn sev_shim_gcm_prepare(key: *const u8) -> *mut c_void;
    fn sev_shim_gcm_destroy(key: *mut c_void);
    fn sev_shim_gcm_encrypt(
        key: *const c_void,
        iv: *const u8,
        aad: *const u8,
        aad_len: usize,
        text: *mut u8,
        len: usize,
        tag: *mut u8,
    );
    fn sev_shim_gcm_decrypt(
        key: *const c_void,
        iv: *const u8,
        aad: *const u8,
        aad_len: usize,
        text: *mut u8,
        len: usize,
        tag: *const u8,
    ) -> c_int;
}

/// A key in the form the kernel's library works with, which is zero in memory when this is dropped.
///
/// # Invariants
///
/// It comes from `sev_shim_gcm_prepare`.
pub(crate) struct Gcm(NonNull<c_void>);

// SAFETY: It is memory that nobody else has.
unsafe impl Send for Gcm {}

impl Gcm {
    /// For a copy of a VMPCK.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(key: &Vmpck) -> Result<Self> {
        // SAFETY: It reads 32 bytes, as many as there are.
        let prepared = unsafe { sev_shim_gcm_prepare(key.bytes().as_ptr()) };
        // INVARIANT: It does.
        NonNull::new(prepared).map(Gcm).ok_or(ENOMEM)
    }
}

impl Aead for Gcm {
    fn seal(&mut self, iv: &[u8; IV_LEN], aad: &[u8], text: &mut [u8]) -> [u8; TAG_LEN] {
        let mut tag = [0; TAG_LEN];
        // SAFETY: By the type invariant the key is one; the others are valid for their lengths.
        unsafe {
            sev_shim_gcm_encrypt(
                self.0.as_ptr(),
                iv.as_ptr(),
                aad.as_ptr(),
                aad.len(),
                text.as_mut_ptr(),
                text.len(),
                tag.as_mut_ptr(),
            );
        }
        tag
    }

    fn open(
        &mut self,
        iv: &[u8; IV_LEN],
        aad: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), Forged> {
        // SAFETY: As in `seal`.
        let ret = unsafe {
            sev_shim_gcm_decrypt(
                self.0.as_ptr(),
                iv.as_ptr(),
                aad.as_ptr(),
                aad.len(),
                text.as_mut_ptr(),
                text.len(),
                tag.as_ptr(),
            )
        };
        (ret == 0).then_some(()).ok_or(Forged)
    }
}

impl Drop for Gcm {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; it is not used afterwards.
        unsafe { sev_shim_gcm_destroy(self.0.as_ptr()) }
    }
}
