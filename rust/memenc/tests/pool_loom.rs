// SPDX-License-Identifier: GPL-2.0

//! The pool under every schedule of two or three threads, and under all that weak memory orders allow.
//!
//! The memory itself is one cell of loom's for each of the first pages of a chunk: it reports any two accesses
//! of which neither comes after the other. So whoever gets a block also gets to see that it is his alone.

#![cfg(not(miri))] // Loom switches stacks.

mod pools;

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::OnceLock;

use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicU64;
use loom::sync::Arc;
use loom::thread;
use memenc::pool::{
    Block, Record, Refusal, Word, ARENA_BYTES, CHUNK_BYTES, GRANULE, SMALL_ARENA_BYTES,
};
use pools::{bytes, client, empty, word, Fresh, TestClient, TestPool};

const PAGE: usize = 4096;
/// The pages of each chunk that are watched.
const WATCHED: usize = 3;

/// Made on first use, as an arena has thousands. What threads share has to be made before they start: see
/// [`Fresh`].
struct Loom(OnceLock<AtomicU64>);

impl Fresh for Loom {
    /// The words of lanes, clients and the directory; an arena's head, its chunks, and the pages of those chunks
    /// that tests leave free.
    fn fresh(index: usize) -> Self {
        let loom = Loom(OnceLock::new());
        if index < 72 || [0, 29, 30, 31].contains(&((index - 72) / 16)) {
            loom.get();
        }
        loom
    }
}

impl Loom {
    fn get(&self) -> &AtomicU64 {
        self.0.get_or_init(|| AtomicU64::new(0))
    }
}

word!(Loom);

/// A page: what loom watches, and who wrote it last.
#[derive(Default)]
struct Page(UnsafeCell<()>, AtomicU16);

/// One arena of 2 MiB, and two clients with two lanes each.
struct World {
    pool: TestPool<Loom>,
    clients: [TestClient<Loom>; 2],
    pages: Vec<Page>,
}

impl World {
    /// All but so many of the 32 chunks are taken by a third client.
    fn new(chunks: usize) -> Arc<Self> {
        let pool = empty(1);
        pool.add(0, ARENA_BYTES as u64, SMALL_ARENA_BYTES).unwrap();
        let clients = [client(&pool, 1, 2), client(&pool, 2, 2)];
        let third = client(&pool, 3, 1);
        let mut rest = 32 - chunks;
        while rest > 0 {
            let count = 1 << rest.ilog2();
            pools::get(&pool, &third, count * CHUNK_BYTES).unwrap();
            rest -= count;
        }
        let pages = std::iter::repeat_with(Page::default);
        let world = World {
            pool,
            clients,
            pages: pages.take(32 * WATCHED).collect(),
        };
        Arc::new(world)
    }

    /// The watched pages of a piece of the arena.
    fn pages(&self, offset: usize, len: usize) -> impl Iterator<Item = &Page> {
        let pages = offset / PAGE..(offset + len).div_ceil(PAGE);
        pages
            .filter(|page| page % 16 < WATCHED)
            .map(|page| &self.pages[page / 16 * WATCHED + page % 16])
    }

    fn alloc(&self, id: u16, lane: usize, len: usize) -> Result<Block, Refusal> {
        let scrub = |_, offset, len| {
            for page in self.pages(offset, len) {
                page.0.with_mut(|_| ());
                page.1.store(0, Ordering::Relaxed);
            }
        };
        let client = &self.clients[usize::from(id) - 1];
        let block = self.pool.alloc(client, lane, &bytes(len), scrub)?;
        self.write(id, &block);
        Ok(block)
    }

    /// As the client's device does. Granules share a page: there loom is not asked.
    fn write(&self, id: u16, block: &Block) {
        for page in self.pages(block.offset(), block.len()) {
            if block.len() >= PAGE {
                page.0.with_mut(|_| ());
            }
            let last = page.1.swap(id, Ordering::Relaxed);
            assert!(last == 0 || last == id, "{id} sees what {last} wrote");
        }
    }

    fn free(&self, id: u16, lane: usize, block: Block) {
        self.write(id, &block);
        self.pool
            .free(&self.clients[usize::from(id) - 1], lane, block);
    }

    /// Frees what is left, after which both clients hold nothing and can be closed.
    fn finish(&self, blocks: impl IntoIterator<Item = (u16, Block)>) {
        for (id, block) in blocks {
            self.free(id, 0, block);
        }
        for client in &self.clients {
            assert_eq!((client.bytes(), self.pool.close(client)), (0, 0));
        }
    }

    /// How many blocks of this size a client can get now; all are freed again.
    fn room(&self, id: u16, len: usize) -> usize {
        let blocks: Vec<_> = std::iter::from_fn(|| self.alloc(id, 0, len).ok()).collect();
        let count = blocks.len();
        for block in blocks {
            self.free(id, 0, block);
        }
        count
    }
}

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
    explore(3, || {
        let world = World::new(3);
        let (one, two) = both(&world, |w| w.alloc(1, 0, PAGE), |w| w.alloc(1, 0, PAGE));
        let (one, two) = (one.unwrap(), two.unwrap());
        assert!(!overlap(&one, &two));
        world.finish([(1, one), (1, two)]);
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
            move |w| (w.free(1, 1, first), w.free(1, 1, third)),
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
        world.free(1, 0, blocks.remove(0));
        blocks.insert(0, world.alloc(1, 1, half).unwrap());
        world.pool.drain(&world.clients[0]);
        world.free(1, 0, blocks.remove(3));
        let first = blocks.remove(0);
        let two = both(
            &world,
            move |w| w.free(1, 1, first),
            |w| w.alloc(1, 0, half),
        );
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
        let two = both(
            &world,
            move |w| w.free(1, 0, block),
            |w| w.alloc(2, 0, PAGE),
        );
        let got = two.1.ok();
        assert_eq!(world.room(2, PAGE), 16 - usize::from(got.is_some()));
        world.finish(got.map(|block| (2, block)));
    });
}

#[test]
fn a_lane_and_whoever_reclaims_what_it_keeps_do_not_both_get_it() {
    explore(3, || {
        let world = World::new(1);
        let block = world.alloc(1, 0, GRANULE).unwrap();
        world.free(1, 0, block);
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
            move |w| w.free(1, 0, block),
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
            world.free(1, 0, block);
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
        let offset = block.offset();
        let record = Record {
            original: 0x1234,
            len: 9,
            client: 1,
            flags: 0,
        };
        world.pool.note(block, &record).unwrap();
        // The one who gets it frees it, and notes another in its place.
        let end = move |w: &World| {
            let (block, taken) = w.pool.take(0, offset)?;
            assert_eq!(taken.original, 0x1234);
            w.free(1, 0, block);
            let again = w.alloc(1, 0, PAGE).unwrap();
            let other = Record {
                original: 0x5678,
                len: 10,
                ..record
            };
            w.pool.note(again, &other).unwrap();
            Some(())
        };
        let (one, two) = both(&world, end, move |w: &World| w.pool.take(0, offset));
        let got = match (one, two) {
            (Some(()), None) => world.pool.take(0, offset),
            (Some(()), Some(second)) => Some(second),
            (None, first) => first,
        };
        let (block, _) = got.expect("one of them");
        world.finish([(1, block)]);
    });
}
