// SPDX-License-Identifier: GPL-2.0

//! What protects this VM, as CPUID and SEV_STATUS tell.
//!
//! CPUID lists what could be used, SEV_STATUS what is in use. Both are the host's word unless the VM
//! is at least a SEV-ES one; what they say is therefore checked for contradictions, not believed.

use crate::bits::word;

mod protection;

pub use protection::{Contradiction, Level, Protection};

/// The CPUID leaf of memory encryption.
pub const CPUID_LEAF: u32 = 0x8000_001f;

/// The model-specific register of [`SevStatus`].
pub const MSR_SEV_STATUS: u32 = 0xc001_0131;

word! {
    /// What the processor, or the host in its place, offers: CPUID 0x8000001F EAX (APM3 E.4.17; the
    /// names are those of `/proc/cpuinfo` where Linux shows them).
    Features {
        /// Secure Memory Encryption: of the host's own memory.
        SME = 0, "SME", "sme";
        /// Secure Encrypted Virtualization.
        SEV = 1, "SEV", "sev";
        /// The VM Page Flush register exists.
        VM_PAGE_FLUSH = 2, "VM_PAGE_FLUSH", "vm_page_flush";
        /// SEV with encrypted registers.
        SEV_ES = 3, "SEV-ES", "sev_es";
        /// SEV with integrity of memory.
        SEV_SNP = 4, "SEV-SNP", "sev_snp";
        /// VM permission levels.
        VMPL = 5, "VMPL", "vmpl";
        /// The RMPQUERY instruction exists.
        RMPQUERY = 6, "RMPQUERY", "rmpquery";
        /// Supervisor shadow stacks of VM permission levels.
        VMPL_SSS = 7, "VMPL_SSS", "vmpl_sss";
        /// A time-stamp counter out of the host's reach.
        SECURE_TSC = 8, "SECURE_TSC", "secure_tsc";
        /// TSC_AUX is virtualised.
        V_TSC_AUX = 9, "V_TSC_AUX", "v_tsc_aux";
        /// Caches are coherent between private and shared views.
        SME_COHERENT = 10, "SME_COHERENT", "sme_coherent";
        /// Guests need a 64-bit hypervisor.
        REQ_64BIT_HV = 11, "REQ_64BIT_HV", "req_64bit_hv";
        /// Restricted injection of interrupts.
        RESTRICTED_INJECTION = 12, "RESTRICTED_INJECTION", "restricted_injection";
        /// Alternate injection of interrupts.
        ALTERNATE_INJECTION = 13, "ALTERNATE_INJECTION", "alternate_injection";
        /// Debug registers are swapped with the guest's.
        DEBUG_SWAP = 14, "DEBUG_SWAP", "debug_swap";
        /// A guest can keep the host from sampling it.
        PREVENT_HOST_IBS = 15, "PREVENT_HOST_IBS", "prevent_host_ibs";
        /// Virtual transparent encryption.
        VTE = 16, "VTE", "vte";
        /// Parameters of VMGEXIT.
        VMGEXIT_PARAM = 17, "VMGEXIT_PARAM", "vmgexit_param";
        /// The virtual top of memory register exists.
        VTOM_MSR = 18, "VTOM_MSR", "vtom_msr";
        /// Instruction-based sampling is virtualised.
        IBS_VIRT = 19, "IBS_VIRT", "ibs_virt";
        /// Performance counters are virtualised.
        PMC_VIRT = 20, "PMC_VIRT", "pmc_virt";
        /// The RMPREAD instruction exists.
        RMPREAD = 21, "RMPREAD", "rmpread";
        /// A guest can control what is intercepted.
        GUEST_INTERCEPT_CONTROL = 22, "GUEST_INTERCEPT_CONTROL", "guest_intercept_control";
        /// The reverse map may be in segments.
        SEGMENTED_RMP = 23, "SEGMENTED_RMP", "segmented_rmp";
        /// Registers in the VMSA are scrambled.
        VMSA_REG_PROT = 24, "VMSA_REG_PROT", "vmsa_reg_prot";
        /// Protection from the sibling thread.
        SMT_PROT = 25, "SMT_PROT", "smt_prot";
        /// An interrupt controller out of the host's reach.
        SECURE_AVIC = 26, "SECURE_AVIC", "secure_avic";
        /// The host can limit the features of a guest.
        ALLOWED_SEV_FEATURES = 27, "ALLOWED_SEV_FEATURES", "allowed_sev_features";
        /// The register of the SVSM's communication page exists: there is an SVSM.
        SVSM = 28, "SVSM", "svsm";
        /// Registers for nested SNP exist.
        NESTED_SNP = 29, "NESTED_SNP", "nested_snp";
        /// The host may write pages of its own that are in use.
        HV_INUSE_WR_ALLOWED = 30, "HV_INUSE_WR_ALLOWED", "hv_inuse_wr_allowed";
        /// A branch predictor barrier on entry to the guest.
        IBPB_ON_ENTRY = 31, "IBPB_ON_ENTRY", "ibpb_on_entry";
    }
}

