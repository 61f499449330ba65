// SPDX-License-Identifier: GPL-2.0

//! Reads page tables: what a range of virtual addresses maps, or what all tables together do.
//!
//! Tables may be anything, also written by an adversary or half changed while they are read: whatever
//! a processor would fault on is reported and not followed, and so is a table that contains itself.
//!
//! A table is read where the entry that points to it says, in private or in shared memory. (Hardware
//! reads tables as private memory only; Linux' entries say the same.)
//!
//! ```
//! use memenc::{cbit::Encoding, entry::{Levels, Paging}, walk::PhysMem};
//!
//! /// Images of a VM's memory, private and shared.
//! struct Images { private: Vec<u8>, shared: Vec<u8> }
//!
//! impl PhysMem for Images {
//!     fn read(&self, gpa: u64, private: bool) -> Option<u64> {
//!         let image = if private { &self.private } else { &self.shared };
//!         let word = image.get(usize::try_from(gpa).ok()?..)?.first_chunk()?;
//!         Some(u64::from_le_bytes(*word))
//!     }
//! }
//!
//! // A table at 0x1000 whose last entry is itself, and nothing else.
//! let mut private = vec![0; 0x2000];
//! private[0x1ff8..].copy_from_slice(&(1u64 << 51 | 0x1063).to_le_bytes());
//! let images = Images { private, shared: vec![] };
//! let paging = Paging::new(Encoding::c_bit(51).unwrap(), Levels::Four);
//! let (first, last) = paging.kernel_half();
//! let found = paging.walk(&images, 1 << 51 | 0x1000, first, last);
//! assert_eq!(found.filter_map(|found| found.leaf()).count(), 0);
//! ```

use core::fmt;

use crate::entry::{self, Meaning, PageSize, Paging, Place};

/// Physical memory to read tables from.
pub trait PhysMem {
    /// The little-endian word at `gpa`, which is a multiple of 8 and has neither C-bit nor vTOM bit;
    /// `None` where there is no memory. With `private` it is read through the VM's key; where private
    /// and shared memory are apart, from the private one.
    fn read(&self, gpa: u64, private: bool) -> Option<u64>;
}

/// A page that is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// First virtual address.
    pub va: u64,
    /// First guest-physical address, without C-bit or vTOM bit.
    pub gpa: u64,
    /// How large it is.
    pub size: PageSize,
    /// The entry that maps it.
    pub entry: u64,
    /// Whether it is mapped private.
    pub private: bool,
    /// Where the entry is.
    pub at: Place,
}

/// Why an entry leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is no memory where the table should be.
    NoMemory(Place),
    /// Bits are set that must be zero: these.
    Reserved(u64),
    /// The table is one of those that led here.
    Loop(Place),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::NoMemory(table) => write!(f, "no memory for the table at {:#x}", table.gpa),
            Fault::Reserved(bits) => write!(f, "reserved bits {bits:#x} are set"),
            Fault::Loop(table) => write!(f, "the table at {:#x} contains itself", table.gpa),
        }
    }
}

/// What is found at some virtual addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A page.
    Leaf(Leaf),
    /// Nothing.
    Hole {
        /// First virtual address.
        va: u64,
        /// How many bytes are covered by the one entry that is not present.
        len: u64,
    },
    /// Something that makes no sense.
    Fault {
        /// First virtual address.
        va: u64,
        /// How many bytes it concerns.
        len: u64,
        /// What it is.
        fault: Fault,
    },
}

impl Found {
    /// The page, if it is one.
    pub const fn leaf(self) -> Option<Leaf> {
        match self {
            Found::Leaf(leaf) => Some(leaf),
            Found::Hole { .. } | Found::Fault { .. } => None,
        }
    }
}

/// A table on the way to an entry.
#[derive(Clone, Copy)]
struct Table {
    place: Place,
    /// First address it translates, as [`Paging::linear`] counts.
    base: u64,
}

/// Tables from the root down; index 0 is level 1.
#[derive(Clone, Copy)]
struct Path([Option<Table>; 5]);

impl Path {
    const EMPTY: Path = Path([None; 5]);

    fn get(&self, level: u32) -> Option<Table> {
        // CAST: levels are 1 to 5.
        *self.0.get((level as usize).wrapping_sub(1))?
    }

    fn set(&mut self, level: u32, table: Table) {
        // CAST: levels are 1 to 5.
        if let Some(slot) = self.0.get_mut((level as usize).wrapping_sub(1)) {
            *slot = Some(table);
        }
    }

    /// Whether a table at this address is among those from `level` up.
    fn contains(&self, gpa: u64, level: u32) -> bool {
        (level..=5).any(|level| self.get(level).is_some_and(|table| table.place.gpa == gpa))
    }
}

/// What the entry for an address says.
enum Step {
    /// Something is found, up to this address, not included.
    Found(Found, u64),
    /// Go on in this table, one level below.
    Down(Table),
}

