// SPDX-License-Identifier: GPL-2.0

//! The pool's memory: units of shared pages, how many there are, and what is known of each.

use core::ptr::NonNull;

use kernel::{
    new_mutex,
    prelude::*,
    sync::Mutex, //
};
use memenc::{
    pool::{
        Arena,
        Arenas,
        Pool,
        Word as _,
        ARENA_WORDS,
        CHUNK_BYTES,
        CLIENT_WORDS, //
    },
    shares::Bounds, //
};

use super::words::{
    self,
    Word,
    Words, //
};
use super::{flow::PURPOSES, slots::MAX_FLOWS};
use crate::{
    ffi,
    shared::SharedPages, //
};

/// The books of all units there have ever been; those of a unit that is gone wait for the next.
///
/// # Invariants
///
/// A word of `arenas` is 0, or the address of an arena in a box that is the table's; it does not change any more.
pub(super) struct Table {
    arenas: Words,
    /// Beyond that there never were any.
    used: Word,
}

impl Arenas for Table {
    type Word = Word;
    type Storage = Words;

    #[inline]
    fn len(&self) -> usize {
        // CAST: as wide.
        self.used.load() as usize
    }

    #[inline]
    fn get(&self, index: usize) -> Option<&Arena<Words>> {
        let arena = self.arenas.get(index)?.load() as *const Arena<Words>;
        // SAFETY: By the type invariant it is null, or stays as long as the table.
        unsafe { arena.as_ref() }
    }
}

impl Table {
    /// Room for so many.
    fn new(count: usize) -> Result<Self> {
        // INVARIANT: There are none.
        Ok(Table {
            arenas: words::zeroed(count)?,
            used: Word::new(0),
        })
    }

    /// Makes the books for a unit if there are none. One at a time.
    fn open(&self, index: usize) -> Result {
        let slot = self.arenas.get(index).ok_or(ENOSPC)?;
        if slot.load() == 0 {
            let arena = Arena::new(words::zeroed(ARENA_WORDS)?).ok_or(EINVAL)?;
            let arena = KBox::new(arena, GFP_KERNEL)?;
            // INVARIANT: It is an arena in a box, which nobody else knows.
            slot.store(KBox::into_raw(arena) as u64);
        }
        // CAST: as wide or narrower.
        self.used.store(self.used.load().max(index as u64 + 1));
        Ok(())
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        for slot in self.arenas.iter() {
            let arena = slot.load() as *mut Arena<Words>;
            if !arena.is_null() {
                // SAFETY: By the type invariant it comes from a box, which nobody uses without the table.
                drop(unsafe { KBox::from_raw(arena) });
            }
        }
    }
}

/// The pool of a module.
#[pin_data]
pub(crate) struct Memory {
    pub(super) pool: Pool<Table>,
    pub(super) bounds: Bounds,
    /// The pages of each unit. Held while the pool grows or shrinks.
    #[pin]
    units: Mutex<KVec<Option<SharedPages>>>,
    /// The virtual address of guest-physical 0.
    direct_map: usize,
    /// Chunks that should be free: below that it grows.
    reserve: Word,
    /// Free chunks at least, since the pool was last asked whether it is idle.
    lowest: Word,
    /// Somebody was refused.
    pressed: Word,
    pub(super) size_most: Word,
    pub(super) grown: Word,
    pub(super) shrunk: Word,
    /// By devices that are gone.
    pub(super) copied_in: Word,
    pub(super) copied_out: Word,
    /// Requests refused, as `memenc::pool::Refusal` numbers them.
    pub(super) refused: [Word; 4],
}

