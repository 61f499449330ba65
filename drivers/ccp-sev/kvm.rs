// SPDX-License-Identifier: GPL-2.0

//! The API that `kvm-amd` links against, with the names and the C ABI of
//! [`include/linux/psp-sev.h`](srctree/include/linux/psp-sev.h).
//!
//! `exports.c` exports the functions. Where an `error` pointer is passed it may be null, and it is
//! written under the rules of [`CmdError::fw_error`].

use kernel::{
    bindings,
    ffi::{
        c_int,
        c_uint,
        c_ulong,
        c_void, //
    },
    prelude::*, //
};
use psp::{
    cmd::{
        guest::HostOutput,
        CmdId,
        BLOB_MAX_LEN,
        CMD_BUF_LEN, //
    },
    driver::InitError,
    error::{
        CmdError,
        Errno, //
    },
    exchange::MAX_LENT,
    host::{
        Memory,
        OutOfBounds,
        Patience, //
    },
    platform::PlatformState,
    status::FwStatus,
    uapi::NO_FW_CALL, //
};

use crate::{
    ffi,
    fw_buf::FwBuf,
    psp_dev::to_error,
    registry,
    user, //
};

/// `struct sev_platform_init_args`.
#[repr(C)]
struct PlatformInitArgs {
    error: c_int,
    probe: bool,
    max_snp_asid: c_uint,
}

/// Bits of `KVM_X86_*_VM` in `arch/x86/include/uapi/asm/kvm.h`.
const KVM_X86_SEV_VM: c_int = 1 << 2;
const KVM_X86_SEV_ES_VM: c_int = 1 << 3;

/// # Safety
///
/// `error` is null or valid for writing.
unsafe fn store(error: *mut c_int, value: Option<u32>) {
    if let (Some(value), false) = (value, error.is_null()) {
        // CAST: the bits of -1 stay those of -1.
        // SAFETY: By this function's own requirements.
        unsafe { error.write(value as c_int) };
    }
}

/// Sends `id` with a copy of the bytes at `data`, and copies back what the firmware left. Outputs of the
/// command go through memory of our own, which a silent firmware may keep: the caller frees its own.
///
/// # Safety
///
/// `data` is null or valid for reading and writing as many bytes as the command has. Where the command's
/// [`outputs`](psp::cmd::guest::outputs) have an address and a length, they name memory of the caller's in
/// the direct map that nobody else uses.
unsafe fn send(id: CmdId, data: *mut c_void, patience: Patience) -> Result<FwStatus, CmdError> {
    let psp = registry::active().map_err(|_| Errno::ENODEV)?;
    let len = id.buffer_len();
    if data.is_null() != (len == 0) {
        pr_warn!("SEV: {} with wrong data\n", id.name());
        return Err(Errno::EINVAL.into());
    }
    let mut bytes = [0; 128];
    const { assert!(bytes_are_enough(128)) };
    let bytes = bytes.get_mut(..len).ok_or(Errno::EINVAL)?;
    if len > 0 {
        // SAFETY: By this function's own requirements.
        unsafe { core::ptr::copy_nonoverlapping(data.cast(), bytes.as_mut_ptr(), len) };
    }
    let outputs = HostOutput::of(id, bytes);
    let mut bufs = [const { None::<FwBuf> }; MAX_LENT];
    for (output, slot) in outputs.iter().flatten().zip(&mut bufs) {
        // CAST: usize has at least 32 bits here.
        let buf = FwBuf::new(output.len as usize).map_err(|_| Errno::ENOMEM)?;
        output.point(bytes, buf.psp_addr());
        *slot = Some(buf);
    }
    let mut core = match patience {
        Patience::Endless => psp.lock(),
        Patience::Killable => psp.lock_killable().map_err(|_| Errno::EINTR)?,
    };
    let status = core.send_raw(id, bytes, &mut bufs)?;
    drop(core);
    // Whatever the status, as when the firmware writes to the caller's memory itself.
    for (output, buf) in outputs.iter().flatten().zip(bufs.iter().flatten()) {
        output.point(bytes, output.addr);
        let to = ffi::psp_addr_to_virt(output.addr);
        // CAST: as above.
        // SAFETY: By this function's own requirements it is the caller's, in the direct map, and has as
        // many bytes; the caller lets us write to it until we return.
        unsafe { buf.read_to(to, output.len as usize) }.map_err(|OutOfBounds| Errno::EINVAL)?;
    }
    if len > 0 {
        // SAFETY: By this function's own requirements.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), data.cast(), len) };
    }
    Ok(status)
}

const fn bytes_are_enough(have: usize) -> bool {
    let mut i = 0;
    while i < CmdId::ALL.len() {
        if CmdId::ALL[i].buffer_len() > have || have > CMD_BUF_LEN {
            return false;
        }
        i += 1;
    }
    true
}

