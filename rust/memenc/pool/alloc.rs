// SPDX-License-Identifier: GPL-2.0

//! How memory is handed out and taken back.

use super::arena::Arena;
use super::block::{Block, Refusal, Request};
use super::cell::{Cell, Level};
use super::cells::piece;
use super::client::Client;
use super::lane::{Lane, Spot};
use super::word::{ones, retract, update, Word};
use super::{runs, Arenas, Pool, CHUNK_BYTES, GRANULE};

/// Orders of blocks from which on they are made of pages, and of chunks.
const PAGE_ORDER: u32 = (super::PAGE_BYTES / GRANULE).trailing_zeros();
const CHUNK_ORDER: u32 = (CHUNK_BYTES / GRANULE).trailing_zeros();

/// Nobody else at work, the second time is the last; if the quota comes first, the third.
const TRIES: u32 = 3;
/// How many chunks are looked at before a new one is opened: those that have something, but not enough, or that
/// are others', may be many.
const PATIENCE: usize = 32;

/// What a block is made of, and log2 of how many.
enum Made {
    Of(Level, u32),
    Chunks(u32),
}

#[inline]
fn made(order: u32) -> Made {
    if order < PAGE_ORDER {
        Made::Of(Level::Page, order)
    } else if order < CHUNK_ORDER {
        Made::Of(Level::Chunk, order - PAGE_ORDER)
    } else {
        Made::Chunks(order - CHUNK_ORDER)
    }
}

/// Takes a run from a cell that a lane keeps, if it is this client's: the run's first bit.
// A loop, not `update`: the compiler makes a call of its closure, one for each buffer.
#[inline(always)]
fn take_kept<W: Word>(word: &W, client: u16, order: u32) -> Option<u32> {
    let mut old = word.load();
    loop {
        let (new, first) = Cell(old).take_kept(client, order)?;
        match word.compare_exchange(old, new.0) {
            Ok(_) => return Some(first),
            Err(now) => old = now,
        }
    }
}

/// Who asks.
pub(super) struct Asker<'a, W> {
    pub(super) id: u16,
    pub(super) lane: Lane<'a, W>,
    pub(super) scrub: &'a dyn Fn(usize, usize, usize),
}

impl<T: Arenas> Pool<T> {
    /// Hands out a block for a client. `scrub(arena, offset, len)` is called for memory that another one had
    /// before; what it writes must be there before it returns. It must not use the pool.
    ///
    /// # Errors
    ///
    /// - [`Refusal::TooLarge`]: more than 4 MiB, or it would cross the boundary.
    /// - [`Refusal::Quota`]: it takes more chunks than the client may hold, or the client is closed.
    /// - [`Refusal::Exhausted`]: less is free for this client than the block has, in free chunks, without those it has to
    ///   leave, and its own.
    /// - [`Refusal::Fragmented`]: as much is free, but not in one piece.
    #[inline]
    pub fn alloc(
        &self,
        client: &Client<T::Storage>,
        lane: usize,
        request: &Request,
        scrub: impl Fn(usize, usize, usize),
    ) -> Result<Block, Refusal> {
        if let Some(block) = self.at_hand(client, lane, request) {
            return Ok(block);
        }
        let order = request.order().ok_or(Refusal::TooLarge)?;
        if let Some(block) = self.turned(client, lane, order) {
            return Ok(block);
        }
        let asker = Asker {
            id: client.id(),
            lane: client.lane(lane).ok_or(Refusal::Quota)?,
            scrub: &scrub,
        };
        let spot = self.search(&asker, client, order, request)?;
        let offset = match made(order) {
            Made::Of(level, _) => spot.index * level.piece_bytes(),
            Made::Chunks(_) => spot.index * CHUNK_BYTES,
        };
        Block::new(spot.arena, offset, order).ok_or(Refusal::TooLarge)
    }

    /// The same from what the lane keeps, which is nearly always enough for a small block: no other memory is
    /// taken for it. `None` says nothing about what [`Pool::alloc`] finds.
    #[inline(always)]
    pub fn at_hand(
        &self,
        client: &Client<T::Storage>,
        lane: usize,
        request: &Request,
    ) -> Option<Block> {
        // Each level's sizes are constants this way.
        match made(request.order()?) {
            Made::Of(Level::Page, order) => self.kept(client, lane, Level::Page, order),
            Made::Of(Level::Chunk, order) => self.kept(client, lane, Level::Chunk, order),
            Made::Chunks(_) => None,
        }
    }

