// SPDX-License-Identifier: GPL-2.0
//! What differs between the processors that have SNP.

use crate::model::Model;

/// Security versions of the parts of the firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcb {
    /// Of the part that came with Turin; `None` before it.
    pub fmc: Option<u8>,
    pub boot_loader: u8,
    pub tee: u8,
    pub snp: u8,
    pub microcode: u8,
}

impl Tcb {
    /// As it lies in memory (SNP-ABI, "TCB Version").
    #[must_use]
    pub fn to_bytes(self) -> [u8; 8] {
        let (boot_loader, tee, snp) = (self.boot_loader, self.tee, self.snp);
        match self.fmc {
            Some(fmc) => [fmc, boot_loader, tee, snp, 0, 0, 0, self.microcode],
            None => [boot_loader, tee, 0, 0, 0, 0, snp, self.microcode],
        }
    }

    /// Whether each of these parts, as they lie in memory, is at most as new. Reserved bytes have to be zero.
    #[must_use]
    pub fn covers(self, bytes: [u8; 8]) -> bool {
        bytes
            .iter()
            .zip(self.to_bytes())
            .all(|(part, own)| *part <= own)
    }
}

/// A processor generation with SNP.
#[derive(Debug)]
pub struct Generation {
    /// Name in certificates.
    pub name: &'static str,
    /// Name and stepping in certificates.
    pub product: &'static str,
    /// CPUID family, model and stepping.
    pub cpuid: [u8; 3],
    /// CPUID 1 EAX.
    pub signature: u32,
    /// Version of its attestation reports.
    pub report_version: u32,
    /// The firmware in flash.
    pub tcb: Tcb,
    /// By how much the mean TSC frequency is below the nominal one, in hundred-thousandths.
    pub tsc_factor: u32,
}

static MILAN: Generation = Generation {
    name: "Milan",
    product: "Milan-B1",
    cpuid: [0x19, 0x01, 0x01],
    signature: 0x00a0_0f11,
    report_version: 2,
    tcb: Tcb {
        fmc: None,
        boot_loader: 4,
        tee: 0,
        snp: 24,
        microcode: 219,
    },
    tsc_factor: 0,
};

static GENOA: Generation = Generation {
    name: "Genoa",
    product: "Genoa-B1",
    cpuid: [0x19, 0x11, 0x01],
    signature: 0x00a1_0f11,
    report_version: 3,
    tcb: Tcb {
        fmc: None,
        boot_loader: 10,
        tee: 0,
        snp: 23,
        microcode: 84,
    },
    tsc_factor: 200,
};

static TURIN: Generation = Generation {
    name: "Turin",
    product: "Turin-C1",
    cpuid: [0x1a, 0x02, 0x01],
    signature: 0x00b0_0f21,
    report_version: 3,
    tcb: Tcb {
        fmc: Some(1),
        boot_loader: 1,
        tee: 1,
        snp: 4,
        microcode: 71,
    },
    tsc_factor: 200,
};

impl Generation {
    /// The generation of a model, or `None` if that has no SNP.
    #[must_use]
    pub fn of(model: &Model) -> Option<&'static Self> {
        match model.name {
            "milan" => Some(&MILAN),
            "genoa" => Some(&GENOA),
            "turin" => Some(&TURIN),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_parts_are_covered_and_newer_ones_are_not() {
        for generation in [&MILAN, &GENOA, &TURIN] {
            let own = generation.tcb.to_bytes();
            assert!(generation.tcb.covers(own));
            assert!(generation.tcb.covers([0; 8]));
            for part in 0..8 {
                let mut newer = own;
                newer[part] += 1;
                assert!(!generation.tcb.covers(newer), "{} {part}", generation.name);
            }
        }
    }
}
