// SPDX-License-Identifier: GPL-2.0

//! What `/dev/sev-guest` promises to user space (`include/uapi/linux/sev-guest.h`, Linux 7.3).

use core::mem::offset_of;

use zerocopy::little_endian::{U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{ExitInfo2, KeyRequest, MsgType, ReportRequest};
use crate::cmd::BLOB_MAX_LEN;
use crate::error::Errno;

/// [`GuestCall::exitinfo2`] of a call that never got as far as the host.
pub const NOT_ISSUED: ExitInfo2 = ExitInfo2(0xff);

/// Bytes that a report is answered with: a whole message's payload.
pub const REPORT_RESPONSE_LEN: usize = 4000;

/// Bytes that a derived key is answered with.
pub const KEY_RESPONSE_LEN: usize = 64;

/// A page of certificates.
const PAGE_LEN: u32 = 4096;

/// An ioctl of `/dev/sev-guest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[expect(missing_docs, reason = "named as in the header")]
pub enum GuestIoctl {
    GetReport = 0xc020_5300,
    GetDerivedKey = 0xc020_5301,
    GetExtReport = 0xc020_5302,
}

impl GuestIoctl {
    /// Every one, in the order of the numbers.
    pub const ALL: [GuestIoctl; 3] = [
        GuestIoctl::GetReport,
        GuestIoctl::GetDerivedKey,
        GuestIoctl::GetExtReport,
    ];

    /// Bytes that are read from [`GuestCall::req_data`].
    pub const fn request_len(self) -> usize {
        match self {
            GuestIoctl::GetReport => size_of::<ReportRequest>(),
            GuestIoctl::GetDerivedKey => size_of::<KeyRequest>(),
            GuestIoctl::GetExtReport => size_of::<ExtReportReq>(),
        }
    }

    /// Bytes that are written to [`GuestCall::resp_data`].
    pub const fn response_len(self) -> usize {
        match self {
            GuestIoctl::GetReport | GuestIoctl::GetExtReport => REPORT_RESPONSE_LEN,
            GuestIoctl::GetDerivedKey => KEY_RESPONSE_LEN,
        }
    }

    /// The message that it sends.
    pub const fn msg_type(self) -> MsgType {
        match self {
            GuestIoctl::GetReport | GuestIoctl::GetExtReport => MsgType::REPORT_REQ,
            GuestIoctl::GetDerivedKey => MsgType::KEY_REQ,
        }
    }
}

/// Argument of every ioctl: `struct snp_guest_request_ioctl`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct GuestCall {
    /// Version of the message; not zero.
    pub msg_version: u8,
    padding: [u8; 7],
    /// User address of the request.
    pub req_data: U64,
    /// User address of where the answer goes.
    pub resp_data: U64,
    /// Out: what the host said.
    pub exitinfo2: U64,
}

impl GuestCall {
    /// Checks what was copied in for the ioctl `number`, and says which one it is.
    ///
    /// # Errors
    ///
    /// `EINVAL` without a message version, which is looked at first, or without an address; `ENOTTY`
    /// for an unknown number. After any of them [`exitinfo2`](Self::exitinfo2) is [`NOT_ISSUED`].
    pub fn check(&mut self, number: u32) -> Result<GuestIoctl, Errno> {
        self.exitinfo2 = NOT_ISSUED.0.into();
        if self.msg_version == 0 {
            return Err(Errno::EINVAL);
        }
        let ioctl = GuestIoctl::try_from(number)?;
        if self.req_data.get() == 0 || self.resp_data.get() == 0 {
            return Err(Errno::EINVAL);
        }
        Ok(ioctl)
    }

    /// Whether the argument goes back to user space after the call.
    ///
    /// It does not if the version was refused, and after a success it does not either: user memory
    /// keeps whatever was in `exitinfo2`. Both are what Linux' C driver does.
    pub fn is_copied_out(&self) -> bool {
        self.msg_version != 0 && self.exitinfo2.get() != 0
    }
}

impl TryFrom<u32> for GuestIoctl {
    type Error = Errno;

    /// `ENOTTY` for a number that is none.
    fn try_from(raw: u32) -> Result<Self, Errno> {
        Self::ALL
            .into_iter()
            // CAST: to the enum's own representation.
            .find(|&ioctl| ioctl as u32 == raw)
            .ok_or(Errno::ENOTTY)
    }
}

