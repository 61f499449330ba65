// SPDX-License-Identifier: GPL-2.0
//! The guest's page tables: garbage that is read, and ranges that are flipped while writes fail.
//!
//! Wrong is what the tests of `rust/memenc` take for wrong.

#[path = "../../../../../rust/memenc/tests/reading/mod.rs"]
mod reading;
#[path = "../../../../../rust/memenc/tests/tables/mod.rs"]
mod tables;
#[path = "../../../../../rust/memenc/tests/vm/mod.rs"]
mod vm;

use arbitrary::{Result, Unstructured};
use tables::{Machine, Ram};
use vm::{Chunk, Failure, Region, FLAGS, GIANT, PAGE};

/// Runs an input.
///
/// # Panics
///
/// When something is wrong.
pub fn run(input: &[u8]) {
    // An input that is too short is as good as one with zeros behind it.
    let _ = steps(&mut Unstructured::new(input));
}

fn steps(u: &mut Unstructured<'_>) -> Result<()> {
    let machine = Machine {
        five: u.arbitrary()?,
        vtom: u.arbitrary()?,
    };
    if u.arbitrary()? {
        read(u, machine)
    } else {
        flip(u, machine)
    }
}

/// Garbage in six pages, whose entries mostly point to each other.
fn read(u: &mut Unstructured<'_>, machine: Machine) -> Result<()> {
    let mut ram = Ram::default();
    for _ in 0..u.int_in_range(1..=24)? {
        let page = (u.int_in_range(0..=5)?, u.arbitrary()?);
        let index = *u.choose(&[0, 1, 2, 511])?;
        let mut entry: u64 = u.arbitrary()?;
        if u.ratio(7, 8)? {
            entry &= 1 << 63 | 1 << tables::BIT | 0xfff;
            entry |= 1 | u.int_in_range(0..=5)? << 12;
        }
        ram.pages.entry(page).or_insert_with(tables::page)[index] = entry;
    }
    let cr3 = u.int_in_range(0..=5)? << 12 | machine.bit(u.arbitrary()?);
    let mut va = 0;
    for _ in 0..5 {
        va = va << 9 | u.choose(&[0, 1, 2, 511])?;
    }
    let va = machine.canonical(va << 12);
    reading::check_lookup(machine, &ram, cr3, va);
    reading::check_walk(machine, &ram, cr3, va, u.int_in_range(0..=0x1_ffff_ffff)?);
    reading::check_visit(machine, &ram, cr3);
    Ok(())
}

/// Three GiB of pages, and flips until the input ends.
fn flip(u: &mut Unstructured<'_>, machine: Machine) -> Result<()> {
    let regions = [region(u)?, region(u)?, region(u)?];
    let mut vm = vm::vm(machine, &regions);
    while !u.is_empty() {
        let (a, b) = (edge(u)?, edge(u)?);
        let failure = match u.int_in_range(0..=3u8)? {
            0 => Failure::Never,
            1 => Failure::Alloc(u.int_in_range(0..=4)?),
            2 => Failure::Write(u.int_in_range(0..=2100)?, u.arbitrary()?),
            _ => Failure::Writes(u.int_in_range(0..=2100)?, u.arbitrary()?),
        };
        let va = machine.kernel() + a.min(b) * PAGE;
        vm.check(va, a.abs_diff(b) + 1, u.arbitrary()?, failure);
    }
    Ok(())
}

/// A page near the border of the first GiB and the second, or of the second and the third.
fn edge(u: &mut Unstructured<'_>) -> Result<u64> {
    let border = GIANT / PAGE * u.int_in_range(3..=4)?;
    Ok(border - 1536 + u.int_in_range(0..=3072)?)
}

fn region(u: &mut Unstructured<'_>) -> Result<Region> {
    if u.ratio(1, 3)? {
        let flags = u.arbitrary::<u64>()? & (FLAGS | 1 << 12);
        return Ok(Region::Giant {
            private: u.arbitrary()?,
            flags,
        });
    }
    Ok(Region::Chunks(
        (0..6).map(|_| chunk(u)).collect::<Result<_>>()?,
    ))
}

fn chunk(u: &mut Unstructured<'_>) -> Result<Chunk> {
    let flags = u.arbitrary::<u64>()? & FLAGS;
    Ok(match u.int_in_range(0..=7u8)? {
        0 => Chunk::Hole,
        1..=5 => Chunk::Large {
            private: u.arbitrary()?,
            flags,
        },
        _ => {
            let mut group = || -> Result<_> { Ok(Some((u.arbitrary()?, flags))) };
            Chunk::Small((0..8).map(|_| group()).collect::<Result<_>>()?)
        }
    })
}
