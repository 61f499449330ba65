// SPDX-License-Identifier: GPL-2.0

//! Changes of open cells, and what follows from them: each change is one compare-exchange, all else comes
//! after it and follows from what the word was and is.

use super::alloc::Asker;
use super::cell::{Cell, Level};
use super::lane::Spot;
use super::word::{update, Word};
use super::{Arenas, Pool};

/// A piece of a cell. A piece of a chunk is a page, whose cell has the same number.
#[inline]
pub(super) const fn piece(level: Level, cell: Spot, first: u32) -> Spot {
    // CAST: 15 at most.
    Spot {
        arena: cell.arena,
        index: cell.index * (level.bytes() / level.piece_bytes()) + first as usize,
    }
}

impl<T: Arenas> Pool<T> {
    #[inline]
    pub(super) fn cell(&self, level: Level, spot: Spot) -> Option<&T::Word> {
        self.arenas.get(spot.arena)?.cell(level, spot.index)
    }

    /// Takes a run from a cell, if it is the asker's. With `keep`, and unless a lane keeps it already, the
    /// asker's lane does from now on.
    #[inline]
    pub(super) fn take_run(
        &self,
        asker: &Asker<'_, T::Word>,
        level: Level,
        spot: Spot,
        order: u32,
        keep: bool,
    ) -> Option<Spot> {
        let keeper = if keep { asker.lane.keeper } else { 0 };
        let mut first = 0;
        let (old, new) = self.change(level, spot, |cell| {
            let (cell, run) = cell.take(asker.id, order, keeper)?;
            first = run;
            Some(cell)
        })?;
        if old.keeper() != new.keeper() {
            self.keep(asker.id, asker.lane, level, spot);
        }
        Some(piece(level, spot, first))
    }

    /// Gives pieces back to their cell.
    pub(super) fn give(&self, level: Level, spot: Spot, pieces: u64) {
        self.change(level, spot, |cell| Some(cell.give(level, pieces)));
    }

    /// Changes a cell, does what follows, and returns what it was and is; `None` if it was left alone.
    #[inline]
    pub(super) fn change(
        &self,
        level: Level,
        spot: Spot,
        mut change: impl FnMut(Cell) -> Option<Cell>,
    ) -> Option<(Cell, Cell)> {
        let word = self.cell(level, spot)?;
        let (old, new) = update(word, |word| change(Cell(word)).map(|cell| cell.0))?;
        let (old, new) = (Cell(old), Cell(new));
        if old.is_spare() != new.is_spare() || !new.is_open() {
            self.follow(level, spot, old, new);
        }
        Some((old, new))
    }

    fn follow(&self, level: Level, spot: Spot, old: Cell, new: Cell) {
        let chunk = level.chunk(spot.index);
        if old.is_spare() != new.is_spare() {
            self.count_spare(old.owner(), level, new.is_spare());
        }
        if new.is_spare() {
            let arena = self.arenas.get(spot.arena);
            if let Some(spare) = arena.and_then(|arena| arena.spare(level)) {
                spare.fetch_or(1 << chunk);
            }
        }
        if old.is_open() && !new.is_open() {
            let up = Spot {
                arena: spot.arena,
                index: chunk,
            };
            match level {
                Level::Page => {
                    let first = level.of_chunk(chunk).start;
                    self.give(Level::Chunk, up, 1 << (spot.index - first));
                }
                Level::Chunk => self.give_chunks(old.owner(), up, 0),
            }
        }
    }
}
