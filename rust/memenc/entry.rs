// SPDX-License-Identifier: GPL-2.0

//! Entries of page tables in long mode: what one maps, or which table comes next (APM2 5.3).
//!
//! Levels are counted as Linux' `PG_LEVEL_*`: entries of level 1 map 4 KiB, those of level 2 cover
//! 2 MiB, of level 3 1 GiB, of level 4 512 GiB, of level 5 256 TiB.

use crate::cbit::Encoding;

/// The entry maps something or points to a table.
pub const PRESENT: u64 = 1 << 0;
/// Writes are allowed.
pub const WRITABLE: u64 = 1 << 1;
/// User mode is allowed.
pub const USER: u64 = 1 << 2;
/// The processor used the entry.
pub const ACCESSED: u64 = 1 << 5;
/// The processor wrote to the page.
pub const DIRTY: u64 = 1 << 6;
/// At levels 2 and 3: the entry maps a page and points to no table.
pub const PSE: u64 = 1 << 7;
/// At level 1, where [`PSE`] is in larger leaves: the highest bit of the memory type.
pub const PAT: u64 = 1 << 7;
/// The translation outlives a change of CR3.
pub const GLOBAL: u64 = 1 << 8;
/// In leaves of levels 2 and 3: the highest bit of the memory type.
pub const PAT_LARGE: u64 = 1 << 12;
/// No instruction may be fetched.
pub const NX: u64 = 1 << 63;

/// The bits that can be part of an address, C-bit and vTOM bit among them.
pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Entries of a table.
pub const ENTRIES: u64 = 512;

/// How much one entry of a level covers, in bytes; `level` is 1 to 5.
pub const fn span(level: u32) -> u64 {
    1 << (12 + 9 * (if level > 5 { 5 } else { level }).saturating_sub(1))
}

/// Size of a page that one entry maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PageSize {
    /// 4 KiB, level 1.
    Size4K,
    /// 2 MiB, level 2.
    Size2M,
    /// 1 GiB, level 3.
    Size1G,
}

impl PageSize {
    /// The level of a leaf that maps it.
    pub const fn level(self) -> u32 {
        match self {
            PageSize::Size4K => 1,
            PageSize::Size2M => 2,
            PageSize::Size1G => 3,
        }
    }

    /// What a leaf of this level maps; `None` above level 3.
    pub const fn of_level(level: u32) -> Option<Self> {
        match level {
            1 => Some(PageSize::Size4K),
            2 => Some(PageSize::Size2M),
            3 => Some(PageSize::Size1G),
            _ => None,
        }
    }

    /// In bytes.
    pub const fn bytes(self) -> u64 {
        span(self.level())
    }
}

/// How many levels of tables there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Levels {
    /// 48-bit virtual addresses.
    Four,
    /// 57-bit virtual addresses (CR4.LA57).
    Five,
}

impl Levels {
    /// As a number.
    pub const fn count(self) -> u32 {
        match self {
            Levels::Four => 4,
            Levels::Five => 5,
        }
    }

    /// Bits of a virtual address.
    pub const fn va_bits(self) -> u32 {
        12 + 9 * self.count()
    }
}

/// A table, or the page that an entry maps: where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The address without C-bit or vTOM bit.
    pub gpa: u64,
    /// Whether it is private memory.
    pub private: bool,
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Nothing: it is not present.
    Hole,
    /// Go on in this table.
    Table(Place),
    /// It maps a page.
    Leaf(Place, PageSize),
    /// It has these bits set that must be zero; the processor would fault.
    Reserved(u64),
}

/// How this machine's entries are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging {
    /// The bit that tells private from shared.
    pub encoding: Encoding,
    /// How deep tables are nested.
    pub levels: Levels,
    /// Address bits that exist; those above, but for the encoding's, must be zero. 52 for all.
    pub phys_bits: u32,
}

impl Paging {
    /// With every address bit.
    pub const fn new(encoding: Encoding, levels: Levels) -> Self {
        Paging {
            encoding,
            levels,
            phys_bits: 52,
        }
    }

    /// Where a CR3 value, or an entry that points to a table, points to.
    pub const fn table(&self, entry: u64) -> Place {
        Place {
            gpa: self.encoding.strip(entry & ADDRESS),
            private: self.encoding.is_private(entry),
        }
    }

