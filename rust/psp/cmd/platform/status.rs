// SPDX-License-Identifier: GPL-2.0

//! PLATFORM_STATUS, and the firmware's version.

use core::mem::offset_of;

use zerocopy::little_endian::U32;
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::super::{check, CmdId, Command, Malformed};
use crate::platform::{PlatformState, States};

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

#[cfg(test)]
mod tests {
    use super::*;

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
