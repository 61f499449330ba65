// SPDX-License-Identifier: GPL-2.0

//! What clients' blocks have in all: found out by looking, so that nothing need be counted for each block.

use core::ops::Deref;

use super::arena::Arena;
use super::cell::{Cell, Level};
use super::client::Client;
use super::word::{ones, Word};
use super::{Arenas, Pool, CHUNK_BYTES, GRANULE, PAGE_BYTES};

impl<T: Arenas> Pool<T> {
    /// How many bytes a client's blocks have. Exact while nobody is at work; it takes as long as the pool is large.
    pub fn bytes(&self, client: &Client<T::Storage>) -> u64 {
        let mut bytes = 0;
        for (_, arena) in self.arenas_from(0) {
            // CAST: 4 MiB at most.
            bytes += in_arena(arena, client.id()) as u64;
        }
        bytes
    }
}

fn in_arena<W: Word, S: Deref<Target = [W]>>(arena: &Arena<S>, client: u16) -> usize {
    let free = arena.free().map_or(0, Word::load);
    let cell = |level, index| {
        arena
            .cell(level, index)
            .map_or(Cell(0), |cell| Cell(cell.load()))
    };
    let mut bytes = 0;
    for chunk in ones(arena.chunks() & !free) {
        let whole = cell(Level::Chunk, chunk);
        if whole.owner() != client {
            continue;
        }
        bytes += CHUNK_BYTES;
        if whole.is_open() {
            // CAST: 16 at most.
            bytes -= whole.free().count_ones() as usize * PAGE_BYTES;
            let pages = Level::Page
                .of_chunk(chunk)
                .map(|page| cell(Level::Page, page));
            let open = pages.filter(|page| page.open_for(client));
            // CAST: 8 each at most.
            let unused = open
                .map(|page| page.free().count_ones() as usize * GRANULE)
                .sum();
            // Less than nothing if somebody is at work.
            bytes = bytes.saturating_sub(unused);
        }
    }
    bytes
}
