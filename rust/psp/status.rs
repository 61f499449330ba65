// SPDX-License-Identifier: GPL-2.0

//! Status codes of the SEV and SNP firmware (`SEV-API` 4.4, `SNP-ABI` 5.1).

use core::fmt;

/// Status of a completed firmware command: 16 bits, zero is success.
///
/// The set is open: newer firmware may answer with a code that is not listed, and it stays a code.
/// "The firmware was never called" and "it never answered" are no statuses; see
/// [`mailbox::Fault`](crate::mailbox::Fault).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FwStatus(u16);

macro_rules! statuses {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal,)+) => {
        impl FwStatus {
            $($(#[doc = $doc])+ pub const $name: FwStatus = FwStatus($code);)+

            /// Every listed status, in the order of the codes.
            pub const ALL: &'static [FwStatus] = &[$(FwStatus::$name),+];

            /// Name in the specification, or `None` for a code that is not listed.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some(stringify!($name)),)+
                    _ => None,
                }
            }
        }
    };
}

statuses! {
    /// The command did what was asked.
    SUCCESS = 0x0000,
    /// Not allowed in this platform state.
    INVALID_PLATFORM_STATE = 0x0001,
    /// Not allowed in this guest state.
    INVALID_GUEST_STATE = 0x0002,
    /// The platform configuration is wrong (memory encryption or SNP not set up as demanded).
    INVALID_CONFIG = 0x0003,
    /// A buffer is too small; the needed length is in the command buffer.
    INVALID_LEN = 0x0004,
    /// The platform has an external owner already.
    ALREADY_OWNED = 0x0005,
    /// A certificate is malformed or of the wrong kind.
    INVALID_CERTIFICATE = 0x0006,
    /// The guest policy forbids it.
    POLICY_FAILURE = 0x0007,
    /// The guest has no ASID.
    INACTIVE = 0x0008,
    /// An address is unaligned, reserved or outside memory.
    INVALID_ADDRESS = 0x0009,
    /// A signature does not verify.
    BAD_SIGNATURE = 0x000A,
    /// The measurement does not match.
    BAD_MEASUREMENT = 0x000B,
    /// The ASID belongs to another guest.
    ASID_OWNED = 0x000C,
    /// The ASID is out of range.
    INVALID_ASID = 0x000D,
    /// Caches must be written back first (WBINVD on all CPUs).
    WBINVD_REQUIRED = 0x000E,
    /// DF_FLUSH must come first.
    DFFLUSH_REQUIRED = 0x000F,
    /// No such guest handle.
    INVALID_GUEST = 0x0010,
    /// No such command.
    INVALID_COMMAND = 0x0011,
    /// The guest still has an ASID.
    ACTIVE = 0x0012,
    /// Hardware condition: the platform failed, but it is safe to go on.
    HWERROR_PLATFORM = 0x0013,
    /// Hardware condition: it is not safe to go on.
    HWERROR_UNSAFE = 0x0014,
    /// This firmware does not have the feature.
    UNSUPPORTED = 0x0015,
    /// A parameter is out of range or a reserved bit is set.
    INVALID_PARAM = 0x0016,
    /// The firmware ran out of a resource.
    RESOURCE_LIMIT = 0x0017,
    /// Persistent data failed its integrity check and was discarded.
    SECURE_DATA_INVALID = 0x0018,
    /// SNP: wrong page size.
    INVALID_PAGE_SIZE = 0x0019,
    /// SNP: wrong page state in the RMP.
    INVALID_PAGE_STATE = 0x001A,
    /// SNP: metadata entry is invalid.
    INVALID_MDATA_ENTRY = 0x001B,
    /// SNP: the page belongs to someone else.
    INVALID_PAGE_OWNER = 0x001C,
    /// SNP: the AEAD counter would overflow.
    AEAD_OFLOW = 0x001D,
    /// The ring buffer mode was left.
    RB_MODE_EXITED = 0x001F,
    /// SNP: the RMP must be initialised first.
    RMP_INIT_REQUIRED = 0x0020,
    /// The security version number is lower than the committed one.
    BAD_SVN = 0x0021,
    /// The version is lower than the committed one.
    BAD_VERSION = 0x0022,
    /// SHUTDOWN must come first.
    SHUTDOWN_REQUIRED = 0x0023,
    /// The firmware update failed, the old one runs on.
    UPDATE_FAILED = 0x0024,
    /// The firmware update failed half-way; load the old one again.
    RESTORE_REQUIRED = 0x0025,
    /// SNP: the RMP could not be initialised.
    RMP_INITIALIZATION_FAILED = 0x0026,
    /// The key is not valid for this.
    INVALID_KEY = 0x0027,
    /// SNP: the shutdown did not finish.
    SHUTDOWN_INCOMPLETE = 0x0028,
    /// SEV-TIO: a buffer has the wrong length.
    INCORRECT_BUFFER_LENGTH = 0x0030,
    /// SEV-TIO: a buffer must grow.
    EXPAND_BUFFER_LENGTH_REQUEST = 0x0031,
    /// SEV-TIO: the firmware asks for an SPDM message to be sent.
    SPDM_REQUEST = 0x0032,
    /// SEV-TIO: SPDM failed.
    SPDM_ERROR = 0x0033,
    /// SEV-TIO: the device connection failed.
    ERR_IN_DEV_CONN = 0x0035,
    /// SEV-TIO: no such device context.
    INVALID_DEV_CTX = 0x0036,
    /// SEV-TIO: no such TDI context.
    INVALID_TDI_CTX = 0x0037,
    /// SEV-TIO: no such TDI.
    INVALID_TDI = 0x0038,
    /// SEV-TIO: resources must be reclaimed first.
    RECLAIM_REQUIRED = 0x0039,
    /// SEV-TIO: the object is in use.
    IN_USE = 0x003A,
    /// SEV-TIO: wrong device state.
    INVALID_DEV_STATE = 0x003B,
    /// SEV-TIO: wrong TDI state.
    INVALID_TDI_STATE = 0x003C,
    /// SEV-TIO: the device changed its certificate.
    DEV_CERT_CHANGED = 0x003D,
    /// SEV-TIO: resynchronisation needed.
    RESYNC_REQ = 0x003E,
    /// SEV-TIO: the response does not fit.
    RESPONSE_TOO_LARGE = 0x003F,
}