/// Request of [`GuestIoctl::GetExtReport`]: `struct snp_ext_report_req`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ExtReportReq {
    /// What goes to the firmware.
    pub report: ReportRequest,
    /// User address of where the certificates go.
    pub certs_address: U64,
    /// In: bytes offered for certificates. Out: bytes needed.
    pub certs_len: U32,
    padding: [u8; 4],
}

impl ExtReportReq {
    /// Pages that are offered for certificates: zero if the caller wants none.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the length is not of whole pages, or beyond [`BLOB_MAX_LEN`].
    pub fn certs_pages(&self) -> Result<u32, Errno> {
        let len = self.certs_len.get();
        if self.certs_address.get() == 0 || len == 0 {
            return Ok(0);
        }
        // CAST: 16384.
        if len > BLOB_MAX_LEN as u32 || len % PAGE_LEN != 0 {
            return Err(Errno::EINVAL);
        }
        Ok(len / PAGE_LEN)
    }

    /// Notes that so many pages are needed. The number is the host's, so it may be absurd.
    pub fn set_needed(&mut self, pages: u32) {
        self.certs_len = pages.min(u32::MAX / PAGE_LEN).wrapping_mul(PAGE_LEN).into();
    }
}

const _: () = {
    assert!(size_of::<GuestCall>() == 32);
    assert!(offset_of!(GuestCall, req_data) == 8);
    assert!(offset_of!(GuestCall, resp_data) == 16);
    assert!(offset_of!(GuestCall, exitinfo2) == 24);
    assert!(size_of::<ExtReportReq>() == 112);
    assert!(offset_of!(ExtReportReq, certs_address) == 96);
    assert!(offset_of!(ExtReportReq, certs_len) == 104);
};

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    fn call(msg_version: u8, req_data: u64, resp_data: u64) -> GuestCall {
        GuestCall {
            msg_version,
            padding: [0; 7],
            req_data: req_data.into(),
            resp_data: resp_data.into(),
            exitinfo2: 0x1234.into(),
        }
    }

    #[test]
    fn arguments_are_checked_in_the_order_that_user_space_knows() {
        for (call, number, want) in [
            (call(0, 0, 0), 0x1234, Err(Errno::EINVAL)),
            (call(1, 0, 0), 0x1234, Err(Errno::ENOTTY)),
            (call(1, 0, 1), 0xc020_5300, Err(Errno::EINVAL)),
            (call(1, 1, 0), 0xc020_5301, Err(Errno::EINVAL)),
            (call(1, 1, 1), 0xc020_5302, Ok(GuestIoctl::GetExtReport)),
        ] {
            let mut copied = call;
            assert_eq!(copied.check(number), want, "{call:?}");
            assert_eq!(copied.exitinfo2.get(), 0xff);
            assert_eq!(copied.is_copied_out(), call.msg_version != 0);
        }
    }

    #[test]
    fn a_success_leaves_the_argument_alone() {
        let mut call = call(1, 1, 1);
        call.check(0xc020_5300).unwrap();
        call.exitinfo2 = 0.into();
        assert!(!call.is_copied_out());
    }

    #[test]
    fn certificates_come_in_whole_pages_and_not_too_many() {
        for (address, len, want) in [
            (0, 4096, Ok(0)),
            (1, 0, Ok(0)),
            (0, 1, Ok(0)),
            (1, 1, Err(Errno::EINVAL)),
            (1, 4096, Ok(1)),
            (1, 16384, Ok(4)),
            (1, 16385, Err(Errno::EINVAL)),
            (1, 20480, Err(Errno::EINVAL)),
            (1, u32::MAX, Err(Errno::EINVAL)),
        ] {
            let mut request = ExtReportReq::new_zeroed();
            request.certs_address = address.into();
            request.certs_len = len.into();
            assert_eq!(request.certs_pages(), want, "{address} {len}");
        }
    }

    #[test]
    fn an_absurd_number_of_pages_does_not_become_a_small_one() {
        let mut request = ExtReportReq::new_zeroed();
        for (pages, len) in [
            (2, 8192),
            (0x10_0000, 0xffff_f000),
            (0x10_0001, 0xffff_f000),
            (u32::MAX, 0xffff_f000),
        ] {
            request.set_needed(pages);
            assert_eq!(request.certs_len.get(), len, "{pages:#x}");
        }
    }
}