word! {
    /// What is on in this VM: SEV_STATUS, the register 0xC0010131 (APM2 15.34.10; the names are those
    /// of Linux' log line "SEV: Status:").
    SevStatus {
        /// Memory is encrypted.
        SEV = 0, "SEV", "sev";
        /// Registers are encrypted, too.
        SEV_ES = 1, "SEV-ES", "sev_es";
        /// The host cannot change, swap or alias private pages.
        SEV_SNP = 2, "SEV-SNP", "sev_snp";
        /// What is above the virtual top of memory is shared, all else is private.
        VTOM = 3, "vTom", "vtom";
        /// Exceptions of the GHCB protocol go to a higher permission level.
        REFLECT_VC = 4, "ReflectVC", "reflect_vc";
        /// The host injects nothing but #HV.
        RESTRICTED_INJECTION = 5, "RI", "restricted_injection";
        /// A higher permission level injects.
        ALTERNATE_INJECTION = 6, "AI", "alternate_injection";
        /// Debug registers are swapped with the guest's.
        DEBUG_SWAP = 7, "DebugSwap", "debug_swap";
        /// The host cannot sample the guest.
        PREVENT_HOST_IBS = 8, "NoHostIBS", "prevent_host_ibs";
        /// Branch predictions of the host do not reach the guest.
        BTB_ISOLATION = 9, "BTBIsol", "btb_isolation";
        /// Supervisor shadow stacks of VM permission levels.
        VMPL_SSS = 10, "VmplSSS", "vmpl_sss";
        /// The time-stamp counter is out of the host's reach.
        SECURE_TSC = 11, "SecureTSC", "secure_tsc";
        /// VMGEXIT takes parameters.
        VMGEXIT_PARAM = 12, "VMGExitParam", "vmgexit_param";
        /// Instruction-based sampling is virtualised.
        IBS_VIRT = 14, "IBSVirt", "ibs_virt";
        /// Registers in the VMSA are scrambled.
        VMSA_REG_PROT = 16, "VMSARegProt", "vmsa_reg_prot";
        /// The sibling thread is idle or the guest's.
        SMT_PROT = 17, "SMTProt", "smt_prot";
        /// The interrupt controller is out of the host's reach.
        SECURE_AVIC = 18, "SecureAVIC", "secure_avic";
        /// A branch predictor barrier on entry to the guest.
        IBPB_ON_ENTRY = 23, "IBPBOnEntry", "ibpb_on_entry";
    }
}

impl SevStatus {
    /// Parts of SEV_FEATURES in the VMSA, which only a SEV-ES guest has.
    const NEED_ES: u64 = !Self::from_raw(u64::MAX).unknown()
        & !(Self::SEV.raw() | Self::SEV_ES.raw() | Self::SEV_SNP.raw());
}

/// CPUID leaf 0x8000001F, all four registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncryptionLeaf {
    /// EAX; see [`Features`].
    pub eax: u32,
    /// EBX: C-bit and address space, [`EncryptionLeaf::c_bit`] and the others below.
    pub ebx: u32,
    /// ECX: how many encrypted guests the processor has keys for.
    pub ecx: u32,
    /// EDX: the lowest ASID of a SEV guest without SEV-ES.
    pub edx: u32,
}

