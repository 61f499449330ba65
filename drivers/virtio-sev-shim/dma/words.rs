// SPDX-License-Identifier: GPL-2.0

//! The kernel's atomics, as the allocator wants them.

use core::sync::atomic::{
    compiler_fence,
    Ordering, //
};

use kernel::{
    prelude::*,
    sync::atomic::{
        ordering::{
            Full,
            Relaxed, //
        },
        Atomic, //
    },
};
use memenc::pool;

/// A word of the allocator's books.
pub(crate) struct Word(Atomic<u64>);

/// Many of them.
pub(crate) type Words = KVVec<Word>;

impl Word {
    pub(crate) const fn new(value: u64) -> Self {
        Word(Atomic::new(value))
    }

    /// Counts; the order is of no consequence.
    #[inline]
    pub(crate) fn count(&self, more: u64) {
        self.0.add(more, Relaxed);
    }

    /// What was counted.
    pub(crate) fn counted(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl pool::Word for Word {
    // These two are what smp_load_acquire() and smp_store_release() are on x86-64. `Atomic`'s are calls of a
    // helper, which show in what a buffer costs.
    #[inline]
    fn load(&self) -> u64 {
        // SAFETY: The pointer is valid, and all other accesses are atomic. This is one, too: of an aligned word.
        let value = unsafe { self.0.as_ptr().read_volatile() };
        compiler_fence(Ordering::Acquire);
        value
    }

    #[inline]
    fn store(&self, value: u64) {
        compiler_fence(Ordering::Release);
        // SAFETY: As in `load`.
        unsafe { self.0.as_ptr().write_volatile(value) };
    }

    #[inline]
    fn compare_exchange(&self, old: u64, new: u64) -> Result<u64, u64> {
        self.0.cmpxchg(old, new, Full)
    }

    #[inline]
    fn fetch_add(&self, value: u64) -> u64 {
        self.0.fetch_add(value, Full)
    }

    #[inline]
    fn fetch_or(&self, bits: u64) -> u64 {
        let mut old = self.0.load(Relaxed);
        while let Err(now) = self.0.cmpxchg(old, old | bits, Full) {
            old = now;
        }
        old
    }
}

/// Words that are all zero.
///
/// # Errors
///
/// `ENOMEM`.
pub(crate) fn zeroed(len: usize) -> Result<Words> {
    let mut words = KVVec::with_capacity(len, GFP_KERNEL)?;
    for _ in 0..len {
        words
            .push_within_capacity(Word::new(0))
            .map_err(|_| ENOMEM)?;
    }
    Ok(words)
}
