// SPDX-License-Identifier: GPL-2.0

//! Platform management commands (`SEV-API` chapter 5).
//!
//! Wire structs use byte-order types: alignment 1, no padding, the bytes are the specification's.

use core::mem::offset_of;

use zerocopy::little_endian::{U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{check, BufferArg, CmdId, Command, Malformed};
use crate::platform::{PlatformState, States};

/// Declares a command that has neither a buffer nor a reply.
macro_rules! bare_command {
    ($(#[doc = $doc:literal])+ $name:ident, $states:ident) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub struct $name;

        impl Command for $name {
            const ID: CmdId = CmdId::$name;
            const STATES: States = States::$states;
            type Reply = ();

            fn reply(&self, _sent: &Self) -> Result<(), Malformed> {
                Ok(())
            }
        }

        const _: () = check::<$name>();
    };
}

bare_command! {
    /// Ends all guests and leaves the platform uninitialised (`SEV-API` chapter 5).
    Shutdown, ANY
}
bare_command! {
    /// Returns the platform to its self-owned state with fresh keys (`SEV-API` 5.5). Linux calls it
    /// FACTORY_RESET.
    PlatformReset, UNINIT
}
bare_command! {
    /// Makes a new PEK, and with it a new PDH; a platform owned by someone becomes self-owned
    /// (`SEV-API` 5.7).
    PekGen, INIT
}
bare_command! {
    /// Makes a new PDH (`SEV-API` 5.10).
    PdhGen, INIT_WORKING
}
bare_command! {
    /// Flushes the data fabric's write buffers, after which freed ASIDs may be used again
    /// (`SEV-API` chapter 5).
    DfFlush, INIT_WORKING
}
bare_command! {
    /// Does nothing, successfully (`SEV-API` chapter 5).
    Nop, ANY
}

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

/// PLATFORM_STATUS: version, state and configuration (`SEV-API` 5.6, table 17).
///
/// | Offset | Bits | In/Out | Name | |
/// |---|---|---|---|---|
/// | 0x00 | 7:0 | out | API_MAJOR | |
/// | 0x01 | 7:0 | out | API_MINOR | |
/// | 0x02 | 7:0 | out | STATE | see [`PlatformState`] |
/// | 0x03 | 0 | out | OWNER | 1: owned by someone, 0: self-owned |
/// | 0x04 | 0 | out | CONFIG.ES | SEV-ES is initialised |
/// | 0x07 | 7:0 | out | BUILD | |
/// | 0x08 | 31:0 | out | GUEST_COUNT | |
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct PlatformStatus {
    /// Major version of the SEV API.
    pub api_major: u8,
    /// Minor version of the SEV API.
    pub api_minor: u8,
    /// Raw platform state.
    pub state: u8,
    /// Owner in bit 0, SEV-ES in bit 8.
    pub flags: U32,
    /// Build number of the firmware.
    pub build: u8,
    /// Number of guests the firmware manages.
    pub guest_count: U32,
}

/// What is sent: a state that does not exist, so that a buffer the firmware has not written is not taken
/// for a platform in UNINIT.
impl Default for PlatformStatus {
    fn default() -> Self {
        PlatformStatus {
            api_major: 0,
            api_minor: 0,
            state: u8::MAX,
            flags: U32::ZERO,
            build: 0,
            guest_count: U32::ZERO,
        }
    }
}

/// [`PlatformStatus::flags`]: the platform is owned by someone.
pub const STATUS_FLAG_OWNED: u32 = 1 << 0;
/// [`PlatformStatus::flags`]: SEV-ES is initialised.
pub const STATUS_FLAG_ES: u32 = 1 << 8;

/// What PLATFORM_STATUS tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Version and build.
    pub version: FwVersion,
    /// Platform state.
    pub state: PlatformState,
    /// Whether the platform is owned by someone else than itself.
    pub owned: bool,
    /// Whether SEV-ES is initialised.
    pub es: bool,
    /// Number of guests.
    pub guest_count: u32,
}

/// Version of the SEV firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FwVersion {
    /// Major version of the API.
    pub major: u8,
    /// Minor version of the API.
    pub minor: u8,
    /// Build number.
    pub build: u8,
}

impl core::fmt::Display for FwVersion {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.build)
    }
}

impl FwVersion {
    /// Whether the API is at least `major.minor`.
    pub const fn api_at_least(self, major: u8, minor: u8) -> bool {
        self.major > major || self.major == major && self.minor >= minor
    }
}

impl Command for PlatformStatus {
    const ID: CmdId = CmdId::PlatformStatus;
    const STATES: States = States::ANY;
    const WRITES_BUFFER: bool = true;
    const ONLY_ASKS: bool = true;
    type Reply = Status;

    fn reply(&self, _sent: &Self) -> Result<Status, Malformed> {
        Ok(Status {
            version: FwVersion {
                major: self.api_major,
                minor: self.api_minor,
                build: self.build,
            },
            state: PlatformState::try_from(self.state).map_err(Malformed::State)?,
            owned: self.flags.get() & STATUS_FLAG_OWNED != 0,
            es: self.flags.get() & STATUS_FLAG_ES != 0,
            guest_count: self.guest_count.get(),
        })
    }
}

