// SPDX-License-Identifier: GPL-2.0
//! The policy a guest's owner binds to it (SEV-API, table "Guest Policy").

use super::Status;
use crate::model::Version;

/// A guest's policy as the owner states it. Checked by [`Policy::check`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy(pub u32);

impl Policy {
    /// Debugging is refused.
    pub const NODBG: u32 = 1 << 0;
    /// Sharing the key with another guest is refused.
    pub const NOKS: u32 = 1 << 1;
    /// SEV-ES is required.
    pub const ES: u32 = 1 << 2;
    /// Sending the guest to another platform is refused.
    pub const NOSEND: u32 = 1 << 3;
    /// The guest may be sent within the domain, the platforms of one OCA, only.
    pub const DOMAIN: u32 = 1 << 4;
    /// The guest may be sent to genuine SEV platforms only.
    pub const SEV: u32 = 1 << 5;
    const RESERVED: u32 = 0xffc0;

    /// Every bit with its name.
    const NAMES: [(u32, &'static str); 6] = [
        (Self::NODBG, "NODBG"),
        (Self::NOKS, "NOKS"),
        (Self::ES, "ES"),
        (Self::NOSEND, "NOSEND"),
        (Self::DOMAIN, "DOMAIN"),
        (Self::SEV, "SEV"),
    ];

    /// Whether a bit is set.
    #[must_use]
    pub const fn has(self, bit: u32) -> bool {
        self.0 & bit != 0
    }

    /// Names of the bits that are set.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        let set = Self::NAMES.iter().filter(|(bit, _)| self.has(*bit));
        set.map(|(_, name)| *name).collect()
    }

    /// The oldest API version (major, minor) the guest may run on.
    #[must_use]
    pub const fn api(self) -> (u8, u8) {
        let [_, _, major, minor] = self.0.to_le_bytes();
        (major, minor)
    }

    /// # Errors
    ///
    /// POLICY_FAILURE when a reserved bit is set, or firmware of `version` is too old for the guest.
    pub(super) fn check(self, version: Version) -> Result<(), Status> {
        if self.has(Self::RESERVED) || self.api() > (version.major, version.minor) {
            return Err(Status::POLICY_FAILURE);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_reserved_bits_are_checked() {
        let version = Version {
            major: 1,
            minor: 24,
            build: 0,
        };
        for (policy, accepted) in [
            (0x0000_0000, true),
            (0x1801_003f, true),
            (0x1901_0000, false),
            (0x0002_0000, false),
            (0xff00_0000, true),
            (0x0000_0040, false),
            (0x0000_8000, false),
        ] {
            assert_eq!(
                Policy(policy).check(version).is_ok(),
                accepted,
                "{policy:#x}"
            );
        }
    }

    #[test]
    fn bits_have_names() {
        assert_eq!(Policy(0x25).names(), ["NODBG", "ES", "SEV"]);
    }
}
