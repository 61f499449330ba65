// SPDX-License-Identifier: GPL-2.0

//! What it costs to share 2 MiB with the host, in several ways; see Documentation/virtio-sev-shim.rst.
//!
//! It measures when it is loaded and leaves a line in the log for each way and round. Instructions are those of the
//! kernel on the CPU it runs on, as the lab's plugin counts them; 0 where nobody does.
//!
//! With `forget=1` or `rcu=1` it only makes a mistake: one that the guest helper has to find when it is unloaded, or one
//! that it must refuse.

use core::arch::x86_64::__cpuid;

use kernel::{
    error::to_result,
    ffi::c_int,
    page::PAGE_SIZE,
    prelude::*,
    sync::rcu,
    time::{
        Instant,
        Monotonic, //
    },
};
use virtio_sev_shim::shared::{
    SharedPages,
    UNIT_PAGES, //
};

/// tools/testing/sev-cpu/src/instructions.rs
const INSTRUCTIONS_LEAF: u32 = 0x5e50_0000;
const INSTRUCTIONS_SIGNATURE: u32 = 0x5345_5643;

const ROUNDS: usize = 5;

extern "C" {
    // arch/x86/include/asm/set_memory.h
    fn set_memory_decrypted(addr: usize, pages: c_int) -> c_int;
    fn set_memory_encrypted(addr: usize, pages: c_int) -> c_int;
}

fn instructions() -> u64 {
    // SAFETY: Every x86-64 processor has CPUID.
    let answer = unsafe { __cpuid(INSTRUCTIONS_LEAF) };
    if answer.ebx == INSTRUCTIONS_SIGNATURE {
        u64::from(answer.edx) << 32 | u64::from(answer.eax)
    } else {
        0
    }
}

/// Measures `work` and tells the log. What it returns is dropped afterwards.
fn measure<T>(way: &str, work: impl FnOnce() -> Result<T>) -> Result {
    let began = Instant::<Monotonic>::now();
    let before = instructions();
    let held = work()?;
    let after = instructions();
    let took = began.elapsed().as_nanos();
    drop(held);
    pr_info!(
        "way={} instructions={} ns={}\n",
        way,
        after.wrapping_sub(before),
        took
    );
    Ok(())
}

/// Page by page.
fn pages() -> Result<KVec<SharedPages>> {
    let mut all = KVec::with_capacity(UNIT_PAGES, GFP_KERNEL)?;
    for _ in 0..UNIT_PAGES {
        all.push(SharedPages::new(1)?, GFP_KERNEL)?;
    }
    Ok(all)
}

/// Memory of the kernel's own, shared with the kernel's function alone, as a driver in C would: not zeroed, not
/// accounted for.
struct Stock(KVec<u8>);

impl Stock {
    fn new() -> Result<Self> {
        let mut memory = KVec::with_capacity(UNIT_PAGES * PAGE_SIZE, GFP_KERNEL)?;
        memory.resize(UNIT_PAGES * PAGE_SIZE, 0, GFP_KERNEL)?;
        Ok(Stock(memory))
    }

    /// So many pages at a time.
    fn share(&mut self, pages: usize) -> Result {
        for page in (0..UNIT_PAGES).step_by(pages) {
            let addr = self.0.as_ptr() as usize + page * PAGE_SIZE;
            // CAST: at most 512.
            //
            // SAFETY: The memory is ours, page-aligned as every allocation of whole pages is, and private again
            // before it is freed.
            to_result(unsafe { set_memory_decrypted(addr, pages as c_int) })?;
        }
        Ok(())
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        // CAST: 512.
        //
        // SAFETY: As above.
        if unsafe { set_memory_encrypted(self.0.as_ptr() as usize, UNIT_PAGES as c_int) } != 0 {
            core::mem::forget(core::mem::take(&mut self.0));
        }
    }
}

struct Bench;

impl kernel::Module for Bench {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        if module_parameters::forget.value() {
            core::mem::forget(SharedPages::new(1)?);
            return Ok(Bench);
        }
        if module_parameters::rcu.value() {
            let section = rcu::read_lock();
            let outcome = SharedPages::new(1).map(|_| ());
            drop(section);
            pr_info!("sharing in a read section: {:?}\n", outcome.err());
            return Ok(Bench);
        }
        // First, because flips of single pages split the entry of the kernel's page tables that maps 2 MiB.
        for _ in 0..ROUNDS {
            measure("unit", || SharedPages::new(UNIT_PAGES))?;
            let mut stock = Stock::new()?;
            measure("range", || stock.share(UNIT_PAGES))?;
        }
        for _ in 0..ROUNDS {
            measure("pages", pages)?;
            let mut stock = Stock::new()?;
            measure("stock", || stock.share(1))?;
        }
        // Once: the kernel then joins the pieces again.
        measure("unit_in_pieces", || SharedPages::new(UNIT_PAGES))?;
        Ok(Bench)
    }
}

module! {
    type: Bench,
    name: "sev_flip_bench",
    authors: ["The Linux SEV in Rust developers"],
    description: "Measures what sharing memory with the host costs",
    license: "GPL",
    params: {
        forget: bool {
            default: false,
            description: " share a page, forget it, and measure nothing (default false)",
        },
        rcu: bool {
            default: false,
            description: " share a page in a read section of RCU, and measure nothing (default false)",
        },
    },
}
