// SPDX-License-Identifier: GPL-2.0

//! Clients: who asks for memory, what they hold, and what their lanes keep at hand.

use core::ops::Deref;

use super::arena::CHUNKS;
use super::cell::{Cell, Level};
use super::lane::{self, Lane, Slots, Spot, CLOSED, LANE_WORDS};
use super::word::{update, Word};
use super::{Arenas, Pool};

/// How many words of [`Pool::new`]'s a client has there; as many as make a cache line.
pub const CLIENT_WORDS: usize = 8;

/// The pool's own line of counters: no client has this id.
pub(super) const POOL: u16 = 0;
/// Stands for all clients that are gone.
const GONE: u16 = u16::MAX;

/// Numbers of the words in a client's line.
const HELD: usize = 0;
const HIGHEST: usize = 1;
const QUOTA: usize = 2;
const SPARE_CHUNKS: usize = 3;
const SPARE_PAGES: usize = 4;
const RANK: usize = 5;
/// And in the pool's.
pub(super) const POOL_CHUNKS: usize = 0;
pub(super) const POOL_FREE: usize = 1;
pub(super) const POOL_FREE_FOR_LARGE: usize = 2;
/// The first of those that ranks leave.
const POOL_KEPT: usize = 3;

/// Set in the word of the chunks held until the client is closed.
const IN_USE: u64 = 1 << 63;
/// Below that, in the same word: chunks in arenas for large blocks; and all others, for which there is a quota.
const FOR_LARGE_SHIFT: u32 = 32;
const IN_QUOTA: u64 = (1 << FOR_LARGE_SHIFT) - 1;

/// All chunks that the word of the chunks held counts.
#[inline]
fn all(held: u64) -> u64 {
    ((held & !IN_USE) >> FOR_LARGE_SHIFT) + (held & IN_QUOTA)
}

/// What so many chunks are in that word.
#[inline]
fn counted(chunks: u64, for_large: bool) -> u64 {
    if for_large {
        chunks << FOR_LARGE_SHIFT
    } else {
        chunks
    }
}

/// How much a client leaves of the chunks that are for blocks of all sizes, so that those before it find some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rank {
    /// Nothing: what it cannot have is lost.
    #[default]
    First,
    /// What is [kept](Pool::set_kept) for the first.
    Second,
    /// What is kept for the first and the second.
    Third,
}

/// One who is given memory that others do not see before it is scrubbed: a device.
#[derive(Debug)]
pub struct Client<S> {
    id: u16,
    lanes: S,
    slots: Slots,
}

impl<W: Word, S: Deref<Target = [W]>> Client<S> {
    /// Its id.
    #[inline]
    pub fn id(&self) -> u16 {
        self.id
    }

    /// What a lane looks into first, if there is such a lane.
    #[inline(always)]
    pub(super) fn hint(&self, lane: usize, level: Level) -> Option<Spot> {
        let first = lane.checked_mul(LANE_WORDS)?;
        lane::first(self.lanes.get(first..)?.first_chunk()?, level)
    }

    /// A lane; the first one if there are not as many.
    #[inline]
    pub(super) fn lane(&self, lane: usize) -> Option<Lane<'_, W>> {
        let at = |lane: usize| {
            Some(Lane {
                words: self
                    .lanes
                    .get(lane.checked_mul(LANE_WORDS)?..)?
                    .get(..LANE_WORDS)?,
                keeper: u16::try_from(lane + 1).ok()?,
                slots: self.slots,
            })
        };
        at(lane).or_else(|| at(0))
    }

    pub(super) fn lanes(&self) -> impl Iterator<Item = Lane<'_, W>> {
        (0..self.lanes.len() / LANE_WORDS).filter_map(|lane| self.lane(lane))
    }
}

