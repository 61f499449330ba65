// SPDX-License-Identifier: GPL-2.0
//! What an EPYC host answers to `CPUID` and `RDMSR` about memory encryption. Pure tables, no QEMU.
//!
//! Leaves and registers: AMD 24593 (APM volume 2) rev 3.43, section 15.34, and AMD 24594 (APM volume 3) rev 3.37,
//! appendix E.4.

/// CPUID leaf of the SVM features.
const LEAF_SVM: u32 = 0x8000_000a;
/// CPUID leaf of the memory encryption features.
const LEAF_MEMORY_ENCRYPTION: u32 = 0x8000_001f;

/// MSR SYSCFG.
const MSR_SYSCFG: u32 = 0xc001_0010;
/// MSR HWCR.
const MSR_HWCR: u32 = 0xc001_0015;

/// SYSCFG: memory encryption is enabled.
const SYSCFG_MEM_ENCRYPT: u64 = 1 << 23;
/// HWCR: SMM is locked; Linux offers no SEV without.
const HWCR_SMM_LOCK: u64 = 1 << 0;

/// Leaf 0x8000001f EAX. SNP (bit 4) stays off until the lab has an RMP.
const SME: u32 = 1 << 0;
const SEV: u32 = 1 << 1;
const PAGE_FLUSH_MSR: u32 = 1 << 2;
const SEV_ES: u32 = 1 << 3;

/// Leaf 0x8000000a EDX. KVM offers no SEV without nested paging, next RIP, flush by ASID and decode assists.
const NESTED_PAGING: u32 = 1 << 0;
const LBR_VIRTUALIZATION: u32 = 1 << 1;
const NEXT_RIP_SAVE: u32 = 1 << 3;
const FLUSH_BY_ASID: u32 = 1 << 6;
const DECODE_ASSISTS: u32 = 1 << 7;

/// The registers a `CPUID` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cpuid {
    /// EAX.
    pub(crate) eax: u32,
    /// EBX.
    pub(crate) ebx: u32,
    /// ECX.
    pub(crate) ecx: u32,
    /// EDX.
    pub(crate) edx: u32,
}

/// What differs between EPYC generations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Model {
    name: &'static str,
    /// Position of the C-bit in an address.
    c_bit: u32,
    /// Number of encrypted guests the memory controller has keys for.
    asids: u32,
    /// The first ASID of a SEV guest; those below are for SEV-ES. A BIOS setting on real machines.
    first_sev_asid: u32,
}

/// The known generations.
pub(crate) const MODELS: [Model; 5] = [
    Model {
        name: "naples",
        c_bit: 47,
        asids: 15,
        first_sev_asid: 1,
    },
    Model {
        name: "rome",
        c_bit: 47,
        asids: 509,
        first_sev_asid: 100,
    },
    Model {
        name: "milan",
        c_bit: 51,
        asids: 509,
        first_sev_asid: 100,
    },
    Model {
        name: "genoa",
        c_bit: 51,
        asids: 1006,
        first_sev_asid: 100,
    },
    Model {
        name: "turin",
        c_bit: 51,
        asids: 1006,
        first_sev_asid: 100,
    },
];

impl Model {
    /// The generation of that name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        MODELS.into_iter().find(|model| model.name == name)
    }

    /// The answer to `CPUID` with `leaf` in EAX; `None` leaves it to QEMU.
    pub(crate) fn cpuid(&self, leaf: u32) -> Option<Cpuid> {
        match leaf {
            LEAF_SVM => Some(Cpuid {
                eax: 1,      // revision
                ebx: 0x8000, // ASIDs
                ecx: 0,
                edx: NESTED_PAGING
                    | LBR_VIRTUALIZATION
                    | NEXT_RIP_SAVE
                    | FLUSH_BY_ASID
                    | DECODE_ASSISTS,
            }),
            LEAF_MEMORY_ENCRYPTION => Some(Cpuid {
                eax: SME | SEV | PAGE_FLUSH_MSR | SEV_ES,
                // EBX 11:6, the reduction of physical address bits, is 0: QEMU's TCG has 40 bits, all of them in use.
                ebx: self.c_bit,
                ecx: self.asids,
                edx: self.first_sev_asid,
            }),
            _ => None,
        }
    }

    /// The answer to `RDMSR` of `msr`; `None` leaves it to QEMU.
    pub(crate) fn rdmsr(&self, msr: u32) -> Option<u64> {
        match msr {
            MSR_SYSCFG => Some(SYSCFG_MEM_ENCRYPT),
            MSR_HWCR => Some(HWCR_SMM_LOCK),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Raw numbers, as read on the real machines but for EBX 11:6 and the BIOS's choice of EDX.
    #[test]
    fn leaf_8000001f_per_model() {
        let expected = [
            ("naples", [0xf, 47, 15, 1]),
            ("rome", [0xf, 47, 509, 100]),
            ("milan", [0xf, 51, 509, 100]),
            ("genoa", [0xf, 51, 1006, 100]),
            ("turin", [0xf, 51, 1006, 100]),
        ];
        for (name, [eax, ebx, ecx, edx]) in expected {
            let model = Model::from_name(name).unwrap();
            assert_eq!(
                model.cpuid(0x8000_001f),
                Some(Cpuid { eax, ebx, ecx, edx }),
                "{name}"
            );
        }
    }

    #[test]
    fn kvm_finds_the_svm_features_it_wants() {
        assert_eq!(MODELS[0].cpuid(0x8000_000a).unwrap().edx, 0xcb);
    }

    #[test]
    fn memory_encryption_is_on_and_smm_locked() {
        assert_eq!(MODELS[2].rdmsr(0xc001_0010), Some(0x80_0000));
        assert_eq!(MODELS[2].rdmsr(0xc001_0015), Some(1));
    }

    #[test]
    fn everything_else_is_left_to_qemu() {
        assert_eq!(MODELS[2].cpuid(0), None);
        assert_eq!(MODELS[2].cpuid(0x8000_0008), None);
        assert_eq!(MODELS[2].rdmsr(0xc000_0080), None);
        assert_eq!(Model::from_name("bergamo"), None);
    }
}
