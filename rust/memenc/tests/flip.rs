// SPDX-License-Identifier: GPL-2.0

//! Flips of random ranges of random tables, with failures at random moments, against a model; and single
//! cases.

mod machines;
mod random;
mod tables;
mod vm;

use machines::machines;
use memenc::flip::{Cause, FlipError, Flipped, Run};
use proptest::prelude::*;
use tables::{page, Machine};
use vm::{vm, Chunk, Failure, Region, Vm, FLAGS, GIANT, LARGE, PAGE};

fn chunk() -> impl Strategy<Value = Chunk> {
    // Thousands of entries: Miri would take hours.
    let small = if cfg!(miri) { 0 } else { 4 };
    let flags = || any::<u64>().prop_map(|bits| bits & FLAGS);
    prop_oneof![
        1 => Just(Chunk::Hole),
        8 => (any::<bool>(), flags(), any::<bool>()).prop_map(|(private, flags, pat)| {
            Chunk::Large { private, flags: flags | if pat { 1 << 12 } else { 0 } }
        }),
        small => prop::collection::vec(prop::option::weighted(0.97, (any::<bool>(), flags(), any::<bool>())), 8).prop_map(|groups| {
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
    #![proptest_config(random::cases(150))]

    #[test]
    fn flips_do_what_the_model_does_or_nothing(
        machine in machines(),
        regions in prop::collection::vec(region(), 3),
        flips in prop::collection::vec((edge(), edge(), any::<bool>(), failure()), 3),
    ) {
        let mut vm = vm(machine, &regions);
        for (a, b, private, failure) in flips {
            let (va, pages) = (machine.kernel() + a.min(b) * PAGE, a.abs_diff(b) + 1);
            vm.check(va, pages, private, failure);
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
