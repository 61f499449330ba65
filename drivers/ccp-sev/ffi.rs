// SPDX-License-Identifier: GPL-2.0

//! The C functions of `shim.c`, each wrapped once.

use core::ptr::NonNull;

mod shim {
    use kernel::{
        bindings,
        ffi::{
            c_uint,
            c_ulong,
            c_void, //
        },
    };

    // The declarations of shim.h.
    extern "C" {
        pub(super) fn ccp_sev_cmd_timeout_s() -> c_uint;
        pub(super) fn ccp_sev_probe_timeout_s() -> c_uint;
        pub(super) fn ccp_sev_init_on_probe() -> bool;
        pub(super) fn ccp_sev_poll() -> bool;
        pub(super) fn ccp_sev_cpu_has_sev() -> bool;
        pub(super) fn ccp_sev_cpu_family() -> u8;
        pub(super) fn ccp_sev_cpu_model() -> u8;
        pub(super) fn ccp_sev_is_kdump() -> bool;
        pub(super) fn ccp_sev_irqs_disabled() -> bool;
        pub(super) fn ccp_sev_wbinvd_all();
        pub(super) fn ccp_sev_alloc(len: usize) -> *mut c_void;
        pub(super) fn ccp_sev_free(mem: *mut c_void, len: usize);
        pub(super) fn ccp_sev_get_page(gfp: bindings::gfp_t) -> c_ulong;
        pub(super) fn ccp_sev_put_page(addr: c_ulong);
        pub(super) fn ccp_sev_pa(mem: *const c_void) -> u64;
        pub(super) fn ccp_sev_psp_pa(mem: *const c_void) -> u64;
        pub(super) fn ccp_sev_clflush(mem: *mut c_void, len: usize);
    }
}

/// Milliseconds until a command counts as not answered; `answered` says whether any was before.
pub(crate) fn timeout_ms(answered: bool) -> u32 {
    // SAFETY: Reads a module parameter, which is always valid.
    let seconds = unsafe {
        if answered {
            shim::ccp_sev_cmd_timeout_s()
        } else {
            shim::ccp_sev_probe_timeout_s()
        }
    };
    seconds.saturating_mul(1000)
}

/// Module parameter `psp_init_on_probe`.
pub(crate) fn init_on_probe() -> bool {
    // SAFETY: Reads a module parameter, which is always valid.
    unsafe { shim::ccp_sev_init_on_probe() }
}

/// Module parameter `psp_poll`.
pub(crate) fn poll() -> bool {
    // SAFETY: Reads a module parameter, which is always valid.
    unsafe { shim::ccp_sev_poll() }
}

/// Whether the CPU has SEV and the BIOS enabled it.
pub(crate) fn cpu_has_sev() -> bool {
    // SAFETY: Reads the boot CPU's feature bits, which do not change any more.
    unsafe { shim::ccp_sev_cpu_has_sev() }
}

/// Family and model of the processor.
pub(crate) fn cpu_family_model() -> (u8, u8) {
    // SAFETY: Reads the boot CPU's identification, which does not change any more.
    unsafe { (shim::ccp_sev_cpu_family(), shim::ccp_sev_cpu_model()) }
}

/// Whether this kernel was started to dump a crashed one.
pub(crate) fn is_kdump() -> bool {
    // SAFETY: Has no preconditions.
    unsafe { shim::ccp_sev_is_kdump() }
}

/// Whether this CPU takes no interrupts now.
pub(crate) fn irqs_disabled() -> bool {
    // SAFETY: Has no preconditions.
    unsafe { shim::ccp_sev_irqs_disabled() }
}

/// Writes back and invalidates the caches of all CPUs.
///
/// # Context
///
/// Interrupts enabled; waits for the other CPUs.
pub(crate) fn wbinvd_on_all_cpus() {
    // SAFETY: WBINVD loses no data, it only costs time.
    unsafe { shim::ccp_sev_wbinvd_all() }
}

/// Allocates `len` zeroed bytes of whole, physically contiguous pages, aligned to the next power of
/// two of their size; `None` if there are none.
pub(crate) fn alloc_exact(len: usize) -> Option<NonNull<u8>> {
    // SAFETY: Has no preconditions; a length that makes no sense fails.
    NonNull::new(unsafe { shim::ccp_sev_alloc(len) }.cast())
}

/// Frees what [`alloc_exact`] returned.
///
/// # Safety
///
/// `mem` comes from `alloc_exact(len)`, is freed once, and is not used afterwards.
pub(crate) unsafe fn free_exact(mem: NonNull<u8>, len: usize) {
    // SAFETY: By this function's own requirements.
    unsafe { shim::ccp_sev_free(mem.as_ptr().cast(), len) }
}

/// Physical address of direct-mapped memory, without the C-bit.
///
/// # Safety
///
/// `mem` comes from [`alloc_exact`] and has not been freed.
pub(crate) unsafe fn pa(mem: NonNull<u8>) -> u64 {
    // SAFETY: By this function's own requirements `mem` is in the direct map.
    unsafe { shim::ccp_sev_pa(mem.as_ptr().cast()) }
}

/// Physical address of direct-mapped memory as the PSP wants it: with the C-bit if the host's
/// memory is encrypted.
///
/// # Safety
///
/// `mem` comes from [`alloc_exact`] and has not been freed.
pub(crate) unsafe fn psp_pa(mem: NonNull<u8>) -> u64 {
    // SAFETY: By this function's own requirements `mem` is in the direct map.
    unsafe { shim::ccp_sev_psp_pa(mem.as_ptr().cast()) }
}

/// Flushes the caches over `len` bytes at `mem`.
///
/// # Safety
///
/// `mem` comes from [`alloc_exact`], has at least `len` bytes and has not been freed.
pub(crate) unsafe fn clflush(mem: NonNull<u8>, len: usize) {
    // SAFETY: By this function's own requirements the range is mapped.
    unsafe { shim::ccp_sev_clflush(mem.as_ptr().cast(), len) }
}

/// Allocates a page for another module, which frees it with [`put_page`]; zero if there is none.
pub(crate) fn get_page(gfp: kernel::bindings::gfp_t) -> usize {
    // SAFETY: Has no preconditions beyond flags that fit the context, which the caller chose.
    unsafe { shim::ccp_sev_get_page(gfp) }
}

/// Frees a page of [`get_page`].
///
/// # Safety
///
/// `addr` is zero or comes from `get_page`, is freed once, and is not used afterwards.
pub(crate) unsafe fn put_page(addr: usize) {
    // SAFETY: By this function's own requirements.
    unsafe { shim::ccp_sev_put_page(addr) }
}
