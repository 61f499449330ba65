// SPDX-License-Identifier: GPL-2.0

//! The allocator of shared memory: where devices' mappings are bounced to.
//!
//! It hands out pieces of arenas, which are 4 or 2 MiB of physically contiguous memory, and never touches
//! that memory itself. All of it is lock-free: a block is taken by one compare-exchange and given back by
//! another, from any context.
//!
//! # Glossary
//!
//! | Word | Meaning |
//! |---|---|
//! | arena | 4 MiB of shared memory, aligned to its size, or 2 MiB |
//! | chunk | 64 KiB of an arena. Whole ones make blocks of 64 KiB to 4 MiB |
//! | page | 4 KiB of an open chunk: blocks of 4 to 32 KiB |
//! | granule | 512 bytes of an open page: blocks of 512 bytes to 2 KiB |
//! | open | of a chunk or page: pieces of it are handed out |
//! | cell | the word that says what of a chunk or page is free |
//! | client | who asks: a device. An open chunk has blocks of one client only |
//! | lane | what one processor has at hand for a client: a few chunks and pages that stay open, *kept*, though nothing of them may be in use |
//! | spare | of an open chunk or page: kept by no lane, and not full |
//!
//! # How it works
//!
//! A block has a power of two of bytes and is aligned to them. At each level a word has one bit for each
//! piece that is free; blocks are aligned runs of bits, and neighbours that are free are a larger run without
//! more ado. A chunk is one piece for the arena's word, and is divided by its own cell while it is open; a page is
//! one piece for its chunk's, and is divided by its own. With the last block the cell closes and the piece
//! goes back, so that free memory always comes together again.
//!
//! A small block is looked for in what the lane keeps; in spare cells of the client; in a new one; in what
//! the client's other lanes keep.
//!
//! # What is promised
//!
//! - Memory that another client had is scrubbed before it is handed out. Memory that was just added is
//!   owned by nobody, and has to be clean.
//! - With nobody else at work, a block of 64 KiB or more is refused as [`Refusal::Fragmented`] only if every
//!   aligned place for it in the pool has at least one live block in it; a smaller one if that is true
//!   of all places in chunks that are free or open for this client. What lanes merely keep is given up first.
//! - A client leaves what is kept for those before it, by their [`Rank`]. Blocks in arenas for large blocks do not count.
//! - Freeing takes constant time, and so do [`Pool::find`], [`Pool::lookup`] and [`Pool::take`].
//! - Counts are exact whenever nobody is at work.

use core::fmt;
use core::ops::Deref;

mod alloc;
mod arena;
mod block;
mod cell;
mod cells;
mod chunks;
mod client;
mod directory;
mod lane;
mod reclaim;
mod record;
mod runs;
mod usage;
mod word;

pub use arena::{Arena, ARENA_WORDS};
pub use block::{shift, Block, Refusal, Request};
pub use client::{Client, Rank, CLIENT_WORDS};
pub use lane::{most_kept, LANE_WORDS};
pub use record::{Found, Record};
pub use word::Word;

use arena::Books;
use client::{POOL, POOL_CHUNKS};
use directory::{Directory, MOST_ARENAS, UNIT_SHIFT};

/// Bytes of a large arena; and of the largest block.
pub const ARENA_BYTES: usize = 4 << 20;
/// Bytes of a small arena.
pub const SMALL_ARENA_BYTES: usize = 2 << 20;
/// Bytes of a chunk.
pub const CHUNK_BYTES: usize = 64 << 10;
/// Bytes of the smallest block.
pub const GRANULE: usize = 512;
const PAGE_BYTES: usize = 4 << 10;

#[expect(clippy::len_without_is_empty, reason = "nobody asks")]
/// Where the arenas are. What [`get`](Arenas::get) has returned once has to stay while the pool is there.
pub trait Arenas {
    /// The atomics.
    type Word: Word;
    /// What holds them.
    type Storage: Deref<Target = [Self::Word]>;
    /// How many arenas there are, or more.
    fn len(&self) -> usize;
    /// The arena with this number; `None` if there is none.
    fn get(&self, index: usize) -> Option<&Arena<Self::Storage>>;
}

/// Why an arena was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddError {
    /// There is no arena of this number, or it is in use.
    NoArena,
    /// It is neither 4 nor 2 MiB, or its address is not a multiple of its size.
    BadPlace,
    /// Memory at this address is in the pool already.
    Overlap,
    /// No room in the directory.
    Full,
}

impl fmt::Display for AddError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AddError::NoArena => "no arena of this number is unused",
            AddError::BadPlace => "not 4 or 2 MiB, aligned to their size",
            AddError::Overlap => "in the pool already",
            AddError::Full => "no room in the directory",
        })
    }
}

/// The pool.
#[derive(Debug)]
pub struct Pool<T: Arenas> {
    arenas: T,
    clients: T::Storage,
    directory: Directory<T::Storage>,
}

