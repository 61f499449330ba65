// SPDX-License-Identifier: GPL-2.0

//! What one processor has at hand for a client: a few chunks and pages that stay open, though nothing of them
//! may be in use.

use super::cell::Level;
use super::word::{update, Word};

/// How many words a lane has; as many as make cache lines, so that lanes do not share one.
pub const LANE_WORDS: usize = 24;

/// Numbers of the words of a lane: which of its chunks and pages it looks into first, the arenas, and what it keeps.
const CHUNK_CURSOR: usize = 0;
const PAGE_CURSOR: usize = 1;
const ARENA: usize = 2;
const LARGE_ARENA: usize = 3;
const CHUNK_HINTS: usize = 4;
const PAGE_HINTS: usize = 8;

/// How many chunks a lane keeps at most, and how many pages: what a queue of 32 requests of a disk needs.
const MOST_CHUNKS: usize = 3;
const MOST_PAGES: usize = 16;
/// So many all lanes of a client together, unless there are more lanes.
const ALL_CHUNKS: usize = 8;
const ALL_PAGES: usize = 32;

/// No hint any more, and never again.
pub(super) const CLOSED: u64 = u64::MAX;

/// A chunk, a page or a granule: the number of its arena, and its own in there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) arena: usize,
    pub(super) index: usize,
}

impl Spot {
    /// Never 0, which is no hint.
    #[inline]
    pub(super) fn hint(self) -> u64 {
        // CAST: both are small.
        (self.arena as u64 + 1) << 16 | self.index as u64
    }

    /// What a hint leads to, if it is one; it may be stale.
    #[inline]
    pub(super) fn of_hint(hint: u64) -> Option<Self> {
        // CAST: as above.
        Some(Spot {
            arena: usize::try_from(hint >> 16).ok()?.checked_sub(1)?,
            index: (hint & 0xffff) as usize,
        })
    }
}

/// How many chunks and pages a lane of a client keeps at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slots {
    chunks: usize,
    pages: usize,
}

impl Slots {
    /// If the client has so many lanes.
    pub(super) fn new(lanes: usize) -> Self {
        let each = |all: usize, most| (all / lanes.max(1)).clamp(1, most);
        Slots {
            chunks: each(ALL_CHUNKS, MOST_CHUNKS),
            pages: each(ALL_PAGES, MOST_PAGES),
        }
    }
}

/// How many chunks a client with so many lanes holds at most besides those that it has blocks in: what its lanes keep,
/// each page in a chunk of its own at worst.
pub fn most_kept(lanes: usize) -> usize {
    let slots = Slots::new(lanes);
    lanes * (slots.chunks + slots.pages)
}

/// A lane of a client: what one processor keeps at hand, so that processors do not get in each other's way.
#[derive(Debug)]
pub(super) struct Lane<'a, W> {
    pub(super) words: &'a [W],
    /// Its number plus one.
    pub(super) keeper: u16,
    pub(super) slots: Slots,
}

impl<W> Clone for Lane<'_, W> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<W> Copy for Lane<'_, W> {}

impl<'a, W: Word> Lane<'a, W> {
    fn hint_word(self, level: Level, slot: usize) -> Option<&'a W> {
        self.words.get(first_hint(level) + slot)
    }

    /// How many chunks or pages it keeps at most.
    pub(super) fn slots(self, level: Level) -> usize {
        match level {
            Level::Page => self.slots.pages,
            Level::Chunk => self.slots.chunks,
        }
    }

    fn cursor(self, level: Level) -> usize {
        let cursor = self.words.get(cursor(level)).map_or(0, Word::load);
        usize::try_from(cursor).unwrap_or(0)
    }

    /// Looks into this one first from now on.
    pub(super) fn set_cursor(self, level: Level, slot: usize) {
        if let Some(word) = self.words.get(cursor(level)) {
            // CAST: a few.
            word.store(slot as u64);
        }
    }

    /// The slot of what it looked into longest ago.
    pub(super) fn next(self, level: Level) -> usize {
        let next = self.cursor(level) + 1;
        if next < self.slots(level) {
            next
        } else {
            0
        }
    }

    pub(super) fn hint_in(self, level: Level, slot: usize) -> Option<Spot> {
        Spot::of_hint(self.hint_word(level, slot)?.load())
    }

    /// What it looked into last, and what it looked into longest ago, with their slots. There something has come back if
    /// blocks come and go; if they stay, as receive buffers do, nothing has in any other either.
    pub(super) fn likely(self, level: Level) -> impl Iterator<Item = (usize, Spot)> + use<'a, W> {
        let slots = [self.cursor(level), self.next(level)];
        let hinted = move |slot| Some((slot, self.hint_in(level, slot)?));
        slots.into_iter().filter_map(hinted)
    }

    /// All pages or chunks that it keeps, or kept.
    pub(super) fn hints(self, level: Level) -> impl Iterator<Item = Spot> + use<'a, W> {
        (0..self.slots(level)).filter_map(move |slot| self.hint_in(level, slot))
    }

    /// Sets a hint; returns the one before. An error if the lane is closed.
    pub(super) fn set_hint(self, level: Level, slot: usize, hint: u64) -> Result<u64, ()> {
        let word = self.hint_word(level, slot).ok_or(())?;
        let set = update(word, |old| (old != CLOSED).then_some(hint));
        set.map(|(old, _)| old).ok_or(())
    }

    fn arena_word(self, for_large: bool) -> Option<&'a W> {
        self.words.get(if for_large { LARGE_ARENA } else { ARENA })
    }

    /// Where to look for free chunks first.
    pub(super) fn arena(self, for_large: bool) -> usize {
        let arena = self.arena_word(for_large).map_or(0, Word::load);
        usize::try_from(arena).unwrap_or(0)
    }

    pub(super) fn set_arena(self, for_large: bool, arena: usize) {
        if let Some(word) = self.arena_word(for_large) {
            // CAST: usize has 64 bits at most.
            word.store(arena as u64);
        }
    }
}

/// What the lane that these words are looks into first.
#[inline(always)]
pub(super) fn first<W: Word>(words: &[W; LANE_WORDS], level: Level) -> Option<Spot> {
    // CAST: a few. It is below the number of words already; so the rest of the division is no check of each.
    let slot = words[cursor(level)].load() as usize;
    let hint = match level {
        Level::Page => &words[PAGE_HINTS + slot % (LANE_WORDS - PAGE_HINTS)],
        Level::Chunk => &words[CHUNK_HINTS + slot % (PAGE_HINTS - CHUNK_HINTS)],
    };
    Spot::of_hint(hint.load())
}

#[inline]
const fn first_hint(level: Level) -> usize {
    match level {
        Level::Page => PAGE_HINTS,
        Level::Chunk => CHUNK_HINTS,
    }
}

#[inline]
const fn cursor(level: Level) -> usize {
    match level {
        Level::Page => PAGE_CURSOR,
        Level::Chunk => CHUNK_CURSOR,
    }
}