/// Looks at the entry for `linear` in `path`'s table of `level`.
fn step<M: PhysMem + ?Sized>(
    paging: &Paging,
    mem: &M,
    path: &Path,
    table: Table,
    level: u32,
    linear: u64,
) -> Step {
    let len = entry::span(level);
    let base = linear & !(len - 1);
    let va = paging.canonical(base);
    let at = Place {
        gpa: table.place.gpa + (linear / len) % entry::ENTRIES * 8,
        ..table.place
    };
    let Some(entry) = mem.read(at.gpa, at.private) else {
        // Memory has no holes smaller than a page: the whole table is missing.
        let len = len * entry::ENTRIES;
        let va = paging.canonical(table.base);
        let end = table.base + len;
        let fault = Fault::NoMemory(table.place);
        return Step::Found(Found::Fault { va, len, fault }, end);
    };
    let found = match paging.meaning(entry, level) {
        Meaning::Hole => Found::Hole { va, len },
        Meaning::Leaf(place, size) => Found::Leaf(Leaf {
            va,
            gpa: place.gpa,
            size,
            entry,
            private: place.private,
            at,
        }),
        Meaning::Reserved(bits) => {
            let fault = Fault::Reserved(bits);
            Found::Fault { va, len, fault }
        }
        Meaning::Table(place) if path.contains(place.gpa, level) => {
            let fault = Fault::Loop(place);
            Found::Fault { va, len, fault }
        }
        Meaning::Table(place) => return Step::Down(Table { place, base }),
    };
    Step::Found(found, base + len)
}

/// Iterator over what a range of virtual addresses maps, in order; see [`Paging::walk`].
pub struct Walk<'a, M: PhysMem + ?Sized> {
    paging: Paging,
    mem: &'a M,
    path: Path,
    /// The next address, as [`Paging::linear`] counts, and the last one.
    range: Option<(u64, u64)>,
}

impl<M: PhysMem + ?Sized> Iterator for Walk<'_, M> {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        let (linear, last) = self.range?;
        // Begin in the lowest table that is known already.
        let mut level = 1;
        let mut table = loop {
            match self.path.get(level) {
                Some(table) if linear - linear % entry::span(level + 1) == table.base => {
                    break table;
                }
                // The root translates every address.
                root if level >= self.paging.levels.count() => break root?,
                _ => level += 1,
            }
        };
        loop {
            match step(&self.paging, self.mem, &self.path, table, level, linear) {
                Step::Found(found, end) => {
                    self.range = (end <= last).then_some((end, last));
                    return Some(found);
                }
                Step::Down(next) => {
                    level -= 1;
                    self.path.set(level, next);
                    table = next;
                }
            }
        }
    }
}

impl Paging {
    fn root(&self, cr3: u64) -> Path {
        let root = Table {
            place: self.table(cr3),
            base: 0,
        };
        let mut path = Path::EMPTY;
        path.set(self.levels.count(), root);
        path
    }

    /// What the virtual addresses `first` to `last`, both included, map, in order and without gaps. The
    /// outermost findings may reach beyond the range. Nothing if the range is empty.
    ///
    /// This takes as long as there are entries to read: many tables that are shared (KASAN's shadow)
    /// make that endless for practical purposes; see [`Paging::visit_tables`].
    pub fn walk<'a, M: PhysMem + ?Sized>(
        &self,
        mem: &'a M,
        cr3: u64,
        first: u64,
        last: u64,
    ) -> Walk<'a, M> {
        let (first, last) = (self.linear(first), self.linear(last));
        Walk {
            paging: *self,
            mem,
            path: self.root(cr3),
            range: (first <= last).then_some((first, last)),
        }
    }

    /// What is at one virtual address.
    pub fn lookup<M: PhysMem + ?Sized>(&self, mem: &M, cr3: u64, va: u64) -> Option<Found> {
        self.walk(mem, cr3, va, va).next()
    }

    /// Visits every entry of every table of the kernel's half, or of the user's: each table once on each
    /// level it is used at, however many others point to it. The virtual addresses are those of the
    /// first way to it. A table that contains itself is no fault here; the visit ends all the same.
    ///
    /// `first_time` is told each table below the root and its level, and answers whether that is the first
    /// time: a set's `insert`. Each time that it forgets one makes the visit longer.
    pub fn visit_tables<M: PhysMem + ?Sized>(
        &self,
        mem: &M,
        cr3: u64,
        half: Half,
        first_time: &mut dyn FnMut(Place, u32) -> bool,
        visit: &mut dyn FnMut(Found),
    ) {
        let root = Table {
            place: self.table(cr3),
            base: 0,
        };
        let kernel = 1 << (self.levels.va_bits() - 1);
        let range = match half {
            Half::User => (0, kernel - 1),
            Half::Kernel => (kernel, self.linear(u64::MAX)),
        };
        let mut visit = Visit {
            paging: *self,
            mem,
            first_time,
            visit,
        };
        visit.table(root, self.levels.count(), range);
    }
}

struct Visit<'a, M: PhysMem + ?Sized> {
    paging: Paging,
    mem: &'a M,
    first_time: &'a mut dyn FnMut(Place, u32) -> bool,
    visit: &'a mut dyn FnMut(Found),
}

impl<M: PhysMem + ?Sized> Visit<'_, M> {
    /// Visits what is within a range of a table and, at most four times nested, of those below it.
    fn table(&mut self, table: Table, level: u32, (first, last): (u64, u64)) {
        let mut linear = first;
        while linear <= last {
            let step = step(&self.paging, self.mem, &Path::EMPTY, table, level, linear);
            linear = match step {
                Step::Found(found, end) => {
                    (self.visit)(found);
                    end
                }
                Step::Down(below) => {
                    let end = below.base + entry::span(level);
                    if (self.first_time)(below.place, level - 1) {
                        self.table(below, level - 1, (linear, end - 1));
                    }
                    end
                }
            };
        }
    }
}

/// Half of the virtual addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// The lower one.
    User,
    /// The upper one.
    Kernel,
}
