// SPDX-License-Identifier: GPL-2.0

//! The functions of the C files, each wrapped once.

use core::ptr::NonNull;

use kernel::{
    error::to_result,
    page::PAGE_SIZE,
    prelude::*, //
};

mod shim {
    use kernel::ffi::{
        c_char,
        c_int,
        c_uint,
        c_void, //
    };

    // The declarations of shim.h.
    extern "C" {
        pub(super) fn sev_shim_encryption_leaf(regs: *mut u32) -> bool;
        pub(super) fn sev_shim_read_msr(msr: u32, value: *mut u64) -> c_int;
        pub(super) fn sev_shim_memory_is_encrypted() -> bool;
        pub(super) fn sev_shim_vmpl() -> u8;
        pub(super) fn sev_shim_may_sleep() -> bool;
        pub(super) fn sev_shim_alloc(len: usize) -> *mut c_void;
        pub(super) fn sev_shim_free(mem: *mut c_void, len: usize);
        pub(super) fn sev_shim_make_shared(mem: *mut c_void, pages: c_int) -> c_int;
        pub(super) fn sev_shim_make_private(mem: *mut c_void, pages: c_int) -> c_int;
        pub(super) fn sev_shim_pa(mem: *const c_void) -> u64;
        pub(super) fn sev_shim_va(pa: u64) -> *mut c_void;
        pub(super) fn sev_shim_shared_address(pa: u64) -> u64;
        pub(super) fn sev_shim_defer(mem: *mut c_void, pages: c_int);
        pub(super) fn sev_shim_flush_deferred();
        pub(super) fn sev_shim_add_attributes(
            names: *const *const c_char,
            count: c_uint,
            features: c_uint,
        ) -> c_int;
        pub(super) fn sev_shim_remove_attributes();
        pub(super) fn sev_shim_notify(name: *const c_char);
    }
}

/// EAX, EBX, ECX and EDX of CPUID leaf 0x8000001F; `None` if the processor does not have it.
pub(crate) fn encryption_leaf() -> Option<[u32; 4]> {
    let mut regs = [0; 4];
    // SAFETY: It writes four registers.
    unsafe { shim::sev_shim_encryption_leaf(regs.as_mut_ptr()) }.then_some(regs)
}

/// A model-specific register.
///
/// # Errors
///
/// The processor does not have it.
pub(crate) fn read_msr(msr: u32) -> Result<u64> {
    let mut value = 0;
    // SAFETY: Reading a register that is not there is caught.
    to_result(unsafe { shim::sev_shim_read_msr(msr, &mut value) })?;
    Ok(value)
}

/// Whether this kernel runs as a guest whose memory is encrypted, as it found when it booted.
pub(crate) fn memory_is_encrypted() -> bool {
    // SAFETY: Has no preconditions.
    unsafe { shim::sev_shim_memory_is_encrypted() }
}

/// The privilege level of a SEV-SNP guest, 0 in others.
pub(crate) fn vmpl() -> u8 {
    // SAFETY: Reads what does not change after boot.
    unsafe { shim::sev_shim_vmpl() }
}

/// Whether the caller may wait. Without preemption counters (`CONFIG_PREEMPT_COUNT`) a held spinlock is not
/// noticed.
pub(crate) fn may_sleep() -> bool {
    // SAFETY: Has no preconditions.
    unsafe { shim::sev_shim_may_sleep() }
}

/// Bytes of `pages` pages; `None` if that is nonsense.
fn len_of(pages: usize) -> Option<usize> {
    pages.checked_mul(PAGE_SIZE).filter(|len| *len > 0)
}

/// Allocates physically contiguous pages, aligned to the next power of two of their size; what is in
/// them is whatever was there.
///
/// # Context
///
/// May sleep.
pub(crate) fn alloc_pages(pages: usize) -> Option<NonNull<u8>> {
    let len = len_of(pages)?;
    // SAFETY: Has no preconditions; a length that makes no sense fails.
    NonNull::new(unsafe { shim::sev_shim_alloc(len) }.cast())
}

