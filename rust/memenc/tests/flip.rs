// SPDX-License-Identifier: GPL-2.0

//! Flips of random ranges of random tables, with failures at random moments, against a model: a map of
//! addresses to pages. The tables are read by the tests' own reader.

mod tables;

use std::collections::{BTreeMap, BTreeSet};

use memenc::entry::Place;
use memenc::flip::{Cause, FlipError, Flipped, PhysMemMut, Run};
use memenc::walk::PhysMem;
use proptest::prelude::*;
use tables::{machines, page, Machine, Oracle, Ram, Tables, BIT};

const PAGE: u64 = 4096;
const LARGE: u64 = 512 * PAGE;
const GIANT: u64 = 512 * LARGE;

/// What a stretch of addresses maps, however many pages that takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    len: u64,
    gpa: u64,
    private: bool,
    /// The entry without address, encryption and size; the memory type's high bit made bit 12.
    flags: u64,
}

/// First address to what is mapped from there. Neighbours that continue each other are one.
type Mapping = BTreeMap<u64, Stretch>;

fn stretch(size: u64, gpa: u64, entry: u64, private: bool) -> Stretch {
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

fn join(mapping: Mapping) -> Mapping {
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
fn mapping(machine: Machine, ram: &Ram, cr3: u64) -> Mapping {
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
fn flipped(before: &Mapping, first: u64, len: u64, private: bool) -> Option<Mapping> {
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
enum Failure {
    Never,
    /// This allocation.
    Alloc(u32),
    /// This write; whether it took effect nevertheless.
    Write(u32, bool),
    /// This write and all after it, so nothing can be put back.
    Writes(u32, bool),
}

/// A VM whose tables are being changed while it looks at them.
struct Vm {
    tables: Tables,
    failure: Failure,
    writes: u32,
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
    fn look(&self) {
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

    fn mapping(&self) -> Mapping {
        mapping(self.tables.machine, &self.tables.ram, self.tables.cr3)
    }

    /// The large pages that cannot stay: those of which only a part is to be changed.
    fn needed_splits(&self, first: u64, len: u64, private: bool) -> usize {
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

    fn flip(
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
}

/// What a part of the address space is made of.
#[derive(Clone, Debug)]
enum Chunk {
    Hole,
    Large {
        private: bool,
        flags: u64,
    },
    /// Eight groups of 64 small pages; a group without a value is a hole.
    Small(Vec<Option<(bool, u64)>>),
}

#[derive(Clone, Debug)]
enum Region {
    Giant {
        private: bool,
        flags: u64,
    },
    /// The first ones and the last ones of a GiB.
    Chunks(Vec<Chunk>),
}

/// Bits of an entry that a split must keep: R/W, U/S, PWT, PCD, A, D, G, those of software, keys, NX.
const FLAGS: u64 = 0xfff0_0000_0000_0f7e;

fn chunk() -> impl Strategy<Value = Chunk> {
    let flags = || any::<u64>().prop_map(|bits| bits & FLAGS);
    prop_oneof![
        1 => Just(Chunk::Hole),
        8 => (any::<bool>(), flags(), any::<bool>()).prop_map(|(private, flags, pat)| {
            Chunk::Large { private, flags: flags | if pat { 1 << 12 } else { 0 } }
        }),
        4 => prop::collection::vec(prop::option::weighted(0.97, (any::<bool>(), flags(), any::<bool>())), 8).prop_map(|groups| {
            let group = |(private, flags, pat)| (private, flags | if pat { 1 << 7 } else { 0 });
            Chunk::Small(groups.into_iter().map(|part| part.map(group)).collect())
        }),
    ]
}

fn region() -> impl Strategy<Value = Region> {
    prop_oneof![
        (any::<bool>(), any::<u64>()).prop_map(|(private, bits)| Region::Giant {
            private,
            flags: bits & (FLAGS | 1 << 12)
        }),
        prop::collection::vec(chunk(), 6).prop_map(Region::Chunks),
    ]
}

fn vm(machine: Machine, regions: &[Region]) -> Vm {
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

/// Where a range begins or ends: pages from the border between the first and the second GiB, or the second
/// and the third.
fn edge() -> impl Strategy<Value = u64> {
    let near = prop_oneof![
        0u64..4,
        Just(511),
        Just(512),
        Just(513),
        Just(1024),
        0u64..1536
    ];
    (near, any::<bool>(), any::<bool>()).prop_map(|(pages, before, second)| {
        let border = GIANT / PAGE * if second { 4 } else { 3 };
        if before {
            border - pages
        } else {
            border + pages
        }
    })
}

fn failure() -> impl Strategy<Value = Failure> {
    let write = || prop_oneof![0u32..5, 500u32..520, 1020u32..1030, 0u32..2100];
    prop_oneof![
        4 => Just(Failure::Never),
        1 => (0u32..5).prop_map(Failure::Alloc),
        2 => (write(), any::<bool>()).prop_map(|(at, effect)| Failure::Write(at, effect)),
        2 => (write(), any::<bool>()).prop_map(|(at, effect)| Failure::Writes(at, effect)),
    ]
}

proptest! {
    #![proptest_config(tables::cases(150))]

    #[test]
    fn flips_do_what_the_model_does_or_nothing(
        machine in machines(),
        regions in prop::collection::vec(region(), 3),
        flips in prop::collection::vec((edge(), edge(), any::<bool>(), failure()), 3),
    ) {
        let mut vm = vm(machine, &regions);
        for (a, b, private, failure) in flips {
            let (va, pages) = (machine.kernel() + a.min(b) * PAGE, a.abs_diff(b) + 1);
            let (before, ram) = (vm.mapping(), vm.tables.ram.clone());
            let model = flipped(&before, va, pages * PAGE, private);
            let splits = vm.needed_splits(va, pages * PAGE, private);
            let outcome = vm.flip(va, pages, private, failure, 2000);
            let after = vm.mapping();
            match outcome {
                Ok(did) => {
                    let model = model.expect("a hole was overlooked");
                    prop_assert_eq!(&after, &model);
                    let wrong: u64 = before.iter().filter(|(_, old)| old.private != private).map(|(start, old)| {
                        (start + old.len).min(va + pages * PAGE).saturating_sub(*start.max(&va))
                    }).sum();
                    prop_assert_eq!(did.pages * PAGE, wrong);
                    prop_assert_eq!(did.splits as usize, if wrong > 0 { splits } else { 0 });
                    prop_assert_eq!(vm.tables.ram.pages.len(), ram.pages.len() + did.splits as usize);
                    // Once more changes nothing.
                    let again = vm.flip(va, pages, private, Failure::Writes(0, false), 0);
                    prop_assert_eq!(again, Ok(Flipped { pages: 0, splits: 0 }));
                    prop_assert_eq!(vm.flushes, 0);
                }
                Err(FlipError { cause, unknown, kept_tables }) => {
                    match cause {
                        Cause::NotMapped(hole) => {
                            prop_assert!(model.is_none());
                            prop_assert!(matches!(machine.translate(&ram, vm.tables.cr3, hole), Oracle::Hole(_)));
                            prop_assert_eq!((unknown, kept_tables, vm.writes), (None, 0, 0));
                        }
                        Cause::NoTable => prop_assert!(matches!(failure, Failure::Alloc(_))),
                        Cause::NotWritten(_) => {
                            prop_assert!(matches!(failure, Failure::Write(..) | Failure::Writes(..)));
                        }
                        cause => prop_assert!(false, "{}", cause),
                    }
                    // What can be put back is put back: the same words in the same tables.
                    if !matches!(failure, Failure::Writes(..)) {
                        prop_assert_eq!((unknown, kept_tables), (None, 0));
                        prop_assert_eq!(&vm.tables.ram, &ram);
                    }
                    prop_assert_eq!(vm.tables.ram.pages.len(), ram.pages.len() + kept_tables as usize);
                    // Else nothing but what is told is different.
                    let cut = |mapping: &Mapping| match unknown {
                        Some((first, last)) => {
                            assert!(va <= first && first <= last && last < va + pages * PAGE);
                            flipped(mapping, first, last + 1 - first, true).unwrap()
                        }
                        None => mapping.clone(),
                    };
                    prop_assert_eq!(cut(&after), cut(&before));
                }
            }
        }
    }
}

fn plain(regions: &[Region]) -> Vm {
    vm(
        Machine {
            five: false,
            vtom: false,
        },
        regions,
    )
}

/// One GiB of private memory at the third GiB.
fn giant() -> Vm {
    plain(&[Region::Giant {
        private: true,
        flags: 0x163 & FLAGS,
    }])
}

#[test]
fn a_page_in_the_middle_of_a_gib_costs_two_tables_and_its_neighbours_stay_large() {
    let mut vm = giant();
    let va = vm.tables.machine.kernel() + 2 * GIANT;
    let shared = vm.flip(va + 5 * LARGE + 7 * PAGE, 1, false, Failure::Never, 1);
    assert_eq!(
        shared,
        Ok(Flipped {
            pages: 1,
            splits: 2
        })
    );
    // 511 of 2 MiB, 512 of 4 KiB.
    let (machine, cr3) = (vm.tables.machine, vm.tables.cr3);
    let pages = machine.paging().walk(&vm, cr3, va, va + GIANT - 1).count();
    assert_eq!(pages, 511 + 512);
    // Back: no table is needed, none is freed.
    let back = vm.flip(va, GIANT / PAGE, true, Failure::Alloc(0), 1);
    assert_eq!(
        back,
        Ok(Flipped {
            pages: 1,
            splits: 0
        })
    );
}

#[test]
fn two_mib_in_a_gib_cost_one_table() {
    let mut vm = giant();
    let va = vm.tables.machine.kernel() + 2 * GIANT;
    let shared = vm.flip(va + LARGE, 512, false, Failure::Never, 1);
    assert_eq!(
        shared,
        Ok(Flipped {
            pages: 512,
            splits: 1
        })
    );
    // 512 entries, the link, and the one entry.
    assert_eq!(vm.writes, 514);
}

#[test]
fn more_stretches_than_there_is_room_for_are_refused_before_anything_changes() {
    let group = |private| Some((private, 0x63));
    let groups = (0..8).map(|number| group(number % 2 == 0)).collect();
    let mut vm = plain(&[Region::Chunks(vec![Chunk::Small(groups)])]);
    let va = vm.tables.machine.kernel() + 2 * GIANT;
    for runs in 0..4 {
        let error = vm.flip(va, 512, false, Failure::Never, runs).unwrap_err();
        assert_eq!(error, FlipError::from(Cause::Scattered(4)));
        assert_eq!(vm.writes, 0);
    }
    let shared = vm.flip(va, 512, false, Failure::Never, 4);
    assert_eq!(
        shared,
        Ok(Flipped {
            pages: 256,
            splits: 0
        })
    );
}

#[test]
fn what_is_no_range_is_refused() {
    let mut vm = giant();
    let va = vm.tables.machine.kernel() + 2 * GIANT;
    for (va, pages) in [
        (va, 0),
        (va + 1, 1),
        (va, u64::MAX),
        (va, 1 << 52),
        (0x8000_0000_0000, 1),
        (0x7fff_ffff_f000, 2),
        (0, 1 << 48),
        (PAGE, (1 << 52) - 1),
        (!(PAGE - 1), 2),
    ] {
        let (paging, cr3) = (vm.tables.machine.paging(), vm.tables.cr3);
        let outcome = paging.flip(&mut vm, cr3, va, pages, false, &mut [Run::default()]);
        assert_eq!(outcome, Err(Cause::BadRange.into()), "{va:#x} {pages}");
    }
    // The last page of all is one.
    let (paging, cr3) = (vm.tables.machine.paging(), vm.tables.cr3);
    let outcome = paging.flip(&mut vm, cr3, !(PAGE - 1), 1, false, &mut []);
    assert!(matches!(
        outcome,
        Err(FlipError {
            cause: Cause::NotMapped(_),
            ..
        })
    ));
}

#[test]
fn an_error_says_what_is_lost() {
    let mut vm = giant();
    let va = vm.tables.machine.kernel() + 2 * GIANT;
    // Two tables of 512 entries and a link each; then nothing can be written any more.
    let error = vm
        .flip(va, 2, false, Failure::Writes(1027, true), 1)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the entry for 0xffff800080001000 could not be written; \
         the state of 0xffff800080000000 to 0xffff800080001fff is unknown"
    );
    let mut vm = giant();
    let error = vm
        .flip(va, 2, false, Failure::Writes(1026, false), 1)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the entry for 0xffff800080000000 could not be written; 2 page tables are lost"
    );
}

#[test]
fn a_page_that_is_no_table_is_told() {
    let mut vm = giant();
    let va = vm.tables.machine.kernel() + 3 * GIANT;
    *vm.tables.entry(va, 2) = 0x2063 | vm.tables.machine.bit(true);
    let error = vm.flip(va, 1, false, Failure::Never, 1).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("page tables at {va:#x}: no memory for the table at 0x2000")
    );
    vm.tables.ram.pages.insert((2, true), page());
    assert_eq!(
        vm.flip(va, 1, false, Failure::Never, 1).unwrap_err().cause,
        Cause::NotMapped(va)
    );
}
