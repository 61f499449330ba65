// SPDX-License-Identifier: GPL-2.0

//! What messages carry (`SNP-ABI` chapter 7).
//!
//! User space makes requests and reads answers itself; the kernel passes most of them on unseen. These
//! types are for whoever has to look inside.

use core::mem::offset_of;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::Errno;
use crate::status::FwStatus;

/// Bytes of a request for TSC_INFO, all of them zero.
pub const TSC_INFO_REQUEST_LEN: usize = 128;

/// MSG_REPORT_REQ.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ReportRequest {
    /// Goes into the report as it is: usually a hash of what the report is to vouch for.
    pub report_data: [u8; 64],
    /// The VMPL that the report is to speak of: not above the caller's.
    pub vmpl: U32,
    /// Bits 1:0: who signs. 0 the VLEK if there is one, else the VCEK; 1 the VCEK; 2 the VLEK.
    pub key_select: U32,
    reserved: [u8; 24],
}

impl ReportRequest {
    /// For `vmpl`, about `report_data`, signed by the default key.
    pub fn new(report_data: [u8; 64], vmpl: u32) -> Self {
        let mut request = ReportRequest::new_zeroed();
        request.report_data = report_data;
        request.vmpl = vmpl.into();
        request
    }
}

/// What stands before the report in MSG_REPORT_RSP.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ReportResponseHeader {
    /// Zero, or why there is no report.
    pub status: U32,
    /// Bytes of the report.
    pub report_len: U32,
    reserved: [u8; 24],
}

/// MSG_KEY_REQ, version 1.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct KeyRequest {
    /// Bit 0: the key to derive from, 0 the chip's or the VLEK, 1 the guest's VMRK. Bits 2:1: which
    /// of the chip's or VLEK, as [`ReportRequest::key_select`].
    pub root_key_select: U32,
    reserved: U32,
    /// What else goes into the key. Bit 0 guest policy, 1 image id, 2 family id, 3 measurement, 4 guest
    /// SVN, 5 TCB version.
    pub guest_field_select: U64,
    /// The VMPL that goes into it: not above the caller's.
    pub vmpl: U32,
    /// The guest SVN that goes into it: not above the guest's.
    pub guest_svn: U32,
    /// The TCB version that goes into it: not above the committed one.
    pub tcb_version: U64,
}

/// MSG_KEY_RSP. It has a key inside, so there is no `Debug`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct KeyResponse {
    /// Zero, or why there is no key.
    pub status: U32,
    reserved: [u8; 28],
    /// The key.
    pub key: [u8; 32],
}

/// MSG_TSC_INFO_RSP.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct TscInfoResponse {
    /// Zero, or why there is nothing else.
    pub status: U32,
    reserved: U32,
    /// GUEST_TSC_SCALE of the VMSA.
    pub tsc_scale: U64,
    /// GUEST_TSC_OFFSET of the VMSA.
    pub tsc_offset: U64,
    /// By how much the mean frequency is below the nominal one, in hundred-thousandths.
    pub tsc_factor: U32,
    reserved2: [u8; 100],
}

const _: () = {
    assert!(size_of::<ReportRequest>() == 96);
    assert!(offset_of!(ReportRequest, vmpl) == 64);
    assert!(offset_of!(ReportRequest, key_select) == 68);
    assert!(size_of::<ReportResponseHeader>() == 32);
    assert!(offset_of!(ReportResponseHeader, report_len) == 4);
    assert!(size_of::<KeyRequest>() == 32);
    assert!(offset_of!(KeyRequest, guest_field_select) == 8);
    assert!(offset_of!(KeyRequest, vmpl) == 16);
    assert!(offset_of!(KeyRequest, guest_svn) == 20);
    assert!(offset_of!(KeyRequest, tcb_version) == 24);
    assert!(size_of::<KeyResponse>() == 64);
    assert!(offset_of!(KeyResponse, key) == 32);
    assert!(size_of::<TscInfoResponse>() == 128);
    assert!(offset_of!(TscInfoResponse, tsc_scale) == 8);
    assert!(offset_of!(TscInfoResponse, tsc_offset) == 16);
    assert!(offset_of!(TscInfoResponse, tsc_factor) == 24);
};

/// An answer without a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The firmware says why.
    Status(u32),
    /// The report is said to be longer than the answer.
    Len(u32),
}

impl Refused {
    /// What configfs-tsm tells user space; numbers as those of Linux' C driver.
    pub const fn errno(self) -> Errno {
        const INVALID_PARAM: u32 = FwStatus::INVALID_PARAM.code() as u32;
        const INVALID_KEY: u32 = FwStatus::INVALID_KEY.code() as u32;
        match self {
            Refused::Status(INVALID_PARAM | INVALID_KEY) => Errno::EINVAL,
            Refused::Status(_) => Errno::ENXIO,
            Refused::Len(_) => Errno::ENOMEM,
        }
    }
}

impl ReportResponseHeader {
    /// The report in the payload of MSG_REPORT_RSP.
    ///
    /// # Errors
    ///
    /// [`Refused`]. That is an answer all the same: it says nothing about the key.
    pub fn report(payload: &[u8]) -> Result<&[u8], Refused> {
        let (header, rest) =
            ReportResponseHeader::ref_from_prefix(payload).map_err(|_| Refused::Len(0))?;
        match header.status.get() {
            0 => (),
            status => return Err(Refused::Status(status)),
        }
        let len = header.report_len.get();
        // CAST: usize has at least 32 bits on every platform with SEV.
        rest.get(..len as usize).ok_or(Refused::Len(len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    fn answer(status: u32, report_len: u32) -> [u8; 64] {
        let header = ReportResponseHeader {
            status: status.into(),
            report_len: report_len.into(),
            reserved: [0; 24],
        };
        let mut payload = [7; 64];
        payload[..32].copy_from_slice(header.as_bytes());
        payload
    }

    #[test]
    fn a_report_is_what_the_answer_has_room_for() {
        for (len, want) in [
            (0, Ok(0)),
            (32, Ok(32)),
            (33, Err(Refused::Len(33))),
            (u32::MAX, Err(Refused::Len(u32::MAX))),
        ] {
            let payload = answer(0, len);
            let got = ReportResponseHeader::report(&payload).map(<[u8]>::len);
            assert_eq!(got, want, "{len}");
        }
        assert!(ReportResponseHeader::report(&[0; 31]).is_err());
    }

    #[test]
    fn refusals_have_the_numbers_that_user_space_knows() {
        for (status, errno) in [(0x16, 22), (0x27, 22), (0x01, 6), (u32::MAX, 6)] {
            let payload = answer(status, 32);
            let refused = ReportResponseHeader::report(&payload).unwrap_err();
            assert_eq!(refused.errno().0, errno, "{status:#x}");
        }
        assert_eq!(Refused::Len(1).errno(), Errno::ENOMEM);
    }
}
