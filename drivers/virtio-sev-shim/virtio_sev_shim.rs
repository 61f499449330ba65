// SPDX-License-Identifier: GPL-2.0

//! Guest helper for AMD SEV: what protects this VM, and memory that is shared with the host.
//!
//! What can be decided without hardware is in the crate [`memenc`]; here is the border with the
//! kernel:
//!
//! - [`shared`]: shared memory, for other drivers, too; `flip`: how pages become shared and private
//!   again; `ledger`: what is shared now, and the counters;
//! - `protection`: what protects this VM; `sysfs`: what administrators see of all that;
//! - `ffi`: the functions of the C files.
//!
//! Unsafe code stands in `ffi` and `flip`, `shared` (memory by its address), `sysfs` (the C ABI) and here
//! (a static).

mod ffi;
mod flip;
mod ledger;
mod protection;
pub mod shared;
mod sysfs;

#[cfg(CONFIG_VIRTIO_SEV_SHIM_KUNIT_TEST)]
mod flip_test;

use kernel::prelude::*;

struct ShimModule {
    // They go in this order.
    _sysfs: sysfs::Directory,
    _memory: Memory,
}

impl kernel::Module for ShimModule {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        // SAFETY: This runs once, before anything can use the lock.
        unsafe { ledger::LEDGER.init() };
        protection::find_out();
        Ok(ShimModule {
            _sysfs: sysfs::Directory::new()?,
            _memory: Memory,
        })
    }
}

/// When it goes, so does the code that would make memory private.
struct Memory;

impl Drop for Memory {
    fn drop(&mut self) {
        ffi::flush_deferred();
        let counters = shared::counters();
        if counters.shared > 0 || counters.leaked > 0 {
            pr_err!(
                "unloaded with {} pages shared and {} leaked\n",
                counters.shared,
                counters.leaked
            );
        }
    }
}

module! {
    type: ShimModule,
    name: "virtio_sev_shim",
    authors: ["The Linux SEV in Rust developers"],
    description: "Guest helper for AMD SEV, in Rust",
    license: "GPL",
}
