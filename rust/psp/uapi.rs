// SPDX-License-Identifier: GPL-2.0

//! What `/dev/sev` promises to user space (`UAPI`), and the rules that need no hardware.
//!
//! These structs and those of [`cmd`](crate::cmd) are different types even where the bytes agree:
//! one speaks of user addresses, the other of physical ones.

use core::mem::offset_of;

use zerocopy::little_endian::{U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::cmd::BLOB_MAX_LEN;

/// The one ioctl: `_IOWR('S', 0, struct sev_issue_cmd)`.
pub const SEV_ISSUE_CMD: u32 = 0xc010_5300;

/// [`IssueCmd::error`] when the firmware was never called.
pub const NO_FW_CALL: u32 = u32::MAX;

/// Largest command number the dispatcher looks at; itself not a command.
pub const SEV_MAX: u32 = 13;

/// `ENOTSUPP`: a kernel-internal errno that has leaked to user space on old firmware for so long
/// that it is part of the interface.
pub const ENOTSUPP: i32 = 524;

/// Argument of [`SEV_ISSUE_CMD`].
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct IssueCmd {
    /// Which command; see [`IoctlCmd`].
    pub cmd: U32,
    /// User address of the command's own struct.
    pub data: U64,
    /// Firmware status on return.
    pub error: U32,
}

/// A command of `/dev/sev`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[expect(missing_docs, reason = "named as in the header")]
pub enum IoctlCmd {
    FactoryReset = 0,
    PlatformStatus = 1,
    PekGen = 2,
    PekCsr = 3,
    PdhGen = 4,
    PdhCertExport = 5,
    PekCertImport = 6,
    GetId = 7,
    GetId2 = 8,
    SnpPlatformStatus = 9,
    SnpCommit = 10,
    SnpSetConfig = 11,
    SnpVlekLoad = 12,
}

impl IoctlCmd {
    /// Every command, in the order of the numbers.
    pub const ALL: [IoctlCmd; SEV_MAX as usize] = [
        IoctlCmd::FactoryReset,
        IoctlCmd::PlatformStatus,
        IoctlCmd::PekGen,
        IoctlCmd::PekCsr,
        IoctlCmd::PdhGen,
        IoctlCmd::PdhCertExport,
        IoctlCmd::PekCertImport,
        IoctlCmd::GetId,
        IoctlCmd::GetId2,
        IoctlCmd::SnpPlatformStatus,
        IoctlCmd::SnpCommit,
        IoctlCmd::SnpSetConfig,
        IoctlCmd::SnpVlekLoad,
    ];

    /// Whether the file must be open for writing. PDH_CERT_EXPORT needs it only when it has to
    /// initialise the platform first.
    pub const fn needs_write(self) -> bool {
        matches!(
            self,
            IoctlCmd::FactoryReset
                | IoctlCmd::PekGen
                | IoctlCmd::PekCsr
                | IoctlCmd::PdhGen
                | IoctlCmd::PekCertImport
                | IoctlCmd::SnpSetConfig
                | IoctlCmd::SnpVlekLoad
        )
    }
}

/// Argument of [`IoctlCmd::PekCsr`] and [`IoctlCmd::GetId2`]: a user buffer.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Blob {
    /// User address.
    pub address: U64,
    /// In: bytes offered. Out: bytes written, or needed.
    pub length: U32,
}

/// Argument of [`IoctlCmd::PdhCertExport`] and [`IoctlCmd::PekCertImport`]: two user buffers, the
/// PDH and its chain, or the PEK and the OCA certificate.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct TwoBlobs {
    /// The PDH or PEK certificate.
    pub first: Blob,
    /// The chain or the OCA certificate.
    pub second: Blob,
}

/// Bytes that [`IoctlCmd::GetId`] returns at most: two sockets' ids of 64 bytes.
pub const GET_ID_LEN: u32 = 128;

const _: () = {
    assert!(size_of::<IssueCmd>() == 16);
    assert!(offset_of!(IssueCmd, data) == 4);
    assert!(offset_of!(IssueCmd, error) == 12);
    assert!(size_of::<Blob>() == 12);
    assert!(offset_of!(Blob, length) == 8);
    assert!(size_of::<TwoBlobs>() == 24);
    assert!(offset_of!(TwoBlobs, second) == 12);
};

/// What a caller wants of a buffer that the firmware fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Only the length it would need.
    QueryLength,
    /// So many bytes.
    Bytes(u32),
}

