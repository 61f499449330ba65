// SPDX-License-Identifier: GPL-2.0

//! Sequences made to break the pool into pieces. The model decides of each request whether it may be
//! refused: only if every place for it has a live block in it.

#![cfg(not(miri))] // The model looks at every granule: Miri would take hours.

mod pools;

use memenc::pool::{ARENA_BYTES, GRANULE};
use pools::bytes;
use pools::model::Model;

const ARENAS: usize = 2;

/// A pool and some clients, with this many lanes each.
fn model(clients: u16, lanes: usize) -> Model {
    let mut model = Model::new(ARENAS);
    for index in 0..ARENAS {
        model.add(index, index, ARENA_BYTES, false);
    }
    for id in 1..=clients {
        model.open(id, lanes, 0);
    }
    model
}

/// As many blocks as there are, by clients in turn.
fn fill(model: &mut Model, clients: u16, len: usize) -> usize {
    let turns = (1..=clients).cycle().zip(0..);
    let full = turns.map(|(id, lane)| model.alloc(id, lane, &bytes(len)));
    full.take_while(|given| *given).count()
}

/// Orders of blocks.
fn orders() -> impl Iterator<Item = u32> {
    0..14
}

#[test]
fn every_second_block_freed_is_half_of_the_pool_and_all_that_is_needed() {
    for order in orders() {
        let (len, mut model) = (GRANULE << order, model(1, 1));
        let count = fill(&mut model, 1, len);
        assert_eq!(count, ARENAS * ARENA_BYTES / len);
        // In order of their addresses: one client, one lane, nothing freed.
        for which in (0..count).rev().step_by(2) {
            model.free(which);
        }
        if order < 13 {
            let before = model.fragmented;
            assert!(!model.alloc(1, 0, &bytes(2 * len)));
            assert_eq!(model.fragmented, before + 1);
        }
        assert_eq!(fill(&mut model, 1, len), count / 2);
        model.check();
        model.finish();
    }
}

/// One small block in each place for a larger one, for all sizes: with one fewer there is room.
#[test]
fn as_many_blocks_as_there_are_places_are_needed_to_refuse_one() {
    for order in orders().skip(1) {
        let (len, mut model) = (GRANULE << order, model(1, 1));
        let places = fill(&mut model, 1, len);
        for _ in 0..places {
            // Each block of this size gives way to a small one in the same place.
            model.free(0);
            assert!(model.alloc(1, 0, &bytes(1)));
        }
        while model.alloc(1, 0, &bytes(len)) {}
        model.check();
        model.finish();
    }
}

/// Sizes double; of each, those blocks stay that break as many larger places as possible (after Robson).
#[test]
fn survivors_of_all_sizes_break_no_more_than_their_own_places() {
    for clients in [1, 3] {
        let mut model = model(clients, 2);
        for order in orders() {
            let from = model.live();
            fill(&mut model, clients, GRANULE << order);
            let mut which = model.live();
            while which > from {
                which -= 1;
                if which % 8 != 0 {
                    model.free(which);
                }
            }
            model.check();
        }
        assert!(model.fragmented > 0);
        model.finish();
    }
}

/// Years of work in short: sizes and lifetimes of all kinds, at a pool that is nearly full.
#[test]
fn it_is_whole_again_after_any_amount_of_work() {
    let mut model = model(3, 2);
    let mut random = 1u64;
    let mut next = |below: usize| {
        // Marsaglia's xorshift.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 16) as usize % below
    };
    for _ in 0..6000 {
        let (id, lane, order) = (1 + next(3) as u16, next(2), next(13) as u32);
        let len = (GRANULE << order) - next(GRANULE);
        if !model.alloc(id, lane, &bytes(len)) {
            for _ in 0..1 + next(12) {
                model.free(next(1 << 20));
            }
        }
    }
    model.check();
    model.finish();
}
