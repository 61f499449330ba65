// SPDX-License-Identifier: GPL-2.0

//! Driver for the SEV firmware interface of the AMD Secure Processor (PSP).
//!
//! The module is named `ccp`, as the C driver it stands in for. What can be decided without
//! hardware is in the crate [`psp`]; here is the border with the kernel. From the outside in:
//!
//! - `driver`: PCI probe and unbind; `dev_sev`: the node; `ioctl`: its commands; `kvm`: the
//!   in-kernel API;
//! - `psp_dev`: the device and its command lock; `platform`: INIT, SHUTDOWN and what goes around
//!   them; `fw_update`: newer firmware from a file;
//! - `mailbox`: one exchange with the firmware; `regs`: the registers; `completion`: the wait;
//! - `fw_buf`: memory that the firmware may touch; `user`: user space's; `ffi`: the functions of
//!   `shim.c`.
//!
//! Unsafe code stands in `ffi`, `fw_buf`, `completion` (C objects), `kvm` (the C ABI), `driver` (a
//! borrow within one struct) and here (a static).

mod completion;
mod dev_sev;
mod driver;
mod error;
mod ffi;
mod fw_buf;
mod fw_update;
mod ioctl;
mod kvm;
mod mailbox;
mod platform;
mod psp_dev;
mod regs;
mod user;

use kernel::{
    driver::Registration,
    pci,
    prelude::*, //
};

#[pin_data]
struct CcpModule {
    #[pin]
    driver: Registration<pci::Adapter<driver::SevDriver>>,
}

impl kernel::InPlaceModule for CcpModule {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        // SAFETY: This runs once, before anything can use the lock.
        unsafe { psp_dev::ACTIVE.init() };
        try_pin_init!(Self {
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
