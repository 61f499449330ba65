// SPDX-License-Identifier: GPL-2.0

//! What a mapping needs to be undone, kept where the address that its device was given leads.
//!
//! Two words for each granule, in use for the first one of a block: the original address, and
//!
//! | Bits | Meaning |
//! |---|---|
//! | 0..32 | length of the mapping in bytes |
//! | 32..48 | client |
//! | 48..56 | flags |
//! | 56..60 | order of the block: log2 of its granules |
//! | 63 | there is a record |

use super::arena::{Arena, Books};
use super::block::{Block, ORDERS};
use super::word::{update, Word};
use super::{Arenas, Pool, GRANULE};

const PRESENT: u64 = 1 << 63;

/// What a mapping needs to be undone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Where the caller's buffer is.
    pub original: u64,
    /// How many bytes of it are mapped.
    pub len: u32,
    /// Whose mapping it is.
    pub client: u16,
    /// The caller's: a direction, say.
    pub flags: u8,
}

impl Record {
    #[inline]
    fn pack(&self, order: u32) -> u64 {
        let (client, flags) = (u64::from(self.client), u64::from(self.flags));
        u64::from(self.len) | client << 32 | flags << 48 | u64::from(order) << 56 | PRESENT
    }

    /// The second word, and the first, as a record.
    #[inline]
    fn unpack(word: u64, original: u64) -> Self {
        // CAST: these bits of the word are meant.
        Record {
            original,
            len: word as u32,
            client: (word >> 32) as u16,
            flags: (word >> 48) as u8,
        }
    }
}

/// A mapping that was looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The address where its block starts.
    pub start: u64,
    /// How many bytes the block has: a power of two.
    pub bytes: usize,
    /// What was noted with it.
    pub record: Record,
}

/// The second word of the record of the block in which this offset lies, if it has one; where the block
/// starts, and its order. A block starts at a multiple of its size: there is one candidate for each.
#[inline]
fn search<W: Word>(books: &Books<'_, W>, offset: usize) -> Option<(u64, usize, u32)> {
    // Mostly it is the start that is asked for.
    let start = offset & !(GRANULE - 1);
    let word = books.record(start).1.load();
    // CAST: four bits.
    let order = (word >> 56 & 0xf) as u32;
    if word & PRESENT != 0 && order < ORDERS {
        return Some((word, start, order));
    }
    search_before(books, offset)
}

#[cold]
fn search_before<W: Word>(books: &Books<'_, W>, offset: usize) -> Option<(u64, usize, u32)> {
    let mut last = usize::MAX;
    for order in 1..ORDERS {
        let start = offset & !((GRANULE << order) - 1);
        if start == last {
            continue;
        }
        last = start;
        let word = books.record(start).1.load();
        // CAST: four bits.
        let found = (word >> 56 & 0xf) as u32;
        if word & PRESENT != 0 && found < ORDERS && offset - start < GRANULE << found {
            return Some((word, start, found));
        }
    }
    None
}

impl<T: Arenas> Pool<T> {
    /// Keeps a record, and the block with it until [`Pool::take`] is asked for it. Returns the address where
    /// the block starts; the block comes back as an error if it is not of this pool.
    #[inline]
    pub fn note(&self, block: Block, record: &Record) -> Result<u64, Block> {
        let arena = self.arenas.get(block.arena());
        let Some(books) = arena.and_then(Arena::books) else {
            return Err(block);
        };
        let Some((base, _)) = books.place() else {
            return Err(block);
        };
        let (original, rest) = books.record(block.offset());
        original.store(record.original);
        rest.store(record.pack(block.order()));
        // CAST: 4 MiB at most. The sum is an address in the arena.
        Ok(base + block.offset() as u64)
    }

    /// The mapping in whose block an address lies; `None` if none does. The address may be anything.
    ///
    /// It must not be taken meanwhile: of one that is, the answer may be half of another's.
    #[inline]
    pub fn lookup(&self, address: u64) -> Option<Found> {
        let (_, books, offset) = self.locate(address)?;
        let (word, start, order) = search(&books, offset)?;
        Some(Found {
            // CAST: 4 MiB at most; it starts before the address.
            start: address - (offset - start) as u64,
            bytes: GRANULE << order,
            record: Record::unpack(word, books.record(start).0.load()),
        })
    }

    /// Ends the mapping in whose block an address lies, if its client and flags are as wanted: its record,
    /// and its block to be freed. Of several who ask for the same one only one gets it. The address may be
    /// anything.
    #[inline(always)]
    pub fn take(
        &self,
        address: u64,
        wanted: impl FnOnce(u16, u8) -> bool,
    ) -> Option<(Block, Record)> {
        let (arena, books, offset) = self.locate(address)?;
        let (word, start, order) = search(&books, offset)?;
        let (original, rest) = books.record(start);
        let seen = Record::unpack(word, 0);
        if !wanted(seen.client, seen.flags) {
            return None;
        }
        // Whoever clears it owns the block again; so nobody else changes the first word now.
        update(rest, |now| (now == word).then_some(0))?;
        let block = Block::new(arena, start, order)?;
        Some((block, Record::unpack(word, original.load())))
    }
}
