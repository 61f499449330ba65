// SPDX-License-Identifier: GPL-2.0
//! What differs between processor generations: PCI id, register map, firmware version, limits.

use std::{fmt, str::FromStr};

/// SEV API version and build number of a firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u8,
    pub minor: u8,
    pub build: u8,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.build)
    }
}

/// Offsets into BAR 2 of the registers the SEV driver uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// SEV command and response (C2PMSG_32).
    pub cmdresp: u64,
    /// Command buffer address, low half (C2PMSG_56).
    pub addr_lo: u64,
    /// Command buffer address, high half (C2PMSG_57).
    pub addr_hi: u64,
    /// Boot loader version (C2PMSG_59).
    pub bootloader: u64,
    /// Capabilities of the PSP (C2PMSG_63).
    pub capability: u64,
    /// Interrupt enable mask.
    pub inten: u64,
    /// Interrupt status, write one to clear.
    pub intsts: u64,
}

/// First generation: Naples.
const PSP_V1: Registers = Registers {
    cmdresp: 0x10580,
    addr_lo: 0x105e0,
    addr_hi: 0x105e4,
    bootloader: 0x105ec,
    capability: 0x105fc,
    inten: 0x10610,
    intsts: 0x10614,
};

/// Rome, Milan and Genoa.
const PSP_V2: Registers = Registers {
    cmdresp: 0x10980,
    addr_lo: 0x109e0,
    addr_hi: 0x109e4,
    bootloader: 0x109ec,
    capability: 0x109fc,
    inten: 0x10690,
    intsts: 0x10694,
};

/// Turin: the mailbox stayed, the interrupt registers moved.
const PSP_V6: Registers = Registers {
    inten: 0x10510,
    intsts: 0x10514,
    ..PSP_V2
};

/// Which interrupt capabilities the PCI function offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupts {
    /// MSI alone.
    Msi,
    /// MSI and MSI-X, as on hardware.
    MsiAndMsix,
}

/// One processor generation.
#[derive(Debug, PartialEq, Eq)]
pub struct Model {
    /// Name on the command line and in the state directory.
    pub name: &'static str,
    /// PCI device id; the vendor is always AMD.
    pub device_id: u16,
    pub registers: Registers,
    /// Contents of the capability register.
    pub capability: u32,
    /// Contents of the boot loader version register.
    pub bootloader: u32,
    /// The firmware in flash, which runs after every reset.
    pub version: Version,
    pub interrupts: Interrupts,
    /// Position of the C-bit in a physical address. Drivers set it in addresses when the host's own
    /// memory is encrypted; the firmware accepts and ignores it.
    pub c_bit: u32,
    /// Number of ASIDs, which are 1 to this.
    pub asids: u32,
    /// The first ASID of guests without SEV-ES; those below are for guests with it. A BIOS setting on
    /// real machines.
    pub first_sev_asid: u32,
    /// Whether the firmware has the ring buffer mode: AMD's published sources do, which are Genoa's and later.
    pub ring_buffer: bool,
}

/// The PSP runs a SEV firmware.
const CAP_SEV: u32 = 1 << 0;
/// The capability register itself reports the security state below. Without it Linux asks through
/// the platform access mailbox, which is not emulated.
const CAP_SECURITY_REPORTING: u32 = 1 << 7;
const CAP_FUSED_PART: u32 = 1 << 8;
const CAP_DEBUG_LOCK: u32 = 1 << 10;
const CAP_ANTI_ROLLBACK: u32 = 1 << 15;
const CAP_REPORTING: u32 =
    CAP_SEV | CAP_SECURITY_REPORTING | CAP_FUSED_PART | CAP_DEBUG_LOCK | CAP_ANTI_ROLLBACK;

/// EPYC 7001.
///
/// MSI alone, unlike hardware, so that one model takes a driver down that path.
pub static NAPLES: Model = Model {
    name: "naples",
    device_id: 0x1456,
    registers: PSP_V1,
    capability: CAP_SEV,
    bootloader: 0x0008_0046,
    version: Version {
        major: 0,
        minor: 17,
        build: 48,
    },
    interrupts: Interrupts::Msi,
    c_bit: 47,
    asids: 15,
    first_sev_asid: 1,
    ring_buffer: false,
};

/// EPYC 7002.
pub static ROME: Model = Model {
    name: "rome",
    device_id: 0x1486,
    registers: PSP_V2,
    capability: CAP_REPORTING,
    bootloader: 0x0013_0049,
    version: Version {
        major: 0,
        minor: 24,
        build: 15,
    },
    interrupts: Interrupts::MsiAndMsix,
    c_bit: 47,
    asids: 509,
    first_sev_asid: 100,
    ring_buffer: false,
};

/// EPYC 7003.
pub static MILAN: Model = Model {
    name: "milan",
    device_id: 0x1486,
    registers: PSP_V2,
    capability: CAP_REPORTING,
    bootloader: 0x0013_0072,
    version: Version {
        major: 1,
        minor: 55,
        build: 21,
    },
    interrupts: Interrupts::MsiAndMsix,
    c_bit: 51,
    asids: 509,
    first_sev_asid: 100,
    ring_buffer: false,
};

/// EPYC 9004.
pub static GENOA: Model = Model {
    name: "genoa",
    device_id: 0x14ca,
    registers: PSP_V2,
    capability: CAP_REPORTING,
    bootloader: 0x0029_0075,
    version: Version {
        major: 1,
        minor: 55,
        build: 37,
    },
    interrupts: Interrupts::MsiAndMsix,
    c_bit: 51,
    asids: 1006,
    first_sev_asid: 100,
    ring_buffer: true,
};

/// EPYC 9005.
pub static TURIN: Model = Model {
    name: "turin",
    device_id: 0x156e,
    registers: PSP_V6,
    capability: CAP_REPORTING,
    bootloader: 0x0043_0051,
    version: Version {
        major: 1,
        minor: 58,
        build: 1,
    },
    interrupts: Interrupts::MsiAndMsix,
    c_bit: 51,
    asids: 1006,
    first_sev_asid: 100,
    ring_buffer: true,
};

/// All models, oldest first.
pub static MODELS: [&Model; 5] = [&NAPLES, &ROME, &MILAN, &GENOA, &TURIN];

/// The name is none of [`MODELS`].
#[derive(Debug, thiserror::Error)]
#[error("unknown model \"{0}\" (known: naples, rome, milan, genoa, turin)")]
pub struct UnknownModel(String);

/// A model chosen by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelRef(pub &'static Model);

impl FromStr for ModelRef {
    type Err = UnknownModel;

    fn from_str(name: &str) -> Result<Self, UnknownModel> {
        let found = MODELS.iter().find(|model| model.name == name);
        found
            .map(|model| Self(model))
            .ok_or_else(|| UnknownModel(name.to_owned()))
    }
}