    #[inline(always)]
    fn kept(
        &self,
        client: &Client<T::Storage>,
        lane: usize,
        level: Level,
        order: u32,
    ) -> Option<Block> {
        self.kept_in(client.id(), client.hint(lane, level)?, level, order)
    }

    /// From the other one that the lane is [likely](Lane::likely) to find something in, which it looks into first from
    /// now on.
    fn turned(&self, client: &Client<T::Storage>, lane: usize, order: u32) -> Option<Block> {
        let Made::Of(level, order) = made(order) else {
            return None;
        };
        let lane = client.lane(lane)?;
        let slot = lane.next(level);
        let block = self.kept_in(client.id(), lane.hint_in(level, slot)?, level, order)?;
        lane.set_cursor(level, slot);
        Some(block)
    }

    #[inline(always)]
    fn kept_in(&self, client: u16, spot: Spot, level: Level, order: u32) -> Option<Block> {
        let Spot { arena, index } = spot;
        let word = self.arenas.get(arena)?.books()?.cell(level, index);
        let first = take_kept(word, client, order)?;
        // CAST: 15 at most.
        let offset = index * level.bytes() + first as usize * level.piece_bytes();
        let order = order + (level.piece_bytes() / GRANULE).trailing_zeros();
        Block::new(arena, offset, order)
    }

    /// Takes back a block that this client was given.
    #[inline(always)]
    pub fn free(&self, client: &Client<T::Storage>, block: Block) {
        let arena = block.arena();
        match made(block.order()) {
            Made::Of(Level::Page, order) => self.give_run(&block, Level::Page, order),
            Made::Of(Level::Chunk, order) => self.give_run(&block, Level::Chunk, order),
            Made::Chunks(order) => {
                let index = block.offset() / CHUNK_BYTES;
                self.give_chunks(client.id(), Spot { arena, index }, order);
            }
        }
    }

    #[inline(always)]
    fn give_run(&self, block: &Block, level: Level, order: u32) {
        let (arena, index) = (block.arena(), block.offset() / level.bytes());
        // CAST: 15 at most.
        let first = (block.offset() % level.bytes() / level.piece_bytes()) as u32;
        let run = runs::run(order, first);
        let books = self.arenas.get(arena).and_then(Arena::books);
        let word = books.map(|books| books.cell(level, index));
        let kept =
            word.and_then(|word| update(word, |word| Cell(word).give_kept(run).map(|cell| cell.0)));
        if kept.is_none() {
            self.give(level, Spot { arena, index }, run);
        }
    }

    /// A run of pieces from a cell that the lane keeps, which looks into that one first from now on.
    fn take_hinted(&self, asker: &Asker<'_, T::Word>, level: Level, order: u32) -> Option<Spot> {
        for (slot, cell) in asker.lane.likely(level) {
            if let Some(spot) = self.take_run(asker, level, cell, order, false) {
                asker.lane.set_cursor(level, slot);
                return Some(spot);
            }
        }
        None
    }

    /// A block from elsewhere than the lane's hint. What lanes keep and do not use is given up before
    /// the answer is no.
    #[cold]
    fn search(
        &self,
        asker: &Asker<'_, T::Word>,
        client: &Client<T::Storage>,
        order: u32,
        request: &Request,
    ) -> Result<Spot, Refusal> {
        let overwritten = request.overwritten;
        let mut tries = 0;
        loop {
            let outcome = match made(order) {
                Made::Of(level, order) => self.pieces(asker, client, level, order),
                Made::Chunks(order) if request.lasting => self.chunks(asker, order, overwritten),
                Made::Chunks(order) => self.large(asker, order, overwritten),
            };
            let refusal = match outcome {
                Ok(spot) => return Ok(spot),
                Err(refusal) => refusal,
            };
            tries += 1;
            let more = tries < TRIES
                && match refusal {
                    Refusal::Quota => self.reclaim_lanes(client),
                    _ => self.reclaim(),
                };
            if !more {
                return Err(self.why(refusal, client, order, request.lasting));
            }
        }
    }

