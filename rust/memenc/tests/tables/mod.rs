// SPDX-License-Identifier: GPL-2.0

//! Memory with page tables in it, and a second reader of them.
//!
//! Nothing in here uses the crate's idea of what an entry looks like: the numbers are the manual's
//! (APM2 5.3), written down again.

#![allow(dead_code)] // Each test program uses a part.

use std::collections::BTreeMap;
use std::fmt;

use memenc::cbit::Encoding;
use memenc::entry::{Levels, Paging};
use memenc::walk::PhysMem;

/// Bit of the address that says private, or with vTOM shared.
pub(crate) const BIT: u32 = 47;

/// Memory, page by page; private and shared memory are apart, as on SEV-SNP.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Ram {
    pub(crate) pages: BTreeMap<(u64, bool), Box<[u64; 512]>>,
}

/// Without the words that are zero.
impl fmt::Debug for Ram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((frame, private), page) in &self.pages {
            for (index, word) in page.iter().enumerate().filter(|(_, word)| **word != 0) {
                writeln!(
                    f,
                    "frame {frame:#x} private {private} index {index}: {word:#x}"
                )?;
            }
        }
        Ok(())
    }
}

pub(crate) fn page() -> Box<[u64; 512]> {
    Box::new([0; 512])
}

impl PhysMem for Ram {
    fn read(&self, gpa: u64, private: bool) -> Option<u64> {
        assert_eq!(gpa % 8, 0, "an unaligned read");
        assert_eq!(gpa >> 52, 0, "no such address");
        let page = self.pages.get(&(gpa / 4096, private))?;
        Some(page[(gpa % 4096 / 8) as usize])
    }
}

/// How the tests read entries: as the manual, once more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    pub(crate) five: bool,
    pub(crate) vtom: bool,
}

/// A page as the oracle sees it: first virtual address, bytes, physical address, entry, private.
pub(crate) type Mapped = (u64, u64, u64, u64, bool);

/// What the oracle says of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Oracle {
    Page(Mapped),
    /// Not present: level at which.
    Hole(u32),
    /// The processor, or common sense, says no: level of the entry.
    Wrong(u32),
    /// No memory for the table of this level.
    NoTable(u32),
}

impl Machine {
    pub(crate) fn depth(self) -> u32 {
        if self.five {
            5
        } else {
            4
        }
    }

    pub(crate) fn paging(self) -> Paging {
        let encoding = if self.vtom {
            Encoding::vtom(BIT)
        } else {
            Encoding::c_bit(BIT)
        };
        let levels = if self.five {
            Levels::Five
        } else {
            Levels::Four
        };
        Paging::new(encoding.unwrap(), levels)
    }

    /// The bit in an entry or address of private or shared memory.
    pub(crate) fn bit(self, private: bool) -> u64 {
        if private != self.vtom {
            1 << BIT
        } else {
            0
        }
    }

    /// The reverse.
    pub(crate) fn private(self, entry: u64) -> bool {
        (entry >> BIT & 1 == 1) != self.vtom
    }

    /// Sign-extends.
    pub(crate) fn canonical(self, va: u64) -> u64 {
        let unused = 64 - (12 + 9 * self.depth());
        ((va << unused) as i64 >> unused) as u64
    }

    /// First address of the kernel's half.
    pub(crate) fn kernel(self) -> u64 {
        self.canonical(1 << (11 + 9 * self.depth()))
    }

