// SPDX-License-Identifier: GPL-2.0

//! The register through which commands go out and answers come back.

use crate::cmd::CmdId;
use crate::status::FwStatus;

/// The CMDRESP register.
///
/// Written: command in bits 26:16, interrupt on completion (IOC) in bit 0. Read back: response in
/// bit 31, status in bits 15:0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CmdResp(u32);

impl CmdResp {
    /// Bit 0 of a command: raise an interrupt on completion.
    pub const IOC: u32 = 1 << 0;
    /// Lowest bit of the command id.
    pub const CMD_SHIFT: u32 = 16;
    /// Bits of the command id.
    pub const CMD_MASK: u32 = 0x7ff << Self::CMD_SHIFT;
    /// Bit 31 of a response: the command completed.
    pub const RESPONSE: u32 = 1 << 31;
    /// Status bits of a response.
    pub const STATUS_MASK: u32 = 0xffff;

    /// The word that starts a command.
    pub const fn command(id: CmdId, ioc: bool) -> Self {
        // CAST: widening u16 to u32 in a const context.
        let id = (id as u32) << Self::CMD_SHIFT;
        CmdResp(if ioc { id | Self::IOC } else { id })
    }

    /// The word that answers a command.
    pub const fn response(status: FwStatus) -> Self {
        CmdResp(Self::RESPONSE | status.code() as u32)
    }

    /// Takes the register's value.
    pub const fn from_raw(raw: u32) -> Self {
        CmdResp(raw)
    }

    /// The register's value.
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// The command id, whether known or not.
    pub const fn id(self) -> u16 {
        // CAST: masked to 11 bits.
        ((self.0 & Self::CMD_MASK) >> Self::CMD_SHIFT) as u16
    }

    /// Whether an interrupt was asked for.
    pub const fn ioc(self) -> bool {
        self.0 & Self::IOC != 0
    }

    /// The status, once the firmware has answered.
    pub const fn status(self) -> Option<FwStatus> {
        if self.0 & Self::RESPONSE == 0 {
            None
        } else {
            // CAST: masked to 16 bits.
            Some(FwStatus::new((self.0 & Self::STATUS_MASK) as u16))
        }
    }

    /// Whether the read went nowhere: the device is gone or blocked.
    pub const fn is_all_ones(self) -> bool {
        self.0 == u32::MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_word_has_the_wider_sev_command_field() {
        assert_eq!(CmdResp::command(CmdId::PekCsr, true).raw(), 0x0006_0001);
        assert_eq!(CmdResp::command(CmdId::SnpCommit, false).raw(), 0x00cb_0000);
        assert_eq!(CmdResp::from_raw(0x07ff_0000).id(), 0x7ff);
        assert_eq!(
            CmdResp::from_raw(0x8000_0004).status(),
            Some(FwStatus::INVALID_LEN)
        );
        assert_eq!(CmdResp::from_raw(0x0000_0004).status(), None);
    }
}