/// A blob is longer than [`BLOB_MAX_LEN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// A blob that must be there is not, or is longer than [`BLOB_MAX_LEN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotABlob;

impl Blob {
    /// Reads the request for an output buffer: no address or no length asks for the length.
    pub fn output(&self) -> Output {
        if self.address.get() == 0 || self.length.get() == 0 {
            Output::QueryLength
        } else {
            Output::Bytes(self.length.get())
        }
    }

    /// As [`output`](Self::output), with the limit of [`BLOB_MAX_LEN`].
    ///
    /// # Errors
    ///
    /// [`TooLong`] beyond the limit.
    pub fn capped_output(&self) -> Result<Output, TooLong> {
        let output = self.output();
        match output {
            // CAST: 16384.
            Output::Bytes(len) if len > BLOB_MAX_LEN as u32 => Err(TooLong),
            _ => Ok(output),
        }
    }

    /// Reads the request for an input buffer: its length in bytes.
    ///
    /// # Errors
    ///
    /// [`NotABlob`] without address or length, or beyond the limit.
    pub fn input(&self) -> Result<u32, NotABlob> {
        match self.capped_output() {
            Ok(Output::Bytes(len)) => Ok(len),
            Ok(Output::QueryLength) | Err(TooLong) => Err(NotABlob),
        }
    }
}

impl TwoBlobs {
    /// Reads the request for two output buffers: if one of the four fields is zero, both lengths
    /// are asked for and the other buffer is not looked at.
    ///
    /// # Errors
    ///
    /// [`TooLong`] if either is beyond the limit.
    pub fn outputs(&self) -> Result<Option<(u32, u32)>, TooLong> {
        match (self.first.output(), self.second.output()) {
            (Output::Bytes(first), Output::Bytes(second)) => {
                self.first.capped_output()?;
                self.second.capped_output()?;
                Ok(Some((first, second)))
            }
            _ => Ok(None),
        }
    }
}

impl TryFrom<u32> for IoctlCmd {
    /// The number that is no command.
    type Error = u32;

    fn try_from(raw: u32) -> Result<Self, u32> {
        // CAST: usize has at least 32 bits on every platform with SEV.
        Self::ALL.get(raw as usize).copied().ok_or(raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(address: u64, length: u32) -> Blob {
        Blob {
            address: address.into(),
            length: length.into(),
        }
    }

    #[test]
    fn command_numbers_are_those_of_the_header() {
        for (i, cmd) in IoctlCmd::ALL.iter().enumerate() {
            assert_eq!(*cmd as usize, i);
            assert_eq!(IoctlCmd::try_from(*cmd as u32), Ok(*cmd));
        }
        assert_eq!(IoctlCmd::try_from(13), Err(13));
    }

    #[test]
    fn output_buffers_ask_for_the_length_or_for_bytes() {
        let table = [
            (0, 0, Ok(Output::QueryLength)),
            (0, 1 << 20, Ok(Output::QueryLength)),
            (1, 0, Ok(Output::QueryLength)),
            (1, 1, Ok(Output::Bytes(1))),
            (1, 16384, Ok(Output::Bytes(16384))),
            (1, 16385, Err(TooLong)),
            (1, u32::MAX, Err(TooLong)),
        ];
        for (address, length, want) in table {
            assert_eq!(
                blob(address, length).capped_output(),
                want,
                "{address:#x} {length}"
            );
        }
    }

    #[test]
    fn input_buffers_must_be_there_and_fit() {
        let table = [
            (0, 100, Err(NotABlob)),
            (1, 0, Err(NotABlob)),
            (1, 16384, Ok(16384)),
            (1, 16385, Err(NotABlob)),
        ];
        for (address, length, want) in table {
            assert_eq!(blob(address, length).input(), want, "{address:#x} {length}");
        }
    }

    #[test]
    fn one_zero_field_of_four_asks_for_both_lengths() {
        let full = blob(1, 2084);
        let huge = blob(1, 1 << 20);
        let pair = |first, second| TwoBlobs { first, second }.outputs();
        assert_eq!(pair(full, full), Ok(Some((2084, 2084))));
        assert_eq!(pair(huge, full), Err(TooLong));
        assert_eq!(pair(full, huge), Err(TooLong));
        assert_eq!(pair(blob(0, 5), huge), Ok(None));
        assert_eq!(pair(huge, blob(1, 0)), Ok(None));
    }
}
