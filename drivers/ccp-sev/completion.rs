// SPDX-License-Identifier: GPL-2.0

//! A completion that can be waited for with a limit.
//!
//! `kernel::sync::Completion` of Linux 7.3 has neither a timed wait nor a way to be used twice.
//! C header: [`include/linux/completion.h`](srctree/include/linux/completion.h).

use kernel::{
    bindings,
    ffi::c_long,
    prelude::*,
    time::msecs_to_jiffies,
    types::Opaque, //
};
use psp::host::{
    Patience,
    Wake, //
};

/// Counts completions; a wait takes one away.
#[pin_data]
pub(crate) struct TimedCompletion {
    #[pin]
    inner: Opaque<bindings::completion>,
}

// SAFETY: `struct completion` may be used from any task and from interrupts.
unsafe impl Send for TimedCompletion {}
// SAFETY: `struct completion` has a lock of its own.
unsafe impl Sync for TimedCompletion {}

impl TimedCompletion {
    /// An initialiser for one that has not completed.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            inner <- Opaque::ffi_init(|slot: *mut bindings::completion| {
                // SAFETY: `slot` is valid for writing a `struct completion`.
                unsafe { bindings::init_completion(slot) };
            }),
        })
    }

    /// Completes once more; wakes one waiter.
    ///
    /// # Context
    ///
    /// Any, also interrupts.
    pub(crate) fn complete(&self) {
        // SAFETY: `inner` is initialised.
        unsafe { bindings::complete(self.inner.get()) }
    }

    /// Takes away a completion nobody waited for.
    pub(crate) fn forget(&self) {
        // SAFETY: `inner` is initialised.
        while unsafe { bindings::try_wait_for_completion(self.inner.get()) } {}
    }

    /// Waits at most `ms` milliseconds, a jiffy at least.
    ///
    /// # Context
    ///
    /// Sleeps.
    pub(crate) fn wait_timeout_ms(&self, ms: u32, patience: Patience) -> Wake {
        let jiffies = msecs_to_jiffies(ms).max(1);
        let left = match patience {
            // SAFETY: `inner` is initialised, and this is process context by this function's contract.
            Patience::Endless => unsafe {
                // CAST: never more than `jiffies`.
                bindings::wait_for_completion_timeout(self.inner.get(), jiffies) as c_long
            },
            // SAFETY: As above.
            Patience::Killable => unsafe {
                bindings::wait_for_completion_killable_timeout(self.inner.get(), jiffies)
            },
        };
        match left {
            1.. => Wake::Interrupt,
            0 => Wake::TimeOver,
            // -ERESTARTSYS.
            _ => Wake::Killed,
        }
    }
}

#[cfg(CONFIG_CCP_SEV_RUST_KUNIT_TEST)]
#[kunit_tests(ccp_sev_completion)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_with_a_completion_or_with_its_time() -> Result {
        let done = KBox::pin_init(TimedCompletion::new(), GFP_KERNEL)?;
        assert!(done.wait_timeout_ms(1, Patience::Endless) == Wake::TimeOver);
        done.complete();
        assert!(done.wait_timeout_ms(1, Patience::Killable) == Wake::Interrupt);
        assert!(done.wait_timeout_ms(1, Patience::Endless) == Wake::TimeOver);
        Ok(())
    }

    #[test]
    fn forgotten_completions_wake_nobody() -> Result {
        let done = KBox::pin_init(TimedCompletion::new(), GFP_KERNEL)?;
        done.complete();
        done.complete();
        done.forget();
        assert!(done.wait_timeout_ms(1, Patience::Endless) == Wake::TimeOver);
        Ok(())
    }
}
