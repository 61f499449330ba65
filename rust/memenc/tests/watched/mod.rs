// SPDX-License-Identifier: GPL-2.0

//! A pool of loom's atomics, whose memory loom watches.
//!
//! The memory is one cell of loom's for each of the first pages of a chunk: it reports any two accesses of which
//! neither comes after the other. So whoever gets a block also gets to see that it is his alone.

use std::sync::atomic::{self as plain, AtomicU16, Ordering};
use std::sync::OnceLock;

use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicU64;
use loom::sync::Arc;
use memenc::pool::{Block, Refusal, Word, ARENA_BYTES, CHUNK_BYTES, LANE_WORDS, SMALL_ARENA_BYTES};

use super::pools::{self, bytes, empty, word, Fresh, TestClient, TestPool};

pub(crate) const PAGE: usize = 4096;
/// The pages of each chunk that are watched.
const WATCHED: usize = 3;

/// Made on first use, as an arena has thousands. What threads share has to be made before they start: see
/// [`Fresh`].
#[derive(Default)]
pub(crate) struct Watched(OnceLock<AtomicU64>);

impl Watched {
    fn get(&self) -> &AtomicU64 {
        self.0.get_or_init(|| AtomicU64::new(0))
    }
}

word!(Watched);

/// An atomic of loom's, or for what need not be explored one of the standard library's.
pub(crate) enum Loom {
    Watched(Watched),
    Plain(plain::AtomicU64),
}

impl Fresh for Loom {
    /// The words of clients and the directory; an arena's head, its chunks, and the pages of those chunks
    /// that tests leave free.
    fn fresh(index: usize) -> Self {
        let loom = Loom::Watched(Watched::default());
        if index < 72 || [0, 29, 30, 31].contains(&((index - 72) / 16)) {
            loom.load();
        }
        loom
    }
}

/// What is done to either.
macro_rules! either {
    ($loom:expr, $method:ident($($argument:expr),*)) => {
        match $loom {
            Loom::Watched(word) => Word::$method(word, $($argument),*),
            Loom::Plain(word) => Word::$method(word, $($argument),*),
        }
    };
}

impl Word for Loom {
    fn load(&self) -> u64 {
        either!(self, load())
    }

    fn store(&self, value: u64) {
        either!(self, store(value));
    }

    fn compare_exchange(&self, old: u64, new: u64) -> Result<u64, u64> {
        either!(self, compare_exchange(old, new))
    }

    fn fetch_add(&self, value: u64) -> u64 {
        either!(self, fetch_add(value))
    }

    fn fetch_or(&self, bits: u64) -> u64 {
        either!(self, fetch_or(bits))
    }
}

/// The words of lanes. A lane keeps many chunks and pages, all in the same way: what it keeps first, in its second
/// place, is watched.
fn lanes(count: usize) -> Vec<Loom> {
    let word = |index: usize| match index % LANE_WORDS {
        0..=3 | 5 | 9 => Loom::fresh(0),
        _ => Loom::Plain(plain::AtomicU64::default()),
    };
    (0..count * LANE_WORDS).map(word).collect()
}

/// A page: what loom watches, and who wrote it last.
#[derive(Default)]
struct Page(UnsafeCell<()>, AtomicU16);

/// One arena of 2 MiB, and two clients with two lanes each.
pub(crate) struct World {
    pub(crate) pool: TestPool<Loom>,
    pub(crate) clients: [TestClient<Loom>; 2],
    pages: Vec<Page>,
}

impl World {
    /// All but so many of the 32 chunks are taken by a third client.
    pub(crate) fn new(chunks: usize) -> Arc<Self> {
        let pool = empty(1);
        pool.add(0, ARENA_BYTES as u64, SMALL_ARENA_BYTES).unwrap();
        let client = |id, count| pool.client(id, 0, lanes(count)).unwrap();
        let (clients, third) = ([client(1, 2), client(2, 2)], client(3, 1));
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

    pub(crate) fn alloc(&self, id: u16, lane: usize, len: usize) -> Result<Block, Refusal> {
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

    pub(crate) fn free(&self, id: u16, block: Block) {
        self.write(id, &block);
        self.pool.free(&self.clients[usize::from(id) - 1], block);
    }

    /// Frees what is left, after which both clients hold nothing and can be closed.
    pub(crate) fn finish(&self, blocks: impl IntoIterator<Item = (u16, Block)>) {
        for (id, block) in blocks {
            self.free(id, block);
        }
        for client in &self.clients {
            assert_eq!((self.pool.bytes(client), self.pool.close(client)), (0, 0));
        }
    }

    /// How many blocks of this size a client can get now; all are freed again.
    pub(crate) fn room(&self, id: u16, len: usize) -> usize {
        let blocks: Vec<_> = std::iter::from_fn(|| self.alloc(id, 0, len).ok()).collect();
        let count = blocks.len();
        for block in blocks {
            self.free(id, block);
        }
        count
    }
}
