// SPDX-License-Identifier: GPL-2.0

//! The pool under every schedule of two threads, and under all that weak memory orders allow.

#![cfg(not(miri))] // Loom switches stacks.

mod pools;
mod watched;

use loom::sync::Arc;
use loom::thread;
use memenc::pool::{Block, Record, CHUNK_BYTES, GRANULE};
use pools::take;
use watched::{World, PAGE};

/// All schedules with up to so many switches that no thread asked for; or with as many as the variable
/// `LOOM_MAX_PREEMPTIONS` says.
fn explore(preemptions: usize, test: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = model.preemption_bound.or(Some(preemptions));
    model.max_branches = 100_000;
    model.check(test);
}

/// Runs two threads and returns what both did.
fn both<A: 'static, B>(
    world: &Arc<World>,
    one: impl FnOnce(&World) -> A + 'static,
    two: impl FnOnce(&World) -> B,
) -> (A, B) {
    let shared = world.clone();
    let thread = thread::spawn(move || one(&shared));
    let two = two(world);
    (thread.join().unwrap(), two)
}

fn overlap(one: &Block, two: &Block) -> bool {
    let ends = [one.offset() + one.len(), two.offset() + two.len()];
    one.offset() < ends[1] && two.offset() < ends[0]
}

#[test]
fn two_clients_get_different_chunks() {
    explore(5, || {
        let world = World::new(2);
        let (one, two) = both(&world, |w| w.alloc(1, 0, PAGE), |w| w.alloc(2, 0, PAGE));
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_ne!(one.offset() / CHUNK_BYTES, two.offset() / CHUNK_BYTES);
        world.finish([(1, one), (2, two)]);
    });
}

#[test]
fn one_of_two_clients_gets_the_last_chunk() {
    explore(5, || {
        let world = World::new(1);
        let (one, two) = both(
            &world,
            |w| w.alloc(1, 0, PAGE),
            |w| w.alloc(2, 0, CHUNK_BYTES),
        );
        let blocks = match (one, two) {
            (Ok(one), Err(_)) => (1, one),
            (Err(_), Ok(two)) => (2, two),
            other => panic!("{other:?}"),
        };
        world.finish([blocks]);
    });
}

#[test]
fn lanes_of_a_client_get_different_pieces_of_its_last_chunk() {
    explore(2, || {
        let world = World::new(1);
        let (one, two) = both(
            &world,
            |w| w.alloc(1, 0, PAGE),
            |w| (w.alloc(1, 1, PAGE), w.alloc(1, 1, GRANULE)),
        );
        // Who comes while the other opens the chunk is refused; later there is room.
        let blocks: Vec<_> = [one, two.0, two.1].into_iter().flatten().collect();
        assert!(!blocks.is_empty());
        for (index, block) in blocks.iter().enumerate() {
            assert!(!blocks[..index].iter().any(|other| overlap(block, other)));
        }
        world.finish(blocks.into_iter().map(|block| (1, block)));
    });
}

#[test]
fn the_same_lane_may_be_used_twice_at_once() {
    explore(2, || {
        let world = World::new(3);
        let (one, two) = both(&world, |w| w.alloc(1, 0, PAGE), |w| w.alloc(1, 0, PAGE));
        let (one, two) = (one.unwrap(), two.unwrap());
        assert!(!overlap(&one, &two));
        world.finish([(1, one), (1, two)]);
    });
}

#[test]
fn one_of_two_lanes_keeps_a_chunk_that_both_find() {
    explore(3, || {
        let world = World::new(1);
        let block = world.alloc(1, 0, PAGE).unwrap();
        world.pool.drain(&world.clients[0]);
        let (one, two) = both(&world, |w| w.alloc(1, 0, PAGE), |w| w.alloc(1, 1, PAGE));
        // Who comes between the taking of a chunk and the noting of it as kept is refused.
        assert!(one.is_ok() || two.is_ok());
        let blocks = [Some(block), one.ok(), two.ok()].into_iter().flatten();
        world.finish(blocks.map(|block| (1, block)));
    });
}

#[test]
fn what_is_freed_while_another_looks_for_it_is_not_lost() {
    explore(5, || {
        let world = World::new(2);
        // Two full chunks, of which the lane keeps the second one.
        let mut full: Vec<_> = (0..4)
            .map(|_| world.alloc(1, 0, CHUNK_BYTES / 2).unwrap())
            .collect();
        let (first, third) = (full.remove(0), full.remove(1));
        let half = full.remove(0);
        let two = both(
            &world,
            move |w| (w.free(1, first), w.free(1, third)),
            |w| w.alloc(1, 0, CHUNK_BYTES / 2),
        );
        let taken: Vec<_> = two.1.into_iter().collect();
        assert_eq!(world.room(1, CHUNK_BYTES / 2), 2 - taken.len());
        let rest = taken.into_iter().chain(full).chain([half]);
        world.finish(rest.map(|block| (1, block)));
    });
}

