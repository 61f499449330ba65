// SPDX-License-Identifier: GPL-2.0

//! Firmware commands: one id table, one type per command.
//!
//! [`CmdId`] knows every command the driver may send, also those that KVM builds itself and passes
//! through as bytes. A command that the driver builds has a type that implements [`Command`]; what
//! has to be known about it hangs off that type.

use core::ffi::CStr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::platform::States;
use crate::status::FwStatus;

pub mod guest;
pub mod platform;
pub mod snp;
pub mod subject;

/// Most bytes a command buffer may have: it must lie within one page.
pub const CMD_BUF_LEN: usize = 4096;

/// Most bytes user space may hand over or ask for in one blob (`UAPI` leaves it to the driver;
/// `SEV_FW_BLOB_MAX_SIZE` in `include/linux/psp-sev.h`).
pub const BLOB_MAX_LEN: usize = 16 * 1024;

macro_rules! commands {
    ($($name:ident = $id:literal, $spec:ident, $len:literal;)+) => {
        /// A command of the SEV or SNP firmware (`SEV-API` table 3, `SNP-ABI` table 9).
        ///
        /// The set is closed: the driver sends only what it knows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        #[expect(missing_docs, reason = "the specification's names, see `CmdId::name`")]
        pub enum CmdId {
            $($name = $id,)+
        }

        impl CmdId {
            /// Every known command, in the order of the ids.
            pub const ALL: &'static [CmdId] = &[$(CmdId::$name),+];

            /// Its place in [`ALL`](Self::ALL).
            pub const fn index(self) -> usize {
                // CAST: the discriminant is the id, which is below INDEX's length; widening u8 to usize.
                INDEX[self as usize] as usize
            }

            /// Name in the specification.
            pub const fn name(self) -> &'static str {
                match self {
                    $(CmdId::$name => stringify!($spec),)+
                }
            }

            /// The same for C.
            pub const fn c_name(self) -> &'static CStr {
                match self {
                    // The name and its zero are one literal; a name has no other zero.
                    $(CmdId::$name => match CStr::from_bytes_with_nul(concat!(stringify!($spec), "\0").as_bytes()) {
                        Ok(name) => name,
                        Err(_) => c"",
                    },)+
                }
            }

            /// Bytes of the command buffer; zero for a command without one.
            pub const fn buffer_len(self) -> usize {
                match self {
                    $(CmdId::$name => $len,)+
                }
            }
        }

        impl TryFrom<u16> for CmdId {
            /// The id that is not in the table.
            type Error = u16;

            fn try_from(raw: u16) -> Result<Self, u16> {
                match raw {
                    $($id => Ok(CmdId::$name),)+
                    other => Err(other),
                }
            }
        }
    };
}

