// SPDX-License-Identifier: GPL-2.0

//! The way to the firmware in an SEV-SNP guest: the kernel's own, which has the keys. It encrypts, counts
//! and destroys keys by the same rules as the library's channel.

use core::ptr::{
    null_mut,
    NonNull, //
};

use kernel::{
    error::{
        from_err_ptr,
        to_result, //
    },
    ffi::{
        c_int,
        c_void, //
    },
    prelude::*, //
};
use psp::guest_msg::{
    Exit,
    ExitInfo2,
    Request,
    TAG_LEN, //
};

use crate::{
    shared::SharedPages,
    transport::{
        NoAnswer,
        Transport, //
    },
};

// The declarations of shim.h.
extern "C" {
    fn sev_shim_snp_open(vmpck: c_int) -> *mut c_void;
    fn sev_shim_snp_close(desc: *mut c_void);
    fn sev_shim_snp_vmpck(desc: *const c_void) -> c_int;
    fn sev_shim_snp_request(
        desc: *mut c_void,
        msg_type: u8,
        version: u8,
        exit_code: u64,
        request: *mut c_void,
        len: usize,
        out: *mut c_void,
        out_len: usize,
        certs: *mut c_void,
        pages: *mut u32,
        exitinfo2: *mut u64,
    ) -> c_int;
}

/// The kernel's channel.
///
/// # Invariants
///
/// It comes from `sev_shim_snp_open`.
pub(crate) struct Snp(NonNull<c_void>);

// SAFETY: The kernel takes one request at a time, from any thread.
unsafe impl Send for Snp {}
// SAFETY: As above.
unsafe impl Sync for Snp {}

impl Snp {
    /// Opens it with a key, by default with that of the VMPL.
    ///
    /// # Errors
    ///
    /// `ENODEV` if this is no SEV-SNP guest, `EINVAL` if there is no such key or it was destroyed, `ENOMEM`.
    pub(crate) fn new(vmpck: Option<u32>) -> Result<Self> {
        let vmpck = vmpck.map_or(Ok(-1), i32::try_from)?;
        // SAFETY: It asks itself whether there is a secrets page, and refuses ids of keys that do not exist.
        let desc = from_err_ptr(unsafe { sev_shim_snp_open(vmpck) })?;
        // INVARIANT: It does.
        NonNull::new(desc).map(Snp).ok_or(ENOMEM)
    }
}

impl Transport for Snp {
    fn name(&self) -> &'static str {
        "firmware"
    }

    fn vmpck(&self) -> u32 {
        // SAFETY: By the type invariant.
        let id = unsafe { sev_shim_snp_vmpck(self.0.as_ptr()) };
        // The kernel has replaced -1 by the VMPL.
        u32::try_from(id).unwrap_or(0)
    }

    fn ask(
        &self,
        request: &Request<'_>,
        certs: Option<&SharedPages>,
        out: &mut [u8],
    ) -> Result<(), NoAnswer> {
        // The kernel decrypts into the answer's place and wants room for a tag behind it.
        let mut answer =
            KVec::from_elem(0, out.len() + TAG_LEN, GFP_KERNEL).map_err(Error::from)?;
        let mut exitinfo2 = 0;
        // CAST: a handful.
        let mut pages = certs.map_or(0, |certs| certs.range().pages as u32);
        let certs = certs.map_or(null_mut(), |certs| certs.as_ptr().as_ptr().cast());
        // SAFETY: By the type invariant the channel is one; the payload is only read; the answer has the
        // tag's length more than is said; the certificates are shared memory of that many pages.
        let result = to_result(unsafe {
            sev_shim_snp_request(
                self.0.as_ptr(),
                request.msg_type.0,
                request.msg_version,
                request.exit.code(),
                request.payload.as_ptr().cast_mut().cast(),
                request.payload.len(),
                answer.as_mut_ptr().cast(),
                out.len(),
                certs,
                &mut pages,
                &mut exitinfo2,
            )
        });
        let exitinfo2 = ExitInfo2(exitinfo2);
        if let Err(errno) = result {
            let too_small = request.exit == Exit::Extended && exitinfo2 == ExitInfo2::INVALID_LEN;
            return Err(NoAnswer {
                errno,
                exitinfo2: Some(exitinfo2),
                pages: too_small.then_some(pages),
            });
        }
        let len = out.len();
        out.copy_from_slice(&answer[..len]);
        // It may hold a derived key.
        answer.fill(0);
        core::hint::black_box(&mut answer);
        Ok(())
    }
}

impl Drop for Snp {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; it is not used afterwards.
        unsafe { sev_shim_snp_close(self.0.as_ptr()) }
    }
}
