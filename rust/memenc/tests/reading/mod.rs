// SPDX-License-Identifier: GPL-2.0

//! What must be true of the walker, whatever the tables are.

use std::collections::{BTreeMap, BTreeSet};

use memenc::walk::{Fault, Found, Half};

use super::tables::{Machine, Mapped, Oracle, Ram};

/// Findings that are looked at: there can be more than anybody could wait for.
const MANY: usize = 2000;

fn mapped(found: Found) -> Option<Mapped> {
    let leaf = found.leaf()?;
    Some((
        leaf.va,
        leaf.size.bytes(),
        leaf.gpa,
        leaf.entry,
        leaf.private,
    ))
}

/// First address and length.
pub(crate) fn span(found: Found) -> (u64, u64) {
    match found {
        Found::Leaf(leaf) => (leaf.va, leaf.size.bytes()),
        Found::Hole { va, len } | Found::Fault { va, len, .. } => (va, len),
    }
}

/// One address, compared with what the oracle makes of it.
///
/// # Panics
///
/// When they differ; so do the others here.
pub(crate) fn check_lookup(machine: Machine, ram: &Ram, cr3: u64, va: u64) {
    let found = machine.paging().lookup(ram, cr3, va).unwrap();
    match (found, machine.translate(ram, cr3, va)) {
        (Found::Leaf(_), Oracle::Page(page)) => assert_eq!(mapped(found), Some(page)),
        (Found::Hole { va: first, len }, Oracle::Hole(level))
        | (
            Found::Fault {
                va: first,
                len,
                fault: Fault::Reserved(_) | Fault::Loop(_),
            },
            Oracle::Wrong(level),
        ) => {
            assert_eq!(len, 1 << (12 + 9 * (level - 1)));
            assert_eq!(first, va / len * len);
        }
        (
            Found::Fault {
                fault: Fault::NoMemory(_),
                ..
            },
            Oracle::NoTable(_),
        ) => {}
        (found, oracle) => panic!("{found:?}, but {oracle:?}"),
    }
}

/// A walk from `va` on is what looking up each address finds, and one over `len` bytes ends with the last.
pub(crate) fn check_walk(machine: Machine, ram: &Ram, cr3: u64, va: u64, len: u64) {
    let paging = machine.paging();
    let mut next = paging.linear(va);
    for found in paging.walk(ram, cr3, va, u64::MAX).take(MANY) {
        assert_eq!(Some(found), paging.lookup(ram, cr3, paging.canonical(next)));
        let (va, len) = span(found);
        next = paging.linear(va).wrapping_add(len);
    }
    let last = paging.canonical((paging.linear(va) + len).min(paging.linear(u64::MAX)));
    let found: Vec<_> = paging.walk(ram, cr3, va, last).take(MANY).collect();
    let end = *found.last().unwrap();
    if found.len() < MANY {
        assert_eq!(Some(end), paging.lookup(ram, cr3, last));
    } else {
        assert!(paging.linear(span(end).0) <= paging.linear(last));
    }
}

/// Visiting finds each leaf once, and all that a walk finds.
pub(crate) fn check_visit(machine: Machine, ram: &Ram, cr3: u64) {
    let paging = machine.paging();
    let (mut seen, mut visited) = (BTreeSet::new(), BTreeMap::new());
    paging.visit_tables(
        ram,
        cr3,
        Half::Kernel,
        &mut |table, level| seen.insert((table.gpa, table.private, level)),
        &mut |found| {
            if let Found::Leaf(leaf) = found {
                let key = (leaf.at.gpa, leaf.at.private, leaf.size);
                assert_eq!(visited.insert(key, leaf.entry), None);
            }
        },
    );
    let walk = paging.walk(ram, cr3, machine.kernel(), u64::MAX).take(MANY);
    for leaf in walk.filter_map(Found::leaf) {
        let key = (leaf.at.gpa, leaf.at.private, leaf.size);
        assert_eq!(visited.get(&key), Some(&leaf.entry));
    }
}
