// SPDX-License-Identifier: GPL-2.0

//! The walker against tables that are known, and against a second reader of tables that are garbage.

mod machines;
mod random;
mod reading;
mod tables;

use std::collections::BTreeSet;

use machines::machines;
use memenc::entry::PageSize;
use memenc::walk::{Fault, Found, Half, PhysMem};
use proptest::prelude::*;
use reading::span;
use tables::{page, Machine, Ram, Tables};

const FOUR: Machine = Machine {
    five: false,
    vtom: false,
};

#[test]
fn pages_of_each_size_are_found_in_order_with_what_is_between_them() {
    for five in [false, true] {
        for vtom in [false, true] {
            let machine = Machine { five, vtom };
            let mut tables = Tables::new(machine);
            let kernel = machine.kernel();
            tables.map(kernel, 3, 0x4000_0000, true, 0x1162);
            tables.map(kernel + 0x4000_0000, 2, 0x20_0000, false, 0x162);
            tables.map(kernel + 0x4020_0000, 1, 0x5000, true, 0x8000_0000_0000_01e2);
            tables.map(kernel + 0x4020_2000, 1, 0x6000, false, 0x2);
            let paging = machine.paging();
            let (first, last) = paging.kernel_half();
            assert_eq!((first, last), (kernel, u64::MAX));
            let found: Vec<_> = paging.walk(&tables.ram, tables.cr3, first, last).collect();
            let leaves: Vec<_> = found.iter().filter_map(|found| found.leaf()).collect();
            let told: Vec<_> = leaves
                .iter()
                .map(|leaf| (leaf.va - kernel, leaf.gpa, leaf.size, leaf.private))
                .collect();
            assert_eq!(
                told,
                [
                    (0, 0x4000_0000, PageSize::Size1G, true),
                    (0x4000_0000, 0x20_0000, PageSize::Size2M, false),
                    (0x4020_0000, 0x5000, PageSize::Size4K, true),
                    (0x4020_2000, 0x6000, PageSize::Size4K, false),
                ]
            );
            // Each entry is where it is said to be.
            for leaf in leaves {
                assert_eq!(
                    tables.ram.read(leaf.at.gpa, leaf.at.private),
                    Some(leaf.entry)
                );
            }
            // No gap, nothing twice, and the end is the end.
            let mut next = kernel;
            for found in found {
                let (va, len) = span(found);
                assert_eq!(va, next);
                next = va.wrapping_add(len);
            }
            assert_eq!(next, 0);
        }
    }
}

#[test]
fn a_range_ends_where_it_is_told_to() {
    let mut tables = Tables::new(FOUR);
    for at in 0..4 {
        tables.map(0x7fff_0000_0000 + at * 0x1000, 1, 0x9000, true, 0);
    }
    let paging = FOUR.paging();
    let count = |first: u64, last: u64| {
        paging
            .walk(
                &tables.ram,
                tables.cr3,
                0x7fff_0000_0000 + first,
                0x7fff_0000_0000 + last,
            )
            .count()
    };
    assert_eq!(count(0, 0x3fff), 4);
    assert_eq!(count(0x1000, 0x1fff), 1);
    assert_eq!(count(0x1fff, 0x2000), 2);
    assert_eq!(count(0x2000, 0x1fff), 0);
    // From the user's half to the kernel's there is no gap.
    assert_eq!(
        paging
            .walk(&tables.ram, tables.cr3, 0, u64::MAX)
            .map(span)
            .last(),
        Some((0xffff_ff80_0000_0000, 1 << 39))
    );
}

#[test]
fn tables_that_are_not_in_memory_or_contain_themselves_are_told_and_not_followed() {
    let mut tables = Tables::new(FOUR);
    let kernel = FOUR.kernel();
    let root = tables.cr3 & !0xfff;
    // The root as the table of each level; a table behind the end of memory; private read as shared.
    *tables.entry(kernel, 4) = root | 0x63;
    *tables.entry(kernel + (1 << 39), 3) = root | 0x63;
    *tables.entry(kernel + (2 << 39), 2) = root | 0x63;
    *tables.entry(kernel + (3 << 39), 4) = 0x000f_7fff_ffff_f063;
    let below = tables.table();
    *tables.entry(kernel + (4 << 39), 2) = below & !(1 << tables::BIT) | 0x63;
    *tables.entry(kernel + (5 << 39), 4) = 0xe3;
    let found: Vec<_> = FOUR
        .paging()
        .walk(&tables.ram, tables.cr3, kernel, u64::MAX)
        .filter_map(|found| match found {
            Found::Fault { va, len, fault } => Some((va - kernel, len, fault)),
            _ => None,
        })
        .collect();
    let told: Vec<_> = found
        .iter()
        .map(|(va, len, fault)| format!("{va:#x} {len:#x} {fault}"))
        .collect();
    assert_eq!(
        told,
        [
            "0x0 0x8000000000 the table at 0x1000000 contains itself",
            "0x8000000000 0x40000000 the table at 0x1000000 contains itself",
            "0x10000000000 0x200000 the table at 0x1000000 contains itself",
            "0x18000000000 0x8000000000 no memory for the table at 0xf7ffffffff000",
            "0x20000000000 0x200000 no memory for the table at 0x1004000",
            "0x28000000000 0x8000000000 reserved bits 0x80 are set",
        ]
    );
    // No root, either.
    let nothing = FOUR.paging().lookup(&Ram::default(), root, 0).unwrap();
    assert!(
        matches!(nothing, Found::Fault { va: 0, len, fault: Fault::NoMemory(_) } if len == 1 << 48)
    );
}