const _: () = {
    check::<PlatformStatus>();
    assert!(offset_of!(PlatformStatus, api_minor) == 0x1);
    assert!(offset_of!(PlatformStatus, state) == 0x2);
    assert!(offset_of!(PlatformStatus, flags) == 0x3);
    assert!(offset_of!(PlatformStatus, build) == 0x7);
    assert!(offset_of!(PlatformStatus, guest_count) == 0x8);
};

/// Checks a length that the firmware returned against what it was offered.
fn written(sent: U32, received: U32) -> Result<u32, Malformed> {
    if received.get() > sent.get() {
        return Err(Malformed::Length {
            offered: sent.get(),
            claimed: received.get(),
        });
    }
    Ok(received.get())
}

/// Declares a command that has one buffer, an address and a length.
macro_rules! one_buffer_command {
    ($(#[doc = $doc:literal])+ $name:ident, $states:ident) => {
        $(#[doc = $doc])+
        #[derive(
            Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
        )]
        #[repr(C)]
        pub struct $name {
            /// System physical address of the buffer, with the C-bit; zero to ask for the length.
            pub paddr: U64,
            /// In: bytes offered. Out: bytes written, or needed if that was too little.
            pub len: U32,
        }

        impl $name {
            /// For a buffer of `len` bytes at `paddr`; both zero ask for the length.
            pub fn new(paddr: u64, len: u32) -> Self {
                $name { paddr: paddr.into(), len: len.into() }
            }
        }

        impl Command for $name {
            const ID: CmdId = CmdId::$name;
            const STATES: States = States::$states;
            const BUFFERS: &'static [BufferArg] =
                &[BufferArg::output(offset_of!($name, paddr), offset_of!($name, len))];
            const WRITES_BUFFER: bool = true;
            const ONLY_ASKS: bool = true;
            /// Bytes written, never more than offered.
            type Reply = u32;

            fn reply(&self, sent: &Self) -> Result<u32, Malformed> {
                written(sent.len, self.len)
            }
        }

        const _: () = {
            check::<$name>();
            assert!(offset_of!($name, len) == 0x8);
        };
    };
}

one_buffer_command! {
    /// PEK_CSR: the PEK as a certificate without signatures, for an owner to sign (`SEV-API` 5.8, table 27).
    PekCsr, INIT_WORKING
}
one_buffer_command! {
    /// GET_ID: the unique id of the chip, of both chips in a two-socket system (`SEV-API` chapter 5).
    GetId, ANY
}

/// PEK_CERT_IMPORT: takes the signed PEK and the owner's OCA certificate (`SEV-API` 5.9, table 29).
///
/// | Offset | Bits | In/Out | Name | |
/// |---|---|---|---|---|
/// | 0x00 | 63:0 | in | PEK_CERT_PADDR | |
/// | 0x08 | 31:0 | in | PEK_CERT_LEN | |
/// | 0x0c | | | - | reserved, zero |
/// | 0x10 | 63:0 | in | OCA_CERT_PADDR | |
/// | 0x18 | 31:0 | in | OCA_CERT_LEN | |
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct PekCertImport {
    /// Where the PEK certificate is.
    pub pek_paddr: U64,
    /// Its bytes.
    pub pek_len: U32,
    reserved: U32,
    /// Where the OCA certificate is.
    pub oca_paddr: U64,
    /// Its bytes.
    pub oca_len: U32,
}

impl PekCertImport {
    /// For two certificates, each an address and a length.
    pub fn new(pek: (u64, u32), oca: (u64, u32)) -> Self {
        PekCertImport {
            pek_paddr: pek.0.into(),
            pek_len: pek.1.into(),
            reserved: U32::ZERO,
            oca_paddr: oca.0.into(),
            oca_len: oca.1.into(),
        }
    }

    /// Whether a reserved bit is set.
    pub fn has_reserved_bits(&self) -> bool {
        self.reserved.get() != 0
    }
}

impl Command for PekCertImport {
    const ID: CmdId = CmdId::PekCertImport;
    const STATES: States = States::INIT;
    const BUFFERS: &'static [BufferArg] = &[
        BufferArg::input(
            offset_of!(PekCertImport, pek_paddr),
            offset_of!(PekCertImport, pek_len),
        ),
        BufferArg::input(
            offset_of!(PekCertImport, oca_paddr),
            offset_of!(PekCertImport, oca_len),
        ),
    ];
    type Reply = ();

    fn reply(&self, _sent: &Self) -> Result<(), Malformed> {
        Ok(())
    }
}

const _: () = {
    check::<PekCertImport>();
    assert!(offset_of!(PekCertImport, pek_len) == 0x8);
    assert!(offset_of!(PekCertImport, reserved) == 0xc);
    assert!(offset_of!(PekCertImport, oca_paddr) == 0x10);
    assert!(offset_of!(PekCertImport, oca_len) == 0x18);
};