impl FwStatus {
    /// Wraps a raw code.
    pub const fn new(code: u16) -> Self {
        FwStatus(code)
    }

    /// The raw code.
    pub const fn code(self) -> u16 {
        self.0
    }

    /// Whether the command succeeded.
    pub const fn is_success(self) -> bool {
        self.0 == 0
    }

    /// What an operator can do about it, if anything is known. The causes are those that users and
    /// maintainers have found for failures of INIT and of key commands.
    pub const fn hint(self) -> Option<&'static str> {
        Some(match self {
            FwStatus::INVALID_PLATFORM_STATE => {
                "another kernel or an earlier failure left the platform in this state: unload KVM and the driver and load them again"
            }
            FwStatus::INVALID_CONFIG => {
                "the BIOS has memory encryption or SNP set up in a way this firmware does not accept: check SMEE, SNP and the minimum SEV-ES ASID there, and update BIOS and SEV firmware together"
            }
            FwStatus::ALREADY_OWNED => "the platform has an owner: factory reset it first",
            FwStatus::INVALID_ADDRESS => "memory that the firmware cannot use: report a driver bug",
            FwStatus::BAD_SIGNATURE => "a damaged file, or one for another processor",
            FwStatus::WBINVD_REQUIRED | FwStatus::DFFLUSH_REQUIRED => {
                "old firmware on several sockets is known for this: update it"
            }
            FwStatus::INVALID_COMMAND | FwStatus::UNSUPPORTED => {
                "this firmware cannot do it: update it"
            }
            FwStatus::HWERROR_PLATFORM => {
                "enable SMEE in the BIOS, and install a SEV firmware file for this processor"
            }
            FwStatus::HWERROR_UNSAFE => "power-cycle the machine before it is trusted with guests",
            FwStatus::RESOURCE_LIMIT => "too many guests for this firmware: end some",
            FwStatus::SECURE_DATA_INVALID => {
                "the firmware has discarded its keys: certificates that others hold of this platform are void"
            }
            FwStatus::BAD_SVN | FwStatus::BAD_VERSION => {
                "older than what the firmware has committed to: install a newer file"
            }
            FwStatus::SHUTDOWN_REQUIRED => "SEV has to be shut down first: end all guests",
            FwStatus::UPDATE_FAILED => "the old firmware runs on",
            FwStatus::RESTORE_REQUIRED => "install the file of the firmware that ran before",
            // Not in the specification; the boot loader's, when there is no usable SEV firmware.
            FwStatus(0x8000..=0xffff) => {
                "the PSP runs no usable SEV firmware: update the BIOS, and install a SEV firmware file for this processor"
            }
            _ => return None,
        })
    }
}

impl fmt::Display for FwStatus {
    /// `0x0004 (INVALID_LEN)`, or the bare number for a code that is not listed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#06x}", self.0)?;
        match self.name() {
            Some(name) => write!(f, " ({name})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for FwStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::format;

    #[test]
    fn display_names_what_it_knows_and_keeps_what_it_does_not() {
        assert_eq!(format!("{}", FwStatus::INVALID_LEN), "0x0004 (INVALID_LEN)");
        assert_eq!(format!("{}", FwStatus::new(0x8004)), "0x8004");
    }

    #[test]
    fn codes_are_unique_and_rising() {
        assert!(FwStatus::ALL.windows(2).all(|w| w[0].code() < w[1].code()));
        // UAPI: 0..=0x1d, 0x1f..=0x28, 0x30..=0x33, 0x35..=0x3f.
        assert_eq!(FwStatus::ALL.len(), 30 + 10 + 4 + 11);
    }
}