#[test]
fn what_is_freed_in_a_chunk_that_was_just_found_full_is_found_later() {
    explore(4, || {
        let world = World::new(2);
        let half = CHUNK_BYTES / 2;
        let mut blocks: Vec<_> = (0..4).map(|_| world.alloc(1, 0, half).unwrap()).collect();
        // The first chunk is noted as spare, though it is full again; the second one has room.
        world.free(1, blocks.remove(0));
        blocks.insert(0, world.alloc(1, 1, half).unwrap());
        world.pool.drain(&world.clients[0]);
        world.free(1, blocks.remove(3));
        let first = blocks.remove(0);
        let two = both(&world, move |w| w.free(1, first), |w| w.alloc(1, 0, half));
        assert_eq!(world.room(1, half), 1);
        world.finish(blocks.into_iter().chain(two.1).map(|block| (1, block)));
    });
}

#[test]
fn the_last_free_of_a_chunk_hands_it_to_another_client_scrubbed() {
    explore(5, || {
        let world = World::new(1);
        let block = world.alloc(1, 0, PAGE).unwrap();
        world.pool.drain(&world.clients[0]);
        let two = both(&world, move |w| w.free(1, block), |w| w.alloc(2, 0, PAGE));
        let got = two.1.ok();
        assert_eq!(world.room(2, PAGE), 16 - usize::from(got.is_some()));
        world.finish(got.map(|block| (2, block)));
    });
}

#[test]
fn a_lane_and_whoever_reclaims_what_it_keeps_do_not_both_get_it() {
    explore(2, || {
        let world = World::new(1);
        let block = world.alloc(1, 0, GRANULE).unwrap();
        world.free(1, block);
        let (one, two) = both(
            &world,
            |w| w.alloc(1, 0, GRANULE),
            |w| w.alloc(2, 0, CHUNK_BYTES),
        );
        assert!(!(one.is_ok() && two.is_ok()));
        let blocks = one.into_iter().map(|block| (1, block));
        world.finish(blocks.chain(two.into_iter().map(|block| (2, block))));
    });
}

#[test]
fn a_client_that_is_closed_with_its_last_free_holds_nothing() {
    explore(5, || {
        let world = World::new(1);
        let block = world.alloc(1, 0, GRANULE).unwrap();
        both(
            &world,
            move |w| w.free(1, block),
            |w| w.pool.close(&w.clients[0]),
        );
        assert_eq!(world.pool.close(&world.clients[0]), 0);
        assert_eq!(world.room(2, CHUNK_BYTES), 1);
        world.finish([]);
    });
}

#[test]
fn a_client_that_is_closed_while_it_asks_keeps_nothing_but_its_block() {
    explore(4, || {
        let world = World::new(1);
        let (one, _) = both(
            &world,
            |w| w.alloc(1, 0, GRANULE),
            |w| w.pool.close(&w.clients[0]),
        );
        if let Ok(block) = one {
            assert_eq!(world.pool.close(&world.clients[0]), 1);
            world.free(1, block);
        }
        assert_eq!(world.pool.close(&world.clients[0]), 0);
        assert_eq!(world.room(2, CHUNK_BYTES), 1);
        world.finish([]);
    });
}

#[test]
fn an_arena_is_retired_or_used() {
    explore(5, || {
        let world = World::new(32);
        let (one, two) = both(&world, |w| w.alloc(1, 0, PAGE), |w| w.pool.retire(0));
        assert_ne!(one.is_ok(), two.is_some());
        world.finish(one.ok().map(|block| (1, block)));
        assert_eq!(world.pool.retire(0).is_some(), two.is_none());
        assert_eq!(
            (world.pool.chunks_in_all(), world.pool.free_chunks()),
            (0, 0)
        );
    });
}

#[test]
fn a_mapping_is_ended_by_one_of_two() {
    explore(5, || {
        let world = World::new(1);
        let block = world.alloc(1, 0, PAGE).unwrap();
        let record = Record {
            original: 0x1234,
            len: 9,
            client: 1,
            flags: 0,
        };
        let address = world.pool.note(block, &record).unwrap();
        // The one who gets it frees it, and notes another in its place.
        let end = move |w: &World| {
            let (block, taken) = take(&w.pool, address)?;
            assert_eq!(taken.original, 0x1234);
            w.free(1, block);
            let again = w.alloc(1, 0, PAGE).unwrap();
            let other = Record {
                original: 0x5678,
                len: 10,
                ..record
            };
            w.pool.note(again, &other).unwrap();
            Some(())
        };
        let (one, two) = both(&world, end, move |w: &World| take(&w.pool, address));
        let (block, taken) = match (one, two) {
            (Some(()), None) => take(&world.pool, address),
            // The second one took what the first one noted.
            (Some(()), Some((_, taken))) if taken.len == 9 => panic!("both got it"),
            (_, taken) => taken,
        }
        .expect("one of them");
        let whole = [(0x1234, 9), (0x5678, 10)].contains(&(taken.original, taken.len));
        assert!(whole, "halves of two");
        assert_eq!(take(&world.pool, address), None);
        world.finish([(1, block)]);
    });
}