    /// What is free for a client are free chunks, without those it has to leave, and what its own chunks have; not what
    /// others' have.
    fn why(
        &self,
        refusal: Refusal,
        client: &Client<T::Storage>,
        order: u32,
        lasting: bool,
    ) -> Refusal {
        let for_all = self.free_for_all();
        let mut free = for_all.saturating_sub(self.left(client.id()));
        if matches!(made(order), Made::Chunks(_)) && !lasting {
            free += self.free_chunks().saturating_sub(for_all);
        }
        let free = (free + self.held(client)) * CHUNK_BYTES as u64;
        match refusal {
            Refusal::Exhausted
                if free.saturating_sub(self.bytes(client)) >= (GRANULE as u64) << order =>
            {
                Refusal::Fragmented
            }
            _ => refusal,
        }
    }

    /// A run of pieces: from the cell that the lane keeps, from another open one of this client's, or from a
    /// new one; at last from those that other lanes of its keep.
    fn pieces(
        &self,
        asker: &Asker<'_, T::Word>,
        client: &Client<T::Storage>,
        level: Level,
        order: u32,
    ) -> Result<Spot, Refusal> {
        if self.is_closed(asker.id) {
            return Err(Refusal::Quota);
        }
        let open = self.take_hinted(asker, level, order);
        if let Some(spot) = open.or_else(|| self.take_spare(asker, level, order, PATIENCE)) {
            return Ok(spot);
        }
        let new = match level {
            Level::Page => self.pieces(asker, client, Level::Chunk, 0),
            Level::Chunk => self.chunks(asker, 0, 0),
        };
        match new {
            Ok(spot) => Ok(self.open_cell(asker, level, spot, order)),
            Err(refusal) => {
                let spare = self.take_spare(asker, level, order, usize::MAX);
                let mut hints = client.lanes().flat_map(|lane| lane.hints(level));
                let kept = |cell| self.take_run(asker, level, cell, order, false);
                spare.or_else(|| hints.find_map(kept)).ok_or(refusal)
            }
        }
    }

    /// Opens a cell that was just taken, takes the first run in it, and has the lane keep it.
    fn open_cell(&self, asker: &Asker<'_, T::Word>, level: Level, spot: Spot, order: u32) -> Spot {
        if let Some(cell) = self.cell(level, spot) {
            cell.store(Cell::opened(level, asker.id, asker.lane.keeper, order).0);
        }
        self.keep(asker.id, asker.lane, level, spot);
        piece(level, spot, 0)
    }

    /// A run of pieces from an open cell of this client that no lane keeps; this lane does then. No more than
    /// so many chunks are looked at.
    fn take_spare(
        &self,
        asker: &Asker<'_, T::Word>,
        level: Level,
        order: u32,
        patience: usize,
    ) -> Option<Spot> {
        if !self.has_spare(asker.id, level) {
            return None;
        }
        let mut patience = patience;
        for (index, arena) in self.arenas_from(asker.lane.arena(false)) {
            for chunk in ones(arena.spare(level).map_or(0, Word::load)) {
                let chunk = Spot {
                    arena: index,
                    index: chunk,
                };
                patience = patience.checked_sub(1)?;
                if let Some(run) = self.take_spare_of(asker, level, order, chunk) {
                    return Some(run);
                }
            }
        }
        None
    }

    /// The same from cells of one chunk. If there are none, it is not looked at again.
    fn take_spare_of(
        &self,
        asker: &Asker<'_, T::Word>,
        level: Level,
        order: u32,
        chunk: Spot,
    ) -> Option<Spot> {
        let cells = || {
            let spots = level
                .of_chunk(chunk.index)
                .map(|index| Spot { index, ..chunk });
            spots.filter(|&spot| {
                let cell = self.cell(level, spot);
                cell.is_some_and(|cell| Cell(cell.load()).is_spare())
            })
        };
        let whole = Cell(self.cell(Level::Chunk, chunk)?.load());
        if whole.open_for(asker.id) {
            for spot in cells() {
                let run = self.take_run(asker, level, spot, order, true);
                if run.is_some() {
                    return run;
                }
            }
        } else if whole.is_open() {
            return None;
        }
        if cells().next().is_none() {
            let spare = self.arenas.get(chunk.arena)?.spare(level)?;
            retract(spare, 1 << chunk.index, || cells().next().is_some());
        }
        None
    }
}
