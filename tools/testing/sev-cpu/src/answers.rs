// SPDX-License-Identifier: GPL-2.0
//! What a processor answers to `CPUID` and `RDMSR` about memory encryption: an EPYC host's, a SEV guest's, one without.
//! Pure tables, no QEMU.
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
/// MSR SEV_STATUS.
const MSR_SEV_STATUS: u32 = 0xc001_0131;

/// SYSCFG: memory encryption is enabled.
const SYSCFG_MEM_ENCRYPT: u64 = 1 << 23;
/// HWCR: SMM is locked; Linux offers no SEV without.
const HWCR_SMM_LOCK: u64 = 1 << 0;

/// Leaf 0x8000001f EAX. SNP (bit 4) stays off until the lab has an RMP.
const SME: u32 = 1 << 0;
const SEV: u32 = 1 << 1;
const PAGE_FLUSH_MSR: u32 = 1 << 2;
const SEV_ES: u32 = 1 << 3;

/// Leaf 0x8000001f EBX: the reduction of physical address bits is from this bit on.
const REDUCTION_SHIFT: u32 = 6;

/// The guest's C-bit: TCG has 40 physical address bits, and the lab's private memory is the upper half.
const GUEST_C_BIT: u32 = 39;

/// Leaf 0x8000000a EDX. KVM offers no SEV without nested paging, next RIP, flush by ASID and decode assists.
const NESTED_PAGING: u32 = 1 << 0;
const LBR_VIRTUALIZATION: u32 = 1 << 1;
const NEXT_RIP_SAVE: u32 = 1 << 3;
const FLUSH_BY_ASID: u32 = 1 << 6;
const DECODE_ASSISTS: u32 = 1 << 7;

/// Whose processor it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// An EPYC host of that generation.
    Host(Model),
    /// In a SEV guest, whose MSR SEV_STATUS has that value.
    Guest(u64),
    /// One that says no more than QEMU's own.
    Plain,
}

impl Role {
    /// The answer to `CPUID` with `leaf` in EAX; `None` leaves it to QEMU.
    pub(crate) fn cpuid(&self, leaf: u32) -> Option<Cpuid> {
        match self {
            Self::Host(model) => model.cpuid(leaf),
            Self::Guest(_) => (leaf == LEAF_MEMORY_ENCRYPTION).then_some(Cpuid {
                eax: SEV,
                ebx: GUEST_C_BIT | 1 << REDUCTION_SHIFT,
                ecx: 0, // ASIDs are the host's
                edx: 0,
            }),
            Self::Plain => None,
        }
    }

    /// The answer to `RDMSR` of `msr`; `None` leaves it to QEMU.
    pub(crate) fn rdmsr(&self, msr: u32) -> Option<u64> {
        match self {
            Self::Host(model) => model.rdmsr(msr),
            Self::Guest(status) => (msr == MSR_SEV_STATUS).then_some(*status),
            Self::Plain => None,
        }
    }
}

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

    fn cpuid(&self, leaf: u32) -> Option<Cpuid> {
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
                // The reduction of physical address bits is 0: QEMU's TCG has 40 bits, all of them in use.
                ebx: self.c_bit,
                ecx: self.asids,
                edx: self.first_sev_asid,
            }),
            _ => None,
        }
    }

    fn rdmsr(&self, msr: u32) -> Option<u64> {
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
    fn a_guest_has_its_leaf_and_its_msr() {
        let guest = Role::Guest(0x5);
        let [eax, ebx, ecx, edx] = [2, 39 | 1 << 6, 0, 0];
        assert_eq!(guest.cpuid(0x8000_001f), Some(Cpuid { eax, ebx, ecx, edx }));
        assert_eq!(guest.rdmsr(0xc001_0131), Some(0x5));
    }

    #[test]
    fn nothing_of_the_host_is_seen_elsewhere() {
        for role in [Role::Guest(1), Role::Plain] {
            assert_eq!(role.cpuid(0x8000_000a), None, "{role:?}");
            assert_eq!(role.rdmsr(0xc001_0010), None, "{role:?}");
            assert_eq!(role.rdmsr(0xc001_0015), None, "{role:?}");
        }
        assert_eq!(Role::Plain.cpuid(0x8000_001f), None);
        assert_eq!(Role::Plain.rdmsr(0xc001_0131), None);
        assert_eq!(Role::Host(MODELS[2]).rdmsr(0xc001_0131), None);
    }

    #[test]
    fn a_host_answers_as_its_model() {
        let host = Role::Host(MODELS[3]);
        assert_eq!(host.cpuid(0x8000_001f).unwrap().ecx, 1006);
        assert_eq!(host.rdmsr(0xc001_0015), Some(1));
    }

    #[test]
    fn everything_else_is_left_to_qemu() {
        assert_eq!(MODELS[2].cpuid(0), None);
        assert_eq!(MODELS[2].cpuid(0x8000_0008), None);
        assert_eq!(MODELS[2].rdmsr(0xc000_0080), None);
        assert_eq!(Model::from_name("bergamo"), None);
    }
}