impl Memory {
    /// A pool within these bounds, with no memory in it yet.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(bounds: Bounds) -> Result<Pin<KBox<Self>>> {
        // CAST: at most 2^12 MiB in units of 2 MiB.
        let count = bounds.units() as usize;
        let mut units = KVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            units.push_within_capacity(None).map_err(|_| ENOMEM)?;
        }
        let table = Table::new(count)?;
        // Twice as many as there are pieces of 2 MiB: a search is short.
        let directory = words::zeroed((4 * count).next_power_of_two())?;
        let clients = words::zeroed((MAX_FLOWS * PURPOSES + 1) * CLIENT_WORDS)?;
        let pool = Pool::new(table, clients, directory).ok_or(EINVAL)?;
        let direct_map = ffi::va(0).map_or(0, |base| base.as_ptr() as usize);
        let memory = KBox::pin_init(
            pin_init!(Memory {
                pool,
                bounds,
                units <- new_mutex!(units),
                direct_map,
                reserve: Word::new(0),
                lowest: Word::new(u64::MAX),
                pressed: Word::new(0),
                size_most: Word::new(0),
                grown: Word::new(0),
                shrunk: Word::new(0),
                copied_in: Word::new(0),
                copied_out: Word::new(0),
                refused: [const { Word::new(0) }; 4],
            }),
            GFP_KERNEL,
        )?;
        Ok(memory)
    }

    /// Gives it its least size, if it has less.
    ///
    /// # Context
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and those of flips.
    pub(super) fn fill(&self) -> Result {
        let mut units = self.units.lock();
        while self.size() < self.bounds.min {
            self.add(&mut units)?;
        }
        Ok(())
    }

    /// Gives back all memory that is free: nobody needs it any more.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(super) fn empty(&self) {
        let mut units = self.units.lock();
        for index in 0..units.len() {
            if units[index].is_some() && self.pool.retire(index).is_some() {
                units[index] = None;
            }
        }
        self.set_reserve();
    }

    /// Bytes.
    pub(super) fn size(&self) -> u64 {
        self.pool.chunks_in_all() * CHUNK_BYTES as u64
    }

    /// Bytes of the largest block.
    #[inline]
    pub(super) fn largest(&self) -> usize {
        // CAST: a few MiB.
        self.bounds.unit as usize
    }

    /// Bytes in chunks that nobody has.
    pub(super) fn free(&self) -> u64 {
        self.pool.free_chunks() * CHUNK_BYTES as u64
    }

    /// Where the kernel has what a device knows by this address.
    #[inline]
    pub(super) fn at(&self, address: u64) -> NonNull<u8> {
        // CAST: as wide; the direct map holds all of the pool.
        let mem = (self.direct_map.wrapping_add(address as usize)) as *mut u8;
        // SAFETY: The direct map is not at 0.
        unsafe { NonNull::new_unchecked(mem) }
    }

    /// Where the kernel has a part of a unit.
    #[inline]
    pub(super) fn inside(&self, arena: usize, offset: usize, len: usize) -> Option<NonNull<u8>> {
        let (base, bytes) = self.pool.arenas().get(arena)?.place()?;
        let end = offset.checked_add(len)?;
        (end <= bytes).then(|| self.at(base + offset as u64))
    }

    /// The address of a byte of the direct map, as devices know it.
    #[inline]
    pub(super) fn address(&self, mem: *const u8) -> u64 {
        (mem as usize).wrapping_sub(self.direct_map) as u64
    }

    /// Notes a refusal; the pool grows if it can.
    pub(super) fn press(&self) {
        self.pressed.store(1);
        ffi::pool_kick();
    }

    /// Has the pool grow if there is not enough left for those who cannot wait.
    #[inline]
    pub(super) fn check_reserve(&self) {
        let free = self.pool.free_chunks();
        if free < self.lowest.load() {
            self.lowest.store(free);
        }
        if self.pool.free_for_all() < self.reserve.counted() {
            ffi::pool_kick();
        }
    }

    /// Grows until there is a reserve; at least by one unit if somebody was refused. Whether it is larger than it
    /// must be.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(super) fn grow(&self) -> bool {
        let mut units = self.units.lock();
        let mut pressed = self.pressed.compare_exchange(1, 0).is_ok();
        // Without devices it has nothing.
        while self.size() > 0
            && (pressed || self.pool.free_for_all() < self.reserve.counted())
            && self.size() < self.bounds.max
        {
            if self.add(&mut units).is_err() {
                break;
            }
            pressed = false;
            self.grown.count(1);
        }
        self.size() > self.bounds.min
    }

    /// Gives back one unit that is idle, if the pool is larger than it must be and most of it has been free all the
    /// time since this was asked last: a load that comes in waves must not have it flip each time. Whether it still
    /// is larger.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(super) fn shrink(&self) -> bool {
        let mut units = self.units.lock();
        let idle = self.lowest.load() > self.pool.chunks_in_all() / 4 * 3;
        self.lowest.store(self.pool.free_chunks());
        if idle && self.size() > self.bounds.min {
            // The last ones first. Those it must have stay, however idle: one of them is for large blocks.
            // CAST: as in `new`.
            let least = (self.bounds.min >> self.bounds.unit.trailing_zeros()) as usize;
            let gone = (least..units.len())
                .rev()
                .find(|&index| units[index].is_some() && self.pool.retire(index).is_some());
            if let Some(index) = gone {
                units[index] = None;
                self.shrunk.count(1);
                self.set_reserve();
            }
        }
        self.size() > self.bounds.min
    }

    fn add(&self, units: &mut KVec<Option<SharedPages>>) -> Result {
        let index = units.iter().position(Option::is_none).ok_or(ENOSPC)?;
        self.pool.arenas().open(index)?;
        // CAST: a few MiB.
        let pages = SharedPages::unlisted(self.bounds.unit as usize / kernel::page::PAGE_SIZE)?;
        let (base, len) = (pages.range().pa, pages.len());
        match Bounds::is_for_large(index as u64) {
            true => self.pool.add_for_large(index, base, len),
            false => self.pool.add(index, base, len),
        }
        .map_err(|_| EINVAL)?;
        units[index] = Some(pages);
        self.size_most
            .store(self.size_most.counted().max(self.size()));
        self.set_reserve();
        Ok(())
    }

    /// A quarter of the size is to be free, for blocks of all sizes.
    fn set_reserve(&self) {
        self.reserve.store(self.pool.chunks_in_all() / 4);
    }
}
