// SPDX-License-Identifier: GPL-2.0

//! The word of a chunk or a page: what is free in it, whose it is, and which lane keeps it.
//!
//! | Bits | Meaning |
//! |---|---|
//! | 0..16 | which pages of the chunk, or (0..8) granules of the page, are free |
//! | 16 | open: pieces of it are handed out |
//! | 32..48 | the lane that keeps it open, plus one; 0: none |
//! | 48..64 | the client it is open for, or that had it last |
//!
//! All of it changes by one compare-exchange. So whoever finds his own id in an open word and takes a
//! piece has taken it from his own chunk, whatever happened to it between: hints may be stale.

use core::ops::Range;

use super::arena::CHUNK_PAGES;
use super::{runs, CHUNK_BYTES, GRANULE, PAGE_BYTES};

const OPEN: u64 = 1 << 16;
const KEEPER_SHIFT: u32 = 32;
const OWNER_SHIFT: u32 = 48;

/// Which kind of word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// A page, of 8 granules.
    Page,
    /// A chunk, of 16 pages.
    Chunk,
}

impl Level {
    /// The bits of all its pieces.
    #[inline]
    pub(super) const fn pieces(self) -> u64 {
        match self {
            Level::Page => 0xff,
            Level::Chunk => 0xffff,
        }
    }

    /// How many bytes a piece has.
    #[inline]
    pub(super) const fn piece_bytes(self) -> usize {
        match self {
            Level::Page => GRANULE,
            Level::Chunk => PAGE_BYTES,
        }
    }

    /// How many bytes all of it has.
    #[inline]
    pub(super) const fn bytes(self) -> usize {
        match self {
            Level::Page => PAGE_BYTES,
            Level::Chunk => CHUNK_BYTES,
        }
    }

    /// The numbers, in their arena, of those in a chunk.
    #[inline]
    pub(super) const fn of_chunk(self, chunk: usize) -> Range<usize> {
        match self {
            Level::Page => chunk * CHUNK_PAGES..(chunk + 1) * CHUNK_PAGES,
            Level::Chunk => chunk..chunk + 1,
        }
    }

    /// In which chunk one of them is.
    #[inline]
    pub(super) const fn chunk(self, index: usize) -> usize {
        match self {
            Level::Page => index / CHUNK_PAGES,
            Level::Chunk => index,
        }
    }
}

/// The word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell(pub(super) u64);

impl Cell {
    /// Closed; `owner` had it last, 0 if nobody had.
    pub(super) const fn closed(owner: u16) -> Self {
        Cell((owner as u64) << OWNER_SHIFT)
    }

    /// Open, and everything but a run is free.
    pub(super) const fn opened(level: Level, owner: u16, keeper: u16, order: u32) -> Self {
        let keeper = (keeper as u64) << KEEPER_SHIFT;
        Cell(Cell::closed(owner).0 | keeper | OPEN | level.pieces() & !runs::run(order, 0))
    }

    #[inline]
    pub(super) const fn owner(self) -> u16 {
        // CAST: 16 bits are left.
        (self.0 >> OWNER_SHIFT) as u16
    }

    /// The lane that keeps it, plus one; 0: none.
    #[inline]
    pub(super) const fn keeper(self) -> u16 {
        // CAST: these 16 bits are meant.
        (self.0 >> KEEPER_SHIFT) as u16
    }

    #[inline]
    pub(super) const fn is_open(self) -> bool {
        self.0 & OPEN != 0
    }

    /// What is free, as bits.
    #[inline]
    pub(super) const fn free(self) -> u64 {
        self.0 & Level::Chunk.pieces()
    }

    /// Open for this client.
    #[inline]
    pub(super) const fn open_for(self, client: u16) -> bool {
        self.is_open() && self.owner() == client
    }

    /// Open, with something free, and no lane keeps it: what a client looks for when its lane has nothing.
    #[inline]
    pub(super) const fn is_spare(self) -> bool {
        self.is_open() && self.keeper() == 0 && self.free() != 0
    }

    /// A run is taken; and a lane keeps it, unless another does already. Returns the run's first bit.
    #[inline]
    pub(super) fn take(self, client: u16, order: u32, keeper: u16) -> Option<(Self, u32)> {
        if !self.open_for(client) {
            return None;
        }
        let first = runs::best_fit_of_16(self.free(), order)?;
        let taken = self.0 & !runs::run(order, first);
        let keep = if self.keeper() == 0 { keeper } else { 0 };
        Some((Cell(taken | u64::from(keep) << KEEPER_SHIFT), first))
    }

    /// The same if a lane keeps it: then nothing else changes with it.
    #[inline(always)]
    pub(super) fn take_kept(self, client: u16, order: u32) -> Option<(Self, u32)> {
        if !self.open_for(client) || self.keeper() == 0 {
            return None;
        }
        let first = runs::best_fit_of_16(self.free(), order)?;
        Some((Cell(self.0 & !runs::run(order, first)), first))
    }

    /// A run is free again, in a cell that a lane keeps: nothing else changes with it.
    #[inline(always)]
    pub(super) fn give_kept(self, bits: u64) -> Option<Self> {
        (self.keeper() != 0).then_some(Cell(self.0 | bits))
    }

    /// A run is free again. Closed if that was the last one and no lane keeps it.
    #[inline]
    pub(super) const fn give(self, level: Level, bits: u64) -> Self {
        Cell(self.0 | bits).close_if_idle(level)
    }

    /// This lane keeps it no longer. `None` if it did not.
    pub(super) fn release(self, level: Level, client: u16, keeper: u16) -> Option<Self> {
        (self.open_for(client) && self.keeper() == keeper)
            .then(|| self.unkept().close_if_idle(level))
    }

    /// Closed, although a lane may keep it. `None` unless all of it is free.
    pub(super) fn reclaim(self, level: Level) -> Option<Self> {
        (self.is_open() && self.free() == level.pieces()).then(|| Cell::closed(self.owner()))
    }

    const fn unkept(self) -> Self {
        Cell(self.0 & !(0xffff << KEEPER_SHIFT))
    }

    #[inline]
    const fn close_if_idle(self, level: Level) -> Self {
        if self.keeper() == 0 && self.free() == level.pieces() {
            Cell::closed(self.owner())
        } else {
            self
        }
    }
}
