// SPDX-License-Identifier: GPL-2.0

//! The pool against a naive model: whatever is asked, it does what the model says, and nothing is lost.

#![cfg(not(miri))] // The model looks at every granule: Miri would take hours.

mod pools;
mod random;

use memenc::pool::{Rank, Request, ARENA_BYTES, CHUNK_BYTES, GRANULE, SMALL_ARENA_BYTES};
use pools::model::Model;
use proptest::prelude::*;

const ARENAS: usize = 3;
const CLIENTS: u16 = 4;

#[derive(Clone, Debug)]
enum Step {
    Alloc(u16, usize, Request),
    /// Many of the same size.
    Fill(u16, usize, usize, usize),
    Free(usize),
    /// Every second one, and so on.
    FreeEach(usize),
    Note(usize, u64),
    Add(usize, usize, bool, bool),
    Retire(usize),
    Open(u16, usize, u64),
    Quota(u16, u64),
    Rank(u16, Rank),
    Kept(u64, u64),
    Drain(u16),
    Reclaim,
    Close(u16),
    Find(u64),
}

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

fn carry_out(model: &mut Model, step: Step) {
    match step {
        Step::Alloc(id, lane, request) => {
            model.alloc(id, lane, &request);
        }
        Step::Fill(id, lane, len, count) => {
            let _ = (0..count).all(|_| model.alloc(id, lane, &pools::bytes(len)));
        }
        Step::Free(which) => model.free(which),
        Step::FreeEach(step) => {
            for which in (0..model.live()).rev().step_by(step) {
                model.free(which);
            }
        }
        Step::Note(which, original) => model.note(which, original),
        Step::Add(index, place, whole, for_large) => {
            let bytes = if whole {
                ARENA_BYTES
            } else {
                SMALL_ARENA_BYTES
            };
            model.add(index, place, bytes, for_large);
        }
        Step::Retire(index) => model.retire(index),
        Step::Open(id, lanes, quota) => model.open(id, lanes, quota),
        Step::Quota(id, quota) => model.set_quota(id, quota),
        Step::Rank(id, rank) => model.set_rank(id, rank),
        Step::Kept(first, second) => model.set_kept(first, second),
        Step::Drain(id) => model.drain(id),
        Step::Reclaim => {
            model.pool.reclaim();
        }
        Step::Close(id) => model.close(id),
        Step::Find(address) => model.find(address),
    }
}

proptest! {
    #![proptest_config(random::cases(500))]

    #[test]
    fn it_does_what_the_model_says(steps in prop::collection::vec(steps(), 1..250)) {
        let mut model = Model::new(ARENAS);
        model.add(0, 0, ARENA_BYTES, false);
        model.open(1, 2, 0);
        model.open(2, 1, 0);
        for step in steps {
            carry_out(&mut model, step);
            model.check();
        }
        model.finish();
    }
}
