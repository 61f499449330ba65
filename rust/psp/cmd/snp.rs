// SPDX-License-Identifier: GPL-2.0

//! SNP commands that work whether or not SNP is on (`SNP-ABI` chapter 8).

use core::mem::offset_of;

use zerocopy::little_endian::{U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{check, CmdId, Command, Malformed};
use crate::platform::States;

/// SNP_PLATFORM_STATUS: has the firmware write 32 bytes of status to a page (`SNP-ABI` 8.3).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SnpPlatformStatus {
    /// Where the status goes, with the C-bit: a page of its own.
    pub paddr: U64,
}

/// Bytes that SNP_PLATFORM_STATUS writes (`UAPI`, `struct sev_user_data_snp_status`).
pub const SNP_STATUS_LEN: usize = 32;

impl SnpPlatformStatus {
    /// For a page at `paddr`.
    pub fn new(paddr: u64) -> Self {
        SnpPlatformStatus {
            paddr: paddr.into(),
        }
    }
}

impl Command for SnpPlatformStatus {
    const ID: CmdId = CmdId::SnpPlatformStatus;
    const STATES: States = States::ANY;
    const ONLY_ASKS: bool = true;
    type Reply = ();

    fn reply(&self, _sent: &Self) -> Result<(), Malformed> {
        Ok(())
    }
}

/// SNP_COMMIT: makes the running firmware the oldest that may be loaded from now on.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SnpCommit {
    /// Bytes of this buffer.
    len: U32,
}

impl SnpCommit {
    /// The one form it has.
    pub fn new() -> Self {
        // CAST: 4.
        SnpCommit {
            len: (size_of::<SnpCommit>() as u32).into(),
        }
    }
}

impl Default for SnpCommit {
    fn default() -> Self {
        Self::new()
    }
}

impl Command for SnpCommit {
    const ID: CmdId = CmdId::SnpCommit;
    const STATES: States = States::ANY;
    type Reply = ();

    fn reply(&self, _sent: &Self) -> Result<(), Malformed> {
        Ok(())
    }
}

const _: () = {
    check::<SnpPlatformStatus>();
    check::<SnpCommit>();
    assert!(offset_of!(SnpPlatformStatus, paddr) == 0);
};