impl<T: Arenas> Pool<T> {
    /// A pool of what is added from these arenas. All words have to be zero: [`CLIENT_WORDS`] for each
    /// id of a client up to the highest, 0 included; and, as directory, a power of two which should be
    /// twice as many as there will be units of 2 MiB, or more.
    ///
    /// `None` if these numbers of words make no sense.
    pub fn new(arenas: T, clients: T::Storage, directory: T::Storage) -> Option<Self> {
        let sane = clients.len() >= 2 * CLIENT_WORDS && clients.len() % CLIENT_WORDS == 0;
        Some(Pool {
            arenas,
            clients,
            directory: Directory::new(directory).filter(|_| sane)?,
        })
    }

    /// Where the arenas are.
    pub fn arenas(&self) -> &T {
        &self.arenas
    }

    /// Adds memory, 4 or 2 MiB at an address, as the arena of this number. It holds zeros, or nothing that
    /// any client must not see. No two may add or retire at once.
    ///
    /// # Errors
    ///
    /// Nothing has changed.
    pub fn add(&self, index: usize, base: u64, bytes: usize) -> Result<(), AddError> {
        self.add_arena(index, base, bytes, false)
    }

    /// The same for large blocks only, of whole chunks, that do not [last](Request::lasting). They do not count
    /// for quotas. Since nothing stays in there, the largest block can be had again and again.
    ///
    /// # Errors
    ///
    /// As [`Pool::add`].
    pub fn add_for_large(&self, index: usize, base: u64, bytes: usize) -> Result<(), AddError> {
        self.add_arena(index, base, bytes, true)
    }

    fn add_arena(
        &self,
        index: usize,
        base: u64,
        bytes: usize,
        for_large: bool,
    ) -> Result<(), AddError> {
        // CAST: usize has 64 bits at most.
        let aligned = base % bytes.max(1) as u64 == 0;
        if !matches!(bytes, ARENA_BYTES | SMALL_ARENA_BYTES) || !aligned {
            return Err(AddError::BadPlace);
        }
        let arena = self.arenas.get(index).filter(|_| index < self.arenas.len());
        let unused = arena.filter(|arena| arena.place().is_none() && index <= MOST_ARENAS);
        let arena = unused.ok_or(AddError::NoArena)?;
        if units(base, bytes).any(|unit| self.directory.find(unit).is_some()) {
            return Err(AddError::Overlap);
        }
        for unit in units(base, bytes) {
            if self.directory.insert(unit, index).is_none() {
                self.forget(index, base, bytes);
                return Err(AddError::Full);
            }
        }
        let free = arena
            .open(base, bytes, for_large)
            .and_then(|()| arena.free());
        // CAST: 64 at most.
        let count = (bytes / CHUNK_BYTES) as u64;
        self.count(POOL, POOL_CHUNKS, count);
        self.count_free(for_large, count);
        free.ok_or(AddError::NoArena)?.store(arena::chunks(bytes));
        Ok(())
    }

    /// Takes an arena out of the pool, if all of it is free, and returns the address of its memory. No two
    /// may add or retire at once.
    pub fn retire(&self, index: usize) -> Option<u64> {
        let arena = self.arenas.get(index)?;
        let (base, bytes) = arena.place()?;
        self.reclaim_arena(index, arena);
        arena.free()?.compare_exchange(arena.chunks(), 0).ok()?;
        // CAST: 64 at most.
        let count = (bytes / CHUNK_BYTES) as u64;
        self.count_free(arena.is_for_large(), count.wrapping_neg());
        self.count(POOL, POOL_CHUNKS, count.wrapping_neg());
        self.forget(index, base, bytes);
        arena.shut();
        Some(base)
    }

    /// In which arena an address lies, and where in it. The address may be anything.
    #[inline]
    pub fn find(&self, address: u64) -> Option<(usize, usize)> {
        let (index, _, offset) = self.locate(address)?;
        Some((index, offset))
    }

    /// The same, with the arena's words.
    #[inline(always)]
    fn locate(&self, address: u64) -> Option<(usize, Books<'_, T::Word>, usize)> {
        let index = self.directory.find(address >> UNIT_SHIFT)?;
        let books = self.arenas.get(index)?.books()?;
        let (base, bytes) = books.place()?;
        let offset = usize::try_from(address.checked_sub(base)?).ok()?;
        (offset < bytes).then_some((index, books, offset))
    }

    /// Where a block is, as devices know it; `None` if it is not of this pool.
    #[inline]
    pub fn address(&self, block: &Block) -> Option<u64> {
        let (base, _) = self.arenas.get(block.arena())?.place()?;
        // CAST: 4 MiB at most. The sum is an address in the arena.
        Some(base + block.offset() as u64)
    }

    fn forget(&self, index: usize, base: u64, bytes: usize) {
        for unit in units(base, bytes) {
            self.directory.remove(unit, index);
        }
    }

    /// All arenas, each once, from this one on.
    fn arenas_from(&self, start: usize) -> impl Iterator<Item = (usize, &Arena<T::Storage>)> {
        let len = self.arenas.len();
        let start = start.min(len);
        let all = (start..len).chain(0..start);
        all.filter_map(|index| Some((index, self.arenas.get(index)?)))
    }
}

/// The numbers of the units of 2 MiB that memory is made of.
fn units(base: u64, bytes: usize) -> impl Iterator<Item = u64> {
    let first = base >> UNIT_SHIFT;
    // CAST: 2 at most.
    first..first + (bytes >> UNIT_SHIFT) as u64
}
