// SPDX-License-Identifier: GPL-2.0

//! A VM whose page tables are changed while another processor looks at them, and a model of what it maps:
//! a map of addresses to pages.

#![allow(dead_code)] // Each program uses a part.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use memenc::entry::Place;
use memenc::flip::{Cause, FlipError, Flipped, PhysMemMut, Run};
use memenc::walk::PhysMem;

use super::tables::{Machine, Oracle, Ram, Tables, BIT};

pub(crate) const PAGE: u64 = 4096;
pub(crate) const LARGE: u64 = 512 * PAGE;
pub(crate) const GIANT: u64 = 512 * LARGE;

/// What a stretch of addresses maps, however many pages that takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    len: u64,
    gpa: u64,
    private: bool,
    /// The entry without address, encryption and size; the memory type's high bit made bit 12.
    flags: u64,
}

/// First address to what is mapped from there. Neighbours that continue each other are one.
pub(crate) type Mapping = BTreeMap<u64, Stretch>;

pub(crate) fn stretch(size: u64, gpa: u64, entry: u64, private: bool) -> Stretch {
    let (pat, other) = if size == PAGE { (7, 12) } else { (12, 7) };
    let address = if size == PAGE { 12 } else { 13 };
    let flags = entry & !((1 << 52) - (1 << address)) & !(1 << pat | 1 << other);
    Stretch {
        len: size,
        gpa,
        private,
        flags: flags | (entry >> pat & 1) << 12,
    }
}

pub(crate) fn join(mapping: Mapping) -> Mapping {
    let mut joined = Mapping::new();
    for (va, next) in mapping {
        match joined.last_entry() {
            Some(mut last)
                if last.key() + last.get().len == va
                    && last.get().gpa + last.get().len == next.gpa
                    && last.get().private == next.private
                    && last.get().flags == next.flags =>
            {
                last.get_mut().len += next.len;
            }
            _ => {
                joined.insert(va, next);
            }
        }
    }
    joined
}

/// All that is mapped from the third GiB of the kernel's half to the fifth.
pub(crate) fn mapping(machine: Machine, ram: &Ram, cr3: u64) -> Mapping {
    let mut mapping = Mapping::new();
    let (mut va, end) = (machine.kernel() + 2 * GIANT, machine.kernel() + 5 * GIANT);
    while va < end {
        va = match machine.translate(ram, cr3, va) {
            Oracle::Page((first, size, gpa, entry, private)) => {
                let entry = entry & !machine.denied(ram, cr3, va);
                mapping.insert(first, stretch(size, gpa, entry, private));
                first + size
            }
            Oracle::Hole(level) => {
                let size = PAGE << (9 * (level - 1));
                va / size * size + size
            }
            wrong => panic!("{wrong:?} at {va:#x}"),
        };
    }
    join(mapping)
}

/// The model of a flip; `None` if something is not mapped.
pub(crate) fn flipped(before: &Mapping, first: u64, len: u64, private: bool) -> Option<Mapping> {
    let mut after = Mapping::new();
    let (end, mut there) = (first + len, 0);
    for (&va, old) in before {
        // In front of the range, in it, and behind.
        let cuts = [
            va,
            first.clamp(va, va + old.len),
            end.clamp(va, va + old.len),
            va + old.len,
        ];
        for (part, cut) in cuts
            .windows(2)
            .enumerate()
            .filter(|(_, cut)| cut[0] < cut[1])
        {
            let mut new = Stretch {
                len: cut[1] - cut[0],
                gpa: old.gpa + (cut[0] - va),
                ..*old
            };
            if part == 1 {
                new.private = private;
                there += new.len;
            }
            after.insert(cut[0], new);
        }
    }
    (there == len).then(|| join(after))
}

/// Which failure comes when.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failure {
    Never,
    /// This allocation.
    Alloc(u32),
    /// This write; whether it took effect nevertheless.
    Write(u32, bool),
    /// This write and all after it, so nothing can be put back.
    Writes(u32, bool),
}

/// A VM whose tables are being changed while it looks at them.
pub(crate) struct Vm {
    pub(crate) tables: Tables,
    failure: Failure,
    pub(crate) writes: u32,
    allocs: u32,
    /// Tables nobody can see yet.
    fresh: BTreeSet<u64>,
    /// Tables that came into use since the last flush.
    linked: BTreeSet<u64>,
    /// Whether something was changed since the last flush.
    stale: bool,
    flushes: u32,
    /// What some addresses map, whatever happens, with the wanted encryption for those in the range.
    watched: Vec<(u64, Oracle, Option<bool>)>,
}

impl PhysMem for Vm {
    fn read(&self, gpa: u64, private: bool) -> Option<u64> {
        self.tables.ram.read(gpa, private)
    }
}

