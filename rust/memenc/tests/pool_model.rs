// SPDX-License-Identifier: GPL-2.0

//! The pool against a naive model: whatever is asked, it does what the model says, and nothing is lost.

#![cfg(not(miri))] // The model looks at every granule: Miri would take hours.

mod pools;
mod random;

use memenc::pool::{Rank, Request, ARENA_BYTES, CHUNK_BYTES, GRANULE};
use pools::steps::{model, Step, ARENAS, CLIENTS};
use proptest::prelude::*;

/// All orders alike, a little less or more than a power of two.
fn lens() -> impl Strategy<Value = usize> {
    (0u32..14, 0usize..GRANULE, any::<bool>()).prop_map(|(order, more, less)| {
        let len = GRANULE << order;
        if less {
            len - more
        } else {
            len + more / 4
        }
    })
}

fn requests() -> impl Strategy<Value = Request> {
    let boundaries =
        prop_oneof![6 => Just(0), 1 => (9u32..64).prop_map(|bit| 1 << bit), 1 => 0u64..1 << 24];
    let offsets = prop_oneof![3 => Just(0), 1 => 0usize..4096];
    let overwritten = 0usize..2 * CHUNK_BYTES;
    (lens(), offsets, boundaries, overwritten, any::<bool>()).prop_map(
        |(len, offset, boundary, overwritten, lasting)| Request {
            len,
            offset,
            boundary,
            overwritten,
            lasting,
        },
    )
}

fn ranks() -> impl Strategy<Value = Rank> {
    prop_oneof![Just(Rank::First), Just(Rank::Second), Just(Rank::Third)]
}

fn steps() -> impl Strategy<Value = Step> {
    let (id, lane) = (1..=CLIENTS, 0usize..4);
    let quota = prop_oneof![2 => Just(0), 1 => 0u64..200];
    let small = prop_oneof![Just(GRANULE), Just(4096), Just(16384), Just(CHUNK_BYTES)];
    prop_oneof![
        20 => (id.clone(), lane.clone(), requests())
            .prop_map(|(id, lane, request)| Step::Alloc(id, lane, request)),
        2 => (id.clone(), lane.clone(), small, 1usize..300)
            .prop_map(|(id, lane, len, count)| Step::Fill(id, lane, len, count)),
        12 => any::<usize>().prop_map(Step::Free),
        2 => (1usize..4).prop_map(Step::FreeEach),
        3 => any::<(usize, u64)>().prop_map(|(which, original)| Step::Note(which, original)),
        2 => (0..ARENAS, 0usize..4, any::<bool>(), any::<bool>())
            .prop_map(|(index, place, whole, for_large)| Step::Add(index, place, whole, for_large)),
        1 => (0..ARENAS).prop_map(Step::Retire),
        2 => (id.clone(), 1usize..4, quota.clone())
            .prop_map(|(id, lanes, quota)| Step::Open(id, lanes, quota)),
        1 => (id.clone(), quota).prop_map(|(id, quota)| Step::Quota(id, quota)),
        1 => (id.clone(), ranks()).prop_map(|(id, rank)| Step::Rank(id, rank)),
        1 => (0u64..80, 0u64..80).prop_map(|(first, second)| Step::Kept(first, second)),
        1 => id.clone().prop_map(Step::Drain),
        1 => Just(Step::Reclaim),
        1 => id.prop_map(Step::Close),
        2 => (0..6 * ARENA_BYTES as u64).prop_map(Step::Find),
    ]
}

proptest! {
    #![proptest_config(random::cases(500))]

    #[test]
    fn it_does_what_the_model_says(steps in prop::collection::vec(steps(), 1..250)) {
        let mut model = model();
        for step in steps {
            step.carry_out(&mut model);
            model.check();
        }
        model.finish();
    }
}
