// SPDX-License-Identifier: GPL-2.0

//! Pools made of ordinary memory and the standard library's atomics.

#![allow(dead_code, unused_imports, unused_macros)] // Each program uses a part.

pub(crate) mod memory;
pub(crate) mod model;
pub(crate) mod steps;
pub(crate) mod work;

use std::sync::atomic::AtomicU64;

use memenc::pool::{
    Arena, Arenas, Block, Client, Pool, Record, Refusal, Request, Word, ARENA_BYTES, ARENA_WORDS,
    CLIENT_WORDS, LANE_WORDS,
};

/// The atomics of a model checker, where `get` returns one: as the standard library's, with the same orders.
macro_rules! word {
    ($name:ty) => {
        impl Word for $name {
            fn load(&self) -> u64 {
                self.get().load(Ordering::Acquire)
            }

            fn store(&self, value: u64) {
                self.get().store(value, Ordering::Release);
            }

            fn compare_exchange(&self, old: u64, new: u64) -> Result<u64, u64> {
                let (won, lost) = (Ordering::AcqRel, Ordering::Acquire);
                self.get().compare_exchange(old, new, won, lost)
            }

            fn fetch_add(&self, value: u64) -> u64 {
                self.get().fetch_add(value, Ordering::AcqRel)
            }

            fn fetch_or(&self, bits: u64) -> u64 {
                self.get().fetch_or(bits, Ordering::AcqRel)
            }
        }
    };
}
pub(crate) use word;

/// Atomics a test can make.
pub(crate) trait Fresh: Word {
    /// One that is zero; at this index of the words of an arena, say.
    fn fresh(index: usize) -> Self;
}

impl Fresh for AtomicU64 {
    fn fresh(_index: usize) -> Self {
        AtomicU64::default()
    }
}

pub(crate) fn zeros<W: Fresh>(count: usize) -> Vec<W> {
    (0..count).map(W::fresh).collect()
}

/// A fixed number of arenas.
#[derive(Debug)]
pub(crate) struct Slots<W>(Vec<Arena<Vec<W>>>);

impl<W: Word> Arenas for Slots<W> {
    type Word = W;
    type Storage = Vec<W>;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, index: usize) -> Option<&Arena<Vec<W>>> {
        self.0.get(index)
    }
}

pub(crate) type TestPool<W> = Pool<Slots<W>>;
pub(crate) type TestClient<W> = Client<Vec<W>>;

/// Ids of clients are below this.
pub(crate) const IDS: usize = 16;

/// A pool without memory in it, with room for some arenas.
pub(crate) fn empty<W: Fresh>(arenas: usize) -> TestPool<W> {
    let slots = (0..arenas).map(|_| Arena::new(zeros(ARENA_WORDS)).unwrap());
    let directory = zeros((4 * arenas).next_power_of_two());
    Pool::new(Slots(slots.collect()), zeros(IDS * CLIENT_WORDS), directory).unwrap()
}

/// Where the memory of an arena of 4 MiB is.
pub(crate) fn base(arena: usize) -> u64 {
    ((arena + 3) * ARENA_BYTES) as u64
}

/// Ends the mapping at an address, whosever it is.
pub(crate) fn take<W: Fresh>(pool: &TestPool<W>, address: u64) -> Option<(Block, Record)> {
    pool.take(address, |_, _| true)
}

/// A pool of so many arenas of 4 MiB.
pub(crate) fn pool<W: Fresh>(arenas: usize) -> TestPool<W> {
    let pool = empty(arenas);
    for arena in 0..arenas {
        pool.add(arena, base(arena), ARENA_BYTES).unwrap();
    }
    pool
}

pub(crate) fn client<W: Fresh>(pool: &TestPool<W>, id: u16, lanes: usize) -> TestClient<W> {
    pool.client(id, 0, zeros(lanes * LANE_WORDS)).unwrap()
}

pub(crate) fn bytes(len: usize) -> Request {
    Request {
        len,
        ..Request::default()
    }
}

/// A block where there must be nothing to scrub.
pub(crate) fn get<W: Word>(
    pool: &TestPool<W>,
    client: &TestClient<W>,
    len: usize,
) -> Result<Block, Refusal> {
    let scrub = |_, _, _| panic!("nobody else had anything");
    pool.alloc(client, 0, &bytes(len), scrub)
}