impl PhysMemMut for Vm {
    fn write(&mut self, gpa: u64, private: bool, value: u64) -> Option<()> {
        let number = self.writes;
        self.writes += 1;
        let (fails, takes_effect) = match self.failure {
            Failure::Write(at, effect) if at == number => (true, effect),
            Failure::Writes(from, effect) if number >= from => (true, effect),
            _ => (false, true),
        };
        if takes_effect {
            let frame = gpa / PAGE;
            let page = self.tables.ram.pages.get_mut(&(frame, private));
            let word = &mut page.expect("a write beside memory")[(gpa % PAGE / 8) as usize];
            let old = std::mem::replace(word, value);
            if !self.fresh.contains(&frame) {
                self.stale = true;
                // Cached with the old size and the old encryption, used with the new ones?
                assert!(
                    old ^ value != 1 << BIT || !self.linked.contains(&frame),
                    "no flush"
                );
                let below = (value & !(1 << BIT) & 0x000f_ffff_ffff_f000) / PAGE;
                if self.fresh.remove(&below) {
                    self.linked.insert(below);
                }
                self.look();
            }
        }
        (!fails).then_some(())
    }

    fn alloc_table(&mut self) -> Option<Place> {
        let number = self.allocs;
        self.allocs += 1;
        if matches!(self.failure, Failure::Alloc(at) if at == number) {
            return None;
        }
        let gpa = self.tables.table() & !(1 << BIT);
        // What was in there before.
        let table = self.tables.ram.pages.get_mut(&(gpa / PAGE, true)).unwrap();
        **table = [0xdead_beef_dead_beef; 512];
        self.fresh.insert(gpa / PAGE);
        Some(Place { gpa, private: true })
    }

    fn free_table(&mut self, table: Place) {
        let frame = table.gpa / PAGE;
        assert!(
            !self.stale || self.fresh.contains(&frame),
            "a table is freed that may be in use"
        );
        assert!(table.private && self.tables.ram.pages.remove(&(frame, true)).is_some());
        // Whoever still comes this way finds no table.
        self.look();
    }

    fn flush(&mut self) {
        self.flushes += 1;
        self.stale = false;
        self.linked.clear();
    }
}

impl Vm {
    /// What another processor sees at this moment.
    pub(crate) fn look(&self) {
        let machine = self.tables.machine;
        for (va, before, wanted) in &self.watched {
            let now = machine.translate(&self.tables.ram, self.tables.cr3, *va);
            let (Oracle::Page(before), Oracle::Page(now)) = (before, now) else {
                assert!(
                    matches!((before, now), (Oracle::Hole(_), Oracle::Hole(_))),
                    "{now:?}"
                );
                continue;
            };
            let of = |(first, size, gpa, entry, private)| Stretch {
                len: 0,
                ..stretch(size, gpa + (va - first) / PAGE * PAGE, entry, private)
            };
            let (before, now): (Stretch, Stretch) = (of(*before), of(now));
            let allowed = now.private == before.private || Some(now.private) == *wanted;
            assert!(allowed, "{va:#x} must not change");
            let private = before.private;
            // The size's bit is all that may differ else.
            assert_eq!(Stretch { private, ..now }, before, "{va:#x}");
        }
    }

    pub(crate) fn mapping(&self) -> Mapping {
        mapping(self.tables.machine, &self.tables.ram, self.tables.cr3)
    }

    /// The large pages that cannot stay: those of which only a part is to be changed.
    pub(crate) fn needed_splits(&self, first: u64, len: u64, private: bool) -> usize {
        let (machine, end) = (self.tables.machine, first + len);
        let mut needed = BTreeSet::new();
        for edge in [first, end - PAGE] {
            let Oracle::Page((_, size, _, _, was)) =
                machine.translate(&self.tables.ram, self.tables.cr3, edge)
            else {
                continue;
            };
            for smaller in [GIANT, LARGE] {
                let start = edge / smaller * smaller;
                let inside = first <= start && start + smaller <= end;
                if was != private && smaller <= size && !inside {
                    needed.insert((start, smaller));
                }
            }
        }
        needed.len()
    }

    pub(crate) fn flip(
        &mut self,
        va: u64,
        pages: u64,
        private: bool,
        failure: Failure,
        runs: usize,
    ) -> Result<Flipped, FlipError> {
        let (machine, len) = (self.tables.machine, pages * PAGE);
        let edges = [
            va,
            va + len / 2,
            va / LARGE * LARGE + LARGE,
            va / GIANT * GIANT + GIANT,
            va + len,
        ];
        let watched = edges
            .into_iter()
            .flat_map(|edge| [edge - PAGE, edge, edge + PAGE]);
        self.watched = watched
            .map(|at| {
                let wanted = (va..va + len).contains(&at).then_some(private);
                (
                    at,
                    machine.translate(&self.tables.ram, self.tables.cr3, at),
                    wanted,
                )
            })
            .collect();
        (self.failure, self.writes, self.allocs, self.flushes) = (failure, 0, 0, 0);
        let cr3 = self.tables.cr3;
        let outcome = machine.paging().flip(
            self,
            cr3,
            va,
            pages,
            private,
            &mut vec![Run::default(); runs],
        );
        assert!(!self.stale, "a change that other processors need not see");
        outcome
    }