// Ids and lengths: SEV-API chapters 5 to 7, SNP-ABI chapter 8, checked by a C program against
// include/linux/psp-sev.h (tests/kernel_headers.c). Those that Linux never sends are there
// so that the table is the specification's.
commands! {
    Init = 0x001, INIT, 20;
    Shutdown = 0x002, SHUTDOWN, 0;
    PlatformReset = 0x003, PLATFORM_RESET, 0;
    PlatformStatus = 0x004, PLATFORM_STATUS, 12;
    PekGen = 0x005, PEK_GEN, 0;
    PekCsr = 0x006, PEK_CSR, 12;
    PekCertImport = 0x007, PEK_CERT_IMPORT, 28;
    PdhCertExport = 0x008, PDH_CERT_EXPORT, 28;
    PdhGen = 0x009, PDH_GEN, 0;
    DfFlush = 0x00a, DF_FLUSH, 0;
    DownloadFirmware = 0x00b, DOWNLOAD_FIRMWARE, 12;
    GetId = 0x00c, GET_ID, 12;
    InitEx = 0x00d, INIT_EX, 36;
    Nop = 0x00e, NOP, 0;
    RingBuffer = 0x00f, RING_BUFFER, 40;
    Decommission = 0x020, DECOMMISSION, 4;
    Activate = 0x021, ACTIVATE, 8;
    Deactivate = 0x022, DEACTIVATE, 4;
    GuestStatus = 0x023, GUEST_STATUS, 13;
    Copy = 0x024, COPY, 24;
    ActivateEx = 0x025, ACTIVATE_EX, 24;
    LaunchStart = 0x030, LAUNCH_START, 36;
    LaunchUpdateData = 0x031, LAUNCH_UPDATE_DATA, 20;
    LaunchUpdateVmsa = 0x032, LAUNCH_UPDATE_VMSA, 20;
    LaunchMeasure = 0x033, LAUNCH_MEASURE, 20;
    LaunchSecret = 0x034, LAUNCH_SECRET, 52;
    LaunchFinish = 0x035, LAUNCH_FINISH, 4;
    Attestation = 0x036, ATTESTATION, 36;
    SendStart = 0x040, SEND_START, 68;
    SendUpdateData = 0x041, SEND_UPDATE_DATA, 52;
    SendUpdateVmsa = 0x042, SEND_UPDATE_VMSA, 48;
    SendFinish = 0x043, SEND_FINISH, 4;
    SendCancel = 0x044, SEND_CANCEL, 4;
    ReceiveStart = 0x050, RECEIVE_START, 36;
    ReceiveUpdateData = 0x051, RECEIVE_UPDATE_DATA, 52;
    ReceiveUpdateVmsa = 0x052, RECEIVE_UPDATE_VMSA, 52;
    ReceiveFinish = 0x053, RECEIVE_FINISH, 4;
    DbgDecrypt = 0x060, DBG_DECRYPT, 28;
    DbgEncrypt = 0x061, DBG_ENCRYPT, 28;
    SwapOut = 0x070, SWAP_OUT, 56;
    SwapIn = 0x071, SWAP_IN, 56;
    SnpInit = 0x081, SNP_INIT, 0;
    SnpShutdown = 0x082, SNP_SHUTDOWN, 0;
    SnpPlatformStatus = 0x083, SNP_PLATFORM_STATUS, 8;
    SnpDfFlush = 0x084, SNP_DF_FLUSH, 0;
    SnpInitEx = 0x085, SNP_INIT_EX, 64;
    SnpShutdownEx = 0x086, SNP_SHUTDOWN_EX, 8;
    SnpDecommission = 0x090, SNP_DECOMMISSION, 8;
    SnpActivate = 0x091, SNP_ACTIVATE, 12;
    SnpGuestStatus = 0x092, SNP_GUEST_STATUS, 16;
    SnpGctxCreate = 0x093, SNP_GCTX_CREATE, 8;
    SnpGuestRequest = 0x094, SNP_GUEST_REQUEST, 24;
    SnpLaunchStart = 0x0a0, SNP_LAUNCH_START, 48;
    SnpLaunchUpdate = 0x0a1, SNP_LAUNCH_UPDATE, 32;
    SnpLaunchFinish = 0x0a2, SNP_LAUNCH_FINISH, 64;
    SnpDbgDecrypt = 0x0b0, SNP_DBG_DECRYPT, 24;
    SnpDbgEncrypt = 0x0b1, SNP_DBG_ENCRYPT, 24;
    SnpVerifyMitigation = 0x0b2, SNP_VERIFY_MITIGATION, 64;
    SnpPageReclaim = 0x0c7, SNP_PAGE_RECLAIM, 8;
    SnpPageUnsmash = 0x0c8, SNP_PAGE_UNSMASH, 8;
    SnpConfig = 0x0c9, SNP_CONFIG, 64;
    SnpCommit = 0x0cb, SNP_COMMIT, 4;
    SnpVlekLoad = 0x0cd, SNP_VLEK_LOAD, 16;
    SnpFeatureInfo = 0x0ce, SNP_FEATURE_INFO, 16;
}

/// For each id its place in [`CmdId::ALL`].
const INDEX: [u8; 256] = {
    let mut index = [0; 256];
    let mut i = 0;
    while i < CmdId::ALL.len() {
        // CAST: discriminants are ids below 256, places are below 256, or this does not compile.
        index[CmdId::ALL[i] as usize] = i as u8;
        i += 1;
    }
    assert!(i < 256);
    index
};