/// Frees what [`alloc_pages`] returned.
///
/// # Safety
///
/// `mem` comes from `alloc_pages(pages)`, is private, is freed once, and is not used afterwards.
pub(crate) unsafe fn free_pages(mem: NonNull<u8>, pages: usize) {
    // SAFETY: By this function's own requirements.
    unsafe { shim::sev_shim_free(mem.as_ptr().cast(), pages * PAGE_SIZE) }
}

/// Shares pages with the host. What is in them then is garbage.
///
/// # Errors
///
/// Some of the pages may be shared, and some private.
///
/// # Safety
///
/// `mem` comes from `alloc_pages(pages)` and nobody else uses it.
pub(crate) unsafe fn make_shared(mem: NonNull<u8>, pages: usize) -> Result {
    let pages = i32::try_from(pages)?;
    // SAFETY: By this function's own requirements.
    to_result(unsafe { shim::sev_shim_make_shared(mem.as_ptr().cast(), pages) })
}

/// Makes pages private again. What is in them then is garbage.
///
/// # Errors
///
/// Some of the pages may be shared, and some private.
///
/// # Safety
///
/// As for [`make_shared`].
pub(crate) unsafe fn make_private(mem: NonNull<u8>, pages: usize) -> Result {
    let pages = i32::try_from(pages)?;
    // SAFETY: By this function's own requirements.
    to_result(unsafe { shim::sev_shim_make_private(mem.as_ptr().cast(), pages) })
}

/// Guest-physical address of memory from [`alloc_pages`], as the host counts: without the C-bit.
pub(crate) fn pa(mem: NonNull<u8>) -> u64 {
    // SAFETY: It calculates; an address outside the direct map has a meaningless result.
    unsafe { shim::sev_shim_pa(mem.as_ptr().cast()) }
}

/// Memory from [`alloc_pages`] by its guest-physical address.
pub(crate) fn va(pa: u64) -> Option<NonNull<u8>> {
    // SAFETY: It calculates; a foreign address has a meaningless result.
    NonNull::new(unsafe { shim::sev_shim_va(pa) }.cast())
}

/// Has shared pages made private and freed by a worker.
///
/// # Context
///
/// Any.
///
/// # Safety
///
/// `mem` comes from `alloc_pages(pages)`, is shared, and is not used afterwards.
pub(crate) unsafe fn defer(mem: NonNull<u8>, pages: usize) {
    // CAST: the allocator's largest blocks have far fewer pages than that.
    // SAFETY: By this function's own requirements.
    unsafe { shim::sev_shim_defer(mem.as_ptr().cast(), pages as i32) }
}

/// Waits until all that was given to [`defer`] is private.
pub(crate) fn flush_deferred() {
    // SAFETY: Has no preconditions.
    unsafe { shim::sev_shim_flush_deferred() }
}

/// The address under which the guest's page tables and devices know a shared page: different from
/// its guest-physical address under vTOM only.
pub(crate) fn shared_address(pa: u64) -> u64 {
    // SAFETY: It calculates.
    unsafe { shim::sev_shim_shared_address(pa) }
}

/// Makes `/sys/kernel/sev_guest` with files of these names, the first `features` of them in the directory
/// `features`.
///
/// # Errors
///
/// Those of sysfs.
pub(crate) fn add_attributes(names: &[*const kernel::ffi::c_char], features: usize) -> Result {
    // CAST: a handful.
    let (count, features) = (names.len() as u32, features as u32);
    // SAFETY: The caller's names are strings of this module, which removes the files before it goes.
    to_result(unsafe { shim::sev_shim_add_attributes(names.as_ptr(), count, features) })
}

/// Removes what [`add_attributes`] made, and waits for readers.
pub(crate) fn remove_attributes() {
    // SAFETY: Called once after `add_attributes`.
    unsafe { shim::sev_shim_remove_attributes() }
}

/// Wakes whoever polls a file.
pub(crate) fn notify(name: &CStr) {
    // SAFETY: The name is a string.
    unsafe { shim::sev_shim_notify(name.as_char_ptr()) }
}