    /// Flips a range and compares what became of it with the model, and with what may fail.
    ///
    /// # Panics
    ///
    /// When something is wrong.
    pub(crate) fn check(&mut self, va: u64, pages: u64, private: bool, failure: Failure) {
        let (before, ram) = (self.mapping(), self.tables.ram.clone());
        let model = flipped(&before, va, pages * PAGE, private);
        let splits = self.needed_splits(va, pages * PAGE, private);
        match self.flip(va, pages, private, failure, 2000) {
            Ok(did) => {
                assert_eq!(self.mapping(), model.expect("a hole was overlooked"));
                let end = va + pages * PAGE;
                let wrong = before.iter().filter(|(_, old)| old.private != private);
                let wrong: u64 = wrong
                    .map(|(start, old)| (start + old.len).min(end).saturating_sub(*start.max(&va)))
                    .sum();
                let splits = if wrong > 0 { splits } else { 0 };
                let pages_and_splits = (did.pages * PAGE, did.splits as usize);
                assert_eq!(pages_and_splits, (wrong, splits));
                assert_eq!(self.tables.ram.pages.len(), ram.pages.len() + splits);
                // Once more changes nothing.
                let again = self.flip(va, pages, private, Failure::Writes(0, false), 0);
                assert_eq!(again.map(|did| (did.pages, did.splits)), Ok((0, 0)));
                assert_eq!(self.flushes, 0);
            }
            Err(error) => {
                match error.cause {
                    Cause::NotMapped(hole) => {
                        let hole = self.tables.machine.translate(&ram, self.tables.cr3, hole);
                        assert!(model.is_none() && matches!(hole, Oracle::Hole(_)));
                        assert_eq!(
                            (error.unknown, error.kept_tables, self.writes),
                            (None, 0, 0)
                        );
                    }
                    Cause::NoTable => assert!(matches!(failure, Failure::Alloc(_))),
                    Cause::NotWritten(_) => {
                        assert!(matches!(failure, Failure::Write(..) | Failure::Writes(..)));
                    }
                    cause => panic!("{cause}"),
                }
                let lasting = matches!(failure, Failure::Writes(..));
                self.check_put_back(&error, lasting, va..va + pages * PAGE, &before, &ram);
            }
        }
    }

    /// After a flip of `range` failed; `lasting` if nothing could be written from then on.
    fn check_put_back(
        &self,
        error: &FlipError,
        lasting: bool,
        range: Range<u64>,
        before: &Mapping,
        ram: &Ram,
    ) {
        // What can be put back is put back: the same words in the same tables.
        if !lasting {
            assert_eq!((error.unknown, error.kept_tables), (None, 0));
            assert_eq!(&self.tables.ram, ram);
        }
        let pages = ram.pages.len() + error.kept_tables as usize;
        assert_eq!(self.tables.ram.pages.len(), pages);
        // Else nothing but what is told is different.
        let but_unknown = |mapping: &Mapping| match error.unknown {
            Some((first, last)) => {
                assert!(range.start <= first && first <= last && last < range.end);
                flipped(mapping, first, last + 1 - first, true).unwrap()
            }
            None => mapping.clone(),
        };
        assert_eq!(but_unknown(&self.mapping()), but_unknown(before));
    }
}

/// What a part of the address space is made of.
#[derive(Clone, Debug)]
pub(crate) enum Chunk {
    Hole,
    Large {
        private: bool,
        flags: u64,
    },
    /// Eight groups of 64 small pages; a group without a value is a hole.
    Small(Vec<Option<(bool, u64)>>),
}

#[derive(Clone, Debug)]
pub(crate) enum Region {
    Giant {
        private: bool,
        flags: u64,
    },
    /// The first ones and the last ones of a GiB.
    Chunks(Vec<Chunk>),
}

/// Bits of an entry that a split must keep: R/W, U/S, PWT, PCD, A, D, G, those of software, keys, NX.
pub(crate) const FLAGS: u64 = 0xfff0_0000_0000_0f7e;

pub(crate) fn vm(machine: Machine, regions: &[Region]) -> Vm {
    let mut tables = Tables::new(machine);
    for (number, region) in (2..).zip(regions) {
        let (va, gpa) = (machine.kernel() + number * GIANT, (number + 8) * GIANT);
        match region {
            Region::Giant { private, flags } => tables.map(va, 3, gpa, *private, *flags),
            Region::Chunks(chunks) => {
                for (index, chunk) in [0, 1, 2, 509, 510, 511].into_iter().zip(chunks) {
                    let (va, gpa) = (va + index * LARGE, gpa + index * LARGE);
                    match chunk {
                        Chunk::Hole => {}
                        Chunk::Large { private, flags } => tables.map(va, 2, gpa, *private, *flags),
                        Chunk::Small(groups) => {
                            for (page, group) in
                                (0..512).map(|page| (page, groups[page as usize / 64]))
                            {
                                if let Some((private, flags)) = group {
                                    let at = page * PAGE;
                                    tables.map(va + at, 1, gpa + at, private, flags);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    Vm {
        tables,
        failure: Failure::Never,
        writes: 0,
        allocs: 0,
        fresh: BTreeSet::new(),
        linked: BTreeSet::new(),
        stale: false,
        flushes: 0,
        watched: Vec::new(),
    }
}