/// Where a command buffer names another buffer for the firmware to read or write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferArg {
    /// Offset of the 64-bit address in the command buffer.
    pub addr: usize,
    /// Offset of the 32-bit length in the command buffer.
    pub len: usize,
    /// Whether the firmware writes it.
    pub output: bool,
}

impl BufferArg {
    /// A buffer the firmware reads.
    pub const fn input(addr: usize, len: usize) -> Self {
        BufferArg {
            addr,
            len,
            output: false,
        }
    }

    /// A buffer the firmware writes; its length field returns what was written or is needed.
    pub const fn output(addr: usize, len: usize) -> Self {
        BufferArg {
            addr,
            len,
            output: true,
        }
    }
}

/// What the firmware wrote does not make sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It claims to have written more than it was offered: offered bytes, claimed bytes.
    Length {
        /// Bytes it was offered.
        offered: u32,
        /// Bytes it claims to have written.
        claimed: u32,
    },
    /// A platform state that does not exist.
    State(u8),
}

/// A command that the driver builds: its wire form and everything known about it.
///
/// The implementing type *is* the command buffer, byte for byte, without padding or alignment.
pub trait Command: FromBytes + IntoBytes + Immutable + KnownLayout + Copy {
    /// Which command it is.
    const ID: CmdId;
    /// Platform states in which the firmware takes it.
    const STATES: States;
    /// The buffers it points to.
    const BUFFERS: &'static [BufferArg] = &[];
    /// Whether the firmware writes the command buffer itself.
    const WRITES_BUFFER: bool = false;
    /// Whether it only asks: nothing is lost when nobody sees the answer.
    const ONLY_ASKS: bool = false;
    /// What a successful command tells.
    type Reply;

    /// Reads the reply out of the command buffer as the firmware left it; `sent` is what it got.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when the firmware's answer contradicts the request or the specification.
    fn reply(&self, sent: &Self) -> Result<Self::Reply, Malformed>;
}

/// Stops the compiler if a command's type and the id table disagree; each command type is checked.
pub const fn check<C: Command>() {
    assert!(size_of::<C>() == C::ID.buffer_len());
    let mut i = 0;
    while i < C::BUFFERS.len() {
        assert!(C::BUFFERS[i].addr + 8 <= size_of::<C>());
        assert!(C::BUFFERS[i].len + 4 <= size_of::<C>());
        i += 1;
    }
}

/// A command after the firmware is done with it: its status and what it left in the buffer.
#[derive(Clone, Copy, Debug)]
pub struct Completed<C> {
    /// The firmware's status.
    pub status: FwStatus,
    /// The command buffer as it was sent.
    pub sent: C,
    /// The command buffer as the firmware left it; worth reading also on failure, because that is
    /// how it tells the length it needs.
    pub received: C,
}

/// Why a completed command has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyError {
    /// The firmware refused.
    Firmware(FwStatus),
    /// The firmware agreed, but its answer makes no sense.
    Malformed(Malformed),
}

impl<C: Command> Completed<C> {
    /// The reply of a successful command.
    ///
    /// # Errors
    ///
    /// The firmware's status if it refused, or what is wrong with its answer.
    pub fn reply(&self) -> Result<C::Reply, ReplyError> {
        if !self.status.is_success() {
            return Err(ReplyError::Firmware(self.status));
        }
        self.received
            .reply(&self.sent)
            .map_err(ReplyError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_fit_the_mailbox() {
        assert!(CmdId::ALL.windows(2).all(|w| (w[0] as u16) < w[1] as u16));
        assert!(CmdId::ALL.iter().all(|&id| (id as u16) < 1 << 11));
        assert!(CmdId::ALL.iter().all(|id| id.buffer_len() <= CMD_BUF_LEN));
    }

    #[test]
    fn each_command_knows_its_place() {
        for (place, id) in CmdId::ALL.iter().enumerate() {
            assert_eq!(id.index(), place);
        }
    }

    #[test]
    fn an_unknown_id_is_refused() {
        assert_eq!(CmdId::try_from(0x006), Ok(CmdId::PekCsr));
        assert_eq!(CmdId::try_from(0x7ff), Err(0x7ff));
    }
}