/// # Safety
///
/// As [`send`] and [`store`].
unsafe fn send_and_store(
    id: CmdId,
    data: *mut c_void,
    error: *mut c_int,
    patience: Patience,
) -> c_int {
    // SAFETY: By this function's own requirements.
    let outcome = unsafe { send(id, data, patience) }.and_then(|status| {
        if status.is_success() {
            Ok(())
        } else {
            Err(CmdError::Firmware(status))
        }
    });
    let (ret, fw_error) = match outcome {
        Ok(()) => (0, Some(0)),
        Err(error) => (-error.errno().0, error.fw_error()),
    };
    // SAFETY: By this function's own requirements.
    unsafe { store(error, fw_error) };
    ret
}

fn known<T>(cmd: T) -> Option<CmdId>
where
    u16: TryFrom<T>,
{
    let raw = u16::try_from(cmd).ok()?;
    CmdId::try_from(raw).ok()
}

/// Sends any command.
///
/// KVM uses it to take guests down, also those of processes that were killed: the wait is not killable.
///
/// # Safety
///
/// `data` is null or points to the command's struct, `error` is null or valid for writing.
#[no_mangle]
unsafe extern "C" fn sev_do_cmd(cmd: c_int, data: *mut c_void, error: *mut c_int) -> c_int {
    match known(cmd) {
        // SAFETY: By this function's own requirements.
        Some(id) => unsafe { send_and_store(id, data, error, Patience::Endless) },
        None => EINVAL.to_errno(),
    }
}

/// Sends any command on behalf of whoever opened `file`, which must be a `/dev/sev`.
///
/// KVM serves ioctls with it. A caller that is killed leaves the queue; once its command is sent it waits
/// for the answer, or a guest would be created that nobody knows.
///
/// # Safety
///
/// `file` is null or valid; the rest as [`sev_do_cmd`].
#[no_mangle]
unsafe extern "C" fn sev_issue_cmd_external_user(
    file: *mut bindings::file,
    cmd: c_uint,
    data: *mut c_void,
    error: *mut c_int,
) -> c_int {
    // SAFETY: By this function's own requirements; `f_op` never changes while a file is open.
    if file.is_null() || !registry::is_dev_sev(unsafe { (*file).f_op }.addr()) {
        return EBADF.to_errno();
    }
    match known(cmd) {
        // SAFETY: By this function's own requirements.
        Some(id) => unsafe { send_and_store(id, data, error, Patience::Killable) },
        None => EINVAL.to_errno(),
    }
}

/// Initialises the platform if it is not; cheap when it is.
///
/// # Safety
///
/// `args` is valid for reading and writing.
#[no_mangle]
unsafe extern "C" fn sev_platform_init(args: *mut PlatformInitArgs) -> c_int {
    // A kernel that dumps another has no guests, and the other may have left SEV on.
    if ffi::is_kdump() {
        return 0;
    }
    let psp = match registry::active() {
        Ok(psp) => psp,
        Err(error) => return error.to_errno(),
    };
    // SAFETY: By this function's own requirements.
    let args = unsafe { &mut *args };
    if args.probe && !ffi::init_on_probe() {
        return 0;
    }
    // Whoever loads KVM does not expect to be killed; whoever makes a guest has nothing to lose yet.
    let patience = if args.probe {
        Patience::Endless
    } else {
        Patience::Killable
    };
    let no_call = |error| (NO_FW_CALL, error);
    // Whether its persistent data are in their file is no matter of KVM's; the log has it.
    let outcome = match psp.with_init(patience, |core| core.init()) {
        Ok(ran) => ran
            .value
            .map_err(|InitError { cause, fw_error }| (fw_error, to_error(cause))),
        Err(error) => Err(no_call(error)),
    };
    match outcome {
        Ok(()) => 0,
        Err((fw_error, error)) => {
            // CAST: the bits of -1 stay those of -1.
            args.error = fw_error as c_int;
            error.to_errno()
        }
    }
}

/// Shuts the platform down; KVM is being unloaded.
#[no_mangle]
extern "C" fn sev_platform_shutdown() {
    if let Ok(psp) = registry::active() {
        // The failure was logged, and there is nobody to tell.
        let _ = psp.lock().shutdown();
    }
}

/// # Safety
///
/// `status` points to a `struct sev_user_data_status`, `error` is null or valid for writing.
#[no_mangle]
unsafe extern "C" fn sev_platform_status(status: *mut c_void, error: *mut c_int) -> c_int {
    // SAFETY: By this function's own requirements.
    unsafe { send_and_store(CmdId::PlatformStatus, status, error, Patience::Endless) }
}

