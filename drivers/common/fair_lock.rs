// SPDX-License-Identifier: GPL-2.0

//! A sleeping lock that is handed from waiter to waiter in the order they came.
//!
//! A mutex may be taken by whoever happens to run when it is released, and the kernel crate of Linux 7.3
//! has no killable wait for one. A semaphore with one unit has both: `up()` gives the unit to the first
//! waiter, and `down_killable()` waits. C header:
//! [`include/linux/semaphore.h`](srctree/include/linux/semaphore.h).
//!
//! A module that has this file has a function `ffi::init_semaphore`: in C it is inline.

use core::{
    cell::UnsafeCell,
    ops::{
        Deref,
        DerefMut, //
    },
};

use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    types::{
        NotThreadSafe,
        Opaque, //
    },
};

use crate::ffi;

/// Protects a `T`.
///
/// # Invariants
///
/// `data` is only accessed by whoever has the unit of `sem`.
#[pin_data]
pub(crate) struct FairLock<T> {
    #[pin]
    sem: Opaque<bindings::semaphore>,
    data: UnsafeCell<T>,
}

// SAFETY: Sending the lock sends what is in it; a semaphore has no thread affinity.
unsafe impl<T: Send> Send for FairLock<T> {}
// SAFETY: The lock gives access to one thread at a time.
unsafe impl<T: Send> Sync for FairLock<T> {}

/// The lock is held until this is dropped.
///
/// # Invariants
///
/// The unit of `lock.sem` is taken.
pub(crate) struct FairGuard<'a, T> {
    lock: &'a FairLock<T>,
    // The kernel's reports of hung tasks name the task that took a semaphore.
    _not_send: NotThreadSafe,
}

// SAFETY: A shared guard gives what a shared reference to the data gives.
unsafe impl<T: Sync> Sync for FairGuard<'_, T> {}

impl<T> FairLock<T> {
    /// An initialiser for a free lock.
    pub(crate) fn new(data: T) -> impl PinInit<Self> {
        // INVARIANT: The semaphore has one unit.
        pin_init!(Self {
            sem <- Opaque::ffi_init(|slot: *mut bindings::semaphore| {
                // SAFETY: `slot` is valid for writing a semaphore.
                unsafe { ffi::init_semaphore(slot) };
            }),
            data: UnsafeCell::new(data),
        })
    }

    fn guard(&self) -> FairGuard<'_, T> {
        // INVARIANT: By the callers.
        FairGuard {
            lock: self,
            _not_send: NotThreadSafe,
        }
    }

    /// Waits for the lock.
    ///
    /// # Context
    ///
    /// Sleeps, whatever signals come.
    pub(crate) fn lock(&self) -> FairGuard<'_, T> {
        // SAFETY: `sem` is initialised.
        unsafe { bindings::down(self.sem.get()) };
        self.guard()
    }

    /// Waits for the lock, or for a signal that kills.
    ///
    /// # Errors
    ///
    /// `EINTR` after such a signal.
    ///
    /// # Context
    ///
    /// Sleeps.
    pub(crate) fn lock_killable(&self) -> Result<FairGuard<'_, T>> {
        // SAFETY: `sem` is initialised.
        to_result(unsafe { bindings::down_killable(self.sem.get()) })?;
        Ok(self.guard())
    }

    /// Takes the lock if it is free.
    ///
    /// # Context
    ///
    /// Any.
    pub(crate) fn try_lock(&self) -> Option<FairGuard<'_, T>> {
        // SAFETY: `sem` is initialised.
        (unsafe { bindings::down_trylock(self.sem.get()) } == 0).then(|| self.guard())
    }
}

impl<T> Deref for FairGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: By the type invariants nobody else accesses it.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T> DerefMut for FairGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: By the type invariants nobody else accesses it.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T> Drop for FairGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the unit is taken.
        unsafe { bindings::up(self.lock.sem.get()) };
    }
}

#[cfg(CONFIG_CCP_SEV_RUST_KUNIT_TEST)]
#[kunit_tests(ccp_sev_fair_lock)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() -> Result {
        let lock = KBox::pin_init(FairLock::new(1), GFP_KERNEL)?;
        let mut guard = lock.lock();
        *guard += 1;
        assert!(lock.try_lock().is_none());
        drop(guard);
        assert!(*lock.lock_killable()? == 2);
        assert!(lock.try_lock().is_some());
        Ok(())
    }
}
