// SPDX-License-Identifier: GPL-2.0

//! Whole chunks: who takes them, who had them last, and how many there are.

use core::ops::Deref;

use super::alloc::Asker;
use super::arena::Arena;
use super::block::Refusal;
use super::cell::{Cell, Level};
use super::client::{POOL, POOL_CHUNKS, POOL_FREE, POOL_FREE_FOR_LARGE};
use super::lane::Spot;
use super::word::{update, Word};
use super::{runs, Arenas, Pool, CHUNK_BYTES};

impl<T: Arenas> Pool<T> {
    /// Takes `1 << order` chunks in a row, as the asker's, and scrubbed if they were another's, but for the
    /// first `overwritten` bytes. If there are none, it is not said here whether the pool is fragmented.
    pub(super) fn chunks(
        &self,
        asker: &Asker<'_, T::Word>,
        order: u32,
        overwritten: usize,
    ) -> Result<Spot, Refusal> {
        let spot = self.reserved(asker, order, false)?;
        self.own(asker, spot, order, overwritten);
        Ok(spot)
    }

    /// The same for a block that may come from an arena for large blocks, which is asked first.
    pub(super) fn large(
        &self,
        asker: &Asker<'_, T::Word>,
        order: u32,
        overwritten: usize,
    ) -> Result<Spot, Refusal> {
        let spot = self
            .reserved(asker, order, true)
            .or_else(|_| self.reserved(asker, order, false))?;
        self.own(asker, spot, order, overwritten);
        Ok(spot)
    }

    /// Chunks of one kind of arenas, counted as held.
    fn reserved(
        &self,
        asker: &Asker<'_, T::Word>,
        order: u32,
        for_large: bool,
    ) -> Result<Spot, Refusal> {
        let count = 1u64 << order;
        if for_large && self.read(POOL, POOL_FREE_FOR_LARGE) < count {
            return Err(Refusal::Exhausted);
        }
        self.reserve(asker.id, count, for_large)
            .ok_or(Refusal::Quota)?;
        let start = asker.lane.arena(for_large);
        let may = for_large || count + self.left(asker.id) <= self.free_for_all();
        let found = may.then(|| self.find_chunks(start, order, for_large));
        let Some(spot) = found.flatten() else {
            self.unreserve(asker.id, count, for_large);
            return Err(Refusal::Exhausted);
        };
        self.note_highest(asker.id);
        self.count_free(for_large, count.wrapping_neg());
        if spot.arena != start {
            asker.lane.set_arena(for_large, spot.arena);
        }
        Ok(spot)
    }

    /// Counts chunks of an arena for large blocks, or of another, as free; wrapping.
    pub(super) fn count_free(&self, for_large: bool, more: u64) {
        self.count(POOL, POOL_FREE, more);
        if for_large {
            self.count(POOL, POOL_FREE_FOR_LARGE, more);
        }
    }

    /// Chunks from an arena some of which is in use already, or else from any. Of those for large blocks, the one
    /// that was had last is asked first, as there nothing stays.
    fn find_chunks(&self, start: usize, order: u32, for_large: bool) -> Option<Spot> {
        let hint = self.arenas.get(start).filter(|_| for_large);
        let hinted = hint.and_then(|arena| take_chunks(arena, order, for_large, true));
        let mut spot = hinted.map(|index| Spot {
            arena: start,
            index,
        });
        for whole in [false, true] {
            let mut arenas = self.arenas_from(start);
            spot = spot.or_else(|| {
                arenas.find_map(|(index, arena)| {
                    let chunk = take_chunks(arena, order, for_large, whole)?;
                    Some(Spot {
                        arena: index,
                        index: chunk,
                    })
                })
            });
        }
        spot
    }

    /// Chunks that were just taken: scrubbed if they were another's, and the asker's from now on.
    fn own(&self, asker: &Asker<'_, T::Word>, spot: Spot, order: u32, overwritten: usize) {
        let start = spot.index * CHUNK_BYTES;
        for index in spot.index..spot.index + (1 << order) {
            let chunk = Spot {
                arena: spot.arena,
                index,
            };
            let Some(cell) = self.cell(Level::Chunk, chunk) else {
                continue;
            };
            let last = Cell(cell.load()).owner();
            if last == asker.id {
                continue;
            }
            let end = (index + 1) * CHUNK_BYTES;
            let from = (end - CHUNK_BYTES).max(start.saturating_add(overwritten));
            if last != 0 && from < end {
                (asker.scrub)(spot.arena, from, end - from);
            }
            cell.store(Cell::closed(asker.id).0);
        }
    }

    /// Gives back chunks that a client held.
    pub(super) fn give_chunks(&self, client: u16, spot: Spot, order: u32) {
        let Some(arena) = self.arenas.get(spot.arena) else {
            return;
        };
        let for_large = arena.is_for_large();
        if let Some(free) = arena.free() {
            // CAST: below 64.
            free.fetch_or(runs::run(order, spot.index as u32));
        }
        self.count_free(for_large, 1 << order);
        // Last of all: a client that holds nothing may be gone.
        self.unreserve(client, 1 << order, for_large);
    }

    /// How many chunks the pool has.
    pub fn chunks_in_all(&self) -> u64 {
        self.read(POOL, POOL_CHUNKS)
    }

    /// How many chunks are free.
    pub fn free_chunks(&self) -> u64 {
        self.read(POOL, POOL_FREE)
    }

    /// How many chunks are free in arenas for blocks of all sizes.
    pub fn free_for_all(&self) -> u64 {
        let for_large = self.read(POOL, POOL_FREE_FOR_LARGE);
        self.free_chunks().saturating_sub(for_large)
    }

    /// The largest block that could be handed out of free chunks, in bytes; 0 if there are none.
    pub fn largest_free(&self) -> usize {
        let free = self.arenas_from(0).filter_map(|(_, arena)| arena.free());
        let orders = free.filter_map(|free| runs::largest(free.load()));
        orders.max().map_or(0, |order| CHUNK_BYTES << order)
    }
}

/// Takes chunks in a row from an arena of this kind; unless all of it is free and it is not to be broken into.
fn take_chunks<W: Word, S: Deref<Target = [W]>>(
    arena: &Arena<S>,
    order: u32,
    for_large: bool,
    whole: bool,
) -> Option<usize> {
    let word = arena.free()?;
    let mut first = 0;
    update(word, |free| {
        if free == 0 || arena.is_for_large() != for_large || !whole && free == arena.chunks() {
            return None;
        }
        first = runs::best_fit(free, order)?;
        Some(free & !runs::run(order, first))
    })?;
    if arena.is_for_large() != for_large {
        // It was retired between, and added as the other kind.
        word.fetch_or(runs::run(order, first));
        return None;
    }
    // CAST: below 64.
    Some(first as usize)
}