impl<T: Arenas> Pool<T> {
    /// A new client, with `lanes.len() / LANE_WORDS` lanes; these words have to be zero. It may hold `quota`
    /// chunks, or any number if that is 0.
    ///
    /// `None` if the id is in use or there is none such, or the number of words makes no sense. Callers
    /// see to it that no two do this at once.
    pub fn client(&self, id: u16, quota: u64, lanes: T::Storage) -> Option<Client<T::Storage>> {
        let count = lanes.len() / LANE_WORDS;
        let sane = lanes.len() % LANE_WORDS == 0 && (1..usize::from(u16::MAX)).contains(&count);
        if !sane || id == POOL || id == GONE {
            return None;
        }
        let held = self.counter(id, HELD)?;
        held.compare_exchange(0, IN_USE).ok()?;
        self.counter(id, HIGHEST)?.store(0);
        self.counter(id, QUOTA)?.store(quota);
        self.counter(id, RANK)?.store(Rank::First as u64);
        let slots = Slots::new(count);
        Some(Client { id, lanes, slots })
    }

    /// Changes how many chunks a client may hold; 0: any number. It keeps those it has.
    pub fn set_quota(&self, client: &Client<T::Storage>, quota: u64) {
        if let Some(word) = self.counter(client.id, QUOTA) {
            word.store(quota);
        }
    }

    /// How many chunks a client may hold; 0: any number.
    pub fn quota(&self, client: &Client<T::Storage>) -> u64 {
        self.read(client.id, QUOTA)
    }

    /// Changes what a client leaves for others; a new one has the first rank. It keeps the chunks it has.
    pub fn set_rank(&self, client: &Client<T::Storage>, rank: Rank) {
        if let Some(word) = self.counter(client.id, RANK) {
            word.store(rank as u64);
        }
    }

    /// Changes how many chunks are to stay free for clients of the first rank, and how many more for the second. While
    /// several processors take chunks at once, each may take one more.
    pub fn set_kept(&self, first: u64, second: u64) {
        for (place, chunks) in [(0, first), (1, first.saturating_add(second))] {
            if let Some(word) = self.counter(POOL, POOL_KEPT + place) {
                word.store(chunks);
            }
        }
    }

    /// How many chunks this client has to leave.
    pub(super) fn left(&self, client: u16) -> u64 {
        let rank = usize::try_from(self.read(client, RANK)).ok();
        rank.and_then(|rank| rank.checked_sub(1))
            .map_or(0, |place| self.read(POOL, POOL_KEPT + place))
    }

    /// How many chunks a client holds, or is taking at the moment: those of its large blocks, and those that
    /// its small ones are in or its lanes keep.
    pub fn held(&self, client: &Client<T::Storage>) -> u64 {
        all(self.read(client.id, HELD))
    }

    /// How many chunks a client held at most.
    pub fn highest(&self, client: &Client<T::Storage>) -> u64 {
        self.read(client.id, HIGHEST)
    }

    /// Gives up what a client's lanes keep. It may go on to ask for memory.
    pub fn drain(&self, client: &Client<T::Storage>) {
        self.empty_lanes(client, 0);
    }

    /// Ends a client: it is refused memory from now on, and what its lanes keep is given up. Returns how many
    /// chunks it still holds. They become free with the last block in each; to be asked again then.
    ///
    /// When it is 0, the id may be given to another client, and this one must not be used any more.
    pub fn close(&self, client: &Client<T::Storage>) -> u64 {
        let Some(held) = self.counter(client.id, HELD) else {
            return 0;
        };
        update(held, |held| Some(held & !IN_USE));
        self.empty_lanes(client, CLOSED);
        let left = all(held.load());
        if left == 0 {
            self.disown(client.id);
        }
        left
    }

    /// What this client had last is nobody's that is still there: whoever takes it next scrubs it.
    fn disown(&self, id: u16) {
        let (last, gone) = (Cell::closed(id).0, Cell::closed(GONE).0);
        for (_, arena) in self.arenas_from(0) {
            for chunk in 0..CHUNKS {
                if let Some(cell) = arena.cell(Level::Chunk, chunk) {
                    // If this fails, it is someone else's already.
                    let _ = cell.compare_exchange(last, gone);
                }
            }
        }
    }