impl EncryptionLeaf {
    /// Bits of EBX that nothing is known about.
    const UNKNOWN_EBX: u32 = 0x7fff_0000;

    /// What is offered.
    pub const fn features(self) -> Features {
        // CAST: widening u32 to u64 in a const context.
        Features::from_raw(self.eax as u64)
    }

    /// Number of the address bit that says private (EBX 5:0), as the register has it: 0 to 63.
    pub const fn c_bit(self) -> u32 {
        self.ebx & 0x3f
    }

    /// By how many bits physical addresses get shorter with encryption (EBX 11:6).
    pub const fn address_reduction(self) -> u32 {
        (self.ebx >> 6) & 0x3f
    }

    /// How many VM permission levels there are (EBX 15:12).
    pub const fn vmpls(self) -> u32 {
        (self.ebx >> 12) & 0xf
    }

    /// Whether pages must be touched cache line by cache line after they have become private, as older
    /// processors demand (EBX 31 is clear; Linux: `X86_FEATURE_COHERENCY_SFW_NO`).
    pub const fn needs_cache_eviction(self) -> bool {
        self.ebx & 1 << 31 == 0
    }

    /// The bits of EBX that are set and have no meaning known here.
    pub const fn unknown_ebx(self) -> u32 {
        self.ebx & Self::UNKNOWN_EBX
    }

    /// How many encrypted guests the processor has keys for.
    pub const fn asids(self) -> u32 {
        self.ecx
    }

    /// The lowest ASID of a SEV guest without SEV-ES; those below are for SEV-ES and SEV-SNP.
    pub const fn min_sev_asid(self) -> u32 {
        self.edx
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::bits::Bit;
    use std::collections::BTreeSet;
    use std::string::ToString;

    #[test]
    fn the_leaf_is_taken_apart() {
        // An EPYC 9004: SEV-SNP, C-bit 51, 5 bits fewer, 4 levels, 1006 keys, SEV from 100 on.
        let milan = EncryptionLeaf {
            eax: 0x01fd_3fdf,
            ebx: 0x0000_4173,
            ecx: 1006,
            edx: 100,
        };
        assert_eq!(
            (milan.c_bit(), milan.address_reduction(), milan.vmpls()),
            (51, 5, 4)
        );
        assert_eq!((milan.asids(), milan.min_sev_asid()), (1006, 100));
        assert!(milan.features().contains(Features::SEV_SNP));
        assert!(!milan.features().contains(Features::VMPL));
        assert!(milan.needs_cache_eviction());
        let newer = EncryptionLeaf {
            ebx: 0x8001_4173,
            ..milan
        };
        assert!(!newer.needs_cache_eviction());
        assert_eq!((milan.unknown_ebx(), newer.unknown_ebx()), (0, 0x1_0000));
    }

    #[test]
    fn status_bits_have_the_names_of_linux_log_line() {
        let all = "SEV SEV-ES SEV-SNP vTom ReflectVC RI AI DebugSwap NoHostIBS BTBIsol VmplSSS SecureTSC \
                   VMGExitParam bit 13 (unknown) IBSVirt bit 15 (unknown) VMSARegProt SMTProt SecureAVIC";
        assert_eq!(SevStatus::from_raw(0x7_ffff).bits().to_string(), all);
        let status = SevStatus::from_raw(1 << 63 | 1 << 23 | 1 << 22 | 3);
        assert_eq!(
            status.bits().to_string(),
            "SEV SEV-ES bit 22 (unknown) IBPBOnEntry bit 63 (unknown)"
        );
        assert_eq!(status.unknown(), 1 << 63 | 1 << 22);
    }

    fn names_are_file_names(table: &[Bit]) {
        let names: BTreeSet<_> = table.iter().map(|bit| bit.sysfs).collect();
        assert_eq!(names.len(), table.len());
        for name in names {
            assert!(name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
        }
        assert!(table.is_sorted_by(|a, b| a.index < b.index));
    }

    #[test]
    fn every_bit_has_a_file_name_of_its_own() {
        names_are_file_names(Features::BITS);
        names_are_file_names(SevStatus::BITS);
        assert_eq!((Features::BITS.len(), SevStatus::BITS.len()), (32, 18));
    }
}