    /// Translates one address by division alone, so that no shift or mask can be wrong in the same way as
    /// in the crate.
    pub(crate) fn translate(self, ram: &Ram, cr3: u64, va: u64) -> Oracle {
        let mut pointer = cr3;
        let mut seen = Vec::new();
        for level in (1..=self.depth()).rev() {
            let frame = self.frame(pointer, 51, 12);
            seen.push(frame);
            let Some(table) = ram.pages.get(&(frame, self.private(pointer))) else {
                return Oracle::NoTable(level);
            };
            let low = 12 + 9 * (level - 1);
            let index = number(va, low + 8, low) as usize;
            let entry = table[index];
            if number(entry, 0, 0) == 0 {
                return Oracle::Hole(level);
            }
            let large = number(entry, 7, 7) == 1;
            if level == 1 || large {
                if level > 3 {
                    return Oracle::Wrong(level);
                }
                if level > 1 && number(entry, low - 1, 13) != 0 {
                    return Oracle::Wrong(level);
                }
                let gpa = self.frame(entry, 51, low) << low;
                let first = self.canonical(number(va, 63, low) << low);
                return Oracle::Page((first, 1 << low, gpa, entry, self.private(entry)));
            }
            if seen.contains(&self.frame(entry, 51, 12)) {
                return Oracle::Wrong(level);
            }
            pointer = entry;
        }
        unreachable!("level 1 has leaves alone")
    }

    /// What the tables above an entry do not allow, as bits of the entry: writes, user mode.
    pub(crate) fn denied(self, ram: &Ram, cr3: u64, va: u64) -> u64 {
        let (mut pointer, mut denied) = (cr3, 0);
        for level in (2..=self.depth()).rev() {
            let frame = self.frame(pointer, 51, 12);
            pointer =
                ram.pages[&(frame, self.private(pointer))][(va >> (9 * level + 3) & 511) as usize];
            if pointer & 1 == 0 || level < 4 && pointer & 0x80 != 0 {
                break;
            }
            denied |= !pointer & 6;
        }
        denied
    }

    /// Bits `high` to `low` of an entry without the encryption's.
    fn frame(self, entry: u64, high: u32, low: u32) -> u64 {
        let bit = number(entry, BIT, BIT) * 2u64.pow(BIT);
        number(entry - bit, high, low)
    }
}

/// Bits `high` to `low` of a number.
fn number(value: u64, high: u32, low: u32) -> u64 {
    let bits = u128::from(value) / 2u128.pow(low) % 2u128.pow(high - low + 1);
    bits.try_into().unwrap()
}

/// Page tables that are built page by page.
pub(crate) struct Tables {
    pub(crate) machine: Machine,
    pub(crate) ram: Ram,
    pub(crate) cr3: u64,
    next: u64,
}

impl Tables {
    /// An empty root; tables are private and begin at frame 0x1000.
    pub(crate) fn new(machine: Machine) -> Self {
        let mut tables = Tables {
            machine,
            ram: Ram::default(),
            cr3: 0,
            next: 0x1000,
        };
        // PCD and PWT, as CR3 may have them, are no part of the address.
        tables.cr3 = tables.table() | 0x18;
        tables
    }

    /// A new table; returns its address as an entry has it.
    pub(crate) fn table(&mut self) -> u64 {
        let frame = self.next;
        self.next += 1;
        self.ram.pages.insert((frame, true), page());
        frame << 12 | self.machine.bit(true)
    }

    /// An entry of the table that an entry points to.
    pub(crate) fn slot(&mut self, table: u64, index: u64) -> &mut u64 {
        let private = self.machine.private(table);
        let frame = (table & !(1 << BIT) & 0x000f_ffff_ffff_f000) >> 12;
        &mut self.ram.pages.get_mut(&(frame, private)).unwrap()[index as usize]
    }

    /// The entry of `level` for `va`, with the tables above it.
    pub(crate) fn entry(&mut self, va: u64, level: u32) -> &mut u64 {
        let mut table = self.cr3;
        for above in (level + 1..=self.machine.depth()).rev() {
            let index = va >> (12 + 9 * (above - 1)) & 511;
            if *self.slot(table, index) == 0 {
                let new = self.table();
                *self.slot(table, index) = new | 0x67;
            }
            table = *self.slot(table, index);
        }
        self.slot(table, va >> (12 + 9 * (level - 1)) & 511)
    }

    /// Maps a page; `level` 1 to 3 says how large, `flags` are those of the entry but present and large.
    pub(crate) fn map(&mut self, va: u64, level: u32, gpa: u64, private: bool, flags: u64) {
        let large = if level > 1 { 0x80 } else { 0 };
        let bit = self.machine.bit(private);
        *self.entry(va, level) = gpa | bit | flags | large | 1;
    }
}
