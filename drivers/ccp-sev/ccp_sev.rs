// SPDX-License-Identifier: GPL-2.0

//! Driver for the SEV firmware interface of the AMD Secure Processor (PSP).
//!
//! The module is named `ccp`, as the C driver it stands in for. What can be decided without
//! hardware is in the crate [`psp`]; here is the border with the kernel. From the outside in:
//!
//! - `driver`: PCI probe and unbind; `dev_sev`: the node; `ioctl`: its commands; `kvm`: the
//!   in-kernel API; `sysfs`, `report`: what administrators see; `power`: reboot, panic, sleep;
//! - `registry`: which PSP is in use; `psp_dev`: a PSP and its command lock (`fair_lock`), under which
//!   the driver core of the library works; `fw_update`: newer firmware from a file; `nv_file`: the file
//!   of the persistent data;
//! - `host`: the core's world; `regs`: the registers; `completion`: the wait for the interrupt;
//! - `fw_buf`: memory that the firmware may touch; `user`: user space's; `ffi`: the functions of the C
//!   files.
//!
//! Unsafe code stands in `ffi`, `fw_buf`, `completion`, `fair_lock` (C objects), `host` (an object too
//! large for the stack), `kvm` and `sysfs` (the C ABI), `registry` (statics, a C pointer), `report` (a
//! static), `driver` (a borrow within one struct) and here (statics).

mod completion;
mod dev_sev;
mod driver;
#[path = "../common/fair_lock.rs"]
mod fair_lock;
mod ffi;
mod fw_buf;
mod fw_update;
mod host;
mod ioctl;
mod kvm;
mod nv_file;
mod power;
mod psp_dev;
mod registry;
mod regs;
mod report;
mod sysfs;
#[path = "../common/user.rs"]
mod user;

use kernel::{
    driver::Registration,
    pci,
    prelude::*, //
};

#[pin_data]
struct CcpModule {
    // They go in this order.
    _power: power::Watch,
    #[pin]
    driver: Registration<pci::Adapter<driver::SevDriver>>,
    _reports: report::Directory,
}

impl kernel::InPlaceModule for CcpModule {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        // SAFETY: This runs once, before anything can use the locks.
        let reports = unsafe {
            registry::PSPS.init();
            registry::CHANGE.init();
            report::Directory::new()
        };
        try_pin_init!(Self {
            _reports: reports,
            _power: power::Watch::new()?,
            driver <- Registration::new(<Self as kernel::ModuleMetadata>::NAME, module),
        })
    }
}

module! {
    type: CcpModule,
    name: "ccp",
    authors: ["The Linux SEV in Rust developers"],
    description: "AMD Secure Processor driver for SEV, in Rust",
    license: "GPL",
    firmware: [
        "amd/amd_sev_fam17h_model0xh.sbin",
        "amd/amd_sev_fam17h_model3xh.sbin",
        "amd/amd_sev_fam19h_model0xh.sbin",
        "amd/amd_sev_fam19h_model1xh.sbin",
    ],
}

#[cfg(CONFIG_CCP_SEV_RUST_KUNIT_TEST)]
#[kunit_tests(psp_vectors)]
mod tests {
    #[test]
    fn golden_bytes_match_with_the_kernels_compiler_flags() {
        assert!(psp::vectors::check_all().is_ok());
    }
}
