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
        CLIENT_WORDS,
        SMALL_ARENA_BYTES, //
    },
    shares::{
        self,
        Bounds, //
    }, //
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
    /// Bytes of units that are for large blocks only.
    for_large: Word,
    /// Bytes that should be kept for devices that lose what cannot be mapped, and for requests to disks.
    kept_wanted: Word,
    floor_wanted: Word,
    /// Bytes that are kept for the former, as large as the pool is now.
    kept: Word,
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
    /// How often there was no memory to grow by.
    pub(super) grow_failed: Word,
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
                for_large: Word::new(0),
                kept_wanted: Word::new(0),
                floor_wanted: Word::new(0),
                kept: Word::new(0),
                direct_map,
                reserve: Word::new(0),
                lowest: Word::new(u64::MAX),
                pressed: Word::new(0),
                size_most: Word::new(0),
                grown: Word::new(0),
                shrunk: Word::new(0),
                grow_failed: Word::new(0),
                copied_in: Word::new(0),
                copied_out: Word::new(0),
                refused: [const { Word::new(0) }; 4],
            }),
            GFP_KERNEL,
        )?;
        Ok(memory)
    }

    /// Gives it its least size, if it has less. What is to be kept besides comes later, if there is no memory now.
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
        while self.size() < self.least() {
            match self.add(&mut units) {
                Err(error) if self.size() < self.bounds.min => return Err(error),
                Err(_) => break,
                Ok(()) => (),
            }
        }
        Ok(())
    }

    /// Bytes it does not go below while there are devices.
    fn least(&self) -> u64 {
        self.bounds.least(self.kept_wanted.counted())
    }

    /// Sets what should be kept free for devices that lose what cannot be mapped, and besides, so that a request of a
    /// disk always fits, in bytes. What can be kept depends on the size.
    pub(super) fn keep(&self, wanted: u64, floor: u64) {
        self.kept_wanted.store(wanted);
        self.floor_wanted.store(floor);
        self.set_reserve();
    }

    /// Bytes that are kept for devices that lose what cannot be mapped.
    pub(super) fn kept(&self) -> u64 {
        self.kept.counted()
    }

    /// Gives back all memory that is free: nobody needs it any more.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(super) fn empty(&self) {
        let mut units = self.units.lock();
        for index in 0..units.len() {
            self.remove(&mut units, index);
        }
        self.set_reserve();
    }

    /// Takes a unit out of the pool, if there is such a one and nobody has anything of it.
    fn remove(&self, units: &mut KVec<Option<SharedPages>>, index: usize) -> bool {
        let Some(unit) = units.get_mut(index) else {
            return false;
        };
        let len = unit.as_ref().map_or(0, SharedPages::len);
        if len == 0 || self.pool.retire(index).is_none() {
            return false;
        }
        if Bounds::is_for_large(index as u64) {
            // CAST: a few MiB.
            self.for_large.count((len as u64).wrapping_neg());
        }
        *unit = None;
        true
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
        if self.size() < self.bounds.max {
            self.pressed.store(1);
            ffi::pool_kick();
        }
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
            match self.add(&mut units) {
                Ok(()) => {}
                // Halves of units have taken all the places there are.
                Err(error) if error == ENOSPC => break,
                Err(error) => {
                    self.grow_failed.count(1);
                    // A flip that failed has had its line.
                    if error == ENOMEM {
                        ffi::log_no_growth(self.size());
                    }
                    break;
                }
            }
            pressed = false;
            self.grown.count(1);
        }
        self.size() > self.least()
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
        let spare = self.size().saturating_sub(self.least());
        if idle && spare > 0 {
            // The last ones first. Of those it must have the first stay, however idle: one of them is for large blocks.
            // CAST: as in `new`.
            let first = (self.bounds.min >> self.bounds.unit.trailing_zeros()) as usize;
            let gone = (first..units.len()).rev().any(|index| {
                let len = units[index].as_ref().map_or(0, SharedPages::len);
                // CAST: a few MiB.
                len as u64 <= spare && self.remove(&mut units, index)
            });
            if gone {
                self.shrunk.count(1);
                self.set_reserve();
            }
        }
        self.size() > self.least()
    }

    /// Adds a unit; where memory is too scattered for one, half of one, unless it is to be for large blocks.
    fn add(&self, units: &mut KVec<Option<SharedPages>>) -> Result {
        // CAST: a few MiB.
        let whole = self.bounds.unit as usize;
        let free = |index: &usize| units[*index].is_none();
        let index = (0..units.len()).find(free).ok_or(ENOSPC)?;
        match self.add_unit(units, index, whole) {
            Err(error) if error == ENOMEM && whole > SMALL_ARENA_BYTES => (),
            outcome => return outcome,
        }
        let free = |index: &usize| {
            // CAST: as in `new`.
            units[*index].is_none() && !Bounds::is_for_large(*index as u64)
        };
        let index = (0..units.len()).find(free).ok_or(ENOSPC)?;
        self.add_unit(units, index, SMALL_ARENA_BYTES)
    }

    fn add_unit(
        &self,
        units: &mut KVec<Option<SharedPages>>,
        index: usize,
        bytes: usize,
    ) -> Result {
        self.pool.arenas().open(index)?;
        let pages = SharedPages::unlisted(bytes / kernel::page::PAGE_SIZE)?;
        let (base, len) = (pages.range().pa, pages.len());
        // CAST: as in `new`.
        match Bounds::is_for_large(index as u64) {
            true => self
                .pool
                .add_for_large(index, base, len)
                // CAST: a few MiB.
                .map(|()| self.for_large.count(len as u64)),
            false => self.pool.add(index, base, len),
        }
        .map_err(|_| EINVAL)?;
        units[index] = Some(pages);
        self.size_most
            .store(self.size_most.counted().max(self.size()));
        self.set_reserve();
        Ok(())
    }

    /// What follows from the size: what is kept, and how much is to be free for blocks of all sizes, a quarter of the
    /// size, or a sixteenth besides what is kept.
    fn set_reserve(&self) {
        let for_all = self.size().saturating_sub(self.for_large.counted());
        let kept = shares::most_kept(self.kept_wanted.counted(), for_all);
        let floor = self.floor_wanted.counted().min(for_all / 3);
        let chunks = |bytes: u64| bytes / CHUNK_BYTES as u64;
        self.pool.set_kept(chunks(kept), chunks(floor));
        self.kept.store(kept);
        let all = self.pool.chunks_in_all();
        let reserve = match self.size() < self.bounds.max {
            true => (all / 4).max(chunks(kept) + all / 16),
            // It cannot grow any more.
            false => 0,
        };
        self.reserve.store(reserve);
    }
}