#[test]
fn a_shadow_of_many_terabytes_is_visited_at_once() {
    // As KASAN's: every entry of every table points to the same next one.
    let mut tables = Tables::new(Machine {
        five: true,
        vtom: false,
    });
    let mut below = 0x5000 | tables.machine.bit(true) | 0x61;
    for _ in 0..4 {
        let table = tables.table();
        for index in 0..512 {
            *tables.slot(table, index) = below;
        }
        below = table | 0x63;
    }
    for index in 0..512 {
        *tables.slot(tables.cr3, index) = below;
    }
    let (mut seen, mut leaves, mut tables_seen) = (BTreeSet::new(), Vec::new(), 0);
    let paging = tables.machine.paging();
    paging.visit_tables(
        &tables.ram,
        tables.cr3,
        Half::Kernel,
        &mut |table, level| {
            tables_seen += 1;
            seen.insert((table.gpa, table.private, level))
        },
        &mut |found| leaves.extend(found.leaf()),
    );
    // 256 entries of the root, 512 of each of three, and the last table's leaves.
    assert_eq!((tables_seen, leaves.len()), (256 + 3 * 512, 512));
    assert_eq!(leaves[1].va, tables.machine.kernel() + 0x1000);
    assert!(leaves.iter().all(|leaf| leaf.gpa == 0x5000 && leaf.private));
}

/// Memory of a few pages with entries that mostly point to each other.
fn garbage() -> impl Strategy<Value = Ram> {
    let entry =
        (any::<u64>(), 0u64..6, prop::bool::weighted(0.8)).prop_map(|(bits, frame, sane)| {
            // Mostly an entry as the kernel's, in a memory so small that tables are hit.
            if sane {
                frame << 12
                    | bits
                        & (1 << 63
                            | 1 << tables::BIT
                            | 0xfff
                            | if bits & 0x80 == 0 { 0 } else { 0xfff_c000_0000 })
                    | 1
            } else {
                bits
            }
        });
    // Few indices, so that addresses hit entries; with them most tables are visited.
    let table =
        prop::collection::btree_map(prop_oneof![Just(0usize), Just(1), Just(511)], entry, 0..3);
    prop::collection::btree_map((0u64..6, any::<bool>()), table, 1..12).prop_map(|pages| {
        let pages = pages.into_iter().map(|(key, table)| {
            let mut words = page();
            for (index, entry) in table {
                words[index] = entry;
            }
            (key, words)
        });
        Ram {
            pages: pages.collect(),
        }
    })
}

/// Indices of an address: small ones and the last.
fn addresses() -> impl Strategy<Value = u64> {
    prop::collection::vec(prop_oneof![Just(0u64), Just(1), Just(2), Just(511)], 5)
        .prop_map(|indices| indices.iter().fold(0, |va, index| va << 9 | index) << 12)
}

proptest! {
    #![proptest_config(random::cases(2000))]

    #[test]
    fn garbage_is_read_as_the_oracle_reads_it(
        machine in machines(), ram in garbage(), cr3: u64, frame in 0u64..6, va in addresses()
    ) {
        let cr3 = cr3 & (1 << tables::BIT | 0xfff) | frame << 12;
        reading::check_lookup(machine, &ram, cr3, machine.canonical(va));
    }

    #[test]
    fn a_walk_is_what_looking_up_each_address_finds(
        machine in machines(), ram in garbage(), frame in 0u64..6, va in addresses(), len in 0u64..0x2_0000_0000
    ) {
        reading::check_walk(machine, &ram, frame << 12, machine.canonical(va), len);
    }

    #[test]
    fn visiting_finds_each_entry_that_a_walk_finds_once(machine in machines(), ram in garbage(), frame in 0u64..6) {
        reading::check_visit(machine, &ram, frame << 12);
    }
}
