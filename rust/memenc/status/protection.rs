// SPDX-License-Identifier: GPL-2.0

//! What protects this VM, or why what CPUID and SEV_STATUS say cannot be true.

use core::fmt;

use super::{EncryptionLeaf, Features, SevStatus};
use crate::cbit::{self, Encoding};

/// How much is protected: each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    None,
    /// Memory is encrypted.
    Sev,
    /// Registers, too.
    SevEs,
    /// And the host can change neither.
    SevSnp,
}

impl Level {
    /// Every level, lowest first.
    pub const ALL: [Level; 4] = [Level::None, Level::Sev, Level::SevEs, Level::SevSnp];

    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Level::None => "none",
            Level::Sev => "SEV",
            Level::SevEs => "SEV-ES",
            Level::SevSnp => "SEV-SNP",
        }
    }

    /// For programs: lower case and `_`.
    pub const fn sysfs(self) -> &'static str {
        match self {
            Level::None => "none",
            Level::Sev => "sev",
            Level::SevEs => "sev_es",
            Level::SevSnp => "sev_snp",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What protects this VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Nothing: no VM at all, or not an encrypted one.
    None,
    /// A C-bit tells private from shared memory.
    CBit {
        /// How much is protected.
        level: Level,
        /// Where the C-bit is.
        encoding: Encoding,
    },
    /// SEV-SNP with a virtual top of memory; the hypervisor's interface tells where.
    Vtom,
}

impl Protection {
    /// From the leaf, `None` if there is no such leaf, and SEV_STATUS, which has to be given as zero if
    /// the leaf offers no SEV (the register does not exist then).
    ///
    /// # Errors
    ///
    /// The two contradict each other or themselves: then nothing can be relied on.
    pub const fn new(
        leaf: Option<EncryptionLeaf>,
        status: SevStatus,
    ) -> Result<Self, Contradiction> {
        let sev = status.contains(SevStatus::SEV);
        let es = status.contains(SevStatus::SEV_ES);
        let snp = status.contains(SevStatus::SEV_SNP);
        if es && !sev {
            return Err(Contradiction::EsWithoutSev);
        }
        if snp && !es {
            return Err(Contradiction::SnpWithoutEs);
        }
        if status.contains(SevStatus::VTOM) && !snp {
            return Err(Contradiction::VtomWithoutSnp);
        }
        let alone = status.raw() & SevStatus::NEED_ES;
        if alone != 0 && !es {
            return Err(Contradiction::FeatureWithoutEs {
                bit: alone.trailing_zeros(),
            });
        }
        if !sev {
            return Ok(Protection::None);
        }
        let leaf = match leaf {
            Some(leaf) if leaf.features().contains(Features::SEV) => leaf,
            _ => return Err(Contradiction::NotOffered),
        };
        if status.contains(SevStatus::VTOM) {
            return Ok(Protection::Vtom);
        }
        let level = match (es, snp) {
            (_, true) => Level::SevSnp,
            (true, _) => Level::SevEs,
            _ => Level::Sev,
        };
        match Encoding::c_bit(leaf.c_bit()) {
            Some(encoding) => Ok(Protection::CBit { level, encoding }),
            None => Err(Contradiction::CBitPosition(leaf.c_bit())),
        }
    }

    /// How much is protected.
    pub const fn level(self) -> Level {
        match self {
            Protection::None => Level::None,
            Protection::CBit { level, .. } => level,
            Protection::Vtom => Level::SevSnp,
        }
    }

    /// Where the C-bit is, if there is one.
    pub const fn encoding(self) -> Option<Encoding> {
        match self {
            Protection::CBit { encoding, .. } => Some(encoding),
            Protection::None | Protection::Vtom => None,
        }
    }
}

/// For the log: `SEV-ES, C-bit 51`, `SEV-SNP, vTOM`, `none`.
impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Protection::None => f.write_str("none"),
            Protection::CBit { level, encoding } => {
                write!(f, "{level}, C-bit {}", encoding.position())
            }
            Protection::Vtom => f.write_str("SEV-SNP, vTOM"),
        }
    }
}

