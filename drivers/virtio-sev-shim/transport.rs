// SPDX-License-Identifier: GPL-2.0

//! How a request reaches the firmware: the kernel's way in an SEV-SNP guest, or the lab's.

use kernel::prelude::*;
use psp::guest_msg::{
    ExitInfo2,
    Failure,
    Request,
    Why, //
};

use crate::shared::SharedPages;

/// Why a request has no answer.
pub(crate) struct NoAnswer {
    /// For user space.
    pub(crate) errno: Error,
    /// What the host said; zero if nobody asked it, `None` if the request did not get that far.
    pub(crate) exitinfo2: Option<ExitInfo2>,
    /// Pages that the certificates need, if those offered do not suffice.
    pub(crate) pages: Option<u32>,
}

impl From<Error> for NoAnswer {
    fn from(errno: Error) -> Self {
        NoAnswer {
            errno,
            exitinfo2: None,
            pages: None,
        }
    }
}

impl From<Failure> for NoAnswer {
    fn from(failure: Failure) -> Self {
        NoAnswer {
            errno: to_error(failure.errno()),
            exitinfo2: Some(failure.exitinfo2),
            pages: match failure.why {
                Why::CertificatesTooSmall { pages } => Some(pages),
                _ => None,
            },
        }
    }
}

/// The library's errno as the kernel's.
pub(crate) fn to_error(errno: psp::error::Errno) -> Error {
    Error::from_errno(-errno.0)
}

/// Carries requests, one at a time.
pub(crate) trait Transport: Send + Sync {
    /// Who answers, for sysfs.
    fn name(&self) -> &'static str;

    /// The key that requests are encrypted with, which is the VMPL they speak for.
    fn vmpck(&self) -> u32;

    /// Sends a request, and writes its answer to `out`, zeros behind it. Where `certs` are offered the host
    /// leaves certificates there.
    ///
    /// # Context
    ///
    /// Sleeps, until a signal kills.
    ///
    /// # Errors
    ///
    /// [`NoAnswer`]; `out` is all zeros then, or as it was.
    fn ask(
        &self,
        request: &Request<'_>,
        certs: Option<&SharedPages>,
        out: &mut [u8],
    ) -> Result<(), NoAnswer>;
}
