// SPDX-License-Identifier: GPL-2.0

//! Commands with certificates, ids and firmware images: those that come with buffers.

use core::mem::offset_of;

use zerocopy::little_endian::{U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::super::{check, BufferArg, CmdId, Command, Malformed};
use crate::platform::States;

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
}
