// SPDX-License-Identifier: GPL-2.0

//! The functions of the C files, each wrapped once; those of gcm.c and snp.c in `gcm` and `snp`.

use core::ptr::NonNull;

use kernel::{
    bindings,
    error::to_result,
    page::PAGE_SIZE,
    prelude::*, //
};
use memenc::pool::Refusal;
use psp::guest_msg::Oddity;

mod shim {
    use kernel::{
        bindings,
        ffi::{
            c_char,
            c_int,
            c_uint,
            c_void, //
        },
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
        pub(super) fn sev_shim_vmpck_id() -> c_int;
        pub(super) fn sev_shim_lab_transport() -> bool;
        pub(super) fn sev_shim_taint_test();
        pub(super) fn sev_shim_sema_init(sem: *mut bindings::semaphore);
        pub(super) fn sev_shim_sleep_killable(ms: c_uint) -> bool;
        pub(super) fn sev_shim_user_range(addr: usize, len: usize) -> bool;
        pub(super) fn sev_shim_map_private(pa: u64, len: usize) -> *mut c_void;
        pub(super) fn sev_shim_unmap_private(mem: *mut c_void);
        pub(super) fn sev_shim_is_snp_guest() -> bool;
        pub(super) fn sev_shim_log_certificates(truncated: bool);
        pub(super) fn sev_shim_provide_reports(privlevel_floor: c_uint) -> c_int;
        pub(super) fn sev_shim_stop_providing_reports();
        pub(super) fn sev_shim_add_attributes(
            names: *const *const c_char,
            count: c_uint,
            features: c_uint,
        ) -> c_int;
        pub(super) fn sev_shim_remove_attributes();
        pub(super) fn sev_shim_notify(name: *const c_char);
        pub(super) fn sev_shim_copy(to: *mut c_void, from: *const c_void, len: usize);
        pub(super) fn sev_shim_zero(mem: *mut c_void, len: usize);
        pub(super) fn sev_shim_ram() -> u64;
        pub(super) fn sev_shim_cpus() -> c_uint;
        pub(super) fn sev_shim_dma() -> *const c_char;
        pub(super) fn sev_shim_force() -> bool;
        pub(super) fn sev_shim_admit() -> *const c_char;
        pub(super) fn sev_shim_pool_min() -> c_uint;
        pub(super) fn sev_shim_pool_max() -> c_uint;
        pub(super) fn sev_shim_copy_in() -> bool;
        pub(super) fn sev_shim_take_over() -> c_int;
        pub(super) fn sev_shim_give_back();
        pub(super) fn sev_shim_shares_changed();
        pub(super) fn sev_shim_pool_kick();
        pub(super) fn sev_shim_log_no_growth(size: u64);
        pub(super) fn sev_shim_log_refusal(
            name: *const c_char,
            refusal: u32,
            len: usize,
            free: u64,
        );
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

/// Whether the caller may wait: without preemption counters (`CONFIG_PREEMPT_COUNT`) a held spinlock is not noticed, nor
/// without preemptible RCU (`CONFIG_PREEMPT_RCU`) a read section.
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

/// Module parameter `vmpck_id`; `None` for the default.
///
/// # Errors
///
/// `EINVAL`: it is neither an id nor -1, which is the default.
pub(crate) fn vmpck_id() -> Result<Option<u32>> {
    // SAFETY: Reads a module parameter, which is always valid.
    match unsafe { shim::sev_shim_vmpck_id() } {
        -1 => Ok(None),
        id => u32::try_from(id).map(Some).map_err(|_| EINVAL),
    }
}

/// Logs what is wrong with the certificates that the host gave.
pub(crate) fn log_certificates(oddity: Oddity) {
    let truncated = matches!(oddity, Oddity::Truncated);
    // SAFETY: Has no preconditions.
    unsafe { shim::sev_shim_log_certificates(truncated) }
}

/// Module parameter `lab_transport`.
pub(crate) fn lab_transport() -> bool {
    // SAFETY: Reads a module parameter, which is always valid.
    unsafe { shim::sev_shim_lab_transport() }
}

/// Marks this kernel as one that was used for tests.
pub(crate) fn taint_test() {
    // SAFETY: Has no preconditions.
    unsafe { shim::sev_shim_taint_test() }
}

/// Makes a semaphore with one unit.
///
/// # Safety
///
/// `slot` is valid for writing; what is there then does not move.
pub(crate) unsafe fn init_semaphore(slot: *mut bindings::semaphore) {
    // SAFETY: By this function's own requirements.
    unsafe { shim::sev_shim_sema_init(slot) }
}

/// Sleeps; false if the caller is to be killed.
///
/// # Context
///
/// May sleep, and does.
pub(crate) fn sleep_killable(ms: u32) -> bool {
    // SAFETY: The context is the caller's promise, and asked for by the scheduler.
    unsafe { shim::sev_shim_sleep_killable(ms) }
}

/// Whether these can be addresses of user space.
pub(crate) fn is_user_range(addr: usize, len: usize) -> bool {
    // SAFETY: It compares numbers.
    unsafe { shim::sev_shim_user_range(addr, len) }
}

/// A mapping of private memory that the kernel does not use as RAM.
///
/// # Invariants
///
/// `mem` is a mapping of `len` bytes, which ends with this.
pub(crate) struct PrivateMapping {
    mem: NonNull<u8>,
    len: usize,
}

// SAFETY: A mapping is the same on every processor.
unsafe impl Send for PrivateMapping {}

impl PrivateMapping {
    /// Maps `len` bytes at `pa`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`: no address space, or the kernel uses that memory itself.
    pub(crate) fn new(pa: u64, len: usize) -> Result<Self> {
        // SAFETY: The kernel refuses to map its own RAM; everything else is nobody's.
        let mem = unsafe { shim::sev_shim_map_private(pa, len) };
        let mem = NonNull::new(mem.cast()).ok_or(ENOMEM)?;
        // INVARIANT: It was mapped just now.
        Ok(PrivateMapping { mem, len })
    }

    fn at<const N: usize>(&self, offset: usize) -> *mut [u8; N] {
        // Offsets are those of fields.
        assert!(offset + N <= self.len);
        self.mem.as_ptr().wrapping_add(offset).cast()
    }

    /// The bytes at `offset`.
    pub(crate) fn read<const N: usize>(&self, offset: usize) -> [u8; N] {
        // SAFETY: By the type invariant it is mapped; bytes have no alignment.
        unsafe { self.at::<N>(offset).read_volatile() }
    }

    /// Sets the bytes at `offset`.
    pub(crate) fn write<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) {
        // SAFETY: As in `read`.
        unsafe { self.at::<N>(offset).write_volatile(bytes) }
    }
}

impl Drop for PrivateMapping {
    fn drop(&mut self) {
        // SAFETY: By the type invariant it is a mapping.
        unsafe { shim::sev_shim_unmap_private(self.mem.as_ptr().cast()) }
    }
}

/// Whether this kernel is an SEV-SNP guest.
pub(crate) fn is_snp_guest() -> bool {
    // SAFETY: Has no preconditions.
    unsafe { shim::sev_shim_is_snp_guest() }
}

/// Has configfs ask [`crate::tsm`] for reports.
///
/// # Errors
///
/// `EBUSY` if somebody else provides them.
pub(crate) fn provide_reports(privlevel_floor: u32) -> Result {
    // SAFETY: What is called lives in this module, which ends it before it goes.
    to_result(unsafe { shim::sev_shim_provide_reports(privlevel_floor) })
}

/// Ends what [`provide_reports`] began.
pub(crate) fn stop_providing_reports() {
    // SAFETY: Called once after `provide_reports`.
    unsafe { shim::sev_shim_stop_providing_reports() }
}

/// Copies between private memory and memory that the host may change at the same time: what arrives is some mixture of
/// what was there. No access to it is Rust's, whose memory model knows no such writer.
///
/// # Safety
///
/// `to` is valid for writing `len` bytes and `from` for reading as many, apart from what the host does, and they do not
/// overlap.
pub(crate) unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: By this function's own requirements. What C does to bytes that somebody else writes has no other effect than
    // on the bytes at `to`, which may have any value.
    unsafe { shim::sev_shim_copy(to.cast(), from.cast(), len) }
}

