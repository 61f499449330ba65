// SPDX-License-Identifier: GPL-2.0

//! Guest helper for AMD SEV: what protects this VM, memory that is shared with the host, and requests to
//! the firmware.
//!
//! What can be decided without hardware is in the crates [`memenc`] and [`psp`] (guest messages); here
//! is the border with the kernel:
//!
//! - [`shared`]: shared memory, for other drivers, too; `flip`: how pages become shared and private
//!   again; `ledger`: what is shared now, and the counters;
//! - `dma`: virtio devices, whose buffers are in a pool of shared memory;
//! - `protection`: what protects this VM; `sysfs`: what administrators see of all that;
//! - `guest`: what is served over the way to the firmware in use; `sev_guest`: the node
//!   `/dev/sev-guest`; `tsm`: reports in configfs; `transport`: what a way is; `snp` and `lab`: the two
//!   there are; `gcm`: the cipher;
//! - `fair_lock` and `user`, as in the host driver; `ffi`: the functions of the C files.
//!
//! Unsafe code stands in `ffi`, `gcm`, `snp`, `flip` and `shared` (memory by its address), `fair_lock` (C objects),
//! `sysfs` and `tsm` (the C ABI), `lab` (a device id), `guest` and here (statics).

mod dma;
#[path = "../common/fair_lock.rs"]
#[expect(dead_code, reason = "the host driver also waits unkillably")]
mod fair_lock;
mod ffi;
mod flip;
mod gcm;
mod guest;
mod lab;
mod ledger;
mod protection;
mod sev_guest;
pub mod shared;
mod snp;
mod sysfs;
mod transport;
mod tsm;
#[path = "../common/user.rs"]
mod user;

#[cfg(CONFIG_VIRTIO_SEV_SHIM_KUNIT_TEST)]
mod copy_test;
#[cfg(CONFIG_VIRTIO_SEV_SHIM_KUNIT_TEST)]
mod flip_rig;
#[cfg(CONFIG_VIRTIO_SEV_SHIM_KUNIT_TEST)]
mod flip_test;
#[cfg(CONFIG_VIRTIO_SEV_SHIM_KUNIT_TEST)]
mod shared_test;
#[cfg(CONFIG_VIRTIO_SEV_SHIM_KUNIT_TEST)]
mod snp_test;
#[cfg(CONFIG_VIRTIO_SEV_SHIM_KUNIT_TEST)]
mod walk_test;

use kernel::{
    driver::Registration,
    pci,
    prelude::*, //
};

/// The lab's device has a driver only if the administrator wants one.
type LabRegistration = Pin<KBox<Registration<pci::Adapter<lab::LabDriver>>>>;

struct ShimModule {
    // They go in this order.
    _dma: Option<dma::Service>,
    _lab: Option<LabRegistration>,
    _requests: Requests,
    // What it makes private wakes readers of the directory.
    _memory: Memory,
    _sysfs: sysfs::Directory,
}

impl kernel::Module for ShimModule {
    fn init(module: &'static ThisModule) -> Result<Self> {
        // SAFETY: This runs once, before anything can use the locks.
        unsafe {
            ledger::LEDGER.init();
            guest::SERVED.init();
        };
        protection::find_out();
        // If something fails they go in the opposite order.
        let sysfs = sysfs::Directory::new()?;
        let memory = Memory;
        let requests = Requests::new()?;
        let lab = if ffi::lab_transport() {
            let name = <Self as kernel::ModuleMetadata>::NAME;
            let registration = KBox::pin_init(Registration::new(name, module), GFP_KERNEL)?;
            if guest::active().is_err() {
                pr_warn!(
                    "no /dev/sev-guest: lab_transport=1, and no emulated PSP that can be used\n"
                );
            }
            Some(registration)
        } else {
            None
        };
        let dma = dma::Service::new()?;
        Ok(ShimModule {
            _dma: dma,
            _lab: lab,
            _requests: requests,
            _memory: memory,
            _sysfs: sysfs,
        })
    }
}

/// Requests to the firmware of an SEV-SNP guest, as long as the module is there.
struct Requests;

impl Requests {
    fn new() -> Result<Self> {
        // Also when it is not used: who gives it finds out now that it is wrong.
        ffi::vmpck_id()
            .inspect_err(|_| pr_err!("vmpck_id= is 0 to 3, or -1 for that of the VMPL\n"))?;
        if !ffi::is_snp_guest() {
            if !ffi::lab_transport() {
                pr_info!("no /dev/sev-guest: only SEV-SNP guests can ask the firmware\n");
            }
            return Ok(Requests);
        }
        if ffi::lab_transport() {
            pr_err!("lab_transport=1 in an SEV-SNP guest: its reports would be no reports\n");
            return Err(EINVAL);
        }
        // Without it the rest of the module is useful all the same.
        match Self::serve() {
            Ok(()) => pr_info!("/dev/sev-guest asks the firmware\n"),
            Err(error) => pr_err!("no /dev/sev-guest: {:?}\n", error),
        }
        Ok(Requests)
    }

    fn serve() -> Result {
        let snp = snp::Snp::new(ffi::vmpck_id()?)?;
        guest::publish(KBox::new(snp, GFP_KERNEL)?)
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        guest::withdraw();
    }
}

/// When it goes, so does the code that would make memory private.
struct Memory;

impl Drop for Memory {
    fn drop(&mut self) {
        ffi::flush_deferred();
        let forgotten = shared::counters().shared;
        // Who forgot it does not use it any more: it is not freed, but the host does not see it any more either.
        shared::unshare_all();
        let leaked = shared::counters().leaked;
        if forgotten > 0 || leaked > 0 {
            pr_err!(
                "unloaded with {} pages shared, which are so no more, and {} leaked\n",
                forgotten,
                leaked
            );
        }
        // Nobody drops a static.
        *ledger::LEDGER.lock() = ledger::Ledger::new();
    }
}

module! {
    type: ShimModule,
    name: "virtio_sev_shim",
    authors: ["The Linux SEV in Rust developers"],
    description: "Guest helper for AMD SEV, in Rust",
    license: "GPL",
}