/// # Safety
///
/// `data` points to a `struct sev_data_activate`, `error` is null or valid for writing.
#[no_mangle]
unsafe extern "C" fn sev_guest_activate(data: *mut c_void, error: *mut c_int) -> c_int {
    // SAFETY: By this function's own requirements.
    unsafe { send_and_store(CmdId::Activate, data, error, Patience::Endless) }
}

/// # Safety
///
/// `data` points to a `struct sev_data_deactivate`, `error` is null or valid for writing.
#[no_mangle]
unsafe extern "C" fn sev_guest_deactivate(data: *mut c_void, error: *mut c_int) -> c_int {
    // SAFETY: By this function's own requirements.
    unsafe { send_and_store(CmdId::Deactivate, data, error, Patience::Endless) }
}

/// # Safety
///
/// `data` points to a `struct sev_data_decommission`, `error` is null or valid for writing.
#[no_mangle]
unsafe extern "C" fn sev_guest_decommission(data: *mut c_void, error: *mut c_int) -> c_int {
    // SAFETY: By this function's own requirements.
    unsafe { send_and_store(CmdId::Decommission, data, error, Patience::Endless) }
}

/// # Safety
///
/// `error` is null or valid for writing.
#[no_mangle]
unsafe extern "C" fn sev_guest_df_flush(error: *mut c_int) -> c_int {
    // SAFETY: The command has no data; the rest by this function's own requirements.
    unsafe {
        send_and_store(
            CmdId::DfFlush,
            core::ptr::null_mut(),
            error,
            Patience::Endless,
        )
    }
}

/// An errno as a pointer, for C's `IS_ERR()`.
fn err_ptr(error: Error) -> *mut c_void {
    // CAST: sign-extended, as C's `ERR_PTR()` does.
    core::ptr::without_provenance_mut(error.to_errno() as usize)
}

/// Copies a blob from user space into memory that the caller frees with `kfree()`.
#[no_mangle]
extern "C" fn psp_copy_user_blob(address: u64, len: u32) -> *mut c_void {
    // CAST: user addresses are as wide as the kernel's, usize has at least 32 bits here.
    let (address, len) = (address as usize, len as usize);
    if address == 0 || len == 0 || len > BLOB_MAX_LEN {
        return err_ptr(EINVAL);
    }
    match user::read_bytes(address, len) {
        // A `KVec` is one `kmalloc()` allocation, so C can free it.
        Ok(bytes) => bytes.into_raw_parts().0.cast(),
        Err(error) => err_ptr(error),
    }
}

/// A page for the firmware; SNP is never on, so it needs no RMP transition.
#[no_mangle]
extern "C" fn snp_alloc_firmware_page(gfp: bindings::gfp_t) -> *mut c_void {
    core::ptr::with_exposed_provenance_mut(ffi::get_page(gfp))
}

/// # Safety
///
/// `page` is null or comes from [`snp_alloc_firmware_page`], and is freed once.
#[no_mangle]
unsafe extern "C" fn snp_free_firmware_page(page: *mut c_void) {
    if !page.is_null() {
        // SAFETY: By this function's own requirements.
        unsafe { ffi::put_page(page.expose_provenance()) };
    }
}

/// Takes pages back from the firmware: without SNP it never had any.
#[no_mangle]
extern "C" fn snp_reclaim_pages(_paddr: c_ulong, _npages: c_uint, _locked: bool) -> c_int {
    ENODEV.to_errno()
}

#[no_mangle]
extern "C" fn sev_is_snp_ciphertext_hiding_supported() -> bool {
    false
}

#[no_mangle]
extern "C" fn sev_get_snp_policy_bits() -> u64 {
    0
}

/// What kinds of guests the firmware can start: the truth, not what CPUID says.
///
/// The C driver always says SEV and SEV-ES. Here a platform that could not be initialised offers
/// nothing, and one without a TMR offers no SEV-ES.
#[no_mangle]
extern "C" fn sev_firmware_supported_vm_types() -> c_int {
    let Ok(psp) = registry::active() else {
        return 0;
    };
    let status = psp.lock().status();
    match status {
        Ok(status) if status.state == PlatformState::Uninit => {
            // INIT was put off (`psp_init_on_probe=0`): the first guest will tell.
            if ffi::init_on_probe() {
                0
            } else {
                KVM_X86_SEV_VM | KVM_X86_SEV_ES_VM
            }
        }
        Ok(status) if status.es => KVM_X86_SEV_VM | KVM_X86_SEV_ES_VM,
        Ok(_) => KVM_X86_SEV_VM,
        Err(_) => 0,
    }
}

// `fw_error` of a failed INIT is -1 for C.
const _: () = assert!(NO_FW_CALL as c_int == -1);
