// SPDX-License-Identifier: GPL-2.0

//! What lanes keep and nobody uses is given up, when it is missing elsewhere.

use core::ops::Deref;

use super::arena::Arena;
use super::cell::{Cell, Level};
use super::client::Client;
use super::lane::Spot;
use super::word::{ones, update, Word};
use super::{Arenas, Pool};

impl<T: Arenas> Pool<T> {
    /// Closes all pages and chunks that lanes keep, whosever they are, and that are wholly free. Returns
    /// whether there were any.
    pub fn reclaim(&self) -> bool {
        let all = self.arenas_from(0);
        all.fold(false, |any, (index, arena)| {
            self.reclaim_arena(index, arena) || any
        })
    }

    /// The same in one arena.
    pub(super) fn reclaim_arena(&self, index: usize, arena: &Arena<T::Storage>) -> bool {
        let Some(kept) = arena.kept() else {
            return false;
        };
        // As with `word::retract`: whoever keeps something afterwards sets the bit again.
        let Some((bits, _)) = update(kept, |bits| (bits != 0).then_some(0)) else {
            return false;
        };
        let mut any = false;
        for chunk in ones(bits) {
            // Pages first: a chunk with an open page is not idle.
            for level in [Level::Page, Level::Chunk] {
                for cell in level.of_chunk(chunk) {
                    let spot = Spot {
                        arena: index,
                        index: cell,
                    };
                    any |= self.reclaim_cell(level, spot, |_| true);
                }
            }
            if is_kept(arena, chunk) {
                kept.fetch_or(1 << chunk);
            }
        }
        any
    }

    /// The same for what a client's own lanes keep.
    pub(super) fn reclaim_lanes(&self, client: &Client<T::Storage>) -> bool {
        let mut any = false;
        for level in [Level::Page, Level::Chunk] {
            for spot in client.lanes().flat_map(|lane| lane.hints(level)) {
                any |= self.reclaim_cell(level, spot, |cell| cell.open_for(client.id()));
            }
        }
        any
    }

    fn reclaim_cell(&self, level: Level, spot: Spot, which: impl Fn(Cell) -> bool) -> bool {
        let reclaimed = self.change(level, spot, |cell| {
            cell.reclaim(level).filter(|_| which(cell))
        });
        reclaimed.is_some()
    }
}

/// Whether a lane keeps this chunk or a page of it.
fn is_kept<W: Word, S: Deref<Target = [W]>>(arena: &Arena<S>, chunk: usize) -> bool {
    let kept = |level: Level| {
        level.of_chunk(chunk).any(|cell| {
            let cell = arena.cell(level, cell);
            cell.is_some_and(|cell| Cell(cell.load()).keeper() != 0)
        })
    };
    kept(Level::Chunk) || kept(Level::Page)
}