/// Makes memory zero that the host may change at the same time.
///
/// # Safety
///
/// `mem` is valid for writing `len` bytes, apart from what the host does.
pub(crate) unsafe fn zero(mem: *mut u8, len: usize) {
    // SAFETY: By this function's own requirements; as in `copy`.
    unsafe { shim::sev_shim_zero(mem.cast(), len) }
}

/// Bytes of memory.
pub(crate) fn ram() -> u64 {
    // SAFETY: Has no preconditions.
    unsafe { shim::sev_shim_ram() }
}

/// Processors there can be.
pub(crate) fn cpus() -> usize {
    // CAST: as wide or wider.
    // SAFETY: Reads what does not change after boot.
    (unsafe { shim::sev_shim_cpus() }) as usize
}

/// Module parameter `dma`.
pub(crate) fn dma() -> &'static CStr {
    // SAFETY: A parameter is a string, and nobody changes this one after load.
    unsafe { CStr::from_char_ptr(shim::sev_shim_dma()) }
}

/// Module parameter `force`.
pub(crate) fn force() -> bool {
    // SAFETY: Reads a module parameter, which is always valid.
    unsafe { shim::sev_shim_force() }
}

/// Module parameter `admit`.
pub(crate) fn admit() -> &'static CStr {
    // SAFETY: As in `dma`.
    unsafe { CStr::from_char_ptr(shim::sev_shim_admit()) }
}

