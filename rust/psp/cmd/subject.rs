// SPDX-License-Identifier: GPL-2.0

//! Which guest, and what of it, a command of KVM's is about: for the log (`SEV-API` chapter 6).

use core::fmt;

use super::CmdId;

/// A guest's command, as far as its bytes tell whom it concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The firmware's handle of the guest. In LAUNCH_START and RECEIVE_START it is the guest that keys are
    /// shared with, zero for none.
    pub handle: u32,
    /// The guest's policy, where it begins with the command.
    pub policy: Option<u32>,
    /// The ASID, where the command has it.
    pub asid: Option<u32>,
    /// System physical address of the guest's memory that is worked on, with the C-bit if there is one.
    pub address: Option<u64>,
}

/// Where a command's struct has its fields.
struct Fields {
    policy: Option<usize>,
    asid: Option<usize>,
    address: Option<usize>,
}

/// Those of the commands that Linux sends; each has its handle at the front.
const fn fields(id: CmdId) -> Option<Fields> {
    let none = Fields {
        policy: None,
        asid: None,
        address: None,
    };
    Some(match id {
        CmdId::LaunchStart | CmdId::ReceiveStart => Fields {
            policy: Some(4),
            ..none
        },
        CmdId::Activate => Fields {
            asid: Some(4),
            ..none
        },
        CmdId::LaunchUpdateData | CmdId::LaunchUpdateVmsa | CmdId::DbgDecrypt => Fields {
            address: Some(8),
            ..none
        },
        CmdId::DbgEncrypt => Fields {
            address: Some(16),
            ..none
        },
        // Packed, without the padding that the others have before their header's address.
        CmdId::SendUpdateVmsa => Fields {
            address: Some(20),
            ..none
        },
        CmdId::LaunchSecret
        | CmdId::SendUpdateData
        | CmdId::ReceiveUpdateData
        | CmdId::ReceiveUpdateVmsa => Fields {
            address: Some(24),
            ..none
        },
        CmdId::Decommission
        | CmdId::Deactivate
        | CmdId::GuestStatus
        | CmdId::LaunchMeasure
        | CmdId::LaunchFinish
        | CmdId::Attestation
        | CmdId::SendStart
        | CmdId::SendFinish
        | CmdId::SendCancel
        | CmdId::ReceiveFinish => none,
        _ => return None,
    })
}

impl Subject {
    /// That of a command with these bytes; `None` if it is about no guest, or too short.
    pub fn of(id: CmdId, bytes: &[u8]) -> Option<Self> {
        let fields = fields(id)?;
        let word = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let long = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        Some(Subject {
            handle: word(0)?,
            policy: fields.policy.and_then(word),
            asid: fields.asid.and_then(word),
            address: fields.address.and_then(long),
        })
    }
}

/// For the log: `guest 3 (ASID 7), address 0x12345000`.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.policy {
            Some(policy) => {
                write!(f, "a guest with policy {policy:#x}")?;
                if self.handle != 0 {
                    write!(f, " and the keys of guest {}", self.handle)?;
                }
            }
            None => write!(f, "guest {}", self.handle)?,
        }
        if let Some(asid) = self.asid {
            write!(f, " (ASID {asid})")?;
        }
        match self.address {
            Some(address) => write!(f, ", address {address:#x}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::{string::ToString, vec::Vec};

    #[test]
    fn it_is_told_from_the_bytes_that_the_specification_has() {
        for (id, expected) in [
            (
                CmdId::LaunchStart,
                "a guest with policy 0x7060504 and the keys of guest 50462976",
            ),
            (
                CmdId::ReceiveStart,
                "a guest with policy 0x7060504 and the keys of guest 50462976",
            ),
            (CmdId::Activate, "guest 50462976 (ASID 117835012)"),
            (
                CmdId::LaunchUpdateData,
                "guest 50462976, address 0xf0e0d0c0b0a0908",
            ),
            (
                CmdId::LaunchSecret,
                "guest 50462976, address 0x1f1e1d1c1b1a1918",
            ),
            (
                CmdId::SendUpdateVmsa,
                "guest 50462976, address 0x1b1a191817161514",
            ),
            (
                CmdId::DbgEncrypt,
                "guest 50462976, address 0x1716151413121110",
            ),
            (CmdId::LaunchFinish, "guest 50462976"),
        ] {
            // CAST: commands have less than 256 bytes.
            let bytes: Vec<u8> = (0..id.buffer_len() as u8).collect();
            let subject = Subject::of(id, &bytes).unwrap();
            assert_eq!(subject.to_string(), expected, "{}", id.name());
        }
        let alone = Subject::of(CmdId::LaunchStart, &[0; 36]).unwrap();
        assert_eq!(alone.to_string(), "a guest with policy 0x0");
    }

    #[test]
    fn all_of_its_fields_are_within_the_command() {
        for &id in CmdId::ALL {
            let Some(fields) = fields(id) else { continue };
            let len = id.buffer_len();
            let words = fields.policy.into_iter().chain(fields.asid);
            assert!(len >= 4 && words.into_iter().all(|at| at + 4 <= len));
            assert!(fields.address.is_none_or(|at| at + 8 <= len));
            assert_eq!(Subject::of(id, &[0; 3]), None);
        }
        assert_eq!(Subject::of(CmdId::GetId, &[0; 12]), None);
    }
}