/// PDH_CERT_EXPORT: the PDH and the chain above it: PEK, OCA, CEK (`SEV-API` 5.11).
///
/// The layout is that of [`PekCertImport`], with both buffers written.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct PdhCertExport {
    /// Where the PDH certificate goes.
    pub pdh_paddr: U64,
    /// In: bytes offered. Out: bytes written, or needed.
    pub pdh_len: U32,
    reserved: U32,
    /// Where the chain goes.
    pub chain_paddr: U64,
    /// In: bytes offered. Out: bytes written, or needed.
    pub chain_len: U32,
}

impl PdhCertExport {
    /// For two buffers, each an address and a length; all zero ask for the lengths.
    pub fn new(pdh: (u64, u32), chain: (u64, u32)) -> Self {
        PdhCertExport {
            pdh_paddr: pdh.0.into(),
            pdh_len: pdh.1.into(),
            reserved: U32::ZERO,
            chain_paddr: chain.0.into(),
            chain_len: chain.1.into(),
        }
    }

    /// Whether a reserved bit is set.
    pub fn has_reserved_bits(&self) -> bool {
        self.reserved.get() != 0
    }
}

/// Bytes that PDH_CERT_EXPORT wrote, each never more than offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PdhLens {
    /// Bytes of the PDH certificate.
    pub pdh: u32,
    /// Bytes of the chain.
    pub chain: u32,
}

impl Command for PdhCertExport {
    const ID: CmdId = CmdId::PdhCertExport;
    const STATES: States = States::INIT_WORKING;
    const BUFFERS: &'static [BufferArg] = &[
        BufferArg::output(
            offset_of!(PdhCertExport, pdh_paddr),
            offset_of!(PdhCertExport, pdh_len),
        ),
        BufferArg::output(
            offset_of!(PdhCertExport, chain_paddr),
            offset_of!(PdhCertExport, chain_len),
        ),
    ];
    const WRITES_BUFFER: bool = true;
    const ONLY_ASKS: bool = true;
    type Reply = PdhLens;

    fn reply(&self, sent: &Self) -> Result<PdhLens, Malformed> {
        Ok(PdhLens {
            pdh: written(sent.pdh_len, self.pdh_len)?,
            chain: written(sent.chain_len, self.chain_len)?,
        })
    }
}

const _: () = {
    check::<PdhCertExport>();
    assert!(offset_of!(PdhCertExport, pdh_len) == 0x8);
    assert!(offset_of!(PdhCertExport, reserved) == 0xc);
    assert!(offset_of!(PdhCertExport, chain_paddr) == 0x10);
    assert!(offset_of!(PdhCertExport, chain_len) == 0x18);
};

/// DOWNLOAD_FIRMWARE: replaces the running firmware by a signed image (`SEV-API` chapter 5).
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct DownloadFirmware {
    /// Where the image is, with the C-bit.
    pub paddr: U64,
    /// Its bytes.
    pub len: U32,
}

impl Command for DownloadFirmware {
    const ID: CmdId = CmdId::DownloadFirmware;
    const STATES: States = States::UNINIT;
    const BUFFERS: &'static [BufferArg] = &[BufferArg::input(
        offset_of!(DownloadFirmware, paddr),
        offset_of!(DownloadFirmware, len),
    )];
    type Reply = ();

    fn reply(&self, _sent: &Self) -> Result<(), Malformed> {
        Ok(())
    }
}

const _: () = {
    check::<DownloadFirmware>();
    assert!(offset_of!(DownloadFirmware, len) == 0x8);
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::{Completed, ReplyError};
    use crate::status::FwStatus;

    fn csr(status: FwStatus, offered: u32, claimed: u32) -> Result<u32, ReplyError> {
        Completed {
            status,
            sent: PekCsr::new(0x1000, offered),
            received: PekCsr::new(0x1000, claimed),
        }
        .reply()
    }

    #[test]
    fn a_reply_is_never_longer_than_the_buffer_offered() {
        assert_eq!(csr(FwStatus::SUCCESS, 2084, 2084), Ok(2084));
        let malformed = Malformed::Length {
            offered: 2084,
            claimed: 2085,
        };
        assert_eq!(
            csr(FwStatus::SUCCESS, 2084, 2085),
            Err(ReplyError::Malformed(malformed))
        );
        assert_eq!(
            csr(FwStatus::INVALID_LEN, 4, 2084),
            Err(ReplyError::Firmware(FwStatus::INVALID_LEN))
        );
    }

    #[test]
    fn a_status_that_nobody_wrote_is_malformed() {
        let status = PlatformStatus::default();
        assert_eq!(status.reply(&status), Err(Malformed::State(0xff)));
    }

    #[test]
    fn a_status_with_an_unknown_state_is_malformed() {
        let status = PlatformStatus {
            state: 7,
            ..Default::default()
        };
        assert_eq!(status.reply(&status), Err(Malformed::State(7)));
    }

    #[test]
    fn versions_compare_by_major_first() {
        let v = FwVersion {
            major: 1,
            minor: 2,
            build: 0,
        };
        assert!(v.api_at_least(0, 16) && v.api_at_least(1, 2));
        assert!(!v.api_at_least(1, 3) && !v.api_at_least(2, 0));
    }
}
