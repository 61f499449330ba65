// SPDX-License-Identifier: GPL-2.0
//! The allocator of the guest helper's pool, against the naive model of its tests.

#[path = "../../../../../rust/memenc/tests/pools/mod.rs"]
mod pools;

use arbitrary::{Result, Unstructured};
use memenc::pool::{Rank, Request, CHUNK_BYTES, GRANULE};
use pools::steps::{self, Step, ARENAS, CLIENTS};

/// The model looks at every granule in each step.
const MOST_STEPS: usize = 200;

/// Runs an input.
///
/// # Panics
///
/// When pool and model disagree.
pub fn run(input: &[u8]) {
    let mut u = Unstructured::new(input);
    let mut model = steps::model();
    for _ in 0..MOST_STEPS {
        if u.is_empty() {
            break;
        }
        // An input that is too short is as good as one with zeros behind it.
        let Ok(step) = step(&mut u) else { break };
        step.carry_out(&mut model);
        model.check();
    }
    model.finish();
}

fn step(u: &mut Unstructured<'_>) -> Result<Step> {
    let id = u.int_in_range(1..=CLIENTS)?;
    Ok(match u.int_in_range(0..=31u8)? {
        0..=11 => Step::Alloc(id, u.int_in_range(0..=3)?, request(u)?),
        12 => {
            let len = *u.choose(&[GRANULE, 4096, 16384, CHUNK_BYTES])?;
            Step::Fill(id, u.int_in_range(0..=3)?, len, u.int_in_range(1..=300)?)
        }
        13..=19 => Step::Free(u.arbitrary::<u16>()?.into()),
        20 => Step::FreeEach(u.int_in_range(1..=3)?),
        21 => Step::Note(u.arbitrary::<u16>()?.into(), u.arbitrary()?),
        22 => Step::Add(
            arena(u)?,
            u.int_in_range(0..=3)?,
            u.arbitrary()?,
            u.arbitrary()?,
        ),
        23 => Step::Retire(arena(u)?),
        24 => Step::Open(id, u.int_in_range(1..=3)?, quota(u)?),
        25 => Step::Quota(id, quota(u)?),
        26 => Step::Rank(id, *u.choose(&[Rank::First, Rank::Second, Rank::Third])?),
        27 => Step::Kept(u.int_in_range(0..=80)?, u.int_in_range(0..=80)?),
        28 => Step::Drain(id),
        29 => Step::Reclaim,
        30 => Step::Close(id),
        _ => Step::Find(u.int_in_range(0..=0x1ff_ffff)?),
    })
}

/// All orders alike, a little less or more than a power of two.
fn request(u: &mut Unstructured<'_>) -> Result<Request> {
    let len = GRANULE << u.int_in_range(0..=13)?;
    let more = u.int_in_range(0..=GRANULE - 1)?;
    Ok(Request {
        len: if u.arbitrary()? {
            len - more
        } else {
            len + more / 4
        },
        offset: if u.ratio(1, 4)? {
            u.int_in_range(0..=4095)?
        } else {
            0
        },
        boundary: if u.ratio(1, 8)? {
            1 << u.int_in_range(9..=63)?
        } else {
            0
        },
        overwritten: u.int_in_range(0..=2 * CHUNK_BYTES)?,
        lasting: u.arbitrary()?,
    })
}

fn arena(u: &mut Unstructured<'_>) -> Result<usize> {
    u.int_in_range(0..=ARENAS - 1)
}

fn quota(u: &mut Unstructured<'_>) -> Result<u64> {
    Ok(if u.arbitrary()? {
        u.int_in_range(0..=200)?
    } else {
        0
    })
}
