// SPDX-License-Identifier: GPL-2.0

//! The atomics of the allocator's books: Rust's own, which are inlined.
//!
//! The kernel's `Atomic` would call a C helper for each, seven times for a buffer; and each return costs more than
//! the operation where returns are guarded. Nobody but this module's Rust code touches these words, so no C code's memory
//! model is involved. On x86-64, the only architecture this module is for, they are what the kernel's are: plain loads and
//! stores for acquire and release, `lock` instructions for all else, and no reordering by the compiler.

use core::sync::atomic::{
    AtomicU64,
    Ordering, //
};

use kernel::prelude::*;
use memenc::pool;

/// A word of the allocator's books.
pub(crate) struct Word(AtomicU64);

/// Many of them.
pub(crate) type Words = KVVec<Word>;

impl Word {
    pub(crate) const fn new(value: u64) -> Self {
        Word(AtomicU64::new(value))
    }

    /// Counts; the order is of no consequence.
    #[inline]
    pub(crate) fn count(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// What was counted.
    pub(crate) fn counted(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl pool::Word for Word {
    #[inline]
    fn load(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    #[inline]
    fn store(&self, value: u64) {
        self.0.store(value, Ordering::Release);
    }

    #[inline]
    fn compare_exchange(&self, old: u64, new: u64) -> Result<u64, u64> {
        self.0
            .compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst)
    }

    #[inline]
    fn fetch_add(&self, value: u64) -> u64 {
        self.0.fetch_add(value, Ordering::SeqCst)
    }

    #[inline]
    fn fetch_or(&self, bits: u64) -> u64 {
        self.0.fetch_or(bits, Ordering::SeqCst)
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
