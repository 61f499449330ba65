// SPDX-License-Identifier: GPL-2.0

//! The functions of the C files, each wrapped once.

use core::ptr::NonNull;

use kernel::{
    bindings,
    device::{
        Bound,
        Device, //
    },
    error::to_result,
    prelude::*, //
};
use psp::{
    cmd::CmdId,
    error::CmdError,
    status::FwStatus, //
};

mod shim {
    use kernel::{
        bindings,
        ffi::{
            c_char,
            c_int,
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
        pub(super) fn ccp_sev_init_ex_path() -> *const c_char;
        pub(super) fn ccp_sev_cpu_has_sev() -> bool;
        pub(super) fn ccp_sev_cpu_family() -> u8;
        pub(super) fn ccp_sev_cpu_model() -> u8;
        pub(super) fn ccp_sev_is_kdump() -> bool;
        pub(super) fn ccp_sev_fatal_signal_pending() -> bool;
        pub(super) fn ccp_sev_wbinvd_all();
        pub(super) fn ccp_sev_alloc(len: usize) -> *mut c_void;
        pub(super) fn ccp_sev_free(mem: *mut c_void, len: usize);
        pub(super) fn ccp_sev_get_page(gfp: bindings::gfp_t) -> c_ulong;
        pub(super) fn ccp_sev_put_page(addr: c_ulong);
        pub(super) fn ccp_sev_pa(mem: *const c_void) -> u64;
        pub(super) fn ccp_sev_psp_pa_to_virt(pa: u64) -> *mut c_void;
        pub(super) fn ccp_sev_psp_pa(mem: *const c_void) -> u64;
        pub(super) fn ccp_sev_clflush(mem: *mut c_void, len: usize);
        pub(super) fn ccp_sev_sema_init(sem: *mut bindings::semaphore);
        pub(super) fn ccp_sev_now_us() -> u64;
        pub(super) fn ccp_sev_read_file(path: *const c_char, buf: *mut c_void, len: usize) -> i64;
        pub(super) fn ccp_sev_replace_file(
            path: *const c_char,
            buf: *const c_void,
            len: usize,
            keep: bool,
        ) -> c_int;
        pub(super) fn ccp_sev_watch_power() -> c_int;
        pub(super) fn ccp_sev_unwatch_power();
        pub(super) fn ccp_sev_add_attributes(
            dev: *mut c_void,
            security: bool,
            bootloader: bool,
        ) -> c_int;
        pub(super) fn ccp_sev_traces_commands() -> bool;
        pub(super) fn ccp_sev_trace_command(
            dev: *const c_void,
            name: *const c_char,
            id: u16,
            status: c_int,
            errno: c_int,
            us: u64,
        );
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

/// Module parameter `init_ex_path`.
pub(crate) fn init_ex_path() -> Option<&'static CStr> {
    // SAFETY: Reads a module parameter that cannot be written, so the string lives as long as we do.
    NonNull::new(unsafe { shim::ccp_sev_init_ex_path() }.cast_mut())
        // SAFETY: As above; strings of parameters end with a zero.
        .map(|path| unsafe { CStr::from_char_ptr(path.as_ptr()) })
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

/// Whether the caller is about to be killed.
pub(crate) fn fatal_signal_pending() -> bool {
    // SAFETY: Looks at the current task.
    unsafe { shim::ccp_sev_fatal_signal_pending() }
}

/// Microseconds of the clock that also the log has; a little different on each processor.
pub(crate) fn now_us() -> u64 {
    // SAFETY: Has no preconditions.
    unsafe { shim::ccp_sev_now_us() }
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

/// Where memory of the direct map is of which this is the address as the PSP wants it.
pub(crate) fn psp_addr_to_virt(addr: u64) -> *mut u8 {
    // SAFETY: Only calculates; what is no such address gives a pointer that must not be used.
    unsafe { shim::ccp_sev_psp_pa_to_virt(addr) }.cast()
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
pub(crate) fn get_page(gfp: bindings::gfp_t) -> usize {
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

/// Makes a semaphore with one unit.
///
/// # Safety
///
/// `slot` is valid for writing; what is there then does not move.
pub(crate) unsafe fn init_semaphore(slot: *mut bindings::semaphore) {
    // SAFETY: By this function's own requirements.
    unsafe { shim::ccp_sev_sema_init(slot) }
}

/// Reads the front of a file into `buf` and returns the length of all of it.
///
/// # Errors
///
/// That of the file system.
pub(crate) fn read_file(path: &CStr, buf: &mut [u8]) -> Result<u64> {
    // SAFETY: Both are valid for as long as this takes.
    let len =
        unsafe { shim::ccp_sev_read_file(path.as_char_ptr(), buf.as_mut_ptr().cast(), buf.len()) };
    // CAST: errnos are small.
    u64::try_from(len).map_err(|_| Error::from_errno(len as i32))
}

/// Makes `contents` those of a file, or leaves it alone; `keep` keeps what was there as `<path>.bad`.
///
/// # Errors
///
/// That of the file system.
pub(crate) fn replace_file(path: &CStr, contents: &[u8], keep: bool) -> Result {
    // SAFETY: Both are valid for as long as this takes.
    to_result(unsafe {
        shim::ccp_sev_replace_file(
            path.as_char_ptr(),
            contents.as_ptr().cast(),
            contents.len(),
            keep,
        )
    })
}

/// Has the functions of `power.rs` called from now on.
///
/// # Errors
///
/// Those of the notifier chains.
pub(crate) fn watch_power() -> Result {
    // SAFETY: Has no preconditions; what is called copes with there being no PSP.
    to_result(unsafe { shim::ccp_sev_watch_power() })
}

/// Ends what [`watch_power`] began.
pub(crate) fn unwatch_power() {
    // SAFETY: Has no preconditions.
    unsafe { shim::ccp_sev_unwatch_power() }
}

/// A device as C knows it.
pub(crate) fn raw_device(dev: &Device) -> *mut bindings::device {
    // A `Device` is a transparent wrapper around its `struct device`.
    core::ptr::from_ref(dev).cast_mut().cast()
}

/// Gives a device the attributes of `sysfs.c` until it is unbound.
///
/// # Errors
///
/// Those of sysfs.
pub(crate) fn add_attributes(dev: &Device<Bound>, security: bool, bootloader: bool) -> Result {
    // SAFETY: The device is bound, so what is managed with it goes when it is unbound.
    to_result(unsafe { shim::ccp_sev_add_attributes(raw_device(dev).cast(), security, bootloader) })
}

/// Shows a command that is over to whoever traces them.
pub(crate) fn trace_command(dev: &Device, id: CmdId, outcome: Result<FwStatus, CmdError>, us: u64) {
    // SAFETY: Reads a static key.
    if !unsafe { shim::ccp_sev_traces_commands() } {
        return;
    }
    let (status, errno) = match outcome {
        Ok(status) => (Some(status), 0),
        Err(error) => (None, -error.errno().0),
    };
    // SAFETY: The device is alive and the name is a string; both are copied.
    unsafe {
        shim::ccp_sev_trace_command(
            raw_device(dev).cast(),
            id.c_name().as_char_ptr(),
            // CAST: the discriminant is the id.
            id as u16,
            status.map_or(-1, |status| status.code().into()),
            errno,
            us,
        );
    }
}