    /// What an entry at `level` says.
    pub const fn meaning(&self, entry: u64, level: u32) -> Meaning {
        if entry & PRESENT == 0 {
            return Meaning::Hole;
        }
        let missing = match u64::MAX.checked_shl(self.phys_bits) {
            Some(missing) => missing & ADDRESS,
            None => 0,
        };
        let mut reserved = self.encoding.strip(missing);
        let leaf = level <= 1 || entry & PSE != 0;
        let size = match PageSize::of_level(level) {
            Some(size) if leaf => size,
            None if leaf => return Meaning::Reserved(PSE | entry & reserved),
            _ if entry & reserved != 0 => return Meaning::Reserved(entry & reserved),
            _ => return Meaning::Table(self.table(entry)),
        };
        let offset = (size.bytes() - 1) & ADDRESS;
        if level > 1 {
            reserved |= offset & !PAT_LARGE;
        }
        if entry & reserved != 0 {
            return Meaning::Reserved(entry & reserved);
        }
        let place = Place {
            gpa: self.encoding.strip(entry & ADDRESS & !offset),
            private: self.encoding.is_private(entry),
        };
        Meaning::Leaf(place, size)
    }

    /// What of a virtual address the tables translate: without the bits that only repeat its highest.
    /// Counts on from the user to the kernel half without a gap.
    pub const fn linear(&self, va: u64) -> u64 {
        va & ((1 << self.levels.va_bits()) - 1)
    }

    /// The virtual address; the reverse of [`Paging::linear`].
    pub const fn canonical(&self, linear: u64) -> u64 {
        let linear = self.linear(linear);
        if linear >> (self.levels.va_bits() - 1) == 0 {
            linear
        } else {
            linear | !((1 << self.levels.va_bits()) - 1)
        }
    }

    /// First and last virtual address of the kernel's half.
    pub const fn kernel_half(&self) -> (u64, u64) {
        (self.canonical(1 << (self.levels.va_bits() - 1)), u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGING: Paging = Paging {
        encoding: Encoding::c_bit(47).unwrap(),
        levels: Levels::Four,
        phys_bits: 46,
    };
    const C: u64 = 1 << 47;

    #[test]
    fn entries_say_what_the_manual_says() {
        use Meaning::*;
        use PageSize::*;
        let place = |gpa, private| Place { gpa, private };
        for (entry, level, meaning) in [
            (0, 1, Hole),
            (!PRESENT, 3, Hole),
            (C | 0x1234_5067, 1, Leaf(place(0x1234_5000, true), Size4K)),
            // Bit 7 is PAT here, and bit 12 an address bit.
            (0x1234_50e7, 1, Leaf(place(0x1234_5000, false), Size4K)),
            (NX | 0x1234_5163, 1, Leaf(place(0x1234_5000, false), Size4K)),
            (C | 0x1234_5067, 2, Table(place(0x1234_5000, true))),
            // Bit 12 is PAT here.
            (C | 0x1220_10e7, 2, Leaf(place(0x1220_0000, true), Size2M)),
            (0x1220_00e7, 2, Leaf(place(0x1220_0000, false), Size2M)),
            (0x1220_20e7, 2, Reserved(0x2000)),
            (0x1230_00e7, 2, Reserved(0x10_0000)),
            (C | 0x4000_10e7, 3, Leaf(place(0x4000_0000, true), Size1G)),
            (C | 0x6000_10e7, 3, Reserved(0x2000_0000)),
            (0x1234_50e7, 4, Reserved(PSE)),
            (0x1234_50e7, 5, Reserved(PSE)),
            (0x1234_5067, 4, Table(place(0x1234_5000, false))),
            (1 << 46 | 0x1067, 1, Reserved(1 << 46)),
            (1 << 51 | 0x1067, 3, Reserved(1 << 51)),
            // Protection keys and what is left to software.
            (0x7ff0_0000_0000_1e63, 1, Leaf(place(0x1000, false), Size4K)),
        ] {
            assert_eq!(
                PAGING.meaning(entry, level),
                meaning,
                "{entry:#x} at {level}"
            );
        }
    }

    #[test]
    fn with_vtom_private_is_where_the_bit_is_clear() {
        let paging = Paging::new(Encoding::vtom(47).unwrap(), Levels::Four);
        let leaf = |private| {
            let gpa = 0x1000;
            Meaning::Leaf(Place { gpa, private }, PageSize::Size4K)
        };
        assert_eq!(paging.meaning(C | 0x1063, 1), leaf(false));
        assert_eq!(paging.meaning(0x1063, 1), leaf(true));
    }

    #[test]
    fn addresses_are_canonical() {
        for (levels, va, linear) in [
            (Levels::Four, 0xffff_8000_0000_0000, 1 << 47),
            (Levels::Four, 0x7fff_ffff_ffff, (1 << 47) - 1),
            (Levels::Four, u64::MAX, (1 << 48) - 1),
            (Levels::Five, 0xff00_0000_0000_0000, 1 << 56),
            (Levels::Five, 0xffff_8000_0000_0000, 0x01ff_8000_0000_0000),
        ] {
            let paging = Paging::new(Encoding::c_bit(51).unwrap(), levels);
            assert_eq!((paging.linear(va), paging.canonical(linear)), (linear, va));
        }
        assert_eq!(PAGING.kernel_half(), (0xffff_8000_0000_0000, u64::MAX));
    }
}