/// Module parameter `pool_min`, MiB.
pub(crate) fn pool_min() -> u32 {
    // SAFETY: Reads a module parameter, which is always valid.
    unsafe { shim::sev_shim_pool_min() }
}

/// Module parameter `pool_max`, MiB; 0 for the default.
pub(crate) fn pool_max() -> u32 {
    // SAFETY: Reads a module parameter, which is always valid.
    unsafe { shim::sev_shim_pool_max() }
}

/// Module parameter `copy_in`.
pub(crate) fn copy_in() -> bool {
    // SAFETY: Reads a module parameter, which is always valid.
    unsafe { shim::sev_shim_copy_in() }
}

/// Has virtio devices adopted when their driver is bound.
///
/// # Errors
///
/// `ENOMEM`.
pub(crate) fn take_over() -> Result {
    // SAFETY: What is called lives in this module, which ends it before it goes.
    to_result(unsafe { shim::sev_shim_take_over() })
}

/// Ends what [`take_over`] began: no device is adopted any more, and no work of the pool is waiting.
pub(crate) fn give_back() {
    // SAFETY: Has no preconditions.
    unsafe { shim::sev_shim_give_back() }
}

/// Has the limits of network devices set again.
pub(crate) fn shares_changed() {
    // SAFETY: It queues work, which [`give_back`] waits for.
    unsafe { shim::sev_shim_shares_changed() }
}

/// Has the pool look whether it must grow.
///
/// # Context
///
/// Any.
pub(crate) fn pool_kick() {
    // SAFETY: It queues work, which [`give_back`] waits for.
    unsafe { shim::sev_shim_pool_kick() }
}

/// Logs that the pool has no memory to grow by.
pub(crate) fn log_no_growth(size: u64) {
    // SAFETY: Has no preconditions.
    unsafe { shim::sev_shim_log_no_growth(size) }
}

/// Logs that a device was refused a buffer.
pub(crate) fn log_refusal(name: &CStr, refusal: Refusal, len: usize, free: u64) {
    // As in shim.h.
    let number = match refusal {
        Refusal::TooLarge => 0,
        Refusal::Fragmented => 1,
        Refusal::Exhausted => 2,
        Refusal::Quota => 3,
    };
    // SAFETY: The name is a string.
    unsafe { shim::sev_shim_log_refusal(name.as_char_ptr(), number, len, free) }
}
