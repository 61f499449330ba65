// SPDX-License-Identifier: GPL-2.0

//! The way to the firmware in an SEV-SNP guest: the kernel's own, which has the keys. It encrypts, counts
//! and destroys keys by the same rules as the library's channel.

use kernel::prelude::*;
use psp::guest_msg::{
    Exit,
    ExitInfo2,
    Request,
    TAG_LEN, //
};

use crate::{
    ffi::{
        SnpChannel,
        SnpRequest, //
    },
    shared::SharedPages,
    transport::{
        NoAnswer,
        Transport, //
    },
};

/// The kernel's channel.
pub(crate) struct Snp(SnpChannel);

impl Snp {
    /// Opens it with a key, by default with that of the VMPL.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no such key or it was destroyed, `ENOMEM`.
    pub(crate) fn new(vmpck: Option<u32>) -> Result<Self> {
        Ok(Snp(SnpChannel::new(vmpck)?))
    }
}

impl Transport for Snp {
    fn name(&self) -> &'static str {
        "firmware"
    }

    fn vmpck(&self) -> u32 {
        self.0.vmpck()
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
        let (result, left) = self.0.request(
            &SnpRequest {
                msg_type: request.msg_type.0,
                version: request.msg_version,
                exit_code: request.exit.code(),
                payload: request.payload,
                // CAST: a handful.
                certs: certs.map(|pages| (pages.as_ptr(), pages.range().pages as u32)),
            },
            &mut answer,
        );
        let exitinfo2 = ExitInfo2(left.exitinfo2);
        if let Err(errno) = result {
            let too_small = request.exit == Exit::Extended && exitinfo2 == ExitInfo2::INVALID_LEN;
            return Err(NoAnswer {
                errno,
                exitinfo2: Some(exitinfo2),
                pages: too_small.then_some(left.pages),
            });
        }
        let len = out.len();
        out.copy_from_slice(&answer[..len]);
        answer.fill(0);
        core::hint::black_box(&mut answer);
        Ok(())
    }
}