    fn empty_lanes(&self, client: &Client<T::Storage>, hint: u64) {
        for lane in client.lanes() {
            for level in [Level::Page, Level::Chunk] {
                for slot in 0..lane.slots(level) {
                    if let Ok(old) = lane.set_hint(level, slot, hint) {
                        self.release(client.id, lane.keeper, level, old);
                    }
                }
            }
        }
    }

    /// Makes a cell that this lane keeps one of its hints, instead of the one that it looked into longest ago, which is
    /// given up. It may be among the others already: then that one is stale, when this one is given up.
    pub(super) fn keep(&self, id: u16, lane: Lane<'_, T::Word>, level: Level, spot: Spot) {
        if let Some(kept) = self.arenas.get(spot.arena).and_then(|arena| arena.kept()) {
            kept.fetch_or(1 << level.chunk(spot.index));
        }
        let slot = lane.next(level);
        lane.set_cursor(level, slot);
        match lane.set_hint(level, slot, spot.hint()) {
            Ok(old) if old != spot.hint() => self.release(id, lane.keeper, level, old),
            Ok(_) => {}
            // Closed meanwhile.
            Err(()) => self.release(id, lane.keeper, level, spot.hint()),
        }
    }

    fn release(&self, id: u16, keeper: u16, level: Level, hint: u64) {
        let Some(spot) = Spot::of_hint(hint) else {
            return;
        };
        self.change(level, spot, |cell| cell.release(level, id, keeper));
    }

    #[inline]
    fn counter(&self, client: u16, which: usize) -> Option<&T::Word> {
        self.clients.get(usize::from(client) * CLIENT_WORDS + which)
    }

    #[inline]
    pub(super) fn read(&self, client: u16, which: usize) -> u64 {
        self.counter(client, which).map_or(0, Word::load)
    }

    #[inline]
    pub(super) fn count(&self, client: u16, which: usize, by: u64) {
        if let Some(word) = self.counter(client, which) {
            word.fetch_add(by);
        }
    }

    /// One of a client's open cells became one that its lanes look for, or ceased to be.
    pub(super) fn count_spare(&self, client: u16, level: Level, more: bool) {
        let by = if more { 1 } else { u64::MAX };
        self.count(client, spare(level), by);
    }

    /// Whether it is worth while to look for such a cell.
    pub(super) fn has_spare(&self, client: u16, level: Level) -> bool {
        self.read(client, spare(level)) != 0
    }

    pub(super) fn is_closed(&self, client: u16) -> bool {
        self.read(client, HELD) & IN_USE == 0
    }

    /// Counts chunks as held before they are taken. `None` if that would be more than the client may have.
    pub(super) fn reserve(&self, client: u16, chunks: u64, for_large: bool) -> Option<()> {
        let quota = self.read(client, QUOTA);
        update(self.counter(client, HELD)?, |held| {
            let more = held + counted(chunks, for_large);
            let allowed = for_large || quota == 0 || more & IN_QUOTA <= quota;
            (held & IN_USE != 0 && allowed).then_some(more)
        })?;
        Some(())
    }

    /// The chunks that were counted are there.
    pub(super) fn note_highest(&self, client: u16) {
        let held = all(self.read(client, HELD));
        if let Some(word) = self.counter(client, HIGHEST) {
            update(word, |highest| (highest < held).then_some(held));
        }
    }

    /// Chunks that a client held, or was to hold, are not its any more.
    pub(super) fn unreserve(&self, client: u16, chunks: u64, for_large: bool) {
        self.count(client, HELD, counted(chunks, for_large).wrapping_neg());
    }
}

fn spare(level: Level) -> usize {
    match level {
        Level::Page => SPARE_PAGES,
        Level::Chunk => SPARE_CHUNKS,
    }
}
