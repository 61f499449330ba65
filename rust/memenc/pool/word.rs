// SPDX-License-Identifier: GPL-2.0

//! The atomics the pool is made of: the standard library's, the kernel's, or a model checker's.

use core::sync::atomic::{AtomicU64, Ordering};

/// A 64-bit atomic. Loads acquire, stores release, all else does both.
pub trait Word: Send + Sync + 'static {
    /// Its value.
    fn load(&self) -> u64;

    /// Sets it.
    fn store(&self, value: u64);

    /// Sets it to `new` if it is `old`.
    ///
    /// # Errors
    ///
    /// What it is instead; never `old`.
    fn compare_exchange(&self, old: u64, new: u64) -> Result<u64, u64>;

    /// Adds, wrapping; returns what it was before.
    fn fetch_add(&self, value: u64) -> u64;

    /// Sets bits; returns what it was before.
    fn fetch_or(&self, bits: u64) -> u64;
}

/// For programs; the kernel has its own memory model, and atomics for it.
impl Word for AtomicU64 {
    fn load(&self) -> u64 {
        self.load(Ordering::Acquire)
    }

    fn store(&self, value: u64) {
        self.store(value, Ordering::Release);
    }

    fn compare_exchange(&self, old: u64, new: u64) -> Result<u64, u64> {
        self.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire)
    }

    fn fetch_add(&self, value: u64) -> u64 {
        self.fetch_add(value, Ordering::AcqRel)
    }

    fn fetch_or(&self, bits: u64) -> u64 {
        self.fetch_or(bits, Ordering::AcqRel)
    }
}

/// Changes a word to what `change` makes of it; returns what it was and what it is. `None` if there is
/// nothing to change: then it was left alone.
#[inline(always)]
pub(super) fn update<W: Word>(
    word: &W,
    mut change: impl FnMut(u64) -> Option<u64>,
) -> Option<(u64, u64)> {
    let mut old = word.load();
    loop {
        let new = change(old)?;
        match word.compare_exchange(old, new) {
            Ok(_) => return Some((old, new)),
            Err(other) => old = other,
        }
    }
}

/// Clears a bit that only says where to look, and sets it again if what it stands for is there.
///
/// Whoever makes that thing sets the bit afterwards, always. So either the bit is set after it was
/// cleared here, or `there` is asked after the thing was made: it cannot be missed.
pub(super) fn retract<W: Word>(word: &W, bit: u64, there: impl FnOnce() -> bool) {
    let cleared = update(word, |bits| (bits & bit != 0).then_some(bits & !bit));
    if cleared.is_some() && there() {
        word.fetch_or(bit);
    }
}

/// The numbers of the bits that are set, lowest first.
pub(super) fn ones(mut bits: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let lowest = bits.trailing_zeros();
        bits &= bits.wrapping_sub(1);
        // CAST: below 64.
        (lowest < u64::BITS).then_some(lowest as usize)
    })
}
