// SPDX-License-Identifier: GPL-2.0

//! INIT and INIT_EX.

use core::mem::offset_of;

use zerocopy::little_endian::{U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::super::{check, BufferArg, CmdId, Command, Malformed};
use crate::platform::States;

/// INIT: takes the platform from UNINIT to INIT (`SEV-API` chapter 5).
///
/// | Offset | Bits | In/Out | Name | |
/// |---|---|---|---|---|
/// | 0x00 | 0 | in | ES | also set up SEV-ES; needs the TMR |
/// | 0x04 | | | - | reserved, zero |
/// | 0x08 | 63:0 | in | TMR_PADDR | system physical address, 1 MiB aligned, without the C-bit |
/// | 0x10 | 31:0 | in | TMR_LENGTH | bytes |
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Init {
    /// [`INIT_FLAG_ES`] or zero.
    pub flags: U32,
    reserved: U32,
    /// Where the TMR is.
    pub tmr_paddr: U64,
    /// Bytes of the TMR.
    pub tmr_len: U32,
}

/// INIT flag: set up SEV-ES too.
pub const INIT_FLAG_ES: u32 = 1;

/// Bytes and alignment of the TMR while SNP is off (`SEV-API` chapter 5; Linux `SEV_TMR_SIZE`).
pub const TMR_LEN: u32 = 1 << 20;

impl Init {
    /// An INIT with SEV-ES if there is a TMR (its address without the C-bit), else plain SEV.
    pub fn new(tmr_paddr: Option<u64>) -> Self {
        match tmr_paddr {
            Some(paddr) => Init {
                flags: INIT_FLAG_ES.into(),
                reserved: U32::ZERO,
                tmr_paddr: paddr.into(),
                tmr_len: TMR_LEN.into(),
            },
            None => Init::default(),
        }
    }

    /// Whether a reserved bit is set.
    pub fn has_reserved_bits(&self) -> bool {
        self.flags.get() & !INIT_FLAG_ES != 0 || self.reserved.get() != 0
    }
}

impl Command for Init {
    const ID: CmdId = CmdId::Init;
    const STATES: States = States::UNINIT;
    type Reply = ();

    fn reply(&self, _sent: &Self) -> Result<(), Malformed> {
        Ok(())
    }
}

const _: () = {
    check::<Init>();
    assert!(offset_of!(Init, reserved) == 0x4);
    assert!(offset_of!(Init, tmr_paddr) == 0x8);
    assert!(offset_of!(Init, tmr_len) == 0x10);
};

/// INIT_EX: INIT with the persistent data kept in host memory (`SEV-API` chapter 5).
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct InitEx {
    /// Bytes of this buffer: 36.
    pub length: U32,
    /// [`INIT_FLAG_ES`] or zero.
    pub flags: U32,
    /// Where the TMR is.
    pub tmr_paddr: U64,
    /// Bytes of the TMR.
    pub tmr_len: U32,
    reserved: U32,
    /// Where the non-volatile data is, read and written by the firmware.
    pub nv_paddr: U64,
    /// Bytes of the non-volatile data: [`NV_LEN`].
    pub nv_len: U32,
}

/// Bytes of the non-volatile data of INIT_EX.
pub const NV_LEN: u32 = 32 * 1024;

impl InitEx {
    /// An INIT_EX with SEV-ES if there is a TMR (address without the C-bit).
    pub fn new(tmr_paddr: Option<u64>, nv_paddr: u64) -> Self {
        let init = Init::new(tmr_paddr);
        InitEx {
            // CAST: 36.
            length: (size_of::<InitEx>() as u32).into(),
            flags: init.flags,
            tmr_paddr: init.tmr_paddr,
            tmr_len: init.tmr_len,
            reserved: U32::ZERO,
            nv_paddr: nv_paddr.into(),
            nv_len: NV_LEN.into(),
        }
    }

    /// Whether a reserved bit is set.
    pub fn has_reserved_bits(&self) -> bool {
        self.flags.get() & !INIT_FLAG_ES != 0 || self.reserved.get() != 0
    }
}

impl Command for InitEx {
    const ID: CmdId = CmdId::InitEx;
    const STATES: States = States::UNINIT;
    const BUFFERS: &'static [BufferArg] = &[BufferArg::output(
        offset_of!(InitEx, nv_paddr),
        offset_of!(InitEx, nv_len),
    )];
    type Reply = ();

    fn reply(&self, _sent: &Self) -> Result<(), Malformed> {
        Ok(())
    }
}

const _: () = {
    check::<InitEx>();
    assert!(offset_of!(InitEx, flags) == 0x4);
    assert!(offset_of!(InitEx, tmr_paddr) == 0x8);
    assert!(offset_of!(InitEx, tmr_len) == 0x10);
    assert!(offset_of!(InitEx, reserved) == 0x14);
    assert!(offset_of!(InitEx, nv_paddr) == 0x18);
    assert!(offset_of!(InitEx, nv_len) == 0x20);
};
