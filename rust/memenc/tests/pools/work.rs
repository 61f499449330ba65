// SPDX-License-Identifier: GPL-2.0

//! What several threads do to a pool at once, and a record of each granule that finds out when two have it.

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::Mutex;

use memenc::pool::{Block, Record, Request, ARENA_BYTES, CHUNK_BYTES, GRANULE};

use super::{base, client, Fresh, TestClient, TestPool};

/// Numbers that look random (Marsaglia's xorshift).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % below
    }
}

/// Whose a granule is, 0 if nobody's, and who wrote it last, 0 if nobody since it was clean.
#[derive(Default)]
struct Granule {
    user: AtomicU16,
    writer: AtomicU16,
}

/// A pool, its clients, and its memory.
pub(crate) struct Site<W: Fresh> {
    pub(crate) pool: TestPool<W>,
    clients: Vec<TestClient<W>>,
    memory: Vec<Vec<Granule>>,
    /// Blocks for whoever comes to free them.
    left: Mutex<Vec<(u16, Block)>>,
}

impl<W: Fresh> Site<W> {
    pub(crate) fn new(arenas: usize, clients: u16, lanes: usize) -> Self {
        let pool = super::pool(arenas);
        let clients = (1..=clients).map(|id| client(&pool, id, lanes)).collect();
        let granules = || std::iter::repeat_with(Granule::default).take(ARENA_BYTES / GRANULE);
        Site {
            pool,
            clients,
            memory: (0..arenas).map(|_| granules().collect()).collect(),
            left: Mutex::new(Vec::new()),
        }
    }

    fn granules(&self, arena: usize, offset: usize, len: usize) -> &[Granule] {
        &self.memory[arena][offset / GRANULE..(offset + len) / GRANULE]
    }

    fn alloc(&self, id: u16, lane: usize, len: usize) -> Option<Block> {
        let client = &self.clients[usize::from(id) - 1];
        let request = Request {
            len,
            overwritten: len / 2,
            ..Request::default()
        };
        let scrub = |arena, offset: usize, len| {
            let start = offset.next_multiple_of(GRANULE);
            for granule in self.granules(arena, start, offset + len - start) {
                assert_eq!(granule.user.load(Ordering::Relaxed), 0, "scrubbed in use");
                granule.writer.store(0, Ordering::Relaxed);
            }
        };
        let block = self.pool.alloc(client, lane, &request, scrub).ok()?;
        let granules = self.granules(block.arena(), block.offset(), block.len());
        for (index, granule) in granules.iter().enumerate() {
            assert_eq!(granule.user.swap(id, Ordering::Relaxed), 0, "had by two");
            let last = granule.writer.swap(id, Ordering::Relaxed);
            let seen = last != 0 && last != id && index >= (len / 2).div_ceil(GRANULE);
            assert!(!seen, "{id} sees what {last} wrote");
        }
        Some(block)
    }

    fn free(&self, id: u16, block: Block) {
        for granule in self.granules(block.arena(), block.offset(), block.len()) {
            assert_eq!(
                granule.user.swap(0, Ordering::Relaxed),
                id,
                "had by another"
            );
        }
        let client = &self.clients[usize::from(id) - 1];
        self.pool.free(client, block);
    }

    /// Frees a block, most of the time as a mapping that is found by an address in it.
    fn end(&self, id: u16, block: Block, inside: usize) {
        let (offset, len) = (block.offset(), block.len());
        let record = Record {
            original: offset as u64,
            len: len as u32,
            client: id,
            flags: 1,
        };
        let address = self.pool.note(block, &record).unwrap();
        let (block, taken) =
            super::take(&self.pool, address + (inside % len) as u64).expect("it was noted");
        assert_eq!(taken, record);
        self.free(id, block);
    }

    /// One thread's work. Blocks are freed by it or by others.
    pub(crate) fn work(&self, seed: u64, steps: usize) {
        let mut random = Random::new(seed);
        for _ in 0..steps {
            let id = 1 + random.below(self.clients.len()) as u16;
            let lane = random.below(3);
            if random.below(2) == 0 {
                // Small ones more often, as they share words; Miri is slow.
                let orders = if cfg!(miri) { 8 } else { 13 };
                let order = random.below(orders).min(random.below(orders));
                let got = self.alloc(id, lane, GRANULE << order);
                let mut left = self.left.lock().unwrap();
                left.extend(got.map(|block| (id, block)));
            }
            let taken = {
                let mut left = self.left.lock().unwrap();
                let full = left.len() > 40 || random.below(2) == 0;
                let which = random.below(left.len().max(1));
                (full && which < left.len()).then(|| left.swap_remove(which))
            };
            if let Some((id, block)) = taken {
                self.end(id, block, random.below(ARENA_BYTES));
            }
        }
    }

    /// What goes on beside it: what lanes keep is given up, and arenas that are free come and go.
    pub(crate) fn upkeep(&self, seed: u64, steps: usize) {
        let mut random = Random::new(seed);
        for _ in 0..steps {
            let index = random.below(self.memory.len());
            match random.below(3) {
                0 => self
                    .pool
                    .drain(&self.clients[random.below(self.clients.len())]),
                1 => drop(self.pool.reclaim()),
                _ => {
                    if let Some(at) = self.pool.retire(index) {
                        self.memory[index].iter().for_each(|granule| {
                            assert_eq!(granule.user.load(Ordering::Relaxed), 0, "retired");
                            granule.writer.store(0, Ordering::Relaxed);
                        });
                        // As the other kind, every second time.
                        if random.below(2) == 0 {
                            self.pool.add(index, at, ARENA_BYTES).unwrap();
                        } else {
                            self.pool.add_for_large(index, at, ARENA_BYTES).unwrap();
                        }
                    }
                }
            }
        }
    }

    /// When all threads are done: everything comes back, and was counted.
    pub(crate) fn finish(self) {
        let left = self.left.lock().unwrap().drain(..).collect::<Vec<_>>();
        let bytes = left
            .iter()
            .map(|(_, block)| block.len() as u64)
            .sum::<u64>();
        let counted = self.clients.iter().map(|client| self.pool.bytes(client));
        assert_eq!(counted.sum::<u64>(), bytes);
        for (id, block) in left {
            self.free(id, block);
        }
        for client in &self.clients {
            assert_eq!((self.pool.bytes(client), self.pool.close(client)), (0, 0));
        }
        let chunks = self.memory.len() * (ARENA_BYTES / CHUNK_BYTES);
        assert_eq!(self.pool.chunks_in_all(), chunks as u64);
        assert_eq!(self.pool.free_chunks(), chunks as u64);
        for index in 0..self.memory.len() {
            assert_eq!(self.pool.retire(index), Some(base(index)));
        }
        assert_eq!((self.pool.free_chunks(), self.pool.free_for_all()), (0, 0));
    }
}
