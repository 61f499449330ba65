// SPDX-License-Identifier: GPL-2.0

//! Where the PSP's registers are, per generation.
//!
//! Offsets into BAR 2; source: `drivers/crypto/ccp/sp-pci.c`, Linux 7.3. The vendor's names of the
//! registers behind them (C2PMSG_n, P2CMSG_n) are in the field documentation.

/// PCI vendor id of AMD.
pub const VENDOR_AMD: u16 = 0x1022;

/// The BAR that carries the registers.
pub const BAR: u32 = 2;

/// Interrupt status bit: a mailbox command completed.
pub const INT_CMD_COMPLETE: u32 = 1 << 1;

/// Register map of one PSP generation: byte offsets into BAR 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegisterMap {
    /// C2PMSG_32: command out, response back; see [`CmdResp`](crate::cmdresp::CmdResp).
    pub cmdresp: usize,
    /// C2PMSG_56: low half of the command buffer's address.
    pub cmdbuf_lo: usize,
    /// C2PMSG_57: high half of the command buffer's address.
    pub cmdbuf_hi: usize,
    /// C2PMSG_59: boot loader version.
    pub bootloader: usize,
    /// C2PMSG_63: capabilities; see [`Capabilities`].
    pub capability: usize,
    /// P2CMSG_INTEN: interrupt enable.
    pub inten: usize,
    /// P2CMSG_INTSTS: interrupt status, write one to clear.
    pub intsts: usize,
}

impl RegisterMap {
    /// Mailbox version 1 at `c2pmsg`, version 2 at another base: inside, they are the same.
    const fn new(c2pmsg: usize, inten: usize) -> Self {
        RegisterMap {
            cmdresp: c2pmsg,
            cmdbuf_lo: c2pmsg + 0x60,
            cmdbuf_hi: c2pmsg + 0x64,
            bootloader: c2pmsg + 0x6c,
            capability: c2pmsg + 0x7c,
            inten,
            intsts: inten + 4,
        }
    }

    /// Naples class (`pspv1`).
    pub const V1: RegisterMap = RegisterMap::new(0x10580, 0x10610);
    /// Rome and Milan class (`pspv2`).
    pub const V2: RegisterMap = RegisterMap::new(0x10980, 0x10690);
    /// Genoa class (`pspv4`).
    pub const V4: RegisterMap = RegisterMap::new(0x10980, 0x10690);
    /// Turin class and later (`pspv6`).
    pub const V6: RegisterMap = RegisterMap::new(0x10980, 0x10510);

    /// One past the last register of any generation.
    pub const END: usize = 0x10a00;
}

/// The PCI device ids of PSPs that speak SEV, with their register maps.
pub const DEVICES: [(u16, RegisterMap); 5] = [
    (0x1456, RegisterMap::V1),
    (0x1486, RegisterMap::V2),
    (0x14ca, RegisterMap::V4),
    (0x156e, RegisterMap::V6),
    (0x17d8, RegisterMap::V6),
];

/// Capability register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities(u32);

impl Capabilities {
    /// Bit 0: the PSP speaks SEV.
    pub const SEV: u32 = 1 << 0;
    /// Bit 1: the PSP runs a trusted OS.
    pub const TEE: u32 = 1 << 1;
    /// Bit 7: the security attribute bits 8 to 19 are valid.
    pub const SECURITY_REPORTING: u32 = 1 << 7;
    /// Bit 13: all of memory is encrypted transparently (TSME).
    pub const TSME: u32 = 1 << 13;

    /// Takes the register's value; `None` if the read went nowhere (all ones: firmware blocks the
    /// device or it is gone).
    pub const fn from_raw(raw: u32) -> Option<Self> {
        if raw == u32::MAX {
            None
        } else {
            Some(Capabilities(raw))
        }
    }

    /// The raw value.
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// Whether the PSP speaks SEV.
    pub const fn sev(self) -> bool {
        self.0 & Self::SEV != 0
    }

    /// Whether the bits about the machine's security mean anything.
    pub const fn tells_security(self) -> bool {
        self.0 & Self::SECURITY_REPORTING != 0
    }

    /// Whether transparent memory encryption is on; `None` if the PSP does not say.
    pub const fn tsme(self) -> Option<bool> {
        if self.tells_security() {
            Some(self.0 & Self::TSME != 0)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_those_of_the_vendor_table() {
        // (cmdresp, lo, hi, capability, bootloader, inten, intsts), written down from sp-pci.c.
        let v1 = (
            0x10580, 0x105e0, 0x105e4, 0x105fc, 0x105ec, 0x10610, 0x10614,
        );
        let v2 = (
            0x10980, 0x109e0, 0x109e4, 0x109fc, 0x109ec, 0x10690, 0x10694,
        );
        let v6 = (
            0x10980, 0x109e0, 0x109e4, 0x109fc, 0x109ec, 0x10510, 0x10514,
        );
        let as_tuple = |m: RegisterMap| {
            (
                m.cmdresp,
                m.cmdbuf_lo,
                m.cmdbuf_hi,
                m.capability,
                m.bootloader,
                m.inten,
                m.intsts,
            )
        };
        assert_eq!(as_tuple(RegisterMap::V1), v1);
        assert_eq!(as_tuple(RegisterMap::V2), v2);
        assert_eq!(as_tuple(RegisterMap::V4), v2);
        assert_eq!(as_tuple(RegisterMap::V6), v6);
    }

    #[test]
    fn all_ones_is_no_capability() {
        assert_eq!(Capabilities::from_raw(u32::MAX), None);
        assert_eq!(Capabilities::from_raw(0x81).map(|c| c.sev()), Some(true));
        assert_eq!(Capabilities::from_raw(1).and_then(Capabilities::tsme), None);
    }
}
