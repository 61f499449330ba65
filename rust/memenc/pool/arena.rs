// SPDX-License-Identifier: GPL-2.0

//! The book-keeping of one arena: where each word of it is.

use core::ops::Deref;

use super::cell::Level;
use super::word::Word;
use super::{ARENA_BYTES, CHUNK_BYTES, GRANULE, PAGE_BYTES};

/// Chunks of an arena, pages of an arena, pages of a chunk, granules of an arena.
pub(super) const CHUNKS: usize = ARENA_BYTES / CHUNK_BYTES;
pub(super) const PAGES: usize = ARENA_BYTES / PAGE_BYTES;
pub(super) const CHUNK_PAGES: usize = CHUNK_BYTES / PAGE_BYTES;
const GRANULES: usize = ARENA_BYTES / GRANULE;

/// Words of a cache line.
const LINE: usize = 8;

// The head is a cache line.
const FREE: usize = 0;
const PLACE: usize = 1;
const SPARE_CHUNKS: usize = 2;
const SPARE_PAGES: usize = 3;
const KEPT: usize = 4;
const CHUNK_CELLS: usize = 8;
const PAGE_CELLS: usize = CHUNK_CELLS + CHUNKS;
const RECORDS: usize = PAGE_CELLS + PAGES;

/// How many words the book-keeping of one arena is.
pub const ARENA_WORDS: usize = RECORDS + 2 * GRANULES;

/// Set in the word of the place while the arena is in use; the base has no such low bits.
const LIVE: u64 = 1;
const TWO_MIB: u64 = 2;
const FOR_LARGE: u64 = 4;
const FLAGS: u64 = LIVE | TWO_MIB | FOR_LARGE;

/// All book-keeping of one arena.
#[derive(Debug)]
pub struct Arena<S> {
    words: S,
}

impl<W: Word, S: Deref<Target = [W]>> Arena<S> {
    /// An arena that is not in use yet: [`Pool::add`](super::Pool::add) says where its memory is. `None`
    /// unless these are [`ARENA_WORDS`] words; all have to be zero.
    pub fn new(words: S) -> Option<Self> {
        (words.len() == ARENA_WORDS).then_some(Arena { words })
    }

    /// Its words, whose number is looked at once here, and not for each.
    #[inline(always)]
    pub(super) fn books(&self) -> Option<Books<'_, W>> {
        self.words.first_chunk().map(Books)
    }

    #[inline]
    fn word(&self, index: usize) -> Option<&W> {
        self.words.get(index)
    }

    /// Which chunks are free.
    #[inline]
    pub(super) fn free(&self) -> Option<&W> {
        self.word(FREE)
    }

    /// Which chunks may have open cells of a level with something free and kept by no lane.
    pub(super) fn spare(&self, level: Level) -> Option<&W> {
        self.word(match level {
            Level::Page => SPARE_PAGES,
            Level::Chunk => SPARE_CHUNKS,
        })
    }

    /// Which chunks may be kept by lanes, or have pages that are.
    pub(super) fn kept(&self) -> Option<&W> {
        self.word(KEPT)
    }

    /// The cell of a chunk, by its number, or of a page, by its number in the arena.
    #[inline]
    pub(super) fn cell(&self, level: Level, index: usize) -> Option<&W> {
        Some(self.books()?.cell(level, index))
    }

    /// Where its memory is, and how many bytes; `None` if it is not in use.
    #[inline]
    pub fn place(&self) -> Option<(u64, usize)> {
        self.books()?.place()
    }

    /// Whether it is for large blocks only, which do not stay.
    #[inline]
    pub(super) fn is_for_large(&self) -> bool {
        self.word(PLACE)
            .is_some_and(|place| place.load() & FOR_LARGE != 0)
    }

    /// Which chunks there are, as bits; none if it is not in use.
    pub(super) fn chunks(&self) -> u64 {
        self.place().map_or(0, |(_, bytes)| chunks(bytes))
    }

    /// In use from now on, with all of it free and owned by nobody. Nothing of it may be in use now.
    pub(super) fn open(&self, base: u64, bytes: usize, for_large: bool) -> Option<()> {
        for chunk in 0..CHUNKS {
            self.cell(Level::Chunk, chunk)?.store(0);
        }
        let size = if bytes < ARENA_BYTES { TWO_MIB } else { 0 };
        let kind = if for_large { FOR_LARGE } else { 0 };
        self.word(PLACE)?.store(base | size | kind | LIVE);
        Some(())
    }

    /// Not in use any more.
    pub(super) fn shut(&self) {
        if let Some(place) = self.word(PLACE) {
            place.store(0);
        }
    }
}

/// The words of an arena.
pub(super) struct Books<'a, W>(&'a [W; ARENA_WORDS]);

impl<'a, W: Word> Books<'a, W> {
    /// The cell of a chunk, by its number, or of a page, by its number in the arena. There are powers of two of both,
    /// and higher bits of the number are ignored.
    #[inline(always)]
    pub(super) fn cell(&self, level: Level, index: usize) -> &'a W {
        match level {
            Level::Page => &self.0[PAGE_CELLS + index % PAGES],
            Level::Chunk => &self.0[CHUNK_CELLS + apart(index % CHUNKS)],
        }
    }

    /// The two words of the record of a block that starts at this offset.
    #[inline(always)]
    pub(super) fn record(&self, offset: usize) -> (&'a W, &'a W) {
        let first = RECORDS + 2 * (offset / GRANULE % GRANULES);
        (&self.0[first], &self.0[first + 1])
    }

    /// Where its memory is, and how many bytes; `None` if it is not in use.
    #[inline(always)]
    pub(super) fn place(&self) -> Option<(u64, usize)> {
        let place = self.0[PLACE].load();
        let bytes = ARENA_BYTES >> u32::from(place & TWO_MIB != 0);
        (place & LIVE != 0).then_some((place & !FLAGS, bytes))
    }
}

/// Where the cell of a chunk is among those of all chunks. Neighbours are what the lanes of two processors keep: they
/// are neither in one cache line nor in the next one, which is fetched with it.
#[inline]
const fn apart(chunk: usize) -> usize {
    let lines = CHUNKS / LINE;
    3 * chunk % lines * LINE + chunk / lines
}

/// The chunks of an arena of this many bytes, as bits; at least one, 4 MiB at most.
pub(super) const fn chunks(bytes: usize) -> u64 {
    u64::MAX >> (CHUNKS - bytes / CHUNK_BYTES)
}