/// How CPUID and SEV_STATUS cannot both be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contradiction {
    /// SEV-ES is said to be on, SEV off.
    EsWithoutSev,
    /// SEV-SNP is said to be on, SEV-ES off.
    SnpWithoutEs,
    /// vTOM is said to be on, SEV-SNP off.
    VtomWithoutSnp,
    /// A feature is said to be on that is only for SEV-ES guests, and SEV-ES off.
    FeatureWithoutEs {
        /// Its bit in SEV_STATUS.
        bit: u32,
    },
    /// SEV is said to be on, and CPUID does not list it.
    NotOffered,
    /// There can be no C-bit where CPUID says it is.
    CBitPosition(u32),
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Contradiction::EsWithoutSev => f.write_str("SEV_STATUS has SEV-ES without SEV"),
            Contradiction::SnpWithoutEs => f.write_str("SEV_STATUS has SEV-SNP without SEV-ES"),
            Contradiction::VtomWithoutSnp => f.write_str("SEV_STATUS has vTOM without SEV-SNP"),
            Contradiction::FeatureWithoutEs { bit } => {
                let feature = SevStatus::from_raw(1u64.checked_shl(*bit).unwrap_or(0));
                write!(f, "SEV_STATUS has {} without SEV-ES", feature.bits())
            }
            Contradiction::NotOffered => {
                f.write_str("SEV_STATUS has SEV, but CPUID 0x8000001f does not")
            }
            Contradiction::CBitPosition(position) => write!(
                f,
                "CPUID 0x8000001f has the C-bit at {position}, not within {} to {}",
                cbit::LOWEST,
                cbit::HIGHEST
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::prelude::*;
    use std::{format, string::ToString};

    fn leaf(eax: u32, c_bit: u32) -> Option<EncryptionLeaf> {
        Some(EncryptionLeaf {
            eax,
            ebx: c_bit,
            ecx: 0,
            edx: 0,
        })
    }

    /// With everything on offer and the C-bit at 51.
    fn protection(status: u64) -> Result<Protection, Contradiction> {
        Protection::new(leaf(u32::MAX, 51), SevStatus::from_raw(status))
    }

    #[test]
    fn each_level_is_told() {
        for (status, level, text) in [
            (0, Level::None, "none"),
            (1 << 13, Level::None, "none"),
            (1, Level::Sev, "SEV, C-bit 51"),
            (3, Level::SevEs, "SEV-ES, C-bit 51"),
            (0x83, Level::SevEs, "SEV-ES, C-bit 51"),
            (7, Level::SevSnp, "SEV-SNP, C-bit 51"),
            (0xf, Level::SevSnp, "SEV-SNP, vTOM"),
        ] {
            let protection = protection(status).unwrap();
            assert_eq!(protection.level(), level);
            assert_eq!(format!("{protection}"), text);
        }
        assert_eq!(protection(1).unwrap().encoding(), Encoding::c_bit(51));
        assert_eq!(protection(0xf).unwrap().encoding(), None);
    }

    #[test]
    fn contradictions_are_told_in_words() {
        for (found, told) in [
            (protection(2), "SEV_STATUS has SEV-ES without SEV"),
            (protection(5), "SEV_STATUS has SEV-SNP without SEV-ES"),
            (protection(4), "SEV_STATUS has SEV-SNP without SEV-ES"),
            (protection(0xb), "SEV_STATUS has vTOM without SEV-SNP"),
            (protection(0x801), "SEV_STATUS has SecureTSC without SEV-ES"),
            (protection(0x800), "SEV_STATUS has SecureTSC without SEV-ES"),
            (
                Protection::new(None, SevStatus::SEV),
                "SEV_STATUS has SEV, but CPUID 0x8000001f does not",
            ),
            (
                Protection::new(leaf(1, 51), SevStatus::SEV),
                "SEV_STATUS has SEV, but CPUID 0x8000001f does not",
            ),
            (
                Protection::new(leaf(2, 31), SevStatus::SEV),
                "CPUID 0x8000001f has the C-bit at 31, not within 32 to 51",
            ),
            (
                Protection::new(leaf(2, 52), SevStatus::SEV),
                "CPUID 0x8000001f has the C-bit at 52, not within 32 to 51",
            ),
        ] {
            assert_eq!(found.unwrap_err().to_string(), told);
        }
        // The C-bit of a host, or of a VM that does not use it, is nobody's business.
        assert_eq!(
            Protection::new(leaf(3, 52), SevStatus::from_raw(0)),
            Ok(Protection::None)
        );
    }

    proptest! {
        #![proptest_config(crate::cases())]

        #[test]
        fn any_register_is_answered(eax: u32, ebx: u32, status in prop_oneof![any::<u64>(), 0..32u64]) {
            let leaf = EncryptionLeaf { eax, ebx, ecx: 0, edx: 0 };
            let status = SevStatus::from_raw(status);
            let bits = status.bits().fold(0, |bits, bit| bits | 1u64 << bit.index);
            prop_assert_eq!(bits, status.raw());
            match Protection::new(Some(leaf), status) {
                // An independent reading: the level is how many of the low three bits are set from below.
                Ok(found) => prop_assert_eq!(
                    found.level(),
                    Level::ALL[(status.raw() & 7).trailing_ones() as usize]
                ),
                Err(why) => prop_assert!(!why.to_string().is_empty()),
            }
        }
    }
}
